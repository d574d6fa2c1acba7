"""What `torch.nn.init` has, by its names, arguments, defaults and meanings: ``from winit_fast.adapters import torch as init``.

Every random function draws one 64-bit number from `generator` (PyTorch's default one where it is None), whatever the size
of the tensor, and fills with the scheme of that name under it. The values are not PyTorch's, whose generator is another.
"""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.nn.init import _calculate_correct_fan, _calculate_fan_in_and_fan_out, calculate_gain

from winit_fast import scheme
from winit_fast.adapters.torch.tensors import FILLED, init_

__all__ = [
    "_calculate_correct_fan",
    "_calculate_fan_in_and_fan_out",
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

Generator = torch.Generator | None


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill with U(a, b), as `torch.nn.init.uniform_`.

    Examples
    --------
    >>> weight = uniform_(torch.empty(3, 5), -0.1, 0.1)
    >>> bool((weight.abs() <= 0.1).all())
    True
    """
    return init_(tensor, scheme("uniform", low=a, high=b), generator=generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill with N(mean, std^2), as `torch.nn.init.normal_`."""
    return init_(tensor, scheme("normal", mean=mean, std=std), generator=generator)


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Generator = None
) -> Tensor:
    """Fill with N(mean, std^2) cut at the values a and b, as `torch.nn.init.trunc_normal_`."""
    if tensor.is_meta:
        return tensor
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn("mean is more than 2 std from [a, b] in trunc_normal_: all values come from one tail", stacklevel=2)
    if std == 0:
        return constant_(tensor, mean)
    low, high = _deviations(mean, std, a, upwards=True), _deviations(mean, std, b, upwards=False)
    return init_(tensor, scheme("truncated_normal", mean=mean, std=std, low=low, high=high), generator=generator)


def _deviations(mean: float, std: float, bound: float, upwards: bool) -> float:
    """A bound in standard deviations that, as a real number, does not pass it: the float64 nearest to it inside."""
    if math.isinf(bound):
        return bound
    exact = (Fraction(bound) - Fraction(mean)) / Fraction(std)
    nearest = float(exact)
    if upwards and Fraction(nearest) < exact:
        return math.nextafter(nearest, math.inf)
    if not upwards and Fraction(nearest) > exact:
        return math.nextafter(nearest, -math.inf)
    return nearest


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with a value, as `torch.nn.init.constant_`; types that winit_fast does not draw are PyTorch's own affair."""
    if tensor.dtype in FILLED and type(tensor) in (Tensor, torch.nn.Parameter) and not isinstance(val, complex):
        return init_(tensor, scheme("constant", value=float(val)), seed=0)
    with torch.no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with 1, as `torch.nn.init.ones_`."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with 0, as `torch.nn.init.zeros_`."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with the identity, as `torch.nn.init.eye_`."""
    if tensor.ndimension() != 2:
        raise ValueError(f"tensor must have 2 dimensions, got {tensor.ndimension()}")
    return init_(tensor, "identity", seed=0)


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill the kernel of a convolution with the Dirac delta, as `torch.nn.init.dirac_`."""
    if tensor.ndimension() not in (3, 4, 5):
        raise ValueError(f"tensor must have 3, 4 or 5 dimensions, got {tensor.ndimension()}")
    if tensor.size(0) % groups:
        raise ValueError(f"dim 0 must be divisible by groups, got {tensor.size(0)} and {groups}")
    return init_(tensor, scheme("dirac", groups=groups), seed=0)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill with U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)), as `torch.nn.init.xavier_uniform_`."""
    _calculate_fan_in_and_fan_out(tensor)
    return init_(tensor, scheme("xavier_uniform", gain=gain), generator=generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill with N(0, 2 gain^2 / (fan_in + fan_out)), as `torch.nn.init.xavier_normal_`."""
    _calculate_fan_in_and_fan_out(tensor)
    return init_(tensor, scheme("xavier_normal", gain=gain), generator=generator)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator = None
) -> Tensor:
    """Fill with U(-bound, bound), bound = sqrt(3 / fan) gain, as `torch.nn.init.kaiming_uniform_`."""
    return _kaiming("he_uniform", tensor, a, mode, nonlinearity, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator = None
) -> Tensor:
    """Fill with N(0, gain^2 / fan), as `torch.nn.init.kaiming_normal_`."""
    return _kaiming("he_normal", tensor, a, mode, nonlinearity, generator)


def _kaiming(name: str, tensor: Tensor, a: float, mode: Any, nonlinearity: Any, generator: Generator) -> Tensor:
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
        return tensor
    _calculate_correct_fan(tensor, mode)
    gain = calculate_gain(nonlinearity, a)
    return init_(tensor, scheme(name, gain=gain, mode=mode.lower()), generator=generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator = None) -> Tensor:
    """Fill with an orthogonal matrix, rows by all other dimensions, times gain, as `torch.nn.init.orthogonal_`."""
    if tensor.ndimension() < 2:
        raise ValueError(f"tensor must have 2 or more dimensions, got {tensor.ndimension()}")
    return init_(tensor, scheme("orthogonal", gain=gain), generator=generator)


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator = None) -> Tensor:
    """Fill with N(0, std^2) and ceil(sparsity rows) zeros in each column, as `torch.nn.init.sparse_`."""
    if tensor.ndimension() != 2:
        raise ValueError(f"tensor must have 2 dimensions, got {tensor.ndimension()}")
    return init_(tensor, scheme("sparse", sparsity=sparsity, std=std), generator=generator)
