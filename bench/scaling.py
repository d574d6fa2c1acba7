"""How a fill scales to many cores: what its threads cost here, and what follows for a machine that has more of them.

``python bench/scaling.py [--megabytes 1024] [--bandwidth 400]`` prints tables. Measured are one core's speed, what a
share costs, and what it costs to start threads; each is the least of many, so that other processes do not count. The
rest is arithmetic: `seconds` is the model.
"""

from __future__ import annotations

import argparse
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from time import perf_counter, process_time

import numpy as np

from winit_fast import dispatch, fill, parallel
from winit_fast._plan import Plan
from winit_fast.lowering import ELEMENT_TYPES, lower
from winit_fast.schemes import scheme

THREADS = (1, 2, 16, 64, 128, 256)
TINY = 20_000  # units of four values, of which next to nothing is work


def least(run: Callable[[], object], rounds: int, clock: Callable[[], float] = perf_counter) -> float:
    """The fewest seconds that a function took."""
    found = []
    for _ in range(rounds):
        begin = clock()
        run()
        found.append(clock() - begin)
    return min(found)


def tiny_plan(units: int) -> Plan:
    """A plan of so many units of four values."""
    out = np.zeros((units, 4, 4), np.float32)[:, :2, :2]
    recipe = lower(scheme("constant(1)").distribution(out.shape, -2, -1, ()), ELEMENT_TYPES["float32"])
    return Plan(out, *recipe, 0, 0)


def start_python_thread() -> None:
    """Start one of Python's threads and wait for its word, as `parallel.Crew` does."""
    bell = allocate_lock()
    bell.acquire()
    start_new_thread(bell.release, ())
    bell.acquire()


def costs() -> dict[str, float]:
    """Seconds: of a share, of a look for signals, of starting a thread and seeing it end; by the crew and by Python."""
    many, few, kernels = tiny_plan(TINY), tiny_plan(2), dispatch.kernels

    def together(plan: Plan, threads: int, look_after: int) -> Callable[[], object]:
        return lambda: kernels.fill_together((plan,), 1, threads, parallel._look, look_after)

    work = least(lambda: kernels.fill_units(many, 0, TINY), 50)
    alone = least(together(many, 1, TINY), 50)
    looks = least(together(many, 1, 1), 50)
    shared = least(together(many, 2, TINY), 50, process_time)  # of both threads, which pass the counter to and fro
    one, two = (least(together(few, threads, 1), 2000) for threads in (1, 2))
    python_shares = least(lambda: parallel.Crew(lambda first, last: None, TINY, 1, 1).work(), 20)
    return {
        "share": (alone - work) / TINY,
        "contended share": max(0.0, shared - work) / TINY,
        "look": (looks - alone) / TINY,
        "start": two - one,
        "python share": python_shares / TINY,
        "python start": least(start_python_thread, 2000),
    }


def begins(threads: int, start: float, at: float = 0.0) -> list[float]:
    """When each of some threads begins to fill, of which the first starts half of them, and half of the rest, ..."""
    found = []
    while threads > 1:
        at += start
        found += begins(threads // 2, start, at)
        threads -= threads // 2
    return [at, *found]


def seconds(
    work: float, threads: int, least_seconds: float, cost: dict[str, float], is_in_a_row: bool = False
) -> float:
    """How long a fill takes on as many cores as threads.

    Each thread begins when it was started, takes its shares, on average waits half a share for the last of the others,
    and sees those end whom it started. Memory binds below `least_seconds`. With `is_in_a_row`, starts wait for each
    other, as they would if a system let one thread start at a time.
    """
    each = work / threads
    shares = min(parallel._SHARES_A_THREAD, max(1.0, each / cost["unit"]))
    share = each / shares + cost["contended share"]
    delays = [number * cost["start"] for number in range(threads)] if is_in_a_row else begins(threads, cost["start"])
    ends = cost["start"] * (threads - 1).bit_length() / 2 + (share / 2 if threads > 1 else 0.0)
    return max(each + sum(delays) / threads, least_seconds) + shares * cost["contended share"] + ends


def main() -> None:
    """Measure, and print what follows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024, help="MiB of float32 to fill")
    parser.add_argument("--bandwidth", type=float, nargs="*", default=[200, 400, 800], help="GB/s of memory")
    given = parser.parse_args()
    octets = given.megabytes << 20
    out = np.zeros(1 << 22, np.float32)
    rate = out.nbytes / least(lambda: fill(out, "normal", seed=1, name="x", threads=1), 50)
    cost = {**costs(), "unit": (4 << 15) / rate}
    print(f"One core, normal float32: {rate / 1e9:.2g} GB/s ({dispatch.ISA})\n")
    print("| microseconds | of the kernels' crew | of Python's threads |\n| --- | --- | --- |")
    print(f"| a share, of a helper: with the GIL | 0 | {cost['python share'] * 1e6:.2g} |")
    print(f"| a share, without it | {cost['contended share'] * 1e6:.2g} | |")
    print(f"| a look for signals, of the caller, once a millisecond | {cost['look'] * 1e6:.2g} | |")
    print(f"| to start a thread and see it end | {cost['start'] * 1e6:.2g} | {cost['python start'] * 1e6:.2g} |\n")
    names = [f"{bandwidth:g} GB/s of memory" for bandwidth in given.bandwidth]
    print("| threads | efficiency | the same if threads started in a row | " + " | ".join(names) + " |")
    print("| --- " * (3 + len(names)) + "|")
    for threads in THREADS:
        work = octets / rate
        tree, row = (work / threads / seconds(work, threads, 0.0, cost, in_a_row) for in_a_row in (False, True))
        speeds = [octets / seconds(work, threads, octets / most / 1e9, cost) / 1e9 for most in given.bandwidth]
        print(f"| {threads} | {tree:.2f} | {row:.2f} | " + " | ".join(f"{speed:.3g} GB/s" for speed in speeds) + " |")


if __name__ == "__main__":
    main()
