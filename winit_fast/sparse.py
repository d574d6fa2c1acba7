"""Sparse weights: a normal fill, in which some entries of every unit become 0. STREAM.md, section 9."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from winit_fast import dispatch
from winit_fast._plan import FEW_ENTRIES, MOST_MARKS, TILE_UNITS
from winit_fast.floating_point import default_floating_point
from winit_fast.parallel import run
from winit_fast.target import Call, Target

__all__ = ["empty_entries", "zeros_of"]

MOST_ENTRIES = 1 << 18  # of one piece of work


@default_floating_point
def zeros_of(sparsity: float, entries: int) -> int:
    """How many of a unit's entries are empty."""
    return min(entries, math.ceil(sparsity * entries))


def empty_entries(
    target: Target, units: tuple[int, ...], entries: tuple[int, ...], sparsity: float, call: Call
) -> None:
    """Make the empty entries 0.

    Parameters
    ----------
    target : Target
    units, entries : tuple of int
        The axes that tell units apart (those of the batch first), and those of one unit's entries.
    sparsity : float
        The scheme's argument.
    call : Call
    """
    unit_side, entry_side = target.side(units), target.side(entries)
    total = entry_side.total
    stream_of_zeros = (total, zeros_of(sparsity, total), call.seed, call.stream)
    # The cost of one unit beside its entries, in values drawn. The smallest unit takes a microsecond too.
    words = max(FEW_ENTRIES, 8 * math.isqrt(total))
    tiles = -(-unit_side.count // TILE_UNITS)

    def empty(count: int, *which: Any) -> None:
        def work(first: int, last: int) -> None:
            tile = unit_side.places(first * TILE_UNITS, min(last * TILE_UNITS, unit_side.count))
            dispatch.kernels.empty_entries(target.out, *tile, *stream_of_zeros, *which)

        run(work, tiles, TILE_UNITS * (count + words), call.threads)

    line = entry_side.line()
    if line is not None:
        first, stride = line
        # The kernel marks a long unit entry by entry, and needs a byte for each that it is asked for.
        most = MOST_ENTRIES if total > MOST_MARKS else entry_side.count
        for begin in range(0, entry_side.count, most):
            count = min(most, entry_side.count - begin)
            empty(count, first + begin, count, begin * stride, stride)
        return
    for begin in range(0, entry_side.count, MOST_ENTRIES):
        indices, offsets = entry_side.places(begin, min(begin + MOST_ENTRIES, entry_side.count))
        empty(len(indices), 0, len(indices), 0, 0, indices.astype(np.int32), offsets)
