"""Arrays of any other library, filled in place: those that share host memory by DLPack or as a buffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex, TypeVar

from winit_fast import Scheme
from winit_fast.initializer import Initializer, Keywords

from ._memory.host import array_of
from ._seeds import Seed, seed_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["init_"]

Array = TypeVar("Array")


def init_(
    array: Array, scheme: str | Scheme, *, seed: Seed = None, shape: Sequence[SupportsIndex] | None = None,
    offset: Sequence[SupportsIndex] | None = None, threads: SupportsIndex | None = None, **keywords: Unpack[Keywords],
) -> Array:  # fmt: skip
    """Fill an array, or its part of a larger tensor, with starting weights, in place.

    Parameters
    ----------
    array
        Writable, in host memory, of a dtype that `winit_fast.fill` accepts. It must have an ``__array_interface__``, be
        a buffer, or support DLPack 1.0 or newer, which says whether an array is writable, and which NumPy reads from
        2.1 on. MLX arrays must have been evaluated.
    scheme, seed, shape, offset, threads, **keywords
        As in `winit_fast.adapters.numpy.init_`.

    Returns
    -------
    array

    Raises
    ------
    TypeError, ValueError
        If the memory cannot be shared, or is not host memory, or another argument cannot be used.

    Examples
    --------
    >>> from array import array
    >>> from winit_fast.adapters.dlpack import init_
    >>> init_(array("f", [0, 0]), "ones")
    array('f', [1.0, 1.0])
    """
    key, which = seed_of(scheme, seed), Initializer(scheme, **keywords)
    which.fill(array_of(array), seed=key, shape=shape, offset=offset, threads=threads)
    return array
