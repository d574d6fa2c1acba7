"""The memory of any array on the host, as an array of NumPy's that writes to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from winit_fast.memory import dtype_of

__all__ = ["array_of", "refuse_device"]

# What NumPy takes by DLPack in place of types that it lacks: integers of their size.
_NARROW = {"bfloat16": "int16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}
_HOST = (1, 3, 11)  # DLPack's numbers of plain memory, and of what CUDA and ROCm have pinned
_DEVICES = {
    2: " (CUDA)", 4: " (OpenCL)", 7: " (Vulkan)", 8: " (Metal)", 10: " (ROCm)", 13: " (CUDA, managed)", 14: " (oneAPI)",
}  # fmt: skip


def array_of(array: Any) -> NDArray[Any]:
    """The memory behind ``__array_interface__``, a buffer or DLPack; it can be written to if they say so.

    Raises
    ------
    TypeError, ValueError
        If there is none of them, or the memory is a device's.

    Examples
    --------
    >>> array_of(bytearray(2))
    array([0, 0], dtype=uint8)
    """
    if hasattr(array, "__array_interface__"):
        return np.asanyarray(array)  # a masked one stays so, and is refused
    try:
        view = memoryview(array)
    except TypeError:
        return _by_dlpack(array)
    if view.format in _NARROW and view.c_contiguous:  # as MLX calls them, and NumPy does not
        return np.ndarray(view.shape or (), dtype_of(view.format), array)
    return np.asarray(view)


def _by_dlpack(array: Any) -> NDArray[Any]:
    if not hasattr(array, "__dlpack__"):
        raise TypeError(f"array must share its memory by DLPack or as a buffer, got {type(array).__name__}")
    refuse_device(int(array.__dlpack_device__()[0]))
    dtype = str(getattr(array, "dtype", "")).rpartition(".")[2]
    if dtype not in _NARROW:
        return np.from_dlpack(array)
    one, other = (np.from_dlpack(array.view(_NARROW[dtype])) for _ in range(2))
    if one.ctypes.data != other.ctypes.data:
        raise TypeError(f"array must share its memory, and its view as {_NARROW[dtype]} is a copy")
    return one.view(dtype_of(dtype))


def refuse_device(kind: int, why: str = "") -> None:
    """Raise where memory is a device's, by DLPack's number of it."""
    if kind not in _HOST:
        named = f"{kind}{_DEVICES.get(kind, '')}"
        raise ValueError(f"array must be in the host's memory, got one on a device of DLPack's kind {named}{why}")
