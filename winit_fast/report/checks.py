"""Checks of real models: what was measured of their layers, what it means, and what would be better.

They know no framework: an adapter watches its model, and hands over arrays.
"""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from winit_fast.gains import GAINS, SLOPED, calculate_gain
from winit_fast.recommend import Recommendation, recommend
from winit_fast.report.activations import ACTIVATIONS
from winit_fast.report.measurement import LayerStatistics, layer_statistics
from winit_fast.report.verdicts import Finding, Verdict, judge

__all__ = ["Check", "CheckedLayer", "Weights", "after_activation", "before_activation"]

#: By what factor the standard deviation of weights may differ from that of the recommended scheme: xavier_normal, where
#: relu needs he_normal, is off by 1.41 in square layers, and he_normal without the gains of gelu and silu by 1.08 and
#: 1.19. Layers that have no activation, or none that was seen, are told only what is farther off.
TOLERANCE = 1.25
TOLERANCE_WITHOUT_ACTIVATION = 2.0


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
        With respect to the outputs of the activation; of the layer's own where none was seen.
    slope : float or None
        The negative one of a leaky_relu or prelu.
    """

    name: str
    kind: str
    activation: str
    weights: Weights
    statistics: LayerStatistics
    slope: float | None = None

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
        weights = self.weights
        law: Any = self.recommendation.scheme.distribution(weights.shape, weights.in_axis, weights.out_axis)
        return float(law.std)  # all that are recommended are normal

    def is_off(self, tolerance: float) -> bool:
        """Whether the weights' standard deviation is farther from the recommended one than chance and this factor.

        Of tanh and its like, whose recommended scheme has no gain, the weights may be wider by `calculate_gain` too.
        """
        count = math.prod(self.weights.shape)
        if self.recommendation is None or not self.weights.name or count < 2:
            return False
        factor = tolerance * math.exp(3.0 / math.sqrt(2.0 * count))  # three standard errors of a standard deviation
        known = ACTIVATIONS.get(self.activation)
        gain = 1.0 if known is None or known.largest_slope is None else calculate_gain(self.activation)
        return not self.recommended_std / factor <= self.weights.std <= self.recommended_std * factor * gain


@dataclass(frozen=True, eq=False)
class Check:
    """What was found in a model; ``print`` shows a table of its layers, the verdict and the suggestions.

    Attributes
    ----------
    layers : tuple of CheckedLayer
        In the order in which they ran.
    unmeasured : tuple of str
        Parameters with two axes or more that belong to none of these layers.
    is_normalized : bool
        Whether the model has normalization layers, which make up for the scale of weights.
    """

    layers: tuple[CheckedLayer, ...]
    unmeasured: tuple[str, ...] = ()
    is_normalized: bool = False

    @cached_property
    def verdict(self) -> Verdict:
        """What `judge` says of the layers, in a row.

        Where there are normalization layers, which set the scale anew for every branch, a layer is compared with those
        that have its name in other blocks, ``blocks.0.query`` with ``blocks.1.query`` and not with ``head``, and
        weights of its shape.
        """
        alike: dict[object, list[int]] = {}
        for index, layer in enumerate(self.layers):
            name = re.sub(r"\d+", "*", layer.name.partition(" (use ")[0])
            alike.setdefault((name, layer.weights.shape) if self.is_normalized else None, []).append(index)
        found: dict[tuple[str, bool], Finding] = {}
        for indices in alike.values():
            for one in judge([self.layers[index].statistics for index in indices]).findings:
                is_back = one.of == "gradient"
                finding = one._replace(layer=indices[one.layer - 1] + 1)
                other = found.setdefault((one.word, is_back), finding)
                if other.layer < finding.layer if is_back else other.layer > finding.layer:
                    found[one.word, is_back] = finding
        forward = [finding for finding in found.values() if finding.of != "gradient"]
        backward = [finding for finding in found.values() if finding.of == "gradient"]
        order = operator.attrgetter("layer")
        return Verdict((*sorted(forward, key=order), *sorted(backward, key=order, reverse=True)))

    @cached_property
    def off(self) -> tuple[CheckedLayer, ...]:
        """The layers that a suggestion is for, each parameter once.

        Those whose weights are farther from what is recommended for their activation than `TOLERANCE`; where the
        verdict is not stable, layers without an activation too, beyond `TOLERANCE_WITHOUT_ACTIVATION`. A model with
        normalization layers that is stable needs nothing.
        """
        is_stable = not self.verdict.findings
        if is_stable and self.is_normalized:
            return ()
        found: dict[str, CheckedLayer] = {}
        for layer in self.layers:
            if layer.activation:
                is_off = layer.is_off(TOLERANCE)
            else:
                is_off = not is_stable and layer.is_off(TOLERANCE_WITHOUT_ACTIVATION)
            if is_off:
                found.setdefault(layer.weights.name, layer)
        return tuple(found.values())

    @property
    def suggestions(self) -> dict[str, Recommendation]:
        """For each parameter that is off, by its name, what is recommended instead."""
        return {layer.weights.name: layer.recommendation for layer in self.off if layer.recommendation is not None}

    def __str__(self) -> str:
        return "\n".join([*_table(self), "", *_conclusion(self)])


def _table(check: Check) -> list[str]:
    """A row for each layer; columns of which nothing was measured are left out."""
    found: dict[int, list[str]] = {}
    for finding in check.verdict.findings:
        word = f"gradient {finding.word}" if finding.of == "gradient" else finding.word
        found.setdefault(finding.layer, []).append(word)
    columns = [
        ("", [str(number) for number in range(1, len(check.layers) + 1)]),
        ("layer", [layer.name for layer in check.layers]),
        ("kind", [layer.kind for layer in check.layers]),
        ("activation", [layer.activation or "-" for layer in check.layers]),
        ("pre std", [_number(layer.statistics.pre_std) for layer in check.layers]),
        ("std", [_number(layer.statistics.std) for layer in check.layers]),
        ("gradient", [_number(layer.statistics.gradient_std) for layer in check.layers]),
        ("dead", [_part(layer.statistics.dead) for layer in check.layers]),
        ("saturated", [_part(layer.statistics.saturated) for layer in check.layers]),
        ("weights", [_number(layer.weights.std) for layer in check.layers]),
        ("advised", [_number(layer.recommended_std) for layer in check.layers]),
        ("finding", [", ".join(found.get(number, [])) for number in range(1, len(check.layers) + 1)]),
    ]
    shown = [(head, cells) for head, cells in columns if any(cell not in ("-", "") for cell in cells)]
    words = ("layer", "kind", "activation", "finding")
    padded = []
    for head, cells in shown:
        width = max(map(len, (head, *cells)))
        padded.append([cell.ljust(width) if head in words else cell.rjust(width) for cell in (head, *cells)])
    return ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]


def _conclusion(check: Check) -> list[str]:
    lines = [f"verdict: {check.verdict}"]
    for finding in check.verdict.findings:
        lines.append(f"  layer {finding.layer} ({finding.name}): {finding.reason}")
    if check.off:
        suggested = check.suggestions
        names, schemes = map(len, suggested), (len(str(one.scheme)) for one in suggested.values())
        first, second = max(names), max(schemes)
        lines.append("suggested:" if check.verdict.findings else "suggested, though the model is stable as it is:")
        lines += [
            f"  {layer.weights.name:{first}}  {suggested[layer.weights.name].scheme!s:{second}}  "
            f"std {_number(layer.recommended_std)} in place of {_number(layer.weights.std)}"
            for layer in check.off
        ]
        lines += dict.fromkeys(f"  {one}" for one in suggested.values())
    elif check.verdict.findings:
        lines.append(
            "suggested: nothing; where an activation was seen, the weights are as wide as the papers have them for it"
        )
    if check.unmeasured:
        lines.append(f"not measured: {', '.join(check.unmeasured)}")
    return lines


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"


def _part(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"
