"""adapters.keras: the values of `fill` through Keras, on each of its backends in a process of its own.

Whatever follows the first three tests, and the other files of Keras's, run only there, where KERAS_BACKEND and
KERAS_INSIDE are set.
"""

import inspect
import json
import os
import random
from importlib.metadata import version
from math import prod
from pathlib import Path

import numpy as np
import pytest
from arrays import DTYPES, same
from processes import ON_TWO_CPUS, printed, python

import winit_fast

pytestmark = pytest.mark.frameworks

BACKENDS = ("tensorflow", "jax", "torch")
EIGHT_DEVICES = "--xla_force_host_platform_device_count=8"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_passes_what_follows(backend):
    pytest.importorskip("keras")
    pytest.importorskip(backend)
    files = sorted(map(str, Path(__file__).parent.glob("test_keras_*.py")))
    environment = {"KERAS_BACKEND": backend, "KERAS_INSIDE": "1", "XLA_FLAGS": EIGHT_DEVICES}
    done = python("-m", "pytest", "-q", "-m", "frameworks", "-p", "no:cacheprovider", *files, **environment)
    assert done.returncode == 0, done.stdout


def older(package, *wanted):
    return tuple(map(int, version(package).split(".")[: len(wanted)])) < wanted


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_layer_takes_its_weights_and_64_mib(backend):
    pytest.importorskip("keras")
    pytest.importorskip(backend)
    code = """
import keras
from pathlib import Path
from winit_fast import adapters

def held(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) >> 10

layer = lambda words, name: keras.layers.Embedding(words, 256, embeddings_initializer=name)
for name in "winit_fast>he_normal", adapters.keras.HeNormal():
    small = layer(10, name)
    small.build()  # imports, compiles
    getattr(small.embeddings.value, "block_until_ready", lambda: None)()
before = held("VmRSS")
table = layer(1 << 18, "winit_fast>he_normal")
table.build()
getattr(table.embeddings.value, "block_until_ready", lambda: None)()  # JAX returns before it has written
print(held("VmHWM") - before)
"""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("reads /proc")
    taken = int(printed(ON_TWO_CPUS + code, KERAS_BACKEND=backend)) + 1
    is_copied = backend == "jax" and (older("keras", 3, 8) or older("jax", 0, 6, 2))  # docs/quickstart/keras.md says so
    assert 256 <= taken <= 256 * (1 + is_copied) + 64


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_framework_is_imported_that_keras_does_not_import(backend):
    pytest.importorskip("keras")
    pytest.importorskip(backend)
    code = """
import sys, keras
known = set(sys.modules)
import winit_fast.adapters.keras as adapter
adapter.HeNormal()((2, 2))
new = {module.partition(".")[0] for module in set(sys.modules) - known} & {"torch", "tensorflow", "jax", "flax"}
print(*new)
"""
    assert printed(code, KERAS_BACKEND=backend).split() in ([], [backend])


# Inside

OUTSIDE = {name for name in globals() if name.startswith("test_")}

if "KERAS_INSIDE" in os.environ:
    import keras

    from winit_fast import adapters

    ours = adapters.keras
    SchemeInitializer = ours.SchemeInitializer
    BACKEND = keras.backend.backend()


def filled(extent, scheme, dtype="float32", **arguments):
    return winit_fast.fill(winit_fast.empty(extent, dtype), scheme, **arguments)


def with_size_as_fans(shape, scheme, **arguments):
    """A vector as the first row of a square, whose fans are its size."""
    size = prod(shape)
    row = filled((min(1, size), size), scheme, shape=(size, size), offset=(0, 0), **arguments)
    return row.reshape(shape)


def values(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "scheme", ["he_normal", "uniform(-1, 1)", "truncated_normal(std=0.02)", "orthogonal", "sparse(0.5)", "zeros"]
)
def test_values_are_those_of_fill(scheme, dtype):
    made = SchemeInitializer(scheme, seed=7, name="kernel")((33, 65), dtype)
    assert keras.backend.standardize_dtype(made.dtype) == dtype
    assert same(values(made), filled((33, 65), scheme, DTYPES[dtype], seed=7, name="kernel"))


def test_values_are_those_of_fill_in_other_types():
    if BACKEND == "jax":
        pytest.skip("float64 needs jax_enable_x64")
    made = SchemeInitializer("he_normal", seed=7)((33, 65), "float64")
    assert same(values(made), filled((33, 65), "he_normal", "float64", seed=7))


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_axis": 1, "out_axis": 0},
        {"batch_axis": 0},
        {"batch_axis": [0]},
        {"in_axis": (0, 1), "out_axis": 2},
        {"padding_idx": -1},
        {"threads": 2, "name": "x"},
    ],
)
def test_arguments_are_those_of_fill(arguments):
    made = SchemeInitializer("xavier_uniform", seed=1, **arguments)((6, 10, 20))
    assert same(values(made), filled((6, 10, 20), "xavier_uniform", seed=1, **arguments))


@pytest.mark.parametrize("shape", [(), (1,), (50,), (0,)])
@pytest.mark.parametrize("scheme", ["he_normal", "xavier_uniform", "lecun_truncated_normal(mode='fan_out')"])
def test_a_vector_has_its_size_as_both_fans(scheme, shape):
    assert same(values(SchemeInitializer(scheme, seed=3)(shape)), with_size_as_fans(shape, scheme, seed=3))


def test_schemes_without_fans_take_vectors_as_they_are():
    for scheme in ("normal(std=0.02)", "embedding_normal", "lstm_bias", "ones"):
        assert same(values(SchemeInitializer(scheme, seed=3)((8,))), filled((8,), scheme, seed=3))
    for scheme in ("orthogonal", "bilinear", "array([[1, 2], [3, 4]])"):
        with pytest.raises(ValueError, match=r"\(2,\)"):
            SchemeInitializer(scheme, seed=3)((2,))


# Seeds


def test_an_integer_seed_repeats_itself():
    initializer = SchemeInitializer("normal", seed=2**64 - 1)
    for _ in range(2):
        assert same(values(initializer((3, 4))), filled((3, 4), "normal", seed=2**64 - 1))


@pytest.mark.parametrize("name", ["SchemeInitializer", "HeNormal"])
def test_unseeded_calls_differ_and_keras_governs_them(name):
    initializer = SchemeInitializer("normal") if name == "SchemeInitializer" else ours.HeNormal()
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        first, second = (keras.layers.Dense(4, kernel_initializer=initializer) for _ in range(2))
        for layer in (first, second):
            layer.build((None, 3))
        runs.append((values(first.kernel), values(second.kernel)))
    assert not (runs[0][0] == runs[0][1]).any()
    assert same(runs[0][0], runs[1][0])
    assert same(runs[0][1], runs[1][1])


def test_an_unseeded_call_takes_64_bits_of_pythons_generator():
    random.seed(9)
    made = SchemeInitializer("normal")((5,))
    random.seed(9)
    assert same(values(made), filled((5,), "normal", seed=random.getrandbits(64)))


def test_what_draws_nothing_takes_no_seed():
    random.seed(9)
    state = random.getstate()
    assert (values(SchemeInitializer("ones")((2, 2))) == 1).all()
    assert random.getstate() == state


@pytest.mark.parametrize("name", ["SchemeInitializer", "GlorotUniform"])
def test_a_seed_generator_gives_two_words_a_call(name):
    generator = keras.random.SeedGenerator(11)
    initializer = (
        SchemeInitializer("xavier_uniform", seed=generator)
        if name == "SchemeInitializer"
        else ours.GlorotUniform(generator)
    )
    for call in range(3):
        assert same(values(initializer((3, 4))), filled((3, 4), "xavier_uniform", seed=11 << 32 | call))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "7", True])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises((TypeError, ValueError), match=r"seed must be an int in \[0, 2\^64\)"):
        SchemeInitializer("normal", seed=seed)


# Configurations, names, files


def test_a_configuration_makes_an_equal_initializer():
    for seed in (None, 7, keras.random.SeedGenerator(4)):
        initializer = SchemeInitializer(
            winit_fast.scheme("xavier_normal", gain=2),
            seed=seed, name="x", in_axis=(0,), out_axis=np.int64(1), batch_axis=2, padding_idx=np.int64(1), threads=1,
        )  # fmt: skip
        config = keras.initializers.serialize(initializer)
        assert config["registered_name"] == "winit_fast>SchemeInitializer"
        again, copy = keras.initializers.deserialize(json.loads(json.dumps(config))), initializer.clone()
        assert again.get_config() == copy.get_config() == initializer.get_config()
        if seed is not None:
            first, second, third = (values(one((3, 4, 5))) for one in (again, copy, initializer))
            assert same(first, second)
            assert same(first, third)


def test_an_initializer_is_shown_by_its_scheme_seed_and_name():
    assert (
        repr(SchemeInitializer("kaiming_normal", seed=7, name="w"))
        == "SchemeInitializer('he_normal', seed=7, name='w')"
    )


@pytest.mark.parametrize("name", [entry.name for entry in winit_fast.schemes()] + ["kaiming_normal", "glorot_uniform"])
def test_keras_finds_a_scheme_by_name_if_it_needs_no_argument(name):
    entry = next(entry for entry in winit_fast.schemes() if name in (entry.name, *entry.aliases))
    if any(argument.default is inspect.Parameter.empty for argument in entry.arguments):
        with pytest.raises(ValueError, match="Could not interpret initializer"):
            keras.initializers.get(f"winit_fast>{name}")
    elif name == "deepnet":
        with pytest.raises(ValueError, match="encoder or decoder must be a number of layers"):
            keras.initializers.get(f"winit_fast>{name}")
    else:
        found = keras.initializers.get(f"winit_fast>{name}")
        assert isinstance(found, SchemeInitializer)
        assert found.scheme == winit_fast.scheme(name)


def test_layers_take_it_by_name_and_by_object():
    dense = keras.layers.Dense(64, kernel_initializer="winit_fast>he_normal", bias_initializer="winit_fast>normal")
    dense.build((None, 300))
    assert abs(values(dense.kernel).std() * (300 / 2) ** 0.5 - 1) < 0.05
    table = keras.layers.Embedding(30, 8, embeddings_initializer=SchemeInitializer("normal", seed=2, name="table"))
    table.build()
    assert same(values(table.embeddings), filled((30, 8), "normal", seed=2, name="table"))
    convolution = keras.layers.Conv2D(8, 3, kernel_initializer=ours.HeNormal(seed=2))
    convolution.build((None, 9, 9, 4))
    assert same(values(convolution.kernel), filled((3, 3, 4, 8), "he_truncated_normal", seed=2))


def test_a_model_is_saved_and_loaded(tmp_path):
    model = keras.Sequential([
        keras.Input((3,)),
        keras.layers.Dense(4, kernel_initializer=SchemeInitializer("normal(std=0.02)", seed=3, in_axis=0, out_axis=1)),
        keras.layers.Dense(4, kernel_initializer=ours.HeNormal(), bias_initializer="winit_fast>normal"),
    ])  # fmt: skip
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for before, after in zip(model.weights, loaded.weights, strict=True):
        assert same(values(before), values(after))
    first, second = (layer.kernel_initializer for layer in loaded.layers)
    assert first.get_config() == model.layers[0].kernel_initializer.get_config()
    assert type(second) is ours.HeNormal
    assert loaded.layers[1].bias_initializer.scheme == winit_fast.scheme("normal")


# Variables


def address(tensor):
    if BACKEND == "torch":
        return tensor.data_ptr()
    if BACKEND == "jax":
        return tensor.unsafe_buffer_pointer()
    import tensorflow as tf

    tensor = (
        tf.raw_ops.ReadVariableOp(resource=tensor.handle, dtype=tensor.dtype) if hasattr(tensor, "handle") else tensor
    )
    return np.asarray(tensor).ctypes.data


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_variable_takes_over_the_memory(dtype):
    if BACKEND == "jax" and "layout" not in inspect.signature(keras.Variable.__init__).parameters:
        pytest.skip("this Keras copies what a variable of JAX's is made of")
    found = []

    class Noted(SchemeInitializer):
        def __call__(self, shape, dtype=None, layout=None):
            tensor = super().__call__(shape, dtype, layout)
            found.append(address(tensor))
            return tensor

    variable = keras.Variable(Noted("normal", seed=7), shape=(300, 64), dtype=dtype)
    assert [address(variable.value)] == found


def test_a_variable_is_trained():
    layer = keras.layers.Dense(1, kernel_initializer=SchemeInitializer("normal", seed=7))
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile("sgd", "mse")
    before = values(layer.kernel).copy()
    assert same(before, filled((4, 1), "normal", seed=7))
    model.fit(np.ones((8, 4), "float32"), np.zeros((8, 1), "float32"), verbose=0)
    assert not (values(layer.kernel) == before).any()


def test_a_model_may_be_built_while_shapes_are_inferred():
    calls = []

    class Noted(SchemeInitializer):
        def __call__(self, shape, dtype=None, layout=None):
            tensor = super().__call__(shape, dtype, layout)
            calls.append(tensor)
            return tensor

    class Block(keras.layers.Layer):
        def __init__(self, seed):
            super().__init__()
            self.inner = keras.layers.Dense(5, kernel_initializer=Noted("he_normal", seed=seed))

        def call(self, x):
            return self.inner(x)

    for seed in (7, keras.random.SeedGenerator(1)):
        block = Block(seed)
        assert block(keras.Input((3,))).shape == (None, 5)
        assert len(calls) > 1  # a stand-in came before
        kernel = values(block.inner.kernel)
        if seed == 7:
            assert same(kernel, filled((3, 5), "he_normal", seed=7))
        assert kernel.std() > 0
        calls.clear()


@pytest.mark.parametrize("scheme", ["he_normal", "orthogonal", "constant(0.5)"])
@pytest.mark.parametrize(("shape", "dtype"), [((70, 50), "float32"), ((3, 3, 4, 8), "bfloat16")])
def test_init_fills_a_variable(scheme, shape, dtype):
    variable = keras.Variable("zeros", shape=shape, dtype=dtype)
    version = variable.value._version if BACKEND == "torch" else None
    assert ours.init_(variable, scheme, seed=5, name="x") is variable
    assert same(values(variable), filled(shape, scheme, DTYPES[dtype], seed=5, name="x"))
    if BACKEND == "torch":
        assert variable.value._version > version


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float32"])
def test_init_fills_what_a_layer_computes_with_inside_of_it_too(policy):
    class Filling(keras.layers.Dense):
        def call(self, inputs):
            if BACKEND != "jax":
                ours.init_(self.kernel, "normal(std=0.5)", seed=7)
            return super().call(inputs)

    layer = Filling(8, dtype=policy)
    layer.build((None, 16))
    layer(np.zeros((2, 16), "float32"))
    if BACKEND == "jax":
        ours.init_(layer.kernel, "normal(std=0.5)", seed=7)
    expected = winit_fast.fill(np.empty((16, 8), "float32"), "normal(std=0.5)", seed=7)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer.kernel._value), expected)


def test_init_refuses_whole_numbers_and_leaves_them():
    variable = keras.Variable(np.full((4, 3), 9), dtype="int32", trainable=False)
    with pytest.raises(TypeError, match=r"must be .*float32.*, got .*int32"):
        ours.init_(variable, "normal", seed=7)
    assert (values(variable) == 9).all()


def test_init_is_not_for_graphs():
    if BACKEND != "tensorflow":
        pytest.skip("TensorFlow's")
    import tensorflow as tf

    variable = keras.Variable(np.zeros((4, 3), "float32"))
    with pytest.raises(RuntimeError, match=r"init_ must be called outside of tf\.function"):
        tf.function(lambda: ours.init_(variable, "normal", seed=7) and 0)()
    assert not variable.numpy().any()


def test_float64_is_as_wide_as_keras_makes_it():
    theirs = keras.initializers.RandomNormal(seed=7)((3,), "float64")
    assert ours.RandomNormal(seed=7)((3,), "float64").dtype == theirs.dtype


def test_init_fills_a_variable_piece_by_piece(monkeypatch):
    monkeypatch.setattr("winit_fast.adapters._memory.tensorflow.PIECE", 1000)
    variable = keras.Variable("zeros", shape=(101, 7, 3))
    ours.init_(variable, "xavier_normal", seed=5, padding_idx=100)
    assert same(values(variable), filled((101, 7, 3), "xavier_normal", seed=5, padding_idx=100))
    vector = keras.Variable("zeros", shape=(1001,))
    ours.init_(vector, "he_normal", seed=5)
    assert same(values(vector), values(SchemeInitializer("he_normal", seed=5)((1001,))))


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, "he_nrmal", {"scheme": "he_nrmal"}),
        (TypeError, "seed", {"seed": 1.5}),
        (TypeError, "name", {"name": None}),
        (TypeError, "in_axis", {"in_axis": "0"}),
        (ValueError, "in_axis", {"in_axis": 7}),
        (TypeError, "padding_idx", {"padding_idx": 0.5}),
        (ValueError, "padding_idx", {"padding_idx": 4}),
        (ValueError, "threads", {"threads": 0}),
        (ValueError, "std", {"scheme": "normal(std=1e300)"}),
    ],
)
def test_bad_arguments_raise_before_a_byte_is_written(error, match, arguments):
    variable = keras.Variable("ones", shape=(4, 4))
    with pytest.raises(error, match=match):
        ours.init_(variable, **({"scheme": "he_normal", "seed": 0} | arguments))
    assert (values(variable) == 1).all()
    with pytest.raises(error, match=match):
        SchemeInitializer(**({"scheme": "he_normal", "seed": 0} | arguments))((4, 4))


def test_what_cannot_be_filled_is_refused():
    with pytest.raises(TypeError, match="int32"):
        SchemeInitializer("normal")((2, 2), "int32")
    with pytest.raises(TypeError, match=r"variable must be a keras\.Variable, got ndarray"):
        ours.init_(np.ones(3), "ones")


# What keras.initializers has

SEEDED = {
    "RandomUniform": "uniform(-0.05, 0.05)",
    "RandomNormal": "normal(std=0.05)",
    "TruncatedNormal": "truncated_normal(std=0.05)",
    "VarianceScaling": "variance_scaling(distribution='truncated_normal')",
    "GlorotUniform": "xavier_uniform",
    "GlorotNormal": "xavier_truncated_normal",
    "LecunUniform": "lecun_uniform",
    "LecunNormal": "lecun_truncated_normal",
    "HeUniform": "he_uniform",
    "HeNormal": "he_truncated_normal",
    "Orthogonal": "orthogonal",
}
PLAIN = {"Constant": "constant(0)", "Identity": "identity"}
WITH_ARGUMENTS = [
    ("RandomUniform", {"minval": -2, "maxval": 3.0}, "uniform(-2, 3)"),
    ("RandomNormal", {"mean": 1, "stddev": np.float32(0.5)}, "normal(1, 0.5)"),
    ("TruncatedNormal", {"mean": 1.0, "stddev": 0.5}, "truncated_normal(1, 0.5)"),
    ("VarianceScaling", {"scale": 3, "mode": "fan_avg", "distribution": "normal"},
     "variance_scaling(3, 'fan_avg', 'truncated_normal')"),
    ("VarianceScaling", {"mode": "fan_out", "distribution": "untruncated_normal"}, "variance_scaling(mode='fan_out')"),
    ("VarianceScaling", {"distribution": "Uniform"}, "variance_scaling(distribution='uniform')"),
    ("Orthogonal", {"gain": 1.5}, "orthogonal(1.5)"),
    ("Constant", {"value": 0.3}, "constant(0.3)"),
    ("Identity", {"gain": 2}, "identity(2)"),
]  # fmt: skip


@pytest.mark.parametrize("name", SEEDED | PLAIN)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_class_of_keras_draws_the_scheme_of_its_meaning(name, dtype):
    initializer = getattr(ours, name)(**({"seed": 7} if name in SEEDED else {}))
    for shape in [(40, 30)] + [(3, 3, 4, 8)] * (name != "Identity"):
        expected = filled(shape, (SEEDED | PLAIN)[name], DTYPES[dtype], seed=7)
        assert same(values(initializer(shape, dtype=dtype)), expected)


@pytest.mark.parametrize(("name", "arguments", "scheme"), WITH_ARGUMENTS)
def test_a_class_of_keras_takes_its_arguments(name, arguments, scheme):
    made = getattr(ours, name)(**arguments, **({"seed": 7} if name in SEEDED else {}))((40, 30))
    assert same(values(made), filled((40, 30), scheme, seed=7))


@pytest.mark.parametrize("name", SEEDED | PLAIN)
def test_a_class_of_keras_is_one_with_the_same_signature_and_configuration(name):
    own, theirs = getattr(ours, name), getattr(keras.initializers, name)
    assert own is not theirs
    assert issubclass(own, theirs)
    assert inspect.signature(own) == inspect.signature(theirs)
    assert own().get_config() == theirs().get_config()
    again = keras.initializers.deserialize(keras.initializers.serialize(own()))
    assert type(again) is type(own().clone()) is own


def test_every_name_of_keras_is_here():
    for name in dir(keras.initializers):
        if not name.startswith("_"):
            found, theirs = getattr(ours, name), getattr(keras.initializers, name)
            if isinstance(theirs, type):
                assert issubclass(found, theirs)
            else:
                assert callable(found)
    with pytest.raises(AttributeError, match="nothing"):
        _ = ours.nothing


@pytest.mark.parametrize("name", [name for name in SEEDED if name != "Orthogonal"])
@pytest.mark.parametrize("shape", [(), (1,), (50,), (0,)])
def test_a_class_of_keras_has_the_size_of_a_vector_as_both_fans(name, shape):
    made = getattr(ours, name)(seed=7)(shape)
    assert same(values(made), with_size_as_fans(shape, SEEDED[name], seed=7))


def test_a_class_of_keras_takes_tensors_without_elements():
    assert ours.GlorotNormal()((0, 5)).shape == (0, 5)
    with pytest.raises(ValueError, match=r"shape .*\(5,\)"):
        ours.Orthogonal()((5,))


def test_given_axes_alone_make_the_fans():
    if "input_axes" not in inspect.signature(keras.initializers.GlorotUniform).parameters:
        pytest.skip("new in Keras 3.15")
    made = ours.GlorotUniform(seed=7, input_axes=[1, 2], output_axes=[3])((5, 4, 3, 2))
    assert same(values(made), filled((5, 4, 3, 2), f"uniform({-((6 / 14) ** 0.5)!r}, {(6 / 14) ** 0.5!r})", seed=7))
    one_alone = ours.GlorotUniform(seed=7, input_axes=[1, 2])((5, 4, 3, 2))
    assert same(values(one_alone), filled((5, 4, 3, 2), "xavier_uniform", seed=7))


def test_whole_numbers_are_made_by_keras():
    for own, theirs in (
        (ours.Constant(3), keras.initializers.Constant(3)),
        (ours.Identity(2), keras.initializers.Identity(2)),
    ):
        made = own((3, 4), "int32")
        assert keras.backend.standardize_dtype(made.dtype) == "int32"
        assert same(values(made), values(theirs((3, 4), "int32")))
    row = np.arange(4, dtype="float32")
    assert (values(ours.Constant(row)((3, 4))) == row).all()
    with pytest.raises(ValueError, match="two axes"):
        ours.Identity()((3, 4, 5))


@pytest.mark.parametrize(
    ("identifier", "name"),
    [("he_normal", "HeNormal"), ("HeNormal", "HeNormal"), ("uniform", "RandomUniform"), ("normal", "RandomNormal"),
     ("OrthogonalInitializer", "Orthogonal"), ({"class_name": "LecunNormal", "config": {"seed": 3}}, "LecunNormal")],
)  # fmt: skip
def test_get_finds_ours(identifier, name):
    assert type(ours.get(identifier)) is getattr(ours, name)


def test_get_finds_what_keras_does():
    assert ours.get(None) is None
    assert type(ours.get("zeros")) is keras.initializers.Zeros
    assert type(ours.get(ours.HeNormal)) is ours.HeNormal
    given = SchemeInitializer("normal")
    assert ours.get(given) is given
    assert ours.get("winit_fast>normal(std=0.02)").scheme == winit_fast.scheme("normal(std=0.02)")
    assert ours.get("winit_fast>he_normal").scheme == winit_fast.scheme("he_normal")
    with pytest.raises(ValueError, match="Could not interpret initializer identifier: he_nrmal"):
        ours.get("he_nrmal")
    assert isinstance(ours.deserialize(ours.serialize(ours.HeNormal(seed=1))), ours.HeNormal)


# JAX: parts


@pytest.fixture
def sharded():
    if BACKEND != "jax":
        pytest.skip("keras.distribution is for JAX")
    if "layout" not in inspect.signature(keras.Variable.__init__).parameters:
        pytest.skip("this Keras hands no layout to initializers")
    mesh = keras.distribution.DeviceMesh((2, 4), ("batch", "model"))
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*embeddings"] = ("model", None)
    layouts[".*kernel"] = (None, "model")
    keras.distribution.set_distribution(keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch"))
    yield mesh
    keras.distribution.set_distribution(None)


@pytest.mark.parametrize("seed", [7, "generator"])
@pytest.mark.parametrize("scheme", ["he_normal", "orthogonal", "constant(2)"])
def test_a_distributed_embedding_is_filled_where_its_parts_stand(sharded, scheme, seed):
    given = 7 if seed == 7 else keras.random.SeedGenerator(7)
    table = keras.layers.Embedding(64, 8, embeddings_initializer=SchemeInitializer(scheme, seed=given))
    usual = keras.layers.Embedding(64, 8)
    for layer in (table, usual):
        layer.build()
    value = table.embeddings.value
    assert same(np.asarray(value), filled((64, 8), scheme, seed=7 if seed == 7 else 7 << 32))
    assert value.sharding == usual.embeddings.value.sharding
    assert {shard.data.shape for shard in value.addressable_shards} == {(16, 8)}
    assert table(np.zeros((4, 3), "int32")).shape == (4, 3, 8)


def test_a_distributed_layer_takes_the_classes_of_keras(sharded):
    dense = keras.layers.Dense(8, kernel_initializer=ours.HeNormal(seed=7), bias_initializer=ours.Constant(2))
    dense.build((None, 6))
    assert same(np.asarray(dense.kernel.value), filled((6, 8), "he_truncated_normal", seed=7))
    assert {shard.data.shape for shard in dense.kernel.value.addressable_shards} == {(6, 2)}
    assert (values(dense.bias) == 2).all()
    ours.init_(dense.kernel, "he_normal", seed=1)
    assert same(np.asarray(dense.kernel.value), filled((6, 8), "he_normal", seed=1))
    assert {shard.data.shape for shard in dense.kernel.value.addressable_shards} == {(6, 2)}


def test_a_layout_is_taken_by_hand(sharded):
    layout = keras.distribution.TensorLayout(("model", None), sharded)
    for initializer, dtype in (
        (SchemeInitializer("normal", seed=7), "float32"), (ours.Constant(7), "float32"), (ours.Constant(7), "int32"),
    ):  # fmt: skip
        value = initializer((64, 8), dtype, layout=layout)
        assert value.dtype == dtype
        assert {shard.data.shape for shard in value.addressable_shards} == {(16, 8)}


for name, function in list(globals().items()):
    if name.startswith("test_"):
        function.__test__ = (name in OUTSIDE) != ("KERAS_INSIDE" in os.environ)
