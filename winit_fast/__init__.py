"""Fill memory you own with the starting weights of a neural network: fast, in place, the same bits everywhere.

`fill` an array or its part of a larger tensor, `fill_rows` of an embedding, or hand over to a framework through
``winit_fast.adapters``. README.md shows how; STREAM.md says what every value is.
"""

from winit_fast.config import STREAM_VERSION, __version__, show_config
from winit_fast.fill import fill, fill_rows, random_bits
from winit_fast.memory import empty
from winit_fast.schemes import Scheme, calculate_gain, scheme, schemes

__all__ = [
    "STREAM_VERSION",
    "Scheme",
    "__version__",
    "calculate_gain",
    "empty",
    "fill",
    "fill_rows",
    "random_bits",
    "scheme",
    "schemes",
    "show_config",
]
