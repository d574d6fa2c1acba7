"""What several test files share."""

import ctypes
import gc
import os
import platform
import sys
from collections import defaultdict
from importlib import import_module
from unittest import mock

# Threads of NumPy's that wait for each other take ten times as long beside other work. Children may have them.
with mock.patch.dict(os.environ, OPENBLAS_NUM_THREADS="1"):
    import numpy  # noqa: F401

import pytest
from covering import cover
from hypothesis import HealthCheck, settings

from winit_fast import dispatch
from winit_fast.dispatch import usable_isas

# No claim about time: a busy machine may need seconds for an example.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(params=usable_isas())
def isa(request, monkeypatch):
    """Each compiled copy of the kernels that this CPU runs, in turn."""
    monkeypatch.setattr(dispatch, "kernels", import_module(f"winit_fast._kernels_{request.param}"))
    return request.param


@pytest.fixture
def control_register():
    """Sets MXCSR: the last 4 of the 32 bytes of glibc's fenv_t on x86-64."""
    if not (sys.platform == "linux" and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"):
        pytest.skip("written for glibc on x86-64")
    libm = ctypes.CDLL("libm.so.6")

    class Register:
        def __init__(self):
            self.found = self.environment()

        def environment(self):
            buffer = (ctypes.c_uint32 * 8)()
            assert libm.fegetenv(buffer) == 0
            return buffer

        @property
        def value(self):
            return self.environment()[7]

        @value.setter
        def value(self, value):
            environment = self.environment()
            environment[7] = value
            assert libm.fesetenv(environment) == 0

        def restore(self):
            assert libm.fesetenv(self.found) == 0

    register = Register()
    yield register
    register.restore()


def reason_to_leave_out(item):
    """The marker by which a test must be asked for, if any: the first of these that it has."""
    return next((name for name in ("sweep", "statistics", "exhaustive") if item.get_closest_marker(name)), None)


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marker
def pytest_collection_modifyitems(config, items):
    """Of tests marked `covering`, the cases that their sample does without are exhaustive.

    What is exhaustive, like a sweep, runs where it is asked for by its marker, and nowhere else: ``-m frameworks`` does
    not start it.
    """
    tests = defaultdict(list)
    for item in items:
        if item.get_closest_marker("covering") and not reason_to_leave_out(item):
            tests[item.nodeid.partition("[")[0]].append(item)
    for cases in tests.values():
        arguments = [{name: str(value) for name, value in case.callspec.params.items()} for case in cases]
        chosen = cover(arguments, *cases[0].get_closest_marker("covering").args)
        for number, case in enumerate(cases):
            if number not in chosen:
                case.add_marker("exhaustive")
    asked = config.getoption("markexpr")
    unasked = {item for item in items if (reason := reason_to_leave_out(item)) and reason not in asked}
    config.hook.pytest_deselected(items=list(unasked))
    items[:] = [item for item in items if item not in unasked]


def pytest_collection_finish():
    """Ten thousand tests are many objects, through which every collection of garbage would go again."""
    gc.collect()
    gc.freeze()
