"""Memory that every framework adopts without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from operator import index
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["empty"]


def empty(
    shape: SupportsIndex | Sequence[SupportsIndex], dtype: DTypeLike = np.float32, *, align: int = 64
) -> NDArray[Any]:
    """An uninitialized C-contiguous array at an aligned address.

    64 bytes is what JAX adopts without a copy and what TensorFlow demands of memory handed over through DLPack. NumPy
    asks Linux for huge pages by itself where the array is large.

    Parameters
    ----------
    shape : int or sequence of int
    dtype : data-type, default float32
    align : int, default 64
        In bytes; a power of two.

    Returns
    -------
    ndarray

    Raises
    ------
    TypeError, ValueError
        If `align` is not a power of two, or as `numpy.empty`.

    Examples
    --------
    >>> import winit_fast
    >>> table = winit_fast.empty((1000, 3), "float16")
    >>> table.shape, table.ctypes.data % 64
    ((1000, 3), 0)
    """
    if isinstance(align, bool) or not hasattr(align, "__index__"):
        raise TypeError(f"align must be an int, a power of two, got {align!r}")
    if align < 1 or align & (align - 1):
        raise ValueError(f"align must be a power of two, got {align}")
    kind = np.dtype(dtype)
    sizes = (index(shape),) if hasattr(shape, "__index__") else tuple(index(size) for size in shape)
    if any(size < 0 for size in sizes):
        raise ValueError(f"shape must not be negative, got {sizes}")
    count = prod(sizes)
    memory = np.empty(count * kind.itemsize + align, np.uint8)
    skipped = -memory.ctypes.data % align
    return np.ndarray(sizes, kind, memory, skipped)  # unlike a slice, at that address even without elements
