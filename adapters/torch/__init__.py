"""PyTorch: any tensor, any model, any sharding, in place.

`init_` fills a tensor, `init` makes one; the functions of `torch.nn.init` stand here too, under their names.
"""

from .. import needs

with needs("torch"):
    import torch as _torch  # noqa: F401

from . import recipes
from .acceleration import accelerate
from .checking import check
from .functions import (
    _calculate_correct_fan,
    _calculate_fan_in_and_fan_out,
    calculate_gain,
    constant,
    constant_,
    dirac,
    dirac_,
    eye,
    eye_,
    kaiming_normal,
    kaiming_normal_,
    kaiming_uniform,
    kaiming_uniform_,
    normal,
    normal_,
    ones_,
    orthogonal,
    orthogonal_,
    sparse,
    sparse_,
    trunc_normal_,
    uniform,
    uniform_,
    xavier_normal,
    xavier_normal_,
    xavier_uniform,
    xavier_uniform_,
    zeros_,
)
from .integrations import init_sharded_, megatron_init_method, torchrec_init_fn
from .modules import init_module_, materialize_
from .rules import Recipe, Rule
from .tensors import init, init_

__all__ = [
    "Recipe",
    "Rule",
    "_calculate_correct_fan",
    "_calculate_fan_in_and_fan_out",
    "accelerate",
    "calculate_gain",
    "check",
    "constant",
    "constant_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "init",
    "init_",
    "init_module_",
    "init_sharded_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "materialize_",
    "megatron_init_method",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "recipes",
    "sparse",
    "sparse_",
    "torchrec_init_fn",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]


def __dir__() -> list[str]:
    """List the public names alone."""
    return [name for name in __all__ if not name.startswith("_")]
