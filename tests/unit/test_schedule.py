"""Schedules: which moments they name, above all when clocks change."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import schedule
from cluster.schedule import ScheduleError

EXPRESSIONS = (
    "30 2 * * *",
    "30 1 * * *",
    "*/30 * * * *",
    "15,45 1-3 * * *",
    "0 * * * *",
    "5 4 * * 0",
    "0 0 29 2 *",
    "* * * * * */20",
    "30 2 * * * 15",
    "@daily",
    "@every 90s",
    "@every 1.1s",
)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
BERLIN, NEW_YORK, LORD_HOWE = ZONES[1:4]

schedules = st.builds(schedule.parse, st.sampled_from(EXPRESSIONS), st.sampled_from(ZONES))
moments = st.datetimes(datetime(2026, 12, 1), datetime(2028, 1, 31), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
# Within a day of a change of clocks in one of the zones.
changes = st.builds(
    lambda change, seconds: datetime.fromisoformat(change) + timedelta(seconds=seconds),
    st.sampled_from(
        (
            "2027-03-28T01:00Z",
            "2027-10-31T01:00Z",
            "2027-03-14T07:00Z",
            "2027-11-07T06:00Z",
            "2027-04-03T15:00Z",
            "2027-10-02T15:30Z",
        )
    ),
    st.integers(-86_400, 86_400),
)


def firings(text: str, zone: str, start: str, count: int) -> list[str]:
    """Return the next firings as `month-day hour:minute` in UTC."""
    found = schedule.preview(
        schedule.parse(text, zone), datetime.fromisoformat(f"2027-{start}Z"), count
    )
    return [f"{firing:%m-%d %H:%M}" for firing in found]


@pytest.mark.parametrize(
    ("text", "zone", "start", "expected"),
    [
        # Berlin: 28 March 01:00 UTC, 02:00 to 03:00 is skipped; 31 October 01:00 UTC, it repeats.
        ("30 2 * * *", BERLIN, "03-27 00:00", ["03-27 01:30", "03-28 01:00", "03-29 00:30"]),
        ("30 2 * * *", BERLIN, "10-30 00:00", ["10-30 00:30", "10-31 00:30", "11-01 01:30"]),
        # New York: 14 March 07:00 UTC skips 02:00 to 03:00; 7 November 06:00 UTC repeats 01:00.
        ("30 2 * * *", NEW_YORK, "03-13 00:00", ["03-13 07:30", "03-14 07:00", "03-15 06:30"]),
        ("30 2 * * *", NEW_YORK, "11-06 00:00", ["11-06 06:30", "11-07 07:30", "11-08 07:30"]),
        ("30 1 * * *", NEW_YORK, "03-13 00:00", ["03-13 06:30", "03-14 06:30", "03-15 05:30"]),
        ("30 1 * * *", NEW_YORK, "11-06 00:00", ["11-06 05:30", "11-07 05:30", "11-08 06:30"]),
        # Lord Howe moves by half an hour: 3 April 15:00 UTC repeats 01:30 to 02:00 of the 4th;
        # 2 October 15:30 UTC skips 02:00 to 02:30 of the 3rd.
        ("30 2 * * *", LORD_HOWE, "04-02 00:00", ["04-02 15:30", "04-03 16:00", "04-04 16:00"]),
        ("30 2 * * *", LORD_HOWE, "10-01 00:00", ["10-01 16:00", "10-02 15:30", "10-03 15:30"]),
        ("45 1 * * *", LORD_HOWE, "04-02 00:00", ["04-02 14:45", "04-03 14:45", "04-04 15:15"]),
        ("15 2 * * *", LORD_HOWE, "10-01 00:00", ["10-01 15:45", "10-02 15:30", "10-03 15:15"]),
    ],
)
def test_a_daily_job_fires_once_a_day_when_clocks_change(
    text: str, zone: str, start: str, expected: list[str]
) -> None:
    assert firings(text, zone, start, 3) == expected


@pytest.mark.parametrize(
    ("zone", "start", "expected"),
    [
        (BERLIN, "03-28 00:00", ["03-28 00:30", "03-28 01:00", "03-28 01:30", "03-28 02:00"]),
        (BERLIN, "10-31 00:00", ["10-31 00:30", "10-31 01:00", "10-31 01:30", "10-31 02:00"]),
        (NEW_YORK, "03-14 06:00", ["03-14 06:30", "03-14 07:00", "03-14 07:30", "03-14 08:00"]),
        (NEW_YORK, "11-07 05:00", ["11-07 05:30", "11-07 06:00", "11-07 06:30", "11-07 07:00"]),
        (LORD_HOWE, "04-03 14:00", ["04-03 14:30", "04-03 15:00", "04-03 15:30", "04-03 16:00"]),
        (LORD_HOWE, "10-02 14:30", ["10-02 15:00", "10-02 15:30", "10-02 16:00", "10-02 16:30"]),
    ],
)
def test_a_half_hourly_job_keeps_its_distance_when_clocks_change(
    zone: str, start: str, expected: list[str]
) -> None:
    assert firings("*/30 * * * *", zone, start, 4) == expected


@pytest.mark.parametrize("zone", ZONES)
def test_a_year_of_a_daily_job_has_one_firing_for_each_day(zone: str) -> None:
    start = datetime(2026, 12, 31, 12, tzinfo=UTC)
    found = schedule.preview(schedule.parse("30 12 * * *", zone), start, 365)
    assert found[-1] - found[0] == timedelta(days=364)


@pytest.mark.parametrize("change", ["03-27", "10-30"])
def test_elapsed_time_between_hourly_firings_is_always_an_hour(change: str) -> None:
    start = datetime.fromisoformat(f"2027-{change}T00:00Z")
    found = schedule.preview(schedule.parse("0 * * * *", BERLIN), start, 48)
    assert found == [start + timedelta(hours=n) for n in range(1, 49)]


def test_the_sixth_field_is_the_second() -> None:
    moment = datetime(2027, 6, 1, 2, 30, 15, tzinfo=UTC)
    assert schedule.parse("30 2 * * * 15").after(datetime(2027, 6, 1, tzinfo=UTC)) == moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@hourly", "2027-06-02T04:00Z"),
        ("@daily", "2027-06-03T00:00Z"),
        ("@midnight", "2027-06-03T00:00Z"),
        ("@weekly", "2027-06-06T00:00Z"),
        ("@monthly", "2027-07-01T00:00Z"),
        ("@yearly", "2028-01-01T00:00Z"),
        ("@annually", "2028-01-01T00:00Z"),
        ("  0   4 * * * ", "2027-06-02T04:00Z"),
    ],
)
def test_names_and_blanks_mean_what_a_crontab_means(text: str, expected: str) -> None:
    after = schedule.parse(text).after(datetime(2027, 6, 2, 3, 30, tzinfo=UTC))
    assert after == datetime.fromisoformat(expected)


def test_a_named_schedule_follows_its_zone() -> None:
    assert firings("@daily", BERLIN, "03-27 12:00", 2) == ["03-27 23:00", "03-28 22:00"]


def test_an_interval_counts_from_the_epoch() -> None:
    found = schedule.parse("@every 90s").after(datetime(1970, 1, 1, 0, 2, tzinfo=UTC))
    assert found == datetime(1970, 1, 1, 0, 3, tzinfo=UTC)


@given(moments, st.sampled_from(("1s", "90s", "7m", "2h", "1.1s", "3.7s", "1d")), st.floats(0, 1))
def test_an_interval_agrees_whatever_moment_it_is_asked_from(
    moment: datetime, every: str, part: float
) -> None:
    interval = schedule.parse(f"@every {every}")
    start = interval.after(moment)
    between = start + (interval.after(start) - start) * part * 0.99
    assert interval.after(between) == interval.after(start)


@given(schedules, moments | changes)
def test_a_firing_is_later_than_the_moment(rule: schedule.Schedule, moment: datetime) -> None:
    assert rule.after(moment) > moment


@given(schedules, moments | changes, moments | changes)
def test_a_later_moment_has_no_earlier_firing(
    rule: schedule.Schedule, one: datetime, other: datetime
) -> None:
    assert rule.after(min(one, other)) <= rule.after(max(one, other))


@given(schedules, changes, st.floats(0, 0.99))
def test_a_firing_stays_the_next_until_it_comes(
    rule: schedule.Schedule, moment: datetime, part: float
) -> None:
    firing = rule.after(moment)
    assert rule.after(moment + (firing - moment) * part) == firing


@given(schedules, moments | changes)
def test_a_preview_strictly_increases(rule: schedule.Schedule, moment: datetime) -> None:
    found = schedule.preview(rule, moment, 5)
    assert found == sorted(set(found))


@pytest.mark.parametrize(
    "text",
    [
        "61 * * * *",
        "* * * * * * *",
        "* * * *",
        "0 0 31 2 *",
        "*/0 * * * *",
        "٣ * * * *",
        "@reboot",
        "@nonsense",
        "nonsense",
        "5-1-2 * * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "-1 * * * *",
        "* * * * * 60",
        "0 0 * * * 0 2030",
        "R * * * *",
        "h * * * *",
        "H/15 * * * *",
        "R(0-10) * * * *",
        "H(0-30)/10 * * * *",
        "0,R * * * *",
        "0 H * * *",
        "0 0 1,H * *",
        "* * * * * R",
        "\x00 * * * *",
        "'; DROP TABLE run; --",
    ],
)
def test_a_line_that_is_no_schedule_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        schedule.parse(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize("text", ["", "   ", "x" * 10_240, "* " * 5_000, "@every", "@every 0s"])
def test_empty_endless_and_idle_schedules_are_refused(text: str) -> None:
    with pytest.raises(ScheduleError):
        schedule.parse(text)


@pytest.mark.parametrize("every", ["9999999w", "999999999999d", "9" * 80 + "w", "2000000000m"])
def test_an_interval_that_never_comes_is_refused(every: str) -> None:
    with pytest.raises(ScheduleError):
        schedule.parse(f"@every {every}")


@pytest.mark.parametrize(
    "zone",
    ["Mars/X", "../../etc/localtime", "/etc/localtime", "", "localtime", "europe/berlin", "a\x00b"],
)
def test_a_zone_outside_the_database_is_refused_and_quoted(zone: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        schedule.parse("0 0 * * *", zone)
    assert repr(zone) in str(refused.value)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (45, 45.0),
        (0.5, 0.5),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("2d", 172_800.0),
        ("1w", 604_800.0),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_a_duration_is_seconds(duration: str | float | timedelta, expected: float) -> None:
    assert schedule.seconds(duration) == expected


@pytest.mark.parametrize(
    "duration",
    ["10x", "", "5", "-5s", "1h 30m", "1..5s", "٣s", True, float("nan"), float("inf")],
)
def test_what_is_no_duration_is_refused_and_quoted(duration: str | float) -> None:
    with pytest.raises(ScheduleError) as refused:
        schedule.seconds(duration)
    assert repr(duration) in str(refused.value)
