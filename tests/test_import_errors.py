"""What cannot run says so on import, and what to do."""

import shutil
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from processes import python

import winit_fast

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"


@pytest.mark.parametrize("version", ["1.26.4", "1.9.0.dev0"])
def test_an_older_numpy_is_named_before_anything_fails(tmp_path, version):
    (tmp_path / "numpy.py").write_text(f"__version__ = {version!r}\n")
    done = python("-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import winit_fast")
    assert done.stderr.endswith(f"ImportError: winit_fast needs NumPy 2 or newer, found {version}\n")
    assert "winit_fast needs NumPy 2 or newer, found 1.26.4" in PAGE.read_text(encoding="utf-8")


def test_a_clone_that_is_not_built_explains_itself(tmp_path):
    """As where an installed winit_fast is meant, and Python runs in the clone's root."""
    package = tmp_path / "winit_fast"
    compiled = {f"*{suffix}" for suffix in EXTENSION_SUFFIXES}
    shutil.copytree(Path(winit_fast.__file__).parent, package, ignore=shutil.ignore_patterns(*compiled, "adapters"))
    # Without what an editable install has found modules of the package with, wherever the package itself lies.
    code = "import sys; sys.meta_path[:] = [i for i in sys.meta_path if 'editable' not in repr(i)]; import winit_fast"
    done = python("-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    message = f"ModuleNotFoundError: winit_fast is not built in {package}: run Python in another folder"
    assert message in done.stderr.splitlines()[-1]
    assert "winit_fast is not built in <folder>" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("error", ["ImportError", "SystemError"])  # the second from a free-threaded CPython 3.13
def test_a_clone_that_is_built_for_another_python_explains_itself(tmp_path, error):
    (tmp_path / "winit_fast").mkdir()
    source = Path(winit_fast.__file__).read_text(encoding="utf-8")
    (tmp_path / "winit_fast" / "__init__.py").write_text(source, encoding="utf-8")
    (tmp_path / "winit_fast" / "_plan.py").write_text(f"raise {error}('no such symbol')\n")
    done = python("-c", "import winit_fast", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    message = "cannot be loaded (no such symbol). It may be built for another Python or another machine: build it"
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: winit_fast in {tmp_path / 'winit_fast'} {message}")
    assert "winit_fast in <folder> cannot be loaded" in PAGE.read_text(encoding="utf-8")


def test_a_clone_that_is_built_but_not_installed_says_where_adapters_are(tmp_path):
    package = tmp_path / "winit_fast"
    shutil.copytree(Path(winit_fast.__file__).parent, package, ignore=shutil.ignore_patterns("adapters"))
    code = "import sys; sys.meta_path[:] = [i for i in sys.meta_path if 'editable' not in repr(i)]; import winit_fast"
    for use in ("from winit_fast import adapters", "winit_fast.adapters"):
        done = python("-c", f"{code}; {use}", cwd=tmp_path, PYTHONPATH=str(tmp_path))
        message = (
            f"ModuleNotFoundError: {package} has no adapters, which an installation puts there: run Python in another"
        )
        assert done.stderr.splitlines()[-1].startswith(message)
    assert "has no adapters, which an installation puts there" in PAGE.read_text(encoding="utf-8")


def test_another_module_that_is_missing_is_not_taken_for_the_build(tmp_path):
    (tmp_path / "winit_fast").mkdir()
    source = Path(winit_fast.__file__).read_text(encoding="utf-8")
    (tmp_path / "winit_fast" / "__init__.py").write_text(source, encoding="utf-8")
    (tmp_path / "winit_fast" / "_plan.py").write_text("import no_such_module\n")
    done = python("-c", "import winit_fast", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'no_such_module'\n")
