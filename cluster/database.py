"""Connections: how this product talks to PostgreSQL, and its pools."""

import math
import re
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import BoundedSemaphore
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

Pool = ConnectionPool[Connection[TupleRow]]

_PORT = re.compile(r"[0-9]{0,5}")


class DatabaseUrlError(ValueError):
    """A database URL can't be read."""


PARAMETERS: dict[str, Any] = {
    "connect_timeout": "3",
    "target_session_attrs": "read-write",
    # A peer that vanished without a word is noticed within these, not after minutes.
    "tcp_user_timeout": "6000",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}
"""Defaults of a connection (libpq's names); what DATABASE_URL says itself wins."""

_SESSION = {
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
    "timezone": "UTC",
    "search_path": "public",
    "jit": "off",  # compiling a claim takes 600 ms, doing it half a millisecond
}

ONE_PLAN = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""Session settings for the engine: its statements are written for index probes in nested loops.
Planned once (a claim takes 0.4 ms in place of 1.3), and the same whatever the statistics of a
queue say, which is empty one minute and holds a million rows the next."""

_WAIT_FOR_STANDBY = "SyncRepWaitForLSN"
"""The function of PostgreSQL that says so when a commit's wait for a standby was cancelled."""


_PATIENCE = 5.0
"""Seconds that `probe` waits for its answer."""

_RECONNECT = 2.0
"""Seconds for which a pool tries to connect; then it gives up until somebody asks again."""

_FEW = 4
"""Callers that wait for a server that is away: a quarter of the threads of HTTP."""


class Impatient(Connection[TupleRow]):
    """A connection that waits for an answer for a limited time, then gives itself up.

    The server's `statement_timeout` can't tell us anything when the server, or a pooler between
    us, is silent; nor does TCP notice, as long as somebody acknowledges what we send.

    Nor does it take a commit for safe that a standby should have confirmed, and whose wait
    somebody has cancelled (`pg_cancel_backend`): PostgreSQL reports success, and a warning.

    Attributes:
        patience: seconds; None waits for ever.
        silent: whether it has given itself up.
    """

    patience: float | None = None
    silent = False
    _unconfirmed = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_notice_handler(self._heed)

    def _heed(self, notice: psycopg.errors.Diagnostic) -> None:
        # It has no SQLSTATE of its own, and its text is in the server's language.
        self._unconfirmed = self._unconfirmed or notice.source_function == _WAIT_FOR_STANDBY

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait as psycopg does.

        Raises:
            psycopg.OperationalError: no answer came in time, or the standby's word did not;
                nobody knows what was done, or will last.
        """
        try:
            answer = super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 - it has no public name
            self.silent = True
            self.close()
            raise psycopg.OperationalError("the database did not answer in time") from error
        except psycopg.errors.ReadOnlySqlTransaction:
            # Behind a pooler a session outlives the server's being the primary; a new one does not
            # begin at a server that only reads.
            self.close()
            raise
        if self._unconfirmed:
            self._unconfirmed = False
            raise psycopg.OperationalError("no standby has confirmed the change")
        return answer


class Away(PoolTimeout):
    """The server is known to be away, and enough wait for it."""


def _ended(connection: Connection[Any]) -> bool:
    """Whether the server has ended a session while nobody used it; without a round trip.

    An idle session is silent, but for a notice; one that was ended has got a last word, or none.
    """
    poll = select.poll()
    try:
        poll.register(connection.fileno(), select.POLLIN)
        while poll.poll(0):
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return False


class Fresh(Pool):
    """A pool that gives nobody a session which the server has ended: what a restart has left."""

    def getconn(self, timeout: float | None = None) -> Connection[TupleRow]:
        """Return a connection as the pool does; those that were ended are replaced meanwhile.

        Not by the pool's own `check`, which waits for a second after each that was ended.

        Raises:
            PoolTimeout: none was there in time.
        """
        until = time.monotonic() + (self.timeout if timeout is None else timeout)
        while _ended(connection := super().getconn(max(until - time.monotonic(), 0.0))):
            self.putconn(connection)
        return connection


class Brisk(Fresh):
    """A pool in which only a few wait for a server that is known to be away.

    At first everybody waits, so an outage of a second costs nobody an answer. Once connecting was
    given up, or a connection has given itself up, and nobody got one for `_RECONNECT` seconds, all
    but a few are told at once: by waiting they would hold the threads that others need, who want
    nothing of the database.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._away = False
        self._served_at = -math.inf  # monotonic
        self._few = BoundedSemaphore(_FEW)
        super().__init__(*args, **kwargs)

    def reconnect_failed(self) -> None:
        """Take note that connecting was tried for `_RECONNECT` seconds, in vain."""
        self._suspect()
        super().reconnect_failed()

    def putconn(self, conn: Connection[TupleRow]) -> None:
        """Take a connection back, and note whether the server fell silent on it."""
        if isinstance(conn, Impatient) and conn.silent:
            self._suspect()
        super().putconn(conn)

    def getconn(self, timeout: float | None = None) -> Connection[TupleRow]:
        """Return a connection as the pool does; each who asks has connecting tried anew.

        Raises:
            PoolTimeout: none was there in time.
            Away: at once, nobody having been asked for one.
        """
        if not self._away:
            return self._served(timeout)
        if not self._few.acquire(blocking=False):
            raise Away("the server is away, and enough are waiting for it")
        try:
            return self._served(timeout)
        finally:
            self._few.release()

    def _served(self, timeout: float | None) -> Connection[TupleRow]:
        connection = super().getconn(timeout)
        self._served_at = time.monotonic()
        self._away = False
        return connection

    def _suspect(self) -> None:
        # A server that takes no more connections serves those that it has.
        if time.monotonic() > self._served_at + _RECONNECT:
            self._away = True


def conninfo(url: str, name: str, **session: str) -> str:
    """Return the libpq connection string for a URL with our timeouts and session settings.

    Args:
        url: any libpq URL or key=value string.
        name: application_name, for pg_stat_activity.
        **session: server settings that differ from ours, such as `statement_timeout="0"`.

    Raises:
        DatabaseUrlError: the URL can't be read.
    """
    try:
        given = conninfo_to_dict(url)
    except (psycopg.ProgrammingError, UnicodeError) as error:
        # libpq's message may quote the part with the password. What stands in the environment
        # need not be UTF-8.
        raise DatabaseUrlError(
            "not a libpq URL such as postgresql://user:password@host:5432/name"
        ) from error
    # Of several hosts each may have a port, or the usual one: h1,h2:5433.
    if not all(map(_PORT.fullmatch, str(given.get("port") or "").split(","))):
        raise DatabaseUrlError("its port is no number")
    settings = " ".join(f"-c {key}={value}" for key, value in {**_SESSION, **session}.items())
    options = f"{settings} {given.get('options') or ''}".strip()
    return make_conninfo(**{"application_name": name, **PARAMETERS, **given, "options": options})


@dataclass(frozen=True, slots=True)
class Found:
    """What a URL leads to.

    Attributes:
        version: of PostgreSQL, as it says it.
        pooler: whether sessions are a pooler's, lent to us for a transaction perhaps.
        differ: session settings that are not as we ask for them, with what they are.
        connections: those that the server takes of us and everybody else.
    """

    version: str
    pooler: bool
    differ: dict[str, str]
    connections: int


def probe(url: str) -> Found:
    """Connect once, and say what is there.

    Raises:
        psycopg.Error: it can't be reached, or does not answer.
        DatabaseUrlError: the URL can't be read.
    """
    query = """
        SELECT current_setting('server_version'), current_setting('max_connections')::integer
            - current_setting('superuser_reserved_connections')::integer
            - coalesce(current_setting('reserved_connections', true)::integer, 0),
            ARRAY (SELECT current_setting(name) FROM unnest(%s::text[]) AS name)
        """
    wanted = {**_SESSION, **ONE_PLAN}
    with Impatient.connect(conninfo(url, "ronin start", **ONE_PLAN), autocommit=True) as connection:
        connection.patience = _PATIENCE
        version, connections, settings = connection.execute(query, (list(wanted),)).fetchall()[0]
        found = dict(zip(wanted, settings, strict=True))
        differ = {name: value for name, value in found.items() if value != wanted[name]}
        return Found(version, _is_lent(connection), differ, connections)


def refuses_settings(error: psycopg.OperationalError) -> bool:
    """Whether a connection failed because a pooler takes no session settings."""
    return "unsupported startup parameter" in str(error)


def _is_lent(connection: Connection[Any]) -> bool:
    """Whether a pooler lends us sessions: the process at work is not the one we were told of."""
    told = connection.info.backend_pid
    query = "SELECT pg_backend_pid() <> %s::bigint"
    return bool(connection.execute(query, (told,)).fetchall()[0][0])


def _settle_for_less(connection: Connection[Any]) -> None:
    """Depend on nothing that a session would keep: the next transaction may be in another one."""
    connection.prepare_threshold = None
    if connection.info.parameter_status("TimeZone") != _SESSION["timezone"]:
        connection.execute("SET timezone TO 'UTC'")  # the one setting of ours that PgBouncer keeps


def pool(
    url: str,
    name: str,
    size: int,
    *,
    spare: int = 0,
    timeout: float = 3.0,
    brisk: bool = False,
    patience: float | None = None,
    session: Mapping[str, str] = MappingProxyType({}),
) -> Pool:
    """Return a closed pool of autocommit connections; open it after the fork, never before.

    Args:
        url: libpq URL.
        name: application_name of its connections.
        size: connections at most.
        spare: connections kept open when idle.
        timeout: seconds a caller waits for a connection before `PoolTimeout`.
        brisk: whether only a few callers wait while the server is known to be away.
        patience: seconds that each statement waits for its answer; None for ever.
        session: server settings that differ from ours.
    """

    def configure(connection: Connection[Any]) -> None:
        if isinstance(connection, Impatient):
            connection.patience = patience
        if _is_lent(connection):
            _settle_for_less(connection)

    return (Brisk if brisk else Fresh)(
        conninfo(url, name, **session),
        connection_class=Impatient,
        configure=configure,
        min_size=spare,
        max_size=size,
        timeout=timeout,
        reconnect_timeout=_RECONNECT,
        kwargs={"autocommit": True},
        name=name,
        open=False,
    )
