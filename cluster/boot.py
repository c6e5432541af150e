"""Boot: puts the parts of a process together; what gunicorn's configuration calls."""

import ctypes
import errno
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from ipaddress import ip_address
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psycopg

from cluster import database, embedded, log, migrate, process, tracing
from cluster.apart import perform_apart
from cluster.job import JobError, catalogue
from cluster.nudge import leaving, nudge
from cluster.runner import Attempt, Attend, Runner
from cluster.scribe import Scribe
from cluster.settings import Settings, load
from cluster.store.guard import TokenGuard
from cluster.worker import PATIENCE, Worker

_ENGINE_CONNECTIONS = 1
_JOB_CONNECTIONS = 4
CONNECTIONS = 8 + _ENGINE_CONNECTIONS + _JOB_CONNECTIONS
"""Connections of a worker at most: those of HTTP (webapp/app.py), the engine, and its jobs."""
_OF_IMPORTING = re.compile(r"<frozen importlib|/importlib/__init__\.py$|/cluster/(boot|job)\.py$")
"""Files through which a module is imported: no part of what is wrong with it."""
_APP_LOAD_ERROR = 4
"""gunicorn's exit status of a worker that can't load: the master halts, and does not respawn."""
_RESERVE_SECONDS = 3.0
"""How long before the master would kill a worker that worker ends by itself."""
_LAST_LINES_SECONDS = 1.0
"""Of that reserve, at most, for what its runs have said at the very end."""
_LONGEST_PATIENCE = 6.0
"""Seconds; the server itself ends a statement after five."""
_WAIT = 0.1
"""Part of the lease that the engine waits for a connection, while the pool goes on connecting. A
turn that begins just before 0.6 of the lease are over has then failed before all of it is, so that
its runs are told in time."""
_LONGEST_WAIT = 3.0
_M_ARENA_MAX = -8
"""glibc's name for how many arenas its allocator has (malloc.h)."""
_ARENAS = 2
"""Else it makes up to eight for each processor, and each thread of a worker leaves its holes in
another one."""


def _share_arenas() -> None:
    """Let all threads of the workers that will be forked allocate from the same few arenas."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def prepare(
    settings: Settings, *, replaces_master: bool, addresses: Sequence[tuple[str, int]]
) -> None:
    """Before the first fork: make the database ready, wait for it, migrate it.

    Args:
        settings: of this instance.
        replaces_master: a new master of the same service (USR2) has its socket already.
        addresses: hosts and ports where it will listen, whoever has said so.
    """
    _share_arenas()
    tracing.check()
    if not replaces_master:
        _check_ports(addresses)
    check_doors(settings, [host for host, _ in addresses])
    check_jobs(settings)
    try:
        url = database_url(settings)
        _check_pooler(url)
        migrate.migrate(url)
        _tell_of_database(url, settings)
    except embedded.EmbeddedPostgresError as error:
        raise SystemExit(f"ronin: {error}") from None
    except database.DatabaseUrlError as error:
        raise SystemExit(f"ronin: DATABASE_URL: {error}") from None
    except psycopg.Error as error:
        raise SystemExit(f"ronin: the migration failed: {error}") from error


def _check_pooler(url: str) -> None:
    """Find out that a pooler will never let us in; whatever else is wrong may pass.

    Raises:
        SystemExit: it will not; its text says what to change.
    """
    try:
        database.probe(url)
    except psycopg.OperationalError as error:
        if database.refuses_settings(error):
            raise SystemExit(
                "ronin: DATABASE_URL leads to a pooler that refuses session settings: for"
                " PgBouncer set ignore_startup_parameters = options (docs/operations.md)"
            ) from None
    except psycopg.Error:
        pass  # who migrates says so


def _tell_of_database(url: str, settings: Settings) -> None:
    """Log what the database is, and what about it does not suit us."""
    said = log.get("boot")
    try:
        found = database.probe(url)
    except psycopg.Error:
        return  # it was there a moment ago, and the workers wait for it
    said.info("database", version=found.version, pooler=found.pooler)
    if found.pooler:
        said.warning("a pooler lends us sessions, so nothing is prepared", settings=found.differ)
    elif (wanted := settings.workers * CONNECTIONS) > found.connections:
        said.warning("the server takes too few connections", wanted=wanted, has=found.connections)


def refuse_bad_reloads(arbiter: Any) -> None:
    """Let HUP through only when the new code loads: if not, the old workers simply go on.

    gunicorn would replace the workers first, and then end the whole service. None of its hooks
    can refuse: `on_reload` is called when the old configuration is gone.

    Raises:
        SystemExit: the application was loaded before the fork. No reload would load it anew, and
            its sessions would be those of all workers: they got each other's answers.
    """
    if arbiter.cfg.preload_app:
        raise SystemExit("ronin: preload_app (--preload) can't be: workers would share sessions")
    reload = arbiter.handle_hup

    def handle_hup() -> None:
        if _loads(arbiter):
            reload()

    arbiter.handle_hup = handle_hup


def _loads(arbiter: Any) -> bool:
    """Try, in a fork of the master, to load all that a new worker would load; log what is wrong."""
    trial = get_context("fork").Process(target=_try, args=(arbiter,))
    trial.start()
    trial.join()
    if trial.exitcode and trial.exitcode < 0:
        _refuse(f"loading the new code ended by {signal.Signals(-trial.exitcode).name}")
    return trial.exitcode == 0


def _try(arbiter: Any) -> None:
    """Load as a new worker will. Never returns, so that no thread of the new code is waited for."""
    # Neither a module that hangs nor the death of the master makes this process stay.
    signal.alarm(int(arbiter.timeout) or 60)
    try:
        arbiter.app.reload()
        assert arbiter.app.cfg.worker_class  # noqa: S101 - imports it
        arbiter.app.wsgi()
        catalogue.load(load().jobs)
    except BaseException as error:  # noqa: BLE001 - SystemExit as well: the configuration's word
        _refuse(_reason(error))
        os._exit(1)
    os._exit(0)


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit) and not isinstance(error.code, str):
        return "gunicorn can't read its configuration"
    if isinstance(error, JobError | SystemExit):
        return str(error)
    return " ".join("".join(traceback.format_exception_only(error)).split())


def _refuse(reason: str) -> None:
    log.get("boot").error("reload refused, the workers go on as they are", reason=reason)


def seconds_left(gunicorn_worker: Any) -> float:
    """Return how long a worker that has been told to end may wait for its runs.

    The master kills it `graceful_timeout` after that, of which its last requests have used a
    part; or, on a reload, when it has not been heard of for `timeout`. It is not heard of while
    it waits here.
    """
    told, silent = gunicorn_worker.cfg.graceful_timeout, gunicorn_worker.cfg.timeout
    left = [told - _reserve(told) - (time.monotonic() - gunicorn_worker.told_at)]
    if silent:
        left.append(silent - _reserve(silent))
    return float(max(min(left), 0.0))


def _reserve(seconds: float) -> float:
    return float(min(_RESERVE_SECONDS, seconds / 2))


def database_url(settings: Settings) -> str:
    """Return the URL of the operator's database, or of the embedded one, started if need be.

    Raises:
        embedded.EmbeddedPostgresError: there is none and none can be started.
    """
    return settings.database_url or _embedded(settings.data.absolute())


@cache
def _embedded(data: Path) -> str:
    # Once in the master: the workers inherit the answer with the fork, and the server's lock.
    url = embedded.start(data)
    log.get("boot").info("embedded PostgreSQL", data=str(data))
    return url


@dataclass(frozen=True, slots=True)
class JobSide:
    """The job side of a process: the worker, and the scribe of what its runs say."""

    worker: Worker
    scribe: Scribe

    def start(self) -> None:
        """Start both."""
        self.scribe.start()
        self.worker.start()

    def stop(self, within: float) -> None:
        """Wait for the runs for so many seconds at most, then for what they have said."""
        self.worker.stop(within)
        self.scribe.stop(_LAST_LINES_SECONDS)


def job_side(settings: Settings, gunicorn_worker: Any) -> JobSide:
    """After the fork: load the jobs, and return what shares them, not yet started."""
    _load_jobs(settings)
    url = database_url(settings)
    identity = process.identity()
    name = f"{settings.instance}:{identity.pid}"
    engine = database.pool(
        url,
        "ronin engine",
        size=_ENGINE_CONNECTIONS,
        spare=_ENGINE_CONNECTIONS,
        timeout=min(settings.lease_seconds * _WAIT, _LONGEST_WAIT),
        patience=min(settings.lease_seconds * PATIENCE, _LONGEST_PATIENCE),
        session=database.ONE_PLAN,
    )
    # Apart from the engine's, so that no job's queries can hold up a heartbeat.
    lent = database.pool(url, "ronin jobs", size=_JOB_CONNECTIONS)
    engine.open()
    lent.open()
    scribe = Scribe(lent)
    master = os.getppid()

    def alive() -> bool:
        # A worker whose master was killed goes on serving until it notices; it claims no more.
        if not (gunicorn_worker.alive and os.getppid() == master):
            leaving.set()
        return not leaving.is_set()

    worker = Worker(
        name=name,
        process=identity,
        catalogue=catalogue,
        pool=engine,
        runner=Runner(
            slots=settings.max_concurrency,
            connect=lent.connection,
            apart=partial(perform_apart, url=url),
            wake=nudge.set,
            guard=TokenGuard(catalogue),
            attend=partial(_traced, scribe.attend, lent.connection)
            if tracing.configured()
            else scribe.attend,
        ),
        lease_seconds=settings.lease_seconds,
        retention_days=settings.retention_days,
        alive=alive,
        nudge=nudge,
        copies=gunicorn_worker.cfg.workers,
    )
    return JobSide(worker, scribe)


@contextmanager
def _traced(attend: Attend, connect: tracing.Connect, attempt: Attempt) -> Iterator[None]:
    """Attend an attempt, and make a span of it."""
    with attend(attempt), tracing.run(attempt.claim, connect) as ended:
        yield
        ended(attempt.outcome or "interrupted")


def check_jobs(settings: Settings) -> None:
    """Find out that the jobs can't be loaded before five workers do.

    In a process of its own: what the master has imported, a reload (HUP) would not import anew.

    Raises:
        SystemExit: they can't; why stands on standard error by then.
    """
    trial = get_context("fork").Process(target=_load_jobs, args=(settings,))
    trial.start()
    trial.join()
    if trial.exitcode:
        raise SystemExit(_APP_LOAD_ERROR)


def _load_jobs(settings: Settings) -> None:
    try:
        catalogue.load(settings.jobs)
    except JobError as error:
        sys.stderr.write(f"ronin: {error}\n")
        sys.exit(_APP_LOAD_ERROR)
    except Exception as error:  # noqa: BLE001 - whatever the modules do when they are imported
        where = traceback.TracebackException.from_exception(error)
        theirs = [each for each in where.stack if not _OF_IMPORTING.search(each.filename)]
        where.stack = traceback.StackSummary.from_list(theirs)
        told = "".join(where.format())
        sys.stderr.write(f"{told}ronin: a module that RONIN_JOBS names can't be loaded\n")
        sys.exit(_APP_LOAD_ERROR)


def check_doors(settings: Settings, hosts: Iterable[str]) -> None:
    """Refuse to be open to a network that somebody else may be in.

    Raises:
        SystemExit: it would be, and nobody has a token; its text says so.
    """
    for host in hosts:
        if not settings.doors and not _loopback(host):
            raise SystemExit(
                f"ronin: BIND={host} lets others in: set RONIN_TOKEN, and RONIN_READ_TOKEN for"
                " viewers (docs/access.md), or BIND=127.0.0.1"
            )


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_ports(addresses: Iterable[tuple[str, int]]) -> None:
    """Find out that a port is taken before anything is touched."""
    for host, port in addresses:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                reason = (
                    "it is taken; is Ronin running already? Set PORT to start another instance"
                    if error.errno == errno.EADDRINUSE
                    else error.strerror
                )
                raise SystemExit(f"ronin: cannot listen on {host}:{port}: {reason}") from None
