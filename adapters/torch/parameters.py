"""Every parameter of a model once: its names, where it stands, and what is computed from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

from torch import Tensor, nn

from .parametrized import Parametrized, find_parametrized
from .rules import Rule

__all__ = ["PARALLEL", "ComputedTensor", "FoundParameter", "find_parameters", "join", "meta_buffers", "strip_wrappers"]

# What wrappers put into names, and torch.distributed's checkpoints leave out: the same layer keeps its stream.
_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)  # they hold the model as "module"


@dataclass(slots=True)
class FoundParameter:
    """A parameter of a model: where it stands first, and its other names and places."""

    parameter: nn.Parameter
    name: str
    owner: nn.Module
    local: str
    around: list[nn.Module]
    elsewhere: tuple[tuple[nn.Module, str], ...] = ()
    also: tuple[str, ...] = ()
    tensor: ComputedTensor | None = None  # that is computed from it
    shared: tuple[ComputedTensor, ...] = ()  # those that are, where it stands elsewhere too

    @property
    def places(self) -> list[tuple[nn.Module, str]]:
        """All modules that hold it, and by which name: first the one that it is named after."""
        return [(self.owner, self.local), *self.elsewhere]


@dataclass(slots=True)
class ComputedTensor:
    """A tensor that is computed from parameters, the originals, as if it were one itself."""

    how: Parametrized
    name: str
    around: list[nn.Module]
    originals: list[FoundParameter]

    def is_taken(self, rule: Rule) -> bool:
        """Whether it would be this rule's if it were a parameter."""
        return rule.takes(self.name, self.how.owner, self.around)


def find_parameters(
    module: nn.Module, prefix: str, modules: Mapping[str, nn.Module] | None = None
) -> list[FoundParameter]:
    """Every parameter once, in the order of `named_parameters`, with all names and places; of modules found before."""
    found: dict[int, FoundParameter] = {}
    if modules is None:
        modules = dict(module.named_modules(remove_duplicate=False))
    is_parallel = any(issubclass(kind, PARALLEL) for kind in set(map(type, modules.values())))
    above: dict[str, list[nn.Module]] = {}  # which modules are around those of that path, shared by all of them
    for path, owner in modules.items():
        if not owner._parameters:
            continue
        stem = f"{path}." if path else ""
        is_wrapped = is_parallel or _WRAPPERS[0] in stem or _WRAPPERS[1] in stem
        for local, parameter in owner._parameters.items():
            if parameter is None:
                continue
            name = prefix + (strip_wrappers(stem + local, modules) if is_wrapped else stem + local)
            known = found.get(id(parameter))
            if known is None:
                around = _find_around(path, modules, above)
                found[id(parameter)] = FoundParameter(parameter, name, owner, local, around)
                continue
            if name not in (known.name, *known.also):
                known.also += (name,)
            if (owner, local) not in known.places:
                known.elsewhere += ((owner, local),)
    for owner in modules.values():
        if "parametrizations" in owner._modules or owner._forward_pre_hooks:  # where it asks longer
            for how in find_parametrized(owner):
                _mark(how, found)
    return list(found.values())


def _find_around(path: str, modules: Mapping[str, nn.Module], above: dict[str, list[nn.Module]]) -> list[nn.Module]:
    """The modules around the one of that path, from the outermost on."""
    if not path:
        return []
    parent = path.rpartition(".")[0]
    if parent not in above:
        above[parent] = [*_find_around(parent, modules, above), modules[parent]]
    return above[parent]


def meta_buffers(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """Every buffer of a model that is on the meta device: its whole name, its owner, its name there, and itself."""
    for path, owner in module.named_modules():
        for local, buffer in owner._buffers.items():
            if buffer is not None and buffer.is_meta:
                yield join(path, local), owner, local, buffer


def join(path: str, local: str) -> str:
    """The qualified name of what has that name in the module of that path."""
    return f"{path}.{local}" if path else local


def strip_wrappers(name: str, modules: Mapping[str, nn.Module]) -> str:
    """A qualified name without what wrappers put into it."""
    parts = name.split(".")
    kept = [part for depth, part in enumerate(parts) if not isinstance(modules[".".join(parts[:depth])], PARALLEL)]
    return reduce(lambda text, wrapper: text.replace(wrapper, ""), _WRAPPERS, ".".join(kept))


def _mark(how: Parametrized, found: dict[int, FoundParameter]) -> None:
    """Tell originals which tensor is computed from them; one that stands elsewhere too is not that tensor's alone."""
    originals = [found[id(parameter)] for parameter in how.find_originals()]
    first = originals[0]
    name = first.name.removesuffix(how.suffixes[0]) + how.local
    around = first.around if how.holder is how.owner else first.around[:-2]
    tensor = ComputedTensor(how, name, around, originals)
    is_shared = any(
        original.places != [(how.holder, local)] for original, local in zip(originals, how.originals, strict=True)
    )
    for original in originals:
        if is_shared:
            original.shared += (tensor,)
        else:
            original.tensor = tensor
