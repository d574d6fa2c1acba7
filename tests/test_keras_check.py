"""adapters.keras.check: as of adapters.torch.check, on layers of Keras.

On each backend in a process of its own, which tests/test_keras_initializers.py starts.
"""

import math
import os
import random

import numpy as np
import pytest

from winit_fast import adapters, fill, scheme
from winit_fast.report import layer_statistics

if "KERAS_INSIDE" not in os.environ:
    pytest.skip("tests/test_keras_initializers.py starts it", allow_module_level=True)

import keras

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.frameworks


def deep(weights, activation="relu", depth=20):
    seeds = iter(range(100))

    def dense(units, function=None):
        kernel = adapters.keras.Initializer(weights, seed=next(seeds))
        return keras.layers.Dense(units, activation=function, kernel_initializer=kernel)

    hidden = [dense(64, activation) for _ in range(depth)]
    return keras.Sequential([keras.Input((64,)), *hidden, dense(10)])


def batch(*shape):
    return fill(np.empty(shape, "float32"), "normal", seed=1, name="batch")


def arrays(tensors):
    return [keras.ops.convert_to_numpy(tensor) for tensor in tensors]


def path_of(layer):
    return getattr(layer, "path", layer.name)  # the oldest Keras has names alone


def test_relu_with_xavier_vanishes_and_he_makes_it_stable():
    model = deep("xavier_normal")
    found = adapters.keras.check(model, batch(128, 64))
    assert found.verdict.word == "vanishes"
    assert list(found.suggestions) == [layer.kernel.path for layer in model.layers[:-1]]
    assert [layer.name for layer in found.layers] == [path_of(layer) for layer in model.layers]
    assert {one.scheme for one in found.suggestions.values()} == {scheme("he_normal")}
    assert f"  to apply: {found.how_to_follow}" in str(found)
    eval(found.how_to_follow, {"adapters": adapters, "found": found, "model": model})
    found = adapters.keras.check(model, batch(128, 64))
    assert (found.verdict.word, found.suggestions) == ("stable", {})
    assert "verdict: stable, within" in str(found)


@pytest.mark.parametrize(
    ("weights", "activation", "word"),
    [("normal(std=0.01)", "sigmoid", "vanishes"), ("zeros", "relu", "symmetric"), ("normal", "tanh", "saturates")],
)
def test_verdicts_of_the_textbook(weights, activation, word):
    found = adapters.keras.check(deep(weights, activation, depth=5), batch(128, 64))
    assert found.verdict.word == word
    assert len(found.suggestions) == 6


def test_statistics_are_those_computed_by_hand():
    model = deep("he_normal", "tanh", depth=2)
    inputs = batch(40, 64)
    found = adapters.keras.check(model, inputs, loss=lambda output: keras.ops.sum(output))
    (w1, b1), (w2, b2), (w3, b3) = ([*map(np.float64, arrays(layer.weights))] for layer in model.layers)
    pre_1 = inputs @ w1 + b1
    out_1 = np.tanh(pre_1)
    pre_2 = out_1 @ w2 + b2
    out_2 = np.tanh(pre_2)
    out_3 = out_2 @ w3 + b3
    back_3 = np.ones_like(out_3)
    back_2 = back_3 @ w3.T
    back_1 = (back_2 * (1 - out_2**2)) @ w2.T
    for layer, pre, out, back in zip(
        found.layers, (pre_1, pre_2, out_3), (out_1, out_2, out_3), (back_1, back_2, back_3), strict=True
    ):
        assert layer.statistics.pre_std == pytest.approx(pre.std(), rel=1e-4)
        assert layer.statistics.std == pytest.approx(out.std(), rel=1e-4)
        assert layer.statistics.signal == pytest.approx(layer_statistics(None, out).signal, rel=1e-4)
        assert layer.statistics.gradient_std == pytest.approx(math.sqrt((back**2).mean()), rel=1e-4)
        assert layer.statistics.gradient_norm == pytest.approx(np.linalg.norm(back), rel=1e-4)
    assert found.layers[0].weights.std == pytest.approx(w1.std(), rel=1e-5)
    slopes = 1 - out_1**2
    assert found.layers[0].statistics.saturated == pytest.approx((slopes < 0.1).mean(), abs=1e-3)


def image_model():
    layers = keras.layers
    inputs = keras.Input((12, 12, 3))
    hidden = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3)(inputs)))
    hidden = layers.Dropout(0.5)(keras.ops.tanh(layers.Conv2DTranspose(4, 2)(hidden)))
    hidden = layers.LeakyReLU(0.3)(layers.Dense(16)(layers.Flatten()(hidden)))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(hidden))


def test_activations_are_seen_as_arguments_layers_and_operations():
    keras.utils.set_random_seed(7)
    found = adapters.keras.check(image_model(), batch(8, 12, 12, 3))
    assert [layer.activation for layer in found.layers] == ["relu", "tanh", "leaky_relu", "softmax"]
    assert [layer.kind for layer in found.layers] == ["Conv2D", "Conv2DTranspose", "Dense", "Dense"]
    assert found.layers[0].statistics.pre_std == pytest.approx(1.0, abs=0.01)  # behind the batch's normalization
    assert found.layers[0].recommended_std == pytest.approx(math.sqrt(2 / 27))
    assert found.layers[1].recommended_std == pytest.approx(math.sqrt(2 / (4 * 8 + 4 * 4)))
    assert found.layers[2].slope == pytest.approx(0.3)
    assert found.layers[3].recommendation is None
    assert all(layer.statistics.gradient_std > 0 for layer in found.layers)


# TensorFlow's convolutions on CPUs have their channels last.
ORDERS = ["channels_last"] if os.environ.get("KERAS_BACKEND") == "tensorflow" else ["channels_last", "channels_first"]


@pytest.mark.parametrize("order", ORDERS)
def test_what_was_tried_is_what_comes_of_it(order):
    def convolution(*arguments):
        return keras.layers.Conv2D(*arguments, data_format=order, kernel_initializer=narrow, bias_initializer=bias)

    narrow, bias = (adapters.keras.Initializer(one) for one in ("normal(std=0.01)", "normal(std=0.3)"))
    keras.utils.set_random_seed(7)
    inputs = keras.Input((8, 8, 8))
    hidden = keras.layers.ReLU()(convolution(64, 3)(keras.ops.relu(convolution(64, 3)(inputs))))
    hidden = keras.layers.Dense(64, "relu", use_bias=False, kernel_initializer=narrow)(keras.layers.Flatten()(hidden))
    model = keras.Model(inputs, keras.layers.Dense(5)(hidden))
    found = adapters.keras.check(model, batch(16, 8, 8, 8))
    assert len(found.factors) == 3
    for variable in model.weights:
        if variable.path in found.factors:
            variable.assign(variable * found.factors[variable.path])
    made = adapters.keras.check(model, batch(16, 8, 8, 8))
    for tried, layer in zip(found.tried, made.layers, strict=True):
        assert tried.statistics[:-1] == pytest.approx(layer.statistics[:-1], rel=1e-3, abs=1e-5, nan_ok=True)
        assert tried.entering == pytest.approx(layer.entering, rel=1e-3)


@pytest.mark.parametrize("kind", ["LayerNormalization", "UnitNormalization", "RMSNorm"])
def test_normalized_models_are_compared_with_their_like(kind):
    class RMSNorm(keras.layers.Layer):
        def call(self, inputs):
            return inputs * keras.ops.rsqrt(keras.ops.mean(keras.ops.square(inputs), -1, keepdims=True))

    norm = RMSNorm if kind == "RMSNorm" else getattr(keras.layers, kind)
    narrow = adapters.keras.Initializer("normal(std=0.01)")
    keras.utils.set_random_seed(7)
    inputs = hidden = keras.Input((64,))
    for _ in range(6):
        hidden = keras.layers.Dense(64, "relu", kernel_initializer=narrow)(norm()(hidden))
    found = adapters.keras.check(keras.Model(inputs, hidden), batch(32, 64))
    assert (found.is_normalized, found.verdict.word, found.suggestions) == (True, "stable", {})
    model = keras.Sequential([keras.Input((64,)), norm(), *deep("xavier_normal").layers])
    found = adapters.keras.check(model, batch(32, 64))
    assert (found.is_normalized, found.verdict.word) == (False, "vanishes")


def test_what_normalizes_weights_is_no_norm_of_signals():
    def parts(sizes):
        for number, size in enumerate(sizes):
            narrow = adapters.keras.Initializer("normal(std=0.01)", seed=number)
            yield keras.layers.SpectralNormalization(keras.layers.Dense(size, kernel_initializer=narrow))
            yield keras.layers.ReLU()

    model = keras.Sequential([keras.Input((64,)), *parts([64] * 16), keras.layers.Dense(4)])
    found = adapters.keras.check(model, batch(64, 64))
    assert (found.is_normalized, found.verdict.word) == (False, "vanishes")
    assert [layer.activation for layer in found.layers] == ["relu"] * 16 + [""]
    assert found.suggestions == {}  # their width is made up for
    assert "weights that are computed from others" in str(found)


def test_blocks_that_begin_with_their_activation_have_the_gradient_of_their_sum():
    def dense(weights):
        return keras.layers.Dense(32, kernel_initializer=adapters.keras.Initializer(weights))

    keras.utils.set_random_seed(7)
    inputs = keras.Input((32,))
    hidden = dense("lecun_normal")(inputs)
    for _ in range(4):
        branch = dense("zeros")(keras.layers.ReLU()(dense("he_normal")(keras.layers.ReLU()(hidden))))
        hidden = keras.layers.Add()([hidden, branch])
    found = adapters.keras.check(keras.Model(inputs, keras.layers.Dense(3)(hidden)), batch(64, 32))
    assert found.layers[0].activation == "relu"
    assert found.layers[0].statistics.gradient_norm > 0.0
    assert (found.verdict.word, found.suggestions) == ("stable", {})


def test_a_model_with_dropout_keeps_its_narrower_weights():
    keras.utils.set_random_seed(7)
    dense = {"activation": "relu", "kernel_initializer": "winit_fast>xavier_normal"}
    hidden = [part for _ in range(8) for part in (keras.layers.Dense(64, **dense), keras.layers.Dropout(0.5))]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])
    found = adapters.keras.check(model, batch(128, 64))
    assert (found.verdict.word, len(found.off), found.suggestions) == ("stable", 8, {})


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_left_as_it_was(fails):
    def broken(output):
        raise RuntimeError("broken")

    model, inputs = image_model(), batch(8, 12, 12, 3)
    parts = [model, *model._flatten_layers(include_self=False), *model.operations]

    def condition():
        state = [array.tobytes() for array in arrays(model.variables)]
        generator = torch.get_rng_state().numpy().tobytes(), random.getstate(), np.random.get_state()[1].tobytes()
        attributes = [{name: id(value) for name, value in part.__dict__.items() if callable(value)} for part in parts]
        return state, generator, attributes, [part.__dict__.keys() for part in parts]

    adapters.keras.check(model, inputs)
    before = condition()
    if fails:
        with pytest.raises(RuntimeError, match="broken"):
            adapters.keras.check(model, inputs, loss=broken)
        with pytest.raises(Exception, match="shape"):
            adapters.keras.check(model, inputs[:, :3])
    else:
        first, second = adapters.keras.check(model, inputs), adapters.keras.check(model, inputs)
        assert str(first) == str(second)  # dropout too
    assert condition() == before


def test_what_cannot_be_checked_is_refused_by_name():
    layers, check = keras.layers, adapters.keras.check
    with pytest.raises(TypeError, match=r"model must be a keras\.Model, got Dense"):
        check(layers.Dense(3), batch(2, 3))
    with pytest.raises(ValueError, match="model must be built"):
        check(keras.Sequential([layers.Dense(3)]), batch(2, 3))
    model = deep("he_normal", depth=1)
    for given in (None, "text", object(), {1, 2}):
        with pytest.raises(TypeError, match="example_input must be an array or a structure of arrays, got "):
            check(model, given)
    with pytest.raises(ValueError, match="example_input must be numbers, got nan"):
        check(model, np.nan * batch(2, 64))
    with pytest.raises(TypeError, match="loss must be a callable"):
        check(model, batch(2, 64), loss=3)
    with pytest.raises(TypeError, match="loss must return a tensor of one number"):
        check(model, batch(2, 64), loss=lambda output: output)
    with pytest.raises(ValueError, match="loss must have a gradient"):
        check(model, batch(2, 64), loss=lambda output: keras.ops.sum(keras.ops.stop_gradient(output)))
    with pytest.raises(ValueError, match="model must have a Dense or convolutional layer"):
        check(keras.Sequential([keras.Input((3,)), layers.ReLU()]), batch(2, 3))


def test_shared_layers_and_inputs_in_structures():
    shared = keras.layers.Dense(8, activation="relu")
    first, second = keras.Input((8,)), keras.Input((8,))
    model = keras.Model([first, second], keras.layers.Add()([shared(first), shared(second)]))
    found = adapters.keras.check(model, [batch(16, 8), 2 * batch(16, 8)])
    assert [layer.name for layer in found.layers] == [path_of(shared), f"{path_of(shared)} (use 2)"]
    one, other = (layer.statistics for layer in found.layers)
    assert other.std == pytest.approx(2 * one.std, rel=1e-5)
    assert other.gradient_std == pytest.approx(one.gradient_std, rel=1e-6)
