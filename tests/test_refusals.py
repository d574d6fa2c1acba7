"""What is refused: with the right error, a message that says what to change, and nothing written."""

import itertools
import math

import numpy as np
import pytest
from arrays import DTYPES, UNTOUCHED, untouched
from processes import python

import winit_fast
from winit_fast import fill, fill_rows, random_bits

NORMAL = "normal(std=0.02)"
SHAPE = (40, 6)
COMPLEX = ("complex64", "complex128")
TOO_LONG = pytest.param(10**5000, id="too long to print")


def show(value):
    """The repr, without an address: the same in each process."""
    return repr(value).partition(" at 0x")[0]


class Tensor:
    """Looks like another framework's tensor."""

    shape, dtype = SHAPE, "float32"

    def __init__(self):
        self.memory = untouched(SHAPE, "float32")

    def __array__(self, dtype=None, copy=None):
        return self.memory


def refused(call, memory, error, *words):
    """The call raises this error, with all these words in its message, and leaves the memory as it was."""
    before = memory.tobytes()
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    for word in words:
        assert str(word) in str(caught.value)
    assert memory.tobytes() == before


def fill_refused(error, *words, scheme=NORMAL, dtype="float32", extent=SHAPE, **arguments):
    """`fill` and, where it takes the arguments, `fill_rows` refuse."""
    out = untouched(extent, DTYPES.get(dtype, dtype))
    arguments = {"seed": 1} | arguments
    refused(lambda: fill(out, scheme, **arguments), out, error, *words)
    if "offset" not in arguments and extent:
        arguments = {"shape": extent} | arguments
        refused(lambda: fill_rows(out, range(extent[0]), scheme, **arguments), out, error, *words)


def accepted(scheme, dtype="float32", extent=SHAPE):
    out = untouched(extent, DTYPES.get(dtype, dtype))
    assert fill(out, scheme, seed=1) is out
    numbers = out.view(out.real.dtype) if dtype in COMPLEX else out
    assert np.isfinite(numbers.astype("float64")).all()
    return numbers.astype("float64")


# out: memory


def test_a_read_only_array_is_refused():
    out = untouched(SHAPE, "float32")
    out.flags.writeable = False
    for call in (
        lambda: fill(out, NORMAL, seed=1),
        lambda: fill_rows(out, range(40), NORMAL, seed=1, shape=SHAPE),
        lambda: random_bits(out.view("u4"), seed=1),
    ):
        refused(call, out, ValueError, "out must be writable", "read-only")


def test_a_broadcast_array_is_refused():
    row = untouched((6,), "float32")
    refused(lambda: fill(np.broadcast_to(row, SHAPE), NORMAL, seed=1), row, ValueError, "out must be writable")


def test_a_file_mapped_to_be_read_is_refused(tmp_path):
    untouched(SHAPE, "float32").tofile(tmp_path / "table")
    file = np.memmap(tmp_path / "table", "float32", "r", shape=SHAPE)
    refused(lambda: fill(file, NORMAL, seed=1), file, ValueError, "out must be writable")


def test_bytes_are_refused():
    memory = np.frombuffer(bytes(240), "float32")
    refused(lambda: fill(memory, NORMAL, seed=1), memory, ValueError, "out must be writable")


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((10,), (0,)),
        ((10, 6), (0, 4)),
        ((10, 6), (4, 0)),
        ((2, 2), (0, 0)),
        ((10, 4), (4, 4)),
        ((10, 4), (8, 4)),
        ((10, 4), (12, 4)),
        ((10, 4), (15, 4)),
        ((10, 4), (-12, 4)),
        ((10,), (3,)),
        ((10,), (1,)),
        ((10,), (-3,)),
        ((10, 4), (4, 12)),
        ((3, 4, 5), (80, 16, 4)),
        ((3, 1, 5), (16, 100, 4)),
        ((5, 2, 4), (31, 16, 4)),
    ],
)
def test_arrays_whose_elements_share_memory_are_refused(shape, strides):
    memory = untouched((1000,), "u1")
    out = np.ndarray(shape, "float32", memory, 200, strides)
    words = np.ndarray(shape, "uint32", memory, 200, strides)
    for call in (
        lambda: fill(out, NORMAL, seed=1),
        lambda: fill_rows(out, range(shape[0]), NORMAL, seed=1, shape=shape),
        lambda: random_bits(words, seed=1),
    ):
        refused(call, memory, ValueError, "out must not overlap itself", shape, strides)


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((10,), (4,)),
        ((10,), (-4,)),
        ((10, 4), (16, 4)),
        ((10, 4), (17, 4)),
        ((10, 4), (-16, 4)),
        ((10, 4), (4, 40)),
        ((10, 4), (4, -40)),
        ((3, 4, 5), (80, 20, 4)),
        ((5, 2, 4), (32, 16, 4)),
        ((3, 1, 5), (20, 0, 4)),
    ],
)
def test_arrays_whose_elements_merely_touch_are_filled(shape, strides):
    memory = untouched((1000,), "u1")
    out = np.ndarray(shape, "float32", memory, 200, strides)
    assert (fill(out, NORMAL, seed=1) == fill(untouched(shape, "float32"), NORMAL, seed=1)).all()


def test_a_sliding_window_is_refused():
    memory = untouched((100,), "float32")
    out = np.lib.stride_tricks.sliding_window_view(memory, 5, writeable=True)
    refused(lambda: fill(out, NORMAL, seed=1), memory, ValueError, "out must not overlap itself", "(96, 5)", "(4, 4)")
    fill(out[::5], NORMAL, seed=1)


def test_a_region_of_an_overlapping_array_is_refused():
    memory = untouched((100,), "float32")
    out = np.lib.stride_tricks.as_strided(memory, (4, 5), (8, 4))
    refused(lambda: fill(out, NORMAL, seed=1, shape=(9, 9), offset=(1, 1)), memory, ValueError, "out must not overlap")


# out: type


@pytest.mark.parametrize(
    "dtype",
    ["int32", "uint8", "int64", "bool", "longdouble", "clongdouble", "M8[s]", "S4", "U2", "f4,f4", "V4"],
)
def test_arrays_of_other_types_are_refused(dtype):
    if np.dtype(dtype) in (np.dtype("float64"), np.dtype("complex128")):
        pytest.skip("long double is double here")
    memory = untouched((960,), "u1")
    kind = np.dtype(dtype)
    out = memory[: 960 // kind.itemsize * kind.itemsize].view(kind)
    for call in (
        lambda: fill(out, NORMAL, seed=1),
        lambda: fill_rows(out, [0] * len(out), NORMAL, seed=1, shape=(9,)),
    ):
        known = ", ".join([*DTYPES, *COMPLEX]).replace("float16, bfloat16", "bfloat16, float16")
        refused(call, memory, TypeError, f"out must be of dtype {known}, got {kind.name}")


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize(
    "scheme",
    [
        "normal(mean=0.5)",
        "uniform",
        "truncated_normal",
        "embedding_uniform",
        "orthogonal",
        "sparse(0.5)",
        "identity",
        "array([0.5])",
    ],
)
def test_schemes_without_a_complex_form_are_refused(scheme, dtype):
    needed = f"{dtype} takes real constants, normals of mean 0 and the schemes with fans, such as 'he_normal'"
    fill_refused(ValueError, "has no complex form", needed, scheme=scheme, dtype=dtype)


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize("scheme", ["delta_orthogonal", "dirac", "bilinear", "lstm_bias"])
def test_kernels_and_gates_are_refused_in_complex_numbers(scheme, dtype):
    fill_refused(ValueError, "has no complex form", dtype, scheme=scheme, dtype=dtype, extent=(3, 3, 2, 4))


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize(
    "scheme",
    [
        "zeros",
        "ones",
        "constant(-0.5)",
        "uniform(0.5, 0.5)",
        "normal(mean=2, std=0)",
        "orthogonal(gain=0)",
        "variance_scaling(2, 'fan_avg', 'uniform')",
        "he_normal",
        "xavier_uniform",
        "lecun_truncated_normal",
        "fixup(4)",
        "t_fixup(4)",
        "deepnet(4)",
        "mup(64, place='input')",
    ],
)
def test_constants_and_schemes_with_fans_are_filled_in_complex_numbers(scheme, dtype):
    accepted(scheme, dtype)


def test_an_array_of_objects_is_refused():
    out = np.array([None] * 5)
    with pytest.raises(TypeError, match=r"out must be of dtype .*, got object"):
        fill(out, NORMAL, seed=1)
    assert (out == None).all()  # noqa: E711


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "c8", "c16"])
def test_arrays_in_foreign_byte_order_are_refused(kind):
    foreign = np.dtype(kind).newbyteorder()
    out = untouched(SHAPE, foreign)
    refused(lambda: fill(out, "he_normal", seed=1), out, TypeError, "out must be in native byte order", repr(foreign))
    fill(out.view(foreign.newbyteorder()), "he_normal", seed=1)


@pytest.mark.parametrize("kind", ["int32", "float32", "uint64", "uint16", np.dtype("u4").newbyteorder()])
def test_random_bits_into_anything_but_uint32_is_refused(kind):
    out = untouched(SHAPE, kind)
    refused(
        lambda: random_bits(out, seed=1),
        out,
        TypeError,
        "out must be of dtype uint32 in native byte order",
        repr(out.dtype),
    )


@pytest.mark.parametrize("out", [None, [0.0] * 240, (0.0,), 1.0, np.float32(1), memoryview(bytearray(8)), "out"])
def test_what_is_no_array_is_refused(out):
    for call in (fill, lambda *_, **given: fill_rows(out, [0], NORMAL, shape=(1,), **given)):
        with pytest.raises(TypeError, match=f"out must be a NumPy array, got {type(out).__name__}"):
            call(out, NORMAL, seed=1)
    with pytest.raises(TypeError, match="out must be a NumPy array"):
        random_bits(out, seed=1)


def test_a_tensor_of_another_framework_is_refused():
    tensor = Tensor()
    refused(lambda: fill(tensor, NORMAL, seed=1), tensor.memory, TypeError, "out must be a NumPy array, got Tensor")


# shape and offset


@pytest.mark.parametrize(
    ("shape", "offset"),
    [
        ((39, 6), (0, 0)),
        ((40, 5), None),
        ((40, 6), (1, 0)),
        ((40, 6), (0, 1)),
        ((100, 6), (61, 0)),
        ((0, 6), None),
        ((100, 100), (2**64, 0)),
        ((100, 100), (2**63 - 1, 0)),
    ],
)
def test_a_region_outside_the_shape_is_refused(shape, offset):
    fill_refused(ValueError, "out must lie within shape", SHAPE, shape, offset or (0, 0), shape=shape, offset=offset)


@pytest.mark.parametrize("extent", [(0, 6), (40, 0)])
def test_an_empty_region_outside_the_shape_is_refused(extent):
    fill_refused(ValueError, "out must lie within shape", extent=extent, shape=SHAPE, offset=(41, 7))


@pytest.mark.parametrize(
    ("shape", "offset", "counts"),
    [
        ((40,), None, "2, 1 and 1"),
        ((), None, "2, 0 and 0"),
        ((1, 40, 6), None, "2, 3 and 3"),
        ((40, 6), (0,), "2, 2 and 1"),
        ((40, 6), (0, 0, 0), "2, 2 and 3"),
        ((40, 6), (), "2, 2 and 0"),
    ],
)
def test_a_rank_that_does_not_match_is_refused(shape, offset, counts):
    fill_refused(ValueError, "out, shape and offset must have as many axes", counts, shape=shape, offset=offset)


def test_a_rank_that_does_not_match_is_refused_where_there_are_no_elements():
    out = np.empty((0, 3), "float32")
    with pytest.raises(ValueError, match="as many axes as each other, got 2, 3 and 3"):
        fill(out, NORMAL, seed=1, shape=(1, 0, 3))


@pytest.mark.parametrize("shape", [(2**63,), (2**32, 2**31), (2**62, 2), (2**21, 2**21, 2**21), (3, 2**62), (2**70, 1)])
def test_a_shape_of_2_to_the_63_elements_is_refused(shape):
    out = untouched((1,) * len(shape), "float32")
    refused(
        lambda: fill(out, NORMAL, seed=1, shape=shape),
        out,
        ValueError,
        "shape must have fewer than 2^63 elements",
        shape,
    )
    refused(
        lambda: fill_rows(out, [0], NORMAL, seed=1, shape=shape),
        out,
        ValueError,
        "shape must have fewer than 2^63 elements",
    )
    largest = (2**63 - 1, *shape[1:]) if len(shape) == 1 else (2**10,) * len(shape)
    fill(out, NORMAL, seed=1, shape=largest, offset=(0,) * len(shape))


def test_negative_sizes_and_offsets_are_refused():
    fill_refused(ValueError, "shape must not be negative", (-40, 6), shape=(-40, 6), offset=(0, 0))
    fill_refused(ValueError, "offset must not be negative", (0, -1), shape=(40, 10), offset=(0, -1))


@pytest.mark.parametrize("shape", [(41, 6), (40, 7), (100, 100)])
def test_a_part_of_a_larger_tensor_needs_an_offset(shape):
    out = untouched(SHAPE, "float32")
    words = ("offset must be given where out is smaller than shape", SHAPE, shape)
    refused(lambda: fill(out, NORMAL, seed=1, shape=shape), out, ValueError, *words)
    fill(untouched(shape, "float32"), NORMAL, seed=1, shape=shape)  # the whole needs none


def test_an_offset_without_a_shape_is_refused():
    fill_refused(ValueError, "shape must be given with offset", (0, 0), offset=(0, 0))


@pytest.mark.parametrize("size", [2**63, pytest.param(10**400, id="10^400"), pytest.param(10**5000, id="10^5000")])
@pytest.mark.parametrize("scheme", ["he_normal", "normal", "zeros"])
def test_a_size_of_2_to_the_63_is_refused_where_there_are_no_elements(size, scheme):
    for extent, shape in (((0, 0), (0, size)), ((0, 3, 0), (size, 3, 0))):
        words = ("shape must have fewer than 2^63 elements",)
        fill_refused(ValueError, *words, scheme=scheme, extent=extent, shape=shape)


@pytest.mark.parametrize(
    "value",
    [
        40,
        40.0,
        "ab",
        b"()",
        {40, 6},
        frozenset({40, 6}),
        {40: 0, 6: 0},
        (40.0, 6),
        [40, 6.0],
        (40, None),
        (40, "6"),
        (True, 6),
        (40, True),
        ((40, 6),),
        np.array([40.0, 6.0]),
        [np.array(40.5), 6],
        np.array(40),
    ],
    ids=repr,
)
@pytest.mark.parametrize("argument", ["shape", "offset"])
def test_a_shape_or_offset_of_the_wrong_type_is_refused(argument, value):
    fill_refused(
        TypeError,
        argument,
        "int",
        **{"shape": SHAPE} | {argument: value} | {"offset": None if argument == "shape" else value},
    )


@pytest.mark.parametrize("argument", ["shape", "offset"])
def test_a_size_too_long_to_print_is_refused_by_name(argument):
    arguments = {"shape": SHAPE, "offset": (0, 0)} | {argument: (10**5000, 6)}
    fill_refused(ValueError, "shape", **arguments)


# axes


@pytest.mark.parametrize("axis", [1.0, "0", (0.0,), (False,), True, [None], {0}, [[0]], np.array([0.0])], ids=repr)
@pytest.mark.parametrize("argument", ["in_axis", "out_axis", "batch_axis"])
def test_an_axis_of_the_wrong_type_is_refused(argument, axis):
    given = {"in_axis": (0,), "out_axis": (1,), "batch_axis": ()}
    fill(untouched(SHAPE, "float32"), "he_normal", seed=1, **given)  # whatever was asked for before
    given = {"in_axis": (0,), "out_axis": (), "batch_axis": ()} if argument == "out_axis" else given | {"in_axis": ()}
    fill(untouched(SHAPE, "float32"), "he_normal", seed=1, **given | {argument: (0,)})
    fill_refused(TypeError, argument, "integer", scheme="he_normal", **given | {argument: axis})


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"in_axis": 2}, ["in_axis", 2, SHAPE]),
        ({"out_axis": -3}, ["out_axis", -3, SHAPE]),
        ({"batch_axis": 0}, ["batch_axis", "in_axis"]),
        ({"in_axis": (0, 0)}, ["in_axis", "once", (0, 0)]),
        ({"in_axis": (0, -2)}, ["in_axis", "once", (0, -2)]),
    ],
)
def test_axes_that_the_shape_lacks_or_repeats_are_refused(axes, words):
    fill_refused(ValueError, *words, scheme="he_normal", **axes)


@pytest.mark.parametrize("extent", [(), (40,)])
def test_a_scheme_with_fans_refuses_a_shape_without(extent):
    fill_refused(ValueError, "fans", "in_axis", extent, scheme="he_normal", extent=extent)


# seed, name, threads, offset of words


@pytest.mark.parametrize("seed", [-1, 2**64, 2**200, np.int64(-5), TOO_LONG])
def test_a_seed_out_of_range_is_refused(seed):
    out = untouched(SHAPE, "u4")
    refused(lambda: random_bits(out, seed=seed), out, ValueError, "seed must be", "[0, 2^64)")
    fill_refused(ValueError, "seed must be", "[0, 2^64)", seed=seed)
    fill_refused(ValueError, "seed must be", "[0, 2^64)", seed=seed, scheme="zeros")


@pytest.mark.parametrize(
    "seed", [True, np.True_, 1.5, 1.0, "7", b"7", [7], (1, 2), np.random.default_rng(1), np.array(1.5)], ids=show
)
def test_a_seed_of_the_wrong_type_is_refused(seed):
    out = untouched(SHAPE, "u4")
    refused(lambda: random_bits(out, seed=seed), out, TypeError, "seed must be an int in [0, 2^64), got ", repr(seed))
    fill_refused(TypeError, "seed must be an int in [0, 2^64), got ", repr(seed), seed=seed)
    fill_refused(TypeError, "seed must be an int in [0, 2^64), got ", repr(seed), seed=seed, scheme="zeros")


@pytest.mark.parametrize("scheme", [NORMAL, "he_uniform", "truncated_normal", "uniform"])
def test_a_seed_left_out_is_refused_where_values_are_drawn(scheme):
    fill_refused(TypeError, "seed must be given", scheme, scheme=scheme, seed=None)
    out = untouched(SHAPE, "float32")
    refused(lambda: fill(out, scheme), out, TypeError, "seed must be given", scheme)
    refused(lambda: fill(out, winit_fast.scheme(scheme)), out, TypeError, "seed must be given", scheme)
    words = out.view("u4")
    refused(lambda: random_bits(words, seed=None), out, TypeError, "seed must be")


@pytest.mark.parametrize("name", [-1, 2**64, np.int64(-5), TOO_LONG])
def test_a_name_out_of_range_is_refused(name):
    out = untouched(SHAPE, "u4")
    refused(lambda: random_bits(out, seed=1, name=name), out, ValueError, "name must be a str or an int in [0, 2^64)")
    fill_refused(ValueError, "name must be a str or an int in [0, 2^64)", name=name)


@pytest.mark.parametrize("name", [None, b"weight", True, 1.5, ["a"], ("a", 0), np.array(1.5)], ids=repr)
def test_a_name_of_the_wrong_type_is_refused(name):
    out = untouched(SHAPE, "u4")
    refused(lambda: random_bits(out, seed=1, name=name), out, TypeError, "name must be a str or an int", repr(name))
    fill_refused(TypeError, "name must be a str or an int in [0, 2^64), got ", repr(name), name=name)


@pytest.mark.parametrize("name", ["\ud800", "layer\udc80"])
def test_a_name_with_half_a_surrogate_pair_is_refused(name):
    fill_refused(ValueError, "name must be text that UTF-8 can encode", repr(name), name=name)


@pytest.mark.parametrize("threads", [0, -1, -(2**70), np.int8(0), pytest.param(-(10**5000), id="too long to print")])
def test_a_number_of_threads_out_of_range_is_refused(threads):
    out = untouched(SHAPE, "u4")
    refused(lambda: random_bits(out, seed=1, threads=threads), out, ValueError, "threads must be an int >= 1 or None")
    fill_refused(ValueError, "threads must be an int >= 1 or None, got ", threads=threads)


@pytest.mark.parametrize("threads", [True, False, 1.5, 1.0, "2", [2], np.True_, np.array(1.5)], ids=repr)
def test_a_number_of_threads_of_the_wrong_type_is_refused(threads):
    out = untouched(SHAPE, "u4")
    refused(lambda: random_bits(out, seed=1, threads=threads), out, TypeError, "threads must be an int", repr(threads))
    fill_refused(TypeError, "threads must be an int >= 1 or None, got ", repr(threads), threads=threads)


@pytest.mark.parametrize("offset", [-1, 2**66 - 239, 2**66, 2**80])
def test_an_offset_outside_the_stream_is_refused(offset):
    out = untouched(SHAPE, "u4")
    refused(
        lambda: random_bits(out, seed=1, offset=offset), out, ValueError, "offset must be in [0, 2^66 - 240]", offset
    )
    random_bits(out, seed=1, offset=2**66 - 240)


@pytest.mark.parametrize("offset", [None, 1.0, "1", True, (0,), np.array(1.5)], ids=repr)
def test_an_offset_of_the_wrong_type_is_refused(offset):
    out = untouched(SHAPE, "u4")
    refused(lambda: random_bits(out, seed=1, offset=offset), out, TypeError, "offset must be an int", repr(offset))


def test_an_offset_too_long_to_print_is_refused_by_name():
    out = untouched(SHAPE, "u4")
    refused(lambda: random_bits(out, seed=1, offset=10**5000), out, ValueError, "offset must be")


# The scheme and its arguments


@pytest.mark.parametrize("scheme", [None, 3, b"normal", ["normal"], np.zeros, ("normal", {})], ids=repr)
def test_what_is_no_scheme_is_refused(scheme):
    fill_refused(TypeError, "scheme must be a str or a Scheme, got ", scheme=scheme)


@pytest.mark.parametrize(
    ("scheme", "error", "words"),
    [
        ("normla", ValueError, ["'normla'", "did you mean 'normal'"]),
        ("", ValueError, ["scheme ''"]),
        ("normal(", ValueError, ["'normal('", "cannot be read"]),
        ("normal(sdt=1)", TypeError, ["'sdt'", "did you mean 'std'"]),
        ("constant", TypeError, ["constant", "'value' is missing"]),
        ("normal(std=-1)", ValueError, ["normal", "std must be >= 0", "-1"]),
        ("normal(std=-1e-300)", ValueError, ["std must be >= 0"]),
        ("truncated_normal(std=-0.5)", ValueError, ["std must be >= 0", "-0.5"]),
        ("normal(std=nan)", ValueError, ["std", "nan"]),
        ("normal(mean=nan)", ValueError, ["mean", "nan"]),
        ("normal(mean=inf)", ValueError, ["mean", "inf"]),
        ("normal(std=inf)", ValueError, ["std", "inf"]),
        ("constant(nan)", ValueError, ["value", "nan"]),
        ("constant(inf)", ValueError, ["value", "inf"]),
        ("constant(-inf)", ValueError, ["value", "inf"]),
        ("uniform(-inf, 0)", ValueError, ["low", "inf"]),
        ("uniform(0, inf)", ValueError, ["high", "inf"]),
        ("uniform(nan, 1)", ValueError, ["low", "nan"]),
        ("uniform(0, nan)", ValueError, ["high", "nan"]),
        ("uniform(2, 1)", ValueError, ["low must be <= high", "2", "1"]),
        ("truncated_normal(low=1, high=-1)", ValueError, ["low must be <= high", "1", "-1"]),
        ("truncated_normal(low=nan)", ValueError, ["low", "nan"]),
        ("truncated_normal(high=nan)", ValueError, ["high", "nan"]),
        ("truncated_normal(low=38, high=39)", ValueError, ["low must be <= 37", "38"]),
        ("truncated_normal(low=37.0001, high=inf)", ValueError, ["low must be <= 37", "37.0001"]),
        ("truncated_normal(low=inf, high=inf)", ValueError, ["low must be <= 37", "inf"]),
        ("truncated_normal(low=-inf, high=-37.5)", ValueError, ["high must be >= -37", "-37.5"]),
        ("truncated_normal(low=-inf, high=-inf)", ValueError, ["high must be >= -37", "inf"]),
        ("he_normal(gain=-1)", ValueError, ["gain must be >= 0", "-1"]),
        ("he_normal(gain=nan)", ValueError, ["gain", "nan"]),
        ("he_normal(gain=inf)", ValueError, ["gain", "inf"]),
        ("he_normal(mode='fan')", ValueError, ["mode", "'fan'"]),
        ("variance_scaling(scale=-1)", ValueError, ["scale must be >= 0", "-1"]),
        ("normal(std=True)", TypeError, ["std", "True"]),
        ("normal(std='1')", TypeError, ["std", "'1'"]),
        ("normal(std=None)", TypeError, ["std", "None"]),
        ("normal(std=[1])", TypeError, ["normal: std must be a number, got (1,)"]),
        ("normal(std=1e999)", ValueError, ["std", "inf"]),
    ],
)
def test_a_scheme_that_cannot_be_is_refused(scheme, error, words):
    for dtype in ("float32", "float64", "float16"):
        fill_refused(error, *words, scheme=scheme, dtype=dtype)


@pytest.mark.parametrize(
    "scheme",
    [
        "truncated_normal(low=-inf, high=2)",
        "truncated_normal(low=-2, high=inf)",
        "truncated_normal(low=-inf, high=inf)",
        "truncated_normal(low=37, high=38)",
        "truncated_normal(low=37, high=inf)",
        "truncated_normal(low=-38, high=-37)",
        "truncated_normal(low=-100, high=100)",
        "truncated_normal(low=2, high=2)",
        "normal(std=0)",
        "uniform(1, 1)",
        "normal(std=1e-320)",
        "truncated_normal(std=5e-324)",
        "uniform(-5e-324, 5e-324)",
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_scheme_at_the_edge_of_what_is_refused_is_filled(scheme, dtype):
    accepted(scheme, dtype)


# Ranges

ENDS_AT = {
    "float32": 3.4028234663852886e38,
    "float64": 1.7976931348623157e308,
    "float16": 65504.0,
    "bfloat16": 3.3895313892515355e38,
    "float8_e4m3fn": 448.0,
    "float8_e5m2": 57344.0,
    "complex64": 3.4028234663852886e38,
    "complex128": 1.7976931348623157e308,
}
FARTHEST_NORMAL = {name: 9.3455 if name == "float64" else 6.5557 for name in DTYPES}


@pytest.mark.parametrize(
    ("scheme", "dtype"),
    [
        ("normal(std=1e38)", "float32"),
        ("normal(std=-0.0, mean=1e39)", "float32"),
        ("normal(mean=3.4e38, std=1e37)", "float32"),
        ("normal(mean=-3.4e38, std=1e37)", "float32"),
        ("normal(std=2e307)", "float64"),
        ("normal(mean=1.7e308, std=1e308)", "float64"),
        ("normal(std=1.7e308)", "float64"),
        ("normal(std=20000)", "float16"),
        ("normal(mean=60000, std=1000)", "float16"),
        ("normal(std=6e37)", "bfloat16"),
        ("normal(std=100)", "float8_e4m3fn"),
        ("normal(mean=-400, std=20)", "float8_e4m3fn"),
        ("normal(std=10000)", "float8_e5m2"),
        ("truncated_normal(std=2e38)", "float32"),
        ("truncated_normal(std=1e308)", "float64"),
        ("truncated_normal(std=40000)", "float16"),
        ("truncated_normal(std=300)", "float8_e4m3fn"),
        ("truncated_normal(low=-2, high=inf, std=20000)", "float16"),
        ("truncated_normal(low=-inf, high=30, std=20000)", "float16"),
        ("truncated_normal(low=36, high=inf, std=2000)", "float16"),
        ("truncated_normal(low=-38, high=38, std=1e307)", "float64"),
        ("truncated_normal(low=2, high=inf, std=1.7e308)", "float64"),
        ("uniform(0, 1e39)", "float32"),
        ("uniform(-1e39, 0)", "float32"),
        ("uniform(0, 65520)", "float16"),
        ("uniform(-65520, 0)", "float16"),
        ("uniform(0, 3.4e38)", "bfloat16"),
        ("uniform(-465, 465)", "float8_e4m3fn"),
        ("uniform(0, 61440)", "float8_e5m2"),
        ("constant(1e39)", "float32"),
        ("constant(-1e39)", "float32"),
        ("constant(3.4028235677973366e38)", "float32"),
        ("constant(65520)", "float16"),
        ("constant(65519.9999)", "float16"),
        ("constant(-65520)", "float16"),
        ("constant(3.3961775292304601e38)", "bfloat16"),
        ("constant(465)", "float8_e4m3fn"),
        ("constant(480)", "float8_e4m3fn"),
        ("constant(61440)", "float8_e5m2"),
        ("constant(-1e39)", "complex64"),
        ("mup(40, std=7.5e37)", "complex64"),
        ("mup(40, std=2.8e307)", "complex128"),
        ("mup(40, std=2.5e38, distribution='uniform')", "complex64"),
        ("mup(40, std=1.7e38, distribution='truncated_normal')", "complex64"),
        ("orthogonal(65600)", "float16"),
        ("orthogonal(-465)", "float8_e4m3fn"),
        ("identity(1e39)", "float32"),
        ("identity(-65520)", "float16"),
        ("sparse(0.5, std=10000)", "float16"),
        ("sparse(0.5, std=100)", "float8_e4m3fn"),
        ("array([1, 65520, 0, 0, 0, 0])", "float16"),
        ("array([[-1e39]])", "bfloat16"),
        ("residual_normal(2, std=40000)", "float16"),
    ],
)
def test_a_scheme_that_reaches_beyond_the_type_is_refused(scheme, dtype):
    fill_refused(ValueError, dtype, "wider", f"{ENDS_AT[dtype]:.6g}", scheme=scheme, dtype=dtype)


@pytest.mark.parametrize(
    ("scheme", "dtype"),
    [
        (f"normal(mean={3.4028234663852886e38 - 0.4 * 2.0**104!r}, std={0.89 * 2.0**104 / 6.5557!r})", "float32"),
        (f"normal(mean=65519.9945, std={0.0035 / 6.5557!r})", "float16"),
        (f"truncated_normal(mean=65519.9945, std={0.0035 / 6.9!r}, low=-2, high=inf)", "float16"),
    ],
)
def test_a_scheme_whose_rounded_numbers_reach_beyond_the_type_is_refused(scheme, dtype):
    # As real numbers they stay below; the mean is nearer to the end once it is rounded to float32.
    fill_refused(ValueError, dtype, "wider", scheme=scheme, dtype=dtype)


@pytest.mark.parametrize(
    ("scheme", "dtype"),
    [
        ("normal(std=9990)", "float16"),
        ("normal(mean=-65000, std=75)", "float16"),
        ("normal(std=70)", "float8_e4m3fn"),
        ("normal(std=9000)", "float8_e5m2"),
        ("normal(std=5e37)", "float32"),
        ("normal(std=1.9e307)", "float64"),
        ("truncated_normal(std=32750)", "float16"),
        ("truncated_normal(std=1.7e38)", "float32"),
        ("truncated_normal(low=-2, high=inf, std=9000)", "float16"),
        ("truncated_normal(low=36, high=inf, std=1700)", "float16"),
        ("uniform(0, 65519)", "float16"),
        ("uniform(-65519, 65519)", "float16"),
        ("uniform(-464, 464)", "float8_e4m3fn"),
        ("uniform(-1.7e38, 1.7e38)", "float32"),
        ("uniform(-8.9e307, 8.9e307)", "float64"),
        ("uniform(0, 3.4028234663852886e38)", "float32"),
        ("constant(3.4028234663852886e38)", "float32"),
        ("constant(3.4028235677973362e38)", "float32"),
        ("constant(1.7976931348623157e308)", "float64"),
        ("constant(65519)", "float16"),
        ("constant(65519.99)", "float16"),
        ("constant(3.39617e38)", "bfloat16"),
        ("constant(464)", "float8_e4m3fn"),
        ("constant(-464)", "float8_e4m3fn"),
        ("constant(61439)", "float8_e5m2"),
    ],
)
def test_a_scheme_that_nearly_reaches_beyond_the_type_is_filled(scheme, dtype):
    out = accepted(scheme, dtype, (1 << 16,))
    assert abs(out).max() <= ENDS_AT[dtype]


@pytest.mark.parametrize(
    ("scheme", "dtype"),
    [
        ("constant(-3.4028234663852886e38)", "complex64"),
        ("mup(256, std=7.3e37)", "complex64"),
        ("mup(256, std=2.7e307, place='input')", "complex128"),
        ("mup(256, std=2.4e38, distribution='uniform')", "complex64"),
        ("mup(256, std=1.6e38, distribution='truncated_normal')", "complex64"),
        ("orthogonal(65400)", "float16"),
        ("orthogonal(-463)", "float8_e4m3fn"),
        ("identity(-65519)", "float16"),
        ("identity(464)", "float8_e4m3fn"),
        ("sparse(0.5, std=9990)", "float16"),
        ("array([[65519]])", "float16"),
        ("array([[-3.4028234663852886e38]])", "float32"),
    ],
)
def test_a_tensor_that_nearly_reaches_beyond_the_type_is_filled(scheme, dtype):
    out = accepted(scheme, dtype, (256, 256))
    assert abs(out).max() <= ENDS_AT[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_widest_normal_that_is_filled_is_as_wide_as_its_farthest_value_allows(dtype):
    std = ENDS_AT[dtype] / FARTHEST_NORMAL[dtype]
    accepted(f"normal(std={std * 0.9999})", dtype)
    fill_refused(ValueError, dtype, scheme=f"normal(std={std * 1.1})", dtype=dtype)


@pytest.mark.parametrize(
    ("scheme", "dtype"),
    [
        ("uniform(-3e38, 3e38)", "float32"),
        ("uniform(-2e38, 2e38)", "bfloat16"),
        ("uniform(-1.7e308, 1.7e308)", "float64"),
    ],
)
def test_a_uniform_too_wide_to_compute_is_refused(scheme, dtype):
    fill_refused(ValueError, "too wide", dtype, "high - low", scheme=scheme, dtype=dtype)


@pytest.mark.parametrize(
    ("scheme", "dtype"),
    [
        ("uniform(1.00000001, 1.00000002)", "float32"),
        ("uniform(1.00000001, 1.00000002)", "bfloat16"),
        ("uniform(1e-50, 2e-50)", "float32"),
        ("truncated_normal(mean=1.00000001, std=1e-12)", "float32"),
        ("truncated_normal(mean=1e-48, std=1e-49)", "float16"),
        ("truncated_normal(mean=0.1, std=1e-18, low=1)", "float64"),
    ],
)
def test_bounds_without_a_value_between_them_are_refused(scheme, dtype):
    fill_refused(ValueError, "no value", "bounds", "low", "high", scheme=scheme, dtype=dtype)


@pytest.mark.parametrize(
    ("scheme", "dtype"),
    [
        ("uniform(1, 1.00000001)", "float32"),
        ("uniform(0.99999999, 1.00000001)", "float32"),
        ("uniform(0, 1e-50)", "float32"),
        ("truncated_normal(mean=1, std=1e-12)", "float32"),
        ("truncated_normal(std=1e-60)", "float32"),
    ],
)
def test_bounds_with_one_value_between_them_give_that_value(scheme, dtype):
    assert len(np.unique(accepted(scheme, dtype))) == 1


# rows


def rows_refused(rows, error, *words, extent=None, shape=(50, 6), **arguments):
    out = untouched(extent or (len(rows), 6), "float32")
    refused(lambda: fill_rows(out, rows, NORMAL, seed=1, shape=shape, **arguments), out, error, *words)


@pytest.mark.parametrize(
    ("rows", "worst"),
    [
        ([-1], -1),
        ([0, 49, 50], 50),
        ([3, -7, 99], -7),
        (np.array([2**63], "u8"), 2**63),
        (np.array([2**64 - 1, 0], "u8"), 2**64 - 1),
        (np.array([-128, 0], "i1"), -128),
        (range(49, 52), 51),
        (np.arange(60)[::-1], 59),
    ],
)
def test_rows_outside_the_tensor_are_refused(rows, worst):
    rows_refused(rows, ValueError, "rows must be in [0, 50), got ", worst)


def test_any_row_of_an_empty_tensor_is_refused():
    rows_refused([0], ValueError, "rows must be in [0, 0), got 0", shape=(0, 6))


@pytest.mark.parametrize(
    "rows",
    [
        [1.0],
        [True, False],
        ["1"],
        [None],
        [[1, 2]],
        np.empty(0),
        np.empty((0, 1), "i8"),
        [1, 2**64],
        [[1, 2], [3]],
        np.array([1, 2], "O"),
        np.array(["2020"], "M8[D]"),
    ],
    ids=repr,
)
def test_rows_that_are_no_list_of_integers_are_refused(rows):
    rows_refused(rows, TypeError, "rows must be integers along one axis")


@pytest.mark.parametrize("rows", [3, None, "abc", {1, 2}, iter([1, 2]), np.array(3)], ids=show)
def test_rows_that_are_no_list_are_refused(rows):
    rows_refused(rows, TypeError, "rows must be integers along one axis", extent=(2, 6))


@pytest.mark.parametrize("extent", [(2, 6), (4, 6), (3, 5), (6, 3), (3,), (3, 6, 1), (3, 2, 3)])
def test_an_array_that_does_not_match_its_rows_is_refused(extent):
    words = ("out must have the shape (len(rows), *shape[1:]) = (3, 6), got ", extent)
    rows_refused([1, 2, 3], ValueError, *words, extent=extent)


def test_an_array_without_axes_for_a_row_is_refused():
    out = untouched((), "float32")
    refused(
        lambda: fill_rows(out, [1], NORMAL, seed=1, shape=(50,)),
        out,
        ValueError,
        "out must have the shape",
        "(1,)",
        "()",
    )


def test_rows_of_a_tensor_without_axes_are_refused():
    out = untouched((1,), "float32")
    refused(lambda: fill_rows(out, [0], NORMAL, seed=1, shape=()), out, ValueError, "shape must have at least one axis")


def test_rows_need_a_shape():
    out = untouched((1, 6), "float32")
    refused(lambda: fill_rows(out, [0], NORMAL, seed=1), out, TypeError, "shape")
    refused(
        lambda: fill_rows(out, [0], NORMAL, seed=1, shape=None),
        out,
        TypeError,
        "shape must be a sequence of int, got None",
    )


# All together


LONG = (1,) * 5000


@pytest.mark.parametrize(
    ("error", "argument", "arguments"),
    [
        (ValueError, "name", {"name": "\ud800" * 60_000}),
        (TypeError, "name", {"name": LONG}),
        (TypeError, "seed", {"seed": "7" * 60_000}),
        (TypeError, "threads", {"threads": "7" * 60_000}),
        (ValueError, "shape", {"shape": LONG}),
        (ValueError, "shape", {"shape": (-1,) * 5000}),
        (TypeError, "shape", {"shape": (1.5,) * 5000}),
        (TypeError, "shape", {"shape": "7" * 60_000}),
        (ValueError, "shape", {"shape": (10**4000, 6)}),
        (ValueError, "offset", {"offset": LONG}),
        (ValueError, "offset", {"shape": SHAPE, "offset": LONG}),
        (ValueError, "offset", {"shape": SHAPE, "offset": (10**4000, 10**4000)}),
        (ValueError, "in_axis", {"scheme": "he_normal", "in_axis": (0,) * 5000}),
        (ValueError, "out_axis", {"scheme": "he_normal", "out_axis": tuple(range(5000))}),
        (ValueError, "batch_axis", {"scheme": "he_normal", "batch_axis": 10**4000}),
        (ValueError, "batch_axis", {"scheme": "he_normal", "batch_axis": 10**5000}),
        (TypeError, "in_axis", {"scheme": "he_normal", "in_axis": (1.5,) * 5000}),
        (TypeError, "scheme", {"scheme": LONG}),
        (ValueError, "scheme", {"scheme": "7" * 60_000}),
        (ValueError, "scheme", {"scheme": f"normal({'x' * 900})"}),
        (TypeError, "unknown", {"scheme": f"normal({'x' * 900}=1)"}),
        (TypeError, "seed", {"scheme": f"normal(std={'0' * 900}1.5)", "seed": None}),
    ],
)
def test_a_message_is_short_and_names_the_argument_however_long_that_is(error, argument, arguments):
    out = untouched(SHAPE, "float32")
    with pytest.raises(error) as caught:
        fill(out, **{"scheme": NORMAL, "seed": 1} | arguments)
    assert argument in str(caught.value)
    assert len(str(caught.value)) < 300
    assert (out == untouched(SHAPE, "float32")).all()


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (ValueError, {"rows": range(40), "shape": LONG}),
        (ValueError, {"rows": [0] * 5000, "shape": SHAPE}),
        (TypeError, {"rows": [1.5] * 5000, "shape": SHAPE}),
        (TypeError, {"rows": "7" * 5000, "shape": SHAPE}),
        (TypeError, {"rows": [[1, 2], [3]] * 5000, "shape": SHAPE}),
    ],
)
def test_a_message_about_rows_is_short_however_many_there_are(error, arguments):
    with pytest.raises(error) as caught:
        fill_rows(untouched(SHAPE, "float32"), scheme=NORMAL, seed=1, **arguments)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        (LONG, {"in_axis": 9999}),
        (LONG, {"in_axis": (0, 0)}),
        (LONG, {"in_axis": 0, "batch_axis": 0}),
        ((-1,) * 5000, {}),
        ((3,) * 5000, {}),
        ((10**400, 3), {}),
        ((10**5000, 3), {"in_axis": 7}),
        ((-(10**5000), 3), {}),
    ],
    ids=["out of range", "repeated", "batch", "negative", "fans", "10^400", "10^5000", "-10^5000"],
)
def test_a_message_about_fans_is_short_however_long_the_shape(shape, axes):
    with pytest.raises(ValueError, match=r"shape|axis") as caught:
        winit_fast.scheme("he_normal").distribution(shape, **axes)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("mode", "shape"),
    [
        *((mode, (10**400, 10**400)) for mode in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")),
        ("fan_in", (10**400, 3)),
        ("fan_avg", (10**308, 10**308)),
        ("fan_geo_avg", (10**200, 10**200)),
    ],
    ids=["in", "out", "avg", "geo_avg", "in alone", "their sum", "their product"],
)
def test_fans_beyond_float64_are_refused(mode, shape):
    with pytest.raises(ValueError, match="shape must have fans within float64"):
        winit_fast.scheme("he_normal", mode=mode).distribution(shape)


def test_a_message_about_an_isa_is_short_however_long_its_name():
    message = python("-c", "import winit_fast", WINIT_FAST_ISA="x" * 5000).stderr.splitlines()[-1]
    assert message.startswith("ImportError: WINIT_FAST_ISA must be one of ")
    assert len(message) < 300


def test_bad_arguments_are_refused_for_empty_arrays_too():
    for extent in ((0,), (0, 3)):
        for arguments in (
            {"seed": -1},
            {"name": -1},
            {"threads": 0},
            {"shape": (1,) * 3},
            {"offset": (0,)},
            {"scheme": "uniform(2, 1)"},
        ):
            fill_refused(ValueError, extent=extent, **arguments)
    with pytest.raises(ValueError, match="read-only"):
        fill(np.broadcast_to(np.float32(0), (0,)), NORMAL, seed=1)


def test_no_argument_after_the_scheme_is_positional():
    out = untouched(SHAPE, "float32")
    refused(lambda: fill(out, NORMAL, 1), out, TypeError)
    refused(lambda: fill_rows(out, range(40), NORMAL, 1, shape=SHAPE), out, TypeError)
    refused(lambda: random_bits(out.view("u4"), 1), out, TypeError)


def test_the_sentinel_of_these_tests_is_no_number_that_fill_writes():
    assert (untouched((4,), "u1") == UNTOUCHED).all()
    assert not math.isnan(untouched((1,), "float32")[0])
    tables = itertools.chain.from_iterable(accepted(NORMAL, dtype).flat for dtype in DTYPES)
    assert all(value != untouched((1,), "float32")[0] for value in tables)


@pytest.mark.parametrize("dtype", ["V1", "V2"])
def test_a_dtype_that_lost_its_name_is_refused_with_the_cure(dtype):
    with pytest.raises(TypeError, match=r"out must be of a dtype with a name, got .*; import ml_dtypes, then view it"):
        fill(np.zeros(4, dtype), "normal", seed=1)


@pytest.mark.parametrize(
    ("given", "other"),
    [
        ({"in_axis": 1}, "out_axis"),
        ({"in_axis": -1}, "out_axis"),
        ({"in_axis": (0, 1)}, "out_axis"),
        ({"out_axis": 0}, "in_axis"),
        ({"out_axis": -2}, "in_axis"),
    ],
)
def test_one_axis_alone_is_refused_where_it_is_the_default_of_the_other(given, other):
    out = np.zeros((6, 4), np.float32)
    with pytest.raises(ValueError, match=f"{other} must be given with "):
        fill(out, "he_normal", seed=1, **given)
    assert not out.any()
    fill(out, "he_normal", seed=1, in_axis=0, out_axis=0)  # said outright it may be one axis
    fill(out, "he_normal", seed=1, in_axis=0)
    fill(out, "he_normal", seed=1, out_axis=1)


@pytest.mark.parametrize("verb", ["fill_rows", "fill_keys"])
def test_masked_rows_and_keys_are_refused(verb):
    out = np.zeros((3, 4), "float32")
    rows = np.ma.masked_array([1, 2, 3], [False, True, False])
    with pytest.raises(TypeError, match=r"must be integers along one axis, got a masked array.*compressed"):
        getattr(winit_fast, verb)(out, rows, "normal", seed=1, shape=(5, 4))
    assert not out.any()
