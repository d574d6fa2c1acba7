"""A warning where two tensors hold the same values because nobody gave them names."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["RepeatedValuesWarning", "note_filled", "warn_of_repeats"]


class RepeatedValuesWarning(UserWarning):
    """Two tensors of one seed, shape and scheme, and without names, hold the same values.

    `fill` and what stands on it warn, once for each seed, shape and scheme. `fill_rows` and `fill_keys` do not: rows
    are made again on purpose.

    Examples
    --------
    >>> import warnings
    >>> import winit_fast
    >>> warnings.simplefilter("ignore", winit_fast.RepeatedValuesWarning)
    """


# What was filled without a name, and at which address: enough for the layers of any model, and forgotten all at once.
# In a pair with the claim: who warns of it. Each entry is made at once, so that threads have no other order to keep.
_MOST = 4096
_addresses: dict[Hashable, object] = {}
_CLAIM = "warned"


def note_filled(what: Hashable, address: int) -> None:
    """Remember what decides of the values without a name, and where they were written."""
    if len(_addresses) >= _MOST:
        _addresses.clear()
    if _addresses.setdefault(what, address) != address:  # as another thread did meanwhile
        _warn_once(what)


def warn_of_repeats(what: Hashable, address: int) -> None:
    """Warn where the same was written to other memory before; once for each."""
    if _addresses.get(what, address) != address:
        _warn_once(what)


def _warn_once(what: Hashable) -> None:
    claim, me = (_CLAIM, what), object()
    try:
        if _addresses.setdefault(claim, me) is me:
            warnings.warn(
                "two tensors of one seed, shape and scheme get the same values, since neither has a name: "
                "give each parameter its name=, or a seed of its own",
                RepeatedValuesWarning,
                stacklevel=_levels_to_the_caller(),
            )
    except RepeatedValuesWarning:
        raise
    except BaseException:  # an interrupt: nobody has seen the warning
        if _addresses.get(claim) is me:
            del _addresses[claim]
        raise


def _forget() -> None:
    """In a forked process, which may make again what its parent made, as where each rank builds the model."""
    _addresses.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _levels_to_the_caller() -> int:
    """How many calls up the code is that is none of this package or its adapters."""
    folder = Path(__file__).parent
    adapters = getattr(sys.modules.get("winit_fast.adapters"), "__file__", None)  # in a clone another folder
    ours = tuple(f"{path}{os.sep}" for path in (folder, Path(adapters).parent if adapters else folder))
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(ours):
        frame, level = frame.f_back, level + 1
    return level
