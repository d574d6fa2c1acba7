"""`winit_fast.files.runs`: any run of elements is what a fill of the whole has there."""

from math import prod

import numpy as np
import pytest
from arrays import DTYPES
from hypothesis import given
from hypothesis import strategies as st

from winit_fast.files.runs import RunFiller, cut_run, fill_run, rectangles
from winit_fast.files.specs import Part, TensorSpec
from winit_fast.initializer import Initializer

SEED = 7


@st.composite
def runs(draw):
    shape = draw(st.lists(st.integers(1, 6), max_size=5).map(tuple))
    first, last = sorted(draw(st.tuples(*[st.integers(0, prod(shape))] * 2)))
    return shape, first, last


def cut(array, offset, shape):
    """A rectangle of it, in order."""
    index = tuple(slice(start, start + size) for start, size in zip(offset, shape, strict=True))
    return np.asarray(array[index]).ravel()


@given(runs())
def test_rectangles_are_the_run_in_order_and_few(run):
    shape, first, last = run
    numbers = np.arange(prod(shape)).reshape(shape)
    found = list(rectangles(shape, first, last))
    met = [cut(numbers, one.offset, one.shape) for one in found]
    assert [values[0] for values in met] == [one.first for one in found]
    assert np.concatenate([[], *met]).tolist() == list(range(first, last))
    assert len(found) <= max(1, 2 * len(shape) - 1)


@pytest.mark.parametrize("shape", [(0,), (3, 0, 4)])
def test_nothing_has_no_rectangles(shape):
    assert list(rectangles(shape, 0, 0)) == []


def bits(array):
    return array.view(np.uint8).tobytes()


SCHEMES = [
    ("normal(std=0.01)", (11, 7, 5), {}),
    ("he_normal", (40, 9), {"in_axis": 1, "out_axis": 0}),
    ("uniform", (), {}),
    ("normal", (50, 3), {"padding_idx": 4}),
    ("orthogonal", (30, 20), {}),
    ("orthogonal", (5, 12, 8), {"batch_axis": 0}),
    ("sparse(sparsity=0.5)", (30, 20), {}),
    ("identity", (20, 20), {}),
    ("zeros", (20, 3), {}),
    ("he_normal", (6, 20), {"matrices": 4}),
    ("dirac", (3, 4, 4), {}),
    ("delta_orthogonal", (3, 4, 8), {}),
]


@pytest.mark.parametrize(("scheme", "shape", "axes"), SCHEMES)
@pytest.mark.parametrize("most_bytes", [0, 1 << 20])
def test_a_run_is_what_the_whole_has_there(scheme, shape, axes, most_bytes):
    spec = TensorSpec("layer.weight", shape, "float32", scheme, **axes)
    table = spec.initializer.fill(np.empty(shape, "float32"), seed=SEED)
    offset, size = tuple(n // 3 for n in shape), tuple(n - n // 3 for n in shape)
    filler = RunFiller(SEED, most_bytes, threads=1)
    for part in (spec.whole, Part(spec, offset, size)):
        expected = cut(table, part.offset, part.shape)
        rng = np.random.default_rng(3)
        for first, last in [(0, len(expected)), *(sorted(rng.integers(0, len(expected) + 1, 2)) for _ in range(20))]:
            out = np.empty(last - first, "float32")
            fill_run(part, int(first), int(last), out, seed=SEED, threads=1)
            assert bits(out) == bits(expected[first:last])
            out[:] = np.nan
            filler.fill(part, int(first), int(last), out)
            assert bits(out) == bits(expected[first:last])


@pytest.mark.parametrize("dtype", [*DTYPES, "complex64", "complex128"])
def test_every_dtype_has_the_values_of_the_whole(dtype):
    spec = TensorSpec("layer.weight", (100, 33), dtype, "normal(std=0.01)")
    table = spec.initializer.fill(np.empty(spec.shape, spec.dtype), seed=SEED)
    out = np.empty(2000, spec.dtype)
    fill_run(spec.whole, 1234, 3234, out, seed=SEED)
    assert bits(out) == bits(table.ravel()[1234:3234])


def test_a_costly_part_is_filled_once_and_a_plain_one_is_never_kept(monkeypatch):
    calls = []

    def fill(self, out, **arguments):
        calls.append(out.size)
        return kept(self, out, **arguments)

    kept = Initializer.fill
    monkeypatch.setattr(Initializer, "fill", fill)
    costly, plain = (TensorSpec(scheme, (16, 16), "float32", scheme).whole for scheme in ("orthogonal", "normal"))
    for most_bytes, expected in ((1024, [256]), (1023, [16] * 16)):
        calls.clear()
        filler = RunFiller(SEED, most_bytes)
        for first in range(0, 256, 16):
            filler.fill(costly, first, first + 16, np.empty(16, "float32"))
        assert calls == expected
    calls.clear()
    for first in range(0, 256, 16):
        filler.fill(plain, first, first + 16, np.empty(16, "float32"))
    assert calls == [16] * 16


@given(runs(), st.integers(1, 60))
def test_a_run_is_cut_in_order_where_rows_end(run, most):
    shape, first, last = run
    pieces = list(cut_run(shape, first, last, most))
    assert [begin for begin, _ in pieces] == [first, *(end for _, end in pieces)][: len(pieces)]
    assert (pieces[-1][1] if pieces else first) == last
    assert all(0 < end - begin <= most for begin, end in pieces)
    row = max((size for size in (prod(shape[axis:]) for axis in range(1, len(shape) + 1)) if size <= most), default=1)
    assert all(end % row == 0 for _, end in pieces[:-1])
