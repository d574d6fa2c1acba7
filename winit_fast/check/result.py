"""Checks of real models: what was measured in their layers, what it means, and what would be better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from winit_fast.check.judge import judge_layers
from winit_fast.check.layer import CheckedLayer
from winit_fast.check.observe import Observed
from winit_fast.check.text import format_conclusion, format_table
from winit_fast.recommend import Recommendation
from winit_fast.report.verdicts import Verdict

__all__ = ["Check", "check_model"]

#: The factor by which the standard deviation of weights may differ from the recommended one. xavier_normal, where relu
#: needs he_normal, differs by 1.41 in square layers. In models that are not stable the factor is smaller: he_normal
#: without the gains of gelu and silu differs by 1.08 and 1.19. Layers without an activation get a suggestion only
#: beyond a factor of 2.
TOLERANCE = 1.25
TOLERANCE_UNSTABLE = 1.05
TOLERANCE_WITHOUT_ACTIVATION = 2.0

#: When suggestions are tried, they must reduce the drift by these fractions of its logarithm and of itself. A smaller
#: improvement may be chance, and reversed with another seed.
IMPROVEMENT_OF_LOGARITHM = 0.25
IMPROVEMENT = 0.1

_AnyCheck = TypeVar("_AnyCheck", bound="Check")


def check_model(
    make: Callable[..., _AnyCheck],
    observe: Callable[[Mapping[str, float]], Observed],
    parameters: Iterable[tuple[str, int]],
) -> _AnyCheck:
    """Observe a model once, report what was found and, if other weights are recommended, try them.

    Parameters
    ----------
    make : callable
        `Check`, or a function that makes a subclass of it from the same arguments.
    observe : callable
        ``observe(factors)`` runs the model as if its weights were multiplied by these factors, given by parameter
        name.
    parameters : iterable of (str, int)
        The name of each parameter of the model, and its number of axes.

    Returns
    -------
    Check
    """
    observed = observe({})
    measured = {layer.weights.name for layer in observed.layers}
    unmeasured = tuple(name for name, axes in parameters if axes >= 2 and name not in measured)
    found = make(observed.layers, unmeasured, observed.is_normalized)
    return found.with_trial(observe(found.factors).layers) if found.factors else found


@dataclass(frozen=True, eq=False)
class Check:
    """What was found in a model; ``print`` shows a table of its layers, the verdict and the suggestions.

    Attributes
    ----------
    layers : tuple of CheckedLayer
        In the order in which they ran.
    unmeasured : tuple of str
        Parameters with at least two axes that belong to none of these layers.
    is_normalized : bool
        Whether signals are normalized repeatedly between these layers, which compensates for the scale of weights.
    tried : tuple of CheckedLayer or None
        The same layers, measured with the recommended standard deviation where weights are off; None if that was not
        tried.
    how_to_follow : str
        A line of Python that applies the suggestions.
    """

    layers: tuple[CheckedLayer, ...]
    unmeasured: tuple[str, ...] = ()
    is_normalized: bool = False
    tried: tuple[CheckedLayer, ...] | None = None
    how_to_follow: str = ""

    @cached_property
    def verdict(self) -> Verdict:
        """What goes wrong, and in which layer; see `judge_layers`."""
        return judge_layers(self.layers, is_normalized=self.is_normalized)

    @cached_property
    def verdict_tried(self) -> Verdict | None:
        """The verdict on `tried`; None if nothing was tried."""
        return None if self.tried is None else judge_layers(self.tried, is_normalized=self.is_normalized)

    @cached_property
    def off(self) -> tuple[CheckedLayer, ...]:
        """The layers whose weights have another standard deviation than is recommended, each parameter once.

        In a stable model: the layers beyond `TOLERANCE` of what is recommended for their activation. None if the model
        normalizes its signals, or if all layers have He's weights by fan_out. In other models: the layers beyond
        `TOLERANCE_UNSTABLE`, or, without an activation, beyond `TOLERANCE_WITHOUT_ACTIVATION`. Weights that are all 0
        count only if units are the same.
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
        """The factor from present to recommended standard deviation, by parameter name, for layers that are off.

        Empty if scaling tells nothing: weights that are all the same, or not finite.
        """
        if any(finding.word == "symmetric" for finding in self.verdict.findings):
            return {}
        usable = [layer for layer in self.off if 0.0 < layer.weights.std < math.inf]
        return {layer.weights.name: layer.recommended_std / layer.weights.std for layer in usable}

    def with_trial(self: _AnyCheck, layers: tuple[CheckedLayer, ...]) -> _AnyCheck:
        """Add what was tried, unless other layers ran then: which layers a model runs may depend on its signals."""
        is_same = [layer.name for layer in layers] == [layer.name for layer in self.layers]
        return replace(self, tried=layers) if is_same else self

    @property
    def is_improved(self) -> bool:
        """Whether the recommended weights bring signals and gradients closer to one size, or revive units.

        If the signal is lost in both cases: whether it is lost in a later layer. A suggestion that makes signals
        explode, where they only vanished, is no improvement. True if nothing was tried.
        """
        now, then = self.verdict, self.verdict_tried
        if then is None:
            return True
        if not then.findings and any(finding.of == "units" for finding in now.findings):
            return True
        if then.findings and not now.findings:
            return False
        if any(one.word == "explodes" for one in then.findings) and all(one.word != "explodes" for one in now.findings):
            return False  # training recovers less often from exploding than from vanishing signals
        if math.isinf(then.drift):
            return math.isinf(now.drift) and then.findings[0].layer > now.findings[0].layer
        most = min(now.drift / (1.0 + IMPROVEMENT), math.exp((1.0 - IMPROVEMENT_OF_LOGARITHM) * math.log(now.drift)))
        return then.drift < most

    @property
    def suggestions(self) -> dict[str, Recommendation]:
        """The recommendation for each parameter that is off, by its name; empty if it does not help."""
        suggested = self.off if self.is_improved else ()
        return {layer.weights.name: layer.recommendation for layer in suggested if layer.recommendation is not None}

    def __str__(self) -> str:
        return "\n".join([*format_table(self), "", *format_conclusion(self)])
