"""Fingerprints of bytes: at the speed of memory, the same for any number of threads and any order and split.

(a) Bytes are hashed in pages of 4096, each by itself (include/fingerprint.h), and the hashes of all pages are added
    up, so that any part of a tensor can be hashed anywhere and at any time.
(b) A page of which a part holds only a piece waits, as bytes, until other parts bring the rest.
(c) It finds faults and tells tensors apart. It does not resist somebody who looks for two tensors that share it.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import numpy as np

from winit_fast import dispatch, parallel
from winit_fast._plan import view_of
from winit_fast.fill import random_bits
from winit_fast.memory import empty
from winit_fast.messages import as_int, quote

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Fingerprint", "fingerprint"]


def fingerprint(array: Any, *, threads: SupportsIndex | None = None) -> str:
    """Hash the bytes of an array to 128 bits, in hexadecimal.

    Arrays of the same bytes have the same fingerprint, whatever their shape, type and strides. Other arrays share it
    with a chance of about 2^-64, and never if they have the same size and differ only within four bytes that begin at a
    multiple of four. It is no cryptographic hash: one can construct arrays that share it.

    Parameters
    ----------
    array : ndarray, or an object with a contiguous buffer, such as bytes or mmap
        An array's elements are taken in row-major order, as little-endian numbers. One that is not C-contiguous is
        copied in pieces of at most 4 MiB, which takes longer than the hash.
    threads : int, optional
        At most so many; by default as in `fill`. The fingerprint does not depend on it.

    Returns
    -------
    str
        32 hexadecimal digits.

    Raises
    ------
    TypeError, ValueError
        If `array` has no bytes to read, or `threads` is not an int >= 1.

    See Also
    --------
    Fingerprint : of parts that are not all in one place.

    Examples
    --------
    >>> import numpy as np
    >>> import winit_fast
    >>> from winit_fast.fingerprints import fingerprint
    >>> table = winit_fast.fill(np.empty((1000, 64), "float32"), "normal(std=0.01)", seed=7, name="user_id")
    >>> fingerprint(table)
    '2e58cfed3f721ede17d9facf034b9ae8'
    """
    whole = Fingerprint()
    whole._add("array", 0, array, threads)
    return whole.hexdigest()


class Fingerprint:
    """The fingerprint of a tensor whose parts are hashed one by one, in any order, also in several processes.

    It can be pickled. It keeps the sum of all hashes, and each page of 4096 bytes of which only pieces were added: at
    most two pages for each run of neighbouring bytes.

    Examples
    --------
    Two workers hash their rows, and one of them adds up:

    >>> import numpy as np
    >>> import winit_fast
    >>> from winit_fast.fingerprints import Fingerprint, fingerprint
    >>> table = winit_fast.fill(np.empty((1000, 64), "float32"), "normal(std=0.01)", seed=7, name="user_id")
    >>> upper, lower = Fingerprint(), Fingerprint()
    >>> upper.add(0, table[:700])
    >>> lower.add(700 * 64 * 4, table[700:])
    >>> (lower + upper).hexdigest() == fingerprint(table)
    True
    """

    def __init__(self) -> None:
        self._words = _Words(0, 0, 0, 0)  # the sum over whole pages
        self._runs: list[tuple[int, int]] = []  # of bytes that were added: first and last + 1; in order, with gaps
        self._pages: dict[int, NDArray[np.uint8]] = {}  # those that are not whole, by number; what is missing is 0

    def add(self, first_byte: SupportsIndex, buffer: Any, *, threads: SupportsIndex | None = None) -> None:
        """Add bytes that follow each other in the tensor.

        Parameters
        ----------
        first_byte : int
            How many bytes of the tensor, in row-major order, stand before them.
        buffer : ndarray, or an object with a contiguous buffer
            The bytes, as in `fingerprint`. Those of some whole rows follow each other, those of some columns do not.
        threads : int, optional
            As in `fingerprint`.

        Raises
        ------
        TypeError, ValueError
            If an argument cannot be used, or one of the bytes was added before. Nothing has changed then.
        """
        self._add("buffer", first_byte, buffer, threads)

    def __add__(self, other: Fingerprint) -> Fingerprint:
        """The fingerprint of both parts, which must not have a byte in common."""
        if not isinstance(other, Fingerprint):
            return NotImplemented
        both = Fingerprint()
        both._take(self)
        both._take(other)
        return both

    def hexdigest(self) -> str:
        """The fingerprint of the tensor, which ends with the last byte that was added.

        Returns
        -------
        str
            32 hexadecimal digits.

        Raises
        ------
        ValueError
            If a byte before the last one has not been added.
        """
        size = self._runs[-1][1] if self._runs else 0
        if self._runs and self._runs != [(0, size)]:
            first, last = self._runs[0]
            gap = (0, first) if first else (last, self._runs[1][0])
            raise ValueError(f"all bytes up to {size} must be added before hexdigest, got none of [{gap[0]}, {gap[1]})")
        words = self._words
        for number, page in self._pages.items():  # the last, if the tensor ends within it
            words = words.plus(_hash_pages(page, number, 1))
        low, high = words.a | words.b << 32, words.c | words.d << 32
        mixed = random_bits(np.empty(4, np.uint32), seed=size, name=high, offset=4 * low, threads=1)
        return mixed.astype("<u4").tobytes().hex()

    def _add(self, argument: str, first_byte: SupportsIndex, buffer: Any, threads: SupportsIndex | None) -> None:
        first = as_int("first_byte", first_byte)
        count = parallel.read_threads(threads)
        array = _read_buffer(argument, buffer)
        if not 0 <= first < (1 << 63) - array.nbytes:
            raise ValueError(f"first_byte must be in [0, 2^63 - {array.nbytes}), got {quote(first_byte)}")
        self._refuse_again(first, first + array.nbytes)
        found = Fingerprint()
        for octets in _octets_of(array):
            found._take(_hash_run(first, octets, count))
            first += octets.size
        self._take(found)

    def _take(self, other: Fingerprint) -> None:
        for run in other._runs:
            self._refuse_again(*run)
        for run in other._runs:
            self._insert(*run)
        words, pages = self._words.plus(other._words), dict(self._pages)
        for number, page in other._pages.items():
            pages[number] = pages[number] | page if number in pages else page
            if self._has(number * _PAGE, (number + 1) * _PAGE):
                words = words.plus(_hash_pages(pages.pop(number), number, 1))
        self._words, self._pages = words, pages

    def _refuse_again(self, first: int, last: int) -> None:
        after = bisect(self._runs, (first, last))
        for low, high in self._runs[max(after - 1, 0) : after + 1]:
            if max(first, low) < min(last, high):
                raise ValueError(f"bytes [{max(first, low)}, {min(last, high)}) must be added once, got them again")

    def _insert(self, first: int, last: int) -> None:
        """Add a run to the runs, together with those that it touches."""
        begin = end = bisect(self._runs, (first, last))
        if begin and self._runs[begin - 1][1] == first:
            begin -= 1
            first = self._runs[begin][0]
        if end < len(self._runs) and self._runs[end][0] == last:
            last = self._runs[end][1]
            end += 1
        self._runs[begin:end] = [(first, last)]

    def _has(self, first: int, last: int) -> bool:
        """Whether all these bytes were added."""
        after = bisect(self._runs, (first, 1 << 63))
        return after > 0 and self._runs[after - 1][1] >= last


class _Words(NamedTuple):
    """What is added up: four words, each modulo 2^32."""

    a: int
    b: int
    c: int
    d: int

    def plus(self, other: _Words) -> _Words:
        return _Words(*((mine + more) & 0xFFFFFFFF for mine, more in zip(self, other, strict=True)))


_PAGE = 4096  # bytes
_COPIED = 4 << 20  # bytes at a time, of arrays that are not contiguous
_SHARE = 1 << 6  # pages that a thread takes at a time: some 30 microseconds of work
_LOOK_AFTER = 1 << 4  # of the caller's shares: half a millisecond, a fraction of a second on a slow disk
_BYTES_A_HELPER = 1 << 20  # a tenth of a millisecond of work: twenty times what a thread of a crew costs
_MOST_THREADS = 1 << 16
_IS_POINTER = 0x04  # a flag of NumPy's dtypes that has no name in Python


def _read_buffer(argument: str, buffer: Any) -> NDArray[Any]:
    """An array of NumPy's own class over the same memory."""
    needed = f"{argument} must be a NumPy array or an object with a contiguous buffer, such as bytes"
    if isinstance(buffer, np.ndarray):
        array = view_of(buffer)
        if array.dtype.hasobject or array.dtype.flags & _IS_POINTER:
            raise TypeError(f"{needed}, got one of {quote(array.dtype)}, whose items are references")
        return array
    try:
        return np.frombuffer(buffer, np.uint8)
    except Exception:  # from a buffer of a caller's class, too
        raise TypeError(f"{needed}, got {quote(buffer)}") from None


def _octets_of(array: NDArray[Any]) -> Iterator[NDArray[np.uint8]]:
    """The bytes of an array in row-major order, each number little-endian: where they are, or copied piece by piece."""
    if array.nbytes == 0:
        return
    little = array.dtype.newbyteorder("<")
    if array.flags.c_contiguous and array.dtype == little:
        yield array.reshape(-1).view(np.uint8)
    elif array.nbytes <= _COPIED or array.ndim == 0:
        yield np.ascontiguousarray(array, little).reshape(-1).view(np.uint8)
    else:
        rows = _COPIED // (array.nbytes // len(array))
        for first in range(0, len(array), max(rows, 1)):
            yield from _octets_of(array[first : first + rows] if rows else array[first, ...])


def _hash_run(first: int, octets: NDArray[np.uint8], threads: int | None) -> Fingerprint:
    """The fingerprint of neighbouring bytes."""
    run, last = Fingerprint(), first + octets.size
    run._runs.append((first, last))
    begin, end = -(-first // _PAGE), last // _PAGE
    if begin < end:
        run._words = _hash_pages(octets[begin * _PAGE - first : end * _PAGE - first], begin, threads)
    for low, high in ((first, last),) if begin > end else ((first, begin * _PAGE), (end * _PAGE, last)):
        if low < high:
            page = run._pages[low // _PAGE] = np.zeros(_PAGE, np.uint8)
            page[low % _PAGE : low % _PAGE + high - low] = octets[low - first : high - first]
    return run


def _hash_pages(octets: NDArray[np.uint8], first_page: int, threads: int | None) -> _Words:
    """The sum of the hashes of whole pages."""
    if threads is None:
        threads = max(1, min(octets.size // _BYTES_A_HELPER, parallel.default_threads()))
    return _Words(
        *dispatch.kernels.fingerprint_together(
            octets, first_page, _keys(), _SHARE, min(threads, _MOST_THREADS), parallel._look, _LOOK_AFTER
        )
    )


@lru_cache(maxsize=1)
def _keys() -> NDArray[np.uint32]:
    """Words of the stream "fingerprint" under seed 0, in little-endian order."""
    words = random_bits(empty(_PAGE // 4 + 16, np.uint32), seed=0, name="fingerprint")
    return words.astype("<u4", copy=False)
