"""NumPy: make an array of starting weights, or fill an existing one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from winit_fast import Scheme, empty, fill
from winit_fast.fans import Axes, Matrices
from winit_fast.streams import UNNAMED

from ._seeds import Seed, seed_of

__all__ = ["init", "init_"]

Array = TypeVar("Array", bound=NDArray[Any])


def init(
    shape: SupportsIndex | Sequence[SupportsIndex],
    scheme: str | Scheme,
    *,
    dtype: DTypeLike = np.float32,
    seed: Seed = None,
    name: str | SupportsIndex = UNNAMED,
    in_axis: Axes | None = None,
    out_axis: Axes | None = None,
    batch_axis: Axes = (),
    matrices: Matrices = 1,
    padding_idx: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
) -> NDArray[Any]:
    """Make an array of starting weights.

    Parameters
    ----------
    shape : int or sequence of int
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `winit_fast.schemes`.
    dtype : data-type, default float32
        float16, float32, float64, or ml_dtypes' bfloat16, float8_e4m3fn, float8_e5m2; complex64 and complex128 for
        real constants, normals of mean 0 and schemes with fans.
    seed, name, in_axis, out_axis, batch_axis, matrices, padding_idx, threads
        As in `init_`.

    Returns
    -------
    ndarray
        C-contiguous, at an address that is a multiple of 64.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> from winit_fast import adapters
    >>> weight = adapters.numpy.init((512, 256), "he_normal", seed=7, name="layer1.weight")
    >>> weight.shape, weight.dtype
    ((512, 256), dtype('float32'))
    >>> adapters.numpy.init(3, "ones", dtype="float16")
    array([1., 1., 1.], dtype=float16)
    """
    return init_(
        empty(shape, dtype), scheme, seed=seed, name=name, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis,
        matrices=matrices, padding_idx=padding_idx, threads=threads,
    )  # fmt: skip


def init_(
    array: Array,
    scheme: str | Scheme,
    *,
    seed: Seed = None,
    name: str | SupportsIndex = UNNAMED,
    shape: Sequence[SupportsIndex] | None = None,
    offset: Sequence[SupportsIndex] | None = None,
    in_axis: Axes | None = None,
    out_axis: Axes | None = None,
    batch_axis: Axes = (),
    matrices: Matrices = 1,
    padding_idx: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
) -> Array:
    """Fill an array, or its part of a larger tensor, with starting weights, in place.

    Parameters
    ----------
    array : ndarray
        Any array that `winit_fast.fill` accepts.
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `winit_fast.schemes`.
    seed : int, Generator, SeedSequence, optional
        An integer in [0, 2^64) is the seed itself. From a `numpy.random.Generator`, every call takes one 64-bit draw.
        From a `numpy.random.SeedSequence`, every call takes the first 64-bit word of its state, which is always the
        same. Without a seed, every call takes fresh entropy from the operating system.
    name : str or int, default 0
        The tensor's own stream under that seed. Two tensors with the same seed and name get the same values, so give
        each parameter a name.
    shape, offset : sequence of int, optional
        The shape of the global tensor, and the index in it where `array` begins. By default `array` is the whole
        tensor. If `array` is smaller than `shape`, both are needed. Parts of one tensor need the same integer seed.
    in_axis, out_axis, batch_axis : int or sequence of int, optional
        Which axes of the global tensor are the inputs and outputs of a unit, and which only stack. By default the
        layout is ``(*kernel, in, out)``: -2, -1 and none. So an embedding of shape ``(words, features)`` has fan_in
        `words`. ``in_axis=1, out_axis=0`` makes it `features`, as in PyTorch.
    matrices : int or tuple of two int, default 1
        How many equal matrices follow each other along `out_axis`, each with its own fans: 4 for the gates of an LSTM,
        3 for packed queries, keys and values. ``(count, axis)`` names another axis. See `winit_fast.fill`.
    padding_idx : int, optional
        A row of the global tensor that is 0 under every scheme. Rows are counted along the first axis that is not in
        `batch_axis`, from the end if negative.
    threads : int, optional
        The number of threads; by default the CPUs that this process may use, or one for little work. The values do not
        depend on it.

    Returns
    -------
    ndarray
        `array`.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used. Nothing has been written then.

    Examples
    --------
    >>> import numpy as np
    >>> from winit_fast import adapters
    >>> table = adapters.numpy.init_(np.empty((1000, 64), "float16"), "normal(std=0.01)", seed=7, name="user_id")
    >>> half = adapters.numpy.init_(
    ...     np.empty((500, 64), "float16"),
    ...     "normal(std=0.01)",
    ...     seed=7,
    ...     name="user_id",
    ...     shape=(1000, 64),
    ...     offset=(500, 0),
    ... )
    >>> bool((half == table[500:]).all())
    True

    One generator for all parameters; every call takes another seed:

    >>> generator = np.random.default_rng(0)
    >>> first, second = (adapters.numpy.init(4, "normal", seed=generator) for _ in range(2))
    >>> bool((first == second).any())
    False
    """
    return fill(
        array, scheme, seed=seed_of(scheme, seed), name=name, shape=shape, offset=offset, in_axis=in_axis,
        out_axis=out_axis, batch_axis=batch_axis, matrices=matrices, padding_idx=padding_idx, threads=threads,
    )  # fmt: skip


def __dir__() -> list[str]:
    """List the public names alone."""
    return __all__
