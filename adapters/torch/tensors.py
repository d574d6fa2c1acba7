"""Tensors: fill one that is there, or make one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex, TypeAlias

import torch
from torch import Tensor

from winit_fast import Scheme
from winit_fast.arguments import nearest_word
from winit_fast.fans import Axes, Matrices
from winit_fast.initializer import Keywords
from winit_fast.messages import as_sizes, quote
from winit_fast.streams import UNNAMED

from .dtensor import fill_dtensor
from .plain import (
    PLAIN,
    FillKeywords,
    fill_small,
    fill_tensor,
    in_torch_layout,
    is_unreal,
    leaves_graph,
    refuse_computed,
    seed_of,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["InitKeywords", "as_dtype", "init", "init_"]

Seed: TypeAlias = SupportsIndex | None
Name: TypeAlias = str | SupportsIndex


@leaves_graph
def init_(
    tensor: Tensor,
    scheme: str | Scheme,
    *,
    seed: Seed = None,
    name: Name = UNNAMED,
    generator: torch.Generator | None = None,
    shape: Sequence[SupportsIndex] | None = None,
    offset: Sequence[SupportsIndex] | None = None,
    in_axis: Axes | None = None,
    out_axis: Axes | None = None,
    batch_axis: Axes = (),
    matrices: Matrices = 1,
    padding_idx: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
) -> Tensor:
    """Fill a tensor, or its part of a larger one, with starting weights, in place.

    Parameters
    ----------
    tensor : Tensor
        A parameter or any other, of any strides without overlap: views, transposed, channels_last, sliced. float64,
        float32, float16, bfloat16, float8_e4m3fn, float8_e5m2; complex64 and complex128 for constants and schemes with
        fans. One without elements, or with none in memory (meta, fake), is left as it is. A `DTensor` is filled where
        it stands: each rank its own part. A large one on a GPU is filled there, by kernels that were compared with
        the CPU's, if the scheme draws each element by itself. All others on another device than the CPU are filled
        through host memory, in two buffers of 8 MiB in turn, or in one as large as the tensor where elements depend on
        each other (orthogonal, sparse, ...). The bits are the same. What was computed, such as a weight under a
        parametrization or `weight.float()`, is refused, since the model would not see what is written to it; but under
        `torch.no_grad` PyTorch does not tell that it was computed.
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `winit_fast.schemes`.
    seed : int, optional
        In [0, 2^64). Left out: one 64-bit draw of `generator`, so that `torch.manual_seed` governs it and two calls
        differ; none where the scheme draws nothing. Ranks that share a tensor must then hold the same state of the
        generator, or pass a seed.
    name : str or int, default 0
        The tensor's own stream under that seed. Two tensors with the same seed and name get the same values: give each
        parameter its name.
    generator : torch.Generator, optional
        PyTorch's default one if left out; not looked at where there is a seed.
    shape, offset : sequence of int, optional
        The shape of the global tensor and the index in it where `tensor` begins. Left out: `tensor` is the whole. Where
        `tensor` is smaller than `shape`, both are needed.
    in_axis, out_axis, batch_axis : int or sequence of int, optional
        Which axes of the global tensor are the inputs and outputs of a unit, and which merely stack. By default
        PyTorch's layout, ``(*batch, out, in, *kernel)``.
    matrices : int or tuple of two int, default 1
        How many equal matrices follow each other along `out_axis`, each with fans of its own: 4 for the gates of an
        LSTM, 3 for packed queries, keys and values. ``(count, axis)`` names another axis. See `winit_fast.fill`.
    padding_idx : int, optional
        A row of the global tensor that is 0 under every scheme, as in `torch.nn.Embedding`. Rows are counted along the
        first axis that is not in `batch_axis`, from the end if negative.
    threads : int, optional
        How many threads; by default the CPUs this process may use, one for little work. The values do not depend on it,
        nor on `torch.set_num_threads`.

    Returns
    -------
    Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used. Nothing has been written then.

    Examples
    --------
    >>> import torch
    >>> from winit_fast import adapters
    >>> layer = torch.nn.Linear(512, 256)
    >>> _ = adapters.torch.init_(layer.weight, "he_normal", seed=7, name="layer.weight")
    >>> print(f"{layer.weight.std().item():.2f}")
    0.06
    """
    if (
        shape is None and offset is None and in_axis is None and out_axis is None and padding_idx is None
        and type(batch_axis) is tuple and not batch_axis and type(matrices) is int and matrices == 1
        and fill_small(tensor, scheme, seed, name, generator, threads)
    ):  # fmt: skip
        return tensor
    if is_unreal(tensor):
        return tensor
    key = seed_of(scheme, seed, generator)
    is_sharded = type(tensor) not in PLAIN and hasattr(tensor, "placements")
    if is_sharded and (shape is not None or offset is not None):
        argument, given = ("offset", offset) if shape is None else ("shape", shape)
        raise ValueError(f"{argument} must be left out for a DTensor, which has its own, got {quote(given)}")
    initializer = in_torch_layout(
        tensor.dim() if shape is None else len(as_sizes("shape", shape)), scheme, name=name, in_axis=in_axis,
        out_axis=out_axis, batch_axis=batch_axis, matrices=matrices, padding_idx=padding_idx,
    )  # fmt: skip
    if is_sharded:
        refuse_computed(tensor)
        fill_dtensor(tensor, initializer, seed=key, threads=threads)  # type: ignore[arg-type]
    else:
        fill_tensor(tensor, initializer, seed=key, shape=shape, offset=offset, threads=threads)
    return tensor


class InitKeywords(Keywords, FillKeywords, total=False):
    """What `init_` takes for a tensor that is a whole."""

    generator: torch.Generator | None


def init(
    shape: SupportsIndex | Sequence[SupportsIndex],
    scheme: str | Scheme,
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | int | None = None,
    requires_grad: bool = False,
    **keywords: Unpack[InitKeywords],
) -> Tensor:
    """Make a tensor of starting weights.

    Parameters
    ----------
    shape : int or sequence of int
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `winit_fast.schemes`.
    dtype, device, requires_grad
        As in `torch.empty`; `dtype` also by its name, such as ``"bfloat16"``.
    **keywords
        `seed`, `name`, `generator`, `in_axis`, `out_axis`, `batch_axis`, `matrices`, `padding_idx`, `threads` of
        `init_`.

    Returns
    -------
    Tensor

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> import torch
    >>> from winit_fast import adapters
    >>> weight = adapters.torch.init((256, 512), "xavier_uniform", dtype=torch.bfloat16, seed=7, name="layer.weight")
    >>> weight.shape, weight.dtype
    (torch.Size([256, 512]), torch.bfloat16)
    """
    sizes = as_sizes("shape", (shape,) if hasattr(shape, "__index__") else shape)
    if "offset" in keywords:
        given = quote(dict(keywords)["offset"])
        raise TypeError(f"offset must be left out (init_ fills a part of a larger tensor), got {given}")
    tensor = torch.empty(sizes, dtype=as_dtype(dtype), device=device)
    return init_(tensor, scheme, **keywords).requires_grad_(requires_grad)


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A dtype of PyTorch's, given as such or by its name.

    Examples
    --------
    >>> as_dtype("bfloat16")
    torch.bfloat16
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    needed = "dtype must be a torch.dtype or the name of one, such as 'bfloat16'"
    if not isinstance(dtype, str):
        raise TypeError(f"{needed}, got {quote(dtype)}")
    found = getattr(torch, dtype.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        names = [name for name, value in vars(torch).items() if isinstance(value, torch.dtype)]
        close = nearest_word({"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}.get(dtype, dtype), names)
        raise ValueError(f"{needed}, got {quote(dtype)}" + (f"; did you mean {close!r}?" if close else ""))
    return found
