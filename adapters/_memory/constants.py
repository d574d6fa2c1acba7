"""Constants, which a framework writes by its own means, and in dtypes that nothing else fills."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from winit_fast import fill
from winit_fast.distributions import Constant, Distribution
from winit_fast.messages import quote
from winit_fast.schemes import read_scheme

__all__ = ["FILLED", "convert_constant"]

#: The dtypes of `winit_fast.fill`; all others are for constants alone.
FILLED = (
    "float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "complex128",
)  # fmt: skip

# A scheme holds its numbers as float64: a larger integer may not be the one that was given, as 2^53 may be 2^53 + 1.
_LARGEST_EXACT = (1 << 53) - 1


def convert_constant(dtype: np.dtype[Any], distribution: Distribution, argument: str = "dtype") -> NDArray[Any] | None:
    """Convert the value of a constant to an array without axes; None of what is no constant.

    Parameters
    ----------
    dtype : dtype
        One of `FILLED`, or another that holds the value as it is: integers, bool, other narrow floats.
    distribution : Distribution
    argument : str
        What the caller calls that which has the dtype.

    Returns
    -------
    ndarray or None

    Raises
    ------
    TypeError
        If `dtype` is none of `FILLED`, and the distribution is no constant.
    ValueError
        If the value changes in a dtype that is none of them.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast.distributions import Constant
    >>> convert_constant(np.dtype("int32"), Constant(3.0))
    array(3, dtype=int32)
    >>> convert_constant(np.dtype("bool"), Constant(0.5))
    Traceback (most recent call last):
    ValueError: dtype bool does not hold 0.5 as it is
    """
    if not isinstance(distribution, Constant):
        if dtype.name not in FILLED:
            kind = "" if argument == "dtype" else "of dtype "
            raise TypeError(
                f"{argument} must be {kind}{', '.join(FILLED)}, got {dtype.name}: other dtypes are for constants alone"
            )
        return None
    number = distribution.value
    if dtype.name in FILLED:
        return fill(np.empty((), dtype), read_scheme("constant", value=number))
    with np.errstate(all="ignore"):  # what does not survive is refused below
        value = np.asarray(number).astype(dtype)
    if float(value) != number or abs(number) > _LARGEST_EXACT:
        raise ValueError(f"{argument} {dtype.name} does not hold {quote(number)} as it is")
    return value
