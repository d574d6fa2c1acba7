"""Verdicts on real models, whose layers do not stand in one row: `judge` is for those that do.

Signals and gradients go around branches, so that a layer may have little of them and lack nothing. It is compared with
its like in other blocks and, in the row in which layers run, with those that come first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from winit_fast.check.layer import CheckedLayer, without_block
from winit_fast.report.measurement import LayerStatistics, size_of
from winit_fast.report.verdicts import Finding, Thresholds, Verdict, drift_of, judge

__all__ = ["RUN", "judge_layers"]

#: So many layers in a row, or all up to the end, must be beyond a bound: fewer may be a branch that begins small, as
#: the query, key and value of attention do, around which signals and gradients go.
RUN = 4

#: By what factor the weights of a first layer must be off before they are blamed for what becomes of the inputs.
FAR_OFF = 10.0

_BOUNDS = Thresholds()


def judge_layers(layers: Sequence[CheckedLayer], *, is_normalized: bool) -> Verdict:
    """Say what goes wrong in a model, and where, by the thresholds of `judge`.

    Signals are those that enter layers: what a branch adds may be small, and what an output layer hands on is for the
    loss to say. Gradients are compared by their norms. Where signals are normalized, gradients are compared with their
    like in other blocks alone: they grow from layer to layer (Yang et al. 2019, arXiv:1902.08129), and the size of
    weights makes up for it.
    """
    there, signal_drift = _signals(layers, is_normalized)
    back, gradient_drift = _gradients(layers, is_normalized)
    forward = sorted([*_units(layers), *there], key=lambda finding: finding.layer)
    return Verdict((*forward, *back), signal_drift, gradient_drift)


def _units(layers: Sequence[CheckedLayer]) -> list[Finding]:
    """What is found in layers by themselves: units that are the same, dead or saturated.

    Units that hand on 0, or whose inputs are all 0, do not have the same weights for that; and weights that are all 0
    are no harm at the end of a branch, or of the model: what is behind has other signals, and the units learn apart.
    """
    statistics = []
    for index, layer in enumerate(layers):
        one = layer.statistics
        is_zero = one.mean == 0.0 == one.std
        if layer.weights.std > 0.0:
            is_excused = is_zero or layer.entering == 0.0
        else:
            behind = layers[index + 1 :]
            is_excused = is_zero and (layer.is_output or not behind or any(other.entering > 0.0 for other in behind))
        spread = math.nan if is_excused else one.spread
        statistics.append(LayerStatistics(spread=spread, dead=one.dead, saturated=one.saturated, name=one.name))
    return list(judge(statistics).findings)


def _signals(layers: Sequence[CheckedLayer], is_normalized: bool) -> tuple[list[Finding], float]:
    """What is found in the signals that enter layers, and by how many times they drift."""
    for index, layer in enumerate(layers):
        if math.isinf(layer.statistics.std):
            return [Finding("explodes", index + 1, "signal", math.inf, layer.name)], math.inf
    behind_the_first = {index: layer.entering for index, layer in enumerate(layers) if index}
    # One of the first two may be in a branch; of more, where each branch is normalized anew.
    found, drift = _course("entering", layers, behind_the_first, RUN if is_normalized else 2)
    at_the_ends, gain = _gains(layers)
    first = sorted([*at_the_ends, *found], key=lambda finding: finding.layer)[:1]
    return first, max((one for one in (drift, gain) if one > 0.0), default=math.nan)


def _gains(layers: Sequence[CheckedLayer]) -> tuple[list[Finding], float]:
    """What the first layer, whose inputs are the model's own, and output layers make of the signals that enter them.

    Of the first one it is what at least enters all others, if it is no branch, and if its weights are far off: inputs
    may be large, and what follows may normalize them. Of output layers that make signals small nothing is said: many
    begin so.
    """
    gains: dict[int, float] = {}
    for index, layer in enumerate(layers):
        if layer.is_output or index == len(layers) - 1:
            gains[index] = max(1.0, size_of(layer.statistics) / layer.entering) if layer.entering > 0.0 else 1.0
    first, *others = layers
    behind = [layer.entering / first.entering for layer in others if layer.entering > 0.0 < first.entering]
    if behind and first.is_off(FAR_OFF):
        gains[0] = _nearest(behind)
    beyond = {index: gain for index, gain in gains.items() if _Ratio(gain, index).side}
    found = [
        Finding("vanishes" if gain < 1.0 else "explodes", index + 1, "gain", gain, layers[index].name)
        for index, gain in sorted(beyond.items())
    ]
    return found[:1], drift_of(beyond.values())


def _gradients(layers: Sequence[CheckedLayer], is_normalized: bool) -> tuple[list[Finding], float]:
    """What is found in the gradients of layers in front of the outputs, and by how many times they drift."""
    numbered = list(enumerate(layers))
    outputs: list[CheckedLayer] = []
    while numbered and (not outputs or numbered[-1][1].is_output):
        outputs.append(numbered.pop()[1])
    sizes = {index: layer.statistics.gradient_norm for index, layer in reversed(numbered)}
    if not any(size > 0.0 for size in sizes.values()) and any(layer.weights.std == 0.0 for layer in outputs):
        return [], math.nan  # an output layer that begins with 0 lets none pass, at first
    return _course("gradient", layers, sizes, 0 if is_normalized else 2)


# Courses: sizes of layers, in the order in which signals or gradients pass them


class _Ratio(NamedTuple):
    """A size as a part of that of the layer `reference`; 0 and infinity as they are."""

    value: float
    reference: int

    @property
    def side(self) -> int:
        """Below the bounds, within them, or above."""
        return (self.value > _BOUNDS.grow) - (self.value < _BOUNDS.shrink)


def _course(
    of: str, layers: Sequence[CheckedLayer], sizes: Mapping[int, float], references: int
) -> tuple[list[Finding], float]:
    """The first layer whose size is beyond the bounds, and by how many times sizes are away from what they should be.

    So many of the first sizes are references for all; for few layers one, since they are more likely in a row.
    """
    order = [index for index, size in sizes.items() if not math.isnan(size)]
    blocks = _blocks(layers, order)
    among_like: dict[int, _Ratio] = {}
    for indices in blocks:
        if any(sizes[index] for index in indices):  # else a branch that begins with 0
            among_like |= _ratios(sizes, indices, 1)
    in_row = _ratios(sizes, order, references if len(order) >= RUN else 1) if references else {}
    beyond = {index: ratio for index, ratio in among_like.items() if ratio.side}
    beyond |= _beyond_in_row(in_row, layers, {index for indices in blocks for index in indices})
    findings: list[Finding] = []
    for index in order:
        if index in beyond and not findings:
            value, reference = beyond[index]
            word = "vanishes" if value < 1.0 else "explodes"
            findings.append(Finding(word, index + 1, of, value, layers[index].name, reference + 1))
    counted = [ratio.value for ratio in beyond.values()]
    counted += [
        _nearest([one[index].value for one in (in_row, among_like) if index in one])
        for index in {**in_row, **among_like}
        if index not in beyond and not (index in in_row and in_row[index].side)  # which are passed by
    ]
    return findings, drift_of(counted)


def _blocks(layers: Sequence[CheckedLayer], order: Sequence[int]) -> list[list[int]]:
    """Layers with one name, but for the number of their block, and one shape: two at least."""
    alike: dict[object, list[int]] = {}
    for index in order:
        alike.setdefault((without_block(layers[index].name), layers[index].weights.shape), []).append(index)
    return [indices for indices in alike.values() if len(indices) > 1]


def _ratios(sizes: Mapping[int, float], order: Sequence[int], count: int) -> dict[int, _Ratio]:
    """Sizes as parts of the nearer one of the first few that are neither 0 nor infinite."""
    references = [index for index in order if 0.0 < sizes[index] < math.inf][:count] or list(order[:1])
    ratios = {}
    for index in order:
        if sizes[index] in (0.0, math.inf):
            ratios[index] = _Ratio(sizes[index], references[0])
        else:
            by_value = {sizes[index] / sizes[reference]: reference for reference in reversed(references)}
            value = _nearest(by_value)
            ratios[index] = _Ratio(value, by_value.get(value, references[0]))
    return ratios


def _beyond_in_row(
    ratios: Mapping[int, _Ratio], layers: Sequence[CheckedLayer], in_blocks: set[int]
) -> dict[int, _Ratio]:
    """Those of `RUN` layers and more in a row that are beyond one bound, or at the end.

    At the end of all, fewer may still be a branch of the last block, whose like tell more; and what enters an output
    layer alone may be small for being an average over positions, which lets little of noise pass.
    """
    beyond: dict[int, _Ratio] = {}
    last = next(reversed(list(ratios)), -1)
    for side, run in groupby(ratios, lambda index: ratios[index].side):
        indices = list(run)
        if len(indices) < RUN:
            is_average = side < 0 and len(indices) == 1 and layers[indices[0]].is_output
            is_end = indices[-1] == last and not is_average
            indices = [index for index in indices if is_end and index not in in_blocks]
        if side:
            beyond |= {index: ratios[index] for index in indices}
    return beyond


def _nearest(ratios: Iterable[float]) -> float:
    """Of some ratios the one nearest to 1; 1 where it is between them."""
    given = list(ratios)
    low, high = min(given), max(given)
    return high if high < 1.0 else low if low > 1.0 else 1.0
