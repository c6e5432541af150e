"""The plan of losses is one of a seed."""

import pytest

from tests.failover.losses import LOSSES
from tests.failover.plan import LINGER, MODES, REST, USUAL, plan


def test_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert plan(1, 20) == plan(1, 20)
    assert plan(1, 20) != plan(2, 20)


def test_a_shorter_plan_is_the_beginning_of_a_longer_one() -> None:
    assert plan(3, 20)[:5] == plan(3, 5)
    assert [loss.number for loss in plan(3, 5)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("seed", range(5))
def test_each_mode_comes_before_any_comes_again(seed: int) -> None:
    losses = plan(seed, 3 * len(USUAL))
    for turn in range(3):
        of_turn = losses[turn * len(USUAL) : (turn + 1) * len(USUAL)]
        assert {loss.mode for loss in of_turn} == set(USUAL)
    assert all(REST[0] <= loss.rest <= REST[1] for loss in losses)
    assert all(LINGER[0] <= loss.linger <= LINGER[1] for loss in losses)


def test_only_the_modes_that_were_chosen_come() -> None:
    assert {loss.mode for loss in plan(1, 5, ["kill", "freeze"])} == {"kill", "freeze"}


def test_each_mode_is_known_to_the_drill() -> None:
    assert LOSSES.keys() == MODES.keys()
