"""The whole catalogue: every scheme in every type, in pieces and whole; and what every one of them refuses."""

import itertools
import math
import pickle
from importlib import import_module
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
from arrays import DTYPES, cut, placed, same, untouched
from hypothesis import given, settings
from hypothesis import strategies as st

from winit_fast import dispatch, fill, fill_rows, scheme, schemes
from winit_fast.dispatch import usable_isas

ENTRIES = {entry.name: entry for entry in schemes()}
KERNELS = [import_module(f"winit_fast._kernels_{isa}") for isa in usable_isas()]
COMPLEX = {name: np.dtype(name) for name in ("complex64", "complex128")}

# One call of every scheme. What they need of a shape says `cases`.
EXAMPLES = {
    "zeros": "zeros",
    "ones": "ones",
    "constant": "constant(-0.75)",
    "uniform": "uniform(-0.1, 0.3)",
    "normal": "normal(mean=0.01, std=0.5)",
    "truncated_normal": "truncated_normal(std=0.02, low=-3, high=1)",
    "variance_scaling": "variance_scaling(2, 'fan_out', 'truncated_normal')",
    "he_uniform": "he_uniform(nonlinearity='leaky_relu', slope=0.2)",
    "he_normal": "he_normal(mode='fan_geo_avg')",
    "he_truncated_normal": "he_truncated_normal(gain=0.7)",
    "xavier_uniform": "xavier_uniform(gain=0.1)",
    "xavier_normal": "xavier_normal(mode='fan_in')",
    "xavier_truncated_normal": "xavier_truncated_normal",
    "lecun_uniform": "lecun_uniform",
    "lecun_normal": "lecun_normal(mode='fan_out')",
    "lecun_truncated_normal": "lecun_truncated_normal",
    "orthogonal": "orthogonal(gain=1.1)",
    "delta_orthogonal": "delta_orthogonal(gain=-0.7)",
    "convolution_orthogonal": "convolution_orthogonal(gain=0.9)",
    "identity": "identity(gain=-0.3)",
    "dirac": "dirac(groups=2)",
    "sparse": "sparse(0.1, std=0.02)",
    "array": "array([[0.1, -0.0, 1e-9]])",
    "bilinear": "bilinear",
    "lstm_bias": "lstm_bias(forget=0.7, order='iofg')",
    "embedding_uniform": "embedding_uniform",
    "embedding_normal": "embedding_normal",
    "residual_normal": "residual_normal(layers=12)",
    "fixup": "fixup(layers=5, depth=3)",
    "t_fixup": "t_fixup(layers=7, coder='encoder')",
    "deepnet": "deepnet(encoder=6, decoder=5, coder='encoder')",
    "mup": "mup(base_fan=48, distribution='uniform')",
}

ANYWHERE = ["zeros", "ones", "constant", "uniform", "normal", "truncated_normal", "residual_normal"]
EMBEDDINGS = ["embedding_uniform", "embedding_normal"]
WIDENING = ["delta_orthogonal", "convolution_orthogonal"]
OF_KERNELS = [*WIDENING, "dirac", "bilinear"]
WITH_FANS = [
    "variance_scaling", "he_uniform", "he_normal", "he_truncated_normal", "xavier_uniform", "xavier_normal",
    "xavier_truncated_normal", "lecun_uniform", "lecun_normal", "lecun_truncated_normal", "fixup", "t_fixup", "deepnet",
    "mup",
]  # fmt: skip
TOGETHER = ["orthogonal", "identity", "sparse", "array", "lstm_bias", *OF_KERNELS]
IN_COMPLEX = ["zeros", "ones", "constant", "embedding_normal", "residual_normal", *WITH_FANS]

# A shape that each takes, of rows that can be told apart, in the default layout.
SHAPES = (
    dict.fromkeys(EXAMPLES, (6, 30)) | dict.fromkeys(OF_KERNELS, (3, 2, 4, 8)) | {"lstm_bias": (8, 12), "array": (5, 3)}
)


def test_every_scheme_has_an_example():
    assert list(EXAMPLES) == list(ENTRIES)
    assert [scheme(text).name for text in EXAMPLES.values()] == list(ENTRIES)


def dtypes_of(name):
    return DTYPES | COMPLEX if name in IN_COMPLEX else DTYPES


every_scheme = pytest.mark.parametrize("name", EXAMPLES)
every_scheme_and_dtype = pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name in EXAMPLES for dtype in dtypes_of(name)]
)


# Shapes, axes and pieces


class Case(NamedTuple):
    """The shape of a tensor and what its axes are, as `fill` takes them."""

    shape: tuple[int, ...]
    axes: dict[str, Any]


@st.composite
def sizes(draw, count, most_values):
    """Sizes of so many axes; one of them may be a little below, at or above 64, 128 or 256."""
    found, left = [], most_values
    for _ in range(count):
        long = [size for size in (63, 64, 65, 127, 128, 129, 130, 200, 257) if size <= left]
        short = st.integers(1, max(1, min(left, 7)))
        found.append(draw(st.one_of(short, st.sampled_from(long)) if long else short))
        left //= found[-1]
    if draw(st.integers(0, 15)) == 0 and found:
        found[draw(st.integers(0, count - 1))] = 0
    return draw(st.permutations(found))


@st.composite
def layouts(draw, ins=1, outs=1, kernel=0, batch=0, most_values=20_000):
    """Sizes of the inputs, outputs, kernel and batch axes, in the default layout, in torch's or in any other."""
    roles = ["batch"] * batch + ["kernel"] * kernel + ["in"] * ins + ["out"] * outs
    order = draw(st.sampled_from(["default", "torch", "any"]))
    if order == "torch":
        roles = ["batch"] * batch + ["out"] * outs + ["in"] * ins + ["kernel"] * kernel
    elif order == "any":
        roles = draw(st.permutations(roles))
    axes = {}
    for role in ("in", "out", "batch"):
        places = [axis - draw(st.sampled_from([0, len(roles)])) for axis, own in enumerate(roles) if own == role]
        axes[f"{role}_axis"] = places[0] if len(places) == 1 and draw(st.booleans()) else tuple(places)
    if order == "default" and ins == outs == 1 and draw(st.booleans()):
        del axes["in_axis"], axes["out_axis"]
    return roles, draw(sizes(len(roles), most_values)), axes


@st.composite
def cases(draw, name):
    """What a scheme of this name may be asked to fill."""
    few = st.integers(0, 1)
    if name in ANYWHERE:
        return Case(tuple(draw(sizes(draw(st.integers(0, 4)), 20_000))), {})
    if name in EMBEDDINGS:
        shape = draw(sizes(draw(st.integers(1, 4)), 20_000))
        batch = draw(st.sets(st.integers(0, len(shape) - 1), max_size=len(shape) - 1))
        return Case(tuple(shape), {"batch_axis": tuple(batch)})
    if name == "array":
        return Case((*draw(sizes(draw(st.integers(1, 3)), 5000)), 3), {})
    if name == "lstm_bias" and draw(st.booleans()):
        return Case((4 * draw(st.integers(0, 70)),), {})
    if name in OF_KERNELS:
        roles, found, axes = draw(layouts(1, 1, draw(st.integers(1, 3)), draw(few)))
        if name == "convolution_orthogonal":  # takes a convolution for every place of the kernel
            found = [min(size, 3) if role == "kernel" else size for role, size in zip(roles, found, strict=True)]
    elif name == "identity":
        roles, found, axes = draw(layouts(batch=draw(st.integers(0, 2))))
    else:
        outs = 1 if name == "lstm_bias" else draw(st.integers(1, 2))
        roles, found, axes = draw(layouts(draw(st.integers(1, 2)), outs, draw(few), draw(few)))
    out = roles.index("out")
    if name in WIDENING:
        at = roles.index("in")
        found[at], found[out] = sorted([found[at], found[out]])
    if name in ("dirac", "lstm_bias"):
        found[out] += -found[out] % 4
    return Case(tuple(found), axes)


@st.composite
def pieces(draw, shape):
    """A tensor cut a few times, each time one of the pieces along one of its axes: first and last of every axis."""
    found = [tuple((0, size) for size in shape)]
    for _ in range(draw(st.integers(0, 5)) if shape else 0):
        piece = list(found.pop(draw(st.integers(0, len(found) - 1))))
        axis = draw(st.integers(0, len(shape) - 1))
        first, last = piece[axis]
        at = draw(st.integers(first, last))
        for part in ((first, at), (at, last)):
            piece[axis] = part
            found.append(tuple(piece))
    return draw(st.permutations(found))


@st.composite
def ways(draw):
    """By how many threads, and by which copy of the kernels."""
    return draw(st.sampled_from([None, 1, 2, 3])), draw(st.sampled_from(KERNELS))


def filled(text, case, dtype, **arguments):
    """The whole tensor, in memory that was something else before than that of `placed`."""
    out = untouched(case.shape, dtype)
    out.reshape(-1).view("u1")[:] ^= 0xFF
    return fill(out, text, **({"seed": 7, "name": "weight"} | case.axes | arguments))


together = pytest.mark.parametrize("name", [name for name in EXAMPLES if name in TOGETHER])
alone = pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in TOGETHER])


@together
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_part_of_a_scheme_whose_elements_hang_together_is_that_part_of_the_whole(name, data):
    assert_any_part_is_that_part_of_the_whole(name, data)


@alone
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_any_part_of_any_other_scheme_is_that_part_of_the_whole(name, data):
    assert_any_part_is_that_part_of_the_whole(name, data)


@pytest.mark.exhaustive
@together
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_of_more_parts_of_a_scheme_whose_elements_hang_together_is_that_part_of_the_whole(name, data):
    assert_any_part_is_that_part_of_the_whole(name, data)


@pytest.mark.exhaustive
@alone
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_of_more_parts_of_any_other_scheme_is_that_part_of_the_whole(name, data):
    assert_any_part_is_that_part_of_the_whole(name, data)


def assert_any_part_is_that_part_of_the_whole(name, data):
    case = data.draw(cases(name))
    dtypes = dtypes_of(name)
    dtype = dtypes[data.draw(st.sampled_from(sorted(dtypes)))]
    text, shape = EXAMPLES[name], case.shape
    whole = filled(text, case, dtype)
    given = {"seed": 7, "name": "weight", "shape": shape, **case.axes}
    batch = case.axes.get("batch_axis", ())
    stacked = {axis % len(shape) for axis in ((batch,) if isinstance(batch, int) else batch)}
    of_rows = next((axis for axis in range(len(shape)) if axis not in stacked), None)
    if of_rows is not None and shape[of_rows]:
        padding = data.draw(st.one_of(st.none(), st.integers(-shape[of_rows], shape[of_rows] - 1)))
        if padding is not None:
            given["padding_idx"] = padding
            np.moveaxis(whole, of_rows, 0)[padding] = 0

    place = data.draw(placed(shape, dtype))
    for piece in data.draw(pieces(shape)):
        offset = tuple(first for first, _ in piece)
        part = cut(place.view, offset, tuple(last - first for first, last in piece))
        threads, kernels = data.draw(ways())
        with mock.patch.object(dispatch, "kernels", kernels):
            fill(part, text, offset=offset, threads=threads, **given)
    assert same(place.view, whole)
    assert place.is_untouched_outside()

    if shape:
        rows = data.draw(st.lists(st.integers(0, shape[0] - 1), max_size=9)) if shape[0] else []
        if len(rows) * math.prod(shape[1:]) < 2000:
            rows *= data.draw(st.sampled_from([1, 1, 10, 20]))
        place = data.draw(placed((len(rows), *shape[1:]), dtype))
        threads, kernels = data.draw(ways())
        with mock.patch.object(dispatch, "kernels", kernels):
            fill_rows(place.view, rows, text, threads=threads, **given)
        assert same(place.view, whole[rows])
        assert place.is_untouched_outside()


@every_scheme_and_dtype
def test_every_scheme_writes_every_element(name, dtype):
    case = Case(SHAPES[name], {})
    kind = dtypes_of(name)[dtype]
    once = filled(EXAMPLES[name], case, kind)
    assert same(fill(untouched(case.shape, kind), EXAMPLES[name], seed=7, name="weight"), once)
    numbers = once.view(once.real.dtype) if dtype in COMPLEX else once
    assert np.isfinite(numbers.astype("float64")).all()


@every_scheme
def test_a_narrow_type_has_the_values_of_float32_rounded_once(name):
    case = Case(SHAPES[name], {})
    wide = filled(EXAMPLES[name], case, DTYPES["float32"])
    for dtype in ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"):
        assert same(filled(EXAMPLES[name], case, DTYPES[dtype]), wide.astype(DTYPES[dtype]))


@every_scheme
def test_a_scheme_that_draws_has_other_values_under_another_seed_or_name(name):
    case = Case(SHAPES[name], {})
    made = scheme(EXAMPLES[name])
    first = filled(made, case, DTYPES["float32"])
    for other in ({"seed": 8}, {"name": "bias"}):
        assert same(filled(made, case, DTYPES["float32"], **other), first) is not made.draws
    if not made.draws:
        assert same(filled(made, case, DTYPES["float32"], seed=None), first)


# Texts


@every_scheme
def test_the_text_of_every_example_reads_back(name):
    made = scheme(EXAMPLES[name])
    assert scheme(str(made)) == made
    assert hash(scheme(str(made))) == hash(made)
    assert eval(repr(made), {"scheme": scheme, "inf": math.inf}) == made
    assert pickle.loads(pickle.dumps(made)) == made
    assert scheme(name, **made.arguments) == made
    for alias in ENTRIES[name].aliases:
        assert scheme(EXAMPLES[name].replace(name, alias, 1)) == made


# The floating-point environment

UPWARDS, DOWNWARDS, TOWARDS_0, DEFAULT = 0x4000, 0x2000, 0x6000, 0x1F80
FLUSH_TO_ZERO = 0x8040  # both of results and of arguments


@pytest.mark.parametrize("mode", [UPWARDS, DOWNWARDS, TOWARDS_0, FLUSH_TO_ZERO])
@every_scheme
def test_no_scheme_depends_on_the_rounding_mode(name, mode, control_register):
    cached = [import_module("winit_fast.fill")._resolve, import_module("winit_fast.registry")._read]
    calls = [
        (dtype, threads)
        for dtype in ("float32", "float64", "bfloat16", *(COMPLEX if name in IN_COMPLEX else ()))
        for threads in (1, 2)
    ]
    shapes = [SHAPES[name]]
    if name in ("orthogonal", "sparse"):
        shapes += [(130, 129), (200, 70)]
    for shape in shapes:
        expected = [filled(EXAMPLES[name], Case(shape, {}), np.dtype(dtype), threads=count) for dtype, count in calls]
        outs = [untouched(shape, np.dtype(dtype)) for dtype, _ in calls]
        for function in cached:
            function.cache_clear()
        control_register.value = DEFAULT | mode
        try:
            for out, (_, threads) in zip(outs, calls, strict=True):
                fill(out, EXAMPLES[name], seed=7, name="weight", threads=threads)
            left = control_register.value
        finally:
            control_register.restore()
        assert left & ~0x3F == DEFAULT | mode
        assert all(itertools.starmap(same, zip(outs, expected, strict=True)))


# What is refused


def refused(text, out, error, *words, **arguments):
    """`fill` and, where there are rows, `fill_rows` refuse."""
    calls = [lambda: fill(out, text, **({"seed": 7} | arguments))]
    if out.ndim:
        calls.append(lambda: fill_rows(out, [0] * len(out), text, **({"seed": 7, "shape": out.shape} | arguments)))
    for call in calls:
        with pytest.raises(error) as caught:
            call()
        assert type(caught.value) is error
        for word in words:
            assert word in str(caught.value)


def refused_untouched(text, out, error, *words, **arguments):
    """The same, and every byte is left as it was."""
    before = out.tobytes()
    refused(text, out, error, *words, **arguments)
    assert out.tobytes() == before


NO_MATRIX = [((), {}), ((7,), {}), ((3, 4), {"in_axis": 0, "out_axis": ()})]
TOO_FEW_OR_MANY = [((), {}), ((7,), {}), ((4, 8), {}), ((2, 2, 2, 2, 4, 8), {}), ((3, 4, 8), {"batch_axis": 0})]
NO_KERNEL = [
    *TOO_FEW_OR_MANY,
    ((3, 4, 8), {"in_axis": 2, "out_axis": 2}),
    ((3, 2, 4, 8), {"in_axis": (1, 2), "out_axis": 3}),
]
NOT_WIDENING = [*NO_KERNEL, ((3, 8, 4), {}), ((4, 8, 3), {"in_axis": 1, "out_axis": 0})]
DOES_NOT_FIT = {
    **{name: [] for name in ANYWHERE},
    **{name: [((), {}), ((7,), {})] for name in WITH_FANS},
    **{name: [((), {}), ((7,), {"batch_axis": 0}), ((3, 4), {"batch_axis": (0, 1)})] for name in EMBEDDINGS},
    "orthogonal": NO_MATRIX,
    "delta_orthogonal": NOT_WIDENING,
    "convolution_orthogonal": NOT_WIDENING,
    "identity": [*NO_MATRIX, ((3, 4, 4), {}), ((4, 4, 3), {"in_axis": 0, "out_axis": (1, 2)})],
    "dirac": [*NO_KERNEL, ((3, 8, 5), {}), ((5, 8, 3), {"in_axis": 1, "out_axis": 0})],
    "sparse": NO_MATRIX,
    "array": [((), {}), ((3,), {}), ((5, 4), {}), ((5, 1), {}), ((3, 5), {})],
    "bilinear": TOO_FEW_OR_MANY,  # the same for all inputs and outputs, however many axes those have
    "lstm_bias": [((), {}), ((6,), {}), ((8, 6), {}), ((8, 8), {"in_axis": (), "out_axis": (0, 1)})],
}


def test_every_scheme_says_what_does_not_fit():
    assert set(DOES_NOT_FIT) == set(EXAMPLES)


@pytest.mark.parametrize(
    ("name", "shape", "axes"), [(name, *one) for name, several in DOES_NOT_FIT.items() for one in several]
)
def test_a_shape_that_a_scheme_does_not_fit_is_refused(name, shape, axes):
    out = untouched(shape, "float32")
    refused_untouched(EXAMPLES[name], out, ValueError, str(shape), **axes)


@every_scheme_and_dtype
def test_memory_that_overlaps_itself_is_refused(name, dtype):
    memory = untouched(SHAPES[name], dtypes_of(name)[dtype])
    before = memory.tobytes()
    for axis in range(memory.ndim):
        for stride in (0, memory.strides[axis] // 2):
            strides = tuple(stride if axis == other else step for other, step in enumerate(memory.strides))
            out = np.ndarray(memory.shape, memory.dtype, memory, 0, strides)
            refused(EXAMPLES[name], out, ValueError, "out must not overlap itself")
    assert memory.tobytes() == before


@every_scheme_and_dtype
def test_memory_that_is_read_only_is_refused(name, dtype):
    out = untouched(SHAPES[name], dtypes_of(name)[dtype])
    out.flags.writeable = False
    refused_untouched(EXAMPLES[name], out, ValueError, "out must be writable")


@pytest.mark.parametrize("dtype", ["int32", "uint8", "longdouble", "V2", np.dtype("float32").newbyteorder()])
@every_scheme
def test_memory_of_another_type_is_refused(name, dtype):
    refused_untouched(EXAMPLES[name], untouched(SHAPES[name], dtype), TypeError, "out must be ")


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in IN_COMPLEX])
def test_complex_memory_is_refused_where_there_is_no_complex_form(name, dtype):
    words = ("has no complex form", f"{dtype} takes real constants, normals of mean 0 and the schemes with fans")
    refused_untouched(EXAMPLES[name], untouched(SHAPES[name], dtype), ValueError, *words)


@every_scheme
def test_a_seed_left_out_is_refused_where_values_are_drawn(name):
    if scheme(EXAMPLES[name]).draws:
        out = untouched(SHAPES[name], "float32")
        refused_untouched(EXAMPLES[name], out, TypeError, "seed must be given", seed=None)


SCALES = {
    "constant": "constant(1e6)",
    "uniform": "uniform(-1, 1e6)",
    "normal": "normal(std=1e6)",
    "truncated_normal": "truncated_normal(std=1e6)",
    "variance_scaling": "variance_scaling(scale=1e14)",
    **{name: f"{name}(gain=1e6)" for name in ENTRIES if name.startswith(("he_", "xavier_"))},
    "orthogonal": "orthogonal(gain=1e6)",
    "delta_orthogonal": "delta_orthogonal(gain=-1e6)",
    "convolution_orthogonal": "convolution_orthogonal(gain=1e6)",
    "identity": "identity(gain=-1e6)",
    "sparse": "sparse(0.5, std=1e6)",
    "array": "array([[0, -1e6, 0]])",
    "lstm_bias": "lstm_bias(forget=1e6)",
    "residual_normal": "residual_normal(4, std=1e6)",
    "mup": "mup(6, std=1e6)",
}
WITHOUT_SCALE = {
    "zeros", "ones", "lecun_uniform", "lecun_normal", "lecun_truncated_normal", "dirac", "bilinear",
    "embedding_uniform", "embedding_normal", "fixup", "t_fixup", "deepnet",
}  # fmt: skip


def test_every_scheme_has_a_scale_or_none():
    assert set(SCALES) | WITHOUT_SCALE == set(EXAMPLES)
    assert not set(SCALES) & WITHOUT_SCALE


@pytest.mark.parametrize("dtype", ["float16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("name", SCALES)
def test_a_scale_beyond_the_type_is_refused(name, dtype):
    out = untouched(SHAPES[name], DTYPES[dtype])
    refused_untouched(SCALES[name], out, ValueError, f"but {dtype} ends at ", "smaller arguments or a wider dtype")
    fill(untouched(SHAPES[name], "float32"), SCALES[name], seed=7)


@every_scheme
@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (lambda size: size, ValueError, "padding_idx must be in [-{0}, {0}), got {0}"),
        (lambda size: -size - 1, ValueError, "padding_idx must be in [-{0}, {0}), got "),
        (lambda size: 2**70, ValueError, "padding_idx must be in [-{0}, {0}), got "),
        (lambda size: 1.0, TypeError, "padding_idx must be an int or None, got 1.0"),
        (lambda size: True, TypeError, "padding_idx must be an int or None, got True"),
        (lambda size: [1], TypeError, "padding_idx must be an int or None, got [1]"),
    ],
)
def test_a_padding_idx_that_is_no_row_is_refused(name, index, error, message):
    size = SHAPES[name][0]
    out = untouched(SHAPES[name], "float32")
    refused_untouched(EXAMPLES[name], out, error, message.format(size), padding_idx=index(size))
