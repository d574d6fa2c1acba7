"""Requests: what a framework asks for, before it is known how its memory is filled."""

from __future__ import annotations

from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from winit_fast.distributions import Distribution
from winit_fast.initializer import Initializer

from .constants import FILLED, convert_constant

__all__ = ["Request"]


class Request(NamedTuple):
    """A tensor that is asked for; the seed is an int, None, or what else the framework has for one.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.initializer import Initializer
    >>> request = Request(Initializer("ones", padding_idx=0), (3, 2))
    >>> request.check(np.dtype("int8"))
    array(1, dtype=int8)
    >>> request.fill(np.empty((2, 2), "int8"), offset=(1, 0)).tolist()
    [[1, 1], [1, 1]]
    """

    initializer: Initializer
    shape: tuple[int, ...]
    seed: Any = None
    threads: SupportsIndex | None = None

    def check(
        self, dtype: np.dtype[Any], seed: SupportsIndex | None = 0, argument: str = "dtype"
    ) -> NDArray[Any] | None:
        """Refuse what `fill` would, and return the value of a constant as `convert_constant` does."""
        kind = dtype if dtype.name in FILLED else np.float64
        self.initializer.check(self.shape, kind, seed=seed, threads=self.threads)
        return convert_constant(dtype, self.distribution(dtype), argument)

    def distribution(self, dtype: np.dtype[Any]) -> Distribution:
        """What the scheme becomes."""
        return self.initializer.distribution(self.shape, is_complex=dtype.kind == "c")

    def unnamed(self) -> Request:
        """The same values, of which no warning says that they repeat others: parts, and what repeats on purpose."""
        return self._replace(initializer=self.initializer.rename(self.initializer.stream))

    def fill(
        self, out: NDArray[Any], *, seed: SupportsIndex | None = None, offset: tuple[int, ...] | None = None
    ) -> NDArray[Any]:
        """Fill the whole, or the part that begins at `offset`, under the int that the seed has become.

        The dtype is one that `check` accepts: `winit_fast.fill` lacks those that are for constants alone.
        """
        if out.dtype.name in FILLED:
            return self.initializer.fill(out, seed=seed, shape=self.shape, offset=offset, threads=self.threads)
        out[...] = convert_constant(out.dtype, self.distribution(out.dtype))
        padding = self.initializer.padding(self.shape)
        if padding is not None:
            axis, row = padding
            row -= offset[axis] if offset else 0
            np.moveaxis(out, axis, 0)[max(row, 0) : max(row + 1, 0)] = 0
        return out
