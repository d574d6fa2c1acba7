"""How the values of a Zarr array are made: what the array itself records, whoever writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from winit_fast.files.specs import Recipe, TensorSpec
from winit_fast.messages import quote
from winit_fast.streams import UNNAMED

from .._seeds import Seed, seed_of

if TYPE_CHECKING:
    import numpy as np

    from winit_fast import Scheme

__all__ = ["ATTRIBUTE", "make_recipe", "recipe_of", "record"]

#: The attribute of an array that says how its values are made, as one line of JSON.
ATTRIBUTE = "winit_fast"


def make_recipe(
    shape: tuple[int, ...], dtype: np.dtype[Any], scheme: str | Scheme, seed: Seed, keywords: Mapping[str, Any]
) -> Recipe:
    """The recipe of an array, by the arguments of `init_`."""
    name = keywords.get("name", UNNAMED)
    others = {key: value for key, value in keywords.items() if key != "name"}
    in_file = name if isinstance(name, str) else f"{name}"  # not the array's own, which may be renamed
    spec = TensorSpec(in_file, shape, dtype, scheme, stream=name, **others)
    key = seed_of(scheme, seed)
    return Recipe((spec,), None if key is None else int(key.__index__()))


def record(array: Any, recipe: Recipe) -> None:
    """Say in an array how its values are made, before it has them."""
    recorded = array.attrs.get(ATTRIBUTE)
    if recorded is not None and recorded != recipe.to_json():
        raise ValueError(
            f"the array records another recipe, {quote(recorded)}: "
            f"delete its attribute {ATTRIBUTE!r} to fill it with other values"
        )
    if recorded is None:
        array.update_attributes({ATTRIBUTE: recipe.to_json()})


def recipe_of(array: Any) -> Recipe:
    """What `record` has said."""
    text = array.attrs.get(ATTRIBUTE)
    if not isinstance(text, str):
        raise ValueError(f"scheme must be given where the array has no recipe as attribute {ATTRIBUTE!r}")
    recipe = Recipe.from_json(text)
    described = [(spec.shape, spec.dtype) for spec in recipe.tensors]
    if described != [(array.shape, array.dtype)]:
        raise ValueError(
            f"the attribute {ATTRIBUTE!r} must describe an array of shape {array.shape} and dtype {array.dtype}, "
            f"got {quote(text)}"
        )
    return recipe
