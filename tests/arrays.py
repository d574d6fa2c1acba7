"""Arrays of every type, shape and layout to fill, and the bits in them."""

from math import prod

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

DTYPES = {
    "float32": np.dtype("float32"),
    "float64": np.dtype("float64"),
    "float16": np.dtype("float16"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
NARROW = [name for name in DTYPES if name not in ("float32", "float64")]

# One for every way from words to values.
SCHEMES = [
    "constant(0.75)",
    "uniform(-0.1, 0.3)",
    "normal(mean=0.01, std=0.5)",
    "truncated_normal(std=0.02)",
    "truncated_normal(low=-3, high=1)",
    "truncated_normal(low=10, high=inf)",
]

UNTOUCHED = 0xA5


def dtype_names():
    return st.sampled_from(sorted(DTYPES))


def scheme_texts():
    return st.sampled_from(SCHEMES)


@st.composite
def shapes(draw, ranks=(0, 5), most_values=6000):
    """Shapes with sizes of 0 and 1 among them, and now and then a long axis."""
    left = most_values
    shape = []
    for _ in range(draw(st.integers(*ranks))):
        most = max(1, left)
        size = draw(st.one_of(st.integers(1, min(most, 6)), st.integers(0, most)))
        shape.append(size)
        left //= max(1, size)
    return tuple(draw(st.permutations(shape)))


@st.composite
def regions(draw, ranks=(0, 5), most_values=6000):
    """A global shape, and the offset and shape of a rectangle in it."""
    shape = draw(shapes(ranks, most_values))
    edges = [sorted((draw(st.integers(0, size)), draw(st.integers(0, size)))) for size in shape]
    return shape, tuple(first for first, _ in edges), tuple(last - first for first, last in edges)


def cut(whole, offset, shape):
    """The rectangle of `whole` that begins at `offset`."""
    return whole[(*(slice(first, first + size) for first, size in zip(offset, shape, strict=True)), ...)]


class Placed:
    """A view somewhere in a block of bytes, all of which are `UNTOUCHED` to begin with."""

    def __init__(self, memory_size, shape, dtype, start, strides):
        self.memory = np.full(memory_size, UNTOUCHED, np.uint8)
        self.view = np.ndarray(shape, dtype, self.memory, start, strides)
        belongs = np.zeros(memory_size, bool)
        np.ndarray((*shape, dtype.itemsize), bool, belongs, start, (*strides, 1))[...] = True
        self.outside = ~belongs

    def is_untouched_outside(self):
        return bool((self.memory[self.outside] == UNTOUCHED).all())


@st.composite
def placed(draw, shape, dtype):
    """A view of any order of axes, steps, signs and alignment: strides nest, and gaps need not be whole items."""
    strides = [0] * len(shape)
    reach, start = dtype.itemsize, draw(st.integers(0, 17))
    gaps = st.one_of(st.just(0), st.sampled_from([1, 3, dtype.itemsize, 2 * dtype.itemsize, 40]))
    for axis in draw(st.permutations(range(len(shape)))):
        stride = reach + draw(gaps)
        span = stride * max(0, shape[axis] - 1)
        if draw(st.integers(0, 3)) == 0:
            start += span
            stride = -stride
        strides[axis] = stride
        reach += span
    low = start + sum(min(0, stride * max(0, size - 1)) for stride, size in zip(strides, shape, strict=True))
    return Placed(low + reach + draw(st.integers(0, 17)), shape, dtype, start, tuple(strides))


def bits(array):
    """The elements in logical order, as unsigned integers: == on them tells -0 from 0, and nan from nothing."""
    numbers = 2 if array.dtype.kind == "c" else 1
    return np.array(array, order="C", subok=False).reshape(-1).view(f"u{array.dtype.itemsize // numbers}")


def same(first, second):
    """Whether two arrays have the same shape, type and bits."""
    return first.shape == second.shape and first.dtype == second.dtype and bool((bits(first) == bits(second)).all())


def untouched(shape, dtype):
    """A contiguous array of `UNTOUCHED` bytes."""
    kind = np.dtype(dtype)
    return np.full(prod(shape) * kind.itemsize, UNTOUCHED, np.uint8).view(kind).reshape(shape)
