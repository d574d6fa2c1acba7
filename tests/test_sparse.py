"""Sparse weights: exactly so many zeros in every unit, every subset of its entries alike (STREAM.md, section 9).

The checks of the distribution take the masks of many units: ten thousand, and up to 10^7 with ``pytest -m statistics``.
The seeds are fixed. A run computes fewer than 1000 p-values and refuses those below 1e-9. The last tests hand the
checks what is not quite random.
"""

import math
from functools import lru_cache
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from arrays import DTYPES, NARROW, bits, cut, placed, same, untouched
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from test_statistics import assert_plausible, chi_square_p, two_sided

import winit_fast
from winit_fast import dispatch

TORCH = {"out_axis": 0, "in_axis": 1}


def filled(shape, sparsity, dtype="float32", std=0.01, per="in", **arguments):
    scheme = f"sparse({sparsity!r}, std={std!r}, per={per!r})"
    return winit_fast.fill(untouched(shape, DTYPES[dtype]), scheme, **({"seed": 1, "name": "weight"} | arguments))


def zeros_of(sparsity, entries):
    return min(entries, math.ceil(sparsity * entries))


def units_of(array, outs=(-1,), batch=(), per="in"):
    """A row for each unit, with its entries."""
    rank = array.ndim
    outs, batch = (tuple(axis % rank for axis in axes) for axes in (outs, batch))
    ins = tuple(axis for axis in range(rank) if axis not in outs + batch)
    units, entries = (ins, outs) if per == "in" else (outs, ins)
    rows = math.prod(array.shape[axis] for axis in batch + units)
    return array.transpose(batch + units + entries).reshape(rows, -1)


# ------------------------------------------------------------------------------------------------------- zeros, counted

SHAPES = [
    # shape, axes as given to `fill`, positions of the outputs and of the batch
    ((1, 1), {}, (-1,), ()),
    ((7, 5), {}, (-1,), ()),
    ((5, 7), TORCH, (0,), ()),
    ((1, 1000), {}, (-1,), ()),
    ((1000, 1), {}, (-1,), ()),
    ((33, 127), {}, (-1,), ()),
    ((20, 128), {}, (-1,), ()),
    ((20, 129), {}, (-1,), ()),
    ((130, 19), {}, (-1,), ()),
    ((257, 300), {}, (-1,), ()),
    ((3, 3, 6, 11), {}, (-1,), ()),
    ((150, 6, 3, 3), TORCH, (0,), ()),
    ((4, 6, 10, 5), {"in_axis": 1, "out_axis": (0, 2)}, (0, 2), ()),
    ((5, 9, 13), {"batch_axis": 0}, (-1,), (0,)),
    ((9, 5, 140), {"batch_axis": 1, "in_axis": 0}, (-1,), (1,)),
    ((3, 4, 8, 9, 2), {"batch_axis": (0, 4), "in_axis": 2, "out_axis": 3}, (3,), (0, 4)),
]


@pytest.mark.covering
@pytest.mark.parametrize("per", ["in", "out"])
@pytest.mark.parametrize(("shape", "axes", "outs", "batch"), SHAPES, ids=lambda value: str(value))
@pytest.mark.parametrize("sparsity", [1e-9, 0.1, 1 / 3, 0.5, 0.7, 0.99, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_unit_has_exactly_so_many_zeros_and_keeps_the_other_normals(
    shape, axes, outs, batch, per, sparsity, dtype
):
    array = filled(shape, sparsity, dtype, per=per, **axes)
    units = units_of(array, outs, batch, per)
    assert ((units == 0).sum(1) == zeros_of(sparsity, units.shape[1])).all()
    is_kept = array != 0
    normal = winit_fast.fill(np.empty(shape, dtype), "normal(std=0.01)", seed=1, name="weight")
    assert same(array[is_kept], normal[is_kept])
    assert not bits(array[~is_kept]).any()  # no -0


@pytest.mark.parametrize("per", ["in", "out"])
@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 40)) | st.tuples(st.integers(1, 40), st.integers(1, 300)),
    sparsity=st.floats(0, 1) | st.integers(0, 100).map(lambda percent: percent / 100),
    seed=st.integers(0, 2**64 - 1),
)
def test_every_unit_has_exactly_so_many_zeros_for_any_sparsity(per, shape, sparsity, seed):
    units = units_of(filled(shape, sparsity, per=per, seed=seed), per=per)
    assert ((units == 0).sum(1) == zeros_of(sparsity, units.shape[1])).all()


def test_the_product_is_rounded_up_as_a_float64():
    """0.07 * 100 is 7.000000000000001."""
    assert ((filled((5, 100), 0.07) == 0).sum(1) == 8).all()
    assert ((filled((5, 100), 0.06) == 0).sum(1) == 6).all()


def test_all_and_no_zeros_are_zeros_and_a_normal():
    assert same(filled((5, 200), 1.0), np.zeros((5, 200), "float32"))
    normal = winit_fast.fill(np.empty((5, 200), "float32"), "normal(std=0.01)", seed=1, name="weight")
    assert same(filled((5, 200), 0.0), normal)
    assert same(filled((5, 200), 0.3, std=0.0), np.zeros((5, 200), "float32"))


@pytest.mark.parametrize("std", [1.0, 0.01, 1e-30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_value_that_is_kept_is_zero(std, dtype):
    array = filled((2000, 1000), 0.25, dtype, std)
    assert np.count_nonzero(array == 0) == 2000 * 250
    assert np.isfinite(array).all()


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("shape", [(60, 70), (30, 300)], ids=str)
def test_narrow_values_are_the_float32_ones_rounded_once(shape, dtype):
    assert same(filled(shape, 0.4, dtype, 0.5), filled(shape, 0.4, "float32", 0.5).astype(DTYPES[dtype]))


def test_the_zeros_of_float64_are_those_of_float32():
    for shape in ((50, 60), (50, 600)):
        assert same(filled(shape, 0.4, "float64") == 0, filled(shape, 0.4, "float32") == 0)


def test_std_does_not_move_the_zeros():
    assert same(filled((50, 60), 0.4, std=2.0) == 0, filled((50, 60), 0.4) == 0)


def test_more_sparsity_empties_more_of_the_same_order():
    """The zeros of a unit are its first places: those of less sparsity are among them."""
    for entries in (50, 500):
        fewer, more = (filled((40, entries), sparsity) == 0 for sparsity in (0.3, 0.6))
        assert (more[fewer]).all()


# -------------------------------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize("per", ["in", "out"])
@pytest.mark.parametrize("shape", [(9, 40), (9, 300)], ids=str)
def test_units_and_entries_do_not_depend_on_the_layout(shape, per):
    """Not the values, which are the element's, but the zeros."""
    zeros = filled(shape, 0.3, per=per) == 0
    assert same(filled(shape[::-1], 0.3, per=per, **TORCH).T == 0, zeros)
    assert same(filled(shape, 0.3, per="out" if per == "in" else "in", **TORCH) == 0, zeros)


def test_kernel_axes_belong_to_the_inputs():
    zeros = filled((5 * 5 * 3, 8), 0.3) == 0
    assert same(filled((5, 5, 3, 8), 0.3) == 0, zeros.reshape(5, 5, 3, 8))
    zeros = filled((8, 3 * 5 * 5), 0.3, per="out", **TORCH) == 0
    assert same(filled((8, 3, 5, 5), 0.3, per="out", **TORCH) == 0, zeros.reshape(8, 3, 5, 5))


def test_units_are_numbered_along_the_batch_axes_first():
    flat = filled((2 * 3 * 4, 50), 0.3) == 0
    assert same(filled((2, 3, 4, 50), 0.3, batch_axis=(0, 1)) == 0, flat.reshape(2, 3, 4, 50))
    assert same(filled((2, 3, 4, 50), 0.3, batch_axis=(1, 0)) == 0, flat.reshape(2, 3, 4, 50))
    moved = flat.reshape(2, 3, 4, 50).transpose(2, 0, 3, 1)
    assert same(filled((4, 2, 50, 3), 0.3, batch_axis=(1, 3), in_axis=0, out_axis=2) == 0, np.ascontiguousarray(moved))


# --------------------------------------------------------------------------------------------------- parts of the whole


@st.composite
def parts(draw):
    """A shape with its axes, and the offset and shape of a rectangle in it."""
    shape, axes = draw(
        st.sampled_from(
            [
                ((30, 40), {}),
                ((7, 200), {}),
                ((200, 7), {"per": "out"}),
                ((140, 9), TORCH),
                ((9, 12, 4), TORCH | {"per": "out"}),
                ((3, 5, 150), {"batch_axis": 0}),
                ((5, 3, 6, 4), {"batch_axis": (1,), "in_axis": 0, "out_axis": (2, 3)}),
                ((4, 3, 5, 2), {"per": "out"}),
            ]
        )
    )
    edges = [sorted((draw(st.integers(0, size)), draw(st.integers(0, size)))) for size in shape]
    return shape, axes, tuple(first for first, _ in edges), tuple(last - first for first, last in edges)


@settings(max_examples=150, deadline=None)
@given(
    st.data(), parts(), st.sampled_from(["float32", "float64", "bfloat16", "float8_e5m2"]),
    st.sampled_from([0.01, 0.3, 0.5, 0.95]), st.integers(1, 3),
)  # fmt: skip
def test_a_part_of_any_strides_is_that_part_of_the_whole(data, part, dtype, sparsity, threads):
    shape, axes, offset, extent = part
    per = axes.get("per", "in")
    axes = {name: value for name, value in axes.items() if name != "per"}
    place = data.draw(placed(extent, DTYPES[dtype]))
    winit_fast.fill(
        place.view, f"sparse({sparsity}, per={per!r})", seed=1, name="weight", shape=shape, offset=offset,
        threads=threads, **axes,
    )  # fmt: skip
    assert same(place.view, cut(filled(shape, sparsity, dtype, per=per, **axes), offset, extent))
    assert place.is_untouched_outside()


@pytest.mark.parametrize("per", ["in", "out"])
@pytest.mark.parametrize("shape", [(12, 17), (3, 150), (150, 3)], ids=str)
def test_every_entry_alone_is_that_entry_of_the_whole(shape, per):
    whole = filled(shape, 0.4, per=per)
    for row in range(shape[0]):
        for column in range(shape[1]):
            one = untouched((1, 1), "float32")
            winit_fast.fill(one, f"sparse(0.4, per={per!r})", seed=1, name="weight", shape=shape, offset=(row, column))
            assert same(one, whole[row : row + 1, column : column + 1])


@pytest.mark.parametrize("per", ["in", "out"])
@pytest.mark.parametrize("shape", [(100, 100), (70, 300), (300, 70)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_fill_rows_gives_rows_of_the_matrix(shape, per, dtype):
    rows = np.random.default_rng(2).integers(0, shape[0], 150)
    out = untouched((150, shape[1]), DTYPES[dtype])
    winit_fast.fill_rows(out, rows, f"sparse(0.4, per={per!r})", seed=1, name="weight", shape=shape)
    assert same(out, filled(shape, 0.4, dtype, per=per)[rows])


@pytest.mark.parametrize("shape", [(3000, 100), (300, 2000)], ids=str)
@pytest.mark.parametrize("per", ["in", "out"])
def test_a_matrix_is_the_same_for_any_number_of_threads(shape, per):
    one = filled(shape, 0.4, per=per, threads=1)
    for threads in (2, 3, 5):
        assert same(filled(shape, 0.4, per=per, threads=threads), one)


@pytest.mark.parametrize("entries", [31, 128, 129, 1000])
def test_a_mask_is_that_of_the_page(isa, entries):
    """STREAM.md, section 9, in a few lines; and what the last tests make worse."""
    assert same(masks_of.__wrapped__(40, entries, entries // 2), turned_masks(40, entries, entries // 2, turns=4))


# -------------------------------------------------------------------------------- every subset is as likely: the checks
#
# Each takes masks (units, entries), True where an entry is empty, with as many in every row, and returns p-values.


@lru_cache(maxsize=3)
def masks_of(units, entries, zeros, seed=1, name="weight"):
    """Of as many units, one an input; a fraction between two whole numbers gives that many zeros."""
    sparsity = (zeros - 0.5) / entries
    masks = np.empty((units, entries), bool)
    for first in range(0, units, 1 << 14):
        rows = masks[first : first + (1 << 14)]
        out = np.empty(rows.shape, "float32")
        winit_fast.fill(out, f"sparse({sparsity!r})", seed=seed, name=name, shape=masks.shape, offset=(first, 0))
        rows[...] = out == 0
    assert (masks.sum(1) == zeros).all()
    masks.flags.writeable = False
    return masks


def two_tails(statistic, law):
    """Both ways: what agrees too well is as suspicious."""
    return float(min(1.0, 2 * min(law.sf(statistic), law.cdf(statistic))))


def probability(entries, zeros, places):
    """That `places` given entries are all empty."""
    return math.prod((zeros - k) / (entries - k) for k in range(places))


def check_subsets(masks):
    """All C(n, z) of them."""
    units, entries = masks.shape
    zeros = int(masks[0].sum())
    numbers = masks @ (1 << np.arange(entries))
    codes = [sum(1 << entry for entry in subset) for subset in combinations(range(entries), zeros)]
    counts = np.bincount(numbers, minlength=1 << entries)[codes]
    assert counts.sum() == units
    statistic = ((counts - units / len(codes)) ** 2).sum() / (units / len(codes))
    p_values = {"subsets": two_tails(statistic, stats.chi2(len(codes) - 1))} if len(codes) > 1 else {}
    assert_plausible(p_values)
    return p_values


def together(masks):
    """How often each pair of entries is empty together; on the diagonal, each entry."""
    counts = np.zeros((masks.shape[1],) * 2)
    for first in range(0, len(masks), 1 << 13):
        some = masks[first : first + (1 << 13)].astype(np.float32)
        counts += some.T @ some
    return counts


def check_entries_and_pairs(masks):
    """How often each entry is empty, and each pair."""
    return check_counts(together(masks), len(masks), int(masks[0].sum()))


def check_counts(counts, units, zeros):
    """Chi-square of how often each entry is empty, and each pair beyond what its entries explain; the farthest of both.

    Counts of pairs are correlated: (p2 - p4) I + (p3 - p4) A + (p4 - p2^2) J, where A joins pairs that share an entry.
    Its eigenvalue on what is no sum of two entries' parts, n (n - 3) / 2 dimensions, is p2 - 2 p3 + p4.
    """
    n = len(counts)
    p1, p2, p3, p4 = (probability(n, zeros, places) for places in (1, 2, 3, 4))
    single = np.diagonal(counts) - units * p1
    p_values = {}
    p_values["entries"] = two_tails((single**2).sum() * (n - 1) / n / (units * p1 * (1 - p1)), stats.chi2(n - 1))
    least = 2 * stats.norm.sf(np.abs(single).max() / math.sqrt(units * p1 * (1 - p1)))
    p_values["farthest entry"] = min(1.0, float(least) * n)
    if n < 4 or zeros < 2 or n - zeros < 2:
        assert_plausible(p_values)
        return p_values
    rest = counts - units * p2
    np.fill_diagonal(rest, 0)
    least = stats.binom(units, p2)
    upper = np.triu_indices(n, 1)
    farthest = min(least.sf(counts[upper].max() - 1), least.cdf(counts[upper].min()))
    p_values["farthest pair"] = min(1.0, float(farthest) * n * (n - 1))
    sums = rest.sum(1)
    total = sums.sum() / (2 * (n - 1))
    part = (sums - total) / (n - 2)
    rest -= part[:, None] + part
    np.fill_diagonal(rest, 0)
    statistic = (rest[upper] ** 2).sum() / (units * (p2 - 2 * p3 + p4))
    p_values["pairs"] = two_tails(statistic, stats.chi2(n * (n - 3) / 2))
    p_values |= check_kinds_of_pairs(counts, units, zeros)
    assert_plausible(p_values)
    return p_values


def kinds_of_pairs(n):
    """Pairs that the grid of STREAM.md puts close together, and others."""
    columns = math.isqrt(n - 1) + 1
    entry = np.arange(n)
    generator = np.random.default_rng(1)
    kinds = {"neighbours": (entry[:-1], entry[1:]), "columns apart": (entry[:-columns], entry[columns:])}
    one, other = np.triu_indices(n, 1)
    kinds["in a row"] = tuple(side[one // columns == other // columns] for side in (one, other))
    kinds["in a column"] = tuple(side[one % columns == other % columns] for side in (one, other))
    kinds["with the last row"] = tuple(side[other // columns == (n - 1) // columns] for side in (one, other))
    kinds["on a diagonal"] = (entry[: -columns - 1], entry[columns + 1 :])
    some = generator.choice(len(one), min(len(one), 1000), replace=False)
    return kinds | {"drawn": (one[some], other[some])}


def check_kinds_of_pairs(counts, units, zeros):
    """How often the pairs of a kind are empty together, all counted, against the hypergeometric value."""
    n = len(counts)
    p2, p3, p4 = (probability(n, zeros, places) for places in (2, 3, 4))
    p_values = {}
    for kind, (one, other) in kinds_of_pairs(n).items():
        if not len(one):
            continue
        pairs = len(one)
        degrees = np.bincount(np.concatenate([one, other]), minlength=n)
        sharing = float((degrees * (degrees - 1)).sum())
        variance = pairs * (p2 - p2**2) + sharing * (p3 - p2**2) + (pairs**2 - pairs - sharing) * (p4 - p2**2)
        if variance > 1e-9 * pairs:
            score = (counts[one, other].sum() - units * pairs * p2) / math.sqrt(units * variance)
            p_values[f"pairs {kind}"] = two_sided(score)
    return p_values


def check_blocks(masks):
    """Zeros in blocks of entries: rows, columns and rectangles of the grid, stretches, halves, every other one."""
    n = masks.shape[1]
    zeros = int(masks[0].sum())
    columns = math.isqrt(n - 1) + 1
    entry = np.arange(n)
    row, column = entry // columns, entry % columns
    blocks = {f"row {at}": row == at for at in {0, row[-1] // 2, row[-1] - 1, row[-1]}}
    blocks |= {f"column {at}": column == at for at in {0, columns // 2, columns - 2, columns - 1}}
    blocks |= {f"stretch from {first}": (entry >= first) & (entry < first + 16) for first in (0, n // 3, n - 16)}
    blocks["first half"], blocks["every other"] = entry < n // 2, entry % 2 == 0
    blocks["checks"] = (row + column) % 2 == 0
    blocks["square"] = (row < 4) & (column < 4)
    blocks["two rows"] = (row == 1) | (row == row[-1] // 2)
    blocks["cross"] = (row == 2) | (column == 3)
    generator = np.random.default_rng(2)
    for number in range(4):
        (top, low), (left, right) = (sorted(generator.choice(row[-1], 2, replace=False)) for _ in range(2))
        corners = np.isin(row, (top, low)) & np.isin(column, (left, right))
        blocks[f"corners {number}: {top}, {low} by {left}, {right}"] = corners
    for number in range(4):
        blocks[f"drawn {number}"] = np.isin(entry, generator.choice(n, n // 5, replace=False))
    p_values = {}
    for name, block in blocks.items():
        law = stats.hypergeom(n, zeros, int(block.sum()))
        least, most = law.support()
        counts = np.bincount(masks[:, block].sum(1) - least, minlength=most - least + 1)
        p_values[f"zeros in {name}"] = chi_square_p(counts, law.pmf(np.arange(least, most + 1)))
    assert_plausible(p_values)
    return p_values


def check_overlap(first, second):
    """Of two independent masks it is hypergeometric, and no entry's state tells that of another."""
    units, n = first.shape
    zeros = int(first[0].sum())
    law = stats.hypergeom(n, zeros, int(second[0].sum()))
    least, most = law.support()
    counts = np.bincount((first & second).sum(1) - least, minlength=most - least + 1)
    p_values = {"overlap": chi_square_p(counts, law.pmf(np.arange(least, most + 1)))}
    one, other = (side.astype(np.float32) - np.float32(side[0].mean()) for side in (first, second))
    correlations = (one.T @ other).astype(float)
    variance = units * (zeros / n * (1 - zeros / n)) * (second[0].mean() * (1 - second[0].mean()))
    # Of rank (n - 1)^2, as the rows of both sum to 0.
    statistic = (correlations**2).sum() / variance * ((n - 1) / n) ** 2
    p_values["correlations"] = two_tails(statistic, stats.chi2((n - 1) ** 2))
    assert_plausible(p_values)
    return p_values


# --------------------------------------------------------------------------------------------------- and what they take


def sizes(few, many):
    return [pytest.param(few, id=f"{few}"), pytest.param(many, id=f"{many}", marks=pytest.mark.statistics)]


SMALL = [(2, 1), (3, 1), (3, 2), (4, 2), (5, 2), (6, 3), (7, 3), (8, 4), (9, 4), (10, 5), (11, 5), (11, 10), (12, 6),
         (13, 6), (13, 9), (14, 4), (15, 3), (16, 2), (16, 3), (16, 15)]  # fmt: skip


@pytest.mark.parametrize("units", sizes(40_000, 2_000_000))
@pytest.mark.parametrize(("entries", "zeros"), SMALL)
def test_every_subset_of_a_small_unit_is_as_likely(entries, zeros, units):
    check_subsets(masks_of(units, entries, zeros))


@pytest.mark.parametrize("units", sizes(40_000, 2_000_000))
@pytest.mark.parametrize(("entries", "zeros"), [(5, 2), (13, 6), (14, 7), (15, 7), (16, 5), (16, 8), (16, 12)])
def test_every_pair_of_a_small_unit_is_empty_as_often(entries, zeros, units):
    check_entries_and_pairs(masks_of(units, entries, zeros))


LARGE = [(128, 64), (129, 120), (132, 66), (145, 30), (200, 100), (1000, 900)]
LARGE += [
    pytest.param(*numbers, marks=pytest.mark.exhaustive)
    for numbers in [(129, 64), (143, 71), (144, 72), (157, 78), (211, 20), (1000, 500), (1025, 500)]
]


@pytest.mark.parametrize("units", sizes(10_000, 300_000))
@pytest.mark.parametrize(("entries", "zeros"), LARGE)
def test_entries_and_pairs_of_a_large_unit_are_empty_as_often(entries, zeros, units):
    check_entries_and_pairs(masks_of(units, entries, zeros))


@pytest.mark.parametrize("units", sizes(10_000, 300_000))
@pytest.mark.parametrize(("entries", "zeros"), LARGE)
def test_zeros_in_blocks_of_a_large_unit_are_hypergeometric(entries, zeros, units):
    check_blocks(masks_of(units, entries, zeros))


@pytest.mark.statistics
@pytest.mark.parametrize(("entries", "zeros"), [(129, 64), (143, 71), (200, 100)])
def test_entries_and_pairs_of_ten_million_units_are_empty_as_often(entries, zeros):
    """Chunk by chunk, of which the counts are kept."""
    counts = np.zeros((entries, entries))
    for number in range(50):
        counts += together(masks_of.__wrapped__(200_000, entries, zeros, name=number))
    check_counts(counts, 10**7, zeros)


def pair_probabilities(entries, zeros, turns):
    """Of every two entries, exactly: that both are empty after so many turns of the grid.

    From the last turn back to the first: `f[x, y]` is the probability that what is at places x and y ends up empty. The
    places of different lines are turned independently, those of one line together.
    """
    columns = math.isqrt(entries - 1) + 1
    row, column = np.divmod(np.arange(entries), columns)
    f = np.outer(*[np.arange(entries) < zeros] * 2).astype(float)
    for line_of in [column, row] * turns:
        means = np.equal.outer(np.arange(line_of.max() + 1), line_of) / np.bincount(line_of)[:, None]
        turned = (means @ f @ means.T)[line_of][:, line_of]
        for line in range(line_of.max() + 1):
            here = np.ix_(*[np.flatnonzero(line_of == line)] * 2)
            along = np.arange(len(here[0]))
            apart = (along - along[:, None]) % len(along)
            turned[here] = (np.bincount(apart.ravel(), f[here].ravel()) / len(along))[apart]
        f = turned
    return f


@pytest.mark.parametrize(
    ("entries", "zeros"),
    [(129, 64), (134, 127), (145, 137), (157, 78), (157, 117), (200, 100), (300, 30), (1000, 500)],
)
def test_four_turns_of_a_grid_leave_every_pair_within_2e_5_of_the_hypergeometric_value(entries, zeros):
    """What 10^7 units cannot show; the farthest of all n < 420 are among these."""
    off_diagonal = ~np.eye(entries, dtype=bool)
    exact = pair_probabilities(entries, zeros, turns=4)
    assert np.abs(np.diagonal(exact) - zeros / entries).max() < 2e-5
    assert np.abs(exact - probability(entries, zeros, 2))[off_diagonal].max() < 2e-5
    once = pair_probabilities(entries, zeros, turns=1)
    assert np.abs(once - probability(entries, zeros, 2))[off_diagonal].max() > 1e-3


@pytest.mark.covering(1)
@pytest.mark.parametrize("units", sizes(10_000, 300_000))
@pytest.mark.parametrize("apart", [1, 2, 16, 64])
@pytest.mark.parametrize(("entries", "zeros"), [(10, 5), (100, 40), (129, 64), (200, 100)])
def test_units_are_independent(entries, zeros, apart, units):
    masks = masks_of(units, entries, zeros)
    pairs = masks[: units // (2 * apart) * 2 * apart].reshape(-1, 2, apart, entries)
    check_overlap(pairs[:, 0].reshape(-1, entries), pairs[:, 1].reshape(-1, entries))


@pytest.mark.covering(1)
@pytest.mark.parametrize("units", sizes(10_000, 300_000))
@pytest.mark.parametrize("other", [{"name": "weight2"}, {"name": 0}, {"seed": 2}, {"seed": 1 << 32}], ids=str)
@pytest.mark.parametrize(("entries", "zeros"), [(100, 40), (200, 100)])
def test_masks_of_different_seeds_and_names_are_independent(entries, zeros, other, units):
    check_overlap(masks_of(units, entries, zeros), masks_of(units, entries, zeros, **other))


@pytest.mark.covering(1)
@pytest.mark.parametrize("units", sizes(10_000, 300_000))
@pytest.mark.parametrize(("entries", "zeros"), [(16, 8), (128, 64), (129, 30), (300, 200)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zeros_do_not_depend_on_the_values(entries, zeros, units, dtype):
    """The normals at empty entries, at kept ones and beside empty ones: their sums, squares, and sizes by bins."""
    check_values(masks_of(units, entries, zeros), "weight", dtype)


def check_values(masks, name, dtype="float32"):
    units, entries = masks.shape
    p_values = {}
    states = {"empty": masks, "kept": ~masks, "right of empty": np.roll(masks, 1), "left of empty": np.roll(masks, -1)}
    sums = {state: np.zeros(4) for state in states}
    bins = np.zeros(64, np.int64)
    for first in range(0, units, 1 << 13):
        out = np.empty((min(1 << 13, units - first), entries), dtype)
        values = winit_fast.fill(out, "normal", seed=1, name=name, shape=masks.shape, offset=(first, 0)).astype(float)
        for state, chosen in states.items():
            x = values[chosen[first : first + len(values)]]
            sums[state] += len(x), x.sum(), (x * x - 1).sum() / math.sqrt(2), (x**3 - 3 * x).sum() / math.sqrt(6)
            if state == "empty":
                bins += np.bincount((special.ndtr(x) * 64).astype(int), minlength=64)
    for state, (size, *hermite) in sums.items():
        for degree, total in enumerate(hermite, 1):
            p_values[f"values that are {state}, degree {degree}"] = two_sided(total / math.sqrt(size))
    p_values["values that are empty, by bins"] = chi_square_p(bins, np.full(64, 1 / 64))
    assert_plausible(p_values)
    return p_values


# ------------------------------------------------------------------------- the same checks, of what is not quite random


def turned_masks(units, entries, zeros, turns, seed=1, name="weight"):
    """STREAM.md, section 9; the page has four turns."""
    if entries <= 128:
        words = auxiliary(units, 32 * -(-entries // 32), seed, name)[:, :entries]
        places = words.argsort(axis=1, kind="stable").argsort(axis=1)
        return places < zeros
    columns = math.isqrt(entries - 1) + 1
    rows = -(-entries // columns)
    words = auxiliary(units, 32 * -(-4 * (columns + rows) // 32), seed, name).astype(np.uint64)
    is_cell = (np.arange(rows * columns) < entries).reshape(rows, columns)
    unit = np.arange(units)[:, None]
    # The grid holds entries; -1 where it has no cell.
    grid = np.broadcast_to(
        np.where(is_cell, np.arange(rows * columns).reshape(rows, columns), -1), (units, rows, columns)
    )
    grid = grid.copy()
    for turn in range(turns):
        set_of_words = words[:, turn * (columns + rows) :]
        for row in range(rows):
            size = int(is_cell[row].sum())
            step = (set_of_words[:, row] * np.uint64(size) >> np.uint64(32)).astype(int)[:, None]
            grid[:, row, :size] = grid[unit, row, (np.arange(size) - step) % size]
        for column in range(columns):
            size = int(is_cell[:, column].sum())
            step = (set_of_words[:, rows + column] * np.uint64(size) >> np.uint64(32)).astype(int)[:, None]
            grid[:, :size, column] = grid[unit, (np.arange(size) - step) % size, column]
    masks = np.zeros((units, entries), bool)
    np.put_along_axis(masks, grid.reshape(units, -1)[:, :zeros], True, axis=1)
    return masks


def auxiliary(units, words, seed, name):
    return winit_fast.random_bits(np.empty((units, words), np.uint32), seed=seed, name=name, offset=1 << 65)


def refused(check, *arguments):
    try:
        check(*arguments)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize(("entries", "zeros"), [(129, 64), (200, 100)])
def test_a_grid_turned_but_once_is_refused(entries, zeros):
    masks = turned_masks(10_000, entries, zeros, turns=1)
    assert refused(check_entries_and_pairs, masks)
    assert refused(check_blocks, masks)


@pytest.mark.exhaustive
def test_a_grid_turned_but_twice_is_refused():
    assert refused(check_entries_and_pairs, turned_masks(100_000, 132, 66, turns=2))


def test_random_masks_pass_the_checks():
    generator = np.random.default_rng(3)
    for entries, zeros in ((12, 6), (145, 60)):
        masks = generator.random((10_000, entries)).argsort(axis=1) < zeros
        check_entries_and_pairs(masks)
        check_overlap(masks[::2], masks[1::2])
    check_blocks(masks)


def test_an_entry_that_is_empty_a_little_more_often_is_refused():
    masks = masks_of(40_000, 12, 6).copy()
    some = np.flatnonzero(~masks[:, 3])[:3000]
    masks[some, 3] = True
    masks[some, masks[some].argmax(axis=1)] = False
    assert refused(check_subsets, masks)
    assert refused(check_entries_and_pairs, masks)


def test_runs_of_zeros_from_a_random_entry_are_refused():
    """Every entry is empty as often, but pairs are not."""
    start = np.random.default_rng(4).integers(0, 200, 10_000)[:, None]
    masks = (np.arange(200) - start) % 200 < 100
    assert refused(check_entries_and_pairs, masks)
    assert refused(check_blocks, masks)


def test_a_mask_that_its_neighbour_shares_in_part_is_refused():
    masks = masks_of(10_000, 100, 40)
    second = masks[1::2].copy()
    second[:250] = masks[::2][:250]
    assert refused(check_overlap, masks[::2], second)


def test_masks_that_shift_from_unit_to_unit_are_refused():
    masks = masks_of(10_000, 100, 40)[::2]
    second = masks_of(10_000, 100, 40)[1::2].copy()
    second[:1000] = np.roll(masks[:1000], 1, axis=1)
    assert refused(check_overlap, masks, second)


def test_zeros_where_values_are_small_are_refused():
    masks = masks_of(10_000, 16, 8).copy()
    values = winit_fast.fill(np.empty(masks.shape, "float32"), "normal", seed=1, name="weight")
    masks[:2000] = np.abs(values[:2000]).argsort(axis=1).argsort(axis=1) < 8
    assert refused(check_values, masks, "weight")


def test_a_narrow_part_of_long_units_is_emptied_in_short_pieces(monkeypatch):
    # An interrupt is seen between pieces; what a unit costs are its words, however few of its entries are wanted.
    pieces, kernels = [], dispatch.kernels

    def empty_entries(out, units, *which):
        pieces.append(len(units))

    monkeypatch.setattr(
        dispatch, "kernels", SimpleNamespace(fill_units=kernels.fill_units, empty_entries=empty_entries)
    )
    out = np.empty((20_000, 1), np.float32)
    winit_fast.fill(out, "sparse(0.5)", seed=1, shape=(20_000, 1_000_000), offset=(0, 5), threads=2)
    assert sum(pieces) == len(out)
    assert max(pieces) * 8 * 1000 <= 1 << 21  # 8 sqrt(n) words a unit: some milliseconds


def test_sparse_of_nothing_but_zeros_draws_nothing():
    out = np.ones((3, 5), "float32")
    winit_fast.fill(out, "sparse(1)")
    assert not np.ascontiguousarray(out).view("uint32").any()
    assert tuple(winit_fast.scheme(f"sparse({part})").draws for part in (1, 0.99)) == (False, True)
    with pytest.raises(ValueError, match="sparse: fans need an input and an output axis"):
        winit_fast.fill(np.ones(3, "float32"), "sparse(1)")
