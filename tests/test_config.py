"""show_config: what a bug report needs."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest

import winit_fast
from winit_fast._plan import cpu_isas
from winit_fast.dispatch import ISA, compiled_isas, usable_isas
from winit_fast.parallel import default_threads


def test_show_config_prints_versions_isas_and_threads(capsys):
    winit_fast.show_config()
    shown = capsys.readouterr().out
    assert f"winit_fast {winit_fast.__version__}, stream version {winit_fast.STREAM_VERSION}" in shown
    assert f"Python {platform.python_version()}" in shown
    assert platform.machine() in shown
    assert f"NumPy {np.__version__}" in shown
    assert f"ISA {ISA}, of {', '.join(compiled_isas())} compiled" in shown
    assert f"threads {default_threads()} by default" in shown


def test_show_config_shows_a_bad_number_of_threads(capsys, monkeypatch):
    monkeypatch.setenv("WINIT_FAST_THREADS", "zero")
    winit_fast.show_config()
    shown = capsys.readouterr().out
    assert f"winit_fast {winit_fast.__version__}" in shown
    assert "WINIT_FAST_THREADS must be " in shown
    assert "'zero'" in shown


def test_the_stream_is_version_1():
    assert winit_fast.STREAM_VERSION == 1


def test_the_version_is_that_of_the_installed_package():
    try:
        installed = version("winit_fast")
    except PackageNotFoundError:
        pytest.skip("not installed, run from its folder")
    assert winit_fast.__version__ == installed


def test_every_name_that_the_package_lists_is_there():
    constants_classes_functions = sorted(winit_fast.__all__, key=lambda name: (not name.isupper(), name))
    assert constants_classes_functions == winit_fast.__all__
    assert all(hasattr(winit_fast, name) for name in winit_fast.__all__)


def test_the_isa_chosen_is_compiled_and_runs_here():
    assert ISA in usable_isas()
    assert set(usable_isas()) <= set(compiled_isas())
    assert usable_isas()[-1] == "baseline"


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the system lists no features of the CPU")
def test_the_isas_of_this_cpu_are_those_whose_features_the_system_lists():
    lines = (line.split(":") for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    listed = {name.strip(): words.split() for name, words in lines}
    flags = set(listed.get("flags", listed.get("Features", [])))
    needed = {
        "avx512": {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"},
        "avx2": {"avx2"},
        "neon": {"asimd"},
    }
    assert cpu_isas() == (*(isa for isa, features in needed.items() if features <= flags), "baseline")
