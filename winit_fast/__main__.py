"""``winit-fast`` and ``python -m winit_fast``: fill files larger than memory, verify them, judge initializations."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import PurePath
from typing import NoReturn

from winit_fast.config import show_config
from winit_fast.messages import reason_of

__all__ = ["COMMANDS", "main"]

#: The module of each command and what it does. A module has add_arguments(parser) and run(options) -> exit status, and
#: is imported only for its own command. The first one runs if none is named.
COMMANDS = {
    "embeddings": ("winit_fast.demo", "Create the embedding tables of real models, and check them."),
    "fill": ("winit_fast.commands.fill", "Write tensors to files, in bounded memory; go on after an interrupt."),
    "verify": ("winit_fast.commands.verify", "Compare files with what they should hold."),
    "clean": ("winit_fast.commands.clean", "Remove what interrupted writes have left."),
    "schemes": ("winit_fast.commands.schemes", "List the schemes."),
    "bench": ("winit_fast.commands.bench", "Measure for half a minute, beside what is installed."),
    "report": ("winit_fast.report.command", "Push signals through deep stacks of layers, and judge initializations."),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        As on the command line. By default those of this process.

    Returns
    -------
    int
        0 on success, 1 if a check failed, 2 if the arguments cannot be used or a file cannot be written, 130 after
        Ctrl-C, 141 if what reads the output has ended, as `head` does. No partial file is left then.

    Raises
    ------
    SystemExit
        With the status 128 + n if signal n asks the process to end: SIGTERM, or SIGHUP on systems that have it.

    Examples
    --------
    >>> main(["embeddings", "--rows", "-1"])
    2
    """
    try:
        status = _run(arguments)
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()  # here, and not at the end of Python, which can say neither what failed nor with what status
    except OSError as error:  # of standard output: `_run` has answered others
        _drop_output()
        if _is_closed_pipe(error):
            return _CLOSED_PIPE
        print(f"standard output: {reason_of(error)}", file=sys.stderr)
        return 2
    return status


_CLOSED_PIPE = 128 + 13  # what a shell says of a process that SIGPIPE ended


def _is_closed_pipe(error: Exception) -> bool:
    return isinstance(error, BrokenPipeError) or (
        os.name == "nt" and isinstance(error, OSError) and error.errno == errno.EINVAL and error.filename is None
    )


def _drop_output() -> None:
    """What standard output and error cannot write goes nowhere, so that the end of Python has nothing to say of it."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _run(arguments: Sequence[str] | None) -> int:
    default = next(iter(COMMANDS))
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help", "--version")):
        given.insert(0, default)
    called = PurePath(sys.argv[0]).stem  # also for winit-fast.exe
    program = called if called == "winit-fast" else "python -m winit_fast"
    try:
        parsed = _parse(program, given, default)
        if isinstance(parsed, int):
            return parsed
        if parsed.version:
            show_config()
            return 0
        with _raise_signals():
            status: int = parsed.run(parsed)
    except KeyboardInterrupt:
        print(f"{program} {given[0]}: interrupted", file=sys.stderr)
        return 130
    except (TypeError, ValueError, OSError, ImportError, MemoryError) as error:
        if _is_closed_pipe(error):
            raise
        print(f"{program} {given[0]}: {reason_of(error)}", file=sys.stderr)
        return 2
    return status


def _parse(program: str, given: list[str], default: str) -> argparse.Namespace | int:
    """The options, or a status if they cannot be used or ask for help. Only the given command is imported."""
    parser = _Parser(
        prog=program, description=f"Without a command: {default}. Each has its own --help.", allow_abbrev=False
    )
    parser.add_argument("--version", action="store_true", help="print versions, ISA and threads, and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="command")
    for name, (place, summary) in COMMANDS.items():
        if name != given[0]:
            subparsers.add_parser(name, help=summary)
            continue
        module = import_module(place)
        about = (module.__doc__ or "").replace("``", "").partition("\n\n")
        parser_of_command = subparsers.add_parser(
            name, help=summary, description=about[0], epilog=about[2], allow_abbrev=False
        )  # fmt: skip
        module.add_arguments(parser_of_command)
        parser_of_command.set_defaults(run=module.run, program=program, given=tuple(given))
    try:
        parsed, unknown = parser.parse_known_args(given)
        if unknown:
            asked = f"{program} {given[0]}" if given[0] in COMMANDS else program
            parser.exit(
                2, f"{asked}: unrecognized arguments: {' '.join(unknown)}; {asked} --help lists what there is\n"
            )
    except SystemExit as leaving:  # how argparse ends, after a message or --help
        return leaving.code if isinstance(leaving.code, int) else 2
    return parsed


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, without all that could be given."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


@contextmanager
def _raise_signals() -> Iterator[None]:
    """Raise SystemExit on a signal that would end the process at once, so that partial files are removed."""

    def leave(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]  # nohup ignores SIGHUP
    try:
        for number in taken:
            signal.signal(number, leave)
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
