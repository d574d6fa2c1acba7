"""What is remembered from one fill to the next stays small, whatever was filled."""

import gc
import sys
import tracemalloc
import weakref
from importlib import import_module
from unittest import mock

import ml_dtypes
import numpy as np
import pytest

from winit_fast import fill, fill_keys, fill_rows, registry, scheme, structures
from winit_fast.arguments import MOST_VALUES
from winit_fast.fans import Layout
from winit_fast.registry import LONGEST_KEPT

engine = import_module("winit_fast.fill")

MIB = 1 << 20


def kept(work):
    """How many bytes are there after some work that were not before it."""
    work(0)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(1, 65):
            work(number)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def numbers(number, shape):
    return np.arange(np.prod(shape)).reshape(shape) + number


def test_the_texts_of_arrays_are_not_kept():
    out = np.empty((32, 32), "float32")
    assert kept(lambda number: fill(out, f"array({numbers(number, out.shape).tolist()})")) < MIB


def test_arrays_are_not_kept():
    out = np.empty((32, 32), "float64")
    assert kept(lambda number: fill(out, scheme("array", values=numbers(number, out.shape)))) < MIB


def test_an_array_is_not_kept_for_each_shape():
    out, rows = np.empty((64, 1, 4096), "float64"), scheme("array", values=numbers(0, (4096,)))
    assert kept(lambda number: fill(out[: number + 1], rows)) < MIB


@pytest.mark.parametrize("count", [64, 5000])
def test_an_array_that_its_caller_holds_is_prepared_once_for_each_shape_and_type(count):
    held = scheme("array", values=numbers(0, (count,)))
    assert len(str(held)) > LONGEST_KEPT
    with mock.patch.object(structures, "_round_values", wraps=structures._round_values) as prepare:
        for _ in range(5):
            fill(np.empty((3, count), "float32"), held)
            fill_rows(np.empty((2, count), "float32"), [1, 0], held, shape=(3, count))
            fill(np.empty((3, count), "float64"), held)
        assert prepare.call_count == 2


def test_of_arrays_that_their_callers_hold_a_few_mib_are_kept():
    most = numbers(0, (MOST_VALUES,))  # 512 KiB of float64, 64 times
    out, held = np.empty((64, MOST_VALUES), "float64"), scheme("array", values=most)
    assert kept(lambda number: fill(out[: number + 1], held)) < 5 * MIB
    small = [scheme("array", values=numbers(0, (1700,)) % 10) for _ in range(8)]  # 13 KiB, 512 times
    out = np.empty((65, 1700), "float64")
    assert kept(lambda number: [fill(out[: number + 1], held) for held in small]) < 5 * MIB


def test_an_array_goes_with_its_caller():
    held = scheme("array", values=numbers(0, (64,)))
    fill(np.empty(64), held)
    gone = weakref.ref(held)
    del held
    gc.collect()
    assert gone() is None


def test_the_biases_of_lstms_are_not_kept():
    out = np.empty(4 * 4096, "float64")
    assert kept(lambda number: fill(out[: 4 * (4000 + number)], "lstm_bias")) < MIB


def test_a_small_kernel_that_interpolates_is_computed_once():
    with mock.patch.object(structures, "_make_bilinear", wraps=structures._make_bilinear) as compute:
        for dtype in ("float32", "float64", "float32", "float64"):
            fill(np.empty((4, 4, 5, 7), dtype), "bilinear")
            fill_rows(np.empty((3, 4, 5, 7), dtype), [1, 3, 1], "bilinear", shape=(4, 4, 5, 7))
        assert compute.call_count == 2


@pytest.mark.parametrize(
    ("text", "shape"), [("array([1, 2, 3])", (5, 3)), ("lstm_bias", (1000,)), ("bilinear", (3, 6, 16, 4))]
)
def test_what_is_small_is_copied_at_once(text, shape):
    with mock.patch.object(structures, "Pieces", side_effect=AssertionError):
        fill(np.empty(shape), text)
        fill_rows(np.empty((2, *shape[1:])), [1, 0], text, shape=shape)


def test_kernels_that_interpolate_are_not_kept():
    out = np.empty((90, 90, 1, 1), "float64")
    assert kept(lambda number: fill(out[: 20 + number], "bilinear")) < MIB


def test_long_names_are_not_kept():
    out = np.empty(3, "float32")
    assert kept(lambda number: fill(out, "normal", seed=1, name=f"{number}" * 30_000)) < MIB


def test_what_hangs_on_a_dtype_is_not_kept():
    def fill_with(number):
        fill(np.empty(number + 1, np.dtype("float32", metadata={"notes": bytearray(MIB)})), "constant(2)")

    assert kept(fill_with) < MIB


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.dtype("float32", metadata={"notes": 1}),
        lambda: np.dtype("complex64", metadata={"notes": 1}),
        lambda: np.dtype(ml_dtypes.bfloat16, metadata={"notes": 1}),
        lambda: np.dtype((np.float32, {"notes": (np.float32, 0)})),
    ],
)
def test_a_dtype_of_a_caller_is_not_kept(make):
    dtype = make()
    engine._element_type_of.cache_clear()
    before = sys.getrefcount(dtype)
    fill(np.empty((3, 2), dtype), "constant(2)")
    fill_rows(np.empty((1, 2), dtype), [0], "he_normal", seed=1, shape=(3, 2))
    fill_keys(np.empty((1, 2), dtype), [0], "normal", seed=1)
    if dtype.kind != "c":
        for text in (f"array({list(range(90))})", "array([1, 2])", "bilinear", "orthogonal"):
            fill(np.empty((2, 3, 3, 90 if len(text) > LONGEST_KEPT else 2), dtype), text, seed=1)
    assert sys.getrefcount(dtype) == before
    plain = fill(np.empty((3, 2), dtype.type), "normal", seed=1, name="a")
    assert (fill(np.empty((3, 2), dtype), "normal", seed=1, name="a").view(plain.dtype) == plain).all()


def test_texts_made_long_by_blanks_are_not_kept():
    out = np.empty(3, "float32")
    assert kept(lambda number: fill(out, f"normal({number})".ljust(900), seed=1, name=3)) < MIB // 8


def test_what_is_kept_of_the_longest_texts_is_little():
    """As many as are remembered at most, of which none has more than LONGEST_KEPT characters."""
    out = np.empty((1, 70), "float32")

    def fill_with(number):
        for each in range(5):
            digits = ["01"[number >> k & 1] for k in range(7)] + ["01"[each >> k & 1] for k in range(3)]
            text = f"array([{', '.join(digits * 5)}])"[:LONGEST_KEPT]
            text = text[: text.rindex(",")] + "])"
            count = text.count(",") + 1
            fill(out[:, :count], text)

    assert kept(fill_with) < 64 * 5 * 8192


@pytest.mark.parametrize("spec", ["he_normal(gain=1.0625)", "embedding_normal", "orthogonal(gain=1.0625)"])
@pytest.mark.parametrize("padding_idx", [None, 0])
def test_a_first_call_builds_its_layout_once_and_a_cached_call_none(spec, padding_idx):
    built = []

    def count(frame, event, argument):
        if event == "call" and frame.f_code is Layout.__init__.__code__:
            built.append(frame)

    engine._resolve.cache_clear()
    registry._read.cache_clear()
    for expected in (1, 0):
        built.clear()
        sys.setprofile(count)
        try:
            fill(np.empty((37, 29), "float32"), spec, seed=1, name="a", padding_idx=padding_idx)
        finally:
            sys.setprofile(None)
        assert len(built) == expected
