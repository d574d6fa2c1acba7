"""The measured tables of README.md, docs/ and bench/README.md.

``python bench/tables.py SPEED.json MEMORY.json FILES.json`` prints them, or with ``--write`` puts them between the
markers ``<!-- NAME -->`` and ``<!-- end -->`` that stand in those files.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from targets import Results, Target, other_adapters, targets, torch_adapter
from targets import files as targets_of_files
from targets import frameworks as framework_targets
from targets import structures as structure_targets
from targets import table as targets_table

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    ROOT / "README.md": ("first touch",),
    ROOT / "docs" / "performance.md": ("first touch", "speed", "torch", "others", "rows", "files", "file targets"),
    ROOT / "docs" / "promises.md": ("peak",),
    ROOT / "bench" / "README.md": (
        "types",
        "layouts",
        "rows",
        "first touch",
        "fingerprints",
        "memory",
        "targets",
        "structures",
        "structure targets",
        "framework targets",
    ),
}
ISA_NAMES = {"avx512": "AVX-512", "avx2": "AVX2", "neon": "NEON", "baseline": "baseline"}
Infos = list[dict[str, Any]]


def rate(infos: Infos, method: str, threads: int = 1, per: str = "gigabytes_per_second") -> str:
    """The best rate of the methods that begin so, to two digits; empty where there is none."""
    rates = [info[per] for info in infos if info["method"].startswith(method) and info["threads"] == threads]
    best = max(rates, default=0.0) / (1e9 if per == "elements_per_second" else 1.0)
    return "" if not rates else f"{best:.0f}" if best >= 99.5 else f"{best:#.2g}".rstrip(".")


def two_digits(number: float) -> str:
    """Without an exponent."""
    return f"{float(f'{number:.2g}'):g}"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table; rows without any number are left out."""
    lines = [head, ["---"] * len(head), *(row for row in rows if any(row[1:]))]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |").replace("|  |", "| |") for line in lines)


def speed(groups: dict[str, Infos], machine: dict[str, Any]) -> str:
    """GB/s of float32: the table of docs/performance.md."""
    isa, versions = machine["isa"], machine["versions"]
    rows = [
        (f"**winit_fast, 2 threads, {ISA_NAMES[isa]}**", f"winit_fast {isa}", 2),
        (f"**winit_fast, {ISA_NAMES[isa]}**", f"winit_fast {isa}", 1),
        *((f"winit_fast, {ISA_NAMES[lower]} forced", f"winit_fast {lower}", 1) for lower in ("avx2",) if lower != isa),
        (f"MKL {versions['mkl']}, its fastest generator", "MKL", 1),
        (f"NumPy {versions['numpy']}, PCG64", "NumPy PCG64", 1),
        (f"NumPy {versions['numpy']}, SFC64", "NumPy SFC64", 1),
        (f"randomgen {versions['randomgen']}, the fastest of three", "randomgen", 1),
        (f"torch {versions['torch']}", "torch", 1),
        (f"torch {versions['torch']}, 2 threads", "torch", 2),
        (f"scipy {versions['scipy']}, truncnorm", "scipy", 1),
    ]
    columns = [groups.get(f"{name} float32", []) for name in ("uniform", "normal", "truncated_normal")]
    cells = [[label, *(rate(infos, method, threads) for infos in columns)] for label, method, threads in rows]
    ceiling = [rate(groups["memset"], "memset", threads) for threads in (1, 2)]
    cells += [["memset", *[ceiling[0]] * 3], ["memset, 2 threads", *[ceiling[1]] * 3]]
    return markdown(["GB/s, 1 thread unless noted", "uniform", "normal", "truncated normal, ±2 sigma"], cells)


def types(groups: dict[str, Infos], machine: dict[str, Any]) -> str:
    """Elements per second by type."""
    names = ("float64", "float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")
    methods = [
        (f"winit_fast {isa}", threads)
        for isa in dict.fromkeys((machine["isa"], "avx2", "baseline"))
        for threads in (1, 2)
    ]
    methods += [("MKL", 1), ("NumPy", 1), ("torch", 1)]
    return markdown(
        ["10^9 elements/s", *names],
        [
            [
                f"{scheme}, {method}" + (", 2 threads" if threads == 2 else ""),
                *(rate(groups.get(f"{scheme} {name}", []), method, threads, "elements_per_second") for name in names),
            ]
            for scheme in ("uniform", "normal", "truncated_normal")
            for method, threads in methods
        ],
    )


def layouts(groups: dict[str, Infos], machine: dict[str, Any]) -> str:
    """Elements per second by layout."""
    names = ("contiguous", "half_the_columns", "half_the_columns_in_place", "transposed", "random_rows")
    rows = [
        (f"{scheme}, {threads} thread{'s' * (threads > 1)}", [
            next((info["elements_per_second"] / 1e9 for info in groups.get(f"layouts {scheme}", [])
                  if info["method"] == name and info["threads"] == threads and info["isa"] == machine["isa"]), None)
            for name in names
        ])
        for scheme in ("uniform", "normal", "truncated_normal")
        for threads in (1, 2)
    ]  # fmt: skip
    cells = [[label, *("" if value is None else f"{value:.2f}" for value in values)] for label, values in rows]
    return markdown(["10^9 elements/s", *(name.replace("_", " ") for name in names)], cells)


def rows(groups: dict[str, Infos], machine: dict[str, Any]) -> str:
    """Millions of rows per second by one way or another, and that as a share of a contiguous fill of as many bytes."""
    ways = {
        "by_number": "fill_rows",
        "by_sorted_number": "fill_rows, sorted",
        "by_key": "fill_keys",
        "by_copy": "np.take from a table in memory",
        "by_generator": "a NumPy generator for each row",
    }
    dims = (16, 32, 64, 128)
    lines = [(way, label, "normal", dtype) for dtype in ("float32", "bfloat16") for way, label in ways.items()]
    lines += [("by_number", "fill_rows, uniform", "uniform", dtype) for dtype in ("float32", "bfloat16")]
    cells = []
    for way, label, scheme, dtype in lines:
        for threads in (1, 2):
            found = [
                next((info for info in groups.get(f"rows of {dim} {scheme} {dtype}", ())
                      if (info["method"], info["threads"]) == (way, threads) and "of_contiguous" in info), None)
                for dim in dims
            ]  # fmt: skip
            numbers = (
                "" if one is None else f"{two_digits(one['rows_per_second'] / 1e6)} ({one['of_contiguous']:.2g})"
                for one in found
            )
            cells.append([f"{dtype}, {label}{', 2 threads' * (threads == 2)}", *numbers])
    where = f"On {machine['cpu']['count']} cores of {machine['cpu']['brand_raw']}, {ISA_NAMES[machine['isa']]}:\n\n"
    return where + markdown(["10^6 rows/s (of contiguous)", *(f"{dim} values a row" for dim in dims)], cells)


def first_touch(groups: dict[str, Infos]) -> str:
    """GB/s into memory fresh from the system, and from which allocator it comes."""
    infos = groups.get("first touch, normal float32", [])
    by_memory: dict[str, Infos] = {}
    for info in infos:
        by_memory.setdefault(info["method"].partition(": ")[2], []).append(info)
    columns = [("winit_fast", 1), ("winit_fast", 2), ("its own", 1), ("its own", 2), ("memset", 1), ("memset", 2)]
    cells = [[memory, *(rate(some, f"{who}:", count) for who, count in columns)] for memory, some in by_memory.items()]
    heads = [who if count == 1 else "2 threads" for who, count in columns]
    return markdown(["GB/s, normal float32, into memory of", *heads], cells)


def fingerprints(groups: dict[str, Infos], machine: dict[str, Any]) -> str:
    """GB/s of fingerprints, and how many times as fast as a fill of the same bytes that is."""
    infos = {dtype: groups.get(f"fingerprints {dtype}", []) for dtype in ("float32", "bfloat16")}
    labels = {
        **{f"winit_fast {isa}": f"winit_fast.fingerprints, {name}" for isa, name in ISA_NAMES.items()},
        "BLAKE2b": "hashlib's BLAKE2b",
        "memcpy": "memcpy",
        "fill": 'fill(out, "normal")',
    }

    def cell(dtype: str, method: str, threads: int) -> str:
        for info in infos[dtype]:
            if (info["method"], info["threads"]) == (method, threads) and "of_fill" in info:
                return f"{info['gigabytes_per_second']:.2g} ({info['of_fill']:.2g})"
        return ""

    columns = [(dtype, threads) for dtype in infos for threads in (1, 2)]
    cells = [[label, *(cell(dtype, method, threads) for dtype, threads in columns)] for method, label in labels.items()]
    heads = [f"beside {dtype}" if threads == 1 else "2 threads" for dtype, threads in columns]
    where = f"On {machine['cpu']['count']} cores of {machine['cpu']['brand_raw']}, {ISA_NAMES[machine['isa']]}:\n\n"
    return where + markdown(["GB/s (of the fill)", *heads], cells)


def structures(groups: dict[str, Infos], machine: dict[str, Any]) -> str:
    """Milliseconds of matrices and kernels, ours and torch's."""
    isa = machine["isa"]
    rows = [
        *(
            (f"orthogonal {side} x {side}", f"winit_fast {isa}", "torch orthogonal_")
            for side in (256, 1024, 2048, 4096)
        ),
        *((f"orthogonal {ratio}", f"winit_fast {isa}", "torch orthogonal_") for ratio in ("4 : 1", "1 : 4", "64 : 1")),
        ("sparse 4096 x 4096", "winit_fast sparse(0.9, per='in')", "torch sparse_"),
        ("identity 4096 x 4096", f"winit_fast {isa}", "torch eye_"),
        ("dirac 1024 x 1024 x 4 x 4", f"winit_fast {isa}", "torch dirac_"),
    ]

    def milliseconds(group: str, method: str, threads: int) -> str:
        times = [
            1e3 * info["elements"] / info["elements_per_second"]
            for info in groups.get(group, [])
            if info["method"] == method and info["threads"] == threads and info["isa"] in (isa, None)
        ]
        return f"{min(times):.3g}" if times else ""

    head = ["milliseconds, float32", "winit_fast", "2 threads", "torch", "2 threads"]
    where = f"On {machine['cpu']['count']} cores of {machine['cpu']['brand_raw']}, {ISA_NAMES[isa]}:\n\n"
    return where + markdown(
        head, [[group, *(milliseconds(group, way, count) for way in ways for count in (1, 2))] for group, *ways in rows]
    )


def ratios(rows: Iterable[Target], machine: dict[str, Any]) -> str:
    """How many times as fast as a framework's own."""
    where = f"{machine['cpu']['count']} cores of {machine['cpu']['brand_raw']}, {ISA_NAMES[machine['isa']]}"
    measured = [(row.what, row.measured) for row in rows if row.measured is not None]
    cells = [[what, f"{times:.0f}" if times >= 99.5 else f"{times:#.2g}".rstrip(".")] for what, times in measured]
    return markdown([f"on {where}", "times as fast"], cells)


def peak(memory: list[dict[str, Any]]) -> str:
    """The most that a fill took beyond its array."""
    plain = [one for one in memory if one["method"].startswith("winit_fast ") and "orthogonal" not in one["method"]]
    beyond, array = max(found["beyond"] for found in plain), plain[0]["array"]
    return f"at most {max(1, -(-beyond >> 20))} MiB beyond an array of {array / 2**30:g} GiB"


def memory_table(memory: list[dict[str, Any]]) -> str:
    """Peak memory beyond the array."""
    size = next((found["array"] >> 20 for found in memory if "array" in found), 0)
    cells = [
        [
            found["method"] + f", {found['array'] >> 20} MiB" * (found["array"] >> 20 != size),
            f"{max(0.0, found['beyond']) / 2**20:.1f} MiB",
            f"{found['in_all'] / 2**20:.0f} MiB",
        ]
        for found in memory
        if "array" in found
    ]
    return markdown([f"peak beyond an array of {size} MiB", "of the fill", "with Python and imports"], cells)


def files(found: dict[str, Any]) -> str:
    """GB/s of files, written and read, and that as a share of our writing."""
    rates: dict[str, float] = found["rates"]
    ours = next(iter(rates.values()))  # of bench/files.py
    cells = [
        [f"**{name}**" if name.startswith("winit_fast") else name, f"{rate:.2f}", f"{rate / ours:.2f}"]
        for name, rate in rates.items()
    ]
    what = f"{found['size'] >> 20} MiB of {found['dtype']} normals, {found['threads']} threads"
    return markdown([what, "GB/s", "of the first"], cells)


def file_targets(found: dict[str, Any]) -> str:
    """What writing and verifying must reach, and did."""
    cells = [
        [row.what, " ".join([two_digits(row.measured), *row.bound.split()[2:]]), row.bound]
        for row in targets_of_files(found)
        if row.measured is not None
    ]
    return markdown(["files", "measured", "to be"], cells)


def write(tables: dict[str, str]) -> None:
    """Put tables between their markers, in every file that has them."""
    for path, names in FILES.items():
        text = path.read_text(encoding="utf-8")
        for name in (name for name in names if name in tables):
            new = tables[name]
            blank = "\n" if "|" in new else ""
            text, count = re.subn(
                rf"(<!-- {name} -->).*?(<!-- end -->)",
                lambda found, new=new, blank=blank: f"{found[1]}{blank}{new}{blank}{found[2]}",
                text, flags=re.DOTALL,
            )  # fmt: skip
            if count != 1:
                raise SystemExit(f"{path.name} needs the marker <!-- {name} --> once, has it {count} times")
        path.write_text(text, encoding="utf-8")


def main() -> None:
    """Print the tables or write them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("speed", type=Path)
    parser.add_argument("memory", type=Path)
    parser.add_argument("files", type=Path)
    parser.add_argument(
        "--only", nargs="+", choices=dict.fromkeys(sum(FILES.values(), ())), help="these tables; default: all"
    )
    parser.add_argument("--write", action="store_true", help="into README.md, docs/ and bench/README.md")
    options = parser.parse_args()
    run, memory, of_files = (json.loads(path.read_text()) for path in (options.speed, options.memory, options.files))
    machine, results = run["machine_info"], Results(run["benchmarks"])
    groups: dict[str, Infos] = {}
    for benchmark in run["benchmarks"]:
        groups.setdefault(benchmark["group"], []).append(benchmark["extra_info"])
    tables: dict[str, Callable[[], str]] = {
        "speed": lambda: speed(groups, machine),
        "peak": lambda: peak(memory),
        "types": lambda: types(groups, machine),
        "layouts": lambda: layouts(groups, machine),
        "rows": lambda: rows(groups, machine),
        "first touch": lambda: first_touch(groups),
        "fingerprints": lambda: fingerprints(groups, machine),
        "memory": lambda: memory_table(memory),
        "structures": lambda: structures(groups, machine),
        "targets": lambda: targets_table(list(targets(results, memory))),
        "torch": lambda: ratios(torch_adapter(results), machine),
        "files": lambda: files(of_files),
        "file targets": lambda: file_targets(of_files),
        "others": lambda: ratios(other_adapters(results), machine),
        "framework targets": lambda: targets_table(list(framework_targets(results, memory))),
        "structure targets": lambda: targets_table(list(structure_targets(results, memory))),
    }
    for names in FILES.values():
        for name in (name for name in names if not options.write and (not options.only or name in options.only)):
            print(f"\n{name}\n\n{tables[name]()}")
    if options.write:
        write({name: make() for name, make in tables.items() if not options.only or name in options.only})


if __name__ == "__main__":
    main()
