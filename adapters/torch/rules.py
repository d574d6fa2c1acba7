"""Rules: which parameters of a model a scheme is for, by name and by the kind of module that owns them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, TypeAlias

from torch import Tensor, nn

from winit_fast.fans import Axes, Matrices, matrices_of
from winit_fast.messages import quote
from winit_fast.schemes import Scheme, read_scheme

from .plain import torch_axes

__all__ = ["Recipe", "Rule", "Rules", "axes_of_weight", "is_conv1d", "matches"]

Kinds: TypeAlias = "type | str | tuple[type | str, ...]"
Chooser: TypeAlias = Callable[[nn.Module, str, Tensor], "str | Scheme | None"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a recipe: the parameters it is for, and their scheme.

    Parameters
    ----------
    name : str or re.Pattern
        A glob, in which ``*`` stands for dots too and a ``*.`` in front may stand for nothing (``"*.weight"`` matches
        the ``"weight"`` of a single layer), or a compiled regular expression that matches the whole name.
    scheme : str, Scheme, None or callable
        None leaves the parameter as it is. A callable is given the owning module, the qualified name and the parameter
        (whose shape is the global one), and returns one of the others.
    of : type, str or tuple of them, optional
        The kind of the module that owns the parameter: a class, or a glob for the name of its class or of one that it
        derives from. Left out: any.
    within : type, str or tuple of them, optional
        The kind of one of the modules around the owner. Left out: any.
    in_axis, out_axis, batch_axis : int or sequence of int, optional
        As in `init_`. Where all are left out, they are the owner's: ``(in, out / groups, *kernel)`` of a transposed
        convolution, ``(in, out)`` of transformers' Conv1D, ``(out, in / groups, *kernel)`` of all others.
    matrices : int or tuple of two int, optional
        As in `init_`: how many equal matrices follow each other along `out_axis`, each with fans of its own; 4 for the
        gates of an LSTM, 3 for a GRU's or for packed queries, keys and values. Left out, with the axes: the groups of a
        convolution, which are matrices of their own; 1 for all else.

    Notes
    -----
    `torch.nn.init` is not told whose weight it fills: it takes the inputs of a transposed convolution for its outputs,
    and counts the outputs of all groups for one. Recipes that copy a library have its numbers; a rule has them with
    ``in_axis=1, out_axis=0``.

    Examples
    --------
    >>> import torch
    >>> from winit_fast import adapters
    >>> from winit_fast.adapters.torch import Rule
    >>> print(Rule("*.weight", "he_normal", of=torch.nn.Linear))
    *.weight of Linear: he_normal
    >>> gates = Rule("*.weight_hh_l*", "orthogonal", of=torch.nn.LSTM, matrices=4)
    """

    name: str | re.Pattern[str]
    scheme: str | Scheme | Chooser | None
    of: Kinds = ()
    within: Kinds = ()
    in_axis: Axes | None = None
    out_axis: Axes | None = None
    batch_axis: Axes = ()
    matrices: Matrices | None = None
    recipe: str = field(default="", init=False, repr=False, compare=False)  # the name of the one that it came with

    def __post_init__(self) -> None:
        if not isinstance(self.name, str | re.Pattern):
            raise TypeError(f"name must be a glob or a compiled regular expression, got {quote(self.name)}")
        for argument, kinds in (("of", self.of), ("within", self.within)):
            if not all(isinstance(kind, type | str) for kind in _tuple(kinds)):
                raise TypeError(f"{argument} must be a class, a glob for its name, or a tuple, got {quote(kinds)}")
        if self.matrices is not None:
            matrices_of(self.matrices)
        if not callable(self.scheme):
            _read_scheme(self.scheme)

    def __str__(self) -> str:
        return f"{self.place}: {self.draws}"

    @property
    def place(self) -> str:
        """What the rule is for, in words."""
        text = self.name if isinstance(self.name, str) else f"/{self.name.pattern}/"
        for word, kinds in (("of", self.of), ("within", self.within)):
            names = [kind if isinstance(kind, str) else kind.__name__ for kind in _tuple(kinds)]
            text += f" {word} {', '.join(names)}" if names else ""
        return text

    @property
    def draws(self) -> str:
        """What the rule says, in words."""
        if self.scheme is None:
            return "left as it is"
        if callable(self.scheme):
            words = self.scheme.__doc__ or getattr(self.scheme, "__name__", "a function")
            return str(words).partition("\n")[0].rstrip(".")
        return str(self.scheme)

    def takes(self, name: str, owner: nn.Module, around: Sequence[nn.Module]) -> bool:
        """Whether a parameter of that qualified name is this rule's, owned so, in these modules."""
        return (
            matches(name, self.name)
            and (not self.of or _is(owner, self.of))
            and (not self.within or any(_is(module, self.within) for module in around))
        )

    def scheme_for(self, owner: nn.Module, name: str, parameter: Tensor) -> Scheme | None:
        """The scheme for a parameter that the rule takes; None leaves it as it is."""
        return _read_scheme(self.scheme(owner, name, parameter) if callable(self.scheme) else self.scheme)

    def axes(self, owner: nn.Module, name: str, rank: int, scheme: Scheme) -> dict[str, Any]:
        """The axes and matrices for a parameter of that owner, name and rank, which gets that scheme."""
        axes = torch_axes(rank, self.in_axis, self.out_axis, self.batch_axis)
        matrices: Matrices = 1
        is_said = self.in_axis is not None or self.out_axis is not None or self.batch_axis != ()
        if not is_said and scheme.draws and name.rpartition(".")[2] == "weight":  # what draws nothing has no fans
            inputs, outputs, groups = axes_of_weight(owner)
            axes |= {"in_axis": inputs, "out_axis": outputs}
            matrices = (groups, 0) if groups > 1 else 1
        return axes | {"matrices": matrices if self.matrices is None else self.matrices}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Rules for a whole model, in order: the first that matches a parameter takes it.

    Iterating over it gives the rules, so that own rules may stand before them: ``[Rule(...), *recipe]``.

    Examples
    --------
    >>> from winit_fast.adapters.torch import Recipe, Rule
    >>> print(Recipe("mine", (Rule("*.weight", "he_normal"), Rule("*.bias", "zeros"))))
    mine
      *.weight  he_normal
      *.bias    zeros
    """

    name: str
    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        for rule in self.rules:
            object.__setattr__(rule, "recipe", self.name)  # reports tell them from a user's own

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)

    def __str__(self) -> str:
        widest = max((len(rule.place) for rule in self.rules), default=0)
        return "\n".join([self.name, *(f"  {rule.place:{widest}}  {rule.draws}" for rule in self.rules)])


Says: TypeAlias = "str | Scheme | Chooser | None"
Rules: TypeAlias = "str | Recipe | Mapping[str, Says] | Sequence[Rule | tuple[str | re.Pattern[str], Says]]"


def axes_of_weight(module: nn.Module) -> tuple[int, int, int]:
    """Which axis of a module's weight are inputs and which outputs, and how many groups stand along axis 0."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return (0, 1, module.groups) if module.transposed else (1, 0, module.groups)
    return (0, 1, 1) if is_conv1d(module) else (1, 0, 1)


def is_conv1d(module: nn.Module) -> bool:
    """Whether a module is transformers' Conv1D, or of a class that parametrize or FSDP derives from it."""
    bases = type(module).__mro__
    return any(base.__name__ == "Conv1D" and base.__module__.startswith("transformers.") for base in bases)


def matches(name: str, pattern: str | re.Pattern[str]) -> bool:
    """Whether a qualified name matches a glob or a regular expression."""
    if isinstance(pattern, str):
        return fnmatchcase(name, pattern) or fnmatchcase(f".{name}", pattern)
    return pattern.fullmatch(name) is not None


def _read_scheme(scheme: object) -> Scheme | None:
    return None if scheme is None else read_scheme(scheme)  # type: ignore[arg-type]  # refuses what is none


def _tuple(kinds: Kinds) -> tuple[type | str, ...]:
    return kinds if isinstance(kinds, tuple) else (kinds,)


def _is(module: nn.Module, kinds: Kinds) -> bool:
    """Whether a module is of one of these kinds; classes that FSDP makes derive from the module's own."""
    classes, globs = _split(kinds)
    if isinstance(module, classes):
        return True
    return any(fnmatchcase(base.__name__, glob) for glob in globs for base in type(module).__mro__)


@lru_cache(maxsize=256)
def _split(kinds: Kinds) -> tuple[tuple[type, ...], tuple[str, ...]]:
    """Kinds that are classes, and those that are globs."""
    given = _tuple(kinds)
    globs = tuple(kind for kind in given if isinstance(kind, str))
    return tuple(kind for kind in given if not isinstance(kind, str)), globs
