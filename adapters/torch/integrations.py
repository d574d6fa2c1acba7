"""Shards of other libraries: TorchRec's tables and Megatron-LM's weights, filled on each rank without communication."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex, TypedDict

import torch
from torch import Tensor

from winit_fast.arguments import nearest_word
from winit_fast.fans import Axes, Matrices
from winit_fast.initializer import Initializer
from winit_fast.messages import as_int, as_rank, as_sizes, quote
from winit_fast.repeats import RepeatedValuesWarning
from winit_fast.schemes import Scheme, read_scheme
from winit_fast.streams import UNNAMED

from .dtensor import Runs, fill_runs, refuse_unusable_here
from .plain import draw_seed, fill_tensor, in_torch_layout, is_unreal, leaves_graph, refuse_absent, seed_of
from .tensors import init_

if TYPE_CHECKING:
    # It takes half a second to import, and is there already where there is a ShardedTensor.
    from torch.distributed._shard.sharded_tensor.api import ShardedTensor
    from typing_extensions import Unpack

__all__ = ["MegatronInit", "init_sharded_", "megatron_init_method", "torchrec_init_fn"]


@leaves_graph
def init_sharded_(
    tensor: ShardedTensor,
    scheme: str | Scheme,
    *,
    seed: SupportsIndex | None = None,
    name: str | SupportsIndex = UNNAMED,
    generator: torch.Generator | None = None,
    in_axis: Axes | None = None,
    out_axis: Axes | None = None,
    batch_axis: Axes = (),
    matrices: Matrices = 1,
    padding_idx: SupportsIndex | None = None,
    threads: SupportsIndex | None = None,
) -> ShardedTensor:
    """Fill this rank's shards of a `ShardedTensor`, such as TorchRec's embedding tables are, in place.

    Parameters
    ----------
    tensor : torch.distributed._shard.sharded_tensor.ShardedTensor
        Its shards say where they stand in the whole.
    scheme, seed, name, generator, in_axis, out_axis, batch_axis, matrices, padding_idx, threads
        As in `init_`. Every rank must pass the same seed, or hold the same state of the generator.

    Returns
    -------
    ShardedTensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.
    """
    if not hasattr(tensor, "local_shards"):
        raise TypeError(f"tensor must be a ShardedTensor (init_ fills others), got {type(tensor).__name__}")
    shape = tuple(tensor.size())
    key = seed_of(scheme, seed, generator)
    initializer = in_torch_layout(
        len(shape), scheme, name=name, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis, matrices=matrices,
        padding_idx=padding_idx,
    )  # fmt: skip
    # Nothing, with all arguments: a rank that holds no shard refuses what the others refuse, and draws what they draw.
    nothing = (0,) * len(shape)
    empty = torch.empty(nothing, dtype=tensor.dtype, device="cpu")
    fill_tensor(empty, initializer, seed=key, shape=shape, offset=nothing, threads=threads)
    shards = tensor.local_shards()
    for shard in shards:
        refuse_unusable_here(shard.tensor)  # all of them, before the first is written
    for shard in shards:
        begin = tuple(shard.metadata.shard_offsets)
        fill_tensor(shard.tensor, initializer, seed=key, shape=shape, offset=begin, threads=threads)
    return tensor


class MethodKeywords(TypedDict, total=False):
    """What the two functions below take beside their own arguments, and pass on to `init_`."""

    in_axis: Axes | None
    out_axis: Axes | None
    batch_axis: Axes
    matrices: Matrices
    threads: SupportsIndex | None


def torchrec_init_fn(
    scheme: str | Scheme,
    shape: Sequence[SupportsIndex],
    *,
    seed: SupportsIndex | None = None,
    name: str | SupportsIndex = UNNAMED,
    generator: torch.Generator | None = None,
    **keywords: Unpack[MethodKeywords],
) -> Callable[[Tensor], Tensor]:
    """An `init_fn` for TorchRec's `EmbeddingConfig` and `EmbeddingBagConfig`.

    TorchRec calls it with a whole table, with a shard, or with rows that were evicted, and does not say where a part
    stands. A whole table gets the values that `init_` gives it. A part gets fresh values of the same distribution (fans
    are the table's), other ones in each call and on each rank; `init_sharded_`, called on the sharded model's tables
    afterwards, gives them the bits of the whole.

    Parameters
    ----------
    scheme : str or Scheme
    shape : sequence of int
        Of the whole table: ``(num_embeddings, embedding_dim)``.
    seed, name, generator
        As in `init_`. Give every table its name.
    **keywords
        `in_axis`, `out_axis`, `batch_axis`, `matrices`, `threads` of `init_`.

    Returns
    -------
    callable
        ``init_fn(weight) -> weight``. It can be pickled, and so sent to processes that are spawned.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used, or, when it is called, if the weight does not fit into the table.

    Examples
    --------
    >>> import torch
    >>> from winit_fast import adapters
    >>> init_fn = adapters.torch.torchrec_init_fn("normal(std=0.01)", (1000, 64), seed=7, name="user_id")
    >>> table = init_fn(torch.empty(1000, 64))
    >>> whole = adapters.torch.init((1000, 64), "normal(std=0.01)", seed=7, name="user_id")
    >>> bool((table == whole).all())
    True
    >>> evicted = init_fn(table[[3, 5]])
    >>> bool((evicted == whole[[3, 5]]).any())
    False
    """
    sizes = as_sizes("shape", shape)
    _refuse_keywords("torchrec_init_fn", seed, keywords)
    return _TorchrecInit(read_scheme(scheme), sizes, seed, name, generator, keywords)


def _refuse_keywords(function: str, seed: SupportsIndex | None, keywords: MethodKeywords) -> None:
    """Raise now for what `init_` would refuse when it is called, maybe on another machine."""
    known = list(MethodKeywords.__annotations__)
    for argument in keywords:
        if argument not in known:
            close = nearest_word(argument, [*known, "seed", "name"])
            hint = f"; did you mean {close!r}?" if close else ""
            raise TypeError(f"{function} must get {', '.join(known)} beside its own arguments, got {argument!r}{hint}")
    Initializer("normal").check((0,), seed=0 if seed is None else seed, threads=keywords.get("threads"))


class _Counting:
    """What counts its calls: a copy would count, and so draw, the same again."""

    __slots__ = ()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: object) -> Any:
        return self


@dataclass(eq=False, slots=True)
class _TorchrecInit(_Counting):
    scheme: Scheme
    shape: tuple[int, ...]
    seed: SupportsIndex | None
    name: str | SupportsIndex
    generator: torch.Generator | None
    arguments: MethodKeywords
    parts: int = 0

    def __call__(self, weight: Tensor) -> Tensor:
        name, is_part = self.name, tuple(weight.shape) != self.shape
        if is_part:
            if weight.numel() == 0:  # this rank holds nothing of the table, but the others draw
                if self.seed is None and self.scheme.draws:
                    draw_seed(self.generator)
                return weight
            rank = torch.distributed.get_rank() if _processes() > 1 else 0
            name = f"{name}, part {self.parts} of rank {rank}"
            self.parts += 1
        shape, offset = (self.shape, (0,) * weight.dim()) if is_part else (None, None)
        return init_(
            weight, self.scheme, seed=self.seed, name=name, generator=self.generator, shape=shape, offset=offset,
            **self.arguments,
        )  # fmt: skip


def _processes() -> int:
    """How many there are."""
    is_one = not (torch.distributed.is_available() and torch.distributed.is_initialized())
    return 1 if is_one else torch.distributed.get_world_size()


class MegatronInit(Protocol):
    """What `megatron_init_method` returns."""

    def __call__(self, weight: Tensor, name: str | int | None = None) -> Tensor:
        """Fill a weight, under a name of its own where it is given."""


def megatron_init_method(
    scheme: str | Scheme,
    *,
    rank: SupportsIndex,
    world_size: SupportsIndex,
    seed: SupportsIndex | None = None,
    name: str | None = None,
    names: Callable[[], str | int] | None = None,
    pipeline_rank: SupportsIndex | None = None,
    expert_rank: SupportsIndex | None = None,
    partition_dim: SupportsIndex | None = None,
    **keywords: Unpack[MethodKeywords],
) -> MegatronInit:
    """An `init_method` for Megatron-LM: fills a weight, or this rank's partition of it by the attributes it carries.

    Best is to call it when the model is built, with names, which give the same weights however the model is split:
    ``method(weight, name)``, the name being that in the whole model. Called by Megatron-LM itself while it builds,
    the method numbers the weights.

    Parameters
    ----------
    scheme : str or Scheme
    rank, world_size : int
        Of the tensor-parallel group.
    seed : int, optional
        Left out: one draw of PyTorch's default generator for each weight; its state must then be the same on all ranks.
    name : str, optional
        Of the method, such as ``"output_layer_init_method"``: its numbers are then its own. Needed where two methods
        of one model have one seed and one scheme: they give the same weights else, and warn once.
    names : callable, optional
        Gives the name of the next weight. Left out, weights are numbered from 0 on, and where there is a seed, `name`,
        the scheme and the ranks below are part of their names.
    pipeline_rank, expert_rank : int, optional
        Of the pipeline- and expert-parallel groups; 0 where there is no such group. Needed for weights without names
        where there are more processes than `world_size`. On an `expert_rank` above 0 a weight must say by ``allreduce``
        (as Megatron-LM marks it once it is built) whether it is an expert's: others are the same on all expert ranks.
    partition_dim : int, optional
        Of weights that carry no attribute of that name: the axis along which they are split, -1 for whole ones. Left
        out, they are refused where `world_size` is above 1: TransformerEngine marks its weights after they are filled,
        and ``use_cpu_initialization`` fills whole ones.
    **keywords
        `in_axis`, `out_axis`, `batch_axis`, `matrices`, `threads` of `init_`.

    Returns
    -------
    callable
        ``method(weight, name=None) -> weight``. `weight.partition_dim` and `weight.partition_stride` say how it is
        split; with a `partition_dim` of -1 the weight is the whole. It can be pickled; a copy of it is itself, so that
        copies of a configuration go on counting together.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used; when it is called, if a weight does not say what it is.

    Notes
    -----
    Numbered weights had the integers from 0 on for names in the first releases, and so were the same for two methods,
    pipeline stages or expert ranks of one seed. ``names=itertools.count().__next__`` gives these values again.

    Examples
    --------
    >>> import torch
    >>> from winit_fast import adapters
    >>> from winit_fast.adapters.torch import megatron_init_method
    >>> halves = [torch.empty(4, 6), torch.empty(4, 6)]
    >>> for rank, half in enumerate(halves):
    ...     half.partition_dim, half.partition_stride = 0, 1
    ...     _ = megatron_init_method("normal(std=0.02)", rank=rank, world_size=2, seed=1)(half)
    >>> whole = megatron_init_method("normal(std=0.02)", rank=0, world_size=1, seed=1)(torch.empty(8, 6))
    >>> bool((torch.cat(halves) == whole).all())
    True
    """
    position, count = as_rank(rank, world_size)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a str, the method's, got {quote(name)}")
    if names is not None and not callable(names):
        raise TypeError(f"names must be a callable that gives the name of the next weight, got {quote(names)}")
    stage, expert = _as_rank("pipeline_rank", pipeline_rank), _as_rank("expert_rank", expert_rank)
    axis = None if partition_dim is None else as_int("partition_dim", partition_dim, "an int or None")
    if axis is not None and axis < -1:
        raise ValueError(f"partition_dim must be an axis, or -1 for whole weights, got {quote(axis)}")
    _refuse_keywords("megatron_init_method", seed, keywords)
    others: dict[str, Any] = dict(keywords)
    axes = tuple(others.pop(argument, default) for argument, default in _AXES.items())
    return _MegatronInit(read_scheme(scheme), position, count, seed, name, names, stage, expert, axis, axes, others)


def _as_rank(argument: str, rank: SupportsIndex | None) -> int | None:
    if rank is None:
        return None
    number = as_int(argument, rank, "an int or None")
    if number < 0:
        raise ValueError(f"{argument} must be 0 or more, got {quote(rank)}")
    return number


_AXES: dict[str, Any] = {"in_axis": None, "out_axis": None, "batch_axis": ()}

# Of all methods of one seed, scheme and ranks: where the weight of each number stands; None once they warned.
_numbers: dict[Hashable, dict[int, int] | None] = {}


@dataclass(eq=False)
class _MegatronInit(_Counting):
    scheme: Scheme
    rank: int
    world_size: int
    seed: SupportsIndex | None
    name: str | None
    names: Callable[[], str | int] | None
    pipeline_rank: int | None
    expert_rank: int | None
    partition_dim: int | None
    axes: tuple[Any, ...]
    arguments: dict[str, Any]
    count: int = field(default=0, repr=False)

    def __call__(self, weight: Tensor, name: str | int | None = None) -> Tensor:
        refuse_absent(weight)
        shape, runs = self._split(weight)
        is_numbered = name is None and self.names is None
        if name is None:
            name = self._number(weight) if self.names is None else self.names()
        which = {argument: given for argument, given in self.arguments.items() if argument != "threads"}
        axes = dict(zip(_AXES, self.axes, strict=True))
        initializer = in_torch_layout(len(shape), self.scheme, name=name, **axes, **which)
        key = seed_of(self.scheme, self.seed, None)
        fill_runs(weight, runs, shape, initializer, seed=key, threads=self.arguments.get("threads"))
        self.count += is_numbered
        return weight

    def _split(self, weight: Tensor) -> tuple[tuple[int, ...], Runs]:
        """The shape of the whole weight, and what of it is here."""
        shape, stride = list(weight.shape), getattr(weight, "partition_stride", 1)
        axis = getattr(weight, "partition_dim", self.partition_dim)
        if axis is None and self.world_size > 1:
            raise ValueError(
                f"weight must carry partition_dim, which says how {self.world_size} ranks share it, got one of shape "
                f"{tuple(shape)} without: call the method when the model is built and its weights are marked, or tell "
                "it by partition_dim= what weights without a mark are: 0 (column-parallel layers of "
                "TransformerEngine), 1 (its row-parallel ones), -1 (whole, as with use_cpu_initialization)"
            )
        runs = [[range(size)] for size in shape]
        if axis is None or axis == -1:
            return tuple(shape), runs
        if not 0 <= axis < len(shape):
            raise ValueError(f"weight must have the axis of its partition_dim, {axis}, got shape {tuple(shape)}")
        if stride < 1:
            raise ValueError(f"weight must have a partition_stride of 1 or more, got {stride}")
        size, rest = divmod(shape[axis], stride)
        if rest:
            raise ValueError(f"weight must have a multiple of {stride} along axis {axis}, got {tuple(shape)}")
        begins = [(self.rank + k * self.world_size) * size for k in range(stride)]
        runs[axis] = [range(begin, begin + size) for begin in begins]
        shape[axis] *= self.world_size
        return tuple(shape), runs

    def _number(self, weight: Tensor) -> str | int:
        """The name of the next weight: of the method, its number, and the ranks that hold other weights."""
        stage, expert = self._rank("pipeline_rank"), self._rank("expert_rank")
        if expert and getattr(weight, "allreduce", None) is None:
            raise ValueError(
                f"weight must carry allreduce, which says whether it is an expert's, where expert_rank is {expert}: "
                "call the method when the model is built and its weights are marked, best by name"
            )
        if expert and weight.allreduce:  # type: ignore[attr-defined]
            expert = 0
        if self.seed is None and self.name is None and not stage and not expert:
            return self.count  # each has drawn a seed of its own
        name = f"weight {self.count} by {self.scheme}, pipeline rank {stage}"
        if expert:
            name += f", expert rank {expert}"
        if self.name is not None:
            name = f"{self.name}, {name}"
        elif self.seed is not None and self.scheme.draws:
            self._warn_of_repeats(weight, (as_int("seed", self.seed), stage, expert))
        return name

    def _rank(self, argument: str) -> int:
        given: int | None = getattr(self, argument)
        if given is None and (processes := _processes()) > self.world_size:
            raise ValueError(
                f"{argument} must be given where there are more processes ({processes}) than world_size "
                f"({self.world_size}) and weights have no names: the ranks of a pipeline or of experts would hold the "
                "same weights; 0 where there is no such group"
            )
        return given or 0

    def _warn_of_repeats(self, weight: Tensor, key: tuple[int, ...]) -> None:
        """Warn where another method gave these values to another weight; once."""
        if is_unreal(weight):
            return
        method = (*key, str(self.scheme), self.rank, self.world_size)
        numbers, address = _numbers.setdefault(method, {}), weight.data_ptr()
        if numbers is not None and numbers.setdefault(self.count, address) != address:
            _numbers[method] = None
            warnings.warn(
                "two methods of one seed and one scheme give the same weights, as they should where one model is built "
                "twice; give one of them a name=, such as 'output_layer_init_method', where both are of one model",
                RepeatedValuesWarning,
                stacklevel=4,
            )
