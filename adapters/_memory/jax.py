"""JAX arrays whose values are written where XLA keeps them, whole or one shard after another.

On CPUs, XLA calls back with the memory that it has set aside for the result: `jax.experimental.buffer_callback`, from
jax 0.6.2 on. It comes through C++ of jaxlib's that an exception or an interrupt cannot break, which a C function
pointer of ctypes, handed to `jax.ffi`, could not promise: an interrupt that arrives as such a callback begins or ends
leaves its result undefined, and one that is still to come when Python ends waits for it forever.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from hashlib import blake2b
from operator import index
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from numpy.typing import NDArray

from winit_fast import empty
from winit_fast.initializer import Initializer
from winit_fast.messages import quote
from winit_fast.streams import seed_key

from .constants import constant_in

call: Any
try:
    from .jax_shards import call
except ImportError:  # before jax 0.6.2
    call = None

__all__ = ["FILLED", "filled", "is_traced", "words_of"]

_jax: Any = jax  # without its annotations, which are partial and change from version to version

FILLED = (
    "float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "complex128",
)  # fmt: skip


def filled(
    shape: tuple[int, ...],
    initializer: Initializer,
    key: Any,
    *,
    dtype: np.dtype[Any],
    threads: SupportsIndex | None = None,
    sharding: Sharding | PartitionSpec | None = None,
) -> jax.Array:
    """An array of starting weights in memory of XLA's own.

    Constants are what `jax.numpy.full` makes, inside of programs too, so that those can be exported.

    Parameters
    ----------
    shape, initializer, threads
        Checked here, so that nothing is left for XLA to report.
    key : array, or None
        A typed key of `jax.random`, or one axis of uint32. Two words are the seed, its high half first (`words_of`);
        any other number of them is hashed. It may be traced. None: the scheme must draw nothing. Schemes that draw
        nothing do not look at it.
    dtype : dtype
        One that JAX has in the present state of ``jax_enable_x64``, and `winit_fast.fill` too; of a constant any that
        holds it.
    sharding : Sharding or PartitionSpec, optional
        Where the parts belong: each is written where it stands, with its values of the whole, and copied to the
        devices that hold the same. What lacks a mesh, or has an abstract one, takes that of `jax.set_mesh`. Left out:
        the whole is made where `key` is.

    Returns
    -------
    jax.Array

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> filled((2, 2), Initializer("identity"), words_of(0), dtype=np.dtype("float32"))
    Array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    kind = dtype if dtype.name in FILLED else np.float64
    initializer.check(shape, kind, seed=None if key is None else 0, threads=threads)
    distribution = initializer.distribution(shape, is_complex=dtype.kind == "c")
    words = _words(key) if distribution.draws else words_of(0)
    value = constant_in(dtype, distribution, FILLED)
    if value is not None:
        part = partial(_constant, value, padding=initializer.padding(shape))
    else:
        config = initializer.get_config() | {"name": 0}  # the stream is no part of a program, so that others are equal
        how = {"shape": shape, "threads": None if threads is None else index(threads)}
        part = partial(_part, dtype=dtype, text=json.dumps([config, how]))
    return _placed(part, shape, words, initializer.stream, sharding)


def words_of(seed: object) -> NDArray[np.uint32]:
    """The key of a seed: what `jax.random.key` makes of it where it takes 64 bits.

    Examples
    --------
    >>> words_of(7)
    array([0, 7], dtype=uint32)
    """
    word = seed_key(seed)
    return np.array([word >> 32, word % (1 << 32)], np.uint32)


def _words(key: Any) -> Any:
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


def _placed(
    part: Any, shape: tuple[int, ...], key: Any, stream: int, sharding: Sharding | PartitionSpec | None
) -> jax.Array:
    """The whole of what `part` makes, where it belongs."""
    if sharding is None:
        return _made(part, key, _place(stream, (0,) * len(shape)), shape)
    around = _mesh_around()
    is_mesh_hidden = around is not None and not around.empty and not isinstance(around, Mesh)
    is_program = is_traced(key) or is_mesh_hidden
    place = _on_mesh(sharding, around, is_program)
    if isinstance(place, NamedSharding) and len(place.spec) > len(shape):
        raise ValueError(f"sharding must have no more axes than the shape {shape}, got {quote(place.spec)}")
    if is_program:
        program = partial(_traced_shards, part, shape, stream=stream, sharding=place)
        array: jax.Array = program(key) if is_traced(key) else jax.jit(program)(key)
        return array
    return _shards(part, shape, np.asarray(key), stream, place)


def _mesh_around() -> Any:
    """The mesh of `jax.set_mesh`: of devices, or abstract where JAX hides it, as while a gradient is taken."""
    if not hasattr(jax.sharding, "get_mesh"):  # before 0.6
        return None
    try:
        return jax.sharding.get_mesh()
    except ValueError:
        return jax.sharding.get_abstract_mesh()


def _on_mesh(sharding: Sharding | PartitionSpec, around: Any, is_program: bool) -> Sharding:
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


def _shards(part: Any, shape: tuple[int, ...], key: NDArray[Any], stream: int, sharding: Sharding) -> jax.Array:
    """One shard after another, each by all threads; those of the same values once, and then copied."""
    around = _mesh_around()
    is_in_mesh = around is not None and not around.empty and hasattr(jax, "set_mesh")
    made: dict[tuple[tuple[int, int], ...], jax.Array] = {}
    arrays = []
    for device, slices in sharding.addressable_devices_indices_map(shape).items():
        region = tuple(along.indices(size)[:2] for along, size in zip(slices or (), shape, strict=True))
        if region not in made:
            place = _place(stream, [first for first, _ in region])
            sizes = tuple(last - first for first, last in region)
            # The mesh of the context, of more devices, would be in the way.
            with _jax.set_mesh(Mesh([device], "device")) if is_in_mesh else nullcontext():
                made[region] = _made(part, jax.device_put(key, device), jax.device_put(place, device), sizes)
        arrays.append(jax.device_put(made[region], SingleDeviceSharding(device, memory_kind=sharding.memory_kind)))
    return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def _traced_shards(part: Any, shape: tuple[int, ...], key: Any, stream: int, sharding: Sharding) -> jax.Array:
    """Each device its own shard, where XLA can be told so; else every device the whole, of which it keeps its shard."""
    array: jax.Array
    is_large = max(shape, default=0) > 1 << 32  # places are counted in 32 bits below
    if not isinstance(sharding, NamedSharding) or PartitionSpec.UNCONSTRAINED in sharding.spec or is_large:
        array = part(key, _place(stream, (0,) * len(shape)), sizes=shape)
        array = _jax.lax.with_sharding_constraint(array, sharding)
        return array
    sizes = sharding.shard_shape(shape)

    def shard(key: Any) -> Any:
        place = [jnp.asarray(_place(stream, ()))]
        for axis, size in enumerate(sizes):
            names = sharding.spec[axis] if axis < len(sharding.spec) else None
            first = jax.lax.axis_index(names).astype(jnp.uint32) * np.uint32(size) if names else 0
            place.append(jnp.array([first, 0], jnp.uint32))
        return part(key, jnp.concatenate(place), sizes=sizes)

    array = _each_shard(shard, sharding)(key)
    return array


# The call


class _Stopped(threading.local):
    """What a callback ended with, of those in this thread."""

    error: BaseException | None = None


_stopped = _Stopped()


def _made(part: Any, key: Any, place: Any, sizes: tuple[int, ...]) -> jax.Array:
    """What `_part` makes; an interrupt of it is raised as what it is, not as the RuntimeError that XLA makes of it."""
    around, _stopped.error = _stopped.error, None  # there is one around where a signal handler has an array made
    try:
        try:
            array: jax.Array = part(key, place, sizes=sizes)
        except RuntimeError:
            if _stopped.error is None:
                raise
        error = _stopped.error
    finally:
        _stopped.error = around
    if error is not None:
        raise error
    return array


def _constant(
    value: NDArray[Any], key: Any, place: Any, *, sizes: tuple[int, ...], padding: tuple[int, int] | None
) -> jax.Array:
    """The rectangle of these sizes at a place, of an array that is one value, but for a row of 0 along an axis."""
    if padding is None:
        return jnp.full(sizes, value, value.dtype)
    axis, row = padding
    array: jax.Array = _but_for(value, jnp.asarray(place)[2 + 2 * axis], jnp.uint32(row), sizes=sizes, axis=axis)
    return array


@partial(jax.jit, static_argnames=("sizes", "axis"), inline=True)
def _but_for(value: Any, first: Any, row: Any, *, sizes: tuple[int, ...], axis: int) -> jax.Array:
    is_row = first + jax.lax.broadcasted_iota(jnp.uint32, sizes, axis) == row
    return jnp.where(is_row, jnp.zeros((), value.dtype), value)


@partial(jax.jit, static_argnames=("sizes", "dtype", "text"), inline=True)
def _part(key: Any, place: Any, *, sizes: tuple[int, ...], dtype: np.dtype[Any], text: str) -> jax.Array:
    """The rectangle of these sizes at a place. All that programs differ by is static, so that others are compiled once.

    In XLA's own memory on CPUs; on other devices, and before jax 0.6.2, in NumPy's, which is copied.
    """
    result = _jax.ShapeDtypeStruct(sizes, dtype)

    def write(context: Any, out: Any, key: Any, place: Any) -> None:
        try:
            memory = np.asarray(out)
            _ask_for_huge_pages(memory)
            _write(memory, np.asarray(key), np.asarray(place), text)
        except BaseException as error:
            _stopped.error = error
            raise

    def make(key: Any, place: Any) -> NDArray[Any]:
        out = empty((*key.shape[:-1], *sizes), dtype)
        _write(out, np.asarray(key), np.asarray(place), text)
        return out

    everywhere = partial(jax.pure_callback, make, result, vmap_method="broadcast_all")
    if call is None:
        return _varying(everywhere(key, place), key)
    on_cpu = partial(call, write, sizes=sizes, dtype=dtype)
    return _varying(jax.lax.platform_dependent(key, place, cpu=on_cpu, default=everywhere), key)


def _varying(array: jax.Array, key: Any) -> jax.Array:
    """The array, known to differ between the devices of a `jax.shard_map` that see different keys."""
    kind: Any = _jax.typeof(key) if hasattr(jax, "typeof") else None  # before 0.6 nobody kept account of it
    axes = tuple(kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else getattr(kind, "vma", ()))
    if axes:
        lax = _jax.lax
        array = lax.pcast(array, axes, to="varying") if hasattr(lax, "pcast") else lax.pvary(array, axes)
    return array


def _place(stream: int, offset: Sequence[int]) -> NDArray[np.uint32]:
    """The stream, and where a part begins: pairs of words, the low one first, since JAX may have no 64-bit integers."""
    return np.array([stream, *offset], "<u8").view("<u4")


def _write(out: NDArray[Any], key: NDArray[Any], place: NDArray[Any], text: str) -> None:
    """Fill a part, or, under `jax.vmap`, one after another: the leading axes of all three arrays."""
    config, how = json.loads(text)
    batch = key.shape[:-1]
    for position in np.ndindex(batch):
        stream, *offset = np.ascontiguousarray(place[position], "<u4").view("<u8").tolist()
        initializer = Initializer.from_config(config | {"name": stream})
        initializer.fill(out[(*position, ...)], seed=_seed_of(key[position]), offset=offset, **how)


def _ask_for_huge_pages(memory: NDArray[Any]) -> None:
    """As NumPy does for arrays of its own from that size on: half the time of a first touch is that of small pages."""
    if memory.nbytes >= 4 << 20 and hasattr(mmap, "MADV_HUGEPAGE"):
        skipped = -memory.ctypes.data % mmap.PAGESIZE
        madvise = ctypes.CDLL(None).madvise  # a wish: that it may be refused is no error
        madvise(
            ctypes.c_void_p(memory.ctypes.data + skipped), ctypes.c_size_t(memory.nbytes - skipped), mmap.MADV_HUGEPAGE
        )


def _seed_of(words: NDArray[Any]) -> int:
    if len(words) == 2:
        return int(words[0]) << 32 | int(words[1])
    return int.from_bytes(blake2b(words.astype("<u4").tobytes(), digest_size=8).digest(), "little")


def _each_shard(function: Any, sharding: NamedSharding) -> Any:
    """`jax.shard_map` from key to shards, unchecked: that replicas are equal is known here."""
    arguments = {"mesh": sharding.mesh, "in_specs": _jax.sharding.PartitionSpec(), "out_specs": sharding.spec}
    if hasattr(jax, "shard_map"):  # from 0.6 on
        return _jax.shard_map(function, **arguments, check_vma=False)
    from jax.experimental import shard_map

    return shard_map.shard_map(function, **arguments, check_rep=False)  # type: ignore[no-untyped-call]
