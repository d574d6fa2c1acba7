"""Real models: run one, find the layers where signals or gradients vanish or explode, and suggest better schemes.

Nothing here depends on a framework. An adapter subclasses `Observed` to watch its models, and passes `check_model` a
function that runs a model once. Users call `winit_fast.adapters.torch.check` or `winit_fast.adapters.keras.check`.
"""

from winit_fast.check.layer import CheckedLayer, Weights
from winit_fast.check.observe import (
    Observed,
    Use,
    is_norm,
    measure_after_activation,
    measure_before_activation,
    measure_outputs,
    measure_signal,
    sample_rows,
    scale_weights,
)
from winit_fast.check.result import Check, check_model
from winit_fast.report.measurement import LayerStatistics

# Older names: adapters outside of this repository may import them.
after_activation = measure_after_activation
before_activation = measure_before_activation
entering = measure_signal
sampled = sample_rows
without_activation = measure_outputs

__all__ = [
    "Check",
    "CheckedLayer",
    "LayerStatistics",
    "Observed",
    "Use",
    "Weights",
    "check_model",
    "is_norm",
    "measure_after_activation",
    "measure_before_activation",
    "measure_outputs",
    "measure_signal",
    "sample_rows",
    "scale_weights",
]
