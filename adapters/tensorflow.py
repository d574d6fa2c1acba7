"""TensorFlow: make tensors of starting weights, fill variables in place, and initialize the parts of sharded tables."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any, SupportsIndex, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

import winit_fast.initializer
from winit_fast import Scheme
from winit_fast.distributions import Distribution
from winit_fast.fans import Axes, Matrices
from winit_fast.fill import read_region
from winit_fast.locks import OneByOne
from winit_fast.messages import as_sizes, quote
from winit_fast.repeats import note_fill, warn_of_repeats
from winit_fast.streams import UNNAMED, seed_key

from . import needs

with needs("tensorflow"):
    import tensorflow as tf  # type: ignore[import-untyped]

from ._memory.constants import FILLED
from ._memory.request import Request
from ._memory.tensorflow import make_tensor, on_host, refill, repeat

__all__ = ["Initializer", "init", "init_"]

Variable = TypeVar("Variable")
Seed: TypeAlias = SupportsIndex | None
Name: TypeAlias = str | SupportsIndex


def init(
    shape: SupportsIndex | Sequence[SupportsIndex],
    scheme: str | Scheme,
    *,
    dtype: Any = tf.float32,
    seed: Seed = None,
    name: Name = UNNAMED,
    in_axis: Axes | None = None,
    out_axis: Axes | None = None,
    batch_axis: Axes = (),
    matrices: Matrices = 1,
    padding_idx: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
) -> tf.Tensor:
    """Make a tensor of starting weights.

    Its memory is TensorFlow's own: ``tf.Variable(init(...))`` takes it over and is updated in place, so there is never
    a second copy. Inside a `tf.function` the tensor is made by a `tf.py_function`, which XLA and saved models do not
    support. Constants without a row of padding are plain operations.

    Parameters
    ----------
    shape : int or sequence of int
        Or a `tf.TensorShape`. All sizes must be known, also while a `tf.function` is traced.
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `winit_fast.schemes`.
    dtype : tf.DType or what `tf.as_dtype` takes, default tf.float32
        float64, float32, float16, bfloat16, float8_e4m3fn, float8_e5m2; complex64 and complex128 for constants and
        schemes with fans; bool and integers for constants that they can represent exactly.
    seed, name, in_axis, out_axis, batch_axis, matrices, padding_idx, threads
        As in `init_`. Without a seed, a `tf.function` draws one whenever it runs, and a graph of TensorFlow 1 whenever
        a session runs it.

    Returns
    -------
    tf.Tensor
        On the CPU of this process.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> import tensorflow as tf
    >>> from winit_fast import adapters
    >>> weight = tf.Variable(adapters.tensorflow.init((512, 256), "he_normal", seed=7, name="layer1.weight"))
    >>> weight.shape, weight.dtype
    (TensorShape([512, 256]), tf.float32)
    """
    is_integer = hasattr(shape, "__index__") and not getattr(shape, "ndim", 0)  # tensors and arrays have the method
    sizes = _read_sizes("shape", (shape,) if is_integer else shape)
    kind = _read_dtype("dtype", dtype)
    initializer = winit_fast.initializer.Initializer(
        scheme, name=name, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis, matrices=matrices,
        padding_idx=padding_idx,
    )  # fmt: skip
    request = Request(initializer, sizes, seed, threads)
    _check(request, kind, "dtype")
    return _make(request, kind, sizes, (0,) * len(sizes))


def init_(
    variable: Variable,
    scheme: str | Scheme,
    *,
    seed: Seed = None,
    name: Name = UNNAMED,
    shape: Sequence[SupportsIndex] | None = None,
    offset: Sequence[SupportsIndex] | None = None,
    in_axis: Axes | None = None,
    out_axis: Axes | None = None,
    batch_axis: Axes = (),
    matrices: Matrices = 1,
    padding_idx: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
) -> Variable:
    """Fill a variable, or its part of a larger tensor, with starting weights, in place.

    The values are made in pieces of 8 MiB, which are copied to their places. If elements depend on each other
    (orthogonal, sparse, ...), the piece is as large as the variable. As in every update, TensorFlow first copies the
    variable if a tensor that was read from it still exists.

    Parameters
    ----------
    variable : tf.Variable, keras.Variable, ShardedVariable, MirroredVariable
        Of a dtype that `init` can make. If a variable is on several devices, each replica gets the same values. If a
        `tf.distribute.ParameterServerStrategy` has split it, each shard gets its part.
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `winit_fast.schemes`.
    seed : int, optional
        In [0, 2^64). Without a seed, every call takes one 64-bit draw from TensorFlow's generator, so
        `tf.random.set_seed` has effect and two calls differ. Schemes without random values take no draw.
    name : str or int, default 0
        The tensor's own stream under that seed. Two tensors with the same seed and name get the same values, so give
        each parameter a name.
    shape, offset : sequence of int, optional
        The shape of the global tensor, and the index in it where `variable` begins. By default `variable` is the whole
        tensor. If it is smaller than `shape`, both are needed. Parts of one tensor need the same integer seed.
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
    tf.Variable
        `variable`.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used. Nothing has been written then.
    RuntimeError
        Inside a `tf.function`, which would fill again in every call: fill outside, or assign the result of `init`.

    Examples
    --------
    >>> import tensorflow as tf
    >>> from winit_fast import adapters
    >>> table = adapters.tensorflow.init_(tf.Variable(tf.zeros((1000, 64))), "normal(std=0.01)", seed=7, name="user_id")
    >>> print(f"{tf.math.reduce_std(table).numpy():.3f}")
    0.010
    """
    if not tf.executing_eagerly():
        raise RuntimeError("init_ must be called outside of tf.function, which would fill again in every call")
    extent, shards = _find_shards(variable)
    copies, _ = shards[0]
    dtype = _read_dtype("variable", copies[0].dtype)
    whole, start = read_region(extent, shape, offset, "variable")
    initializer = winit_fast.initializer.Initializer(
        scheme, name=name, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis, matrices=matrices,
        padding_idx=padding_idx,
    )  # fmt: skip
    request = Request(initializer, whole, seed, threads)
    distribution = _check(request, dtype, "variable")
    values = initializer.identify(seed, whole, start, is_complex=dtype.is_complex)
    warn_of_repeats(values, id(variable))
    drawn = _draw_seed() if seed is None and distribution.draws else seed
    request = request.unnamed()._replace(seed=drawn)  # pieces are no tensors that could repeat each other
    for copies, begin in shards:
        refill(copies, request, tuple(map(sum, zip(start, begin, strict=True))))
    note_fill(values, id(variable))
    return variable


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Initializer(winit_fast.initializer.Initializer):
    """An initializer for variables, also for those that TensorFlow splits.

    Pass ``functools.partial(initializer, shape, dtype=...)`` to `tf.Variable`, as with TensorFlow's initializers, or
    the initializer itself to ``TableConfig(initializer=...)`` of `tf.tpu.experimental.embedding`. A part has the values
    and the fans of the whole, so the shards of a `tf.distribute.ParameterServerStrategy` have the bits of the table
    without a strategy, and the whole table is never made. `tf.compat.v1.get_variable` and its partitioners accept it,
    too.

    Parameters
    ----------
    scheme : str or Scheme
        Such as ``"he_normal"`` or ``"normal(std=0.02)"``; see `winit_fast.schemes`.
    seed : int, optional
        In [0, 2^64). With a seed, all variables of the same shape get the same values, so give each its own initializer
        with its own name. Without a seed, one is drawn for every variable, and used for all its parts;
        `tf.random.set_seed` has effect. If two variables of the same shape are initialized by turns, part by part,
        TensorFlow does not say which part belongs to which variable: a part then goes to the first variable that lacks
        it. No values are used twice.
    name, in_axis, out_axis, batch_axis, matrices, padding_idx
        As in `init_`.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> from functools import partial
    >>> import tensorflow as tf
    >>> from winit_fast import adapters
    >>> initializer = adapters.tensorflow.Initializer("normal(std=0.01)", seed=7, name="user_id")
    >>> table = tf.Variable(partial(initializer, (1000, 64), dtype=tf.bfloat16))
    >>> half = initializer((1000, 64), tf.bfloat16, partition_shape=(500, 64), partition_offset=(500, 0))
    >>> bool(tf.reduce_all(half == table[500:]))
    True
    """

    seed: int | None = None

    # Two that are equal are two all the same: each counts the parts that it has made (`_claim`).
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        scheme: str | Scheme,
        *,
        seed: Seed = None,
        name: str | SupportsIndex = UNNAMED,
        in_axis: Axes | None = None,
        out_axis: Axes | None = None,
        batch_axis: Axes = (),
        matrices: Matrices = 1,
        padding_idx: SupportsIndex | None = None,
    ) -> None:
        super().__init__(
            scheme, name=name, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis, matrices=matrices,
            padding_idx=padding_idx,
        )  # fmt: skip
        _refuse_generator(seed)
        vars(self).update(seed=None if seed is None else seed_key(seed))

    # TensorFlow reads the names of these arguments and passes those that it finds.
    def __call__(
        self,
        shape: Sequence[SupportsIndex],
        dtype: Any = None,
        partition_shape: Sequence[SupportsIndex] | None = None,
        partition_offset: Sequence[SupportsIndex] | None = None,
        shard_info: Any = None,
        partition_info: Any = None,
    ) -> tf.Tensor:
        """Make the values of a variable, or of a part of it.

        Parameters
        ----------
        shape : sequence of int
            The shape of the whole variable; with `partition_info`, the shape of the part.
        dtype : tf.DType or what `tf.as_dtype` takes, optional
            One that `init` can make; float32 by default.
        partition_shape, partition_offset : sequence of int, optional
            The shape of the part, and the index in the whole where it begins.
        shard_info : ShardInfo, optional
            The same, as its attributes `shape` and `offset`.
        partition_info : optional
            The same from the partitioners of `tf.compat.v1.get_variable`: `full_shape` is the shape of the whole, and
            `var_offset` is where the part begins.

        Returns
        -------
        tf.Tensor
            The part, or the whole if no part is requested.

        Raises
        ------
        TypeError, ValueError
            If an argument cannot be used.
        """
        sizes = whole = _read_sizes("shape", shape)
        start: tuple[int, ...] = (0,) * len(whole)
        for argument, info in ("shard_info", shard_info), ("partition_info", partition_info):
            if info is None:
                continue
            if partition_shape is not None or partition_offset is not None:
                raise ValueError(f"{argument} must be left out beside a partition, got {quote(info)}")
            if argument == "shard_info":
                partition_shape, partition_offset = info.shape, info.offset
            else:
                partition_shape, partition_offset = sizes, info.var_offset
                whole = _read_sizes("partition_info.full_shape", info.full_shape)
        if (partition_shape is None) != (partition_offset is None):
            raise ValueError(
                "partition_shape and partition_offset must be given together, "
                f"got {quote(partition_shape)} and {quote(partition_offset)}"
            )
        if partition_shape is not None:
            sizes = _read_sizes("partition_shape", partition_shape)
            whole, start = read_region(sizes, whole, partition_offset, "partition_shape")
        kind = _read_dtype("dtype", tf.float32 if dtype is None else dtype)
        request = Request(self, whole, self.seed)
        distribution = _check(request, kind, "dtype")
        if self.seed is not None or not distribution.draws:
            return _make(request, kind, sizes, start)
        part = start, sizes
        variable = _one_by_one.run(partial(self._claim, whole, part))
        try:
            return _make(request.unnamed()._replace(seed=variable.seed), kind, sizes, start)
        except BaseException:
            _one_by_one.run(partial(variable.give_back, part))
            raise

    def __repr__(self) -> str:
        return f"Initializer({str(self.scheme)!r}, seed={self.seed!r}, name={self.name!r})"

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this initializer again."""
        return super().get_config() | {"seed": self.seed}

    def _claim(self, shape: tuple[int, ...], part: _Rectangle) -> _Unfinished:
        """Find the first variable of this shape that lacks this part, or begin a new one, and give it the part."""
        with tf.init_scope():  # while a function is traced, too: its parts may be traced apart
            graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
            # The partitioners of TensorFlow 1 make the parts of a variable below its name.
            name = "" if graph is None else graph.get_name_scope().rpartition("/part_")[0]
            variables = _find_unfinished(graph).setdefault(self, [])
            same = [each for each in variables if (each.name, each.shape) == (name, shape)]
            variable = next((each for each in same if each.lacks(part)), None)
            for each in same:
                if each.was_interrupted and not each.lacks(part):  # it is begun anew now
                    variables.remove(each)
            if variable is None:
                seed = _draw_seed() if graph is None else _draw_in(graph)
                variable = _Unfinished(name, shape, seed, variables)
                variables.append(variable)
            variable.take(part)
            return variable


_one_by_one = OneByOne()
_Rectangle: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]  # where it begins, and its sizes


@dataclass(eq=False)
class _Unfinished:
    """A variable of which some parts have been made.

    In a graph of TensorFlow 1 its seed is a tensor, drawn whenever a session runs.
    """

    name: str
    shape: tuple[int, ...]
    seed: Any
    others: list[_Unfinished]  # all unfinished ones of the initializer, of which it is one
    parts: list[_Rectangle] = field(default_factory=list)
    was_interrupted: bool = False

    def lacks(self, part: _Rectangle) -> bool:
        return not any(
            all(max(a, b) < min(a + m, b + n) for a, m, b, n in zip(*part, *made, strict=True)) for made in self.parts
        )

    def take(self, part: _Rectangle) -> None:
        self.parts.append(part)
        if sum(prod(sizes) for _, sizes in self.parts) == prod(self.shape):
            self.others.remove(self)

    def give_back(self, part: _Rectangle) -> None:
        self.parts.remove(part)
        self.was_interrupted = True
        if self not in self.others:
            self.others.append(self)


_Variables: TypeAlias = WeakKeyDictionary[Initializer, list[_Unfinished]]
_EAGER: _Variables = WeakKeyDictionary()


def _find_unfinished(graph: tf.Graph | None) -> _Variables:
    """What initializers have begun in a graph, which holds it, so that no initializer keeps a graph; or outside."""
    if graph is None:
        return _EAGER
    if not hasattr(graph, "_winit_fast_unfinished"):
        graph._winit_fast_unfinished = WeakKeyDictionary()
    variables: _Variables = graph._winit_fast_unfinished
    return variables


# Making


def _make(request: Request, dtype: tf.DType, sizes: tuple[int, ...], start: tuple[int, ...]) -> tf.Tensor:
    """Make the part of these sizes that begins there.

    A seed that is left out, and needed, is drawn when the values are made; of a graph it may be `_draw_in`'s tensor.
    """
    seed = request.seed
    if seed is None or not tf.executing_eagerly():
        request = request.unnamed()  # a seed that was drawn, or a function that runs again, repeats itself on purpose
    is_drawn_now = seed is None and request.distribution(_to_numpy(dtype)).draws
    if tf.executing_eagerly():
        seed = _draw_seed() if is_drawn_now else seed
        return make_tensor(sizes, dtype, partial(request.fill, seed=seed, offset=start))
    value = request.check(_to_numpy(dtype))
    if value is not None and request.initializer.padding_idx is None:  # which XLA and saved models take
        return repeat(value, sizes)
    with tf.init_scope():
        graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    if is_drawn_now and graph is not None and graph.seed is not None:
        seed = _draw_in(graph)
    words = [seed] if tf.is_tensor(seed) else []

    def make(*words: tf.Tensor) -> tf.Tensor:
        return _make(request._replace(seed=_join(*words) if words else seed), dtype, sizes, start)

    tensor = tf.py_function(make, words, dtype)
    tensor.set_shape(sizes)
    return tensor


def _draw_seed() -> int:
    """Draw 64 bits by TensorFlow's operations, which `tf.random.set_seed` starts anew.

    It leaves `tf.random.get_global_generator()` where it was.
    """
    return _join(_draw_words())


def _draw_words() -> tf.Tensor:
    with on_host():
        return tf.random.uniform((2,), maxval=1 << 32, dtype=tf.int64)


def _join(words: tf.Tensor) -> int:
    high, low = words.numpy().tolist()
    return int(high << 32 | low)


def _draw_in(graph: tf.Graph) -> tf.Tensor:
    """The words of a seed that is drawn whenever a session runs; the graph's own seed governs it, if it has one."""
    return tf.py_function(_draw_words, [], tf.int64) if graph.seed is None else _draw_words()


# What is asked for


def _check(request: Request, dtype: tf.DType, argument: str) -> Distribution:
    """Refuse what `winit_fast.fill` refuses, before there is a tensor, or while there is only a graph."""
    _refuse_generator(request.seed)
    request.check(_to_numpy(dtype), 0 if request.seed is None else request.seed, argument)
    return request.distribution(_to_numpy(dtype))


def _refuse_generator(seed: object) -> None:
    if isinstance(seed, tf.random.Generator):
        raise TypeError(
            "seed must be an int in [0, 2^64), got a tf.random.Generator: "
            "draw one of it, as in int(generator.uniform_full_int((), tf.uint64))"
        )


def _read_dtype(argument: str, dtype: Any) -> tf.DType:
    """One that NumPy has, of numbers or bool."""
    found = None
    with suppress(TypeError):
        found = tf.as_dtype(dtype)
    if found is None or not (found.name in FILLED or found.is_bool or found.is_integer):
        kind, given = "" if argument == "dtype" else "of dtype ", quote(dtype) if found is None else found.name
        raise TypeError(
            f"{argument} must be {kind}{', '.join(FILLED)}, or, for constants, bool or an integer, got {given}"
        )
    return found


def _to_numpy(dtype: tf.DType) -> np.dtype[Any]:
    array_dtype: np.dtype[Any] = np.dtype(dtype.as_numpy_dtype)
    return array_dtype


def _read_sizes(argument: str, sizes: Any) -> tuple[int, ...]:
    if tf.is_symbolic_tensor(sizes) or (isinstance(sizes, tf.TensorShape) and not sizes.is_fully_defined()):
        raise TypeError(f"{argument} must be known when it is asked for, got {quote(sizes)}")
    return as_sizes(argument, sizes)


# Variables


def _find_shards(variable: Any) -> tuple[tuple[int, ...], list[tuple[Sequence[tf.Variable], tuple[int, ...]]]]:
    """The shape of a variable, and its rectangles: the plain variables that hold it, each on its device, and where."""
    value = getattr(variable, "value", None)  # a property of keras.Variable, a method of tf.Variable
    held = variable if value is None or callable(value) else value
    if isinstance(held, tf.__internal__.distribute.ShardedVariable):
        variables = held.variables
    elif isinstance(held, tf.Variable):
        variables = [held]
    else:
        raise TypeError(f"variable must be a tf.Variable or a keras.Variable of TensorFlow's, got {quote(variable)}")
    first, shards = 0, []
    for each in variables:
        copies = each.values if isinstance(each, tf.distribute.DistributedValues) else [each]
        if not each.shape.is_fully_defined():
            raise ValueError(f"variable must have a known shape, got {each.shape}")
        if any(copy.shape != each.shape for copy in copies):
            raise TypeError(f"variable must have whole replicas, got {type(each).__name__}: give it an Initializer")
        sizes = tuple(each.shape)
        shards.append((copies, (first, *(0,) * (len(sizes) - 1)) if sizes else ()))
        first += sizes[0] if sizes else 0
    return tuple(held.shape), shards


def __dir__() -> list[str]:
    return [*__all__]
