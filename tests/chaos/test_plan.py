"""The plan of faults is one of a seed."""

from itertools import pairwise

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.plan import KINDS, PAUSE, plan


def test_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert plan(1, 10) == plan(1, 10)
    assert plan(1, 10) != plan(2, 10)


def test_a_shorter_plan_is_the_beginning_of_a_longer_one() -> None:
    short, long = plan(5, 2), plan(5, 20)
    assert long[: len(short)] == short
    assert short[-1].second <= 120 < long[len(short)].second


@pytest.mark.parametrize("seed", range(20))
def test_each_kind_comes_before_any_comes_again(seed: int) -> None:
    faults = plan(seed, 30)
    assert {fault.kind for fault in faults[: len(KINDS)]} == set(KINDS)
    assert all(PAUSE[0] - 0.1 <= b.second - a.second for a, b in pairwise(faults))


def test_only_the_kinds_that_were_chosen_come() -> None:
    assert {fault.kind for fault in plan(1, 5, ["cut", "reload"])} == {"cut", "reload"}


def test_parameters_keep_to_what_the_kind_allows() -> None:
    for fault in plan(3, 60):
        allowed = KINDS[fault.kind]
        assert fault.parameters.keys() == allowed.keys()
        for name, value in fault.parameters.items():
            low, *_, high = allowed[name]
            assert value in allowed[name] or low <= value <= high  # type: ignore[operator] # a range


def test_each_kind_is_known_to_the_nemesis() -> None:
    assert FAULTS.keys() == KINDS.keys()
