"""What the simulation of the spread rule claims."""

import pytest

from benchmarks.spread_model import NOISES, Setting
from benchmarks.spread_simulation import change, start

QUIET = Setting(cost=0.0005)


@pytest.mark.parametrize("seed", range(50))
def test_five_workers_share_ten_jobs_by_two(seed: int) -> None:
    assert start(QUIET, 5, 10, seed).loads == [2, 2, 2, 2, 2]


@pytest.mark.parametrize("pids", ["consecutive", "random", "hosts", "containers"])
@pytest.mark.parametrize(("workers", "jobs"), [(5, 13), (10, 5), (50, 100), (100, 200)])
def test_a_quiet_start_is_even_whatever_the_pids(workers: int, jobs: int, pids: str) -> None:
    found = start(Setting(cost=0.0005, pids=pids), workers, jobs, 1)
    assert sum(found.loads) == jobs
    assert found.apart <= 1


def test_slots_too_narrow_for_the_noise_are_uneven() -> None:
    narrow = Setting(NOISES["noisy"], cost=0.0005, width=0.005)
    assert any(start(narrow, 5, 10, seed).apart > 1 for seed in range(50))


def test_a_server_that_is_too_slow_makes_statements_wait() -> None:
    fast, slow = (Setting(cores=1, cost=cost) for cost in (0.0001, 0.1))
    assert start(fast, 10, 20, 1).waited < 0.1 < start(slow, 10, 20, 1).waited


def test_the_same_seed_gives_the_same_start() -> None:
    assert start(QUIET, 50, 130, 3) == start(QUIET, 50, 130, 3)


def test_a_gap_closes_when_a_worker_joins_late_or_dies() -> None:
    for what in ("join", "die"):
        assert change(QUIET, 5, 20, 1, what)[1] < 600
