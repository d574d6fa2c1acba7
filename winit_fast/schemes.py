"""The schemes: what a user asks for by name, with arguments checked and one text form that reads back.

To add a scheme, write one function under `register` (or `family`) at the end of this file. Its signature gives the
names, kinds and defaults of the arguments, its docstring the formula and, after ``Source:``, where that comes from.
"""

import ast
import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple, SupportsIndex, TypeAlias

from winit_fast.distributions import Constant, Distribution, Normal, TruncatedNormal, Uniform
from winit_fast.fans import Axes, Fans, fans
from winit_fast.floating_point import default_floating_point
from winit_fast.messages import shown

__all__ = ["REQUIRED", "Argument", "Entry", "Scheme", "calculate_gain", "scheme", "schemes"]

Value: TypeAlias = float | str | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Scheme:
    """A scheme with its arguments, made by `scheme`. Hashable; ``str`` of it reads back to an equal one.

    Attributes
    ----------
    name : str
        The canonical name.
    arguments : mapping of str to float, str or None
        All arguments in their declared order, defaults included. Read-only.

    Examples
    --------
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
    _law: "Law"

    @property
    def draws(self) -> bool:
        """Whether values depend on a seed; a constant's do not.

        Examples
        --------
        >>> scheme("normal").draws, scheme("normal(std=0)").draws
        (True, False)
        """
        return self._law.draws

    @default_floating_point
    def distribution(
        self, shape: Sequence[SupportsIndex], in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
    ) -> Distribution:
        """The distribution of the elements of a tensor of this (global) shape.

        Parameters
        ----------
        shape, in_axis, out_axis, batch_axis
            As in `fans`; not looked at by schemes without fans.

        Returns
        -------
        Constant, Uniform, Normal or TruncatedNormal

        Raises
        ------
        TypeError, ValueError
            As `fans`.

        Examples
        --------
        >>> scheme("he_normal").distribution((2, 256))
        Normal(mean=0.0, std=1.0)
        >>> scheme("truncated_normal", std=0.02).distribution(())
        TruncatedNormal(mean=0.0, std=0.02, low=-2.0, high=2.0)
        """
        law = self._law
        if isinstance(law, FanScaled):
            return law.distribution(fans(shape, in_axis, out_axis, batch_axis))
        return law

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"scheme({', '.join([repr(self.name), *self._changed])})"

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Scheme) else NotImplemented

    def __reduce__(self) -> tuple[Callable[..., "Scheme"], tuple[str]]:
        return scheme, (self._text,)


@default_floating_point
def scheme(spec: str | Scheme, /, **arguments: Any) -> Scheme:
    """Make a scheme from its name, from a text such as ``"normal(std=0.02)"``, or from another scheme.

    Parameters
    ----------
    spec : str or Scheme
        A name, an alias, or a call of one with literal arguments, by position or by name. It is parsed, never
        evaluated; besides literals only ``inf`` may stand in it.
    **arguments
        Arguments of the scheme; they replace those that `spec` has. NumPy scalars do; a bool is no number.

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
            return _read(spec)
        if isinstance(spec, Scheme):
            return spec
    elif isinstance(spec, str):
        entry, given = _parse(spec)
        return entry.scheme({**given, **arguments})
    elif isinstance(spec, Scheme):
        return _registry[spec.name].scheme({**spec.arguments, **arguments})
    raise TypeError(f"scheme must be a str or a Scheme, got {shown(spec)}")


def schemes() -> "tuple[Entry, ...]":
    """List every scheme.

    Returns
    -------
    tuple of Entry
        Each with `name`, `aliases`, `formula`, `arguments` and `source`; ``str`` of one is its line of a table.

    Examples
    --------
    >>> entry = next(entry for entry in schemes() if entry.name == "he_normal")
    >>> entry.aliases
    ('kaiming_normal', 'msra_normal')
    >>> print(next(entry for entry in schemes() if entry.name == "normal"))
    normal(mean=0.0, std=1.0): N(mean, std^2)
    """
    return tuple(dict.fromkeys(_registry.values()))


@default_floating_point
def calculate_gain(nonlinearity: str, slope: float | None = None) -> float:
    """The factor by which weights must be wider to keep the variance through a nonlinearity.

    Parameters
    ----------
    nonlinearity : str
        ``linear``, ``conv`` (also ``conv1d`` ... ``conv_transpose3d``) and ``sigmoid`` have gain 1, ``tanh`` 5/3,
        ``relu`` sqrt(2), ``leaky_relu`` sqrt(2 / (1 + slope^2)), ``selu`` 3/4: PyTorch's table.
    slope : float, optional
        The negative slope of ``leaky_relu``, 0.01 where left out. The others have none.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the nonlinearity is unknown, or the slope is not a finite number or has no use.

    Examples
    --------
    >>> calculate_gain("tanh")
    1.6666666666666667
    >>> calculate_gain("leaky_relu", slope=1)
    1.0
    """
    nonlinearity = one_of(*_GAINS)("nonlinearity", nonlinearity)
    if nonlinearity != "leaky_relu":
        if slope is not None:
            raise ValueError(f"slope needs nonlinearity='leaky_relu', got {shown(slope)} with {nonlinearity!r}")
        return _GAINS[nonlinearity]
    negative_slope = 0.01 if slope is None else finite("slope", slope)
    square = negative_slope * negative_slope
    if math.isinf(square):
        raise ValueError(f"slope must have a square within float64, got {negative_slope}")
    return math.sqrt(2.0 / (1.0 + square))


# Kinds of arguments: each takes the argument's name and what was given, and returns the canonical value or raises.


def _number(argument: str, value: Any) -> float:
    scalar = value.item() if getattr(value, "ndim", None) == 0 else value  # of NumPy, ml_dtypes or a framework
    if isinstance(scalar, bool) or not isinstance(scalar, numbers.Real):
        raise TypeError(f"{argument} must be a number, got {shown(value)}")
    try:
        number = float(scalar)
    except OverflowError:
        raise ValueError(f"{argument} must be within the range of float64, got {shown(value)}") from None
    if math.isnan(number):
        raise ValueError(f"{argument} must be a number, got nan")
    return number


def finite(argument: str, value: Any) -> float:
    """Any finite number."""
    number = _number(argument, value)
    if math.isinf(number):
        raise ValueError(f"{argument} must be finite, got {number}")
    return number


def not_negative(argument: str, value: Any) -> float:
    """A finite number >= 0."""
    number = finite(argument, value)
    if number < 0.0:
        raise ValueError(f"{argument} must be >= 0, got {number}")
    return abs(number)


def lower_bound(argument: str, value: Any) -> float:
    """Where a normal is cut below, in standard deviations."""
    number = _number(argument, value)
    if number > _FARTHEST:
        raise ValueError(f"{argument} must be <= {_FARTHEST:g} standard deviations, got {number}")
    return number


def upper_bound(argument: str, value: Any) -> float:
    """Where a normal is cut above, in standard deviations."""
    number = _number(argument, value)
    if number < -_FARTHEST:
        raise ValueError(f"{argument} must be >= {-_FARTHEST:g} standard deviations, got {number}")
    return number


def one_of(*choices: str) -> Callable[[str, Any], str]:
    """One of these words."""

    def check(argument: str, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(f"{argument} must be a str, got {shown(value)}")
        if value not in choices:
            close = _close(value, choices)
            hint = f"did you mean {close!r}? It" if close else "it"
            raise ValueError(f"{argument} {shown(value)} is unknown; {hint} must be one of {', '.join(choices)}")
        return str(value)

    return check


def optional(check: Callable[[str, Any], Value]) -> Callable[[str, Any], Value]:
    """None, or what `check` takes."""
    return lambda argument, value: None if value is None else check(argument, value)


# N(0, 1) holds 6e-300 beyond 37 standard deviations; much farther out float64 has no number for what is left.
_FARTHEST = 37.0

# PyTorch's torch.nn.init.calculate_gain; leaky_relu's follows from its slope.
_GAINS = {
    "linear": 1.0,
    "conv": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": 1.4142135623730951,
    "leaky_relu": math.nan,
    "selu": 3.0 / 4.0,
}


def _nearest(word: str, known: Sequence[str] | Mapping[str, object]) -> str:
    close = _close(word, known)
    return f"did you mean {close!r}?" if close else f"it must be one of {', '.join(known)}"


def _close(word: str, known: Sequence[str] | Mapping[str, object]) -> str | None:
    from difflib import get_close_matches  # 2 ms, and only ever needed for a misspelt word

    return next(iter(get_close_matches(word.lower(), known, n=1)), None)


# Laws: what a scheme says before any shape is known.

_SQRT3 = 1.7320508075688772

# The standard deviation of N(0, 1) cut at +-2: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)); the constant of Keras and JAX.
_STD_OF_TRUNCATED = 0.87962566103423978

_KINDS: dict[str, Callable[[float], Distribution]] = {
    "uniform": lambda std: Uniform(-_SQRT3 * std, _SQRT3 * std),
    "normal": lambda std: Normal(0.0, std),
    "truncated_normal": lambda std: TruncatedNormal(0.0, std / _STD_OF_TRUNCATED, -2.0, 2.0),
}

_FORMULAS = {
    "uniform": "U(-sqrt(3) std, sqrt(3) std)",
    "normal": "N(0, std^2)",
    "truncated_normal": "N(0, (std / 0.8796...)^2) cut at 2 of its standard deviations",
}

_FANS: dict[str, Callable[[float, float], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2.0,
    "fan_geo_avg": lambda fan_in, fan_out: math.sqrt(fan_in * fan_out),
}


@dataclass(frozen=True, slots=True)
class FanScaled:
    """A distribution around 0 whose standard deviation `std` falls with a fan."""

    std: Callable[[float], float]
    mode: str
    kind: str
    draws: ClassVar[bool] = True

    def distribution(self, fans: Fans) -> Distribution:
        """The distribution for these fans; a fan below 1 (an empty tensor's) counts as 1."""
        try:
            fan = _FANS[self.mode](float(fans.fan_in), float(fans.fan_out))
        except OverflowError:
            fan = math.inf
        if math.isinf(fan):
            raise ValueError(f"shape must have fans within float64, got {shown(tuple(fans))}")
        std = self.std(max(1.0, fan))
        return _KINDS[self.kind](std) if std > 0.0 else Constant(0.0)


Law: TypeAlias = Distribution | FanScaled


def _fan_scaled(std: Callable[[float], float], mode: str, kind: str) -> Law:
    law = FanScaled(std, mode, kind)
    match law.distribution(Fans(1, 1)):  # the widest it gets
        case Constant() as constant:
            return constant
        case Uniform(high=spread) | TruncatedNormal(std=spread) if math.isinf(spread):
            raise ValueError(f"gain or scale must keep the weights within float64, got a std of {std(1.0)}")
    return law


# The registry

REQUIRED: Any = inspect.Parameter.empty


class Argument(NamedTuple):
    """An argument of a scheme: its `name`, its `default` (`REQUIRED` where it has none) and its `check`."""

    name: str
    default: Any
    check: Callable[[str, Any], Value]

    def __str__(self) -> str:
        return self.name if self.default is REQUIRED else f"{self.name}={self.default!r}"


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
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
    """

    name: str
    aliases: tuple[str, ...]
    formula: str
    source: str
    arguments: tuple[Argument, ...]
    _law: Callable[..., Law]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))}): {self.formula}"

    def scheme(self, given: Mapping[str, Any]) -> Scheme:
        """Check the arguments given and make the scheme."""
        known = [argument.name for argument in self.arguments]
        for name in given:
            if name not in known:
                hint = _nearest(name, known) if known else "it takes none"
                raise TypeError(f"{self.name}: argument {shown(name)} is unknown; {hint}")
        values: dict[str, Value] = {}
        changed: list[str] = []
        try:
            for name, default, check in self.arguments:
                value = given.get(name, default)
                if value is REQUIRED:
                    raise TypeError(f"argument {name!r} is missing")
                values[name] = check(name, value)
                if repr(values[name]) != repr(default):
                    changed.append(f"{name}={values[name]!r}")
            law = self._law(**values)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.name}: {error}") from None
        text = f"{self.name}({', '.join(changed)})" if changed else self.name
        return Scheme(self.name, MappingProxyType(values), tuple(changed), text, law)


_registry: dict[str, Entry] = {}  # every name and alias


def register(function: Callable[..., Law]) -> Callable[..., Law]:
    """Register a scheme under the name of the function that turns its checked arguments into a law."""
    _add(function.__name__, (), "", function, function)
    return function


def family(*aliases: str) -> Callable[[Callable[..., Law]], Callable[..., Law]]:
    """Register ``*_uniform``, ``*_normal`` and ``*_truncated_normal``; the function's first argument says which."""

    def decorate(function: Callable[..., Law]) -> Callable[..., Law]:
        for kind, formula in _FORMULAS.items():
            names = tuple(f"{alias}_{kind}" for alias in aliases)
            _add(f"{function.__name__}_{kind}", names, f"{formula}. ", partial(function, kind), function)
        return function

    return decorate


def _add(
    name: str, aliases: tuple[str, ...], prefix: str, law: Callable[..., Law], documented: Callable[..., Law]
) -> None:
    formula, _, source = (inspect.getdoc(documented) or "").partition("\n\nSource: ")
    parameters = inspect.signature(law).parameters.values()
    arguments = tuple(Argument(p.name, p.default, p.annotation.__metadata__[0]) for p in parameters)
    formula, source = " ".join(formula.split()).rstrip("."), " ".join(source.split()).rstrip(".")
    entry = Entry(name, aliases, prefix + formula, source, arguments, law)
    for known in (name, *aliases):
        if known in _registry:
            raise ValueError(f"scheme {known!r} is registered already")
        _registry[known] = entry


# Reading a text

_LONGEST = 1000  # characters: ast.parse may exhaust the stack on a deeply nested text


@lru_cache(maxsize=1024)
def _read(text: str) -> Scheme:
    entry, given = _parse(text)
    return entry.scheme(given)


def _parse(text: str) -> tuple[Entry, dict[str, Any]]:
    """The entry that a text names, and the arguments it gives."""
    if text in _registry:
        return _registry[text], {}
    try:
        if len(text) > _LONGEST:
            raise ValueError
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _unreadable(text) from None
    match call:
        case ast.Name(id=name):
            call = ast.Call(func=call, args=[], keywords=[])
        case ast.Call(func=ast.Name(id=name)):
            pass
        case _:
            raise _unreadable(text)
    if name not in _registry:
        raise ValueError(f"scheme {shown(name)} is unknown; {_nearest(name, _registry)}")
    entry = _registry[name]
    if len(call.args) > len(entry.arguments):
        raise TypeError(f"{entry.name}: takes at most {len(entry.arguments)} arguments, got {len(call.args)}")
    given = {argument.name: _literal(node, text) for argument, node in zip(entry.arguments, call.args, strict=False)}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise _unreadable(text)
        if keyword.arg in given:
            raise TypeError(f"{entry.name}: argument {shown(keyword.arg)} is given twice in {shown(text)}")
        given[keyword.arg] = _literal(keyword.value, text)
    return entry, given


def _literal(node: ast.expr, text: str) -> Any:
    match node:
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = _literal(operand, text) if not isinstance(operand, ast.UnaryOp) else None
            if isinstance(number, int | float) and not isinstance(number, bool):
                return -number if isinstance(sign, ast.USub) else number
        case ast.Constant(value=value):
            return value
        case ast.Name(id="inf" | "nan" as name):
            return float(name)
        case ast.Name(id=word):
            raise ValueError(f"scheme {shown(text)} cannot be read at {word[:80]}; a word needs quotes: {shown(word)}")
    raise _unreadable(text)


def _unreadable(text: str) -> ValueError:
    close = _close(text, _registry)
    hint = f"; did you mean {close!r}?" if close else ""
    return ValueError(
        f"scheme {shown(text)} cannot be read; it must be a name, or a call with literal arguments "
        f"such as 'normal(std=0.02)'{hint}"
    )


# The schemes

Finite: TypeAlias = Annotated[float, finite]
NotNegative: TypeAlias = Annotated[float, not_negative]
Low: TypeAlias = Annotated[float, lower_bound]
High: TypeAlias = Annotated[float, upper_bound]
Mode: TypeAlias = Annotated[str, one_of(*_FANS)]
Kind: TypeAlias = Annotated[str, one_of(*_KINDS)]
Nonlinearity: TypeAlias = Annotated[str | None, optional(one_of(*_GAINS))]
Slope: TypeAlias = Annotated[float | None, optional(finite)]
Gain: TypeAlias = Annotated[float | None, optional(not_negative)]


@register
def zeros() -> Law:
    """0 everywhere."""
    return Constant(0.0)


@register
def ones() -> Law:
    """1 everywhere."""
    return Constant(1.0)


@register
def constant(value: Finite) -> Law:
    """The value everywhere."""
    return Constant(value)


@register
def uniform(low: Finite = 0.0, high: Finite = 1.0) -> Law:
    """U(low, high), its values in [low, high); low where low == high."""
    if low > high:
        raise ValueError(f"low must be <= high, got low={low}, high={high}")
    return Uniform(low, high) if low < high else Constant(low)


@register
def normal(mean: Finite = 0.0, std: NotNegative = 1.0) -> Law:
    """N(mean, std^2)."""
    return Normal(mean, std) if std > 0.0 else Constant(mean)


@register
def truncated_normal(mean: Finite = 0.0, std: NotNegative = 1.0, low: Low = -2.0, high: High = 2.0) -> Law:
    """N(mean, std^2) given that it falls in [mean + low std, mean + high std].

    Source: Robert 1995, "Simulation of truncated normal variables", arXiv:0907.4010
    """
    if low > high:
        raise ValueError(f"low must be <= high, got low={low}, high={high}")
    if std == 0.0:
        return Constant(mean)
    if low == high:
        return Constant(finite("mean + std * low", mean + std * low))
    if low == -math.inf and high == math.inf:
        return Normal(mean, std)
    return TruncatedNormal(mean, std, low, high)


@register
def variance_scaling(scale: NotNegative = 1.0, mode: Mode = "fan_in", distribution: Kind = "normal") -> Law:
    """The distribution named, around 0, with std = sqrt(scale / fan).

    Source: Keras's VarianceScaling, after He et al. 2015
    """
    return _fan_scaled(lambda fan: math.sqrt(scale / fan), mode, distribution)


@family("kaiming", "msra")
def he(
    kind: Kind, /, gain: Gain = None, mode: Mode = "fan_in", nonlinearity: Nonlinearity = None, slope: Slope = None
) -> Law:
    """Here std = gain / sqrt(fan), gain = calculate_gain(nonlinearity, slope), or sqrt(2) where neither is given.

    Source: He, Zhang, Ren and Sun 2015, "Delving Deep into Rectifiers", arXiv:1502.01852
    """
    if nonlinearity is None:
        if slope is not None:
            raise ValueError(f"slope needs nonlinearity='leaky_relu', got {slope} without a nonlinearity")
        factor = math.sqrt(2.0) if gain is None else gain
    elif gain is not None:
        raise ValueError(f"gain must be left out where a nonlinearity sets it, got {gain} and {nonlinearity!r}")
    else:
        factor = calculate_gain(nonlinearity, slope)
    return _fan_scaled(lambda fan: factor / math.sqrt(fan), mode, kind)


@family("glorot")
def xavier(kind: Kind, /, gain: NotNegative = 1.0, mode: Mode = "fan_avg") -> Law:
    """Here std = gain / sqrt(fan).

    Source: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks"
    """
    return _fan_scaled(lambda fan: gain / math.sqrt(fan), mode, kind)


@family()
def lecun(kind: Kind, /, mode: Mode = "fan_in") -> Law:
    """Here std = 1 / sqrt(fan).

    Source: LeCun, Bottou, Orr and Müller 1998, "Efficient BackProp"
    """
    return _fan_scaled(lambda fan: 1.0 / math.sqrt(fan), mode, kind)
