"""Reports: what `propagate` returns, and the table that they print."""

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

__all__ = ["Histogram", "Propagation", "Report", "written"]


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How the outputs of a layer are distributed, over the range that those of the first layer have.

    Attributes
    ----------
    layer : int
        Which, counted from 1.
    edges : ndarray of float64
        Of the bins: n + 1.
    parts : ndarray of float64
        The part of all outputs that is in each bin, without those that are exactly 0 or beyond the edges: n.
    zero, beyond : float
        The part that is exactly 0, and the part below the first edge or above the last.
    """

    layer: int
    edges: NDArray[np.float64]
    parts: NDArray[np.float64]
    zero: float
    beyond: float


@dataclass(frozen=True, slots=True, eq=False)
class Propagation:
    """What a scheme does.

    Attributes
    ----------
    scheme : str
        Its text, as it was given.
    layers : tuple of LayerStatistics
        Of each layer, from the first to the last.
    verdict : Verdict
    histograms : tuple of Histogram
        Of the outputs of some layers.
    """

    scheme: str
    layers: tuple[LayerStatistics, ...]
    verdict: Verdict
    histograms: tuple[Histogram, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What `propagate` found; ``print`` shows its table.

    Attributes
    ----------
    activation : str
    depth, width, batch, seed : int
    residual : bool
    convolution : int or None
        As given to `propagate`.
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
        """The stable scheme with the least drift; None where none is stable.

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
        """Activation, depth and width, in a line.

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
        """What a scheme does, by any text that means it.

        Parameters
        ----------
        of : str or Scheme

        Returns
        -------
        Propagation

        Raises
        ------
        TypeError, ValueError
            If it cannot be read, or is not in this report.

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
        """What was measured under a scheme: for each number of `LayerStatistics` an array, one value a layer.

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
        numbers = [field for field in LayerStatistics._fields if field != "name"]
        return {field: np.array([getattr(layer, field) for layer in measured], np.float64) for field in numbers}

    def __str__(self) -> str:
        return _table(self)


def _table(report: Report) -> str:
    """A row for each scheme."""
    numbers = sorted({1, (report.depth + 1) // 2, report.depth})
    worst = {
        what: [max(getattr(layer, what) for layer in one.layers) for one in report.propagations]
        for what in ("dead", "saturated")
    }
    worst = {what: parts for what, parts in worst.items() if any(part > 0.0 for part in parts)}
    rows = [["scheme", *(f"layer {number}" for number in numbers), "gradient", "drift", "mean", *worst, "verdict"]]
    for index, one in enumerate(report.propagations):
        sizes = [size_of(one.layers[number - 1]) for number in numbers] + [one.layers[0].gradient_std]
        parts = ["-" if math.isnan(parts[index]) else f"{parts[index]:.0%}" for parts in worst.values()]
        numbers_of_all = written(one.verdict.drift), _share_of_mean(one.layers[-1])
        rows.append([one.scheme, *map(written, sizes), *numbers_of_all, *parts, str(one.verdict)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    of = "" if report.convolution is None else f" of {POSITIONS} positions"
    seen = {finding.word for one in report.propagations for finding in one.verdict.findings} | set(worst)
    inputs = f"{report.batch} input{'s' * (report.batch > 1)}"
    flattest = report.flattest
    return "\n".join(
        [f"{report.title}; {inputs}{of}, seed {report.seed}", ""]
        + ["  ".join(_aligned(row, widths)) for row in rows]
        + ["", *(f"{what}: {meaning}" for what, meaning in _MEANINGS.items() if what in {*_ALWAYS, *seen})]
        + ["", "none of these is stable here" if flattest is None else f"flattest here: {flattest.scheme}"]
    )


def _share_of_mean(layer: LayerStatistics) -> str:
    root_mean_square = math.hypot(layer.mean, layer.std)
    return f"{layer.mean / root_mean_square:.2f}" if 0.0 < root_mean_square < math.inf else "-"


_ALWAYS = ("layer", "gradient", "drift", "mean", "stable")

_MEANINGS = {
    "layer": "the signal there, std of a unit across the inputs",
    "gradient": "its std at layer 1, where it is 1 at the last layer; findings name the layer on its way back",
    "drift": "how many times signals are from the first layer's, or gradients from the last one's, at the farthest; "
    "inf where outputs are the same for all inputs, up to rounding",
    "mean": "of the last layer's outputs, as a part of their root mean square; best at 0",
    "stable": "a drift of no more than 100, and nothing found in units",
    "symmetric": "all units of a layer compute the same, and will learn the same",
    "dead": "units that no input reaches, in the worst layer; a finding from 95 % on",
    "saturated": "units and inputs where the slope is below a tenth, in the worst layer; a finding from 50 % on",
}


def written(size: float, digits: int = 2) -> str:
    """A size in a table, with so many digits.

    Examples
    --------
    >>> [written(size) for size in (0.0, 1.234e-5, 0.1234, 123.4, 12345.0, math.inf, math.nan)]
    ['0', '1e-05', '0.12', '123', '1e+04', 'inf', '-']
    """
    if math.isnan(size):
        return "-"
    if 100 <= size < 1000:
        return f"{size:.0f}"
    return f"{size:.{digits}g}" if size == 0.0 or math.isinf(size) or 0.001 <= size < 100 else f"{size:.{digits - 2}e}"


def _aligned(row: list[str], widths: list[int]) -> list[str]:
    scheme, *numbers, verdict = row
    return [scheme.ljust(widths[0]), *(n.rjust(w) for n, w in zip(numbers, widths[1:], strict=False)), verdict]
