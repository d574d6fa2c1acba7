"""Checks of real models: what was measured of their layers, what it means, and what would be better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

from winit_fast.recommend import Recommendation
from winit_fast.report.check_tables import conclusion, kind, table
from winit_fast.report.checked_layers import CheckedLayer
from winit_fast.report.verdicts import Finding, Thresholds, Verdict, judge

__all__ = ["Check"]

#: By what factor the standard deviation of weights may differ from that of the recommended scheme: xavier_normal, where
#: relu needs he_normal, is off by 1.41 in square layers. Where the verdict is not stable, he_normal without the gains
#: of gelu and silu is too, by 1.08 and 1.19. Layers without an activation are told only what is farther off.
TOLERANCE = 1.25
TOLERANCE_UNSTABLE = 1.05
TOLERANCE_WITHOUT_ACTIVATION = 2.0

#: By what part suggestions, tried, must lessen the drift: less may be chance.
IMPROVEMENT = 0.1

#: So many layers in a row, or all up to the end, must be beyond a bound: fewer may be a branch that begins small, as
#: the query, key and value of attention do, around which signals and gradients go. Not an output layer alone: an
#: average over positions lets little of noise enter it.
RUN = 4

_BOUNDS = Thresholds()


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
    tried : tuple of CheckedLayer or None
        The same layers where the weights of those that are off have the width that is recommended; None where that was
        not tried.
    how_to_follow : str
        A line of Python that does what is suggested.
    """

    layers: tuple[CheckedLayer, ...]
    unmeasured: tuple[str, ...] = ()
    is_normalized: bool = False
    tried: tuple[CheckedLayer, ...] | None = None
    how_to_follow: str = ""

    @cached_property
    def verdict(self) -> Verdict:
        """What is found, by the thresholds of `winit_fast.report.judge`.

        It is the signals that enter layers that are compared: what a branch adds may be small, and what an output
        layer hands on is for the loss to say. Likewise gradients are compared, by their norms, but for those of output
        layers. A layer is compared with those of its name and shape in other blocks, ``blocks.0.query`` with
        ``blocks.1.query``, and with the layers that come first, the second and third forward and the last ones back.
        Fewer than `RUN` layers that differ from these, with others behind them that do not, are a branch that begins
        small. Where signals are normalized, gradients are compared with their like alone: they grow from layer to layer
        (Yang et al. 2019, arXiv:1902.08129), and the size of weights makes up for it.
        """
        return _judged(self.layers, self.is_normalized)

    @cached_property
    def verdict_tried(self) -> Verdict | None:
        """The same of `tried`."""
        return None if self.tried is None else _judged(self.tried, self.is_normalized)

    @cached_property
    def off(self) -> tuple[CheckedLayer, ...]:
        """The layers whose weights have another width than is recommended, each parameter once.

        In a stable model those that are farther than `TOLERANCE` from what is recommended for their activation; none if
        it normalizes its signals, or has He's weights by fan_out in all layers. Otherwise those beyond
        `TOLERANCE_UNSTABLE`, and without an activation beyond `TOLERANCE_WITHOUT_ACTIVATION`; weights that are all 0
        only where units are the same.
        """
        active = [layer for layer in self.layers if layer.activation]
        words = {finding.word for finding in self.verdict.findings}
        if not words and (self.is_normalized or not any(layer.is_off(TOLERANCE, "fan_out") for layer in active)):
            return ()
        found: dict[str, CheckedLayer] = {}
        for layer in self.layers:
            if layer.activation:
                is_off = layer.is_off(TOLERANCE_UNSTABLE if words else TOLERANCE)
            else:
                is_off = bool(words) and layer.is_off(TOLERANCE_WITHOUT_ACTIVATION)
            if is_off and (layer.weights.std > 0.0 or "symmetric" in words):
                found.setdefault(layer.weights.name, layer)
        return tuple(found.values())

    @property
    def factors(self) -> dict[str, float]:
        """By what the weights of layers that are off would be wider, by their parameter's name.

        None where widening tells nothing: of weights that are all the same, or not finite.
        """
        if any(finding.word == "symmetric" for finding in self.verdict.findings):
            return {}
        usable = [layer for layer in self.off if 0.0 < layer.weights.std < math.inf]
        return {layer.weights.name: layer.recommended_std / layer.weights.std for layer in usable}

    @property
    def is_improved(self) -> bool:
        """Whether what is recommended makes the model stable, or else keeps signals and gradients nearer to one size.

        True, too, where that was not tried.
        """
        now, then = self.verdict, self.verdict_tried
        if then is None or (now.findings and not then.findings):
            return True
        if then.findings and not now.findings:
            return False
        return math.isinf(now.drift) or then.drift * (1.0 + IMPROVEMENT) < now.drift

    @property
    def suggestions(self) -> dict[str, Recommendation]:
        """For each parameter that is off, by its name, what is recommended instead; none where it does not help."""
        suggested = self.off if self.is_improved else ()
        return {layer.weights.name: layer.recommendation for layer in suggested if layer.recommendation is not None}

    def __str__(self) -> str:
        return "\n".join([*table(self), "", *conclusion(self)])


def _judged(layers: Sequence[CheckedLayer], is_normalized: bool) -> Verdict:
    there, signal_drift = _signals(layers)
    back, gradient_drift = _gradients(layers, is_normalized)
    return Verdict((*sorted([*_units(layers), *there], key=lambda one: one.layer), *back), signal_drift, gradient_drift)


def _units(layers: Sequence[CheckedLayer]) -> list[Finding]:
    """What is found in layers by themselves.

    Outputs that are all 0 are not those of equal units where weights differ, nor where they end a branch, or the model,
    that begins with 0: other signals enter what is behind, and units then learn apart.
    """
    statistics = []
    for index, layer in enumerate(layers):
        one = layer.statistics
        is_zero = one.mean == 0.0 == one.std
        behind = [other.entering for other in layers[index + 1 :]]
        if layer.weights.std > 0.0:
            is_passed_by = is_zero or layer.entering == 0.0
        else:
            is_passed_by = is_zero and (layer.is_output or not behind or max(behind) > 0.0)
        if is_passed_by:
            one = one._replace(spread=math.nan)
        statistics.append(one._replace(signal=math.nan, std=math.nan, gradient_std=math.nan, gradient_norm=math.nan))
    return list(judge(statistics).findings)


def _signals(layers: Sequence[CheckedLayer]) -> tuple[list[Finding], float]:
    """What is found in the signals that enter layers, and by how many times they drift."""
    for index, layer in enumerate(layers):
        if math.isinf(layer.statistics.std):
            return [Finding("explodes", index + 1, "signal", math.inf, layer.name)], math.inf
    measured = [index for index in range(1, len(layers)) if not math.isnan(layers[index].entering)]
    return _judged_course("entering", layers, {index: layers[index].entering for index in measured})


def _gradients(layers: Sequence[CheckedLayer], is_normalized: bool) -> tuple[list[Finding], float]:
    """What is found in the gradients of layers in front of the outputs, and by how many times they drift."""
    sizes = {index: layer.statistics.gradient_norm for index, layer in reversed(list(enumerate(layers)))}
    sizes = {index: size for index, size in sizes.items() if not math.isnan(size)}
    outputs: list[int] = []
    while sizes and (not outputs or layers[max(sizes)].is_output):
        outputs.append(max(sizes))
        del sizes[outputs[-1]]
    if not any(sizes.values()) and any(layers[index].weights.std == 0.0 for index in outputs):
        return [], math.nan  # an output layer that begins with 0 lets none pass, at first
    return _judged_course("gradient", layers, sizes, is_row=not is_normalized)


def _judged_course(
    of: str, layers: Sequence[CheckedLayer], sizes: Mapping[int, float], is_row: bool = True
) -> tuple[list[Finding], float]:
    """Where sizes, of layers in the order in which signals or gradients pass them, are beyond the bounds; their drift.

    A layer is compared with its like in the block that comes first and, in a row, with the first two layers of all: one
    of these may be in a branch.
    """
    order = list(sizes)
    alike: dict[object, list[int]] = {}
    for index in order:
        alike.setdefault((kind(layers[index].name), layers[index].weights.shape), []).append(index)
    blocks = [indices for indices in alike.values() if len(indices) > 1]
    among_like: dict[int, _Ratio] = {}
    for indices in blocks:
        if any(sizes[index] for index in indices):  # else a branch that begins with 0
            among_like |= {index: _ratio(sizes, index, _first_ones(sizes, indices)[:1]) for index in indices}
    first = _first_ones(sizes, order)[: 2 if len(order) >= RUN else 1]
    in_row = {index: _ratio(sizes, index, first) for index in order} if is_row else {}
    beyond = {index: ratio for index, ratio in among_like.items() if _side(ratio.value)}
    for side, run in groupby(in_row, lambda index: _side(in_row[index].value)):
        indices = list(run)
        if side and len(indices) < RUN:
            is_last = indices[-1] == order[-1] and not (len(indices) == 1 and layers[indices[0]].is_output)
            indices = [index for index in indices if is_last and not any(index in block for block in blocks)]
        if side:
            beyond |= {index: in_row[index] for index in indices}
    findings: list[Finding] = []
    found = next((index for index in order if index in beyond), None)
    if found is not None:
        word = "vanishes" if beyond[found].value < 1.0 else "explodes"
        value, reference = beyond[found]
        findings.append(Finding(word, found + 1, of, value, layers[found].name, reference + 1))
    compared = [[ratio[index].value for ratio in (in_row, among_like) if index in ratio] for index in order]
    counted = [_nearest(ratios) for ratios in compared if ratios and (_nearest(ratios) > 0.0 or findings)]
    return findings, max((math.inf if ratio == 0.0 else max(ratio, 1.0 / ratio) for ratio in counted), default=math.nan)


class _Ratio(NamedTuple):
    value: float
    reference: int


def _first_ones(sizes: Mapping[int, float], order: Sequence[int]) -> list[int]:
    """The first two whose sizes are neither 0 nor infinite; the first one where there are none."""
    return [index for index in order if 0.0 < sizes[index] < math.inf][:2] or list(order[:1])


def _ratio(sizes: Mapping[int, float], index: int, references: Sequence[int]) -> _Ratio:
    """A size as a part of that of the references to which it is nearer; 0 and infinity as they are."""
    if sizes[index] in (0.0, math.inf):
        return _Ratio(sizes[index], references[0])
    ratios = {sizes[index] / sizes[reference]: reference for reference in reversed(references)}
    nearest = _nearest(ratios)
    return _Ratio(nearest, ratios.get(nearest, references[0]))


def _nearest(ratios: Iterable[float]) -> float:
    """Of some ratios the one nearest to 1; 1 where it is between them."""
    low, high = min(ratios), max(ratios)
    return high if high < 1.0 else low if low > 1.0 else 1.0


def _side(ratio: float) -> int:
    """Below the bounds, within them, or above."""
    return (ratio > _BOUNDS.grow) - (ratio < _BOUNDS.shrink)
