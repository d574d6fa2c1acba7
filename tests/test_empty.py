"""empty: memory at an aligned address."""

import sys

import numpy as np
import pytest
from arrays import DTYPES, untouched
from hypothesis import given
from hypothesis import strategies as st
from processes import printed

import winit_fast


@given(
    st.lists(st.integers(0, 6), max_size=5),
    st.sampled_from([*DTYPES.values(), np.dtype("c16"), np.dtype("?")]),
    st.sampled_from([1, 2, 4, 8, 16, 64, 128, 4096, 65536]),
)
def test_empty_gives_a_writable_contiguous_array_at_an_aligned_address(shape, dtype, align):
    out = winit_fast.empty(shape, dtype, align=align)
    assert type(out) is np.ndarray
    assert out.shape == tuple(shape)
    assert out.dtype == dtype
    assert out.flags.c_contiguous
    assert out.flags.writeable
    assert out.ctypes.data % align == 0
    out[...] = 1
    assert (out == 1).all()


def test_empty_is_aligned_to_64_bytes_and_of_float32_by_default():
    arrays = [winit_fast.empty(size) for size in range(1, 200)]
    assert {array.ctypes.data % 64 for array in arrays} == {0}
    assert {array.dtype for array in arrays} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [(7, (7,)), ((), ()), (np.int64(3), (3,)), ([2, 3], (2, 3)), ((0, 9), (0, 9)), (np.array([2, 3]), (2, 3))],
    ids=repr,
)
def test_empty_takes_shapes_as_numpy_does(shape, expected):
    assert winit_fast.empty(shape, "float16").shape == expected


class NoRepr:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "dtype",
    [
        object,
        (object, (3,)),
        [("a", "f4"), ("b", "O")],
        [("a", [("b", (object, 2))])],
        {"names": ["a"], "formats": ["O"], "offsets": [8], "itemsize": 64},
        np.dtypes.StringDType(),
        [("a", "i8"), ("b", [("c", "M8[s]"), ("d", "O")])],
    ],
    ids=str,
)
def test_empty_refuses_items_that_are_references(dtype):
    for shape in (3, (), (0,), (2, 2)):
        with pytest.raises(
            TypeError, match=r"dtype must be one whose items are plain bytes, got .*: its items hold ref"
        ):
            winit_fast.empty(shape, dtype)


@pytest.mark.parametrize(
    "dtype", ["S4", "V8", "M8[s]", "m8", "i4", "?", [("a", "f4"), ("b", "S3")], ("f4", (3,))], ids=str
)
def test_empty_takes_items_of_plain_bytes(dtype):
    out = winit_fast.empty(5, dtype)
    assert (out.dtype, out.shape) == (np.empty(5, dtype).dtype, np.empty(5, dtype).shape)
    assert out.ctypes.data % 64 == 0
    out.tolist()


@pytest.mark.parametrize("dtype", ["U4", ">U4", [("a", "f4"), ("b", "U3")]], ids=str)
def test_text_that_nobody_wrote_is_empty_rather_than_unreadable(dtype):
    size = 100
    for _ in range(20):
        np.full(size * 16 + 64, 255, "u1")  # what the next array may find
        out = winit_fast.empty(size, dtype)
        text = out if out.dtype.names is None else out["b"]
        assert text.tolist() == [""] * size


@pytest.mark.parametrize("dtype", [NoRepr(), [[[NoRepr()]]]], ids=["no repr", "nested"])
def test_a_dtype_that_cannot_be_shown_is_refused(dtype):
    with pytest.raises(TypeError, match="dtype must be one of NumPy's or the name of one, got an object of"):
        winit_fast.empty(3, dtype)


def test_empty_arrays_do_not_share_memory():
    first, second = winit_fast.empty(100), winit_fast.empty(100)
    first[...] = 1
    second[...] = 2
    assert (first == 1).all()


def test_empty_is_filled_as_any_array():
    out = winit_fast.fill(winit_fast.empty((100, 30)), "normal", seed=1)
    assert (out == winit_fast.fill(untouched((100, 30), "float32"), "normal", seed=1)).all()


@pytest.mark.parametrize("align", [0, -64, 3, 48, 2**40 + 1])
def test_empty_refuses_an_alignment_that_is_no_power_of_two(align):
    with pytest.raises(ValueError, match=f"align must be a power of two, got {align}"):
        winit_fast.empty(4, align=align)


@pytest.mark.parametrize("integer", [np.uint8, np.int64, np.uint64, np.array])
def test_empty_takes_an_alignment_of_any_integer_type(integer):
    out = winit_fast.empty(3, align=integer(64))
    assert out.shape == (3,)
    assert out.ctypes.data % 64 == 0


@pytest.mark.parametrize("align", [True, 64.0, "64", None])
def test_empty_refuses_an_alignment_that_is_no_int(align):
    with pytest.raises(TypeError, match="align must be an int"):
        winit_fast.empty(4, align=align)


@pytest.mark.parametrize("shape", [-1, (3, -1), (2, -1), np.int8(-1)])
def test_empty_refuses_a_negative_size(shape):
    with pytest.raises(ValueError, match=r"shape must not be negative, got .*-1"):
        winit_fast.empty(shape)


@pytest.mark.parametrize("shape", [1.5, (2, 1.5), None, "ab", "3", b"3", {3}, {3}.pop, True, (2, True)])
def test_empty_refuses_a_shape_that_is_not_made_of_ints(shape):
    with pytest.raises(TypeError, match=r"shape.* must be "):
        winit_fast.empty(shape)


@pytest.mark.parametrize("shape", [2**62, (2**40, 2**40)])
def test_empty_refuses_what_no_memory_holds(shape):
    with pytest.raises((ValueError, MemoryError)):
        winit_fast.empty(shape, "float64")


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_types_of_ml_dtypes_are_known_by_name_without_its_import(name):
    code = f"from winit_fast import empty; print(empty((3, 4), {name!r}).dtype.name)"
    assert printed(code) == f"{name}\n"


def test_a_type_of_ml_dtypes_says_what_it_needs_where_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(
        TypeError, match=r"dtype 'bfloat16' needs ml_dtypes, of the extra \[bfloat16\]: pip install ml_dtypes"
    ):
        winit_fast.empty(3, "bfloat16")
