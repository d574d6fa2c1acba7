"""From a tensor's memory, and what the engine knows of its values, to launches of the kernels."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import gcd, prod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from winit_fast._plan import STORES, TRANSFORMS, TRUNCATED_THRESHOLD
from winit_fast.lowering import Conversion

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = ["Panels", "Run", "Values", "launch", "lay_out", "values_of"]

#: Groups of 32 words that a program makes, and its warps of 32 lanes.
GROUPS, WARPS = 64, 4
_MOST_AXES = 4  # that a kernel counts
_MOST_UNITS = (1 << 31) - GROUPS  # of one launch: they are counted in 32 bits
_INTEGERS = {1: torch.int8, 2: torch.int16}

Axis: TypeAlias = "tuple[int, int, int]"  # extent; elements to the next index in memory, and in the global tensor


class Values(NamedTuple):
    """What a kernel makes: the names of transform and store, the bits of the constants, and the stream."""

    transform: str
    store: str
    constants: tuple[int, ...]
    seed: int
    stream: int

    @property
    def bits(self) -> int:
        """Of the type that it computes in."""
        return 64 if self.transform.endswith("64") else 32


def values_of(conversion: Conversion, seed: int, stream: int) -> Values:
    """The arguments of the kernels for what `winit_fast.lowering.lower` gives.

    Examples
    --------
    >>> from winit_fast.adapters._device.launch import STORES, TRANSFORMS
    >>> from winit_fast.element_types import Conversion
    >>> values_of(Conversion(TRANSFORMS.index("normal32"), STORES.index("bfloat16"), (0.0, 1.0)), 7, 2**64 - 1)
    ... # doctest: +NORMALIZE_WHITESPACE
    Values(transform='normal32', store='bfloat16',
           constants=(0, 1065353216, 0, 0, 0, 0, 0, 0, 0, 0), seed=7, stream=-1)
    """
    transform = TRANSFORMS[conversion.transform]
    number, integer = ("<d", "<q") if transform.endswith("64") else ("<f", "<i")
    constants = [struct.unpack(integer, struct.pack(number, value))[0] for value in conversion.constants]
    if transform in ("truncated_near32", "truncated_far32", "truncated64"):
        constants[TRUNCATED_THRESHOLD] = int(conversion.constants[TRUNCATED_THRESHOLD])
    constants += [0] * (10 - len(constants))
    return Values(transform, STORES[conversion.store], tuple(constants), _signed(seed), _signed(stream))


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word


def lay_out(
    tensor: Tensor, shape: Sequence[int], start: Sequence[int], rows: Tensor | None = None, padding: int = -1
) -> Run | Panels:
    """How kernels meet the elements of a tensor.

    Parameters
    ----------
    tensor : Tensor
        With elements, of strides without overlap; a complex one by its real numbers.
    shape, start : sequence of int
        The global tensor's shape, and the index in it where `tensor` begins.
    rows : Tensor of int64, optional
        Contiguous, on the same device: which row of the global tensor each index of axis 0 is. `start` is then 0.
    padding : int
        The row of such a list that is 0.

    Examples
    --------
    >>> import torch
    >>> lay_out(torch.empty(500, 64), (1000, 64), (500, 0))
    Run(first=32000, size=32000)
    >>> lay_out(torch.empty(500, 64)[:, :16], (1000, 64), (500, 0))
    Panels(first=32000, place=0, columns=(16, 1, 1), axes=((500, 64, 64),), rows=None, padding=-1)
    """
    first, step = 0, 1
    axes: list[Axis] = []
    for extent, stride, size, begin in reversed(list(zip(tensor.shape, tensor.stride(), shape, start, strict=True))):
        axes.append((extent, stride, step))
        first += begin * step
        step *= size
    listed = [] if rows is None else [axes.pop()]
    axes = _merge(axes)
    columns = axes.pop(0) if axes and axes[0][2] == 1 else (1, 1, 1)
    if not axes and not listed and columns[1] == 1:
        return Run(first, columns[0])
    if columns[1] != 1:  # rows that are neighbours in memory are written side by side
        axes.sort(key=lambda axis: axis[1] != 1)
    return Panels(first, 0, columns, (*listed, *axes) or ((1, 1, 0),), rows, padding)


def launch(tensor: Tensor, values: Values, layout: Run | Panels) -> None:
    """Write the values of a part of the global tensor to a tensor, on its device's current stream.

    Parameters
    ----------
    tensor : Tensor
        As for `lay_out`, of the type that `values` is for.
    values : Values
    layout : Run or Panels
        What `lay_out` says of it.
    """
    from . import kernels

    out = tensor if values.store == "as_it_is" else tensor.view(_INTEGERS[tensor.element_size()])
    with _on_device(tensor):
        if isinstance(layout, Run):
            _launch_run(kernels, out, values, layout)
        else:
            for part in layout.parts(values.bits):
                _launch_panels(kernels, out, values, part)


def _on_device(tensor: Tensor) -> AbstractContextManager[Any]:
    if tensor.is_cpu:  # Triton's interpreter writes there
        return nullcontext()
    return getattr(torch, tensor.device.type).device(tensor.device)  # type: ignore[no-any-return]


def _pointer_to(tensor: Tensor) -> Any:
    """What a kernel is launched with.

    For ROCm, Triton compiles another kernel if it sees that memory is smaller than 2 GiB. So it does not see it, and
    the kernel that was compared in little memory is the one that runs in much.
    """
    if torch.version.hip is None:
        return tensor
    import triton

    return triton.reinterpret(tensor, tensor.dtype)


def _merge(axes: Sequence[Axis]) -> list[Axis]:
    """Axes from the last on, those that continue each other in memory and in the global tensor as one.

    Examples
    --------
    >>> _merge([(64, 1, 1), (5, 64, 64), (1, 7, 7), (3, 1000, 320)])
    [(320, 1, 1), (3, 1000, 320)]
    """
    merged: list[Axis] = []
    for extent, stride, step in axes:
        if extent == 1:
            continue
        if merged and (stride, step) == (merged[-1][0] * merged[-1][1], merged[-1][0] * merged[-1][2]):
            merged[-1] = (merged[-1][0] * extent, *merged[-1][1:])
        else:
            merged.append((extent, stride, step))
    return merged


class Run(NamedTuple):
    """Neighbours in memory that are neighbours in the global tensor: from which element on, and how many."""

    first: int
    size: int

    @property
    def variant(self) -> tuple[str, int, bool]:
        """What decides how the kernel is compiled: its kind, its axes, and whether tiles begin with a line."""
        return "run", 0, self.first % 16 == 0


class Panels(NamedTuple):
    """Rows of neighbours in the global tensor, in any order.

    Attributes
    ----------
    first : int
        The element of the global tensor from which steps are counted.
    place : int
        How many elements of memory behind the tensor's first its own first stands.
    columns : tuple of int
        The axis along a row; its last number is 1.
    axes : tuple of tuple of int
        Those that count rows, at least one.
    rows : Tensor or None
        Stands for the steps of the first of them.
    padding : int
    """

    first: int
    place: int
    columns: Axis
    axes: tuple[Axis, ...]
    rows: Tensor | None = None
    padding: int = -1

    @property
    def variant(self) -> tuple[str, int, bool]:
        """As that of `Run`."""
        kind = "across" if self.is_across else "rows" if self.rows is None else "list of rows"
        return kind, min(len(self.axes), _MOST_AXES), False

    @property
    def is_across(self) -> bool:
        """Whether a program writes rows side by side."""
        return self.rows is None and self.columns[1] != 1 and self.axes[0][1] == 1

    def pieces(self, bits: int) -> int:
        """How many groups of words a row meets, at most."""
        group = 1024 // bits
        grain = gcd(group, *(step for _, _, step in self.axes))  # rows begin so many elements apart, or a multiple
        latest = group - grain + self.first % grain  # in its group
        return -(-(latest + self.columns[0]) // group)

    def units(self, bits: int) -> int:
        """How many pairs of a row and a piece programs count."""
        extents = [extent for extent, _, _ in self.axes]
        if self.is_across:
            extents[0] = -(-extents[0] // GROUPS) * GROUPS
        return prod(extents) * self.pieces(bits)

    def cut(self, which: int, begin: int, end: int) -> Panels:
        """From one index of an axis up to another; axis -1: the columns."""
        stride, step = (self.columns if which < 0 else self.axes[which])[1:]
        place, axis = self.place + begin * stride, (end - begin, stride, step)
        if which < 0:
            return self._replace(first=self.first + begin, place=place, columns=axis)
        axes = (*self.axes[:which], axis, *self.axes[which + 1 :])
        if self.rows is not None and which == 0:
            return self._replace(place=place, axes=axes, rows=self.rows[begin:end])
        return self._replace(first=self.first + begin * step, place=place, axes=axes)

    def parts(self, bits: int) -> Iterator[Panels]:
        """Those that kernels can count, in at most 4 axes and 31 bits.

        Examples
        --------
        >>> panels = Panels(0, 0, (9, 1, 1), ((2, 16, 9), (3, 64, 18), (2, 512, 54), (2, 1024, 108), (2, 2048, 216)))
        >>> [(part.first, part.place, len(part.axes)) for part in panels.parts(32)]
        [(0, 0, 4), (54, 512, 4)]
        """
        if len(self.axes) > _MOST_AXES:
            shortest = min(range(1, len(self.axes)), key=lambda which: self.axes[which][0])
            for index in range(self.axes[shortest][0]):
                part = self.cut(shortest, index, index + 1)
                yield from part._replace(axes=part.axes[:shortest] + part.axes[shortest + 1 :]).parts(bits)
        elif self.units(bits) > _MOST_UNITS:
            extents = (*(extent for extent, _, _ in self.axes), self.columns[0])
            longest = max(range(len(extents)), key=extents.__getitem__)
            which, half = (-1 if longest == len(self.axes) else longest), extents[longest] // 2
            yield from self.cut(which, 0, half).parts(bits)
            yield from self.cut(which, half, extents[longest]).parts(bits)
        else:
            yield self


def _launch_run(kernels: Any, out: Tensor, values: Values, run: Run) -> None:
    tile, count = GROUPS * 1024 // values.bits, run.size
    before, is_aligned = run.first % tile, run.first % 16 == 0
    kernels.fill_run[(-(-(before + count) // tile),)](
        _pointer_to(out), before // 16 if is_aligned else before, count, run.first // tile * GROUPS, values.seed,
        values.stream, *values.constants,
        TRANSFORM=values.transform, STORE=values.store, BITS=values.bits, ALIGNED=is_aligned, GROUPS=GROUPS,
        num_warps=WARPS, enable_fp_fusion=False,
    )  # fmt: skip


def _launch_panels(kernels: Any, out: Tensor, values: Values, panels: Panels) -> None:
    rows, units = panels.rows, panels.units(values.bits)
    extents, strides, steps = zip(*panels.axes, *[(1, 0, 0)] * (_MOST_AXES - len(panels.axes)), strict=True)
    out = out.as_strided((1,), (1,), out.storage_offset() + panels.place)
    kernels.fill_panels[(-(-units // GROUPS),)](
        _pointer_to(out), _pointer_to(out if rows is None else rows), panels.padding, panels.first, *panels.columns[:2],
        panels.pieces(values.bits), units, *extents, *strides, *steps, values.seed, values.stream, *values.constants,
        TRANSFORM=values.transform, STORE=values.store, BITS=values.bits, AXES=len(panels.axes),
        LISTED=rows is not None, ACROSS=panels.is_across, GROUPS=GROUPS, num_warps=WARPS, enable_fp_fusion=False,
    )  # fmt: skip
