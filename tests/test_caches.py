"""What is remembered from one fill to the next stays small, whatever was filled."""

import gc
import tracemalloc

import numpy as np

from winit_fast import fill, scheme
from winit_fast.registry import LONGEST_KEPT

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


def test_the_biases_of_lstms_are_not_kept():
    out = np.empty(4 * 4096, "float64")
    assert kept(lambda number: fill(out[: 4 * (4000 + number)], "lstm_bias")) < MIB


def test_kernels_that_interpolate_are_not_kept():
    out = np.empty((90, 90, 1, 1), "float64")
    assert kept(lambda number: fill(out[: 20 + number], "bilinear")) < MIB


def test_long_names_are_not_kept():
    out = np.empty(3, "float32")
    assert kept(lambda number: fill(out, "normal", seed=1, name=f"{number}" * 30_000)) < MIB


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
