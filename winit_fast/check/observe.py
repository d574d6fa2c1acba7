"""Observing a model while it runs: what an adapter measures of its layers, and gathers.

This knows no framework: an adapter watches its model, and hands over arrays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winit_fast.check.layer import CheckedLayer
from winit_fast.report.activations import ACTIVATIONS
from winit_fast.report.measurement import LayerStatistics, layer_statistics, size_of, with_gradients
from winit_fast.report.verdicts import Thresholds

__all__ = [
    "Observed",
    "Use",
    "after_activation",
    "before_activation",
    "entering",
    "is_norm",
    "sampled",
    "without_activation",
]


@dataclass(eq=False, slots=True)
class Use:
    """One use of a layer: measured at its output until its activation is met, and gradients in both places.

    Attributes
    ----------
    layer : CheckedLayer
    axis : int
        Of the units, in the layer's output.
    has_activation : bool
        Whether its activation was met.
    places : int
        In how many places it was measured.

    Examples
    --------
    >>> from winit_fast.check import Weights
    >>> weights = Weights("layer.weight", (2, 2), 0.5, 1, 0)
    >>> use = Use(CheckedLayer("layer", "Linear", "", weights, LayerStatistics()), axis=-1)
    >>> place = use.measure(without_activation(np.array([[1.0, 5.0], [3.0, 5.0]])))
    >>> use.take_gradient(np.array([[2.0, 2.0]]), count=4, place=place)
    >>> use.layer.statistics.mean, use.layer.statistics.gradient_norm, use.layer.statistics.name
    (3.5, 4.0, 'layer')
    """

    layer: CheckedLayer
    axis: int
    has_activation: bool = False
    places: int = 0

    def measure(self, statistics: LayerStatistics) -> int:
        """Take these statistics in place of those before; the number of the place where they were measured."""
        self.layer = replace(self.layer, statistics=statistics._replace(name=self.layer.name))
        self.places += 1
        return self.places - 1

    def meet_activation(self, activation: str, slope: float | None, statistics: LayerStatistics) -> int:
        """Take the statistics behind the activation, and its name and negative slope."""
        self.layer, self.has_activation = replace(self.layer, activation=activation, slope=slope), True
        return self.measure(statistics)

    def take_gradient(self, gradients: NDArray[Any], count: int, place: int) -> None:
        """Add the gradient in one of these places, of which the last one is behind the activation."""
        statistics = _with_gradients(self.layer.statistics, gradients, count, is_behind=place == self.places - 1)
        self.layer = replace(self.layer, statistics=statistics)

    def mark_output(self) -> None:
        """Say that what the layer hands on reaches the model's outputs by no other layer."""
        self.layer = replace(self.layer, is_output=True)


class Observed:
    """What was seen of a model while it ran: adapters derive what watches one from this.

    Attributes
    ----------
    uses : list of Use
        In the order in which layers ran.

    Examples
    --------
    >>> observed = Observed()
    >>> observed.note_normalization()
    >>> observed.layers, observed.is_normalized
    ((), False)
    """

    def __init__(self) -> None:
        super().__init__()  # of a mode of the framework's, which what watches may be too
        self.uses: list[Use] = []
        self._normalized_after: set[int] = set()  # so many uses

    @property
    def layers(self) -> tuple[CheckedLayer, ...]:
        """The layers, once for every use."""
        return tuple(use.layer for use in self.uses)

    def note_normalization(self) -> None:
        """Signals are normalized here."""
        self._normalized_after.add(len(self.uses))

    @property
    def is_normalized(self) -> bool:
        """Whether that is so in two places or more between the first use and the last."""
        return _is_normalized(self._normalized_after, len(self.uses))


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


def _with_gradients(
    statistics: LayerStatistics, gradients: NDArray[Any], count: int, *, is_behind: bool
) -> LayerStatistics:
    """The statistics of a layer with its gradient in front of its activation or, `is_behind`, behind it.

    The norm is the larger one: in front, where what the layer hands on goes around its activation as well, as in
    residual blocks that begin with one. `gradients` are a sample of `count`.

    Examples
    --------
    >>> in_front = _with_gradients(LayerStatistics(), np.array([[4.0] * 4]), 4, is_behind=False)
    >>> measured = _with_gradients(in_front, np.array([[2.0] * 4]), 4, is_behind=True)
    >>> measured.gradient_std, measured.gradient_norm
    (2.0, 8.0)
    """
    measured = with_gradients(statistics, gradients, count)
    norm = float(np.fmax(statistics.gradient_norm, measured.gradient_norm))
    return (measured if is_behind else statistics)._replace(gradient_norm=norm)


def _is_normalized(normalized_after: Collection[int], uses: int) -> bool:
    """Whether signals are normalized in two places or more between the first of so many uses of layers and the last.

    `normalized_after` is how many uses had been seen at each normalization.

    Examples
    --------
    >>> _is_normalized({0, 2, 4}, 4), _is_normalized({1, 2}, 4)
    (False, True)
    """
    return sum(0 < number < uses for number in normalized_after) >= 2
