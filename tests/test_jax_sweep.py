"""Every public name of jax.nn.initializers beside ours: dtype x shape x argument, what they make and what they refuse.

The whole runs under the marker `sweep`; `frameworks` runs a sample of it. `difference` says where both part on purpose.
"""

import functools
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from winit_fast import adapters

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

initializer = adapters.jax.initializer
FAN_AXES = [{}, {"in_axis": 0, "out_axis": 1}, {"in_axis": (0, 1), "out_axis": -1}, {"batch_axis": 0}]
MODES = ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
DISTRIBUTIONS = ["normal", "truncated_normal", "uniform"]


def presets(ours):
    return [(axes, ours, axes) for axes in FAN_AXES]


# Of each name: the arguments, the same law in our words, and the arguments of `initializer`.
CASES = {
    "zeros": [(None, "zeros", {})],
    "ones": [(None, "ones", {})],
    "constant": [({"value": value}, f"constant({value})", {}) for value in (0.5, -3.0, 7)],
    "uniform": [({"scale": scale}, f"uniform(0, {scale})", {}) for scale in (1e-2, 1.0, 3.0)],
    "normal": [({"stddev": std}, f"normal(std={std})", {}) for std in (1e-2, 1.0)],
    "truncated_normal": [
        ({"stddev": std, "lower": low, "upper": high}, f"truncated_normal(std={std}, low={low}, high={high})", {})
        for std, low, high in ((1e-2, -2.0, 2.0), (1.0, -1.0, 3.0), (2.0, 0.5, 2.5))
    ],
    "variance_scaling": [
        (
            {"scale": scale, "mode": mode, "distribution": distribution} | axes,
            f"variance_scaling(scale={scale}, mode={mode!r}, distribution={distribution!r})",
            axes,
        )
        for scale, axes in ((1.0, {}), (0.3, FAN_AXES[2]))
        for mode in MODES
        for distribution in DISTRIBUTIONS
    ],
    "orthogonal": [({"scale": gain}, f"orthogonal(gain={gain})", {}) for gain in (1.0, 2.0)],
    "delta_orthogonal": [({"scale": gain}, f"delta_orthogonal(gain={gain})", {}) for gain in (1.0, 2.0)],
    "glorot_uniform": presets("xavier_uniform"),
    "glorot_normal": presets("xavier_truncated_normal"),
    "lecun_uniform": presets("lecun_uniform"),
    "lecun_normal": presets("lecun_truncated_normal"),
    "he_uniform": presets("he_uniform"),
    "he_normal": presets("he_truncated_normal"),
}
SAME = {
    "xavier_uniform": "glorot_uniform", "xavier_normal": "glorot_normal", "kaiming_uniform": "he_uniform",
    "kaiming_normal": "he_normal",
}  # fmt: skip
REAL = ["float32", "float16", "bfloat16"]
INTEGERS = ["int32", "bool", "int8", "uint8", "int64"]
DTYPES = [*REAL, "float8_e4m3fn", "float8_e5m2", "complex64", *INTEGERS[:4]]
SHAPES = [
    (),
    (0,),
    (1,),
    (5,),
    (2, 2),
    (3, 2),
    (2, 3),
    (0, 3),
    (3, 0),
    (2, 3, 4),
    (4, 3, 2),
    (2, 3, 4, 5),
    (1, 1, 2, 2, 3),
]
LARGE = (24, 40, 48)
IS_COMPLEX = {"complex64", "complex128"}


def all_cases():
    """Of variance_scaling a fifth: what its arguments make of a law, LAWS sees."""
    return [(name, *case) for name, cases in CASES.items() for case in cases[:: 5 if name == "variance_scaling" else 1]]


def theirs(name, arguments):
    found = getattr(jax.nn.initializers, name)
    return found if arguments is None else found(**arguments)


@functools.cache
def large_of_theirs(name, index, is_complex):
    """Their law, of many values in 32 bits: narrower types of theirs have as many values as mantissas."""
    arguments, _, _ = CASES[name][index]
    return np.asarray(theirs(name, arguments)(jax.random.key(1), LARGE, "complex64" if is_complex else "float32"))


def outcome(make, shape, dtype):
    """The shape and dtype of what is made, or whether that is refused."""
    try:
        array = make(jax.random.key(7), shape, dtype)
    except (TypeError, ValueError, NotImplementedError, OverflowError, ZeroDivisionError, IndexError) as error:
        return f"refused: {error}"
    return array.shape, array.dtype.name, bool(np.isfinite(np.asarray(array).astype(complex)).all())


def difference(name, ours, axes, shape, dtype):
    """Who makes nothing of what the other makes, and why; None where both must do the same."""
    if name == "constant" and dtype in INTEGERS:
        return "ours", "a constant that an integer does not hold is refused; JAX's is cut, or wraps around"
    if "batch_axis" in axes and len(shape) == 2:
        return "ours", "an axis that stacks and is an input too is refused; JAX divides by its size twice"
    if "orthogonal" in name and dtype in IS_COMPLEX:
        return "ours", "JAX makes unitary matrices of complex numbers"
    if "orthogonal" in name and dtype in INTEGERS:
        return "ours", "JAX makes empty matrices of integers"
    if "orthogonal" in name and dtype not in ("float32", "float64"):
        return "JAX", "its QR has no narrow types"
    if 0 in shape:
        return "JAX", "it divides by the fan of a shape without elements"
    if "truncated" in ours and dtype == "float8_e4m3fn":
        return "JAX", "its values are nan"
    return None


def assert_both_do_the_same(name, arguments, ours, axes, shape, dtype):
    mine = outcome(initializer(ours, **axes), shape, dtype)
    other = outcome(theirs(name, arguments), shape, dtype)
    if mine == other or (isinstance(mine, str) and isinstance(other, str)):
        return
    found = difference(name, ours, axes, shape, dtype)
    assert found is not None, (name, ours, axes, shape, dtype, mine, other)
    nothing = mine if found[0] == "ours" else other
    assert isinstance(nothing, str) or not nothing[2], (found, mine, other)


def check_law(name, index, dtype):
    _, ours, axes = CASES[name][index]
    mine = np.asarray(initializer(ours, **axes)(jax.random.key(2), LARGE, dtype))
    is_complex = dtype in IS_COMPLEX
    mine = mine.astype("complex128" if is_complex else "float64")
    other = large_of_theirs(name, index, is_complex).astype(mine.dtype)
    if name in ("zeros", "ones", "constant"):
        np.testing.assert_array_equal(mine, other)
        return
    if name in ("orthogonal", "delta_orthogonal"):
        check_orthogonal(name, ours, mine, dtype)
        return
    # JAX's constant for complex normals cut at 2 makes them 0.9 % too wide: ours have the variance that was asked for.
    factor = 1.00897 if is_complex and "truncated" in ours else 1.0
    mine_rms, other_rms = (math.sqrt(np.mean(np.abs(each - each.mean()) ** 2)) for each in (mine, other))
    assert mine_rms * factor == pytest.approx(other_rms, rel=6 / math.sqrt(mine.size))
    assert abs(mine.mean() - other.mean()) < 6 * other_rms / math.sqrt(mine.size / 2)
    assert np.abs(mine).max() * factor <= np.abs(other).max() * (
        1.5 if name == "normal" or "'normal'" in ours else 1.02
    )
    if dtype in ("float32", "float64", *IS_COMPLEX):
        for part in (np.real, np.imag, np.abs)[: 3 if is_complex else 1]:
            assert stats.ks_2samp(part(mine).ravel() * factor, part(other).ravel()).pvalue > 1e-5


def check_orthogonal(name, ours, mine, dtype):
    gain = float(ours.partition("=")[2].rstrip(")"))
    epsilon = float(jnp.finfo(dtype).eps)
    matrix = mine[(LARGE[0] - 1) // 2] if name == "delta_orthogonal" else mine.reshape(-1, LARGE[-1])
    product = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product / gain**2, np.eye(len(product)), atol=8 * epsilon)
    assert np.count_nonzero(mine) == np.count_nonzero(matrix)


LAWS = [(name, index, dtype) for name in CASES for index in range(len(CASES[name])) for dtype in [*REAL, "complex64"]]
REAL_ALONE = ("uniform", "truncated_normal", "orthogonal", "delta_orthogonal")
LAWS = [law for law in LAWS if law[2] not in IS_COMPLEX or law[0] not in REAL_ALONE]
# What CI tries: the first arguments, in the types where most can go wrong.
SAMPLE = [
    (name, index, dtype)
    for name, index, dtype in LAWS
    if index == 0
    and (
        dtype == "float32"
        or (dtype == "bfloat16" and name in ("uniform", "normal", "truncated_normal", "orthogonal"))
        or (dtype == "complex64" and name in ("normal", "he_normal", "he_uniform"))
    )
]
MATRIX = [
    (*case, shape, dtype)
    for case, shape, dtype in itertools.product(all_cases(), SHAPES, DTYPES)
    if dtype not in INTEGERS[1:] or case[0] in ("zeros", "ones", "constant")
]


@pytest.mark.frameworks
def test_every_public_name_is_swept():
    names = {name for name in vars(jax.nn.initializers) if not name.startswith("_")}
    assert names - {"Initializer"} == {*CASES, *SAME}
    for name, first in SAME.items():
        assert getattr(jax.nn.initializers, name) is getattr(jax.nn.initializers, first)


@pytest.mark.frameworks
@pytest.mark.parametrize(("name", "index", "dtype"), SAMPLE)
def test_the_first_arguments_of_every_name_have_the_law_of_jax(name, index, dtype):
    check_law(name, index, dtype)


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "index", "dtype"), [law for law in LAWS if law not in SAMPLE])
def test_all_arguments_of_every_name_have_the_law_of_jax(name, index, dtype):
    check_law(name, index, dtype)


@pytest.mark.frameworks
def test_a_sample_of_shapes_and_dtypes_is_made_or_refused_as_by_jax():
    for case in MATRIX[7 :: len(MATRIX) // 25]:
        assert_both_do_the_same(*case)


@pytest.mark.sweep
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_shapes_and_dtypes_are_made_or_refused_as_by_jax(name, dtype):
    for case in MATRIX:
        if case[0] == name and case[-1] == dtype:
            assert_both_do_the_same(*case)


@pytest.fixture
def double_precision():
    enable = getattr(jax, "enable_x64", None)
    with enable(True) if enable is not None else jax.experimental.enable_x64():
        yield


@pytest.mark.sweep
@pytest.mark.parametrize("name", CASES)
def test_double_precision_has_the_law_and_the_refusals_of_jax(name, double_precision):
    wide = {"float32": "float64", "complex64": "complex128", "int32": "int64"}
    for law in LAWS:
        if law[0] == name and law[2] in wide:
            check_law(*law[:2], wide[law[2]])
    for case in MATRIX:
        if case[0] == name and case[-1] in wide:
            assert_both_do_the_same(*case[:-1], wide[case[-1]])
