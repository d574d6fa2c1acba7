"""Frozen dataclasses with slots whose methods are made when they are first used.

`dataclasses.dataclass` compiles six methods a class, which for the classes here was half of what ``import winit_fast``
took. A record has the same methods, and the functions of `dataclasses` take it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: bool) -> Callable[[Any], Any]:
        """Tell type checkers alone: Python has it from 3.11 on."""
        return lambda function: function


__all__ = ["make", "record"]

Class = TypeVar("Class", bound=type)
Object = TypeVar("Object")


@dataclass_transform(frozen_default=True)
def record(cls: Class) -> Class:
    """Make a class what ``dataclasses.dataclass(frozen=True, slots=True)`` makes it.

    Methods that the class has itself stay.

    Examples
    --------
    >>> @record
    ... class Point:
    ...     x: float
    ...     y: float = 0.0
    >>> Point(1.0)
    Point(x=1.0, y=0.0)
    """
    members = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    names = tuple(name for name, kind in cls.__annotations__.items() if "ClassVar" not in str(kind))
    # What dataclass is given later: no more than the fields, so that it makes all methods.
    fields = {name: members.pop(name) for name in names if name in members}
    fields["__annotations__"] = {name: cls.__annotations__[name] for name in names}
    fields["__module__"], fields["__qualname__"] = cls.__module__, cls.__qualname__
    later = {name: _Later(fields) for name in _MADE if name != "__hash__" and name not in members}
    if members.get("__hash__") is None:
        later["__hash__"] = _Later(fields)
    members.update(later, __slots__=names, __match_args__=names, __getstate__=_get_state, __setstate__=_set_state)
    return type(cls)(cls.__name__, cls.__bases__, members)


_MADE = (
    "__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__",
    "__dataclass_fields__", "__dataclass_params__",
    *(("__replace__",) if sys.version_info >= (3, 13) else ()),
)  # fmt: skip


class _Later:
    """What a dataclass has under this name: made, with all the others, when one of them is first asked for."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner, self.name = owner, name

    def __get__(self, one: object, cls: type) -> Any:
        from dataclasses import dataclass

        twin: type = dataclass(frozen=True)(type(self.owner.__name__, (), dict(self.fields)))
        for name in _MADE:
            if isinstance(vars(self.owner).get(name), _Later):
                setattr(self.owner, name, vars(twin)[name])
        found = vars(self.owner)[self.name]
        return found.__get__(one, cls) if hasattr(found, "__get__") else found


def make(cls: type[Object], *values: Any) -> Object:
    """Make an object from all its fields, in their order, without the methods of its class: for import time."""
    one = object.__new__(cls)
    _set_state(one, values)
    return one


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__match_args__]


def _set_state(self: Any, state: Sequence[Any]) -> None:
    for name, value in zip(self.__match_args__, state, strict=True):
        object.__setattr__(self, name, value)
