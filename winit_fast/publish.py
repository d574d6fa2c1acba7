"""Files that stand under their name only when they are whole.

A file is written under a partial name beside its own, in the same folder, and renamed at the end. A reader, a crash and
an interrupt find the old file, none, or all of the new one.

a. Nothing is touched before `PartialFile.open`: what can be refused is refused when a `PartialFile` is made.
b. The order of publishing is data, fsync, name, fsync of the folder. A name never stands for data that a power cut may
   still take.
c. A new file takes its name by a hard link, which fails where the name is taken: no moment lies between the question
   and the answer. Windows renames no file over another by itself. Where a file system has no links, an empty file takes
   the name and is replaced at once. There an interrupt at one instruction, between the two, can leave the empty file.
d. What an interrupt leaves is removed by the block's end. A second interrupt may come in the middle of that, and
   Windows removes no file that is mapped: the end of the process removes the rest.
"""

from __future__ import annotations

import atexit
import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["PartialFile", "reserve"]

_PIECE = 1 << 28  # bytes reserved at a time: an interrupt waits for one of them
_ZEROS = 1 << 24  # bytes written at a time


class PartialFile:
    """A file in the making: a context manager around all that is done to it.

    The end of the block removes what was not published, whatever ended it. Links are followed: the file that a link
    names is written, and the link stays. A new file has the permissions that the umask leaves, one that replaces
    another has the other's.

    Parameters
    ----------
    path : str or Path
        Where the file shall stand.
    overwrite : bool, default False
        Whether it may replace a file that stands there.

    Attributes
    ----------
    path : Path
        As given.
    final, partial, folder : Path
        What will be written, links resolved; the name that it has until then; the folder, or of a missing one the
        nearest above it that is there.

    Raises
    ------
    OSError
        If there is a file and `overwrite` is False (FileExistsError), something that is no file, or no folder that can
        be written in. A folder that is missing is none of these: it can be made before `open`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with PartialFile(folder / "a.txt") as partial:
    ...     with partial.open() as file:
    ...         _ = file.write(b"all of it")
    ...     print((folder / "a.txt").exists())
    ...     partial.publish()
    False
    >>> [(path.name, path.read_bytes()) for path in folder.iterdir()]
    [('a.txt', b'all of it')]
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.final = Path(os.path.realpath(self.path))
        # Cut, so that it is a name wherever the file's own is one.
        self.partial = self.final.with_name(f"{self.final.name[:32]}.{os.urandom(8).hex()}.partial")
        self._overwrite = overwrite
        self._mode: int | None = None
        self.folder = next((one for one in self.final.parents if os.path.lexists(one)), self.final.parent)
        if not self.folder.is_dir():
            raise NotADirectoryError(f"{self.path} needs a folder, and {self.folder} is none")
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{self.path} needs a folder that can be written in, and {self.folder} cannot")
        try:
            mode = os.stat(self.final).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            raise FileExistsError(f"{self.path} is a {'folder' if stat.S_ISDIR(mode) else 'device or pipe'}, no file")
        if not overwrite:
            raise self._taken()
        self._mode = stat.S_IMODE(mode)

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(self, *exception: object) -> None:
        _remove(self.partial)

    def open(self) -> BinaryIO:
        """Create the partial file, to be read and written; only within the block."""
        _unfinished.add(self.partial)
        return open(self.partial, "x+b", opener=self._create)

    def _create(self, name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if self._mode is None else 0o600)  # never open to more people than the other

    def publish(self) -> None:
        """Give the file, which is whole now and closed, its name.

        Raises
        ------
        FileExistsError
            If another process took the name since. Its file stays as it is.
        """
        with open(self.partial, "r+b") as file:
            os.fsync(file.fileno())
        if self._mode is not None:
            os.chmod(self.partial, self._mode)
        if self._overwrite:
            os.replace(self.partial, self.final)
        else:
            self._publish_new()
        _remove(self.partial)  # of a link there are two
        if os.name != "nt":
            with suppress(OSError):  # not every file system has it for folders
                folder = os.open(self.final.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)

    def _publish_new(self) -> None:
        try:
            if os.name == "nt":
                os.rename(self.partial, self.final)
                return
            try:
                os.link(self.partial, self.final)
            except FileExistsError:
                raise
            except (OSError, AttributeError):  # a file system, or an Android, without links
                self._replace_placeholder()
        except FileExistsError:
            raise self._taken() from None

    def _replace_placeholder(self) -> None:
        descriptor = -1
        try:
            descriptor = os.open(self.final, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.replace(self.partial, self.final)
        except BaseException:
            if descriptor >= 0 and self.partial.exists():  # not replaced yet
                self.final.unlink()
            raise
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _taken(self) -> FileExistsError:
        return FileExistsError(f"{self.path} is there already")


def reserve(file: BinaryIO, size: int) -> None:
    """Make a file larger, with disk space for all of it: a memory map of it then never meets a full disk (SIGBUS).

    Parameters
    ----------
    file : file object
        Opened by `PartialFile.open`. What it holds stays, and its end is where it is read and written next.
    size : int
        In bytes, at least what it has.

    Raises
    ------
    OSError
        If there is no such space.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryFile() as file:
    ...     reserve(file, 100_000)
    ...     os.fstat(file.fileno()).st_size
    100000
    """
    try:
        file.flush()
        end = file.seek(0, os.SEEK_END)
        if not _allocate(file.fileno(), size):
            zeros = memoryview(bytes(_ZEROS))
            while end < size:
                end += os.write(file.fileno(), zeros[: size - end])
        file.seek(0, os.SEEK_END)
    except OSError as error:
        raise OSError(error.errno, f"no room for {size:,} bytes ({error.strerror})", str(file.name)) from None


def _allocate(descriptor: int, size: int) -> bool:
    """Whether the system has reserved the space; False where it, or the file system, knows no such thing."""
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return False
    try:
        for first in range(0, size, _PIECE):
            os.posix_fallocate(descriptor, first, min(_PIECE, size - first))
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True


# Of this process, and not yet removed. See d above.
_unfinished: set[Path] = set()


def _remove(partial: Path) -> None:
    if partial in _unfinished:  # a forked child leaves its parent's alone
        try:
            os.unlink(partial)
        except FileNotFoundError:  # published, or never made
            pass
        except OSError:
            return
        _unfinished.discard(partial)


@atexit.register
def _remove_unfinished() -> None:
    for partial in tuple(_unfinished):
        _remove(partial)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unfinished.clear)
