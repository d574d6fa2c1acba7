"""What error messages share: values shown in short, and integers checked alike everywhere."""

from __future__ import annotations

from operator import index

__all__ = ["as_int", "shown"]


def shown(value: object) -> str:
    """Repr, shortened; a very long int has none."""
    try:
        text = repr(value)
    except ValueError:
        return f"a very long {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


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
