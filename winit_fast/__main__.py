"""``winit-fast`` and ``python -m winit_fast``: the commands, of which the one for a real model's tables comes first."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import NoReturn

from winit_fast import demo
from winit_fast.config import show_config
from winit_fast.report import command as report

__all__ = ["main"]

# Each module has NAME, its docstring's first line as help, add_arguments(parser) and run(arguments) -> exit status.
# The first runs if none is named.
COMMANDS = (demo, report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        As on the command line, which is the default.

    Returns
    -------
    int
        0 if all went well, 1 if a check failed, 2 if the arguments cannot be used or a file cannot be written, 130
        after Ctrl-C. No partial file is left then.

    Raises
    ------
    SystemExit
        With status 128 + n if signal n asks the process to end: SIGTERM, and SIGHUP where the system has it.

    Examples
    --------
    >>> main(["embeddings", "--rows", "-1"])
    2
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help", "--version")):
        given.insert(0, COMMANDS[0].NAME)
    called = PurePath(sys.argv[0]).stem  # winit-fast.exe too
    parser = argparse.ArgumentParser(
        prog=called if called == "winit-fast" else "python -m winit_fast",
        description=f"Without a command: {COMMANDS[0].NAME}. Each has its own --help.",
    )
    parser.add_argument("--version", action="store_true", help="print versions, ISA and threads, and leave")
    subparsers = parser.add_subparsers(dest="command", metavar="command")
    for command in COMMANDS:
        summary = (command.__doc__ or "").partition("\n")[0]
        subparser = subparsers.add_parser(command.NAME, help=summary, description=summary)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    try:
        parsed = parser.parse_args(given)
    except SystemExit as leaving:  # argparse's own way out, after a usage message or --help
        return leaving.code if isinstance(leaving.code, int) else 2
    if parsed.version:
        show_config()
        return 0
    try:
        with _end_in_order():
            status: int = parsed.run(parsed)
    except KeyboardInterrupt:
        print(f"{parser.prog} {parsed.command}: interrupted", file=sys.stderr)
        return 130
    except (TypeError, ValueError, OSError, ImportError, MemoryError) as error:
        print(f"{parser.prog} {parsed.command}: {error}", file=sys.stderr)
        return 2
    return status


@contextmanager
def _end_in_order() -> Iterator[None]:
    """Raise SystemExit for signals that would end the process at once, so that partial files are removed."""

    def leave(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]  # nohup ignores one of them
    try:
        for number in taken:
            signal.signal(number, leave)
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
