"""The spread rule and the grid of polls."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import spread

pids = st.integers(1, 4_194_304)


@given(pids)
def test_equals_take_turns_in_the_first_third_of_a_slot(pid: int) -> None:
    assert 0 <= spread.phase(pid) < 1 / 3
    assert spread.phase(pid) == pytest.approx(spread.turn(pid) / 3)


@given(pids, st.integers(2, 64))
def test_turns_of_consecutive_pids_have_no_wide_gap(first: int, count: int) -> None:
    turns = sorted(spread.turn(pid) for pid in range(first, first + count))
    gaps = [b - a for a, b in itertools.pairwise(turns)] + [turns[0] + 1 - turns[-1]]
    assert max(gaps) < 3 / count


@given(st.integers(0, 50), pids, pids)
def test_a_less_loaded_worker_comes_first_by_most_of_a_slot(load: int, one: int, two: int) -> None:
    last = spread.opens_after(load, spread.phase(one), 0.1)
    first = spread.opens_after(load + 1, spread.phase(two), 0.1)
    assert first - last > 0.06


@given(st.floats(0, 2e9), st.floats(0, 0.999))
def test_the_next_poll_is_ahead_by_an_interval_at_most(now: float, phase: float) -> None:
    assert 0 <= spread.until_poll(now, phase, 1.25) <= 1.25


def test_polls_of_workers_lie_between_each_other() -> None:
    moments = sorted(spread.until_poll(1000.0, spread.turn(pid), 1.0) for pid in range(500, 505))
    gaps = [b - a for a, b in itertools.pairwise(moments)]
    assert min(gaps) > 0.05
