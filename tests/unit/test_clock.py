"""The database's time between two answers."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from cluster.clock import Clock

TOLD = datetime(2027, 3, 28, tzinfo=UTC)


def test_it_knows_nothing_before_the_first_answer() -> None:
    with pytest.raises(LookupError):
        Clock().now()


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, as a list of one number that the test moves."""
    moved = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: moved[0])
    return moved


def test_it_counts_on_from_the_last_answer(monotonic: list[float]) -> None:
    clock = Clock()
    clock.set(TOLD, sent=100)
    monotonic[0] += 90
    assert clock.now() == TOLD + timedelta(seconds=90)
    clock.set(TOLD, sent=190)
    assert clock.now() == TOLD


@pytest.mark.parametrize("seconds", [-3600, -7, 0, 0.5, 60])
def test_it_notices_by_how_much_the_database_jumped(monotonic: list[float], seconds: float) -> None:
    clock = Clock()
    clock.set(TOLD, sent=100)
    assert clock.jumped == 0
    monotonic[0] += 10
    clock.set(TOLD + timedelta(seconds=10 + seconds), sent=110)
    assert clock.jumped == abs(seconds)
    monotonic[0] += 1
    clock.set(TOLD + timedelta(seconds=11 + seconds), sent=111)
    assert clock.jumped == 0


def test_a_slow_answer_is_no_jump(monotonic: list[float]) -> None:
    clock = Clock()
    monotonic[0] = 105
    clock.set(TOLD, sent=100)  # told somewhere between the two
    monotonic[0] = 120
    clock.set(TOLD + timedelta(seconds=20), sent=115)
    assert clock.jumped == 0
    monotonic[0] = 130
    clock.set(TOLD + timedelta(seconds=60), sent=130)
    assert clock.jumped == 25
