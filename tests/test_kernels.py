"""The kernels against the reference, bit for bit: every scheme, type and ISA, wherever an element stands."""

import math
from functools import lru_cache

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from winit_fast import fill, fill_rows

DTYPES = reference.DTYPES
NARROW = [kind for kind in DTYPES.values() if kind.itemsize < 4]

SCHEMES = [
    "zeros",
    "ones",
    "constant(0.1)",
    "constant(-0.0)",
    "constant(-1e-10)",
    "constant(-1e-50)",
    "uniform",
    "uniform(-0.1, 0.1)",
    "uniform(1, 1.0000002)",
    "uniform(-2, -1e-46)",
    "uniform(-3, 0)",
    "uniform(0, 1e-38)",
    "uniform(-1e-50, 1e-38)",
    "uniform(0, 3e-45)",
    "normal",
    "normal(mean=0.5, std=0.02)",
    "normal(mean=-3, std=1e-9)",
    "normal(std=1e-39)",
    "normal(mean=-0.0, std=1e-45)",
    "normal(std=0)",
    "truncated_normal",
    "truncated_normal(mean=2, low=-2, high=2)",
    "truncated_normal(std=1e-44)",
    "truncated_normal(mean=0.1, std=0.02, low=-1.3, high=1.3)",
    "truncated_normal(low=-1e-9, high=1e-9)",
    *(f"truncated_normal(low=-{bound!r}, high={bound!r})" for bound in (1e-10, 2.0**-64, 2.0**-65, 1e-36, 1e-38)),
    "truncated_normal(low=-3, high=3)",
    "truncated_normal(std=1e-44, low=-3, high=3)",
    "truncated_normal(mean=-1, std=0.3, low=-1, high=2.5)",
    "truncated_normal(low=-1e-9, high=3)",
    "truncated_normal(low=0, high=1)",
    "truncated_normal(low=-1, high=0)",
    "truncated_normal(low=1, high=1.0000001)",
    "truncated_normal(low=3, high=inf)",
    "truncated_normal(low=-inf, high=-3)",
    "truncated_normal(low=5, high=6)",
    "truncated_normal(low=8.7, high=8.9)",
    "truncated_normal(low=30, high=31)",
    "truncated_normal(low=-37, high=-36)",
    "truncated_normal(low=37, high=inf)",
    "truncated_normal(low=-40, high=40)",
    "truncated_normal(low=-2, high=inf)",
    "truncated_normal(low=-inf, high=37)",
    "truncated_normal(low=-inf, high=inf)",
    "truncated_normal(low=1.5, high=1.5)",
    "variance_scaling",
    "variance_scaling(2, 'fan_geo_avg', 'truncated_normal')",
    "variance_scaling(scale=0.3, mode='fan_avg', distribution='uniform')",
    "variance_scaling(scale=0)",
    "he_normal",
    "he_uniform(mode='fan_out')",
    "he_truncated_normal(nonlinearity='leaky_relu', slope=0.2)",
    "he_normal(nonlinearity='tanh')",
    "he_uniform(gain=1e-3)",
    "xavier_normal(gain=2)",
    "xavier_uniform",
    "xavier_truncated_normal(mode='fan_in')",
    "lecun_normal",
    "lecun_uniform",
    "lecun_truncated_normal(mode='fan_geo_avg')",
]
HUGE = ["uniform(-1.7e38, 1.7e38)", "normal(std=5e37)", "truncated_normal(mean=1e38, std=1e36, low=-2, high=inf)"]
CASES = [(scheme, kind) for kind in DTYPES.values() for scheme in SCHEMES]
CASES += [(scheme, DTYPES[name]) for name in ("float32", "float64", "bfloat16") for scheme in HUGE]
CASES += [("uniform(-8e307, 8e307)", DTYPES["float64"]), ("uniform(-1e-320, 1e-310)", DTYPES["float64"])]

# One for each transform.
TRANSFORMS = [
    "constant(0.3)",
    "uniform(-0.1, 0.1)",
    "normal(0.5, 0.02)",
    "truncated_normal",
    "truncated_normal(low=-1, high=2.5)",
    "truncated_normal(low=30, high=31)",
]

pytestmark = pytest.mark.covering

SEED, NAME = 0xFEDCBA9876543210, "kernels"


def assert_same_bits(got, expected):
    unsigned = f"u{expected.itemsize}"
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got.view(unsigned), expected.view(unsigned))


@lru_cache
def expected_run(scheme, dtype, shape, first, count, seed=SEED):
    """A run of elements in row-major order; computed once for all ISAs."""
    index = np.arange(first, first + count)
    result = reference.values(scheme, dtype, seed=seed, name=NAME, shape=shape, index=index)
    result.flags.writeable = False
    return result


def expected_region(scheme, dtype, shape, offset, extent):
    """The elements of a rectangle of the global tensor."""
    index = np.zeros(extent, np.int64)
    for axis in range(len(shape)):
        place = offset[axis] + np.arange(extent[axis])
        index = index * shape[axis] + place.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    return reference.values(scheme, dtype, seed=SEED, name=NAME, shape=shape, index=index)


# Transforms


@pytest.mark.parametrize(("scheme", "dtype"), CASES, ids=str)
def test_every_scheme_has_the_bits_of_the_reference(isa, scheme, dtype):
    shape = (71, 43)
    out = fill(np.empty(shape, dtype), scheme, seed=SEED, name=NAME)
    assert_same_bits(out.ravel(), expected_run(scheme, dtype, shape, 0, out.size))


few = st.floats(-37, 37) | st.floats(-3, 3) | st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0])
sizes = st.floats(-39, 30).map(lambda power: 10.0**power) | st.floats(1e-3, 1)
bounds = st.tuples(few, few).filter(lambda pair: abs(pair[0] - pair[1]) > 1e-3).map(sorted)


@st.composite
def schemes_of_any_numbers(draw):
    kind = draw(st.sampled_from(["uniform", "normal", "cut", "cut at both ends alike", "cut below", "cut above"]))
    std = draw(sizes)
    mean = std * draw(st.just(0.0) | few)
    low, high = draw(bounds)
    if kind == "uniform":
        return f"uniform({mean + std * low!r}, {mean + std * high!r})"
    if kind == "normal":
        return f"normal({mean!r}, {std!r})"
    if kind == "cut at both ends alike":
        high = max(abs(low), abs(high))
        low = -high
    low, high = (low, math.inf) if kind == "cut below" else (-math.inf, high) if kind == "cut above" else (low, high)
    return f"truncated_normal({mean!r}, {std!r}, {low!r}, {high!r})"


anywhere = given(
    schemes_of_any_numbers(),
    st.sampled_from([DTYPES["float32"], DTYPES["float64"]]),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**63 - 200),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@anywhere
def test_any_numbers_have_the_bits_of_the_reference(isa, scheme, dtype, seed, first):
    assert_numbers_have_the_bits_of_the_reference(scheme, dtype, seed, first)


@pytest.mark.exhaustive
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@anywhere
def test_more_numbers_have_the_bits_of_the_reference(isa, scheme, dtype, seed, first):
    assert_numbers_have_the_bits_of_the_reference(scheme, dtype, seed, first)


def assert_numbers_have_the_bits_of_the_reference(scheme, dtype, seed, first):
    shape = (2**63 - 1,)
    out = fill(np.empty(150, dtype), scheme, seed=seed, name=NAME, shape=shape, offset=(first,))
    index = np.arange(first, first + 150)
    assert_same_bits(out, reference.values(scheme, dtype, seed=seed, name=NAME, shape=shape, index=index))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((3, 3, 8, 5), {}),
        ((5, 8, 3, 3), {"in_axis": 1, "out_axis": 0}),
        ((4, 8, 5), {"batch_axis": 0}),
        ((4, 8, 5, 6), {"in_axis": (0, 1), "out_axis": (-1,), "batch_axis": ()}),
        ((50, 12), {"in_axis": -2, "out_axis": 0}),
        ((12,), {"in_axis": 0, "out_axis": ()}),
    ],
)
def test_fans_of_any_axes_have_the_bits_of_the_reference(shape, axes):
    for scheme in ("he_normal", "xavier_uniform", "variance_scaling(mode='fan_out', distribution='truncated_normal')"):
        out = fill(np.empty(shape), scheme, seed=SEED, name=NAME, **axes)
        index = np.arange(out.size).reshape(shape)
        assert_same_bits(
            out, reference.values(scheme, out.dtype, seed=SEED, name=NAME, shape=shape, index=index, **axes)
        )


# Places


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("scheme", TRANSFORMS)
def test_any_run_has_the_bits_of_the_reference(isa, scheme, dtype):
    shape = (10_000,)
    whole = expected_run(scheme, dtype, shape, 0, 700)
    for first in (0, 1, 7, 15, 16, 17, 31, 32, 33, 63, 65):
        for count in (1, 2, 3, 15, 16, 17, 31, 33, 64, 65, 127, 129, 517):
            out = np.full(count + 2, 7, dtype)
            fill(out[1:-1], scheme, seed=SEED, name=NAME, shape=shape, offset=(first,))
            assert_same_bits(out[1:-1], whole[first : first + count])
            assert out[0] == out[-1] == 7


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("scheme", TRANSFORMS)
def test_far_regions_have_the_bits_of_the_reference(isa, scheme, dtype):
    # Element 2^34 has the first word whose block needs its high half (float64: element 2^33); the last is near 2^63.
    for around in (2**32, 2**33, 2**34, 2**40, 2**62):
        for first, count in ((around - 45, 101), (around - 1, 3), (around, 64), (around - 1001, 999)):
            shape = (2**63 - 1,)
            out = fill(np.empty(count, dtype), scheme, seed=SEED, name=NAME, shape=shape, offset=(first,))
            assert_same_bits(out, expected_run(scheme, dtype, shape, first, count))
    for top in (2**29 - 9, 2**31 - 5, 2**40 - 17):
        shape, offset = (2**40, 8), (top, 3)
        out = fill(np.empty((17, 5), dtype), scheme, seed=SEED, name=NAME, shape=shape, offset=offset)
        assert_same_bits(out, expected_region(scheme, dtype, shape, offset, out.shape))


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("scheme", TRANSFORMS)
def test_any_strides_and_threads_have_the_bits_of_the_reference(isa, scheme, dtype, threads):
    shape, offset = (2**20, 90, 70), (2**20 - 9, 3, 11)
    memory = np.full((110, 20, 41), 7, dtype)
    out = memory[1:103:3, ::-3, 40::-1].transpose(1, 0, 2)  # (7, 34, 41)
    fill(out, scheme, seed=SEED, name=NAME, shape=shape, offset=offset, threads=threads)
    assert_same_bits(np.ascontiguousarray(out), cached_region(scheme, dtype, shape, offset, out.shape))
    out[...] = 7
    assert (memory == 7).all()  # nothing beside it was written


cached_region = lru_cache(expected_region)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_any_number_of_threads_has_the_bits_of_the_reference(isa, dtype, threads):
    shape, scheme = (997, 101), "normal"
    out = fill(np.empty(shape, dtype), scheme, seed=SEED, name=NAME, threads=threads)
    assert_same_bits(out.ravel(), expected_run(scheme, dtype, shape, 0, out.size))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("scheme", TRANSFORMS)
def test_rows_have_the_bits_of_the_reference(isa, scheme, dtype, threads):
    columns = 37
    border = 2**34 // columns  # this row holds element 2^34
    rows = np.array([border + 1, 0, border, border - 1, 2**50 + 3, border, 1, 2**31, 2**32 + 1, border // 2])
    shape = (2**51, columns)
    expected = cached_rows(scheme, dtype, shape, tuple(rows.tolist()))
    out = fill_rows(np.empty((10, columns), dtype), rows, scheme, seed=SEED, name=NAME, shape=shape, threads=threads)
    assert_same_bits(out, expected)
    strided = np.empty((columns, 20), dtype)[::-1, ::2].T
    fill_rows(strided, rows, scheme, seed=SEED, name=NAME, shape=shape, threads=threads)
    assert_same_bits(np.ascontiguousarray(strided), expected)


WHOLE_GROUPS = [16, 32, 64, 96, 224, 256, 288]  # values, in groups of 32, in float64 of 16


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("scheme", ["constant(0.3)", "uniform(-0.1, 0.1)", "normal(0.5, 0.02)"])
def test_rows_of_whole_groups_have_the_bits_of_the_reference(isa, scheme, dtype, threads):
    for columns in WHOLE_GROUPS:
        border = 2**34 // columns  # near element 2^34; float64's word 2^34 is in the row half as far
        rows = np.array([border + 1, 0, border, border - 1, 2**50 + 3, border // 2, border // 2 - 1, 7, 8, 9, 9, 11])
        shape = (2**51, columns)
        expected = cached_rows(scheme, dtype, shape, tuple(rows.tolist()))
        arguments = {"seed": SEED, "name": NAME, "shape": shape, "threads": threads}
        assert_same_bits(fill_rows(np.empty((12, columns), dtype), rows, scheme, **arguments), expected)
        for first in (32, 5):  # a part of other memory, its rows on cache lines or beside them
            memory = np.full((14, columns + 40), 7, dtype)
            out = memory[1:-1, first : first + columns]
            fill_rows(out, rows, scheme, **arguments)
            assert_same_bits(np.ascontiguousarray(out), expected)
            out[...] = 7
            assert (memory == 7).all()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("scheme", ["constant(0.3)", "uniform(-0.1, 0.1)", "normal(0.5, 0.02)"])
def test_some_columns_in_place_have_the_bits_of_the_reference(isa, scheme, dtype, threads):
    for first, last, width in ((64, 128, 128), (0, 32, 64), (32, 64, 96), (16, 80, 112), (1, 65, 96), (32, 352, 384)):
        # In the middle is a row with elements on both sides of 2^34, where the high half of the block changes.
        shape, offset, extent = (2**40, width), (2**34 // width - 4, first), (9, last - first)
        memory = np.full((9, width), 7, dtype)
        out = memory[:, first:last]
        fill(out, scheme, seed=SEED, name=NAME, shape=shape, offset=offset, threads=threads)
        assert_same_bits(np.ascontiguousarray(out), cached_region(scheme, dtype, shape, offset, extent))
        out[...] = 7
        assert (memory == 7).all()


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("scheme", ["uniform(-0.1, 0.1)", "normal(0.5, 0.02)"])
def test_rows_that_follow_each_other_have_the_bits_of_the_reference(isa, scheme, dtype):
    for columns in (1, 16, 37, 100):
        rows = np.array([*range(3, 40), 40, 40, *range(41, 60), *range(59, 30, -1), 0, 1, 2**31, 2**31 + 1])
        shape = (2**40, columns)
        expected = cached_rows(scheme, dtype, shape, tuple(rows.tolist()))
        arguments = {"seed": SEED, "name": NAME, "shape": shape}
        assert_same_bits(fill_rows(np.empty((len(rows), columns), dtype), rows, scheme, **arguments), expected)
        apart = np.full((len(rows), columns + 3), 7, dtype)
        fill_rows(apart[:, 1:-2], rows, scheme, **arguments)
        assert_same_bits(np.ascontiguousarray(apart[:, 1:-2]), expected)
        assert (apart[:, [0, -2, -1]] == 7).all()


@lru_cache
def cached_rows(scheme, dtype, shape, rows):
    index = np.array(rows)[:, None] * shape[1] + np.arange(shape[1])
    return reference.values(scheme, dtype, seed=SEED, name=NAME, shape=shape, index=index)


# Rounding


def finite_numbers(kind):
    """Every finite number of a 16-bit or 8-bit type, in order, as float32."""
    every = np.arange(2 ** (8 * kind.itemsize)).astype(f"u{kind.itemsize}").view(kind).astype(np.float32)
    return np.unique(every[np.isfinite(every)])


@pytest.mark.parametrize("kind", NARROW, ids=str)
def test_the_reference_rounds_once_to_nearest_ties_to_even(kind):
    numbers = finite_numbers(kind).astype(np.float64)
    below, above = numbers[:-1], numbers[1:]
    middle = ((below + above) / 2).astype(np.float32)
    last_bit = below.astype(kind).view(f"u{kind.itemsize}") & 1
    np.testing.assert_array_equal(middle.astype(kind).astype(np.float64), np.where(last_bit == 0, below, above))
    lower, upper = np.nextafter(middle, np.float32(-np.inf)), np.nextafter(middle, np.float32(np.inf))
    np.testing.assert_array_equal(lower.astype(kind).astype(np.float64), below)
    np.testing.assert_array_equal(upper.astype(kind).astype(np.float64), above)


@pytest.mark.parametrize("kind", NARROW, ids=str)
def test_narrow_types_are_float32_rounded_once(isa, kind):
    numbers = finite_numbers(kind)
    places = np.linspace(0, len(numbers) - 2, 120).astype(int)
    places = np.union1d(places, len(numbers) // 2 + np.arange(-12, 12))  # subnormals too
    for below, above in zip(numbers[places], numbers[places + 1], strict=True):
        # Ties, and what stands three units in the last place of float32 around them.
        tie = np.float32((float(below) + float(above)) / 2)
        unit = float(np.spacing(tie))
        scheme = f"uniform({float(tie) - 3.5 * abs(unit)!r}, {float(tie) + 3.5 * abs(unit)!r})"
        table = fill(np.empty(67, np.float32), scheme, seed=SEED)
        assert tie in table
        assert_same_bits(fill(np.empty(67, kind), scheme, seed=SEED), table.astype(kind))


# The floating-point control register

FLUSH_TO_ZERO, DENORMALS_ARE_ZERO, UPWARDS, TO_ZERO, DEFAULT = 0x8000, 0x0040, 0x4000, 0x6000, 0x1F80


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("mode", [FLUSH_TO_ZERO | DENORMALS_ARE_ZERO, UPWARDS, TO_ZERO | FLUSH_TO_ZERO])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_the_control_register_changes_no_bit_and_is_left_as_found(isa, control_register, dtype, mode, threads):
    # With numbers of their own, or their constants might have been computed before under the default.
    schemes = [
        f"uniform(-0.1, 0.{mode})",
        f"uniform(0, {mode}e-43)",
        f"normal(0.5, 0.{mode})",
        f"normal(std={mode}e-43)",
        f"normal(std=3.{mode}e-6)",
        f"truncated_normal(std=3.{mode})",
        f"truncated_normal(low=-1, high=2.{mode})",
        f"truncated_normal(low=30, high=30.{mode})",
        f"he_uniform(gain=1.{mode})",
        f"constant(1.{mode}e-5)",
    ]
    shape = (61, 53)
    expected = [expected_run(scheme, dtype, shape, 0, 61 * 53) for scheme in schemes]
    outs = [np.empty(shape, dtype) for _ in schemes]
    left = []
    for scheme, out in zip(schemes, outs, strict=True):
        control_register.value = DEFAULT | mode
        fill(out, scheme, seed=SEED, name=NAME, threads=threads)
        left.append(control_register.value)
        control_register.restore()
    for out, run, register in zip(outs, expected, left, strict=True):
        assert_same_bits(out.ravel(), run)
        assert register & ~0x3F == DEFAULT | mode  # but for the flags of what happened
