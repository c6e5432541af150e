"""`status` and `workers`: who works, what is under way, what waits and why, and what has failed."""

from collections.abc import Iterator
from contextlib import suppress

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cluster.cli import picture, reach, tables
from cluster.cli.looks import Look, looks
from cluster.cli.picture import FAILURES
from cluster.cli.tables import lasted, whole
from cluster.settings import load_or_exit
from cluster.store import glance, views
from cluster.store.views import Row

_EVERY = 2.0
"""Seconds between two looks."""
_ROOM = 40
"""Rows of all parts where nobody knows how high the screen is."""
_FEWEST = 12
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


def _watch(*, as_json: bool) -> None:
    """Look again and again until somebody presses Ctrl-C."""
    found = looks(reach.url(load_or_exit()), picture.read, _EVERY)
    screen = tables.console()
    with suppress(KeyboardInterrupt):
        if not as_json and screen.is_terminal:
            _live(screen, found)
        for look in found:
            if as_json:
                tables.show_json(_body(look), indent=False)
            else:
                tables.show(_frame(look, _ROOM), Text())


def _live(screen: Console, found: Iterator[Look[Row]]) -> None:
    with Live(console=screen, screen=True, auto_refresh=False) as live:
        for look in found:
            live.update(_frame(look, _room(screen)), refresh=True)


def _room(screen: Console) -> int:
    return max(screen.height - _FRAME, _FEWEST)


def _body(look: Look[Row]) -> object:
    return look.seen if look.away is None else {"at": None, "away": look.away}


def _frame(look: Look[Row], room: int) -> RenderableType:
    parts: list[RenderableType] = []
    if look.away is not None:
        parts += [Text(tables.harmless(look.complaint), style="bold red")]
        if look.seen:
            parts += [Text(f"What follows was so at {tables.moment(look.seen['at'])} UTC.")]
        parts += [Text()]
    return Group(*parts, *([screen(look.seen, room)] if look.seen else []))


def screen(seen: Row, room: int) -> RenderableType:
    """Return the picture, with so many rows in all parts together."""
    parts = {"workers": _workers, "running": _running, "waiting": _waiting, "failures": _failures}
    shown: list[RenderableType] = [Text(_heading(seen), style="bold")]
    rows = shares([len(seen[name]) for name in parts], room)
    for (name, part), share in zip(parts.items(), rows, strict=True):
        shown += [Text(), part(seen, seen[name][:share])]
        if (more := len(seen[name]) - share) > 0:
            shown.append(Text(f"… and {more:,} more", style="dim"))
    return Group(*shown)


def shares(wanted: list[int], room: int) -> list[int]:
    """Share rows out: who wants little gets it, and the others have the same each."""
    found = [0] * len(wanted)
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    for place, part in enumerate(order):
        found[part] = min(wanted[part], room // (len(wanted) - place))
        room -= found[part]
    return found


def _heading(seen: Row) -> str:
    waiting = seen["waiting"]
    more = any(row["tasks"] == glance.COUNTED for row in waiting)
    tasks = sum(row["tasks"] or 0 for row in waiting)
    counts = (
        f"workers {len(seen['workers'])}",
        f"under way {sum(row['load'] for row in seen['workers']):,}",
        f"tasks waiting {tasks:,}{'+' if more else ''}",
        f"failed {len(seen['failures'])}{'+' if len(seen['failures']) == FAILURES else ''}",
    )
    return "  ".join([f"{tables.moment(seen['at'])} UTC", *counts])


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


@click.command()
@tables.as_json
def workers(*, as_json: bool) -> None:
    """List who holds a lease, and how many runs each has under way."""
    with reach.data() as pool:
        rows = views.workers(pool)
    if as_json:
        tables.show_json(rows)
        return
    tables.show(
        tables.table(
            ["WORKER", whole("SINCE (UTC)"), whole("RUNS"), whole("LEASE UNTIL (UTC)"), "LEAVING"],
            (
                (row["name"], row["started_at"], row["load"], row["lease_until"], row["leaving"])
                for row in rows
            ),
            "No worker is at work.",
        )
    )
