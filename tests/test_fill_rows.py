"""fill_rows: out[k] is row rows[k] of the global tensor."""

import numpy as np
import pytest
from arrays import DTYPES, SCHEMES, dtype_names, placed, same, scheme_texts, shapes, untouched
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import printed

import winit_fast
from winit_fast import fill, fill_rows

NORMAL = "normal(std=0.02)"
TABLE = (50, 6)


def filled_rows(rows, dtype, scheme, /, *, shape, **arguments):
    out = untouched((len(rows), *shape[1:]), DTYPES[dtype])
    assert fill_rows(out, rows, scheme, shape=shape, **arguments) is out
    return out


def table_of(extent, dtype="float32", scheme=NORMAL, **arguments):
    return fill(untouched(extent, DTYPES[dtype]), scheme, **arguments)


@settings(max_examples=250, deadline=None)
@given(
    st.data(),
    st.integers(1, 300),
    shapes(ranks=(0, 4), most_values=60),
    dtype_names(),
    scheme_texts(),
    st.sampled_from([None, 1, 2, 3]),
)
def test_fill_rows_gives_those_rows_of_the_table_for_any_strides(data, count, row, dtype, scheme, threads):
    shape = (count, *row)
    table = table_of(shape, dtype, scheme, seed=8, name="table")
    rows = data.draw(st.lists(st.integers(0, count - 1), max_size=200))
    place = data.draw(placed((len(rows), *row), DTYPES[dtype]))
    result = fill_rows(place.view, rows, scheme, seed=8, name="table", shape=shape, threads=threads)
    assert result is place.view
    assert same(place.view, table[np.array(rows, "int64")])
    assert place.is_untouched_outside()


@pytest.mark.parametrize("row", [(), (1,), (5,), (64,), (128,), (1001,), (3, 40), (2, 3, 5), (2, 2, 3, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float8_e4m3fn"])
def test_fill_rows_gives_rows_of_any_rank(row, dtype):
    shape = (200, *row)
    rows = np.random.default_rng(1).permutation(200)[:77]
    assert same(filled_rows(rows, dtype, NORMAL, shape=shape, seed=1), table_of(shape, dtype, seed=1)[rows])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_fill_rows_is_the_same_for_any_number_of_threads(dtype, scheme):
    shape, rows = (1000, 64), np.random.default_rng(1).integers(0, 1000, 3001)
    expected = table_of(shape, dtype, scheme, seed=1)[rows]
    for threads in (1, 2, 5):
        assert same(filled_rows(rows, dtype, scheme, shape=shape, seed=1, threads=threads), expected)


def test_fill_rows_in_order_is_fill():
    table = table_of((500, 33), seed=1)
    assert same(filled_rows(range(500), "float32", NORMAL, shape=(500, 33), seed=1), table)


def test_fill_rows_takes_fans_from_the_global_shape():
    table = table_of((500, 32), scheme="he_normal", seed=1)
    assert same(filled_rows([3, 499], "float32", "he_normal", shape=(500, 32), seed=1), table[[3, 499]])
    axes = {"in_axis": 1, "out_axis": 0}
    table = table_of((500, 32), scheme="he_normal", seed=1, **axes)
    assert same(
        filled_rows([3, 499], "float32", winit_fast.scheme("he_normal"), shape=(500, 32), seed=1, **axes),
        table[[3, 499]],
    )


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4", ">i8", ">u8"])
def test_fill_rows_takes_rows_of_any_integer_type(kind):
    rows = [49, 0, 0, 7, 30]
    expected = table_of(TABLE, seed=1)[rows]
    assert same(filled_rows(np.array(rows, kind), "float32", NORMAL, shape=TABLE, seed=1), expected)


@pytest.mark.parametrize("form", [list, tuple, range, np.array])
def test_fill_rows_takes_rows_from_any_sequence(form):
    rows = range(3, 43, 4) if form is range else form([*range(3, 43, 4)])
    expected = table_of(TABLE, seed=1)[3:43:4]
    assert same(filled_rows(rows, "float32", NORMAL, shape=TABLE, seed=1), expected)


def test_fill_rows_takes_rows_of_any_strides_and_leaves_them():
    memory = np.arange(50)
    packed = np.zeros(8 * 10 + 3, "u1")
    unaligned = packed[3:].view("i8")
    unaligned[...] = range(10, 20)
    read_only = np.arange(7)
    read_only.flags.writeable = False
    record = np.zeros(9, [("key", "u1"), ("row", "i8")])
    record["row"] = range(9)
    for rows in (memory[::3], memory[::-1], memory[40:3:-7], unaligned, read_only, record["row"], np.full((1,), 3)):
        before = rows.copy()
        assert same(filled_rows(rows, "float32", NORMAL, shape=TABLE, seed=1), table_of(TABLE, seed=1)[before])
        assert (rows == before).all()


@pytest.mark.parametrize("rows", [[], (), range(0), np.empty(0, "int64"), np.empty(0, "uint8")])
@pytest.mark.parametrize("shape", [(50, 6), (0, 6), (50, 0), (7,)])
def test_fill_rows_of_no_rows_returns_the_empty_array(rows, shape):
    assert filled_rows(rows, "float32", NORMAL, shape=shape, seed=1).shape == (0, *shape[1:])


def test_fill_rows_of_rows_without_elements_returns_the_empty_array():
    assert filled_rows([3, 3, 49], "float32", NORMAL, shape=(50, 0), seed=1).shape == (3, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_fill_rows_reaches_rows_of_a_huge_table(dtype):
    shape = (2**40, 3, 5)
    rows = [2**40 - 1, 0, 2**33, 2**31, 2**32 - 1, 2**39 + 7, 0]
    out = filled_rows(rows, dtype, NORMAL, shape=shape, seed=1, name="huge")
    for row, values in zip(rows, out, strict=True):
        expected = table_of((1, 3, 5), dtype, seed=1, name="huge", shape=shape, offset=(row, 0, 0))
        assert same(values, expected[0])
    assert len(np.unique(out[:-1].astype("float64"))) > 70


def test_fill_rows_reaches_the_last_row_of_the_largest_vector():
    shape = (2**63 - 1,)
    out = filled_rows(np.array([2**63 - 2, 0, 2**62], "uint64"), "float32", NORMAL, shape=shape, seed=1)
    for row, value in zip([2**63 - 2, 0, 2**62], out, strict=True):
        assert same(value.reshape(1), table_of((1,), seed=1, shape=shape, offset=(row,)))


def test_fill_rows_across_the_memory_gives_the_same_values():
    shape, rows = (300, 257), np.random.default_rng(1).integers(0, 300, 1001)
    expected = table_of(shape, seed=1)[rows]
    across = untouched((257, 1001), "float32")
    fill_rows(across.T, rows, NORMAL, seed=1, shape=shape, threads=2)
    assert same(across.T, expected)
    middle = untouched((9, 1001, 5), "float32")
    fill_rows(middle.transpose(1, 2, 0), rows, NORMAL, seed=1, shape=(300, 5, 9))
    assert same(middle.transpose(1, 2, 0), table_of((300, 5, 9), seed=1)[rows])


def test_fill_rows_needs_no_seed_where_nothing_is_drawn():
    assert (filled_rows([4, 4], "float32", "ones", shape=TABLE) == 1).all()


@pytest.mark.parametrize("scheme", ["normal", "orthogonal", "identity"])
def test_rows_that_share_memory_with_the_array_are_read_before_they_are_written(scheme):
    count = 2000
    memory = np.zeros(count * 4, "int64")
    memory[:count] = np.arange(count)
    out = fill_rows(
        memory.view("float64").reshape(count, 4), memory[:count], scheme, seed=1, shape=(count, 4), padding_idx=2
    )
    assert same(out, fill(np.empty((count, 4)), scheme, seed=1, padding_idx=2))


def test_no_call_imports_masked_arrays_to_ask_for_them():
    code = """
import sys
import numpy as np
from winit_fast import fill_keys, fill_rows
out = np.empty((2, 3), "float32")
fill_rows(out, [1, 0], "normal", seed=1, shape=(4, 3))
fill_keys(out, np.arange(2), "normal", seed=1)
print("numpy.ma" in sys.modules)
"""
    assert printed(code) == "False\n"
