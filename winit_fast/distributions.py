"""What a scheme becomes once the fans are known: a distribution with numbers in it.

All numbers are float64. Two distributions are equal, and hash alike, only where every element drawn from them is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

__all__ = ["Constant", "Distribution", "Normal", "TruncatedNormal", "Uniform"]


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Uniform:
    """The uniform distribution on [low, high).

    Parameters
    ----------
    low, high : float
        Finite, low < high.

    Examples
    --------
    >>> Uniform(-0.1, 0.1)
    Uniform(low=-0.1, high=0.1)
    """

    low: float
    high: float
    draws: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


Distribution: TypeAlias = Constant | Uniform | Normal | TruncatedNormal
