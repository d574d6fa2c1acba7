"""What a call of fill writes: the caller's array, and which part of the global tensor it holds."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from winit_fast.records import record

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Call", "Side", "Target"]


class Call(NamedTuple):
    """What a call of fill says beside its target; checked.

    Attributes
    ----------
    seed, stream : int
        Key and stream of Philox, each in [0, 2^64).
    threads : int or None
        At most so many; None: one for little work, else the default.
    """

    seed: int
    stream: int
    threads: int | None


class Target(NamedTuple):
    """An array and its place in the global tensor.

    Attributes
    ----------
    out : ndarray
        The caller's array; elements do not overlap.
    shape : tuple of int
        The global tensor's.
    start : tuple of int
        The index in it where `out` begins.
    rows : ndarray of int64 or None
        Which row of the global tensor each index of axis 0 is, in place of `start[0]`.
    is_keyed : bool
        Whether `rows` holds streams instead: each row is then a tensor of its own, of shape ``out.shape[1:]``.
    """

    out: NDArray[Any]
    shape: tuple[int, ...]
    start: tuple[int, ...]
    rows: NDArray[np.int64] | None = None
    is_keyed: bool = False

    def side(self, axes: tuple[int, ...]) -> Side:
        """Some axes, in this order, as one."""

        def of(sizes: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(sizes[axis] for axis in axes)

        listed = axes.index(0) if self.rows is not None and 0 in axes else -1
        return Side(of(self.shape), of(self.out.shape), of(self.start), of(self.out.strides), self.rows, listed)


@record
class Side:
    """Some axes of a target as one: its places are counted in row-major order.

    Attributes
    ----------
    sizes, extents, starts, strides : tuple of int
        Of each axis: the global tensor's size, the array's, where the array begins, bytes from one place to the next.
    rows : ndarray of int64 or None
        The target's list of rows.
    listed : int
        Which of these axes it lists; -1: none.
    """

    sizes: tuple[int, ...]
    extents: tuple[int, ...]
    starts: tuple[int, ...]
    strides: tuple[int, ...]
    rows: NDArray[np.int64] | None = None
    listed: int = -1

    @property
    def count(self) -> int:
        """How many places the array has."""
        return prod(self.extents)

    @property
    def total(self) -> int:
        """How many the global tensor has."""
        return prod(self.sizes)

    def line(self) -> tuple[int, int] | None:
        """The index of the first place and the bytes to the next, if all are neighbours in order; else None."""
        long = [axis for axis, extent in enumerate(self.extents) if extent > 1]
        if self.listed >= 0 or len(long) > 1 or (long and prod(self.sizes[long[0] + 1 :]) > 1):
            return None
        first = int(self.places(0, 1)[0][0])
        return first, self.strides[long[0]] if long else 0

    def places(self, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of places `first` up to, not including, `last`: indices in the global tensor, and offsets in bytes."""
        rest = np.arange(first, last, dtype=np.int64)
        indices, offsets = np.zeros_like(rest), np.zeros_like(rest)
        step = 1
        for axis in range(len(self.extents) - 1, -1, -1):
            if axis:
                rest, place = np.divmod(rest, self.extents[axis])
            else:
                place = rest
            indices += step * (
                self.starts[axis] + place if self.rows is None or axis != self.listed else self.rows[place]
            )
            offsets += self.strides[axis] * place
            step *= self.sizes[axis]
        return indices, offsets
