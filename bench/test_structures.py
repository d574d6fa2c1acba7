"""Matrices and kernels whose elements hang together, against torch's initializers; truncations at any bounds."""

from __future__ import annotations

import math

import numpy as np
import peers
import pytest

LARGE = 4096


@pytest.fixture
def matrix(memory, megabytes):
    """A square of so many rows in memory that has been touched, smaller where the buffers are."""

    def of(side: int) -> np.ndarray:
        side = min(side, math.isqrt(megabytes << 18) // 64 * 64)
        return memory[: 4 * side * side].view(np.float32).reshape(side, side)

    return of


@pytest.mark.parametrize("side", [256, 1024, 2048, LARGE])
@pytest.mark.parametrize("method", peers.ours("orthogonal") + peers.torch_init("orthogonal_"), ids=str)
def test_orthogonal(benchmark, measure, matrix, side, method):
    benchmark.group = f"orthogonal {side} x {side}"
    measure(method, matrix(side))


@pytest.mark.parametrize("part", ["a quarter of the rows", "a quarter of the columns", "half of both"])
@pytest.mark.parametrize("place", ["first", "last"])
def test_part_of_an_orthogonal_matrix(benchmark, measure, matrix, part, place):
    benchmark.group = f"orthogonal 2048 x 2048, {place} {part}"
    side = len(matrix(2048))
    rows, columns = {"a quarter of the rows": (4, 1), "a quarter of the columns": (1, 4), "half of both": (2, 2)}[part]
    extent = (side // rows, side // columns)
    offset = (0, 0) if place == "first" else (side - extent[0], side - extent[1])
    (method,) = peers.ours("orthogonal", peers.ISAS[:1], (2,), (side, side), offset)
    measure(method, np.empty(extent, np.float32))


@pytest.mark.parametrize("shape", [(4, 1), (1, 4), (64, 1)], ids=str)
@pytest.mark.parametrize("method", peers.ours("orthogonal", threads=(2,)) + peers.torch_init("orthogonal_"), ids=str)
def test_tall_and_wide_orthogonal(benchmark, measure, matrix, shape, method):
    benchmark.group = f"orthogonal {shape[0]} : {shape[1]}"
    whole = matrix(2048).reshape(-1)
    unit = math.isqrt(whole.size // (shape[0] * shape[1]))
    measure(method, whole[: unit * unit * shape[0] * shape[1]].reshape(shape[0] * unit, shape[1] * unit))


@pytest.mark.parametrize("sparsity", [0.1, 0.9])
@pytest.mark.parametrize("per", ["in", "out"])
@pytest.mark.parametrize("threads", [1, 2])
def test_sparse(benchmark, measure, matrix, sparsity, per, threads):
    benchmark.group = "sparse 4096 x 4096"
    for method in peers.ours(f"sparse({sparsity}, per={per!r})", peers.ISAS[:1], (threads,)):
        measure(peers.renamed(method, f"winit_fast sparse({sparsity}, per={per!r})"), matrix(LARGE))


@pytest.mark.benchmark(group="sparse 4096 x 4096")
@pytest.mark.parametrize(
    "method", peers.ours("normal", peers.ISAS[:1]) + peers.torch_init("sparse_", sparsity=0.9), ids=str
)
def test_sparse_peers(measure, matrix, method):
    measure(method, matrix(LARGE))


@pytest.mark.benchmark(group="identity 4096 x 4096")
@pytest.mark.parametrize(
    "method",
    [
        *(peers.renamed(method, f"{method.label}, constant") for method in peers.ours("constant(1)", peers.ISAS[:1])),
        *peers.ours("identity", peers.ISAS[:1]),
        *peers.torch_init("eye_"),
    ],
    ids=str,
)
def test_identity(measure, matrix, method):
    measure(method, matrix(LARGE))


@pytest.mark.benchmark(group="dirac 1024 x 1024 x 4 x 4")
@pytest.mark.parametrize(
    "method",
    [
        *(peers.renamed(method, f"{method.label}, constant") for method in peers.ours("constant(1)", peers.ISAS[:1])),
        *peers.ours("dirac", peers.ISAS[:1], in_axis=1, out_axis=0),
        *peers.torch_init("dirac_"),
    ],
    ids=str,
)
def test_dirac(measure, matrix, method):
    side = len(matrix(LARGE)) // 4
    measure(method, matrix(LARGE).reshape(-1)[: 16 * side * side].reshape(side, side, 4, 4))


BOUNDS = ["-2, high=2", "-3, high=3", "-1, high=2.5", "0, high=inf", "3, high=inf", "-inf, high=-9"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("isa", peers.ISAS)
def test_truncated_normal(benchmark, measure, memory, megabytes, dtype, bounds, isa):
    benchmark.group = f"truncated normals {dtype}"
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    method = peers.ours(f"truncated_normal(low={bounds})", (isa,), (1,))[0]
    measure(peers.renamed(method, f"low={bounds}"), memory[: megabytes << 18].view(dtype))
