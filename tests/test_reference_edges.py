"""Arguments at their edges: the library's bits are those of STREAM.md's second implementation, or both refuse.

Zeros of both signs, numbers that vanish in a narrower type or lie on its ties, the largest and what is just beyond,
equal and infinite bounds, fans of 0, 1 and beyond 2^60: for every scheme of the registry and every type. Hypothesis
draws the calls; a sample always runs, the rest with ``pytest -m sweep``.
"""

import math
from math import prod

import numpy as np
import pytest
import reference
from arrays import bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import winit_fast
from winit_fast.gains import GAINS
from winit_fast.schemes import REQUIRED

DTYPES = reference.DTYPES | reference.COMPLEX_DTYPES
INF = math.inf
LARGEST = 1.7976931348623157e308

# Of float64, 2^-150 and 1.5 * 2^-149 being ties of float32; then the same of the narrower types, and where each ends.
TINY = [5e-324, 1e-320, 2.0**-1022, 1e-46, 2.0**-150, 2.0**-150 * (1 + 2.0**-52), 2.0**-149, 1.5 * 2.0**-149, 1e-40]
SMALL = [2.0**-126, 2.0**-64, 2.0**-65, 1e-30, 2.0**-134, 2.0**-25, 2.0**-24, 2.0**-17, 2.0**-10, 1e-6]
PLAIN = [0.01, 1 / 3, 0.5, 1.0, 1 + 2.0**-24, 1 + 2.0**-24 + 2.0**-52, 1 + 2.0**-11, 1.25, 2.0, 3.7, 1000.1]
ENDS = [448.0, 464.0, 464.1, 57344.0, 61440.0, 65504.0, 65519.999, 65520.0, 3.38953e38, 3.3961775292304957e38]
BEYOND = [3.4028234663852886e38, 3.4028235677973362e38, 3.4028235677973366e38, 1e39, 1e300, 9e307, LARGEST]

POSITIVE = st.sampled_from([*TINY, *SMALL, *PLAIN, *ENDS, *BEYOND]) | st.floats(0, LARGEST, exclude_min=True)
SIZES = st.just(0.0) | st.just(-0.0) | POSITIVE | POSITIVE.map(lambda size: size / 6.5557)
NUMBERS = st.builds(math.copysign, SIZES, st.sampled_from([1, -1]))
LONE_BOUNDS = st.sampled_from(
    [0.0, -0.0, 1e-320, 2.0**-65, 2.0**-64, 1e-12, 0.3, 2.0, 2.0000000000000004, 8.8, 8.9, 37.0]
)
BOUNDS = st.builds(
    math.copysign, LONE_BOUNDS | st.sampled_from([38.7, 41.0, 1e300, LARGEST, INF]), st.sampled_from([1, -1])
)
COUNTS = st.sampled_from([1, 2, 3, 10, 1000, 2**31 - 1])
MODES = st.sampled_from(["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
KINDS = st.sampled_from(["uniform", "normal", "truncated_normal"])

# Of every argument of every scheme; one that is new must be written here.
ARGUMENTS = {
    "value": NUMBERS,
    "low": NUMBERS,
    "high": NUMBERS,
    "rounding": st.sampled_from(["nearest", "below_high"]),
    "mean": NUMBERS | st.just(0.0),
    "std": SIZES,
    "scale": SIZES,
    "mode": MODES,
    "distribution": KINDS,
    "gain": SIZES,
    "nonlinearity": st.sampled_from(sorted(GAINS)),
    "slope": NUMBERS,
    "sparsity": st.sampled_from([0.0, -0.0, 5e-324, 0.3, 1 / 3, 1 - 2.0**-53, 1.0]),
    "per": st.sampled_from(["in", "out"]),
    "groups": st.sampled_from([1, 2]),
    "values": st.lists(NUMBERS, min_size=1, max_size=1) | st.lists(NUMBERS, min_size=4, max_size=4),
    "forget": NUMBERS,
    "order": st.sampled_from(["ifgo", "iofg"]),
    "layers": COUNTS,
    "depth": COUNTS,
    "encoder": COUNTS | st.just(0),
    "decoder": COUNTS | st.just(0),
    "coder": st.sampled_from(["encoder", "decoder"]),
    "base_fan": COUNTS,
    "place": st.sampled_from(["input", "hidden", "output"]),
}
BETWEEN_BOUNDS = {"low": BOUNDS, "high": BOUNDS}
MAY_BE_NEGATIVE = {"orthogonal", "delta_orthogonal", "convolution_orthogonal", "identity"}

TORCH = {"in_axis": 1, "out_axis": 0}
# The global shape and axes, and the place and shape of what is filled of it.
ANY = [
    ((40, 3), {}, (0, 0), (40, 3)),
    ((3, 5), TORCH, (0, 0), (3, 5)),
    ((1, 1), {}, (0, 0), (1, 1)),
    ((0, 5), {}, (0, 0), (0, 5)),
    ((7, 0, 1), {}, (0, 0, 0), (7, 0, 1)),
    ((2**31, 2**31 - 1), {}, (2**30, 2**28), (3, 30)),
    ((2**40, 2, 2**20, 1), {"in_axis": 3, "out_axis": (1, 2)}, (2**39, 0, 99, 0), (2, 2, 9, 1)),
    ((2, 3, 40), {"batch_axis": 0, "padding_idx": 2}, (0, 0, 0), (2, 3, 40)),
    ((70, 2), {"padding_idx": 0, "matrices": 2}, (0, 0), (70, 2)),
]
FEW = [place for place in ANY if prod(place[0]) < 1000 and len(place[0]) == 2]
KERNELS = [
    ((3, 4, 8), {}, (0, 0, 0), (3, 4, 8)),
    ((4, 2, 1, 2), {}, (0, 0, 0, 0), (4, 2, 1, 2)),
    ((4, 4, 3), TORCH | {"padding_idx": 1}, (0, 0, 0), (4, 4, 3)),
    ((3, 0, 0), {}, (0, 0, 0), (3, 0, 0)),
]
BIASES = [((8,), {}, (0,), (8,)), ((2, 12), {}, (0, 4), (2, 5))]
PLACES = {
    "orthogonal": FEW,
    "sparse": [*FEW, ((130, 3), {}, (0, 0), (130, 3)), ((3, 131), {}, (0, 0), (3, 131))],
    "identity": FEW,
    "array": [((3, 4), {}, (0, 0), (3, 4)), ((2, 2, 4), {}, (0, 0, 0), (2, 2, 4))],
    "lstm_bias": BIASES,
    **dict.fromkeys(["delta_orthogonal", "convolution_orthogonal", "dirac", "bilinear"], KERNELS),
}


@st.composite
def arguments(draw, entry):
    """Some of the arguments of a scheme, those that must be and now and then the others."""
    given = {}
    for argument in entry.arguments:
        if argument.default is not REQUIRED and draw(st.integers(0, 3)) == 0:
            continue
        choices = ARGUMENTS[argument.name]
        if entry.name == "truncated_normal":
            choices = BETWEEN_BOUNDS.get(argument.name, choices)
        if argument.name == "gain" and entry.name in MAY_BE_NEGATIVE:
            choices = NUMBERS
        given[argument.name] = draw(choices)
    if "gain" in given and "nonlinearity" in given:
        del given[draw(st.sampled_from(["gain", "nonlinearity"]))]
    if given.get("nonlinearity") not in ("leaky_relu", "prelu"):
        given.pop("slope", None)
    if {"low", "high"} <= given.keys():
        how = draw(st.integers(0, 9))
        if how == 0:
            given["high"] = given["low"]
        elif how == 1:
            given["low"] = -given["high"]
        elif how < 9 and given["low"] > given["high"]:
            given["low"], given["high"] = given["high"], given["low"]
    if entry.name == "deepnet":
        coders = [coder for coder in ("encoder", "decoder") if given.get(coder, 0)]
        if not coders:
            given["encoder"], coders = 6, ["encoder"]
        given["coder"] = draw(st.sampled_from(coders))
    return given


@st.composite
def calls(draw, entry):
    """A scheme's text, a type, and a place of a tensor."""
    given = draw(arguments(entry))
    text = f"{entry.name}({', '.join(f'{name}={value!r}' for name, value in given.items())})"
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    return text, dtype, draw(st.sampled_from(PLACES.get(entry.name, ANY)))


def filled(text, dtype, place, seed):
    """What the library gives; None where it refuses."""
    shape, axes, offset, extent = place
    try:
        out = np.full(extent, 0.625, DTYPES[dtype])
        return winit_fast.fill(out, text, seed=seed, name="edges", shape=shape, offset=offset, **axes)
    except (TypeError, ValueError):
        return None


def expected(text, dtype, place, seed):
    """What STREAM.md says; None where it says that there is nothing."""
    shape, axes, offset, extent = place
    axes = dict(axes)
    padding, matrices = axes.pop("padding_idx", None), axes.pop("matrices", None)
    places = np.indices(extent, np.uint64) + np.array(offset, np.uint64).reshape(-1, *[1] * len(extent))
    index = np.zeros(extent, np.uint64)
    for along, size in zip(places, shape, strict=True):
        index = index * np.uint64(size) + along
    if matrices is not None:
        axes["matrices"] = (matrices, len(shape) - 1)
    try:
        values = reference.values(text, DTYPES[dtype], seed=seed, name="edges", shape=shape, index=index, **axes)
    except ValueError:
        return None
    if padding is not None:
        values[places[1 if "batch_axis" in axes else 0] == padding] = 0
    return values


def disagreement(call, seed=7):
    """What is wrong with a call; None where nothing is."""
    got, wanted = filled(*call, seed), expected(*call, seed)
    if got is None or wanted is None:
        return None if got is wanted else f"{call}: the {'library' if got is None else 'reference'} alone refuses"
    if got.dtype == wanted.dtype and (bits(got) == bits(wanted)).all():
        return None
    at = np.flatnonzero(bits(got) != bits(wanted))[:3]
    number = got.real.dtype
    return f"{call}: {bits(got)[at].view(number)} by the library, {bits(wanted)[at].view(number)} by the reference"


def test_the_library_and_the_reference_agree_at_the_edges_of_every_argument(entry):
    @settings(max_examples=40, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(calls(entry))
    def agree(call):
        assert disagreement(call) is None

    agree()


@pytest.mark.sweep
def test_the_library_and_the_reference_agree_at_many_edges_of_every_argument(entry):
    @settings(max_examples=2000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(calls(entry))
    def agree(call):
        assert disagreement(call) is None

    agree()


def pytest_generate_tests(metafunc):
    if "entry" in metafunc.fixturenames:
        metafunc.parametrize("entry", winit_fast.schemes(), ids=lambda entry: entry.name)


WHOLE = ((3, 4), {}, (0, 0), (3, 4))
NOT_WIDE = [
    ("he_uniform(gain=0)", +0.0),
    ("he_uniform(gain=-0.0)", +0.0),
    ("variance_scaling(scale=0, distribution='uniform')", +0.0),
    ("xavier_uniform(gain=5e-324, mode='fan_out')", +0.0),
    ("mup(base_fan=1, std=5e-324, place='output', distribution='uniform')", +0.0),
    ("he_truncated_normal(gain=0)", +0.0),
    ("orthogonal(gain=0)", +0.0),
    ("orthogonal(gain=-0.0)", +0.0),
    ("identity(gain=-0.0)", +0.0),
    ("sparse(0.5, std=-0.0)", +0.0),
    ("uniform(-0.0, 0.0)", -0.0),
    ("uniform(0.0, -0.0)", +0.0),
    ("normal(mean=-0.0, std=0)", -0.0),
    ("truncated_normal(mean=-0.0, std=-0.0)", -0.0),
    ("truncated_normal(mean=-0.0, std=1, low=-0.0, high=-0.0)", -0.0),
    ("truncated_normal(mean=-0.0, std=1, low=0.0, high=0.0)", +0.0),
    ("constant(-0.0)", -0.0),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("text", "value"), NOT_WIDE, ids=lambda value: str(value))
def test_what_has_no_width_is_a_zero_of_the_sign_that_the_page_names(text, value, dtype):
    got = filled(text, dtype, WHOLE, 1)
    assert (got.real == 0).all()
    assert (np.signbit(got.real.astype(float)) == np.signbit(value)).all()
    assert not np.signbit(got.imag.astype(float)).any()
    assert disagreement((text, dtype, WHOLE)) is None


VANISHING = [
    ("constant(-1e-46)", "float32", +0.0),
    ("constant(-1e-46)", "float16", +0.0),
    ("constant(-1e-10)", "float16", -0.0),
    ("array([-1e-46])", "float32", +0.0),
    ("array([-0.0])", "bfloat16", -0.0),
    ("array([-1e-10])", "float8_e5m2", -0.0),
    ("lstm_bias(forget=-1e-46)", "float32", +0.0),
    ("uniform(-1e-46, -0.0)", "float32", None),
    ("normal(mean=-0.0, std=1e-46)", "float32", +0.0),
    ("normal(mean=-1e-46, std=1e-46)", "float16", +0.0),
    ("truncated_normal(std=1e-46)", "bfloat16", +0.0),
    ("identity(gain=-1e-46)", "float32", +0.0),
]


@pytest.mark.parametrize(("text", "dtype", "value"), VANISHING)
def test_what_vanishes_has_the_sign_that_the_page_names(text, dtype, value):
    got = filled(text, dtype, WHOLE, 1)
    if value is None:
        assert got is None, "no value of float32 lies in [-1e-46, -0)"
    else:
        assert (got.astype(float) == 0).all()
        assert (np.signbit(got.astype(float)) == np.signbit(value)).all()
    assert disagreement((text, dtype, WHOLE)) is None


@pytest.mark.parametrize("bounds", ["0, 1e-30", "-1e-30, 1e-30", "-1e-30, 2e-30"])
def test_a_std_beyond_the_working_type_is_refused_between_the_nearest_bounds_too(bounds):
    for dtype in ("float32", "float16", "bfloat16"):
        assert disagreement((f"truncated_normal(0, 1e39, {bounds})", dtype, WHOLE)) is None
        assert filled(f"truncated_normal(0, 1e39, {bounds})", dtype, WHOLE, 1) is None
    assert filled(f"truncated_normal(0, 1e38, {bounds})", "float32", WHOLE, 1) is not None
    assert filled(f"truncated_normal(0, 1e39, {bounds})", "float64", WHOLE, 1) is not None


def test_a_wrong_bit_or_a_refusal_of_one_side_is_noticed(monkeypatch):
    call = ("normal", "float32", WHOLE)
    right = filled(*call, 7)
    wrong = right.copy()
    wrong.view(np.uint32)[2, 3] ^= 1
    for other in (wrong, None):
        with monkeypatch.context() as patch:
            patch.setattr("test_reference_edges.filled", lambda *_, other=other: other)
            assert disagreement(call) is not None
    assert disagreement(call) is None
