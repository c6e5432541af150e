"""`tasks`, `task`, `cancel`, `retry`: what somebody asked for, and what is to become of it."""

from uuid import UUID

import click
from rich.console import RenderableType
from rich.table import Column
from rich.text import Text

from cluster import shown
from cluster.cli import answers, reach, tables
from cluster.cli.tables import lasted, percent, whole
from cluster.database import Pool
from cluster.store import retries, search
from cluster.store import tasks as store
from cluster.store.views import Row

_MOST = 10_000
_WIDE = 110
"""Columns of a terminal that has room for more than the ids and names of tasks."""


_STATUSES = {
    text: number for number, name in store.STATUS_NAMES.items() for text in (name, str(number))
}


@click.command()
@click.option(
    "--status",
    type=click.Choice(list(_STATUSES), case_sensitive=False),
    help="Only tasks of this status.",
)
@click.option("--kind", shell_complete=reach.names, help="Only tasks of this kind.")
@click.option("--name", help="Only tasks of this name; or with * at its end, of its beginning.")
@click.option(
    "--limit", type=click.IntRange(1, _MOST), default=20, show_default=True, help="Tasks at most."
)
@tables.as_json
def tasks(
    *, status: str | None, kind: str | None, name: str | None, limit: int, as_json: bool
) -> None:
    """List the tasks, newest first; with --name in the order of the names, the last one first."""
    with reach.data() as pool:
        if kind is not None and answers.kind(pool, kind) is None:
            raise reach.unknown_kind(pool, kind)
        found = search.page(
            pool, limit, search.Wanted(_STATUSES[status] if status else None, kind, name)
        )
    rows = [shown.task(row) for row in found]
    if as_json:
        tables.show_json(rows)
    else:
        tables.show(_table(rows, wide=tables.console().width >= _WIDE))


@click.command()
@click.argument("task_id", metavar="ID", type=click.UUID)
@tables.as_json
def task(task_id: UUID, *, as_json: bool) -> None:
    """Show the task ID with its arguments, its attempts and its result."""
    with reach.data() as pool:
        found = known(pool, task_id)
        ended = store.attempts(pool, task_id)
    if as_json:
        tables.show_json(found)
    else:
        tables.show(facts(found), Text(), _attempts(ended))


@click.command()
@click.argument("run_id", metavar="ID", type=click.UUID)
@tables.as_json
def cancel(run_id: UUID, *, as_json: bool) -> None:
    """Stop the run ID, a task or a firing of a job, wherever it is.

    What waits never runs; what runs is told to stop. A firing that waits gives way to the next.
    """
    with reach.data() as pool:
        done = store.cancel(pool, run_id, firings=True, by=reach.who())
        row = answers.run(pool, run_id)
        if row is None:
            raise reach.Answer(f"there is no run {run_id}")
        if not done:
            raise reach.Answer(f"the run is over: {row['outcome']}")
    if as_json:
        tables.show_json(row)
    else:
        told = row["state"] == "running"
        click.echo("it runs, and was told to stop" if told else "it will not run")


@click.command()
@click.argument("task_id", metavar="[ID]", type=click.UUID, required=False)
@click.option("--kind", shell_complete=reach.names, help="With --failed: of this kind.")
@click.option("--failed", is_flag=True, help="With --kind: all its tasks that ended in an error.")
@tables.as_json
def retry(task_id: UUID | None, *, kind: str | None, failed: bool, as_json: bool) -> None:
    """Try the task ID again that ended in an error; or all of a kind: --kind NAME --failed."""
    if (task_id is None) == (kind is None) or failed != (kind is not None):
        raise click.UsageError("Give the ID of a task, or --kind NAME and --failed.")
    with reach.data() as pool:
        if kind is not None:
            _retry_all(pool, kind, as_json=as_json)
        elif task_id is not None:
            _retry(pool, task_id, as_json=as_json)


def _retry(pool: Pool, task: UUID, *, as_json: bool) -> None:
    done = store.retry(pool, task, reach.who())
    row = known(pool, task)
    if not done:
        raise reach.Answer(f"the task is {row['status_name']}, not ERROR")
    if as_json:
        tables.show_json(row)
    else:
        click.echo("it waits again")


def _retry_all(pool: Pool, kind: str, *, as_json: bool) -> None:
    """Put all back, however long it takes: it is batches of a moment each, and one action."""
    if answers.kind(pool, kind) is None:
        raise reach.unknown_kind(pool, kind)
    done = retries.retry_all(pool, kind, reach.who(), seconds=float("inf"))
    if as_json:
        tables.show_json({"retried": done.count, "more": done.more})
    else:
        tasks = "1 task waits" if done.count == 1 else f"{done.count:,} tasks wait"
        click.echo(f"{tasks} again")


def known(pool: Pool, task: UUID) -> Row:
    """Return a task as the API shows it.

    Raises:
        reach.Answer: there is none.
    """
    row = answers.task(pool, task)
    if row is None:
        raise reach.Answer(f"there is no task {task}")
    return row


def facts(row: Row) -> RenderableType:
    """Return a task as people read it."""
    keys = ("name", "kind", "outcome", "error", "why", "attempt", "failures", "worker", "priority")
    times = ("created_at", "run_at", "deadline", "started_at", "finished_at")
    return tables.facts(
        [
            ("task", row["task_id"]),
            ("status", row["status_name"]),
            *((key, row[key]) for key in keys if row[key] is not None),
            *((f"{key} (UTC)", row[key]) for key in times if row[key] is not None),
            ("progress", percent(row["progress"])),
            ("args", tables.json_text(row["args"])),
            ("result", tables.json_text(row["result"])),
        ]
    )


def _table(rows: list[Row], *, wide: bool) -> RenderableType:
    headings: list[str | Column] = [whole("TASK"), whole("STATUS"), "KIND", "NAME"]
    headings += [whole("CREATED (UTC)"), "ERROR"] if wide else []
    more = ("created_at", "error") if wide else ()
    return tables.table(
        headings,
        ([row[key] for key in ("task_id", "status_name", "kind", "name", *more)] for row in rows),
        "There is no such task.",
    )


def _attempts(rows: list[Row]) -> RenderableType:
    return tables.table(
        [whole("ATTEMPT"), whole("FINISHED (UTC)"), whole("OUTCOME"), whole("TOOK"), "ON"],
        (
            (
                row["attempt"],
                row["finished_at"],
                row["outcome"],
                lasted(row["duration_seconds"]),
                row["worker"],
            )
            for row in rows
        ),
        "No attempt has ended yet.",
    )
