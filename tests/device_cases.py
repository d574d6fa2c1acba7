"""What the tests of kernels for other processors have in common."""

import torch

from winit_fast.adapters._memory.torch import name_of
from winit_fast.lowering import ELEMENT_TYPES, lower

NARROW = (torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
TRANSFORMS = {
    "constant32": "constant(-0.0)",
    "uniform32": "uniform(low=-0.1, high=0.3)",
    "normal32": "normal(mean=0.01, std=0.02)",
    "truncated_centre32": "truncated_normal(std=0.02)",
    "truncated_near32": "truncated_normal(low=-1, high=3)",
    "truncated_far32": "truncated_normal(std=0.5, low=9, high=inf)",
    "constant64": "constant(0.7)",
    "uniform64": "uniform(low=-0.1, high=0.3)",
    "normal64": "normal(mean=0.01, std=0.02)",
    "truncated64": "truncated_normal(mean=3, low=-6.5, high=9)",
}
COMPLEX = {"normal": "he_normal", "disk": "he_uniform", "truncated_disk": "he_truncated_normal"}
CASES = [(transform, dtype) for transform in TRANSFORMS for dtype in (NARROW if "32" in transform else [torch.float64])]
CASES += [
    (f"{name}{bits}", dtype) for name in COMPLEX for bits, dtype in ((32, torch.complex64), (64, torch.complex128))
]
SEED, NAME = 2**64 - 3**30, 2**63 + 3**29
GUARD = 37


def scheme_of(transform, dtype):
    return COMPLEX[transform[:-2]] if dtype.is_complex else TRANSFORMS[transform]


def conversion_of(initializer, shape, dtype):
    distribution = initializer.distribution(shape, is_complex=dtype.is_complex)
    return lower(distribution, ELEMENT_TYPES[name_of(dtype)])


def memory(count, dtype):
    """Of tensors: bytes that no fill leaves as they are."""
    return torch.full((count * dtype.itemsize,), 77, dtype=torch.uint8).view(dtype)


def run(count, dtype):
    """A tensor of one row, and the memory that it stands in."""
    whole = memory(count + 2 * GUARD, dtype)
    return whole[None, GUARD : GUARD + count], whole
