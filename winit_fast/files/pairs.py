"""Keys and their rows, piece by piece: what dynamic embeddings load, from any number of ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np

from winit_fast.fill import fill_keys, fill_rows
from winit_fast.memory import dtype_of
from winit_fast.messages import as_int, as_rank, quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from winit_fast.schemes import Scheme

    Pair = tuple[NDArray[Any], NDArray[Any]]

__all__ = ["iterate_rows"]


def iterate_rows(
    keys: range | NDArray[Any] | Iterable[ArrayLike],
    dim: SupportsIndex,
    scheme: str | Scheme,
    *,
    seed: SupportsIndex | None,
    name: str | SupportsIndex,
    dtype: DTypeLike = np.float32,
    by: Literal["key", "row"] = "key",
    shape: Sequence[SupportsIndex] | None = None,
    padding_key: SupportsIndex | None = None,
    rows_at_once: SupportsIndex = 1 << 16,
    rank: SupportsIndex = 0,
    world_size: SupportsIndex = 1,
    threads: SupportsIndex | None = None,
) -> Iterator[Pair]:
    """Keys with their rows, in the order of the keys, never more than some rows at once.

    Parameters
    ----------
    keys : range, ndarray of int, or iterable of them
        One axis. A memory-mapped array is read piece by piece, and so are the members of an iterable, such as the ids
        of each line or file.
    dim : int
        The width of a row.
    scheme : str or Scheme
    seed : int or None
    name : str or int
        Of the table.
    dtype : data-type, default float32
    by : {"key", "row"}
        What a key is: any 64-bit number, whose row is that of `winit_fast.fill_keys`; or the number of a row of a table
        of that `shape`, with the values of `winit_fast.fill_rows` and `winit_fast.fill`.
    shape, padding_key
        As in `winit_fast.fill_keys`. By row, `shape` must be given, and `padding_key` is the row of padding.
    rows_at_once : int, default 65536
        The most rows of a piece.
    rank, world_size : int
        Only keys whose remainder by `world_size` is `rank`.
    threads : int, optional
        As in `winit_fast.fill`.

    Yields
    ------
    keys : ndarray
        Of int64, or of uint64 where the keys are; one axis, and at least one key.
    values : ndarray of shape (len(keys), dim)

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used: all but keys that are outside of a table are refused at once.

    Examples
    --------
    >>> import numpy as np
    >>> import winit_fast
    >>> from winit_fast.files import iterate_rows
    >>> ids = np.array([2**62 + 1, 17, 4, 8, 15])
    >>> for keys, values in iterate_rows(
    ...     ids, 8, "normal(std=0.01)", seed=7, name="user_id", rows_at_once=2, rank=1, world_size=2
    ... ):
    ...     print(keys, values.shape)
    [4611686018427387905                  17] (2, 8)
    [15] (1, 8)
    """
    most = _at_least("rows_at_once", rows_at_once, 1)
    width = _at_least("dim", dim, 0, 1 << 31)
    own, ranks = as_rank(rank, world_size)
    _at_least("world_size", ranks, 1, 1 << 63)
    if by not in ("key", "row"):
        raise ValueError(f"by must be 'key' or 'row', got {quote(by)}")
    if by == "row" and shape is None:
        raise ValueError("shape must be given where the keys are rows of a table")
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        raise TypeError(f"keys must be a range, an array of int or an iterable of them, got {quote(keys)}")
    kind = dtype_of(dtype)
    given: dict[str, Any] = {"seed": seed, "name": name, "shape": shape, "threads": threads}

    def fill(piece: NDArray[Any]) -> NDArray[Any]:
        values = np.empty((len(piece), width), kind)
        if by == "row":
            return fill_rows(values, piece, scheme, padding_idx=padding_key, **given)
        return fill_keys(values, piece, scheme, padding_key=padding_key, **given)

    fill(np.empty(0, np.int64))  # refuses what it would refuse of the first piece
    if isinstance(keys, np.ndarray):
        _refuse_no_keys(keys)
    if isinstance(keys, range):
        _refuse_long_keys(keys)
    return ((piece, fill(piece)) for piece in _gather(keys, most, own, ranks))


def _gather(keys: range | NDArray[Any] | Iterable[ArrayLike], most: int, rank: int, ranks: int) -> Iterator[Any]:
    """The keys of a rank in pieces of `most`, and a last one."""
    held: list[NDArray[Any]] = []
    count = 0
    for piece in _read(keys, max(most, _READ)):
        own = piece if ranks == 1 else piece[piece % ranks == rank]
        while count + len(own) >= most:
            cut = most - count
            yield _join([*held, own[:cut]])
            held, count, own = [], 0, own[cut:]
        if len(own):
            held.append(own)
            count += len(own)
    if count:
        yield _join(held)


def _join(pieces: list[NDArray[Any]]) -> NDArray[Any]:
    kind = pieces[0].dtype  # int64 and uint64 together would be float64; a cast from one to the other keeps the key
    return np.concatenate([piece.astype(kind, copy=False) for piece in pieces])


_READ = 1 << 16  # keys at a time, where a rank has few of them


def _read(keys: range | NDArray[Any] | Iterable[ArrayLike], most: int) -> Iterator[NDArray[Any]]:
    for member in [keys] if isinstance(keys, range | np.ndarray) else keys:
        source = member if isinstance(member, range) else np.atleast_1d(np.asarray(member))
        if isinstance(source, range):
            _refuse_long_keys(source)
            ends = (0, source[0], source[-1]) if source else (0,)
            kind = np.uint64 if max(ends) >= 1 << 63 else np.int64
            for first in range(0, len(source), most):
                yield np.array(source[first : first + most], kind)
        elif source.size:
            _refuse_no_keys(source)
            kind = np.uint64 if source.dtype == np.uint64 else np.int64
            for first in range(0, len(source), most):
                yield np.asarray(source[first : first + most], kind)


def _refuse_long_keys(keys: range) -> None:
    low, high = (min(keys[0], keys[-1]), max(keys[0], keys[-1])) if keys else (0, 0)
    if low < -(1 << 63) or high >= 1 << (63 if low < 0 else 64) or high - low >= 1 << 63:
        raise ValueError(f"keys must be at most 2^63 numbers of 64 bits, got {quote(keys)}")


def _refuse_no_keys(keys: NDArray[Any]) -> None:
    if keys.ndim != 1 or keys.dtype.kind not in "iu":
        raise TypeError(f"keys must be integers along one axis, got shape {keys.shape} of {keys.dtype}")


def _at_least(argument: str, value: SupportsIndex, least: int, end: int | None = None) -> int:
    count = as_int(argument, value)
    if count < least:
        raise ValueError(f"{argument} must be an int >= {least}, got {quote(value)}")
    if end is not None and count >= end:
        raise ValueError(f"{argument} must be an int < {end}, got {quote(value)}")
    return count
