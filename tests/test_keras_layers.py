"""adapters.keras: what each layer of Keras makes of a scheme has the spread of Keras's initializer of that meaning.

On each backend in a process of its own, which tests/test_keras_initializers.py starts; the whole, with -m sweep, here.
"""

import inspect
import os
from pathlib import Path

import numpy as np
import pytest
from processes import PATIENCE, python

IS_INSIDE = "KERAS_INSIDE" in os.environ

if IS_INSIDE:
    import keras

    from winit_fast import adapters

    ours = adapters.keras


@pytest.mark.sweep
@pytest.mark.skipif(IS_INSIDE, reason="starts what is inside")
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_the_whole_sweep_passes_on_a_backend(backend):
    pytest.importorskip("keras")
    pytest.importorskip(backend)
    files = sorted(map(str, Path(__file__).parent.glob("test_keras_*.py")))
    environment = {"KERAS_BACKEND": backend, "KERAS_INSIDE": "1"}
    options = ["-q", "-m", "sweep", "-p", "no:cacheprovider"]
    done = python("-m", "pytest", *options, *files, timeout=2 * PATIENCE, **environment)
    assert done.returncode == 0, done.stdout


inside = pytest.mark.skipif(not IS_INSIDE, reason="tests/test_keras_initializers.py starts it")

# Every layer class with an initializer of kernels or tables: its arguments, and the shapes that it is built for.
IMAGE = {"filters": 24, "kernel_size": 3}
LAYERS = {
    "Dense": ({"units": 80}, (None, 60)),
    "EinsumDense": ({"equation": "abc,cde->abde", "output_shape": (None, 8, 12)}, (None, 5, 60)),
    "Embedding": ({"input_dim": 200, "output_dim": 30}, None),
    "ReversibleEmbedding": ({"input_dim": 200, "output_dim": 30, "tie_weights": False}, None),
    "MultiHeadAttention": ({"num_heads": 8, "key_dim": 12}, (None, 4, 60), (None, 4, 60)),
    "GroupQueryAttention": (
        {"head_dim": 12, "num_query_heads": 8, "num_key_value_heads": 2}, (None, 4, 60), (None, 4, 60),
    ),
    "Conv1D": ({**IMAGE, "groups": 2}, (None, 9, 60)),
    "Conv2D": (IMAGE, (None, 9, 9, 16)),
    "Conv3D": (IMAGE, (None, 9, 9, 9, 6)),
    "Conv1DTranspose": (IMAGE, (None, 9, 60)),
    "Conv2DTranspose": (IMAGE, (None, 9, 9, 16)),
    "Conv3DTranspose": (IMAGE, (None, 9, 9, 9, 6)),
    "DepthwiseConv1D": ({"kernel_size": 5, "depth_multiplier": 8}, (None, 9, 60)),
    "DepthwiseConv2D": ({"kernel_size": 5, "depth_multiplier": 4}, (None, 9, 9, 20)),
    "SeparableConv1D": ({**IMAGE, "kernel_size": 5, "depth_multiplier": 8}, (None, 9, 60)),
    "SeparableConv2D": ({**IMAGE, "kernel_size": 5, "depth_multiplier": 4}, (None, 9, 9, 20)),
    "SimpleRNN": ({"units": 48}, (None, 4, 60)),
    "SimpleRNNCell": ({"units": 48}, (None, 60)),
    "GRU": ({"units": 30}, (None, 4, 60)),
    "GRUCell": ({"units": 30}, (None, 60)),
    "LSTM": ({"units": 30}, (None, 4, 60)),
    "LSTMCell": ({"units": 30}, (None, 60)),
    "ConvLSTM1D": (IMAGE, (None, 4, 9, 12)),
    "ConvLSTM2D": ({"filters": 12, "kernel_size": 3}, (None, 4, 9, 9, 8)),
    "ConvLSTM3D": ({"filters": 8, "kernel_size": 3}, (None, 4, 9, 9, 9, 4)),
}  # fmt: skip

KINDS = ("kernel", "recurrent", "embeddings", "depthwise", "pointwise")

# Keras's name and arguments, and the scheme of that meaning.
MEANINGS = {
    "GlorotUniform": ({}, "xavier_uniform"),
    "GlorotNormal": ({}, "xavier_truncated_normal"),
    "HeUniform": ({}, "he_uniform"),
    "HeNormal": ({}, "he_truncated_normal"),
    "LecunUniform": ({}, "lecun_uniform"),
    "LecunNormal": ({}, "lecun_truncated_normal"),
    "VarianceScaling": (
        {"scale": 3.0, "mode": "fan_out", "distribution": "untruncated_normal"},
        "variance_scaling(3, 'fan_out', 'normal')",
    ),
    "RandomNormal": ({"stddev": 0.3}, "normal(std=0.3)"),
    "TruncatedNormal": ({"stddev": 0.3}, "truncated_normal(std=0.3)"),
    "RandomUniform": ({"minval": -0.3, "maxval": 0.3}, "uniform(-0.3, 0.3)"),
    "Orthogonal": ({}, "orthogonal"),
}  # fmt: skip

CASES = [(layer, meaning) for layer in LAYERS for meaning in MEANINGS]
SAMPLE = [(layer, "HeNormal") for layer in LAYERS] + [("MultiHeadAttention", "GlorotUniform")]
if IS_INSIDE and keras.backend.backend() == "jax":  # which compiles something for every shape
    SAMPLE = [
        case for case in SAMPLE if case[0] in ("Dense", "EinsumDense", "Embedding", "LSTM") or "Attention" in case[0]
    ]


def arguments_of(layer):
    return [f"{kind}_initializer" for kind in KINDS if f"{kind}_initializer" in inspect.signature(layer).parameters]


def weights_of(name, initializer):
    """The weights of such a layer; biases, which have the default, among them."""
    layer = getattr(keras.layers, name)
    arguments, *shapes = LAYERS[name]
    made = layer(**arguments, **dict.fromkeys(arguments_of(layer), initializer))
    made.build(*shapes)
    return [np.asarray(keras.ops.convert_to_numpy(weight)) for weight in made.weights]


def check(layer, meaning):
    if not hasattr(keras.layers, layer):
        pytest.skip("newer than this Keras")
    arguments, scheme = MEANINGS[meaning]
    expected = weights_of(layer, getattr(keras.initializers, meaning)(**arguments, seed=1))
    faces = [ours.SchemeInitializer(scheme, seed=2), getattr(ours, meaning)(**arguments, seed=3)]
    if "(" not in scheme:
        keras.utils.set_random_seed(4)
        faces.append(f"winit_fast>{scheme}")
    for face in faces:
        for made, theirs in zip(weights_of(layer, face), expected, strict=True):
            assert made.shape == theirs.shape
            if (theirs == np.round(theirs)).all():  # biases
                assert (made == theirs).all()
            else:
                # The standard deviation of each is off by at most std / sqrt(2 n), once in three times.
                assert made.size > 400
                assert abs(made.std() / theirs.std() - 1) < 5 / made.size**0.5, face


@inside
@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore::winit_fast.RepeatedValuesWarning")
@pytest.mark.parametrize(("layer", "meaning"), SAMPLE)
def test_a_layer_gives_a_scheme_the_spread_of_its_meaning(layer, meaning):
    check(layer, meaning)


@inside
@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore::winit_fast.RepeatedValuesWarning")
@pytest.mark.parametrize(("layer", "meaning"), CASES)
def test_every_layer_gives_every_scheme_the_spread_of_its_meaning(layer, meaning):
    check(layer, meaning)


@inside
@pytest.mark.frameworks
def test_no_layer_is_forgotten():
    found = {
        name
        for name, layer in vars(keras.layers).items()
        if isinstance(layer, type) and arguments_of(layer) and layer.__name__ == name
    }
    known = {getattr(keras.layers, name).__name__ for name in LAYERS if hasattr(keras.layers, name)}
    assert found <= known | set(LAYERS)


# EinsumDense, which tells initializers of its axes


def built(initializer, equation="abc,cde->abde", output_shape=(None, 8, 12)):
    layer = keras.layers.EinsumDense(equation, output_shape, kernel_initializer=initializer)
    layer.build((None, 5, 60))
    return np.asarray(keras.ops.convert_to_numpy(layer.kernel))


@inside
@pytest.mark.frameworks
@pytest.mark.parametrize(
    "name", ["GlorotUniform", "HeNormal", "VarianceScaling", "RandomNormal", "Orthogonal", "any", "name"]
)
def test_layers_that_share_an_unseeded_initializer_differ(name):
    shared = {"any": lambda: ours.SchemeInitializer("he_normal"), "name": lambda: "winit_fast>he_normal"}.get(
        name, getattr(ours, name, None)
    )()
    first, second, third = (built(shared) for _ in range(3))
    assert not (first == second).any()
    assert not (second == third).any()
    attention = keras.layers.MultiHeadAttention(8, 12, kernel_initializer=shared)
    attention.build((None, 4, 96), (None, 4, 96))
    kernels = [np.asarray(keras.ops.convert_to_numpy(weight)).ravel() for weight in attention.weights]
    kernels = [kernel for kernel in kernels if kernel.any()]
    for number, kernel in enumerate(kernels):
        for other in kernels[:number]:
            assert not (kernel == other).any()


@inside
@pytest.mark.frameworks
def test_attention_kernels_are_equal_under_a_given_seed_as_with_keras():
    """docs/quickstart/keras.md says so, and to pass no seed to such a layer."""
    seeds = [7]
    if "path" in dir(keras.Layer):  # Keras's own initializers fail with this seed there before
        seeds.append(keras.random.SeedGenerator(7))
    for make in (ours.HeNormal, keras.initializers.HeNormal, lambda seed: ours.SchemeInitializer("he_normal", seed)):
        for seed in seeds:
            attention = keras.layers.MultiHeadAttention(8, 12, kernel_initializer=make(seed=seed))
            attention.build((None, 4, 96), (None, 4, 96))
            query, key, value = (
                np.asarray(keras.ops.convert_to_numpy(weight))
                for weight in attention.weights
                if weight.shape == (96, 8, 12)
            )
            assert (query == key).all()
            assert (query == value).all()


@inside
@pytest.mark.frameworks
def test_a_seed_still_governs_where_a_layer_copies_the_initializer():
    for make in (ours.GlorotUniform, lambda seed: ours.SchemeInitializer("xavier_uniform", seed=seed, name=0)):
        assert (built(make(seed=3)) == built(make(seed=3))).all()
        generator = keras.random.SeedGenerator(3)
        shared = make(seed=generator)
        assert not (built(shared) == built(shared)).any()


@inside
@pytest.mark.frameworks
@pytest.mark.parametrize("arguments", [{"in_axis": 0, "out_axis": (1, 2)}, {"batch_axis": 0}, {"matrices": 2}])
def test_axes_of_the_callers_own_are_not_overruled_by_a_layer(arguments):
    initializer = ours.SchemeInitializer("he_normal", seed=3, name="x", **arguments)
    own = np.asarray(keras.ops.convert_to_numpy(initializer((60, 8, 12))))
    assert (built(initializer) == own).all()


@inside
@pytest.mark.frameworks
def test_schemes_without_fans_do_not_look_at_the_axes_of_a_layer():
    for scheme in ("orthogonal", "normal(std=0.3)", "sparse(0.5)", "ones"):
        initializer = ours.SchemeInitializer(scheme, seed=3, name="x")
        own = np.asarray(keras.ops.convert_to_numpy(initializer((60, 8, 12))))
        assert (built(initializer) == own).all()


@inside
@pytest.mark.frameworks
def test_a_subclass_with_a_constructor_of_its_own_is_left_as_it_is():
    class Wide(ours.SchemeInitializer):
        def __init__(self, width):
            super().__init__(f"normal(std={width})", seed=3, name="x")
            self.width = width

        def get_config(self):
            return {"width": self.width}

    assert abs(built(Wide(2.0)).std() - 2) < 0.1


@inside
@pytest.mark.frameworks
def test_the_axes_of_a_layer_are_kept_in_the_configuration():
    known = ours.SchemeInitializer("he_normal", seed=3, name="x", input_axes=[0], output_axes=[1, 2])
    again = keras.initializers.deserialize(keras.initializers.serialize(known))
    assert again.get_config() == known.get_config()
    first, second = (np.asarray(keras.ops.convert_to_numpy(one((60, 8, 12)))) for one in (known, again))
    assert (first == second).all()
    assert abs(first.std() * 30**0.5 - 1) < 0.03
