"""Nothing but values: no header, one part after another, as `numpy.fromfile` reads them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from winit_fast.files.layouts import Contents, Layout, place
from winit_fast.files.opening import open_file
from winit_fast.files.specs import Part, Recipe

__all__ = ["lay_out", "read"]


def lay_out(parts: Iterable[Part], recipe: Recipe) -> Layout:
    """One part after another: those of larger elements first, else in their order.

    Examples
    --------
    >>> from winit_fast.files import Recipe
    >>> from winit_fast.files.specs import TensorSpec
    >>> recipe = Recipe((TensorSpec("a", (3,), "float16", "normal"), TensorSpec("b", (2,), "float32", "normal")), 7)
    >>> layout = lay_out([spec.whole for spec in recipe.tensors], recipe)
    >>> [(part.spec.name, start) for part, start in layout.segments], layout.size
    ([('b', 0), ('a', 8)], 14)
    """
    segments, size = place(parts, 0)
    return Layout("raw", b"", segments, size)


def read(path: str | Path) -> Contents:
    """The size alone: such a file says nothing of what it holds."""
    with open_file(path) as file:
        return Contents("raw", None, (), os.fstat(file.fileno()).st_size)
