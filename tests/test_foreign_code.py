"""Code of the caller's that runs while arguments are read: it may change the arrays, never where a fill writes."""

import importlib
import mmap
import warnings

import numpy as np
import pytest
from arrays import DTYPES, UNTOUCHED, untouched
from processes import printed

from winit_fast import fill, fill_keys, fill_rows, random_bits

fill_module = importlib.import_module("winit_fast.fill")  # the package's attribute is the function

# In a process of its own: what goes wrong here ends it.
CODE = """
import itertools, warnings
import numpy as np
import winit_fast

warnings.simplefilter("ignore")


class Foreign:
    def __init__(self, value, act):
        self.value, self.act = value, act
    def __index__(self):
        self.act()
        return self.value


class Text(str):
    act = None
    def encode(self, *arguments):
        if Text.act: Text.act()
        return super().encode(*arguments)
    def __hash__(self):
        if Text.act: Text.act()
        return super().__hash__()
    def __eq__(self, other):
        return str.__eq__(self, other)


class Listed:
    def __init__(self, rows, act):
        self.rows, self.act = rows, act
    def __array__(self, dtype=None, copy=None):
        self.act()
        return self.rows


class Members(list):
    "A sequence that does something when it is read."
    act = None
    def __iter__(self):
        if Members.act: Members.act()
        return super().__iter__()


def strides(array, value):
    array.strides = value


def to_dtype(array, dtype):
    array.dtype = dtype


def to_shape(array, shape):
    array.shape = shape


def to_data(array, other):
    array.data = other


CHANGES = {
    "shape": lambda out: to_shape(out, (out.shape[1], out.shape[0])),
    "flat": lambda out: to_shape(out, (-1,)),
    "dtype": lambda out: to_dtype(out, "u1"),
    "strides": lambda out: strides(out, (0, 0)),
    "read-only": lambda out: out.setflags(write=False),
    "freed": lambda out: out.resize((0, 4), refcheck=False),
    "moved": lambda out: out.resize((1 << 18, 4), refcheck=False),
    "data": lambda out: to_data(out, bytearray(3)),
}
SCHEMES = ["normal", "orthogonal", "sparse(0.5)", "identity", "array([1, 2, 3, 4])", "he_normal"]
SHAPE = (64, 4)


def fill_many(out, scheme, seed, threads=None, **arguments):
    "An array after one that must stay as it is if this one is refused."
    before = np.full(9, 7, "f4")
    fills = [{"out": before, "scheme": "ones"}, {"out": out, "scheme": scheme, **arguments}]
    try:
        winit_fast.fill_many(fills, seed=seed, threads=threads)
    except (ValueError, TypeError, AttributeError):
        assert (before == 7).all()
        raise


def calls(out, act):
    "Every argument that may run code, each in a call of its own."
    Text.act = Members.act = act
    here = {"seed": 1, "shape": SHAPE}
    foreign = [
        {"seed": Foreign(1, act)},
        {"name": Foreign(1, act)},
        {"name": Text("a")},
        {"threads": Foreign(2, act)},
        {"padding_idx": Foreign(3, act)},
        {"shape": (Foreign(64, act), 4)},
        {"shape": Members(SHAPE)},
        {"in_axis": Foreign(0, act), "out_axis": 1},
        {"in_axis": (Foreign(0, act),), "out_axis": 1},
        {"batch_axis": Members([])},
        {"matrices": Foreign(1, act)},
        {"matrices": Members([1, 1])},
    ]
    for scheme in SCHEMES:
        for given in foreign:
            yield lambda s=scheme, g=given: winit_fast.fill(out, s, **here | g)
            yield lambda s=scheme, g=given: fill_many(out, s, **here | g)
            yield lambda s=scheme, g=given: winit_fast.fill_rows(out, np.arange(64), s, **here | g)
        yield lambda s=scheme: winit_fast.fill(out, s, **here, offset=(Foreign(0, act), 0))
        yield lambda s=scheme: winit_fast.fill(out, Text(s), **here)
        yield lambda s=scheme: fill_many(out, Text(s), **here)
        yield lambda s=scheme: winit_fast.fill_rows(out, Listed(np.arange(64), act), s, **here)
        yield lambda s=scheme: winit_fast.fill_rows(out, Members(range(64)), s, **here)
        yield lambda s=scheme: winit_fast.fill_rows(out, [Foreign(place, act) for place in range(64)], s, **here)
    for given in foreign[:4]:
        yield lambda g=given: winit_fast.fill_keys(out, np.arange(64), "normal", **{"seed": 1} | g)
        yield lambda g=given: winit_fast.random_bits(out.view("u4"), **{"seed": 1} | g)
    yield lambda: winit_fast.fill_keys(out, Listed(np.arange(64), act), "normal", seed=1)
    yield lambda: winit_fast.fill_keys(out, np.arange(64), "normal", seed=1, padding_key=Foreign(1, act))
    yield lambda: winit_fast.random_bits(out.view("u4"), seed=1, offset=Foreign(1, act))
"""

CHANGED_OUT = """
refused = 0
for name, change in CHANGES.items():
    for place in itertools.count():
        guarded = np.full((192, 4), 7, "f4")
        owner = name in ("freed", "moved", "data")
        out = np.full(SHAPE, 7, "f4") if owner else guarded[64:128]
        acted = []
        def act():
            if not acted:
                acted.append(True)
                change(out)
        call = next(itertools.islice(calls(out, act), place, None), None)
        if call is None:
            break
        try:
            call()
        except (ValueError, TypeError, AttributeError) as error:
            refused += "must stay as it is" in str(error)
            assert (guarded == 7).all(), (name, place, error)
        assert (guarded[:64] == 7).all() and (guarded[128:] == 7).all(), (name, place)
        Text.act = Members.act = None
print(refused > 300)
"""

CHANGED_ROWS = """
def contents(rows):
    rows[...] = 1 << 60

ROWS = CHANGES | {"contents": contents}
del ROWS["shape"], ROWS["strides"], ROWS["read-only"]
refused = 0
for name, change in ROWS.items():
    for scheme in SCHEMES:
        for shape in ((64, 4), (4, 64), (200, 150)):
            for argument in ({"seed": Foreign(1, None)}, {"name": Foreign(1, None), "seed": 1}):
                rows = np.arange(shape[0])
                next(iter(argument.values())).act = lambda: change(rows)
                out = np.full(shape, 7, "f4")
                try:
                    winit_fast.fill_rows(out, rows, scheme, shape=shape, **argument)
                except (ValueError, TypeError, AttributeError) as error:
                    refused += "must stay as it is" in str(error)
                    assert (out == 7).all(), (name, scheme, error)
                keys = np.arange(shape[0])
                next(iter(argument.values())).act = lambda: change(keys)
                try:
                    winit_fast.fill_keys(out, keys, "normal", **argument)
                except (ValueError, TypeError, AttributeError) as error:
                    pass
print(refused > 50)
"""


@pytest.mark.parametrize("code", [CHANGED_OUT, CHANGED_ROWS], ids=["out", "rows"])
def test_an_array_that_is_changed_while_arguments_are_read_is_refused_or_filled_as_it_was(code):
    assert printed(CODE + code) == "True\n"


# Lists of rows in the memory that is filled


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("scheme", ["normal", "orthogonal", "sparse(0.5)", "identity"])
def test_rows_that_share_memory_with_the_array_are_those_that_were_given(dtype, order, scheme):
    rows = [3, 1, 0, 2, 3, 1, 0, 2]
    expected = fill_rows(untouched((8, 8), DTYPES[dtype]), rows, scheme, seed=1, shape=(8, 8))
    for kind in ("i8", "u4", "i2"):
        for first in (0, 8, 56):
            memory = np.zeros(1024, "u1")
            out = np.ndarray((8, 8), DTYPES[dtype], memory, 64)
            listed = np.ndarray(8, f"{order}{kind}", memory, first)
            listed[...] = rows
            for given in (listed, memory[first:][: 8 * listed.itemsize].view(listed.dtype), listed[::-1][::-1]):
                listed[...] = rows
                assert fill_rows(out, given, scheme, seed=1, shape=(8, 8)).tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", ["<i8", ">i8", "<u8", "<u4", "<i2"])
def test_keys_that_share_memory_with_the_array_are_those_that_were_given(kind):
    keys = [3, 1, 0, 2, 3, 1, 0, 2]
    expected = fill_keys(untouched((8, 8), "f4"), keys, "normal", seed=1)
    for first in (0, 8, 56):
        memory = np.zeros(1024, "u1")
        listed = np.ndarray(8, kind, memory, first)
        listed[...] = keys
        assert (fill_keys(np.ndarray((8, 8), "f4", memory, 64), listed, "normal", seed=1) == expected).all()


@pytest.mark.parametrize("how", ["memmap", "another name", "mmap"])
@pytest.mark.parametrize("verb", ["rows", "keys"])
def test_rows_in_a_file_that_is_mapped_a_second_time_are_those_that_were_given(tmp_path, how, verb):
    rows = np.arange(64)[::-1] % 16
    shape = (64, 8)
    file = np.memmap(tmp_path / "table", "i8", "w+", shape=256)
    file[:64] = rows
    file.flush()
    if how == "another name":
        (tmp_path / "other").hardlink_to(tmp_path / "table")
    with open(tmp_path / ("other" if how == "another name" else "table"), "r+b") as opened:
        out = (
            np.frombuffer(mmap.mmap(opened.fileno(), 0), "f4", 512)
            if how == "mmap"
            else np.memmap(opened.name, "f4", "r+", shape=512)
        ).reshape(shape)
    if verb == "rows":
        expected = fill_rows(untouched(shape, "f4"), rows, "orthogonal", seed=1, shape=shape)
        fill_rows(out, file[:64], "orthogonal", seed=1, shape=shape)
    else:
        expected = fill_keys(untouched(shape, "f4"), rows, "normal", seed=1)
        fill_keys(out, file[:64], "normal", seed=1)
    assert (out == expected).all()


def test_rows_in_another_file_are_read_where_they_stand(tmp_path):
    files = [np.memmap(tmp_path / name, "i8", "w+", shape=64) for name in ("rows", "table")]
    assert fill_module._keep_apart(files[0].view(np.ndarray), files[1].view(np.ndarray)).base is not None


# Classes that say something else than they are


class Liar(np.ndarray):
    """An array that is larger than it is, of another type, and its own matter."""

    shape = property(lambda self: (1 << 20, 6))
    dtype = property(lambda self: np.dtype("float64"))
    strides = property(lambda self: (1 << 20, 8))
    size = property(lambda self: 1 << 40)
    flags = property(lambda self: None)

    def __array_function__(self, *arguments):
        raise AssertionError("asked")

    def __setitem__(self, *arguments):
        raise AssertionError("asked")

    def __getitem__(self, *arguments):
        raise AssertionError("asked")


SCHEMES = ["normal", "orthogonal", "sparse(0.5)", "identity", "array([1, 2, 3, 4, 5, 6])", "he_normal", "zeros"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", [Liar, np.matrix, np.recarray, np.memmap])
def test_an_array_of_a_subclass_is_filled_as_the_memory_that_it_is(scheme, kind, tmp_path):
    expected = fill(untouched((40, 6), "f4"), scheme, seed=1, padding_idx=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        memory = (
            np.memmap(tmp_path / "table", "f4", "w+", shape=(40, 6)) if kind is np.memmap else untouched((40, 6), "f4")
        )
        out = memory.view(kind)
    assert fill(out, scheme, seed=1, padding_idx=3) is out
    assert memory.tobytes() == expected.tobytes()
    memory.view(np.ndarray)[...] = 7
    assert fill_rows(out, np.arange(40), scheme, seed=1, padding_idx=3, shape=(40, 6)) is out
    assert memory.tobytes() == expected.tobytes()
    if scheme == "normal":
        assert fill_keys(out, np.arange(40), scheme, seed=1, padding_key=2) is out
        assert not memory[2].any()
        words = memory.view(np.ndarray).view("u4").view(kind)
        if kind is not Liar:
            assert random_bits(words, seed=1) is words


@pytest.mark.parametrize("is_hard", [False, True])
@pytest.mark.parametrize("scheme", ["normal", "identity"])
def test_masked_arrays_are_refused(is_hard, scheme):
    memory = untouched((4, 4), "f4")
    out = np.ma.array(memory, mask=np.eye(4, dtype=bool), hard_mask=is_hard, copy=False)
    for call in (
        lambda: fill(out, scheme, seed=1, padding_idx=0),
        lambda: fill_rows(out, [0, 1, 2, 3], scheme, seed=1, shape=(4, 4)),
        lambda: fill_keys(out, [0, 1, 2, 3], "normal", seed=1),
        lambda: random_bits(out.view("u4"), seed=1),
    ):
        with pytest.raises(TypeError, match=r"out must not be a masked array.*\.data"):
            call()
    assert (memory.view("u1") == UNTOUCHED).all()


def test_a_type_that_merely_has_the_name_of_a_float_is_refused():
    named = type("float", (np.void,), {})
    dtype = np.dtype((named, [("it", object)]))
    assert dtype.name == "float64"
    with pytest.raises(TypeError, match="out must be of dtype"):
        fill(np.zeros(4, dtype), "normal", seed=1)


def test_what_merely_says_that_it_is_an_array_is_refused():
    class Fake:
        __class__ = np.ndarray

    for call in (fill, lambda out, scheme, seed: random_bits(out, seed=seed)):
        with pytest.raises(TypeError, match="out must be a NumPy array, got Fake"):
            call(Fake(), "normal", seed=1)


def test_a_name_of_a_subclass_of_str_is_the_text_that_it_holds():
    class Other(str):
        __slots__ = ()

        def __hash__(self):
            raise AssertionError("asked")

        def encode(self, *arguments):
            raise AssertionError("asked")

        def __str__(self):
            raise AssertionError("asked")

    out, expected = np.empty(9, "f4"), np.empty(9, "f4")
    fill(out, Other("normal"), seed=1, name=Other("table"))
    assert (out == fill(expected, "normal", seed=1, name="table")).all()


def test_a_refused_call_has_not_asked_for_its_seed():
    class Seed:
        asked = 0

        def __index__(self):
            self.asked += 1
            return 1

    seed = Seed()
    for arguments in (
        {"name": -1},
        {"threads": 0},
        {"padding_idx": 40},
        {"matrices": 0},
        {"scheme": "nothing"},
        {"scheme": "array([1, 2])"},
    ):
        for verb in (fill, lambda out, scheme, **given: fill_rows(out, np.arange(40), scheme, shape=(40, 6), **given)):
            with pytest.raises(ValueError, match=r"must|unknown"):
                verb(untouched((40, 6), "f4"), **{"scheme": "normal", "seed": seed} | arguments)
    assert seed.asked == 0
