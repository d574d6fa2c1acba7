"""What this rank holds of a `DTensor`: every rank fills its own part, and together they have the whole's values."""

from __future__ import annotations

from itertools import accumulate, product
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from winit_fast.initializer import Initializer

from .plain import fill_tensor, is_unreal, refuse_unusable

if TYPE_CHECKING:
    # It takes half a second to import, and is there already where there is a DTensor.
    from torch.distributed.tensor import DTensor
    from typing_extensions import Unpack

    from .plain import FillKeywords

__all__ = ["Runs", "fill_dtensor", "fill_runs", "find_local", "refuse_unusable_here"]

Runs: TypeAlias = list[list[range]]  # of each axis, the indices of the global tensor that a rank holds


def fill_dtensor(tensor: DTensor, initializer: Initializer, **keywords: Unpack[FillKeywords]) -> None:
    """Fill this rank's part of a `DTensor`."""
    local, runs = find_local(tensor)
    if local is None:
        return
    fill_runs(local, runs, tuple(tensor.shape), initializer, **keywords)
    torch.autograd.graph.increment_version(tensor)


def find_local(tensor: DTensor) -> tuple[Tensor | None, Runs]:
    """The local tensor of a `DTensor`, None where this rank is no part of its mesh, and what its axes hold.

    Raises
    ------
    ValueError
        If a placement is neither a shard nor a replica, or the local tensor is not of the size that they say.
    """
    coordinate = tensor.device_mesh.get_coordinate()
    if coordinate is None:
        return None, []
    runs = [[range(size)] for size in tensor.shape]
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
    held = tuple(sum(map(len, along)) for along in runs)
    if tuple(local.shape) != held:
        raise ValueError(f"tensor must hold {held} here by its placements, got a local tensor of {tuple(local.shape)}")
    return local, runs


def refuse_unusable_here(tensor: Tensor) -> None:
    """Raise where what this rank holds of a tensor cannot be written to."""
    held = find_local(tensor)[0] if hasattr(tensor, "placements") else tensor  # type: ignore[arg-type]
    if held is not None and not is_unreal(held):
        refuse_unusable(held)


def _chunks(runs: list[range], count: int) -> list[list[range]]:
    """Split as `torch.chunk` does, into `count` parts of which the last may be shorter or empty."""
    size = -(-sum(map(len, runs)) // count)
    return [_part(runs, k * size, (k + 1) * size) for k in range(count)]


def _part(runs: list[range], first: int, last: int) -> list[range]:
    part, before = [], 0
    for run in runs:
        part.append(run[max(first - before, 0) : max(last - before, 0)])
        before += len(run)
    return [run for run in part if run]


def fill_runs(
    local: Tensor, runs: Runs, shape: tuple[int, ...], initializer: Initializer, **keywords: Unpack[FillKeywords]
) -> None:
    """Fill a tensor whose axes hold these runs of the global tensor's, one rectangle after another."""
    if local.numel() == 0:  # nothing to write, but all to check: other ranks hold the rest
        runs = [[range(size)] for size in local.shape]
    # Where each run begins in the tensor, and the run.
    places = (zip(accumulate(map(len, along), initial=0), along, strict=False) for along in runs)
    for rectangle in product(*places):
        part = local[tuple(slice(at, at + len(run)) for at, run in rectangle)]
        offset = tuple(run.start for _, run in rectangle)
        fill_tensor(part, initializer, shape=shape, offset=offset, **keywords)
