"""The spread rule and the grid of polls."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from cluster import spread

pids = st.integers(1, 4_194_304)


@given(pids)
def test_phase_lies_within_one_turn(pid: int) -> None:
    assert 0 <= spread.phase(pid) < 1


@given(pids, st.integers(2, 64))
def test_phases_of_consecutive_pids_have_no_wide_gap(first: int, count: int) -> None:
    phases = sorted(spread.phase(pid) for pid in range(first, first + count))
    gaps = [b - a for a, b in itertools.pairwise(phases)] + [phases[0] + 1 - phases[-1]]
    assert max(gaps) < 3 / count


@given(st.integers(0, 50), st.floats(0, 0.999), st.floats(0, 0.999))
def test_a_less_loaded_worker_always_comes_first(load: int, one: float, other: float) -> None:
    assert spread.opens_after(load, one, 0.1) < spread.opens_after(load + 1, other, 0.1)


@given(st.floats(0, 2e9), st.floats(0, 0.999))
def test_the_next_poll_is_ahead_by_an_interval_at_most(now: float, phase: float) -> None:
    assert 0 <= spread.until_poll(now, phase, 1.25) <= 1.25


def test_polls_of_workers_lie_between_each_other() -> None:
    moments = sorted(spread.until_poll(1000.0, spread.phase(pid), 1.0) for pid in range(500, 505))
    gaps = [b - a for a, b in itertools.pairwise(moments)]
    assert min(gaps) > 0.05
