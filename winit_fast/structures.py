"""Schemes whose elements hang together: each becomes a function that writes the part of it that a target holds.

`prepare` checks all that depends on the shape, before anything is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from winit_fast._plan import refuse_overlap
from winit_fast.convolution import fill_convolution
from winit_fast.distributions import (
    Constant,
    ConvolutionOrthogonal,
    DeltaOrthogonal,
    Dirac,
    Distribution,
    Identity,
    Normal,
    Orthogonal,
    Sparse,
    Table,
)
from winit_fast.elements import Writer, fill_elements
from winit_fast.exact import FLOAT32, FLOAT64
from winit_fast.fans import Layout
from winit_fast.lowering import ElementType, Recipe, lower, refuse_overflow
from winit_fast.messages import shown
from winit_fast.orthogonal import fill_orthogonal
from winit_fast.sparse import empty_entries, zeros_of
from winit_fast.target import Target

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
                raise ValueError(f"shape must be that of a matrix (dirac takes kernels), got {shown(layout.shape)}")
            return _prepare_placed(partial(_diagonal, rows[0], columns[0]), gain, layout, element_type)
        case Dirac(groups):
            return _prepare_placed(
                partial(_centres, layout, _dirac_axes(layout, groups), groups), 1.0, layout, element_type
            )
        case Sparse(sparsity, std, per):
            return _prepare_sparse(sparsity, std, per, layout, element_type)
        case Table():
            return partial(_write_table, _numbers(distribution, element_type, dtype))
    raise AssertionError(distribution)


# Orthogonal

# Rounding may leave an entry of an orthogonal matrix a little above 1.
_LARGEST_ENTRY = Fraction(1025, 1024)


def _prepare_orthogonal(gain: float, layout: Layout, element_type: ElementType) -> Writer:
    refuse_overflow(Orthogonal(gain), element_type, 0.0, abs(gain), _LARGEST_ENTRY)
    working = FLOAT32 if element_type.bits == 32 else FLOAT64
    return partial(_write_orthogonal, layout.matrix(), working.nearest(gain), element_type)


def _write_orthogonal(
    axes: tuple[tuple[int, ...], ...], gain: float, element_type: ElementType, target: Target, seed: int, stream: int,
    threads: int | None,
) -> None:  # fmt: skip
    refuse_overlap(target.out)
    fill_orthogonal(target, axes, gain, element_type, seed, stream, threads)


def _prepare_convolution(gain: float, layout: Layout, element_type: ElementType) -> Writer:
    ins, outs, kernel = _widening_axes(layout)
    refuse_overflow(ConvolutionOrthogonal(gain), element_type, 0.0, abs(gain), _LARGEST_ENTRY)
    working = FLOAT32 if element_type.bits == 32 else FLOAT64
    return partial(_write_convolution, ins, outs, kernel, layout.batch(), working.nearest(gain), element_type)


def _write_convolution(
    ins: int, outs: int, kernel: tuple[int, ...], batch: tuple[int, ...], gain: float, element_type: ElementType,
    target: Target, seed: int, stream: int, threads: int | None,
) -> None:  # fmt: skip
    refuse_overlap(target.out)
    fill_convolution(target, ins, outs, kernel, batch, gain, element_type, seed, stream, threads)


def _widening_axes(layout: Layout) -> tuple[int, int, tuple[int, ...]]:
    ins, outs, kernel = _kernel_axes(layout)
    if layout.shape[ins] > layout.shape[outs]:
        raise ValueError(
            f"shape must have at most as many inputs as outputs, got {layout.shape[ins]} and {layout.shape[outs]} "
            f"in {shown(layout.shape)}"
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


def _write_delta(
    zeros: Recipe,
    centre: dict[int, int],
    orthogonal: Writer,
    target: Target,
    seed: int,
    stream: int,
    threads: int | None,
) -> None:
    fill_elements(zeros, target, seed, stream, threads)
    for part in _slices(target, centre):
        if part.out.size:
            orthogonal(part, seed, stream, threads)


def _slices(target: Target, places: dict[int, int]) -> list[Target]:
    """The parts of a target where axes have these places, without the axes; several where a row is listed twice."""
    left = [axis for axis in range(len(target.shape)) if axis not in places]
    here: list[list[int]] = []
    for axis, place in places.items():
        if axis == 0 and target.rows is not None:
            here.append(np.flatnonzero(target.rows == place).tolist())
        else:
            local = place - target.start[axis]
            here.append([local] if 0 <= local < target.out.shape[axis] else [])
    rows = None if 0 in places else target.rows
    shape, start = (tuple(sizes[axis] for axis in left) for sizes in (target.shape, target.start))
    parts = []
    for local_places in product(*here):
        index: list[int | slice] = [slice(None)] * len(target.shape)
        for axis, local in zip(places, local_places, strict=True):
            index[axis] = local
        parts.append(Target(target.out[tuple(index)], shape, start, rows))
    return parts


# Ones at places


def _prepare_placed(
    places: Callable[[Target], dict[int, NDArray[np.int64]]], value: float, layout: Layout, element_type: ElementType
) -> Writer:
    constants = lower(Constant(0.0), element_type), lower(Constant(value), element_type)
    return partial(_write_placed, places, *constants)


def _write_placed(
    places: Callable[[Target], dict[int, NDArray[np.int64]]], zeros: Recipe, constant: Recipe, target: Target,
    seed: int, stream: int, threads: int | None,
) -> None:  # fmt: skip
    """0 everywhere, then the constant at the places given by their indices along some axes, all along the others."""
    fill_elements(zeros, target, seed, stream, threads)
    value = np.empty(1, target.out.dtype)
    fill_elements(constant, Target(value, (1,), (0,)), seed, stream, 1)
    index: list[Any] = [slice(None)] * len(target.shape)
    coordinates = places(target)
    if target.rows is not None and 0 in coordinates:
        order = np.argsort(target.rows, kind="stable")
        first, last = (np.searchsorted(target.rows[order], coordinates[0], side) for side in ("left", "right"))
        times = last - first
        coordinates = {axis: np.repeat(along, times) for axis, along in coordinates.items()}
        within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        coordinates[0] = order[np.repeat(first, times) + within]
    is_here = np.ones(len(next(iter(coordinates.values()))), bool)
    for axis, along in coordinates.items():
        index[axis] = along - (0 if axis == 0 and target.rows is not None else target.start[axis])
        is_here &= (index[axis] >= 0) & (index[axis] < target.out.shape[axis])
    for axis in coordinates:
        index[axis] = index[axis][is_here]
    _as_integers(target.out)[tuple(index)] = _as_integers(value)[0]


def _diagonal(row_axis: int, column_axis: int, target: Target) -> dict[int, NDArray[np.int64]]:
    """The places of the diagonal, as far as the array may have them."""
    axes = [axis for axis in (row_axis, column_axis) if axis != 0 or target.rows is None]
    first = max(target.start[axis] for axis in axes)
    last = min(target.start[axis] + target.out.shape[axis] for axis in axes)
    along = np.arange(first, max(first, min(last, target.shape[row_axis], target.shape[column_axis])))
    return {row_axis: along, column_axis: along}


def _kernel_axes(layout: Layout) -> tuple[int, int, tuple[int, ...]]:
    """The axis of the inputs, that of the outputs, and the 1 to 3 of the kernel."""
    ins, outs, batch = layout.roles()
    kernel = tuple(axis for axis in range(len(layout.shape)) if axis not in (*ins, *outs, *batch))
    if len(ins) != 1 or len(outs) != 1 or ins == outs or not 1 <= len(kernel) <= 3:
        raise ValueError(
            f"shape must have an input axis, an output axis and 1 to 3 kernel axes, got {shown(layout.shape)} "
            f"with {len(kernel)} of them"
        )
    return ins[0], outs[0], kernel


def _dirac_axes(layout: Layout, groups: int) -> tuple[int, int, tuple[int, ...]]:
    ins, outs, kernel = _kernel_axes(layout)
    if layout.shape[outs] % groups:
        raise ValueError(f"groups must divide the {layout.shape[outs]} outputs of {shown(layout.shape)}, got {groups}")
    return ins, outs, kernel


def _centres(
    layout: Layout, axes: tuple[int, int, tuple[int, ...]], groups: int, target: Target
) -> dict[int, NDArray[np.int64]]:
    """For each output of a group the input of the same number, at the centre of the kernel."""
    ins, outs, kernel = axes
    outputs = layout.shape[outs] // groups
    number = np.arange(min(outputs, layout.shape[ins]))
    along = (outputs * np.arange(groups)[:, None] + number).reshape(-1)
    centres = {axis: np.full(len(along), layout.shape[axis] // 2) for axis in kernel}
    return {ins: np.tile(number, groups), outs: along, **centres}


# Sparse


def _prepare_sparse(sparsity: float, std: float, per: str, layout: Layout, element_type: ElementType) -> Writer:
    rows, columns, batch = layout.matrix()
    outs = tuple(sorted(layout.roles()[1]))
    ins = columns if rows == outs else rows
    units, entries = (ins, outs) if per == "in" else (outs, ins)
    count = math.prod(layout.shape[axis] for axis in entries)
    if count >= 1 << 31:
        raise ValueError(f"shape must have units of fewer than 2^31 weights, got {count} in {shown(layout.shape)}")
    normal = lower(Normal(0.0, std), element_type)
    if zeros_of(sparsity, count) == 0:
        return partial(fill_elements, normal)
    return partial(_write_sparse, normal, batch + units, entries, sparsity)


def _write_sparse(
    normal: Recipe, units: tuple[int, ...], entries: tuple[int, ...], sparsity: float, target: Target, seed: int,
    stream: int, threads: int | None,
) -> None:  # fmt: skip
    fill_elements(normal, target, seed, stream, threads)
    empty_entries(target, units, entries, sparsity, seed, stream, threads)


# Tables


def _numbers(table: Table, element_type: ElementType, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The values, each rounded to the working type and from there once to the array's."""
    working = FLOAT32 if element_type.bits == 32 else FLOAT64

    def rounded(value: float | Fraction) -> float:
        if value == 0:
            return float(value)  # of -0.0 too
        refuse_overflow(Constant(float(value)), element_type, value)
        return element_type.format.nearest(working.nearest(value))

    real = dtype.type(0).real.dtype if dtype.kind == "c" else dtype
    if table.values and all(isinstance(value, float) for value in table.values):
        numbers = np.array(table.values)
        rounded(float(numbers[np.abs(numbers).argmax()]))  # refuses what is too large
        narrowed = numbers.astype(f"float{element_type.bits}")
        narrowed[(narrowed == 0) & (numbers != 0)] = 0  # what is too small becomes +0, as everywhere
        return narrowed.astype(real).reshape(table.shape)
    # Fractions: each becomes a value of the type, so that NumPy's conversion has nothing to round.
    known = {value: rounded(value) for value in set(table.values)}
    return np.array([known[value] for value in table.values]).astype(real).reshape(table.shape)


def _write_table(numbers: NDArray[Any], target: Target, seed: int, stream: int, threads: int | None) -> None:
    refuse_overlap(target.out)
    part = numbers
    for axis, size in enumerate(numbers.shape):
        if size == 1 < target.shape[axis]:
            continue
        if axis == 0 and target.rows is not None:
            part = part.take(target.rows, axis)
        else:
            part = part.take(np.arange(target.out.shape[axis]) + target.start[axis], axis)
    np.copyto(_as_integers(target.out), _as_integers(part))


def _as_integers(array: NDArray[Any]) -> NDArray[Any]:
    """The same memory, copied as it is by whatever NumPy does with it."""
    return array.view(f"u{array.itemsize}")
