"""Chooses which compiled copy of the kernels runs, and imports only that one.

The start-up code of an AVX-512 module may itself use AVX-512, so importing all of them first would crash an older CPU.
``WINIT_FAST_ISA`` forces a lower ISA than the best; the bits are the same.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from winit_fast._plan import cpu_isas
from winit_fast.messages import quote

__all__ = ["ISA", "compiled_isas", "kernels", "usable_isas"]

_ENVIRONMENT = "WINIT_FAST_ISA"


def compiled_isas() -> tuple[str, ...]:
    """The ISAs this installation has kernels for."""
    every = ("avx512", "avx2", "neon", "baseline")
    return tuple(isa for isa in every if find_spec(f"winit_fast._kernels_{isa}") is not None)


def usable_isas() -> tuple[str, ...]:
    """The compiled ISAs that this CPU runs, best first."""
    compiled = compiled_isas()
    return tuple(isa for isa in cpu_isas() if isa in compiled)


def _choose() -> str:
    forced = os.environ.get(_ENVIRONMENT)
    if forced:
        if forced not in usable_isas():
            raise ImportError(
                f"{_ENVIRONMENT} must be one of {', '.join(usable_isas())} on this CPU, got {quote(forced)}"
                f" (compiled: {', '.join(compiled_isas())})"
            )
        return forced
    for isa in cpu_isas():
        if find_spec(f"winit_fast._kernels_{isa}") is not None:
            return isa
    raise ImportError(
        "winit_fast has no compiled kernels: build them by python -m pip install -e ., or, for a frozen program, "
        "collect them by pyinstaller --collect-submodules winit_fast"
    )


ISA = _choose()

#: The module of compiled kernels that runs; looked up at every use.
kernels: Any = import_module(f"winit_fast._kernels_{ISA}")
