"""From a distribution to the constants of a kernel: STREAM.md, section 3.

Every constant is the exact number rounded once to the kernel's type, so that any implementation finds the same.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import NoReturn

from winit_fast._plan import (
    CENTRE_MAXIMUM,
    CENTRE_MEAN,
    CENTRE_MINIMUM,
    CENTRE_SCALE,
    CENTRE_STD,
    CONSTANT_VALUE,
    DISK_BASE,
    DISK_RADIUS,
    DISK_SLOPE,
    NORMAL_MEAN,
    NORMAL_STD,
    TRANSFORMS,
    TRUNCATED_BASE,
    TRUNCATED_LEFT,
    TRUNCATED_MAXIMUM,
    TRUNCATED_MEAN,
    TRUNCATED_MEDIAN,
    TRUNCATED_MINIMUM,
    TRUNCATED_RIGHT,
    TRUNCATED_SLOPE,
    TRUNCATED_STD,
    TRUNCATED_THRESHOLD,
    UNIFORM_LOW,
    UNIFORM_MAXIMUM,
    UNIFORM_WIDTH,
)
from winit_fast.distributions import (
    ComplexNormal,
    ComplexTruncatedNormal,
    ComplexUniform,
    Constant,
    Distribution,
    Elementwise,
    Normal,
    TruncatedNormal,
    Uniform,
)
from winit_fast.element_types import ELEMENT_TYPES, FLOAT32, FLOAT64, Conversion, ElementType, Format
from winit_fast.exact import erf_over_sqrt2, upper_tail, with_precision

__all__ = ["ELEMENT_TYPES", "Conversion", "ElementType", "lower", "refuse_complex", "refuse_overflow"]


# The largest |z| of the kernels: sqrt(2 * 31 * ln 2 + 2^-23), from 31 bits and a sign; in float64 from 63 bits.
LARGEST_NORMAL = {32: Fraction("6.5557"), 64: Fraction("9.3455")}
# Half the last bit of the fraction v of an interval: v >= 2^-33, 2^-65.
SMALLEST_FRACTION = {32: 33, 64: 65}
# If the nearer tail has a smaller probability, the constant is its logarithm.
LOG_FORM_BELOW = Decimal(2) ** -60
# Symmetric bounds from here to 2 have a quantile of their own in float32; below, its scale would not be normal.
CENTRE_FROM = 2.0**-64
# The median region of Wichura's rational: |Phi(z) - 1/2| <= 0.425.
MEDIAN_FROM, MEDIAN_NEVER = 0.075, 2.0

# What a complex type takes.
_COMPLEX = (Constant, ComplexNormal, ComplexUniform, ComplexTruncatedNormal)
# The most that rounding may make of a radius of 1.
_LARGEST_OF_UNIT = 1 + Fraction(1, 1 << 20)

_DIGITS = with_precision(60)
_SQRT2 = _DIGITS.sqrt(Decimal(2))
_HALF = Decimal("0.5")


def lower(distribution: Elementwise, element_type: ElementType, name: str = "") -> Conversion:
    """Turn a distribution into the constants of a kernel that writes `element_type`.

    Raises
    ------
    ValueError
        If values could round beyond the type's largest finite value, or if its format (float32's for narrower types)
        has no value within the bounds.
    """
    bits = element_type.bits
    working = FLOAT32 if bits == 32 else FLOAT64
    constants: dict[int, float]  # under the names of _plan.pxd
    if element_type.is_complex:
        if isinstance(distribution, Normal) and distribution.mean == 0.0:
            distribution = ComplexNormal(distribution.std)
        if not isinstance(distribution, _COMPLEX):
            is_normal = isinstance(distribution, Normal)  # with a mean other than 0
            refuse_complex(distribution if is_normal else name or distribution, element_type)
    match distribution:
        case Constant(value):
            refuse_overflow(distribution, element_type, value)
            name = "constant"
            constants = {CONSTANT_VALUE: value if value == 0.0 else working.nearest(value)}
        case Uniform(low, high, rounding):
            refuse_overflow(distribution, element_type, low)
            refuse_overflow(distribution, element_type, high)
            width = working.nearest(Fraction(high) - Fraction(low))
            if math.isinf(width):
                raise ValueError(
                    f"{distribution} is too wide for {element_type.name}: "
                    f"high - low must be at most {working.max_finite}"
                )
            name = "uniform"
            below = working.below(high)
            if rounding == "below_high":
                below = _find_below(element_type.format, low, high)
            minimum, maximum = _check_bounds(distribution, working.at_least(low), below)
            constants = {UNIFORM_LOW: minimum, UNIFORM_WIDTH: width, UNIFORM_MAXIMUM: maximum}
        case Normal(mean, std):
            refuse_overflow(distribution, element_type, mean, std, LARGEST_NORMAL[bits])
            name = "normal"
            constants = {NORMAL_MEAN: working.nearest(mean), NORMAL_STD: working.nearest(std)}
        case ComplexNormal(std):
            std_of_part = Fraction(_DIGITS.divide(Decimal(std), _SQRT2))
            refuse_overflow(distribution, element_type, 0.0, std_of_part, LARGEST_NORMAL[bits])
            name = "normal"
            constants = {NORMAL_MEAN: 0.0, NORMAL_STD: working.nearest(std_of_part)}
        case ComplexUniform(std):
            radius = Fraction(_DIGITS.multiply(Decimal(std), _SQRT2))
            refuse_overflow(distribution, element_type, 0.0, radius, _LARGEST_OF_UNIT)
            name = "disk"
            constants = {DISK_RADIUS: working.nearest(radius)}
        case ComplexTruncatedNormal(std):
            std_of_part = Fraction(_DIGITS.divide(Decimal(std), _SQRT2))
            refuse_overflow(distribution, element_type, 0.0, std, 2 * _LARGEST_OF_UNIT)
            outside = _DIGITS.exp(Decimal(-4))  # P(|z| > 2) where the mean of |z|^2 is 1
            name = "truncated_disk"
            constants = {
                DISK_RADIUS: working.nearest(std_of_part),
                DISK_BASE: working.nearest(outside),
                DISK_SLOPE: working.nearest(_DIGITS.subtract(Decimal(1), outside)),
            }
        case TruncatedNormal(mean, std, low, high):
            if math.isinf(working.nearest(std)):  # even if bounds very near the mean would keep the values small
                raise ValueError(
                    f"{distribution} must have a std of at most {working.max_finite} for {element_type.name}"
                )
            for bound, inwards in ((low, working.at_least), (high, working.at_most)):
                reach = _reach(low, high, bits) if math.isinf(bound) else abs(bound)
                refuse_overflow(distribution, element_type, mean, std, Fraction(reach))
                if not math.isinf(bound):  # what values are clamped to, before they are rounded
                    edge = inwards(Fraction(mean) + Fraction(std) * Fraction(bound))
                    refuse_overflow(distribution, element_type, 0.0 if edge is None else edge)
            name, constants = _lower_truncated(distribution, working, bits)
    ordered = tuple(map(constants.__getitem__, range(len(constants))))
    return Conversion(TRANSFORMS.index(f"{name}{bits}"), element_type.store, ordered)


def refuse_complex(name: object, element_type: ElementType) -> NoReturn:
    """Refuse a scheme without a complex form, and name those that have one."""
    raise ValueError(
        f"{name} has no complex form: {element_type.name} takes real constants, normals of mean 0 and the schemes "
        "with fans, such as 'he_normal'"
    )


def refuse_overflow(
    distribution: Distribution,
    element_type: ElementType,
    mean: float | Fraction,
    std: float | Fraction = 0.0,
    reach: Fraction = Fraction(0),
) -> None:
    """Refuse values beyond the type's largest. The kernel's constants decide: rounded, they may be larger."""
    working = FLOAT32 if element_type.bits == 32 else FLOAT64
    size = abs(Fraction(mean)) + reach * Fraction(std)
    constants = (working.nearest(mean), working.nearest(std))
    if not any(map(math.isinf, constants)):
        size = abs(Fraction(constants[0])) + reach * Fraction(constants[1])
    rounded = working.nearest(size)
    if math.isinf(rounded) or math.isinf(element_type.format.nearest(rounded)):
        raise ValueError(
            f"{distribution} reaches {_format_size(size)} in size, but {element_type.name} ends at "
            f"{element_type.format.max_finite:.6g}; it needs smaller arguments or a wider dtype"
        )


def _format_size(size: Fraction) -> str:
    return f"{float(size):.6g}" if size <= Fraction(FLOAT64.max_finite) else "more than a float64 holds"


def _find_below(narrow: Format, low: float, high: float) -> float | None:
    """The largest number of a type below `high` as that type rounds it, if it is >= `low`; else below `high` itself."""
    below = narrow.below(min(high, narrow.nearest(high)))
    return below if below is not None and below >= low else narrow.below(high)


def _check_bounds(distribution: Distribution, minimum: float | None, maximum: float | None) -> tuple[float, float]:
    if minimum is None or maximum is None or minimum > maximum:
        raise ValueError(
            f"{distribution} has no value of the dtype within its bounds; low and high must be wider apart"
        )
    return minimum, maximum


def _reach(low: float, high: float, bits: int) -> float:
    """A bound on |z| where one of the bounds is infinite: Q(z) >= Q(a) exp(-(z^2 - a^2) / 2) for z >= a >= 0."""
    nearer = max(low if math.isinf(high) else -high, 0.0)
    return math.sqrt(nearer * nearer + 1.4 * SMALLEST_FRACTION[bits])


def _lower_truncated(distribution: TruncatedNormal, working: Format, bits: int) -> tuple[str, dict[int, float]]:
    mean, std, low, high = distribution.mean, distribution.std, distribution.low, distribution.high
    at = [None if math.isinf(bound) else Fraction(mean) + Fraction(std) * Fraction(bound) for bound in (low, high)]
    minimum, maximum = _check_bounds(
        distribution,
        -working.max_finite if at[0] is None else working.at_least(at[0]),
        working.max_finite if at[1] is None else working.at_most(at[1]),
    )
    if bits == 32 and CENTRE_FROM <= -low == high <= 2.0:
        return "truncated_centre", {
            CENTRE_MEAN: working.nearest(mean),
            CENTRE_STD: working.nearest(std),
            CENTRE_SCALE: working.nearest(Fraction(erf_over_sqrt2(high)) / 2**31),
            CENTRE_MINIMUM: minimum,
            CENTRE_MAXIMUM: maximum,
        }

    below, above = upper_tail(-low), upper_tail(high)  # what is cut off
    # The probabilities on either side of the median, which do not cancel where the bounds are close to it.
    low_side, high_side = (_DIGITS.multiply(_HALF, erf_over_sqrt2(x)) for x in (-low, high))
    base = Decimal(0)
    if low < 0.0 < high:
        left, right = below, above
        slope = _DIGITS.add(low_side, high_side)
        threshold = math.ceil(Fraction(low_side) / (Fraction(low_side) + Fraction(high_side)) * 2**31) - 1
    else:
        threshold = -1 if low >= 0.0 else 2**31 - 1
        near, far = (upper_tail(low), above) if low >= 0.0 else (upper_tail(-high), below)
        if near < LOG_FORM_BELOW:
            far = _DIGITS.divide(far, near)
            slope, base = _DIGITS.subtract(Decimal(1), far), _DIGITS.multiply(Decimal(-2), _DIGITS.ln(near))
        elif near > Decimal("0.1"):
            slope = _DIGITS.add(low_side, high_side)
        else:
            slope = _DIGITS.subtract(near, far)
        left = right = far
    constants = {
        TRUNCATED_MEAN: working.nearest(mean),
        TRUNCATED_STD: working.nearest(std),
        TRUNCATED_MINIMUM: minimum,
        TRUNCATED_MAXIMUM: maximum,
        TRUNCATED_THRESHOLD: float(threshold),
        TRUNCATED_LEFT: working.nearest(left),
        TRUNCATED_RIGHT: working.nearest(right),
        TRUNCATED_SLOPE: working.nearest(slope),
        TRUNCATED_BASE: working.nearest(base),
    }
    if bits == 64:
        return "truncated", {**constants, TRUNCATED_MEDIAN: MEDIAN_NEVER if base else MEDIAN_FROM}
    return ("truncated_far" if base else "truncated_near"), constants
