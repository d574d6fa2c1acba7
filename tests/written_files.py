"""Recipes and layouts for the tests of `winit_fast.files`, and what their files must hold."""

import json
from math import prod

import numpy as np

from winit_fast.files.layouts import PAGE, Layout, Segment
from winit_fast.files.specs import Part, Recipe, TensorSpec

SEED = 7
SCHEME = "normal(std=0.01)"


def lay_out(recipe, *, header=PAGE, parts=None):
    """All tensors of a recipe in one file, those of the largest elements first, behind so many bytes of header."""
    parts = [spec.whole for spec in recipe.tensors] if parts is None else parts
    segments, start = [], header
    for part in sorted(parts, key=lambda part: -part.spec.dtype.itemsize):
        segments.append(Segment(part, start))
        start += part.nbytes
    text = json.dumps(recipe.to_json()).encode()
    return Layout("test", text.ljust(header)[:header], tuple(segments), start)


def make(*tensors, seed=SEED, **options):
    """A recipe and its layout, of specs or of ``(name, shape, dtype[, scheme])``."""
    specs = tuple(
        one if isinstance(one, TensorSpec) else TensorSpec(*one, *[SCHEME][len(one) - 3 :]) for one in tensors
    )
    recipe = Recipe(specs, seed)
    return recipe, lay_out(recipe, **options)


def expected(recipe, layout):
    """The bytes of the file, each tensor filled as a whole."""
    content = bytearray(layout.header)
    for part, _ in layout.segments:
        spec = part.spec
        table = spec.initializer.fill(np.empty(spec.shape, spec.dtype), seed=recipe.seed)
        index = tuple(slice(at, at + size) for at, size in zip(part.offset, part.shape, strict=True))
        content += np.ascontiguousarray(table[index]).view(np.uint8).tobytes() if prod(part.shape) else b""
    return bytes(content)


def contents(folder):
    """Every file of a folder and its bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


__all__ = ["SCHEME", "SEED", "Part", "TensorSpec", "contents", "expected", "lay_out", "make"]
