"""Generated calls, valid and hostile, in processes of their own: tests/hostile.py says which, and what must hold."""

import os
from pathlib import Path

import pytest
from processes import python

SCRIPT = str(Path(__file__).parent / "hostile.py")
CASES = int(os.environ.get("HOSTILE_CASES", "60000"))  # .ci/sanitize takes fewer, being slower
FEW = 20  # of what failed, or stopped the interpreter


def failures(seed, count):
    """What failed, each with its reproducer; a crash or a hang ends a process, and the next one goes on behind it."""
    found, first = [], 0
    while first < count and len(found) < FEW:
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


def test_calls_return_their_values_or_raise_by_an_arguments_name_before_they_write():
    assert CASES > 0
    found = failures(1, CASES)
    assert not found, "run with tests/hostile.py:\n" + "\n".join(found[:FEW])


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(2, 22))
def test_many_more_calls_return_their_values_or_raise_by_an_arguments_name_before_they_write(seed):
    found = failures(seed, CASES)
    assert not found, "run with tests/hostile.py:\n" + "\n".join(found[:FEW])


def test_a_case_is_the_same_whenever_it_is_made():
    first, second = (python(SCRIPT, "--seed=3", "--first=40", "--count=5").stdout.splitlines() for _ in range(2))
    words = [[line.partition("(")[0] for line in lines if line.startswith("case")] for lines in (first, second)]
    assert words[0] == words[1]
    assert len(words[0]) == 5
