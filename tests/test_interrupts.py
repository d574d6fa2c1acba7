"""An interrupted fill: the interrupt passes through soon, and no thread is left behind."""

import sys
import threading
import time
from types import SimpleNamespace

import pytest
from arrays import printed

from winit_fast import dispatch, parallel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")

# Untouched memory and a slow scheme, so that a twentieth of a second is well before the end; no value drawn is 0.
FILL = """
import _thread, os, signal, threading, time
import numpy as np
from winit_fast import fill, fill_rows
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
out = np.zeros((1 << 13, 1 << 13), "float64")
sent = []
def interrupt():
    sent.append(time.monotonic())
    if WAY == "kill":
        os.kill(os.getpid(), signal.SIGINT)
    elif WAY == "raise":
        signal.raise_signal(signal.SIGINT)
    elif WAY == "interrupt_main":
        _thread.interrupt_main()
def raise_timeout(*_):
    sent.append(time.monotonic())
    raise TimeoutError
expected = KeyboardInterrupt
if WAY == "alarm":
    expected = TimeoutError
    signal.signal(signal.SIGALRM, raise_timeout)
timer = threading.Timer(0.05, interrupt)
if WAY == "alarm":
    signal.setitimer(signal.ITIMER_REAL, 0.05)
else:
    timer.start()
scheme = "truncated_normal(low=-3, high=2)"
try:
    if KIND == "rows":
        fill_rows(out, np.arange(1 << 13), scheme, seed=1, shape=out.shape, threads=THREADS)
    else:
        fill(out.T if KIND == "transposed" else out, scheme, seed=1, threads=THREADS)
except expected:
    passed = time.monotonic() - sent[0]
    if WAY != "alarm":
        timer.join()
    left = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    drawn = np.count_nonzero(out)
    time.sleep(0.05)
    print(left, 0 < drawn < out.size, np.count_nonzero(out) == drawn, passed)
else:
    print("not interrupted")
"""


@pytest.mark.parametrize(
    ("way", "threads", "kind"),
    [
        ("kill", 1, "plain"),
        ("kill", 2, "plain"),
        ("raise", 2, "transposed"),
        ("interrupt_main", 1, "transposed"),
        ("interrupt_main", 2, "rows"),
        ("alarm", 2, "plain"),
    ],
)
def test_an_interrupt_passes_through_a_fill_within_a_second_and_leaves_no_thread(way, threads, kind):
    settings = f"THREADS, WAY, KIND = {threads}, {way!r}, {kind!r}\n"
    for _ in range(3):  # whatever else the machine does may take a second, but not each time
        left, was_within, has_ended, seconds = printed(settings + FILL).split()
        assert (left, was_within, has_ended) == ("[]", "True", "True")
        if float(seconds) < 1:
            break
    assert float(seconds) < 1


def test_a_fill_after_an_interrupted_one_is_whole():
    assert (
        printed("""
import os, signal, threading
import numpy as np
from winit_fast import fill
signal.signal(signal.SIGINT, signal.default_int_handler)
out = np.empty(1 << 22, "float64")
expected = fill(np.empty_like(out), "normal", seed=1).tobytes()
interrupts = 0
for delay in range(12):
    timer = threading.Timer(0.002 * delay, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        fill(out, "normal", seed=1, threads=2)
        timer.join()
    except KeyboardInterrupt:
        interrupts += 1
        timer.join()
    out[...] = 0
    assert fill(out, "normal", seed=1, threads=2).tobytes() == expected
print(interrupts)
""")
        == "12\n"
    )


# The same at the moments that a signal seldom meets


def helpers():
    return [thread for thread in threading.enumerate() if thread.name == "winit_fast"]


@pytest.fixture
def slow_units(monkeypatch):
    """A plan whose shares take this thread a millisecond and others much longer; the units done are written down."""
    done, caller = [], threading.current_thread()

    def fill_units(plan, first, last):
        time.sleep(0.001 if threading.current_thread() is caller else 0.1)
        done.extend(range(first, last))

    monkeypatch.setattr(dispatch, "kernels", SimpleNamespace(fill_units=fill_units))
    return SimpleNamespace(plan=SimpleNamespace(units=100, unit_values=1 << 20), done=done)


def interrupt_after(monkeypatch, name):
    """Let the first call of this method of Thread be interrupted after its work is done."""
    plain, calls = getattr(threading.Thread, name), []

    def method(self, *arguments):
        plain(self, *arguments)
        if self.name == "winit_fast":
            calls.append(self)
            if len(calls) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, name, method)


def interrupt_before(monkeypatch, name):
    plain, calls = getattr(threading.Thread, name), []

    def method(self, *arguments):
        if self.name == "winit_fast":
            calls.append(self)
            if len(calls) == 1:
                raise KeyboardInterrupt
        plain(self, *arguments)

    monkeypatch.setattr(threading.Thread, name, method)


@pytest.mark.parametrize("interrupt", [interrupt_before, interrupt_after])
@pytest.mark.parametrize("moment", ["start", "join"])
def test_an_interrupt_while_threads_start_or_end_leaves_none(monkeypatch, slow_units, moment, interrupt):
    interrupt(monkeypatch, moment)
    with pytest.raises(KeyboardInterrupt):
        parallel.fill_plan(slow_units.plan, 3)
    assert helpers() == []
    done = len(slow_units.done)
    time.sleep(0.15)
    assert len(slow_units.done) == done


def test_an_interrupt_stops_threads_that_are_about_to_take_a_share(monkeypatch):
    """The word that all is over must not be overwritten by a thread that read the count just before."""
    done, caller = [], threading.current_thread()
    caller_works, other_reads = threading.Event(), threading.Event()

    def slow_min(*values):
        if threading.current_thread() is not caller and caller_works.is_set() and not other_reads.is_set():
            other_reads.set()
            time.sleep(0.1)
        return min(values)

    def work(first, last):
        if threading.current_thread() is caller:
            caller_works.set()
            other_reads.wait(1)
            raise KeyboardInterrupt
        done.append(first)
        assert len(done) < 1000
        time.sleep(0.001)

    monkeypatch.setattr(parallel, "min", slow_min, raising=False)
    crew = parallel.Crew(work, 10**6, 1)
    with pytest.raises(KeyboardInterrupt):
        crew.work(2)
    assert len(done) < 500
    assert helpers() == []
