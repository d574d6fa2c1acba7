"""Gains and recommendations: PyTorch's table, the rule behind the other gains, and a scheme for every activation."""

import math
import re

import numpy as np
import pytest
from scipy import special

import winit_fast
from winit_fast.distributions import Normal
from winit_fast.gains import GAINS, calculate_gain
from winit_fast.recommend import Recommendation, recommend
from winit_fast.schemes import scheme

# Written from their definitions, and not from tools/derive_gains.py, which made the numbers.
DERIVED = {
    "prelu": lambda z: np.where(z > 0, z, 0.25 * z),
    "relu6": lambda z: np.clip(z, 0, 6),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "gelu": lambda z: z * special.ndtr(z),
    "gelu_tanh": lambda z: 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z * z * z))),
    "silu": lambda z: z * special.expit(z),
    "swish": lambda z: z / (1 + np.exp(-z)),
    "hard_swish": lambda z: np.where(z < -3, 0, np.where(z > 3, z, z * (z + 3) / 6)),
    "mish": lambda z: z * np.tanh(np.log1p(np.exp(z))),
    "softplus": lambda z: np.logaddexp(0, z),
    "softsign": lambda z: z / (1 + np.abs(z)),
}

PYTORCH = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 1.6666666666666667,
    "relu": 1.4142135623730951,
    "leaky_relu": 1.4141428569978354,
    "selu": 0.75,
}


def rule(f):
    """1 / sqrt(E[f(z)^2]), z ~ N(0, 1), by Gauss and Legendre between integers, where every kink lies."""
    points, weights = np.polynomial.legendre.leggauss(32)
    z = np.arange(-20, 20)[:, None] + (points + 1) / 2
    terms = f(z) ** 2 * np.exp(-z * z / 2) * weights
    return 1 / math.sqrt(math.fsum(terms.flat) / (2 * math.sqrt(2 * math.pi)))


# calculate_gain


@pytest.mark.parametrize("nonlinearity", PYTORCH)
def test_calculate_gain_keeps_pytorchs_table(nonlinearity):
    assert calculate_gain(nonlinearity) == PYTORCH[nonlinearity]


def test_every_gain_is_pytorchs_or_derived():
    assert set(GAINS) == {*PYTORCH, "conv", *DERIVED}
    assert calculate_gain("conv") == calculate_gain("linear")


@pytest.mark.parametrize("nonlinearity", DERIVED)
def test_derived_gains_follow_from_their_functions(nonlinearity):
    assert calculate_gain(nonlinearity) == pytest.approx(rule(DERIVED[nonlinearity]), rel=1e-14, abs=0)


def test_gains_with_a_closed_form_have_it():
    elu = 1 + math.exp(2) * special.ndtr(-2) - 2 * math.exp(0.5) * special.ndtr(-1)
    gelu = 1 / 3 + 1 / (2 * math.sqrt(3) * math.pi)
    assert calculate_gain("elu") == pytest.approx(1 / math.sqrt(elu), rel=1e-14, abs=0)
    assert calculate_gain("gelu") == pytest.approx(1 / math.sqrt(gelu), rel=1e-14, abs=0)
    assert calculate_gain("prelu") == math.sqrt(2 / (1 + 0.25 * 0.25))


@pytest.mark.parametrize(
    ("nonlinearity", "f"),
    [
        ("linear", lambda z: z),
        ("relu", lambda z: np.maximum(z, 0)),
        ("leaky_relu", lambda z: np.maximum(z, 0.01 * z)),
    ],
)
def test_pytorchs_gains_of_rectifiers_follow_the_same_rule(nonlinearity, f):
    assert calculate_gain(nonlinearity) == pytest.approx(rule(f), rel=1e-14, abs=0)


@pytest.mark.parametrize(
    ("nonlinearity", "f", "by_rule", "difference"),
    [
        ("tanh", np.tanh, 1.59254, 0.0465),
        ("sigmoid", special.expit, 1.84623, -0.458),
        (
            "selu",
            lambda z: 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(np.minimum(z, 0))),
            1.0,
            -0.25,
        ),
    ],
)
def test_pytorchs_other_gains_differ_from_the_rule_as_documented(nonlinearity, f, by_rule, difference):
    assert rule(f) == pytest.approx(by_rule, rel=0, abs=5e-6)
    assert calculate_gain(nonlinearity) / rule(f) - 1 == pytest.approx(difference, rel=0, abs=5e-4)


@pytest.fixture(scope="module")
def signals():
    return np.random.default_rng(2).standard_normal((200_000, 32))


@pytest.mark.parametrize("nonlinearity", DERIVED)
def test_a_layer_with_a_derived_gain_keeps_the_second_moment(nonlinearity, signals):
    samples, inputs = signals.shape
    outputs = 200_000
    f = DERIVED[nonlinearity](signals)
    weights = np.empty((inputs, outputs))
    winit_fast.fill(weights, scheme("he_normal", nonlinearity=nonlinearity), seed=3, name=nonlinearity)
    # The mean of the squares of f @ weights, without its 4e10 elements: the trace of a product of Gram matrices.
    second_moment = np.sum((f.T @ f) * (weights @ weights.T)) / (samples * outputs)
    assert second_moment == pytest.approx(1, rel=0, abs=5 * math.sqrt(2 / outputs) + 5 * math.sqrt(5 / f.size))


@pytest.mark.parametrize("nonlinearity", ["leaky_relu", "prelu"])
@pytest.mark.parametrize(
    ("slope", "gain"),
    [
        (0, math.sqrt(2)),
        (0.01, 1.4141428569978354),
        (0.25, 1.3719886811400708),
        (-0.25, 1.3719886811400708),
        (1, 1.0),
        (-1, 1.0),
        (np.float32(0.5), math.sqrt(1.6)),
        (1e154, math.sqrt(2 / 1e308)),
    ],
)
def test_the_slope_of_leaky_relu_and_prelu_sets_their_gain(nonlinearity, slope, gain):
    assert calculate_gain(nonlinearity, slope) == gain


@pytest.mark.parametrize("nonlinearity", sorted(set(GAINS) - {"leaky_relu", "prelu"}))
def test_no_other_nonlinearity_takes_a_slope(nonlinearity):
    with pytest.raises(
        ValueError, match=rf"^slope needs nonlinearity='leaky_relu' or 'prelu', got 0\.1 with '{nonlinearity}'$"
    ):
        calculate_gain(nonlinearity, 0.1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("rellu",), ValueError, "nonlinearity 'rellu' is unknown; did you mean 'relu'?"),
        (("geluu",), ValueError, "nonlinearity 'geluu' is unknown; did you mean 'gelu'? It must be one of linear"),
        (("hardswish",), ValueError, "nonlinearity 'hardswish' is unknown; did you mean 'hard_swish'?"),
        (("xyz",), ValueError, "nonlinearity 'xyz' is unknown; it must be one of linear, conv"),
        ((None,), TypeError, "nonlinearity must be a str, got None"),
        ((3,), TypeError, "nonlinearity must be a str, got 3"),
    ],
)
def test_calculate_gain_refuses_a_nonlinearity_with_its_value(arguments, error, message):
    with pytest.raises(error) as raised:
        calculate_gain(*arguments)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("nonlinearity", ["leaky_relu", "prelu"])
@pytest.mark.parametrize(
    ("slope", "error", "message"),
    [
        (math.nan, ValueError, "slope must be a number, got nan"),
        (math.inf, ValueError, "slope must be finite, got inf"),
        (1e200, ValueError, "slope must have a square within float64, got 1e+200"),
        (-1.4e154, ValueError, "slope must have a square within float64, got -1.4e+154"),
        (True, TypeError, "slope must be a number, got True"),
        ("0.1", TypeError, "slope must be a number, got '0.1'"),
    ],
)
def test_calculate_gain_refuses_a_slope_with_its_value(nonlinearity, slope, error, message):
    with pytest.raises(error) as raised:
        calculate_gain(nonlinearity, slope)
    assert str(raised.value) == message


# recommend

RECOMMENDED = {
    **dict.fromkeys(["linear", "conv", "conv1d", "conv2d", "conv3d"], "lecun_normal"),
    **dict.fromkeys(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "selu"], "lecun_normal"),
    **dict.fromkeys(["sigmoid", "tanh", "softsign"], "xavier_normal"),
    "relu": "he_normal",
    "leaky_relu": "he_normal(nonlinearity='leaky_relu')",
    "prelu": "he_normal(nonlinearity='prelu')",
    "relu6": "he_normal(nonlinearity='relu6')",
    "elu": "he_normal(nonlinearity='elu')",
    "gelu": "he_normal(nonlinearity='gelu')",
    "gelu_tanh": "he_normal(nonlinearity='gelu_tanh')",
    "silu": "he_normal(nonlinearity='silu')",
    "swish": "he_normal(nonlinearity='swish')",
    "hard_swish": "he_normal(nonlinearity='hard_swish')",
    "mish": "he_normal(nonlinearity='mish')",
    "softplus": "he_normal(nonlinearity='softplus')",
}

PAPERS = {
    "he_normal": "He et al. 2015 (arXiv:1502.01852)",
    "xavier_normal": "Glorot and Bengio 2010",
    "lecun_normal": "LeCun et al. 1998",
}


@pytest.mark.parametrize("activation", GAINS)
def test_every_activation_has_its_papers_scheme(activation):
    made = recommend(activation)
    assert str(made.scheme) == RECOMMENDED[activation]
    assert scheme(str(made.scheme)) == made.scheme
    paper = "Klambauer et al. 2017 (arXiv:1706.02515)" if activation == "selu" else PAPERS[made.scheme.name]
    assert made.reason.startswith(paper)
    assert re.search(r"[a-z0-9)]\.$", made.reason)
    assert str(made) == f"{made.scheme}: {made.reason}"


@pytest.mark.parametrize("activation", [name for name, text in RECOMMENDED.items() if text.startswith("he_normal")])
def test_recommended_he_has_the_gain_of_the_activation(activation):
    assert recommend(activation).scheme.distribution((9, 4)) == Normal(0.0, calculate_gain(activation) / 3.0)
    assert activation in recommend(activation).reason or "slope" in recommend(activation).reason


@pytest.mark.parametrize("activation", ["leaky_relu", "prelu"])
def test_recommend_hands_the_slope_on(activation):
    made = recommend(activation, slope=np.float32(0.5))
    assert made.scheme == scheme("he_normal", nonlinearity=activation, slope=0.5)
    assert made == recommend(activation, 0.5)
    assert made != recommend(activation)


def test_recommended_tanh_has_gain_1_and_says_why():
    made = recommend("tanh")
    assert made.scheme.arguments["gain"] == 1.0
    assert "5/3 is PyTorch's" in made.reason


def test_a_recommendation_is_frozen_and_hashable():
    made = recommend("relu")
    with pytest.raises(AttributeError):
        made.reason = ""
    assert {made, recommend("relu")} == {Recommendation(scheme("he_normal"), made.reason)}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("rellu",), ValueError, "activation 'rellu' is unknown; did you mean 'relu'? It must be one of linear, conv"),
        (("xyz",), ValueError, "activation 'xyz' is unknown; it must be one of linear, conv"),
        ((3,), TypeError, "activation must be a str, or a function or layer that has its name, got 3"),
        (("relu", 0.1), ValueError, "slope needs activation='leaky_relu' or 'prelu', got 0.1 with 'relu'"),
        (("tanh", 0), ValueError, "slope needs activation='leaky_relu' or 'prelu', got 0 with 'tanh'"),
        (("leaky_relu", math.inf), ValueError, "he_normal: slope must be finite, got inf"),
        (("prelu", "0.1"), TypeError, "he_normal: slope must be a number, got '0.1'"),
    ],
)
def test_recommend_refuses_with_the_argument_and_its_value(arguments, error, message):
    with pytest.raises(error) as raised:
        recommend(*arguments)
    assert str(raised.value).startswith(message)


class GELU:
    """As torch.nn's."""

    def __init__(self, approximate="none"):
        self.approximate = approximate


class LeakyReLU:
    """As torch.nn's."""

    negative_slope = 0.3


def softsign(x):
    """As jax.nn's."""


@pytest.mark.parametrize(
    ("activation", "arguments"),
    [
        ("GELU", ("gelu",)),
        ("Identity", ("linear",)),
        ("LeakyReLU", ("leaky_relu",)),
        ("Hardswish", ("hard_swish",)),
        (GELU, ("gelu",)),
        (GELU(), ("gelu",)),
        (GELU("tanh"), ("gelu_tanh",)),
        (LeakyReLU(), ("leaky_relu", 0.3)),
        (softsign, ("softsign",)),
        (np.tanh, ("tanh",)),
    ],
)
def test_recommend_takes_other_spellings_functions_and_layers(activation, arguments):
    assert recommend(activation) == recommend(*arguments)


@pytest.mark.parametrize("activation", [math.sqrt, int, "glu"])
def test_recommend_says_which_activation_it_does_not_know(activation):
    with pytest.raises(
        ValueError, match=f"activation '{getattr(activation, '__name__', activation)}' is unknown; .*one of"
    ):
        recommend(activation)


@pytest.mark.parametrize("activation", [object(), 3, None])
def test_recommend_refuses_what_is_no_activation(activation):
    with pytest.raises(TypeError, match="activation must be a str, or a function or layer that has its name, got"):
        recommend(activation)
