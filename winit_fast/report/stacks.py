"""The layers that a stack is made of: each turns inputs into pre-activations, and takes a gradient back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["POSITIONS", "Stack"]

Float64s = NDArray[np.float64]
Float32s = NDArray[np.float32]

#: Of a convolution's signals: a ring, so that no position is at an edge.
POSITIONS = 16


@dataclass(frozen=True, slots=True)
class Stack:
    """Dense layers, or one-dimensional circular convolutions, of one width throughout.

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
        """Inputs, positions of a convolution, units."""
        return (batch, self.width) if self.kernel is None else (batch, POSITIONS, self.width)

    def forward(self, inputs: Float64s, weights: Float32s) -> Float64s:
        """The pre-activations."""
        if self.kernel is not None:
            inputs = np.concatenate([np.roll(inputs, -place, axis=1) for place in self._places()], axis=-1)
        return _product(inputs, weights.reshape(-1, self.width))

    def backward(self, gradients: Float64s, weights: Float32s) -> Float64s:
        """The gradient with respect to the inputs, from that with respect to the pre-activations."""
        back = _product(gradients, weights.reshape(-1, self.width).T)
        if self.kernel is None:
            return back
        parts = np.split(back, self.kernel, axis=-1)
        shifted = [np.roll(part, place, axis=1) for place, part in zip(self._places(), parts, strict=True)]
        gradient: Float64s = np.sum(shifted, axis=0)
        return gradient

    def _places(self) -> range:
        """Where a kernel's entries look, its middle at the position itself."""
        kernel = self.kernel or 1
        return range(-(kernel // 2), kernel - kernel // 2)


def _product(signals: Float64s, weights: Float32s) -> Float64s:
    """The product in float32, of signals scaled by a power of two.

    That changes no digit, and keeps signals in float32's range which leave it after some tens of layers.
    """
    exponent = np.frexp(np.abs(signals).max())[1]
    product = np.ldexp(signals, -exponent).astype(np.float32) @ weights
    rescaled: Float64s = np.ldexp(product.astype(np.float64), exponent)
    return rescaled
