"""The memory of any array on a GPU, as a tensor of PyTorch's that writes to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .host import refuse_device

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["is_on_gpu", "shared"]

_CUDA, _ROCM = 2, 10  # DLPack's numbers
_READ_ONLY, _IS_COPIED = 1, 2  # bits of its flags


def is_on_gpu(array: Any) -> bool:
    """Whether an array is in the memory of CUDA or ROCm, and shares it by DLPack.

    Examples
    --------
    >>> is_on_gpu(bytearray(2))
    False
    """
    if hasattr(array, "__array_interface__") or not hasattr(array, "__dlpack_device__"):
        return False
    return int(array.__dlpack_device__()[0]) in (_CUDA, _ROCM)


@contextmanager
def shared(array: Any) -> Iterator[Tensor]:
    """A tensor that has an array's memory while a block runs, which writes to it on PyTorch's current stream.

    What the array's library has queued on its own current stream comes before. At the end of the block the host waits
    until all is written, since no protocol names the stream that the library will use next.

    Raises
    ------
    ValueError
        If PyTorch is not there for such a device, or the array may not be written to, or does not say.
    """
    kind, index = map(int, array.__dlpack_device__())
    obstacle = _find_obstacle(kind, index)
    if obstacle is not None:
        refuse_device(kind, f", which PyTorch fills where it can, but {obstacle}")
    _refuse_read_only(array)
    import torch
    from torch.utils.dlpack import from_dlpack

    tensor = from_dlpack(array)
    yield tensor
    torch.cuda.current_stream(tensor.device).synchronize()


def _find_obstacle(kind: int, index: int) -> str | None:
    try:
        import torch
    except ImportError as error:
        return f"it cannot be imported: {error}"
    if (kind == _ROCM) != (torch.version.hip is not None):
        return f"PyTorch {torch.__version__} is for others"
    if index >= torch.cuda.device_count():
        return f"PyTorch {torch.__version__} finds no device {index}"
    return None


def _refuse_read_only(array: Any) -> None:
    flags = _flags_of(array)
    if flags is None:  # as from CuPy before 14, whose other protocol says it
        interface = getattr(array, "__cuda_array_interface__", None)
        if interface is None:
            raise ValueError(
                "array must say whether it is writable, by DLPack 1.0 or newer or by __cuda_array_interface__, "
                f"got {type(array).__name__}"
            )
        flags = _READ_ONLY if interface["data"][1] else 0
    if flags & _IS_COPIED:
        raise ValueError(f"array must share its memory, got {type(array).__name__}, which hands out copies")
    if flags & _READ_ONLY:
        raise ValueError(f"array must be writable, got a read-only {type(array).__name__}")


def _flags_of(array: Any) -> int | None:
    """The flags that DLPack has from 1.0 on; None: the array's library knows older versions only."""
    import ctypes

    try:
        capsule = array.__dlpack__(max_version=(1, 0))
    except TypeError:
        return None
    find = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    try:
        address: int = find(capsule, b"dltensor_versioned")
    except ValueError:
        return None
    # Before the flags: two numbers of 32 bits, which are the version, and two pointers.
    return ctypes.c_uint64.from_address(address + 8 + 2 * ctypes.sizeof(ctypes.c_void_p)).value
