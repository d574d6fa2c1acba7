"""Pieces: what is filled through a buffer, where a framework's memory cannot be written to, is filled in parts."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

__all__ = ["PIECE", "pieces"]

# Bytes of one.
PIECE = 8 << 20


def pieces(shape: tuple[int, ...], most: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Rectangles of at most so many elements that make up a shape: where each begins, and its sizes.

    Examples
    --------
    >>> list(pieces((2, 3), 2))
    [((0, 0), (1, 2)), ((0, 2), (1, 1)), ((1, 0), (1, 2)), ((1, 2), (1, 1))]
    >>> list(pieces((5, 3), 6))
    [((0, 0), (2, 3)), ((2, 0), (2, 3)), ((4, 0), (1, 3))]
    """
    if prod(shape) <= most:
        yield (0,) * len(shape), shape
        return
    inner = prod(shape[1:])
    if inner > most:
        for row in range(shape[0]):
            for begin, sizes in pieces(shape[1:], most):
                yield (row, *begin), (1, *sizes)
        return
    rows = most // inner
    for first in range(0, shape[0], rows):
        yield (first, *(0,) * (len(shape) - 1)), (min(rows, shape[0] - first), *shape[1:])
