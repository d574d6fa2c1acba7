"""Dask: arrays of starting weights larger than memory, made block by block, with the bits of one fill."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike

from winit_fast import STREAM_VERSION, Scheme, empty
from winit_fast.initializer import Initializer, Keywords
from winit_fast.memory import dtype_of
from winit_fast.messages import as_int, as_sizes, class_name, quote

from . import needs
from ._seeds import Seed, seed_of

with needs("dask", "tables"):
    from dask import array as dask_array
    from dask.base import tokenize
    from dask.blockwise import Blockwise, blockwise
    from dask.layers import ArraySliceDep

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from winit_fast.files.specs import Recipe

__all__ = ["init", "store", "to_zarr"]


def init(
    shape: SupportsIndex | Sequence[SupportsIndex], scheme: str | Scheme, *, seed: Seed = None,
    dtype: DTypeLike = np.float32, chunks: Any = "auto", **keywords: Unpack[Keywords],
) -> dask_array.Array:  # fmt: skip
    """Make a Dask array of starting weights. A block is filled when it is computed, by one thread.

    Parameters
    ----------
    shape : int or sequence of int
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `winit_fast.schemes`. Each block of an orthogonal or
        sparse matrix costs about as much as the whole: give such a tensor one block.
    seed : int, Generator, SeedSequence, optional
        As in `winit_fast.adapters.numpy.init_`. It is drawn once, now, so that computing the array twice gives the same
        values.
    dtype : data-type, default float32
        As in `winit_fast.adapters.numpy.init`. Workers need ml_dtypes for bfloat16 and the 8-bit types.
    chunks : default "auto"
        The blocks, in any form that Dask reads. The values do not depend on them.
    **keywords
        `name`, `in_axis`, `out_axis`, `batch_axis`, `matrices`, `padding_idx`, as in
        `winit_fast.adapters.numpy.init_`.

    Returns
    -------
    dask.array.Array
        Equal arguments give the array the same name, so that Dask sees that two of them are the same.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used. No graph has been made then.

    Examples
    --------
    >>> from winit_fast import adapters
    >>> table = adapters.dask.init(
    ...     (1000, 64), "normal(std=0.01)", seed=7, name="user_id", dtype="float16", chunks=(300, 64)
    ... )
    >>> table.chunks
    ((300, 300, 300, 100), (64,))
    >>> whole = adapters.numpy.init((1000, 64), "normal(std=0.01)", seed=7, name="user_id", dtype="float16")
    >>> bool((table.compute() == whole).all())
    True
    """
    sizes = (as_int("shape", shape),) if hasattr(shape, "__index__") else as_sizes("shape", shape)
    kind, initializer, key = dtype_of(dtype), Initializer(scheme, **keywords), seed_of(scheme, seed)
    blocks = _blocks(chunks, sizes, kind)
    initializer.check(sizes, kind, seed=0 if key is not None and not isinstance(key, int) else key)
    key = None if key is None else int(key.__index__())
    arguments = (initializer, key, sizes, kind.name)
    config = initializer.get_config().items()  # a dict's token depended on the process before dask 2025.4
    name = _NAME + tokenize(STREAM_VERSION, *config, *arguments[1:], blocks)
    axes = tuple(range(len(sizes)))
    others = [part for argument in arguments for part in (argument, None)]
    graph = blockwise(_block, name, axes, ArraySliceDep(blocks), axes, *others, numblocks={})
    return dask_array.Array(graph, name, blocks, dtype=kind, shape=sizes)


def to_zarr(
    array: dask_array.Array,
    store: Any,
    *,
    chunks: Sequence[SupportsIndex] | None = None,
    shards: Sequence[SupportsIndex] | None = None,
    **keywords: Any,
) -> Any:
    """Write a Dask array into a new Zarr array, each chunk or shard by one task.

    Where `init` made the array, and no more than `rechunk` was done with it since, the recipe is recorded first, so
    that `winit_fast.adapters.zarr.verify` needs no arguments.

    Dask's own `to_zarr` with `chunks=` or `shards=` larger than the blocks lets several tasks write the same chunk, and
    loses data (dask#12583). This one refuses them.

    Parameters
    ----------
    array : dask.array.Array
    store
        As in `zarr.create_array`.
    chunks, shards : sequence of int, optional
        Of the Zarr array. Blocks must begin at multiples of the shards, or of the chunks where there are none. By
        default the chunks are the first block.
    **keywords
        As in `zarr.create_array`: `name`, `compressors`, `attributes`, `overwrite`, ...

    Returns
    -------
    zarr.Array

    Raises
    ------
    TypeError, ValueError
        If two tasks would write the same chunk, or another argument cannot be used. Nothing has been written then.

    Examples
    --------
    >>> import tempfile
    >>> from winit_fast import adapters
    >>> table = adapters.dask.init((1000, 64), "normal(std=0.01)", seed=7, name="user_id", chunks=(400, 64))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = adapters.dask.to_zarr(table, folder, chunks=(100, 64), shards=(200, 64))
    ...     bool((made[:] == table.compute()).all()), bool(adapters.zarr.verify(made))
    (True, True)
    >>> adapters.dask.to_zarr(table, folder, shards=(800, 64), chunks=(100, 64))
    Traceback (most recent call last):
    ValueError: blocks of array must begin at multiples of 800 along axis 0, as shards do, got one at 400: rechunk it
    """
    from ._memory import zarr as zarr_types
    from ._memory.zarr_recipes import ATTRIBUTE

    _check_array(array)
    first = tuple(max(sizes[0], 1) for sizes in array.chunks)
    pieces = first if chunks is None else as_sizes("chunks", chunks)
    _check_blocks(array, as_sizes("shards", shards) if shards is not None else pieces, shards is not None)
    recipe = _recipe_of(array)
    if recipe is not None:
        keywords["attributes"] = {**(keywords.get("attributes") or {}), ATTRIBUTE: recipe.to_json()}
    zarr = zarr_types.zarr
    made = zarr.create_array(store, shape=array.shape, dtype=array.dtype, chunks=pieces, shards=shards, **keywords)
    return _store(array, made)


def store(array: dask_array.Array, target: Any) -> Any:
    """Write a Dask array into an existing Zarr array, each chunk or shard by one task.

    The recipe is recorded as by `to_zarr`. An array that records another one is refused.

    Parameters
    ----------
    array : dask.array.Array
    target : zarr.Array
        Or another array that every worker reaches, with `shape`, `dtype`, `chunks` and slices that can be assigned to.

    Returns
    -------
    target

    Raises
    ------
    TypeError, ValueError
        If two tasks would write the same chunk, or another argument cannot be used. Nothing has been written then.

    Examples
    --------
    >>> import zarr
    >>> from winit_fast import adapters
    >>> target = zarr.create_array({}, shape=(1000, 64), dtype="float32", chunks=(100, 64))
    >>> table = adapters.dask.init((1000, 64), "normal(std=0.01)", seed=7, name="user_id", chunks=(400, 64))
    >>> made = adapters.dask.store(table, target)
    >>> bool((target[:] == table.compute()).all())
    True
    """
    _check_array(array)
    if isinstance(target, np.ndarray) or not hasattr(target, "chunks"):
        raise TypeError(
            f"target must be an array in a store that every worker reaches, such as a zarr.Array, got "
            f"{class_name(target)}: adapters.init_ fills arrays in this process's memory"
        )
    if not isinstance(target.chunks, tuple):
        raise ValueError(f"target must be made of chunks, got one of chunks {quote(target.chunks)}")
    if tuple(target.shape) != array.shape or np.dtype(target.dtype) != array.dtype:
        raise ValueError(
            f"target must be of shape {array.shape} and dtype {array.dtype}, as array is, "
            f"got {tuple(target.shape)} and {target.dtype}"
        )
    shards = getattr(target, "shards", None)
    _check_blocks(array, shards or target.chunks, shards is not None)
    from ._memory import zarr as zarr_types
    from ._memory.zarr_recipes import record

    recipe = _recipe_of(array)
    if recipe is not None and isinstance(target, zarr_types.zarr.Array):
        record(target, recipe)
    return _store(array, target)


_NAME = "winit_fast-"  # of the arrays of `init`


def _block(
    place: tuple[slice, ...], initializer: Initializer, seed: int | None, shape: tuple[int, ...], dtype: str
) -> NDArray[Any]:
    offset = [extent.start for extent in place]
    out = empty([extent.stop - extent.start for extent in place], dtype)
    return initializer.fill(out, seed=seed, shape=shape, offset=offset, threads=1)


def _blocks(chunks: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[tuple[int, ...], ...]:
    """The sizes of the blocks along each axis."""
    reason = ""
    try:
        blocks = dask_array.core.normalize_chunks(chunks, shape, dtype=dtype)
        if all(min(sizes, default=0) >= 0 and sum(sizes) == size for sizes, size in zip(blocks, shape, strict=True)):
            return tuple(tuple(int(size) for size in sizes) for sizes in blocks)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        reason = f" ({str(error).splitlines()[0]})" if str(error) else ""
    raise ValueError(f"chunks must be such as Dask reads for shape {shape}, got {quote(chunks)}{reason}")


def _check_array(array: object) -> None:
    if not isinstance(array, dask_array.Array):
        raise TypeError(f"array must be a dask.array.Array, got {class_name(array)}")


def _check_blocks(array: dask_array.Array, written: Sequence[int], is_shards: bool) -> None:
    """Refuse blocks of which two would write the same chunk or shard: the later would undo the earlier."""
    what = "shards" if is_shards else "chunks"
    if len(written) != array.ndim:
        raise ValueError(f"{what} must be of {array.ndim} axes, as array is, got {quote(tuple(written))}")
    for axis, (sizes, unit) in enumerate(zip(array.chunks, written, strict=True)):
        starts = [start for start in accumulate(sizes[:-1]) if start < array.shape[axis]]  # empty blocks may end it
        wrong = next((start for start in starts if start % max(unit, 1)), None)
        if wrong is not None:
            raise ValueError(
                f"blocks of array must begin at multiples of {unit} along axis {axis}, as {what} do, "
                f"got one at {wrong}: rechunk it"
            )


def _recipe_of(array: dask_array.Array) -> Recipe | None:
    """How the values of an array are made; None if `init` did not make it, or more than `rechunk` was done with it."""
    from ._memory.zarr_recipes import make_recipe

    layers, names, sources = array.dask.layers, [array.name], set()
    while names:
        name = names.pop()
        if name.startswith("rechunk-"):
            names.extend(array.dask.dependencies[name])
        else:
            sources.add(name)
    source = sources.pop() if len(sources) == 1 else ""
    layer = layers.get(source)
    if not (source.startswith(_NAME) and isinstance(layer, Blockwise)):  # what is persisted is no Blockwise any more
        return None
    initializer, seed, shape, dtype = (value for value, axes in layer.indices if axes is None)
    keywords = initializer.get_config()
    return make_recipe(shape, dtype_of(dtype), keywords.pop("scheme"), seed, keywords)


def _store(array: dask_array.Array, target: Any) -> Any:
    from ._memory import zarr as zarr_types

    # Other processes would fill copies of a store in memory.
    here = {"scheduler": "threads"} if zarr_types.is_in_memory(target) else {}
    # Chunks that equal the fill value are written too: one that is not there was lost.
    dask_array.store(array, zarr_types.with_all_chunks(target), lock=False, **here)
    return target


def __dir__() -> list[str]:
    """List the public names alone."""
    return __all__
