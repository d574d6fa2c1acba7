"""As many elements as the buffer has in float32, in narrower types: how fast are elements, not bytes?"""

from __future__ import annotations

import numpy as np
import peers
import pytest

ml_dtypes = pytest.importorskip("ml_dtypes")

DTYPES = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}


@pytest.mark.parametrize("scheme", ["uniform", "normal", "truncated_normal"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", [str(method) for method in peers.ours("normal")])
def test_ours(benchmark, measure, memory, megabytes, scheme, dtype, method):
    benchmark.group = f"{scheme} {dtype}"
    measure(_named(method, peers.ours(peers.SCHEMES[scheme])), _buffer(memory, megabytes, dtype))


@pytest.mark.parametrize("scheme", ["uniform", "normal"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("method", ["torch", "torch, 2 threads", "NumPy SFC64, cast"])
def test_theirs(benchmark, measure, memory, megabytes, scheme, dtype, method):
    benchmark.group = f"{scheme} {dtype}"
    methods = peers.torch_in_place(scheme) + peers.numpy_cast(scheme)
    measure(_named(method, methods), _buffer(memory, megabytes, dtype))


def _named(name: str, methods: list[peers.Method]) -> peers.Method:
    return next(method for method in methods if str(method) == name)


def _buffer(memory: np.ndarray, megabytes: int, dtype: str) -> np.ndarray:
    kind = np.dtype(DTYPES[dtype])
    elements = megabytes * (1 << 20) // 4
    return memory[: elements * kind.itemsize].view(kind)
