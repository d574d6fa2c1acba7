"""What came of comparing files, arrays or folders with what they should hold: what differs, is missing or too much."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Difference", "Findings", "Verdict", "printable"]

_MOST_LINES = 1000
_LONGEST_LINE = 5000  # characters: longer than any path


@dataclass(frozen=True)
class Difference:
    """The first value of a tensor in a file that is not as it should be.

    Attributes
    ----------
    tensor : str
    index : tuple of int
        In the whole tensor.
    found, expected : NumPy scalar
    path : Path
        Of the file; the key, of a shard of a Zarr array.
    """

    tensor: str
    index: tuple[int, ...]
    found: Any
    expected: Any
    path: Path

    def __str__(self) -> str:
        found, expected = str(self.found), str(self.expected)
        if found == expected:  # two NaNs
            found, expected = (f"{value} (0x{_bits(value)})" for value in (self.found, self.expected))
        return f"{printable(self.tensor)} {self.index}: found {found}, expected {expected}"


def _bits(value: Any) -> str:
    return str(value.tobytes()[::-1].hex())


class Verdict(NamedTuple):
    """What came of a comparison. It is true if all is as it should be.

    Each tuple of texts has at most 1000 of them, and then one that says how many more there are.

    Attributes
    ----------
    differences : tuple of Difference
        One of each tensor in a file that differs.
    missing : tuple of str
        What should be there and is not: tensors, rows, files, the end of a file.
    overlapping : tuple of str
        Values that several files hold.
    strays : tuple of str
        What should not be there: tensors, files, what an index says and is not so.
    leftovers : tuple of str
        Files that no reader takes, such as those of writers that were killed, or are at work. They are no fault.
    checked_bytes : int
        How much was compared.
    """

    differences: tuple[Difference, ...]
    missing: tuple[str, ...]
    overlapping: tuple[str, ...]
    strays: tuple[str, ...]
    leftovers: tuple[str, ...]
    checked_bytes: int

    @property
    def is_right(self) -> bool:
        """Whether all is as it should be."""
        return not (self.differences or self.missing or self.overlapping or self.strays)

    def __bool__(self) -> bool:
        return self.is_right


class _Lines:
    """Texts that may be any number, with names in them that may be anybody's: some are kept, the others counted."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._more = 0

    def append(self, line: str) -> None:
        if len(self._lines) < _MOST_LINES:
            self._lines.append(printable(line))
        else:
            self._more += 1

    def extend(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.append(line)

    def listed(self) -> tuple[str, ...]:
        return (*self._lines, *([f"and {self._more} more"] if self._more else ()))


@dataclass(frozen=True)
class Findings:
    """What a `Verdict` says beside its differences, while it is looked for."""

    missing: _Lines = field(default_factory=_Lines)
    overlapping: _Lines = field(default_factory=_Lines)
    strays: _Lines = field(default_factory=_Lines)
    leftovers: _Lines = field(default_factory=_Lines)

    def judge(self, differences: Sequence[Difference], checked_bytes: int) -> Verdict:
        """All of it."""
        return Verdict(
            tuple(differences),
            self.missing.listed(),
            self.overlapping.listed(),
            self.strays.listed(),
            self.leftovers.listed(),
            checked_bytes,
        )


def printable(text: str) -> str:
    """A text of one line, which does nothing to a terminal."""
    if len(text) > _LONGEST_LINE:
        text = f"{text[: _LONGEST_LINE - 3]}..."
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
