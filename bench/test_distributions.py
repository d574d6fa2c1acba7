"""A buffer of float32 or float64 that has been touched before, whole and contiguous: ours, theirs, and memset."""

from __future__ import annotations

from dataclasses import replace

import peers
import pytest


@pytest.mark.benchmark(group="memset")
@pytest.mark.parametrize("method", peers.memset(), ids=str)
def test_memset(measure, memory, megabytes, method):
    measure(method, memory[: megabytes << 20].view("float32"))


@pytest.mark.benchmark(group="constant float32")
@pytest.mark.parametrize("threads", [1, 2])
def test_constant(measure, memory, megabytes, threads):
    (method,) = peers.ours("ones", (None,), (threads,))
    measure(replace(method, label="winit_fast"), memory[: megabytes << 20].view("float32"))


@pytest.mark.benchmark(group="uniform float32")
@pytest.mark.parametrize("method", peers.of("uniform"), ids=str)
def test_uniform(measure, memory, megabytes, method):
    measure(method, memory[: megabytes << 20].view("float32"))


@pytest.mark.benchmark(group="normal float32")
@pytest.mark.parametrize("method", peers.of("normal"), ids=str)
def test_normal(measure, memory, megabytes, method):
    measure(method, memory[: megabytes << 20].view("float32"))


@pytest.mark.benchmark(group="truncated_normal float32")
@pytest.mark.parametrize("method", peers.of("truncated_normal"), ids=str)
def test_truncated_normal(measure, memory, megabytes, method):
    measure(method, memory[: megabytes << 20].view("float32"))


@pytest.mark.benchmark(group="truncated_normal [-3, 3] float32")
@pytest.mark.parametrize("method", peers.ours("truncated_normal(low=-3, high=3)"), ids=str)
def test_wider_truncated_normal(measure, memory, megabytes, method):
    measure(method, memory[: megabytes << 20].view("float32"))


@pytest.mark.benchmark(group="uniform float64")
@pytest.mark.parametrize("method", peers.of("uniform") + peers.mkl_random_generators("uniform"), ids=str)
def test_uniform_float64(measure, memory, megabytes, method):
    measure(method, memory[: megabytes << 20].view("float64"))


@pytest.mark.benchmark(group="normal float64")
@pytest.mark.parametrize("method", peers.of("normal") + peers.mkl_random_generators("normal"), ids=str)
def test_normal_float64(measure, memory, megabytes, method):
    measure(method, memory[: megabytes << 20].view("float64"))
