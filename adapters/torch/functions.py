"""What `torch.nn.init` has, by its names, arguments, defaults and meanings.

``from winit_fast.adapters import torch as init`` is a drop-in replacement for ``from torch.nn import init``.
Every random function draws one 64-bit number from `generator` (PyTorch's default one where it is None), whatever the
size of the tensor, and fills with the scheme of that name under it. The values are not PyTorch's, whose generator is
another.
"""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.init import _calculate_correct_fan, _calculate_fan_in_and_fan_out, _make_deprecate, calculate_gain

from winit_fast import scheme as read_scheme
from winit_fast.distributions import Uniform
from winit_fast.floating_point import default_floating_point
from winit_fast.lowering import ELEMENT_TYPES, lower

from .._memory.torch import name_of
from .blocks import LeftToTorchError, block_at_work
from .plain import FILLED, refuse_absent, refuse_computed, refuse_other_types
from .tensors import init_

__all__ = [
    "_calculate_correct_fan", "_calculate_fan_in_and_fan_out", "calculate_gain", "constant", "constant_", "dirac",
    "dirac_", "eye", "eye_", "kaiming_normal", "kaiming_normal_", "kaiming_uniform", "kaiming_uniform_", "normal",
    "normal_", "ones_", "orthogonal", "orthogonal_", "sparse", "sparse_", "trunc_normal_", "uniform", "uniform_",
    "xavier_normal", "xavier_normal_", "xavier_uniform", "xavier_uniform_", "zeros_",
]  # fmt: skip

Generator = torch.Generator | None
Mode = Literal["fan_in", "fan_out"]


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill with U(a, b), as `torch.nn.init.uniform_`: with values that are below b in the tensor's own type.

    Examples
    --------
    >>> import torch
    >>> from winit_fast.adapters.torch import uniform_
    >>> weight = uniform_(torch.empty(3, 5), -0.1, 0.1)
    >>> bool((weight.abs() <= 0.1).all())
    True
    """
    if _is_torchs(tensor):
        return _by_torch("uniform_", tensor, a, b, generator)
    low, high = float(a), float(b)
    _needs_order(low, high)
    if low < high and _is_empty(low, high, tensor.dtype):
        return _by_torch("uniform_", tensor, a, b, generator)
    return _draw(tensor, f"uniform({low!r}, {high!r}, 'below_high')", generator)


@lru_cache(maxsize=256)
@default_floating_point
def _is_empty(low: float, high: float, dtype: torch.dtype) -> bool:
    """Whether a type that PyTorch draws has no number in [low, high), where it takes one that is near."""
    is_drawn = dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    if not is_drawn or not max(abs(low), abs(high), high - low) <= torch.finfo(dtype).max:
        return False
    try:
        lower(Uniform(low, high, "below_high"), ELEMENT_TYPES[name_of(dtype)])
    except ValueError:
        return True
    return False


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill with N(mean, std^2), as `torch.nn.init.normal_`.

    Examples
    --------
    >>> import torch
    >>> from winit_fast.adapters.torch import normal_
    >>> weight = normal_(torch.empty(300, 500), std=0.02)
    >>> print(f"{weight.std().item():.3f}")
    0.020
    """
    if _is_torchs(tensor):
        return _by_torch("normal_", tensor, mean, std, generator)
    return _draw(tensor, f"normal({float(mean)!r}, {float(std)!r})", generator)


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Generator = None
) -> Tensor:
    """Fill with N(mean, std^2) given that it falls in [a, b], as `torch.nn.init.trunc_normal_`.

    a and b are values, not standard deviations: where std is 0.02, the default ones cut nothing off. Neither may leave
    only what is more than 37 standard deviations from the mean.

    Examples
    --------
    >>> import torch
    >>> from winit_fast.adapters.torch import trunc_normal_
    >>> weight = trunc_normal_(torch.empty(300, 500), std=0.02, a=-0.01, b=0.05)
    >>> bool(-0.01 <= weight.min() < -0.0099)
    True
    """
    refuse_other_types(tensor)
    if tensor.is_meta and block_at_work() is None:  # PyTorch looks at nothing else
        return tensor
    mean, std, a, b = float(mean), float(std), float(a), float(b)
    _needs_order(a, b)
    is_outside = mean < a - 2 * std or mean > b + 2 * std
    if a == b and std > 0.0:
        mean, std = a, 0.0
    is_cut = std > 0.0 and math.isfinite(mean) and math.isfinite(std)
    low, high = _deviations(mean, std, a, b) if is_cut else (-2.0, 2.0)
    scheme = f"truncated_normal({mean!r}, {std!r}, {low!r}, {high!r})"
    read_scheme(scheme)  # refuses before the warning
    if is_outside:
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_: all values come from one tail.", stacklevel=2
        )
    return _draw(tensor, scheme, generator)


@lru_cache(maxsize=256)
def _deviations(mean: float, std: float, a: float, b: float) -> tuple[float, float]:
    """Bounds in standard deviations from the mean: the float64 next to them that, as real numbers, do not pass them."""
    low, high = ((Fraction(x) - Fraction(mean)) / Fraction(std) if math.isfinite(x) else x for x in (a, b))
    nearest_low, nearest_high = _nearest(low), _nearest(high)
    return (
        math.nextafter(nearest_low, math.inf) if nearest_low < low else nearest_low,
        math.nextafter(nearest_high, -math.inf) if nearest_high > high else nearest_high,
    )


def _nearest(number: Fraction | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with a value, as `torch.nn.init.constant_`: tensors of every kind, by PyTorch itself."""
    refuse_other_types(tensor)
    refuse_absent(tensor)
    refuse_computed(tensor)
    with torch.no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with 1, as `torch.nn.init.ones_`."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with 0, as `torch.nn.init.zeros_`."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with the identity, as `torch.nn.init.eye_`.

    Examples
    --------
    >>> import torch
    >>> from winit_fast.adapters.torch import eye_
    >>> eye_(torch.empty(2, 3))
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    _needs_dimensions(tensor, 2, 2)
    if _is_torchs(tensor, or_integers=True):
        return _by_torch("eye_", tensor)
    return _draw(tensor, "identity", seed=0)


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill the kernel of a convolution so that it passes its inputs on unchanged, as `torch.nn.init.dirac_`."""
    _needs_dimensions(tensor, 3, 5)
    if _is_torchs(tensor, or_integers=True):
        return _by_torch("dirac_", tensor, groups)
    return _draw(tensor, f"dirac({groups!r})", seed=0)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill with U(-bound, bound), bound = gain sqrt(6 / (fan_in + fan_out)), as `torch.nn.init.xavier_uniform_`.

    Complex numbers fill a disk whose rms is the std of `xavier_normal_`; PyTorch's fill a square of this bound, whose
    rms is sqrt(2) times that.
    """
    _needs_dimensions(tensor, 2)
    return _draw(tensor, f"xavier_uniform({float(gain)!r})", generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill with N(0, 2 gain^2 / (fan_in + fan_out)), as `torch.nn.init.xavier_normal_`."""
    _needs_dimensions(tensor, 2)
    return _draw(tensor, f"xavier_normal({float(gain)!r})", generator)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: Mode = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator = None
) -> Tensor:
    """Fill with U(-bound, bound), bound = gain sqrt(3 / fan), as `torch.nn.init.kaiming_uniform_`.

    Complex numbers fill a disk whose rms is the std of `kaiming_normal_`; PyTorch's fill a square of this bound, whose
    rms is sqrt(2) times that.
    """
    return _kaiming("he_uniform", tensor, a, mode, nonlinearity, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: Mode = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator = None
) -> Tensor:
    """Fill with N(0, gain^2 / fan), as `torch.nn.init.kaiming_normal_`.

    Examples
    --------
    >>> import torch
    >>> from winit_fast.adapters.torch import kaiming_normal_
    >>> weight = kaiming_normal_(torch.empty(128, 50), mode="fan_out")
    >>> print(f"{weight.std().item() * 8:.1f}")  # sqrt(2 / 128) = 1 / 8
    1.0
    """
    return _kaiming("he_normal", tensor, a, mode, nonlinearity, generator)


def _kaiming(name: str, tensor: Tensor, a: float, mode: str, nonlinearity: Any, generator: Generator) -> Tensor:
    refuse_other_types(tensor)
    refuse_absent(tensor)
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
        if not tensor.is_meta:  # draws as others do: some ranks hold nothing of a tensor
            _draw(torch.empty(0, device="cpu"), "normal", generator)
        return tensor
    _needs_dimensions(tensor, 2)
    return _draw(tensor, f"{name}{_he_arguments(a, mode, nonlinearity)}", generator)


@lru_cache(maxsize=256, typed=True)
def _he_arguments(a: float, mode: str, nonlinearity: Any) -> str:
    if mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return f"({calculate_gain(nonlinearity, a)!r}, {mode.lower()!r})"


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator = None) -> Tensor:
    """Fill with an orthogonal matrix, rows by all other dimensions, times gain, as `torch.nn.init.orthogonal_`."""
    _needs_dimensions(tensor, 2)
    return _draw(tensor, f"orthogonal({float(gain)!r})", generator)


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator = None) -> Tensor:
    """Fill with N(0, std^2) and ceil(sparsity rows) zeros in each column, as `torch.nn.init.sparse_`."""
    _needs_dimensions(tensor, 2, 2)
    if _is_torchs(tensor):
        return _by_torch("sparse_", tensor, sparsity, std, generator)
    return _draw(tensor, f"sparse({float(sparsity)!r}, {float(std)!r})", generator)


def _needs_order(a: float, b: float) -> None:
    if not a <= b:
        raise ValueError(f"a must be <= b, got {a} and {b}")


def _needs_dimensions(tensor: Tensor, fewest: int, most: int | None = None) -> None:
    refuse_other_types(tensor)
    refuse_absent(tensor)
    count = tensor.dim()
    if count < fewest or (most is not None and count > most):
        needed = f"{fewest} or more" if most is None else f"{fewest}" if most == fewest else f"{fewest} to {most}"
        raise ValueError(f"tensor must have {needed} dimensions, got {count}")


# Who fills


def _draw(tensor: Tensor, scheme: str, generator: Generator = None, seed: int | None = None) -> Tensor:
    """Fill as the block wants it that took this call (blocks.py), or else by `init_`."""
    block = block_at_work()
    if block is not None:
        return block.draw(tensor, scheme, generator, seed)
    return init_(tensor, below_bound(tensor, scheme), seed=seed, generator=generator)


_NARROW = frozenset(kind for kind in FILLED if kind.itemsize < 4)


def below_bound(tensor: Tensor, scheme: str) -> str:
    """A scheme with the values that a type narrower than float32 rounds to the upper bound kept below it."""
    if tensor.dtype not in _NARROW or not scheme.startswith(("xavier_uniform", "he_uniform")):
        return scheme
    bounds = read_scheme(scheme).distribution(tuple(tensor.shape), 1, 0)
    return f"uniform({bounds.low!r}, {bounds.high!r}, 'below_high')" if isinstance(bounds, Uniform) else scheme


# What the engine cannot fill is left to PyTorch

# In a mapping, not under names of their own: `accelerate` exchanges what modules hold by name.
_TORCHS = {name: getattr(torch.nn.init, name) for name in ("uniform_", "normal_", "eye_", "dirac_", "sparse_")}


def _is_torchs(tensor: Tensor, *, or_integers: bool = False) -> bool:
    """Whether a tensor is complex, or of a type without fractions."""
    refuse_other_types(tensor)
    return tensor.is_complex() or (or_integers and tensor.dtype not in FILLED)


def _by_torch(name: str, tensor: Tensor, *arguments: Any) -> Tensor:
    if block_at_work() is not None:
        raise LeftToTorchError(f"{name} of {tensor.dtype} is PyTorch's")
    refuse_computed(tensor)
    return _TORCHS[name](tensor, *arguments)  # type: ignore[no-any-return]


# Deprecated names, which warn as PyTorch's do

uniform = _make_deprecate(uniform_)
normal = _make_deprecate(normal_)
constant = _make_deprecate(constant_)
eye = _make_deprecate(eye_)
dirac = _make_deprecate(dirac_)
xavier_uniform = _make_deprecate(xavier_uniform_)
xavier_normal = _make_deprecate(xavier_normal_)
kaiming_uniform = _make_deprecate(kaiming_uniform_)
kaiming_normal = _make_deprecate(kaiming_normal_)
orthogonal = _make_deprecate(orthogonal_)
sparse = _make_deprecate(sparse_)
