"""accelerate: unchanged code draws with init_, nothing else changes, and everything is as it was afterwards."""

import copy
import functools
import gc
import io
import math
import pickle
import subprocess
import sys
import threading
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import ClassVar

import pytest
from processes import PATIENCE

torch = pytest.importorskip("torch")

from torch import manual_seed as manual_seed_by_name  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.init import trunc_normal_ as cut_normal_  # noqa: E402

from winit_fast import adapters  # noqa: E402

pytestmark = pytest.mark.frameworks

init_ = adapters.torch.init_
accelerate = adapters.torch.accelerate
INIT = nn.init
FUNCTIONS = {name: value for name, value in vars(INIT).items() if isinstance(value, types.FunctionType)}

# What a call does, and the scheme that it stands for.
CALLS = {
    "uniform_": (lambda w: INIT.uniform_(w, -0.1, b=0.2), "uniform(-0.1, 0.2, 'below_high')"),
    "normal_": (lambda w: INIT.normal_(w, 1.0, std=0.02), "normal(1, 0.02)"),
    "trunc_normal_": (lambda w: INIT.trunc_normal_(w, std=0.5, a=-1.0, b=1.5), "truncated_normal(0, 0.5, -2, 3)"),
    "xavier_uniform_": (lambda w: INIT.xavier_uniform_(w, gain=2.0), "xavier_uniform(2)"),
    "xavier_normal_": (lambda w: INIT.xavier_normal_(tensor=w), "xavier_normal"),
    "kaiming_uniform_": (lambda w: INIT.kaiming_uniform_(w, nonlinearity="relu"), "he_uniform"),
    "kaiming_normal_": (lambda w: INIT.kaiming_normal_(w, 0, "fan_out", "relu"), "he_normal(mode='fan_out')"),
    "orthogonal_": (lambda w: INIT.orthogonal_(w, 1.5), "orthogonal(1.5)"),
    "sparse_": (lambda w: INIT.sparse_(w, 0.25), "sparse(0.25)"),
    "normal_ of a tensor": (lambda w: w.data.normal_(mean=1.0, std=0.5), "normal(1, 0.5)"),
    "normal_ of a tensor, defaults": (lambda w: w.detach().normal_(), "normal"),
    "uniform_ of a tensor": (lambda w: w.data.uniform_(-0.5, 0.5), "uniform(-0.5, 0.5, 'below_high')"),
    "uniform_ of a tensor, by name": (lambda w: w.data.uniform_(**{"from": -1}, to=2), "uniform(-1, 2, 'below_high')"),
    "a name bound at import": (lambda w: cut_normal_(w, a=-1.0, b=1.0), "truncated_normal(low=-1, high=1)"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_is_left():
    before = held_by_modules()
    yield
    after = held_by_modules()
    assert {key: after[key] for key in before if key[0] in sys.modules} == {
        key: value for key, value in before.items() if key[0] in sys.modules
    }
    assert not any(value.__module__ == adapters.torch.acceleration.__name__ for value in after.values())
    assert torch.overrides._len_torch_function_stack() == 0


def held_by_modules():
    """Every function of torch.nn.init, or what stands for one, that a module holds by name."""
    names = FUNCTIONS.keys()
    return {
        (module_name, name): value
        for module_name, module in list(sys.modules.items())
        for name, value in list((getattr(module, "__dict__", None) or {}).items())
        if type(value) is types.FunctionType and value.__name__ in names
    }


def built(make=lambda: nn.Linear(24, 16), **arguments):
    with accelerate(**arguments):
        return make()


def equal(one, other):
    if one.state_dict().keys() != other.state_dict().keys():
        return False
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


# Values


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_a_call_fills_as_init_does(call, dtype):
    run, scheme = call
    weight = nn.Parameter(torch.empty(24, 16, dtype=dtype))
    with accelerate(seed=5):
        INIT.uniform_(torch.empty(3))
        result = run(weight)
    assert result is weight or result.data_ptr() == weight.data_ptr()
    expected = init_(torch.empty_like(weight), scheme, seed=5, name=1)
    bounds = {"xavier_uniform(2)": 2 * math.sqrt(6 / 40), "he_uniform": math.sqrt(6 / 16)}
    if scheme in bounds and dtype.itemsize < 4:  # which stay below their upper bound
        bound = torch.tensor(bounds[scheme], dtype=dtype)
        expected.data[expected == bound] = torch.nextafter(bound, -bound)
    assert torch.equal(weight, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_uniform_values_are_below_the_upper_bound_in_their_own_type(dtype):
    with accelerate(seed=5):
        drawn = [
            torch.empty(100_000, dtype=dtype).uniform_(),
            INIT.uniform_(torch.empty(100_000, dtype=dtype)),
            nn.Parameter(torch.empty(100_000, dtype=dtype)).data.uniform_(to=1.0),
        ]
    assert all(bool((values < 1).all()) and bool(torch.log1p(-values).isfinite().all()) for values in drawn)


def test_where_a_type_has_no_number_between_the_bounds_torchs_values_are_there():
    with accelerate(seed=5):
        for narrow in (torch.empty(9, dtype=torch.bfloat16).uniform_(1.0001, 1.0002),
                       INIT.uniform_(torch.empty(9, dtype=torch.float16), -1.0002, -1.0001)):  # fmt: skip
            assert bool((narrow.abs() == 1).all())
        assert torch.equal(torch.empty(3).normal_(), init_(torch.empty(3), "normal", seed=5, name=0))


def test_calls_that_draw_are_numbered():
    with accelerate(seed=5):
        layers = nn.Linear(24, 16), nn.LayerNorm(8), nn.Embedding(10, 4, padding_idx=3)
        INIT.zeros_(layers[1].bias)
        INIT.normal_(torch.empty(0))
        last = torch.empty(7).normal_()
    uniform = f"uniform({-(24**-0.5)}, {24**-0.5})"
    assert torch.equal(layers[0].bias, init_(torch.empty(16), uniform, seed=5, name=1))
    embedding = init_(torch.empty(10, 4), "normal", seed=5, name=2)
    embedding[3] = 0.0
    assert torch.equal(layers[2].weight, embedding)
    assert torch.equal(last, init_(torch.empty(7), "normal", seed=5, name=4))


@pytest.mark.parametrize("name", ["uniform", "normal", "xavier_uniform", "xavier_normal", "kaiming_uniform",
                                  "kaiming_normal", "orthogonal", "eye"])  # fmt: skip
def test_old_names_warn_and_are_the_new_ones(name):
    old, new = torch.empty(2, 24, 16)
    with accelerate(seed=5), pytest.warns(FutureWarning, match=f"`nn.init.{name}` is now deprecated"):
        getattr(INIT, name)(old)
    with accelerate(seed=5):
        getattr(INIT, f"{name}_")(new)
    assert torch.equal(old, new)


def test_functions_held_in_other_ways_are_rerouted():
    class Layer:
        fill = staticmethod(FUNCTIONS["trunc_normal_"])

    partial = functools.partial(FUNCTIONS["trunc_normal_"], std=0.5, a=-1.0, b=1.0)
    with accelerate(seed=5):
        one, two = partial(torch.empty(64)), Layer.fill(torch.empty(64), 0.0, 0.5, -1.0, 1.0)
    for number, tensor in enumerate((one, two)):
        assert torch.equal(tensor, init_(torch.empty(64), "truncated_normal(std=0.5)", seed=5, name=number))


@pytest.mark.parametrize(
    "fill",
    [
        lambda w: INIT.eye_(w),
        lambda w: INIT.dirac_(w[:, :, None], 2),
        lambda w: INIT.constant_(w, 0.1),
        lambda w: INIT.ones_(w),
        lambda w: INIT.zeros_(w),
    ],
)
def test_what_draws_nothing_is_the_same_as_without(fill):
    ours, theirs = torch.empty(2, 24, 16, dtype=torch.bfloat16)
    with accelerate(seed=5):
        fill(ours)
        first = torch.empty(3).normal_()
    fill(theirs)
    assert torch.equal(ours, theirs)
    assert torch.equal(first, init_(torch.empty(3), "normal", seed=5, name=0))


def test_one_seed_repeats_itself_and_two_differ():
    assert equal(built(seed=5), built(seed=5))
    assert not equal(built(seed=5), built(seed=6))


def test_threads_change_nothing():
    def make():
        return nn.Linear(1 << 10, 1 << 10)

    assert equal(built(make, seed=5, threads=1), built(make, seed=5, threads=3))


def test_without_a_seed_torchs_generator_governs():
    torch.manual_seed(3)
    one, two = built(), built()
    after = torch.rand(())
    torch.manual_seed(3)
    assert equal(one, built())
    assert not equal(one, two)
    built()
    assert torch.equal(after, torch.rand(()))


RESEEDS = {
    "manual_seed": lambda: torch.manual_seed(3),
    "manual_seed imported by name": lambda: manual_seed_by_name(3),
    "the generator's own": lambda: torch.default_generator.manual_seed(3),
    "a state put back": lambda: torch.set_rng_state(torch.Generator().manual_seed(3).get_state()),
    "transformers": lambda: pytest.importorskip("transformers").set_seed(3),
    "accelerate": lambda: pytest.importorskip("accelerate.utils").set_seed(3),
    "lightning": lambda: pytest.importorskip("lightning_fabric").seed_everything(3, verbose=False),
}


@pytest.mark.parametrize("reseed", RESEEDS.values(), ids=RESEEDS)
@pytest.mark.parametrize("arguments", [{}, {"seed": 5, "until_reseeded": True}], ids=str)
def test_whatever_reseeds_torchs_generator_governs_what_follows(reseed, arguments):
    with accelerate(**arguments):
        before = nn.Linear(24, 16)
        reseed()
        one, two = nn.Linear(24, 16), nn.Linear(24, 16)
        reseed()
        again = nn.Linear(24, 16)
        torch.manual_seed(4)
        other = nn.Linear(24, 16)
        reseed()
        torch.rand(3)
        later = nn.Linear(24, 16)
        reseed()
        torch.rand(3)
        later_again = nn.Linear(24, 16)
    assert equal(one, again)
    assert equal(later, later_again)
    assert not any(equal(one, different) for different in (before, two, other, later))


def test_what_is_drawn_after_a_reseed_is_what_a_block_entered_after_it_draws():
    torch.manual_seed(3)
    expected = built(lambda: (nn.Linear(24, 16), nn.Linear(16, 8)))
    with accelerate():
        nn.Linear(3, 3)
        torch.manual_seed(3)
        layers = nn.Linear(24, 16), nn.Linear(16, 8)
    assert all(map(equal, layers, expected))


def test_a_call_with_a_generator_and_one_after_the_same_manual_seed_are_equal():
    generator = torch.Generator().manual_seed(42)
    with accelerate():
        given = INIT.trunc_normal_(torch.empty(50), generator=generator)
        torch.manual_seed(42)
        drawn = INIT.trunc_normal_(torch.empty(50))
    assert torch.equal(given, drawn)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_forked_generator_repeats_itself(is_first):
    with accelerate():
        if not is_first:
            nn.Linear(3, 3)
        with torch.random.fork_rng():
            one = nn.Linear(24, 16)
        two, three = nn.Linear(24, 16), nn.Linear(24, 16)
    assert equal(one, two)
    assert not equal(two, three)


def test_without_a_seed_calls_are_numbered_under_one_draw_while_nothing_else_draws():
    torch.manual_seed(3)
    with accelerate():
        drawn = [torch.empty(9).normal_() for _ in range(3)]
        other = torch.rand(())
        last = torch.empty(9).normal_()
    torch.manual_seed(3)
    seed = adapters.torch.plain.draw_seed(None)
    assert torch.equal(other, torch.rand(()))
    assert [torch.equal(x, init_(torch.empty(9), "normal", seed=seed, name=n)) for n, x in enumerate(drawn)] == [
        True
    ] * 3
    assert torch.equal(last, init_(torch.empty(9), "normal", seed=adapters.torch.plain.draw_seed(None)))


def test_a_block_that_draws_nothing_leaves_torchs_generator():
    state = torch.get_rng_state()
    with accelerate(), accelerate(skip=True):
        nn.Linear(3, 3)
    with accelerate():
        nn.LayerNorm(3)
        INIT.zeros_(torch.empty(3))
        INIT.uniform_(torch.empty(3), 0.5, 0.5)
    assert torch.equal(state, torch.get_rng_state())


def test_with_a_seed_alone_a_reseed_has_no_say():
    with accelerate(seed=5):
        expected = nn.Linear(24, 16), nn.Linear(24, 16)
    with accelerate(seed=5):
        one = nn.Linear(24, 16)
        torch.manual_seed(3)
        two = nn.Linear(24, 16)
    assert equal(one, expected[0])
    assert equal(two, expected[1])


def test_a_reseed_to_the_state_that_was_there_on_entering_is_one_too():
    torch.manual_seed(3)
    with accelerate(seed=5, until_reseeded=True):
        torch.manual_seed(3)
        one = nn.Linear(24, 16)
        torch.manual_seed(3)
        two = nn.Linear(24, 16)
    assert equal(one, two)


def test_who_asks_for_the_state_is_replaced_under_a_name_of_its_own():
    for _ in range(2):
        with accelerate():
            held = torch.get_rng_state
            assert pickle.loads(pickle.dumps(held)) is held
        assert torch.get_rng_state is not held
        assert pickle.loads(pickle.dumps(held)) is held


def test_calls_that_draw_nothing_are_numbered_after_a_reseed():
    with accelerate():
        torch.manual_seed(3)
        INIT.normal_(torch.empty(3), std=0.0)
        INIT.normal_(first := torch.empty(9))
    torch.manual_seed(3)
    assert torch.equal(first, init_(torch.empty(9), "normal", seed=adapters.torch.plain.draw_seed(None), name=1))


def test_until_reseeded_the_seed_governs():
    with accelerate(seed=5, until_reseeded=True):
        layer = nn.Linear(24, 16)
        torch.get_rng_state()
        layers = layer, nn.Linear(24, 16)
    with accelerate(seed=5):
        expected = nn.Linear(24, 16), nn.Linear(24, 16)
    assert all(map(equal, layers, expected))


def test_with_a_seed_torchs_generator_is_not_touched():
    state = torch.get_rng_state()
    built(seed=5)
    with accelerate(skip=True):
        nn.Linear(3, 3)
    assert torch.equal(state, torch.get_rng_state())


def test_a_given_generator_is_honoured_and_has_no_number():
    def draw():
        generator = torch.Generator().manual_seed(9)
        with accelerate(seed=5):
            return [
                INIT.normal_(torch.empty(8, 8), generator=generator),
                torch.empty(8, 8).uniform_(generator=generator),
                INIT.orthogonal_(torch.empty(8, 8), generator=generator),
                INIT.normal_(torch.empty(8, 8)),
            ]

    generator = torch.Generator().manual_seed(9)
    expected = [init_(torch.empty(8, 8), s, generator=generator) for s in ("normal", "uniform", "orthogonal")]
    expected.append(init_(torch.empty(8, 8), "normal", seed=5, name=0))
    assert all(map(torch.equal, draw(), expected))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"seed": -1}, ValueError),
        ({"seed": 1 << 64}, ValueError),
        ({"seed": "5"}, TypeError),
        ({"threads": 0}, ValueError),
    ],
)
def test_bad_arguments_raise_on_entering(arguments, error):
    with pytest.raises(error), accelerate(**arguments):
        pytest.fail("entered")


# Nothing else changes


def test_other_functions_are_torchs():
    def draw():
        torch.manual_seed(3)
        return [
            *(torch.randn(5), torch.rand(5), torch.normal(0.0, torch.ones(5)), torch.randperm(5), torch.ones(5) * 2),
            *(torch.empty(5).exponential_(), torch.empty(5).log_normal_(), torch.empty(5).bernoulli_(0.5)),
        ]

    expected = draw()
    with accelerate(seed=5):
        assert all(map(torch.equal, draw(), expected))


def test_names_say_what_they_stand_for():
    import inspect

    before = inspect.signature(INIT.kaiming_normal_)
    with accelerate(seed=5):
        assert inspect.signature(INIT.kaiming_normal_) == before
        assert INIT.kaiming_normal_.__doc__ == FUNCTIONS["kaiming_normal_"].__doc__


def test_everything_is_restored_after_an_exception():
    with pytest.raises(RuntimeError, match="from inside"), accelerate(seed=5):
        raise RuntimeError("from inside")
    assert all(getattr(INIT, name) is function for name, function in FUNCTIONS.items())


def test_modules_imported_inside_hold_the_originals_afterwards(tmp_path, monkeypatch):
    (tmp_path / "imported_inside.py").write_text("from torch.nn.init import normal_ as draw, kaiming_normal\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with accelerate(seed=5):
        import imported_inside

        drawn = imported_inside.draw(torch.empty(5))
    assert torch.equal(drawn, init_(torch.empty(5), "normal", seed=5, name=0))
    assert imported_inside.draw is FUNCTIONS["normal_"]
    assert imported_inside.kaiming_normal is FUNCTIONS["kaiming_normal"]
    monkeypatch.delitem(sys.modules, "imported_inside")


def test_a_function_kept_by_a_model_lives_on():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fill = INIT.normal_

    model = built(Model, seed=5)
    saved = io.BytesIO()
    torch.save({"fill": model.fill, "state": model.state_dict()}, saved)
    saved.seek(0)
    again = [
        pickle.loads(pickle.dumps(model.fill, protocol))
        for protocol in (*range(pickle.HIGHEST_PROTOCOL + 1), pickle.DEFAULT_PROTOCOL)
    ]
    loaded = torch.load(saved, weights_only=False)["fill"]
    module = model.fill.__module__.encode()
    older = pickle.loads(b"\x80\x04\x8c%c%s\x8c\x10_BY_NAME.normal_\x93." % (len(module), module))
    for kept in (model.fill, *again, loaded, older, copy.deepcopy(model).fill):
        torch.manual_seed(3)
        drawn = kept(torch.empty(5))
        torch.manual_seed(3)
        assert torch.equal(drawn, INIT.normal_(torch.empty(5)))


def test_as_a_decorator():
    make = accelerate(seed=5)(lambda: nn.Linear(24, 16))
    assert equal(make(), built(seed=5))
    assert equal(make(), built(seed=5))


def test_autograd_sees_the_write_and_refuses_what_it_refuses():
    weight = nn.Parameter(torch.empty(4, 4))
    version = weight._version
    with accelerate(seed=5):
        INIT.normal_(weight)
        assert weight._version == version + 1
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            weight.normal_()
        with torch.no_grad():
            weight.normal_()
        product = torch.ones(4, requires_grad=True) * 2
        product.normal_()
        product.sum().backward()  # torch's own: the gradient of what was overwritten is 0
    assert torch.equal(weight, init_(torch.empty(4, 4), "normal", seed=5, name=1))


# What init_ cannot fill


def expanded():
    return torch.empty(5, 1).expand(5, 3)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: INIT.normal_(torch.empty(5, dtype=torch.complex64)),
        lambda: torch.empty(5, dtype=torch.complex64).normal_(),
        lambda: INIT.zeros_(torch.empty(5, dtype=torch.int64)),
        lambda: INIT.constant_(torch.empty(5), float("inf")),
        lambda: INIT.eye_(torch.empty(5, 5, dtype=torch.int32)),
        lambda: INIT.normal_(torch.ones(5), std=float("inf")).isnan(),
        lambda: torch.cat(INIT.normal_(torch.nested.nested_tensor([torch.empty(3), torch.empty(4)])).unbind()),
        lambda: torch.func.vmap(lambda x: torch.empty(5).normal_() + x, randomness="same")(torch.zeros(3)),
        lambda: torch.func.vmap(lambda x: x.clone().uniform_(), randomness="different")(torch.zeros(3)),
    ],
)
def test_what_cannot_be_filled_is_torchs(draw):
    torch.manual_seed(3)
    expected = draw()
    torch.manual_seed(3)
    with accelerate(seed=5):
        assert torch.equal(draw(), expected)
        assert torch.equal(torch.empty(3).normal_(), init_(torch.empty(3), "normal", seed=5, name=0))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: INIT.normal_(torch.empty(5), std=-1.0),
        lambda: torch.empty(5).normal_(0.0, -1.0),
        lambda: INIT.uniform_(torch.empty(5), 1.0, 0.0),
        lambda: INIT.uniform_(torch.empty(5, dtype=torch.int64)),
        lambda: INIT.normal_(expanded()),
        lambda: INIT.xavier_normal_(torch.empty(5)),
        lambda: INIT.kaiming_normal_(torch.empty(5)),
        lambda: INIT.kaiming_normal_(torch.empty(5, 5), mode="fan"),
        lambda: INIT.kaiming_normal_(torch.empty(5, 5), nonlinearity="step"),
        lambda: INIT.orthogonal_(torch.empty(5)),
        lambda: INIT.sparse_(torch.empty(5), 0.1),
        lambda: INIT.eye_(torch.empty(5)),
        lambda: INIT.dirac_(torch.empty(5, 5)),
        lambda: INIT.dirac_(torch.empty(5, 5, 5), 2),
        lambda: INIT.normal_(torch.empty(5), 0.0, 1.0, 2.0, 3.0, 4.0),
        lambda: INIT.normal_(),
        lambda: torch.empty(5).uniform_(wrong=3),
        lambda: INIT.normal_(torch.empty(5).to_sparse()),
        lambda: INIT.normal_(torch.nested.nested_tensor([torch.empty(3), torch.empty(4)], layout=torch.jagged)),
        lambda: torch.empty(5, dtype=torch.int32).normal_(),
    ],
)
def test_errors_are_torchs(wrong):
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        wrong()
    with accelerate(seed=5), pytest.raises(type(theirs.value)) as ours:
        wrong()
    assert str(ours.value) == str(theirs.value)


def test_inference_tensors_are_filled_where_torch_fills_them():
    with torch.inference_mode(), accelerate(seed=5):
        weight = INIT.normal_(torch.empty(5))
    assert torch.equal(weight, init_(torch.empty(5), "normal", seed=5))
    with accelerate(seed=5), pytest.raises(RuntimeError, match="outside InferenceMode"):
        weight.normal_()


def test_strided_tensors_are_filled_by_their_logical_order():
    with accelerate(seed=5):
        INIT.normal_(transposed := torch.empty(6, 4).T)
        INIT.normal_(sliced := torch.zeros(8, 12)[::2, ::3])
    assert torch.equal(transposed, init_(torch.empty(4, 6), "normal", seed=5, name=0))
    assert torch.equal(sliced, init_(torch.empty(4, 4), "normal", seed=5, name=1))


def test_subclasses():
    class Plain(nn.Parameter):
        pass

    class Watching(torch.Tensor):
        seen: ClassVar = []

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            cls.seen.append(func)
            return super().__torch_function__(func, types, args, kwargs or {})

    plain, watching = Plain(torch.empty(4)), torch.empty(4).as_subclass(Watching)
    with accelerate(seed=5):
        INIT.normal_(watching)
        watching.normal_()
        INIT.normal_(plain)
    assert torch.Tensor.normal_ in Watching.seen
    assert torch.equal(plain, init_(torch.empty(4), "normal", seed=5, name=0))


def test_meta_and_fake_tensors():
    from torch._subclasses import FakeTensorMode

    with accelerate(seed=5):
        with torch.device("meta"):
            layer = nn.Linear(3, 3)
            INIT.trunc_normal_(layer.weight)
            INIT.orthogonal_(layer.weight)
        with FakeTensorMode():
            fake = nn.Linear(3, 3)
        with torch.device("cpu"):
            real = torch.empty(3).normal_()
    assert layer.weight.is_meta
    assert type(fake.weight.data).__name__ == "FakeTensor"
    assert torch.equal(real, init_(torch.empty(3), "normal", seed=5, name=0))
    with torch.device("meta"), accelerate(seed=5):
        assert nn.Linear(3, 3).weight.is_meta


def test_tracing_sees_what_it_saw():
    from torch.fx.experimental.proxy_tensor import make_fx

    def code(x):
        return x + torch.empty(3).normal_()

    with accelerate(seed=5):
        assert "normal" in make_fx(code)(torch.zeros(3)).code


# Modules

MODULES = {
    "Linear": lambda: nn.Linear(8, 6),
    "Bilinear": lambda: nn.Bilinear(4, 5, 6),
    "Conv1d": lambda: nn.Conv1d(4, 6, 3),
    "Conv2d": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "Conv3d": lambda: nn.Conv3d(4, 6, 3),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(4, 6, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(4, 6, 3),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(4, 6, 3),
    "Embedding": lambda: nn.Embedding(10, 4, padding_idx=2),
    "EmbeddingBag": lambda: nn.EmbeddingBag(10, 4),
    "RNN": lambda: nn.RNN(4, 5, 2, bidirectional=True),
    "LSTM": lambda: nn.LSTM(4, 5, proj_size=3),
    "GRU": lambda: nn.GRU(4, 5),
    "RNNCell": lambda: nn.RNNCell(4, 5),
    "LSTMCell": lambda: nn.LSTMCell(4, 5),
    "GRUCell": lambda: nn.GRUCell(4, 5),
    "BatchNorm1d": lambda: nn.BatchNorm1d(4),
    "BatchNorm2d": lambda: nn.BatchNorm2d(4),
    "BatchNorm3d": lambda: nn.BatchNorm3d(4),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(4),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(4, affine=True),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
    "LayerNorm": lambda: nn.LayerNorm(4),
    "RMSNorm": lambda: nn.RMSNorm(4),
    "PReLU": lambda: nn.PReLU(4),
    "MultiheadAttention": lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True),
    "MultiheadAttention, other widths": lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=6),
    "Transformer": lambda: nn.Transformer(8, 2, 1, 1, 16),
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 10]),
    "spectral_norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
}


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_every_layer_of_torch_repeats_itself_and_leaves_the_generator(make):
    state = torch.get_rng_state()
    with accelerate(seed=5):
        first = make()
    if make is not MODULES["spectral_norm"]:  # which draws with torch.randn
        assert torch.equal(state, torch.get_rng_state())
        assert equal(first, built(make, seed=5))
    assert {name: value.shape for name, value in first.state_dict().items()} == {
        name: value.shape for name, value in make().state_dict().items()
    }
    assert all(value.isfinite().all() for value in first.state_dict().values())


def test_lazy_modules_draw_when_they_meet_their_input():
    with accelerate(seed=5):
        layer = nn.LazyLinear(6)
        layer(torch.ones(2, 8))
    assert equal(layer, built(lambda: nn.Linear(8, 6), seed=5))


# Nesting, threads, processes


def test_the_inner_block_governs_and_the_outer_goes_on():
    with accelerate(seed=5):
        INIT.normal_(torch.empty(3))
        inner = built(seed=6)
        with accelerate(skip=True):
            untouched = INIT.normal_(torch.full((3,), 7.0))
        outer = torch.empty(3).normal_()
        assert INIT.normal_ is not FUNCTIONS["normal_"]
    assert equal(inner, built(seed=6))
    assert torch.equal(untouched, torch.full((3,), 7.0))
    assert torch.equal(outer, init_(torch.empty(3), "normal", seed=5, name=1))


def test_blocks_in_many_threads_do_not_disturb_each_other():
    def make():
        return nn.Transformer(16, 2, 1, 1, 32)

    alone = [built(make, seed=seed) for seed in range(4)]
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        return [built(make, seed=number % 4) for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        for number, models in enumerate(pool.map(work, range(8))):
            assert all(equal(model, alone[number % 4]) for model in models)


def test_a_thread_outside_is_untouched():
    inside, done = threading.Event(), threading.Event()
    drawn = {}

    def outside():
        inside.wait()
        generator = torch.Generator().manual_seed(3)
        drawn["function"] = INIT.xavier_normal_(torch.empty(4, 4), generator=generator)
        drawn["method"] = torch.empty(4).normal_(generator=generator)
        drawn["is skipped"] = (INIT.normal_(torch.ones(3)) == 1).any()
        done.set()

    thread = threading.Thread(target=outside)
    thread.start()
    with accelerate(skip=True):
        inside.set()
        done.wait()
    thread.join()
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(drawn["function"], INIT.xavier_normal_(torch.empty(4, 4), generator=generator))
    assert torch.equal(drawn["method"], torch.empty(4).normal_(generator=generator))
    assert not drawn["is skipped"]


def test_a_copied_context_does_not_govern_another_thread():
    import contextvars

    with accelerate(skip=True):
        context = contextvars.copy_context()
        with ThreadPoolExecutor(1) as pool:
            assert not (pool.submit(context.run, INIT.normal_, torch.ones(3)).result() == 1).any()


class Drawing(torch.utils.data.Dataset):
    """Draws in the worker: a layer of a block of its own, and an augmentation outside of one."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        with accelerate(seed=index):
            layer = nn.Linear(64, 64)
        return layer.weight.detach(), torch.empty(5).uniform_()


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
def test_workers_of_a_data_loader():
    loader = torch.utils.data.DataLoader(Drawing(), num_workers=2, multiprocessing_context="fork", timeout=PATIENCE)
    with warnings.catch_warnings(), accelerate(seed=5):
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking while other threads run
        nn.Linear(1 << 10, 1 << 10)
        items = list(loader)
    for index, (weight, _) in enumerate(items):
        assert torch.equal(weight[0], built(lambda: nn.Linear(64, 64), seed=index).weight)
    assert len({tuple(noise[0].tolist()) for _, noise in items}) == 4  # workers differ, as without the block


# torch.compile


def drawing():
    weight = INIT.xavier_normal_(torch.empty(8, 8))
    return INIT.trunc_normal_(torch.empty(8, 8)) + weight.uniform_(-1, 1) * 2


def test_compiled_callers_leave_their_graph():
    compiled = torch.compile(drawing, backend="eager")
    expected = built(drawing, seed=5)
    for _ in range(2):
        assert torch.equal(built(compiled, seed=5), expected)
    assert not torch.equal(compiled(), expected)
    torch._dynamo.reset()


def test_a_block_in_compiled_code():
    def code():
        with accelerate(seed=5):
            return drawing()

    assert torch.equal(torch.compile(code, backend="eager")(), built(drawing, seed=5))
    torch._dynamo.reset()


def test_a_compiled_model_keeps_its_graph():
    model = built(lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU()), seed=5)
    compiled, x = torch.compile(model, backend="eager", fullgraph=True), torch.ones(2, 8)
    with accelerate(seed=5):
        assert torch.equal(compiled(x), model(x))
    torch._dynamo.reset()


# skip


DRAW_NOTHING = {"zeros_": [], "ones_": [], "constant_": [2.0], "eye_": [], "dirac_": []}
DRAW = [name for name in FUNCTIONS if name.endswith("_") and not name.startswith("_") and name not in DRAW_NOTHING]


@pytest.mark.parametrize("name", DRAW)
def test_skip_leaves_what_would_be_drawn_as_it_is(name):
    weight = torch.full((4, 6), 7.0)
    arguments = [0.1] if name == "sparse_" else []
    with accelerate(skip=True):
        assert getattr(INIT, name)(weight, *arguments) is weight
        assert weight.normal_() is weight
        assert weight.uniform_(0, 1) is weight
        held = functools.partial(FUNCTIONS["trunc_normal_"], a=-1.0, b=1.0)
        assert held(weight) is weight
    assert (weight == 7.0).all()


@pytest.mark.parametrize("name", DRAW_NOTHING)
def test_skip_does_what_draws_nothing(name):
    weight = torch.full((4, 6, 3) if name == "dirac_" else (4, 6), 7.0)
    expected = getattr(INIT, name)(weight.clone(), *DRAW_NOTHING[name])
    with accelerate(skip=True):
        assert getattr(INIT, name)(weight, *DRAW_NOTHING[name]) is weight
    assert torch.equal(weight, expected)


@pytest.mark.parametrize("arguments", [{}, {"seed": 5, "until_reseeded": True}, {"skip": True}], ids=str)
def test_a_block_can_be_entered_in_a_fake_mode(arguments):
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode(), accelerate(**arguments):
        layer = nn.Linear(3, 3)
    assert type(layer.weight.data).__name__ == "FakeTensor"


def test_skip_leaves_tensors_of_every_kind_as_they_are():
    from torch._subclasses import FakeTensorMode

    class Watching(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            return super().__torch_function__(func, types, args, kwargs or {})

    with accelerate(skip=True):
        for tensor in (
            torch.eye(3).to_sparse(),
            torch.empty(3, device="meta"),
            torch.empty(0, 3),
            torch.ones(3).as_subclass(Watching),
            torch.ones(3, dtype=torch.int64),
            torch.nested.nested_tensor([torch.ones(3), torch.ones(4)], layout=torch.jagged),
        ):
            assert INIT.normal_(tensor) is tensor
            tensor.zero_()
        with FakeTensorMode():
            layer = nn.Linear(3, 3)
            layer.weight.data.copy_(torch.ones(3, 3))
        assert torch.func.vmap(lambda x: INIT.normal_(x.clone()).copy_(x))(torch.ones(2, 3)).sum() == 6


def test_skip_leaves_what_is_not_initialization():
    with accelerate(skip=True):
        layer, norm = nn.Embedding(5, 3, padding_idx=1), nn.BatchNorm1d(3)
        assert torch.zeros(3).fill_(2.0).sum() == 6.0
    assert not layer.weight[1].any()
    assert torch.equal(norm.running_var, torch.ones(3))
    assert torch.equal(norm.weight, torch.ones(3))


def test_a_checkpoint_is_loaded_after_skip():
    def make():
        return nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6), nn.BatchNorm1d(6))

    checkpoint = make().state_dict()
    model = built(make, skip=True)
    model.load_state_dict(checkpoint)
    assert all(torch.equal(value, checkpoint[name]) for name, value in model.state_dict().items())


class Loaded(nn.Module):
    """A body that a checkpoint holds, and a head that it may not hold."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Embedding(10, 8, padding_idx=0), nn.Linear(8, 6), nn.LayerNorm(6))
        self.head = nn.Linear(6, 3)


def checkpoint_without_head():
    return {name: value for name, value in Loaded().state_dict().items() if not name.startswith("head")}


def test_what_a_checkpoint_loaded_in_a_block_does_not_hold_is_warned_about():
    def load():
        with accelerate(skip=True):
            Loaded().load_state_dict(checkpoint_without_head(), strict=False)
            model = Loaded()
            model.load_state_dict(checkpoint_without_head(), strict=False)

    words = r"skip=True left 2 tensors uninitialized .* of shapes \[\(3, 6\), \(3,\)\]"
    with pytest.warns(UserWarning, match=words) as seen:
        load()
    assert seen[0].filename == __file__


@pytest.mark.parametrize("finish", [
    lambda model: None,
    lambda model: model.load_state_dict(Loaded().state_dict()),
    lambda model: (model.load_state_dict(checkpoint_without_head(), strict=False),
                   INIT.zeros_(model.head.weight), model.head.bias.data.zero_()),
    lambda model: (model.load_state_dict(checkpoint_without_head(), strict=False), delattr(model, "head")),
])  # fmt: skip
def test_nothing_is_warned_about_where_nothing_is_missing(finish):
    with warnings.catch_warnings(), accelerate(skip=True):
        warnings.simplefilter("error")
        model = Loaded()
        finish(model)
        gc.collect()


def load_without_head(model):
    model.load_state_dict(checkpoint_without_head(), strict=False)


class LoadedByData(Loaded):
    """Draws as many models do: through `.data`, or a tensor detached."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 3, bias=False)
        for parameter in self.body.parameters():
            parameter.data.normal_(0, 0.02)
        self.head.weight.data.normal_(0, 0.02)


class LoadedByDetach(LoadedByData):
    def __init__(self):
        super().__init__()
        INIT.normal_(self.head.weight.detach())


@pytest.mark.parametrize("make", [LoadedByData, LoadedByDetach])
def test_what_was_drawn_through_data_is_warned_about_too(make):
    def load():
        with accelerate(skip=True):
            model = make()
            load_without_head(model)

    with pytest.warns(UserWarning, match=r"skip=True left 1 tensors uninitialized .* of shapes \[\(3, 6\)\]"):
        load()


def inner_block(model):
    with accelerate(seed=0):
        INIT.normal_(model.head.weight)
        model.head.bias.data.zero_()


def inner_block_by_data(model):
    with accelerate(seed=0):
        model.head.weight.data.normal_()
        INIT.zeros_(model.head.bias)


def assigned(model):
    with torch.no_grad():
        model.head.weight[:] = torch.ones(3, 6)
        model.head.bias.mul_(0)


WRITES = {
    "init_": lambda model: (init_(model.head.weight, "he_normal"), init_(model.head.bias, "zeros")),
    "an inner block": inner_block,
    "an inner block, by data": inner_block_by_data,
    "assigned": assigned,
    "methods of data": lambda model: (model.head.weight.data.fill_(1), model.head.bias.data.mul_(0)),
}


@pytest.mark.parametrize("make", [Loaded, LoadedByData])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.filterwarnings("error")
def test_what_was_written_after_it_was_skipped_is_not_warned_about(write, make):
    with accelerate(skip=True):
        model = make()
        model.head.bias = model.head.bias if make is Loaded else nn.Parameter(torch.zeros(3))
        write(model)
        load_without_head(model)


@pytest.mark.filterwarnings("error")
def test_skip_leaves_tensors_of_inference_mode():
    with torch.inference_mode(), accelerate(skip=True):
        model = LoadedByDetach()
    assert model.head.weight.is_inference()


def test_a_copy_that_is_no_checkpoint_does_not_count_as_one():
    with accelerate(skip=True):
        one, other = Loaded(), Loaded()
        for source, target in zip(one.parameters(), other.parameters(), strict=True):
            target.data.copy_(source.data)
    for model in (one, other):
        model.load_state_dict(Loaded().state_dict())


def test_no_python_code_runs_as_skipped_memory_goes():
    """It would swallow an interrupt."""
    called = []

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_name == "__del__":
            called.append(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        with accelerate(skip=True):
            for _ in range(3):
                nn.Linear(3, 4)
    finally:
        sys.setprofile(before)
    assert called == []


def test_what_was_skipped_is_known_by_its_memory_and_not_by_an_object_of_python():
    @accelerate(skip=True)
    def load():
        gone, kept = nn.Linear(5, 6), nn.Linear(3, 4)
        view = kept.weight.data.view(-1)  # which alone has the memory in the end
        del gone, kept.weight
        for _ in range(10):
            gc.collect()
            torch.empty(6, 5), torch.empty(6)  # where that of `gone` was
        nn.Linear(3, 4).load_state_dict({"weight": torch.ones(4, 3), "bias": torch.ones(4)})
        kept.load_state_dict({"bias": torch.ones(4)})
        return view

    with pytest.warns(UserWarning, match=r"left 1 tensors uninitialized .* of shapes \[\(4, 3\)\]"):
        view = load()
    assert view.numel() == 12


def test_tensors_are_named_as_torch_names_them():
    with accelerate(skip=True):
        assert torch.equal(torch.fill_(input=torch.empty(3), value=1.0), torch.ones(3))
        assert torch.equal(torch.zero_(input=torch.empty(3)), torch.zeros(3))


# Hugging Face


@pytest.fixture(scope="session")
def transformers():
    return pytest.importorskip("transformers", minversion="5")


def small_models(transformers):
    t = transformers
    width = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {
        "GPT-2": lambda: t.GPT2LMHeadModel(
            t.GPT2Config(vocab_size=500, n_positions=128, n_embd=128, n_layer=2, n_head=4)
        ),
        "Llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(vocab_size=500, num_key_value_heads=2, **width)),
        "T5": lambda: t.T5ForConditionalGeneration(
            t.T5Config(vocab_size=500, d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4)
        ),
        "ViT": lambda: t.ViTForImageClassification(t.ViTConfig(image_size=64, patch_size=8, **width)),
    }


@pytest.mark.parametrize("name", ["GPT-2", "Llama", "T5", "ViT"])
def test_models_of_transformers_have_the_same_moments(transformers, name):
    make = small_models(transformers)[name]
    torch.manual_seed(3)
    theirs = make().state_dict()
    model = built(make, seed=5)
    ours = model.state_dict()
    assert equal(model, built(make, seed=5))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        size, other = value.numel(), theirs[key]
        if other.float().std(correction=0) == 0.0:
            assert torch.equal(value, other), key
            continue
        std = other.std()
        assert not torch.equal(value, other), key
        assert (value.mean() - other.mean()).abs() < 7 * std / size**0.5, key
        assert abs(value.std() / std - 1) < 7 / size**0.5, key


def test_transformers_functions_are_rerouted(transformers):
    from transformers import initialization

    kept = dict(initialization.TORCH_INIT_FUNCTIONS)
    with accelerate(seed=5):
        cut = initialization.trunc_normal_(torch.empty(5, 6), std=0.5, a=-1.0, b=1.0)
        narrow = initialization.orthogonal_(torch.empty(6, 6, dtype=torch.bfloat16))
    assert torch.equal(cut, init_(torch.empty(5, 6), "truncated_normal(std=0.5)", seed=5, name=0))
    assert torch.equal(narrow, init_(torch.empty(6, 6), "orthogonal", seed=5, name=1).bfloat16())
    assert kept == initialization.TORCH_INIT_FUNCTIONS
    assert all(kept[name] is FUNCTIONS[name] for name in kept)


def test_marked_tensors_are_left_as_they_are(transformers):
    from transformers import initialization

    weight = nn.Parameter(torch.full((3, 4), 7.0))
    weight._is_hf_initialized = True
    with accelerate(seed=5), torch.no_grad():
        for functions in (initialization, INIT):
            functions.normal_(weight)
            functions.trunc_normal_(weight)
            functions.zeros_(weight)
        weight.normal_()
        weight._is_hf_initialized = False
        assert (weight == 7.0).all()
        INIT.normal_(weight)
    assert torch.equal(weight, init_(torch.empty(3, 4), "normal", seed=5, name=0))


@contextmanager
def both(*contexts):
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


@pytest.mark.parametrize("is_ours_outside", [True, False])
def test_nests_with_transformers_guard(transformers, is_ours_outside):
    from transformers import initialization

    guard, ours = initialization.guard_torch_init_functions(), accelerate(seed=5)
    with both(*((ours, guard) if is_ours_outside else (guard, ours))):
        assert INIT.normal_ is initialization.normal_
        layer = nn.Linear(24, 16)
        marked = torch.full((3,), 7.0)
        marked._is_hf_initialized = True
        INIT.trunc_normal_(marked)
    assert equal(layer, built(seed=5))
    assert (marked == 7.0).all()
    assert INIT.normal_ is FUNCTIONS["normal_"]


@pytest.mark.parametrize("is_ours_outside", [True, False])
def test_nests_with_transformers_no_init_weights(transformers, is_ours_outside):
    from transformers import initialization

    nothing, ours = initialization.no_init_weights(), accelerate(seed=5)
    with both(*((ours, nothing) if is_ours_outside else (nothing, ours))):
        weight = torch.full((3, 3), 7.0)
        INIT.normal_(weight)
        small_models(transformers)["GPT-2"]()
    assert (weight == 7.0).all()
    assert INIT.normal_ is FUNCTIONS["normal_"]


def test_guards_left_in_another_order_heal(transformers):
    from transformers import initialization

    guard, ours = initialization.guard_torch_init_functions(), accelerate(seed=5)
    ours.__enter__()
    guard.__enter__()
    ours.__exit__(None, None, None)
    guard.__exit__(None, None, None)  # puts back what it found: our replacements, which now are the originals
    torch.manual_seed(3)
    drawn = INIT.normal_(torch.empty(3))
    torch.manual_seed(3)
    assert torch.equal(drawn, FUNCTIONS["normal_"](torch.empty(3)))
    built(seed=5)
    assert INIT.normal_ is FUNCTIONS["normal_"]


def test_a_checkpoint_of_transformers_is_loaded_in_a_block(transformers, tmp_path):
    model = small_models(transformers)["Llama"]()
    model.save_pretrained(tmp_path)
    for arguments in ({"seed": 5}, {"skip": True}):
        assert equal(built(lambda: transformers.LlamaForCausalLM.from_pretrained(tmp_path), **arguments), model)


@pytest.mark.parametrize("arguments", [{"skip": True}, {"skip": True, "seed": 5}, {"seed": 5}, {}], ids=str)
def test_a_new_head_is_drawn_while_transformers_loads_a_checkpoint(transformers, tmp_path, arguments):
    body = transformers.BertModel(
        transformers.BertConfig(vocab_size=50, hidden_size=64, num_hidden_layers=1, num_attention_heads=2,
                                intermediate_size=64, initializer_range=0.05)
    )  # fmt: skip
    body.save_pretrained(tmp_path)

    def load():
        with accelerate(**arguments):
            return transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=40)

    one, two = load(), load()
    for name, value in body.state_dict().items():
        assert name.startswith("pooler") or torch.equal(one.state_dict()[f"bert.{name}"], value), name
    assert abs(one.classifier.weight.std() / 0.05 - 1) < 7 / (40 * 64) ** 0.5
    assert not one.classifier.bias.any()
    assert torch.equal(one.classifier.weight, two.classifier.weight) == ("seed" in arguments)


def test_empty_weights_of_accelerate(transformers):
    init_empty_weights = pytest.importorskip("accelerate").init_empty_weights
    for contexts in ([accelerate(seed=5), init_empty_weights()], [init_empty_weights(), accelerate(seed=5)]):
        with both(*contexts):
            model = small_models(transformers)["GPT-2"]()
        assert all(parameter.is_meta for parameter in model.parameters())


def test_transformers_imported_in_a_block():
    pytest.importorskip("transformers", minversion="5")
    code = """
import torch
from winit_fast import adapters
with adapters.torch.accelerate(seed=5):
    from transformers import GPT2Config, GPT2Model, initialization
    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    one = GPT2Model(config)
with adapters.torch.accelerate(seed=5):
    two = GPT2Model(config)
assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))
assert all(getattr(torch.nn.init, name) is kept for name, kept in initialization.TORCH_INIT_FUNCTIONS.items())
assert torch.nn.init.normal_.__module__ == "torch.nn.init"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)


def test_no_tensor_is_kept():
    import weakref

    with accelerate(seed=5):
        weight = INIT.normal_(torch.empty(3))
        gone = weakref.ref(weight)
        del weight
        gc.collect()
        assert gone() is None


def test_blocks_that_end_in_another_order_leave_nothing_behind():
    first, second = adapters.torch.accelerate(seed=1), adapters.torch.accelerate(seed=2)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    inner = torch.nn.init.normal_(torch.empty(8))
    second.__exit__(None, None, None)
    with ThreadPoolExecutor(1) as pool, adapters.torch.accelerate(seed=3):
        pool.submit(lambda: None).result()
        torch.manual_seed(5)
        theirs = pool.submit(lambda: torch.nn.init.normal_(torch.empty(8))).result()
    torch.manual_seed(5)
    assert torch.equal(theirs, torch.empty(8).normal_())
    assert not torch.equal(inner, theirs)


def test_bfloat16_without_ml_dtypes_is_torchs(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    torch.manual_seed(5)
    with adapters.torch.accelerate(seed=0):
        weight = torch.nn.init.normal_(torch.empty(8, dtype=torch.bfloat16))
    torch.manual_seed(5)
    assert torch.equal(weight, torch.empty(8, dtype=torch.bfloat16).normal_())


# Who reads what was drawn: readers that PyTorch shows to no mode

SCRIPTED = torch.jit.CompilationUnit("def copy(weight):\n    return weight + 0\n")
READERS = {
    "another thread": lambda weight, pool: pool.submit(weight.clone).result(),
    "a function of C++": lambda weight, pool: torch.from_dlpack(torch._C._to_dlpack(weight)).clone(),
    "a scripted function": lambda weight, pool: SCRIPTED.copy(weight),
    "code outside of modes": lambda weight, pool: adapters.torch.blocks.call_unseen(weight.clone),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_whoever_reads_a_weight_between_two_draws_gets_the_first(read):
    with ThreadPoolExecutor(1) as pool, accelerate(seed=5):
        pool.submit(int).result()
        weight = nn.init.normal_(torch.empty(64, 64))
        first = read(weight, pool)
        nn.init.uniform_(weight)
    assert torch.equal(first, init_(torch.empty(64, 64), "normal", seed=5, name=0))
    assert torch.equal(weight, init_(torch.empty(64, 64), "uniform(rounding='below_high')", seed=5, name=1))


# Who sees a call


def test_a_call_of_ours_in_a_block_is_no_call_of_the_block():
    torch.manual_seed(3)
    alone = adapters.torch.normal_(torch.empty(9))
    with accelerate(seed=5):
        torch.manual_seed(3)
        assert torch.equal(adapters.torch.normal_(torch.empty(9)), alone)
        first = nn.init.normal_(torch.empty(9))
    assert torch.equal(first, init_(torch.empty(9), "normal", seed=5, name=0))


class Seen(torch.overrides.TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.names.append(getattr(function, "__name__", str(function)))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["normal_", "xavier_uniform_", "kaiming_normal_", "orthogonal_", "trunc_normal_"])
def test_no_mode_sees_what_a_block_does_to_fill(name):
    weight = torch.empty(8, 8)
    with accelerate(seed=5), Seen() as seen:
        getattr(nn.init, name)(weight)
    assert seen.names == []
    assert torch._C._is_torch_function_enabled()


def test_modes_see_pytorch_again_where_a_block_leaves_a_call_to_it():
    weight = torch.empty(8, 8, dtype=torch.complex64)
    with accelerate(seed=5), Seen() as seen:
        nn.init.normal_(weight)
    assert "normal_" in seen.names
