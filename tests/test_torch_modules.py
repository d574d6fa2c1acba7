"""adapters.torch.init_module_, materialize_ and the recipes: whole models by rules."""

import copy
import math
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import FrozenInstanceError
from itertools import pairwise

import pytest
from processes import ON_TWO_CPUS, PATIENCE

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from winit_fast import adapters, scheme, schemes  # noqa: E402

pytestmark = pytest.mark.frameworks

init_, init_module_, materialize_ = adapters.torch.init_, adapters.torch.init_module_, adapters.torch.materialize_
Rule, recipes = adapters.torch.Rule, adapters.torch.recipes

SIMPLE = {"*.weight": "he_normal", "*.bias": "zeros"}


def mlp(*widths):
    return nn.Sequential(*(nn.Linear(*pair) for pair in pairwise(widths)))


def values(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# Rules


def test_a_parameter_takes_the_values_of_init_under_its_name():
    model = mlp(8, 16, 4)
    init_module_(model, SIMPLE, seed=7)
    for name in ("0.weight", "1.weight"):
        weight = model.get_parameter(name)
        assert torch.equal(weight, init_(torch.empty(weight.shape), "he_normal", seed=7, name=name))
    assert not model[0].bias.any()


def test_the_first_rule_that_matches_takes_the_parameter():
    model = mlp(8, 16, 4)
    report = init_module_(model, [("1.*", "ones"), ("*", "zeros"), ("0.weight", "he_normal")], seed=0)
    assert model[1].weight.min() == model[1].bias.min() == 1
    assert not model[0].weight.any()
    assert [rule.name for rule in report.unused] == ["0.weight"]
    assert "took nothing: 0.weight" in str(report)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.weight", True),
        ("0.weight", True),
        ("*", True),
        ("?.weight", True),
        ("weight", False),
        ("0.Weight", False),
        (re.compile(r"\d+\.(weight|bias)"), True),
        (re.compile(r"\d+"), False),
    ],
)
def test_names_are_matched_as_globs_or_whole_regular_expressions(pattern, expected):
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    report = init_module_(model, [(pattern, "ones"), ("*", "zeros")], seed=0)
    assert (report["0.weight"].rule.name == pattern) is expected or pattern == "*"


def test_a_leading_star_dot_matches_a_single_layer():
    layer = nn.Linear(3, 2)
    init_module_(layer, {"*.weight": "ones", "*.bias": "zeros"}, seed=0)
    assert layer.weight.min() == 1


def test_rules_ask_for_kinds_of_modules():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Sequential(nn.Linear(4, 4)))
    rules = [
        Rule("*", "constant(2)", of=nn.LayerNorm),
        Rule("*", "constant(3)", of="Lin*", within=(nn.LayerNorm, "Seq*")),
    ]
    report = init_module_(model, rules, seed=0)
    assert report["1.bias"].rule is rules[0]
    assert model[1].weight.min() == 2
    assert model[2][0].bias.min() == 3
    inner = Rule("*", "constant(5)", within=nn.LayerNorm)
    with pytest.raises(ValueError, match=r"none takes 0\.weight"):
        init_module_(model, [inner], seed=0)


def test_a_callable_says_the_scheme_or_leaves_the_parameter():
    model = mlp(8, 16, 4)
    before = values(model)
    seen = []

    def choose(module, name, parameter):
        seen.append((type(module), name, tuple(parameter.shape)))
        return None if name == "1.weight" else f"normal(std={1 / parameter.shape[0]})"

    report = init_module_(model, [("*", choose)], seed=1)
    assert seen[0] == (nn.Linear, "0.weight", (16, 8))
    assert torch.equal(model[1].weight, before["1.weight"])
    assert report["1.weight"].scheme is None
    assert report["0.bias"].scheme == scheme("normal", std=1 / 16)


def test_axes_of_a_rule_give_the_fans():
    layer = nn.Module()
    layer.weight = nn.Parameter(torch.empty(512, 64))  # (in, out)
    init_module_(layer, [Rule("weight", "he_normal", in_axis=0, out_axis=1)], seed=0)
    expected = init_(torch.empty(512, 64), "he_normal", seed=0, name="weight", in_axis=0, out_axis=1)
    assert torch.equal(layer.weight, expected)


# Which matrix a parameter is


@pytest.mark.parametrize(
    ("make", "count", "names"),
    [
        (lambda: nn.LSTM(20, 30, num_layers=2, bidirectional=True), 4, "weight_[ih]h_l*"),
        (lambda: nn.GRU(20, 30), 3, "weight_[ih]h_l*"),
        (lambda: nn.LSTMCell(20, 30), 4, "weight_[ih]h"),
        (lambda: nn.MultiheadAttention(32, 4), 3, "in_proj_weight"),
    ],
)
@pytest.mark.parametrize("draws", ["xavier_uniform", "orthogonal", "he_normal(mode='fan_out')"])
def test_a_rule_says_of_how_many_matrices_a_parameter_is(make, count, names, draws):
    module = make()
    report = init_module_(module, [Rule(names, draws, matrices=count), ("*", "normal")], seed=7)
    taken = [entry for entry in report if entry.rule.matrices == count]
    assert taken
    for entry in taken:
        rows, columns = entry.shape
        stacked = torch.empty(count, rows // count, columns)
        init_(stacked, draws, seed=7, name=entry.name, batch_axis=0)
        assert torch.equal(module.get_parameter(entry.name), stacked.reshape(entry.shape))


def test_matrices_that_do_not_divide_a_parameter_write_nothing():
    model = mlp(8, 10, 4)
    before = values(model)
    with pytest.raises(ValueError, match=r"0\.weight of shape \(10, 8\), by rule .* matrices must divide axis 0"):
        init_module_(model, [("1.*", "zeros"), Rule("*", "he_normal", matrices=4)], seed=0)
    assert same(values(model), before)
    for matrices, error in ((0, ValueError), (2.0, TypeError), ((2, 0, 1), TypeError)):
        with pytest.raises(error, match="matrices must be"):
            Rule("*", "zeros", matrices=matrices)


CONVOLUTIONS = {
    "Conv1d": (lambda: nn.Conv1d(12, 24, 5), 12 * 5, 24 * 5),
    "groups": (lambda: nn.Conv2d(12, 24, 3, groups=4), 3 * 9, 6 * 9),
    "depthwise": (lambda: nn.Conv2d(64, 64, 3, groups=64), 9, 9),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(12, 24, 5), 12 * 5, 24 * 5),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(12, 24, 3), 12 * 9, 24 * 9),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(12, 24, 2), 12 * 8, 24 * 8),
    "transposed groups": (lambda: nn.ConvTranspose2d(12, 24, 3, groups=4), 3 * 9, 6 * 9),
}


@pytest.mark.parametrize("which", CONVOLUTIONS)
@pytest.mark.parametrize("kinds", [(), "Conv*"], ids=["by name", "by kind"])
def test_the_fans_of_a_convolution_are_those_of_one_unit_of_one_group(which, kinds):
    make, fan_in, fan_out = CONVOLUTIONS[which]
    for draws, bound in (
        ("lecun_uniform", 3 / fan_in),
        ("he_uniform(mode='fan_out')", 6 / fan_out),
        ("xavier_uniform", 6 / (fan_in + fan_out)),
    ):
        module = make()
        init_module_(module, [Rule("*.weight", draws, of=kinds), ("*", "zeros")], seed=3)
        largest = module.weight.abs().max().item()
        assert 0.97 * math.sqrt(bound) < largest <= math.sqrt(bound) * (1 + 1e-6), draws


def test_each_group_of_a_convolution_is_an_orthogonal_matrix_of_its_own():
    for module, groups in ((nn.Conv2d(12, 8, 3, groups=4), 4), (nn.ConvTranspose2d(8, 12, 3, groups=4), 4)):
        init_module_(module, {"*.weight": "orthogonal", "*.bias": "zeros"}, seed=3)
        for group in module.weight.detach().chunk(groups):
            rows = group.movedim(1, 0).flatten(1) if module.transposed else group.flatten(1)
            product = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
            torch.testing.assert_close(product, torch.eye(len(product)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "draws", ["normal(std=0.02)", "dirac(groups=4)", "bilinear", "constant(2)", "array(values=[[[[1, 2], [3, 4]]]])"]
)
def test_what_has_no_fans_is_for_a_convolution_what_it_is_for_its_tensor(draws):
    for module in (nn.Conv2d(12, 24, 2, groups=4), nn.ConvTranspose2d(24, 12, 2, groups=4)):
        init_module_(module, {"*.weight": draws, "*.bias": "zeros"}, seed=3)
        assert torch.equal(module.weight, init_(torch.empty_like(module.weight), draws, seed=3, name="weight"))


@pytest.mark.parametrize("which", CONVOLUTIONS)
def test_axes_that_a_rule_gives_are_taken_as_they_are(which):
    module = CONVOLUTIONS[which][0]()
    for draws in ("xavier_uniform", "he_normal(mode='fan_out')", "orthogonal"):
        init_module_(module, [Rule("*.weight", draws, in_axis=1, out_axis=0), ("*", "zeros")], seed=3)
        assert torch.equal(module.weight, init_(torch.empty_like(module.weight), draws, seed=3, name="weight"))


def test_weights_of_transformers_conv1d_have_their_inputs_first():
    utilities = pytest.importorskip("transformers.pytorch_utils")
    derived = type("Derived", (utilities.Conv1D,), {})
    norm = torch.nn.utils.parametrizations.weight_norm  # derives a class too
    for make in (utilities.Conv1D, derived, lambda *sizes: norm(utilities.Conv1D(*sizes))):
        layer = make(30, 200)  # outputs, inputs
        init_module_(layer, SIMPLE, seed=3)
        expected = init_(torch.empty(200, 30), "he_normal", seed=3, name="weight", in_axis=0, out_axis=1)
        torch.testing.assert_close(layer.weight, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rules", [[Rule("*", None)], [("*", None)], [("*", lambda *_: None)]])
def test_the_scheme_none_leaves_parameters(rules):
    model = mlp(3, 2)
    before = values(model)
    report = init_module_(model, rules, seed=0)
    assert same(values(model), before)
    assert {entry.note for entry in report} == {"left by the rule"}


def test_leave_names_what_is_left():
    model = mlp(3, 4, 2)
    before = values(model)
    report = init_module_(model, {"0.*": "zeros"}, seed=0, leave=["1.*"])
    assert torch.equal(model[1].weight, before["1.weight"])
    assert "leave" in report["1.weight"].note
    init_module_(model, {}, seed=0, leave="*")


def test_report_is_a_table_that_cannot_be_changed():
    report = init_module_(mlp(3, 4, 2), SIMPLE, seed=0)
    lines = str(report).splitlines()
    assert len(lines) == 1 + len(report) == 5
    assert lines[1].split() == ["0.weight", "4", "x", "3", "float32", "he_normal", "*.weight"]
    with pytest.raises(FrozenInstanceError):
        report.entries = ()
    with pytest.raises(KeyError):
        report["2.weight"]


def test_own_rules_stand_before_a_recipe():
    model = mlp(3, 4, 2)
    init_module_(model, [("1.weight", "zeros"), *recipes.torch()], seed=0)
    assert not model[1].weight.any()
    assert model[0].weight.any()


# Nothing is written where anything is wrong


@pytest.mark.parametrize(
    ("rules", "error", "words"),
    [
        ({"*.weight": "he_normal"}, ValueError, "none takes 0.bias (4,), 1.bias (2,); add a rule"),
        ({"*": "he_normal"}, ValueError, "0.bias of shape (4,), by rule '*', cannot take he_normal"),
        ({"0.*": "zeros", "*": "normal(std=1e30)"}, ValueError, "float16"),
        ({"*": "he_norml"}, ValueError, "did you mean 'he_normal'"),
        ([("*", lambda *_: "he_norml")], ValueError, "did you mean 'he_normal'"),
        ([("*", lambda *_: 3)], TypeError, "got 3"),
        ([("*", 3)], TypeError, "got 3"),
        ([(3, "zeros")], TypeError, "name must be a glob"),
        ([("*", "zeros", "ones")], TypeError, "rules[0] must be a Rule or a pair"),
        ("torhc", ValueError, "did you mean 'torch'"),
        ("gpt2", ValueError, "recipes.gpt2(layers=...)"),
        (3, TypeError, "rules must be a recipe"),
        ("he_normal", TypeError, "'he_normal' is a scheme: pass {'*.weight': 'he_normal', '*.bias': 'zeros'}"),
        (scheme("normal", std=0.02), TypeError, "'normal(std=0.02)' is a scheme: pass {'*.weight': 'normal(std=0.02)'"),
        (["he_normal"], TypeError, "rules[0] must be a Rule or a pair of a name and a scheme, got 'he_normal': 'he_n"),
        (("*.weight", "he_normal"), TypeError, "rules[0] must be a Rule or a pair of a name and a scheme, got '*.weig"),
        (("*.weight", "he_normal"), TypeError, "put the pair into a list"),
        (Rule("*", "zeros"), TypeError, "put it into a list"),
        ([recipes.torch()], TypeError, "spread it: [*recipe]"),
        (recipes.gpt2, TypeError, "pass what it returns: gpt2(...)"),
    ],
)
def test_bad_rules_write_nothing(rules, error, words):
    model = mlp(3, 4, 2).half()
    before = values(model)
    with pytest.raises(error, match=re.escape(words)):
        init_module_(model, rules, seed=0)
    assert same(values(model), before)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"seed": -1}, ValueError, "seed must be"),
        ({"seed": 1.5}, TypeError, "seed must be"),
        ({"seed": None}, TypeError, "seed must be"),
        ({"seed": 0, "threads": 0}, ValueError, "threads must be"),
        ({"seed": 0, "prefix": 3}, TypeError, "prefix must be"),
        ({"seed": 0, "prefix": "layers.4"}, ValueError, r"prefix must end with a dot, got 'layers\.4'"),
        ({"seed": 0, "leave": 5}, TypeError, "leave must be a glob or a sequence of them, got 5"),
    ],
)
def test_bad_arguments_write_nothing(arguments, error, words):
    model = mlp(3, 4)
    before = values(model)
    with pytest.raises(error, match=words):
        init_module_(model, SIMPLE, **arguments)
    assert same(values(model), before)


def test_integer_and_lazy_parameters_are_refused_or_left():
    model = nn.Module()
    model.first = nn.Parameter(torch.ones(3))
    model.codes = nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    with pytest.raises(TypeError, match=r"codes of shape \(3,\).*int8"):
        init_module_(model, {"*": "zeros"}, seed=0)
    assert model.first.all()
    init_module_(model, {"*": "zeros"}, seed=0, leave="codes")
    with pytest.raises(ValueError, match="weight is lazy"):
        init_module_(nn.LazyLinear(4), {"*": "zeros"}, seed=0)
    model.spread = nn.Parameter(torch.ones(1).expand(3))
    with pytest.raises(ValueError, match=r"spread .* must not overlap"):
        init_module_(model, {"*": "zeros"}, seed=0, leave="codes")
    assert not model.first.any()
    assert model.spread.all()


def test_module_must_be_one():
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module, got Tensor: init_ fills a tensor"):
        init_module_(torch.ones(3), SIMPLE, seed=0)


def test_no_recipe_has_the_name_of_a_scheme():
    assert not set(recipes._RECIPES) & set(schemes())


class Wrapper(torch.Tensor):
    """A tensor without memory, made of others, as torchao's quantized ones."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, requires_grad=True)

    def __init__(self, inner):
        self.inner = inner

    def __tensor_flatten__(self):
        return ["inner"], None

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), named=None):
        if function is torch.ops.aten.detach.default:
            return cls(arguments[0].inner)
        raise NotImplementedError(f"{function}")


def masked():
    return torch.masked.masked_tensor(torch.ones(3, 4), torch.ones(3, 4) > 0, requires_grad=True)


@pytest.mark.parametrize("make", [lambda: Wrapper(torch.ones(3, 4)), masked], ids=["wrapper", "masked"])
@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
def test_a_parameter_made_of_other_tensors_is_refused_before_any_is_written(make):
    model = mlp(4, 4, 3)
    before = model[0].weight.detach().clone()
    model[1]._parameters["weight"] = make()
    for function in (init_module_, materialize_):
        with pytest.raises(TypeError, match=r"1\.weight of shape \(3, 4\).* which is made of other tensors"):
            function(model, SIMPLE, seed=0)
    assert torch.equal(model[0].weight, before)


def test_torchao_s_quantized_weights_are_refused_before_any_is_written():
    quantization = pytest.importorskip("torchao.quantization")
    model = mlp(64, 64, 32)
    quantization.quantize_(model[1], quantization.Int8WeightOnlyConfig())
    before = model[0].weight.detach().clone()
    with pytest.raises(TypeError, match=r"1\.weight of shape \(32, 64\).* which is made of other tensors"):
        init_module_(model, SIMPLE, seed=0)
    assert torch.equal(model[0].weight, before)


def test_a_parameter_whose_storage_was_freed_is_refused_before_any_is_written():
    model = mlp(4, 4, 3)
    before = model[0].weight.detach().clone()
    model[1].weight.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match=r"1\.weight of shape \(3, 4\).* tensor must have memory"):
        init_module_(model, SIMPLE, seed=0)
    assert torch.equal(model[0].weight, before)


def partitioned(model):
    """As DeepSpeed's ZeRO-3 leaves a model: what is gathered comes back by the function that is returned."""
    held = {}
    for parameter in model.parameters():
        held[parameter] = parameter.data
        parameter.ds_shape, parameter.ds_id = parameter.shape, len(held)
        parameter.data = torch.empty(0)

    def gather():
        for parameter, data in held.items():
            parameter.data = data

    return gather


@pytest.mark.parametrize("function", [init_module_, materialize_])
@pytest.mark.parametrize("rules", [SIMPLE, "torch", {"*": "zeros"}])
def test_what_deepspeed_holds_in_parts_is_refused_and_exact_where_it_is_gathered(function, rules):
    model, plain = mlp(8, 16, 4), mlp(8, 16, 4)
    gather = partitioned(model)
    with pytest.raises(
        ValueError, match=r"0\.weight: tensor must be here whole, .* of \(16, 8\), .*GatheredParameters"
    ):
        function(model, rules, seed=7)
    with pytest.raises(ValueError, match="GatheredParameters"):
        init_(model[1].bias, "zeros")
    function(model, [("*", None)], seed=7)
    function(model, rules, seed=7, leave="*")
    gather()
    report = function(model, rules, seed=7)
    init_module_(plain, rules, seed=7)
    assert same(values(model), values(plain))
    assert not any(entry.note for entry in report)


# Streams are names


def test_adding_removing_and_moving_layers_changes_no_other():
    whole = nn.ModuleDict({"a": nn.Linear(8, 8), "b": nn.Linear(8, 16), "c": nn.Linear(16, 4)})
    part = nn.ModuleDict({"c": nn.Linear(16, 4), "a": nn.Linear(8, 8)})
    init_module_(whole, "torch", seed=3)
    init_module_(part, "torch", seed=3)
    assert all(torch.equal(value, values(whole)[name]) for name, value in values(part).items())


def test_prefix_gives_a_pipeline_stage_the_values_of_the_whole():
    whole = nn.Sequential(*(mlp(8, 8) for _ in range(4)))
    init_module_(whole, SIMPLE, seed=3)
    stage = copy.deepcopy(whole[2])
    report = init_module_(stage, [("2.0.weight", "he_normal"), ("2.*", "zeros")], seed=3, prefix="2.")
    assert torch.equal(stage[0].weight, whole[2][0].weight)
    assert report.entries[0].name == "2.0.weight"


def test_wrappers_change_no_value():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    plain, wrapped = mlp(8, 8, 8), mlp(8, 8, 8)
    wrapped[0] = checkpoint_wrapper(wrapped[0])
    wrapped[1] = torch.compile(wrapped[1])
    init_module_(plain, SIMPLE, seed=3)
    report = init_module_(wrapped, SIMPLE, seed=3)
    assert [entry.name for entry in report] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert all(map(torch.equal, plain.parameters(), wrapped.parameters()))


@pytest.fixture
def one_rank(tmp_path):
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
def test_data_parallel_wrappers_change_no_value():
    plain, wrapped = mlp(8, 16, 4), mlp(8, 16, 4)
    rules = {"*.weight": "he_normal", "*.bias": "normal"}
    names = [entry.name for entry in init_module_(plain, rules, seed=7)]
    parallel = torch.nn.parallel.DistributedDataParallel(wrapped)
    for around in (parallel, torch.nn.DataParallel(wrapped), torch.compile(parallel)):
        for parameter in wrapped.parameters():
            torch.nn.init.zeros_(parameter)
        assert [entry.name for entry in init_module_(around, rules, seed=7)] == names
        assert all(map(torch.equal, plain.parameters(), wrapped.parameters()))
    inner = torch.nn.ModuleDict({"module": mlp(8, 16, 4)})  # a name that is the model's own
    assert [entry.name for entry in init_module_(inner, rules, seed=7)] == [f"module.{name}" for name in names]


@pytest.mark.usefixtures("one_rank")
def test_what_fsdp1_flattened_is_refused():
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = FullyShardedDataParallel(mlp(8, 16, 4), use_orig_params=True, device_id=torch.device("cpu"))
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(TypeError, match="FullyShardedDataParallel flattens them"):
        init_module_(model, {"*": "normal"}, seed=7)
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.usefixtures("one_rank")
def test_one_parameter_that_cannot_be_written_leaves_all_as_they_are():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial

    mesh = init_device_mesh("cpu", (1,))
    overlapping = torch.full((9,), 9.0).as_strided((3, 3), (2, 2))
    for last in (DTensor.from_local(torch.full((3, 3), 9.0), mesh, [Partial()], run_check=False), overlapping):
        model = torch.nn.ParameterDict({"first": torch.full((3, 3), 9.0), "last": last})
        for function in (init_module_, materialize_):
            with pytest.raises(ValueError, match=r"last of shape .* cannot take normal: tensor must"):
                function(model, {"*": "normal"}, seed=7)
        assert bool((model["first"] == 9).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64])
def test_threads_change_no_value_in_any_dtype(dtype):
    models = [mlp(300, 700, 30).to(dtype) for _ in range(2)]
    for model, threads in zip(models, (1, 3), strict=True):
        init_module_(model, SIMPLE, seed=3, threads=threads)
    assert same(*map(values, models))


# What models hold beside plain weights


class Tied(nn.Module):
    def __init__(self, padding_idx=None):
        super().__init__()
        self.embedding = nn.Embedding(50, 8, padding_idx=padding_idx)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embedding.weight


def test_tied_weights_are_initialized_once_under_their_first_name():
    model = Tied()
    report = init_module_(model, {"head.weight": "ones", "*": "normal"}, seed=5)
    assert len(report) == 1
    assert report["head.weight"] is report["embedding.weight"]
    assert "also head.weight" in str(report)
    assert torch.equal(model.head.weight, init_(torch.empty(50, 8), "normal", seed=5, name="embedding.weight"))


def test_a_module_under_two_names_is_initialized_once():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    report = init_module_(model, SIMPLE, seed=0)
    assert [(entry.name, entry.also) for entry in report] == [("0.weight", ("2.weight",)), ("0.bias", ("2.bias",))]


@pytest.mark.parametrize("model", [Tied(3), nn.Embedding(50, 8, padding_idx=-1), nn.EmbeddingBag(50, 8, padding_idx=2)])
def test_rows_of_padding_are_zero(model):
    init_module_(model, {"*": "normal"}, seed=0)
    weight = next(model.parameters())
    padding = model.embedding.padding_idx if isinstance(model, Tied) else model.padding_idx
    assert not weight[padding].any()
    assert (weight != 0).any(1).sum() == 49


def test_buffers_are_left_alone():
    model = nn.BatchNorm1d(4)
    model.running_mean.fill_(3)
    init_module_(model, "torch", seed=0)
    assert model.running_mean.min() == 3


def test_parameters_that_transformers_loaded_are_left():
    model = mlp(3, 2)
    model[0].weight._is_hf_initialized = True
    before = values(model)
    report = init_module_(model, {"*": "ones"}, seed=0)
    assert torch.equal(model[0].weight, before["0.weight"])
    assert report["0.weight"].note == "left: _is_hf_initialized"
    assert model[0].bias.min() == 1


def test_callers_under_torch_compile_leave_the_graph():
    from torch._dynamo.convert_frame import register_bytecode_hook

    layer = nn.Linear(4, 4)

    @torch.compile(backend="eager")
    def step(inputs):
        init_module_(layer, {"*": "ones"}, seed=0)
        return layer(inputs) + 1

    compiled = set()
    with register_bytecode_hook(lambda code, _: compiled.add(code.co_filename)):
        assert step(torch.ones(2, 4)).tolist() == [[6.0] * 4] * 2
    assert __file__ in compiled
    assert init_module_.__wrapped__.__code__.co_filename not in compiled


def test_gradients_and_versions_are_kept_as_by_torch():
    model = mlp(3, 2)
    model[0].bias.requires_grad_(False)
    version = model[0].weight._version
    weight = model[0].weight
    init_module_(model, SIMPLE, seed=0)
    assert model[0].weight is weight
    assert weight._version > version
    assert weight.requires_grad
    assert not model[0].bias.requires_grad


def test_the_meta_device_is_left_and_reported():
    with torch.device("meta"):
        model = mlp(3, 2)
    report = init_module_(model, SIMPLE, seed=0)
    assert model[0].weight.is_meta
    assert "materialize_" in report["0.weight"].note


def test_zero_elements_and_scalars():
    model = nn.Module()
    model.none = nn.Linear(0, 3)
    model.scale = nn.Parameter(torch.tensor(0.0))
    report = init_module_(model, [("scale", "ones"), *recipes.torch()], seed=0)
    assert model.scale == 1
    assert not model.none.bias.any()
    assert report["none.weight"].note == "no elements: nothing written"
    assert report["none.bias"].note == report["scale"].note == ""


# From the meta device


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float64])
def test_materialize_gives_the_values_of_init_module(dtype):
    plain = mlp(8, 16, 4).to(dtype or torch.float32)
    init_module_(plain, "torch", seed=2)
    with torch.device("meta"):
        model = mlp(8, 16, 4)
    report = materialize_(model, "torch", seed=2, dtype=dtype)
    assert same(values(model), values(plain))
    assert report["0.weight"].dtype == (dtype or torch.float32)
    assert model(torch.ones(1, 8, dtype=dtype)).isfinite().all()


def test_materialize_keeps_ties_attributes_and_requires_grad():
    with torch.device("meta"):
        model = Tied(padding_idx=1)
    model.head.weight.requires_grad_(False)
    model.head.weight.partition_dim = 0
    materialize_(model, "hf", seed=0)
    assert model.head.weight is model.embedding.weight
    assert not model.head.weight.requires_grad
    assert model.head.weight.partition_dim == 0
    assert isinstance(model.head.weight, nn.Parameter)
    assert not model.embedding.weight[1].any()


def test_materialize_keeps_classes_and_strides():
    class Marked(nn.Parameter):
        pass

    model = nn.Conv2d(3, 4, 2, device="meta").to(memory_format=torch.channels_last)
    model.bias = Marked(torch.empty(4, device="meta"))
    materialize_(model, "torch", seed=0)
    assert type(model.bias) is Marked
    assert model.bias.requires_grad
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    third = scheme("variance_scaling", scale=1 / 3, distribution="uniform")
    expected = init_(torch.empty(4, 3, 2, 2), third, seed=0, name="weight")
    torch.testing.assert_close(model.weight.detach(), expected, rtol=1e-6, atol=0)


def test_materialize_initializes_in_place_what_has_memory():
    model = mlp(8, 16, 4)
    weight = model[0].weight
    model[1].to("meta")
    materialize_(model, SIMPLE, seed=0, dtype=torch.bfloat16)
    assert model[0].weight is weight
    assert weight.dtype == torch.float32
    assert model[1].weight.dtype == torch.bfloat16
    assert torch.equal(weight, init_(torch.empty(16, 8), "he_normal", seed=0, name="0.weight"))


def test_materialize_leaves_what_is_left():
    with torch.device("meta"):
        model = mlp(8, 16, 4)
    materialize_(model, SIMPLE, seed=0, leave="1.*")
    assert model[1].weight.is_meta
    assert not model[0].weight.is_meta


def test_materialize_resets_running_statistics():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    materialize_(model, "torch", seed=0)
    assert model[1].running_var.min() == 1
    assert model[1].num_batches_tracked == 0
    assert list(model.state_dict()) == list(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).state_dict())


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("angles", torch.arange(4.0), persistent=False)


def test_materialize_refuses_buffers_that_nobody_knows():
    with torch.device("meta"):
        model = nn.Sequential(Positions())
    with pytest.raises(ValueError, match=r"buffers must say .*: 0\.angles; give a callable"):
        materialize_(model, "torch", seed=0)
    assert model[0].linear.weight.is_meta
    materialize_(model, "torch", seed=0, buffers=lambda owner, name, buffer: torch.arange(4.0))
    assert torch.equal(model[0].angles, torch.arange(4.0))
    assert "0.angles" not in model.state_dict()


def test_buffers_may_be_filled_in_place():
    with torch.device("meta"):
        model = Positions()

    def fill(owner, name, buffer):
        assert owner is model
        assert name == "angles"
        assert buffer is owner.angles
        buffer.fill_(5)

    materialize_(model, "torch", seed=0, buffers=fill)
    assert model.angles.min() == 5


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"device": "meta"}, ValueError, "device must have memory"),
        ({"dtype": torch.int32}, TypeError, "dtype must be a floating-point"),
        ({"dtype": torch.float16, "rules": {"*": "normal(std=60000)"}}, ValueError, "float16"),
        ({"buffers": 3}, TypeError, "buffers must be a callable"),
        ({"rules": {"*.weight": "ones"}}, ValueError, "none takes 0.bias"),
    ],
)
def test_materialize_allocates_nothing_where_anything_is_wrong(arguments, error, words):
    with torch.device("meta"):
        model = mlp(3, 2)
    with pytest.raises(error, match=words):
        materialize_(model, **{"rules": SIMPLE, "seed": 0, **arguments})
    assert all(parameter.is_meta for parameter in model.parameters())


def test_materialize_after_init_empty_weights_of_accelerate():
    accelerate = pytest.importorskip("accelerate")
    with accelerate.init_empty_weights():
        model = nn.Sequential(Positions(), nn.Linear(4, 2))
    materialize_(model, "torch", seed=0)
    plain = nn.Sequential(Positions(), nn.Linear(4, 2))
    init_module_(plain, "torch", seed=0)
    assert same(values(model), values(plain))
    assert torch.equal(model[0].angles, plain[0].angles)


def test_materialize_brings_a_transformers_model_from_the_meta_device():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=2, intermediate_size=96)
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    materialize_(model, "llama", seed=0, buffers=lambda owner, name, buffer: model._init_weights(owner))
    plain = transformers.LlamaForCausalLM(config)
    init_module_(plain, "llama", seed=0)
    tokens = torch.arange(6)[None]
    assert torch.equal(model(tokens).logits, plain(tokens).logits)


PEAK = """
import sys, torch
from torch import nn
from winit_fast import adapters

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) >> 10

def model(rows, width, layers):
    with torch.device("meta"):
        return nn.Sequential(nn.Embedding(rows, width // 4), *(nn.Linear(width, width) for _ in range(layers)))

def initialized(built):
    if sys.argv[1] == "materialize_":
        return adapters.torch.materialize_(built, "torch", seed=0)
    return adapters.torch.init_module_(built.to_empty(device="cpu"), "torch", seed=0)

initialized(model(4, 8, 1))
before = peak()
built = model(40_000, 2048, 7)
initialized(built)
print(sum(p.numel() * p.element_size() for p in built.parameters()) >> 20, peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads VmHWM")
@pytest.mark.parametrize("function", ["materialize_", "init_module_"])
def test_peak_memory_is_the_parameters_and_little_more(function):
    found = subprocess.run(
        [sys.executable, "-c", ON_TWO_CPUS + PEAK, function], capture_output=True, text=True, check=True
    )
    size, grown = map(int, found.stdout.split())
    assert size > 180
    assert grown <= size + 32, f"{grown} MiB for {size} MiB of parameters"


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_materialize_after_fully_shard_on_the_meta_device(tmp_path):
    script = textwrap.dedent("""
    import os, sys, torch, torch.distributed as dist
    from torch import nn
    from torch.distributed.fsdp import fully_shard
    from winit_fast import adapters

    rank, world, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    mesh = dist.init_device_mesh("cpu", (world,))

    def build():
        return nn.Sequential(nn.Embedding(11, 6, padding_idx=3), nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 3))

    whole = build()
    adapters.torch.init_module_(whole, "torch", seed=4)
    for flow in ("materialize_", "to_empty"):
        with torch.device("meta"):
            model = build()
        model[1].weight.marked = True
        fully_shard(model[1], mesh=mesh)
        fully_shard(model, mesh=mesh)
        if flow == "materialize_":
            adapters.torch.materialize_(model, "torch", seed=4)
        else:
            model.to_empty(device="cpu")
            adapters.torch.init_module_(model, "torch", seed=4)
        for (name, part), value in zip(model.named_parameters(), whole.parameters(), strict=True):
            assert torch.equal(part.full_tensor(), value), (flow, name)
        tokens = torch.tensor([[1, 3, 10]])
        assert torch.allclose(model(tokens), whole(tokens)), flow
        model(tokens).sum().backward()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.step()
        assert not torch.allclose(model(tokens), whole(tokens)), flow
    dist.destroy_process_group()
    os._exit(0)  # as Python ends, PyTorch may abort: gloo's threads may hold tensors then
    """)
    for world in (1, 3):
        store = tmp_path / f"store{world}"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(rank), str(world), str(store)],
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for rank in range(world)
        ]
        for process in processes:
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors


# Recipes: moments of every parameter against the library's own initialization

SMALL = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}


def moments_agree(ours, theirs):
    """The same constants, and within 6 standard errors the same means and standard deviations."""
    ours, theirs = ours.detach().double().flatten(), theirs.detach().double().flatten()
    if theirs.numel() == 1 or theirs.std() == 0:
        return torch.equal(ours, theirs)
    is_zero = theirs == 0  # padding
    if not torch.equal(is_zero, ours == 0):
        return False
    ours, theirs = ours[~is_zero], theirs[~is_zero]
    spread, count = theirs.std(), ours.numel()
    means = abs(ours.mean() - theirs.mean()) < 6 * spread * math.sqrt(2 / count)
    # The variance of a sample variance is (kurtosis - 1) sigma^4 / n: at most 2 for what stands here.
    spreads = abs(ours.std() / spread - 1) < 6 * math.sqrt(2 / 2 / count) + 1 / count
    return bool(means and spreads)


def check_against_its_own(build, recipe):
    theirs = build()
    ours = copy.deepcopy(theirs)
    report = init_module_(ours, recipe, seed=11)
    assert all(entry.scheme is not None for entry in report)
    mine = dict(ours.named_parameters())
    wrong = [name for name, value in theirs.named_parameters() if not moments_agree(mine[name], value)]
    assert not wrong, [(name, mine[name].std(), dict(theirs.named_parameters())[name].std()) for name in wrong]
    drawn = [entry.name for entry in report if entry.scheme.draws]
    again = build()
    again.load_state_dict(theirs.state_dict())
    init_module_(again, recipe, seed=12)
    assert all(not torch.equal(mine[name], again.get_parameter(name)) for name in drawn)


def transformers_models():
    return {
        "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"tie_word_embeddings": False}, recipes.gpt2(layers=3)),
        "gpt2_tied": ("GPT2DoubleHeadsModel", "GPT2Config", {}, recipes.gpt2(layers=3)),
        "gpt2_cross": ("GPT2LMHeadModel", "GPT2Config", {"add_cross_attention": True}, recipes.gpt2(layers=3)),
        "llama": ("LlamaForCausalLM", "LlamaConfig", {"intermediate_size": 96, "initializer_range": 0.1},
                  recipes.llama(0.1)),
        "bert": ("BertForPreTraining", "BertConfig", {"intermediate_size": 96}, "bert"),
        "bert_model": ("BertModel", "BertConfig", {"intermediate_size": 96}, "hf"),
        "t5": ("T5ForConditionalGeneration", "T5Config", T5, recipes.t5(d_model=64, d_kv=8)),
        "t5_gated": ("T5Model", "T5Config", {**T5, "feed_forward_proj": "gated-gelu", "initializer_factor": 0.5},
                     recipes.t5(d_model=64, d_kv=8, factor=0.5)),
        "t5_untied": ("T5ForConditionalGeneration", "T5Config", {**T5, "tie_word_embeddings": False},
                      recipes.t5(d_model=64, d_kv=8)),
        "t5_answers": ("T5ForQuestionAnswering", "T5Config", T5, recipes.t5(d_model=64, d_kv=8)),
        "t5_tokens": ("T5ForTokenClassification", "T5Config", T5, recipes.t5(d_model=64, d_kv=8)),
        "t5_sequences": ("T5ForSequenceClassification", "T5Config", T5, recipes.t5(d_model=64, d_kv=8)),
        "vit": ("ViTModel", "ViTConfig", {"image_size": 32, "patch_size": 8, "intermediate_size": 96}, "hf_vit"),
    }  # fmt: skip


T5 = {"d_model": 64, "d_kv": 8, "d_ff": 96, "num_heads": 4, "num_layers": 2}


@pytest.mark.parametrize("which", list(transformers_models()))
def test_recipes_agree_with_transformers(which):
    transformers = pytest.importorskip("transformers")
    model, config, arguments, recipe = transformers_models()[which]
    made = getattr(transformers, config)(**{**SMALL, **arguments})
    torch.manual_seed(0)
    check_against_its_own(lambda: getattr(transformers, model)(made), recipe)


def test_vit_with_a_mask_token():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(**SMALL, image_size=32, patch_size=8, intermediate_size=96)
    check_against_its_own(lambda: transformers.ViTModel(config, use_mask_token=True), "hf_vit")


TORCH_MODULES = {
    "linear": lambda: nn.Linear(300, 200),
    "conv1d": lambda: nn.Conv1d(32, 48, 5),
    "conv2d": lambda: nn.Conv2d(16, 32, 3, groups=4),
    "conv3d": lambda: nn.Conv3d(8, 16, 3),
    "transposed": lambda: nn.ConvTranspose2d(16, 32, 3),
    "transposed_groups": lambda: nn.ConvTranspose2d(16, 32, 3, groups=4),
    "bilinear": lambda: nn.Bilinear(30, 20, 25),
    "embedding": lambda: nn.Embedding(100, 50, padding_idx=7),
    "embedding_bag": lambda: nn.EmbeddingBag(100, 50, padding_idx=0),
    "norms": lambda: nn.ModuleList(
        [nn.LayerNorm(8), nn.RMSNorm(8), nn.GroupNorm(2, 8), nn.BatchNorm2d(8), nn.InstanceNorm1d(8, affine=True)]
    ),
    "rnn": lambda: nn.RNN(20, 40, num_layers=2, bidirectional=True),
    "lstm": lambda: nn.LSTM(20, 40, proj_size=10),
    "gru": lambda: nn.GRU(20, 40),
    "cells": lambda: nn.ModuleList([nn.LSTMCell(20, 40), nn.GRUCell(20, 40), nn.RNNCell(20, 40)]),
    "prelu": lambda: nn.ModuleList([nn.PReLU(), nn.PReLU(4, init=0.1)]),
    "attention": lambda: nn.MultiheadAttention(64, 4, add_bias_kv=True),
    "attention_kv": lambda: nn.MultiheadAttention(64, 4, kdim=32, vdim=48),
    "encoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 96), 2),
    "transformer": lambda: nn.Transformer(64, 4, 1, 1, 96),
    "softmax": lambda: nn.AdaptiveLogSoftmaxWithLoss(64, 100, [20, 50]),
}


@pytest.mark.parametrize("which", list(TORCH_MODULES))
def test_the_torch_recipe_agrees_with_reset_parameters(which):
    torch.manual_seed(1)
    check_against_its_own(TORCH_MODULES[which], "torch")


@pytest.mark.parametrize(
    "which", ["linear", "conv2d", "transposed", "transposed_groups", "bilinear", "lstm", "attention"]
)
def test_bounds_of_the_torch_recipe_are_those_of_torch(which):
    """The largest of many uniform values comes close to the bound, and never passes it."""
    module = TORCH_MODULES[which]()
    report = init_module_(module, "torch", seed=0)
    for entry in report:
        if entry.scheme.draws and len(entry.shape) > 1 and which != "attention":
            fan_in = math.prod(entry.shape[1:])
            bound = {"bilinear": 30**-0.5, "lstm": 40**-0.5}.get(which, fan_in**-0.5)
            largest = module.get_parameter(entry.name).abs().max().item()
            assert 0.97 * bound < largest <= bound * (1 + 1e-6)
    if which == "attention":
        assert report["in_proj_weight"].scheme == scheme("xavier_uniform")


class Block(nn.Module):
    def __init__(self, last):
        super().__init__()
        for number in (1, 2, 3)[:last]:
            setattr(self, f"conv{number}", nn.Conv2d(16, 32, 3, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(32))


class BasicBlock(Block):
    pass


class Bottleneck(Block):
    pass


def test_the_recipe_of_torchvision_counts_the_outputs_of_all_groups():
    model = nn.Sequential(nn.Conv2d(64, 64, 3, groups=32), nn.BatchNorm2d(64))  # ResNeXt's
    init_module_(model, "resnet", seed=0)
    assert torch.equal(model[0].weight, init_(torch.empty(64, 2, 3, 3), "he_normal(mode='fan_out')", seed=0,
                                              name="0.weight"))  # fmt: skip


@pytest.mark.parametrize("zero", [True, False])
def test_resnet(zero):
    model = nn.Sequential(nn.Conv2d(3, 64, 7, bias=False), BasicBlock(2), Bottleneck(3), nn.Linear(32, 10))
    report = init_module_(model, recipes.resnet(zero_init_residual=zero), seed=0)
    assert model[1].bn2.weight.any() != zero
    assert model[2].bn3.weight.any() != zero
    assert model[1].bn1.weight.min() == model[2].bn2.weight.min() == 1
    assert model[0].weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 49)), rel=0.05)
    assert model[1].conv1.weight.std().item() == pytest.approx(math.sqrt(2 / (32 * 9)), rel=0.05)
    assert report["3.bias"].scheme == scheme("uniform", low=-(1 / math.sqrt(32)), high=1 / math.sqrt(32))


def test_dlrm():
    model = nn.ModuleDict({"tables": nn.ModuleList([nn.EmbeddingBag(10_000, 16)]), "bottom": nn.Linear(13, 512)})
    init_module_(model, "dlrm", seed=0)
    table = model["tables"][0].weight
    assert 0.0099 < table.max() < 0.01
    assert -0.01 <= table.min() < -0.0099
    assert model["bottom"].weight.std().item() == pytest.approx(math.sqrt(2 / 525), rel=0.05)
    assert model["bottom"].bias.std().item() == pytest.approx(math.sqrt(1 / 512), rel=0.2)


class Titan(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.tok_embeddings = nn.Embedding(300, dim)
        self.layers = nn.ModuleDict()
        for number in range(3):
            layer = nn.ModuleDict({"attention": nn.Module(), "feed_forward": nn.Module(), "norm": nn.RMSNorm(dim)})
            for name in ("wq", "wo"):
                setattr(layer["attention"], name, nn.Linear(dim, dim, bias=False))
            for name in ("w1", "w2", "w3"):
                setattr(layer["feed_forward"], name, nn.Linear(dim, dim, bias=False))
            self.layers[str(number)] = layer
        self.norm = nn.RMSNorm(dim)
        self.output = nn.Linear(dim, 300, bias=False)


def test_torchtitan():
    model = Titan()
    report = init_module_(model, "torchtitan", seed=0)
    for layer in range(3):
        for name in ("attention.wo", "feed_forward.w2", "feed_forward.w3"):
            expected = scheme("normal", std=0.02 / math.sqrt(2.0 * (layer + 1)))
            assert report[f"layers.{layer}.{name}.weight"].scheme == expected
        assert report[f"layers.{layer}.attention.wq.weight"].scheme == scheme("normal", std=0.02)
    assert model.tok_embeddings.weight.std().item() == pytest.approx(1, rel=0.03)
    assert 0.35 < model.output.weight.abs().max() <= 3 / 8
    report = init_module_(model, recipes.torchtitan(layers=3), seed=0)
    assert report["layers.0.attention.wo.weight"].scheme == scheme("residual_normal", layers=3)


class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 64))
        self.pos_embed = nn.Parameter(torch.zeros(1, 50, 64))
        self.patch_embed = nn.Conv2d(3, 64, 8)
        self.blocks = nn.Sequential(nn.Linear(64, 128), nn.LayerNorm(128))


def test_vit():
    model = Vit()
    report = init_module_(model, "vit", seed=0)
    assert model.cls_token.std().item() == pytest.approx(1e-6, rel=0.4)
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    assert not model.blocks[0].bias.any()
    assert model.blocks[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert report["patch_embed.weight"].scheme.name == "he_uniform"


# muP


class Wide(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding = nn.Embedding(100, width)
        self.hidden = nn.Linear(width, 2 * width)
        self.attention = nn.MultiheadAttention(width, 2)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)


@pytest.mark.parametrize("recipe", ["torch", "hf"])
def test_mup_widens_from_the_base(recipe):
    with torch.device("meta"):
        base = Wide(64)
    narrow, wide = Wide(64), Wide(256)
    report = init_module_(wide, recipes.mup(recipe, base), seed=0)
    at_base = init_module_(narrow, recipe, seed=0)
    ratios = {
        "embedding.weight": 1.0,
        "hidden.weight": 0.5,
        "attention.in_proj_weight": 0.5,
        "attention.out_proj.weight": 0.5,
        "head.weight": 0.25,
    }
    for name, ratio in ratios.items():
        expected = narrow.get_parameter(name).std().item() * ratio
        assert wide.get_parameter(name).std().item() == pytest.approx(expected, rel=0.1), name
    assert report["norm.weight"].scheme == scheme("ones")
    assert report["head.bias"].scheme == at_base["head.bias"].scheme


def test_mup_takes_fans_by_the_kind_of_module_and_the_matrices_of_a_rule():
    def build(width):
        return nn.ModuleDict({"up": nn.ConvTranspose1d(width, 2 * width, 3), "rnn": nn.GRUCell(width, width)})

    rules = [Rule("*weight_hh", "xavier_normal", matrices=3), ("*.weight", "xavier_normal"), ("*", "normal(std=0.1)")]
    report = init_module_(build(64), recipes.mup(rules, build(16)), seed=0)
    assert report["up.weight"].scheme.arguments["std"] == pytest.approx(math.sqrt(2 / (48 + 96)) / 2)
    assert report["rnn.weight_hh"].scheme.arguments["std"] == pytest.approx(math.sqrt(2 / 32) / 2)


def test_mup_at_the_base_width_is_the_recipe():
    ours, theirs = Wide(64), Wide(64)
    init_module_(ours, recipes.mup("torch", Wide(64)), seed=0)
    init_module_(theirs, "torch", seed=0)
    assert same(values(ours), values(theirs))


def test_mup_knows_the_layout_of_transformers_conv1d():
    transformers = pytest.importorskip("transformers")
    config = {"vocab_size": 300, "n_layer": 2, "n_head": 2}
    small, large = (transformers.GPT2LMHeadModel(transformers.GPT2Config(**config, n_embd=n)) for n in (32, 128))
    report = init_module_(large, recipes.mup(recipes.gpt2(layers=2), small), seed=0)
    assert report["transformer.h.0.attn.c_attn.weight"].scheme == scheme("normal", std=0.01)
    assert report["transformer.h.0.mlp.c_proj.weight"].scheme == scheme("normal", std=0.02 / 2.0 * 0.5)
    assert report["transformer.wte.weight"].scheme == scheme("normal", std=0.02)


def test_mup_refuses_what_it_cannot_widen():
    with pytest.raises(ValueError, match=r"same architecture, and has no 'head\.weight'"):
        init_module_(Wide(64), recipes.mup("torch", nn.ModuleDict(dict(list(Wide(32).named_children())[:4]))), seed=0)
    with pytest.raises(ValueError, match="independent elements, got orthogonal"):
        init_module_(mlp(64, 64), recipes.mup({"*.weight": "orthogonal", "*.bias": "zeros"}, mlp(32, 32)), seed=0)
    with pytest.raises(TypeError, match="base must be"):
        recipes.mup("torch", 64)


@pytest.mark.parametrize(
    "recipe", [recipes.torch(), recipes.gpt2(layers=2), recipes.t5(d_model=64), recipes.torchtitan()]
)
def test_a_recipe_prints_as_a_table(recipe):
    lines = str(recipe).splitlines()
    assert lines[0] == recipe.name
    assert len(lines) == 1 + len(recipe)
    assert all("<function" not in line for line in lines)


def test_models_of_a_fake_mode_are_planned_and_not_written():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        model = nn.Sequential(nn.Linear(3, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
        report = init_module_(model, SIMPLE, seed=3)
        with torch.device("meta"):
            other = nn.Linear(3, 4)
        materialize_(other, SIMPLE, seed=3)
    assert {entry.note for entry in report} == {"fake: not written"}
    assert type(other.weight.data).__name__ == "FakeTensor"


def test_a_dtype_is_given_by_its_name_too():
    with torch.device("meta"):
        layer = nn.Linear(3, 4)
    materialize_(layer, SIMPLE, seed=3, dtype="bfloat16")
    assert layer.weight.dtype == torch.bfloat16


def test_a_missing_seed_is_refused_with_what_follows_manual_seed():
    with pytest.raises(TypeError, match=r"seed must be an int, got None: seed=torch\.initial_seed\(\) follows"):
        init_module_(mlp(3, 2), SIMPLE, seed=None)
    init_module_(mlp(3, 2), SIMPLE, seed=torch.initial_seed())


def test_a_report_names_matrices_and_own_rules_and_counts_those_of_a_recipe():
    model = nn.ModuleDict({"lstm": nn.LSTM(3, 4), "conv": nn.Conv2d(4, 4, 1, groups=2)})
    own = [Rule("*.weight_hh_l*", "orthogonal", matrices=4), Rule("*.weihgt", "he_normal"), ("*.weight", "he_normal")]
    report = init_module_(model, [*own, *recipes.named("torch")], seed=3)
    assert report["lstm.weight_hh_l0"].note == "4 matrices"
    assert report["conv.weight"].note == "2 matrices"
    lines = [line for line in str(report).splitlines() if line.startswith("took nothing")]
    assert lines[0] == "took nothing: *.weihgt"
    assert len(lines) == 2
    assert lines[1] == f"took nothing: {len(report.unused) - 1} rules of torch"
