"""Pulse: what a worker counts of its own work, and when it has something to write."""

import math
from datetime import timedelta

import pytest

from cluster.pulse import EVERY_SECONDS, Count, Pulse
from tests.unit.builders import NOW

A_MINUTE = timedelta(minutes=1)


class Hand:
    """A monotonic clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = 1000.0
        monkeypatch.setattr("cluster.pulse.time.monotonic", lambda: self.at)


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    """Return the clock that the pulse reads."""
    return Hand(monkeypatch)


def test_what_starts_and_ends_is_counted_by_its_minute() -> None:
    """Each count goes into the minute of its own moment."""
    pulse = Pulse()
    pulse.started(NOW, 0.5)
    pulse.started(NOW + timedelta(seconds=59.9), 2.0)
    pulse.ended(NOW + A_MINUTE, "completed")
    pulse.ended(NOW + A_MINUTE, "failed")
    pulse.ended(NOW + A_MINUTE, "crashed")
    assert pulse.sent(NOW + A_MINUTE) == [
        Count(NOW, started=2, delay_sum=2.5, longest_delay=2.0),
        Count(NOW + A_MINUTE, ended=3, failed=2),
    ]


def test_who_has_nothing_to_do_has_nothing_to_write(hand: Hand) -> None:
    """An idle worker never sends a statement for its pulse."""
    pulse = Pulse()
    assert not pulse.is_due(under_way=0)
    hand.at = math.inf
    assert not pulse.is_due(under_way=0)


def test_what_is_counted_is_written_every_ten_seconds_at_most(hand: Hand) -> None:
    """The first count is due at once, the next ten seconds after that, and only if there is one."""
    pulse = Pulse()
    pulse.started(NOW, 0)
    assert pulse.is_due(under_way=0)
    pulse.written(NOW, len(pulse.sent(NOW)) - 1)
    pulse.ended(NOW, "completed")
    assert not pulse.is_due(under_way=0)
    hand.at += EVERY_SECONDS
    assert pulse.is_due(under_way=0)
    pulse.sent(NOW)
    pulse.written(NOW, waiting=0)
    hand.at += EVERY_SECONDS
    assert not pulse.is_due(under_way=0)


@pytest.mark.parametrize(("under_way", "waiting"), [(1, 0), (0, 1)])
def test_it_goes_on_while_something_is_under_way_or_waits(
    hand: Hand, under_way: int, waiting: int
) -> None:
    """Others may wait for what is under way; and what waits shall be seen to wait."""
    pulse = Pulse()
    pulse.started(NOW, 0)
    pulse.sent(NOW)
    pulse.written(NOW, waiting)
    hand.at += EVERY_SECONDS
    assert pulse.is_due(under_way)
    assert pulse.sent(NOW + A_MINUTE)[-1] == Count(NOW + A_MINUTE)


def test_a_write_that_failed_is_tried_again_ten_seconds_later_with_all_its_counts(
    hand: Hand,
) -> None:
    """A trouble with the database loses no count, and is not made worse."""
    pulse = Pulse()
    pulse.started(NOW, 1)
    assert pulse.sent(NOW) == [Count(NOW, started=1, delay_sum=1, longest_delay=1)]
    assert not pulse.is_due(under_way=0)
    hand.at += EVERY_SECONDS
    assert pulse.is_due(under_way=0)
    later = NOW + 5 * A_MINUTE
    pulse.started(later, 1)
    assert [count.started for count in pulse.sent(later)] == [1, 1]


def test_a_minute_before_a_long_rest_is_not_sent_again() -> None:
    """Its rows may be in the totals by then, where nobody would know them again."""
    pulse = Pulse()
    pulse.started(NOW, 0)
    pulse.sent(NOW)
    pulse.written(NOW, waiting=0)
    later = NOW + timedelta(hours=12)
    pulse.started(later, 0)
    assert pulse.sent(later) == [Count(later, started=1)]


def test_a_minute_is_forgotten_once_it_is_written_and_can_get_no_more_counts() -> None:
    """The minute before is kept for a clock that is a little behind; older ones are not."""
    pulse = Pulse()
    for minute in range(4):
        pulse.started(NOW + minute * A_MINUTE, 0)
    now = NOW + 3 * A_MINUTE
    pulse.written(now, len(pulse.sent(now)) - 4)
    assert [count.minute for count in pulse.sent(now)] == [NOW + 2 * A_MINUTE, now]
