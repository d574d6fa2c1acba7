"""What a check prints: a table of the layers, the verdict, and the suggestions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from winit_fast.check.layer import CheckedLayer, without_block
from winit_fast.recommend import Recommendation
from winit_fast.report.reports import written
from winit_fast.report.verdicts import Verdict

__all__ = ["conclusion", "table"]

#: The std of inputs from which on it is said where they saturate the first layer.
LARGE_INPUTS = 3.0

#: From what drift on suggestions, tried, are said not to do alone, even if all is stable.
ENOUGH = 10.0

#: How many times as wide as recommended weights are strange, even if all is stable. Narrow ones begin many branches.
WIDE, NARROW = 5.0, 1.0 / 20.0


class _Check(Protocol):
    """What is printed of a `Check`, which stands on this and says what each of them is."""

    @property
    def layers(self) -> Sequence[CheckedLayer]: ...
    @property
    def unmeasured(self) -> Sequence[str]: ...
    @property
    def is_normalized(self) -> bool: ...
    @property
    def how_to_follow(self) -> str: ...
    @property
    def verdict(self) -> Verdict: ...
    @property
    def verdict_tried(self) -> Verdict | None: ...
    @property
    def off(self) -> Sequence[CheckedLayer]: ...
    @property
    def suggestions(self) -> Mapping[str, Recommendation]: ...


def table(check: _Check) -> list[str]:
    """A row for each layer; columns of which nothing was measured are left out."""
    found: dict[int, list[str]] = {}
    for finding in check.verdict.findings:
        word = f"gradient {finding.word}" if finding.of == "gradient" else finding.word
        found.setdefault(finding.layer, []).append(word)
    suggested = check.suggestions
    advised = [layer.recommended_std if layer.weights.name in suggested else math.nan for layer in check.layers]
    columns = [
        ("", [str(number) for number in range(1, len(check.layers) + 1)]),
        ("layer", [layer.name for layer in check.layers]),
        ("kind", [layer.kind for layer in check.layers]),
        ("activation", [layer.activation or "-" for layer in check.layers]),
        ("entering", [written(layer.entering, 3) for layer in check.layers]),
        ("pre std", [written(layer.statistics.pre_std, 3) for layer in check.layers]),
        ("std", [written(layer.statistics.std, 3) for layer in check.layers]),
        ("gradient", [written(layer.statistics.gradient_norm, 3) for layer in check.layers]),
        ("dead", [_part(layer.statistics.dead) for layer in check.layers]),
        ("saturated", [_part(layer.statistics.saturated) for layer in check.layers]),
        ("weights", [written(layer.weights.std, 3) for layer in check.layers]),
        ("advised", [written(std, 3) for std in advised]),
        ("finding", [", ".join(found.get(number, [])) for number in range(1, len(check.layers) + 1)]),
    ]
    shown = [(head, cells) for head, cells in columns if any(cell not in ("-", "") for cell in cells)]
    words = ("layer", "kind", "activation", "finding")
    padded = []
    for head, cells in shown:
        width = max(map(len, (head, *cells)))
        padded.append([cell.ljust(width) if head in words else cell.rjust(width) for cell in (head, *cells)])
    return [
        *("  ".join(row).rstrip() for row in zip(*padded, strict=True)),
        "",
        "entering: the signal that enters, std of a unit across inputs; pre std, std: before and behind the activation",
        "gradient: its norm, with respect to what the layer hands on; weights, advised: their std",
        "within: how far entering or gradient is, at the farthest, from the nearer of the first two layers it reaches",
    ]


def conclusion(check: _Check) -> list[str]:
    """The verdict, what is suggested, or why nothing is."""
    verdict, tried = check.verdict, check.verdict_tried
    lines = [f"verdict: {verdict}{_within(verdict)}"]
    for finding in verdict.findings:
        lines.append(f"  layer {finding.layer} ({finding.name}): {finding.reason}")
    lines += _about_inputs(check)
    if check.suggestions:
        lines += _suggested(check)
    elif check.off and tried is not None:
        schemes = " and ".join(sorted({str(one.recommendation.scheme) for one in check.off if one.recommendation}))
        now, then = (f"{one}, within {written(one.drift, 3)} times" for one in (verdict, tried))
        lines += [
            f"suggested: nothing; {schemes}, which the papers give to plain stacks, was tried in {_count(check.off)}",
            f"  and is no better: {now}, and with it {then}",
        ]
    elif verdict.findings:
        lines.append(f"suggested: nothing; {_why_nothing(check)}")
    elif check.is_normalized:
        lines.append("suggested: nothing; signals are normalized between layers")
    if not check.suggestions:
        lines += _what_else(check)
    if check.unmeasured:
        lines.append(f"not measured: {', '.join(_summed_up(check.unmeasured))}")
    return lines


def _within(verdict: Verdict) -> str:
    if verdict.findings:
        return ""
    is_measured = not math.isnan(verdict.drift)
    return f", within {verdict.drift:.1f} times" if is_measured else ", as far as so few measured layers tell"


def _about_inputs(check: _Check) -> list[str]:
    """What may be wrong with the inputs, rather than with weights."""
    first = check.layers[0]
    if first.entering == 0.0:
        return ["  the inputs are all the same: nothing can be seen of what layers make of differences"]
    if (check.verdict.word, check.verdict.layer) == ("saturates", 1) and first.entering > LARGE_INPUTS:
        return [f"  the inputs have std {written(first.entering)}: scale them to about 1"]
    return []


def _what_else(check: _Check) -> list[str]:
    """What may help where no weights are suggested, and what is strange about them all the same."""
    words = [finding.word for finding in check.verdict.findings]
    if "dead" in words:
        return ["  what may help: biases nearer to 0, inputs around 0"]
    if words:
        return [
            "  what may help where weights do not: normalization, or residual branches that are small at first (fixup, "
            "residual_normal, zeros in their last layer)"
        ]
    ratios = {layer.weights.name: layer.weights.std / layer.recommended_std for layer in check.layers}
    lines = []
    zeros = [ratio for ratio in ratios.values() if ratio == 0.0]
    if zeros:
        lines.append(
            f"  the weights of {_count(zeros)} are 0: no signal behind them and no gradient in front, at first"
        )
    for kind, strange in (
        ("wide", [ratio for ratio in ratios.values() if ratio > WIDE]),
        ("narrow", [1.0 / ratio for ratio in ratios.values() if 0.0 < ratio < NARROW]),
    ):
        if strange:
            times = f"{min(strange):.0f} to {max(strange):.0f}" if len(strange) > 1 else f"{strange[0]:.0f}"
            lines.append(f"  the weights of {_count(strange)} are {times} times as {kind} as the papers have them")
    return lines


def _count(layers: Sequence[object]) -> str:
    return f"{len(layers)} layer{'s' * (len(layers) > 1)}"


def _suggested(check: _Check) -> list[str]:
    """What is suggested, alike layers in one line."""
    outcome, tried = "", check.verdict_tried
    if tried is not None:
        is_enough = not tried.findings and not tried.drift > ENOUGH
        outcome = f" (tried on this input: {tried}{_within(tried)})"
        if not is_enough:
            outcome = f", but will not do alone{outcome}"
    though = "" if check.verdict.findings else ", though the model is stable as it is"
    lines = [f"suggested{though}{outcome}:"]
    suggested = check.suggestions
    rows: dict[tuple[str, str], list[CheckedLayer]] = {}
    for layer in check.off:
        scheme = str(suggested[layer.weights.name].scheme)
        rows.setdefault((without_block(layer.weights.name), scheme), []).append(layer)
    names = [_summed_up([layer.weights.name for layer in layers])[0] for layers in rows.values()]
    first, second = max(map(len, names)), max(len(scheme) for _, scheme in rows)
    for name, ((_, scheme), layers) in zip(names, rows.items(), strict=True):
        wanted = _range([layer.recommended_std for layer in layers])
        present = _range([layer.weights.std for layer in layers])
        lines.append(f"  {name:{first}}  {scheme:{second}}  std {wanted} in place of {present}")
    lines += dict.fromkeys(f"  {one}" for one in suggested.values())
    if tried is not None and not is_enough:
        lines.append("  what may help besides: normalization; behind dropout, weights narrower by sqrt(1 - p)")
    return [*lines, f"  to follow: {check.how_to_follow}"] if check.how_to_follow else lines


def _range(sizes: Sequence[float]) -> str:
    low, high = written(min(sizes), 3), written(max(sizes), 3)
    return low if low == high else f"{low} to {high}"


def _why_nothing(check: _Check) -> str:
    active = [layer for layer in check.layers if layer.activation]
    if not active:
        return "no activation was seen behind any layer"
    if any(not layer.weights.name for layer in active):
        return "weights that are computed from others, or are no parameters, cannot be judged"
    return "where an activation was seen, the weights are as wide as the papers have them for it"


def _summed_up(names: Sequence[str]) -> list[str]:
    """Names that differ in numbers alone as one: the first, the last and how many.

    Examples
    --------
    >>> _summed_up(["table.weight", "layers.0.weight", "layers.1.weight", "layers.2.weight"])
    ['table.weight', 'layers.0.weight to layers.2.weight (3)']
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(without_block(name), []).append(name)
    return [one[0] if len(one) == 1 else f"{one[0]} to {one[-1]} ({len(one)})" for one in alike.values()]


def _part(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"
