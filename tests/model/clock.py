"""A database whose clock the test moves, under the engine's own SQL, unchanged.

PostgreSQL looks unqualified functions up along `search_path`, in which `pg_catalog` may be named
after another schema. So `now()` and its like are found in `public` first, where they read settings
of the session.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString, cast

import psycopg
from psycopg.conninfo import make_conninfo

from cluster import database
from cluster.database import Pool
from cluster.migrate import migrate

_PATH = "public,pg_catalog"

_FAKED: LiteralString = """
    CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql STABLE
        AS $$ SELECT pg_catalog.current_setting('faked.now')::timestamptz $$;
    CREATE FUNCTION transaction_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
        AS $$ SELECT pg_catalog.current_setting('faked.now')::timestamptz $$;
    CREATE FUNCTION statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
        AS $$ SELECT pg_catalog.current_setting('faked.now')::timestamptz $$;
    CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
        AS $$ SELECT pg_catalog.current_setting('faked.now')::timestamptz $$;
    CREATE FUNCTION pg_postmaster_start_time() RETURNS timestamptz LANGUAGE sql STABLE
        AS $$ SELECT pg_catalog.current_setting('faked.started')::timestamptz $$;
    -- Not random, so that an example that hypothesis plays again is the same one.
    CREATE SEQUENCE faked_uuid;
    CREATE FUNCTION gen_random_uuid() RETURNS uuid LANGUAGE sql VOLATILE
        AS $$ SELECT pg_catalog.md5('uuid ' || pg_catalog.nextval('public.faked_uuid'))::uuid $$;
    """


def prepare(url: str, moment: datetime) -> None:
    """Give an empty database the faked clock, then the schema, which is bound to it so."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_FAKED)
    migrate(make_conninfo(url, options=f"-c search_path={_PATH} {_settings(moment, moment)}"))


def _settings(now: datetime, started: datetime) -> str:
    return " ".join(
        f"-c faked.{name}={moment.isoformat()}"
        for name, moment in (("now", now), ("started", started))
    )


class Session:
    """A connection at a moment, which the store takes for a pool."""

    def __init__(self, url: str) -> None:
        path = {**database.ONE_PLAN, "search_path": _PATH, "synchronous_commit": "off"}
        text = database.conninfo(url, "ronin model", **path)
        self.raw: psycopg.Connection[Any] = psycopg.connect(text, autocommit=True)
        self._at: tuple[datetime, datetime] | None = None

    def at(self, now: datetime, started: datetime) -> Pool:
        """Move to a moment; return what the store takes."""
        if self._at != (now, started):
            self.raw.execute(
                "SELECT set_config('faked.now', %s, false), set_config('faked.started', %s, false)",
                (now.isoformat(), started.isoformat()),
            )
            self._at = (now, started)
        return cast(Pool, self)

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend the connection."""
        yield self.raw

    def close(self) -> None:
        """Close the connection."""
        self.raw.close()
