"""The sample of cases that the default tests take leaves out no pair of arguments."""

from itertools import combinations, product

import pytest
from covering import cover


def groups(cases, strength):
    return {group for case in cases for group in combinations(sorted(case.items()), strength)}


@pytest.mark.parametrize("strength", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(2, 3), (4, 4), (3, 3, 7), (2, 2, 3, 5)], ids=str)
def test_a_sample_has_all_groups_of_values_in_few_cases(sizes, strength):
    cases = [dict(zip("abcd", case, strict=False)) for case in product(*map(range, sizes))]
    strength = min(strength, len(sizes))
    chosen = cover(cases, strength)
    assert groups([cases[number] for number in chosen], strength) == groups(cases, strength)
    needed = 1
    for size in sorted(sizes)[-strength:]:
        needed *= size
    assert needed <= len(chosen) <= 1.5 * needed


def test_a_pair_that_one_case_alone_has_is_in_the_sample():
    cases = [{"a": a, "b": b} for a, b in [(1, 1), (1, 2), (2, 1)]] + [{"a": 3, "b": 1, "c": 9}]
    assert cover(cases) == {0, 1, 2, 3}


def test_a_sample_is_the_same_each_time_and_of_one_argument_everything():
    cases = [{"a": str(number % 5), "b": str(number % 3), "c": str(number % 2)} for number in range(60)]
    assert cover(cases) == cover([dict(reversed(case.items())) for case in cases])
    assert cover([{"a": number} for number in range(4)]) == {0, 1, 2, 3}
