"""adapters.torch.init_module_ on tensors that are computed from other parameters: they are assigned, or refused."""

import copy
import re

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, parametrize  # noqa: E402

from winit_fast import adapters  # noqa: E402

pytestmark = pytest.mark.frameworks

init_, init_module_, materialize_ = adapters.torch.init_, adapters.torch.init_module_, adapters.torch.materialize_
Rule, recipes = adapters.torch.Rule, adapters.torch.recipes

RULES = {"*.weight": "he_normal", "*.bias": "zeros"}


def old_weight_norm(module):
    with pytest.warns(FutureWarning, match="deprecated"):
        return nn.utils.weight_norm(module)


NORMS = {"weight_norm": parametrizations.weight_norm, "older weight_norm": old_weight_norm}
ORTHOGONAL = [
    (way, trivial, shape)
    for way in ("householder", "cayley", "matrix_exp")
    for trivial in (True, False)
    for shape in ((8, 6), (8, 8), (6, 8))
]


def weight_of(scheme, shape=(8, 6), dtype=torch.float32, name="0.weight", **axes):
    return init_(torch.empty(shape, dtype=dtype), scheme, seed=7, name=name, **axes)


def orthogonal(way, trivial, shape):
    layer = nn.Linear(shape[1], shape[0])
    return nn.Sequential(parametrizations.orthogonal(layer, orthogonal_map=way, use_trivialization=trivial))


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def unchanged(module, before):
    after = module.state_dict()
    return after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rules", [RULES, {"*.bias": "zeros", "*": "he_normal"}, "callable", "torch"])
def test_a_weight_under_weight_norm_has_the_values_of_a_plain_one(norm, dtype, rules):
    if rules == "callable":
        rules = [("*.bias", "zeros"), Rule("*", lambda module, name, tensor: f"normal(std={1 / len(tensor)})",
                                           of=nn.Linear)]  # fmt: skip
    plain = nn.Sequential(nn.Linear(6, 8).to(dtype))
    init_module_(plain, rules, seed=7)
    model = nn.Sequential(norm(nn.Linear(6, 8).to(dtype)))
    report = init_module_(model, rules, seed=7)
    close = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(model[0].weight, plain[0].weight, rtol=close, atol=0)
    inputs = torch.ones(2, 6, dtype=dtype)
    torch.testing.assert_close(model(inputs), plain(inputs), rtol=10 * close, atol=close)
    entry = report["0.weight"]
    assert len(report) == 2
    assert entry.shape == (8, 6)
    assert entry.note.startswith("assigned through WeightNorm")
    assert len(entry.also) == 2
    assert all(report[name] is entry for name in entry.also)


def test_what_weight_norm_cannot_hold_is_refused_before_anything_is_written():
    for norm in NORMS.values():
        model = nn.Sequential(nn.Linear(6, 6), norm(nn.Linear(6, 8)))
        before = state(model)
        with pytest.raises(ValueError, match=r"1\.weight of shape .*, by rule '\*', cannot take zeros: .* make nan"):
            init_module_(model, {"*": "zeros"}, seed=7)
        assert unchanged(model, before)
    table = parametrizations.weight_norm(nn.Embedding(5, 4, padding_idx=1))
    with pytest.raises(ValueError, match="would make nan of it"):
        init_module_(table, {"*": "normal"}, seed=7)


@pytest.mark.parametrize(("way", "trivial", "shape"), ORTHOGONAL)
def test_an_orthogonal_weight_is_assigned_an_orthogonal_matrix_or_nothing(way, trivial, shape):
    model = orthogonal(way, trivial, shape)
    before = state(model)
    for rules in (RULES, {"*": "zeros"}, {"*": "normal"}, {"*.weight": "orthogonal(gain=2)", "*": "zeros"}):
        with pytest.raises(ValueError, match=r"0\.weight of shape .*its parametrization Orthogonal"):
            init_module_(model, rules, seed=7)
        assert unchanged(model, before)
    rules = {"*.weight": "orthogonal", "*.bias": "zeros"}
    if way != "householder" and not trivial:
        with pytest.raises(ValueError, match="It is not possible to assign"):
            init_module_(model, rules, seed=7)
        assert unchanged(model, before)
        return
    again, drawn = copy.deepcopy(model), torch.get_rng_state()
    init_module_(model, rules, seed=7)
    torch.testing.assert_close(model[0].weight, weight_of("orthogonal", shape), rtol=0, atol=1e-6)
    assert torch.equal(torch.get_rng_state(), drawn)
    torch.rand(3)
    init_module_(again, rules, seed=7)
    assert unchanged(again, state(model))  # the generator has no say
    model[0].weight.square().sum().backward()


@pytest.mark.parametrize("training", [True, False])
def test_a_weight_under_spectral_norm_is_the_drawn_one_by_its_norm(training):
    model = nn.Sequential(parametrizations.spectral_norm(nn.Linear(60, 80))).train(training)
    init_module_(model, RULES, seed=7)
    drawn = weight_of("he_normal", (80, 60))
    assert torch.equal(model[0].parametrizations.weight.original, drawn)
    norm = torch.linalg.matrix_norm(model.eval()[0].weight, 2).item()
    assert norm == pytest.approx(1.0, abs=0.1)  # of the new weight, not of the one before
    assert model.training is False
    assert model[0].parametrizations.weight.training is False


class Symmetric(nn.Module):
    def forward(self, upper):
        return upper.triu() + upper.triu(1).mT

    def right_inverse(self, value):
        return value.triu()


class Doubled(nn.Module):
    def forward(self, half):
        return 2 * half


def test_a_parametrization_of_ones_own_is_assigned_through_its_right_inverse_or_refused():
    symmetric = nn.Linear(4, 4)
    parametrize.register_parametrization(symmetric, "weight", Symmetric())
    init_module_(symmetric, {"*": "constant(3)"}, seed=7)
    assert bool((symmetric.weight == 3).all())
    doubled = nn.Linear(4, 4)
    parametrize.register_parametrization(doubled, "weight", Doubled())
    for layer, words in ((symmetric, "Symmetric would make other values"), (doubled, "Doubled has no right_inverse")):
        before = state(layer)
        with pytest.raises(ValueError, match=words):
            init_module_(layer, {"*": "normal"}, seed=7)
        assert unchanged(layer, before)


def test_two_parametrizations_of_one_weight_are_taken_apart_in_turn():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 6)))
    parametrize.register_parametrization(model[0], "weight", Symmetric())
    init_module_(model, {"*.weight": "constant(2)", "*": "zeros"}, seed=7)
    torch.testing.assert_close(model[0].weight, torch.full((6, 6), 2.0))


def test_rules_that_name_the_originals_are_for_the_originals():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 8)))
    report = init_module_(model, {"*.original0": "ones", "*.original1": "he_normal", "*": "zeros"}, seed=7)
    name = "0.parametrizations.weight.original1"
    assert torch.equal(model[0].parametrizations.weight.original1, weight_of("he_normal", name=name))
    torch.testing.assert_close(model[0].weight.norm(dim=1), torch.ones(8))
    assert report[name].note == ""
    before = state(model)
    with pytest.raises(ValueError, match=re.escape("0.weight is computed from, or none, and 0.parametrizations")):
        init_module_(model, {"*.original1": "he_normal", "*": "zeros"}, seed=7)
    assert unchanged(model, before)


@pytest.mark.parametrize("leave", ["0.weight", "*parametrizations*"])
def test_computed_tensors_are_left_by_their_name_or_their_originals(leave):
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 8)))
    before = model[0].weight.clone()
    report = init_module_(model, {"*": "zeros"}, seed=7, leave=leave)
    assert torch.equal(model[0].weight, before)
    assert report["0.parametrizations.weight.original0"].note == "left: named in leave"
    init_module_(model, [("*.bias", "zeros"), ("*", None)], seed=7)
    assert torch.equal(model[0].weight, before)


def test_originals_that_transformers_loaded_are_left():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 8)))
    for original in model[0].parametrizations.weight.parameters():
        original._is_hf_initialized = True
    before = model[0].weight.clone()
    init_module_(model, {"*": "zeros"}, seed=7)
    assert torch.equal(model[0].weight, before)


def test_fans_of_a_computed_weight_are_those_of_its_module():
    model = nn.Sequential(parametrizations.weight_norm(nn.ConvTranspose1d(16, 6, 3, groups=2)))
    init_module_(model, RULES, seed=7)
    expected = weight_of("he_normal", (16, 3, 3), in_axis=0, out_axis=1, matrices=(2, 0))
    torch.testing.assert_close(model[0].weight, expected)


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_materialize_assigns_what_weight_norm_computes(dtype):
    with torch.device("meta"):
        model = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 8)))
    untouched = init_module_(model, RULES, seed=7)
    assert untouched["0.weight"].note == "on the meta device: not written, see materialize_"
    materialize_(model, RULES, seed=7, dtype=dtype)
    expected = weight_of("he_normal", dtype=dtype or torch.float32)
    torch.testing.assert_close(model[0].weight, expected)
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_materialize_refuses_a_parametrization_whose_buffers_have_no_memory():
    with torch.device("meta"):
        model = nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 8)))
    with pytest.raises(ValueError, match="SpectralNorm cannot take it: its buffers are on the meta device"):
        materialize_(model, RULES, seed=7, buffers=lambda *_: None)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_the_parameters_stay_the_same_objects_and_versions_rise():
    model = parametrizations.weight_norm(nn.Linear(6, 8))
    held = list(model.parameters())
    versions = [parameter._version for parameter in held]
    init_module_(model, RULES, seed=7)
    assert all(one is other for one, other in zip(held, model.parameters(), strict=True))
    assert all(parameter._version > version for parameter, version in zip(held, versions, strict=True))
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in held)


class Scaled(nn.Module):
    """A parametrization with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1) * 2)

    def forward(self, value):
        return value * self.factor

    def right_inverse(self, value):
        return value / self.factor


def scaled(device="cpu"):
    with torch.device(device):
        model = nn.Sequential(nn.Linear(6, 8))
        parametrize.register_parametrization(model[0], "weight", Scaled())
    return model


def test_a_computed_weight_does_not_change_after_it_was_assigned():
    rules = {"*.weight": "he_normal", "*.factor": "constant(3)", "*.bias": "zeros"}
    model = scaled()
    before = state(model)
    words = r"0\.weight.* with 0\.parametrizations\.weight\.0\.factor, which is written by a rule itself: .*original"
    with pytest.raises(ValueError, match=words):
        init_module_(model, rules, seed=7)
    assert unchanged(model, before)
    init_module_(model, rules, seed=7, leave="*.factor")
    torch.testing.assert_close(model[0].weight, weight_of("he_normal"))
    init_module_(model, {**rules, "*.factor": None}, seed=7)
    torch.testing.assert_close(model[0].weight, weight_of("he_normal"))
    init_module_(model, {"*.original": "he_normal", **rules}, seed=7)
    original = weight_of("he_normal", name="0.parametrizations.weight.original")
    torch.testing.assert_close(model[0].weight, 3 * original)


def test_a_parameter_of_a_parametrization_without_memory_is_named():
    rules = {"*.weight": "he_normal", "*.factor": "constant(3)", "*.bias": "zeros"}
    for leave in ("*.factor", ()):
        model = scaled("meta")
        with pytest.raises(ValueError, match=r"0\.parametrizations\.weight\.0\.factor, which is on the meta device"):
            materialize_(model, rules, seed=7, leave=leave)
        assert all(parameter.is_meta for parameter in model.parameters())
    materialize_(model, {"*.original": "he_normal", **rules}, seed=7)
    assert not any(parameter.is_meta for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("training", [True, False])
def test_a_weight_under_the_older_spectral_norm_is_the_drawn_one_by_its_norm(training):
    model = nn.Sequential(nn.utils.spectral_norm(nn.Linear(60, 80))).train(training)
    report = init_module_(model, {"*.weight": "he_normal", "*": "zeros"}, seed=7)
    assert torch.equal(model[0].weight_orig, weight_of("he_normal", (80, 60)))
    assert report["0.weight"].note == "assigned through SpectralNorm"
    model.eval()(torch.ones(1, 60))
    assert torch.linalg.matrix_norm(model[0].weight, 2).item() == pytest.approx(1.0, abs=0.1)
    alone = "0.weight_orig"
    init_module_(model, {"*.weight_orig": "he_normal", "*.bias": "zeros"}, seed=7)
    assert torch.equal(model[0].weight_orig, weight_of("he_normal", (80, 60), name=alone))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, parametrizations.spectral_norm], ids=["older", "newer"])
def test_spectral_norm_refuses_what_has_no_norm(norm):
    model = nn.Sequential(norm(nn.Linear(6, 8)))
    before = state(model)
    with pytest.raises(ValueError, match=r"0\.weight of shape .* cannot take zeros: .*SpectralNorm would make nan"):
        init_module_(model, {"*": "zeros"}, seed=7)
    assert unchanged(model, before)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_materialize_refuses_the_older_spectral_norm_whose_buffers_have_no_memory():
    with torch.device("meta"):
        model = nn.Sequential(nn.utils.spectral_norm(nn.Linear(6, 8)))
    with pytest.raises(ValueError, match="SpectralNorm cannot take it: its buffers are on the meta device"):
        materialize_(model, RULES, seed=7, buffers=lambda *_: None)


def test_originals_that_layers_share_are_not_taken_by_a_rule_for_the_weight_too():
    model = nn.Sequential(*(orthogonal("householder", False, (6, 6))[0] for _ in range(2)))
    first, second = (layer.parametrizations.weight for layer in model)
    second.original = first.original
    before = state(model)
    with pytest.raises(ValueError, match=r"rules must name 0\.parametrizations\.weight\.original by itself"):
        init_module_(model, {"*": "zeros"}, seed=7)
    assert unchanged(model, before)
    init_module_(model, {"*.original": "ones", "*": "zeros"}, seed=7)
    assert bool(model[1].weight.any())
