from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

TRANSFORMS: tuple[str, ...]
STORES: tuple[str, ...]

# include/sizes.h and _plan.pxd
GROUP_WORDS: int
ROW: int
GROUPS: int
BATCH: int
MATRIX_BLOCK: int
TILE_UNITS: int
FEW_ENTRIES: int
MOST_MARKS: int
MOST_AXES: int

CONSTANTS: int
CONSTANT_VALUE: int
UNIFORM_LOW: int
UNIFORM_WIDTH: int
UNIFORM_MAXIMUM: int
NORMAL_MEAN: int
NORMAL_STD: int
CENTRE_MEAN: int
CENTRE_STD: int
CENTRE_SCALE: int
CENTRE_MINIMUM: int
CENTRE_MAXIMUM: int
TRUNCATED_MEAN: int
TRUNCATED_STD: int
TRUNCATED_MINIMUM: int
TRUNCATED_MAXIMUM: int
TRUNCATED_THRESHOLD: int
TRUNCATED_LEFT: int
TRUNCATED_RIGHT: int
TRUNCATED_SLOPE: int
TRUNCATED_BASE: int
TRUNCATED_MEDIAN: int
DISK_RADIUS: int
DISK_BASE: int
DISK_SLOPE: int

Result = TypeVar("Result")

def refuse_overlap(out: NDArray[Any]) -> None: ...
def view_of(array: NDArray[Any]) -> NDArray[Any]: ...
def writable_view_of(array: NDArray[Any]) -> NDArray[Any] | None: ...
def is_lent(array: NDArray[Any]) -> bool: ...
def bases_of(array: NDArray[Any]) -> list[object]: ...
def is_there(view: NDArray[Any]) -> bool: ...
def is_unchanged(array: NDArray[Any], view: NDArray[Any]) -> bool: ...
def are_within(rows: NDArray[np.int64], count: int) -> bool: ...
def address_of(out: NDArray[Any]) -> int: ...
def bounds_of(out: NDArray[Any]) -> tuple[int, int]: ...
def cpu_isas() -> tuple[str, ...]: ...
def with_default_floating_point(
    function: Callable[..., Result], arguments: tuple[Any, ...], named: dict[str, Any]
) -> Result: ...

class Plan:
    def __init__(
        self,
        out: NDArray[Any],
        transform: int,
        store: int,
        constants: tuple[float, ...],
        seed: int,
        stream: int,
        shape: tuple[int, ...] | None = None,
        offset: tuple[int, ...] | None = None,
        start: int = 0,
        row_list: NDArray[np.int64] | None = None,
        is_auxiliary: bool = False,
        is_keyed: bool = False,
    ) -> None: ...
    def moved(self, address: int, seed: int, stream: int) -> Plan: ...
    @property
    def units(self) -> int: ...
    @property
    def unit_values(self) -> int: ...
