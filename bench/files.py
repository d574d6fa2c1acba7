"""GB/s of files, written with fdatasync and read: ours against dd, NumPy, checksums and our fill of memory.

``python bench/files.py [--megabytes 2048] [--rounds 5] [--folder .] [--json FILE]`` prints a table of medians; all take
turns, round by round. The folder should be on a disk, not in memory. A method that this system lacks is left out.

Then: how much memory a process takes, what ``kill -9`` costs a file of five times that size (10 GiB), and what the
command imports beyond NumPy.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

import winit_fast
from winit_fast.files import verify
from winit_fast.files.layouts import Layout, Segment
from winit_fast.files.specs import Recipe, TensorSpec
from winit_fast.files.writing import BLOCK, write_layout
from winit_fast.memory import dtype_of

SCHEME, DTYPE, COLUMNS = "normal(std=0.01)", "bfloat16", 128
OURS, FILL = "winit_fast, write a file", "winit_fast, fill 16 MiB of memory again and again"
VERIFY, VERIFY_CACHED = "winit_fast, verify a file", "winit_fast, verify a file that is in the cache"
#: Ours is to reach this part of the slower of: the fastest other way to write, and our own fill.
TARGET = 0.9
VERIFY_TARGET = 0.7  # of writing the file
BEYOND = 100 << 20  # bytes of memory beyond --memory that a process may hold
REPEATED_TARGET = 0.01  # of a file that was interrupted: what is written again
IMPORT_TARGET = 60  # milliseconds beyond NumPy's


def recipe_of(size: int) -> tuple[Recipe, Layout]:
    """A table of that many bytes in one file."""
    rows = size // COLUMNS // dtype_of(DTYPE).itemsize
    recipe = Recipe((TensorSpec("user_id", (rows, COLUMNS), DTYPE, SCHEME),), 7)
    return recipe, Layout("raw", b"", (Segment(recipe.tensors[0].whole, 0),), recipe.tensors[0].nbytes)


class Method(NamedTuple):
    """One thing that is measured."""

    call: Callable[[], object]
    before: Callable[[], object]  # not measured


def writers_of(size: int, threads: int, path: Path) -> dict[str, Method]:
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

    calls = {
        OURS: lambda: write_layout(path, layout, recipe, threads=threads),
        "dd oflag=direct": _dd(size, "if=/dev/zero", f"of={path}", "conv=fdatasync", "oflag=direct"),
        "dd": _dd(size, "if=/dev/zero", f"of={path}", "conv=fdatasync"),
        "ndarray.tofile": tofile,
        FILL: fill,
    }
    return {name: Method(call, lambda: path.unlink(missing_ok=True)) for name, call in calls.items()}


def readers_of(size: int, threads: int, path: Path) -> dict[str, Method]:
    """Each reads the whole of a file that `write_layout` wrote: ours compare it, others' add it up or keep it."""
    recipe, layout = recipe_of(size)
    write_layout(path, layout, recipe, threads=threads)

    def compare() -> None:
        if not verify(path, recipe=recipe, threads=threads).is_right:
            raise RuntimeError(f"{path} is not as it should be")

    def read(take: Callable[[memoryview], object]) -> None:
        block = memoryview(bytearray(BLOCK))
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(block):
                take(block[:count])

    def empty_cache() -> None:
        if hasattr(os, "posix_fadvise"):
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    cold = {
        VERIFY: compare,
        "dd iflag=direct, to nowhere": _dd(size, f"if={path}", "of=/dev/null", "iflag=direct"),
        "np.fromfile": lambda: np.fromfile(path, np.uint8),
        "hashlib's SHA-256 of it": lambda: read(hashlib.sha256().update),
        "zlib's CRC-32 of it": lambda: read(zlib.crc32),
    }
    cached = Method(compare, lambda: read(len))
    return {**{name: Method(call, empty_cache) for name, call in cold.items()}, VERIFY_CACHED: cached}


def _dd(size: int, *options: str) -> Callable[[], object]:
    command = ["dd", f"bs={BLOCK}", f"count={size // BLOCK}", *options]
    return lambda: subprocess.run(command, check=True, capture_output=True)


def measure_peaks(size: int, memory: int, threads: int, folder: Path) -> dict[str, int]:
    """The most memory that fresh processes hold: one that writes the file, and one that verifies it."""
    if sys.platform != "linux":
        return {}
    path = str(folder / "peak.raw")
    calls = {
        OURS: f"write_layout({path!r}, layout, recipe, memory={memory}, threads={threads})",
        VERIFY: f"verify({path!r}, recipe=recipe, memory={memory}, threads={threads})",
    }
    peaks = {}
    for name, call in calls.items():
        code = f"""{_beginning(size)}
{call}
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) << 10)
"""
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        peaks[name] = int(done.stdout)
    Path(path).unlink(missing_ok=True)
    return peaks


def _beginning(size: int) -> str:
    return f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from files import recipe_of, verify, write_layout
recipe, layout = recipe_of({size})
"""


def measure_kills(size: int, kills: int, threads: int, folder: Path) -> list[float]:
    """After each of some kills at random moments, what is written again, as a share of the file.

    The kernel counts the bytes that a process sends to the disk. Those of the process that was killed and of the one
    that goes on, less the size of the file, were written twice; the journal is among them.
    """
    path = folder / "killed.raw"
    code = f"""{_beginning(size)}
def show(done, total):
    print(done, flush=True)
write_layout({str(path)!r}, layout, recipe, threads={threads}, resume=True, progress=show)
"""
    shares: list[float] = []
    moments = random.Random(7)
    while sys.platform == "linux" and len(shares) < kills:
        moment = moments.uniform(0.02, 0.98) * size
        written = _bytes_until(code, moment)
        if path.exists():  # it ended before it was killed, as a small file may
            shares.append(0.0)
        else:
            again = _bytes_until(code, None)
            if written + again < size:  # a file system that does not count
                return []
            shares.append((written + again - size) / size)
        path.unlink()
    return shares


def _bytes_until(code: str, moment: float | None) -> int:
    """What a process sent to the disk until it had done so many bytes and was killed, or until its own end."""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if moment is not None and int(line) >= moment:
            child.send_signal(signal.SIGKILL)
    child.stdout.close()
    octets: int = _wait(child).ru_oublock * 512
    return octets


def measure_import(rounds: int, folder: Path) -> float:
    """Milliseconds that the command takes to import all that it needs to write a file, beyond those of NumPy.

    The fastest of some fresh processes each, which take turns: their time on the CPU, where the system tells that.
    """
    codes = ("import numpy", "import winit_fast.__main__, winit_fast.commands.fill, winit_fast.files.writes")
    seconds: tuple[list[float], ...] = ([], [])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    beginning = f"import sys; sys.path[:0] = {sys.path!r}; "
    for _ in range(rounds + 1):  # one to write the bytecode
        for code, each in zip(codes, seconds, strict=True):
            start = perf_counter()
            child = subprocess.Popen([sys.executable, "-c", beginning + code], env=environment)
            usage = _wait(child)
            each.append(perf_counter() - start if usage is None else usage.ru_utime + usage.ru_stime)
    return 1e3 * (min(seconds[1]) - min(seconds[0]))


def _wait(child: subprocess.Popen[str] | subprocess.Popen[bytes]) -> Any:
    """Wait for the end of a process; what it used, where the system tells that."""
    usage = None
    if hasattr(os, "wait4"):
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.wait() not in (0, -getattr(signal, "SIGKILL", 0)):
        raise RuntimeError(f"a process ended with {child.returncode}")
    return usage


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
    memory = 256 << 20
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        methods = writers_of(size, options.threads, folder / "file")
        methods |= readers_of(size, options.threads, folder / "kept.raw")
        if shutil.which("dd") is None or sys.platform != "linux":  # others' dd has no such options
            methods = {name: method for name, method in methods.items() if not name.startswith("dd")}
        seconds: dict[str, list[float]] = {name: [] for name in methods}
        for _ in range(options.rounds):
            for name, method in list(methods.items()):
                method.before()
                start = perf_counter()
                try:
                    method.call()
                except subprocess.CalledProcessError:  # a file system without O_DIRECT
                    del methods[name], seconds[name]
                    continue
                seconds[name].append(perf_counter() - start)
        (folder / "kept.raw").unlink()
        peaks = measure_peaks(size, memory, options.threads, folder)
        repeated = measure_kills(5 * size, options.rounds, options.threads, folder)
        beyond_numpy = measure_import(5 * options.rounds, folder)
    rates = {name: size / median(each) / 1e9 for name, each in seconds.items()}
    bound = min(rates[FILL], max(rates[name] for name in ("dd oflag=direct", "dd", "ndarray.tofile") if name in rates))
    print(f"| {options.megabytes} MiB of {DTYPE} normals, {options.threads} threads | GB/s |\n| --- | --- |")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.2f} |")
    print(f"\nwritten / min(fastest other, fill of memory): {rates[OURS] / bound:.2f}, to be at least {TARGET}")
    for name in (VERIFY, VERIFY_CACHED):
        print(f"{name} / {OURS}: {rates[name] / rates[OURS]:.2f}, to be at least {VERIFY_TARGET}")
    for name, peak in peaks.items():
        print(f"{name}: peak memory {peak >> 20} MiB, to be at most {(memory + BEYOND) >> 20} MiB")
    if repeated:
        print(
            f"written again after kill -9, of a file of {5 * options.megabytes} MiB: "
            f"{100 * median(repeated):.2f} % (at most {100 * max(repeated):.2f} %), to be below "
            f"{100 * REPEATED_TARGET:g} %"
        )
    print(f"import of the command: {beyond_numpy:.0f} ms beyond NumPy's, to be at most {IMPORT_TARGET} ms")
    if options.json:
        found = {"size": size, "threads": options.threads, "dtype": DTYPE, "rates": rates, "peaks": peaks}
        found |= {"repeated": repeated, "repeated_size": 5 * size, "import": beyond_numpy}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
