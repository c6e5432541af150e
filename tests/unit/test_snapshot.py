"""Snapshots: one reader for all viewers, and no viewer who waits for a slow reader in vain."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg
import pytest

from tests.eventually import eventually
from webapp.pages import BUILD, snapshot
from webapp.pages.live import Pace
from webapp.pages.snapshot import Parts, Snapshot, Snapshots

NOW = datetime(2026, 11, 21, 17, tzinfo=UTC)


class Reader:
    """Reads what the test says, and counts."""

    def __init__(self, read: Callable[[], Parts] = lambda: {"a": 1}) -> None:
        self.read = read
        self.count = 0

    def __call__(self) -> tuple[datetime, Parts]:
        """Read."""
        self.count += 1
        return NOW, self.read()


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a snapshot be old at once."""
    monkeypatch.setattr(snapshot, "EVERY", 0.0)
    monkeypatch.setattr(snapshot, "_LONGEST", 0.0)


def test_a_snapshot_serves_for_a_second() -> None:
    """Who asks again gets the same."""
    reader = Reader()
    snapshots = Snapshots(reader)

    assert snapshots.get() is snapshots.get()
    assert reader.count == 1


def test_an_old_snapshot_is_renewed(restless: None) -> None:
    """Who asks later gets a newer one."""
    del restless
    reader = Reader()
    snapshots = Snapshots(reader)

    assert snapshots.get() is not snapshots.get()
    assert reader.count == 2


def test_while_one_reads_the_others_go_on_with_what_is_there(restless: None) -> None:
    """A slow database holds up one thread, and not all of a process."""
    del restless
    begun, go_on = threading.Event(), threading.Event()
    reader = Reader()
    snapshots = Snapshots(reader)
    first = snapshots.get()

    def slow() -> Parts:
        begun.set()
        assert go_on.wait(60)
        return {"a": 2}

    reader.read = slow
    with ThreadPoolExecutor(1) as executor:
        renewed = executor.submit(snapshots.get)
        assert begun.wait(60)
        assert snapshots.get() is first
        go_on.set()
        assert renewed.result(60).parts == {"a": 2}
    assert reader.count == 2


def test_who_is_first_is_waited_for() -> None:
    """When there is nothing to show yet, all wait for the one that reads."""
    go_on = threading.Event()

    def slow() -> Parts:
        assert go_on.wait(60)
        return {}

    reader = Reader(slow)
    snapshots = Snapshots(reader)
    with ThreadPoolExecutor(8) as executor:
        found = [executor.submit(snapshots.get) for _ in range(8)]
        eventually(lambda: reader.count == 1)
        go_on.set()
        assert len({id(each.result(60)) for each in found}) == 1
    assert reader.count == 1


def test_a_database_that_is_away_is_asked_by_one_once_a_second() -> None:
    """All others are told at once what the one was told."""

    def away() -> Parts:
        raise psycopg.OperationalError("the database is away")

    reader = Reader(away)
    snapshots = Snapshots(reader)

    for _ in range(3):
        with pytest.raises(psycopg.OperationalError, match="the database is away"):
            snapshots.get()
    assert reader.count == 1


def test_what_was_is_not_shown_while_the_database_is_away(restless: None) -> None:
    """The page has to say that it has lost the connection; later it goes on."""
    del restless
    reader = Reader()
    snapshots = Snapshots(reader)
    snapshots.get()

    def away() -> Parts:
        raise psycopg.OperationalError

    reader.read = away
    with pytest.raises(psycopg.OperationalError):
        snapshots.get()
    reader.read = dict
    assert eventually(snapshots.get).parts == {}


def test_a_snapshot_that_took_long_serves_longer() -> None:
    """So that looking is a small part of what a busy process does."""

    def slow() -> Parts:
        threading.Event().wait(0.3)  # the cost that the test is about
        return {}

    assert 3 <= Snapshots(Reader(slow)).get().serves <= 10


def test_a_tag_names_the_state_of_each_part() -> None:
    """So who has some parts gets the others."""
    seen = Snapshot(NOW, 0, 1.0, {"a": 1, "b": 2}, ["one", "two"])

    assert seen.etag == f"{BUILD}.one.two"
    assert seen.changed(seen.etag) == []
    assert seen.changed(f"{BUILD}.one.2") == ["b"]
    assert seen.changed(f"{BUILD}.one") == ["a", "b"]
    assert seen.changed("another.one.two") == ["a", "b"]


def test_viewers_come_again_with_the_next_snapshot() -> None:
    """And not sooner than that helps."""
    assert 700 <= Pace().next(0.7, 1.0) <= 800
    assert 600 <= Pace().next(0.1, 1.0) <= 700
    assert 1000 <= Pace().next(-0.4, 1.0) <= 1100
    assert 3000 <= Pace().next(3.0, 4.0) <= 3100


def test_a_crowd_is_asked_to_come_less_often() -> None:
    """Three hundred polls within two seconds are too many for one process."""
    pace = Pace()
    waits = [pace.next(1.0, 1.0) for _ in range(300)]

    assert max(waits) > 1300
