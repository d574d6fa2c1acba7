"""Small parameters, which `init_` and `init_module_` fill by plans that are made once: the same bits and refusals."""

import contextlib
import warnings

import numpy as np
import pytest
from arrays import DTYPES, bits

import winit_fast
from winit_fast import adapters

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn.utils import parametrize  # noqa: E402

from winit_fast.adapters.torch import plain  # noqa: E402

pytestmark = pytest.mark.frameworks

init_, init_module_, materialize_ = adapters.torch.init_, adapters.torch.init_module_, adapters.torch.materialize_


def filled(shape, scheme, dtype="float32", **arguments):
    array = np.empty(shape, DTYPES.get(dtype, dtype))
    return winit_fast.fill(array, scheme, **({"in_axis": 1, "out_axis": 0, "seed": 7} | arguments))


def is_same(tensor, array):
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes() == bits(array).tobytes()


@pytest.fixture
def no_long_path(monkeypatch):
    def refuse(*arguments, **named):
        raise AssertionError("this tensor must take the short path")

    monkeypatch.setattr("winit_fast.adapters.torch.tensors.fill_tensor", refuse)


# One tensor


@pytest.mark.usefixtures("no_long_path")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scheme", ["normal(std=0.02)", "he_uniform", "truncated_normal", "constant(0.5)"])
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (181, 182), (4, 3, 3, 3)])
def test_a_small_parameter_gets_the_bits_of_fill_by_the_short_path(dtype, scheme, shape):
    weight = nn.Parameter(torch.empty(shape, dtype=getattr(torch, dtype)))
    version = weight._version
    assert init_(weight, scheme, seed=7, name="layer.weight") is weight
    assert is_same(weight, filled(shape, scheme, dtype, name="layer.weight"))
    assert weight._version > version
    assert weight.requires_grad


class OnCUDA(torch.Tensor):
    """Says that it is on CUDA, and is on the CPU."""

    is_cuda = True


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_cuda_the_short_path_goes_through_pinned_memory_and_waits_for_nothing(monkeypatch, dtype):
    log, empty, copy = [], torch.empty, torch.Tensor.copy_

    def make(*sizes, **named):
        log.append(("pinned", named.pop("pin_memory"), named["device"]))
        return empty(*sizes, **named)

    def note(tensor, other, non_blocking=False):
        log.append(("copied", non_blocking))
        with torch._C.DisableTorchFunctionSubclass():
            return copy(tensor, other)

    plain._plan_small("normal(std=0.02)", torch.Size((64, 64)), getattr(torch, dtype))  # makes a tensor of its own
    weight = torch.Tensor._make_subclass(OnCUDA, torch.zeros(64, 64, dtype=getattr(torch, dtype)), True)
    version, captured = weight._version, False
    monkeypatch.setattr(plain, "PLAIN", (*plain.PLAIN, OnCUDA))
    monkeypatch.setattr(plain.trust, "is_captured", lambda tensor: captured)
    monkeypatch.setattr(torch, "empty", make)
    monkeypatch.setattr(torch.Tensor, "copy_", note)
    assert plain.fill_small(weight, "normal(std=0.02)", 7, "w", None, None)
    assert log == [("pinned", True, "cpu"), ("copied", True)]
    captured = True
    assert not plain.fill_small(weight, "normal(std=0.02)", 8, "w", None, None)
    captured = False
    monkeypatch.setattr(plain.trust, "SMALL_BYTES", weight.nbytes - 1)  # what a kernel fills
    assert not plain.fill_small(weight, "normal(std=0.02)", 8, "w", None, None)
    monkeypatch.undo()
    assert not plain.is_usual(weight)
    assert is_same(weight, filled((64, 64), "normal(std=0.02)", dtype, name="w"))
    assert weight._version > version
    assert weight.grad_fn is None


@pytest.mark.usefixtures("no_long_path")
def test_names_seeds_and_threads_are_those_of_fill_on_the_short_path():
    weight = torch.empty(8, 8)
    for arguments in [{"name": 5}, {"name": 2**64 - 1}, {"name": "w", "seed": 0}, {"name": "w", "seed": 2**64 - 1}]:
        assert is_same(
            init_(weight, "normal", **({"seed": 7, "threads": 2} | arguments)), filled((8, 8), "normal", **arguments)
        )


@pytest.mark.usefixtures("no_long_path")
def test_a_small_tensor_without_a_seed_takes_one_draw_of_the_default_generator():
    torch.manual_seed(3)
    weight = init_(torch.empty(8, 8), "normal")
    state = torch.get_rng_state()
    torch.manual_seed(3)
    seed = torch.empty((), dtype=torch.int64).random_(-(1 << 63), None).item() % (1 << 64)
    assert (torch.get_rng_state() == state).all()
    assert is_same(weight, filled((8, 8), "normal", seed=seed, name=0))
    init_(weight, "zeros")
    assert (torch.get_rng_state() == state).all()


@pytest.mark.parametrize("scheme", ["normal", "zeros"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"seed": -1}, {"seed": 2**64}, {"seed": True}, {"seed": 1.0}, {"name": -1}, {"name": 2**64}, {"name": True},
        {"name": 1.5}, {"name": "\ud800"}, {"threads": 0}, {"threads": True}, {"threads": 1.0},
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_for_a_small_tensor_as_for_a_large_one(scheme, arguments):
    weight, large = torch.zeros(8, 8), torch.zeros(1024, 1024)
    state = torch.get_rng_state()
    found = []
    for tensor in (weight, large):
        with pytest.raises((TypeError, ValueError)) as raised:
            init_(tensor, scheme, **({"seed": 7, "name": "w"} | arguments))
        found.append((raised.type, str(raised.value)))
    assert found[0] == found[1]
    assert weight._version == 0
    assert not weight.any()
    assert (torch.get_rng_state() == state).all()


def test_small_tensors_without_names_are_warned_of():
    tensors = [torch.empty(6, 5) for _ in range(2)]
    init_(tensors[0], "normal", seed=2**40 + 1)
    with pytest.warns(winit_fast.RepeatedValuesWarning):
        init_(tensors[1], "normal", seed=2**40 + 1)


def unusual():
    """What looks like a small tensor and is to be refused, left alone, or found out about."""
    grown = nn.Parameter(torch.ones(4, 4))
    absent, freed = nn.Parameter(torch.empty(0)), torch.ones(4, 4)
    absent.ds_shape = torch.Size((4, 4))
    freed.untyped_storage().resize_(0)
    with torch.inference_mode():
        inferred = torch.ones(4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # their form may change
        nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    return {
        "meta": torch.empty(4, 4, device="meta"),
        "view": torch.ones(5, 4)[1:],
        "transposed": torch.ones(4, 5).T,
        "expanded": torch.ones(4, 1).expand(4, 4),
        "computed": grown * 2,
        "negative": torch.ones(4, 4, dtype=torch.complex64).conj().imag,
        "conjugate": torch.ones(4, 4, dtype=torch.complex64).conj(),
        "sparse": torch.ones(4, 4).to_sparse(),
        "of inference": inferred,
        "absent": absent,
        "freed": freed,
        "no tensor": np.ones((4, 4)),
        "subclass": torch.ones(4, 4).as_subclass(type("Own", (torch.Tensor,), {})),
        "nested": nested,
    }


@pytest.mark.parametrize("kind", unusual())
def test_what_only_looks_like_a_small_tensor_takes_the_long_path(kind):
    tensor = unusual()[kind]
    assert not plain.is_usual(tensor)
    assert not plain.fill_small(tensor, "normal", 7, "w", None, None)


def test_a_small_tensor_takes_the_long_path_where_something_looks_on():
    weight = torch.ones(4, 4)
    seen = []
    torch.func.vmap(lambda x: (seen.append(plain.is_usual(weight)), x)[1])(torch.ones(2))
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        seen.append(plain.is_usual(weight))
    with torch.nn.utils.parametrize.cached():
        seen.append(plain.is_usual(weight))
    assert seen == [False, False, False]
    assert plain.is_usual(weight)


# Models


class Shared(nn.Module):
    """Parameters whose memory overlaps, and others that look alike."""

    def __init__(self):
        super().__init__()
        memory = torch.zeros(6 * 16)
        self.layers = nn.ModuleList()
        for begin in (0, 2, 1, 4, 0):
            layer = nn.Linear(16, 2, bias=False)
            layer.weight = nn.Parameter(memory.detach()[16 * begin : 16 * begin + 32].view(2, 16).detach())
            self.layers.append(layer)


def test_of_parameters_that_share_memory_the_last_is_what_stays():
    together, alone = Shared(), Shared()
    init_module_(together, {"*": "normal"}, seed=7)
    for name, parameter in alone.named_parameters():
        init_(parameter, "normal", seed=7, name=name)
    for one, other in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("threads", [4, None])
def test_of_parameters_that_map_one_file_the_last_is_what_stays(tmp_path, monkeypatch, threads):
    monkeypatch.setenv("WINIT_FAST_THREADS", "4")
    shape, path = (256, 512), tmp_path / "weights"
    path.write_bytes(bytes(4 * 256 * 512))

    def mapped():
        return torch.from_file(str(path), shared=True, size=256 * 512).view(shape).detach()

    model = nn.Sequential(*[nn.Linear(512, 256, bias=False) for _ in range(9)])
    for layer in model:
        layer.weight = nn.Parameter(mapped())
    for _ in range(5):
        init_module_(model, {"*": "normal"}, seed=7, threads=threads)
        assert is_same(mapped(), filled(shape, "normal", name="8.weight"))


@pytest.mark.parametrize("variable", ["WINIT_FAST_THREADS", "WINIT_FAST_HUGE_PAGES"])
def test_an_environment_that_cannot_be_used_is_refused_before_any_parameter_is_written(monkeypatch, variable):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(2048, 2048))
    version = model[0].weight._version
    monkeypatch.setenv(variable, "none of these")
    with pytest.raises(ValueError, match=variable):
        init_module_(model, "torch", seed=7)
    assert model[0].weight._version == version


def stack(count=5, kind=torch.float32):
    layers = [nn.Linear(16, 16) for _ in range(count)] + [nn.Conv2d(4, 4, 3, groups=2), nn.ConvTranspose2d(4, 6, 3)]
    layers += [nn.Linear(16, 8), nn.Embedding(10, 16, padding_idx=2), nn.Linear(16, 16).double(), nn.LayerNorm(16)]
    model = nn.Sequential(*layers[:3], nn.Sequential(*layers[3:])).to(kind)
    return model


@pytest.mark.parametrize("rules", ["torch", {"*.bias": "zeros", "*": "normal"}, {"*": "uniform(-0.25, 0.5)"}])
@pytest.mark.parametrize("threads", [None, 1, 3])
def test_parameters_that_are_alike_get_the_values_and_entries_that_each_gets_alone(rules, threads):
    together, alone = stack(), stack()
    versions = [parameter._version for parameter in together.parameters()]
    report = init_module_(together, rules, seed=7, threads=threads)
    assert all(p._version > version for p, version in zip(together.parameters(), versions, strict=True))
    entries = []
    for name, _ in alone.named_parameters():
        others = [other for other, _ in alone.named_parameters() if other != name]
        found = init_module_(alone, rules, seed=7, leave=others)
        entries.append(found[name])
    assert list(report.entries) == entries
    for one, other in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)
    with torch.device("meta"):
        model = stack()
    assert [entry.scheme for entry in materialize_(model, rules, seed=7)] == [entry.scheme for entry in entries]
    for one, other in zip(together.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other.to(one.dtype))
        assert one.stride() == other.stride()


def test_a_rule_that_is_a_function_is_asked_once_for_each_parameter():
    asked = []

    def choose(owner, name, parameter):
        asked.append(name)
        return None if name.startswith("1") else "he_normal" if name.startswith("0") else "xavier_normal"

    model = nn.Sequential(*[nn.Linear(4, 4, bias=False) for _ in range(4)])
    before = model[1].weight.clone()
    report = init_module_(model, {"*": choose}, seed=7)
    assert asked == ["0.weight", "1.weight", "2.weight", "3.weight"]
    assert torch.equal(model[1].weight, before)
    assert [str(entry.scheme) for entry in report] == ["he_normal", "None", "xavier_normal", "xavier_normal"]
    assert is_same(model[3].weight, filled((4, 4), "xavier_normal", name="3.weight"))


def test_a_parameter_that_a_function_exchanges_is_filled_as_it_is_then():
    model = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(4)])
    with torch.no_grad():
        small = torch.zeros(2, 2)

    def choose(owner, name, parameter):
        if name == "3.weight":
            model[1].weight.data = small
            model[2].weight.data = torch.zeros(8, 8, dtype=torch.float64)
        return "normal"

    init_module_(model, {"*": choose}, seed=7)
    assert is_same(model[1].weight, filled((2, 2), "normal", name="1.weight"))
    assert is_same(model[2].weight, filled((8, 8), "normal", "float64", name="2.weight"))
    assert is_same(model[3].weight, filled((8, 8), "normal", name="3.weight"))


class Exchanging(nn.Module):
    """A parametrization whose code gives another layer other memory."""

    def __init__(self, other, memory):
        super().__init__()
        self.others, self.memory = (other,), memory

    def forward(self, weight):
        self.others[0].weight.data = self.memory
        return weight * 1

    def right_inverse(self, weight):
        return self.forward(weight)


class ExchangingTensor(torch.Tensor):
    """A parameter whose code gives another layer other memory, whatever is asked of it."""

    exchange = staticmethod(lambda: None)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.exchange()
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.parametrize("memory", [torch.zeros(2, 2), torch.zeros(8, 8).t()], ids=["smaller", "transposed"])
@pytest.mark.parametrize("by", ["a parametrization", "a parameter"])
def test_a_parameter_that_code_of_another_exchanges_is_filled_as_it_is_then(monkeypatch, by, memory):
    model = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(3)])
    if by == "a parametrization":
        parametrize.register_parametrization(model[2], "weight", Exchanging(model[1], memory), unsafe=True)
        model[1].weight.data = torch.zeros(8, 8)
    else:
        model[2].weight = nn.Parameter(torch.zeros(8, 8).as_subclass(ExchangingTensor))
        monkeypatch.setattr(ExchangingTensor, "exchange", lambda: setattr(model[1].weight, "data", memory))
    init_module_(model, {"*": "normal"}, seed=7)
    assert is_same(model[1].weight, filled(memory.shape, "normal", name="1.weight"))


def test_autograd_sees_what_was_written_before_an_interrupt(monkeypatch):
    model = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(4)])
    versions = [parameter._version for parameter in model.parameters()]

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(plain, "fill_plans", interrupt)
    with contextlib.suppress(KeyboardInterrupt):
        init_module_(model, {"*": "normal"}, seed=7)
    assert all(p._version > version for p, version in zip(model.parameters(), versions, strict=True))


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(4, 1, 3, 3), (1, 4, 1, 1), (4, 6, 3, 3), (0, 3, 2, 2)])
def test_parameters_from_the_meta_device_keep_their_strides(form, shape):
    with torch.device("meta"):
        model = nn.Conv2d(1, 1, 1, bias=False)
        model.weight = nn.Parameter(torch.empty(shape).to(memory_format=form), requires_grad=False)
        model.weight.mark = "kept"
    expected = torch.empty_like(model.weight).stride()
    materialize_(model, {"*": "normal"}, seed=7)
    assert model.weight.stride() == expected
    assert type(model.weight) is nn.Parameter
    assert not model.weight.requires_grad
    assert model.weight.mark == "kept"


def test_no_parameter_is_written_where_one_like_those_before_is_refused():
    model = nn.Sequential(*[nn.Linear(4, 4, bias=False) for _ in range(4)])
    with torch.no_grad():
        for layer in model:
            layer.weight.zero_()
    model[3].weight.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match=r"3\.weight"):
        init_module_(model, {"*": "normal"}, seed=7)
    assert not any(layer.weight.any() for layer in model[:3])
