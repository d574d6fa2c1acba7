"""Arrays of libraries without an adapter of their own: filled where they stand, or refused."""

import array
import ctypes
import sys

import numpy as np
import pytest
from arrays import DTYPES

import winit_fast
from winit_fast import adapters

init_ = adapters.dlpack.init_

SHAPE = (37, 19)


def expected(scheme, dtype, **region):
    return winit_fast.fill(np.empty(SHAPE, DTYPES[dtype]), scheme, seed=7, name="w", **region)


by_dlpack = pytest.mark.skipif(
    tuple(map(int, np.__version__.split(".")[:2])) < (2, 1), reason="NumPy 2.0 takes what comes by DLPack as read-only"
)


class ByDLPack:
    """What NumPy holds, behind DLPack alone."""

    def __init__(self, held, device=(1, 0)):
        self.held, self.device = held, device

    def __dlpack__(self, **arguments):
        return self.held.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.device


class OldDLPack(ByDLPack):
    """The same in the form that does not say whether it may be written to."""

    def __dlpack__(self, *, stream=None):
        return self.held.__dlpack__()


class ByInterface:
    def __init__(self, held):
        self.held = held
        self.__array_interface__ = held.__array_interface__


@pytest.mark.parametrize("make", [pytest.param(ByDLPack, marks=by_dlpack), ByInterface, memoryview])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("scheme", ["he_normal", "orthogonal"])
def test_memory_behind_each_protocol_gets_the_bits_of_fill(make, dtype, scheme):
    held = np.zeros(SHAPE, dtype)
    given = make(held)
    assert init_(given, scheme, seed=7, name="w") is given
    assert held.tobytes() == expected(scheme, dtype).tobytes()


@by_dlpack
def test_strided_memory_and_parts_of_larger_tensors_are_filled():
    held = np.zeros((19, 2 * 37), "float32")
    init_(ByDLPack(held[:, ::2].T), "he_normal", seed=7, name="w", shape=(100, 19), offset=(50, 0))
    whole = winit_fast.fill(np.empty((100, 19), "float32"), "he_normal", seed=7, name="w")
    assert (whole[50:87] == held[:, ::2].T).all()
    assert not held[:, 1::2].any()


def test_the_seed_may_be_all_that_the_adapter_of_numpy_takes():
    first, second = (array.array("f", bytes(40)) for _ in range(2))
    for each in (first, second):
        init_(each, "normal", seed=np.random.default_rng(0))
    assert first == second
    init_(second, "normal")
    assert first != second


@by_dlpack
def test_init_falls_back_to_it_for_types_without_an_adapter():
    buffer = (ctypes.c_float * 6)()
    assert adapters.init_(buffer, "ones") is buffer
    assert list(buffer) == [1.0] * 6
    given = ByDLPack(np.zeros(3, "float32"))
    assert adapters.init_(given, "ones") is given
    assert given.held.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda held: ByDLPack(held, (2, 0)), ValueError, "host's memory, got one on a device of .* kind 2 .CUDA."),
        (lambda held: ByDLPack(held, (8, 0)), ValueError, "host's memory, got one on a device of .* kind 8 .Metal.$"),
        (OldDLPack, ValueError, "writable"),
        (lambda held: held.tolist(), TypeError, "share its memory by DLPack or as a buffer, got list"),
        (lambda held: held.tobytes(), ValueError, "writable"),
        (lambda held: memoryview(held).toreadonly(), ValueError, "writable"),
        pytest.param(lambda held: ByDLPack(held.astype("int32")), TypeError, "dtype", marks=by_dlpack),
        (lambda held: np.ma.masked_array(held, held == 0), TypeError, "masked array"),
    ],
)
def test_what_is_elsewhere_read_only_or_no_memory_is_refused_and_not_written(make, error, match):
    held = np.zeros(8, "float32")
    with pytest.raises(error, match=match):
        init_(make(held), "ones")
    assert not held.any()


class Bits(ByDLPack):
    """A library of bfloat16, which NumPy does not take by DLPack, with a view as integers that shares memory or not."""

    dtype = "library.bfloat16"

    def __init__(self, held, copies):
        super().__init__(held)
        self.copies = copies

    def view(self, dtype):
        integers = self.held.view(dtype)
        return ByDLPack(integers.copy() if self.copies else integers)


@by_dlpack
def test_types_that_numpy_lacks_pass_as_integers_where_their_view_is_no_copy():
    held = np.zeros(SHAPE, DTYPES["bfloat16"])
    init_(Bits(held, copies=False), "he_normal", seed=7, name="w")
    assert held.tobytes() == expected("he_normal", "bfloat16").tobytes()
    with pytest.raises(TypeError, match="view as int16 is a copy"):
        init_(Bits(held, copies=True), "ones")


class OnGPU(ByDLPack):
    """The same as if it stood on a GPU; notes what is asked of it."""

    def __init__(self, held, device=(2, 0)):
        super().__init__(held, device)
        self.asked = []

    def __dlpack__(self, *, stream=None, max_version=None):
        self.asked.append(stream)
        return self.held.__dlpack__(max_version=max_version)


class OnGPUOfOld(OnGPU):
    """The same in the form that does not say whether it may be written to, but by CUDA's own interface."""

    def __init__(self, held, is_read_only=False):
        super().__init__(held)
        self.__cuda_array_interface__ = {"data": (held.ctypes.data, is_read_only)}

    def __dlpack__(self, *, stream=None):
        self.asked.append(stream)
        return self.held.__dlpack__()


class Tacit(OnGPU):
    """The same without saying anything."""

    def __dlpack__(self, *, stream=None):
        self.asked.append(stream)
        return self.held.__dlpack__()


class Stream:
    """PyTorch's current one, the legacy default stream; notes what waits for it in the array that is filled."""

    cuda_stream = 0
    given = None

    def synchronize(self):
        self.given.asked.append("waited")
        assert (self.given.held != 0).all()


@pytest.mark.frameworks
class TestGPUs:
    """Here the memory of a GPU is that of the CPU."""

    @pytest.fixture
    def stream(self, monkeypatch):
        torch = pytest.importorskip("torch")
        stream = Stream()
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
        return stream

    @pytest.mark.parametrize("make", [OnGPU, OnGPUOfOld])
    @pytest.mark.parametrize("scheme", ["he_normal", "orthogonal"])
    def test_an_array_is_filled_between_what_its_library_queued_and_the_end_of_the_call(self, stream, make, scheme):
        held = np.zeros(SHAPE, "float32")
        stream.given = given = make(held)
        assert adapters.init_(given, scheme, seed=7, name="w") is given
        assert held.tobytes() == expected(scheme, "float32").tobytes()
        # 1 is DLPack's number of the legacy default stream, which has to wait for the array's own.
        assert given.asked == ([None] if make is OnGPU else []) + [1, "waited"]

    @pytest.mark.parametrize("keywords", [
        {}, {"in_axis": 1, "out_axis": 0}, {"out_axis": 0, "in_axis": ()}, {"batch_axis": 0, "padding_idx": 3},
        {"matrices": 19}, {"shape": (100, 19), "offset": (50, 0)},
    ])  # fmt: skip
    def test_axes_and_parts_mean_what_they_mean_on_the_host(self, stream, keywords):
        scheme = "normal" if "batch_axis" in keywords else "he_normal"
        first, second = np.zeros(SHAPE, "float32"), np.zeros(SHAPE, "float32")
        stream.synchronize = lambda: None
        init_(OnGPU(first), scheme, seed=7, name="w", **keywords)
        init_(second, scheme, seed=7, name="w", **keywords)
        assert first.tobytes() == second.tobytes()
        assert first.any()

    @pytest.mark.parametrize("keywords", [
        {"out_axis": 0}, {"in_axis": 1}, {"in_axis": -1, "shape": (100, 19), "offset": (50, 0)}, {"out_axis": (0,)},
        {"in_axis": 1, "shape": 5},
    ])  # fmt: skip
    def test_one_axis_that_is_the_default_of_the_other_is_refused_as_on_the_host(self, stream, keywords):
        said, stream.synchronize = [], lambda: None
        for make in (OnGPU, lambda held: held):
            held = np.zeros(SHAPE, "float32")
            with pytest.raises((TypeError, ValueError)) as caught:
                init_(make(held), "ones", **keywords)
            said.append((type(caught.value), str(caught.value)))
            assert not held.any()
        assert said[0] == said[1]

    def test_a_generator_is_drawn_from_once_whatever_is_filled(self, stream):
        arrays = [np.zeros(SHAPE, "float32") for _ in range(4)]
        stream.synchronize = lambda: None
        for one, other in (arrays[:2], arrays[2:]):
            ours, theirs = np.random.default_rng(3), np.random.default_rng(3)
            init_(OnGPU(one), "normal", seed=ours)
            init_(other, "normal", seed=theirs)
            assert one.tobytes() == other.tobytes()
            assert ours.integers(1 << 62) == theirs.integers(1 << 62)
            with pytest.raises(ValueError, match="std"):
                init_(OnGPU(one), "normal(std=1e60)", seed=ours)
            assert ours.integers(1 << 62) == theirs.integers(1 << 62)

    def test_what_may_not_be_written_to_is_refused(self, stream):
        for make, match in (
            (lambda held: OnGPUOfOld(held, is_read_only=True), "array must be writable, got a read-only OnGPUOfOld"),
            (Tacit, "array must say whether it is writable, by DLPack 1.0 .* got Tacit"),
        ):
            held = np.zeros(SHAPE, "float32")
            with pytest.raises(ValueError, match=match):
                init_(make(held), "ones")
            assert not held.any()
        held.flags.writeable = False
        with pytest.raises(ValueError, match="array must be writable, got a read-only OnGPU"):
            init_(OnGPU(held), "ones")
        held = np.zeros(SHAPE, "float32")
        with pytest.raises(ValueError, match="must share its memory, got Copied, which hands out copies"):
            init_(Copied(held), "ones")
        with pytest.raises(TypeError, match=r"of dtype .* got torch\.int32"):
            init_(OnGPU(np.zeros(SHAPE, "int32")), "ones")
        with pytest.raises(ValueError, match="must not overlap itself"):
            init_(OnGPU(np.lib.stride_tricks.as_strided(held, (5, 5), (0, 4))), "ones")
        assert not held.any()

    @pytest.mark.parametrize(("device", "why"), [
        ((2, 1), "2 .CUDA., which PyTorch fills where it can, but PyTorch .* finds no device 1"),
        ((10, 0), "10 .ROCm., which PyTorch fills where it can, but PyTorch .* is for others"),
        ((13, 0), "13 .CUDA, managed.$"), ((14, 0), "14 .oneAPI.$"),
    ])  # fmt: skip
    def test_a_device_that_pytorch_does_not_have_is_refused(self, stream, device, why):
        held = np.zeros(SHAPE, "float32")
        with pytest.raises(ValueError, match=f"host's memory, got one on a device of DLPack's kind {why}"):
            init_(OnGPU(held, device), "ones")
        assert not held.any()


class Copied(OnGPU):
    """Hands out a copy, and says so as NumPy does."""

    def __dlpack__(self, *, stream=None, max_version=None):
        return self.held.__dlpack__(max_version=max_version, copy=True)


def test_without_pytorch_an_array_on_a_gpu_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    held = np.zeros(SHAPE, "float32")
    with pytest.raises(
        ValueError, match=r"kind 2 \(CUDA\), which PyTorch fills where it can, but it cannot be imported"
    ):
        init_(OnGPU(held), "ones")
    assert not held.any()


@pytest.mark.frameworks
class TestLibraries:
    @pytest.fixture
    def mlx(self):
        return pytest.importorskip("mlx.core")

    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "complex64"])
    def test_mlx_gets_the_bits_of_fill(self, mlx, dtype):
        made = mlx.zeros(SHAPE, getattr(mlx, dtype))
        mlx.eval(made)
        assert adapters.init_(made, "he_normal", seed=7, name="w") is made
        kind = np.dtype("complex64") if dtype == "complex64" else DTYPES[dtype]
        whole = winit_fast.fill(np.empty(SHAPE, kind), "he_normal", seed=7, name="w")
        bits = made.view(mlx.uint8)
        assert np.asarray(bits).tobytes() == whole.tobytes()

    def test_arrow_which_lets_nobody_write_is_refused(self):
        arrow = pytest.importorskip("pyarrow")
        with pytest.raises(ValueError, match="writable"):
            init_(arrow.array([1.0, 2.0]), "ones")
