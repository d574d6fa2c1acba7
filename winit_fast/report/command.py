"""Push signals through deep stacks of layers: which initialization vanishes, explodes or is stable.

Prints a table, one row a scheme, and draws a picture where one is asked for.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from winit_fast.recommend import recommend
from winit_fast.report.activations import ACTIVATIONS
from winit_fast.report.drawing import check_picture, draw
from winit_fast.report.propagation import DEFAULT_SCHEMES, propagate

__all__ = ["NAME", "add_arguments", "run"]

NAME = "report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--activation", choices=ACTIVATIONS, default="relu", help="default: relu")
    parser.add_argument("--depth", type=int, default=50, metavar="N", help="layers (default: 50)")
    parser.add_argument("--width", type=int, default=512, metavar="N", help="units of each layer (default: 512)")
    parser.add_argument(
        "--schemes", nargs="+", action="extend", metavar="TEXT",
        help=f'such as he_normal "normal(std=0.02)"; may be repeated (default: {", ".join(DEFAULT_SCHEMES)})',
    )  # fmt: skip
    parser.add_argument("--batch", type=int, metavar="N", help="inputs (default: 128, or 8 with --convolution)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--residual", action="store_true", help="layers add what they compute to their inputs")
    parser.add_argument("--convolution", type=int, metavar="K", help="circular convolutions with a kernel of size K")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw it, as .png or .svg")


def run(options: argparse.Namespace) -> int:
    """Print the table, draw the picture; 0."""
    if options.picture is not None:
        check_picture(options.picture)
    report = propagate(
        options.schemes or DEFAULT_SCHEMES, options.activation, depth=options.depth, width=options.width,
        batch=options.batch, seed=options.seed, residual=options.residual, convolution=options.convolution,
    )  # fmt: skip
    print(report)
    print(f"recommended for {options.activation}: {recommend(options.activation)}")
    if options.picture is not None:
        draw(report, options.picture)
        print(f"picture: {options.picture}")
    return 0
