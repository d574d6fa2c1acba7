"""One plain tensor: fill it where it stands, and refuse what cannot be filled."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache, wraps
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, ParamSpec, SupportsIndex, TypedDict, TypeVar

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import _disable_current_modes

from winit_fast import Scheme
from winit_fast import scheme as read_scheme
from winit_fast.distributions import Constant, Elementwise
from winit_fast.fans import Axes, Matrices, as_axes
from winit_fast.fill import look_up, read_region
from winit_fast.initializer import Initializer
from winit_fast.lowering import ELEMENT_TYPES, Conversion, lower
from winit_fast.memory import dtype_of
from winit_fast.messages import quote
from winit_fast.parallel import fill_plan, fill_plans, read_threads, threads_for
from winit_fast.registry import LONGEST_KEPT
from winit_fast.repeats import note_fill, warn_of_repeats
from winit_fast.small import SMALL_BYTES, SmallPlan, plan_small
from winit_fast.streams import UNNAMED, stream_of
from winit_fast.target import Call

from .._device import trust
from .._memory.pieces import PIECE, pieces
from .._memory.torch import FILLED, array_of, name_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "FILLED", "PLAIN", "FillKeywords", "LateSeed", "PartKeywords", "draw_seed", "fill_many_small", "fill_small",
    "fill_tensor", "in_torch_layout", "is_unreal", "is_usual", "leaves_graph", "outside_modes", "refuse_absent",
    "refuse_computed", "refuse_other_types", "refuse_unusable", "seed_of", "small_plan", "torch_axes",
    "write_on_device",
]  # fmt: skip

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# Types of tensors that are what they seem; asking others what they are takes longer.
PLAIN = (torch.nn.Parameter, Tensor)

_WORD = torch.empty((), dtype=torch.int64, device="cpu")


def fill_tensor(tensor: Tensor, initializer: Initializer, **keywords: Unpack[PartKeywords]) -> None:
    """Fill a tensor that is no `DTensor`."""
    if is_unreal(tensor):
        return
    refuse_unusable(tensor)
    plain = tensor.detach()
    if trust.takes(plain) and _fill_on_device(plain, initializer, **keywords):
        pass
    elif plain.is_cpu:
        initializer.fill(array_of(plain), **keywords)
    else:
        _fill_through_host(plain, initializer, **keywords)
    torch.autograd.graph.increment_version(tensor)  # autograd must see the write


# Small tensors


def fill_small(
    tensor: Tensor,
    scheme: str | Scheme,
    seed: SupportsIndex | None,
    name: str | SupportsIndex,
    generator: torch.Generator | None,
    threads: SupportsIndex | None,
) -> bool:
    """Fill what `init_` meets most, a small parameter in PyTorch's layout, in a third of the time of `fill_tensor`.

    False: it is something else, or is to be refused, and nothing was done.
    """
    is_cuda = getattr(tensor, "is_cuda", False)
    if (
        type(scheme) is not str or len(scheme) > LONGEST_KEPT or generator is not None
        or (threads is not None and (type(threads) is not int or threads < 1))
        or not is_usual(tensor, on_cuda=is_cuda)
        or (is_cuda and (tensor.nbytes > trust.SMALL_BYTES or trust.is_captured(tensor)))
    ):  # fmt: skip
        return False
    try:
        known = _plan_small(scheme, tensor.shape, tensor.dtype)
    except (TypeError, ValueError):  # the scheme's own
        return False
    if known is None:
        return False
    if type(name) is int:
        if not 0 <= name < 1 << 64:
            return False
    elif type(name) is not str and (name is not UNNAMED or (known.draws and type(seed) is int)):
        return False  # without a name, a seed may repeat itself: `fill` notes it
    stream = stream_of(name)
    if seed is None:
        seed = draw_seed(None) if known.draws else 0
    elif type(seed) is LateSeed:
        seed = seed.__index__()
    elif type(seed) is not int or not 0 <= seed < 1 << 64:
        return False
    if is_cuda:
        staged = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
        fill_plan(known.plan.moved(staged.data_ptr(), seed, stream), threads)
        tensor.detach().copy_(staged, non_blocking=True)  # PyTorch keeps pinned memory until it was copied
    else:
        fill_plan(known.plan.moved(tensor.data_ptr(), seed, stream), threads)
        _increment_version(tensor)  # autograd must see the write
    return True


def fill_many_small(parts: Sequence[tuple[SmallPlan, Tensor, str]], seed: int, threads: SupportsIndex | None) -> None:
    """Fill usual tensors, each by its plan and under its name, as one piece of work; of those that overlap the last."""
    plans, spans = [], []
    for known, tensor, name in parts:
        begin = tensor.data_ptr()
        plans.append(known.plan.moved(begin, seed, stream_of(name)))
        spans.append((begin, begin + tensor.nbytes))
    spans.sort()
    is_apart = all(one[1] <= other[0] for one, other in pairwise(spans))
    count = read_threads(threads)
    if threads_for(plans, count) > 1:  # which keep no order
        # A file that is mapped twice is memory that tensors share at two addresses.
        is_apart &= not any(getattr(tensor.untyped_storage(), "filename", None) for _, tensor, _ in parts)
    try:
        for together in (tuple(plans),) if is_apart else zip(plans, strict=True):
            fill_plans(together, count)
    finally:
        for _, tensor, _ in parts:
            _increment_version(tensor)  # autograd must see the write


def is_usual(tensor: Tensor, *, on_cuda: bool = False) -> bool:
    """Whether a tensor is one that `refuse_unusable` lets pass, for the kinds that models are made of.

    Memory on the CPU (or on CUDA) in one piece, no view, computed from nothing, and nobody traces or transforms what is
    done to it. The type is looked at before all else, and the dtype not at all.
    """
    return (
        type(tensor) in PLAIN
        and (tensor.is_cuda if on_cuda else tensor.is_cpu)
        and tensor.layout is _STRIDED
        and not tensor.is_nested
        and tensor.is_contiguous()
        and tensor._base is None
        and tensor.grad_fn is None
        and not tensor.is_neg()
        and not tensor.is_conj()
        and not tensor.is_inference()
        and getattr(tensor, "ds_shape", None) is None
        and _interpreter() is None
        and not _modes()
        and tensor.data_ptr() != 0
        and ((parametrize := sys.modules.get("torch.nn.utils.parametrize")) is None or not parametrize._cache_enabled)
    )


_STRIDED = torch.strided
_interpreter, _modes = torch._C._functorch.peek_interpreter_stack, torch._C._len_torch_dispatch_stack
_increment_version = torch.autograd.graph.increment_version


@lru_cache(maxsize=1024)
def _plan_small(scheme: str, shape: torch.Size, dtype: torch.dtype) -> SmallPlan | None:
    return small_plan(Initializer(scheme, in_axis=1, out_axis=0), shape, dtype)


def small_plan(initializer: Initializer, shape: Sequence[int], dtype: torch.dtype) -> SmallPlan | None:
    """The plan of all usual tensors of that shape and dtype; None where each has to be read by itself."""
    if dtype not in FILLED or prod(shape) * dtype.itemsize > SMALL_BYTES or initializer.padding_idx is not None:
        return None
    try:
        memory = array_of(torch.empty(shape, dtype=dtype, device="cpu"))
        return plan_small(
            memory, initializer.scheme, initializer.in_axis, initializer.out_axis, initializer.batch_axis,
            initializer.matrices,
        )  # fmt: skip
    except (TypeError, ValueError, ImportError):  # `fill_tensor` says so in its turn
        return None


class FillKeywords(TypedDict, total=False):
    """What decides a tensor's values beside its `Initializer`, and how many threads make them."""

    seed: SupportsIndex | None
    threads: SupportsIndex | None


class PartKeywords(FillKeywords, total=False):
    """The same for a part of a larger tensor: of which shape, and from which index on."""

    shape: Sequence[SupportsIndex] | None
    offset: Sequence[SupportsIndex] | None


# Other devices


def _fill_on_device(tensor: Tensor, initializer: Initializer, **keywords: Unpack[PartKeywords]) -> bool:
    """Fill a tensor by a kernel of its device; False: all was checked, but there is no kernel that is trusted."""
    whole, start = read_region(tuple(tensor.shape), keywords.get("shape"), keywords.get("offset"))
    seed = keywords.get("seed")
    initializer.check(whole, name_of(tensor.dtype), seed=seed, threads=keywords.get("threads"))
    values = initializer.identify(seed, whole, start, is_complex=tensor.is_complex())
    warn_of_repeats(values, tensor.data_ptr())
    if not write_on_device(tensor, initializer, seed, whole, start):
        return False
    note_fill(values, tensor.data_ptr())
    return True


def write_on_device(
    tensor: Tensor, initializer: Initializer, seed: SupportsIndex | None, shape: tuple[int, ...],
    start: tuple[int, ...], rows: Tensor | None = None,
) -> bool:  # fmt: skip
    """Write what was checked by a kernel; `rows`: those of the global tensor that axis 0 holds, on the same device."""
    padding = initializer.padding(shape)
    listed = padding if rows is not None and padding is not None and padding[0] == 0 else None
    conversion = _conversion_of(initializer, shape, tensor.dtype)
    if conversion is not None:
        call = Call(0 if seed is None else int(seed), initializer.stream, None)
        if not trust.write(tensor, conversion, call, shape, start, rows, -1 if listed is None else listed[1]):
            return False
    elif isinstance(initializer.distribution(shape, is_complex=tensor.is_complex()), Constant):  # a complex one
        tensor.fill_(_constant_of(initializer, shape, tensor.dtype))
        if rows is not None and listed is not None:
            tensor.masked_fill_((rows == listed[1]).view(-1, *[1] * (tensor.dim() - 1)), 0)
    else:
        return False
    if padding is not None and listed is None:
        axis, index = padding[0], padding[1] - start[padding[0]]
        if 0 <= index < tensor.shape[axis]:
            tensor.select(axis, index).zero_()
    return True


def _constant_of(initializer: Initializer, shape: tuple[int, ...], dtype: torch.dtype) -> complex:
    """The value that every element has, rounded to the type as on the CPU."""
    one = torch.empty([1] * len(shape), dtype=dtype, device="cpu")
    unpadded = Initializer.from_config({**initializer.get_config(), "name": 0, "padding_idx": None})
    unpadded.fill(array_of(one), seed=0, shape=shape, offset=[0] * len(shape), threads=1)
    return one.item()


def _conversion_of(initializer: Initializer, shape: tuple[int, ...], dtype: torch.dtype) -> Conversion | None:
    """What kernels make the values by; None where there is no kernel for them."""
    if not dtype.is_complex:  # what `check` has looked up
        return look_up(
            initializer.scheme, shape, initializer.in_axis, initializer.out_axis, initializer.batch_axis,
            initializer.matrices, dtype_of(name_of(dtype)),
        ).conversion  # fmt: skip
    distribution = initializer.distribution(shape, is_complex=True)
    if not isinstance(distribution, Elementwise) or isinstance(distribution, Constant):
        return None
    return lower(distribution, ELEMENT_TYPES[name_of(dtype)], initializer.scheme.name)


def _fill_through_host(tensor: Tensor, initializer: Initializer, **keywords: Unpack[PartKeywords]) -> None:
    """Fill pieces in two buffers of host memory in turn, each copied while the next is filled.

    Where elements depend on each other (orthogonal, sparse, ...), every piece would begin with what all of them share:
    such a tensor is one piece, and as large in the host's memory.
    """
    if trust.is_captured(tensor):
        raise RuntimeError(
            "tensor must not be filled through the host's memory while a CUDA graph is captured, which would copy what "
            "stands there when it is replayed: fill it before (a kernel fills more than 64 KiB of a scheme that draws "
            f"each element by itself, got {tensor.nbytes} bytes of {initializer.scheme})"
        )
    extent, seed = tuple(tensor.shape), keywords.get("seed")
    whole, start = read_region(extent, keywords.get("shape"), keywords.get("offset"))
    distribution = initializer.distribution(whole, is_complex=tensor.is_complex())
    is_elementwise = isinstance(distribution, Elementwise)
    values = None
    if initializer.name is UNNAMED and distribution.draws and type(seed) is int and tensor.numel():
        values = (seed, str(distribution), whole, start)
        warn_of_repeats(values, tensor.data_ptr())
    initializer = initializer.rename(initializer.stream)  # `fill` would compare where the pieces stand
    most = max(1, PIECE // tensor.element_size() if is_elementwise else tensor.numel())
    is_cuda = tensor.is_cuda
    is_waited_for = is_cuda and tensor.nbytes > trust.SMALL_BYTES  # PyTorch keeps pinned memory until it was copied
    turns = 2 if most < tensor.numel() else 1
    size = min(most, tensor.numel())
    buffers = [torch.empty(size, dtype=tensor.dtype, device="cpu", pin_memory=is_cuda) for _ in range(turns)]
    copied: list[Any] = [None] * turns
    for number, (begin, sizes) in enumerate(pieces(extent, most)):
        turn = number % turns
        if copied[turn] is not None:
            copied[turn].synchronize()
        staged = buffers[turn][: prod(sizes)].view(sizes)
        offset = tuple(map(sum, zip(start, begin, strict=True)))
        initializer.fill(array_of(staged), seed=seed, shape=whole, offset=offset, threads=keywords.get("threads"))
        piece = tensor[tuple(slice(first, first + size) for first, size in zip(begin, sizes, strict=True))]
        piece.copy_(staged, non_blocking=is_cuda)
        if is_waited_for:
            copied[turn] = torch.cuda.current_stream(tensor.device).record_event()
    for event in copied:
        if event is not None:
            event.synchronize()
    if values is not None:
        note_fill(values, tensor.data_ptr())


# What cannot be filled


def is_unreal(tensor: Tensor) -> bool:
    """Whether a tensor has no memory: of the meta device, or a fake one of the tracers."""
    if type(tensor) in PLAIN:
        return tensor.is_meta
    refuse_other_types(tensor)
    if is_lazy(tensor):
        raise ValueError(f"tensor must have a shape, got {type(tensor).__name__}: its lazy module has not run yet")
    from torch._subclasses.fake_tensor import is_fake

    return tensor.is_meta or is_fake(tensor)


def refuse_other_types(tensor: object) -> None:
    """Raise where something is no tensor at all, and say who takes what it is."""
    if isinstance(tensor, Tensor):
        return
    root = type(tensor).__module__.partition(".")[0]
    others = {
        "numpy": ": winit_fast.fill and adapters.init_ fill arrays",
        "tensorflow": ": adapters.init_ fills variables of TensorFlow",
        "keras": ": adapters.init_ fills variables of Keras",
        **dict.fromkeys(("jax", "jaxlib"), ": adapters.jax.init makes arrays of JAX"),
    }
    hint = ": init_module_ initializes modules" if isinstance(tensor, torch.nn.Module) else others.get(root, "")
    raise TypeError(f"tensor must be a torch.Tensor, got {type(tensor).__name__}{hint}")


def refuse_absent(tensor: Tensor) -> None:
    """Raise where DeepSpeed's ZeRO-3 holds the values elsewhere and leaves a tensor without elements in their place."""
    shape = getattr(tensor, "ds_shape", None)
    if shape is not None and tuple(tensor.shape) != tuple(shape):
        raise ValueError(
            f"tensor must be here whole, got shape {tuple(tensor.shape)} of {tuple(shape)}, which DeepSpeed's ZeRO-3 "
            "holds in parts: fill it on all ranks inside of deepspeed.zero.GatheredParameters(parameters, "
            "modifier_rank=0), which keeps rank 0's values"
        )


def refuse_unusable(tensor: Tensor) -> None:
    """Raise where a tensor that has memory cannot be written to as it stands."""
    refuse_absent(tensor)
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise TypeError("tensor must not be filled inside of a transform of torch.func: make it before, and pass it in")
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        raise ValueError("tensor must not be one of torch.inference_mode, outside of which nobody may write to it")
    if type(tensor) not in PLAIN and hasattr(tensor, "__tensor_flatten__") and not hasattr(tensor, "placements"):
        raise TypeError(_NO_MEMORY.format(type(tensor).__name__))
    if tensor.layout is not torch.strided or tensor.is_nested:
        kind = "a nested one" if tensor.is_nested else f"one of layout {tensor.layout}"
        raise TypeError(f"tensor must be dense, got {kind}")
    if tensor.dtype not in FILLED:
        raise TypeError(f"tensor must be of dtype {', '.join(map(str, FILLED))}, got {tensor.dtype}")
    if tensor.is_conj() or tensor.is_neg():
        kind = "conjugate" if tensor.is_conj() else "negative"
        raise ValueError(f"tensor must hold its values as they are, got a {kind} view; fill what it views")
    if not tensor.is_contiguous() and _overlaps(tensor):
        raise ValueError(
            f"tensor must not overlap itself in memory, got shape {tuple(tensor.shape)} with strides {tensor.stride()}"
            "; fill what it was expanded from"
        )
    is_known = tensor.is_cpu or tensor.is_cuda  # elsewhere the address need not say anything
    if is_known and tensor.numel() and tensor.data_ptr() == 0:
        if type(tensor) in PLAIN:  # as a framework that shards leaves it until it is needed
            raise ValueError(f"tensor must have memory, got shape {tuple(tensor.shape)} whose storage was freed")
        raise TypeError(_NO_MEMORY.format(type(tensor).__name__))
    refuse_computed(tensor)


# Such as torchao's quantized tensors, or a masked one.
_NO_MEMORY = (
    "tensor must have memory of its own, got {}, which is made of other tensors: "
    "fill the weight first, and turn it into one then"
)


def refuse_computed(tensor: Tensor) -> None:
    """Raise where a tensor was computed: filling it would leave what it was computed from as it was.

    Under `torch.no_grad` PyTorch does not say where a tensor comes from, and such a copy looks like any other tensor.
    """
    base = tensor if tensor._base is None else tensor._base
    node = base.grad_fn
    if node is None and base is not tensor:
        # Of pieces as `chunk` makes them, PyTorch does not tell once the whole was written to: views of a parameter.
        with suppress(RuntimeError):
            node = _find_copy(tensor)
    if node is not None:
        raise ValueError(
            "tensor must not be computed from others, which a fill would leave as they are, got the result of "
            f"{type(node).__name__}: {_advice(type(node).__name__)}"
        )
    parametrize = sys.modules.get("torch.nn.utils.parametrize")
    if parametrize is not None and parametrize._cache_enabled and any(base is x for x in parametrize._cache.values()):
        raise ValueError(
            "tensor must not be what torch.nn.utils.parametrize.cached keeps until its block ends, got one of shape "
            f"{tuple(tensor.shape)}: assign a weight, as in module.weight = adapters.torch.init(shape, ...)"
        )
    if base is not tensor and hasattr(tensor, "placements") and hasattr(base, "placements"):
        parts = [part._local_tensor.untyped_storage().data_ptr() for part in (tensor, base)]  # type: ignore[attr-defined]
        if parts[0] != parts[1]:
            raise ValueError(
                f"tensor must not be a copy, got {tuple(tensor.shape)} of a DTensor of {tuple(base.shape)}, "
                "along an axis that is sharded: fill the whole DTensor"
            )


def _advice(node: str) -> str:
    """What to do in place of filling what was computed, the likeliest first."""
    assign = (
        "where it is a weight under a parametrization, assign one, module.weight = adapters.torch.init(shape, ...), or "
        "use init_module_"
    )
    before = "fill what it was computed from (what stood before .float(), .to(), an index)"
    if node.startswith("WeightNorm"):
        return f"{assign.removeprefix('where it is a weight under a parametrization, ')}; else {before}"
    if node == "CopySlices":
        return f"what autograd saw written to is filled by its .data; {before}"
    return f"{before}; {assign}"


def _find_copy(tensor: Tensor) -> Any:
    """What made a copy, where a tensor is the local one of a `DTensor` that is a copy itself."""
    node = tensor.grad_fn
    if type(node).__name__ != "_ToTorchTensorBackward":
        return None
    before = (function for function, _ in node.next_functions)  # type: ignore[union-attr]
    return next((function for function in before if type(function).__name__ == "RedistributeBackward"), None)


def _overlaps(tensor: Tensor) -> bool:
    """Whether strides do not nest: each must step over all that smaller ones reach."""
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride <= reach:
            return True
        reach += stride * (size - 1)
    return False


# What those who fill it share: seeds, axes, graphs


def seed_of(
    scheme: str | Scheme, seed: SupportsIndex | None, generator: torch.Generator | None
) -> SupportsIndex | None:
    """The seed that was given, or a draw of the generator; none where the scheme draws nothing."""
    late = LateSeed(generator)
    return late if seed is None and read_scheme(scheme).draws else seed


class LateSeed:
    """One 64-bit draw of a generator as a seed, taken when it is first asked for: after all else has been checked."""

    __slots__ = ("_generator", "value")

    def __init__(self, generator: torch.Generator | None) -> None:
        if not isinstance(generator, torch.Generator | None):
            raise TypeError(f"generator must be a torch.Generator or None, got {quote(generator)}")
        self._generator = generator
        self.value: int | None = None  # until it is asked for

    def __index__(self) -> int:
        if self.value is None:
            self.value = draw_seed(self._generator)
        return self.value


def draw_seed(generator: torch.Generator | None) -> int:
    """One 64-bit draw of a generator, PyTorch's default one where it is None."""
    with outside_modes():
        drawn = torch.empty_like(_WORD, device=None if generator is None else generator.device)
        return drawn.random_(-(1 << 63), None, generator=generator).item() % (1 << 64)  # type: ignore[return-value]


def outside_modes() -> AbstractContextManager[Any]:
    """Where no mode such as `FakeTensorMode` sees what is done: a fake tensor holds no state and no draw."""
    return _disable_current_modes() if torch._C._len_torch_dispatch_stack() else _NO_MODES


_NO_MODES = nullcontext()


def in_torch_layout(
    rank: int,
    scheme: str | Scheme,
    *,
    in_axis: Axes | None = None,
    out_axis: Axes | None = None,
    batch_axis: Axes = (),
    name: str | SupportsIndex = UNNAMED,
    matrices: Matrices = 1,
    padding_idx: SupportsIndex | None = None,
) -> Initializer:
    """An initializer for tensors of that rank, in PyTorch's layout where no axes are given."""
    is_plain = in_axis is None and out_axis is None and batch_axis == () and padding_idx is None
    if is_plain and type(matrices) is int and matrices == 1 and type(scheme) is str and len(scheme) <= LONGEST_KEPT:
        return _in_own_layout(scheme).rename(name)  # in a third of the time
    axes = torch_axes(rank, in_axis, out_axis, batch_axis)
    return Initializer(scheme, name=name, matrices=matrices, padding_idx=padding_idx, **axes)


@lru_cache(maxsize=256)
def _in_own_layout(scheme: str) -> Initializer:
    return Initializer(scheme, in_axis=1, out_axis=0)


def torch_axes(rank: int, in_axis: Axes | None, out_axis: Axes | None, batch_axis: Axes) -> dict[str, Any]:
    """The axes in PyTorch's layout where they are not given: of those that do not stack, outputs first, then inputs.

    Examples
    --------
    >>> torch_axes(3, None, None, -3)
    {'in_axis': 2, 'out_axis': 1, 'batch_axis': (-3,)}
    """
    if in_axis is None and out_axis is None and batch_axis == ():
        return {"in_axis": 1, "out_axis": 0, "batch_axis": ()}
    batch = as_axes("batch_axis", batch_axis)
    stacked = {axis % rank if -rank <= axis < rank else axis for axis in batch}
    first, second = [axis for axis in range(2 + len(batch)) if axis not in stacked][:2]
    if in_axis is None and out_axis is not None:
        _refuse_shared("out_axis", out_axis, "in_axis", (second, second - rank))
    if out_axis is None and in_axis is not None:
        _refuse_shared("in_axis", in_axis, "out_axis", (first, first - rank))
    return {
        "in_axis": second if in_axis is None else in_axis,
        "out_axis": first if out_axis is None else out_axis,
        "batch_axis": batch,
    }


def _refuse_shared(argument: str, axes: Axes, other: str, default: tuple[int, int]) -> None:
    if set(as_axes(argument, axes)) & set(default):
        raise ValueError(f"{other} must be given with {argument}={quote(axes)}: by default it is that axis too")


def leaves_graph(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Have callers under `torch.compile` leave their graph for this call, and begin another after it.

    That is `torch.compiler.disable`, which takes a second to import, only where there is a graph to leave.
    `torch.export` cannot leave its graph, and would keep nothing of the call; nor can a graph with `fullgraph=True`.
    """
    refusal = f"{function.__name__} cannot be part of an exported or full graph: call it before"

    @wraps(function)
    def called(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        if torch.compiler.is_dynamo_compiling():  # where torch 2.7 to 2.9 say of any graph that it is exported
            torch._dynamo.graph_break(msg=refusal)  # what Dynamo says where it cannot break the graph
            return torch.compiler.disable(function)(*arguments, **named)  # type: ignore[no-any-return, no-untyped-call]
        if torch.compiler.is_exporting():
            raise RuntimeError(refusal)
        return function(*arguments, **named)

    return called
