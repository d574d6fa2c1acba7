"""Where `dtensor` and `integrations` stood before: imports and pickles of that time find here what they name."""

from .dtensor import fill_dtensor  # noqa: F401
from .dtensor import find_local as held_by_this_rank  # noqa: F401
from .integrations import (  # noqa: F401
    _MegatronInit,
    _TorchrecInit,
    init_sharded_,
    megatron_init_method,
    torchrec_init_fn,
)
