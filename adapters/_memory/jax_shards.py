"""A call back into Python that XLA may divide: each device writes its own shard of what `jax.jit` shards.

XLA divides operations of its own as the shardings of a program ask for it. A call back it runs whole on every device,
and then each device keeps its part: for n devices n arrays and their shards, all at once. So the call is a primitive of
its own, lowered to `jax.experimental.custom_partitioning`: XLA asks `_divide` what one device is to do, and is told to
make the rectangle that is the device's.

What XLA is told there is a program apart, which cannot register a Python function with the one that runs. The function
is therefore registered first, by a call for the whole, which nothing uses and XLA drops; the call of a shard has its
number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from math import prod
from typing import TYPE_CHECKING, Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.buffer_callback import buffer_callback
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jax.sharding import Mesh, NamedSharding
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["IS_DIVIDED", "call"]

# Without their annotations, which are partial and change from version to version.
_jax: Any = jax
_partitioning: Any = custom_partitioning

try:  # whose primitives know the devices of their program while it is lowered
    from jax._src.dispatch import prim_requires_devices_during_lowering as _knowing_devices
except ImportError:
    _knowing_devices = None  # type: ignore[assignment]

#: Whether this version of JAX can be told how to divide a call, as from 0.7 on.
IS_DIVIDED = (
    _knowing_devices is not None
    and hasattr(jax.sharding, "use_abstract_mesh")
    and "need_replication_factors" in signature(_partitioning.def_partition).parameters
)


def call(callback: Callable[..., None], key: Any, origin: Any, *, sizes: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Have `callback` write an array of these sizes.

    Parameters
    ----------
    callback : callable
        XLA calls it with its context, a buffer to write to, the key and the origin: once for the whole, or once on each
        device for its rectangle. The first two words of the origin are passed on as they are. The others are pairs, the
        low word first, which say where the rectangle begins. Leading axes that key and origin have under `jax.vmap` are
        the buffer's too.
    key, origin : array of uint32
    sizes : tuple of int
    dtype : dtype
    """
    return _call.bind(key, origin, callback=callback, sizes=sizes, dtype=dtype)


def _call_whole(
    key: Any, origin: Any, *, callback: Callable[..., None], sizes: tuple[int, ...], dtype: np.dtype[Any]
) -> Any:
    result = _jax.ShapeDtypeStruct((*key.shape[:-1], *sizes), dtype)
    return buffer_callback(callback, result)(key, origin)


class _How(TypedDict):
    """What a call is given beside arrays."""

    callback: Callable[..., None]
    sizes: tuple[int, ...]
    dtype: np.dtype[Any]


_call: Any = Primitive("winit_fast")
_call.def_impl(lambda key, origin, **how: jax.jit(partial(_call_whole, **how))(key, origin))
if IS_DIVIDED:
    _knowing_devices.add(_call)


def _infer_shape(key: Any, origin: Any, *, sizes: tuple[int, ...], dtype: np.dtype[Any], **_: Any) -> Any:
    return _jax.core.ShapedArray((*key.shape[:-1], *sizes), dtype)


_call.def_abstract_eval(_infer_shape)


def _batch(operands: Any, axes: Any, **how: Unpack[_How]) -> tuple[Any, int]:
    count = next(each.shape[axis] for each, axis in zip(operands, axes, strict=True) if axis is not None)
    key, origin = (
        jnp.broadcast_to(each, (count, *each.shape)) if axis is None else jnp.moveaxis(each, axis, 0)
        for each, axis in zip(operands, axes, strict=True)
    )
    return _call.bind(key, origin, **how), 0


batching.primitive_batchers[_call] = _batch


def _lower(context: Any, key: Any, origin: Any, **how: Unpack[_How]) -> Any:
    def lower(function: Any) -> Any:
        return mlir.lower_fun(function, multiple_results=False)(context.replace(tokens_out=None), key, origin)

    def call_whole(key: Any, origin: Any) -> Any:
        return _call_whole(key, origin, **how)

    around = context.module_context.axis_context
    devices = getattr(around, "device_assignment", None)
    lowered = lower(call_whole)
    if not IS_DIVIDED or not devices or len(devices) == 1 or not prod(how["sizes"]) or not how["sizes"]:
        return lowered
    try:
        registered = lowered[0].owner.attributes
        name, number = registered["call_target_name"].value, registered["mhlo.backend_config"]["index"].value
    except (AttributeError, KeyError):  # another version of JAX writes it another way
        return lowered
    batch = len(context.avals_in[0].shape) - 1
    divisible = _partitioning(call_whole)
    lead = " ".join(f"b{axis}" for axis in range(batch))
    divisible.def_partition(
        partition=partial(_divide, name, np.uint64(number), batch),
        infer_sharding_from_operands=_replicate,
        sharding_rule=f"{lead} k, {lead} p -> {lead} {' '.join(f's{axis}' for axis in range(len(how['sizes'])))}",
        need_replication_factors=("k", "p"),
    )
    return lower(divisible)


mlir.register_lowering(_call, _lower, platform="cpu")


def _replicate(mesh: Mesh, operands: Any, result: Any) -> Any:
    """Where nothing asks for shards, while XLA has not the partitioner that reads the rule."""
    return _jax.sharding.NamedSharding(mesh, _jax.sharding.PartitionSpec())


def _divide(name: str, number: np.uint64, batch: int, mesh: Mesh, operands: Any, result: Any) -> tuple[Any, ...]:
    """Choose a mesh, what one of its devices does, and how the result and the operands are sharded then."""
    sharding = result.sharding
    spec = tuple(sharding.spec) if isinstance(sharding, NamedSharding) else ()
    spec += (None,) * (len(result.shape) - len(spec))
    parts = [prod(mesh.shape[axis] for axis in _list_axes(along)) for along in spec]
    if mesh.empty or any(size % count for size, count in zip(result.shape, parts, strict=True)):
        # The whole everywhere, of which XLA takes what it needs.
        devices = np.array(list(sharding.devices_indices_map((0,) * len(result.shape))))
        mesh = Mesh(devices, ("device",)) if mesh.empty else mesh
        spec, parts = (None,) * len(spec), [1] * len(spec)
    sizes = tuple(size // count for size, count in zip(result.shape, parts, strict=True))

    def make_shard(key: Any, origin: Any) -> Any:  # programs of several devices ask for the whole: it begins at 0
        begin = [origin[..., :2]]
        with _jax.sharding.use_abstract_mesh(_jax.sharding.AbstractMesh((), ())):  # here is one device
            for along, size, count in list(zip(spec, sizes, parts, strict=True))[batch:]:
                which = jax.lax.axis_index(_list_axes(along)) if along else 0
                first = jnp.asarray(_encode_offsets(count, size))[which]
                begin.append(jnp.broadcast_to(first, (*origin.shape[:-1], 2)))
            piece = _jax.ShapeDtypeStruct(sizes, result.dtype)
            return _jax.ffi.ffi_call(name, piece)(key, jnp.concatenate(begin, -1), index=number)

    of_operands = _jax.sharding.NamedSharding(mesh, _jax.sharding.PartitionSpec(*spec[:batch], None))
    return (
        mesh,
        make_shard,
        _jax.sharding.NamedSharding(mesh, _jax.sharding.PartitionSpec(*spec)),
        (of_operands, of_operands),
    )


def _list_axes(along: Any) -> tuple[str, ...]:
    return () if along is None else along if isinstance(along, tuple) else (along,)


def _encode_offsets(count: int, size: int) -> NDArray[np.uint32]:
    """Where each of so many shards of this size begins: two words, the low one first, as JAX may have no others."""
    return (np.arange(count, dtype="<u8") * size).view("<u4").reshape(count, 2)
