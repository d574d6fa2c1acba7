"""docs/errors.md quotes messages as they are raised."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import winit_fast
from winit_fast import adapters

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"


def fill(size, scheme, dtype="float32", **arguments):
    return winit_fast.fill(np.empty(size, dtype), scheme, **{"seed": 1, **arguments})


class OnDevice:
    def __dlpack__(self, **_):
        raise AssertionError

    def __dlpack_device__(self):
        return 2, 0


MISTAKES = [
    lambda: fill((4, 4), "he_norml"),
    lambda: fill((4, 4), "normal(stddev=0.02)"),
    lambda: fill((4, 4), "he_normal(nonlinearity=relu)"),
    lambda: fill((4, 4), "HeNormal"),
    lambda: fill((4, 4), "normal", std=0.01),
    lambda: fill((4, 4), "normal(std=1000000.0)", "float16"),
    lambda: fill((4, 4), "truncated_normal", "complex64"),
    lambda: fill((4, 4), "normal", seed=None),
    lambda: fill((4, 4), "normal", seed=-1),
    lambda: fill((4,), "he_normal"),
    lambda: fill((2, 4), "normal", shape=(4, 4)),
    lambda: fill((2, 4), "normal", shape=(4, 4), offset=(3, 0)),
    lambda: fill((4, 4), "normal", shape=(size for size in (4, 4)), offset=(0, 0)),
    lambda: fill((4, 4), "orthogonal", matrices=3),
    lambda: fill((2, 4), "dirac"),
    lambda: winit_fast.fill(np.broadcast_to(np.empty(4), (2, 4)), "normal", seed=1),
    lambda: fill((2, 4), "normal", "int32"),
    lambda: winit_fast.fill(np.lib.stride_tricks.as_strided(np.empty(16), (4, 4), (8, 8)), "normal", seed=1),
    lambda: fill((2, 4), "normal", ">f4"),
    lambda: winit_fast.fill(np.ma.masked_array(np.empty((2, 4))), "normal", seed=1),
    lambda: winit_fast.fill_rows(np.empty((2, 4)), np.ma.masked_array([0, 3]), "normal", seed=1, shape=(5, 4)),
    lambda: adapters.dlpack.init_(OnDevice(), "normal", seed=1),
    lambda: winit_fast.fill_rows(np.empty((2, 4)), [0, 9], "normal", seed=1, shape=(5, 4)),
    lambda: winit_fast.fill_rows(np.empty((2, 4)), [0, 3], "normal", seed=1, shape=(5, 6)),
    lambda: winit_fast.fill_rows(np.empty((2, 4)), np.array([True, False]), "normal", seed=1, shape=(2, 4)),
    lambda: winit_fast.fill_keys(np.empty((2, 4)), [0, 9], "orthogonal", seed=1),
    lambda: winit_fast.fill_keys(np.empty((2, 4)), [0, 9], "he_normal", seed=1),
]


def quoted():
    """The messages of the page, without what an ellipsis leaves out; those that need a framework or an import apart."""
    cells = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    elsewhere = (
        "RepeatedValuesWarning",
        "out must be a NumPy array",
        "rules must",
        "init_module_()",
        "Could not interpret",
        "x must be writable",
        "this adapter",
        "data type",
        "WINIT_FAST",
        "winit_fast needs",
        "winit_fast is not",
        "winit_fast in <folder>",
        "winit_fast has no compiled kernels",
        "<folder> has no",
    )
    return [cell.split("...") for cell in cells if not cell.startswith((*elsewhere, "import"))]


def test_every_message_is_one_that_is_raised():
    raised = []
    for mistake in MISTAKES:
        with pytest.raises((TypeError, ValueError)) as caught:
            mistake()
        raised.append(str(caught.value))
    missing = [parts for parts in quoted() if not any(all(part.strip() in one for part in parts) for one in raised)]
    assert missing == []
    unused = [one for one in raised if not any(all(part.strip() in one for part in parts) for parts in quoted())]
    assert unused == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [("WINIT_FAST_ISA", "x87"), ("WINIT_FAST_THREADS", "many"), ("WINIT_FAST_HUGE_PAGES", "never")],
)
def test_every_variable_is_refused_as_the_page_says(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    code = "import numpy, winit_fast; winit_fast.fill(numpy.empty((2000, 1000)), 'normal', seed=1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    message = re.search(rf"`({variable} must be [^`,]+)", PAGE.read_text(encoding="utf-8"))[1]
    assert message in done.stderr


def test_the_warning_is_the_one_that_is_given():
    message = re.search(r"`RepeatedValuesWarning: ([^`]+)`", PAGE.read_text(encoding="utf-8"))[1]
    with pytest.warns(winit_fast.RepeatedValuesWarning, match=message):
        _ = [fill((31, 7), "normal", seed=98765) for _ in range(2)]


@pytest.mark.frameworks
def test_messages_of_frameworks_are_those_that_are_raised():
    torch, keras = pytest.importorskip("torch"), pytest.importorskip("keras")
    import winit_fast.adapters.keras

    model = torch.nn.Linear(4, 4)
    mistakes = {
        "out must be a NumPy array": lambda: winit_fast.fill(torch.empty(4, 4), "normal", seed=1),
        "rules must take": lambda: adapters.torch.init_module_(model, {"weight": "normal"}, seed=1),
        "rules must say": lambda: adapters.torch.init_module_(model, "he_normal", seed=1),
        "init_module_()": lambda: adapters.torch.init_module_(model, {"*": "zeros"}),
        "Could not interpret": lambda: keras.layers.Dense(4, kernel_initializer="winit_fast>normal(std=0.01)"),
    }
    for start, mistake in mistakes.items():
        with pytest.raises((TypeError, ValueError)) as caught:
            mistake()
        (cell,) = re.findall(
            rf"^\| `({re.escape(start)}[^`]*)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        assert all(part.strip() in str(caught.value) for part in cell.split("..."))
