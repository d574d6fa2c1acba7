"""What error messages share: values shown in short, and integers checked alike everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from itertools import islice
from operator import index
from typing import Any

__all__ = [
    "NO_SEQUENCES",
    "as_int",
    "as_members",
    "as_sizes",
    "class_name",
    "library_of",
    "roots_of",
    "shown",
    "shown_word",
]


def shown(value: object) -> str:
    """Repr, shortened; no more of it is made than is shown, and a value that has none is named by its type."""
    text = ""
    try:
        for piece in _pieces(value):
            text += piece
            if len(text) > _LONGEST:
                break
    except Exception:  # whatever the repr of a caller's class raises, or lists of such a class nested too deep
        text = f"an object of {class_name(value)}"
    return shown_word(text)


def class_name(value: object) -> str:
    """The name of a value's class, whatever the class of that class says of it."""
    name: str = _NAME(type(value))
    return name


_NAME, _MODULE, _BASES = (type.__dict__[name].__get__ for name in ("__name__", "__module__", "__mro__"))


def _pieces(value: object) -> Iterator[str]:
    """Repr, piece after piece: a nested list, or one that contains itself, has no end that anybody would wait for."""
    kind = type(value)
    if isinstance(value, int) and value.bit_length() > _LONGEST_INT:  # Python prints none that is much longer
        yield f"a very long {class_name(value)}"
    elif kind in (str, bytes):
        yield repr(value[: _LONGEST + 1])  # type: ignore[index]
    elif kind in _BRACKETS and value:
        opening, closing = _BRACKETS[kind]
        yield opening
        for place, member in enumerate(value):  # type: ignore[arg-type, var-annotated]
            yield ", " if place else ""
            yield from _pieces(member)
            if kind is dict:
                yield ": "
                yield from _pieces(value[member])  # type: ignore[index]
        yield ",)" if kind is tuple and len(value) == 1 else closing  # type: ignore[arg-type]
    else:
        yield "".join([repr(value)])  # of a str that may be of a caller's class, a plain one


_LONGEST = 80
_LONGEST_INT = 1 << 14  # bits
_BRACKETS: dict[type, tuple[str, str]] = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), dict: ("{", "}")}


def shown_word(text: str) -> str:
    """A text as it is, shortened."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def library_of(value: object) -> str:
    """The name of the library that a value comes from, among those with an adapter; empty for others."""
    roots = roots_of(value)
    aliases = {"jaxlib": "jax"}
    return next((aliases.get(root, root) for root in _LIBRARIES if root in roots), "")


def roots_of(value: object) -> set[str]:
    """The packages that the class of a value and those that it is made of say they come from."""
    roots = set()
    for base in _BASES(type(value)):
        with suppress(AttributeError):
            module = _MODULE(base)
            roots.add(str.partition(module, ".")[0] if isinstance(module, str) else "")
    return roots


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


def as_members(argument: str, values: object, needed: str = "a sequence of int") -> list[Any]:
    """The members of the sequence that a caller gave for `argument`: in order, and not without end.

    Iterators are none, as for NumPy: they may never end, and a second look finds them empty.
    """
    count = -1
    if not isinstance(values, NO_SEQUENCES) and getattr(values, "ndim", 1) == 1:
        with suppress(TypeError):
            iter(values)  # type: ignore[call-overload]
            count = _length(values)
    if count < 0:
        raise TypeError(f"{argument} must be {needed}, got {shown(values)}")
    # Whatever its length says.
    members = list(islice(values, _MOST_MEMBERS + 1)) if count <= _MOST_MEMBERS else []  # type: ignore[call-overload]
    if max(count, len(members)) > _MOST_MEMBERS:
        raise ValueError(f"{argument} must have at most {_MOST_MEMBERS} members, got {shown(values)}")
    return members


def _length(values: object) -> int:
    try:
        return len(values)  # type: ignore[arg-type]
    except OverflowError:  # a range may be longer than any list
        return sys.maxsize
    except ValueError:  # below 0
        return -1


#: What can be read from its first member to its last but has no members in order, or those of a text.
NO_SEQUENCES = (str, bytes, bytearray, Set, Mapping)

# More axes than any array has.
_MOST_MEMBERS = 1 << 16


def as_sizes(argument: str, values: object) -> tuple[int, ...]:
    """The integers >= 0, one for each axis, that a caller gave for `argument`."""
    members = as_members(argument, values)
    sizes = tuple(as_int(f"{argument}[{axis}]", value) for axis, value in enumerate(members))
    if any(size < 0 for size in sizes):
        raise ValueError(f"{argument} must not be negative, got {shown(sizes)}")
    return sizes
