"""How each backend of Keras gets memory that is filled once and is then its own."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winit_fast import empty
from winit_fast.repeats import note_fill, warn_of_repeats

from .. import needs
from .._memory.constants import FILLED
from .._memory.request import Request

with needs("keras"):
    import keras  # type: ignore[import-untyped]

__all__ = ["key_words", "make_tensor", "refill"]


def make_tensor(dtype: str, layout: Any, request: Request) -> Any:
    """Make a tensor of the backend's; the seed is an int, a `keras.random.SeedGenerator` or a key of JAX's."""
    backend = keras.backend.backend()
    if backend == "jax":
        return _make_by_jax(dtype, layout, request)
    if dtype not in FILLED:
        return _make_constant(dtype, request)
    if backend == "tensorflow":
        return _make_by_tensorflow(dtype, request)
    if backend == "torch":
        return _make_by_torch(dtype, request)
    raise NotImplementedError(f"the backend of Keras must be tensorflow, jax or torch, got {backend}")


def _make_constant(dtype: str, request: Request) -> Any:
    """Make a constant of a type that holds its value as it is: integers, bool."""
    value = request.check(np.dtype(dtype))
    if request.initializer.padding_idx is None:
        return keras.ops.full(request.shape, value, dtype)
    return keras.ops.convert_to_tensor(request.fill(np.empty(request.shape, dtype)), dtype)


def _make_by_tensorflow(dtype: str, request: Request) -> Any:
    import tensorflow as tf  # type: ignore[import-untyped]

    from .._memory.tensorflow import make_tensor

    kind, shape, seed = tf.as_dtype(dtype), request.shape, request.seed
    if tf.executing_eagerly():
        return make_tensor(shape, kind, partial(request.fill, seed=_read_seed(seed)))

    # In a graph, where Keras asks for a stand-in that is hardly ever computed.
    def compute(words: NDArray[Any]) -> NDArray[Any]:
        return request.fill(empty(shape, kind.as_numpy_dtype), seed=_join(words))

    words = np.array([seed >> 32, seed % (1 << 32)]) if isinstance(seed, int) else seed.next()
    return tf.ensure_shape(tf.numpy_function(compute, [words], kind, stateful=False), shape)


def _make_by_jax(dtype: str, layout: Any, request: Request) -> Any:
    import jax

    from .._memory.jax import is_traced, make_array

    kind = jax.dtypes.canonicalize_dtype(dtype)  # without jax_enable_x64 Keras's own are float32 too
    sharding = getattr(layout, "backend_layout", layout)  # a TensorLayout has one
    array = make_array(request._replace(seed=_read_key(request.seed)), kind, sharding)
    if not is_traced(0):
        _warn(request, next(_calls))
    return array


_calls = count()


def _warn(request: Request, memory: int) -> None:
    """As `fill` does, where that is not told which memory it fills."""
    values = request.initializer.identify(request.seed, request.shape)
    warn_of_repeats(values, memory)
    note_fill(values, memory)


def _read_key(seed: Any) -> Any:
    """Two words for a seed on JAX, or the seed itself where it is a key of `jax.random`."""
    import jax

    from .._memory.jax import is_traced, words_of

    if isinstance(seed, int):
        return words_of(seed)
    if isinstance(seed, jax.Array):
        return seed
    if is_traced(0):
        return seed.next()
    # Where parts of variables are made, Keras calls inside of a mesh whose axes are of another kind than those of the
    # generator's state. Elsewhere there is none, and JAX forbids to set one within `jax.grad` and `jax.vmap`.
    around = getattr(jax.sharding, "get_abstract_mesh", lambda: None)()
    is_in_mesh = hasattr(jax, "set_mesh") and around is not None and not around.empty
    nowhere = jax.sharding.Mesh(np.empty((), object), ())
    with jax.set_mesh(nowhere) if is_in_mesh else nullcontext():
        return words_of(_read_seed(seed))


def key_words(seed: Any) -> Any:
    """The words of one key of `jax.random`, typed or raw; None of what is none."""
    if keras.backend.backend() != "jax" or not keras.ops.is_tensor(seed):
        return None
    import jax

    words = jax.random.key_data(seed) if jax.numpy.issubdtype(seed.dtype, jax.dtypes.prng_key) else seed
    return words if words.ndim == 1 and words.dtype == np.uint32 else None


def _make_by_torch(dtype: str, request: Request) -> Any:
    import torch

    from .._memory.torch import tensor_of

    device = keras.ops.convert_to_tensor(0.0).device  # the one that Keras is to use now
    if device.type == "meta":
        return torch.empty(request.shape, dtype=getattr(torch, dtype), device=device)
    return tensor_of(request.fill(empty(request.shape, dtype), seed=_read_seed(request.seed))).to(device)


def refill(variable: Any, given: Request) -> None:
    """Write to a variable's memory where the backend lets us, else assign a new tensor."""
    backend, value = keras.backend.backend(), variable._value  # not what autocast makes of it
    request, shape = given.unnamed(), given.shape
    if variable.dtype not in FILLED:
        variable.assign(make_tensor(variable.dtype, None, request))
    elif backend == "torch" and value.is_cpu:
        import torch

        from .._memory.torch import array_of

        request.fill(array_of(value), seed=_read_seed(request.seed))
        torch.autograd.graph.increment_version(value)  # autograd must see the write
    elif backend == "tensorflow" and shape and request.initializer.is_elementwise(shape):
        import tensorflow as tf

        from .._memory.tensorflow import refill as refill_variables

        if not tf.executing_eagerly():
            raise RuntimeError("init_ must be called outside of tf.function, which would fill again in every call")
        copies = value.values if isinstance(value, tf.distribute.DistributedValues) else [value]
        refill_variables(copies, request._replace(seed=_read_seed(request.seed)), (0,) * len(shape))
    else:
        layout = getattr(value, "sharding", None)
        variable.assign(make_tensor(variable.dtype, layout if hasattr(layout, "mesh") else None, request))
    _warn(given, id(variable))


def _read_seed(seed: Any) -> int:
    """The int of a seed: an int, or a `keras.random.SeedGenerator`, which makes another one every time."""
    return seed if isinstance(seed, int) else _join(keras.ops.convert_to_numpy(seed.next()))


def _join(words: NDArray[Any]) -> int:
    """Join two words, the high one first; one may be negative where the backend has no unsigned integers."""
    high, low = (int(word) % (1 << 32) for word in words)
    return high << 32 | low
