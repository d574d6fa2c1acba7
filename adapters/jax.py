"""JAX: make an array of starting weights, whole or sharded, or an initializer for Flax and for `jax.jit`.

How much memory each way needs in addition to the array:

* `init` and initializers on CPUs, eagerly or inside programs: none. The values are written to XLA's own memory, so the
  result can be donated, which memory adopted from NumPy cannot. Versions before jax 0.6.2 have no callback for this:
  there XLA copies the array from NumPy's memory, so it exists twice.
* `init` with a sharding: none. Shards are written one after another; equal shards are written once and copied.
* An initializer inside `jax.jit`, however the sharding is requested (``jax.jit(..., out_shardings=...)``,
  `jax.lax.with_sharding_constraint`, Flax's ``with_partitioning``, or `out_sharding` here): none. Each device writes
  its own shard. There are two exceptions, in which every device first writes the whole array, with the same values: if
  a constraint does not divide the shape, and before jax 0.7 without `out_sharding`.
* On devices other than CPUs: the array or the shard in host memory, by `jax.pure_callback`.

Programs call back into Python. They are not stored in JAX's persistent compilation cache, and cannot be exported. An
interrupt during a program is raised as itself, or as a RuntimeError of JAX that contains it in its message; outside of
programs it is raised as itself. Constants are made by `jax.numpy.full`, so programs that contain only constants have no
such limits.
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
        float32, float16, bfloat16, float8_e4m3fn, float8_e5m2. complex64 for constants, normals of mean 0 and schemes
        with fans. float64 and complex128 if ``jax_enable_x64`` is set. Integers, bool and JAX's other narrow floats for
        constants that they can represent exactly.
    seed : int, optional
        In [0, 2^64).
    key : array, optional
        Instead of `seed`: one key of `jax.random`, typed or raw. ``jax.random.key(seed)`` gives the same values as a
        `seed` below 2^32. The two words of a key are the seed, high half first. If a key has more or fewer words, the
        seed is the first 8 bytes, little-endian, of the BLAKE2b hash of its words. A scheme without random values needs
        neither, and ignores the key, as JAX's own initializers do.
    name : str or int, default 0
        The array's own stream under that seed. Two arrays with the same seed and name get the same values, so give each
        parameter its own name or key.
    sharding : Sharding or PartitionSpec, optional
        Where the parts belong, as in `jax.device_put`. Each shard is made on its own device, one after another, so
        neither a device nor the host holds more than its shards. Equal shards are made once and copied.
    in_axis, out_axis, batch_axis : int or sequence of int, optional
        Which axes are the inputs and outputs of a unit, and which only stack. By default the layout is
        ``(*kernel, in, out)``: -2, -1 and none. So an embedding of shape ``(words, features)`` has fan_in `words`.
        ``in_axis=1, out_axis=0`` makes it `features`, as in PyTorch.
    matrices : int or tuple of two int, default 1
        How many equal matrices follow each other along `out_axis`, each with its own fans: 4 for the gates of an LSTM,
        3 for packed queries, keys and values. ``(count, axis)`` names another axis. See `winit_fast.fill`.
    padding_idx : int, optional
        A row that is 0 under every scheme. Rows are counted along the first axis that is not in `batch_axis`, from the
        end if negative.
    threads : int, optional
        The number of threads; by default the CPUs that this process may use, or one for little work. The values do not
        depend on it.

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

    One key, one name for each parameter, and the rows split over all devices:

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
    """A replacement for the initializers of `jax.nn.initializers`: a function of key, shape and dtype.

    Initializers with the same arguments are equal and have the same hash, so they can be static arguments of `jax.jit`.
    `initializer` is another name of this class.

    Parameters
    ----------
    scheme, name, in_axis, out_axis, batch_axis, matrices, padding_idx, threads
        As in `init`. Different keys give different values; `name` is for parameters that share a key.

    Raises
    ------
    TypeError, ValueError
        If the scheme does not exist. The other arguments are checked together with the shape.

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
            One key of `jax.random`, typed or raw; under `jax.vmap`, one for each mapped element. A scheme without
            random values ignores it.
        shape : sequence of int
        dtype : data-type, optional
            As in `init`; by default JAX's float: float32, or float64 where ``jax_enable_x64`` is set.
        out_sharding : Sharding or PartitionSpec, optional
            Where the parts belong. Each device makes its own shard, also inside `jax.jit`.

        Returns
        -------
        jax.Array

        Raises
        ------
        TypeError, ValueError
            If an argument cannot be used. Inside `jax.jit`, the error is raised during tracing.
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
