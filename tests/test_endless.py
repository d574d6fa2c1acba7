"""Arguments without an end, or nested without one: refused at once, in our own words."""

import itertools

import numpy as np
import pytest
from arrays import untouched
from processes import ON_TWO_CPUS, printed

import winit_fast
from winit_fast import fill, fill_keys, fill_rows, scheme
from winit_fast.arguments import numbers_of_array
from winit_fast.messages import as_members, as_sizes, quote

# In a process of its own, whose memory and time are bounded.
CODE = """
import faulthandler, itertools, sys, time
faulthandler.dump_traceback_later(600, exit=True)
if sys.platform == "linux":
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
import numpy as np
from winit_fast import adapters, empty, fill, fill_keys, fill_many, fill_rows, random_bits, scheme
from winit_fast.fans import fans


class Lying:
    def __len__(self):
        return 2
    def __getitem__(self, place):
        return 1

class LyingIterable(Lying):
    def __iter__(self):
        return itertools.repeat(1)

class WithoutLength:
    def __getitem__(self, place):
        return 1

class EndlessList(list):
    def __iter__(self):
        return itertools.repeat(1)

class Long(Lying):
    def __len__(self):
        return sys.maxsize

class NoRepr:
    def __repr__(self):
        raise RuntimeError("no repr")

class NoWords:
    def __repr__(self):
        return None


deep, deep_tuple, loop, both = [], (), [], [1.0, 2.0]
for _ in range(100_000):
    deep, deep_tuple = [deep], (deep_tuple,)
loop += [loop, loop]
table = {1: 2}
for _ in range(60):
    both, table = [both, both], {1: table, 2: table}  # no more than 122 lists, and 2^61 numbers

VALUES = {
    "repeat": lambda: itertools.repeat(3), "count": itertools.count, "generator": lambda: (size for size in (3, 4)),
    "map": lambda: map(int, "34"), "dict": lambda: {3: 4, 4: 3}, "set": lambda: {3, 4}, "bytes": lambda: b"34",
    "lying": Lying, "lying iterable": LyingIterable, "without length": WithoutLength, "long": Long,
    "endless list": lambda: EndlessList([1]), "range": lambda: range(10**12), "long range": lambda: range(10**30),
    "array": lambda: np.broadcast_to(1, 10**12), "matrix": lambda: np.broadcast_to(1, (10**6, 10**6)),
    "deep": lambda: deep, "deep tuple": lambda: deep_tuple, "loop": lambda: loop, "both": lambda: both,
    "table": lambda: table, "no repr": NoRepr, "no words": NoWords,
}
out = np.full((3, 4), 7, "float32")
he = scheme("he_normal")
CALLS = {
    "shape": lambda value: fill(out, "normal", seed=1, shape=value, offset=(0, 0)),
    "offset": lambda value: fill(out, "normal", seed=1, shape=(9, 9), offset=value),
    "in_axis": lambda value: fill(out, he, seed=1, in_axis=value, out_axis=1),
    "out_axis": lambda value: fill(out, he, seed=1, out_axis=value),
    "batch_axis": lambda value: fill(out, he, seed=1, batch_axis=value),
    "matrices": lambda value: fill(out, he, seed=1, matrices=value),
    "padding_idx": lambda value: fill(out, he, seed=1, padding_idx=value),
    "seed": lambda value: fill(out, he, seed=value),
    "name": lambda value: fill(out, he, seed=1, name=value),
    "threads": lambda value: fill(out, he, seed=1, threads=value),
    "scheme": lambda value: fill(out, value, seed=1),
    "out": lambda value: fill(value if not isinstance(value, np.ndarray) else [], he, seed=1),
    "rows": lambda value: fill_rows(out, value, "normal", seed=1, shape=(9, 4)),
    "rows[0]": lambda value: fill_rows(out, [value, value, value], "normal", seed=1, shape=(9, 4)),
    "keys": lambda value: fill_keys(out, value, "normal", seed=1),
    "keys[0]": lambda value: fill_keys(out, [value, value, value], "normal", seed=1),
    "padding_key": lambda value: fill_keys(out, [1, 2, 3], "normal", seed=1, padding_key=value),
    "offset of words": lambda value: random_bits(out.view("u4"), seed=1, offset=value),
    "fills": lambda value: fill_many(value),
    "fills[0]": lambda value: fill_many([value]),
    "out of many": lambda value: fill_many([{"out": value if type(value) is not np.ndarray else [], "scheme": he}]),
    "scheme of many": lambda value: fill_many([{"out": out, "scheme": value}], seed=1),
    "name of many": lambda value: fill_many([{"out": out, "scheme": he, "name": value}], seed=1),
    "values": lambda value: scheme("array", values=value),
    "values[0]": lambda value: scheme("array", values=[value]),
    "std": lambda value: scheme("normal", std=value),
    "mode": lambda value: scheme("he_normal", mode=value),
    "groups": lambda value: scheme("dirac", groups=value),
    "order": lambda value: scheme("lstm_bias", order=value),
    "shape of empty": empty,
    "align": lambda value: empty(3, align=value),
    "shape of fans": fans,
    "in_axis of fans": lambda value: fans((3, 4), in_axis=value),
    "shape of a distribution": he.distribution,
    "in_axis of a distribution": lambda value: he.distribution((3, 4), in_axis=value),
    "shape of the adapter": lambda value: adapters.numpy.init(value, "normal", seed=1),
    "seed of the adapter": lambda value: adapters.numpy.init(3, "normal", seed=value),
}
for argument, call in CALLS.items():
    for kind, make in VALUES.items():
        begin = time.process_time()
        value = make()
        if isinstance(value, bytes) and argument in ("name", "name of many"):
            continue
        try:
            call(value)
        except (TypeError, ValueError) as error:
            if len(str(error)) > 330 or "repr" in str(error) or type(error) not in (TypeError, ValueError):
                print(argument, kind, type(error), error)
        except BaseException as error:
            print(argument, kind, type(error), error)
        else:
            print(argument, kind, "accepted")
        if time.process_time() - begin > 10:
            print(argument, kind, "late")
assert (out == 7).all()
print("all refused")
"""


def test_what_has_no_end_is_refused_at_once_wherever_it_is_given():
    assert printed(ON_TWO_CPUS + CODE) == "all refused\n"


@pytest.mark.parametrize("make", [list, tuple, np.array, range])
def test_sequences_are_taken(make):
    sizes = range(2, 5) if make is range else make([2, 3, 4])
    assert as_sizes("shape", sizes) == (2, 3, 4)
    assert as_members("shape", sizes) == [2, 3, 4]


def test_what_has_a_length_and_members_is_a_sequence():
    class Sizes:
        def __len__(self):
            return 2

        def __getitem__(self, place):
            return (40, 6)[place]

    out = untouched((40, 6), "f4")
    assert (fill(out, "normal", seed=1, shape=Sizes()) == fill(out.copy(), "normal", seed=1, shape=(40, 6))).all()

    class Rows(Sizes):
        def __getitem__(self, place):
            return (3, 1)[place]

    few = untouched((2, 6), "f4")
    assert (fill_rows(few, Rows(), "normal", seed=1, shape=(40, 6)) == out[[3, 1]]).all()
    keyed = fill_keys(untouched((2, 6), "f4"), [3, 1], "normal", seed=1)
    assert (fill_keys(few, Rows(), "normal", seed=1) == keyed).all()
    assert (fill_rows(few, [np.array(3), np.int8(1)], "normal", seed=1, shape=(40, 6)) == out[[3, 1]]).all()


@pytest.mark.parametrize("count", [3, 5, 70_000, 200_000])
def test_too_many_rows_are_told_apart_from_rows_that_are_none(count):
    message = r"out must have the shape \(len\((rows|keys)\), .*got"
    for rows in (range(count), list(range(count))):
        with pytest.raises(ValueError, match=message):
            fill_rows(untouched((4, 6), "f4"), rows, "normal", seed=1, shape=(10**6, 6))
        with pytest.raises(ValueError, match=message):
            fill_keys(untouched((4, 6), "f4"), rows, "normal", seed=1)


# Messages


class Broken:
    def __repr__(self):
        raise RecursionError


class Named(str):
    __slots__ = ()

    def __len__(self):
        return 3


@pytest.mark.parametrize(
    "value",
    [(), [], {}, set(), (1,), [1, 2], {1: [2, (3,)]}, {1}, "it's", b"x", 2.5, None, frozenset({1}), [None, "a", [()]]],
    ids=repr,
)
def test_a_short_value_is_shown_as_its_repr(value):
    assert quote(value) == repr(value)


@pytest.mark.parametrize("value", [[1] * 10**6, "x" * 10**6, (b"x" * 10**6,), {k: k for k in range(10**5)}], ids=type)
def test_a_long_value_is_shown_by_its_beginning(value):
    assert quote(value) == f"{repr(value)[:77]}..."


def test_what_has_no_repr_is_shown_by_its_type():
    assert quote(Broken()) == quote([Broken()]).replace("list", "Broken") == "an object of Broken"
    assert quote(10**5000) == "a very long int"
    assert quote((10**5000,)) == "(a very long int,)"
    returned = type("Returned", (), {"__repr__": lambda self: Named("y" * 500)})()
    assert quote(returned) == f"{'y' * 77}..."


def test_lists_that_hold_each_other_are_counted_no_further_than_a_scheme_takes():
    values = [1.0, 2.0]
    for _ in range(15):
        values = [values, values]
    assert len(scheme("array", values=values).arguments["values"]) == 2
    with pytest.raises(ValueError, match="values must be at most 65536 numbers, got more"):
        numbers_of_array("values", [values, values])


def test_a_class_without_a_module_is_no_reason_to_fail():
    odd = type("Odd", (), {"__module__": 3})()
    for arguments in ({"seed": odd}, {"seed": 1, "name": odd}):
        with pytest.raises(TypeError, match="must be"):
            fill(untouched((3,), "f4"), "normal", **arguments)
    with pytest.raises(TypeError, match="out must be a NumPy array, got Odd"):
        fill(odd, "normal", seed=1)


# Ranks


@pytest.mark.parametrize("text", ["normal", "constant(2)", "he_normal", "zeros"])
def test_a_complex_array_of_as_many_axes_as_numpy_has_is_refused_in_our_own_words(text):
    out = np.full((1,) * 64, 7, "c8")
    with pytest.raises(ValueError, match="out must have at most 63 axes where it is complex, got 64"):
        fill(out, text, seed=1)
    assert (out == 7).all()
    assert (fill(out[0], text, seed=1) != 7).all()


@pytest.mark.parametrize("text", ["orthogonal", "array(2)", "identity"])
def test_matrices_need_an_axis_of_their_own(text):
    out = np.full((1,) * 62 + (2, 4), 7, "f4")
    text = "array([2])" if text == "array(2)" else text
    axes = {"batch_axis": tuple(range(62))}
    with pytest.raises(ValueError, match="out must have at most 63 axes where matrices split one, got 64"):
        fill(out, text, seed=1, matrices=2, **axes)
    assert (out == 7).all()
    axes = {"batch_axis": tuple(range(61))}
    assert (fill(out[0], text, seed=1, matrices=2, **axes) != 7).any()


def test_a_message_has_the_name_of_its_scheme_once():
    out = np.empty((1, 1), "f4")
    for text in ("sparse(0.5)", "sparse(0.5, per='out')"):
        with pytest.raises(ValueError, match=r"^sparse: shape must have units of fewer than 2\^31"):
            fill(out, text, seed=1, shape=(1 << 31, 1 << 31), offset=(0, 0))
    messages = []
    wrong = [(1,), (3, 4), (2, 3, 4, 5), (1,) * 9]
    for entry, shape in itertools.product(winit_fast.schemes(), wrong):
        needed = {"array": "([1, 2])", "constant": "(1)", "sparse": "(0.5)", "mup": "(64)"}.get(entry.name, "(3)")
        for arguments in ("", needed):
            for dtype, matrices in (("c8", 1), ("f4", 1), ("f4", 7)):
                try:
                    fill(np.empty(shape, dtype), f"{entry.name}{arguments}", seed=1, matrices=matrices)
                except (TypeError, ValueError) as error:
                    messages.append((entry.name, str(error)))
    assert len(messages) > 300
    assert all(message.count(f"{name}: ") <= 1 for name, message in messages)
