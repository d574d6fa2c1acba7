"""adapters.numpy: the same values as `fill`, in an array of its own or the caller's."""

import contextlib

import numpy as np
import pytest

import winit_fast
from winit_fast import adapters

init, init_ = adapters.numpy.init, adapters.numpy.init_


def filled(shape, scheme, dtype=np.float32, **arguments):
    return winit_fast.fill(np.empty(shape, dtype), scheme, **arguments)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("scheme", ["he_normal", "uniform(low=-1)", "truncated_normal(std=0.02)", "zeros"])
def test_init_gives_the_values_of_fill(scheme, dtype):
    weights = init((33, 65), scheme, dtype=dtype, seed=7, name="layer1.weight")
    np.testing.assert_array_equal(weights, filled((33, 65), scheme, dtype, seed=7, name="layer1.weight"))
    assert weights.dtype == dtype


def test_init_gives_bfloat16_rounded_once():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    weights = init((64, 64), "he_normal", dtype=bfloat16, seed=7)
    np.testing.assert_array_equal(weights, init((64, 64), "he_normal", seed=7).astype(bfloat16))


def test_init_gives_aligned_contiguous_float32_by_default():
    weights = init((3, 5), "normal", seed=0)
    assert weights.dtype == np.float32
    assert weights.flags.c_contiguous
    assert weights.flags.writeable
    assert weights.ctypes.data % 64 == 0


@pytest.mark.parametrize(("shape", "expected"), [(5, (5,)), ((), ()), ((0, 3), (0, 3)), ([2, 3], (2, 3))])
def test_init_takes_any_shape(shape, expected):
    assert init(shape, "normal", seed=0).shape == expected


def test_init_takes_a_scheme_object():
    scheme = winit_fast.scheme("he_normal", gain=1.0)
    np.testing.assert_array_equal(init((8, 4), scheme, seed=1), init((8, 4), "he_normal(gain=1.0)", seed=1))


def test_init_fills_in_place_and_returns_the_array():
    array = np.empty((40, 30), np.float32).T[::-2]
    assert init_(array, "he_normal", seed=3) is array
    np.testing.assert_array_equal(array, init(array.shape, "he_normal", seed=3))


def test_init_fills_a_part_of_a_larger_tensor():
    table = init((100, 16), "he_normal", seed=7, name="user_id")
    part = init_(np.empty((20, 8), np.float32), "he_normal", seed=7, name="user_id", shape=(100, 16), offset=(60, 8))
    np.testing.assert_array_equal(part, table[60:80, 8:])


@pytest.mark.parametrize(
    ("shape", "axes", "fan_in"),
    [
        ((200, 50), {}, 200),
        ((3, 3, 16, 32), {}, 144),
        ((200, 50), {"in_axis": 1, "out_axis": 0}, 50),
        ((8, 200, 50), {"batch_axis": 0}, 200),
        ((8, 25, 50), {"in_axis": (0, 1), "out_axis": 2}, 200),
    ],
)
def test_axes_say_what_the_fans_are_and_the_last_two_are_in_and_out_by_default(shape, axes, fan_in):
    expected = init(shape, f"normal(std={(2 / fan_in) ** 0.5!r})", seed=5)
    np.testing.assert_allclose(init(shape, "he_normal", seed=5, **axes), expected, rtol=1e-6)
    np.testing.assert_allclose(init_(np.empty(shape, "f4"), "he_normal", seed=5, **axes), expected, rtol=1e-6)


def test_the_number_of_threads_changes_nothing():
    one = init((700, 900), "normal", seed=2, threads=1)
    np.testing.assert_array_equal(one, init((700, 900), "normal", seed=2, threads=3))


def test_no_seed_is_fresh_entropy_in_every_call():
    np.random.seed(0)  # the global state has no say
    first = init(8, "normal")
    np.random.seed(0)
    assert not np.array_equal(first, init(8, "normal"))
    assert not np.array_equal(first, init_(np.empty(8, "f4"), "normal"))


def test_no_seed_is_needed_where_nothing_is_drawn():
    np.testing.assert_array_equal(init((2, 2), "ones"), [[1, 1], [1, 1]])


@pytest.mark.parametrize("seed", [0, 2**64 - 1, np.uint64(2**64 - 1), np.int32(5)])
def test_an_integer_seed_is_the_seed_itself(seed):
    np.testing.assert_array_equal(init(8, "normal", seed=seed), filled(8, "normal", seed=int(seed)))


def test_a_generator_supplies_one_64_bit_draw_a_call():
    generator, twin = np.random.default_rng(11), np.random.default_rng(11)
    for _ in range(2):
        drawn = int(twin.integers(2**64, dtype=np.uint64))
        np.testing.assert_array_equal(init(8, "normal", seed=generator), filled(8, "normal", seed=drawn))
    assert generator.bit_generator.state == twin.bit_generator.state


def test_a_seed_sequence_supplies_its_first_64_bit_word():
    sequence = np.random.SeedSequence(11)
    word = int(np.random.SeedSequence(11).generate_state(1, np.uint64)[0])
    for _ in range(2):
        np.testing.assert_array_equal(init(8, "normal", seed=sequence), filled(8, "normal", seed=word))
    first, second = sequence.spawn(2)
    assert not np.array_equal(init(8, "normal", seed=first), init(8, "normal", seed=second))


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, "seed", {"seed": -1}),
        (ValueError, "seed", {"seed": 2**64}),
        (TypeError, "seed", {"seed": 1.5}),
        (TypeError, "seed", {"seed": True}),
        (TypeError, "seed", {"seed": np.random.PCG64(1)}),
        (TypeError, "name", {"name": None}),
        (ValueError, "he_nrmal", {"scheme": "he_nrmal"}),
        (ValueError, "in_axis", {"in_axis": 7}),
        (ValueError, "threads", {"threads": 0}),
        (ValueError, "offset", {"offset": (0, 0)}),
    ],
)
def test_bad_arguments_raise_before_a_byte_is_written(error, match, arguments):
    array = np.full((4, 4), 9, np.float32)
    with pytest.raises(error, match=match):
        init_(array, **({"scheme": "he_normal", "seed": 0} | arguments))
    assert (array == 9).all()


@pytest.mark.parametrize(
    "seed", [np.random.RandomState(0), np.random.PCG64(0), "7", 1.5], ids=lambda seed: type(seed).__name__
)
def test_what_is_no_seed_is_refused_with_all_that_is_one(seed):
    with pytest.raises(TypeError) as caught:
        init(3, "normal", seed=seed)
    message = str(caught.value)
    assert message.startswith("seed must be ")
    assert all(kind in message for kind in ("int", "Generator", "SeedSequence", "None"))


def test_what_is_no_float_array_is_refused():
    with pytest.raises(TypeError, match="NumPy array, got list"):
        init_([0.0], "normal", seed=0)
    with pytest.raises(TypeError, match="int64"):
        init_(np.empty(3, "int64"), "normal", seed=0)
    with pytest.raises(TypeError, match="int64"):
        init(3, "normal", dtype="int64", seed=0)
    with pytest.raises(ValueError, match="negative"):
        init((2, -1), "normal", seed=0)


@pytest.mark.parametrize(
    "call", ["zeros", "ones", "constant(0.5)", "identity", "normal(std=0)", "nrmal", "normal(1e39)"]
)
def test_what_draws_nothing_or_is_refused_takes_no_draw(call):
    generator, untouched = np.random.default_rng(0), np.random.default_rng(0)
    with contextlib.suppress(ValueError):
        adapters.numpy.init((3, 3), call, seed=generator)
    assert generator.random() == untouched.random()
