"""Reports: what `propagate` returns, and how it is printed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winit_fast.messages import quote
from winit_fast.registry import Scheme, read_scheme
from winit_fast.report.measurement import LayerStatistics, size_of
from winit_fast.report.stacks import POSITIONS
from winit_fast.report.verdicts import Verdict

__all__ = ["Histogram", "Propagation", "Report", "format_size"]


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """The distribution of a layer's outputs, over the range of the first layer's outputs.

    Attributes
    ----------
    layer : int
        The number of the layer, counted from 1.
    edges : ndarray of float64
        The edges of the n bins: n + 1 numbers.
    fractions : ndarray of float64
        The fraction of all outputs in each bin: n numbers. Outputs that are exactly 0 or beyond the edges are not in a
        bin. `parts` is an older name of this attribute.
    zero, beyond : float
        The fraction of outputs that are exactly 0, and the fraction below the first edge or above the last.
    """

    layer: int
    edges: NDArray[np.float64]
    fractions: NDArray[np.float64]
    zero: float
    beyond: float

    @property
    def parts(self) -> NDArray[np.float64]:
        """An older name of `fractions`."""
        return self.fractions


@dataclass(frozen=True, slots=True, eq=False)
class Propagation:
    """What was measured under one scheme.

    Attributes
    ----------
    scheme : str
        The scheme as text, as it was given.
    layers : tuple of LayerStatistics
        The statistics of each layer, from the first to the last.
    verdict : Verdict
    histograms : tuple of Histogram
        Histograms of the outputs of some layers.
    """

    scheme: str
    layers: tuple[LayerStatistics, ...]
    verdict: Verdict
    histograms: tuple[Histogram, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What `propagate` found; ``print`` shows one row for each scheme.

    Attributes
    ----------
    activation : str
    depth, width, batch, seed : int
    residual : bool
    convolution : int or None
        As passed to `propagate`.
    propagations : tuple of Propagation
        One for each scheme.
    """

    activation: str
    depth: int
    width: int
    batch: int
    seed: int
    residual: bool
    convolution: int | None
    propagations: tuple[Propagation, ...]

    @property
    def flattest(self) -> Propagation | None:
        """The stable scheme with the least drift; None if no scheme is stable.

        Examples
        --------
        >>> from winit_fast import report
        >>> report.propagate(["normal", "he_normal", "lecun_normal"], depth=8, width=64, batch=8).flattest.scheme
        'he_normal'
        """
        stable = [one for one in self.propagations if not one.verdict.findings]
        return min(stable, key=lambda one: one.verdict.drift, default=None)

    @property
    def title(self) -> str:
        """Activation, depth and width, in one line.

        Examples
        --------
        >>> from winit_fast import report
        >>> report.propagate("he_normal", "tanh", depth=3, width=32, batch=8).title
        'tanh, 3 dense layers of 32 units'
        """
        if self.convolution is None:
            kind, units = "dense", "units"
        else:
            kind, units = f"convolutional (kernel {self.convolution})", "channels"
        return f"{self.activation}, {self.depth} {kind}{' residual' * self.residual} layers of {self.width} {units}"

    def propagation(self, of: str | Scheme) -> Propagation:
        """Return what was measured under a scheme, given by any text that means it.

        Parameters
        ----------
        of : str or Scheme

        Returns
        -------
        Propagation

        Raises
        ------
        TypeError, ValueError
            If the scheme cannot be read, or is not in this report.

        Examples
        --------
        >>> from winit_fast import report
        >>> found = report.propagate(["normal(0, 1)"], "linear", depth=5, width=64, batch=8)
        >>> print(found.propagation("normal").verdict)
        explodes at layer 4
        """
        wanted = read_scheme(of)
        for propagation in self.propagations:
            if read_scheme(propagation.scheme) == wanted:
                return propagation
        known = ", ".join(propagation.scheme for propagation in self.propagations)
        raise ValueError(f"scheme must be one of this report's, {known}, got {quote(of)}")

    def layers(self, of: str | Scheme) -> dict[str, NDArray[np.float64]]:
        """Return what was measured under a scheme: one array for each field of `LayerStatistics`, one value per layer.

        Parameters
        ----------
        of : str or Scheme

        Returns
        -------
        dict of str to ndarray of float64

        Raises
        ------
        TypeError, ValueError
            As `propagation`.

        Examples
        --------
        >>> from winit_fast import report
        >>> layers = report.propagate("he_normal", "relu", depth=4, width=64, batch=8).layers("he_normal")
        >>> list(layers)
        ['pre_mean', 'pre_std', 'mean', 'std', 'signal', 'spread', 'dead', 'saturated', 'gradient_std', 'gradient_norm']
        >>> layers["signal"].shape
        (4,)
        """
        measured = self.propagation(of).layers
        fields = [field for field in LayerStatistics._fields if field != "name"]
        return {field: np.array([getattr(layer, field) for layer in measured], np.float64) for field in fields}

    def __str__(self) -> str:
        return _format_table(self)


def _format_table(report: Report) -> str:
    """Format a row for each scheme."""
    numbers = sorted({1, (report.depth + 1) // 2, report.depth})
    worst = {
        what: [max(getattr(layer, what) for layer in one.layers) for one in report.propagations]
        for what in ("dead", "saturated")
    }
    worst = {what: fractions for what, fractions in worst.items() if any(one > 0.0 for one in fractions)}
    rows = [["scheme", *(f"layer {number}" for number in numbers), "gradient", "drift", "mean", *worst, "verdict"]]
    for index, one in enumerate(report.propagations):
        sizes = [size_of(one.layers[number - 1]) for number in numbers] + [one.layers[0].gradient_std]
        fractions = ["-" if math.isnan(each[index]) else f"{each[index]:.0%}" for each in worst.values()]
        drift_and_mean = format_size(one.verdict.drift), _format_mean(one.layers[-1])
        rows.append([one.scheme, *map(format_size, sizes), *drift_and_mean, *fractions, str(one.verdict)])
    longest = [max(map(len, column)) for column in zip(*rows, strict=True)]
    of = "" if report.convolution is None else f" of {POSITIONS} positions"
    seen = {finding.word for one in report.propagations for finding in one.verdict.findings} | set(worst)
    inputs = f"{report.batch} input{'s' * (report.batch > 1)}"
    flattest = report.flattest
    return "\n".join(
        [f"{report.title}; {inputs}{of}, seed {report.seed}", ""]
        + ["  ".join(_align(row, longest)) for row in rows]
        + ["", *(f"{what}: {meaning}" for what, meaning in _MEANINGS.items() if what in {*_ALWAYS, *seen})]
        + ["", "no scheme is stable here" if flattest is None else f"flattest here: {flattest.scheme}"]
    )


def _format_mean(layer: LayerStatistics) -> str:
    root_mean_square = math.hypot(layer.mean, layer.std)
    return f"{layer.mean / root_mean_square:.2f}" if 0.0 < root_mean_square < math.inf else "-"


_ALWAYS = ("layer", "gradient", "drift", "mean", "stable")

_MEANINGS = {
    "layer": "signal at that layer, std of a unit across the inputs",
    "gradient": "std at layer 1; it is 1 at the last layer, and findings count back from there",
    "drift": "largest ratio to the reference layer: the first one for signals, the last one for gradients; "
    "inf if outputs are the same for all inputs, up to rounding",
    "mean": "mean of the last layer's outputs, relative to their root mean square; best at 0",
    "stable": "a drift of at most 100, and no finding in units",
    "symmetric": "all units of a layer compute the same, and will learn the same",
    "dead": "units with slope 0 for every input, in the worst layer; a finding above 95 %",
    "saturated": "units and inputs with a slope below a tenth of the largest, in the worst layer; a finding above 50 %",
}


def format_size(size: float, digits: int = 2) -> str:
    """Format a size for a printed column, with this number of significant digits.

    Examples
    --------
    >>> import math
    >>> [format_size(size) for size in (0.0, 1.234e-5, 0.1234, 123.4, 12345.0, math.inf, math.nan)]
    ['0', '1e-05', '0.12', '123', '1e+04', 'inf', '-']
    """
    if math.isnan(size):
        return "-"
    if 100 <= size < 1000:
        return f"{size:.0f}"
    return f"{size:.{digits}g}" if size == 0.0 or math.isinf(size) or 0.001 <= size < 100 else f"{size:.{digits - 2}e}"


def _align(row: list[str], longest: list[int]) -> list[str]:
    scheme, *numbers, verdict = row
    aligned = [number.rjust(size) for number, size in zip(numbers, longest[1:], strict=False)]
    return [scheme.ljust(longest[0]), *aligned, verdict]
