"""Every initializer of TensorFlow 2 beside ours: dtype x shape x argument, eagerly, in functions and in graphs.

`tf.initializers` are Keras's today. TensorFlow's own, which its variables take parts of, are those of init_ops_v2;
``tf.zeros_initializer`` and four more are their public names.

The whole runs under the marker `sweep`; `frameworks` runs a sample of it. `difference` says where both part on purpose.
"""

import itertools
import math

import numpy as np
import pytest
from arrays import same
from scipy import stats

from winit_fast import adapters

tf = pytest.importorskip("tensorflow")
from tensorflow.python.ops import init_ops_v2  # noqa: E402

Initializer = adapters.tensorflow.Initializer


def scaling(scale, mode, distribution):
    ours = {"untruncated_normal": "normal"}.get(distribution, distribution)
    text = f"variance_scaling(scale={scale}, mode={mode!r}, distribution={ours!r})"
    return {"scale": scale, "mode": mode, "distribution": distribution}, text


# Of each name: the arguments, and the same law in our words.
CASES = {
    "Zeros": [({}, "zeros")],
    "Ones": [({}, "ones")],
    "Constant": [({"value": value}, f"constant({value})") for value in (0.5, -3.0, 7)],
    "RandomUniform": [
        ({"minval": low, "maxval": high}, f"uniform({low}, {high})") for low, high in ((-0.05, 0.05), (0.0, 3.0))
    ],
    "RandomNormal": [
        ({"mean": mean, "stddev": std}, f"normal({mean}, {std})") for mean, std in ((0.0, 0.05), (1.0, 2.0))
    ],
    "TruncatedNormal": [
        ({"mean": mean, "stddev": std}, f"truncated_normal({mean}, {std})") for mean, std in ((0.0, 0.05), (1.0, 2.0))
    ],
    "VarianceScaling": [
        scaling(scale, mode, distribution)
        for scale in (1.0, 0.3)
        for mode in ("fan_in", "fan_out", "fan_avg")
        for distribution in ("truncated_normal", "untruncated_normal", "uniform")
    ],
    "GlorotUniform": [({}, "xavier_uniform")],
    "GlorotNormal": [({}, "xavier_truncated_normal")],
    "lecun_uniform": [({}, "lecun_uniform")],
    "lecun_normal": [({}, "lecun_truncated_normal")],
    "he_uniform": [({}, "he_uniform")],
    "he_normal": [({}, "he_truncated_normal")],
    "Orthogonal": [({"gain": gain}, f"orthogonal(gain={gain})") for gain in (1.0, 2.0)],
    "Identity": [({"gain": gain}, f"identity(gain={gain})") for gain in (1.0, 0.5)],
}
FANS = [name for name in CASES if name.lower().startswith(("variance", "glorot", "lecun", "he_"))]
REAL = ["float32", "float64", "float16", "bfloat16"]
INTEGERS = ["int32", "int64", "int8", "uint8", "bool"]
DTYPES = [*REAL, "complex64", *INTEGERS]
SHAPES = [(), (0,), (1,), (5,), (2, 2), (3, 2), (2, 3), (0, 3), (3, 0), (2, 3, 4), (4, 3, 2), (2, 3, 4, 5)]
LARGE = (24, 40, 48)
MATRICES = (96, 60), (60, 96)


def eagerly(make):
    return make().numpy()


def in_a_function(make):
    return tf.function(make, autograph=False)().numpy()


def in_a_graph(make):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        return session.run(make())


WAYS = [eagerly, in_a_function, in_a_graph]


def theirs(name, arguments):
    return getattr(init_ops_v2, name)(**arguments)


def outcome(make, shape, dtype):
    """The shape and dtype of what is made, or whether that is refused."""
    try:
        tensor = make(shape, dtype)
    except (TypeError, ValueError, ZeroDivisionError, tf.errors.OpError) as error:
        return f"refused: {error}"
    return tuple(tensor.shape), tensor.dtype.name


def difference(name, ours, shape, dtype):
    """Who makes nothing of what the other makes, and why; None where both must do the same."""
    if name == "Constant" and dtype in INTEGERS:
        return "TensorFlow", "a float is no integer, be it whole"
    if name in FANS and len(shape) < 2 and dtype in REAL:
        return "ours", "fans need an input and an output axis; TensorFlow takes what there is"
    if (name in FANS or name == "RandomNormal") and dtype == "complex64":
        return "TensorFlow", "its random numbers are real"
    if name == "Orthogonal" and dtype == "bfloat16":
        return "TensorFlow", "its QR has no bfloat16"
    return None


def assert_both_do_the_same(name, arguments, ours, shape, dtype):
    mine = outcome(Initializer(ours), shape, dtype)
    other = outcome(theirs(name, arguments), shape, dtype)
    if mine == other or (isinstance(mine, str) and isinstance(other, str)):
        return
    found = difference(name, ours, shape, dtype)
    assert found is not None, (name, ours, shape, dtype, mine, other)
    assert isinstance(mine if found[0] == "ours" else other, str), (found, mine, other)


def check_law(name, index, dtype, way):
    arguments, ours = CASES[name][index]
    for shape in MATRICES if name in ("Orthogonal", "Identity") else (LARGE,):
        mine = way(lambda shape=shape: Initializer(ours, seed=3, name="w")(shape, dtype))
        whole = np.asarray(mine, "float64")
        other = np.asarray(theirs(name, arguments)(shape), "float64")  # in 32 bits: their law
        if name in ("Zeros", "Ones", "Constant", "Identity"):
            np.testing.assert_array_equal(whole, other)
        elif name == "Orthogonal":
            tolerance = 8 * max(2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps), 1e-7)
            for each, close in (whole, tolerance), (other, 1e-5):
                product = each @ each.T if shape[0] < shape[1] else each.T @ each
                np.testing.assert_allclose(product / arguments["gain"] ** 2, np.eye(min(shape)), atol=close)
        else:
            std = other.std()
            assert whole.std() == pytest.approx(std, rel=6 / math.sqrt(2 * whole.size))
            assert abs(whole.mean() - other.mean()) < 6 * std / math.sqrt(whole.size / 2)
            if name not in ("RandomNormal",) and "'normal'" not in ours:
                ends = np.abs(whole - whole.mean()).max(), np.abs(other - other.mean()).max()
                assert ends[0] == pytest.approx(ends[1], rel=0.02)
            if dtype in ("float32", "float64"):
                assert stats.ks_2samp(whole.ravel(), other.ravel()).pvalue > 1e-5
        check_parts(ours, shape, dtype, mine, way)


def check_parts(ours, shape, dtype, whole, way):
    """Parts are the whole's: of theirs, seeded ones repeat each other."""
    half = (shape[0] // 2, *shape[1:])
    for first in 0, half[0]:
        where = {"partition_shape": half, "partition_offset": (first, *(0,) * (len(shape) - 1))}
        part = way(lambda where=where: Initializer(ours, seed=3, name="w")(shape, dtype, **where))
        assert same(part, np.ascontiguousarray(whole[first : first + half[0]]))


LAWS = [(name, index, dtype) for name in CASES for index in range(len(CASES[name])) for dtype in REAL]
MATRIX = [
    (name, *case, shape, dtype)
    for name in CASES
    for case, shape, dtype in itertools.product(CASES[name], SHAPES, DTYPES)
]


@pytest.mark.frameworks
def test_every_initializer_is_swept():
    classes = {
        found.__name__
        for found in vars(init_ops_v2).values()
        if isinstance(found, type) and issubclass(found, init_ops_v2.Initializer)
    }
    functions = {name for name in vars(init_ops_v2) if name.startswith(("he_", "lecun_"))}
    assert (classes | functions) - {"Initializer"} == set(CASES)
    public = {name for name in dir(tf) if name.endswith("_initializer")}
    assert {getattr(tf, name).__name__ for name in public} <= set(CASES)


@pytest.mark.frameworks
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_the_first_arguments_of_every_initializer_have_the_law_of_tensorflow(name, way):
    check_law(name, 0, "float32", way)


@pytest.mark.frameworks
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_an_initializer_without_a_seed_gives_every_variable_its_own_values(name, way):
    _, ours = CASES[name][0]
    initializer = Initializer(ours)
    one, other = (way(lambda: initializer((10, 10), "float32")) for _ in range(2))
    assert (one == other).all() == (not initializer.scheme.draws)


@pytest.mark.frameworks
def test_a_sample_of_shapes_and_dtypes_is_made_or_refused_as_by_tensorflow():
    for case in MATRIX[7 :: len(MATRIX) // 100]:
        assert_both_do_the_same(*case)


@pytest.mark.sweep
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "index", "dtype"), LAWS)
def test_all_arguments_of_every_initializer_have_the_law_of_tensorflow(name, index, dtype, way):
    check_law(name, index, dtype, way)


@pytest.mark.sweep
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_shapes_and_dtypes_are_made_or_refused_as_by_tensorflow(name, dtype):
    for case in MATRIX:
        if case[0] == name and case[-1] == dtype:
            assert_both_do_the_same(*case)
