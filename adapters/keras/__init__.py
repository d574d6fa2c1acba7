"""Keras 3: initializers for its layers on the TensorFlow, JAX and PyTorch backends.

`SchemeInitializer` draws any scheme; Keras finds it by name too, as ``"winit_fast>he_normal"``. All that
`keras.initializers` has is here under its names, with its arguments, defaults and meanings:
``from winit_fast.adapters import keras as initializers`` is a drop-in replacement for
``from keras import initializers``. The values are not Keras's, which has other generators. One seed gives the same
values on every backend.

Memory is filled once and then belongs to the variable: TensorFlow's own, XLA's own, or an array that a PyTorch tensor
takes over. On JAX the variables of a `keras.distribution` are made shard by shard. Keras then passes them through
`jax.sharding.explicit_axes`, which copies: each device holds its shard twice until the copy is done.
"""

from typing import Any

from .. import needs

with needs("keras"):
    import keras as _keras  # type: ignore[import-untyped]

from . import drop_in
from .checking import check
from .drop_in import *  # noqa: F403 - it lists its names
from .initializer import Initializer, SchemeInitializer, init_

__all__ = ["Initializer", "SchemeInitializer", "check", "init_", *drop_in.__all__]


def __getattr__(name: str) -> Any:
    """What is not here is Keras's own: `Zeros`, `Ones`, `STFT`, and what newer versions have."""
    return getattr(_keras.initializers, name)


def __dir__() -> list[str]:
    return __all__
