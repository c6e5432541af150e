"""Tables: what people read, at 80 columns and without a colour too; and JSON for scripts."""

import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import click
import orjson
from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from cluster.reason import span

_TENTHS_BELOW = 10
_BAD = ("failed", "crashed", "timed_out", "missed", "ERROR", "silent")
_GOOD = ("completed", "COMPLETED")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
"""The option of every command that shows something."""


def console(*, err: bool = False) -> Console:
    """Return where to print: colours only on a terminal, and never with NO_COLOR."""
    # What a task is called is nobody's markup, and no emoji either.
    return Console(stderr=err, markup=False, emoji=False, highlight=False)


def show(*parts: RenderableType) -> None:
    """Print what is for people, without the blanks that fill a table's last column."""
    screen = console()
    with screen.capture() as printed:
        screen.print(Group(*parts))
    click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))


def show_json(body: object, *, indent: bool = True) -> None:
    """Print JSON as the API would answer it: times are RFC 3339 in UTC."""
    option = orjson.OPT_UTC_Z | (orjson.OPT_INDENT_2 if indent else 0)
    click.echo(orjson.dumps(body, default=str, option=option).decode())


def json_text(value: object) -> str | None:
    """Return a value as JSON in one line; None where there is none."""
    return None if value is None else orjson.dumps(value).decode()


def table(
    columns: Sequence[str | Column], rows: Iterable[Sequence[Any]], nothing: str
) -> RenderableType:
    """Return a table without lines; or a sentence where it would have no rows.

    Args:
        columns: headings; one that is a text may be wrapped.
        rows: what stands in them; None is a dash.
        nothing: the sentence.
    """
    listed = list(rows)
    if not listed:
        return Text(nothing)
    headings = (
        each if isinstance(each, Column) else Column(each, overflow="fold") for each in columns
    )
    found = Table(*headings, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for row in listed:
        found.add_row(*(cell(value) for value in row))
    return found


def whole(heading: str, *, right: bool = False) -> Column:
    """Return a column that is never wrapped nor cut, such as one of ids."""
    return Column(heading, no_wrap=True, overflow="fold", justify="right" if right else "left")


def facts(pairs: Iterable[tuple[str, Any]]) -> RenderableType:
    """Return what each thing is called and what it is, a line each."""
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    found.add_column(style="bold", no_wrap=True)
    found.add_column(overflow="fold")
    for name, value in pairs:
        found.add_row(Text(name), cell(value))
    return found


def cell(value: Any) -> Text:
    """Return a value as people read it, and as no terminal obeys it."""
    if value is None or value == "":
        return Text("–")
    if isinstance(value, Text):
        return value
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    text = moment(value) if isinstance(value, datetime) else harmless(str(value))
    return Text(text, style="red" if text in _BAD else "green" if text in _GOOD else "")


def harmless(text: str) -> str:
    """Return a text without what a terminal would obey: names and errors come from anybody."""
    return "".join(
        "\ufffd" if unicodedata.category(letter) in ("Cc", "Cf", "Cs") else letter
        for letter in " ".join(text.split())
    )


def moment(at: datetime | None) -> str:
    """Return a moment in UTC, to the second; the heading says that it is UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "–"


def lasted(seconds: float | None) -> str:
    """Return a length of time: tenths of a second if it is short, else its two greatest units."""
    if seconds is None:
        return "–"
    if seconds < _TENTHS_BELOW:
        return f"{max(seconds, 0):.1f} s"
    return span(timedelta(seconds=seconds))


def percent(progress: float | None) -> str:
    """Return how far something is, if it tells."""
    return "–" if progress is None else f"{progress:.0%}"
