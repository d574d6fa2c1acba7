"""Names that were public once are still there, and what was pickled under them is loaded."""

import pickle
from hashlib import blake2b
from importlib import import_module

import numpy as np
import pytest

import winit_fast
from winit_fast import demo
from winit_fast.initializer import Initializer

SAME = [
    ("winit_fast.registry", "Entry", "SchemeInfo"),
    ("winit_fast.schemes", "Entry", "SchemeInfo"),
    ("winit_fast.distributions", "Table", "GivenValues"),
    ("winit_fast.check", "before_activation", "measure_before_activation"),
    ("winit_fast.check", "after_activation", "measure_after_activation"),
    ("winit_fast.check", "without_activation", "measure_outputs"),
    ("winit_fast.check", "entering", "measure_signal"),
    ("winit_fast.check", "sampled", "sample_rows"),
]
OF_TORCH = [
    ("winit_fast.adapters.torch.modules", "Report", "ModuleReport"),
    ("winit_fast.adapters.torch.modules", "Entry", "ModuleEntry"),
]


@pytest.mark.parametrize(("module", "older", "newer"), SAME)
def test_an_older_name_is_the_newer_one(module, older, newer):
    found = import_module(module)
    assert getattr(found, older) is getattr(found, newer)


@pytest.mark.frameworks
@pytest.mark.parametrize(("module", "older", "newer"), OF_TORCH)
def test_an_older_name_of_torchs_adapter_is_the_newer_one(module, older, newer):
    pytest.importorskip("torch")
    test_an_older_name_is_the_newer_one(module, older, newer)


def test_a_distribution_that_was_pickled_under_an_older_name_is_loaded():
    values = winit_fast.scheme("lstm_bias").distribution((8,))
    assert pickle.loads(pickle.dumps(values, 0).replace(b"GivenValues", b"Table")) == values


def test_methods_are_found_under_their_older_names():
    info = next(info for info in winit_fast.schemes() if info.name == "normal")
    assert info.scheme({"std": 0.5}) == winit_fast.scheme("normal(std=0.5)")
    assert Initializer("normal").named("x") == Initializer("normal", name="x")


def test_the_older_fingerprint_is_still_blake2bs():
    table = winit_fast.fill(np.empty((300, 70), "float16"), "normal", seed=0)
    assert demo.fingerprint(table) == blake2b(table.tobytes(), digest_size=16).hexdigest()


def test_scheme_calls_itself_by_its_public_name():
    assert winit_fast.scheme.__name__ == winit_fast.scheme.__qualname__ == "scheme"
    with pytest.raises(TypeError, match=r"^scheme\(\) "):
        winit_fast.scheme()
    assert b"read_scheme" not in pickle.dumps(winit_fast.scheme("normal"))
    assert np.array_equal(
        *[
            winit_fast.fill(np.empty(4), scheme, seed=0)
            for scheme in ("normal", pickle.loads(pickle.dumps(winit_fast.scheme("normal"))))
        ]
    )
