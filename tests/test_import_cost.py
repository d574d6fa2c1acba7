"""Importing winit_fast stays cheap: what it imports is counted, since times depend on the machine."""

import subprocess
import sys

import pytest

import winit_fast
from winit_fast import files

# What a plain import once took a third of its time for: methods compiled, and exact numbers that a fill may need.
LATER = {"dataclasses", "decimal", "fractions", "hashlib", "json", "pathlib", "shutil", "subprocess"}


def imported_by(code):
    """The modules that some code adds to those of NumPy."""
    program = f"import sys, numpy\nbefore = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_winit_fast_imports_little():
    imported = imported_by("import winit_fast")
    assert not imported & LATER
    ours = {name for name in imported if name.startswith("winit_fast")}
    assert len(ours) <= 30, sorted(ours)  # a new one may be worth it: see what it costs, and what it makes later
    assert len(imported - ours) <= 20, sorted(imported - ours)


def test_importing_files_imports_none_of_its_modules():
    assert imported_by("import winit_fast.files") == imported_by("import winit_fast") | {"winit_fast.files"}


def test_a_name_of_files_imports_what_it_needs():
    assert "winit_fast.files.verifying" not in imported_by("from winit_fast.files import TensorSpec")
    assert "winit_fast.files.journal" not in imported_by("from winit_fast.files import TensorSpec")


def test_the_command_that_fills_imports_little(tmp_path):
    given = ["fill", str(tmp_path / "table.npy"), "--shape", "8x4", "--name", "t", "--scheme", "normal", "--seed", "1"]
    imported = imported_by(f"from winit_fast.__main__ import main\nassert main({given}) == 0")
    unneeded = {"subprocess", "tempfile", "tqdm", "winit_fast.files.verifying", "winit_fast.files.pairs"}
    unneeded |= {"winit_fast.adapters", "winit_fast.report", "winit_fast.demo"}
    assert not imported & unneeded
    assert (tmp_path / "table.npy").exists()


@pytest.mark.parametrize("module", [winit_fast, files])
def test_every_public_name_is_listed_and_found(module):
    for name in module.__all__:
        assert name in dir(module)
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", ["adapters", "check", "files", "report"])
def test_a_package_is_found_without_being_imported_by_name(package):
    program = f"import winit_fast; assert {package!r} in dir(winit_fast); print(winit_fast.{package}.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"winit_fast.{package}"


@pytest.mark.parametrize("module", [winit_fast, files])
def test_an_unknown_name_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'wrote'"):
        _ = module.wrote
    with pytest.raises(ImportError, match="wrote"):
        exec(f"from {module.__name__} import wrote")
