"""What is written: tensors with their schemes, and a recipe, which is all of them with their seed.

A recipe is all that decides the bytes. It stands as JSON in the metadata of the files and in the journal of an
unfinished one, so that a file can be resumed and verified without anything else.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from operator import le
from typing import Any, NamedTuple, SupportsIndex, TypeVar

import numpy as np

from winit_fast.config import STREAM_VERSION
from winit_fast.element_types import ELEMENT_TYPES
from winit_fast.fans import Axes, Matrices
from winit_fast.files.json_text import JsonText
from winit_fast.initializer import Initializer
from winit_fast.memory import dtype_of
from winit_fast.messages import as_sizes, quote
from winit_fast.schemes import Scheme

__all__ = ["Part", "Recipe", "TensorSpec"]

Own = TypeVar("Own", bound="TensorSpec")


@dataclass(frozen=True, init=False)
class TensorSpec:
    """A tensor of a file: its name there, shape, dtype and scheme.

    Parameters
    ----------
    name : str
        In the file, and that of the stream unless `stream` is given.
    shape : sequence of int
    dtype : data-type
        One that `winit_fast.fill` writes.
    scheme : str or Scheme
    stream : str or int, optional
        The name under which the values are drawn.
    in_axis, out_axis, batch_axis, matrices, padding_idx
        As in `winit_fast.fill`.

    Raises
    ------
    TypeError, ValueError
        If `winit_fast.fill` would refuse the tensor, or it has 2^63 bytes or more.

    Examples
    --------
    >>> from winit_fast.files import TensorSpec
    >>> spec = TensorSpec("user_id", (40_000_000, 128), "float16", "normal(std=0.01)", padding_idx=0)
    >>> spec.nbytes
    10240000000
    >>> TensorSpec.from_config(spec.get_config()) == spec
    True
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    initializer: Initializer

    def __init__(
        self,
        name: str,
        shape: Iterable[SupportsIndex],
        dtype: Any,
        scheme: str | Scheme,
        *,
        stream: str | SupportsIndex | None = None,
        in_axis: Axes | None = None,
        out_axis: Axes | None = None,
        batch_axis: Axes = (),
        matrices: Matrices = 1,
        padding_idx: SupportsIndex | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, got {quote(name)}")
        initializer = Initializer(
            scheme, name=name if stream is None else stream, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis,
            matrices=matrices, padding_idx=padding_idx,
        )  # fmt: skip
        kind, sizes = dtype_of(dtype), as_sizes("shape", shape)  # after the scheme: a dtype may be a model's, and right
        if kind.name not in ELEMENT_TYPES or not kind.isnative:
            raise TypeError(f"dtype of {quote(name)} must be one of {', '.join(ELEMENT_TYPES)}, got {quote(dtype)}")
        if max((*sizes, prod(sizes) * kind.itemsize)) >= 1 << 63:
            raise ValueError(f"shape of {quote(name)} must be of fewer than 2^63 bytes, got {quote(sizes)}")
        initializer.check(sizes, kind)
        vars(self).update(name=name, shape=sizes, dtype=kind, initializer=initializer)

    @property
    def nbytes(self) -> int:
        """The size of the whole tensor in bytes."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def whole(self) -> Part:
        """All of it."""
        return Part(self, (0,) * len(self.shape), self.shape)

    def rows(self, first: int, last: int) -> Part:
        """Those from `first` to before `last`, along the first axis.

        Raises
        ------
        ValueError
            If there are not so many.
        """
        if not self.shape or not 0 <= first <= last <= self.shape[0]:
            raise ValueError(f"rows {first}:{last} must be of {quote(self.name)} with shape {quote(self.shape)}")
        return Part(self, (first,) + (0,) * (len(self.shape) - 1), (last - first, *self.shape[1:]))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this spec again, in JSON's types; those that are left out have their defaults."""
        initializer = self.initializer.get_config()
        default = Initializer(self.initializer.scheme, name=self.name).get_config()
        config = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype.name}
        config["scheme"] = initializer.pop("scheme")
        stream = initializer.pop("name")
        if stream != self.name:
            config["stream"] = stream
        return {**config, **{key: value for key, value in initializer.items() if value != default[key]}}

    @classmethod
    def from_config(cls: type[Own], config: Mapping[str, Any]) -> Own:
        """Make a spec from what `get_config` returned."""
        return cls(**config)


class Part(NamedTuple):
    """A rectangle of a tensor: what one file holds of it."""

    spec: TensorSpec
    offset: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return prod(self.shape) * self.spec.dtype.itemsize

    @property
    def is_inside(self) -> bool:
        """Whether the tensor has all of it."""
        ends = [first + size for first, size in zip(self.offset, self.shape, strict=False)]
        whole = self.spec.shape
        return len(self.offset) == len(self.shape) == len(whole) and all(map(le, ends, whole))

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole tensor."""
        return self.shape == self.spec.shape


@dataclass(frozen=True)
class Recipe:
    """All that decides the bytes of a set of files: tensors and their seed.

    Parameters
    ----------
    tensors : tuple of TensorSpec
    seed : int or None
        None if no scheme draws.

    Raises
    ------
    TypeError, ValueError
        If two tensors have the same name, or the seed cannot be used.

    Examples
    --------
    >>> from winit_fast.files import Recipe, TensorSpec
    >>> recipe = Recipe((TensorSpec("a", (9,), "float16", "normal"),), 7)
    >>> print(recipe.to_json())
    {"stream_version": 1, "seed": 7, "tensors": [{"name": "a", "shape": [9], "dtype": "float16", "scheme": "normal"}]}
    >>> Recipe.from_json(recipe.to_json()) == recipe
    True
    """

    tensors: tuple[TensorSpec, ...]
    seed: int | None

    def __post_init__(self) -> None:
        if not isinstance(self.tensors, tuple) or not all(isinstance(spec, TensorSpec) for spec in self.tensors):
            raise TypeError(f"tensors must be a tuple of TensorSpec, got {quote(self.tensors)}")
        name, count = Counter(spec.name for spec in self.tensors).most_common(1)[0] if self.tensors else ("", 0)
        if count > 1:
            raise ValueError(f"tensors must have different names, got {quote(name)} twice")
        for spec in self.tensors:
            spec.initializer.check(spec.shape, spec.dtype, seed=self.seed)

    def to_json(self) -> str:
        """One line of JSON; the same recipe is the same line."""
        return self._json

    @cached_property
    def _json(self) -> str:  # stands in the header of every file
        tensors = [spec.get_config() for spec in self.tensors]
        return json.dumps({"stream_version": STREAM_VERSION, "seed": self.seed, "tensors": tensors})

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read what `to_json` wrote; it may be anybody's text.

        Raises
        ------
        ValueError
            If the text is not a recipe, or one of another version of the stream, or `winit_fast.fill` would refuse one
            of its tensors.
        """
        return _read_recipe(text)


def _read_recipe(text: str) -> Recipe:
    if not isinstance(text, str):
        raise ValueError(f"a recipe must be a str, got {quote(text)}")
    try:
        return _read_members(JsonText(text))
    except Exception as error:  # of a scheme's text too, which may be anything
        if isinstance(error, _StreamVersionError):
            raise ValueError(str(error)) from None
        raise ValueError(f"not a recipe of winit_fast: {error}") from None


class _StreamVersionError(Exception):
    pass


def _read_members(text: JsonText) -> Recipe:
    read: dict[str, Any] = {}
    for key in text.members():
        if key == "stream_version":
            read[key] = text.read_int()
            if read[key] != STREAM_VERSION:
                raise _StreamVersionError(
                    f"the recipe is of version {read[key]} of the stream; this winit_fast has version {STREAM_VERSION}"
                )
        elif key == "seed":
            read[key] = _read_int_or_null(text)
        elif key == "tensors":
            read[key] = tuple(_read_spec(text) for _ in text.items())
        else:
            text.refuse(f"{quote(key)} is unknown")
    text.end()
    for key in ("stream_version", "seed", "tensors"):
        if key not in read:
            text.refuse(f"{key} is missing")
    return Recipe(read["tensors"], read["seed"])


def _read_spec(text: JsonText) -> TensorSpec:
    config: dict[str, Any] = {}
    for key in text.members():
        if key not in _READERS:
            text.refuse(f"{quote(key)} is unknown")
        config[key] = _READERS[key](text)
    for key in ("name", "shape", "dtype", "scheme"):
        if key not in config:
            text.refuse(f"{key} of a tensor is missing")
    return TensorSpec.from_config(config)


def _read_int_or_null(text: JsonText) -> int | None:
    if text.peek() != "n":
        return text.read_int()
    text.read_null()
    return None


def _read_axes(text: JsonText) -> int | tuple[int, ...] | None:
    return text.read_ints() if text.peek() == "[" else _read_int_or_null(text)


def _read_name(text: JsonText) -> str | int:
    return text.read_str() if text.peek() == '"' else text.read_int()


_READERS: dict[str, Callable[[JsonText], Any]] = {
    **dict.fromkeys(("name", "dtype", "scheme"), JsonText.read_str),
    **dict.fromkeys(("in_axis", "out_axis", "batch_axis", "matrices"), _read_axes),
    "shape": JsonText.read_ints,
    "stream": _read_name,
    "padding_idx": _read_int_or_null,
}
