"""Plans of small tensors, made once and moved from one to the next."""

import numpy as np
import pytest
from arrays import DTYPES, bits

import winit_fast
from winit_fast._plan import Plan, address_of
from winit_fast.parallel import fill_plan
from winit_fast.small import SMALL_BYTES, plan_small
from winit_fast.streams import stream_of

AXES = {"in_axis": 1, "out_axis": 0, "batch_axis": (), "matrices": 1}
NAME = "layer.weight"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scheme", ["normal", "uniform(-0.5, 0.25)", "he_truncated_normal", "ones"])
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (33, 65), (3, 5, 7)])
def test_a_plan_that_was_moved_writes_the_bits_of_fill_and_nothing_else(dtype, scheme, shape):
    known = plan_small(np.empty(shape, DTYPES[dtype]), scheme, **AXES)
    memory = winit_fast.fill(np.empty(np.prod(shape) + 2, DTYPES[dtype]), "constant(3)")
    expected = memory.copy()
    out = memory[1:-1].reshape(shape)
    assert np.shares_memory(out, memory)
    fill_plan(known.plan.moved(address_of(out), 7, stream_of(NAME)), None)
    winit_fast.fill(expected[1:-1].reshape(shape), scheme, seed=7, name=NAME, in_axis=1, out_axis=0)
    assert (bits(memory) == bits(expected)).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_plan_may_be_moved_to_memory_that_is_not_aligned_and_back(dtype):
    known = plan_small(np.empty((16, 16), dtype), "he_normal", **AXES)
    expected = winit_fast.fill(np.empty((16, 16), dtype), "he_normal", seed=7, name=NAME, in_axis=1, out_axis=0)
    memory = np.zeros(expected.nbytes + 16, "uint8")
    plan = known.plan
    for shift in (1, 3, 8, 0):
        plan = plan.moved(address_of(memory) + shift, 7, stream_of(NAME))
        memory[:] = 0
        fill_plan(plan, None)
        assert memory[shift : shift + expected.nbytes].tobytes() == expected.tobytes()
        assert not memory[:shift].any()
        assert not memory[shift + expected.nbytes :].any()


def test_a_plan_that_was_moved_has_its_own_seed_and_stream():
    known, out = plan_small(np.empty((8, 8), "float32"), "normal", **AXES), np.empty((8, 8), "float32")
    for seed, stream in [(0, 0), (2**64 - 1, 2**64 - 1), (5, 2**63)]:
        fill_plan(known.plan.moved(address_of(out), seed, stream), None)
        assert (out == winit_fast.fill(np.empty_like(out), "normal", seed=seed, name=stream)).all()


@pytest.mark.parametrize(
    ("out", "scheme"),
    [
        (np.empty((0, 4), "float32"), "normal"),
        (np.empty((SMALL_BYTES // 4 + 1,), "float32"), "normal"),
        (np.empty((4, 4), "float32"), "orthogonal"),
        (np.empty((4, 4), "complex64"), "he_normal"),
    ],
)
def test_what_is_empty_or_large_or_hangs_together_has_no_such_plan(out, scheme):
    assert plan_small(out, scheme, **AXES) is None


def test_a_plan_of_rows_is_not_moved():
    rows = np.arange(2, dtype="int64")
    plan = Plan(np.empty((2, 4), "float32"), 0, 0, (), 0, 0, (4, 4), (0, 0), 0, rows)
    with pytest.raises(ValueError, match="cannot be moved"):
        plan.moved(0, 0, 0)


def test_a_plan_that_was_moved_keeps_no_memory_alive():
    import weakref

    class Memory(np.ndarray):
        pass

    out = np.empty((4, 4), "float32").view(Memory)
    gone = weakref.ref(out)
    plan = Plan(out, 3, 0, (0.0, 1.0), 0, 0).moved(0, 0, 0)
    del out
    assert gone() is None
    assert plan.units == 1
