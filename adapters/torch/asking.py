"""Recipes that ask the model: what its own code gives each parameter, `_init_weights` or `reset_parameters`.

That code runs once with stand-ins in place of every parameter and buffer, and is recorded (recording.py). Nothing of
the model changes, and nothing grows with it.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, SupportsIndex, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from winit_fast.distributions import Constant
from winit_fast.messages import as_int, shorten
from winit_fast.schemes import Scheme, read_scheme

from .blocks import Block, within
from .dtensor import find_local, refuse_unusable_here
from .parameters import find_parameters, join, meta_buffers, strip_wrappers
from .plain import refuse_absent
from .recording import NotRecordedError, Recorder, Start, View, WithoutMemory, _is_same, as_scheme, recorder_here
from .rules import Rule

__all__ = ["Answer", "Asked", "ask", "buffer_maker", "is_transformers", "outermost"]

_FLAG = "_is_hf_initialized"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model's code gives one parameter or buffer.

    Attributes
    ----------
    scheme : Scheme or None
        None where there is none that says it.
    note : str
        For the report.
    padding : int or None
        A row that is 0.
    values : Values or None
        What is computed instead; where there is neither, it is left as it is.
    """

    scheme: Scheme | None
    note: str = ""
    padding: int | None = None
    values: Values | None = None


@dataclass(frozen=True, slots=True)
class Values:
    """Values that the model's own code computes, from draws of the parameter's stream where it draws."""

    recorder: Recorder
    view: View
    name: str

    def tensor(self, seed: SupportsIndex = 0, name: str = "") -> Tensor:
        """The values, on the CPU; `name` is the parameter's with what stands before its name in this model."""
        prefix = name.removesuffix(self.name)
        return self.recorder.compute(self.view, self.name, as_int("seed", seed), prefix)

    def check(self, parameter: Tensor) -> None:
        """Raise where they could not be written."""
        if parameter.is_floating_point():
            refuse_unusable_here(parameter)

    def write_(self, parameter: Tensor, seed: SupportsIndex, name: str) -> None:
        """Compute them, and copy what this rank holds."""
        is_sharded = hasattr(parameter, "placements")
        local, runs = find_local(parameter) if is_sharded else (parameter, [])  # type: ignore[arg-type]
        if local is None:
            return
        values = self.tensor(seed, name)
        with torch.no_grad():
            for axis, along in enumerate(runs):
                index = torch.tensor([*chain(*along)], dtype=torch.int64, device="cpu")
                values = values.index_select(axis, index)
            local.copy_(values)


@dataclass(frozen=True, slots=True)
class Asked(Rule):
    """A rule for the parameters of one model, as its own code answered for each."""

    answers: dict[int, tuple[nn.Parameter, Answer]] = field(default_factory=dict, repr=False)
    refused: dict[str, str] = field(default_factory=dict, repr=False)
    buffers: dict[tuple[int, str], Values] = field(default_factory=dict, repr=False)
    owners: frozenset[int] = field(default=frozenset(), repr=False)

    @property
    def draws(self) -> str:
        """What the rule says, in words."""
        return "what the model's own code gives it"

    def answer(self, parameter: Tensor) -> Answer | None:
        """What was answered for a parameter, None where it was not asked for."""
        kept = self.answers.get(id(parameter))
        return kept[1] if kept is not None and kept[0] is parameter else None

    def takes(self, name: str, owner: nn.Module, around: Sequence[nn.Module]) -> bool:
        """Whether it is a parameter of the model that was asked, and not computed from some."""
        return id(owner) in self.owners and name.rpartition(".")[2] in owner._parameters

    def scheme_for(self, owner: nn.Module, name: str, parameter: Tensor) -> Scheme | None:
        """The scheme that says it, None where another way does."""
        answer = self.answer(parameter)
        if answer is not None:
            return answer.scheme
        if not self.refused:
            raise ValueError(f"rules must be of this model as it is, and when it was asked it had no {name} like this")
        raise ValueError(
            "the model's own code must say what each parameter gets, and does not for "
            f"{', '.join(f'{refused} ({why})' for refused, why in self.refused.items())}; put rules for these "
            "before: [(name, scheme), ..., *recipes.own(model)]"
        )


def buffer_maker(
    rules: Sequence[Rule], module: nn.Module, seed: SupportsIndex
) -> Callable[[nn.Module, str, Tensor], Tensor | None] | None:
    """What fills the buffers of a model that are on the meta device, None where nobody knows one of them.

    Models of transformers' are asked for theirs, whatever the rules.
    """
    asked = [rule for rule in rules if isinstance(rule, Asked)] or list(map(ask, outermost(module)))
    known = {place: values for rule in asked for place, values in rule.buffers.items()}
    for _, owner, local, buffer in meta_buffers(module):
        is_reset = isinstance(owner, nn.modules.batchnorm._NormBase)
        if buffer.numel() and not is_reset and (id(owner), local) not in known:
            return None

    def value(owner: nn.Module, name: str, buffer: Tensor) -> Tensor | None:
        values = known.get((id(owner), name.rpartition(".")[2]))
        return None if values is None else values.tensor(seed, name)  # without elements

    return value


def ask(module: nn.Module, build: Callable[[], nn.Module] | None = None) -> Asked:
    """Have a model's own code say what its parameters get, and its buffers that are on the meta device.

    Parameters
    ----------
    module : torch.nn.Module
    build : callable, optional
        Builds such a model, which is then what is recorded.

    Returns
    -------
    Asked

    Raises
    ------
    ValueError
        If that code fails, or draws with a generator other than PyTorch's, or cannot be known without `build`.
    """
    items = _find_items(module)
    if build is not None:
        _record_constructor(build, "", items)
    else:
        _refuse_constructors(module)
        _record(module, items, lambda: _initialize(module, set()))
        for item in items:
            if item.is_foreign:
                item.answer, item.is_written = None, False
        for path, model in module.named_modules():
            inside = [item for item in items if item.is_in(path)] if is_transformers(model) else []
            if any(item.answer is None for item in inside):
                kind: Callable[..., nn.Module] = type(model)
                _record_constructor(partial(kind, copy.deepcopy(model.config)), path, inside)
        untouched = [item for item in items if item.answer is None and not item.is_written and not item.is_foreign]
        owners = {id(item.owner): item.owner for item in untouched}
        if owners:
            _record(module, items, lambda: deque(map(_reset, owners.values())))
    answers, refused, buffers = {}, {}, {}
    for item in items:
        if not isinstance(item.tensor, nn.Parameter):
            if item.answer is not None and item.answer.values is not None:
                buffers[id(item.owner), item.local] = item.answer.values
            continue
        may_stay = build is None and not item.is_written and not item.tensor.is_meta
        if item.answer is None and not may_stay:
            refused[item.name] = item.why
        else:
            left = Answer(None, "left: no code of the model's writes to it again")
            answers[id(item.tensor)] = (item.tensor, item.answer or left)
    parts = frozenset(map(id, module.modules()))
    # With torch.nn.init's fans, whoever owns the weight.
    return Asked(
        "the model's own", None, in_axis=1, out_axis=0, answers=answers, refused=refused, buffers=buffers, owners=parts
    )


def is_transformers(module: nn.Module) -> bool:
    """Whether a module is a model of transformers' that can be asked."""
    return hasattr(module, "_init_weights") and callable(getattr(module, "initialize_weights", None))


def outermost(module: nn.Module) -> list[nn.Module]:
    """The models of transformers' that stand in no other."""
    if is_transformers(module):
        return [module]
    return [model for child in module.children() for model in outermost(child)]


def _initialize(module: nn.Module, done: set[int]) -> None:
    """Run what initializes a model, each module after those inside of it."""
    if id(module) in done:
        return
    done.add(id(module))
    if is_transformers(module):
        module.initialize_weights()  # type: ignore[operator]
        for part in module.modules():
            if isinstance(getattr(part, "modules_to_save", None), nn.ModuleDict):
                _copy_original(part)
            elif hasattr(part, "adapter_layer_names"):
                _reset_adapters(part, module)
        return
    for child in module.children():
        _initialize(child, done)
    _reset(module)


def _reset(module: nn.Module) -> None:
    method = next((getattr(module, name) for name in _RESETS if callable(getattr(module, name, None))), None)
    if method is not None and not any(
        argument.default is argument.empty and argument.kind < argument.VAR_POSITIONAL
        for argument in inspect.signature(method).parameters.values()
    ):
        method()


_RESETS = ("reset_parameters", "_reset_parameters")
# Who has one of these draws more, in a constructor that cannot be run without its arguments: timm's, torchtitan's, ...
_MORE = ("_init_weights", "init_weights", "pretrained_cfg")


def _refuse_constructors(module: nn.Module) -> None:
    """Raise where modules draw in their constructors what no method of theirs draws again."""
    known = {id(part) for model in module.modules() if is_transformers(model) for part in model.modules()}
    for path, part in module.named_modules():
        drawing = next((name for name in _MORE if hasattr(part, name)), None)
        if _library(part) == "torchvision" and any(True for _ in part.parameters()):
            drawing = "__init__"
        if drawing is not None and id(part) not in known:
            raise ValueError(
                f"build must be given for {type(part).__name__}{path and f' ({path})'}, whose constructor draws by its "
                f"{drawing}: recipes.own(model, build=lambda: ...), where the function builds such a model"
            )


def _copy_original(wrapper: nn.Module) -> None:
    """What peft saves whole begins as a copy of the module that it stands for."""
    copies: dict[str, nn.Module] = dict(wrapper.modules_to_save.items())  # type: ignore[operator, union-attr]
    for part in copies.values():
        originals = dict(wrapper.original_module.named_parameters())  # type: ignore[union-attr]
        for name, parameter in part.named_parameters():
            if name in originals and parameter is not originals[name]:
                recorder_here().forget(parameter)
                with torch.no_grad():
                    parameter.copy_(originals[name])


def _reset_adapters(layer: nn.Module, model: nn.Module) -> None:
    """What peft puts around a layer is not transformers' to draw: each adapter by its own `reset_..._parameters`."""
    names = [name for name in dir(type(layer)) if re.fullmatch(r"reset_(\w+_)?parameters", name)]
    recorder = recorder_here()
    for local in layer.adapter_layer_names:  # type: ignore[union-attr]
        held = getattr(layer, local, None)
        for part in held.values() if isinstance(held, nn.ModuleDict | nn.ParameterDict) else ():
            for parameter in part.parameters() if isinstance(part, nn.Module) else (part,):
                recorder.forget(parameter)
    configurations: dict[str, Any] = getattr(model, "peft_config", {})
    for adapter, configuration in configurations.items():
        said = [name for name in vars(configuration) if re.fullmatch(r"init_(\w+_)?weights", name)]
        how = getattr(configuration, said[0]) if said else True
        if how not in (True, False, "gaussian") or getattr(configuration, "use_dora", False):
            cause = f"{said[0]}={how!r}" if how not in (True, False, "gaussian") else "use_dora=True"
            raise ValueError(
                f"adapter {adapter!r} starts from the values of the layers that it stands around ({cause}): initialize "
                "the model before peft is applied to it"
            )
        for name in names:
            method = getattr(layer, name)
            needed = [given for given in inspect.signature(method).parameters.values() if given.default is given.empty]
            if how or len(needed) > 1:
                with suppress(KeyError):  # this layer has no such adapter
                    method(*(adapter, how)[: len(needed)])


@dataclass(slots=True, eq=False)
class _Item:
    """A parameter, or a buffer of the meta device: where it is asked for, and what was answered."""

    name: str
    tensor: Tensor
    owner: nn.Module
    local: str
    path: str
    answer: Answer | None = None
    why: str = ""  # there is no answer
    is_written: bool = False  # by code, where there is no answer
    is_foreign: bool = False  # in a model of timm's, which a model of transformers' builds and draws as it does

    def is_in(self, path: str) -> bool:
        return not path or self.path.startswith(f"{path}.")


_Found: TypeAlias = "tuple[_Item, Tensor | None, Tensor | None]"  # and what two recordings left in its place


def _find_items(module: nn.Module) -> list[_Item]:
    modules = dict(module.named_modules(remove_duplicate=False))
    paths = {id(owner): path for path, owner in reversed(modules.items())}
    targets = set(_find_tied(module))
    inside = {id(part) for model in outermost(module) for part in model.modules()}
    foreign = [path for path, part in modules.items() if id(part) in inside and _library(part) == "timm"]
    items: list[_Item] = []
    for found in find_parameters(module, ""):
        try:
            refuse_absent(found.parameter)
        except ValueError as error:
            raise ValueError(f"{found.name}: {error}") from None
        if is_lazy(found.parameter):
            continue
        drawn = (place for place in found.places if (id(place[0]), place[1]) not in targets)
        owner, local = next(drawn, found.places[0])
        items.append(_Item(found.name, found.parameter, owner, local, join(paths[id(owner)], local)))
    for path, owner, local, buffer in meta_buffers(module):
        items.append(_Item(strip_wrappers(path, modules), buffer, owner, local, path))
    for item in items:
        item.is_foreign = any(item.is_in(path) for path in foreign)
    return items


def _library(module: nn.Module) -> str:
    return type(module).__module__.partition(".")[0]


def _find_tied(module: nn.Module) -> Iterator[tuple[int, str]]:
    """Places whose parameter transformers replaces by another's, after it has been drawn."""
    for model in module.modules():
        keys = getattr(model, "all_tied_weights_keys", None) if is_transformers(model) else None
        for target in keys or ():
            path, _, local = target.rpartition(".")
            try:
                yield id(model.get_submodule(path)), local
            except AttributeError:
                continue


def _record(module: nn.Module, items: list[_Item], run: Callable[[], object]) -> None:
    """Run a model's code with stand-ins for its tensors, and answer what is open by it."""
    recorders = Recorder(), Recorder()
    found = [_record_once(module, items, run, recorder, seed) for seed, recorder in enumerate(recorders)]
    _answer_all(module, recorders, zip(items, *found, strict=True))


def _record_once(
    module: nn.Module, items: list[_Item], run: Callable[[], object], recorder: Recorder, seed: int
) -> list[Tensor | None]:
    """Run a model's code once, with stand-ins; what it leaves in their places."""
    stand_ins = _StandIns(module, items, recorder)

    def tensors() -> list[Tensor | None]:
        try:
            recorder.record(run, seed)
        except Exception as error:
            raise ValueError(
                "module must be a model whose own initialization can be recorded; "
                f"{type(module).__name__}'s raised {type(error).__name__}: {error}"
            ) from error
        _refuse_other_draws(recorder)
        stand_ins.refuse_new(module)
        return [item.owner._parameters.get(item.local, item.owner._buffers.get(item.local)) for item in items]

    return within(stand_ins, tensors)


def _record_constructor(build: Callable[[], nn.Module], path: str, items: list[_Item]) -> None:
    """Build a model once more, and answer what is open by that.

    That needs no memory, but for models with parts of timm's: transformers looks at the device of these before it
    freezes their normalization.
    """
    recorders, twins = (Recorder(), Recorder()), []

    def built() -> nn.Module:
        with nullcontext() if any(item.is_foreign for item in items) else WithoutMemory():
            return build()

    try:
        for seed, each in enumerate(recorders):
            twins.append(each.record(built, seed))
            _refuse_other_draws(each)
    except Exception as error:
        for item in items:
            item.why += f"; it cannot be built once more: {shorten(str(error))}"
        return
    found = []
    for item in items:
        inside, _, local = item.path.removeprefix(f"{path}." if path else "").rpartition(".")
        try:
            owner, other = (twin.get_submodule(inside) for twin in twins)
        except AttributeError:
            item.why = item.why or "a model built once more has none of that name"
            continue
        made = owner._parameters.get(local, owner._buffers.get(local))
        if made is not None and made.shape == item.tensor.shape:
            found.append((item, made, other._parameters.get(local, other._buffers.get(local))))
            recorders[0].call(made, item.name)
        else:
            item.why = item.why or "a model built once more has none of that name and shape"
    _answer_all(twins[0], recorders, found)


def _answer_all(module: nn.Module, recorders: tuple[Recorder, Recorder], found: Iterable[_Found]) -> None:
    """Answer what is open; what two recordings differ in depends on what no record shows, as draws made into lists."""
    try:
        unsteady = recorders[0].find_unsteady(recorders[1])
    except NotRecordedError as error:
        raise ValueError(
            "module must be a model whose own initialization can be recorded, and for "
            f"{type(module).__name__}'s {error}"
        ) from None
    for item, tensor, again in found:
        if item.answer is None:
            try:
                item.answer = _find_answer(item, recorders[0], tensor, again, unsteady)
            except NotRecordedError as error:
                item.why = str(error)


def _find_answer(
    item: _Item, recorder: Recorder, tensor: Tensor | None, again: Tensor | None, unsteady: frozenset[int]
) -> Answer:
    """What one tensor gets, if the record says it, and another record the same; else the error says why not."""
    if not item.tensor.numel():
        return Answer(read_scheme("zeros"), "without elements")
    if tensor is None or tuple(tensor.shape) != tuple(item.tensor.shape):
        raise NotRecordedError("the code takes it away")
    if recorder.knows(tensor):
        is_steady = recorder.is_steady(tensor, unsteady)
    elif tensor.is_meta:
        raise NotRecordedError("the code leaves another tensor in its place")
    else:
        recorder.keep(tensor)
        is_steady = again is not None and _is_same(tensor.detach(), again.detach())
    store = recorder.store_of(tensor)  # None where the tensor is a part of it, or lies in another order
    law, padding = (None, None) if store is None else store.find_zero_row() or (store.whole(), None)
    if law is Start.UNWRITTEN:
        raise NotRecordedError("nothing writes to it")
    item.is_written = True
    if not is_steady:
        raise NotRecordedError(
            "it depends on values drawn where the recording does not see them, and differs from run to run"
        )
    if isinstance(item.tensor, nn.Parameter):
        scheme, is_own = as_scheme(law), recorder.claim_scheme(tensor, item.name)
        if scheme is not None and (is_own or isinstance(law, Constant)):
            return Answer(scheme, padding=padding)
    try:
        values = Values(recorder, recorder.view(tensor), item.name)
        draws = recorder.claim(tensor, item.name)
        recorder.compute_checked(values.view, item.name, seed=0)
    except Exception as error:
        raise NotRecordedError(shorten(str(error))) from error
    note = "computed by the model's code" + (" from draws of its stream" if draws else "")
    return Answer(None, note, values=values)


class _StandIns(Block):
    """Stand-ins in place of all tensors of a model, and everything back afterwards; in forked processes too."""

    def __init__(self, module: nn.Module, items: list[_Item], recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder
        self.parts = list(module.modules())
        self.before = [(part, dict(part.__dict__)) for part in self.parts]
        self.held_before = [
            (held, copy.copy(held))
            for part in self.parts
            for held in part.__dict__.values()
            if type(held) in (dict, OrderedDict, set, list)
        ]
        # A tied weight is what its first name gets: what is drawn in its other places is drawn for nobody.
        self.names = {(id(item.owner), item.local): item.name for item in items}

    def begin(self) -> None:
        """Put them in."""
        super().begin()
        for part in self.parts:
            part.__dict__.pop(_FLAG, None)
            for local, parameter in part._parameters.items():
                if parameter is not None and not is_lazy(parameter):
                    memory = self.recorder.stand_in(parameter, self.names.get((id(part), local), ""))
                    part._parameters[local] = _make_parameter(memory, parameter)
            names: dict[str, Any]
            for names in (part._buffers, part.__dict__):
                for local, tensor in names.items():
                    if isinstance(tensor, Tensor):
                        # What is there may be read, and is not written to.
                        names[local] = self.recorder.stand_in(tensor, "", None if tensor.is_meta else tensor)

    def end(self) -> None:
        """Put everything back."""
        for part, attributes in self.before:
            part.__dict__.update(attributes)  # first, as an interrupt may come next
            for name in part.__dict__.keys() - attributes.keys():
                part.__dict__.pop(name, None)
        self.before = []  # or an interrupt of what is done once more would find it half done again
        for held, content in self.held_before:
            held.clear()
            if isinstance(held, list):
                held.extend(content)
            else:
                held.update(content)
        self.held_before = []
        super().end()

    def refuse_new(self, module: nn.Module) -> None:
        """Raise where the code has made modules with parameters, which are not the model's afterwards."""
        known = set(map(id, self.parts))
        for path, part in module.named_modules():
            if id(part) not in known and any(True for _ in part.parameters()):
                raise ValueError(
                    f"build must be given, as the model's own code makes new modules ({path}): "
                    "recipes.own(model, build=lambda: ...), where the function builds such a model"
                )


def _make_parameter(memory: Tensor, original: nn.Parameter) -> nn.Parameter:
    made = nn.Parameter(memory, requires_grad=original.requires_grad)
    marks = {name: mark for name, mark in vars(original).items() if name not in (_FLAG, "_local_tensor", "_spec")}
    made.__dict__.update(marks)
    return made


def _refuse_other_draws(recorder: Recorder) -> None:
    """Raise where code drew with Python's or NumPy's generator, of which nothing is seen."""
    if recorder.has_other_draws:
        raise ValueError(
            "module must draw with PyTorch alone to be asked, and its own initialization draws with Python's or "
            "NumPy's generator (or another thread did meanwhile: ask while none does)"
        )
