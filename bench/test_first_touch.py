"""Memory fresh from the system: allocation, page faults and fill together, as a user meets them the first time."""

from __future__ import annotations

import numpy as np
import peers
import pytest

import winit_fast


def ours(count, threads):
    return winit_fast.fill(winit_fast.empty(count), "normal", seed=peers.SEED, name="table", threads=threads)


def numpy(count, threads):
    return np.random.Generator(np.random.PCG64(peers.SEED)).standard_normal(count, dtype=np.float32)


def torch(count, threads):
    import torch

    torch.set_num_threads(threads)
    return torch.empty(count).normal_().numpy()


def zeros(count, threads):
    out = np.empty(count, np.float32)
    out.fill(0)
    return out


@pytest.mark.benchmark(group="first touch, normal float32")
@pytest.mark.parametrize(
    ("label", "make", "threads"),
    [
        ("winit_fast", ours, 1),
        ("winit_fast", ours, 2),
        ("NumPy PCG64", numpy, 1),
        ("torch", torch, 1),
        ("torch", torch, 2),
        ("ndarray.fill", zeros, 1),
    ],
)
def test_first_touch(benchmark, describe, megabytes, label, make, threads):
    if make is torch:
        pytest.importorskip("torch")
    kept = []  # one array at a time; the last one is given back outside of the measurement

    def fill():
        kept.append(make(megabytes * (1 << 20) // 4, threads))

    benchmark.pedantic(fill, setup=kept.clear, rounds=7, warmup_rounds=1)
    describe(peers.Method(label, fill, threads), kept[0])
