"""The text that a check prints: a row for each layer, the verdict, and the suggestions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from winit_fast.check.layer import CheckedLayer, without_block
from winit_fast.recommend import Recommendation
from winit_fast.report.reports import format_size
from winit_fast.report.verdicts import Verdict

__all__ = ["format_conclusion", "format_table"]

#: If inputs saturate the first layer, they are blamed from this standard deviation on.
LARGE_INPUTS = 3.0

#: If the drift stays above this with the suggestions, they are reported as not enough, even if all is stable.
ENOUGH = 10.0

#: Weights beyond these multiples of the recommended standard deviation are reported, even if all is stable. Many
#: branches begin with small weights.
LARGE_WEIGHTS, SMALL_WEIGHTS = 5.0, 1.0 / 20.0


class _Check(Protocol):
    """The members of `Check` that are printed; `Check` depends on this module, and describes them."""

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


def format_table(check: _Check) -> list[str]:
    """Format a row for each layer; columns without any measurement are left out."""
    found: dict[int, list[str]] = {}
    for finding in check.verdict.findings:
        word = f"gradient {finding.word}" if finding.of == "gradient" else finding.word
        found.setdefault(finding.layer, []).append(word)
    suggested = check.suggestions
    recommended = [layer.recommended_std if layer.weights.name in suggested else math.nan for layer in check.layers]
    columns = [
        ("", [str(number) for number in range(1, len(check.layers) + 1)]),
        ("layer", [layer.name for layer in check.layers]),
        ("kind", [layer.kind for layer in check.layers]),
        ("activation", [layer.activation or "-" for layer in check.layers]),
        ("input", [format_size(layer.entering, 3) for layer in check.layers]),
        ("before", [format_size(layer.statistics.pre_std, 3) for layer in check.layers]),
        ("after", [format_size(layer.statistics.std, 3) for layer in check.layers]),
        ("gradient", [format_size(layer.statistics.gradient_norm, 3) for layer in check.layers]),
        ("dead", [_format_fraction(layer.statistics.dead) for layer in check.layers]),
        ("saturated", [_format_fraction(layer.statistics.saturated) for layer in check.layers]),
        ("weights", [format_size(layer.weights.std, 3) for layer in check.layers]),
        ("recommended", [format_size(std, 3) for std in recommended]),
        ("finding", [", ".join(found.get(number, [])) for number in range(1, len(check.layers) + 1)]),
    ]
    measured = [(head, cells) for head, cells in columns if any(cell not in ("-", "") for cell in cells)]
    words = ("layer", "kind", "activation", "finding")
    padded = []
    for head, cells in measured:
        longest = max(map(len, (head, *cells)))
        padded.append([cell.ljust(longest) if head in words else cell.rjust(longest) for cell in (head, *cells)])
    return [
        *("  ".join(row).rstrip() for row in zip(*padded, strict=True)),
        "",
        "input: std of what enters the layer, of a unit across inputs; before, after: std before and after activation",
        "gradient: norm of the gradient of the layer's outputs; weights: their std; recommended: the std to give them",
        "within: largest ratio of input or gradient to that of the first or second layer, whichever is closer",
    ]


def format_conclusion(check: _Check) -> list[str]:
    """Format the verdict, and the suggestions or why there are none."""
    verdict, tried = check.verdict, check.verdict_tried
    lines = [f"verdict: {verdict}{_format_drift(verdict)}"]
    for finding in verdict.findings:
        lines.append(f"  layer {finding.layer} ({finding.name}): {finding.reason}")
    lines += _describe_inputs(check)
    if check.suggestions:
        lines += _format_suggestions(check)
    elif check.off and tried is not None:
        schemes = " and ".join(sorted({str(one.recommendation.scheme) for one in check.off if one.recommendation}))
        now, then = (f"{one}, within {format_size(one.drift, 3)} times" for one in (verdict, tried))
        lines += [
            f"suggested: nothing; {schemes}, which the papers recommend for plain stacks, was tried in",
            f"  {_count_layers(check.off)} and is no better: {now}, and with it {then}",
        ]
    elif verdict.findings:
        lines.append(f"suggested: nothing; {_explain_nothing(check)}")
    elif check.is_normalized:
        lines.append("suggested: nothing; signals are normalized between layers")
    if not check.suggestions:
        lines += _describe_remedies(check)
    if check.unmeasured:
        lines.append(f"not measured: {', '.join(_group_names(check.unmeasured))}")
    return lines


def _format_drift(verdict: Verdict) -> str:
    if verdict.findings:
        return ""
    is_measured = not math.isnan(verdict.drift)
    return f", within {verdict.drift:.1f} times" if is_measured else ", as far as so few measured layers can show"


def _describe_inputs(check: _Check) -> list[str]:
    """Describe what may be wrong with the inputs rather than with the weights."""
    first = check.layers[0]
    if first.entering == 0.0:
        return ["  the inputs are all the same, so signals cannot be measured: pass different inputs"]
    if (check.verdict.word, check.verdict.layer) == ("saturates", 1) and first.entering > LARGE_INPUTS:
        return [f"  the inputs have std {format_size(first.entering)}: scale them to about 1"]
    return []


def _describe_remedies(check: _Check) -> list[str]:
    """Describe what may help if no weights are suggested, and what is unusual about the weights."""
    words = [finding.word for finding in check.verdict.findings]
    if "dead" in words:
        return ["  what may help: biases closer to 0, inputs centered at 0"]
    if words:
        return [
            "  what may help instead: normalization, or residual branches that are small at first (fixup, "
            "residual_normal, zeros in their last layer)"
        ]
    ratios = {layer.weights.name: layer.weights.std / layer.recommended_std for layer in check.layers}
    lines = []
    zeros = [ratio for ratio in ratios.values() if ratio == 0.0]
    if zeros:
        lines.append(
            f"  the weights of {_count_layers(zeros)} are 0: at first, no signal passes forward and no gradient back"
        )
    for kind, strange in (
        ("as large as", [ratio for ratio in ratios.values() if ratio > LARGE_WEIGHTS]),
        ("smaller than", [1.0 / ratio for ratio in ratios.values() if 0.0 < ratio < SMALL_WEIGHTS]),
    ):
        if strange:
            times = f"{min(strange):.0f} to {max(strange):.0f}" if len(strange) > 1 else f"{strange[0]:.0f}"
            count = _count_layers(strange)
            lines.append(f"  the std of the weights of {count} is {times} times {kind} the papers recommend")
    return lines


def _count_layers(layers: Sequence[object]) -> str:
    return f"{len(layers)} layer{'s' * (len(layers) > 1)}"


def _format_suggestions(check: _Check) -> list[str]:
    """Format the suggestions, similar layers in one line."""
    outcome, tried = "", check.verdict_tried
    if tried is not None:
        is_enough = not tried.findings and not tried.drift > ENOUGH
        outcome = f" (tried on this input: {tried}{_format_drift(tried)})"
        if not is_enough:
            outcome = f", but not enough by itself{outcome}"
    though = "" if check.verdict.findings else ", though the model is stable as it is"
    lines = [f"suggested{though}{outcome}:"]
    suggested = check.suggestions
    rows: dict[tuple[str, str], list[CheckedLayer]] = {}
    for layer in check.off:
        scheme = str(suggested[layer.weights.name].scheme)
        rows.setdefault((without_block(layer.weights.name), scheme), []).append(layer)
    names = [_group_names([layer.weights.name for layer in layers])[0] for layers in rows.values()]
    first, second = max(map(len, names)), max(len(scheme) for _, scheme in rows)
    for name, ((_, scheme), layers) in zip(names, rows.items(), strict=True):
        wanted = _format_range([layer.recommended_std for layer in layers])
        present = _format_range([layer.weights.std for layer in layers])
        lines.append(f"  {name:{first}}  {scheme:{second}}  std {wanted} instead of {present}")
    lines += dict.fromkeys(f"  {one}" for one in suggested.values())
    if tried is not None and not is_enough:
        lines.append("  what may help as well: normalization; after dropout, weights smaller by sqrt(1 - p)")
    return [*lines, f"  to apply: {check.how_to_follow}"] if check.how_to_follow else lines


def _format_range(sizes: Sequence[float]) -> str:
    low, high = format_size(min(sizes), 3), format_size(max(sizes), 3)
    return low if low == high else f"{low} to {high}"


def _explain_nothing(check: _Check) -> str:
    active = [layer for layer in check.layers if layer.activation]
    if not active:
        return "no activation was seen after any layer"
    if any(not layer.weights.name for layer in active):
        return "weights that are computed from others, or are not parameters, cannot be judged"
    return "where an activation was seen, the weights have the std that the papers recommend for it"


def _group_names(names: Sequence[str]) -> list[str]:
    """Group names that differ only in their block number: the first, the last and how many.

    Examples
    --------
    >>> _group_names(["table.weight", "layers.0.weight", "layers.1.weight", "layers.2.weight"])
    ['table.weight', 'layers.0.weight to layers.2.weight (3)']
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(without_block(name), []).append(name)
    return [one[0] if len(one) == 1 else f"{one[0]} to {one[-1]} ({len(one)})" for one in alike.values()]


def _format_fraction(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"
