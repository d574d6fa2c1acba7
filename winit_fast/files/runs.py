"""Values of any run of a part's elements, as they follow each other in a file: to write them, and to verify them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from winit_fast.memory import empty

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from winit_fast.files.specs import Part

__all__ = ["Rectangle", "RunFiller", "cut_run", "fill_run", "rectangles"]


def fill_run(
    part: Part, first: int, last: int, out: NDArray[Any], *, seed: int | None, threads: int | None = None
) -> None:
    """Fill an array with the elements [first, last) of a part, counted in row-major order.

    Parameters
    ----------
    part : Part
    first, last : int
        ``0 <= first <= last <=`` the number of elements of the part.
    out : ndarray of shape (last - first,)
        Contiguous, of the tensor's dtype; written in place.
    seed : int or None
    threads : int, optional
        As in `winit_fast.fill`.

    See Also
    --------
    RunFiller : for many runs, also of schemes whose parts cost as much as their whole.

    Examples
    --------
    >>> import numpy as np
    >>> import winit_fast
    >>> from winit_fast.files.specs import TensorSpec
    >>> spec = TensorSpec("user_id", (100, 7, 3), "float32", "normal(std=0.01)")
    >>> run = np.empty(500, "float32")
    >>> fill_run(spec.whole, 123, 623, run, seed=7)
    >>> table = spec.initializer.fill(np.empty(spec.shape, "float32"), seed=7)
    >>> bool((run == table.ravel()[123:623]).all())
    True
    """
    for where, offset, shape in rectangles(part.shape, first, last):
        place = tuple(start + index for start, index in zip(part.offset, offset, strict=True))
        piece = out[where - first : where - first + prod(shape)].reshape(shape)
        part.spec.initializer.fill(piece, seed=seed, shape=part.spec.shape, offset=place, threads=threads)


class RunFiller:
    """Fills one run after another, in bounded memory.

    An orthogonal or sparse part costs about as much as the whole of it, however few elements are asked for. So the part
    of the last such run is kept, if it fits.

    Parameters
    ----------
    seed : int or None
    most_bytes : int
        The largest part that is kept.
    threads : int, optional
        As in `winit_fast.fill`.
    """

    def __init__(self, seed: int | None, most_bytes: int, threads: int | None = None) -> None:
        self._seed = seed
        self._most_bytes = most_bytes
        self._threads = threads
        self._part: Part | None = None
        self._values: NDArray[Any] = np.empty(0)

    def fill(self, part: Part, first: int, last: int, out: NDArray[Any]) -> None:
        """Fill ``out`` with the elements [first, last) of a part, as `fill_run` does."""
        if part != self._part and not self._keep(part, last - first):
            fill_run(part, first, last, out, seed=self._seed, threads=self._threads)
            return
        out[:] = self._values[first:last]

    def _keep(self, part: Part, asked: int) -> bool:
        is_all = asked == prod(part.shape)
        if is_all or part.nbytes > self._most_bytes or part.spec.initializer.is_elementwise(part.spec.shape):
            return False
        self._part, self._values = None, np.empty(0)  # before the next is made: one is kept, never two
        values = empty(prod(part.shape), part.spec.dtype)
        fill_run(part, 0, len(values), values, seed=self._seed, threads=self._threads)
        self._part, self._values = part, values
        return True


class Rectangle(NamedTuple):
    """Neighbours in row-major order that are a rectangle too: the number of the first, its index, and the shape."""

    first: int
    offset: tuple[int, ...]
    shape: tuple[int, ...]


def rectangles(shape: tuple[int, ...], first: int, last: int) -> Iterator[Rectangle]:
    """Cut the elements [first, last) of an array into rectangles: at most ``2 n - 1`` for n axes, in order.

    Examples
    --------
    The end of a row, whole rows, and the beginning of a row:

    >>> for rectangle in rectangles((100, 7), 5, 30):
    ...     print(rectangle)
    Rectangle(first=5, offset=(0, 5), shape=(1, 2))
    Rectangle(first=7, offset=(1, 0), shape=(3, 7))
    Rectangle(first=28, offset=(4, 0), shape=(1, 2))
    """
    if first == last:
        return
    if not shape:
        yield Rectangle(0, (), ())
        return
    steps = [prod(shape[axis + 1 :]) for axis in range(len(shape))]  # elements from one index of an axis to the next

    def along(axis: int, begin: int, end: int) -> Rectangle:
        offset = tuple(begin // step % size for step, size in zip(steps, shape, strict=True))
        return Rectangle(begin, offset, (1,) * axis + ((end - begin) // steps[axis],) + shape[axis + 1 :])

    begin = first
    for axis in range(len(shape) - 1, 0, -1):  # up, until a row of the axis above begins
        end = -(-begin // steps[axis - 1]) * steps[axis - 1]
        if end > last:
            break
        if end > begin:
            yield along(axis, begin, end)
        begin = end
    for axis in range(len(shape)):  # down: as many whole rows as are left
        end = begin + (last - begin) // steps[axis] * steps[axis]
        if end > begin:
            yield along(axis, begin, end)
        begin = end


def cut_run(shape: tuple[int, ...], first: int, last: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut the elements [first, last) of an array into runs of at most `most`, where rows end if they are that short.

    What begins and ends with whole rows is one rectangle of a matrix, and so one fill.

    Examples
    --------
    >>> list(cut_run((100, 7), 5, 50, 20))
    [(5, 21), (21, 35), (35, 50)]
    """
    steps = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    step = next((step for step in steps if 0 < step <= most), 1)
    while first < last:
        end = min(last, first + most)
        if end < last:
            end = end // step * step
        yield first, end
        first = end
