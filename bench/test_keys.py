"""Rows of an embedding that grows: by number, by any 64-bit key, and by one NumPy generator for each key."""

from __future__ import annotations

import numpy as np
import peers
import pytest

import winit_fast

ROWS = 40_000_000


def by_number(out, draw):
    """Rows of a table that has a shape."""
    rows = draw.integers(0, ROWS, len(out))
    shape = (ROWS, *out.shape[1:])
    return lambda threads: winit_fast.fill_rows(
        out, rows, "normal", seed=peers.SEED, name="table", shape=shape, threads=threads
    )


def by_key(out, draw):
    """Rows of a table that has none."""
    keys = draw.integers(0, 2**64, len(out), np.uint64)
    return lambda threads: winit_fast.fill_keys(out, keys, "normal", seed=peers.SEED, name="table", threads=threads)


def by_generator(out, draw):
    """What gives a key the same row everywhere with NumPy alone; a thousandth of the rows."""
    part = out[: max(1, len(out) // 1000)]
    keys = draw.integers(0, 2**63, len(part)).tolist()

    def fill(threads):
        for row, key in zip(part, keys, strict=True):
            np.random.Generator(np.random.PCG64([peers.SEED, key])).standard_normal(out=row, dtype=np.float32)

    return fill


@pytest.mark.parametrize("dim", [16, 64, 128])
@pytest.mark.parametrize(
    ("way", "threads", "share"),
    [(by_number, 1, 1), (by_number, 2, 1), (by_key, 1, 1), (by_key, 2, 1), (by_generator, 1, 1e-3)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_rows(benchmark, measure, memory, dim, way, threads, share):
    benchmark.group = f"rows of {dim} normal float32"
    out = memory.view(np.float32).reshape(-1, dim)
    out = out[: len(out) // 2]
    isa = None if way is by_generator else winit_fast.dispatch.ISA
    fill = way(out, np.random.default_rng(1))
    measure(peers.Method(way.__name__, lambda _: lambda: fill(threads), threads, isa, share), out)
