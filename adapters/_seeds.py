"""Seeds of arrays whose library has none of its own: an int, or a draw of NumPy's."""

from __future__ import annotations

from typing import SupportsIndex, TypeAlias

import numpy as np

from winit_fast.messages import as_int
from winit_fast.schemes import Scheme, read_scheme

__all__ = ["Seed", "seed_of"]

Seed: TypeAlias = SupportsIndex | np.random.Generator | np.random.SeedSequence | None


def seed_of(scheme: str | Scheme, seed: Seed) -> SupportsIndex | None:
    """Read the seed that was given, or one still to be drawn; None where the scheme draws nothing."""
    if seed is None or isinstance(seed, np.random.Generator | np.random.SeedSequence):
        return _LateSeed(seed) if read_scheme(scheme).draws else None
    return as_int("seed", seed, "an int in [0, 2^64), a numpy.random.Generator, a SeedSequence or None")


class _LateSeed:
    """A seed that is drawn when it is first asked for: after all else has been checked."""

    __slots__ = ("_source", "_value")

    def __init__(self, source: np.random.Generator | np.random.SeedSequence | None) -> None:
        self._source = source
        self._value: int | None = None

    def __index__(self) -> int:
        if self._value is None:
            self._value = self._draw()
        return self._value

    def _draw(self) -> int:
        if isinstance(self._source, np.random.Generator):
            return int(self._source.integers(1 << 64, dtype=np.uint64))
        return int((self._source or np.random.SeedSequence()).generate_state(1, np.uint64)[0])
