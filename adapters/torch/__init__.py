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
    constant_,
    dirac_,
    eye_,
    kaiming_normal_,
    kaiming_uniform_,
    normal_,
    ones_,
    orthogonal_,
    sparse_,
    trunc_normal_,
    uniform_,
    xavier_normal_,
    xavier_uniform_,
    zeros_,
)
from .modules import init_module_, materialize_
from .rules import Recipe, Rule
from .sharding import init_sharded_, megatron_init_method, torchrec_init_fn
from .tensors import init, init_

__all__ = [
    "Recipe",
    "Rule",
    "_calculate_correct_fan",
    "_calculate_fan_in_and_fan_out",
    "accelerate",
    "calculate_gain",
    "check",
    "constant_",
    "dirac_",
    "eye_",
    "init",
    "init_",
    "init_module_",
    "init_sharded_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "materialize_",
    "megatron_init_method",
    "normal_",
    "ones_",
    "orthogonal_",
    "recipes",
    "sparse_",
    "torchrec_init_fn",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]
