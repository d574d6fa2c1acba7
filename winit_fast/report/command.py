"""Push signals through deep stacks of layers: which initialization vanishes, explodes or is stable.

Prints one row for each scheme, and draws a picture. The picture never replaces a file, unless ``--force`` is given.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from winit_fast.publish import PartialFile
from winit_fast.recommend import recommend
from winit_fast.registry import read_scheme
from winit_fast.report.activations import ACTIVATIONS
from winit_fast.report.drawing import check_picture, draw
from winit_fast.report.propagation import DEFAULT_SCHEMES, propagate
from winit_fast.report.reports import Report

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--activation", choices=ACTIVATIONS, default="relu", help="default: relu")
    parser.add_argument("--depth", type=int, default=50, metavar="N", help="layers (default: 50)")
    parser.add_argument("--width", type=int, default=512, metavar="N", help="units of each layer (default: 512)")
    parser.add_argument(
        "--schemes", nargs="+", action="extend", metavar="TEXT",
        help='such as he_normal "normal(std=0.02)"; may be repeated '
        f"(default: {', '.join(DEFAULT_SCHEMES)} and what is recommended for the activation)",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, metavar="N", help="inputs (default: 128, or 8 with --convolution)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--residual", action="store_true", help="layers add their outputs to their inputs")
    parser.add_argument("--convolution", type=int, metavar="K", help="circular convolutions with a kernel of size K")
    picture = parser.add_mutually_exclusive_group()
    picture.add_argument(
        "--picture", type=Path, metavar="FILE",
        help="a new .png or .svg file (default: report-ACTIVATION-DEPTHxWIDTH...svg in this folder; no picture if that "
        "file exists)",
    )  # fmt: skip
    picture.add_argument("--no-picture", action="store_true", help="print the table only")
    parser.add_argument(
        "--force", action="store_true", help="replace an existing picture, once the new one is complete"
    )


def _format_advice(report: Report) -> str:
    """Say what is recommended for such a stack, and how it did."""
    wanted, kind = str(recommend(report.activation).scheme), "plain"
    reason = recommend(report.activation).reason
    if report.residual:
        wanted, kind = f"fixup(layers={report.depth})", "residual"
        reason = "Zhang, Dauphin and Ma 2019 (arXiv:1901.09321) scale He's weights by the number of branches."
    verdicts = [one.verdict for one in report.propagations if read_scheme(one.scheme) == read_scheme(wanted)]
    here = f" (here: {verdicts[0]})" if verdicts else ""
    advice = f"recommended for {kind} stacks of {report.activation}{here}: {wanted}: {reason}"
    if verdicts and verdicts[0].findings:
        advice += "\nweights alone are not enough at this depth: normalize signals, or use another activation"
    return advice


def _name_picture(options: argparse.Namespace) -> str:
    """Name a picture after its contents."""
    words = [f"report-{options.activation}-{options.depth}x{options.width}"]
    words += ["residual"] * options.residual
    words += [] if options.convolution is None else [f"convolution{options.convolution}"]
    words += [] if options.seed == 0 else [f"seed{options.seed}"]
    return "-".join(words) + ".svg"


def _refuse_picture(picture: Path, force: bool) -> None:
    """Refuse a picture that cannot be drawn or written, before anything is computed."""
    check_picture(picture)
    if picture.is_file() and not force:
        raise FileExistsError(f"{picture} exists already; --force replaces it")
    PartialFile(picture, overwrite=force)


def run(options: argparse.Namespace) -> int:
    """Print the table and draw the picture; return 0."""
    picture, reason = options.picture, ""
    if picture is not None:
        _refuse_picture(picture, options.force)
    elif not options.no_picture:
        picture = Path(_name_picture(options))
        try:
            _refuse_picture(picture, options.force)
        except (ModuleNotFoundError, OSError) as error:  # the table needs only NumPy, and no file
            picture, reason = None, str(error)
    report = propagate(
        options.schemes, options.activation, depth=options.depth, width=options.width,
        batch=options.batch, seed=options.seed, residual=options.residual, convolution=options.convolution,
    )  # fmt: skip
    print(report)
    print(_format_advice(report))
    if picture is not None:
        draw(report, picture, overwrite=options.force)
        print(f"picture: {picture}")
    elif reason:
        print(f"no picture: {reason}")
    return 0
