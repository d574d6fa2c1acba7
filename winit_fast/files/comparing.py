"""Compare files and arrays with values that are made again: all of them by several threads, or a sample.

a. Each thread takes the next block, reads it past the cache of the system where that goes, and compares it piece by
   piece with values that one thread of the engine makes. A piece stays in the processor's cache, so memory is touched
   once by the disk and once by the comparison.
b. There are more threads than may compute at once, since some wait for the disk.
c. Bits are compared: so -0.0 is not 0.0, and a NaN is equal to itself.
d. Of each tensor in a file, the difference with the lowest index is kept.
e. Schemes whose parts cost as much as their whole are made by one thread at a time, a whole block at once, which keeps
   the last part.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from math import prod
from pathlib import Path
from threading import BoundedSemaphore, Lock, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from winit_fast.files.layouts import PAGE, Segment
from winit_fast.files.runs import RunFiller, cut_run
from winit_fast.files.scratch import LEAST_MEMORY
from winit_fast.files.specs import Part
from winit_fast.files.verdicts import Difference
from winit_fast.memory import empty

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from winit_fast.files.progress import Progress

__all__ = ["Job", "compare_all", "compare_samples", "find_difference"]

_LARGEST_BLOCK, _SMALLEST_BLOCK = 16 << 20, LEAST_MEMORY // 2  # bytes: a thread holds a block and a piece
_PIECE = 1 << 20  # bytes: of 256 KiB to 2 MiB the fastest on a Xeon with 2 MiB of cache a core
_WAITING = 4  # threads: 0 gave 0.76 of the speed of `write` on two cores, 2 gave 0.85, and 4 gave 0.97
_STRETCH = 64  # values of a sample that follow each other
_REPORT_SECONDS = 0.1


class Job(NamedTuple):
    """A file, and where in it which parts must stand; there may be gaps, of what is not compared."""

    path: Path
    segments: tuple[Segment, ...]

    @property
    def nbytes(self) -> int:
        """Bytes to be compared."""
        return sum(part.nbytes for part, _ in self.segments)


def compare_all(
    jobs: list[Job], seed: int | None, memory: int, threads: int, progress: Progress | None
) -> tuple[list[Difference], int]:
    """Compare every value; the differences, and how many bytes were compared."""
    block, count = _LARGEST_BLOCK, threads + _WAITING
    is_slow = any(not part.spec.initializer.is_elementwise(part.spec.shape) for job in jobs for part, _ in job.segments)
    while count * _room_of_thread(block) + block * is_slow > memory and block > _SMALLEST_BLOCK:
        block >>= 1
    left = memory - block * is_slow  # see e
    count = max(1, min(count, left // _room_of_thread(block)))
    total = sum(job.nbytes for job in jobs)
    comparison = _Comparison(jobs, seed, block, left - count * _room_of_thread(block), threads)
    workers = [Thread(target=comparison.work, daemon=True) for _ in range(count)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive():
                worker.join(_REPORT_SECONDS)
                if progress is not None:
                    progress(comparison.done, total)
    finally:
        comparison.stopped = True
        for worker in workers:
            if worker.ident is not None:
                worker.join()
    if comparison.error is not None:
        raise comparison.error
    if progress is not None:
        progress(comparison.done, total)
    return comparison.found(), comparison.done


def _room_of_thread(block: int) -> int:
    return block + min(block, _PIECE)


class _Comparison:
    """What the threads share: the blocks that are left, and what they have found."""

    def __init__(self, jobs: list[Job], seed: int | None, block: int, kept: int, threads: int) -> None:
        self.done = 0  # bytes
        self.stopped = False
        self.error: BaseException | None = None
        self._jobs = jobs
        self._seed = seed
        self._block = block
        self._blocks = _list_blocks(jobs, block)
        self._differences: dict[tuple[int, int], tuple[int, Difference]] = {}
        self._lock = Lock()
        self._slow = RunFiller(seed, kept, threads)
        self._slow_room: NDArray[np.uint8] | None = None
        self._slow_lock = Lock()
        self._computing = BoundedSemaphore(threads)

    def found(self) -> list[Difference]:
        """The differences, in the order of the files."""
        return [self._differences[key][1] for key in sorted(self._differences)]

    def work(self) -> None:
        """Compare blocks until none is left."""
        try:
            self._work()
        except BaseException as error:
            self.error = self.error or error
            self.stopped = True

    def _work(self) -> None:
        here = empty(self._block, np.uint8, align=PAGE)
        room = _make_room(min(self._block, _PIECE))
        filler = RunFiller(self._seed, 0, 1)
        reader: _Reader | None = None
        try:
            while not self.stopped:
                with self._lock:
                    number, begin, end = next(self._blocks, (-1, 0, 0))
                if number < 0:
                    return
                job = self._jobs[number]
                if reader is None or reader.path != job.path:
                    if reader is not None:
                        reader.close()
                    reader = _Reader(job.path)
                reader.read(here[: end - begin], begin)
                with self._computing:
                    compared = self._compare(number, begin, here[: end - begin], room, filler)
                with self._lock:
                    self.done += compared
        finally:
            if reader is not None:
                reader.close()

    def _compare(
        self, number: int, begin: int, here: NDArray[np.uint8], room: NDArray[np.uint8], filler: RunFiller
    ) -> int:
        compared = 0
        end = begin + len(here)
        segments = self._jobs[number].segments
        starts = [segment.start for segment in segments]
        for place in range(max(0, bisect_right(starts, begin) - 1), bisect_left(starts, end)):
            part, start = segments[place]
            low, high = max(begin, start), min(end, start + part.nbytes)
            if low >= high or self.stopped:
                continue
            found = here[low - begin : high - begin]
            if part.spec.initializer.is_elementwise(part.spec.shape):
                at = _find_difference(found, part, low - start, filler, room)
            else:
                with self._slow_lock:
                    if self._slow_room is None:
                        self._slow_room = _make_room(self._block)
                    at = _find_difference(found, part, low - start, self._slow, self._slow_room)
            if at >= 0:
                self._note(number, place, (low - start + at) // part.spec.dtype.itemsize)
            compared += high - low
        return compared

    def _note(self, number: int, place: int, element: int) -> None:
        key = number, place
        with self._lock:
            if key in self._differences and self._differences[key][0] <= element:
                return
        job = self._jobs[number]
        part, start = job.segments[place]
        with self._slow_lock:
            difference = _look(job.path, part, start, element, self._slow)
        with self._lock:
            if key not in self._differences or self._differences[key][0] > element:
                self._differences[key] = element, difference


def _list_blocks(jobs: list[Job], block: int) -> Iterator[tuple[int, int, int]]:
    """The file of each block, its first byte and its end."""
    for number, job in enumerate(jobs):
        if job.nbytes:
            begin = job.segments[0].start // block * block
            end = max(start + part.nbytes for part, start in job.segments)
            for first in range(begin, end, block):
                yield number, first, min(first + block, end)


def _make_room(size: int) -> NDArray[np.uint8]:
    """For values of so many bytes, of which the first and the last may be cut by the edges of a block."""
    return empty(size + 2 * _WORD + 2 * _LARGEST_ITEM, np.uint8, align=PAGE)


_WORD = 8  # bytes that are compared at once
_LARGEST_ITEM = 16  # complex128


def _find_difference(
    here: NDArray[np.uint8], part: Part, first: int, filler: RunFiller, room: NDArray[np.uint8]
) -> int:
    """Compare with the bytes of a part from one on; the first byte that differs, -1 if none does.

    Where others wrote the file, values may begin anywhere, and lie across the edges of blocks.
    """
    dtype = part.spec.dtype
    item, address = dtype.itemsize, here.ctypes.data - first  # where the part would begin
    skew = address % _WORD if address % dtype.alignment == 0 else 0  # so that words are words on both sides
    most = (len(room) - 2 * _WORD - 2 * _LARGEST_ITEM) // item
    end = first + len(here)
    for begin, last in cut_run(part.shape, first // item, -(-end // item), most):
        place = (begin * item + skew) % _WORD
        there = room[place : place + (last - begin) * item]
        filler.fill(part, begin, last, there.view(dtype))
        low, high = max(first, begin * item), min(end, last * item)
        there = there[low - begin * item : high - begin * item]
        at = _first_difference(here[low - first : high - first], there)
        if at >= 0:
            return low - first + at
    return -1


def _first_difference(here: NDArray[np.uint8], there: NDArray[np.uint8]) -> int:
    """The first byte that differs, -1 if none does; fast where both are equally far from a multiple of a word."""
    head = min(-here.ctypes.data % _WORD, len(here))
    whole = head + (len(here) - head) // _WORD * _WORD
    if np.array_equal(here[head:whole].view(np.uint64), there[head:whole].view(np.uint64)):
        for begin, end in ((0, head), (whole, len(here))):
            if begin < end and (at := _differs(here[begin:end], there[begin:end])) >= 0:
                return begin + at
        return -1
    return _differs(here, there)


def _differs(here: NDArray[np.uint8], there: NDArray[np.uint8]) -> int:
    differs = here != there
    return int(differs.argmax()) if differs.any() else -1


def _look(path: Path, part: Part, start: int, element: int, filler: RunFiller) -> Difference:
    dtype = part.spec.dtype
    expected = np.empty(1, dtype)
    filler.fill(part, element, element + 1, expected)
    with open(path, "rb") as file:
        file.seek(start + element * dtype.itemsize)
        found = np.frombuffer(file.read(dtype.itemsize), dtype)
    index = np.unravel_index(element, part.shape) if part.shape else ()
    whole = tuple(int(first + place) for first, place in zip(part.offset, index, strict=True))
    return Difference(part.spec.name, whole, found[0], expected[0], path)


def compare_samples(
    jobs: list[Job], seed: int | None, sample: int, memory: int, threads: int, progress: Progress | None
) -> tuple[list[Difference], int]:
    """Compare about so many values of each part; the differences, and how many bytes were compared."""
    filler = RunFiller(seed, memory, threads)
    total = sum(job.nbytes for job in jobs)
    differences, checked, passed = [], 0, 0
    for job in jobs:
        with open(job.path, "rb") as file:
            for part, start in job.segments:
                dtype, difference = part.spec.dtype, -1
                for first, last in _choose_stretches(prod(part.shape), sample):
                    expected = np.empty(last - first, dtype)
                    filler.fill(part, first, last, expected)
                    file.seek(start + first * dtype.itemsize)
                    found = np.frombuffer(file.read(expected.nbytes), np.uint8)
                    if len(found) < expected.nbytes:
                        raise _shrunk(job.path)
                    checked += expected.nbytes
                    at = _differs(found, expected.view(np.uint8))
                    if at >= 0 and difference < 0:
                        difference = first + at // dtype.itemsize
                if difference >= 0:
                    differences.append(_look(job.path, part, start, difference, filler))
                passed += part.nbytes
                if progress is not None:
                    progress(passed, total)
    return differences, checked


def find_difference(here: NDArray[Any], part: Part, seed: int | None, threads: int | None) -> int:
    """Compare an array in C order with what a part should hold; the first element that differs, -1 if none does.

    Of most schemes a piece is made at a time, which needs little memory; of those whose parts cost as much as their
    whole, all of it.
    """
    is_elementwise = part.spec.initializer.is_elementwise(part.spec.shape)
    room = _make_room(min(part.nbytes, _PIECE) if is_elementwise else part.nbytes)
    at = _find_difference(here.reshape(-1).view(np.uint8), part, 0, RunFiller(seed, 0, threads), room)
    return at if at < 0 else at // here.itemsize


def _choose_stretches(size: int, sample: int) -> Iterator[tuple[int, int]]:
    """Values at random places, one stretch in each of as many equal shares of all; in order."""
    length = min(_STRETCH, sample)
    count = -(-min(sample, size) // length) if size else 0
    for number in range(count):
        low, high = size * number // count, size * (number + 1) // count
        first = low + int.from_bytes(os.urandom(16), "little") % max(1, high - length - low + 1)
        yield first, min(first + length, high)


class _Reader:
    """Reads a file past the cache of the system, where that goes; else the cache is emptied of what was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
        self._file: Any = FileIO(str(path), opener=lambda name, _: os.open(name, flags))
        self._direct: Any = None
        if hasattr(os, "O_DIRECT"):
            with suppress(OSError):  # not every file system has it
                self._direct = FileIO(str(path), opener=lambda name, _: os.open(name, flags | os.O_DIRECT))

    def read(self, out: NDArray[np.uint8], start: int) -> None:
        """Fill `out`, whose memory and start are multiples of `PAGE`, and behind which is room to the next of them."""
        done = 0
        if self._direct is not None:
            whole = len(out) // PAGE * PAGE
            try:
                done = self._read(self._direct, out[:whole], start) // PAGE * PAGE
            except OSError:  # a disk whose own pages are larger
                self._direct.close()
                self._direct = None
        if done == len(out):
            return
        done += self._read(self._file, out[done:], start + done)
        if done < len(out):
            raise _shrunk(self.path)
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(self._file.fileno(), start, len(out), os.POSIX_FADV_DONTNEED)

    def _read(self, file: Any, out: NDArray[np.uint8], start: int) -> int:
        done = 0
        file.seek(start)
        while done < len(out):
            count = file.readinto(out[done:].data)
            done += count
            if not count or (file is self._direct and done % PAGE):
                break
        return done

    def close(self) -> None:
        """Close it."""
        self._file.close()
        if self._direct is not None:
            self._direct.close()


def _shrunk(path: Path) -> ValueError:
    return ValueError(f"{path} became smaller while it was compared")
