"""The words of `random_bits` against another implementation of Philox: randomgen's."""

import numpy as np
import pytest
from randomgen import Philox

from winit_fast import random_bits
from winit_fast.streams import stream_of

SEEDS_AND_NAMES = [(0, 0), (2**64 - 1, 2**64 - 1), (0x299F31D0A4093822, 0x0370734413198A2E), (7, "user_id")]


@pytest.mark.parametrize(("seed", "name"), SEEDS_AND_NAMES)
@pytest.mark.parametrize("block", [0, 1, 2**30 - 5, 2**32 - 1000, 2**45 + 12345, 2**63 - 7, 2**64 - 25_001])
def test_random_bits_are_those_of_randomgen(isa, seed, name, block):
    # randomgen steps its 128-bit counter before it makes a block.
    before = (block + (stream_of(name) << 64) - 1) % 2**128
    theirs = Philox(key=seed, counter=before, number=4, width=32).random_raw(100_003)
    ours = random_bits(np.empty(100_003, np.uint32), seed=seed, name=name, offset=4 * block)
    np.testing.assert_array_equal(ours, theirs)
