"""Schemes: what a user asks for by name, with checked arguments and one text form that can be read back.

schemes.py defines them and registers them here.
"""

from __future__ import annotations

import ast
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, SupportsIndex, TypeAlias

from winit_fast.arguments import Value, did_you_mean, nearest_word
from winit_fast.distributions import Constant, Distribution, Normal, TruncatedNormal, Uniform
from winit_fast.fans import Axes, Layout, MissingAxisError, sizes_of
from winit_fast.floating_point import default_floating_point
from winit_fast.messages import quote
from winit_fast.records import make, record

__all__ = [
    "LONGEST_KEPT",
    "REQUIRED",
    "Argument",
    "Entry",
    "Equivalent",
    "Law",
    "Scheme",
    "SchemeInfo",
    "ShapeLaw",
    "read_scheme",
    "register",
    "register_family",
    "scheme",
    "scheme_of",
    "schemes",
]


class _Referable:  # a dataclass has no such slot of its own before Python 3.11
    __slots__ = ("__weakref__",)


@record
class Scheme(_Referable):
    """A scheme with its arguments, made by `scheme`. Hashable; its ``str`` reads back to an equal one.

    Attributes
    ----------
    name : str
        The canonical name.
    arguments : mapping of str to float, str or None
        All arguments in their declared order, defaults included. Read-only.

    Examples
    --------
    >>> from winit_fast import scheme
    >>> he = scheme("kaiming_normal", gain=1)
    >>> he
    scheme('he_normal', gain=1.0)
    >>> str(he)
    'he_normal(gain=1.0)'
    >>> dict(he.arguments)
    {'gain': 1.0, 'mode': 'fan_in', 'nonlinearity': None, 'slope': None}
    """

    name: str
    arguments: Mapping[str, Value]
    _changed: tuple[str, ...]
    _text: str
    _law: Law

    @property
    def draws(self) -> bool:
        """Whether values depend on a seed; a constant's do not.

        Examples
        --------
        >>> from winit_fast import scheme
        >>> scheme("normal").draws, scheme("normal(std=0)").draws
        (True, False)
        """
        return self._law.draws

    @property
    def depends_on_shape(self) -> bool:
        """Whether values depend on the shape of the tensor: its fans, or how many embeddings it has.

        Examples
        --------
        >>> from winit_fast import scheme
        >>> scheme("he_normal").depends_on_shape, scheme("normal(std=0.02)").depends_on_shape
        (True, False)
        """
        return isinstance(self._law, ShapeLaw)

    def distribution(
        self,
        shape: Sequence[SupportsIndex],
        in_axis: Axes = -2,
        out_axis: Axes = -1,
        batch_axis: Axes = (),
        is_complex: bool = False,
    ) -> Distribution:
        """The distribution of the elements of a tensor of this (global) shape.

        Parameters
        ----------
        shape, in_axis, out_axis, batch_axis
            As in `fans`; ignored by schemes without fans.
        is_complex : bool, default False
            Whether the elements are complex numbers.

        Returns
        -------
        Distribution
            `Constant`, `Uniform`, `Normal`, ...: one of the classes of distributions.py.

        Raises
        ------
        TypeError, ValueError
            As `fans`.

        Examples
        --------
        >>> from winit_fast import scheme
        >>> scheme("he_normal").distribution((2, 256))
        Normal(mean=0.0, std=1.0)
        >>> scheme("truncated_normal", std=0.02).distribution(())
        TruncatedNormal(mean=0.0, std=0.02, low=-2.0, high=2.0)
        """
        if not isinstance(self._law, ShapeLaw):
            return self._law
        return self.fit(Layout(sizes_of(shape), in_axis, out_axis, batch_axis, is_complex))

    @default_floating_point
    def fit(self, layout: Layout) -> Distribution:
        """As `distribution`, for a layout that is known."""
        law = self._law
        if isinstance(law, ShapeLaw):
            try:
                return law.distribution(layout)
            except MissingAxisError as error:
                raise ValueError(str(error).replace("fans need", f"{self.name} needs", 1)) from None
        return law

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"scheme({', '.join([repr(self.name), *self._changed])})"

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Scheme) else NotImplemented

    def __reduce__(self) -> tuple[Callable[..., Scheme], tuple[str]]:
        return read_scheme, (self._text,)


@default_floating_point
def scheme(spec: str | Scheme, /, **arguments: Any) -> Scheme:
    """Make a scheme from its name, from a text such as ``"normal(std=0.02)"``, or from another scheme.

    Parameters
    ----------
    spec : str or Scheme
        A name, an alias, or a call of one with literal arguments, by position or by name. It is parsed, never
        evaluated; apart from literals it may contain only ``inf``.
    **arguments
        Arguments of the scheme; they replace those in `spec`. NumPy scalars are accepted; a bool is not a number.

    Returns
    -------
    Scheme

    Raises
    ------
    TypeError
        If an argument is unknown, missing or of the wrong type.
    ValueError
        If the text cannot be read, the name is unknown, or an argument is out of its range.

    See Also
    --------
    schemes : every name with its formula, arguments and aliases.

    Examples
    --------
    >>> from winit_fast import scheme
    >>> scheme("uniform(-0.1, 0.1)")
    scheme('uniform', low=-0.1, high=0.1)
    >>> print(scheme("truncated_normal", std=0.02, low=-3, high=3))
    truncated_normal(std=0.02, low=-3.0, high=3.0)
    >>> scheme("he_norml")
    Traceback (most recent call last):
        ...
    ValueError: scheme 'he_norml' is unknown; did you mean 'he_normal'?
    """
    if not arguments:
        if isinstance(spec, str):
            text = str.__str__(spec)  # the text itself, even of a subclass that claims another
            return _read(text) if len(text) <= LONGEST_KEPT else _read.__wrapped__(text)
        if isinstance(spec, Scheme):
            return spec
    elif isinstance(spec, str):
        info, given = _parse(spec)
        return info.make_scheme({**given, **arguments})
    elif isinstance(spec, Scheme):
        return _registry[spec.name].make_scheme({**spec.arguments, **arguments})
    raise TypeError(f"scheme must be a str or a Scheme, got {quote(spec)}")


read_scheme = scheme  # its name within the package, where `scheme` is an argument


def schemes() -> tuple[SchemeInfo, ...]:
    """List every scheme.

    Returns
    -------
    tuple of SchemeInfo
        Each with `name`, `aliases`, `formula`, `arguments` and `source`; ``str`` of one is its line of a table.

    Examples
    --------
    >>> from winit_fast import schemes
    >>> info = next(info for info in schemes() if info.name == "he_normal")
    >>> info.aliases
    ('kaiming_normal', 'msra_normal')
    >>> print(next(info for info in schemes() if info.name == "normal"))
    normal(mean=0.0, std=1.0): N(mean, std^2)
    """
    return tuple(dict.fromkeys(_registry.values()))


# The registry


def scheme_of(distribution: Constant | Normal | TruncatedNormal | Uniform) -> Scheme:
    """The scheme that becomes this distribution, whatever the shape.

    Raises
    ------
    ValueError
        If there is none, as for an infinite constant.

    Examples
    --------
    >>> from winit_fast.distributions import Normal
    >>> print(scheme_of(Normal(0.0, 0.5)))
    normal(std=0.5)
    """
    fields = {name: getattr(distribution, name) for name in distribution.__match_args__}
    return read_scheme(_NAMES[type(distribution)], **fields)


_NAMES = {
    Constant: "constant", Normal: "normal", TruncatedNormal: "truncated_normal", Uniform: "uniform",
}  # fmt: skip


class ShapeLaw(ABC):
    """A scheme whose distribution depends on the shape, before any shape is known."""

    draws: ClassVar[bool] = True

    @abstractmethod
    def distribution(self, layout: Layout) -> Distribution:
        """The distribution for this shape; raises ValueError where there is none."""


Law: TypeAlias = Distribution | ShapeLaw

REQUIRED: Any = inspect.Parameter.empty


class Argument(NamedTuple):
    """An argument of a scheme: its `name`, its `default` (`REQUIRED` where it has none) and its `check`."""

    name: str
    default: Any
    check: Callable[[str, Any], Value]

    def __str__(self) -> str:
        return self.name if self.default is REQUIRED else f"{self.name}={self.default!r}"


class Equivalent(NamedTuple):
    """One call of a scheme, and what to call elsewhere for the same distribution; empty if there is nothing.

    Attributes
    ----------
    scheme : str
        The text of our scheme.
    torch : str
        In terms of `torch.nn.init`, for a tensor ``w``; `in_axis`, `out_axis` are then 1 and 0.
    keras, jax : str
        The initializer, in terms of `keras.initializers` and `jax.nn.initializers`.
    """

    scheme: str
    torch: str = ""
    keras: str = ""
    jax: str = ""


@record
class SchemeInfo:
    """A registered scheme.

    Attributes
    ----------
    name : str
        The canonical name.
    aliases : tuple of str
        Names that mean the same.
    formula, source : str
        What it draws, and the paper that says so (may be empty).
    arguments : tuple of Argument
        In order; each has `name` and `default`.
    equivalents : tuple of Equivalent
        Calls of this scheme and the same calls of other libraries.
    differs : str
        How another library's scheme of that name differs from this one; may be empty.
    """

    name: str
    aliases: tuple[str, ...]
    formula: str
    source: str
    arguments: tuple[Argument, ...]
    equivalents: tuple[Equivalent, ...]
    differs: str
    _law: Callable[..., Law]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))}): {self.formula}"

    __eq__, __hash__ = object.__eq__, object.__hash__  # each is itself alone

    def __repr__(self) -> str:
        return f"<scheme {self.name}({', '.join(map(str, self.arguments))})>"

    def make_scheme(self, given: Mapping[str, Any]) -> Scheme:
        """Check the arguments given and make the scheme."""
        known = [argument.name for argument in self.arguments]
        for name in given:
            if name not in known:
                hint = did_you_mean(name, known) if known else "it takes none"
                raise TypeError(f"{self.name}: argument {quote(name)} is unknown; {hint}")
        values: dict[str, Value] = {}
        changed: list[str] = []
        try:
            for name, default, check in self.arguments:
                value = given.get(name, default)
                if value is REQUIRED:
                    raise TypeError(f"argument {name!r} is missing")
                values[name] = check(name, value)
                if repr(values[name]) != repr(default):
                    changed.append(f"{name}={_format_literal(values[name])}")
            law = self._law(**values)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.name}: {error}") from None
        text = f"{self.name}({', '.join(changed)})" if changed else self.name
        return Scheme(self.name, MappingProxyType(values), tuple(changed), text, law)

    scheme = make_scheme  # an older name of SchemeInfo.make_scheme


Entry = SchemeInfo  # its older name

_registry: dict[str, SchemeInfo] = {}  # every name and alias


def register(
    *equivalents: Equivalent, aliases: tuple[str, ...] = ()
) -> Callable[[Callable[..., Law]], Callable[..., Law]]:
    """Register a scheme under the name of the function that turns its checked arguments into a law.

    The function's signature gives the names, kinds and defaults of the arguments, its docstring the formula and, in
    paragraphs that begin ``Source:`` and ``Differs:``, the paper and what others mean by the name.
    """

    def decorate(function: Callable[..., Law]) -> Callable[..., Law]:
        _add(function.__name__, aliases, "", function, function, equivalents)
        return function

    return decorate


def register_family(
    kinds: Mapping[str, str], *equivalents: Equivalent, aliases: tuple[str, ...] = ()
) -> Callable[[Callable[..., Law]], Callable[..., Law]]:
    """Register a scheme for each of the `kinds`, ``NAME_KIND``; its own formula stands before the docstring's.

    The kind is the function's first argument.
    """

    def decorate(function: Callable[..., Law]) -> Callable[..., Law]:
        for kind, formula in kinds.items():
            name = f"{function.__name__}_{kind}"
            names = tuple(f"{alias}_{kind}" for alias in aliases)
            same = tuple(one for one in equivalents if one.scheme.partition("(")[0] == name)
            _add(name, names, f"{formula}. ", partial(function, kind), function, same)
        return function

    return decorate


def _add(
    name: str,
    aliases: tuple[str, ...],
    prefix: str,
    law: Callable[..., Law],
    documented: Callable[..., Law],
    equivalents: tuple[Equivalent, ...],
) -> None:
    formula, *more = (inspect.getdoc(documented) or "").split("\n\n")
    said = dict.fromkeys(("Source", "Differs"), "")
    for paragraph in more:
        what, _, text = paragraph.partition(": ")
        said[what] = " ".join(text.split()).rstrip(".")
    parameters = inspect.signature(law).parameters.values()
    arguments = tuple(Argument(p.name, p.default, p.annotation.__metadata__[0]) for p in parameters)
    formula = prefix + " ".join(formula.split()).rstrip(".")
    info = make(SchemeInfo, name, aliases, formula, said["Source"], arguments, equivalents, said["Differs"], law)
    names = (name, *aliases)
    for known in names:
        if known in _registry:
            raise ValueError(f"scheme {known!r} is registered already")
    _registry.update(dict.fromkeys(names, info))


# Reading a text

#: Longer texts, which are arrays, are not kept: the others take some 20 MB at most.
LONGEST_KEPT = 160

_LONGEST = 1000  # characters: ast.parse may exhaust the stack on a deeply nested text; the values of an array are JSON


def _format_literal(value: Value) -> str:
    """The literal that reads back to an argument's value."""
    return f"[{', '.join(map(_format_literal, value))}]" if isinstance(value, tuple) else repr(value)


@lru_cache(maxsize=1024)
def _read(text: str) -> Scheme:
    info, given = _parse(text)
    return info.make_scheme(given)


def _parse(text: str) -> tuple[SchemeInfo, dict[str, Any]]:
    """The scheme that a text names, and the arguments it gives."""
    if text in _registry:
        return _registry[text], {}
    try:
        if len(text) > _LONGEST:
            import json
            import re

            values = re.fullmatch(r"\s*(?:array|assign)\((?:values=)?(\[.*\])\)\s*", text, re.DOTALL)
            if values is None:
                raise ValueError
            return _registry["array"], {"values": json.loads(values[1])}
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _make_error(text) from None
    match call:
        case ast.Name(id=name):
            call = ast.Call(func=call, args=[], keywords=[])
        case ast.Call(func=ast.Name(id=name)):
            pass
        case _:
            raise _make_error(text)
    if name not in _registry:
        hint = _find_equivalent(name) or did_you_mean(name, _registry)
        raise ValueError(f"scheme {quote(name)} is unknown; {hint}")
    info = _registry[name]
    if len(call.args) > len(info.arguments):
        raise TypeError(f"{info.name}: takes at most {len(info.arguments)} arguments, got {len(call.args)}")
    given = {
        argument.name: _read_literal(node, text) for argument, node in zip(info.arguments, call.args, strict=False)
    }
    for keyword in call.keywords:
        if keyword.arg is None:
            raise _make_error(text)
        if keyword.arg in given:
            raise TypeError(f"{info.name}: argument {quote(keyword.arg)} is given twice in {quote(text)}")
        given[keyword.arg] = _read_literal(keyword.value, text)
    return info, given


def _read_literal(node: ast.expr, text: str) -> Any:
    match node:
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = _read_literal(operand, text) if not isinstance(operand, ast.UnaryOp) else None
            if isinstance(number, int | float) and not isinstance(number, bool):
                return -number if isinstance(sign, ast.USub) else number
        case ast.Constant(value=value):
            return value
        case ast.List(elts=members) | ast.Tuple(elts=members):
            return tuple(_read_literal(member, text) for member in members)
        case ast.Name(id="inf" | "nan" as name):
            return float(name)
        case ast.Name(id=word):
            raise ValueError(f"scheme {quote(text)} cannot be read at {word[:80]}; a word needs quotes: {quote(word)}")
    raise _make_error(text)


def _find_equivalent(name: str) -> str:
    """Say what another library's name is called here: Keras's HeNormal is not our he_normal."""
    for entry in dict.fromkeys(_registry.values()):
        for equivalent in entry.equivalents:
            for library, call in (("torch.nn.init", equivalent.torch), ("keras.initializers", equivalent.keras)):
                if call.partition("(")[0] == name:
                    return f"{library}.{name} is {equivalent.scheme.partition('(')[0]!r} here"
    return ""


def _make_error(text: str) -> ValueError:
    close = nearest_word(text, _registry)
    hint = f"; did you mean {close!r}?" if close else ""
    return ValueError(
        f"scheme {quote(text)} cannot be read; it must be a name, or a call with literal arguments "
        f"such as 'normal(std=0.02)'{hint}"
    )
