"""docs/reproducibility.md's definition of fingerprints in plain NumPy: a second time, from that page alone."""

import numpy as np
import reference

PAGE = 4096
KEYS = reference.words(0, reference.stream_of("fingerprint"), np.arange(PAGE // 4 + 16))


def fingerprint(octets):
    """The fingerprint of some bytes."""
    a, b, c, d = sum_of_pages(octets + bytes(-len(octets) % PAGE)).astype(np.uint64)
    last = mix(a + (b << np.uint64(32)), c + (d << np.uint64(32)), np.uint64(len(octets)))
    return last.astype("<u4").tobytes().hex()


def sum_of_pages(octets, first_page=0):
    """The four words of whole pages."""
    pages = np.frombuffer(octets, "<u4").reshape(-1, PAGE // 4)
    numbers = np.arange(first_page, first_page + len(pages), dtype=np.uint64)
    return mix(nh(pages, KEYS[: PAGE // 4]), nh(pages, KEYS[16:]), numbers).sum(0, dtype=np.uint32)


def nh(pages, keys):
    """The sum of the products of neighbours, modulo 2^64, of each page."""
    words = (pages + keys).astype(np.uint64)
    return (words[:, ::2] * words[:, 1::2]).sum(1, dtype=np.uint64)


def mix(first, second, key):
    """A block of Philox for each pair of numbers, which are its counter."""
    return np.stack([reference.words_of_blocks(key, second, first, np.array(place)) for place in range(4)], axis=-1)
