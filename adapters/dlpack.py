"""Arrays of any other library, filled in place: those that share their memory by DLPack or as a buffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex, TypeVar

from winit_fast import Scheme
from winit_fast.initializer import Initializer, Keywords
from winit_fast.messages import as_sizes

from . import init_ as init_any
from ._memory.gpu import is_on_gpu, shared
from ._memory.host import array_of
from ._seeds import Seed, seed_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["init_"]

Array = TypeVar("Array")


def init_(
    array: Array, scheme: str | Scheme, *, seed: Seed = None, shape: Sequence[SupportsIndex] | None = None,
    offset: Sequence[SupportsIndex] | None = None, threads: SupportsIndex | None = None, **keywords: Unpack[Keywords],
) -> Array:  # fmt: skip
    """Fill an array, or its part of a larger tensor, with starting weights, in place.

    Parameters
    ----------
    array
        Writable, of a dtype that `winit_fast.fill` accepts. In host memory it must have an ``__array_interface__``, be
        a buffer, or support DLPack 1.0 or newer, which says whether an array is writable, and which NumPy reads from
        2.1 on. MLX arrays must have been evaluated. On CUDA or ROCm it must support DLPack, and PyTorch must be
        installed for that device. It is then filled as `winit_fast.adapters.torch.init_` fills a tensor there, after
        what its library has queued on its current stream. The call returns when all values are written, so that they
        are there for every stream.
    scheme, seed, shape, offset, threads, **keywords
        As in `winit_fast.adapters.numpy.init_`.

    Returns
    -------
    array

    Raises
    ------
    TypeError, ValueError
        If the memory cannot be shared, or is that of another device, or another argument cannot be used. Nothing has
        been written then.

    Examples
    --------
    >>> from array import array
    >>> from winit_fast.adapters.dlpack import init_
    >>> init_(array("f", [0, 0]), "ones")
    array('f', [1.0, 1.0])
    """
    key, which = seed_of(scheme, seed), Initializer(scheme, **keywords)
    if is_on_gpu(array):
        # What PyTorch would read in its own way.
        keywords["in_axis"] = -2 if which.in_axis is None else which.in_axis
        keywords["out_axis"] = -1 if which.out_axis is None else which.out_axis
        with shared(array) as tensor:
            if (which.in_axis is None) != (which.out_axis is None):  # for one axis, which may be meant where it is both
                which.check(tuple(tensor.shape) if shape is None else as_sizes("shape", shape))
            init_any(tensor, which.scheme, seed=key, shape=shape, offset=offset, threads=threads, **keywords)
    else:
        which.fill(array_of(array), seed=key, shape=shape, offset=offset, threads=threads)
    return array
