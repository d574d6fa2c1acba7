"""JAX arrays whose values are written where XLA keeps them, whole or one shard after another.

On CPUs, XLA calls back with the memory that it has set aside for the result: `jax.experimental.buffer_callback`, from
jax 0.6.2 on. It comes through C++ of jaxlib's that an exception or an interrupt cannot break, which a C function
pointer of ctypes, handed to `jax.ffi`, could not promise: an interrupt that arrives as such a callback begins or ends
leaves its result undefined, and one that is still to come when Python ends waits for it forever.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from hashlib import blake2b
from itertools import groupby, product
from operator import index
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from numpy.typing import NDArray

from winit_fast import empty
from winit_fast.initializer import Initializer
from winit_fast.many import fill_alike
from winit_fast.messages import quote
from winit_fast.streams import seed_key

from .request import Request

call: Any
try:
    from .jax_shards import call
except ImportError:  # before jax 0.6.2
    call = None

__all__ = ["is_traced", "make_array", "words_of"]

_jax: Any = jax  # without its annotations, which are partial and change from version to version


def make_array(request: Request, dtype: np.dtype[Any], sharding: Sharding | PartitionSpec | None = None) -> jax.Array:
    """Make an array of starting weights in memory of XLA's own.

    Constants are what `jax.numpy.full` makes, inside of programs too, so that those can be exported.

    Parameters
    ----------
    request : Request
        Checked here, so that nothing is left for XLA to report. Its seed is a typed key of `jax.random`, or one axis of
        uint32. Two words are the seed, its high half first (`words_of`); any other number of them is hashed. It may be
        traced. None: the scheme must draw nothing. Schemes that draw nothing do not look at it.
    dtype : dtype
        One that JAX has in the present state of ``jax_enable_x64``, and `winit_fast.fill` too; of a constant any that
        holds it.
    sharding : Sharding or PartitionSpec, optional
        Where the parts belong: each is written where it stands, with its values of the whole, and copied to the
        devices that hold the same. What lacks a mesh, or has an abstract one, takes that of `jax.set_mesh`. Left out:
        the whole is made where the key is.

    Returns
    -------
    jax.Array

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.adapters._memory.request import Request
    >>> from winit_fast.initializer import Initializer
    >>> make_array(Request(Initializer("identity"), (2, 2)), np.dtype("float32"))
    Array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    initializer, shape, key, threads = request
    value = request.check(dtype, None if key is None else 0)
    words = _read_key(key) if request.distribution(dtype).draws else words_of(0)
    if value is not None:
        make = partial(_make_constant, value, padding=initializer.padding(shape))
    else:
        config = initializer.get_config() | {"name": 0}  # the stream is no part of a program, so that others are equal
        how = {"shape": shape, "threads": None if threads is None else index(threads)}
        make = partial(_make_region, dtype=dtype, text=json.dumps([config, how]))
    return _make_where_it_belongs(make, shape, words, initializer.stream, sharding)


def words_of(seed: object) -> NDArray[np.uint32]:
    """The key of a seed: what `jax.random.key` makes of it where it takes 64 bits.

    Examples
    --------
    >>> words_of(7)
    array([0, 7], dtype=uint32)
    """
    word = seed_key(seed)
    return np.array([word >> 32, word % (1 << 32)], np.uint32)


def _read_key(key: Any) -> Any:
    """The words of one key, as an array of uint32 of one axis."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not (jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == np.uint32):
        raise TypeError(f"key must be a key of jax.random, typed or of dtype uint32, got {quote(key)}")
    words = key if dtype == np.uint32 else jax.random.key_data(key)
    if words.ndim != 1 or not words.size:
        raise ValueError(f"key must be one key, got an array of shape {key.shape}; jax.vmap takes one after another")
    return words


def is_traced(key: Any) -> bool:
    """Whether what is made now becomes part of a program: of `jax.jit`, `jax.eval_shape`, ..."""
    return isinstance(key, jax.core.Tracer) or isinstance(jnp.zeros(()), jax.core.Tracer)


# Shards


def _make_where_it_belongs(
    make: Any, shape: tuple[int, ...], key: Any, stream: int, sharding: Sharding | PartitionSpec | None
) -> jax.Array:
    """The whole of what `make` makes: of a key, an origin (`_encode_origin`) and sizes."""
    if sharding is None:
        return _make_now(make, key, _encode_origin(stream, (0,) * len(shape)), shape)
    around = _find_mesh()
    is_mesh_hidden = around is not None and not around.empty and not isinstance(around, Mesh)
    is_program = is_traced(key) or is_mesh_hidden
    sharding = _give_mesh(sharding, around, is_program)
    if isinstance(sharding, NamedSharding) and len(sharding.spec) > len(shape):
        raise ValueError(f"sharding must have no more axes than the shape {shape}, got {quote(sharding.spec)}")
    if is_program:
        program = partial(_trace_shards, make, shape, stream=stream, sharding=sharding)
        array: jax.Array = program(key) if is_traced(key) else jax.jit(program)(key)
        return array
    return _make_shards(make, shape, np.asarray(key), stream, sharding)


def _find_mesh() -> Any:
    """The mesh of `jax.set_mesh`: of devices, or abstract where JAX hides it, as while a gradient is taken."""
    if not hasattr(jax.sharding, "get_mesh"):  # before 0.6
        return None
    try:
        return jax.sharding.get_mesh()
    except ValueError:
        return jax.sharding.get_abstract_mesh()


def _give_mesh(sharding: Sharding | PartitionSpec, around: Any, is_program: bool) -> Sharding:
    """The sharding with a mesh of the context where it lacks one that is needed."""
    if not isinstance(sharding, Sharding | PartitionSpec):
        raise TypeError(f"sharding must be a jax.sharding.Sharding or a PartitionSpec, got {quote(sharding)}")
    if getattr(getattr(jax.sharding, "get_abstract_mesh", lambda: None)(), "manual_axes", ()):
        raise ValueError(f"sharding must be left out inside of jax.shard_map, got {quote(sharding)}")
    is_abstract = isinstance(sharding, NamedSharding) and not isinstance(sharding.mesh, Mesh)
    if isinstance(sharding, Sharding) and (is_program or not is_abstract):
        return sharding
    if around is None or around.empty:
        raise ValueError(f"sharding must have a mesh of devices, or jax.set_mesh set one, got {quote(sharding)}")
    return NamedSharding(around, sharding.spec if isinstance(sharding, NamedSharding) else sharding)  # type: ignore[arg-type]


def _make_shards(make: Any, shape: tuple[int, ...], key: NDArray[Any], stream: int, sharding: Sharding) -> jax.Array:
    """One shard after another, each by all threads; those of the same values once, and then copied."""
    around = _find_mesh()
    is_in_mesh = around is not None and not around.empty and hasattr(jax, "set_mesh")
    shards: dict[tuple[tuple[int, int], ...], jax.Array] = {}
    arrays = []
    for device, slices in sharding.addressable_devices_indices_map(shape).items():
        region = tuple(along.indices(size)[:2] for along, size in zip(slices or (), shape, strict=True))
        if region not in shards:
            origin = _encode_origin(stream, [first for first, _ in region])
            sizes = tuple(last - first for first, last in region)
            # The mesh of the context, of more devices, would be in the way.
            with _jax.set_mesh(Mesh([device], "device")) if is_in_mesh else nullcontext():
                shards[region] = _make_now(make, jax.device_put(key, device), jax.device_put(origin, device), sizes)
        arrays.append(jax.device_put(shards[region], SingleDeviceSharding(device, memory_kind=sharding.memory_kind)))
    return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def _trace_shards(make: Any, shape: tuple[int, ...], key: Any, stream: int, sharding: Sharding) -> jax.Array:
    """Each device its own shard, where XLA can be told so; else every device the whole, of which it keeps its shard."""
    array: jax.Array
    is_large = max(shape, default=0) > 1 << 32  # offsets are counted in 32 bits below
    if not isinstance(sharding, NamedSharding) or PartitionSpec.UNCONSTRAINED in sharding.spec or is_large:
        array = make(key, _encode_origin(stream, (0,) * len(shape)), sizes=shape)
        array = _jax.lax.with_sharding_constraint(array, sharding)
        return array
    sizes = sharding.shard_shape(shape)

    def make_shard(key: Any) -> Any:
        origin = [jnp.asarray(_encode_origin(stream, ()))]
        for axis, size in enumerate(sizes):
            names = sharding.spec[axis] if axis < len(sharding.spec) else None
            first = jax.lax.axis_index(names).astype(jnp.uint32) * np.uint32(size) if names else 0
            origin.append(jnp.array([first, 0], jnp.uint32))
        return make(key, jnp.concatenate(origin), sizes=sizes)

    array = _map_shards(make_shard, sharding)(key)
    return array


# The call


class _Stopped(threading.local):
    """What a callback ended with, of those in this thread."""

    error: BaseException | None = None


_stopped = _Stopped()


def _make_now(make: Any, key: Any, origin: Any, sizes: tuple[int, ...]) -> jax.Array:
    """Make a region; an interrupt of it is raised as what it is, not as the RuntimeError that XLA makes of it."""
    around, _stopped.error = _stopped.error, None  # there is one around where a signal handler has an array made
    try:
        try:
            array: jax.Array = make(key, origin, sizes=sizes)
        except RuntimeError:
            if _stopped.error is None:
                raise
        error = _stopped.error
    finally:
        _stopped.error = around
    if error is not None:
        raise error
    return array


def _make_constant(
    value: NDArray[Any], key: Any, origin: Any, *, sizes: tuple[int, ...], padding: tuple[int, int] | None
) -> jax.Array:
    """Make a region of an array that is one value, but for a row of 0 along an axis."""
    if padding is None:
        return jnp.full(sizes, value, value.dtype)
    axis, row = padding
    array: jax.Array = _clear_row(value, jnp.asarray(origin)[2 + 2 * axis], jnp.uint32(row), sizes=sizes, axis=axis)
    return array


@partial(jax.jit, static_argnames=("sizes", "axis"), inline=True)
def _clear_row(value: Any, first: Any, row: Any, *, sizes: tuple[int, ...], axis: int) -> jax.Array:
    is_row = first + jax.lax.broadcasted_iota(jnp.uint32, sizes, axis) == row
    return jnp.where(is_row, jnp.zeros((), value.dtype), value)


@partial(jax.jit, static_argnames=("sizes", "dtype", "text"), inline=True)
def _make_region(key: Any, origin: Any, *, sizes: tuple[int, ...], dtype: np.dtype[Any], text: str) -> jax.Array:
    """Make a region. All that programs differ by is static, so that others are compiled once.

    In XLA's own memory on CPUs; on other devices, and before jax 0.6.2, in NumPy's, which is copied.
    """
    result = _jax.ShapeDtypeStruct(sizes, dtype)

    def write(context: Any, out: Any, key: Any, origin: Any) -> None:
        try:
            _write(np.asarray(out), np.asarray(key), np.asarray(origin), text)
        except BaseException as error:
            _stopped.error = error
            raise

    def make(key: Any, origin: Any) -> NDArray[Any]:
        out = empty((*key.shape[:-1], *sizes), dtype)
        _write(out, np.asarray(key), np.asarray(origin), text)
        return out

    everywhere = partial(jax.pure_callback, make, result, vmap_method="broadcast_all")
    if call is None:
        return _mark_varying(everywhere(key, origin), key)
    on_cpu = partial(call, write, sizes=sizes, dtype=dtype)
    return _mark_varying(jax.lax.platform_dependent(key, origin, cpu=on_cpu, default=everywhere), key)


def _mark_varying(array: jax.Array, key: Any) -> jax.Array:
    """Let JAX know that the array may differ between the devices of a `jax.shard_map` that see different keys."""
    kind: Any = _jax.typeof(key) if hasattr(jax, "typeof") else None  # before 0.6 nobody kept account of it
    axes = tuple(kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else getattr(kind, "vma", ()))
    if axes:
        lax = _jax.lax
        array = lax.pcast(array, axes, to="varying") if hasattr(lax, "pcast") else lax.pvary(array, axes)
    return array


def _encode_origin(stream: int, offset: Sequence[int]) -> NDArray[np.uint32]:
    """The stream, and where a region begins: pairs of words, the low one first, as JAX may have no 64-bit integers."""
    return np.array([stream, *offset], "<u8").view("<u4")


def _write(out: NDArray[Any], key: NDArray[Any], origin: NDArray[Any], text: str) -> None:
    """Fill a region, or, under `jax.vmap`, one for each key: the leading axes of all three arrays."""
    config, how = json.loads(text)
    every = product(*map(range, key.shape[:-1]))
    for words, positions in groupby(every, lambda position: origin[position].tolist()):
        stream, *offset = (low | high << 32 for low, high in zip(words[::2], words[1::2], strict=True))
        initializer = Initializer.from_config(config | {"name": stream})
        if key.ndim == 1:  # in two thirds of the time of what follows
            initializer.fill(out, seed=_seed_of(key), offset=offset, **how)
        elif out.size:
            regions: Any = out  # whose leading axes take a position, and the rest `...`
            like = initializer.arguments(regions[(0,) * (key.ndim - 1) + (...,)], shape=how["shape"], offset=offset)
            fill_alike(like, ((regions[(*at, ...)], _seed_of(key[at])) for at in positions), how["threads"])


def _seed_of(words: NDArray[Any]) -> int:
    if len(words) == 2:
        return int(words[0]) << 32 | int(words[1])
    return int.from_bytes(blake2b(words.astype("<u4").tobytes(), digest_size=8).digest(), "little")


def _map_shards(function: Any, sharding: NamedSharding) -> Any:
    """`jax.shard_map` from key to shards, unchecked: that replicas are equal is known here."""
    arguments = {"mesh": sharding.mesh, "in_specs": _jax.sharding.PartitionSpec(), "out_specs": sharding.spec}
    if hasattr(jax, "shard_map"):  # from 0.6 on
        return _jax.shard_map(function, **arguments, check_vma=False)
    from jax.experimental import shard_map

    return shard_map.shard_map(function, **arguments, check_rep=False)  # type: ignore[no-untyped-call]
