"""Compare files with what they should hold: the values are made again, and nothing is kept.

a. What a file holds, and where, is read from its header; what it should hold from its recipe, or the caller's.
b. Each thread takes the next block, reads it past the cache of the system where that goes, makes its values with one
   thread of the engine, and compares bits: so -0.0 is not 0.0, and a NaN is equal to itself. There are more threads
   than may compute at once, since some wait for the disk.
c. Of each tensor in a file, the difference with the lowest index is kept.
d. Schemes whose parts cost as much as their whole are made by one thread at a time, which keeps the last part.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from io import FileIO
from math import prod
from pathlib import Path
from threading import BoundedSemaphore, Lock, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from winit_fast.files import folders, npy, plans, raw, safetensors
from winit_fast.files.coverage import Box, Fault, TangledError, find_faults
from winit_fast.files.layouts import PAGE, Contents, Layout, Segment, Stored, TruncatedFileError
from winit_fast.files.opening import open_file, read_path
from winit_fast.files.runs import RunFiller
from winit_fast.files.scratch import leave_scratch
from winit_fast.files.sizes import read_size
from winit_fast.files.specs import Part, Recipe, TensorSpec
from winit_fast.files.verdicts import Difference, Findings, Verdict
from winit_fast.memory import empty
from winit_fast.messages import as_int, quote
from winit_fast.parallel import default_threads, read_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Progress = Callable[[int, int], object]

__all__ = ["Difference", "Verdict", "verify"]

_LARGEST_BLOCK, _SMALLEST_BLOCK = 16 << 20, 64 << 10  # bytes
_COMPARED = 1 << 20  # bytes at once: what the comparison writes stays in the processor's cache
_WAITING = 4  # threads: 0 gave 0.76 of the speed of `write` on two cores, 2 gave 0.85, and 4 gave 0.97
_STRETCH = 64  # values of a sample that follow each other
_REPORT_SECONDS = 0.1


def verify(
    path: str | Path,
    *,
    recipe: Recipe | None = None,
    sample: int | None = None,
    rows: tuple[int, int] | None = None,
    memory: int | str = "256MiB",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Compare a file, or the files of a folder, with what they should hold, in bounded memory.

    Parameters
    ----------
    path : str or Path
        A folder may be of format `hf` or `dcp`: then it must also hold all of its tensors, each value once.
    recipe : Recipe, optional
        By default that of the file, which formats `raw` and `npy` have none of.
    sample : int, optional
        Compare about so many values of each tensor in a file, at random places, in place of all.
    rows : tuple of int, optional
        Those that a `raw` or `npy` file was written with.
    memory : int or str, default "256MiB"
        Bytes, or a text such as "1GB".
    threads : int, optional
        As in `winit_fast.fill`.
    progress : callable, optional
        Called as ``progress(done, total)`` in bytes, in this thread, some ten times a second.

    Returns
    -------
    Verdict

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If it has no recipe and none is given, or one of another version of the stream; if its header cannot be read. In
        a folder, a file whose header cannot be read is missing.

    Examples
    --------
    >>> import tempfile
    >>> from winit_fast.files import TensorSpec, write
    >>> path = Path(tempfile.mkdtemp(), "user_id.safetensors")
    >>> _ = write(path, TensorSpec("user_id", (1000, 64), "float32", "normal(std=0.01)"), seed=7)
    >>> verify(path).is_right
    True
    >>> with open(path, "r+b") as file:
    ...     _ = file.seek(-4, 2)
    ...     _ = file.write(np.float32(0.5))
    >>> print(verify(path).differences[0])
    user_id (999, 63): found 0.5, expected 0.021124227
    """
    most, count = read_size(memory), read_threads(threads) or default_threads()
    wanted = None if sample is None else as_int("sample", sample)
    if wanted is not None and wanted < 1:
        raise ValueError(f"sample must be 1 or more, got {wanted}")
    where = read_path(path)
    found = Findings()
    if where.is_dir():
        if rows is not None:
            raise ValueError("rows is for a single file")
        recipe, jobs = _examine_folder(where, recipe, found)
    else:
        recipe, jobs = _examine_file(where, recipe, rows, found)
    most = leave_scratch((part for job in jobs for part, _ in job.segments), most, 2 * _SMALLEST_BLOCK, count)
    if wanted is not None:
        differences, checked = _compare_samples(jobs, recipe.seed, wanted, most, count, progress)
    else:
        differences, checked = _compare_all(jobs, recipe.seed, most, count, progress)
    return found.judge(differences, checked)


class _Job(NamedTuple):
    """A file, and where in it which parts must stand; there may be gaps, of what is not compared."""

    path: Path
    segments: tuple[Segment, ...]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part, _ in self.segments)


# What should be where


def _examine_file(
    path: Path, recipe: Recipe | None, rows: tuple[int, int] | None, found: Findings
) -> tuple[Recipe, list[_Job]]:
    kind = _kind_of(path)
    if kind != "safetensors":
        if recipe is None:
            raise ValueError(f"{path} does not say how it was made: recipe must be given for a file of format {kind}")
        return recipe, _examine_plain(path, kind, recipe, rows, found)
    if rows is not None:
        raise ValueError(f"rows is for files of format raw and npy: {path} itself says what it holds")
    try:
        contents = safetensors.read(path)
    except TruncatedFileError as error:
        found.missing.append(str(error))
        return recipe or Recipe((), None), []
    recipe = recipe or _recipe_of(path, contents)
    segments = _match(contents.stored, recipe, "", found)
    names = {stored.name for stored in contents.stored}
    is_shard = _SHARD.search(path.name) or any(stored.offset is not None for stored in contents.stored)
    if not is_shard:
        found.missing.extend(spec.name for spec in recipe.tensors if spec.name not in names)
    return recipe, [_Job(path, segments)]


_SHARD = re.compile(r"-[0-9]{5}-of-[0-9]{5}\.safetensors$")


def _kind_of(path: Path) -> str:
    with suppress(ValueError):
        kind = plans.format_of(path) if path.suffix else "?"
        if kind in ("npy", "safetensors", "raw"):
            return kind
    with open_file(path) as file:
        begin = file.read(9)
    if begin.startswith(b"\x93NUMPY"):
        return "npy"
    return "safetensors" if begin[8:] == b"{" else "raw"


def _recipe_of(path: Path, contents: Contents) -> Recipe:
    if contents.recipe_text is None:
        raise ValueError(f"{path} does not say how it was made: recipe must be given")
    try:
        return Recipe.from_json(contents.recipe_text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _examine_plain(path: Path, kind: str, recipe: Recipe, rows: tuple[int, int] | None, found: Findings) -> list[_Job]:
    layout: Layout = plans.lay_out_file(kind, recipe, rows)
    if kind == "npy":
        try:
            stored = npy.read(path).stored[0]
        except TruncatedFileError as error:
            found.missing.append(str(error))
            return []
        part = layout.segments[0].part
        here, there = (stored.shape, stored.dtype), (part.shape, npy.stored_name(part.spec.dtype))
        if here != there:
            raise ValueError(
                f"{path} must have shape {quote(part.shape)} of {part.spec.dtype.name} by the recipe, and has "
                f"{quote(stored.shape)} of {stored.dtype}"
            )
        return [_Job(path, (Segment(part, stored.start),))]
    size = raw.read(path).size
    if size < layout.size:
        found.missing.append(f"{path} ends at byte {size} of {layout.size}")
        return []
    if size > layout.size:
        raise ValueError(f"{path} must have {layout.size} bytes by the recipe, and has {size}")
    return [_Job(path, layout.segments)]


def _match(stored: Iterable[Stored], recipe: Recipe, where: str, found: Findings) -> tuple[Segment, ...]:
    """The parts of the recipe's tensors that a file holds; what else it holds is a stray."""
    specs = {spec.name: spec for spec in recipe.tensors}
    segments = []
    for one in stored:
        spec = specs.get(one.name)
        if spec is None:
            found.strays.append(f"{one.name}{where}: the recipe has no such tensor")
        elif fault := _explain_difference(spec, one):
            found.strays.append(f"{one.name}{where}: {fault}")
            found.missing.append(f"{one.name}{where}: {_describe(spec.dtype.name, spec.shape)}")
        else:
            segments.append(Segment(Part(spec, one.offset or (0,) * len(spec.shape), one.shape), one.start))
    return tuple(segments)


def _explain_difference(spec: TensorSpec, one: Stored) -> str:
    offset = one.offset or (0,) * len(one.shape)
    is_inside = len(one.shape) == len(spec.shape) and all(
        first + size <= whole for first, size, whole in zip(offset, one.shape, spec.shape, strict=True)
    )
    is_part = is_inside if one.offset is not None else one.shape == spec.shape
    if one.dtype == spec.dtype.name and is_part:
        return ""
    begin = f" from {quote(offset)}" if one.offset is not None else ""
    return f"{_describe(one.dtype, one.shape)}{begin} is no part of {_describe(spec.dtype.name, spec.shape)}"


def _describe(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype} {quote(shape)}"


def _examine_folder(path: Path, recipe: Recipe | None, found: Findings) -> tuple[Recipe, list[_Job]]:
    folder = folders.read(path)
    found.leftovers.extend(f"{name} was never finished, or is being written" for name in folder.unfinished)
    found.missing.extend(str(error) for error in folder.files.values() if isinstance(error, ValueError))
    contents = dict(folder.readable())
    if folder.weight_map is not None:
        _check_index(folder, found)
    if recipe is None:
        texts = Counter(one.recipe_text for one in contents.values() if one.recipe_text is not None)
        if not texts:
            raise ValueError(f"{path} does not say how it was made: recipe must be given")
        usual = texts.most_common(1)[0][0]
        name = next(name for name, one in contents.items() if one.recipe_text == usual)
        recipe = _recipe_of(path / name, contents[name])
        for name, one in list(contents.items()):
            if one.recipe_text != usual:
                found.strays.append(f"{name} is of another recipe")
                del contents[name]
    jobs = [_Job(path / name, _match(one.stored, recipe, f" in {name}", found)) for name, one in contents.items()]
    _check_coverage(jobs, recipe, found)
    return recipe, jobs


def _check_index(folder: folders.FolderContents, found: Findings) -> None:
    index, weight_map = folders.INDEX, folder.weight_map or {}
    holders = {(name, one.name) for name, contents in folder.readable() for one in contents.stored}
    counts: dict[str, int] = {}
    for tensor, name in weight_map.items():
        if name not in folder.files:
            counts[name] = counts.get(name, 0) + 1
        elif isinstance(folder.files[name], Contents) and (name, tensor) not in holders:
            found.strays.append(f"{index} says that {tensor} is in {name}, and it is not")
    found.missing.extend(f"{name}, which holds {count} tensors by {index}" for name, count in counts.items())
    named = set(weight_map.values())
    found.strays.extend(f"{name} is not in {index}" for name in folder.files if name not in named)
    for name, tensor in sorted(holders):
        if name in named and weight_map.get(tensor) != name:
            found.strays.append(f"{tensor} is in {name}, and {index} says: {weight_map.get(tensor, 'nowhere')}")
    sizes = [one.size - (one.stored[0].start if one.stored else one.size) for _, one in folder.readable()]
    if not counts and len(sizes) == len(folder.files) == len(named) and folder.total_size not in (None, sum(sizes)):
        found.strays.append(f"{index} says {folder.total_size} bytes, and the tensors have {sum(sizes)}")


def _check_coverage(jobs: list[_Job], recipe: Recipe, found: Findings) -> None:
    boxes: dict[str, list[Box]] = {spec.name: [] for spec in recipe.tensors}
    for job in jobs:
        for part, _ in job.segments:
            boxes[part.spec.name].append(Box(part.offset, part.shape, job.path.name))
    for spec in recipe.tensors:
        try:
            for fault in find_faults(spec.shape, boxes[spec.name]):
                _note_fault(spec, fault, found)
        except TangledError as error:
            found.overlapping.append(f"{spec.name}: {error}")


def _note_fault(spec: TensorSpec, fault: Fault, found: Findings) -> None:
    place = "" if fault.shape == spec.shape else f" {fault.slices}"
    if not fault.holders:
        found.missing.append(f"{spec.name}{place} is in no file")
        return
    *some, last = fault.holders[:_MOST_HOLDERS]
    last = last if len(fault.holders) <= _MOST_HOLDERS else f"{len(fault.holders) - len(some)} others"
    found.overlapping.append(f"{spec.name}{place} is in {', '.join(some)} and {last}")


_MOST_HOLDERS = 5  # that a message names


# Comparing


def _compare_all(
    jobs: list[_Job], seed: int | None, memory: int, threads: int, progress: Progress | None
) -> tuple[list[Difference], int]:
    block, count = _LARGEST_BLOCK, threads + _WAITING
    while 2 * count * block > memory and block > _SMALLEST_BLOCK:
        block >>= 1
    count = max(1, min(count, memory // (2 * block)))
    total = sum(job.nbytes for job in jobs)
    comparison = _Comparison(jobs, seed, block, memory - 2 * count * block, threads)
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


class _Comparison:
    """What the threads share: the blocks that are left, and what they have found."""

    def __init__(self, jobs: list[_Job], seed: int | None, block: int, kept: int, threads: int) -> None:
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
        self._slow_lock = Lock()
        self._computing = BoundedSemaphore(threads)

    def found(self) -> list[Difference]:
        return [self._differences[key][1] for key in sorted(self._differences)]

    def work(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = self.error or error
            self.stopped = True

    def _work(self) -> None:
        here, there = (empty(self._block, np.uint8, align=PAGE) for _ in range(2))
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
                    compared = self._compare(number, begin, here[: end - begin], there, filler)
                with self._lock:
                    self.done += compared
        finally:
            if reader is not None:
                reader.close()

    def _compare(
        self, number: int, begin: int, here: NDArray[np.uint8], there: NDArray[np.uint8], filler: RunFiller
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
            where = slice(low - begin, high - begin)
            if part.spec.initializer.is_elementwise(part.spec.shape):
                _fill_bytes(filler, part, low - start, there[where])
            else:
                with self._slow_lock:
                    _fill_bytes(self._slow, part, low - start, there[where])
            at = _first_difference(here[where], there[where], low)
            if at >= 0:
                item = part.spec.dtype.itemsize
                self._note(number, place, (low - start + at) // item)
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


def _list_blocks(jobs: list[_Job], block: int) -> Iterator[tuple[int, int, int]]:
    """The file of each block, its first byte and its end."""
    for number, job in enumerate(jobs):
        if job.nbytes:
            begin = job.segments[0].start // block * block
            end = max(start + part.nbytes for part, start in job.segments)
            for first in range(begin, end, block):
                yield number, first, min(first + block, end)


def _fill_bytes(filler: RunFiller, part: Part, first: int, out: NDArray[np.uint8]) -> None:
    """The bytes of a part from one on; others' files may have values across the edges of blocks, or unaligned."""
    dtype = part.spec.dtype
    item = dtype.itemsize
    if first % item == 0 and len(out) % item == 0 and out.ctypes.data % dtype.alignment == 0:
        filler.fill(part, first // item, (first + len(out)) // item, out.view(dtype))
        return
    done = 0
    while done < len(out):
        element = (first + done) // item
        count = min(_COMPARED // item, -(-(first + len(out)) // item) - element)
        values = np.empty(count, dtype)
        filler.fill(part, element, element + count, values)
        octets = values.view(np.uint8)[first + done - element * item :][: len(out) - done]
        out[done : done + len(octets)] = octets
        done += len(octets)


def _first_difference(here: NDArray[np.uint8], there: NDArray[np.uint8], start: int) -> int:
    """The first byte that differs; -1 if none does. The memory of both is aligned as `start` is."""
    size = len(here)
    head = min(-start % 8, size)
    if head and (at := _differs(here[:head], there[:head])) >= 0:
        return at
    for first in range(head, size, _COMPARED):
        last = min(first + _COMPARED, size)
        whole = first + (last - first) // 8 * 8
        if not np.array_equal(here[first:whole].view(np.uint64), there[first:whole].view(np.uint64)):
            return first + _differs(here[first:whole], there[first:whole])
        if whole < last and (at := _differs(here[whole:last], there[whole:last])) >= 0:
            return whole + at
    return -1


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


def _compare_samples(
    jobs: list[_Job], seed: int | None, sample: int, memory: int, threads: int, progress: Progress | None
) -> tuple[list[Difference], int]:
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
