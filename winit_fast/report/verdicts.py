"""Verdicts: from what was measured in each layer to what goes wrong, and where.

They do not depend on how it was measured, so any model can be judged.
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
    """The limits of what is called stable.

    Attributes
    ----------
    shrink, grow : float
        Limits of a layer's signal relative to the first layer's, and of its gradient's norm relative to the last
        layer's. Factors of 10^±2 in standard deviation are far beyond chance. In a stack of relu layers with He's
        weights, the logarithm of the squared signal has a standard deviation of sqrt(5 depth / width) (Hanin and Nica
        2018, arXiv:1812.05994), so 10^±4 in the square is 5 standard deviations at depth = width / 2. In narrower and
        deeper stacks, signals do vanish or explode by chance, and this is reported. With relu and He's weights the
        signal fades only like 1 / depth, as the outputs for all inputs become alike (Hayou, Doucet and Rousseau 2019,
        arXiv:1902.06853): this takes 600 layers to reach the limit. A signal that halves in each layer takes 8.
    spread : float
        Units that differ by less than this fraction of their root mean square count as the same. Rounding in float32
        makes units with the same weights differ by about 1e-7; random weights make them differ by about 1.
    dead : float
        The fraction of a layer's units that may be dead. It may be a half where all inputs have become alike.
    saturated : float
        The fraction of units and inputs that may be saturated.

    Examples
    --------
    >>> from winit_fast.report import Thresholds
    >>> Thresholds(shrink=0.1)
    Thresholds(shrink=0.1, grow=100.0, spread=1e-05, dead=0.95, saturated=0.5)
    """

    shrink: float = 1e-2
    grow: float = 1e2
    spread: float = 1e-5
    dead: float = 0.95
    saturated: float = 0.5


class Finding(NamedTuple):
    """Something that goes wrong, and the first layer where it does (for a gradient the first one on its way back).

    Attributes
    ----------
    word : str
        ``symmetric``, ``dead``, ``saturates``, ``vanishes`` or ``explodes``.
    layer : int
        The number of the layer, counted from 1.
    of : str
        ``units``, ``signal`` or ``gradient``; in a checked model also ``entering``, the signal in a layer's inputs, or
        ``gain``, the factor by which a layer changes it.
    value : float
        The value that crossed the threshold.
    name : str
        The layer's name, if it has one.
    reference : int
        The number of the layer that a signal or a gradient is compared with; 0 for units.

    Examples
    --------
    >>> from winit_fast.report import Finding
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
        """What was measured in that layer, in words.

        Examples
        --------
        >>> from winit_fast.report import Finding
        >>> Finding("vanishes", 12, "gradient", 0.0093, reference=50).reason
        "its gradient is 0.0093 of layer 50's"
        """
        if self.word == "symmetric":
            return f"its units differ by {self.value:.2g} of their size: they compute the same and will learn the same"
        if self.word == "dead":
            return f"{self.value:.0%} of its units have slope 0 for every input: they will not learn"
        if self.word == "saturates":
            return f"{self.value:.0%} of its activations have a slope below a tenth of the largest"
        if self.of == "entering":
            if self.value == 0.0:
                return "its inputs are the same for all inputs of the model"
            return f"the signal in its inputs is {self.value:.2g} of that in the inputs of layer {self.reference}"
        if self.of == "gain":
            return f"it multiplies the signal by {self.value:.2g}"
        if self.value == 0.0:
            return "its gradient is 0" if self.of == "gradient" else "its outputs are the same for all inputs"
        if math.isinf(self.value):
            return f"its {self.of} is not finite"
        return f"its {self.of} is {self.value:.2g} of layer {self.reference}'s"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `judge` says about a stack of layers.

    Attributes
    ----------
    findings : tuple of Finding
        Those of the forward pass first, in the order in which they happen, then that of the gradient. Empty if the
        stack is stable.
    signal_drift, gradient_drift : float
        The largest ratio of the signal, or of the gradient, to that of the reference layer, in either direction: 1 if
        it is the same in every layer. nan if it was not measured.
    """

    findings: tuple[Finding, ...] = ()
    signal_drift: float = math.nan
    gradient_drift: float = math.nan

    @property
    def drift(self) -> float:
        """The larger of the two drifts.

        Examples
        --------
        >>> from winit_fast.report import Verdict
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
        """The number of the layer with the first finding, counted from 1; None if the stack is stable."""
        return self.findings[0].layer if self.findings else None

    def __str__(self) -> str:
        if not self.findings:
            return "stable"
        first = self.findings[0]
        # Consequences of the first finding are left out: those of equal units, and a gradient with the same word.
        more = [one for one in self.findings if one.of == "gradient" and first.word not in ("symmetric", one.word)]
        return ", ".join(map(str, [first, *(one for one in more if one is not first)]))


def judge(layers: Sequence[LayerStatistics], thresholds: Thresholds = Thresholds()) -> Verdict:
    """Say whether a stack of layers is stable, or what goes wrong in it and where.

    Parameters
    ----------
    layers : sequence of LayerStatistics
        The layers of any model, from the first to the last, made by `layer_statistics` or by hand. Values that are nan
        are ignored. If a signal is nan (a single input), `std` is used instead; if a norm is, `gradient_std`.
    thresholds : Thresholds, optional

    Returns
    -------
    Verdict
        Its findings, each at most once:

        * all units of a layer are the same (``symmetric``);
        * more than 95 % of the units do not learn (``dead``);
        * more than half of the activations are saturated (``saturates``);
        * the signal, relative to the first layer's, is below `shrink`, above `grow`, or 0 (``vanishes``,
          ``explodes``);
        * the same for the gradient, relative to the last layer's.

        They are ordered by layer, and within a layer as in this list; the gradient's comes last.

        A signal is 0 if the outputs are the same for all inputs, up to `spread` of their size. A layer with signal 0,
        or gradient 0, is ignored if later layers (for gradients: earlier ones) have one. They get it by another path,
        such as around the branch of a residual block whose last weights are 0 at first.

    Examples
    --------
    >>> from winit_fast.check import LayerStatistics
    >>> from winit_fast.report import judge
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
    signals = [_measure_signal(layer, thresholds) for layer in layers]
    gradients = [gradient_of(layer) for layer in layers]
    there, back = _find_path(signals, range(len(layers))), _find_path(gradients, range(len(layers) - 1, -1, -1))
    is_passed_by = [signal == 0.0 and index not in there for index, signal in enumerate(signals)]
    alike = [layer.spread <= thresholds.spread and not by for layer, by in zip(layers, is_passed_by, strict=True)]
    forward = [
        *_find_first("symmetric", alike, "spread", layers),
        *_find_first("dead", [layer.dead > thresholds.dead for layer in layers], "dead", layers),
        *_find_first("saturates", [layer.saturated > thresholds.saturated for layer in layers], "saturated", layers),
    ]
    ratios_there, ratios_back = _compare_sizes(signals, there), _compare_sizes(gradients, back)
    forward += _find_beyond(ratios_there, there, "signal", layers, thresholds)
    gradient = _find_beyond(ratios_back, back, "gradient", layers, thresholds)
    return Verdict(
        (*sorted(forward, key=lambda finding: finding.layer), *gradient), drift_of(ratios_there), drift_of(ratios_back)
    )


def _find_first(word: str, found: Sequence[bool], what: str, layers: Sequence[LayerStatistics]) -> list[Finding]:
    """Find the first layer where `found` is true, and what was measured there."""
    if True not in found:
        return []
    layer = layers[found.index(True)]
    return [Finding(word, found.index(True) + 1, "units", getattr(layer, what), layer.name)]


def _measure_signal(layer: LayerStatistics, thresholds: Thresholds) -> float:
    """Measure a layer's signal; 0 if its outputs are the same for all inputs, up to rounding."""
    size = size_of(layer)
    return 0.0 if size < math.inf and size <= thresholds.spread * math.hypot(layer.mean, layer.std) else size


def _find_path(sizes: Sequence[float], order: Sequence[int]) -> list[int]:
    """Find the layers that the whole signal passes, in this order.

    Layers that were not measured are left out. So is a layer of size 0 if later ones are larger: the signal bypasses
    it, as it does a branch whose last weights are 0 at first.
    """
    last = max((position for position, index in enumerate(order) if sizes[index] > 0.0), default=-1)
    return [
        index for position, index in enumerate(order) if sizes[index] > 0.0 or (sizes[index] == 0.0 and position > last)
    ]


def _compare_sizes(sizes: Sequence[float], order: Sequence[int]) -> list[float]:
    """Divide each size by the first one in this order; 0 and infinity stay as they are."""
    return [sizes[index] if sizes[index] in (0.0, math.inf) else sizes[index] / sizes[order[0]] for index in order]


def drift_of(ratios: Iterable[float]) -> float:
    """The largest of these ratios and their inverses; nan if there are none.

    Examples
    --------
    >>> drift_of([1.0, 0.25, 2.0])
    4.0
    """
    return max((math.inf if ratio == 0.0 else max(ratio, 1.0 / ratio) for ratio in ratios), default=math.nan)


def _find_beyond(
    ratios: Sequence[float], order: Sequence[int], of: str, layers: Sequence[LayerStatistics], thresholds: Thresholds
) -> list[Finding]:
    """Find the first layer in this order whose ratio to the first one is beyond the thresholds."""
    for ratio, index in zip(ratios, order, strict=True):
        if ratio == 0.0 or ratio < thresholds.shrink or ratio > thresholds.grow:
            word = "vanishes" if ratio < 1.0 else "explodes"
            return [Finding(word, index + 1, of, ratio, layers[index].name, order[0] + 1)]
    return []
