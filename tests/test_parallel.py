"""The threads of a fill: how many, and what becomes of their failures."""

import _thread
import gc
import os
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import PATIENCE, printed

from winit_fast import dispatch, parallel
from winit_fast.parallel import default_threads

# How many by default


@pytest.fixture
def machine(monkeypatch):
    """A machine of 12 CPUs without limits or variables."""

    def with_cpus(cpus, quota=sys.maxsize):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)), raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: cpus)
        monkeypatch.setattr(parallel, "_cgroup_cpus", lambda: quota)

    monkeypatch.delenv("WINIT_FAST_THREADS", raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    with_cpus(12)
    return with_cpus


@pytest.mark.parametrize(("cpus", "quota", "threads"), [(12, sys.maxsize, 12), (12, 5, 5), (3, 5, 3), (1, 1, 1)])
def test_the_default_is_the_cpus_that_affinity_and_cgroup_leave(machine, cpus, quota, threads):
    machine(cpus, quota)
    assert default_threads() == threads


@pytest.mark.parametrize(
    ("processes", "threads"),
    [
        ("1", 12),
        ("2", 6),
        ("5", 2),
        ("12", 1),
        ("64", 1),
        ("100", 1),
        ("0", 12),
        ("", 12),
        ("-3", 12),
        ("two", 12),
        ("\uff12", 12),
        pytest.param("9" * 5000, 12, id="too long to read"),
    ],
)
def test_the_default_is_divided_among_the_processes_of_torchrun(machine, monkeypatch, processes, threads):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert default_threads() == threads


def test_the_environment_sets_the_default_whatever_the_machine(machine, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    for given_count, threads in (("1", 1), ("40", 40), ("", 3)):
        monkeypatch.setenv("WINIT_FAST_THREADS", given_count)
        assert default_threads() == threads


@pytest.mark.parametrize(
    "given_count",
    [
        "0",
        "-1",
        "1.0",
        "1.5",
        "two",
        " 1",
        "٢",
        "+1",
        "1_0",
        "1000000000",
        pytest.param("9" * 5000, id="too long to read"),
    ],
)
def test_a_bad_default_in_the_environment_is_refused_in_short(machine, monkeypatch, given_count):
    monkeypatch.setenv("WINIT_FAST_THREADS", given_count)
    with pytest.raises(ValueError, match=r"WINIT_FAST_THREADS must be an integer in \[1, 10\^9\), got ") as caught:
        default_threads()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, sys.maxsize),
        ({"proc/self/cgroup": "0::/\n"}, sys.maxsize),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, sys.maxsize),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n"}, 4),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "1000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/cpu.max": "500000 100000\n",
            },
            3,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        pytest.param(
            {"proc/self/cgroup": "0::/a:b\n", "sys/fs/cgroup/a:b/cpu.max": "200000 100000\n"},
            2,
            marks=pytest.mark.skipif(os.name == "nt", reason="a colon is no part of a name on Windows"),
        ),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "nonsense\n"}, sys.maxsize),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "200000 0\n"}, sys.maxsize),
        (
            {
                "proc/self/cgroup": "5:memory:/m\n4:cpu,cpuacct:/c\n",
                "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/c/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/c\n0::/\n",
                "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/c/cpu.cfs_period_us": "100000\n",
            },
            sys.maxsize,
        ),
    ],
)
def test_the_quota_of_the_tightest_cgroup_is_rounded_up(monkeypatch, tmp_path, files, cpus):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(parallel, "_ROOT", tmp_path)
    assert parallel._cgroup_cpus.__wrapped__() == cpus


# Sharing the work


class Work:
    """Stands for kernels that Python calls: writes down which units were done, by which thread.

    With `together`, the first share of a thread lasts until so many threads have one: which of them is fast does not
    matter.
    """

    def __init__(self, units, unit_values, seconds=0.0, together=1):
        self.units, self.unit_values = units, unit_values
        self.done, self.threads, self.seconds, self.together = [], set(), seconds, together

    def run(self, threads):
        parallel.run(self.do, self.units, self.unit_values, threads)

    def do(self, first, last):
        self.threads.add(threading.get_ident())
        deadline = time.monotonic() + PATIENCE
        while len(self.threads) < self.together and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(self.seconds)
        self.done.extend(range(first, last))

    def is_done_once(self):
        return sorted(self.done) == list(range(self.units))


@pytest.fixture
def threads_left():
    """The threads that are more than there were; one that has just ended may need a moment to be gone."""
    before = _thread._count()

    def count():
        deadline = time.monotonic() + PATIENCE
        while _thread._count() > before and time.monotonic() < deadline:
            time.sleep(0.001)
        return max(0, _thread._count() - before)  # one of another test may have been about to end

    return count


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 32768), st.one_of(st.none(), st.integers(1, 6)))
def test_every_unit_is_done_once(units, unit_values, threads):
    work = Work(units, unit_values)
    work.run(threads)
    assert work.is_done_once()


def test_little_work_is_done_by_the_caller_alone():
    work = Work(31, 32768)
    work.run(None)
    assert work.threads == {threading.get_ident()}


def test_much_work_is_shared_among_the_default_threads(monkeypatch):
    monkeypatch.setenv("WINIT_FAST_THREADS", "3")
    work = Work(320, 32768, together=3)
    work.run(None)
    assert work.is_done_once()
    assert len(work.threads) == 3


@pytest.mark.parametrize(("values", "threads"), [(1 << 20, 8), (1 << 22, 32), (1 << 23, 64), (1 << 26, 64)])
def test_by_default_a_crew_has_a_thread_for_each_tenth_of_a_millisecond_of_work(monkeypatch, values, threads):
    monkeypatch.setenv("WINIT_FAST_THREADS", "64")
    asked = []
    fake = SimpleNamespace(fill_together=lambda plans, share, count, *_: asked.append((share, count)))
    monkeypatch.setattr(dispatch, "kernels", fake)
    parallel.fill_plan(SimpleNamespace(units=values >> 12, unit_values=1 << 12), None)
    [(share, count)] = asked
    assert count == threads
    assert share == max(1, min((values >> 12) // (32 * threads), 256))


def test_by_default_pythons_threads_are_as_many_as_their_starts_are_worth(monkeypatch):
    monkeypatch.setenv("WINIT_FAST_THREADS", "64")
    work = Work(64, 1 << 15, together=8)  # 2^21 values
    work.run(None)
    assert work.is_done_once()
    assert len(work.threads) == 8


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_as_many_threads_work_as_were_asked_for(threads):
    work = Work(100, 1, together=threads)
    work.run(threads)
    assert work.is_done_once()
    assert len(work.threads) == threads


def test_no_more_threads_are_started_than_there_are_units(monkeypatch, threads_left):
    work = Work(3, 32768, together=3)
    started = []
    plain = parallel.start_new_thread
    monkeypatch.setattr(parallel, "start_new_thread", lambda *args: (started.append(args), plain(*args))[1])
    work.run(10**6)
    assert work.is_done_once()
    assert len(started) == 2
    assert threads_left() == 0


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_a_system_that_gives_no_more_threads_gets_the_same_work_done_by_fewer(
    monkeypatch, threads_left, granted, error
):
    work = Work(100, 32768, together=granted + 1)
    plain, asked = parallel.start_new_thread, []

    def start(*args):
        asked.append(args)
        if len(asked) > granted:
            raise error
        return plain(*args)

    monkeypatch.setattr(parallel, "start_new_thread", start)
    work.run(8)
    assert work.is_done_once()
    assert len(work.threads) == granted + 1
    assert len(asked) == granted + 1  # once refused, it is not asked again
    assert threads_left() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("spare", [24, 100, 400])
def test_a_process_without_room_for_threads_fills_with_fewer(spare):
    assert (
        printed(f"""
import resource
from pathlib import Path
import numpy as np
from winit_fast import fill
out = np.empty(1 << 22)
expected = fill(np.empty_like(out), "normal", seed=1, name=0, threads=1)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = lambda size: resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
whole = tries = 0
while tries < 5 or not whole and tries < 100:  # threads that start at once may leave no room for any
    tries += 1
    out[...] = 0
    limit(used + ({spare} << 20))
    try:
        fill(out, "normal", seed=1, name=0, threads=128)
    except MemoryError:  # of a thread that did start, and left too little for what it needs itself
        continue
    finally:
        limit(resource.RLIM_INFINITY)  # stacks of ended threads stay, and the comparison needs room of its own
    assert (out == expected).all()
    whole += 1
assert (fill(out, "normal", seed=1, name=0, threads=128) == expected).all()
print(whole > 0)
""")
        == "True\n"
    )


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs a C compiler for Linux")
@pytest.mark.parametrize("kibibytes", [241, 245, 249, 300])
def test_a_crew_fills_whatever_memory_libraries_have_for_each_thread(tmp_path, kibibytes):
    """glibc takes it out of the thread's stack, where little of 256 KiB may stay."""
    (tmp_path / "library.c").write_text(
        f'__thread char own[{kibibytes} << 10] __attribute__((tls_model("initial-exec")));\n'
        "char *touch(void) { return own; }\n"
    )
    library = str(tmp_path / "library.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, str(tmp_path / "library.c")], check=True)
    code = """
import os
import numpy as np
from winit_fast import fill
out = np.empty((1 << 10, 1 << 10))
expected = fill(np.empty(out.shape), "normal", seed=1, name=0, threads=1)
print((fill(out, "normal", seed=1, name=0, threads=8) == expected).all())
"""
    others = os.environ.get("LD_PRELOAD", "")
    assert printed(code, LD_PRELOAD=f"{others}:{library}".strip(":")) == "True\n"


@pytest.mark.parametrize("is_in_helper", [True, False])
def test_the_error_of_any_thread_is_raised_once_all_have_ended(threads_left, is_in_helper):
    work = Work(1000, 32768, seconds=0.002, together=3)
    plain, caller, begun = work.do, threading.get_ident(), []

    def do(first, last):
        begun.extend(range(first, last))
        plain(first, last)
        if (threading.get_ident() != caller) == is_in_helper:
            raise MemoryError("no memory for the tile buffer")

    work.do = do
    with pytest.raises(MemoryError, match="no memory for the tile buffer"):
        work.run(3)
    assert len(work.done) == len(begun) < 1000
    assert threads_left() == 0
    assert len(work.done) == len(begun)


@pytest.mark.parametrize("is_in_helper", [True, False])
def test_an_error_keeps_nothing_alive_once_it_was_seen(is_in_helper):
    class Memory:
        pass

    memory, caller = Memory(), threading.get_ident()

    def work(first, last, memory):
        time.sleep(0.002)
        if (threading.get_ident() != caller) == is_in_helper:
            raise MemoryError

    known, do = ref(memory), partial(work, memory=memory)
    gc.disable()
    try:
        with suppress(MemoryError):
            parallel.run(do, 1000, 1 << 20, 3)
        del memory, do
        deadline = time.monotonic() + PATIENCE
        while known() is not None and time.monotonic() < deadline:  # a helper may be about to let it go
            time.sleep(0.001)
        assert known() is None
    finally:
        gc.enable()


def test_the_lists_of_shares_do_not_grow_with_the_work_or_the_threads(monkeypatch):
    """Nobody fills 2^50 values: the first share ends it."""

    def start(*_):
        raise RuntimeError("can't start new thread")

    def work(first, last):
        raise InterruptedError

    monkeypatch.setattr(parallel, "start_new_thread", start)
    tracemalloc.start()
    try:
        for threads in (2, 10**9):
            with pytest.raises(InterruptedError):
                parallel.run(work, 1 << 35, 1 << 15, threads)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_what_is_filled_as_python_ends_is_whole():
    """Helpers no longer start then, and the caller does all: also in callbacks that run after winit_fast's own."""
    code = """
import atexit
import hashlib

def late():
    out = winit_fast.fill(np.empty((1 << 12, 1 << 9), "float32"), "normal", seed=1, threads=4)
    print(hashlib.sha256(out.tobytes()).hexdigest())

atexit.register(late)
import numpy as np
import winit_fast
atexit.register(late)
late()
"""
    now, before, after = printed(code).split()
    assert now == before == after
