"""Sharded tensors: every rank fills its own part, with no communication, and together they have the whole's values."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import torch
from torch import Tensor

from winit_fast import Scheme
from winit_fast import scheme as make_scheme
from winit_fast.fans import Axes
from winit_fast.messages import as_int, as_sizes, shown

from .tensors import Drawn, draw_seed, fill_tensor, init_, leaves_graph, refuse_unusable, torch_axes

if TYPE_CHECKING:  # it takes half a second to import, and is there already where there is a DTensor
    from torch.distributed._shard.sharded_tensor.api import ShardedTensor
    from torch.distributed.tensor import DTensor

__all__ = ["fill_dtensor", "held_by_this_rank", "init_sharded_", "megatron_init_method", "torchrec_init_fn"]


class Run(NamedTuple):
    """Neighbouring indices of one axis that a rank holds: where they begin in the global tensor, and how many."""

    first: int
    size: int


def fill_dtensor(tensor: DTensor, scheme: str | Scheme, **arguments: Any) -> None:
    """Fill this rank's part of a `DTensor`, with arguments that `winit_fast.fill` takes."""
    local, runs = held_by_this_rank(tensor)
    if local is None:
        return
    fill_runs(local, runs, tuple(tensor.shape), scheme, **arguments)
    torch.autograd.graph.increment_version(tensor)


def held_by_this_rank(tensor: DTensor) -> tuple[Tensor | None, list[list[Run]]]:
    """The local tensor of a `DTensor`, None where this rank is no part of its mesh, and what its axes hold.

    Raises
    ------
    ValueError
        If a placement is neither a shard nor a replica, or the local tensor is not of the size that they say.
    """
    coordinate = tensor.device_mesh.get_coordinate()
    if coordinate is None:
        return None, []
    runs = [[Run(0, size)] for size in tensor.shape]
    for place, placement, count in zip(coordinate, tensor.placements, tensor.device_mesh.shape, strict=True):
        if placement.is_replicate():
            continue
        if not (placement.is_shard() or hasattr(placement, "split_factor")):
            raise ValueError(f"tensor must be sharded or replicated, got one of placement {placement}")
        # A strided shard was split into so many by a later axis of the mesh before: FSDP over tensor parallelism.
        axis: int = placement.dim  # type: ignore[attr-defined]
        pieces = _chunks(runs[axis], getattr(placement, "split_factor", 1))
        runs[axis] = [run for piece in pieces for run in _chunks(piece, count)[place]]
    with torch.no_grad():
        local = tensor.to_local()
    held = tuple(sum(run.size for run in along) for along in runs)
    if tuple(local.shape) != held:
        raise ValueError(f"tensor must hold {held} here by its placements, got a local tensor of {tuple(local.shape)}")
    return local, runs


def _chunks(runs: list[Run], count: int) -> list[list[Run]]:
    """Split as `torch.chunk` does, into `count` parts of which the last may be shorter or empty."""
    total = sum(run.size for run in runs)
    size = -(-total // count)
    return [_part(runs, min(k * size, total), min((k + 1) * size, total)) for k in range(count)]


def _part(runs: list[Run], first: int, last: int) -> list[Run]:
    part, before = [], 0
    for run in runs:
        begin, end = max(first - before, 0), min(last - before, run.size)
        if begin < end:
            part.append(Run(run.first + begin, end - begin))
        before += run.size
    return part


def fill_runs(
    local: Tensor, runs: list[list[Run]], shape: tuple[int, ...], scheme: str | Scheme, **arguments: Any
) -> None:
    """Fill a tensor whose axes hold these runs of the global tensor's, one rectangle after another."""
    if local.numel() == 0:  # nothing to write, but all to check: other ranks hold the rest
        runs = [[Run(0, size)] for size in local.shape]
    for rectangle in product(*map(_placed, runs)):
        part = local[tuple(slice(at, at + run.size) for at, run in rectangle)]
        fill_tensor(part, scheme, shape=shape, offset=tuple(run.first for _, run in rectangle), **arguments)


def _placed(along: list[Run]) -> Iterator[tuple[int, Run]]:
    at = 0
    for run in along:
        yield at, run
        at += run.size


@leaves_graph
def init_sharded_(
    tensor: ShardedTensor,
    scheme: str | Scheme,
    *,
    seed: SupportsIndex | None = None,
    name: str | SupportsIndex = 0,
    generator: torch.Generator | None = None,
    in_axis: Axes | None = None,
    out_axis: Axes | None = None,
    batch_axis: Axes = (),
    padding_idx: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
) -> ShardedTensor:
    """Fill this rank's shards of a `ShardedTensor`, such as TorchRec's embedding tables are, in place.

    Parameters
    ----------
    tensor : torch.distributed._shard.sharded_tensor.ShardedTensor
        Its shards say where they stand in the whole.
    scheme, seed, name, generator, in_axis, out_axis, batch_axis, padding_idx, threads
        As in `init_`. Every rank must pass the same seed, or hold the same state of the generator.

    Returns
    -------
    ShardedTensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.
    """
    if not hasattr(tensor, "local_shards"):
        raise TypeError(f"tensor must be a ShardedTensor (init_ fills others), got {type(tensor).__name__}")
    shape = tuple(tensor.size())
    arguments = {
        "shape": shape,
        "seed": Drawn(generator) if seed is None else seed,
        "name": name,
        "padding_idx": padding_idx,
        "threads": threads,
        **torch_axes(len(shape), in_axis, out_axis, batch_axis),
    }
    # Nothing, with all arguments: a rank that holds no shard refuses what the others refuse, and draws what they draw.
    fill_tensor(torch.empty((0,) * len(shape), dtype=tensor.dtype, device="cpu"), scheme, **arguments)
    shards = tensor.local_shards()
    for shard in shards:
        if not shard.tensor.is_meta:
            refuse_unusable(shard.tensor)  # all of them, before the first is written
    for shard in shards:
        fill_tensor(shard.tensor, scheme, offset=tuple(shard.metadata.shard_offsets), **arguments)
    return tensor


def torchrec_init_fn(
    scheme: str | Scheme,
    shape: Sequence[SupportsIndex],
    *,
    seed: SupportsIndex | None = None,
    name: str | SupportsIndex = 0,
    generator: torch.Generator | None = None,
    **arguments: Any,
) -> Callable[[Tensor], Tensor]:
    """An `init_fn` for TorchRec's `EmbeddingConfig` and `EmbeddingBagConfig`.

    TorchRec calls it with a whole table, with a shard, or with rows that were evicted, and does not say where a part
    stands. A whole table gets the values that `init_` gives it. A part gets fresh values of the same distribution (fans
    are the table's), other ones in each call and on each rank; `init_sharded_`, called on the sharded model's tables
    afterwards, gives them the bits of the whole.

    Parameters
    ----------
    scheme : str or Scheme
    shape : sequence of int
        Of the whole table: ``(num_embeddings, embedding_dim)``.
    seed, name, generator
        As in `init_`. Give every table its name.
    **arguments
        `in_axis`, `out_axis`, `batch_axis`, `threads` of `init_`.

    Returns
    -------
    callable
        ``init_fn(weight) -> weight``.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used, or, when it is called, if the weight does not fit into the table.

    Examples
    --------
    >>> import torch
    >>> from winit_fast import adapters
    >>> init_fn = adapters.torch.torchrec_init_fn("normal(std=0.01)", (1000, 64), seed=7, name="user_id")
    >>> table = init_fn(torch.empty(1000, 64))
    >>> whole = adapters.torch.init((1000, 64), "normal(std=0.01)", seed=7, name="user_id")
    >>> bool((table == whole).all())
    True
    >>> evicted = init_fn(table[[3, 5]])
    >>> bool((evicted == whole[[3, 5]]).any())
    False
    """
    made, whole = make_scheme(scheme), as_sizes("shape", shape)
    parts = itertools.count()

    def init_fn(weight: Tensor) -> Tensor:
        if tuple(weight.shape) == whole:
            return init_(weight, made, seed=seed, name=name, generator=generator, **arguments)
        if weight.numel() == 0:  # this rank holds nothing of the table, but the others draw
            if seed is None:
                draw_seed(generator)
            return weight
        ranked = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if ranked else 0
        stream = f"{name}, part {next(parts)} of rank {rank}"
        return init_(weight, made, seed=seed, name=stream, generator=generator, shape=whole, **arguments)

    return init_fn


def megatron_init_method(
    scheme: str | Scheme,
    *,
    rank: SupportsIndex,
    world_size: SupportsIndex,
    seed: SupportsIndex | None = None,
    names: Callable[[], str | int] | None = None,
    **arguments: Any,
) -> Callable[[Tensor], Tensor]:
    """An `init_method` for Megatron-LM: fills a weight, or this rank's partition of it by the attributes it carries.

    Parameters
    ----------
    scheme : str or Scheme
    rank, world_size : int
        Of the tensor-parallel group.
    seed : int, optional
        Left out: one draw of PyTorch's default generator for each weight; its state must then be the same on all ranks.
    names : callable, optional
        Gives the name of the next weight; left out, weights are numbered from 0 on.
    **arguments
        `in_axis`, `out_axis`, `batch_axis`, `threads` of `init_`.

    Returns
    -------
    callable
        ``method(weight) -> weight``. `weight.partition_dim` and `weight.partition_stride` say how it is split; without
        them, or with a `partition_dim` of -1, the weight is the whole.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> import torch
    >>> halves = [torch.empty(4, 6), torch.empty(4, 6)]
    >>> for rank, half in enumerate(halves):
    ...     half.partition_dim, half.partition_stride = 0, 1
    ...     _ = megatron_init_method("normal(std=0.02)", rank=rank, world_size=2, seed=1)(half)
    >>> whole = megatron_init_method("normal(std=0.02)", rank=0, world_size=1, seed=1)(torch.empty(8, 6))
    >>> bool((torch.cat(halves) == whole).all())
    True
    """
    position, count = as_int("rank", rank), as_int("world_size", world_size)
    if count < 1:
        raise ValueError(f"world_size must be 1 or more, got {shown(world_size)}")
    if not 0 <= position < count:
        raise ValueError(f"rank must be in [0, {shown(world_size)}), got {shown(rank)}")
    made = make_scheme(scheme)
    given_axes = [arguments.pop(argument, default) for argument, default in _AXES.items()]
    numbers = itertools.count()

    def method(weight: Tensor) -> Tensor:
        axis, stride = getattr(weight, "partition_dim", -1), getattr(weight, "partition_stride", 1)
        shape = list(weight.shape)
        runs = [[Run(0, size)] for size in shape]
        if axis >= 0:
            size, rest = divmod(shape[axis], stride)
            if rest:
                raise ValueError(f"weight must have a multiple of {stride} along axis {axis}, got {tuple(shape)}")
            runs[axis] = [Run((position + k * count) * size, size) for k in range(stride)]
            shape[axis] *= count
        name = next(numbers) if names is None else names()
        axes = torch_axes(len(shape), *given_axes)
        key = Drawn(None) if seed is None else seed
        fill_runs(weight, runs, tuple(shape), made, seed=key, name=name, **axes, **arguments)
        return weight

    return method


_AXES: dict[str, Any] = {"in_axis": None, "out_axis": None, "batch_axis": ()}
