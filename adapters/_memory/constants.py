"""Constants: one value everywhere, which a framework writes by its own means, and in dtypes that nothing else fills."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winit_fast import fill
from winit_fast import scheme as read_scheme
from winit_fast.distributions import Constant, Distribution
from winit_fast.messages import quote

__all__ = ["constant_in"]

# A scheme holds its numbers as float64: a larger integer may not be the one that was given, as 2^53 may be 2^53 + 1.
_LARGEST_EXACT = (1 << 53) - 1


def constant_in(
    dtype: np.dtype[Any], distribution: Distribution, filled: Collection[str], argument: str = "dtype"
) -> NDArray[Any] | None:
    """The value of a constant as an array without axes, or None of what is no constant.

    Parameters
    ----------
    dtype : dtype
        One that `winit_fast.fill` has, or another that holds the value as it is: integers, bool, other narrow floats.
    distribution : Distribution
    filled : collection of str
        The dtypes that are filled with more than constants.
    argument : str
        What the caller calls that which has the dtype.

    Returns
    -------
    ndarray or None

    Raises
    ------
    TypeError
        If `dtype` is not among those that are filled, and the distribution is no constant.
    ValueError
        If the value changes in a dtype that is not among them.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.distributions import Constant
    >>> constant_in(np.dtype("int32"), Constant(3.0), ["float32"])
    array(3, dtype=int32)
    >>> constant_in(np.dtype("bool"), Constant(0.5), ["float32"])
    Traceback (most recent call last):
    ValueError: dtype bool does not hold 0.5 as it is
    """
    if not isinstance(distribution, Constant):
        if dtype.name not in filled:
            kind = "" if argument == "dtype" else "of dtype "
            raise TypeError(
                f"{argument} must be {kind}{', '.join(filled)}, got {dtype.name}: other dtypes are for constants alone"
            )
        return None
    number = distribution.value
    if dtype.name in filled:
        return fill(np.empty((), dtype), read_scheme("constant", value=number))
    with np.errstate(all="ignore"):  # what does not survive is refused below
        value = np.asarray(number).astype(dtype)
    if float(value) != number or abs(number) > _LARGEST_EXACT:
        raise ValueError(f"{argument} {dtype.name} does not hold {quote(number)} as it is")
    return value
