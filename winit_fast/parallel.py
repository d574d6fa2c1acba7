"""How work is shared among threads: by the kernels' own crew (`fill_plan`), or by one of Python's threads (`run`).

A thread takes a share of the units, does it without the GIL, and comes back for the next. Shares are short, so that
an interrupt is seen soon and threads finish together. Threads live for one call: nothing to break at a fork.

What the kernels fill by themselves is shared in crew.pxi, where helpers never need the GIL. Work that is a Python
function is shared here, by threads of Python's:

(a) A signal handler may raise in the calling thread after nearly any instruction, and in any call that waits.
    `threading.Thread` does not stand that: an interrupted `start` or `join` loses the exception, or a lock for ever.
    So threads share lists alone, each change of which is one call into C: done or not done, without the GIL too.
(b) One call into C starts a helper and writes it down, so that the caller knows for whom it must wait.
(c) All that the caller does stands in a `try` to which an exception leads back. It stops all threads, and is raised
    when they are out. Handlers run in the main thread only: no helper is hit.
"""

from __future__ import annotations

import math
import os
import sys
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from itertools import islice, repeat
from operator import length_hint

from winit_fast import dispatch
from winit_fast._plan import Plan
from winit_fast.messages import as_int, quote

__all__ = ["SHARE_VALUES", "default_threads", "fill_plan", "fill_plans", "read_threads", "run", "threads_for"]

#: A millisecond, a fraction of a second on a slow disk: what an interrupt may wait for.
SHARE_VALUES = 1 << 20

_ENVIRONMENT = "WINIT_FAST_THREADS"
_ROOT = "/"  # where the system tells of itself
_THREADS_FROM_VALUES = 1 << 20  # half a millisecond of work; starting a thread takes a tenth of that
_VALUES_A_HELPER = 1 << 17  # a tenth of a millisecond of work: twenty times what a thread of a crew costs
_SHARES_A_THREAD = 32  # of a crew, where a share costs less than a tenth of a microsecond
_VALUES_A_START = 1 << 15  # what is drawn while one of Python's threads is started, one after the other
_MOST_SHARES = 1 << 16  # some 3 MB of lists, whatever the size: shares of the above suffice for 2^36 values
_PATIENCE = 1.0  # seconds without a word from helpers, until the caller looks whether they live
_COVERS = 4  # signals that hit in a row the few instructions after another: each takes as long as all of these


def fill_plan(plan: Plan, threads: int | None, share_values: int = SHARE_VALUES) -> None:
    """Do all units of a plan, in shares of at most so many values."""
    if plan.units * plan.unit_values < _THREADS_FROM_VALUES and (threads is None or threads == 1 or plan.units == 1):
        dispatch.kernels.fill_units(plan, 0, plan.units)
    else:
        fill_plans((plan,), threads, share_values)


def fill_plans(plans: tuple[Plan, ...], threads: int | None, share_values: int = SHARE_VALUES) -> None:
    """Do all units of some plans, whose memory does not overlap, as one piece of work."""
    units = sum(plan.units for plan in plans)
    values = max((plan.unit_values for plan in plans), default=1)
    count = max(1, min(threads_for(plans, threads), units, _MOST_SHARES))
    share = _share(units, values, count * _SHARES_A_THREAD, share_values)
    dispatch.kernels.fill_together(plans, share, count, _look, max(1, share_values // (share * values)))


def threads_for(plans: Iterable[Plan], threads: int | None) -> int:
    """How many threads are to fill these plans at most: so many as were asked for, or as are worth their start."""
    if threads is not None:
        return threads
    work = sum(plan.units * plan.unit_values for plan in plans)
    return 1 if work < _THREADS_FROM_VALUES else min(default_threads(), work // _VALUES_A_HELPER)


def _look() -> None:
    """Nothing: as this function begins, Python runs the handlers of signals that have come."""


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
        At most so many; None: the default, and fewer or the caller alone for little work.
    """
    values = units * unit_values
    if values < _THREADS_FROM_VALUES and threads is None:
        work(0, units)
        return
    if threads is None:  # so many that the last start costs what it saves
        threads = min(default_threads(), math.isqrt(values // _VALUES_A_START))
    count = min(threads, units)
    share = max(_share(units, unit_values, 8 * count, SHARE_VALUES), -(-units // _MOST_SHARES))
    if count > 1:
        Crew(work, units, share, count).work()
        return
    for first in range(0, units, share):
        work(first, min(first + share, units))


def _share(units: int, unit_values: int, shares: int, most_values: int) -> int:
    """How many units to take at once, where so many shares leave no thread to wait long for another at the end."""
    return max(1, min(most_values // unit_values, -(-units // shares)))


class Crew:
    """Python's threads for one piece of work: they take shares of a heap until it is empty or one of them fails."""

    def __init__(self, do: Callable[[int, int], None], units: int, share: int, count: int) -> None:
        firsts = range(0, units, share)
        self.do = do
        self.units = units
        self.share = share
        self.shares = len(firsts)
        self.count = min(count, self.shares)
        self.heap = [*repeat(None, self.count), *reversed(firsts)]  # from the end; the last that each takes is None
        self.done: list[int] = []
        self.errors: list[BaseException] = []  # one stops all
        self.helpers: list[int] = []  # threads that were started
        self.out: list[int] = []  # those that will touch nothing any more
        self.bell = allocate_lock()
        self.bell.acquire()
        self.process = os.getpid()

    def work(self) -> None:
        """Work with all threads, this one included; returns or raises once none of the others does anything."""
        self._see_through(_COVERS)
        try:
            if self.errors:
                # Of the caller's the last, as Python does, but nothing hides a KeyboardInterrupt.
                raise min(self.errors, key=lambda error: isinstance(error, Exception))
            if len(self.done) < self.shares:
                raise RuntimeError(
                    "threads that shared this work are gone, as after a fork in its middle (os.fork in a signal "
                    "handler?): what was to be filled is not whole; call it again"
                )
        finally:
            self.heap[:] = repeat(None, self.count)  # for helpers that begin only now
            self.errors.clear()  # their tracebacks lead here: a circle would keep the memory that was to be filled

    def _see_through(self, covers: int) -> None:
        """Start, work and wait, however often a handler raises; in the `except`, this is for the next cover."""
        while True:
            try:
                if covers:
                    self._see_through(covers - 1)
                else:
                    self._start()
                    self._take_shares()
                    self._wait()
                return
            except BaseException as error:
                self.errors.insert(0, error)
            if len(self.out.copy()) == len(self.helpers):  # after a RecursionError there may be no other way out
                return

    def _start(self) -> None:
        if self.errors:
            return
        wanted = repeat(self._help, self.count - 1)
        try:
            while length_hint(wanted):
                self.helpers.extend(map(start_new_thread, islice(wanted, 1), repeat(())))
        except (RuntimeError, MemoryError):  # the system gives no more threads: fewer do the same work
            if len(self.helpers) + length_hint(wanted) == self.count - 1:  # no: none failed, a handler raised this
                raise

    def _take_shares(self) -> None:
        while not self.errors and os.getpid() == self.process:
            first = self.heap.pop()
            if first is None:
                return
            self.do(first, min(first + self.share, self.units))
            self.done.append(first)

    def _wait(self) -> None:
        # Without the GIL, a length may be seen before what its thread wrote earlier: a copy takes the list's lock.
        while len(self.out.copy()) < len(self.helpers) and os.getpid() == self.process:
            # A helper without a frame has not begun, and will find nothing to do, or it was killed.
            if not self.bell.acquire(timeout=_PATIENCE) and sys._current_frames().keys().isdisjoint(self.helpers):
                return

    def _help(self) -> None:
        try:
            self._take_shares()
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.out.append(1)
            with suppress(RuntimeError):  # it has been rung already
                self.bell.release()


def read_threads(threads: object) -> int | None:
    """The argument `threads` of the public functions."""
    if threads is None:
        return None
    count = as_int("threads", threads, "an int >= 1 or None")
    if count < 1:
        raise ValueError(f"threads must be an int >= 1 or None, got {quote(threads)}")
    return count


def default_threads() -> int:
    """How many threads a large fill takes where the caller does not say.

    ``WINIT_FAST_THREADS``, or the CPUs that this process may use (affinity and cgroup), divided among the processes
    that torchrun says share the machine.
    """
    given = os.environ.get(_ENVIRONMENT)
    if given:
        if not (given.isascii() and given.isdigit() and len(given) <= 9) or int(given) == 0:
            raise ValueError(f"{_ENVIRONMENT} must be an integer in [1, 10^9), got {quote(given)}")
        return int(given)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    neighbours = int(processes) if processes.isascii() and processes.isdigit() and len(processes) <= 9 else 1
    return max(1, min(cpus, _cgroup_cpus()) // max(1, neighbours))


@lru_cache(maxsize=1)
def _cgroup_cpus() -> int:
    """CPUs that the quota of the cgroup grants, rounded up; `sys.maxsize` where there is none."""
    from pathlib import Path

    fewest = sys.maxsize
    try:
        groups = Path(_ROOT, "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return fewest
    names: tuple[str, ...]
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = Path(_ROOT, "sys/fs/cgroup"), ("cpu.max",)
        elif "cpu" in controllers.split(","):
            root, names = Path(_ROOT, "sys/fs/cgroup/cpu"), ("cpu.cfs_quota_us", "cpu.cfs_period_us")
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
