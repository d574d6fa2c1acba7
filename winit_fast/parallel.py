"""Plain Python threads over kernels that hold no lock.

A thread takes a share of the units, fills it without the GIL, and comes back for the next. Shares are short, so that
an interrupt is seen soon and threads finish together. Threads live for one call: nothing to break at a fork.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path

from winit_fast import dispatch
from winit_fast._plan import Plan
from winit_fast.messages import as_int, shown

__all__ = ["checked_threads", "default_threads", "fill_plan", "run"]

_ENVIRONMENT = "WINIT_FAST_THREADS"
_THREADS_FROM_VALUES = 1 << 20  # half a millisecond of work; starting a thread takes a tenth of that
_SHARE_VALUES = 1 << 20  # a millisecond, a fraction of a second on a slow disk: what an interrupt may wait for


def fill_plan(plan: Plan, threads: int | None) -> None:
    """Do all units of a plan."""
    run(partial(dispatch.kernels.fill_units, plan), plan.units, plan.unit_values, threads)


def run(work: Callable[[int, int], None], units: int, unit_values: int, threads: int | None) -> None:
    """Call ``work(first, last)`` for shares of `units` that make up the whole, in any order and several at once.

    Parameters
    ----------
    work : callable
        Holds no lock for long.
    units : int
        How many units of work there are.
    unit_values : int
        What a unit costs, counted in values drawn.
    threads : int or None
        At most so many; None: the default, and the caller alone for little work.
    """
    if units * unit_values < _THREADS_FROM_VALUES and threads is None:
        work(0, units)
        return
    count = min(default_threads() if threads is None else threads, units)
    # Eight shares a thread: at the end none waits long for another.
    share = max(1, min(_SHARE_VALUES // unit_values, -(-units // (8 * count))))
    Crew(work, units, share).work(count)


class Crew:
    """The threads of one piece of work: they take shares from a common heap until it is empty or one of them fails."""

    def __init__(self, do: Callable[[int, int], None], units: int, share: int) -> None:
        self.do = do
        self.units = units
        self.share = share
        self.taken = 0
        self.is_stopped = False  # apart from `taken`, which a thread may be about to overwrite
        self.lock = threading.Lock()
        self.failure: BaseException | None = None

    def work(self, count: int) -> None:
        """Work with `count` threads, this one included; returns or raises once none of them runs any more."""
        helpers: list[threading.Thread] = []
        try:
            for _ in range(count - 1):
                helper = threading.Thread(target=self._help, name="winit_fast")
                helpers.append(helper)  # before it starts: an interrupt may arrive on return from start
                try:
                    helper.start()
                except RuntimeError:  # the system gives no more threads: fewer do the same work
                    helpers.pop()
                    break
            self._take_shares()
        finally:
            self.is_stopped = True
            self._join(helpers)
        if self.failure is not None:
            raise self.failure

    def _join(self, helpers: list[threading.Thread]) -> None:
        try:
            for helper in helpers:
                with suppress(RuntimeError):  # its start was interrupted: it will find that all is over
                    helper.join()
        except BaseException:  # another interrupt: the memory is the caller's again only when no thread writes
            self._join(helpers)
            raise

    def _help(self) -> None:
        try:
            self._take_shares()
        except BaseException as error:
            self.failure = error
            self.is_stopped = True

    def _take_shares(self) -> None:
        while True:
            with self.lock:
                first = self.taken
                if self.is_stopped or first >= self.units:
                    return
                self.taken = last = min(first + self.share, self.units)
            self.do(first, last)


def checked_threads(threads: object) -> int | None:
    """The argument `threads` of the public functions."""
    if threads is None:
        return None
    count = as_int("threads", threads, "an int >= 1 or None")
    if count < 1:
        raise ValueError(f"threads must be an int >= 1 or None, got {shown(threads)}")
    return count


def default_threads() -> int:
    """How many threads a large fill takes where the caller does not say.

    ``WINIT_FAST_THREADS``, or the CPUs that this process may use (affinity and cgroup), divided among the processes
    that torchrun says share the machine.
    """
    given = os.environ.get(_ENVIRONMENT)
    if given:
        if not (given.isascii() and given.isdigit() and len(given) <= 9) or int(given) == 0:
            raise ValueError(f"{_ENVIRONMENT} must be an integer in [1, 10^9), got {shown(given)}")
        return int(given)
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    neighbours = int(processes) if processes.isascii() and processes.isdigit() and len(processes) <= 9 else 1
    return max(1, min(cpus, _cgroup_cpus()) // max(1, neighbours))


@lru_cache(maxsize=1)
def _cgroup_cpus() -> int:
    """CPUs that the quota of the cgroup grants, rounded up; `sys.maxsize` where there is none."""
    fewest = sys.maxsize
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return fewest
    names: tuple[str, ...]
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = Path("/sys/fs/cgroup"), ("cpu.max",)
        elif "cpu" in controllers.split(","):
            root, names = Path("/sys/fs/cgroup/cpu"), ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):  # any group above may be the tightest
            try:
                quota, period = " ".join((folder / name).read_text().strip() for name in names).split()
            except (OSError, ValueError):
                pass
            else:
                if quota not in ("max", "-1") and int(period) > 0:
                    fewest = min(fewest, math.ceil(int(quota) / int(period)))
            if folder == root:
                break
    return max(1, fewest)
