"""Blocks in which functions of PyTorch's do something else: who has a say where, and what modules hold meanwhile.

(a) A block has a say in the context and the thread that it began in, until it ends. It says itself that it has ended,
    and knows those around it. So blocks may end in any order: generators share the context of whoever consumes them.
(b) Modules hold replacements while any block is open. A replacement asks `block_here`, and is the original where there
    is none. `_settle` compares what is open with what modules hold, and does what is missing, in a forked process too,
    where the blocks of other threads are not.
(c) An interrupt may come between any two bytecodes, those of a `finally` among them. So each step can be done again,
    and whoever opens a block ends it twice, the second time for what an interrupt left of the first (`within`). What
    is done is not undone by that.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar, copy_context
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from winit_fast.locks import OneByOne

__all__ = [
    "REPLACEMENTS", "Block", "BlockMode", "LeftToTorchError", "TorchCall", "block_at_work", "block_here", "call_unseen",
    "modes_here", "within",
]  # fmt: skip

_torch: Any = torch._C  # without its annotations, which are partial

Result = TypeVar("Result")

#: What stands for which function while a block is open.
REPLACEMENTS: dict[Any, Any] = {}


class TorchCall(NamedTuple):
    """A call of a function or method of PyTorch's, and which of functions.py stands for it, if any."""

    name: str
    original: Callable[..., Any]
    ours: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def tensor(self) -> Any:
        """What it is to fill."""
        return self.args[0] if self.args else self.kwargs.get("tensor")

    def by_torch(self) -> Any:
        """Do what PyTorch does."""
        return self.original(*self.args, **self.kwargs)


class LeftToTorchError(TypeError):
    """The function of functions.py has nothing of its own for this call."""


class Block:
    """One that has a say, with a mode that its thread is in meanwhile."""

    is_alone: ClassVar[bool] = False  # of blocks that begin inside of it only those like it have a say

    def __init__(self) -> None:
        self.process, self.thread = os.getpid(), threading.get_ident()
        self.around = block_here()
        self.has_ended = False
        self.mode: BlockMode | None = None
        self._is_in_mode = False
        self._modes_left: list[TorchFunctionMode] | None = None

    def answer(self, call: TorchCall) -> Any:
        """Do what a call is to do here."""
        return call.by_torch()

    def take(self, call: TorchCall) -> Any:
        """Call the function of functions.py, whose `_draw` then asks `draw`."""
        assert call.ours is not None
        context = copy_context()  # which no interrupt leaves as the caller's
        context.run(_AT_WORK.set, self)
        return context.run(call_unseen, call.ours, *call.args, **call.kwargs)

    def draw(self, tensor: Tensor, scheme: str, generator: torch.Generator | None, seed: int | None) -> Tensor:
        """Do what that function would do by `init_`."""
        raise NotImplementedError

    def begin(self) -> None:
        """Have a say."""
        _open[self] = None
        _settle()
        if self.mode is not None:
            _torch._push_on_torch_function_stack(self.mode)
            self._is_in_mode = True
        if self.is_alone or self.around is None or not self.around.is_alone:
            _BLOCK.set(self)

    def end(self) -> None:
        """Have no say any more; in another thread than the one it began in too, or once more."""
        self.has_ended = True
        _open.pop(self, None)
        while self.around is not None and self.around.has_ended:  # or chains of them would grow
            self.around = self.around.around
        if _BLOCK.get() is self:
            _BLOCK.set(self.around)
        if self.mode is not None and self.thread == threading.get_ident():
            self._leave_mode()
        _settle()

    def _leave_mode(self) -> None:
        """Take the mode out from among those that began later, which are put back."""
        if self._modes_left is None:
            self._modes_left = self.modes_left(modes_here())
        while (modes := modes_here()) != self._modes_left:
            if modes == self._modes_left[: len(modes)]:
                _torch._push_on_torch_function_stack(self._modes_left[len(modes)])
            else:
                _torch._pop_torch_function_stack()
        self.mode = None

    def modes_left(self, modes: list[TorchFunctionMode]) -> list[TorchFunctionMode]:
        """Those of this thread's that are to stay."""
        is_missing = self._is_in_mode and not any(mode is self.mode for mode in modes)
        if is_missing and not self._is_mode_at_work():
            modes = modes[:-1]  # another has left it as if it were its own, which is still there
        return [mode for mode in modes if not (isinstance(mode, BlockMode) and mode.block.has_ended)]

    def _is_mode_at_work(self) -> bool:
        """Whether PyTorch has put the mode aside, while it asks it what to do."""
        frame = sys._getframe(1)
        while frame is not None and frame.f_locals.get("self") is not self.mode:
            frame = frame.f_back  # type: ignore[assignment]
        return frame is not None


class BlockMode(TorchFunctionMode):
    """The mode of a block."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block


def within(block: Block, function: Callable[[], Result]) -> Result:
    """Call a function in a block."""
    try:
        try:
            block.begin()
            return function()
        finally:
            block.end()
    finally:
        block.end()


def call_unseen(function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Call a function of ours that no mode of this thread needs to see: each look at a tensor would ask them all."""
    if not _torch._is_torch_function_enabled():
        return function(*args, **kwargs)
    guard = _torch.DisableTorchFunction()
    try:
        try:
            guard.__enter__()
            return function(*args, **kwargs)
        finally:
            guard.__exit__(None, None, None)
    finally:
        guard.__exit__(None, None, None)  # once more, for what an interrupt kept the first from


def modes_here() -> list[TorchFunctionMode]:
    """Those that this thread is in."""
    return [_torch._get_function_stack_at(place) for place in range(_torch._len_torch_function_stack())]


def block_here() -> Block | None:
    """The innermost block that has a say here.

    Contexts are copied to other threads and to forked processes, where those in them have none.
    """
    block = _BLOCK.get()
    while block is not None and (
        block.has_ended or block.thread != threading.get_ident() or block.process != os.getpid()
    ):
        block = block.around
    return block


def block_at_work() -> Block | None:
    """The block that took the call of functions.py that is running; None where a user made it."""
    return _AT_WORK.get()


_BLOCK: ContextVar[Block | None] = ContextVar("winit_fast.adapters.torch.blocks", default=None)
_AT_WORK: ContextVar[Block | None] = ContextVar("winit_fast.adapters.torch.blocks.at_work", default=None)


# What modules hold

_open: dict[Block, None] = {}  # in all threads
_is_replaced: bool | None = False  # None while some of them are
_settling = OneByOne()


def _settle() -> None:
    """Have all modules hold replacements where a block is open, and the originals where none is."""
    _settling.run(_settle_alone)


def _settle_alone() -> None:
    global _is_replaced
    while _is_replaced is not (is_wanted := bool(_open)):
        _is_replaced = None
        # Looks anew, as modules imported meanwhile hold replacements.
        _exchange(REPLACEMENTS if is_wanted else {made: original for original, made in REPLACEMENTS.items()})
        _is_replaced = is_wanted


def _exchange(functions: Mapping[Any, Any]) -> None:
    """Put other functions where modules hold these: some 10 ms for 3000 modules."""
    wanted = frozenset(map(id, functions))
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if not isinstance(names, dict):
            continue
        for held in (names, names.get("TORCH_INIT_FUNCTIONS")):  # where transformers keeps those it calls
            if isinstance(held, dict) and not wanted.isdisjoint(map(id, list(held.values()))):
                for name, value in list(held.items()):
                    if id(value) in wanted:
                        held[name] = functions[value]


def _forget_other_threads() -> None:
    """In a forked process: a thread that is not there ends no block."""
    for block in list(_open):
        if block.thread != threading.get_ident():
            block.end()
    _settle()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)
