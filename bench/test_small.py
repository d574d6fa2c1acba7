"""What one call costs: a 64 x 64 fill from Python, and the import."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

import numpy as np
import peers
import pytest

import winit_fast


@pytest.mark.benchmark(group="64 x 64 float32")
@pytest.mark.parametrize("isa", peers.ISAS)
@pytest.mark.parametrize("scheme", ["uniform", "normal(std=0.02)", "truncated_normal(std=0.02)", "he_normal"])
def test_small_fill(benchmark, isa, scheme):
    out = np.empty((64, 64), np.float32)
    benchmark.extra_info.update(method="winit_fast", isa=isa, threads=1, scheme=scheme)
    with peers.kernels_of(isa):
        benchmark(lambda: winit_fast.fill(out, scheme, seed=peers.SEED, name="layers.0.weight"))


@pytest.mark.benchmark(group="20,000 arrays of 16 x 16 float32")
@pytest.mark.parametrize("method", ["fill_many", "a loop of fill"])
def test_many(benchmark, method):
    outs = {f"layers.{number}.weight": np.empty((16, 16), np.float32) for number in range(20_000)}

    def together():
        fills = [{"out": out, "scheme": "he_normal", "name": name} for name, out in outs.items()]
        winit_fast.fill_many(fills, seed=peers.SEED)

    def one_by_one():
        for name, out in outs.items():
            winit_fast.fill(out, "he_normal", seed=peers.SEED, name=name)

    benchmark.extra_info.update(method=method, isa=winit_fast.dispatch.ISA, threads=1, scheme="he_normal")
    benchmark(together if method == "fill_many" else one_by_one)


@pytest.mark.benchmark(group="64 x 64 float32")
def test_small_numpy(benchmark):
    out = np.empty((64, 64), np.float32)
    generator = np.random.Generator(np.random.PCG64(peers.SEED))
    benchmark.extra_info.update(method="NumPy PCG64", isa=None, threads=1, scheme="normal")
    benchmark(lambda: generator.standard_normal(out=out, dtype=np.float32))


@pytest.mark.benchmark(group="64 x 64 float32")
def test_small_torch(benchmark):
    torch = pytest.importorskip("torch")
    out = torch.empty(64, 64)
    benchmark.extra_info.update(method="torch", isa=None, threads=1, scheme="normal")
    benchmark(lambda: out.normal_(0.0, 0.02))


@pytest.mark.benchmark(group="import")
def test_import(benchmark):
    """In fresh processes: the milliseconds that follow NumPy's own import are in the extra information."""
    program = "import time, numpy; t = time.perf_counter(); import winit_fast; print(1e3 * (time.perf_counter() - t))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    seen = []

    def process():
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)  # fmt: skip
        seen.append(float(done.stdout))

    benchmark.pedantic(process, rounds=15, warmup_rounds=1)
    benchmark.extra_info.update(method="winit_fast", milliseconds=statistics.median(seen))
