"""adapters.keras: every public name of keras.initializers, by argument, dtype and shape, beside Keras's own.

On each backend in a process of its own, which tests/test_keras_initializers.py starts.
"""

import inspect
import os
from itertools import product
from math import inf, nan

import numpy as np
import pytest

if "KERAS_INSIDE" not in os.environ:
    pytest.skip("tests/test_keras_initializers.py starts it", allow_module_level=True)

import keras

from winit_fast import adapters

ours, theirs = adapters.keras, keras.initializers
BACKEND = keras.backend.backend()

HAS_AXES = "input_axes" in inspect.signature(theirs.GlorotUniform).parameters  # from Keras 3.15 on
AXES = {"input_axes": [0], "output_axes": [-1]} if HAS_AXES else {}
SEEDED = {
    "RandomUniform": [{}, {"minval": -2, "maxval": 3.0}, {"minval": 0, "maxval": 1}, {"minval": 1, "maxval": 1}],
    "RandomNormal": [{}, {"mean": 1, "stddev": 0.5}, {"stddev": 0}],
    "TruncatedNormal": [{}, {"mean": 1.0, "stddev": 0.5}, {"stddev": 0}],
    "VarianceScaling": [
        {}, {"scale": 3, "mode": "fan_avg", "distribution": "normal"}, {"distribution": "Uniform"},
        {"mode": "fan_out", "distribution": "untruncated_normal"}, {**AXES, "mode": "fan_out"},
    ],
    "GlorotUniform": [{}, AXES],
    "GlorotNormal": [{}, AXES],
    "LecunUniform": [{}, AXES],
    "LecunNormal": [{}, AXES],
    "HeUniform": [{}, AXES],
    "HeNormal": [{}, AXES],
    "Orthogonal": [{}, {"gain": 1.5}, {"gain": 0}, {"gain": -1}],
}  # fmt: skip
PLAIN = {
    "Constant": [{"value": value} for value in (0, 3, 0.25, -2, True, inf, -inf, nan, [1.0, 2.0])],
    "Identity": [{}, {"gain": 2}, {"gain": 0.5}],
    "Zeros": [{}],
    "Ones": [{}],
    "STFT": [{}],
}
REFUSED_BY_BOTH = [
    ("VarianceScaling", {"scale": 0}), ("VarianceScaling", {"scale": -1.0}), ("VarianceScaling", {"mode": "fan"}),
    ("VarianceScaling", {"distribution": "normed"}), ("RandomNormal", {"std": 1}),
]  # fmt: skip
# What Keras makes something of, and we do not: docs/compatibility/keras.md says why.
REFUSED_BY_US = [
    ("RandomUniform", {"minval": 1, "maxval": 0}, "float32", "low must be <= high"),
    ("RandomNormal", {"stddev": -1}, "float32", "std must be >= 0"),
    ("RandomNormal", {"stddev": nan}, "float32", "std must be"),
    ("RandomNormal", {"mean": inf}, "float32", "mean must be"),
    ("RandomNormal", {"stddev": 1e6}, "float16", "float16 ends at 65504"),
    ("Constant", {"value": 1e6}, "float16", "float16 ends at 65504"),
    ("RandomUniform", {"minval": 0, "maxval": 9}, "int32", "other dtypes are for constants alone"),
    ("RandomUniform", {}, "complex64", "uniform has no complex form"),
    ("Orthogonal", {}, "complex64", "orthogonal has no complex form"),
]
NAMES = {name for name in dir(theirs) if not name.startswith("_")}
CLASSES = {name: getattr(theirs, name) for name in NAMES if isinstance(getattr(theirs, name), type)}
FLOATS = ("float32", "float16", "bfloat16", "float64", None)
WHOLE = ("int8", "uint8", "int32", "int64", "bool")
SHAPES = [(), (0,), (7,), [4, 4], (0, 5), (2, 0), (60, 50), (3, 3, 20, 30)]


def made(of, name, arguments, shape, dtype):
    """What a class makes, as dtype and array, or the error."""
    arguments = {"seed": 3, **arguments} if name in SEEDED else arguments
    try:
        tensor = getattr(of, name)(**arguments)(shape, dtype=dtype)
    except Exception as error:
        return error
    flat = keras.ops.convert_to_numpy(keras.ops.reshape(tensor, (-1,)))  # TensorFlow shows no number of 16 bits
    return keras.backend.standardize_dtype(tensor.dtype), np.asarray(flat).reshape(tuple(tensor.shape))


def seen(name, arguments, shape, dtype):
    """Both, where Keras makes something there."""
    expected = made(theirs, name, arguments, shape, dtype)
    if isinstance(expected, Exception):
        return None
    found = made(ours, name, arguments, shape, dtype)
    if isinstance(found, Exception):
        raise found
    assert (found[0], found[1].shape) == (expected[0], expected[1].shape)
    return found[1].astype("float64"), expected[1].astype("float64")


@pytest.mark.frameworks
def test_every_class_and_alias_of_keras_has_cases():
    known = {getattr(theirs, name) for name in (*SEEDED, *PLAIN, "Initializer") if hasattr(theirs, name)}
    assert set(CLASSES.values()) == known
    assert NAMES - set(CLASSES) == {"deserialize", "get", "serialize"}


def check_moments(name, dtype, shapes):
    for arguments, shape in product(SEEDED[name], shapes):
        both = None if name == "Orthogonal" and BACKEND == "jax" and 0 in shape else seen(name, arguments, shape, dtype)
        if both is None:
            # Keras computes orthogonal matrices in no 16-bit type, and none of vectors; a number has no axis.
            assert name == "Orthogonal" or (shape == () and "input_axes" in arguments)
            continue
        found, expected = both
        if found.size < 3000:
            continue
        spread = max(expected.std(), 1e-9)
        assert abs(found.std() / spread - 1) < 5 / found.size**0.5 or found.std() == expected.std() == 0, (
            arguments,
            shape,
        )
        assert abs(found.mean() - expected.mean()) <= 6 * expected.std() / found.size**0.5, (arguments, shape)
        if name not in ("RandomNormal", "Orthogonal") and arguments.get("distribution") != "untruncated_normal":
            for edge in np.min, np.max:  # JAX's normals end early in 16 bits: at 1.9 of 2 sigma
                assert abs(edge(found) - edge(expected)) <= 0.2 * spread, (arguments, shape)


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SEEDED)
def test_a_class_that_draws_has_the_moments_of_keras(name):
    check_moments(name, "bfloat16", [(60, 50), (2, 0)] + [()] * (BACKEND != "jax"))


@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", SEEDED)
def test_a_class_that_draws_has_the_moments_of_keras_in_every_float_and_shape(name, dtype):
    check_moments(name, dtype, SHAPES)


def check_values(name, shapes):
    for arguments, shape, dtype in product(PLAIN[name], shapes, (*FLOATS, *WHOLE)):
        both = seen(name, arguments, shape, dtype)
        if both is not None:
            np.testing.assert_array_equal(*both)


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PLAIN)
def test_a_class_that_draws_nothing_makes_what_keras_does(name):
    check_values(name, [(2, 2)] if BACKEND == "jax" else [(), (2, 2), (0, 5)])


@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PLAIN)
def test_a_class_that_draws_nothing_makes_what_keras_does_in_every_type_and_shape(name):
    check_values(name, SHAPES)


@pytest.mark.frameworks
@pytest.mark.parametrize(("name", "arguments"), REFUSED_BY_BOTH)
def test_what_keras_refuses_is_refused(name, arguments):
    for of in theirs, ours:
        assert isinstance(made(of, name, arguments, (4, 4), "float32"), (ValueError, TypeError))


@pytest.mark.frameworks
@pytest.mark.parametrize(("name", "arguments", "dtype", "reason"), REFUSED_BY_US)
def test_what_is_refused_on_purpose_says_why(name, arguments, dtype, reason):
    error = made(ours, name, arguments, (4, 4), dtype)
    if "Invalid dtype" in str(error):
        pytest.skip("a type that this Keras does not have")
    assert isinstance(error, (ValueError, TypeError))
    assert reason in str(error)


@pytest.mark.frameworks
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.05, 0.05), (-2, 3.0), (0.99, 1)])
def test_random_uniform_stays_below_its_upper_bound_in_every_type(low, high, dtype):
    _, values = made(ours, "RandomUniform", {"minval": low, "maxval": high}, (100_000,), dtype)
    bound = values.dtype.type(high)
    assert float(values.max()) < float(bound)
    nearest = made(ours, "SchemeInitializer", {"scheme": f"uniform({low}, {high})", "seed": 3}, (100_000,), dtype)[1]
    moved = values != nearest
    assert (nearest[moved] >= bound).all()  # no other value moves
    assert dtype == "float32" or moved.any()


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_name_means_ours_and_its_configuration_is_that_of_keras(name):
    own, peer = getattr(ours, name), CLASSES[name]
    assert issubclass(own, peer)
    if name != "Initializer":
        assert isinstance(own(), ours.Initializer)
        assert own().get_config() == peer().get_config()
        assert type(own.from_config(peer().get_config())) is own
        if peer is not theirs.Constant:  # of which Keras finds none by its name alone
            assert type(ours.get(name)) is own
