"""Stores past the cache, which large arrays get: the same bits, wherever lines, batches and arrays begin and end."""

from functools import lru_cache

import numpy as np
import pytest
import reference
from test_kernels import DTYPES, TRANSFORMS, assert_same_bits

from winit_fast import fill, fill_keys, fill_rows, pages, random_bits

SEED, NAME, SHAPE = 0xFEDCBA9876543210, "past the cache", (20_000,)
LINE, BATCH = 64, 256


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """Have arrays of any size written past the cache, as they are from `pages.PAST_CACHE` on."""
    seen = []
    monkeypatch.setattr(pages, "LARGE", 0)
    monkeypatch.setattr(pages, "PAST_CACHE", 0)
    monkeypatch.setattr(pages, "prepare", lambda out: seen.append(out) or True)
    yield seen
    assert seen  # or the kernels would not have heard of it


@lru_cache
def expected(scheme, dtype):
    index = np.arange(*SHAPE)
    return reference.values(scheme, dtype, seed=SEED, name=NAME, shape=SHAPE, index=index)


@lru_cache
def lines_of(count):
    """An octet array of so many lines that begins with a line."""
    memory = np.full((count + 1) * LINE, 0x5A, np.uint8)
    return memory[-memory.ctypes.data % LINE :][: count * LINE]


def check_run(scheme, dtype, place, first, count, **how):
    """A run whose memory begins `place` elements after a line."""
    memory = lines_of(2 * SHAPE[0] // 8)
    memory[:] = 0x5A
    out = memory.view(dtype)[place : place + count]
    fill(out, scheme, seed=SEED, name=NAME, shape=SHAPE, offset=(first,), **how)
    assert_same_bits(out, expected(scheme, dtype)[first : first + count])
    out.view(np.uint8)[:] = 0x5A
    assert (memory == 0x5A).all()  # nothing beside it was written


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("scheme", TRANSFORMS)
def test_runs_that_begin_anywhere_in_a_line_have_the_bits_of_the_reference(isa, scheme, dtype):
    items = LINE // dtype.itemsize
    for place in sorted({0, 1, 2, items // 2, items - 1}):
        for first, count in ((0, 3 * BATCH), (0, 4 * BATCH + 5), (31, 2 * BATCH + 1), (64, BATCH), (0, BATCH - 1)):
            check_run(scheme, dtype, place, first, count)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_ends_anywhere_in_a_line_have_the_bits_of_the_reference(isa, dtype):
    for count in range(2 * BATCH, 2 * BATCH + 35):
        check_run("normal(0.5, 0.02)", dtype, 3, 0, count)
        check_run("constant(0.3)", dtype, 3, 0, count)


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_any_number_of_threads_has_the_bits_of_the_reference(isa, dtype, threads):
    check_run("normal(0.5, 0.02)", dtype, 1, 17, 8 * BATCH, threads=threads)


@pytest.mark.parametrize("dtype", [np.dtype("float64"), np.dtype("float32"), DTYPES["bfloat16"]], ids=str)
def test_arrays_at_addresses_that_are_not_aligned_have_the_bits_of_the_reference(isa, dtype):
    octets = np.empty(4 * BATCH * dtype.itemsize + 1, np.uint8)
    out = octets[1:].view(dtype)
    fill(out, "normal(0.5, 0.02)", seed=SEED, name=NAME, shape=SHAPE, offset=(0,))
    assert_same_bits(out.copy(), expected("normal(0.5, 0.02)", dtype)[: len(out)])


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("scheme", ["constant(0.3)", "normal(0.5, 0.02)"])
def test_strided_and_transposed_arrays_have_the_bits_of_the_reference(isa, scheme, dtype):
    shape = (7, 700)
    index = np.arange(7 * 700).reshape(shape)
    values = reference.values(scheme, dtype, seed=SEED, name=NAME, shape=shape, index=index)
    for memory, cut in (
        (np.full((7, 703), 7, dtype), np.s_[:, 2:-1]),
        (np.full((14, 1401), 7, dtype), np.s_[::-2, 1::2]),
        (np.full((700, 9), 7, dtype).T, np.s_[1:-1]),
    ):
        out = memory[cut]
        fill(out, scheme, seed=SEED, name=NAME)
        assert_same_bits(np.ascontiguousarray(out), values)
        out[...] = 7
        assert (memory == 7).all()


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_rows_have_the_bits_of_the_reference(isa, dtype):
    shape, rows = (2**40, 523), np.array([2**33, 0, 5, 2**33 - 1, 5])
    out = fill_rows(np.empty((5, 523), dtype), rows, "normal", seed=SEED, name=NAME, shape=shape)
    index = rows[:, None] * shape[1] + np.arange(shape[1])
    assert_same_bits(out, reference.values("normal", dtype, seed=SEED, name=NAME, shape=shape, index=index))
    keyed = fill_keys(np.empty((5, 523), dtype), rows, "normal", seed=SEED, name=NAME)
    for row, key in zip(keyed, rows, strict=True):
        assert_same_bits(row, fill_keys(np.empty((1, 523), dtype), [key], "normal", seed=SEED, name=NAME)[0])


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_rows_of_whole_groups_on_lines_and_beside_them_have_the_bits_of_the_reference(isa, dtype):
    for columns in (32, 64, 96, 128):
        rows = np.array([2**33, 0, 5, 6, 7, 2**33 - 1, 5, *range(20)])
        shape = (2**40, columns)
        index = rows[:, None] * columns + np.arange(columns)
        values = reference.values("normal", dtype, seed=SEED, name=NAME, shape=shape, index=index)
        for begin in (0, 64, 5):
            memory = lines_of(2 * SHAPE[0] // 8)[: len(rows) * 256 * dtype.itemsize]
            memory[:] = 0x5A
            out = memory.view(dtype).reshape(len(rows), 256)[:, begin : begin + columns]
            fill_rows(out, rows, "normal", seed=SEED, name=NAME, shape=shape)
            assert_same_bits(np.ascontiguousarray(out), values)
            out.view(np.uint8)[...] = 0x5A
            assert (memory == 0x5A).all()  # nothing beside it was written


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("scheme", ["constant(0.3)", "normal"])
def test_rows_one_after_another_anywhere_in_a_line_have_the_bits_of_the_reference(isa, scheme, dtype):
    memory = lines_of(2 * SHAPE[0] // 8)
    for columns, count in ((32, 8), (32, 19), (64, 27), (96, 16), (224, 9)):
        # The second and the third number have other high halves, whose blocks need a fresh start of Philox.
        rows = np.array([5, 2**33 + 1, 2**35, 5, *range(2**33 // columns - 2, 2**33 // columns + count)])[:count]
        index = rows[:, None] * columns + np.arange(columns)
        shape, how = (2**40, columns), {"seed": SEED, "name": NAME}
        values = reference.values(scheme, dtype, **how, shape=shape, index=index)
        keyed = np.concatenate([fill_keys(np.empty((1, columns), dtype), [key], scheme, **how) for key in rows])
        for place in (0, 1, LINE // dtype.itemsize - 1):
            memory[:] = 0x5A
            out = memory.view(dtype)[place : place + count * columns].reshape(count, columns)
            assert_same_bits(fill_rows(out, rows, scheme, **how, shape=shape), values)
            assert_same_bits(fill_keys(out, rows, scheme, **how), keyed)
            assert_same_bits(fill_rows(out, rows, scheme, **how, shape=shape, threads=3), values)
            fill(out, scheme, **how, shape=(count, 2 * columns), offset=(0, columns))
            beside = np.arange(count)[:, None] * 2 * columns + np.arange(columns, 2 * columns)
            assert_same_bits(out, reference.values(scheme, dtype, **how, shape=(count, 2 * columns), index=beside))
            out.view(np.uint8)[...] = 0x5A
            assert (memory == 0x5A).all()  # nothing beside it was written


@pytest.mark.parametrize("kind", ["complex64", "complex128"])
def test_complex_numbers_are_those_that_plain_stores_leave(isa, monkeypatch, kind):
    def filled():
        return [
            fill(np.empty((9, 500), kind), scheme, seed=SEED, name=NAME) for scheme in ("he_normal", "lecun_uniform")
        ]

    past = filled()
    with monkeypatch.context() as context:
        context.setattr(pages, "prepare", lambda out: False)
        for one, other in zip(past, filled(), strict=True):
            assert one.tobytes() == other.tobytes()


def test_words_are_those_of_the_reference(isa):
    out = random_bits(np.empty(5 * BATCH + 3, np.uint32), seed=SEED, name=NAME, offset=29)
    assert_same_bits(out, reference.words(SEED, reference.stream_of(NAME), np.arange(29, 29 + out.size)))
