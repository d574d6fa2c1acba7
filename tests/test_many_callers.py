"""Many threads of Python's that call at once: with its lock, and without it."""

import sysconfig
from pathlib import Path

import pytest
from processes import printed, python

PROGRAM = str(Path(__file__).with_name("many_callers.py"))


@pytest.fixture(scope="module")
def by_one():
    """What 16 callers get, one after the other."""
    return called(16, 1)


def called(callers, threads):
    done = python(PROGRAM, str(callers), str(threads))
    assert done.returncode == 0, done.stderr
    assert "is not what it was" not in done.stdout
    return done.stdout.splitlines()


@pytest.mark.parametrize("threads", [2, 16])
def test_each_of_many_callers_gets_what_it_gets_alone(by_one, threads):
    """The first calls of the process meet, too: modules are imported, and caches filled, by all at once."""
    assert len(by_one) > 300
    assert called(16, threads) == by_one


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python cannot do without its lock")
@pytest.mark.parametrize("isa", ["avx512", "avx2", "neon", "baseline"])
def test_importing_every_module_leaves_pythons_lock_off(isa):
    printed(f"""
import sys
import numpy  # whose own word this is not about
if sys._is_gil_enabled():
    sys.exit()
from importlib import import_module
from pkgutil import walk_packages
import winit_fast
from winit_fast import dispatch
if "{isa}" in dispatch.usable_isas():
    import_module("winit_fast._kernels_{isa}")
for module in walk_packages(winit_fast.__path__, "winit_fast."):
    if not module.name.startswith(("winit_fast.adapters", "winit_fast._kernels_", "winit_fast.__main__")):
        import_module(module.name)
assert not sys._is_gil_enabled()
""")
