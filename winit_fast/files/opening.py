"""Open what is a file, and nothing else: a pipe of that name would be waited for, without end."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from winit_fast.messages import quote

__all__ = ["open_file", "read_path"]


def open_file(path: str | Path) -> BinaryIO:
    """Open a file to read its bytes.

    Raises
    ------
    OSError
        If it cannot be opened.
    ValueError
        If it is a device or a pipe.
    """
    opener = (lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) if hasattr(os, "O_NONBLOCK") else None
    file = open(path, "rb", opener=opener)  # noqa: SIM115
    if S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise ValueError(f"{path} must be a file, but it is a device or pipe")


def read_path(path: str | Path, argument: str = "path") -> Path:
    """A path that a caller gave for `argument`.

    Raises
    ------
    TypeError, ValueError
        If it is no path of text, or none that a system has, or empty: `Path` takes that for the current folder, and
        shells make it of a variable that is not set.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(f"{argument} must be a str or a Path, got {quote(path)}")
    if not text or "\0" in text:
        raise ValueError(f"{argument} must be a name, got {quote(text)}")
    return Path(text)
