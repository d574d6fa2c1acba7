"""Exact: normal probabilities against mpmath, rounding against NumPy and ml_dtypes."""

import decimal
import math
from decimal import Decimal
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from winit_fast.exact import (
    BFLOAT16,
    FLOAT8_E4M3FN,
    FLOAT8_E5M2,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    Format,
    erf_over_sqrt2,
    upper_tail,
)

POINTS = [0.0, 1e-300, 5e-324, 1e-9, 0.1, 1.0, 2.0, 3.0, 5.0, 9.0, 20.0, 37.0, 40.0]
POINTS += [-x for x in POINTS]

finite_floats = st.floats(allow_nan=False, allow_infinity=False)
exact_numbers = st.one_of(
    st.fractions(),
    finite_floats.map(Fraction),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(Fraction),
    st.builds(lambda n, e: Fraction(n) * Fraction(2) ** e, st.integers(-(2**60), 2**60), st.integers(-1200, 1100)),
)


def relative_error(value: Decimal, reference: mpmath.mpf) -> float:
    return float(abs(mpmath.mpf(str(value)) / reference - 1)) if reference else abs(float(value))


def reference_upper_tail(x: float) -> mpmath.mpf:
    return mpmath.erfc(mpmath.mpf(x) / mpmath.sqrt(2)) / 2


@pytest.mark.parametrize("x", POINTS)
def test_upper_tail_is_right_to_59_digits(x):
    with mpmath.workdps(500):
        assert relative_error(upper_tail(x), reference_upper_tail(x)) < 1e-59


@given(st.floats(-40.0, 40.0))
def test_upper_tail_is_right_to_59_digits_everywhere(x):
    with mpmath.workdps(500):
        assert relative_error(upper_tail(x), reference_upper_tail(x)) < 1e-59


@pytest.mark.parametrize("x", POINTS)
def test_erf_over_sqrt2_is_right_to_59_digits(x):
    with mpmath.workdps(500):
        assert relative_error(erf_over_sqrt2(x), mpmath.erf(mpmath.mpf(x) / mpmath.sqrt(2))) < 1e-59


def test_both_tails_make_one():
    with mpmath.workdps(80):
        for x in POINTS:
            assert abs(mpmath.mpf(str(upper_tail(x))) + mpmath.mpf(str(upper_tail(-x))) - 1) < 1e-59


@pytest.mark.parametrize(("x", "tail", "between"), [(math.inf, 0, 1), (41.0, 0, 1), (-41.0, 1, -1), (-math.inf, 1, -1)])
def test_probabilities_far_out_are_whole(x, tail, between):
    assert upper_tail(x) == tail
    assert erf_over_sqrt2(x) == between


@pytest.mark.parametrize("probability", [upper_tail, erf_over_sqrt2])
def test_probabilities_refuse_nan(probability):
    with pytest.raises(ValueError, match="x must be a number, got nan"):
        probability(math.nan)


def test_probabilities_do_not_depend_on_the_callers_decimal_context():
    expected = upper_tail(1.5), erf_over_sqrt2(1.5)
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_UP, traps=[decimal.Inexact])):
        assert (upper_tail(1.5), erf_over_sqrt2(1.5)) == expected


FORMATS = {"float16": FLOAT16, "float32": FLOAT32, "float64": FLOAT64}
SMALL_FORMATS = {"bfloat16": BFLOAT16, "float8_e4m3fn": FLOAT8_E4M3FN, "float8_e5m2": FLOAT8_E5M2}


@pytest.mark.parametrize("name", FORMATS)
def test_format_has_the_limits_of_numpy(name):
    limits = np.finfo(name)
    assert FORMATS[name] == Format(
        limits.nmant + 1, int(np.log2(np.float64(limits.smallest_subnormal))), float(limits.max)
    )


@pytest.mark.parametrize("name", FORMATS)
@given(x=finite_floats)
@example(x=65520.0)
@example(x=float.fromhex("0x1.ffffffp+127"))
@example(x=2.0**-150)
@example(x=-(2.0**-25))
def test_nearest_is_numpys_conversion_from_float64(name, x):
    with np.errstate(over="ignore", under="ignore"):
        assert FORMATS[name].nearest(Fraction(x)) == float(np.float64(x).astype(name))


@given(st.fractions())
@example(Fraction(10) ** 400)
@example(Fraction(-1, 10**400))
@example(Fraction(float.fromhex("0x1.fffffffffffffp+1023")) + 2**969)
@example(Fraction(float.fromhex("0x1.fffffffffffffp+1023")) + 2**970)
def test_nearest_float64_is_pythons_division(exact):
    try:
        expected = exact.numerator / exact.denominator
    except OverflowError:
        expected = math.inf
    assert FLOAT64.nearest(exact) == expected


@pytest.mark.parametrize("name", SMALL_FORMATS)
def test_nearest_is_the_conversion_of_ml_dtypes(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = np.dtype(getattr(ml_dtypes, name))
    codes = np.arange(2 ** (8 * dtype.itemsize), dtype=f"uint{8 * dtype.itemsize}").view(dtype)
    with np.errstate(invalid="ignore"):
        values = codes.astype(np.float64)
    values = np.unique(values[np.isfinite(values)])
    assert SMALL_FORMATS[name].max_finite == values.max()
    assert 2.0 ** SMALL_FORMATS[name].min_exponent == values[values > 0].min()
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2, [-1e39, 1e39]])[::7]
    with np.errstate(all="ignore"):
        expected = points.astype(np.float32).astype(dtype).astype(np.float64)
    nearest = np.array([SMALL_FORMATS[name].nearest(Fraction(x)) for x in points.tolist()])
    nearest[np.isinf(nearest) & np.isnan(expected)] = np.nan  # no infinity in e4m3fn
    np.testing.assert_array_equal(nearest, expected)


@pytest.mark.parametrize("name", FORMATS)
@given(exact=exact_numbers)
@example(exact=Fraction(0))
@example(exact=Fraction(1))
@example(exact=Fraction(-1))
@example(exact=Fraction(65504))
@example(exact=Fraction(-65504))
@example(exact=Fraction(10) ** 400)
@example(exact=-(Fraction(10) ** 400))
@example(exact=Fraction(1, 10**400))
def test_bounds_are_neighbours_in_numpy_with_the_number_between(name, exact):
    number_format, scalar = FORMATS[name], np.dtype(name).type
    below, at_most = number_format.below(exact), number_format.at_most(exact)
    at_least, above = number_format.at_least(exact), number_format.above(exact)
    infinity = scalar(math.inf)
    steps = [-infinity if below is None else scalar(below), infinity if above is None else scalar(above)]
    assert steps[0] < exact < steps[1]
    with np.errstate(over="ignore", under="ignore"):
        if at_most == at_least:
            assert at_most == exact
            assert np.nextafter(scalar(at_most), -infinity) == steps[0]
            assert np.nextafter(scalar(at_most), infinity) == steps[1]
        else:
            assert (at_most, at_least) == (below, above)
            assert np.nextafter(steps[0], infinity) == steps[1]


@pytest.mark.parametrize("number_format", [*FORMATS.values(), *SMALL_FORMATS.values()])
def test_bounds_beyond_the_largest_finite_value_are_none_or_that_value(number_format):
    largest, beyond = number_format.max_finite, Fraction(number_format.max_finite) * 3
    assert (number_format.at_least(beyond), number_format.above(beyond)) == (None, None)
    assert (number_format.at_most(beyond), number_format.below(beyond)) == (largest, largest)
    assert (number_format.at_most(-beyond), number_format.below(-beyond)) == (None, None)
    assert (number_format.at_least(-beyond), number_format.above(-beyond)) == (-largest, -largest)
    assert (number_format.below(-largest), number_format.above(largest)) == (None, None)
    assert (number_format.nearest(beyond), number_format.nearest(-beyond)) == (math.inf, -math.inf)


@pytest.mark.parametrize("method", ["nearest", "at_least", "at_most"])
def test_zero_is_positive(method):
    for exact in (Fraction(0), Fraction(-1, 10**400) if method != "at_most" else Fraction(1, 10**400)):
        assert math.copysign(1.0, getattr(FLOAT32, method)(exact)) == 1.0


def test_decimals_round_once():
    with decimal.localcontext(decimal.Context(prec=80)):
        exact = Decimal(1) + Decimal(2) ** -24 + Decimal(10) ** -50  # a tie in float32, but for its last digit
    assert FLOAT32.nearest(exact) == 1.0 + 2.0**-23
    assert FLOAT32.nearest(1.0 + 2.0**-24) == 1.0
