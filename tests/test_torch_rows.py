"""adapters.torch.init_rows_: rows of a larger tensor."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import winit_fast  # noqa: E402
from winit_fast.adapters._memory.torch import array_of  # noqa: E402
from winit_fast.adapters.torch import init, init_rows_  # noqa: E402

pytestmark = pytest.mark.frameworks

ROWS = [998, 3, 3, 0, 999, *range(40, 90)]
NAMED = {"seed": 7, "name": "user_id"}


def is_same(one, other):
    return one.dtype == other.dtype and torch.equal(
        one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)
    )


DTYPES = {
    "he_normal": ("float32", "bfloat16", "float16", "float8_e5m2", "float64", "complex64"),
    "xavier_uniform": ("float32", "bfloat16", "complex64"),
    "orthogonal": ("float32", "bfloat16", "float64"),
    "sparse(sparsity=0.5)": ("float32", "float16"),
}


@pytest.mark.parametrize(("scheme", "dtype"), [(scheme, dtype) for scheme in DTYPES for dtype in DTYPES[scheme]])
def test_rows_are_those_of_the_whole_tensor(scheme, dtype):
    dtype = getattr(torch, dtype)
    table = init((1000, 60), scheme, dtype=dtype, **NAMED)
    tensor = torch.empty(len(ROWS), 60, dtype=dtype)
    version = tensor._version
    assert init_rows_(tensor, ROWS, scheme, shape=(1000, 60), **NAMED) is tensor
    assert tensor._version > version
    assert is_same(tensor, table[ROWS])


@pytest.mark.parametrize("make", [
    list, tuple, np.array, torch.tensor, lambda rows: torch.tensor(rows, dtype=torch.int32),
    lambda rows: np.array(rows, "uint16"), lambda rows: torch.stack([torch.tensor(rows)] * 2, 1)[:, 0],
])  # fmt: skip
def test_rows_are_any_integers_along_one_axis(make):
    table = init((1000, 20), "normal", **NAMED)
    assert is_same(init_rows_(torch.empty(len(ROWS), 20), make(ROWS), "normal", shape=(1000, 20), **NAMED), table[ROWS])


def test_strides_further_axes_padding_and_stacks_are_as_for_a_whole_tensor():
    for shape, keywords in (
        ((1000, 4, 6), {}),
        ((1000, 6), {"padding_idx": 3}),
        ((1000, 6, 4), {"batch_axis": 0, "padding_idx": 2}),
    ):
        table = init(shape, "he_normal", **NAMED, **keywords)
        memory = torch.full((2 * len(ROWS), 9, *shape[2:]), 5.0)
        part = memory[::2, 1 : 1 + shape[1]]
        init_rows_(part, ROWS, "he_normal", shape=shape, **NAMED, **keywords)
        assert is_same(part, table[ROWS])
        part.fill_(5)
        assert bool((memory == 5).all())


def test_a_parameter_keeps_its_gradient_and_draws_from_the_generator_once():
    weight = torch.nn.Parameter(torch.zeros(3, 8))
    torch.manual_seed(5)
    init_rows_(weight, [1, 2, 3], "normal", name="user_id", shape=(10, 8))
    after = torch.rand(3)
    torch.manual_seed(5)
    table = init((10, 8), "normal", name="user_id")
    assert is_same(weight.detach(), table[1:4])
    assert torch.equal(after, torch.rand(3))
    assert weight.requires_grad


def test_the_same_rows_are_those_of_fill_rows():
    out = winit_fast.fill_rows(np.empty((2, 8), "float32"), [5, 1], "normal", shape=(10, 8), **NAMED)
    assert np.array_equal(array_of(init_rows_(torch.empty(2, 8), [5, 1], "normal", shape=(10, 8), **NAMED)), out)


@pytest.mark.parametrize(("rows", "keywords", "words"), [
    ([0, 10], {}, r"rows must be in \[0, 10\), got 10"), ([-1, 0], {}, r"rows must be in \[0, 10\), got -1"),
    ([1], {}, r"must have the shape \(len\(rows\), \*shape\[1:\]\) = \(1, 8\), got \(2, 8\)"),
    (torch.tensor([0.5, 1]), {}, "rows must be integers along one axis, got shape"),
    (torch.tensor([True, False]), {}, "rows must be integers along one axis, got shape"),
    (torch.tensor([1, 2], dtype=torch.bfloat16), {}, "rows must be integers along one axis, got shape"),
    ([1, 2], {"padding_idx": 10}, r"padding_idx must be in \[-10, 10\)"), ([1, 2], {"seed": -1}, "seed must be"),
    ([1, 2], {"shape": (10, 9)}, "must have the shape"), ([1, 2], {"threads": 0}, "threads must be"),
])  # fmt: skip
def test_mistakes_are_refused_before_anything_is_written(rows, keywords, words):
    tensor = torch.full((2, 8), 5.0)
    with pytest.raises((TypeError, ValueError), match=words):
        init_rows_(tensor, rows, "normal", **{"shape": (10, 8), **NAMED, **keywords})
    assert bool((tensor == 5).all())


def test_a_tensor_without_memory_is_left_and_a_sharded_one_refused():
    class Sharded(torch.Tensor):
        placements = ()

    meta = torch.empty(2, 8, device="meta")
    assert init_rows_(meta, [1, 2], "normal", shape=(10, 8), **NAMED) is meta
    with pytest.raises(TypeError, match="tensor must be a plain one, got a DTensor"):
        init_rows_(torch.empty(2, 8).as_subclass(Sharded), [1, 2], "normal", shape=(10, 8), **NAMED)


def test_neither_importing_the_adapter_nor_filling_on_the_cpu_imports_triton():
    code = (
        "import sys, torch; before = 'triton' in sys.modules\n"
        "from winit_fast import adapters\n"
        "adapters.torch.init_(torch.empty(3000, 1000)[:, 1:], 'normal', seed=1, name='a')\n"
        "assert 'winit_fast.adapters._device.kernels' not in sys.modules\n"
        "assert ('triton' in sys.modules) == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
