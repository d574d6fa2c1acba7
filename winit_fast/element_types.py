"""The types of elements that `fill` writes, and the floating-point formats of their values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from winit_fast._plan import STORES

if TYPE_CHECKING:
    from decimal import Decimal
    from fractions import Fraction

__all__ = [
    "BFLOAT16",
    "ELEMENT_TYPES",
    "FLOAT8_E4M3FN",
    "FLOAT8_E5M2",
    "FLOAT16",
    "FLOAT32",
    "FLOAT64",
    "Conversion",
    "ElementType",
    "Format",
]


class ElementType(NamedTuple):
    """A type that `fill` writes: its NumPy name, its format, and what its kernels compute in and store as.

    A complex number is two elements of its real type in a row, and `format` that of each.
    """

    name: str
    format: Format
    bits: int
    store: int
    is_complex: bool = False


class Conversion(NamedTuple):
    """How kernels turn words into the values of a type: indices in `TRANSFORMS` and `STORES`, and the constants."""

    transform: int
    store: int
    constants: tuple[float, ...]


class Format(NamedTuple):
    """A binary floating-point format, and rounding of exact numbers to it.

    Every value of the format must be a float64. Results are Python floats; a zero is always +0.0.

    Parameters
    ----------
    precision : int
        Bits of the significand, the hidden one included.
    min_exponent : int
        The smallest positive (subnormal) value is 2^min_exponent.
    max_finite : float
        The largest finite value.

    Examples
    --------
    >>> from decimal import Decimal
    >>> from fractions import Fraction
    >>> FLOAT32.nearest(Fraction(1, 10))
    0.10000000149011612
    >>> FLOAT32.at_most(Fraction(1, 10)), FLOAT32.below(Fraction(1))
    (0.09999999403953552, 0.9999999403953552)
    >>> FLOAT16.nearest(Decimal(65519)), FLOAT16.nearest(Decimal(65520)), FLOAT16.at_least(Decimal(65520))
    (65504.0, inf, None)
    """

    precision: int
    min_exponent: int
    max_finite: float

    def nearest(self, exact: Fraction | Decimal | float) -> float:
        """The nearest value, ties to even; inf (or -inf) from half a step beyond the largest finite value on.

        Notes
        -----
        A format that has nan in the place of infinity (float8_e4m3fn) gives nan where this gives inf.
        """
        exact = _fraction(exact)
        step = self._step(exact)
        rounded = round(exact / step) * step
        if abs(rounded) > self.max_finite:
            return math.inf if exact > 0 else -math.inf
        return float(rounded)

    def at_least(self, exact: Fraction | Decimal | float) -> float | None:
        """The smallest finite value >= exact, None if there is none."""
        largest = self.at_most(-_fraction(exact))
        return None if largest is None else 0.0 - largest

    def at_most(self, exact: Fraction | Decimal | float) -> float | None:
        """The largest finite value <= exact, None if there is none."""
        exact = _fraction(exact)
        if exact < -self.max_finite:
            return None
        if exact >= self.max_finite:
            return self.max_finite
        step = self._step(exact)
        return float(math.floor(exact / step) * step)

    def below(self, exact: Fraction | Decimal | float) -> float | None:
        """The largest finite value < exact, None if there is none."""
        exact = _fraction(exact)
        largest = self.at_most(exact)
        if largest is None or largest < exact:
            return largest
        return self.at_most(exact - _fraction(2) ** (self.min_exponent - 1))

    def above(self, exact: Fraction | Decimal | float) -> float | None:
        """The smallest finite value > exact, None if there is none."""
        largest = self.below(-_fraction(exact))
        return None if largest is None else 0.0 - largest

    def _step(self, exact: Fraction) -> Fraction:
        """The distance between neighbours of the format around exact, as if it had no largest value."""
        exponent = exact.numerator.bit_length() - exact.denominator.bit_length()  # floor(log2(exact)), or one more
        if abs(exact) < _fraction(2) ** exponent:
            exponent -= 1
        return _fraction(2) ** max(exponent + 1 - self.precision, self.min_exponent)


def _fraction(exact: Fraction | Decimal | float) -> Fraction:
    from fractions import Fraction  # when a number is first rounded: whoever imports winit_fast may round none

    return Fraction(exact)


FLOAT64 = Format(53, -1074, float.fromhex("0x1.fffffffffffffp+1023"))
FLOAT32 = Format(24, -149, float.fromhex("0x1.fffffep+127"))
FLOAT16 = Format(11, -24, 65504.0)
BFLOAT16 = Format(8, -133, float.fromhex("0x1.fep+127"))
FLOAT8_E4M3FN = Format(4, -9, 448.0)
FLOAT8_E5M2 = Format(3, -16, 57344.0)

ELEMENT_TYPES = {
    name: ElementType(name, format, bits, STORES.index(store), name.startswith("complex"))
    for name, format, bits, store in (
        ("float32", FLOAT32, 32, "as_it_is"),
        ("float64", FLOAT64, 64, "as_it_is"),
        ("bfloat16", BFLOAT16, 32, "bfloat16"),
        ("float16", FLOAT16, 32, "float16"),
        ("float8_e4m3fn", FLOAT8_E4M3FN, 32, "float8_e4m3fn"),
        ("float8_e5m2", FLOAT8_E5M2, 32, "float8_e5m2"),
        ("complex64", FLOAT32, 32, "as_it_is"),
        ("complex128", FLOAT64, 64, "as_it_is"),
    )
}
