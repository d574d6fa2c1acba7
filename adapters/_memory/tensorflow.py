"""TensorFlow tensors whose values are written where they stay.

Memory has two ways to become a tensor's. Through DLPack TensorFlow reads an array of NumPy's where it is. It aborts the
process where the address is no multiple of 64, and never writes to the memory, which is not its own: the first update
of a variable made of such a tensor copies it whole, so that a training would need its tables twice as it begins. What
`tf.raw_ops.Empty` allocates is TensorFlow's own: a variable made of it keeps that memory and is updated in place, and
no address can be wrong. So what shall last is asked of TensorFlow first and filled before anyone else sees it
(`make_tensor`), and what is read once and dropped is handed over (`tensor_of`).

TensorFlow with oneDNN, as on Linux on x86-64, allocates from a pool that keeps what is freed and takes 8 bytes for
every 256 to manage them (its `BFCAllocator`): 64 MiB for 2 GiB, whoever fills them. With
TF_ONEDNN_USE_SYSTEM_ALLOCATOR=1 in the environment there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_char
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf  # type: ignore[import-untyped]
from numpy.typing import NDArray

from winit_fast import empty
from winit_fast.distributions import Elementwise

from .pieces import PIECE, pieces
from .request import Request

__all__ = ["make_tensor", "on_host", "refill", "repeat", "tensor_of"]


def make_tensor(shape: tuple[int, ...], dtype: tf.DType, write: Callable[[NDArray[Any]], object]) -> tf.Tensor:
    """A tensor on this host's CPU in the memory that `write` has filled.

    Parameters
    ----------
    shape : tuple of int
    dtype : tf.DType
        A number's.
    write : callable
        Gets a C-contiguous array of that shape and dtype and leaves a value in each element. It must not keep the
        array: the memory is the tensor's.

    Returns
    -------
    tf.Tensor
        An eager one. ``tf.Variable`` of it shares its memory, and is updated there once the tensor is gone.

    Examples
    --------
    >>> import tensorflow as tf
    >>> make_tensor((2,), tf.float32, lambda array: array.fill(3)).numpy()
    array([3., 3.], dtype=float32)
    """
    with on_host():
        flat = _allocate(prod(shape), dtype)
        tensor = tf.reshape(flat, np.array(shape, np.int64))  # the same memory
    # Converting to NumPy shares memory where TensorFlow can, but read-only: to everybody else a tensor is a value.
    view = np.asarray(flat)
    if view.size and not np.shares_memory(view, np.asarray(flat)):
        raise RuntimeError(f"TensorFlow {tf.__version__} shows NumPy no memory of a tensor, only copies")
    memory: Any = (c_char * view.nbytes).from_address(view.ctypes.data)
    write(np.ndarray(shape, view.dtype, memory))
    return tensor


def tensor_of(array: NDArray[Any]) -> tf.Tensor:
    """A tensor on this host's CPU that reads an array's memory.

    For what is only read: a variable made of it is copied at its first update. The array must not be written to any
    more.

    Parameters
    ----------
    array : ndarray
        Writable, C-contiguous, at a multiple of 64 bytes, as `winit_fast.empty` makes them. 8-bit floats, which
        TensorFlow takes from nobody, are copied.

    Returns
    -------
    tf.Tensor

    Raises
    ------
    ValueError
        If TensorFlow cannot read the memory where it is.

    Examples
    --------
    >>> import winit_fast
    >>> tensor = tensor_of(winit_fast.fill(winit_fast.empty(2, "bfloat16"), "ones"))
    >>> tensor.dtype, tensor.shape
    (tf.bfloat16, TensorShape([2]))
    """
    dtype = tf.as_dtype(array.dtype)
    if not array.flags.carray or array.ctypes.data % 64:  # beyond this line a wrong address ends the process
        raise ValueError(
            "array must be writable and C-contiguous at a multiple of 64 bytes, as winit_fast.empty makes it, "
            f"got strides {array.strides} at {array.ctypes.data % 64} bytes past one"
        )
    with on_host():
        if not array.size or (dtype.size == 1 and dtype.is_floating):
            return tf.constant(array)
        if dtype != tf.bfloat16:
            return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
        bits = tf.experimental.dlpack.from_dlpack(array.view(np.uint16).__dlpack__())  # NumPy hands over its own types
        return tf.bitcast(bits, dtype)


def refill(copies: Sequence[tf.Variable], request: Request, offset: tuple[int, ...]) -> None:
    """Write to variables of equal values where they stand, in pieces where elements are drawn by themselves.

    Parameters
    ----------
    copies : sequence of tf.Variable
        Plain ones, of one shape and one dtype, each on its device.
    request : Request
        Of the tensor that they are, or a part of; its seed is the int that it has become.
    offset : tuple of int
        Where in that tensor the variables begin.

    Examples
    --------
    >>> import tensorflow as tf
    >>> from winit_fast.adapters._memory.request import Request
    >>> from winit_fast.initializer import Initializer
    >>> variable = tf.Variable([1.0, 2.0, 3.0])
    >>> refill([variable], Request(Initializer("ones", padding_idx=0), (5,)), (0,))
    >>> variable.numpy()
    array([0., 1., 1.], dtype=float32)
    """
    shape, dtype = tuple(copies[0].shape), np.dtype(copies[0].dtype.as_numpy_dtype)
    is_elementwise = isinstance(request.distribution(dtype), Elementwise)
    try:
        for begin, sizes in pieces(shape, PIECE // dtype.itemsize if is_elementwise else prod(shape)):
            first = tuple(map(sum, zip(offset, begin, strict=True)))
            piece = tensor_of(request.fill(empty(sizes, dtype), seed=request.seed, offset=first))
            for copy in copies:
                _update(copy, begin, piece)
    finally:
        for copy in copies:
            # Updates of parts leave a variable in a mode in which whatever reads it gets a copy.
            tf.raw_ops.DisableCopyOnRead(resource=copy.handle)


def _update(variable: tf.Variable, begin: tuple[int, ...], piece: tf.Tensor) -> None:
    """Write a piece of a variable where it stands.

    ``variable[...].assign`` would copy the whole first. Whole rows are written five times as fast as rectangles; of
    8-bit floats TensorFlow writes rectangles alone.
    """
    sizes = tuple(piece.shape)
    with on_host():
        if len(sizes) > 1 and sizes[1:] == tuple(variable.shape[1:]) and piece.dtype.size > 1:
            rows = empty(sizes[0], np.int64)
            rows[:] = np.arange(begin[0], begin[0] + sizes[0])
            tf.raw_ops.ResourceScatterUpdate(resource=variable.handle, indices=tensor_of(rows), updates=piece)
            return
        first = tf.constant(begin, tf.int64, (len(sizes),))
        last, steps = first + tf.shape(piece, tf.int64), tf.ones_like(first)
        tf.raw_ops.ResourceStridedSliceAssign(ref=variable.handle, begin=first, end=last, strides=steps, value=piece)


@contextmanager
def on_host() -> Iterator[None]:
    """Place operations on the CPU of this process, whatever device or other host is chosen around them."""
    with tf.device(None), tf.device("CPU:0"):
        yield


def _allocate(count: int, dtype: tf.DType) -> tf.Tensor:
    if dtype.size > 1:
        return tf.raw_ops.Empty(shape=np.array([count], np.int64), dtype=dtype)
    return repeat(np.zeros((), dtype.as_numpy_dtype), (count,))


def repeat(value: NDArray[Any], shape: tuple[int, ...]) -> tf.Tensor:
    """One value everywhere, in a graph or not.

    Examples
    --------
    >>> import numpy as np
    >>> repeat(np.asarray(3, "int8"), (2,)).numpy()
    array([3, 3], dtype=int8)
    """
    # Of 8-bit floats TensorFlow makes many by this alone.
    return tf.broadcast_to(tf.constant(value), np.array(shape, np.int64))
