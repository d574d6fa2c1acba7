"""Seeds and names: what they become, and what is neither."""

from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winit_fast import random_bits
from winit_fast.streams import seed_key, stream_of

words64 = st.integers(0, 2**64 - 1)


class Index:
    """Neither an int nor a NumPy integer, but usable as one."""

    def __index__(self):
        return 5


@given(words64)
def test_an_integer_is_its_own_key_and_stream(value):
    assert seed_key(value) == stream_of(value) == value
    assert seed_key(np.uint64(value)) == stream_of(np.uint64(value)) == value


def test_whatever_has_an_index_is_an_integer():
    for value in (Index(), np.int8(5), np.array(5)):
        assert type(seed_key(value)) is type(stream_of(value)) is int
        assert seed_key(value) == stream_of(value) == 5


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_is_hashed_by_blake2b(name):
    expected = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
    assert stream_of(name) == stream_of(np.str_(name)) == expected


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("", 0xB4B2797457A0A6E4),
        ("user_id", 0x02879A7CEC01D2B2),  # printf user_id | b2sum -l 64
        ("layer.0.weight", 0x999C522D46D00EF0),
        ("größe", 0xE99A32C955E1F8F4),
        ("重み", 0xED13CFC534E5AE32),
    ],
)
def test_streams_of_texts_never_change(name, stream):
    assert stream_of(name) == stream


@pytest.mark.parametrize("name", ["", "a", "user_id", "größe", "重み", "\0", "x" * 1000])
def test_random_bits_of_a_text_are_those_of_its_stream(name):
    expected = random_bits(np.empty(9, np.uint32), seed=1, name=stream_of(name))
    np.testing.assert_array_equal(random_bits(np.empty(9, np.uint32), seed=1, name=name), expected)


@pytest.mark.parametrize("value", [-1, 2**64, 2**100, np.int64(-1)])
def test_integers_beyond_64_bits_are_refused(value):
    for function, argument in ((seed_key, "seed"), (stream_of, "name")):
        with pytest.raises(ValueError, match=rf"{argument} must be .*an int in \[0, 2\^64\), got .*{int(value)}"):
            function(value)


@pytest.mark.parametrize("value", [10**5000, -(10**5000)], ids=["above", "below"])
def test_integers_too_long_to_print_are_refused_by_name(value):
    for function, argument in ((seed_key, "seed"), (stream_of, "name")):
        with pytest.raises(ValueError, match=rf"{argument} must be .*an int in \[0, 2\^64\)"):
            function(value)


@pytest.mark.parametrize(
    "value", [None, True, False, np.True_, 1.5, 1.0, np.float32(1), b"7", [7], np.array(1.5), np.array([1, 2])]
)
def test_what_is_no_integer_is_refused(value):
    for function, argument in ((seed_key, "seed"), (stream_of, "name")):
        with pytest.raises(TypeError, match=rf"{argument} must be .*an int in \[0, 2\^64\), got "):
            function(value)


def test_a_text_is_no_seed():
    with pytest.raises(TypeError, match=r"seed must be an int in .*, got '7'"):
        seed_key("7")


@pytest.mark.parametrize("name", ["\ud800", "a\udfffb", "\ud800" * 60_000], ids=["one", "inside", "long"])
def test_a_name_that_utf8_cannot_encode_is_refused_in_short(name):
    with pytest.raises(ValueError, match="name must be text that UTF-8 can encode, got ") as caught:
        stream_of(name)
    assert len(str(caught.value)) < 300
