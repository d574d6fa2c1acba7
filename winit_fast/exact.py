"""Exact numbers: normal probabilities and powers, to 60 digits.

Constants that decide bits must be the same on every platform, so nothing here calls the C library's functions:
`decimal`'s exp and sqrt are correctly rounded, and the rest is integer arithmetic.
"""

from __future__ import annotations

import math
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    getcontext,
    localcontext,
)
from fractions import Fraction
from functools import lru_cache

from winit_fast.element_types import BFLOAT16, FLOAT8_E4M3FN, FLOAT8_E5M2, FLOAT16, FLOAT32, FLOAT64, Format

__all__ = [
    "BFLOAT16",
    "FLOAT8_E4M3FN",
    "FLOAT8_E5M2",
    "FLOAT16",
    "FLOAT32",
    "FLOAT64",
    "Format",
    "erf_over_sqrt2",
    "power",
    "upper_tail",
    "with_precision",
]

DIGITS = 60
GUARD = 15  # some 2500 roundings, and an exponent of up to 800

# P(Z > 40) is 4e-350. Farther out the tail is taken to be 0: 50 digits below what is left beyond 37.
FARTHEST = 40.0


def upper_tail(x: float) -> Decimal:
    """P(Z > x) for a standard normal Z.

    Parameters
    ----------
    x : float
        Any but nan; beyond 40 the result is 0, below -40 it is 1.

    Returns
    -------
    Decimal
        Correct to 60 significant digits, except for the last.

    Raises
    ------
    ValueError
        If x is nan.

    Examples
    --------
    >>> import math
    >>> upper_tail(0.0)
    Decimal('0.5')
    >>> float(upper_tail(2.0))
    0.02275013194817921
    >>> float(upper_tail(-math.inf))
    1.0
    """
    _refuse_nan(x)
    if abs(x) > FARTHEST:
        return Decimal(0 if x > 0 else 1)
    cancelled = int(0.2172 * x * x) + 4 if x > 0 else 0  # 1/2 minus nearly 1/2: log10(1 / Q(x)) digits go
    with localcontext(with_precision(DIGITS + GUARD + cancelled)):
        half = _probability_between_0_and(abs(x))
        tail = Decimal("0.5") - half if x > 0 else Decimal("0.5") + half
    return _round_to_digits(tail)


def erf_over_sqrt2(x: float) -> Decimal:
    """P(|Z| < x) for a standard normal Z, which is erf(x / sqrt(2)); odd in x, as erf is.

    Parameters
    ----------
    x : float
        Any but nan; beyond 40 the result is 1, below -40 it is -1.

    Returns
    -------
    Decimal
        Correct to 60 significant digits, except for the last.

    Raises
    ------
    ValueError
        If x is nan.

    Examples
    --------
    >>> import math
    >>> float(erf_over_sqrt2(2.0))
    0.9544997361036416
    >>> erf_over_sqrt2(math.inf)
    Decimal('1')
    """
    _refuse_nan(x)
    if abs(x) > FARTHEST:
        return Decimal(1 if x > 0 else -1)
    with localcontext(with_precision(DIGITS + GUARD)):
        half = _probability_between_0_and(abs(x))
        between = half + half if x > 0 else -half - half
    return _round_to_digits(between)


def power(base: int, exponent: Fraction) -> float:
    """base^exponent as a float64, rounded once.

    Parameters
    ----------
    base : int
        >= 1.
    exponent : Fraction

    Returns
    -------
    float

    Examples
    --------
    >>> from fractions import Fraction
    >>> power(16, Fraction(-1, 4)), power(2, Fraction(1, 2))
    (0.5, 1.4142135623730951)
    """
    context = with_precision(DIGITS + GUARD)
    logarithm = context.divide(context.multiply(context.ln(Decimal(base)), exponent.numerator), exponent.denominator)
    # To 60 digits: exact results stay exact, and no other lies so close to a tie.
    return FLOAT64.nearest(Fraction(_round_to_digits(context.exp(logarithm))))


def _refuse_nan(x: float) -> None:
    if math.isnan(x):
        raise ValueError("x must be a number, got nan")


def with_precision(digits: int) -> Context:
    """A context of so many digits, independent of the process's own."""
    return Context(
        prec=digits,
        rounding=ROUND_HALF_EVEN,
        Emin=-999_999,
        Emax=999_999,
        clamp=0,
        traps=[InvalidOperation, DivisionByZero, Overflow],
    )


def _round_to_digits(value: Decimal) -> Decimal:
    return value.normalize(with_precision(DIGITS))


def _probability_between_0_and(x: float) -> Decimal:
    """P(0 < Z < x) = phi(x) (x + x^3/3 + x^5/(3*5) + x^7/(3*5*7) + ...) (Marsaglia 2004); no term cancels another."""
    square = Decimal(x) * Decimal(x)
    term = total = +Decimal(x)
    previous, odd = Decimal(-1), 1
    while total != previous:
        odd += 2
        term = term * square / odd
        previous, total = total, total + term
    return total * (-square / 2).exp() / (2 * _pi(getcontext().prec)).sqrt()


@lru_cache
def _pi(digits: int) -> Decimal:
    """Machin 1706: pi = 16 arctan(1/5) - 4 arctan(1/239), in integers."""
    one = 10 ** (digits + 10)

    def arctan_of_inverse(n: int) -> int:
        power, total, odd, sign = one // n, 0, 1, 1
        while power:
            total += sign * (power // odd)
            power, odd, sign = power // (n * n), odd + 2, -sign
        return total

    return Decimal(16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)).scaleb(-digits - 10)
