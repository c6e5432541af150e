"""`status`: who works, what is under way, what waits and why, and what has failed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cluster.cli import picture, reach, tables
from cluster.cli.tables import lasted, whole
from cluster.settings import load_or_exit
from cluster.store import glance
from cluster.store.views import Row

_EVERY = 2.0
"""Seconds between two looks."""
_ROOM = 10
"""Rows of each part where nobody knows how high the screen is."""
_FEWEST = 3
_FRAME = 13
"""Lines of a screen that are no rows: headings and what is between the parts."""


@click.command()
@click.option("--watch", is_flag=True, help="Renew it every 2 seconds until Ctrl-C.")
@tables.as_json
def status(*, watch: bool, as_json: bool) -> None:
    """Show who works, what is under way, what waits and why, and what has failed.

    Failures are those of the last hour. With --watch a database that is away is waited for, and
    with --json as well each line is one look.
    """
    if watch:
        _watch(as_json=as_json)
        return
    with reach.data() as pool:
        seen = picture.read(pool)
    if as_json:
        tables.show_json(seen)
    else:
        tables.show(screen(seen, _ROOM))


@dataclass(frozen=True, slots=True)
class _Look:
    """What is known: the newest picture, if there was one, and why there is none now."""

    seen: Row | None
    away: str | None = None
    since: datetime | None = None

    @property
    def body(self) -> object:
        """As a line of JSON."""
        return self.seen if self.away is None else {"at": None, "away": self.away}

    def screen(self, room: int) -> RenderableType:
        """As people read it."""
        parts = [] if self.away is None else [self._missing(), Text()]
        return Group(*parts, *([screen(self.seen, room)] if self.seen else []))

    def _missing(self) -> RenderableType:
        now = datetime.now(UTC)
        long = lasted((now - (self.since or now)).total_seconds())
        what = f"AWAY since {tables.moment(self.since)} UTC ({long}): {self.away}"
        text = Text(tables.harmless(what), style="bold red")
        if self.seen:
            text.append(f"\nWhat follows was so at {tables.moment(self.seen['at'])} UTC.")
        return text


def _watch(*, as_json: bool) -> None:
    """Look again and again until somebody presses Ctrl-C."""
    looks = _looks(reach.url(load_or_exit()))
    screen = tables.console()
    try:
        if as_json or not screen.is_terminal:
            for look in looks:
                if as_json:
                    tables.show_json(look.body, indent=False)
                else:
                    screen.print(look.screen(_ROOM), Text())
        else:
            _live(screen, looks)
    except KeyboardInterrupt:
        pass


def _live(screen: Console, looks: Iterator[_Look]) -> None:
    with Live(console=screen, screen=True, auto_refresh=False) as live:
        for look in looks:
            live.update(look.screen(_room(screen)), refresh=True)


def _room(screen: Console) -> int:
    return max((screen.height - _FRAME) // 4, _FEWEST)


def _looks(url: str) -> Iterator[_Look]:
    """Look every two seconds, also while the database is away."""
    look = _Look(None)
    while True:
        try:
            with reach.opened(url) as pool:
                while True:
                    look = _Look(picture.read(pool))
                    yield look
                    time.sleep(_EVERY)
        except reach.Unreachable as error:
            look = _Look(look.seen, error.message, look.since or datetime.now(UTC))
            yield look
            time.sleep(_EVERY)


def screen(seen: Row, room: int) -> RenderableType:
    """Return the picture, with so many rows of each part at most."""
    parts: list[RenderableType] = [Text(_heading(seen), style="bold")]
    for rows, part in (
        (seen["workers"], _workers),
        (seen["running"], _running),
        (seen["waiting"], _waiting),
        (seen["failures"], _failures),
    ):
        parts += [Text(), part(seen, rows[:room])]
        if len(rows) > room:
            parts.append(Text(f"… and {len(rows) - room:,} more", style="dim"))
    return Group(*parts)


def _heading(seen: Row) -> str:
    under_way = sum(row["load"] for row in seen["workers"])
    due = sum(row["word"] not in ("schedule", "retry", "paused", None) for row in seen["waiting"])
    return (
        f"{tables.moment(seen['at'])} UTC: workers {len(seen['workers'])}, under way {under_way},"
        f" jobs and kinds that wait {len(seen['waiting'])}, {due} of them for a worker"
    )


def _workers(seen: Row, rows: list[Row]) -> RenderableType:
    return tables.table(
        ["WORKER", whole("UP"), whole("RUNS"), "STATE"],
        (
            (
                row["name"],
                lasted((seen["at"] - row["started_at"]).total_seconds()),
                f"{row['load']} of {row['slots']}" if row["slots"] else row["load"],
                _standing(row),
            )
            for row in rows
        ),
        "No worker is at work.",
    )


def _standing(row: Row) -> str:
    if row["late_until"]:
        return f"silent; its runs go to others at {row['late_until']:%H:%M:%S}"
    return "leaving" if row["leaving"] else "remote" if row["remote"] else "at work"


def _running(_seen: Row, rows: list[Row]) -> RenderableType:
    return tables.table(
        ["UNDER WAY", "ON", whole("FOR"), whole("DONE", right=True)],
        (
            (
                _called(row),
                row["worker"],
                lasted(row["elapsed_seconds"]),
                tables.percent(row["progress"]),
            )
            for row in rows
        ),
        "Nothing is under way.",
    )


def _waiting(_seen: Row, rows: list[Row]) -> RenderableType:
    return tables.table(
        ["WAITS", "WHY"],
        (
            (
                row["job"] if row["tasks"] is None else f"{row['job']}, {_count(row['tasks'])}",
                row["why"] or "it has just been started, or ended",
            )
            for row in rows
        ),
        "Nothing waits.",
    )


def _count(number: int) -> str:
    more = " or more" if number == glance.COUNTED else ""
    return f"{number:,}{more} {'task' if number == 1 else 'tasks'}"


def _failures(_seen: Row, rows: list[Row]) -> RenderableType:
    return tables.table(
        [whole("FAILED"), whole("HOW"), "WHAT", "ERROR"],
        (
            (f"{row['finished_at']:%H:%M:%S}", row["outcome"], _called(row), row["error"])
            for row in rows
        ),
        "Nothing has failed in the last hour.",
    )


def _called(row: Row) -> str:
    """Return what a run is called: a task by its kind and name, if it has one of its own."""
    own = row["name"] not in (None, row["job"])
    return f"{row['job']}: {row['name']}" if own else row["job"]
