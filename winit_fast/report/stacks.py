"""The layers of a stack: each computes pre-activations from inputs, and passes a gradient back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["POSITIONS", "Stack"]

Float64s = NDArray[np.float64]
Float32s = NDArray[np.float32]

#: The positions of a convolution's signals. They form a ring, so that none is at an edge.
POSITIONS = 16


@dataclass(frozen=True, slots=True)
class Stack:
    """Dense layers, or one-dimensional circular convolutions, all of the same width.

    Attributes
    ----------
    width : int
        Units, or channels.
    kernel : int or None
        The size of a convolution's kernel; None for dense layers.

    Examples
    --------
    >>> import numpy as np
    >>> stack = Stack(2, kernel=3)
    >>> stack.shape_of_weights, stack.shape_of_signals(5)
    ((3, 2, 2), (5, 16, 2))
    >>> stack.forward(np.ones((5, 16, 2)), np.ones((3, 2, 2), "float32"))[0, 0]
    array([6., 6.])
    """

    width: int
    kernel: int | None = None

    @property
    def shape_of_weights(self) -> tuple[int, ...]:
        """In the layout of `winit_fast.fill`: ``(*kernel, in, out)``."""
        units = (self.width, self.width)
        return units if self.kernel is None else (self.kernel, *units)

    def shape_of_signals(self, batch: int) -> tuple[int, ...]:
        """Inputs, positions (of a convolution), units."""
        return (batch, self.width) if self.kernel is None else (batch, POSITIONS, self.width)

    def forward(self, inputs: Float64s, weights: Float32s) -> Float64s:
        """Compute the pre-activations."""
        if self.kernel is not None:
            inputs = np.concatenate([np.roll(inputs, -offset, axis=1) for offset in self._offsets()], axis=-1)
        return _multiply(inputs, weights.reshape(-1, self.width))

    def backward(self, gradients: Float64s, weights: Float32s) -> Float64s:
        """Compute the gradient with respect to the inputs from the one with respect to the pre-activations."""
        back = _multiply(gradients, weights.reshape(-1, self.width).T)
        if self.kernel is None:
            return back
        taps = np.split(back, self.kernel, axis=-1)
        shifted = [np.roll(tap, offset, axis=1) for offset, tap in zip(self._offsets(), taps, strict=True)]
        gradient: Float64s = np.sum(shifted, axis=0)
        return gradient

    def _offsets(self) -> range:
        """The positions that a kernel reads, relative to its middle."""
        kernel = self.kernel or 1
        return range(-(kernel // 2), kernel - kernel // 2)


def _multiply(signals: Float64s, weights: Float32s) -> Float64s:
    """Multiply in float32, with the signals scaled by a power of two.

    The scaling changes no digit. It keeps signals in float32's range that would leave it after some tens of layers.
    """
    exponent = np.frexp(np.abs(signals).max())[1]
    product = np.ldexp(signals, -exponent).astype(np.float32) @ weights
    rescaled: Float64s = np.ldexp(product.astype(np.float64), exponent)
    return rescaled
