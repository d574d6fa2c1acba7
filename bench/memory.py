"""Peak memory of filling a 2 GiB array, beyond the array: one fresh process a method.

``python bench/memory.py [--megabytes 2048] [--json FILE]`` prints a table. Linux only: it reads VmHWM, the most that a
process ever held; ru_maxrss would do, but survives a fork and so hides growth.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from frameworks import LIBRARIES, NAMES, of_jax_on_devices


def ours(scheme: str, dtype: str) -> Callable[[int], Any]:
    """Fill an array of our own."""
    import winit_fast

    if dtype not in ("float16", "float32", "float64"):
        import ml_dtypes

        dtype = getattr(ml_dtypes, dtype)
    kind = np.dtype(dtype)
    return lambda octets: winit_fast.fill(winit_fast.empty(octets // kind.itemsize, kind), scheme, seed=7, name="table")


def orthogonal(rows: int, columns: int) -> Callable[[int], Any]:
    """An orthogonal matrix of a 32nd of the octets: its work grows with their power of 3/2."""
    import winit_fast

    def fill(octets: int) -> object:
        unit = math.isqrt(octets // 128 // (rows * columns))
        out = winit_fast.empty((rows * unit, columns * unit))
        return winit_fast.fill(out, "orthogonal", seed=7, name="weight")

    return fill


def numpy_in_place(octets: int) -> object:
    """Let NumPy fill an array."""
    out = np.empty(octets // 4, np.float32)
    return np.random.Generator(np.random.PCG64(7)).standard_normal(out=out, dtype=np.float32)


def numpy_scaled(octets: int) -> object:
    """The usual line: a standard deviation needs `normal`, which draws float64, and a cast."""
    return np.random.default_rng(7).normal(0.0, 0.02, octets // 4).astype(np.float32)


def torch(scheme: str, is_square: bool = False) -> Callable[[int], Any]:
    """An initializer of torch.nn.init; of a matrix as `orthogonal` makes it."""
    import torch as module

    fill = getattr(module.nn.init, scheme)
    if is_square:
        return lambda octets: fill(module.empty(math.isqrt(octets // 128), math.isqrt(octets // 128)))
    return lambda octets: fill(module.empty(octets // 4))


def torch_module(is_on_meta: bool) -> Callable[[int], Any]:
    """A model, half of it an embedding, by rules: in memory that is there, or from the meta device."""
    import torch as module

    from winit_fast import adapters

    adapters.torch.init_module_(module.nn.Linear(1, 1), "torch", seed=7)
    with module.device("meta"):  # torch loads 70 MiB of its own modules for the first tensor there
        module.nn.Embedding(1, 1)

    def fill(octets: int) -> object:
        layers, width = 4, math.isqrt(octets // 32)
        with module.device("meta"):
            table = module.nn.Embedding(layers * width, width)
            model = module.nn.Sequential(table, *(module.nn.Linear(width, width) for _ in range(layers)))
        if is_on_meta:
            adapters.torch.materialize_(model, "torch", seed=7)
        else:
            adapters.torch.init_module_(model.to_empty(device="cpu"), "torch", seed=7)
        return list(model.parameters())

    return fill


def framework(library: str, name: str, who: str, **environment: str) -> Callable[[int], Any]:
    """A new matrix of a framework's, after a small one: what it loads when it is first used is not counted.

    Their own functions make one of a quarter of the octets, of which some take nine times as much.
    """
    os.environ.update(environment)
    make = getattr(LIBRARIES[library]()[name], who)
    make((1, 1024))
    rows = 1024 if who == "ours" else 4096
    return lambda octets: make((octets // rows // 4, 1024))


def jax_on_devices(name: str, who: str) -> Callable[[int], Any]:
    """A matrix split over 4 devices of the CPU's by a program, as `framework` makes one."""
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
    os.environ["JAX_PLATFORMS"] = "cpu"
    make = getattr(of_jax_on_devices()[name], who)
    make((4, 1024))
    rows = 1024 if who == "ours" else 4096
    return lambda octets: make((octets // rows // 4, 1024))


def octets_of(made: Any) -> int:
    """What an array, a tensor or a list of them holds."""
    if isinstance(made, list):
        return sum(map(octets_of, made))
    return made.nbytes if hasattr(made, "nbytes") else made.numpy().nbytes


METHODS: dict[str, Callable[[], Callable[[int], Any]]] = {
    "winit_fast normal float32": lambda: ours("normal", "float32"),
    "winit_fast truncated_normal float32": lambda: ours("truncated_normal", "float32"),
    "winit_fast normal bfloat16": lambda: ours("normal", "bfloat16"),
    "winit_fast orthogonal float32, square": lambda: orthogonal(1, 1),
    "winit_fast orthogonal float32, tall": lambda: orthogonal(4, 1),
    "winit_fast orthogonal float32, wide": lambda: orthogonal(1, 4),
    "torch.nn.init.orthogonal_ float32, square": lambda: torch("orthogonal_", is_square=True),
    "adapters.torch.init_module_": lambda: torch_module(is_on_meta=False),
    "adapters.torch.materialize_": lambda: torch_module(is_on_meta=True),
    **{
        f"{'adapters' if who == 'ours' else 'own'}: {library} {name}": partial(framework, library, name, who)
        for library, names in NAMES.items()
        for name in names
        for who in ("ours", "theirs")
    },
    "adapters: tensorflow normal, with its system allocator": partial(
        framework, "tensorflow", "normal", "ours", TF_ONEDNN_USE_SYSTEM_ALLOCATOR="1"
    ),
    **{
        f"{'adapters' if who == 'ours' else 'own'}: jax normal on 4 devices, {name}": partial(jax_on_devices, name, who)
        for name in ("jit(out_shardings)", "with_partitioning")
        for who in ("ours", "theirs")
    },
    "NumPy standard_normal(out=) float32": lambda: numpy_in_place,
    "NumPy normal(0, 0.02).astype(float32)": lambda: numpy_scaled,
    "torch.nn.init.normal_ float32": lambda: torch("normal_"),
    "torch.nn.init.trunc_normal_ float32": lambda: torch("trunc_normal_"),
}


def held(key: str) -> int:
    """Bytes that this process holds (VmRSS) or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def measure_here(name: str, octets: int) -> None:
    """Print the peak beyond the array: over what the process held before, and in all."""
    try:
        fill = METHODS[name]()
    except ImportError as error:
        print(json.dumps({"method": name, "skipped": str(error)}))
        return
    before = held("VmRSS")
    filled = fill(octets)
    peak, size = held("VmHWM"), octets_of(filled)
    allowed = 64 << 20
    if "orthogonal" in name:  # and twice the square of its short side where that is at most half the other
        short = min(filled.shape)
        allowed += 2 * short * short * 4 if 2 * short <= max(filled.shape) else 0
    print(
        json.dumps(
            {"method": name, "array": size, "beyond": peak - before - size, "in_all": peak - size, "allowed": allowed}
        )
    )


def main() -> int:
    """Measure each method in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=2048, help="size of the array in MiB (default: 2048)")
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    octets = options.megabytes << 20
    if options.method is not None:
        measure_here(options.method, octets)
        return 0
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    results = []
    print(f"peak beyond the array of {options.megabytes} MiB     of the fill   with Python and imports")
    for name in METHODS:
        command = [sys.executable, __file__, "--method", name, "--megabytes", str(options.megabytes)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        result = json.loads(done.stdout)
        results.append(result)
        numbers = (
            f"{result['beyond'] / 2**20:9.1f} MiB {result['in_all'] / 2**20:9.1f} MiB"
            if "array" in result
            else f"skipped: {result['skipped']}"
        )
        print(f"{name:40} {numbers}", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
