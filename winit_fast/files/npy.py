"""NumPy's ``.npy``: one tensor, or some of its rows. The file has no room for a recipe.

The header is padded to a page, as NumPy itself would accept it: then the values can be written past the cache of the
system, and mapped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from winit_fast.files.layouts import PAGE, Contents, Layout, Stored, TruncatedFileError, place
from winit_fast.files.opening import open_file
from winit_fast.files.specs import Part, Recipe
from winit_fast.messages import quote

__all__ = ["lay_out", "read", "refuse_unreadable", "stored_name"]

_MAGIC = b"\x93NUMPY"


def lay_out(parts: Iterable[Part], recipe: Recipe) -> Layout:
    """A header of one page, and one part.

    Raises
    ------
    ValueError
        If there are more parts or none, or `numpy.load` does not read the dtype.
    """
    members = list(parts)
    if len(members) != 1:
        raise ValueError(f"an .npy file holds one tensor, got {len(members)}")
    dtype, shape = members[0].spec.dtype, members[0].shape
    refuse_unreadable(dtype)
    text = repr({"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    size = PAGE - len(_MAGIC) - 4
    header = _MAGIC + b"\x01\x00" + size.to_bytes(2, "little") + text.encode().ljust(size - 1) + b"\n"
    segments, end = place(members, PAGE)
    return Layout("npy", header, segments, end)


def refuse_unreadable(dtype: np.dtype[Any]) -> None:
    """Raise a ValueError if `numpy.load` does not open a file of that dtype.

    It opens one of bfloat16 or float8_e4m3fn, and gives bytes: ``array.view(dtype)`` makes them numbers.

    Examples
    --------
    >>> import winit_fast
    >>> refuse_unreadable(winit_fast.empty(0, "bfloat16").dtype)
    >>> refuse_unreadable(winit_fast.empty(0, "float8_e5m2").dtype)
    Traceback (most recent call last):
    ValueError: dtype float8_e5m2 cannot be in an .npy file, which numpy.load would not open: safetensors holds it
    """
    try:
        np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype))
    except (TypeError, ValueError):
        raise ValueError(
            f"dtype {dtype.name} cannot be in an .npy file, which numpy.load would not open: safetensors holds it"
        ) from None


def stored_name(dtype: np.dtype[Any]) -> str:
    """What `read` calls a dtype: bytes of that many bits, if it is none of NumPy's own."""
    return np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype)).name


def read(path: str | Path) -> Contents:
    """What the header says, as `numpy.save` writes it.

    Raises
    ------
    ValueError
        If that is not such a file of plain numbers in C order, or its size is another (`TruncatedFileError` if it ends
        before).
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        begin = file.read(12)
        if begin[:6] != _MAGIC or begin[6:8] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
            raise ValueError(f"{path} is no .npy file: it does not begin as one")
        width = 2 if begin[6] == 1 else 4
        length, start = int.from_bytes(begin[8 : 8 + width], "little"), 8 + width
        start += length
        if length > _LONGEST or start > size:
            raise ValueError(f"{path} is no .npy file: its header cannot have {length} bytes")
        file.seek(8 + width)
        text = file.read(length)
    found = _HEADER.fullmatch(text)
    if found is None:
        raise ValueError(f"{path} has a header that numpy.save does not write: {quote(text.rstrip())}")
    descr, is_fortran, sizes = found.groups()
    if is_fortran == b"True":
        raise ValueError(f"{path} must be in C order, and is in Fortran order")
    shape = tuple(map(int, sizes.replace(b",", b" ").split()))
    try:
        dtype = np.dtype(descr.decode())
    except Exception:
        raise ValueError(f"{path} has a dtype that NumPy does not know: {quote(descr)}") from None
    if dtype.hasobject or dtype.itemsize == 0 or not dtype.isnative:
        raise ValueError(f"{path} must hold plain numbers in this machine's order of bytes, and has {quote(descr)}")
    end = start + prod(shape) * dtype.itemsize
    if size < end:
        raise TruncatedFileError(f"{path} ends at byte {size} of {end}")
    if size > end:
        raise ValueError(f"{path} must end at byte {end}, and has {size}")
    return Contents("npy", None, (Stored("", dtype.name, shape, start),), size)


_LONGEST = 10_000  # what numpy.load reads of strangers
_SIZE = rb"(?:0|[1-9][0-9]{0,19})"
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[A-Za-z][0-9]{1,4})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:%(size)s(?:,|(?:, ?%(size)s){1,63},?))?)\),? ?\}[ \n]*" % {b"size": _SIZE}
)
