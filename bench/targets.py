"""What the library must reach, measured: ``python bench/targets.py SPEED.json [MEMORY.json [FILES.json]]``.

Reads what pytest-benchmark and bench/memory.py wrote, prints each ratio beside its target, and exits with 1 where one
is missed. Ratios are those of the fastest rounds; those of the median rounds stand beside them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

Benchmark = dict[str, Any]


class Target(NamedTuple):
    """A number and what it must reach."""

    what: str
    isa: str
    measured: float | None
    median: float | None
    bound: str  # ">= 4.5" or "<= 8 us"

    @property
    def is_reached(self) -> bool | None:
        """None where it was not measured."""
        relation, limit = self.bound.split()[:2]
        if self.measured is None:
            return None
        return self.measured >= float(limit) if relation == ">=" else self.measured <= float(limit)


class Results:
    """The benchmarks of one run, found by what they measured."""

    def __init__(self, benchmarks: list[Benchmark]) -> None:
        self.benchmarks = benchmarks

    def find(self, group: str, method: str, threads: int = 1, isa: str | None = None) -> list[Benchmark]:
        """Those that match; none where something was not installed."""
        return [
            found
            for found in self.benchmarks
            if found["group"] == group
            and (info := found["extra_info"])["method"] == method
            and info.get("threads", 1) == threads
            and info.get("isa") == isa
        ]

    def times(self, part: list[Benchmark], whole: list[Benchmark]) -> tuple[float | None, float | None]:
        """Seconds of `part` by those of `whole`: of the fastest rounds, of the median rounds."""
        if not part or not whole:
            return None, None
        best, middle = (part[0]["stats"][key] / whole[0]["stats"][key] for key in ("min", "median"))
        return best, middle

    def ratio(self, fast: list[Benchmark], slow: list[Benchmark]) -> tuple[float | None, float | None]:
        """Elements per second of `fast` by those of `slow`: of the fastest rounds, of the median rounds."""
        if not fast or not slow:
            return None, None
        scale = fast[0]["extra_info"]["elements"] / slow[0]["extra_info"]["elements"]
        best, middle = (scale * slow[0]["stats"][key] / fast[0]["stats"][key] for key in ("min", "median"))
        return best, middle


def targets(results: Results, memory: list[dict[str, Any]]) -> Iterator[Target]:
    """Every line of the table."""
    find, ratio = results.find, results.ratio
    single = (
        ("uniform float32", "uniform float32", "NumPy SFC64", 4.5, 3.3),
        ("normal float32", "normal float32", "NumPy PCG64", 10, 5.5),
        ("truncated_normal float32", "normal float32", "NumPy PCG64", 12, 7),
        ("normal float64", "normal float64", "NumPy PCG64", 3, 1.8),
    )
    for group, their_group, method, *limits in single:
        for isa, limit in zip(("avx512", "avx2"), limits, strict=True):
            ours, theirs = find(group, f"winit_fast {isa}", isa=isa), find(their_group, method)
            yield Target(f"{group} / {method} {their_group}", isa, *ratio(ours, theirs), f">= {limit}")
    for isa in ("avx512", "avx2"):
        ours = f"winit_fast {isa}"
        narrow, wide = find("normal bfloat16", ours, isa=isa), find("normal float32", ours, isa=isa)
        yield Target("normal bfloat16 / our float32, elements", isa, *ratio(narrow, wide), ">= 0.9")
    for isa in ("avx512", "avx2"):
        two = find("normal float32", f"winit_fast {isa}", 2, isa)
        one = find("normal float32", f"winit_fast {isa}", 1, isa)
        yield Target("normal float32, 2 threads / 1 thread", isa, *ratio(two, one), ">= 1.85")
    ceiling = find("memset", "memset", 2)
    for distribution, limit in (("uniform", ">= 0.6"), ("normal", ">= 0.5 (the aim)")):
        two = find(f"{distribution} float32", "winit_fast avx512", 2, "avx512")
        yield Target(f"{distribution} float32 / memset, 2 threads", "avx512", *ratio(two, ceiling), limit)
    for way, limit in (
        ("half_the_columns", 0.7), ("half_the_columns_in_place", 0.7), ("transposed", 0.4), ("random_rows", 0.7)
    ):  # fmt: skip
        for scheme in ("uniform", "normal", "truncated_normal"):
            for isa in ("avx512", "avx2"):
                part, whole = (find(f"layouts {scheme}", name, 2, isa) for name in (way, "contiguous"))
                what = f"{scheme}, {way.replace('_', ' ')} / contiguous, 2 threads"
                yield Target(what, isa, *ratio(part, whole), f">= {limit}")
    for dtype in ("float32", "bfloat16"):
        for threads in (1, 2):
            group = f"fingerprints {dtype}"
            for isa in ("avx512", "avx2"):
                pair = find(group, f"winit_fast {isa}", threads, isa), find(group, "fill", threads)
                what = f"fingerprint / normal {dtype}, {threads} thread{'s' * (threads - 1)}"
                yield Target(what, isa, *ratio(*pair), ">= 1")
    for isa, limit in (("avx512", 8), ("avx2", 11)):
        for found in find("64 x 64 float32", "winit_fast", isa=isa):
            best, middle = (1e6 * found["stats"][key] for key in ("min", "median"))
            yield Target(f"64 x 64 {found['extra_info']['scheme']}", isa, middle, best, f"<= {limit} us (by median)")
    for found in find("import", "winit_fast"):
        yield Target("import after NumPy's", "", found["extra_info"]["milliseconds"], None, "<= 20 ms (by median)")
    for found in memory:
        if found["method"].startswith("winit_fast") and "orthogonal" not in found["method"] and "beyond" in found:
            what = f"{found['method']}: peak beyond {found['array'] >> 20} MiB"
            yield Target(what, "", found["beyond"] / 2**20, None, "<= 32 MiB")


def structures(results: Results, memory: list[dict[str, Any]]) -> Iterator[Target]:
    """The lines about matrices, kernels and truncations."""
    find, ratio, times = results.find, results.ratio, results.times
    isa = next(
        (
            isa
            for isa in ("avx512", "avx2", "neon", "baseline")
            if find("identity 4096 x 4096", f"winit_fast {isa}", 2, isa)
        ),
        "",
    )
    ours = f"winit_fast {isa}"
    for side in (2048, 4096):
        group = f"orthogonal {side} x {side}"
        for lower in ("avx512", "avx2"):
            mine, theirs = find(group, f"winit_fast {lower}", 2, lower), find(group, "torch orthogonal_", 2)
            yield Target(f"{group} / torch, 2 threads", lower, *ratio(mine, theirs), ">= 1")
    for place in ("first", "last"):
        for part, limit in (("a quarter of the rows", 0.5), ("a quarter of the columns", 1), ("half of both", 1)):
            group = "orthogonal 2048 x 2048"
            mine, whole = find(f"{group}, {place} {part}", ours, 2, isa), find(group, ours, 2, isa)
            yield Target(f"{group}, {place} {part}: time / that of the whole", isa, *times(mine, whole), f"<= {limit}")
    group = "sparse 4096 x 4096"
    for threads in (1, 2):
        for sparsity in (0.1, 0.9):
            for per in ("in", "out"):
                name = f"sparse({sparsity}, per={per!r})"
                mine = find(group, f"winit_fast {name}", threads, isa)
                what = f"{name}, {threads} thread{'s' * (threads - 1)}"
                yield Target(
                    f"{what}: time / that of normal", isa, *times(mine, find(group, ours, threads, isa)), "<= 4"
                )
                yield Target(
                    f"{what} / torch sparse_", isa, *ratio(mine, find(group, "torch sparse_", threads)), ">= 1"
                )
    for group in ("identity 4096 x 4096", "dirac 1024 x 1024 x 4 x 4"):
        for threads in (1, 2):
            pair = find(group, ours, threads, isa), find(group, f"{ours}, constant", threads, isa)
            what = f"{group}, {threads} thread{'s' * (threads - 1)}: time / that of a constant"
            yield Target(what, isa, *times(*pair), "<= 2")
    for dtype in ("float32", "float64", "bfloat16"):
        group = f"truncated normals {dtype}"
        names = {b["extra_info"]["method"] for b in results.benchmarks if b["group"] == group}
        for lower in ("avx512", "avx2", "neon", "baseline"):
            within = find(group, "low=-2, high=2", 1, lower)
            rates = [ratio(find(group, name, 1, lower), within) for name in names if within]
            if rates:
                slowest = min(rates, key=lambda pair: pair[0] or 0.0)
                yield Target(f"{group}, any bounds / +-2 sigma: the slowest", lower, *slowest, ">= 0.4")
    for found in memory:
        if found["method"].startswith("winit_fast orthogonal") and "beyond" in found:
            what = f"{found['method']}: peak beyond {found['array'] >> 20} MiB"
            yield Target(what, "", found["beyond"] / 2**20, None, f"<= {found['allowed'] >> 20} MiB")


def frameworks(results: Results, memory: list[dict[str, Any]]) -> Iterator[Target]:
    """The lines about the frameworks' own tensors and models."""
    yield from first_touch(results)
    yield from torch_adapter(results)
    yield from torch_costs(results)
    yield from other_adapters(results)
    for found in memory:
        if found["method"].startswith("adapters") and "beyond" in found:
            what = f"{found['method']}: peak beyond {found['array'] >> 20} MiB"
            yield Target(what, "", found["beyond"] / 2**20, None, f"<= {found['allowed'] >> 20} MiB")


def first_touch(results: Results) -> Iterator[Target]:
    """Into memory that was never touched, by 2 threads."""

    def find(who: str, memory: str) -> list[Benchmark]:
        return results.find("first touch, normal float32", f"{who}: {memory}", 2)

    fresh = find("winit_fast", "torch.empty")
    for what, other, limit in (
        ("without huge pages", find("winit_fast", "torch.empty, WINIT_FAST_HUGE_PAGES=0"), 1.5),
        ("memory touched before", find("winit_fast", "touched before"), 0.6),
        ("torch.nn.init.normal_", find("its own", "torch.empty"), 5),
    ):
        yield Target(f"init_ of a new tensor / {what}", "", *results.ratio(fresh, other), f">= {limit}")
    for memory in ("tensorflow", *(f"keras-{backend}, HeNormal" for backend in ("tensorflow", "jax", "torch"))):
        pair = find("winit_fast", memory), find("its own", memory)
        yield Target(f"new memory, {memory}: ours / its own", "", *results.ratio(*pair), ">= 5")
    for count in (1, 2):
        pair = (results.find("constant float32", "winit_fast", count), results.find("memset", "memset", count))
        yield Target(f"ones float32 / memset, {count} thread{'s' * (count - 1)}", "", *results.ratio(*pair), ">= 0.9")


def torch_adapter(results: Results) -> Iterator[Target]:
    """Against torch.nn.init, and models of transformers."""
    find, ratio = results.find, results.ratio
    fills = (
        ("uniform float32", 9), ("normal float32", 7), ("normal bfloat16", 7), ("truncated normal float32", 60),
        ("xavier_uniform float32", 9), ("xavier_normal float32", 7), ("kaiming_uniform float32", 9),
        ("kaiming_normal float32", 7),
    )  # fmt: skip
    for name, limit in fills:
        group = f"torch.nn.init {name}"
        pair = find(group, "winit_fast avx512", 2, "avx512"), find(group, "torch", 2)
        yield Target(f"init_ / {group}, 2 threads", "avx512", *ratio(*pair), f">= {limit}")
    for group, method, what, limit in (
        ("torch.nn.init 64 x 64", "winit_fast", "init_ / torch.nn.init.kaiming_normal_, 64 x 64", 1),
        ("transformers gpt2", "winit_fast", "GPT-2 medium under accelerate / without", 4),
        ("transformers gpt2", "materialize_", "GPT-2 medium by materialize_ / without", 4),
        ("transformers llama", "winit_fast", "Llama 1B under accelerate / without", 4),
        ("transformers llama", "materialize_", "Llama 1B by materialize_ / without", 4),
        (
            "torch, 20,000 parameters of 16 x 16", "winit_fast",
            "init_module_ / a loop of torch.nn.init, 20,000 of 16 x 16", 0.5,
        ),
    ):  # fmt: skip
        yield Target(what, "", *ratio(find(group, method, 2), find(group, "torch", 2)), f">= {limit}")


def torch_costs(results: Results) -> Iterator[Target]:
    """What the PyTorch adapter adds to what it is made of."""
    find, ratio = results.find, results.ratio
    pair = (find("torch.nn.init 64 x 64", method, 2) for method in ("winit_fast", "winit_fast.fill"))
    yield Target("init_ / winit_fast.fill of the same memory, 64 x 64", "", *ratio(*pair), ">= 0.8")
    for method in ("winit_fast", "materialize_"):
        for found in find("torch, 20,000 parameters of 16 x 16", method, 2):
            scale = 1e6 / found["extra_info"]["parameters"]
            best, middle = (scale * found["stats"][key] for key in ("min", "median"))
            verb = "init_module_" if method == "winit_fast" else method
            yield Target(f"{verb}, a parameter of 20,000 of 16 x 16", "", middle, best, "<= 12 us (by median)")
    for group, what in (("transformers gpt2", "GPT-2 medium"), ("transformers llama", "Llama 1B")):
        for method in ("skip and fill", "skip and draw"):
            whole = find(group, method, 2)
            yield Target(
                f"{what} under accelerate / {method}", "", *ratio(find(group, "winit_fast", 2), whole), ">= 0.77"
            )


def other_adapters(results: Results) -> Iterator[Target]:
    """New matrices, against those of TensorFlow, JAX and Keras."""
    for library, names, limit in (
        ("tensorflow", ("normal", "truncated_normal"), 8), ("jax", ("normal",), 15),
        *((f"keras-{backend}", ("HeNormal",), 8) for backend in ("tensorflow", "jax", "torch")),
    ):  # fmt: skip
        for name in names:
            pair = (results.find(f"{library} {name}", method, 2) for method in ("winit_fast", library))
            yield Target(f"{library} {name}: ours / its own, 2 threads", "", *results.ratio(*pair), f">= {limit}")


def files(found: dict[str, Any]) -> Iterator[Target]:
    """What bench/files.py found: rates beside those of others, memory, what a kill costs, the import of the command."""
    rates, peaks = found["rates"], found["peaks"]
    write, verify, fill = (
        next((name for name in rates if name.startswith(begin)), "")
        for begin in ("winit_fast, write", "winit_fast, verify", "winit_fast, fill")
    )
    others = [rates[name] for name in ("dd oflag=direct", "dd", "ndarray.tofile") if name in rates]
    what = "writing / the slower of our fill and the fastest other way to write"
    yield Target(what, "", rates[write] / min(rates[fill], max(others)), None, ">= 0.9")
    yield Target("verifying / writing", "", rates[verify] / rates[write], None, ">= 0.7")
    for name, peak in peaks.items():
        yield Target(f"{name.partition(', ')[2]}, --memory 256MiB: peak memory", "", peak / 2**20, None, "<= 356 MiB")
    if found["repeated"]:
        what = f"kill -9 while {found['repeated_size'] / 2**30:.2g} GiB are written: the most that is written again"
        shares = [100 * share for share in found["repeated"]]
        yield Target(what, "", max(shares), median(shares), "<= 1 %")
    yield Target("import of the command beyond NumPy's", "", found["import"], None, "<= 60 ms")


def table(rows: list[Target]) -> str:
    """The table in Markdown."""
    words = {True: "yes", False: "**no**", None: "not measured"}

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.2f}"

    lines = ["| what | ISA | measured | by the other | target | reached |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        cells = (row.what, row.isa, number(row.measured), number(row.median), row.bound, words[row.is_reached])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", "Ratios of the fastest rounds; by the other: of the median rounds, or the reverse."])


def main() -> int:
    """Print the table."""
    speed = json.loads(Path(sys.argv[1]).read_text())
    memory = json.loads(Path(sys.argv[2]).read_text()) if len(sys.argv) > 2 else []
    machine = speed["machine_info"]
    print(f"{machine['cpu']['brand_raw']}, {machine['cpu']['count']} CPUs; buffers of {machine['megabytes']} MiB\n")
    results = Results(speed["benchmarks"])
    rows = [*targets(results, memory), *structures(results, memory), *frameworks(results, memory)]
    if len(sys.argv) > 3:
        rows += files(json.loads(Path(sys.argv[3]).read_text()))
    print(table(rows))
    return int(any(row.is_reached is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
