"""`config`: every setting, its value, and where it comes from; secrets stay secret."""

import sys
from collections.abc import Iterator
from typing import Any

import click
from psycopg.conninfo import conninfo_to_dict

from cluster import boot, database
from cluster.cli import reach, tables
from cluster.cli.tables import whole
from cluster.settings import Settings, SettingsError, load
from cluster.store.views import Row

_HIDDEN = "(hidden)"
_SECRET = ("password", "sslpassword")


@click.group()
def config() -> None:
    """Show and check the settings."""


@config.command()
@tables.as_json
def check(*, as_json: bool) -> None:
    """Print every setting with its value and where it comes from.

    Exit status 1, with one line, if one makes no sense, if anybody could come in, or if the jobs
    can't be loaded.
    """
    try:
        loaded = load()
        _check(loaded)
    except SettingsError as error:
        raise reach.Answer(str(error)) from error
    except database.DatabaseUrlError as error:
        raise reach.Answer(f"DATABASE_URL: {error}") from error
    rows = list(_settings(loaded))
    if as_json:
        tables.show_json(rows)
        return
    found = ((row["name"], row["value"], row["source"]) for row in rows)
    tables.show(tables.table([whole("SETTING"), "VALUE", whole("FROM")], found, ""))


def _check(loaded: Settings) -> None:
    """Check what each start of the cluster does before it touches anything, but for the port."""
    if loaded.database_url is not None:
        database.conninfo(loaded.database_url, "ronin")
    boot.check_doors(loaded, [loaded.bind])
    reach.own_modules()
    try:
        boot.check_jobs(loaded)
    except SystemExit:  # with gunicorn's status, after its line
        sys.exit(1)


def _settings(loaded: Settings) -> Iterator[Row]:
    for field, about in type(loaded).model_fields.items():
        given = field in loaded.model_fields_set
        yield {
            "name": str(about.validation_alias),
            "value": _shown(field, getattr(loaded, field)),
            "source": "environment" if given else "default",
        }


def _shown(field: str, value: Any) -> str | None:
    """Return a value as anybody may read it."""
    if value is None or value == ():
        return None
    if field in ("token", "read_token"):
        return _HIDDEN
    if field == "tokens":
        return ", ".join(f"{each.name}:{each.role}:{_HIDDEN}" for each in value)
    if field == "database_url":
        return _address(value)
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _address(url: str) -> str:
    """Return where a URL leads, without what opens it."""
    parts = conninfo_to_dict(url)
    return " ".join(f"{key}={_HIDDEN if key in _SECRET else value}" for key, value in parts.items())
