"""What error messages share: values shown in short, and integers checked alike everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from operator import index

__all__ = ["as_int", "as_sizes", "library_of", "shown", "shown_word"]


def shown(value: object) -> str:
    """Repr, shortened; a very long int has none."""
    try:
        text = repr(value)
    except ValueError:
        return f"a very long {type(value).__name__}"
    return shown_word(text)


def shown_word(text: str) -> str:
    """A text as it is, shortened."""
    return text if len(text) <= 80 else f"{text[:77]}..."


def library_of(value: object) -> str:
    """The name of the library that a value comes from, among those with an adapter; empty for others."""
    roots = {base.__module__.partition(".")[0] for base in type(value).__mro__}
    aliases = {"jaxlib": "jax"}
    return next((aliases.get(root, root) for root in _LIBRARIES if root in roots), "")


# A Keras variable is one of another library too.
_LIBRARIES = ("keras", "torch", "tensorflow", "jax", "jaxlib")


def as_int(argument: str, value: object, needed: str = "an int") -> int:
    """The integer that a caller gave for `argument`; a bool is none."""
    if type(value) is int:
        return value
    if not isinstance(value, bool):
        try:
            return index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{argument} must be {needed}, got {shown(value)}")


def as_sizes(argument: str, values: object) -> tuple[int, ...]:
    """The integers >= 0, one for each axis, that a caller gave for `argument`."""
    is_unordered = isinstance(values, str | bytes | bytearray | Set | Mapping)
    if is_unordered or not isinstance(values, Iterable) or getattr(values, "ndim", 1) != 1:
        raise TypeError(f"{argument} must be a sequence of int, got {shown(values)}")
    sizes = tuple(as_int(f"{argument}[{axis}]", value) for axis, value in enumerate(values))
    if any(size < 0 for size in sizes):
        raise ValueError(f"{argument} must not be negative, got {shown(sizes)}")
    return sizes
