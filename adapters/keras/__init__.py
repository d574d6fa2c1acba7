"""Keras 3: initializers for its layers on the TensorFlow, JAX and PyTorch backends.

`SchemeInitializer` draws any scheme; Keras finds it by name too, as ``"winit_fast>he_normal"``. What
`keras.initializers` has stands here under its names, with its arguments, defaults and meanings, so that
``from winit_fast.adapters import keras as initializers`` can stand where ``from keras import initializers`` stood. The
values are not Keras's, whose generators are others, and one seed gives the same ones on every backend.

Memory is filled once and is then the variable's: TensorFlow's own, XLA's own, or an array that a PyTorch tensor takes
over. On JAX a `keras.distribution` gets its variables shard by shard; but Keras passes the result through
`jax.sharding.explicit_axes`, which copies it, so that each device holds its shard twice until the copy is done.
"""

from typing import Any

from .. import needs

with needs("keras"):
    import keras as _keras  # type: ignore[import-untyped]

from .checking import check
from .drop_in import (
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Identity,
    IdentityInitializer,
    LecunNormal,
    LecunUniform,
    Orthogonal,
    OrthogonalInitializer,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    constant,
    deserialize,
    get,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    identity,
    lecun_normal,
    lecun_uniform,
    orthogonal,
    random_normal,
    random_uniform,
    serialize,
    truncated_normal,
    variance_scaling,
)
from .initializer import Initializer, SchemeInitializer, init_

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "IdentityInitializer",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Orthogonal",
    "OrthogonalInitializer",
    "RandomNormal",
    "RandomUniform",
    "SchemeInitializer",
    "TruncatedNormal",
    "VarianceScaling",
    "check",
    "constant",
    "deserialize",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "init_",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "serialize",
    "truncated_normal",
    "variance_scaling",
]


def __getattr__(name: str) -> Any:
    """What is not here is Keras's own: `Zeros`, `Ones`, `STFT`, and what newer versions have."""
    return getattr(_keras.initializers, name)


def __dir__() -> list[str]:
    return __all__
