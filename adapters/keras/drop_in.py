"""All names of `keras.initializers`, with the same arguments, defaults and meanings.

Constructors and configurations are inherited from Keras's classes; only the values come from here. Every class treats
its seed as `SchemeInitializer` does: without one, every call draws a new one.
"""

# mypy: allow-subclassing-any
# Keras says nothing of its types.

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from numbers import Real
from typing import Any, SupportsIndex

from winit_fast.schemes import Scheme, read_scheme

from .. import needs
from .backends import key_words
from .initializer import FilledByScheme, SchemeInitializer, Seed, find_fans, register, replace_fans

with needs("keras"):
    import keras  # type: ignore[import-untyped]

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "IdentityInitializer",
    "LecunNormal",
    "LecunUniform",
    "Orthogonal",
    "OrthogonalInitializer",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "constant",
    "deserialize",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "serialize",
    "truncated_normal",
    "variance_scaling",
]


class _Seeded(FilledByScheme):
    """An initializer of Keras that draws: its constructor, its configuration and its seed are Keras's."""

    _init_seed: Seed

    @property
    def seed(self) -> Seed:
        """The seed that was given, or None: each call draws another then.

        Keras has a number here in any case, with which layers copy the initializer: copies would repeat each other.
        """
        return vars(self).get("_given_seed")

    @seed.setter
    def seed(self, seed: Seed) -> None:
        is_default = "_given_seed" not in vars(self) and self._init_seed is None  # what Keras's constructor makes up
        vars(self)["_given_seed"] = None if is_default else seed

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make an initializer of what `get_config` gave; its seed may be a key of `jax.random`, too."""
        if key_words(config.get("seed")) is None:
            return super().from_config(config)  # type: ignore[misc]
        made = super().from_config({**config, "seed": None})  # type: ignore[misc]
        made.seed = config["seed"]
        return made

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "seed" in vars(self):  # as it was pickled once, with what Keras's constructor had made up
            self.seed = vars(self).pop("seed")


@register
class RandomUniform(_Seeded, keras.initializers.RandomUniform):
    """`keras.initializers.RandomUniform`: ``uniform(minval, maxval)``, below `maxval` in 16 bits too."""

    def _find_scheme(self, shape: tuple[int, ...]) -> Scheme:
        return read_scheme("uniform", low=float(self.minval), high=float(self.maxval), rounding="below_high")


@register
class RandomNormal(_Seeded, keras.initializers.RandomNormal):
    """`keras.initializers.RandomNormal`: ``normal(mean, stddev)``."""

    def _find_scheme(self, shape: tuple[int, ...]) -> Scheme:
        return read_scheme("normal", mean=float(self.mean), std=float(self.stddev))


@register
class TruncatedNormal(_Seeded, keras.initializers.TruncatedNormal):
    """`keras.initializers.TruncatedNormal`: ``truncated_normal(mean, stddev)``, cut at 2 of its standard deviations."""

    def _find_scheme(self, shape: tuple[int, ...]) -> Scheme:
        return read_scheme("truncated_normal", mean=float(self.mean), std=float(self.stddev))


@register
class VarianceScaling(_Seeded, keras.initializers.VarianceScaling):
    """`keras.initializers.VarianceScaling`: ``variance_scaling``, whose "normal" is Keras's "untruncated_normal".

    Examples
    --------
    >>> from winit_fast.adapters.keras import VarianceScaling
    >>> VarianceScaling(scale=2.0, distribution="untruncated_normal", seed=7)((64, 32)).shape == (64, 32)
    True
    """

    _scheme: Scheme | None = None  # of the subclasses, which have no arguments

    def _find_scheme(self, shape: tuple[int, ...]) -> Scheme:
        kind = "normal" if self.distribution == "untruncated_normal" else self.distribution
        scheme = self._scheme or read_scheme(
            "variance_scaling", scale=float(self.scale), mode=self.mode, distribution=kind
        )
        axes = getattr(self, "input_axes", None), getattr(self, "output_axes", None)  # before 3.15 there are none
        return replace_fans(scheme, find_fans(shape, *axes))


@register
class GlorotUniform(VarianceScaling, keras.initializers.GlorotUniform):
    """`keras.initializers.GlorotUniform`: ``xavier_uniform``."""

    _scheme = read_scheme("xavier_uniform")


@register
class GlorotNormal(VarianceScaling, keras.initializers.GlorotNormal):
    """`keras.initializers.GlorotNormal`: ``xavier_truncated_normal``."""

    _scheme = read_scheme("xavier_truncated_normal")


@register
class LecunUniform(VarianceScaling, keras.initializers.LecunUniform):
    """`keras.initializers.LecunUniform`: ``lecun_uniform``."""

    _scheme = read_scheme("lecun_uniform")


@register
class LecunNormal(VarianceScaling, keras.initializers.LecunNormal):
    """`keras.initializers.LecunNormal`: ``lecun_truncated_normal``."""

    _scheme = read_scheme("lecun_truncated_normal")


@register
class HeUniform(VarianceScaling, keras.initializers.HeUniform):
    """`keras.initializers.HeUniform`: ``he_uniform``."""

    _scheme = read_scheme("he_uniform")


@register
class HeNormal(VarianceScaling, keras.initializers.HeNormal):
    """`keras.initializers.HeNormal`: ``he_truncated_normal``, where ``"winit_fast>he_normal"`` is the paper's.

    Examples
    --------
    >>> import keras
    >>> from winit_fast.adapters.keras import HeNormal
    >>> weight = HeNormal(seed=7)((512, 256))
    >>> print(f"{keras.ops.convert_to_numpy(weight).std() * 16:.1f}")  # sqrt(2 / 512) = 1 / 16
    1.0
    """

    _scheme = read_scheme("he_truncated_normal")


@register
class Orthogonal(_Seeded, keras.initializers.Orthogonal):
    """`keras.initializers.Orthogonal`: ``orthogonal(gain)``."""

    def _find_scheme(self, shape: tuple[int, ...]) -> Scheme:
        if len(shape) < 2:
            raise ValueError(f"shape must have at least two axes, got {shape}")
        return read_scheme("orthogonal", gain=float(self.gain))


class _OfAnyType(FilledByScheme):
    """An initializer of Keras that draws nothing, and is asked for whole numbers too: Keras makes those itself."""

    def __call__(self, shape: Sequence[SupportsIndex], dtype: Any = None, layout: Any = None) -> Any:
        kind = keras.backend.standardize_dtype(dtype)
        if self._is_ours(kind):
            return super().__call__(shape, kind, layout)
        tensor = super(FilledByScheme, self).__call__(shape, kind)  # type: ignore[misc]
        return tensor if layout is None else keras.distribution.distribute_tensor(tensor, layout)

    def _is_ours(self, dtype: str) -> bool:
        return keras.backend.is_float_dtype(dtype)  # type: ignore[no-any-return]


@register
class Constant(_OfAnyType, keras.initializers.Constant):
    """`keras.initializers.Constant`: ``constant(value)``; what is no finite real number, Keras makes itself."""

    def _is_ours(self, dtype: str) -> bool:
        return super()._is_ours(dtype) and isinstance(self.value, Real) and isfinite(self.value)

    def _find_scheme(self, shape: tuple[int, ...]) -> Scheme:
        return read_scheme("constant", value=float(self.value))


@register
class Identity(_OfAnyType, keras.initializers.Identity):
    """`keras.initializers.Identity`: ``identity(gain)``."""

    def _find_scheme(self, shape: tuple[int, ...]) -> Scheme:
        if len(shape) != 2:
            raise ValueError(f"shape must have two axes, got {shape}")
        return read_scheme("identity", gain=float(self.gain))


# Keras's other names for them
constant = Constant
glorot_normal = GlorotNormal
glorot_uniform = GlorotUniform
he_normal = HeNormal
he_uniform = HeUniform
identity = IdentityInitializer = Identity
lecun_normal = LecunNormal
lecun_uniform = LecunUniform
orthogonal = OrthogonalInitializer = Orthogonal
random_normal = RandomNormal
random_uniform = RandomUniform
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling

serialize = keras.initializers.serialize


def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
    """The initializer of a configuration, as `keras.initializers.deserialize`, with what stands here for its names."""
    return keras.initializers.deserialize(config, {**_NAMES, **(custom_objects or {})})


def get(identifier: Any) -> Any:
    """The initializer of a name, a configuration or itself, as `keras.initializers.get`, with what stands here.

    A scheme with arguments has a name here too. Keras by itself looks up whole names alone; it takes
    ``{"class_name": "winit_fast>SchemeInitializer", "config": {"scheme": "normal(std=0.02)"}}``.

    Raises
    ------
    ValueError
        If there is no such name; of schemes the error says which was meant.

    Examples
    --------
    >>> from winit_fast.adapters.keras import HeNormal, get
    >>> isinstance(get("he_normal"), HeNormal)
    True
    >>> get("winit_fast>normal(std=0.02)").scheme
    scheme('normal', std=0.02)
    """
    if isinstance(identifier, str):
        package, _, scheme = identifier.partition(">")
        if package == "winit_fast" and identifier not in keras.saving.get_custom_objects():
            return SchemeInitializer(scheme)
        identifier = {"class_name": identifier, "config": {}}
    return keras.initializers.get(deserialize(identifier) if isinstance(identifier, dict) else identifier)


_NAMES = {name: value for name, value in globals().items() if name in __all__ and isinstance(value, type)}
_NAMES |= {"normal": RandomNormal, "uniform": RandomUniform}  # which Keras too finds by these names only
