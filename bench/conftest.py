"""Options and fixtures of the benchmarks: ``python -m pytest bench``; bench/README.md says more."""

from __future__ import annotations

import gc
import importlib.metadata
import math
import platform
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from peers import Method, UnavailableError, kernels_of

import winit_fast
from winit_fast.dispatch import ISA

PEERS = (
    "numpy", "randomgen", "mkl", "mkl_random", "torch", "scipy", "tensorflow_cpu", "jax", "keras", "transformers",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the size of the buffers and the time for each measurement."""
    parser.addoption("--megabytes", type=int, default=256, help="size of the buffers in MiB (default: 256)")
    parser.addoption("--seconds", type=float, default=1.5, help="time for each measurement (default: 1.5)")


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Keep of the machine what bears on speed, and what was measured."""
    cpu = machine_info.get("cpu", {})
    kept = {key: cpu.get(key) for key in ("brand_raw", "arch", "count", "family", "model")}
    machine_info.clear()
    machine_info.update(
        cpu=kept, system=platform.system(), isa=ISA, megabytes=config.getoption("--megabytes"),
        versions={"python": platform.python_version(), "winit_fast": winit_fast.__version__}
        | {name: _version(name) for name in PEERS},
    )  # fmt: skip


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""


@pytest.fixture(scope="session")
def megabytes(pytestconfig: pytest.Config) -> int:
    """The size of one buffer."""
    return int(pytestconfig.getoption("--megabytes"))


@pytest.fixture(scope="session")
def memory(megabytes: int) -> np.ndarray:
    """One megabytes-sized buffer, twice over, of bytes that have been touched; tests view it as what they need."""
    octets = winit_fast.empty(2 * megabytes << 20, np.uint8)
    octets.fill(1)
    return octets


@pytest.fixture
def measure(benchmark: Any, pytestconfig: pytest.Config) -> Callable[..., None]:
    """Time one way to fill a buffer; rounds until the time is up, after one that does not count."""
    seconds = pytestconfig.getoption("--seconds")

    def run(method: Method, buffer: np.ndarray) -> None:
        part = buffer if method.share == 1.0 else buffer[: math.ceil(len(buffer) * method.share)]
        try:
            fill = method.bind(part)
        except UnavailableError as reason:
            pytest.skip(str(reason))
        gc.collect()
        with kernels_of(method.isa):
            start = perf_counter()
            fill()
            rounds = min(30, max(5, math.ceil(seconds / max(perf_counter() - start, 1e-6))))
            benchmark.pedantic(fill, rounds=rounds, iterations=1, warmup_rounds=1)
        put_into_json(benchmark, method, part)

    return run


@pytest.fixture
def describe(benchmark: Any) -> Callable[[Method, np.ndarray], None]:
    """Add to the JSON what `measure` adds, for a test that times by itself."""
    return lambda method, filled: put_into_json(benchmark, method, filled)


def put_into_json(benchmark: Any, method: Method, filled: np.ndarray) -> None:
    """Put into the JSON what the tables and pictures are made of; rates are those of the fastest round."""
    benchmark.extra_info.update(
        method=method.label, threads=method.threads, isa=method.isa, elements=filled.size, bytes=filled.nbytes,
        dtype=filled.dtype.name,
    )  # fmt: skip
    if benchmark.stats is not None:  # None under --benchmark-disable
        fastest = benchmark.stats.stats.min
        benchmark.extra_info.update(
            gigabytes_per_second=filled.nbytes / fastest / 1e9, elements_per_second=filled.size / fastest
        )
