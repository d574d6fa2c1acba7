"""Where the bytes of a file stand: a header, and parts of tensors one after another; written, and found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from winit_fast.files.specs import Part, Recipe

__all__ = ["PAGE", "Contents", "Layout", "Segment", "Stored", "TruncatedFileError", "place"]

#: Data begins at a multiple of this, so that it can be written past the cache of the system.
PAGE = 4096


class Segment(NamedTuple):
    """A part of a tensor, row-major and contiguous, and the byte of the file where it begins."""

    part: Part
    start: int


class Layout(NamedTuple):
    """All of a file: the bytes at its beginning (a multiple of `PAGE`, or none), then the segments, with no gap.

    Each element stands at a multiple of its size. The header is written last: without it no reader takes the file.
    """

    format: str
    header: bytes
    segments: tuple[Segment, ...]
    size: int

    def __repr__(self) -> str:
        of = f"header: {len(self.header)} bytes, segments: {len(self.segments)}, in all {self.size} bytes"
        return f"<Layout of format {self.format}; {of}>"


class Stored(NamedTuple):
    """A tensor, or a part of one, as it was found in a file: row-major and contiguous.

    Attributes
    ----------
    name : str
        Empty where the format has no names.
    dtype : str
        As NumPy calls it, or the format's own word where NumPy has none. It may be one that `fill` does not write.
    shape : tuple of int
        Of what is here.
    start : int
        The byte of the file where it begins.
    offset : tuple of int or None
        Where it begins in the whole tensor, if the file says that it is a part.
    global_shape : tuple of int or None
        That of the whole tensor, if the file says it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    offset: tuple[int, ...] | None = None
    global_shape: tuple[int, ...] | None = None


class Contents(NamedTuple):
    """What stands in a file by its own header, in the order of its bytes.

    Attributes
    ----------
    format : str
    recipe_text : str or None
        The recipe in JSON as it stands in the file; it may be anybody's.
    stored : tuple of Stored
        Their bytes fill the file from the end of the header to its own.
    size : int
        Of the file.
    """

    format: str
    recipe_text: str | None
    stored: tuple[Stored, ...]
    size: int

    @property
    def recipe(self) -> Recipe | None:
        """The recipe, read; None if the file has none.

        Raises
        ------
        ValueError
            If it cannot be read, or is of another version of the stream.
        """
        return None if self.recipe_text is None else Recipe.from_json(self.recipe_text)


class TruncatedFileError(ValueError):
    """A file ends before the end that its header gives."""


def place(parts: Iterable[Part], start: int) -> tuple[tuple[Segment, ...], int]:
    """Parts one after another from a byte on, so that each element stands at a multiple of its size; and the end.

    Those of larger elements come first, else they keep their order.
    """
    segments = []
    for part in sorted(parts, key=lambda part: -part.spec.dtype.itemsize):
        segments.append(Segment(part, start))
        start += part.nbytes
    return tuple(segments), start
