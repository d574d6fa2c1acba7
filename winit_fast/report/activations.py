"""Activations and their derivatives, exact to float64's rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["ACTIVATIONS", "SATURATED_SLOPE", "Activation"]

Float64s = NDArray[np.float64]

#: A unit is saturated for an input if its slope is below this fraction of the activation's largest slope: beyond
#: ``|z| = 1.82`` for tanh, 3.64 for sigmoid, 2.16 for softsign.
SATURATED_SLOPE = 0.1


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation: call it for its values and slopes.

    Attributes
    ----------
    name : str
    largest_slope : float or None
        The slope at 0 of those that saturate (sigmoid, tanh, softsign); None for the others.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.report import ACTIVATIONS
    >>> values, slopes = ACTIVATIONS["leaky_relu"](np.array([-1.0, 2.0]))
    >>> values.tolist(), slopes.tolist()
    ([-0.01, 2.0], [0.01, 1.0])
    >>> ACTIVATIONS["tanh"].is_saturated(np.array([0.2, 0.05])).tolist()
    [False, True]
    """

    name: str
    _values_and_slopes: Callable[[Float64s], tuple[Float64s, Float64s]]
    largest_slope: float | None = None

    def __call__(self, pre_activations: Float64s) -> tuple[Float64s, Float64s]:
        """Return values and derivatives at these pre-activations, as two new arrays."""
        return self._values_and_slopes(pre_activations)

    def is_saturated(self, slopes: Float64s) -> NDArray[np.bool_] | None:
        """Whether each slope is below `SATURATED_SLOPE` of the largest; None if the activation cannot saturate."""
        return None if self.largest_slope is None else slopes < SATURATED_SLOPE * self.largest_slope


def _linear(z: Float64s) -> tuple[Float64s, Float64s]:
    return z.copy(), np.ones_like(z)


def _sigmoid(z: Float64s) -> tuple[Float64s, Float64s]:
    tail = np.exp(-np.abs(z))
    small = tail / (1.0 + tail)  # of -|z|
    return np.where(z < 0.0, small, 1.0 - small), small / (1.0 + tail)


def _tanh(z: Float64s) -> tuple[Float64s, Float64s]:
    values = np.tanh(z)
    return values, 1.0 - values * values


def _softsign(z: Float64s) -> tuple[Float64s, Float64s]:
    shrunk = 1.0 / (1.0 + np.abs(z))
    return z * shrunk, shrunk * shrunk


def _relu(z: Float64s) -> tuple[Float64s, Float64s]:
    return np.maximum(z, 0.0), (z > 0.0).astype(np.float64)


def _leaky_relu(z: Float64s) -> tuple[Float64s, Float64s]:
    slopes = np.where(z > 0.0, 1.0, 0.01)  # Maas, Hannun and Ng 2013, and the default of torch
    return z * slopes, slopes


def _prelu(z: Float64s) -> tuple[Float64s, Float64s]:
    slopes = np.where(z > 0.0, 1.0, 0.25)  # He et al. 2015, arXiv:1502.01852: the slope it starts with
    return z * slopes, slopes


def _relu6(z: Float64s) -> tuple[Float64s, Float64s]:
    return np.clip(z, 0.0, 6.0), ((z > 0.0) & (z < 6.0)).astype(np.float64)


def _elu(z: Float64s) -> tuple[Float64s, Float64s]:
    values = np.where(z > 0.0, z, np.expm1(np.minimum(z, 0.0)))  # Clevert et al. 2015, arXiv:1511.07289, with alpha 1
    return values, np.where(z > 0.0, 1.0, np.exp(np.minimum(z, 0.0)))


def _softplus(z: Float64s) -> tuple[Float64s, Float64s]:
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z))), _sigmoid(z)[0]


def _gelu(z: Float64s) -> tuple[Float64s, Float64s]:
    # Hendrycks and Gimpel 2016, arXiv:1606.08415: z Phi(z), not the approximation by tanh.
    below, density = _normal(z)
    return z * below, below + z * density


def _gelu_tanh(z: Float64s) -> tuple[Float64s, Float64s]:
    near = np.clip(z, -20.0, 20.0)  # beyond, tanh is 1
    inner, slope = near + 0.044715 * near**3, 1.0 + 3 * 0.044715 * near**2
    tanh = np.tanh(math.sqrt(2.0 / math.pi) * inner)
    below = 0.5 * (1.0 + tanh)
    return z * below, below + 0.5 * near * (1.0 - tanh * tanh) * math.sqrt(2.0 / math.pi) * slope


def _silu(z: Float64s) -> tuple[Float64s, Float64s]:
    gate, slope = _sigmoid(z)
    return z * gate, gate + z * slope


def _hard_swish(z: Float64s) -> tuple[Float64s, Float64s]:
    gate = np.clip(z / 6.0 + 0.5, 0.0, 1.0)  # Howard et al. 2019, arXiv:1905.02244
    return z * gate, gate + np.where(np.abs(z) < 3.0, z / 6.0, 0.0)


def _mish(z: Float64s) -> tuple[Float64s, Float64s]:
    softplus, slope = _softplus(z)  # Misra 2019, arXiv:1908.08681
    gate = np.tanh(softplus)
    return z * gate, gate + z * (1.0 - gate * gate) * slope


def _selu(z: Float64s) -> tuple[Float64s, Float64s]:
    scale, alpha = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017, arXiv:1706.02515
    negative = np.minimum(z, 0.0)
    values = scale * np.where(z > 0.0, z, alpha * np.expm1(negative))
    return values, scale * np.where(z > 0.0, 1.0, alpha * np.exp(negative))


# The standard normal: NumPy has no erf. Phi is tabulated with math.erfc, and continued from the nearest grid point by
# its Taylor series; with 128 steps per sigma the first term left out is at most 1e-17.

_STEPS = 128
_FARTHEST = 9  # Phi(-9) = 1e-19


@lru_cache(maxsize=1)
def _tabulate_phi() -> Float64s:
    points = range(-_FARTHEST * _STEPS, _FARTHEST * _STEPS + 1)
    return np.array([math.erfc(-point / _STEPS / math.sqrt(2.0)) / 2.0 for point in points])


def _normal(z: Float64s) -> tuple[Float64s, Float64s]:
    """Return Phi(z) and its derivative."""
    within = np.clip(z, -_FARTHEST, _FARTHEST)
    nearest = np.rint(within * _STEPS)
    point = nearest / _STEPS
    step = within - point
    density = np.exp(-0.5 * point * point) / math.sqrt(2.0 * math.pi)
    square = point * point
    series = -point * (square - 3.0) + step / 5.0 * (square * (square - 6.0) + 3.0)  # Hermite polynomials
    series = 1.0 + step / 2.0 * (step / 3.0 * (square - 1.0 + step / 4.0 * series) - point)
    below = _tabulate_phi()[nearest.astype(np.intp) + _FARTHEST * _STEPS] + density * step * series
    return below, np.exp(-0.5 * np.square(np.clip(z, -40.0, 40.0))) / math.sqrt(2.0 * math.pi)  # 0 from 39 on


#: Every activation by its name, as in `calculate_gain` and `recommend`; their convolutions are linear here.
ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("linear", _linear),
        Activation("sigmoid", _sigmoid, 0.25),
        Activation("tanh", _tanh, 1.0),
        Activation("softsign", _softsign, 1.0),
        Activation("relu", _relu),
        Activation("leaky_relu", _leaky_relu),
        Activation("prelu", _prelu),
        Activation("relu6", _relu6),
        Activation("elu", _elu),
        Activation("selu", _selu),
        Activation("softplus", _softplus),
        Activation("gelu", _gelu),
        Activation("gelu_tanh", _gelu_tanh),
        Activation("silu", _silu),
        Activation("swish", _silu),
        Activation("hard_swish", _hard_swish),
        Activation("mish", _mish),
    )
}
