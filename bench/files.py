"""GB/s of writing a file with fdatasync: ours against dd, `tofile` and our fill of memory; all in turn, round by round.

``python bench/files.py [--megabytes 2048] [--rounds 5] [--folder .] [--json FILE]`` prints a table of medians. The
folder should be on a disk, not in memory. A method that this system lacks is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

import winit_fast
from winit_fast.files.layouts import Layout, Segment
from winit_fast.files.specs import Recipe, TensorSpec
from winit_fast.files.writing import BLOCK, write_layout
from winit_fast.memory import dtype_of

SCHEME, DTYPE, COLUMNS = "normal(std=0.01)", "bfloat16", 128
OURS, FILL = "winit_fast, a file", "winit_fast, 16 MiB of memory again and again"
#: Ours is to reach this part of the slower of: the fastest other way to write, and our own fill.
TARGET = 0.9
BEYOND = 100 << 20  # bytes of memory beyond --memory that a process may hold


def recipe_of(size: int) -> tuple[Recipe, Layout]:
    """A table of that many bytes in one file."""
    rows = size // COLUMNS // dtype_of(DTYPE).itemsize
    recipe = Recipe((TensorSpec("user_id", (rows, COLUMNS), DTYPE, SCHEME),), 7)
    return recipe, Layout("raw", b"", (Segment(recipe.tensors[0].whole, 0),), recipe.tensors[0].nbytes)


def methods_of(size: int, threads: int, path: Path) -> dict[str, Callable[[], object]]:
    """Each writes the file, or fills as many bytes."""
    recipe, layout = recipe_of(size)
    rows = recipe.tensors[0].shape[0]
    table = winit_fast.empty((rows, COLUMNS), DTYPE)
    table.view(np.uint8)[...] = 1
    block = winit_fast.empty((BLOCK // COLUMNS // table.itemsize, COLUMNS), DTYPE, align=4096)

    def fill() -> None:
        for first in range(0, rows, len(block)):
            part = block[: rows - first]
            winit_fast.fill(part, SCHEME, seed=7, name="user_id", shape=table.shape, offset=(first, 0), threads=threads)

    def tofile() -> None:
        with open(path, "wb") as file:
            table.tofile(file)
            file.flush()
            getattr(os, "fdatasync", os.fsync)(file.fileno())

    def dd(*options: str) -> Callable[[], object]:
        command = ["dd", "if=/dev/zero", f"of={path}", f"bs={BLOCK}", f"count={size // BLOCK}", "conv=fdatasync"]
        return lambda: subprocess.run([*command, *options], check=True, capture_output=True)

    return {
        OURS: lambda: write_layout(path, layout, recipe, threads=threads),
        "dd oflag=direct": dd("oflag=direct"),
        "dd": dd(),
        "ndarray.tofile": tofile,
        FILL: fill,
    }


def measure_peak(size: int, memory: int, threads: int, folder: Path) -> int | None:
    """The most memory that a fresh process holds that writes the file."""
    if sys.platform != "linux":
        return None
    code = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from pathlib import Path
from files import recipe_of, write_layout
recipe, layout = recipe_of({size})
write_layout({str(folder / "peak")!r}, layout, recipe, memory={memory}, threads={threads})
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) << 10)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    (folder / "peak").unlink()
    return int(done.stdout)


def main() -> int:
    """Measure, print and judge; the exit status says nothing about speed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=2048, help="size of the file in MiB (default: 2048)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--threads", type=int, default=2, help="of ours (default: 2)")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the files are written (default: here)")
    parser.add_argument("--json", type=Path, help="write the results there")
    options = parser.parse_args()
    size = options.megabytes << 20
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        methods = methods_of(size, options.threads, folder / "file")
        if shutil.which("dd") is None or sys.platform != "linux":  # others' dd has no such options
            methods = {name: method for name, method in methods.items() if not name.startswith("dd")}
        seconds: dict[str, list[float]] = {name: [] for name in methods}
        for _ in range(options.rounds):
            for name, method in list(methods.items()):
                (folder / "file").unlink(missing_ok=True)
                start = perf_counter()
                try:
                    method()
                except subprocess.CalledProcessError:  # a file system without O_DIRECT
                    del methods[name], seconds[name]
                    continue
                seconds[name].append(perf_counter() - start)
        memory = 256 << 20
        peak = measure_peak(size, memory, options.threads, folder)
    rates = {name: size / median(each) / 1e9 for name, each in seconds.items()}
    bound = min(rates[FILL], max(rate for name, rate in rates.items() if name not in (OURS, FILL)))
    print(f"| {options.megabytes} MiB of {DTYPE} normals, {options.threads} threads | GB/s |\n| --- | --- |")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.2f} |")
    print(f"\nours / min(fastest other, fill of memory): {rates[OURS] / bound:.2f}, to be at least {TARGET}")
    if peak is not None:
        print(f"peak memory: {peak >> 20} MiB, to be at most {(memory + BEYOND) >> 20} MiB")
    if options.json:
        found = {"size": size, "rates": rates, "ratio": rates[OURS] / bound, "peak": peak}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
