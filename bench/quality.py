"""Writes endless bytes of the stream to standard output, for statistical test batteries: docs/quality.md has results.

python bench/quality.py raw | RNG_test stdin32 -tlmax 16GB
python bench/quality.py --list
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
from scipy.special import ndtr

import winit_fast

Chunks = Iterator[np.ndarray]
CHUNK = 1 << 20  # words
SOURCES: dict[str, Callable[[int], Chunks]] = {}


def source(function: Callable[[int], Chunks]) -> Callable[[int], Chunks]:
    SOURCES[function.__name__] = function
    return function


# Words


@source
def raw(seed: int) -> Chunks:
    """The words of one stream, in order."""
    for first in count(0, CHUNK):
        yield winit_fast.random_bits(np.empty(CHUNK, "uint32"), seed=seed, name="quality", offset=first)


@source
def transposed(seed: int) -> Chunks:
    """The words of one stream, as a table of 64 columns read column by column: neighbours are 64 words apart."""
    for first in count(0, CHUNK):
        words = np.empty((CHUNK // 64, 64), "uint32")
        yield winit_fast.random_bits(words, seed=seed, name="quality", offset=first).T


@source
def seeds(seed: int) -> Chunks:
    """Word 0 of seeds 7, 8, 9, ..., then word 1 of each: 32 words of every 2^14 seeds."""
    return interleaved(lambda number: {"seed": seed + number, "name": 0})


@source
def streams(seed: int) -> Chunks:
    """The same of streams 0, 1, 2, ... under one seed."""
    return interleaved(lambda number: {"seed": seed, "name": number})


@source
def names(seed: int) -> Chunks:
    """The same of names "a0", "a1", "a2", ... under one seed."""
    return interleaved(lambda number: {"seed": seed, "name": f"a{number}"})


def interleaved(place: Callable[[int], dict]) -> Chunks:
    for first in count(0, 1 << 14):
        words = np.empty((1 << 14, 32), "uint32")
        for number, row in enumerate(words, first):
            winit_fast.random_bits(row, threads=1, **place(number))
        yield words.T


@source
def keys(seed: int) -> Chunks:
    """The 24 bits of float32 uniforms of rows 0, 1, 2, ... of a table of keys: element 0 of each, then element 1."""
    for first in count(0, 1 << 16):
        table = np.empty((1 << 16, 16), "float32")
        winit_fast.fill_keys(table, np.arange(first, first + len(table)), "uniform", seed=seed, name="quality")
        yield packed(table.T, 24)


# Values, mapped back to words by their distribution function


def values(text: str, dtype: str, bits: int, cdf: Callable[[np.ndarray], np.ndarray]) -> Callable[[int], Chunks]:
    def chunks(seed: int) -> Chunks:
        whole = (1 << 62,)
        for first in count(0, CHUNK):
            part = np.empty(CHUNK, dtype)
            winit_fast.fill(part, text, seed=seed, name="quality", shape=whole, offset=(first,))
            yield packed(cdf(part.astype("float64")), bits)

    chunks.__doc__ = f"The first {bits} bits of the distribution function at {dtype} values of {text}."
    return chunks


def packed(parts: np.ndarray, bits: int) -> np.ndarray:
    """The first bits of numbers in [0, 1], one after another, as bytes."""
    numbers = np.minimum(parts.astype("float64").ravel() * 2.0**bits, 2.0**bits - 1).astype("uint64")
    if bits == 12:  # two of them in three bytes
        numbers, bits = numbers[::2] << np.uint64(12) | numbers[1::2], 24
    return numbers.astype("<u8").view("uint8").reshape(-1, 8)[:, : bits // 8]


def between(low: float, high: float) -> Callable[[np.ndarray], np.ndarray]:
    below, above = ndtr([low, high])
    return lambda z: np.clip((ndtr(z) - below) / (above - below), 0, 1)


SOURCES["uniform32"] = values("uniform", "float32", 24, lambda u: u)
SOURCES["uniform64"] = values("uniform", "float64", 48, lambda u: u)
SOURCES["normal32"] = values("normal", "float32", 16, ndtr)
SOURCES["normal64"] = values("normal", "float64", 32, ndtr)
SOURCES["centre32"] = values("truncated_normal(low=-2, high=2)", "float32", 16, between(-2, 2))
SOURCES["tail32"] = values("truncated_normal(low=-3, high=1)", "float32", 12, between(-3, 1))
SOURCES["tail32_16"] = values("truncated_normal(low=-3, high=1)", "float32", 16, between(-3, 1))
SOURCES["truncated64"] = values("truncated_normal(low=-2, high=2)", "float64", 32, between(-2, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", choices=SOURCES)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--list", action="store_true", help="what there is to write")
    options = parser.parse_args()
    if options.list or options.source is None:
        for name, chunks in SOURCES.items():
            print(f"{name:12} {chunks.__doc__}")
        return
    try:
        for chunk in SOURCES[options.source](options.seed):
            sys.stdout.buffer.write(np.ascontiguousarray(chunk).data)
    except BrokenPipeError:  # the battery has had enough
        sys.stderr.close()


if __name__ == "__main__":
    main()
