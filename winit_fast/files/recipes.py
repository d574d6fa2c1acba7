"""Recipes from files that people write (JSON, TOML), and from models whose names and shapes are copied.

a. A recipe names tensors with their shapes, or takes both from a model (`read_model`). The scheme of a tensor stands
   with it, or is given by the first rule whose glob matches its name.
b. The text may be anybody's, and so may a model's header: what is not understood is refused by name.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

from winit_fast.arguments import nearest_word
from winit_fast.element_types import ELEMENT_TYPES
from winit_fast.fans import as_axes
from winit_fast.files.coverage import Box, find_faults
from winit_fast.files.opening import read_path
from winit_fast.files.specs import Recipe, TensorSpec
from winit_fast.initializer import Initializer
from winit_fast.messages import as_int, as_sizes, describe_missing, quote

if TYPE_CHECKING:
    from winit_fast.files.layouts import Contents, Stored
    from winit_fast.schemes import Scheme

__all__ = ["LAYOUTS", "Rule", "WrittenRecipe", "make_specs", "read_model", "read_recipe", "read_written_recipe"]

#: Which axes of a tensor have the inputs and the outputs: ``(out, in, *kernel)``, or ``(*kernel, in, out)``.
LAYOUTS = ("torch", "numpy")

_AXES = ("in_axis", "out_axis", "batch_axis", "matrices")
_RULE_KEYS = ("scheme", *_AXES, "padding_idx", "dtype")
_TENSOR_KEYS = ("name", "shape", "stream", *_RULE_KEYS)
_RECIPE_KEYS = ("seed", "dtype", "layout", "tensors", "rules", "stream_version")
_LONGEST = 100_000_000  # bytes of a text: that of the largest header of safetensors


def read_recipe(
    path: str | Path | None = None,
    *,
    like: str | Path | None = None,
    rules: Mapping[str, str | Scheme | Mapping[str, Any] | None] | None = None,
    seed: SupportsIndex | None = None,
    dtype: str | None = None,
    layout: str | None = None,
) -> Recipe:
    """Read a recipe from a file that people write, or make one for the tensors of a model, or both.

    This is what the options ``--recipe``, ``--like`` and ``--rule`` of ``winit-fast fill`` do.

    Parameters
    ----------
    path : str or Path, optional
        A recipe in JSON, or in TOML if its name ends so. It needs no tensors where `like` gives them.
    like : str or Path, optional
        A model, whose tensors' names, shapes and types are taken, and no values: a safetensors file, a
        ``*.index.json`` beside its files, or a folder with either, or with the files of a distributed checkpoint.
    rules : mapping, optional
        From globs to schemes, or to mappings with ``"scheme"`` and more, as in a recipe. They come before those of the
        file; the first that matches a tensor's name takes it. The scheme None, or "none", leaves tensors out.
    seed : int, optional
        By default that of the file.
    dtype : str, optional
        Of tensors that say none, neither themselves nor by a rule. By default that of the file, then that of the model,
        then "float32".
    layout : {"numpy", "torch"}, optional
        The axes of tensors that say none: ``(*kernel, in, out)`` or ``(out, in, *kernel)``. By default that of the
        file, then "torch" if `like` is given, else "numpy".

    Returns
    -------
    Recipe
        `write`, `plan` and `verify` take it.

    Raises
    ------
    OSError, ImportError
        If a file cannot be read, or is TOML and the Python has no ``tomllib`` and no ``tomli``.
    TypeError, ValueError
        If a file is no recipe or no model; if no tensor is left; if a tensor has no scheme, or one that does not fit
        it; if a rule cannot be used, even one that takes nothing; if a scheme draws and there is no seed.

    Warns
    -----
    UserWarning
        Of each rule that matches no tensor.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from winit_fast.files import read_recipe, verify, write
    >>> folder = Path(tempfile.mkdtemp())
    >>> text = '{"seed": 7, "tensors": {"user_id": [1000, 64], "bias": [64]}, "rules": {"*": "normal"}}'
    >>> _ = (folder / "tables.json").write_text(text)
    >>> recipe = read_recipe(folder / "tables.json", dtype="float16")
    >>> _ = write(folder / "old.safetensors", recipe)

    Another with the same names, shapes and types, and its own values:

    >>> new = read_recipe(like=folder / "old.safetensors", rules={"bias": None, "*": "normal(std=0.02)"}, seed=8)
    >>> for spec in new.tensors:
    ...     print(spec.name, spec.shape, spec.dtype, spec.initializer.scheme)
    user_id (1000, 64) float16 normal(std=0.02)
    >>> _ = write(folder / "new.safetensors", new)
    >>> verify(folder / "new.safetensors", recipe=new).is_right
    True
    """
    if path is None and like is None:
        raise ValueError("path must be given, or like: a recipe needs tensors")
    written = WrittenRecipe() if path is None else read_written_recipe(read_path(path))
    if like is None:
        tensors = written.tensors
        if not tensors:
            raise ValueError(f"{path} must have tensors, unless like gives them")
    elif written.tensors:
        raise ValueError(f"like takes the tensors of a model, and {path} has tensors of its own")
    else:
        tensors = read_model(read_path(like, "like"))
    every = (*_read_rules(rules or {}), *written.rules)
    specs = make_specs(
        tensors,
        every,
        dtype=dtype or written.dtype or ("float32" if like is None else None),
        layout=layout or written.layout or ("numpy" if like is None else "torch"),
    )
    if not specs:
        raise ValueError("tensors must be one or more, got none: the rules leave all of them out")
    names = [tensor["name"] for tensor in tensors]
    for rule in every:
        if not any(map(rule.takes, names)):
            warnings.warn(f"the rule for {quote(rule.name)} matches no tensor", stacklevel=2)
    return Recipe(specs, written.seed if seed is None else as_int("seed", seed))


class Rule(NamedTuple):
    """The tensors that a glob matches, in which ``*`` stands for dots too, get this scheme, dtype, axes and padding.

    A ``*.`` in front of a glob may stand for nothing.
    """

    name: str
    given: Mapping[str, Any]

    def takes(self, name: str) -> bool:
        """Whether a tensor of that name is this rule's."""
        return fnmatchcase(name, self.name) or fnmatchcase(f".{name}", self.name)


class WrittenRecipe(NamedTuple):
    """What a file of a recipe says; None where it says nothing."""

    seed: int | None = None
    dtype: str | None = None
    layout: str | None = None
    tensors: tuple[Mapping[str, Any], ...] = ()
    rules: tuple[Rule, ...] = ()


def read_written_recipe(path: str | Path) -> WrittenRecipe:
    """Read a recipe from a file: TOML if its name ends so, else JSON.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    WrittenRecipe

    Raises
    ------
    OSError, ValueError, ImportError
        If the file cannot be read, is no recipe (the message says where and what is needed), or is TOML and the Python
        has no ``tomllib`` and no ``tomli``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "tables.json")
    >>> _ = path.write_text('{"seed": 7, "tensors": {"user_id": [1000, 64]}, "rules": {"*": "normal(std=0.01)"}}')
    >>> recipe = read_written_recipe(path)
    >>> [spec.get_config()["scheme"] for spec in make_specs(recipe.tensors, recipe.rules, dtype="float16")]
    ['normal(std=0.01)']
    """
    path = Path(path)
    suffix = path.suffix.lower()
    needed = "" if suffix in (".json", ".toml") else "; a recipe is JSON, or TOML if its name ends in .toml"
    said = _parse(path, _toml_loads() if suffix == ".toml" else _json_loads, needed)
    try:
        return _read_recipe(said)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def read_model(path: str | Path) -> tuple[Mapping[str, Any], ...]:
    """Read the names, shapes and element types of a model's tensors, and nothing of its values.

    Parameters
    ----------
    path : str or Path
        A safetensors file, a ``*.index.json`` beside its files, or a folder with either, or with the files of a
        distributed checkpoint, whose parts make up whole tensors.

    Returns
    -------
    tuple of mapping
        One for each tensor, in the order of the files, as `make_specs` takes them.

    Raises
    ------
    OSError, ValueError
        If there is no such model, or a header of it is damaged.
    """
    path = Path(path)
    files = _find_files(path) if path.is_dir() else _read_index(path) if path.name.endswith(".json") else [path]
    wholes: dict[str, dict[str, Any]] = {}
    parts: dict[str, list[tuple[Path, Stored]]] = {}
    recipe = None  # of a checkpoint of ours, which says how large the tensors are
    for file, contents in _read_headers(files):
        for stored in contents.stored:
            name = stored.name
            if name in wholes or (name in parts and stored.offset is None):
                raise ValueError(f"{file} has a tensor {quote(name)}, which another file of the model has too")
            if stored.offset is None:
                wholes[name] = _entry(name, stored.shape, stored.dtype)
            else:
                parts.setdefault(name, []).append((file, stored))
                recipe = recipe or contents.recipe_text
    sizes = _sizes_of(recipe)
    return (*wholes.values(), *(_join_parts(name, found, sizes.get(name)) for name, found in parts.items()))


def make_specs(
    tensors: Iterable[Mapping[str, Any]],
    rules: Sequence[Rule] = (),
    *,
    dtype: str | None = None,
    layout: str = "numpy",
) -> tuple[TensorSpec, ...]:
    """The tensors to write, each with its scheme.

    Parameters
    ----------
    tensors : iterable of mapping
        Those of a `WrittenRecipe`, or what `read_model` returned.
    rules : sequence of Rule
        The first that matches a tensor gives what the tensor itself does not say. A tensor whose scheme is None or
        "none" is left out.
    dtype : str, optional
        For tensors that say none, neither themselves nor by a rule. That of a model comes after it.
    layout : {"numpy", "torch"}
        The axes of tensors with two axes or more that say none.

    Raises
    ------
    TypeError, ValueError
        If a tensor has no scheme, shape or dtype, or its scheme does not fit it; the message names it.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {quote(layout)}")
    specs, untaken = [], []
    for tensor in tensors:
        rule = next((rule for rule in rules if rule.takes(tensor["name"])), None)
        if "scheme" not in tensor and rule is None:
            untaken.append(quote(tensor["name"]))
            continue
        spec = _make_spec(tensor, rule, dtype, layout)
        if spec is not None:
            specs.append(spec)
    if untaken:
        shown = ", ".join(untaken[:5]) + (f" and {len(untaken) - 5} more" if len(untaken) > 5 else "")
        raise ValueError(f"rules must give every tensor a scheme, and none takes {shown}")
    for rule in rules:
        _check_rule(rule)
    return tuple(specs)


def _check_rule(rule: Rule) -> None:
    """Refuse what no tensor could use: a word that is spelt wrong is one even where the rule takes nothing."""
    given = {key: value for key, value in rule.given.items() if key not in ("scheme", "dtype")}
    try:
        if rule.given["scheme"] not in (None, "none"):
            Initializer(rule.given["scheme"], **given)
        if rule.given.get("dtype") not in (None, *ELEMENT_TYPES):
            TensorSpec(rule.name, (), rule.given["dtype"], "zeros")
    except (TypeError, ValueError) as error:
        raise type(error)(f"the rule for {quote(rule.name)} cannot be used: {error}") from None


def _make_spec(tensor: Mapping[str, Any], rule: Rule | None, dtype: str | None, layout: str) -> TensorSpec | None:
    own = dict(tensor)
    name, found = own.pop("name"), own.pop(_FOUND_DTYPE, None)
    given = dict(rule.given) if rule is not None else {}
    if "scheme" in own:  # a rule's axes are those of its scheme
        given = {key: value for key, value in given.items() if key not in _AXES}
    said = {"dtype": dtype or found, **given, **own}
    if said["scheme"] in (None, "none"):
        return None
    for key in ("shape", "dtype"):
        if said.get(key) is None:
            raise ValueError(f"{quote(name)} must have a {key}, and neither it nor a rule gives one")
    is_unwritable = said["dtype"] == found and found not in ELEMENT_TYPES  # as counts of batches, which are integers
    try:
        said = _with_axes(said, layout)
        return TensorSpec(name, said.pop("shape"), said.pop("dtype"), said.pop("scheme"), **said)
    except (TypeError, ValueError) as error:
        by = f", by rule {quote(rule.name)}," if rule is not None and "scheme" not in own else ""
        rest = f"; rules={{{quote(name)}: None}} leaves it out" if is_unwritable and "dtype" in str(error) else ""
        raise type(error)(f"tensor {quote(name)}{by} cannot be made: {error}{rest}") from None


_FOUND_DTYPE = "dtype of the model"  # the key of a tensor that is like one of a model


def _with_axes(said: dict[str, Any], layout: str) -> dict[str, Any]:
    """In torch's layout: of the axes that do not stack, outputs first, then inputs, where they are not given."""
    rank = len(as_sizes("shape", said["shape"]))
    if layout != "torch" or rank < 2:
        return said
    taken = {axis % rank for key in ("in_axis", "out_axis", "batch_axis") for axis in as_axes(key, said.get(key, ()))}
    free = [axis for axis in range(rank) if axis not in taken] + [0, 0]
    inputs = free[0] if "out_axis" in said else free[1]
    return {"in_axis": inputs, "out_axis": free[0], **said}


# Files that people write


def _parse(path: Path, loads: Callable[[str], Any], needed: str = "") -> Any:
    with open(path, "rb") as file:
        text = file.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        raise ValueError(f"{path} must be a text of at most {_LONGEST:,} bytes, and it is longer")
    try:
        return loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}{needed}") from None


def _json_loads(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_refuse_repeats)


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of an object with the same key twice, JSON's readers drop one of the two."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{quote(next(name for name in names if names.count(name) > 1))} stands there twice")
    return found


def _toml_loads() -> Callable[[str], Any]:
    for module in ("tomllib", "tomli"):  # Python 3.10 has none of its own
        try:
            loads: Callable[[str], Any] = import_module(module).loads
        except ImportError:
            continue
        return loads
    raise ImportError(f"{describe_missing('a recipe in TOML on Python 3.10', 'tomli', 'cli')}; one in JSON does not")


def _read_recipe(said: Any) -> WrittenRecipe:
    _refuse_unknown("a recipe", said, _RECIPE_KEYS)
    version = said.get("stream_version", 1)
    if version != 1:
        raise ValueError(f"stream_version must be 1, got {quote(version)}")
    seed = said.get("seed")
    dtype = said.get("dtype")
    if dtype is not None and not isinstance(dtype, str):
        raise TypeError(f"dtype must be a text, got {quote(dtype)}")
    layout = said.get("layout")
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {quote(layout)}")
    return WrittenRecipe(
        seed if seed is None else as_int("seed", seed),
        dtype,
        layout,
        tuple(_read_named("tensors", said.get("tensors", {}), "shape", _TENSOR_KEYS)),
        _read_rules(said.get("rules", {})),
    )


def _read_rules(said: Any) -> tuple[Rule, ...]:
    named = _read_named("rules", said, "scheme", ("name", *_RULE_KEYS))
    return tuple(Rule(one.pop("name"), one) for one in named)


def _read_named(what: str, said: Any, short: str, keys: tuple[str, ...]) -> Iterable[dict[str, Any]]:
    """Entries with a name: a list of objects, or an object by name, in which the value may be of the one key alone."""
    if isinstance(said, Mapping):
        listed = [{"name": name, **(one if isinstance(one, Mapping) else {short: one})} for name, one in said.items()]
    elif isinstance(said, list):
        listed = said
    else:
        raise TypeError(f"{what} must be an object by name or a list of objects, got {quote(said)}")
    names = set()
    for number, one in enumerate(listed):
        _refuse_unknown(f"{what}[{number}]", one, keys)
        name = one.get("name")
        if not isinstance(name, str):
            raise TypeError(f"{what}[{number}] must have a name, a text, got {quote(name)}")
        if short not in one:
            raise ValueError(f"{quote(name)} of {what} must have a {short}")
        if name in names:
            raise ValueError(f"{what} must have different names, got {quote(name)} twice")
        names.add(name)
        yield dict(one)


def _refuse_unknown(what: str, said: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(said, Mapping):
        raise TypeError(f"{what} must be an object with {', '.join(keys)}, got {quote(said)}")
    for key in said:
        if key not in keys:
            close = nearest_word(str(key), keys)
            hint = f"did you mean {close!r}?" if close else f"it has {', '.join(keys)}"
            raise ValueError(f"{what} has no key {quote(key)}; {hint}")


# Models


def _find_files(folder: Path) -> list[Path]:
    """Those of its only model: by its index, all of a distributed checkpoint, or the only file."""
    for ending in (".safetensors.index.json", ".safetensors"):
        found = sorted(path for path in folder.iterdir() if path.name.endswith(ending))
        if len(found) == 1:
            return _read_index(found[0]) if ending.endswith("json") else found
        if len(found) > 1 and not (ending == ".safetensors" and all(map(_has_parts, found))):
            raise ValueError(
                f"{folder} must have one model, and has {found[0].name} and {found[1].name}: name one of them"
            )
        if found:
            return found
    raise FileNotFoundError(f"{folder} must have a *.safetensors.index.json or a *.safetensors, and has neither")


def _read_index(path: Path) -> list[Path]:
    said = _parse(path, _json_loads)
    shards = said.get("weight_map") if isinstance(said, Mapping) else None
    if not isinstance(shards, Mapping) or not all(isinstance(name, str) for name in shards.values()):
        raise ValueError(f"{path} must have a weight_map from tensors to files, as Hugging Face writes it")
    for name in set(shards.values()):
        if os.path.basename(name) != name or name in ("", ".", ".."):
            raise ValueError(f"{path} must name files of its own folder, got {quote(name)}")
    return [path.parent / name for name in dict.fromkeys(shards.values())]


def _read_headers(files: Iterable[Path]) -> Iterator[tuple[Path, Contents]]:
    from winit_fast.files.safetensors import read  # which refuses what is no safetensors file

    for file in files:
        try:
            yield file, read(file)
        except ValueError as error:
            needed = "a model is a safetensors file, its *.index.json, or a folder with one"
            raise ValueError(f"{error}; {needed}") from None


def _has_parts(file: Path) -> bool:
    return any(stored.offset is not None for _, contents in _read_headers([file]) for stored in contents.stored)


def _entry(name: str, shape: Sequence[int], dtype: str) -> dict[str, Any]:
    return {"name": name, "shape": list(shape), _FOUND_DTYPE: dtype}


def _sizes_of(recipe: str | None) -> dict[str, tuple[int, ...]]:
    if recipe is not None:
        with suppress(ValueError):  # one of another version, or of somebody else
            return {spec.name: spec.shape for spec in Recipe.from_json(recipe).tensors}
    return {}


def _join_parts(name: str, found: list[tuple[Path, Stored]], size: tuple[int, ...] | None) -> dict[str, Any]:
    """The tensor that parts make up: all of them must be there, since without a recipe their ends say its size."""
    file, first = found[0]
    boxes = [Box(stored.offset or (), stored.shape, path.name) for path, stored in found]
    if any(len(box.shape) != len(first.shape) for box in boxes) or len({stored.dtype for _, stored in found}) > 1:
        raise ValueError(f"{file} has a part of {quote(name)}, and another file one of another tensor of that name")
    ends = [[start + length for start, length in zip(box.offset, box.shape, strict=True)] for box in boxes]
    if size is not None and len(size) == len(first.shape):
        ends.append(list(size))
    shape = tuple(map(max, zip(*ends, strict=True)))
    fault = next(find_faults(shape, boxes), None)
    if fault is not None:
        where = f"in {' and in '.join(fault.holders[:5])}" if fault.holders else "in no file of the model"
        raise ValueError(f"parts of {quote(name)} must make up the whole of it, and {fault.slices} is {where}")
    return _entry(name, shape, first.dtype)
