"""Write tensors to a file, or to the files of a folder, in bounded memory; go on with one that was interrupted.

A file gets its own name only when it is complete. What an interrupt or an error leaves is continued by --resume, which
needs no other option where it is one file.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from winit_fast.commands.running import add_running_arguments, has_partial, is_unfinished, join_words, show_progress
from winit_fast.commands.tensors import (
    add_tensor_arguments,
    integer_from,
    read_tensors,
    refuse_without_tensors,
    rows_of,
    say_option,
)
from winit_fast.files.sizes import show_size
from winit_fast.messages import reason_of

if TYPE_CHECKING:
    from winit_fast.files import TensorSpec

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "file", metavar="FILE", help=".safetensors, .npy, .bin or .raw; or a folder of safetensors files")  # fmt: skip
    add_tensor_arguments(parser)
    file = parser.add_argument_group("the file")
    file.add_argument("--format", metavar="NAME", help="npy, raw, safetensors, hf or dcp (default: by the suffix)")
    file.add_argument("--max-file-size", metavar="SIZE", help="of each file of a folder, such as 5GB")
    file.add_argument("--resume", action="store_true", help="continue what is unfinished, and keep what is complete")
    file.add_argument("--force", action="store_true", help="replace existing files, each once the new one is complete")
    part = parser.add_argument_group("many workers")
    part.add_argument("--rank", type=integer_from(0), metavar="R", help="write the part of worker R of a folder")
    part.add_argument(
        "--world-size", type=integer_from(1), metavar="W",
        help="of W workers (default of both for a folder: RANK and WORLD_SIZE of the environment, set by torchrun)",
    )  # fmt: skip
    part.add_argument("--rows", type=rows_of, metavar="A:B", help="the file holds rows A to B - 1 of the tensor")
    add_running_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Write the file; return 0, or 128 and the number of the signal that interrupted it."""
    if options.file == "-":
        raise ValueError("FILE must be a name, got '-': values are not written to standard output")
    asked = read_tensors(options)
    if asked.tensors is None and not (options.resume or (options.force and os.path.exists(options.file))):
        raise ValueError("a tensor must be given: --shape, --scheme and --name, or --recipe, or --like; or --resume")
    if asked.tensors is None:  # an unfinished file knows them
        refuse_without_tensors(options, "--rows", "--format", "--max-file-size")
    if asked.tensors is None and os.path.isdir(options.file):
        option = "--resume" if options.resume else "--force"
        raise ValueError(f"{options.file} is a folder: {option} needs the other options that it was begun with, too")
    from winit_fast.files import write

    rank, world_size = _read_ranks(options, asked.tensors)
    bar = show_progress(options, is_shown=rank == 0)
    try:
        with bar as progress:
            written = write(
                options.file, asked.tensors, seed=asked.seed, format=options.format, memory=options.memory,
                threads=options.threads, resume=options.resume, force=options.force, rank=rank, world_size=world_size,
                rows=options.rows, max_file_size=options.max_file_size, progress=progress,
            )  # fmt: skip
    except (KeyboardInterrupt, SystemExit) as end:
        print(f"interrupted; {_explain_rest(options)}", file=sys.stderr)
        return 130 if isinstance(end, KeyboardInterrupt) else int(str(end.code))
    except (TypeError, ValueError, OSError) as error:
        text = reason_of(error)
        for argument, option in _OPTIONS.items():
            text = text.replace(argument, option)
        text = say_option(text)
        if isinstance(error, FileExistsError) and text.endswith("exists already"):
            text += "; --force replaces it"
        if isinstance(error, OSError) and not isinstance(error, FileExistsError | BlockingIOError):
            text += f"; {_explain_rest(options)}" if is_unfinished(options.file) or has_partial(options.file) else ""
        raise (type(error) if isinstance(error, OSError) else ValueError)(text) from None
    if not options.quiet:
        what = options.file if world_size == 1 else f"the part of worker {rank} of {world_size}"
        if written.size == 0 and world_size > 1:
            print(f"worker {rank} of {world_size} has no file to write")
        elif options.resume and written.written == 0:
            print(f"{what} is complete: kept {show_size(written.kept)}, wrote nothing")
        else:
            print(f"kept {show_size(written.kept)}, " * (written.kept > 0) + f"wrote {show_size(written.written)}")
    return 0


# What the messages of functions call arguments.
_OPTIONS = {
    "resume=True": "--resume",
    "force=True": "--force",
    "clean()": "the command clean",
    "tensors must be given": "--shape, --scheme, --name and so on, or --recipe, must be given",
}


def _read_ranks(options: argparse.Namespace, tensors: tuple[TensorSpec, ...] | None) -> tuple[int, int]:
    """Which part of a folder to write, by the options or the environment; all of a single file."""
    given = options.rank is not None or options.world_size is not None
    if given and (options.rank is None or options.world_size is None):
        raise ValueError("--rank and --world-size must be given together")
    kind = _format_of(options)
    if kind not in _FOLDERS:
        if given:
            raise ValueError(f"--rank and --world-size are for a folder, and {options.file} is one file: use --rows")
        _, world_size = _ranks_of_environment(os.environ)
        is_continued = tensors is None and options.resume  # which knows its rows
        if world_size > 1 and kind and options.rows is None and not is_continued:
            raise ValueError(
                f"WORLD_SIZE is {world_size}, and {options.file} is one file: give a folder with --format dcp or hf, "
                "or --rows"
            )
        return 0, 1
    rank, world_size = (options.rank, options.world_size) if given else _ranks_of_environment(os.environ)
    if not 0 <= rank < world_size:
        raise ValueError(f"--rank must be in [0, world size) = [0, {world_size}), got {rank}")
    return rank, world_size


_FOLDERS = ("hf", "dcp")


def _format_of(options: argparse.Namespace) -> str:
    """The format that is asked for; empty if there is none of that name, which `write` says."""
    from winit_fast.files.plans import FORMATS, format_of

    try:
        kind = options.format or format_of(options.file)
    except ValueError:
        return ""
    return kind if kind in FORMATS else ""


def _ranks_of_environment(environment: Mapping[str, str]) -> tuple[int, int]:
    found = [environment.get(name) for name in ("RANK", "WORLD_SIZE")]
    if None in found:
        return 0, 1
    try:
        rank, world_size = (int(str(text)) for text in found)
    except ValueError:
        raise ValueError(
            f"RANK and WORLD_SIZE of the environment must be integers, got {found[0]!r} and {found[1]!r}"
        ) from None
    return rank, world_size


def _explain_rest(options: argparse.Namespace) -> str:
    """What is kept of an unfinished file, and the command that goes on with it."""
    if _format_of(options) in _FOLDERS:
        again = [*options.given, *([] if options.resume else ["--resume"])]
        rank, world_size = _ranks_of_environment(os.environ)
        if options.rank is None and world_size > 1:  # the shell that continues it may have no such environment
            again += ["--rank", str(rank), "--world-size", str(world_size)]
    elif is_unfinished(options.file):
        again = ["fill", options.file, "--resume"]
        again += [] if options.memory == "256MiB" else ["--memory", options.memory]
        again += [] if options.threads is None else ["--threads", str(options.threads)]
    else:
        return "nothing was written that could be kept"
    return f"continue with: {join_words([*options.program.split(), *again])}"
