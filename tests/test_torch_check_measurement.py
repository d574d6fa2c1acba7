"""adapters.torch.check: what it measures, what it leaves as it was, and what it refuses."""

import gc
import math
import random
import weakref

import numpy as np
import pytest

from winit_fast import adapters
from winit_fast.report import ACTIVATIONS, layer_statistics

torch = pytest.importorskip("torch")

from checked_models import batch, deep  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

pytestmark = pytest.mark.frameworks

check, init_module_ = adapters.torch.check, adapters.torch.init_module_


# What is measured


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


# The model is left as it was


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
