"""Signal propagation, measured and drawn: which initialization works for a given width, depth and activation.

`propagate` passes inputs through deep stacks of layers, and a gradient back, and reports on every layer. `draw` makes
the picture; only this needs matplotlib. `judge` gives the verdicts, from the `layer_statistics` of any model.
"""

from winit_fast.report.activations import ACTIVATIONS, SATURATED_SLOPE, Activation
from winit_fast.report.drawing import draw
from winit_fast.report.measurement import LayerStatistics, layer_statistics
from winit_fast.report.propagation import DEFAULT_SCHEMES, propagate
from winit_fast.report.reports import Histogram, Propagation, Report
from winit_fast.report.verdicts import Finding, Thresholds, Verdict, judge

__all__ = [
    "ACTIVATIONS",
    "DEFAULT_SCHEMES",
    "SATURATED_SLOPE",
    "Activation",
    "Finding",
    "Histogram",
    "LayerStatistics",
    "Propagation",
    "Report",
    "Thresholds",
    "Verdict",
    "draw",
    "judge",
    "layer_statistics",
    "propagate",
]
