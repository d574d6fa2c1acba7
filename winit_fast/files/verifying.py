"""Compare files with what they should hold: the values are made again, and nothing is kept.

a. What a file holds, and where, is read from its header; what it should hold from its recipe, or the caller's.
b. What both have is compared, see `winit_fast.files.comparing`; what one of them lacks is named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from winit_fast.files import folders, npy, plans, raw, safetensors
from winit_fast.files.comparing import Job, compare_all, compare_samples
from winit_fast.files.coverage import Box, Fault, TangledError, find_faults
from winit_fast.files.layouts import Contents, Layout, Segment, Stored, TruncatedFileError
from winit_fast.files.opening import open_file, read_path
from winit_fast.files.progress import check_progress
from winit_fast.files.scratch import leave_scratch
from winit_fast.files.sizes import read_size
from winit_fast.files.specs import Part, Recipe, TensorSpec
from winit_fast.files.verdicts import Difference, Findings, Verdict
from winit_fast.messages import as_int, quote
from winit_fast.parallel import default_threads, read_threads

if TYPE_CHECKING:
    from winit_fast.files.progress import Progress

__all__ = ["Difference", "Verdict", "examine_file", "kind_of", "verify"]


def verify(
    path: str | Path,
    *,
    recipe: Recipe | None = None,
    sample: int | None = None,
    rows: tuple[int, int] | None = None,
    memory: int | str = "256MiB",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Compare a file, or the files of a folder, with what they should hold, in bounded memory.

    Parameters
    ----------
    path : str or Path
        A folder may be of format `hf` or `dcp`: then it must also hold all of its tensors, each value once.
    recipe : Recipe, optional
        By default that of the file, which formats `raw` and `npy` have none of.
    sample : int, optional
        Compare about so many values of each tensor in a file, at random places, in place of all.
    rows : tuple of int, optional
        Those that a `raw` or `npy` file was written with.
    memory : int or str, default "256MiB"
        Bytes, or a text such as "1GB".
    threads : int, optional
        As in `winit_fast.fill`.
    progress : callable, optional
        Called as ``progress(done, total)`` in bytes, in this thread, some ten times a second.

    Returns
    -------
    Verdict

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If it has no recipe and none is given, or one of another version of the stream; if its header cannot be read. In
        a folder, a file whose header cannot be read is missing.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from winit_fast.files import TensorSpec, verify, write
    >>> path = Path(tempfile.mkdtemp(), "user_id.safetensors")
    >>> _ = write(path, TensorSpec("user_id", (1000, 64), "float32", "normal(std=0.01)"), seed=7)
    >>> verify(path).is_right
    True
    >>> with open(path, "r+b") as file:
    ...     _ = file.seek(-4, 2)
    ...     _ = file.write(np.float32(0.5))
    >>> print(verify(path).differences[0])
    user_id (999, 63): found 0.5, expected 0.021124227
    """
    most, count = read_size(memory), read_threads(threads) or default_threads()
    check_progress(progress)
    if recipe is not None and not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a Recipe, got {quote(recipe)}")
    wanted = None if sample is None else as_int("sample", sample)
    if wanted is not None and wanted < 1:
        raise ValueError(f"sample must be 1 or more, got {wanted}")
    where = read_path(path)
    found = Findings()
    if where.is_dir():
        if rows is not None:
            raise ValueError("rows is for a single file")
        recipe, jobs = _examine_folder(where, recipe, found)
    else:
        recipe, jobs = examine_file(where, recipe, rows, found)
    most = leave_scratch((part for job in jobs for part, _ in job.segments), most, count)
    if wanted is not None:
        differences, checked = compare_samples(jobs, recipe.seed, wanted, most, count, progress)
    else:
        differences, checked = compare_all(jobs, recipe.seed, most, count, progress)
    return found.judge(differences, checked)


# What should be where


def examine_file(
    path: Path, recipe: Recipe | None, rows: tuple[int, int] | None, found: Findings
) -> tuple[Recipe, list[Job]]:
    """The recipe of a single file, and where it has which parts; the header alone is read."""
    kind = kind_of(path)
    if kind != "safetensors":
        path.stat()  # what is missing needs no recipe
        if recipe is None:
            raise ValueError(f"{path} does not say how it was made: recipe must be given for a file of format {kind}")
        return recipe, _examine_plain(path, kind, recipe, rows, found)
    if rows is not None:
        raise ValueError(f"rows is for files of format raw and npy: {path} itself says what it holds")
    try:
        contents = safetensors.read(path)
    except TruncatedFileError as error:
        found.missing.append(str(error))
        return recipe or Recipe((), None), []
    recipe = recipe or _recipe_of(path, contents)
    segments = _match(contents.stored, recipe, "", found)
    names = {stored.name for stored in contents.stored}
    is_shard = _SHARD.search(path.name) or any(stored.offset is not None for stored in contents.stored)
    if not is_shard:
        found.missing.extend(spec.name for spec in recipe.tensors if spec.name not in names)
    return recipe, [Job(path, segments)]


_SHARD = re.compile(r"-[0-9]{5}-of-[0-9]{5}\.safetensors$")


def kind_of(path: Path) -> str:
    """The format of a single file, by its name or its first bytes; `raw` if neither says another."""
    with suppress(ValueError):
        kind = plans.format_of(path) if path.suffix else "?"
        if kind in ("npy", "safetensors", "raw"):
            return kind
    with open_file(path) as file:
        begin = file.read(9)
    if begin.startswith(b"\x93NUMPY"):
        return "npy"
    return "safetensors" if begin[8:] == b"{" else "raw"


def _recipe_of(path: Path, contents: Contents) -> Recipe:
    if contents.recipe_text is None:
        raise ValueError(f"{path} does not say how it was made: recipe must be given")
    try:
        return Recipe.from_json(contents.recipe_text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _examine_plain(path: Path, kind: str, recipe: Recipe, rows: tuple[int, int] | None, found: Findings) -> list[Job]:
    layout: Layout = plans.lay_out_file(kind, recipe, rows)
    if kind == "npy":
        try:
            stored = npy.read(path).stored[0]
        except TruncatedFileError as error:
            found.missing.append(str(error))
            return []
        part = layout.segments[0].part
        here, there = (stored.shape, stored.dtype), (part.shape, npy.stored_name(part.spec.dtype))
        if here != there:
            raise ValueError(
                f"{path} must have shape {quote(part.shape)} of {part.spec.dtype.name} by the recipe, and has "
                f"{quote(stored.shape)} of {stored.dtype}"
            )
        return [Job(path, (Segment(part, stored.start),))]
    size = raw.read(path).size
    if size < layout.size:
        found.missing.append(f"{path} ends at byte {size} of {layout.size}")
        return []
    if size > layout.size:
        raise ValueError(f"{path} must have {layout.size} bytes by the recipe, and has {size}")
    return [Job(path, layout.segments)]


def _match(stored: Iterable[Stored], recipe: Recipe, where: str, found: Findings) -> tuple[Segment, ...]:
    """The parts of the recipe's tensors that a file holds; what else it holds is a stray."""
    specs = {spec.name: spec for spec in recipe.tensors}
    segments = []
    for one in stored:
        spec = specs.get(one.name)
        if spec is None:
            found.strays.append(f"{one.name}{where}: the recipe has no such tensor")
        elif fault := _explain_difference(spec, one):
            found.strays.append(f"{one.name}{where}: {fault}")
            found.missing.append(f"{one.name}{where}: {_describe(spec.dtype.name, spec.shape)}")
        else:
            segments.append(Segment(Part(spec, one.offset or (0,) * len(spec.shape), one.shape), one.start))
    return tuple(segments)


def _explain_difference(spec: TensorSpec, one: Stored) -> str:
    offset = one.offset or (0,) * len(one.shape)
    is_inside = len(one.shape) == len(spec.shape) and all(
        first + size <= whole for first, size, whole in zip(offset, one.shape, spec.shape, strict=True)
    )
    is_part = is_inside if one.offset is not None else one.shape == spec.shape
    if one.dtype == spec.dtype.name and is_part:
        return ""
    begin = f" from {quote(offset)}" if one.offset is not None else ""
    return f"{_describe(one.dtype, one.shape)}{begin} is no part of {_describe(spec.dtype.name, spec.shape)}"


def _describe(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype} {quote(shape)}"


def _examine_folder(path: Path, recipe: Recipe | None, found: Findings) -> tuple[Recipe, list[Job]]:
    folder = folders.read(path)
    found.leftovers.extend(f"{name} was never finished, or is being written" for name in folder.unfinished)
    found.missing.extend(str(error) for error in folder.files.values() if isinstance(error, ValueError))
    contents = dict(folder.readable())
    if folder.weight_map is not None:
        _check_index(folder, found)
    if recipe is None:
        texts = Counter(one.recipe_text for one in contents.values() if one.recipe_text is not None)
        if not texts:
            if not folder.files:
                raise ValueError(f"{path} must have files of safetensors, and has none")
            if not contents:  # as of one file that is cut: what is missing needs no recipe
                return Recipe((), None), []
            raise ValueError(f"{path} does not say how it was made: recipe must be given")
        usual = texts.most_common(1)[0][0]
        name = next(name for name, one in contents.items() if one.recipe_text == usual)
        recipe = _recipe_of(path / name, contents[name])
        for name, one in list(contents.items()):
            if one.recipe_text != usual:
                found.strays.append(f"{name} is of another recipe")
                del contents[name]
    jobs = [Job(path / name, _match(one.stored, recipe, f" in {name}", found)) for name, one in contents.items()]
    _check_coverage(jobs, recipe, found)
    return recipe, jobs


def _check_index(folder: folders.FolderContents, found: Findings) -> None:
    index, weight_map = folders.INDEX, folder.weight_map or {}
    holders = {(name, one.name) for name, contents in folder.readable() for one in contents.stored}
    counts: dict[str, int] = {}
    for tensor, name in weight_map.items():
        if name not in folder.files:
            counts[name] = counts.get(name, 0) + 1
        elif isinstance(folder.files[name], Contents) and (name, tensor) not in holders:
            found.strays.append(f"{index} says that {tensor} is in {name}, and it is not")
    found.missing.extend(f"{name}, which holds {count} tensors by {index}" for name, count in counts.items())
    named = set(weight_map.values())
    found.strays.extend(f"{name} is not in {index}" for name in folder.files if name not in named)
    for name, tensor in sorted(holders):
        if name in named and weight_map.get(tensor) != name:
            found.strays.append(f"{tensor} is in {name}, and {index} says: {weight_map.get(tensor, 'nowhere')}")
    sizes = [one.size - (one.stored[0].start if one.stored else one.size) for _, one in folder.readable()]
    if not counts and len(sizes) == len(folder.files) == len(named) and folder.total_size not in (None, sum(sizes)):
        found.strays.append(f"{index} says {folder.total_size} bytes, and the tensors have {sum(sizes)}")


def _check_coverage(jobs: list[Job], recipe: Recipe, found: Findings) -> None:
    boxes: dict[str, list[Box]] = {spec.name: [] for spec in recipe.tensors}
    for job in jobs:
        for part, _ in job.segments:
            boxes[part.spec.name].append(Box(part.offset, part.shape, job.path.name))
    for spec in recipe.tensors:
        try:
            for fault in find_faults(spec.shape, boxes[spec.name]):
                _note_fault(spec, fault, found)
        except TangledError as error:
            found.overlapping.append(f"{spec.name}: {error}")


def _note_fault(spec: TensorSpec, fault: Fault, found: Findings) -> None:
    place = "" if fault.shape == spec.shape else f" {fault.slices}"
    if not fault.holders:
        found.missing.append(f"{spec.name}{place} is in no file")
        return
    *some, last = fault.holders[:_MOST_HOLDERS]
    last = last if len(fault.holders) <= _MOST_HOLDERS else f"{len(fault.holders) - len(some)} others"
    found.overlapping.append(f"{spec.name}{place} is in {', '.join(some)} and {last}")


_MOST_HOLDERS = 5  # that a message names
