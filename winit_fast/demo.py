"""Create the embedding tables of real models, time it, and check that threads and splits change no bits.

Each table is filled three times in the same memory: whole, whole with one thread, and in two halves. Each half knows
only the table's shape and its own offset. The fingerprints must be equal, and the moments must be those of the scheme.

All arguments of all tables are checked before the first table is filled. A file gets its own name only when it is
complete and has passed the checks.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal, localcontext
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from winit_fast.commands.tensors import dtype_name, integer_from
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
from winit_fast.fingerprints import fingerprint as fingerprint_of
from winit_fast.lowering import ELEMENT_TYPES, LARGEST_NORMAL, ElementType
from winit_fast.memory import empty
from winit_fast.messages import describe_missing, shorten
from winit_fast.parallel import default_threads
from winit_fast.publish import PartialFile, reserve
from winit_fast.schemes import read_scheme
from winit_fast.sparse import zeros_of

__all__ = ["Moments", "add_arguments", "fingerprint", "measure_moments", "predict_moments", "run"]

_CHUNK = 1 << 20  # elements in float64 at a time: 8 MiB
_STANDARD_ERRORS = 6.0  # a correct table exceeds this once in 5e8 runs


class TableSpec(NamedTuple):
    """The embedding table of a real model; `fewer_rows` are enough for a first look."""

    title: str
    rows: int
    fewer_rows: int
    dim: int
    dtype: str
    scheme: str
    name: str


TABLES = {
    "llama3": TableSpec(
        "Llama 3, token embedding", 128_256, 128_256, 4096, "bfloat16", "normal(std=0.02)", "tok_embeddings.weight"
    ),
    # Criteo's 1 TB click logs, capped at 40 million rows a table; DLRM draws U(-1/sqrt(rows), 1/sqrt(rows)).
    "dlrm": TableSpec(
        "MLPerf DLRM, one of the largest tables of the Criteo click logs", 40_000_000, 4_000_000, 128, "float16",
        "uniform(low=-0.00015811388300841897, high=0.00015811388300841897)", "emb_l.0.weight",
    ),
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--table", choices=TABLES, action="append", help="only this table; may be repeated (default: all)")  # fmt: skip
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--full", action="store_true", help="all 40,000,000 rows of dlrm, 10 GB (default: a tenth)")  # fmt: skip
    size.add_argument("--rows", type=integer_from(1), metavar="N", help="number of rows")
    parser.add_argument("--dim", type=integer_from(1), metavar="N", help="number of columns")
    parser.add_argument("--dtype", type=dtype_name, choices=ELEMENT_TYPES, help="default: the table's own")
    parser.add_argument("--scheme", metavar="TEXT", help='such as "he_normal" or "truncated_normal(std=0.02)"')
    parser.add_argument("--seed", type=integer_from(0), default=7, metavar="N", help="default: 7")
    parser.add_argument("--name", metavar="TEXT", help="names the stream (default: the parameter's name in its model)")
    parser.add_argument("--threads", type=integer_from(1), metavar="N", help="default: all CPUs, at least 2")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER",
        help="write TABLE.npy files there, memory-mapped; each has a temporary name until it is complete and checked, "
        "and existing files are refused",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace existing files, once the new one is complete")


def run(options: argparse.Namespace) -> int:
    """Create, time and check the tables; return 0 if all checks hold, else 1."""
    threads = options.threads or max(2, default_threads())
    tables = [_check_table(key, options, threads) for key in dict.fromkeys(options.table or TABLES)]
    if options.out is None:
        _refuse_more_than_memory(tables)
    else:
        files = _prepare_files(tables, options)
        tables = [table._replace(file=file) for table, file in zip(tables, files, strict=True)]
    failures = sum(_create_table(table, options.seed, threads) for table in tables)
    print("all checks hold" if failures == 0 else f"{failures} checks FAILED")
    return min(failures, 1)


class TableJob(NamedTuple):
    """One table to create, with the options applied; `file` is None if it stays in memory."""

    key: str
    spec: TableSpec
    dtype: np.dtype[Any]
    expected: Moments
    std_error_factor: float = 1.0  # standard error of its std, relative to that of a normal
    file: PartialFile | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.spec.rows, self.spec.dim

    @property
    def size(self) -> int:
        """In bytes."""
        return self.spec.rows * self.spec.dim * self.dtype.itemsize

    @property
    def element_type(self) -> ElementType:
        """The dtype as `fill` describes it."""
        return ELEMENT_TYPES[self.spec.dtype]


def _check_table(key: str, options: argparse.Namespace, threads: int) -> TableJob:
    """Refuse a table that cannot be filled, by filling zero of its rows."""
    spec = _with_options(TABLES[key], options)
    dtype = _require_dtype(spec.dtype)
    shape = (spec.rows, spec.dim)
    if math.prod(shape) * dtype.itemsize >= 1 << 63:
        raise ValueError(f"rows and dim must make a table of fewer than 2^63 bytes, got {shorten(str(shape))}")
    fill(
        np.empty((0, spec.dim), dtype), spec.scheme, seed=options.seed, name=spec.name, shape=shape, offset=(0, 0),
        threads=threads,
    )  # fmt: skip
    element_type = ELEMENT_TYPES[spec.dtype]
    distribution = read_scheme(spec.scheme).distribution(shape, is_complex=element_type.is_complex)
    # The kurtosis is 3 for a normal, at most 9 for a normal truncated on one side, and at most 3 for the others.
    std_error_factor = math.sqrt((9 - 1) / (3 - 1)) if isinstance(distribution, TruncatedNormal) else 1.0
    return TableJob(key, spec, dtype, predict_moments(distribution, element_type, shape), std_error_factor)


def _refuse_more_than_memory(tables: list[TableJob]) -> None:
    needed = max(table.size for table in tables)  # one at a time
    if needed > (available := _measure_available_memory()):
        raise ValueError(
            f"{needed:,} bytes are needed and {available:,} available in memory; --out puts them in a file"
        )


def _prepare_files(tables: list[TableJob], options: argparse.Namespace) -> list[PartialFile]:
    """The files to write; refuse existing files, and more bytes than the disk has room for."""
    paths = [options.out / f"{table.key}.npy" for table in tables]
    if any(table.spec.dtype == "float8_e5m2" for table in tables):  # ml_dtypes gives it a name that NumPy cannot read
        raise ValueError(
            "dtype float8_e5m2 cannot be in a .npy file, which np.load could not open: use fill FILE.safetensors"
        )
    taken = [str(path) for path in paths if path.is_file()]
    if taken and not options.force:
        verb, them = ("exists", "it") if len(taken) == 1 else ("exist", "them")
        raise FileExistsError(f"{' and '.join(taken)} {verb} already; --force replaces {them}")
    files = [PartialFile(path, overwrite=options.force) for path in paths]
    needed: dict[int, int] = {}  # bytes, by disk
    for table, file in zip(tables, files, strict=True):
        disk = os.stat(file.folder).st_dev
        needed[disk] = needed.get(disk, 0) + table.size
        if needed[disk] > (free := shutil.disk_usage(file.folder).free):
            raise ValueError(f"{needed[disk]:,} bytes are needed and {free:,} free in {file.folder}")
    return files


def _create_table(table: TableJob, seed: int, threads: int) -> int:
    """Create, time and check one table; return how many checks failed."""
    spec, where = table.spec, "in memory" if table.file is None else f"memory-mapped for {table.file.path}"
    print(f"{spec.title}: {spec.rows:,} x {spec.dim:,} {spec.dtype}, {table.size:,} bytes {where}")
    print(f"  {shorten(spec.scheme)}, seed={seed}, name={spec.name!r}", flush=True)
    if table.file is None:
        failures = _fill_and_check(empty(table.shape, table.dtype), table, seed, threads)
    else:
        folder = table.file.final.parent
        missing = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with table.file:
                # The map is not kept in a variable: Windows cannot rename a file that is mapped.
                failures = _fill_and_check(_map_file(table.file, table.shape, table.dtype), table, seed, threads)
                if failures == 0:
                    table.file.publish()
                    print(f"  written: {table.file.path}")
                else:
                    print(f"  not written, because a check failed: {table.file.path}")
        finally:
            with suppress(OSError):  # a folder with something in it stays
                for one in missing:
                    one.rmdir()
    print()
    return failures


def _map_file(partial: PartialFile, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Map a new file in NumPy's format, with disk space reserved for all of it."""
    with partial.open() as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        reserve(file, start + math.prod(shape) * dtype.itemsize)
        return np.memmap(file, dtype, "r+", start, shape)


def _fill_and_check(memory: NDArray[Any], table: TableJob, seed: int, threads: int) -> int:
    failures = _fill_three_times(memory, table.spec, seed, threads)
    format, expected = table.element_type.format, table.expected
    # Squares of float64 values may overflow or underflow.
    exponent = math.frexp(max(abs(expected.mean), expected.std))[1] if format is FLOAT64 else 0
    failures += _compare_moments(measure_moments(memory, exponent), expected, format, table.std_error_factor)
    if isinstance(memory, np.memmap):
        start = perf_counter()
        memory.flush()
        print(f"  flushed to disk in {perf_counter() - start:.2f} s")
    return failures


def _with_options(table: TableSpec, options: argparse.Namespace) -> TableSpec:
    rows = options.rows or (table.rows if options.full else table.fewer_rows)
    dtype = options.dtype or table.dtype
    if dtype == "bfloat16" and options.dtype is None and _find_dtype(dtype) is None:
        print(f"{describe_missing(f'dtype {dtype}', 'ml_dtypes', 'bfloat16')}; float16 is used instead\n")
        dtype = "float16"
    return table._replace(
        rows=rows, dim=options.dim or table.dim, dtype=dtype,
        scheme=table.scheme if options.scheme is None else options.scheme,
        name=table.name if options.name is None else options.name,
    )  # fmt: skip


def _find_dtype(name: str) -> np.dtype[Any] | None:
    if not name.startswith(("bfloat16", "float8_")):
        return np.dtype(name)
    try:
        import ml_dtypes
    except ModuleNotFoundError:
        return None
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return dtype


def _require_dtype(name: str) -> np.dtype[Any]:
    dtype = _find_dtype(name)
    if dtype is None:
        raise ValueError(describe_missing(f"dtype {name}", "ml_dtypes", "bfloat16"))
    return dtype


def _measure_available_memory() -> float:
    """The bytes that the system can give without swapping; infinity if it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    kibibytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return math.inf if kibibytes is None else 1024 * int(kibibytes)


def _fill_three_times(memory: NDArray[Any], table: TableSpec, seed: int, threads: int) -> int:
    middle = table.rows // 2
    whole, halves = [(0, table.rows)], [(middle, table.rows), (0, middle)]
    ways = (
        ("whole", whole, threads, "untouched memory"),
        ("whole", whole, 1, "touched before"),
        ("two halves, the second one first", halves, threads, "touched before"),
    )
    fingerprints: list[str] = []
    for what, pieces, count, state in ways:
        if fingerprints:
            memory.view(np.uint8).fill(0xFF)  # so that an element that is not written again shows
        start = perf_counter()
        for first, last in pieces:
            fill(
                memory[first:last], table.scheme, seed=seed, name=table.name, shape=memory.shape, offset=(first, 0),
                threads=count,
            )  # fmt: skip
        seconds = perf_counter() - start
        fingerprints.append(fingerprint_of(memory, threads=threads))
        by = "1 thread" if count == 1 else f"{count} threads"
        rate = f"{seconds:8.3f} s  {memory.nbytes / seconds / 1e9:6.2f} GB/s"
        print(f"  {fingerprints[-1]}  {rate}  {what}, {by}, {state}", flush=True)
    if len(set(fingerprints)) > 1:
        print("  FAILED: the fingerprints differ")
        return 1
    return 0


def fingerprint(memory: NDArray[Any]) -> str:
    """Hash the bytes of a C-contiguous array: BLAKE2b, 128 bits in hexadecimal.

    `embeddings` printed it once. Now it prints `winit_fast.fingerprints.fingerprint`, which is twenty times as fast.

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
    """Moments of a table, measured or expected; `size` counts the values, of expected ones those that are drawn."""

    mean: float
    std: float
    min: float
    max: float
    size: int


def measure_moments(memory: NDArray[Any], exponent: int = 0) -> Moments:
    """Measure moments in float64, chunk by chunk, without a copy of the table.

    Parameters
    ----------
    memory : ndarray
        C-contiguous. A complex number counts as two values.
    exponent : int, default 0
        The values are divided by 2^exponent before they are squared, so that float64 neither overflows nor underflows.

    Examples
    --------
    >>> import numpy as np
    >>> measure_moments(np.array([[1, 2], [3, 6]], "float16"))
    Moments(mean=3.0, std=1.8708286933869707, min=1.0, max=6.0, size=4)
    """
    values = memory.reshape(-1)
    if values.dtype.kind == "c":
        values = values.view(values.real.dtype)
    mean = squares = 0.0  # squares: of deviations from the mean; merged as in Chan, Golub and LeVeque 1979
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


_LARGEST_ELEMENT = 1 + 2**-10  # of an orthogonal matrix: rounding may leave it a little above 1


def predict_moments(distribution: Distribution, element_type: ElementType, shape: tuple[int, int]) -> Moments:
    """Predict the moments of a table, and bounds that its values cannot exceed.

    Parameters
    ----------
    distribution : Distribution
        One that fills a matrix; not one for kernels of convolutions.
    element_type : ElementType
        The type that values are rounded to. The moments are those before rounding.
    shape : tuple of int
        Rows and columns.

    Examples
    --------
    >>> from winit_fast.distributions import Identity, Uniform
    >>> from winit_fast.element_types import ELEMENT_TYPES
    >>> bfloat16 = ELEMENT_TYPES["bfloat16"]
    >>> predict_moments(Uniform(0.0, 1.0), bfloat16, (10, 20))
    Moments(mean=0.5, std=0.2886751345948129, min=0.0, max=1.0, size=200)
    >>> predict_moments(Uniform(0.0, 1.0, "below_high"), bfloat16, (10, 20)).max
    0.99609375
    >>> predict_moments(Identity(2.0), bfloat16, (2, 2))
    Moments(mean=1.0, std=1.0, min=0.0, max=2.0, size=0)
    """
    format, is_complex = element_type.format, element_type.is_complex
    count = math.prod(shape) * (2 if is_complex else 1)
    farthest = float(LARGEST_NORMAL[element_type.bits]) * (1 + 2**-20)  # room for the rounding of float32 arithmetic

    def within(low: float, high: float, mean: float, std: float, size: int = count) -> Moments:
        low, high = (bound if math.isinf(bound) else format.nearest(bound) for bound in (low, high))
        return Moments(mean, std, low, high, size)

    def around(mean: float, std: float, farthest: float, size: int = count) -> Moments:
        return within(mean - farthest * std, mean + farthest * std, mean, std, size)

    def given(values: Sequence[float], times: Sequence[int]) -> Moments:
        """Moments of a distribution that draws nothing: each value occurs that many times."""
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
        case TruncatedNormal(mean, std, below, above):
            low, high = mean + std * max(below, -40.0), mean + std * min(above, 40.0)
            return within(low, high, *_truncated_moments(mean, std, below, above))
        case ComplexNormal(std):
            return around(0.0, std / math.sqrt(2), farthest)
        case ComplexUniform(std):
            return around(0.0, std / math.sqrt(2), 2 * (1 + 2**-20))
        case ComplexTruncatedNormal(std):
            # Standard deviation of the real part, and of the imaginary part, relative to that of the uncut normal.
            ratio = math.sqrt((1 - 5 * math.exp(-4)) / (1 - math.exp(-4)) / 2)
            return around(0.0, std * ratio, 2 * (1 + 2**-20) / ratio)
        case Orthogonal(gain):
            root = math.sqrt(max(shape))  # the vectors along the longer side have the norm gain, exactly
            return around(0.0, abs(gain) / root, _LARGEST_ELEMENT * root)
        case Sparse(sparsity, std, per):
            units, elements = shape if per == "in" else shape[::-1]
            kept = units * (elements - zeros_of(sparsity, elements))
            return within(-std * farthest, std * farthest, 0.0, std * math.sqrt(kept / count), kept)
    raise AssertionError(distribution)


def _truncated_moments(mean: float, std: float, below: float, above: float) -> tuple[float, float]:
    """Mean and standard deviation of a normal that is truncated at `below` and `above`, in units of `std`."""
    with localcontext(with_precision(60)):

        def density(x: float) -> Decimal:
            return Decimal(0) if math.isinf(x) else (-(Decimal(x) ** 2) / 2).exp() / Decimal(2 * math.pi).sqrt()

        def moment(x: float) -> Decimal:
            return Decimal(0) if math.isinf(x) else Decimal(x) * density(x)

        mass = upper_tail(below) - upper_tail(above) if above > -below else upper_tail(-above) - upper_tail(-below)
        shift = (density(below) - density(above)) / mass
        variance = 1 + (moment(below) - moment(above)) / mass - shift * shift
        return mean + std * float(shift), std * float(variance.sqrt())


def _compare_moments(found: Moments, expected: Moments, format: Format, std_error_factor: float) -> int:
    # Rounding to the format adds at most `grain` to a standard deviation, and to a mean that symmetry does not keep at
    # 0. Sums of float64 values are accurate to 36 bits, which matters for float64 tables only.
    precision = min(format.precision, 37)
    grain = max(2.0 ** (1 - precision) * (abs(expected.mean) + expected.std), 2.0**format.min_exponent)
    is_drawn = expected.size > 0
    added = min(grain, grain * grain / expected.std) if is_drawn and expected.std > 0.0 else grain
    mean_within = _STANDARD_ERRORS * expected.std / math.sqrt(found.size) if is_drawn else 0.0
    if expected.mean != 0.0 or not is_drawn:
        mean_within += grain
    std_within = added
    if is_drawn:
        std_within += _STANDARD_ERRORS * std_error_factor * expected.std / math.sqrt(2 * expected.size)
    checks = (
        ("mean", found.mean, f"{expected.mean:+.6e} +- {mean_within:.1e}",
         abs(found.mean - expected.mean) <= mean_within),
        ("std", found.std, f"{expected.std:+.6e} +- {std_within:.1e}",
         abs(found.std - expected.std) <= std_within),
        ("min", found.min, f"{expected.min:+.6e} or more", found.min >= expected.min),
        ("max", found.max, f"{expected.max:+.6e} or less", found.max <= expected.max),
    )  # fmt: skip
    for what, value, expectation, holds in checks:
        print(f"  {what:4} {value:+.6e}, expected {expectation}{'' if holds else '  FAILED'}")
    return sum(not holds for _, _, _, holds in checks)
