"""A lock that nothing leaves held: no interrupt, no signal handler, no finalizer and no fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["OneByOne"]

Result = TypeVar("Result")


class OneByOne:
    """Runs functions one after another, whichever threads ask for it. Make one as a module is imported, and keep it.

    What runs in a thread already, and is called again amid itself by a signal handler or by what is deleted, runs at
    once. In a forked process the threads that are not there hold nothing.

    Examples
    --------
    >>> OneByOne().run(lambda: 3)
    3
    """

    def __init__(self) -> None:
        self._lock: Any = threading.RLock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget_other_threads)

    def run(self, function: Callable[[], Result]) -> Result:
        """Call a function."""
        lock = self._lock
        is_amid = lock._is_owned()
        # `with` would be left in the bytecodes between its block and its end, and so is `finally`: the outer one does
        # what an interrupt kept the inner one from.
        try:
            try:
                if not is_amid:
                    lock.acquire()
                return function()
            finally:
                if not is_amid and lock._is_owned():
                    lock.release()
        finally:
            if not is_amid and lock._is_owned():
                lock.release()

    def _forget_other_threads(self) -> None:
        if not self._lock._is_owned():
            self._lock = threading.RLock()
