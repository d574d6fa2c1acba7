"""Layers of real models: what an adapter measures of them while a model runs, and how wide their weights should be.

They know no framework: an adapter watches its model, and hands over arrays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from winit_fast.gains import GAINS, SLOPED, calculate_gain
from winit_fast.recommend import Recommendation, recommend
from winit_fast.registry import Scheme, scheme
from winit_fast.report.activations import ACTIVATIONS
from winit_fast.report.measurement import LayerStatistics, layer_statistics, size_of, with_gradients
from winit_fast.report.verdicts import Thresholds

__all__ = [
    "CheckedLayer",
    "Weights",
    "after_activation",
    "before_activation",
    "entering",
    "gradient_measured",
    "is_norm",
    "is_normalized",
    "sampled",
    "without_activation",
    "without_block",
]


#: Of larger outputs some rows are measured: a head's for long texts may be as large as the rest of the model.
MOST_VALUES = 1 << 24


def sampled(rows: Any) -> Any:
    """Rows, of any array or tensor, at equal distances, so that there are at most some `MOST_VALUES` numbers.

    Examples
    --------
    >>> sampled(np.empty((6, 4), "int8")).shape, sampled(np.empty((1 << 14, 1 << 12), "int8")).shape
    ((6, 4), (4096, 4096))
    """
    return rows[:: max(1, math.prod(rows.shape) // MOST_VALUES)]


def gradient_measured(
    statistics: LayerStatistics, gradients: NDArray[Any], count: int, *, is_behind: bool
) -> LayerStatistics:
    """The statistics of a layer with its gradient in front of its activation or, `is_behind`, behind it.

    The norm is the larger one: in front, where what the layer hands on goes around its activation as well, as in
    residual blocks that begin with one. `gradients` are a sample of `count`.

    Examples
    --------
    >>> in_front = gradient_measured(LayerStatistics(), np.array([[4.0] * 4]), 4, is_behind=False)
    >>> measured = gradient_measured(in_front, np.array([[2.0] * 4]), 4, is_behind=True)
    >>> measured.gradient_std, measured.gradient_norm
    (2.0, 8.0)
    """
    measured = with_gradients(statistics, gradients, count)
    norm = float(np.fmax(statistics.gradient_norm, measured.gradient_norm))
    return (measured if is_behind else statistics)._replace(gradient_norm=norm)


def before_activation(pre_activations: NDArray[Any], activation: str) -> LayerStatistics:
    """What can be measured before an activation is applied, perhaps in place: moments, dead and saturated units.

    Examples
    --------
    >>> before_activation(np.array([[-1.0, 5.0], [-2.0, 7.0]]), "relu").dead
    0.5
    """
    known = ACTIVATIONS.get(activation)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # infinities are looked for
        slopes = is_saturated = None
        if known is not None and np.isfinite(pre_activations).all():
            slopes = known(pre_activations.astype(np.float64))[1]
            is_saturated = known.is_saturated(slopes)
        both = layer_statistics(None, pre_activations, slopes=slopes, is_saturated=is_saturated)
    return LayerStatistics(
        pre_mean=both.mean, pre_std=both.std, spread=both.spread, dead=both.dead, saturated=both.saturated
    )


def after_activation(before: LayerStatistics, outputs: NDArray[Any]) -> LayerStatistics:
    """The statistics of a layer, of which `before` was measured before its activation, as `layer_statistics` has them.

    Examples
    --------
    >>> pre = np.array([[-1.0, 5.0], [-2.0, 7.0]])
    >>> measured = after_activation(before_activation(pre, "relu"), np.maximum(pre, 0.0))
    >>> print(f"{measured.pre_std:.3f}, {measured.std:.3f}, {measured.dead}")
    3.832, 3.082, 0.5
    """
    after = layer_statistics(None, outputs)
    return before._replace(
        mean=after.mean, std=after.std, signal=after.signal, spread=float(np.fmax(before.spread, after.spread))
    )


def without_activation(outputs: NDArray[Any]) -> LayerStatistics:
    """The statistics of a layer behind which no activation was seen: it hands on what is its pre-activation, too.

    Examples
    --------
    >>> measured = without_activation(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> measured.pre_mean, measured.mean, measured.pre_std == measured.std
    (3.5, 3.5, True)
    """
    measured = layer_statistics(None, outputs)
    return measured._replace(pre_mean=measured.mean, pre_std=measured.std)


def entering(inputs: NDArray[Any]) -> float:
    """The signal that enters a layer; 0 where its inputs are all the same but for what is rounded off.

    Examples
    --------
    >>> entering(np.array([[1.0, 4.0], [3.0, 2.0]])), entering(np.array([[1.0, 5.0], [1.0, 5.0]]))
    (1.0, 0.0)
    """
    measured = layer_statistics(None, inputs)
    size = size_of(measured)
    return 0.0 if size < Thresholds().spread * math.hypot(measured.mean, measured.std) < math.inf else size


def is_norm(name: str) -> bool:
    """Whether a class goes by the name of a normalization of signals; those of weights begin with an underscore.

    Examples
    --------
    >>> [is_norm(name) for name in ("LlamaRMSNorm", "BatchNorm2d", "UnitNormalization", "NormalHead", "_SpectralNorm")]
    [True, True, True, False, False]
    """
    others = r"^_|^LocalResponse|^Spectral|^Weight"  # the first takes from some units what neighbours have
    return re.search(others, name) is None and re.search(r"Norm(alization|Act|Gated)?\d*[dD]?$", name) is not None


def is_normalized(normalized_after: Collection[int], uses: int) -> bool:
    """Whether signals are normalized in two places or more between the first of so many uses of layers and the last.

    `normalized_after` is how many uses had been seen at each normalization.

    Examples
    --------
    >>> is_normalized({0, 2, 4}, 4), is_normalized({1, 2}, 4)
    (False, True)
    """
    return sum(0 < number < uses for number in normalized_after) >= 2


def without_block(name: str) -> str:
    """What the names of a layer, or a parameter, in all blocks have in common; uses of one layer are of one kind.

    Examples
    --------
    >>> names = ["blocks.12.net.0", "layer1.3.conv2", "model/block_3/dense_7", "shared (use 2)"]
    >>> [without_block(name) for name in names]
    ['blocks.*.net.0', 'layer1.*.conv2', 'model/block*/dense_7', 'shared']
    """
    name = name.partition(" (use ")[0]
    return re.sub(r"(^|(?<=[./]))\d+(?=$|[./])|_\d+(?=/)", "*", name, count=1)


class Weights(NamedTuple):
    """The weights of a layer, as far as they are judged.

    Attributes
    ----------
    name : str
        The parameter's, by which a rule finds it; empty where it has none.
    shape : tuple of int
    std : float
        Over all of them.
    in_axis, out_axis : int
        As in `winit_fast.fill`.
    """

    name: str
    shape: tuple[int, ...]
    std: float
    in_axis: int
    out_axis: int


@dataclass(frozen=True, eq=False)
class CheckedLayer:
    """A weighted layer of a model and the activation behind it, as one input met them.

    Attributes
    ----------
    name : str
        The module's; where it runs more than once, every further use has its own: ``"shared (use 2)"``.
    kind : str
        The module's class.
    activation : str
        As `recommend` knows it; another name where it does not; empty where none was seen.
    weights : Weights
    statistics : LayerStatistics
        With respect to the outputs of the activation; of the layer's own where none was seen. `gradient_norm` is the
        larger one of both.
    slope : float or None
        The negative one of a leaky_relu or prelu.
    entering : float
        The signal that enters the layer.
    is_output : bool
        Whether what the layer hands on reaches the model's outputs by no other layer.
    """

    name: str
    kind: str
    activation: str
    weights: Weights
    statistics: LayerStatistics
    slope: float | None = None
    entering: float = math.nan
    is_output: bool = False

    @cached_property
    def recommendation(self) -> Recommendation | None:
        """What the papers give to its activation; None where they say nothing."""
        activation = self.activation or "linear"
        if activation not in GAINS:
            return None
        return recommend(activation, self.slope if activation in SLOPED else None)

    @cached_property
    def recommended_std(self) -> float:
        """What the recommended scheme's weights would have in this shape; nan where there is none."""
        if self.recommendation is None:
            return math.nan
        return self._std_of(self.recommendation.scheme)

    def _std_of(self, wanted: Scheme) -> float:
        weights = self.weights
        law: Any = wanted.distribution(weights.shape, weights.in_axis, weights.out_axis)
        return float(law.std)  # all that are recommended are normal

    def is_off(self, tolerance: float, mode: str | None = None) -> bool:
        """Whether the weights' standard deviation is farther from the recommended one than chance and this factor.

        Of tanh and its like, whose recommended scheme has no gain, the weights may be wider by `calculate_gain` too.
        With a mode, such as ``"fan_out"``, He's has this one.
        """
        count = math.prod(self.weights.shape)
        if self.recommendation is None or not self.weights.name or count < 2:
            return False
        wanted = self.recommendation.scheme
        if mode is not None and wanted.name == "he_normal":
            wanted = scheme("he_normal", **{**wanted.arguments, "mode": mode})
        std = self._std_of(wanted)
        known = ACTIVATIONS.get(self.activation)
        gain = 1.0 if known is None or known.largest_slope is None else calculate_gain(self.activation)
        factor = tolerance * math.exp(3.0 / math.sqrt(2.0 * count))  # three standard errors of a standard deviation
        return not std / factor <= self.weights.std <= std * gain * factor
