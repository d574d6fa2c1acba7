"""Signal propagation: closed forms, verdicts of the textbook, tables, pictures and the command."""

import math
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from processes import python
from scipy import special, stats

import winit_fast
from winit_fast import recommend, report, scheme
from winit_fast.__main__ import main
from winit_fast.gains import GAINS
from winit_fast.report import ACTIVATIONS, LayerStatistics, judge, layer_statistics, propagate
from winit_fast.report.drawing import LINES
from winit_fast.report.stacks import POSITIONS, Stack

STANDARD_ERRORS = 5.0  # a right mean is farther off once in 2 million runs; seeds are fixed
SEEDS = range(8)
DEEP, WIDE = 24, 256

# n Var(w) of square layers
GROWTH = {
    "normal(std=0.01)": WIDE * 1e-4,
    "uniform(-0.05, 0.05)": WIDE * 0.1**2 / 12,
    "xavier_normal": 1.0,
    "xavier_uniform": 1.0,
    "he_normal": 2.0,
    "he_uniform": 2.0,
    "lecun_normal": 1.0,
}


def squares(layers, mean="mean", std="std"):
    """Second moments from layer to layer."""
    return layers[mean] ** 2 + layers[std] ** 2


def ratios(scheme, activation, **options):
    """The factors from layer to layer, over some seeds, of the second moment of outputs and of gradients.

    There is one input, so that the factors of different layers are independent.
    """
    forward, backward = [], []
    for seed in SEEDS:
        layers = propagate(scheme, activation, depth=DEEP, width=WIDE, batch=1, seed=seed, **options).layers(scheme)
        forward.append(squares(layers)[1:] / squares(layers)[:-1])
        gradients = layers["gradient_std"] ** 2
        backward.append(gradients[:-1] / gradients[1:])
    return np.concatenate(forward), np.concatenate(backward)


def assert_mean(values, expected, variance):
    """The mean of independent values of this variance is the expected one."""
    assert abs(values.mean() - expected) < STANDARD_ERRORS * math.sqrt(variance / values.size)


# Closed forms


@pytest.mark.parametrize("scheme", GROWTH)
def test_linear_signals_and_gradients_grow_by_fan_in_times_the_variance_of_weights(scheme):
    # Glorot and Bengio 2010. |W x|^2 / (|x|^2 Var w) is chi-squared with n degrees of freedom, its variance 2 n.
    forward, backward = ratios(scheme, "linear")
    assert_mean(forward / GROWTH[scheme], 1.0, 2 / WIDE)
    assert_mean(backward / GROWTH[scheme], 1.0, 2 / WIDE)


@pytest.mark.parametrize("scheme", GROWTH)
def test_relu_signals_and_gradients_grow_by_half_of_that(scheme):
    # He et al. 2015. Of relu(z)^2, z ~ N(0, 1), the mean is 1/2 and the variance 3/2 - 1/4.
    forward, backward = ratios(scheme, "relu")
    assert_mean(forward / (GROWTH[scheme] / 2), 1.0, 5 / WIDE)
    assert_mean(backward / (GROWTH[scheme] / 2), 1.0, 5 / WIDE)


def test_the_logarithm_of_a_linear_signal_is_that_of_chi_squared():
    forward, _ = ratios("xavier_normal", "linear")
    expected = special.digamma(WIDE / 2) - math.log(WIDE / 2)
    assert_mean(np.log(forward), expected, special.polygamma(1, WIDE / 2))


@pytest.mark.parametrize(("scheme", "growth"), [("lecun_normal", 1.0), ("he_normal", 2.0), ("zeros", 0.0)])
def test_a_linear_residual_block_adds_its_growth_to_one(scheme, growth):
    # |x + W x|^2 = |x|^2 + 2 x.W x + |W x|^2: for |x| = 1 the middle has variance 4 Var w, the last 2 n (Var w)^2, and
    # they are uncorrelated. With Xavier's or LeCun's weights the variance doubles in every block.
    forward, backward = ratios(scheme, "linear", residual=True)
    variance = 4 * growth / WIDE + 2 * growth**2 / WIDE
    for found in (forward, backward):
        assert abs(found.mean() - 1 - growth) <= STANDARD_ERRORS * math.sqrt(variance / found.size)


def test_an_orthogonal_linear_stack_keeps_every_norm():
    # Saxe et al. 2014. Products round to float32, whose errors add up like 100 random steps.
    layers = propagate("orthogonal", "linear", depth=100, width=64, batch=1).layers("orthogonal")
    np.testing.assert_allclose(squares(layers), squares(layers)[0], rtol=100 * 2**-23)
    for back in ("gradient_std", "gradient_norm"):
        np.testing.assert_allclose(layers[back], layers[back][-1], rtol=100 * 2**-23)


def test_an_orthogonal_convolution_keeps_every_norm():
    weights = winit_fast.fill(np.empty((3, 16, 16), "float32"), "convolution_orthogonal", seed=3)
    stack = Stack(16, kernel=3)
    signals = np.random.default_rng(1).normal(size=stack.shape_of_signals(4))
    norms = np.linalg.norm(signals, axis=(1, 2))
    for moved in (stack.forward(signals, weights), stack.backward(signals, weights)):
        np.testing.assert_allclose(np.linalg.norm(moved, axis=(1, 2)), norms, rtol=16 * 2**-23)


def test_signals_of_relu_with_he_fade_as_inputs_become_alike():
    # Cho and Saul 2009: how the correlation of two inputs goes through a layer. Of a batch of 32, the variance over
    # the batch has 31/32 of what two independent inputs differ by.
    def after(correlation):
        angle = math.acos(correlation)
        return (correlation * (math.pi - angle) + math.sin(angle)) / math.pi

    correlation = 0.0
    for _ in range(8):
        correlation = after(correlation)
    parts = []
    for seed in range(16):
        layers = propagate("he_normal", depth=8, width=WIDE, batch=32, seed=seed).layers("he_normal")
        parts.append(layers["signal"][-1] ** 2 / squares(layers)[-1])
    assert stats.ttest_1samp(parts, (1 - correlation) * 31 / 32).pvalue > 1e-4
    assert stats.ttest_1samp(parts, (1 - after(correlation)) * 31 / 32).pvalue < 1e-4  # the next layer's is another


# Activations


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_the_derivatives_of_values(name):
    z = np.linspace(-12, 12, 4802)  # not 0, where rectifiers have none
    step = 1e-4
    difference = (ACTIVATIONS[name](z + step)[0] - ACTIVATIONS[name](z - step)[0]) / (2 * step)
    # A central difference is off by step^2 / 6 of the third derivative, at most 2, and by rounding / step.
    np.testing.assert_allclose(ACTIVATIONS[name](z)[1], difference, atol=2 * step**2 / 6 + 1e-11, rtol=1e-7)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", lambda z: z),
        ("sigmoid", special.expit),
        ("tanh", np.tanh),
        ("softsign", lambda z: z / (1 + abs(z))),
        ("relu", lambda z: np.where(z > 0, z, 0)),
        ("leaky_relu", lambda z: np.where(z > 0, z, 0.01 * z)),
        ("gelu", lambda z: z * stats.norm.cdf(z)),
        ("silu", lambda z: z * special.expit(z)),
        ("prelu", lambda z: np.where(z > 0, z, 0.25 * z)),
        ("relu6", lambda z: np.clip(z, 0, 6)),
        ("elu", lambda z: np.where(z > 0, z, special.expm1(z))),
        ("softplus", lambda z: np.logaddexp(0, z)),
        ("gelu_tanh", lambda z: z * special.expit(2 * math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
        ("swish", lambda z: z * special.expit(z)),
        ("hard_swish", lambda z: z * np.clip(z + 3, 0, 6) / 6),
        ("mish", lambda z: z * np.tanh(np.logaddexp(0, z))),
        ("selu", lambda z: 1.0507009873554804934 * np.where(z > 0, z, 1.6732632423543772848 * special.expm1(z))),
    ],
)
def test_values_are_exact(name, expected):
    z = np.concatenate([np.linspace(-50, 50, 100_001), [-1e-30, 1e-30, 5e-324, -0.0]])
    np.testing.assert_allclose(ACTIVATIONS[name](z)[0], expected(z), rtol=1e-15, atol=4e-16)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_slopes_are_finite_however_large_the_pre_activation(name):
    with np.errstate(all="raise", under="ignore"):
        values, slopes = ACTIVATIONS[name](np.array([-1e300, -750.0, 750.0, 1e300]))
    assert np.isfinite(values).all()
    saturates = ACTIVATIONS[name].largest_slope is not None
    np.testing.assert_allclose(slopes[-1], 0.0 if saturates else slopes[-2], atol=1e-5)


def test_the_activations_are_those_that_recommend_knows():
    assert set(ACTIVATIONS) == {name for name in GAINS if not name.startswith("conv")}
    for name, activation in ACTIVATIONS.items():
        assert recommend(name).reason
        assert activation.name == name


def test_saturation_begins_where_it_is_said_to():
    for name, edge in (("tanh", 1.82), ("sigmoid", 3.64), ("softsign", 2.16)):
        slopes = ACTIVATIONS[name](np.array([-edge - 0.01, -edge + 0.01, edge - 0.01, edge + 0.01]))[1]
        assert ACTIVATIONS[name].is_saturated(slopes).tolist() == [True, False, False, True]
    assert ACTIVATIONS["relu"].is_saturated(np.zeros(1)) is None


# What is measured


def test_statistics_are_those_of_their_definitions():
    rng = np.random.default_rng(2)
    pre = rng.normal(size=(6, 4, 5))  # units on the last axis
    values, slopes = ACTIVATIONS["relu"](pre - np.array([0, 0, 0, 0, 9.0]))  # the last unit is dead
    is_saturated = rng.random(pre.shape) < 0.3
    gradients = 3 * pre + 1
    found = layer_statistics(pre, values, slopes=slopes, is_saturated=is_saturated, gradients=gradients, name="a")
    rows, rows_before = values.reshape(24, 5), pre.reshape(24, 5)
    spreads = [math.sqrt(one.var(axis=1).mean() / (one**2).mean()) for one in (rows, rows_before)]
    expected = (
        pre.mean(), pre.std(), values.mean(), values.std(), math.sqrt(rows.var(axis=0).mean()), max(spreads), 0.2,
        is_saturated.mean(), math.sqrt((gradients**2).mean()), np.linalg.norm(gradients),
    )  # fmt: skip
    np.testing.assert_allclose(found[:-1], expected, rtol=1e-12)
    assert found.name == "a"


def test_statistics_neither_overflow_nor_underflow():
    values = np.random.default_rng(3).normal(size=(8, 8))
    whole = layer_statistics(values, values)
    for scale in (1e-300, 1e300):
        with np.errstate(over="raise", invalid="raise"):
            scaled = layer_statistics(values * scale, values * scale, gradients=values * scale)
        np.testing.assert_allclose(
            [scaled.std / scale, scaled.signal / scale, scaled.spread, scaled.gradient_norm / scale],
            [whole.std, whole.signal, whole.spread, np.linalg.norm(values)],
            rtol=1e-12,
        )
    assert layer_statistics(None, np.array([[1.0, np.inf]])).std == math.inf


def test_a_small_signal_beside_a_large_mean_is_measured():
    values = 0.5 + 1e-12 * np.random.default_rng(4).normal(size=(1000, 3))
    np.testing.assert_allclose(layer_statistics(None, values).signal, values.std(axis=0).mean(), rtol=1e-3)


def test_what_means_nothing_is_nan():
    one_input = layer_statistics(None, np.ones((1, 3)))
    assert math.isnan(one_input.signal)
    assert math.isnan(one_input.pre_std)
    assert math.isnan(one_input.dead)
    assert math.isnan(one_input.saturated)
    assert math.isnan(one_input.gradient_std)
    assert math.isnan(one_input.gradient_norm)
    assert math.isnan(layer_statistics(None, np.ones((3, 1))).spread)
    assert math.isnan(layer_statistics(None, np.ones((1, 1))).std)
    with pytest.raises(ValueError, match=r"outputs must have an axis of units .* got shape \(0, 3\)"):
        layer_statistics(None, np.ones((0, 3)))


# Verdicts


@pytest.mark.parametrize(
    ("activation", "scheme", "word", "layers"),
    [
        ("sigmoid", "normal(std=0.01)", "vanishes", range(3, 4)),
        ("sigmoid", "xavier_normal", "vanishes", range(4, 7)),  # 1/4 a layer
        ("relu", "xavier_normal", "vanishes", range(10, 15)),  # 1/sqrt(2) a layer, and inputs become alike
        ("relu", "xavier_uniform", "vanishes", range(10, 15)),
        ("relu", "lecun_normal", "vanishes", range(10, 15)),
        ("relu", "he_normal", "stable", None),
        ("relu", "he_uniform", "stable", None),
        ("relu", "orthogonal(gain=1.4142135623730951)", "stable", None),
        ("leaky_relu", "he_normal", "stable", None),
        ("linear", "xavier_normal", "stable", None),
        ("linear", "orthogonal", "stable", None),
        ("linear", "normal(std=1)", "explodes", range(3, 4)),  # sqrt(256) = 16 a layer
        ("relu", "normal(std=1)", "explodes", range(3, 4)),
        ("gelu", "normal(std=1)", "explodes", range(3, 4)),
        ("silu", "normal(std=1)", "explodes", range(3, 4)),
        ("tanh", "normal(std=1)", "saturates", range(1, 2)),
        ("sigmoid", "normal(std=1)", "saturates", range(1, 2)),
        ("softsign", "normal(std=1)", "saturates", range(1, 2)),
        ("tanh", "normal(std=0.01)", "vanishes", range(3, 6)),
        ("tanh", "xavier_normal", "stable", None),
        ("selu", "lecun_normal", "stable", None),
        ("gelu", "he_normal(nonlinearity='gelu')", "stable", None),
        ("silu", "he_normal", "vanishes", range(15, 25)),
        ("silu", "xavier_normal", "vanishes", range(6, 10)),
        ("relu", "zeros", "symmetric", range(1, 2)),
        ("sigmoid", "zeros", "symmetric", range(1, 2)),
        ("tanh", "constant(0.1)", "symmetric", range(1, 2)),
        ("linear", "constant(1)", "symmetric", range(1, 2)),
        ("relu", "ones", "symmetric", range(1, 2)),
    ],
)
def test_verdicts_of_the_textbook(activation, scheme, word, layers):
    verdict = propagate(scheme, activation, depth=30, width=WIDE, batch=32).propagation(scheme).verdict
    assert verdict.word == word, verdict
    assert verdict.layer is None if layers is None else verdict.layer in layers


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_what_is_said_to_be_in_unstable_balance_drifts_from_a_second_moment_of_1_and_nothing_else(activation, factor):
    # The second moment q goes to gain^2 E[f(sqrt(q) z)^2]; where its slope at the fixed point 1, on logarithms, is over
    # 1, what is off goes farther off.
    z = np.linspace(-12, 12, 24_001)
    weights = np.exp(-z * z / 2)

    def moment(square):
        return float((ACTIVATIONS[activation](math.sqrt(square) * z)[0] ** 2 * weights).sum())

    slope = math.log(moment(factor) / moment(1.0)) / math.log(factor)
    assert slope < 1.001 or slope > 1.05
    assert ("drift farther off" in recommend(activation).reason) == (slope > 1.05)


def test_silu_with_its_recommended_gain_holds_20_layers_and_explodes_in_50():
    # Which README and recommend tell users: weights alone do not hold it.
    of = recommend("silu").scheme
    for seed in range(3):
        shallow, deep = (
            propagate(of, "silu", depth=depth, width=WIDE, batch=32, seed=seed).propagations[0].verdict
            for depth in (20, 50)
        )
        assert (shallow.word, deep.word) == ("stable", "explodes")
        assert deep.layer > 30


def test_a_saturated_tanh_explodes_going_back():
    # Poole et al. 2016: in the chaotic phase the gradient grows by n E[tanh'(z)^2] in variance.
    verdict = propagate("normal", "tanh", depth=30, width=WIDE, batch=32).propagation("normal").verdict
    assert [(finding.word, finding.of) for finding in verdict.findings] == [
        ("saturates", "units"),
        ("explodes", "gradient"),
    ]
    assert str(verdict) == f"saturates at layer 1, gradient explodes at layer {verdict.findings[1].layer}"


def test_the_standard_deviation_of_a_sigmoid_stays_while_its_signal_vanishes():
    layers = propagate("xavier_normal", "sigmoid", depth=20, width=WIDE, batch=32).layers("xavier_normal")
    assert layers["std"].min() > 0.1
    assert layers["signal"][-1] < 1e-6


@pytest.mark.parametrize("scheme", ["zeros", "constant(0.1)", "ones"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
def test_units_with_the_same_weights_stay_equal(scheme, activation):
    layers = propagate(scheme, activation, depth=10, width=64, batch=16).layers(scheme)
    assert layers["spread"].max() < 1e-6  # what float32 rounds off
    assert propagate("he_normal", activation, depth=10, width=64, batch=16).layers("he_normal")["spread"].min() > 0.1


def test_residual_blocks_of_zeros_hand_their_inputs_on():
    found = propagate(["zeros", "he_normal"], "tanh", depth=20, width=64, batch=16, residual=True)
    assert found.propagation("zeros").verdict.word == "stable"
    assert np.ptp(found.layers("zeros")["signal"]) == 0.0
    # With relu, whose slope at 0 is 0, they hand on and never learn.
    assert propagate("zeros", "relu", depth=5, width=64, residual=True).propagations[0].verdict.word == "dead"


def test_verdicts_follow_the_thresholds():
    sizes = [LayerStatistics(signal=2.0**layer) for layer in range(12)]
    assert str(judge(sizes)) == "explodes at layer 8"
    assert str(judge(sizes, report.Thresholds(grow=3.0))) == "explodes at layer 3"
    assert str(judge(sizes[::-1])) == "vanishes at layer 8"
    assert str(judge(sizes[::-1], report.Thresholds(shrink=0.1))) == "vanishes at layer 5"
    assert judge(sizes[:7]).findings == ()


def test_a_gradient_is_judged_from_the_last_layer_back():
    gradients = [LayerStatistics(gradient_std=3.0**-layer, name=f"block.{layer}") for layer in range(9)]
    (finding,) = judge(gradients).findings
    assert str(finding) == "gradient explodes at layer 4"
    assert (finding.name, finding.reason) == ("block.3", "its gradient is 2.4e+02 of layer 9's")
    assert judge(gradients[::-1]).findings[0].word == "vanishes"
    assert judge([LayerStatistics(gradient_std=0.0), *gradients[:3]]).findings[0].layer == 1


def test_outputs_that_are_the_same_for_all_inputs_are_no_signal():
    def layer(signal):
        return LayerStatistics(mean=0.1, std=0.2, signal=signal)

    for noise in (0.0, 1e-17, 1e-7):
        verdict = judge([layer(noise), layer(2 * noise), layer(noise / 2)])
        assert (verdict.word, verdict.layer, verdict.drift) == ("vanishes", 1, math.inf)
        assert verdict.findings[0].reason == "its outputs are the same for all inputs"
    assert judge([layer(1e-3)] * 3).word == "stable"


def test_layers_that_signals_and_gradients_go_around_are_passed_over():
    # The last weights of a residual branch, 0 at first: no signal behind them, no gradient in front of them.
    stream = LayerStatistics(mean=0.0, std=1.0, signal=1.0, spread=1.0, gradient_norm=1.0)
    first = stream._replace(gradient_norm=0.0)
    last = stream._replace(mean=0.1, std=0.0, signal=1e-18, spread=0.0)
    assert judge([stream, first, last, first, last, stream]) == report.Verdict((), 1.0, 1.0)
    # Without another way around, nothing comes behind.
    assert [one.word for one in judge([stream, first, last, last, last]).findings] == ["symmetric", "vanishes"]
    assert str(judge([first, first, stream])) == "gradient vanishes at layer 2"
    # Units that are the same hand on a signal, and what is behind them may have it from them.
    assert judge([stream, stream._replace(spread=0.0), stream]).word == "symmetric"


def test_findings_stand_in_the_order_in_which_they_happen():
    layers = [
        LayerStatistics(signal=1.0, saturated=0.1, spread=1.0, dead=0.2),
        LayerStatistics(signal=1.0, saturated=0.9, spread=1.0, dead=0.2),
        LayerStatistics(signal=0.0, saturated=0.9, spread=0.0, dead=1.0),
    ]
    assert [finding.word for finding in judge(layers).findings] == ["saturates", "symmetric", "dead", "vanishes"]
    for finding in judge(layers).findings:
        assert finding.reason


def test_what_was_not_measured_is_passed_over():
    assert judge([]).word == "stable"
    assert judge([LayerStatistics()] * 3).word == "stable"
    assert judge([LayerStatistics(), LayerStatistics(std=1.0), LayerStatistics(std=1e-3)]).layer == 3


# Propagation


@pytest.mark.parametrize("kernel", [1, 2, 3, 16])
def test_a_convolution_is_the_sum_over_places(kernel):
    rng = np.random.default_rng(5)
    stack = Stack(4, kernel)
    signals, gradients = rng.normal(size=(2, 3, POSITIONS, 4))
    weights = rng.normal(size=(kernel, 4, 4)).astype("float32")
    expected, expected_back = np.zeros((2, 3, POSITIONS, 4))
    for at in range(POSITIONS):
        for place in range(kernel):
            source = (at + place - kernel // 2) % POSITIONS
            expected[:, at] += signals[:, source] @ weights[place]
            expected_back[:, source] += gradients[:, at] @ weights[place].T
    np.testing.assert_allclose(stack.forward(signals, weights), expected, atol=1e-5)
    np.testing.assert_allclose(stack.backward(gradients, weights), expected_back, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"residual": True}, {"convolution": 3}, {"convolution": 2, "residual": True}])
def test_the_gradient_is_that_of_finite_differences(options):
    # Of the sum of outputs times gradients, along a random direction at the first layer's outputs, by hand.
    stack = Stack(8, options.get("convolution"))
    function = ACTIVATIONS["tanh"]
    weights = winit_fast.fill(
        np.empty(stack.shape_of_weights, "float32"), "xavier_normal", seed=0, name="layers.2.weight"
    )
    rng = np.random.default_rng(6)
    inputs, gradients, direction = rng.normal(size=(3, *stack.shape_of_signals(2)))

    def output(signals):
        values = function(stack.forward(signals, weights))[0]
        return float((gradients * (signals + values if options.get("residual") else values)).sum())

    back = stack.backward(gradients * function(stack.forward(inputs, weights))[1], weights)
    back = gradients + back if options.get("residual") else back
    step = 1e-2
    difference = (output(inputs + step * direction) - output(inputs - step * direction)) / (2 * step)
    assert difference == pytest.approx(float((back * direction).sum()), rel=0, abs=2e-3)


def test_a_stack_of_two_layers_by_hand():
    found = propagate("lecun_normal", "tanh", depth=2, width=16, batch=4, seed=9, residual=True)

    def drawn(scheme, shape, name, dtype):
        return winit_fast.fill(np.empty(shape, dtype), scheme, seed=9, name=name).astype("float64")

    signals = drawn("normal", (4, 16), "inputs", "float64")
    for number, layer in enumerate(found.propagations[0].layers, 1):
        before = signals @ drawn("lecun_normal", (16, 16), f"layers.{number}.weight", "float32")
        signals = signals + np.tanh(before)
        assert layer.pre_std == pytest.approx(before.std(), rel=1e-6)
        assert layer.std == pytest.approx(signals.std(), rel=1e-6)
        assert layer.signal == pytest.approx(math.sqrt(signals.var(axis=0).mean()), rel=1e-6)
    gradients = drawn("normal", (4, 16), "gradients", "float64")
    weights = drawn("lecun_normal", (16, 16), "layers.2.weight", "float32")
    back = gradients + (gradients * (1 - np.tanh(before) ** 2)) @ weights.T
    norms = [np.linalg.norm(back), np.linalg.norm(gradients)]
    assert found.layers("lecun_normal")["gradient_norm"] == pytest.approx(norms, rel=1e-6)
    assert found.layers("lecun_normal")["gradient_std"] == pytest.approx(np.divide(norms, 8), rel=1e-6)


def test_signals_may_leave_the_range_of_float32_and_even_of_float64():
    deep = propagate("normal", "relu", depth=200, width=64, batch=8).propagations[0]
    assert 1e38 < deep.layers[100].std < 1e308
    assert deep.layers[0].gradient_std > 1e38
    deeper = propagate("normal", "linear", depth=400, width=64, batch=8).propagations[0]
    assert deeper.layers[-1].std == math.inf
    assert math.isnan(deeper.layers[0].gradient_std)
    assert str(deeper.verdict).startswith("explodes at layer 4")
    assert np.isfinite([layer.std for layer in deeper.layers[:300]]).all()
    faded = propagate("normal(std=0.001)", "linear", depth=100, width=64, batch=8).propagations[0]
    assert 0.0 < faded.layers[-1].signal < 1e-200


CODE = """
import sys
from winit_fast import report
found = report.propagate(["he_normal", "orthogonal"], depth=6, width=100, batch=8)
assert "matplotlib" not in sys.modules
import winit_fast.__main__
assert "matplotlib" not in sys.modules
for one in found.propagations:
    print(one.verdict, *one.layers, sep="\\n")
"""


def test_no_number_depends_on_threads_and_matplotlib_is_not_imported():
    printed = [python("-c", CODE, WINIT_FAST_THREADS=threads, OPENBLAS_NUM_THREADS="1") for threads in "13"]
    assert [one.returncode for one in printed] == [0, 0], printed[0].stderr
    assert printed[0].stdout == printed[1].stdout
    assert printed[0].stdout.count("LayerStatistics") == 12
    same = [
        propagate("he_normal", depth=3, width=200, batch=8, threads=threads).layers("he_normal") for threads in (1, 2)
    ]
    np.testing.assert_equal(*same)


def test_schemes_are_paired_and_named_as_they_were_given():
    found = propagate(["normal", "kaiming_normal", "he_normal", scheme("zeros")], depth=2, width=32, batch=4)
    assert [one.scheme for one in found.propagations] == ["normal", "kaiming_normal", "zeros"]
    assert found.propagation("he_normal") is found.propagations[1]
    wide, he = (found.layers(name)["pre_std"][0] for name in ("normal", "he_normal"))
    assert wide / he == pytest.approx(4.0, rel=1e-6)  # the same normals, times 1 and sqrt(2 / 32)


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"activation": "tanh"}, []),
        ({"activation": "selu"}, []),
        ({"activation": "relu"}, ["orthogonal(gain=1.414)"]),
        ({"activation": "silu"}, ["he_normal(nonlinearity='silu')", "orthogonal(gain=1.677)"]),
        ({"activation": "tanh", "residual": True}, ["fixup(layers=3)"]),
    ],
)
def test_by_default_what_is_recommended_is_among_the_schemes(options, more):
    found = propagate(depth=3, width=8, batch=2, **options)
    assert [one.scheme for one in found.propagations] == [*report.DEFAULT_SCHEMES, *more]
    assert found.propagation(recommend(options["activation"]).scheme)


def test_a_scheme_that_a_report_does_not_have_is_refused():
    found = propagate(["normal", "kaiming_normal", "zeros"], depth=2, width=32, batch=4)
    with pytest.raises(
        ValueError, match="scheme must be one of this report's, normal, kaiming_normal, zeros, got 'ones'"
    ):
        found.propagation("ones")


def test_histograms_hold_every_output():
    for one in propagate(("normal", "he_normal", "zeros"), depth=10, width=64, batch=16).propagations:
        assert [histogram.layer for histogram in one.histograms] == [1, 4, 7, 10]
        for histogram in one.histograms:
            assert histogram.fractions.sum() + histogram.zero + histogram.beyond == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"schemes": []}, TypeError, "schemes must be a scheme or a sequence of at least one"),
        ({"schemes": 3}, TypeError, "schemes must be a scheme or a sequence of at least one, got 3"),
        ({"schemes": ["he_norml"]}, ValueError, "did you mean 'he_normal'?"),
        ({"activation": "rellu"}, ValueError, "activation 'rellu' is unknown; did you mean 'relu'?"),
        ({"activation": "conv2d"}, ValueError, "activation 'conv2d' is unknown"),
        ({"activation": None}, TypeError, "activation must be a str"),
        ({"depth": 1}, ValueError, "depth must be an int in [2, 2^31), got 1"),
        ({"depth": 2.5}, TypeError, "depth must be an int in [2, 2^31), got 2.5"),
        ({"width": 1}, ValueError, "width must be an int in [2, 2^31), got 1"),
        ({"batch": 0}, ValueError, "batch must be an int in [1, 2^31), got 0"),
        ({"seed": None}, TypeError, "seed must be an int, got None"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"residual": 1}, TypeError, "residual must be a bool, got 1"),
        ({"convolution": 0}, ValueError, "convolution must be an int in [1, 2^31), got 0"),
        ({"convolution": 17}, ValueError, "convolution must be at most the 16 positions there are, got 17"),
        ({"threads": 0}, ValueError, "threads must be"),
        ({"schemes": ["he_normal", "dirac"]}, ValueError, "1 to 3 kernel axes"),
        ({"schemes": ["he_normal", "normal(std=1e38)"]}, ValueError, "float32"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_computed(arguments, error, message, monkeypatch):
    monkeypatch.setattr("winit_fast.report.propagation._propagate_scheme", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(error) as raised:
        propagate(**arguments)
    assert message in str(raised.value)


# Tables and pictures


@pytest.fixture(scope="module")
def found():
    return propagate(["zeros", "normal(std=1)", "xavier_normal", "he_normal"], depth=30, width=64, batch=16)


@pytest.fixture(scope="module")
def small():
    """For what does not hang on what is drawn: that takes a while for each line and number."""
    return propagate("he_normal", depth=2, width=8, batch=2)


def test_the_table_has_a_row_for_each_scheme(found):
    head, _, names, *rows = str(found).splitlines()
    assert head == "relu, 30 dense layers of 64 units; 16 inputs, seed 0"
    assert names.split("  ")[0] == "scheme"
    assert "layer 1  layer 15  layer 30  gradient  drift  mean  dead  verdict" in names
    for row, one in zip(rows, found.propagations, strict=False):
        assert row.startswith(one.scheme)
        assert row.endswith(f"%  {one.verdict}")
        assert f"{one.layers[0].signal:.2g}" in row.split()
        mean, std = one.layers[-1].mean, one.layers[-1].std
        assert (f"{mean / math.hypot(mean, std):.2f}" if std else "-") in row.split()
    assert len({row.index(str(one.verdict)) for row, one in zip(rows, found.propagations, strict=False)}) == 1
    assert rows[-1] == "flattest here: he_normal"
    assert sum(row.startswith("symmetric: all units") for row in rows) == 1


def test_the_flattest_is_the_stable_one_with_the_least_drift():
    found = propagate(
        ["normal", "he_normal(gain=1.5)", "he_normal", "he_normal(gain=1.45)"], depth=30, width=64, batch=16
    )
    drifts = [one.verdict.drift for one in found.propagations]
    assert found.flattest is found.propagations[int(np.argmin(drifts))]
    assert [one.verdict.word for one in found.propagations] == ["explodes", "stable", "stable", "stable"]
    for one, layers in ((one, found.layers(one.scheme)) for one in found.propagations):
        ratios = layers["signal"] / layers["signal"][0], layers["gradient_norm"] / layers["gradient_norm"][-1]
        assert one.verdict.signal_drift == pytest.approx(np.maximum(ratios[0], 1 / ratios[0]).max())
        assert one.verdict.gradient_drift == pytest.approx(np.maximum(ratios[1], 1 / ratios[1]).max())
    nothing = propagate(["zeros", "normal"], depth=10, width=64, batch=16)
    assert nothing.flattest is None
    assert str(nothing).endswith("no scheme is stable here")


def test_the_table_shows_saturation_where_there_is_some():
    table = str(propagate("normal", "tanh", depth=4, width=64, batch=16, convolution=3, residual=True))
    assert table.startswith(
        "tanh, 4 convolutional (kernel 3) residual layers of 64 channels; 16 inputs of 16 positions"
    )
    assert "saturated  verdict" in table
    assert "saturated" not in str(propagate("normal", "linear", depth=4, width=64, batch=16))
    assert "  -" in str(propagate("normal", "linear", depth=400, width=64, batch=1))


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_picture_is_the_same_each_time(small, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    for name in ("a", "b"):
        report.draw(small, tmp_path / f"{name}{suffix}")
    first = (tmp_path / f"a{suffix}").read_bytes()
    assert first == (tmp_path / f"b{suffix}").read_bytes()
    assert first.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")


def test_a_picture_names_schemes_verdicts_and_axes(found, tmp_path):
    pytest.importorskip("matplotlib")
    report.draw(found, str(tmp_path / "a.svg"))
    text = (tmp_path / "a.svg").read_text()
    for one in found.propagations:
        flattest = ", the flattest" if one.scheme == "he_normal" else ""
        assert f"<!-- {one.scheme}: {one.verdict}{flattest} -->" in text
    for words in (found.title, "layer", "standard deviation", "output"):
        assert f"<!-- {words} -->" in text


def test_a_picture_shows_what_vanished_exploded_or_overflows(tmp_path):
    pytest.importorskip("matplotlib")
    schemes = ["normal", "zeros", "normal(std=1e-5)"]
    report.draw(propagate(schemes, "linear", depth=350, width=64, batch=8), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().count("<!-- overflows -->") == 1
    at_once = propagate("normal(std=5e37)", depth=3, width=512, batch=32)
    assert str(at_once.propagations[0].verdict) == "explodes at layer 1"
    report.draw(at_once, tmp_path / "b.svg")
    assert (tmp_path / "b.svg").read_text().count("<!-- overflows -->") == 1


def test_lines_differ_in_grey():
    assert len({(str(line["linestyle"]), line["marker"]) for line in LINES}) == len(LINES)
    assert len(LINES) > len(report.DEFAULT_SCHEMES)
    neighbours = pairwise(LINES)
    assert all(a["linestyle"] != b["linestyle"] and a["marker"] != b["marker"] for a, b in neighbours)


def test_a_picture_that_cannot_be_drawn_is_refused(small, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"picture must end with .png or .svg, got 'a.jpeg'"):
        report.draw(small, "a.jpeg")
    with pytest.raises(ValueError, match="picture must be in a folder that exists"):
        report.draw(small, tmp_path / "none" / "a.png")
    with pytest.raises(TypeError, match="picture must be a str or a Path, got 3"):
        report.draw(small, 3)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"a picture needs matplotlib, of the extra \[report\]: pip install matplotlib"
    ):
        report.draw(small, tmp_path / "a.png")


# The command

SMALL = ["report", "--depth", "12", "--width", "64", "--batch", "16"]


def test_the_command_prints_the_table_and_writes_the_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "a.png"
    assert main([*SMALL, "--schemes", "he_normal", "zeros", "--schemes", "ones", "--picture", str(picture)]) == 0
    table = str(propagate(["he_normal", "zeros", "ones"], depth=12, width=64, batch=16))
    out = capsys.readouterr().out
    assert out.startswith(table)
    assert f"recommended for plain stacks of relu (here: stable): {recommend('relu')}" in out
    assert picture.stat().st_size > 10_000


def test_the_command_draws_where_it_is_not_told_to(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, "--activation", "tanh", "--schemes", "he_normal"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["report-tanh-12x64.svg"]
    assert capsys.readouterr().out.endswith("picture: report-tanh-12x64.svg\n")
    assert main([*SMALL, "--no-picture"]) == 0
    assert len(list(tmp_path.iterdir())) == 1
    options = ["--residual", "--convolution", "3", "--seed", "5", "--schemes", "zeros"]
    assert main([*SMALL, *options]) == 0
    assert (tmp_path / "report-relu-12x64-residual-convolution3-seed5.svg").exists()


@pytest.mark.parametrize("picture", [["--picture", "report-relu-12x64.svg"], []])
def test_the_command_replaces_no_picture_without_force(picture, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    drawn = tmp_path / "report-relu-12x64.svg"
    drawn.write_text("somebody's work")
    message = "report-relu-12x64.svg exists already; --force replaces it\n"
    status = main([*SMALL, "--schemes", "zeros", *picture])
    out, err = capsys.readouterr()
    if picture:
        assert (status, out) == (2, "")  # before anything is computed
        assert err.endswith(message)
    else:
        assert status == 0
        assert out.endswith(f"no picture: {message}")
    assert drawn.read_text() == "somebody's work"
    assert main([*SMALL, "--schemes", "zeros", *picture, "--force"]) == 0
    assert drawn.read_text().startswith("<?xml")
    assert list(tmp_path.iterdir()) == [drawn]


def test_a_picture_that_is_not_finished_leaves_the_old_one_and_nothing_else(small, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    kept = Figure.savefig

    def savefig(self, *arguments, **options):
        kept(self, *arguments, **options)
        raise KeyboardInterrupt

    (tmp_path / "a.svg").write_text("somebody's work")
    monkeypatch.setattr(Figure, "savefig", savefig)
    for name in ("a.svg", "b.svg"):
        with pytest.raises(KeyboardInterrupt):
            report.draw(small, tmp_path / name)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.svg", "somebody's work")]


def test_a_picture_that_another_process_drew_meanwhile_stays(small, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "a.svg").write_text("somebody's work")
    with pytest.raises(FileExistsError, match=r"a\.svg exists already"):
        report.draw(small, tmp_path / "a.svg", overwrite=False)
    assert (tmp_path / "a.svg").read_text() == "somebody's work"


def test_the_command_recommends_for_the_stack_and_depth_asked_for(capsys):
    assert main([*SMALL, "--residual", "--no-picture"]) == 0
    assert "recommended for residual stacks of relu (here: stable): fixup(layers=12): Zhang" in capsys.readouterr().out
    assert main([*SMALL, "--activation", "sigmoid", "--no-picture"]) == 0
    out = capsys.readouterr().out
    assert "no scheme is stable here" in out
    assert "recommended for plain stacks of sigmoid (here: vanishes at layer " in out
    assert out.endswith("weights alone are not enough at this depth: normalize signals, or use another activation\n")
    assert main([*SMALL, "--schemes", "zeros", "--no-picture"]) == 0
    assert f"recommended for plain stacks of relu: {recommend('relu')}" in capsys.readouterr().out


def test_the_command_passes_its_options_on(capsys):
    options = ["--activation", "tanh", "--seed", "5", "--residual", "--convolution", "3"]
    assert main([*SMALL, *options, "--no-picture"]) == 0
    table = str(propagate(activation="tanh", depth=12, width=64, batch=16, seed=5, residual=True, convolution=3))
    assert capsys.readouterr().out.startswith(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--schemes", "he_norml"], "did you mean 'he_normal'?"),
        (["--activation", "rellu"], "invalid choice"),
        (["--depth", "1"], "depth must be an int in [2, 2^31), got 1"),
        (["--convolution", "99"], "convolution must be at most"),
        (["--picture", "a.gif"], "picture must end with .png or .svg"),
        (["--picture", "a.svg", "--no-picture"], "not allowed with argument"),
        (["--picture", "/none/a.svg"], "picture must be in a folder that exists"),
    ],
)
def test_the_command_refuses_what_it_cannot_use_before_any_work(options, message, monkeypatch, capsys):
    monkeypatch.setattr("winit_fast.report.propagation._propagate_scheme", lambda *_: pytest.fail("it has begun"))
    assert main(["report", *options]) == 2
    assert message in capsys.readouterr().err


def test_the_command_says_what_a_picture_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([*SMALL, "--picture", "a.svg"]) == 2
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not Path("a.svg").exists()
    monkeypatch.chdir(tmp_path)
    assert main(SMALL) == 0
    assert capsys.readouterr().out.endswith(
        "no picture: a picture needs matplotlib, of the extra [report]: pip install matplotlib\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("called", "shown"), [("/usr/bin/winit-fast", "winit-fast"), ("x/__main__.py", "python -m winit_fast")]
)
def test_the_command_goes_by_the_name_it_was_called_by(called, shown, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [called, "report", "--depth", "0"])
    assert main() == 2
    assert capsys.readouterr().err.startswith(f"{shown} report: depth must be")


def test_the_command_runs_as_a_module():
    done = python("-m", "winit_fast", *SMALL, "--schemes", "he_normal", "--no-picture")
    assert done.returncode == 0, done.stderr
    assert "he_normal" in done.stdout
