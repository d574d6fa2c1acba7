"""Pages of memory: huge ones for large arrays that have none yet, and whether an array has pages at all.

Linux gives memory page by page as it is first written to. A page of 4 KiB takes half a microsecond, most of it for the
trap: more than our arithmetic takes for what fits on it. A huge page (2 MiB) takes one trap for 512 of them. Where
``/sys/kernel/mm/transparent_hugepage/enabled`` is ``madvise``, as on most servers, a program must ask for them.

(a) Asked is for arrays without pages alone: a sample of their addresses has none. What has pages stays as it is.
(b) Asked is for private memory of no file alone, by /proc/self/maps, and only for the huge pages that lie wholly within
    the array: no more memory is taken than the array has. An array with gaps of a page or more would take more.
(c) A request is a wish. Where it is refused, or where /sys, /proc or the calls are missing, small pages do.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from numpy.lib.array_utils import byte_bounds

from winit_fast.messages import quote

try:
    import ctypes
    import mmap
except ImportError:  # a Python that was built without libffi, or for a system without either
    ctypes = mmap = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LARGE", "PAST_CACHE", "is_allowed", "prepare"]

#: Bytes from which on `prepare` is asked about an array; NumPy asks for huge pages from there on too.
LARGE = 4 << 20

#: Bytes from which on arrays that have pages are written past the cache, whose lines are then not read before they are
#: overwritten: what one core has of most last-level caches. Measured on 2 busy cores of an Intel Xeon, plain / past the
#: cache in GB/s, constants: 3.3 / 19 at 64 MiB, 2.7 / 5.0 at 512 MiB; normals in float32 by 1 thread 2.3 / 2.3 and
#: 1.7 / 2.3, by 2 threads 2.1 / 2.4 and 2.0 / 4.0. So nothing is lost by 1 thread, and the number of threads decides
#: nothing. Pages that the kernel zeroed a moment ago stand in the cache: constants in such took 1.6 times as long.
PAST_CACHE = 32 << 20

_ENVIRONMENT = "WINIT_FAST_HUGE_PAGES"
_SETTINGS = "/sys/kernel/mm/transparent_hugepage"
_MOST = 32 << 20  # bytes of a huge page: beyond, as on Arm with pages of 64 KiB, one takes long and few are free
_SAMPLE = 8


def prepare(out: NDArray[Any]) -> bool:
    """Ask for huge pages for an array that is about to be filled, if it has no pages yet.

    Parameters
    ----------
    out : ndarray
        With elements.

    Returns
    -------
    bool
        Whether it has pages already, as far as this system tells.

    Raises
    ------
    ValueError
        If ``WINIT_FAST_HUGE_PAGES`` is neither 0, which forbids to ask, nor 1.

    Examples
    --------
    >>> import sys
    >>> import numpy as np
    >>> prepare(np.ones(1 << 20, "float32")) or sys.platform != "linux"
    True
    """
    may_ask = is_allowed()
    if (system := _system()) is None:
        return False
    begin, end = byte_bounds(out)
    if _has_pages(begin, end):
        return True
    size = _huge_page() if may_ask else 0
    if size and _is_dense(out):
        first, last = -(-begin // size) * size, end // size * size
        if first < last and _is_private(first, last):
            system.madvise(first, last - first, mmap.MADV_HUGEPAGE)
    return False


def is_allowed() -> bool:
    """Whether ``WINIT_FAST_HUGE_PAGES`` lets `prepare` ask; a ValueError as there."""
    given = os.environ.get(_ENVIRONMENT)
    if given not in (None, "", "0", "1"):
        raise ValueError(f"{_ENVIRONMENT} must be 0 or 1, got {quote(given)}")
    return given != "0"


@lru_cache(maxsize=1)
def _huge_page() -> int:
    """The bytes of a huge page where the system gives them to who asks; 0 where it does not, or to everybody."""
    try:
        with open(f"{_SETTINGS}/enabled") as enabled, open(f"{_SETTINGS}/hpage_pmd_size") as size_of_one:
            if "[madvise]" not in enabled.read():
                return 0
            size = int(size_of_one.read())
    except (OSError, ValueError):
        return 0
    return size if size <= _MOST and hasattr(mmap, "MADV_HUGEPAGE") else 0


@lru_cache(maxsize=1)
def _system() -> Any:
    """Linux's C library, if it has both calls; else None."""
    if sys.platform != "linux" or ctypes is None:
        return None
    try:
        system = ctypes.CDLL(None)
        system.mincore.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
        system.madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    except (OSError, AttributeError):  # a Python that loads no libraries, or another C library
        return None
    return system


def _has_pages(begin: int, end: int) -> bool:
    """Whether one of a few addresses, in the middle of equal parts, has a page; a file's is one in memory."""
    found = ctypes.create_string_buffer(1)
    for part in range(_SAMPLE):
        address = begin + (end - begin) * (2 * part + 1) // (2 * _SAMPLE)
        if _system().mincore(address - address % mmap.PAGESIZE, 1, found) or found.raw[0] & 1:
            return True  # also where the system does not say
    return False


def _is_dense(out: NDArray[Any]) -> bool:
    """Whether no gap between elements has room for a page."""
    reach = out.itemsize
    for stride, size in sorted((abs(stride), size) for stride, size in zip(out.strides, out.shape, strict=True)):
        if size > 1:
            if stride - reach >= mmap.PAGESIZE:
                return False
            reach += stride * (size - 1)
    return True


def _is_private(begin: int, end: int) -> bool:
    """Whether all memory from `begin` up to `end` is this process's alone, and of no file."""
    try:
        with open("/proc/self/maps", "rb") as lines:
            for line in lines:  # in the order of addresses: "7f00-7f80 rw-p 00000000 00:00 0"
                where, mode, _, _, inode = line.split(None, 5)[:5]
                low, high = (int(word, 16) for word in where.split(b"-"))
                if high <= begin:
                    continue
                if low > begin or mode[3:] != b"p" or inode != b"0":
                    return False
                begin = high
                if begin >= end:
                    return True
    except (OSError, ValueError):
        pass
    return False
