"""Fill memory that the caller owns: `fill`, `fill_rows`, `fill_keys` and `random_bits`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache, partial
from itertools import islice, pairwise
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, TypeAlias, TypeVar
from weakref import ref

import numpy as np
from numpy.lib.stride_tricks import as_strided

from winit_fast._plan import (
    TRANSFORMS,
    Plan,
    address_of,
    are_within,
    bases_of,
    is_lent,
    is_there,
    is_unchanged,
    refuse_overlap,
    view_of,
    writable_view_of,
)
from winit_fast.arguments import MOST_AXES
from winit_fast.distributions import Constant, Distribution, Elementwise, GivenValues
from winit_fast.element_types import ELEMENT_TYPES, Conversion, ElementType
from winit_fast.elements import Writer, fill_elements
from winit_fast.fans import Axes, Layout, Matrices, as_axes, matrices_of
from winit_fast.floating_point import default_floating_point
from winit_fast.messages import NO_SEQUENCES, as_int, as_members, as_sizes, class_name, library_of, quote, shorten
from winit_fast.pages import LARGE
from winit_fast.pages import prepare as ask_for_pages
from winit_fast.parallel import fill_plan, read_threads
from winit_fast.pieces import write_zero_rows, write_zeros
from winit_fast.registry import LONGEST_KEPT
from winit_fast.repeats import note_fill, warn_of_repeats
from winit_fast.schemes import Scheme, read_scheme
from winit_fast.streams import UNNAMED, seed_key, stream_of
from winit_fast.target import Call, Target

if TYPE_CHECKING:
    from mmap import mmap

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CHANGED",
    "Name",
    "Resolution",
    "Seed",
    "fill",
    "fill_keys",
    "fill_rows",
    "look_up",
    "mapping_of",
    "random_bits",
    "read_array",
    "read_padding",
    "read_region",
    "read_rows",
    "read_seed",
    "write_padding",
]

Array = TypeVar("Array", bound="NDArray[Any]")
Seed: TypeAlias = SupportsIndex | None
Name: TypeAlias = str | SupportsIndex

_ndarray = np.ndarray  # looked up for every fill
_WORDS = TRANSFORMS.index("words32")
_ROWS_AT_ONCE = 1 << 16
CHANGED = "must stay as it is until out is filled, but code that ran while arguments were read changed it"


def fill(
    out: Array,
    scheme: str | Scheme,
    *,
    seed: Seed = None,
    name: Name = UNNAMED,
    shape: Sequence[SupportsIndex] | None = None,
    offset: Sequence[SupportsIndex] | None = None,
    in_axis: Axes | None = None,
    out_axis: Axes | None = None,
    batch_axis: Axes = (),
    matrices: Matrices = 1,
    padding_idx: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
) -> Array:
    """Fill an array, or its part of a larger tensor, with the starting weights that a scheme names.

    Parameters
    ----------
    out : ndarray
        Written in place, in its logical order: any shape and strides without overlap (views, transposed, negative
        steps), memory-mapped or not, but not masked. float16, float32, float64, or ml_dtypes' bfloat16, float8_e4m3fn,
        float8_e5m2. Real constants, normals of mean 0 and schemes with fans fill complex64 and complex128 too.
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `schemes`.
    seed : int, optional
        In [0, 2^64). It may be left out if the scheme draws nothing.
    name : str or int, default 0
        The tensor's own stream under that seed. Two tensors with the same seed and name get the same values, so give
        each parameter a name.
    shape, offset : sequence of int, optional
        The shape of the global tensor, and the index in it where `out` begins. By default `out` is the whole tensor. If
        `out` is smaller than `shape`, both are needed. Fans are the global tensor's.
    in_axis, out_axis, batch_axis : int or sequence of int, optional
        Which axes of the global tensor are the inputs and outputs of a unit, and which only stack. By default the
        layout is ``(*kernel, in, out)``: -2, -1 and none.
    matrices : int or tuple of two int, default 1
        How many equal matrices follow each other along `out_axis`, each with its own fans: 4 for the gates of an
        LSTM, 3 for packed queries, keys and values, the groups of a convolution. ``(count, axis)`` names another axis.
        The values are those of the tensor reshaped so that the matrices are an axis of their own, one of `batch_axis`.
    padding_idx : int, optional
        A row of the global tensor that is 0 under every scheme: the embedding of padding. Rows are counted along the
        first axis that is not in `batch_axis`, from the end if negative; each table of a stack has it.
    threads : int, optional
        How many threads. By default as many as the CPUs this process may use, and one for little work. The values do
        not depend on it.

    Returns
    -------
    ndarray
        `out`.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used. Nothing has been written then.

    Examples
    --------
    >>> import numpy as np
    >>> import winit_fast
    >>> scheme = "normal(std=0.01)"
    >>> table = winit_fast.fill(np.empty((1000, 64), "float32"), scheme, seed=7, name="user_id")
    >>> lower_half = np.empty((500, 64), "float32")
    >>> _ = winit_fast.fill(lower_half, scheme, seed=7, name="user_id", shape=(1000, 64), offset=(500, 0))
    >>> bool((lower_half == table[500:]).all())
    True
    """
    memory = read_array(out)
    global_shape, start = read_region(memory.shape, shape, offset)
    resolution = look_up(scheme, global_shape, in_axis, out_axis, batch_axis, matrices, memory.dtype)
    stream = stream_of(name)
    padding = None if padding_idx is None else read_padding(padding_idx, resolution.layout)
    thread_count = read_threads(threads)
    key = read_seed(seed, resolution.draws, scheme)  # last: an adapter's seed may be drawn when it is asked for
    if memory.size:
        values = None
        if name is UNNAMED and resolution.draws and (type(seed) is int or isinstance(seed, np.integer)):
            values, address = (key, resolution.values, global_shape, start), address_of(memory)
            warn_of_repeats(values, address)
        if not is_unchanged(out, memory):
            raise ValueError(f"out {CHANGED}")
        target = Target(memory, global_shape, start)
        resolution.write(target, Call(key, stream, thread_count))
        if padding is not None:
            write_padding(target, padding)
        if values is not None:  # last: a warning may be an error, or run code of the caller's
            note_fill(values, address)
    return out


def fill_rows(
    out: Array,
    rows: ArrayLike,
    scheme: str | Scheme,
    *,
    seed: Seed = None,
    name: Name = UNNAMED,
    shape: Sequence[SupportsIndex],
    in_axis: Axes | None = None,
    out_axis: Axes | None = None,
    batch_axis: Axes = (),
    matrices: Matrices = 1,
    padding_idx: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
) -> Array:
    """Fill ``out[k]`` with row ``rows[k]`` of the global tensor: the rows of an embedding that grows or evicts.

    Parameters
    ----------
    out : ndarray
        Shape ``(len(rows), *shape[1:])``; otherwise as in `fill`.
    rows : array_like of int
        One axis, each in [0, shape[0]), in any order, repeated or not. An int64 array is read in place, but
        copied if it shares memory, or may share a mapped file, with `out`.
    scheme, seed, name, in_axis, out_axis, batch_axis, matrices, padding_idx, threads
        As in `fill`. For an orthogonal matrix that is taller than wide, every call computes again what all rows share.
    shape : sequence of int
        The shape of the global tensor.

    Returns
    -------
    ndarray
        `out`.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used. Nothing has been written then.

    Examples
    --------
    >>> import numpy as np
    >>> import winit_fast
    >>> table = winit_fast.fill(np.empty((1000, 64), "float32"), "normal(std=0.01)", seed=7, name="user_id")
    >>> rows = winit_fast.fill_rows(
    ...     np.empty((2, 64), "float32"), [998, 3], "normal(std=0.01)", seed=7, name="user_id", shape=(1000, 64))
    >>> bool((rows == table[[998, 3]]).all())
    True
    """
    memory = read_array(out, is_whole=False)
    global_shape = _read_shape(shape, "; fill_keys takes any 64-bit number for a row")
    row_list = _keep_apart(read_rows(rows, memory.shape, global_shape), memory)
    resolution = look_up(scheme, global_shape, in_axis, out_axis, batch_axis, matrices, memory.dtype)
    if resolution.split_axis == 0:
        raise ValueError(
            f"matrices must not follow each other along the axis of the rows where {quote(str(scheme))} has rows that "
            f"depend on each other, got {quote(matrices)}: fill the matrices, or parts of them"
        )
    stream = stream_of(name)
    padding = None if padding_idx is None else read_padding(padding_idx, resolution.layout)
    thread_count = read_threads(threads)
    key = read_seed(seed, resolution.draws, scheme)
    if memory.size:
        if not is_unchanged(out, memory):
            raise ValueError(f"out {CHANGED}")
        if not is_there(row_list) or not are_within(row_list, global_shape[0]):
            raise ValueError(f"the array of rows {CHANGED}")
        target = Target(memory, global_shape, (0,) * memory.ndim, row_list)
        resolution.write(target, Call(key, stream, thread_count))
        if padding is not None and padding[0] == 0:
            write_zero_rows(memory, row_list, padding[1])
        elif padding is not None:
            write_zeros(np.moveaxis(memory, padding[0], 0)[padding[1], ...])
    return out


def fill_keys(
    out: Array,
    keys: ArrayLike,
    scheme: str | Scheme,
    *,
    seed: Seed = None,
    name: Name = UNNAMED,
    shape: Sequence[SupportsIndex] | None = None,
    in_axis: Axes | None = None,
    out_axis: Axes | None = None,
    padding_key: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
) -> Array:
    """Fill ``out[k]`` with the row of ``keys[k]``, any 64-bit number: a table of hashed ids, which has no last row.

    A row depends on `seed`, `name` and its key alone, on every machine: it is made when its key is first met, and made
    again after it was evicted. It is a tensor of its own, named by its key, under a seed that the table draws once:
    ``random_bits(words, seed=seed, name=name, offset=2**66 - 2)`` of two words gives it, the low half first.

    Parameters
    ----------
    out : ndarray
        Shape ``(len(keys), ...)``, with fewer than 2^31 elements a row; otherwise as in `fill`.
    keys : array_like of int
        One axis, each in [-2^63, 2^64), in any order, repeated or not. A negative key is the same as that key plus
        2^64, as in a cast from int64 to uint64. Contiguous arrays of int64 and uint64 are read in place, others are
        copied.
    scheme : str or Scheme
        One that draws each element by itself: not orthogonal, sparse or a table of given values.
    seed, name, threads
        As in `fill`. Give every table its name.
    shape : sequence of int, optional
        The shape of the table, with the number of rows that you expect. Schemes that scale with it (he_normal,
        embedding_normal) need it, and it decides nothing but that scale.
    in_axis, out_axis : int or sequence of int, optional
        As in `fill`, of `shape`.
    padding_key : int, optional
        The key whose row is 0 under every scheme.

    Returns
    -------
    ndarray
        `out`.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used. Nothing has been written then.

    See Also
    --------
    fill_rows : rows of a table that has a shape, with the values that `fill` gives them.

    Examples
    --------
    >>> import numpy as np
    >>> import winit_fast
    >>> keys = np.array([2**63 + 5, 17, -1 % 2**64], "uint64")
    >>> rows = winit_fast.fill_keys(np.empty((3, 64), "float32"), keys, "normal(std=0.01)", seed=7, name="user_id")
    >>> again = winit_fast.fill_keys(np.empty((1, 64), "float32"), [-1], "normal(std=0.01)", seed=7, name="user_id")
    >>> bool((again == rows[2]).all())
    True

    The same row from its definition:

    >>> low, high = winit_fast.random_bits(np.empty(2, "uint32"), seed=7, name="user_id", offset=2**66 - 2).tolist()
    >>> row = winit_fast.fill(np.empty(64, "float32"), "normal(std=0.01)", seed=low + (high << 32), name=17)
    >>> bool((row == rows[1]).all())
    True
    """
    memory = read_array(out, is_whole=False)
    streams = _read_keys(keys, memory)
    whole = _read_table_shape(shape, memory.shape, scheme)
    resolution = look_up(scheme, whole, in_axis, out_axis, (), 1, memory.dtype)
    if not resolution.is_elementwise:
        raise ValueError(f"scheme must draw each element by itself where there are keys, got {quote(str(scheme))}")
    stream = stream_of(name)
    padding = None if padding_key is None else _word_of_key("padding_key", padding_key)
    thread_count = read_threads(threads)
    key = read_seed(seed, resolution.draws, scheme)
    if memory.size:
        if not is_unchanged(out, memory):
            raise ValueError(f"out {CHANGED}")
        if not is_there(streams):
            raise ValueError(f"the array of keys {CHANGED}")
        target = Target(memory, memory.shape, (0,) * memory.ndim, streams, True)
        resolution.write(target, Call(_seed_of_table(key, stream), 0, thread_count))
        if padding is not None:
            write_zero_rows(memory, streams, padding if padding < 1 << 63 else padding - (1 << 64))
    return out


def random_bits(
    out: Array,
    *,
    seed: SupportsIndex,
    name: Name = UNNAMED,
    offset: SupportsIndex = 0,
    threads: SupportsIndex | None = None,
) -> Array:
    """Fill an array with the raw words of Philox4x32-10, to check the values built on them.

    Parameters
    ----------
    out : ndarray of uint32
        Written in place, in its logical order; any strides without overlap.
    seed : int
        In [0, 2^64): the key, its low half first.
    name : str or int, default 0
        The stream: the high half of the counter.
    offset : int, default 0
        The first word to take, in [0, 2^66 - out.size].
    threads : int, optional
        As in `fill`.

    Returns
    -------
    ndarray
        `out`.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used. Nothing has been written then.

    Examples
    --------
    The first known answer of Random123:

    >>> import numpy as np
    >>> import winit_fast
    >>> [hex(word) for word in winit_fast.random_bits(np.empty(4, "uint32"), seed=0)]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    memory = _read_memory(out)
    if memory.dtype != np.uint32 or not memory.dtype.isnative:
        raise TypeError(f"out must be of dtype uint32 in native byte order, got {quote(memory.dtype)}")
    start = as_int("offset", offset)
    if not 0 <= start <= (1 << 66) - memory.size:
        raise ValueError(f"offset must be in [0, 2^66 - {memory.size}] for {memory.size} words, got {quote(start)}")
    key = seed_key(seed)
    stream = stream_of(name)
    thread_count = read_threads(threads)
    if memory.size:
        if not is_unchanged(out, memory):
            raise ValueError(f"out {CHANGED}")
        fill_plan(Plan(memory, _WORDS, 0, (), key, stream, None, None, start), thread_count)
    return out


def _read_memory(out: NDArray[Any], is_whole: bool = True) -> NDArray[Any]:
    """A view of `out` of our own: a subclass may misreport its memory, and code that arguments run may change it."""
    if type(out) is not _ndarray:
        _refuse_class(out, is_whole)
    memory = writable_view_of(out)
    if memory is not None:
        return memory
    memory = view_of(out)
    axes = zip(memory.shape, memory.strides, strict=True)
    is_repeated = memory.size > 0 and any(size > 1 and step == 0 for size, step in axes)
    hint = "; fill what it was broadcast from, then broadcast that" if is_repeated else ""
    raise ValueError(f"out must be writable, got a read-only array{hint}")


def _refuse_class(out: object, is_whole: bool) -> None:
    if not issubclass(type(out), np.ndarray):
        library = library_of(out)
        verb = "init makes" if library == "jax" else "init_ fills"
        hint = f"; winit_fast.adapters.{library}.{verb} what {library} has" if library else ""
        if not is_whole:  # no adapter takes rows
            hint = "; pass a view of its memory, such as out.numpy()" if library == "torch" else ""
        raise TypeError(f"out must be a NumPy array, got {class_name(out)}{hint}")
    if _is_masked(out):
        raise TypeError("out must not be a masked array, whose mask would hide what is written: fill its .data")


def _is_masked(value: object) -> bool:
    return "numpy.ma" in sys.modules and isinstance(value, np.ma.MaskedArray)  # not imported to ask for it


def read_array(out: NDArray[Any], is_whole: bool = True) -> NDArray[Any]:
    """The memory of `out`, which has a type that can be filled."""
    memory = _read_memory(out, is_whole)
    dtype = memory.dtype
    (_element_type_of if dtype.metadata is None and dtype.fields is None else _element_type_of.__wrapped__)(dtype)
    return memory


@lru_cache(maxsize=256)
def _element_type_of(dtype: np.dtype[Any]) -> ElementType:
    # By name: bfloat16 and the 8-bit types are ml_dtypes', which need not be installed.
    found = ELEMENT_TYPES.get(dtype.name)
    if issubclass(dtype.type, np.void):  # a class named float has items named float64
        found = None
    is_nameless = dtype.type is np.void and dtype.names is None and dtype.subdtype is None
    if found is None and is_nameless and dtype.itemsize in (1, 2):
        raise TypeError(
            f"out must be of a dtype with a name, got {dtype!r}: files and other libraries drop those of bfloat16 and "
            "8-bit floats; import ml_dtypes, then view it, as in out.view('bfloat16')"
        )
    if found is None:
        raise TypeError(f"out must be of dtype {', '.join(ELEMENT_TYPES)}, got {shorten(dtype.name)}")
    if not dtype.isnative:
        raise TypeError(f"out must be in native byte order, got {quote(dtype)}")
    return found


def _read_shape(shape: object, hint: str = "") -> tuple[int, ...]:
    sizes = as_sizes("shape", shape)
    if prod(sizes) >= 1 << 63 or max(sizes, default=0) >= 1 << 63:
        raise ValueError(f"shape must have fewer than 2^63 elements, got {quote(sizes)}{hint}")
    return sizes


def read_region(
    extent: tuple[int, ...],
    shape: Sequence[SupportsIndex] | None,
    offset: Sequence[SupportsIndex] | None,
    argument: str = "out",
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape of the global tensor, and the index in it where the part begins that `argument` names."""
    if shape is None:
        if offset is not None:
            raise ValueError(f"shape must be given with offset, got offset={quote(offset)} alone")
        return extent, (0,) * len(extent)
    whole = _read_shape(shape)
    start = (0,) * len(whole) if offset is None else as_sizes("offset", offset)
    if not len(extent) == len(whole) == len(start):
        raise ValueError(
            f"{argument}, shape and offset must have as many axes as each other, "
            f"got {len(extent)}, {len(whole)} and {len(start)}"
        )
    if any(first + size > most for first, size, most in zip(start, extent, whole, strict=True)):
        raise ValueError(
            f"{argument} must lie within shape, got {quote(extent)} from offset {quote(start)} on in {quote(whole)}"
        )
    if offset is None and extent != whole:
        raise ValueError(
            f"offset must be given where {argument} is smaller than shape: it says which part this is; "
            f"got {quote(extent)} of {quote(whole)} and no offset"
        )
    return whole, start


def read_rows(rows: ArrayLike, extent: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """A list of rows of the global tensor, for memory of that extent."""
    row_list, _ = _as_array("rows", rows, extent)
    if row_list.size == 0 and not isinstance(rows, np.ndarray):
        row_list = row_list.astype(np.int64)
    if row_list.ndim != 1 or row_list.dtype.kind not in "iu":
        raise TypeError(f"rows must be integers along one axis, got shape {row_list.shape} of {row_list.dtype}")
    if not shape:
        raise ValueError("shape must have at least one axis, whose rows to take, got ()")
    needed = (row_list.size, *shape[1:])
    if extent != needed:
        raise ValueError(f"out must have the shape (len(rows), *shape[1:]) = {quote(needed)}, got {quote(extent)}")
    words = np.require(row_list, np.int64, ["C", "A"])  # from 2^63 on they become negative, so outside as well
    if not are_within(words, shape[0]):
        worst = _find_farthest(row_list)
        raise ValueError(f"rows must be in [0, {shape[0]}), got {worst}; fill_keys takes any 64-bit number for a row")
    return words


def _as_array(argument: str, values: ArrayLike, extent: tuple[int, ...]) -> tuple[NDArray[Any], Any]:
    """`rows` or `keys` as an array, in a view of our own, and what that was made of.

    NumPy would read a sequence to its end, and one of a caller's class may have none. So no more members are read than
    `out` has rows, and one more.
    """
    refusal = f"{argument} must be integers along one axis, got "
    given: Any = values
    if _is_masked(given):
        raise TypeError(f"{refusal}a masked array, whose mask would be ignored: give its .compressed()")
    if type(given) not in (list, tuple) and not isinstance(given, NO_SEQUENCES) and not _is_memory(given):
        try:
            is_empty = len(given) == 0
        except (TypeError, OverflowError, ValueError):  # no length, or one beyond Python's (a range), or below 0
            raise TypeError(f"{refusal}{quote(values)}") from None
        try:
            given = [] if is_empty else list(islice(given, max(_ROWS_AT_ONCE, *extent[:1]) + 1))
        except TypeError:  # it cannot be iterated
            raise TypeError(f"{refusal}{quote(values)}") from None
    kinds = set(map(type, given)) if type(given) in (list, tuple) else set()
    if kinds == {int}:
        with suppress(OverflowError, ValueError):  # beyond int64, or made shorter meanwhile
            return np.fromiter(given, np.int64, len(given)), given
    long = {kind for kind in kinds if hasattr(kind, "__len__")}
    if long and any(type(member) in long and getattr(member, "ndim", 1) for member in given):
        raise TypeError(f"{refusal}{quote(values)}")
    try:
        array = view_of(np.asarray(given))
    except ValueError:  # ragged
        raise TypeError(f"{refusal}{quote(values)}") from None
    if array.ndim == 0:  # a number, a text, a set
        raise TypeError(f"{refusal}{quote(values)}")
    return array, given


def _is_memory(value: object) -> bool:
    """Whether NumPy reads an object's memory rather than its members."""
    if any(hasattr(value, name) for name in ("__array__", "__array_interface__", "__array_struct__")):
        return True
    try:
        return bool(memoryview(value).nbytes >= 0)  # type: ignore[arg-type]
    except TypeError:
        return False


def _keep_apart(row_list: NDArray[np.int64], out: NDArray[Any]) -> NDArray[np.int64]:
    """The list, or a copy if writing to `out` could change it: through its memory, or through a file mapped twice."""
    if np.may_share_memory(row_list, out):
        return row_list.copy()
    if (one := mapping_of(row_list)) is None or (other := mapping_of(out)) is None:
        return row_list
    try:
        return row_list if one[1] and other[1] and not os.path.samefile(one[1], other[1]) else row_list.copy()
    except OSError:  # it was removed
        return row_list.copy()


def mapping_of(array: NDArray[Any]) -> tuple[mmap, str] | None:
    """The mapping that an array lies in, and the name of its file, empty if unknown; None if it lies in none."""
    if not is_lent(array):
        return None
    try:
        from mmap import mmap
    except ImportError:  # a system without
        return None
    bases = bases_of(array)
    last = bases[-1]
    while isinstance(last, memoryview):
        last = last.obj
    if not isinstance(last, mmap):
        return None
    names = (getattr(base, "filename", None) for base in bases if isinstance(base, np.memmap))
    return last, next((os.fspath(name) for name in names if name), "")


def _read_keys(keys: ArrayLike, out: NDArray[Any]) -> NDArray[np.int64]:
    """The streams of some keys, as the int64 of the same 64 bits."""
    found, given = _as_array("keys", keys, out.shape)
    if isinstance(given, list | tuple) and found.ndim == 1 and found.dtype.kind not in "iu":
        # NumPy turns negative keys beside keys from 2^63 on into floats.
        found = np.array([_word_of_key(f"keys[{index}]", key) for index, key in enumerate(given)], np.uint64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise TypeError(f"keys must be integers along one axis, got shape {found.shape} of {found.dtype}")
    if out.ndim == 0 or len(out) != len(found):
        raise ValueError(f"out must have the shape (len(keys), ...), got {quote(out.shape)} for {len(found)} keys")
    if prod(out.shape[1:]) >= 1 << 31:
        raise ValueError(f"out must have rows of fewer than 2^31 elements, got {quote(out.shape)}")
    words = np.require(found, np.uint64 if found.dtype.kind == "u" else np.int64, ["C", "A"]).view(np.int64)
    return _keep_apart(words, out)


def _word_of_key(argument: str, key: object) -> int:
    needed = "an int in [-2^63, 2^64)"
    number = as_int(argument, key, needed)
    if not -(1 << 63) <= number < 1 << 64:
        raise ValueError(f"{argument} must be {needed}, got {quote(key)}")
    return number % (1 << 64)


def _read_table_shape(
    shape: Sequence[SupportsIndex] | None, extent: tuple[int, ...], scheme: str | Scheme
) -> tuple[int, ...]:
    """The shape of a table of keys, which decides its scale."""
    if shape is None:
        if read_scheme(scheme).depends_on_shape:
            raise ValueError(
                f"shape must be given where there are keys: {quote(str(scheme))} depends on it; its first size is how "
                "many rows you count on"
            )
        return (1, *extent[1:])
    whole = _read_shape(shape)
    if len(whole) != len(extent) or whole[1:] != extent[1:]:
        raise ValueError(f"shape must be (rows, *out.shape[1:]), got {quote(whole)} for out of shape {quote(extent)}")
    return whole


@lru_cache(maxsize=1024)
def _seed_of_table(key: int, stream: int) -> int:
    """The seed of the rows of a table of keys: the last two words of its stream."""
    words = np.empty(2, np.uint32)
    fill_plan(Plan(words, _WORDS, 0, (), key, stream, None, None, (1 << 66) - 2), 1)
    return int(words[0]) | int(words[1]) << 32


def _find_farthest(row_list: NDArray[Any]) -> int:
    lowest, highest = int(row_list.min()), int(row_list.max())
    return lowest if lowest < 0 else highest


def read_seed(seed: object, draws: bool, scheme: str | Scheme) -> int:
    """The key of Philox; 0 for a seed left out where the scheme does not draw."""
    if seed is None and not draws:
        return 0
    if seed is None:
        raise TypeError(f"seed must be given: {quote(str(scheme))} draws random values")
    return seed_key(seed)


def _read_axes(argument: str, axes: Axes | None, default: int | tuple[int, ...]) -> int | tuple[int, ...]:
    """Axes as plain ints: the cache of `_resolve` could not tell (1,), (1.0,) and (True,) apart."""
    if axes is None:
        return default
    if type(axes) is int or (type(axes) is tuple and not axes):
        return axes
    if type(axes) is tuple and len(axes) == 1 and type(axes[0]) is int:  # one axis, as an `Initializer` keeps it
        return axes[0]
    if isinstance(axes, np.ndarray):
        axes = axes.item() if axes.ndim == 0 else as_members(argument, axes, "an integer or a sequence of integers")
    return as_axes(argument, axes)


def read_padding(padding_idx: SupportsIndex, layout: Layout) -> tuple[int, int]:
    """The axis along which rows are counted, the first that does not stack, and the row of padding."""
    index, shape = as_int("padding_idx", padding_idx, "an int or None"), layout.shape
    batch = layout.batch()
    axis = next((axis for axis in range(len(shape)) if axis not in batch), None)
    if axis is None:
        raise ValueError(
            f"shape must have an axis of rows where there is a padding_idx, got {quote(shape)} with "
            f"batch_axis={quote(batch)} and padding_idx {quote(index)}"
        )
    if not -shape[axis] <= index < shape[axis]:
        raise ValueError(f"padding_idx must be in [-{shape[axis]}, {shape[axis]}), got {quote(index)}")
    return axis, index % shape[axis]


def write_padding(target: Target, padding: tuple[int, int]) -> None:
    """Write 0 to the row of padding, if the target has it."""
    axis, row = padding
    index = row - target.start[axis]
    if 0 <= index < target.out.shape[axis]:
        write_zeros(np.moveaxis(target.out, axis, 0)[index, ...])


class Resolution(NamedTuple):
    """What is known of a fill before its target: all that follows from the scheme, the shape, the axes and the type.

    `values` is equal for equal draws. `split_axis` is the axis along which several matrices follow each other whose
    elements depend on each other; else None. `conversion` is there where `write` is `fill_elements` of it.
    """

    write: Writer
    layout: Layout
    draws: bool
    is_elementwise: bool
    values: str
    split_axis: int | None = None
    conversion: Conversion | None = None


def look_up(
    scheme: str | Scheme, shape: tuple[int, ...], in_axis: Axes | None, out_axis: Axes | None, batch_axis: Axes,
    matrices: Matrices, dtype: np.dtype[Any],
) -> Resolution:  # fmt: skip
    """What is known of a fill before its target, kept from call to call."""
    if dtype.metadata is not None or dtype.fields is not None:  # what its owner attached is not ours to keep
        dtype = np.dtype(dtype.type)
    if not isinstance(scheme, str | Scheme):
        hint = " (give its .scheme)" if isinstance(getattr(scheme, "scheme", None), Scheme) else ""
        raise TypeError(f"scheme must be a str or a Scheme, got {quote(scheme)}{hint}")
    if type(scheme) is not str and isinstance(scheme, str):
        scheme = str.__str__(scheme)  # what a subclass holds, whatever it says
    if (in_axis is None) != (out_axis is None):
        _refuse_shared_axis(shape, in_axis, out_axis)
    axes = (
        _read_axes("in_axis", in_axis, -2),
        _read_axes("out_axis", out_axis, -1),
        _read_axes("batch_axis", batch_axis, ()),
    )
    split = matrices if type(matrices) is int and matrices == 1 else matrices_of(matrices)
    length = len(scheme if isinstance(scheme, str) else str(scheme))
    if length <= LONGEST_KEPT:
        return _resolve(scheme, shape, *axes, split, dtype)
    if isinstance(scheme, str):
        return _resolve.__wrapped__(scheme, shape, *axes, split, dtype)
    resolve = _resolve_array if length <= _LONG else _resolve_large_array
    return resolve(ref(scheme), shape, *axes, split, dtype)


def _refuse_shared_axis(shape: tuple[int, ...], in_axis: Axes | None, out_axis: Axes | None) -> None:
    """Refuse one axis for both by default: it may be meant where both are given, but not where one is left out."""
    given, name, other = (out_axis, "out_axis", "in_axis") if in_axis is None else (in_axis, "in_axis", "out_axis")
    default = len(shape) - (2 if in_axis is None else 1)
    axes = _read_axes(name, given, ())
    for axis in (axes,) if isinstance(axes, int) else axes:
        if axis in (default, default - len(shape)):
            raise ValueError(f"{other} must be given with {name}={axis}, which is the axis that {other} is by default")


@lru_cache(maxsize=4096, typed=True)
@default_floating_point
def _resolve(
    scheme: str | Scheme,
    shape: tuple[int, ...],
    in_axis: int | tuple[int, ...],
    out_axis: int | tuple[int, ...],
    batch_axis: int | tuple[int, ...],
    matrices: int | tuple[int, int],
    dtype: np.dtype[Any],
) -> Resolution:
    element_type = _element_type_of(dtype)
    layout = Layout(shape, in_axis, out_axis, batch_axis, element_type.is_complex)
    scheme = read_scheme(scheme)
    whole, split_axis = layout, None
    if len(shape) + element_type.is_complex > MOST_AXES:
        raise ValueError(f"out must have at most {MOST_AXES - 1} axes where it is complex, got {len(shape)}")
    if matrices != 1:
        layout, split_axis = layout.split(matrices)
    distribution = scheme.fit(layout)
    if element_type.is_complex:
        write = _make_complex_writer(scheme.name, distribution, whole, element_type, dtype)
        return Resolution(write, whole, distribution.draws, True, str(distribution))
    if isinstance(distribution, Elementwise):
        from winit_fast.lowering import lower  # with decimal and fractions, not imported with the package

        conversion = lower(distribution, element_type)
        write = partial(fill_elements, conversion)
        return Resolution(write, whole, distribution.draws, True, str(distribution), conversion=conversion)
    if len(layout.shape) > MOST_AXES:
        raise ValueError(f"out must have at most {MOST_AXES - 1} axes where matrices split one, got {len(shape)}")
    from winit_fast.structures import prepare  # few calls need it, so that it is not imported with the package

    try:
        write = prepare(distribution, layout, element_type, dtype)
    except ValueError as error:
        raise ValueError(f"{scheme.name}: {error}") from None
    if split_axis is not None:
        write = partial(_write_matrices, write, split_axis, layout.shape)
    write = partial(_write_on_huge_pages, write)
    values = f"{distribution} {layout}" if distribution.draws else ""  # a table's would be long
    return Resolution(write, whole, distribution.draws, False, values, split_axis)


def _resolve_held(scheme: ref[Scheme], *others: Any) -> Resolution:
    """As `_resolve`, for an array: kept while its caller holds the scheme, since it takes long to prepare."""
    held = scheme()
    assert held is not None
    return _resolve.__wrapped__(held, *others)


# The numbers are kept, at most 8 bytes each. A text has at least 5 characters for each number, so that short texts take
# 3.3 MB at most; long ones have at most 2^16 numbers, and take 4.2 MB.
_LONG = 1 << 14
_resolve_array = lru_cache(maxsize=128, typed=True)(_resolve_held)
_resolve_large_array = lru_cache(maxsize=8, typed=True)(_resolve_held)


def _write_on_huge_pages(write: Writer, target: Target, call: Call) -> None:
    """Write a target, for which huge pages are asked first. A plan asks by itself, but not all structures have one."""
    if target.out.nbytes >= LARGE:
        ask_for_pages(target.out)
    write(target, call)


def _write_matrices(write: Writer, axis: int, shape: tuple[int, ...], target: Target, call: Call) -> None:
    """Write a target whose axis is two axes in `shape`: the matrices, and what each has along it."""
    refuse_overlap(target.out)  # all of it, before the first part is written
    size, first = shape[axis + 1], target.start[axis]
    last = first + target.out.shape[axis]
    # The rest of the first matrix, then whole ones, then what there is of the last.
    edges = sorted({first, min(last, -(-first // size) * size), max(first, last // size * size), last})
    for begin, end in pairwise(edges):
        stretch = target.out[(*(slice(None),) * axis, slice(begin - first, end - first))]
        count = max(1, (end - begin) // size)
        # A view: to split an axis never takes a copy.
        out = stretch.reshape((*stretch.shape[:axis], count, (end - begin) // count, *stretch.shape[axis + 1 :]))
        start = (*target.start[:axis], *divmod(begin, size), *target.start[axis + 1 :])
        write(Target(out, shape, start, target.rows), call)


def _make_complex_writer(
    name: str, distribution: Distribution, layout: Layout, element_type: ElementType, dtype: np.dtype[Any]
) -> Writer:
    """A writer of two real numbers for each complex one, along one more axis."""
    from winit_fast.lowering import lower, refuse_complex

    write: Writer
    if not isinstance(distribution, Elementwise) or (
        isinstance(distribution, Constant) and distribution != Constant(0.0)  # that of -0 has another imaginary part
    ):
        from winit_fast.structures import prepare

        if isinstance(distribution, Constant):
            distribution = GivenValues((1,) * len(layout.shape) + (2,), (distribution.value, 0.0))
            write = partial(_write_on_huge_pages, prepare(distribution, layout, element_type, dtype))
        else:
            refuse_complex(name, element_type)
    else:
        write = partial(fill_elements, lower(distribution, element_type, name))

    def write_both(target: Target, call: Call) -> None:
        real = target.out.real
        both = as_strided(real, (*real.shape, 2), (*real.strides, real.itemsize))
        write(Target(both, (*target.shape, 2), (*target.start, 0), *target[3:]), call)

    return write_both
