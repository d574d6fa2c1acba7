"""What a scheme becomes once shape and fans are known: a distribution with numbers in it.

All numbers are float64. Two distributions are equal, and hash alike, only where every element drawn from them is. The
first four, and the three of complex numbers, draw each element by itself; in the others elements depend on each other.
"""

from __future__ import annotations

import math
from typing import ClassVar, TypeAlias

from winit_fast.records import record

__all__ = [
    "Bilinear",
    "ComplexNormal",
    "ComplexTruncatedNormal",
    "ComplexUniform",
    "Constant",
    "ConvolutionOrthogonal",
    "DeltaOrthogonal",
    "Dirac",
    "Distribution",
    "Elementwise",
    "GivenValues",
    "Identity",
    "Normal",
    "Orthogonal",
    "Sparse",
    "TruncatedNormal",
    "Uniform",
]


@record
class Constant:
    """The same value everywhere. It draws nothing, so it needs no seed.

    Parameters
    ----------
    value : float
        Finite.

    Examples
    --------
    >>> Constant(0.0) == Constant(-0.0)
    False
    >>> Constant(0.5).draws
    False
    """

    value: float
    draws: ClassVar[bool] = False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constant):
            return NotImplemented
        return self.value == other.value and math.copysign(1.0, self.value) == math.copysign(1.0, other.value)


@record
class Uniform:
    """The uniform distribution on [low, high).

    Parameters
    ----------
    low, high : float
        Finite, low < high.
    rounding : str
        ``"nearest"``: a type narrower than float32 rounds to the nearest, which may be `high`. ``"below_high"``: what
        would be `high` in the type of the result, or more, is the largest number of that type below it.

    Examples
    --------
    >>> Uniform(-0.1, 0.1)
    Uniform(low=-0.1, high=0.1, rounding='nearest')
    """

    low: float
    high: float
    rounding: str = "nearest"
    draws: ClassVar[bool] = True


@record
class Normal:
    """The normal distribution N(mean, std^2).

    Parameters
    ----------
    mean : float
        Finite.
    std : float
        Finite, std > 0.

    Examples
    --------
    >>> Normal(0.0, 0.02)
    Normal(mean=0.0, std=0.02)
    """

    mean: float
    std: float
    draws: ClassVar[bool] = True


@record
class TruncatedNormal:
    """N(mean, std^2) given that it falls in [mean + low * std, mean + high * std].

    Parameters
    ----------
    mean : float
        Finite.
    std : float
        Finite, std > 0: that of the normal before it is cut.
    low, high : float
        In units of std, low < high; low may be -inf or high inf, not both.

    Examples
    --------
    >>> TruncatedNormal(0.0, 0.02, -2.0, 2.0)
    TruncatedNormal(mean=0.0, std=0.02, low=-2.0, high=2.0)
    """

    mean: float
    std: float
    low: float
    high: float
    draws: ClassVar[bool] = True


@record
class ComplexNormal:
    """The circular complex normal distribution: real and imaginary part are independent, each N(0, std^2 / 2).

    Parameters
    ----------
    std : float
        Finite, std > 0: the root of the mean of |z|^2.

    Examples
    --------
    >>> ComplexNormal(0.02)
    ComplexNormal(std=0.02)
    """

    std: float
    draws: ClassVar[bool] = True


@record
class ComplexUniform:
    """The uniform distribution on the disk around 0 of radius sqrt(2) std.

    Parameters
    ----------
    std : float
        Finite, std > 0: the root of the mean of |z|^2.

    Examples
    --------
    >>> ComplexUniform(0.02)
    ComplexUniform(std=0.02)
    """

    std: float
    draws: ClassVar[bool] = True


@record
class ComplexTruncatedNormal:
    """`ComplexNormal` given that |z| <= 2 std.

    Parameters
    ----------
    std : float
        Finite, std > 0: that of the normal before it is cut; afterwards it is 0.9619618280082135 std.

    Examples
    --------
    >>> ComplexTruncatedNormal(0.02)
    ComplexTruncatedNormal(std=0.02)
    """

    std: float
    draws: ClassVar[bool] = True


@record
class Orthogonal:
    """A matrix of the Haar distribution, times `gain`: its rows or columns, whichever are fewer, are orthonormal.

    Parameters
    ----------
    gain : float
        Finite, not 0.

    Examples
    --------
    >>> Orthogonal(1.0)
    Orthogonal(gain=1.0)
    """

    gain: float
    draws: ClassVar[bool] = True


@record
class DeltaOrthogonal:
    """A convolution kernel that is an `Orthogonal` matrix at its centre and 0 elsewhere.

    Parameters
    ----------
    gain : float
        Finite, not 0.

    Examples
    --------
    >>> DeltaOrthogonal(1.0)
    DeltaOrthogonal(gain=1.0)
    """

    gain: float
    draws: ClassVar[bool] = True


@record
class ConvolutionOrthogonal:
    """A convolution kernel that keeps the norm of what it is convolved with, times `gain`.

    Parameters
    ----------
    gain : float
        Finite, not 0.

    Examples
    --------
    >>> ConvolutionOrthogonal(1.0)
    ConvolutionOrthogonal(gain=1.0)
    """

    gain: float
    draws: ClassVar[bool] = True


@record
class Identity:
    """`gain` on the diagonal of a matrix, 0 elsewhere.

    Parameters
    ----------
    gain : float
        Finite.

    Examples
    --------
    >>> Identity(1.0).draws
    False
    """

    gain: float
    draws: ClassVar[bool] = False


@record
class Dirac:
    """A convolution kernel that passes the inputs on: 1 at its centre, for one input of each output.

    Parameters
    ----------
    groups : int
        How many groups the outputs are split into; each group begins again with the first input.

    Examples
    --------
    >>> Dirac(2).draws
    False
    """

    groups: int
    draws: ClassVar[bool] = False


@record
class Sparse:
    """N(0, std^2), and 0 for as many weights of every unit, chosen at random.

    Parameters
    ----------
    sparsity : float
        In (0, 1]: the proportion of a unit's weights that is 0, rounded up to a whole number.
    std : float
        Finite, std > 0.
    per : str
        ``"in"``: a unit is an input with its weights to all outputs; ``"out"``: the reverse.

    Examples
    --------
    >>> Sparse(0.9, 0.01, "in")
    Sparse(sparsity=0.9, std=0.01, per='in')
    """

    sparsity: float
    std: float
    per: str

    @property
    def draws(self) -> bool:
        """Whether any weight is not 0."""
        return self.sparsity < 1.0


@record
class GivenValues:
    """Given values, each of them for an equal stretch of every axis: for all of it where `shape` has a 1.

    Parameters
    ----------
    shape : tuple of int
        As many axes as the tensor has, each of a size that divides the tensor's.
    values : tuple of float
        In row-major order.

    Examples
    --------
    >>> GivenValues((1, 2), (0.0, 0.5)).draws
    False
    """

    shape: tuple[int, ...]
    values: tuple[float, ...]
    draws: ClassVar[bool] = False


Table = GivenValues  # its older name, by which pickles find it


@record
class Bilinear:
    """A kernel that interpolates: the product of 1 - abs(k / f - c) over its axes, rounded once.

    Along an axis, f is half the size, rounded up, and c is 1 - (1 + f % 2) / (2 f).

    Parameters
    ----------
    shape : tuple of int
        As many axes as the tensor has: the sizes of those of the kernel, 1 for the others.

    Examples
    --------
    >>> Bilinear((4, 4, 1, 1)).draws
    False
    """

    shape: tuple[int, ...]
    draws: ClassVar[bool] = False


Elementwise: TypeAlias = (
    Constant | Uniform | Normal | TruncatedNormal | ComplexNormal | ComplexUniform | ComplexTruncatedNormal
)
Distribution: TypeAlias = (
    Elementwise
    | Orthogonal
    | DeltaOrthogonal
    | ConvolutionOrthogonal
    | Identity
    | Dirac
    | Sparse
    | GivenValues
    | Bilinear
)
