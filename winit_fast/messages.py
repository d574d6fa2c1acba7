"""What error messages share: values in short form, and integers checked in the same way everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from itertools import islice
from operator import index
from typing import Any

import numpy as np

__all__ = [
    "BOOLS",
    "NO_SEQUENCES",
    "as_int",
    "as_members",
    "as_rank",
    "as_sizes",
    "class_name",
    "describe_missing",
    "library_of",
    "quote",
    "reason_of",
    "roots_of",
    "shorten",
]


def quote(value: object) -> str:
    """The repr of a value, cut short. Only what is shown is computed. If the repr raises, the type is named instead."""
    text = ""
    try:
        for piece in _pieces(value):
            text += piece
            if len(text) > _LONGEST:
                break
    except Exception:  # from the repr of a caller's class, or from lists nested too deep
        text = f"an object of {class_name(value)}"
    return shorten(text)


def describe_missing(user: str, package: str, extra: str) -> str:
    """What a package that is not installed is needed for, the extra of pyproject.toml that has it, and the remedy."""
    return f"{user} needs {package}, of the extra [{extra}]: pip install {package}"


def class_name(value: object) -> str:
    """The name of a value's class, even if its metaclass hides it."""
    name: str = _NAME(type(value))
    return name


_NAME, _MODULE, _BASES = (type.__dict__[name].__get__ for name in ("__name__", "__module__", "__mro__"))


def _pieces(value: object) -> Iterator[str]:
    """The repr, piece by piece: that of a nested list, or of one that contains itself, may never end."""
    kind = type(value)
    if isinstance(value, int) and value.bit_length() > _LONGEST_INT:  # Python refuses to print much longer ones
        yield f"a very long {class_name(value)}"
    elif kind in (str, bytes):
        yield repr(value[: _LONGEST + 1])  # type: ignore[index]
    elif kind in _BRACKETS and value:
        opening, closing = _BRACKETS[kind]
        yield opening
        for index, member in enumerate(value):  # type: ignore[arg-type, var-annotated]
            yield ", " if index else ""
            yield from _pieces(member)
            if kind is dict:
                yield ": "
                yield from _pieces(value[member])  # type: ignore[index]
        yield ",)" if kind is tuple and len(value) == 1 else closing  # type: ignore[arg-type]
    else:
        yield "".join([repr(value)])  # a plain str, even if the repr is of a caller's class


_LONGEST = 80
_LONGEST_INT = 1 << 14  # bits
_BRACKETS: dict[type, tuple[str, str]] = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), dict: ("{", "}")}


def shorten(text: str) -> str:
    """A text as it is, cut short."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def reason_of(error: BaseException) -> str:
    """What an error says, without the number that the system has for it in front."""
    text = str(error)
    return (
        text.partition("] ")[2] if isinstance(error, OSError) and text.startswith(("[Errno ", "[WinError ")) else text
    )


def library_of(value: object) -> str:
    """The library that a value comes from, if it has an adapter; else empty."""
    roots = roots_of(value)
    aliases = {"jaxlib": "jax"}
    return next((aliases.get(root, root) for root in _LIBRARIES if root in roots), "")


def roots_of(value: object) -> set[str]:
    """The packages that the class of a value and its bases come from, by their own word."""
    roots = set()
    for base in _BASES(type(value)):
        with suppress(AttributeError):
            module = _MODULE(base)
            roots.add(str.partition(module, ".")[0] if isinstance(module, str) else "")
    return roots


# Keras first: its variables are another library's too.
_LIBRARIES = ("keras", "torch", "tensorflow", "jax", "jaxlib")


def as_int(argument: str, value: object, needed: str = "an int") -> int:
    """The integer that a caller gave for `argument`; a bool is refused."""
    if type(value) is int:
        return value
    if not isinstance(value, BOOLS):
        try:
            return index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{argument} must be {needed}, got {quote(value)}")


def as_rank(rank: object, world_size: object) -> tuple[int, int]:
    """Which of how many processes a caller is."""
    count, own = as_int("world_size", world_size), as_int("rank", rank)
    if count < 1:
        raise ValueError(f"world_size must be 1 or more, got {quote(world_size)}")
    if not 0 <= own < count:
        raise ValueError(f"rank must be in [0, world_size) = [0, {quote(count)}), got {quote(rank)}")
    return own, count


#: NumPy's counts as an integer before 2.3.
BOOLS = (bool, np.bool_)


def as_members(argument: str, values: object, needed: str = "a sequence of int") -> list[Any]:
    """The members of the sequence that a caller gave for `argument`: in order, and not endless.

    Iterators are refused, as by NumPy: they may never end, and a second look finds them empty.
    """
    count = -1
    if not isinstance(values, NO_SEQUENCES) and getattr(values, "ndim", 1) == 1:
        with suppress(TypeError):
            iter(values)  # type: ignore[call-overload]
            count = _length(values)
    if count < 0:
        raise TypeError(f"{argument} must be {needed}, got {quote(values)}")
    # Counted again: a length may be wrong.
    members = list(islice(values, _MOST_MEMBERS + 1)) if count <= _MOST_MEMBERS else []  # type: ignore[call-overload]
    if max(count, len(members)) > _MOST_MEMBERS:
        raise ValueError(f"{argument} must have at most {_MOST_MEMBERS} members, got {quote(values)}")
    return members


def _length(values: object) -> int:
    try:
        return len(values)  # type: ignore[arg-type]
    except OverflowError:  # a range may be longer than any list
        return sys.maxsize
    except ValueError:  # below 0
        return -1


#: Types that can be iterated but are not sequences of numbers: texts, and collections without an order.
NO_SEQUENCES = (str, bytes, bytearray, Set, Mapping)

# More axes than any array has.
_MOST_MEMBERS = 1 << 16


def as_sizes(argument: str, values: object) -> tuple[int, ...]:
    """The integers >= 0, one for each axis, that a caller gave for `argument`."""
    members = as_members(argument, values)
    sizes = tuple(as_int(f"{argument}[{axis}]", value) for axis, value in enumerate(members))
    if any(size < 0 for size in sizes):
        raise ValueError(f"{argument} must not be negative, got {quote(sizes)}")
    return sizes
