"""``FILE.partial``: the file while it is written. One process at a time holds it, and it outlives that process.

a. What can be refused is refused before any file exists: `Destination` looks at the name and the folder, `check_room`
   at the space.
b. The lock is on the open file, and the system releases it however the process ends. Whoever gets it looks whether the
   file still has its name: the last holder may have published or removed it.
c. A partial file is removed by its name, and never emptied: between the two steps of publishing it has its final name
   too. Its journal is made after it and removed after it: a partial file of ours without a journal is empty.
   Windows renames and removes no file that is open, so there it is closed before its names change.
d. Blocks go past the cache of the system where it has O_DIRECT: the processor copies nothing, and no other program
   loses what it had in the cache. Elsewhere the cache is emptied of them after each `sync`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_IMODE, S_ISREG
from threading import Lock

from winit_fast.files.layouts import PAGE
from winit_fast.publish import allocate, patiently, sync

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:
    msvcrt = None  # type: ignore[assignment]

__all__ = [
    "LockedFile",
    "beside",
    "check_room",
    "journal_of",
    "open_partial",
    "partial_of",
    "remove_names",
    "room_of",
    "sync_data",
]


def partial_of(final: Path) -> Path:
    """The name of a file while it is written."""
    return final.with_name(final.name + ".partial")


def journal_of(final: Path) -> Path:
    """The name of its journal."""
    return final.with_name(final.name + ".partial.journal")


def check_room(folder: Path, size: int) -> None:
    """Refuse what the disk has no room for.

    Raises
    ------
    OSError
        If fewer than `size` bytes are free there.
    """
    from shutil import disk_usage  # some milliseconds: it loads compression too

    if size > (free := disk_usage(folder).free):
        raise OSError(errno.ENOSPC, f"{size:,} bytes are needed and {free:,} free", str(folder))


def room_of(found: os.stat_result) -> int:
    """The bytes that a file has on the disk already; none where the system does not say (Windows)."""
    return min(found.st_size, getattr(found, "st_blocks", 0) * 512)


def open_partial(path: Path, mode: int | None = None) -> LockedFile | None:
    """Open and lock a partial file; create it if it is missing and `mode` is given, else None.

    Raises
    ------
    BlockingIOError
        If another process holds it, or another writer of this process.
    OSError
        If the system refuses to open it.
    """
    flags = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    while True:
        file = LockedFile(path)
        try:
            file.open(flags)
        except FileNotFoundError:
            if mode is None:
                return None
            try:
                file.open(flags | os.O_CREAT | os.O_EXCL, mode)
            except FileExistsError:  # another process was faster
                continue
        try:
            file.lock()
            if file.has_its_name():
                return file
        except BaseException:
            file.close()  # now: who keeps the error must not keep the file from its holder
            raise
        file.close()


class LockedFile:
    """A partial file that is open and locked.

    Several threads may write at once. It is closed by `close`, or when nothing refers to it.

    Attributes
    ----------
    path : Path
    started, out : list
        The threads that were started to write to it, and something for each that does nothing any more. As long as some
        are missing, the file stays open.
    """

    _closing: Iterator[None] = iter(())

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started: list[int] = []
        self.out: list[None] = []
        self._descriptor = self._direct = -1  # two of the same file
        self._opened: list[int] = []
        self._closing = map(os.close, self._opened)  # each of them once, however often an interrupt ends `close`

    def __del__(self) -> None:
        any(self._closing)

    def open(self, flags: int, mode: int = 0o600) -> int:
        """Open it; its descriptor."""
        self._opened.extend(map(os.open, (self.path,), (flags,), (mode,)))  # one call: no interrupt can lose it
        self._descriptor = self._opened[0]
        return self._opened[-1]

    def lock(self) -> None:
        """Lock it, or refuse what is no file or is locked."""
        if not S_ISREG(os.fstat(self._descriptor).st_mode):
            raise FileExistsError(f"{self.path} must be a file, but it is a device or pipe")
        _lock(self._descriptor, self.path)

    @property
    def is_held(self) -> bool:
        """Whether threads may be writing to it."""
        return len(self.out) < len(self.started)

    @property
    def size(self) -> int:
        """In bytes, by its length."""
        return os.fstat(self._descriptor).st_size

    @property
    def room(self) -> int:
        """The bytes that it has on the disk already."""
        return room_of(os.fstat(self._descriptor))

    def has_its_name(self, path: Path | None = None) -> bool:
        """Whether this file, and no other, has its own name, or another one."""
        try:
            return os.path.samestat(os.stat(path or self.path), os.fstat(self._descriptor))
        except OSError:
            return False

    def reserve(self, size: int) -> None:
        """Make room for all of it, and prepare to write past the cache.

        Raises
        ------
        OSError
            If the disk has no room for it.
        """
        whole = -(-size // PAGE) * PAGE
        try:
            if self.room < whole:
                allocate(self._descriptor, whole)
        except OSError as error:
            reason = f"no room for {size:,} bytes ({error.strerror})"
            raise OSError(error.errno, reason, str(self.path)) from None
        if hasattr(os, "O_DIRECT"):
            flags = os.O_WRONLY | os.O_DIRECT | getattr(os, "O_NOFOLLOW", 0)
            with suppress(OSError):  # not every file system has it
                self._direct = self.open(flags)

    def write_block(self, block: memoryview, start: int) -> None:
        """Write a block: its memory, size and start are multiples of `PAGE`. Several threads may do so at once."""
        direct = self._direct
        if direct >= 0:
            try:
                start, block = self._write(direct, block, start)
            except OSError as error:
                if error.errno != errno.EINVAL:  # a disk whose own pages are larger
                    raise
                self._direct = -1  # closed at the end: another thread may be writing
        self._write(self._descriptor, block, start)

    def _write(self, descriptor: int, data: memoryview, start: int) -> tuple[int, memoryview]:
        """Write what the system takes, however little at once; return what is left, for the other descriptor."""
        try:
            while data:
                count = _write_at(descriptor, data, start)
                if count == 0:
                    raise OSError(errno.EIO, "the system writes nothing, and says no reason")
                start, data = start + count, data[count:]
                if descriptor != self._descriptor and count % PAGE:  # no longer what O_DIRECT takes
                    break
        except OSError as error:
            error.filename = str(self.path)
            raise
        return start, data

    def sync(self) -> None:
        """Wait until all that was written is on the disk."""
        sync_data(self._descriptor, self.path)
        if self._direct < 0 and hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def finish(self, size: int) -> None:
        """Give it its size, and wait until all of it is on the disk."""
        os.ftruncate(self._descriptor, size)
        sync(self._descriptor)

    def write_header(self, header: bytes) -> None:
        """Write the beginning of the file, and wait until that is on the disk."""
        if header:
            self._write(self._descriptor, memoryview(header), 0)
            sync(self._descriptor)

    def take_mode(self, path: Path) -> None:
        """Give it the permissions of another file, where the file system has some."""
        with suppress(OSError, AttributeError):
            os.fchmod(self._descriptor, S_IMODE(os.stat(path).st_mode))

    def close(self) -> None:
        """Close it, and with that release the lock."""
        if self.is_held:
            return
        self._direct = self._descriptor = -1
        any(self._closing)

    def let_go(self) -> None:
        """Close it where names of open files cannot change."""
        if _CLOSES_FIRST:
            self.close()

    def remove(self, journal: Path) -> list[Path]:
        """Remove it and its journal, and close it; return the names that are gone."""
        self.let_go()
        removed = remove_names(self.path, journal)
        self.close()
        return removed

    def discard(self, journal: Path) -> None:
        """As `remove`, after an error, which matters more: another process may hold them already."""
        with suppress(OSError):
            self.remove(journal)


_CLOSES_FIRST = os.name == "nt"


def sync_data(descriptor: int, path: Path) -> None:
    """Wait until what was written to a file is on the disk."""
    try:
        getattr(os, "fdatasync", sync)(descriptor)
    except OSError as error:
        error.filename = str(path)
        raise


def remove_names(partial: Path, journal: Path) -> list[Path]:
    """Remove a partial file and its journal, whichever are there; return the names of those that were."""
    removed = []
    for path in (partial, beside(journal), journal):  # the journal last: a folder may have its name
        with suppress(FileNotFoundError):
            patiently(os.unlink, path)
            removed.append(path)
    return removed


def beside(journal: Path) -> Path:
    """Where a new journal is written, which then takes the name of the old one."""
    return journal.with_name(journal.name + ".new")


def _lock(descriptor: int, path: Path) -> None:
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:  # a byte far behind; Windows lets nobody else write it, and us through this descriptor
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, 0):  # wine says no reason
            raise BlockingIOError(f"{path} is being written by another process") from None
        # A file system without locks: the second writer is not seen, and nothing else is lost.


_LOCKED_BYTE = (1 << 31) - 2  # the farthest that msvcrt reaches


def _write_at(descriptor: int, data: memoryview, start: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, start)
    with _seeking:  # Windows
        os.lseek(descriptor, start, os.SEEK_SET)
        return os.write(descriptor, data)


_seeking = Lock()
