"""Observing a model while it runs: what an adapter measures in its layers, and collects.

Nothing here depends on a framework: an adapter watches its model, and passes arrays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winit_fast.check.layer import CheckedLayer, Weights
from winit_fast.report.activations import ACTIVATIONS
from winit_fast.report.measurement import LayerStatistics, layer_statistics, size_of, with_gradients
from winit_fast.report.verdicts import Thresholds

__all__ = [
    "Observed",
    "Use",
    "is_norm",
    "measure_after_activation",
    "measure_before_activation",
    "measure_outputs",
    "measure_signal",
    "sample_rows",
    "scale_weights",
]


@dataclass(eq=False, slots=True)
class Use:
    """One use of a layer: its statistics after the layer or, once it is seen, after its activation; gradients at both.

    Attributes
    ----------
    layer : CheckedLayer
    axis : int
        The axis of the units in the layer's output.
    has_activation : bool
        Whether its activation was seen.
    points : int
        The number of points where it was measured: after the layer, after the activation.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.check import CheckedLayer, LayerStatistics, Use, Weights, measure_outputs
    >>> weights = Weights("layer.weight", (2, 2), 0.5, 1, 0)
    >>> use = Use(CheckedLayer("layer", "Linear", "", weights, LayerStatistics()), axis=-1)
    >>> point = use.measure(measure_outputs(np.array([[1.0, 5.0], [3.0, 5.0]])))
    >>> use.take_gradient(np.array([[2.0, 2.0]]), count=4, point=point)
    >>> use.layer.statistics.mean, use.layer.statistics.gradient_norm, use.layer.statistics.name
    (3.5, 4.0, 'layer')
    """

    layer: CheckedLayer
    axis: int
    has_activation: bool = False
    points: int = 0
    _activation: tuple[str, float | None, LayerStatistics] | None = None  # that is being computed

    def measure(self, statistics: LayerStatistics) -> int:
        """Replace the statistics, and return the number of the point where they were measured."""
        self.layer = replace(self.layer, statistics=statistics._replace(name=self.layer.name))
        self.points += 1
        return self.points - 1

    def enter_activation(self, activation: str, slope: float | None, pre_activations: NDArray[Any]) -> None:
        """Record an activation before it is computed, which may be in place."""
        self._activation = activation, slope, measure_before_activation(pre_activations, activation)

    def leave_activation(self, outputs: NDArray[Any]) -> int:
        """Record what the activation made, and return the number of the point where it was measured."""
        assert self._activation is not None
        activation, slope, before = self._activation
        return self.meet_activation(activation, slope, measure_after_activation(before, outputs))

    def meet_activation(self, activation: str, slope: float | None, statistics: LayerStatistics) -> int:
        """Record the activation's name and negative slope, and the statistics after it."""
        self.layer, self.has_activation = replace(self.layer, activation=activation, slope=slope), True
        return self.measure(statistics)

    def take_gradient(self, gradients: NDArray[Any], count: int, point: int) -> None:
        """Add the gradient at one of the points; the last point is after the activation."""
        statistics = _with_gradients(self.layer.statistics, gradients, count, is_behind=point == self.points - 1)
        self.layer = replace(self.layer, statistics=statistics)

    def mark_output(self) -> None:
        """Record that the layer's outputs reach the model's outputs without passing another layer."""
        self.layer = replace(self.layer, is_output=True)


class Observed:
    """What was seen of a model while it ran; adapters subclass it to watch their models.

    Attributes
    ----------
    uses : list of Use
        In the order in which layers ran.

    Examples
    --------
    >>> from winit_fast.check import Observed
    >>> observed = Observed()
    >>> observed.note_normalization()
    >>> observed.layers, observed.is_normalized
    ((), False)
    """

    def __init__(self) -> None:
        super().__init__()  # a subclass may also be a mode of its framework
        self.uses: list[Use] = []
        self._normalized_after: set[int] = set()  # the number of uses before each normalization
        self._counts: dict[int, int] = {}  # of the uses of each layer

    def add_use(self, layer: object, name: str, weights: Weights, axis: int, inputs: NDArray[Any] | None) -> Use:
        """Record a use of a layer, whose name is numbered from the second on, and the signal that enters it."""
        number = self._counts[id(layer)] = self._counts.get(id(layer), 0) + 1
        name = name if number == 1 else f"{name} (use {number})"
        entering = math.nan if inputs is None else measure_signal(inputs)
        use = Use(CheckedLayer(name, type(layer).__name__, "", weights, LayerStatistics(), entering=entering), axis)
        self.uses.append(use)
        return use

    @property
    def layers(self) -> tuple[CheckedLayer, ...]:
        """The layers, once for every use."""
        return tuple(use.layer for use in self.uses)

    def note_normalization(self) -> None:
        """Record that signals are normalized here."""
        self._normalized_after.add(len(self.uses))

    @property
    def is_normalized(self) -> bool:
        """Whether signals are normalized at least twice between the first use and the last."""
        return _is_normalized(self._normalized_after, len(self.uses))


#: Of larger outputs only some rows are measured: those of a language model's head may be as large as the model.
MOST_VALUES = 1 << 24


def sample_rows(rows: Any) -> Any:
    """Take rows of an array or tensor at equal distances, so that about `MOST_VALUES` numbers are left at most.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.check import sample_rows
    >>> sample_rows(np.empty((6, 4), "int8")).shape, sample_rows(np.empty((1 << 14, 1 << 12), "int8")).shape
    ((6, 4), (4096, 4096))
    """
    return rows[:: max(1, math.prod(rows.shape) // MOST_VALUES)]


def measure_before_activation(pre_activations: NDArray[Any], activation: str) -> LayerStatistics:
    """Measure what must be measured before the activation, which may work in place: moments, dead and saturated units.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.check import measure_before_activation
    >>> measure_before_activation(np.array([[-1.0, 5.0], [-2.0, 7.0]]), "relu").dead
    0.5
    """
    known = ACTIVATIONS.get(activation)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # infinities are part of what is measured
        slopes = is_saturated = None
        if known is not None and np.isfinite(pre_activations).all():
            slopes = known(pre_activations.astype(np.float64))[1]
            is_saturated = known.is_saturated(slopes)
        both = layer_statistics(None, pre_activations, slopes=slopes, is_saturated=is_saturated)
    return LayerStatistics(
        pre_mean=both.mean, pre_std=both.std, spread=both.spread, dead=both.dead, saturated=both.saturated
    )


def measure_after_activation(before: LayerStatistics, outputs: NDArray[Any]) -> LayerStatistics:
    """Complete the statistics of a layer, with what `measure_before_activation` returned.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.check import measure_after_activation, measure_before_activation
    >>> pre = np.array([[-1.0, 5.0], [-2.0, 7.0]])
    >>> measured = measure_after_activation(measure_before_activation(pre, "relu"), np.maximum(pre, 0.0))
    >>> print(f"{measured.pre_std:.3f}, {measured.std:.3f}, {measured.dead}")
    3.832, 3.082, 0.5
    """
    after = layer_statistics(None, outputs)
    return before._replace(
        mean=after.mean, std=after.std, signal=after.signal, spread=float(np.fmax(before.spread, after.spread))
    )


def measure_outputs(outputs: NDArray[Any]) -> LayerStatistics:
    """Measure a layer without an activation: its outputs are its pre-activations.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.check import measure_outputs
    >>> measured = measure_outputs(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> measured.pre_mean, measured.mean, measured.pre_std == measured.std
    (3.5, 3.5, True)
    """
    measured = layer_statistics(None, outputs)
    return measured._replace(pre_mean=measured.mean, pre_std=measured.std)


def measure_signal(inputs: NDArray[Any]) -> float:
    """Measure the signal that enters a layer; 0 if its inputs are all the same, up to rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.check import measure_signal
    >>> measure_signal(np.array([[1.0, 4.0], [3.0, 2.0]])), measure_signal(np.array([[1.0, 5.0], [1.0, 5.0]]))
    (1.0, 0.0)
    """
    measured = layer_statistics(None, inputs)
    size = size_of(measured)
    return 0.0 if size < Thresholds().spread * math.hypot(measured.mean, measured.std) < math.inf else size


def scale_weights(output: Any, bias: Any, axis: int, factor: float) -> Any:
    """What a layer would return if its weights were multiplied by a factor, and its bias, if any, was the same.

    Arrays of any framework; `axis` is that of the units, counted from the end.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.check import scale_weights
    >>> scale_weights(np.array([[3.0, 5.0]]), np.array([1.0, 2.0]), -1, 2.0).tolist()
    [[5.0, 8.0]]
    """
    if bias is None:
        return output * factor
    added = bias[(..., *[None] * (-1 - axis))]
    return (output - added) * factor + added


def is_norm(name: str) -> bool:
    """Whether a class name is that of a layer that normalizes signals, as opposed to weights.

    Examples
    --------
    >>> from winit_fast.check import is_norm
    >>> [is_norm(name) for name in ("LlamaRMSNorm", "BatchNorm2d", "UnitNormalization", "NormalHead", "_SpectralNorm")]
    [True, True, True, False, False]
    """
    others = r"^_|^LocalResponse|^Spectral|^Weight"  # local response normalization only damps units by their neighbours
    return re.search(others, name) is None and re.search(r"Norm(alization|Act|Gated)?\d*[dD]?$", name) is not None


def _with_gradients(
    statistics: LayerStatistics, gradients: NDArray[Any], count: int, *, is_behind: bool
) -> LayerStatistics:
    """Add a gradient to the statistics of a layer: before its activation or, if `is_behind`, after it.

    The norm kept is the larger one. It is the one before the activation where the layer's outputs also bypass the
    activation, as in residual blocks that begin with one. `gradients` are a sample of `count` values.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.check import LayerStatistics
    >>> in_front = _with_gradients(LayerStatistics(), np.array([[4.0] * 4]), 4, is_behind=False)
    >>> measured = _with_gradients(in_front, np.array([[2.0] * 4]), 4, is_behind=True)
    >>> measured.gradient_std, measured.gradient_norm
    (2.0, 8.0)
    """
    measured = with_gradients(statistics, gradients, count)
    norm = float(np.fmax(statistics.gradient_norm, measured.gradient_norm))
    return (measured if is_behind else statistics)._replace(gradient_norm=norm)


def _is_normalized(normalized_after: Collection[int], uses: int) -> bool:
    """Whether signals are normalized at least twice between the first and the last use of a layer.

    `normalized_after` holds, for each normalization, the number of uses before it.

    Examples
    --------
    >>> _is_normalized({0, 2, 4}, 4), _is_normalized({1, 2}, 4)
    (False, True)
    """
    return sum(0 < number < uses for number in normalized_after) >= 2
