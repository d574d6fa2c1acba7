"""Accuracy: each transform against its exact value at the same words (STREAM.md, sections 3 to 5 and 7).

Philox is a bijection of counters, so every word is somewhere in the stream: run backwards, it says under which name and
at which index the compiled kernel meets the words that a test wants it to meet.
"""

import math
from fractions import Fraction
from functools import cache

import mpmath
import numpy as np
import pytest
import reference
from arrays import DTYPES
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special

import winit_fast
from winit_fast.lowering import LARGEST_NORMAL, _reach

# DESIGN's promise: |error| <= this * max(1, |z|), in standard deviations.
PROMISED = {"float32": 2e-6, "float64": 1e-14}
ALL = (1 << 63) - 1  # elements of the longest tensor
DRAWN = 1 << 18  # words beside the chosen ones
MANY_DRAWN = 1 << 22

INF = math.inf
INTERVALS = [
    # centre form in float32
    (-2.0, 2.0), (-1.0, 1.0), (-0.5, 0.5), (-1e-6, 1e-6),
    # around the median
    (-2.5, 2.5), (-3.0, 3.0), (-6.0, 6.0), (-37.0, 37.0), (-40.0, 40.0), (-INF, 2.0), (-2.0, INF), (-2.0, 6.0),
    (-6.0, 2.0), (-1e-4, 5.0), (-5.0, 1e-4), (-1e-12, 1.0), (-1e-30, 1e-25), (-INF, 1e-30), (-37.0, 1e-3), (-1.0, 0.5),
    # one tail
    (0.0, INF), (0.0, 1e-6), (-1e-6, 0.0), (0.0, 2.0), (1.0, 1.0000001), (1.0, 2.0), (3.0, INF), (-INF, -3.0),
    (5.0, 6.0), (6.5, 6.6), (8.0, INF), (-INF, -8.0), (8.7, 8.8),
    # one far tail: the logarithmic form
    (8.8, 8.9), (8.9, INF), (9.0, INF), (9.0, 9.001), (12.0, INF), (20.0, 38.0), (30.0, 31.0), (-31.0, -30.0),
    (36.9, 37.5), (-INF, -37.0), (37.0, INF),
]  # fmt: skip


def truncated(interval):
    return f"truncated_normal(low={interval[0]!r}, high={interval[1]!r})"


# ------------------------------------------------------------------------------------------------ words of one's choice

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def counters_of(words, seed):
    """Philox4x32-10 backwards: the block and the stream whose four words under `seed` are these."""
    c0, c1, c2, c3 = (words[:, i].astype(np.uint64) for i in range(4))
    inverses = [np.uint64(pow(multiplier, -1, 1 << 32)) for multiplier in MULTIPLIERS]
    for number in reversed(range(10)):
        k0, k1 = (np.uint64((key + number * step) & 0xFFFFFFFF) for key, step in zip((seed, 0), WEYL, strict=True))
        first, second = c3 * inverses[0] & LOW, c1 * inverses[1] & LOW
        high0, high1 = first * np.uint64(MULTIPLIERS[0]) >> HALF, second * np.uint64(MULTIPLIERS[1]) >> HALF
        c0, c1, c2, c3 = first, c0 ^ high1 ^ k0, second, c2 ^ high0 ^ k1
    return c0 | c1 << HALF, c2 | c3 << HALF


def places_of(words):
    """Where to find blocks of these words: rows of (seed, stream, block), each block within reach of every dtype."""
    places = np.zeros((len(words), 3), np.uint64)
    missing = np.arange(len(words))
    for seed in range(1000):
        block, stream = counters_of(words[missing], seed)
        near = block < 1 << 60
        found = missing[near]
        places[found, 0], places[found, 1], places[found, 2] = seed, stream[near], block[near]
        missing = missing[~near]
        if not missing.size:
            return places
    raise AssertionError("one block in 16 is near")


def as_blocks(words):
    words = np.asarray(words, np.uint32).ravel()
    return np.concatenate([words, words[: -words.size % 4]]).reshape(-1, 4)


def met(words, scheme, dtype):
    """The groups that hold these words, and what the kernel makes of them: both a row a group."""
    blocks = as_blocks(words)
    size = 16 if dtype == "float64" else 32
    group_words, values = np.empty((len(blocks), 32), np.uint32), np.empty((len(blocks), size), dtype)
    for row, (seed, stream, block) in enumerate(places_of(blocks).tolist()):
        winit_fast.random_bits(group_words[row], seed=seed, name=stream, offset=block // 8 * 32)
        at = block % 8 * 4
        assert group_words[row, at : at + 4].tolist() == blocks[row].tolist()
        winit_fast.fill(values[row], scheme, seed=seed, name=stream, shape=(ALL,), offset=(block // 8 * size,))
    return group_words, values


def drawn(scheme, dtype, count=DRAWN, seed=11):
    """As `met`, for the first words of a stream."""
    words = winit_fast.random_bits(np.empty((count // 32, 32), np.uint32), seed=seed)
    return words, winit_fast.fill(np.empty((len(words), 16 if dtype == "float64" else 32), dtype), scheme, seed=seed)


@cache
def extreme_words():
    """Ends, powers of two and their neighbours, with both signs, and numbers of every octave."""
    powers = [1 << bit for bit in range(33)]
    words = {(power + step) % (1 << 32) for power in powers for step in range(-3, 4)}
    words |= {(1 << 32) - word for word in words if word}
    generator = np.random.default_rng(1)
    octaves = (generator.uniform(1, 2, (32, 16)) * 2.0 ** np.arange(32)[:, None]).astype(np.uint32)
    return np.array(sorted(words | set(octaves.ravel().tolist()) | set((~octaves).ravel().tolist())), np.uint32)


def words_around_median(interval):
    """The words where an element goes from one side to the other."""
    if not interval[0] < 0 < interval[1]:
        return []
    below, above = (math.erf(abs(bound) / math.sqrt(2)) for bound in interval)
    word = int(below / (below + above) * 2**32)
    steps = (0, 1, 2, 3, 5, 9, 100, 10**4, 10**6, 10**8)
    return [(word + sign * step) % (1 << 32) for step in steps for sign in (-1, 1)]


def pairs_of_extremes(count=48):
    generator = np.random.default_rng(2)
    ends = [0, 1, 2, 3, (1 << 31) - 1, 1 << 31, (1 << 31) + 1, (1 << 31) + 2, (1 << 32) - 2, (1 << 32) - 1]
    chosen = np.concatenate([ends, generator.choice(extreme_words(), count)]).astype(np.uint32)
    return np.stack(np.meshgrid(chosen, chosen), axis=-1).reshape(-1, 2)


def test_words_can_be_chosen():
    place = places_of(as_blocks([0, 1, 2**31, 2**32 - 1]))[0].tolist()
    words = winit_fast.random_bits(np.empty(4, np.uint32), seed=place[0], name=place[1], offset=4 * place[2])
    assert words.tolist() == [0, 1, 2**31, 2**32 - 1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "scheme", ["uniform(-0.1, 0.3)", "normal", *map(truncated, [(-2.0, 2.0), (-1.0, 3.0), (3.0, INF), (30.0, 31.0)])]
)
def test_chosen_words_give_the_values_of_the_reference(scheme, dtype):
    """The extremes that no stretch of the stream is long enough to meet."""
    blocks = np.concatenate([as_blocks(extreme_words())[::5], as_blocks(pairs_of_extremes(0))])
    size = 32 if dtype == "float32" else 16
    values = met(blocks, scheme, dtype)[1]
    for row, (seed, stream, block) in enumerate(places_of(blocks).tolist()):
        index = np.arange(size, dtype=np.uint64) + np.uint64(block // 8 * size)
        expected = reference.values(scheme, np.dtype(dtype), seed=seed, name=stream, shape=(ALL,), index=index)
        assert values[row].tobytes() == expected.tobytes()


# ---------------------------------------------------------------------------------- exact values of float32, as float64


def exact_normal32(words):
    """Element k of a group and element 16 + k."""
    signed = (words[:, ::2] | np.uint32(1)).view(np.int32).astype(np.float32)
    number = (np.ascontiguousarray(signed).view(np.uint32) - np.uint32(1)).view(np.float32).astype(float)
    radius = np.sqrt(-2 * np.log(np.abs(number) / 2**31))
    x = (words[:, 1::2] | np.uint32(1)).view(np.int32).astype(np.float32) * np.float32(2**-31 * (1 - 2**-24))
    x = x.astype(float)
    cosine = np.sin(np.pi / 2 * (1 - np.abs(x)))
    return np.hstack([np.copysign(radius * cosine, number), radius * np.sin(np.pi / 2 * x)])


def exact_centre32(words, high):
    odd = (words | np.uint32(1)).view(np.int32)
    return math.sqrt(2) * special.erfinv(odd / 2**31 * special.erf(high / math.sqrt(2)))


def exact_tail32(words, low, high):
    """By way of the nearer tail, in logarithms where that is thin."""
    v = (words.astype(float) + 0.5) / 2**32
    if low < 0 < high:
        below, above = special.ndtr(low), special.ndtr(-high)
        slope = 1 - below - above
        left, right = below + slope * v, above + slope * (1 - v)
        return np.where(left < right, special.ndtri(np.minimum(left, 0.75)), -special.ndtri(np.minimum(right, 0.75)))
    if high <= 0:
        return -exact_tail32(~words, -high, -low)
    near, far = special.log_ndtr(-low), special.log_ndtr(-high)
    rest = ((~words).astype(float) + 0.5) / 2**32  # 1 - v would cancel
    return -special.ndtri_exp(near + np.log(np.exp(far - near) - np.expm1(far - near) * rest))


def exact_truncated32(words, interval):
    """In element order."""
    rows = np.hstack([words[:, ::2], words[:, 1::2]])
    low, high = interval
    return exact_centre32(rows, high) if -low == high <= 2 else exact_tail32(rows, low, high)


def largest_errors(values, exact):
    """In standard deviations over max(1, |z|), and in ulp of the result where |z| >= 1."""
    error = np.abs(values.astype(float) - exact)
    size = np.abs(exact)
    outer = size >= 1
    ulp = np.spacing(size[outer].astype(values.dtype))
    return (error / np.maximum(1, size)).max(), (error[outer] / ulp).max() if outer.any() else 0.0


@cache
def measured32(interval=None, count=DRAWN):
    """The largest errors of the normal, or of the truncated one, over chosen and drawn words."""
    if interval is None:
        scheme, chosen, exact = "normal", pairs_of_extremes(), exact_normal32
    else:
        scheme = truncated(interval)
        chosen = np.concatenate([extreme_words(), np.array(words_around_median(interval), np.uint32)])

        def exact(words):
            return exact_truncated32(words, interval)

    samples = met(chosen, scheme, "float32"), drawn(scheme, "float32", count)
    return tuple(np.max([largest_errors(values, exact(words)) for words, values in samples], axis=0).tolist())


COUNTS32 = [pytest.param(DRAWN, id="2^18"), pytest.param(MANY_DRAWN, id="2^22", marks=pytest.mark.exhaustive)]


@pytest.mark.parametrize("count", COUNTS32)
def test_normal_of_float32_keeps_its_promise(count):
    assert measured32(None, count)[0] <= PROMISED["float32"]


@pytest.mark.parametrize("count", COUNTS32)
@pytest.mark.parametrize("interval", INTERVALS, ids=str)
def test_truncated_normal_of_float32_keeps_its_promise(interval, count):
    assert measured32(interval, count)[0] <= PROMISED["float32"]


def test_std_and_mean_add_a_few_roundings():
    words, values = drawn("normal(mean=0.5, std=0.02)", "float32", 1 << 18)
    exact = exact_normal32(words)
    allowed = 0.02 * PROMISED["float32"] * np.maximum(1, np.abs(exact)) + 2.0**-24
    assert (np.abs(values - (0.5 + 0.02 * exact)) <= allowed).all()


# ---------------------------------------------------------------------------------------------- exact values, by mpmath

DIGITS = 50


def survival(z):
    """P(Z > z)."""
    return mpmath.erfc(z / mpmath.sqrt(2)) / 2


@cache
def cut_off(interval):
    """P(Z < low), P(Z > high), and what is between, without cancellation."""
    with mpmath.workdps(2 * DIGITS):
        low, high = (mpmath.mpf(bound) for bound in interval)
        below = survival(-low) if low > -INF else mpmath.mpf(0)
        above = survival(high) if high < INF else mpmath.mpf(0)
        between = survival(low) - above if low > 0 else 1 - below - above if high > 0 else survival(-high) - below
        return below, above, between


def truncated_error(z, v, interval):
    """z less the quantile at the fraction v of the interval, by one step of Newton's from z: it is short."""
    below, above, between = cut_off(interval)
    z = mpmath.mpf(float(z))
    too_far = survival(z) - (above + between * (1 - v)) if z > 0 else below + between * v - survival(-z)
    return -too_far * mpmath.sqrt(2 * mpmath.pi) * mpmath.exp(z * z / 2)


def signed64(even, odd):
    """The integer over 2^31 of STREAM.md's `signed`, rounded."""
    return np.float64(np.int32(np.uint32(even))) + (np.float64(int(odd) >> 1) + 0.5) * 2.0**-31


def exact_normal64(words):
    """A group's pairs: for each k < 8, element k and element 8 + k."""
    for k in range(8):
        number = float(signed64(words[2 * k], words[2 * k + 1]) * 2.0**-31)
        x = float(signed64(words[16 + 2 * k], words[17 + 2 * k]) * (2.0**-31 * (1 - 2.0**-53)))
        radius = mpmath.sqrt(-2 * mpmath.log(abs(number)) + mpmath.mpf(2) ** -52)
        angle = mpmath.pi / 2 * x
        yield k, radius * mpmath.cos(angle) * math.copysign(1, number), radius * mpmath.sin(angle)


def words64():
    generator = np.random.default_rng(3)
    extremes = extreme_words()
    ends = np.array([0, 1, 2, 3, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)
    pairs = [np.stack(np.meshgrid(ends, ends), axis=-1).reshape(-1, 2)]
    pairs.append(np.stack([generator.choice(extremes, 100), generator.integers(0, 2**32, 100, np.uint32)], axis=-1))
    return np.concatenate(pairs)


@cache
def measured64(interval=None, count=1 << 8):
    scheme = "normal" if interval is None else truncated(interval)
    chosen = words64()
    if interval is not None:
        around = np.array(words_around_median(interval), np.uint32)
        chosen = np.concatenate([chosen, np.stack([around, around[::-1]], axis=-1)])
    samples = zip(met(chosen, scheme, "float64"), drawn(scheme, "float64", count), strict=True)
    group_words, group_values = (np.concatenate(both) for both in samples)
    firsts = places_of(as_blocks(chosen))[:, 2] % np.uint64(8) * np.uint64(2)  # of the two elements of a chosen block
    wanted = [range(first, first + 2) for first in firsts.tolist()]
    wanted += [range(16)] * (len(group_words) - len(wanted))
    relative = in_ulp = 0.0
    with mpmath.workdps(DIGITS):
        for words, values, elements in zip(group_words, group_values, wanted, strict=True):
            if interval is None:
                errors = [
                    (value, value - exact)
                    for k, cosine, sine in exact_normal64(words)
                    for value, exact in ((float(values[k]), cosine), (float(values[8 + k]), sine))
                ]
            else:
                pairs = words.reshape(16, 2).tolist()
                fractions = {k: mpmath.mpf((pairs[k][0] << 32 | pairs[k][1] >> 1 << 1) + 1) / 2**64 for k in elements}
                errors = [(float(values[k]), truncated_error(values[k], v, interval)) for k, v in fractions.items()]
            for value, error in errors:
                relative = max(relative, float(abs(error)) / max(1.0, abs(value)))
                if abs(value) >= 1:
                    in_ulp = max(in_ulp, float(abs(error)) / math.ulp(value))
    return relative, in_ulp


COUNTS64 = [pytest.param(1 << 8, id="2^8"), pytest.param(1 << 12, id="2^12", marks=pytest.mark.exhaustive)]


@pytest.mark.parametrize("count", COUNTS64)
def test_normal_of_float64_keeps_its_promise(count):
    assert measured64(None, count)[0] <= PROMISED["float64"]


@pytest.mark.parametrize("count", COUNTS64)
@pytest.mark.parametrize("interval", INTERVALS, ids=str)
def test_truncated_normal_of_float64_keeps_its_promise(interval, count):
    assert measured64(interval, count)[0] <= PROMISED["float64"]


@pytest.mark.parametrize("interval", INTERVALS, ids=str)
def test_exact_values_in_float64_agree_with_mpmath(interval):
    """The yardstick of float32 is itself measured."""
    words = np.resize(extreme_words(), (len(extreme_words()) // 32, 32))[::3]
    in_order = np.hstack([words[:, ::2], words[:, 1::2]])
    with mpmath.workdps(DIGITS):
        for word, z in zip(in_order.ravel(), exact_truncated32(words, interval).ravel(), strict=True):
            if -interval[0] == interval[1] <= 2:
                v = (mpmath.mpf(int(np.int32(word | np.uint32(1)))) / 2**31 + 1) / 2
            else:
                v = (mpmath.mpf(int(word)) + 0.5) / 2**32
            assert abs(truncated_error(z, v, interval)) <= 1e-11 * max(1, abs(z))


# ------------------------------------------------------------------------------------------------------ ends and bounds


def test_the_largest_normals_are_those_that_overflow_is_judged_by():
    edge = as_blocks([0, 2**31, 1, 2**31 - 1, 0, 2**32 - 1, 0, 0, 2**32 - 1, 2**31, 2**32 - 2, 2**31 - 1])
    assert 6.555 < np.abs(met(edge, "normal", "float32")[1]).max() <= LARGEST_NORMAL[32]
    # The smallest number in twenty blocks: in some it makes a radius, in others an angle.
    group = met([[0, 0, other, other] for other in range(20)], "normal", "float64")[1]
    assert 9.345 < np.hypot(group[:, :8], group[:, 8:]).max() <= LARGEST_NORMAL[64]


LARGEST = {
    "float32": Fraction(2**24 - 1) * 2**104,
    "float64": Fraction(2**53 - 1) * 2**971,
    "float16": Fraction(65504),
    "bfloat16": Fraction(2**8 - 1) * 2**120,
    "float8_e4m3fn": Fraction(448),
    "float8_e5m2": Fraction(57344),
}
# Half a step of the type beyond: from there on to nearest is infinite, or nan.
OVERFLOWS = {
    "float32": LARGEST["float32"] + 2**103,
    "float64": LARGEST["float64"],
    "float16": Fraction(65520),
    "bfloat16": LARGEST["bfloat16"] + 2**119,
    "float8_e4m3fn": Fraction(464),
    "float8_e5m2": Fraction(61440),
}


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(sorted(LARGEST)),
    st.booleans(),
    st.integers(-64, 8).map(lambda sixteenths: sixteenths / 16) | st.floats(-4, 0.5),
    st.integers(0, 64).map(lambda sixteenths: sixteenths / 16) | st.floats(0, 4),
    st.sampled_from([None, (-2.0, 2.0), (-2.0, INF), (-INF, 2.0), (-1.0, 2.5), (1.0, 2.0), (30.0, INF)]),
    st.sampled_from([1, -1]),
)
@example("float32", False, -0.4, 0.89, None, 1)
@example("float16", True, (65519.9945 - 65520) * 256, 0.0035 * 256, None, 1)
@example("float16", True, (65519.9945 - 65520) * 256, 0.0035 * 256, (-2.0, INF), -1)
@example("bfloat16", True, -2.5625, 1.625, (30.0, INF), 1)  # the lower bound itself, rounded up, is too large
@example("float16", True, -0.5 - 1e-9, 0.5 + 2e-9, (-2.0, 2.0), 1)
def test_what_is_accepted_at_the_ends_of_a_type_is_finite(dtype, is_overflow, mean_steps, std_steps, bounds, sign):
    """Means a few steps of the working type from where the type ends, and stds that reach a few steps farther."""
    bits = 64 if dtype == "float64" else 32
    exponent = math.frexp(LARGEST[dtype])[1]
    step = Fraction(2) ** (exponent - (53 if bits == 64 else 24))
    low, high = bounds or (-INF, INF)
    if bounds is None:
        reach = LARGEST_NORMAL[bits]
    else:
        reach = max(Fraction(_reach(low, high, bits) if math.isinf(bound) else abs(bound)) for bound in bounds)
    end = (OVERFLOWS if is_overflow else LARGEST)[dtype]
    mean = sign * float(min(end + Fraction(mean_steps) * step, LARGEST["float64"]))
    std = float(Fraction(std_steps) * step / reach)
    if sign < 0:
        low, high = -high, -low
    scheme = winit_fast.scheme("truncated_normal", mean=mean, std=std, low=low, high=high)
    edge = [0, 0, 0, 2**31, 1, 2**31 - 1, 0, 2**32 - 1, 2**32 - 1, 2**31, 2**32 - 2, 2**31 - 1, 2**31, 2**31, 2**31, 0]
    try:
        winit_fast.fill(np.empty(0, DTYPES[dtype]), scheme, seed=1)
    except ValueError:
        return
    for values in (met(edge, scheme, dtype)[1], drawn(scheme, dtype, 1 << 12)[1]):
        assert np.isfinite(values.astype(float)).all()


@pytest.mark.parametrize("bound", [1e-10, 2.0**-64, 2.0**-65, 1e-36, 1e-38])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_normal_cut_very_near_its_mean_is_not_zero_and_lies_in_its_interval(bound, dtype):
    scheme = truncated((-bound, bound))
    samples = [drawn(scheme, dtype, 1 << 18)[1]]
    if bound > 2.0**-70 or dtype == "float64":  # else those nearest 0 are below the smallest number of the type
        samples.append(met(extreme_words(), scheme, dtype)[1])
    for values in samples:
        assert values.all()
        assert -bound <= float(values.min()) < -0.98 * bound
        assert 0.98 * bound < float(values.max()) <= bound


@pytest.mark.parametrize(
    "scheme", ["normal", "truncated_normal", "truncated_normal(low=-3, high=3)", "truncated_normal(low=0, high=1e-6)"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_normal_is_zero(scheme, dtype):
    samples = met(pairs_of_extremes(), scheme, dtype), met(extreme_words(), scheme, dtype), drawn(scheme, dtype)
    for _, values in samples:
        assert values.all()
        assert np.isfinite(values).all()


BOUNDS = [
    (0.0, 1.0), (0.1, 0.3), (-0.1, 0.1), (1 / 3, 2 / 3), (1.0, 1.0000003), (-1 / 3, 1e30), (2**24 + 0.5, 2**24 + 7.0),
    (-3e-38, 7e-38), (-0.7, -0.1), (123456.789, 123457.0),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_uniform_lies_in_its_interval(low, high, dtype):
    scheme = f"uniform({low!r}, {high!r})"
    for words, values in (met(extreme_words(), scheme, dtype), drawn(scheme, dtype, 1 << 20)):
        assert values.min() >= low  # float64 against float64: as real numbers
        assert float(values.max()) < high
        if dtype == "float32":
            u = (np.hstack([words[:, ::2], words[:, 1::2]]) >> np.uint32(8)) / 2**24
        else:
            u = ((words[:, ::2] >> np.uint32(5)) * 2.0**26 + (words[:, 1::2] >> np.uint32(6))) / 2**53
        exact = low + float(Fraction(high) - Fraction(low)) * u
        ulp = float(np.spacing(np.array(max(abs(low), abs(high)), dtype)))
        assert np.abs(values.astype(float) - exact).max() <= 3 * ulp


@pytest.mark.covering
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.3, 0.7), (-1 / 3, 0.02), (1000.0, 1e-3)])
@pytest.mark.parametrize(
    "interval", [(-2.0, 2.0), (-1.1, 1.1), (-3.3, 2.7), (1.0, 1.5), (9.0, 9.3), (-0.3, 0.9), (-31.0, -30.0)], ids=str
)
def test_truncated_normal_lies_in_its_interval(interval, mean, std, dtype):
    scheme = f"truncated_normal({mean!r}, {std!r}, {interval[0]!r}, {interval[1]!r})"
    low, high = (Fraction(mean) + Fraction(std) * Fraction(bound) for bound in interval)
    for _, values in (met(extreme_words(), scheme, dtype), drawn(scheme, dtype, 1 << 18)):
        assert low <= Fraction(float(values.min()))
        assert Fraction(float(values.max())) <= high


@pytest.mark.parametrize(("dtype", "reach"), [("float32", 6.2), ("float64", 9.0)])
def test_wide_bounds_reach_far(dtype, reach):
    values = met([0, 0, 2**32 - 1, 2**32 - 1], truncated((-40.0, 40.0)), dtype)[1]
    assert values.min() < -reach
    assert values.max() > reach


@pytest.mark.parametrize(
    "interval", [(-INF, 2.0), (0.0, INF), (3.0, INF), (8.0, INF), (9.0, INF), (37.0, INF)], ids=str
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_open_tail_reaches_far_but_not_beyond_what_overflow_is_judged_by(interval, dtype):
    bits = 32 if dtype == "float32" else 64
    farthest = np.abs(met([0, 0, 2**32 - 1, 2**32 - 1], truncated(interval), dtype)[1]).max()
    nearer = max(interval[0], 0.0) if interval[1] == INF else 0.0
    assert math.sqrt(nearer**2 + bits) < farthest <= _reach(*interval, bits)
