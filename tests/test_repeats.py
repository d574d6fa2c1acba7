"""`RepeatedValuesWarning`: two tensors hold the same values because nobody gave them names."""

import os
import sys
import threading
import warnings

import numpy as np
import pytest

import winit_fast
from winit_fast import RepeatedValuesWarning, fill, repeats
from winit_fast.streams import UNNAMED


@pytest.fixture(autouse=True)
def _nothing_was_filled(monkeypatch):
    monkeypatch.setattr(repeats, "_addresses", {})


def warned(*calls):
    """How often these calls warn, of memory that is all kept."""
    kept = [np.empty((4, 3), "float32") for _ in calls]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for out, call in zip(kept, calls, strict=True):
            call(out)
    assert all(issubclass(each.category, RepeatedValuesWarning) for each in caught)
    return len(caught)


def unnamed(out, scheme="he_normal", seed=0, **arguments):
    return fill(out, scheme, seed=seed, **arguments)


def test_layers_of_one_shape_without_names_are_warned_of_once():
    assert warned(*[unnamed] * 10) == 1


def test_the_warning_points_at_the_caller_and_says_what_to_do():
    first, second = np.empty(3), np.empty(3)
    fill(first, "normal", seed=0)
    with pytest.warns(RepeatedValuesWarning, match="give each parameter its name=") as caught:
        winit_fast.adapters.numpy.init_(second, "normal", seed=0)
    assert caught[0].filename == __file__


def test_the_warning_can_be_filtered_by_its_category():
    out = [np.empty(3), np.empty(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", RepeatedValuesWarning)
        for each in out:
            fill(each, "normal", seed=0)


@pytest.mark.parametrize(
    "second",
    [
        lambda out: unnamed(out, name="second"),
        lambda out: unnamed(out, name=0),
        lambda out: unnamed(out, seed=1),
        lambda out: unnamed(out, "normal"),
        lambda out: unnamed(out[:3]),
        lambda out: unnamed(out[2:], shape=(4, 3), offset=(2, 0)),
        lambda out: unnamed(out, "zeros"),
    ],
)
def test_what_was_named_or_differs_is_not_warned_of(second):
    assert warned(unnamed, second) == 0


def test_the_same_memory_may_be_filled_again():
    out = np.empty((4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            fill(out, "normal", seed=0)


@pytest.mark.parametrize("second", [lambda out: out[::-1], lambda out: out.T, lambda out: out.reshape(2, 6)])
def test_views_of_the_same_memory_may_be_filled_again(second):
    out = np.empty((4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fill(out, "normal", seed=0)
        fill(second(out), "normal", seed=0)


@pytest.mark.parametrize("seed", [np.int64(0), np.uint8(0)])
def test_a_seed_of_numpys_is_a_seed(seed):
    assert warned(lambda out: unnamed(out, seed=0), lambda out: unnamed(out, seed=seed)) == 1


def test_other_words_for_the_same_values_are_the_same_values():
    assert warned(lambda out: unnamed(out, "he_normal"), lambda out: unnamed(out, "kaiming_normal(mode='fan_in')")) == 1
    assert (
        warned(lambda out: unnamed(out, "normal(std=2)"), lambda out: unnamed(out, winit_fast.scheme("normal", std=2)))
        == 1
    )


def test_other_axes_that_give_other_values_are_not_warned_of():
    assert warned(unnamed, lambda out: unnamed(out, in_axis=1, out_axis=0)) == 0
    assert warned(lambda out: unnamed(out, "orthogonal"), lambda out: unnamed(out, "orthogonal", matrices=3)) == 0


def test_what_was_refused_is_not_remembered():
    memory = np.empty(16, "float32")
    with pytest.raises(ValueError, match="overlap"):
        fill(np.lib.stride_tricks.as_strided(memory, (4, 3), (8, 4)), "normal", seed=0)
    assert warned(lambda out: unnamed(out, "normal")) == 0


def test_code_beside_the_package_is_not_taken_for_its_own(tmp_path):
    name = f"{winit_fast.__path__[0]}_mine/train.py"
    calls = "out = [np.empty(3), np.empty(3)]\nfor each in out:\n    fill(each, 'normal', seed=0)"
    with pytest.warns(RepeatedValuesWarning) as caught:
        exec(compile(calls, name, "exec"), {"np": np, "fill": fill})
    assert caught[0].filename == name


def test_what_draws_nothing_is_not_warned_of():
    assert warned(*[lambda out: fill(out, "zeros", seed=0)] * 3) == 0


def test_memory_of_what_was_filled_does_not_grow_without_end():
    for size in range(3 * repeats._MOST):
        fill(np.empty(1), "normal", seed=size)
    assert len(repeats._addresses) <= repeats._MOST


def test_the_default_name_is_0_to_everyone_else():
    assert UNNAMED == 0
    assert repr(UNNAMED) == "0"
    out = np.empty(9, "uint32"), np.empty(9, "uint32")
    assert (winit_fast.random_bits(out[0], seed=1) == winit_fast.random_bits(out[1], seed=1, name=0)).all()


def test_threads_that_fill_at_once_warn_once():
    barrier = threading.Barrier(2)
    kept = [np.empty(3, "float32") for _ in range(2)]

    for _ in range(20):
        repeats._addresses.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            threads = [threading.Thread(target=_noted, args=(barrier, out)) for out in kept]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(caught) == 1


def _noted(barrier, out):
    """What `fill` does, with both threads past the first look before either has written."""
    repeats.warn_of_repeats("what", id(out))
    barrier.wait(20)
    repeats.note_fill("what", id(out))


def test_a_warning_as_an_error_that_another_thread_causes_meanwhile_comes_once_all_is_written(monkeypatch):
    def fail(*_):
        raise RepeatedValuesWarning

    out = np.ones((4, 4))
    monkeypatch.setattr(sys.modules["winit_fast.fill"], "note_fill", fail)
    with pytest.raises(RepeatedValuesWarning):
        fill(out, "normal", seed=1, padding_idx=2)
    assert not out[2].any()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, MemoryError])
def test_a_warning_that_an_interrupt_kept_from_being_seen_comes_again(monkeypatch, interrupt):
    def stopped(*_, **__):
        raise interrupt

    first, second = np.empty(3), np.empty(3)
    fill(first, "normal", seed=0)
    with monkeypatch.context() as patched:
        patched.setattr(warnings, "warn", stopped)
        with pytest.raises(interrupt):
            fill(second, "normal", seed=0)
    with pytest.warns(RepeatedValuesWarning):
        fill(second, "normal", seed=0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_may_make_again_what_its_parent_made():
    fill(np.empty(3), "normal", seed=0)
    kept = np.empty(3), np.empty(3)
    child = os.fork()
    if not child:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fill(kept[0], "normal", seed=0)
            is_quiet = not caught
            fill(kept[1], "normal", seed=0)
        os._exit(0 if is_quiet and len(caught) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_interrupt_passes_through_a_warning_of_which_another_thread_forgets_all_meanwhile(monkeypatch):
    class Forgotten(dict):
        def get(self, key, default=None):
            found = super().get(key, default)
            if key[0] == repeats._CLAIM:
                self.clear()  # as another thread may do between any two steps
            return found

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(repeats, "_addresses", Forgotten())
    monkeypatch.setattr(warnings, "warn", stopped)
    with pytest.raises(KeyboardInterrupt):
        repeats.warn_of_repeats("what", 1, 2)
