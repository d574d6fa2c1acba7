"""Small tensors, where reading the arguments takes longer than the values: plans that are made once for many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from winit_fast._plan import Plan
from winit_fast.fans import Axes, Matrices
from winit_fast.fill import look_up
from winit_fast.schemes import Scheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SMALL_BYTES", "SmallPlan", "plan_small"]

#: Larger ones take a plan of their own, which looks at the pages of their memory.
SMALL_BYTES = 1 << 20


class SmallPlan(NamedTuple):
    """The plan of a small tensor that is a whole: `Plan.moved` gives that of any other laid out alike.

    Attributes
    ----------
    plan : Plan
        Of no memory, seed and stream yet.
    draws : bool
        Whether the values depend on a seed.
    """

    plan: Plan
    draws: bool


def plan_small(
    out: NDArray[Any], scheme: str | Scheme, in_axis: Axes | None, out_axis: Axes | None, batch_axis: Axes,
    matrices: Matrices,
) -> SmallPlan | None:  # fmt: skip
    """The plan of all that is laid out as `out`; None for what `fill` alone can do: large, empty, or not elementwise.

    Raises
    ------
    TypeError, ValueError
        As `fill`.

    Examples
    --------
    >>> import numpy as np
    >>> import winit_fast
    >>> from winit_fast._plan import address_of
    >>> from winit_fast.parallel import fill_plan
    >>> known = plan_small(np.empty((8, 4), "float32"), "he_normal", None, None, (), 1)
    >>> out = np.empty((8, 4), "float32")
    >>> fill_plan(known.plan.moved(address_of(out), 7, winit_fast.streams.stream_of("layer.weight")), None)
    >>> bool((out == winit_fast.fill(np.empty_like(out), "he_normal", seed=7, name="layer.weight")).all())
    True
    """
    resolution = look_up(scheme, out.shape, in_axis, out_axis, batch_axis, matrices, out.dtype)
    if resolution.conversion is None or not 0 < out.nbytes <= SMALL_BYTES:
        return None
    return SmallPlan(Plan(out, *resolution.conversion, 0, 0).moved(0, 0, 0), resolution.draws)
