"""JAX: make an array of starting weights, whole or sharded, or an initializer for Flax and for `jax.jit`.

What each way takes, in memory beside the array:

* `init` and initializers on CPUs, eagerly and inside of programs: nothing. The values are written where XLA keeps the
  result, so that it can be donated, as memory adopted from NumPy could not be. Before jax 0.6.2, which has no such
  callback, XLA copies what NumPy's memory holds: the array once more.
* `init` with a sharding: nothing. One shard is written after another; equal shards are written once and copied.
* An initializer inside of `jax.jit`, whoever asks for shards (``jax.jit(..., out_shardings=...)``,
  `jax.lax.with_sharding_constraint`, Flax's ``with_partitioning``, or `out_sharding` here): nothing; each device writes
  its own shard. Every device writes the whole first where a constraint does not divide the shape, and before jax 0.7
  where `out_sharding` is not given: the same values, without the saving.
* On devices other than CPUs: the array, or the shard, in the host's memory, by `jax.pure_callback`.

Programs call back into Python: they are not kept in JAX's persistent compilation cache, cannot be exported, and an
interrupt during one is itself or a RuntimeError of JAX's with it in the message. Outside of programs it is itself.
Constants are what `jax.numpy.full` makes: programs of them alone are like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import winit_fast.initializer
from winit_fast import Scheme
from winit_fast.fans import Axes, Matrices
from winit_fast.messages import as_int, as_sizes, quote
from winit_fast.streams import UNNAMED

from . import needs

with needs("jax"):
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import PartitionSpec, Sharding
    from jax.typing import DTypeLike

    from ._memory.constants import FILLED
    from ._memory.jax import make_array, words_of
    from ._memory.request import Request

__all__ = ["Initializer", "init", "initializer"]


def init(
    shape: SupportsIndex | Sequence[SupportsIndex],
    scheme: str | Scheme,
    *,
    dtype: DTypeLike = jnp.float32,
    seed: SupportsIndex | None = None,
    key: jax.Array | None = None,
    name: str | SupportsIndex = UNNAMED,
    sharding: Sharding | PartitionSpec | None = None,
    in_axis: Axes | None = None,
    out_axis: Axes | None = None,
    batch_axis: Axes = (),
    matrices: Matrices = 1,
    padding_idx: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
) -> jax.Array:
    """Make an array of starting weights.

    Parameters
    ----------
    shape : int or sequence of int
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `winit_fast.schemes`.
    dtype : data-type, default float32
        float32, float16, bfloat16, float8_e4m3fn, float8_e5m2, and float64 where ``jax_enable_x64`` is set; complex64
        and complex128 (likewise) for constants, normals of mean 0 and schemes with fans; integers, bool and JAX's other
        narrow floats for
        constants that they hold as they are.
    seed : int, optional
        In [0, 2^64).
    key : array, optional
        In place of `seed`: one key of `jax.random`, typed or raw. ``jax.random.key(seed)`` gives the same values as
        a `seed` below 2^32. Keys of two words are the seed, the first its high half; of those with more or fewer words
        the seed is the first 8 bytes, little-endian, of the words' BLAKE2b. Neither is needed where the scheme draws
        nothing: as in JAX's own initializers, any key will do there, and is not looked at.
    name : str or int, default 0
        The array's own stream under that seed. Two arrays with the same seed and name get the same values: give each
        parameter its name, or a key of its own.
    sharding : Sharding or PartitionSpec, optional
        Where the parts belong, as in `jax.device_put`. One shard is made after another, on the device where it stays,
        with its values of the whole: no device, nor the host, holds more than its shards. Equal shards are made once
        and copied.
    in_axis, out_axis, batch_axis : int or sequence of int, optional
        Which axes are the inputs and outputs of a unit, and which merely stack. By default the layout is
        ``(*kernel, in, out)``: -2, -1 and none. So an embedding of shape ``(words, features)`` has fan_in `words`;
        ``in_axis=1, out_axis=0`` makes it `features`, as through PyTorch.
    matrices : int or tuple of two int, default 1
        How many equal matrices follow each other along `out_axis`, each with fans of its own: 4 for the gates of an
        LSTM, 3 for packed queries, keys and values. ``(count, axis)`` names another axis. See `winit_fast.fill`.
    padding_idx : int, optional
        A row that is 0 under every scheme. Rows are counted along the first axis that is not in `batch_axis`, from the
        end if negative.
    threads : int, optional
        How many threads; by default the CPUs this process may use, one for little work. The values do not depend on it.

    Returns
    -------
    jax.Array

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> import jax
    >>> from winit_fast import adapters
    >>> weight = adapters.jax.init((512, 256), "he_normal", dtype="bfloat16", seed=7, name="layer1.weight")
    >>> weight.shape, weight.dtype
    ((512, 256), dtype(bfloat16))
    >>> bool((weight == adapters.jax.init((512, 256), "he_normal", dtype="bfloat16", seed=7)).all())  # another name
    False

    One key and one name for each parameter, split over the devices there are:

    >>> mesh = jax.make_mesh((jax.device_count(),), ("data",))
    >>> rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    >>> table = adapters.jax.init((1024, 64), "normal(std=0.01)", key=jax.random.key(7), name="user_id", sharding=rows)
    >>> table.sharding == rows
    True
    """
    sizes = _read_shape(shape)
    if isinstance(seed, jax.Array):
        raise TypeError(f"seed must be an int in [0, 2^64), got {quote(seed)}: a key of jax.random is given as key=")
    if seed is not None and key is not None:
        raise TypeError(f"seed must be left out where there is a key, got {quote(seed)}")
    kind = _read_dtype(dtype)
    initializer = winit_fast.initializer.Initializer(
        scheme, name=name, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis, matrices=matrices,
        padding_idx=padding_idx,
    )  # fmt: skip
    words = None if seed is None else words_of(seed)
    return make_array(Request(initializer, sizes, words if key is None else key, threads), kind, sharding)


@dataclass(frozen=True, init=False, repr=False)
class Initializer(winit_fast.initializer.Initializer):
    """What Flax and others take where they take one of `jax.nn.initializers`: a function of key, shape and dtype.

    Initializers of the same arguments are equal and have one hash, so that they may be static arguments of `jax.jit`.
    `initializer` is another name of this class.

    Parameters
    ----------
    scheme, name, in_axis, out_axis, batch_axis, matrices, padding_idx, threads
        As in `init`. Keys that differ give values that differ; `name` is for parameters that share a key.

    Raises
    ------
    TypeError, ValueError
        If there is no such scheme; the other arguments are checked with the shape.

    Examples
    --------
    >>> import jax
    >>> from winit_fast import adapters
    >>> he_normal = adapters.jax.initializer("he_normal")
    >>> he_normal(jax.random.key(7), (512, 256), "float16").dtype
    dtype('float16')
    >>> keys = jax.random.split(jax.random.key(7), 12)
    >>> layers = jax.jit(jax.vmap(lambda key: he_normal(key, (64, 64))))(keys)
    >>> layers.shape
    (12, 64, 64)
    """

    threads: int | None = None

    def __init__(
        self,
        scheme: str | Scheme,
        *,
        name: str | SupportsIndex = UNNAMED,
        in_axis: Axes | None = None,
        out_axis: Axes | None = None,
        batch_axis: Axes = (),
        matrices: Matrices = 1,
        padding_idx: SupportsIndex | None = None,
        threads: SupportsIndex | None = None,
    ) -> None:
        super().__init__(
            scheme, name=name, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis, matrices=matrices,
            padding_idx=padding_idx,
        )  # fmt: skip
        vars(self).update(threads=None if threads is None else as_int("threads", threads, "an int or None"))

    def __call__(
        self,
        key: jax.Array,
        shape: Sequence[SupportsIndex],
        dtype: DTypeLike | None = None,
        out_sharding: Sharding | PartitionSpec | None = None,
    ) -> jax.Array:
        """Make an array of starting weights.

        Parameters
        ----------
        key : array
            One key of `jax.random`, typed or raw; under `jax.vmap` one for each of what it maps over. Anything where
            the scheme draws nothing.
        shape : sequence of int
        dtype : data-type, optional
            As in `init`; by default JAX's float: float32, or float64 where ``jax_enable_x64`` is set.
        out_sharding : Sharding or PartitionSpec, optional
            Where the parts belong; each device makes its own shard of it, inside of `jax.jit` too.

        Returns
        -------
        jax.Array

        Raises
        ------
        TypeError, ValueError
            If an argument cannot be used; inside of `jax.jit`, while it is traced.
        """
        if key is None and self.scheme.draws:
            raise TypeError(f"key must be a key of jax.random, got None: {self.scheme} draws random values")
        kind = jax.dtypes.canonicalize_dtype(float) if dtype is None else _read_dtype(dtype)
        return make_array(Request(self, _read_shape(shape), key, self.threads), kind, out_sharding)


initializer = Initializer  # in small letters, as all of jax.nn.initializers


def _read_shape(shape: Any) -> tuple[int, ...]:
    is_integer = hasattr(shape, "__index__") and not getattr(shape, "ndim", 0)  # arrays have the method
    return as_sizes("shape", (shape,) if is_integer else shape)


def _read_dtype(dtype: Any) -> np.dtype[Any]:
    # Python's own types are what JAX makes of them everywhere, at the width that it has now.
    is_pythons = isinstance(dtype, type) and dtype in (bool, int, float, complex)
    try:
        kind: np.dtype[Any] = jax.dtypes.canonicalize_dtype(dtype) if is_pythons else jnp.dtype(dtype)
        is_known = jnp.issubdtype(kind, jnp.number) or jnp.issubdtype(kind, jnp.bool_)
    except TypeError:
        is_known = False
    if not is_known:
        raise TypeError(f"dtype must be {', '.join(FILLED)} or, for constants, bool or an integer, got {quote(dtype)}")
    if jax.dtypes.canonicalize_dtype(kind) != kind:
        raise ValueError(
            f"dtype {kind.name} needs jax.config.update('jax_enable_x64', True): JAX would make it narrower"
        )
    return kind


def __dir__() -> list[str]:
    return [*__all__]
