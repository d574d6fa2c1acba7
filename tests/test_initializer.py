"""`Initializer`: what adapters stand on says, refuses and fills what `fill` does."""

import copy
import json
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from test_catalogue import EXAMPLES, SHAPES, TOGETHER

import winit_fast
from winit_fast.initializer import Initializer
from winit_fast.streams import UNNAMED

GIVEN = {
    "name": "layer.weight",
    "in_axis": [2],
    "out_axis": np.int64(1),
    "batch_axis": 0,
    "matrices": [2, 1],
    "padding_idx": np.int8(-1),
}
SHAPE = (3, 8, 6)


@pytest.fixture
def initializer():
    return Initializer("he_normal", **GIVEN)


def test_arguments_become_plain_values(initializer):
    assert vars(initializer) == {
        "scheme": winit_fast.scheme("he_normal"),
        "name": "layer.weight",
        "in_axis": (2,),
        "out_axis": (1,),
        "batch_axis": (0,),
        "matrices": (2, 1),
        "padding_idx": -1,
    }
    assert all(type(axis) is int for axis in (*initializer.out_axis, initializer.padding_idx))


def test_equal_ones_are_hashed_alike_and_no_attribute_can_be_set(initializer):
    again = Initializer(winit_fast.scheme("kaiming_normal"), **{**GIVEN, "in_axis": 2, "matrices": (2, 1)})
    assert again == initializer
    assert hash(again) == hash(initializer)
    assert initializer != initializer.rename("other")
    with pytest.raises(FrozenInstanceError):
        initializer.name = "other"


def read_again(initializer):
    return Initializer.from_config(json.loads(json.dumps(initializer.get_config())))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it)), read_again])
def test_copies_pickles_and_configurations_are_equal(initializer, again):
    assert again(initializer) == initializer
    assert again(Initializer("array([1, 2.5])")) == Initializer("array([1, 2.5])")


def test_a_copy_still_has_no_name_where_nobody_gave_one():
    for again in (copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))):
        assert again(Initializer("normal")).name is UNNAMED


def test_the_repr_is_what_makes_it(initializer):
    assert eval(repr(initializer)) == initializer
    assert repr(Initializer("normal(std=0.02)")) == "Initializer('normal(std=0.02)')"


@pytest.mark.parametrize("part", [{}, {"shape": (3, 8, 6), "offset": (1, 0, 0)}])
def test_it_fills_what_fill_fills(initializer, part):
    out = np.empty((2, 8, 6) if part else SHAPE, "float32")
    expected = winit_fast.fill(np.empty_like(out), "he_normal", seed=7, **GIVEN, **part)
    assert initializer.fill(out, seed=7, threads=2, **part) is out
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("scheme", "arguments", "shape", "dtype", "more"),
    [
        ("he_normal", {}, (5,), "float32", {}),
        ("he_normal", {"out_axis": -2}, (5, 4), "float32", {}),
        ("normal(std=1e6)", {}, (5, 4), "float16", {}),
        ("normal", {}, (5, 4), "int32", {}),
        ("normal", {}, (5, 4), "float32", {"seed": None}),
        ("normal", {}, (5, 4), "float32", {"seed": -1}),
        ("normal", {}, (5, 4), "float32", {"threads": 0}),
        ("normal", {"padding_idx": 5}, (5, 4), "float32", {}),
        ("normal", {"matrices": 3}, (5, 4), "float32", {}),
        ("orthogonal", {"batch_axis": 0}, (5, 4), "float32", {}),
    ],
)
def test_a_check_refuses_what_fill_refuses_in_its_words(scheme, arguments, shape, dtype, more):
    with pytest.raises((TypeError, ValueError)) as filled:
        winit_fast.fill(np.zeros(shape, dtype), scheme, **{"seed": 0, **arguments, **more})
    with pytest.raises(filled.type) as checked:
        Initializer(scheme, **arguments).check(shape, dtype, **more)
    assert str(checked.value) == str(filled.value)


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (TypeError, {"name": 1.5}),
        (ValueError, {"name": -1}),
        (TypeError, {"in_axis": True}),
        (TypeError, {"matrices": 1.5}),
        (ValueError, {"matrices": 0}),
        (TypeError, {"padding_idx": "0"}),
        (ValueError, {"scheme": "he_nrmal"}),
        (TypeError, {"scheme": 3}),
    ],
)
def test_what_depends_on_no_shape_is_refused_when_it_is_made(error, arguments):
    with pytest.raises(error, match=next(iter(arguments))):
        Initializer(**{"scheme": "normal", **arguments})


def test_a_check_takes_no_memory_and_warns_of_nothing():
    for _ in range(2):
        Initializer("normal").check((1 << 20, 1 << 20), "bfloat16", seed=3)


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_knows_which_schemes_draw_each_element_by_itself(name):
    assert Initializer(EXAMPLES[name]).is_elementwise(SHAPES[name]) == (name not in TOGETHER)


def test_distributions_are_those_of_one_matrix_of_several():
    assert Initializer("he_normal", matrices=3).distribution((50, 6)) == winit_fast.scheme("he_normal").distribution(
        (50, 3, 2), 0, 2, 1
    )
    assert Initializer("orthogonal").is_elementwise((4, 4)) is False
    assert Initializer("normal").is_elementwise((4, 4)) is True
