"""Models: initialize every parameter by rules, where it stands or on the way from the meta device."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from winit_fast import Scheme
from winit_fast.fans import matrices_of
from winit_fast.initializer import Initializer
from winit_fast.messages import as_int, quote
from winit_fast.pages import is_allowed
from winit_fast.parallel import default_threads
from winit_fast.small import SmallPlan

from .._memory.torch import name_of
from .dtensor import refuse_unusable_here
from .parameters import ComputedTensor, FoundParameter, find_parameters, meta_buffers, strip_wrappers
from .plain import (
    FILLED,
    PLAIN,
    fill_many_small,
    is_unreal,
    is_usual,
    leaves_graph,
    refuse_absent,
    small_plan,
)
from .recipes import as_rules
from .rules import Rule, Rules, matches
from .tensors import as_dtype, init_

if TYPE_CHECKING:  # it takes a tenth of a second to import, and few models are asked
    from .asking import Answer, Values

__all__ = ["ModuleEntry", "ModuleReport", "init_module_", "materialize_"]

BufferMaker: TypeAlias = Callable[[nn.Module, str, Tensor], Tensor | None]

NOT_WRITTEN = "on the meta device: not written, see materialize_"


@dataclass(frozen=True, slots=True)
class ModuleEntry:
    """What became of one parameter.

    Attributes
    ----------
    name : str
        Its qualified name, which is its stream.
    also : tuple of str
        Other names of the same parameter, where weights are tied.
    shape : tuple of int
        The global one.
    dtype : torch.dtype
    scheme : Scheme or None
        None where it was left as it was.
    rule : Rule or None
        The rule that took it; None where it never came to rules.
    note : str
        Why it was left, or what else was done: empty for most.
    """

    name: str
    also: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    scheme: Scheme | None
    rule: Rule | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ModuleReport:
    """Which rule took which parameter; ``str`` of it is a table.

    Attributes
    ----------
    entries : tuple of ModuleEntry
        In the order of `named_parameters`.
    unused : tuple of Rule
        Rules that took nothing.
    """

    entries: tuple[ModuleEntry, ...]
    unused: tuple[Rule, ...]

    def __getitem__(self, name: str) -> ModuleEntry:
        for entry in self.entries:
            if name == entry.name or name in entry.also:
                return entry
        raise KeyError(name)

    def __iter__(self) -> Iterator[ModuleEntry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __str__(self) -> str:
        rows = [("parameter", "shape", "dtype", "scheme", "rule")]
        for entry in self.entries:
            scheme = "-" if entry.scheme is None else str(entry.scheme)
            dtype = name_of(entry.dtype)
            notes = [entry.rule.place] if entry.rule is not None else []
            notes += [entry.note] if entry.note else []
            notes += [f"also {', '.join(entry.also)}"] if entry.also else []
            rows.append((entry.name, " x ".join(map(str, entry.shape)) or "1", dtype, scheme, "; ".join(notes)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines += [f"took nothing: {rule.place}" for rule in self.unused if not rule.recipe]
        for recipe, count in Counter(rule.recipe for rule in self.unused if rule.recipe).items():
            lines.append(f"took nothing: {count} rules of {recipe}")
        return "\n".join(lines)


Entry, Report = ModuleEntry, ModuleReport  # as they were named first


@leaves_graph
def init_module_(
    module: nn.Module,
    rules: Rules,
    *,
    seed: SupportsIndex,
    prefix: str = "",
    leave: str | Sequence[str] = (),
    threads: SupportsIndex | None = None,
) -> ModuleReport:
    """Initialize every parameter of a model by rules, in place.

    The stream of a parameter is its qualified name, and so no other layer that is added, removed or moved changes its
    values, nor the number of ranks or pipeline stages. Names are those of the bare model: what `torch.compile`,
    activation checkpointing and (Distributed)DataParallel put into them is left out.

    Parameters
    ----------
    module : torch.nn.Module
    rules : str, Recipe, mapping, or sequence of Rule or pairs
        In order; the first that matches takes the parameter. The name of a ready recipe (``"torch"``; ``"own"`` is what
        the model's own code draws, and so is ``"hf"`` for models of transformers'), one that takes numbers
        (``recipes.gpt2(layers=12)``), ``{"*.weight": "he_normal", "*.bias": "zeros"}``, pairs of the same, or `Rule`
        objects, which can ask for the kind of module and give axes.
    seed : int
        In [0, 2^64). There is no default, as ranks must agree on it: ``seed=torch.initial_seed()`` follows
        `torch.manual_seed`.
    prefix : str, default ""
        What stands before the names, with its dot: of a part of a larger model, such as a pipeline stage,
        ``"layers.4."``. Rules and `leave` see the whole name.
    leave : str or sequence of str, optional
        Globs for parameters to be left as they are.
    threads : int, optional
        As in `init_`.

    Returns
    -------
    ModuleReport
        Which rule took which parameter.

    Raises
    ------
    TypeError, ValueError
        If a parameter is taken by no rule and not left, if a scheme does not fit a shape, dtype or parametrization, if
        FSDP1 flattened the parameters (initialize before, or use FSDP2's `fully_shard`), if DeepSpeed's ZeRO-3 holds
        them in parts (initialize inside of ``deepspeed.zero.GatheredParameters(parameters, modifier_rank=0)``), if
        one is made of other tensors, or if an argument cannot be used. Nothing has been written then.

    Notes
    -----
    Tied weights are initialized once, under the first of their names in the order of `named_parameters`: a pipeline
    stage that holds the last of them alone gives it another stream, and has to be sent the first. The row
    `padding_idx` of `torch.nn.Embedding` and `EmbeddingBag` is 0. Buffers are left alone, and so are parameters that
    transformers marked as loaded (`_is_hf_initialized`), those without elements and those on the meta device; the
    report says so.

    A tensor that its module computes (under `torch.nn.utils.parametrize`, weight_norm, spectral_norm, orthogonal) takes
    a rule as if it were a parameter, ``0.weight`` of its layer, and is assigned: the originals become what gives these
    values. Rules that match the originals' names alone fill the originals themselves.

    Fans are those of one unit of the owner: see `Rule`.

    Examples
    --------
    >>> import torch
    >>> from winit_fast import adapters
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    >>> print(adapters.torch.init_module_(model, {"*.weight": "he_normal", "*.bias": "zeros"}, seed=7))
    parameter  shape   dtype    scheme     rule
    0.weight   16 x 8  float32  he_normal  *.weight
    0.bias     16      float32  zeros      *.bias
    2.weight   4 x 16  float32  he_normal  *.weight
    2.bias     4       float32  zeros      *.bias
    """
    slots, report, is_settled = _plan(module, rules, seed, prefix, leave, threads)
    _write_all(slots, seed, threads, is_settled)
    return report


@leaves_graph
def materialize_(
    module: nn.Module,
    rules: Rules,
    *,
    seed: SupportsIndex,
    device: torch.device | str | int | None = None,
    dtype: torch.dtype | str | None = None,
    prefix: str = "",
    leave: str | Sequence[str] = (),
    buffers: BufferMaker | None = None,
    threads: SupportsIndex | None = None,
) -> ModuleReport:
    """Bring a model from the meta device straight to initialized memory, one parameter at a time.

    Every parameter on the meta device is replaced by a new one that keeps ties, `requires_grad` and the attributes set
    on it. Parameters that have memory already are initialized where they stand. Values are those of `init_module_`.

    Parameters
    ----------
    module : torch.nn.Module
        Built under ``torch.device("meta")`` or accelerate's `init_empty_weights`, and sharded or not by FSDP2's
        `fully_shard` since. accelerate unties weights: call ``model.tie_weights()`` before, where the model has it. An
        optimizer is to be made afterwards.
    rules, seed, prefix, leave, threads
        As in `init_module_`. Parameters that are left stay on the meta device.
    device : torch.device, str or int, optional
        Left out: the CPU; for a `DTensor` the kind of device of its mesh.
    dtype : torch.dtype or str, optional
        Of the floating-point parameters that come from the meta device. Left out: their own.
    buffers : callable, optional
        ``buffers(owner, name, buffer)`` fills one buffer that was on the meta device, or returns its value. All of them
        have memory by then, uninitialized. Needed where a buffer is on the meta device and nobody else knows its
        values: running statistics of PyTorch's normalization layers are reset, and models of transformers' are asked
        for theirs, as others are by ``recipes.own(model, build)``. Buffers keep their dtype.

    Returns
    -------
    ModuleReport
        Which rule took which parameter.

    Raises
    ------
    TypeError, ValueError
        As `init_module_`; if a buffer is on the meta device and nothing says how to fill it. Nothing has been
        allocated or written then.

    Examples
    --------
    >>> import torch
    >>> from winit_fast import adapters
    >>> with torch.device("meta"):
    ...     model = torch.nn.Linear(512, 256)
    >>> _ = adapters.torch.materialize_(model, "torch", seed=7, dtype=torch.bfloat16)
    >>> model.weight.device, model.weight.dtype
    (device(type='cpu'), torch.bfloat16)
    """
    target = None if device is None else torch.device(device)
    if target is not None and target.type == "meta":
        raise ValueError(f"device must have memory, got {target}")
    dtype = as_dtype(dtype)
    if dtype is not None and (dtype not in FILLED or dtype.is_complex):
        raise TypeError(f"dtype must be a floating-point type that init_ fills, got {quote(dtype)}")
    if buffers is not None and not callable(buffers):
        raise TypeError(f"buffers must be a callable of owner, name and buffer, got {quote(buffers)}")
    ordered = as_rules(rules, module)
    slots, report, _ = _plan(module, ordered, seed, prefix, leave, threads, dtype, target, is_materializing=True)
    if any(meta_buffers(module)):
        if buffers is None:
            from .asking import buffer_maker

            buffers = buffer_maker(ordered, module, seed)
        _materialize_buffers(module, prefix, target, buffers)
    _write_all(_bring(slots, target), seed, threads)
    _tell_fsdp(module)
    return report


# The plan: everything is checked before the first write


class Slot(NamedTuple):
    """What is to be written: a parameter, or the originals of a tensor that is computed."""

    entry: ModuleEntry
    first: FoundParameter
    arguments: dict[str, Any]
    tensor: ComputedTensor | None
    values: Values | None = None  # that take the place of a scheme
    small: SmallPlan | None = None  # where the parameter is like others

    @property
    def held(self) -> list[FoundParameter]:
        """All that it is made of."""
        return [self.first] if self.tensor is None else self.tensor.originals


class Slots:
    """Slots in their order, of which parameters that are alike share one: Python's collector looks at what is kept."""

    def __init__(self) -> None:
        self.like: list[Slot] = []
        self.entries: list[ModuleEntry] = []
        self.firsts: list[FoundParameter] = []

    def add(self, like: Slot, entry: ModuleEntry, first: FoundParameter) -> None:
        """Add a slot that is like another, but for its entry and its parameter."""
        self.like.append(like)
        self.entries.append(entry)
        self.firsts.append(first)

    def __iter__(self) -> Iterator[Slot]:
        for like, entry, first in zip(self.like, self.entries, self.firsts, strict=True):
            yield Slot(entry, first, *like[2:])


def _plan(
    module: nn.Module,
    rules: Rules,
    seed: SupportsIndex,
    prefix: str,
    leave: str | Sequence[str],
    threads: SupportsIndex | None,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    is_materializing: bool = False,
) -> tuple[Slots, ModuleReport, bool]:
    """What is to be written, what is said of it, and whether nobody else's code has run since all was looked at."""
    if not isinstance(module, nn.Module):
        hint = ": init_ fills a tensor" if isinstance(module, Tensor) else ""
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}{hint}")
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str, got {quote(prefix)}")
    if prefix and not prefix.endswith("."):
        raise ValueError(f"prefix must end with a dot, got {quote(prefix)}")
    left = (leave,) if isinstance(leave, str) else leave
    if not isinstance(left, Sequence) or not all(isinstance(pattern, str) for pattern in left):
        raise TypeError(f"leave must be a glob or a sequence of them, got {quote(leave)}")
    modules = dict(module.named_modules(remove_duplicate=False))
    for kind_of_part in set(map(type, modules.values())):
        if any(base.__name__ == "FullyShardedDataParallel" for base in kind_of_part.__mro__):
            raise TypeError(
                "module must have its own parameters, and FullyShardedDataParallel flattens them: initialize it before "
                "it is wrapped, or use fully_shard"
            )
    if seed is None:
        raise TypeError("seed must be an int, got None: seed=torch.initial_seed() follows torch.manual_seed")
    key = as_int("seed", seed)
    Initializer("normal").check((0,), seed=key, threads=threads)
    is_allowed()  # what is wrong with the environment is said before the first parameter is written
    if threads is None:
        default_threads()
    ordered = as_rules(rules, module)
    slots, entries, untaken, used, assigned = Slots(), [], [], set(), set()
    alike: dict[Hashable, Slot] = {}  # what was planned, by all that decides it but the name
    parameters = find_parameters(module, prefix, modules)
    for found in parameters:
        parameter, name, owner, around, tensor = found.parameter, found.name, found.owner, found.around, found.tensor
        is_meta, is_plain = parameter.is_meta, type(parameter) in PLAIN
        is_cast = dtype is not None and is_meta and parameter.is_floating_point()
        kind = dtype if is_cast and dtype is not None else parameter.dtype
        shape = () if not is_plain and is_lazy(parameter) else tuple(parameter.shape)
        also = found.also
        if getattr(parameter, "_is_hf_initialized", False):
            entries.append(ModuleEntry(name, also, shape, kind, None, None, "left: _is_hf_initialized"))
            continue
        if left and any(matches(known, pattern) for known in _names_of(found) for pattern in left):
            entries.append(ModuleEntry(name, also, shape, kind, None, None, "left: named in leave"))
            continue
        whole = tensor if tensor is not None and not _is_by_originals(tensor, ordered, left) else None
        if whole is not None:
            if id(whole) in assigned:
                continue
            assigned.add(id(whole))
            name, owner, around = whole.name, whole.how.owner, whole.around
        for rule in ordered:
            if rule.takes(name, owner, around):
                break
        else:
            untaken.append(name if whole is not None else f"{name} {shape}")
            continue
        used.add(id(rule))
        first = found if whole is None else whole.originals[0]
        asked = getattr(rule, "answer", None)  # where the model's own code says what it gets
        likeness, says = None, _UNASKED
        if (
            is_plain and tensor is None and asked is None and not found.shared and not found.elsewhere
            and not isinstance(owner, _NOT_ALIKE) and (is_usual(parameter) if not is_meta else
            parameter._base is None and getattr(parameter, "ds_shape", None) is None)  # and becomes a usual one
        ):  # fmt: skip
            says = rule.scheme_for(owner, name, parameter) if callable(rule.scheme) else _UNASKED
            likeness = (id(rule), says, type(owner), found.local, shape, kind, is_meta)
            twin = alike.get(likeness)
            if twin is not None:
                entries.append(ModuleEntry(name, also, shape, kind, twin.entry.scheme, rule, twin.entry.note))
                slots.add(twin, entries[-1], first)
                continue
        entry = ModuleEntry(name, also, shape, kind, None, None)
        if rule.scheme is not None or asked is not None:
            for each in [found] if whole is None else whole.originals:
                _refuse_formless(each)
        if whole is not None:
            try:
                like = whole.how.compute_current()
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            shape = tuple(like.shape)
            others = tuple(known for original in whole.originals for known in (original.name, *original.also))
            entry = ModuleEntry(name, others, shape, kind, None, None)
        scheme = rule.scheme_for(owner, name, parameter if whole is None else like) if says is _UNASKED else says
        answer: Answer | None = None if asked is None else asked(parameter)
        if answer is not None and answer.values is not None:
            answer.values.check(parameter)
            on_meta = parameter.is_meta and not is_materializing
            entries.append(replace(entry, rule=rule, note=NOT_WRITTEN if on_meta else answer.note))
            slots.add(Slot(entries[-1], first, {}, whole, answer.values), entries[-1], first)
            continue
        if scheme is None:
            entries.append(replace(entry, rule=rule, note="left by the rule" if answer is None else answer.note))
            continue
        if whole is None and tensor is not None and tensor.is_taken(rule):
            raise ValueError(
                f"rules must name all that {tensor.name} is computed from, or none, and {name} is only taken by "
                f"{rule.place!r}, which is for {tensor.name} too"
            )
        for other in found.shared:
            if other.is_taken(rule):
                raise ValueError(
                    f"rules must name {name} by itself, since other tensors share it, and it is only taken by "
                    f"{rule.place!r}, which is for {other.name} too, and that is computed from it"
                )
        padding = _padding(found.places if whole is None else [(owner, whole.how.local)])
        if answer is not None and answer.padding is not None:
            padding = answer.padding
        arguments = {**rule.axes(owner, name, len(shape), scheme), "padding_idx": padding}
        slot = Slot(replace(entry, rule=rule, scheme=scheme), first, arguments, whole)
        on_meta = parameter.is_meta and not is_materializing
        is_fake = not parameter.is_meta and is_unreal(parameter)
        try:
            if kind not in FILLED:
                raise TypeError(f"it must be of dtype {', '.join(map(str, FILLED))}, got {kind}")
            refuse_unusable_here(parameter if whole is None else like)
            initializer = Initializer(scheme, **arguments)
            initializer.check(shape, name_of(kind), seed=key)
            if whole is not None and not on_meta and not is_fake:
                _refuse_changing(whole, parameters, ordered, left)
                whole.how.refuse(_make_value(slot, device, key, threads), key, name)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"{name} of shape {shape}, by rule {rule.place!r}, cannot take {scheme}: {error}"
            ) from None
        notes = [] if padding is None else [f"row {padding} is 0"]
        given = matrices_of(arguments["matrices"])
        count = given if isinstance(given, int) else given[0]
        if count > 1:
            notes.append(f"{count} matrices")
        if whole is not None:
            notes.append(f"assigned through {whole.how.kind}")
        if on_meta:
            notes = [NOT_WRITTEN]
        elif is_fake:
            notes = ["fake: not written"]
        elif not math.prod(shape):
            notes = ["no elements: nothing written"]
        elif whole is None and not parameter.is_meta and not getattr(parameter, "_local_tensor", parameter).numel():
            notes = ["no part of it on this rank: nothing written"]
        entries.append(replace(slot.entry, note="; ".join(notes)))
        if likeness is not None:
            small = None if on_meta else small_plan(initializer, shape, kind)
            slot = alike[likeness] = slot._replace(entry=entries[-1], small=small)
        slots.add(slot, entries[-1], first)
    if untaken:
        if any(getattr(rule, "place", "") == "the model's own" and id(rule) not in used for rule in ordered):
            raise ValueError(
                f"rules must be of this model, and recipes.own was asked for another one: none takes "
                f"{', '.join(untaken)}; call recipes.own with the model that is initialized"
            )
        raise ValueError(
            f"rules must take every parameter, and none takes {', '.join(untaken)}; add a rule, or leave them as they "
            "are: by a rule with the scheme None, or by leave="
        )
    unused = tuple(rule for rule in ordered if id(rule) not in used)
    runs_others = any(callable(rule.scheme) or hasattr(rule, "answer") for rule in ordered)
    is_settled = not runs_others and all(
        found.tensor is None and type(found.parameter) in PLAIN for found in parameters
    )
    return slots, ModuleReport(tuple(entries), unused), is_settled


# Whose weights have axes or a padding of their own.
_NOT_ALIKE = (nn.modules.conv._ConvNd, nn.Embedding, nn.EmbeddingBag)
_UNASKED: Any = object()
_CPU = torch.device("cpu")


def _names_of(found: FoundParameter) -> tuple[str, ...]:
    """A parameter's name, and that of the tensor that is computed from it."""
    return (found.name,) if found.tensor is None else (found.name, found.tensor.name)


def _is_by_originals(tensor: ComputedTensor, ordered: Sequence[Rule], left: Sequence[str]) -> bool:
    """Whether a computed tensor's originals are parameters like others: loaded, left, or named by rules themselves."""
    if any(getattr(original.parameter, "_is_hf_initialized", False) for original in tensor.originals):
        return True
    if any(matches(original.name, pattern) for original in tensor.originals for pattern in left):
        return True
    for rule in ordered:
        if tensor.is_taken(rule):
            return rule.scheme is None
        if any(rule.takes(original.name, original.owner, original.around) for original in tensor.originals):
            return True
    return False


def _refuse_changing(
    tensor: ComputedTensor, parameters: Sequence[FoundParameter], ordered: Sequence[Rule], left: Sequence[str]
) -> None:
    """Raise where a computed tensor is made with parameters that have no values yet, or get others."""
    added = {id(parameter) for parameter in tensor.how.find_added()}
    for found in parameters:
        if id(found.parameter) not in added:
            continue
        is_left = getattr(found.parameter, "_is_hf_initialized", False) or any(
            matches(name, pattern) for name in (*_names_of(found), *found.also) for pattern in left
        )
        rule = None if is_left else next((r for r in ordered if r.takes(found.name, found.owner, found.around)), None)
        is_written = rule is not None and rule.scheme_for(found.owner, found.name, found.parameter) is not None
        if found.parameter.is_meta or is_written:
            originals = ", ".join(original.name for original in tensor.originals)
            state = "is on the meta device" if found.parameter.is_meta else "is written by a rule itself"
            raise ValueError(
                f"its parametrization {tensor.how.kind} computes it with {found.name}, which {state}: give a rule for "
                f"{originals} in place of one for {tensor.name}"
                + ("" if found.parameter.is_meta else f", or leave {found.name}")
            )


def _refuse_formless(found: FoundParameter) -> None:
    """Raise where a parameter has no shape yet, or not its own here."""
    if is_lazy(found.parameter):
        raise ValueError(f"module must have shapes, but {found.name} is lazy; run the model once before, or leave it")
    try:
        refuse_absent(found.parameter)
    except ValueError as error:
        raise ValueError(f"{found.name}: {error}") from None


def _padding(places: list[tuple[nn.Module, str]]) -> int | None:
    """The row of padding, where one of the modules that share the parameter is an embedding that has one."""
    rows = [
        owner.padding_idx
        for owner, local in places
        if isinstance(owner, nn.Embedding | nn.EmbeddingBag) and local == "weight" and owner.padding_idx is not None
    ]
    return int(rows[0]) if rows else None


def _write_all(
    slots: Iterable[Slot], seed: SupportsIndex, threads: SupportsIndex | None, is_settled: bool = False
) -> None:
    """Write in order; those alike that follow each other, as one piece of work."""
    key = as_int("seed", seed)

    def is_alike(slot: Slot) -> bool:
        entry, first = slot.entry, slot.first.parameter
        is_as_planned = slot.small is not None and first.shape == entry.shape and first.dtype is entry.dtype
        return is_as_planned and (is_settled or is_usual(first))

    for are_alike, run in groupby(slots, is_alike):
        for slot in () if are_alike else run:
            _write(slot, seed, threads)
        while are_alike and (some := list(islice(run, 1024))):  # plans that are held at once: 2 MB
            parts = [(slot.small, slot.first.parameter, slot.entry.name) for slot in some]
            fill_many_small(parts, key, threads)  # type: ignore[arg-type]


def _write(slot: Slot, seed: SupportsIndex, threads: SupportsIndex | None) -> None:
    entry, first = slot.entry, slot.first.parameter
    if slot.values is not None:
        if not first.is_meta:
            slot.values.write_(first, seed, entry.name)
        return
    assert entry.scheme is not None
    if slot.tensor is None:
        init_(first, entry.scheme, seed=seed, name=entry.name, threads=threads, **slot.arguments)
    elif not is_unreal(first):
        key = as_int("seed", seed)
        slot.tensor.how.assign(_make_value(slot, None, key, threads), key, entry.name)


def _make_value(slot: Slot, device: torch.device | None, seed: int, threads: SupportsIndex | None) -> Tensor:
    """What a tensor that is computed is to be."""
    assert slot.tensor is not None
    assert slot.entry.scheme is not None
    like, device = slot.tensor.how.compute_current(), _device_of(slot.first.parameter, device)
    value = torch.empty_like(like, device=device, dtype=slot.entry.dtype, requires_grad=False)
    return init_(value, slot.entry.scheme, seed=seed, name=slot.entry.name, threads=threads, **slot.arguments)


# From the meta device


def _bring(slots: Iterable[Slot], device: torch.device | None) -> Iterator[Slot]:
    """Give memory to what is to be written, one after the other."""
    for slot in slots:
        for found in slot.held:
            if found.parameter.is_meta:
                found.parameter = _materialize(found.parameter, device, slot.entry.dtype)
                for owner, local in found.places:
                    owner._parameters[local] = found.parameter
        yield slot


def _materialize(parameter: nn.Parameter, device: torch.device | None, dtype: torch.dtype) -> nn.Parameter:
    """A parameter with memory in place of one without."""
    if type(parameter) is nn.Parameter and parameter.is_contiguous():  # in a tenth of the time of what follows
        memory = torch.empty_strided(parameter.shape, parameter.stride(), dtype=dtype, device=device or _CPU)
    else:
        memory = torch.empty_like(parameter.detach(), device=_device_of(parameter, device), dtype=dtype)
    if issubclass(type(parameter), nn.Parameter):
        new: nn.Parameter = torch.Tensor._make_subclass(type(parameter), memory, parameter.requires_grad)
    else:
        new = nn.Parameter(memory, requires_grad=parameter.requires_grad)
    new.__dict__.update(parameter.__dict__)
    return new


def _device_of(tensor: Tensor, asked: torch.device | None = None) -> torch.device:
    """Where a tensor is, or is to come to from the meta device."""
    if not tensor.is_meta:
        return tensor.device
    mesh = getattr(tensor, "device_mesh", None)
    return asked or torch.device("cpu" if mesh is None else mesh.device_type)


def _materialize_buffers(module: nn.Module, prefix: str, device: torch.device | None, make: BufferMaker | None) -> None:
    found, modules = list(meta_buffers(module)), dict(module.named_modules(remove_duplicate=False))
    norms = dict.fromkeys(owner for _, owner, *_ in found if isinstance(owner, nn.modules.batchnorm._NormBase))
    others: dict[int, tuple[nn.Module, str, str]] = {}
    for path, owner, local, buffer in found:
        if owner not in norms:
            others.setdefault(id(buffer), (owner, local, prefix + strip_wrappers(path, modules)))
    if others and make is None:
        names = ", ".join(name for *_, name in others.values())
        raise ValueError(
            f"buffers must say how to fill what is on the meta device: {names}; give a callable of owner, name "
            "and buffer, or build it with its buffers on a device, or take recipes.own(model, build)"
        )
    made: dict[int, Tensor] = {}
    for _, owner, local, buffer in found:
        if id(buffer) not in made:
            made[id(buffer)] = torch.empty_like(buffer, device=_device_of(buffer, device))
        owner._buffers[local] = made[id(buffer)]
    with torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
        for owner, local, name in others.values():
            assert make is not None
            buffer = owner.get_buffer(local)
            value = make(owner, name, buffer)
            if value is not None and value is not buffer:
                buffer.copy_(value)


def _tell_fsdp(module: nn.Module) -> None:
    """FSDP2 keeps a reference to the memory of its shards, and takes the new one in `_apply`, as after `to_empty`."""
    sharding = {
        kind for kind in map(type, module.modules()) if any(base.__name__ == "FSDPModule" for base in kind.__mro__)
    }
    for part in module.modules() if sharding else ():
        if type(part) in sharding:  # the class moved between versions of torch
            attributes = [(parameter, dict(parameter.__dict__)) for parameter in part.parameters(recurse=False)]
            part._apply(lambda tensor: tensor, recurse=False)  # type: ignore[no-untyped-call]
            for parameter, held in attributes:
                parameter.__dict__.update(held)
