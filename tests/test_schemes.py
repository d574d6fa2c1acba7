"""Schemes: what their names mean, how they are written and read, and what is refused."""

import copy
import math
import pickle
from fractions import Fraction
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from winit_fast import arguments, registry
from winit_fast.distributions import Constant, Normal, Orthogonal, Sparse, TruncatedNormal, Uniform
from winit_fast.gains import GAINS, calculate_gain
from winit_fast.registry import REQUIRED, Scheme, scheme, schemes

catalogue = import_module("winit_fast.schemes")  # the package's attribute of that name is the function
CORRECTION = 0.87962566103423978
numbers = st.floats(allow_nan=False, allow_infinity=False)
fans = st.integers(1, 10_000)


# What the names mean


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("zeros", Constant(0.0)),
        ("ones", Constant(1.0)),
        ("constant(0.5)", Constant(0.5)),
        ("uniform", Uniform(0.0, 1.0)),
        ("uniform(-0.1, 0.1)", Uniform(-0.1, 0.1)),
        ("normal", Normal(0.0, 1.0)),
        ("normal(std=1e-2)", Normal(0.0, 0.01)),
        ("truncated_normal", TruncatedNormal(0.0, 1.0, -2.0, 2.0)),
        ("truncated_normal(1, 0.02, low=-inf, high=3)", TruncatedNormal(1.0, 0.02, -math.inf, 3.0)),
        ("truncated_normal(1, 0.02, low=-3, high=+inf)", TruncatedNormal(1.0, 0.02, -3.0, math.inf)),
    ],
)
@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (4, 5)])
def test_schemes_without_fans_are_the_same_for_every_shape(text, expected, shape):
    assert scheme(text).distribution(shape) == expected


@pytest.mark.parametrize(
    ("name", "std"),
    [
        ("he", lambda fan_in, fan_out: math.sqrt(2.0) / math.sqrt(fan_in)),
        ("xavier", lambda fan_in, fan_out: 1.0 / math.sqrt((fan_in + fan_out) / 2.0)),
        ("lecun", lambda fan_in, fan_out: 1.0 / math.sqrt(fan_in)),
    ],
)
@given(fan_in=fans, fan_out=fans)
def test_families_have_the_std_of_their_papers(name, std, fan_in, fan_out):
    shape, expected = (fan_in, fan_out), std(fan_in, fan_out)
    bound = math.sqrt(3.0) * expected
    assert scheme(f"{name}_normal").distribution(shape) == Normal(0.0, expected)
    assert scheme(f"{name}_uniform").distribution(shape) == Uniform(-bound, bound)
    assert scheme(f"{name}_truncated_normal").distribution(shape) == TruncatedNormal(
        0.0, expected / CORRECTION, -2.0, 2.0
    )


@pytest.mark.parametrize(
    ("mode", "fan"),
    [("fan_in", 18.0), ("fan_out", 72.0), ("fan_avg", 45.0), ("fan_geo_avg", 36.0)],
)
def test_mode_chooses_the_fan(mode, fan):
    shape = (3, 3, 2, 8)
    assert scheme("he_normal", mode=mode).distribution(shape) == Normal(0.0, math.sqrt(2.0) / math.sqrt(fan))
    assert scheme("xavier_normal", mode=mode, gain=3).distribution(shape) == Normal(0.0, 3.0 / math.sqrt(fan))
    assert scheme("lecun_normal", mode=mode).distribution(shape) == Normal(0.0, 1.0 / math.sqrt(fan))
    scaled = scheme("variance_scaling", scale=3, mode=mode)
    assert scaled.distribution(shape) == Normal(0.0, math.sqrt(3.0 / fan))


def test_variance_scaling_takes_each_distribution():
    std = math.sqrt(5.0 / 7.0)
    drawn = {
        kind: scheme("variance_scaling", scale=5, distribution=kind).distribution((7, 2)) for kind in catalogue._KINDS
    }
    assert drawn == {
        "uniform": Uniform(-math.sqrt(3.0) * std, math.sqrt(3.0) * std),
        "normal": Normal(0.0, std),
        "truncated_normal": TruncatedNormal(0.0, std / CORRECTION, -2.0, 2.0),
    }


def test_axes_reach_the_fans():
    he = scheme("he_normal")
    assert he.distribution((8, 2, 3, 3), in_axis=1, out_axis=0) == he.distribution((18, 8))
    assert he.distribution((5, 18, 8), batch_axis=0) == he.distribution((18, 8))
    with pytest.raises(
        ValueError, match=r"he_normal needs an input and an output axis; shape \(7,\) has one: .*without fans"
    ):
        he.distribution((7,))


@pytest.mark.parametrize("mode", catalogue._FANS)
def test_a_fan_of_0_counts_as_1(mode):
    assert scheme("lecun_normal", mode=mode).distribution((0, 0)) == Normal(0.0, 1.0)


def test_fans_beyond_2_to_the_53_are_rounded_once():
    assert scheme("lecun_normal").distribution((2**53 + 1, 2)) == Normal(0.0, 1.0 / math.sqrt(2.0**53))
    averaged = scheme("xavier_normal").distribution((2**62, 2**62))
    assert averaged == Normal(0.0, 2.0**-31)


@pytest.mark.parametrize("alias", ["kaiming", "msra"])
@pytest.mark.parametrize("kind", catalogue._KINDS)
def test_kaiming_and_msra_are_he(alias, kind):
    assert scheme(f"{alias}_{kind}") == scheme(f"he_{kind}")
    assert str(scheme(f"{alias}_{kind}")) == f"he_{kind}"


@pytest.mark.parametrize("kind", catalogue._KINDS)
def test_glorot_is_xavier(kind):
    assert scheme(f"glorot_{kind}") == scheme(f"xavier_{kind}")


@pytest.mark.parametrize(
    ("text", "gain"),
    [
        ("he_normal(nonlinearity='relu')", math.sqrt(2.0)),
        ("he_normal(nonlinearity='tanh')", 5.0 / 3.0),
        ("he_normal(nonlinearity='leaky_relu')", math.sqrt(2.0 / 1.0001)),
        ("he_normal(nonlinearity='leaky_relu', slope=0.1)", math.sqrt(2.0 / (1.0 + 0.1 * 0.1))),
        ("he_normal(nonlinearity='leaky_relu', slope=-1)", 1.0),
        ("he_normal(gain=0.25)", 0.25),
        ("he_normal(gain=None)", math.sqrt(2.0)),
    ],
)
def test_he_takes_a_gain_or_a_nonlinearity(text, gain):
    assert scheme(text).distribution((9, 4)) == Normal(0.0, gain / 3.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("normal(mean=3, std=0)", 3.0),
        ("normal(mean=3, std=-0.0)", 3.0),
        ("truncated_normal(mean=3, std=0)", 3.0),
        ("truncated_normal(mean=3, std=2, low=1.5, high=1.5)", 6.0),
        ("truncated_normal(mean=3, std=2, low=-37, high=-37)", -71.0),
        ("uniform(0.25, 0.25)", 0.25),
        ("he_uniform(gain=0)", 0.0),
        ("xavier_truncated_normal(gain=0)", 0.0),
        ("variance_scaling(0)", 0.0),
        ("orthogonal(0)", 0.0),
        ("orthogonal(-0.0)", 0.0),
        ("delta_orthogonal(gain=0)", 0.0),
        ("sparse(0.5, std=0)", 0.0),
        ("residual_normal(4, std=0)", 0.0),
        ("mup(64, std=0)", 0.0),
        ("constant(-2)", -2.0),
    ],
)
def test_a_scheme_without_width_is_a_constant_and_draws_nothing(text, value):
    made = scheme(text)
    assert made.distribution((2, 2)) == Constant(value)
    assert made.draws is False


GIVEN = {"zeros", "ones", "constant", "identity", "dirac", "array", "bilinear", "lstm_bias"}
NEEDED = {"array": {"values": [0.5]}, "deepnet": {"encoder": 1}, "sparse": {"sparsity": 0.5}}  # where 1 will not do


@pytest.mark.parametrize("entry", schemes(), ids=lambda entry: entry.name)
def test_every_scheme_draws_but_those_that_are_given(entry):
    required = {argument.name: 1 for argument in entry.arguments if argument.default is REQUIRED}
    made = scheme(entry.name, **required | NEEDED.get(entry.name, {}))
    assert made.draws is (entry.name not in GIVEN)
    assert made.distribution((3, 5, 4)).draws is made.draws


def test_a_normal_cut_nowhere_is_a_normal():
    assert scheme("truncated_normal(low=-inf, high=inf, mean=2)").distribution(()) == Normal(2.0, 1.0)


def test_a_sparse_matrix_without_zeros_is_a_normal():
    assert scheme("sparse(0)").distribution((3, 4)) == Normal(0.0, 0.01)
    assert scheme("sparse(0.25)").distribution((3, 4)) == Sparse(0.25, 0.01, "in")


def test_the_gain_of_a_matrix_may_be_negative():
    assert scheme("orthogonal(-2)").distribution((3, 4)) == Orthogonal(-2.0)


def test_the_sign_of_a_zero_constant_is_kept():
    assert math.copysign(1.0, scheme("constant(-0.0)").distribution(()).value) == -1.0
    assert scheme("constant(-0.0)") != scheme("constant(0.0)")
    assert Constant(-0.0) != Constant(0.0)


def test_distributions_of_different_kinds_differ():
    assert len({Uniform(0.0, 1.0), Normal(0.0, 1.0), Constant(0.0), Constant(0.0)}) == 3
    assert Constant(1.0) != 1.0


# The rounding mode

UPWARDS, DOWNWARDS, DEFAULT = 0x4000, 0x2000, 0x1F80


@pytest.mark.parametrize("mode", [UPWARDS, DOWNWARDS])
def test_numbers_do_not_depend_on_the_rounding_mode(control_register, mode):
    slopes = [number / 997 for number in range(1, 200)]
    one, tiny = 1.0, 2.0**-60
    texts = [
        text.format(number)
        for number in range(101, 170)
        for text in (
            "he_normal(nonlinearity='leaky_relu', slope=0.{})",
            "he_uniform(nonlinearity='leaky_relu', slope=0.{})",
            "he_truncated_normal(nonlinearity='leaky_relu', slope=0.{})",
            "variance_scaling(0.{}, distribution='truncated_normal')",
            "truncated_normal(mean=0.{0}, std=0.1{0}, low=0.7, high=0.7)",
        )
    ]
    shapes = [(3, 7), (11, 13, 17)]
    spare = scheme("he_uniform", mode="fan_geo_avg")  # made under the default, asked under the other
    control_register.value = DEFAULT | mode
    try:
        is_other = one + tiny > one if mode == UPWARDS else -one - tiny < -one
        gains = [calculate_gain("leaky_relu", slope) for slope in slopes]
        made = [scheme(text) for text in texts]
        changed = [scheme("he_normal", nonlinearity="leaky_relu", slope=slope) for slope in slopes]
        found = [[one.distribution(shape) for one in (*made, spare)] for shape in shapes]
        left = control_register.value
    finally:
        control_register.restore()
    assert is_other
    assert left & ~0x3F == DEFAULT | mode
    assert gains == [math.sqrt(2.0 / (1.0 + slope * slope)) for slope in slopes]
    for shape, distributions in zip(shapes, found, strict=True):
        read_again = [scheme(f" {text}") for text in texts]  # other texts, which nothing remembers
        expected = [each.distribution(shape) for each in (*read_again, spare)]
        assert distributions == expected
        assert [each.distribution(shape) for each in (*made, spare)] == expected
    assert [each.distribution((1, 1)) for each in changed] == [Normal(0.0, gain) for gain in gains]


# How they are written and read


def nested(sizes):
    return st.lists(nested(sizes[1:]), min_size=sizes[0], max_size=sizes[0]) if sizes else numbers


VALUES = {
    kind.__metadata__[0]: values
    for kind, values in {
        catalogue.Finite: numbers,
        catalogue.NotNegative: st.floats(0.0, 1e300),
        catalogue.Proportion: st.floats(0.0, 1.0),
        catalogue.Count: st.integers(1, 2**31 - 1),
        catalogue.CountOrNone: st.integers(0, 2**31 - 1),
        catalogue.Values: st.lists(st.integers(1, 3), min_size=1, max_size=3).flatmap(nested),
        catalogue.Low: st.one_of(st.just(-math.inf), st.floats(-50.0, 0.0)),
        catalogue.High: st.one_of(st.just(math.inf), st.floats(0.0, 50.0)),
        catalogue.Mode: st.sampled_from(["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]),
        catalogue.Kind: st.sampled_from(["uniform", "normal", "truncated_normal"]),
        catalogue.Nonlinearity: st.sampled_from([None, *GAINS]),
        catalogue.Slope: st.one_of(st.none(), st.floats(-1e150, 1e150)),
        catalogue.Gain: st.one_of(st.none(), st.floats(0.0, 1e300)),
        catalogue.Rounding: st.sampled_from(["nearest", "below_high"]),
        catalogue.Per: st.sampled_from(["in", "out"]),
        catalogue.Coder: st.sampled_from(["encoder", "decoder"]),
        catalogue.CoderOrNone: st.sampled_from([None, "encoder", "decoder"]),
        catalogue.Role: st.sampled_from(["input", "hidden", "output"]),
        catalogue.GateOrder: st.sampled_from(["ifgo", "iofg", "ofig"]),
    }.items()
}


@st.composite
def any_scheme(draw):
    """Any scheme of the catalogue with any of its arguments, as far as they go together."""
    entry = draw(st.sampled_from(schemes()))
    named = [one for one in entry.arguments if one.default is REQUIRED or draw(st.booleans())]
    try:
        return scheme(entry.name, **{one.name: draw(VALUES[one.check]) for one in named})
    except ValueError:
        reject()


@given(any_scheme())
def test_str_reads_back_to_an_equal_scheme(made):
    assert scheme(str(made)) == made
    assert hash(scheme(str(made))) == hash(made)
    assert str(scheme(str(made))) == str(made)
    assert scheme(str(made)).arguments == made.arguments


@given(any_scheme())
def test_repr_is_the_call_that_makes_it(made):
    assert eval(repr(made), {"scheme": scheme, "inf": math.inf}) == made


@given(any_scheme(), st.data())
def test_arguments_may_stand_in_their_order_without_names(made, data):
    known = tuple(made.arguments.values())
    last = data.draw(st.integers(0, len(known)))
    text = f"{made.name}({', '.join(map(repr, known[:last]))})"
    assert scheme(text, **dict(list(made.arguments.items())[last:])) == made


@given(any_scheme())
def test_a_scheme_survives_pickle_and_copy(made):
    for twin in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        assert twin == made
        assert twin.arguments == made.arguments


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("he_normal()", "he_normal"),
        (" he_normal ( ) ", "he_normal"),
        ("normal(0, 1)", "normal"),
        ("normal(0.0, std=2)", "normal(std=2.0)"),
        ("constant(0.5)", "constant(value=0.5)"),
        ("truncated_normal(low=-inf)", "truncated_normal(low=-inf)"),
        ("truncated_normal(std=0.02, low=-3, high=3)", "truncated_normal(std=0.02, low=-3.0, high=3.0)"),
        ('he_normal(slope=.1,\nnonlinearity="leaky_relu")', "he_normal(nonlinearity='leaky_relu', slope=0.1)"),
        (
            "variance_scaling(2, 'fan_avg', 'uniform')",
            "variance_scaling(scale=2.0, mode='fan_avg', distribution='uniform')",
        ),
        ("eye(2)", "identity(gain=2.0)"),
        ("dirac(groups=2)", "dirac(groups=2)"),
        ("sparse(1)", "sparse(sparsity=1.0)"),
        ("assign([1, -2.5])", "array(values=[1.0, -2.5])"),
        ("array(((1, 2),))", "array(values=[[1.0, 2.0]])"),
        ("array([1e-300, -0.0])", "array(values=[1e-300, -0.0])"),
        ("lstm_bias(order='ifgo')", "lstm_bias"),
        ("lstm_bias(order='ifco')", "lstm_bias"),
        ("fixup(3, 2)", "fixup(layers=3)"),
    ],
)
def test_str_leaves_out_defaults_and_keeps_the_declared_order(text, written):
    assert str(scheme(text)) == written


def test_repr_shows_arguments_that_differ_from_the_defaults():
    assert repr(scheme("glorot_normal(gain=2, mode='fan_in')")) == "scheme('xavier_normal', gain=2.0, mode='fan_in')"
    assert repr(scheme("zeros")) == "scheme('zeros')"


def test_arguments_replace_those_of_the_text_or_scheme():
    assert scheme("normal(std=2)", std=3, mean=1) == scheme("normal(1, 3)")
    assert scheme(scheme("normal(mean=1, std=2)"), std=3) == scheme("normal(1, 3)")


def test_a_scheme_is_its_own_scheme():
    made = scheme("he_normal")
    assert scheme(made) is made


@pytest.mark.parametrize(
    "value", [np.float32(0.5), np.float16(0.5), np.array(0.5), Fraction(1, 2), np.longdouble(0.5)], ids=repr
)
def test_numbers_may_be_of_any_real_type(value):
    made = scheme("constant", value=value)
    assert made == scheme("constant(0.5)")
    assert type(made.arguments["value"]) is float


def test_integers_may_be_of_numpy():
    assert scheme("constant", value=np.int8(-3)) == scheme("constant(-3)")


def test_numbers_may_be_of_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert scheme("constant", value=ml_dtypes.bfloat16(0.5)) == scheme("constant(0.5)")


def test_a_scheme_is_frozen():
    made = scheme("normal")
    with pytest.raises(AttributeError):
        made.name = "uniform"
    with pytest.raises(TypeError):
        made.arguments["std"] = 2.0
    assert made != "normal"


def test_reading_a_text_twice_gives_the_same_object():
    assert scheme("normal(std=0.125)") is scheme("normal(std=0.125)")


# The list of schemes


def _is_missing_something(name):
    try:
        return not isinstance(scheme(name), Scheme)
    except (TypeError, ValueError) as error:
        return "is missing" in str(error) or "must be a number of layers" in str(error)


def test_schemes_lists_each_once_with_formula_and_arguments():
    entries = schemes()
    names = [name for entry in entries for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))
    assert all(entry.formula for entry in entries)
    needed = [name for name in names if _is_missing_something(name)]
    assert needed == [
        "constant", "sparse", "array", "assign", "residual_normal", "fixup", "t_fixup", "deepnet", "mup"
    ]  # fmt: skip
    lines = {entry.name: str(entry) for entry in entries}
    assert lines["constant"].startswith("constant(value): ")
    assert lines["truncated_normal"].startswith("truncated_normal(mean=0.0, std=1.0, low=-2.0, high=2.0): ")
    assert "1502.01852" in next(entry.source for entry in entries if entry.name == "he_uniform")


def test_a_name_is_registered_once():
    before = schemes()
    with pytest.raises(ValueError, match="scheme 'normal' is registered already"):
        registry.register()(catalogue.normal)

    def unheard_of() -> registry.Law:
        """0."""
        return Constant(0.0)

    with pytest.raises(ValueError, match="scheme 'eye' is registered already"):
        registry.register(aliases=("unheard_of_too", "eye"))(unheard_of)
    assert schemes() == before
    with pytest.raises(ValueError, match="scheme 'unheard_of' is unknown"):
        scheme("unheard_of")


@pytest.fixture
def catalogue_of_one_test(monkeypatch):
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))


@pytest.mark.usefixtures("catalogue_of_one_test")
def test_one_function_makes_a_scheme():
    equivalent = registry.Equivalent("half_normal_test", jax="half()")

    @registry.register(equivalent, aliases=("half_test",))
    def half_normal_test(std: catalogue.NotNegative = 1.0) -> registry.Law:
        """Half of N(0, std^2),
        the upper one.

        Source: a
        test.

        Differs: others
        take the lower
        """
        return TruncatedNormal(0.0, std, 0.0, math.inf)

    entry = schemes()[-1]
    assert scheme("half_normal_test(2)").distribution(()) == TruncatedNormal(0.0, 2.0, 0.0, math.inf)
    assert scheme("half_test") == scheme("half_normal_test")
    assert str(entry) == "half_normal_test(std=1.0): Half of N(0, std^2), the upper one"
    assert (entry.source, entry.differs) == ("a test", "others take the lower")
    assert entry.equivalents == (equivalent,)


@pytest.mark.usefixtures("catalogue_of_one_test")
def test_one_function_makes_a_family():
    ours = [registry.Equivalent(text) for text in ("test_high(2)", "test_low", "test_high")]

    @registry.register_family({"low": "At -1", "high": "At 1"}, *ours, aliases=("also_test",))
    def test(kind: catalogue.Kind, /, factor: catalogue.Finite = 1.0) -> registry.Law:
        """Here it is times factor."""
        return Constant(factor if kind == "high" else -factor)

    low, high = schemes()[-2:]
    assert (low.name, high.name) == ("test_low", "test_high")
    assert (low.aliases, high.aliases) == (("also_test_low",), ("also_test_high",))
    assert str(low) == "test_low(factor=1.0): At -1. Here it is times factor"
    assert low.equivalents == (ours[1],)
    assert high.equivalents == (ours[0], ours[2])
    assert scheme("also_test_low(3)").distribution(()) == Constant(-3.0)


# What is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("normal(std=-1)", "normal: std must be >= 0, got -1.0"),
        ("truncated_normal(std=-1)", "truncated_normal: std must be >= 0, got -1.0"),
        ("variance_scaling(scale=-2)", "variance_scaling: scale must be >= 0, got -2.0"),
        ("xavier_normal(gain=-1)", "xavier_normal: gain must be >= 0, got -1.0"),
        ("he_normal(gain=-1)", "he_normal: gain must be >= 0, got -1.0"),
        ("constant(nan)", "constant: value must be a number, got nan"),
        ("normal(mean=nan)", "normal: mean must be a number, got nan"),
        ("normal(std=nan)", "normal: std must be a number, got nan"),
        ("uniform(high=nan)", "uniform: high must be a number, got nan"),
        ("truncated_normal(low=nan)", "truncated_normal: low must be a number, got nan"),
        ("truncated_normal(high=nan)", "truncated_normal: high must be a number, got nan"),
        ("he_normal(gain=nan)", "he_normal: gain must be a number, got nan"),
        ("he_normal(nonlinearity='leaky_relu', slope=nan)", "he_normal: slope must be a number, got nan"),
        ("constant(inf)", "constant: value must be finite, got inf"),
        ("constant(1e999)", "constant: value must be finite, got inf"),
        ("normal(mean=-inf)", "normal: mean must be finite, got -inf"),
        ("normal(std=inf)", "normal: std must be finite, got inf"),
        ("uniform(low=-inf)", "uniform: low must be finite, got -inf"),
        ("xavier_normal(gain=inf)", "xavier_normal: gain must be finite, got inf"),
        ("variance_scaling(inf)", "variance_scaling: scale must be finite, got inf"),
        (f"constant({10**400})", f"constant: value must be within the range of float64, got 1{'0' * 76}..."),
        ("sparse(1.5)", "sparse: sparsity must be in [0, 1], got 1.5"),
        ("sparse(-0.1)", "sparse: sparsity must be in [0, 1], got -0.1"),
        ("sparse(nan)", "sparse: sparsity must be a number, got nan"),
        ("sparse(0.5, std=-1)", "sparse: std must be >= 0, got -1.0"),
        ("sparse(0.5, per='column')", "sparse: per 'column' is unknown; it must be one of in, out"),
        ("orthogonal(inf)", "orthogonal: gain must be finite, got inf"),
        ("identity(nan)", "identity: gain must be a number, got nan"),
        ("dirac(0)", "dirac: groups must be an int in [1, 2^31), got 0"),
        ("dirac(-1)", "dirac: groups must be an int in [1, 2^31), got -1"),
        (f"residual_normal({2**31})", "residual_normal: layers must be an int in [1, 2^31), got 2147483648"),
        ("fixup(0)", "fixup: layers must be an int in [1, 2^31), got 0"),
        ("fixup(4, depth=1)", "fixup: depth must be >= 2: the last weight of a branch is zeros, got 1"),
        ("t_fixup(4, coder='decoders')", "t_fixup: coder 'decoders' is unknown; did you mean 'decoder'?"),
        ("deepnet", "deepnet: encoder or decoder must be a number of layers, got 0 and 0"),
        ("deepnet(-1)", "deepnet: encoder must be an int in [0, 2^31), got -1"),
        ("mup(0)", "mup: base_fan must be an int in [1, 2^31), got 0"),
        ("mup(8, place='x')", "mup: place 'x' is unknown; it must be one of input, hidden, output"),
        (
            "lstm_bias(order='fgiof')",
            "lstm_bias: order must be the letters i, f, g (or c) and o in some order, such as",
        ),
        ("lstm_bias(order='ifcg')", "lstm_bias: order must be the letters i, f, g (or c) and o in some order, such as"),
        ("deepnet(3, 4)", "deepnet: coder must be 'encoder' or 'decoder' where there are layers of both, got 3, 4"),
        ("deepnet(3, coder='decoder')", "deepnet: coder must be 'encoder', which alone has layers, got 'decoder'"),
        ("array([])", "array: values must be a rectangle of at least one number, got ()"),
        ("array([[1, 2], [3]])", "array: values must be a rectangle of at least one number, got ((1, 2), (3,))"),
        ("array([[1], 2])", "array: values must be a rectangle of at least one number, got ((1,), 2)"),
        ("array([nan])", "array: values must be a number, got nan"),
        ("array([[0, -inf]])", "array: values must be finite, got -inf"),
        (f"array({[1] * 65537})", "array: values must be at most 65536 numbers, got 65537"),
        (f"array([{'1, ' * 400}NaN])", "array: values must be a number, got nan"),
        (f"array({'[' * 900}1{']' * 900})", "array: values must have at most 64 axes, got lists nested deeper"),
        ("uniform(2, 1)", "uniform: low must be <= high, got low=2.0, high=1.0"),
        ("uniform(low=2)", "uniform: low must be <= high, got low=2.0, high=1.0"),
        ("truncated_normal(low=3)", "truncated_normal: low must be <= high, got low=3.0, high=2.0"),
        ("truncated_normal(low=37.5, high=inf)", "truncated_normal: low must be <= 37 standard deviations, got 37.5"),
        ("truncated_normal(low=inf, high=inf)", "truncated_normal: low must be <= 37 standard deviations, got inf"),
        ("truncated_normal(low=-inf, high=-38)", "truncated_normal: high must be >= -37 standard deviations, got -38"),
        ("truncated_normal(1e308, 1e308, 2, 2)", "truncated_normal: mean + std * low must be finite, got inf"),
        ("he_normal(mode='fan_inn')", "he_normal: mode 'fan_inn' is unknown; did you mean 'fan_in'?"),
        ("xavier_normal(mode='x')", "xavier_normal: mode 'x' is unknown; it must be one of fan_in, fan_out, fan_avg"),
        (
            "variance_scaling(distribution='untruncated_normal')",
            "variance_scaling: distribution 'untruncated_normal' is unknown; did you mean 'truncated_normal'?",
        ),
        ("he_normal(nonlinearity='rellu')", "he_normal: nonlinearity 'rellu' is unknown; did you mean 'relu'?"),
        (
            "he_normal(gain=2, nonlinearity='relu')",
            "he_normal: gain must be left out where a nonlinearity sets it, got 2.0 and 'relu'",
        ),
        (
            "he_normal(slope=0.1)",
            "he_normal: slope needs nonlinearity='leaky_relu' or 'prelu', got 0.1 without a nonlinearity",
        ),
        (
            "he_normal(nonlinearity='relu', slope=0.1)",
            "he_normal: slope needs nonlinearity='leaky_relu' or 'prelu', got 0.1 with 'relu'",
        ),
        ("he_uniform(gain=1.7e308)", "he_uniform: gain, scale or std must keep the weights within float64"),
        ("xavier_truncated_normal(gain=1.7e308)", "xavier_truncated_normal: gain, scale or std must keep the weights"),
        ("mup(8, std=1.7e308)", "mup: gain, scale or std must keep the weights within float64, got a std of inf"),
        ("he_norml", "scheme 'he_norml' is unknown; did you mean 'he_normal'?"),
        ("HeNormal", "scheme 'HeNormal' is unknown; keras.initializers.HeNormal is 'he_truncated_normal' here"),
        (
            "RandomNormal(stddev=1)",
            "scheme 'RandomNormal' is unknown; keras.initializers.RandomNormal is 'normal' here",
        ),
        ("trunc_normal_", "scheme 'trunc_normal_' is unknown; torch.nn.init.trunc_normal_ is 'truncated"),
        ("he_norml(gain=2)", "scheme 'he_norml' is unknown; did you mean 'he_normal'?"),
        ("xyz", "scheme 'xyz' is unknown; it must be one of zeros, ones, constant"),
        ("he-normal", "scheme 'he-normal' cannot be read; it must be a name, or a call with literal arguments such as"),
        (
            "he_normal(mode=fan_out)",
            "scheme 'he_normal(mode=fan_out)' cannot be read at fan_out; a word needs quotes: '",
        ),
    ],
)
def test_a_bad_value_is_refused_by_name(text, message):
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        scheme(text)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("constant", "constant: argument 'value' is missing"),
        ("constant(True)", "constant: value must be a number, got True"),
        ("constant(None)", "constant: value must be a number, got None"),
        ("constant('1')", "constant: value must be a number, got '1'"),
        ("constant(1j)", "constant: value must be a number, got 1j"),
        ("constant(b'1')", "constant: value must be a number, got b'1'"),
        ("normal(std='0.1')", "normal: std must be a number, got '0.1'"),
        ("normal(std=None)", "normal: std must be a number, got None"),
        ("normal(std=[1])", "normal: std must be a number, got (1,)"),
        ("normal((1, [2]))", "normal: mean must be a number, got (1, (2,))"),
        ("sparse", "sparse: argument 'sparsity' is missing"),
        ("sparse('0.5')", "sparse: sparsity must be a number, got '0.5'"),
        ("sparse(0.5, per=1)", "sparse: per must be a str, got 1"),
        ("dirac(2.0)", "dirac: groups must be an int in [1, 2^31), got 2.0"),
        ("dirac(True)", "dirac: groups must be an int in [1, 2^31), got True"),
        ("fixup(None)", "fixup: layers must be an int in [1, 2^31), got None"),
        ("mup([64])", "mup: base_fan must be an int in [1, 2^31), got (64,)"),
        ("array(3)", "array: values must be an array or a nested list of numbers, got 3"),
        ("array('12')", "array: values must be an array or a nested list of numbers, got '12'"),
        ("array([1, None])", "array: values must be a number, got None"),
        ("array([[True]])", "array: values must be a number, got True"),
        (f"array([{'1, ' * 400}true])", "array: values must be a number, got True"),
        ("he_normal(mode=1)", "he_normal: mode must be a str, got 1"),
        ("he_normal(mode=None)", "he_normal: mode must be a str, got None"),
        ("he_normal(gain=False)", "he_normal: gain must be a number, got False"),
        ("normal(stdd=1)", "normal: argument 'stdd' is unknown; did you mean 'std'?"),
        ("normal(scale=1)", "normal: argument 'scale' is unknown; it must be one of mean, std"),
        ("zeros(value=1)", "zeros: argument 'value' is unknown; it takes none"),
        ("zeros(1)", "zeros: takes at most 0 arguments, got 1"),
        ("normal(1, 2, 3)", "normal: takes at most 2 arguments, got 3"),
        ("uniform(1, 2, 3)", "uniform: rounding must be a str, got 3"),
        ("normal(std=1, std=2)", "normal: argument 'std' is given twice in 'normal(std=1, std=2)'"),
        ("normal(1, mean=2)", "normal: argument 'mean' is given twice in 'normal(1, mean=2)'"),
    ],
)
def test_a_wrong_type_or_argument_is_refused_by_name(text, message):
    with pytest.raises(TypeError) as raised:
        scheme(text)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "normal(",
        "normal)",
        "normal(std=2**-3)",
        "normal(std=1/0)",
        "normal(std={1})",
        "normal(std=-'a')",
        "normal(std=-True)",
        "normal(std=--1)",
        "normal(std=(1).real)",
        "normal(*[1])",
        "normal(**{'std': 1})",
        "normal(__import__('os').getpid())",
        "normal()()",
        "np.normal",
        "normal; zeros",
        "nor\0mal",
        "array({1})",
        "array(-[1])",
        "array([1] * 3)",
        "array([x for x in (1, 2)])",
        f"array({'[' * 20_000}{']' * 20_000})",
        f"array({[1] * 400}, 2)",
        f"normal({[1] * 400})",
        "(" * 1000 + ")" * 1000,
        "-" * 100_000 + "1",
        f"constant({'1' * 5000})",
    ],
    ids=lambda text: text[:20].replace("\0", "0"),
)
def test_what_is_no_call_with_literals_is_refused(text):
    with pytest.raises(
        ValueError, match=r"^scheme .*cannot be read; it must be a name, or a call with literal arguments"
    ):
        scheme(text)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "True"),
        (np.True_, "np.True_"),
        (np.array(True), r"array\(True\)"),
        (1j, "1j"),
        (np.complex64(1), "np.complex64"),
        ("1", "'1'"),
        (np.str_("1"), r"np.str_\('1'\)"),
        (None, "None"),
        ([1.0], r"\[1.0\]"),
        (np.array([1.0]), r"array\(\[1.\]\)"),
        (float, "<class 'float'>"),
    ],
    ids=repr,
)
def test_what_is_no_number_is_refused(value, shown):
    with pytest.raises(TypeError, match=rf"^constant: value must be a number, got {shown}"):
        scheme("constant", value=value)


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2], [0.5, -3]],
        ((1, 2), (0.5, -3)),
        np.array([[1, 2], [0.5, -3]], "float16"),
        [np.array([1.0, 2.0]).tolist(), (np.float32(0.5), np.int8(-3))],
    ],
    ids=["lists", "tuples", "array", "mixed"],
)
def test_an_array_may_be_given_as_one(values):
    assert str(scheme("array", values=values)) == "array(values=[[1.0, 2.0], [0.5, -3.0]])"


def test_an_array_may_be_of_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert scheme("array", values=np.array([0.5, 3], ml_dtypes.bfloat16)) == scheme("array([0.5, 3])")


@pytest.mark.parametrize("name", ["array", "assign"])
def test_the_text_of_an_array_may_be_long(name):
    values = np.random.default_rng(1).standard_normal((arguments.MOST_VALUES // 4, 4))
    made = scheme(name, values=values)
    assert len(str(made)) > 10**6
    assert scheme(f" {name}({values.tolist()})\n") == scheme(str(made)) == made


def test_a_list_that_holds_itself_is_refused():
    values = [1.0]
    values[0] = values
    with pytest.raises(ValueError, match=r"^array: values must have at most 64 axes, got lists nested deeper"):
        scheme("array", values=values)


def test_an_integer_too_long_to_print_is_refused():
    with pytest.raises(ValueError, match=r"^constant: value must be within the range of float64, got a very long int"):
        scheme("constant", value=10**5000)


def test_accepted_and_refused_do_not_depend_on_earlier_calls():
    assert scheme("constant", value=1) == scheme("constant", value=1.0)
    with pytest.raises(TypeError, match="value must be a number, got True"):
        scheme("constant", value=True)


@pytest.mark.parametrize("spec", [None, 3, ["normal"], Normal(0.0, 1.0), b"normal"], ids=repr)
@pytest.mark.parametrize("arguments", [{}, {"std": 1}])
def test_what_is_no_scheme_is_refused(spec, arguments):
    with pytest.raises(TypeError, match="scheme must be a str or a Scheme, got"):
        scheme(spec, **arguments)


def test_a_misspelt_argument_is_refused_beside_a_scheme_too():
    with pytest.raises(TypeError, match=r"^normal: argument 'sdt' is unknown; did you mean 'std'\?"):
        scheme(scheme("normal"), sdt=1)
