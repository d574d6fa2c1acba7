"""A warning where two tensors hold the same values because nobody gave them names."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winit_fast._plan import address_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

__all__ = ["RepeatedValuesWarning", "warn_of_repeats"]


class RepeatedValuesWarning(UserWarning):
    """Two tensors of one seed, shape and scheme, and without names, hold the same values.

    Examples
    --------
    >>> import warnings
    >>> import winit_fast
    >>> warnings.simplefilter("ignore", winit_fast.RepeatedValuesWarning)
    """


# What was filled without a name, and at which address: enough for the layers of any model, and forgotten all at once.
_MOST = 4096
_filled: dict[Hashable, int] = {}
_WARNED = -1  # in place of an address


def warn_of_repeats(what: Hashable, out: NDArray[Any] | int) -> None:
    """Warn where what makes the values equal was met before and filled other memory; once for each.

    Of what is filled through a buffer, `out` is a number that tells it from others.
    """
    address = out if isinstance(out, int) else address_of(out)
    before = _filled.get(what)
    if before is None:
        if len(_filled) >= _MOST:
            _filled.clear()
        _filled[what] = address
    elif before not in (address, _WARNED):
        _filled[what] = _WARNED
        warnings.warn(
            "two tensors of one seed, shape and scheme get the same values, since neither has a name: "
            "give each parameter its name=",
            RepeatedValuesWarning,
            stacklevel=_levels_to_the_caller(),
        )


def _levels_to_the_caller() -> int:
    """How many calls up the code is that is none of this package or its adapters."""
    folder = str(Path(__file__).parent)
    ours = (folder, str(Path(folder).parent / "adapters"))
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(ours):
        frame, level = frame.f_back, level + 1
    return level
