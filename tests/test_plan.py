"""Plan: what it refuses of its callers in this package."""

import numpy as np
import pytest

from winit_fast._plan import TRANSFORMS, Plan

MOST = 10


def plan(constants):
    return Plan(np.empty(40, "float32"), TRANSFORMS.index("normal32"), 0, constants, 1, 2)


@pytest.mark.parametrize("count", [MOST + 1, MOST + 2, 1000])
def test_plan_refuses_more_constants_than_it_holds(count):
    with pytest.raises(ValueError, match=f"constants must be at most {MOST}, got {count}"):
        plan((0.5,) * count)


@pytest.mark.parametrize("count", range(MOST + 1))
def test_plan_holds_up_to_ten_constants(count):
    assert isinstance(plan((0.5,) * count), Plan)


def test_plan_refuses_an_array_without_elements():
    with pytest.raises(ValueError, match="out must have elements, got none"):
        Plan(np.empty((0, 3), "float32"), TRANSFORMS.index("normal32"), 0, (0.0, 1.0), 1, 2)
