"""How busy the machine is, for tests of how soon something happens."""

import time


def stretch():
    """How many times as long as its own time a thread takes here and now: 1 on a quiet machine."""
    begin, own = time.monotonic(), time.thread_time()
    while (used := time.thread_time() - own) < 0.05:
        pass
    return max(1.0, (time.monotonic() - begin) / used)
