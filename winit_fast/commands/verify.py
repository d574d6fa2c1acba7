"""Compare a file, or the files of a folder, with what they should hold, in bounded memory.

What that is stands in the files themselves, or is given by the options that fill takes. The status is 0 if all is as it
should be, 1 if not, and 2 if that cannot be found out.
"""

from __future__ import annotations

import argparse

from winit_fast.commands.running import add_running_arguments, show_progress
from winit_fast.commands.tensors import add_tensor_arguments, integer_from, read_tensors

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("file", metavar="FILE", help="the file or the folder")
    add_tensor_arguments(parser)
    parser.add_argument("--sample", type=integer_from(1), metavar="N", help="compare some N values of each tensor only")
    add_running_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print what differs; return 0 if nothing does, else 1."""
    raise NotImplementedError
