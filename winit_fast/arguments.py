"""Kinds of arguments of schemes: each takes the name and the value of an argument, and returns the value to keep.

A value that cannot be used raises an error that names the argument, the value and what is needed.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, TypeAlias

from winit_fast._plan import MOST_AXES
from winit_fast.messages import as_int, quote

__all__ = [
    "MOST_AXES",
    "MOST_VALUES",
    "Value",
    "did_you_mean",
    "finite",
    "gate_order",
    "leaves_of_array",
    "lower_bound",
    "nearest_word",
    "not_negative",
    "numbers_of_array",
    "one_of",
    "optional",
    "proportion",
    "shape_of_array",
    "upper_bound",
    "whole_from",
]

Value: TypeAlias = "float | int | str | tuple[Value, ...] | None"


def _number(argument: str, value: Any) -> float:
    scalar = value.item() if getattr(value, "ndim", None) == 0 else value  # of NumPy, ml_dtypes or a framework
    if isinstance(scalar, bool) or not isinstance(scalar, numbers.Real):
        raise TypeError(f"{argument} must be a number, got {quote(value)}")
    try:
        number = float(scalar)
    except OverflowError:
        raise ValueError(f"{argument} must be within the range of float64, got {quote(value)}") from None
    if math.isnan(number):
        raise ValueError(f"{argument} must be a number, got nan")
    return number


def finite(argument: str, value: Any) -> float:
    """Any finite number."""
    number = _number(argument, value)
    if math.isinf(number):
        raise ValueError(f"{argument} must be finite, got {number}")
    return number


def not_negative(argument: str, value: Any) -> float:
    """A finite number >= 0."""
    number = finite(argument, value)
    if number < 0.0:
        raise ValueError(f"{argument} must be >= 0, got {number}")
    return abs(number)


def proportion(argument: str, value: Any) -> float:
    """A number in [0, 1]."""
    number = finite(argument, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{argument} must be in [0, 1], got {number}")
    return abs(number)


def whole_from(smallest: int) -> Callable[[str, Any], int]:
    """An int from `smallest` up to 2^31, not included."""

    def check(argument: str, value: Any) -> int:
        needed = f"an int in [{smallest}, 2^31)"
        whole = as_int(argument, value, needed)
        if not smallest <= whole < 1 << 31:
            raise ValueError(f"{argument} must be {needed}, got {quote(value)}")
        return whole

    return check


def gate_order(argument: str, value: Any) -> str:
    """The four gates of an LSTM in some order: i, f, g (also called c) and o."""
    needed = "the letters i, f, g (or c) and o in some order, such as 'ifgo'"
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be {needed}, got {quote(value)}")
    order = str(value).replace("c", "g")
    if sorted(order) != sorted("ifgo"):
        raise ValueError(f"{argument} must be {needed}, got {quote(value)}")
    return order


def numbers_of_array(argument: str, value: Any) -> tuple[Value, ...]:
    """Finite numbers, one or more, nested to a rectangle: a list, a tuple or an array."""
    if getattr(value, "size", 0) > MOST_VALUES:
        raise ValueError(f"{argument} must be at most {MOST_VALUES} numbers, got {value.size}")
    nested = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(nested, list | tuple):
        raise TypeError(f"{argument} must be an array or a nested list of numbers, got {quote(value)}")
    return _read_nested(argument, nested, 1, count())


def _read_nested(argument: str, value: Any, depth: int, met: count[int]) -> tuple[Value, ...]:
    if depth > MOST_AXES:
        raise ValueError(f"{argument} must have at most {MOST_AXES} axes, got lists nested deeper")
    if len(value) > MOST_VALUES:
        raise ValueError(f"{argument} must be at most {MOST_VALUES} numbers, got {len(value)}")

    def number(member: Any) -> float:
        if next(met) >= MOST_VALUES:  # at once: lists that hold each other may have no end
            raise ValueError(f"{argument} must be at most {MOST_VALUES} numbers, got more")
        return finite(argument, member)

    read: tuple[Value, ...] = tuple(
        _read_nested(argument, member, depth + 1, met) if isinstance(member, list | tuple) else number(member)
        for member in value
    )
    if not read or len({shape_of_array(member) for member in read}) > 1:
        raise ValueError(f"{argument} must be a rectangle of at least one number, got {quote(value)}")
    return read


def shape_of_array(nested: Value) -> tuple[int, ...]:
    """The shape of what `numbers_of_array` returns."""
    return (len(nested), *shape_of_array(nested[0])) if isinstance(nested, tuple) else ()


def leaves_of_array(nested: Value) -> tuple[float, ...]:
    """The numbers of what `numbers_of_array` returns, in row-major order."""
    if isinstance(nested, tuple):
        return tuple(number for member in nested for number in leaves_of_array(member))
    return (float(nested),)  # type: ignore[arg-type]


def lower_bound(argument: str, value: Any) -> float:
    """Where a normal is cut below, in standard deviations."""
    number = _number(argument, value)
    if number > _FARTHEST:
        raise ValueError(f"{argument} must be <= {_FARTHEST:g} standard deviations, got {number}")
    return number


def upper_bound(argument: str, value: Any) -> float:
    """Where a normal is cut above, in standard deviations."""
    number = _number(argument, value)
    if number < -_FARTHEST:
        raise ValueError(f"{argument} must be >= {-_FARTHEST:g} standard deviations, got {number}")
    return number


def one_of(*choices: str) -> Callable[[str, Any], str]:
    """One of these words."""

    def check(argument: str, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(f"{argument} must be a str, got {quote(value)}")
        if value not in choices:
            close = nearest_word(value, choices)
            hint = f"did you mean {close!r}? It" if close else "it"
            raise ValueError(f"{argument} {quote(value)} is unknown; {hint} must be one of {', '.join(choices)}")
        return str(value)

    return check


def optional(check: Callable[[str, Any], Value]) -> Callable[[str, Any], Value]:
    """None, or what `check` takes."""
    return lambda argument, value: None if value is None else check(argument, value)


# In the text of a scheme. Larger arrays are better copied by NumPy.
MOST_VALUES = 1 << 16

# N(0, 1) has a probability of 6e-300 beyond 37 standard deviations; much farther out it is no float64.
_FARTHEST = 37.0


# Longer than any known word; difflib would read all of it.
_LONGEST_WORD = 1000


def did_you_mean(word: str, known: Sequence[str] | Mapping[str, object]) -> str:
    """A hint for a word that is not known."""
    close = nearest_word(word, known)
    return f"did you mean {close!r}?" if close else f"it must be one of {', '.join(known)}"


def nearest_word(word: str, known: Sequence[str] | Mapping[str, object]) -> str | None:
    """The known word most like this one, or None."""
    if len(word) > _LONGEST_WORD:
        return None
    from difflib import get_close_matches  # 2 ms, and only ever needed for a misspelt word

    return next(iter(get_close_matches(word.lower(), known, n=1)), None)
