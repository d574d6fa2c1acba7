"""Complex weights: of the schemes with fans, E|z|^2 = std^2, the angle uniform (STREAM.md, sections 3 to 5).

The checks of the distribution draw 10^6 numbers, and 10^8 with ``pytest -m statistics``. The seeds are fixed. A run
computes fewer than 200 p-values and refuses those below 1e-9; moments are held to 5 standard errors. The last tests
hand the checks what is a little wrong.
"""

import math
from functools import cache

import mpmath
import numpy as np
import pytest
from arrays import bits, cut, placed, regions, same, shapes, untouched
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from test_accuracy import DIGITS, PROMISED, as_blocks, extreme_words, pairs_of_extremes, places_of
from test_statistics import LARGEST_MOMENT_ERROR, assert_plausible, chi_square_p, two_sided

import winit_fast

REAL = {"complex64": np.dtype("float32"), "complex128": np.dtype("float64")}
KINDS = ["normal", "uniform", "truncated_normal"]
BITS = {"complex64": 32, "complex128": 64}

# One number a unit: std = sqrt(scale), whatever the length.
VECTOR = {"in_axis": 0, "out_axis": ()}
ALL = (1 << 63) - 1


def scaled(kind, scale=1.0):
    return f"variance_scaling(scale={scale!r}, mode='fan_out', distribution={kind!r})"


def filled(extent, dtype, scheme, **arguments):
    out = untouched((extent,) if isinstance(extent, int) else extent, dtype)
    return winit_fast.fill(out, scheme, **({"seed": 1, "name": "weight"} | arguments))


# The standard deviation that is left of a complex normal of 1 where |z| is cut at 2.
STD_OF_TRUNCATED = 0.9619618280082135


def test_the_constant_of_the_truncated_normal_is_that_of_the_page():
    """|z|^2 is exponential; its mean below 4 is (1 - 5 e^-4) / (1 - e^-4)."""
    with mpmath.workdps(50):
        density = [mpmath.quad(lambda x, k=k: x**k * mpmath.exp(-x), [0, 4]) for k in (0, 1)]
        std = mpmath.sqrt(density[1] / density[0])
        assert abs(std - mpmath.sqrt((1 - 5 * mpmath.exp(-4)) / (1 - mpmath.exp(-4)))) < 1e-45
        assert float(std) == STD_OF_TRUNCATED


# ------------------------------------------------------------------------------------------ the moments of every scheme

FAMILIES = {
    "he": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "xavier": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "lecun": lambda fan_in, fan_out: math.sqrt(1 / fan_in),
}


def fourth_moment(kind):
    """E|z|^4 where E|z|^2 = 1."""
    if kind == "truncated_normal":
        tail = math.exp(-4)
        return (2 - 26 * tail) / (1 - tail) / STD_OF_TRUNCATED**4
    return {"normal": 2.0, "uniform": 4 / 3}[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_mean_square_is_that_of_the_formula(family, kind, dtype):
    shape = (3, 3, 50, 200)
    std = FAMILIES[family](9 * 50, 9 * 200)
    assert_mean_square(filled(shape, dtype, f"{family}_{kind}"), std, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 450), ("fan_out", 1800), ("fan_avg", 1125), ("fan_geo_avg", 900)])
def test_the_mean_square_is_that_of_variance_scaling(mode, fan, kind, dtype):
    scheme = f"variance_scaling(scale=3, mode={mode!r}, distribution={kind!r})"
    assert_mean_square(filled((3, 3, 50, 200), dtype, scheme), math.sqrt(3 / fan), kind)


def assert_mean_square(z, std, kind):
    squares = np.abs(z.astype(complex).ravel() / std) ** 2
    error = math.sqrt((fourth_moment(kind) - 1) / z.size)
    assert abs(squares.mean() - 1) < LARGEST_MOMENT_ERROR * error
    assert 0.98 * fourth_moment(kind) < (squares**2).mean() < 1.02 * fourth_moment(kind)  # of this kind, not another


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["fixup(layers=3", "t_fixup(layers=3", "deepnet(encoder=3", "mup(base_fan=10"])
def test_every_other_scheme_with_fans_has_a_complex_form(text, kind):
    scheme = f"{text}, distribution={kind!r})"
    squares = [
        (np.abs(filled((200, 300), dtype, scheme)).astype(float) ** 2).mean() for dtype in ("complex64", "float32")
    ]
    assert abs(squares[0] / squares[1] - 1) < 0.05


@pytest.mark.parametrize(("dtype", "steps"), [("complex64", 2), ("complex128", 2)])
@pytest.mark.parametrize("std", [1.0, 0.01, 1 / 3])
def test_no_size_is_beyond_its_bound(std, dtype, steps):
    """As far as the rounding of a size goes, and that of `np.abs`."""
    step = float(np.finfo(REAL[dtype]).eps)
    for kind, bound in (("uniform", math.sqrt(2)), ("truncated_normal", 2 / STD_OF_TRUNCATED)):
        samples = [met(pairs_of_extremes(0), scaled(kind, std**2), dtype)[1].ravel()]
        samples.append(filled(1_000_000, dtype, scaled(kind, std**2), **VECTOR))
        for z in samples:
            sizes = np.hypot(z.real.astype(np.longdouble), z.imag.astype(np.longdouble))
            assert sizes.max() <= bound * std * (1 + steps * step)
        assert sizes.max() > 0.999 * bound * std


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", REAL)
def test_no_number_is_0_in_either_part(kind, dtype):
    samples = met(pairs_of_extremes(), scaled(kind), dtype), met(extreme_words(), scaled(kind), dtype)
    for z in (*(values for _, values in samples), filled(1_000_000, dtype, scaled(kind), **VECTOR)):
        assert z.real.all()
        assert z.imag.all()
        assert np.isfinite(z).all()


# --------------------------------------------------------------------------------------------- accuracy, at known words


def group_size(dtype):
    return 16 if dtype == "complex64" else 8


def met(words, scheme, dtype):
    """The groups that hold these words, and what the kernel makes of them: both a row a group."""
    blocks = as_blocks(words)
    size = group_size(dtype)
    group_words, values = np.empty((len(blocks), 32), np.uint32), np.empty((len(blocks), size), dtype)
    for row, (seed, stream, block) in enumerate(places_of(blocks).tolist()):
        winit_fast.random_bits(group_words[row], seed=seed, name=stream, offset=block // 8 * 32)
        place = {"seed": seed, "name": stream, "shape": (ALL,), "offset": (block // 8 * size,)}
        winit_fast.fill(values[row], scheme, **place, **VECTOR)
    return group_words, values


def drawn(scheme, dtype, groups, first=0):
    """As `met`, for the groups of a stream from `first` on."""
    words = winit_fast.random_bits(np.empty((groups, 32), np.uint32), seed=1, name="weight", offset=32 * first)
    size = group_size(dtype)
    z = filled(groups * size, dtype, scheme, shape=(ALL,), offset=(size * first,), **VECTOR)
    return words, z.reshape(groups, size)


def exact64(words, kind):
    """Of complex64, with std 1, in float64: the words' own roundings as STREAM.md has them, the rest exact."""
    signed = (words[:, ::2] | np.uint32(1)).view(np.int32).astype(np.float32)
    number = (np.ascontiguousarray(signed).view(np.uint32) - np.uint32(1)).view(np.float32).astype(float)
    x = (words[:, 1::2] | np.uint32(1)).view(np.int32).astype(np.float32) * np.float32(2**-31 * (1 - 2**-24))
    x = x.astype(float)
    v = np.abs(number) / 2**31
    if kind == "uniform":
        size = np.sqrt(2 * v)
    elif kind == "truncated_normal":
        size = np.sqrt(-np.log1p(-(1 - math.exp(-4)) * v)) / STD_OF_TRUNCATED
    else:
        size = np.sqrt(-np.log(v))
    cosine = np.copysign(np.sin(np.pi / 2 * (1 - np.abs(x))), number)
    if kind == "normal":  # elements 2 e and 2 e + 1: cosines in the first half of a group, sines in the second
        return np.hstack([size * cosine, size * np.sin(np.pi / 2 * x)]).reshape(len(words), 16, 2) @ [1, 1j]
    return size * (cosine + 1j * np.sin(np.pi / 2 * x))


def assert_near(z, exact, promised):
    error, size = np.abs(z.astype(complex) - exact), np.abs(exact)
    assert (error <= promised * np.maximum(1, size)).all(), (error / np.maximum(1, size)).max()


@pytest.mark.parametrize("kind", KINDS)
def test_complex64_is_as_near_as_promised(kind):
    for chosen in (pairs_of_extremes(), extreme_words()):
        words, z = met(chosen, scaled(kind), "complex64")
        assert_near(z, exact64(words, kind), PROMISED["float32"])
    words, z = drawn(scaled(kind), "complex64", 1 << 15)
    assert_near(z, exact64(words, kind), PROMISED["float32"])
    std = 0.01
    z = drawn(scaled(kind, std**2), "complex64", 1 << 15)[1]
    assert_near(z / std, exact64(words, kind), PROMISED["float32"])


def signed64(even, odd):
    """Over 2^31, rounded, as STREAM.md has it."""
    return (np.float64(np.int32(np.uint32(even))) + (np.float64(int(odd) >> 1) + 0.5) * 2.0**-31) * 2.0**-31


def exact_parts128(words, kind):
    """Of complex128, with std 1, by mpmath: real and imaginary parts of a group's numbers."""
    parts = []
    with mpmath.workdps(DIGITS):
        slope = -mpmath.expm1(-4)
        for k in range(8):
            number = float(signed64(words[2 * k], words[2 * k + 1]))
            x = float(signed64(words[16 + 2 * k], words[17 + 2 * k]) * (1 - 2.0**-53))
            v = mpmath.mpf(abs(number))
            if kind == "uniform":
                size = mpmath.sqrt(2 * v)
            elif kind == "truncated_normal":
                std = mpmath.sqrt((5 * slope - 4) / slope)
                size = mpmath.sqrt(-mpmath.log1p(-slope * v)) / std
            else:
                size = mpmath.sqrt(-mpmath.log(v) + mpmath.mpf(2) ** -53)
            angle = mpmath.pi / 2 * x
            parts.append((size * mpmath.cos(angle) * math.copysign(1, number), size * mpmath.sin(angle)))
    if kind != "normal":
        return parts
    flat = [cosine for cosine, _ in parts] + [sine for _, sine in parts]
    return list(zip(flat[::2], flat[1::2], strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_complex128_is_as_near_as_promised(kind):
    generator = np.random.default_rng(3)
    ends = np.array([0, 1, 2, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)
    pairs = np.stack(np.meshgrid(ends, ends), axis=-1).reshape(-1, 2)
    others = np.stack([generator.choice(extreme_words(), 60), generator.integers(0, 2**32, 60, np.uint32)], axis=-1)
    samples = [met(np.concatenate([pairs, others]), scaled(kind), "complex128"), drawn(scaled(kind), "complex128", 64)]
    largest = 0.0
    for words, z in zip(*(np.concatenate(both) for both in zip(*samples, strict=True)), strict=True):
        with mpmath.workdps(DIGITS):
            for number, parts in zip(z.tolist(), exact_parts128(words, kind), strict=True):
                error = mpmath.hypot(number.real - parts[0], number.imag - parts[1])
                largest = max(largest, float(error / max(1, mpmath.hypot(*parts))))
    assert largest <= PROMISED["float64"]


@pytest.mark.parametrize("kind", ["uniform", "truncated_normal"])
def test_the_yardstick_of_complex64_agrees_with_mpmath(kind):
    words = met(pairs_of_extremes(0), scaled(kind), "complex64")[0][:12]
    exact, is_cut = exact64(words, kind), kind == "truncated_normal"
    with mpmath.workdps(DIGITS):
        for row, numbers in zip(words.tolist(), exact, strict=True):
            for k, z in enumerate(numbers.tolist()):
                first, second = (
                    np.uint32(word | 1).view(np.int32).astype(np.float32) for word in row[2 * k : 2 * k + 2]
                )
                v = mpmath.mpf(abs(float(np.nextafter(first, np.float32(0))))) / 2**31
                tail = mpmath.exp(-4)
                square = -mpmath.log(1 - v + tail * v) * (1 - tail) / (1 - 5 * tail) if is_cut else 2 * v
                angle = mpmath.pi / 2 * float(second * np.float32(2**-31 * (1 - 2**-24)))
                expected = mpmath.sqrt(square) * mpmath.expj(angle)
                assert abs(mpmath.mpc(abs(z.real), z.imag) - expected) <= 1e-13


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [1 << 57, (1 << 58) - 2, 1 << 58, (1 << 59) - 6])
def test_numbers_far_out_in_the_largest_vector_have_their_words(first, kind):
    """Beyond 2^62 numbers there are more than 2^63 real elements."""
    words, z = drawn(scaled(kind), "complex64", 5, first)
    assert_near(z, exact64(words, kind), PROMISED["float32"])


# ----------------------------------------------------------------------------------------------------- real and complex


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("shape", [(40, 77), (3, 3, 5, 8), (1, 1)], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_complex_normals_are_real_normals_two_by_two(family, shape, dtype):
    *kernel, ins, outs = shape
    std = FAMILIES[family](math.prod(kernel) * ins, math.prod(kernel) * outs)
    made = winit_fast.scheme(f"{family}_normal").distribution(shape).std
    assert math.isclose(made, std, rel_tol=1e-15)
    with mpmath.workdps(50):
        part = float(mpmath.mpf(made) / mpmath.sqrt(2))
    real = filled((*shape, 2), REAL[dtype], f"normal(std={part!r})")
    assert same(filled(shape, dtype, f"{family}_normal"), real.view(dtype).reshape(shape))


@pytest.mark.parametrize("scheme", ["normal", "normal(std=0.02)", "embedding_normal", "residual_normal(layers=2)"])
@pytest.mark.parametrize("dtype", REAL)
def test_a_normal_of_mean_0_has_the_values_of_the_normal_with_fans_of_its_std(scheme, dtype):
    std = winit_fast.scheme(scheme).distribution((40, 77)).std
    expected = filled(
        (40, 77), dtype, f"variance_scaling(scale={std * std!r})", in_axis=(), out_axis=(), batch_axis=(0, 1)
    )
    assert math.isclose(std, math.sqrt(std * std), rel_tol=1e-15)
    assert np.allclose(filled((40, 77), dtype, scheme), expected, rtol=1e-6)
    z = filled(100_000, dtype, f"normal(std={std!r})")
    assert abs(np.mean(np.abs(z) ** 2) / std**2 - 1) < 0.02
    assert abs(np.mean(z)) < 0.02 * std


@pytest.mark.parametrize("kind", ["uniform", "truncated_normal"])
def test_a_power_of_two_in_std_scales_every_number(kind):
    for dtype in REAL:
        assert same(filled(1000, dtype, scaled(kind, 4.0), **VECTOR), filled(1000, dtype, scaled(kind), **VECTOR) * 2)


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("value", [0.5, -2.25, 1 / 3, 0.0, 1e-40])
def test_a_constant_has_the_imaginary_part_0(value, dtype):
    z = filled((5, 7), dtype, f"constant({value!r})")
    assert (z.real == REAL[dtype].type(value)).all()
    assert not bits(np.ascontiguousarray(z.imag)).any()


@pytest.mark.parametrize(
    ("scheme", "value"),
    [
        ("zeros", 0), ("ones", 1), ("uniform(0.5, 0.5)", 0.5), ("normal(mean=0.25, std=0)", 0.25),
        ("he_normal(gain=0)", 0),
        ("truncated_normal(mean=1, std=0.5, low=1, high=1)", 1.5), ("variance_scaling(scale=0)", 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", REAL)
def test_what_has_no_width_is_a_constant_and_needs_no_seed(scheme, value, dtype):
    z = winit_fast.fill(untouched((5, 7), dtype), scheme)
    assert same(z, np.full((5, 7), value, dtype))


@pytest.mark.parametrize(
    "scheme",
    [
        "normal(mean=0.5)", "uniform", "truncated_normal", "orthogonal", "sparse(0.5)", "identity", "embedding_uniform",
        "lstm_bias", "array([1, 2, 3, 4])",
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", REAL)
def test_a_scheme_without_a_complex_form_is_refused_before_writing(scheme, dtype):
    out = untouched((4, 4), dtype)
    with pytest.raises(
        ValueError,
        match=rf"has no complex form: {dtype} takes real constants, normals of mean 0 and the schemes with fans",
    ):
        winit_fast.fill(out, scheme, seed=1)
    assert same(out, untouched((4, 4), dtype))


@pytest.mark.parametrize("scheme", ["dirac", "delta_orthogonal", "bilinear"])
def test_kernels_without_a_complex_form_are_refused_before_writing(scheme):
    out = untouched((3, 4, 4), "complex64")
    with pytest.raises(ValueError, match="has no complex form"):
        winit_fast.fill(out, scheme, seed=1)
    assert same(out, untouched((3, 4, 4), "complex64"))


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_beyond_the_largest_of_the_type_are_refused(kind):
    filled(16, "complex64", scaled(kind, 1e74), **VECTOR)
    with pytest.raises(ValueError, match="complex64 ends at"):
        filled(16, "complex64", scaled(kind, 1e78), **VECTOR)
    assert np.isfinite(filled(1000, "complex128", scaled(kind, 1e78), **VECTOR)).all()


# --------------------------------------------------------------------------------------------------- parts of the whole

# One for every way from words to numbers.
COMPLEX_SCHEMES = ["he_normal", "xavier_uniform", "lecun_truncated_normal", "constant(0.75)", "zeros"]


def axes_of(shape):
    """So that a scheme with fans takes any shape."""
    return {"in_axis": (), "out_axis": ()} if len(shape) < 2 else {}


@settings(max_examples=200, deadline=None)
@given(st.data(), regions(), st.sampled_from(sorted(REAL)), st.sampled_from(COMPLEX_SCHEMES), st.integers(1, 3))
def test_a_part_of_any_strides_is_that_part_of_the_whole(data, region, dtype, scheme, threads):
    shape, offset, extent = region
    place = data.draw(placed(extent, np.dtype(dtype)))
    place_of = {"seed": 1, "name": "weight"} | axes_of(shape)
    result = winit_fast.fill(place.view, scheme, shape=shape, offset=offset, threads=threads, **place_of)
    assert result is place.view
    assert same(place.view, cut(filled(shape, dtype, scheme, **axes_of(shape)), offset, extent))
    assert place.is_untouched_outside()


@settings(max_examples=100, deadline=None)
@given(
    st.data(), st.integers(1, 200), shapes(ranks=(0, 3), most_values=60), st.sampled_from(sorted(REAL)),
    st.sampled_from(COMPLEX_SCHEMES),
)  # fmt: skip
def test_fill_rows_gives_those_rows_of_the_table(data, count, row, dtype, scheme):
    shape = (count, *row)
    rows = data.draw(st.lists(st.integers(0, count - 1), max_size=60))
    place = data.draw(placed((len(rows), *row), np.dtype(dtype)))
    winit_fast.fill_rows(place.view, rows, scheme, seed=1, name="weight", shape=shape, **axes_of(shape))
    assert same(place.view, filled(shape, dtype, scheme, **axes_of(shape))[np.array(rows, int)])
    assert place.is_untouched_outside()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", REAL)
def test_numbers_are_the_same_for_any_number_of_threads(dtype, kind):
    one = filled((1000, 501), dtype, f"he_{kind}", threads=1)
    for threads in (2, 3, 5):
        assert same(filled((1000, 501), dtype, f"he_{kind}", threads=threads), one)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", REAL)
def test_numbers_are_near_their_exact_values_on_every_isa(isa, dtype, kind):
    words, z = drawn(scaled(kind), dtype, 32)
    if dtype == "complex64":
        assert_near(z, exact64(words, kind), PROMISED["float32"])
    else:
        exact = [[complex(*map(float, parts)) for parts in exact_parts128(row, kind)] for row in words]
        assert_near(z, np.array(exact), PROMISED["float64"])


# ----------------------------------------------------------------------------------------- the distribution: the checks

CHUNK = 1 << 18
BINS = 1 << 12
SIZES = [pytest.param(10**6, id="1e6"), pytest.param(10**8, id="1e8", marks=pytest.mark.statistics)]


def from_kernel(kind, dtype, scale=1.0, name="complex"):
    def draw(start, count):
        place = {"shape": (1 << 40,), "offset": (start,), "seed": 2024, "name": name}
        return winit_fast.fill(np.empty(count, dtype), scaled(kind, scale), **place, **VECTOR)

    return draw


def cdf_of_square(kind):
    """Of |z|^2 where E|z|^2 = 1."""
    if kind == "uniform":
        return lambda x: np.minimum(x / 2, 1)
    if kind == "normal":
        return lambda x: -np.expm1(-x)
    return lambda x: np.minimum(np.expm1(-x * STD_OF_TRUNCATED**2) / math.expm1(-4), 1)


@cache
def moments_of_square(kind):
    """E|z|^(2 k) for k = 0 ... 4 where E|z|^2 = 1."""
    if kind == "uniform":
        return [2.0**k / (k + 1) for k in range(5)]
    if kind == "normal":
        return [float(math.factorial(k)) for k in range(5)]
    square = STD_OF_TRUNCATED**2
    return [float(mpmath.gammainc(k + 1, 0, 4)) / -math.expm1(-4) / square**k for k in range(5)]


def check_numbers(draw, kind, size):
    """Size and angle by bins, alone and together; moments of the parts and of their products."""
    cdf, exact = cdf_of_square(kind), moments_of_square(kind)
    square_bins, angle_bins = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    grid, sums = np.zeros(64 * 64, np.int64), np.zeros(9)
    for start in range(0, size, CHUNK):
        z = draw(start, min(CHUNK, size - start)).astype(complex)
        x, y = z.real, z.imag
        square = x * x + y * y
        by_square = np.minimum((cdf(square) * BINS).astype(int), BINS - 1)
        by_angle = np.minimum(((np.arctan2(y, x) / (2 * math.pi) + 0.5) * BINS).astype(int), BINS - 1)
        square_bins += np.bincount(by_square, minlength=BINS)
        angle_bins += np.bincount(by_angle, minlength=BINS)
        grid += np.bincount(by_square // 64 * 64 + by_angle // 64, minlength=64 * 64)
        difference, product = x * x - y * y, x * y
        sums += (
            x.sum(), y.sum(), (square - 1).sum(), difference.sum(), product.sum(), (square**2 - exact[2]).sum(),
            (difference**2 - product**2 * 4).sum(), (product * difference).sum(),
            np.einsum("i,i", z[1:], z[:-1].conj()).real,
        )  # fmt: skip
    variances = (
        1 / 2, 1 / 2, exact[2] - 1, exact[2] / 2, exact[2] / 8, exact[4] - exact[2] ** 2, exact[4] / 2, exact[4] / 32,
        1 / 2,
    )  # fmt: skip
    names = (
        "real part", "imaginary part", "square", "difference of their variances", "correlation", "fourth power",
        "cos 4 angle", "sin 4 angle", "next",
    )  # fmt: skip
    scores = dict(zip(names, (sums / np.sqrt(np.multiply(variances, size))).tolist(), strict=True))
    assert max(map(abs, scores.values())) < LARGEST_MOMENT_ERROR, f"moments, in standard errors: {scores}"
    p_values = {f"moment: {name}": two_sided(score) for name, score in scores.items()}
    for name, counts in (("square", square_bins), ("angle", angle_bins)):
        distance = np.abs(np.cumsum(counts)[:-1] / size - np.arange(1, BINS) / BINS).max()
        p_values[f"{name}, Kolmogorov-Smirnov"] = float(special.kolmogorov(distance * math.sqrt(size)))
        p_values[f"{name}, chi-square"] = chi_square_p(counts, np.full(BINS, 1 / BINS))
    p_values["square by angle"] = chi_square_p(grid, np.full(64 * 64, 1 / 64**2))
    assert_plausible(p_values)
    return p_values


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", REAL)
def test_numbers_are_drawn_from_the_distribution_named(dtype, kind, size):
    check_numbers(from_kernel(kind, dtype), kind, size)


def test_a_std_off_by_half_a_percent_is_refused():
    for kind in KINDS:
        with pytest.raises(AssertionError):
            check_numbers(from_kernel(kind, "complex64", 1.01), kind, 10**6)


def test_another_kind_of_the_same_std_is_refused():
    for kind, other in (("normal", "truncated_normal"), ("uniform", "normal"), ("truncated_normal", "uniform")):
        with pytest.raises(AssertionError):
            check_numbers(from_kernel(other, "complex128"), kind, 10**6)


def test_parts_that_are_correlated_or_unlike_are_refused():
    def correlated(start, count):
        z = from_kernel("normal", "complex128")(start, count)
        return z.real + 1j * (z.imag * math.sqrt(1 - 0.01**2) + 0.01 * z.real)

    def unlike(start, count):
        z = from_kernel("normal", "complex128")(start, count)
        return z.real * math.sqrt(1.01) + 1j * z.imag * math.sqrt(0.99)

    for draw in (correlated, unlike):
        with pytest.raises(AssertionError):
            check_numbers(draw, "normal", 10**6)


def test_a_square_of_uniform_parts_is_refused():
    """Mean square 1, no correlation, but no disk."""

    def draw(start, count):
        parts = {"seed": 3, "shape": (1 << 40, 2), "offset": (start, 0)}
        bound = math.sqrt(1.5)
        return winit_fast.fill(np.empty((count, 2)), f"uniform({-bound!r}, {bound!r})", **parts) @ [1, 1j]

    with pytest.raises(AssertionError):
        check_numbers(draw, "uniform", 10**6)


def test_numbers_that_hold_a_trace_of_the_next_are_refused():
    def draw(start, count):
        z = from_kernel("uniform", "complex128")(start, count)
        z[1:] = z[1:] * math.sqrt(1 - 0.01**2) + 0.01 * z[:-1]
        return z

    with pytest.raises(AssertionError):
        check_numbers(draw, "uniform", 10**6)
