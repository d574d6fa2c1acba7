"""safetensors, with a header of our own: the library has no way to write a file out of order, or larger than memory.

a. The header is padded with spaces to a multiple of a page, and tensors of larger elements come first: each element
   stands at a multiple of its size, wherever the file is mapped.
b. Its metadata has ``format: pt``, without which transformers refuses the file, and the recipe as one line of JSON.
c. ``DCP_SHARDING_INFO`` says where a part of a tensor begins, as in PyTorch's distributed checkpoint.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path

from winit_fast.files.json_text import JsonText
from winit_fast.files.layouts import PAGE, Contents, Layout, Segment, Stored, TruncatedFileError, place
from winit_fast.files.opening import open_file
from winit_fast.files.specs import Part, Recipe
from winit_fast.messages import quote

__all__ = ["MOST_HEADER", "lay_out", "read"]

#: Bytes of JSON that the library reads.
MOST_HEADER = 100_000_000

RECIPE_KEY = "winit_fast"

_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "complex64": "C64",
}  # fmt: skip
_DTYPES = {name: dtype for dtype, name in _NAMES.items()} | {
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16",
    "U8": "uint8", "BOOL": "bool", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F4": "float4_e2m1fn_x2", "F6_E2M3": "float6_e2m3fn_packed",
    "F6_E3M2": "float6_e3m2fn_packed",
}  # fmt: skip
_BITS = {
    **{name: bits for bits in (64, 32, 16, 8) for name in (f"F{bits}", f"I{bits}", f"U{bits}")},
    "BF16": 16, "BOOL": 8, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E8M0": 8, "F8_E4M3": 8, "F8_E5M2": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
}  # fmt: skip


def lay_out(parts: Iterable[Part], recipe: Recipe, *, sharded: bool = False) -> Layout:
    """A header, and one part after another.

    Parameters
    ----------
    parts : iterable of Part
        At most one of each tensor.
    recipe : Recipe
        Stands in the metadata.
    sharded : bool, default False
        Whether to say where each part begins, even if all are whole.

    Raises
    ------
    ValueError
        If the format has not the dtype or the name of a tensor, or the header is longer than the library reads.
    """
    if sys.byteorder != "little":
        raise ValueError("safetensors files are little-endian, and this machine is not")
    segments, size = place(parts, 0)
    metadata = {"format": "pt", RECIPE_KEY: recipe.to_json()}
    if sharded or not all(part.is_whole for part, _ in segments):
        offsets = {part.spec.name: {"saved_offsets": list(part.offset)} for part, _ in segments}
        metadata |= {"DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(offsets)}
    entries: dict[str, object] = {"__metadata__": metadata}
    for part, start in segments:
        name, dtype = part.spec.name, part.spec.dtype.name
        if dtype not in _NAMES:
            raise ValueError(f"dtype of {quote(name)} must be one of {', '.join(_NAMES)} in safetensors, got {dtype}")
        if name in entries:
            raise ValueError(f"a tensor cannot have the name {quote(name)} in this file: it is taken")
        place_of = [start, start + part.nbytes]
        entries[name] = {"dtype": _NAMES[dtype], "shape": list(part.shape), "data_offsets": place_of}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    whole = -(-(8 + len(text)) // PAGE) * PAGE
    if whole - 8 > MOST_HEADER:
        raise ValueError(f"the header must have at most {MOST_HEADER:,} bytes, and would have {whole - 8:,}")
    header = (whole - 8).to_bytes(8, "little") + text.ljust(whole - 8)
    moved = tuple(Segment(part, whole + start) for part, start in segments)
    return Layout("safetensors", header, moved, whole + size)


def read(path: str | Path) -> Contents:
    """What the header says. It may be anybody's: it is refused, or read as the library reads it.

    Raises
    ------
    ValueError
        If the header cannot be read, or the tensors do not fill the file (`TruncatedFileError` if it ends before).
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length == 0:
            raise ValueError(f"{path} has no header: it is no safetensors file, or it was never finished")
        if length > MOST_HEADER:
            raise ValueError(f"{path} must have a header of at most {MOST_HEADER:,} bytes, and says {length:,}")
        if length > size - 8:
            raise TruncatedFileError(f"{path} ends at byte {size}, in its header of {length:,} bytes")
        header = file.read(length)
    try:
        text = header.decode()
        del header
        if not text.startswith("{"):
            raise ValueError("it does not begin with {")
        entries, recipe, offsets = _read_header(JsonText(text))
    except ValueError as error:
        raise ValueError(f"{path} has a header that cannot be read: {error}") from None
    begin = end = 8 + length
    stored = []
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        if begin + entry.begin != end:
            fault = "a hole before" if begin + entry.begin > end else "an overlap at"
            raise ValueError(f"{path} has {fault} {quote(entry.name)}, at byte {begin + entry.begin}")
        offset = None if offsets is None else offsets.pop(entry.name, None)
        if offsets is not None and (offset is None or len(offset) != len(entry.shape)):
            raise ValueError(f"{path} must say in DCP_SHARDING_INFO where {quote(entry.name)} begins")
        stored.append(Stored(entry.name, _DTYPES[entry.dtype], entry.shape, end, offset))
        end = begin + entry.end
    if offsets:
        raise ValueError(f"{path} has no {quote(next(iter(offsets)))}, which its DCP_SHARDING_INFO names")
    if size < end:
        raise TruncatedFileError(f"{path} ends at byte {size} of {end}")
    if size > end:
        raise ValueError(f"{path} must end at byte {end}, and has {size}")
    return Contents("safetensors", recipe, tuple(stored), size)


class _Entry:
    __slots__ = ("begin", "dtype", "end", "name", "shape")

    def __init__(self, name: str, dtype: str, shape: tuple[int, ...], offsets: tuple[int, ...]) -> None:
        self.name, self.dtype, self.shape = name, sys.intern(dtype), shape
        self.begin, self.end = offsets


def _read_header(text: JsonText) -> tuple[list[_Entry], str | None, dict[str, tuple[int, ...]] | None]:
    entries: list[_Entry] = []
    recipe = sharding = None
    for name in text.members():
        if name == "__metadata__":
            for key in text.members():
                value = text.read_str()
                recipe = value if key == RECIPE_KEY else recipe
                sharding = value if key == "DCP_SHARDING_INFO" else sharding
        else:
            entries.append(_read_entry(name, text))
    text.end()
    return entries, recipe, None if sharding is None else _read_sharding(JsonText(sharding))


def _read_entry(name: str, text: JsonText) -> _Entry:
    dtype = ""
    lists: dict[str, tuple[int, ...]] = {"shape": (-1,), "data_offsets": (-1,)}
    for key in text.members():
        if key == "dtype":
            dtype = text.read_str()
        elif key in lists:
            lists[key] = text.read_ints()
        else:
            text.refuse(f"{quote(key)} of {quote(name)} is unknown")
    shape, offsets = lists["shape"], lists["data_offsets"]
    if dtype not in _BITS:
        text.refuse(f"dtype of {quote(name)} is unknown or missing: {quote(dtype)}")
    if min(shape, default=0) < 0 or max(shape, default=0) >= 1 << 63:
        text.refuse(f"shape of {quote(name)} is wrong or missing: {quote(shape)}")
    if len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1] < 1 << 63:
        text.refuse(f"data_offsets of {quote(name)} are wrong or missing: {quote(offsets)}")
    if 8 * (offsets[1] - offsets[0]) != prod(shape) * _BITS[dtype]:
        text.refuse(f"{quote(name)} of {dtype} and shape {quote(shape)} cannot have {offsets[1] - offsets[0]} bytes")
    return _Entry(name, dtype, shape, offsets)


def _read_sharding(text: JsonText) -> dict[str, tuple[int, ...]]:
    offsets: dict[str, tuple[int, ...]] = {}
    for name in text.members():
        for key in text.members():
            if key == "saved_offsets":
                offsets[name] = _check_offset(text.read_ints(), text)
            else:
                text.skip()
    text.end()
    return offsets


def _check_offset(offset: Sequence[int], text: JsonText) -> tuple[int, ...]:
    if any(not 0 <= start < 1 << 63 for start in offset):
        text.refuse(f"saved_offsets are wrong: {quote(offset)}")
    return tuple(offset)
