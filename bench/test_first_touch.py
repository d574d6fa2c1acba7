"""Memory fresh from the system, as users have it: allocation, page faults and fill together.

``python bench/test_first_touch.py [--megabytes 1024] [--rounds 7]`` measures all in turn, again and again, takes the
fastest round of each, and prints the table; with ``--write`` it also puts the table into README.md, docs/ and
bench/README.md.

Before each round as much memory is touched and given back, so that it is fresh for the process but not for the machine:
the host of a virtual machine may have taken free memory away, and giving it back takes longer than any fill.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import peers
import pytest
from frameworks import LIBRARIES, NAMES, Process

import winit_fast
from winit_fast import adapters

GROUP = "first touch, normal float32"
_SETTING = "WINIT_FAST_HUGE_PAGES"


class Case(NamedTuple):
    """A way to make an array of so many float32 elements: what makes it, who fills it, by how many threads."""

    memory: str
    who: str
    threads: int
    make: Callable[[int, int], Any]
    share: float = 1.0


def of_numpy(count: int, threads: int) -> Any:
    return winit_fast.fill(np.empty(count, np.float32), "normal", seed=peers.SEED, name="table", threads=threads)


def numpy_itself(count: int, threads: int) -> Any:
    generator = np.random.Generator(np.random.PCG64(peers.SEED))
    return generator.standard_normal(out=np.empty(count, np.float32), dtype=np.float32)


def memset(count: int, threads: int) -> Any:
    out = np.empty(count, np.float32)
    peers.in_parts(out, threads, peers.set_bytes)()
    return out


def of_torch(count: int, threads: int, huge_pages: str = "1") -> Any:
    import torch

    usual = os.environ.get(_SETTING)
    os.environ[_SETTING] = huge_pages
    try:
        return adapters.torch.init_(torch.empty(count), "normal", seed=peers.SEED, name="table", threads=threads)
    finally:
        os.environ.pop(_SETTING)
        if usual is not None:
            os.environ[_SETTING] = usual


def torch_itself(count: int, threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    return torch.nn.init.normal_(torch.empty(count))


def warm(count: int) -> None:
    """Have the host of a virtual machine, if there is one, provide as much memory."""
    np.ones(count, np.float32)


class Touched:
    """Memory that is kept: what the others would reach without page faults."""

    def __init__(self) -> None:
        self.kept = np.zeros(0, np.float32)

    def __call__(self, count: int, threads: int) -> Any:
        if self.kept.size != count:
            self.kept = np.ones(count, np.float32)
        return winit_fast.fill(self.kept, "normal", seed=peers.SEED, name="table", threads=threads)


CASES = [
    *(Case("np.empty", "winit_fast", threads, of_numpy) for threads in (1, 2)),
    Case("np.empty", "its own", 1, numpy_itself, 1 / 4),
    *(Case("np.empty", "memset", threads, memset) for threads in (1, 2)),
    *(Case("torch.empty", "winit_fast", threads, of_torch) for threads in (1, 2)),
    *(Case("torch.empty", "its own", threads, torch_itself, 1 / 4) for threads in (1, 2)),
    *(
        Case(f"torch.empty, {_SETTING}=0", "winit_fast", threads, partial(of_torch, huge_pages="0"))
        for threads in (1, 2)
    ),
    *(Case("touched before", "winit_fast", threads, Touched()) for threads in (1, 2)),
]
# Each in a process of its own, with two threads. Their own functions are slow, and take a multiple of what they make.
FRAMEWORKS = [
    (library, NAMES[library][0], who, share)
    for library in LIBRARIES
    for who, share in (("winit_fast", 1.0), ("its own", 1 / 16))
]


def title(library: str, name: str) -> str:
    return library if name == "normal" else f"{library}, {name}"


@contextmanager
def process_of(library: str) -> Iterator[Process | None]:
    """A framework's process; None where it is not installed. TensorFlow's pool would keep memory that was touched."""
    process = Process(library, TF_ONEDNN_USE_SYSTEM_ALLOCATOR="1")
    try:
        yield process if process.greeting == "ready" else None
    finally:
        process.end()


def information(memory: str, who: str, threads: int, count: int) -> dict[str, Any]:
    return {"method": f"{who}: {memory}", "threads": threads, "isa": None, "elements": count, "bytes": 4 * count}


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.who} {case.memory} {case.threads}")
def test_first_touch(benchmark: Any, megabytes: int, case: Case) -> None:
    if "torch" in case.memory:
        pytest.importorskip("torch")
    count = int(megabytes * (1 << 20) * case.share)  # four times the usual buffer
    kept: list[Any] = []  # one array at a time, given back outside of the measurement

    def prepare() -> None:
        kept.clear()
        warm(count)

    benchmark.pedantic(lambda: kept.append(case.make(count, case.threads)), setup=prepare, rounds=7, warmup_rounds=1)
    put(benchmark, case.memory, case.who, case.threads, count)


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize(("library", "name", "who", "share"), FRAMEWORKS)
def test_first_touch_of_frameworks(
    benchmark: Any, megabytes: int, library: str, name: str, who: str, share: float
) -> None:
    count = int(megabytes * (1 << 20) * share)
    with process_of(library) as process:
        if process is None:
            pytest.skip(f"{library} is not installed")
        asked = ("ours" if who == "winit_fast" else "theirs", name, count)

        def prepare() -> None:
            process.forget()
            warm(count)

        benchmark.pedantic(lambda: process.make(*asked), setup=prepare, rounds=5, warmup_rounds=1)
    put(benchmark, title(library, name), who, 2, count)


def put(benchmark: Any, memory: str, who: str, threads: int, count: int) -> None:
    info = information(memory, who, threads, count)
    if benchmark.stats is not None:
        info["gigabytes_per_second"] = 4e-9 * count / benchmark.stats.stats.min
    benchmark.extra_info.update(info)


def main() -> None:
    """Measure in turn, and print the table."""
    from tables import first_touch, write

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="into README.md, docs/ and bench/README.md")
    options = parser.parse_args()
    infos: dict[str, dict[str, Any]] = {}

    def measure(memory: str, who: str, threads: int, share: float, make: Callable[[int], Any]) -> None:
        count = int(options.megabytes * (1 << 18) * share)
        warm(count)
        start = time.perf_counter()
        made = make(count)
        rate = 4e-9 * count / (time.perf_counter() - start)
        del made
        info = infos.setdefault(f"{memory} {who} {threads}", information(memory, who, threads, count))
        info["gigabytes_per_second"] = max(rate, info.get("gigabytes_per_second", 0.0))

    for case in CASES:  # what is loaded and compiled at first use
        case.make(1 << 10, case.threads)
    for _ in range(options.rounds):
        for case in CASES:
            measure(*case[:3], case.share, partial(_swapped, case.make, case.threads))
    for library in LIBRARIES:
        with process_of(library) as process:
            if process is None:
                continue
            for turn in range(options.rounds + 1):
                for other, name, who, share in FRAMEWORKS:
                    if other == library:
                        asked = partial(process.make, "ours" if who == "winit_fast" else "theirs", name)
                        process.forget()
                        if turn:
                            measure(title(library, name), who, 2, share, asked)
                        else:
                            asked(int(options.megabytes * (1 << 18) * share))
    table = first_touch({GROUP: list(infos.values())})
    print(table)
    if options.write:
        write({"first touch": table})


def _swapped(make: Callable[[int, int], Any], threads: int, count: int) -> Any:
    return make(count, threads)


if __name__ == "__main__":
    main()
