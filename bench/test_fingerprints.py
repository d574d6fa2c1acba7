"""Fingerprints beside what they check: each round after a fill of the same bytes, with which it is compared."""

from __future__ import annotations

import hashlib
import statistics
from time import perf_counter

import numpy as np
import peers
import pytest

import winit_fast
from winit_fast.fingerprints import fingerprint

ml_dtypes = pytest.importorskip("ml_dtypes")
DTYPES = {"float32": np.dtype("float32"), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def of_ours(buffer, target, threads):
    return lambda: fingerprint(buffer, threads=threads)


def fill(buffer, target, threads):
    """The fill itself once more."""
    return lambda: winit_fast.fill(buffer, "normal", seed=peers.SEED, name="table", threads=threads)


def memcpy(buffer, target, threads):
    """Bytes that are copied, not those read and written."""
    source, target = buffer.view(np.uint8), target.view(np.uint8)
    starts = source.ctypes.data

    def copy(part):
        first = part.ctypes.data - starts
        target[first : first + part.size] = part

    return peers.in_parts(source, threads, copy)


def blake2b(buffer, target, threads):
    return lambda: hashlib.blake2b(buffer.view(np.uint8), digest_size=16).hexdigest()


WAYS = [
    *((f"winit_fast {isa}", of_ours, threads, isa, 1) for isa in peers.ISAS for threads in (1, 2)),
    *((way.__name__, way, threads, None, 1) for way in (fill, memcpy) for threads in (1, 2)),
    ("BLAKE2b", blake2b, 1, None, 8),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", WAYS, ids=lambda case: f"{case[0]} {case[2]}")
def test_fingerprints(benchmark, describe, memory, pytestconfig, case, dtype):
    label, way, threads, isa, fraction = case
    benchmark.group = f"fingerprints {dtype}"
    buffer, target = np.split(memory, 2)
    buffer, target = (half[: half.size // fraction].view(DTYPES[dtype]) for half in (buffer, target))
    filled, run = [], way(buffer, target, threads)

    def refill():
        start = perf_counter()
        winit_fast.fill(buffer, "normal", seed=peers.SEED, name="table", threads=threads)
        filled.append(perf_counter() - start)

    start = perf_counter()
    refill()
    run()
    rounds = min(30, max(5, int(pytestconfig.getoption("--seconds") / (perf_counter() - start))))
    with peers.kernels_of(isa):
        benchmark.pedantic(run, setup=refill, rounds=rounds, iterations=1)
    describe(peers.Method(label, lambda _: run, threads, isa), buffer)
    if benchmark.stats is not None:  # None under --benchmark-disable
        parts = benchmark.stats.stats.data
        pairs = zip(filled[-len(parts) :], parts, strict=True)
        benchmark.extra_info["of_fill"] = statistics.median(fill / part for fill, part in pairs)
