"""Folders of safetensors files: as Hugging Face shards models, and as PyTorch's distributed checkpoint does.

* ``hf``: whole tensors in ``model-00001-of-00003.safetensors`` and so on, and an index that says which is where. One
  file alone is ``model.safetensors``, without an index.
* ``dcp``: a file for each rank, with its share of the rows of every tensor. Loaders of such files do not notice that
  one is missing, and give zeros: see `winit_fast.files.verify`.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from winit_fast.files import safetensors
from winit_fast.files.json_text import JsonText
from winit_fast.files.layouts import PAGE, Contents, Layout
from winit_fast.files.opening import open_file
from winit_fast.files.specs import Part, Recipe, TensorSpec
from winit_fast.messages import quote

__all__ = [
    "INDEX", "FolderContents", "FolderFile", "find_others", "lay_out_dcp", "lay_out_hf", "read", "share_rows",
]  # fmt: skip

INDEX = "model.safetensors.index.json"


class FolderFile(NamedTuple):
    """A file of a folder: its name there, the rank that writes it, and its layout."""

    name: str
    rank: int
    layout: Layout


def lay_out_hf(
    recipe: Recipe, *, max_file_size: int, world_size: int = 1, rank: int | None = None
) -> tuple[FolderFile, ...]:
    """Whole tensors in their order, as many in a file as fit; the files are dealt to ranks, the index is of the first.

    A tensor that is larger than `max_file_size` bytes has a file of its own. Where `rank` is given, the files are its
    own alone: each header has the recipe, and the headers of all ranks are large together.
    """
    groups: list[list[TensorSpec]] = [[]]
    size = 0
    for spec in recipe.tensors:
        if groups[-1] and size + spec.nbytes > max_file_size:
            groups.append([])
            size = 0
        groups[-1].append(spec)
        size += spec.nbytes
    count = len(groups)
    names = [_name_in_hf(number, count) for number in range(1, count + 1)]
    files = [
        FolderFile(name, k % world_size, safetensors.lay_out([spec.whole for spec in group], recipe))
        for k, (name, group) in enumerate(zip(names, groups, strict=True))
        if rank in (None, k % world_size)
    ]
    if count == 1 or rank not in (None, 0):
        return tuple(files)
    weight_map = {spec.name: name for name, group in zip(names, groups, strict=True) for spec in group}
    total = sum(spec.nbytes for spec in recipe.tensors)
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=1, ensure_ascii=False)
    index = text.encode()
    index = index.ljust(-(-(len(index) + 1) // PAGE) * PAGE - 1) + b"\n"
    return (*files, FolderFile(INDEX, 0, Layout("index", index, (), len(index))))


def lay_out_dcp(recipe: Recipe, *, world_size: int, rank: int | None = None) -> tuple[FolderFile, ...]:
    """A file for each rank that has something: rows of tensors; those without rows are the first rank's.

    Where `rank` is given, its file alone.
    """
    files = []
    for own in range(world_size) if rank is None else (rank,):
        parts = [part for spec in recipe.tensors if (part := _part_of(spec, own, world_size)) is not None]
        if parts or not recipe.tensors:
            files.append(FolderFile(_name_in_dcp(own), own, safetensors.lay_out(parts, recipe, sharded=True)))
    return tuple(files)


def share_rows(rows: int, rank: int, world_size: int) -> tuple[int, int]:
    """The first row of a rank, and the first that is no longer its own; shares differ by one row at most.

    Examples
    --------
    >>> [share_rows(10, rank, 4) for rank in range(4)]
    [(0, 2), (2, 5), (5, 7), (7, 10)]
    """
    return rows * rank // world_size, rows * (rank + 1) // world_size


def _part_of(spec: TensorSpec, rank: int, world_size: int) -> Part | None:
    if spec.nbytes == 0 or not spec.shape:
        return spec.whole if rank == 0 else None
    first, last = share_rows(spec.shape[0], rank, world_size)
    # A part without rows would begin where another does, and readers know parts by where they begin.
    return spec.rows(first, last) if first < last else None


def find_others(folder: Path, kind: str, own: Sequence[str], world_size: int) -> list[int]:
    """The other ranks that have files there; refuse files that loaders would take for one of them.

    Parameters
    ----------
    folder : Path
        It may be missing.
    kind : {"hf", "dcp"}
    own : sequence of str
        The names of the files of one rank.
    world_size : int

    Returns
    -------
    list of int

    Raises
    ------
    FileExistsError
        If there are such files: in a folder of `dcp` all safetensors files, in one of `hf` those of either format.
    """
    if not own or not folder.is_dir():
        return []
    if kind == "dcp":
        ranks = {_name_in_dcp(rank): rank for rank in range(world_size)}
    else:
        count = int(own[0].partition("-of-")[2].removesuffix(".safetensors") or 1)
        ranks = {_name_in_hf(k + 1, count): k % world_size for k in range(count)}
        ranks |= {INDEX: 0} if count > 1 else {}
    present = sorted(os.listdir(folder))
    strangers = [
        name
        for name in present
        if name not in ranks
        and (name == INDEX or (name.endswith(".safetensors") if kind == "dcp" else _OURS.fullmatch(name)))
    ]
    if strangers:
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise FileExistsError(
            f"{folder} has {quote(strangers[0])}{more}, not of what is to be written there, and loaders would take it "
            "for a part: remove it, or give another folder"
        )
    return sorted({ranks[name] for name in present if name in ranks and name not in own})


_OURS = re.compile(r"(model|model-\d+-of-\d+|shard-\d+-model-\d+-of-\d+)\.safetensors")


def _name_in_hf(number: int, count: int) -> str:
    return f"model-{number:05}-of-{count:05}.safetensors" if count > 1 else "model.safetensors"


def _name_in_dcp(rank: int) -> str:
    return f"shard-{rank + 1:05}-model-00001-of-00001.safetensors"  # as PyTorch itself calls them


class FolderContents(NamedTuple):
    """What stands in a folder.

    Attributes
    ----------
    files : dict of str to Contents or ValueError
        By name; why it cannot be read, if it cannot. The index is among them only then.
    unfinished : tuple of str
        Names of files that are still written, or were never finished.
    weight_map : dict of str to str, or None
        The file of each tensor, by the index; None without an index.
    total_size : int or None
        Bytes of all tensors, by the index.
    """

    files: dict[str, Contents | ValueError]
    unfinished: tuple[str, ...]
    weight_map: dict[str, str] | None
    total_size: int | None

    def readable(self) -> Iterator[tuple[str, Contents]]:
        """The files that can be read."""
        for name, contents in self.files.items():
            if not isinstance(contents, ValueError):
                yield name, contents


def read(path: str | Path) -> FolderContents:
    """Read the headers of all safetensors files of a folder, and its index.

    Raises
    ------
    ValueError
        If the index cannot be read.
    OSError
        If the folder or a file of it cannot be opened. A link to nothing and a folder are no files, and so cannot be
        read.
    """
    names = sorted(os.listdir(path))
    files: dict[str, Contents | ValueError] = {}
    texts: dict[str | None, str | None] = {}  # the recipe of all files is kept once: it may be long
    for name in names:
        if name.endswith(".safetensors"):
            try:
                contents = safetensors.read(Path(path, name))
                text = contents.recipe_text
                files[name] = contents._replace(recipe_text=texts.setdefault(text, text))
            except ValueError as error:
                files[name] = error
            except OSError as error:
                files[name] = _explain_no_file(Path(path, name), error)
    unfinished = tuple(name for name in names if name.endswith(".partial"))
    weight_map = total_size = None
    if INDEX in names:
        try:
            weight_map, total_size = _read_index(Path(path, INDEX))
        except OSError as error:
            files[INDEX] = _explain_no_file(Path(path, INDEX), error)
    return FolderContents(files, unfinished, weight_map, total_size)


def _explain_no_file(path: Path, error: OSError) -> ValueError:
    """What a folder lists and is no file; another error is raised again, since the file may be there and right."""
    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
        raise error
    return ValueError(f"{path} is no file: {error.strerror}")


def _read_index(path: Path) -> tuple[dict[str, str], int | None]:
    with open_file(path) as file:
        content = file.read(safetensors.MOST_HEADER + 1)
    weight_map: dict[str, str] | None = None
    total_size = None
    try:
        if len(content) > safetensors.MOST_HEADER:
            raise ValueError(f"it has more than {safetensors.MOST_HEADER:,} bytes")
        text = JsonText(content.decode())
        del content
        for key in text.members():
            if key == "weight_map":
                weight_map = {name: _read_file_name(text) for name in text.members()}
            elif key == "metadata":
                for what in text.members():
                    if what == "total_size":
                        total_size = text.read_int()
                    else:
                        text.skip()
            else:
                text.skip()
        text.end()
        if weight_map is None:
            raise ValueError("it has no weight_map")
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    return weight_map, total_size


def _read_file_name(text: JsonText) -> str:
    name = text.read_str()
    if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
        text.refuse(f"{quote(name)} is no name of a file beside the index")
    return name
