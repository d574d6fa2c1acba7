"""Orthogonal matrices: orthogonal to rounding, the same in parts, and drawn from the Haar distribution (STREAM.md, 8).

The checks of the distribution take stacks of small matrices: two thousand, and 10^5 with ``pytest -m statistics``. The
seeds are fixed. A run computes fewer than 3000 p-values and refuses those below 1e-9; moments are held to 5 standard
errors. The last tests hand the checks what is not quite Haar's.
"""

import math
from functools import cache, lru_cache
from itertools import product

import numpy as np
import pytest
from arrays import DTYPES, NARROW, cut, placed, same, untouched
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import printed
from scipy import special, stats
from test_statistics import LARGEST_MOMENT_ERROR, assert_plausible, two_sided

import winit_fast

TORCH = {"out_axis": 0, "in_axis": 1}
# max |Q^T Q - I|. torch's QR in float32 is within 5.6e-7 to 7e-7.
PROMISED = {"float32": 5e-6, "float64": 1e-13}

# Both ways, n < 2 m and n >= 2 m, each with one panel of 64 and with several, full and not.
NEAR_SQUARE = [(1, 1), (2, 2), (3, 3), (3, 2), (31, 33), (64, 64), (65, 64), (64, 127), (129, 65), (128, 129),
               (200, 300), (512, 512), (599, 300), (600, 600)]  # fmt: skip
TALL = [(2, 1), (1, 7), (8, 4), (128, 64), (64, 128), (130, 65), (63, 500), (600, 2), (600, 300), (299, 601)]
SHAPES = NEAR_SQUARE + TALL


def filled(shape, dtype="float32", scheme="orthogonal", **arguments):
    out = untouched(shape, DTYPES[dtype])
    return winit_fast.fill(out, scheme, **({"seed": 1, "name": "weight"} | arguments))


def defect(matrix):
    """max |Q^T Q - I| of the shorter side, in float64."""
    q = matrix.astype(float)
    q = q if q.shape[0] >= q.shape[1] else q.T
    return np.abs(q.T @ q - np.eye(q.shape[1])).max()


# -------------------------------------------------------------------------------------------------- orthogonal, rounded


@pytest.mark.parametrize("dtype", PROMISED)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_shorter_side_is_orthonormal(shape, dtype):
    assert defect(filled(shape, dtype)) <= PROMISED[dtype]


@pytest.mark.parametrize("dtype", PROMISED)
@settings(max_examples=60, deadline=None)
@given(shape=st.tuples(st.integers(1, 200), st.integers(1, 200)), seed=st.integers(0, 2**64 - 1))
def test_the_shorter_side_is_orthonormal_for_any_shape_and_seed(dtype, shape, seed):
    assert defect(filled(shape, dtype, seed=seed)) <= PROMISED[dtype]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("scheme", ["orthogonal", "orthogonal(gain=-1.7)", "orthogonal(gain=3e-3)"])
@pytest.mark.parametrize("shape", [(1, 1), (70, 70), (90, 130), (200, 70), (33, 600)], ids=str)
def test_a_narrow_matrix_is_the_float32_matrix_rounded_once(shape, scheme, dtype):
    assert same(filled(shape, dtype, scheme), filled(shape, "float32", scheme).astype(DTYPES[dtype]))


@pytest.mark.parametrize("dtype", PROMISED)
@pytest.mark.parametrize("shape", [(3, 3), (130, 130), (200, 70)], ids=str)
@pytest.mark.parametrize("gain", [-1.0, 0.5, 1.4, -3.3, 1e-30, 2e30])
def test_gain_multiplies_and_rounds_once(gain, shape, dtype):
    expected = filled(shape, dtype) * np.dtype(dtype).type(gain)
    assert same(filled(shape, dtype, f"orthogonal(gain={gain!r})"), expected)


def test_a_gain_of_0_is_zeros_and_needs_no_seed():
    assert same(winit_fast.fill(untouched((5, 5), "float32"), "orthogonal(gain=0)"), np.zeros((5, 5), "float32"))


@pytest.mark.parametrize("shape", [(5, 4), (300, 200), (600, 64), (7, 1)], ids=str)
def test_a_wide_matrix_is_the_tall_one_transposed(shape):
    assert same(filled(shape[::-1]), filled(shape).T)


def test_seeds_and_names_give_other_matrices():
    matrices = [
        filled((4, 4), seed=seed, name=name).tobytes() for seed in (1, 2, 1 << 32) for name in ("weight", 0, 1, "bias")
    ]
    assert len(set(matrices)) == 12


def test_auxiliary_words_do_not_meet_those_of_elements():
    """A column that is a normal's direction would be one that the stream has already given to a normal fill."""
    column = filled((1000, 1), "float64")[:, 0]
    normal = filled((1000,), "float64", "normal")
    assert abs(column @ normal) < 6


# -------------------------------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize("shape", [(8, 3, 5, 5), (80, 3, 5), (64, 2, 3, 3, 3), (40, 1, 1)], ids=str)
def test_torchs_layout_is_flattened_to_outputs_by_the_rest(shape):
    matrix = filled((shape[0], math.prod(shape[1:])), **TORCH)
    assert same(filled(shape, **TORCH), matrix.reshape(shape))
    assert defect(matrix) <= PROMISED["float32"]


@pytest.mark.parametrize("shape", [(5, 5, 3, 8), (5, 3, 80), (3, 3, 3, 2, 64), (1, 1, 40)], ids=str)
def test_the_default_layout_is_flattened_to_the_rest_by_outputs(shape):
    matrix = filled((math.prod(shape[:-1]), shape[-1]))
    assert same(filled(shape), matrix.reshape(shape))
    assert defect(matrix) <= PROMISED["float32"]


def test_which_side_the_outputs_are_does_not_change_a_matrix():
    for shape in ((6, 6), (20, 6), (5, 9)):
        assert same(filled(shape, **TORCH), filled(shape))


@pytest.mark.parametrize(
    ("shape", "axes", "rows"),
    [
        ((4, 6, 5), {"out_axis": (0, 2), "in_axis": 1}, (0, 2)),
        ((4, 6, 5), {"out_axis": (2, 0), "in_axis": 1}, (0, 2)),
        ((4, 6, 5), {"out_axis": 1, "in_axis": 0}, (0, 2)),
        ((4, 6, 5), {"out_axis": 1, "in_axis": (0, 2)}, (0, 2)),
        ((2, 7, 3, 4), {"out_axis": (1, 2), "in_axis": 0}, (0, 3)),
        ((2, 7, 3, 4), {"out_axis": (-4, -1), "in_axis": 1}, (0, 3)),
    ],
)
def test_several_axes_of_a_side_are_joined_in_the_order_they_stand_in(shape, axes, rows):
    columns = tuple(axis for axis in range(len(shape)) if axis not in rows)
    sizes = math.prod(shape[axis] for axis in rows), math.prod(shape[axis] for axis in columns)
    matrix = filled(shape, **axes).transpose(rows + columns).reshape(sizes)
    assert same(matrix, filled(sizes))


@pytest.mark.parametrize("sides", [(4, 4), (9, 4), (3, 5), (66, 70), (140, 66)], ids=str)
def test_a_stack_is_of_orthogonal_matrices_that_differ(sides):
    stack = filled((7, *sides), batch_axis=0)
    assert max(defect(matrix) for matrix in stack) <= PROMISED["float32"]
    assert len({matrix.tobytes() for matrix in stack}) == 7
    assert same(stack[0], filled(sides))


def test_a_stack_is_numbered_along_its_batch_axes():
    stack = filled((6, 5, 4), batch_axis=0)
    assert same(filled((5, 6, 4), batch_axis=1, in_axis=0, out_axis=2), stack.transpose(1, 0, 2))
    assert same(filled((5, 4, 6), batch_axis=2, in_axis=0, out_axis=1), stack.transpose(1, 2, 0))
    assert same(filled((2, 3, 5, 4), batch_axis=(0, 1)), stack.reshape(2, 3, 5, 4))
    assert same(
        filled((2, 5, 3, 4), batch_axis=(2, 0), in_axis=1, out_axis=3),
        stack.reshape(2, 3, 5, 4).transpose(0, 2, 1, 3),
    )
    assert same(filled((3, 5, 4), batch_axis=0), stack[:3])


# --------------------------------------------------------------------------------------------------- parts of the whole


@st.composite
def parts(draw):
    """A shape with its axes, and the offset and shape of a rectangle in it."""
    sizes = st.integers(1, 12) | st.integers(1, 150)
    shape, axes = draw(
        st.sampled_from(
            [
                (2, {}), (2, TORCH), (3, {"batch_axis": 0}), (3, TORCH), (3, {"in_axis": 0, "out_axis": (1, 2)}),
                (3, {"batch_axis": 1, "in_axis": 0, "out_axis": 2}),
            ]
        )
    )  # fmt: skip
    most = 150 if shape == 2 else 12
    shape = tuple(min(most, draw(sizes)) for _ in range(shape))
    edges = [sorted((draw(st.integers(0, size)), draw(st.integers(0, size)))) for size in shape]
    return shape, axes, tuple(first for first, _ in edges), tuple(last - first for first, last in edges)


@settings(max_examples=100, deadline=None)
@given(st.data(), parts(), st.sampled_from(["float32", "float64", "bfloat16", "float8_e5m2"]), st.integers(1, 3))
def test_a_part_of_any_strides_is_that_part_of_the_whole(data, part, dtype, threads):
    shape, axes, offset, extent = part
    place = data.draw(placed(extent, DTYPES[dtype]))
    winit_fast.fill(
        place.view, "orthogonal(gain=1.5)", seed=1, name="weight", shape=shape, offset=offset, threads=threads, **axes
    )
    assert same(place.view, cut(filled(shape, dtype, "orthogonal(gain=1.5)", **axes), offset, extent))
    assert place.is_untouched_outside()


@pytest.mark.parametrize("shape", [(9, 9), (7, 11), (130, 66), (5, 140)], ids=str)
def test_every_element_alone_is_that_element_of_the_whole(shape):
    whole = filled(shape)
    if whole.size > 200:
        places = np.random.default_rng(5).integers(0, shape, (100, 2)).tolist()
    else:
        places = list(product(*map(range, shape)))
    for row, column in places:
        one = untouched((1, 1), "float32")
        winit_fast.fill(one, "orthogonal", seed=1, name="weight", shape=shape, offset=(row, column))
        assert same(one, whole[row : row + 1, column : column + 1])


@pytest.mark.parametrize("shape", [(100, 100), (70, 90), (300, 70), (70, 300)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_fill_rows_gives_rows_of_the_matrix(shape, dtype):
    rows = np.random.default_rng(2).integers(0, shape[0], 150)
    out = untouched((150, shape[1]), DTYPES[dtype])
    winit_fast.fill_rows(out, rows, "orthogonal", seed=1, name="weight", shape=shape)
    assert same(out, filled(shape, dtype)[rows])


@pytest.mark.parametrize("rows", [[1, 0], [1, 1], [0, 2, 2], [4, 3, 2, 1, 0], [3] * 200, []], ids=str)
@pytest.mark.parametrize("shape", [(5, 5), (5, 40), (40, 5)], ids=str)
def test_fill_rows_takes_rows_in_any_order_and_repeated(shape, rows):
    out = untouched((len(rows), shape[1]), DTYPES["float32"])
    winit_fast.fill_rows(out, rows, "orthogonal", seed=1, name="weight", shape=shape)
    assert same(out, filled(shape)[np.array(rows, int)])


@pytest.mark.parametrize("shape", [(600, 600), (300, 500), (2000, 130), (130, 2000)], ids=str)
@pytest.mark.parametrize("dtype", PROMISED)
def test_a_matrix_is_the_same_for_any_number_of_threads(shape, dtype):
    one = filled(shape, dtype, threads=1)
    for threads in (2, 3, 5):
        assert same(filled(shape, dtype, threads=threads), one)


@pytest.mark.parametrize("shape", [(70, 70), (260, 66)], ids=str)
def test_a_matrix_is_the_same_on_every_isa(isa, shape):
    """Against the default's, which was made before the ISA was chosen."""
    assert same(filled(shape), of_the_default_isa(shape))


@cache
def of_the_default_isa(shape):
    code = (
        "import numpy, winit_fast\n"
        f"q = winit_fast.fill(numpy.empty({shape}, 'f4'), 'orthogonal', seed=1, name='weight')\n"
        "print(q.tobytes().hex())"
    )
    return np.frombuffer(bytes.fromhex(printed(code).strip()), "f4").reshape(shape)


# ----------------------------------------------------------------------------------------------------- delta_orthogonal


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(
    ("kernel", "centre"), [((3,), (1,)), ((4,), (1,)), ((1,), (0,)), ((3, 5), (1, 2)), ((2, 1, 6), (0, 0, 2))]
)
def test_delta_orthogonal_is_orthogonal_at_the_centre_and_0_elsewhere(kernel, centre, dtype):
    for ins, outs in ((4, 4), (4, 6), (3, 70)):
        expected = np.zeros((*kernel, ins, outs), DTYPES[dtype])
        expected[centre] = filled((ins, outs), dtype, "orthogonal(gain=1.5)")
        assert same(filled(expected.shape, dtype, "delta_orthogonal(gain=1.5)"), expected)
        torch_order = (len(kernel) + 1, len(kernel), *range(len(kernel)))
        expected_in_torch = np.zeros((outs, ins, *kernel), DTYPES[dtype])
        expected_in_torch[(..., *centre)] = filled((outs, ins), dtype, "orthogonal(gain=1.5)", **TORCH)
        in_torch = filled((outs, ins, *kernel), dtype, "delta_orthogonal(gain=1.5)", **TORCH)
        assert same(in_torch, expected_in_torch)
        if ins != outs:  # of a square matrix the rows are the outputs in one layout, the inputs in the other
            assert same(in_torch, expected.transpose(torch_order))


def test_delta_orthogonal_takes_stacks():
    stack = filled((5, 3, 4, 6), scheme="delta_orthogonal", batch_axis=0)
    assert same(np.ascontiguousarray(stack[:, 1]), filled((5, 4, 6), batch_axis=0))
    assert not stack[:, ::2].any()


@settings(max_examples=60, deadline=None)
@given(
    st.data(),
    st.sampled_from([((3, 4, 5), {}), ((3, 2, 4, 5), {}), ((7, 5, 4, 3), TORCH), ((4, 3, 2, 6), {"batch_axis": 0})]),
)
def test_a_part_of_delta_orthogonal_is_that_part_of_the_whole(data, case):
    shape, axes = case
    edges = [sorted((data.draw(st.integers(0, size)), data.draw(st.integers(0, size)))) for size in shape]
    offset, extent = tuple(first for first, _ in edges), tuple(last - first for first, last in edges)
    place = data.draw(placed(extent, DTYPES["float32"]))
    winit_fast.fill(place.view, "delta_orthogonal", seed=1, name="weight", shape=shape, offset=offset, **axes)
    assert same(place.view, cut(filled(shape, "float32", "delta_orthogonal", **axes), offset, extent))
    assert place.is_untouched_outside()


def test_delta_orthogonal_refuses_more_inputs_than_outputs():
    with pytest.raises(ValueError, match="at most as many inputs as outputs, got 5 and 4"):
        filled((3, 5, 4), scheme="delta_orthogonal")


# ------------------------------------------------------------------------------------ the Haar distribution: the checks
#
# Each takes a stack of matrices (count, rows, columns) and returns p-values; `n` is the longer side.

Stack = np.ndarray


def entry_cdf(n: int):
    """Of an entry of a unit vector that is uniform on the sphere in n dimensions: q^2 ~ Beta(1/2, (n - 1)/2)."""
    return lambda q: special.betainc((n - 1) / 2, (n - 1) / 2, np.clip((1 + q) / 2, 0, 1))


def kolmogorov_p(values: np.ndarray, cdf) -> float:
    below, count = cdf(np.sort(values)), len(values)
    steps = np.arange(count + 1) / count
    distance = max((steps[1:] - below).max(), (below - steps[:-1]).max())
    return float(special.kolmogorov(distance * math.sqrt(count)))


def two_sample_p(first: np.ndarray, second: np.ndarray) -> float:
    """Kolmogorov-Smirnov. What has a probability of its own (a trace of 0, a norm of 1) is freed of rounding errors."""
    return float(stats.ks_2samp(np.round(first, 5), np.round(second, 5), method="asymp").pvalue)


def equal_counts_p(counts: np.ndarray) -> float:
    """Chi-square, two-sided, of categories that are equally likely."""
    expected = counts.sum() / counts.size
    statistic = ((counts - expected) ** 2).sum() / expected
    law = stats.chi2(counts.size - 1)
    return float(2 * min(law.sf(statistic), law.cdf(statistic)))


def half_p(is_so: np.ndarray) -> float:
    """Of events of probability 1/2."""
    return float(stats.binomtest(int(is_so.sum()), is_so.size).pvalue)


def score_p(samples: np.ndarray, mean: float) -> float:
    """Of the mean of independent samples, by their own spread."""
    score = (samples.mean() - mean) / (samples.std() / math.sqrt(samples.size))
    assert abs(score) < LARGEST_MOMENT_ERROR, f"{score} standard errors from {mean}"
    return two_sided(score)


def some_places(rows: int, columns: int) -> list[tuple[int, int]]:
    """All places of a small matrix; the corners, edges of the panels and a few others of a large one."""
    if rows * columns <= 64:
        return list(product(range(rows), range(columns)))
    return [
        (row, column)
        for row in sorted({0, 1, 63, 64, rows // 2, rows - 1})
        for column in sorted({0, 1, 63, 64, columns // 2, columns - 1})
        if row < rows and column < columns
    ]


def check_entries(q: Stack) -> dict[str, float]:
    """Each entry has the marginal distribution of the sphere."""
    _, rows, columns = q.shape
    cdf = entry_cdf(max(rows, columns))
    p_values = {
        f"entry {row}, {column}": kolmogorov_p(q[:, row, column], cdf) for row, column in some_places(rows, columns)
    }
    assert_plausible(p_values)
    return p_values


def check_signs(q: Stack) -> dict[str, float]:
    """Signs of the diagonal, of the first row and of the first column: each all patterns alike."""
    _, rows, columns = q.shape
    short = min(rows, columns, 8)
    p_values = {}
    for name, entries in (
        ("diagonal", q[:, np.arange(short), np.arange(short)]),
        (
            "last of the diagonal",
            q[:, min(rows, columns) - 1 - np.arange(short), min(rows, columns) - 1 - np.arange(short)],
        ),
        ("first column", q[:, : min(rows, 8), 0]),
        ("first row", q[:, 0, : min(columns, 8)]),
    ):
        patterns = (entries > 0) @ (1 << np.arange(entries.shape[1]))
        p_values[f"signs of the {name}"] = equal_counts_p(np.bincount(patterns, minlength=1 << entries.shape[1]))
    assert_plausible(p_values)
    return p_values


def check_exchangeable(q: Stack) -> dict[str, float]:
    """No column and no row stands out: where the largest entry is, and pairs of columns or rows against others."""
    count, p_values = len(q), {}
    for side, matrix in (("row", q), ("column", q.transpose(0, 2, 1))):
        across = matrix.shape[2]
        if across < 2:
            continue
        for place in {0, matrix.shape[1] - 1}:
            largest = np.abs(matrix[:, place]).argmax(1)
            p_values[f"the largest of {side} {place}"] = equal_counts_p(np.bincount(largest, minlength=across))
        if across > 2 and matrix.shape[1] > 1:
            one, other = matrix[: count // 2], matrix[count // 2 :]
            p_values[f"pairs along a {side}"] = two_sample_p(
                one[:, 0, 0] * one[:, 1, 1], other[:, -1, -2] * other[:, 0, -1]
            )
    assert_plausible(p_values)
    return p_values


def check_moments(q: Stack) -> dict[str, float]:
    """Weingarten's, of entries that share a row, a column or neither; Collins and Sniady 2006."""
    _, rows, columns = q.shape
    n, p_values = max(rows, columns), {}
    last = (rows - 1, columns - 1)
    first, below, beside, across = q[:, 0, 0], q[:, -1, 0], q[:, 0, -1], q[:, -1, -1]
    p_values["q^2"] = score_p(across**2, 1 / n)
    p_values["q^4"] = score_p(across**4, 3 / (n * (n + 2)))
    if last[0]:
        p_values["two in a column"] = score_p(first * below, 0)
        p_values["two squares in a column"] = score_p((first * below) ** 2, 1 / (n * (n + 2)))
    if last[1]:
        p_values["two in a row"] = score_p(first * beside, 0)
        p_values["two squares in a row"] = score_p((first * beside) ** 2, 1 / (n * (n + 2)))
    if last[0] and last[1]:
        p_values["two across"] = score_p(first * across, 0)
        p_values["two squares across"] = score_p((first * across) ** 2, (n + 1) / ((n - 1) * n * (n + 2)))
        p_values["four"] = score_p(first * below * beside * across, -1 / ((n - 1) * n * (n + 2)))
    assert_plausible(p_values)
    return p_values


def rotation(n: int, seed: int) -> np.ndarray:
    return stats.ortho_group.rvs(n, random_state=seed) if n > 1 else -np.eye(1)


def check_invariance(q: Stack) -> dict[str, float]:
    """Turned from the left, from the right or both it is what it was: entries, signs, moments, and the trace."""
    count, rows, columns = q.shape
    left, right = rotation(rows, 1), rotation(columns, 2)
    short = min(rows, columns)
    p_values = {}
    trace = np.trace(q[: count // 2, :short, :short], axis1=1, axis2=2)
    for side, turned in (("left", left @ q), ("right", q @ right), ("both", left @ q @ right)):
        for check in (check_entries, check_signs, check_moments):
            p_values |= {f"{name}, turned from {side}": p for name, p in check(turned).items()}
        other = np.trace(turned[count // 2 :, :short, :short], axis1=1, axis2=2)
        p_values[f"trace, turned from {side}"] = two_sample_p(trace, other)
    assert_plausible(p_values)
    return p_values


def check_trace(q: Stack) -> dict[str, float]:
    """Square: E tr(Q)^2 = 1 and E tr(Q)^4 = 3, as of a standard normal, if n >= 2."""
    trace = np.trace(q, axis1=1, axis2=2)
    p_values = {"tr": score_p(trace, 0), "tr^2": score_p(trace**2, 1), "tr^4": score_p(trace**4, 3)}
    assert_plausible(p_values)
    return p_values


def check_determinant(q: Stack) -> dict[str, float]:
    """Square: +1 or -1, each with probability 1/2, and independent of the first entry and of the first column."""
    sizes = np.linalg.det(q)
    assert np.abs(np.abs(sizes) - 1).max() < 1e-4
    is_positive = sizes > 0
    p_values = {"det": half_p(is_positive)}
    assert_plausible(p_values)
    n = q.shape[1]
    for row, column in {(0, 0), (n - 1, n - 1), (0, n - 1)} if n > 1 else ():
        bins = np.minimum((entry_cdf(n)(q[:, row, column]) * 8).astype(int), 7)
        table = np.bincount(bins + 8 * is_positive, minlength=16).reshape(2, 8)
        p_values[f"det by entry {row}, {column}"] = float(stats.chi2_contingency(table).pvalue)
    assert_plausible(p_values)
    return p_values


@lru_cache(maxsize=2)
def of_scipy(count: int, n: int) -> Stack:
    return stats.ortho_group.rvs(n, size=count, random_state=3)


@lru_cache(maxsize=2)
def of_lapack(count: int, n: int, m: int) -> Stack:
    """Mezzadri 2007, "How to generate random matrices from the classical compact groups": QR, its signs set right."""
    q, r = np.linalg.qr(np.random.default_rng(3).normal(size=(count, n, m)))
    return q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]


def phases(q: Stack) -> np.ndarray:
    """The angles of the eigenvalues in [0, pi], in rising order: of each pair both."""
    return np.sort(np.abs(np.angle(np.linalg.eigvals(q))), axis=1)


def check_spectrum(q: Stack) -> dict[str, float]:
    """Square: each ordered angle, each gap and the traces of powers, for either determinant, against SciPy's."""
    p_values = {}
    samples = []
    for matrices in (q, of_scipy(*q.shape[:2])):
        by_sign = []
        is_positive = np.linalg.det(matrices) > 0
        for sign in (False, True):
            some = matrices[is_positive == sign]
            assert len(some), f"no determinant of this sign: {sign}"
            angles = phases(some)
            powers = [some]
            for _ in range(3):
                powers.append(powers[-1] @ some)
            traces = {f"tr(Q^{k})": np.trace(power, axis1=1, axis2=2) for k, power in enumerate(powers, 1)}
            gaps = np.diff(angles, axis=1)
            columns = {f"angle {k}": angles[:, k] for k in range(angles.shape[1])}
            columns |= {f"gap {k}": gaps[:, k] for k in range(gaps.shape[1])}
            # Pairs of an angle, and eigenvalues that are 1 or -1, hold no more than rounding.
            columns = {name: column for name, column in columns.items() if column.std() > 1e-3}
            by_sign.append(columns | traces)
        samples.append(by_sign)
    for sign, (ours, theirs) in zip("-+", zip(*samples, strict=True), strict=True):
        assert ours.keys() == theirs.keys()
        p_values |= {f"{name}, det {sign}1": two_sample_p(ours[name], theirs[name]) for name in ours}
    assert_plausible(p_values)
    return p_values


def check_rectangle(q: Stack) -> dict[str, float]:
    """Vectors along the longer side are uniform on the sphere; those along the shorter one are the start of such."""
    q = q if q.shape[1] >= q.shape[2] else q.transpose(0, 2, 1)
    count, n, m = q.shape
    generator = np.random.default_rng(4)
    p_values = {}
    for number in range(8):
        direction = generator.normal(size=n)
        along = q[:, :, number % m] @ (direction / np.linalg.norm(direction))
        p_values[f"column {number % m} in direction {number}"] = kolmogorov_p(along, entry_cdf(n))
    for row in {0, m - 1, n // 2, n - 1}:
        squares = (q[:, row] ** 2).sum(1)
        p_values[f"size of row {row}"] = kolmogorov_p(
            squares, lambda x: special.betainc(m / 2, (n - m) / 2, np.minimum(x, 1))
        )
        if m > 1:
            turned = (q[:, row] / np.sqrt(squares)[:, None]) @ rotation(m, 5)
            p_values[f"direction of row {row}"] = kolmogorov_p(turned[:, 0], entry_cdf(m))
    top, of_theirs = q[:, :m], of_lapack(count, n, m)[:, :m]
    for name, feature in {
        "trace of the top": lambda block: np.trace(block, axis1=1, axis2=2),
        "determinant of the top": np.linalg.det,
        "norm of the top": lambda block: np.linalg.norm(block, ord=2, axis=(1, 2)),
    }.items():
        p_values[name] = two_sample_p(feature(top), feature(of_theirs))
    assert_plausible(p_values)
    return p_values


def check_haar(q: Stack) -> dict[str, float]:
    """All that applies to the shape."""
    checks = [check_entries, check_signs, check_exchangeable, check_moments, check_invariance]
    if q.shape[1] == q.shape[2]:
        checks += [check_trace, check_determinant, check_spectrum]
    else:
        checks.append(check_rectangle)
    return {name: p for check in checks for name, p in check(q).items()}


# --------------------------------------------------------------------------------------------------- and what they take


@lru_cache(maxsize=4)
def stack_of(count: int, rows: int, columns: int, dtype: str = "float32", name: str = "haar") -> Stack:
    q = filled((count, rows, columns), dtype, batch_axis=0, seed=2024, name=name).astype(float)
    q.flags.writeable = False
    return q


COUNTS = [pytest.param(2000, id="2e3"), pytest.param(10**5, id="1e5", marks=pytest.mark.statistics)]
FEW = [pytest.param(400, id="400"), pytest.param(3000, id="3e3", marks=pytest.mark.statistics)]
# Of squares, near-squares and tall ones, each way, the smallest; and more.
HAAR = [(2, 2), (4, 4), (5, 4), (4, 7), (8, 4), (3, 7)]
HAAR += [pytest.param(sides, marks=pytest.mark.exhaustive) for sides in [(3, 3), (8, 8), (2, 5), (12, 5)]]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("sides", HAAR, ids=str)
def test_small_matrices_are_haar_distributed(sides, count):
    check_haar(stack_of(count, *sides))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("sides", [(4, 4), (7, 3)], ids=str)
def test_small_matrices_of_float64_are_haar_distributed(sides, count):
    check_haar(stack_of(count, *sides, "float64"))


@pytest.mark.parametrize("count", FEW)
@pytest.mark.parametrize("sides", [(70, 70), (66, 100), (140, 66)], ids=str)
def test_matrices_of_several_panels_are_haar_distributed(sides, count):
    q = stack_of(count, *sides)
    for check in (check_entries, check_exchangeable, check_moments):
        check(q)
    if count >= 3000:
        check_signs(q)
        check_invariance(q)
    if sides[0] != sides[1]:
        check_rectangle(q)


@pytest.mark.parametrize("count", FEW)
def test_traces_of_powers_of_large_matrices_are_normal(count):
    """Diaconis and Shahshahani 1994: tr(Q^k) is N(0 or 1, k) but for what falls faster than exponentially with n."""
    q = stack_of(count, 70, 70)
    check_trace(q)
    power, p_values = q, {}
    for k in range(1, 9):
        trace = np.trace(power, axis1=1, axis2=2)
        p_values[f"tr(Q^{k})"] = kolmogorov_p(trace, stats.norm((k + 1) % 2, math.sqrt(k)).cdf)
        power = power @ q
    assert_plausible(p_values)
    assert half_p(np.linalg.slogdet(q)[0] > 0) > 1e-9


@pytest.mark.parametrize("count", COUNTS)
def test_a_matrix_of_one_entry_is_a_fair_sign(count):
    for name in ("sign", "other sign"):
        sign = filled((count, 1, 1), batch_axis=0, name=name).reshape(-1)
        assert np.abs(np.abs(sign) - 1).max() <= PROMISED["float32"]
        is_positive = sign > 0
        pairs = np.bincount(is_positive[0::2] + 2 * is_positive[1::2], minlength=4)
        runs = is_positive[1:] == is_positive[:-1]
        assert_plausible({"signs": half_p(is_positive), "runs": half_p(runs), "pairs": equal_counts_p(pairs)})


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("sides", [(1, 5), (6, 1), (3, 1)], ids=str)
def test_a_single_column_or_row_is_uniform_on_the_sphere(sides, count):
    q = stack_of(count, *sides)
    n = max(sides)
    for check in (check_entries, check_signs, check_exchangeable, check_moments, check_invariance):
        check(q)
    first, second = q.reshape(count, n)[0::2], q.reshape(count, n)[1::2]
    assert_plausible({"angle to the next": kolmogorov_p((first * second).sum(1), entry_cdf(n))})


@pytest.mark.parametrize("count", COUNTS)
def test_the_angle_of_a_matrix_in_two_or_three_dimensions_has_its_density(count):
    """In the plane it is uniform; in space its density is (1 - cos) / pi, and the axis uniform on the sphere."""
    plane = stack_of(count, 2, 2)
    angle = np.arctan2(plane[:, 1, 0], plane[:, 0, 0])
    p_values = {"plane": kolmogorov_p(angle, stats.uniform(-math.pi, 2 * math.pi).cdf)}
    is_positive = np.linalg.det(plane) > 0
    turn = np.minimum(((angle + math.pi) / (2 * math.pi) * 16).astype(int), 15)
    p_values["angle by det"] = equal_counts_p(np.bincount(turn + 16 * is_positive, minlength=32))
    space = stack_of(count, 3, 3)
    space = space * np.sign(np.linalg.det(space))[:, None, None]
    angle = np.arccos(np.clip((np.trace(space, axis1=1, axis2=2) - 1) / 2, -1, 1))
    p_values["space"] = kolmogorov_p(angle, lambda x: (x - np.sin(x)) / math.pi)
    axis = np.stack([space[:, 2, 1] - space[:, 1, 2], space[:, 0, 2] - space[:, 2, 0], space[:, 1, 0] - space[:, 0, 1]])
    axis /= np.linalg.norm(axis, axis=0)
    p_values |= {f"axis {k}": kolmogorov_p(axis[k], entry_cdf(3)) for k in range(3)}
    assert_plausible(p_values)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.covering(1)
@pytest.mark.parametrize("apart", [1, 2, 16, 64])
@pytest.mark.parametrize("sides", [(4, 4), (8, 4)], ids=str)
def test_matrices_of_a_stack_are_independent(sides, apart, count):
    """Then Q_t^T Q_(t + apart) of square ones is Haar's itself."""
    q = stack_of(count, *sides)
    groups = q[: count // (2 * apart) * 2 * apart].reshape(-1, 2, apart, *sides)
    check_independent(groups[:, 0].reshape(-1, *sides), groups[:, 1].reshape(-1, *sides))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("sides", [(4, 4), (8, 4)], ids=str)
def test_matrices_of_different_names_are_independent(sides, count):
    check_independent(stack_of(count, *sides), stack_of(count, *sides, "float32", "another"))


def check_independent(first: Stack, second: Stack) -> dict[str, float]:
    _, n, m = first.shape
    scores = np.einsum("tij,tkl->ijkl", first, second).ravel() * (n / math.sqrt(len(first)))
    law = stats.chi2(scores.size)
    p_values = {"correlations": float(2 * min(law.sf((scores**2).sum()), law.cdf((scores**2).sum())))}
    p_values["largest"] = min(1.0, two_sided(np.abs(scores).max()) * scores.size)
    if n == m:
        between = first.transpose(0, 2, 1) @ second
        for check in (check_entries, check_signs, check_trace, check_determinant):
            p_values |= check(between)
    assert_plausible(p_values)
    return p_values


# ------------------------------------------------------------------------- the same checks, of what is not quite Haar's


def test_scipys_matrices_pass_the_checks():
    q = stats.ortho_group.rvs(4, size=3000, random_state=9)
    check_haar(q)
    check_independent(q[::2], q[1::2])
    check_haar(stats.ortho_group.rvs(8, size=3000, random_state=9)[:, :, :4])


def refused(check, *arguments) -> bool:
    try:
        check(*arguments)
    except AssertionError:
        return True
    return False


def test_the_q_of_a_qr_decomposition_with_its_own_signs_is_refused():
    q = np.linalg.qr(np.random.default_rng(6).normal(size=(3000, 4, 4))).Q
    for check in (
        check_entries,
        check_signs,
        check_moments,
        check_trace,
        check_determinant,
        check_spectrum,
        check_invariance,
    ):
        assert refused(check, q), check.__name__


def test_only_rotations_are_refused():
    q = stack_of(3000, 3, 3).copy()
    q[:, :, 2] *= np.sign(np.linalg.det(q))[:, None]
    assert refused(check_determinant, q)


def test_a_reflection_left_out_is_refused():
    """Of the last but one dimension: one column is then no function of the others' randomness."""
    n = 4
    generator = np.random.default_rng(7)
    q = np.broadcast_to(np.eye(n), (3000, n, n)).copy()
    for k in (3, 1, 0):  # 2 is missing
        x = generator.normal(size=(3000, n))
        x[:, :k] = 0
        sign = np.where(x[:, k] < 0, -1.0, 1.0)
        x[:, k] += sign * np.linalg.norm(x, axis=1)
        v = x / np.linalg.norm(x, axis=1)[:, None]
        q = q - 2 * v[:, :, None] * (v[:, None, :] @ q)
        q[:, :, k] *= -sign[:, None]
    assert np.abs(q @ q.transpose(0, 2, 1) - np.eye(n)).max() < 1e-12
    assert refused(check_entries, q)
    assert refused(check_invariance, q)


def test_a_tall_matrix_whose_rows_are_not_alike_is_refused():
    q = np.linalg.qr(np.random.default_rng(8).normal(size=(3000, 8, 4)) * np.linspace(1, 2, 8)[:, None]).Q
    q = q * np.sign(np.random.default_rng(9).normal(size=(3000, 1, 4)))
    assert refused(check_entries, q)
    assert refused(check_rectangle, q)


def test_matrices_that_share_a_column_are_refused():
    q = stack_of(3000, 4, 4)
    assert refused(check_independent, q[::2], q[::2])
    neighbour = q[1::2].copy()
    neighbour[: len(neighbour) // 5] = q[::2][: len(neighbour) // 5]
    assert refused(check_independent, q[::2], neighbour)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((4098, 2049), "float32"), pytest.param((3600, 1800), "float64", marks=pytest.mark.exhaustive)],
)
def test_matrices_with_more_lanes_than_a_slab_has_positions_are_orthogonal(shape, dtype):
    # A slab of positions may then lie wholly above the heads of a panel.
    q = winit_fast.fill(np.empty(shape, dtype), "orthogonal", seed=1)
    some = q[:, ::97].astype(float)
    assert np.abs(some.T @ some - np.eye(some.shape[1])).max() < (5e-6 if dtype == "float32" else 1e-13)
    part = np.empty((7, shape[1]), dtype)
    winit_fast.fill(part, "orthogonal", seed=1, shape=shape, offset=(2045, 0))
    assert (part == q[2045:2052]).all()
