"""The database's time between two answers."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from cluster.clock import Clock

TOLD = datetime(2027, 3, 28, tzinfo=UTC)


def test_it_knows_nothing_before_the_first_answer() -> None:
    with pytest.raises(LookupError):
        Clock().now()


def test_it_counts_on_from_the_last_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monotonic = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: monotonic[0])
    clock = Clock()
    clock.set(TOLD)
    monotonic[0] += 90
    assert clock.now() == TOLD + timedelta(seconds=90)
    clock.set(TOLD)
    assert clock.now() == TOLD
