"""Unchanged code made fast: `init_` draws what `torch.nn.init`, `Tensor.normal_` and `Tensor.uniform_` would draw.

Two things are needed. Tensor's methods are seen by a `TorchFunctionMode`, which belongs to one thread. It cannot see
most functions of `torch.nn.init`, so these are replaced wherever a module holds one by name. A replacement is there for
the whole process, so it asks first who governs here, and is the original where nobody does (blocks.py).
"""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any, NamedTuple, SupportsIndex

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from winit_fast import scheme as read_scheme
from winit_fast.messages import quote

from . import functions
from .blocks import _BLOCK, REPLACEMENTS, Block, BlockMode, TorchCall, block_here, call_unseen
from .functions import below_bound
from .plain import FILLED, LateSeed, draw_seed, leaves_graph, outside_modes
from .tensors import init_

__all__ = ["accelerate"]


@contextmanager
def accelerate(
    seed: SupportsIndex | None = None,
    *,
    until_reseeded: bool = False,
    skip: bool = False,
    threads: SupportsIndex | None = None,
) -> Iterator[None]:
    """Make unchanged code fast: weights that are drawn in this block are drawn by `init_`.

    That holds for the functions of `torch.nn.init`, under whatever name a module imported them, and for the methods
    `normal_` and `uniform_` of tensors. Everything else is left alone, and everything is as it was afterwards.

    Parameters
    ----------
    seed : int, optional
        In [0, 2^64). Calls that draw are numbered from 0 on, and number n fills as
        ``init_(tensor, ..., seed=seed, name=n)``: two blocks with one seed repeat each other. A call with a `generator`
        draws its seed from that, and has no number. Left out: one 64-bit draw of PyTorch's default generator at the
        first call; and another, with numbers from 0 on again, wherever something else has moved that generator since.
        So `torch.manual_seed`, and whatever calls it or puts a state back, governs what follows, as without the block.
        A state that is to be put back must be taken by `torch.get_rng_state`, as `fork_rng` does: the method
        `torch.default_generator.get_state` is not seen.
    until_reseeded : bool, default False
        The same for a block with a seed, which governs until something moves PyTorch's default generator (one draw is
        taken on entering, so that any reseeding moves it). Otherwise `torch.manual_seed` has no say in a block with a
        seed: what is made twice after it comes out different.
    skip : bool, default False
        For code that loads a checkpoint right after: whatever draws returns the tensor as it is, so uninitialized, and
        the checkpoint must hold it. What draws nothing (`zeros_`, `ones_`, `constant_`, `eye_`, `dirac_`) is done:
        buffers begin with it that no checkpoint holds. In `from_pretrained` of transformers nothing is skipped, since
        that draws only what its checkpoint lacks, such as a new head. Where other code loads a checkpoint inside the
        block that lacks some of what was skipped, the block ends with a warning.
    threads : int, optional
        As in `init_`.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Notes
    -----
    What `init_` does not fill is left to PyTorch, its errors and its generator: sparse, quantized and expanded tensors,
    integers and complex numbers, bfloat16 without `ml_dtypes`, tensors of the meta device, fake ones and others that a
    subclass, a mode or a transform keeps track of. Zeros, ones and constants are PyTorch's too. Tensors that Hugging
    Face marked with `_is_hf_initialized` are left as they are.

    Blocks nest, and the inner one governs; they may end in any order, as those of generators do. A block governs the
    thread that entered it and no other, and of its tasks of asyncio the one that entered it and those begun inside: so
    each thread and each task may enter its own. It does not govern processes forked inside it, such as the workers of a
    DataLoader. An interrupt on entering or leaving leaves PyTorch's own functions.

    In code under `torch.compile` each of these calls breaks the graph.

    Examples
    --------
    >>> import torch
    >>> from winit_fast import adapters
    >>> with adapters.torch.accelerate(seed=0):
    ...     layer = torch.nn.Linear(512, 256)
    >>> expected = adapters.torch.init(
    ...     (256, 512), "he_uniform(nonlinearity='leaky_relu', slope=2.23606797749979)", seed=0, name=0
    ... )
    >>> bool((layer.weight == expected).all())
    True
    """
    nothing = torch.empty(0, device="cpu")
    init_(nothing, "normal", seed=0 if seed is None else seed, threads=threads)  # refuses what it would refuse later
    governor = _Governor(seed, until_reseeded, skip, threads)
    try:
        try:
            governor.begin()
            yield
            governor.warn_of_what_is_missing()
        finally:
            governor.end()
    finally:
        governor.end()


class _Governor(Block):
    """Who governs: what its block was told, and how many calls it has drawn for."""

    def __init__(
        self, seed: SupportsIndex | None, until_reseeded: bool, skip: bool, threads: SupportsIndex | None
    ) -> None:
        super().__init__()
        self.seed: SupportsIndex = LateSeed(None) if seed is None else seed
        self.is_following = seed is None or until_reseeded
        if seed is not None and until_reseeded:
            draw_seed(None)
        self.skip = skip
        self.threads = threads
        self.calls = 0
        self.mode = _MethodsThatWrite(self) if skip else _Methods(self)
        self.state = _state_of_torch() if self.is_following else b""  # of PyTorch's generator, when we last looked
        self.skipped: dict[tuple[int, int], _Skipped] = {}
        self.sources: dict[int, tuple[weakref.ref[Tensor], weakref.ref[Tensor]]] = {}
        self.has_loaded = False

    def answer(self, call: TorchCall) -> Any:
        """Fill by `init_` what can be filled."""
        tensor = call.tensor
        if getattr(tensor, "_is_hf_initialized", False):
            return tensor
        is_skipped = self.skip and call.name not in _DRAW_NOTHING and isinstance(tensor, Tensor)
        if is_skipped and not _is_called_by("from_pretrained", "transformers."):
            self.note_skipped(tensor)
            return tensor
        self.note_written(tensor)
        if call.ours is not None and call_unseen(_is_ours_to_fill, tensor):
            # What cannot be filled raises before anything is written: the original knows what to do, or what to raise.
            with suppress(TypeError, ValueError, ArithmeticError, ImportError):
                return self.take(call)
        context = copy_context()  # what the original is made of is the original too
        context.run(_BLOCK.set, None)
        return context.run(call.by_torch)

    def draw(self, tensor: Tensor, scheme: str, generator: torch.Generator | None, seed: int | None) -> Tensor:
        """`init_` with the next stream of the block's seed, where the call does not say which."""
        scheme = below_bound(tensor, scheme)
        if seed is not None or generator is not None:
            return init_(tensor, scheme, seed=seed, generator=generator, threads=self.threads)
        if self.is_following and (state := _state_of_torch()) != self.state:  # somebody else has moved the generator
            self.seed, self.calls, self.state = LateSeed(None), 0, state
        key = self.seed if read_scheme(scheme).draws else 0
        moves = type(key) is LateSeed and key.value is None
        init_(tensor, scheme, seed=key, name=self.calls, threads=self.threads)
        self.calls += 1
        if moves and self.is_following:
            self.state = _state_of_torch()
        return tensor

    def note_source(self, view: Any, source: Any) -> None:
        """Remember what `data` or `detach` was asked of: it is there when the view is long gone."""
        if isinstance(view, Tensor) and isinstance(source, Tensor):
            # An interrupt of a callback written in Python would be lost. The reference that it gets is pop's default.
            gone = partial(self.sources.pop, id(view))
            self.sources[id(view)] = weakref.ref(view, gone), weakref.ref(source)

    def note_skipped(self, tensor: Tensor) -> None:
        """Remember what is left uninitialized: by where it stands, as `weight` and `weight.data` are one."""
        if (memory := _memory(tensor)) is not None:
            view, source = self.sources.get(id(tensor), (lambda: None, lambda: None))
            watched = source() if view() is tensor else None
            watched = tensor if watched is None else watched
            self.skipped[memory] = _Skipped(
                _reference(tensor), tuple(tensor.shape), weakref.ref(watched), _version_of(watched)
            )

    def note_written(self, tensor: Any, is_load: bool = False) -> None:
        """Remember that somebody gave a tensor its values, in this block or one inside it."""
        governor: Block | None = self
        memory = None
        while isinstance(governor, _Governor):
            if governor.skipped:
                memory = _memory(tensor) if memory is None else memory
                if memory is not None and governor.skipped.pop(memory, None) is not None:
                    governor.has_loaded |= is_load and _is_called_by("load_state_dict", "torch.")
            governor = governor.around

    def warn_of_what_is_missing(self) -> None:
        """Where one checkpoint was loaded, what it has not filled is there to be forgotten."""
        left = [skipped.shape for skipped in self.skipped.values() if skipped.is_left()]
        if self.has_loaded and left:
            warnings.warn(
                f"skip=True left {len(left)} tensors uninitialized that the checkpoint loaded in this block does not "
                f"hold, of shapes {quote(left)}: initialize them, as with init_",
                stacklevel=4,
            )


class _Skipped(NamedTuple):
    """What was left uninitialized: its memory, and the tensor whose version says that somebody wrote to it."""

    storage: Callable[[], object]  # None once it is gone
    shape: tuple[int, ...]
    watched: weakref.ref[Tensor]
    version: int

    def is_left(self) -> bool:
        watched = self.watched()
        return self.storage() is not None and (watched is None or _version_of(watched) == self.version)


def _reference(tensor: Tensor) -> Callable[[], object]:
    """A weak reference to the memory of a tensor.

    PyTorch's own is deleted by Python code, where an interrupt would be lost.
    """
    reference = weakref.ref(tensor.untyped_storage())
    if reference() is not None:  # the object lives as long as the memory
        return reference
    storage: Any = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
    return lambda: None if storage.expired() else storage


def _version_of(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version  # which inference mode does not count


def _memory(tensor: Any) -> tuple[int, int] | None:
    """Where a tensor stands, and how many elements it has; None where it has no such place of its own."""
    is_plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout is torch.strided and not tensor.is_meta
    if not is_plain or not tensor.numel() or torch._C._functorch.peek_interpreter_stack() is not None:
        return None
    return tensor.data_ptr(), tensor.numel()


def _state_of_torch() -> bytes:
    with outside_modes():
        return torch.default_generator.get_state().numpy().tobytes()


@leaves_graph
def _make(call: TorchCall) -> Any:
    """Call a function or method, or what a block has in its place."""
    block = block_here()
    return call.by_torch() if block is None else block.answer(call)


def _is_called_by(name: str, package: str) -> bool:
    """Whether a function of that name is at work.

    `from_pretrained` of transformers skips by itself, and draws what its checkpoint lacks.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == name and frame.f_globals.get("__name__", "").startswith(package):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _is_ours_to_fill(tensor: Any) -> bool:
    """Whether memory may be filled behind PyTorch's back: nothing that traces, wraps or transforms is looking."""
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.dtype not in FILLED:
        return False
    if tensor.is_meta or tensor.is_nested:
        return False
    if torch._C._len_torch_dispatch_stack() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    if tensor.is_inference() and not torch.is_inference_mode_enabled():  # PyTorch lets nobody write to these
        return False
    kind = type(tensor)
    if kind is Tensor or kind is torch.nn.Parameter or hasattr(tensor, "placements"):
        return True
    overrides = getattr(kind.__torch_function__, "__func__", kind.__torch_function__)
    return overrides in _NO_OVERRIDES and kind.__torch_dispatch__ is Tensor.__torch_dispatch__


_NO_OVERRIDES = (Tensor.__torch_function__.__func__, torch.nn.Parameter.__torch_function__)  # type: ignore[attr-defined]


# Tensor's methods


class _Methods(BlockMode):
    """Sees every call of torch in its thread. All are equal: which block governs is not theirs to know."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.normal_ or func is Tensor.uniform_:
            return _call_method(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


class _MethodsThatWrite(_Methods):
    """Sees as well who writes to what was skipped."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        governor = block_here()
        result = super().__torch_function__(func, types, args, kwargs)
        if isinstance(governor, _Governor):
            tensor = args[0] if args else (kwargs or {}).get("input")
            if func == _DATA or func is Tensor.detach:
                governor.note_source(result, tensor)
            elif _writes(getattr(func, "__name__", "")):
                governor.note_written(tensor, is_load=func is Tensor.copy_)
        return result


_DATA = Tensor.data.__get__  # type: ignore[attr-defined]


def _writes(name: str) -> bool:
    """Whether a method of that name gives a tensor values; a view's version does not tell that of what it views."""
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__") and name not in _NOT_VALUES)


# The first two say so themselves, in `_make`.
_NOT_VALUES = ("normal_", "uniform_", "requires_grad_", "detach_", "retain_grad_", "share_memory_")


@leaves_graph
def _call_method(method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    is_watched = torch.is_grad_enabled() and isinstance(args[0], Tensor) and args[0].requires_grad
    if is_watched:  # autograd refuses it, or keeps track of it
        return method(*args, **kwargs)
    return _make(TorchCall(method.__name__, method, _METHODS[method], args, kwargs))


def _uniform_method(*args: Any, **kwargs: Any) -> Tensor:
    names = {"from": "a", "to": "b"}  # in the method's signature, and in the function's
    return functions.uniform_(*args, **{names.get(name, name): given for name, given in kwargs.items()})


_METHODS: dict[Any, Callable[..., Tensor]] = {Tensor.normal_: functions.normal_, Tensor.uniform_: _uniform_method}


# The functions of torch.nn.init


def _make_replacement(name: str, original: Any, ours: Callable[..., Any] | None) -> Any:
    @wraps(original)
    def function(*args: Any, **kwargs: Any) -> Any:
        return _make(TorchCall(name, original, ours, args, kwargs))

    return function


def _keep(function: Any) -> Any:
    """Keep a replacement where it is found when a model that holds it is pickled after the block."""
    # One name without a dot: `torch.save` has a pickle protocol that knows no others.
    function.__module__, function.__qualname__ = __name__, f"kept_{function.__name__}"
    setattr(_BY_NAME, function.__name__, function)  # a name in a module would be exchanged
    return function


def __getattr__(name: str) -> Any:
    """For pickle: what `_keep` keeps."""
    kept = vars(_BY_NAME).get(name.removeprefix("kept_")) if name.startswith("kept_") else None
    if kept is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return kept


def _make_replacements() -> Iterator[tuple[Any, Any]]:
    """Each function of torch.nn.init, and what stands for it."""
    for name in (*(name for name in functions.__all__ if name.endswith("_")), "_no_grad_trunc_normal_"):
        original, ours = getattr(torch.nn.init, name), _INSTEAD.get(name, getattr(functions, name, None))
        yield original, _keep(_make_replacement(name, original, ours))
        if hasattr(torch.nn.init, name[:-1]):  # the old name, which warns and calls the new one
            old = torch.nn.init._make_deprecate(_make_replacement(name[:-1], original, ours))
            yield getattr(torch.nn.init, name[:-1]), old


def _replace_get_rng_state(original: Callable[[], Tensor]) -> Any:
    @wraps(original)
    def function() -> Tensor:
        """Whoever asks for the state means to come back to it: what is drawn next must follow from it alone."""
        governor = block_here()
        if isinstance(governor, _Governor) and isinstance(governor.seed, LateSeed):
            governor.state = b""
        return original()

    return _keep(function)


_DRAW_NOTHING = ("eye_", "dirac_", "constant_", "ones_", "zeros_", "eye", "dirac", "constant")
_INSTEAD = {
    # PyTorch's own is as fast, and has the same bits.
    "constant_": None,
    "ones_": None,
    "zeros_": None,
    # What trunc_normal_ is made of, for those who hold that in a partial or a default argument. It draws until all
    # values fit, so it would not end in a block that skips.
    "_no_grad_trunc_normal_": functions.trunc_normal_,
}
_BY_NAME = SimpleNamespace()  # where older pickles look
REPLACEMENTS.update(_make_replacements())
REPLACEMENTS[torch.get_rng_state] = _replace_get_rng_state(torch.get_rng_state)
