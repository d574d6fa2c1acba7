"""A warning if two tensors hold the same values because neither was given a name."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["RepeatedValuesWarning", "note_fill", "warn_of_repeats"]


class RepeatedValuesWarning(UserWarning):
    """Two tensors without names, of one seed, shape and scheme, hold the same values.

    `fill` and all that use it warn once for each seed, shape and scheme. `fill_rows` and `fill_keys` do not: they make
    rows again on purpose.

    Examples
    --------
    >>> import warnings
    >>> import winit_fast
    >>> warnings.simplefilter("ignore", winit_fast.RepeatedValuesWarning)
    """


# What was filled without a name, and at which address. The limit is enough for the layers of any model; at it, all is
# forgotten. Under (_CLAIM, what) is the token of the thread that warns. Each change is one call of a dict method, so
# threads need no lock.
_MOST = 4096
_addresses: dict[Hashable, object] = {}
_CLAIM = "warned"


def note_fill(what: Hashable, address: int) -> None:
    """Remember where values without a name were written, under what decides them; None is never remembered."""
    if what is None:
        return
    if len(_addresses) >= _MOST:
        _addresses.clear()
    if _addresses.setdefault(what, address) != address:  # as another thread did meanwhile
        _warn_once(what)


def warn_of_repeats(what: Hashable, address: int, other: int | None = None) -> None:
    """Warn, once, if the same values were written to other memory before, or are about to be: `other`."""
    if what is not None and (_addresses.get(what, address) != address or other not in (None, address)):
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
    except BaseException:  # an interrupt: the warning was not seen
        if _addresses.get(claim) is me:
            _addresses.pop(claim, None)  # another thread may have forgotten all
        raise


def _forget() -> None:
    """Forget all in a forked process, which may build its parent's model again, as each rank does."""
    _addresses.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _levels_to_the_caller() -> int:
    """How many calls up the first code is that belongs neither to this package nor to its adapters."""
    folder = os.path.dirname(__file__)
    adapters = getattr(sys.modules.get("winit_fast.adapters"), "__file__", None)  # in a clone another folder
    ours = tuple(f"{path}{os.sep}" for path in (folder, os.path.dirname(adapters) if adapters else folder))
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(ours):
        frame, level = frame.f_back, level + 1
    return level
