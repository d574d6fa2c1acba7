"""Whether the parts of a tensor that files hold are all of it, and no value is in two."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["Box", "Fault", "TangledError", "find_faults"]


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


class TangledError(ValueError):
    """Rectangles lie across each other in more ways than can be told apart in moderate time."""


def find_faults(shape: tuple[int, ...], boxes: Sequence[Box]) -> Iterator[Fault]:
    """All rectangles that are in no box, or in several, each value in one of them at most.

    A tensor without values must be in one box all the same.

    Raises
    ------
    TangledError
        After some rectangles, or before any, if the boxes cannot be told apart: none that ranks or people make.

    Examples
    --------
    >>> for fault in find_faults((10, 4), [Box((0, 0), (6, 4), "a"), Box((5, 0), (3, 4), "b")]):
    ...     print(fault)
    Fault(offset=(5, 0), shape=(1, 4), holders=('a', 'b'))
    Fault(offset=(8, 0), shape=(2, 4), holders=())
    """
    if 0 in shape:
        if not boxes:
            yield Fault((0,) * len(shape), shape, ())
        return
    left = _MOST_VISITS * len(boxes) + _FREE_VISITS
    here = [_Extents(box.offset, _ends(box.offset, box.shape), box.holder) for box in boxes if 0 not in box.shape]
    regions = [_Region((0,) * len(shape), shape, here)]
    while regions:
        region = regions.pop()
        left -= 1 + len(region.boxes)
        if left < 0:
            raise TangledError(f"{len(boxes)} parts lie across each other in too many ways")
        axes = [axis for axis in range(len(shape)) if not region.is_spanned(axis)]
        if region.boxes and axes:
            regions.extend(reversed(_split(region, axes)))
        elif len(region.boxes) != 1:
            size = tuple(last - first for first, last in zip(region.first, region.last, strict=True))
            yield Fault(region.first, size, tuple(sorted(box.holder for box in region.boxes)))


# Where nothing overlaps and each cut goes right through, a box is visited once for each axis.
_MOST_VISITS, _FREE_VISITS = 64, 100_000


class _Extents(NamedTuple):
    first: tuple[int, ...]
    last: tuple[int, ...]
    holder: str


def _ends(offset: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(first + size for first, size in zip(offset, shape, strict=True))


class _Region(NamedTuple):
    """A rectangle, and the boxes that have something of it."""

    first: tuple[int, ...]
    last: tuple[int, ...]
    boxes: list[_Extents]

    def is_spanned(self, axis: int) -> bool:
        """Whether all of the boxes go from one end of it to the other."""
        first, last = self.first[axis], self.last[axis]
        return all(box.first[axis] <= first and last <= box.last[axis] for box in self.boxes)

    def part(self, axis: int, first: int, last: int, boxes: list[_Extents]) -> _Region:
        return _Region(_replace(self.first, axis, first), _replace(self.last, axis, last), boxes)


def _replace(place: tuple[int, ...], axis: int, index: int) -> tuple[int, ...]:
    return (*place[:axis], index, *place[axis + 1 :])


def _split(region: _Region, axes: list[int]) -> list[_Region]:
    """Cut where no box is cut, as often as possible; else once, where the fewest are."""
    for axis in axes:
        parts = _split_between(region, axis)
        if len(parts) > 1:
            return parts
    _, _, axis, cut = min(choice for axis in axes for choice in _choices(region, axis))
    return [
        region.part(axis, region.first[axis], cut, [box for box in region.boxes if box.first[axis] < cut]),
        region.part(axis, cut, region.last[axis], [box for box in region.boxes if box.last[axis] > cut]),
    ]


def _split_between(region: _Region, axis: int) -> list[_Region]:
    """Groups of boxes that follow each other along an axis, and the gaps between them."""
    parts = []
    begin = end = region.first[axis]
    group: list[_Extents] = []
    for box in sorted(region.boxes, key=lambda box: box.first[axis]):
        first = max(box.first[axis], begin)
        if first >= end and end > begin:
            parts.append(region.part(axis, begin, end, group))
            begin, group = end, []
        if first > end:
            parts.append(region.part(axis, end, first, []))
            begin = end = first
        group.append(box)
        end = max(end, min(box.last[axis], region.last[axis]))
    parts.append(region.part(axis, begin, end, group))
    if end < region.last[axis]:
        parts.append(region.part(axis, end, region.last[axis], []))
    return parts


def _choices(region: _Region, axis: int) -> Iterator[tuple[int, int, int, int]]:
    """Cuts at the edges of boxes: how many boxes each cuts, how many are on its fuller side, the axis, the place."""
    firsts = sorted(box.first[axis] for box in region.boxes)
    lasts = sorted(box.last[axis] for box in region.boxes)
    for cut in {*firsts, *lasts}:
        if region.first[axis] < cut < region.last[axis]:
            before, after = bisect_left(firsts, cut), len(lasts) - bisect_right(lasts, cut)
            yield before + after - len(firsts), max(before, after), axis, cut
