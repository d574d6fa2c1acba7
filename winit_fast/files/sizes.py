"""Numbers of bytes as people write them: read, and shown."""

from __future__ import annotations

import re

from winit_fast.messages import as_int, quote

__all__ = ["read_size", "show_size"]

_UNITS = {"": 1, "B": 1} | {
    f"{letter}{ending}": base**power
    for power, letter in enumerate("KMGT", start=1)
    for ending, base in (("", 1024), ("IB", 1024), ("B", 1000))
}
_SIZE = re.compile(r"\s*(\d{1,20}(?:\.\d{1,20})?)\s*([KMGT]?(?:i?B)?)\s*", flags=re.ASCII | re.IGNORECASE)


def read_size(size: int | str, argument: str = "memory") -> int:
    """The number of bytes that a size means.

    Parameters
    ----------
    size : int or str
        Bytes, or a text such as "256MiB", "1GB" or "1.5G": KB, MB, GB, TB count by 1000; KiB, MiB, GiB, TiB, and K, M,
        G, T alone, by 1024.
    argument : str, default "memory"
        What errors call it.

    Raises
    ------
    TypeError, ValueError
        If it is no size, or less than 1.

    Examples
    --------
    >>> read_size("256MiB"), read_size("1GB"), read_size(4096)
    (268435456, 1000000000, 4096)
    """
    if not isinstance(size, str):
        count = as_int(argument, size, 'an int or a text such as "256MiB"')
    elif found := _SIZE.fullmatch(size):
        number, unit = found.groups()
        whole, _, decimals = number.partition(".")
        count = int(whole + decimals) * _UNITS[unit.upper()] // 10 ** len(decimals)  # exact, of any length
    else:
        raise ValueError(f'{argument} must be a number of bytes, such as "256MiB" or "1GB", got {quote(size)}')
    if count < 1:
        raise ValueError(f"{argument} must be at least 1 byte, got {quote(size)}")
    return count


def show_size(count: float, digits: int = 1) -> str:
    """A number of bytes as people read it, in units of 1000.

    Examples
    --------
    >>> show_size(10_240_000_000), show_size(999_960), show_size(17)
    ('10.2 GB', '1.0 MB', '17 bytes')
    """
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        count /= 1000
        if round(count, digits) < 1000 or unit == "PB":
            break
    return f"{count:.{digits}f} {unit}"
