"""`run`: a job now, or a task; and the wait for its end."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from uuid import UUID

import click
import orjson
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from cluster import due
from cluster.arguments import ArgumentError, holds_nul
from cluster.cli import answers, reach, tables
from cluster.cli.looks import Look, looks
from cluster.database import Pool
from cluster.job import catalogue
from cluster.settings import load_or_exit
from cluster.store import tasks, views
from cluster.store.views import Row

_EVERY = 0.5
"""Seconds between two looks at a run that is waited for."""
_INTERRUPTED = 130
_LONGEST_NAME = 200
"""Characters, as the API has it."""


def _object(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> dict[str, Any] | None:
    """Read a JSON object."""
    if text is None:
        return None
    try:
        read = orjson.loads(text)
        orjson.dumps(read)
    except (ValueError, TypeError) as error:  # the latter for what is nested too deep
        raise click.BadParameter(f"no JSON: {error}") from error
    if not isinstance(read, dict):
        raise click.BadParameter('no JSON object, such as {"text": "to be"}')
    return read


@click.command()
@click.argument("name", shell_complete=reach.names)
@click.option("--args", metavar="JSON", callback=_object, help="Of a task: a JSON object.")
@click.option("--name", "called", help="What the task is called, for people; else as its kind.")
@click.option("--priority", type=click.IntRange(-100, 100), help="Of a task; higher first.")
@click.option("--wait", is_flag=True, help="Wait for its end; Ctrl-C only stops the waiting.")
@tables.as_json
def run(
    name: str,
    *,
    args: dict[str, Any] | None,
    called: str | None,
    priority: int | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Run the job NAME now, in place of its next firing; or a task of the kind NAME.

    With --wait the exit status is 1 unless it completes.
    """
    if called is not None and not 1 <= len(called) <= _LONGEST_NAME:
        raise click.UsageError(f"--name has 1 to {_LONGEST_NAME} characters.")
    given = {"args": args, "name": called, "priority": priority}
    task = {key: value for key, value in given.items() if value is not None}
    url = reach.url(load_or_exit())
    with reach.opened(url) as pool:
        is_kind = answers.kind(pool, name) is not None
        made = _ask(pool, name, task) if is_kind else _run_now(pool, name, task)
    if wait:
        _follow(url, made, answers.task if is_kind else answers.run, as_json=as_json)
    elif as_json:
        tables.show_json({"task_id": made} if is_kind else {"run_id": made, "job": name})
    else:
        click.echo(made)


def _run_now(pool: Pool, name: str, task: Row) -> UUID:
    """Make a job due."""
    found = views.jobs(pool, name)
    if not found:
        raise reach.unknown(pool, name)
    if task:
        raise click.UsageError(f"{name} is a job; --{next(iter(task))} is for tasks.")
    try:
        return due.now(pool, found[0], reach.who())
    except due.NotNowError as error:
        raise reach.Answer(str(error)) from error


def _ask(pool: Pool, kind: str, task: Row) -> UUID:
    """Enqueue a task."""
    task = {"kind": kind, "name": kind, "args": {}, **task}
    _check(kind, orjson.dumps(task["args"]).decode())
    (made,) = tasks.enqueue_many(pool, [task], reach.who())
    return made.id


def _check(kind: str, args: str) -> None:
    """Check the arguments of a task, if its function is known here; else it is when it starts."""
    reach.own_modules()
    try:
        catalogue.load(load_or_exit().jobs)
        reason = f"RONIN_JOBS knows no {kind} here"
    except Exception as error:  # noqa: BLE001 - whatever a module does at its import
        reason = reach.one_line(error)
    job = catalogue.get(kind)
    if job is None or job.schedule is not None:
        click.echo(f"ronin: the arguments are checked when it starts: {reason}", err=True)
        return
    try:
        job.arguments.read(args)
    except ArgumentError as error:
        raise reach.Answer(f"{kind} does not take these arguments: {error}") from error
    if holds_nul(args):
        raise reach.Answer("the arguments hold a NUL character, which PostgreSQL can't keep")


def _follow(
    url: str, run: UUID, find: Callable[[Pool, UUID], Row | None], *, as_json: bool
) -> None:
    """Wait for the end of a run, and end this process as it ended."""
    try:
        row = _await(url, run, find)
    except KeyboardInterrupt:
        click.echo(f"ronin: no longer waiting; {run} goes on", err=True)
        sys.exit(_INTERRUPTED)
    if as_json:
        tables.show_json(row)
    else:
        error = "" if row["error"] is None else f": {tables.harmless(row['error'])}"
        click.echo(f"{run} {row['outcome']}{error}")
        if result := tables.json_text(row.get("result")):
            click.echo(tables.harmless(result))
    sys.exit(row["outcome"] != "completed")


def _await(url: str, run: UUID, find: Callable[[Pool, UUID], Row | None]) -> Row:
    """Return a run once it is over, and say meanwhile how it stands."""
    screen = tables.console(err=True)
    progress = Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        BarColumn(bar_width=10),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=screen,
        transient=True,
        expand=True,
    )
    bar = progress.add_task("", total=None)
    said = ""
    with progress if screen.is_terminal else nullcontext():
        for look in looks(url, lambda pool: find(pool, run), _EVERY):
            row = look.seen
            if look.away is None and row is None:
                raise reach.Answer(f"there is no run {run} any more")
            if look.away is None and row is not None and row["finished_at"]:
                return row
            words, detail = _standing(look)
            if not screen.is_terminal and words != said:
                click.echo(f"ronin: {words}{detail}", err=True)
                said = words
            done = row["progress"] if row else None
            total = None if done is None else 1.0
            progress.update(bar, description=words + detail, completed=done or 0, total=total)
    raise AssertionError  # the looks have no end


def _standing(look: Look[Row | None]) -> tuple[str, str]:
    """Return how a run stands, and what only the time moves."""
    row = look.seen
    if look.away is not None or row is None:
        return tables.harmless(look.complaint), ""
    if row.get("state") == "running" or row.get("status") == tasks.PROCESSING:
        return f"runs on {tables.harmless(row['worker'])}, attempt {row['attempt']}", ""
    return f"waits, {row['attempt']} attempts so far", f": {row['why']}" if row["why"] else ""
