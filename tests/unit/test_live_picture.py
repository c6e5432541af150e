"""What the live page draws and says of its data: lanes, charts, marks, evenness, durations."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from cluster.store.glance import Glance
from webapp.pages import clock, marks
from webapp.pages import lanes as picture
from webapp.pages.charts import charts
from webapp.pages.evenness import evenness
from webapp.pages.lanes import Lanes, lanes

NOW = datetime(2026, 11, 21, 17, 20, 30, tzinfo=UTC)
OUTCOMES = ["running", "completed", "failed", "crashed", "timed_out", "cancelled", "interrupted"]


def a_bar(begun: float, took: float | None, worker: str = "host:1", **more: Any) -> dict[str, Any]:
    """Return an attempt that began so many seconds ago, and is under way if it took None."""
    started = NOW - timedelta(seconds=begun)
    return {
        "run_id": UUID(int=int(begun * 10)),
        "job": "tick",
        "name": None,
        "worker": worker,
        "attempt": 1,
        "started_at": started,
        "finished_at": None if took is None else started + timedelta(seconds=took),
        "outcome": "running" if took is None else "completed",
        **more,
    }


def drawn(*bars: dict[str, Any], here: tuple[str, ...] = ("host:1",)) -> Lanes:
    """Return the picture of these attempts."""
    return lanes(
        Glance(
            now=NOW,
            since=NOW.replace(hour=16, second=0),
            workers=[{"name": name} for name in here],
            jobs=[],
            kinds=[],
            running=[bar for bar in bars if bar["finished_at"] is None],
            ended=[bar for bar in bars if bar["finished_at"]],
            cut=False,
        )
    )


def test_runs_one_after_another_share_a_row() -> None:
    """So a lane is as high as what lay beside each other, and no higher."""
    (lane,) = drawn(a_bar(60, 10), a_bar(50, 10), a_bar(30, None)).lanes

    assert [bar.row for bar in lane.bars] == [0, 0, 0]


def test_runs_at_the_same_time_lie_above_each_other() -> None:
    """A row that is free again is used again."""
    (lane,) = drawn(a_bar(60, 30), a_bar(50, 30), a_bar(25, 5), a_bar(19, None)).lanes

    assert [bar.row for bar in lane.bars] == [0, 1, 0, 0]


def test_many_at_once_are_drawn_thinner() -> None:
    """A worker with sixteen runs under way does not fill the screen."""
    few = drawn(*[a_bar(10 + n, None) for n in range(4)]).lanes[0]
    many = drawn(*[a_bar(10 + n, None) for n in range(100)]).lanes[0]

    assert many.bar_height < few.bar_height
    assert many.height < 200


def test_lanes_of_the_living_come_first_then_who_left_last() -> None:
    """The order of names among the living, so that nothing jumps."""
    found = drawn(
        a_bar(900, 1, "left:1"), a_bar(90, 1, "left:2"), a_bar(9, 1, "b"), here=("c", "b", "a")
    ).lanes

    assert [(lane.worker, lane.gone) for lane in found] == [
        ("a", False),
        ("b", False),
        ("c", False),
        ("left:2", True),
        ("left:1", True),
    ]


def test_too_many_workers_are_counted() -> None:
    """Of those who left only the last have a lane."""
    left = [a_bar(100 + n, 1, f"left:{n}") for n in range(picture.GONE + 3)]
    here = tuple(f"host:{n}" for n in range(picture.LANES + 4))

    found = drawn(*left, here=here)

    assert len(found.lanes) == picture.LANES + picture.GONE
    assert found.hidden == 3 + 4


def test_a_bar_lies_where_its_times_say() -> None:
    """From a full hour on, whatever the time is now."""
    found = drawn(a_bar(30, 20.5), a_bar(10, None))
    ended, running = found.lanes[0].bars

    assert found.base == datetime(2026, 11, 21, 16, tzinfo=UTC).timestamp()
    assert found.lanes[0].path(ended, found.base) == "M4800.0 2h20.5v10h-20.5z"
    assert (found.x(running), found.width(running, NOW)) == (4820, 10)
    assert found.left(NOW) == 4830 - found.span


@pytest.mark.parametrize(("begun", "span"), [(10, 300), (200, 300), (500, 900), (3000, 3600)])
def test_the_window_is_as_narrow_as_the_history_is_short(begun: float, span: int) -> None:
    """So that the first minutes of a cluster can be seen."""
    assert drawn(a_bar(begun, 1)).span == span


def test_the_axis_names_full_minutes() -> None:
    """Where they are, and none at the very edges."""
    found = drawn(a_bar(3000, 1))

    assert [f"{at:%H:%M}" for _, at in found.ticks(NOW)] == [
        "16:30",
        "16:40",
        "16:50",
        "17:00",
        "17:10",
    ]
    assert found.ticks(NOW)[0][0] == round(100 * 570 / 3600, 2)


def test_every_outcome_has_a_shape_of_its_own() -> None:
    """In the lanes all but what runs, which has no end yet, and among the marks."""
    shapes = {picture.sample(outcome) for outcome in OUTCOMES[1:]}
    paths = {path for _, path in (marks.mark_paths([outcome])[0] for outcome in OUTCOMES[1:])}

    assert len(shapes) == len(paths) == len(OUTCOMES) - 1


def test_a_bar_says_what_it_is() -> None:
    """A task by its name, a second attempt, and both ends."""
    bar = (
        drawn(a_bar(30, 20, job="work", name="a letter", attempt=2, outcome="timed_out"))
        .lanes[0]
        .bars[0]
    )

    assert picture.title(bar) == "work: a letter\ntimed out, attempt 2\n17:20:00 – 17:20:20"


def test_marks_are_told_in_words() -> None:
    """The most frequent first, and the newest on the right."""
    outcomes = ["failed", "completed", "completed"]

    assert marks.tally(outcomes) == "2 completed, 1 failed"
    (_, left), (_, right) = marks.mark_paths(outcomes)
    assert left.startswith("M1 1")
    assert "M8 1" in left
    assert right.startswith("M15 1")


def a_minute(**more: Any) -> dict[str, Any]:
    """Return a minute in which nothing happened."""
    nothing = dict.fromkeys(("started", "ended", "failed", "waiting"), 0)
    delays = dict.fromkeys(("mean_delay_seconds", "longest_delay_seconds"))
    return {"at": NOW, **nothing, **delays, **more}


def test_charts_say_the_last_whole_minute_and_the_most() -> None:
    """The minute of now is not whole, but it is drawn."""
    minutes = [a_minute(ended=1200, failed=3), a_minute(ended=7), a_minute(ended=2)]

    ended, delay, waiting = charts(minutes)

    assert (ended.last, ended.most) == ("7", "1,200")
    assert ended.words == (
        "Runs ended a minute: 7 in the last whole minute, 1,200 at most in an hour;"
        " failed: 0, 3 at most"
    )
    assert [path.count("M") for _, path in ended.series] == [3, 1]
    assert (delay.last, waiting.last) == ("–", "0")


def test_failed_bars_have_a_shape_of_their_own() -> None:
    """They lie over those of all that ended, about as light: where all failed, too, they differ."""
    (_, ended), (_, failed) = charts([a_minute(ended=4, failed=4)])[0].series

    assert ended == "M0.1 40v-40h0.8v40z"
    assert failed == "M0.3 40v-40h0.4v40z"


def test_charts_of_nothing_are_empty() -> None:
    """Before the first minute there is neither a figure nor a bar."""
    for minutes in ([], [a_minute()] * 60):
        assert all(path == "" for chart in charts(minutes) for _, path in chart.series)


def a_worker(load: int, started: int, **more: Any) -> dict[str, Any]:
    """Return a worker who has been here for an hour."""
    since = NOW - timedelta(hours=1)
    usual = {"remote": False, "leaving": False, "started_at": since}
    return {"load": load, "started": started, **usual, **more}


def test_evenness_is_the_most_less_the_least() -> None:
    """Of what is under way, and of what was started."""
    found = evenness([a_worker(3, 20), a_worker(2, 24)])

    assert found.now == 1
    assert found.words == "under way: 2 to 3, 1 apart; started in an hour: 20 to 24, 4 apart"


def test_evenness_leaves_out_who_does_not_share() -> None:
    """Remote workers and who is leaving; and of the hour, who has just come."""
    found = evenness(
        [
            a_worker(2, 20),
            a_worker(9, 90, remote=True),
            a_worker(0, 3, leaving=True),
            a_worker(2, 1, started_at=NOW),
        ]
    )

    assert found.now == 0
    assert found.words == "under way: 2 each; started in an hour: 20 each"


def test_evenness_of_nobody_is_not_said() -> None:
    """Without a worker there is no figure."""
    assert evenness([]).now is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0 s"),
        (0.05, "0 s"),
        (0.45, "0.4 s"),
        (9.99, "9.9 s"),
        (10.9, "10 s"),
        (60, "1 min"),
        (192.7, "3 min 12 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (90_000, "1 d 1 h"),
        (864_000, "10 d"),
        (None, "–"),
    ],
)
def test_durations_are_said_in_the_two_largest_units(seconds: float | None, said: str) -> None:
    """Never rounded up, so that nothing is said to be over before it is."""
    assert clock.duration(seconds) == said
