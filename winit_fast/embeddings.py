"""Create real models' embedding tables, time it, and check that threads and splits change nothing.

Each table is filled three times into the same memory: whole, whole by one thread, and as two halves that know only the
table's shape and where they stand in it. Fingerprints must be equal, and moments those of the scheme.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import shutil
from collections.abc import Callable
from decimal import Decimal, localcontext
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from winit_fast.distributions import Constant, Distribution, Normal, TruncatedNormal, Uniform
from winit_fast.exact import FLOAT32, FLOAT64, Format, upper_tail, with_precision
from winit_fast.fill import fill
from winit_fast.lowering import ELEMENT_TYPES, LARGEST_NORMAL
from winit_fast.memory import empty
from winit_fast.parallel import default_threads
from winit_fast.schemes import scheme

__all__ = ["NAME", "Moments", "add_arguments", "fingerprint", "moments", "promised", "run"]

NAME = "embeddings"

_CHUNK = 1 << 20  # elements in float64 at a time: 8 MiB
_STANDARD_ERRORS = 6.0  # a right table is farther off once in 5e8 runs


class Table(NamedTuple):
    """A real model's table, and how many rows of it are enough for a first look."""

    title: str
    rows: int
    fewer_rows: int
    dim: int
    dtype: str
    scheme: str
    name: str


TABLES = {
    "llama3": Table(
        "Llama 3, token embedding", 128_256, 128_256, 4096, "bfloat16", "normal(std=0.02)", "tok_embeddings.weight"
    ),
    # Criteo's 1 TB click logs, capped at 40 million rows a table; DLRM draws U(-1/sqrt(rows), 1/sqrt(rows)).
    "dlrm": Table(
        "MLPerf DLRM, one of the largest tables of the Criteo click logs", 40_000_000, 4_000_000, 128, "float16",
        "uniform(low=-0.00015811388300841897, high=0.00015811388300841897)", "emb_l.0.weight",
    ),
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--table", choices=TABLES, action="append", help="only this one; may be repeated (default: all)")  # fmt: skip
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--full", action="store_true", help="all 40,000,000 rows of dlrm, 10 GB (default: a tenth)")  # fmt: skip
    size.add_argument("--rows", type=_at_least(1), metavar="N", help="this many rows")
    parser.add_argument("--dim", type=_at_least(1), metavar="N", help="this many columns")
    parser.add_argument("--dtype", choices=ELEMENT_TYPES, help="in place of the table's own")
    parser.add_argument("--scheme", metavar="TEXT", help='such as "he_normal" or "truncated_normal(std=0.02)"')
    parser.add_argument("--seed", type=_at_least(0), default=7, metavar="N", help="default: 7")
    parser.add_argument("--name", metavar="TEXT", help="the stream; by default the parameter's name in its model")
    parser.add_argument("--threads", type=_at_least(1), metavar="N", help="default: the CPUs there are, at least 2")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write .npy files there, memory-mapped")


def run(options: argparse.Namespace) -> int:
    """Create, time and check the tables asked for; 0 where all checks hold, else 1."""
    threads = options.threads or max(2, default_threads())
    failures = 0
    for key in options.table or TABLES:
        table = _with_options(TABLES[key], options)
        element_type = ELEMENT_TYPES[table.dtype]
        shape = (table.rows, table.dim)
        drawn = scheme(table.scheme).distribution(shape)
        expected = promised(drawn, element_type.format, LARGEST_NORMAL[element_type.bits])
        memory, place = _memory(shape, _dtype(table.dtype), options.out, key)
        print(f"{table.title}: {table.rows:,} x {table.dim:,} {table.dtype}, {memory.nbytes:,} bytes {place}")
        print(f"  {table.scheme}, seed={options.seed}, name={table.name!r}")
        failures += _fill_three_times(memory, table, options.seed, threads)
        failures += _compare(moments(memory), expected, element_type.format)
        if isinstance(memory, np.memmap):
            start = perf_counter()
            memory.flush()
            print(f"  flushed to disk in {perf_counter() - start:.2f} s")
        del memory
        print()
    print("all checks hold" if failures == 0 else f"{failures} checks FAILED")
    return min(failures, 1)


def _at_least(least: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be an int >= {least}, got {value}")
        return value

    return integer


def _with_options(table: Table, options: argparse.Namespace) -> Table:
    rows = options.rows or (table.rows if options.full else table.fewer_rows)
    dtype = options.dtype or table.dtype
    if dtype == "bfloat16" and options.dtype is None and _dtype_or_none(dtype) is None:
        print("ml_dtypes is not installed, so float16 takes the place of bfloat16 (pip install ml_dtypes)\n")
        dtype = "float16"
    return table._replace(
        rows=rows, dim=options.dim or table.dim, dtype=dtype, scheme=options.scheme or table.scheme,
        name=table.name if options.name is None else options.name,
    )  # fmt: skip


def _dtype_or_none(name: str) -> np.dtype[Any] | None:
    if name in ("float16", "float32", "float64"):
        return np.dtype(name)
    try:
        import ml_dtypes
    except ModuleNotFoundError:
        return None
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return dtype


def _dtype(name: str) -> np.dtype[Any]:
    dtype = _dtype_or_none(name)
    if dtype is None:
        raise ValueError(f"dtype {name} needs the package ml_dtypes, which is not installed (pip install ml_dtypes)")
    return dtype


def _memory(shape: tuple[int, int], dtype: np.dtype[Any], folder: Path | None, key: str) -> tuple[NDArray[Any], str]:
    """Memory for a table, never touched before, and where it is; refuses more than there is."""
    needed = math.prod(shape) * dtype.itemsize
    if folder is None:
        if needed > (available := _available_memory()):
            raise ValueError(
                f"{needed:,} bytes are needed and {available:,} available in memory; --out puts them in a file"
            )
        return empty(shape, dtype), "in memory"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key}.npy"
    freed = path.stat().st_size if path.exists() else 0
    if needed > (available := shutil.disk_usage(folder).free + freed):
        raise ValueError(f"{needed:,} bytes are needed and {available:,} free in {folder}")
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape), f"memory-mapped in {path}"


def _available_memory() -> float:
    """What the system can give without swapping; infinity where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    kibibytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return math.inf if kibibytes is None else 1024 * int(kibibytes)


def _fill_three_times(memory: NDArray[Any], table: Table, seed: int, threads: int) -> int:
    middle = table.rows // 2
    whole, halves = [(0, table.rows)], [(middle, table.rows), (0, middle)]
    ways = (
        ("whole", whole, threads, "untouched memory"),
        ("whole", whole, 1, "touched before"),
        ("two halves, the lower one first", halves, threads, "touched before"),
    )
    fingerprints: list[str] = []
    for what, parts, count, state in ways:
        if fingerprints:
            memory.view(np.uint8).fill(0xFF)  # so that what is not written again shows
        start = perf_counter()
        for first, last in parts:
            fill(
                memory[first:last], table.scheme, seed=seed, name=table.name, shape=memory.shape, offset=(first, 0),
                threads=count,
            )  # fmt: skip
        seconds = perf_counter() - start
        fingerprints.append(fingerprint(memory))
        by = "1 thread" if count == 1 else f"{count} threads"
        rate = f"{seconds:8.3f} s  {memory.nbytes / seconds / 1e9:6.2f} GB/s"
        print(f"  {fingerprints[-1]}  {rate}  {what}, {by}, {state}", flush=True)
    if len(set(fingerprints)) > 1:
        print("  FAILED: the fingerprints differ")
        return 1
    return 0


def fingerprint(memory: NDArray[Any]) -> str:
    """BLAKE2b of the bytes of a C-contiguous array, 128 bits in hexadecimal.

    Examples
    --------
    >>> import numpy as np
    >>> fingerprint(np.zeros((2, 3), "float16"))
    '5cf0479a381380026a05c1e7bc18bfbb'
    """
    digest = hashlib.blake2b(digest_size=16)
    octets = memory.reshape(-1).view(np.uint8)
    for first in range(0, octets.size, 1 << 24):
        digest.update(octets[first : first + (1 << 24)].data)
    return digest.hexdigest()


class Moments(NamedTuple):
    """Of a table, or of a distribution (its `size` is 0)."""

    mean: float
    std: float
    min: float
    max: float
    size: int = 0


def moments(memory: NDArray[Any]) -> Moments:
    """Moments in float64, chunk by chunk, so that no copy of the table is made.

    Examples
    --------
    >>> import numpy as np
    >>> moments(np.array([[1, 2], [3, 6]], "float16"))
    Moments(mean=3.0, std=1.8708286933869707, min=1.0, max=6.0, size=4)
    """
    values = memory.reshape(-1)
    mean = squares = 0.0  # of the deviations from the mean; merged as Chan, Golub and LeVeque 1979
    lowest, highest = math.inf, -math.inf
    for first in range(0, values.size, _CHUNK):
        chunk = values[first : first + _CHUNK].astype(np.float64)
        lowest, highest = min(lowest, float(chunk.min())), max(highest, float(chunk.max()))
        chunk_mean = float(chunk.mean())
        chunk -= chunk_mean
        shift, count = chunk_mean - mean, first + chunk.size
        mean += shift * chunk.size / count
        squares += float(np.dot(chunk, chunk)) + shift * shift * first * (chunk.size / count)
    return Moments(mean, math.sqrt(squares / values.size), lowest, highest, values.size)


def promised(distribution: Distribution, format: Format, largest_normal: SupportsFloat) -> Moments:
    """Moments of a distribution, and the bounds that values rounded to a format cannot pass.

    Examples
    --------
    >>> from winit_fast.exact import BFLOAT16, FLOAT32
    >>> promised(Uniform(0.0, 1.0), BFLOAT16, 6.5557)
    Moments(mean=0.5, std=0.2886751345948129, min=0.0, max=1.0, size=0)
    >>> promised(TruncatedNormal(0.0, 1.0, -2.0, 2.0), FLOAT32, 6.5557).std
    0.8796256610342398
    """
    match distribution:
        case Constant(value):
            stored = value if format is FLOAT64 else FLOAT32.nearest(value)  # rounded twice, as the kernels do
            mean, std, low, high = value, 0.0, stored, stored
        case Uniform(low, high):
            mean, std = (low + high) / 2, (high - low) / math.sqrt(12)
        case Normal(mean, std):
            reach = std * float(largest_normal) * (1 + 2**-20)  # float32 arithmetic rounds on the way
            low, high = mean - reach, mean + reach
        case TruncatedNormal(location, width, below, above):
            mean, std = _truncated(location, width, below, above)
            low = location + width * max(below, -40.0)
            high = location + width * min(above, 40.0)
    return Moments(mean, std, format.nearest(low), format.nearest(high))


def _truncated(location: float, width: float, below: float, above: float) -> tuple[float, float]:
    with localcontext(with_precision(60)):

        def density(x: float) -> Decimal:
            return Decimal(0) if math.isinf(x) else (-(Decimal(x) ** 2) / 2).exp() / Decimal(2 * math.pi).sqrt()

        def weighted(x: float) -> Decimal:
            return Decimal(0) if math.isinf(x) else Decimal(x) * density(x)

        mass = upper_tail(below) - upper_tail(above) if above > -below else upper_tail(-above) - upper_tail(-below)
        mean = (density(below) - density(above)) / mass
        variance = 1 + (weighted(below) - weighted(above)) / mass - mean * mean
        return location + width * float(mean), width * float(variance.sqrt())


def _compare(found: Moments, expected: Moments, format: Format) -> int:
    # Rounding to the format adds at most this to a standard deviation, or to a mean that is not 0 by symmetry.
    grain = max(2.0 ** (1 - format.precision) * (abs(expected.mean) + expected.std), 2.0**format.min_exponent)
    added = min(grain, grain * grain / expected.std) if expected.std > 0.0 else grain
    error = expected.std / math.sqrt(found.size)
    mean_within = _STANDARD_ERRORS * error + (grain if expected.mean != 0.0 else 0.0)
    std_within = _STANDARD_ERRORS * error / math.sqrt(2) + added  # no scheme's tails are heavier than a normal's
    checks = (
        ("mean", found.mean, f"{expected.mean:+.6e}, give or take {mean_within:.1e}",
         abs(found.mean - expected.mean) <= mean_within),
        ("std", found.std, f"{expected.std:+.6e}, give or take {std_within:.1e}",
         abs(found.std - expected.std) <= std_within),
        ("min", found.min, f"{expected.min:+.6e} or more", found.min >= expected.min),
        ("max", found.max, f"{expected.max:+.6e} or less", found.max <= expected.max),
    )  # fmt: skip
    for what, value, promise, holds in checks:
        print(f"  {what:4} {value:+.6e}, promised {promise}{'' if holds else '  FAILED'}")
    return sum(not holds for _, _, _, holds in checks)
