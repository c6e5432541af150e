"""A pool whose server is away: a few wait for it, and nobody else is kept."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from cluster import database
from cluster.database import Pool
from tests.eventually import eventually

FEW = 4
CALLERS = 40
KNOWN_SECONDS = 2.5
"""So long one waits until the pool has given up to connect, which it tries for two."""


@contextmanager
def closed(url: str, server_url: str) -> Iterator[None]:
    """Let nobody connect to a database for the block; sessions go on."""
    name = sql.Identifier(str(conninfo_to_dict(url)["dbname"]))
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(allow.format(name, sql.Literal(False)))
        try:
            yield
        finally:
            connection.execute(allow.format(name, sql.Literal(True)))


@contextmanager
def away(url: str, server_url: str) -> Iterator[None]:
    """End the sessions of a database, and let nobody in for the block."""
    name = conninfo_to_dict(url)["dbname"]
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    with closed(url, server_url), psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(query, (name,))
        yield


def sessions(url: str, server_url: str) -> int:
    """Return how many sessions a database has."""
    name = conninfo_to_dict(url)["dbname"]
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    with psycopg.connect(server_url) as connection:
        return int(connection.execute(query, (name,)).fetchall()[0][0])


def gets_one(pool: Pool, seconds: float = 3.0) -> tuple[bool, float]:
    """Ask for a connection; say whether one was there, and how long that took."""
    begun = time.monotonic()
    try:
        with pool.connection(seconds) as connection:
            connection.execute("SELECT pg_sleep(0.01)")
        found = True
    except psycopg.OperationalError:  # a session that was ended, or none
        found = False
    return found, time.monotonic() - begun


def ask_together(pool: Pool) -> list[tuple[bool, float]]:
    with ThreadPoolExecutor(CALLERS) as callers:
        return list(callers.map(gets_one, [pool] * CALLERS))


@pytest.fixture
def brisk(url: str) -> Iterator[Pool]:
    """An open pool as HTTP has it."""
    with database.pool(url, "ronin brisk", size=4, spare=2, brisk=True) as opened:
        yield opened


def is_known_away(pool: Pool) -> bool:
    """Ask until nobody is given an ended session, and connecting was given up."""
    found, seconds = gets_one(pool, KNOWN_SECONDS)
    return not found and seconds > KNOWN_SECONDS - 0.1


def test_while_the_server_is_away_a_few_wait_and_the_others_are_told_at_once(
    url: str, server_url: str, brisk: Pool
) -> None:
    with away(url, server_url):
        eventually(lambda: is_known_away(brisk))
        answers = ask_together(brisk)
    assert not any(found for found, _ in answers)
    took = sorted(seconds for _, seconds in answers)
    assert took[-FEW - 1] < took[-FEW] / 2


def test_a_server_that_fell_silent_is_away_before_connecting_was_given_up(
    url: str, server_url: str
) -> None:
    def gets_no_answer(pool: Pool) -> bool:
        with pytest.raises(psycopg.OperationalError, match="in time"), pool.connection() as held:
            held.execute("SELECT pg_sleep(4)")
        return True

    with database.pool(
        url, "ronin brisk", size=4, spare=4, brisk=True, patience=KNOWN_SECONDS
    ) as pool:
        pool.wait()
        with closed(url, server_url), ThreadPoolExecutor(4) as callers:
            assert all(callers.map(gets_no_answer, [pool] * 4))
            took = sorted(seconds for _, seconds in ask_together(pool))
    assert took[-FEW - 1] < took[-FEW] / 2


def test_whoever_waits_gets_the_first_connection_and_then_all_do(
    url: str, server_url: str, brisk: Pool
) -> None:
    with ThreadPoolExecutor(1) as elsewhere:
        with away(url, server_url):
            eventually(lambda: is_known_away(brisk))
            waited = brisk.get_stats().get("requests_waiting", 0)
            waits = elsewhere.submit(gets_one, brisk, 30)
            eventually(lambda: brisk.get_stats().get("requests_waiting", 0) == waited + 1)
        assert waits.result()[0]
    assert all(found for found, _ in ask_together(brisk))


def test_a_pool_that_can_not_grow_refuses_nobody(url: str, server_url: str, brisk: Pool) -> None:
    """The server is there: it takes no more connections, and those that there are go round."""
    brisk.wait()
    ends_at = time.monotonic() + 2 * KNOWN_SECONDS

    def goes_on(_: int) -> bool:
        found = True
        while found and time.monotonic() < ends_at:
            found = gets_one(brisk, 30)[0]
        return found

    with closed(url, server_url), ThreadPoolExecutor(CALLERS) as callers:
        assert all(callers.map(goes_on, range(CALLERS)))
    assert brisk.get_stats()["connections_errors"] > 0


def test_after_a_restart_nobody_is_given_a_session_from_before_it(
    url: str, server_url: str
) -> None:
    with database.pool(url, "ronin restarted", size=4) as pool:
        with pool.connection(), pool.connection(), pool.connection(), pool.connection():
            pass  # four that wait in it
        with away(url, server_url):
            eventually(lambda: not sessions(url, server_url))
        assert all(gets_one(pool)[0] for _ in range(8))
