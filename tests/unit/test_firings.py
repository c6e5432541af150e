"""Firings as a page shows them: what a change of clocks does is marked."""

from datetime import UTC, datetime

import pytest

from cluster.schedule import ScheduleError
from webapp.pages.firings import upcoming

BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def shown(text: str, now: str, count: int, zone: str = BERLIN) -> list[tuple[str, str, list[str]]]:
    """Return the local time, the one in UTC, and the marks of the next firings."""
    return [
        (f"{each.local:%m-%d %H:%M %Z}", f"{each.at:%m-%d %H:%M}", each.marks)
        for each in upcoming(text, zone, at(now), count)
    ]


def test_a_firing_in_the_gap_of_march_is_marked_as_moved() -> None:
    """02:30 does not exist on 28 March 2027 in Berlin."""
    found = shown("30 2 * * *", "2027-03-27T12:00", 2)
    assert found[0] == (
        "03-28 03:00 CEST",
        "03-28 01:00",
        [
            "clocks go forward before this, on 2027-03-28 from 02:00 to 03:00",
            "at 03:00, for the clocks skip the time that the schedule names",
        ],
    )
    assert found[1] == ("03-29 02:30 CEST", "03-29 00:30", [])


def test_a_firing_at_the_end_of_the_gap_by_its_line_is_not_moved() -> None:
    """03:00 is what the line says, on 28 March as on any day; the clocks change right there."""
    ((local, _, marks),) = shown("0 3 * * *", "2027-03-27T12:00", 1)
    assert local == "03-28 03:00 CEST"
    assert marks == ["clocks go forward before this, on 2027-03-28 from 02:00 to 03:00"]


def test_a_firing_in_the_repeated_hour_of_october_says_which_one_it_is() -> None:
    """02:30 comes twice on 31 October 2027 in Berlin, and the job starts the first time."""
    found = shown("30 2 * * *", "2027-10-30T12:00", 2)
    assert found[0][:2] == ("10-31 02:30 CEST", "10-31 00:30")
    assert found[0][2] == ["02:30 comes twice on this day; this is the first time"]
    assert found[1][:2] == ("11-01 02:30 CET", "11-01 01:30")
    assert found[1][2] == ["clocks go back before this, on 2027-10-31 from 03:00 to 02:00"]


def test_a_schedule_by_elapsed_time_goes_through_both_hours() -> None:
    """`*/30` fires in the first 02:00 hour and in the second."""
    found = shown("*/30 * * * *", "2027-10-31T00:15", 4)
    assert [each[1] for each in found] == [
        "10-31 00:30",
        "10-31 01:00",
        "10-31 01:30",
        "10-31 02:00",
    ]
    assert found[0][2] == ["02:30 comes twice on this day; this is the first time"]
    assert found[1][2] == [
        "clocks go back before this, on 2027-10-31 from 03:00 to 02:00",
        "02:00 comes twice on this day; this is the second time",
    ]
    assert found[2][2] == ["02:30 comes twice on this day; this is the second time"]
    assert found[3][2] == []


def test_a_change_before_the_first_firing_is_marked() -> None:
    """What was now by the old clock is compared as well."""
    ((local, _, marks),) = shown("0 12 1 4 *", "2027-03-01T00:00", 1)
    assert local == "04-01 12:00 CEST"
    assert marks == ["clocks go forward before this, on 2027-03-28 from 02:00 to 03:00"]


def test_of_several_changes_between_two_firings_the_last_is_told() -> None:
    """Once a year, in the week in which they change: in one year before that, in another after."""
    found = shown("0 12 30 3 *", "2030-03-20T00:00", 2)
    assert [each[0] for each in found] == ["03-30 12:00 CET", "03-30 12:00 CEST"]
    assert found[0][2] == []
    assert found[1][2] == ["clocks go forward before this, on 2031-03-30 from 02:00 to 03:00"]


@pytest.mark.parametrize("text", ["@every 7h", "17 3 * * *", "@daily"])
def test_where_clocks_never_change_nothing_is_marked(text: str) -> None:
    """UTC has no such days."""
    assert all(not marks for *_, marks in shown(text, "2027-03-27T12:00", 10, "UTC"))


def test_an_interval_is_marked_where_the_clocks_change_between() -> None:
    """It keeps its distance, so its time of day moves."""
    found = shown("@every 1d", "2027-03-27T12:00", 2)
    assert [each[0] for each in found] == ["03-28 01:00 CET", "03-29 02:00 CEST"]
    assert found[0][2] == []
    assert found[1][2] == ["clocks go forward before this, on 2027-03-28 from 02:00 to 03:00"]


def test_half_an_hour_of_lord_howe_is_told_as_such() -> None:
    """Its clocks move by thirty minutes."""
    (_, _, marks), *_ = shown("0 12 * * *", "2027-04-03T12:00", 1, "Australia/Lord_Howe")
    assert marks == ["clocks go back before this, on 2027-04-04 from 02:00 to 01:30"]


def test_what_is_no_schedule_is_an_error() -> None:
    """The page shows the reason."""
    with pytest.raises(ScheduleError, match="five fields"):
        upcoming("now and then", "UTC", at("2027-01-01T00:00"), 1)
