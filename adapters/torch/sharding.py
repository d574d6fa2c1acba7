"""Sharded tensors: every rank fills its own part, with no communication, and together they have the whole's values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple, SupportsIndex

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard

from winit_fast import Scheme
from winit_fast.adapters.torch.tensors import draw_seed, fill_tensor, torch_axes
from winit_fast.fans import Axes
from winit_fast.messages import as_int, shown

__all__ = ["fill_dtensor", "init_sharded_", "megatron_init_method"]


class Run(NamedTuple):
    """Neighbouring indices of one axis that a rank holds: where they begin in the global tensor, how many."""

    first: int
    count: int


def fill_dtensor(tensor: DTensor, scheme: str | Scheme, **arguments: Any) -> None:
    """Fill this rank's part of a DTensor with arguments that `winit_fast.fill` takes.

    Raises
    ------
    ValueError
        If a placement is neither a shard nor a replica, or the local tensor is not of the size that they say.
    """
    coordinate = tensor.device_mesh.get_coordinate()
    if coordinate is None:  # this rank is no part of the mesh
        return
    runs = [[Run(0, size)] for size in tensor.shape]
    for place, placement, count in zip(coordinate, tensor.placements, tensor.device_mesh.shape, strict=True):
        if isinstance(placement, Replicate):
            continue
        strided = getattr(placement, "split_factor", 1)  # FSDP over tensor parallelism splits the later mesh axis first
        if not isinstance(placement, Shard) and not hasattr(placement, "split_factor"):
            raise ValueError(f"tensor must be sharded or replicated, got the placement {placement}")
        axis = placement.dim % len(runs)
        runs[axis] = [run for piece in _chunks(runs[axis], strided) for run in _chunks(piece, count)[place]]
    with torch.no_grad():
        local = tensor.to_local()
    held = tuple(sum(run.count for run in along) for along in runs)
    if tuple(local.shape) != held:
        raise ValueError(f"tensor must hold {held} here by its placements, got a local tensor of {tuple(local.shape)}")
    fill_runs(local, runs, tuple(tensor.shape), scheme, **arguments)


def _chunks(runs: list[Run], count: int) -> list[list[Run]]:
    """Split as `torch.chunk` does, into `count` parts of which the last may be shorter or empty."""
    total = sum(run.count for run in runs)
    size = -(-total // count)
    return [_part(runs, min(k * size, total), min((k + 1) * size, total)) for k in range(count)]


def _part(runs: list[Run], first: int, last: int) -> list[Run]:
    part, before = [], 0
    for run in runs:
        begin, end = max(first - before, 0), min(last - before, run.count)
        if begin < end:
            part.append(Run(run.first + begin, end - begin))
        before += run.count
    return part


def fill_runs(
    local: Tensor, runs: list[list[Run]], shape: tuple[int, ...], scheme: str | Scheme, **arguments: Any
) -> None:
    """Fill a tensor whose axes hold these runs of the global tensor's, one rectangle after another."""
    if local.numel() == 0:
        empty = [Run(0, 0) if not along else along[0] for along in runs]
        runs = [[run._replace(count=size)] for run, size in zip(empty, local.shape, strict=True)]
    for rectangle in product(*(_placed(along) for along in runs)):
        part = local[tuple(slice(at, at + run.count) for at, run in rectangle)]
        fill_tensor(part, scheme, shape=shape, offset=tuple(run.first for _, run in rectangle), **arguments)


def _placed(along: list[Run]) -> Iterator[tuple[int, Run]]:
    at = 0
    for run in along:
        yield at, run
        at += run.count


def init_sharded_(
    tensor: Any,
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
) -> Any:
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
        raise TypeError(f"tensor must be a ShardedTensor, got {type(tensor).__name__}")
    key = draw_seed(generator) if seed is None else seed
    shape = tuple(tensor.size())
    axes = torch_axes(len(shape), in_axis, out_axis, batch_axis)
    for shard in tensor.local_shards():
        offset = tuple(shard.metadata.shard_offsets)
        fill_tensor(
            shard.tensor, scheme, shape=shape, offset=offset, seed=key, name=name, padding_idx=padding_idx,
            threads=threads, **axes,
        )  # fmt: skip
    return tensor


def megatron_init_method(
    scheme: str | Scheme,
    *,
    rank: SupportsIndex,
    world_size: SupportsIndex,
    seed: SupportsIndex | None = None,
    names: Callable[[], str] | None = None,
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
    if not 0 <= position < count:
        raise ValueError(f"rank must be in [0, {shown(world_size)}), got {shown(rank)}")
    numbers = iter(range(1 << 63))

    def method(weight: Tensor) -> Tensor:
        axis = getattr(weight, "partition_dim", -1)
        stride = getattr(weight, "partition_stride", 1)
        shape: list[int] = list(weight.shape)
        runs = [[Run(0, size)] for size in shape]
        if axis >= 0 and count > 1:
            shape[axis] *= count
            size = shape[axis] // (count * stride)
            runs[axis] = [Run((position + k * count) * size, size) for k in range(stride)]
        key = draw_seed(None) if seed is None else seed
        own = dict(arguments)
        axes = torch_axes(len(shape), own.pop("in_axis", None), own.pop("out_axis", None), own.pop("batch_axis", ()))
        name = next(numbers) if names is None else names()
        fill_runs(weight, runs, tuple(shape), scheme, seed=key, name=name, **axes, **own)
        return weight

    return method
