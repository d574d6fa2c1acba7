"""PyTorch: any tensor, any model, any sharding, in place.

`init_` fills a tensor, `init` makes one; the functions of `torch.nn.init` stand here too, under their names.
"""

from .. import needs

with needs("torch"):
    import torch as _torch  # noqa: F401

from . import functions, recipes
from .acceleration import accelerate
from .checking import check
from .functions import *  # noqa: F403
from .integrations import init_sharded_, megatron_init_method, torchrec_init_fn
from .modules import init_module_, materialize_
from .rows import init_rows_
from .rules import Recipe, Rule
from .tensors import init, init_

__all__ = [
    "Recipe", "Rule", "accelerate", "check", "init", "init_", "init_module_", "init_rows_", "init_sharded_",
    "materialize_", "megatron_init_method", "recipes", "torchrec_init_fn",
]  # fmt: skip
__all__ += functions.__all__


def __dir__() -> list[str]:
    """List the public names alone."""
    return [name for name in __all__ if not name.startswith("_")]
