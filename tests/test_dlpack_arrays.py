"""Arrays of libraries without an adapter of their own: filled where they stand, or refused."""

import array
import ctypes

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
