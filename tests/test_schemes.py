"""Schemes: what their names mean, how they are written and read, and what is refused."""

import copy
import math
import pickle
from fractions import Fraction
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winit_fast.distributions import Constant, Normal, TruncatedNormal, Uniform
from winit_fast.schemes import REQUIRED, Scheme, calculate_gain, scheme, schemes

registry = import_module("winit_fast.schemes")  # the package's attribute of that name is the function
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
        kind: scheme("variance_scaling", scale=5, distribution=kind).distribution((7, 2)) for kind in registry._KINDS
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
    with pytest.raises(ValueError, match=r"in_axis -2 is out of range for shape \(7,\).*scheme without fans"):
        he.distribution((7,))


@pytest.mark.parametrize("mode", registry._FANS)
def test_a_fan_of_0_counts_as_1(mode):
    assert scheme("lecun_normal", mode=mode).distribution((0, 0)) == Normal(0.0, 1.0)


def test_fans_beyond_2_to_the_53_are_rounded_once():
    assert scheme("lecun_normal").distribution((2**53 + 1, 2)) == Normal(0.0, 1.0 / math.sqrt(2.0**53))
    averaged = scheme("xavier_normal").distribution((2**62, 2**62))
    assert averaged == Normal(0.0, 2.0**-31)


@pytest.mark.parametrize("alias", ["kaiming", "msra"])
@pytest.mark.parametrize("kind", registry._KINDS)
def test_kaiming_and_msra_are_he(alias, kind):
    assert scheme(f"{alias}_{kind}") == scheme(f"he_{kind}")
    assert str(scheme(f"{alias}_{kind}")) == f"he_{kind}"


@pytest.mark.parametrize("kind", registry._KINDS)
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
        ("constant(-2)", -2.0),
    ],
)
def test_a_scheme_without_width_is_a_constant_and_draws_nothing(text, value):
    made = scheme(text)
    assert made.distribution((2, 2)) == Constant(value)
    assert made.draws is False


@pytest.mark.parametrize("entry", schemes(), ids=lambda entry: entry.name)
def test_every_scheme_but_the_constants_draws(entry):
    required = {argument.name: 1 for argument in entry.arguments if argument.default is REQUIRED}
    made = scheme(entry.name, **required)
    assert made.draws is (entry.name not in {"zeros", "ones", "constant"})
    assert made.distribution((3, 4)).draws is made.draws


def test_a_normal_cut_nowhere_is_a_normal():
    assert scheme("truncated_normal(low=-inf, high=inf, mean=2)").distribution(()) == Normal(2.0, 1.0)


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


def any_scheme():
    choices = {
        registry.finite: numbers,
        registry.not_negative: st.floats(0.0, 1e300),
        registry.lower_bound: st.one_of(st.just(-math.inf), st.floats(-50.0, 0.0)),
        registry.upper_bound: st.one_of(st.just(math.inf), st.floats(0.0, 50.0)),
    }
    plain = [entry for entry in schemes() if all(argument.check in choices for argument in entry.arguments)]

    def arguments(entry):
        drawn = st.fixed_dictionaries({argument.name: choices[argument.check] for argument in entry.arguments})
        return drawn.filter(lambda values: values.get("low", 0.0) <= values.get("high", 1.0)).map(
            lambda values: scheme(entry.name, **values)
        )

    worded = st.builds(
        lambda name, gain, mode: scheme(name, gain=gain, mode=mode),
        st.sampled_from(["he_normal", "xavier_uniform"]),
        st.floats(0.0, 1e300),
        st.sampled_from(list(registry._FANS)),
    )
    return st.one_of(st.sampled_from(plain).flatmap(arguments), worded)


@given(any_scheme())
def test_str_reads_back_to_an_equal_scheme(made):
    assert scheme(str(made)) == made
    assert hash(scheme(str(made))) == hash(made)
    assert str(scheme(str(made))) == str(made)
    assert scheme(str(made)).arguments == made.arguments


@given(any_scheme())
def test_repr_is_the_call_that_makes_it(made):
    assert eval(repr(made), {"scheme": scheme, "inf": math.inf}) == made


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


def test_schemes_lists_each_once_with_formula_and_arguments():
    entries = schemes()
    names = [name for entry in entries for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))
    assert all(entry.formula for entry in entries)
    assert all(isinstance(scheme(name), Scheme) for name in names if name != "constant")
    lines = {entry.name: str(entry) for entry in entries}
    assert lines["constant"].startswith("constant(value): ")
    assert lines["truncated_normal"].startswith("truncated_normal(mean=0.0, std=1.0, low=-2.0, high=2.0): ")
    assert "1502.01852" in next(entry.source for entry in entries if entry.name == "he_uniform")


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="scheme 'normal' is registered already"):
        registry.register(registry.normal)


def test_one_function_makes_a_scheme(monkeypatch):
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))

    @registry.register
    def half_normal_test(std: registry.NotNegative = 1.0) -> registry.Law:
        """Half of N(0, std^2).

        Source: a test
        """
        return TruncatedNormal(0.0, std, 0.0, math.inf)

    assert scheme("half_normal_test(2)").distribution(()) == TruncatedNormal(0.0, 2.0, 0.0, math.inf)
    assert str(schemes()[-1]) == "half_normal_test(std=1.0): Half of N(0, std^2)"
    assert schemes()[-1].source == "a test"


# calculate_gain


@pytest.mark.parametrize(
    ("nonlinearity", "gain"),
    [
        ("linear", 1.0),
        ("conv", 1.0),
        ("conv_transpose2d", 1.0),
        ("sigmoid", 1.0),
        ("tanh", 5.0 / 3.0),
        ("relu", math.sqrt(2.0)),
        ("leaky_relu", math.sqrt(2.0 / (1.0 + 0.01 * 0.01))),
        ("selu", 0.75),
    ],
)
def test_calculate_gain_is_pytorchs_table(nonlinearity, gain):
    assert calculate_gain(nonlinearity) == gain


@pytest.mark.parametrize(
    ("slope", "gain"), [(0, math.sqrt(2.0)), (1, 1.0), (-1, 1.0), (np.float32(0.5), math.sqrt(1.6))]
)
def test_calculate_gain_follows_the_slope_of_leaky_relu(slope, gain):
    assert calculate_gain("leaky_relu", slope) == gain


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("rellu",), ValueError, "nonlinearity 'rellu' is unknown; did you mean 'relu'?"),
        (("xyz",), ValueError, "nonlinearity 'xyz' is unknown; it must be one of linear, conv"),
        ((3,), TypeError, "nonlinearity must be a str, got 3"),
        (("relu", 0.1), ValueError, "slope needs nonlinearity='leaky_relu', got 0.1 with 'relu'"),
        (("leaky_relu", math.nan), ValueError, "slope must be a number, got nan"),
        (("leaky_relu", math.inf), ValueError, "slope must be finite, got inf"),
        (("leaky_relu", 1e200), ValueError, "slope must have a square within float64, got 1e+200"),
        (("leaky_relu", -1.4e154), ValueError, "slope must have a square within float64, got -1.4e+154"),
        (("leaky_relu", True), TypeError, "slope must be a number, got True"),
        (("leaky_relu", "0.1"), TypeError, "slope must be a number, got '0.1'"),
    ],
)
def test_calculate_gain_refuses_with_the_argument_and_its_value(arguments, error, message):
    with pytest.raises(error) as raised:
        calculate_gain(*arguments)
    assert str(raised.value).startswith(message)


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
            "he_normal: slope needs nonlinearity='leaky_relu', got 0.1 without a nonlinearity",
        ),
        (
            "he_normal(nonlinearity='relu', slope=0.1)",
            "he_normal: slope needs nonlinearity='leaky_relu', got 0.1 with 'relu'",
        ),
        ("he_uniform(gain=1.7e308)", "he_uniform: gain or scale must keep the weights within float64, got a std of"),
        ("xavier_truncated_normal(gain=1.7e308)", "xavier_truncated_normal: gain or scale must keep the weights"),
        ("he_norml", "scheme 'he_norml' is unknown; did you mean 'he_normal'?"),
        ("HeNormal", "scheme 'HeNormal' is unknown; did you mean 'he_normal'?"),
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
        ("he_normal(mode=1)", "he_normal: mode must be a str, got 1"),
        ("he_normal(mode=None)", "he_normal: mode must be a str, got None"),
        ("he_normal(gain=False)", "he_normal: gain must be a number, got False"),
        ("normal(stdd=1)", "normal: argument 'stdd' is unknown; did you mean 'std'?"),
        ("normal(scale=1)", "normal: argument 'scale' is unknown; it must be one of mean, std"),
        ("zeros(value=1)", "zeros: argument 'value' is unknown; it takes none"),
        ("zeros(1)", "zeros: takes at most 0 arguments, got 1"),
        ("uniform(1, 2, 3)", "uniform: takes at most 2 arguments, got 3"),
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
        "normal(std=[1])",
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
