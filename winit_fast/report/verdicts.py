"""Verdicts: from what was measured of each layer to what goes wrong, and where.

They know nothing of how it was measured, so that any model can be judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from winit_fast.report.measurement import LayerStatistics, gradient_of, size_of

__all__ = ["Finding", "Thresholds", "Verdict", "drift_of", "judge"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where stable ends.

    Attributes
    ----------
    shrink, grow : float
        The signal of a layer as a part of the first layer's, and its gradient's norm as a part of the last layer's.
        10^±2 in standard deviation is far beyond chance: the logarithm of the square of a signal in a stack of relu
        layers with He's weights wanders by sqrt(5 depth / width) (Hanin and Nica 2018, arXiv:1812.05994), so that
        10^±4 in the square is 5 of these standard deviations at depth = width / 2. Narrower and deeper stacks do vanish
        or explode by chance, and are told so. A signal that fades only in proportion to 1 / depth, as relu's with He's
        weights does while the outputs for all inputs become alike (Hayou, Doucet and Rousseau 2019, arXiv:1902.06853),
        takes 600 layers to get there; one that halves takes 8.
    spread : float
        Units that differ by less than this part of their root mean square are the same. What float32 rounds off makes
        units with the same weights differ by about 1e-7; random weights make them differ by about 1.
    dead : float
        The part of a layer's units that may be dead. Half of them may be where all inputs have become alike.
    saturated : float
        The part of units and inputs that may be saturated.

    Examples
    --------
    >>> Thresholds(shrink=0.1)
    Thresholds(shrink=0.1, grow=100.0, spread=1e-05, dead=0.95, saturated=0.5)
    """

    shrink: float = 1e-2
    grow: float = 1e2
    spread: float = 1e-5
    dead: float = 0.95
    saturated: float = 0.5


class Finding(NamedTuple):
    """Something that goes wrong, and the first layer where it does (the last one for a gradient, which goes back).

    Attributes
    ----------
    word : str
        ``symmetric``, ``dead``, ``saturates``, ``vanishes`` or ``explodes``.
    layer : int
        Which, counted from 1.
    of : str
        ``units``, ``signal`` or ``gradient``; of a checked model ``entering``, the signal that enters a layer, or
        ``gain``, what a layer makes of it.
    value : float
        What crossed the threshold.
    name : str
        The layer's, where it has one.
    reference : int
        The layer that a signal or a gradient is compared with; 0 for units.

    Examples
    --------
    >>> print(Finding("vanishes", 12, "gradient", 0.0093))
    gradient vanishes at layer 12
    """

    word: str
    layer: int
    of: str
    value: float
    name: str = ""
    reference: int = 0

    def __str__(self) -> str:
        return f"{'gradient ' if self.of == 'gradient' else ''}{self.word} at layer {self.layer}"

    @property
    def reason(self) -> str:
        """What was measured there, in words.

        Examples
        --------
        >>> Finding("vanishes", 12, "gradient", 0.0093, reference=50).reason
        "its gradient is 0.0093 of layer 50's"
        """
        if self.word == "symmetric":
            return f"its units differ by {self.value:.2g} of their size: they compute the same and will learn the same"
        if self.word == "dead":
            return f"{self.value:.0%} of its units have slope 0 for every input: they will not learn"
        if self.word == "saturates":
            return f"{self.value:.0%} of its activations are where the slope is below a tenth of the largest"
        if self.of == "entering":
            if self.value == 0.0:
                return "what enters it is the same for all inputs"
            return f"the signal that enters it is {self.value:.2g} of that which enters layer {self.reference}"
        if self.of == "gain":
            return f"it makes the signal {self.value:.2g} times as large"
        if self.value == 0.0:
            return "its gradient is 0" if self.of == "gradient" else "its outputs are the same for all inputs"
        if math.isinf(self.value):
            return f"its {self.of} is not finite"
        return f"its {self.of} is {self.value:.2g} of layer {self.reference}'s"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `judge` says of a stack of layers.

    Attributes
    ----------
    findings : tuple of Finding
        The most telling first: those of the way forward, in the order in which they happen, then that of the gradient.
        None where the stack is stable.
    signal_drift, gradient_drift : float
        By how many times the signal, or the gradient, is away from what it is compared with, either way, in the layer
        where it is farthest: 1 where every layer has the same. nan where it was not measured.
    """

    findings: tuple[Finding, ...] = ()
    signal_drift: float = math.nan
    gradient_drift: float = math.nan

    @property
    def drift(self) -> float:
        """The larger one of both drifts.

        Examples
        --------
        >>> Verdict(signal_drift=3.0, gradient_drift=1.5).drift
        3.0
        """
        return max((drift for drift in (self.signal_drift, self.gradient_drift) if drift > 0.0), default=math.nan)

    @property
    def word(self) -> str:
        """``stable``, or the first finding's: ``symmetric``, ``dead``, ``saturates``, ``vanishes``, ``explodes``."""
        return self.findings[0].word if self.findings else "stable"

    @property
    def layer(self) -> int | None:
        """Where the first finding happens, counted from 1; None where the stack is stable."""
        return self.findings[0].layer if self.findings else None

    def __str__(self) -> str:
        if not self.findings:
            return "stable"
        first = self.findings[0]
        # What comes of the first finding is not said: of units that are the same, or of a gradient that fades likewise.
        more = [one for one in self.findings if one.of == "gradient" and first.word not in ("symmetric", one.word)]
        return ", ".join(map(str, [first, *(one for one in more if one is not first)]))


def judge(layers: Sequence[LayerStatistics], thresholds: Thresholds = Thresholds()) -> Verdict:
    """Say whether a stack of layers is stable, or what goes wrong in it and where.

    Parameters
    ----------
    layers : sequence of LayerStatistics
        Of any model, from the first layer to the last, by `layer_statistics` or made by hand. What is nan is passed
        over; where a signal is nan (a single input), `std` takes its place, as does `gradient_std` that of a norm.
    thresholds : Thresholds, optional

    Returns
    -------
    Verdict
        Its findings, each at most once: the units of a layer are all the same (``symmetric``); more than 95 % of them
        learn nothing (``dead``); more than half of the activations are saturated (``saturates``); the signal is beyond
        `shrink` or `grow` of the first layer's, or 0 (``vanishes``, ``explodes``); the gradient is beyond them of the
        last layer's, or 0. They are ordered by layer, at the same layer as in this list, and the gradient's stands
        behind the others.

        A signal is 0 where outputs are the same for all inputs, up to `spread` of their size. A layer with signal 0, or
        gradient 0, is passed over where the layers behind it have one: they get it by another way, as around the branch
        of a residual block whose last weights are 0 at first.

    Examples
    --------
    >>> fading = [LayerStatistics(signal=2.0**-layer, gradient_std=1.0) for layer in range(20)]
    >>> verdict = judge(fading)
    >>> print(verdict)
    vanishes at layer 8
    >>> verdict.word, verdict.layer, verdict.findings[0].reason
    ('vanishes', 8, "its signal is 0.0078 of layer 1's")
    >>> verdict = judge(fading[:4])
    >>> print(f"{verdict}, within {verdict.drift:.0f} times")
    stable, within 8 times
    """
    signals = [_signal(layer, thresholds) for layer in layers]
    gradients = [gradient_of(layer) for layer in layers]
    there, back = _passed(signals, range(len(layers))), _passed(gradients, range(len(layers) - 1, -1, -1))
    is_passed_by = [signal == 0.0 and index not in there for index, signal in enumerate(signals)]
    alike = [layer.spread <= thresholds.spread and not by for layer, by in zip(layers, is_passed_by, strict=True)]
    forward = [
        *_first("symmetric", alike, "spread", layers),
        *_first("dead", [layer.dead > thresholds.dead for layer in layers], "dead", layers),
        *_first("saturates", [layer.saturated > thresholds.saturated for layer in layers], "saturated", layers),
    ]
    ratios_there, ratios_back = _ratios(signals, there), _ratios(gradients, back)
    forward += _beyond(ratios_there, there, "signal", layers, thresholds)
    gradient = _beyond(ratios_back, back, "gradient", layers, thresholds)
    return Verdict(
        (*sorted(forward, key=lambda finding: finding.layer), *gradient), drift_of(ratios_there), drift_of(ratios_back)
    )


def _first(word: str, found: Sequence[bool], what: str, layers: Sequence[LayerStatistics]) -> list[Finding]:
    """The first layer where it was found, and what was measured there."""
    if True not in found:
        return []
    layer = layers[found.index(True)]
    return [Finding(word, found.index(True) + 1, "units", getattr(layer, what), layer.name)]


def _signal(layer: LayerStatistics, thresholds: Thresholds) -> float:
    """A layer's signal; 0 where its outputs are the same for all inputs but for what is rounded off."""
    size = size_of(layer)
    return 0.0 if size < math.inf and size <= thresholds.spread * math.hypot(layer.mean, layer.std) else size


def _passed(sizes: Sequence[float], order: Sequence[int]) -> list[int]:
    """The layers that all of the signal passes, in this order.

    Not those that were not measured, nor a layer of size 0 with others behind it that are not: it is passed by, as a
    branch is whose last weights are 0 at first.
    """
    reached = [index for index in order if sizes[index] > 0.0]
    last = order.index(reached[-1]) if reached else -1
    return [index for place, index in enumerate(order) if sizes[index] > 0.0 or (sizes[index] == 0.0 and place > last)]


def _ratios(sizes: Sequence[float], order: Sequence[int]) -> list[float]:
    """Each size as a part of the first one in this order; 0 and infinity as they are."""
    return [sizes[index] if sizes[index] in (0.0, math.inf) else sizes[index] / sizes[order[0]] for index in order]


def drift_of(ratios: Iterable[float]) -> float:
    """How many times the ratio farthest from 1 is away from it; nan where there is none.

    Examples
    --------
    >>> drift_of([1.0, 0.25, 2.0])
    4.0
    """
    return max((math.inf if ratio == 0.0 else max(ratio, 1.0 / ratio) for ratio in ratios), default=math.nan)


def _beyond(
    ratios: Sequence[float], order: Sequence[int], of: str, layers: Sequence[LayerStatistics], thresholds: Thresholds
) -> list[Finding]:
    """The first layer in this order whose size has left the bounds around that of the first one."""
    for ratio, index in zip(ratios, order, strict=True):
        if ratio == 0.0 or ratio < thresholds.shrink or ratio > thresholds.grow:
            word = "vanishes" if ratio < 1.0 else "explodes"
            return [Finding(word, index + 1, of, ratio, layers[index].name, order[0] + 1)]
    return []
