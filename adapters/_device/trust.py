"""Whether a device's kernels give the CPU's bits: each is compared with the CPU's before it is first relied on.

A kernel that differs or that cannot be compiled is not used again. What it would have filled is then filled through the
host's memory, as without it. So another processor or compiler should cost time and not bits.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from functools import lru_cache
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from winit_fast._plan import (
    CENTRE_MAXIMUM,
    CENTRE_MEAN,
    CENTRE_MINIMUM,
    CENTRE_STD,
    CONSTANT_VALUE,
    DISK_RADIUS,
    NORMAL_MEAN,
    NORMAL_STD,
    TRANSFORMS,
    TRUNCATED_MAXIMUM,
    TRUNCATED_MEAN,
    TRUNCATED_MINIMUM,
    TRUNCATED_STD,
    UNIFORM_LOW,
    UNIFORM_MAXIMUM,
    UNIFORM_WIDTH,
)
from winit_fast.config import REPORTS
from winit_fast.elements import fill_elements
from winit_fast.lowering import Conversion
from winit_fast.messages import quote
from winit_fast.target import Call, Target

from .._memory.torch import array_of
from .launch import Run, launch, lay_out, values_of

__all__ = ["DEVICES", "find_obstacle", "is_captured", "report", "takes", "write"]

#: The types of devices that Triton has compilers for, under PyTorch's names; ROCm's is "cuda" too.
DEVICES = ("cuda", "xpu")
#: Smaller tensors are filled through the host's memory, which takes less time than to compile a kernel.
SMALL_BYTES = 1 << 16
OLDEST_TRITON = (3, 6)  # older ones round sqrt and / otherwise
_ENVIRONMENT = "WINIT_FAST_DEVICE"


def takes(tensor: Tensor) -> bool:
    """Whether there is a kernel for a tensor's device, and it is large enough to be worth it.

    Raises
    ------
    ValueError
        If the environment variable that decides it is neither ``auto`` nor ``host``.
    """
    kind = tensor.device.type
    return kind in DEVICES and tensor.nbytes > SMALL_BYTES and find_obstacle(kind) is None


def find_obstacle(kind: str) -> str | None:
    """Why no kernel runs on any device of a type, or None."""
    setting = os.environ.get(_ENVIRONMENT) or "auto"
    if setting not in ("auto", "host"):
        raise ValueError(f"{_ENVIRONMENT} must be auto or host, got {quote(setting)}")
    return f"{_ENVIRONMENT} is host" if setting == "host" else _find_fault_of_triton(kind)


@lru_cache(maxsize=4)
def _find_fault_of_triton(kind: str) -> str | None:
    try:
        import triton

        version: str = triton.__version__
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_TRITON:
            return f"Triton {version} is older than {'.'.join(map(str, OLDEST_TRITON))}"
        is_interpreted: bool = triton.knobs.runtime.interpret
    except Exception as error:  # what a broken installation may raise, or another folder of that name
        return f"Triton cannot be imported: {error}"
    if kind != "cpu" and is_interpreted:  # tests interpret on the CPU
        return "TRITON_INTERPRET is set, and its interpreter would take hours"
    return None


def write(
    tensor: Tensor, conversion: Conversion, call: Call, shape: tuple[int, ...], start: tuple[int, ...],
    rows: Tensor | None = None, padding: int = -1,
) -> bool:  # fmt: skip
    """Write a part of the global tensor by a kernel, on the device's current stream; False: it is not trusted.

    Parameters
    ----------
    tensor : Tensor
        One that is taken, of strides without overlap.
    conversion : Conversion
    call : Call
        The number of threads is not looked at.
    shape, start, rows, padding
        As in `lay_out`.
    """
    if tensor.is_complex():
        tensor, shape, start = torch.view_as_real(tensor), (*shape, 2), (*start, 0)
        if prod(shape) > 1 << 63:  # more than kernels count
            return False
    values = values_of(conversion, call.seed, call.stream)
    layout = lay_out(tensor, shape, start, rows, padding)
    is_aligned = isinstance(layout, Run) and tensor.data_ptr() % 16 == 0  # of other layouts one kernel for both
    kernel = _Kernel(layout.variant, values.transform, values.store, is_aligned, tensor.device)
    if kernel not in _verdicts and is_captured(tensor):
        raise RuntimeError(
            "tensor must not be the first of its scheme, dtype and layout on a device while a CUDA graph is captured: "
            "fill it once before, so that the kernel is compared with the CPU's"
        )
    fault = None
    try:
        if kernel not in _verdicts:
            fault = kernel.find_fault(conversion, call, tensor.dtype)
            _verdicts[kernel] = fault is None
        if _verdicts[kernel]:
            launch(tensor, values, layout)
            return True
    except torch.cuda.OutOfMemoryError:  # no verdict on the kernel
        return False
    except Exception as error:  # whatever a compiler raises
        fault = f"cannot be used: {type(error).__name__}: {error}"
        _verdicts[kernel] = False
    me = object()
    if fault is not None and _warned.setdefault(kernel.device, me) is me:  # of several threads one
        warnings.warn(
            f"the kernel for {kernel} {fault}; what it would fill is filled through the host's memory, which is slower "
            "and gives the same values. winit_fast.show_config() names all such kernels, without further warnings",
            RuntimeWarning,
            stacklevel=2,
        )
    return False


def is_captured(tensor: Tensor) -> bool:
    """Whether what is launched now becomes part of a CUDA graph and does not run."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


class _Kernel(NamedTuple):
    """What one compilation is for."""

    variant: tuple[str, int, bool]
    transform: str
    store: str
    is_aligned: bool
    device: torch.device

    def __str__(self) -> str:
        return f"{self.transform} stored {self.store} on {self.device}"

    def find_fault(self, conversion: Conversion, call: Call, dtype: torch.dtype) -> str | None:
        """Fill 4,096 values on the device and on the CPU, and compare them and the memory around them.

        Then values so small that a device which flushes to 0 would show it.
        """
        for each in (conversion, _make_tiny(conversion)):
            part, whole = self.sample(dtype, self.device)
            other, expected = self.sample(dtype, torch.device("cpu"))
            shape = tuple(size + 999 for size in part.shape)
            start = (*range(5, 4 + part.dim()), 32 + (not self.variant[2]))
            rows = listed = None
            if self.variant[0] == "list of rows":
                start, rows = (0, *start[1:]), torch.arange(len(part), dtype=torch.int64, device="cpu") * 13
                listed, rows = rows.numpy(), rows.to(self.device)
            layout = lay_out(part, shape, start, rows)
            assert layout.variant == self.variant, (layout.variant, self.variant)
            launch(part, values_of(each, call.seed, call.stream), layout)
            fill_elements(each, Target(array_of(other), shape, start, listed), Call(call.seed, call.stream, 1))
            one, two = (memory.view(torch.uint8).view(len(memory), -1) for memory in (whole.cpu(), expected))
            different = int((one != two).any(dim=1).sum())
            if different:
                return f"gives other values than the CPU, {different} of 4096"
        return None

    def sample(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """4,096 values that the same compiled kernel fills, and the memory that they stand in."""
        kind, axes, _ = self.variant
        if kind == "run":
            whole = _memory(4096 + 128, dtype, device)
            return whole[64 + (not self.is_aligned) :][:4096], whole
        extents = [64 >> (axes - 1), *[2] * (axes - 1), 64]
        if kind == "across":  # the rows first in memory
            extents = [*extents[1:], extents[0]]
        whole = _memory(prod(extent + 1 for extent in extents), dtype, device)
        part = whole.view([extent + 1 for extent in extents])[tuple(slice(extent) for extent in extents)]
        return (part.movedim(-1, 0) if kind == "across" else part), whole


def _memory(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Of bytes that no fill leaves, zeros neither, so that what a kernel has not written is seen."""
    return torch.full((count * dtype.itemsize,), 85, dtype=torch.uint8, device=device).view(dtype)


# Which constants of a transform are sizes of its values.
_SIZES = {
    "constant": (CONSTANT_VALUE,),
    "uniform": (UNIFORM_LOW, UNIFORM_WIDTH, UNIFORM_MAXIMUM),
    "normal": (NORMAL_MEAN, NORMAL_STD),
    "truncated_centre": (CENTRE_MEAN, CENTRE_STD, CENTRE_MINIMUM, CENTRE_MAXIMUM),
    **dict.fromkeys(
        ("truncated_near", "truncated_far", "truncated"),
        (TRUNCATED_MEAN, TRUNCATED_STD, TRUNCATED_MINIMUM, TRUNCATED_MAXIMUM),
    ),
    **dict.fromkeys(("disk", "truncated_disk"), (DISK_RADIUS,)),
}


def _make_tiny(conversion: Conversion) -> Conversion:
    """The same scaled by a power of 2, so that most values are subnormal.

    Examples
    --------
    >>> from winit_fast.adapters._device.trust import TRANSFORMS
    >>> from winit_fast.element_types import Conversion
    >>> _make_tiny(Conversion(TRANSFORMS.index("normal32"), 0, (0.5, 3.0))).constants == (2.0**-131, 1.5 * 2.0**-129)
    True
    """
    name = TRANSFORMS[conversion.transform]
    constants, sizes = list(conversion.constants), _SIZES[name[:-2]]
    largest = max(math.frexp(constants[index])[1] for index in sizes)
    for index in sizes:
        constants[index] = math.ldexp(constants[index], (-1030 if name.endswith("64") else -128) - largest)
    return conversion._replace(constants=tuple(constants))


# Of each kernel that was compared: whether it is trusted.
_verdicts: dict[_Kernel, bool] = {}
# The devices that were warned of.
_warned: dict[torch.device, object] = {}


def report() -> list[str]:
    """Which way each device's tensors are filled, for `winit_fast.show_config`."""
    lines = []
    for kind in DEVICES:
        module = getattr(torch, kind, None)
        if module is None or not module.is_available():
            continue
        try:
            obstacle = find_obstacle(kind)
        except ValueError as error:  # a bad setting is what a bug report should show
            obstacle = str(error)
        way = "kernels" if obstacle is None else f"through the host's memory, since {obstacle}"
        lines += [f"{kind}:{index} ({module.get_device_name(index)}): {way}" for index in range(module.device_count())]
    bad = sorted({str(kernel) for kernel, is_good in list(_verdicts.items()) if not is_good})
    return [*lines, *(f"through the host's memory, since it is not trusted: {kernel}" for kernel in bad)]


REPORTS.append(report)
