"""Generated calls of every public function, valid and hostile: python tests/hostile.py --seed 1 --first 0 --count 1000.

A case begins as a valid call. Then none, one or several of its arguments are said in another way: one that means the
same, one that must be refused, or one that may be either. What must hold is judged here, without the library: which
bytes an array has, whether elements of it overlap, what its values are. A case depends on its seed and number alone;
where it fails behind others but not by itself, something of theirs was kept.
"""

import argparse
import decimal
import faulthandler
import itertools
import math
import random
import re
import reprlib
import sys
import tempfile
import types
import warnings
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import reference

import winit_fast
from winit_fast import adapters

DTYPES = reference.DTYPES | reference.COMPLEX_DTYPES
SAME, REFUSED, EITHER = "returns the values", "raises", "does one or the other"
MOST_OF_A_MESSAGE = 1000
MOST_READ = 100_000


class MineError(Exception):
    """What hostile objects raise."""


class ReadOnError(Exception):
    """An endless argument was read on and on."""


# Hostile objects


class Index:
    def __init__(self, number, act=None):
        self.number, self.act = number, act

    def __index__(self):
        if self.act is not None:
            self.act()
        return self.number


class IntSubclass(int):
    def __index__(self):
        return 0

    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


class StrSubclass(str):
    def __eq__(self, other):
        raise MineError

    def __len__(self):
        return -5

    __hash__ = str.__hash__


class Shown:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text() if callable(self.text) else self.text


class Array:
    def __init__(self, give):
        self.give = give

    def __array__(self, dtype=None, copy=None):
        return self.give()

    def __len__(self):
        return 3


class Endless:
    def __iter__(self):
        for number in range(MOST_READ):
            yield 1 + number % 2
        raise ReadOnError


class Liar(Sequence):
    def __init__(self, members, length):
        self.members, self.length = members, length

    def __len__(self):
        return raise_mine() if self.length is None else self.length

    def __getitem__(self, place):
        return self.members[place]


class Plain(np.ndarray):
    pass


class Raising(np.ndarray):
    def __array_finalize__(self, other):
        if getattr(self, "is_raising", False):
            raise MineError

    def __array_function__(self, *_):
        raise MineError

    def __array_ufunc__(self, *_, **__):
        raise MineError

    def __getitem__(self, _):
        raise MineError

    def __repr__(self):
        raise MineError

    def reshape(self, *_, **__):
        raise MineError


def raise_mine():
    raise MineError


def deep(levels, within=3):
    for _ in range(levels):
        within = [within]
    return within


def around_itself():
    members = [1, 2]
    members.append(members)
    return members


# Memory, and which bytes of it an array has


class Place:
    """An array in the middle of bytes; `offsets` are those of its elements, in logical order."""

    def __init__(self, memory, out, start, strides):
        self.memory, self.out, self.dtype, self.shape = memory, out, out.dtype, out.shape
        self.offsets = offsets_of(out.shape, strides, start)
        self.inside = np.zeros(len(memory), bool)
        for byte in range(out.dtype.itemsize):
            self.inside[self.offsets + byte] = True
        self.before = np.array(memory)

    def remember(self):
        self.before = np.array(self.memory)

    def is_untouched(self):
        return bool((self.memory == self.before).all())

    def is_untouched_outside(self):
        return bool((self.memory == self.before)[~self.inside].all())

    def holds(self, expected):
        size = self.dtype.itemsize
        found = np.asarray(self.memory)[self.offsets[:, None] + np.arange(size)]
        return found.tobytes() == np.ascontiguousarray(expected).tobytes()


def offsets_of(shape, strides, start):
    offsets = np.full(shape, start, np.int64)
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        offsets += (np.arange(size) * stride).reshape(-1, *(1,) * (len(shape) - axis - 1))
    return offsets.ravel()


def overlaps(shape, strides, size):
    """Whether two elements have a byte in common: all addresses in order."""
    places = np.sort(offsets_of(shape, strides, 0))
    return bool((np.diff(places) < size).any())


def nests(shape, strides, size):
    """Whether each stride spans all of the axis with the next smaller one."""
    reach = size
    for stride, extent in sorted((abs(stride), extent) for stride, extent in zip(strides, shape, strict=True)):
        if extent > 1:
            if stride < reach:
                return False
            reach += stride * (extent - 1)
    return True


def placed(rng, shape, dtype, strides=None):
    size = dtype.itemsize
    if strides is None:
        strides, reach = [0] * len(shape), size
        axes = list(range(len(shape)))[::-1]
        if rng.random() < 0.6:
            rng.shuffle(axes)
        is_tight = rng.random() < 0.4
        for axis in axes:
            stride = reach + (0 if is_tight else rng.choice([0, 0, 1, 3, size, 2 * size, 40]))
            strides[axis] = stride * rng.choice([1, 1, 1, -1])
            reach += stride * max(0, shape[axis] - 1)
    spans = [stride * max(0, extent - 1) for stride, extent in zip(strides, shape, strict=True)]
    start = rng.choice([64, 64, 71, 80]) - sum(span for span in spans if span < 0)
    length = start + sum(span for span in spans if span > 0) + size + rng.choice([64, 65, 200])
    if rng.random() < 0.05:
        memory = np.memmap(tempfile.TemporaryFile(), np.uint8, "w+", shape=(length,))  # noqa: SIM115
    else:
        memory = np.empty(length, np.uint8)
    memory[:] = 0xA5
    return Place(memory, np.ndarray(shape, dtype, memory, start, tuple(strides)), start, tuple(strides))


# Valid calls


class Call(NamedTuple):
    verb: str
    arguments: dict  # as they are given
    plain: dict  # what they mean
    place: Place | None = None


ANY = ["constant(0.75)", "zeros", "uniform(-0.1, 0.3)", "uniform(0, 1, 'below_high')", "normal(mean=0.01, std=0.5)",
       "truncated_normal(std=0.02)", "truncated_normal(low=-3, high=1)", "truncated_normal(low=10, high=inf)",
       "normal(std=0)", "uniform(1, 1)", "normal(std=1e-45)", "array([0.25])", "residual_normal(12)"]  # fmt: skip
FANS = ["he_normal", "he_uniform(gain=0)", "xavier_uniform", "lecun_truncated_normal", "he_uniform(mode='fan_out')",
        "variance_scaling(2, 'fan_avg', 'uniform')", "mup(base_fan=4)", "xavier_normal(gain=0)",
        "fixup(layers=3)", "deepnet(encoder=2, decoder=3, coder='decoder')"]  # fmt: skip
MATRIX = ["orthogonal", "orthogonal(gain=1.5)", "sparse(0.5)", "sparse(0.3, per='out')", "identity",
          "identity(gain=0.5)", "orthogonal(gain=0)", "sparse(1)", "array([[1, 2, 3]])"]  # fmt: skip
KERNEL = ["dirac", "bilinear", "delta_orthogonal", "convolution_orthogonal"]
ROWS = ["embedding_normal", "embedding_uniform"]
COMPLEX = ["constant(0.75)", "zeros", "normal(std=0.5)", "he_normal", "xavier_uniform", "lecun_truncated_normal"]


def any_shape(rng, ranks, most=2000):
    shape, left = [], most
    for _ in range(rng.choice(ranks)):
        size = rng.choice([0, 1, 1, 2, 3, 4, 5, 8, 31, 33, 64, 200]) if rng.random() < 0.9 else rng.randint(1, 700)
        size = min(size, left)
        shape.append(size)
        left //= max(1, size)
    rng.shuffle(shape)
    return tuple(shape)


def shape_for(rng, scheme):
    if scheme in FANS:
        return any_shape(rng, [2, 2, 3, 4])
    if scheme in MATRIX:
        columns = 3 if scheme.startswith("array") else rng.choice([1, 2, 3, 7, 40, 70])
        return rng.choice([0, 1, 3, 5, 65]), columns
    if scheme in KERNEL:
        ins = rng.randint(1, 6)
        outs = ins + rng.randint(0, 5)
        return *(rng.randint(1, 4) for _ in range(rng.randint(1, 2))), ins, outs
    if scheme in ROWS:
        return any_shape(rng, [1, 2, 2, 3])
    if rng.random() < 0.02:
        shape = [1] * 64  # as many axes as NumPy has
        shape[rng.randrange(64)] = rng.randint(1, 9)
        return tuple(shape)
    most = 200_000 if rng.random() < 0.02 else 2000  # work for several threads
    return any_shape(rng, [1, 1, 2, 3, 5] if scheme.startswith("array") else [0, 1, 1, 2, 2, 3, 5], most)


def tensor_of(rng):
    dtype = DTYPES[rng.choice(list(DTYPES))]
    schemes = COMPLEX if dtype.kind == "c" else rng.choice([ANY, ANY, FANS, MATRIX, KERNEL, ROWS])
    scheme = rng.choice(schemes)
    if scheme == "normal(std=1e-45)" and dtype != np.float64:
        scheme = "normal"
    return dtype, scheme, shape_for(rng, scheme)


def common(rng, scheme, shape):
    """Arguments that all who fill have."""
    arguments: dict[str, Any] = {"seed": rng.choice([0, 7, 2**32, 2**64 - 1])}
    if rng.random() < 0.7:
        arguments["name"] = rng.choice([0, 3, 2**64 - 1, "", "user_id", "ä\0", "n" * 5000])
    if rng.random() < 0.2:
        arguments["threads"] = rng.choice([None, 1, 2, 5])
    if scheme in FANS and rng.random() < 0.3:
        arguments |= {"in_axis": len(shape) - 1, "out_axis": 0}
        if len(shape) > 2 and rng.random() < 0.5:
            arguments |= {"batch_axis": rng.choice([1, (1,)])}
    return arguments


def call_of_fill(rng):
    dtype, scheme, shape = tensor_of(rng)
    plain = {"scheme": scheme, **common(rng, scheme, shape)}
    extent = shape
    if rng.random() < 0.5 and shape:
        edges = [sorted((rng.randint(0, size), rng.randint(0, size))) for size in shape]
        if rng.random() < 0.2:
            edges = [(0, size) for size in shape]
        plain |= {"shape": shape, "offset": tuple(first for first, _ in edges)}
        extent = tuple(last - first for first, last in edges)
    is_split = scheme in FANS + MATRIX and "array" not in scheme and rng.random() < 0.2
    if is_split and shape[0 if "out_axis" in plain else -1] % 2 == 0:
        plain["matrices"] = 2
    rows = [place for place in range(len(shape)) if place not in np.atleast_1d(plain.get("batch_axis", ()))]
    if rows and shape[rows[0]] and rng.random() < 0.15:
        plain["padding_idx"] = rng.randrange(-shape[rows[0]], shape[rows[0]])
    place = placed(rng, extent, dtype)
    verb = rng.choice(["fill", "fill", "init_", "init"])
    if verb == "init":
        plain = {"shape": shape, "dtype": dtype} | {k: v for k, v in plain.items() if k not in ("shape", "offset")}
        return Call("init", dict(plain), plain)
    plain = {"out" if verb == "fill" else "array": place.out, **plain}
    return Call(verb, dict(plain), plain, place)


def call_of_fill_rows(rng):
    dtype, scheme, shape = tensor_of(rng)
    while not shape:
        dtype, scheme, shape = tensor_of(rng)
    count = rng.choice([0, 1, 2, 5, 40]) if shape[0] else 0
    rows = [rng.randrange(shape[0]) for _ in range(count)]
    place = placed(rng, (count, *shape[1:]), dtype)
    plain = {"out": place.out, "rows": rows, "scheme": scheme, **common(rng, scheme, shape), "shape": shape}
    if shape[0] and "batch_axis" not in plain and rng.random() < 0.15:
        plain["padding_idx"] = rng.choice([*rows, 0, -1])
    return Call("fill_rows", dict(plain), plain, place)


def call_of_fill_keys(rng):
    dtype = DTYPES[rng.choice(list(DTYPES))]
    scheme = rng.choice([text for text in (COMPLEX if dtype.kind == "c" else ANY + FANS) if "array" not in text])
    if scheme == "normal(std=1e-45)":
        scheme = "normal"
    ends = any_shape(rng, [1, 2] if scheme in FANS + COMPLEX else [0, 1, 2], 300)
    keys = [rng.choice([0, 5, -1, -(2**63), 2**63 - 1, rng.getrandbits(60)]) for _ in range(rng.choice([0, 1, 3, 30]))]
    place = placed(rng, (len(keys), *ends), dtype)
    plain = {"out": place.out, "keys": keys, "scheme": scheme, "seed": rng.choice([0, 7, 2**64 - 1])}
    if rng.random() < 0.7:
        plain["name"] = rng.choice([3, "user_id"])
    if winit_fast.scheme(scheme).depends_on_shape or rng.random() < 0.3:
        plain["shape"] = (rng.randint(1, 50), *ends)
    if rng.random() < 0.2:
        plain["padding_key"] = rng.choice([*keys, 5])
    return Call("fill_keys", dict(plain), plain, place)


def call_of_random_bits(rng):
    shape = any_shape(rng, [0, 1, 1, 2, 3])
    place = placed(rng, shape, np.dtype("uint32"))
    plain = {"out": place.out, "seed": rng.choice([0, 7, 2**64 - 1]), "name": rng.choice([0, 2**64 - 1, "user_id"])}
    if rng.random() < 0.7:
        plain["offset"] = rng.choice([0, 1, 2**33 - 5, 2**66 - math.prod(shape)])
    return Call("random_bits", dict(plain), plain, place)


def call_of_empty(rng):
    shape = any_shape(rng, [0, 1, 2, 3])
    plain = {"shape": shape, "dtype": rng.choice([*DTYPES.values(), np.dtype("int8"), np.dtype("i4,f8")])}
    if rng.random() < 0.5:
        plain["align"] = rng.choice([1, 2, 64, 4096])
    return Call("empty", dict(plain), plain)


CATALOGUE = {"normal": {"mean": 0.5, "std": 2.0}, "uniform": {"low": -1.0, "high": 2.0}, "constant": {"value": 1.5},
             "truncated_normal": {"low": -1.0, "high": 3.0}, "he_normal": {"nonlinearity": "leaky_relu", "slope": 0.5},
             "kaiming_uniform": {"gain": 2.0, "mode": "fan_out"}, "orthogonal": {"gain": -1.0}, "dirac": {"groups": 2},
             "sparse": {"sparsity": 0.5, "std": 1.0, "per": "out"}, "lstm_bias": {"forget": 2.0, "order": "ifco"},
             "array": {"values": [[1.0, 2.0]]}, "variance_scaling": {"scale": 2.0, "distribution": "uniform"},
             "deepnet": {"encoder": 2, "decoder": 3, "coder": "decoder"}, "mup": {"base_fan": 3}}  # fmt: skip


def call_of_scheme(rng):
    name = rng.choice(list(CATALOGUE))
    plain = {"spec": name, **CATALOGUE[name]}
    return Call("scheme", dict(plain), plain)


def call_of_advice(rng):
    slope = rng.choice([None, 0.25])
    verb, argument = rng.choice([("recommend", "activation"), ("calculate_gain", "nonlinearity")])
    plain = {argument: "leaky_relu" if slope else rng.choice(["relu", "tanh", "gelu"]), "slope": slope}
    return Call(verb, dict(plain), plain)


VERBS = {"fill": winit_fast.fill, "fill_rows": winit_fast.fill_rows, "fill_keys": winit_fast.fill_keys,
         "random_bits": winit_fast.random_bits, "empty": winit_fast.empty, "init": adapters.numpy.init,
         "init_": adapters.numpy.init_, "scheme": winit_fast.scheme, "recommend": winit_fast.recommend,
         "calculate_gain": winit_fast.calculate_gain}  # fmt: skip
CALLS = [*[call_of_fill] * 8, *[call_of_fill_rows] * 4, *[call_of_fill_keys] * 3, call_of_random_bits, call_of_empty,
         call_of_scheme, call_of_advice]  # fmt: skip


# Other ways to say an argument: (value, what the call then does)


def wrong(rng):
    """What is no number, sequence, text or array, or none that anything here takes."""
    return rng.choice([
        lambda: object(), lambda: b"1", lambda: {1: 2}, lambda: {1, 2}, lambda: type, lambda: lambda: 1,
        lambda: Ellipsis, lambda: NotImplemented, lambda: 1 + 2j, lambda: math.nan, lambda: "x" * 10**6,
        lambda: Shown("r" * 10**7), lambda: Shown(raise_mine), lambda: Shown(lambda: 5), lambda: deep(5000),
        lambda: around_itself(), lambda: deep(200), lambda: types.SimpleNamespace(shape=(3,), dtype="float32", size=3),
        lambda: np.datetime64("2020-01-01"), lambda: np.array(["a"]), lambda: np.array([None]),
        lambda: (x for x in "ab"), lambda: memoryview(b"abcd"),
        lambda: Array(raise_mine), lambda: Array(lambda: 3), lambda: "\ud800",
        lambda: np.ma.masked, lambda: [1.5], lambda: [True], lambda: [[1, 2], [3]], lambda: np.zeros((2, 2)),
    ])()  # fmt: skip


def other_int(rng, plain, context):
    """An int said in other ways; anything else must be refused."""
    if rng.random() < 0.4 and plain is not None:
        ways = [IntSubclass(plain), Index(plain), np.array(plain)] if abs(plain) < 2**63 else [Index(plain)]
        if 0 <= plain < 2**64:
            ways.append(np.uint64(plain))
        if -128 <= plain < 128:
            ways += [np.int8(plain), np.array(plain, ">i4")]
        way = rng.choice(ways)
        return way, EITHER if isinstance(way, IntSubclass) else SAME
    if rng.random() < 0.3:
        return Index(plain, mischief(rng, context)), EITHER
    return rng.choice([
        lambda: (True, REFUSED), lambda: (np.bool_(True), REFUSED), lambda: (1.0, REFUSED), lambda: ([1], EITHER),
        lambda: (np.float32(1), REFUSED), lambda: (math.inf, REFUSED), lambda: (decimal.Decimal(1), REFUSED),
        lambda: (Fraction(1), REFUSED), lambda: ("1", EITHER), lambda: (None, EITHER), lambda: (-1, EITHER),
        lambda: (2**64, REFUSED), lambda: (-(2**63) - 1, REFUSED), lambda: (10**5000, REFUSED), lambda: (0, EITHER),
        lambda: (-(10**5000), REFUSED), lambda: (Index("a"), REFUSED), lambda: (Index(0, raise_mine), REFUSED),
        lambda: (Index(10**30), REFUSED), lambda: (np.array([1]), EITHER), lambda: (wrong(rng), EITHER),
    ])()  # fmt: skip


def mischief(rng, context):
    """What an argument does to the target or the rows while it is read."""
    out = context.arguments.get("out", context.arguments.get("array"))
    rows = context.arguments.get("rows", context.arguments.get("keys"))

    def change(name, value):
        def act():
            with suppress(ValueError, TypeError, AttributeError):
                setattr(out, name, value)

        return act

    def fill_rows():
        is_apart = isinstance(rows, np.ndarray) and not np.may_share_memory(rows, context.place.memory)
        if is_apart and rows.flags.writeable:
            rows[...] = rng.choice([0, 100])
        elif isinstance(rows, list):
            rows.clear()

    if not isinstance(out, np.ndarray):
        return rng.choice([None, raise_mine])
    return rng.choice([
        change("shape", (-1,)), change("shape", (out.size, 1)), change("dtype", np.dtype("uint8")),
        change("dtype", np.dtype(f"V{out.dtype.itemsize}")), fill_rows, fill_rows, raise_mine,
        lambda: out.setflags(write=False), change("strides", (0,) * out.ndim),
    ])  # fmt: skip


def other_ints(rng, plain, context):
    """A sequence of int said in other ways."""
    if rng.random() < 0.4 and isinstance(plain, tuple):
        way = rng.choice([list, np.array, lambda p: tuple(np.int64(n) for n in p), lambda p: [Index(n) for n in p]])
        if plain and max(plain) < 2**63:
            return way(plain), SAME if way is not np.array else EITHER
    members = list(plain) if isinstance(plain, tuple) else [1]
    # A tall orthogonal matrix costs its height, however few rows are asked for.
    large = 2**63 if "orthogonal" in str(context.plain.get("scheme")) else 2**62
    return rng.choice([
        lambda: (iter(members), EITHER), lambda: (Endless(), REFUSED), lambda: (iter(Endless()), REFUSED),
        lambda: (itertools.chain(members, Endless()), REFUSED), lambda: (Liar(members, 2**62), EITHER),
        lambda: (Liar(members, -1), EITHER), lambda: (Liar(members, None), EITHER), lambda: ([*members, 1], EITHER),
        lambda: (members[1:], EITHER), lambda: ([-1, *members[1:]], EITHER), lambda: ([large, *members[1:]], EITHER),
        lambda: ([2**63, 2**63], REFUSED), lambda: ([10**5000], REFUSED), lambda: ((1,) * 65, EITHER),
        lambda: ((0,) * 5000, EITHER), lambda: ([Index(1, mischief(rng, context)), *members[1:]], EITHER),
        lambda: ([Index(1, raise_mine)], REFUSED), lambda: ([True], REFUSED), lambda: ([None], REFUSED),
        lambda: (str(members), REFUSED), lambda: ([1.0], REFUSED), lambda: (None, EITHER), lambda: (3, EITHER),
        lambda: (np.array(members, float), REFUSED if members else EITHER), lambda: (wrong(rng), EITHER),
    ])()  # fmt: skip


def other_list(rng, plain, context):
    """Rows or keys said in other ways."""
    kind = np.array(plain, np.int64)
    out = context.place.out
    if rng.random() < 0.5:
        strided = np.repeat(kind, 3)[1::3]
        ways = [tuple(plain), kind, kind.astype(">i8"), strided, np.frombuffer(b"\0" + kind.tobytes(), np.uint8)[1:]]
        ways[-1] = ways[-1].view(np.int64) if len(plain) else kind
        ways.append(kind[::-1].copy()[::-1])
        if len(plain) and kind.min() >= 0 and kind.max() < 128:
            ways += [kind.astype("i1"), kind.astype("u8"), kind.astype(">u2")]
        way = rng.choice(ways)
        if isinstance(way, np.ndarray) and way.base is None and rng.random() < 0.3:
            way.flags.writeable = False
        return way, SAME
    if rng.random() < 0.3 and context.place.memory[context.place.inside].size >= 8 * len(plain) + 8:
        first = -(-int(context.place.offsets.min()) // 8) * 8  # the list stands within the memory that is filled
        if first + kind.nbytes <= len(context.place.memory) - 8:
            room = context.place.memory[first : first + kind.nbytes].view(np.int64)
            room[:] = kind
            context.place.remember()
            return room, SAME if len(plain) else EITHER
    return rng.choice([
        lambda: (kind.astype(float), REFUSED), lambda: (kind > 0, REFUSED), lambda: (kind.astype("M8[s]"), REFUSED),
        lambda: (kind.reshape(1, -1), REFUSED), lambda: (np.int64(0), REFUSED), lambda: (kind.astype("U8"), REFUSED),
        lambda: (kind.astype(object), EITHER), lambda: (None, REFUSED), lambda: (np.append(kind, 2**62), REFUSED),
        lambda: (plain[1:], EITHER), lambda: ([*plain[1:], 10**30], REFUSED),
        lambda: ([*plain[1:], -(2**63) - 1], REFUSED), lambda: (deep(70), REFUSED),
        lambda: (Array(lambda: kind), EITHER), lambda: (Array(raise_mine), REFUSED), lambda: (out, EITHER),
        lambda: (np.ma.array(kind, mask=True), EITHER), lambda: (kind.view(Raising), EITHER),
        lambda: (Liar(plain, 2**40), EITHER), lambda: (Liar(plain, -1), EITHER), lambda: (around_itself(), REFUSED),
        lambda: ([Index(0, mischief(rng, context))] * len(plain), EITHER), lambda: (wrong(rng), EITHER),
    ])()  # fmt: skip


def other_scheme(rng, plain, context):
    if context.verb == "scheme" and rng.random() < 0.3:  # which takes the rest by name
        return np.str_(plain), SAME
    if context.verb != "scheme" and rng.random() < 0.3:
        made = winit_fast.scheme(plain)
        return rng.choice([made, str(made), f"  {plain} ", np.str_(plain)]), SAME
    if rng.random() < 0.1:
        return StrSubclass(plain), EITHER
    refused = EITHER if context.verb == "scheme" else REFUSED  # arguments by name take the place of a text's
    return rng.choice([
        *[lambda text=text: (text, refused) for text in (
            "", "he_norml", "normal(", "normal(std=nan)", "normal(std=-1)", "normal(1, 2, 3)", "normal(std=1, std=1)",
            "constant(1e400)", "constant(True)", "constant('1')", "constant(1j)", "uniform(1, 0)", "normal(**{})",
            "normal(*[1])", "__import__('os').system('true')", "normal(std=__import__)", "constant(--1)", "(" * 900,
            "array(" + "[" * 70 + "1" + "]" * 70 + ")", "array([])", "array([[1], [1, 2]])",
            "constant(1" + "0" * 5000 + ")",
            "array(" + "[" * 100_000 + ")", "x" * 10**6, "normal\0", "\ud800", "normal(std=\ud800)", "sparse(2)",
            "constant(" + "-" * 900 + "1)", "dirac(0)", "dirac(1.5)", "he_normal(gain=1, nonlinearity='relu')",
            "normal; normal", "lambda: 1", "array([1e400])", "array([nan])")],
        lambda: (b"normal", REFUSED), lambda: (None, REFUSED), lambda: (winit_fast.Scheme, REFUSED),
        lambda: (3, REFUSED), lambda: (Shown("r" * 10**7), REFUSED), lambda: (Shown(raise_mine), REFUSED),
        lambda: (["normal"], REFUSED), lambda: (np.array("normal"), EITHER), lambda: (wrong(rng), EITHER),
        lambda: (types.SimpleNamespace(scheme=winit_fast.scheme("normal")), REFUSED),
    ])()  # fmt: skip


def other_name(rng, plain, context):
    if isinstance(plain, str):
        return rng.choice([(np.str_(plain), SAME), ("\ud800", REFUSED), (StrSubclass(plain), EITHER), (b"a", REFUSED)])
    return other_int(rng, plain, context)


def other_dtype(rng, plain, context):
    is_empty = context.verb == "empty"
    with_objects = ["O", "i4,O", np.dtypes.StringDType(), np.dtype(("O", 2))]
    return rng.choice([
        lambda: (plain.name if plain.names is None else plain, SAME), lambda: (plain.type, EITHER),
        lambda: (plain.newbyteorder(), EITHER), lambda: (rng.choice(with_objects), REFUSED),
        lambda: ("bfloat", REFUSED), lambda: ("x" * 10**6, REFUSED), lambda: ("i4," * 5000, EITHER),
        lambda: ("U0", EITHER), lambda: (f"V{2**31 - 1}", EITHER) if not is_empty else ("V9", EITHER),
        lambda: (None, EITHER), lambda: (3, REFUSED), lambda: (Shown(raise_mine), REFUSED),
        lambda: ("(2,3)f4", EITHER), lambda: (np.longdouble, EITHER), lambda: ("m8", EITHER),
        lambda: (deep(5000), REFUSED), lambda: (wrong(rng), EITHER),
    ])()  # fmt: skip


def other_array(rng, plain, context):
    """Another target, in the same memory where that can be."""
    place, plain = context.place, context.place.out
    size, rank = place.dtype.itemsize, plain.ndim
    whole = np.dtype(f"i{size}") if size <= 8 else np.dtype("V16")

    def read_only():
        view = plain.view()
        view.flags.writeable = False
        return view, REFUSED

    def masked(is_hard):
        mask = np.random.default_rng(1).integers(2, size=plain.shape, dtype=bool)
        return np.ma.array(plain, copy=False, mask=mask, hard_mask=is_hard), REFUSED if is_hard else EITHER

    def raising():
        view = plain.view(Raising)
        view.is_raising = True
        return view, EITHER

    return rng.choice([
        read_only, lambda: masked(True), lambda: masked(False), raising, lambda: (plain.view(Plain), SAME),
        lambda: (plain.view(np.matrix), SAME) if rank == 2 else (plain.view(Plain), SAME),
        lambda: (plain.view(np.recarray), SAME), lambda: (plain.view(whole), REFUSED),
        lambda: (plain.view(f"V{size}"), REFUSED), lambda: (plain.view([("a", place.dtype)]), REFUSED),
        lambda: (plain.view(place.dtype.newbyteorder()), REFUSED) if size > 1 else (plain.view("u1"), REFUSED),
        lambda: (np.empty(plain.shape, object), REFUSED), lambda: (np.empty(plain.shape, "U3"), REFUSED),
        lambda: (np.empty(plain.shape, np.dtypes.StringDType()), REFUSED), lambda: (plain.tolist(), REFUSED),
        lambda: (memoryview(place.memory), REFUSED), lambda: (None, REFUSED), lambda: (place.dtype.type(0), REFUSED),
        lambda: (np.broadcast_to(plain, (2, *plain.shape)), REFUSED) if rank < 64 else (None, REFUSED),
        lambda: (Array(lambda: plain), REFUSED), lambda: (np.empty(3, np.longdouble), REFUSED),
        lambda: (wrong(rng), EITHER),
    ])()  # fmt: skip


def other_number(rng, plain, context):
    if rng.random() < 0.4 and plain is not None:
        return rng.choice([np.float64(plain), np.array(plain), Fraction(plain), np.float32(plain)]), SAME
    return rng.choice([
        lambda: (math.nan, REFUSED), lambda: (10**400, REFUSED), lambda: (True, REFUSED), lambda: ("1", REFUSED),
        lambda: (1j, REFUSED), lambda: (np.array([1.0]), REFUSED), lambda: (decimal.Decimal(1), EITHER),
        lambda: (10**5000, REFUSED), lambda: (-math.inf, EITHER), lambda: (1e308, EITHER), lambda: (5e-324, EITHER),
        lambda: (None, EITHER), lambda: (np.bool_(True), REFUSED), lambda: (wrong(rng), EITHER),
        lambda: (Fraction(10**5000, 3), REFUSED), lambda: (Fraction(1, 10**5000), EITHER),
    ])()  # fmt: skip


def other_values(rng, plain, context):
    return rng.choice([
        lambda: (np.array(plain), SAME), lambda: (tuple(map(tuple, plain)), SAME), lambda: ([], REFUSED),
        lambda: (deep(63), EITHER), lambda: (deep(65), REFUSED), lambda: (deep(5000), REFUSED),
        lambda: (around_itself(), REFUSED), lambda: ([[1], [1, 2]], REFUSED), lambda: ([math.inf], REFUSED),
        lambda: (np.ones(70_000), REFUSED), lambda: (np.ones((0, 3)), REFUSED), lambda: (np.array([1j]), REFUSED),
        lambda: (Endless(), REFUSED), lambda: (iter([1.0]), REFUSED), lambda: (Liar([1.0], -1), REFUSED),
        lambda: (types.SimpleNamespace(tolist=lambda: around_itself()), REFUSED), lambda: (wrong(rng), EITHER),
        lambda: (types.SimpleNamespace(size="a", tolist=raise_mine), REFUSED), lambda: ([[True]], REFUSED),
    ])()  # fmt: skip


def other_word(rng, plain, context):
    if rng.random() < 0.3:
        return np.str_(plain), SAME
    return rng.choice([
        lambda: ("x" * 10**6, REFUSED), lambda: (b"relu", REFUSED), lambda: ("\ud800", REFUSED), lambda: ("", REFUSED),
        lambda: (None, EITHER), lambda: (3, REFUSED), lambda: (StrSubclass(plain), EITHER),
        lambda: (wrong(rng), EITHER),
        lambda: (types.SimpleNamespace(__name__="relu", negative_slope=math.nan), EITHER),
    ])()  # fmt: skip


OTHERS = {
    **dict.fromkeys(["seed", "offset_of_words", "padding_idx", "padding_key", "threads", "align", "groups"], other_int),
    **dict.fromkeys(["shape", "offset", "in_axis", "out_axis", "batch_axis"], other_ints),
    **dict.fromkeys(["encoder", "decoder", "base_fan", "matrices"], other_int),
    **dict.fromkeys(["rows", "keys"], other_list), **dict.fromkeys(["out", "array"], other_array),
    **dict.fromkeys(["scheme", "spec"], other_scheme), "name": other_name, "dtype": other_dtype, "values": other_values,
    **dict.fromkeys(["mode", "nonlinearity", "activation", "per", "order", "distribution", "coder"], other_word),
}  # fmt: skip


def must_be_refused(call, argument, value):
    """Whether this call has a limit for what others refuse."""
    if argument in ("threads", "matrices"):  # 0 is so many times anything
        return not isinstance(value, int | Index)
    if call.verb == "random_bits" and argument == "offset":
        return not (type(value) is int and value == 2**64)
    if argument.endswith("_axis"):  # which a scheme that draws nothing does not look at
        return winit_fast.scheme(call.plain["scheme"]).draws and "gain=0" not in call.plain["scheme"]
    return True


def case_of(seed, number):
    """The call of a case, and what must come of it."""
    rng = random.Random(f"{seed}:{number}")
    call = rng.choice(CALLS)(rng)
    place, outcomes, said = call.place, {SAME}, set()
    dtype = call.plain.get("dtype") if place is None else place.dtype
    rank = len(call.plain.get("shape") or ()) if place is None else place.out.ndim
    if call.verb != "empty" and dtype is not None and dtype.kind == "c" and rank == 64:
        outcomes.add(EITHER)  # the parts of its numbers would be one axis more than NumPy has
    if place is not None and rng.random() < 0.08:  # strides from nowhere
        strides = [rng.choice([-1, 1]) * rng.randint(0, 3 * place.dtype.itemsize) for _ in place.shape]
        place = placed(rng, place.shape, place.dtype, strides)
        call = call._replace(place=place)
        target = "out" if "out" in call.arguments else "array"
        call.arguments[target] = call.plain[target] = place.out
        said.add(target)
        if place.out.size and overlaps(place.shape, strides, place.dtype.itemsize):
            outcomes.add(REFUSED)
        elif place.out.size and not nests(place.shape, strides, place.dtype.itemsize):
            outcomes.add(EITHER)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        argument = rng.choice(list(call.arguments))
        known = "offset_of_words" if call.verb == "random_bits" and argument == "offset" else argument
        if argument in said:
            continue
        said.add(argument)
        value, outcome = OTHERS.get(known, other_number)(rng, call.plain[argument], call)
        call.arguments[argument] = value
        if outcome == REFUSED and not must_be_refused(call, argument, value):
            outcome = EITHER
        outcomes.add(outcome)
    outcome = REFUSED if REFUSED in outcomes else EITHER if EITHER in outcomes else SAME
    if rng.random() < 0.05:
        call.arguments[rng.choice(["sead", "device", "mean\0"])] = 1
        outcome = REFUSED
    if place is not None:
        place.remember()
    return call, outcome, rng


# Judging


PARAMETERS = {
    "out",
    "array",
    "scheme",
    "seed",
    "name",
    "shape",
    "offset",
    "in_axis",
    "out_axis",
    "batch_axis",
    "matrices",
    "padding_idx",
    "padding_key",
    "threads",
    "rows",
    "keys",
    "dtype",
    "align",
    "activation",
    "nonlinearity",
}
PARAMETERS |= {argument.name for entry in winit_fast.schemes() for argument in entry.arguments}
PARAMETERS |= {"argument", "arguments", "sead", "device", "mean\0"}  # of unknown ones, in Python's words and ours
NAMED = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, PARAMETERS))})(?!\w)")


def what_is_wrong(call, outcome, rng):
    """What a case does that it must not; None where all holds."""
    positional = [call.arguments.pop("spec")] if call.verb == "scheme" else []
    try:
        result = VERBS[call.verb](*positional, **call.arguments)
    except BaseException as error:
        return wrong_error(call, outcome, error)
    if call.place is not None and not call.place.is_untouched_outside():
        return "wrote outside of the target"
    if outcome == REFUSED:
        return "was to be refused, and returned"
    if call.place is not None and result is not call.arguments.get("out", call.arguments.get("array")):
        return "returned something else than its target"
    return wrong_values(call, result, rng) if outcome == SAME else None


def wrong_error(call, outcome, error):
    if call.place is not None and not call.place.is_untouched():
        return f"wrote, then raised {brief(error)}"
    if outcome == SAME:
        return f"was to return, and raised {brief(error)}"
    if isinstance(error, MineError):
        return None
    is_liar = any(isinstance(value, Liar) for value in call.arguments.values())
    if isinstance(error, MemoryError) and (is_liar or call.verb in ("empty", "init")):
        return None
    if is_liar and str(error) == "__len__() should return >= 0":
        return None  # Python's own word about the caller's class
    if not isinstance(error, TypeError | ValueError):
        return f"raised {brief(error)}"
    text = str(error)
    if len(text) > MOST_OF_A_MESSAGE:
        return f"raised a message of {len(text)} characters: {brief(error)}"
    return None if NAMED.search(text) else f"raised a message that names no argument: {brief(error)}"


def wrong_values(call, result, rng):
    plain = dict(call.plain)
    if call.verb in ("scheme", "recommend", "calculate_gain"):
        again = VERBS[call.verb](*([plain.pop("spec")] if "spec" in plain else ()), **plain)
        same_text = call.verb != "scheme" or winit_fast.scheme(str(result)) == result
        return None if result == again and same_text else f"gave {result!r} in place of {again!r}"
    if call.verb == "empty":
        is_right = result.shape == plain["shape"] and result.dtype == plain["dtype"] and result.flags.c_contiguous
        return None if is_right and result.ctypes.data % plain.get("align", 64) == 0 else f"gave {brief(result)}"
    expected = EXPECTED.get(call.verb, expected_of_fill)(plain, rng)
    if call.verb == "init":
        is_right = result.shape == plain["shape"] and result.tobytes() == expected.tobytes()
        return None if is_right else "values differ from the reference or the whole"
    return None if call.place.holds(expected) else "values differ from the reference or the whole"


def whole_of(plain, shape, dtype, rng):
    """A whole tensor, by one thread, into fresh memory; now and then by tests/reference.py."""
    named = {
        name: value for name, value in plain.items() if name in ("seed", "name", "in_axis", "out_axis", "batch_axis")
    }
    scheme, size = plain["scheme"], math.prod(shape)
    if rng.random() < 0.3 and 0 < size < 500 and len(shape) < 64 and "matrices" not in plain:
        at_least_one = shape or (1,)
        whole = reference.values(scheme, dtype, shape=at_least_one, index=np.arange(size), **named).reshape(shape)
    else:
        rest = {name: plain[name] for name in ("matrices",) if name in plain}
        whole = winit_fast.fill(np.empty(shape, dtype), scheme, **named, **rest, threads=1)
    if plain.get("padding_idx") is not None:
        axis = next(axis for axis in range(len(shape)) if axis not in np.atleast_1d(named.get("batch_axis", ())))
        np.moveaxis(whole, axis, 0)[plain["padding_idx"]] = 0
    return whole


def expected_of_fill(plain, rng):
    if "dtype" in plain:
        return whole_of(plain, plain["shape"], plain["dtype"], rng)
    out = plain.get("out", plain.get("array"))
    whole = whole_of(plain, plain.get("shape", out.shape), out.dtype, rng)
    offset = plain.get("offset", (0,) * out.ndim)
    return whole[tuple(slice(first, first + size) for first, size in zip(offset, out.shape, strict=True))]


def expected_of_rows(plain, rng):
    return whole_of(plain, plain["shape"], plain["out"].dtype, rng)[np.array(plain["rows"], np.intp)]


def expected_of_keys(plain, rng):
    """Each row a tensor of its own, under the seed that the table draws."""
    out, stream = plain["out"], reference.stream_of(plain.get("name", 0))
    low, high = reference.words(plain["seed"], stream, np.array([2**66 - 2, 2**66 - 1], object)).tolist()
    law = winit_fast.scheme(plain["scheme"])
    expected = np.empty(out.shape, out.dtype)
    for place, key in enumerate(plain["keys"]):
        if law.depends_on_shape:
            one = {"shape": plain["shape"], "seed": plain["seed"], "name": plain.get("name", 0)}
            row = winit_fast.fill_keys(np.empty((1, *out.shape[1:]), out.dtype), [key], law, **one)[0]
        else:
            row = np.empty(out.shape[1:], out.dtype)
            winit_fast.fill(row, law, seed=low + (high << 32), name=key % 2**64, threads=1)
        expected[place] = row
        if "padding_key" in plain and key % 2**64 == plain["padding_key"] % 2**64:
            expected[place] = 0
    return expected


def expected_of_words(plain, rng):
    first = plain.get("offset", 0)
    index = np.array([first + place for place in range(plain["out"].size)], object)
    if not index.size:
        return index.astype(np.uint32)
    return reference.words(plain["seed"], reference.stream_of(plain["name"]), index)


EXPECTED = {"fill_rows": expected_of_rows, "fill_keys": expected_of_keys, "random_bits": expected_of_words}


def brief(value):
    if isinstance(value, BaseException):
        try:
            return f"{type(value).__name__}: {str(value)[:200]}"
        except Exception:
            return type(value).__name__
    if isinstance(value, np.ndarray):
        return f"<{type(value).__name__} of {str(value.dtype)[:40]}, shape {value.shape}, strides {value.strides}>"
    if isinstance(value, Shown | Array | Endless | Liar | Index):
        return f"{type(value).__name__}({', '.join(f'{k}={brief(v)}' for k, v in vars(value).items())})"[:200]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        return "[[nested]]"
    try:
        return reprlib.repr(value)[:200]
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def described(call):
    return f"{call.verb}({', '.join(f'{name}={brief(value)}' for name, value in call.arguments.items())})"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    options = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")
    for number in range(options.first, options.first + options.count):
        faulthandler.dump_traceback_later(60, exit=True)
        call, outcome, rng = case_of(options.seed, number)
        text = described(call)
        print(f"case {number} {text}".encode("ascii", "backslashreplace").decode(), flush=True)
        try:
            found = what_is_wrong(call, outcome, rng)
        except Exception as error:
            found = f"could not be judged: {brief(error)}"
        if found is not None:
            line = f"FAILED --seed {options.seed} --first {number}: {text} {found}"
            print(line.encode("ascii", "backslashreplace").decode(), flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    sys.setrecursionlimit(1000)
    assert ml_dtypes  # its dtypes have names from here on
    main()
