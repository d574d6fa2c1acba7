"""adapters.torch in the place of torch.nn.init: the same names, arguments, errors and distributions."""

import inspect
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import winit_fast

torch = pytest.importorskip("torch")
from winit_fast.adapters import torch as init  # noqa: E402
from winit_fast.adapters.torch.functions import _deviations  # noqa: E402

pytestmark = pytest.mark.frameworks

NAMES = [
    "uniform_", "normal_", "trunc_normal_", "constant_", "ones_", "zeros_", "eye_", "dirac_", "xavier_uniform_",
    "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_", "sparse_", "calculate_gain",
    "_calculate_fan_in_and_fan_out", "_calculate_correct_fan",
]  # fmt: skip
RANDOM = {
    "uniform_": (),
    "normal_": (),
    "trunc_normal_": (),
    "xavier_uniform_": (),
    "xavier_normal_": (),
    "kaiming_uniform_": (),
    "kaiming_normal_": (),
    "orthogonal_": (),
    "sparse_": (0.5,),
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(11)


def moments(tensor):
    """Mean, standard deviation, smallest and largest value, in float64."""
    values = tensor.detach().double()
    return [values.mean().item(), values.std().item(), values.min().item(), values.max().item()]


# Names and signatures


@pytest.mark.parametrize("name", NAMES)
def test_signatures_and_defaults_are_those_of_torch(name):
    ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (init, torch.nn.init))
    assert [(p.name, p.default, p.kind) for p in ours.values()] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]


def test_every_function_of_torch_is_there():
    public = set(getattr(torch.nn.init, "__all__", NAMES)) | {*NAMES, *DEPRECATED}
    assert public <= set(init.__all__)
    assert {name for name in public if not name.startswith("_")} <= set(dir(init))
    assert all(inspect.signature(getattr(init, name)) for name in public)


@pytest.mark.parametrize("name", [*RANDOM, "ones_", "zeros_", "eye_"])
def test_every_function_returns_the_tensor_that_it_filled(name):
    weight = torch.nn.Parameter(torch.full((6, 4), 9.0))
    assert getattr(init, name)(weight, *RANDOM.get(name, ())) is weight
    assert weight.requires_grad
    assert weight._version == 1
    assert not bool((weight == 9).all())


# Randomness


@pytest.mark.parametrize("name", RANDOM)
def test_a_generator_makes_random_functions_repeatable_and_advances(name):
    function = getattr(init, name)
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(7)
    first, second = (function(torch.empty(8, 6), *RANDOM[name], generator=generator) for _ in range(2))
    again = function(torch.empty(8, 6), *RANDOM[name], generator=torch.Generator().manual_seed(7))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", RANDOM)
def test_manual_seed_governs_random_functions_without_a_generator(name):
    function = getattr(init, name)
    torch.manual_seed(7)
    first, second = (function(torch.empty(8, 6), *RANDOM[name]) for _ in range(2))
    torch.manual_seed(7)
    assert torch.equal(first, function(torch.empty(8, 6), *RANDOM[name]))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", ["ones_", "zeros_", "eye_"])
def test_functions_that_draw_nothing_leave_the_generator_alone(name):
    state = torch.get_rng_state()
    getattr(init, name)(torch.empty(3, 3))
    assert torch.equal(torch.get_rng_state(), state)


# Distributions


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("uniform_", {"a": -3, "b": 2}, (400, 300)),
        ("uniform_", {}, (30, 20, 10, 20)),
        ("normal_", {"mean": -3.5, "std": 0.25}, (400, 300)),
        ("normal_", {}, (120_000,)),
        ("trunc_normal_", {}, (400, 300)),
        ("trunc_normal_", {"std": 0.02}, (400, 300)),
        ("trunc_normal_", {"mean": 0.3, "std": 0.5, "a": 0.0, "b": 0.4}, (400, 300)),
        ("trunc_normal_", {"mean": 1, "std": 2, "a": 0, "b": 3}, (400, 300)),
        ("xavier_uniform_", {}, (400, 300)),
        ("xavier_uniform_", {"gain": 2.5}, (60, 20, 10, 10)),
        ("xavier_normal_", {}, (400, 300)),
        ("xavier_normal_", {"gain": 0.3}, (60, 20, 10, 10)),
        ("kaiming_uniform_", {}, (400, 300)),
        ("kaiming_uniform_", {"a": math.sqrt(5)}, (400, 300)),
        ("kaiming_uniform_", {"mode": "fan_out", "nonlinearity": "relu"}, (60, 20, 10, 10)),
        ("kaiming_normal_", {}, (400, 300)),
        ("kaiming_normal_", {"a": 0.1, "mode": "fan_out"}, (60, 20, 10, 10)),
        ("kaiming_normal_", {"nonlinearity": "tanh"}, (400, 300)),
        ("kaiming_normal_", {"nonlinearity": "selu", "mode": "FAN_OUT"}, (400, 300)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_moments_and_range_are_those_of_torch(name, arguments, shape, dtype):
    ours, theirs = (
        moments(getattr(module, name)(torch.empty(shape, dtype=dtype), **arguments)) for module in (init, torch.nn.init)
    )
    spread = theirs[1]
    assert ours[0] == pytest.approx(theirs[0], abs=6 * spread * math.sqrt(2 / 120_000))
    assert ours[1] == pytest.approx(spread, rel=0.02)
    is_bounded = "uniform" in name or (name == "trunc_normal_" and "std" not in arguments)
    for mine, other in zip(ours[2:], theirs[2:], strict=True):  # torch's bfloat16 never rounds up to the upper bound
        assert mine == pytest.approx(other, abs=(0.02 if is_bounded else 1.5) * spread)


def test_bfloat16_is_the_float32_value_rounded_once():
    for name, more in RANDOM.items():
        wide, narrow = (
            getattr(init, name)(torch.empty(40, 30, dtype=dtype), *more, generator=torch.Generator().manual_seed(7))
            for dtype in (torch.float32, torch.bfloat16)
        )
        expected = wide.to(torch.bfloat16)
        bounds = {"uniform_": 1.0, "xavier_uniform_": math.sqrt(6 / 70), "kaiming_uniform_": math.sqrt(6 / 30)}
        if name in bounds:  # which stay below their upper bound
            bound = torch.tensor(bounds[name], dtype=torch.bfloat16)
            expected[expected == bound] = torch.nextafter(bound, -bound)
        assert torch.equal(expected, narrow), name


NARROW = [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", [*NARROW, torch.float32, torch.float64])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.1, 0.1), (-3.0, 2.0), (-1.0, 0.0), (0.3, 0.7)])
def test_uniform_values_are_below_the_upper_bound_in_their_own_type_and_no_other_moves(dtype, low, high):
    values, nearest = (
        fill(torch.empty(100_000, dtype=dtype), generator=torch.Generator().manual_seed(7)).double()
        for fill in (
            lambda tensor, generator: init.uniform_(tensor, low, high, generator),
            lambda tensor, generator: init.init_(tensor, f"uniform({low}, {high})", generator=generator),
        )
    )
    bound = torch.tensor(high, dtype=torch.float64).to(dtype).double()
    assert bool((values < min(bound.item(), high)).all())
    moved = values != nearest
    assert bool((nearest[moved] >= min(bound.item(), high)).all())
    assert bool((values[moved] == values.max()).all())
    if high != 0:  # next to which every type is fine enough
        assert bool(moved.any()) == (dtype in NARROW)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("low", "high"), [(1.0001, 1.0002), (-1.0002, -1.0001), (0.5, 0.50001), (1.0001, 1.0003)])
def test_where_a_type_has_no_number_between_the_bounds_uniform_does_what_torch_does(dtype, low, high):
    ours, theirs = (module.uniform_(torch.empty(1000, dtype=dtype), low, high) for module in (init, torch.nn.init))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (0, 0), (True, 1)])
def test_a_uniform_between_equal_bounds_is_the_constant(a, b):
    assert bool((init.uniform_(torch.empty(5), a, b) == float(a)).all())


def test_arguments_may_be_numbers_of_numpy_and_torch():
    for std in (0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5)):
        weight = init.normal_(torch.empty(9), 1, std, generator=torch.Generator().manual_seed(7))
        expected = init.normal_(torch.empty(9), 1.0, 0.5, generator=torch.Generator().manual_seed(7))
        assert torch.equal(weight, expected)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (init.normal_, (0, -1)),
        (init.normal_, (math.nan, 1)),
        (init.normal_, (0, math.inf)),
        (init.uniform_, (1, 0)),
        (init.uniform_, (0, math.nan)),
        (init.trunc_normal_, (0, -1)),
        (init.trunc_normal_, (0, 1, 2, 1)),
        (init.trunc_normal_, (0, 1, math.nan, 1)),
        (init.trunc_normal_, (math.nan, 1)),
        (init.xavier_normal_, (math.inf,)),
        (init.orthogonal_, (math.nan,)),
        (init.sparse_, (1.5,)),
        (init.sparse_, (-0.1,)),
    ],
)
@pytest.mark.filterwarnings("ignore:mean is more than 2 std")
def test_numbers_out_of_range_are_refused_before_anything_is_written(function, arguments):
    weight = torch.full((4, 4), 9.0)
    with pytest.raises(ValueError, match="must"):
        function(weight, *arguments)
    assert bool((weight == 9).all())


# Truncation


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [
        (0.0, 0.02, -0.04, 0.04),
        (0.0, 0.1, -0.1, 0.1),
        (0.3, 0.7, 0.1, 0.2),
        (1e6, 1.0, 1e6 - 0.3, 1e6 + 0.7),
        (-0.1, 3.0, -0.1, 0.1),
        (0.1, 1e-3, 0.1 + 1e-5, 0.1 + 2e-5),
        (0.0, 1 / 3, -1 / 3, math.inf),
        (0.0, 1.0, 2.0, 2.1),
        (1e-3, 1e-9, 1e-3 - 1e-9, 1e-3 + 1e-9),
        (0.0, 3e38, -1.0, 1.0),
        (0.0, 1e-320, -1.0, 1.0),
    ],
)
@pytest.mark.filterwarnings("ignore:mean is more than 2 std")
def test_bounds_are_values_that_nothing_passes_by_any_rounding(mean, std, a, b, dtype):
    weight = init.trunc_normal_(torch.empty(20_000, dtype=dtype), mean, std, a, b)
    smallest, largest = (Fraction(value.item()) for value in (weight.double().min(), weight.double().max()))
    assert math.isinf(a) or smallest >= Fraction(a)
    assert math.isinf(b) or largest <= Fraction(b)


def test_a_std_beyond_float32_is_refused_where_every_value_was_a_bound():
    weight = torch.full((20_000,), 9.0)
    with pytest.raises(ValueError, match=r"must have a std of at most 3\.4.*e\+38 for float32"):
        init.trunc_normal_(weight, 0.0, 1e300, -1.0, 1.0)
    assert bool((weight == 9).all())


FINITE = st.floats(-1e6, 1e6)


@given(FINITE, st.floats(1e-6, 1e6), FINITE, FINITE)
def test_bounds_in_deviations_are_the_nearest_that_do_not_pass_the_values(mean, std, a, b):
    low, high = _deviations(mean, std, a, b)

    def value(deviations):
        return Fraction(mean) + Fraction(std) * Fraction(deviations)

    assert value(math.nextafter(low, -math.inf)) < Fraction(a) <= value(low)
    assert value(high) <= Fraction(b) < value(math.nextafter(high, math.inf))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_reach_up_to_both_bounds(dtype):
    weight = init.trunc_normal_(torch.empty(100_000, dtype=dtype), 0.1, 1.0, -0.2, 0.7)
    assert -0.2 <= weight.min() < -0.1999
    assert 0.6999 < weight.max() <= 0.7


def test_default_bounds_cut_nothing_off_a_narrow_normal():
    cut, whole = (
        function(torch.empty(10_000), 0.0, 0.02, generator=torch.Generator().manual_seed(7))
        for function in (init.trunc_normal_, init.normal_)
    )
    assert cut.std().item() == pytest.approx(whole.std().item(), rel=0.05)
    assert cut.abs().max() > 3 * 0.02


@pytest.mark.parametrize("mean", [0.0, -0.7, 0.5])
def test_a_truncated_normal_without_spread_is_its_mean(mean):
    assert bool((init.trunc_normal_(torch.empty(5), mean, 0.0) == mean).all())


def test_a_truncated_normal_between_equal_bounds_is_the_constant():
    assert bool((init.trunc_normal_(torch.empty(5, dtype=torch.float64), 0.1, 0.7, 0.3, 0.3) == 0.3).all())


def test_a_mean_far_outside_the_bounds_is_warned_about_where_it_is_called():
    with pytest.warns(UserWarning, match="mean is more than 2 std from") as caught:
        weight = init.trunc_normal_(torch.empty(1000), 0.0, 1.0, 3.0, 4.0)
    assert caught[0].filename == __file__
    assert 3 <= weight.min() <= weight.max() <= 4


# Constants


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.int64, torch.int8, torch.uint8,
     torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz],
)  # fmt: skip
def test_constants_fill_tensors_of_every_dtype(dtype):
    for function, value in ((init.zeros_, 0), (init.ones_, 1), (lambda tensor: init.constant_(tensor, 1), 1)):
        tensor = torch.zeros(3, 5).to(dtype).T
        assert function(tensor) is tensor
        assert tensor.dtype == dtype
        assert bool((tensor.to(torch.complex64) == value).all())


def test_constants_fill_tensors_of_every_rank():
    for rank in range(5):
        weight = torch.empty((2,) * rank)
        assert bool((init.constant_(weight, -1.25) == -1.25).all())


# Identity, Dirac


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (3, 5), (5, 3), (0, 3)])
def test_eye_has_ones_on_the_diagonal(shape):
    assert torch.equal(init.eye_(torch.empty(shape)), torch.eye(*shape))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("size", [3, 4])
def test_dirac_is_torch_s_and_hands_the_inputs_through(dimensions, groups, size):
    convolve = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}[dimensions]
    channels = 4
    kernel = init.dirac_(torch.empty(channels * groups, channels, *(size,) * dimensions), groups)
    assert torch.equal(kernel, torch.nn.init.dirac_(torch.empty_like(kernel), groups))
    inputs = torch.randn(2, channels * groups, *(8,) * dimensions)
    outputs = convolve(inputs, kernel, padding=size // 2, groups=groups)
    inside = (slice(None), slice(None), *(slice(1, 6),) * dimensions)
    assert torch.equal(outputs[inside], inputs[inside])


def test_dirac_leaves_the_outputs_that_have_no_input_zero():
    kernel = init.dirac_(torch.empty(5, 3, 3))
    assert torch.equal(kernel, torch.nn.init.dirac_(torch.empty(5, 3, 3)))
    assert not kernel[3:].any()


# Orthogonal, sparse


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (4, 3), (20, 2, 3, 4), (2, 3, 4, 5), (50, 50), (1, 7), (7, 1)])
@pytest.mark.parametrize("gain", [1, 2.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_orthogonal_rows_or_columns_whichever_are_fewer_are_orthonormal(shape, gain, dtype):
    weight = init.orthogonal_(torch.empty(shape, dtype=dtype), gain).reshape(shape[0], -1)
    rows, columns = weight.shape
    product = weight @ weight.T if rows <= columns else weight.T @ weight
    torch.testing.assert_close(product, torch.eye(min(rows, columns), dtype=dtype) * gain**2, atol=1e-5, rtol=0)


def test_orthogonal_takes_half_types():
    weight = init.orthogonal_(torch.empty(16, 16, dtype=torch.bfloat16)).float()
    torch.testing.assert_close(weight @ weight.T, torch.eye(16), atol=0.05, rtol=0)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.33, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("rows", [1, 7, 30])
def test_sparse_has_as_many_zeros_in_each_column_as_torch(sparsity, rows):
    ours, theirs = (module.sparse_(torch.empty(rows, 40), sparsity) for module in (init, torch.nn.init))
    assert torch.equal((ours == 0).sum(0), (theirs == 0).sum(0))
    assert bool(((ours == 0).sum(0) == math.ceil(sparsity * rows)).all())


def test_sparse_leaves_the_rest_normal():
    weight = init.sparse_(torch.empty(400, 400), 0.25, std=0.3)
    mean, std, *_ = moments(weight[weight != 0])
    assert mean == pytest.approx(0, abs=6 * 0.3 / math.sqrt(120_000))
    assert std == pytest.approx(0.3, rel=0.02)


# Errors and no-ops


@pytest.mark.parametrize(
    ("name", "arguments", "ranks"),
    [
        ("xavier_uniform_", (), (0, 1)),
        ("xavier_normal_", (), (0, 1)),
        ("kaiming_uniform_", (), (0, 1)),
        ("kaiming_normal_", (), (0, 1)),
        ("orthogonal_", (), (0, 1)),
        ("sparse_", (0.5,), (0, 1, 3)),
        ("eye_", (), (0, 1, 3)),
        ("dirac_", (), (0, 1, 2, 6)),
        ("_calculate_fan_in_and_fan_out", (), (0, 1)),
    ],
)
def test_tensors_of_the_wrong_rank_are_refused_as_torch_refuses_them(name, arguments, ranks):
    for rank in ranks:
        for module in (init, torch.nn.init):
            with pytest.raises(ValueError, match="dim"):
                getattr(module, name)(torch.empty((2,) * rank), *arguments)


@pytest.mark.parametrize("module", [init, torch.nn.init], ids=["ours", "torch"])
def test_words_that_are_not_known_are_refused_as_torch_refuses_them(module):
    for name in ("kaiming_uniform_", "kaiming_normal_"):
        function = getattr(module, name)
        with pytest.raises(ValueError, match=r"[Mm]ode"):
            function(torch.empty(3, 3), mode="fan_avg")
        with pytest.raises(ValueError, match="Unsupported nonlinearity"):
            function(torch.empty(3, 3), nonlinearity="no such thing")
        with pytest.raises(ValueError, match="negative_slope True not a valid number"):
            function(torch.empty(3, 3), a=True)
    with pytest.raises(ValueError, match="groups"):
        module.dirac_(torch.empty(5, 3, 3), groups=2)


@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_"])
def test_kaiming_warns_of_tensors_without_elements_as_torch_does(name):
    weight = torch.empty(0, 1)
    for module in (init, torch.nn.init):
        with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op") as caught:
            assert getattr(module, name)(weight) is weight
    with pytest.warns(UserWarning, match="no-op") as caught:
        getattr(init, name)(weight)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", [name for name in RANDOM if "kaiming" not in name] + ["eye_", "ones_", "zeros_"])
def test_the_others_leave_tensors_without_elements_or_memory_quietly(name, device):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shape in [(0, 3), (3, 0)] if device == "cpu" else [(3, 4)]:
            weight = torch.empty(shape, device=device)
            assert getattr(init, name)(weight, *RANDOM.get(name, ())) is weight


def test_kaiming_and_dirac_leave_meta_tensors_as_they_are():
    for function, shape in ((init.kaiming_normal_, (3, 4)), (init.kaiming_uniform_, (3, 4)), (init.dirac_, (4, 4, 3))):
        weight = torch.empty(shape, device="meta")
        assert function(weight) is weight


@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.complex128, torch.int64])
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0,)])
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_rank_that_holds_nothing_of_a_tensor_takes_its_draw_whatever_the_type(name, dtype, shape):
    torch.manual_seed(3)
    getattr(init, name)(torch.empty(2, 4))
    after = torch.rand(1)
    torch.manual_seed(3)
    weight = torch.empty(shape, dtype=dtype)
    assert getattr(init, name)(weight) is weight
    assert torch.equal(torch.rand(1), after)


# Types that the engine does not fill


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("normal_", (), (40, 30)),
        ("normal_", (2.0, 0.5), (40, 30)),
        ("uniform_", (-1.0, 3.0), (40, 30)),
        ("eye_", (), (3, 4)),
        ("dirac_", (2,), (4, 2, 3)),
        ("sparse_", (0.25, 0.5), (8, 6)),
    ],
)
def test_complex_tensors_are_torchs(name, arguments, shape, dtype):
    results = []
    for module in (init, torch.nn.init):
        torch.manual_seed(3)
        weight = torch.nn.Parameter(torch.empty(shape, dtype=dtype))
        assert getattr(module, name)(weight, *arguments) is weight
        results.append((weight, torch.rand(1)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.uint8, torch.bool])
def test_identities_of_integers_are_torchs(dtype):
    for name, shape in (("eye_", (3, 4)), ("dirac_", (4, 2, 3)), ("dirac_", (2, 2, 3, 3))):
        ours, theirs = (getattr(module, name)(torch.empty(shape, dtype=dtype)) for module in (init, torch.nn.init))
        assert torch.equal(ours, theirs)
        assert ours.dtype == dtype


def test_what_is_torchs_is_torchs_in_a_block_that_accelerates_too():
    with init.accelerate(seed=5):
        for module in (init, torch.nn.init):
            torch.manual_seed(3)
            theirs = module.normal_(torch.empty(5, dtype=torch.complex64))
            torch.manual_seed(3)
            assert torch.equal(theirs, torch.randn(5, dtype=torch.complex64))
            assert bool((module.uniform_(torch.empty(5, dtype=torch.bfloat16), 1.0001, 1.0002) == 1).all())


# Names of long ago


DEPRECATED = ["uniform", "normal", "constant", "eye", "dirac", "xavier_uniform", "xavier_normal", "kaiming_uniform",
              "kaiming_normal", "orthogonal", "sparse"]  # fmt: skip


@pytest.mark.parametrize("name", DEPRECATED)
def test_deprecated_names_warn_as_torchs_do_and_are_the_new_ones(name):
    more = {"constant": (0.5,), "sparse": (0.5,)}.get(name, ())
    shape = (4, 4, 3) if name == "dirac" else (4, 4)
    messages = []
    for module in (init, torch.nn.init):
        with pytest.warns(FutureWarning) as caught:
            getattr(module, name)(torch.empty(shape), *more)
        assert caught[0].filename == __file__
        messages.append(str(caught[0].message))
    assert messages == [f"`nn.init.{name}` is now deprecated in favor of `nn.init.{name}_`."] * 2
    torch.manual_seed(3)
    with pytest.warns(FutureWarning):
        old = getattr(init, name)(torch.empty(shape), *more)
    torch.manual_seed(3)
    assert torch.equal(old, getattr(init, f"{name}_")(torch.empty(shape), *more))


# Gains and fans


@pytest.mark.parametrize("name", [
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid",
    "tanh", "relu", "selu",
])  # fmt: skip
def test_gains_are_those_of_winit_fast_too(name):
    assert init.calculate_gain(name) == pytest.approx(winit_fast.calculate_gain(name), rel=1e-15)


@pytest.mark.parametrize("slope", [None, 0, 0.01, 10, math.sqrt(5)])
def test_the_gain_of_leaky_relu_takes_a_slope(slope):
    expected = math.sqrt(2 / (1 + (0.01 if slope is None else slope) ** 2))
    assert init.calculate_gain("leaky_relu", slope) == pytest.approx(expected, rel=1e-15)


def test_fans_of_kernels_count_the_receptive_field():
    kernel = torch.empty(8, 4, 3, 5)
    assert init._calculate_fan_in_and_fan_out(kernel) == (60, 120)
    assert (init._calculate_correct_fan(kernel, "fan_in"), init._calculate_correct_fan(kernel, "fan_out")) == (60, 120)


def test_the_schemes_of_winit_fast_give_the_same_bits():
    for function, scheme in (
        (init.kaiming_normal_, "he_normal"),
        (init.kaiming_uniform_, "he_uniform"),
        (init.xavier_normal_, "xavier_normal"),
        (init.xavier_uniform_, "xavier_uniform"),
        (init.normal_, "normal"),
        (init.uniform_, "uniform"),
        (init.orthogonal_, "orthogonal"),
    ):
        torch.manual_seed(3)
        weight = function(torch.empty(30, 20))
        torch.manual_seed(3)
        assert torch.equal(weight, init.init((30, 20), scheme)), scheme


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_") and name not in ("dirac_", "sparse_")])
def test_what_zero_of_deepspeed_holds_in_parts_is_refused_by_every_function(name):
    weight = torch.nn.Parameter(torch.empty(0))
    weight.ds_shape = torch.Size((4, 4))
    with pytest.raises(ValueError, match="GatheredParameters"):
        getattr(init, name)(weight, *([2.0] if name == "constant_" else []))


@pytest.mark.parametrize("name", ["kaiming_uniform_", "xavier_uniform_"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("accelerated", [False, True])
def test_fan_scaled_uniform_values_stay_below_their_bound_as_torchs_do(name, dtype, accelerated):
    weight = torch.empty(512, 512, dtype=dtype)
    scheme = "xavier_uniform" if name == "xavier_uniform_" else "he_uniform(1.4142135623730951)"
    if accelerated:
        with init.accelerate(seed=5):
            getattr(torch.nn.init, name)(weight)
        nearest = init.init(weight.shape, scheme, dtype=dtype, seed=5, name=0)
    else:
        state = torch.get_rng_state()
        getattr(init, name)(weight)
        torch.set_rng_state(state)
        nearest = init.init(weight.shape, scheme, dtype=dtype)
    bound = math.sqrt((3 if name == "xavier_uniform_" else 6) / 512)
    high = torch.tensor(bound, dtype=dtype)
    assert weight.max() < high
    moved = weight != nearest
    assert (nearest[moved] >= high).all()
    assert moved.any()


def test_what_autograd_saw_written_to_is_filled_by_its_data():
    buffer = torch.zeros(4)
    buffer[:2] = torch.nn.Parameter(torch.ones(2)) * 2
    with pytest.raises(ValueError, match=r"CopySlices: what autograd saw written to is filled by its \.data"):
        init.zeros_(buffer)
    init.zeros_(buffer.data)
    assert not buffer.any()
