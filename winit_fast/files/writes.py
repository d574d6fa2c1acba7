"""Write tensors to a file, or to the files of a folder: the public `write`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex

from winit_fast.files import folders, safetensors
from winit_fast.files.layouts import Layout
from winit_fast.files.opening import open_file, read_path
from winit_fast.files.partial import check_room, partial_of, room_of
from winit_fast.files.plans import Plan, plan_rank
from winit_fast.files.progress import check_progress
from winit_fast.files.sizes import read_size
from winit_fast.files.specs import Recipe, TensorSpec
from winit_fast.files.verdicts import Findings
from winit_fast.files.writing import Written, check_arguments, read_unfinished, write_layout

if TYPE_CHECKING:
    from winit_fast.files.progress import Progress

__all__ = ["FileToWrite", "write", "write_files"]


def write(
    path: str | Path,
    tensors: TensorSpec | Iterable[TensorSpec] | Recipe | None = None,
    *,
    seed: SupportsIndex | None = None,
    format: str | None = None,
    memory: int | str = "256MiB",
    threads: int | None = None,
    resume: bool = False,
    force: bool = False,
    rank: int = 0,
    world_size: int = 1,
    rows: tuple[int, int] | None = None,
    max_file_size: int | str | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write tensors to a file, or to the files of a folder, in bounded memory.

    Nothing has its own name before it is complete. What an interrupt, an error or the end of the process leaves is
    continued by the same call with ``resume=True``.

    Parameters
    ----------
    path : str or Path
    tensors : TensorSpec, iterable of TensorSpec, or Recipe, optional
        They may be left out where one file is continued, which knows them, or is written anew (`force`). A complete
        file of safetensors knows them too; one of another format does not.
    seed : int, optional
        In [0, 2^64). It may be left out if no scheme draws, or with a recipe, which has its own.
    format : str, optional
        By default that of the suffix of `path`, see `plan`.
    memory : int or str, default "256MiB"
        Bytes, or a text such as "1GB": the most that is held beside what Python itself takes. An orthogonal matrix that
        is larger is computed again and again, a part at a time.
    threads : int, optional
        As in `winit_fast.fill`.
    resume : bool, default False
        Continue what is unfinished, if anything is. What is complete is left as it is.
    force : bool, default False
        Replace existing files, each once the new one is complete.
    rank, world_size : int, default 0 and 1
        Which part of a folder this process writes, and how many write it.
    rows : tuple of int, optional
        The first row of the tensor that the file holds, and the first that it does not; by default it holds all.
    max_file_size : int or str, optional
        Of the files of a folder of format `hf`, see `plan`.
    progress : callable, optional
        Called as ``progress(done, total)`` in bytes, in this thread, some ten times a second.

    Returns
    -------
    Written

    Raises
    ------
    OSError
        If a file exists already (FileExistsError), or an unfinished one; if a folder has files of another model, or
        parts that other workers wrote of other tensors or for another number of workers (FileExistsError); if another
        process is writing a file (BlockingIOError); if the folder is missing or not writable; if the disk is full.
    TypeError, ValueError
        If an argument cannot be used, or the unfinished file is of another recipe.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from winit_fast.files import TensorSpec, write
    >>> path = Path(tempfile.mkdtemp(), "user_id.npy")
    >>> written = write(path, TensorSpec("user_id", (1000, 64), "float16", "normal"), seed=7)
    >>> written.size, written.kept
    (132096, 0)
    >>> import numpy as np
    >>> np.load(path, mmap_mode="r").shape
    (1000, 64)
    """
    most = read_size(memory)
    check_progress(progress)
    if tensors is None:
        if not (resume or force):
            raise ValueError("tensors must be given, unless resume=True continues a file")
        if resume:
            return _continue(read_path(path), most, threads, force, progress)
        layout, recipe = _read_complete(read_path(path))
        return write_layout(path, layout, recipe, memory=most, threads=threads, force=True, progress=progress)
    planned = plan_rank(
        path, tensors, rank, seed=seed, format=format, world_size=world_size, max_file_size=max_file_size, rows=rows
    )
    if planned.format in ("hf", "dcp"):

        def plan_of(other: int) -> Plan:
            return plan_rank(
                path, planned.recipe, other, seed=None, format=format, world_size=world_size,
                max_file_size=max_file_size, rows=None,
            )  # fmt: skip

        own = [one.path.name for one in planned.files]
        others = folders.find_others(planned.path, planned.format, own, int(world_size))
        if not force:
            _refuse_other_parts(plan_of, others, int(world_size))
    files = [FileToWrite(one.path, one.layout) for one in planned.files]
    return write_files(
        path, files, planned.recipe, memory=most, threads=threads, resume=resume, force=force, progress=progress
    )


def _refuse_other_parts(plan_of: Callable[[int], Plan], others: Sequence[int], world_size: int) -> None:
    """Refuse a folder where another worker has written what it would not write now: loaders would mix both."""
    for other in others:
        for one in plan_of(other).files:
            if one.path.is_file():
                with open_file(one.path) as file:
                    header, size = file.read(len(one.layout.header)), os.fstat(file.fileno()).st_size
                if (header, size) != (one.layout.header, one.layout.size):
                    raise FileExistsError(
                        f"{one.path} is there, and is not what worker {other} of {world_size} would write: it is of "
                        "another recipe, or of another number of workers. Remove it, or give another folder"
                    )


class FileToWrite(NamedTuple):
    """A file and its layout."""

    path: Path
    layout: Layout


def write_files(
    path: str | Path,
    files: Sequence[FileToWrite],
    recipe: Recipe,
    *,
    memory: int,
    threads: int | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Write some files by their layouts, one after the other; the sum of what came of them.

    Parameters
    ----------
    path : str or Path
        The file, or the folder of the files, which is made if it is missing.
    files : sequence of FileToWrite
    recipe : Recipe
        Of all their tensors.
    memory, threads, resume, force, progress
        As in `write_layout`. A file of a folder that is complete already is kept if `resume`.

    Returns
    -------
    Written

    Raises
    ------
    OSError, ValueError
        As `write_layout`. Existing files and a full disk are refused before anything is written.
    """
    folder = Path(path)
    if [one.path for one in files] == [folder]:
        return write_layout(
            folder, files[0].layout, recipe, memory=memory, threads=threads, resume=resume, force=force,
            progress=progress,
        )  # fmt: skip
    if not (resume or force):
        for one in files:
            if os.path.lexists(one.path):
                raise FileExistsError(f"{one.path} exists already")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"{path} must be in a folder that exists, but {folder.parent} does not")
    total = sum(one.layout.size for one in files)
    present = sum(_size_on_disk(one.path) for one in files) if resume else 0
    check_room(folder if folder.is_dir() else folder.parent, total - present)
    for one in files:
        check_arguments(one.layout, memory, threads)
    folder.mkdir(exist_ok=True)
    done, kept = 0, 0

    def report(done_here: int, _: int) -> None:
        if progress is not None:
            progress(done + done_here, total)

    for one in files:
        written = write_layout(
            one.path, one.layout, recipe, memory=memory, threads=threads, resume=resume, force=force, progress=report
        )
        done += written.size
        kept += written.kept
    if progress is not None:
        progress(total, total)
    return Written(folder, total, kept, total - kept)


def _continue(path: Path, memory: int, threads: int | None, force: bool, progress: Progress | None) -> Written:
    unfinished = read_unfinished(path)
    if unfinished is not None:
        return write_layout(
            path, unfinished.layout, unfinished.recipe, memory=memory, threads=threads, resume=True, force=force,
            progress=progress,
        )  # fmt: skip
    if path.is_file():
        layout, recipe = _read_complete(path)
        return write_layout(
            path, layout, recipe, memory=memory, threads=threads, resume=True, force=force, progress=progress
        )
    if partial_of(path).is_file():
        state = "has no journal" if partial_of(path).stat().st_size else "is empty"
        raise ValueError(f"{partial_of(path)} {state}: nothing of {path} can be kept, and tensors must be given")
    raise FileNotFoundError(f"nothing to continue: neither {path} nor {partial_of(path)} is there")


def _read_complete(path: Path) -> tuple[Layout, Recipe]:
    """What a file should be, by its own header: it may be a stranger's that has the name by chance."""
    from winit_fast.files.verifying import examine_file, kind_of

    if kind_of(path) != "safetensors" or safetensors.read(path).recipe_text is None:
        raise ValueError(
            f"{path} exists already, and does not say how it was made: tensors must be given, to tell whether it is "
            "complete"
        )
    found = Findings()
    recipe, jobs = examine_file(path, None, None, found)
    if not found.judge((), 0):
        raise ValueError(f"{path} exists already, and is not what its recipe says: verify says how it differs")
    parts = {part.spec.name: part for part, _ in jobs[0].segments}
    ordered = [parts[spec.name] for spec in recipe.tensors if spec.name in parts]
    sharded = any(one.offset is not None for one in safetensors.read(path).stored)
    return safetensors.lay_out(ordered, recipe, sharded=sharded), recipe


def _size_on_disk(path: Path) -> int:
    for name in (path, partial_of(path)):
        if name.is_file():
            return room_of(name.stat())
    return 0
