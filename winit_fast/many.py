"""Fill many arrays as one piece of work: `fill_many`."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Sequence
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, SupportsIndex, TypedDict

import numpy as np

from winit_fast._plan import Plan, address_of, bounds_of, is_unchanged, refuse_overlap
from winit_fast.elements import share_values_of
from winit_fast.fans import Axes, Matrices
from winit_fast.fill import (
    CHANGED,
    Name,
    Resolution,
    Seed,
    look_up,
    mapping_of,
    read_array,
    read_padding,
    read_region,
    read_seed,
    write_padding,
)
from winit_fast.messages import class_name, quote
from winit_fast.pages import LARGE, is_allowed
from winit_fast.parallel import SHARE_VALUES, default_threads, fill_plans, read_threads
from winit_fast.repeats import note_fill, warn_of_repeats
from winit_fast.schemes import Scheme
from winit_fast.streams import UNNAMED, stream_of
from winit_fast.target import Call, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FillArguments", "fill_alike", "fill_many"]


class _Needed(TypedDict):
    out: NDArray[Any]
    scheme: str | Scheme


class FillArguments(_Needed, total=False):
    """What `fill_many` takes for each array: the arguments of `fill` but `seed` and `threads`."""

    name: Name
    shape: Sequence[SupportsIndex] | None
    offset: Sequence[SupportsIndex] | None
    in_axis: Axes | None
    out_axis: Axes | None
    batch_axis: Axes
    matrices: Matrices
    padding_idx: SupportsIndex | None


_ARGUMENTS = ("out", "scheme", *FillArguments.__annotations__)
_TOGETHER = 1024  # arrays whose plans are held at once: 2 MB


def fill_many(
    fills: Sequence[FillArguments],
    *,
    seed: Seed = None,
    threads: SupportsIndex | None = None,
) -> None:
    """Fill many arrays under one seed, as one piece of work: all parameters of a model.

    Each array gets the values that `fill` gives it. A thousand small arrays cost less than as many calls, and threads
    share all arrays: none waits for the others at the end of each.

    Parameters
    ----------
    fills : list or tuple of dict
        The arguments of `fill` for each array, without `seed` and `threads`: ``out`` and ``scheme``, and ``name``,
        ``shape``, ``offset``, ``in_axis``, ``out_axis``, ``batch_axis``, ``matrices``, ``padding_idx`` where needed. If
        arrays share memory, the last of them is what stays.
    seed : int, optional
        In [0, 2^64). It may be left out if none of the schemes draws.
    threads : int, optional
        As in `fill`, for all together.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used. The message says of which array. Nothing has been written then, to any of them.

    See Also
    --------
    winit_fast.initializer.Initializer.arguments : makes such a dict.

    Examples
    --------
    >>> import numpy as np
    >>> import winit_fast
    >>> weight, bias = np.empty((256, 512), "float32"), np.empty(512, "float32")
    >>> winit_fast.fill_many(
    ...     [
    ...         {"out": weight, "scheme": "he_normal", "name": "layer.weight"},
    ...         {"out": bias, "scheme": "zeros", "name": "layer.bias"},
    ...     ],
    ...     seed=7,
    ... )
    >>> alone = winit_fast.fill(np.empty_like(weight), "he_normal", seed=7, name="layer.weight")
    >>> bool((weight == alone).all())
    True
    """
    if not isinstance(fills, list | tuple):
        raise TypeError(f"fills must be a list or a tuple of dicts, got {class_name(fills)}")
    # What runs while arguments are read may change the list; and what a subclass holds, whatever it says.
    given = tuple((list if isinstance(fills, list) else tuple).__iter__(fills))  # type: ignore[arg-type]
    parts = []
    for index, arguments in enumerate(given):
        try:
            parts.append(_read(**arguments))
        except (TypeError, ValueError) as error:
            _refuse(index, arguments, error)
    thread_count = read_threads(threads)
    # What is wrong with the environment is said before the first array is written.
    if any(part.memory.nbytes >= LARGE for part in parts):
        is_allowed()
    if thread_count is None:
        default_threads()
    drawing = next((part for part in parts if part.resolution.draws), None)
    key = read_seed(seed, drawing is not None, "" if drawing is None else drawing.scheme)
    unnamed: dict[Hashable, int] = {}
    if type(seed) is int or isinstance(seed, np.integer):  # as in `fill`: an adapter's seed may be meant to repeat
        unnamed = _warn_of_repeats(parts, key)
    in_order = _may_meet_in_a_file(parts)
    for index, part in enumerate(parts):
        if not is_unchanged(part.out, part.memory):
            raise ValueError(f"fills[{index}]: out {CHANGED}")
    parts = [part for part in parts if part.memory.size]
    for begin in range(0, len(parts), _TOGETHER):
        some = parts[begin : begin + _TOGETHER]
        _write(some, [key] * len(some), thread_count, in_order)
    for values, address in unnamed.items():
        note_fill(values, address)


def fill_alike(like: FillArguments, targets: Iterable[tuple[NDArray[Any], int]], threads: int | None) -> None:
    """Fill arrays that have elements, each under its own seed, and else as one of them, as one piece of work."""
    part, left = _read(**like), iter(targets)
    while some := tuple(islice(left, _TOGETHER)):
        parts = [part._replace(out=out, memory=out) for out, _ in some]
        _write(parts, [seed for _, seed in some], threads, in_order=False)


class _Part(NamedTuple):
    """One array, and what was read of its arguments."""

    out: NDArray[Any]
    memory: NDArray[Any]
    scheme: str | Scheme
    resolution: Resolution
    shape: tuple[int, ...]
    start: tuple[int, ...]
    stream: int
    padding: tuple[int, int] | None
    is_named: bool  # or draws nothing

    def target(self) -> Target:
        """What `fill` would write."""
        return Target(self.memory, self.shape, self.start)

    def values(self, key: int) -> Hashable:
        """Equal where the values drawn without a name are, as in `fill`."""
        return key, self.resolution.values, self.shape, self.start


def _read(
    out: NDArray[Any], scheme: str | Scheme, *, name: Name = UNNAMED, shape: Sequence[SupportsIndex] | None = None,
    offset: Sequence[SupportsIndex] | None = None, in_axis: Axes | None = None, out_axis: Axes | None = None,
    batch_axis: Axes = (), matrices: Matrices = 1, padding_idx: SupportsIndex | None = None,
) -> _Part:  # fmt: skip
    """Read the arguments of one array as `fill` does, and raise what it would."""
    memory = read_array(out)
    global_shape, start = read_region(memory.shape, shape, offset)
    resolution = look_up(scheme, global_shape, in_axis, out_axis, batch_axis, matrices, memory.dtype)
    stream = stream_of(name)
    padding = None if padding_idx is None else read_padding(padding_idx, resolution.layout)
    refuse_overlap(memory)
    is_named = name is not UNNAMED or not resolution.draws
    return _Part(out, memory, scheme, resolution, global_shape, start, stream, padding, is_named)


def _refuse(index: int, arguments: object, error: TypeError | ValueError) -> NoReturn:
    """Raise an error again that says which array it is about; a better one if the dict is what is wrong."""
    which = f"fills[{index}]"
    if not isinstance(arguments, dict):
        raise TypeError(f"{which} must be a dict of the arguments of fill, got {class_name(arguments)}") from None
    unknown = [key for key in arguments if key not in _ARGUMENTS]
    if unknown:
        hint = ", which fill_many takes once for all" if unknown[0] in ("seed", "threads") else ""
        raise TypeError(f"{which} must have keys of {', '.join(_ARGUMENTS)}, got {quote(unknown[0])}{hint}") from None
    for needed in ("out", "scheme"):
        if needed not in arguments:
            raise TypeError(f"{which} must have {needed}, got {quote(list(arguments))}") from None
    if isinstance(arguments.get("name"), str):
        which += f" ({quote(arguments['name'])})"
    raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{which}: {error}") from None


def _warn_of_repeats(parts: list[_Part], key: int) -> dict[Hashable, int]:
    """Warn as `fill` would of the second of two arrays without names that get the same values; where the first lie."""
    found: dict[Hashable, int] = {}
    for part in parts:
        if not part.is_named and part.memory.size:
            values, address = part.values(key), address_of(part.memory)
            warn_of_repeats(values, address, found.setdefault(values, address))
    return found


def _may_meet_in_a_file(parts: list[_Part]) -> bool:
    """Whether a file may be mapped twice, so that arrays share memory at two addresses."""
    found = (mapping_of(part.memory) for part in parts)
    names = {id(mapping[0]): mapping[1] for mapping in found if mapping is not None}
    if len(names) < 2:
        return False
    try:
        files = {(file.st_dev, file.st_ino) for file in map(os.stat, names.values())}
    except OSError:  # it has no name, or was removed
        return True
    return len(files) < len(names)


def _write(parts: Sequence[_Part], keys: Sequence[int], threads: int | None, in_order: bool) -> None:
    spans = sorted(bounds_of(part.memory) for part in parts)
    if not in_order and all(one[1] <= other[0] for one, other in pairwise(spans)):
        _write_together(parts, keys, threads)
    else:  # the order counts where memory is shared
        for part, key in zip(parts, keys, strict=True):
            _write_together([part], [key], threads)


def _write_together(parts: Sequence[_Part], keys: Sequence[int], threads: int | None) -> None:
    plans, share_values = [], SHARE_VALUES
    for part, key in zip(parts, keys, strict=True):
        conversion, memory = part.resolution.conversion, part.memory
        if conversion is not None:
            region = (None, None) if part.shape == memory.shape else (part.shape, part.start)
            plans.append(Plan(memory, *conversion, key, part.stream, *region))
            if memory.size > SHARE_VALUES:
                share_values = min(share_values, share_values_of(memory))
    if plans:
        fill_plans(tuple(plans), threads, share_values)
    for part, key in zip(parts, keys, strict=True):
        if part.resolution.conversion is None:
            part.resolution.write(part.target(), Call(key, part.stream, threads))
        if part.padding is not None:
            write_padding(part.target(), part.padding)
