"""Makes golden.json from the reference alone: ``python tests/make_golden.py``.

The values of stream version 1 never change, so that a released file never does either: a case may be added, none
edited.
"""

import json
import math
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

TORCH = {"in_axis": 1, "out_axis": 0}

# Whole tensors: a scheme, the shape, the axes.
TENSORS = (
    ("residual_normal(12)", (40, 37), {}),
    ("fixup(16, 3)", (40, 37), {}),
    ("t_fixup(6)", (40, 37), {}),
    ("deepnet(18, 12, 'encoder')", (40, 37), {}),
    ("mup(64)", (40, 37), {}),
    ("he_normal(nonlinearity='gelu')", (40, 37), {}),
    ("embedding_uniform", (40, 37), {}),
    ("embedding_normal", (40, 37), {}),
    ("orthogonal", (1, 1), {}),
    ("orthogonal", (70, 70), {}),
    ("orthogonal", (100, 130), {}),
    ("orthogonal", (130, 100), {}),
    ("orthogonal", (20, 150), {}),
    ("orthogonal", (150, 20), {}),
    ("orthogonal", (300, 70), {}),
    ("orthogonal(-1.4)", (3, 20, 33), {"batch_axis": 0}),
    ("orthogonal(0.3)", (66, 8, 3, 3), TORCH),
    ("delta_orthogonal", (3, 4, 20, 31), {}),
    ("convolution_orthogonal", (3, 4, 20, 31), {}),
    ("convolution_orthogonal(-0.3)", (70, 9, 3), TORCH),
    ("sparse(0.4)", (40, 300), {}),
    ("sparse(0.4)", (300, 40), {}),
    ("sparse(0.4, std=1.5, per='out')", (40, 300), {}),
    ("sparse(0.4, std=1.5, per='out')", (300, 40), {}),
    ("sparse(0.9)", (128, 3, 2, 3), {"in_axis": 1, "out_axis": 0, "batch_axis": 2}),
    ("sparse(0.9)", (129, 3, 2, 3), {"in_axis": 1, "out_axis": 0, "batch_axis": 2}),
    ("identity(0.1)", (5, 9), {}),
    ("dirac(2)", (3, 4, 5, 12), {}),
    ("bilinear", (5, 4, 2, 3), {}),
    ("lstm_bias(0.7)", (12,), {}),
    ("array([[0.1], [2]])", (2, 3), {}),
)

COMPLEX_TENSORS = (
    ("constant(0.1)", (40, 37), {}),
    ("he_normal", (40, 37), {}),
    ("he_uniform", (40, 37), {}),
    ("he_truncated_normal", (40, 37), {}),
    ("xavier_uniform", (5, 9, 3, 2), TORCH),
)


def record(array):
    """The first values of an array in hexadecimal, and a fingerprint of all, both in little-endian order.

    A complex number is two values.
    """
    size = array.real.itemsize
    bits = array.ravel().view(f"u{size}")
    digits = 2 * size
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
        "tensors": [
            *(tensor(*case, reference.DTYPES) for case in TENSORS),
            *(tensor(*case, reference.COMPLEX_DTYPES) for case in COMPLEX_TENSORS),
        ],
    }


def tensor(scheme, shape, axes, dtypes):
    """A whole tensor, in every type that its scheme has."""
    index = np.arange(math.prod(shape))
    return {
        "scheme": scheme,
        "shape": shape,
        "axes": axes,
        "values": {
            dtype: record(reference.values(scheme, kind, seed=SEED, name=NAME, shape=shape, index=index, **axes))
            for dtype, kind in dtypes.items()
        },
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(make(), indent=1) + "\n")
