"""Orthogonal convolutions of 1 to 3 dimensions: STREAM.md, section 8.

(a) Algorithm 1 of Xiao et al. 2018. A convolution by P + (I - P) z, P an orthogonal projection, keeps the norm. A
    kernel is an orthogonal matrix followed by such convolutions, one fewer along each axis than it is long, each with a
    random P.
(b) Rows of the matrix, one for each input, are computed independently: they are lanes (see orthogonal.py), and a block
    of them has a vector for every place of the kernel. P = Q_r Q_r^T is applied as reflections and never formed.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from winit_fast.floating_point import default_floating_point
from winit_fast.lowering import ElementType
from winit_fast.memory import empty
from winit_fast.orthogonal import BLOCK, BUDGET, Output, PanelBuffer, Reflectors, pad_lanes, round_up, sign_gain, walk
from winit_fast.parallel import run
from winit_fast.target import Call, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fill_convolution"]


@default_floating_point
def fill_convolution(
    target: Target, ins: int, outs: int, kernel: tuple[int, ...], batch: tuple[int, ...], gain: float,
    element_type: ElementType, call: Call,
) -> None:  # fmt: skip
    """Fill with kernels of orthogonal convolutions: one for each place of the batch axes.

    Parameters
    ----------
    target : Target
    ins, outs, kernel, batch : int and tuples of int
        The axes.
    gain : float
        Rounded to the element type's working type.
    element_type : ElementType
    call : Call
    """
    lane_side, column_side, place_side = target.side((ins,)), target.side((outs,)), target.side(kernel)
    size, sizes = column_side.total, place_side.sizes
    axes = [
        axis for step in zip_longest(*([axis] * (length - 1) for axis, length in enumerate(sizes))) for axis in step
    ]
    factors = [axis for axis in axes if axis is not None]  # the axis of each convolution, in turn
    rows = (len(factors) + 1) * size + len(factors)  # of the auxiliary tensor, for one kernel
    first = Reflectors(size, size, element_type.bits, call, 0, size)

    columns, column_offsets = column_side.places(0, column_side.count)
    places, place_offsets = place_side.places(0, place_side.count)
    height = round_up(size)
    block_numbers = 2 * place_side.total * height * BLOCK
    at_once = max(1, BUDGET // (block_numbers * first.dtype.itemsize)) * BLOCK
    for index, offset in walk(target.side(batch)):
        matrix = first._replace(first_row=index * rows)
        for begin in range(0, lane_side.count, at_once):
            some, lane_offsets = lane_side.places(begin, min(begin + at_once, lane_side.count))
            blocks = [some[start : start + BLOCK] for start in range(0, len(some), BLOCK)]
            kernels = np.zeros((len(blocks), *sizes, height, BLOCK), first.dtype)
            scales = _make_rows(matrix, blocks, kernels.reshape(len(blocks), -1, height, BLOCK)[:, 0], gain)
            extents = [1] * len(sizes)
            for number, axis in enumerate(factors):
                projection = matrix._replace(
                    first_row=matrix.first_row + (number + 1) * size,
                    short=_draw_rank(matrix, matrix.first_row + (len(factors) + 1) * size + number),
                )
                _convolve(projection, [len(block) for block in blocks], kernels, axis, extents)
                extents[axis] += 1
            for block, scale in enumerate(scales):
                vectors = kernels[block].reshape(-1, height, BLOCK)
                at = lane_offsets[block * BLOCK :][: len(blocks[block])]
                for place, place_offset in zip(places.tolist(), place_offsets.tolist(), strict=True):
                    output = Output(target.out, offset + place_offset, column_side, lane_side, gain, element_type.store)
                    output.put(np.ascontiguousarray(vectors[place][columns]), scale, column_offsets, at)


def _make_rows(
    matrix: Reflectors, blocks: list[NDArray[np.int64]], vectors: NDArray[Any], gain: float
) -> list[NDArray[Any]]:
    """Make rows of an orthogonal matrix in `vectors`, without their scales, and return those."""
    tops = [int(block.max()) // BLOCK for block in blocks]
    heads = np.empty(matrix.panels * BLOCK, matrix.dtype)
    panels = PanelBuffer(matrix, max(tops))
    for block, lanes in enumerate(blocks):
        vectors[block, lanes, np.arange(len(lanes))] = 1
    for group in panels.groups(range(max(tops), -1, -1)):
        panels.make(group, heads)

        def reflect(first: int, last: int, group: list[int] = group) -> None:
            for block in range(first, last):
                for panel in group:
                    if panel <= tops[block]:
                        panels.reflect(panel, vectors[block], len(blocks[block]))

        run(reflect, len(blocks), 250 * matrix.long * len(group), matrix.call.threads)
    return [sign_gain(gain, heads[pad_lanes(lanes)]) for lanes in blocks]


def _draw_rank(matrix: Reflectors, row: int) -> int:
    """The rank of a projection: how many normals of this row of the auxiliary tensor are positive."""
    count = 0
    for panel in range(matrix.panels):
        numbers = empty((1, BLOCK), matrix.dtype)
        matrix._replace(first_row=row).draw(panel, numbers, 0)
        count += int((numbers[:, : matrix.width(panel)] > 0).sum())
    return count


def _convolve(projection: Reflectors, lanes: list[int], kernels: NDArray[Any], axis: int, extents: list[int]) -> None:
    """Convolve each block of rows by P + (I - P) z along an axis; `extents` says how far their kernels reach so far."""
    slices = tuple(slice(0, extent) for extent in extents)
    old = kernels[(slice(None), *slices)]
    height = kernels.shape[-2]
    projected = old.copy()
    if projection.short == 0:
        projected[...] = 0
    else:
        _project(projection, lanes, projected.reshape(len(lanes), -1, height, BLOCK))
    # Along the axis first: new[k] = projected[k] + (old[k - 1] - projected[k - 1]).
    shifted = np.moveaxis(old - projected, axis + 1, 0)
    longer = list(slices)
    longer[axis] = slice(0, extents[axis] + 1)
    new = np.moveaxis(kernels[(slice(None), *longer)], axis + 1, 0)
    new[:-1] = np.moveaxis(projected, axis + 1, 0)
    new[-1] = 0
    new[1:] += shifted


def _project(projection: Reflectors, lanes: list[int], vectors: NDArray[Any]) -> None:
    """Make P x of every vector x: H_0 ... H_(r-1) of what the first r of ... H_1 H_0 x leave."""
    heads = np.empty(projection.panels * BLOCK, projection.dtype)
    panels = PanelBuffer(projection, projection.panels - 1)
    places = vectors.shape[1]
    order = range(projection.panels)
    for is_reversed in (True, False):
        for group in panels.groups(order if is_reversed else order[::-1]):
            panels.make(group, heads)

            def reflect(first: int, last: int, group: list[int] = group, is_reversed: bool = is_reversed) -> None:
                for unit in range(first, last):
                    block, place = divmod(unit, places)
                    for panel in group:
                        panels.reflect(panel, vectors[block, place], lanes[block], is_reversed)

            run(reflect, len(lanes) * places, 250 * projection.long * len(group), projection.call.threads)
        if is_reversed:
            vectors[:, :, projection.short :] = 0
