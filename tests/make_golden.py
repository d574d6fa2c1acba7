"""Makes golden.json from the reference alone: ``python tests/make_golden.py``.

The values of stream version 1 never change, so that a released file never does either: a case may be added, none
edited.
"""

import json
from hashlib import blake2b
from pathlib import Path

import numpy as np
import reference

FILE = Path(__file__).with_name("golden.json")

SEED, NAME, SHAPE, FIRST, COUNT = 0x0123456789ABCDEF, "golden", (5000, 37), 4321, 10007

SCHEMES = (
    "constant(0.1)",
    "uniform",
    "uniform(-0.05, 0.1)",
    "normal",
    "normal(0.5, 0.02)",
    "truncated_normal",
    "truncated_normal(1, 0.1, -1.3, 1.3)",
    "truncated_normal(low=-1, high=2.5)",
    "truncated_normal(low=3, high=inf)",
    "truncated_normal(low=-6, high=-5)",
    "truncated_normal(low=30, high=31)",
    "he_normal",
    "xavier_uniform",
    "lecun_truncated_normal",
)


def record(array):
    """The first values of an array in hexadecimal, and a fingerprint of all, both in little-endian order."""
    bits = array.view(f"u{array.itemsize}")
    digits = 2 * array.itemsize
    fingerprint = blake2b(bits.astype(bits.dtype.newbyteorder("<")).tobytes(), digest_size=16).hexdigest()
    return {"first": " ".join(f"{int(value):0{digits}x}" for value in bits[:4]), "blake2b": fingerprint}


def make():
    """All of golden.json."""
    index = np.arange(FIRST, FIRST + COUNT)
    words = reference.words(SEED, reference.stream_of(NAME), index)
    return {
        "stream_version": 1,
        "seed": SEED,
        "name": NAME,
        "shape": SHAPE,
        "first": FIRST,
        "count": COUNT,
        "random_bits": record(words),
        "values": {
            scheme: {
                dtype: record(reference.values(scheme, kind, seed=SEED, name=NAME, shape=SHAPE, index=index))
                for dtype, kind in reference.DTYPES.items()
            }
            for scheme in SCHEMES
        },
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(make(), indent=1) + "\n")
