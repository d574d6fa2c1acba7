"""Verdicts on real models, whose layers do not form one chain; `judge` is for models where they do.

Signals and gradients bypass branches, so a layer with small ones may be fine. A layer is compared with similar layers
in other blocks and, in the order in which layers run, with the first ones.
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

#: This many consecutive layers, or all up to the last one, must be beyond a bound. Fewer may be a branch that begins
#: small and is bypassed by signals and gradients, as the query, key and value of attention are.
RUN = 4

#: The factor by which the weights of a first layer must be off before they are blamed for what the model makes of its
#: inputs.
FAR_OFF = 10.0

_BOUNDS = Thresholds()


def judge_layers(layers: Sequence[CheckedLayer], *, is_normalized: bool) -> Verdict:
    """Say what goes wrong in a model, and where, by the thresholds of `judge`.

    The signals compared are those in the inputs of layers: a branch may add little, and the right scale of outputs
    depends on the loss. Gradients are compared by their norms. Where signals are normalized, gradients are compared
    only with those of similar layers in other blocks: they grow from layer to layer (Yang et al. 2019,
    arXiv:1902.08129), and the scale of the weights compensates for it.
    """
    there, signal_drift = _judge_signals(layers, is_normalized)
    back, gradient_drift = _judge_gradients(layers, is_normalized)
    forward = sorted([*_judge_units(layers), *there], key=lambda finding: finding.layer)
    return Verdict((*forward, *back), signal_drift, gradient_drift)


def _judge_units(layers: Sequence[CheckedLayer]) -> list[Finding]:
    """Find units that are the same, dead or saturated, in each layer by itself.

    Units whose outputs or inputs are all 0 need not have the same weights. Weights that are all 0 do no harm at the end
    of a branch or of the model: later layers get other signals, and the units learn different things.
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


def _judge_signals(layers: Sequence[CheckedLayer], is_normalized: bool) -> tuple[list[Finding], float]:
    """Judge the signals in the inputs of layers; return the finding, and the drift."""
    for index, layer in enumerate(layers):
        if math.isinf(layer.statistics.std):
            return [Finding("explodes", index + 1, "signal", math.inf, layer.name)], math.inf
    after_the_first = {index: layer.entering for index, layer in enumerate(layers) if index}
    # One of the first two layers may be in a branch, and more of them if each branch has a normalization of its own.
    found, drift = _judge_course("entering", layers, after_the_first, RUN if is_normalized else 2)
    at_the_ends, gain = _judge_gains(layers)
    first = sorted([*at_the_ends, *found], key=lambda finding: finding.layer)[:1]
    return first, max((one for one in (drift, gain) if one > 0.0), default=math.nan)


def _judge_gains(layers: Sequence[CheckedLayer]) -> tuple[list[Finding], float]:
    """Judge by what factor the first layer, and the output layers, change the size of their signal.

    The first layer has the model's inputs. Its gain is the least change that all other layers see, and counts only if
    its weights are far off: inputs may be large, and later layers may normalize them. Output layers that make signals
    small are not reported: many begin so.
    """
    gains: dict[int, float] = {}
    for index, layer in enumerate(layers):
        if layer.is_output or index == len(layers) - 1:
            gains[index] = max(1.0, size_of(layer.statistics) / layer.entering) if layer.entering > 0.0 else 1.0
    first, *others = layers
    behind = [layer.entering / first.entering for layer in others if layer.entering > 0.0 < first.entering]
    if behind and first.is_off(FAR_OFF):
        gains[0] = _pick_nearest(behind)
    beyond = {index: gain for index, gain in gains.items() if _Ratio(gain, index).side}
    found = [
        Finding("vanishes" if gain < 1.0 else "explodes", index + 1, "gain", gain, layers[index].name)
        for index, gain in sorted(beyond.items())
    ]
    return found[:1], drift_of(beyond.values())


def _judge_gradients(layers: Sequence[CheckedLayer], is_normalized: bool) -> tuple[list[Finding], float]:
    """Judge the gradients of the layers before the output layers; return the finding, and the drift."""
    numbered = list(enumerate(layers))
    outputs: list[CheckedLayer] = []
    while numbered and (not outputs or numbered[-1][1].is_output):
        outputs.append(numbered.pop()[1])
    sizes = {index: layer.statistics.gradient_norm for index, layer in reversed(numbered)}
    if not any(size > 0.0 for size in sizes.values()) and any(layer.weights.std == 0.0 for layer in outputs):
        return [], math.nan  # an output layer with zero weights passes no gradient, at first
    return _judge_course("gradient", layers, sizes, 0 if is_normalized else 2)


# A course is the sizes of layers, in the order in which signals or gradients pass them.


class _Ratio(NamedTuple):
    """A size divided by that of the layer `reference`; 0 and infinity stay as they are."""

    value: float
    reference: int

    @property
    def side(self) -> int:
        """-1 below the bounds, 0 within them, 1 above them."""
        return (self.value > _BOUNDS.grow) - (self.value < _BOUNDS.shrink)


def _judge_course(
    of: str, layers: Sequence[CheckedLayer], sizes: Mapping[int, float], references: int
) -> tuple[list[Finding], float]:
    """Find the first layer whose size is beyond the bounds; return that finding, and the drift.

    The first `references` sizes are references for all layers; if there are few layers, only the first one is, since
    few layers are more likely a chain.
    """
    order = [index for index, size in sizes.items() if not math.isnan(size)]
    blocks = _group_blocks(layers, order)
    among_like: dict[int, _Ratio] = {}
    for indices in blocks:
        if any(sizes[index] for index in indices):  # otherwise a branch that begins with 0
            among_like |= _compare_sizes(sizes, indices, 1)
    in_row = _compare_sizes(sizes, order, references if len(order) >= RUN else 1) if references else {}
    beyond = {index: ratio for index, ratio in among_like.items() if ratio.side}
    beyond |= _find_runs_beyond(in_row, layers, {index for indices in blocks for index in indices})
    findings: list[Finding] = []
    for index in order:
        if index in beyond and not findings:
            value, reference = beyond[index]
            word = "vanishes" if value < 1.0 else "explodes"
            findings.append(Finding(word, index + 1, of, value, layers[index].name, reference + 1))
    counted = [ratio.value for ratio in beyond.values()]
    counted += [
        _pick_nearest([one[index].value for one in (in_row, among_like) if index in one])
        for index in {**in_row, **among_like}
        if index not in beyond and not (index in in_row and in_row[index].side)  # bypassed layers do not count
    ]
    return findings, drift_of(counted)


def _group_blocks(layers: Sequence[CheckedLayer], order: Sequence[int]) -> list[list[int]]:
    """Group layers of the same shape whose names differ only in the block number; at least two each."""
    alike: dict[object, list[int]] = {}
    for index in order:
        alike.setdefault((without_block(layers[index].name), layers[index].weights.shape), []).append(index)
    return [indices for indices in alike.values() if len(indices) > 1]


def _compare_sizes(sizes: Mapping[int, float], order: Sequence[int], count: int) -> dict[int, _Ratio]:
    """Divide each size by the closest of the first `count` sizes that are neither 0 nor infinite."""
    references = [index for index in order if 0.0 < sizes[index] < math.inf][:count] or list(order[:1])
    ratios = {}
    for index in order:
        if sizes[index] in (0.0, math.inf):
            ratios[index] = _Ratio(sizes[index], references[0])
        else:
            by_value = {sizes[index] / sizes[reference]: reference for reference in reversed(references)}
            value = _pick_nearest(by_value)
            ratios[index] = _Ratio(value, by_value.get(value, references[0]))
    return ratios


def _find_runs_beyond(
    ratios: Mapping[int, _Ratio], layers: Sequence[CheckedLayer], in_blocks: set[int]
) -> dict[int, _Ratio]:
    """Find runs of layers beyond one bound: at least `RUN` consecutive ones, or fewer at the end.

    A short run at the end does not count for layers in blocks: it may be a branch of the last block, and the other
    blocks tell more. Nor does a small signal in the inputs of a single output layer: these may be an average over
    positions, which lets little noise pass.
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


def _pick_nearest(ratios: Iterable[float]) -> float:
    """The ratio closest to 1, or 1 itself if it lies between them."""
    given = list(ratios)
    low, high = min(given), max(given)
    return high if high < 1.0 else low if low > 1.0 else 1.0
