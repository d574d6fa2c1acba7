"""Schemes whose elements stand each by itself: one plan for the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from winit_fast._plan import Plan
from winit_fast.lowering import Recipe
from winit_fast.parallel import fill_plan
from winit_fast.target import Target

__all__ = ["Writer", "fill_elements"]

#: Writes a target; the others are the seed, the stream and the number of threads.
Writer: TypeAlias = "Callable[[Target, int, int, int | None], None]"


def fill_elements(recipe: Recipe, target: Target, seed: int, stream: int, threads: int | None) -> None:
    """Fill a target by a recipe."""
    is_whole = target.rows is None and target.shape == target.out.shape
    whole, start = (None, None) if is_whole else (target.shape, target.start)
    plan = Plan(target.out, *recipe, seed, stream, whole, start, 0, target.rows, is_keyed=target.is_keyed)
    fill_plan(plan, threads)
