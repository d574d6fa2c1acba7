"""What `winit_fast.files.write` will do: the files, what each holds, and which rank writes it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

from winit_fast.files import folders, npy, raw, safetensors
from winit_fast.files.layouts import Layout
from winit_fast.files.opening import read_path
from winit_fast.files.sizes import read_size, show_size
from winit_fast.files.specs import Part, Recipe, TensorSpec
from winit_fast.files.verdicts import printable
from winit_fast.messages import as_int, as_rank, as_sizes, quote, shorten

__all__ = ["FORMATS", "Plan", "PlannedFile", "format_of", "lay_out_file", "plan", "plan_rank"]

_SUFFIXES = {".npy": "npy", ".safetensors": "safetensors", ".bin": "raw", ".raw": "raw"}
_FOLDERS = ("hf", "dcp")

#: The names of all formats; `hf` and `dcp` are folders.
FORMATS = ("npy", "safetensors", "raw", *_FOLDERS)

MAX_FILE_SIZE = 5_000_000_000  # bytes: what Hugging Face's hub proposes


class PlannedFile(NamedTuple):
    """A file that will be written, by that rank."""

    path: Path
    rank: int
    layout: Layout


class Plan(NamedTuple):
    """What will be written. Printed, it says so in some lines, of many files the first ones.

    Attributes
    ----------
    path : Path
    format : str
    recipe : Recipe
    files : tuple of PlannedFile
        An index comes last.
    """

    path: Path
    format: str
    recipe: Recipe
    files: tuple[PlannedFile, ...]

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(file.layout.size for file in self.files)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._headline()}>"

    def __str__(self) -> str:
        lines = [self._headline()]
        for path, rank, layout in self.files[:_MOST_FILES]:
            lines.append(f"  rank {rank}  {_cut(path.name)}  {show_size(layout.size)}")
            lines += [f"    {_describe(part)}" for part, _ in layout.segments[:_MOST_TENSORS]]
            lines += _more("    ", len(layout.segments) - _MOST_TENSORS, "tensor")
        return "\n".join(lines + _more("  ", len(self.files) - _MOST_FILES, "file"))

    def _headline(self) -> str:
        count = f"{len(self.files)} file{'s' * (len(self.files) != 1)}"
        return f"{_cut(str(self.path))}, format {self.format}: {count}, {show_size(self.size)}"

    def get_config(self) -> dict[str, Any]:
        """All of it in JSON's types: files, and where each tensor stands in them."""
        files = [
            {
                "path": str(file.path),
                "rank": file.rank,
                "size": file.layout.size,
                "tensors": [
                    {
                        "name": part.spec.name,
                        "dtype": part.spec.dtype.name,
                        "offset": list(part.offset),
                        "shape": list(part.shape),
                        "start": start,
                    }
                    for part, start in file.layout.segments
                ],
            }
            for file in self.files
        ]
        return {"path": str(self.path), "format": self.format, "size": self.size, "files": files}


_MOST_FILES = 20  # that are printed
_MOST_TENSORS = 5  # of each


def _describe(part: Part) -> str:
    """What a file holds of a tensor, in one line."""
    spec = part.spec
    held = "" if part.is_whole else ", ".join(
        f"{first}:{first + size}" for first, size in zip(part.offset, part.shape, strict=True)
    )  # fmt: skip
    return f"{_cut(spec.name)}  {spec.dtype.name}  " + (f"[{_cut(held)}] of " if held else "") + _cut(str(spec.shape))


def _more(indent: str, count: int, what: str) -> list[str]:
    return [f"{indent}and {count} more {what}{'s' * (count != 1)}"] if count > 0 else []


def _cut(text: str) -> str:
    return shorten(printable(text))


def plan(
    path: str | Path,
    tensors: TensorSpec | Iterable[TensorSpec] | Recipe,
    *,
    seed: SupportsIndex | None = None,
    format: str | None = None,
    world_size: int = 1,
    max_file_size: int | str | None = None,
    rows: tuple[int, int] | None = None,
) -> Plan:
    """Say what `winit_fast.files.write` does with these arguments, by all of its ranks, and write nothing.

    Parameters
    ----------
    path : str or Path
    tensors : TensorSpec, iterable of TensorSpec, or Recipe
    seed : int, optional
        In [0, 2^64). It may be left out if no scheme draws, or with a recipe, which has its own.
    format : {"npy", "safetensors", "raw", "hf", "dcp"}, optional
        By default that of the suffix: ``.npy``, ``.safetensors``, ``.bin`` or ``.raw``; without one
        `hf`, a folder.
    world_size : int, default 1
        How many processes write a folder.
    max_file_size : int or str, optional
        Bytes of the tensors in one file of `hf`, or a text such as "1GB"; 5 GB by default. A larger tensor has a file
        of its own, since `hf` splits none.
    rows : tuple of int, optional
        The first row of every tensor that a single file holds, and the first that it does not.

    Returns
    -------
    Plan

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used, or the format does not hold a tensor.

    Examples
    --------
    >>> from winit_fast.files import TensorSpec, plan
    >>> tables = [TensorSpec(name, (1000, 8), "float16", "normal") for name in ("user_id", "item_id")]
    >>> planned = plan("tables", tables, seed=7, format="dcp", world_size=2)
    >>> print(planned)
    tables, format dcp: 2 files, 40.2 kB
      rank 0  shard-00001-model-00001-of-00001.safetensors  20.1 kB
        user_id  float16  [0:500, 0:8] of (1000, 8)
        item_id  float16  [0:500, 0:8] of (1000, 8)
      rank 1  shard-00002-model-00001-of-00001.safetensors  20.1 kB
        user_id  float16  [500:1000, 0:8] of (1000, 8)
        item_id  float16  [500:1000, 0:8] of (1000, 8)
    >>> planned.size, planned.files[1].rank, planned.get_config()["files"][1]["size"]
    (40192, 1, 20096)
    """
    return plan_rank(
        path, tensors, None, seed=seed, format=format, world_size=world_size, max_file_size=max_file_size, rows=rows
    )


def plan_rank(
    path: str | Path,
    tensors: TensorSpec | Iterable[TensorSpec] | Recipe,
    rank: SupportsIndex | None,
    *,
    seed: SupportsIndex | None,
    format: str | None,
    world_size: SupportsIndex,
    max_file_size: int | str | None,
    rows: tuple[int, int] | None,
) -> Plan:
    """As `plan`, with the files of one rank alone, unless it is None."""
    recipe = _recipe_of(tensors, None if seed is None else as_int("seed", seed))
    where, kind = read_path(path), format_of(path) if format is None else format
    if kind not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {quote(kind)}")
    own, count = as_rank(0 if rank is None else rank, world_size)
    limit = MAX_FILE_SIZE if max_file_size is None else read_size(max_file_size, "max_file_size")
    if max_file_size is not None and kind != "hf":
        raise ValueError(f"max_file_size is for a folder of format hf, got format {kind!r}")
    if kind not in _FOLDERS:
        if count > 1:
            raise ValueError(f"world_size must be 1 for a single file, got {count}: rows= makes a file of some rows")
        layout = lay_out_file(kind, recipe, rows)
        return Plan(where, kind, recipe, (PlannedFile(where, 0, layout),))
    if rows is not None:
        raise ValueError(f"rows is for a single file, got format {kind!r}")
    if kind == "hf":
        if count > 1 and format is None:
            raise ValueError("format must be 'dcp' (each rank writes its rows) or 'hf' (each writes whole files)")
        files = folders.lay_out_hf(recipe, max_file_size=limit, world_size=count, rank=rank if rank is None else own)
    else:
        files = folders.lay_out_dcp(recipe, world_size=count, rank=rank if rank is None else own)
    return Plan(where, kind, recipe, tuple(PlannedFile(where / name, holder, layout) for name, holder, layout in files))


def _recipe_of(tensors: TensorSpec | Iterable[TensorSpec] | Recipe, seed: int | None) -> Recipe:
    if isinstance(tensors, Recipe):
        if seed not in (None, tensors.seed):
            raise ValueError(f"seed must be that of the recipe, {quote(tensors.seed)}, or left out; got {quote(seed)}")
        if tensors.tensors:
            return tensors
        specs: tuple[TensorSpec, ...] = ()
    elif not isinstance(tensors, TensorSpec | Iterable) or isinstance(tensors, str):
        raise TypeError(f"tensors must be of TensorSpec, got {quote(tensors)}")
    else:
        specs = (tensors,) if isinstance(tensors, TensorSpec) else tuple(tensors)
    for spec in specs:
        if not isinstance(spec, TensorSpec):
            raise TypeError(f"tensors must be of TensorSpec, got {quote(spec)}")
    if not specs:
        raise ValueError("tensors must be one or more, got none")
    return Recipe(specs, seed)


def format_of(path: str | Path) -> str:
    """The format that a name stands for, by its suffix.

    Raises
    ------
    ValueError
        If the suffix is another, or that of a file where a folder is.
    """
    suffix, is_folder = Path(path).suffix.lower(), Path(path).is_dir()
    if is_folder and suffix in _SUFFIXES:
        raise ValueError(f"{path} is a folder, and ends as a file: give another name, or format 'hf' or 'dcp'")
    if not suffix or is_folder:
        return "hf"
    if suffix not in _SUFFIXES:
        raise ValueError(f"format must be given for a name that ends in {quote(suffix)}: one of {', '.join(FORMATS)}")
    return _SUFFIXES[suffix]


def lay_out_file(kind: str, recipe: Recipe, rows: tuple[int, int] | None) -> Layout:
    """A single file of all tensors, or of those rows of each."""
    parts = [spec.whole for spec in recipe.tensors]
    if rows is not None:
        bounds = as_sizes("rows", rows)
        if len(bounds) != 2:
            raise ValueError(f"rows must be two ints, got {quote(rows)}")
        parts = [spec.rows(*bounds) for spec in recipe.tensors]
    if kind == "safetensors":
        return safetensors.lay_out(parts, recipe, sharded=rows is not None)
    return npy.lay_out(parts, recipe) if kind == "npy" else raw.lay_out(parts, recipe)
