"""Recipes that ask the model: every parameter gets what the model's own code gives it."""

import copy
import importlib
import os
import random
import re
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from processes import PATIENCE

from winit_fast import adapters

torch = pytest.importorskip("torch")
from architectures import (  # noqa: E402
    ADAPTERS,
    CONFIGURATIONS,
    SAMPLE,
    compared,
    differs,
    differs_after,
    import_torchvision,
    small_models,
)
from torch import nn  # noqa: E402

pytestmark = pytest.mark.frameworks

init_, init_module_, materialize_ = adapters.torch.init_, adapters.torch.init_module_, adapters.torch.materialize_
recipes = adapters.torch.recipes


class Own(nn.Module):
    """One weight and whatever a test lets `reset_parameters` do to it."""

    def __init__(self, reset, shape=(6, 4), device=None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape, device=device))
        self.reset = reset
        self.reset_parameters()

    def reset_parameters(self):
        with torch.no_grad():
            self.reset(self.weight)


def scheme_of(reset, shape=(6, 4)):
    return str(init_module_(Own(reset, shape), "own", seed=0)["weight"].scheme)


init = nn.init


# What becomes a scheme


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        (lambda w: init.normal_(w, 0.5, 0.02), "normal(mean=0.5, std=0.02)"),
        (lambda w: init.uniform_(w, -0.1, 0.1), "uniform(low=-0.1, high=0.1)"),
        (lambda w: init.trunc_normal_(w, std=0.5, a=-1.0, b=0.5), "truncated_normal(std=0.5, high=1.0)"),
        (lambda w: init.xavier_uniform_(w, gain=2.0), "xavier_uniform(gain=2.0)"),
        (lambda w: init.xavier_normal_(w), "xavier_normal"),
        (lambda w: init.kaiming_uniform_(w, a=1.0), "he_uniform(gain=1.0)"),
        (lambda w: init.kaiming_normal_(w, mode="fan_out"), "he_normal(gain=1.4142135623730951, mode='fan_out')"),
        (lambda w: init.orthogonal_(w, 1.5), "orthogonal(gain=1.5)"),
        (lambda w: init.sparse_(w, 0.5), "sparse(sparsity=0.5)"),
        (lambda w: init.eye_(w), "identity"),
        (lambda w: init.zeros_(w), "zeros"),
        (lambda w: init.ones_(w), "ones"),
        (lambda w: init.constant_(w, 0.25), "constant(value=0.25)"),
        (lambda w: w.data.normal_(mean=1.0), "normal(mean=1.0)"),
        (lambda w: w.data.uniform_(-2, 3), "uniform(low=-2.0, high=3.0)"),
        (lambda w: w.t().normal_(std=0.5), "normal(std=0.5)"),
        (lambda w: w.view(-1).fill_(3.0), "constant(value=3.0)"),
        (lambda w: init.normal_(w).mul_(0.5).add_(2.0), "normal(mean=2.0, std=0.5)"),
        (lambda w: init.uniform_(w).sub_(0.5).div_(-2), "uniform(low=-0.25, high=0.25)"),
        (lambda w: init.xavier_normal_(w).div_(2), "normal(std=0.22360679774997896)"),
        (lambda w: init.trunc_normal_(w, a=-1.0, b=2.0).neg_(), "truncated_normal(high=1.0)"),
        (lambda w: w.copy_(torch.randn(6, 4) * 0.02), "normal(std=0.02)"),
        (lambda w: w.copy_(torch.rand_like(w)), "uniform"),
        (lambda w: w.copy_(torch.empty(6, 4).normal_(1, 2)), "normal(mean=1.0, std=2.0)"),
        (lambda w: w.copy_(torch.full((6, 4), 0.5)), "constant(value=0.5)"),
        (lambda w: w.copy_(torch.normal(0.0, 3.0, (6, 4))), "normal(std=3.0)"),
        (lambda w: w.normal_().zero_(), "zeros"),
        (lambda w: [init.normal_(row, std=0.1) for row in w], "normal(std=0.1)"),
        (lambda w: [init.normal_(w[:, 2 * k : 2 * k + 2], std=0.1) for k in range(2)], "normal(std=0.1)"),
        (lambda w: [init.xavier_normal_(w[k : k + 2]) for k in (0, 2, 4)], "normal(std=0.5773502691896258)"),
    ],
)  # fmt: skip
def test_what_code_writes_is_the_scheme_that_it_is(reset, expected):
    assert scheme_of(reset) == str(adapters.torch.Rule("*", expected).scheme_for(None, "", None))


@pytest.mark.parametrize("clamp", [lambda w: w.clamp_(max=50), lambda w: w.clamp_(None, 50), lambda w: w.clamp_(-50)])
def test_one_bound_alone_changes_nothing_where_nothing_is_beyond_it(clamp):
    assert scheme_of(lambda weight: clamp(weight.normal_())) == "normal"


def test_values_between_bounds_that_are_tensors_are_computed():
    module = Own(lambda weight: weight.normal_().clamp_(max=torch.zeros(6, 4)))
    assert init_module_(module, "own", seed=0)["weight"].scheme is None
    drawn = init_(torch.empty(6, 4), "normal", seed=0, name="weight")
    assert torch.equal(module.weight, drawn.clamp(max=0.0))


def test_truncated_normals_of_other_libraries_are_seen_through_their_inverse_error_function():
    def reset(weight):
        weight.uniform_(-0.9544997361036416, 0.9544997361036416).erfinv_().mul_(0.02 * 2**0.5).add_(0.1).clamp_(
            0.06, 0.14
        )

    module = Own(reset, (100, 100))
    scheme = init_module_(module, "own", seed=0)["weight"].scheme
    assert scheme.name == "truncated_normal"
    assert [scheme.arguments[name] for name in ("mean", "std", "low", "high")] == pytest.approx([0.1, 0.02, -2, 2])


def test_a_row_of_zeros_stays_0():
    def reset(weight):
        init.normal_(weight)
        weight[4].zero_()

    module = Own(reset)
    entry = init_module_(module, "own", seed=0)["weight"]
    assert (str(entry.scheme), entry.note) == ("normal", "row 4 is 0")
    assert (module.weight == 0).all(1).tolist() == [False, False, False, False, True, False]


# What is computed


def pieces(weight):
    init.normal_(weight[:3], std=0.1)
    init.constant_(weight[3:], 7.0)
    weight[3, 1:3] = 9.0


def test_pieces_of_different_laws_each_keep_theirs():
    module = Own(pieces, (6, 500))
    report = init_module_(module, "own", seed=0)
    assert report["weight"].note == "computed by the model's code from draws of its stream"
    assert 0.09 < module.weight[:3].std() < 0.11
    assert module.weight[3, 1:3].tolist() == [9, 9]
    assert (module.weight[4:] == 7).all()


def softplus_inverse(weight):
    dt = torch.exp(torch.rand(weight.shape) * 4 - 6).clamp(min=1e-4)
    weight.copy_(dt + torch.log(-torch.expm1(-dt)))


def test_what_is_computed_from_draws_follows_the_seed_and_the_name_alone():
    def drawn(seed, name="weight", prefix=""):
        outer = nn.Module()
        outer.add_module("inner", Own(softplus_inverse, (4, 300)))
        model = outer if prefix is None else outer.inner
        state = torch.get_rng_state()
        init_module_(model, "own", seed=seed, prefix=prefix or "")
        assert torch.equal(state, torch.get_rng_state())
        return outer.inner.weight.detach().clone()

    first = drawn(1)
    torch.rand(3)
    assert torch.equal(first, drawn(1))
    assert not torch.equal(first, drawn(2))
    assert torch.equal(drawn(1, prefix=None), drawn(1, prefix="inner."))
    assert not torch.equal(first, drawn(1, prefix="inner."))
    assert not differs(first, Own(softplus_inverse, (4, 300)).weight.detach(), False)


def test_what_is_computed_without_draws_is_the_models_own_bits():
    def reset(weight):
        position = torch.arange(6.0)[:, None] / 10000 ** (torch.arange(4.0) / 4)
        weight[:, :2] = position[:, :2].sin()
        weight[:, 2:] = position[:, 2:].cos()

    module = Own(reset)
    plain = module.weight.detach().clone()
    module.weight.data.fill_(3.0)
    assert init_module_(module, "own", seed=0)["weight"].note == "computed by the model's code"
    assert torch.equal(module.weight, plain)


def test_a_copy_of_another_parameter_is_a_copy():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.empty(4, 4)), nn.Parameter(torch.empty(4, 4))

        def reset_parameters(self):
            init.normal_(self.a)
            self.b.data.copy_(self.a.data)

    module = Two()
    init_module_(module, "own", seed=0)
    assert torch.equal(module.a, module.b)
    assert torch.equal(module.a, init_(torch.empty(4, 4), "normal", seed=0, name="a"))


def test_values_that_code_looks_at_are_there_where_nothing_is_drawn():
    def reset(weight):
        scale = torch.ones_like(weight).sum().item()
        init.normal_(weight, std=scale)

    assert scheme_of(reset) == "normal(std=24.0)"


def test_code_that_falls_back_where_a_function_refuses_a_shape_falls_back_here_too():
    def reset(weight):
        try:
            init.xavier_uniform_(weight)
        except ValueError:
            init.normal_(weight, std=0.5)

    assert scheme_of(reset, (6,)) == "normal(std=0.5)"
    assert scheme_of(reset) == "xavier_uniform"


# What is refused


@pytest.mark.parametrize(
    ("reset", "reason"),
    [
        (lambda w: w.bernoulli_(0.5), "bernoulli_"),
        (lambda w: w.copy_(torch.randperm(24).view(6, 4)), "randperm"),
        (lambda w: init.normal_(w[:2]), "values that were there before"),
        (lambda w: w.mul_(2), "values that were there before"),
        (lambda w: w.copy_(torch.empty(6, 4)), "never written"),
        (lambda w: init.normal_(w) if torch.rand(3).sum().item() > 1 else None, "looks at what it has drawn"),
        (lambda w: w.fill_(np.random.rand()), "NumPy's"),
        (lambda w: w.nothing(), "nothing"),
    ],
)
def test_what_no_scheme_says_is_refused_by_name_and_nothing_is_written(reset, reason):
    module = Own(lambda weight: init.ones_(weight))
    module.reset = reset
    with pytest.raises(ValueError, match=reason):
        init_module_(module, "own", seed=0)
    assert (module.weight == 1).all()
    assert type(module.weight) is nn.Parameter
    assert not module.weight.is_meta


def test_models_that_draw_in_their_constructors_are_refused_unless_they_are_built_once_more():
    class Late(nn.Sequential):
        def __init__(self, std):
            super().__init__(nn.Linear(30, 40), nn.Linear(40, 30))
            self.apply(lambda part: self._init_weights(part, std))

        def _init_weights(self, part, std):
            if isinstance(part, nn.Linear):
                init.normal_(part.weight, std=std)

    model = Late(3.0)
    with pytest.raises(ValueError, match="build must be given for Late"):
        init_module_(model, "own", seed=0)
    report = init_module_(model, recipes.own(model, lambda: Late(3.0)), seed=0)
    assert [str(entry.scheme) for entry in report if entry.name.endswith("weight")] == ["normal(std=3.0)"] * 2
    assert torch.equal(model[0].weight, init_(torch.empty(40, 30), "normal(std=3)", seed=0, name="0.weight"))
    other = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"none of that name and shape"):
        init_module_(other, recipes.own(other, lambda: Late(1.0)), seed=0)


def test_parameters_that_no_code_writes_to_again_are_left_and_on_the_meta_device_refused():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.full((3,), 5.0))

    module = Bare()
    assert init_module_(module, "own", seed=0)["scale"].note.startswith("left")
    assert module.scale.tolist() == [5, 5, 5]
    with torch.device("meta"):
        module = Bare()
    with pytest.raises(ValueError, match=r"scale \(nothing writes to it\).*recipes.own"):
        materialize_(module, "own", seed=0)
    materialize_(module, [("scale", "ones"), *recipes.own(module)], seed=0)
    assert module.scale.tolist() == [1, 1, 1]
    with torch.device("meta"):
        module = Bare()
    materialize_(module, recipes.own(module, Bare), seed=0)
    assert module.scale.tolist() == [5, 5, 5]


# What asking leaves alone


def test_asking_changes_nothing_of_the_model():
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 2))
            self.register_buffer("table", torch.ones(4))
            self.plain, self.many, self.count = torch.ones(2), [torch.ones(2)], 0

        def reset_parameters(self):
            self.count += 1
            for tensor in (self.table, self.plain, self.many[0]):
                tensor.view(-1)[:1].zero_()
                tensor.zero_()
            init.normal_(self.weight, std=2.0)

    module = Holder()
    held = (module.weight, module.table, module.plain, module.many[0])
    recipes.own(module)
    assert list(map(id, held)) == list(map(id, (module.weight, module.table, module.plain, module.many[0])))
    assert all((tensor == 1).all() for tensor in held)
    assert module.count == 0
    assert init.normal_.__module__ == "torch.nn.init"


@pytest.mark.parametrize("arguments", [{}, {"seed": 9}, {"skip": True}])
def test_asking_under_accelerate_gives_the_same(arguments):
    def reset(weight):
        init.trunc_normal_(weight[:50], std=0.02)
        init.orthogonal_(weight[50:])

    plain, under = (Own(reset, (100, 30)) for _ in range(2))
    init_module_(plain, "own", seed=3)
    with adapters.torch.accelerate(**arguments):
        init_module_(under, "own", seed=3)
    assert torch.equal(plain.weight, under.weight)
    assert scheme_of(lambda weight: init.trunc_normal_(weight, std=0.02)).startswith("truncated_normal(std=0.02")


def test_asking_changes_nothing_of_what_accelerate_draws_next():
    drawn = []
    for asks in (True, False):
        with adapters.torch.accelerate():
            torch.manual_seed(5)
            first, model = nn.Linear(30, 30), nn.Linear(3, 3)
            if asks:
                init_module_(model, "own", seed=0)
            drawn.append((first.weight, nn.Linear(30, 30).weight))
    assert torch.equal(drawn[0][1], drawn[1][1])
    assert not torch.equal(*drawn[0])


# PyTorch's own modules


def test_pytorchs_modules_get_the_bits_of_the_recipe_of_their_name():
    def build():
        return nn.Sequential(
            nn.Linear(8, 6), nn.Conv2d(4, 8, 3, groups=2), nn.Embedding(9, 5, padding_idx=2), nn.LayerNorm(7),
            nn.GRU(5, 4), nn.BatchNorm1d(5), nn.MultiheadAttention(8, 2), nn.PReLU(init=0.1), nn.Bilinear(3, 4, 5),
            nn.RMSNorm(6),
        )  # fmt: skip

    ours, theirs = build(), build()
    init_module_(ours, "own", seed=5)
    init_module_(theirs, "torch", seed=5)
    wrong = [name for name, value in ours.named_parameters() if not torch.equal(value, theirs.get_parameter(name))]
    assert not wrong


def test_from_the_meta_device_by_its_own_code():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), Own(softplus_inverse))
    materialize_(model, "own", seed=5, dtype=torch.bfloat16)
    plain = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), Own(softplus_inverse))
    init_module_(plain, "own", seed=5)
    for name, value in plain.named_parameters():
        assert torch.equal(model.get_parameter(name), value.to(torch.bfloat16)), name


# Models of transformers'


@pytest.fixture(scope="module")
def transformers():
    import_torchvision()
    return pytest.importorskip("transformers", minversion="5")


@pytest.mark.parametrize("name", SAMPLE)
def test_a_model_of_transformers_gets_its_own_law_where_it_stands_and_from_the_meta_device(transformers, name):
    build = small_models(transformers)[name]
    report, wrong = compared(build)
    assert not wrong, "\n".join(wrong)
    assert len(report) > 4


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("LlamaForCausalLM", lambda: recipes.llama()),
        ("BertForPreTraining", lambda: recipes.bert()),
        ("GPT2LMHeadModel", lambda: recipes.gpt2(layers=2)),
        ("T5ForConditionalGeneration", lambda: recipes.t5(d_model=64, d_kv=16)),
    ],
)
def test_where_the_table_of_numbers_is_right_the_values_are_the_same(transformers, name, recipe):
    # A standard deviation may be computed another way in the model's code: the last bit then differs.
    build = small_models(transformers)[name]
    ours, theirs = build(), build()
    init_module_(ours, "hf", seed=5)
    init_module_(theirs, recipe(), seed=5)
    for parameter, value in ours.named_parameters():
        if name in ("LlamaForCausalLM", "BertForPreTraining"):
            assert torch.equal(value, theirs.get_parameter(parameter)), parameter
        torch.testing.assert_close(value, theirs.get_parameter(parameter), rtol=3e-7, atol=0)


def test_the_table_of_numbers_alone_gives_gemma_and_marian_another_law(transformers):
    for name in ("Gemma3ForCausalLM", "MarianMTModel"):
        model = small_models(transformers)[name]()
        values = {key: value.detach().clone() for key, value in model.named_parameters()}
        init_module_(model, recipes.hf(), seed=0)
        assert any(
            differs(value.detach(), values[key], values[key].std() == 0) for key, value in model.named_parameters()
        )


def test_a_model_inside_of_another_is_asked_and_the_rest_takes_the_table(transformers):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = small_models(transformers)["Gemma3ForCausalLM"]()
            self.head = nn.Linear(64, 3)

    model = Outer()
    report = init_module_(model, "hf", seed=0)
    assert str(report["body.model.norm.weight"].scheme) == "zeros"
    assert str(report["head.weight"].scheme) == "normal(std=0.02)"
    inner = small_models(transformers)["Gemma3ForCausalLM"]()
    init_module_(inner, "hf", seed=0, prefix="body.")
    assert torch.equal(inner.model.embed_tokens.weight, model.body.model.embed_tokens.weight)


def test_threads_that_ask_models_of_transformers_leave_all_functions_as_they_were(transformers):
    models = [small_models(transformers)["LlamaForCausalLM"]() for _ in range(3)]
    # Not by attribute: that is missing where a first import of transformers had failed half-way.
    initialization = importlib.import_module("transformers.initialization")
    before = dict(vars(nn.init)), dict(initialization.TORCH_INIT_FUNCTIONS)
    threads = [threading.Thread(target=init_module_, args=(model, "hf"), kwargs={"seed": 0}) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (dict(vars(nn.init)), initialization.TORCH_INIT_FUNCTIONS) == before
    assert all(map(torch.equal, models[0].parameters(), models[2].parameters()))


def test_what_was_loaded_is_left(transformers):
    model = small_models(transformers)["MambaForCausalLM"]()
    mixer = model.backbone.layers[0].mixer
    for parameter in (mixer.A_log, mixer.in_proj.weight):
        parameter.data.fill_(3.0)
        parameter._is_hf_initialized = True
    report = init_module_(model, "hf", seed=0)
    assert report["backbone.layers.0.mixer.A_log"].note == "left: _is_hf_initialized"
    assert (mixer.A_log == 3).all()
    assert (mixer.in_proj.weight == 3).all()


def test_own_rules_may_stand_before_what_the_model_says(transformers):
    model = small_models(transformers)["MambaForCausalLM"]()
    init_module_(model, [("*.A_log", "ones"), *recipes.own(model)], seed=0)
    assert (model.backbone.layers[0].mixer.A_log == 1).all()


@pytest.mark.parametrize("name", ["lora", "lora_gaussian", "ia3"])
def test_adapters_of_peft_begin_as_peft_begins_them(transformers, name):
    peft = pytest.importorskip("peft")
    config, arguments = ADAPTERS[name]
    model = peft.get_peft_model(small_models(transformers)["LlamaForCausalLM"](), getattr(peft, config)(**arguments))
    report, wrong = differs_after(model, "hf")
    assert not wrong, "\n".join(wrong)
    assert all(
        str(entry.scheme) in ("zeros", "ones") for entry in report if re.search(r"lora_B.*weight|ia3", entry.name)
    )


def test_what_peft_saves_whole_begins_as_a_copy_of_the_module_it_stands_for(transformers):
    peft = pytest.importorskip("peft")
    config = transformers.LlamaConfig(**CONFIGURATIONS["LlamaForCausalLM"][1], pad_token_id=0)
    model = transformers.LlamaForSequenceClassification(config)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS"))
    _, wrong = differs_after(model, "hf")
    assert not wrong, "\n".join(wrong)
    score = model.base_model.model.score
    assert torch.equal(score.original_module.weight, score.modules_to_save.default.weight)


def test_adapters_of_peft_that_start_from_the_weights_they_stand_around_are_refused(transformers):
    peft = pytest.importorskip("peft")
    config, arguments = ADAPTERS["lora_pissa"]
    model = peft.get_peft_model(small_models(transformers)["LlamaForCausalLM"](), getattr(peft, config)(**arguments))
    with pytest.raises(ValueError, match=r"init_lora_weights='pissa'.*before peft"):
        init_module_(model, "hf", seed=0)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_models_of_timm_get_their_own_law_when_they_are_built_once_more(name):
    if not import_torchvision():
        pytest.skip("torchvision is not installed")
    timm = pytest.importorskip("timm")

    def build():
        return timm.create_model(name)

    _, wrong = compared(build, recipe=lambda model: recipes.own(model, build))
    assert not wrong, "\n".join(wrong)


def test_buffers_of_transformers_need_no_callable_under_any_rules(transformers):
    build = small_models(transformers)["LlamaForCausalLM"]
    with torch.device("meta"):
        model = build()
    materialize_(model, recipes.llama(), seed=0)
    plain = build()
    assert torch.equal(model.model.rotary_emb.inv_freq, plain.model.rotary_emb.inv_freq)
    assert model.model.rotary_emb.inv_freq.dtype is torch.float32


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_shards_of_what_is_computed_are_parts_of_the_whole(transformers, tmp_path):
    script = textwrap.dedent("""
    import os, sys, torch, torch.distributed as dist
    sys.path.insert(0, sys.argv[3])
    from architectures import import_torchvision, small_models
    import_torchvision()
    import transformers
    from torch.distributed.fsdp import fully_shard
    from winit_fast import adapters

    rank, path = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    mesh = dist.init_device_mesh("cpu", (2,))
    build = small_models(transformers)["Mamba2ForCausalLM"]
    whole = build()
    adapters.torch.init_module_(whole, "hf", seed=4)
    with torch.device("meta"):
        model = build()
    for layer in model.backbone.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    report = adapters.torch.materialize_(model, "hf", seed=4)
    assert sum("computed" in entry.note for entry in report) >= 2
    for (name, part), value in zip(model.named_parameters(), whole.parameters(), strict=True):
        assert torch.equal(part.full_tensor(), value), name
    dist.destroy_process_group()
    os._exit(0)  # as Python ends, PyTorch may abort: gloo's threads may hold tensors then
    """)
    arguments = [str(tmp_path / "store"), os.path.dirname(__file__)]
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(rank), *arguments], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors


# What a review found


class Two(nn.Module):
    """Two weights and whatever a test lets `reset_parameters` do to the module."""

    def __init__(self, reset):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(8, 8)), nn.Parameter(torch.zeros(8, 8))
        self.reset = reset

    def reset_parameters(self):
        with torch.no_grad():
            self.reset(self)


def test_threads_that_ask_leave_the_functions_of_torch_as_they_were():
    before = dict(vars(nn.init))

    def ask():
        for _ in range(4):
            init_module_(nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4)), "own", seed=0)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [name for name, function in before.items() if vars(nn.init)[name] is not function] == []


def test_generators_of_numpy_and_python_are_as_before_also_when_the_code_fails():
    def reset(model):
        np.random.rand()
        random.random()
        raise RuntimeError("no")

    before = random.getstate(), np.random.get_state()[2]
    with pytest.raises(ValueError, match="RuntimeError: no"):
        init_module_(Two(reset), "own", seed=0)
    assert (random.getstate(), np.random.get_state()[2]) == before


def test_a_tied_weight_is_what_its_first_name_gets():
    model = nn.Sequential(nn.Embedding(200, 16), nn.Linear(16, 200, bias=False))
    model[1].weight = model[0].weight
    assert str(init_module_(model, "own", seed=0)["0.weight"].scheme) == "normal"
    own = model[0].weight.detach().clone()
    init_module_(model, "torch", seed=0)
    assert torch.equal(own, model[0].weight)


@pytest.mark.parametrize(
    "spread",
    [
        lambda w: w.zero_().add_(torch.randn(1)),
        lambda w: w.fill_(1).mul_(torch.rand(())),
        lambda w: w.fill_(torch.randn(())),
        lambda w: w.copy_(torch.ones(6, 4) * torch.rand(1, 1)),
    ],
)
def test_one_drawn_number_for_all_elements_stays_one_number(spread):
    module = Own(spread)
    init_module_(module, "own", seed=0)
    assert (module.weight == module.weight[0, 0]).all()
    assert module.weight[0, 0] != 0


def test_a_generator_may_be_given_by_its_place():
    assert scheme_of(lambda w: init.trunc_normal_(w, 0.0, 1.0, -1.0, 1.0, torch.Generator())) == (
        "truncated_normal(low=-1.0, high=1.0)"
    )


def drawn_and_copied(change):
    def reset(model):
        model.a.normal_()
        model.b.copy_(change(model.a))

    return reset


@pytest.mark.parametrize("change", [torch.clone, lambda a: a.double(), lambda a: -a, lambda a: a * 2])
def test_a_changed_copy_of_another_parameter_is_of_its_draws(change):
    model = Two(drawn_and_copied(change))
    init_module_(model, "own", seed=0)
    assert model.a.std() > 0
    assert torch.equal(change(model.a.detach()).float(), model.b)


def test_a_module_that_loads_the_values_of_another_has_its_values():
    def reset(model):
        model[0].reset_parameters()
        model[1].load_state_dict({name: value.clone() for name, value in model[0].state_dict().items()})

    class Target(nn.Sequential):
        def reset_parameters(self):
            reset(self)

    model = Target(nn.Linear(4, 4), nn.Linear(4, 4))
    init_module_(model, "own", seed=0)
    assert torch.equal(model[0].weight, model[1].weight)
    assert torch.equal(model[0].bias, model[1].bias)


def test_a_draw_that_two_parameters_copy_is_refused_by_name():
    def reset(model):
        drawn = torch.randn(8, 8)
        model.a.copy_(drawn.clone())
        model.b.copy_(drawn.clone())

    with pytest.raises(ValueError, match=r"b .it shares what it draws with a"):
        init_module_(Two(reset), "own", seed=0)


@pytest.mark.parametrize("change", [lambda row: row, torch.clone, lambda row: row * 2])
def test_rows_that_are_copies_of_one_draw_stay_equal(change):
    def of_one_draw(weight):
        base = torch.randn(4)
        for row in weight:
            row.copy_(change(base))

    def of_the_first(weight):
        weight[0].normal_()
        weight[0] = change(weight[0])
        for row in range(1, 6):
            weight[row] = weight[0].clone()

    for reset in (of_one_draw, of_the_first):
        module = Own(reset)
        init_module_(module, "own", seed=0)
        assert (module.weight == module.weight[0]).all()
        assert module.weight.std() > 0


@pytest.mark.parametrize(
    "reset",
    [
        lambda w: w.copy_(torch.empty(6, 4).copy_(torch.randn(6, 4))),
        lambda w: [row.copy_(other) for row, other in zip(w, torch.randn(6, 4), strict=True)],
    ],
)
def test_a_draw_that_is_copied_once_is_its_scheme(reset):
    assert scheme_of(reset) == "normal"


def test_what_a_module_holds_is_as_before_and_new_modules_are_refused():
    class Renewed(nn.Module):
        def __init__(self):
            super().__init__()
            self.log = []
            self.reset_parameters()

        def reset_parameters(self):
            self.log.append(1)
            self.register_forward_hook(lambda *_: None)
            self.fc = nn.Linear(4, 4)

    model = Renewed()
    fc = model.fc
    with pytest.raises(ValueError, match=r"makes new modules \(fc\)"):
        init_module_(model, "own", seed=0)
    assert model.fc is fc
    assert (len(model.log), len(model._forward_hooks)) == (1, 1)
    init_module_(model, recipes.own(model, Renewed), seed=0)
    assert model.fc is fc


@pytest.mark.parametrize(
    "leak",
    [
        lambda: torch.from_numpy(np.linalg.qr(torch.randn(8, 8).numpy())[0]),
        lambda: torch.tensor(torch.randn(8, 8).tolist()),
        lambda: torch.from_numpy(np.random.default_rng().normal(size=(8, 8))),
        lambda: torch.tensor(random.Random().random()),
    ],
)
def test_values_that_leave_the_recording_are_refused_by_name(leak):
    def reset(model):
        model.a.copy_(leak())
        model.b.normal_()

    model = Two(reset)
    with pytest.raises(ValueError, match=r"for a \(it depends on values drawn where .* differs from run to run"):
        init_module_(model, "own", seed=0)
    assert (model.a == 0).all()
    assert init_module_(model, [("a", "zeros"), *recipes.own(model)], seed=0)["b"].scheme.name == "normal"


def test_code_that_decides_by_what_it_drew_is_refused():
    def reset(model):
        model.a.normal_()
        for _ in range(int(torch.rand(8, 8).numpy().sum() * 10)):
            model.b.add_(1)

    with pytest.raises(ValueError, match="does not do the same twice"):
        init_module_(Two(reset), "own", seed=0)


def test_data_that_is_put_in_the_place_of_other_data_is_seen():
    def reset(model):
        model.a.data = torch.randn(8, 8) * 0.5
        model.b.data = torch.zeros(8, 8)

    report = init_module_(Two(reset), "own", seed=0)
    assert [str(entry.scheme) for entry in report] == ["normal(std=0.5)", "zeros"]


def test_what_is_printed_of_a_report_holds_no_tensors():
    report = init_module_(nn.Linear(4, 4), "own", seed=0)
    assert "Parameter" not in repr(report)
    assert "tensor(" not in repr(report)


def test_a_recipe_of_another_model_is_refused_as_such():
    model = nn.Linear(4, 4)
    with pytest.raises(ValueError, match=r"recipes.own was asked for another one: none takes weight .*, bias"):
        init_module_(copy.deepcopy(model), recipes.own(model), seed=0)


def test_models_of_torchvision_must_be_built_once_more(monkeypatch):
    class Network(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Conv2d(3, 8, 3))
            for part in self.modules():
                if isinstance(part, nn.Conv2d):
                    init.kaiming_normal_(part.weight, mode="fan_out")

    monkeypatch.setattr(Network, "__module__", "torchvision.models.network")
    model = Network()
    with pytest.raises(ValueError, match="build must be given for Network, whose constructor draws"):
        init_module_(model, "own", seed=0)
    report = init_module_(model, recipes.own(model, Network), seed=0)
    assert report["0.weight"].scheme.name == "he_normal"


def test_the_generator_that_code_passes_is_as_before():
    generator = torch.Generator().manual_seed(3)
    module = Own(lambda w: w.copy_(torch.randn(6, 4, generator=generator)))
    before = generator.get_state()
    init_module_(module, "own", seed=0)
    assert torch.equal(generator.get_state(), before)
