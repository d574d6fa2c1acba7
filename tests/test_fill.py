"""fill: a value depends on where it stands in the global tensor, and on nothing else."""

import itertools
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from arrays import DTYPES, NARROW, SCHEMES, cut, dtype_names, placed, regions, same, scheme_texts, shapes, untouched
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from processes import printed, python

import winit_fast
from winit_fast import fill, random_bits
from winit_fast.dispatch import usable_isas
from winit_fast.streams import stream_of

threads = st.sampled_from([None, 1, 2, 3])
seeds = st.integers(0, 2**64 - 1)

NORMAL = "normal(std=0.02)"


def filled(extent, dtype, scheme, /, **arguments):
    return fill(untouched(extent, DTYPES[dtype]), scheme, **arguments)


# Layout


@settings(max_examples=250, deadline=None)
@given(st.data(), shapes(), dtype_names(), scheme_texts(), threads)
def test_fill_gives_the_same_values_for_any_strides_and_alignment(data, shape, dtype, scheme, count):
    whole = filled(shape, dtype, scheme, seed=11, name="table")
    place = data.draw(placed(shape, DTYPES[dtype]))
    assert fill(place.view, scheme, seed=11, name="table", threads=count) is place.view
    assert same(place.view, whole)
    assert place.is_untouched_outside()


@settings(max_examples=250, deadline=None)
@given(st.data(), regions(), dtype_names(), scheme_texts(), threads)
def test_fill_of_a_region_is_that_part_of_the_whole_for_any_strides(data, region, dtype, scheme, count):
    shape, offset, extent = region
    whole = filled(shape, dtype, scheme, seed=5, name="table")
    place = data.draw(placed(extent, DTYPES[dtype]))
    result = fill(place.view, scheme, seed=5, name="table", shape=shape, offset=offset, threads=count)
    assert result is place.view
    assert same(place.view, cut(whole, offset, extent))
    assert place.is_untouched_outside()


@settings(max_examples=100, deadline=None)
@given(st.data(), shapes(most_values=3000), dtype_names(), scheme_texts())
def test_fill_in_pieces_of_any_order_is_the_whole(data, shape, dtype, scheme):
    whole = filled(shape, dtype, scheme, seed=2**64 - 1, name=3)
    place = data.draw(placed(shape, DTYPES[dtype]))
    edges = []
    for size in shape:
        cuts = data.draw(st.lists(st.integers(0, size), max_size=2))
        edges.append(list(itertools.pairwise([0, *sorted(cuts), size])))
    for piece in data.draw(st.permutations(list(itertools.product(*edges)))):
        offset = tuple(first for first, _ in piece)
        part = cut(place.view, offset, tuple(last - first for first, last in piece))
        fill(part, scheme, seed=2**64 - 1, name=3, shape=shape, offset=offset, threads=data.draw(threads))
    assert same(place.view, whole)
    assert place.is_untouched_outside()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (33, 257), (64, 256), (65, 31), (131, 515), (1001, 70), (3, 40_001)])
def test_fill_of_a_transposed_array_is_the_transposed_table(dtype, shape):
    whole = filled(shape, dtype, NORMAL, seed=1)
    across = untouched(shape[::-1], DTYPES[dtype])
    fill(across.T, NORMAL, seed=1)
    assert same(across.T, whole)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "float8_e5m2"])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_fill_gives_the_same_values_for_any_order_of_three_axes(dtype, order):
    shape = (9, 65, 301)
    whole = filled(shape, dtype, NORMAL, seed=1)
    memory = untouched([shape[axis] for axis in order], DTYPES[dtype])
    view = memory.transpose(np.argsort(order))
    assert view.shape == shape
    for count in (1, 2):
        memory[...] = 0
        fill(view, NORMAL, seed=1, threads=count)
        assert same(view, whole)


def test_fill_of_channels_last_memory_has_the_values_of_channels_first():
    shape = (5, 67, 9, 11)
    memory = untouched((5, 9, 11, 67), "float32")
    fill(np.moveaxis(memory, -1, 1), "he_normal", seed=1, in_axis=1, out_axis=0)
    whole = fill(untouched(shape, "float32"), "he_normal", seed=1, in_axis=1, out_axis=0)
    assert same(np.moveaxis(memory, -1, 1), whole)


@pytest.mark.parametrize("step", [(1, 1), (1, 2), (3, 1), (2, 5), (-1, 1), (1, -1), (-2, -3)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float8_e4m3fn"])
def test_fill_of_a_slice_with_steps_leaves_what_lies_between(dtype, step):
    shape = (150, 700)
    memory = untouched((abs(step[0]) * 150, abs(step[1]) * 700), DTYPES[dtype])
    expected = memory.copy()
    expected[:: step[0], :: step[1]] = filled(shape, dtype, NORMAL, seed=1)
    fill(memory[:: step[0], :: step[1]], NORMAL, seed=1)
    assert same(memory, expected)


@pytest.mark.parametrize("is_packed", [True, False])
def test_fill_of_a_field_of_a_structured_array_leaves_the_other_fields(is_packed):
    record = np.dtype([("key", "u1"), ("weight", "f4", (3,)), ("scale", "f8")], align=not is_packed)
    table = untouched((500,), record)
    for field, shape in (("weight", (500, 3)), ("scale", (500,))):
        fill(table[field], NORMAL, seed=1)
        assert same(table[field], fill(untouched(shape, table[field].dtype), NORMAL, seed=1))
    assert (table["key"] == untouched((500,), "u1")).all()


@pytest.mark.parametrize("start", range(9))
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_fill_of_long_unaligned_runs_gives_the_same_values(dtype, start):
    kind = DTYPES[dtype]
    memory = untouched((5003 * kind.itemsize + 16,), "u1")
    view = memory[start : start + 5003 * kind.itemsize].view(kind)
    fill(view, NORMAL, seed=1)
    assert same(view, filled((5003,), dtype, NORMAL, seed=1))
    assert (memory[:start] == untouched((1,), "u1")).all()
    assert (memory[start + view.nbytes :] == untouched((1,), "u1")).all()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(1,) * 64, (2,) * 13 + (1,) * 51, (1, 2) * 12 + (1,) * 40, (1,) * 62 + (37, 41)])
def test_fill_of_an_array_of_64_axes_is_that_of_its_flat_form(shape, order):
    out = np.empty(shape, "float32", order=order)[(slice(None, None, -1),) * 64]
    fill(out, NORMAL, seed=1)
    assert same(out.ravel(order="C"), filled((out.size,), "float32", NORMAL, seed=1))


def test_fill_of_a_region_with_64_axes_is_that_part_of_the_whole():
    shape, extent, offset = (1, 3) * 8 + (1,) * 48, (1, 2) * 8 + (1,) * 48, (0, 1) * 8 + (0,) * 48
    whole = filled(shape, "float32", NORMAL, seed=1)
    part = filled(extent, "float32", NORMAL, seed=1, shape=shape, offset=offset)
    assert same(part, cut(whole, offset, extent))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (3, 0, 2)])
def test_fill_of_an_empty_array_returns_it(dtype, shape):
    out = np.empty(shape, DTYPES[dtype])
    assert fill(out, NORMAL, seed=1) is out
    larger = tuple(size + 2 for size in shape)
    assert fill(out, NORMAL, seed=1, shape=larger, offset=(1,) * len(shape)) is out


def test_fill_of_an_empty_array_does_not_mind_strides_of_zero():
    fill(np.lib.stride_tricks.as_strided(np.empty(4, "f4"), (0, 4), (0, 0)), NORMAL, seed=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fill_of_an_array_without_axes_sets_its_one_element(dtype):
    out = untouched((), DTYPES[dtype])
    assert fill(out, NORMAL, seed=1, shape=(), offset=()) is out
    assert same(out.reshape(1), filled((1,), dtype, NORMAL, seed=1))


def test_fill_does_not_mind_the_stride_of_an_axis_of_size_one():
    memory = untouched((50,), "float32")
    for strides in ((4, 0), (4, 4), (4, 1), (4, -(2**62))):
        view = np.lib.stride_tricks.as_strided(memory, (50, 1), strides)
        fill(view, NORMAL, seed=1)
        assert same(memory, filled((50,), "float32", NORMAL, seed=1))
    view = np.lib.stride_tricks.as_strided(memory, (1, 50), (0, 4))
    assert same(fill(view, NORMAL, seed=2)[0], filled((50,), "float32", NORMAL, seed=2))


def test_fill_of_a_memory_mapped_array_writes_the_file(tmp_path):
    path = tmp_path / "table"
    shape = (3001, 65)
    for half in range(2):
        first, last = (0, 1500) if half == 0 else (1500, 3001)
        file = np.memmap(path, "float16", "r+" if half else "w+", shape=shape)
        result = fill(file[first:last], NORMAL, seed=1, shape=shape, offset=(first, 0), threads=2)
        assert isinstance(result, np.memmap)
        file.flush()
        del file, result
    assert same(np.fromfile(path, "float16").reshape(shape), filled(shape, "float16", NORMAL, seed=1))


def test_fill_of_an_npy_file_at_an_offset_of_its_own_leaves_the_header(tmp_path):
    path = tmp_path / "table.npy"
    file = np.lib.format.open_memmap(path, "w+", "float64", (100, 7), fortran_order=True)
    fill(file, NORMAL, seed=1)
    file.flush()
    del file
    assert same(np.load(path), filled((100, 7), "float64", NORMAL, seed=1))


def test_fill_returns_the_subclass_it_was_given():
    class Weights(np.ndarray):
        pass

    out = np.empty((20, 30), "float32").view(Weights)
    assert fill(out, NORMAL, seed=1) is out
    assert same(np.asarray(out), filled((20, 30), "float32", NORMAL, seed=1))


def test_fill_reads_a_dtype_with_metadata_as_the_plain_one():
    out = np.empty(100, np.dtype("f4", metadata={"unit": "none"}))
    assert same(np.asarray(fill(out, NORMAL, seed=1)), filled((100,), "float32", NORMAL, seed=1))


# Far regions and long runs


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**63 - 3001), st.integers(1, 3000), st.data(), st.sampled_from(["float32", "float64", "bfloat16"])
)
@example(2**34 - 1000, 2000, None, "float32")
@example(2**33 - 1000, 2000, None, "float64")
@example(2**63 - 3001, 3000, None, "float64")
@example(2**63 - 3001, 3000, None, "float32")
def test_fill_far_out_in_a_huge_tensor_does_not_depend_on_the_split(first, count, data, dtype):
    huge = (2**63 - 1,)
    whole = filled((count,), dtype, NORMAL, seed=1, shape=huge, offset=(first,))
    middle = count // 2 if data is None else data.draw(st.integers(0, count))
    parts = [
        filled((middle,), dtype, NORMAL, seed=1, shape=huge, offset=(first,)),
        filled((count - middle,), dtype, NORMAL, seed=1, shape=huge, offset=(first + middle,)),
    ]
    assert same(np.concatenate(parts), whole)
    place = filled((1,), dtype, NORMAL, seed=1, shape=huge, offset=(first + count - 1,))
    assert same(place, whole[-1:])


@pytest.mark.parametrize("boundary", [2**33, 2**34, 2**35, 3 * 2**34, 2**62])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("before", [64, 96, 100, 4096])
def test_fill_across_a_carry_of_the_counter_does_not_depend_on_the_split(boundary, dtype, before):
    given = {"seed": 1, "shape": (2**63 - 1,)}
    whole = filled((before + 1000,), dtype, NORMAL, offset=(boundary - before,), **given)
    below = filled((before,), dtype, NORMAL, offset=(boundary - before,), **given)
    above = filled((1000,), dtype, NORMAL, offset=(boundary,), **given)
    assert same(whole, np.concatenate([below, above]))
    assert len(np.unique(whole)) > 0.99 * whole.size


def test_fill_of_rows_that_lie_billions_of_elements_apart_gives_each_its_own():
    shape = (2**20, 3, 2**40)
    out = filled((4, 3, 100), "float32", NORMAL, seed=1, shape=shape, offset=(2**19, 0, 2**39 + 5))
    for row, middle in itertools.product(range(4), range(3)):
        one = filled((1, 1, 100), "float32", NORMAL, seed=1, shape=shape, offset=(2**19 + row, middle, 2**39 + 5))
        assert same(out[row, middle], one[0, 0])
    assert len(np.unique(out)) > 1190


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_fill_of_a_long_run_does_not_depend_on_threads_or_split(dtype, scheme):
    count = 300_007
    whole = filled((count,), dtype, scheme, seed=1, threads=1)
    assert same(filled((count,), dtype, scheme, seed=1, threads=3), whole)
    for cuts in ((1, 127, 128, 32_769, 200_000), (50_001, 50_002)):
        edges = itertools.pairwise([0, *cuts, count])
        parts = [filled((b - a,), dtype, scheme, seed=1, shape=(count,), offset=(a,)) for a, b in edges]
        assert same(np.concatenate(parts), whole)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 1000])
def test_fill_is_the_same_for_any_number_of_threads(count):
    shape = (1025, 1030)
    assert same(filled(shape, "float32", NORMAL, seed=1, threads=count), filled(shape, "float32", NORMAL, seed=1))


def test_fill_of_half_the_columns_is_that_half_of_the_table():
    whole = filled((5000, 128), "float32", NORMAL, seed=1)
    for columns in (slice(0, 64), slice(64, 128), slice(1, 2), slice(7, 127)):
        table = untouched((5000, 128), "float32")
        part = table[:, columns]
        fill(part, NORMAL, seed=1, shape=(5000, 128), offset=(0, columns.start), threads=2)
        assert same(part, whole[:, columns])
        table[:, columns] = untouched(part.shape, "float32")
        assert same(table, untouched(table.shape, "float32"))


# Types


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(
    "scheme", [*SCHEMES, "normal", "normal(std=30)", "normal(std=1e-2)", "normal(std=1e-4)", "normal(std=1e-6)"]
)
def test_fill_of_a_narrow_type_is_the_float32_table_rounded_once(dtype, scheme):
    table = filled((1 << 16,), "float32", scheme, seed=1)
    assert same(filled((1 << 16,), dtype, scheme, seed=1), table.astype(DTYPES[dtype]))


@pytest.mark.parametrize(
    "scheme", ["normal(std=1e-39)", "normal(std=1e-41)", "uniform(-1e-44, 1e-44)", "normal(std=4e37)"]
)
def test_fill_of_bfloat16_is_float32_rounded_once_at_the_ends_of_its_range(scheme):
    table = filled((1 << 14,), "float32", scheme, seed=1)
    assert same(filled((1 << 14,), "bfloat16", scheme, seed=1), table.astype(DTYPES["bfloat16"]))


@pytest.mark.parametrize("dtype", NARROW)
@settings(max_examples=60, deadline=None)
@given(value=st.one_of(st.floats(-500, 500, width=32), st.floats(-(2.0**-13), 2.0**-13, width=32), st.floats(width=32)))
def test_fill_of_a_constant_rounds_it_once(dtype, value):
    with np.errstate(over="ignore"):
        expected = np.full(3, value, "float32").astype(DTYPES[dtype])
    assume(np.isfinite(expected.astype("float32")).all())
    assert same(filled((3,), dtype, winit_fast.scheme("constant", value=value)), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fill_of_a_constant_minus_zero_keeps_its_sign(dtype):
    out = filled((70,), dtype, "constant(-0.0)")
    assert np.signbit(out.astype("float32")).all()
    assert not out.astype("float32").any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scheme", [text for text in SCHEMES if not text.startswith("constant")])
def test_fill_writes_every_element_with_a_finite_value(dtype, scheme):
    out = filled((1 << 15,), dtype, scheme, seed=1)
    assert same(fill(np.zeros(out.shape, out.dtype), scheme, seed=1), out)
    assert np.isfinite(out.astype("float64")).all()
    assert len(np.unique(out.astype("float64"))) > 1


# Names, seeds, schemes


@given(seeds, st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 2**64 - 1)))
def test_fill_reads_a_name_as_its_stream(seed, name):
    assert same(
        filled((50,), "float32", NORMAL, seed=seed, name=name),
        filled((50,), "float32", NORMAL, seed=seed, name=stream_of(name)),
    )


def test_fill_without_a_name_draws_from_stream_zero():
    assert same(filled((50,), "float32", NORMAL, seed=1), filled((50,), "float32", NORMAL, seed=1, name=0))
    assert not same(filled((50,), "float32", NORMAL, seed=1), filled((50,), "float32", NORMAL, seed=1, name="0"))


def test_fill_gives_other_values_for_every_other_seed_and_name():
    seeds_and_names = [
        *itertools.product(
            (0, 1, 2, 2**31, 2**32, 2**32 + 1, 2**63, 2**64 - 1), (0, 1, 2**32, 2**63, "", "0", "a", "b", "a ", "ä")
        )
    ]
    tables = {filled((64,), "float32", NORMAL, seed=seed, name=name).tobytes() for seed, name in seeds_and_names}
    assert len(tables) == len(seeds_and_names)


@pytest.mark.parametrize("integer", [np.int8, np.uint64, np.int64])
def test_fill_takes_numpy_integers_wherever_it_takes_an_int(integer):
    out = filled(
        (4, 6),
        "float32",
        "he_normal",
        seed=integer(7),
        name=integer(3),
        shape=(integer(9), integer(8)),
        offset=(integer(1), integer(2)),
        in_axis=integer(0),
        out_axis=integer(1),
        threads=integer(1),
    )
    plain = filled((4, 6), "float32", "he_normal", seed=7, name=3, shape=[9, 8], offset=[1, 2], threads=1)
    assert same(out, plain)
    shape, offset = np.array([9, 8], integer), np.array([1, 2], integer)
    assert same(filled((4, 6), "float32", "he_normal", seed=7, name=3, shape=shape, offset=offset), plain)


@pytest.mark.parametrize(
    "text", [*SCHEMES, "he_normal", "xavier_uniform(gain=2)", "lecun_truncated_normal(mode='fan_out')"]
)
def test_fill_takes_a_scheme_as_object_or_text_alike(text):
    made = winit_fast.scheme(text)
    table = filled((30, 20), "float32", text, seed=1)
    assert same(filled((30, 20), "float32", made, seed=1), table)
    assert same(filled((30, 20), "float32", str(made), seed=1), table)


@pytest.mark.parametrize(
    "text", ["zeros", "ones", "constant(2)", "normal(mean=2, std=0)", "uniform(2, 2)", "he_normal(gain=0)"]
)
def test_fill_needs_no_seed_where_nothing_is_drawn(text):
    out = filled((3, 5), "float32", text)
    assert len(np.unique(out)) == 1
    assert same(out, filled((3, 5), "float32", text, seed=99, name="other"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fill_needs_no_seed_where_the_fans_leave_no_std(dtype):
    # 5e-324 is the smallest number of float64: sqrt(4) inputs halve it to 0, sqrt(2) do not.
    assert not filled((4, 5), dtype, "he_normal(gain=5e-324)").any()
    with pytest.raises(TypeError, match="seed must be given"):
        filled((2, 5), dtype, "he_normal(gain=5e-324)")


def test_fill_takes_fans_from_the_global_shape_and_the_axes_given():
    shape, part = (64, 16, 4), (2, 3, 4)

    def drawn(std, **axes):
        table = filled(part, "float64", f"normal(std={std})", seed=1, shape=shape, offset=(3, 2, 0))
        assert same(filled(part, "float64", "lecun_normal", seed=1, shape=shape, offset=(3, 2, 0), **axes), table)

    drawn(1 / np.sqrt(64 * 16))
    drawn(1 / np.sqrt(64 * 16), in_axis=-2, out_axis=-1)
    drawn(1 / np.sqrt(16), in_axis=1, out_axis=2, batch_axis=0)
    drawn(1 / np.sqrt(64), in_axis=0, out_axis=(1, 2))
    drawn(1 / np.sqrt(16 * 4), in_axis=[1, 2], out_axis=0)
    drawn(1 / np.sqrt(64 * 4), in_axis=np.array([0, 2]), out_axis=[1])


def test_fill_gives_shards_the_fans_of_the_global_tensor():
    whole = filled((40, 50), "float32", "he_normal", seed=1)
    assert same(filled((7, 3), "float32", "he_normal", seed=1, shape=(40, 50), offset=(5, 47)), whole[5:12, 47:])


# Words


@settings(max_examples=100, deadline=None)
@given(st.data(), shapes(), st.integers(0, 2**66 - 6000), threads)
@example(None, (1000,), 2**66 - 1000, 1)
@example(None, (1000,), 2**34 - 500, 1)
def test_random_bits_gives_the_same_words_for_any_strides_and_split(data, shape, offset, count):
    size = int(np.prod(shape))
    flat = random_bits(np.empty(size, "uint32"), seed=1, name="w", offset=offset)
    if data is not None:
        place = data.draw(placed(shape, np.dtype("uint32")))
        assert random_bits(place.view, seed=1, name="w", offset=offset, threads=count) is place.view
        assert same(place.view, flat.reshape(shape))
        assert place.is_untouched_outside()
    middle = size // 2 if data is None else data.draw(st.integers(0, size))
    lower = random_bits(np.empty(middle, "uint32"), seed=1, name="w", offset=offset)
    upper = random_bits(np.empty(size - middle, "uint32"), seed=1, name="w", offset=offset + middle)
    assert same(np.concatenate([lower, upper]), flat)


# Threads and processes


def test_fill_may_be_called_from_many_threads_at_once():
    names = [f"table {number}" for number in range(24)]

    def work(name):
        out = np.empty((300, 1000), "float32")
        return fill(out if len(name) % 2 else out.reshape(1000, 300).T, NORMAL, seed=1, name=name, threads=2)

    with ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(work, names))
    for name, table in zip(names, tables, strict=True):
        assert same(table, filled((300, 1000), "float32", NORMAL, seed=1, name=name, threads=1))


def test_fill_of_parts_of_one_table_from_many_threads_is_the_whole():
    shape = (1000, 333)
    table = untouched(shape, DTYPES["float8_e5m2"])

    def work(column):
        fill(table[:, column::7], "normal", seed=1, shape=(1000, 48), offset=(0, 0), name=column, threads=2)

    with ThreadPoolExecutor(7) as pool:
        list(pool.map(work, range(7)))
    for column in range(7):
        part = table[:, column::7]
        assert same(
            part, filled(part.shape, "float8_e5m2", "normal", seed=1, shape=(1000, 48), offset=(0, 0), name=column)
        )


def test_fill_leaves_no_thread_behind():
    before = threading.active_count()
    filled((2000, 1000), "float32", NORMAL, seed=1, threads=4)
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fill_works_in_the_child_after_a_fork_while_threads_fill():
    printed("""
import os, sys, threading, warnings
import numpy as np
from winit_fast import fill
warnings.simplefilter("ignore", DeprecationWarning)
def table():
    return fill(np.empty((1500, 1000), "float32"), "normal", seed=1, threads=2)
expected = table()
stop = False
def keep_filling():
    while not stop:
        table()
worker = threading.Thread(target=keep_filling)
worker.start()
failures = 0
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if (table() == expected).all() else 1)
    failures += os.waitpid(child, 0)[1] != 0
stop = True
worker.join()
sys.exit(failures)
""")


# Environment

FINGERPRINT = """
import hashlib
import numpy as np
from arrays import DTYPES, SCHEMES
from winit_fast import fill, fill_rows, random_bits
from winit_fast.dispatch import ISA
fingerprint = hashlib.blake2b()
for dtype in DTYPES.values():
    for scheme in SCHEMES:
        fingerprint.update(fill(np.empty((1003, 129), dtype), scheme, seed=3, name="table").tobytes())
        fingerprint.update(fill(np.empty((129, 403), dtype).T, scheme, seed=3, name="table").tobytes())
        rows = fill_rows(np.empty((5, 130), dtype), [7, 0, 7, 99, 3], scheme, seed=3, shape=(100, 130))
        fingerprint.update(rows.tobytes())
fingerprint.update(random_bits(np.empty(2000, "u4"), seed=3, offset=2**34 - 1003).tobytes())
print(ISA, fingerprint.hexdigest())
"""


@pytest.fixture(scope="module")
def fingerprint():
    return printed(FINGERPRINT)


@pytest.mark.parametrize("isa", usable_isas())
def test_fill_gives_the_same_values_on_every_isa(isa, fingerprint):
    assert printed(FINGERPRINT, WINIT_FAST_ISA=isa) == fingerprint.replace(usable_isas()[0], isa)


def test_fill_runs_on_the_best_isa_where_none_is_forced(fingerprint):
    assert fingerprint.split()[0] == usable_isas()[0]
    assert printed("from winit_fast.dispatch import ISA; print(ISA)", WINIT_FAST_ISA="") == f"{usable_isas()[0]}\n"


@pytest.mark.parametrize(
    "isa", [isa for isa in ("avx512", "avx2", "neon", "sse9", "AVX2", "avx2 ") if isa not in usable_isas()]
)
def test_an_isa_that_this_cpu_lacks_is_a_clear_error(isa):
    done = python("-c", "import winit_fast", WINIT_FAST_ISA=isa)
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert message.startswith("ImportError: WINIT_FAST_ISA must be one of ")
    assert repr(isa) in message
    assert all(usable in message for usable in usable_isas())


def test_fill_gives_the_same_values_for_any_threads_in_the_environment():
    code = """
import hashlib, numpy as np
from winit_fast import fill
from winit_fast.parallel import default_threads
out = fill(np.empty((2000, 1100), "float32"), "normal", seed=1)
print(hashlib.blake2b(out).hexdigest(), default_threads())
"""
    plain, _ = printed(code).split()
    for count in ("1", "2", "5", "007"):
        assert printed(code, WINIT_FAST_THREADS=count).split() == [plain, str(int(count))]


@pytest.mark.parametrize("count", ["0", "٢"])  # more are in test_parallel.py
def test_a_bad_number_of_threads_in_the_environment_is_refused_before_writing(count):
    code = """
import numpy as np
from winit_fast import fill
out = np.full((2000, 1100), 7, "float32")
try:
    fill(out, "normal", seed=1)
except ValueError as error:
    print(error)
print((out == 7).all())
fill(out, "normal", seed=1, threads=2)
"""
    message, is_untouched = printed(code, WINIT_FAST_THREADS=count, PYTHONUTF8="1").splitlines()
    assert f"WINIT_FAST_THREADS must be an integer in [1, 10^9), got '{count}'" in message
    assert is_untouched == "True"


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_fill_divides_its_default_threads_among_the_processes_of_torchrun():
    code = "from winit_fast.parallel import default_threads; print(default_threads())"
    alone = int(printed(code))
    for processes, share in (("2", max(1, alone // 2)), ("many", alone)):  # more are in test_parallel.py
        assert int(printed(code, LOCAL_WORLD_SIZE=processes)) == share
