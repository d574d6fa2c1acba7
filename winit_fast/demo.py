"""Create real models' embedding tables, time it, and check that threads and splits change nothing.

Each table is filled three times into the same memory: whole, whole by one thread, and as two halves that know only the
table's shape and where they stand in it. Fingerprints must be equal, and moments those of the scheme.

All arguments of all tables are checked before the first is filled. A file gets its name when it is whole and has passed
the checks, and not before.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal, localcontext
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from winit_fast.distributions import (
    ComplexNormal,
    ComplexTruncatedNormal,
    ComplexUniform,
    Constant,
    Distribution,
    GivenValues,
    Identity,
    Normal,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    Uniform,
)
from winit_fast.exact import FLOAT32, FLOAT64, Format, upper_tail, with_precision
from winit_fast.fill import fill
from winit_fast.lowering import ELEMENT_TYPES, LARGEST_NORMAL, ElementType
from winit_fast.memory import empty
from winit_fast.messages import shorten
from winit_fast.parallel import default_threads
from winit_fast.publish import PartialFile, reserve
from winit_fast.schemes import read_scheme
from winit_fast.sparse import zeros_of

__all__ = ["NAME", "Moments", "add_arguments", "fingerprint", "moments", "promised", "run"]

NAME = "embeddings"

_CHUNK = 1 << 20  # elements in float64 at a time: 8 MiB
_STANDARD_ERRORS = 6.0  # a right table is farther off once in 5e8 runs


class Model(NamedTuple):
    """A real model's table, and how many rows of it are enough for a first look."""

    title: str
    rows: int
    fewer_rows: int
    dim: int
    dtype: str
    scheme: str
    name: str


TABLES = {
    "llama3": Model(
        "Llama 3, token embedding", 128_256, 128_256, 4096, "bfloat16", "normal(std=0.02)", "tok_embeddings.weight"
    ),
    # Criteo's 1 TB click logs, capped at 40 million rows a table; DLRM draws U(-1/sqrt(rows), 1/sqrt(rows)).
    "dlrm": Model(
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
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER",
        help="write TABLE.npy files there, memory-mapped; each has a partial name until it is whole and checked, and "
        "files that are there are refused",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace such files, each when the new one is whole")


def run(options: argparse.Namespace) -> int:
    """Create, time and check the tables asked for; 0 where all checks hold, else 1."""
    threads = options.threads or max(2, default_threads())
    tables = [_checked(key, options, threads) for key in dict.fromkeys(options.table or TABLES)]
    if options.out is None:
        _refuse_more_than_memory(tables)
    else:
        tables = [table._replace(file=file) for table, file in zip(tables, _files(tables, options), strict=True)]
    failures = sum(_create(table, options.seed, threads) for table in tables)
    print("all checks hold" if failures == 0 else f"{failures} checks FAILED")
    return min(failures, 1)


class Asked(NamedTuple):
    """A table as the options have it, and what follows from them; `file` where it is to be written."""

    key: str
    model: Model
    dtype: np.dtype[Any]
    expected: Moments
    spread: float = 1.0  # of its std in small tables, where that of a normal is 1
    file: PartialFile | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.model.rows, self.model.dim

    @property
    def size(self) -> int:
        """In bytes."""
        return self.model.rows * self.model.dim * self.dtype.itemsize

    @property
    def element_type(self) -> ElementType:
        """What `fill` knows of the dtype."""
        return ELEMENT_TYPES[self.model.dtype]


def _checked(key: str, options: argparse.Namespace, threads: int) -> Asked:
    """Refuses what cannot be filled, by filling none of its rows."""
    model = _with_options(TABLES[key], options)
    dtype = _dtype(model.dtype)
    shape = (model.rows, model.dim)
    if math.prod(shape) * dtype.itemsize >= 1 << 63:
        raise ValueError(f"rows and dim must make a table of fewer than 2^63 bytes, got {shorten(str(shape))}")
    fill(
        np.empty((0, model.dim), dtype), model.scheme, seed=options.seed, name=model.name, shape=shape, offset=(0, 0),
        threads=threads,
    )  # fmt: skip
    element_type = ELEMENT_TYPES[model.dtype]
    distribution = read_scheme(model.scheme).distribution(shape, is_complex=element_type.is_complex)
    # The kurtosis of a normal is 3, of one that is cut on one side at most 9, and of the others no more than 3.
    spread = math.sqrt((9 - 1) / (3 - 1)) if isinstance(distribution, TruncatedNormal) else 1.0
    return Asked(key, model, dtype, promised(distribution, element_type, shape), spread)


def _refuse_more_than_memory(tables: list[Asked]) -> None:
    needed = max(table.size for table in tables)  # one at a time
    if needed > (available := _available_memory()):
        raise ValueError(
            f"{needed:,} bytes are needed and {available:,} available in memory; --out puts them in a file"
        )


def _files(tables: list[Asked], options: argparse.Namespace) -> list[PartialFile]:
    """Where the tables will be written; refuses what cannot be, and more than there is room for."""
    paths = [options.out / f"{table.key}.npy" for table in tables]
    taken = [str(path) for path in paths if path.is_file()]
    if taken and not options.force:
        verb, them = ("is", "it") if len(taken) == 1 else ("are", "them")
        raise FileExistsError(f"{' and '.join(taken)} {verb} there already; --force replaces {them}")
    files = [PartialFile(path, overwrite=options.force) for path in paths]
    needed: dict[int, int] = {}  # of each disk
    for table, file in zip(tables, files, strict=True):
        disk = os.stat(file.folder).st_dev
        needed[disk] = needed.get(disk, 0) + table.size
        if needed[disk] > (free := shutil.disk_usage(file.folder).free):
            raise ValueError(f"{needed[disk]:,} bytes are needed and {free:,} free in {file.folder}")
    return files


def _create(table: Asked, seed: int, threads: int) -> int:
    """Create, time and check one table; how many checks failed."""
    model, where = table.model, "in memory" if table.file is None else f"memory-mapped for {table.file.path}"
    print(f"{model.title}: {model.rows:,} x {model.dim:,} {model.dtype}, {table.size:,} bytes {where}")
    print(f"  {shorten(model.scheme)}, seed={seed}, name={model.name!r}", flush=True)
    if table.file is None:
        failures = _fill_and_check(empty(table.shape, table.dtype), table, seed, threads)
    else:
        folder = table.file.final.parent
        missing = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with table.file:
                # Not kept in a name: Windows renames no file that is mapped.
                failures = _fill_and_check(_mapped(table.file, table.shape, table.dtype), table, seed, threads)
                if failures == 0:
                    table.file.publish()
                    print(f"  written: {table.file.path}")
                else:
                    print(f"  not written, since it failed: {table.file.path}")
        finally:
            with suppress(OSError):  # one that holds something stays
                for one in missing:
                    one.rmdir()
    print()
    return failures


def _mapped(partial: PartialFile, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A map of a new file in NumPy's format, with disk space for all of it."""
    with partial.open() as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        reserve(file, start + math.prod(shape) * dtype.itemsize)
        return np.memmap(file, dtype, "r+", start, shape)


def _fill_and_check(memory: NDArray[Any], table: Asked, seed: int, threads: int) -> int:
    failures = _fill_three_times(memory, table.model, seed, threads)
    format, expected = table.element_type.format, table.expected
    # Squares of float64s may overflow or vanish.
    exponent = math.frexp(max(abs(expected.mean), expected.std))[1] if format is FLOAT64 else 0
    failures += _compare(moments(memory, exponent), expected, format, table.spread)
    if isinstance(memory, np.memmap):
        start = perf_counter()
        memory.flush()
        print(f"  flushed to disk in {perf_counter() - start:.2f} s")
    return failures


def _at_least(least: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be an int >= {least}, got {value}")
        return value

    return integer


def _with_options(table: Model, options: argparse.Namespace) -> Model:
    rows = options.rows or (table.rows if options.full else table.fewer_rows)
    dtype = options.dtype or table.dtype
    if dtype == "bfloat16" and options.dtype is None and _dtype_or_none(dtype) is None:
        print("ml_dtypes is not installed, so float16 takes the place of bfloat16 (pip install ml_dtypes)\n")
        dtype = "float16"
    return table._replace(
        rows=rows, dim=options.dim or table.dim, dtype=dtype,
        scheme=table.scheme if options.scheme is None else options.scheme,
        name=table.name if options.name is None else options.name,
    )  # fmt: skip


def _dtype_or_none(name: str) -> np.dtype[Any] | None:
    if not name.startswith(("bfloat16", "float8_")):
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


def _available_memory() -> float:
    """What the system can give without swapping; infinity where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    kibibytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return math.inf if kibibytes is None else 1024 * int(kibibytes)


def _fill_three_times(memory: NDArray[Any], table: Model, seed: int, threads: int) -> int:
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
    """Of a table, or promised: `size` is the number of values, promised ones of those that are drawn."""

    mean: float
    std: float
    min: float
    max: float
    size: int


def moments(memory: NDArray[Any], exponent: int = 0) -> Moments:
    """Moments in float64, chunk by chunk, so that no copy of the table is made.

    Parameters
    ----------
    memory : ndarray
        C-contiguous. A complex number is two values.
    exponent : int, default 0
        2^exponent is the size of the values, whose squares are within float64 once divided by it.

    Examples
    --------
    >>> import numpy as np
    >>> moments(np.array([[1, 2], [3, 6]], "float16"))
    Moments(mean=3.0, std=1.8708286933869707, min=1.0, max=6.0, size=4)
    """
    values = memory.reshape(-1)
    if values.dtype.kind == "c":
        values = values.view(values.real.dtype)
    mean = squares = 0.0  # of the deviations from the mean; merged as Chan, Golub and LeVeque 1979
    lowest, highest = math.inf, -math.inf
    for first in range(0, values.size, _CHUNK):
        chunk = values[first : first + _CHUNK].astype(np.float64)
        lowest, highest = min(lowest, float(chunk.min())), max(highest, float(chunk.max()))
        if exponent:
            np.ldexp(chunk, -exponent, out=chunk)
        chunk_mean = float(chunk.mean())
        chunk -= chunk_mean
        shift, count = chunk_mean - mean, first + chunk.size
        mean += shift * chunk.size / count
        squares += float(np.dot(chunk, chunk)) + shift * shift * first * (chunk.size / count)
    std = math.sqrt(squares / values.size)
    return Moments(math.ldexp(mean, exponent), math.ldexp(std, exponent), lowest, highest, values.size)


_LARGEST_ENTRY = 1 + 2**-10  # of an orthogonal matrix, which rounding may leave a little above 1


def promised(distribution: Distribution, element_type: ElementType, shape: tuple[int, int]) -> Moments:
    """Moments of a table, and the bounds that its values cannot pass.

    Parameters
    ----------
    distribution : Distribution
        One that a matrix has: no kernel of a convolution.
    element_type : ElementType
        What values are rounded to. Moments are those before rounding.
    shape : tuple of int
        Rows and columns.

    Examples
    --------
    >>> bfloat16 = ELEMENT_TYPES["bfloat16"]
    >>> promised(Uniform(0.0, 1.0), bfloat16, (10, 20))
    Moments(mean=0.5, std=0.2886751345948129, min=0.0, max=1.0, size=200)
    >>> promised(Uniform(0.0, 1.0, "below_high"), bfloat16, (10, 20)).max
    0.99609375
    >>> promised(Identity(2.0), bfloat16, (2, 2))
    Moments(mean=1.0, std=1.0, min=0.0, max=2.0, size=0)
    """
    format, is_complex = element_type.format, element_type.is_complex
    count = math.prod(shape) * (2 if is_complex else 1)
    farthest = float(LARGEST_NORMAL[element_type.bits]) * (1 + 2**-20)  # float32 arithmetic rounds on the way

    def within(low: float, high: float, mean: float, std: float, size: int = count) -> Moments:
        low, high = (bound if math.isinf(bound) else format.nearest(bound) for bound in (low, high))
        return Moments(mean, std, low, high, size)

    def around(mean: float, std: float, farthest: float, size: int = count) -> Moments:
        return within(mean - farthest * std, mean + farthest * std, mean, std, size)

    def given(values: Sequence[float], times: Sequence[int]) -> Moments:
        """Of what draws nothing: these values, each so many times."""
        size = max(map(abs, values)) or 1.0
        scaled = np.array(values) / size
        mean = float(np.average(scaled, weights=times))
        std = math.sqrt(float(np.average((scaled - mean) ** 2, weights=times)))
        low, high = min(values), max(values)
        if format is not FLOAT64:  # rounded twice, as the kernels do
            low, high = FLOAT32.nearest(low), FLOAT32.nearest(high)
        return within(low, high, size * mean, size * std, 0)

    match distribution:
        case Constant(value):
            return given([value, 0.0], [count // 2] * 2) if is_complex else given([value], [1])
        case Identity(gain) if shape == (1, 1):
            return given([gain], [1])
        case Identity(gain):
            return given([gain, 0.0], [min(shape), count - min(shape)])
        case GivenValues(_, numbers):
            return given([float(number) for number in numbers], [1] * len(numbers))
        case Uniform(low, high, rounding):
            below = format.below(high) if rounding == "below_high" else None
            return within(low, high if below is None else below, low / 2 + high / 2, (high - low) / math.sqrt(12))
        case Normal(mean, std):
            return around(mean, std / math.sqrt(2) if is_complex else std, farthest)
        case TruncatedNormal(location, width, least, most):
            low, high = location + width * max(least, -40.0), location + width * min(most, 40.0)
            return within(low, high, *_truncated(location, width, least, most))
        case ComplexNormal(std):
            return around(0.0, std / math.sqrt(2), farthest)
        case ComplexUniform(std):
            return around(0.0, std / math.sqrt(2), 2 * (1 + 2**-20))
        case ComplexTruncatedNormal(std):
            left = math.sqrt((1 - 5 * math.exp(-4)) / (1 - math.exp(-4)) / 2)  # of a part, where std is 1
            return around(0.0, std * left, 2 * (1 + 2**-20) / left)
        case Orthogonal(gain):
            root = math.sqrt(max(shape))  # the shorter side's vectors have the length gain: exactly
            return around(0.0, abs(gain) / root, _LARGEST_ENTRY * root)
        case Sparse(sparsity, std, per):
            units, entries = shape if per == "in" else shape[::-1]
            kept = units * (entries - zeros_of(sparsity, entries))
            share = math.sqrt(kept / count)
            return within(-std * farthest, std * farthest, 0.0, std * share, kept)
    raise AssertionError(distribution)


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


def _compare(found: Moments, expected: Moments, format: Format, spread: float) -> int:
    # Rounding to the format adds at most this to a standard deviation, or to a mean that is not 0 by symmetry. Of what
    # is drawn nothing hides it; sums of float64s, which come close to it in float64 alone, are right to 36 bits.
    precision = min(format.precision, 37)
    grain = max(2.0 ** (1 - precision) * (abs(expected.mean) + expected.std), 2.0**format.min_exponent)
    is_drawn = expected.size > 0
    added = min(grain, grain * grain / expected.std) if is_drawn and expected.std > 0.0 else grain
    mean_within = _STANDARD_ERRORS * expected.std / math.sqrt(found.size) if is_drawn else 0.0
    if expected.mean != 0.0 or not is_drawn:
        mean_within += grain
    std_within = added + (_STANDARD_ERRORS * spread * expected.std / math.sqrt(2 * expected.size) if is_drawn else 0.0)
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
