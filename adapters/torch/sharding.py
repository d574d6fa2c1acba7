"""Where `dtensor` and `integrations` stood before: imports and pickles of that time find here what they name."""

from .dtensor import fill_dtensor, held_by_this_rank
from .integrations import _MegatronInit, _TorchrecInit, init_sharded_, megatron_init_method, torchrec_init_fn

__all__ = [
    "_MegatronInit",
    "_TorchrecInit",
    "fill_dtensor",
    "held_by_this_rank",
    "init_sharded_",
    "megatron_init_method",
    "torchrec_init_fn",
]
