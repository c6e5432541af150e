"""A database for tests that leave it as it was."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from cluster import database
from cluster.database import Pool
from cluster.store import jobs
from tests.integration.builders import Web, a_job


@pytest.fixture(scope="module")
def shared(server_url: str, template: str) -> Iterator[Pool]:
    """An open pool on a database with one job; a module's tests share it and change nothing."""
    name = sql.Identifier(f"ronin_{uuid4().hex}")
    with psycopg.connect(server_url, autocommit=True) as connection:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(create.format(name, sql.Identifier(template)))
        url = make_conninfo(server_url, dbname=name.as_string().strip('"'))
        with database.pool(url, "ronin shared", size=8) as opened:
            jobs.declare(opened, [a_job()])
            yield opened
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def web(shared: Pool) -> Web:
    """Return the application over a database with one job, for what changes nothing."""
    return Web(shared)
