"""Resolution: how fine the bins are whose probabilities float32 has right (STREAM.md, section 11).

Nothing is drawn. An edge between bins of equal probability stands at a word: of the words around it, the compiled
kernels say which have a value below the edge, and what is missing or too much is the error of a probability, exactly.
"""

import math

import numpy as np
import pytest
from test_accuracy import INF, as_blocks, met, places_of
from test_statistics import Normal

import winit_fast

BINS = 1 << 16
# The errors of a bin's probability that the page states, typical (root mean square) and largest, and how far around an
# edge words may be on its wrong side, as a share of all words.
STATED = {
    Normal(low=-40.0, high=40.0): (3.9e-8, 1.6e-7, 1e-6),
    Normal(low=-3.0, high=1.0): (5.0e-8, 2.4e-7, 1e-6),
    Normal(low=-2.0, high=2.0): (2.4e-8, 1.1e-7, 1e-6),
    Normal(low=3.0): (5.6e-7, 3.4e-6, 1e-5),
    Normal(low=9.0): (4.5e-6, 3.9e-5, 1e-4),
}
SIZES = [pytest.param(40, 256, id="40 bins"), pytest.param(2000, 512, id="2000 bins", marks=pytest.mark.statistics)]


def values_of(words, scheme):
    """What the kernels make of each of these words."""
    blocks = as_blocks(words)
    values = met(blocks, scheme, "float32")[1]
    at = (places_of(blocks)[:, 2:] % np.uint64(8) * np.uint64(4)).astype(np.intp) + np.arange(4)
    element = np.where(at % 2 == 0, at // 2, 16 + at // 2)
    return np.take_along_axis(values, element, axis=1).ravel()[: words.size].reshape(words.shape)


def edges_of(distribution, numbers):
    """Edges of bins as float32 values, and the exact probability below each: to half way from the value before it."""
    exact = distribution.quantile(numbers / BINS)
    edges = exact.astype(np.float32)
    edges = np.where(edges < exact, np.nextafter(edges, np.float32(INF)), edges)
    before = np.nextafter(edges, np.float32(-INF)).astype(float)
    return edges, distribution.cdf((before + edges.astype(float)) / 2)


def shares_below(distribution, numbers, edges, reach, count):
    """The share of all words whose value is below each edge; `count` of those around an edge stand for their likes."""
    step = int(2 * reach * 2**32) // count
    first = numbers * (2**32 // BINS) - step * count // 2
    around = first[:, None] + step * np.arange(count) + step // 2
    is_signed = -distribution.low == distribution.high <= 2  # the centre form counts from the word 2^31 on
    words = ((around + (is_signed << 31)) % 2**32).astype(np.uint32)
    is_below = values_of(words, distribution.scheme) < edges[:, None]
    assert is_below[:, : count // 8].all(), "farther from their edge than words may be"
    assert not is_below[:, -count // 8 :].any(), "farther from their edge than words may be"
    return (first + step * is_below.sum(axis=1)) / 2**32


def errors_of_bins(distribution, bins, reach, count):
    """Of some bins, their share of all words less their probability."""
    numbers = np.stack([bins, bins + 1], axis=1).ravel()
    edges, probabilities = edges_of(distribution, numbers)
    shares = shares_below(distribution, numbers, edges, reach, count)
    return np.diff((shares - probabilities).reshape(-1, 2), axis=1).ravel()


@pytest.mark.parametrize(("bins", "count"), SIZES)
@pytest.mark.parametrize("distribution", STATED, ids=lambda distribution: distribution.scheme)
def test_bins_of_float32_are_as_right_as_the_page_states(distribution, bins, count):
    typical, largest, reach = STATED[distribution]
    ends = int(reach * BINS) + 1  # here words around an edge would pass the first or the last word
    chosen = np.random.default_rng(5).integers(ends, BINS - 1 - ends, bins)
    errors = errors_of_bins(distribution, chosen, reach, count)
    assert np.abs(errors).max() <= largest
    assert 0.7 * typical <= math.sqrt((errors**2).mean()) <= 1.3 * typical


def test_values_of_half_the_resolution_are_noticed(monkeypatch):
    distribution = Normal(low=-3.0, high=1.0)
    typical, _, reach = STATED[distribution]

    def coarser(words, scheme, exact=values_of):
        return np.round(exact(words, scheme) * 2**21) / np.float32(2**21)

    chosen = np.random.default_rng(5).integers(1, BINS - 2, 40)
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "values_of", coarser)
        errors = errors_of_bins(distribution, chosen, reach, 256)
    assert math.sqrt((errors**2).mean()) > 1.3 * typical


@pytest.mark.parametrize(
    ("dtype", "bound", "fewest", "most"),
    [
        ("float32", 1e-9, 65_000, 65_536),
        ("float32", 1e-19, 65_000, 65_536),
        ("float32", 1e-20, 2, 2),
        ("float64", 1e-9, 65_000, 65_536),
        ("float64", 1e-12, 14_000, 15_000),
        ("float64", 1e-14, 100, 200),
        ("float64", 1e-17, 2, 2),
    ],
)
def test_bounds_very_near_each_other_leave_as_many_values_as_the_page_says(dtype, bound, fewest, most):
    scheme = winit_fast.scheme("truncated_normal", low=-bound, high=bound)
    values = winit_fast.fill(np.empty(1 << 16, dtype), scheme, seed=1, name="a")
    assert fewest <= len(np.unique(values)) <= most
