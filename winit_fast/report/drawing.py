"""The picture of a report: signals and gradients against depth, and the distribution of outputs.

matplotlib is imported only when a picture is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from winit_fast.messages import describe_missing, quote
from winit_fast.publish import PartialFile
from winit_fast.report.measurement import size_of
from winit_fast.report.reports import Histogram, Propagation, Report

__all__ = ["FORMATS", "LINES", "check_picture", "draw"]

#: The endings that a picture's name may have.
FORMATS = (".png", ".svg")

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow, which is hard to see on white.
# Dashes and markers, at first hollow, are for print in grey.
_COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)), (0, (6, 2, 1, 2, 1, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

#: The style of each scheme's line, as arguments of matplotlib's Line2D. No two have the same dashes and marker.
LINES: tuple[dict[str, Any], ...] = tuple(
    {
        "color": _COLOURS[index % len(_COLOURS)],
        "linestyle": _DASHES[index % len(_DASHES)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "markerfacecolor": "white" if index < len(_MARKERS) else _COLOURS[index % len(_COLOURS)],
        "markersize": 5,
        "linewidth": 1.6,
    }
    for index in range(len(_DASHES) * len(_MARKERS))
)

_LOWEST, _HIGHEST = 1e-9, 1e9  # limits of the logarithmic axes: sizes beyond them tell no more
_MOST_ROWS = 3  # schemes with histograms, at most


def check_picture(picture: str | Path) -> Path:
    """Return the path of a picture, if it can be drawn.

    Raises
    ------
    TypeError, ValueError
        If it is not a path, does not end with ``.png`` or ``.svg``, or its folder does not exist.
    ModuleNotFoundError
        If matplotlib is not installed.
    """
    if not isinstance(picture, str | Path):
        raise TypeError(f"picture must be a str or a Path, got {quote(picture)}")
    path = Path(picture)
    if path.suffix not in FORMATS:
        raise ValueError(f"picture must end with {' or '.join(FORMATS)}, got {quote(str(path))}")
    if not path.parent.is_dir():
        raise ValueError(f"picture must be in a folder that exists, got {quote(str(path))}")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise ModuleNotFoundError(describe_missing("a picture", "matplotlib", "report")) from None
    return path


def draw(report: Report, picture: str | Path, *, overwrite: bool = True) -> None:
    """Draw a report: signals and gradients against depth on logarithmic axes, and histograms of some schemes' outputs.

    A line that falls to 0 or leaves the axis ends at its edge, with an arrowhead. Histograms are drawn for at most
    three schemes: the flattest, one of each other verdict, and the last ones. Each is over the range of the outputs of
    its first layer.

    Parameters
    ----------
    report : Report
        Made by `propagate`.
    picture : str or Path
        The file to write: a ``.png`` or an ``.svg``. The same report gives the same bytes. The file has a temporary
        name until it is complete.
    overwrite : bool, default True
        Whether it may replace an existing file.

    Raises
    ------
    TypeError, ValueError, OSError
        If the path cannot be used.
    ModuleNotFoundError
        If matplotlib is not installed.

    Examples
    --------
    >>> from winit_fast import report
    >>> found = report.propagate("he_normal", "relu", depth=4, width=32, batch=8)
    >>> report.draw(found, "signals.pdf")
    Traceback (most recent call last):
        ...
    ValueError: picture must end with .png or .svg, got 'signals.pdf'
    """
    path = check_picture(picture)
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"font.size": 9, "font.family": "DejaVu Sans", "svg.hashsalt": "winit_fast"}
    with matplotlib.rc_context(style):
        rows_below = _choose_rows(report)
        heights = [4.0, 0.2 + 0.2 * math.ceil(len(report.propagations) / 2), 0.6 + 1.1 * len(rows_below)]
        figure: Any = Figure(figsize=(10, sum(heights) + 0.3), layout="constrained")
        FigureCanvasAgg(figure)
        above, between, below = figure.subfigures(3, 1, height_ratios=heights)
        figure.suptitle(report.title, fontweight="bold")
        _draw_lines(above.subplots(1, 2, sharey=True), report)
        _draw_legend(between, report)
        _draw_histograms(below, rows_below)
        with PartialFile(path, overwrite=overwrite) as partial:
            with partial.open() as file:
                kind = path.suffix.removeprefix(".")
                figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None, dpi=150)
            partial.publish()


def _draw_lines(panels: Any, report: Report) -> None:
    from matplotlib.ticker import MaxNLocator

    panels[0].set_title("signal, going forward: std of a unit over the inputs", loc="left", fontsize=10)
    panels[0].set_ylabel("standard deviation")
    panels[1].set_title("gradient, going back: std, 1 at the last layer", loc="left", fontsize=10)
    for axes in panels:
        axes.set_yscale("log")
        axes.set_ylim(_LOWEST, _HIGHEST)
        ticks = [10.0**power for power in range(-9, 10, 3)]
        names = [f"$10^{{{power}}}$" for power in range(-9, 10, 3)]
        axes.set_yticks(ticks, [r"0 or $<10^{-9}$", *names[1:-1], "$>10^9$"])
        axes.minorticks_off()
        axes.set_xlim(0.5, report.depth + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("layer")
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for index, one in enumerate(report.propagations):
        _draw_line(panels[0], [size_of(layer) for layer in one.layers], range(1, report.depth + 1), index)
        gradients = [layer.gradient_std for layer in one.layers]
        _draw_line(panels[1], gradients[::-1], range(report.depth, 0, -1), index)


def _draw_line(axes: Any, sizes: Sequence[float], layers: Sequence[int], index: int) -> None:
    """Draw one line, in the order in which signals run, up to where it leaves the axis."""
    style = LINES[index % len(LINES)]
    xs: list[int] = []
    ys: list[float] = []
    for size, layer in zip(sizes, layers, strict=True):
        if math.isnan(size):
            break
        xs.append(layer)
        ys.append(min(max(size, _LOWEST), _HIGHEST))
        if not _LOWEST < size < _HIGHEST:
            arrowhead = "v" if size < 1.0 else "^"
            axes.plot(layer, ys[-1], arrowhead, color=style["color"], markersize=9, clip_on=False, zorder=4)
            break
    if not xs:
        return
    every = max(1, len(layers) // 10)
    axes.plot(xs, ys, markevery=(index % min(every, len(xs)), every), zorder=3, **style)


def _draw_legend(figure: Any, report: Report) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], label=f"{one.scheme}: {one.verdict}", **LINES[index % len(LINES)])
        for index, one in enumerate(report.propagations)
    ]
    legend = figure.legend(handles=handles, loc="center", ncols=2, frameon=False, handlelength=4.5)
    for text, one in zip(legend.get_texts(), report.propagations, strict=True):
        if one is report.flattest:
            text.set(text=f"{text.get_text()}, the flattest", fontweight="bold")


def _choose_rows(report: Report) -> list[tuple[int, Propagation]]:
    """Choose at most three schemes: the flattest, the first of each verdict, the last ones; equal units come last."""
    propagations = report.propagations
    words = [one.verdict.word for one in propagations]

    def rank(item: tuple[int, Propagation]) -> tuple[bool, bool, int]:
        index, one = item
        word = one.verdict.word
        is_preferred = one is report.flattest if word == "stable" else words.index(word) == index
        return word == "symmetric", not is_preferred, -index

    return sorted(sorted(enumerate(propagations), key=rank)[:_MOST_ROWS])


def _draw_histograms(figure: Any, rows: Sequence[tuple[int, Propagation]]) -> None:
    figure.suptitle("outputs of all units for all inputs; each row has the range of its layer 1", fontsize=10)
    layers = max(([histogram.layer for histogram in one.histograms] for _, one in rows), key=len)
    grid = figure.subplots(len(rows), max(1, len(layers)), squeeze=False, sharex="row")
    for panels, (index, one) in zip(grid, rows, strict=True):
        panels[0].set_ylabel(f"{one.scheme}:\n{one.verdict.word}", rotation=0, ha="right", va="center")
        for axes, histogram in zip(panels, one.histograms, strict=False):
            signal = size_of(one.layers[histogram.layer - 1])
            _draw_histogram(axes, histogram, signal, LINES[index % len(LINES)]["color"])
        for axes in panels[len(one.histograms) :]:
            axes.text(0.5, 0.5, "overflows", transform=axes.transAxes, ha="center", va="center")
            axes.set_yticks([])
    for axes, layer in zip(grid[0], layers, strict=False):
        axes.set_title(f"layer {layer}", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("output")


def _draw_histogram(axes: Any, histogram: Histogram, signal: float, colour: str) -> None:
    axes.stairs(histogram.fractions, histogram.edges, fill=True, color=colour, alpha=0.75)
    axes.set_xlim(histogram.edges[0], histogram.edges[-1])
    axes.set_ylim(0.0, max(float(histogram.fractions.max()) * 1.5, 1e-12))
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    fractions = [f"{histogram.zero:.0%} are 0"] * (histogram.zero >= 0.005)
    fractions += [f"{histogram.beyond:.0%} beyond"] * (histogram.beyond >= 0.005)
    lines = [f"signal {signal:.2g}", ", ".join(fractions)]
    axes.text(0.98, 0.95, "\n".join(lines), transform=axes.transAxes, ha="right", va="top", fontsize=8)
