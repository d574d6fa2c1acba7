"""`matrices=`: a tensor that is several matrices, one after another along an axis, each with fans of its own."""

import math

import numpy as np
import pytest
import reference
from arrays import DTYPES, cut, placed, same, untouched
from hypothesis import given, settings
from hypothesis import strategies as st

from winit_fast import dispatch, fill, fill_rows, structures
from winit_fast.dispatch import usable_isas

SCHEMES = ["he_normal", "xavier_uniform", "lecun_truncated_normal", "normal(std=0.02)", "ones", "orthogonal"]
SCHEMES += ["sparse(0.3)", "identity", "variance_scaling(mode='fan_geo_avg')", "array([[0.5]])"]
HANGING = ["orthogonal", "sparse(0.3)", "identity", "array([[0.5]])"]  # whose rows cannot be listed across matrices


def reshaped(shape, axes, count, axis, dtype, scheme):
    """The tensor whose matrices are an axis of their own."""
    parts = (*shape[:axis], count, shape[axis] // count, *shape[axis + 1 :])
    moved = {name: given + (given >= axis) for name, given in axes.items()}
    out = fill(untouched(parts, dtype), scheme, seed=7, name="packed", batch_axis=axis, **moved)
    return out.reshape(shape)


@settings(max_examples=150, deadline=None)
@given(
    st.data(), st.sampled_from(SCHEMES), st.sampled_from(sorted(DTYPES)), st.integers(1, 5), st.integers(1, 20),
    st.integers(1, 20), st.booleans(), st.sampled_from([None, 0, 1]), st.sampled_from([1, 2, 3]),
)  # fmt: skip
def test_matrices_have_the_values_of_the_tensor_where_they_are_an_axis(
    data, scheme, dtype, count, size, other, is_torch, given_axis, threads
):
    kind = DTYPES[dtype]
    axes = {"in_axis": 1, "out_axis": 0} if is_torch else {"in_axis": 0, "out_axis": 1}
    axis = axes["out_axis"] if given_axis is None else given_axis
    shape = (count * size, other) if axis == 0 else (other, count * size)
    matrices = count if given_axis is None else (count, given_axis)
    whole = reshaped(shape, axes, count, axis, kind, scheme)
    given = {"seed": 7, "name": "packed", "matrices": matrices, "threads": threads, **axes}

    place = data.draw(placed(shape, kind))
    assert same(fill(place.view, scheme, **given), whole)
    assert place.is_untouched_outside()

    first = [data.draw(st.integers(0, n)) for n in shape]
    extent = [data.draw(st.integers(0, n - begin)) for n, begin in zip(shape, first, strict=True)]
    part = untouched(tuple(extent), kind)
    fill(part, scheme, shape=shape, offset=first, **given)
    assert same(part, cut(whole, tuple(first), tuple(extent)))

    if axis == 0 and scheme in HANGING:
        return
    rows = data.draw(st.lists(st.integers(0, shape[0] - 1), max_size=6))
    assert same(fill_rows(untouched((len(rows), shape[1]), kind), rows, scheme, shape=shape, **given), whole[rows])


@pytest.mark.parametrize("isa", usable_isas())
@pytest.mark.parametrize("scheme", ["he_uniform", "xavier_normal", "orthogonal", "sparse(0.4)"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_matrices_have_the_bits_of_the_reference(monkeypatch, isa, scheme, dtype):
    monkeypatch.setattr(dispatch, "kernels", pytest.importorskip(f"winit_fast._kernels_{isa}"))
    shape, kind = (12, 9), DTYPES[dtype]
    for matrices, axes in ((4, (1, 0)), ((3, 1), (1, 0)), ((3, 1), (0, 1)), ((2, 0), (0, 1))):
        layout = {"in_axis": axes[0], "out_axis": axes[1]}
        count, axis = matrices if isinstance(matrices, tuple) else (matrices, axes[1])
        out = fill(untouched(shape, kind), scheme, seed=3, name="packed", matrices=matrices, **layout)
        index = np.arange(math.prod(shape)).reshape(shape)
        expected = reference.values(
            scheme, kind, seed=3, name="packed", shape=shape, index=index, matrices=(count, axis), **layout
        )
        assert same(out, expected)


def test_each_gate_of_an_lstm_has_fans_and_an_orthogonal_matrix_of_its_own():
    torch_layout = {"in_axis": 1, "out_axis": 0, "matrices": 4, "seed": 1, "name": "weight_hh"}
    gates = fill(np.empty((4 * 64, 64)), "orthogonal", **torch_layout).reshape(4, 64, 64)
    for gate in gates:
        assert np.abs(gate @ gate.T - np.eye(64)).max() < 1e-13
    assert not (gates[0] == gates[1]).any()
    packed = fill(np.empty((3 * 512, 512)), "xavier_uniform", **(torch_layout | {"matrices": 3}))
    assert np.abs(packed).max() <= math.sqrt(6 / 1024)
    assert packed.std() == pytest.approx(math.sqrt(2 / 1024), rel=0.01)


def test_the_groups_of_a_convolution_have_the_fans_of_one_group():
    weight = fill(np.empty((256, 8, 3, 3)), "he_normal(mode='fan_out')", seed=1, in_axis=1, out_axis=0, matrices=32)
    assert weight.std() == pytest.approx(math.sqrt(2 / (9 * 8)), rel=0.02)


def test_padding_is_a_row_of_the_whole_tensor():
    out = fill(np.empty((8, 3), "float32"), "normal", seed=1, matrices=(2, 0), padding_idx=5)
    assert (out == 0).all(axis=1).tolist() == [False] * 5 + [True, False, False]


@pytest.mark.parametrize(
    ("matrices", "error", "words"),
    [
        (0, ValueError, "matrices must be an int >= 1 or a tuple of a count and an axis, got 0"),
        (-2, ValueError, "matrices must be an int >= 1 or a tuple of a count and an axis, got -2"),
        (True, TypeError, "matrices must be an int >= 1"),
        (2.0, TypeError, "matrices must be an int >= 1"),
        ("2", TypeError, "matrices must be an int >= 1"),
        ((2, 0, 1), TypeError, "matrices must be an int >= 1"),
        (None, TypeError, "matrices must be an int >= 1"),
        (5, ValueError, r"matrices must divide axis 1 of shape (12, 6), the first of out_axis, got 5"),
        ((5, 0), ValueError, r"matrices must divide axis 0 of shape (12, 6), got 5"),
        pytest.param(10**5000, ValueError, "the first of out_axis, got a very long int", id="very long"),
        ((2, 2), ValueError, "out of range"),
    ],
)
def test_matrices_that_cannot_be_are_refused_before_anything_is_written(matrices, error, words):
    for out, call in (
        (untouched((12, 6), "float32"), lambda out: fill(out, "he_normal", seed=1, matrices=matrices)),
        (
            untouched((1, 6), "float32"),
            lambda out: fill_rows(out, [0], "he_normal", seed=1, shape=(12, 6), matrices=matrices),
        ),
    ):
        before = out.tobytes()
        with pytest.raises(error) as caught:
            call(out)
        assert words in str(caught.value)
        assert out.tobytes() == before


def test_matrices_along_no_axis_of_inputs_or_outputs_are_refused():
    with pytest.raises(ValueError, match="along an input or output axis, got axis 0"):
        fill(np.empty((4, 3, 2)), "he_normal", seed=1, matrices=(2, 0))
    with pytest.raises(ValueError, match=r"matrices must be \(count, axis\) where there is no output axis"):
        fill(np.empty(4), "he_normal", seed=1, in_axis=0, out_axis=(), matrices=2)


STRUCTURES = ["orthogonal", "sparse(0.5)", "identity", "array([[0.5]])"]


@pytest.mark.parametrize("scheme", STRUCTURES)
@pytest.mark.parametrize("strides", [(8, 4), (0, 4), (16, 2)])
def test_memory_that_overlaps_is_refused_before_the_first_matrix_is_written(scheme, strides):
    memory = np.arange(64, dtype="float32")
    out = np.lib.stride_tricks.as_strided(memory, (4, 4), strides)
    for count in (1, 2, 4):
        with pytest.raises(ValueError, match="out must not overlap itself in memory"):
            fill(out, scheme, seed=1, in_axis=1, out_axis=0, matrices=count)
    assert (memory == np.arange(64)).all()


@pytest.mark.parametrize("scheme", STRUCTURES)
def test_rows_of_matrices_that_hang_together_are_refused(scheme):
    out = untouched((2, 4), "float32")
    given = {"seed": 1, "shape": (8, 4), "in_axis": 1, "out_axis": 0}
    with pytest.raises(ValueError, match="matrices must not follow each other along the axis of the rows"):
        fill_rows(out, [3, 5], scheme, matrices=2, **given)
    assert same(out, untouched((2, 4), "float32"))


@pytest.mark.parametrize("scheme", ["identity", "sparse(0.5)"])
def test_many_matrices_cost_three_writes_at_most(monkeypatch, scheme):
    writes = []
    prepare = structures.prepare

    def counted(*arguments):
        write = prepare(*arguments)
        return lambda *given: (writes.append(given), write(*given))

    monkeypatch.setattr(structures, "prepare", counted)
    shape = (3000, 7)  # of no other test: what is prepared is kept
    part = untouched((2996, 7), "float32")
    fill(part, scheme, seed=1, in_axis=1, out_axis=0, matrices=1000, shape=shape, offset=(2, 0))
    assert len(writes) == 3


@pytest.mark.parametrize("scheme", ["zeros", "normal(std=0.02)", "lstm_bias", "uniform(-1, 1)"])
def test_a_bias_is_filled_as_it_is_where_a_rule_takes_it_with_its_matrices(scheme):
    expected = fill(np.empty(8), scheme, seed=1, name="bias")
    for matrices in (4, (2, 0)):
        assert same(fill(np.empty(8), scheme, seed=1, name="bias", matrices=matrices), expected)
    with pytest.raises(ValueError, match=r"matrices must divide axis 0 of shape \(8,\), got 3"):
        fill(np.empty(8), scheme, seed=1, matrices=3)
    with pytest.raises(ValueError, match="he_normal needs an input and an output axis"):
        fill(np.empty(8), "he_normal", seed=1, matrices=4)
    with pytest.raises(ValueError, match=r"matrices must divide axis 0 of shape \(\), got 4"):
        fill(np.empty(()), scheme, seed=1, matrices=4)
