"""How each backend of Keras gets memory that is filled once and is then its own."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winit_fast import Scheme, empty, fill
from winit_fast.distributions import Elementwise

from .. import needs
from .._handover.pieces import PIECE

with needs("keras"):
    import keras  # type: ignore[import-untyped]

__all__ = ["made", "refill"]


def made(dtype: str, layout: Any, shape: tuple[int, ...], seed: Any, arguments: dict[str, Any]) -> Any:
    """A tensor of the backend's."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _made_by_tensorflow(dtype, shape, seed, arguments)
    if backend == "jax":
        return _made_by_jax(dtype, layout, shape, seed, arguments)
    if backend == "torch":
        return _made_by_torch(dtype, shape, seed, arguments)
    raise NotImplementedError(f"the backend of Keras must be tensorflow, jax or torch, got {backend}")


def _made_by_tensorflow(dtype: str, shape: tuple[int, ...], seed: Any, arguments: dict[str, Any]) -> Any:
    import tensorflow as tf  # type: ignore[import-untyped]

    from .._handover.tensorflow import filled

    kind = tf.as_dtype(dtype)
    if tf.executing_eagerly():
        return filled(shape, kind, partial(fill, seed=_number(seed), **arguments))

    # In a graph, where Keras asks for a stand-in that is hardly ever computed.
    def compute(words: NDArray[Any]) -> NDArray[Any]:
        return fill(empty(shape, kind.as_numpy_dtype), seed=_joined(words), **arguments)

    words = np.array([seed >> 32, seed % (1 << 32)]) if isinstance(seed, int) else seed.next()
    return tf.ensure_shape(tf.numpy_function(compute, [words], kind, stateful=False), shape)


def _made_by_jax(dtype: str, layout: Any, shape: tuple[int, ...], seed: Any, arguments: dict[str, Any]) -> Any:
    import jax

    from .._handover.jax import filled, is_traced, words_of

    dtype = jax.dtypes.canonicalize_dtype(dtype).name  # without jax_enable_x64 Keras's own are float32 too
    sharding = getattr(layout, "backend_layout", layout)  # a TensorLayout has one
    if is_traced(0):
        key = words_of(seed) if isinstance(seed, int) else seed.next()
        return filled(shape, key=key, dtype=np.dtype(dtype), sharding=sharding, **arguments)
    nowhere = jax.sharding.Mesh(np.empty((), object), ())
    # Keras calls inside of a mesh whose axes are of another kind than those of the generator's state.
    with jax.set_mesh(nowhere) if hasattr(jax, "set_mesh") else nullcontext():
        key = words_of(_number(seed))
    return filled(shape, key=key, dtype=np.dtype(dtype), sharding=sharding, **arguments)


def _made_by_torch(dtype: str, shape: tuple[int, ...], seed: Any, arguments: dict[str, Any]) -> Any:
    import torch

    from .._handover.torch import tensor_of

    device = keras.ops.convert_to_tensor(0.0).device  # the one that Keras is to use now
    if device.type == "meta":
        return torch.empty(shape, dtype=getattr(torch, dtype), device=device)
    return tensor_of(fill(empty(shape, dtype), seed=_number(seed), **arguments)).to(device)


def refill(variable: Any, shape: tuple[int, ...], seed: Any, arguments: dict[str, Any]) -> None:
    """Write to a variable's memory where the backend lets us, else assign a new tensor."""
    backend, value = keras.backend.backend(), variable._value  # not what autocast makes of it
    if backend == "torch" and value.is_cpu:
        import torch

        from .._handover.torch import array_of

        fill(array_of(value), seed=_number(seed), **arguments)
        torch.autograd.graph.increment_version(value)  # autograd must see the write
    elif backend == "tensorflow" and shape and _is_elementwise(shape, **arguments):
        import tensorflow as tf

        from .._handover.tensorflow import refill as refill_variables

        if not tf.executing_eagerly():
            raise RuntimeError("init_ must be called outside of tf.function, which would fill again in every call")
        copies = value.values if isinstance(value, tf.distribute.DistributedValues) else [value]
        key, most = _number(seed), PIECE // np.dtype(value.dtype.as_numpy_dtype).itemsize
        refill_variables(
            copies, shape, most, lambda array, begin: fill(array, seed=key, shape=shape, offset=begin, **arguments)
        )
    else:
        layout = getattr(value, "sharding", None)
        variable.assign(made(variable.dtype, layout if hasattr(layout, "mesh") else None, shape, seed, arguments))


def _is_elementwise(shape: tuple[int, ...], scheme: Scheme, **arguments: Any) -> bool:
    """Whether parts cost no more than the whole, since no element hangs together with others."""
    axes = {argument: arguments[argument] for argument in ("in_axis", "out_axis", "batch_axis")}
    return isinstance(
        scheme.distribution(shape, **{argument: given for argument, given in axes.items() if given is not None}),
        Elementwise,
    )


def _number(seed: Any) -> int:
    """The int of a seed: an int, or a `keras.random.SeedGenerator`, which makes another one every time."""
    return seed if isinstance(seed, int) else _joined(keras.ops.convert_to_numpy(seed.next()))


def _joined(words: NDArray[Any]) -> int:
    """The int of two words, the high one first; one may be negative where the backend has no unsigned integers."""
    high, low = (int(word) % (1 << 32) for word in words)
    return high << 32 | low
