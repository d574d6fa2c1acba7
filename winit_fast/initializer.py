"""All that decides a tensor's values but the seed, read once. The adapters are built on it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, SupportsIndex, TypedDict, TypeVar

import numpy as np

from winit_fast.distributions import Distribution, Elementwise
from winit_fast.fans import Axes, Layout, Matrices, as_axes, matrices_of
from winit_fast.fill import fill
from winit_fast.many import FillArguments
from winit_fast.memory import empty
from winit_fast.messages import as_int
from winit_fast.schemes import Scheme, read_scheme
from winit_fast.streams import UNNAMED, stream_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Initializer", "Keywords"]

Array = TypeVar("Array", bound="NDArray[Any]")
Own = TypeVar("Own", bound="Initializer")


class Keywords(TypedDict, total=False):
    """The arguments of an `Initializer` beside its scheme, for functions that pass them on."""

    name: str | SupportsIndex
    in_axis: Axes | None
    out_axis: Axes | None
    batch_axis: Axes
    matrices: Matrices
    padding_idx: SupportsIndex | None


@dataclass(frozen=True, init=False, repr=False)
class Initializer:
    """A scheme, the name of a tensor, and its axes and rows: all that decides its values but the seed.

    Equal ones give equal values. They can be hashed and pickled.

    Parameters
    ----------
    scheme : str or Scheme
    name, in_axis, out_axis, batch_axis, matrices, padding_idx
        As in `winit_fast.fill`.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used. What depends on a shape is checked by `check` and `fill`.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.initializer import Initializer
    >>> initializer = Initializer("he_normal", name="layer.weight", in_axis=[1], out_axis=0)
    >>> initializer
    Initializer('he_normal', name='layer.weight', in_axis=(1,), out_axis=(0,))
    >>> initializer.fill(np.empty((256, 512), "float32"), seed=7).shape
    (256, 512)
    >>> Initializer.from_config(initializer.get_config()) == initializer
    True
    """

    scheme: Scheme
    name: str | int = UNNAMED
    in_axis: tuple[int, ...] | None = None
    out_axis: tuple[int, ...] | None = None
    batch_axis: tuple[int, ...] = ()
    matrices: int | tuple[int, int] = 1
    padding_idx: int | None = None

    def __init__(
        self,
        scheme: str | Scheme,
        *,
        name: str | SupportsIndex = UNNAMED,
        in_axis: Axes | None = None,
        out_axis: Axes | None = None,
        batch_axis: Axes = (),
        matrices: Matrices = 1,
        padding_idx: SupportsIndex | None = None,
    ) -> None:
        vars(self).update(
            scheme=read_scheme(scheme),
            name=_read_name(name),
            in_axis=None if in_axis is None else as_axes("in_axis", in_axis),
            out_axis=None if out_axis is None else as_axes("out_axis", out_axis),
            batch_axis=as_axes("batch_axis", batch_axis),
            matrices=matrices_of(matrices),
            padding_idx=None if padding_idx is None else as_int("padding_idx", padding_idx, "an int or None"),
        )

    def __repr__(self) -> str:
        given = [repr(str(self.scheme))]
        given += [
            f"{field.name}={value!r}"
            for field in fields(self)[1:]
            if (value := getattr(self, field.name)) != field.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"

    def rename(self: Own, name: str | SupportsIndex) -> Own:
        """The same for a tensor of another name."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), name=_read_name(name))
        return other

    named = rename  # its older name

    def fill(
        self,
        out: Array,
        *,
        seed: SupportsIndex | None = None,
        shape: Sequence[SupportsIndex] | None = None,
        offset: Sequence[SupportsIndex] | None = None,
        threads: SupportsIndex | None = None,
    ) -> Array:
        """Fill an array, or its part of a larger tensor, as `winit_fast.fill` does."""
        return fill(
            out, self.scheme, seed=seed, name=self.name, shape=shape, offset=offset, in_axis=self.in_axis,
            out_axis=self.out_axis, batch_axis=self.batch_axis, matrices=self.matrices, padding_idx=self.padding_idx,
            threads=threads,
        )  # fmt: skip

    def arguments(
        self,
        out: NDArray[Any],
        *,
        shape: Sequence[SupportsIndex] | None = None,
        offset: Sequence[SupportsIndex] | None = None,
    ) -> FillArguments:
        """What `winit_fast.fill_many` takes, to fill an array or its part of a larger tensor."""
        return {
            "out": out, "scheme": self.scheme, "name": self.name, "shape": shape, "offset": offset,
            "in_axis": self.in_axis, "out_axis": self.out_axis, "batch_axis": self.batch_axis,
            "matrices": self.matrices, "padding_idx": self.padding_idx,
        }  # fmt: skip

    def check(
        self,
        shape: tuple[int, ...],
        dtype: Any = np.float64,
        *,
        seed: SupportsIndex | None = 0,
        threads: SupportsIndex | None = None,
    ) -> None:
        """Raise what `fill` would raise for a tensor of that shape and dtype, without its memory.

        Examples
        --------
        >>> from winit_fast.initializer import Initializer
        >>> Initializer("he_normal").check((10**9, 10**9), "float16")
        >>> Initializer("normal").check((10, 10), seed=-1)
        Traceback (most recent call last):
        ValueError: seed must be an int in [0, 2^64), got -1
        """
        nothing = (0,) * len(shape)
        # Under the stream's number: nothing is filled, so nothing is repeated.
        unnamed = self.rename(self.stream)
        unnamed.fill(empty(nothing, dtype), seed=seed, shape=shape, offset=nothing, threads=threads)

    @property
    def stream(self) -> int:
        """The stream of the name."""
        return stream_of(self.name)

    def distribution(self, shape: tuple[int, ...], *, is_complex: bool = False) -> Distribution:
        """What the scheme becomes for a tensor of that shape.

        Examples
        --------
        >>> from winit_fast.initializer import Initializer
        >>> Initializer("he_normal").distribution((50, 3)).std
        0.2
        """
        return self.scheme.fit(self.layout(shape, is_complex=is_complex))

    def layout(self, shape: tuple[int, ...], *, is_complex: bool = False) -> Layout:
        """What the axes of a tensor of that shape are; several matrices in it have an axis of their own."""
        axes = (-2 if self.in_axis is None else self.in_axis, -1 if self.out_axis is None else self.out_axis)
        layout = Layout(shape, *axes, self.batch_axis, is_complex)
        return layout if self.matrices == 1 else layout.split(self.matrices)[0]

    def identify(
        self, seed: object, shape: tuple[int, ...], offset: tuple[int, ...] | None = None, *, is_complex: bool = False
    ) -> Hashable:
        """What decides the values of a tensor without a name, as `note_fill` takes it; None if nothing can repeat.

        Examples
        --------
        >>> from winit_fast.initializer import Initializer
        >>> Initializer("he_normal").identify(7, (50, 3))
        (7, 'Normal(mean=0.0, std=0.2)', (50, 3), (0, 0))
        >>> Initializer("he_normal", name="layer.weight").identify(7, (50, 3)) is None
        True
        """
        if self.name is not UNNAMED or not isinstance(seed, int | np.integer):
            return None
        distribution = self.distribution(shape, is_complex=is_complex)
        return (int(seed), str(distribution), shape, offset or (0,) * len(shape)) if distribution.draws else None

    def is_elementwise(self, shape: tuple[int, ...]) -> bool:
        """Whether each element is drawn by itself, so that a part of the tensor costs no more than its share."""
        return isinstance(self.distribution(shape), Elementwise)

    def padding(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """The axis along which rows are counted (the first that does not stack) and the row of padding, or None.

        Call `check` first: it refuses a shape without such an axis or row.

        Examples
        --------
        >>> from winit_fast.initializer import Initializer
        >>> Initializer("normal", batch_axis=0, padding_idx=-1).padding((5, 100, 16))
        (1, 99)
        """
        if self.padding_idx is None:
            return None
        batch = Layout(shape, batch_axis=self.batch_axis).batch()
        axis = next(axis for axis in range(len(shape)) if axis not in batch)
        return axis, self.padding_idx % shape[axis]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this initializer again, in JSON's types."""
        config = {field.name: getattr(self, field.name) for field in fields(Initializer)}
        listed = {key: list(value) for key, value in config.items() if isinstance(value, tuple)}
        return {**config, "scheme": str(self.scheme), "name": self._plain_name(), **listed}

    @classmethod
    def from_config(cls: type[Own], config: Mapping[str, Any]) -> Own:
        """Make an initializer from what `get_config` returned."""
        return cls(**config)

    def _plain_name(self) -> str | int:
        return self.name if isinstance(self.name, str) else int(self.name)


def _read_name(name: str | SupportsIndex) -> str | int:
    if not isinstance(name, str) and name is not UNNAMED:
        name = as_int("name", name, "a str or an int in [0, 2^64)")
    stream_of(name)
    return name
