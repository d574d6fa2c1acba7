"""Fill memory you own with the starting weights of a neural network: fast, in place, the same bits everywhere.

`fill` writes an array or its part of a larger tensor, `fill_rows` rows of an embedding, `fill_keys` rows of a table of
hashed ids; ``winit_fast.adapters`` hand them to a framework, and ``winit_fast.files`` to files. README.md shows how;
STREAM.md says what every value is.
"""

from importlib import import_module
from os.path import dirname
from typing import Any

import numpy

if int(numpy.__version__.partition(".")[0]) < 2:
    raise ImportError(f"winit_fast needs NumPy 2 or newer, found {numpy.__version__}")
try:
    import_module(f"{__name__}._plan")
except ModuleNotFoundError as error:
    if error.name == f"{__name__}._plan":
        raise ModuleNotFoundError(
            f"winit_fast is not built in {dirname(__file__)}: run Python in another folder, where an installed one is "
            "found, or build this one: python -m pip install -e .",
            name=error.name,
        ) from None
    raise
except (ImportError, SystemError) as error:  # the second from a free-threaded CPython
    raise ImportError(
        f"winit_fast in {dirname(__file__)} cannot be loaded ({error}). It may be built for another Python or another "
        "machine: build it for this one: python -m pip install -e ."
    ) from error

from winit_fast.config import STREAM_VERSION, __version__, show_config
from winit_fast.fill import fill, fill_keys, fill_rows, random_bits
from winit_fast.gains import calculate_gain
from winit_fast.many import fill_many
from winit_fast.memory import empty
from winit_fast.recommend import Recommendation, recommend
from winit_fast.repeats import RepeatedValuesWarning
from winit_fast.schemes import Scheme, scheme, schemes

__all__ = [
    "STREAM_VERSION",
    "Recommendation",
    "RepeatedValuesWarning",
    "Scheme",
    "__version__",
    "calculate_gain",
    "empty",
    "fill",
    "fill_keys",
    "fill_many",
    "fill_rows",
    "random_bits",
    "recommend",
    "scheme",
    "schemes",
    "show_config",
]


def __getattr__(name: str) -> Any:
    """Import the packages of this one when first used: nobody has to import them by name."""
    if name in _PACKAGES:
        try:
            return import_module(f"winit_fast.{name}")
        except ModuleNotFoundError as error:
            if error.name != "winit_fast.adapters":
                raise
            raise ModuleNotFoundError(
                f"{dirname(__file__)} has no adapters, which an installation puts there: run Python in another folder, "
                "where an installed winit_fast is found, or install this one: python -m pip install -e .",
                name=error.name,
            ) from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES})


_PACKAGES = ("adapters", "check", "files", "report")
