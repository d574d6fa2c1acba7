"""The registry's equivalents, against the libraries themselves: ``pytest -m frameworks`` (extra ``frameworks``)."""

import math
import os

import numpy as np
import pytest

import winit_fast

pytestmark = pytest.mark.frameworks

TORCH_LAYOUT = {"in_axis": 1, "out_axis": 0}


def from_torch(expression, shape):
    import torch

    torch.manual_seed(1)
    return eval(expression, {**vars(torch.nn.init), "math": math}, {"w": torch.empty(shape)}).numpy()


def from_keras(expression, shape):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    keras.utils.set_random_seed(1)
    return np.asarray(eval(expression, dict(vars(keras.initializers)))(shape))


def from_jax(expression, shape, **arguments):
    import jax

    return np.asarray(eval(expression, dict(vars(jax.nn.initializers)))(jax.random.key(0), shape, **arguments))


LIBRARIES = {"torch": (from_torch, TORCH_LAYOUT), "keras": (from_keras, {}), "jax": (from_jax, {})}
SHAPES = {
    "orthogonal": [(600, 300), (300, 600), (40, 30, 3, 5), (3, 5, 40, 30)],
    "delta_orthogonal": [(5, 30, 60), (3, 4, 60, 60), (1, 2, 3, 30, 40)],
    "identity": [(600, 300), (30, 40)],
    "dirac": [(8, 4, 3), (64, 32, 3, 4), (4, 6, 2, 1, 5)],
}
CASES = [
    pytest.param(ours, theirs[library], *LIBRARIES[library], shape, id=f"{library}-{ours}-{shape}")
    for entry in winit_fast.schemes()
    for ours, *columns in entry.equivalents
    for theirs in [dict(zip(LIBRARIES, columns, strict=True))]
    for library in LIBRARIES
    if theirs[library]
    for shape in SHAPES.get(entry.name, [(600, 300)])
]


def cases(*names, other_than=False):
    """Those of some schemes, or of all but them."""
    chosen = [case for case in CASES if (winit_fast.scheme(case.values[0]).name in names) is not other_than]
    return pytest.mark.parametrize(("ours", "theirs", "draw", "axes", "shape"), chosen)


GIVEN = ["zeros", "ones", "constant", "identity", "dirac"]
MATRICES = ["orthogonal", "delta_orthogonal"]


def filled(scheme, shape, dtype="float32", **axes):
    return winit_fast.fill(np.empty(shape, dtype), scheme, seed=1, **axes)


def test_the_registry_names_every_library_many_times():
    assert len(CASES) > 60
    for draw, _ in LIBRARIES.values():
        assert len({case.values[0] for case in CASES if case.values[2] is draw}) > 15


def assert_same_moments_and_bounds(mine, generated):
    std = float(generated.std())
    assert mine.std() == pytest.approx(std, rel=0.02, abs=1e-12)
    assert abs(mine.mean() - generated.mean()) <= 6 * std / math.sqrt(mine.size / 2)
    # 180,000 values come close to the ends of a bounded distribution; the largest of a normal's wander.
    ends = (mine.min(), mine.max()), (generated.min(), generated.max())
    assert ends[0] == pytest.approx(ends[1], abs=0.02 * std if np.ptp(mine) < 5 * std else 2 * std)


@cases(*GIVEN, *MATRICES, "sparse", other_than=True)
def test_an_equivalent_has_the_same_moments_and_bounds(ours, theirs, draw, axes, shape):
    assert_same_moments_and_bounds(filled(ours, shape, **axes), draw(theirs, shape))


@cases(*GIVEN)
def test_an_equivalent_that_draws_nothing_has_the_same_values(ours, theirs, draw, axes, shape):
    np.testing.assert_array_equal(filled(ours, shape, **axes), draw(theirs, shape))


@cases("orthogonal")
def test_an_equivalent_of_orthogonal_is_as_orthogonal(ours, theirs, draw, axes, shape):
    gain = winit_fast.scheme(ours).arguments["gain"]
    long = max(math.prod(shape[1:]), shape[0]) if axes else max(math.prod(shape[:-1]), shape[-1])
    for weight in (filled(ours, shape, **axes), draw(theirs, shape)):
        matrix = weight.reshape(len(weight), -1) if axes else weight.reshape(-1, weight.shape[-1])
        assert_orthonormal(matrix / gain)
        assert weight.std() == pytest.approx(gain / math.sqrt(long), rel=0.01)


@cases("delta_orthogonal")
def test_an_equivalent_of_delta_orthogonal_is_as_orthogonal_at_the_same_place(ours, theirs, draw, axes, shape):
    for weight in (filled(ours, shape, **axes), draw(theirs, shape)):
        centre = tuple((size - 1) // 2 for size in shape[:-2])
        assert_orthonormal(weight[centre])
        assert np.count_nonzero(weight) == np.count_nonzero(weight[centre])


def assert_orthonormal(matrix):
    """The rows or columns, whichever are fewer; and without the bias to one sign that the Q of a bare QR has."""
    tall = matrix.astype(float)
    tall = tall if len(tall) >= tall.shape[1] else tall.T
    long, short = tall.shape
    np.testing.assert_allclose(tall.T @ tall, np.eye(short), rtol=0, atol=1e-5)
    assert abs(np.trace(tall)) <= 6 * math.sqrt(short / long)


@cases("sparse")
def test_an_equivalent_of_sparse_has_as_many_zeros_in_every_column(ours, theirs, draw, axes, shape):
    mine, generated = filled(ours, shape, **axes), draw(theirs, shape)
    zeros = math.ceil(winit_fast.scheme(ours).arguments["sparsity"] * shape[0])
    for weight in (mine, generated):
        assert set((weight == 0).sum(axis=0).tolist()) == {zeros}
    assert_same_moments_and_bounds(mine[mine != 0], generated[generated != 0])
    # How many a row has varies as it does where columns are independent of each other.
    rows = [(weight == 0).sum(axis=1).var() for weight in (mine, generated)]
    assert rows[0] == pytest.approx(rows[1], rel=0.4)


# |z|^2 of the complex normal has the density e^-x; cut at |z| = 2 it keeps 1 - e^-4 of it, which JAX's constant,
# sqrt(1 - 5 e^-4), leaves out.
STD_OF_CUT = math.sqrt((1 - 5 * math.exp(-4)) / (1 - math.exp(-4)))
FOURTH_OF_CUT = (2 - 26 * math.exp(-4)) / (1 - math.exp(-4)) / STD_OF_CUT**4
JAX_TOO_WIDE = STD_OF_CUT / 0.95311164380491208


@pytest.mark.parametrize(
    ("ours", "kind", "too_wide", "fourth", "reach"),
    [
        ("he_normal", "normal", 1.0, 2.0, None),
        ("he_uniform", "uniform", 1.0, 4 / 3, math.sqrt(2)),
        ("he_truncated_normal", "truncated_normal", JAX_TOO_WIDE, FOURTH_OF_CUT, 2 / STD_OF_CUT),
    ],
)
def test_complex_numbers_are_those_of_jax_but_for_its_truncated_normal(ours, kind, too_wide, fourth, reach):
    shape, std = (2000, 2000), math.sqrt(2 / 2000)
    mine = filled(ours, shape, "complex64")
    generated = from_jax(f"variance_scaling(2, 'fan_in', '{kind}')", shape, dtype="complex64")
    assert generated.dtype == mine.dtype
    for weight, expected in ((mine, std), (generated, std * too_wide)):
        z = (weight / expected).astype(complex).reshape(-1)
        error = 6 / math.sqrt(z.size)
        assert (abs(z) ** 2).mean() == pytest.approx(1, abs=error)
        assert abs(z.mean()) <= error
        assert abs((z**2).mean()) <= 2 * error  # real and imaginary part are alike and not correlated
        assert (abs(z) ** 4).mean() == pytest.approx(fourth, rel=0.01)
        if reach is not None:
            assert abs(z).max() == pytest.approx(reach, rel=1e-3)
    assert round(JAX_TOO_WIDE, 4) == 1.0093
    assert generated.std() / mine.std() == pytest.approx(too_wide, abs=0.0025)
