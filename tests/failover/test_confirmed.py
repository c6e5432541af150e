"""What a connection takes for done where a standby has to confirm it, and who may only read."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from cluster.database import Pool
from cluster.database import pool as pool_of
from cluster.migrate import migrate
from tests.chaos.server import Server, server
from tests.eventually import eventually
from tests.system.facts import rows

CHANGES = {
    "statement": "INSERT INTO ledger (user_id, amount, balance) VALUES (1, 7, 10007)",
    "keyed change": "CALL change_balance(1, 7, 'key', NULL, NULL)",
    "changes": "CALL change_balances(1, '{7}', NULL, NULL)",
}
CANCEL = """
    SELECT pg_cancel_backend(pid) FROM pg_stat_activity
    WHERE wait_event = 'SyncRep' AND application_name = 'ronin test'
    """


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A primary that waits for a standby which is not there."""
    with server(tmp_path_factory.mktemp("lonely") / "log") as made:
        migrate(made.url)
        rows(made.url, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        rows(made.url, "SELECT pg_reload_conf()")
        setting = "SELECT 1 FROM pg_settings WHERE setting = 'nobody'"
        eventually(lambda: rows(made.url, setting))
        yield made


@pytest.fixture
def waiting(lonely: Server) -> Iterator[Pool]:
    """Connections to it, as the product makes them."""
    with pool_of(lonely.url, "ronin test", size=1) as opened:
        yield opened


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_commit_whose_wait_is_cancelled_is_no_success(
    lonely: Server, waiting: Pool, change: str
) -> None:
    with ThreadPoolExecutor() as threads:
        outcome = threads.submit(_execute, waiting, change)
        eventually(lambda: rows(lonely.url, CANCEL))
        with pytest.raises(psycopg.OperationalError, match="no standby has confirmed"):
            outcome.result()
    with waiting.connection() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_nor_is_the_end_of_a_transaction(lonely: Server, waiting: Pool) -> None:
    with ThreadPoolExecutor() as threads:
        outcome = threads.submit(_transact, waiting, CHANGES["statement"])
        eventually(lambda: rows(lonely.url, CANCEL))
        with pytest.raises(psycopg.OperationalError, match="no standby has confirmed"):
            outcome.result()


def test_a_session_that_may_only_read_is_given_up(pool: Pool) -> None:
    with pool.connection() as connection:
        connection.execute("SET default_transaction_read_only = on")
        session = connection.info.backend_pid
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        _execute(pool, CHANGES["statement"])
    with pool.connection() as connection:
        assert connection.info.backend_pid != session
        connection.execute(CHANGES["statement"])


def _execute(pool: Pool, change: str) -> None:
    with pool.connection() as connection:
        connection.execute(change)


def _transact(pool: Pool, change: str) -> None:
    with pool.connection() as connection, connection.transaction():
        connection.execute(change)
