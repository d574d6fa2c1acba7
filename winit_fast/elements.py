"""Schemes that draw each element by itself: one plan for the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from winit_fast._plan import Plan
from winit_fast.element_types import Conversion
from winit_fast.parallel import SHARE_VALUES, fill_plan
from winit_fast.target import Call, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Writer", "fill_elements", "share_values_of"]

#: Writes what a call asks for to a target.
Writer: TypeAlias = "Callable[[Target, Call], None]"


def fill_elements(conversion: Conversion, target: Target, call: Call) -> None:
    """Fill a target with words that are converted to values."""
    is_whole = target.rows is None and target.shape == target.out.shape
    whole, start = (None, None) if is_whole else (target.shape, target.start)
    plan = Plan(target.out, *conversion, call.seed, call.stream, whole, start, 0, target.rows, is_keyed=target.is_keyed)
    fill_plan(plan, call.threads, share_values_of(target.out))


def share_values_of(out: NDArray[Any]) -> int:
    """How many values a thread takes at most before it looks for interrupts."""
    return _TOUCHED if out.size > _LARGE and _runs_across(out) else SHARE_VALUES


# In fresh memory, the first value of each huge page waits for that page. Written across, a unit meets 64 of them, so a
# share of the usual size could wait for GiBs, and an interrupt with it. Such a target is therefore filled in shares of
# two units, which takes 3 % longer in touched memory.
_LARGE, _TOUCHED = 1 << 20, 1 << 16


def _runs_across(out: NDArray[Any]) -> bool:
    """Whether neighbours in the last axis lie farther apart in memory than in another."""
    strides = [abs(stride) for size, stride in zip(out.shape, out.strides, strict=True) if size > 1]
    return strides[-1] > min(strides)
