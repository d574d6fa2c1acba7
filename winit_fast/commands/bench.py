"""Measure for half a minute: winit_fast beside what is installed, NumPy and torch.

Each cell of the table is the fastest of several runs, which take turns. With --folder, a file is written there, too.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from winit_fast.commands.tensors import integer_from
from winit_fast.fill import fill
from winit_fast.memory import dtype_of, empty
from winit_fast.parallel import default_threads

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="in all, about (default: 30)")
    parser.add_argument(
        "--megabytes", type=integer_from(1), default=128, metavar="N", help="of memory that is filled (default: 128)"
    )
    parser.add_argument("--threads", type=integer_from(1), metavar="N", help="default: all CPUs")
    parser.add_argument("--folder", type=Path, metavar="FOLDER", help="write files there too, and remove them")


def run(options: argparse.Namespace) -> int:
    """Print the tables; return 0."""
    if options.folder is not None and not options.folder.is_dir():
        raise NotADirectoryError(f"--folder must be a folder that exists, got {options.folder}")
    threads = options.threads or default_threads()
    size = options.megabytes << 20
    cells = _memory_cells(size, threads)
    if options.folder is not None:
        cells += _file_cells(options.folder, size, threads)
    rates = _measure(cells, size, options.seconds)
    print(f"GB/s, {options.megabytes} MiB that were touched before, the fastest of several runs")
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*rates, strict=True))
    width = max(map(len, rows))
    print(" " * width, *columns, sep="  ")
    for row in rows:
        cells_of_row = (f"{rates[row, column] / 1e9:.2f}" if (row, column) in rates else "" for column in columns)
        print(f"{row:<{width}}", *map(str.rjust, cells_of_row, map(len, columns)), sep="  ")
    return 0


class Cell(NamedTuple):
    """One thing that is measured."""

    row: str
    column: str
    call: Callable[[], object]


def _memory_cells(size: int, threads: int) -> list[Cell]:
    cells = []
    rng = np.random.default_rng(7)
    try:
        torch: Any = import_module("torch")
    except ImportError:
        torch = None
    for dtype in ("float32", "bfloat16"):
        try:
            out = empty(size // dtype_of(dtype).itemsize, dtype)
        except TypeError:  # ml_dtypes is not installed
            continue
        out.view(np.uint8).fill(1)
        tensor = torch.empty(out.size, dtype=getattr(torch, dtype)).zero_() if torch is not None else None
        for scheme, by_numpy, by_torch in _SCHEMES:
            row = f"{scheme} {dtype}"
            for name, count in dict.fromkeys([(f"winit_fast, {_count(count)}", count) for count in (threads, 1)]):
                cells.append(Cell(row, name, _call_of(fill, out, scheme, seed=7, name=row, threads=count)))
            if by_numpy and dtype == "float32":
                cells.append(Cell(row, "NumPy", _call_of(getattr(rng, by_numpy), dtype=np.float32, out=out)))
            if tensor is not None:
                call = _call_of(getattr(torch.nn.init, by_torch), tensor)
                cells.append(Cell(row, f"torch, {_count(torch.get_num_threads())}", call))
        call = _call_of(fill, out, "constant(1)", threads=threads)
        cells.append(Cell(f"constant(1) {dtype}", f"winit_fast, {_count(threads)}", call))
    return cells


def _count(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


# Ours, the method of a NumPy generator, and the function of torch.nn.init.
_SCHEMES = (
    ("uniform", "random", "uniform_"),
    ("normal", "standard_normal", "normal_"),
    ("truncated_normal", "", "trunc_normal_"),
)


def _call_of(function: Callable[..., object], *arguments: Any, **keywords: Any) -> Callable[[], object]:
    return lambda: function(*arguments, **keywords)


def _file_cells(folder: Path, size: int, threads: int) -> list[Cell]:
    from winit_fast.files import TensorSpec, write

    spec = TensorSpec("bench", (size // 256, 64), "float32", "normal")
    ready = spec.initializer.fill(empty(spec.shape, spec.dtype), seed=7)
    path = folder / f"winit_fast-bench-{os.getpid()}.raw"

    def ours() -> None:
        try:
            write(path, spec, seed=7, threads=threads)
        finally:
            path.unlink(missing_ok=True)

    def tofile() -> None:
        try:
            with open(path, "xb") as file:
                ready.tofile(file)
                file.flush()
                os.fsync(file.fileno())
        finally:
            path.unlink(missing_ok=True)

    row = "a file on the disk (NumPy: tofile)"
    return [Cell(row, f"winit_fast, {_count(threads)}", ours), Cell(row, "NumPy", tofile)]


def _measure(cells: list[Cell], size: int, seconds: float) -> dict[tuple[str, str], float]:
    """The best rate of each cell, in bytes a second; they take turns, for as long as there is time."""
    best: dict[tuple[str, str], float] = {}
    end = perf_counter() + seconds
    while True:
        begin = perf_counter()
        for cell in cells:
            start = perf_counter()
            cell.call()
            rate = size / (perf_counter() - start)
            best[cell.row, cell.column] = max(best.get((cell.row, cell.column), 0.0), rate)
        now = perf_counter()
        if now + (now - begin) > end:
            return best
