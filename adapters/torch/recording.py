"""What code writes into tensors, recorded without memory: as a scheme where it is one, and else to be run again.

Tensors of the meta device stand in for those whose initialization is asked for. Below them a `TorchDispatchMode` sees
every operation, and keeps two things for each piece of memory:

(a) its law, what its elements are distributed as, as long as that can be said: a draw, a constant, either times or plus
    a number, each for the whole or for a box of it;
(b) the tape of all operations, from which those that it depends on can be run again on the CPU. Draws are then ours, of
    the streams of the tensors they are for; everything else is PyTorch's own.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _python_dispatch
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from winit_fast.distributions import Constant, Normal, TruncatedNormal, Uniform
from winit_fast.registry import Scheme, read_scheme, scheme_of

from .blocks import Block, BlockMode, LeftToTorchError, TorchCall, block_here, modes_here, within
from .plain import outside_modes
from .tensors import init_

__all__ = ["Law", "NotRecordedError", "Recorder", "Start", "Store", "WithoutMemory", "as_scheme", "recorder_here"]


class NotRecordedError(RuntimeError):
    """What was recorded does not say what a tensor gets."""


class Start(Enum):
    """What memory holds that nothing wrote to."""

    UNWRITTEN = "unwritten"


Law: TypeAlias = "Constant | Normal | Uniform | TruncatedNormal | Scheme | Start | None"
Result = TypeVar("Result")
Box: TypeAlias = tuple[tuple[int, int], ...]  # where it begins and its size, along each axis
_NUMBERED = (Constant, Normal, Uniform, TruncatedNormal)


@dataclass(slots=True)
class Store:
    """One piece of memory."""

    shape: tuple[int, ...]
    tensor: Tensor  # keeps the memory, whose address is its key
    law: Law
    name: str = ""  # the stream of what is drawn into it; empty for what is only on the way
    initial: Tensor | None = None
    given_to: str = ""  # whose values come from what is drawn into this on the way
    boxes: list[tuple[Box, Law]] = field(default_factory=list)
    origins: frozenset[int] = frozenset()  # the draws that are in it

    def whole(self) -> Law:
        """What all of it is distributed as, None where that is not one thing."""
        if not self.boxes:
            return self.law
        law, *others = {law for _, law in self.boxes}
        return law if not others and self._is_tiled() else None

    def find_zero_row(self) -> tuple[Law, int] | None:
        """A law for all but one row, which is 0, and that row."""
        if len(self.boxes) != 1 or not isinstance(self.law, (*_NUMBERED, Scheme)):
            return None
        box, law = self.boxes[0]
        rest = tuple((0, size) for size in self.shape[1:])
        if law == Constant(0.0) and box[0][1] == 1 and box[1:] == rest:
            return self.law, box[0][0]
        return None

    def _is_tiled(self) -> bool:
        """Whether the boxes fill it, side by side along one axis."""
        boxes = [box for box, _ in self.boxes]
        parted = [axis for axis, size in enumerate(self.shape) if any(box[axis] != (0, size) for box in boxes)]
        if len(parted) != 1:
            return not parted
        reached = 0
        for first, size in sorted(box[parted[0]] for box in boxes):
            if first > reached:
                return False
            reached = max(reached, first + size)
        return reached == self.shape[parted[0]]


@dataclass(frozen=True, slots=True)
class View:
    """A tensor as a piece of memory and where in it the elements stand."""

    key: int
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the tape, with a `View` for each tensor whose history matters and copies of the others."""

    function: Any
    args: Any
    kwargs: Any
    results: tuple[View | None, ...]
    reads: frozenset[int]
    writes: frozenset[int]
    covers: frozenset[int]  # of what it writes, what it makes or overwrites as a whole
    draws: bool


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps what is done to the tensors it knows, and to whatever depends on them or on a draw."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stores: dict[int, Store] = {}
        self.tape: list[Operation] = []
        self.has_other_draws = False  # of Python's generator or NumPy's, by this thread or another meanwhile
        self._generators: dict[torch.Generator, Tensor] = {}  # how those were that the code draws with
        self._draws: list[int] = []  # the memory that each draw was written to
        self._ends: dict[int, list[tuple[int, View | None, int]]] = {}  # from where to where a draw was written
        self._born: dict[int, Tensor] = {}  # memory on the CPU that was made while recording, so that it may be written

    def stand_in(self, tensor: Tensor, name: str, initial: Tensor | None = None) -> Tensor:
        """A tensor without memory in place of one whose values are asked for, or only read where there is `initial`."""
        made = torch.empty(tuple(tensor.shape), dtype=tensor.dtype, device="meta")
        self.stores[_key(made)] = Store(tuple(made.shape), made, Start.UNWRITTEN, name, initial)
        return made

    def keep(self, tensor: Tensor) -> None:
        """Know a tensor that has values, as they are."""
        law, flat = self.law(tensor.detach()), _flat(tensor)
        store = Store(tuple(tensor.shape), tensor, law, initial=flat.clone())
        if flat.numel() != tensor.numel() or not tensor.is_contiguous():
            store.shape, store.law = tuple(flat.shape), None
        self.stores[_key(tensor)] = store

    def knows(self, tensor: Tensor) -> bool:
        """Whether it has the history of a tensor."""
        return _key(tensor) in self.stores

    def forget(self, tensor: Tensor) -> None:
        """Take what was written so far as not written."""
        store = self.stores[_key(tensor)]
        store.law, store.boxes, store.origins = Start.UNWRITTEN, [], frozenset()

    def call(self, tensor: Tensor, name: str) -> None:
        """Say afterwards which stream is drawn into a tensor."""
        if self.knows(tensor) and not self.stores[_key(tensor)].name:
            self.stores[_key(tensor)].name = name

    def claim_scheme(self, tensor: Tensor, name: str) -> bool:
        """Say whose values are drawn by a scheme; False where the draws in them are of another's stream.

        Raises
        ------
        NotRecordedError
            If these draws are another's already.
        """
        drawn = [self.stores[self._draws[origin]] for origin in self.stores[_key(tensor)].origins]
        if any(store.name not in ("", name) for store in drawn):
            return False
        for store in drawn:
            self._give(store, name)
        return True

    def _give(self, store: Store, name: str) -> None:
        if not store.name and store.given_to not in ("", name):
            raise NotRecordedError(f"it shares what it draws with {store.given_to}")
        store.given_to = name

    def claim(self, tensor: Tensor, name: str) -> bool:
        """Say whose values are computed, and whether from draws.

        Raises
        ------
        NotRecordedError
            If these draws are another's already: the two would be equal in the model, and of two streams here.
        """
        draws = [operation for operation in self.find_needed([_key(tensor)]) if operation.draws]
        for operation in draws:
            for key in operation.writes:
                self._give(self.stores[key], name)
        return bool(draws)

    def store_of(self, tensor: Tensor) -> Store | None:
        """The memory of a tensor, where it is recorded and the tensor is all of it."""
        store = self.stores.get(_key(tensor))
        return store if store is not None and _is_whole(tensor, store) and tuple(tensor.shape) == store.shape else None

    def record(self, function: Callable[[], Result], seed: int = 0) -> Result:
        """Call a function, and record what it does; nothing else changes, PyTorch's generator neither.

        Others that record wait, as PyTorch's generator is one for all threads. The seed is for what PyTorch draws
        meanwhile, on which nothing may depend.
        """
        return within(_Recording(self, seed), function)

    # What is seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do one operation, and keep what it did."""
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        is_known = any(_key(tensor) in self.stores for tensor in tensors)
        name = func._schema.name.partition("::")[2]
        if is_known and name == "_local_scalar_dense":
            return self.compute_checked(self.view(args[0]), "").item()
        draws = torch.Tag.nondeterministic_seeded in func.tags
        generator = kwargs.get("generator")
        if generator is not None:
            self._generators.setdefault(generator, generator.get_state())
        targets = [
            args[place] if place < len(args) else kwargs.get(argument.name)
            for place, argument in enumerate(func._schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        targets = [target for target in targets if isinstance(target, Tensor)]
        is_foreign = any(not target.is_meta and _key(target) not in self._born for target in targets)
        is_plain = not (is_known or draws or is_foreign or name.startswith(("empty", "new_empty")))
        if is_plain and not _is_meta(kwargs) and not any(tensor.is_meta for tensor in tensors):
            return self._note_made(func(*args, **kwargs), [] if name == "lift_fresh" else tensors)
        for target in targets:
            self._adopt(target)
        kept_args, kept_kwargs = tree_map_only(Tensor, self._freeze, (args, kwargs))
        law = _LAWS[name](self, args, kwargs) if name in _LAWS and not func.is_view else None
        if isinstance(law, (*_NUMBERED, Scheme)) and not isinstance(law, Constant):
            for target in targets:
                if not all(self._ends_in(target, tensor) for tensor in tensors):
                    law = None
        result = self._do(func, args, kwargs, tensors, targets)
        if func.is_view:
            return result
        reads = frozenset(view.key for view in tree_leaves((kept_args, kept_kwargs)) if isinstance(view, View))
        written = frozenset(map(_key, targets))
        origins = frozenset[int]().union(*(self.stores[key].origins for key in reads - written))
        leaves, covered = tree_leaves(result), set()
        for made in leaves:
            if isinstance(made, Tensor) and not self.knows(made):
                self.stores[_key(made)] = _store_of_result(made, law)
                self.stores[_key(made)].origins = origins | self._begin_draw(made, draws)
                covered.add(_key(made))
        results = tuple(self.view(made) if isinstance(made, Tensor) else None for made in leaves)
        for target in targets:
            if self._write(target, law, origins, draws, is_covering=name in _OVERWRITE):
                covered.add(_key(target))
        if written or covered:
            writes, covers = written | covered, frozenset(covered)
            operation = Operation(func, kept_args, kept_kwargs, results, reads, writes, covers, draws)
            self.tape.append(operation)
        return result

    def view(self, tensor: Tensor) -> View:
        """A recorded tensor, as it stands in its memory."""
        offset = int(tensor.storage_offset())
        return View(_key(tensor), tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()), offset)

    def _freeze(self, tensor: Tensor) -> View | Tensor:
        """An operand for the tape."""
        return self.view(tensor) if self._has_history(tensor) else tensor.detach().to("cpu", copy=True)

    def _adopt(self, target: Tensor) -> None:
        """Keep the history of a tensor that something known or drawn is written into."""
        if not self._has_history(target):
            self.keep(target)

    def _has_history(self, tensor: Tensor) -> bool:
        """Whether it has the history of a tensor; where not, the tensor must have values."""
        if not self.knows(tensor) and tensor.is_meta:
            raise NotRecordedError("a tensor of the meta device was made before, and its values are not known")
        return self.knows(tensor)

    def _do(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor], targets: list[Tensor]) -> Any:
        """Run it where there is no memory, or in memory made here; what was there before is not touched."""
        is_mixed = any(tensor.is_meta for tensor in tensors)
        for target in targets:
            if not target.is_meta and (is_mixed or _key(target) not in self._born):
                return target
        if is_mixed:
            args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
            if "device" in kwargs:
                kwargs["device"] = torch.device("meta")
        return self._note_made(func(*args, **kwargs), tensors)

    def _note_made(self, result: Any, operands: list[Tensor]) -> Any:
        """Remember what memory was made while recording: that of results, unless they are views of what was there."""
        given = {_key(operand) for operand in operands}
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and not made.is_meta and _key(made) not in given:
                self._born[_key(made)] = made
        return result

    # Draws

    def _begin_draw(self, target: Tensor, draws: bool) -> frozenset[int]:
        """The draw that a tensor gets just now."""
        if not draws:
            return frozenset()
        origin, store = len(self._draws), self.stores[_key(target)]
        self._draws.append(_key(target))
        if store.name or not _is_whole(target, store):
            self._ends[origin] = [(0, None, _key(target))]
        return frozenset([origin])

    def _ends_in(self, target: Tensor, source: Tensor) -> bool:
        """Whether what was drawn is written to one place: a second one has the same values, and no draws of its own."""
        store = self.stores.get(_key(source))
        if store is None or _key(source) == _key(target) or isinstance(self.law(source), Constant):
            return True
        view, is_first = self.view(source), True
        for origin in store.origins:
            for key, other, end in self._ends.setdefault(origin, []):
                is_moved_on = end == view.key and not store.name
                is_beside = key == view.key and other is not None and _are_apart(view, other, store.shape)
                is_first = is_first and (is_moved_on or is_beside)
            self._ends[origin].append((view.key, view, _key(target)))
        return is_first

    # Laws

    def _write(self, target: Tensor, law: Law, origins: frozenset[int], draws: bool, is_covering: bool) -> bool:
        """A tensor was written to, its elements being of this law now; whether nothing is left of all its memory."""
        store = self.stores[_key(target)]
        is_whole = _is_whole(target, store)
        before = frozenset[int]() if is_whole and is_covering else store.origins
        store.origins = before | origins | self._begin_draw(target, draws)
        box = None if is_whole else _box(self.view(target), store.shape)
        if is_whole:
            is_same = tuple(target.shape) == store.shape and target.is_contiguous()
            store.law, store.boxes = law if is_same or isinstance(law, _NUMBERED) else None, []
        elif box is None or not isinstance(law, _NUMBERED):
            store.law, store.boxes = None, []
        elif store.law is not None:
            store.boxes = [(other, kept) for other, kept in store.boxes if other != box]
            store.boxes.append((box, law))
        return is_whole and is_covering

    def law(self, operand: Any) -> Law:
        """What a number or the elements of a tensor are distributed as."""
        if isinstance(operand, int | float):
            return Constant(float(operand))
        if not isinstance(operand, Tensor):
            return None
        store = self.stores.get(_key(operand))
        if store is not None:
            if isinstance(store.law, Start) and not store.boxes:
                return None
            if _is_whole(operand, store):
                law = store.whole()
                return law if isinstance(law, _NUMBERED) or tuple(operand.shape) == store.shape else None
            box = _box(self.view(operand), store.shape)
            held = [law for other, law in store.boxes if other == box]
            is_plain = not store.boxes and isinstance(store.law, _NUMBERED)
            return held[-1] if held else store.law if is_plain else None
        if operand.is_meta or not operand.numel() or operand.is_complex():
            return None
        first = operand.flatten()[0]
        return Constant(float(first)) if bool((operand == first).all()) else None

    def keep_scheme(self, tensor: Tensor, scheme: str) -> Tensor:
        """A function of torch.nn.init was called: keep it as the scheme it is."""
        self._adopt(tensor)
        view, store = self.view(tensor), self.stores[_key(tensor)]
        law: Law = read_scheme(scheme)
        if not _is_whole(tensor, store) or tuple(tensor.shape) != store.shape or not tensor.is_contiguous():
            law = _resolve(law, tuple(tensor.shape))
        key = frozenset([view.key])
        is_covered = self._write(tensor, law, frozenset(), draws=True, is_covering=True)
        self.tape.append(Operation(scheme, (view,), {}, (view,), key, key, key if is_covered else frozenset(), True))
        return tensor

    # Once more

    def find_needed(self, keys: Sequence[int]) -> list[Operation]:
        """The operations that some memory depends on, first to last.

        Raises
        ------
        NotRecordedError
            If one of them draws in a way that has no scheme.
        """
        found = [self.tape[number] for number in self._find_numbers(keys)]
        for operation in found:
            if operation.draws and _as_draw(operation) is None:
                raise NotRecordedError(f"it is drawn by {operation.function}, which is no scheme")
        return found[::-1]

    def _find_numbers(self, keys: Sequence[int]) -> Iterator[int]:
        """Where on the tape the operations stand that some memory depends on, last to first."""
        wanted = set(keys)
        for number in range(len(self.tape) - 1, -1, -1):
            operation = self.tape[number]
            if operation.writes & wanted:
                wanted -= operation.covers
                wanted |= operation.reads - operation.covers
                yield number

    def find_unsteady(self, again: Recorder) -> frozenset[int]:
        """Where on the tape another recording of the same code has other values.

        Raises
        ------
        NotRecordedError
            If it did other operations.
        """
        if len(self.tape) != len(again.tape):
            raise NotRecordedError("it does not do the same twice, but for what PyTorch draws")
        keys: dict[int, int] = {}

        def is_same(one: Any, other: Any) -> bool:
            if not isinstance(one, View) or not isinstance(other, View):
                return _is_same(one, other)
            if one.key not in keys:
                before = self.stores[one.key].initial, again.stores[other.key].initial
                keys[one.key] = other.key if _is_same(*before) else -1
            return replace(one, key=keys[one.key]) == other

        pairs = enumerate(zip(map(_list_leaves, self.tape), map(_list_leaves, again.tape), strict=True))
        return frozenset(
            number for number, (one, other) in pairs if len(one) != len(other) or not all(map(is_same, one, other))
        )

    def is_steady(self, tensor: Tensor, unsteady: frozenset[int]) -> bool:
        """Whether a tensor depends on none of these operations."""
        return not unsteady or unsteady.isdisjoint(self._find_numbers([_key(tensor)]))

    def compute_checked(self, view: View, stream: str, seed: int | None = None) -> Tensor:
        """The values of a recorded tensor, where they do not depend on what nobody wrote."""
        values = self.compute(view, stream, seed, unwritten=math.nan)
        if not torch.equal(values, self.compute(view, stream, seed, unwritten=77.0)):
            raise NotRecordedError("it depends on values that were there before, or were never written")
        return values

    def compute(
        self, view: View, stream: str, seed: int | None = None, prefix: str = "", unwritten: float = 0.0
    ) -> Tensor:
        """The values of a recorded tensor, on the CPU; without a seed only where nothing is drawn."""
        operations = self.find_needed([view.key])
        if seed is None and any(operation.draws for operation in operations):
            raise NotRecordedError("the code looks at what it has drawn")
        held: dict[int, Tensor] = {}
        drawn: dict[str, int] = {}

        def tensor(leaf: View) -> Tensor:
            if leaf.key not in held:
                store = self.stores[leaf.key]
                if store.initial is not None:
                    held[leaf.key] = store.initial.detach().to("cpu", copy=True).contiguous().view(-1)
                else:
                    nbytes = store.tensor.untyped_storage().nbytes()
                    memory = torch.empty(nbytes // leaf.dtype.itemsize, dtype=leaf.dtype, device="cpu")
                    held[leaf.key] = _mark(memory, unwritten)
            flat = held[leaf.key]
            flat = flat if flat.dtype == leaf.dtype else flat.view(leaf.dtype)
            return torch.as_strided(flat, leaf.size, leaf.stride, leaf.offset)

        with torch.no_grad():
            for operation in operations:
                args, kwargs = tree_map_only(View, tensor, (operation.args, operation.kwargs))
                if "device" in kwargs:
                    kwargs["device"] = torch.device("cpu")
                if not operation.draws:
                    result = operation.function(*args, **kwargs)
                    if operation.function._schema.name.startswith(("aten::empty", "aten::new_empty")):
                        _mark(result, unwritten)
                else:
                    scheme, place = _as_draw(operation)  # type: ignore[misc]
                    name = self.stores[place.key].name or stream
                    count = drawn[name] = drawn.get(name, -1) + 1
                    own = f"{prefix}{name}" + (f"#{count}" if count else "")
                    result = init_(tensor(place), scheme, seed=seed, name=own)
                for made, saved in zip(tree_leaves(result), operation.results, strict=True):
                    if saved is not None and saved.key in operation.covers and saved.key not in held:
                        held[saved.key] = _flat(made)
            return tensor(view)


_modes: Any = _python_dispatch  # without its annotations, which are partial
_TWICE = "_is_in_any_mode_without_ignore_compile_internals"
_set_in_cpp = getattr(_modes, "set_is_in_mode_without_ignore_compile_internals", None)  # newer torch has it twice


class _Recording(Block):
    """Has what its thread does recorded. What is begun inside of it ends with it, whatever an interrupt left."""

    is_alone = True  # nothing is drawn here that a block of accelerate() would count, or skip

    def __init__(self, recorder: Recorder, seed: int) -> None:
        super().__init__()
        self.recorder, self.seed, self.mode = recorder, seed, _FromData(self)
        self.functions_around = modes_here()
        self.dispatch_around = torch._C._len_torch_dispatch_stack()
        self.was_enabled = torch.is_grad_enabled()
        self.flags: dict[str, bool] = {}  # of PyTorch's, whether anybody is in a mode
        self.state: Tensor | None = None  # of PyTorch's generator
        self.others: tuple[Any, Any] | None = None  # of Python's and NumPy's

    def answer(self, call: TorchCall) -> Any:
        """Keep functions of torch.nn.init that stand for a scheme as that."""
        if call.name in _AS_SCHEMES and isinstance(call.tensor, Tensor):
            if not call.tensor.numel():
                return call.tensor
            with suppress(LeftToTorchError):
                return self.take(call)
        return call.by_torch()

    def draw(self, tensor: Tensor, scheme: str, generator: torch.Generator | None, seed: int | None) -> Tensor:
        """Keep the scheme; what is drawn is drawn later, from the tensor's own stream."""
        return self.recorder.keep_scheme(tensor, scheme)

    def begin(self) -> None:
        """Wait for those that record in other threads, and record."""
        while (first := _turn.setdefault("", self)) is not self and first.thread != self.thread:
            time.sleep(0.001)
        self.flags = {name: flag for name, flag in vars(_modes).items() if type(flag) is bool}
        with outside_modes():
            self.state = torch.default_generator.get_state()
        self.others = random.getstate(), np.random.get_state()
        super().begin()
        torch._C._set_grad_enabled(False)
        self.recorder.__enter__()  # type: ignore[no-untyped-call]
        torch.default_generator.manual_seed(self.seed)

    def end(self) -> None:
        """Put back what was there."""
        if self.thread == threading.get_ident():
            while torch._C._len_torch_dispatch_stack() > self.dispatch_around:
                _modes._pop_mode()
            torch._C._set_grad_enabled(self.was_enabled)
        vars(_modes).update(self.flags)
        if _set_in_cpp is not None:
            _set_in_cpp(self.flags[_TWICE])
        if self.state is not None:
            for generator, begun in self.recorder._generators.items():
                generator.set_state(begun)
            with outside_modes():
                if not torch.equal(self.state, torch.default_generator.get_state()):
                    torch.default_generator.set_state(self.state)
            self.state = None
        if self.others is not None:
            now = random.getstate(), np.random.get_state()
            pairs = zip(self.others[1], now[1], strict=True)
            if self.others[0] != now[0] or any(np.any(one != other) for one, other in pairs):
                self.recorder.has_other_draws = True
                random.setstate(self.others[0])
                np.random.set_state(self.others[1])
            self.others = None
        super().end()
        if _turn.get("") is self:
            del _turn[""]

    def modes_left(self, modes: list[TorchFunctionMode]) -> list[TorchFunctionMode]:
        """Those of this thread's that are to stay."""
        return self.functions_around


# Those of torch.nn.init that stand for their schemes.
_AS_SCHEMES = (
    "trunc_normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_",
    "sparse_", "eye_", "dirac_",
)  # fmt: skip

# Who records now: an entry that is there or not, and says whose it is, so that nobody has it without knowing.
_turn: dict[str, _Recording] = {}


def _forget_other_threads() -> None:
    """In a forked process: a thread that is not there gives its turn back to nobody.

    It has it for longer than blocks.py knows of its block.
    """
    recording = _turn.get("")
    if recording is not None and recording.thread != threading.get_ident():
        recording.end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)


def recorder_here() -> Recorder:
    """The recorder of this thread."""
    recording = block_here()
    assert isinstance(recording, _Recording)
    return recording.recorder


class WithoutMemory(TorchFunctionMode):
    """Has what constructors make stand on the meta device, but for what they make of data, which is small."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch."""
        kwargs = kwargs or {}
        if func in _device_constructors() and func not in _OF_DATA and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


class _FromData(BlockMode):
    """Tensors of given data are made on the CPU first, so that what goes to the meta device is seen.

    What is put in place of the data of a stand-in goes there too.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch."""
        kwargs = kwargs or {}
        if func in _OF_DATA and _is_meta(kwargs):
            return func(*args, **{**kwargs, "device": "cpu"}).to("meta")
        if func == _SET_DATA and args[0].is_meta and not args[1].is_meta:
            args = (args[0], args[1].detach().to("meta"))
        return func(*args, **kwargs)


_SET_DATA = torch.Tensor.data.__set__  # type: ignore[attr-defined]
_OF_DATA = (torch.tensor, torch.as_tensor, torch.asarray)


def as_scheme(law: Law) -> Scheme | None:
    """The scheme of a law, None where there is none."""
    match law:
        case Scheme():
            return law
        case Constant(0.0 | 1.0 as value):
            return read_scheme("ones" if value else "zeros")
        case Uniform(low, high):
            law = Uniform(low, high)  # rounded to the nearest, as all that is computed
    with suppress(ValueError):  # such as an infinite constant
        return scheme_of(law) if isinstance(law, _NUMBERED) else None
    return None


# Memory and views


def _list_leaves(operation: Operation) -> list[Any]:
    return tree_leaves((operation.function, operation.args, operation.kwargs, operation.results))


def _is_same(one: Any, other: Any) -> bool:
    """Whether two operands are, nan for nan; generators are, as what is drawn is drawn anew."""
    if one is other:
        return True
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
            return False
        return bool(((one == other) | ((one != one) & (other != other))).all())
    if type(one) is not type(other):
        return False
    return isinstance(one, torch.Generator) or bool(one == other) or bool(one != one and other != other)


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _flat(tensor: Tensor) -> Tensor:
    """All the memory that a tensor stands in."""
    return torch.as_strided(tensor.detach(), (tensor.untyped_storage().nbytes() // tensor.element_size(),), (1,), 0)


def _store_of_result(made: Tensor, law: Law) -> Store:
    size = made.untyped_storage().nbytes() // made.element_size()
    if made.is_contiguous() and made.numel() == size:
        return Store(tuple(made.shape), made, law)
    return Store((size,), made, law if isinstance(law, (*_NUMBERED, Start)) else None)


def _mark(memory: Tensor, unwritten: float) -> Tensor:
    """Memory in which it can be seen what nobody writes to."""
    return memory.fill_(unwritten if memory.is_floating_point() or unwritten == unwritten else 0.0)


def _is_meta(kwargs: dict[str, Any]) -> bool:
    device = kwargs.get("device")
    return device is not None and torch.device(device).type == "meta"


def _is_whole(tensor: Tensor, store: Store) -> bool:
    """Whether a tensor holds every element of its memory, in whatever order."""
    is_spread = tensor.numel() > 1 and 0 in tensor.stride()
    return tensor.numel() == math.prod(store.shape) and not is_spread


def _box(view: View, shape: tuple[int, ...]) -> Box | None:
    """The part of a contiguous tensor that a view is, where it is one."""
    firsts, sizes, strides, rest = [], [1] * len(shape), [], view.offset
    for axis in range(len(shape)):
        strides.append(math.prod(shape[axis + 1 :]))
        firsts.append(rest // max(1, strides[-1]))
        rest %= max(1, strides[-1])
    for size, stride in zip(view.size, view.stride, strict=True):
        axes = [axis for axis, other in enumerate(strides) if other == stride and shape[axis] > 1 and sizes[axis] == 1]
        if size == 1:
            continue
        if not axes:
            return None
        sizes[axes[0]] = size
    if any(first + size > whole for first, size, whole in zip(firsts, sizes, shape, strict=True)):
        return None
    return tuple(zip(firsts, sizes, strict=True))


def _are_apart(one: View, other: View, shape: tuple[int, ...]) -> bool:
    """Whether two parts of a tensor have no element in common, as far as that is seen."""
    boxes = _box(one, shape), _box(other, shape)
    if boxes[0] is None or boxes[1] is None:
        return False
    pairs = zip(boxes[0], boxes[1], strict=True)
    return any(first + size <= begin or begin + length <= first for (first, size), (begin, length) in pairs)


# Laws of PyTorch's operations

_LawOf: TypeAlias = Callable[[Recorder, Any, Any], Law]


def _same(recorder: Recorder, args: Any, kwargs: Any) -> Law:
    return recorder.law(args[0])


def _number(place: int) -> _LawOf:
    """One number for all elements, which are not drawn one by one where it is drawn."""

    def law(recorder: Recorder, args: Any, kwargs: Any) -> Law:
        number = recorder.law(args[place])
        return number if isinstance(number, Constant) else None

    return law


def _copy(recorder: Recorder, args: Any, kwargs: Any) -> Law:
    law = recorder.law(args[1])
    if isinstance(law, Constant):
        return law
    source, target = recorder.stores.get(_key(args[1])), recorder.stores[_key(args[0])]
    if source is None or source.name or source.given_to not in ("", target.name):
        return None  # values that another has too, and gets from its own stream
    source.given_to = target.name
    is_plain = args[0].shape == args[1].shape and args[0].is_floating_point() and args[1].is_floating_point()
    return law if is_plain else None


def _cast(recorder: Recorder, args: Any, kwargs: Any) -> Law:
    law, dtype = recorder.law(args[0]), kwargs.get("dtype") or args[0].dtype
    return law if dtype.is_floating_point or isinstance(law, Constant) else None


def _normal(recorder: Recorder, args: Any, kwargs: Any) -> Law:
    mean, std = _read_numbers(args[1:], kwargs, ("mean", 0.0), ("std", 1.0))
    return Normal(mean, std) if std > 0.0 else Constant(mean)


def _normal_made(recorder: Recorder, args: Any, kwargs: Any) -> Law:
    of_tensors = any(isinstance(argument, Tensor | View) for argument in args)
    return None if of_tensors else _normal(recorder, (None, *args), {})


def _uniform(recorder: Recorder, args: Any, kwargs: Any) -> Law:
    low, high = _read_numbers(args[1:], kwargs, ("from", 0.0), ("to", 1.0))
    return Uniform(low, high) if low < high else Constant(low)


def _read_numbers(args: Any, kwargs: Any, *named: tuple[str, float]) -> list[float]:
    """The numbers of these names, by place or by name; None is the default."""
    given = [args[place] if place < len(args) else kwargs.get(name) for place, (name, _) in enumerate(named)]
    return [float(default if number is None else number) for number, (_, default) in zip(given, named, strict=True)]


def _with_number(recorder: Recorder, args: Any, in_any_order: bool) -> tuple[Law, float]:
    """The law of an operand, and the number beside it, which is the second where the order matters."""
    first, second = recorder.law(args[0]), recorder.law(args[1])
    if in_any_order and isinstance(first, Constant):
        first, second = second, first
    if not isinstance(second, Constant) or not _keeps_shape(recorder, args):
        return None, math.nan
    return _with_numbers(first, args), second.value


def _times(recorder: Recorder, args: Any, kwargs: Any) -> Law:
    law, number = _with_number(recorder, args, in_any_order=True)
    return _move(law, lambda x: x * number, 0.0)


def _over(recorder: Recorder, args: Any, kwargs: Any) -> Law:
    law, number = _with_number(recorder, args, in_any_order=False)
    return None if number == 0.0 or kwargs.get("rounding_mode") else _move(law, lambda x: x / number, 0.0)


def _plus(sign: float) -> _LawOf:
    def law(recorder: Recorder, args: Any, kwargs: Any) -> Law:
        alpha = sign * (args[2] if len(args) > 2 else kwargs.get("alpha", 1))
        law, number = _with_number(recorder, args, in_any_order=alpha == 1)
        return _move(law, lambda x: x, alpha * number)

    return law


def _negative(recorder: Recorder, args: Any, kwargs: Any) -> Law:
    return _move(_with_numbers(recorder.law(args[0]), args), lambda x: -x, 0.0)


def _inverse_error(recorder: Recorder, args: Any, kwargs: Any) -> Law:
    """What truncated normals are made of elsewhere: the inverse of erf of a uniform number."""
    match recorder.law(args[0]):
        case Uniform(low, high) if -1.0 <= low < high <= 1.0:
            ends = torch.tensor([low, high], dtype=torch.float64, device="cpu").erfinv() * math.sqrt(2.0)
            low, high = ends.tolist()
            if math.isinf(low) and math.isinf(high):
                return Normal(0.0, math.sqrt(0.5))
            return TruncatedNormal(0.0, math.sqrt(0.5), low, high)
    return None


def _clamped(recorder: Recorder, args: Any, kwargs: Any) -> Law:
    """Bounds change nothing where nothing is beyond them but for rounding."""
    if any(isinstance(bound, Tensor) for bound in (*args[1:], *kwargs.values())):
        return None
    low, high = _read_numbers(args[1:], kwargs, ("min", -math.inf), ("max", math.inf))
    match recorder.law(args[0]):
        case TruncatedNormal(mean, std, least, most) as law:
            near = 1e-6 * std
            is_idle = low <= mean + std * least + near and high >= mean + std * most - near
            return law if is_idle else None
        case Normal(mean, std) as law:  # nothing drawn is as far from the mean as this
            return law if low <= mean - 37.0 * std and high >= mean + 37.0 * std else None
        case Uniform(least, most) as law:
            return law if low <= least and high >= most else None
    return None


def _keeps_shape(recorder: Recorder, args: Any) -> bool:
    """Whether numbers alone were spread: the result is no larger than the operand that is drawn."""
    operands = [operand for operand in args[:2] if isinstance(operand, Tensor)]
    largest = max(operand.numel() for operand in operands)
    drawn = [operand for operand in operands if not isinstance(recorder.law(operand), Constant)]
    sizes = {tuple(operand.shape) for operand in operands if operand.numel() > 1}
    return len(sizes) <= 1 and all(operand.numel() == largest for operand in drawn)


def _with_numbers(law: Law, args: Any) -> Law:
    """A scheme by fans with its numbers, which can then be scaled."""
    shapes = [tuple(operand.shape) for operand in args[:2] if isinstance(operand, Tensor)]
    return _resolve(law, max(shapes, key=math.prod))


def _resolve(law: Law, shape: tuple[int, ...]) -> Law:
    distribution = law.distribution(shape, 1, 0) if isinstance(law, Scheme) else law
    return distribution if isinstance(distribution, _NUMBERED) else None


def _move(law: Law, scaled: Callable[[float], float], by: float) -> Law:
    match law:
        case Constant(value):
            return Constant(scaled(value) + by)
        case Normal(mean, std) if scaled(std) != 0.0:
            return Normal(scaled(mean) + by, abs(scaled(std)))
        case Uniform(low, high) if scaled(high) != scaled(low):
            low, high = sorted((scaled(low) + by, scaled(high) + by))
            return Uniform(low, high)
        case TruncatedNormal(mean, std, low, high) if scaled(std) != 0.0:
            low, high = (low, high) if scaled(std) > 0.0 else (-high, -low)
            return TruncatedNormal(scaled(mean) + by, abs(scaled(std)), low, high)
    return None


_LAWS: dict[str, _LawOf] = {
    **dict.fromkeys(("zero_", "zeros", "zeros_like", "new_zeros"), lambda *_: Constant(0.0)),
    **dict.fromkeys(("ones", "ones_like", "new_ones"), lambda *_: Constant(1.0)),
    "fill_": _number(1), "full": _number(1), "full_like": _number(1), "fill": _number(1), "scalar_tensor": _number(0),
    "new_full": _number(2),
    **dict.fromkeys(("clone", "lift_fresh", "_unsafe_view"), _same), "copy_": _copy, "_to_copy": _cast,
    **dict.fromkeys(("randn", "randn_like"), lambda *_: Normal(0.0, 1.0)), "normal_": _normal, "normal": _normal_made,
    **dict.fromkeys(("rand", "rand_like"), lambda *_: Uniform(0.0, 1.0)), "uniform_": _uniform,
    **dict.fromkeys(("empty", "empty_like", "new_empty"), lambda *_: Start.UNWRITTEN),
    **dict.fromkeys(("empty_strided", "new_empty_strided"), lambda *_: Start.UNWRITTEN),
    "mul": _times, "mul_": _times, "div": _over, "div_": _over, "neg": _negative, "neg_": _negative,
    "add": _plus(1.0), "add_": _plus(1.0), "sub": _plus(-1.0), "sub_": _plus(-1.0),
    "erfinv": _inverse_error, "erfinv_": _inverse_error, "clamp": _clamped, "clamp_": _clamped,
}  # fmt: skip
_OVERWRITE = ("zero_", "fill_", "copy_", "normal_", "uniform_")


_DRAWS = ("normal_", "uniform_", "randn", "randn_like", "rand", "rand_like", "normal")


def _as_draw(operation: Operation) -> tuple[str, View] | None:
    """A draw as a scheme and the tensor that it fills or makes."""
    if isinstance(operation.function, str):
        return operation.function, operation.args[0]
    name = operation.function._schema.name.partition("::")[2]
    place = operation.args[0] if name.endswith("_") else operation.results[0]
    if name not in _DRAWS or not isinstance(place, View):
        return None
    scheme = as_scheme(_LAWS[name](None, operation.args, operation.kwargs))  # type: ignore[arg-type]
    return None if scheme is None else (str(scheme), place)
