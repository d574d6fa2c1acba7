"""Options of long jobs: memory, threads and progress; and how to go on with an unfinished file."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from winit_fast.commands.tensors import integer_from

if TYPE_CHECKING:
    from winit_fast.files.progress import Progress

__all__ = ["add_running_arguments", "has_partial", "is_unfinished", "join_words", "show_progress"]


def add_running_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group("running")
    group.add_argument("--memory", default="256MiB", metavar="SIZE", help="the most to take (default: 256MiB)")
    group.add_argument("--threads", type=integer_from(1), metavar="N", help="default: all CPUs")
    group.add_argument("--quiet", action="store_true", help="print errors only")
    group.add_argument(
        "--progress", action=argparse.BooleanOptionalAction,
        help="how far it is: a line or a bar in a terminal, lines elsewhere (default: yes, unless --quiet)",
    )  # fmt: skip


def show_progress(options: argparse.Namespace, *, is_shown: bool = True) -> AbstractContextManager[Progress | None]:
    """What shows how far a job is, as the options say."""
    wanted = options.progress if options.progress is not None else is_shown and not options.quiet
    if not wanted or sys.stderr is None:
        return nullcontext()
    from winit_fast.files.progress import ShownProgress

    return ShownProgress()


def is_unfinished(file: str) -> bool:
    """Whether the partial file of that name can be continued."""
    from winit_fast.files import read_unfinished

    try:
        return read_unfinished(file) is not None
    except ValueError:
        return False


def has_partial(folder: str) -> bool:
    """Whether a folder's writing was begun and has not ended."""
    return os.path.isdir(folder) and any(name.endswith(".partial") for name in os.listdir(folder))


def join_words(words: list[str]) -> str:
    """A command as the shell of this system takes it."""
    if os.name != "nt":
        return shlex.join(words)
    from subprocess import list2cmdline

    return list2cmdline(words)
