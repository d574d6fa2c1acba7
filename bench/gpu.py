"""On a machine with a GPU, the bits first, then the speed: ``python bench/gpu.py``.

It is made of parts. Each runs in a process of its own, so that one which fails, hangs or breaks the GPU's context costs
no other. What is found is printed at once, and written to a JSON file after each part. The status is 1 if a value
differs from the CPU's, or a part fails or is not reached in time. ``--only bits,speed`` runs some of them, for a short
run; ``--list`` names them.

It needs PyTorch with its Triton, winit_fast, NumPy and ml_dtypes, and no network. ``--dry`` does all of it in small on
the CPU, in Triton's interpreter, where times mean nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

if "--dry" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import numpy as np
import torch
import triton

import winit_fast
from winit_fast import adapters
from winit_fast.adapters._device import launch as launching
from winit_fast.adapters._device import trust
from winit_fast.adapters._memory.torch import array_of, name_of
from winit_fast.initializer import Initializer
from winit_fast.lowering import ELEMENT_TYPES, lower

SCHEMES = (
    "constant(0.7)", "uniform", "uniform(low=-0.1, high=0.3)", "uniform(low=-3e38, high=3.2e38)", "normal",
    "normal(mean=0.5, std=0.02)", "normal(std=1e-38)", "truncated_normal", "truncated_normal(std=0.02)",
    "truncated_normal(low=-1, high=1)", "truncated_normal(low=-3, high=3)", "truncated_normal(low=-1, high=inf)",
    "truncated_normal(low=1, high=2)", "truncated_normal(low=9, high=inf)", "truncated_normal(low=-31, high=-30)",
)  # fmt: skip
COMPLEX = ("constant(0.7)", "he_normal", "he_uniform", "he_truncated_normal")
TYPES = (
    torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float64,
    torch.complex64, torch.complex128,
)  # fmt: skip
PIECE = 1 << 26  # elements compared at once, so that the host needs little memory
MOST_FAULTS = 20  # of one part, which then ends


class TooManyFaultsError(Exception):
    """So many faults that the part says nothing more."""


class Bench:
    """Where it runs, what was found, and when it has to end."""

    def __init__(self, dry: bool, deadline: float) -> None:
        self.dry, self.deadline = dry, deadline
        self.device = "cpu" if dry else "cuda"
        self.faults: list[str] = []
        self.results: list[dict[str, Any]] = []
        self.fills = self.values = 0

    def fault(self, words: str) -> None:
        """Note what must not be, and go on."""
        self.faults.append(words)
        print(f"FAULT: {words}", flush=True)
        if len(self.faults) >= MOST_FAULTS:
            raise TooManyFaultsError

    def note(self, **found: Any) -> None:
        """Keep a result for the file."""
        self.results.append(found)

    def in_time(self, cases: Sequence[Any]) -> Iterator[Any]:
        """The cases, as long as there is time."""
        for number, case in enumerate(cases):
            if time.monotonic() > self.deadline:
                self.fault(f"no time was left after {number} of {len(cases)} cases")
                return
            yield case

    def synchronize(self) -> None:
        """Wait until all is done."""
        if not self.dry:
            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], object], rounds: int = 9, calls: int = 4) -> float:
        """What one call takes, by the device's own clock: the median of several rounds."""
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
            for _ in range(calls):
                call()
            events[1].record()
            events[1].synchronize()
            times.append(events[0].elapsed_time(events[1]) / 1e3 / calls)
        return statistics.median(times)


# ----------------------------------------------------------------------------------------------------------------- bits


def compare(
    bench: Bench, tensor: torch.Tensor, what: str, scheme: str, offset: tuple[int, ...], **keywords: Any
) -> None:
    """Compare a tensor, a run or rows, with what the CPU makes of it, piece by piece."""
    bench.fills += 1
    bench.values += tensor.numel()
    most = max(1, PIECE // max(1, tensor[0].numel()))
    for first in range(0, len(tensor), most):
        part = tensor[first : first + most].cpu()
        expected = torch.empty(part.shape, dtype=part.dtype)
        winit_fast.fill(array_of(expected), scheme, offset=(offset[0] + first, *offset[1:]), **keywords)
        one, other = (value.contiguous().view(torch.uint8) for value in (part, expected))
        if not torch.equal(one, other):
            count = int((one != other).sum())
            bench.fault(f"{what}: {count} bytes of {one.numel()} differ from index {first} on")
            return


def compare_run(
    bench: Bench, scheme: str, dtype: torch.dtype, start: int, count: int, *, seed: int = 3, guard: int = 13
) -> None:
    """A run with so many elements of memory around it, which must stay as it is."""
    keywords: dict[str, Any] = {"seed": seed, "name": "user_id", "shape": (1 << 41,), "in_axis": (), "out_axis": ()}
    size = dtype.itemsize
    octets = torch.full((size * (count + 2 * guard),), 77, dtype=torch.uint8, device=bench.device)
    part = octets.view(dtype)[guard : guard + count]
    try:
        adapters.torch.init_(part, scheme, offset=(start,), **keywords)
    except ValueError:  # the type cannot hold such values
        return
    what = f"{scheme}, {dtype}, {count} from {start} on, seed {seed}, {guard * size} bytes behind the beginning"
    if not bool((octets[: guard * size] == 77).all() and (octets[-guard * size :] == 77).all()):
        bench.fault(f"{what}: wrote beside the tensor")
    compare(bench, part, what, scheme, (start,), **keywords)


def smoke(bench: Bench) -> None:
    """A first look: two fills."""
    count = 2000 if bench.dry else 1 << 20
    for dtype in (torch.float32, torch.bfloat16):
        begin = time.perf_counter()
        compare_run(bench, "normal", dtype, 0, count, guard=64)
        bench.note(what="the first fill, compared", dtype=name_of(dtype), seconds=time.perf_counter() - begin)


def bits(bench: Bench) -> None:
    """All schemes, types, offsets and sizes, in memory that begins where vectors do and where not."""
    sizes = (700,) if bench.dry else (1, 1000, 1 << 20, (1 << 20) + 13)
    starts = (0, 16 * 12345, 987_654_321_987, (1 << 34) - 500, (1 << 41) - (1 << 21))
    kinds = [(scheme, dtype) for dtype in TYPES for scheme in (COMPLEX if dtype.is_complex else SCHEMES)]
    if bench.dry:
        cases = [(*kind, starts[number % 5], 700) for number, kind in enumerate(kinds[::9])]
    else:
        cases = [(*kind, start, size) for kind, start, size in itertools.product(kinds, starts, sizes)]
    for number, (scheme, dtype, start, size) in enumerate(bench.in_time(cases)):
        guard = (64, 13)[number % 2 if bench.dry else sizes.index(size) % 2]
        compare_run(bench, scheme, dtype, start, size, seed=(1 << 63) + 977 * number, guard=guard)


def layouts(bench: Bench) -> None:
    """Views, parts, padding and lists of rows."""
    size = 36 if bench.dry else 4104
    views: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "transposed": lambda memory: memory.view(size, size).t(),
        "a corner": lambda memory: memory.view(size, size)[3:-5, 7:],
        "every third": lambda memory: memory.view(size, size)[::3, 1::3],
        "channels_last": lambda memory: memory[: size * size // 36 * 36].view(-1, 3, 3, 4)[..., :3].permute(0, 3, 1, 2),
        "five axes": lambda memory: memory.view(6, size // 6, 6, size // 36, 6)[:, 1:, ::2, :, 1:5].transpose(0, 3),
    }
    dtypes = (torch.float32,) if bench.dry else (*TYPES[:4], torch.float64, torch.complex64)
    keywords: dict[str, Any] = {"seed": 7, "name": "user_id"}
    for dtype, name in bench.in_time(list(itertools.product(dtypes, ("every third",) if bench.dry else views))):
        memory = torch.zeros(size * size, dtype=dtype, device=bench.device)
        part = views[name](memory)
        shape, offset = tuple(extent + 9 for extent in part.shape), (5,) * part.dim()
        adapters.torch.init_(part, "he_normal", shape=shape, offset=offset, in_axis=1, out_axis=0, **keywords)
        compare(
            bench, part, f"{name}, {dtype}", "he_normal", offset, shape=shape, in_axis=1, out_axis=0, **keywords
        )  # fmt: skip
        integers = memory.view({1: torch.int8, 2: torch.int16, 4: torch.int32}.get(dtype.itemsize, torch.int64))
        views[name](integers).zero_()
        if bool(integers.any()):
            bench.fault(f"{name}, {dtype}: wrote beside the tensor")
    table = (1_000_000, size)
    rows = torch.arange(0, 999_983 * size, 999_983) % table[0]
    for dtype in bench.in_time(dtypes):
        scheme = "he_normal" if dtype.is_complex else "normal"
        expected = torch.empty(size, size, dtype=dtype)
        keywords["padding_idx"] = int(rows[5])
        winit_fast.fill_rows(array_of(expected), rows.numpy(), scheme, shape=table, in_axis=1, out_axis=0, **keywords)
        for given in (rows, rows.to(bench.device)):
            tensor = torch.empty(size, size, dtype=dtype, device=bench.device)
            adapters.torch.init_rows_(tensor, given, scheme, shape=table, **keywords)
            bench.fills, bench.values = bench.fills + 1, bench.values + tensor.numel()
            if not torch.equal(tensor.cpu().view(torch.uint8), expected.view(torch.uint8)):
                bench.fault(f"a list of rows on {given.device}, {dtype}: values differ")


def large(bench: Bench) -> None:
    """More elements than 31 bits count, in one piece and in rows with gaps."""
    if bench.dry:
        return
    for scheme, dtype in bench.in_time((
        ("normal", torch.bfloat16), ("uniform", torch.float32), ("truncated_normal", torch.bfloat16),
        ("normal", torch.float32), ("normal", torch.float8_e4m3fn),
    )):  # fmt: skip
        compare_run(bench, scheme, dtype, 77, (1 << 31) + 13)
    whole = torch.zeros((1 << 21) + 3, 1100, dtype=torch.bfloat16, device=bench.device)
    part = whole[:, 40:1069]
    adapters.torch.init_(part, "normal", seed=3, name="user_id")
    compare(bench, part, "many rows with gaps", "normal", (0, 0), shape=tuple(part.shape), seed=3, name="user_id")


def streams(bench: Bench) -> None:
    """Several streams at once; a graph, which captures a fill and is replayed; another device than the current one."""
    if bench.dry:
        return
    size = 1 << 20
    tensors = [torch.zeros(size, device=bench.device) for _ in range(4)]
    flows = [torch.cuda.Stream() for _ in tensors]
    torch.cuda.synchronize()
    for number, (tensor, flow) in enumerate(zip(tensors, flows, strict=True)):
        with torch.cuda.stream(flow):
            adapters.torch.init_(tensor, "normal", seed=7, name=number)
    torch.cuda.synchronize()
    graph, captured = torch.cuda.CUDAGraph(), torch.zeros(size, device=bench.device)
    with torch.cuda.graph(graph):
        adapters.torch.init_(captured, "normal", seed=7, name=9)
    if bool(captured.any()):
        bench.fault("a graph that was captured has run")
    graph.replay()
    torch.cuda.synchronize()
    for tensor, name in zip((*tensors, captured), (0, 1, 2, 3, 9), strict=True):
        compare(bench, tensor, f"stream or graph {name}", "normal", (0,), seed=7, name=name, shape=(size,))
    if torch.cuda.device_count() > 1:
        other = adapters.torch.init((size,), "normal", seed=7, name=0, device="cuda:1")
        compare(bench, other, "another device than the current one", "normal", (0,), seed=7, name=0, shape=(size,))


def arrays(bench: Bench) -> None:
    """CuPy's arrays, where it is installed, on a stream that waits for no other."""
    try:
        import cupy  # type: ignore[import-not-found]
    except ImportError:
        print("without CuPy")
        return
    if bench.dry:
        return
    with cupy.cuda.Stream(non_blocking=True):
        array = cupy.zeros((4096, 1024), "float32")
        for number in range(8):
            array += 1  # which the fill has to come after
            adapters.dlpack.init_(array, "he_normal", seed=7, name=number)
            expected = winit_fast.fill(np.empty((4096, 1024), "float32"), "he_normal", seed=7, name=number)
            bench.fills, bench.values = bench.fills + 1, bench.values + array.size
            if cupy.asnumpy(array).tobytes() != expected.tobytes():
                bench.fault(f"an array of CuPy's, number {number}: values differ")


def shards(bench: Bench) -> None:
    """A process for each of two GPUs, or for the one, with its part of a DTensor."""
    count = 1 if bench.dry else min(2, torch.cuda.device_count())
    code = (
        "import os, torch; from torch.distributed.device_mesh import init_device_mesh\n"
        "from torch.distributed.tensor import Shard, distribute_tensor\n"
        "from winit_fast import adapters; from winit_fast.adapters._device import trust\n"
        f"kind, count = {bench.device!r}, {count}\n"
        "rank = int(os.environ['RANK']); kind == 'cuda' and torch.cuda.set_device(rank)\n"
        "mesh = init_device_mesh(kind, (count,))\n"
        "part = distribute_tensor(torch.zeros(4096, 1001, device=kind), mesh, [Shard(0)])\n"
        "adapters.torch.init_(part, 'he_normal', seed=7, name='weight')\n"
        "assert kind == 'cpu' or set(trust._verdicts.values()) == {True}, 'no kernel has run'\n"
        "whole = adapters.torch.init((4096, 1001), 'he_normal', seed=7, name='weight')\n"
        "size = 4096 // count\n"
        "assert torch.equal(part.to_local().cpu(), whole[size * rank : size * (rank + 1)])\n"
        "torch.distributed.destroy_process_group()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    ended = subprocess.run([*command, "--no-python", sys.executable, "-c", code], check=False).returncode
    bench.note(what="shards of a DTensor", processes=count)
    if ended:
        bench.fault(f"shards of a DTensor in {count} processes differ, or none was made")


# ---------------------------------------------------------------------------------------------------------------- speed


def fill(tensor: torch.Tensor, scheme: str) -> None:
    """One call of ours."""
    adapters.torch.init_(tensor, scheme, seed=7, name="w")


def speed(bench: Bench) -> None:
    """What `zero_` and PyTorch's own take, and ours, for as many values."""
    trust.SMALL_BYTES = 0 if bench.dry else 1 << 16
    count = 1 << (13 if bench.dry else 30)
    calls: dict[str, Callable[[torch.Tensor], object]] = {
        "zero_": torch.Tensor.zero_,
        "copy_, read and written": lambda tensor: tensor[: count // 2].copy_(tensor[count // 2 :]),
        "torch uniform_": torch.Tensor.uniform_,
        "torch normal_": torch.Tensor.normal_,
        "torch trunc_normal_": torch.nn.init.trunc_normal_,
    }
    for scheme in ("zeros", "uniform", "normal", "truncated_normal", "truncated_normal(low=-3, high=3)"):
        calls[f"winit_fast {scheme}"] = lambda tensor, scheme=scheme: fill(tensor, scheme)
    print("| ms, TB/s, G values/s | float32 | bfloat16 |\n| --- | --- | --- |")
    rates: dict[tuple[str, str], float] = {}
    for name in bench.in_time(list(calls)):
        cells = []
        for dtype in (torch.float32, torch.bfloat16):
            tensor = torch.zeros(count, dtype=dtype, device=bench.device)
            before = 0 if bench.dry else torch.cuda.memory_allocated()
            if not bench.dry:
                torch.cuda.reset_peak_memory_stats()
            seconds = bench.seconds(lambda call=calls[name], tensor=tensor: call(tensor))  # type: ignore[misc]
            beside = 0 if bench.dry else torch.cuda.max_memory_allocated() - before
            rates[name, name_of(dtype)] = rate = count / seconds / 1e9
            size = tensor.nbytes
            cells.append(
                f"{1e3 * seconds:.2f}, {size / seconds / 1e12:.2f}, {rate:.0f}, {beside / 2**20:.1f} MiB beside"
            )
            bench.note(what=name, dtype=name_of(dtype), values=count, seconds=seconds, bytes_beside=beside)
            if name.startswith("winit_fast") and beside > 1 << 20:
                bench.fault(f"{name}, {dtype}: {beside} bytes beside the tensor")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if bench.dry:
        return
    wanted = [
        ("winit_fast uniform", "zero_", "float32", 0.85), ("winit_fast normal", "torch normal_", "float32", 1.3),
        ("winit_fast truncated_normal", "torch trunc_normal_", "float32", 20),
        ("winit_fast normal", "", "bfloat16", 400),
    ]  # fmt: skip
    for name, other, dtype, least in wanted:
        if (name, dtype) in rates:
            reached = rates[name, dtype] / rates.get((other, dtype), 1)
            what = f"{name} / {other}" if other else f"{name}, G values/s"
            print(f"{what}, {dtype}: {reached:.2f}, {'as' if reached >= least else 'LESS than'} wanted ({least})")
            bench.note(what=what, dtype=dtype, reached=reached, wanted=least)


def latency(bench: Bench) -> None:
    """What the host needs for one small call, by host memory and by a kernel, and for the first one of a kernel."""
    rounds = 10 if bench.dry else 1000
    for what, side, least in (
        ("64 x 64 through host memory", 64, 1 << 16), ("64 x 64 by a kernel", 64, 0), ("256 x 256 by a kernel", 256, 0),
    ):  # fmt: skip
        trust.SMALL_BYTES = least
        tensor = torch.zeros(side, side, device=bench.device)[: 8 if bench.dry else side]
        begin = time.perf_counter()
        fill(tensor, "normal")
        bench.synchronize()
        first = time.perf_counter() - begin
        begin = time.perf_counter()
        for _ in range(rounds):
            fill(tensor, "normal")
        asked = (time.perf_counter() - begin) / rounds
        bench.synchronize()
        seconds = (time.perf_counter() - begin) / rounds
        print(
            f"one call of {what}: {seconds * 1e6:.1f} us, of which the host {asked * 1e6:.1f}; the first {first:.2f} s"
        )
        bench.note(what=what, seconds=seconds, host=asked, first=first)
    trust.SMALL_BYTES = 0


def model(bench: Bench) -> None:
    """The parameters of a Llama of a billion, from the meta device, twice: the first time compiles."""
    trust.SMALL_BYTES = 0 if bench.dry else 1 << 16
    width, inner, layers, words = (16, 32, 1, 64) if bench.dry else (2048, 8192, 16, 128_256)
    for _ in range(2):
        with torch.device("meta"):
            blocks = [
                torch.nn.ModuleDict({
                    **{name: torch.nn.Linear(width, width, bias=False) for name in "qo"},
                    **{name: torch.nn.Linear(width, width // 4, bias=False) for name in "kv"},
                    "gate": torch.nn.Linear(width, inner, bias=False), "up": torch.nn.Linear(width, inner, bias=False),
                    "down": torch.nn.Linear(inner, width, bias=False),
                })
                for _ in range(layers)
            ]  # fmt: skip
            whole = torch.nn.ModuleDict({
                "words": torch.nn.Embedding(words, width), "blocks": torch.nn.ModuleList(blocks)
            }).to(torch.bfloat16)  # fmt: skip
        if not bench.dry:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        adapters.torch.materialize_(whole, {"*": "normal(std=0.02)"}, seed=7, device=bench.device)
        bench.synchronize()
        seconds = time.perf_counter() - begin
        size = sum(parameter.nbytes for parameter in whole.parameters())
        beside = 0 if bench.dry else torch.cuda.max_memory_allocated() - size
        print(
            f"a model of {size // 2:,} bfloat16 parameters, by materialize_: {seconds:.2f} s, {beside:,} bytes beside"
        )
        bench.note(what="materialize_", parameters=size // 2, seconds=seconds, bytes_beside=beside)
        parameter = whole["words"].weight
        keywords = {"seed": 7, "name": "words.weight", "shape": tuple(parameter.shape)}
        compare(bench, parameter.detach(), "words.weight", "normal(std=0.02)", (0, 0), **keywords)
        del whole, parameter, blocks


def tune(bench: Bench) -> None:
    """Groups of words a program, its warps, and the two conversions to bfloat16, of which `launch` has one choice."""
    count, usual = 1 << (12 if bench.dry else 30), (launching.GROUPS, launching.WARPS)
    choices = [(32, 2), (32, 4), (64, 2), (64, 4), (64, 8), (128, 4), (128, 8), (256, 8)]
    ways = (("float32", None), ("bfloat16", None), ("bfloat16", "bfloat16_by_conversion"))
    ways = ways[:2] if bench.dry else ways  # the interpreter's conversion truncates
    schemes = ("normal",) if bench.dry else ("uniform", "normal", "truncated_normal")
    print(
        f"| {', '.join(schemes)}: G values/s | float32 | bfloat16 | bfloat16 by conversion |\n| --- | --- | --- | --- |"
    )
    try:
        for groups, warps in bench.in_time(choices[:1] if bench.dry else choices):
            launching.GROUPS, launching.WARPS = groups, warps
            cells = []
            for dtype, store in ways:
                tensor = torch.zeros(count, dtype=getattr(torch, dtype), device=bench.device)
                rates = []
                for scheme in schemes:
                    values = launching.values_of(_conversion(scheme, dtype), 7, 5)
                    values = values if store is None else values._replace(store=store)
                    layout = launching.lay_out(tensor, (count,), (0,))
                    seconds = bench.seconds(lambda: launching.launch(tensor, values, layout), rounds=5)  # noqa: B023
                    what = f"{groups} groups, {warps} warps, {scheme}, {store or dtype}"
                    compare(bench, tensor[: 1 << 22], what, scheme, (0,), seed=7, name=5, shape=(count,))
                    rates.append(count / seconds / 1e9)
                    bench.note(
                        what=what, groups=groups, warps=warps, scheme=scheme, store=store or dtype, seconds=seconds
                    )
                cells.append(", ".join(f"{rate:.0f}" for rate in rates))
            print(f"| {groups} groups, {warps} warps | {' | '.join(cells)} |", flush=True)
    finally:
        launching.GROUPS, launching.WARPS = usual


def _conversion(scheme: str, dtype: str) -> Any:
    return lower(Initializer(scheme).distribution((4, 4)), ELEMENT_TYPES[dtype])


# ---------------------------------------------------------------------------------------------------------------- parts

PARTS: dict[str, Callable[[Bench], None]] = {
    part.__name__: part
    for part in (smoke, bits, layouts, large, streams, arrays, shards, speed, latency, model, tune)
}  # fmt: skip
COMPARED = ("smoke", "bits", "layouts")  # where kernels fill the smallest tensors too


def run_part(name: str, dry: bool, deadline: float) -> dict[str, Any]:
    """Run a part in this process; all that it finds, whatever happens."""
    bench, begin = Bench(dry, deadline), time.monotonic()
    trust.SMALL_BYTES = 0  # so that sizes below it are compared too
    if dry:
        trust.DEVICES = ("cpu",)
    print(f"--- {name}: {PARTS[name].__doc__}", flush=True)
    try:
        PARTS[name](bench)
        bad = [str(kernel) for kernel, is_good in trust._verdicts.items() if not is_good]
        if bad or (name in COMPARED and not trust._verdicts):
            bench.fault(f"not trusted: {', '.join(bad) or 'no kernel has run'}")
    except TooManyFaultsError:
        pass
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        bench.faults.append(f"{type(error).__name__}: {error}")
    seconds = time.monotonic() - begin
    how = f"{len(bench.faults)} FAULTS" if bench.faults else "good"
    print(f"--- {name}: {how}, {bench.fills} fills of {bench.values:,} values compared, {seconds:.0f} s", flush=True)
    return {
        "seconds": seconds, "faults": bench.faults, "fills": bench.fills, "values": bench.values,
        "results": bench.results,
    }  # fmt: skip


def run_apart(command: Sequence[str], limit: float) -> dict[str, Any]:
    """Run a part in a process of its own, which writes what it finds to the file that the command ends with."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.json"
        try:
            status = subprocess.run([*command, str(path)], timeout=limit, check=False).returncode
            ended = f"ended with status {status}"
        except subprocess.TimeoutExpired:
            ended = f"took more than the {limit:.0f} s that were left"
        if path.exists():
            (found,) = json.loads(path.read_text())["parts"].values()
            return dict(found)
        print(f"FAULT: it {ended}", flush=True)
        return {"faults": [f"it {ended}"]}


def describe(dry: bool) -> dict[str, Any]:
    """What ran it."""
    about = {
        "device": "the interpreter" if dry else torch.cuda.get_device_name(),
        "devices": 0 if dry else torch.cuda.device_count(), "torch": torch.__version__, "triton": triton.__version__,
        "winit_fast": winit_fast.__version__, "cuda": torch.version.cuda, "hip": torch.version.hip,
        "python": sys.version.split()[0], "numpy": np.__version__,
    }  # fmt: skip
    if not dry:
        properties = torch.cuda.get_device_properties(0)
        about |= {"multiprocessors": properties.multi_processor_count, "memory": properties.total_memory}
    return about


def main(arguments: Sequence[str] | None = None) -> int:
    """The bits, then the speed; 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="in small, on the CPU, in Triton's interpreter, one process")
    parser.add_argument("--only", help=f"some parts alone, with commas between: {', '.join(PARTS)}")
    parser.add_argument("--list", action="store_true", help="say what the parts do, and end")
    parser.add_argument("--minutes", type=float, default=60, help="parts that would begin later are not reached")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="where all results are written")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(f"{name}: {part.__doc__}" for name, part in PARTS.items()))
        return 0
    names = list(PARTS) if options.only is None else options.only.split(",")
    unknown = sorted({*names} - {*PARTS})
    if unknown:
        parser.error(f"--only must name {', '.join(PARTS)}, got {', '.join(unknown)}")
    if not options.dry and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU here: --dry does without one")
    begin = time.monotonic()
    deadline = begin + 60 * options.minutes
    found: dict[str, Any] = {"about": describe(options.dry), "parts": {}}
    if len(names) > 1:
        print(", ".join(f"{key} {value}" for key, value in found["about"].items()), flush=True)
    for name in names:
        left = deadline - time.monotonic()
        if left <= 0:
            found["parts"][name] = {"faults": ["it was not reached in time"]}
        elif options.dry or len(names) == 1:
            found["parts"][name] = run_part(name, options.dry, deadline - 2)
        else:
            command = [sys.executable, __file__, "--only", name, "--minutes", str(left / 60), "--json"]
            found["parts"][name] = run_apart(command, left)
        options.json.write_text(json.dumps(found, indent=1))
    faults = {name: part["faults"] for name, part in found["parts"].items() if part["faults"]}
    if len(names) > 1:
        values = sum(part.get("values", 0) for part in found["parts"].values())
        print(f"{values:,} values compared; {time.monotonic() - begin:.0f} s")
        for name, said in faults.items():
            print(f"FAULTS in {name}: {len(said)}, the first: {said[0]}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
