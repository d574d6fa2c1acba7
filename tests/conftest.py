"""What several test files share."""

import ctypes
import platform
import sys
from importlib import import_module

import pytest
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


def pytest_collection_modifyitems(config, items):
    """Sweeps run where they are asked for by their marker, and nowhere else: ``-m frameworks`` does not start them."""
    if "sweep" not in config.getoption("markexpr"):
        sweeps = [item for item in items if item.get_closest_marker("sweep")]
        config.hook.pytest_deselected(items=sweeps)
        items[:] = [item for item in items if not item.get_closest_marker("sweep")]
