"""What is installed and what runs: for bug reports."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence

import numpy as np

from winit_fast.dispatch import ISA, compiled_isas
from winit_fast.parallel import default_threads

__all__ = ["STREAM_VERSION", "__version__", "show_config"]

__version__ = "0.1.0"

#: The version of the values: those of one version never change (STREAM.md).
STREAM_VERSION = 1

#: What adapters have to say in a bug report: functions that give lines, since the engine knows no adapter.
REPORTS: list[Callable[[], Sequence[str]]] = []


def show_config() -> None:
    """Print versions, the ISAs compiled and the one chosen, and the default number of threads.

    Once `winit_fast.adapters.torch` is imported, also how tensors on each GPU are filled.

    Examples
    --------
    >>> import winit_fast
    >>> winit_fast.show_config()  # doctest: +ELLIPSIS
    winit_fast ...
    """
    print(f"winit_fast {__version__}, stream version {STREAM_VERSION}")
    print(f"Python {platform.python_version()} ({sys.platform}, {platform.machine()}), NumPy {np.__version__}")
    print(f"ISA {ISA}, of {', '.join(compiled_isas())} compiled")
    try:
        print(f"threads {default_threads()} by default")
    except ValueError as error:  # a bad setting is what a bug report should show
        print(f"threads {error}")
    for line in (line for report in REPORTS for line in report()):
        print(line)
