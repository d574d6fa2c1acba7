"""A record is a frozen dataclass with slots in all that a user can see."""

import copy
import dataclasses
import inspect
import pickle
import sys
import threading
from typing import ClassVar

import pytest

import winit_fast
from winit_fast.distributions import Constant, Normal, Uniform
from winit_fast.fans import Layout
from winit_fast.recommend import Recommendation
from winit_fast.records import record
from winit_fast.target import Side


def body(cls):
    """The same class each time, for two ways to make it complete."""
    cls.__doc__ = "A place."
    return cls


@dataclasses.dataclass(frozen=True, slots=True)
@body
class Usual:
    x: float
    y: "tuple[int, ...]" = (1,)
    kind: ClassVar[str] = "place"

    def size(self):
        return abs(self.x)


@record
@body
class Ours:
    x: float
    y: "tuple[int, ...]" = (1,)
    kind: ClassVar[str] = "place"

    def size(self):
        return abs(self.x)


def outcome(function, cls):
    try:
        return function(cls)
    except Exception as error:
        return type(error), str(error)


FUNCTIONS = [
    lambda cls: repr(cls(1.0)),
    lambda cls: repr(cls(y=(2, 3), x=-0.0)),
    lambda cls: cls(),
    lambda cls: cls(1.0, 2, 3),
    lambda cls: cls(1.0, z=2),
    lambda cls: str(inspect.signature(cls)),
    lambda cls: cls(1.0) == cls(1.0),
    lambda cls: cls(1.0) == cls(2.0),
    lambda cls: cls(1.0) == (1.0, (1,)),
    lambda cls: hash(cls(1.0)) == hash((1.0, (1,))),
    lambda cls: hash(cls([])),
    lambda cls: setattr(cls(1.0), "x", 2.0),
    lambda cls: delattr(cls(1.0), "y"),
    lambda cls: vars(cls(1.0)),
    lambda cls: (cls.__slots__, cls.__match_args__, cls.kind, cls.__doc__, cls.__module__),
    lambda cls: cls(-2.0).size(),
    lambda cls: dataclasses.is_dataclass(cls),
    lambda cls: [(field.name, field.type, field.default) for field in dataclasses.fields(cls)],
    lambda cls: dataclasses.asdict(cls(1.0)),
    lambda cls: dataclasses.replace(cls(1.0), y=()).y,
    lambda cls: dataclasses.replace(cls(1.0), kind="other"),
    lambda cls: copy.deepcopy(cls(1.0)) == cls(1.0),
    lambda cls: pickle.loads(pickle.dumps(cls(1.0))) == cls(1.0),
    lambda cls: pickle.dumps(cls(1.0), 2),
    lambda cls: [name for name in dir(cls) if not name.startswith("__")],
]


def renamed(result):
    if isinstance(result, bytes):
        return result.replace(b"Ours", b"Usual")
    if isinstance(result, tuple | list):
        return type(result)(map(renamed, result))
    return result.replace("Ours", "Usual") if isinstance(result, str) else result


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_record_does_what_a_dataclass_does(function):
    assert renamed(outcome(function, Ours)) == renamed(outcome(function, Usual))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_first_use_of_a_record_does_what_later_ones_do(function, monkeypatch):
    fresh = record(type("Ours", (), {name: vars(Usual)[name] for name in ("__annotations__", "kind", "size", "__doc__")}
                        | {"y": (1,), "__module__": __name__}))  # fmt: skip
    monkeypatch.setattr(sys.modules[__name__], "Ours", fresh)
    assert renamed(outcome(function, fresh)) == renamed(outcome(function, Usual))


def test_a_method_that_a_record_has_itself_stays():
    assert Constant(0.0) != Constant(-0.0)
    assert hash(Constant(2.0)) == hash(Constant(2.0))
    info = next(info for info in winit_fast.schemes() if info.name == "normal")
    assert len({info, dataclasses.replace(info)}) == 2
    assert repr(info) == "<scheme normal(mean=0.0, std=1.0)>"


@pytest.mark.parametrize(
    ("made", "signature"),
    [
        (Normal, "(mean: 'float', std: 'float') -> None"),
        (Uniform, "(low: 'float', high: 'float', rounding: 'str' = 'nearest') -> None"),
        (Recommendation, "(scheme: 'Scheme', reason: 'str') -> None"),
    ],
)
def test_signatures_are_those_of_dataclasses(made, signature):
    assert str(inspect.signature(made)) == signature


def test_pickles_of_dataclasses_are_loaded():
    older = (
        b"\x80\x02cwinit_fast.distributions\nNormal\nq\x00)\x81q\x01]q\x02"
        b"(G\x00\x00\x00\x00\x00\x00\x00\x00G?\xe0\x00\x00\x00\x00\x00\x00eb."
    )
    assert pickle.loads(older) == Normal(0.0, 0.5)
    assert pickle.dumps(Normal(0.0, 0.5), 2) == older


def test_many_threads_may_use_a_record_first():
    for _ in range(20):
        made = record(type("Made", (), {"__annotations__": {"x": "int"}, "__module__": __name__}))
        start, found = threading.Barrier(8), []

        def use(made=made, start=start, found=found):
            start.wait()
            found.append(repr(made(1)))

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == ["Made(x=1)"] * 8


def test_defaults_of_records_are_kept():
    assert Layout((2, 3)) == Layout((2, 3), -2, -1, (), False)
    assert Side((2,), (2,), (0,), (8,)).listed == -1
