"""Memory that every framework adopts without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from winit_fast.arguments import MOST_AXES
from winit_fast.messages import as_int, as_sizes, describe_missing, quote

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["dtype_of", "empty"]


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
        ``"bfloat16"`` and the 8-bit floats need ml_dtypes.
    align : int, default 64
        In bytes; a power of two.

    Returns
    -------
    ndarray

    Raises
    ------
    TypeError, ValueError
        If `align` is not a power of two, if items of the dtype hold or are references (objects, StringDType), whose
        garbage would crash whoever reads it, or as `numpy.empty`.

    Examples
    --------
    >>> import winit_fast
    >>> table = winit_fast.empty((1000, 3), "float16")
    >>> table.shape, table.ctypes.data % 64
    ((1000, 3), 0)
    """
    boundary = as_int("align", align, "an int, a power of two")
    if boundary < 1 or boundary & (boundary - 1):
        raise ValueError(f"align must be a power of two, got {quote(align)}")
    kind = dtype_of(dtype)
    if kind.hasobject or kind.flags & _IS_POINTER:
        raise TypeError(f"dtype must be one whose items are plain bytes, got {quote(kind)}: its items hold references")
    is_integer = hasattr(shape, "__index__") and getattr(shape, "ndim", 0) == 0  # any NumPy array has the method
    sizes = as_sizes("shape", (shape,) if is_integer else shape)
    if len(sizes) + kind.ndim > MOST_AXES:  # a dtype of arrays has axes of its own
        raise ValueError(f"shape must have at most {MOST_AXES - kind.ndim} axes, got {len(sizes)}")
    count = prod(sizes)
    if max((*sizes, count * kind.itemsize + boundary)) >= 1 << 63:
        raise ValueError(f"shape must be of fewer than 2^63 bytes, got {quote(sizes)} of {quote(kind)}")
    make = np.zeros if kind.flags & _NEEDS_INIT else np.empty  # of str: garbage is no text, and cannot be read
    memory = make(count * kind.itemsize + boundary, np.uint8)
    skipped = -memory.ctypes.data % boundary
    return np.ndarray(sizes, kind, memory, skipped)  # unlike a slice, at that address even without elements


def dtype_of(dtype: DTypeLike) -> np.dtype[Any]:
    """The dtype; bfloat16 and the 8-bit floats by name too, which NumPy knows once ml_dtypes has been imported."""
    if isinstance(dtype, str) and dtype.startswith(("bfloat16", "float8_")):
        try:
            import ml_dtypes  # noqa: F401
        except ImportError:
            raise TypeError(describe_missing(f"dtype {quote(dtype)}", "ml_dtypes", "bfloat16")) from None
    try:
        return np.dtype(dtype)
    except Exception:  # NumPy parses texts, follows .dtype, and prints what it cannot read
        from winit_fast.element_types import ELEMENT_TYPES

        close = nearest_type(dtype if isinstance(dtype, str) else quote(dtype))
        hint = f"; did you mean {close!r}?" if close else f"; fill takes {', '.join(ELEMENT_TYPES)}"
        raise TypeError(f"dtype must be one of NumPy's or the name of one, got {quote(dtype)}{hint}") from None


def nearest_type(text: str) -> str | None:
    """The element type that a word which is none may stand for, or None."""
    from winit_fast.arguments import nearest_word
    from winit_fast.element_types import ELEMENT_TYPES

    word = text.rpartition(".")[2]  # torch.float16 is of another library, and named as NumPy's
    return _SHORT.get(word.lower()) or nearest_word(word, ELEMENT_TYPES)


_IS_POINTER, _NEEDS_INIT = 0x04, 0x08  # flags of NumPy's dtypes, which have no names in Python

# What PyTorch's and JAX's users write.
_SHORT = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64", "f16": "float16"}
_SHORT |= {"fp8": "float8_e4m3fn", "float8": "float8_e4m3fn", "e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2"}
