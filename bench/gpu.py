"""On a machine with a GPU, the bits first, then the speed: ``python bench/gpu.py``.

Values are compared with the CPU's; the first difference ends it with status 1. Then winit_fast is measured beside what
PyTorch has. ``--dry`` does all of it in small on the CPU, in Triton's interpreter, where times mean nothing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

if "--dry" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import torch
import triton

import winit_fast
from winit_fast import adapters
from winit_fast.adapters._device import launch as launching
from winit_fast.adapters._device import trust
from winit_fast.adapters._memory.torch import array_of

SCHEMES = (
    "constant(0.7)", "uniform", "uniform(low=-0.1, high=0.3)", "uniform(low=-3e38, high=3.2e38)", "normal",
    "normal(mean=0.5, std=0.02)", "normal(std=1e-38)", "truncated_normal", "truncated_normal(std=0.02)",
    "truncated_normal(low=-1, high=1)", "truncated_normal(low=-3, high=3)", "truncated_normal(low=-1, high=inf)",
    "truncated_normal(low=1, high=2)", "truncated_normal(low=9, high=inf)", "truncated_normal(low=-31, high=-30)",
)  # fmt: skip
COMPLEX = ("he_normal", "he_uniform", "he_truncated_normal")
TYPES = (
    torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float64,
    torch.complex64, torch.complex128,
)  # fmt: skip
PIECE = 1 << 26  # elements compared at once, so that the host needs little memory


class Bits:
    """Compares with the CPU, and counts."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.fills = self.values = 0

    def compare(self, tensor: torch.Tensor, what: str, scheme: str, offset: tuple[int, ...], **keywords: Any) -> None:
        """Compare a tensor, a run or rows, with what the CPU makes of it, piece by piece."""
        self.fills += 1
        self.values += tensor.numel()
        most = max(1, PIECE // max(1, tensor[0].numel())) if tensor.dim() else 1
        for first in range(0, len(tensor), most):
            part = tensor[first : first + most].cpu()
            expected = torch.empty(part.shape, dtype=part.dtype)
            begin = (offset[0] + first, *offset[1:])
            winit_fast.fill(array_of(expected), scheme, offset=begin, **keywords)
            one, other = (value.contiguous().view(torch.uint8) for value in (part, expected))
            if not torch.equal(one, other):
                count = int((one != other).sum())
                sys.exit(f"DIFFERENT: {what}: {count} bytes of {one.numel()} from index {first} on")

    def run(self, scheme: str, dtype: torch.dtype, start: int, count: int, seed: int) -> None:
        """A run with memory around it, which must stay as it is."""
        guard = 13
        keywords: dict[str, Any] = {"seed": seed, "name": "user_id", "shape": (1 << 41,), "in_axis": (), "out_axis": ()}
        memory = torch.full((dtype.itemsize * (count + 2 * guard),), 77, dtype=torch.uint8, device=self.device).view(
            dtype
        )
        part = memory[guard : guard + count]
        try:
            adapters.torch.init_(part, scheme, offset=(start,), **keywords)
        except ValueError:  # the type cannot hold such values
            return
        what = f"{scheme}, {dtype}, {count} from {start} on, seed {seed}"
        octets = memory.view(torch.uint8)
        edges = guard * dtype.itemsize
        if not bool((octets[:edges] == 77).all() and (octets[-edges:] == 77).all()):
            sys.exit(f"DIFFERENT: {what}: wrote beside the tensor")
        self.compare(part, what, scheme, (start,), **keywords)

    def layouts(self, dtype: torch.dtype, size: int) -> None:
        """Views, parts, padding and lists of rows."""
        keywords: dict[str, Any] = {"seed": 7, "name": "user_id", "in_axis": 1, "out_axis": 0}
        views = {
            "transposed": lambda memory: memory.view(size, size).t(),
            "a corner": lambda memory: memory.view(size, size)[3:-5, 7:],
            "every third": lambda memory: memory.view(size, size)[::3, 1::3],
            "channels_last": lambda memory: memory.view(-1, 3, 3, 4)[:, :, :, :3].permute(0, 3, 1, 2),
        }
        for name, view in views.items():
            memory = torch.zeros(
                size * size // 36 * 36 if name == "channels_last" else size * size, dtype=dtype, device=self.device
            )
            part = view(memory)
            shape, offset = tuple(extent + 9 for extent in part.shape), (5,) * part.dim()
            adapters.torch.init_(part, "he_normal", shape=shape, offset=offset, **keywords)
            self.compare(part, f"{name}, {dtype}", "he_normal", offset, shape=shape, **keywords)
        table = (1_000_000, size)
        rows = torch.arange(0, 999_983 * size, 999_983) % table[0]
        tensor = torch.empty(size, size, dtype=dtype, device=self.device)
        adapters.torch.init_rows_(
            tensor, rows.to(self.device), "normal", shape=table, padding_idx=int(rows[5]), **keywords
        )
        expected = torch.empty(size, size, dtype=dtype)
        winit_fast.fill_rows(
            array_of(expected), rows.numpy(), "normal", shape=table, padding_idx=int(rows[5]), **keywords
        )  # fmt: skip
        if not torch.equal(tensor.cpu().view(torch.uint8), expected.view(torch.uint8)):
            sys.exit(f"DIFFERENT: a list of rows, {dtype}")
        self.fills, self.values = self.fills + 1, self.values + tensor.numel()

    def streams(self, size: int) -> None:
        """Several streams at once, and a graph, which captures fills and is replayed."""
        tensors = [torch.zeros(size, device=self.device) for _ in range(4)]
        flows = [torch.cuda.Stream() for _ in tensors]
        torch.cuda.synchronize()
        for number, (tensor, flow) in enumerate(zip(tensors, flows, strict=True)):
            with torch.cuda.stream(flow):
                adapters.torch.init_(tensor, "normal", seed=7, name=number)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        captured = torch.zeros(size, device=self.device)
        with torch.cuda.graph(graph):
            adapters.torch.init_(captured, "normal", seed=7, name=9)
        if bool(captured.any()):
            sys.exit("DIFFERENT: a graph that was captured has run")
        graph.replay()
        torch.cuda.synchronize()
        for tensor, name in zip((*tensors, captured), (0, 1, 2, 3, 9), strict=True):
            self.compare(tensor, f"stream or graph {name}", "normal", (0,), seed=7, name=name, shape=(size,))


def shards() -> None:
    """Two processes, each with half of a DTensor on a GPU of its own."""
    code = (
        "import os, torch; from torch.distributed.device_mesh import init_device_mesh\n"
        "from torch.distributed.tensor import Shard, distribute_tensor\n"
        "from winit_fast import adapters\n"
        "rank = int(os.environ['RANK']); torch.cuda.set_device(rank); mesh = init_device_mesh('cuda', (2,))\n"
        "part = distribute_tensor(torch.zeros(4096, 1001, device='cuda'), mesh, [Shard(0)])\n"
        "adapters.torch.init_(part, 'he_normal', seed=7, name='weight')\n"
        "whole = adapters.torch.init((4096, 1001), 'he_normal', seed=7, name='weight')\n"
        "assert torch.equal(part.to_local().cpu(), whole[2048 * rank : 2048 * (rank + 1)])\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    if subprocess.run([*command, sys.executable, "-c", code], check=False).returncode:
        sys.exit("DIFFERENT: shards of a DTensor in two processes")


def compare_bits(device: str, dry: bool) -> None:
    """All schemes, types, offsets and sizes, then layouts, then what needs a device."""
    bits = Bits(device)
    sizes = (700,) if dry else (1, 1000, 1 << 20, (1 << 20) + 13)
    starts = (0, 16 * 12345, 987_654_321_987, (1 << 34) - 500, (1 << 41) - (1 << 21))
    cases = [(scheme, dtype) for dtype in TYPES for scheme in (COMPLEX if dtype.is_complex else SCHEMES)]
    for number, (scheme, dtype) in enumerate(cases[::9] if dry else cases):
        for start, size in itertools.product(starts if not dry else starts[number % 5 :][:1], sizes):
            bits.run(scheme, dtype, start, size, seed=(1 << 63) + 977 * number)
    for dtype in TYPES[:4] if not dry else TYPES[:1]:
        bits.layouts(dtype, 36 if dry else 4104)
    if not dry:
        large = ("normal", torch.bfloat16), ("uniform", torch.float32), ("truncated_normal", torch.bfloat16)
        for scheme, dtype in (*large, ("normal", torch.float32), ("normal", torch.float8_e4m3fn)):
            bits.run(scheme, dtype, 77, (1 << 31) + 13, seed=3)
        bits.streams(1 << 20)
        if torch.cuda.device_count() > 1:
            shards()
    print(f"bits: {bits.fills} fills, {bits.values:,} values, none different")
    bad = [str(kernel) for kernel, is_good in trust._verdicts.items() if not is_good]
    if bad or not trust._verdicts:
        sys.exit(f"DIFFERENT: not trusted: {', '.join(bad) or 'no kernel has run'}")


class Clock:
    """Times of calls: of a device by its events, of the CPU by its clock; the median of several."""

    def __init__(self, dry: bool) -> None:
        self.dry = dry

    def __call__(self, call: Callable[[], object], rounds: int = 9) -> float:
        """Seconds."""
        call()
        times = []
        for _ in range(1 if self.dry else rounds):
            if self.dry:
                begin = time.perf_counter()
                call()
                times.append(time.perf_counter() - begin)
                continue
            events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            events[0].record()
            call()
            events[1].record()
            events[1].synchronize()
            times.append(events[0].elapsed_time(events[1]) / 1e3)
        return statistics.median(times)


def measure(device: str, dry: bool) -> None:
    """What `zero_` and PyTorch's own take, and ours, for as many values; then one small call, and a model."""
    clock, count = Clock(dry), 1 << (13 if dry else 30)
    print("| ms, TB/s, G values/s | float32 | bfloat16 |\n| --- | --- | --- |")
    calls: dict[str, Callable[[torch.Tensor], object]] = {
        "zero_": torch.Tensor.zero_,
        "copy_, read and written": lambda tensor: tensor[: count // 2].copy_(tensor[count // 2 :]),
        "torch uniform_": torch.Tensor.uniform_,
        "torch normal_": torch.Tensor.normal_,
        "torch trunc_normal_": torch.nn.init.trunc_normal_,
    }
    for scheme in ("uniform", "normal", "truncated_normal", "truncated_normal(low=-3, high=3)"):
        calls[f"winit_fast {scheme}"] = lambda tensor, scheme=scheme: adapters.torch.init_(
            tensor, scheme, seed=7, name="w"
        )
    for name, call in calls.items():
        cells = []
        for dtype in (torch.float32, torch.bfloat16):
            tensor = torch.zeros(count, dtype=dtype, device=device)
            before = 0 if dry else torch.cuda.memory_allocated()
            if not dry:
                torch.cuda.reset_peak_memory_stats()
            seconds = clock(lambda call=call, tensor=tensor: call(tensor))
            peak = "" if dry else f", {(torch.cuda.max_memory_allocated() - before) / 2**20:.1f} MiB beside"
            size = tensor.nbytes
            cells.append(f"{1e3 * seconds:.2f}, {size / seconds / 1e12:.2f}, {count / seconds / 1e9:.0f}{peak}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    small = torch.zeros(64, 64, device=device)
    begin = time.perf_counter()
    rounds = 10 if dry else 1000
    for _ in range(rounds):
        adapters.torch.init_(small, "normal", seed=7, name="w")
    if not dry:
        torch.cuda.synchronize()
    print(f"one call of 64 x 64: {(time.perf_counter() - begin) / rounds * 1e6:.1f} us")
    model(device, dry)


def tune(device: str, dry: bool) -> None:
    """Groups of words a program and warps, of which `launch` has one choice."""
    clock, count = Clock(dry), 1 << (13 if dry else 30)
    print("| groups, warps: G values/s | float32 | bfloat16 |\n| --- | --- | --- |")
    for groups, warps in ((32, 4), (64, 2), (64, 4), (128, 4), (128, 8))[: 1 if dry else 5]:
        launching.GROUPS, launching.WARPS = groups, warps
        cells = []
        for dtype in (torch.float32, torch.bfloat16):
            tensor = torch.zeros(count, dtype=dtype, device=device)
            seconds = clock(lambda tensor=tensor: adapters.torch.init_(tensor, "normal", seed=7, name="w"))
            cells.append(f"{count / seconds / 1e9:.0f}")
        print(f"| {groups}, {warps} | {' | '.join(cells)} |", flush=True)


def model(device: str, dry: bool) -> None:
    """The parameters of a Llama of a billion, from the meta device."""
    width, inner, layers, words = (16, 32, 1, 64) if dry else (2048, 8192, 16, 128_256)
    with torch.device("meta"):
        blocks = [
            torch.nn.ModuleDict({
                **{name: torch.nn.Linear(width, width // (4 if name in "kv" else 1), bias=False) for name in "qkvo"},
                "gate": torch.nn.Linear(width, inner, bias=False), "up": torch.nn.Linear(width, inner, bias=False),
                "down": torch.nn.Linear(inner, width, bias=False),
            })
            for _ in range(layers)
        ]  # fmt: skip
        whole = torch.nn.ModuleDict({"words": torch.nn.Embedding(words, width), "blocks": torch.nn.ModuleList(blocks)})
        whole = whole.to(torch.bfloat16)
    begin = time.perf_counter()
    adapters.torch.materialize_(whole, {"*": "normal(std=0.02)"}, seed=7, device=device)
    if not dry:
        torch.cuda.synchronize()
    count = sum(parameter.numel() for parameter in whole.parameters())
    print(f"a model of {count:,} bfloat16 parameters, by materialize_: {time.perf_counter() - begin:.2f} s")


def main() -> None:
    """The bits, then the speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="in small, on the CPU, in Triton's interpreter")
    parser.add_argument("--only", choices=("bits", "speed"), help="one of the two alone")
    parser.add_argument("--tune", action="store_true", help="also other sizes of a program")
    options = parser.parse_args()
    device = "cpu" if options.dry else "cuda"
    name = "the interpreter" if options.dry else torch.cuda.get_device_name()
    print(f"{name}, PyTorch {torch.__version__}, Triton {triton.__version__}, winit_fast {winit_fast.__version__}")
    trust.SMALL_BYTES = 0  # so that sizes below it are compared too
    if options.dry:
        trust.DEVICES = ("cpu",)
    if options.only != "speed":
        compare_bits(device, options.dry)
    if options.only != "bits":
        trust.SMALL_BYTES = 0 if options.dry else 1 << 16
        measure(device, options.dry)
    if options.tune:
        tune(device, options.dry)


if __name__ == "__main__":
    main()
