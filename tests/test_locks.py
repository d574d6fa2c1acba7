"""OneByOne: a lock that nothing leaves held."""

import os
import threading

import pytest
from injection import Injected, inject, positions, sample

from winit_fast.locks import OneByOne


def is_free(lock, timeout=20.0):
    """Whether another thread can have it."""
    thread = threading.Thread(target=lock.run, args=(int,), daemon=True)
    thread.start()
    thread.join(timeout)
    return not thread.is_alive()


def test_one_runs_after_the_other():
    lock, seen = OneByOne(), []

    def work():
        for _ in range(200):
            lock.run(lambda: seen.extend(["begins", "ends"]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["begins", "ends"] * 800


def test_it_runs_at_once_amid_itself():
    lock = OneByOne()
    assert lock.run(lambda: lock.run(lambda: (is_free(lock, 0.1), 5))) == (False, 5)
    assert is_free(lock)


def test_an_exception_at_any_bytecode_leaves_it_free():
    lock = OneByOne()

    def run():
        lock.run(lambda: None)

    files = ("locks.py", "test_locks.py")
    found = positions(run, files)
    assert len(found) > 40
    for position, occurrence in sample(found, None):
        with pytest.raises(Injected):
            inject(run, files, position, occurrence)
        assert not lock._lock._is_owned(), position
    assert is_free(lock)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_threads_that_are_not_there():
    lock, is_held, may_end = OneByOne(), threading.Event(), threading.Event()
    thread = threading.Thread(target=lock.run, args=(lambda: (is_held.set(), may_end.wait()),))
    thread.start()
    is_held.wait()
    child = os.fork()
    if not child:
        os._exit(0 if is_free(lock) else 1)
    may_end.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
