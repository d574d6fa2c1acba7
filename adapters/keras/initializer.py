"""Any scheme as an initializer of Keras."""

# mypy: allow-subclassing-any
# Keras says nothing of its types.

from __future__ import annotations

import random
import warnings
from abc import ABC
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from math import prod
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias

import winit_fast.initializer
from winit_fast import Scheme, schemes
from winit_fast import scheme as read_scheme
from winit_fast.distributions import Constant, Normal, TruncatedNormal, Uniform
from winit_fast.fans import Axes, Fans, Matrices
from winit_fast.initializer import Keywords
from winit_fast.messages import as_int, as_sizes
from winit_fast.registry import REQUIRED
from winit_fast.streams import UNNAMED, seed_key

from .. import needs
from .._memory.request import Request
from .backends import key_words, make_tensor, refill

if TYPE_CHECKING:
    from typing_extensions import Unpack

with needs("keras"):
    import keras  # type: ignore[import-untyped]

__all__ = ["FilledByScheme", "Initializer", "SchemeInitializer", "find_fans", "init_", "register", "replace_fans"]

Seed: TypeAlias = Any  # int, keras.random.SeedGenerator, the dict that Keras writes for one, a key of JAX's, or None

register = keras.saving.register_keras_serializable(package="winit_fast")


class FilledByScheme:
    """An initializer of Keras with the values of `winit_fast.fill`; each class says of which scheme."""

    def __call__(self, shape: Sequence[SupportsIndex], dtype: Any = None, layout: Any = None) -> Any:
        """Make a tensor of starting weights: what Keras calls.

        Parameters
        ----------
        shape : sequence of int
        dtype : str, optional
            Keras's `floatx` by default. Integers and bool are only for constants that they can represent exactly.
        layout : keras.distribution.TensorLayout or jax.sharding.NamedSharding, optional
            On the JAX backend, where the parts of the tensor belong. (If an initializer has no `layout` argument, Keras
            traces it by `jax.jit` for large tensors.)

        Returns
        -------
        tensor
            The backend's.

        Raises
        ------
        TypeError, ValueError
            If the scheme cannot fill such a tensor.
        """
        return make_tensor(keras.backend.standardize_dtype(dtype), layout, self._make_request(shape))

    def _make_request(self, shape: Sequence[SupportsIndex]) -> Request:
        """What a call is to make."""
        sizes = as_sizes("shape", tuple(shape))
        scheme = self._find_scheme(sizes)
        seed = getattr(self, "seed", None) if scheme.draws else 0  # what never draws may have none
        request = Request(self._make_initializer(scheme), sizes, seed, getattr(self, "threads", None))
        if isinstance(seed, int):
            return request
        if seed is None:
            seed = random.getrandbits(64)  # of Python's generator, where Keras takes its default seeds from too
        return request.unnamed()._replace(seed=seed)  # where that repeats itself, it was told to

    def _find_scheme(self, shape: tuple[int, ...]) -> Scheme:
        raise NotImplementedError

    def _make_initializer(self, scheme: Scheme) -> winit_fast.initializer.Initializer:
        # A name is given, as it were: that an int seed repeats itself is what Keras says of it.
        return winit_fast.initializer.Initializer(scheme, name=0)


class _Arguments(Keywords, total=False):
    """What `SchemeInitializer` takes beside its scheme."""

    seed: Seed
    threads: SupportsIndex | None
    input_axes: Sequence[int] | None
    output_axes: Sequence[int] | None


class _OfArguments(FilledByScheme):
    """What a scheme, a seed and the rest of `SchemeInitializer`'s arguments draw."""

    scheme: Scheme
    name: str | int
    in_axis: tuple[int, ...] | None
    out_axis: tuple[int, ...] | None
    batch_axis: tuple[int, ...]
    padding_idx: int | None
    # What initializers that were pickled before there was such a thing lack.
    matrices: int | tuple[int, int] = 1
    _layer_axes: tuple[Sequence[int] | None, Sequence[int] | None] = (None, None)

    def __init__(
        self,
        scheme: str | Scheme,
        seed: Seed = None,
        *,
        name: str | SupportsIndex = UNNAMED,
        in_axis: Axes | None = None,
        out_axis: Axes | None = None,
        batch_axis: Axes = (),
        matrices: Matrices = 1,
        padding_idx: SupportsIndex | None = None,
        threads: SupportsIndex | None = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        initializer = winit_fast.initializer.Initializer(
            scheme, name=name, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis, matrices=matrices,
            padding_idx=padding_idx,
        )  # fmt: skip
        vars(self).update(vars(initializer))
        self.seed: Seed = _read_seed(seed)
        self.threads = threads
        self._layer_axes = (input_axes, output_axes)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal initializer of."""
        config = self._make_initializer(self.scheme).get_config()
        of_layer = dict(zip(("input_axes", "output_axes"), self._layer_axes, strict=True))
        return {
            "scheme": config.pop("scheme"),
            "seed": keras.saving.serialize_keras_object(self.seed),
            **config,
            "threads": None if self.threads is None else as_int("threads", self.threads),
            **{argument: list(given) for argument, given in of_layer.items() if given is not None},
        }

    def _find_scheme(self, shape: tuple[int, ...]) -> Scheme:
        """The scheme, with numbers in place of fans where the shape has no axes for them."""
        if len(shape) < 2 and self.in_axis is None and self.out_axis is None:
            try:
                self.scheme.distribution(shape)
            except ValueError:
                with suppress(KeyError, ValueError):  # where fans are not what is missing, `fill` says what is
                    return replace_fans(self.scheme, find_fans(shape))
        return self.scheme

    def _make_initializer(self, scheme: Scheme) -> winit_fast.initializer.Initializer:
        return winit_fast.initializer.Initializer(
            scheme, name=self.name, in_axis=self.in_axis, out_axis=self.out_axis, batch_axis=self.batch_axis,
            matrices=self.matrices, padding_idx=self.padding_idx,
        )  # fmt: skip


@register
@keras.saving.register_keras_serializable("winit_fast", "Initializer")  # as older files have it
class SchemeInitializer(_OfArguments, keras.initializers.VarianceScaling):
    """Any scheme as an initializer of Keras.

    `keras.layers.EinsumDense` and the attention layers know which axes of a kernel are inputs and outputs. From Keras
    3.15 on, they pass them to every `keras.initializers.VarianceScaling`, so this class is a subclass of it.

    Parameters
    ----------
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `winit_fast.schemes`.
    seed : int, keras.random.SeedGenerator or key of jax.random, optional
        An int in [0, 2^64) is the seed itself: every call with the same shape gives the same values, as in Keras. From
        a `SeedGenerator`, every call takes the next two words, high half first. A key (JAX backend) gives the same
        values as in `winit_fast.adapters.jax`. Without a seed, every call takes 64 bits from Python's `random`, so
        layers that share the initializer differ, and `keras.utils.set_random_seed` has effect; inside a `tf.function`
        this happens once, during tracing. Attention layers copy the initializer for each kernel: with an int or a
        `SeedGenerator`, kernels of the same shape then get the same values. Schemes without random values take no
        draw.
    name : str or int, default 0
        The tensor's own stream under that seed.
    in_axis, out_axis, batch_axis : int or sequence of int, optional
        Which axes are the inputs and outputs of a unit, and which only stack; by default ``(*kernel, in, out)``. As
        in Keras, a vector of n elements then has n inputs and n outputs, and a number has one of each. An embedding of
        shape ``(words, features)`` has fan_in `words`; ``in_axis=1, out_axis=0`` makes it `features`, as in PyTorch. If
        you pass one of these, or `matrices`, the axes that a layer declares are ignored.
    matrices : int or tuple of two int, default 1
        How many equal matrices follow each other along `out_axis`, each with its own fans: 4 for the gates of an LSTM.
        ``(count, axis)`` names another axis. See `winit_fast.fill`.
    padding_idx : int, optional
        A row that is 0 under every scheme. Rows are counted along the first axis that is not in `batch_axis`.
    threads : int, optional
        The number of threads; by default the CPUs that this process may use. The values do not depend on it.
    input_axes, output_axes : sequence of int, optional
        Passed by layers of Keras: the axes of the kernel. The fans are the products of these axes, as in
        `keras.initializers.VarianceScaling`. Schemes without fans ignore them.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> import keras
    >>> from winit_fast import adapters
    >>> initializer = adapters.keras.SchemeInitializer("normal(std=0.01)", seed=7, name="user_id")
    >>> table = keras.layers.Embedding(1000, 64, initializer)
    >>> table.build()
    >>> print(f"{keras.ops.convert_to_numpy(table.embeddings).std():.3f}")
    0.010

    After this module is imported, a scheme without arguments can be given by name:

    >>> layer = keras.layers.Dense(64, kernel_initializer="winit_fast>he_normal")
    >>> layer.kernel_initializer.scheme
    scheme('he_normal')
    """

    @property
    def seed(self) -> Seed:
        """The seed. A key of `jax.random` is held as its words."""
        return self.__dict__["seed"]

    @seed.setter
    def seed(self, seed: Seed) -> None:
        self.__dict__["seed"] = _read_seed(seed)

    @property
    def input_axes(self) -> Sequence[int] | None:
        """The inputs that a layer named; where this is None, it makes a copy that knows them."""
        return self._layer_axes[0] if self._asks_for_axes() else ()

    @property
    def output_axes(self) -> Sequence[int] | None:
        """The outputs that a layer named."""
        return self._layer_axes[1] if self._asks_for_axes() else ()

    def _asks_for_axes(self) -> bool:
        has_own = self.in_axis is not None or self.out_axis is not None or bool(self.batch_axis) or self.matrices != 1
        # A subclass whose constructor takes other arguments could not be copied with them.
        return not has_own and type(self).__init__ is SchemeInitializer.__init__

    def __repr__(self) -> str:
        return f"SchemeInitializer({str(self.scheme)!r}, seed={self.seed!r}, name={self.name!r})"

    def _find_scheme(self, shape: tuple[int, ...]) -> Scheme:
        """The scheme, with numbers in place of fans where a layer named axes."""
        ins, outs = self.input_axes, self.output_axes
        if self._asks_for_axes() and ins is not None and outs is not None:
            with suppress(KeyError, ValueError):  # of what has no fans
                return replace_fans(self.scheme, find_fans(shape, ins, outs))
        return super()._find_scheme(shape)


def init_(
    variable: Any,
    scheme: str | Scheme,
    *,
    seed: Seed = None,
    threads: SupportsIndex | None = None,
    **keywords: Unpack[Keywords],
) -> Any:
    """Fill a variable with starting weights.

    Parameters
    ----------
    variable : keras.Variable
        On the TensorFlow and PyTorch backends its memory is written to. On the JAX backend, and if its type is an
        integer, it gets a new array with the layout of the old one, which exists until then.
    scheme, seed, threads, **keywords
        As in `SchemeInitializer`.

    Returns
    -------
    keras.Variable
        `variable`.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used. Nothing has been written then.

    Examples
    --------
    >>> import keras
    >>> from winit_fast import adapters
    >>> layer = keras.layers.Dense(256)
    >>> layer.build((None, 512))
    >>> _ = adapters.keras.init_(layer.kernel, "he_normal", seed=7, name="dense.kernel")
    >>> print(f"{keras.ops.convert_to_numpy(layer.kernel).std():.2f}")
    0.06
    """
    if not isinstance(variable, keras.Variable.__base__):  # in Keras 3.3 those of layers are not of that class
        raise TypeError(f"variable must be a keras.Variable, got {type(variable).__name__}")
    refill(variable, SchemeInitializer(scheme, seed, threads=threads, **keywords)._make_request(variable.shape))
    return variable


class Initializer(_OfArguments, keras.initializers.Initializer, ABC):
    """`keras.initializers.Initializer`, the base class: every initializer of Keras is an instance of it.

    With a scheme as its argument, it makes a `SchemeInitializer`, which once had this name, and warns.

    Examples
    --------
    >>> import keras
    >>> from winit_fast.adapters import keras as initializers
    >>> isinstance(initializers.HeNormal(), initializers.Initializer)
    True
    >>> class Halves(initializers.Initializer):
    ...     def __call__(self, shape, dtype=None):
    ...         return keras.ops.full(shape, 0.5, dtype)
    >>> print(keras.ops.convert_to_numpy(Halves()((2,))))
    [0.5 0.5]
    """

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        return issubclass(other, keras.initializers.Initializer) if cls is Initializer else NotImplemented

    def __init__(self, *scheme: Any, **arguments: Unpack[_Arguments]) -> None:
        if scheme or arguments:
            warnings.warn(
                "Initializer is Keras's base class: a scheme is given to SchemeInitializer", DeprecationWarning, 2
            )
            if type(self) is Initializer:
                self.__class__ = SchemeInitializer
            _OfArguments.__init__(self, *scheme, **arguments)

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):  # beside a dict there may be one of slots
            for name, value in (part or {}).items():
                object.__setattr__(self, name, value)
        if type(self) is Initializer and self._has_scheme():  # pickled under the name that it once had
            self.__class__ = SchemeInitializer

    def __call__(self, shape: Sequence[SupportsIndex], dtype: Any = None, layout: Any = None) -> Any:
        """Make a tensor: of the scheme, if one was given, else what a subclass says."""
        if self._has_scheme():
            return super().__call__(shape, dtype, layout)
        return keras.initializers.Initializer.__call__(self, shape, dtype)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal initializer of."""
        return super().get_config() if self._has_scheme() else {}

    def _has_scheme(self) -> bool:
        return isinstance(vars(self).get("scheme"), Scheme)


# Seeds and fans, as Keras has them


def _read_seed(seed: Seed) -> Seed:
    if isinstance(seed, dict):
        return keras.saving.deserialize_keras_object(seed)
    if seed is None or isinstance(seed, keras.random.SeedGenerator):
        return seed
    words = key_words(seed)
    if words is not None:
        return words
    return seed_key(as_int("seed", seed, "an int in [0, 2^64), a keras.random.SeedGenerator, a key of JAX's or None"))


def find_fans(shape: tuple[int, ...], ins: Sequence[int] | None = None, outs: Sequence[int] | None = None) -> Fans:
    """Inputs and outputs of one unit as Keras counts them: of a vector its size both, and given axes alone."""
    if ins is not None and outs is not None:
        return Fans(prod(shape[axis] for axis in ins), prod(shape[axis] for axis in outs))
    if len(shape) < 2:
        return Fans(prod(shape), prod(shape))
    kernel = prod(shape[:-2])
    return Fans(kernel * shape[-2], kernel * shape[-1])


def replace_fans(scheme: Scheme, fans: Fans) -> Scheme:
    """The scheme that needs no fans any more and draws the same: a matrix of these fans has its numbers."""
    distribution = scheme.distribution(fans)
    return read_scheme(_NAMES[type(distribution)], **asdict(distribution))


_NAMES: dict[type, str] = {
    Constant: "constant",
    Uniform: "uniform",
    Normal: "normal",
    TruncatedNormal: "truncated_normal",
}


# By name


def _make_findable(scheme: str) -> Any:
    """What Keras finds under the name of a scheme: an initializer that makes others of their configurations.

    Where the name stands in a configuration as it is, Keras takes what it finds for the initializer itself.
    """
    try:
        found: Any = SchemeInitializer(scheme)
    except ValueError:  # the scheme needs one of several arguments, and says so when it is asked for
        found = SimpleNamespace()
    found.from_config = partial(_make_of_config, scheme)  # no lambda: layers are pickled with it
    return found


def _make_of_config(scheme: str, config: dict[str, Any]) -> SchemeInitializer:
    return SchemeInitializer(scheme, **config)


for _entry in schemes():
    if all(argument.default is not REQUIRED for argument in _entry.arguments):
        for _name in (_entry.name, *_entry.aliases):
            keras.saving.get_custom_objects()[f"winit_fast>{_name}"] = _make_findable(_name)
