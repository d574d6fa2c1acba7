"""``FILE.partial.journal``: which blocks of a partial file are written, so that the next process writes the others.

a. It begins with the intent: all that the file will be. Then come records of 8 bytes: a number, and its CRC-32 together
   with the digest of the intent and the kind of the record. A record of another journal, or of garbage, is none.
b. A block is recorded once the system has taken it. A process that dies leaves what the system has: on the same boot of
   the machine every recorded block counts.
c. A mark says that all blocks recorded before it are on the disk. After another boot, those before the last mark count.
d. The first record that is torn or wrong ends the journal. What comes after it is written again.
e. A journal appears under its name whole: it is written beside it and renamed. Each process that continues the file
   begins with a new one, so that all records of a journal are of one boot.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple, TypeAlias

from winit_fast.files.layouts import Layout, Segment
from winit_fast.files.opening import open_file
from winit_fast.files.partial import beside, sync_data
from winit_fast.files.specs import Part, Recipe
from winit_fast.messages import quote
from winit_fast.publish import patiently, sync, sync_folder

__all__ = ["Intent", "Journal", "PastJournal", "read_boot", "read_journal"]

_MAGIC = b"WFJOURN1"
_HEAD = Struct("<8s40sQQ16s")  # magic, boot, bytes of the intent, bytes of the file's header, digest of both
_RECORD = Struct("<II")
_BLOCK, _MARK = b"block", b"mark"
_BLOCK_SIZES = tuple(1 << power for power in range(16, 25))  # those that writing chooses

Segments: TypeAlias = tuple[tuple[str, tuple[int, ...], tuple[int, ...], int], ...]


@dataclass(frozen=True)
class Intent:
    """What a partial file will be: all that a process needs to continue it.

    Attributes
    ----------
    recipe : str
        In JSON.
    format : str
    header : bytes
        Of the file.
    segments : tuple of tuple
        ``(name of the tensor, offset, shape, start)`` of each.
    size, block_size : int
    replaced : tuple of int, or None
        What tells the existing file that it may replace from others; None if it may replace none.
    """

    recipe: str
    format: str
    header: bytes
    segments: Segments
    size: int
    block_size: int
    replaced: tuple[int, ...] | None

    @classmethod
    def of(cls, layout: Layout, recipe: Recipe, block_size: int, replaced: tuple[int, ...] | None) -> Intent:
        """What is wanted now."""
        segments = tuple((part.spec.name, part.offset, part.shape, start) for part, start in layout.segments)
        return cls(recipe.to_json(), layout.format, layout.header, segments, layout.size, block_size, replaced)

    def read(self) -> tuple[Layout, Recipe]:
        """The layout and the recipe.

        Raises
        ------
        ValueError
            If the recipe is of another version of the stream, or lacks a tensor or a part of one.
        """
        recipe = Recipe.from_json(self.recipe)
        specs = {spec.name: spec for spec in recipe.tensors}
        for name, *_ in self.segments:
            if name not in specs:
                raise ValueError(f"the recipe must have the tensor {quote(name)}")
        segments = tuple(Segment(Part(specs[name], offset, shape), at) for name, offset, shape, at in self.segments)
        for part, _ in segments:
            if not part.is_inside:
                raise ValueError(
                    f"the part {quote(part.offset)} {quote(part.shape)} must be of {quote(part.spec.name)}"
                )
        return Layout(self.format, self.header, segments, self.size), recipe

    def explain_difference(self, other: Intent) -> str:
        """How another intent differs in what the file will be; empty if it does not."""
        if self.recipe != other.recipe:
            return _explain_recipes(json.loads(self.recipe), json.loads(other.recipe))
        if self.format != other.format:
            return f"format: {quote(self.format)} there, {quote(other.format)} asked for"
        if self.segments != other.segments:
            return _explain_segments(self.segments, other.segments)
        if self.size != other.size:
            return f"size: {self.size} there, {other.size} asked for"
        return "" if self.header == other.header else "the header of the file"

    def to_bytes(self) -> bytes:
        """JSON, but for the header."""
        fields = {name: value for name, value in vars(self).items() if name != "header"}
        return json.dumps(fields).encode()

    @classmethod
    def from_bytes(cls, text: bytes, header: bytes) -> Intent:
        """Read what `to_bytes` wrote; it may be anybody's.

        Raises
        ------
        Exception
            Of any kind, if it is something else.
        """
        fields = json.loads(text)
        segments = tuple((name, tuple(offset), tuple(shape), at) for name, offset, shape, at in fields["segments"])
        replaced = fields["replaced"] if fields["replaced"] is None else tuple(fields["replaced"])
        intent = cls(**{**fields, "segments": segments, "header": header, "replaced": replaced})
        numbers = [number for _, offset, shape, at in segments for number in (*offset, *shape, at)]
        if not (
            all(type(number) is int and number >= 0 for number in (intent.size, intent.block_size, *numbers))
            and all(type(text) is str for text in (intent.recipe, intent.format, *(name for name, *_ in segments)))
            and all(type(number) is int for number in replaced or ())  # a time may be before 1970
            and intent.block_size in _BLOCK_SIZES  # a smaller one would be a huge number of blocks
        ):
            raise ValueError
        return intent


def _explain_recipes(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    for name in ("stream_version", "seed"):
        if here.get(name) != there.get(name):
            return f"{name}: {quote(here.get(name))} there, {quote(there.get(name))} asked for"
    ours, theirs = ({spec["name"]: spec for spec in recipe["tensors"]} for recipe in (here, there))
    for name in [*ours, *theirs]:
        if name not in theirs:
            return f"tensor {quote(name)} is there, and not asked for"
        if name not in ours:
            return f"tensor {quote(name)} is asked for, and not there"
        for key in {**ours[name], **theirs[name]}:
            found, wanted = (specs[name].get(key, "the default") for specs in (ours, theirs))
            if found != wanted:
                return f"{key} of {quote(name)}: {quote(found)} there, {quote(wanted)} asked for"
    return "the order of the tensors"


def _explain_segments(here: Segments, there: Segments) -> str:
    ours, theirs = ({name: (offset, shape) for name, offset, shape, _ in segments} for segments in (here, there))
    for name in [*ours, *theirs]:
        if name not in theirs:
            return f"holds {quote(name)}, which is not asked for"
        if name not in ours:
            return f"holds nothing of {quote(name)}, which is asked for"
        (found, size), (wanted, wanted_size) = ours[name], theirs[name]
        if (found, size) == (wanted, wanted_size):
            continue
        if size and wanted_size and (found[1:], size[1:]) == (wanted[1:], wanted_size[1:]):
            rows, wanted_rows = f"{found[0]}:{found[0] + size[0]}", f"{wanted[0]}:{wanted[0] + wanted_size[0]}"
            return f"holds rows {rows} of {quote(name)}, {wanted_rows} asked for"
        parts = [f"{quote(shape)} from {quote(offset)}" for offset, shape in (ours[name], theirs[name])]
        return f"holds {parts[0]} of {quote(name)}, {parts[1]} asked for"
    return "where the tensors begin"


class PastJournal(NamedTuple):
    """What a journal says: the intent, the blocks that count, and those of them that were on the disk.

    Blocks are in the order of their records.
    """

    intent: Intent
    blocks: tuple[int, ...]
    marked: tuple[int, ...]


def read_journal(path: Path) -> PastJournal | None:
    """Read a journal; None if there is none.

    Raises
    ------
    ValueError
        If the file is not a journal, or a damaged one.
    """
    try:
        with open_file(path) as file:
            content = file.read()
    except FileNotFoundError:
        return None
    try:
        magic, boot, text_size, header_size, digest = _HEAD.unpack_from(content)
        begin, end = _HEAD.size + text_size, _HEAD.size + text_size + header_size
        if magic != _MAGIC or digest != _digest(content[_HEAD.size : end]) or end > len(content):
            raise ValueError
        intent = Intent.from_bytes(content[_HEAD.size : begin], content[begin:end])
        numbers = range(header_size // intent.block_size, -(-intent.size // intent.block_size))
    except Exception:  # whatever garbage raises
        raise ValueError(f"{path} is damaged, or not a journal of winit_fast") from None
    blocks, marked = _read_records(content[_aligned(end) :], digest, numbers)
    here = read_boot()
    is_same_boot = bool(here) and boot.rstrip(b"\0") == here.encode()
    on_disk = tuple(dict.fromkeys(blocks[:marked]))
    return PastJournal(intent, tuple(dict.fromkeys(blocks)) if is_same_boot else on_disk, on_disk)


def _read_records(records: bytes, digest: bytes, numbers: range) -> tuple[list[int], int]:
    """The blocks recorded, and how many of them are before the last mark."""
    blocks: list[int] = []
    marked = 0
    for number, check in _RECORD.iter_unpack(records[: len(records) // _RECORD.size * _RECORD.size]):
        if check == _check(digest, _BLOCK, number) and number in numbers:
            blocks.append(number)
        elif check == _check(digest, _MARK, number) and number == len(blocks):
            marked = number
        else:
            break
    return blocks, marked


class Journal:
    """The journal of a file that this process writes. One thread at a time.

    Attributes
    ----------
    path : Path
    blocks : int
        How many are recorded.
    """

    _closing: Iterator[None] = iter(())

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blocks = 0

    def begin(self, intent: Intent, blocks: Iterable[int] = ()) -> None:
        """Begin a new one, with blocks that are on the disk already, in the place of the old one."""
        text, header = intent.to_bytes(), intent.header
        self._digest = _digest(text, header)
        size = _HEAD.size + len(text) + len(header)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        for name in ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK"):  # a pipe of that name is an error, and not waited for
            flags |= getattr(os, name, 0)
        self._open(beside(self.path), flags)
        with open(self._descriptor, "wb", closefd=False) as file:
            file.write(_HEAD.pack(_MAGIC, read_boot().encode(), len(text), len(header), self._digest))
            file.writelines((text, header, bytes(_aligned(size) - size)))
            for block in blocks:
                file.write(self._make(_BLOCK, block))
                self.blocks += 1
            file.write(self._make(_MARK, self.blocks))
            self._size = file.tell()
            self._marked = self._size, self.blocks
            file.flush()
            sync(file.fileno())
        self.close()  # Windows renames no file that is open
        patiently(os.replace, beside(self.path), self.path)
        sync_folder(self.path.parent)  # both names: without its journal a partial file cannot be continued
        self._open(self.path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))

    def _open(self, path: Path, flags: int) -> None:
        opened: list[int] = []
        self._closing = map(os.close, opened)  # once, however often an interrupt ends `close`
        opened.extend(map(os.open, (path,), (flags,), (0o666,)))  # one call: no interrupt can lose it
        self._descriptor = opened[0]

    def record(self, block: int) -> None:
        """Say that a block is written."""
        self._append(_BLOCK, block)
        self.blocks += 1

    def mark(self) -> None:
        """Say that all recorded blocks are on the disk."""
        self._append(_MARK, self.blocks)
        self._marked = self._size, self.blocks
        sync_data(self._descriptor, self.path)

    def forget(self) -> None:
        """Take back what came after the last mark: the disk has refused to keep it."""
        self._size, self.blocks = self._marked
        os.ftruncate(self._descriptor, self._size)

    def close(self) -> None:
        """Close it; the file stays."""
        any(self._closing)

    def __del__(self) -> None:
        self.close()

    def _append(self, kind: bytes, number: int) -> None:
        record = self._make(kind, number)
        if os.write(self._descriptor, record) != len(record):
            raise OSError(errno.ENOSPC, "no room for the journal", str(self.path))  # a torn record ends it
        self._size += len(record)

    def _make(self, kind: bytes, number: int) -> bytes:
        return _RECORD.pack(number, _check(self._digest, kind, number))


def read_boot() -> str:
    """What tells this boot of the machine from others; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:40]
    except (OSError, ValueError):
        return ""


def _check(digest: bytes, kind: bytes, number: int) -> int:
    return zlib.crc32(digest + kind + number.to_bytes(4, "little"))


def _digest(*contents: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for content in contents:
        digest.update(content)
    return digest.digest()


def _aligned(size: int) -> int:
    return -(-size // _RECORD.size) * _RECORD.size
