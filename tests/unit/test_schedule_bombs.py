"""Schedules from strangers: lines made to cost much, and zones whose clocks did odd things.

No limit of time here is one of seconds, for the machine may be busy: what bounds the cost is
counted instead, in questions that are put to croniter.
"""

import zoneinfo
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import schedule
from cluster.schedule import ScheduleError

MOST_QUESTIONS = 2 * 3600 + 2
"""Of one firing: each second of two hours that come twice (Antarctica/Troll), and two more."""

NEVER = [
    "0 0 30 2 *",
    "0 0 31 2,4,6,9,11 *",
    "0 0 30-31 2 *",
    "0 0 30 2 1#5",
    "0 0 31 feb L1",
    "* * 30 2 * *",
    "0-59 0-23 30 2 * 0-59",
]
ENDLESS = [
    ",".join(str(minute % 60) for minute in range(5_000)) + " * * * *",
    "0-59/1," * 20_000 + "0 * * * *",
    "0-99999999999999999999 * * * *",
    "0 0-9999999999999999 * * *",
    "9" * 90 + " * * * *",
    "*/0 * * * *",
    "0-0/0 * * * *",
    "*/1-5 * * * *",
    "0 0 * * 5#6",
    "0 0 W * *",
    "@every " + "9" * 5_000 + "d",
    "@every " + "1s" * 5_000,
    " " * 60_000 + "x",
]
"""Lines that would be much work, or make no sense, if anybody went through them."""

fields = st.one_of(
    st.sampled_from(["*", "?", "L", "l", "1#5", "L1", "15W", "29", "30", "31", "jan-dec", "7-0"]),
    st.builds("{}-{}/{}".format, *[st.integers(0, 70)] * 3),
    st.builds("*/{}".format, st.integers(0, 10**30)),
    st.lists(st.integers(0, 70).map(str), min_size=1, max_size=12).map(",".join),
    st.text("0123456789*/-,#LWH? ", max_size=12),
)
lines = st.one_of(
    st.lists(fields, min_size=5, max_size=6).map(" ".join),
    st.text(max_size=200),
    st.text("0123456789.smhdw", max_size=100).map("@every ".__add__),
)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone


class Counted:
    """Stands in front of croniter, and counts what it is asked."""

    asked = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._real = REAL(*args, **kwargs)

    def get_next(self, kind: type[datetime]) -> Any:
        """Count, and pass on."""
        type(self).asked += 1
        return self._real.get_next(kind)

    @staticmethod
    def expand(*args: Any, **kwargs: Any) -> Any:
        """Pass on."""
        return REAL.expand(*args, **kwargs)


REAL: Any = croniter


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    """Return the counter, at nothing."""
    schedule.parse.cache_clear()
    monkeypatch.setattr(schedule, "croniter", Counted)
    monkeypatch.setattr(Counted, "asked", 0)
    return Counted


@pytest.mark.parametrize("line", NEVER)
def test_a_day_that_never_comes_is_refused_after_one_question(
    questions: type[Counted], line: str
) -> None:
    with pytest.raises(ScheduleError, match="never fires"):
        schedule.parse(line)
    assert questions.asked == 1


@pytest.mark.parametrize("line", ENDLESS, ids=lambda line: ascii(line)[:30])
def test_an_endless_line_is_refused_before_it_is_asked_anything(
    questions: type[Counted], line: str
) -> None:
    with pytest.raises(ScheduleError) as refused:
        schedule.parse(line)
    assert questions.asked == 0
    assert len(str(refused.value)) < 500  # what is quoted of it is short as well


@settings(deadline=None, max_examples=80)
@given(line=lines, moment=moments)
def test_any_line_is_refused_or_fires_later(line: str, moment: datetime) -> None:
    try:
        rule = schedule.parse(line, "Europe/Berlin")
        firing = rule.after(moment)
    except ScheduleError:
        return
    assert firing > moment
    assert firing.tzinfo is UTC


@settings(deadline=None, max_examples=80)
@given(zone=st.text(max_size=40) | st.sampled_from(["../UTC", "UTC\x00", "utc", "C:\\UTC", "."]))
def test_any_text_is_a_zone_of_the_database_or_refused(zone: str) -> None:
    if zone in zoneinfo.available_timezones() - {"localtime", "posixrules"}:
        schedule.parse("0 0 * * *", zone)
    else:
        with pytest.raises(ScheduleError) as refused:
            schedule.parse("0 0 * * *", zone)
        assert repr(zone) in str(refused.value)


@pytest.mark.parametrize(
    ("zone", "before"),
    [("Europe/Berlin", "2026-10-25T00:59:59Z"), ("Antarctica/Troll", "2026-10-25T00:59:59Z")],
)
def test_the_hours_that_come_twice_cost_a_question_for_each_second_at_most(
    questions: type[Counted], zone: str, before: str
) -> None:
    """The dearest line there is: by the wall clock, and each second of the day."""
    dearest = schedule.parse("0-59 0-23 * * * 0-59", zone)
    firing = dearest.after(datetime.fromisoformat(before))
    assert firing > datetime.fromisoformat(before)
    assert questions.asked <= MOST_QUESTIONS


def daily(line: str, zone: str, start: str) -> list[str]:
    """Return the next three firings, as `day hour:minute` in UTC."""
    found = schedule.preview(schedule.parse(line, zone), datetime.fromisoformat(start), 3)
    return [f"{firing:%d %H:%M:%S}" for firing in found]


@pytest.mark.parametrize(
    ("zone", "line", "start", "expected"),
    [
        # Liberia was 44 minutes 30 seconds behind, until midnight of 7 January 1972, which was left
        # out: so it fires after the gap, at the first whole minute.
        (
            "Africa/Monrovia",
            "0 0 * * *",
            "1972-01-05T12:00Z",
            ["06 00:44:30", "07 00:45:00", "08 00:00:00"],
        ),
        # Samoa left out 30 December 2011: from the 29th, 24:00 (UTC-10), to the 31st (UTC+14).
        # The firing of the day that was left out comes at once after the gap.
        (
            "Pacific/Apia",
            "30 2 * * *",
            "2011-12-29T00:00Z",
            ["29 12:30:00", "30 10:00:00", "30 12:30:00"],
        ),
        # Kwajalein left out 21 August 1993 (UTC-12 to UTC+12).
        (
            "Pacific/Kwajalein",
            "30 2 * * *",
            "1993-08-20T12:00Z",
            ["20 14:30:00", "21 12:00:00", "21 14:30:00"],
        ),
        # Lord Howe: half an hour back on 5 April 2026, 01:30 to 02:00 twice.
        (
            "Australia/Lord_Howe",
            "45 1 * * *",
            "2026-04-03T12:00Z",
            ["03 14:45:00", "04 14:45:00", "05 15:15:00"],
        ),
        # Caracas: half an hour on at 02:30 of 1 May 2016, so 02:30 to 03:00 is left out.
        (
            "America/Caracas",
            "45 2 * * *",
            "2016-04-30T00:00Z",
            ["30 07:15:00", "01 07:00:00", "02 06:45:00"],
        ),
    ],
    ids=lambda each: each if isinstance(each, str) and "/" in each else None,
)
def test_a_daily_job_fires_once_a_day_where_clocks_were_odd(
    zone: str, line: str, start: str, expected: list[str]
) -> None:
    assert daily(line, zone, start) == expected


def test_a_century_without_a_leap_day_is_passed_over() -> None:
    found = schedule.preview(schedule.parse("0 0 29 2 *"), datetime(2095, 1, 1, tzinfo=UTC), 3)
    assert [firing.year for firing in found] == [2096, 2104, 2108]


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        ("Pacific/Apia", "2011-12-30T09:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T14:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T14:30Z"),
        ("Africa/Monrovia", "1972-01-07T01:00Z"),
    ],
)
def test_each_minute_is_a_minute_after_the_last_wherever_it_is(zone: str, start: str) -> None:
    moment = datetime.fromisoformat(start)
    found = schedule.preview(schedule.parse("* * * * *", zone), moment, 150)
    apart = {later - firing for firing, later in pairwise(found)}
    assert apart <= {timedelta(minutes=1), timedelta(seconds=30)}  # Liberia's half minute
    assert len(found) == 150
