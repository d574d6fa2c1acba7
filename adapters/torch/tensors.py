"""Tensors: fill one that is there, or make one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
import torch
from torch import Tensor

from winit_fast import Scheme, fill
from winit_fast.fans import Axes, axes_tuple
from winit_fast.messages import as_int, as_sizes, shown

__all__ = ["FILLED", "draw_seed", "fill_tensor", "init", "init_", "torch_axes"]

Seed: TypeAlias = SupportsIndex | None
Name: TypeAlias = str | SupportsIndex

# What NumPy has no type of its own for is viewed as integers of the same size, and those as ml_dtypes' types.
_VIEWED = {
    torch.bfloat16: (torch.uint16, "bfloat16"),
    torch.float8_e4m3fn: (torch.uint8, "float8_e4m3fn"),
    torch.float8_e5m2: (torch.uint8, "float8_e5m2"),
}
FILLED = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.complex64, torch.complex128,
)  # fmt: skip

# Bytes of host memory, twice, through which a tensor on another device is filled.
STAGING = 8 << 20


@torch.compiler.disable
def init_(
    tensor: Tensor,
    scheme: str | Scheme,
    *,
    seed: Seed = None,
    name: Name = 0,
    generator: torch.Generator | None = None,
    shape: Sequence[SupportsIndex] | None = None,
    offset: Sequence[SupportsIndex] | None = None,
    in_axis: Axes | None = None,
    out_axis: Axes | None = None,
    batch_axis: Axes = (),
    padding_idx: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
) -> Tensor:
    """Fill a tensor, or its part of a larger one, with starting weights, in place.

    Parameters
    ----------
    tensor : Tensor
        A parameter or any other, of any strides without overlap: views, transposed, channels_last, sliced. float64,
        float32, float16, bfloat16, float8_e4m3fn, float8_e5m2; complex64 and complex128 for constants and schemes with
        fans. One without elements, or on the meta device, is left as it is. A `DTensor` is filled where it stands: each
        rank its own part.
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `winit_fast.schemes`.
    seed : int, optional
        In [0, 2^64). Left out: one 64-bit draw of `generator`, so that `torch.manual_seed` governs it and two calls
        differ. Ranks that share a tensor must then hold the same state of the generator, or pass a seed.
    name : str or int, default 0
        The tensor's own stream under that seed. Two tensors with the same seed and name get the same values: give each
        parameter its name.
    generator : torch.Generator, optional
        PyTorch's default one if left out; not looked at where there is a seed.
    shape, offset : sequence of int, optional
        The shape of the global tensor and the index in it where `tensor` begins. Left out: `tensor` is the whole.
    in_axis, out_axis, batch_axis : int or sequence of int, optional
        Which axes of the global tensor are the inputs and outputs of a unit, and which merely stack. By default
        PyTorch's layout, ``(*batch, out, in, *kernel)``.
    padding_idx : int, optional
        A row of the global tensor that is 0 whatever the scheme, as in `torch.nn.Embedding`.
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
    _refuse_unusable(tensor)
    key = draw_seed(generator) if seed is None else seed
    arguments = {"seed": key, "name": name, "padding_idx": padding_idx, "threads": threads}
    from torch.distributed.tensor import DTensor  # some 20 ms the first time, and part of every distributed program

    if isinstance(tensor, DTensor):
        from winit_fast.adapters.torch.sharding import fill_dtensor

        if shape is not None or offset is not None:
            raise ValueError(f"shape and offset must be left out for a DTensor, which has them, got {shown(shape)}")
        axes = torch_axes(len(tensor.shape), in_axis, out_axis, batch_axis)
        fill_dtensor(tensor, scheme, **arguments, **axes)
        return tensor
    rank = tensor.dim() if shape is None else len(as_sizes("shape", shape))
    axes = torch_axes(rank, in_axis, out_axis, batch_axis)
    fill_tensor(tensor, scheme, shape=shape, offset=offset, **arguments, **axes)
    return tensor


def init(
    shape: SupportsIndex | Sequence[SupportsIndex],
    scheme: str | Scheme,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | int | None = None,
    requires_grad: bool = False,
    **arguments: Any,
) -> Tensor:
    """Make a tensor of starting weights.

    Parameters
    ----------
    shape : int or sequence of int
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `winit_fast.schemes`.
    dtype, device, requires_grad
        As in `torch.empty`.
    **arguments
        `seed`, `name`, `generator`, `in_axis`, `out_axis`, `batch_axis`, `padding_idx`, `threads` of `init_`.

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
    for argument in ("shape", "offset"):
        if argument in arguments:
            raise TypeError(f"{argument} must be left out: a part of a larger tensor is for init_, got {shown(arguments)}")
    tensor = torch.empty(sizes, dtype=dtype, device=device)
    return init_(tensor, scheme, **arguments).requires_grad_(requires_grad)


def draw_seed(generator: torch.Generator | None) -> int:
    """One 64-bit draw of a generator, PyTorch's default one where it is None."""
    device = "cpu" if generator is None else generator.device
    drawn = torch.empty((), dtype=torch.int64, device=device).random_(-(1 << 63), None, generator=generator)
    return int(drawn.item()) % (1 << 64)


def torch_axes(rank: int, in_axis: Axes | None, out_axis: Axes | None, batch_axis: Axes) -> dict[str, Any]:
    """The axes in PyTorch's layout where they are not given: of those that do not stack, outputs first, then inputs."""
    batch = axes_tuple("batch_axis", batch_axis)
    left = [axis for axis in range(max(rank, 2 + len(batch))) if axis not in batch and axis - rank not in batch]
    outs = left[0] if out_axis is None else out_axis
    ins = left[1] if in_axis is None else in_axis
    for given, name, other in ((out_axis, "out_axis", "in_axis"), (in_axis, "in_axis", "out_axis")):
        default = left[1] if other == "in_axis" else left[0]
        is_alone = given is not None and (in_axis is None or out_axis is None)
        if is_alone and any(axis in (default, default - rank) for axis in axes_tuple(name, given)):  # type: ignore[arg-type]
            raise ValueError(f"{other} must be given with {name}={shown(given)}, which is the axis that {other} is by default")
    return {"in_axis": ins, "out_axis": outs, "batch_axis": batch}


def fill_tensor(
    tensor: Tensor,
    scheme: str | Scheme,
    *,
    shape: Sequence[SupportsIndex] | None = None,
    offset: Sequence[SupportsIndex] | None = None,
    **arguments: Any,
) -> None:
    """Fill a plain tensor with arguments that `winit_fast.fill` takes."""
    if _is_empty(tensor):
        # Arguments are checked all the same: other ranks hold the rest.
        nothing = np.empty(tuple(tensor.shape) if tensor.numel() == 0 else (0,) * tensor.dim(), np.float32)
        if tensor.numel() == 0 and tensor.dtype in FILLED and not tensor.dtype.is_complex:
            fill(nothing, scheme, shape=shape, offset=offset, **arguments)
        return
    with torch.no_grad():
        plain = tensor.detach()
        if plain.device.type == "cpu":
            fill(_array(plain), scheme, shape=shape, offset=offset, **arguments)
        else:
            _fill_through_host(plain, scheme, shape, offset, arguments)
    torch.autograd.graph.increment_version(tensor)  # type: ignore[no-untyped-call]  # autograd must see the write


def _is_empty(tensor: Tensor) -> bool:
    return tensor.numel() == 0 or tensor.device.type == "meta"


def _refuse_unusable(tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"tensor must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.layout is not torch.strided or tensor.is_quantized:
        kind = "quantized" if tensor.is_quantized else str(tensor.layout)
        raise TypeError(f"tensor must be dense, got one that is {kind}")
    if tensor.dtype not in FILLED:
        raise TypeError(f"tensor must be of dtype {', '.join(map(str, FILLED))}, got {tensor.dtype}")
    if tensor.is_conj() or tensor.is_neg():
        raise ValueError("tensor must hold its values as they are, got a conjugate or negative view; fill what it views")
    if any(stride == 0 and size > 1 for stride, size in zip(_strides(tensor), tensor.shape, strict=True)):
        raise ValueError(
            f"tensor must not overlap itself in memory, got shape {tuple(tensor.shape)} with strides {tensor.stride()}: "
            "an expanded tensor; fill what it was expanded from"
        )


def _strides(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.stride()) if type(tensor) in (Tensor, torch.nn.Parameter) else (1,) * tensor.dim()


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The memory of a tensor on the CPU as a NumPy array."""
    if tensor.dtype not in _VIEWED:
        return tensor.numpy()
    integers, name = _VIEWED[tensor.dtype]
    try:
        import ml_dtypes
    except ImportError:
        raise ModuleNotFoundError(f"tensors of {tensor.dtype} need ml_dtypes: pip install ml_dtypes") from None
    return tensor.view(integers).numpy().view(getattr(ml_dtypes, name))


# Other devices


def _fill_through_host(
    tensor: Tensor, scheme: str | Scheme, shape: object, offset: object, arguments: dict[str, Any]
) -> None:
    """Fill pieces in two buffers of host memory in turn, each copied while the next is filled; a kernel of the device's
    own can stand here.
    """  # noqa: D205
    whole = tuple(tensor.shape) if shape is None else as_sizes("shape", shape)
    start = (0,) * tensor.dim() if offset is None else as_sizes("offset", offset)
    is_cuda = tensor.device.type == "cuda"
    most = max(1, STAGING // tensor.element_size())
    buffers = [torch.empty(min(most, tensor.numel()), dtype=tensor.dtype, pin_memory=is_cuda) for _ in range(2)]
    copied: list[Any] = [None, None]
    for number, (begin, extent) in enumerate(_pieces(tuple(tensor.shape), most)):
        turn = number % 2
        if copied[turn] is not None:
            copied[turn].synchronize()
        staged = buffers[turn][: int(np.prod(extent))].view(extent)
        place = tuple(map(sum, zip(start, begin, strict=True)))
        fill(_array(staged), scheme, shape=whole, offset=place, **arguments)
        part = tensor[tuple(slice(first, first + size) for first, size in zip(begin, extent, strict=True))]
        part.copy_(staged, non_blocking=is_cuda)
        if is_cuda:
            copied[turn] = torch.cuda.current_stream(tensor.device).record_event()
    for event in copied:
        if event is not None:
            event.synchronize()


def _pieces(shape: tuple[int, ...], most: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Rectangles of at most so many elements that make up a shape: where each begins, and its extent."""
    if not shape:
        yield (), ()
        return
    inner = int(np.prod(shape[1:]))
    if inner > most:
        for row in range(shape[0]):
            for begin, extent in _pieces(shape[1:], most):
                yield (row, *begin), (1, *extent)
        return
    rows = max(1, most // max(1, inner))
    for first in range(0, shape[0], rows):
        yield (first, *(0,) * (len(shape) - 1)), (min(rows, shape[0] - first), *shape[1:])
