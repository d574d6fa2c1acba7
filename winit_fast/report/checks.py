"""Checks of real models: what was measured of their layers, what it means, and what would be better.

They know no framework: an adapter watches its model, and hands over arrays.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from winit_fast.gains import GAINS, SLOPED, calculate_gain
from winit_fast.recommend import Recommendation, recommend
from winit_fast.registry import Scheme, scheme
from winit_fast.report.activations import ACTIVATIONS
from winit_fast.report.measurement import LayerStatistics, layer_statistics, size_of
from winit_fast.report.reports import written
from winit_fast.report.verdicts import Finding, Verdict, judge

__all__ = ["Check", "CheckedLayer", "Weights", "after_activation", "before_activation", "is_norm", "without_activation"]

#: By what part suggestions, tried, must bring the sizes of signals nearer to each other: less may be chance.
IMPROVEMENT = 0.1

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


def is_norm(name: str) -> bool:
    """Whether a class goes by the name of a normalization of signals; those of weights begin with an underscore.

    Examples
    --------
    >>> [is_norm(name) for name in ("LlamaRMSNorm", "BatchNorm2d", "UnitNormalization", "NormalHead", "_SpectralNorm")]
    [True, True, True, False, False]
    """
    return re.search(r"^[^_].*Norm(alization|Act|Gated)?\d*[dD]?$", name) is not None


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
        return self._std_of(self.recommendation.scheme)

    def _std_of(self, wanted: Scheme) -> float:
        weights = self.weights
        law: Any = wanted.distribution(weights.shape, weights.in_axis, weights.out_axis)
        return float(law.std)  # all that are recommended are normal

    def is_off(self, tolerance: float, *, by_fan_out: bool = False) -> bool:
        """Whether the weights' standard deviation is farther from the recommended one than chance and this factor.

        Of tanh and its like, whose recommended scheme has no gain, the weights may be wider by `calculate_gain` too;
        and He's may go `by_fan_out`, which keeps gradients where fan_in keeps signals, or by any fan between the two.
        """
        count = math.prod(self.weights.shape)
        if self.recommendation is None or not self.weights.name or count < 2:
            return False
        low = high = self.recommended_std
        wanted = self.recommendation.scheme
        if by_fan_out and wanted.name == "he_normal":
            other = self._std_of(scheme("he_normal", **{**wanted.arguments, "mode": "fan_out"}))
            low, high = min(low, other), max(high, other)
        known = ACTIVATIONS.get(self.activation)
        if known is not None and known.largest_slope is not None:
            high *= calculate_gain(self.activation)
        factor = tolerance * math.exp(3.0 / math.sqrt(2.0 * count))  # three standard errors of a standard deviation
        return not low / factor <= self.weights.std <= high * factor


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
        Whether signals are normalized again and again between these layers, which makes up for the scale of weights.
    tried : tuple of LayerStatistics or None
        What the layers hand on where the weights of those that are off have the width that is recommended; None where
        that was not tried.
    """

    layers: tuple[CheckedLayer, ...]
    unmeasured: tuple[str, ...] = ()
    is_normalized: bool = False
    tried: tuple[LayerStatistics, ...] | None = None

    @cached_property
    def verdict(self) -> Verdict:
        """What `judge` says of the layers, in a row.

        The last layer's gradient is passed over: it is the loss's own, and how it differs from those behind it, by an
        average over positions or a head with one output, says nothing of depth.

        Where signals are normalized, which sets the scale anew for every branch, a layer is compared with those that
        have its name in other blocks, ``blocks.0.query`` with ``blocks.1.query`` and not with ``head``, and weights of
        its shape.
        """
        return self._judged([layer.statistics for layer in self.layers])

    @cached_property
    def verdict_tried(self) -> Verdict | None:
        """The same of `tried`, where no gradient was taken back."""
        return None if self.tried is None else self._judged(self.tried)

    def _judged(self, statistics: Sequence[LayerStatistics]) -> Verdict:
        layers = list(statistics)
        if layers:
            layers[-1] = layers[-1]._replace(gradient_std=math.nan, gradient_norm=math.nan)
        found: dict[tuple[str, bool], Finding] = {}
        for indices in self._alike:
            for one in judge([layers[index] for index in indices]).findings:
                is_back = one.of == "gradient"
                reference = indices[one.reference - 1] + 1 if one.reference else 0
                finding = one._replace(layer=indices[one.layer - 1] + 1, reference=reference)
                other = found.setdefault((one.word, is_back), finding)
                if other.layer < finding.layer if is_back else other.layer > finding.layer:
                    found[one.word, is_back] = finding
        forward = [finding for finding in found.values() if finding.of != "gradient"]
        backward = [finding for finding in found.values() if finding.of == "gradient"]
        order = operator.attrgetter("layer")
        return Verdict((*sorted(forward, key=order), *sorted(backward, key=order, reverse=True)))

    @property
    def _alike(self) -> list[list[int]]:
        """The indices of layers that are compared with each other."""
        alike: dict[object, list[int]] = {}
        for index, layer in enumerate(self.layers):
            name = re.sub(r"\d+", "*", layer.name.partition(" (use ")[0])
            alike.setdefault((name, layer.weights.shape) if self.is_normalized else None, []).append(index)
        return list(alike.values())

    @cached_property
    def off(self) -> tuple[CheckedLayer, ...]:
        """The layers whose weights have another width than is recommended, each parameter once.

        Those that are farther from what is recommended for their activation than `TOLERANCE`, in a stable model from
        He's by fan_out as well; where the verdict is not stable, layers without an activation too, beyond
        `TOLERANCE_WITHOUT_ACTIVATION`. A stable model that normalizes its signals has none.
        """
        is_stable = not self.verdict.findings
        if is_stable and self.is_normalized:
            return ()
        found: dict[str, CheckedLayer] = {}
        for layer in self.layers:
            if layer.activation:
                is_off = layer.is_off(TOLERANCE, by_fan_out=is_stable)
            else:
                is_off = not is_stable and layer.is_off(TOLERANCE_WITHOUT_ACTIVATION)
            if is_off:
                found.setdefault(layer.weights.name, layer)
        return tuple(found.values())

    @property
    def factors(self) -> dict[str, float]:
        """By what the weights of layers that are off would be wider, by their parameter's name.

        None where widening tells nothing: of weights that are all the same, or not finite.
        """
        is_symmetric = any(finding.word == "symmetric" for finding in self.verdict.findings)
        if is_symmetric or not all(0.0 < layer.weights.std < math.inf for layer in self.off):
            return {}
        return {layer.weights.name: layer.recommended_std / layer.weights.std for layer in self.off}

    @cached_property
    def is_improved(self) -> bool:
        """Whether signals, with what is recommended, keep nearer to one size; True too where that was not tried."""
        if self.tried is None:
            return True
        now = self._unevenness([layer.statistics for layer in self.layers])
        return math.isinf(now) or self._unevenness(self.tried) < (1.0 - IMPROVEMENT) * now

    def _unevenness(self, layers: Sequence[LayerStatistics]) -> float:
        """The logarithm of how many times the largest signal is the smallest one that it is compared with."""
        sizes = [[size_of(layers[index]) for index in indices] for indices in self._alike]
        if any(size == 0.0 or math.isinf(size) for group in sizes for size in group):
            return math.inf
        return max(math.log(max(group) / min(group)) for group in sizes)

    @property
    def suggestions(self) -> dict[str, Recommendation]:
        """For each parameter that is off, by its name, what is recommended instead; none where it does not help."""
        suggested = self.off if self.is_improved else ()
        return {layer.weights.name: layer.recommendation for layer in suggested if layer.recommendation is not None}

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
        ("pre std", [written(layer.statistics.pre_std, 3) for layer in check.layers]),
        ("std", [written(layer.statistics.std, 3) for layer in check.layers]),
        ("gradient norm", [written(layer.statistics.gradient_norm, 3) for layer in check.layers]),
        ("dead", [_part(layer.statistics.dead) for layer in check.layers]),
        ("saturated", [_part(layer.statistics.saturated) for layer in check.layers]),
        ("weights", [written(layer.weights.std, 3) for layer in check.layers]),
        ("advised", [written(layer.recommended_std, 3) for layer in check.layers]),
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
    schemes = {str(layer.recommendation.scheme) for layer in check.off if layer.recommendation is not None}
    suggested = check.suggestions
    if suggested:
        though = "" if check.verdict.findings else ", though the model is stable as it is"
        outcome = "" if check.verdict_tried is None else f" (tried on this input, forward: {check.verdict_tried})"
        lines.append(f"suggested{though}{outcome}:")
        first, second = max(map(len, suggested)), max(map(len, schemes))
        lines += [
            f"  {layer.weights.name:{first}}  {suggested[layer.weights.name].scheme!s:{second}}  "
            f"std {written(layer.recommended_std, 3)} in place of {written(layer.weights.std, 3)}"
            for layer in check.off
        ]
        lines += dict.fromkeys(f"  {one}" for one in suggested.values())
    elif check.off:
        lines.append(
            f"suggested: nothing; {' and '.join(sorted(schemes))}, which the papers give to plain stacks, would not "
            f"help here: tried in {len(check.off)} layers, on this input, the verdict is {check.verdict_tried}"
        )
    elif check.verdict.findings:
        lines.append(
            "suggested: nothing; where an activation was seen, the weights are as wide as the papers have them for it"
        )
    if check.unmeasured:
        lines.append(f"not measured: {', '.join(check.unmeasured)}")
    return lines


def _part(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"
