"""Real models: run one, and see which layers let signals or gradients vanish or explode, and what would be better.

Nothing here knows a framework. An adapter derives what watches its models from `Observed`, and hands `check_model` the
function that runs a model once; `winit_fast.adapters.torch.check` and `winit_fast.adapters.keras.check` are for users.
"""

from winit_fast.check.layer import CheckedLayer, Weights
from winit_fast.check.observe import (
    Observed,
    Use,
    after_activation,
    before_activation,
    entering,
    is_norm,
    sampled,
    without_activation,
)
from winit_fast.check.result import Check, check_model
from winit_fast.report.measurement import LayerStatistics

__all__ = [
    "Check",
    "CheckedLayer",
    "LayerStatistics",
    "Observed",
    "Use",
    "Weights",
    "after_activation",
    "before_activation",
    "check_model",
    "entering",
    "is_norm",
    "sampled",
    "without_activation",
]
