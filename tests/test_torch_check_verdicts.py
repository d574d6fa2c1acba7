"""adapters.torch.check: its verdicts on models, and what it suggests."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest

from winit_fast import adapters, recommend, scheme

torch = pytest.importorskip("torch")

from checked_models import batch, deep  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

pytestmark = pytest.mark.frameworks

check, init_module_ = adapters.torch.check, adapters.torch.init_module_

HIDDEN = [f"{2 * index}.weight" for index in range(20)]


# Textbook


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


def test_infinite_signals_explode():
    found = check(deep("normal(std=1e6)", depth=20), batch(16, 64))
    assert found.verdict.word == "explodes"
    assert found.layers[-1].statistics.std == math.inf


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


@pytest.mark.parametrize("model", [lambda: deep("xavier_normal", nn.SiLU, depth=40), lambda: Skipping(20, dropout=0.5)])
def test_what_fades_is_not_made_to_explode(model):
    torch.manual_seed(7)
    model = model()
    found = check(model, batch(64, next(model.parameters()).shape[1]))
    assert (found.verdict.word, found.verdict_tried.word, found.suggestions) == ("vanishes", "explodes", {})
    assert " and is no better: " in str(found)
    assert "what may help instead: normalization" in str(found)


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


# What is printed


def test_print_shows_a_row_for_each_layer_the_verdict_and_the_suggestions():
    lines = str(check(deep("xavier_normal", depth=14), batch(128, 64))).splitlines()
    head = re.split(r"\s{2,}", lines[0].strip())
    assert head == [
        "layer",
        "kind",
        "activation",
        "input",
        "before",
        "after",
        "gradient",
        "dead",
        "weights",
        "recommended",
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


def test_a_stable_model_is_said_to_be_so_where_something_is_suggested():
    lines = str(check(deep("xavier_normal", depth=3), batch(64, 64))).splitlines()
    assert any(re.fullmatch(r"verdict: stable, within [1-9]\.\d times", line) for line in lines)
    assert any(
        line.startswith("suggested, though the model is stable as it is (tried on this input: stable, within ")
        for line in lines
    )
