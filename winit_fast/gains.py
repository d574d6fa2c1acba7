"""Gains: the factor on the std of weights that keeps the scale of signals through a nonlinearity."""

from __future__ import annotations

import math

from winit_fast.arguments import finite, one_of
from winit_fast.floating_point import default_floating_point
from winit_fast.messages import quote

__all__ = ["GAINS", "SLOPED", "calculate_gain"]


@default_floating_point
def calculate_gain(nonlinearity: str, slope: float | None = None) -> float:
    """The factor on the std of weights that keeps the scale of signals through a nonlinearity.

    Parameters
    ----------
    nonlinearity : str
        PyTorch's table: ``linear``, ``conv`` (also ``conv1d`` ... ``conv_transpose3d``) and ``sigmoid`` have gain 1,
        ``tanh`` 5/3, ``relu`` sqrt(2), ``leaky_relu`` sqrt(2 / (1 + slope^2)), ``selu`` 3/4.

        Derived (see Notes): ``relu6`` 1.41421, ``elu`` (alpha 1) 1.24520, ``gelu`` 1.53353, ``gelu_tanh`` (the
        approximation by tanh) 1.53358, ``silu`` or ``swish`` 1.67653, ``hard_swish`` 1.73666, ``mish`` 1.48685,
        ``softplus`` 1.04187, ``softsign`` 2.33753; ``prelu`` as leaky_relu.
    slope : float, optional
        The negative slope of ``leaky_relu``, 0.01 by default, or the one that ``prelu`` starts with, 0.25 by default.
        The others have none.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the nonlinearity is unknown, or if the slope is not a finite number or is given where there is none.

    Notes
    -----
    The derived gains are 1 / sqrt(E[f(z)^2]), z ~ N(0, 1): where z enters a nonlinearity f and the weights behind it
    have mean 0 and std gain / sqrt(fan_in), their output has second moment 1 again. He et al. argue so for relu [1]_,
    and relu and leaky_relu have their gains; 0.25 is their slope of prelu. tools/derive_gains.py computes the
    integrals.

    Three of PyTorch's gains are not what this rule gives: tanh would have 1.59254 (5/3 is 4.65 % more), selu 1 (3/4
    is 25 % less; PyTorch found it by trial, and advises gain 1 for self-normalizing networks), and sigmoid, most of
    whose second moment is its mean of 1/2, 1.84623 (1 is 45.8 % less).

    References
    ----------
    .. [1] He, Zhang, Ren and Sun 2015, "Delving Deep into Rectifiers", arXiv:1502.01852

    Examples
    --------
    >>> from winit_fast import calculate_gain
    >>> calculate_gain("tanh")
    1.6666666666666667
    >>> calculate_gain("gelu")
    1.5335304411955353
    >>> calculate_gain("leaky_relu", slope=1)
    1.0
    """
    nonlinearity = one_of(*GAINS)("nonlinearity", nonlinearity)
    if slope is None:
        return GAINS[nonlinearity]
    if nonlinearity not in SLOPED:
        raise ValueError(f"slope needs nonlinearity='leaky_relu' or 'prelu', got {quote(slope)} with {nonlinearity!r}")
    negative_slope = finite("slope", slope)
    square = negative_slope * negative_slope
    if math.isinf(square):
        raise ValueError(f"slope must have a square within float64, got {negative_slope}")
    return math.sqrt(2.0 / (1.0 + square))


# Numbers rather than formulas: a libm may round its exp or tanh in its own way.
GAINS = {
    # PyTorch's torch.nn.init.calculate_gain
    "linear": 1.0,
    "conv": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": 1.4142135623730951,
    "leaky_relu": 1.4141428569978354,  # slope 0.01
    "selu": 3.0 / 4.0,
    # tools/derive_gains.py
    "prelu": 1.3719886811400708,  # slope 0.25
    "relu6": 1.4142135650950736,
    "elu": 1.2451983007007066,
    "gelu": 1.5335304411955353,
    "gelu_tanh": 1.533580521666147,
    "silu": 1.676532470331091,
    "swish": 1.676532470331091,
    "hard_swish": 1.7366572127665416,
    "mish": 1.486847581273208,
    "softplus": 1.0418668355353018,
    "softsign": 2.3375333631085398,
}

SLOPED = ("leaky_relu", "prelu")  # those that take a slope
