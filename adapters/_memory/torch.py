"""PyTorch tensors that share the memory of NumPy arrays, in either direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winit_fast.messages import describe_missing

__all__ = ["FILLED", "array_of", "name_of", "tensor_of"]

# ml_dtypes' types, which NumPy does not know by itself, pass through as integers of the same size.
_INTEGERS = {torch.bfloat16: "int16", torch.float8_e4m3fn: "uint8", torch.float8_e5m2: "uint8"}
FILLED = (torch.float32, torch.float64, torch.float16, torch.complex64, torch.complex128, *_INTEGERS)


def name_of(dtype: torch.dtype) -> str:
    """The name that NumPy, ml_dtypes and PyTorch have for a dtype.

    Examples
    --------
    >>> import torch
    >>> name_of(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


# Where an empty tensor stands, for NumPy before 2.4, which takes no address of 0; nothing is read or written there.
_NOWHERE = 64

# How NumPy's array interface writes the type of what stands in memory.
_TYPES = {dtype: np.dtype(_INTEGERS.get(dtype, name_of(dtype))).str for dtype in FILLED}


def tensor_of(array: NDArray[Any]) -> Tensor:
    """A tensor on the CPU that takes over an array's memory.

    Parameters
    ----------
    array : ndarray
        Writable; of a dtype of NumPy's that PyTorch has too, or of ml_dtypes' bfloat16, float8_e4m3fn, float8_e5m2.

    Returns
    -------
    Tensor
        Of the same shape, dtype and strides. It keeps the memory alive, and no one else should write to it any more.

    Raises
    ------
    TypeError
        If PyTorch has no such dtype.

    Examples
    --------
    >>> import winit_fast
    >>> tensor_of(winit_fast.fill(winit_fast.empty(2, "bfloat16"), "ones"))
    tensor([1., 1.], dtype=torch.bfloat16)
    """
    for dtype, integers in _INTEGERS.items():
        if array.dtype.name == name_of(dtype):
            return torch.from_numpy(array.view(integers)).view(dtype)
    return torch.from_numpy(array)


def array_of(tensor: Tensor) -> NDArray[Any]:
    """The memory of a tensor on the CPU as a writable array, a parameter's too: the reverse of `tensor_of`.

    `Tensor.numpy` would forbid the storage to be resized ever after, as FSDP does. Whoever writes to the array calls
    `torch.autograd.graph.increment_version`, since autograd does not see that.

    Parameters
    ----------
    tensor : Tensor
        Dense, on the CPU, of a dtype in `FILLED`. The caller holds it for as long as the array is in use.

    Returns
    -------
    ndarray

    Raises
    ------
    TypeError
        If the dtype is another.
    ModuleNotFoundError
        If the dtype is one of ml_dtypes', which is not installed.

    Examples
    --------
    >>> import torch
    >>> weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    >>> array_of(weight)[1] = 3
    >>> weight.tolist()
    [0.0, 3.0]
    """
    if tensor.dtype not in FILLED:
        raise TypeError(f"tensor must be of dtype {', '.join(map(str, FILLED))}, got {tensor.dtype}")
    array = np.asarray(_Memory(tensor))
    if tensor.dtype not in _INTEGERS:
        return array
    try:
        import ml_dtypes
    except ImportError:
        raise ModuleNotFoundError(describe_missing(f"a tensor of {tensor.dtype}", "ml_dtypes", "torch")) from None
    return array.view(getattr(ml_dtypes, name_of(tensor.dtype)))


class _Memory:
    """Where a tensor stands, for NumPy."""

    __slots__ = ("__array_interface__",)

    def __init__(self, tensor: Tensor) -> None:
        size = tensor.element_size()
        self.__array_interface__ = {
            "version": 3,
            "data": (tensor.data_ptr() or _NOWHERE, False),
            "shape": tuple(tensor.shape),
            "strides": tuple(stride * size for stride in tensor.stride()),
            "typestr": _TYPES[tensor.dtype],
        }
