"""`fill_keys`: a row for any 64-bit number, each a tensor of its own."""

import math
import tracemalloc
from collections import UserList, deque
from importlib import import_module
from unittest import mock

import numpy as np
import pytest
import reference
from arrays import DTYPES, placed, same, untouched
from hypothesis import given, settings
from hypothesis import strategies as st

from winit_fast import dispatch, fill, fill_keys, fill_rows, random_bits
from winit_fast.dispatch import usable_isas

engine = import_module("winit_fast.fill")

SCHEMES = [
    "normal(std=0.02)", "uniform(-1, 3)", "truncated_normal", "truncated_normal(low=-1, high=3)",
    "truncated_normal(low=10, high=12)", "uniform(0, 1, rounding='below_high')", "constant(0.5)", "zeros",
]  # fmt: skip
keys_of_any_size = st.lists(
    st.one_of(st.integers(-(2**63), 2**64 - 1), st.sampled_from([0, -1, 2**63, -(2**63), 2**64 - 1])), max_size=12
)


def table_seed(seed, name):
    low, high = random_bits(np.empty(2, "uint32"), seed=seed, name=name, offset=2**66 - 2).tolist()
    return low + (high << 32)


def row_by_row(shape, dtype, keys, scheme, seed, name):
    """The definition: each row is a tensor with its key for a name."""
    rows = [
        fill(untouched(shape, dtype), scheme, seed=table_seed(seed, name), name=key % 2**64, threads=1) for key in keys
    ]
    return np.stack(rows) if rows else np.empty((0, *shape), dtype)


@settings(max_examples=300, deadline=None)
@given(
    st.data(), keys_of_any_size, st.sampled_from(SCHEMES), st.sampled_from(sorted(DTYPES)),
    st.sampled_from(
        [(), (1,), (16,), (31,), (33,), (64,), (96,), (128,), (300,), (3, 5), (2, 3, 40), (2, 64), (0,)]
    ),
    st.sampled_from(usable_isas()), st.sampled_from([None, 1, 3]),
)  # fmt: skip
def test_each_row_is_a_tensor_with_its_key_for_a_name(data, keys, scheme, dtype, shape, isa, threads):
    expected = row_by_row(shape, DTYPES[dtype], keys, scheme, 11, "table")
    place = data.draw(placed((len(keys), *shape), DTYPES[dtype]))
    with mock.patch.object(dispatch, "kernels", import_module(f"winit_fast._kernels_{isa}")):
        assert fill_keys(place.view, keys, scheme, seed=11, name="table", threads=threads) is place.view
    assert same(place.view, expected)
    assert place.is_untouched_outside()


@pytest.mark.parametrize("isa", usable_isas())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scheme", SCHEMES[:4])
def test_rows_have_the_bits_of_the_reference(isa, dtype, scheme):
    keys = [0, 5, -1, 2**63 + 12345]
    low, high = reference.words(7, reference.stream_of("users"), np.array([2**66 - 2, 2**66 - 1], object)).tolist()
    with mock.patch.object(dispatch, "kernels", import_module(f"winit_fast._kernels_{isa}")):
        out = fill_keys(np.empty((4, 77), dtype), keys, scheme, seed=7, name="users")
    for row, key in zip(out, keys, strict=True):
        expected = reference.values(
            scheme, dtype, seed=low + (high << 32), name=key % 2**64, shape=(77,), index=np.arange(77)
        )
        assert same(row, expected)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_rows_of_complex_numbers_are_tensors_too(dtype):
    keys = [3, -3, 2**64 - 1]
    out = fill_keys(np.empty((3, 21), dtype), keys, "normal", seed=1, name="t")
    assert same(out, row_by_row((21,), np.dtype(dtype), keys, "normal", 1, "t"))


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint32", "int64", "uint64", ">i8"])
def test_keys_of_every_integer_type_are_the_same_numbers(kind):
    numbers = [0, 7, 100] if kind.startswith("u") else [0, 7, -100]
    keys = np.array(numbers, kind)
    expected = fill_keys(np.empty((3, 8)), numbers, "normal", seed=1)
    assert same(fill_keys(np.empty((3, 8)), keys, "normal", seed=1), expected)
    assert same(fill_keys(np.empty((3, 8)), np.repeat(keys, 2)[::2], "normal", seed=1), expected)


def test_a_negative_key_is_its_cast_to_uint64():
    signed, unsigned = np.array([-5], "int64"), np.array([-5], "int64").view("uint64")
    first, second = (fill_keys(np.empty((1, 8)), keys, "normal", seed=1) for keys in (signed, unsigned))
    assert same(first, second)


@pytest.mark.parametrize("make", [deque, UserList, type("Keys", (list,), {}), tuple])
def test_keys_below_0_beside_keys_beyond_int64_may_stand_in_any_sequence(make):
    for keys in ([-1, 2**64 - 1], [2**63, -5, np.uint64(2**64 - 5)]):
        expected = fill_keys(untouched((len(keys), 8), "f8"), keys, "normal", seed=1)
        assert same(fill_keys(untouched((len(keys), 8), "f8"), make(keys), "normal", seed=1), expected)
        with pytest.raises(ValueError, match=r"keys\[1\] must be an int in \[-2\^63, 2\^64\)"):
            fill_keys(untouched((2, 8), "f8"), make([-1, 2**64]), "normal", seed=1)


def test_tables_of_other_names_and_seeds_have_other_rows_and_other_keys_too():
    tables = [
        fill_keys(np.empty((1000, 32)), np.arange(1000) * step + first, "normal", seed=seed, name=name)
        for seed, name, step, first in [(0, "a", 1, 0), (1, "a", 1, 0), (0, "b", 1, 0), (0, "a", 2**40, 1000)]
    ]
    tables.append(fill_rows(np.empty((1000, 32)), np.arange(1000), "normal", seed=0, name="a", shape=(1000, 32)))
    for k, first in enumerate(tables):
        assert abs(first.mean()) < 5 / math.sqrt(first.size)
        assert abs(first.std() - 1) < 5 / math.sqrt(2 * first.size)
        assert abs(np.corrcoef(first[:-1].ravel(), first[1:].ravel())[0, 1]) < 5 / math.sqrt(first.size)
        for second in tables[k + 1 :]:
            assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / math.sqrt(first.size)


def test_a_large_list_is_the_same_for_any_number_of_threads():
    keys = np.random.default_rng(0).integers(0, 2**64, 60_000, np.uint64)
    expected = fill_keys(np.empty((len(keys), 48), "float32"), keys, "normal", seed=1, name="t", threads=1)
    for threads in (2, 5):
        out = fill_keys(np.empty((len(keys), 48), "float32"), keys, "normal", seed=1, name="t", threads=threads)
        assert same(out, expected)


def test_a_scheme_that_scales_takes_the_shape_of_the_table():
    keys = np.arange(2000) * 2**50
    out = fill_keys(np.empty((2000, 64)), keys, "embedding_normal", seed=1, shape=(10**9, 64))
    assert out.std() == pytest.approx(1 / 8, rel=0.02)
    out = fill_keys(np.empty((2000, 64)), keys, "he_normal", seed=1, shape=(10**9, 64), in_axis=1, out_axis=0)
    assert out.std() == pytest.approx(math.sqrt(2 / 64), rel=0.02)


def test_the_row_of_the_padding_key_is_0():
    for padding in (-7, 2**64 - 7):
        out = fill_keys(np.empty((4, 3)), [1, -7, 2, 2**64 - 7], "normal", seed=1, padding_key=padding)
        assert (out == 0).all(axis=1).tolist() == [False, True, False, True]


def test_keys_that_share_memory_with_the_rows_are_read_before_they_are_written():
    memory = np.arange(12, dtype="int64")
    keys = memory[:4].copy()
    out = fill_keys(memory.view("float64").reshape(4, 3), memory[:4], "normal", seed=1)
    assert same(out, fill_keys(np.empty((4, 3)), keys, "normal", seed=1))


@pytest.mark.parametrize("dim", [256, 512, 1000, 4096])
@pytest.mark.parametrize("isa", usable_isas())
def test_long_rows_are_tensors_too(isa, dim):
    keys = [5, -9, 5, 2**63]
    for dtype in ("float32", "float64", "bfloat16"):
        with mock.patch.object(dispatch, "kernels", import_module(f"winit_fast._kernels_{isa}")):
            out = fill_keys(untouched((4, dim), DTYPES[dtype]), keys, "normal", seed=1, name="t")
        assert same(out, row_by_row((dim,), DTYPES[dtype], keys, "normal", 1, "t"))


def test_batches_of_any_length_are_prepared_once():
    fill_keys(np.empty((3, 5)), [1, 2, 3], "normal(std=0.123)", seed=1)
    before = engine._resolve.cache_info().misses
    for count in range(1, 50):
        fill_keys(np.empty((count, 5)), list(range(count)), "normal(std=0.123)", seed=1)
    assert engine._resolve.cache_info().misses == before


def test_the_padding_key_takes_no_memory_that_grows_with_the_list():
    keys = np.arange(3_000_000) % 7
    out = np.empty((len(keys), 1), "float8_e5m2")
    tracemalloc.start()
    fill_keys(out, keys, "normal", seed=1, padding_key=3, threads=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert ((out[:, 0] == 0) == (keys == 3)).all()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"keys": [1.0, 2.0]}, TypeError, "keys[0] must be an int in [-2^63, 2^64), got 1.0"),
        ({"keys": [True, False]}, TypeError, "keys[0] must be an int"),
        ({"keys": [1, 2**64]}, ValueError, "keys[1] must be an int in [-2^63, 2^64), got 18446744073709551616"),
        ({"keys": [-(2**63) - 1, 0]}, ValueError, "keys[0] must be an int in [-2^63, 2^64)"),
        ({"keys": np.ones(2)}, TypeError, "keys must be integers along one axis, got shape (2,) of float64"),
        ({"keys": np.ones((2, 1), int)}, TypeError, "keys must be integers along one axis"),
        ({"keys": "ab"}, TypeError, "keys must be integers along one axis"),
        ({"keys": 3}, TypeError, "keys must be integers along one axis"),
        ({"keys": [1, 2, 3]}, ValueError, "out must have the shape (len(keys), ...), got (2, 5) for 3 keys"),
        ({"scheme": "orthogonal"}, ValueError, "scheme must draw each element by itself where there are keys"),
        ({"scheme": "sparse(0.5)"}, ValueError, "scheme must draw each element by itself"),
        ({"scheme": "he_normal"}, ValueError, "shape must be given where there are keys: 'he_normal' depends on it"),
        ({"scheme": "he_normal", "shape": (9, 4)}, ValueError, "shape must be (rows, *out.shape[1:]), got (9, 4)"),
        ({"seed": None}, TypeError, "seed must be given"),
        ({"padding_key": 2**64}, ValueError, "padding_key must be an int in [-2^63, 2^64)"),
        ({"padding_key": 0.5}, TypeError, "padding_key must be an int"),
        ({"threads": 0}, ValueError, "threads must be an int >= 1"),
        ({"name": 1.5}, TypeError, "name must be a str or an int"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(arguments, error, words):
    out = untouched((2, 5), "float32")
    before = out.tobytes()
    given = {"keys": [1, 2], "scheme": "normal", "seed": 1} | arguments
    with pytest.raises(error) as caught:
        fill_keys(out, given.pop("keys"), given.pop("scheme"), **given)
    assert words in str(caught.value)
    assert out.tobytes() == before


def test_fill_rows_points_at_fill_keys_where_ids_are_hashed():
    with pytest.raises(ValueError, match="fill_keys takes any 64-bit number"):
        fill_rows(np.empty((1, 128)), [5], "normal", seed=1, shape=(2**62, 128))
    with pytest.raises(ValueError, match="fill_keys takes any 64-bit number"):
        fill_rows(np.empty((1, 128)), [-5], "normal", seed=1, shape=(1000, 128))


@pytest.mark.parametrize("key", [0, 5, -1, 2**63])
def test_a_complex_constant_is_the_row_of_every_key(key):
    out = fill_keys(np.zeros((1, 3), "complex64"), [key], "constant(0.75)", seed=1)
    assert (out == 0.75).all()
