"""Rows of a large tensor, in any order: those of an embedding that grows and evicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from winit_fast import Scheme, fill_rows
from winit_fast.fans import Axes, Matrices
from winit_fast.fill import read_rows
from winit_fast.initializer import Initializer
from winit_fast.messages import as_sizes
from winit_fast.streams import UNNAMED

from .._device import trust
from .._memory.pieces import PIECE
from .._memory.torch import array_of, name_of
from .plain import in_torch_layout, is_unreal, leaves_graph, refuse_unusable, seed_of, write_on_device

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["init_rows_"]


@leaves_graph
def init_rows_(
    tensor: Tensor,
    rows: ArrayLike | Tensor,
    scheme: str | Scheme,
    *,
    seed: SupportsIndex | None = None,
    name: str | SupportsIndex = UNNAMED,
    generator: torch.Generator | None = None,
    shape: Sequence[SupportsIndex],
    in_axis: Axes | None = None,
    out_axis: Axes | None = None,
    batch_axis: Axes = (),
    matrices: Matrices = 1,
    padding_idx: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
) -> Tensor:
    """Fill ``tensor[k]`` with row ``rows[k]`` of a larger tensor: the rows of an embedding that grows or evicts.

    The values are those that `init_` gives the whole tensor under the same seed and name.

    Parameters
    ----------
    tensor : Tensor
        Of shape ``(len(rows), *shape[1:])``; otherwise as in `init_`, but no `DTensor`. A large one on a GPU is filled
        there if the scheme draws each element by itself.
    rows : Tensor or array_like of int
        One axis, each in [0, shape[0]), in any order, repeated or not. Those on a device are copied to the host to be
        checked, which waits for the device; those on the host are copied to the tensor's device, for which nobody
        waits.
    scheme, seed, name, generator
        As in `init_`. Pass a seed: rows that are made again must have the one of the first time.
    shape : sequence of int
        The shape of the larger tensor.
    in_axis, out_axis, batch_axis, matrices, padding_idx, threads
        As in `init_`, of `shape`.

    Returns
    -------
    Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used. Nothing has been written then.

    See Also
    --------
    winit_fast.fill_rows : the same for NumPy arrays.

    Examples
    --------
    >>> import torch
    >>> from winit_fast import adapters
    >>> named = {"seed": 7, "name": "user_id"}
    >>> table = adapters.torch.init((1000, 64), "normal(std=0.01)", **named)
    >>> rows = torch.tensor([998, 3, 998])
    >>> some = adapters.torch.init_rows_(torch.empty(3, 64), rows, "normal(std=0.01)", shape=(1000, 64), **named)
    >>> torch.equal(some, table[rows])
    True
    """
    if hasattr(tensor, "placements"):
        raise TypeError("tensor must be a plain one, got a DTensor: fill what each rank holds, by its rows")
    if is_unreal(tensor):
        return tensor
    key = seed_of(scheme, seed, generator)
    whole = as_sizes("shape", shape)
    initializer = in_torch_layout(
        len(whole), scheme, name=name, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis, matrices=matrices,
        padding_idx=padding_idx,
    )  # fmt: skip
    refuse_unusable(tensor)
    if trust.is_captured(tensor):
        raise RuntimeError(
            "init_rows_ must not be called while a CUDA graph is captured: it checks the rows on the host, which a "
            "graph would not do again"
        )
    listed = _on_host(rows) if isinstance(rows, Tensor) else rows
    plain = tensor.detach()
    fill = partial(
        fill_rows, scheme=initializer.scheme, seed=key, name=initializer.name, shape=whole, in_axis=initializer.in_axis,
        out_axis=initializer.out_axis, batch_axis=initializer.batch_axis, matrices=initializer.matrices,
        padding_idx=initializer.padding_idx, threads=threads,
    )  # fmt: skip
    if plain.is_cpu and not trust.takes(plain):
        fill(array_of(plain), listed)
    else:
        checked = read_rows(listed, tuple(plain.shape), whole)
        initializer.check(whole, name_of(plain.dtype), seed=key, threads=threads)
        _fill_elsewhere(plain, rows, checked, fill, initializer, key, whole)
    torch.autograd.graph.increment_version(tensor)  # autograd must see the write
    return tensor


def _fill_elsewhere(
    tensor: Tensor, given: object, rows: NDArray[np.int64], fill: Callable[..., object], initializer: Initializer,
    seed: SupportsIndex | None, shape: tuple[int, ...],
) -> None:  # fmt: skip
    """Fill a tensor on another device than the CPU by a kernel; else by `fill`, in pieces of host memory.

    `rows` are those that were `given`, checked.
    """
    if tensor.numel() == 0:
        return
    if trust.takes(tensor) and write_on_device(
        tensor, initializer, seed, shape, (0,) * len(shape), _on_device_of(tensor, given, rows)
    ):
        return
    is_small = tensor.is_cuda and tensor.nbytes <= trust.SMALL_BYTES
    count = max(1, PIECE // tensor[0].nbytes) if initializer.is_elementwise(shape) else len(tensor)
    for first in range(0, len(tensor), count):
        part = tensor[first : first + count]
        staged = torch.empty(part.shape, dtype=part.dtype, device="cpu", pin_memory=is_small)
        fill(array_of(staged), rows[first : first + count])
        part.copy_(staged, non_blocking=is_small)  # pinned memory is kept until it was copied


def _on_device_of(tensor: Tensor, given: object, rows: NDArray[np.int64]) -> Tensor:
    """The rows beside a tensor: what was given there, or a copy that nobody waits for."""
    if type(given) is Tensor and given.device == tensor.device:
        return given.detach().to(torch.int64).contiguous()
    staged = torch.empty(rows.shape, dtype=torch.int64, device="cpu", pin_memory=tensor.is_cuda)
    staged.numpy()[...] = rows
    return staged.to(tensor.device, non_blocking=True)  # pinned memory is kept until it was copied


def _on_host(rows: Tensor) -> NDArray[Any]:
    if rows.is_floating_point() or rows.is_complex():
        raise TypeError(f"rows must be integers along one axis, got shape {tuple(rows.shape)} of {rows.dtype}")
    return rows.detach().cpu().numpy()
