"""What a 503 says of a change: nothing that it does not know."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from cluster.database import Pool
from tests.integration.builders import TaskWeb, Web, asked, value


class Leaky:
    """A pool that lends a few connections, and then none in time."""

    def __init__(self, pool: Pool, lends: int, error: Exception) -> None:
        self._pool = pool
        self._lends = lends
        self._error = error
        self.timeout = pool.timeout

    @contextmanager
    def connection(self, _timeout: float = 3.0) -> Iterator[psycopg.Connection[Any]]:
        """Lend one, or fail."""
        if not self._lends:
            raise self._error
        self._lends -= 1
        with self._pool.connection() as connection:
            yield connection


def leaky(pool: Pool, lends: int, error: Exception | None = None) -> Pool:
    """Return a pool that lends so many connections."""
    return cast(Pool, Leaky(pool, lends, error or PoolTimeout("none in time")))


def test_what_was_changed_is_not_said_to_be_untouched(pool: Pool) -> None:
    """The task is cancelled; what is missing is a connection to show it."""
    TaskWeb(pool)  # declares the kind
    (task,) = asked(pool)
    answer = Web(leaky(pool, 1)).ask("DELETE", f"/tasks/{task}")
    assert (answer.status, answer.problem) == (503, "database-unavailable")
    assert "Nothing was changed" not in answer.body["detail"]
    assert value(pool, "SELECT count(*) FROM run WHERE id = %s", task) == 0


def test_a_change_that_got_no_connection_is_untouched(pool: Pool) -> None:
    answer = Web(leaky(pool, 0)).change(-5)
    assert (answer.status, answer.problem) == (503, "database-unavailable")
    assert "Nothing was changed" in answer.body["detail"]
    assert value(pool, "SELECT balance FROM users WHERE id = 1") == 10_000


@pytest.mark.parametrize(
    ("key", "said"), [("k", "with the same Idempotency-Key"), (None, "nobody knows")]
)
def test_an_answer_that_was_lost_leaves_a_change_open(
    pool: Pool, key: str | None, said: str
) -> None:
    lost = psycopg.OperationalError("the connection is lost")
    answer = Web(leaky(pool, 0, lost)).change(-5, key=key)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert said in answer.body["detail"]
