"""Options that say what is in a file: one tensor by flags, or many by a recipe, or as a model has them."""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from winit_fast.element_types import ELEMENT_TYPES

if TYPE_CHECKING:
    from winit_fast.files import TensorSpec

__all__ = [
    "Asked",
    "add_tensor_arguments",
    "dtype_name",
    "integer_from",
    "read_tensors",
    "refuse_without_tensors",
    "rows_of",
    "say_option",
]


class Asked(NamedTuple):
    """What the options say of the tensors; `tensors` is None if they say nothing."""

    tensors: tuple[TensorSpec, ...] | None
    seed: int | None


def add_tensor_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    one = parser.add_argument_group("one tensor")
    one.add_argument("--shape", type=_shape, metavar="ROWSxCOLUMNS", help="such as 40000000x128")
    one.add_argument("--scheme", metavar="TEXT", help='such as "normal(std=0.01)"; see the command schemes')
    one.add_argument("--name", metavar="TEXT", help="its name in the file, and that of its stream")
    one.add_argument("--padding-idx", type=int, metavar="ROW", help="the row of padding, which is 0")
    one.add_argument("--in-axis", type=_axes, metavar="AXES", help="axes of the inputs, such as 0 or 0,1")
    one.add_argument("--out-axis", type=_axes, metavar="AXES", help="axes of the outputs")
    many = parser.add_argument_group("many tensors")
    many.add_argument("--recipe", metavar="FILE", help="JSON, or TOML: tensors, rules, seed")
    many.add_argument(
        "--like", metavar="MODEL",
        help="names, shapes and types of a safetensors file, an index or a folder with one; rules give the schemes",
    )  # fmt: skip
    many.add_argument(
        "--rule", nargs=2, action="append", default=[], metavar=("GLOB", "SCHEME"),
        help="the scheme of tensors whose name matches, before the rules of the recipe; the first that matches takes a "
        'tensor, and the scheme "none" leaves it out; may be repeated',
    )  # fmt: skip
    both = parser.add_argument_group("one or many")
    both.add_argument("--seed", type=integer_from(0), metavar="N", help="default: that of the recipe")
    both.add_argument(
        "--dtype", type=dtype_name, choices=ELEMENT_TYPES, metavar="TYPE",
        help=f"one of {', '.join(ELEMENT_TYPES)} (default: that of the recipe or of the model, or float32)",
    )  # fmt: skip
    both.add_argument(
        "--layout", choices=("torch", "numpy"),
        help="the axes of matrices and kernels that say none: (out, in, *kernel) or (*kernel, in, out) "
        "(default: torch with --like, else numpy)",
    )  # fmt: skip


def read_tensors(options: argparse.Namespace) -> Asked:
    """The tensors that the options ask for.

    Raises
    ------
    TypeError, ValueError, OSError, ImportError
        If options cannot be used together or alone, or a file of them cannot be read.
    """
    from winit_fast.files import read_recipe
    from winit_fast.files.recipes import make_specs

    single = {
        "--shape": options.shape, "--scheme": options.scheme, "--name": options.name,
        "--padding-idx": options.padding_idx, "--in-axis": options.in_axis, "--out-axis": options.out_axis,
    }  # fmt: skip
    given = [flag for flag, value in single.items() if value is not None]
    many = [flag for flag in ("--recipe", "--like", "--rule") if getattr(options, flag[2:]) not in (None, [])]
    if given and many:
        raise ValueError(f"{given[0]} says what one tensor is, and cannot be used with {many[0]}")
    if many == ["--rule"]:
        raise ValueError("--rule needs the names of tensors: --recipe or --like")
    if not many and not given:
        refuse_without_tensors(options, "--seed", "--dtype", "--layout")
        return Asked(None, None)
    if not many:
        missing = [flag for flag in ("--shape", "--scheme", "--name") if single[flag] is None]
        if missing:
            raise ValueError(
                f"{' and '.join(missing)} must be given, too: one tensor needs --shape, --scheme and --name"
            )
        tensor = {flag[2:].replace("-", "_"): value for flag, value in single.items() if value is not None}
        layout = options.layout or "numpy"
        return Asked(make_specs([tensor], dtype=options.dtype or "float32", layout=layout), options.seed)
    rules: dict[str, str] = {}
    for name, scheme in options.rule:
        rules.setdefault(name, scheme)  # the first takes what both match
    try:
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("ignore")  # those of libraries that this imports
            warnings.simplefilter("always", UserWarning)
            recipe = read_recipe(
                options.recipe, like=options.like, rules=rules, seed=options.seed, dtype=options.dtype,
                layout=options.layout,
            )  # fmt: skip
    except (TypeError, ValueError) as error:
        text = str(error).replace("unless like gives", "unless --like gives")
        text = re.sub(r"; rules=\{(.*): None\} leaves it out$", r"; --rule \1 none leaves it out", text)
        raise ValueError(say_option(text.replace("path must be a name", "--recipe must be a name"))) from None
    for note in noted if not options.quiet else ():
        print(f"note: {note.message}", file=sys.stderr)
    return Asked(recipe.tensors, recipe.seed)


def refuse_without_tensors(options: argparse.Namespace, *flags: str) -> None:
    """Refuse options that say something of tensors, where no tensor is given."""
    for flag in flags:
        if getattr(options, flag[2:].replace("-", "_")) is not None:
            raise ValueError(f"{flag} needs a tensor: --shape, --scheme and --name, or --recipe, or --like")


def say_option(text: str) -> str:
    """A message that begins with an argument of a function, which the command has as an option."""
    argument, verb, rest = (*text.split(" ", 2), "", "")[:3]
    if argument not in _ARGUMENTS or verb not in ("is", "must", "takes"):
        return text
    return f"--{argument.replace('_', '-')} {verb} {rest}"


_ARGUMENTS = ("format", "like", "max_file_size", "memory", "rows", "seed", "threads")


def integer_from(least: int) -> Callable[[str], int]:
    """Reads an option that is an integer, and not less."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be an int >= {least}, got {value}")
        return value

    return integer


def dtype_name(text: str) -> str:
    """Reads an option that is a dtype; what is none of the choices, and near none, is for them to refuse."""
    from winit_fast.memory import nearest_type

    if text not in ELEMENT_TYPES and (close := nearest_type(text)):
        raise argparse.ArgumentTypeError(f"invalid choice: {text!r}; did you mean {close}?")
    return text


def rows_of(text: str) -> tuple[int, int]:
    """Reads an option that is a range of rows."""
    first, colon, last = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return int(first), int(last)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be two numbers of rows such as 0:1000, got {text!r}") from None


def _shape(text: str) -> tuple[int, ...]:
    plain = text.strip().removeprefix("(").removesuffix(")").rstrip(",")
    try:
        return tuple(int(size) for size in plain.replace("x", ",").split(",")) if plain else ()
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be sizes such as 40000000x128, got {text!r}") from None


def _axes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(axis) for axis in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be axes such as 0 or 0,1, got {text!r}") from None
