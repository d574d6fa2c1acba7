"""Arrays of any other library, filled where they stand: what shares the host's memory by DLPack or as a buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from winit_fast.memory import dtype_of

from . import numpy as arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from winit_fast import Scheme

__all__ = ["init_"]

Array = TypeVar("Array")
_NARROW = {"bfloat16": "int16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}
_HOST = (1, 3, 11)  # DLPack's numbers of plain memory, and of what CUDA and ROCm have pinned


def init_(array: Array, scheme: str | Scheme, **arguments: Unpack[arrays.Arguments]) -> Array:
    """Fill an array, or its part of a larger tensor, with starting weights, in place.

    Parameters
    ----------
    array
        Writable, in the host's memory, of a dtype that `winit_fast.fill` has; with ``__array_interface__``, a buffer,
        or DLPack from version 1.0 on, which says whether it may be written to. MLX's must have been evaluated.
    scheme, **arguments
        As `winit_fast.adapters.numpy.init_` takes them.

    Returns
    -------
    array

    Raises
    ------
    TypeError, ValueError
        If the memory cannot be shared, or is not the host's, or another argument cannot be used.

    Examples
    --------
    >>> from array import array
    >>> init_(array("f", [0, 0]), "ones")
    array('f', [1.0, 1.0])
    """
    arrays.init_(_memory_of(array), scheme, **arguments)
    return array


def _memory_of(array: Any) -> NDArray[Any]:
    if hasattr(array, "__array_interface__"):
        return np.asarray(array)
    try:
        view = memoryview(array)
    except TypeError:
        return _memory_by_dlpack(array)
    if view.format in _NARROW and view.c_contiguous:  # as MLX calls them, and NumPy does not
        return np.ndarray(view.shape or (), dtype_of(view.format), array)
    return np.asarray(view)


def _memory_by_dlpack(array: Any) -> NDArray[Any]:
    if not hasattr(array, "__dlpack__"):
        raise TypeError(f"array must share its memory by DLPack or as a buffer, got {type(array).__name__}")
    device = int(array.__dlpack_device__()[0])
    if device not in _HOST:
        raise ValueError(f"array must be in the host's memory, got one on a device of DLPack's kind {device}")
    dtype = str(getattr(array, "dtype", "")).rpartition(".")[2]
    if dtype not in _NARROW:
        return np.from_dlpack(array)
    one, other = (np.from_dlpack(array.view(_NARROW[dtype])) for _ in range(2))  # NumPy takes integers of their size
    if one.ctypes.data != other.ctypes.data:
        raise TypeError(f"array must share its memory, and its view as {_NARROW[dtype]} is a copy")
    return one.view(dtype_of(dtype))
