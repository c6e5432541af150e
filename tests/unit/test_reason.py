"""Reasons: the first thing that keeps a run from starting, in words."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from cluster.reason import Facts, Holder, Reason, reason, span
from tests.unit.builders import NOW

FULL = "all 32 slots of 2 workers full"
LONG_AGO = NOW - timedelta(days=1)


def after(**length: float) -> datetime:
    """Return the moment that much later."""
    return NOW + timedelta(**length)


def why(**known: Any) -> Reason:
    """Return the reason of a task that is due and first, in a cluster of 2 workers, all busy."""
    defaults: dict[str, Any] = {
        "now": NOW,
        "scheduled": False,
        "not_before": NOW,
        "start_by": None,
        "cancelled": False,
        "again": None,
        "paused": False,
        "paused_by": None,
        "remote": False,
        "at_work": 2,
        "workers": 2,
        "slots": 32,
        "free": 0,
        "opens_at": None,
        "max_running": None,
        "held": 0,
        "holders": (),
        "place": 1,
        "counted": 10_000,
        "pace": None,
    }
    return reason(Facts(**{**defaults, **known}))


def held_by(*workers: str, more: int = 0) -> dict[str, Any]:
    """Return the facts of a limit that is full."""
    held = len(workers) + more
    holders = [Holder(uuid4(), worker) for worker in workers]
    return {"max_running": held, "held": held, "holders": holders}


@pytest.mark.parametrize(
    ("known", "word", "text"),
    [
        ({"not_before": after(hours=2)}, "schedule", "due at 2027-06-01 14:00:00 UTC (in 2 h)"),
        (
            {"not_before": after(seconds=8), "again": ("failure", 2)},
            "retry",
            "backing off until 2027-06-01 12:00:08 UTC (in 8 s) after failure 2",
        ),
        (
            {"not_before": after(seconds=8), "again": ("crash", 1)},
            "retry",
            "backing off until 2027-06-01 12:00:08 UTC (in 8 s) after crash 1",
        ),
        ({"paused": True}, "paused", "paused"),
        (
            {"paused": True, "paused_by": ("ann", LONG_AGO)},
            "paused",
            "paused by ann at 2027-05-31 12:00:00 UTC",
        ),
        ({"workers": 0}, "no_worker", "no worker knows this kind"),
        ({"workers": 0, "scheduled": True}, "no_worker", "no worker knows this job"),
        ({"workers": 0, "at_work": 0}, "no_worker", "no worker is at work"),
        ({"cancelled": True}, "cancelled", "cancelled; it is being ended"),
        ({"start_by": NOW}, "deadline", "past its deadline; it is being dropped"),
        (
            {"opens_at": after(seconds=1)},
            "opening",
            "the cluster is opening; runs start at 2027-06-01 12:00:01 UTC (in 1 s)",
        ),
        ({}, "free_worker", "all 32 slots of 2 workers full; place 1 in the queue"),
        (
            {"slots": 1, "workers": 1},
            "free_worker",
            "the only slot of 1 worker full; place 1 in the queue",
        ),
        ({"free": 1}, "free_worker", "a worker takes it at its next look"),
        ({"free": 1, "place": 2}, "free_worker", "place 2 in the queue"),
        (
            {"slots": None},
            "free_worker",
            "a worker takes it at its next look; place 1 in the queue",
        ),
        (
            {"place": None},
            "free_worker",
            "all 32 slots of 2 workers full; more than 10,000 before it",
        ),
        (
            {"workers": 0, "remote": True},
            "free_worker",
            "a remote worker has to ask for it; place 1 of its kind",
        ),
        (
            {"free": 5, "max_running": 3, "held": 1, "place": 3},
            "free_worker",
            "place 3 of its kind",
        ),
        (
            {"free": 5, "max_running": 3, "held": 1, "place": 2},
            "free_worker",
            "a worker takes it at its next look",
        ),
    ],
)
def test_each_reason_has_its_word_and_its_words(
    known: dict[str, Any], word: str, text: str
) -> None:
    """The facts decide."""
    found = why(**known)
    assert (found.word, found.text) == (word, text)


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        (held_by("a:1"), "limit of 1 full, held by a:1"),
        (held_by("a:1", "b:2"), "limit of 2 full, held by a:1 and b:2"),
        (held_by("a:1", "b:2", "a:1"), "limit of 3 full, held by a:1 (2 runs) and b:2"),
        (held_by("a:1", "b:2", "c:3"), "limit of 3 full, held by a:1, b:2 and c:3"),
        (
            held_by("a:1", "b:2", "c:3", "d:4", "e:5", more=1000),
            "limit of 1,005 full, held by a:1, b:2, c:3 and 1,002 more",
        ),
    ],
)
def test_a_limit_names_who_holds_it(facts: dict[str, Any], named: str) -> None:
    """Three workers at most, the runs of others counted; and the place among its kind."""
    found = why(**facts, place=4)
    text = f"{named}; place 4 of its kind"
    assert found == Reason("limit", text, place=4, holders=facts["holders"], gist=text)


@pytest.mark.parametrize(
    ("pace", "place", "expected"),
    [(0.5, 3, "in about 6 s"), (100, 3, "within a second"), (1 / 60, 200, "in about 3 h 20 min")],
)
def test_what_is_known_of_the_pace_tells_when_it_starts(
    pace: float, place: int, expected: str
) -> None:
    """Its place divided by the starts a second."""
    found = why(pace=pace, place=place)
    assert found.text.endswith(f"place {place} in the queue, expected to start {expected}")
    assert found.until == NOW + timedelta(seconds=place / pace)


def test_a_deadline_is_told_of_a_run_that_is_due() -> None:
    """Nobody is surprised when it is dropped."""
    found = why(start_by=after(seconds=5))
    dropped = "; dropped unless it starts by 2027-06-01 12:00:05 UTC (in 5 s)"
    assert found.text.endswith(f"place 1 in the queue{dropped}")
    assert "dropped" not in why(start_by=after(hours=1), not_before=after(minutes=1)).text


def test_until_is_when_a_run_may_start() -> None:
    """The moment beside the words, for who counts down to it."""
    assert why(not_before=after(hours=2)).until == after(hours=2)
    assert why(not_before=after(hours=1), again=("failure", 1)).until == after(hours=1)
    assert why(opens_at=after(seconds=1)).until == after(seconds=1)
    assert why().until is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "less than a second"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600 + 59, "1 h"),
        (7500, "2 h 5 min"),
        (86400 * 1000 + 3600, "1,000 d 1 h"),
    ],
)
def test_a_length_of_time_has_two_units_at_most(seconds: float, text: str) -> None:
    """As people say it."""
    assert span(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("known", "gist"),
    [
        ({"not_before": after(hours=2)}, "due at 2027-06-01 14:00:00 UTC"),
        (
            {"not_before": after(seconds=8), "again": ("failure", 2)},
            "backing off until 2027-06-01 12:00:08 UTC after failure 2",
        ),
        (
            {"pace": 2.0, "start_by": after(seconds=5), "place": 7},
            f"{FULL}; place 7 in the queue; dropped unless it starts by 2027-06-01 12:00:05 UTC",
        ),
        ({"paused": True}, "paused"),
    ],
)
def test_the_gist_is_what_time_alone_does_not_change(known: dict[str, Any], gist: str) -> None:
    """So a page that shows it is not another page at every moment."""
    assert why(**known).gist == gist
    assert why(**known, now=NOW + timedelta(seconds=1)).gist == gist
