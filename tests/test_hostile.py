"""Generated calls, valid and hostile, in processes of their own: tests/hostile.py says which, and what must hold."""

import os
from pathlib import Path

import pytest
from processes import python

SCRIPT = str(Path(__file__).parent / "hostile.py")
FEW_CASES = int(os.environ.get("HOSTILE_CASES", "6000"))  # more where CI asks for them
CASES = 60_000
MOST_FAILURES = 20  # shown, or met before the rest is left


def failures(seed, count, first=0):
    """What failed, each with its reproducer; a crash or a hang ends a process, and the next one goes on behind it."""
    found = []
    while first < count and len(found) < MOST_FAILURES:
        done = python(SCRIPT, f"--seed={seed}", f"--first={first}", f"--count={count - first}", timeout=3600)
        lines = done.stdout.splitlines()
        found += [line for line in lines if line.startswith("FAILED")]
        if lines and lines[-1] == "done":
            break
        cases = [line for line in lines if line.startswith("case ")]
        assert cases, done.stderr
        last = int(cases[-1].split()[1])
        how = f"ended with {done.returncode}: {cases[-1]}\n{done.stderr[-3000:]}"
        found.append(f"FAILED --seed {seed} --first {last}: {how}")
        first = last + 1
    return found


def assert_nothing_fails(seed, count, first=0):
    found = failures(seed, count, first)
    assert not found, "run with tests/hostile.py:\n" + "\n".join(found[:MOST_FAILURES])


def test_calls_return_their_values_or_raise_by_an_arguments_name_before_they_write():
    assert_nothing_fails(1, FEW_CASES)


@pytest.mark.exhaustive
def test_more_calls_return_their_values_or_raise_by_an_arguments_name_before_they_write():
    assert_nothing_fails(1, CASES, FEW_CASES)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(2, 22))
def test_many_more_calls_return_their_values_or_raise_by_an_arguments_name_before_they_write(seed):
    assert_nothing_fails(seed, CASES)


def test_a_case_is_the_same_whenever_it_is_made():
    first, second = (python(SCRIPT, "--seed=3", "--first=40", "--count=5").stdout.splitlines() for _ in range(2))
    words = [[line.partition("(")[0] for line in lines if line.startswith("case")] for lines in (first, second)]
    assert words[0] == words[1]
    assert len(words[0]) == 5
