"""What all tests share: a PostgreSQL server, and a migrated database of its own for each test."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from cluster import database, embedded, log
from cluster.database import Pool
from cluster.migrate import migrate

# A busy machine is no reason to fail.
settings.register_profile("ronin", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("ronin"), max_examples=10_000)
settings.load_profile("ronin")


@pytest.fixture(scope="session", autouse=True)
def _logging() -> None:
    log.configure("text")


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The server that DATABASE_URL names, else an embedded one for all processes of this run."""
    if url := os.environ.get("DATABASE_URL"):
        return url
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    return embedded.start(Path(base) / "server")


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """The name of a migrated database that this test process copies."""
    with _created(server_url, "template1") as name:
        migrate(make_conninfo(server_url, dbname=name))
        yield name


@pytest.fixture
def empty_url(server_url: str) -> Iterator[str]:
    """The URL of a database that nobody has migrated."""
    with _created(server_url, "template1") as name:
        yield make_conninfo(server_url, dbname=name)


@pytest.fixture
def url(server_url: str, template: str) -> Iterator[str]:
    """The URL of this test's own migrated database."""
    with _created(server_url, template) as name:
        yield make_conninfo(server_url, dbname=name)


@pytest.fixture(scope="module")
def module_url(server_url: str, template: str) -> Iterator[str]:
    """The URL of a migrated database that the tests of a module share."""
    with _created(server_url, template) as name:
        yield make_conninfo(server_url, dbname=name)


@pytest.fixture
def pool(url: str) -> Iterator[Pool]:
    """An open pool on this test's own database."""
    with database.pool(url, "ronin test", size=8) as opened:
        yield opened


class _created:  # noqa: N801 - used as a function
    """Create a database and drop it at the end, whoever is still connected."""

    def __init__(self, server_url: str, template: str) -> None:
        self._server_url = server_url
        self._template = template
        self._name = f"ronin_{uuid4().hex}"

    def __enter__(self) -> str:
        self._execute("CREATE DATABASE {} TEMPLATE {}", self._name, self._template)
        return self._name

    def __exit__(self, *_: object) -> None:
        self._execute("DROP DATABASE {} WITH (FORCE)", self._name)

    def _execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(self._server_url, autocommit=True) as connection:
            query = sql.SQL(statement).format(*map(sql.Identifier, names))
            connection.execute(query)
