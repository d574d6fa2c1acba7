"""Compare a file, the files of a folder, or a Zarr array with what they should hold, in bounded memory.

What that is stands in the files themselves, or is given by the options that fill takes. The status is 0 if all is as it
should be, 1 if not, and 2 if that cannot be found out.
"""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from typing import TYPE_CHECKING

from winit_fast.commands.running import add_running_arguments, is_unfinished, join_words, show_progress
from winit_fast.commands.tensors import add_tensor_arguments, integer_from, read_tensors, rows_of, say_option
from winit_fast.files.sizes import show_size
from winit_fast.files.verdicts import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from winit_fast.files import Recipe, Verdict

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("file", metavar="FILE", help="the file, the folder or the Zarr array")
    add_tensor_arguments(parser)
    group = parser.add_argument_group("the file")
    group.add_argument("--sample", type=integer_from(1), metavar="N", help="compare only some N values of each tensor")
    group.add_argument("--rows", type=rows_of, metavar="A:B", help="those that an .npy or .raw file was written with")
    add_running_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print what differs; return 0 if nothing does, else 1."""
    asked = read_tensors(options)
    from winit_fast.files import Recipe

    recipe = None if asked.tensors is None else Recipe(asked.tensors, asked.seed)
    is_zarr = any(os.path.isfile(os.path.join(options.file, name)) for name in ("zarr.json", ".zarray"))
    if not is_zarr:
        _refuse_unfinished(options, has_recipe=asked.tensors is not None)
    verdict = (_verify_zarr if is_zarr else _verify_files)(options, recipe)
    for difference in verdict.differences:
        place = difference.path.as_posix() if is_zarr else difference.path.name
        print(f"{difference}" + f" in {printable(place)}" * os.path.isdir(options.file))
    for what in verdict.missing:
        print("missing:", what)
    for what in verdict.overlapping:
        print("in more than one file:", what)
    for what in verdict.strays:
        print("does not belong here:", what)
    for what in verdict.leftovers if not options.quiet else ():
        print("left over:", what)
    if verdict.is_right and not options.quiet:
        some = "" if options.sample is None else "a sample of "
        outcome = "all of it is as it should be" if options.sample is None else "no difference in the sample"
        print(f"compared {some}{show_size(verdict.checked_bytes)}: {outcome}")
    return 0 if verdict.is_right else 1


def _refuse_unfinished(options: argparse.Namespace, *, has_recipe: bool) -> None:
    """Say what is there of a file that has no name yet, or of a folder, which no recipe can be read from."""
    file = options.file
    if file and not os.path.lexists(file) and is_unfinished(file):
        again = join_words([*options.program.split(), "fill", file, "--resume"])
        raise ValueError(f"{file} is unfinished; continue with: {again}")
    if os.path.isdir(file) and not has_recipe:
        names = sorted(os.listdir(file))
        partial = next((name for name in names if name.endswith(".partial")), None)
        if partial is not None and not any(name.endswith(".safetensors") for name in names):
            raise ValueError(
                f"{file} has unfinished files alone, such as {printable(partial)}: continue with the command that "
                "began them, and --resume"
            )


def _verify_files(options: argparse.Namespace, recipe: Recipe | None) -> Verdict:
    from winit_fast.files import verify

    try:
        with show_progress(options) as progress:
            return verify(
                options.file, recipe=recipe, sample=options.sample, rows=options.rows, memory=options.memory,
                threads=options.threads, progress=progress,
            )  # fmt: skip
    except ValueError as error:
        options_needed = "--shape, --scheme, --name and so on, or --recipe, must be given"
        raise ValueError(say_option(str(error).replace("recipe must be given", options_needed))) from None


def _verify_zarr(options: argparse.Namespace, recipe: Recipe | None) -> Verdict:
    for what, value in {"--shape and --recipe": recipe, "--sample": options.sample, "--rows": options.rows}.items():
        if value is not None:
            raise ValueError(
                f"{what} cannot be used with {options.file}: it is a Zarr array, all of which is compared with the "
                "recipe that it records"
            )
    verify: Callable[..., Verdict] = import_module("winit_fast.adapters.zarr").verify
    return verify(options.file, threads=options.threads)
