"""Arrays in pieces, for what NumPy writes.

Python handles signals between two pieces, and the memory needed beside the array does not grow with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PIECE", "Pieces", "find_row", "write_zero_rows", "write_zeros"]

PIECE = 1 << 18  # values: a MiB of float32; some milliseconds in memory that was never touched


class Pieces:
    """An array, not empty, cut into blocks of at most `most` values that lie close together in memory.

    Attributes
    ----------
    count : int
        How many pieces there are; ``pieces[number]`` is the index of one.
    values : int
        How many values a piece has, at most.

    Examples
    --------
    >>> import numpy as np
    >>> pieces = Pieces(np.empty((4, 5)), most=10)
    >>> [pieces[number] for number in range(pieces.count)]
    [(slice(0, 2, None), slice(0, 5, None)), (slice(2, 4, None), slice(0, 5, None))]
    """

    def __init__(self, array: NDArray[Any], most: int = PIECE) -> None:
        self.extents = array.shape
        self.order = sorted(range(array.ndim), key=lambda axis: abs(array.strides[axis]))
        self.sizes, self.counts = [1] * array.ndim, [1] * array.ndim
        self.values = 1
        for axis in self.order:
            extent = array.shape[axis]
            count = -(-extent // max(1, most // self.values))
            self.sizes[axis] = -(-extent // count)
            self.counts[axis] = -(-extent // self.sizes[axis])
            self.values *= self.sizes[axis]
        self.count = prod(self.counts)

    def __getitem__(self, number: int) -> tuple[slice, ...]:
        index = [slice(None)] * len(self.order)
        for axis in self.order:
            number, nth = divmod(number, self.counts[axis])
            first = nth * self.sizes[axis]
            index[axis] = slice(first, min(first + self.sizes[axis], self.extents[axis]))
        return tuple(index)


def find_row(rows: NDArray[np.int64], row: int, most: int) -> Iterator[NDArray[np.intp]]:
    """The indices at which a list has a row: at most so many at a time."""
    searched = PIECE >> 1
    for first in range(0, len(rows), searched):
        indices = first + np.flatnonzero(rows[first : first + searched] == row)
        for begin in range(0, len(indices), most):
            yield indices[begin : begin + most]


def write_zeros(out: NDArray[Any]) -> None:
    """Write 0 everywhere."""
    if out.size <= PIECE:
        out[...] = 0
        return
    pieces = Pieces(out)
    for number in range(pieces.count):
        index: tuple[Any, ...] = pieces[number]
        out[(*index, ...)] = 0


def write_zero_rows(out: NDArray[Any], rows: NDArray[np.int64], row: int) -> None:
    """Write 0 where a list has this row."""
    pieces = Pieces(out[0, ...])
    for indices in find_row(rows, row, max(1, PIECE // pieces.values)):
        for number in range(pieces.count):
            index: tuple[Any, ...] = pieces[number]
            out[(indices, *index)] = 0
