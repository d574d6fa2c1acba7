"""Fingerprints: the bits of their definition, the same for any split, and refusals."""

import array
import math
import mmap
import os
import pickle
from itertools import pairwise
from random import Random

import fingerprint_reference
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import printed

from winit_fast import dispatch, fill, fingerprints, parallel
from winit_fast.fingerprints import Fingerprint, fingerprint

PAGE = 4096
BYTES = np.random.default_rng(1).integers(0, 256, 40 * PAGE + 777, np.uint8)
BYTES.flags.writeable = False


def part(first, last):
    found = Fingerprint()
    found.add(first, BYTES[first:last])
    return found


# The definition


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_a_fingerprint_has_the_bits_of_the_reference(isa, threads):
    for size in (0, 1, 3, 4, 5, 8, 63, 64, 65, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE + 5, len(BYTES)):
        for start in (0, 1, 4, 8, 13):  # at any address
            octets = BYTES[start : start + size]
            assert fingerprint(octets, threads=threads) == fingerprint_reference.fingerprint(octets.tobytes())


def test_every_word_of_a_page_has_the_bits_of_the_reference(isa):
    """Where sums and products are largest, and at each place alone."""
    for octets in (bytes(PAGE), b"\xff" * PAGE, (-fingerprint_reference.KEYS[:1024]).astype("<u4").tobytes()):
        assert fingerprint(octets) == fingerprint_reference.fingerprint(octets)
    for place in range(0, PAGE, 28):
        octets = bytes(place) + b"\x80" + bytes(PAGE - place - 1)
        assert fingerprint(octets) == fingerprint_reference.fingerprint(octets)


@pytest.mark.parametrize("first_page", [0, 1, 2**32 - 2, 2**40 + 5, 2**51 - 3])
def test_far_pages_have_the_bits_of_the_reference(isa, first_page):
    octets = BYTES[: 3 * PAGE]
    found = dispatch.kernels.fingerprint_together(octets, first_page, fingerprints._keys(), 1, 2, lambda: None)
    assert found == tuple(fingerprint_reference.sum_of_pages(octets.tobytes(), first_page))


# These never change.
GOLDEN = [
    (b"", "d5e827668dc569e14cac57bcd8db009b"),  # the first known answer of Random123
    (b"\0", "7e71cd85916b54785209d1b470aeae3e"),
    (bytes(range(256)) * 100, "10b1da0922a496b950c619109a457750"),
]


@pytest.mark.parametrize(("octets", "expected"), GOLDEN, ids=["none", "one", "many"])
def test_fingerprints_never_change(isa, octets, expected):
    assert fingerprint(octets) == expected


# Splits


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, len(BYTES)) | st.integers(0, 40).map(lambda page: page * PAGE), max_size=12),
    st.integers(0, 2**32),
    st.integers(1, 4),
)
def test_any_split_order_and_threads_give_the_same(isa, cuts, order, workers):
    cuts = sorted({0, *cuts, len(BYTES)})
    pieces = list(pairwise(cuts))
    Random(order).shuffle(pieces)
    parts = [Fingerprint() for _ in range(workers)]
    for number, (first, last) in enumerate(pieces):
        parts[number % workers].add(first, BYTES[first:last], threads=1 + number % 3)
    parts = pickle.loads(pickle.dumps(parts))  # as from other processes
    assert sum(parts, Fingerprint()).hexdigest() == fingerprint(BYTES)


def test_columns_of_a_table_add_up_to_the_whole():
    table = BYTES[: 700 * 60].reshape(700, 60)
    left, right = Fingerprint(), Fingerprint()
    for row in range(700):
        left.add(60 * row, table[row, :23])
        right.add(60 * row + 23, table[row, 23:])
    assert (right + left).hexdigest() == fingerprint(table)
    assert (left + right).hexdigest() == fingerprint(table)


def test_a_sum_leaves_its_terms_as_they_were():
    upper, lower = part(0, 9000), part(9000, len(BYTES))
    assert (upper + lower).hexdigest() == (lower + upper).hexdigest() == fingerprint(BYTES)
    assert upper.hexdigest() == fingerprint(BYTES[:9000])


def test_no_page_is_kept_that_is_whole():
    found = Fingerprint()
    for first in range(0, len(BYTES) // 100 * 100, 100):
        found.add(first, BYTES[first : first + 100])
        assert len(found._pages) <= 1
        assert len(found._runs) == 1


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_large_table_has_the_bits_of_the_reference_for_any_threads(isa, threads):
    table = fill(np.empty((600, 999), "float32"), "normal", seed=1)
    assert fingerprint(table, threads=threads) == fingerprint_reference.fingerprint(table.tobytes())


# What it tells apart


def test_a_change_within_four_bytes_is_always_seen():
    """Even where the other factor of a hash is 0, so that it sees nothing: that of the second hash is not."""
    keys = fingerprint_reference.KEYS
    assert (keys[:-16] != keys[16:]).all()
    words = np.frombuffer(BYTES[:PAGE].tobytes(), "<u4").copy()
    words[1::4] = -keys[1:1024:4]
    words[3::4] = -keys[16 + 3 : 1024 + 16 : 4]
    seen = {fingerprint(words)}
    for place in range(1024):
        for change in (1, 1 << 31):
            changed = words.copy()
            changed[place] ^= change
            seen.add(fingerprint(changed))
    assert len(seen) == 1 + 2 * 1024


def test_pages_in_another_order_and_zeros_at_the_end_are_seen():
    pages = BYTES[: 4 * PAGE].reshape(4, PAGE)
    others = [pages[[1, 0, 2, 3]], pages[::-1], pages[:3], np.zeros_like(pages)]
    others += [np.zeros(size, np.uint8) for size in (0, 1, 2, 4, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE)]
    others += [np.concatenate([pages.ravel(), np.zeros(size, np.uint8)]) for size in (1, 4, PAGE)]
    assert len({fingerprint(other) for other in [pages, *others]}) == 1 + len(others)


def test_each_bit_of_the_fingerprints_of_like_bytes_is_set_in_half_of_them():
    """Of zeros of 4000 sizes, within 6 standard errors."""
    found = np.array([list(bytes.fromhex(fingerprint(bytes(size)))) for size in range(4000)], np.uint8)
    ones = np.unpackbits(found, axis=1).sum(0, dtype=int)
    assert len(np.unique(found, axis=0)) == 4000
    assert (abs(ones - 2000) < 6 * math.sqrt(1000)).all()


# Arrays


@pytest.mark.parametrize(
    "dtype",
    ["int8", "<f2", "float32", "complex128", "U3", "datetime64[s]", "V5", ml_dtypes.bfloat16, ml_dtypes.float8_e5m2],
    ids=str,
)
def test_an_array_has_the_fingerprint_of_its_bytes_in_row_major_order(dtype):
    dtype = np.dtype(dtype)
    octets = BYTES[: 6000 * dtype.itemsize] & (0 if dtype.kind == "U" else 255)  # not all numbers are characters
    memory = octets.view(dtype).reshape(20, 30, 10)
    if dtype.kind == "U":
        memory[...] = np.arange(6000).reshape(memory.shape) % 1000
    for view in (memory, memory.T, memory[::-1, ::2], memory[3, 4, 5], memory[:, :0], memory.transpose(1, 0, 2)):
        assert fingerprint(view) == fingerprint(view.tobytes())


def test_numbers_are_little_endian_whatever_the_arrays_byte_order():
    numbers = BYTES[: 6 * PAGE].view("<f4").reshape(2, -1)
    kinds = np.dtype([("a", "<f4"), ("b", "<i2", 2)])
    for little in (numbers, numbers.view(kinds), numbers.view("<c8")):
        big = little.astype(little.dtype.newbyteorder(">"))
        assert big.tobytes() != little.tobytes()
        assert fingerprint(big) == fingerprint(big.T.copy().T) == fingerprint(little)


@pytest.mark.parametrize("shape", [(3, 2000, 1001), (1, 1, 2500, 999), (2_500_000,), (700, 3, 1200), (2, 1_300_001)])
def test_large_strided_arrays_are_copied_in_pieces_that_make_up_the_whole(monkeypatch, shape):
    monkeypatch.setattr(fingerprints, "_COPIED", 1 << 17)
    memory = np.arange(math.prod(shape), dtype="uint32")
    view = memory.reshape(shape[::-1]).T
    strided = np.stack([memory, memory], axis=-1)[:, 1].reshape(shape) if len(shape) == 1 else view
    assert not strided.flags.c_contiguous
    assert max(octets.size for octets in fingerprints._octets_of(strided)) <= 1 << 17
    assert fingerprint(strided) == fingerprint(strided.copy())


def test_a_file_and_other_buffers_have_the_fingerprint_of_their_bytes(tmp_path):
    octets = BYTES[:9001].tobytes()
    (tmp_path / "table").write_bytes(octets)
    mapped = np.memmap(tmp_path / "table", np.uint8, "r")
    with open(tmp_path / "table", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plain:
        for buffer in (octets, bytearray(octets), memoryview(octets), array.array("B", octets), mapped, plain):
            assert fingerprint(buffer) == fingerprint(octets)


# Refusals


@pytest.mark.parametrize(
    ("buffer", "words"),
    [
        ("text", "array must be a NumPy array or an object with a contiguous buffer, such as bytes, got 'text'"),
        ([1, 2], "got [1, 2]"),
        (None, "got None"),
        (memoryview(b"abcd")[::2], "got <memory at"),
        (np.array([None]), "got one of dtype('O'), whose items are references"),
        (np.zeros(2, [("a", "f4"), ("b", "O")]), "whose items are references"),
        (np.array(["a"], "T"), "whose items are references"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_bytes_to_read_is_refused(buffer, words):
    with pytest.raises(TypeError) as error:
        fingerprint(buffer)
    assert words in str(error.value)


def test_bad_numbers_are_refused():
    for threads, error in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"^threads must be an int >= 1 or None, got "):
            fingerprint(b"abc", threads=threads)
    found = Fingerprint()
    for first, error in ((-1, ValueError), (2**63 - 3, ValueError), (2**70, ValueError), (0.0, TypeError)):
        with pytest.raises(error, match=r"^first_byte must be "):
            found.add(first, b"abc")
    with pytest.raises(TypeError, match=r"^buffer must be a NumPy array"):
        found.add(0, "abc")
    with pytest.raises(TypeError):
        found + 1
    assert found.hexdigest() == fingerprint(b"")


def test_a_byte_that_was_added_before_is_refused_and_nothing_changes():
    found = part(100, 200) + part(300, 9000)
    for first, last in ((0, 101), (199, 200), (150, 350), (0, 10_000), (8999, 9001), (300, 301), (100, 200)):
        with pytest.raises(ValueError, match=r"^bytes \[\d+, \d+\) must be added once, got them again$"):
            found.add(first, BYTES[first:last])
        with pytest.raises(ValueError, match="added once"):
            found + part(first, last)
    assert (part(200, 300) + found + part(0, 100)).hexdigest() == fingerprint(BYTES[:9000])


def test_missing_bytes_are_named():
    message = r"^all bytes up to 9000 must be added before hexdigest, got none of \[{}, {}\)$"
    with pytest.raises(ValueError, match=message.format(0, 100)):
        (part(100, 200) + part(300, 9000)).hexdigest()
    with pytest.raises(ValueError, match=message.format(4096, 4097)):
        (part(0, 4096) + part(4097, 9000)).hexdigest()


# Threads and signals


def test_an_interrupt_passes_through_and_nothing_is_added(monkeypatch):
    def look():
        raise KeyboardInterrupt

    found = part(0, 5000)
    with monkeypatch.context() as patch:
        patch.setattr(parallel, "_look", look)
        with pytest.raises(KeyboardInterrupt):
            found.add(5000, BYTES[5000:], threads=3)
    found.add(5000, BYTES[5000:])
    assert found.hexdigest() == fingerprint(BYTES)


FORK = """
import os, warnings
import numpy as np
from winit_fast import parallel
from winit_fast.fingerprints import fingerprint
warnings.simplefilter("ignore")
memory = np.arange(1 << 22)
expected, children = fingerprint(memory), []
def look():
    if not children:
        children.append(os.fork())
parallel._look = look
try:
    found = fingerprint(memory, threads=4)
except RuntimeError as error:
    found = expected if "the fingerprint is not whole" in str(error) and children == [0] else str(error)
if children == [0]:
    os._exit(int(found != expected))
print(found == expected, os.waitpid(children[0], 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_in_the_middle_raises_there_unless_it_is_whole():
    assert printed(FORK) == "True 0\n"


def test_the_kernel_refuses_what_it_cannot_read():
    keys = fingerprints._keys()
    for octets, some_keys in ((BYTES[::2], keys), (BYTES.view(">u1")[:4096].view("u4"), keys), (BYTES, keys[:1024])):
        with pytest.raises(ValueError, match="octets must be contiguous bytes"):
            dispatch.kernels.fingerprint_together(octets, 0, some_keys, 1, 1, lambda: None)
