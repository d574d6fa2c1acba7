"""Layers of real models: what was measured in one, and which standard deviation its weights should have."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from winit_fast.gains import GAINS, SLOPED, calculate_gain
from winit_fast.recommend import Recommendation, recommend
from winit_fast.registry import Scheme, read_scheme
from winit_fast.report.activations import ACTIVATIONS
from winit_fast.report.measurement import LayerStatistics

__all__ = ["CheckedLayer", "Weights", "without_block"]


class Weights(NamedTuple):
    """The weights of a layer: what a verdict depends on.

    Attributes
    ----------
    name : str
        The parameter's name, by which a rule finds it; empty if the weights are not a parameter.
    shape : tuple of int
    std : float
        Standard deviation of all weights.
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
    """A layer with weights and the activation after it, as measured on one batch.

    Attributes
    ----------
    name : str
        The module's name. If the module runs more than once, each further use is numbered: ``"shared (use 2)"``.
    kind : str
        The module's class.
    activation : str
        A name that `recommend` knows, or another name; empty if no activation was seen.
    weights : Weights
    statistics : LayerStatistics
        Of the outputs of the activation, or of the layer itself if no activation was seen. `gradient_norm` is the
        larger of the two norms: before and after the activation.
    slope : float or None
        The negative slope of a leaky_relu or prelu.
    entering : float
        The signal in the layer's inputs.
    is_output : bool
        Whether the layer's outputs reach the model's outputs without passing another layer.
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
        """What the papers recommend for its activation; None if they say nothing."""
        activation = self.activation or "linear"
        if activation not in GAINS:
            return None
        return recommend(activation, self.slope if activation in SLOPED else None)

    @cached_property
    def recommended_std(self) -> float:
        """The standard deviation that the recommended scheme gives to this shape; nan if there is no such scheme."""
        if self.recommendation is None:
            return math.nan
        return self._std_of(self.recommendation.scheme)

    def _std_of(self, wanted: Scheme) -> float:
        weights = self.weights
        law: Any = wanted.distribution(weights.shape, weights.in_axis, weights.out_axis)
        return float(law.std)  # all recommended schemes are normal

    def is_off(self, tolerance: float, mode: str | None = None) -> bool:
        """Whether the weights' standard deviation differs from the recommended one by more than chance and a factor.

        The scheme recommended for tanh and other saturating activations has no gain. There the standard deviation may
        be larger by `calculate_gain`. `mode`, such as ``"fan_out"``, replaces the mode of he_normal.
        """
        count = math.prod(self.weights.shape)
        if self.recommendation is None or not self.weights.name or count < 2:
            return False
        wanted = self.recommendation.scheme
        if mode is not None and wanted.name == "he_normal":
            wanted = read_scheme("he_normal", **{**wanted.arguments, "mode": mode})
        std = self._std_of(wanted)
        known = ACTIVATIONS.get(self.activation)
        gain = 1.0 if known is None or known.largest_slope is None else calculate_gain(self.activation)
        factor = tolerance * math.exp(3.0 / math.sqrt(2.0 * count))  # three standard errors of a standard deviation
        return not std / factor <= self.weights.std <= std * gain * factor


def without_block(name: str) -> str:
    """The name of a layer or parameter without the number of its block, and without the number of its use.

    Examples
    --------
    >>> names = ["blocks.12.net.0", "layer1.3.conv2", "model/block_3/dense_7", "shared (use 2)"]
    >>> [without_block(name) for name in names]
    ['blocks.*.net.0', 'layer1.*.conv2', 'model/block*/dense_7', 'shared']
    """
    name = name.partition(" (use ")[0]
    return re.sub(r"(^|(?<=[./]))\d+(?=$|[./])|_\d+(?=/)", "*", name, count=1)
