"""One module for each framework, imported only when it is first used, so that you never wait for another framework.

Import it by ``from winit_fast import adapters``. In a clone, ``import adapters`` works too. Every module exists only
once, under both names.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar

from winit_fast.messages import describe_missing

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from winit_fast import Scheme
    from winit_fast.initializer import Keywords

    from . import numpy as numpy

    class AnyKeywords(Keywords, total=False):
        """What the `init_` of some adapter takes beside what it fills and the scheme."""

        seed: object
        generator: object
        shape: Sequence[SupportsIndex] | None
        offset: Sequence[SupportsIndex] | None
        threads: SupportsIndex | None


T = TypeVar("T")


def init_(x: T, scheme: str | Scheme, **keywords: Unpack[AnyKeywords]) -> T:
    """Fill an array, tensor or variable of any framework with starting weights, in place.

    Parameters
    ----------
    x : numpy.ndarray, torch.Tensor, tensorflow.Variable, keras.Variable or another array
        Its type decides which adapter fills it; no framework is imported for that. The layout of its axes, and what
        happens without a seed, follow its framework. `dlpack` fills arrays of other libraries.
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `winit_fast.schemes`.
    **keywords
        `seed`, `name`, `in_axis`, `out_axis`, `batch_axis`, `matrices`, `padding_idx`, `threads`; `shape` and `offset`,
        except for a `keras.Variable`; and `generator` for PyTorch.

    Returns
    -------
    ndarray, Tensor or Variable
        `x`.

    Raises
    ------
    TypeError
        If no adapter can fill `x`, such as a `jax.Array`, which cannot be written to.
    TypeError, ValueError
        If another argument cannot be used. Nothing has been written then.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast import adapters
    >>> table = adapters.init_(np.empty((1000, 64), "float32"), "normal(std=0.01)", seed=7, name="user_id")
    >>> print(f"{table.std():.3f}")
    0.010
    """
    roots = dict.fromkeys(base.__module__.partition(".")[0] for base in type(x).__mro__)
    for name in roots:  # a Keras variable is one of TensorFlow too: the class itself comes first
        if name in _frameworks():
            adapter = import_module(f"{__name__}.{name}")
            if not hasattr(adapter, "init_"):
                raise TypeError(f"x must be writable, got {type(x).__name__}: adapters.{name}.init makes a new one")
            return adapter.init_(x, scheme, **keywords)  # type: ignore[no-any-return]
    if _shares_memory(x):
        return import_module(f"{__name__}.dlpack").init_(x, scheme, **keywords)  # type: ignore[no-any-return]
    raise TypeError(
        f"x must be an array, tensor or variable of {', '.join(_frameworks())}, or an array "
        f"that adapters.dlpack can fill, got {type(x).__name__}"
    )


def __getattr__(name: str) -> Any:
    if name not in _adapters():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_adapters())}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    """List the adapters whose framework is installed, so that a loop over them raises no ImportError."""
    return [name for name in _adapters() if name not in _frameworks() or find_spec(name) is not None]


def _adapters() -> list[str]:
    return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))


def _frameworks() -> list[str]:
    """Those adapters that have the name of their framework."""
    return [name for name in _adapters() if name != "dlpack"]


def _shares_memory(x: object) -> bool:
    with suppress(TypeError):
        return memoryview(x) is not None  # type: ignore[arg-type]
    return hasattr(x, "__dlpack__") or hasattr(x, "__array_interface__")


@contextmanager
def needs(package: str, extra: str | None = None) -> Iterator[None]:
    """Say what to install if the framework of an adapter is missing.

    Parameters
    ----------
    package : str
        Its name for pip.
    extra : str, optional
        The extra of winit_fast that has it; by default of the same name.

    Raises
    ------
    ModuleNotFoundError
        If the block imports a module that is not installed.

    Examples
    --------
    >>> with needs("fancy"):
    ...     import fancy
    Traceback (most recent call last):
    ModuleNotFoundError: this adapter needs fancy, of the extra [fancy]: pip install fancy (No module named 'fancy')
    """
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"{describe_missing('this adapter', package, extra or package)} ({error})"
        raise ModuleNotFoundError(message, name=error.name) from error


class _BareName(MetaPathFinder, Loader):
    """Finds ``adapters.x`` as ``winit_fast.adapters.x``, so that patches and registries exist once."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        is_adapter = fullname.startswith("adapters.") and find_spec(f"winit_fast.{fullname}") is not None
        return ModuleSpec(fullname, self) if is_adapter else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(f"winit_fast.{module.__name__}")  # importlib returns this one


if __name__ == "adapters":
    sys.modules[__name__] = import_module("winit_fast.adapters")
    sys.meta_path.insert(0, _BareName())
