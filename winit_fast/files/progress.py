"""How far a long job is: a bar in a terminal, lines elsewhere, with the rate and the time that is left."""

from __future__ import annotations

import sys
from collections import deque
from importlib import import_module
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, TextIO

from winit_fast.files.sizes import show_size
from winit_fast.messages import quote

__all__ = ["Progress", "ShownProgress", "check_progress", "describe"]


class Progress(Protocol):
    """What `write` and `verify` call some ten times a second."""

    def __call__(self, done: int, total: int, /) -> object:
        """Take the bytes that are done, of all of them."""


def check_progress(progress: object) -> None:
    """Refuse what cannot be called, before there is anything to report."""
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be a function that takes (done, total), got {quote(progress)}")


class ShownProgress:
    """Shows how far a job is: a context manager, and a `Progress` inside of it.

    In a terminal, one line is written again and again; with tqdm installed (``pip install tqdm``) it has a bar.
    Elsewhere, as in the log of a job, a new line is written every few seconds.

    Parameters
    ----------
    stream : file object, optional
        Standard error by default.
    is_terminal : bool, optional
        By default what the stream says.

    Examples
    --------
    >>> import sys
    >>> with ShownProgress(sys.stdout, is_terminal=False) as progress:
    ...     progress(0, 10_240_000_000)  # too early for a line
    """

    def __init__(self, stream: TextIO | None = None, *, is_terminal: bool | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty() if is_terminal is None else is_terminal
        self._seen: deque[tuple[float, int]] = deque()  # of the last seconds
        self._next = 0.0
        self._width = 0
        self._bar: Any = None  # False without tqdm

    def __enter__(self) -> ShownProgress:
        return self

    def __call__(self, done: int, total: int) -> None:
        """Show it, unless that was done a moment ago."""
        now = monotonic()
        if not self._seen:
            self._next = now + (0.0 if self._is_terminal else _LINE_SECONDS)
        self._seen.append((now, done))
        while now - self._seen[0][0] > _RATE_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        if now < self._next and not (self._is_terminal and done == total):
            return
        self._next = now + (_DRAW_SECONDS if self._is_terminal else _LINE_SECONDS)
        then, before = self._seen[0]
        text = describe(done, total, (done - before) / (now - then) if now > then else 0.0)
        if not self._is_terminal:
            print(text, file=self._stream, flush=True)
        elif not self._draw_bar(text, done, total):
            self._width = max(self._width, len(text))
            print(f"\r{text:<{self._width}}", end="", file=self._stream, flush=True)

    def _draw_bar(self, text: str, done: int, total: int) -> bool:
        if self._bar is None:
            try:
                tqdm = import_module("tqdm").tqdm
            except ImportError:
                self._bar = False
            else:
                bar = type("Bar", (tqdm,), {"monitor_interval": 0})  # no thread that looks after it
                self._bar = bar(total=total, file=self._stream, dynamic_ncols=True, bar_format=_BAR)
        if self._bar is False:
            return False
        self._bar.n = done
        self._bar.set_description_str(text.partition("% ")[2], refresh=False)
        self._bar.refresh()
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the line, so that what is printed next begins a new one."""
        if self._bar:
            self._bar.close()
        elif self._width:
            print(file=self._stream, flush=True)
        self._bar, self._width = None, 0


_BAR = "{percentage:3.0f}% {bar} {desc}"
_DRAW_SECONDS = 0.1
_LINE_SECONDS = 5.0
_RATE_SECONDS = 10.0  # the rate is that of the last seconds: a disk slows down when its cache is full


def describe(done: int, total: int, rate: float) -> str:
    """One line: how much is done, at how many bytes a second, and how long the rest takes.

    Examples
    --------
    >>> describe(6_200_000_000, 10_240_000_000, 650_000_000)
    ' 60% 6.2/10.2 GB  0.65 GB/s  0:06 left'
    """
    percent = 100 * done // total if total else 100
    whole = show_size(total)
    number = whole.partition(" ")[0]
    scale = total / float(number) if total else 1.0  # of the unit that the whole is shown in
    so_far = f"{done / scale:.{1 if '.' in number else 0}f}"
    text = f"{percent:3d}% {so_far}/{whole}"
    if rate > 0:
        seconds = int((total - done) / rate + 0.5)
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        left = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
        text += f"  {rate / 1e9:.2f} GB/s  {left} left"
    return text
