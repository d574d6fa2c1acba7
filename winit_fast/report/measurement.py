"""What is measured in a layer, from its pre-activations and outputs."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from winit_fast.messages import quote

__all__ = ["LayerStatistics", "gradient_of", "layer_statistics", "size_of", "with_gradients"]


class LayerStatistics(NamedTuple):
    """Statistics of one layer over a batch of inputs; nan if not measured or not defined.

    Attributes
    ----------
    pre_mean, pre_std : float
        Of the pre-activations, over all units and inputs.
    mean, std : float
        Of the outputs, over all units and inputs: the activations or, in a residual block, the sum. A single number has
        no `std`.
    signal : float
        How much the outputs tell about the inputs: the standard deviation of each unit over the inputs, and the root
        mean square of these over the units. It is small for a sigmoid whose outputs all stay close to 0.5, while `std`
        may be large because units differ from each other in the same way for every input. Needs more than one input.
    spread : float
        How much the units differ from each other: the standard deviation over units for each input, relative to the
        root mean square; of the pre-activations or of the outputs, whichever is larger. 0 if all units are the same.
        Needs more than one unit.
    dead : float
        The fraction of units whose slope is 0 for every input, so that they do not learn.
    saturated : float
        The fraction of units and inputs with a slope below `SATURATED_SLOPE` of the activation's largest.
    gradient_std : float
        Of the gradient with respect to the outputs, over all units and inputs: its standard deviation around 0.
    gradient_norm : float
        Of the same gradient, over all units and inputs: the root of the sum of squares. It is the better one to compare
        layers of different sizes: weights of variance 1 / fan_in keep the norm of a gradient, whatever their shape.
    name : str
        The layer's name, if it has one.
    """

    pre_mean: float = math.nan
    pre_std: float = math.nan
    mean: float = math.nan
    std: float = math.nan
    signal: float = math.nan
    spread: float = math.nan
    dead: float = math.nan
    saturated: float = math.nan
    gradient_std: float = math.nan
    gradient_norm: float = math.nan
    name: str = ""


def layer_statistics(
    pre_activations: NDArray[Any] | None,
    outputs: NDArray[Any],
    *,
    slopes: NDArray[Any] | None = None,
    is_saturated: NDArray[np.bool_] | None = None,
    gradients: NDArray[Any] | None = None,
    name: str = "",
) -> LayerStatistics:
    """Measure a layer of any model.

    Parameters
    ----------
    pre_activations : ndarray or None
        The inputs of the activation: real numbers, units on the last axis, inputs (and the positions of a convolution)
        on the others. None if not known.
    outputs : ndarray
        The outputs of the layer, in the same layout.
    slopes : ndarray, optional
        The derivative of the activation at each pre-activation, as `ACTIVATIONS` gives it. Without it `dead` is nan.
    is_saturated : ndarray of bool, optional
        As `Activation.is_saturated` gives it. Without it `saturated` is nan.
    gradients : ndarray, optional
        The gradient with respect to the outputs. Without it `gradient_std` and `gradient_norm` are nan.
    name : str, optional
        The layer's name.

    Returns
    -------
    LayerStatistics
        Sums are computed in float64, and scaled so that nothing overflows or underflows on the way. If a value is not
        finite, the statistics that it enters are infinite.

    Raises
    ------
    ValueError
        If the outputs are empty.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.report import layer_statistics
    >>> outputs = np.array([[1.0, 5.0], [3.0, 5.0]])  # two inputs, two units, the second of which does not move
    >>> measured = layer_statistics(None, outputs)
    >>> print(f"{measured.mean}, {measured.std:.4f}, {measured.signal:.4f}, {measured.spread:.4f}")
    3.5, 1.6583, 0.7071, 0.4082
    """
    if outputs.ndim == 0 or outputs.size == 0:
        raise ValueError(f"outputs must have an axis of units and a number in it, got shape {quote(outputs.shape)}")
    of_outputs = _measure_moments(outputs)
    before = _Moments() if pre_activations is None else _measure_moments(pre_activations)
    measured = LayerStatistics(
        pre_mean=before.mean,
        pre_std=before.std,
        mean=of_outputs.mean,
        std=of_outputs.std,
        signal=of_outputs.signal,
        spread=float(np.fmax(before.spread, of_outputs.spread)),
        dead=math.nan if slopes is None else float((_flatten_inputs(slopes) == 0.0).all(axis=0).mean()),
        saturated=math.nan if is_saturated is None else float(is_saturated.mean()),
        name=name,
    )
    return measured if gradients is None else with_gradients(measured, gradients)


def with_gradients(layer: LayerStatistics, gradients: NDArray[Any], count: int | None = None) -> LayerStatistics:
    """Add the gradient with respect to its outputs to a layer's statistics, computed in float64 and scaled.

    If `gradients` are only a sample, `count` is the number of all of them.

    Examples
    --------
    >>> import numpy as np
    >>> print(with_gradients(LayerStatistics(), np.array([[3e-200, 3e-200], [3e-200, 3e-200]]))[-3:-1])
    (3e-200, 6e-200)
    """
    values = gradients.astype(np.float64)
    largest = float(np.abs(values).max())
    if largest == 0.0 or not math.isfinite(largest):
        size = math.inf if largest else 0.0
        return layer._replace(gradient_std=size, gradient_norm=size)
    root = largest * math.sqrt(_mean_square(values / largest))
    return layer._replace(gradient_std=root, gradient_norm=root * math.sqrt(values.size if count is None else count))


def size_of(layer: LayerStatistics) -> float:
    """A layer's signal or, for a single input, which has no signal, the standard deviation of its outputs.

    Examples
    --------
    >>> size_of(LayerStatistics(std=2.0)), size_of(LayerStatistics(std=2.0, signal=1.0))
    (2.0, 1.0)
    """
    return layer.std if math.isnan(layer.signal) else layer.signal


def gradient_of(layer: LayerStatistics) -> float:
    """The norm of a layer's gradient or, if it was not measured, the gradient's standard deviation.

    Examples
    --------
    >>> one = LayerStatistics(gradient_std=2.0)
    >>> gradient_of(one), gradient_of(one._replace(gradient_norm=8.0))
    (2.0, 8.0)
    """
    return layer.gradient_std if math.isnan(layer.gradient_norm) else layer.gradient_norm


class _Moments(NamedTuple):
    mean: float = math.nan
    std: float = math.nan
    signal: float = math.nan
    spread: float = math.nan


def _flatten_inputs(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(-1, values.shape[-1])


def _measure_moments(values: NDArray[Any]) -> _Moments:
    matrix = _flatten_inputs(values).astype(np.float64)
    largest = float(np.abs(matrix).max())
    if not math.isfinite(largest):
        return _Moments(math.inf, math.inf, math.inf)
    inputs, units = matrix.shape
    if largest > 0.0:
        matrix /= largest
    of_units, of_inputs = matrix.mean(axis=0), matrix.mean(axis=1)
    mean = float(of_units.mean())
    matrix -= of_units
    within_units = _mean_square(matrix)  # a small signal beside a large mean would drown in mean(x^2) - mean(x)^2
    variance = within_units + _mean_square(of_units - mean)
    square = variance + mean * mean
    within_inputs = max(0.0, variance - _mean_square(of_inputs - mean))  # accurate to a spread of 1e-8, below float32's
    return _Moments(
        largest * mean,
        largest * math.sqrt(variance) if values.size > 1 else math.nan,
        largest * math.sqrt(within_units) if inputs > 1 else math.nan,
        math.nan if units == 1 else math.sqrt(within_inputs / square) if square > 0.0 else 0.0,
    )


def _mean_square(values: NDArray[np.float64]) -> float:
    return float(np.square(values).mean())  # pairwise summation; the result of a BLAS dot depends on its threads
