"""adapters.torch.check and adapters.keras.check: what real models do to signals and gradients, and what is better.

Tests of Keras run in a process of their own for each backend, where KERAS_BACKEND and KERAS_INSIDE are set.
"""

import gc
import math
import os
import random
import re
import weakref
from itertools import pairwise

import numpy as np
import pytest
from arrays import python

from winit_fast import adapters, fill, recommend, scheme
from winit_fast.check import Check, CheckedLayer, LayerStatistics, Weights
from winit_fast.report import ACTIVATIONS, layer_statistics

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

pytestmark = pytest.mark.frameworks

BACKENDS = ("tensorflow", "jax", "torch")
INSIDE = "KERAS_INSIDE" in os.environ
of_keras = pytest.mark.skipif(not INSIDE, reason="runs in a process for each backend")

check, init, init_module_ = adapters.torch.check, adapters.torch.init, adapters.torch.init_module_


def deep(weights, activation=nn.ReLU, depth=20, width=64, seed=7):
    """Hidden layers, each with its activation, and a linear one behind them."""
    hidden = [part for _ in range(depth) for part in (nn.Linear(width, width), activation())]
    model = nn.Sequential(*hidden, nn.Linear(width, 10))
    init_module_(model, {"*.weight": weights, "*.bias": "zeros"}, seed=seed)
    return model


def batch(*shape):
    return init(shape, "normal", seed=1, name="batch")


HIDDEN = [f"{2 * index}.weight" for index in range(20)]


# Verdicts and suggestions


def test_relu_with_xavier_vanishes_and_he_is_suggested_for_the_hidden_layers():
    model = deep("xavier_normal")
    found = check(model, batch(128, 64))
    assert found.verdict.word == "vanishes"
    assert list(found.suggestions) == HIDDEN
    assert {one.scheme for one in found.suggestions.values()} == {scheme("he_normal")}


def test_relu_with_xavier_halves_the_second_moment():
    layers = check(deep("xavier_normal", width=256), batch(64, 256)).layers[:-1]
    squares = [layer.statistics.mean**2 + layer.statistics.std**2 for layer in layers]
    ratios = [after / before for before, after in pairwise(squares)]
    assert np.exp(np.mean(np.log(ratios))) == pytest.approx(0.5, abs=0.1)  # He et al. 2015; 3 standard errors


def test_relu_with_he_is_stable_and_nothing_is_suggested():
    found = check(deep("he_normal"), batch(128, 64))
    assert found.verdict.word == "stable"
    assert found.suggestions == {}
    assert found.rules == ()
    assert "suggested" not in str(found)


def test_suggestions_are_rules_that_make_a_model_stable():
    model = deep("xavier_normal")
    found = check(model, batch(128, 64))
    eval(found.how_to_follow, {"adapters": adapters, "found": found, "model": model})
    assert check(model, batch(128, 64)).verdict.word == "stable"


def test_sigmoid_with_narrow_weights_vanishes():
    found = check(deep("normal(std=0.01)", nn.Sigmoid), batch(128, 64))
    assert found.verdict.word == "vanishes"
    assert found.verdict.layer <= 4
    assert list(found.suggestions) == [*HIDDEN, "40.weight"]
    assert found.suggestions["0.weight"].scheme == scheme("xavier_normal")
    assert found.suggestions["40.weight"].scheme == scheme("lecun_normal")


def test_zeros_are_symmetric():
    found = check(deep("zeros"), batch(128, 64))
    assert (found.verdict.word, found.verdict.layer) == ("symmetric", 1)
    assert list(found.suggestions) == [*HIDDEN, "40.weight"]


def test_tanh_with_wide_weights_saturates_and_its_gradient_explodes():
    found = check(deep("normal(std=1)", nn.Tanh), batch(128, 64))
    assert [(one.word, one.of) for one in found.verdict.findings] == [("saturates", "units"), ("explodes", "gradient")]
    assert found.layers[0].statistics.saturated > 0.5
    assert found.suggestions["0.weight"].scheme == scheme("xavier_normal")


def test_a_shallow_model_that_is_stable_is_told_too():
    found = check(deep("xavier_normal", depth=2), batch(128, 64))
    assert found.verdict.word == "stable"
    assert list(found.suggestions) == HIDDEN[:2]


def test_where_the_weights_are_as_recommended_nothing_is_suggested():
    found = check(deep("xavier_normal", nn.Sigmoid), batch(128, 64))
    assert found.verdict.word == "vanishes"
    assert found.suggestions == {}
    assert "suggested: nothing" in str(found)


@pytest.mark.parametrize(
    ("weights", "activation"),
    [
        ("he_normal(nonlinearity='silu')", nn.SiLU),
        ("he_normal", nn.GELU),
        ("lecun_normal", nn.SELU),
        ("orthogonal(gain=1.4142135)", nn.ReLU),
        ("xavier_normal(gain=1.6666667)", nn.Tanh),  # PyTorch's gain
        ("he_uniform(nonlinearity='leaky_relu', slope=0.3)", lambda: nn.LeakyReLU(0.3)),
    ],
)
def test_schemes_that_are_as_good_are_left_alone(weights, activation):
    assert check(deep(weights, activation), batch(128, 64)).suggestions == {}


def test_a_model_with_normalization_that_is_stable_needs_nothing():
    parts = [part for _ in range(10) for part in (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())]
    model = nn.Sequential(*parts)
    init_module_(
        model,
        [
            (
                "*.weight",
                "normal(std=0.01)",
            ),
            ("*", "zeros"),
        ],
        seed=7,
    )
    for part in model:
        if isinstance(part, nn.BatchNorm1d):
            part.reset_parameters()
    found = check(model, batch(128, 64))
    assert (found.verdict.word, found.suggestions, found.is_normalized) == ("stable", {}, True)
    assert {layer.activation for layer in found.layers} == {"relu"}
    assert all(layer.statistics.pre_std == pytest.approx(1.0, abs=0.01) for layer in found.layers)


def checked(name, entering=1.0, gradient=1.0, width=8, weights=1.0, **more):
    statistics = LayerStatistics(mean=0.0, std=entering, spread=1.0, gradient_norm=gradient, name=name)
    of_weights = Weights(f"{name}.weight", (width, 8), weights, 1, 0)
    return CheckedLayer(name, "Linear", "", of_weights, statistics, entering=entering, **more)


HEAD = checked("head", gradient=1e-9)


def test_a_branch_that_begins_small_is_passed_over_and_what_follows_is_not():
    blocks = [checked(f"{n}.{part}", size, size) for n in range(5) for part, size in (("a", 1.0), ("b", 1e-4))]
    assert Check((*blocks, HEAD)).verdict.findings == ()
    assert Check((checked("stem"), *blocks[1:], HEAD)).verdict.findings == ()
    blocks = [checked(f"{n}.{part}") for n in range(5) for part in "ab"]
    # Three in a row may be a branch, four are a course; up to the end, one will do.
    for count in (3, 4):
        small = [checked(f"x.{letter}", 1e-4, 1e-4) for letter in "abcd"[:count]]
        words = [(one.word, one.layer, one.of) for one in Check((*blocks, *small, *blocks, HEAD)).verdict.findings]
        expected = [("vanishes", 12 - 1, "entering"), ("vanishes", 14, "gradient")]
        assert words == (expected if count == 4 else [])
    (one,) = Check((*blocks, checked("head", 1e-4, 1e-9))).verdict.findings
    assert (str(one), one.reference) == ("vanishes at layer 11", 2)
    assert one.reason == "the signal in its inputs is 0.0001 of that in the inputs of layer 2"


def test_where_signals_are_normalized_a_small_beginning_is_no_reference():
    layers = (checked("stem"), checked("x", 1e-3), checked("y", 1e-3), *(checked(f"part_{n}") for n in "abcdef"), HEAD)
    assert Check(layers, is_normalized=True).verdict.findings == ()
    assert str(Check(layers).verdict) == "explodes at layer 4"


def test_a_drift_must_lessen_by_a_part_of_its_logarithm():
    def course(smallest):
        return checked("a"), checked("b"), checked("c", smallest), HEAD

    for now, then, is_improved in ((1 / 90, 1 / 60, False), (1 / 90, 1 / 20, True), (1.0, 1.0, False)):
        assert Check(course(now), tried=course(then)).is_improved == is_improved


def test_gradients_of_the_first_block_are_compared_with_those_of_their_name_and_shape():
    def blocks(query, shape=8):
        return [
            checked(f"{n}.{part}", 1.0, size, shape) for n in range(4) for part, size in (("q", query[n]), ("o", 1.0))
        ]

    assert Check((*blocks([1e-4] * 4), HEAD)).verdict.findings == ()
    assert Check((*blocks([0.0] * 4), HEAD)).verdict.findings == ()
    (one,) = Check((*blocks([1e-7, 1e-4, 1e-4, 1e-4]), HEAD)).verdict.findings
    assert (str(one), one.reference) == ("gradient vanishes at layer 1", 7)
    (one,) = Check((checked("stem", 1.0, 1e-7), *blocks([1e-4] * 4)[1:], HEAD)).verdict.findings
    assert str(one) == "gradient vanishes at layer 1"


def test_gradients_of_output_layers_are_the_losss_own():
    trunk = [checked(f"{n}", 1.0, 1.0) for n in range(6)]
    heads = [checked("policy", 1.0, 1e-6, is_output=True), checked("value", 1.0, 1e6, is_output=True)]
    assert Check((*trunk, *heads)).verdict.findings == ()
    assert [str(one) for one in Check((*trunk, heads[0], *trunk)).verdict.findings] == []
    others = [checked("policy", 1.0, 1e-6), checked("other", 1.0, 1e-6), heads[1]]
    assert str(Check((*trunk, *others)).verdict) == "gradient explodes at layer 6"
    # An output layer that begins with 0 lets no gradient pass at first, and says nothing of the others.
    silent = [checked(f"{n}", 1.0, 0.0) for n in range(6)]
    assert Check((*silent, checked("head", 1.0, 1.0, weights=0.0))).verdict.findings == ()
    assert Check((*silent, HEAD)).verdict.findings[0].reason == "its gradient is 0"


# Suggestions are tried


class Skipping(nn.Module):
    """Layers with relu and dropout, which may be added to what they skip."""

    def __init__(self, depth, dropout=0.0, is_residual=False, norm=None):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(128, 128) for _ in range(depth)])
        self.dropout, self.is_residual, self.norm = dropout, is_residual, norm
        self.head = nn.Linear(128, 10)

    def forward(self, inputs):
        for layer in self.layers:
            hidden = inputs if self.norm is None else self.norm(inputs)
            hidden = F.dropout(F.relu(layer(hidden)), self.dropout)
            inputs = inputs + hidden if self.is_residual else hidden
        return self.head(inputs)


@pytest.mark.parametrize(
    ("options", "weights", "words"),
    [
        ({"depth": 20, "dropout": 0.5}, "xavier_normal", "stable"),  # relu halves, dropout doubles
        ({"depth": 5, "dropout": 0.5}, "xavier_normal", "stable"),
        ({"depth": 20, "is_residual": True}, "normal(std=0.05)", "stable"),
        ({"depth": 5, "is_residual": True}, "xavier_normal", "stable"),
        ({"depth": 24, "is_residual": True}, "xavier_normal", "explodes"),
    ],
)
def test_what_does_not_help_is_not_suggested(options, weights, words):
    model = Skipping(**options)
    init_module_(model, {"*.weight": weights, "*.bias": "zeros"}, seed=7)
    found = check(model, batch(128, 128))
    assert found.verdict.word == words
    assert len(found.off) == options["depth"]
    assert (found.suggestions, found.rules) == ({}, ())
    assert "suggested: nothing; he_normal, which the papers recommend for plain stacks, was tried in" in str(found)
    assert ("what may help instead" in str(found)) == (words != "stable")
    assert found.verdict_tried.signal_drift > found.verdict.signal_drift
    if options["depth"] == 20:
        assert found.verdict_tried.word == "explodes"


def test_a_little_dropout_leaves_suggestions_as_they_are():
    model = Skipping(20, dropout=0.1)
    init_module_(model, {"*.weight": "xavier_normal", "*.bias": "zeros"}, seed=7)
    found = check(model, batch(128, 128))
    assert (found.verdict.word, len(found.suggestions), found.verdict_tried.word) == ("vanishes", 20, "stable")


def test_what_was_tried_is_what_comes_of_it():
    # Wider weights, by the factor to the recommended width, and the same biases.
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3, bias=False)
            self.third, self.head = nn.Linear(64, 64), nn.Linear(64, 5)

        def forward(self, inputs):
            hidden = F.relu(self.second(F.relu_(self.first(inputs))))
            return self.head(F.relu(self.third(hidden.mean((-2, -1)))))

    model, inputs = Model(), batch(16, 3, 8, 8)
    rules = {"head.weight": "lecun_normal", "*.weight": "normal(std=0.01)", "*.bias": "normal(std=0.3)"}
    init_module_(model, rules, seed=7)
    found = check(model, inputs)
    assert list(found.factors) == ["first.weight", "second.weight", "third.weight"]
    with torch.no_grad():
        for name, factor in found.factors.items():
            model.get_parameter(name).mul_(factor)
    for tried, made in zip(found.tried, check(model, inputs).layers, strict=True):
        assert tried.statistics[:-1] == pytest.approx(made.statistics[:-1], rel=1e-4, abs=1e-6, nan_ok=True)
        assert tried.entering == pytest.approx(made.entering, rel=1e-4)


def test_units_that_are_the_same_are_told_what_is_recommended_untried():
    found = check(deep("constant(0.1)"), batch(16, 64))
    assert (found.verdict.word, found.tried, found.verdict_tried) == ("symmetric", None, None)
    assert {layer.weights.std for layer in found.layers} == {0.0}
    assert list(found.suggestions) == [*HIDDEN, "40.weight"]


def test_an_input_that_the_model_writes_into_is_left_as_it_was():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = deep("xavier_normal", depth=14)

        def forward(self, inputs):
            return self.layers(inputs["nested"][0].mul_(3.0))

    inputs = {"nested": [batch(32, 64)]}
    before = inputs["nested"][0].clone()
    found = check(Model(), {"inputs": inputs})
    assert found.tried is not None
    assert torch.equal(inputs["nested"][0], before)


def test_he_by_fan_out_is_as_good_as_by_fan_in():
    sizes = [32, 64, 128, 256]
    hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*hidden, nn.Linear(256, 10))
    for mode in ("fan_in", "fan_out"):
        init_module_(model, {"*.weight": f"he_normal(mode='{mode}')", "*.bias": "zeros"}, seed=7)
        assert check(model, batch(64, 32)).off == ()
    init_module_(model, {"*.weight": "he_normal(gain=0.7)", "*.bias": "zeros"}, seed=7)
    assert len(check(model, batch(64, 32)).off) == 3
    # In one layer it is not by chance: PyTorch's own weights, as wide as by fan_out in the first one here.
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(32, 160), nn.ReLU(), nn.Linear(160, 160), nn.ReLU(), nn.Linear(160, 10))
    found = check(model, batch(64, 32))
    assert found.verdict.word == "stable"
    assert [layer.is_off(1.25, "fan_out") for layer in found.layers[:2]] == [False, True]
    assert [layer.name for layer in found.off] == ["0", "2"]


class Branches(nn.Module):
    """Residual blocks of two layers."""

    def __init__(self, depth=8):
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleList([nn.Linear(64, 64), nn.Linear(64, 64)]) for _ in range(depth))
        self.head = nn.Linear(64, 10)

    def forward(self, inputs):
        for first, last in self.blocks:
            inputs = inputs + last(F.relu(first(inputs)))
        return self.head(inputs)


@pytest.mark.parametrize("first", ["fixup(layers=8)", "normal(std=0.05)", "he_normal"])
@pytest.mark.parametrize("bias", ["zeros", "normal(std=0.1)"])
def test_branches_whose_last_weights_are_0_at_first_are_as_good_as_they_are(first, bias):
    model = Branches()
    init_module_(
        model,
        {"*.0.weight": first, "blocks.*.1.weight": "zeros", "head.weight": "lecun_normal", "*.bias": bias},
        seed=7,
    )
    found = check(model, batch(64, 64))
    assert (found.verdict.word, found.suggestions) == ("stable", {})
    assert "the weights of 8 layers are 0: at first, no signal passes forward and no gradient back" in str(found)


def test_zeros_without_a_way_around_them_are_found():
    model = deep("he_normal", depth=5)
    nn.init.zeros_(model[4].weight)
    nn.init.normal_(model[4].bias)
    found = check(model, batch(64, 64))
    assert [(one.word, one.layer) for one in found.verdict.findings] == [("vanishes", 4), ("vanishes", 2)]
    assert "its inputs are the same for all inputs of the model" in str(found)


@pytest.mark.parametrize("inputs", [torch.ones(32, 64), torch.zeros(32, 64)])
def test_inputs_that_are_all_the_same_say_nothing(inputs):
    model = deep("he_normal", depth=5)
    with torch.no_grad():
        for part in model:
            if isinstance(part, nn.Linear):
                part.bias.normal_(std=0.1)
    verdict = check(model, inputs).verdict
    assert (verdict.word, verdict.layer) == ("vanishes", 2)
    assert verdict.findings[0].reason == "its inputs are the same for all inputs of the model"
    assert "the inputs are all the same" in str(check(model, inputs))


def test_a_tanh_that_saturates_is_told_xavier_whatever_its_head():
    # Its signals are even, all near 1: it is the gradient that tells, and the verdict.
    model = deep("normal(std=1)", nn.Tanh)
    init_module_(model, {"40.weight": "lecun_normal", "*": None}, seed=7)
    found = check(model, batch(128, 64))
    assert (found.verdict.word, found.verdict_tried.word) == ("saturates", "stable")
    assert {one.scheme for one in found.suggestions.values()} == {scheme("xavier_normal")}
    init_module_(model, {"40.weight": None, "*.weight": "normal(std=0.3)", "*": None}, seed=7)
    assert len(check(model, batch(128, 64)).suggestions) == 20


def test_where_a_model_is_not_stable_the_gain_of_silu_is_told_too():
    model = deep("he_normal", nn.SiLU, depth=22)
    found = check(model, batch(128, 64))
    assert (found.verdict.word, found.verdict_tried.word) == ("vanishes", "stable")
    assert {one.scheme for one in found.suggestions.values()} == {recommend("silu").scheme}
    assert check(deep("he_normal", nn.SiLU, depth=3), batch(128, 64)).off == ()


@pytest.mark.parametrize("std", [5e-4, 1e-3])
def test_branches_that_begin_small_are_left_alone(std):
    model = Branches(12)
    init_module_(
        model,
        {"head.weight": "lecun_normal", "*.0.weight": "he_normal", "*.weight": f"normal(std={std})", "*.bias": "zeros"},
        seed=7,
    )
    found = check(model, batch(64, 64))
    assert (found.verdict.word, found.suggestions) == ("stable", {})


def test_blocks_that_begin_with_their_activation_have_the_gradient_of_their_sum():
    class Model(Branches):
        def forward(self, inputs):
            for first, last in self.blocks:
                inputs = inputs + last(F.relu(first(F.relu(inputs))))
            return self.head(inputs)

    model = nn.Sequential(nn.Linear(64, 64), Model())
    init_module_(model, {"*.blocks.*.1.weight": "zeros", "*.weight": "lecun_normal", "*.bias": "zeros"}, seed=7)
    found = check(model, batch(64, 64))
    assert (found.verdict.word, found.suggestions) == ("stable", {})
    assert found.layers[0].activation == "relu"
    assert found.layers[0].statistics.gradient_std == 0.0  # behind the relu is the branch alone
    assert found.layers[0].statistics.gradient_norm == pytest.approx(found.layers[2].statistics.gradient_norm, rel=1e-5)


def test_matrices_of_lora_that_begin_with_0_are_left_alone(transformers):
    class LoRA(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base, self.a, self.b = base, nn.Linear(32, 4, bias=False), nn.Linear(4, 96, bias=False)
            nn.init.zeros_(self.b.weight)

        def forward(self, hidden):
            return self.base(hidden) + self.b(self.a(hidden))

    torch.manual_seed(7)
    config = transformers.GPT2Config(
        n_layer=3, n_head=2, n_embd=32, vocab_size=100, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config).requires_grad_(False)
    for block in model.transformer.h:
        block.attn.c_attn = LoRA(block.attn.c_attn)
    found = check(model, {"input_ids": torch.arange(64).reshape(4, 16)})
    assert len(found.layers) == 19
    assert (found.verdict.word, found.suggestions) == ("stable", {})


@pytest.mark.parametrize("is_in_place", [True, False])
def test_an_activation_behind_a_residual_sum_is_not_the_layers(is_in_place):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 64)

        def forward(self, inputs):
            hidden = self.last(F.relu_(self.first(inputs)))
            if is_in_place:
                hidden += inputs
            else:
                hidden = hidden + inputs
            return F.relu(hidden)

    model, inputs = Model(), batch(32, 64)
    found = check(model, inputs)
    assert [layer.activation for layer in found.layers] == ["relu", ""]
    out = model.last(torch.relu(model.first(inputs))).detach().numpy()
    assert found.layers[1].statistics.std == pytest.approx(out.std(), rel=1e-5)


@pytest.mark.parametrize(("factor", "word"), [(1e3, "explodes"), (1e-3, "vanishes")])
def test_a_first_layer_that_is_too_wide_or_narrow_is_found(factor, word):
    model = deep("he_normal", depth=12)
    with torch.no_grad():
        model[0].weight.mul_(factor)
    found = check(model, batch(64, 64))
    assert (found.verdict.word, found.verdict.layer) == (word, 1)
    assert found.verdict.findings[0].reason.startswith("it multiplies the signal by ")
    assert list(found.suggestions) == ["0.weight"]


def test_a_first_layer_is_not_blamed_for_large_inputs():
    sizes = [64, 64, 64, 64]
    hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())]
    torch.manual_seed(7)
    found = check(nn.Sequential(*hidden, nn.Linear(64, 4)), 1e4 * batch(64, 64))
    assert found.layers[1].entering < found.layers[0].entering / 1000
    assert found.verdict.word == "stable"


def test_an_output_layer_may_be_narrow_but_not_as_wide():
    model = deep("he_normal", depth=4)
    for factor, expected in ((1e-3, "stable"), (1e6, "explodes at layer 5")):
        with torch.no_grad():
            model[8].weight.mul_(factor)
        assert str(check(model, batch(64, 64)).verdict) == expected


def test_where_all_is_lost_before_and_after_nothing_is_suggested_for_it():
    found = check(deep("he_normal", nn.Sigmoid, depth=30), batch(64, 64))
    assert (found.verdict.word, found.verdict_tried.word) == ("vanishes", "vanishes")
    assert len(found.off) == 30
    assert found.suggestions == {}


def test_large_inputs_are_named_where_they_saturate_the_first_layer():
    torch.manual_seed(7)
    model = nn.Sequential(*[part for _ in range(4) for part in (nn.Linear(64, 64), nn.Tanh())], nn.Linear(64, 4))
    assert "the inputs have std 71: scale them to about 1" in str(check(model, 73 * batch(64, 64)))
    assert "scale them" not in str(check(model, batch(64, 64)))


def test_a_suggestion_that_grows_instead_of_fading_is_said_not_to_do_alone():
    # Half of the units are dropped: he_normal grows by sqrt(2) in every layer.
    torch.manual_seed(7)
    found = check(Skipping(12, dropout=0.5), batch(128, 128))
    assert (found.verdict.word, found.verdict_tried.word) == ("vanishes", "stable")
    assert 10 < found.verdict_tried.drift < 100
    assert "suggested, but not enough by itself (tried on this input: stable, within " in str(found)
    assert "after dropout, weights smaller by sqrt(1 - p)" in str(found)


def test_strange_widths_are_named_in_stable_models():
    torch.manual_seed(7)
    layer = nn.TransformerEncoderLayer(64, 2, 128, batch_first=True, norm_first=True, dropout=0.0)
    model, inputs = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), batch(4, 8, 64)
    assert "as the papers have them" not in str(check(model, inputs))
    for weights, words in (
        ("normal(std=1)", "6 to 11 times as large as"),
        ("normal(std=0.001)", "times smaller than the papers recommend"),
    ):
        init_module_(model, [("*.linear*.weight", weights), ("*", None)], seed=7)
        found = check(model, inputs)
        assert (found.verdict.word, found.suggestions) == ("stable", {})
        assert words in str(found)


def test_a_model_whose_course_depends_on_its_signals_is_checked_untried():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.experts = nn.Linear(16, 16), nn.ModuleList([nn.Linear(16, 16) for _ in range(4)])

        def forward(self, inputs):
            hidden = F.relu(self.first(inputs))
            chosen = (hidden.norm(dim=1) * 2).long().clamp(0, 2)  # the last has no inputs
            return torch.cat([F.relu(expert(hidden[chosen == n])) for n, expert in enumerate(self.experts)])

    model = Experts()
    init_module_(model, {"*.weight": "normal(std=0.05)", "*.bias": "zeros"}, seed=7)
    found = check(model, batch(64, 16))
    assert "experts.3" not in [layer.name for layer in found.layers]
    assert found.factors
    assert found.tried is None
    assert "suggested" in str(found)


@pytest.mark.parametrize("norm", [lambda: nn.LocalResponseNorm(5), nn.Identity])
def test_local_response_normalization_makes_no_normalized_model(norm):
    def convolution(inputs, outputs):
        return (nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), norm())

    model = nn.Sequential(*convolution(3, 48), *convolution(48, 64), *convolution(64, 96), nn.Conv2d(96, 10, 3))
    init_module_(model, {"*.weight": "normal(std=0.001)", "*.bias": "zeros"}, seed=7)
    found = check(model, batch(4, 3, 8, 8))
    assert not found.is_normalized
    assert (found.verdict.word, len(found.suggestions)) == ("vanishes", 4)


def test_two_norms_do_not_hide_what_follows_them():
    sizes = [64, 60, 56, 52, 48, 44, 40, 36]
    norms = [part for _ in range(3) for part in (nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU())]
    plain = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    model = nn.Sequential(*norms, *plain)
    init_module_(model, [("0.weight", "he_normal"), ("*.weight", "normal(std=0.01)"), ("*.bias", "zeros")], seed=7)
    for part in model:
        if isinstance(part, nn.LayerNorm):
            part.reset_parameters()
    found = check(model, batch(64, 64))
    assert (found.is_normalized, found.verdict.word) == (True, "vanishes")
    assert found.verdict.layer <= 7


def test_outputs_that_are_very_large_are_sampled(monkeypatch):
    monkeypatch.setattr("winit_fast.check.observe.MOST_VALUES", 1 << 12)
    model, inputs = deep("he_normal", depth=3, width=64), batch(1024, 64)
    sampled = check(model, inputs)
    monkeypatch.undo()
    whole = check(model, inputs)
    for one, other in zip(sampled.layers, whole.layers, strict=True):
        assert one.statistics.std == pytest.approx(other.statistics.std, rel=0.2)
        assert one.statistics.std != other.statistics.std
        assert one.statistics.gradient_norm == pytest.approx(other.statistics.gradient_norm, rel=0.2)


# Gradients of layers of different sizes


class Convolutions(nn.Module):
    def __init__(self, positions):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv1d(32, 32, 3, padding=1, padding_mode="circular") for _ in range(6)])
        self.head, self.positions = nn.Linear(32, 10), positions

    def forward(self, inputs):
        for layer in self.layers:
            inputs = F.relu(layer(inputs))
        return self.head(inputs.mean(-1))


def averaged(output):
    return output.square().mean()


@pytest.mark.parametrize("loss", [None, averaged])
@pytest.mark.parametrize("positions", [16, 2048])
def test_an_average_over_positions_is_no_vanishing_gradient(loss, positions):
    model = Convolutions(positions)
    init_module_(model, {"*.weight": "he_normal", "*.bias": "zeros"}, seed=7)
    found = check(model, batch(8, 32, positions), loss=loss)
    *hidden, head = [layer.statistics for layer in found.layers]
    assert found.verdict.word == "stable"
    assert hidden[-1].gradient_std == pytest.approx(head.gradient_std / positions, rel=0.75)
    assert 0.25 < hidden[0].gradient_norm / hidden[-1].gradient_norm < 4.0


def test_an_average_over_very_many_positions_lets_little_of_noise_pass_and_is_no_vanishing_signal():
    model = Convolutions(30_000)
    init_module_(model, {"*.weight": "he_normal", "*.bias": "zeros"}, seed=7)
    found = check(model, batch(4, 32, 30_000))
    assert found.layers[-1].entering < found.layers[1].entering / 100
    assert found.verdict.word == "stable"
    assert found.verdict.drift < 100


@pytest.mark.parametrize("loss", [None, torch.mean, torch.sum, averaged])
def test_a_wide_head_with_one_output_is_no_vanishing_gradient(loss):
    hidden = [part for _ in range(3) for part in (nn.Linear(2048, 2048), nn.ReLU())]
    model = nn.Sequential(*hidden, nn.Linear(2048, 1))
    init_module_(model, {"*.weight": "he_normal", "*.bias": "zeros"}, seed=7)
    for size in (1, 16):
        found = check(model, batch(size, 2048), loss=loss)
        assert found.verdict.word == "stable"
        assert all(layer.statistics.gradient_std > 0 for layer in found.layers)


def test_a_gradient_is_compared_with_the_last_hidden_layers():
    model = deep("he_normal", depth=10)
    with torch.no_grad():
        model[6].weight.mul_(1e-4)
        model[16].weight.mul_(1e4)
    there, back = check(model, batch(64, 64)).verdict.findings
    assert (there.word, there.layer, there.reference) == ("vanishes", 5, 3)
    assert (back.word, back.layer, back.reference) == ("explodes", 8, 10)
    assert back.reason.endswith(" of layer 10's")


# Normalization


def normalized_by_functions(hidden):
    return F.layer_norm(hidden, hidden.shape[1:])


class HandwrittenRMSNorm(nn.Module):
    def forward(self, hidden):
        return hidden * hidden.square().mean(-1, keepdim=True).rsqrt()


@pytest.mark.parametrize("norm", [normalized_by_functions, nn.LayerNorm(128), HandwrittenRMSNorm()])
def test_normalization_is_seen_in_functions_modules_and_by_name(norm):
    model = Skipping(10, is_residual=True, norm=norm)
    init_module_(model, {"*.layers.*.weight": "normal(std=0.01)", "*": None}, seed=7)
    found = check(model, batch(64, 128))
    assert found.is_normalized
    assert (found.verdict.word, found.suggestions) == ("stable", {})


def test_one_normalization_of_inputs_or_outputs_makes_no_normalized_model():
    class NormalHead(nn.Linear):
        pass

    hidden = deep("xavier_normal", depth=18)
    for parts in ([nn.BatchNorm1d(64), *hidden], [*hidden, nn.LayerNorm(10), NormalHead(10, 4), NormalHead(4, 4)]):
        found = check(nn.Sequential(*parts), batch(128, 64))
        assert not found.is_normalized
        assert found.verdict.word == "vanishes"
        assert len(found.suggestions) >= 18


def test_normalized_weights_are_no_normalized_signals():
    model = deep("he_normal", depth=6)
    for part in model:
        if isinstance(part, nn.Linear):
            nn.utils.parametrizations.spectral_norm(part)
    assert not check(model, batch(64, 64)).is_normalized


# What is measured


class ByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(16, 32), nn.Linear(32, 24), nn.Linear(24, 8, bias=False)])

    def forward(self, inputs):
        hidden = self.layers[0](inputs).relu_()
        return self.layers[2](torch.tanh(self.layers[1](hidden)))


def test_statistics_are_those_computed_by_hand():
    model, inputs = ByHand(), batch(50, 16)
    init_module_(model, {"*.weight": "normal(std=0.4)", "*.bias": "normal(std=0.1)"}, seed=3)
    found = check(model, inputs, loss=lambda output: output.square().sum())

    first, second, third = model.layers
    pre_1 = first(inputs)
    out_1 = torch.relu(pre_1)
    pre_2 = second(out_1)
    out_2 = torch.tanh(pre_2)
    out_3 = third(out_2)
    outputs = [out_1, out_2, out_3]
    gradients = torch.autograd.grad(out_3.square().sum(), outputs)
    names = ["relu", "tanh", None]
    for number, (pre, out, gradient, name) in enumerate(
        zip([pre_1, pre_2, out_3], outputs, gradients, names, strict=True)
    ):
        pre, out, gradient = (tensor.detach().numpy().astype("float64") for tensor in (pre, out, gradient))
        slopes = ACTIVATIONS[name](pre)[1] if name else None
        is_saturated = ACTIVATIONS[name].is_saturated(slopes) if name else None
        expected = layer_statistics(
            pre, out, slopes=slopes, is_saturated=is_saturated, gradients=gradient, name=f"layers.{number}"
        )
        measured = found.layers[number].statistics
        assert measured[:-1] == pytest.approx(expected[:-1], rel=1e-6, nan_ok=True)
        assert measured.name == expected.name
        assert measured.pre_std == pytest.approx(pre.std(), rel=1e-6)
        assert measured.gradient_std == pytest.approx(math.sqrt((gradient**2).mean()), rel=1e-6)
        assert measured.gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-6)
        weights = found.layers[number].weights
        assert weights.std == pytest.approx(float(model.layers[number].weight.detach().std(correction=0)), rel=1e-6)
        assert weights.name == f"layers.{number}.weight"


def test_the_gradient_without_a_loss_has_std_1_and_is_the_same_every_time():
    model = deep("he_normal", depth=3)
    first, second = check(model, batch(256, 64)), check(model, batch(256, 64))
    assert first.layers[-1].statistics.gradient_std == pytest.approx(1.0, abs=0.05)
    assert str(first) == str(second)


def test_units_of_convolutions_are_their_channels():
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2), nn.Tanh(), nn.Conv2d(4, 4, 1))
    with torch.no_grad():
        model[0].bias[2:4] = -100.0  # dead
    inputs = batch(8, 3, 10, 10)
    found = check(model, inputs)
    out = model[1](model[0](inputs)).detach().movedim(1, -1).numpy()
    assert found.layers[0].statistics.dead == pytest.approx(2 / 6)
    assert found.layers[0].statistics.signal == pytest.approx(layer_statistics(None, out).signal, rel=1e-6)
    assert [layer.activation for layer in found.layers] == ["relu", "tanh", ""]
    transposed = found.layers[1]
    assert transposed.recommended_std == pytest.approx(math.sqrt(2 / (6 * 4 + 4 * 4)))
    assert found.layers[0].recommended_std == pytest.approx(math.sqrt(2 / 27))


ACTIVATED = [
    (F.relu, "relu"),
    (torch.relu, "relu"),
    (lambda z: z.relu_(), "relu"),
    (F.relu6, "relu6"),
    (lambda z: F.hardtanh(z, 0.0, 6.0), "relu6"),
    (F.hardtanh, ""),
    (F.gelu, "gelu"),
    (lambda z: F.gelu(z, approximate="tanh"), "gelu_tanh"),
    (lambda z: F.leaky_relu(z, 0.2), "leaky_relu"),
    (lambda z: torch.prelu(z, torch.tensor([0.4])), "prelu"),
    (lambda z: F.silu(z, inplace=True), "silu"),
    (lambda z: z.sigmoid(), "sigmoid"),
    (F.softsign, "softsign"),
    (F.hardswish, "hard_swish"),
    (F.mish, "mish"),
    (F.elu, "elu"),
    (F.softplus, "softplus"),
    (torch.selu, "selu"),
    (nn.ReLU6(inplace=True), "relu6"),
    (nn.Softsign(), "softsign"),
    (nn.Hardswish(), "hard_swish"),
    (nn.PReLU(init=0.1), "prelu"),
    (lambda z: F.relu(F.dropout(F.layer_norm(z, z.shape[1:]), training=False)), "relu"),
    (lambda z: torch.relu(z + 1), ""),
    (nn.ELU(alpha=0.5), "elu(alpha=0.5)"),
    (lambda z: z.clamp(min=0), "relu"),
    (lambda z: torch.clamp_(z, 0, 6), "relu6"),
    (lambda z: torch.clamp(z, -1, 1), ""),
    (lambda z: torch.clamp(z, min=torch.zeros(16)), ""),
    (torch.sin, ""),
]


@pytest.mark.parametrize(("function", "expected"), ACTIVATED)
def test_activations_are_seen_as_functions_methods_and_modules(function, expected):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 16)

        def forward(self, inputs):
            return function(self.layer(inputs))

    model, inputs = Model(), batch(32, 16)
    (layer,) = check(model, inputs).layers
    assert layer.activation == expected
    out = (model if expected else model.layer)(inputs).detach().numpy()
    assert layer.statistics.std == pytest.approx(out.std(), rel=1e-6)


@pytest.mark.parametrize(
    ("function", "slope"),
    [(nn.LeakyReLU(0.3), 0.3), (nn.PReLU(init=0.1), 0.1), (nn.LeakyReLU(), 0.01)],
)
def test_slopes_are_those_of_the_model(function, slope):
    (layer,) = check(nn.Sequential(nn.Linear(16, 16), function), batch(32, 16)).layers
    assert layer.slope == pytest.approx(slope)
    assert layer.recommended_std == pytest.approx(math.sqrt(2 / ((1 + slope**2) * 16)))


def test_the_first_activation_of_a_layer_counts():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 16)

        def forward(self, inputs):
            hidden = self.layer(inputs)
            return torch.tanh(hidden) * torch.sigmoid(hidden)

    (layer,) = check(Gated(), batch(32, 16)).layers
    assert layer.activation == "tanh"


def test_every_use_of_a_shared_layer_has_its_row_and_its_parameter_one_suggestion():
    shared = nn.Linear(64, 64)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(64, 8))
    init_module_(model, {"*.weight": "normal(std=0.01)", "*.bias": "zeros"}, seed=1)
    found = check(model, batch(64, 64))
    assert [layer.name for layer in found.layers] == ["0", "0 (use 2)", "4"]
    assert found.layers[1].statistics.std < found.layers[0].statistics.std
    assert next(iter(found.suggestions)) == "0.weight"
    assert str(found).count("0.weight") == 1


def test_what_is_not_measured_is_named():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(10, 16), nn.Linear(16, 4)
            self.attention, self.unused = nn.MultiheadAttention(16, 2), nn.Linear(3, 3)

        def forward(self, tokens):
            hidden = self.table(tokens)
            return self.head(self.attention(hidden, hidden, hidden)[0])

    found = check(Model(), torch.arange(10).reshape(2, 5))
    assert [layer.name for layer in found.layers] == ["head"]
    assert sorted(found.unmeasured) == [
        "attention.in_proj_weight", "attention.out_proj.weight", "table.weight", "unused.weight",
    ]  # fmt: skip
    assert "table.weight" in str(found).splitlines()[-1]


def test_frozen_layers_have_gradients_where_something_before_them_is_trained():
    model = deep("he_normal", depth=3)
    model.requires_grad_(False)
    assert all(math.isnan(layer.statistics.gradient_std) for layer in check(model, batch(32, 64)).layers)
    model[2].weight.requires_grad_(True)
    measured = [math.isnan(layer.statistics.gradient_std) for layer in check(model, batch(32, 64)).layers]
    assert measured == [True, False, False, False]


def test_infinite_signals_explode():
    found = check(deep("normal(std=1e6)", depth=20), batch(16, 64))
    assert found.verdict.word == "explodes"
    assert found.layers[-1].statistics.std == math.inf


def test_bfloat16_and_one_input_are_measured():
    model = deep("he_normal", depth=3).bfloat16()
    found = check(model, batch(1, 64).bfloat16())
    assert math.isnan(found.layers[0].statistics.signal)
    assert 0.3 < found.layers[0].statistics.std < 3.0


def test_wrappers_leave_no_trace_in_names():
    model = deep("he_normal", depth=2)
    names = [layer.weights.name for layer in check(nn.DataParallel(model), batch(16, 64)).layers]
    assert names == ["0.weight", "2.weight", "4.weight"]
    compiled = torch.compile(model, backend="eager")
    if hasattr(torch.compiler, "set_stance"):
        assert [layer.weights.name for layer in check(compiled, batch(16, 64)).layers] == names


def test_print_shows_a_row_for_each_layer_the_verdict_and_the_suggestions():
    lines = str(check(deep("xavier_normal", depth=14), batch(128, 64))).splitlines()
    head = re.split(r"\s{2,}", lines[0].strip())
    assert head == [
        "layer",
        "kind",
        "activation",
        "entering",
        "pre std",
        "std",
        "gradient",
        "dead",
        "weights",
        "advised",
        "finding",
    ]
    assert lines[1].split()[:4] == ["1", "0", "Linear", "relu"]
    assert lines[15].split()[:4] == ["15", "28", "Linear", "-"]
    assert any(line.endswith("  vanishes") for line in lines)
    assert lines[21].startswith("verdict: vanishes at layer ")
    assert any(
        re.fullmatch(r"suggested \(tried on this input: stable, within [1-9]\.\d times\):", line) for line in lines
    )
    row = r"^  0\.weight to 26\.weight \(14\)  he_normal  std 0\.177 instead of 0\.12\d to 0\.12\d$"
    assert re.search(row, "\n".join(lines), re.MULTILINE)
    assert lines[-2].startswith("  he_normal: He et al. 2015")
    assert lines[-1] == '  to apply: adapters.torch.init_module_(model, [*found.rules, ("*", None)], seed=0)'


@pytest.mark.parametrize("model", [lambda: deep("xavier_normal", nn.SiLU, depth=40), lambda: Skipping(20, dropout=0.5)])
def test_what_fades_is_not_made_to_explode(model):
    torch.manual_seed(7)
    model = model()
    found = check(model, batch(64, next(model.parameters()).shape[1]))
    assert (found.verdict.word, found.verdict_tried.word, found.suggestions) == ("vanishes", "explodes", {})
    assert " and is no better: " in str(found)
    assert "what may help instead: normalization" in str(found)


def test_why_nothing_is_suggested_is_said():
    class Unseen(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(64, 64) for _ in range(14)])

        def forward(self, inputs):
            for layer in self.layers:
                inputs = layer(inputs) * (layer(inputs) > 0)
            return inputs

    torch.manual_seed(7)
    assert "suggested: nothing; no activation was seen after any layer" in str(check(Unseen(), batch(64, 64)))
    parts = [part for _ in range(3) for part in (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())]
    assert "suggested: nothing; signals are normalized between layers" in str(
        check(nn.Sequential(*parts), batch(64, 64))
    )


# The model is left as it was


class Worn(nn.Module):
    """Everything that a careless check would change; `forward` raises where it is told to."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.head = nn.Linear(8, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.is_broken = False

    def forward(self, inputs):
        self.calls += 1
        self.register_buffer("cache", torch.ones(3))
        random.random()
        np.random.rand()
        hidden = self.layers(inputs).mean(-1)
        self.head.eval()
        if self.is_broken:
            raise RuntimeError("broken")
        return self.head(hidden)


def condition(model):
    """What of a model and of generators must not change."""
    hooks = [
        (len(part._forward_hooks), len(part._forward_pre_hooks), len(part._backward_hooks)) for part in model.modules()
    ]
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return (
        {name: (id(tensor), tensor.detach().numpy().tobytes()) for name, tensor in tensors.items()},
        {name: None if p.grad is None else p.grad.numpy().tobytes() for name, p in model.named_parameters()},
        {name: (p.requires_grad, p._backward_hooks) for name, p in model.named_parameters()},
        [part.training for part in model.modules()],
        hooks,
        [sorted(part.__dict__) for part in model.modules()],
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
        np.random.get_state()[1].tobytes(),
        np.random.get_state()[2:],
    )


def test_buffers_beside_scripted_modules_are_left_as_they_were():
    scripted = torch.jit.script(nn.BatchNorm1d(16))
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), scripted, nn.Linear(16, 4))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    check(model, batch(32, 8))
    assert len(before) == 6
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_a_stable_model_is_said_to_be_so_where_something_is_suggested():
    lines = str(check(deep("xavier_normal", depth=3), batch(64, 64))).splitlines()
    assert any(re.fullmatch(r"verdict: stable, within [1-9]\.\d times", line) for line in lines)
    assert any(
        line.startswith("suggested, though the model is stable as it is (tried on this input: stable, within ")
        for line in lines
    )


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("with_gradients", [True, False])
@pytest.mark.parametrize("fails", ["", "forward", "loss"])
def test_a_model_is_left_as_it_was(is_training, with_gradients, fails):
    model, inputs = Worn(), batch(6, 4, 10)
    if with_gradients:
        model(inputs).sum().backward()
    model.train(is_training)
    model.layers[0].eval()
    model._buffers.pop("cache", None)
    before = condition(model)
    model.is_broken = fails == "forward"
    if fails:
        with pytest.raises(RuntimeError, match="broken"):
            check(model, inputs, loss=broken if fails == "loss" else None)
    else:
        assert len(check(model, inputs).layers) == 2
    assert condition(model) == before


def broken(output):
    raise RuntimeError("broken")


def test_nothing_that_passed_is_kept():
    class Witness:
        pass

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 16, bias=False)

        def forward(self, inputs):
            hidden = self.layer(inputs)
            output = torch.relu(hidden)
            witness = hidden.grad_fn.metadata["witness"] = Witness()  # as long as the node of autograd
            kept.extend([weakref.ref(hidden), weakref.ref(output), weakref.ref(witness)])
            return output * 2

    kept = []
    found = check(Model(), batch(8, 16))
    gc.collect()
    assert found.layers[0].statistics.gradient_std > 0
    assert len(kept) == 6  # it ran twice: the layer is off
    assert {reference() for reference in kept} == {None}


def test_gradient_checkpointing_is_measured_once():
    from torch.utils.checkpoint import checkpoint

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = deep("he_normal", depth=2)

        def forward(self, inputs):
            return checkpoint(self.layers, inputs, use_reentrant=False)

    model, inputs = Model(), batch(32, 64)
    plain, found = check(model.layers, inputs), check(model, inputs)
    assert len(found.layers) == 3
    for one, other in zip(plain.layers, found.layers, strict=True):
        assert one.statistics[:-1] == pytest.approx(other.statistics[:-1], nan_ok=True)


def test_reentrant_checkpointing_is_refused_by_name():
    from torch.utils.checkpoint import checkpoint

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.layers = nn.Linear(64, 64), deep("he_normal", depth=2)

        def forward(self, inputs):
            return checkpoint(self.layers, self.first(inputs), use_reentrant=True)

    with pytest.raises(ValueError, match="model must checkpoint with use_reentrant=False"):
        check(Model(), batch(32, 64))


# Inputs, and what is refused


def test_an_input_made_under_inference_mode_is_taken():
    model = deep("xavier_normal", depth=3)
    with torch.inference_mode():
        inputs = batch(16, 64)
        inside = check(model, inputs)
    assert str(inside) == str(check(model, inputs)) == str(check(model, batch(16, 64)))


def test_a_model_made_under_inference_mode_is_refused():
    with torch.inference_mode():
        model = nn.Linear(4, 4)
    with pytest.raises(ValueError, match=r"model must be made outside of torch\.inference_mode, but weight was"):
        check(model, batch(2, 4))


def test_a_loss_without_a_gradient_is_refused():
    with pytest.raises(ValueError, match="loss must return a tensor with a gradient"):
        check(nn.Linear(4, 4), batch(2, 4), loss=lambda output: output.detach().sum())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_said_to_give_no_finite_signal(value):
    model = deep("he_normal", depth=3)
    with torch.no_grad():
        model[2].weight[0, 0] = value
    found = check(model, batch(16, 64))
    assert (found.verdict.word, found.verdict.layer) == ("explodes", 2)
    assert found.verdict.findings[0].reason == "its signal is not finite"
    assert "layer 2 (2): its signal is not finite" in str(found)


def test_inputs_are_a_tensor_a_tuple_or_keywords():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, first, second):
            return {"out": [self.layer(first - second)], "count": torch.tensor(3)}

    model, first, second = Model(), batch(16, 8), torch.zeros(8)
    positional, keywords = check(model, (first, second)), check(model, {"second": second, "first": first})
    assert str(positional) == str(keywords)
    assert positional.layers[0].statistics.gradient_std == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize(
    ("model", "inputs", "options", "error", "words"),
    [
        (torch.relu, batch(2, 4), {}, TypeError, "model must be a torch.nn.Module, got builtin"),
        (nn.Linear(4, 4), np.ones((2, 4)), {}, TypeError, "example_input must be a tensor, .*, got ndarray"),
        (nn.Linear(4, 4), None, {}, TypeError, "example_input must be .*, got NoneType"),
        (nn.Linear(4, 4), torch.full((2, 4), math.nan), {}, ValueError, "example_input must be numbers, got nan"),
        (nn.Linear(4, 4), {"input": [torch.full((2, 4), math.nan)]}, {}, ValueError, "example_input must be numbers"),
        (nn.Linear(4, 4), batch(2, 4), {"loss": 3}, TypeError, "loss must be a callable .*, got 3"),
        (nn.Linear(4, 4), batch(2, 4), {"loss": lambda output: output}, TypeError, "loss must return a tensor of one"),
        (nn.Linear(4, 4), batch(2, 4), {"loss": lambda output: 1.0}, TypeError, "loss must return .*, got 1.0"),
        (nn.ReLU(), batch(2, 4), {}, ValueError, "model must have a Linear or convolutional layer"),
        (nn.LazyLinear(4), batch(2, 4), {}, ValueError, "model must have shapes, but weight is lazy"),
        (nn.Linear(4, 4, device="meta"), batch(2, 4), {}, ValueError, "model must have memory, but weight"),
        (nn.Sequential(nn.Linear(4, 4), nn.Identity()), batch(2, 5), {}, RuntimeError, "shapes"),
    ],
)
def test_what_cannot_be_checked_is_refused_by_name(model, inputs, options, error, words):
    with pytest.raises(error, match=words):
        check(model, inputs, **options)


def test_a_loss_must_be_given_where_the_output_is_no_tensor():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, inputs):
            return self.layer(inputs).argmax(-1)

    with pytest.raises(TypeError, match="loss must be given where the output has no floating-point tensor"):
        check(Model(), batch(2, 4))


# Models of transformers


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers")


def test_gpt2_is_stable_and_its_composed_gelu_is_seen(transformers):
    torch.manual_seed(7)
    config = transformers.GPT2Config(
        n_layer=3, n_head=2, n_embd=32, vocab_size=100, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config)
    tokens = torch.arange(64).reshape(4, 16)
    found = check(model, {"input_ids": tokens, "labels": tokens}, loss=lambda output: output.loss)
    assert [layer.kind for layer in found.layers] == ["Conv1D"] * 12 + ["Linear"]
    assert [layer.activation for layer in found.layers[:4]] == ["", "", "gelu_tanh", ""]
    assert found.layers[2].weights[0] == "transformer.h.0.mlp.c_fc.weight"
    assert found.layers[2].recommended_std == pytest.approx(1.53358 / math.sqrt(32), rel=1e-4)  # of (in, out)
    assert (found.verdict.word, found.suggestions) == ("stable", {})
    assert "transformer.wpe.weight" in found.unmeasured
    assert all(layer.statistics.gradient_std > 0 for layer in found.layers)
    with torch.no_grad():
        model.transformer.h[2].mlp.c_fc.weight.mul_(1000)
    exploding = check(model, {"input_ids": tokens})
    assert exploding.verdict.findings[0].name == "transformer.h.2.mlp.c_proj"  # what enters it
    assert "transformer.h.2.mlp.c_fc.weight" in exploding.suggestions
    init_module_(model, [*exploding.rules, ("*", None)], seed=7)
    weight = model.transformer.h[2].mlp.c_fc.weight
    assert float(weight.detach().std()) == pytest.approx(1.53358 / math.sqrt(32), rel=0.05)


def test_vit_is_stable(transformers):
    torch.manual_seed(7)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=4
    )
    found = check(transformers.ViTForImageClassification(config), {"pixel_values": batch(4, 3, 16, 16)})
    assert found.layers[0].kind == "Conv2d"
    assert [layer.activation for layer in found.layers].count("gelu") == 3
    assert (found.verdict.word, found.suggestions) == ("stable", {})


def test_resnet_50_is_stable(transformers):
    torch.manual_seed(7)
    config = transformers.ResNetConfig(embedding_size=16, hidden_sizes=[32, 64, 128, 256])
    found = check(transformers.ResNetForImageClassification(config), batch(4, 3, 64, 64))
    assert len(found.layers) == 54
    assert (found.verdict.word, found.suggestions) == ("stable", {})


# Keras


@pytest.mark.skipif(INSIDE, reason="starts what runs inside")
@pytest.mark.parametrize("backend", BACKENDS)
def test_keras_models_pass_on(backend):
    pytest.importorskip("keras")
    pytest.importorskip(backend)
    environment = {"KERAS_BACKEND": backend, "KERAS_INSIDE": "1"}
    options = ["-q", "-m", "frameworks", "-k", "of_keras", "-p", "no:cacheprovider"]
    done = python("-m", "pytest", *options, __file__, **environment)
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout


if INSIDE:
    import keras


def keras_deep(weights, activation="relu", depth=20):
    seeds = iter(range(100))

    def dense(units, function=None):
        kernel = adapters.keras.Initializer(weights, seed=next(seeds))
        return keras.layers.Dense(units, activation=function, kernel_initializer=kernel)

    hidden = [dense(64, activation) for _ in range(depth)]
    return keras.Sequential([keras.Input((64,)), *hidden, dense(10)])


def keras_batch(*shape):
    return fill(np.empty(shape, "float32"), "normal", seed=1, name="batch")


def arrays(tensors):
    return [keras.ops.convert_to_numpy(tensor) for tensor in tensors]


@of_keras
def test_of_keras_relu_with_xavier_vanishes_and_he_makes_it_stable():
    model = keras_deep("xavier_normal")
    found = adapters.keras.check(model, keras_batch(128, 64))
    assert found.verdict.word == "vanishes"
    assert list(found.suggestions) == [layer.kernel.path for layer in model.layers[:-1]]
    assert [layer.name for layer in found.layers] == [layer.path for layer in model.layers]
    assert {one.scheme for one in found.suggestions.values()} == {scheme("he_normal")}
    assert f"  to apply: {found.how_to_follow}" in str(found)
    eval(found.how_to_follow, {"adapters": adapters, "found": found, "model": model})
    found = adapters.keras.check(model, keras_batch(128, 64))
    assert (found.verdict.word, found.suggestions) == ("stable", {})
    assert "verdict: stable, within" in str(found)


@of_keras
@pytest.mark.parametrize(
    ("weights", "activation", "word"),
    [("normal(std=0.01)", "sigmoid", "vanishes"), ("zeros", "relu", "symmetric"), ("normal", "tanh", "saturates")],
)
def test_of_keras_verdicts_of_the_textbook(weights, activation, word):
    found = adapters.keras.check(keras_deep(weights, activation, depth=5), keras_batch(128, 64))
    assert found.verdict.word == word
    assert len(found.suggestions) == 6


@of_keras
def test_of_keras_statistics_are_those_computed_by_hand():
    model = keras_deep("he_normal", "tanh", depth=2)
    inputs = keras_batch(40, 64)
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


def keras_image_model():
    layers = keras.layers
    inputs = keras.Input((12, 12, 3))
    hidden = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3)(inputs)))
    hidden = layers.Dropout(0.5)(keras.ops.tanh(layers.Conv2DTranspose(4, 2)(hidden)))
    hidden = layers.LeakyReLU(0.3)(layers.Dense(16)(layers.Flatten()(hidden)))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(hidden))


@of_keras
def test_of_keras_activations_are_seen_as_arguments_layers_and_operations():
    keras.utils.set_random_seed(7)
    found = adapters.keras.check(keras_image_model(), keras_batch(8, 12, 12, 3))
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


@of_keras
@pytest.mark.parametrize("order", ORDERS)
def test_of_keras_what_was_tried_is_what_comes_of_it(order):
    def convolution(*arguments):
        return keras.layers.Conv2D(*arguments, data_format=order, kernel_initializer=narrow, bias_initializer=bias)

    narrow, bias = (adapters.keras.Initializer(one) for one in ("normal(std=0.01)", "normal(std=0.3)"))
    keras.utils.set_random_seed(7)
    inputs = keras.Input((8, 8, 8))
    hidden = keras.layers.ReLU()(convolution(64, 3)(keras.ops.relu(convolution(64, 3)(inputs))))
    hidden = keras.layers.Dense(64, "relu", use_bias=False, kernel_initializer=narrow)(keras.layers.Flatten()(hidden))
    model = keras.Model(inputs, keras.layers.Dense(5)(hidden))
    found = adapters.keras.check(model, keras_batch(16, 8, 8, 8))
    assert len(found.factors) == 3
    for variable in model.weights:
        if variable.path in found.factors:
            variable.assign(variable * found.factors[variable.path])
    made = adapters.keras.check(model, keras_batch(16, 8, 8, 8))
    for tried, layer in zip(found.tried, made.layers, strict=True):
        assert tried.statistics[:-1] == pytest.approx(layer.statistics[:-1], rel=1e-3, abs=1e-5, nan_ok=True)
        assert tried.entering == pytest.approx(layer.entering, rel=1e-3)


@of_keras
@pytest.mark.parametrize("kind", ["LayerNormalization", "UnitNormalization", "RMSNorm"])
def test_of_keras_normalized_models_are_compared_with_their_like(kind):
    class RMSNorm(keras.layers.Layer):
        def call(self, inputs):
            return inputs * keras.ops.rsqrt(keras.ops.mean(keras.ops.square(inputs), -1, keepdims=True))

    norm = RMSNorm if kind == "RMSNorm" else getattr(keras.layers, kind)
    narrow = adapters.keras.Initializer("normal(std=0.01)")
    keras.utils.set_random_seed(7)
    inputs = hidden = keras.Input((64,))
    for _ in range(6):
        hidden = keras.layers.Dense(64, "relu", kernel_initializer=narrow)(norm()(hidden))
    found = adapters.keras.check(keras.Model(inputs, hidden), keras_batch(32, 64))
    assert (found.is_normalized, found.verdict.word, found.suggestions) == (True, "stable", {})
    found = adapters.keras.check(keras.Sequential([keras.Input((64,)), norm(), *keras_deep("xavier_normal").layers]),
                                 keras_batch(32, 64))  # fmt: skip
    assert (found.is_normalized, found.verdict.word) == (False, "vanishes")


@of_keras
def test_of_keras_what_normalizes_weights_is_no_norm_of_signals():
    def parts(sizes):
        for number, size in enumerate(sizes):
            narrow = adapters.keras.Initializer("normal(std=0.01)", seed=number)
            yield keras.layers.SpectralNormalization(keras.layers.Dense(size, kernel_initializer=narrow))
            yield keras.layers.ReLU()

    model = keras.Sequential([keras.Input((64,)), *parts(range(64, 32, -2)), keras.layers.Dense(4)])
    found = adapters.keras.check(model, keras_batch(64, 64))
    assert (found.is_normalized, found.verdict.word) == (False, "vanishes")
    assert [layer.activation for layer in found.layers] == ["relu"] * 16 + [""]
    assert found.suggestions == {}  # their width is made up for
    assert "weights that are computed from others" in str(found)


@of_keras
def test_of_keras_blocks_that_begin_with_their_activation_have_the_gradient_of_their_sum():
    def dense(weights):
        return keras.layers.Dense(32, kernel_initializer=adapters.keras.Initializer(weights))

    keras.utils.set_random_seed(7)
    inputs = keras.Input((32,))
    hidden = dense("lecun_normal")(inputs)
    for _ in range(4):
        branch = dense("zeros")(keras.layers.ReLU()(dense("he_normal")(keras.layers.ReLU()(hidden))))
        hidden = keras.layers.Add()([hidden, branch])
    found = adapters.keras.check(keras.Model(inputs, keras.layers.Dense(3)(hidden)), keras_batch(64, 32))
    assert found.layers[0].activation == "relu"
    assert found.layers[0].statistics.gradient_norm > 0.0
    assert (found.verdict.word, found.suggestions) == ("stable", {})


@of_keras
def test_of_keras_a_model_with_dropout_keeps_its_narrower_weights():
    keras.utils.set_random_seed(7)
    dense = {"activation": "relu", "kernel_initializer": "winit_fast>xavier_normal"}
    hidden = [part for _ in range(8) for part in (keras.layers.Dense(64, **dense), keras.layers.Dropout(0.5))]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])
    found = adapters.keras.check(model, keras_batch(128, 64))
    assert (found.verdict.word, len(found.off), found.suggestions) == ("stable", 8, {})


@of_keras
@pytest.mark.parametrize("fails", [False, True])
def test_of_keras_a_model_is_left_as_it_was(fails):
    def broken(output):
        raise RuntimeError("broken")

    model, inputs = keras_image_model(), keras_batch(8, 12, 12, 3)
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


@of_keras
def test_of_keras_what_cannot_be_checked_is_refused_by_name():
    layers, check = keras.layers, adapters.keras.check
    with pytest.raises(TypeError, match=r"model must be a keras\.Model, got Dense"):
        check(layers.Dense(3), keras_batch(2, 3))
    with pytest.raises(ValueError, match="model must be built"):
        check(keras.Sequential([layers.Dense(3)]), keras_batch(2, 3))
    model = keras_deep("he_normal", depth=1)
    for given in (None, "text", object(), {1, 2}):
        with pytest.raises(TypeError, match="example_input must be an array or a structure of arrays, got "):
            check(model, given)
    with pytest.raises(ValueError, match="example_input must be numbers, got nan"):
        check(model, np.nan * keras_batch(2, 64))
    with pytest.raises(TypeError, match="loss must be a callable"):
        check(model, keras_batch(2, 64), loss=3)
    with pytest.raises(TypeError, match="loss must return a tensor of one number"):
        check(model, keras_batch(2, 64), loss=lambda output: output)
    with pytest.raises(ValueError, match="loss must have a gradient"):
        check(model, keras_batch(2, 64), loss=lambda output: keras.ops.sum(keras.ops.stop_gradient(output)))
    with pytest.raises(ValueError, match="model must have a Dense or convolutional layer"):
        check(keras.Sequential([keras.Input((3,)), layers.ReLU()]), keras_batch(2, 3))


@of_keras
def test_of_keras_shared_layers_and_inputs_in_structures():
    shared = keras.layers.Dense(8, activation="relu")
    first, second = keras.Input((8,)), keras.Input((8,))
    model = keras.Model([first, second], keras.layers.Add()([shared(first), shared(second)]))
    found = adapters.keras.check(model, [keras_batch(16, 8), 2 * keras_batch(16, 8)])
    assert [layer.name for layer in found.layers] == [shared.path, f"{shared.path} (use 2)"]
    one, other = (layer.statistics for layer in found.layers)
    assert other.std == pytest.approx(2 * one.std, rel=1e-5)
    assert other.gradient_std == pytest.approx(one.gradient_std, rel=1e-6)
