"""Write a file larger than memory: in blocks, in any order, so that it can be continued after any end of the process.

a. The calling thread fills blocks, with all threads of the engine; others write them. A block is 16 MiB of the file,
   and a few of them are used again and again.
b. What is written stands in ``FILE.partial``, and which blocks of it in a journal beside it (see there). The data is
   on the disk at least every 64 MiB, and the journal says so afterwards.
c. The end: all data on the disk, then the header, without which no reader takes the file, then its name, then the
   folder.
d. An interrupt, an error and the death of the process leave the partial file and its journal for `resume`; an end
   before the first block leaves nothing.
e. A signal handler may raise in the calling thread at any instruction, so that thread takes no lock: it shares queues
   with the writers, each use of which is one call into C. What an interrupted cleanup leaves open is closed with the
   last writer, and never while one may still write to it.
"""

from __future__ import annotations

import os
from _thread import start_new_thread
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from contextlib import suppress
from itertools import compress, repeat
from math import prod
from pathlib import Path
from queue import Empty, SimpleQueue
from stat import S_ISREG
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from winit_fast.files.journal import Intent, Journal, PastJournal, read_journal
from winit_fast.files.layouts import PAGE, Layout
from winit_fast.files.opening import open_file, read_path
from winit_fast.files.partial import (
    LockedFile,
    beside,
    check_room,
    journal_of,
    open_partial,
    partial_of,
    remove_names,
    room_of,
)
from winit_fast.files.runs import RunFiller
from winit_fast.files.scratch import LEAST_MEMORY, leave_scratch
from winit_fast.files.specs import Recipe
from winit_fast.memory import empty
from winit_fast.messages import quote
from winit_fast.parallel import read_threads
from winit_fast.publish import Destination, sync_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from winit_fast.files.progress import Progress

__all__ = [
    "BLOCK",
    "Unfinished",
    "Written",
    "check_arguments",
    "clean",
    "read_unfinished",
    "write_layout",
]

BLOCK = 16 << 20  # bytes
SYNC_BYTES = 64 << 20
_MOST_BUFFERS = 4
_WRITERS = 2
_REPORT_SECONDS = 0.1


class Written(NamedTuple):
    """What came of writing a file.

    Attributes
    ----------
    path : Path
    size, kept, written : int
        Bytes of the file, those that an earlier process had written, and those written now.
    """

    path: Path
    size: int
    kept: int
    written: int


def write_layout(
    path: str | Path,
    layout: Layout,
    recipe: Recipe,
    *,
    memory: int = 256 << 20,
    threads: int | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Write a file by its layout.

    Parameters
    ----------
    path : str or Path
    layout : Layout
    recipe : Recipe
        Of the tensors of the layout, and perhaps of others.
    memory : int
        Bytes of the blocks, and of a part that is filled once and kept.
    threads : int, optional
        As in `winit_fast.fill`.
    resume : bool, default False
        Continue an unfinished file, if there is one. A complete one is left as it is.
    force : bool, default False
        Replace an existing file, once the new one is complete, and an unfinished one, unless that is continued. What is
        continued without it replaces only the file that was there when it was given.
    progress : callable, optional
        Called as ``progress(done, total)`` in bytes, in this thread, some ten times a second.

    Returns
    -------
    Written

    Raises
    ------
    OSError
        If the file exists already (FileExistsError), an unfinished one too; if another process is writing it
        (BlockingIOError); if the folder is missing or not writable; if the disk is full.
    ValueError
        If the unfinished file is of another recipe.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from winit_fast.files import Recipe
    >>> from winit_fast.files.layouts import Layout, Segment
    >>> from winit_fast.files.specs import TensorSpec
    >>> recipe = Recipe((TensorSpec("user_id", (1000, 64), "float16", "normal(std=0.01)"),), 7)
    >>> layout = Layout("raw", b"", (Segment(recipe.tensors[0].whole, 0),), 128000)
    >>> path = Path(tempfile.mkdtemp(), "user_id.bin")
    >>> write_layout(path, layout, recipe)[1:]
    (128000, 0, 128000)
    >>> write_layout(path, layout, recipe, resume=True)[1:]
    (128000, 128000, 0)
    """
    left = check_arguments(layout, memory, threads)
    block_size = _choose_block_size(left, layout.size)
    final = Path(os.path.realpath(path))
    _finish_publishing(final)
    if resume:
        past = _read_past(final)
        if past is None and final.is_file():
            if _is_complete(final, layout, recipe, left, threads):
                return Written(Path(path), layout.size, layout.size, 0)
            if not force:
                from winit_fast.files.existing import explain_existing

                difference = explain_existing(final, layout, recipe)
                how = f": {difference}; " if difference else " (verify says how it differs): "
                raise FileExistsError(f"{path} exists already, and is not what is asked for{how}force=True replaces it")
        if past is not None:
            wanted = Intent.of(layout, recipe, past.intent.block_size, past.intent.replaced)
            _refuse_difference(past.intent, wanted, path, memory, left)
            force = force or _is_replaced(final, past.intent, path)
            if not force:
                _remove_placeholder(final)
    destination = Destination(path, overwrite=force)
    _check_place(destination, layout.size)
    file, past = _open(destination, resume, force)
    job = None
    try:
        replaced = (_identify(final) if force else None) or (past.intent.replaced if past else None)
        intent = Intent.of(layout, recipe, past.intent.block_size if past else block_size, replaced)
        if past:
            _refuse_difference(past.intent, intent, path, memory, left)
        job = _Job(file, destination, intent, past)
        job.begin()
        return job.write(layout, left, recipe.seed, threads, progress)
    except BaseException:
        if job is not None:
            job.abandon()
        elif past is None:
            file.discard(journal_of(final))
        raise
    finally:
        file.close()


class Unfinished(NamedTuple):
    """A file that was not finished.

    Attributes
    ----------
    layout : Layout
    recipe : Recipe
    kept : int
        Bytes that need not be written again.
    force : bool
        Whether it may replace an existing file.
    """

    layout: Layout
    recipe: Recipe
    kept: int
    force: bool


def read_unfinished(path: str | Path) -> Unfinished | None:
    """What an unfinished file will be, by its journal; None if there is none.

    Parameters
    ----------
    path : str or Path
        The file's own name.

    Raises
    ------
    ValueError
        If the journal is damaged, or of another version of the stream.
    """
    past = _read_past(Path(os.path.realpath(read_path(path))))
    if past is None:
        return None
    kept = _Blocks.of(past.intent).count_bytes(past.blocks)
    return Unfinished(*past.intent.read(), kept, past.intent.replaced is not None)


def _identify(final: Path) -> tuple[int, ...] | None:
    """What tells a file from another one of its name, and from itself once it has changed; None if there is none."""
    with suppress(FileNotFoundError):
        found = final.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns
    return None


def _is_replaced(final: Path, intent: Intent, path: str | Path) -> bool:
    """Whether there is a file that an unfinished one may replace: another one, with its name by now, is refused."""
    there = _identify(final)
    if there is None or intent.replaced is None:
        return False
    if there != intent.replaced:
        raise FileExistsError(
            f"{path} exists already, and is not what was there when force=True was given, or has changed since: "
            "force=True replaces it"
        )
    return True


def _remove_placeholder(final: Path) -> None:
    """Free the name of an unfinished file, if it is taken by an empty one.

    Where there are no hard links, a process that dies as it gives the name may leave that.
    """
    file = _lock(partial_of(final))
    try:
        with suppress(FileNotFoundError):
            found = final.stat()
            if S_ISREG(found.st_mode) and found.st_size == 0:
                final.unlink()
    finally:
        file.close()


def _read_past(final: Path) -> PastJournal | None:
    return read_journal(journal_of(final)) if partial_of(final).exists() else None


def clean(path: str | Path) -> list[Path]:
    """Remove what an interrupted write of a file has left, or of the files of a folder.

    Parameters
    ----------
    path : str or Path
        The file's own name, that of its partial file, or the folder. What is complete is never touched.

    Returns
    -------
    list of Path
        What was removed.

    Raises
    ------
    BlockingIOError
        If another process is writing the file.
    ValueError
        If a file of that name is not the work of `write`. In a folder, what is has been removed then.
    """
    final = Path(os.path.realpath(read_path(path)))
    if final.is_dir():
        return _clean_folder(final)
    partial, journal = partial_of(final), journal_of(final)
    names = [name for name in (partial, journal, beside(journal)) if os.path.lexists(name)]
    if not names:
        own = final.name.removesuffix(".journal").removesuffix(".partial")
        if final.name in (f"{own}.partial", f"{own}.partial.journal") and own:
            return clean(final.with_name(own))
    else:
        file = _lock(partial)
        try:
            if file.size and not journal.exists():
                raise ValueError(f"{partial} has no journal: winit_fast did not write it, and does not remove it")
            file.remove(journal)
        finally:
            file.close()
    return names


def _clean_folder(folder: Path) -> list[Path]:
    found = [name for pattern in _LEFT for name in folder.glob(pattern)]
    removed: list[Path] = []
    refused: OSError | ValueError | None = None
    for final in sorted({name.with_name(name.name.rpartition(".partial")[0]) for name in found}):
        try:
            removed += clean(final)
        except (OSError, ValueError) as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return removed


_LEFT = ("*.partial", "*.partial.journal", "*.partial.journal.new")


def check_arguments(layout: Layout, memory: int, threads: int | None) -> int:
    """Refuse what `write_layout` cannot use; what the schemes leave of the memory for blocks."""
    _check_layout(layout)
    left = leave_scratch((part for part, _ in layout.segments), memory, read_threads(threads))
    _choose_block_size(left, layout.size)
    return left


def _check_layout(layout: Layout) -> None:
    """A layout by another module, or read from a journal, is as `Layout` says."""
    end = len(layout.header)
    if end % PAGE:
        raise ValueError(f"header must be a multiple of {PAGE} bytes, got {end}")
    for part, start in layout.segments:
        if start != end or start % part.spec.dtype.itemsize:
            raise ValueError(
                f"{quote(part.spec.name)} must begin at byte {end}, at a multiple of its size, got {start}"
            )
        end += part.nbytes
    if layout.size != end or end >= 1 << 62:
        raise ValueError(f"size must be {end}, and less than 2^62, got {layout.size}")


def _choose_block_size(memory: int, size: int) -> int:
    if memory < LEAST_MEMORY:
        raise ValueError(f"memory must be at least {LEAST_MEMORY} bytes, got {quote(memory)}")
    block_size = BLOCK
    while 2 * block_size > memory:
        block_size >>= 1
    if size > block_size << 32:
        raise ValueError(f"memory must be larger for a file of {size} bytes, got {memory}: at most 2^32 blocks")
    return block_size


def _check_place(destination: Destination, size: int) -> None:
    """Refuse a folder that is missing, a name that is too long, and a disk that is too full."""
    folder = destination.final.parent
    if destination.folder != folder:
        raise FileNotFoundError(f"{destination.path} must be in a folder that exists, but {folder} does not")
    with suppress(FileNotFoundError):
        beside(journal_of(destination.final)).lstat()  # the longest of the names
    present = 0
    with suppress(FileNotFoundError):
        present = room_of(partial_of(destination.final).lstat())
    check_room(folder, size - present)


def _finish_publishing(final: Path) -> None:
    """Remove the other names of a file that has its own: its process died before it did that."""
    partial, journal = partial_of(final), journal_of(final)
    try:
        is_left = final.exists() and (partial.samefile(final) if partial.exists() else journal.exists())
    except FileNotFoundError:  # another process has done it at this moment
        return
    if is_left:
        file = _lock(partial)
        try:
            if file.size == 0 or file.has_its_name(final):
                file.remove(journal)
        finally:
            file.close()


def _lock(partial: Path) -> LockedFile:
    """Hold the names of an unfinished file, whichever of them are there."""
    file = open_partial(partial, 0o600)
    assert file is not None  # it is made if it is missing
    return file


def _is_complete(final: Path, layout: Layout, recipe: Recipe, memory: int, threads: int | None) -> bool:
    """Whether a file is what would be written: its size, its header, and some of its values."""
    try:
        with open_file(final) as file:
            if os.fstat(file.fileno()).st_size != layout.size or file.read(len(layout.header)) != layout.header:
                return False
            for part, start in layout.segments[:: -(-len(layout.segments) // _SAMPLES) or 1]:
                size = prod(part.shape)
                count = min(size, _SAMPLE_VALUES)
                is_elementwise = part.spec.initializer.is_elementwise(part.spec.shape)
                if layout.format == "safetensors" and not is_elementwise:  # which costs much, and the header says it
                    continue
                filler = RunFiller(recipe.seed, 0 if is_elementwise else memory, threads)
                for first in {0, size // 2 - count // 2, size - count}:
                    expected = np.empty(count, part.spec.dtype)
                    filler.fill(part, first, first + count, expected)
                    file.seek(start + first * expected.itemsize)
                    if file.read(expected.nbytes) != expected.tobytes():
                        return False
            return True
    except (OSError, ValueError):  # a device, which the caller refuses
        return False


_SAMPLES = 64  # segments
_SAMPLE_VALUES = 1024  # at the beginning of each, in the middle and at the end


def _refuse_difference(past: Intent, wanted: Intent, path: str | Path, memory: int, left: int) -> None:
    if difference := past.explain_difference(wanted):
        raise ValueError(f"the unfinished {path} is of another recipe: {difference}")
    if 2 * past.block_size > left:
        least = 2 * past.block_size + memory - left
        raise ValueError(f"memory must be at least {least} bytes to continue {path}, got {memory}")


def _open(destination: Destination, resume: bool, force: bool) -> tuple[LockedFile, PastJournal | None]:
    """The partial file, locked, and what its journal says if it is to be continued."""
    partial, journal = partial_of(destination.final), journal_of(destination.final)
    while True:
        file = open_partial(partial, destination.mode)
        assert file is not None  # it is made if it is missing
        try:
            if file.size == 0:  # new, or nothing has been written yet
                return file, None
            if resume:
                if past := read_journal(journal):
                    return file, past
                raise ValueError(f"{partial} has no journal and cannot be continued; force=True begins again")
            if not force:
                raise FileExistsError(
                    f"{partial} is there, of a write that was interrupted: resume=True continues it, force=True begins "
                    "again, clean() removes it"
                )
            file.remove(journal)
        except BaseException:
            file.close()
            raise


class _Blocks(NamedTuple):
    """The blocks of a file: all of it is cut at multiples of the block size, and the header left out."""

    size: int
    header: int
    block_size: int

    @classmethod
    def of(cls, intent: Intent) -> _Blocks:
        return cls(intent.size, len(intent.header), intent.block_size)

    @property
    def numbers(self) -> range:
        first = self.header // self.block_size
        return range(first, -(-self.size // self.block_size) if self.size > self.header else first)

    def span(self, number: int) -> tuple[int, int]:
        """Where one begins and ends."""
        return max(number * self.block_size, self.header), min((number + 1) * self.block_size, self.size)

    def count_bytes(self, numbers: Iterable[int]) -> int:
        return sum(end - begin for begin, end in map(self.span, numbers))


class _Job:
    """One file that is being written: the partial file, its journal, and the blocks that are left."""

    def __init__(self, file: LockedFile, destination: Destination, intent: Intent, past: PastJournal | None) -> None:
        self.file = file
        self.destination = destination
        self.blocks = _Blocks.of(intent)
        self.intent = intent
        self.past = past
        self.journal = Journal(journal_of(destination.final))
        self.has_begun = False

    def begin(self) -> None:
        """Begin its journal, with the blocks of the past one."""
        past = self.past
        size = self.file.size  # somebody may have cut it
        done, marked = (
            tuple(number for number in numbers if self.blocks.span(number)[1] <= size)
            for numbers in ((past.blocks, past.marked) if past else ((), ()))
        )
        if past:
            try:
                self.file.sync()
            except OSError:  # what the disk has not kept is no longer recorded
                self.journal.begin(self.intent, marked)
                raise
        self.journal.begin(self.intent, done)
        self.kept = self.blocks.count_bytes(done)
        # It was begun where an old file was, for nobody else to read: that file may be gone since.
        self.was_forced = past is not None and past.intent.replaced is not None
        self.left = bytearray(b"\1") * len(self.blocks.numbers)  # a byte a block: there may be millions
        for number in done:
            self.left[self.blocks.numbers.index(number)] = 0
        self.has_begun = True

    def write(
        self, layout: Layout, memory: int, seed: int | None, threads: int | None, progress: Progress | None
    ) -> Written:
        self.file.reserve(layout.size)
        report = _Report(progress, layout.size)
        report(self.kept)
        if 1 in self.left:
            self._write_blocks(layout, memory, seed, threads, report)
        try:
            self.file.finish(layout.size)
        except OSError:  # what the disk has not kept is no longer recorded: the next sync may not say so again
            self.journal.forget()
            raise
        self.journal.mark()
        self.file.write_header(layout.header)
        report(layout.size, is_last=True)
        self._publish()
        return Written(self.destination.path, layout.size, self.kept, layout.size - self.kept)

    def _write_blocks(
        self, layout: Layout, memory: int, seed: int | None, threads: int | None, report: _Report
    ) -> None:
        size = min(self.blocks.block_size, -(-layout.size // PAGE) * PAGE)
        count = min(max(2, min(_MOST_BUFFERS, memory // self.blocks.block_size)), self.left.count(1))
        filler = RunFiller(seed, memory - count * size, threads)
        starts = [segment.start for segment in layout.segments]
        recorder = _Recorder(self.file, self.journal)
        writers = _Writers(recorder, [empty(size, np.uint8, align=PAGE) for _ in range(count)])
        try:
            writers.start()
            for number in compress(self.blocks.numbers, self.left):
                buffer = writers.take()
                begin, end = self.blocks.span(number)
                _fill_block(buffer[: end - begin], begin, layout, starts, filler)
                buffer[end - begin : -(-(end - begin) // PAGE) * PAGE] = 0
                writers.put(_Filled(buffer, number, begin, end))
                report(self.kept + recorder.done)
            for _ in range(count):
                writers.take()
                report(self.kept + recorder.done)
        finally:
            writers.stop()

    def _publish(self) -> None:
        if self.was_forced and self.destination.is_new:
            self.file.take_mode(self.journal.path)  # which the umask gave it
        self.journal.close()
        self.file.let_go()
        self.destination.take(self.file.path)
        sync_folder(self.destination.final.parent)  # the new name before the old ones go
        remove_names(self.file.path, self.journal.path)
        sync_folder(self.destination.final.parent)

    def abandon(self) -> None:
        """Leave what is written for another process, or nothing where nothing is."""
        if (
            self.file.is_held
        ):  # by writers, after an interrupt of their end: closed and left as it is by the last of them
            return
        self.journal.close()
        if self.journal.blocks == 0 and (self.has_begun or self.past is None):
            self.file.discard(self.journal.path)


def _fill_block(block: NDArray[Any], begin: int, layout: Layout, starts: list[int], filler: RunFiller) -> None:
    """Fill with what a file has from a byte on."""
    end = begin + len(block)
    for part, start in layout.segments[bisect_right(starts, begin) - 1 : bisect_left(starts, end)]:
        low, high = max(begin, start), min(end, start + part.nbytes)
        if low < high:
            item = part.spec.dtype.itemsize
            out = block[low - begin : high - begin].view(part.spec.dtype)
            filler.fill(part, (low - start) // item, (high - start) // item, out)


class _Filled(NamedTuple):
    buffer: NDArray[np.uint8]
    number: int
    begin: int
    end: int


class _Recorder:
    """Records blocks that are written, and sees that they reach the disk."""

    def __init__(self, file: LockedFile, journal: Journal) -> None:
        self.file = file
        self.journal = journal
        self.done = 0  # bytes
        self.failed = False
        self._unsynced = 0
        self._lock = Lock()  # of the writers; the caller never takes it

    def write(self, block: _Filled) -> None:
        size = block.end - block.begin
        self.file.write_block(block.buffer.data[: -(-size // PAGE) * PAGE], block.begin)
        with self._lock:
            if self.failed:
                return
            try:
                self.journal.record(block.number)
                self.done += size
                self._unsynced += size
                if self._unsynced >= SYNC_BYTES:
                    self._sync()
            except BaseException:
                self.failed = True  # while no other writer can record what the disk may have lost
                raise

    def _sync(self) -> None:
        try:
            self.file.sync()
        except OSError:
            self.journal.forget()
            raise
        self.journal.mark()
        self._unsynced = 0


class _Writers:
    """Threads that write blocks. Blocks go around: `take` one, fill it, `put` it."""

    def __init__(self, recorder: _Recorder, buffers: list[NDArray[np.uint8]]) -> None:
        self._back: SimpleQueue[NDArray[np.uint8] | BaseException] = SimpleQueue()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._work: SimpleQueue[_Filled | None] = SimpleQueue()
        for buffer in buffers:
            self._back.put(buffer)
        self._recorder = recorder
        self._file = recorder.file
        self._count = min(_WRITERS, len(buffers))

    def start(self) -> None:
        """Start them; `stop` is to follow, even if this is interrupted."""
        given = (self._recorder, self._work, self._back, self._bell)
        threads = map(start_new_thread, repeat(_write_blocks, self._count), repeat(given))
        try:
            self._file.started.extend(threads)  # one call: see e
        except RuntimeError:  # the system gives no more threads
            if not self._file.started:
                raise

    def __del__(self) -> None:
        with suppress(AttributeError):  # after an interrupt of its beginning
            self._work.put(None)

    def take(self) -> NDArray[np.uint8]:
        """A block that is free.

        Raises what a writer met.
        """
        item = self._back.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def put(self, block: _Filled) -> None:
        """Have it written."""
        self._work.put(block)

    def stop(self) -> None:
        """Return once all that was put is written and no writer does anything."""
        self._work.put(None)
        interrupt = None
        while self._file.is_held:
            try:
                self._bell.get(timeout=1.0)
            except Empty:
                pass
            except BaseException as error:
                interrupt = error
        try:
            if interrupt is not None:
                raise interrupt
        finally:
            del interrupt  # its traceback leads here: a circle would keep the file open, and locked


def _write_blocks(
    recorder: _Recorder,
    work: SimpleQueue[_Filled | None],
    back: SimpleQueue[NDArray[np.uint8] | BaseException],
    bell: SimpleQueue[None],
) -> None:
    try:
        while (block := work.get()) is not None:
            try:
                if not recorder.failed:
                    recorder.write(block)
                back.put(block.buffer)
            except BaseException as error:
                recorder.failed = True
                back.put(error)
    finally:
        work.put(None)  # for the next of the writers
        recorder.file.out.append(None)
        bell.put(None)


class _Report:
    """Calls `progress` some ten times a second."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._next = 0.0

    def __call__(self, done: int, *, is_last: bool = False) -> None:
        if self._progress is not None and (is_last or monotonic() >= self._next):
            self._progress(done, self._total)
            self._next = monotonic() + _REPORT_SECONDS
