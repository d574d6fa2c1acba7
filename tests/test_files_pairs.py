"""Keys with their rows: in bounded memory, the same rows as in memory, and in the layouts of those who load them."""

import sys

import numpy as np
import pytest
from processes import printed

import winit_fast
from winit_fast.files.pairs import iterate_rows

SCHEME = "normal(std=0.01)"
NAMED = {"seed": 7, "name": "user_id"}
IDS = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 1000)


def joined(pairs):
    keys, values = zip(*pairs, strict=True)
    return np.concatenate(keys), np.concatenate(values)


@pytest.mark.parametrize("rows_at_once", [1, 7, 999, 1000, 5000])
def test_rows_are_those_of_fill_keys_however_many_at_once(rows_at_once):
    keys, values = joined(iterate_rows(IDS, 16, SCHEME, rows_at_once=rows_at_once, **NAMED))
    assert (keys == IDS).all()
    assert (values == winit_fast.fill_keys(np.empty((1000, 16), "float32"), IDS, SCHEME, **NAMED)).all()


def test_a_piece_has_as_many_rows_as_asked_for_but_the_last():
    sizes = [len(keys) for keys, _ in iterate_rows(IDS, 4, SCHEME, rows_at_once=300, **NAMED)]
    assert sizes == [300, 300, 300, 100]
    sizes = [len(keys) for keys, _ in iterate_rows(range(1000), 4, SCHEME, rows_at_once=300, world_size=2, **NAMED)]
    assert sizes == [300, 200]


def test_pieces_that_are_kept_are_not_written_again():
    kept = list(iterate_rows(IDS, 4, SCHEME, rows_at_once=100, **NAMED))
    assert len({values.ctypes.data for _, values in kept}) == 10
    assert len({keys.ctypes.data for keys, _ in kept}) == 10


@pytest.mark.parametrize("world_size", [1, 2, 3, 64])
def test_every_key_is_with_one_rank_that_of_its_remainder(world_size):
    found = []
    for rank in range(world_size):
        pairs = list(iterate_rows(IDS, 4, SCHEME, rank=rank, world_size=world_size, rows_at_once=50, **NAMED))
        for keys, values in pairs:
            assert (keys % world_size == rank).all()
            assert (values == winit_fast.fill_keys(np.empty((len(keys), 4), "float32"), keys, SCHEME, **NAMED)).all()
            found.append(keys)
    assert (np.sort(np.concatenate(found)) == np.sort(IDS)).all()


def test_a_rank_without_keys_has_no_pieces():
    assert list(iterate_rows(range(0, 100, 2), 4, SCHEME, rank=1, world_size=2, **NAMED)) == []
    assert list(iterate_rows(np.empty(0, "int64"), 4, SCHEME, **NAMED)) == []
    assert list(iterate_rows([], 4, SCHEME, **NAMED)) == []


@pytest.mark.parametrize("source", ["memmap", "iterable", "generator", "range", "int32", "big-endian", "mixed"])
def test_keys_come_from_wherever_they_stand(source, tmp_path):
    ids = np.arange(5, 305)
    ids.tofile(tmp_path / "ids")
    given = {
        "memmap": np.memmap(tmp_path / "ids", "int64", "r"),
        "iterable": [ids[:100], range(105, 106), 106, [107], ids[103:]],
        "generator": (ids[first : first + 7] for first in range(0, 300, 7)),
        "range": range(5, 305),
        "int32": ids.astype("int32"),
        "big-endian": ids.astype(">i8"),
        "mixed": [ids[:100].astype("uint64"), ids[100:150].astype("int8").view("uint8"), ids[150:]],
    }[source]
    keys, values = joined(iterate_rows(given, 8, SCHEME, rows_at_once=64, **NAMED))
    assert keys.tolist() == ids.tolist()
    assert (values == winit_fast.fill_keys(np.empty((300, 8), "float32"), ids, SCHEME, **NAMED)).all()


def test_keys_of_uint64_stay_what_they_are():
    keys, _ = joined(iterate_rows(IDS.view("uint64"), 4, SCHEME, **NAMED))
    assert keys.dtype == np.uint64
    assert (keys == IDS.view("uint64")).all()
    keys, _ = joined(iterate_rows(range(2**64 - 5, 2**64), 4, SCHEME, **NAMED))
    assert keys.tolist() == list(range(2**64 - 5, 2**64))


def test_rows_of_a_table_have_the_values_of_fill_and_its_padding():
    whole = winit_fast.fill(np.empty((500, 6), "float16"), "he_normal", padding_idx=3, **NAMED)
    given = {"by": "row", "shape": (500, 6), "dtype": "float16", "padding_key": 3, "rows_at_once": 60}
    _, values = joined(iterate_rows(range(500), 6, "he_normal", **given, **NAMED))
    assert values.tobytes() == whole.tobytes()


def test_the_key_of_padding_is_zero():
    _, values = joined(iterate_rows(range(10), 4, "constant(1)", seed=None, name="a", padding_key=4))
    assert values.any(axis=1).tolist() == [key != 4 for key in range(10)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows_at_once": 0}, "rows_at_once must be an int >= 1, got 0"),
        ({"rows_at_once": 1.5}, "rows_at_once must be an int, got 1.5"),
        ({"dim": -1}, "dim must be an int >= 0, got -1"),
        ({"world_size": 0}, "world_size must be 1 or more, got 0"),
        ({"rank": 2, "world_size": 2}, "rank must be in [0, world_size) = [0, 2), got 2"),
        ({"rank": -1}, "rank must be in [0, world_size) = [0, 1), got -1"),
        ({"by": "column"}, "by must be 'key' or 'row', got 'column'"),
        ({"by": "row"}, "shape must be given where the keys are rows of a table"),
        ({"keys": "ids"}, "keys must be a range, an array of int or an iterable of them, got 'ids'"),
        ({"dim": 1 << 31}, "dim must be an int < 2147483648, got 2147483648"),
        ({"world_size": 1 << 63}, "world_size must be an int < 9223372036854775808, got 9223372036854775808"),
        ({"keys": range(10**20)}, "keys must be at most 2^63 numbers of 64 bits, got range(0, 100000000000000000000)"),
        ({"keys": range(-1, 1 << 63)}, "keys must be at most 2^63 numbers of 64 bits"),
        ({"keys": range(0, -(10**20), -1)}, "keys must be at most 2^63 numbers of 64 bits"),
        ({"keys": 7}, "keys must be a range, an array of int or an iterable of them, got 7"),
        ({"keys": np.ones(3)}, "keys must be integers along one axis, got shape (3,) of float64"),
        ({"keys": np.ones((3, 2), int)}, "keys must be integers along one axis, got shape (3, 2) of int64"),
        ({"scheme": "orthogonal"}, "scheme must draw each element by itself"),
        ({"scheme": "he_normal"}, "shape"),
        ({"dtype": "int8"}, "int8"),
        ({"seed": None}, "seed"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(arguments, message):
    given = {"keys": IDS, "dim": 4, "scheme": SCHEME, **NAMED, **arguments}
    with pytest.raises((TypeError, ValueError)) as caught:
        iterate_rows(given.pop("keys"), given.pop("dim"), given.pop("scheme"), **given)
    assert message in str(caught.value)


def test_a_member_that_is_no_keys_is_refused_when_its_turn_comes():
    pairs = iterate_rows([range(3), [0.5]], 4, SCHEME, rows_at_once=1, **NAMED)
    assert [next(pairs)[0].tolist() for _ in range(3)] == [[0], [1], [2]]
    with pytest.raises(TypeError, match="keys must be integers along one axis"):
        next(pairs)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_keys():
    code = """
from winit_fast.files.pairs import iterate_rows
import re
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
grown = []
for count in (1 << 17, 1 << 21):
    before = peak()
    for keys, values in iterate_rows(range(count), 16, "normal", seed=7, name="a", rows_at_once=1 << 14, threads=1):
        pass
    grown.append(peak() - before)
print(grown[1] < 16 << 10)  # of 128 MiB of values
"""
    assert printed(code) == "True\n"
