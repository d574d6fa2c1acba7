"""Kernels that interpolate: exact products, each rounded once to the working type and from there to the array's."""

from fractions import Fraction
from itertools import product
from math import prod

import numpy as np
import pytest
import reference
from arrays import DTYPES, NARROW, bits, same
from numpy.testing import assert_array_equal

from winit_fast import fill, fill_rows
from winit_fast.exact import FLOAT32, FLOAT64

WORKING = ["float32", "float64"]


def weight(size, place):
    half = max(1, -(-size // 2))
    return 1 - abs(Fraction(place, half) - Fraction(2 * half - 1 - half % 2, 2 * half))


def expected(sizes, places, dtype):
    """The values at some places of a kernel, from exact products."""
    nearest = (FLOAT64 if dtype == "float64" else FLOAT32).nearest
    values = [nearest(prod(map(weight, sizes, place), start=Fraction(1))) for place in places]
    return np.array(values, "float64" if dtype == "float64" else "float32").astype(DTYPES[dtype])


@pytest.mark.parametrize("dtype", WORKING)
def test_every_small_kernel_is_rounded_as_exact_products_are(dtype):
    sides = [1, 2, 3, 5, 6, 7, 10, 13, 22, 31, 46, 59]
    for sizes in product(sides, sides):
        out = fill(np.empty((*sizes, 1, 1), dtype), "bilinear")
        assert_array_equal(bits(out), bits(expected(sizes, product(*map(range, sizes)), dtype)))


@pytest.mark.parametrize("dtype", WORKING)
@pytest.mark.parametrize("sizes", [(3000, 2999), (4093, 1021), (1 << 20,), (999_983,), (149, 131, 107)], ids=str)
def test_any_place_of_a_large_kernel_is_rounded_as_an_exact_product_is(sizes, dtype):
    out = fill(np.empty((*sizes, 1, 1), dtype), "bilinear").reshape(sizes)
    places = np.random.default_rng(1).integers(0, sizes, (5000, len(sizes)))
    assert_array_equal(bits(out[tuple(places.T)]), bits(expected(sizes, places.tolist(), dtype)))


@pytest.mark.parametrize("dtype", WORKING)
@pytest.mark.parametrize(
    "sizes", [((1 << 27) - 3, 1 << 28), ((1 << 20) + 1, 1 << 20, (1 << 20) + 3), (1 << 62,), (99_999_989, 90_071_993)],
    ids=str,
)  # fmt: skip
def test_a_part_of_a_kernel_of_any_size_is_rounded_as_exact_products_are(sizes, dtype):
    """Whole numbers up to 2^53 are float64; beyond them others must do."""
    for part in (0, 1, 2):
        offset = tuple(part * (size // 2 - 3) for size in sizes)
        out = np.empty((*(5 for _ in sizes), 1, 1), dtype)
        fill(out, "bilinear", shape=(*sizes, 1, 1), offset=(*offset, 0, 0))
        places = product(*(range(first, first + 5) for first in offset))
        assert_array_equal(bits(out), bits(expected(sizes, places, dtype)))


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("sizes", [(301, 200), (4001,), (29, 31, 27)], ids=str)
def test_narrow_types_have_the_rounded_float32(sizes, dtype):
    out = fill(np.empty((*sizes, 1, 1), DTYPES[dtype]), "bilinear")
    assert same(out, fill(np.empty((*sizes, 1, 1), "float32"), "bilinear").astype(DTYPES[dtype]))


def test_rows_and_parts_of_large_kernels_are_those_of_the_whole():
    whole = fill(np.empty((600, 500, 2, 3), "float32"), "bilinear")
    rows = np.random.default_rng(1).integers(0, 600, 1000)
    assert same(fill_rows(np.empty((1000, 500, 2, 3), "float32"), rows, "bilinear", shape=whole.shape), whole[rows])
    part = np.empty((3, 400, 450), "float32").T
    fill(part[:, :, None], "bilinear", shape=whole.shape, offset=(150, 77, 1, 0))
    assert same(part, whole[150:600, 77:477, 1])


def test_large_kernels_of_half_a_million_channels_have_the_bits_of_the_reference():
    out = np.empty((2000, 250, 3, 5), "float32")
    fill(out, "bilinear", in_axis=1, out_axis=0)
    index = np.arange(15).reshape(1, 1, 3, 5)
    kernel = reference.values(
        "bilinear", out.dtype, seed=0, name=0, shape=(1, 1, 3, 5), index=index, in_axis=1, out_axis=0
    )
    assert_array_equal(bits(out), bits(np.broadcast_to(kernel, out.shape)))


def test_what_numpy_is_told_of_floating_point_errors_changes_nothing():
    with np.errstate(all="raise"):
        fill(np.empty((5000, 5000, 1, 1), "float16"), "bilinear")
        fill(np.empty((3, 2), "float32"), "array([1e-50, 1e-310])")
