"""`jobs`, `history`, `pause`, `resume`: what is declared, what it has done, and whether it may."""

from typing import Any

import click
from rich.console import RenderableType
from rich.table import Column

from cluster.cli import answers, reach, tables
from cluster.cli.tables import lasted, moment, percent, whole
from cluster.database import Pool
from cluster.store import jobs as store
from cluster.store import tasks, views
from cluster.store.views import Row

_MOST = 1000


@click.command()
@click.argument("name", required=False, shell_complete=reach.names)
@tables.as_json
def jobs(name: str | None, *, as_json: bool) -> None:
    """List the jobs, or show the job NAME with its settings.

    Those that run with worker and elapsed time, those that wait with the reason.
    """
    with reach.data() as pool:
        found: Any = answers.jobs(pool) if name is None else answers.job(pool, name)
        if found is None:
            raise reach.unknown_job(pool, name or "")
    if as_json:
        tables.show_json(found)
    else:
        tables.show(_table(found) if name is None else _facts(found))


@click.command()
@click.argument("name", required=False, shell_complete=reach.names)
@click.option(
    "--limit", type=click.IntRange(1, _MOST), default=20, show_default=True, help="Rows at most."
)
@tables.as_json
def history(name: str | None, *, limit: int, as_json: bool) -> None:
    """List what a job or a kind NAME has done, newest first; without NAME, what all have.

    Finished attempts, and firings that were lost.
    """
    with reach.data() as pool:
        every = [*views.jobs(pool, name), *tasks.kinds(pool, name)]
        if name is not None and not every:
            raise reach.unknown(pool, name)
        rows = _ended(pool, [row["name"] for row in every], limit)
    if as_json:
        tables.show_json([_without_job(row) for row in rows] if name is not None else rows)
    else:
        tables.show(_firings(rows, named=name is None))


@click.command()
@click.argument("name", shell_complete=reach.names)
@tables.as_json
def pause(name: str, *, as_json: bool) -> None:
    """Let a job or a kind NAME wait until it is resumed; what runs goes on."""
    _change(name, paused=True, as_json=as_json)


@click.command()
@click.argument("name", shell_complete=reach.names)
@tables.as_json
def resume(name: str, *, as_json: bool) -> None:
    """Let a paused job or kind NAME go on."""
    _change(name, paused=False, as_json=as_json)


def _change(name: str, *, paused: bool, as_json: bool) -> None:
    with reach.data() as pool:
        if not store.change(pool, name, {"paused": paused}, reach.who()):
            raise reach.unknown(pool, name)
        found = answers.job(pool, name) or answers.kind(pool, name)
    if as_json:
        tables.show_json(found)
    else:
        click.echo(f"{name} {'is paused' if paused else 'is not paused'}")


def _ended(pool: Pool, names: list[str], limit: int) -> list[Row]:
    """Return the last rows of the histories of several jobs together, newest first."""
    rows = [
        {"job": name, **row} for name in names for row in views.history(pool, name, limit, None)
    ]
    rows.sort(key=lambda row: (row["finished_at"], row["run_id"]), reverse=True)
    return rows[:limit]


def _without_job(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != "job"}


def _table(rows: list[Row]) -> RenderableType:
    return tables.table(
        ["JOB", "NOW", whole("LAST")],
        ((row["name"], _now(row), row["last_run"] and row["last_run"]["outcome"]) for row in rows),
        "No job was declared yet.",
    )


def _now(row: Row) -> str:
    """Return who runs it and for how long, or why it waits."""
    if row["state"] != "running":
        return row["why"] or "it has just been started, or ended"
    done = "" if row["progress"] is None else f", {percent(row['progress'])} done"
    return f"runs on {row['worker']} for {lasted(row['elapsed_seconds'])}{done}"


def _last(row: Row) -> str | None:
    last = row["last_run"]
    return last and f"{last['outcome']} {moment(last['finished_at'])}"


def _facts(row: Row) -> RenderableType:
    told = row["settings"]
    declared = row["declared_schedule"]
    by = "" if declared == row["schedule"] else f" (an operator's; the code says {declared})"
    return tables.facts(
        [
            ("job", row["name"]),
            ("function", row["function"]),
            ("description", row["description"]),
            ("schedule", f"{row['schedule']}{by}, {row['timezone']}"),
            ("paused", row["paused"]),
            ("state", row["state"]),
            ("now", _now(row)),
            ("run", row["run_id"]),
            ("attempt", row["attempt"]),
            ("next start (UTC)", row["next_run_at"]),
            ("last (UTC)", _last(row)),
            *((key.replace("_", " "), value) for key, value in told.items()),
        ]
    )


def _firings(rows: list[Row], *, named: bool) -> RenderableType:
    headings: list[str | Column] = ["WHAT"] if named else []
    headings += [whole("FINISHED (UTC)"), whole("OUTCOME"), whole("TOOK"), "ON", "ERROR"]
    return tables.table(
        headings,
        (
            (
                *([row["job"]] if named else []),
                row["finished_at"],
                row["outcome"],
                lasted(row["duration_seconds"]),
                row["worker"],
                row["error"],
            )
            for row in rows
        ),
        "Nothing has ended yet.",
    )
