"""Rows of an embedding that grows: by number, by any 64-bit key, by one NumPy generator for each, and out of a table.

Before each round, as many bytes are filled as one run, by as many threads: what a round takes is compared with that.
"""

from __future__ import annotations

import statistics
from time import perf_counter

import numpy as np
import peers
import pytest

import winit_fast

ml_dtypes = pytest.importorskip("ml_dtypes")
ROWS = 40_000_000
DTYPES = {"float32": np.dtype("float32"), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def by_number(out, table, rows, scheme, threads):
    """Rows of a table that has a shape."""
    shape = (ROWS, *out.shape[1:])
    arguments = {"seed": peers.SEED, "name": "table", "shape": shape, "threads": threads}
    return lambda: winit_fast.fill_rows(out, rows, scheme, **arguments)


def by_sorted_number(out, table, rows, scheme, threads):
    """The same in the order of the table."""
    return by_number(out, table, np.sort(rows), scheme, threads)


def by_key(out, table, rows, scheme, threads):
    """Rows of a table that has none."""
    keys = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return lambda: winit_fast.fill_keys(out, keys, scheme, seed=peers.SEED, name="table", threads=threads)


def by_generator(out, table, rows, scheme, threads):
    """What gives a row the same values everywhere with NumPy alone."""

    def fill():
        for row, number in zip(out, rows.tolist(), strict=True):
            row[:] = np.random.default_rng([peers.SEED, number]).standard_normal(out.shape[1], np.float32)

    return fill


def by_copy(out, table, rows, scheme, threads):
    """No values are made: rows of a table that was filled before, as large as memory has room for."""
    numbers = rows % len(table)
    bits = f"u{table.itemsize}"  # NumPy is slower at types that are not its own
    return lambda: np.take(table.view(bits), numbers, axis=0, out=out.view(bits), mode="clip")


WAYS = [(way, threads) for way in (by_number, by_sorted_number, by_key) for threads in (1, 2)]


@pytest.fixture
def beside(benchmark, describe, memory, pytestconfig):
    """Time one way to fill rows, each round after a fill of as many bytes."""

    def run(way, threads, scheme, dtype, dim, count=None):
        table, out = np.split(memory.view(DTYPES[dtype]).reshape(-1, dim), 2)
        if count is not None and count > len(out):
            pytest.skip(f"the buffers are too small for {count} rows")
        out = out[: max(1, len(out) // 1000) if way is by_generator else count]
        rows = np.random.default_rng(1).integers(0, ROWS, len(out))
        fill, whole = way(out, table, rows, scheme, threads), []

        def contiguous():
            start = perf_counter()
            winit_fast.fill(out, scheme, seed=peers.SEED, name="run", threads=threads)
            whole.append(perf_counter() - start)

        contiguous()
        start = perf_counter()
        fill()
        spent = perf_counter() - start + whole[0]
        whole.clear()
        rounds = min(200, max(5, int(pytestconfig.getoption("--seconds") / spent)))
        benchmark.pedantic(fill, setup=contiguous, rounds=rounds, iterations=1)
        isa = None if way in (by_generator, by_copy) else winit_fast.dispatch.ISA
        describe(peers.Method(way.__name__, lambda _: fill, threads, isa), out)
        if benchmark.stats is not None:  # None under --benchmark-disable
            parts = benchmark.stats.stats.data
            ratio = statistics.median(one / part for one, part in zip(whole[-len(parts) :], parts, strict=True))
            benchmark.extra_info.update(of_contiguous=ratio, rows_per_second=len(out) / min(parts))

    return run


@pytest.mark.parametrize("dim", [16, 32, 64, 128])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("way", "threads"), [*WAYS, (by_generator, 1), (by_copy, 1)], ids=lambda value: getattr(value, "__name__", value)
)
def test_rows(benchmark, beside, dim, dtype, way, threads):
    benchmark.group = f"rows of {dim} normal {dtype}"
    beside(way, threads, "normal", dtype, dim)


@pytest.mark.parametrize("dim", [16, 32, 64, 128])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_of_uniforms(benchmark, beside, dim, dtype, threads):
    benchmark.group = f"rows of {dim} uniform {dtype}"
    beside(by_number, threads, "uniform", dtype, dim)


@pytest.mark.parametrize("count", [10**power for power in range(3, 8)])
@pytest.mark.parametrize("way", [by_number, by_key], ids=lambda way: way.__name__)
@pytest.mark.parametrize(("dtype", "dim"), [("float32", 64), ("bfloat16", 16)])
def test_many_rows_or_few(benchmark, beside, way, dtype, dim, count):
    benchmark.group = f"{count} rows of {dim} normal {dtype}"
    beside(way, 2, "normal", dtype, dim, count)
