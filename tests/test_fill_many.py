"""`fill_many`: each array gets the values that `fill` gives it, and none is written if an argument is wrong."""

import mmap
import sys
import warnings

import ml_dtypes
import numpy as np
import pytest
from arrays import DTYPES, SCHEMES, UNTOUCHED, untouched
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import printed

from winit_fast import RepeatedValuesWarning, fill, fill_many, many
from winit_fast.initializer import Initializer


def fill_alone(fills, seed):
    """What `fill` makes of copies."""
    found = []
    for arguments in fills:
        copy = arguments["out"].copy(order="K")
        found.append(fill(copy, seed=seed, **{key: value for key, value in arguments.items() if key != "out"}))
    return found


def are_equal(fills, expected):
    return all(a["out"].tobytes() == e.tobytes() for a, e in zip(fills, expected, strict=True))


def of_every_kind():
    """One of each way that a fill may go."""
    wide = untouched((64, 300), "float32")
    kinds = [
        *({"out": untouched((33, 47), dtype), "scheme": "he_normal"} for dtype in DTYPES.values()),
        *({"out": untouched((5, 7, 3), "float32"), "scheme": scheme} for scheme in SCHEMES),
        {"out": untouched((), "float32"), "scheme": "normal"},
        {"out": untouched((0, 5), "float32"), "scheme": "normal"},
        {"out": untouched((70, 30), "float32"), "scheme": "orthogonal"},
        {"out": untouched((70, 30), "float32"), "scheme": "sparse(0.5)"},
        {"out": untouched((5, 5), "float32"), "scheme": "identity"},
        {"out": untouched((3, 4, 5), "complex64"), "scheme": "he_normal"},
        {"out": untouched((3, 4, 5), "complex128"), "scheme": "constant(2)"},
        {"out": untouched((30, 40), "float32").T, "scheme": "normal"},
        {"out": wide[:, ::2], "scheme": "normal"},
        {"out": wide[:, 1::2], "scheme": "uniform"},
        {"out": untouched((10, 8), "float32"), "scheme": "normal", "padding_idx": 3},
        {
            "out": untouched((10, 8), "float32"),
            "scheme": "normal",
            "shape": (100, 8),
            "offset": (40, 0),
            "padding_idx": 41,
        },
        {"out": untouched((10, 8), "float32"), "scheme": "orthogonal", "padding_idx": -1},
        {"out": untouched((8, 12), "float32"), "scheme": "xavier_uniform", "in_axis": 1, "out_axis": 0, "matrices": 2},
        {"out": untouched((8, 12), "float32"), "scheme": "orthogonal", "matrices": 3},
        {"out": untouched((4, 6, 8), "float32"), "scheme": "he_normal", "batch_axis": 0},
        {"out": untouched((1 << 9, 1 << 9), "float32"), "scheme": "normal"},
    ]
    return [{**arguments, "name": f"p{place}"} for place, arguments in enumerate(kinds)]


@pytest.mark.parametrize("threads", [None, 1, 2, 7])
def test_fill_many_gives_each_array_what_fill_gives_it(threads):
    fills = of_every_kind()
    expected = fill_alone(fills, 7)
    assert fill_many(fills, seed=7, threads=threads) is None
    assert are_equal(fills, expected)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 40_000),
            st.integers(1, 3),
            st.sampled_from(SCHEMES),
            st.sampled_from(sorted(DTYPES)),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.sampled_from([None, 1, 2, 3, 64]),
    st.integers(1, 5),
)
def test_fill_many_is_the_same_for_any_number_of_threads_and_any_split(sizes, threads, together):
    fills = []
    for place, (size, columns, scheme, dtype, is_transposed) in enumerate(sizes):
        out = np.empty((size // columns, columns), DTYPES[dtype])
        fills.append({"out": out.T if is_transposed else out, "scheme": scheme, "name": place})
    expected = fill_alone(fills, 3)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(many, "_TOGETHER", together)
        fill_many(fills, seed=3, threads=threads)
    assert are_equal(fills, expected)


def test_thousands_of_small_arrays_get_what_fill_gives_them():
    fills = [{"out": np.empty((4, 4), "float32"), "scheme": "normal", "name": f"w{k}"} for k in range(3000)]
    expected = fill_alone(fills, 1)
    fill_many(fills, seed=1, threads=2)
    assert are_equal(fills, expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_of_arrays_that_share_memory_the_last_stays(threads):
    one = np.empty((1 << 8, 1 << 10), "float32")
    fills = [
        {"out": one, "scheme": "normal", "name": "a"},
        {"out": one[10:200], "scheme": "uniform", "name": "b", "padding_idx": 5},
        {"out": one[:, 3::2], "scheme": "orthogonal", "name": "c"},
        {"out": one[1:50], "scheme": "constant(3)"},
        {"out": one[40:60], "scheme": "normal", "name": "d"},
    ]
    expected = np.empty_like(one)
    parts = [expected, expected[10:200], expected[:, 3::2], expected[1:50], expected[40:60]]
    for arguments, part in zip(fills, parts, strict=True):
        fill(part, seed=5, **{key: value for key, value in arguments.items() if key != "out"})
    for _ in range(5):
        one[...] = 0
        fill_many(fills, seed=5, threads=threads)
        assert (one == expected).all()


@pytest.fixture
def together(monkeypatch):
    """How many arrays each piece of work has had."""
    counts, plain = [], many.fill_plans
    monkeypatch.setattr(many, "fill_plans", lambda plans, *others: (counts.append(len(plans)), plain(plans, *others)))
    return counts


@pytest.mark.parametrize("how", ["memmap", "another name", "mmap", "removed"])
def test_of_arrays_in_a_file_that_is_mapped_twice_the_last_stays(tmp_path, together, how):
    paths = [tmp_path / "weights", tmp_path / ("other" if how == "another name" else "weights")]
    np.zeros(1 << 10, "float32").tofile(paths[0])
    if how == "another name":
        paths[1].hardlink_to(paths[0])
    maps = [np.memmap(path, "float32", "r+") for path in paths]
    if how == "mmap":
        with open(paths[1], "r+b") as opened:
            maps[1] = np.frombuffer(mmap.mmap(opened.fileno(), 0), "float32")
    if how == "removed" and sys.platform != "win32":
        paths[0].unlink()
    for first, last in (maps, maps[::-1]):
        fill_many([{"out": first, "scheme": "normal", "name": "a"}, {"out": last, "scheme": "ones"}], seed=1, threads=4)
        assert (maps[0] == 1).all()
        assert (maps[1] == 1).all()
    assert together == [1, 1, 1, 1]


def test_arrays_in_files_of_their_own_or_in_one_mapping_are_filled_together(tmp_path, together):
    for name in ("a", "b"):
        np.zeros(1 << 10, "float32").tofile(tmp_path / name)
    a, b = (np.memmap(tmp_path / name, "float32", "r+") for name in ("a", "b"))
    fill_many([{"out": out, "scheme": "ones"} for out in (a[:500], a[500:], b)])
    assert together == [3]
    assert (a == 1).all()
    assert (b == 1).all()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("scheme", ["normal", "orthogonal", "ones"])
@pytest.mark.parametrize("padding_idx", [None, 2])
def test_fill_alike_gives_each_array_what_fill_gives_that_part_under_its_own_seed(scheme, padding_idx, threads):
    seeds, stack = [3, 2**64 - 1, 0], np.empty((3, 70, 30), "float16")
    part = {"shape": (90, 40), "offset": (1, 7), "name": "w", "padding_idx": padding_idx}
    many.fill_alike({"out": stack[0], "scheme": scheme, **part}, zip(stack, seeds, strict=True), threads)
    for out, seed in zip(stack, seeds, strict=True):
        assert np.array_equal(out, fill(np.empty_like(out), scheme, seed=seed, **part))


def test_an_initializer_says_what_fill_many_takes():
    initializer = Initializer("he_normal", name="w", in_axis=1, out_axis=0, batch_axis=2, padding_idx=1)
    out, alone = np.empty((4, 8, 2), "float32"), np.empty((4, 8, 2), "float32")
    fill_many([initializer.arguments(out, shape=(6, 8, 2), offset=(1, 0, 0))], seed=7)
    initializer.fill(alone, seed=7, shape=(6, 8, 2), offset=(1, 0, 0))
    assert (out == alone).all()


def test_nothing_to_fill_is_no_error():
    fill_many([])
    fill_many((), seed=1, threads=3)


def test_the_seed_may_be_left_out_if_nothing_draws():
    out = np.empty((3, 3))
    fill_many([{"out": out, "scheme": "ones"}])
    assert (out == 1).all()


class Kept(dict):
    """A dict of another class is read as one."""


REFUSED = [
    ({"out": [1.0], "scheme": "normal"}, TypeError, r"fills\[1\]: out must be a NumPy array"),
    ({"out": np.empty(3, "int8"), "scheme": "normal"}, TypeError, r"fills\[1\]: out must be of dtype"),
    ({"out": np.empty(3), "scheme": "norml", "name": "w.x"}, ValueError, r"fills\[1\] \('w.x'\): .*norml"),
    ({"out": np.broadcast_to(np.empty(3), (2, 3)), "scheme": "zeros"}, ValueError, r"fills\[1\]: out must be writable"),
    (
        {"out": np.lib.stride_tricks.as_strided(np.empty(9), (3, 3), (8, 8)), "scheme": "zeros"},
        ValueError,
        r"fills\[1\]: out must not overlap itself",
    ),
    ({"out": np.empty(3), "scheme": "normal", "name": -1}, ValueError, r"fills\[1\]: name must be"),
    ({"out": np.empty(3), "scheme": "he_normal"}, ValueError, r"fills\[1\]: "),
    ({"out": np.empty(3, "float16"), "scheme": "normal(std=1e6)"}, ValueError, r"fills\[1\]: .*float16"),
    ({"out": np.empty(3), "scheme": "normal", "offset": (1,)}, ValueError, r"fills\[1\]: shape must be given"),
    ({"out": np.empty((3, 3)), "scheme": "normal", "padding_idx": 3}, ValueError, r"fills\[1\]: padding_idx must be"),
    ({"out": np.empty(3), "scheme": "normal", "seed": 1}, TypeError, r"'seed', which fill_many takes once for all"),
    ({"out": np.empty(3), "scheme": "normal", "threads": 1}, TypeError, r"'threads', which fill_many takes once"),
    ({"out": np.empty(3), "scheme": "normal", "axis": 1}, TypeError, r"fills\[1\] must have keys of out, .*got 'axis'"),
    ({"out": np.empty(3), "scheme": "normal", 1: 1}, TypeError, r"fills\[1\] must have keys of out, .*got 1"),
    ({"out": np.empty(3)}, TypeError, r"fills\[1\] must have scheme, got \['out'\]"),
    (Kept(scheme="ones"), TypeError, r"fills\[1\] must have out"),
    (np.empty(3), TypeError, r"fills\[1\] must be a dict of the arguments of fill, got ndarray"),
    ((np.empty(3), "normal"), TypeError, r"fills\[1\] must be a dict of the arguments of fill, got tuple"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), REFUSED)
def test_if_one_is_wrong_the_message_says_which_and_none_is_written(wrong, error, message):
    first, last = untouched((30, 30), "float32"), untouched((3, 3), "float32")
    fills = [{"out": first, "scheme": "normal", "name": 1}, wrong, {"out": last, "scheme": "ones"}]
    with pytest.raises(error, match=message):
        fill_many(fills, seed=1)
    assert (first.view("uint8") == UNTOUCHED).all()
    assert (last.view("uint8") == UNTOUCHED).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, "seed must be given: 'he_normal' draws random values"),
        ({"seed": -1}, ValueError, "seed must be an int"),
        ({"seed": 1, "threads": 0}, ValueError, "threads must be"),
    ],
)
def test_what_is_given_once_is_refused_before_anything_is_written(arguments, error, message):
    out, other = untouched((30, 30), "float32"), untouched((30, 30), "float32")
    with pytest.raises(error, match=message):
        fill_many([{"out": other, "scheme": "ones"}, {"out": out, "scheme": "he_normal"}], **arguments)
    assert (out.view("uint8") == UNTOUCHED).all()
    assert (other.view("uint8") == UNTOUCHED).all()


@pytest.mark.parametrize("fills", [{"out": np.empty(3), "scheme": "ones"}, iter([]), "ones", None, np.empty(3)])
def test_other_than_lists_and_tuples_are_refused(fills):
    with pytest.raises(TypeError, match="fills must be a list or a tuple of dicts, got "):
        fill_many(fills, seed=1)


def test_an_array_that_changes_while_arguments_are_read_is_refused_before_any_is_written():
    first, second = untouched((30, 30), "float32"), np.zeros((30, 30))

    class Axis:
        def __index__(self):
            second.shape = (900,)
            return 0

    fills = [
        {"out": second, "scheme": "normal", "name": 1},
        {"out": first, "scheme": "normal", "name": 2, "in_axis": Axis(), "out_axis": 1},
    ]
    with pytest.raises(ValueError, match=r"fills\[0\]: out must stay as it is"):
        fill_many(fills, seed=1)
    assert (first.view("uint8") == UNTOUCHED).all()
    assert not second.any()


@pytest.mark.parametrize("variable", ["WINIT_FAST_THREADS", "WINIT_FAST_HUGE_PAGES"])
@pytest.mark.parametrize("scheme", ["ones", "orthogonal"])
def test_an_environment_that_cannot_be_used_is_refused_before_any_array_is_written(monkeypatch, variable, scheme):
    monkeypatch.setattr(many, "_TOGETHER", 1)
    monkeypatch.setenv(variable, "many")
    small = untouched((3, 3), "float32")
    large = np.zeros((1 << 10, 1 << 10)) if scheme == "orthogonal" else np.zeros((1 << 11, 1 << 11))
    with pytest.raises(ValueError, match=f"{variable} must be .*, got 'many'"):
        fill_many([{"out": small, "scheme": "ones"}, {"out": large, "scheme": scheme}], seed=1)
    assert (small.view("uint8") == UNTOUCHED).all()


def test_two_without_names_warn_once_as_with_fill():
    fills = [{"out": np.empty((9, 11)), "scheme": "normal(std=0.125)"} for _ in range(3)]
    with pytest.warns(RepeatedValuesWarning) as caught:
        fill_many(fills, seed=991)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_a_warning_as_an_error_comes_before_anything_is_written():
    fills = [{"out": untouched((9, 12), "float32"), "scheme": "normal(std=0.125)"} for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RepeatedValuesWarning)
        with pytest.raises(RepeatedValuesWarning):
            fill_many(fills, seed=992)
    assert all((arguments["out"].view("uint8") == UNTOUCHED).all() for arguments in fills)


def test_thousands_without_names_warn_once_and_before_anything_is_written():
    repeated = [{"out": np.zeros((2, 2)), "scheme": "normal"} for _ in range(4)]
    others = [{"out": np.zeros((1, size)), "scheme": "normal"} for size in range(1, 5000)]
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *_: seen.append(any(arguments["out"].any() for arguments in repeated + others))
        fill_many([*repeated[:2], *others, *repeated[2:]], seed=995)
    assert seen == [False]


def test_what_was_interrupted_or_refused_is_not_known_to_be_written(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    first, second = np.empty((2, 9, 17))
    with monkeypatch.context() as patch:
        patch.setattr(many, "fill_plans", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fill_many([{"out": first, "scheme": "normal"}], seed=996)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fill_many([{"out": second, "scheme": "normal"}], seed=996)


def test_fill_warns_of_what_fill_many_wrote_and_the_other_way_round():
    first, second = np.empty((2, 9, 13))
    fill_many([{"out": first, "scheme": "normal"}], seed=993)
    with pytest.warns(RepeatedValuesWarning):
        fill(second, "normal", seed=993)
    first, second = np.empty((2, 9, 14))
    fill(first, "normal", seed=993)
    with pytest.warns(RepeatedValuesWarning):
        fill_many([{"out": second, "scheme": "normal"}], seed=993)


def test_names_and_the_same_memory_again_do_not_warn():
    out = np.empty((9, 15))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fill_many([{"out": out, "scheme": "normal"}] * 2, seed=994)
        fill_many([{"out": np.empty((9, 16)), "scheme": "normal", "name": 0} for _ in range(2)], seed=994)
        fill_many([{"out": np.empty((9, 16)), "scheme": "ones"} for _ in range(2)], seed=994)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_comes_out_soon_and_nothing_is_written_later(threads):
    code = f"""
import os, signal, time
import numpy as np
from winit_fast import fill_many
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
outs = [np.zeros((1 << 10, 1 << 10)) for _ in range(64)]
fills = [{{"out": out, "scheme": "truncated_normal(low=-3, high=2)", "name": k}} for k, out in enumerate(outs)]
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    fill_many(fills, seed=1, threads={threads})
    print("not interrupted")
except KeyboardInterrupt:
    drawn = [np.count_nonzero(out) for out in outs]
    time.sleep(0.05)
    print(sum(drawn) < 64 << 20, [np.count_nonzero(out) for out in outs] == drawn)
"""
    assert printed(code) == "True True\n"


def test_bfloat16_and_float32_of_one_name_agree():
    wide, narrow = np.empty((50, 60), "float32"), np.empty((50, 60), ml_dtypes.bfloat16)
    fill_many([{"out": out, "scheme": "he_normal", "name": "w"} for out in (wide, narrow)], seed=1, threads=2)
    assert (wide.astype(ml_dtypes.bfloat16) == narrow).all()
