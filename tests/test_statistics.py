"""Statistics: what comes out is drawn from the distribution named, element by element independent.

Every test runs at 10^6 values, at 10^7 with ``pytest -m exhaustive`` and at 10^8 with ``pytest -m statistics``. The
seeds are fixed. A run computes fewer than 1000 p-values and refuses those below 1e-9, so that a right implementation
fails for one set of seeds in 10^6. Moments are held to 5 standard errors, which each passes by chance once in two
million. The last tests show that the checks can fail: they hand them what is a little wrong.

Memory does not grow with the size: chunks of one long tensor are drawn one by one, and only counts and sums are kept.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import mpmath
import numpy as np
import pytest
from arrays import DTYPES, NARROW
from scipy import special, stats

import winit_fast

SIZES = [
    pytest.param(10**6, id="1e6"),
    pytest.param(10**7, id="1e7", marks=pytest.mark.exhaustive),
    pytest.param(10**8, id="1e8", marks=pytest.mark.statistics),
]
LEAST_P = 1e-9
LARGEST_MOMENT_ERROR = 5.0
CHUNK = 1 << 18
INF = math.inf

Draw = Callable[[int, int], np.ndarray]  # (start, count) -> the values from `start` on, so many
DrawTwo = Callable[[int, int], tuple[np.ndarray, np.ndarray]]


def from_kernel(scheme: str, dtype: object = "float32", seed: int = 2024, name: str | int = "statistics") -> Draw:
    def draw(start: int, count: int) -> np.ndarray:
        return winit_fast.fill(np.empty(count, dtype), scheme, seed=seed, name=name, shape=(1 << 40,), offset=(start,))

    return draw


def chunks(draw: Draw, size: int, chunk: int = CHUNK):
    for start in range(0, size, chunk):
        yield draw(start, min(chunk, size - start))


def assert_plausible(p_values: dict[str, float]) -> None:
    refused = {name: p for name, p in p_values.items() if not p > LEAST_P}
    assert not refused, f"p-values below {LEAST_P}: {refused}"


def products(first: np.ndarray, second: np.ndarray) -> float:
    """Their inner product, by this thread alone."""
    return float(np.einsum("i,i", first, second))


def two_sided(score: float) -> float:
    """The p-value of a standard normal score."""
    return math.erfc(abs(score) / math.sqrt(2))


def chi_square_p(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """Two-sided: counts that agree too well are as suspicious. Neighbouring bins are pooled until they expect 500."""
    size, pool, pools, held = counts.sum(), 0, np.zeros(len(counts), np.int64), 0.0
    for at, probability in enumerate(probabilities.tolist()):
        if held * size >= 500:
            pool, held = pool + 1, 0.0
        pools[at] = pool
        held += probability
    if held * size < 500 and pool:
        pools[pools == pool] = pool - 1
    observed, expected = np.bincount(pools, counts), np.bincount(pools, probabilities * size)
    statistic, freedom = ((observed - expected) ** 2 / expected).sum(), len(expected) - 1
    return float(2 * min(stats.chi2.sf(statistic, freedom), stats.chi2.cdf(statistic, freedom)))


# ---------------------------------------------------------------------------------------------- the distributions named


@dataclass(frozen=True)
class Uniform:
    low: float = 0.0
    high: float = 1.0

    @property
    def scheme(self) -> str:
        return f"uniform({self.low!r}, {self.high!r})"

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return np.clip((x - self.low) / (self.high - self.low), 0, 1)

    def quantile(self, p: np.ndarray) -> np.ndarray:
        return self.low + (self.high - self.low) * p

    def standardized(self, x: np.ndarray) -> np.ndarray:
        return (x - (self.low + self.high) / 2) * (math.sqrt(12) / (self.high - self.low))

    @cached_property
    def moments(self) -> list[float]:
        return [0.0 if k % 2 else 3 ** (k / 2) / (k + 1) for k in range(9)]


@dataclass(frozen=True)
class Normal:
    """A normal, cut or not; the bounds are in standard deviations."""

    mean: float = 0.0
    std: float = 1.0
    low: float = -INF
    high: float = INF

    @property
    def scheme(self) -> str:
        if self.low == -INF and self.high == INF:
            return f"normal({self.mean!r}, {self.std!r})"
        return f"truncated_normal({self.mean!r}, {self.std!r}, {self.low!r}, {self.high!r})"

    def cdf(self, x: np.ndarray) -> np.ndarray:
        z = (x - self.mean) / self.std
        if self.low >= 0:  # by the nearer tail
            near, far = special.ndtr(-self.low), special.ndtr(-self.high)
            return np.clip((near - special.ndtr(-z)) / (near - far), 0, 1)
        below, above = special.ndtr(self.low), special.ndtr(self.high)
        return np.clip((special.ndtr(z) - below) / (above - below), 0, 1)

    def quantile(self, p: np.ndarray) -> np.ndarray:
        if self.low >= 0:
            near, far = special.ndtr(-self.low), special.ndtr(-self.high)
            z = -special.ndtri(near - (near - far) * p)
        else:
            below, above = special.ndtr(self.low), special.ndtr(self.high)
            z = special.ndtri(below + (above - below) * p)
        return self.mean + self.std * z

    @cached_property
    def _center(self) -> tuple[mpmath.mpf, mpmath.mpf]:
        mean = self._moment(1, mpmath.mpf(0), mpmath.mpf(1))
        return mean, mpmath.sqrt(self._moment(2, mean, mpmath.mpf(1)))

    def _moment(self, k: int, center: mpmath.mpf, scale: mpmath.mpf) -> mpmath.mpf:
        return self._integral(lambda z: ((z - center) / scale) ** k) / self._weight

    @cached_property
    def _weight(self) -> mpmath.mpf:
        return self._integral(lambda z: 1)

    def _integral(self, function: Callable[[mpmath.mpf], mpmath.mpf]) -> mpmath.mpf:
        peak = max(self.low, 0.0) if self.low > -self.high else min(self.high, 0.0)
        low, high = max(self.low, peak - 14), min(self.high, peak + 14)
        points = mpmath.linspace(low, high, 15)
        return mpmath.quad(lambda z: function(z) * mpmath.exp((peak - z) * (peak + z) / 2), points)

    def standardized(self, x: np.ndarray) -> np.ndarray:
        mean, std = (float(number) for number in self._center)
        return (x - (self.mean + self.std * mean)) * (1 / (self.std * std))

    @cached_property
    def moments(self) -> list[float]:
        return [float(self._moment(k, *self._center)) for k in range(9)]


# --------------------------------------------------------------------------------------------------------------- checks


def moment_scores(sums: np.ndarray, size: int, exact: list[float]) -> dict[str, float]:
    """Mean, variance, skewness and kurtosis about the exact center, in standard errors."""
    names = ("mean", "variance", "skewness", "kurtosis")
    return {
        name: (sums[k - 1] / size - exact[k]) / math.sqrt((exact[2 * k] - exact[k] ** 2) / size)
        for k, name in enumerate(names, 1)
    }


def bin_edges(distribution: Uniform | Normal, dtype: np.dtype, bins: int) -> np.ndarray:
    """The exact probability below each bin's end, where bins are sets of representable values.

    Bin k holds the values whose cdf falls in [k, k + 1) / bins. It begins half way from the value before to its first.
    """
    inner = np.arange(1, bins)
    candidates = distribution.quantile(inner / bins).astype(dtype)
    steps = [candidates]
    for direction in (-INF, INF):
        value = candidates
        for _ in range(4):
            value = np.nextafter(value, dtype.type(direction))
            steps.append(value)
    around = np.sort(np.stack(steps), axis=0)
    bin_of = np.minimum((distribution.cdf(around.astype(float)) * bins).astype(np.int64), bins - 1)
    first = np.argmax(bin_of >= inner, axis=0)
    column = np.arange(bins - 1)
    between = around[first - 1, column] / 2 + around[first, column].astype(float) / 2
    # Near 0 values stand too close for their cdf to tell them apart, and no rounding matters.
    below = np.where(first > 0, distribution.cdf(between), inner / bins)
    return np.concatenate([[0.0], below, [1.0]])


def check_wide(draw: Draw, distribution: Uniform | Normal, dtype: np.dtype, size: int, bins: int) -> dict[str, float]:
    """Kolmogorov-Smirnov, Anderson-Darling and chi-square over bins of equal probability; moments."""
    counts, sums = np.zeros(bins, np.int64), np.zeros(4)
    for values in chunks(draw, size):
        x = values.astype(float)
        counts += np.bincount(np.minimum((distribution.cdf(x) * bins).astype(np.int64), bins - 1), minlength=bins)
        y = distribution.standardized(x)
        square = y * y
        sums += y.sum(), square.sum(), (square * y).sum(), (square * square).sum()
    edges = bin_edges(distribution, dtype, bins) if dtype == np.float32 else np.arange(bins + 1) / bins
    scores = moment_scores(sums, size, distribution.moments)
    assert max(map(abs, scores.values())) < LARGEST_MOMENT_ERROR, f"moments, in standard errors: {scores}"
    inner = edges[1:-1]
    distance = np.cumsum(counts)[:-1] / size - inner
    # Asymptotically A^2 is the sum over j of chi-square_j / (j (j + 1)); in its tail only j = 1 matters.
    anderson_darling = size * (distance**2 / (inner * (1 - inner)) * (edges[2:] - edges[:-2]) / 2).sum()
    p_values = {
        "Kolmogorov-Smirnov": float(special.kolmogorov(np.abs(distance).max() * math.sqrt(size))),
        "Anderson-Darling": min(1.0, math.sqrt(3) * math.erfc(math.sqrt(anderson_darling))),
        "chi-square": chi_square_p(counts, np.diff(edges)),
    }
    assert_plausible(p_values)
    return p_values | scores


def rounding_intervals(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The finite values of a narrow type in rising order, their bits, and the ends of what rounds to each."""
    bits = np.arange(1 << 8 * dtype.itemsize, dtype=f"uint{8 * dtype.itemsize}")
    with np.errstate(invalid="ignore"):
        values = bits.view(dtype).astype(float)
    keep = np.isfinite(values) & ~(np.signbit(values) & (values == 0))
    order = np.argsort(values[keep])
    values, bits = values[keep][order], bits[keep][order]
    return values, bits, np.concatenate([[-INF], (values[1:] + values[:-1]) / 2, [INF]])


def check_narrow(draw: Draw, distribution: Uniform | Normal, dtype: np.dtype, size: int) -> dict[str, float]:
    """Chi-square and Kolmogorov-Smirnov over the distinct values, moments of the rounded distribution."""
    unsigned = np.dtype(f"uint{8 * dtype.itemsize}")
    by_bits = np.zeros(1 << 8 * dtype.itemsize, np.int64)
    for values in chunks(draw, size):
        by_bits += np.bincount(values.view(unsigned), minlength=by_bits.size)
    values, bits, ends = rounding_intervals(dtype)
    counts = by_bits[bits]
    counts[values == 0] += by_bits[by_bits.size // 2]  # those of -0.0
    assert counts.sum() == size
    cumulative = distribution.cdf(ends)
    assert not counts[(cumulative[1:] == 0) | (cumulative[:-1] == 1)].any(), "values out of bounds"
    probabilities = np.diff(cumulative)
    possible = counts + probabilities > 0
    y = distribution.standardized(values[possible])
    exact = [float((probabilities[possible] * y**k).sum()) for k in range(9)]
    scores = moment_scores(np.array([(counts[possible] * y**k).sum() for k in range(1, 5)]), size, exact)
    assert max(map(abs, scores.values())) < LARGEST_MOMENT_ERROR, f"moments, in standard errors: {scores}"
    distance = np.abs(np.cumsum(counts) / size - cumulative[1:]).max()
    p_values = {
        "chi-square": chi_square_p(counts, probabilities),
        "Kolmogorov-Smirnov": float(special.kolmogorov(distance * math.sqrt(size))),
    }
    assert_plausible(p_values)
    return p_values | scores


def check_tails(draw: Draw, size: int) -> dict[str, float]:
    """How many are beyond 4, 5 and 6 standard deviations, on each side: Poisson."""
    counts = {sign * limit: 0 for limit in (4, 5, 6) for sign in (-1, 1)}
    for values in chunks(draw, size, 1 << 16):
        far = values[np.abs(values) > 4]
        for limit in counts:
            counts[limit] += int((far < limit).sum() if limit < 0 else (far > limit).sum())
    p_values = {}
    for limit, count in counts.items():
        expected = size * special.ndtr(-abs(limit))
        p_values[f"beyond {limit}"] = 2 * min(stats.poisson.sf(count - 1, expected), stats.poisson.cdf(count, expected))
    assert_plausible(p_values)
    return p_values


def check_neighbours(draw: Draw, distribution: Uniform | Normal, size: int) -> dict[str, float]:
    """Correlation of values, and of their squares, with those so many places on; a chunk's ends are left out."""
    lags = (1, 2, 15, 16, 17, 31, 32, 33, 64)
    sums, pairs = np.zeros((2, len(lags))), np.zeros(len(lags))
    spread = math.sqrt(distribution.moments[4] - 1)
    for values in chunks(draw, size):
        y = distribution.standardized(values.astype(float))
        square = (y * y - 1) / spread
        for at, lag in enumerate(lags):
            sums[:, at] += products(y[lag:], y[:-lag]), products(square[lag:], square[:-lag])
            pairs[at] += len(y) - lag
    scores = sums / np.sqrt(pairs)
    p_values = {
        f"{what} at lag {lag}": two_sided(score)
        for what, row in zip(("values", "squares"), scores, strict=True)
        for lag, score in zip(lags, row, strict=True)
    }
    assert_plausible(p_values)
    return p_values


def check_independence(draws: DrawTwo, distribution: Normal, size: int) -> dict[str, float]:
    """Two sequences, place by place: correlation of values and squares, chi-square of a grid of 64 by 64."""
    grid, sums, pairs = np.zeros(64 * 64, np.int64), np.zeros(2), 0
    spread = math.sqrt(distribution.moments[4] - 1)
    for start in range(0, size, CHUNK):
        first, second = (values.astype(float).ravel() for values in draws(start, min(CHUNK, size - start)))
        rows, columns = (np.minimum((distribution.cdf(x) * 64).astype(np.int64), 63) for x in (first, second))
        grid += np.bincount(rows * 64 + columns, minlength=64 * 64)
        first, second = distribution.standardized(first), distribution.standardized(second)
        sums += products(first, second), products(first * first - 1, second * second - 1) / spread**2
        pairs += len(first)
    p_values = {
        "values": two_sided(sums[0] / math.sqrt(pairs)),
        "squares": two_sided(sums[1] / math.sqrt(pairs)),
        "grid": chi_square_p(grid, np.full(64 * 64, 1 / 64**2)),
    }
    assert_plausible(p_values)
    return p_values


def halves(draw: Draw, row: int) -> DrawTwo:
    """The two elements of each pair, which stand `row` apart."""

    def draw_halves(start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        values = draw(start, count - count % (2 * row)).reshape(-1, 2, row)
        return values[:, 0], values[:, 1]

    return draw_halves


# ---------------------------------------------------------------------------------------------------------------- tests

# Where the density is steep one step of float32 is worth much probability (at 30 sigma, 1 in 17 000), and errors of a
# few steps, which tests/test_accuracy.py judges, would show between narrow bins. float64 always has fine ones.
FINE, COARSE = 1 << 14, 1 << 8

DISTRIBUTIONS = [
    (Uniform(), FINE),
    (Uniform(-0.05, 0.1), FINE),
    (Normal(), FINE),
    (Normal(0.5, 0.02), COARSE),
    (Normal(low=-2.0, high=2.0), FINE),
    (Normal(0.0, 0.02, -1.0, 1.0), FINE),
    (Normal(low=-3.0, high=3.0), FINE),
    (Normal(low=-1.0), FINE),
    (Normal(low=-6.0, high=0.5), FINE),
    (Normal(low=0.0, high=2.5), FINE),
    (Normal(low=3.0), COARSE),
    (Normal(low=5.0, high=6.0), COARSE),
    (Normal(high=-8.0), 64),
    (Normal(low=9.0), 64),
    (Normal(low=30.0, high=31.0), 16),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("distribution", "bins"), DISTRIBUTIONS, ids=lambda value: getattr(value, "scheme", ""))
def test_float32_values_are_drawn_from_the_distribution_named(distribution, bins, size):
    check_wide(from_kernel(distribution.scheme), distribution, np.dtype("float32"), size, bins)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("distribution", [d for d, _ in DISTRIBUTIONS], ids=lambda distribution: distribution.scheme)
def test_float64_values_are_drawn_from_the_distribution_named(distribution, size):
    check_wide(from_kernel(distribution.scheme, "float64"), distribution, np.dtype("float64"), size, FINE)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(
    "distribution",
    [Uniform(-1.0, 1.0), Normal(), Normal(0.0, 0.02), Normal(low=-2.0, high=2.0), Normal(low=-1.0, high=3.0)],
    ids=lambda distribution: distribution.scheme,
)
def test_narrow_values_are_drawn_from_the_distribution_named(distribution, dtype, size):
    check_narrow(from_kernel(distribution.scheme, DTYPES[dtype]), distribution, DTYPES[dtype], size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals_beyond_4_5_and_6_sigma_are_as_many_as_they_should_be(dtype, size):
    """Of a hundred times as many values: at 10^10, twenty beyond 6."""
    check_tails(from_kernel("normal", dtype), size * (100 if dtype == "float32" else 10))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("distribution", "dtype"),
    [
        (Uniform(), "float32"),
        (Normal(), "float32"),
        (Normal(low=-2.0, high=2.0), "float32"),
        (Normal(low=-1.0), "float32"),
        (Normal(), "float64"),
    ],
    ids=lambda value: getattr(value, "scheme", value),
)
def test_neighbours_are_not_correlated(distribution, dtype, size):
    check_neighbours(from_kernel(distribution.scheme, dtype), distribution, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("distribution", "dtype", "row"),
    [(Normal(), "float32", 16), (Normal(), "float64", 8), (Normal(low=-2.0, high=2.0), "float32", 16)],
    ids=lambda value: getattr(value, "scheme", value),
)
def test_the_two_of_a_pair_are_independent(distribution, dtype, row, size):
    check_independence(halves(from_kernel(distribution.scheme, dtype), row), distribution, size)


STREAMS = [
    ({"name": "layer.1.weight"}, {"name": "layer.2.weight"}),
    ({"name": 0}, {"name": 1}),
    ({"seed": 7}, {"seed": 8}),
    ({"seed": 0, "name": 1}, {"seed": 1, "name": 0}),
    ({"seed": 0}, {"seed": 1 << 32}),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("one", "other"), STREAMS, ids=str)
def test_streams_are_independent(one, other, size):
    draw_one, draw_other = from_kernel("normal", **one), from_kernel("normal", **other)
    check_independence(lambda start, count: (draw_one(start, count), draw_other(start, count)), Normal(), size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("one", "other"), STREAMS, ids=str)
def test_words_of_streams_differ_in_half_of_their_bits(one, other, size):
    one, other = {"seed": 2024} | one, {"seed": 2024} | other
    differences = np.zeros(256, np.int64)
    for start in range(0, size, CHUNK):
        count = min(CHUNK, size - start)
        first = winit_fast.random_bits(np.empty(count, np.uint32), offset=start, **one)
        second = winit_fast.random_bits(np.empty(count, np.uint32), offset=start, **other)
        differences += np.bincount((first ^ second).view(np.uint8), minlength=256)
    assert_plausible({"bytes": chi_square_p(differences, np.full(256, 1 / 256))})


# --------------------------------------------------------------------------- the same checks, of what is a little wrong


def refuses(check: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(AssertionError):
        check(*arguments)


@pytest.mark.exhaustive
def test_a_std_off_by_a_fifth_of_a_percent_is_refused():
    refuses(check_wide, from_kernel("normal(std=1.002)"), Normal(), np.dtype("float32"), 10**7, FINE)
    refuses(check_narrow, from_kernel("normal(std=1.002)", "float16"), Normal(), np.dtype("float16"), 10**7)


@pytest.mark.exhaustive
def test_a_mean_off_by_a_five_hundredth_is_refused():
    refuses(check_wide, from_kernel("normal(mean=0.002)"), Normal(), np.dtype("float32"), 10**7, FINE)


def test_tails_cut_at_5_are_refused():
    refuses(check_tails, from_kernel("truncated_normal(low=-5, high=5)"), 10**8)


@pytest.mark.exhaustive
def test_a_bin_that_is_too_full_is_refused():
    """One value in 7000 moved by a thousandth: no moment shows it."""

    def draw(start: int, count: int) -> np.ndarray:
        values = from_kernel("normal")(start, count)
        near = np.abs(values - 1) < 3e-4
        values[near] += np.float32(1e-3)
        return values

    refuses(check_wide, draw, Normal(), np.dtype("float32"), 10**7, FINE)


def test_bfloat16_that_is_cut_off_and_not_rounded_is_refused():
    def draw(start: int, count: int) -> np.ndarray:
        return (from_kernel("normal")(start, count).view(np.uint32) >> 16).astype(np.uint16).view(DTYPES["bfloat16"])

    refuses(check_narrow, draw, Normal(), DTYPES["bfloat16"], 10**7)


@pytest.mark.exhaustive
def test_a_trace_of_the_neighbour_is_refused():
    def draw(start: int, count: int) -> np.ndarray:
        values = from_kernel("normal")(start, count)
        values[17:] += np.float32(0.003) * values[:-17]
        return values

    refuses(check_neighbours, draw, Normal(), 10**7)


@pytest.mark.exhaustive
def test_pairs_that_share_a_little_of_their_size_are_refused():
    scale = from_kernel("normal(mean=1, std=0.05)", name="scale")

    def draw(start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        first, second = halves(from_kernel("normal"), 16)(start, count)
        shared = scale(start, first.size).reshape(first.shape) / np.float32(math.sqrt(1.0025))
        return first * shared, second * shared

    refuses(check_independence, draw, Normal(), 10**7)


def test_the_same_stream_twice_is_refused():
    draw = from_kernel("normal")
    refuses(check_independence, lambda start, count: (draw(start, count), draw(start, count)), Normal(), 10**6)
