"""Memory that schemes take beside the values they write: no table may take more than the caller allows.

Most take none that grows with the tensor. Orthogonal and sparse ones do, and a file of a few bytes, or its metadata,
may ask for any of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isqrt, prod
from typing import TYPE_CHECKING

from winit_fast.files.sizes import show_size
from winit_fast.messages import quote
from winit_fast.parallel import default_threads

if TYPE_CHECKING:
    from winit_fast.fans import Layout
    from winit_fast.files.specs import Part

__all__ = ["LEAST_MEMORY", "leave_scratch", "scratch_of"]

#: Bytes: the least that may be allowed for blocks and values. It is two blocks of the smallest size.
LEAST_MEMORY = 128 << 10

#: Bytes that belong to the library itself, whatever the caller allows: two of orthogonal's buffers, and its threads'.
FREE = 64 << 20


def leave_scratch(parts: Iterable[Part], memory: int, threads: int | None) -> int:
    """What is left of `memory` for blocks and values, where schemes need some for themselves.

    Raises
    ------
    ValueError
        If that is less than `LEAST_MEMORY`; before any of it is taken.
    """
    count = default_threads() if threads is None else threads
    most = 0
    for part in parts:
        if part.nbytes and not part.spec.initializer.is_elementwise(part.spec.shape):
            needed = max(0, scratch_of(part, count) - FREE)
            if (least := needed + LEAST_MEMORY) > memory:
                spec = part.spec
                scheme = quote(str(spec.initializer.scheme))
                raise ValueError(
                    f"memory must be at least {least} bytes ({show_size(least)}) for {scheme} of "
                    f"shape {quote(spec.shape)}, tensor {quote(spec.name)}, by {count} threads; got {memory}"
                )
            most = max(most, needed)
    return memory - most


def scratch_of(part: Part, threads: int) -> int:
    """Bytes that a fill of some of a part takes beside its values, at most."""
    from winit_fast.distributions import ConvolutionOrthogonal, DeltaOrthogonal, Orthogonal, Sparse

    spec = part.spec
    distribution, layout = spec.initializer.distribution(spec.shape), spec.initializer.layout(spec.shape)
    size = 8 if spec.dtype.itemsize == 8 else 4  # of a number: all but float64 are computed as float32
    is_row_major = part.shape[1:] == spec.shape[1:]
    copies = 0 if is_row_major else threads  # of vectors, where a part has some of their elements
    room = (1 << 20) + 4096 * 64 * size * threads  # what is small: lists, and a piece of the result for each thread
    if isinstance(distribution, Orthogonal):
        rows, columns, _ = layout.matrix()
        return room + _of_matrix(_count(layout, rows), _count(layout, columns), size, copies)
    if isinstance(distribution, DeltaOrthogonal):
        ins, outs, _ = layout.roles()
        return room + _of_matrix(_count(layout, ins), _count(layout, outs), size, copies)
    if isinstance(distribution, ConvolutionOrthogonal):
        return room + _of_convolution(layout, size)
    if isinstance(distribution, Sparse):
        ins, outs, batch = layout.roles()
        outputs = _count(layout, outs)
        inputs = prod(layout.shape) // max(1, outputs * _count(layout, batch))
        entries = outputs if distribution.per == "in" else inputs
        units = prod(layout.shape) // max(1, entries)
        return _of_sparse_units(entries) * min(threads, -(-units // 16))
    return 0


def _count(layout: Layout, axes: tuple[int, ...]) -> int:
    return prod(layout.shape[axis] for axis in axes)


def _of_matrix(rows: int, columns: int, size: int, copies: int) -> int:
    """See `winit_fast.orthogonal`, whose buffers these are."""
    from winit_fast import orthogonal

    long, short = max(rows, columns), min(rows, columns)
    block, budget = orthogonal.BLOCK, orthogonal.BUDGET
    lists = 64 * (long + short)  # places of both sides, as numbers of 64 bits, and what they are made of
    height, blocks = orthogonal.round_up(long), -(-short // block)
    if long < 2 * short:
        vectors = height * block * size
        first = (height + block) * block * size  # the first panel is the largest
        return (
            min(max(budget, vectors), blocks * vectors)
            + min(max(budget, first), blocks * first)
            + copies * vectors
            + lists
        )
    panel = blocks * block * size  # of one position
    panels = panel * max(block, min(budget // panel, height))
    products = blocks * (blocks + 1) * block * block * 8
    return panels + products + 64 * blocks * blocks + lists


def _of_convolution(layout: Layout, size: int) -> int:
    """See `winit_fast.convolution`."""
    from winit_fast import orthogonal

    ins, outs, batch = layout.roles()
    outputs = _count(layout, outs)
    sizes = [layout.shape[axis] for axis in range(len(layout.shape)) if axis not in (*ins, *outs, *batch)]
    block, budget = orthogonal.BLOCK, orthogonal.BUDGET
    vectors = prod(sizes) * orthogonal.round_up(outputs) * block * size  # those of a block of inputs
    kernels = 4 * vectors * max(1, min(budget // (2 * vectors), -(-_count(layout, ins) // block)))
    return kernels + _of_matrix(outputs, outputs, size, 0) + 64 * (prod(sizes) + sum(sizes))


def _of_sparse_units(entries: int) -> int:
    """What a thread takes for 16 units: see sparse.pxi."""
    words = 8 * (isqrt(entries) + 2)
    marks = (4 << 20) + 8 * entries if entries <= 4 << 20 else 4 << 20
    return min(marks, 64 * entries + (1 << 20)) + 4 * (16 * (words + 32) + words) + 64 * min(entries, 1 << 18)
