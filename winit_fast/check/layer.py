"""Layers of real models: what was measured of one, and how wide its weights should be."""

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
            wanted = read_scheme("he_normal", **{**wanted.arguments, "mode": mode})
        std = self._std_of(wanted)
        known = ACTIVATIONS.get(self.activation)
        gain = 1.0 if known is None or known.largest_slope is None else calculate_gain(self.activation)
        factor = tolerance * math.exp(3.0 / math.sqrt(2.0 * count))  # three standard errors of a standard deviation
        return not std / factor <= self.weights.std <= std * gain * factor


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
