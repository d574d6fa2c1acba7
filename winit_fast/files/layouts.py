"""Where the bytes of a file stand: a header, and parts of tensors one after another."""

from __future__ import annotations

from typing import NamedTuple

from winit_fast.files.specs import Part

__all__ = ["PAGE", "Layout", "Segment"]

#: Data begins at a multiple of this, so that it can be written past the cache of the system.
PAGE = 4096


class Segment(NamedTuple):
    """A part of a tensor, row-major and contiguous, and the byte of the file where it begins."""

    part: Part
    start: int


class Layout(NamedTuple):
    """All of a file: the bytes at its beginning (a multiple of `PAGE`, or none), then the segments, with no gap.

    Each element stands at a multiple of its size. The header is written last: without it no reader takes the file.
    """

    format: str
    header: bytes
    segments: tuple[Segment, ...]
    size: int
