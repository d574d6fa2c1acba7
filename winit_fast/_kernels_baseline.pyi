from collections.abc import Callable

from winit_fast._plan import Plan

def fill_units(plan: Plan, first: int, last: int) -> None: ...
def fill_together(
    plans: tuple[Plan, ...], share: int, threads: int, look: Callable[[], None], look_after: int = 1
) -> None: ...
