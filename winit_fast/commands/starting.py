"""Ctrl-C while the command still imports NumPy ends it like a later one: one line, and the status 130.

Imported before everything else of winit_fast, and only where a command may be starting. In a program that imports
winit_fast, nothing changes.
"""

from __future__ import annotations

import sys
from os.path import basename, splitext
from types import TracebackType

__all__ = ["take_interrupts"]


def take_interrupts() -> None:
    """If this process is the command, print an interrupt that nothing else takes as one line."""
    program = _program()
    if not program:
        return
    others = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            others(kind, error, trace)
            return None
        if sys.stderr is not None:
            print(f"{program}: interrupted", file=sys.stderr)
        raise SystemExit(130)  # as Python takes it from a hook

    sys.excepthook = hook


def _program() -> str:
    """What the command calls itself; empty in any other program."""
    if splitext(basename(sys.argv[0]))[0] == "winit-fast":
        return "winit-fast"
    given = sys.orig_argv
    asked = [given[place + 1 :][:1] for place, word in enumerate(given) if word == "-m"][:1]
    return "python -m winit_fast" if sys.argv[0] == "-m" and asked == [["winit_fast"]] else ""
