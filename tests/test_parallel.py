"""The threads of a fill: how many, and what becomes of their failures."""

import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    ["0", "-1", "1.0", "two", " 1", "٢", "+1", "1_0", "1000000000", pytest.param("9" * 5000, id="too long to read")],
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
        ({"proc/self/cgroup": "0::/a:b\n", "sys/fs/cgroup/a:b/cpu.max": "200000 100000\n"}, 2),
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
    monkeypatch.setattr(parallel, "Path", lambda path: tmp_path / Path(path).relative_to("/"))
    assert parallel._cgroup_cpus.__wrapped__() == cpus


# Sharing the work


class Work:
    """Stands for the kernels: writes down which units were done, by which thread."""

    def __init__(self, monkeypatch, units, unit_values, seconds=0.0):
        self.plan = SimpleNamespace(units=units, unit_values=unit_values)
        self.done, self.threads, self.seconds = [], set(), seconds
        monkeypatch.setattr(dispatch, "kernels", SimpleNamespace(fill_units=self.fill_units))

    def fill_units(self, plan, first, last):
        assert plan is self.plan
        self.threads.add(threading.current_thread())
        time.sleep(self.seconds)
        self.done.extend(range(first, last))

    def is_done_once(self):
        return sorted(self.done) == list(range(self.plan.units))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 32768), st.one_of(st.none(), st.integers(1, 6)))
def test_every_unit_is_done_once(units, unit_values, threads):
    with pytest.MonkeyPatch.context() as monkeypatch:
        work = Work(monkeypatch, units, unit_values)
        parallel.fill_plan(work.plan, threads)
        assert work.is_done_once()


def test_little_work_is_done_by_the_caller_alone(monkeypatch):
    work = Work(monkeypatch, 31, 32768)
    parallel.fill_plan(work.plan, None)
    assert work.threads == {threading.current_thread()}


def test_much_work_is_shared_among_the_default_threads(monkeypatch):
    monkeypatch.setenv("WINIT_FAST_THREADS", "3")
    work = Work(monkeypatch, 320, 32768, seconds=0.003)
    parallel.fill_plan(work.plan, None)
    assert work.is_done_once()
    assert len(work.threads) == 3


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_as_many_threads_work_as_were_asked_for(monkeypatch, threads):
    work = Work(monkeypatch, 100, 1, seconds=0.003)
    parallel.fill_plan(work.plan, threads)
    assert work.is_done_once()
    assert len(work.threads) == threads


def test_no_more_threads_are_started_than_there_are_units(monkeypatch):
    work = Work(monkeypatch, 3, 32768)
    started = []
    plain = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda self: (started.append(self), plain(self)))
    parallel.fill_plan(work.plan, 10**6)
    assert work.is_done_once()
    assert len(started) == 2


@pytest.mark.parametrize("granted", [0, 1, 2])
def test_a_system_that_gives_no_more_threads_gets_the_same_work_done_by_fewer(monkeypatch, granted):
    work = Work(monkeypatch, 100, 32768, seconds=0.002)
    plain, started = threading.Thread.start, []

    def start(self):
        if len(started) == granted:
            raise RuntimeError("can't start new thread")
        started.append(self)
        plain(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    parallel.fill_plan(work.plan, 8)
    assert work.is_done_once()
    assert len(work.threads) == granted + 1


@pytest.mark.parametrize("is_in_helper", [True, False])
def test_the_error_of_any_thread_is_raised_once_all_have_ended(monkeypatch, is_in_helper):
    work = Work(monkeypatch, 1000, 32768, seconds=0.002)
    plain, caller = work.fill_units, threading.current_thread()

    def fill_units(plan, first, last):
        plain(plan, first, last)
        if (threading.current_thread() is not caller) == is_in_helper:
            raise MemoryError("no memory for the tile buffer")

    monkeypatch.setattr(dispatch, "kernels", SimpleNamespace(fill_units=fill_units))
    with pytest.raises(MemoryError, match="no memory for the tile buffer"):
        parallel.fill_plan(work.plan, 3)
    assert len(work.done) < 1000
    assert not [thread for thread in threading.enumerate() if thread.name == "winit_fast"]
