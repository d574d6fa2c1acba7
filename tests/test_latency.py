"""Signals during a large fill: Python handles each soon, whatever is filled and however."""

import sys

import pytest
from large import ARITHMETIC, KINDS, tensors
from processes import printed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")

# An alarm every 5 ms; the longest time between two that Python handled is what an interrupt may have to wait for. It is
# counted in this thread's own time, which other processes do not lengthen, and no other thread fills. Then one alarm
# that raises, soon: a fill may take a tenth of what the one before it took. The memory is fresh: to touch it first
# takes more time than to write it again.
FILL = """
import signal
from time import thread_time
import numpy as np
from large import prepared, tensors
prepared(KIND, tensors(1 << 14)[NAME], np.empty(1 << 15, "float32"))()  # what it imports
def fresh():
    return np.empty((2 if KIND == "strided" else 1) * MIB << 18, "float32")
handled = []
signal.signal(signal.SIGALRM, lambda *_: handled.append(thread_time()))
work = prepared(KIND, tensors(MIB << 18)[NAME], fresh())
handled.append(thread_time())
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
work()
signal.setitimer(signal.ITIMER_REAL, 0)
handled.append(thread_time())
total, longest = handled[-1] - handled[0], max(after - before for before, after in zip(handled, handled[1:]))
del work
class Interrupt(Exception):
    pass
def interrupt(*_):
    raise Interrupt
signal.signal(signal.SIGALRM, interrupt)
work = prepared(KIND, tensors(MIB << 18)[NAME], fresh())
try:
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    work()
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(total, longest, "not interrupted")
except Interrupt:
    print(total, longest, "interrupted")
"""


def assert_signals_are_handled_soon(kind, name, mib, is_moved=True):
    """Within a second; where values are but moved, in proportion to a GiB and in a part of what the fill takes."""
    settings = f"KIND, NAME, MIB = {kind!r}, {name!r}, {mib}\n"
    waits = []
    for _ in range(3):  # the system may take long for the memory, but not each time
        total, longest, end = printed(settings + FILL, WINIT_FAST_THREADS="1").split(maxsplit=2)
        assert end == "interrupted\n"
        waits.append(float(longest))
        if waits[-1] < (min(mib / 1024, max(0.05, float(total) / 4)) if is_moved else 1):
            return
    raise AssertionError(f"signals had to wait for {waits} s")


# Of each kind of work one, and more.
SAMPLE = [
    ("transposed", "array"),
    ("rows", "array: many values"),
    ("repeated", "array: one value"),
    ("plain", "lstm_bias"),
    ("rows", "identity: tall"),
    ("plain", "bilinear: small kernels of torch"),
    ("plain", "sparse: one unit"),
    ("repeated padding", "normal"),
]
MORE = [
    ("plain", "array"),
    ("plain", "array: one value"),
    ("many rows", "array: 64 rows"),
    ("rows", "lstm_bias: few units"),
    ("plain", "dirac: groups"),
    ("transposed", "normal"),
]


@pytest.mark.parametrize(
    ("kind", "name"), [*SAMPLE, *(pytest.param(*one, marks=pytest.mark.exhaustive) for one in MORE)]
)
def test_a_signal_is_handled_soon_in_a_large_fill(kind, name):
    assert_signals_are_handled_soon(kind, name, 256)


@pytest.mark.sweep
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in tensors(1 << 20) if name not in ARITHMETIC])
def test_a_signal_is_handled_within_a_second_in_a_gib_of_every_scheme(kind, name):
    try:
        assert_signals_are_handled_soon(kind, name, 1024)
    except AssertionError as error:
        if "ValueError" not in str(error):
            raise
        pytest.skip("not every scheme takes every way")


@pytest.mark.sweep
@pytest.mark.parametrize("kind", ["plain", "transposed", "rows"])
@pytest.mark.parametrize("name", ARITHMETIC)
def test_a_signal_is_handled_within_a_second_in_much_arithmetic(kind, name):
    assert_signals_are_handled_soon(kind, name, 64, is_moved=False)
