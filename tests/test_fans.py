"""Fans: counts, axes and refusals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winit_fast.fans import Fans, fans

shapes = st.lists(st.integers(1, 9), min_size=2, max_size=5).map(tuple)


def jax_fans(shape, in_axis, out_axis, batch_axis):
    """The arithmetic of jax.nn.initializers, divisions and all."""
    in_size, out_size, batch_size = (
        math.prod(shape[axis] for axis in axes) for axes in (in_axis, out_axis, batch_axis)
    )
    receptive_field = math.prod(shape) / in_size / out_size / batch_size
    return in_size * receptive_field, out_size * receptive_field


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((512, 256), {}, (512, 256)),
        ((3, 3, 16, 32), {}, (144, 288)),
        ((32, 16, 3, 3), {"in_axis": 1, "out_axis": 0}, (144, 288)),
        ((32, 16, 3, 3), {"in_axis": -3, "out_axis": -4}, (144, 288)),
        ((8, 512, 256), {"batch_axis": 0}, (512, 256)),
        ((8, 2, 512, 256), {"batch_axis": (0, 1)}, (512, 256)),
        ((512, 8, 64), {"in_axis": 0, "out_axis": (1, 2)}, (512, 512)),
        ((8, 64, 512), {"in_axis": (0, 1), "out_axis": 2}, (512, 512)),
        ((50_000, 128), {"in_axis": -2, "out_axis": 0}, (128, 128)),
        ((7,), {"in_axis": 0, "out_axis": ()}, (7, 1)),
        ((7,), {"in_axis": (), "out_axis": 0}, (1, 7)),
        ((7,), {"in_axis": (), "out_axis": ()}, (7, 7)),
        ((), {"in_axis": (), "out_axis": ()}, (1, 1)),
        ((0, 5), {}, (0, 5)),
    ],
)
def test_fans_counts_inputs_and_outputs_with_the_receptive_field_in_both(shape, axes, expected):
    assert fans(shape, **axes) == Fans(*expected)


@given(shapes, st.data())
def test_fans_are_those_of_jax(shape, data):
    axes = data.draw(st.permutations(range(len(shape))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(axes)), min_size=3, max_size=3)))
    in_axis, out_axis, batch_axis = axes[: cuts[0]], axes[cuts[0] : cuts[1]], axes[cuts[1] : cuts[2]]
    in_axis = in_axis + data.draw(st.sampled_from([[], out_axis]))
    assert fans(shape, in_axis, out_axis, batch_axis) == pytest.approx(jax_fans(shape, in_axis, out_axis, batch_axis))


@given(shapes, st.data())
def test_fans_count_negative_axes_from_the_end(shape, data):
    in_axis, out_axis = data.draw(st.permutations(range(len(shape))))[:2]
    assert fans(shape, in_axis, out_axis) == fans(shape, in_axis - len(shape), (out_axis - len(shape),))


def test_fans_are_python_integers_of_any_size():
    counted = fans(np.array([2**62, 2**62, 2**62]), np.int64(-2), [np.int8(-1)])
    assert counted == (2**124, 2**124)
    assert {type(fan) for fan in counted} == {int}


@pytest.mark.parametrize("shape", [(), (7,)])
def test_fans_of_a_shape_without_two_axes_say_what_would_help(shape):
    with pytest.raises(
        ValueError, match=r"fans need an input and an output axis; shape \(.*in_axis= and out_axis=.*scheme without"
    ):
        fans(shape)


def test_fans_of_a_vector_refuse_one_axis_as_input_and_output():
    with pytest.raises(ValueError, match=r"in_axis and out_axis are the same axis of shape \(7,\).*out_axis="):
        fans((7,), in_axis=0, out_axis=-1)


@pytest.mark.parametrize("argument", ["in_axis", "out_axis", "batch_axis"])
@pytest.mark.parametrize("axis", [3, -4])
def test_fans_refuse_an_axis_out_of_range(argument, axis):
    with pytest.raises(ValueError, match=rf"{argument} {axis} is out of range for shape \(2, 3, 4\), which has 3 axes"):
        fans((2, 3, 4), **{argument: axis})


@pytest.mark.parametrize("argument", ["in_axis", "out_axis", "batch_axis"])
def test_fans_refuse_a_repeated_axis(argument):
    with pytest.raises(ValueError, match=rf"{argument} must name each axis once, got \(0, -3\) for shape \(2, 3, 4\)"):
        fans((2, 3, 4), **{argument: (0, -3)})


@pytest.mark.parametrize(("axes", "other"), [({"in_axis": 0}, "in_axis"), ({"out_axis": 0}, "out_axis")])
def test_fans_refuse_a_batch_axis_that_is_also_another(axes, other):
    with pytest.raises(ValueError, match=rf"batch_axis must differ from {other}, got axis 0 of shape \(2, 3, 4\)"):
        fans((2, 3, 4), **axes, batch_axis=-3)


@pytest.mark.parametrize("argument", ["in_axis", "out_axis", "batch_axis"])
@pytest.mark.parametrize("axis", [True, (False,), 1.0, "1", None, (0, None), np.array([0, 1]), np.True_], ids=repr)
def test_fans_refuse_an_axis_that_is_no_integer(argument, axis):
    with pytest.raises(TypeError, match=rf"{argument} must be an integer or a sequence of integers, got"):
        fans((2, 3, 4), **{argument: axis})


@pytest.mark.parametrize("shape", [5, (2.0, 3), "23", None, (2, None)], ids=repr)
def test_fans_refuse_a_shape_that_is_no_sequence_of_integers(shape):
    with pytest.raises(TypeError, match="shape must be a sequence of integers, got"):
        fans(shape)


def test_fans_refuse_a_negative_size():
    with pytest.raises(ValueError, match=r"shape must have sizes >= 0, got \(2, -1\)"):
        fans((2, -1))
