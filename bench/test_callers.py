"""Many threads of Python's that each fill small arrays of their own: with Python's lock, and without it."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import process_time

import numpy as np
import peers
import pytest

import winit_fast

FILLS = 500  # of each thread in a round, which then takes some milliseconds


def lock() -> str:
    """Whether one thread at a time runs Python, as it is now: importing a module may have turned the lock on."""
    return "with the GIL" if getattr(sys, "_is_gil_enabled", lambda: True)() else "without the GIL"


@pytest.mark.benchmark(group="64 x 64 float32 by many callers")
@pytest.mark.parametrize("callers", [1, 2, 16])
@pytest.mark.parametrize("method", ["winit_fast", "NumPy PCG64"])
def test_callers(benchmark, method, callers):
    """The fills in a second of all threads together, and the CPU time of one, are in the extra information."""
    outs = [np.empty((64, 64), np.float32) for _ in range(callers)]
    together = Barrier(callers)

    def call(number):
        out, generator = outs[number], np.random.Generator(np.random.PCG64(number))
        together.wait()
        if method == "winit_fast":
            for _ in range(FILLS):
                winit_fast.fill(out, "normal(std=0.02)", seed=peers.SEED, name=number, threads=1)
        else:
            for _ in range(FILLS):
                generator.standard_normal(out=out, dtype=np.float32)

    with ThreadPoolExecutor(callers) as pool:
        begun = process_time()
        benchmark.pedantic(lambda: list(pool.map(call, range(callers))), rounds=15, warmup_rounds=1)
        used = process_time() - begun
    benchmark.extra_info.update(
        method=method, isa=winit_fast.dispatch.ISA, threads=callers, scheme="normal", lock=lock(),
        cpus=winit_fast.parallel.default_threads(),
    )  # fmt: skip
    if benchmark.stats is not None:  # None under --benchmark-disable
        benchmark.extra_info["cpu_microseconds_a_fill"] = 1e6 * used / (16 * callers * FILLS)
        benchmark.extra_info["fills_per_second"] = callers * FILLS / benchmark.stats.stats.min
