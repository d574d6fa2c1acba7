"""README's table of equivalents, against the libraries themselves: ``pytest -m frameworks`` (extra ``frameworks``)."""

import math
import os

import numpy as np
import pytest
from test_readme import README, rows, section

import winit_fast

pytestmark = pytest.mark.frameworks

SHAPE = (600, 300)
TABLE = rows(section(README.read_text(encoding="utf-8"), "The same in torch, Keras and JAX"))


def from_torch(expression):
    import torch

    return eval(expression, {**vars(torch.nn.init), "math": math}, {"w": torch.empty(SHAPE)}).numpy()


def from_keras(expression):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    return np.asarray(eval(expression, dict(vars(keras.initializers)))(SHAPE))


def from_jax(expression):
    import jax

    return np.asarray(eval(expression, dict(vars(jax.nn.initializers)))(jax.random.key(0), SHAPE))


LIBRARIES = {
    "torch": (from_torch, {"in_axis": 1, "out_axis": 0}),
    "keras": (from_keras, {}),
    "jax": (from_jax, {}),
}
CASES = [
    pytest.param(ours.strip("`"), theirs.split("`")[1], *LIBRARIES[library], id=f"{library}-{ours}")
    for ours, *columns in TABLE
    for library, theirs in zip(LIBRARIES, columns, strict=True)
    if theirs
]


def test_the_table_names_every_library_many_times():
    assert len(CASES) > 40


@pytest.mark.parametrize(("ours", "theirs", "draw", "axes"), CASES)
def test_an_equivalent_has_the_same_moments_and_bounds(ours, theirs, draw, axes):
    generated = draw(theirs)
    mine = winit_fast.fill(np.empty(SHAPE, "float32"), ours, seed=1, **axes)
    std = float(generated.std())
    assert mine.std() == pytest.approx(std, rel=0.02, abs=1e-12)
    assert abs(mine.mean() - generated.mean()) <= 6 * std / math.sqrt(mine.size / 2)
    # 180,000 values come close to the ends of a bounded distribution; the largest of a normal's wander.
    ends = (mine.min(), mine.max()), (generated.min(), generated.max())
    assert ends[0] == pytest.approx(ends[1], abs=0.02 * std if np.ptp(mine) < 5 * std else 2 * std)
