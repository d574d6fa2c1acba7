"""Propagation: inputs pass through a stack of layers, a gradient passes back, and each layer is measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from winit_fast.arguments import one_of, whole_from
from winit_fast.fill import fill
from winit_fast.gains import calculate_gain
from winit_fast.messages import as_int, quote
from winit_fast.parallel import read_threads
from winit_fast.recommend import recommend
from winit_fast.registry import Scheme
from winit_fast.report.activations import ACTIVATIONS, Activation
from winit_fast.report.measurement import LayerStatistics, layer_statistics, with_gradients
from winit_fast.report.reports import Histogram, Propagation, Report
from winit_fast.report.stacks import POSITIONS, Stack
from winit_fast.report.verdicts import judge
from winit_fast.schemes import read_scheme

__all__ = ["DEFAULT_SCHEMES", "propagate"]

Float64s = NDArray[np.float64]

#: Common choices, and those of the papers. The uniform is the default of Keras's RandomUniform.
DEFAULT_SCHEMES = (
    "zeros",
    "normal(std=1)",
    "normal(std=0.01)",
    "uniform(-0.05, 0.05)",
    "xavier_normal",
    "xavier_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "orthogonal",
)

_ROWS = 128  # default number of inputs times positions, over which a unit's standard deviation is measured
_BINS = 40
_HISTOGRAMS = 4  # layers of a stack with a histogram
_TAIL = 0.001  # the fraction of the first layer's outputs that a histogram may leave out on either side


def propagate(
    schemes: str | Scheme | Sequence[str | Scheme] | None = None,
    activation: str = "relu",
    *,
    depth: SupportsIndex = 50,
    width: SupportsIndex = 512,
    batch: SupportsIndex | None = None,
    seed: SupportsIndex = 0,
    residual: bool = False,
    convolution: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
) -> Report:
    """Push inputs through a deep stack of layers with the weights of each scheme, and a gradient back.

    Parameters
    ----------
    schemes : str, Scheme or sequence of them, optional
        Such as ``"he_normal"`` or ``["zeros", "normal(std=0.02)"]``; see `winit_fast.schemes`. By default
        `DEFAULT_SCHEMES` and what `recommend` gives for the activation. If that is He's, also `orthogonal` with its
        gain; for residual layers also `fixup`.
    activation : str, default "relu"
        One of `ACTIVATIONS`.
    depth, width : int
        The number of layers, which are all alike, and the number of units (channels) in each.
    batch : int, optional
        The number of inputs. By default 128, or for convolutions 8 with 16 positions each. A single input has no
        `signal`.
    seed : int, default 0
        In [0, 2^64). Layer 3 of every scheme has the stream ``"layers.3.weight"``, so normal schemes share their
        normals.
    residual : bool, default False
        Whether a layer computes ``x + f(x W)`` instead of ``f(x W)``.
    convolution : int, optional
        The size of a kernel, at most 16. Layers are then one-dimensional convolutions on a ring of 16 positions.
    threads : int, optional
        As in `winit_fast.fill`. No value depends on it.

    Returns
    -------
    Report
        What was measured in each layer, and a verdict. Equal arguments give equal reports, up to the rounding of
        float32 products by the BLAS that NumPy uses.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used, or a scheme cannot fill weights of this shape. Nothing has been computed then.

    See Also
    --------
    judge : the meaning of the verdicts.
    draw : a picture of the report.

    Notes
    -----
    Inputs are N(0, 1), biases are 0, and weights are float32, made by `winit_fast.fill`. Products are computed in
    float32, activations and statistics in float64. Signals are scaled by a power of two before each product, and scaled
    back after it, so that they can be followed beyond float32's range. If a signal overflows even so, it is reported as
    infinite from that layer on, and no gradient passes back.

    The gradient with respect to the last layer's outputs is N(0, 1), independent of the inputs. `gradient_std` of a
    layer is that of the gradient with respect to its outputs.

    Examples
    --------
    >>> from winit_fast import report
    >>> found = report.propagate(["zeros", "xavier_normal", "he_normal"], "relu", depth=30, width=256)
    >>> for one in found.propagations:
    ...     print(f"{one.scheme}: {one.verdict}")
    zeros: symmetric at layer 1
    xavier_normal: vanishes at layer 13
    he_normal: stable
    >>> report.propagate("he_norml")
    Traceback (most recent call last):
        ...
    ValueError: scheme 'he_norml' is unknown; did you mean 'he_normal'?
    """
    function = ACTIVATIONS[one_of(*ACTIVATIONS)("activation", activation)]
    layers, units = whole_from(2)("depth", depth), whole_from(2)("width", width)
    if not isinstance(residual, bool):
        raise TypeError(f"residual must be a bool, got {quote(residual)}")
    given: Any = [schemes] if isinstance(schemes, str | Scheme) else schemes
    if given is None:
        given = [*DEFAULT_SCHEMES, *_recommend_schemes(function.name)]
        given += [f"fixup(layers={layers})"] if residual else []
    if not isinstance(given, Sequence) or not given:
        raise TypeError(f"schemes must be a scheme or a sequence of at least one, got {quote(schemes)}")
    chosen: dict[Scheme, str] = {}
    for one in given:
        chosen.setdefault(read_scheme(one), str(one))
    kernel = None if convolution is None else whole_from(1)("convolution", convolution)
    if kernel is not None and kernel > POSITIONS:
        raise ValueError(f"convolution must be at most the {POSITIONS} positions there are, got {kernel}")
    rows = _ROWS if kernel is None else _ROWS // POSITIONS
    inputs = rows if batch is None else whole_from(1)("batch", batch)
    key, workers = as_int("seed", seed), read_threads(threads)
    stack = Stack(units, kernel)
    for wanted in chosen:
        _refuse(wanted, stack, key)
    propagations = tuple(
        _propagate_scheme(text, function, stack, layers, inputs, key, residual, workers) for text in chosen.values()
    )
    return Report(function.name, layers, units, inputs, key, residual, kernel, propagations)


def _recommend_schemes(activation: str) -> list[str]:
    """The recommended scheme for an activation and, if it is He's, an orthogonal matrix with the same gain."""
    wanted = recommend(activation).scheme
    gain = f"{calculate_gain(activation):.4g}"  # short, for the printed rows
    return [str(wanted), *([f"orthogonal(gain={gain})"] if wanted.name == "he_normal" else [])]


def _refuse(of: Scheme, stack: Stack, seed: int) -> None:
    """Raise the error that `fill` would raise for a scheme's weights or for the seed, without filling any."""
    shape = stack.shape_of_weights
    fill(np.empty((0, *shape[1:]), np.float32), of, seed=seed, shape=shape, offset=(0,) * len(shape))
    fill(np.empty(0, np.float32), "normal", seed=seed)


def _propagate_scheme(
    of: str, activation: Activation, stack: Stack, depth: int, batch: int, seed: int, residual: bool,
    threads: int | None,
) -> Propagation:  # fmt: skip
    measured: list[LayerStatistics] = []
    histograms: list[Histogram] = []
    with_histogram = {round(1 + index * (depth - 1) / (_HISTOGRAMS - 1)) for index in range(_HISTOGRAMS)}
    slopes: list[NDArray[np.float32]] = []
    shape = stack.shape_of_signals(batch)
    signals = fill(np.empty(shape), "normal", seed=seed, name="inputs", threads=threads)
    weight = np.empty(stack.shape_of_weights, np.float32)  # of one layer at a time: made again for the way back

    def weights_of(number: int) -> NDArray[np.float32]:
        return fill(weight, of, seed=seed, name=f"layers.{number}.weight", threads=threads)

    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # infinities are part of what is measured
        for number in range(1, depth + 1):
            before = stack.forward(signals, weights_of(number))
            if not np.isfinite(before).all():
                break
            values, slope = activation(before)
            signals = signals + values if residual else values
            measured.append(
                layer_statistics(before, signals, slopes=slope, is_saturated=activation.is_saturated(slope))
            )
            slopes.append(slope.astype(np.float32))
            if number in with_histogram:
                histograms.append(_make_histogram(number, signals, histograms[0].edges if histograms else None))
        if len(measured) < depth:
            beyond = LayerStatistics(pre_std=math.inf, std=math.inf, signal=math.inf)
            measured += [beyond] * (depth - len(measured))
        else:
            gradients = fill(np.empty(shape), "normal", seed=seed, name="gradients", threads=threads)
            for index in range(depth - 1, -1, -1):
                measured[index] = with_gradients(measured[index], gradients)
                if index and np.isfinite(gradients).all():
                    back = stack.backward(gradients * slopes[index], weights_of(index + 1))
                    gradients = gradients + back if residual else back
    return Propagation(of, tuple(measured), judge(measured), tuple(histograms))


def _make_histogram(layer: int, outputs: Float64s, edges: Float64s | None) -> Histogram:
    if edges is None:  # the first layer's
        low, high = np.quantile(outputs, [_TAIL, 1.0 - _TAIL])
        margin = 0.05 * (high - low) if high > low else 1.0
        edges = np.linspace(low - margin if low or high == low else 0.0, high + margin, _BINS + 1)  # relu starts at 0
    count = outputs.size
    nonzero = outputs[outputs != 0.0]
    inside = nonzero[(nonzero >= edges[0]) & (nonzero <= edges[-1])]
    fractions = np.histogram(inside, edges)[0] / count
    return Histogram(layer, edges, fractions, 1.0 - nonzero.size / count, (nonzero.size - inside.size) / count)
