"""Whether the parts of a tensor that files hold are all of it, and no value is in two."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Box", "Fault", "find_fault"]


class Box(NamedTuple):
    """A rectangle of a tensor, and the name of the file that holds it."""

    offset: tuple[int, ...]
    shape: tuple[int, ...]
    holder: str


class Fault(NamedTuple):
    """A rectangle that no file holds, or more than one."""

    offset: tuple[int, ...]
    shape: tuple[int, ...]
    holders: tuple[str, ...]

    @property
    def slices(self) -> str:
        """As Python writes it."""
        pairs = zip(self.offset, self.shape, strict=True)
        return f"[{', '.join(f'{first}:{first + size}' for first, size in pairs)}]"


def find_fault(shape: tuple[int, ...], boxes: Sequence[Box]) -> Fault | None:
    """The first rectangle that is in no box, or in several; None if each value is in one.

    A tensor without values must be in one box all the same.

    Examples
    --------
    >>> find_fault((10, 4), [Box((0, 0), (6, 4), "a"), Box((7, 0), (3, 4), "b")])
    Fault(offset=(6, 0), shape=(1, 4), holders=())
    >>> find_fault((10, 4), [Box((0, 0), (6, 4), "a"), Box((5, 0), (5, 4), "b")])
    Fault(offset=(5, 0), shape=(1, 4), holders=('a', 'b'))
    """
    if 0 in shape:
        return None if boxes else Fault((0,) * len(shape), shape, ())
    return _find(shape, [box for box in boxes if 0 not in box.shape], 0)


def _find(shape: tuple[int, ...], boxes: Sequence[Box], axis: int) -> Fault | None:
    rest = shape[axis:]
    if not boxes:
        return Fault((0,) * len(rest), rest, ())
    if axis == len(shape):
        return None if len(boxes) == 1 else Fault((), (), tuple(sorted(box.holder for box in boxes)))
    cuts = {0, shape[axis]}
    for box in boxes:
        cuts |= {box.offset[axis], box.offset[axis] + box.shape[axis]}
    waiting = sorted(boxes, key=lambda box: box.offset[axis], reverse=True)
    inside: list[Box] = []
    edges = sorted(cuts)
    for begin, end in pairwise(edges):
        inside = [box for box in inside if box.offset[axis] + box.shape[axis] > begin]
        while waiting and waiting[-1].offset[axis] == begin:
            inside.append(waiting.pop())
        fault = _find(shape, inside, axis + 1)
        if fault is not None:
            return Fault((begin, *fault.offset), (end - begin, *fault.shape), fault.holders)
    return None
