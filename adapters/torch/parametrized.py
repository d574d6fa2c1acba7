"""Tensors that a module computes from other parameters: they are assigned, and their parametrization takes them apart.

`torch.nn.utils.parametrize` and what is built on it (weight_norm, spectral_norm, orthogonal, a user's own) keep
originals in place of the tensor; the older `torch.nn.utils.weight_norm` and `spectral_norm` keep parameters and a hook.
A scheme is for the tensor: drawn into the originals it means nothing, and may make the tensor 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _Orthogonal, _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from winit_fast.streams import stream_of

__all__ = ["Parametrized", "find_parametrized"]

_POWER_ITERATIONS = 15  # as many as spectral_norm takes when it is registered


@dataclass(frozen=True, slots=True, eq=False)
class Parametrized:
    """A tensor that is computed from parameters, and how.

    Attributes
    ----------
    owner : torch.nn.Module
        The module whose tensor it is.
    local : str
        Its name there.
    holder : torch.nn.Module
        The module that holds the originals.
    originals : tuple of str
        Their names there.
    kind : str
        The classes of the parametrizations.
    """

    owner: nn.Module
    local: str
    holder: nn.Module
    originals: tuple[str, ...]
    kind: str
    compute: Callable[..., Tensor]
    invert: Callable[[Tensor], Sequence[Tensor]]
    refine: Callable[[], object] | None = None  # brings the estimate of a norm closer, of the older spectral_norm

    @property
    def suffixes(self) -> list[str]:
        """What the originals' qualified names end with, where the tensor's ends with `local`."""
        before = "" if self.holder is self.owner else f"parametrizations.{self.local}."
        return [before + original for original in self.originals]

    def find_originals(self) -> list[nn.Parameter]:
        """The originals."""
        return [self.holder.get_parameter(original) for original in self.originals]

    def compute_current(self) -> Tensor:
        """The tensor as it is now, by itself."""
        try:
            with torch.no_grad(), self._keep_still():
                return self.compute(*self.find_originals())
        except RuntimeError as error:  # such as buffers that are not sharded beside originals that are
            raise ValueError(f"its parametrization {self.kind} cannot be computed as it stands: {error}") from None

    def refuse(self, value: Tensor, seed: int, name: str) -> None:
        """Raise where the originals cannot be made such that this value comes out; nothing is changed."""
        buffers = [(stage, dict(stage._buffers)) for stage in self._stages()]
        if self.refine is not None:
            buffers.append((self.owner, {name: self.owner._buffers[name] for name in _estimates(self.local)}))
        try:
            if any(buffer is not None and buffer.is_meta for _, held in buffers for buffer in held.values()):
                raise ValueError("its buffers are on the meta device")
            with torch.no_grad(), self._keep_still(), _seed_generator(value, seed, name):
                result = self.compute(*self._parts(value))
        except (TypeError, ValueError, RuntimeError) as error:  # NotImplementedError and LinAlgError are RuntimeErrors
            raise ValueError(f"its parametrization {self.kind} cannot take it: {str(error) or repr(error)}") from None
        finally:
            for stage, held in buffers:
                stage._buffers.update(held)
        is_nan = bool(result.isnan().any())
        if value.numel() == 0 or (self._is_scaled and not is_nan):
            return
        near = 4 * max(torch.finfo(value.dtype).eps, 2.5e-4) * value.abs().max()
        made = "other values"
        if is_nan:
            made = "nan"
        elif bool(((result - value).abs() <= near).all()):
            if not self._has(_Orthogonal) or bool(value.any()):
                return
            made = "a matrix that stays 0"
        originals = ", ".join(name.removesuffix(self.local) + suffix for suffix in self.suffixes)
        raise ValueError(
            f"its parametrization {self.kind} would make {made} of it; give a scheme that it can hold, or rules that "
            f"are for {originals} alone"
        )

    def assign(self, value: Tensor, seed: int, name: str) -> None:
        """Have the tensor be this value, or where it is scaled by its norm, that scaled."""
        with torch.no_grad():
            with _seed_generator(value, seed, name):
                parts = self._parts(value)
            for original, part in zip(self.find_originals(), parts, strict=True):
                original.copy_(part)
            if self._has(_SpectralNorm):
                with self._keep_still(training=True):  # each time it is computed the estimate of the norm comes closer
                    for _ in range(_POWER_ITERATIONS):
                        self.compute(*self.find_originals())
            if self.refine is not None:
                for _ in range(_POWER_ITERATIONS):
                    self.refine()
        if self.holder is self.owner:
            setattr(self.owner, self.local, self.compute(*self.find_originals()))

    def _parts(self, value: Tensor) -> list[Tensor]:
        """What the originals must become, sharded as they are."""
        parts = []
        original: Any
        part: Any
        for original, part in zip(self.find_originals(), self.invert(value), strict=True):
            if part.shape != original.shape:
                raise ValueError(f"its inverse has shape {tuple(part.shape)} where {tuple(original.shape)} is held")
            if hasattr(part, "placements") and hasattr(original, "placements"):
                part = part.redistribute(original.device_mesh, original.placements)
            parts.append(part)
        return parts

    def find_added(self) -> list[nn.Parameter]:
        """Parameters of the parametrizations themselves, with which the tensor is computed too."""
        return [parameter for stage in self._stages()[1:] for parameter in stage.parameters(recurse=False)]

    @property
    def _is_scaled(self) -> bool:
        """Whether the tensor is divided by its norm."""
        return self.refine is not None or self._has(_SpectralNorm)

    def _stages(self) -> list[nn.Module]:
        return [] if self.holder is self.owner else list(self.holder.modules())

    def _has(self, kind: type[nn.Module]) -> bool:
        return any(isinstance(stage, kind) for stage in self._stages())

    @contextmanager
    def _keep_still(self, training: bool = False) -> Iterator[None]:
        """Out of training, in which a norm changes its estimate whenever it is computed."""
        modes = [(stage, stage.training) for stage in self._stages()]
        try:
            for stage, _ in modes:
                stage.training = training
            yield
        finally:
            for stage, mode in modes:
                stage.training = mode


def find_parametrized(module: nn.Module) -> Iterator[Parametrized]:
    """Every tensor of one module that is computed from parameters."""
    if parametrize.is_parametrized(module):
        for local, holder in module.parametrizations.items():  # type: ignore[union-attr, operator]
            originals = tuple(name for name in holder._parameters if name.startswith("original"))
            if originals:
                kind = ", ".join(type(stage).__name__.removeprefix("_") for stage in holder)
                yield Parametrized(module, local, holder, originals, kind, _chain(holder), _inverse(holder))
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            yield _weight_norm(module, hook)
        if isinstance(hook, SpectralNorm):
            yield _spectral_norm(module, hook)


def _chain(holder: Any) -> Callable[..., Tensor]:
    def compute(*originals: Tensor) -> Tensor:
        first, *rest = list(holder)
        value: Tensor = reduce(lambda value, stage: stage(value), rest, first(*originals))
        return value

    return compute


def _inverse(holder: Any) -> Callable[[Tensor], Sequence[Tensor]]:
    def invert(value: Any) -> Sequence[Tensor]:
        for stage in reversed(list(holder)):
            if not hasattr(stage, "right_inverse"):
                raise ValueError(f"{type(stage).__name__} has no right_inverse")
            value = stage.right_inverse(value)
        return (value,) if isinstance(value, Tensor) else value

    return invert


def _weight_norm(module: nn.Module, hook: WeightNorm) -> Parametrized:
    """The older one, of 2016, whose hook computes the weight before each call of the module."""
    originals = f"{hook.name}_g", f"{hook.name}_v"
    return Parametrized(
        module, hook.name, module, originals, "WeightNorm",
        compute=lambda length, direction: torch._weight_norm(direction, length, hook.dim),
        invert=lambda value: (torch.norm_except_dim(value, 2, hook.dim), value),
    )  # fmt: skip


def _spectral_norm(module: nn.Module, hook: SpectralNorm) -> Parametrized:
    """The older one, of 2018, whose hook divides the weight by its norm before each call of the module."""

    def compute(original: Tensor) -> Tensor:
        left, right = (getattr(module, name) for name in _estimates(hook.name))
        matrix = hook.reshape_weight_to_matrix(original)
        return original / torch.dot(left, torch.mv(matrix, right))

    return Parametrized(
        module, hook.name, module, (f"{hook.name}_orig",), "SpectralNorm", compute, invert=lambda value: (value,),
        refine=partial(hook.compute_weight, module, do_power_iteration=True),
    )  # fmt: skip


def _estimates(local: str) -> tuple[str, str]:
    """The buffers of the older spectral_norm: what its estimate of the norm is made of."""
    return f"{local}_u", f"{local}_v"


@contextmanager
def _seed_generator(value: Tensor, seed: int, name: str) -> Iterator[None]:
    """Have PyTorch's generator, from which orthogonal's inverse draws, begin by seed and name; leave it as it was."""
    is_cuda = value.is_cuda
    with torch.random.fork_rng(devices=[value.device.index] if is_cuda else []):
        start: Callable[[int], Any] = torch.cuda.manual_seed if is_cuda else torch.default_generator.manual_seed
        start((seed ^ stream_of(name)) >> 1)
        yield
