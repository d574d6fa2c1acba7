"""An interrupted fill: the interrupt passes through soon, and no thread is left behind."""

import signal
import sys
import threading
import time
from random import Random

import pytest
from processes import PATIENCE, printed, python, started

from winit_fast import parallel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")

# How many threads the process has, those included that Python does not know.
COUNT = """
import _thread, os, sys
def count_threads():
    return len(os.listdir("/proc/self/task")) if sys.platform == "linux" else _thread._count() + 1
def count_left(before):
    deadline = time.monotonic() + 20
    while count_threads() > before and time.monotonic() < deadline:  # one that has just ended is gone in a moment
        time.sleep(0)
    return count_threads() - before
"""

# Untouched memory and a slow scheme, so that the first values are there well before the end; no value drawn is 0.
FILL = f"""{COUNT}
import signal, threading, time
import numpy as np
from clocks import stretch
from winit_fast import fill, fill_rows
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
out = np.zeros((1 << 13, 1 << 13), "float64")
sent, before = [], count_threads()
def interrupt():
    while not out[:, 0].any():
        time.sleep(0.001)
    sent.append(time.monotonic())
    if WAY == "kill":
        os.kill(os.getpid(), signal.SIGINT)
    elif WAY == "raise":
        signal.raise_signal(signal.SIGINT)
    elif WAY == "interrupt_main":
        _thread.interrupt_main()
def raise_timeout(*_):
    if not out[:, 0].any():
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        return
    sent.append(time.monotonic())
    raise TimeoutError
expected = KeyboardInterrupt
if WAY == "alarm":
    expected = TimeoutError
    signal.signal(signal.SIGALRM, raise_timeout)
timer = threading.Thread(target=interrupt)
if WAY == "alarm":
    signal.setitimer(signal.ITIMER_REAL, 0.001)
else:
    timer.start()
scheme = "truncated_normal(low=-3, high=2)"
try:
    if KIND == "rows":
        fill_rows(out, np.arange(1 << 13), scheme, seed=1, shape=out.shape, threads=THREADS)
    else:
        fill(out.T if KIND == "transposed" else out, scheme, seed=1, threads=THREADS)
except expected:
    passed = (time.monotonic() - sent[0]) / stretch()
    if WAY != "alarm":
        timer.join()
    left = count_left(before)
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
    for _ in range(3):  # the machine may become busy just then, but not each time
        left, was_within, has_ended, seconds = printed(settings + FILL).split()
        assert (left, has_ended) == ("0", "True")
        if float(seconds) < 1 and was_within == "True":
            break
    assert float(seconds) < 1
    assert was_within == "True"


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


# The same wherever a signal may hit. In processes of their own, since what is tested for may hang.


def lines(code):
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# A handler that raises whenever it hits inside of a fill. What it raised must come out of that fill.
INTERRUPTED = f"""{COUNT}
import signal, time
import numpy as np
from winit_fast import fill
out = np.zeros(200_000)
expected = fill(np.empty_like(out), "truncated_normal(low=-3, high=2)", seed=1, threads=1)
raised, seen, swallowed, left, late, broken, fills, before_all = 0, 0, 0, 0, 0, 0, 0, count_threads()
may_raise = True
def interrupted_fill():
    fill(out, "truncated_normal(low=-3, high=2)", seed=1, threads=3)
def handler(number, frame):
    global raised
    while frame is not None:
        if frame.f_code is interrupted_fill.__code__ and may_raise:
            raised += 1
            raise KeyboardInterrupt
        frame = frame.f_back
signal.signal(signal.SIGINT, handler)
print("ready", flush=True)
while seen < WANTED:
    before = raised
    fills += 1
    try:
        interrupted_fill()
        swallowed += raised > before
    except KeyboardInterrupt:
        seen += 1
        out[...] = 0
        left += count_left(before_all) > 0
        late += out.any()
        if seen % 16 == 0:
            may_raise = False
            interrupted_fill()
            may_raise = True
            broken += out.tobytes() != expected.tobytes()
            out[...] = 0
signal.signal(signal.SIGINT, signal.SIG_IGN)
print(seen, swallowed, left, late, broken, flush=True)
"""


def under_signals(wanted, pause):
    """Interrupts seen, fills that lost one, that left a thread, that were written to later, and broken ones after."""
    code = f"WANTED = {wanted}\n" + INTERRUPTED
    random = Random(1)
    with started(code) as process:
        assert process.stdout.readline() == "ready\n"
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(signal.SIGINT)
            time.sleep(random.uniform(0, pause))
        if process.poll() is None:
            process.kill()
            pytest.fail("the process hangs")
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    return [int(word) for word in output.split()]


# Without a pause several signals hit one fill.
SIGNALS = [(800, 0.002), (800, 0)]


@pytest.mark.parametrize(
    ("wanted", "pause"),
    [
        *SIGNALS,
        *(pytest.param(5 * wanted, pause, marks=pytest.mark.exhaustive) for wanted, pause in SIGNALS),
        *(pytest.param(50 * wanted, pause, marks=pytest.mark.sweep) for wanted, pause in SIGNALS),
    ],
)
def test_of_many_interrupts_none_is_lost_and_none_leaves_a_thread_or_a_lock(wanted, pause):
    assert under_signals(wanted, pause) == [wanted, 0, 0, 0, 0]


# An exception at every instruction of parallel.py in the calling thread, while helpers that it started fill.


@pytest.mark.parametrize("is_transposed", [False, True])
def test_an_exception_at_any_instruction_of_a_fill_comes_out_and_nothing_is_written_later(is_transposed):
    code = f"""{COUNT}
import time
import numpy as np
from winit_fast import fill, parallel
whole = np.zeros((1 << 10, 1 << 9))
out = whole.T if {is_transposed} else whole
expected = fill(np.empty(out.shape), "normal", seed=1, name="w", threads=1)
before, seen, position, stopped = count_threads(), [], 0, 0
while True:
    position += 1
    whole[...] = 0
    steps, error = position, RuntimeError("injected")
    def trace(frame, event, _):
        global steps
        if frame.f_code.co_filename != parallel.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            steps -= 1
            if steps == 0:
                seen.append(frame.f_code.co_name)
                raise error
        return trace
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks at this in settrace
    sys.settrace(trace)
    try:
        fill(out, "normal", seed=1, name="w", threads=4)
        sys.settrace(None)
        assert steps > 0, position  # swallowed
        assert (out == expected).all()
        break
    except RuntimeError as raised:
        sys.settrace(None)
        assert raised is error, position
    found = whole.copy()
    assert count_left(before) == 0, position
    assert (whole == found).all(), position
    stopped += not found.all()
print({{"_look", "_share", "fill_plan", "fill_plans"}} <= {{*seen}}, position > 60, stopped > 2)
"""
    assert lines(code) == ["True True True"]


def test_an_exception_that_another_thread_sets_ends_a_fill_soon():
    code = f"""{COUNT}
import ctypes, threading, time
import numpy as np
from winit_fast import fill
class Cancelled(BaseException):
    pass
out, ended = np.zeros((1 << 13, 1 << 12)), []
before = count_threads()
def work():
    try:
        fill(out, "truncated_normal(low=-3, high=2)", seed=1, threads=2)
    except Cancelled:
        ended.append(np.count_nonzero(out))
thread = threading.Thread(target=work)
thread.start()
while not out[:, 0].any():
    time.sleep(0.001)
ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Cancelled))
thread.join()
left = count_left(before)
print(left, 0 < ended[0] < out.size, np.count_nonzero(out) == ended[0])
"""
    assert lines(code) == ["0 True True"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_as_many_threads_fill_as_were_asked_for_and_none_but_the_callers_takes_signals(monkeypatch):
    code = f"""{COUNT}
import time
from pathlib import Path
import numpy as np
from winit_fast import fill, parallel
before = set(os.listdir("/proc/self/task"))
most, masks = 0, set()
def look():
    global most
    time.sleep(0.002)
    helpers = set(os.listdir("/proc/self/task")) - before
    most = max(most, len(helpers))
    for helper in helpers:
        try:
            status = Path("/proc/self/task", helper, "status").read_text()
        except OSError:  # it has ended
            continue
        masks.add(int(status.split("SigBlk:")[1].split()[0], 16))
parallel._look = look
fill(np.zeros(1 << 26), "normal", seed=1, threads=6)
import signal
# A thread that the system has only begun to start blocks all, or none yet.
blocked = {{signal.SIGINT, signal.SIGALRM, signal.SIGTERM, signal.SIGPROF}}
open_ = {{signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}}
print(most, any({{number for number in blocked | open_ if mask >> (number - 1) & 1}} == blocked for mask in masks))
"""
    assert lines(code) == ["5 True"]


# An exception at every instruction of the crew of Python's threads in the calling thread, while helpers are in the
# middle of a share. Where there are more, each comes some instructions after the one before was written down.
INJECTED = """
import _thread, sys, threading, time
from winit_fast import parallel
caller = _thread.get_ident()
everything = []  # lists of units begun, in every run
class Rearming(list):
    def insert(self, *args):
        super().insert(*args)
        arm(sys._getframe(1))
class Watched(parallel.Crew):
    def __init__(self, *args):
        super().__init__(*args)
        self.errors = Rearming()
def arm(frame=None):
    if not steps:
        return
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks at this in settrace
    sys.settrace(trace)
    while frame is not None:
        if frame.f_code.co_filename == parallel.__file__:
            frame.f_trace, frame.f_trace_opcodes = trace, True
        frame = frame.f_back
def trace(frame, event, _):
    if frame.f_code.co_filename != parallel.__file__:
        return None
    frame.f_trace_opcodes = True
    if event == "opcode":
        steps[0] -= 1
        if steps[0] == 0:
            del steps[0]
            raised.append(ERROR("injected"))
            raise raised[-1]  # which ends the tracing
    return trace
if hasattr(parallel, "start_new_thread"):
    parallel.Crew = Watched
def run_with(*positions):  # whether it came so far; prints what is not as it must be
    global steps, raised
    steps, raised, begun, ended = list(positions), [], [], []
    everything.append((begun, ended))
    def work(first, last):
        begun.append(first)
        time.sleep(0 if _thread.get_ident() == caller else 0.004)
        ended.append(first)
    arm()
    try:
        parallel.run(work, 7, 1 << 20, 3)
    except ERROR as error:
        sys.settrace(None)
        inside = len(begun) - len(ended)
        if error not in raised or inside:
            print(positions, "raised", error, inside, "inside")
    else:
        sys.settrace(None)
        inside = len(begun) - len(ended)
        if raised or inside or sorted(ended) != [*range(7)]:
            print(positions, "returned", len(raised), "raised", inside, "inside", sorted(ended))
    ended.append(len(begun))
    deadline = time.monotonic() + 20
    while _thread._count() and time.monotonic() < deadline:
        time.sleep(0)
    if _thread._count():
        print(positions, "left a thread")
    return not steps
def check_that_nobody_worked_later():
    time.sleep(0.05)
    for begun, ended in everything:
        if len(begun) != ended[-1] or len(ended) != len(begun) + 1:
            print("worked after the end")
"""


# What the crew handles itself, where the system or a list raises it, at every third.
OWN = ["RuntimeError", "MemoryError", "IndexError"]


@pytest.mark.parametrize(
    ("error", "step"),
    [
        ("KeyboardInterrupt", 1),
        *((error, 3) for error in OWN),
        *(pytest.param(error, 1, marks=pytest.mark.exhaustive) for error in OWN),
    ],
)
def test_an_exception_at_any_instruction_of_the_crew_comes_out_and_leaves_no_thread(error, step):
    code = f"ERROR, STEP = {error}, {step}\n{INJECTED}"
    code += """
position = missed = 0
while missed < 5:
    position += STEP
    missed = 0 if run_with(position) else missed + 1
check_that_nobody_worked_later()
print(position > 200)
"""
    assert lines(code) == ["True"]


@pytest.mark.parametrize(
    "step", [397, pytest.param(61, marks=pytest.mark.exhaustive), pytest.param(1, marks=pytest.mark.sweep)]
)
def test_a_second_exception_at_any_instruction_after_the_first_leaves_no_thread(step):
    code = f"ERROR, STEP = KeyboardInterrupt, {step}\n{INJECTED}"
    code += """
position = missed = pairs = 0
while missed < 5:
    position += 1
    after = 0
    while run_with(position, (after := after + 1 + (position + after) % STEP)):
        pairs += 1
    missed = missed + 1 if steps and len(steps) == 2 else 0
check_that_nobody_worked_later()
print(pairs > (100 if STEP <= 61 else 50))
"""
    assert lines(code) == ["True"]


@pytest.mark.parametrize("step", [23, pytest.param(7, marks=pytest.mark.exhaustive)])
def test_exceptions_at_once_one_after_the_other_leave_no_thread(step):
    code = f"ERROR, STEP = KeyboardInterrupt, {step}\n{INJECTED}"
    code += """
for position in range(100, 400, STEP):
    for gap in range(1, 14):
        for count in range(2, 5):
            run_with(position, *[gap] * count)
check_that_nobody_worked_later()
"""
    assert lines(code) == []


def test_an_interrupt_stops_threads_that_are_about_to_take_a_share(monkeypatch):
    done, crews, caller = [], [], threading.get_ident()
    helper_takes = threading.Event()

    class SlowHeap(list):
        def pop(self):
            if threading.get_ident() != caller:
                helper_takes.set()
                deadline = time.monotonic() + 20
                while not crews[0].errors and time.monotonic() < deadline:
                    time.sleep(0.001)
            return super().pop()

    class SlowCrew(parallel.Crew):
        def __init__(self, *args):
            super().__init__(*args)
            self.heap = SlowHeap(self.heap)
            crews.append(self)

    def work(first, last):
        if threading.get_ident() == caller:
            assert helper_takes.wait(20)
            raise KeyboardInterrupt
        time.sleep(0.01)
        done.append(first)

    monkeypatch.setattr(parallel, "Crew", SlowCrew)
    with pytest.raises(KeyboardInterrupt):
        parallel.run(work, 10**6, 1 << 20, 2)
    assert len(done) == 1  # the share that it took after the interrupt, and waiting included that
    time.sleep(0.15)
    assert len(done) == 1


def test_a_helper_that_begins_after_an_interrupt_has_come_out_finds_nothing_to_do(monkeypatch):
    """As where the system lets a new thread wait for seconds; until it begins it has no frame to be seen by."""
    done, begins, begun, caller = [], threading.Event(), threading.Event(), threading.get_ident()

    def start_late(helper, arguments):
        def begin():
            assert begins.wait(20)
            helper(*arguments)
            begun.set()

        threading.Thread(target=begin).start()
        return -1  # of no thread that has a frame

    def work(first, last):
        if threading.get_ident() == caller:
            raise KeyboardInterrupt
        done.append(first)

    monkeypatch.setattr(parallel, "_PATIENCE", 0.02)
    monkeypatch.setattr(parallel, "start_new_thread", start_late)
    with pytest.raises(KeyboardInterrupt):
        parallel.run(work, 10**6, 1 << 20, 3)
    begins.set()
    assert begun.wait(20)
    assert done == []


# Helpers run no signal handlers, but `PyThreadState_SetAsyncExc` can raise in them, which some use to end threads.


def test_a_helper_killed_at_any_instruction_is_not_waited_for_and_its_share_is_missed():
    code = """
import _thread, sys, time
from winit_fast import parallel
caller = _thread.get_ident()
parallel._PATIENCE = 0.02
sys.unraisablehook = lambda *_: None
class Killed(BaseException):
    pass
def run_with(position):
    steps, starts, killed, begun, ended = position, [], [], [], []
    def trace(frame, event, _):
        nonlocal steps
        if frame.f_code.co_filename != parallel.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            steps -= 1
            if steps == 0:
                killed.append(1)
                raise Killed
        return trace
    def traced(help):
        sys.settrace(trace)
        help()
    def start(help, args):
        starts.append(help)
        return _thread.start_new_thread(*((help, args) if len(starts) > 1 else (traced, (help,))))
    def work(first, last):
        begun.append(first)
        time.sleep(0.003 if _thread.get_ident() == caller else 0.001)
        ended.append(first)
    parallel.start_new_thread = start
    try:
        parallel.run(work, 12, 1 << 20, 3)
        is_whole = sorted(ended) == [*range(12)]
    except (Killed, RuntimeError):
        is_whole = True
    if not is_whole or begun != ended and sorted(begun) != sorted(ended):
        print(position, killed, begun, ended)
    return killed
position = missed = 0
while missed < 20:
    position += 1
    missed = 0 if run_with(position) else missed + 1
print(position > 60)
"""
    assert lines(code) == ["True"]


# Forks


def test_a_fill_that_goes_on_in_a_fork_of_a_signal_handler_raises_there_unless_it_is_whole():
    code = """
import os, signal, sys, time, timeit, warnings
import numpy as np
from winit_fast import fill
warnings.simplefilter("ignore")
out = np.zeros(1 << 21)
expected = fill(np.empty_like(out), "normal", seed=1, threads=1)
least = min(timeit.repeat(lambda: fill(out, "normal", seed=1, threads=3), number=1, repeat=5))
children, is_child = [], False
def fork(*_):
    global is_child
    child = os.fork()
    if child:
        children.append(child)
    else:
        is_child = True
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(300)  # a child that hangs
signal.signal(signal.SIGALRM, fork)
outcomes = []
while len(outcomes) < 40 or outcomes.count(3) <= 5 and len(outcomes) < 2000:  # until enough of them were in time
    out[...] = 0
    number = len(outcomes) % 40
    signal.setitimer(signal.ITIMER_REAL, least * (0.2 + 0.05 * number))  # from within the fill to behind it
    status, begin = 0, timeit.default_timer()
    try:
        fill(out, "normal", seed=1, threads=3)
        least = min(least, timeit.default_timer() - begin)  # the machine may have been busy before
        while not children and not is_child:
            time.sleep(0.001)
        status = 1 if (out == expected).all() else 2
    except RuntimeError as error:
        status = 3 if "fork" in str(error) else 4
    if is_child:
        fill(out, "normal", seed=1, threads=3)
        os._exit(status if (out == expected).all() else 5)
    assert status == 1, status
    outcomes.append(os.waitstatus_to_exitcode(os.waitpid(children.pop(), 0)[1]))
print(sorted(set(outcomes)), outcomes.count(3) > 5)
"""
    assert lines(code) in (["[3] True"], ["[1, 3] True"])


def test_a_process_forked_by_another_thread_during_a_fill_fills_as_ever():
    code = """
import os, signal, threading, warnings
import numpy as np
from winit_fast import fill
warnings.simplefilter("ignore", DeprecationWarning)
out = np.zeros(1 << 20)
expected = fill(np.empty_like(out), "normal", seed=1, threads=1)
is_over, outcomes = False, []
def fork():
    while not is_over:
        child = os.fork()
        if child == 0:
            signal.alarm(300)
            own = fill(np.zeros_like(out), "normal", seed=1, threads=3)
            os._exit(0 if (own == expected).all() else 1)
        outcomes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread = threading.Thread(target=fork)
thread.start()
while len(outcomes) < 30:
    assert (fill(out, "normal", seed=1, threads=3) == expected).all()
is_over = True
thread.join()
print(set(outcomes))
"""
    assert lines(code) == ["{0}"]


# The end of the interpreter


@pytest.mark.parametrize("daemon", [False, True])
def test_an_interpreter_ends_well_while_another_thread_fills(daemon):
    code = f"""
import threading, time
import numpy as np
from winit_fast import fill
out = np.zeros(1 << 23)
def work():
    fill(out, "normal", seed=1, threads=3)
    print("whole" if out.all() else "not whole", flush=True)
threading.Thread(target=work, daemon={daemon}).start()
while not out.any():
    time.sleep(0.0001)
"""
    for _ in range(3):
        assert lines(code) == ["whole"] or daemon
