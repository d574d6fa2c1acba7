"""The stream: words that others confirm, and values that never change."""

import json

import numpy as np
import pytest
import reference
from make_golden import COMPLEX_TENSORS, FILE, SCHEMES, TENSORS, record

from winit_fast import STREAM_VERSION, fill, random_bits

GOLDEN = json.loads(FILE.read_text())

# Counter, key and result of the three vectors for ten rounds in Random123's tests/kat_vectors, D. E. Shaw Research
# (BSD-3-Clause).
KNOWN_ANSWERS = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words_of(text):
    return [int(word, 16) for word in text.split()]


def bits(count, **where):
    return random_bits(np.empty(count, np.uint32), **where)


# Words


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_random_bits_gives_the_known_answers_of_random123(isa, counter, key, expected):
    counter, key = words_of(counter), words_of(key)
    block, stream = counter[0] + (counter[1] << 32), counter[2] + (counter[3] << 32)
    got = bits(4, seed=key[0] + (key[1] << 32), name=stream, offset=4 * block)
    assert got.tolist() == words_of(expected)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_the_reference_gives_the_known_answers_of_random123(counter, key, expected):
    counter, key = words_of(counter), words_of(key)
    block, stream = counter[0] + (counter[1] << 32), counter[2] + (counter[3] << 32)
    index = np.array([4 * block + place for place in range(4)], object)
    assert reference.words(key[0] + (key[1] << 32), stream, index).tolist() == words_of(expected)


@pytest.mark.parametrize("around", [0, 2**31, 2**32, 2**34, 2**36, 2**63, 2**64, 2**65, 2**66])
def test_random_bits_are_those_of_the_reference_at_any_offset_and_length(isa, around):
    every = np.array([word for word in range(around - 301, around + 301) if 0 <= word < 2**66], object)
    first, last = int(every[0]), int(every[-1])
    expected = reference.words(11, reference.stream_of("any"), every)
    for count in (1, 2, 3, 5, 31, 33, 64, 127, 257, len(every)):
        for offset in {first, first + 1, first + 2, first + 3, first + 29, around - count // 2, last + 1 - count}:
            if first <= offset and offset + count <= last + 1:
                got = bits(count, seed=11, name="any", offset=offset)
                np.testing.assert_array_equal(got, expected[offset - first : offset - first + count])


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_random_bits_follow_the_logical_order_of_any_memory(isa, threads):
    memory = np.zeros((6, 34, 10), np.uint32)
    out = memory[::-2, 1:32, ::3].transpose(2, 0, 1)
    random_bits(out, seed=3, name=9, offset=2**34 - 77, threads=threads)
    expected = reference.words(3, 9, np.arange(2**34 - 77, 2**34 - 77 + out.size)).reshape(out.shape)
    np.testing.assert_array_equal(out, expected)
    out[...] = 0
    assert not memory.any()  # nothing beside it was written


# Golden values


def test_the_stream_version_is_that_of_the_golden_values():
    assert GOLDEN["stream_version"] == STREAM_VERSION
    assert set(GOLDEN["values"]) == set(SCHEMES)
    written = [(case["scheme"], tuple(case["shape"]), case["axes"]) for case in GOLDEN["tensors"]]
    assert written == [*TENSORS, *COMPLEX_TENSORS]


def test_golden_random_bits_never_change(isa):
    got = bits(GOLDEN["count"], seed=GOLDEN["seed"], name=GOLDEN["name"], offset=GOLDEN["first"])
    assert record(got) == GOLDEN["random_bits"]


@pytest.mark.parametrize("scheme", GOLDEN["values"])
def test_golden_values_never_change(isa, scheme):
    # The run is not a rectangle of the tensor: fill the rows around it.
    rows, columns = GOLDEN["shape"]
    top, skipped = divmod(GOLDEN["first"], columns)
    height = -(-(skipped + GOLDEN["count"]) // columns)
    for dtype, expected in GOLDEN["values"][scheme].items():
        out = np.empty((height, columns), reference.DTYPES[dtype])
        fill(out, scheme, seed=GOLDEN["seed"], name=GOLDEN["name"], shape=(rows, columns), offset=(top, 0))
        assert record(out.ravel()[skipped : skipped + GOLDEN["count"]]) == expected, dtype


@pytest.mark.parametrize("case", GOLDEN["tensors"], ids=lambda case: f"{case['scheme']} {case['shape']}")
def test_golden_tensors_never_change(isa, case):
    for dtype, expected in case["values"].items():
        out = np.empty(case["shape"], (reference.DTYPES | reference.COMPLEX_DTYPES)[dtype])
        fill(out, case["scheme"], seed=GOLDEN["seed"], name=GOLDEN["name"], **case["axes"])
        assert record(out) == expected, dtype
