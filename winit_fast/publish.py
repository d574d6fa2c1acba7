"""Files that appear under their name only when they are complete.

A file is written under a temporary name in the same folder, and renamed at the end. After a crash or an interrupt, the
name refers to the old file, to no file, or to the complete new file.

a. Nothing is written before `PartialFile.open`. Errors that can be found before then are raised by the constructor.
b. The order of publishing is: data, fsync, name, fsync of the folder. So a name never refers to data that a power cut
   may still destroy.
c. A new file takes its name by a hard link, which fails if the name is taken: testing and taking are one step. On
   Windows a rename does the same, since it never replaces a file. On a file system without links, an empty file takes
   the name first, and is replaced at once. An interrupt exactly between these two steps can leave the empty file.
d. The end of the block removes what an interrupt leaves. A second interrupt may come in the middle of that, and Windows
   cannot remove a file that is mapped: then the end of the process removes the rest.
"""

from __future__ import annotations

import atexit
import errno
import functools
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Destination", "PartialFile", "allocate", "patiently", "reserve", "sync", "sync_folder"]

_REPLACES_READ_ONLY = os.name != "nt"
_PIECE = 1 << 28  # bytes reserved at a time: an interrupt waits for one of them
_ZEROS = 1 << 24  # bytes written at a time


class Destination:
    """A file's own name, and how a complete file takes it.

    A symbolic link is followed: its target is written, and the link stays. A new file gets the permissions that the
    umask allows; a file that replaces another keeps the old permissions.

    Parameters
    ----------
    path : str or Path
        The file's own name.
    overwrite : bool, default False
        Whether it may replace an existing file.

    Attributes
    ----------
    path : Path
        As given.
    final, folder : Path
        The file that will be written, with links resolved; its folder, or the nearest folder above it that exists.
    mode : int
        The permissions with which to create the file, before the umask: never more readable than the old file.

    Raises
    ------
    OSError
        If the file exists and `overwrite` is False (FileExistsError), if the path names something other than a file, or
        if the folder is not writable. A missing folder is no error: it can be made later.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.final = Path(os.path.realpath(self.path))
        self.mode = 0o666
        self._overwrite = overwrite
        self._old_mode: int | None = None
        self.folder = next((one for one in self.final.parents if os.path.lexists(one)), self.final.parent)
        if not self.folder.is_dir():
            raise NotADirectoryError(f"{self.path} must be in a folder, but {self.folder} is not a folder")
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{self.path} must be in a writable folder, but {self.folder} is not writable")
        try:
            mode = os.stat(self.final).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            kind = "folder" if stat.S_ISDIR(mode) else "device or pipe"
            raise FileExistsError(f"{self.path} must be a file, but it is a {kind}")
        if not overwrite:
            raise self._make_taken_error()
        if not (_REPLACES_READ_ONLY or mode & stat.S_IWUSR):
            raise PermissionError(f"{self.path} must be writable to be replaced, but it is read-only")
        self._old_mode, self.mode = stat.S_IMODE(mode), 0o600

    @property
    def is_new(self) -> bool:
        """Whether there was no old file."""
        return self._old_mode is None

    def take(self, partial: Path) -> None:
        """Give a file, which is complete and on the disk, its own name. A hard link may leave both names.

        Raises
        ------
        FileExistsError
            If another process has taken the name meanwhile. Its file stays as it is.
        """
        if self._old_mode is not None:
            os.chmod(partial, self._old_mode)
        if self._overwrite:
            patiently(os.replace, partial, self.final)
        else:
            self._take_new(partial)

    def _take_new(self, partial: Path) -> None:
        try:
            if os.name == "nt":
                patiently(os.rename, partial, self.final)
                return
            try:
                os.link(partial, self.final)
            except (FileExistsError, FileNotFoundError):  # one taken, or somebody has removed the file
                raise
            except (OSError, AttributeError):  # a file system without links, or Android
                self._replace_placeholder(partial)
        except FileExistsError:
            raise self._make_taken_error() from None

    def _replace_placeholder(self, partial: Path) -> None:
        descriptor = -1
        try:
            descriptor = os.open(self.final, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.replace(partial, self.final)
        except BaseException:
            if descriptor >= 0 and _is_open_at(self.final, descriptor):  # not replaced yet
                self.final.unlink()
            raise
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _make_taken_error(self) -> FileExistsError:
        return FileExistsError(f"{self.path} exists already")


def _is_open_at(path: Path, descriptor: int) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    return False


class PartialFile(Destination):
    """A file that is still being written: a context manager.

    The end of the block removes the file if it was not published, whatever ended the block.

    Parameters
    ----------
    path, overwrite
        As in `Destination`, and the same errors.

    Attributes
    ----------
    path, final, folder, mode
        As in `Destination`.
    partial : Path
        The temporary name.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
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
        super().__init__(path, overwrite=overwrite)
        self._file: BinaryIO | None = None
        # Shortened, so that it is a valid name wherever the file's own name is.
        self.partial = self.final.with_name(f"{self.final.name[:32]}.{os.urandom(8).hex()}.partial")

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:  # an interrupt may come before its own block closes it
            with suppress(OSError):  # of what is thrown away
                self._file.close()
        _remove(self.partial)

    def open(self) -> BinaryIO:
        """Create the partial file for reading and writing; only inside the block."""
        _unfinished.add(self.partial)
        opener = functools.partial(os.open, mode=self.mode)  # all in C: no interrupt can lose what it opens
        self._file = open(self.partial, "x+b", opener=opener)  # noqa: SIM115
        return self._file

    def publish(self) -> None:
        """Give the file its own name. It must be complete and closed.

        Raises
        ------
        FileExistsError
            If another process has taken the name meanwhile. Its file stays as it is.
        """
        self._file = open(self.partial, "r+b")  # noqa: SIM115
        with self._file:
            sync(self._file.fileno())
        self.take(self.partial)
        _remove(self.partial)  # a hard link leaves both names
        sync_folder(self.final.parent)


def patiently(call: Callable[..., None], *paths: Path) -> None:
    """Rename or remove a file. What the system refuses while another program has it open is tried for two seconds.

    So does Windows, where scanners open every new file for a moment.
    """
    for _ in range(_TRIES - 1):
        try:
            return call(*paths)
        except PermissionError:
            sleep(_PAUSE)
    return call(*paths)


_TRIES = 40 if os.name == "nt" else 1
_PAUSE = 0.05  # seconds


def sync(descriptor: int) -> None:
    """Wait until a file and what belongs to it are on the disk."""
    if fcntl is not None and hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync leaves the data in the disk's own cache
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError:  # not every file system there has it
            pass
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can do that."""
    if os.name != "nt":
        with suppress(OSError):  # not every file system can sync a folder
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def reserve(file: BinaryIO, size: int) -> None:
    """Enlarge a file and reserve disk space for all of it, so that writing to a memory map cannot fail with SIGBUS.

    Parameters
    ----------
    file : file object
        Opened by `PartialFile.open`. Its contents stay, and its position moves to the end.
    size : int
        The new size in bytes, not less than the present one.

    Raises
    ------
    OSError
        If the disk does not have the space.

    Examples
    --------
    >>> import os
    >>> import tempfile
    >>> with tempfile.TemporaryFile() as file:
    ...     reserve(file, 100_000)
    ...     os.fstat(file.fileno()).st_size
    100000
    """
    try:
        file.flush()
        end = file.seek(0, os.SEEK_END)
        if not allocate(file.fileno(), size):
            zeros = memoryview(bytes(_ZEROS))
            while end < size:
                end += os.write(file.fileno(), zeros[: size - end])
        file.seek(0, os.SEEK_END)
    except OSError as error:
        raise OSError(error.errno, f"no room for {size:,} bytes ({error.strerror})", str(file.name)) from None


def allocate(descriptor: int, size: int) -> bool:
    """Reserve disk space, and enlarge the file to `size`; False if the system or the file system cannot reserve."""
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


# Partial files of this process that are not removed yet. See d above.
_unfinished: set[Path] = set()


def _remove(partial: Path) -> None:
    if partial in _unfinished:  # a forked child leaves the files of its parent alone
        try:
            os.unlink(partial)
        except FileNotFoundError:  # published, or never created
            pass
        except OSError:
            return
        _unfinished.discard(partial)


@atexit.register
def _remove_unfinished() -> None:
    for partial in list(_unfinished):  # in one step, unlike a tuple: daemons may still write
        _remove(partial)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unfinished.clear)
