"""Schemes whose elements depend on each other: each becomes a function that writes the part that a target holds.

`prepare` checks all that depends on the shape before anything is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from winit_fast._plan import refuse_overlap
from winit_fast.arguments import MOST_AXES
from winit_fast.convolution import fill_convolution
from winit_fast.distributions import (
    Bilinear,
    Constant,
    ConvolutionOrthogonal,
    DeltaOrthogonal,
    Dirac,
    Distribution,
    GivenValues,
    Identity,
    Normal,
    Orthogonal,
    Sparse,
)
from winit_fast.elements import Writer, fill_elements
from winit_fast.exact import FLOAT32, FLOAT64
from winit_fast.fans import Layout
from winit_fast.floating_point import default_floating_point
from winit_fast.lowering import Conversion, ElementType, lower, refuse_overflow
from winit_fast.messages import quote
from winit_fast.orthogonal import fill_orthogonal
from winit_fast.parallel import run
from winit_fast.pieces import PIECE, Pieces, find_row
from winit_fast.sparse import empty_entries, zeros_of
from winit_fast.target import Call, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["prepare"]


def prepare(distribution: Distribution, layout: Layout, element_type: ElementType, dtype: np.dtype[Any]) -> Writer:
    """The function that writes this distribution's part of a target.

    Raises
    ------
    ValueError
        If the shape does not fit, or values round beyond the type's largest.
    """
    match distribution:
        case Orthogonal(gain):
            return _prepare_orthogonal(gain, layout, element_type)
        case DeltaOrthogonal(gain):
            return _prepare_delta(gain, layout, element_type)
        case ConvolutionOrthogonal(gain):
            return _prepare_convolution(gain, layout, element_type)
        case Identity(gain):
            rows, columns, _ = layout.matrix()
            if len(rows) > 1 or len(columns) > 1:
                raise ValueError(f"shape must be that of a matrix (dirac takes kernels), got {quote(layout.shape)}")
            return _prepare_ones(Ones(rows[0], columns[0], layout.shape[columns[0]], {}), gain, element_type)
        case Dirac(groups):
            return _prepare_ones(_find_centres(layout, groups), 1.0, element_type)
        case Sparse(sparsity, std, per):
            return _prepare_sparse(sparsity, std, per, layout, element_type)
        case GivenValues():
            return partial(_write_values, _round_values(distribution, element_type, dtype))
        case Bilinear(shape):
            working = np.dtype(f"float{element_type.bits}")
            if 0 < math.prod(shape) <= _FEW:
                return partial(_write_values, _make_bilinear(shape, working, dtype, list(map(np.arange, shape))))
            return partial(_write_bilinear, shape, working)
    raise AssertionError(distribution)


# Orthogonal

# Rounding may leave an entry of an orthogonal matrix a little above 1.
_LARGEST_ENTRY = Fraction(1025, 1024)


def _prepare_orthogonal(gain: float, layout: Layout, element_type: ElementType) -> Writer:
    refuse_overflow(Orthogonal(gain), element_type, 0.0, abs(gain), _LARGEST_ENTRY)
    working = FLOAT32 if element_type.bits == 32 else FLOAT64
    return partial(_write_orthogonal, layout.matrix(), working.nearest(gain), element_type)


def _write_orthogonal(
    axes: tuple[tuple[int, ...], ...], gain: float, element_type: ElementType, target: Target, call: Call
) -> None:
    refuse_overlap(target.out)
    fill_orthogonal(target, axes, gain, element_type, call)


def _prepare_convolution(gain: float, layout: Layout, element_type: ElementType) -> Writer:
    ins, outs, kernel = _widening_axes(layout)
    refuse_overflow(ConvolutionOrthogonal(gain), element_type, 0.0, abs(gain), _LARGEST_ENTRY)
    working = FLOAT32 if element_type.bits == 32 else FLOAT64
    return partial(_write_convolution, ins, outs, kernel, layout.batch(), working.nearest(gain), element_type)


def _write_convolution(
    ins: int, outs: int, kernel: tuple[int, ...], batch: tuple[int, ...], gain: float, element_type: ElementType,
    target: Target, call: Call,
) -> None:  # fmt: skip
    refuse_overlap(target.out)
    fill_convolution(target, ins, outs, kernel, batch, gain, element_type, call)


def _widening_axes(layout: Layout) -> tuple[int, int, tuple[int, ...]]:
    ins, outs, kernel = _kernel_axes(layout)
    if layout.shape[ins] > layout.shape[outs]:
        raise ValueError(
            f"shape must have at most as many inputs as outputs, got {layout.shape[ins]} and {layout.shape[outs]} "
            f"in {quote(layout.shape)}"
        )
    return ins, outs, kernel


def _prepare_delta(gain: float, layout: Layout, element_type: ElementType) -> Writer:
    ins, outs, kernel = _widening_axes(layout)
    left = [axis for axis in range(len(layout.shape)) if axis not in kernel]
    matrix = Layout(
        tuple(layout.shape[axis] for axis in left),
        left.index(ins),
        left.index(outs),
        tuple(left.index(axis) for axis in layout.batch()),
    )
    centre = {axis: (layout.shape[axis] - 1) // 2 for axis in kernel}
    zeros = lower(Constant(0.0), element_type)
    return partial(_write_delta, zeros, centre, _prepare_orthogonal(gain, matrix, element_type))


def _write_delta(zeros: Conversion, centre: dict[int, int], write_matrix: Writer, target: Target, call: Call) -> None:
    fill_elements(zeros, target, call)
    here = {axis: place - target.start[axis] for axis, place in centre.items() if axis != 0 or target.rows is None}
    if any(not 0 <= place < target.out.shape[axis] for axis, place in here.items()):
        return
    is_listed = len(here) < len(centre)  # a row of the kernel, which a list may have any number of times
    index = tuple(here.get(axis, slice(None)) for axis in range(len(target.shape)))
    left = [axis for axis in range(len(target.shape)) if axis not in centre]
    shape, start = (tuple(sizes[axis] for axis in left) for sizes in (target.shape, target.start))
    centre_values = target.out[index]
    if not is_listed:
        rows = None if 0 in centre else target.rows
        write_matrix(Target(centre_values, shape, start, rows), call)
        return
    assert target.rows is not None
    integers, first = _as_integers(centre_values), -1
    pieces = Pieces(centre_values[0])
    for places in find_row(target.rows, centre[0], max(1, PIECE // pieces.values)):
        if first < 0:
            first = int(places[0])
            write_matrix(Target(centre_values[first], shape, start), call)
        for number in range(pieces.count):
            piece: tuple[Any, ...] = pieces[number]
            integers[(places, *piece)] = integers[(first, *piece)]


# Ones at given indices


class Ones(NamedTuple):
    """Where a kernel has its ones: for each output of a group, at the input of the same number and at `centre`.

    `ins`, `outs` and the keys of `centre` are axes; a group has `outputs` outputs.
    """

    ins: int
    outs: int
    outputs: int
    centre: dict[int, int]


def _prepare_ones(ones: Ones, value: float, element_type: ElementType) -> Writer:
    constants = lower(Constant(0.0), element_type), lower(Constant(value), element_type)
    return partial(_write_ones, ones, *constants)


# Ones lie far apart, each in a cache line of its own: a piece has fewer of them, by so many bits.
_APART = 5


def _write_ones(ones: Ones, zeros: Conversion, constant: Conversion, target: Target, call: Call) -> None:
    """0 everywhere, then the constant at the ones, all along the other axes."""
    fill_elements(zeros, target, call)
    value = np.empty(1, target.out.dtype)
    fill_elements(constant, Target(value, (1,), (0,)), call._replace(threads=1))
    bits = _as_integers(value)[0]
    here = {axis: place - target.start[axis] for axis, place in ones.centre.items() if axis != 0 or target.rows is None}
    if any(not 0 <= place < target.out.shape[axis] for axis, place in here.items()):
        return
    first = (ones.ins, ones.outs, *ones.centre)
    stacked = tuple(axis for axis in range(target.out.ndim) if axis not in first)
    out = _as_integers(target.out.transpose(first + stacked))
    pieces = Pieces(out[(0,) * len(first) + (...,)], PIECE >> _APART)  # of the axes that only stack
    if len(here) == len(ones.centre):
        kernels: Iterator[NDArray[np.intp] | int] = iter([0])
    else:
        assert target.rows is not None
        kernels = find_row(target.rows, ones.centre[0], 1 << _APART)
    for listed in kernels:  # the indices at which a list has the row of the centre
        centre = [here.get(axis, listed) for axis in ones.centre]
        for ins, outs in _find_pairs(ones, target, max(1, (PIECE >> _APART) // pieces.values)):
            for number in range(pieces.count):
                out[(ins[:, None], outs[:, None], *centre, *pieces[number])] = bits


def _find_pairs(ones: Ones, target: Target, most: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Inputs and outputs of a target's ones, counted from its start: at most so many at a time."""
    (ins, outs, outputs, _), rows = ones, target.rows
    first_in, first_out = target.start[ins], target.start[outs]
    count_in, count_out = target.out.shape[ins], target.out.shape[outs]
    if rows is not None and outs == 0:
        for begin in range(0, count_out, most):
            inputs = rows[begin : begin + most] % outputs - first_in
            held = np.flatnonzero((inputs >= 0) & (inputs < count_in))
            yield inputs[held], held + begin
        return
    # Each input that the target has, in each group that it has outputs of.
    groups = range(first_out // outputs, -(-(first_out + count_out) // outputs))
    low, high = 0, count_in
    if rows is None or ins != 0:
        low, high = 0, min(count_in, outputs - first_in)
        if len(groups) == 1:
            shift = groups[0] * outputs - first_out + first_in
            for begin in range(max(low, -shift), high := min(high, count_out - shift), most):
                local = np.arange(begin, min(begin + most, high))
                yield local, local + shift
            return
    groups_at_once = min(len(groups), most)
    for begin in range(low, high, inputs_at_once := max(1, most // groups_at_once)):
        local = np.arange(begin, min(begin + inputs_at_once, high))
        inputs = rows[local] if rows is not None and ins == 0 else local + first_in
        for some in range(groups[0], groups[-1] + 1, groups_at_once):
            which = np.arange(some, min(some + groups_at_once, groups[-1] + 1))
            output = inputs[:, None] + outputs * which - first_out
            local_of, output_of = np.nonzero((inputs[:, None] < outputs) & (output >= 0) & (output < count_out))
            yield local[local_of], output[local_of, output_of]


def _kernel_axes(layout: Layout) -> tuple[int, int, tuple[int, ...]]:
    """The axis of the inputs, that of the outputs, and the 1 to 3 of the kernel."""
    ins, outs, batch = layout.roles()
    kernel = tuple(axis for axis in range(len(layout.shape)) if axis not in (*ins, *outs, *batch))
    if len(ins) != 1 or len(outs) != 1 or ins == outs or not 1 <= len(kernel) <= 3:
        raise ValueError(
            f"shape must have an input axis, an output axis and 1 to 3 kernel axes, got {quote(layout.shape)} "
            f"with {len(kernel)} of them"
        )
    return ins[0], outs[0], kernel


def _find_centres(layout: Layout, groups: int) -> Ones:
    ins, outs, kernel = _kernel_axes(layout)
    if layout.shape[outs] % groups:
        raise ValueError(f"groups must divide the {layout.shape[outs]} outputs of {quote(layout.shape)}, got {groups}")
    return Ones(ins, outs, layout.shape[outs] // groups, {axis: layout.shape[axis] // 2 for axis in kernel})


# Sparse


def _prepare_sparse(sparsity: float, std: float, per: str, layout: Layout, element_type: ElementType) -> Writer:
    rows, columns, batch = layout.matrix()
    outs = tuple(sorted(layout.roles()[1]))
    ins = columns if rows == outs else rows
    units, entries = (ins, outs) if per == "in" else (outs, ins)
    count = math.prod(layout.shape[axis] for axis in entries)
    if count >= 1 << 31:
        raise ValueError(f"shape must have units of fewer than 2^31 weights, got {count} in {quote(layout.shape)}")
    normal = lower(Normal(0.0, std), element_type)
    if zeros_of(sparsity, count) == 0:
        return partial(fill_elements, normal)
    return partial(_write_sparse, normal, batch + units, entries, sparsity)


def _write_sparse(
    normal: Conversion, units: tuple[int, ...], entries: tuple[int, ...], sparsity: float, target: Target, call: Call
) -> None:
    fill_elements(normal, target, call)
    empty_entries(target, units, entries, sparsity, call)


# Given values, and weights that interpolate


@np.errstate(all="ignore")
def _round_values(given: GivenValues, element_type: ElementType, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The values, each rounded to the working type and from there once to the array's."""
    numbers = np.array(given.values)
    largest = float(numbers[np.abs(numbers).argmax()])
    refuse_overflow(Constant(largest), element_type, largest)
    narrowed = numbers.astype(f"float{element_type.bits}")
    narrowed[(narrowed == 0) & (numbers != 0)] = 0  # what underflows becomes +0, as everywhere
    real = dtype.type(0).real.dtype if dtype.kind == "c" else dtype
    return _as_integers(narrowed.astype(real)).reshape(given.shape)


def _write_values(values: NDArray[Any], target: Target, call: Call) -> None:
    refuse_overlap(target.out)
    _copy(_as_integers(target.out), partial(_take_piece, values, target), call.threads)


def _copy(out: NDArray[Any], take: Callable[[tuple[slice, ...]], NDArray[Any]], threads: int | None) -> None:
    """Copy to each piece of an array what `take` gives for it."""
    if out.size <= PIECE:
        out[...] = take(tuple(map(slice, _ORIGIN[: out.ndim], out.shape)))
        return
    pieces = Pieces(out)

    def copy(first: int, last: int) -> None:
        for number in range(first, last):
            piece = pieces[number]
            np.copyto(out[piece], take(piece))

    run(copy, pieces.count, pieces.values, threads)


_ORIGIN = (0,) * MOST_AXES


def _take_piece(values: NDArray[Any], target: Target, piece: tuple[slice, ...]) -> NDArray[Any]:
    """What a piece of the target has of given values: no larger than the piece."""
    for axis in reversed(range(values.ndim)):  # a list of rows last: it may repeat rows
        if values.shape[axis] == 1:
            continue
        here, each = piece[axis], target.shape[axis] // values.shape[axis]
        if axis == 0 and target.rows is not None:
            values = values.take(target.rows[here] // each, axis)
            continue
        first, last = here.start + target.start[axis], here.stop + target.start[axis]
        lowest = first // each
        values = values[(*(slice(None),) * axis, slice(lowest, (last - 1) // each + 1))]
        if each == 1 or values.shape[axis] == 1:
            continue
        if first % each == last % each == 0:
            values = values.repeat(each, axis)
        else:
            values = values.take(np.arange(first, last) // each - lowest, axis)
    return values


_FEW = 1 << 8  # weights that are kept: thousands of kernels of other shapes take some MB


def _write_bilinear(shape: tuple[int, ...], working: np.dtype[Any], target: Target, call: Call) -> None:
    """Compute each tile of the kernel once, then copy it to all inputs and outputs."""
    refuse_overlap(target.out)
    tiles = Pieces(target.out[tuple(slice(None) if size > 1 else slice(1) for size in shape)], PIECE >> 5)
    for number in range(tiles.count):
        tile = tiles[number]
        places = [np.arange(along.start, along.stop) + first for along, first in zip(tile, target.start, strict=True)]
        if target.rows is not None:
            places[0] = target.rows[tile[0]]
        weights = _make_bilinear(shape, working, target.out.dtype, places)
        out = target.out[tuple(along if size > 1 else slice(None) for size, along in zip(shape, tile, strict=True))]
        _copy(_as_integers(out), partial(_take_slices, weights), call.threads)


def _take_slices(weights: NDArray[Any], piece: tuple[slice, ...]) -> NDArray[Any]:
    """What a piece has of weights: all of an axis along which they are the same."""
    slices = (along if size > 1 else slice(None) for size, along in zip(weights.shape, piece, strict=True))
    taken: NDArray[Any] = weights[tuple(slices)]
    return taken


@default_floating_point
@np.errstate(all="ignore")
def _make_bilinear(
    shape: tuple[int, ...], working: np.dtype[Any], dtype: np.dtype[Any], places: Sequence[NDArray[np.int64]]
) -> NDArray[Any]:
    """The kernel's values at some indices of each axis, rounded to the working type and from there once to `dtype`."""
    below = math.prod(size + size % 2 for size in shape if size > 1)
    is_exact = below < 1 << 53  # all whole numbers on the way are float64
    whole = np.float64 if is_exact else object
    above: NDArray[Any] = np.ones((1,) * len(shape), whole)
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        # 2 f (1 - abs(k / f - c)) is a whole number.
        half = -(-size // 2)
        numbers = 2 * half - abs(2 * places[axis].astype(whole) - (2 * half - 1 - half % 2))
        above = above * numbers.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    if is_exact:
        quotients = above / below
        weights = quotients if working == np.float64 else _round_to_odd(quotients, above, float(below))
    else:
        nearest = (FLOAT32 if working == np.float32 else FLOAT64).nearest
        weights = np.array([nearest(Fraction(number) / below) for number in above.flat]).reshape(above.shape)
    return _as_integers(weights.astype(working).astype(dtype))


def _round_to_odd(quotients: NDArray[np.float64], above: NDArray[np.float64], below: float) -> NDArray[np.float64]:
    """Round quotients that are not exact to the odd one of their two neighbours instead of to the nearest.

    Rounded again to a type of at most 51 bits, they are as if rounded once (Boldo and Melquiond 2008).
    """
    products = quotients * below
    (high, low), (high_below, low_below) = _split_halves(quotients), _split_halves(below)
    errors = products - high * high_below - high * low_below - low * high_below - low * low_below  # Dekker 1971
    left = (above - products) + errors
    bits = quotients.view(np.int64) - (left < 0)
    odd: NDArray[np.float64] = (bits | (left != 0)).view(np.float64)
    return odd


def _split_halves(number: Any) -> tuple[Any, Any]:
    """A float64, or an array of them, as a sum of two of at most 26 bits."""
    shifted = number * ((1 << 27) + 1.0)
    high = shifted - (shifted - number)
    return high, number - high


def _as_integers(array: NDArray[Any]) -> NDArray[Any]:
    """The same memory as integers, which NumPy copies bit by bit."""
    return array.view(f"u{array.itemsize}")
