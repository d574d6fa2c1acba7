from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from winit_fast._plan import Plan

def fill_units(plan: Plan, first: int, last: int) -> None: ...
def fill_together(
    plans: tuple[Plan, ...], share: int, threads: int, look: Callable[[], None], look_after: int = 1
) -> None: ...
def fingerprint_together(
    octets: NDArray[np.uint8],
    first_page: int,
    keys: NDArray[np.uint32],
    share: int,
    threads: int,
    look: Callable[[], None],
    look_after: int = 1,
) -> tuple[int, int, int, int]: ...
