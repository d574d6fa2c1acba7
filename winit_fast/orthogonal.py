"""Orthogonal matrices of any size: which reflectors are drawn, in which blocks, by which threads. STREAM.md, section 8.

(a) Q is a product of random Householder reflections H_0 H_1 ... times signs (Stewart 1980), `long` x `short`.
    Reflector k is drawn from the stream like column k of a `long` x `short` normal, so that any panel of 64 reflectors,
    and any run of its positions, can be made again when it is needed instead of being kept.
(b) Near-square matrices: the `short` vectors Q e_j are independent. They are reflected in blocks of 64, as
    many blocks at a time as the budget holds, panel after panel; threads share first the panels, then the blocks.
(c) Tall and wide ones: Q = [I; 0] + V N, N = -S^-1 V_top^T, where the `long` positions are independent once N is
    known. N takes a pass over all positions and `short`^2 float64 numbers (the UT transform, Joffrain et al. 2006).
(d) The global shape alone decides which of the two is used, and so every bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from winit_fast import dispatch
from winit_fast._plan import MATRIX_BLOCK as BLOCK
from winit_fast._plan import Plan
from winit_fast.distributions import Normal
from winit_fast.floating_point import default_floating_point
from winit_fast.lowering import ELEMENT_TYPES, ElementType, lower
from winit_fast.memory import empty
from winit_fast.parallel import run
from winit_fast.target import Call, Side, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "BLOCK",
    "BUDGET",
    "Output",
    "PanelBuffer",
    "Reflectors",
    "fill_orthogonal",
    "pad_lanes",
    "round_up",
    "sign_gain",
    "walk",
]

BUDGET = 24 << 20  # bytes of vectors, and as many of panels
SLAB_VALUES = 1 << 17  # of a panel, that one unit of work draws
_PLACES_AT_ONCE = 1 << 12
_STANDARD_NORMAL = {bits: lower(Normal(0.0, 1.0), ELEMENT_TYPES[f"float{bits}"]) for bits in (32, 64)}


def fill_orthogonal(
    target: Target, axes: tuple[tuple[int, ...], ...], gain: float, element_type: ElementType, call: Call
) -> None:
    """Fill with orthogonal matrices: one for each place of the batch axes.

    Parameters
    ----------
    target : Target
    axes : three tuples of int
        Those of the rows, the columns and the batch, as `Layout.matrix` returns them.
    gain : float
        Rounded to the element type's working type.
    element_type : ElementType
    call : Call
    """
    rows, columns, batch = (target.side(side) for side in axes)
    is_tall = rows.total > columns.total  # the rows of a square matrix are independent
    long, short = (rows, columns) if is_tall else (columns, rows)
    reflectors = Reflectors(long.total, short.total, element_type.bits, call)
    fill = _fill_near_square if long.total < 2 * short.total else _fill_tall
    for index, offset in walk(batch):
        output = Output(target.out, offset, long, short, gain, element_type.store)
        fill(reflectors._replace(first_row=index * long.total), output)


class Reflectors(NamedTuple):
    """The normals that reflectors are made of: `long` x `short`, from row `first_row` of the auxiliary tensor on.

    A row of that tensor has `row_length` numbers, `short` where that is 0.
    """

    long: int
    short: int
    bits: int
    call: Call
    first_row: int = 0
    row_length: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """The working type."""
        return np.dtype(f"float{self.bits}")

    @property
    def panels(self) -> int:
        """How many panels of 64 reflectors there are."""
        return -(-self.short // BLOCK)

    def width(self, panel: int) -> int:
        """How many reflectors a panel has."""
        return min(BLOCK, self.short - BLOCK * panel)

    def normals(self, panel: int, out: NDArray[Any], first: int | NDArray[np.int64]) -> Plan:
        """The plan that draws a panel at positions from `first` on, or at those of a list.

        Columns of `out` beyond the panel's width are left alone.
        """
        shape = (1 << 62, self.row_length or self.short)
        rows = first + self.first_row if isinstance(first, np.ndarray) else None
        start = (0 if isinstance(first, np.ndarray) else self.first_row + first, panel * BLOCK)
        # A list replaces the row alone; the column where the panel begins is part of the plan's start.
        return Plan(
            out[:, : self.width(panel)], *_STANDARD_NORMAL[self.bits], self.call.seed, self.call.stream, shape, start,
            0, rows, True,
        )  # fmt: skip

    def draw(self, panel: int, out: NDArray[Any], first: int | NDArray[np.int64]) -> None:
        """Draw it in this thread."""
        plan = self.normals(panel, out, first)
        dispatch.kernels.fill_units(plan, 0, plan.units)


class Output(NamedTuple):
    """One matrix of the target, as positions (of the long side) by lanes (of the short side)."""

    out: NDArray[Any]
    offset: int
    long: Side
    short: Side
    gain: float
    store: int

    def put(
        self, values: NDArray[Any], scale: NDArray[Any], positions: NDArray[np.int64], lanes: NDArray[np.int64]
    ) -> None:
        """Put a block of values at these offsets."""
        is_across = abs(self.long.strides[-1]) < abs(self.short.strides[-1])
        items = positions if is_across else lanes
        is_joined = _is_joined(items, self.out.itemsize)
        dispatch.kernels.store_block(
            values, scale, len(lanes), is_across, self.store, self.out, positions + self.offset, lanes, is_joined
        )


def _is_joined(offsets: NDArray[np.int64], size: int) -> bool:
    return len(offsets) < 2 or bool((np.diff(offsets) == size).all())


# Near-square


def _fill_near_square(reflectors: Reflectors, output: Output) -> None:
    height = round_up(reflectors.long)
    at_once = max(1, BUDGET // (height * BLOCK * reflectors.dtype.itemsize))  # blocks of vectors
    count = output.short.count
    vectors = empty((min(at_once, -(-count // BLOCK)), height, BLOCK), reflectors.dtype)
    stretches = [(first, min(first + at_once * BLOCK, count)) for first in range(0, count, at_once * BLOCK)]
    last = max(int(output.short.places(*stretch)[0].max()) for stretch in stretches)
    panels = PanelBuffer(reflectors, last // BLOCK)
    for stretch in stretches:
        _reflect_vectors(reflectors, output, panels, vectors, *output.short.places(*stretch))


def _reflect_vectors(
    reflectors: Reflectors, output: Output, panels: PanelBuffer, vectors: NDArray[Any], lanes: NDArray[np.int64],
    offsets: NDArray[np.int64],
) -> None:  # fmt: skip
    """Make Q e_j for the lanes j: as many blocks of them as `vectors` has."""
    long = reflectors.long
    blocks = [lanes[first : first + BLOCK] for first in range(0, len(lanes), BLOCK)]
    tops = [int(block.max()) // BLOCK for block in blocks]  # e_j is 0 where later reflectors differ from 0
    heads = np.empty(reflectors.panels * BLOCK, reflectors.dtype)
    columns, column_offsets = output.long.places(0, output.long.count)
    is_run = bool((np.diff(columns) == 1).all())
    wanted = slice(int(columns[0]), int(columns[-1]) + 1) if is_run else columns

    def reflect(group: list[int], first: int, last: int) -> None:
        for block in range(len(blocks) - last, len(blocks) - first):  # the longest work first
            if group[0] == max(tops):
                vectors[block].fill(0)
                vectors[block, blocks[block], np.arange(len(blocks[block]))] = 1
            for panel in group:
                if panel <= tops[block]:
                    panels.reflect(panel, vectors[block], len(blocks[block]))
            if group[-1] == 0:
                x = vectors[block][wanted] if isinstance(wanted, slice) else vectors[block].take(wanted, 0)
                output.put(
                    x,
                    sign_gain(output.gain, heads[pad_lanes(blocks[block])]),
                    column_offsets,
                    offsets[BLOCK * block :][:BLOCK],
                )

    for group in panels.groups(range(max(tops), -1, -1)):
        length = long - group[-1] * BLOCK
        panels.make(group, heads)
        run(partial(reflect, group), len(blocks), 250 * length * len(group), reflectors.call.threads)


class PanelBuffer:
    """Memory for as many panels as the budget holds; they shrink from the first to the last."""

    def __init__(self, reflectors: Reflectors, last: int) -> None:
        self.reflectors = reflectors
        budget = max(BUDGET // reflectors.dtype.itemsize, self._size(0))
        self.numbers = empty(min(budget, sum(map(self._size, range(last + 1)))), reflectors.dtype)
        self.places: dict[int, int] = {}

    def _size(self, panel: int) -> int:
        return round_up(self.reflectors.long - panel * BLOCK) * BLOCK + BLOCK * BLOCK  # V and S

    def groups(self, order: Sequence[int]) -> Iterator[list[int]]:
        """The panels in this order, in groups that fit; the memory is that of the current one."""
        group: list[int] = []
        self.places, used = {}, 0
        for panel in order:
            if used + self._size(panel) > len(self.numbers):
                yield group
                group, self.places, used = [], {}, 0
            group.append(panel)
            self.places[panel] = used
            used += self._size(panel)
        yield group

    def of(self, panel: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """The memory of a panel's V and S."""
        numbers = self.numbers[self.places[panel] :][: self._size(panel)].reshape(-1, BLOCK)
        return numbers[:-BLOCK], numbers[-BLOCK:]

    def make(self, group: list[int], heads: NDArray[Any]) -> None:
        """Make the panels of a group, and put the heads of their reflectors among those of all."""
        reflectors = self.reflectors

        def make(first: int, last: int) -> None:
            for panel in group[first:last]:
                v, s = self.of(panel)
                length, width = reflectors.long - panel * BLOCK, reflectors.width(panel)
                v[length:], v[:, width:] = 0, 0
                reflectors.draw(panel, v[:length], panel * BLOCK)
                dispatch.kernels.make_reflectors(v, s, length, width)
                heads[panel * BLOCK : panel * BLOCK + width] = v[:width].diagonal()

        longest = max(reflectors.long - panel * BLOCK for panel in group)
        run(make, len(group), 200 * longest, reflectors.call.threads)

    def reflect(self, panel: int, vectors: NDArray[Any], lanes: int, is_reversed: bool = False) -> None:
        """Apply a panel, or its transpose, to a block of vectors (all their positions) in this thread."""
        v, s = self.of(panel)
        length, width = self.reflectors.long - panel * BLOCK, self.reflectors.width(panel)
        dispatch.kernels.reflect(vectors[panel * BLOCK :], v, s, length, width, lanes, is_reversed)


# Tall and wide


def _fill_tall(reflectors: Reflectors, output: Output) -> None:
    dtype, blocks = reflectors.dtype, reflectors.panels
    positions = max(BLOCK, min(BUDGET // (blocks * BLOCK * dtype.itemsize), round_up(reflectors.long)))
    panels = np.zeros((blocks, positions // BLOCK * BLOCK, BLOCK), dtype)
    heads = np.zeros((blocks, BLOCK), dtype)
    n = _solve(reflectors, _sum_products(reflectors, panels, heads), heads)
    _combine(reflectors, output, panels, heads, n)


def _sum_products(reflectors: Reflectors, panels: NDArray[Any], heads: NDArray[Any]) -> NDArray[np.float64]:
    """Make S, in blocks of 64 x 64 on and above the diagonal, and the heads of the reflectors."""
    blocks, positions = panels.shape[:2]
    long, kernels = reflectors.long, dispatch.kernels
    products, squares = np.zeros((blocks, blocks, BLOCK, BLOCK)), np.zeros((blocks, BLOCK))
    pairs = [(j, k) for k in range(blocks) for j in range(k + 1)]
    strips = 1 if blocks > 4 else 4  # of a pair, so that there is work for more threads

    def draw(begin: int, first: int, last: int) -> None:
        for panel, v, place in _slabs(reflectors, panels, min(positions, long - begin), first, last):
            above = min(max(panel * BLOCK - begin - place, 0), len(v))
            v[:above] = 0
            if above == len(v):
                continue
            reflectors.draw(panel, v[above:], begin + place + above)
            if begin + place <= panel * BLOCK < begin + place + len(v):
                kernels.split_heads(v[above:], heads[panel], reflectors.width(panel))

    def add(length: int, first: int, last: int) -> None:
        for unit in range(first, last):
            j, k = pairs[unit // strips]
            rows = -(-reflectors.width(j) // strips)
            row = unit % strips * rows
            rows = min(rows, reflectors.width(j) - row)
            if rows > 0:
                kernels.add_products(products[j, k], panels[j], panels[k], length, row, rows, reflectors.width(k))
            if j == k and row == 0:
                kernels.add_squares(squares[k], panels[k], length)

    for begin in range(0, long, positions):
        length = min(positions, long - begin)
        run(partial(draw, begin), *_slab_units(reflectors, length), reflectors.call.threads)
        run(partial(add, length), len(pairs) * strips, 125 * length // strips, reflectors.call.threads)
    kernels.make_heads(heads.reshape(-1), squares.reshape(-1))

    def complete(first: int, last: int) -> None:
        v = np.zeros((BLOCK, BLOCK), reflectors.dtype)
        for k in range(first, last):
            width = reflectors.width(k)
            for j in range(k + 1):
                reflectors.draw(j, v[:width], k * BLOCK)
                kernels.add_heads(
                    products[j, k], v, heads[k], reflectors.width(j), width, squares[k] if j == k else None
                )

    run(complete, blocks, blocks * 8 * BLOCK * BLOCK, reflectors.call.threads)
    return products


def _solve(reflectors: Reflectors, products: NDArray[np.float64], heads: NDArray[Any]) -> NDArray[Any]:
    """Make N of S, in its memory and in the working type."""
    blocks, kernels = len(products), dispatch.kernels

    def solve(row: int, s: NDArray[np.float64], first: int, last: int) -> None:
        v = np.zeros((BLOCK, BLOCK), reflectors.dtype)
        for column in range(row + first, row + last):
            count = min(BLOCK, reflectors.long - column * BLOCK)
            v[count:] = 0
            reflectors.draw(row, v[:count], column * BLOCK)
            indices = np.arange(column * BLOCK, column * BLOCK + count)
            kernels.join_heads(v, indices, row * BLOCK, reflectors.width(row), heads[row])
            kernels.solve_block(products, s, v, row, column, reflectors.width(row))

    for row in range(blocks - 1, -1, -1):
        s = products[row].copy()
        run(partial(solve, row, s), blocks - row, 16_000 * (blocks - row), reflectors.call.threads)
    if reflectors.dtype == np.float64:
        return products
    kernels.narrow_numbers(products)
    return products.reshape(-1).view(np.float32)[: products.size].reshape(products.shape)


def _combine(
    reflectors: Reflectors, output: Output, panels: NDArray[Any], heads: NDArray[Any], n: NDArray[Any]
) -> None:
    """Make I + V N where the target has it."""
    blocks, positions = panels.shape[:2]
    kernels, count = dispatch.kernels, output.long.count
    lanes, lane_offsets = output.short.places(0, output.short.count)
    scale = sign_gain(output.gain, heads)
    wanted = []  # lanes, at most a block, all of one block of N
    for block in np.unique(lanes // BLOCK).tolist():
        here = np.flatnonzero(lanes // BLOCK == block)
        wanted += [(block, here[begin : begin + BLOCK]) for begin in range(0, len(here), BLOCK)]
    height = max(BLOCK, 2048 // blocks // BLOCK * BLOCK)  # positions of one unit of work

    for begin in range(0, count, positions):
        indices, offsets = output.long.places(begin, min(begin + positions, count))
        is_run = bool((np.diff(indices) == 1).all())

        def draw(first: int, last: int, indices: NDArray[np.int64] = indices, is_run: bool = is_run) -> None:
            for panel, v, place in _slabs(reflectors, panels, len(indices), first, last):
                here = indices[place : place + len(v)]
                reflectors.draw(panel, v, int(here[0]) if is_run else here)
                kernels.join_heads(v, here, panel * BLOCK, reflectors.width(panel), heads[panel])

        def combine(
            first: int, last: int, indices: NDArray[np.int64] = indices, offsets: NDArray[np.int64] = offsets
        ) -> None:
            x = empty((height, BLOCK), reflectors.dtype)
            for unit in range(first, last):
                some = slice(unit * height, min((unit + 1) * height, len(indices)))
                for block, here in wanted:
                    within = lanes[here] - block * BLOCK
                    most = int(within.max()) + 1
                    kernels.combine(x, panels[:, some.start :], n, indices[some], block, most, reflectors.short)
                    values, factors = x, scale[block]
                    if not np.array_equal(within, np.arange(most)):  # some are missing, repeated or in another order
                        values, factors = x.take(pad_lanes(within), 1), factors[pad_lanes(within)]
                    output.put(values, factors, offsets[some], lane_offsets[here])

        run(draw, *_slab_units(reflectors, len(indices)), reflectors.call.threads)
        units = -(-len(indices) // height)
        run(combine, units, 125 * height * blocks * len(wanted), reflectors.call.threads)


# What both share


def walk(side: Side) -> Iterator[tuple[int, int]]:
    """The index and the offset of every place, as Python ints; few are held at a time."""
    for first in range(0, side.count, _PLACES_AT_ONCE):
        indices, offsets = side.places(first, min(first + _PLACES_AT_ONCE, side.count))
        yield from zip(indices.tolist(), offsets.tolist(), strict=True)


def round_up(count: int) -> int:
    """Up to a whole number of blocks."""
    return -(-count // BLOCK) * BLOCK


def pad_lanes(lanes: NDArray[np.int64]) -> NDArray[np.int64]:
    """At least a block of them: kernels read whole blocks."""
    return np.concatenate([lanes, np.zeros(max(0, BLOCK - len(lanes)), np.int64)])


@default_floating_point  # the gain may be subnormal
def sign_gain(gain: float, heads: NDArray[Any]) -> NDArray[Any]:
    """The gain times the sign D_k, which is opposite to that of reflector k's head."""
    gains: NDArray[Any] = np.where(heads < 0, heads.dtype.type(gain), heads.dtype.type(-gain))
    return gains


def _slab_height(reflectors: Reflectors) -> int:
    return max(BLOCK, SLAB_VALUES // min(reflectors.short, BLOCK) // BLOCK * BLOCK)


def _slab_units(reflectors: Reflectors, length: int) -> tuple[int, int]:
    """How many slabs there are in all panels, and how many values each has."""
    height = _slab_height(reflectors)
    return reflectors.panels * -(-length // height), height * min(reflectors.short, BLOCK)


def _slabs(
    reflectors: Reflectors, panels: NDArray[Any], length: int, first: int, last: int
) -> Iterator[tuple[int, NDArray[Any], int]]:
    """The slabs `first` up to `last` of all panels: the panel, its positions there, and the first of them.

    What a panel has beyond `length`, up to a whole block, becomes 0.
    """
    height = _slab_height(reflectors)
    slabs = -(-length // height)
    for unit in range(first, last):
        panel, slab = divmod(unit, slabs)
        end = min((slab + 1) * height, length)
        panels[panel, end : round_up(end)] = 0
        yield panel, panels[panel, slab * height : end], slab * height
