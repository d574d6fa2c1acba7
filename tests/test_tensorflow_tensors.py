"""adapters.tensorflow: the values of `fill`, in TensorFlow's own memory, whole or in parts."""

import gc
import json
import sys
import warnings
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from arrays import DTYPES, same
from processes import ON_TWO_CPUS, printed, python

import winit_fast
from winit_fast import adapters

tf = pytest.importorskip("tensorflow")
from tensorflow.python.trackable.base import ShardInfo  # noqa: E402

from winit_fast.adapters import tensorflow as adapter  # noqa: E402
from winit_fast.adapters._memory.tensorflow import make_tensor, tensor_of  # noqa: E402

pytestmark = pytest.mark.frameworks

init, init_, Initializer = adapters.tensorflow.init, adapters.tensorflow.init_, adapters.tensorflow.Initializer
CONNECTED = ["orthogonal", "sparse(0.5)"]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def filled(shape, scheme, dtype="float32", **arguments):
    return winit_fast.fill(np.empty(shape, DTYPES.get(dtype, dtype)), scheme, **({"seed": 7} | arguments))


def is_same(tensor, array):
    return same(np.array(tensor.numpy()), array)


def address(tensor):
    return np.asarray(tensor).ctypes.data


def zeros(shape, dtype="float32"):
    """A variable, of 8-bit floats too, which tf.zeros does not make."""
    return tf.Variable(init(shape, "zeros", dtype=dtype))


@pytest.fixture
def tiny_pieces(monkeypatch):
    monkeypatch.setattr("winit_fast.adapters._memory.tensorflow.PIECE", 64)


# Tensors


@pytest.mark.parametrize("dtype", [*DTYPES, "complex64", "complex128"])
@pytest.mark.parametrize("scheme", ["he_normal", "xavier_uniform", "zeros"])
def test_init_and_init_write_the_bits_of_fill_in_every_dtype(dtype, scheme, tiny_pieces):
    expected = filled((33, 65), scheme, dtype, name="layer.weight")
    tensor = init((33, 65), scheme, dtype=dtype, seed=7, name="layer.weight")
    assert tensor.dtype == tf.as_dtype(dtype)
    assert is_same(tensor, expected)
    variable = zeros((33, 65), dtype)
    assert init_(variable, scheme, seed=7, name="layer.weight") is variable
    assert is_same(variable, expected)


@pytest.mark.parametrize("scheme", CONNECTED)
def test_elements_that_hang_together_are_those_of_fill(scheme, tiny_pieces):
    assert is_same(init((24, 16), scheme, seed=7), filled((24, 16), scheme))
    assert is_same(init_(zeros((24, 16)), scheme, seed=7), filled((24, 16), scheme))


@pytest.mark.parametrize("shape", [(), (1,), (37,), (0,), (0, 3), (3, 0), (5, 1, 7), (3, 100), (2, 3, 40), (2,) * 8])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e5m2"])
def test_every_shape_is_filled(shape, dtype, tiny_pieces):
    expected = filled(shape, "normal", dtype)
    assert is_same(init(shape, "normal", dtype=dtype, seed=7), expected)
    assert is_same(init_(zeros(shape, dtype), "normal", seed=7), expected)


def test_of_more_than_8_axes_whole_rows_are_written_and_parts_of_rows_refused_before_anything_is(monkeypatch):
    shape = (3,) + (2,) * 8
    assert is_same(init_(zeros(shape), "normal", seed=7), filled(shape, "normal"))
    monkeypatch.setattr("winit_fast.adapters._memory.tensorflow.PIECE", 64)
    variable = zeros(shape)
    with pytest.raises(tf.errors.UnimplementedError, match="9"):
        init_(variable, "normal", seed=7)
    assert not variable.numpy().any()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (5, (5,)),
        (np.int64(5), (5,)),
        ([2, 3], (2, 3)),
        (tf.TensorShape([2, 3]), (2, 3)),
        (tf.constant([2, 3]), (2, 3)),
        (np.array([2, 3]), (2, 3)),
        (tf.constant(5), (5,)),
    ],
)
def test_init_takes_any_shape_that_is_known(shape, expected):
    assert init(shape, "normal", seed=0).shape == expected


def test_init_is_float32_by_default_and_takes_what_tensorflow_takes_for_a_dtype():
    assert init(3, "ones").dtype == tf.float32
    assert {init(3, "ones", dtype=dtype).dtype for dtype in (tf.float16, "float16", np.float16)} == {tf.float16}


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((200, 50), {"in_axis": 1, "out_axis": 0}),
        ((8, 200, 50), {"batch_axis": 0}),
        ((8, 25, 50), {"in_axis": (0, 1), "out_axis": 2}),
        ((3, 3, 16, 32), {}),
        ((64, 96), {"matrices": 4}),
        ((64, 96), {"matrices": (2, 0)}),
    ],
)
def test_axes_rows_of_padding_and_threads_are_those_of_fill(shape, axes):
    expected = filled(shape, "he_normal", padding_idx=-1, **axes)
    assert is_same(init(shape, "he_normal", seed=7, padding_idx=-1, threads=2, **axes), expected)
    assert is_same(init_(zeros(shape), "he_normal", seed=7, padding_idx=-1, threads=2, **axes), expected)
    assert not (expected[:, -1] if axes.get("batch_axis") == 0 else expected[-1]).any()
    initializer = Initializer("he_normal", seed=7, padding_idx=-1, **axes)
    again = Initializer.from_config(json.loads(json.dumps(initializer.get_config())))
    assert is_same(initializer(shape), expected)
    assert is_same(again(shape), expected)


def test_init_fills_a_part_of_a_larger_tensor(tiny_pieces):
    whole = filled((100, 16), "he_normal", padding_idx=70)
    part = init_(zeros((20, 8)), "he_normal", seed=7, shape=(100, 16), offset=(60, 8), padding_idx=70)
    assert is_same(part, whole[60:80, 8:].copy())
    first = init_(zeros((20, 8)), "he_normal", seed=7, shape=(100, 16), offset=(0, 0))
    assert is_same(first, whole[:20, :8].copy())
    assert is_same(init_(zeros((5, 4)), "he_normal", seed=7, shape=(5, 4)), filled((5, 4), "he_normal"))


# Memory


@pytest.mark.parametrize("dtype", [*DTYPES, "complex64", "complex128"])
def test_a_variable_takes_over_the_memory_of_what_init_makes_and_is_updated_there(dtype):
    tensor = init((64, 64), "he_normal", dtype=dtype, seed=7)
    place = address(tensor)
    variable = tf.Variable(tensor)
    del tensor
    gc.collect()
    assert address(variable.value()) == place
    if not dtype.startswith("float8"):  # which TensorFlow does not add
        variable.assign_add(init((64, 64), "ones", dtype=dtype))
        assert address(variable.value()) == place


@pytest.mark.parametrize("dtype", [*DTYPES, "complex64"])
@pytest.mark.parametrize("shape", [(64, 64), (500,), (3, 400)])
def test_init_leaves_a_variable_where_it_was_and_read_without_copies(dtype, shape, tiny_pieces):
    variable = zeros(shape, dtype)
    place = address(variable.value())
    init_(variable, "constant(0.5)")
    assert address(variable.value()) == place
    assert address(variable.value()) == place
    assert (np.asarray(variable.value()) == 0.5).all()


def test_a_tensor_that_was_read_from_a_variable_keeps_its_values(tiny_pieces):
    variable = zeros((64, 4))
    before = variable.value()
    init_(variable, "ones")
    assert not before.numpy().any()
    assert (variable.numpy() == 1).all()


MEASURE = """
import tensorflow as tf
from winit_fast import adapters
init, init_ = adapters.tensorflow.init, adapters.tensorflow.init_
arguments = {"scheme": "truncated_normal", "seed": 1}
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
def variable(shape):
    return tf.Variable(init(shape, dtype=DTYPE, **arguments))
def function(shape):
    return tf.function(lambda: init(shape, dtype=DTYPE, **arguments))()
def in_place(shape):
    made = tf.Variable(init(shape, "zeros", dtype=DTYPE))
    return init_(init_(made, **arguments), **arguments)
for make in MAKE:
    make((8, 8))
before = peak()
for make in MAKE:
    held = make(SHAPE)
    print(peak() - before)
    del held
"""


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
@pytest.mark.parametrize(
    ("make", "shape", "dtype"),
    [  # TensorFlow keeps memory that it freed, and not all that is needed next finds room there: a process each
        ("variable, function", (1 << 20, 128), "float32"),
        ("in_place,", (1 << 21, 128), "bfloat16"),
        ("in_place,", (4, 1 << 25), "float32"),
    ],
)
def test_peak_memory_is_the_tensor_and_64_mib(make, shape, dtype):
    code = MEASURE.replace("MAKE", f"({make})").replace("SHAPE", repr(shape)).replace("DTYPE", repr(dtype))
    for line in printed(ON_TWO_CPUS + code, WINIT_FAST_THREADS="2", **QUIET).splitlines():
        assert 512 * 0.9 < int(line) / 1024 <= 512 + 64


# Seeds


@pytest.mark.parametrize("make", [lambda: init(8, "normal"), lambda: init_(zeros(8), "normal")])
def test_no_seed_is_a_draw_that_set_seed_governs(make):
    make()
    tf.random.set_seed(5)
    first, second = make().numpy(), make().numpy()
    tf.random.set_seed(5)
    np.testing.assert_array_equal(make().numpy(), first)
    np.testing.assert_array_equal(make().numpy(), second)
    tf.random.set_seed(6)
    third = make().numpy()
    assert not (first == second).any()
    assert not (first == third).any()


def test_no_seed_is_one_draw_whatever_the_size():
    tf.random.set_seed(5)
    init(3, "normal")
    second = init(3, "normal").numpy()
    tf.random.set_seed(5)
    init((300, 200), "normal")
    np.testing.assert_array_equal(init(3, "normal").numpy(), second)


def test_keras_set_random_seed_governs_it_too():
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(5)
    first = init(8, "normal").numpy()
    keras.utils.set_random_seed(5)
    np.testing.assert_array_equal(init(8, "normal").numpy(), first)


def test_no_seed_is_fresh_entropy_where_none_was_set():
    values = set()
    for _ in range(2):
        tf.random.set_seed(None)
        values |= {float(init((), "normal").numpy()) for _ in range(2)}
    assert len(values) == 4


def test_both_halves_of_a_drawn_seed_vary():
    tf.random.set_seed(5)
    seeds = [adapter._draw_seed() for _ in range(200)]
    assert len({seed >> 32 for seed in seeds}) == len({seed % (1 << 32) for seed in seeds}) == 200
    assert all(0 <= seed < 1 << 64 for seed in seeds)
    ones = sum(seed.bit_count() for seed in seeds)
    assert abs(ones - 6400) < 5 * (200 * 64 / 4) ** 0.5  # 12,800 fair bits


@pytest.mark.parametrize("seed", [0, 2**64 - 1, np.uint64(2**64 - 1), np.int32(5)])
def test_an_integer_seed_is_the_seed_itself(seed):
    assert is_same(init(8, "normal", seed=seed), filled(8, "normal", seed=int(seed)))


def test_two_tensors_without_names_and_of_one_seed_are_warned_of_and_one_that_is_filled_again_is_not():
    variable, initializer = zeros((11, 3)), Initializer("normal", seed=9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            init_(variable, "normal", seed=8)
            init((11, 3), "normal", seed=8, name="w")
            tf.function(lambda: init((12, 3), "normal", seed=8))()
        kept = initializer((13, 3))  # or the next one may stand in its memory
    for again in (
        lambda: init_(zeros((11, 3)), "normal", seed=8), lambda: (init((14, 3), "normal", seed=8), initializer((13, 3)))
    ):  # fmt: skip
        with pytest.warns(winit_fast.RepeatedValuesWarning, match="give each parameter its name="):
            again()
    assert kept.shape == (13, 3)


# Inside of tf.function


def test_init_works_inside_of_a_function_and_its_shape_is_known():
    @tf.function
    def make():
        made = init((5, 3), "he_normal", dtype=tf.bfloat16, seed=7, name="w")
        assert made.shape == (5, 3)
        assert made.dtype == tf.bfloat16
        return made, made + made

    made, sum_ = make()
    expected = filled((5, 3), "he_normal", "bfloat16", name="w")
    assert is_same(made, expected)
    assert is_same(sum_, expected + expected)


def test_a_function_draws_whenever_it_runs_and_set_seed_governs_it():
    make = tf.function(lambda: init(8, "normal"))
    make()
    tf.random.set_seed(5)
    first, second = make().numpy(), make().numpy()
    tf.random.set_seed(5)
    np.testing.assert_array_equal(make().numpy(), first)
    assert not (first == second).any()


def test_a_function_that_makes_a_variable_initializes_it():
    held = []

    @tf.function
    def read():
        if not held:
            held.append(tf.Variable(lambda: init((4, 4), "normal", seed=7)))
        return held[0] * 1

    assert is_same(read(), filled((4, 4), "normal"))
    assert is_same(read(), filled((4, 4), "normal"))


def test_a_graph_of_tensorflow_1_runs_init():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        assert same(session.run(init((5, 3), "normal", seed=7)), filled((5, 3), "normal"))


def test_what_a_function_cannot_know_or_do_is_refused_while_it_is_traced():
    def traced(function, *signature):
        return tf.function(function).get_concrete_function(*signature)

    vector = tf.TensorSpec(None, tf.float32)
    rows = tf.TensorSpec([None, 3], tf.float32)
    variable = zeros((2, 2))
    with pytest.raises(TypeError, match="shape must be known"):
        traced(lambda x: init(tf.shape(x), "normal", seed=0), rows)
    with pytest.raises(TypeError, match="shape must be known"):
        traced(lambda x: init(x.shape, "normal", seed=0), vector)
    with pytest.raises(TypeError, match="shape must be known"):
        traced(lambda x: init(x.shape, "normal", seed=0), rows)
    with pytest.raises(TypeError, match="shape must be known"):
        init(tf.TensorShape([None, 2]), "normal", seed=0)
    with pytest.raises(TypeError, match=r"shape\[0\] must be an int"):
        traced(lambda x: init((tf.shape(x)[0], 3), "normal", seed=0), rows)
    with pytest.raises(ValueError, match="he_nrmal"):
        traced(lambda: init(3, "he_nrmal"))
    with pytest.raises(RuntimeError, match="outside of"):
        traced(lambda: init_(variable, "ones"))
    assert not variable.numpy().any()


# What is refused


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, "seed", {"seed": -1}),
        (ValueError, "seed", {"seed": 2**64}),
        (TypeError, "seed", {"seed": 1.5}),
        (TypeError, "seed", {"seed": True}),
        (TypeError, "name", {"name": None}),
        (ValueError, "he_nrmal", {"scheme": "he_nrmal"}),
        (TypeError, "scheme", {"scheme": 3}),
        (ValueError, "in_axis", {"in_axis": 7}),
        (ValueError, "in_axis must be given", {"out_axis": 0}),
        (ValueError, "padding_idx", {"padding_idx": 4}),
        (ValueError, "threads", {"threads": 0}),
        (ValueError, "shape must be given with offset", {"offset": (0, 0)}),
        (ValueError, "offset must be given where variable is smaller than shape", {"shape": (8, 4)}),
        (ValueError, "matrices must divide axis 1", {"matrices": 3}),
        (ValueError, "variable must lie within shape", {"shape": (8, 8), "offset": (5, 0)}),
        (ValueError, "variable, shape and offset must have as many axes", {"shape": (4, 4, 4)}),
        (ValueError, "variable, shape and offset must have as many axes", {"shape": (4, 4), "offset": (0,)}),
        (ValueError, "shape must not be negative", {"shape": (4, -4)}),
    ],
)
def test_bad_arguments_raise_before_a_byte_is_written_or_a_seed_is_drawn(error, match, arguments, tiny_pieces):
    variable = tf.Variable(tf.fill((4, 4), 9.0))
    tf.random.set_seed(5)
    with pytest.raises(error, match=match):
        init_(variable, **({"scheme": "he_normal"} | arguments))
    assert (variable.numpy() == 9).all()
    if not {"shape", "offset"} & set(arguments):
        with pytest.raises(error, match=match):
            init((4, 4), **({"scheme": "he_normal"} | arguments))
    drawn = init(3, "normal").numpy()
    tf.random.set_seed(5)
    np.testing.assert_array_equal(init(3, "normal").numpy(), drawn)


def test_what_is_no_variable_or_no_float_is_refused():
    for wrong in (tf.zeros(3), np.zeros(3), [1.0], tf.Module(), None):
        with pytest.raises(TypeError, match=r"variable must be a tf\.Variable"):
            init_(wrong, "ones")
    with pytest.raises(TypeError, match=r"variable must be of dtype .*bfloat16.*, got int32"):
        init_(tf.Variable([1, 2]), "normal")
    with pytest.raises(TypeError, match=r"dtype must be .*bfloat16.*, got int32"):
        init(3, "normal", dtype=tf.int32)
    with pytest.raises(TypeError, match=r"dtype must be .*bfloat16.*, got string"):
        init(3, "ones", dtype=tf.string)
    with pytest.raises(ValueError, match="complex"):
        init((3, 3), "uniform", dtype=tf.complex64, seed=0)
    with pytest.raises(ValueError, match="negative"):
        init((2, -1), "normal", seed=0)
    with pytest.raises(ValueError, match="known shape"):
        init_(tf.Variable(tf.zeros(3), shape=tf.TensorShape([None])), "ones")


def test_import_brings_no_framework_that_tensorflow_does_not_import_itself():
    code = """
import sys
def frameworks():
    return {"torch", "jax", "keras", "flax", "equinox"} & {*sys.modules}
import tensorflow
before = frameworks()
import winit_fast.adapters.tensorflow
print(frameworks() == before)
"""
    assert printed(code, **QUIET) == "True\n"


# Keras


def test_variables_of_keras_are_filled_in_place(tiny_pieces):
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras has another backend")
    layer = keras.layers.Dense(8)
    layer.build((None, 16))
    assert init_(layer.kernel, "he_normal", seed=7) is layer.kernel
    np.testing.assert_array_equal(layer.get_weights()[0], filled((16, 8), "he_normal"))


# Handing memory over


def test_an_array_becomes_a_tensor_without_a_copy():
    for dtype in ["float64", "float32", "float16", "bfloat16", "complex64", "complex128"]:
        array = winit_fast.fill(winit_fast.empty((9, 5), dtype), "xavier_normal", seed=7)
        tensor = tensor_of(array)
        assert tensor.dtype == tf.as_dtype(dtype)
        assert address(tensor) == array.ctypes.data
        assert is_same(tensor, array)
    eights = winit_fast.fill(winit_fast.empty(64, "float8_e5m2"), "normal", seed=7)
    assert is_same(tensor_of(eights), eights)  # a copy
    assert tensor_of(winit_fast.empty((0, 3), "bfloat16")).shape == (0, 3)
    assert tensor_of(winit_fast.fill(winit_fast.empty(()), "ones")).numpy() == 1


def test_a_tensor_keeps_the_memory_that_it_took_over():
    tensor = tensor_of(winit_fast.fill(winit_fast.empty((300, 300)), "normal", seed=7))
    gc.collect()
    others = [winit_fast.fill(winit_fast.empty((300, 300)), "zeros") for _ in range(4)]
    assert is_same(tensor, filled((300, 300), "normal"))
    assert len(others) == 4


@pytest.mark.parametrize("skipped", [4, 16, 32])
def test_memory_that_would_end_the_process_is_refused(skipped):
    memory = winit_fast.empty(1024, "uint8")
    with pytest.raises(ValueError, match="multiple of 64"):
        tensor_of(memory[skipped : skipped + 64].view("float32"))


def test_arrays_that_tensorflow_would_read_wrongly_are_refused():
    array = winit_fast.empty((16, 16))
    with pytest.raises(ValueError, match="C-contiguous"):
        tensor_of(array.T)
    array.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        tensor_of(array)


def test_an_error_while_memory_is_filled_comes_through():
    def write(array):
        assert array.flags.c_contiguous
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_tensor((3, 3), tf.float32, write)


# Initializer


def parts_of(initializer, shape, cuts, dtype=None):
    """A table cut into slices of rows, as TensorFlow asks for them."""
    edges = [0, *cuts, shape[0]]
    return [
        initializer(
            shape, dtype, partition_shape=(last - first, *shape[1:]), partition_offset=(first, *(0,) * (len(shape) - 1))
        ).numpy()
        for first, last in pairwise(edges)
    ]


@pytest.mark.parametrize("scheme", ["he_normal", "uniform", *CONNECTED])
@pytest.mark.parametrize("seed", [7, None])
def test_parts_make_up_the_whole(scheme, seed):
    initializer = Initializer(scheme, seed=seed, name="user_id", padding_idx=3)
    tf.random.set_seed(5)
    whole = initializer((40, 6)).numpy()
    tf.random.set_seed(5)
    np.testing.assert_array_equal(np.concatenate(parts_of(initializer, (40, 6), [13, 20])), whole)
    if seed is not None:
        assert same(whole, filled((40, 6), scheme, name="user_id", padding_idx=3))


def test_shard_info_is_a_partition():
    initializer = Initializer("he_normal", seed=7)
    expected = filled((40, 6), "he_normal")[30:]
    for info in (ShardInfo(tf.TensorShape([10, 6]), [30, 0]), ShardInfo((10, 6), (30, 0))):
        assert is_same(initializer(shape=(40, 6), dtype=tf.float32, shard_info=info), expected)


def test_tables_that_share_an_unseeded_initializer_differ_and_their_parts_belong_together():
    initializer = Initializer("normal")
    first = np.concatenate(parts_of(initializer, (40, 6), [13, 20]))
    second = np.concatenate(parts_of(initializer, (40, 6), [10, 20, 30]))
    seed = initializer.seed
    assert seed is None
    assert not (first == second).any()
    assert len(np.unique(np.concatenate([first, second]))) > 470  # of 480: float32 values seldom meet
    assert not (initializer((40, 6)).numpy() == initializer((40, 6)).numpy()).any()
    assert not adapters.tensorflow._EAGER[initializer]  # nothing is left of what is complete


def test_tables_of_one_shape_by_turns_share_no_values():
    initializer = Initializer("orthogonal")
    tables = [[], []]
    for first in (0, 16):
        for table in tables:
            part = initializer((32, 8), partition_shape=(16, 8), partition_offset=(first, 0)).numpy()
            table.append(part)
    one, other = map(np.concatenate, tables)
    assert not (one == other).any()
    for table in (one, other):  # each is one matrix, not a mixture
        np.testing.assert_allclose(table.T @ table, np.eye(8), atol=1e-6)


def test_initializers_with_another_name_differ_and_with_the_same_one_do_not():
    user, item, again = (Initializer("normal", seed=7, name=name) for name in ("user", "item", "user"))
    assert not (user((4, 4)).numpy() == item((4, 4)).numpy()).any()
    np.testing.assert_array_equal(user((4, 4)).numpy(), again((4, 4)).numpy())


def test_an_initializer_makes_the_dtype_asked_for_and_float32_by_default():
    initializer = Initializer("he_normal", seed=7)
    assert initializer((4, 4)).dtype == tf.float32
    assert is_same(initializer((4, 4), "bfloat16"), filled((4, 4), "he_normal", "bfloat16"))


def test_an_initializer_is_made_again_of_its_config():
    initializer = Initializer(
        winit_fast.scheme("he_normal", gain=1.0), seed=2**64 - 1, name="w", in_axis=(0, 1), out_axis=2, padding_idx=1
    )
    again = Initializer.from_config(json.loads(json.dumps(initializer.get_config())))
    np.testing.assert_array_equal(again((3, 4, 5)).numpy(), initializer((3, 4, 5)).numpy())
    assert Initializer.from_config(Initializer("normal").get_config()).seed is None


def test_an_initializer_is_shown_by_its_scheme_seed_and_name():
    assert repr(Initializer("kaiming_normal", seed=7, name="w")) == "Initializer('he_normal', seed=7, name='w')"


def test_an_initializer_works_inside_of_a_function():
    initializer = Initializer("normal")
    tf.random.set_seed(5)
    expected = initializer((40, 6)).numpy()

    @tf.function
    def make():
        return [initializer((40, 6), partition_shape=(20, 6), partition_offset=(first, 0)) for first in (0, 20)]

    tf.random.set_seed(5)
    np.testing.assert_array_equal(np.concatenate([part.numpy() for part in make()]), expected)


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, "given together", {"partition_shape": (2, 6)}),
        (ValueError, "given together", {"partition_offset": (2, 0)}),
        (ValueError, "within shape", {"partition_shape": (20, 6), "partition_offset": (30, 0)}),
        (ValueError, "partition_shape, shape and", {"partition_shape": (20,), "partition_offset": (30,)}),
        (TypeError, r"partition_shape\[0\]", {"partition_shape": (None, 6), "partition_offset": (30, 0)}),
        (TypeError, "dtype must be", {"dtype": tf.int32}),
        (TypeError, "dtype must be .*bfloat16.*, got 'bf16'", {"dtype": "bf16"}),
        (
            ValueError,
            "shard_info must be left out",
            {"shard_info": ShardInfo((2, 6), (0, 0)), "partition_shape": (2, 6)},
        ),
    ],
)
def test_bad_arguments_of_an_initializer_are_refused_and_draw_nothing(error, match, arguments):
    initializer = Initializer("normal")
    tf.random.set_seed(5)
    with pytest.raises(error, match=match):
        initializer((40, 6), **arguments)
    drawn = initializer((40, 6)).numpy()
    tf.random.set_seed(5)
    np.testing.assert_array_equal(initializer((40, 6)).numpy(), drawn)


def test_what_an_initializer_can_never_use_is_refused_at_once():
    for error, arguments in [
        (ValueError, {"scheme": "he_nrmal"}), (ValueError, {"seed": -1}), (TypeError, {"seed": 1.5}),
        (TypeError, {"name": None}),
    ]:  # fmt: skip
        with pytest.raises(error):
            Initializer(**({"scheme": "normal"} | arguments))


def test_tensorflow_finds_shard_info_in_every_way_it_looks():
    from tensorflow.python.util import tf_inspect

    initializer = Initializer("normal", seed=7)
    for given in (initializer, partial(initializer, (10, 4)), partial(initializer, shape=(10, 4), dtype="float32")):
        names = tf_inspect.getfullargspec(given)
        assert "shard_info" in names.args + names.kwonlyargs
        assert "shard_info" in tf_inspect.getargspec(given).args


# Distributed


DISTRIBUTED = """
import os
from functools import partial
import numpy as np
import tensorflow as tf
import winit_fast
from winit_fast import adapters
from winit_fast.adapters._memory import tensorflow as memory
init, init_, Initializer = adapters.tensorflow.init, adapters.tensorflow.init_, adapters.tensorflow.Initializer
memory.PIECE = 64
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
def filled(shape, scheme, dtype="float32", **arguments):
    return winit_fast.fill(winit_fast.empty(shape, dtype), scheme, **({"seed": 7} | arguments))
def check(found, expected):
    assert found.dtype == expected.dtype, (found.dtype, expected.dtype)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    assert found.tobytes() == expected.tobytes()
"""

MIRRORED = """
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    variable = tf.Variable(tf.zeros((33, 5)))
    from_init = tf.Variable(init((33, 5), "he_normal", seed=7))
    from_initializer = tf.Variable(partial(Initializer("normal"), (33, 5), dtype=tf.bfloat16))
    counter = tf.Variable(
        tf.zeros((33, 5)), synchronization=tf.VariableSynchronization.ON_READ, aggregation=tf.VariableAggregation.MEAN
    )
assert init_(variable, "he_normal", seed=7) is variable
for each in (variable, from_init, init_(counter, "he_normal", seed=7)):
    assert len({copy.device for copy in each.values}) == 2
    for copy in each.values:
        check(copy.numpy(), filled((33, 5), "he_normal"))
init_(variable, "orthogonal")
for each in (variable, from_initializer):
    one, other = (copy.numpy() for copy in each.values)
    assert one.any()
    check(one, other)
strategy.run(lambda: init_(variable, "ones"))
assert all((copy.numpy() == 1).all() for copy in variable.values)
import keras
from winit_fast import adapters
with strategy.scope():
    of_keras = keras.Variable(np.zeros((33, 5), "float32"))
adapters.init_(of_keras, "he_normal", seed=7)
assert len(of_keras._value.values) == 2
for copy in of_keras._value.values:
    check(copy.numpy(), filled((33, 5), "he_normal"))
"""

PARAMETER_SERVERS = """
import socket
def address():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return "localhost:%d" % found.getsockname()[1]
cluster = tf.train.ClusterSpec({"worker": [address()], "ps": [address(), address()]})
servers = [
    tf.distribute.Server(cluster, job_name=job, task_index=task, protocol="grpc")
    for job, task in (("worker", 0), ("ps", 0), ("ps", 1))
]
resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, rpc_layer="grpc")
partitioner = tf.distribute.experimental.partitioners.FixedShardsPartitioner(2)
strategy = tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partitioner)
def variable(initializer, shape, dtype="float32"):
    kind = tf.as_dtype(dtype)
    with strategy.scope():
        return tf.Variable(partial(initializer, shape, dtype=kind), shape=shape, dtype=kind)
def joined(variable):
    assert len({shard.device for shard in variable.variables}) == 2
    return np.concatenate([shard.numpy() for shard in variable.variables])
for scheme in ("he_normal", "orthogonal"):
    for dtype in ("float32", "bfloat16"):
        table = variable(Initializer(scheme, seed=7, name="user_id"), (33, 5), dtype)
        check(joined(table), filled((33, 5), scheme, dtype, name="user_id"))
        assert init_(table, scheme, seed=8, padding_idx=20) is table
        check(joined(table), filled((33, 5), scheme, dtype, seed=8, padding_idx=20))
init_(table, "normal", seed=8, shape=(100, 7), offset=(40, 2))
check(joined(table), filled((100, 7), "normal", "bfloat16", seed=8)[40:73, 2:])
vector = variable(Initializer("normal", seed=7), (50,))
check(joined(vector), filled((50,), "normal"))
check(joined(init_(vector, "normal", seed=8)), filled((50,), "normal", seed=8))
scalar = variable(Initializer("normal", seed=7), ())
check(init_(scalar, "normal", seed=8).numpy(), filled((), "normal", seed=8)[()])
unseeded = Initializer("normal")
tf.random.set_seed(5)
tables = [joined(variable(unseeded, (33, 5))) for _ in range(2)]
tf.random.set_seed(5)
for table in tables:
    check(table, init((33, 5), "normal").numpy())
assert not (tables[0] == tables[1]).any()
"""


@pytest.mark.parametrize(("how", "code"), [("mirrored", MIRRORED), ("parameter servers", PARAMETER_SERVERS)])
def test_variables_on_several_devices_and_servers_hold_the_unsharded_bits(how, code):
    # os._exit: servers of TensorFlow in this process have no end of their own.
    # Keras reads its backend when it is first imported, which TensorFlow may do.
    code = f"{DISTRIBUTED}{code}print('all of it', flush=True)\nos._exit(0)"
    done = python("-c", code, **QUIET, KERAS_BACKEND="tensorflow")
    assert done.stdout.endswith("all of it\n"), done.stderr
