"""Keeps numbers that are computed in Python independent of the rounding mode of the thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from winit_fast._plan import with_default_floating_point

__all__ = ["default_floating_point"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def default_floating_point(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Make a function run under rounding to nearest and without flush-to-zero, as kernels do by themselves."""

    @wraps(function)
    def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        return with_default_floating_point(function, arguments, named)

    return call
