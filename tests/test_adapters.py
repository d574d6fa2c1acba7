"""The package of adapters: one module under two names, nothing imported before it is touched."""

import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from processes import printed

import winit_fast
from winit_fast import adapters

ROOT = Path(__file__).parent.parent
FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "ml_dtypes")


def run(code):
    """Run code in a new interpreter, with the repository's root as its current folder and nothing of ours imported."""
    printed(textwrap.dedent(code), cwd=ROOT)


@pytest.fixture
def new_adapter(tmp_path, monkeypatch):
    """Write an adapter, as adding one adds one file."""

    def write(name, code):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        monkeypatch.setattr(adapters, "__path__", [*adapters.__path__, str(tmp_path)])

    yield write
    for module in [module for module in sys.modules if module.startswith("winit_fast.adapters.fantasy")]:
        del sys.modules[module]
    vars(adapters).pop("fantasy", None)


@pytest.mark.parametrize(
    "imports",
    [
        "import adapters.numpy; import winit_fast.adapters.numpy",
        "import winit_fast.adapters.numpy; import adapters.numpy",
        "import adapters; import winit_fast.adapters.numpy; import adapters.numpy",
        "import winit_fast.adapters; import adapters.numpy",
        "from adapters.numpy import init; import winit_fast.adapters.numpy, adapters.numpy",
        "from adapters import numpy; from winit_fast.adapters import numpy as again; assert numpy is again; "
        "import adapters.numpy, winit_fast.adapters",
    ],
)
def test_both_names_are_one_module(imports):
    run(f"""
        {imports}
        assert winit_fast.adapters is adapters
        assert winit_fast.adapters.numpy is adapters.numpy
        assert adapters.numpy.init.__module__ == "winit_fast.adapters.numpy"
        for module, name in (adapters, "winit_fast.adapters"), (adapters.numpy, "winit_fast.adapters.numpy"):
            assert module.__name__ == module.__spec__.name == name
            assert not module.__spec__._initializing
        assert adapters.__package__ == adapters.numpy.__package__ == "winit_fast.adapters"
    """)


@pytest.mark.parametrize("first", ["adapters", "winit_fast.adapters"])
def test_a_module_that_is_not_there_is_not_found_under_either_name(first):
    run(f"""
        import importlib, importlib.util
        importlib.import_module({first!r})
        for name in "adapters.nothing", "winit_fast.adapters.nothing":
            assert importlib.util.find_spec(name) is None
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                assert error.name == name
            else:
                raise AssertionError(name)
    """)


def test_functions_survive_pickling_whatever_name_they_were_imported_by():
    run("""
        import pickle
        import adapters.numpy
        assert pickle.loads(pickle.dumps(adapters.numpy.init)) is adapters.numpy.init
    """)


def test_winit_fast_imports_no_adapter_and_no_framework():
    run(f"""
        import sys, winit_fast
        assert not [module for module in sys.modules if module.startswith("winit_fast.adapters")]
        assert not set(sys.modules) & set({FRAMEWORKS!r})
    """)


def test_an_adapter_is_imported_when_first_touched():
    run(f"""
        import sys
        from winit_fast import adapters
        assert "numpy" in dir(adapters)
        assert "winit_fast.adapters.numpy" not in sys.modules
        assert not set(sys.modules) & set({FRAMEWORKS!r})
        adapters.numpy.init
        assert adapters.numpy is vars(adapters)["numpy"]
        assert not set(sys.modules) & set({FRAMEWORKS!r})
    """)


def test_dir_of_an_adapter_shows_its_public_names_alone():
    assert dir(adapters.numpy) == sorted(adapters.numpy.__all__) == ["init", "init_"]


def test_an_unknown_adapter_is_an_ordinary_attribute_error():
    with pytest.raises(AttributeError, match=r"no attribute 'nupmy'; it has .*numpy"):
        _ = adapters.nupmy
    assert not hasattr(adapters, "__wrapped__")
    with pytest.raises(ImportError, match="cannot import name 'nupmy'"):
        from winit_fast.adapters import nupmy  # noqa: F401


def test_a_missing_framework_is_an_error_that_says_what_to_install(new_adapter):
    new_adapter(
        "fantasy",
        """
        from winit_fast.adapters import needs

        with needs("fantasy"):
            import fantasy
        """,
    )
    message = r"needs fantasy, of the extra \[fantasy\]: pip install fantasy \(No module named 'fantasy'\)"
    with pytest.raises(ModuleNotFoundError, match=message) as caught:
        _ = adapters.fantasy
    assert caught.value.name == "fantasy"
    with pytest.raises(ModuleNotFoundError, match=message):
        from winit_fast.adapters import fantasy  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match=message):
        import winit_fast.adapters.fantasy  # noqa: F401


def test_a_file_is_all_that_a_new_adapter_takes(new_adapter):
    new_adapter("fantasy", "answer = 42")
    assert adapters.fantasy.answer == 42
    with pytest.raises(AttributeError, match=r"it has .*fantasy, .*numpy"):
        _ = adapters.nothing


def test_dir_leaves_out_adapters_whose_framework_is_missing(new_adapter):
    new_adapter("fantasy", "import fantasy_that_is_not_there")
    assert "numpy" in dir(adapters)
    assert "fantasy" not in dir(adapters)
    assert all(hasattr(adapters, name) for name in dir(adapters))  # what help() does


def test_adapters_are_an_attribute_of_the_package_and_not_imported_before():
    code = """
import sys, winit_fast
print("winit_fast.adapters" in sys.modules, winit_fast.adapters is sys.modules["winit_fast.adapters"])
"""
    assert printed(code) == "False True\n"
    with pytest.raises(AttributeError, match="has no attribute 'adaptors'"):
        _ = winit_fast.adaptors


def test_init_asks_the_adapter_that_has_the_name_of_a_tensors_module(new_adapter):
    new_adapter(
        "fantasy",
        """
        class Tensor:
            pass

        def init_(x, scheme, **arguments):
            return x, scheme, arguments
        """,
    )
    fantasy = adapters.fantasy.Tensor
    fantasy.__module__ = "fantasy.tensors"
    x, derived = fantasy(), type("Mine", (fantasy,), {})()
    assert adapters.init_(x, "normal", seed=7) == (x, "normal", {"seed": 7})
    assert adapters.init_(derived, "zeros") == (derived, "zeros", {})
    del adapters.fantasy.init_
    with pytest.raises(TypeError, match=r"x must be writable, got Tensor: adapters\.fantasy\.init makes a new one"):
        adapters.init_(x, "normal")


def test_init_fills_arrays_and_refuses_what_is_nobodys():
    out = np.full((3, 4), 9.0, "float32")
    assert adapters.init_(out, "normal", seed=7, name="w") is out
    assert np.array_equal(out, winit_fast.fill(np.empty((3, 4), "float32"), "normal", seed=7, name="w"))
    for nobodys in ([1.0], 1.0, None):
        with pytest.raises(TypeError, match=r"x must be an array, tensor or variable of .*numpy.*, got"):
            adapters.init_(nobodys, "normal", seed=7)


def test_init_imports_no_framework():
    run(f"""
        import sys
        import numpy as np
        from winit_fast import adapters
        adapters.init_(np.empty(3), "normal", seed=7)
        try:
            adapters.init_([1.0], "normal", seed=7)
        except TypeError:
            pass
        assert not set(sys.modules) & set({FRAMEWORKS!r})
    """)
