"""Compare a file, or the files of a folder, with what they should hold, in bounded memory.

What that is stands in the files themselves, or is given by the options that fill takes. The status is 0 if all is as it
should be, 1 if not, and 2 if that cannot be found out.
"""

from __future__ import annotations

import argparse

from winit_fast.commands.running import add_running_arguments, show_progress
from winit_fast.commands.tensors import add_tensor_arguments, integer_from, read_tensors
from winit_fast.files.sizes import show_size

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("file", metavar="FILE", help="the file or the folder")
    add_tensor_arguments(parser)
    parser.add_argument("--sample", type=integer_from(1), metavar="N", help="compare some N values of each tensor only")
    add_running_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print what differs; return 0 if nothing does, else 1."""
    asked = read_tensors(options)
    from winit_fast.files import Recipe, verify

    recipe = None if asked.tensors is None else Recipe(asked.tensors, asked.seed)
    with show_progress(options) as progress:
        verdict = verify(
            options.file, recipe=recipe, sample=options.sample, memory=options.memory, threads=options.threads,
            progress=progress,
        )  # fmt: skip
    lines = [f"{one.tensor} {one.index}: found {one.found}, expected {one.expected}" for one in verdict.differences]
    lines += [f"missing: {what}" for what in verdict.missing]
    lines += [f"does not belong here: {what}" for what in verdict.strays]
    for line in lines:
        print(line)
    if not (lines or options.quiet):
        print(f"{show_size(verdict.checked_bytes)} compared, and all are as they should be")
    return 1 if lines else 0
