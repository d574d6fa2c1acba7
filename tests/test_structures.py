"""Complex numbers, matrices, sparse and given tensors against the reference, bit for bit, on every ISA.

As test_kernels.py, for what does not depend on an element's own words alone or is more than one number.
"""

from functools import lru_cache
from math import prod

import numpy as np
import pytest
import reference
from arrays import cut
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from winit_fast import fill, fill_rows

DTYPES = reference.DTYPES
COMPLEX_DTYPES = reference.COMPLEX_DTYPES
WORKING = [DTYPES["float32"], DTYPES["float64"]]

pytestmark = pytest.mark.covering

SEED, NAME = 0xFEDCBA9876543210, "structures"

TORCH = {"in_axis": 1, "out_axis": 0}


def assert_same_bits(got, expected):
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    unsigned = f"u{got.real.dtype.itemsize}"  # of a complex number, both parts
    np.testing.assert_array_equal(
        np.ascontiguousarray(got).view(unsigned), np.ascontiguousarray(expected).view(unsigned)
    )


def expected_tensor(scheme, dtype, shape, axes=None, seed=SEED):
    """The whole tensor; computed once for all ISAs."""
    return cached_tensor(scheme, dtype, shape, tuple((axes or {}).items()), seed)


@lru_cache
def cached_tensor(scheme, dtype, shape, axes, seed):
    index = np.arange(prod(shape)).reshape(shape)
    result = reference.values(scheme, dtype, seed=seed, name=NAME, shape=shape, index=index, **dict(axes))
    result.flags.writeable = False
    return result


def assert_fill_gives_the_reference(scheme, dtype, shape, axes=None, **options):
    out = fill(np.empty(shape, dtype), scheme, seed=SEED, name=NAME, **(axes or {}), **options)
    assert_same_bits(out, expected_tensor(scheme, dtype, shape, axes))


# Complex numbers

COMPLEX_SCHEMES = [
    "zeros",
    "ones",
    "constant(0.1)",
    "constant(-3)",
    "constant(-0.0)",
    "constant(-1e-50)",
    *(f"{family}_{kind}" for family in ("he", "xavier", "lecun") for kind in ("normal", "uniform", "truncated_normal")),
    "variance_scaling(0.3, 'fan_geo_avg', 'uniform')",
    "variance_scaling(1e-80, distribution='truncated_normal')",
    "variance_scaling(scale=0)",
    "he_truncated_normal(nonlinearity='leaky_relu', slope=0.2)",
    "fixup(7, depth=3)",
    "t_fixup(3, distribution='truncated_normal')",
    "deepnet(3, 4, 'encoder')",
    "mup(17, distribution='truncated_normal')",
]
COMPLEX_TRANSFORMS = ["ones", "he_normal", "he_uniform", "he_truncated_normal"]


@pytest.mark.parametrize("dtype", COMPLEX_DTYPES.values(), ids=str)
@pytest.mark.parametrize("scheme", COMPLEX_SCHEMES)
def test_every_scheme_of_complex_numbers_has_the_bits_of_the_reference(isa, scheme, dtype):
    assert_fill_gives_the_reference(scheme, dtype, (71, 43))


@pytest.mark.parametrize("dtype", COMPLEX_DTYPES.values(), ids=str)
@pytest.mark.parametrize("scheme", COMPLEX_TRANSFORMS)
def test_any_run_of_complex_numbers_has_the_bits_of_the_reference(isa, scheme, dtype):
    shape, axes = (700,), {"in_axis": 0, "out_axis": ()}
    whole = expected_tensor(scheme, dtype, shape, axes)
    for first in (0, 1, 7, 8, 9, 15, 16, 17, 31, 33):
        for count in (1, 2, 3, 7, 8, 9, 15, 17, 31, 32, 33, 63, 65, 517):
            out = np.full(count + 2, 7 - 7j, dtype)
            fill(out[1:-1], scheme, seed=SEED, name=NAME, shape=shape, offset=(first,), **axes)
            assert_same_bits(out[1:-1], whole[first : first + count])
            assert out[0] == out[-1] == 7 - 7j


@pytest.mark.parametrize("dtype", COMPLEX_DTYPES.values(), ids=str)
@pytest.mark.parametrize("scheme", COMPLEX_TRANSFORMS)
def test_far_complex_numbers_have_the_bits_of_the_reference(isa, scheme, dtype):
    for around in (2**31, 2**32, 2**33, 2**40, 2**61):
        for first, count in ((around - 45, 101), (around - 1, 3), (around, 64)):
            shape, index = (2**62 - 1, 1), np.arange(first, first + count)[:, None]
            out = fill(np.empty((count, 1), dtype), scheme, seed=SEED, name=NAME, shape=shape, offset=(first, 0))
            assert_same_bits(out, reference.values(scheme, dtype, seed=SEED, name=NAME, shape=shape, index=index))


# Fans, depth, embeddings

SCALED = [
    *(f"he_normal(nonlinearity={name!r})" for name in reference.GAINS),
    "he_uniform(nonlinearity='prelu', slope=0.37)",
    "he_uniform(nonlinearity='leaky_relu', slope=-3)",
    "residual_normal(3)",
    "residual_normal(layers=5, std=0.1)",
    "fixup(1)",
    "fixup(16)",
    "fixup(16, 3)",
    "fixup(5, 7, 'fan_out', 'uniform')",
    "t_fixup(6)",
    "t_fixup(12, 'encoder', 'fan_in', 'truncated_normal')",
    "deepnet(3)",
    "deepnet(decoder=7)",
    "deepnet(3, 4, 'encoder')",
    "deepnet(200, 31, 'decoder', distribution='uniform')",
    "deepnet(10**9, 10**9, 'encoder', mode='fan_out')".replace("10**9", "1000000000"),
    "mup(17)",
    "mup(3, 0.1, 'input')",
    "mup(64, 0.1, 'output', 'truncated_normal')",
    "mup(64, place='hidden', distribution='uniform')",
    "embedding_uniform",
    "embedding_normal",
]


@pytest.mark.parametrize("scheme", SCALED)
def test_what_scales_with_fans_depth_or_entries_has_the_bits_of_the_reference(scheme):
    for shape, axes in [
        ((7, 9), {}),
        ((5, 1), {}),
        ((3, 4, 5), {}),
        ((3, 4, 5), {"batch_axis": 0}),
        ((5, 6, 3), TORCH),
    ]:
        for dtype in WORKING:
            assert_fill_gives_the_reference(scheme, dtype, shape, axes)


# Orthogonal

# Around the edges of blocks of 64 lanes and positions; near-square below n = 2 m, tall and wide from there on.
MATRICES = [
    (1, 1), (2, 2), (3, 1), (1, 5), (63, 64), (64, 64), (65, 65), (66, 130), (129, 65), (130, 65), (129, 258),
    (128, 128), (130, 100), (200, 200), (70, 150), (300, 40), (193, 64), (64, 127), (64, 128), (400, 130),
]  # fmt: skip
STACKS = [
    ((3, 4, 5), {}),
    ((3, 3, 7, 70), {}),
    ((70, 5, 3, 3), TORCH),
    ((3, 40, 5), {"in_axis": 0, "out_axis": 1}),
    ((40, 3, 5), {"in_axis": 1, "out_axis": 0}),
    ((5, 3, 40), {"batch_axis": 0}),
    ((40, 3, 5), {"in_axis": 1, "out_axis": 0, "batch_axis": -1}),
    ((8, 40, 9), {"in_axis": 1, "out_axis": (0, 2)}),
    ((8, 40, 9), {"in_axis": 1, "out_axis": (2, 0)}),
    ((40, 8, 9), {"in_axis": 0, "out_axis": (1, 2)}),
    ((2, 3, 7, 40), {"in_axis": 2, "out_axis": (1, 3), "batch_axis": 0}),
    ((2, 70, 3, 12), {"in_axis": 3, "out_axis": 1, "batch_axis": (0, 2)}),
    ((2, 70, 3, 12), {"in_axis": 1, "out_axis": 3, "batch_axis": (2, 0)}),
    ((5, 14, 2, 1), {"in_axis": 3, "out_axis": (1, 0), "batch_axis": 2}),
]


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", MATRICES, ids=str)
def test_orthogonal_matrices_have_the_bits_of_the_reference(isa, shape, dtype):
    assert_fill_gives_the_reference("orthogonal", dtype, shape)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize(("shape", "axes"), STACKS, ids=str)
def test_orthogonal_tensors_of_any_axes_have_the_bits_of_the_reference(isa, shape, axes, dtype):
    assert_fill_gives_the_reference("orthogonal(gain=-1.7)", dtype, shape, axes)


@pytest.mark.parametrize("gain", ["1.4", "-0.3", "400", "1e-9", "1e-42", "-1e-50", "1152921573326323713"])
def test_orthogonal_of_any_gain_has_the_bits_of_the_reference(isa, gain):
    for shape in ((3, 2), (2, 3), (3, 3), (9, 4)):
        for dtype in WORKING:
            assert_fill_gives_the_reference(f"orthogonal({gain})", dtype, shape)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(st.integers(1, 150), st.integers(1, 150)),
    st.sampled_from(WORKING),
    st.integers(0, 2**64 - 1),
    st.integers(1, 3),
)
def test_orthogonal_matrices_of_any_size_have_the_bits_of_the_reference(isa, shape, dtype, seed, threads):
    out = fill(np.empty(shape, dtype), "orthogonal", seed=seed, name=NAME, threads=threads)
    assert_same_bits(out, expected_tensor("orthogonal", dtype, shape, seed=seed))


def test_far_matrices_of_a_stack_have_the_bits_of_the_reference(isa):
    # Auxiliary element 2^31, 2^32, ... is in a matrix near the number that is it over n m.
    shape, axes = (2**58, 3, 5), {"batch_axis": 0}
    for around in (2**31, 2**32, 2**33, 2**34, 2**58):
        first = around // 15 - 1
        index = np.arange(15 * first, 15 * first + 45).reshape(3, 3, 5)
        for dtype in WORKING:
            place = {"shape": shape, "seed": SEED, "name": NAME, **axes}
            out = fill(np.empty((3, 3, 5), dtype), "orthogonal", offset=(first, 0, 0), **place)
            assert_same_bits(out, reference.values("orthogonal", dtype, index=index, **place))


KERNELS = [
    ((3, 4, 9), {}),
    ((1, 4, 9), {}),
    ((2, 5, 4, 4), {}),
    ((3, 2, 4, 3, 70), {}),
    ((70, 66, 3), TORCH),
    ((9, 4, 3, 4), TORCH),
    ((9, 4, 3, 4), TORCH | {"batch_axis": 3}),
    ((2, 4, 3, 9, 2), {"in_axis": 1, "out_axis": 3, "batch_axis": (0, 4)}),
]


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize(("shape", "axes"), KERNELS, ids=str)
def test_delta_orthogonal_has_the_bits_of_the_reference(isa, shape, axes, dtype):
    assert_fill_gives_the_reference("delta_orthogonal", dtype, shape, axes)
    assert_fill_gives_the_reference("delta_orthogonal(gain=-0.3)", dtype, shape, axes)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        *KERNELS,
        ((2, 1, 1), {}),
        ((4, 2, 2), {}),
        ((3, 66, 70), {}),
        ((2, 5, 3, 4), {}),
        ((4, 1, 2, 2, 3), {}),
        ((2, 3, 3, 4, 5), {"batch_axis": (0, 2)}),
    ],
    ids=str,
)
def test_convolution_orthogonal_has_the_bits_of_the_reference(isa, shape, axes, dtype):
    assert_fill_gives_the_reference("convolution_orthogonal", dtype, shape, axes)
    assert_fill_gives_the_reference("convolution_orthogonal(gain=-0.3)", dtype, shape, axes)


# Sparse

# Both sides of the last n that is ranked; squares, full and short last rows of the grid.
ENTRIES = [1, 2, 3, 16, 31, 32, 33, 100, 127, 128, 129, 130, 144, 145, 156, 157, 200, 256, 257, 289, 1000, 1025]


@pytest.mark.parametrize("per", ["in", "out"])
@pytest.mark.parametrize("n", ENTRIES)
def test_sparse_has_the_bits_of_the_reference(isa, n, per):
    for sparsity in {1e-9, 0.1, 1 / 3, 0.5, 0.9, 0.999, (n - 1) / n, 1.0} - {0.0}:
        shape = (n, 13) if per == "out" else (13, n)
        assert_fill_gives_the_reference(f"sparse({sparsity!r}, per={per!r})", DTYPES["float32"], shape)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize(
    "scheme", ["sparse(0.3)", "sparse(0.8, std=1.5, per='out')", "sparse(0)", "sparse(0.5, std=0)"]
)
def test_sparse_of_any_type_has_the_bits_of_the_reference(isa, scheme, dtype):
    for shape in ((40, 300), (300, 40), (128, 129)):
        assert_fill_gives_the_reference(scheme, dtype, shape)


@pytest.mark.parametrize("dtype", WORKING, ids=str)
@pytest.mark.parametrize("per", ["in", "out"])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        *STACKS,
        ((2, 3, 20, 150), {"batch_axis": (0, 1)}),
        ((150, 2, 20, 3), {"in_axis": 2, "out_axis": 0, "batch_axis": (1,)}),
        ((5, 12, 2, 13), {"in_axis": 0, "out_axis": (3, 1), "batch_axis": 2}),
    ],
    ids=str,
)
def test_sparse_of_any_axes_has_the_bits_of_the_reference(isa, shape, axes, per, dtype):
    for sparsity in (0.1, 0.77):
        assert_fill_gives_the_reference(f"sparse({sparsity}, per={per!r})", dtype, shape, axes)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(st.integers(1, 700), st.integers(1, 9)),
    st.sampled_from(["in", "out"]),
    st.floats(0, 1),
    st.integers(0, 2**64 - 1),
    st.integers(1, 3),
)
def test_sparse_of_any_size_has_the_bits_of_the_reference(isa, sizes, per, sparsity, seed, threads):
    shape, scheme = sizes if per == "out" else sizes[::-1], f"sparse({sparsity!r}, per={per!r})"
    out = fill(np.empty(shape, np.float32), scheme, seed=seed, name=NAME, threads=threads)
    assert_same_bits(out, expected_tensor(scheme, out.dtype, shape, seed=seed))


@pytest.mark.parametrize("n", [1, 5, 100, 200])
def test_far_units_of_sparse_have_the_bits_of_the_reference(isa, n):
    # A unit's words begin at its number times a multiple of 32: 2^27, ... is where they pass 2^32, ...
    shape = (2**55 // n, n)
    for around in (2**26, 2**27, 2**29, 2**31, 2**32, 2**47, shape[0]):
        first = min(around - 2, shape[0] - 5)
        index = np.arange(first * n, (first + 5) * n).reshape(5, n)
        for dtype in WORKING:
            place = {"shape": shape, "seed": SEED, "name": NAME}
            out = fill(np.empty((5, n), dtype), "sparse(0.4)", offset=(first, 0), **place)
            assert_same_bits(out, reference.values("sparse(0.4)", dtype, index=index, **place))


# What is given

GIVEN = [
    *(("identity", shape, axes) for shape, axes in [((5, 5), {}), ((7, 3), {}), ((3, 70), TORCH), ((1, 1), {})]),
    ("identity(0.1)", (40, 50), {}),
    ("identity(gain=-3)", (9, 4), {}),
    ("identity(-1e-50)", (9, 4), {}),
    ("dirac", (3, 4, 6), {}),
    ("dirac", (1, 2, 9, 6), {}),
    ("dirac(2)", (4, 5, 6, 12), {}),
    ("dirac(groups=3)", (2, 3, 4, 5, 6), {}),
    ("dirac(3)", (9, 4, 3, 4), TORCH),
    ("dirac(2)", (6, 4, 3, 4), TORCH | {"batch_axis": 2}),
    *(
        ("bilinear", shape, {})
        for shape in [(3, 2, 2), (4, 1, 2), (1, 1, 2), (4, 3, 2, 2), (5, 8, 1, 3), (2, 3, 7, 3, 2)]
    ),
    ("bilinear", (101, 2, 2), {}),
    ("bilinear", (2, 3, 6, 5), TORCH),
    ("bilinear", (2, 3, 6, 5), TORCH | {"batch_axis": 2}),
    ("lstm_bias", (12,), {}),
    ("lstm_bias(0.1, 'ofig')", (4,), {}),
    ("lstm_bias(forget=-0.0, order='fiog')", (3, 20), {}),
    ("lstm_bias(order='gifo')", (8, 3), TORCH),
    ("lstm_bias(-0.7)", (3, 40, 3), {"in_axis": 0, "out_axis": 1}),
    ("array([1, 2.5, -0.1])", (2, 3), {}),
    ("array([[1], [-0.0]])", (2, 3), {}),
    ("array([[1e-40], [-1e-50]])", (2, 70), {}),
    ("array([[1, 2, 3], [4, 5, 0.6]])", (2, 3), {}),
    ("array([[[1], [2]]])", (4, 2, 3), {}),
    ("array([0.7])", (50,), {}),
    ("array([1.00000006, 0.1, 3])", (2, 3), {}),
]


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize(("scheme", "shape", "axes"), GIVEN, ids=str)
def test_what_is_given_has_the_bits_of_the_reference(isa, scheme, shape, axes, dtype):
    out = fill(np.empty(shape, dtype), scheme, **axes)  # draws nothing: no seed
    assert_same_bits(out, expected_tensor(scheme, dtype, shape, axes))


@pytest.mark.parametrize("dtype", WORKING, ids=str)
def test_numbers_given_are_rounded_to_float64_and_then_to_the_working_type(dtype):
    # 2^60 + 2^36 + 1: float64 has no room for the 1, and without it float32 is half way between two numbers.
    for scheme in ("array([1152921573326323713, 16777217])", "constant(1152921573326323713)"):
        assert_fill_gives_the_reference(scheme, dtype, (3, 2))


# Parts

# One for every way from an index to a value.
PARTS = [
    ("he_normal", np.dtype(np.complex64), (30, 41, 5), {}),
    ("he_uniform", np.dtype(np.complex128), (30, 41, 5), {}),
    ("he_truncated_normal", np.dtype(np.complex64), (30, 41, 5), {"batch_axis": 1, "in_axis": 0}),
    *(
        ("orthogonal(1.3)", dtype, shape, axes)
        for dtype in (DTYPES["float32"], DTYPES["float64"], DTYPES["bfloat16"])
        for shape, axes in [
            ((100, 100), {}),
            ((130, 90), {}),
            ((90, 130), {}),
            ((200, 66), {}),
            ((66, 200), {}),
            ((4, 30, 50), {"batch_axis": 0}),
            ((30, 4, 50), {"in_axis": 0, "batch_axis": 1}),
            ((9, 40, 8), {"in_axis": 1, "out_axis": (0, 2)}),
        ]
    ),
    ("delta_orthogonal", DTYPES["float32"], (3, 4, 9, 20), {}),
    ("delta_orthogonal", DTYPES["float64"], (70, 9, 3), TORCH),
    ("convolution_orthogonal", DTYPES["float64"], (3, 4, 9, 20), {}),
    ("convolution_orthogonal", DTYPES["float32"], (70, 9, 3), TORCH),
    *(
        (f"sparse(0.4, per={per!r})", dtype, shape, axes)
        for per in ("in", "out")
        for dtype in (DTYPES["float32"], DTYPES["float64"], DTYPES["float8_e5m2"])
        for shape, axes in [
            ((40, 300), {}),
            ((300, 40), {}),
            ((3, 20, 150), {"batch_axis": 0}),
            ((30, 3, 50), {"in_axis": 0, "out_axis": 2, "batch_axis": 1}),
            ((5, 12, 2, 13), {"in_axis": 0, "out_axis": (3, 1), "batch_axis": 2}),
        ]
    ),
    ("identity(0.3)", DTYPES["float32"], (40, 70), {}),
    ("dirac(2)", DTYPES["float16"], (3, 4, 10, 24), {}),
    ("bilinear", DTYPES["float64"], (8, 7, 5, 6), {}),
    ("lstm_bias", DTYPES["bfloat16"], (30, 80), {}),
    ("array([[[1], [2], [0.3]], [[4], [5], [0.6]]])", DTYPES["float32"], (2, 3, 70), {}),
]


def some_parts(shape, count):
    """Offsets and shapes of some rectangles, rows and single elements of a tensor."""
    draw = np.random.default_rng(7)
    for number in range(count):
        edges = [sorted(draw.choice(size + 1, 2, replace=False)) for size in shape]
        edges = [(low, low + 1) if number % 4 == axis else (low, high) for axis, (low, high) in enumerate(edges)]
        yield tuple(int(low) for low, _ in edges), tuple(int(high - low) for low, high in edges)
    yield tuple(size - 1 for size in shape), (1,) * len(shape)
    yield (*(size // 2 for size in shape[:-1]), 0), (1,) * (len(shape) - 1) + shape[-1:]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("part", PARTS, ids=str)
def test_any_part_has_the_bits_of_the_reference(isa, part, threads):
    scheme, dtype, shape, axes = part
    whole = expected_tensor(scheme, dtype, shape, axes)
    options = {"seed": SEED, "name": NAME, "shape": shape, "threads": threads, **axes}
    for offset, extent in some_parts(shape, 8):
        out = fill(np.empty(extent, dtype), scheme, offset=offset, **options)
        assert_same_bits(out, cut(whole, offset, extent))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("part", PARTS, ids=str)
def test_any_strides_and_threads_have_the_bits_of_the_reference(isa, part, threads):
    scheme, dtype, shape, axes = part
    options = {"seed": SEED, "name": NAME, "shape": shape, "threads": threads, **axes}
    offset = tuple(size // 3 for size in shape)
    for first, extent in (((0,) * len(shape), shape), (offset, tuple(size - size // 3 for size in shape))):
        # Every axis backwards or with gaps, in the opposite order.
        memory = np.full([2 * size + 3 for size in reversed(extent)], 7, dtype)
        steps = [slice(2 * size, 0, -2) if axis % 2 else slice(1, 2 * size, 2) for axis, size in enumerate(extent)]
        out = memory[tuple(reversed(steps))].T
        fill(out, scheme, offset=first, **options)
        assert_same_bits(np.ascontiguousarray(out), cut(expected_tensor(scheme, dtype, shape, axes), first, extent))
        out[...] = 7
        assert (memory == 7).all()  # nothing beside it was written


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("part", PARTS, ids=str)
def test_rows_have_the_bits_of_the_reference(isa, part, threads):
    scheme, dtype, shape, axes = part
    rows = np.random.default_rng(7).integers(0, shape[0], 17)
    rows[3:5] = shape[0] - 1, 0
    expected = expected_tensor(scheme, dtype, shape, axes)[rows]
    options = {"seed": SEED, "name": NAME, "shape": shape, "threads": threads, **axes}
    out = fill_rows(np.empty(expected.shape, dtype), rows, scheme, **options)
    assert_same_bits(out, expected)
    strided = np.empty((*expected.shape[::-1], 2), dtype)[..., 1].T[::-1]
    fill_rows(strided, rows, scheme, **options)
    assert_same_bits(np.ascontiguousarray(strided), expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_far_rows_have_the_bits_of_the_reference(isa, threads):
    rows = np.array([2**31, 5, 2**50 - 1, 2**32 + 1, 2**31 - 1, 2**31, 0])
    for scheme, dtype, columns in [
        ("he_normal", np.dtype(np.complex64), 37),
        ("he_truncated_normal", np.dtype(np.complex128), 37),
        ("sparse(0.3)", DTYPES["float32"], 37),
        ("sparse(0.3)", DTYPES["float64"], 200),
        ("identity", DTYPES["float32"], 37),
        ("lstm_bias", DTYPES["float32"], 36),
        ("array([0.5])", DTYPES["float32"], 37),
        ("embedding_uniform", DTYPES["bfloat16"], 37),
    ]:
        place = {"shape": (2**50, columns), "seed": SEED, "name": NAME}
        index = rows[:, None] * columns + np.arange(columns)
        out = fill_rows(np.empty(index.shape, dtype), rows, scheme, threads=threads, **place)
        assert_same_bits(out, reference.values(scheme, dtype, index=index, **place))


# The floating-point control register

FLUSH_TO_ZERO, DENORMALS_ARE_ZERO, UPWARDS, TO_ZERO, DEFAULT = 0x8000, 0x0040, 0x4000, 0x6000, 0x1F80


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("mode", [FLUSH_TO_ZERO | DENORMALS_ARE_ZERO, UPWARDS, TO_ZERO | FLUSH_TO_ZERO])
def test_the_control_register_changes_no_bit_and_is_left_as_found(isa, control_register, mode, threads):
    # With numbers of their own, or their constants might have been computed before under the default.
    cases = [
        (f"he_normal(gain=1.{mode})", np.dtype(np.complex64), (61, 53)),
        (f"he_uniform(gain=1.{mode}e-40)", np.dtype(np.complex64), (61, 53)),
        (f"he_truncated_normal(gain=1.{mode})", np.dtype(np.complex128), (61, 53)),
        (f"orthogonal(1.{mode})", DTYPES["float32"], (70, 90)),
        (f"orthogonal(1.{mode}e-43)", DTYPES["float32"], (150, 66)),
        (f"orthogonal(1.{mode}e-42)", DTYPES["float32"], (70, 90)),
        (f"delta_orthogonal(1.{mode}e-41)", DTYPES["float32"], (3, 5, 7)),
        (f"convolution_orthogonal(1.{mode})", DTYPES["float64"], (3, 5, 7)),
        (f"orthogonal(1.{mode})", DTYPES["float64"], (150, 66)),
        (f"sparse(0.{mode})", DTYPES["float32"], (61, 300)),
        (f"sparse(0.5, 1.{mode}e-42)", DTYPES["float32"], (61, 53)),
        (f"identity(1.{mode}e-42)", DTYPES["float32"], (61, 53)),
        (f"lstm_bias(1.{mode}e-42)", DTYPES["float32"], (40,)),
        (f"fixup({mode}, 5)", DTYPES["float32"], (61, 53)),
        (f"array([1.{mode}e-5, 1.{mode}e-43])", DTYPES["float32"], (61, 2)),
    ]
    outs = [np.empty(shape, dtype) for _, dtype, shape in cases]
    left = []
    for (scheme, _, _), out in zip(cases, outs, strict=True):
        control_register.value = DEFAULT | mode
        fill(out, scheme, seed=SEED, name=NAME, threads=threads)
        left.append(control_register.value)
        control_register.restore()
    for (scheme, dtype, shape), out, register in zip(cases, outs, left, strict=True):
        assert_same_bits(out, expected_tensor(scheme, dtype, shape))
        assert register & ~0x3F == DEFAULT | mode  # but for the flags of what happened
