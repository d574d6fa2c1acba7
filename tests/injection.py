"""An exception at one bytecode after another of some code, as a signal handler would raise it."""

import gc
import sys
from collections import Counter


class Injected(KeyboardInterrupt):
    """What is raised."""


def _traced(run, files, at_opcode):
    """Run something, and have each bytecode told that frames of these files are about to do."""

    def trace(frame, event, _):
        if not frame.f_code.co_filename.endswith(files):
            return None
        frame.f_trace = trace  # Python 3.13 looks at this when it is told of opcodes
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            at_opcode(frame)
        return trace

    sys._getframe().f_trace_opcodes = True  # since Python 3.12 it must be so of a frame as settrace is called
    before = sys.gettrace()
    gc.disable()  # what is deleted in other places each time would be traced too
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
        gc.enable()


def positions(run, files):
    """Every bytecode that some code does in these files, and how often: (code, offset) -> count."""
    seen = Counter()
    _traced(run, files, lambda frame: seen.update([(frame.f_code, frame.f_lasti)]))
    return seen


def inject(run, files, position, occurrence=1):
    """Run something and raise as it comes to a position for the n-th time; whether it came there."""
    left = occurrence

    def at_opcode(frame):
        nonlocal left
        if (frame.f_code, frame.f_lasti) == position:
            left -= 1
            if left == 0:
                raise Injected

    _traced(run, files, at_opcode)


def sample(found, most):
    """Positions spread evenly over all of them, each with its first or its last occurrence."""
    wanted = [(position, 1) for position in found]
    wanted += [(position, count) for position, count in found.items() if count > 1]
    return wanted if most is None else wanted[:: max(1, len(wanted) // most)]
