"""Parts of a table, and memory in another order, against a contiguous fill: elements per second.

The table is 2^20 x 128 float32 where the buffers are 256 MiB; half its columns are one buffer.
"""

from __future__ import annotations

import numpy as np
import peers
import pytest

import winit_fast

DIM = 128
HALF = slice(DIM // 2, DIM)


def contiguous(table, scheme, arguments):
    """Half as many rows of all columns: the elements that the other ways fill."""
    out = table[: len(table) // 2]
    return out, lambda: winit_fast.fill(out, scheme, shape=table.shape, offset=(0, 0), **arguments)


def half_the_columns(table, scheme, arguments):
    """A shard of the table, which lies in a buffer of its own."""
    out = table.reshape(-1)[: table.size // 2].reshape(-1, DIM // 2)
    return out, lambda: winit_fast.fill(out, scheme, shape=table.shape, offset=(0, DIM // 2), **arguments)


def half_the_columns_in_place(table, scheme, arguments):
    """The same shard, where it stands in the table."""
    out = table[:, HALF]
    return out, lambda: winit_fast.fill(out, scheme, shape=table.shape, offset=(0, DIM // 2), **arguments)


def transposed(table, scheme, arguments):
    """The whole table into memory that holds one column after another."""
    out = table.reshape(DIM, -1).T
    return out, lambda: winit_fast.fill(out, scheme, **arguments)


def random_rows(table, scheme, arguments):
    """Rows of dim 64 of a table of 40 million, in no order."""
    out = table.reshape(-1)[: table.size // 2].reshape(-1, 64)
    rows = np.random.default_rng(1).integers(0, 40_000_000, len(out))
    return out, lambda: winit_fast.fill_rows(out, rows, scheme, shape=(40_000_000, 64), **arguments)


WAYS = [contiguous, half_the_columns, half_the_columns_in_place, transposed, random_rows]


@pytest.mark.parametrize("scheme", ["uniform", "normal", "truncated_normal"])
@pytest.mark.parametrize("isa", [isa for isa in peers.ISAS if isa != "baseline"] or peers.ISAS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_layout(benchmark, measure, memory, scheme, isa, threads, way):
    benchmark.group = f"layouts {scheme}"
    table = memory.view(np.float32).reshape(-1, DIM)
    out, fill = way(table, scheme, {"seed": peers.SEED, "name": "table", "threads": threads})
    method = peers.Method(way.__name__, lambda _: fill, threads, isa)
    measure(method, out)
