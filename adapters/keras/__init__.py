"""Keras 3: initializers for its layers on the TensorFlow, JAX and PyTorch backends.

`SchemeInitializer` draws any scheme. Keras also finds schemes by name, as ``"winit_fast>he_normal"``.
``from winit_fast.adapters import keras as initializers`` is a drop-in replacement for `keras.initializers`: it has all
its names, with the same arguments, defaults and meanings. The values differ from Keras's, whose generators are
different. A seed gives the same values on every backend.

Memory is filled once and then belongs to the variable: memory of TensorFlow or XLA, or an array that a PyTorch tensor
takes over. On JAX, variables under a `keras.distribution` are made shard by shard. Keras then passes them through
`jax.sharding.explicit_axes`, which makes a copy: each device holds its shard twice until the copy is done.
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
    """Return Keras's own for all other names: `Zeros`, `Ones`, `STFT`, and those of newer versions."""
    return getattr(_keras.initializers, name)


def __dir__() -> list[str]:
    return __all__
