"""How a file that exists already differs from what is asked for, as far as its header and its size tell."""

from __future__ import annotations

from pathlib import Path

from winit_fast.files import npy, raw, safetensors
from winit_fast.files.journal import Intent
from winit_fast.files.layouts import Layout
from winit_fast.files.specs import Recipe
from winit_fast.messages import quote

__all__ = ["explain_existing"]


def explain_existing(path: Path, layout: Layout, recipe: Recipe) -> str:
    """The first difference; empty if nothing can be told, as where values alone differ.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from winit_fast.files import TensorSpec, plan, write
    >>> path = Path(tempfile.mkdtemp(), "user_id.safetensors")
    >>> spec = TensorSpec("user_id", (1000, 64), "float16", "normal")
    >>> _ = write(path, spec, seed=7, rows=(0, 500))
    >>> asked = plan(path, spec, seed=7)
    >>> explain_existing(path, asked.files[0].layout, asked.recipe)
    "holds rows 0:500 of 'user_id', 0:1000 asked for"
    """
    try:
        if layout.format == "safetensors":
            return _explain_safetensors(path, layout, recipe)
        if layout.format == "npy":
            return _explain_npy(path, layout)
        if layout.format == "raw" and (size := raw.read(path).size) != layout.size:
            return f"size: {size} there, {layout.size} asked for"
    except (OSError, ValueError):  # it is no such file
        pass
    return ""


def _explain_safetensors(path: Path, layout: Layout, recipe: Recipe) -> str:
    contents = safetensors.read(path)
    wanted = Intent.of(layout, recipe, 0, None)
    segments = tuple((one.name, one.offset or (0,) * len(one.shape), one.shape, one.start) for one in contents.stored)
    found = contents.recipe
    said = wanted.recipe if found is None else found.to_json()
    return Intent(said, "safetensors", wanted.header, segments, contents.size, 0, None).explain_difference(wanted)


def _explain_npy(path: Path, layout: Layout) -> str:
    stored, part = npy.read(path).stored[0], layout.segments[0].part
    if stored.dtype != npy.stored_name(part.spec.dtype):
        return f"dtype: {stored.dtype} there, {part.spec.dtype.name} asked for"
    return "" if stored.shape == part.shape else f"shape: {quote(stored.shape)} there, {quote(part.shape)} asked for"
