"""`adapters.torch` on a device, here the CPU in the interpreter: TRITON_INTERPRET=1 pytest -m device (.ci/device)."""

import json
import os
import re
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs TRITON_INTERPRET=1 in the environment", allow_module_level=True)

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import winit_fast  # noqa: E402
from winit_fast.adapters import dlpack  # noqa: E402
from winit_fast.adapters._device import kernels, trust  # noqa: E402
from winit_fast.adapters._device.launch import launch, values_of  # noqa: E402
from winit_fast.adapters._memory.torch import array_of  # noqa: E402
from winit_fast.adapters.torch import functions, init, init_, init_module_, init_rows_, plain  # noqa: E402
from winit_fast.adapters.torch import rows as rows_module  # noqa: E402
from winit_fast.adapters.torch.dtensor import fill_runs  # noqa: E402
from winit_fast.initializer import Initializer  # noqa: E402
from winit_fast.lowering import ELEMENT_TYPES, lower  # noqa: E402
from winit_fast.target import Call  # noqa: E402

pytestmark = pytest.mark.device


class Launches(list):
    """Of each launch what was launched; `act` stands for it."""

    act = staticmethod(launch)

    def __call__(self, *arguments):
        self.append(arguments[2].variant[0])
        type(self).act(*arguments)


@pytest.fixture(autouse=True)
def launches(monkeypatch):
    """The CPU is a device, of whose kernels nothing is known yet."""
    noted = Launches()
    monkeypatch.setattr(trust, "DEVICES", ("cpu",))
    monkeypatch.setattr(trust, "_verdicts", {})
    monkeypatch.setattr(trust, "_warned", {})
    monkeypatch.setattr(trust, "SMALL_BYTES", 1 << 11)  # so that the interpreter has little to do
    monkeypatch.setattr(trust, "launch", noted)
    monkeypatch.delenv("WINIT_FAST_DEVICE", raising=False)
    trust._find_fault_of_triton.cache_clear()
    yield noted
    trust._find_fault_of_triton.cache_clear()


def view(*shape, dtype=torch.float32):
    """A view, since small tensors that are none would be filled before anybody asks for a device."""
    return torch.full((int(np.prod(shape)) + 1,), 7, dtype=dtype)[1:].view(shape)


def expected(tensor, scheme, **keywords):
    """What the CPU's kernels make of a tensor like this one."""
    other = torch.empty_like(tensor, memory_format=torch.preserve_format)
    winit_fast.fill(array_of(other), scheme, **{"in_axis": 1, "out_axis": 0, **keywords})
    return other


def is_same(one, other):
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("scheme", ["he_normal", "xavier_uniform", "truncated_normal(std=0.02)", "zeros"])
def test_a_large_tensor_is_filled_by_a_kernel_with_the_bits_of_the_cpu(launches, scheme, dtype):
    tensor = view(60, 50, dtype=dtype)
    version = tensor._version
    assert init_(tensor, scheme, seed=7, name="weight") is tensor
    assert launches == ["run"] * 3  # twice 4,096 values to compare, and the tensor
    assert tensor._version > version
    assert is_same(tensor, expected(tensor, scheme, seed=7, name="weight"))
    init_(tensor, scheme, seed=8, name="other")
    assert launches == ["run"] * 4
    assert is_same(tensor, expected(tensor, scheme, seed=8, name="other"))


@pytest.mark.parametrize("scheme", ["he_normal", "he_uniform", "he_truncated_normal", "zeros", "ones"])
def test_complex_tensors_have_the_bits_of_the_cpu(scheme):
    tensor = view(50, 30, dtype=torch.complex64)
    init_(tensor, scheme, seed=7, name="weight")
    assert is_same(tensor, expected(tensor, scheme, seed=7, name="weight"))


@pytest.mark.parametrize("extent", [(1, 700), (3, 400)])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_tensors_of_more_real_numbers_than_kernels_count_have_the_bits_of_the_cpu(dtype, extent):
    shape = (2**32 - 1, 2**31)
    part = {"shape": shape, "offset": tuple(size - count for size, count in zip(shape, extent, strict=True))}
    tensor = view(*extent, dtype=dtype)
    init_(tensor, "he_normal", seed=7, name="weight", **part)
    assert is_same(tensor, expected(tensor, "he_normal", seed=7, name="weight", **part))


class Kind(torch.Tensor):
    """A kind of tensor of the user's, which is what it seems."""


@pytest.mark.parametrize("how", ["leaf", "inference", "another default device", "subclass", "compiled", "dispatched"])
def test_tensors_of_every_state_go_the_same_way(launches, how):
    tensor = view(60, 50)
    around = nullcontext()
    fill = init_
    if how == "leaf":
        tensor.requires_grad_()
    elif how == "inference":
        around = torch.inference_mode()
        with around:
            tensor = view(60, 50)
    elif how == "another default device":
        around = torch.device("meta")
    elif how == "subclass":
        tensor = tensor.as_subclass(Kind)
    elif how == "compiled":
        fill = torch.compile(lambda *arguments, **named: init_(*arguments, **named), backend="eager")
    else:
        around = Passing()
    with around:
        fill(tensor, "he_normal", seed=7, name="weight")
    assert launches == ["run"] * 3
    with torch.inference_mode():
        assert is_same(tensor.detach(), expected(view(60, 50), "he_normal", seed=7, name="weight"))
    assert tensor.requires_grad == (how == "leaf")
    assert tensor.grad_fn is None


class Passing(TorchDispatchMode):
    """Sees every operation, and does it."""

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        return function(*arguments, **(named or {}))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("scheme", ["constant(0.7)", "constant(-0.0)", "ones", "constant(-1e-40)"])
def test_complex_constants_are_filled_where_they_stand(launches, monkeypatch, scheme, dtype):
    monkeypatch.setattr(plain, "_fill_through_host", None)
    monkeypatch.setattr(rows_module, "array_of", None)
    for tensor, keywords in (
        (view(50, 30, dtype=dtype), {}), (view(50, 30, dtype=dtype).t(), {"padding_idx": -1}),
        (view(50, 30, dtype=dtype), {"shape": (90, 30), "offset": (40, 0), "padding_idx": 41}),
    ):  # fmt: skip
        init_(tensor, scheme, seed=7, name="weight", **keywords)
        assert is_same(tensor, expected(tensor, scheme, seed=7, name="weight", **keywords)), keywords
    rows = [7, 3, *range(40)]
    for keywords in ({}, {"padding_idx": 3}, {"padding_idx": 2, "batch_axis": 0}):
        shape = (50, 30) if "batch_axis" not in keywords else (50, 5, 6)
        tensor = view(len(rows), *shape[1:], dtype=dtype)
        init_rows_(tensor, rows, scheme, seed=7, name="weight", shape=shape, **keywords)
        whole = winit_fast.fill(np.empty(shape, str(dtype)[6:]), scheme, seed=7, name="weight", **keywords)
        assert tensor.numpy().tobytes() == whole[rows].tobytes(), keywords
    assert launches == []


def test_parts_strides_matrices_and_padding_have_the_bits_of_the_cpu(launches):
    for tensor, keywords in (  # of 1,200 elements or somewhat more
        (view(40, 30).t(), {}),
        (view(40, 30), {"shape": (1000, 60), "offset": (500, 30)}),
        (view(40, 30), {"padding_idx": -1}),
        (view(40, 30), {"shape": (1000, 30), "offset": (500, 0), "padding_idx": 501}),
        (view(40, 30), {"shape": (1000, 30), "offset": (500, 0), "padding_idx": 3}),
        (view(5, 20, 30), {"batch_axis": 0, "padding_idx": 2, "in_axis": 2, "out_axis": 1}),
        (view(42, 30), {"matrices": 3}),
        (view(3, 7, 9, 8).permute(0, 3, 1, 2), {}),
    ):
        launches.clear()
        init_(tensor, "he_normal", seed=7, name="weight", **keywords)
        assert launches, keywords
        assert is_same(tensor, expected(tensor, "he_normal", seed=7, name="weight", **keywords)), keywords


def test_what_stands_behind_a_strided_tensor_stays_as_it_is():
    memory = view(90, 60)
    init_(memory[::2, 20:57], "normal", seed=7, name="weight")
    memory[::2, 20:57].fill_(7)
    assert bool((memory == 7).all())


def test_shards_have_the_bits_of_the_whole(launches):
    initializer = Initializer("normal", name="weight")
    whole = expected(view(80, 80), "normal", seed=7, name="weight")
    local = view(40, 40)
    fill_runs(local, [[range(20), range(60, 80)], [range(40, 80)]], (80, 80), initializer, seed=7)
    assert len(launches) == 4
    assert is_same(local, torch.cat([whole[:20, 40:], whole[60:, 40:]]))


@pytest.mark.parametrize("way", ["auto", "host", "staged"])
@pytest.mark.parametrize("scheme", ["he_normal", "orthogonal"])
def test_rows_have_the_bits_of_the_whole(launches, monkeypatch, scheme, way):
    monkeypatch.setenv("WINIT_FAST_DEVICE", "host")
    rows = torch.tensor([998, 3, 3, 0, 999, *range(40, 75)])
    for shape, keywords in (
        ((1000, 50), {}),
        ((1000, 50), {"padding_idx": 3}),
        ((1000, 6, 9), {"batch_axis": 0, "padding_idx": 2}),
    ):
        table = init(shape, scheme, seed=7, name="user_id", **keywords)
        tensor = view(len(rows), *shape[1:])
        with monkeypatch.context() as patch:
            patch.setenv("WINIT_FAST_DEVICE", "host" if way == "host" else "auto")
            if way == "staged":  # as on a device whose kernels are not trusted
                patch.setattr(rows_module, "PIECE", 7 * tensor[0].nbytes)
                patch.setattr(rows_module, "write_on_device", lambda *_: False)
            init_rows_(tensor, rows, scheme, seed=7, name="user_id", shape=shape, **keywords)
        assert is_same(tensor, table[rows])
    assert ("list of rows" in launches) == (way == "auto" and scheme == "he_normal")


def test_models_and_functions_go_the_same_way(launches):
    model = torch.nn.Linear(40, 50)
    model.weight = torch.nn.Parameter(view(40, 50).t())
    init_module_(model, {"weight": "he_normal", "bias": "zeros"}, seed=7)
    assert launches == ["across"] * 3
    assert is_same(model.weight.data, expected(model.weight.data, "he_normal", seed=7, name="weight"))
    torch.manual_seed(3)
    functions.trunc_normal_(model.weight.data, std=0.02)
    assert launches[3:] == ["across"] * 3


class OnGPU:
    """An array of another library, which shares its memory as a tensor of PyTorch's does."""

    def __init__(self, held):
        self.held = held

    def __dlpack__(self, **arguments):
        return self.held.__dlpack__(max_version=arguments.get("max_version"))

    def __dlpack_device__(self):
        return 2, 0


def test_arrays_of_other_libraries_go_the_same_way(launches, monkeypatch):
    waits = []
    stream = SimpleNamespace(cuda_stream=0, synchronize=lambda: waits.append(len(launches)))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    tensor = view(40, 50)
    given = OnGPU(tensor)
    assert dlpack.init_(given, "he_normal", seed=7, name="weight") is given
    assert waits == [3]
    assert launches == ["run"] * 3
    other = torch.empty(40, 50)
    winit_fast.fill(array_of(other), "he_normal", seed=7, name="weight")
    assert is_same(tensor, other)


@pytest.mark.parametrize("scheme", ["orthogonal", "sparse(sparsity=0.5)", "identity"])
def test_what_depends_on_other_elements_is_filled_without_a_kernel(launches, scheme):
    tensor = view(50, 50)
    init_(tensor, scheme, seed=7, name="weight")
    assert launches == []
    assert is_same(tensor, expected(tensor, scheme, seed=7, name="weight"))


def test_small_tensors_take_no_kernel(launches, monkeypatch):
    monkeypatch.undo()
    assert trust.SMALL_BYTES == 64 << 10
    assert not trust.takes(view(40, 50))
    monkeypatch.setattr(trust, "DEVICES", ("cpu",))
    assert trust.takes(view(129, 128))
    assert not trust.takes(view(128, 128))


def test_tensors_that_are_too_small_are_filled_as_before(launches):
    init_(view(16, 16), "normal", seed=7, name="weight")
    assert launches == []


def test_the_environment_forces_the_way_through_the_host(launches, monkeypatch):
    monkeypatch.setenv("WINIT_FAST_DEVICE", "host")
    tensor = init_(view(40, 50), "normal", seed=7, name="weight")
    assert launches == []
    assert is_same(tensor, expected(tensor, "normal", seed=7, name="weight"))
    monkeypatch.setenv("WINIT_FAST_DEVICE", "auto")
    init_(view(40, 50), "normal", seed=7, name="weight")
    assert launches


def test_a_bad_setting_is_refused_before_anything_is_written(monkeypatch):
    monkeypatch.setenv("WINIT_FAST_DEVICE", "gpu")
    tensor = view(40, 50)
    with pytest.raises(ValueError, match="WINIT_FAST_DEVICE must be auto or host, got 'gpu'"):
        init_(tensor, "normal", seed=7, name="weight")
    assert bool((tensor == 7).all())


@pytest.mark.parametrize("version", ["3.5.1", "2.3.0", "3.1.0+git0f0f"])
def test_an_old_triton_is_not_used(launches, monkeypatch, version):
    monkeypatch.setattr(triton, "__version__", version)
    init_(view(40, 50), "normal", seed=7, name="weight")
    assert launches == []
    assert trust.find_obstacle("cuda") == f"Triton {version} is older than 3.6"


@pytest.mark.parametrize(("version", "words"), [
    ("3.6rc1", None), ("3.10.0", None), ("3.5rc1", "Triton 3.5rc1 is older than 3.6"), ("main", "main is older than"),
    (None, "Triton cannot be imported: .* has no attribute"),
])  # fmt: skip
def test_a_triton_that_is_none_or_of_another_version_costs_no_fill(monkeypatch, version, words):
    if version is None:  # as a folder of that name
        monkeypatch.delattr(triton, "__version__")
    else:
        monkeypatch.setattr(triton, "__version__", version)
    tensor = init_(view(40, 50), "normal", seed=7, name="weight")
    assert is_same(tensor, expected(tensor, "normal", seed=7, name="weight"))
    obstacle = trust.find_obstacle("cpu")
    assert obstacle is None if words is None else re.search(words, obstacle)


def test_the_interpreter_is_used_on_no_device_but_the_cpu():
    """Which tests do. With a GPU's tensor it would copy it to the host, and take hours."""
    assert "TRITON_INTERPRET is set" in trust.find_obstacle("cuda")
    assert trust.find_obstacle("cpu") is None


def test_each_kernel_is_compared_once(launches):
    for _ in range(2):
        init_(view(40, 50), "he_normal", seed=7, name="weight")  # one kernel
        init_(view(40, 50), "normal(std=3)", seed=8, name="other")  # the same
        init_(view(40, 50, dtype=torch.float64), "normal", seed=7, name="weight")  # another
        init_(view(40, 50).t(), "normal", seed=7, name="weight")  # a third
    assert len(launches) == 8 + 2 * 3
    assert list(trust._verdicts.values()) == [True] * 3


def spoil(tensor, values, layout):
    launch(tensor, values, layout)
    tensor.view(torch.uint8)[..., -1] ^= 1


def spoil_beside(tensor, values, layout):
    launch(tensor, values, layout)
    if tensor.storage_offset() and tensor.dim() == 1:
        tensor.as_strided((1,), (1,), tensor.storage_offset() - 1).fill_(9)


def flush(tensor, values, layout):
    """As a device that has no subnormal numbers."""
    launch(tensor, values, layout)
    if tensor.dtype in (torch.float32, torch.float64):
        tensor[tensor.abs() < torch.finfo(tensor.dtype).tiny] = 0


def fail(tensor, values, layout):
    raise LookupError("no such instruction")


@pytest.mark.parametrize(("act", "words"), [
    (spoil, "gives other values than the CPU, 1 of 4096"), (spoil_beside, "gives other values than the CPU, 1 of 4096"),
    (fail, "cannot be used: LookupError: no such instruction"),
])  # fmt: skip
def test_a_kernel_that_differs_or_fails_costs_one_warning_and_no_bits(launches, monkeypatch, act, words):
    monkeypatch.setattr(Launches, "act", staticmethod(act))
    tensor = view(40, 50)
    with pytest.warns(RuntimeWarning, match=words) as warned:
        init_(tensor, "normal", seed=7, name="weight")
    assert len(warned) == 1
    assert is_same(tensor, expected(tensor, "normal", seed=7, name="weight"))
    monkeypatch.setattr(Launches, "act", staticmethod(launch))
    launches.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        init_(tensor, "normal", seed=8, name="weight")
        assert launches == []
        init_(tensor, "uniform", seed=8, name="weight")  # another kernel, which is good
        assert launches == ["run"] * 3


@pytest.mark.parametrize("scheme", ["zeros", "ones", "normal"])
def test_a_kernel_that_writes_nothing_is_seen_whatever_it_fills_first(monkeypatch, scheme):
    monkeypatch.setattr(Launches, "act", staticmethod(lambda *_: None))
    with pytest.warns(RuntimeWarning, match="gives other values than the CPU, 4096 of 4096"):
        tensor = init_(view(40, 50), scheme, seed=7, name="weight")
    assert is_same(tensor, expected(tensor, scheme, seed=7, name="weight"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize(
    "scheme", ["he_normal", "he_uniform", "he_truncated_normal", "normal(std=0.02)", "uniform(low=3, high=4)"]
)
def test_a_device_that_flushes_to_0_is_not_trusted_whatever_it_fills_first(monkeypatch, scheme, dtype):
    if dtype.is_complex and scheme[:2] != "he":
        scheme = "xavier_uniform"
    monkeypatch.setattr(Launches, "act", staticmethod(flush))
    with pytest.warns(RuntimeWarning, match="gives other values than the CPU"):
        init_(view(40, 50, dtype=dtype), scheme, seed=7, name="weight")


def test_a_device_is_warned_of_once(launches, monkeypatch):
    monkeypatch.setattr(Launches, "act", staticmethod(fail))
    with pytest.warns(RuntimeWarning, match="no such instruction"):
        init_(view(40, 50), "normal", seed=7, name="weight")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for scheme in ("uniform", "truncated_normal"):
            tensor = init_(view(40, 50), scheme, seed=7, name="weight")
            assert is_same(tensor, expected(tensor, scheme, seed=7, name="weight"))
    assert list(trust._verdicts.values()) == [False] * 3


def test_threads_that_meet_in_a_first_fill_are_warned_once_and_all_filled(monkeypatch):
    together = threading.Barrier(4)

    def fail_together(*_):
        together.wait(60)
        raise LookupError("no such instruction")

    monkeypatch.setattr(Launches, "act", staticmethod(fail_together))
    tensors = [view(40, 50) for _ in range(4)]
    with pytest.warns(RuntimeWarning, match="no such instruction") as warned, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda tensor: init_(tensor, "normal", seed=7, name="weight"), tensors))
    assert len(warned) == 1
    assert all(is_same(tensor, expected(tensor, "normal", seed=7, name="weight")) for tensor in tensors)


def test_a_warning_that_is_an_error_leaves_the_tensor_as_it_was(monkeypatch):
    monkeypatch.setattr(Launches, "act", staticmethod(fail))
    tensor = view(40, 50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="no such instruction"):
            init_(tensor, "normal", seed=7, name="weight")
        assert bool((tensor == 7).all())
        init_(tensor, "normal", seed=7, name="weight")
    assert is_same(tensor, expected(tensor, "normal", seed=7, name="weight"))


def test_a_kernel_that_fails_after_it_was_trusted_is_replaced(monkeypatch):
    tensor = init_(view(40, 50), "normal", seed=7, name="weight")
    monkeypatch.setattr(Launches, "act", staticmethod(fail))
    with pytest.warns(RuntimeWarning, match="no such instruction"):
        init_(tensor, "normal", seed=8, name="weight")
    assert is_same(tensor, expected(tensor, "normal", seed=8, name="weight"))


def test_a_device_without_memory_to_compare_in_is_no_fault_of_the_kernel(launches, monkeypatch):
    def lack(*_):
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Launches, "act", staticmethod(lack))
    tensor = init_(view(40, 50), "normal", seed=7, name="weight")
    assert is_same(tensor, expected(tensor, "normal", seed=7, name="weight"))
    monkeypatch.setattr(Launches, "act", staticmethod(launch))
    launches.clear()
    init_(tensor, "normal", seed=7, name="weight")
    assert launches == ["run"] * 3


def test_a_graph_captures_only_kernels_that_were_compared(launches, monkeypatch):
    monkeypatch.setattr(trust, "is_captured", lambda tensor: True)
    tensor = view(40, 50)
    with pytest.raises(RuntimeError, match="fill it once before"):
        init_(tensor, "normal", seed=7, name="weight")
    assert bool((tensor == 7).all())
    monkeypatch.setattr(trust, "is_captured", lambda tensor: False)
    init_(tensor, "normal", seed=7, name="weight")
    monkeypatch.setattr(trust, "is_captured", lambda tensor: True)
    init_(tensor, "normal", seed=8, name="weight")
    assert len(launches) == 4


def test_what_a_graph_could_not_do_again_is_refused_before_anything_is_written(launches, monkeypatch):
    tensor = view(50, 50)
    monkeypatch.setattr(trust, "is_captured", lambda tensor: True)
    with pytest.raises(RuntimeError, match="init_rows_ must not be called while a CUDA graph is captured"):
        init_rows_(tensor, range(50), "normal", seed=7, name="weight", shape=(100, 50))
    for scheme in ("orthogonal", "normal"):
        with pytest.raises(RuntimeError, match=f"got 10000 bytes of {scheme}"):
            plain._fill_through_host(tensor, Initializer(scheme, name="weight"), seed=7)
    assert launches == []
    assert bool((tensor == 7).all())


class Kernel:
    """Notes what it is launched with, and does nothing."""

    def __init__(self):
        self.grids = []

    def __getitem__(self, grid):
        self.grids.append(grid)
        return lambda *arguments, **named: None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_a_trusted_fill_waits_for_nothing_and_allocates_nothing(monkeypatch, dtype):
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            seen.append(str(function))
            return function(*arguments, **(named or {}))

    def wait(*_, **__):
        raise AssertionError("it waits")

    shape, rows = (70, 50), [4, 3, 2, 99] * 20
    init_(view(*shape, dtype=dtype), "he_normal", seed=7, name="weight")
    init_(view(*shape, dtype=dtype).t(), "he_normal", seed=7, name="weight")
    init_rows_(view(80, 50, dtype=dtype), rows, "he_normal", seed=7, name="weight", shape=(100, 50))
    tensor, kernel = view(*shape, dtype=dtype), Kernel()
    monkeypatch.setattr(kernels, "fill_run", kernel)
    monkeypatch.setattr(kernels, "fill_panels", kernel)
    for owner, name in (
        (torch.cuda, "synchronize"), (torch.cuda.Stream, "synchronize"), (torch.cuda.Event, "synchronize"),
        (torch.cuda, "current_stream"), (torch.Tensor, "cpu"), (torch.Tensor, "item"), (torch.Tensor, "tolist"),
        (torch.Tensor, "__bool__"), (torch.Tensor, "__int__"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, wait)
    other, part = tensor.t(), view(80, 50, dtype=dtype)
    allowed = {
        "aten.detach.default", "aten.view_as_real.default", "aten.view.dtype", "aten.as_strided.default",
        "aten.select.int", "aten.zero_.default",
    }  # fmt: skip
    with Watch():
        plain.fill_tensor(tensor, Initializer("he_normal", name="weight", padding_idx=0), seed=7)
        plain.fill_tensor(other, Initializer("he_normal", name="weight"), seed=7)
        assert set(seen) <= allowed
        seen.clear()
        # The list of rows is all that is made beside, and copied without waiting for it.
        init_rows_(part, rows, "he_normal", seed=7, name="weight", shape=(100, 50), padding_idx=2)
    assert set(seen) <= {*allowed, "aten.empty.memory_format"}
    assert len(kernel.grids) == 3


def test_a_list_of_rows_on_the_host_is_copied_from_pinned_memory_and_not_waited_for(monkeypatch):
    made, copied = [], []
    monkeypatch.setattr(torch, "empty", lambda *sizes, **named: made.append(named) or torch.zeros(3, dtype=torch.int64))
    monkeypatch.setattr(torch.Tensor, "to", lambda *arguments, **named: copied.append((*arguments, named)))
    tensor = SimpleNamespace(device=torch.device("cuda", 1), is_cuda=True)
    rows_module._on_device_of(tensor, [5, 1, 9], np.array([5, 1, 9]))
    assert made == [{"dtype": torch.int64, "device": "cpu", "pin_memory": True}]
    ((staged, device, named),) = copied
    assert (staged.tolist(), device, named) == ([5, 1, 9], tensor.device, {"non_blocking": True})


class OnCuda(torch.Tensor):
    """Says that it is on a GPU, and notes how it is copied to."""

    is_cuda = True
    copied = ()

    def copy_(self, source, **named):
        type(self).copied += (named["non_blocking"],)
        return super().copy_(source)


@pytest.mark.parametrize("is_small", [True, False])
def test_rows_that_pass_through_the_host_are_waited_for_only_where_they_are_large(monkeypatch, is_small):
    monkeypatch.setattr(trust, "SMALL_BYTES", 40 * 50 * 4 - (not is_small))
    monkeypatch.setattr(trust, "DEVICES", ())
    monkeypatch.setattr(OnCuda, "copied", ())
    pinned, empty = [], torch.empty
    monkeypatch.setattr(torch, "empty", lambda *sizes, pin_memory, **named: pinned.append(pin_memory) or empty(*sizes))
    tensor = view(40, 50).as_subclass(OnCuda)
    rows = np.arange(40)
    rows_module._fill_elsewhere(
        tensor, rows, rows, lambda out, some: out.fill(some.size), Initializer("normal"), 7, (100, 50)
    )
    assert (pinned, OnCuda.copied) == ([is_small], (is_small,))
    assert bool((tensor.as_subclass(torch.Tensor) == 40).all())


def test_rows_that_are_given_on_the_device_are_used_there():
    tensor = torch.empty(0)
    for given in (torch.tensor([5, 1, 9]), torch.tensor([5, 0, 1, 0, 9, 0], dtype=torch.int32)[::2]):
        there = rows_module._on_device_of(tensor, given, np.zeros(3, np.int64))
        assert (there.tolist(), there.dtype, there.is_contiguous()) == ([5, 1, 9], torch.int64, True)


def refusals(tensor):
    """What each mistaken call says of its arguments."""
    said = []
    for scheme, keywords in (
        ("normal(std=1e30)", {}), ("he_normal", {"in_axis": 9, "out_axis": 0}), ("normal", {"seed": -1}),
        ("normal", {"name": 2**64}), ("normal", {"threads": 0}), ("normal", {"padding_idx": 200}),
        ("normal", {"shape": (3, 3), "offset": (0, 0)}), ("normal", {"shape": (400, 20)}), ("nothing", {}),
        ("normal", {"offset": (0, 0)}), ("he_normal", {"matrices": 7}), ("uniform(low=2)", {}),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError)) as caught:
            init_(tensor, scheme, **{"seed": 7, "name": "weight", **keywords})
        said.append((type(caught.value), str(caught.value)))
    return said


def refusals_of_rows(tensor):
    said = []
    for rows, keywords in (
        ([10] * 40, {}), ([-1] * 40, {}), ([1], {}), (torch.zeros(40), {}), (torch.zeros(40, 1, dtype=torch.int64), {}),
        ([1] * 40, {"padding_idx": 10}), ([1] * 40, {"seed": -1}), ([1] * 40, {"shape": (10, 9)}),
        ([1] * 40, {"threads": 0}), ([1] * 40, {"name": -1}), ([1] * 40, {"shape": ()}),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError)) as caught:
            init_rows_(tensor, rows, "normal", **{"shape": (10, 50), "seed": 7, "name": "weight", **keywords})
        said.append((type(caught.value), str(caught.value)))
    return said


def test_rows_are_refused_as_on_the_cpu_before_anything_is_launched(launches, monkeypatch):
    tensor = view(40, 50)
    said = refusals_of_rows(tensor)
    assert launches == []
    assert bool((tensor == 7).all())
    monkeypatch.setattr(trust, "DEVICES", ())
    assert said == refusals_of_rows(tensor)


def test_refusals_are_those_of_the_cpu_and_come_before_anything_is_launched(launches, monkeypatch):
    tensor = view(200, 20, dtype=torch.float16)
    said = refusals(tensor)
    assert launches == []
    assert bool((tensor == 7).all())
    monkeypatch.setattr(trust, "DEVICES", ())
    assert said == refusals(tensor)


def test_a_seed_left_out_is_one_draw_of_the_generator(launches, monkeypatch):
    results = []
    for devices in (("cpu",), ()):
        monkeypatch.setattr(trust, "DEVICES", devices)
        torch.manual_seed(3)
        results.append((init_(view(40, 50), "normal", name="weight"), torch.rand(3)))
    assert launches
    assert all(map(torch.equal, *results))


def test_values_that_repeat_are_warned_of():
    kept = [view(40, 50), view(40, 50)]
    init_(kept[0], "normal(std=0.123)", seed=99)
    with pytest.warns(winit_fast.RepeatedValuesWarning):
        init_(kept[1], "normal(std=0.123)", seed=99)


VARIANTS = [("run", 0, True), ("run", 0, False)]
VARIANTS += [(kind, axes, False) for kind in ("rows", "across", "list of rows") for axes in range(1, 5)]


@pytest.mark.covering(1)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float64], ids=str)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_kernel_can_be_compared(variant, dtype, launches, monkeypatch):
    name = str(dtype).removeprefix("torch.")
    conversion = lower(Initializer("normal").distribution((4, 4)), ELEMENT_TYPES[name])
    values, call = values_of(conversion, 5, 2**64 - 1), Call(5, 2**64 - 1, 1)
    kernel = trust._Kernel(variant, values.transform, values.store, False, torch.device("cpu"))
    assert kernel.find_fault(conversion, call, dtype) is None
    assert launches == [variant[0]] * 2
    monkeypatch.setattr(Launches, "act", staticmethod(lambda *_: None))
    assert "other values" in kernel.find_fault(conversion, call, dtype)


def test_show_config_says_how_tensors_on_a_device_are_filled(capsys, monkeypatch):
    monkeypatch.setattr(Launches, "act", staticmethod(fail))
    with pytest.warns(RuntimeWarning):
        init_(view(40, 50), "normal", seed=7, name="weight")
    monkeypatch.setattr(trust, "DEVICES", ("cuda", "xpu"))
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "A GPU")
    for setting, words in (
        ("auto", "cuda:0 (A GPU): kernels\n"),
        ("host", "cuda:0 (A GPU): through the host's memory, since WINIT_FAST_DEVICE is host\n"),
        ("gpu", "cuda:0 (A GPU): through the host's memory, since WINIT_FAST_DEVICE must be auto or host, got 'gpu'\n"),
    ):
        monkeypatch.setenv("WINIT_FAST_DEVICE", setting)
        winit_fast.show_config()
        shown = capsys.readouterr().out
        assert words in shown
        assert "through the host's memory, since it is not trusted: normal32 stored as_it_is on cpu\n" in shown


BENCH = Path(__file__).parents[1] / "bench" / "gpu.py"


@pytest.fixture(scope="module")
def script():
    spec = spec_from_file_location("bench_gpu", BENCH)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_for_a_gpu_compares_and_measures_in_small(tmp_path):
    path = tmp_path / "found.json"
    command = [sys.executable, BENCH, "--dry", "--only", "smoke,bits,large,streams,arrays,speed,latency,model,tune"]
    ran = subprocess.run([*command, "--json", path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for line in (
        "--- smoke: good, 2 fills of 4,000 values compared", "| torch trunc_normal_ |",
        "| winit_fast truncated_normal |", "one call of 64 x 64 by a kernel:", "by materialize_",
        "| 32 groups, 2 warps |",
    ):  # fmt: skip
        assert line in ran.stdout
    parts = json.loads(path.read_text())["parts"]
    assert not any(part["faults"] for part in parts.values())
    assert {result["what"] for result in parts["speed"]["results"]} >= {"zero_", "torch normal_", "winit_fast normal"}


@pytest.mark.parametrize(("act", "words"), [
    (spoil, "normal, torch.float32, 700 from 5 on, .*: 1 bytes of 2800 differ from index 0 on"),
    (spoil_beside, "normal, torch.float32, 700 from 5 on, .*: wrote beside the tensor"),
])  # fmt: skip
def test_the_script_for_a_gpu_sees_differences_and_goes_on(launches, monkeypatch, script, act, words):
    bench = script.Bench(True, float("inf"))
    script.compare_run(bench, "normal", torch.float32, 5, 700, seed=1)
    assert (bench.fills, bench.values, len(launches), bench.faults) == (1, 700, 3, [])
    monkeypatch.setattr(Launches, "act", staticmethod(act))
    for _ in range(2):
        script.compare_run(bench, "normal", torch.float32, 5, 700, seed=1)
    assert len(bench.faults) == 2
    assert re.fullmatch(words, bench.faults[0])


def test_a_part_of_the_script_that_fails_costs_no_other(monkeypatch, script, tmp_path, capsys):
    def broken(bench):
        """Fail."""
        raise LookupError("no such device")

    def endless(bench):
        """Find nothing but faults."""
        while True:
            bench.fault("another")

    def good(bench):
        """Find something."""
        bench.note(what="something")

    monkeypatch.setattr(script, "PARTS", {"broken": broken, "endless": endless, "good": good})
    path = tmp_path / "found.json"
    assert script.main(["--dry", "--json", str(path)]) == 1
    parts = json.loads(path.read_text())["parts"]
    assert parts["broken"]["faults"] == ["LookupError: no such device"]
    assert parts["endless"]["faults"] == ["another"] * script.MOST_FAULTS
    assert (parts["good"]["faults"], parts["good"]["results"]) == ([], [{"what": "something"}])
    assert "FAULTS in broken: 1, the first: LookupError: no such device" in capsys.readouterr().out
    assert script.main(["--dry", "--only", "good", "--json", str(path)]) == 0
    assert script.main(["--dry", "--only", "good", "--minutes", "0", "--json", str(path)]) == 1
    assert json.loads(path.read_text())["parts"]["good"]["faults"] == ["it was not reached in time"]
    with pytest.raises(SystemExit):
        script.main(["--only", "fast"])


@pytest.mark.parametrize(("code", "limit", "faults"), [
    ("import sys; open(sys.argv[1], 'w').write('{\"parts\": {\"x\": {\"faults\": [\"one\"]}}}')", 600, ["one"]),
    ("import os; os.kill(os.getpid(), 9)", 600, ["it ended with status -9"]),
    ("import time; time.sleep(10000)", 1, ["it took more than the 1 s that were left"]),
])  # fmt: skip
def test_a_part_of_the_script_that_dies_or_hangs_is_a_fault(script, code, limit, faults):
    assert script.run_apart([sys.executable, "-c", code], limit)["faults"] == faults
