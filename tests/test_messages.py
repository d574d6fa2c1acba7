"""What messages say to somebody who is close: who takes what was given, and what was meant."""

import re

import ml_dtypes
import numpy as np
import pytest
from arrays import untouched

from winit_fast import adapters, empty, fill, fill_keys, fill_rows, random_bits
from winit_fast.messages import library_of


def foreign(module, name="Parameter"):
    return type(name, (), {"__module__": module})()


@pytest.mark.parametrize(
    ("out", "hint"),
    [
        (foreign("torch.nn.parameter"), "got Parameter; winit_fast.adapters.torch.init_ fills what torch has"),
        (foreign("tensorflow.python.ops"), "winit_fast.adapters.tensorflow.init_ fills what tensorflow has"),
        (foreign("keras.src.backend"), "winit_fast.adapters.keras.init_ fills what keras has"),
        (foreign("jaxlib._jax", "ArrayImpl"), "got ArrayImpl; winit_fast.adapters.jax.init makes what jax has"),
    ],
)
def test_tensors_of_other_libraries_are_sent_to_their_adapter(out, hint):
    with pytest.raises(TypeError, match="out must be a NumPy array") as caught:
        fill(out, "normal", seed=1)
    assert hint in str(caught.value)
    with pytest.raises(TypeError, match="out must be a NumPy array, got") as caught:
        fill_rows(out, [0], "normal", seed=1, shape=(1,))
    assert "init" not in str(caught.value)  # which takes no rows
    assert ("such as out.numpy()" in str(caught.value)) == ("torch" in hint)


def test_what_is_of_no_library_has_no_hint():
    assert library_of([]) == ""
    with pytest.raises(TypeError, match=r"out must be a NumPy array, got list$"):
        fill([1.0], "normal", seed=1)


@pytest.mark.parametrize("shape", [(4,), ()])
def test_a_vector_under_a_scheme_with_fans_is_told_what_it_lacks(shape):
    has = "one" if shape else "none"
    with pytest.raises(
        ValueError, match=rf"^he_normal needs an input and an output axis; shape .* has {has}: give in_"
    ):
        fill(np.empty(shape), "he_normal", seed=1)
    with pytest.raises(ValueError, match=r"^orthogonal: fans need an input and an output axis"):
        fill(np.empty(shape), "orthogonal", seed=1)


@pytest.mark.parametrize(
    "name", ["float8_e4m3fnuz", "float8_e3m4", "float8_e5m2fnuz", "int4", "uint4", "float8_e8m0fnu"]
)
def test_types_that_are_not_filled_are_named(name):
    with pytest.raises(TypeError, match=f"out must be of dtype .*, got {name}$"):
        fill(np.empty(4, getattr(ml_dtypes, name)), "normal", seed=1)


@pytest.mark.parametrize(
    ("dtype", "close"),
    [
        ("bf16", "bfloat16"),
        ("fp32", "float32"),
        ("flaot16", "float16"),
        (foreign("torch"), None),
        ("e4m3", "float8_e4m3fn"),
    ],
)
def test_a_dtype_of_another_library_or_a_misspelt_one_is_told_the_name(dtype, close):
    for call in (empty, lambda shape, dtype: adapters.numpy.init(shape, "normal", dtype=dtype)):
        with pytest.raises(TypeError, match="dtype must be one of NumPy's or the name of one") as caught:
            call(3, dtype)
        assert close is None or f"did you mean {close!r}?" in str(caught.value)


def test_a_generator_in_place_of_a_seed_is_told_who_takes_it():
    out = np.empty(3, "float32")
    for seed in (np.random.default_rng(0), np.random.SeedSequence(0)):
        with pytest.raises(TypeError, match=r"seed must be an int in \[0, 2\^64\)") as caught:
            fill(out, "normal", seed=seed)
        assert "; winit_fast.adapters.numpy takes it" in str(caught.value)
    with pytest.raises(TypeError, match=r"winit_fast.adapters.torch takes it as generator="):
        fill(out, "normal", seed=foreign("torch._C", "Generator"))
    with pytest.raises(TypeError, match=r"winit_fast.adapters.jax takes a key as key="):
        random_bits(np.empty(3, "uint32"), seed=foreign("jaxlib._jax", "ArrayImpl"))


def test_a_broadcast_array_is_told_to_fill_what_it_was_broadcast_from():
    with pytest.raises(ValueError, match="got a read-only array; fill what it was broadcast from"):
        fill(np.broadcast_to(np.empty(3), (4, 3)), "normal", seed=1)
    with pytest.raises(ValueError, match=r"got a read-only array$"):
        fill(np.frombuffer(b"12345678"), "normal", seed=1)


def test_long_names_are_shortened():
    long = np.dtype([("field" + "x" * 500, "f4")])
    word = "normal" * 100
    for call in (
        lambda: fill(np.empty(3, long), "normal", seed=1),
        lambda: fill(np.empty(3), word, seed=1),
        lambda: fill(np.empty(3), f"normal(std={word})", seed=1),
        lambda: fill(np.empty(3), f"normal({word}=1)", seed=1),
        lambda: fill(np.empty(3), "normal", seed=word),
        lambda: fill(np.empty(3), "normal", seed=1, name=("x" * 500,)),
        lambda: empty(3, word),
        lambda: empty(3, "bfloat16" + word),
        lambda: fill(np.empty(3, "V1"), "normal", seed=1),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert "x" * 200 not in str(caught.value)
        assert word[:200] not in str(caught.value)


class OfNegativeLength:
    def __len__(self):
        return -1

    def __getitem__(self, place):
        return 1

    def __repr__(self):
        return "OfNegativeLength()"


def test_a_length_below_0_is_refused_by_the_name_of_the_argument():
    out, odd = untouched((2, 3), "f4"), OfNegativeLength()
    calls = {
        "shape": lambda: fill(out, "normal", seed=1, shape=odd),
        "offset": lambda: fill(out, "normal", seed=1, shape=(2, 3), offset=odd),
        "batch_axis": lambda: fill(out, "he_normal", seed=1, batch_axis=odd),
        "rows": lambda: fill_rows(out, odd, "normal", seed=1, shape=(9, 3)),
        "keys": lambda: fill_keys(out, odd, "normal", seed=1),
    }
    for argument, call in calls.items():
        with pytest.raises(TypeError, match=rf"^{argument} must be .*, got OfNegativeLength\(\)"):
            call()


@pytest.mark.parametrize("given", [{0, 1}, {0: 1}.keys(), {0: 1}, "01", b"01", 5, frozenset({1}), None, 2.5])
def test_what_is_given_for_rows_and_is_no_sequence_is_shown(given):
    out = untouched((2, 3), "f4")
    for argument, call in (
        ("rows", lambda: fill_rows(out, given, "normal", seed=1, shape=(9, 3))),
        ("keys", lambda: fill_keys(out, given, "normal", seed=1)),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        assert str(caught.value) == f"{argument} must be integers along one axis, got {given!r}"


class Nameless(type):
    """A class that raises where it is asked what it is, as long as a test wants it: pytest asks too."""

    is_silent = False

    def asked(cls):
        if Nameless.is_silent:
            raise RuntimeError("no answer")
        return "Other"

    __name__, __module__, __mro__ = property(asked), property(asked), property(asked)


def test_a_class_that_does_not_tell_its_name_is_named_nevertheless(monkeypatch):
    def refuse(value):
        raise RuntimeError

    odd = Nameless("Odd", (), {"__repr__": refuse})()
    messages = []
    for call in (
        lambda: fill(odd, "normal", seed=1),
        lambda: fill(np.empty(3), odd, seed=1),
        lambda: fill(np.empty(3), "normal", seed=odd),
        lambda: fill(np.empty(3), "normal", seed=1, name=odd),
        lambda: fill(np.empty(3), "normal", seed=1, shape=odd),
        lambda: fill_rows(np.empty(3), odd, "normal", seed=1, shape=(3,)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Nameless, "is_silent", True)
            try:
                call()
            except (TypeError, RuntimeError) as error:
                messages.append(str(error))
    assert len(messages) == 6
    assert all(re.search(r"must be .*, got (an object of )?Odd$", message) for message in messages), messages
