"""Fans: how many inputs and outputs one unit of a layer has, read from the shape of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import NamedTuple, SupportsIndex, TypeAlias

from winit_fast.messages import BOOLS, as_int, as_members, quote
from winit_fast.records import record

__all__ = ["Axes", "Fans", "Layout", "Matrices", "as_axes", "fans", "matrices_of", "sizes_of"]

Axes: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
Matrices: TypeAlias = SupportsIndex | tuple[SupportsIndex, SupportsIndex]


class Fans(NamedTuple):
    """Inputs and outputs of one unit.

    Examples
    --------
    >>> Fans(fan_in=3, fan_out=4)
    Fans(fan_in=3, fan_out=4)
    """

    fan_in: int
    fan_out: int


def fans(shape: Sequence[SupportsIndex], in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()) -> Fans:
    """Count the inputs and outputs of one unit, with JAX's meaning of the axes.

    Axes that are none of in, out and batch are the receptive field: they multiply both fans. Batch axes (stacked
    layers, experts) multiply neither.

    Parameters
    ----------
    shape : sequence of int
        The global shape of the weights.
    in_axis, out_axis, batch_axis : int or sequence of int
        The axes of the inputs, of the outputs and of the stack; negative ones count from the end and ``()`` is none.
        One axis may be both, as in Flax's embedding; it then counts in neither fan.

    Returns
    -------
    Fans
        Two Python integers of any size.

    Raises
    ------
    TypeError
        If the shape or an axis is not made of integers; a bool is not an axis.
    ValueError
        If a size is negative; if an axis is out of range, repeated, or both a batch axis and another; if the one axis
        of a vector is both in and out.

    Notes
    -----
    fan_in is the product of all axes but the out and batch ones, fan_out of all but the in and batch ones. That is
    ``in_size * receptive_field`` of `jax.nn.initializers.variance_scaling` without its divisions, so that it is exact
    for empty tensors too.

    Examples
    --------
    >>> fans((512, 256))
    Fans(fan_in=512, fan_out=256)
    >>> fans((256, 512, 3, 3), in_axis=1, out_axis=0)
    Fans(fan_in=4608, fan_out=2304)
    >>> fans((8, 512, 256), batch_axis=0)
    Fans(fan_in=512, fan_out=256)
    >>> fans((50_000, 128), in_axis=-2, out_axis=0)
    Fans(fan_in=128, fan_out=128)
    >>> fans((512,), in_axis=0, out_axis=())
    Fans(fan_in=512, fan_out=1)
    """
    return Layout(sizes_of(shape), in_axis, out_axis, batch_axis).fans()


@record
class Layout:
    """The global shape of a tensor, and what its axes and elements are. Checked when it is asked.

    Parameters
    ----------
    shape, in_axis, out_axis, batch_axis
        As in `fans`; the shape is made of sizes >= 0.
    is_complex : bool
        Whether the elements are complex numbers.
    """

    shape: tuple[int, ...]
    in_axis: Axes = -2
    out_axis: Axes = -1
    batch_axis: Axes = ()
    is_complex: bool = False

    def fans(self) -> Fans:
        """The fans of one unit, as the function `fans` returns them."""
        ins, outs, batch = self.roles()
        fan_in = fan_out = 1
        for axis, size in enumerate(self.shape):
            if axis in batch:
                continue
            if axis not in outs:
                fan_in *= size
            if axis not in ins:
                fan_out *= size
        return Fans(fan_in, fan_out)

    def roles(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The positions of the input, output and batch axes, counted from the front."""
        if self.lacks_an_axis():
            has = "one" if self.shape else "none"
            raise MissingAxisError(
                f"fans need an input and an output axis; shape {quote(self.shape)} has {has}: {_GIVE_AXES}"
            )
        ins = _positions("in_axis", self.in_axis, self.shape)
        outs = _positions("out_axis", self.out_axis, self.shape)
        batch = self.batch()
        if len(self.shape) < 2 and ins and ins == outs:
            raise ValueError(f"in_axis and out_axis are the same axis of shape {quote(self.shape)}{_NEEDS_TWO_AXES}")
        for axis in batch:
            if axis in ins or axis in outs:
                other = "in_axis" if axis in ins else "out_axis"
                raise ValueError(
                    f"batch_axis must differ from {other}, got axis {axis} of shape {quote(self.shape)} in both"
                )
        return ins, outs, batch

    def batch(self) -> tuple[int, ...]:
        """The positions of the batch axes alone, in ascending order."""
        return tuple(sorted(_positions("batch_axis", self.batch_axis, self.shape)))

    def lacks_an_axis(self) -> bool:
        """Whether the shape lacks an axis of inputs or outputs, and the caller did not say which."""
        return len(self.shape) < 2 and (self.in_axis, self.out_axis) in ((-2, -1), (1, 0))

    def split(self, matrices: int | tuple[int, int]) -> tuple[Layout, int | None]:
        """The layout with an axis of its own for the matrices that follow each other, and which axis that is.

        Parameters
        ----------
        matrices : int or tuple of two int
            How many of equal size, along the first output axis; or that and the axis, an input or output axis. The new
            axis stands before that one, and is a batch axis. A vector, whose axis is neither, stays as it is.
        """
        count, given = matrices if isinstance(matrices, tuple) else (matrices, None)
        if self.lacks_an_axis():  # a bias: a scheme with fans will refuse it
            if not self.shape or self.shape[0] % count:
                raise ValueError(f"matrices must divide axis 0 of shape {quote(self.shape)}, got {quote(count)}")
            return self, None
        ins, outs, batch = self.roles()
        if given is None and not outs:
            raise ValueError(f"matrices must be (count, axis) where there is no output axis, got {quote(matrices)}")
        axis = outs[0] if given is None else _positions("matrices: axis", given, self.shape)[0]
        if axis not in ins and axis not in outs:
            raise ValueError(f"matrices must follow each other along an input or output axis, got axis {axis}")
        size, rest = divmod(self.shape[axis], count)
        if rest:
            default = ", the first of out_axis" if given is None else ""
            where = f"axis {axis} of shape {quote(self.shape)}{default}"
            raise ValueError(f"matrices must divide {where}, got {quote(count)}")

        def shift(axes: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(other + (other >= axis) for other in axes)

        shape = (*self.shape[:axis], count, size, *self.shape[axis + 1 :])
        return Layout(shape, shift(ins), shift(outs), (*shift(batch), axis), self.is_complex), axis

    def matrix(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The axes of the rows, of the columns and of the stack, where the tensor is a matrix of inputs and outputs.

        The output axes are one side and all others but the batch axes the other. Rows are the side that the first of
        these axes belongs to, so that the matrix is PyTorch's ``(out, in * kernel)`` and JAX's ``(kernel * in, out)``.
        """
        _, outs, batch = self.roles()
        rest = tuple(axis for axis in range(len(self.shape)) if axis not in outs and axis not in batch)
        if not outs or not rest:
            raise ValueError(
                f"shape must have an output axis and at least one other for a matrix, got {quote(self.shape)} "
                f"with out_axis={quote(self.out_axis)} and batch_axis={quote(self.batch_axis)}"
            )
        outs = tuple(sorted(outs))
        return (outs, rest, batch) if outs[0] < rest[0] else (rest, outs, batch)


_GIVE_AXES = "give in_axis= and out_axis= (() for none), or a scheme without fans, such as 'normal(std=0.02)'"
_NEEDS_TWO_AXES = f": its fans need an input and an output axis; {_GIVE_AXES}"


class MissingAxisError(ValueError):
    """A shape without the two axes that fans need. Whoever knows the scheme adds its name."""


def sizes_of(shape: Sequence[SupportsIndex]) -> tuple[int, ...]:
    """The sizes of a shape as plain ints, none of them negative."""
    members = as_members("shape", shape, "a sequence of integers")
    try:
        sizes = tuple(map(index, members))
    except TypeError:
        raise TypeError(f"shape must be a sequence of integers, got {quote(shape)}") from None
    if sizes and min(sizes) < 0:
        raise ValueError(f"shape must have sizes >= 0, got {quote(sizes)}")
    return sizes


def _positions(argument: str, axes: Axes, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Turn an axis or several into positions counted from the front."""
    rank = len(sizes)
    if type(axes) is int and -rank <= axes < rank:
        return (axes % rank,)
    given = as_axes(argument, axes)
    for axis in given:
        if not -rank <= axis < rank:
            reason = _NEEDS_TWO_AXES if rank < 2 else f", which has {rank} axes"
            raise ValueError(f"{argument} {quote(axis)} is out of range for shape {quote(sizes)}{reason}")
    positions = tuple(axis % rank for axis in given)
    if len(set(positions)) < len(positions):
        raise ValueError(f"{argument} must name each axis once, got {quote(given)} for shape {quote(sizes)}")
    return positions


def matrices_of(matrices: Matrices) -> int | tuple[int, int]:
    """The argument `matrices` of the public functions: a count, or a count and an axis, as plain ints."""
    needed = "an int >= 1 or a tuple of a count and an axis"
    given = as_members("matrices", matrices, needed) if isinstance(matrices, list | tuple) else [matrices]
    if not 1 <= len(given) <= 2:
        raise TypeError(f"matrices must be {needed}, got {quote(matrices)}")
    count, *axis = (as_int("matrices", number, needed) for number in given)
    if count < 1:
        raise ValueError(f"matrices must be {needed}, got {quote(matrices)}")
    return (count, axis[0]) if axis else count


def as_axes(argument: str, axes: Axes) -> tuple[int, ...]:
    """The axes given for `argument`, one or several, as plain ints."""
    if type(axes) is tuple and not axes:
        return ()
    if type(axes) is int:
        return (axes,)
    needed = "an integer or a sequence of integers"
    members = as_members(argument, axes, needed) if isinstance(axes, Sequence) else [axes]
    try:
        if any(isinstance(axis, BOOLS) for axis in members):
            raise TypeError
        return tuple(map(index, members))
    except TypeError:
        raise TypeError(f"{argument} must be {needed}, got {quote(axes)}") from None
