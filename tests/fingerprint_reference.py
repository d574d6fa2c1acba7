"""docs/reproducibility.md's definition of fingerprints in plain NumPy: a second time, from that page alone."""

import numpy as np
import reference

PAGE = 4096
KEYS = reference.words(0, reference.stream_of("fingerprint"), np.arange(PAGE // 4 + 16))


def fingerprint(octets):
    """32 hexadecimal digits for some bytes."""
    pages = np.frombuffer(octets + bytes(-len(octets) % PAGE), "<u4").reshape(-1, PAGE // 4)
    number = np.arange(len(pages), dtype=np.uint64)
    total = mix(nh(pages, KEYS[: PAGE // 4]), nh(pages, KEYS[16:]), number).sum(0, dtype=np.uint32)
    low, high = (total[i : i + 1] + (total[i + 1 : i + 2].astype(np.uint64) << np.uint64(32)) for i in (0, 2))
    return mix(low, high, np.array([len(octets)], np.uint64)).astype("<u4").tobytes().hex()


def nh(pages, keys):
    """The sum of the products of neighbours, modulo 2^64, of each page."""
    words = (pages + keys).astype(np.uint64)
    return (words[:, ::2] * words[:, 1::2]).sum(1, dtype=np.uint64)


def mix(first, second, key):
    """A block of Philox for each pair of numbers, which are its counter."""
    return np.stack([reference.words_of_blocks(key, second, first, np.array(place)) for place in range(4)], axis=1)
