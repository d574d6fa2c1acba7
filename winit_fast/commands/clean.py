"""Remove what interrupted writes of a file have left, or of the files of a folder. Files that are complete stay."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the file that was to be written, or the folder")


def run(options: argparse.Namespace) -> int:
    """Remove the partial files, and say which; return 0."""
    from winit_fast.files import clean

    removed = clean(options.file)
    for path in removed:
        print(f"removed {path}")
    if not removed:
        print(f"nothing to remove at {options.file}")
    return 0
