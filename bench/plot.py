"""The picture in README.md and docs/performance.md: ``python bench/plot.py SPEED.json PICTURE.svg``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PANELS = {
    "uniform float32": "uniform",
    "normal float32": "normal",
    "truncated_normal float32": "truncated normal, ±2 sigma",
}
# Okabe and Ito's palette, which colour-blind readers tell apart.
OURS, OURS_TWO_THREADS, THEIRS, CEILING = "#0072B2", "#56B4E9", "#BBBBBB", "#D55E00"
ISA_NAMES = {"avx512": "AVX-512", "avx2": "AVX2", "neon": "NEON", "baseline": "SSE2"}


def label(info: dict[str, Any]) -> str:
    """The name of a bar."""
    name = info["method"]
    if info["isa"]:
        name = f"winit_fast {ISA_NAMES[info['isa']]}"
    return name + (", 2 threads" if info["threads"] == 2 else "")


def colour(info: dict[str, Any]) -> str:
    """Ours stand out; two threads are lighter than one."""
    if not info["isa"]:
        return THEIRS
    return OURS if info["threads"] == 1 else OURS_TWO_THREADS


def shown(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours but for the baseline of x86, and the fastest generator of every other library, slowest first."""
    fastest: dict[tuple[str, int], dict[str, Any]] = {}
    for info in infos:
        library = info["method"] if info["isa"] else info["method"].split()[0]
        best = fastest.get((library, info["threads"]))
        if best is None or best["gigabytes_per_second"] < info["gigabytes_per_second"]:
            fastest[library, info["threads"]] = info
    has_better = any(info["isa"] == "avx2" for info in infos)
    kept = [info for info in fastest.values() if not (has_better and info["isa"] == "baseline")]
    return sorted(kept, key=lambda info: info["gigabytes_per_second"])


def draw(speed: dict[str, Any], picture: Path) -> None:
    """One panel a distribution, fastest bar first, and memset as lines."""
    infos: dict[str, list[dict[str, Any]]] = {}
    for benchmark in speed["benchmarks"]:
        infos.setdefault(benchmark["group"], []).append(benchmark["extra_info"])
    bars_of = {group: shown(infos[group]) for group in PANELS if group in infos}
    heights = [len(bars) for bars in bars_of.values()]
    plt.rcParams.update({"font.size": 9, "svg.hashsalt": "winit_fast", "font.family": "DejaVu Sans"})
    figure, all_axes = plt.subplots(
        len(bars_of), 1, figsize=(8, 0.24 * sum(heights) + 1.1 * len(bars_of)), sharex=True, squeeze=False,
        height_ratios=heights, layout="constrained",
    )  # fmt: skip
    ceilings = {info["threads"]: info["gigabytes_per_second"] for info in infos["memset"] if info["method"] == "memset"}
    for axes, (group, bars) in zip(all_axes[:, 0], bars_of.items(), strict=True):
        rates = [info["gigabytes_per_second"] for info in bars]
        drawn = axes.barh([label(info) for info in bars], rates, color=[colour(info) for info in bars])
        axes.bar_label(drawn, [f"{rate:.2g}" if rate < 10 else f"{rate:.0f}" for rate in rates], padding=3)
        for threads, rate in sorted(ceilings.items()):
            axes.axvline(rate, color=CEILING, linestyle="--" if threads == 1 else "-", linewidth=1)
        axes.set_title(PANELS[group], loc="left", fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.02)
    for threads, rate in ceilings.items():
        all_axes[0, 0].annotate(
            f"memset, {threads} thread{'s' if threads > 1 else ''}", (rate, 0.02), xycoords=("data", "axes fraction"),
            xytext=(-2, 0), textcoords="offset points", rotation=90, ha="right", va="bottom", color=CEILING,
        )  # fmt: skip
    machine = speed["machine_info"]
    all_axes[-1, 0].set_xlabel(
        f"GB/s of float32 written to {machine['megabytes']} MiB touched before (more is better), "
        f"{machine['cpu']['count']} cores of {machine['cpu']['brand_raw']}"
    )
    figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None, dpi=150)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
