"""Zarr: existing arrays filled chunk by chunk or shard by shard, by any number of processes, and verified later.

Importing this module makes bfloat16, float8_e4m3fn and float8_e5m2 known to zarr. TensorStore reads such arrays.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from gzip import BadGzipFile
from math import prod
from operator import lt
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import numpy as np

from winit_fast import Scheme, empty
from winit_fast.files.comparing import find_difference
from winit_fast.files.runs import fill_run
from winit_fast.files.specs import Part, Recipe
from winit_fast.files.verdicts import Difference, Findings, Verdict
from winit_fast.messages import as_rank, quote
from winit_fast.parallel import read_threads

from . import needs
from ._memory.zarr import with_all_chunks, zarr
from ._memory.zarr_recipes import ATTRIBUTE, make_recipe, recipe_of, record
from ._seeds import Seed, seed_of

with needs("'zarr>=3.1'", "tables"):
    from zarr.core.sync import sync

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from winit_fast.initializer import Keywords

__all__ = ["ATTRIBUTE", "Difference", "Verdict", "init_", "verify"]


def init_(
    array: Any, scheme: str | Scheme, *, seed: Seed = None, rank: SupportsIndex = 0, world_size: SupportsIndex = 1,
    resume: bool = False, threads: SupportsIndex | None = None, **keywords: Unpack[Keywords],
) -> zarr.Array:  # fmt: skip
    """Fill a Zarr array with starting weights: one shard (or chunk) after another, each written once, as a whole.

    The recipe (scheme, seed, name, shape, ...) is recorded first, in the attribute ``winit_fast``, so that `verify`
    needs no arguments. Memory: one shard, and what zarr needs to write or read it.

    Parameters
    ----------
    array : zarr.Array, str or store
        An existing array, or where it is.
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `winit_fast.schemes`. Each shard of an orthogonal or
        sparse matrix costs about as much as the whole.
    seed : int, Generator, SeedSequence, optional
        As in `winit_fast.adapters.numpy.init_`. An int if `world_size` is not 1.
    rank, world_size : int, default 0 and 1
        Fill the shards of one of several processes. They have equal parts, in order; no shard has two writers.
    resume : bool, default False
        Write no shard that is there with the right values. Use it after a process was killed, or after a power cut.
        Each shard that is there is read and compared, since other programs may have changed it.
    threads : int, optional
        As in `winit_fast.fill`.
    **keywords
        `name`, `in_axis`, `out_axis`, `batch_axis`, `matrices`, `padding_idx`, as in
        `winit_fast.adapters.numpy.init_`.

    Returns
    -------
    zarr.Array

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used, or the array records another recipe. Nothing has been written then.

    Examples
    --------
    >>> import zarr
    >>> from winit_fast import adapters
    >>> array = zarr.create_array(
    ...     {}, shape=(1000, 64), dtype="float32", chunks=(50, 64), shards=(200, 64), compressors=None
    ... )
    >>> _ = adapters.zarr.init_(array, "normal(std=0.01)", seed=7, name="user_id")
    >>> whole = adapters.numpy.init((1000, 64), "normal(std=0.01)", seed=7, name="user_id")
    >>> bool((array[:] == whole).all()), bool(adapters.zarr.verify(array))
    (True, True)
    """
    target = with_all_chunks(_open(array, "r+"))
    shards = _Shards(target, rank, world_size)
    if shards.world_size > 1 and not hasattr(seed, "__index__") and seed_of(scheme, seed) is not None:
        raise TypeError(f"seed must be an int where world_size is not 1, got {quote(seed)}")
    recipe = make_recipe(target.shape, target.dtype, scheme, seed, keywords)
    record(target, recipe)
    for shard in shards:
        if not (resume and _holds(target, shard, recipe, threads)):
            _write(target, shard, shard.values(recipe, threads))
    return target


def _write(array: zarr.Array, shard: _Shard, values: NDArray[Any]) -> None:
    try:
        array[shard.region] = values
    except _DAMAGE:  # of what is there: zarr reads the index of a shard before it writes even all of it
        if not _exists(array, shard.key):
            raise
        sync((array.store_path / shard.key).delete())
        array[shard.region] = values


def _holds(array: zarr.Array, shard: _Shard, recipe: Recipe, threads: SupportsIndex | None) -> bool:
    """Whether a shard is there with the right values: it may be damaged, or older than the array's recipe."""
    if not _exists(array, shard.key):
        return False
    try:
        return shard.difference(array, recipe, threads) is None
    except _DAMAGE:
        return False


#: What codecs raise of what they cannot decode.
_DAMAGE = (ValueError, RuntimeError, EOFError, BadGzipFile, zlib.error)


def verify(
    array: Any, scheme: str | Scheme | None = None, *, seed: SupportsIndex | None = None, rank: SupportsIndex = 0,
    world_size: SupportsIndex = 1, threads: SupportsIndex | None = None, **keywords: Unpack[Keywords],
) -> Verdict:  # fmt: skip
    """Make the values of a Zarr array again, shard by shard, and compare them bit for bit.

    Parameters
    ----------
    array : zarr.Array, str or store
        An array that `init_` filled, or another writer such as `winit_fast.adapters.dask.to_zarr`.
    scheme, seed, **keywords
        As they were given when it was filled. By default they are read from the attribute ``winit_fast``.
    rank, world_size, threads
        As in `init_`.

    Returns
    -------
    winit_fast.files.Verdict
        The first difference of a shard, of at most 100 shards. Zarr reads a missing shard as the fill value, without an
        error; one that it cannot decode is missing too. Left over are keys that Zarr does not read, such as the
        ``.partial`` files of killed processes.

    Raises
    ------
    TypeError, ValueError
        If the array has no attribute ``winit_fast`` and `scheme` is not given, or the attribute is wrong.

    Examples
    --------
    >>> import zarr
    >>> from winit_fast import adapters
    >>> array = zarr.create_array({}, shape=(1000, 64), dtype="float32", chunks=(200, 64))
    >>> _ = adapters.zarr.init_(array, "normal(std=0.01)", seed=7, name="user_id")
    >>> array[512, 3] = 0.5
    >>> verdict = adapters.zarr.verify(array)
    >>> bool(verdict), verdict.differences[0].index
    (False, (512, 3))
    """
    source = _open(array, "r")
    shards = _Shards(source, rank, world_size)
    recipe = recipe_of(source) if scheme is None else make_recipe(source.shape, source.dtype, scheme, seed, keywords)
    found = Findings()
    differences: list[Difference] = []
    checked = 0
    for shard in shards:
        checked += shard.part(recipe).nbytes
        try:
            difference = shard.difference(source, recipe, threads)
        except _DAMAGE:
            found.missing.append(f"{shard.key} cannot be decoded")
            continue
        if not _exists(source, shard.key):
            found.missing.append(shard.key)
        elif difference is not None and len(differences) < _MOST_DIFFERENCES:
            differences.append(difference)
    found.leftovers.extend(_strays(source) if shards.rank == 0 else ())
    return found.judge(differences, checked)


_MOST_DIFFERENCES = 100


class _Shard(NamedTuple):
    """What is written at once, by one process: a shard, or a chunk where there are none."""

    key: str
    region: tuple[slice, ...]

    def part(self, recipe: Recipe) -> Part:
        """What it has of the tensor."""
        sizes = tuple(extent.stop - extent.start for extent in self.region)
        return Part(recipe.tensors[0], tuple(extent.start for extent in self.region), sizes)

    def values(self, recipe: Recipe, threads: SupportsIndex | None) -> NDArray[Any]:
        """What it should hold, in an array of its own: a store in memory may keep that."""
        spec, offset, sizes = self.part(recipe)
        out = empty(sizes, spec.dtype)
        return spec.initializer.fill(out, seed=recipe.seed, shape=spec.shape, offset=offset, threads=threads)

    def difference(self, array: zarr.Array, recipe: Recipe, threads: SupportsIndex | None) -> Difference | None:
        """The first of its values that is not as it should be."""
        here, part, count = np.ascontiguousarray(array[self.region]), self.part(recipe), read_threads(threads)
        number = find_difference(here, part, recipe.seed, count)
        if number < 0:
            return None
        expected = np.empty(1, part.spec.dtype)
        fill_run(part, number, number + 1, expected, seed=recipe.seed, threads=count)
        places = np.unravel_index(number, part.shape) if part.shape else ()
        index = tuple(int(first + place) for first, place in zip(part.offset, places, strict=True))
        return Difference(part.spec.name, index, here.reshape(-1)[number], expected[0], Path(self.key))


class _Shards:
    """The shards of one of several processes, in order."""

    def __init__(self, array: zarr.Array, rank: SupportsIndex, world_size: SupportsIndex) -> None:
        self.rank, self.world_size = as_rank(rank, world_size)
        self._array = array
        self._unit = [max(size, 1) for size in array.shards or array.chunks]
        self._counts = [-(-size // unit) for size, unit in zip(array.shape, self._unit, strict=True)]

    def __iter__(self) -> Iterator[_Shard]:
        shape, counts = self._array.shape, self._counts
        first, last = (prod(counts) * rank // self.world_size for rank in (self.rank, self.rank + 1))
        for number in range(first, last):
            place = tuple(number // prod(counts[axis + 1 :]) % count for axis, count in enumerate(counts))
            starts = [at * unit for at, unit in zip(place, self._unit, strict=True)]
            stops = [min(start + unit, size) for start, unit, size in zip(starts, self._unit, shape, strict=True)]
            yield _Shard(self._array.metadata.encode_chunk_key(place), tuple(map(slice, starts, stops)))

    def has(self, key: str) -> bool:
        """Whether it is the key of one of them, of any process."""
        place = tuple(map(int, re.findall(r"[0-9]{1,19}", key)))
        is_inside = len(place) == len(self._counts) and all(map(lt, place, self._counts))
        is_scalar = not self._counts and key == self._array.metadata.encode_chunk_key(())
        return is_scalar or (is_inside and key == self._array.metadata.encode_chunk_key(place))


def _open(array: Any, mode: str) -> zarr.Array:
    # An open array is opened again: another process may have recorded its recipe since.
    return zarr.open_array(array.store_path if isinstance(array, zarr.Array) else array, mode=mode)


def _exists(array: zarr.Array, key: str) -> bool:
    return bool(sync((array.store_path / key).exists()))


def _strays(array: zarr.Array) -> list[str]:
    """Keys below the array's that are neither its metadata nor its shards."""
    root = f"{array.path}/" if array.path else ""

    async def listed() -> list[str]:
        return [key.removeprefix(root) async for key in array.store_path.store.list_prefix(root)]

    shards, own = _Shards(array, 0, 1), ("zarr.json", ".zarray", ".zattrs")
    return sorted(key for key in sync(listed()) if key not in own and not shards.has(key))


def __dir__() -> list[str]:
    """List the public names alone."""
    return __all__
