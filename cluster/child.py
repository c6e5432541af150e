"""Child: `python -m cluster.child`, the two processes that perform a run apart from its worker.

The *keeper* never runs a line of a job, so nothing that a job does can hold it up: it kills the
performer when a stop has to be at once, when the worker is gone, or when the worker can't be
trusted any more. The *performer*, its fork, loads the jobs and calls the function.
"""

import ctypes
import faulthandler
import functools
import math
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
import psycopg
from pydantic import TypeAdapter

from cluster import database, log, process, settings
from cluster.apart import GRACE_SECONDS, TAIL_CHARACTERS, WHERE, Lines, Order, send
from cluster.job import Job, catalogue
from cluster.perform import Result, perform, storable
from cluster.run import Claim, Connect, Connection, Run, RunStopped
from cluster.store.guard import TokenGuard

_REPORT_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Keep the order that stdin gives; in the fork, perform it."""
    signals = _catch(signal.SIGCHLD, signal.SIGTERM)
    _ask_for_death(signal.SIGTERM)  # not KILL: we have somebody to take along
    lines: list[bytes] = []
    orders = Lines(_take_stdin(), lambda line: lines.append(line) if line else None)
    while not lines:
        if not orders.read():
            return  # the worker died before it had given an order
    order = TypeAdapter(Order).validate_json(lines.pop(0))
    if os.getppid() != order.worker:
        return  # it died before we asked the kernel
    for each in (order.reply, order.stack):
        os.set_inheritable(each, False)  # noqa: FBT003 - it takes no keyword
    signal.signal(WHERE, signal.SIG_IGN)  # until the performer can say it
    words, forward = os.pipe()
    keeper = os.getpid()
    performer = os.fork()
    if performer:
        os.close(words)
        _Keeper(performer, forward, order.reply, order.trusted_until).keep(orders, lines, signals)
    else:
        for each in (orders.descriptor, forward, signals):
            os.close(each)
        _perform_order(order, words, keeper)


def _catch(*numbers: signal.Signals) -> int:
    """Return a descriptor that gives a byte for each of these signals."""
    receive, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return receive


def _ask_for_death(number: signal.Signals) -> None:
    # It comes when the thread that started us ends; the runner's end only with the process.
    with suppress(AttributeError, OSError):  # only Linux has it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def _take_stdin() -> int:
    """Return stdin, and leave an empty one to the job, which might read it."""
    orders = os.dup(0)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device
        os.dup2(nothing.fileno(), 0)
    return orders


class _WorkerGone(Exception):  # noqa: N818 - it says what happened
    """Nobody is there any more whom the performer could work for."""


@dataclass(slots=True)
class _Keeper:
    """Watches over the performer; see the module.

    Attributes:
        performer: its pid, and that of its process group.
        forward: the descriptor by which it hears.
        killed: why we killed it: `stop`, `trust`.
    """

    performer: int
    forward: int
    reply: int
    trusted_until: float | None
    stop_by: float = math.inf
    killed: str = ""

    def keep(self, orders: Lines, lines: list[bytes], signals: int) -> None:
        """Watch until the performer has ended, take its group along, and tell the worker."""
        with suppress(ProcessLookupError, PermissionError):  # it has done so itself, or is gone
            os.setpgid(self.performer, self.performer)
        try:
            code = self._until_end(orders, lines, signals)
        except _WorkerGone:
            self._kill("worker")
            os.waitpid(self.performer, 0)
        else:
            self._kill(self.killed)  # those it started
            send(self.reply, {"death": {"code": code, "killed": self.killed}})

    def _until_end(self, orders: Lines, lines: list[bytes], signals: int) -> int:
        while True:
            pid, status = os.waitpid(self.performer, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            while lines:
                self._obey(lines.pop(0))
            ready, _, _ = select.select([orders.descriptor, signals], [], [], self._pause())
            if not ready:  # so there is no word that we may be late to hear
                self._kill_if_due()
            if signals in ready and signal.SIGTERM in os.read(signals, 4096):
                raise _WorkerGone
            if orders.descriptor in ready and not orders.read():
                raise _WorkerGone

    def _obey(self, line: bytes) -> None:
        message = orjson.loads(line)
        if "where" in message:
            os.kill(self.performer, WHERE)  # it is our child, so it is this one
            return
        self.trusted_until = message["trusted_until"]
        if message["stop"]:
            send(self.forward, message)
            if message["at_once"]:
                self.stop_by = min(self.stop_by, time.monotonic() + GRACE_SECONDS)

    def _pause(self) -> float | None:
        """Return the seconds until the performer may have to be killed; None for ever."""
        until = math.inf if self.killed else min(self.trusted_until or math.inf, self.stop_by)
        return max(until - time.monotonic(), 0) if until < math.inf else None

    def _kill_if_due(self) -> None:
        now = time.monotonic()
        if now >= self.stop_by:
            self._kill("stop")
        elif self.trusted_until and now >= self.trusted_until:
            self._kill("trust")

    def _kill(self, reason: str) -> None:
        self.killed = reason
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.performer, signal.SIGKILL)


def _perform_order(order: Order, words: int, keeper: int) -> None:
    """Be the performer.

    Raises:
        SystemExit: a setting makes no sense.
    """
    os.setpgid(0, 0)  # those that a job starts go with it
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # until there is somebody who can be told
    _ask_for_death(signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(1)
    send(order.reply, {"performer": process.identity()})
    faulthandler.enable(all_threads=False)  # a segmentation fault says where
    os.set_blocking(order.stack, False)  # it must not wait for who reads
    faulthandler.register(WHERE, order.stack, all_threads=False)
    sys.path.extend(entry for entry in order.path if entry not in sys.path)
    configured = settings.load_or_exit()
    log.configure(configured.log)
    with _connections(order.url) as connect:
        run = Run(order.claim, connect, TokenGuard(catalogue))
        threading.Thread(target=_listen, args=(words, run), daemon=True).start()
        with _reporting(run, order.reply):
            result = _performed(order.claim, run, configured.jobs)
        send(order.reply, {"result": result})


@contextmanager
def _connections(url: str | None) -> Iterator[Connect]:
    if url is None:
        yield _no_database
        return
    with database.pool(url, "ronin jobs", size=2) as pool:  # connects when first asked
        yield pool.connection


def _no_database() -> AbstractContextManager[Connection]:
    raise psycopg.OperationalError("this process was given no database to connect to")


def _listen(words: int, run: Run) -> None:
    with os.fdopen(words, "rb") as lines:
        for line in lines:
            if line.strip():
                message = orjson.loads(line)
                run.stop(message["stop"])
                if message["at_once"]:
                    os.killpg(0, signal.SIGTERM)  # ourselves, and those that the job started
    os._exit(1)  # the keeper is dead


@contextmanager
def _reporting(run: Run, reply: int) -> Iterator[None]:
    """Send each new progress for the block, at most ten a second, the last one always."""
    over = threading.Event()

    def report() -> None:
        sent, ended = None, False
        while not ended:
            ended = over.wait(_REPORT_SECONDS)
            if run.fraction != sent:
                sent = run.fraction
                send(reply, {"progress": sent})

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join()  # so that no two write at once


def _performed(claim: Claim, run: Run, modules: tuple[str, ...]) -> Result:
    try:
        with _stopped_at_once(run):
            return _perform(claim, run, modules)
    except RunStopped:  # before the function had begun, or when it had just ended
        return Result(run.told, "told to stop")


@contextmanager
def _stopped_at_once(run: Run) -> Iterator[None]:
    """Turn TERM into `RunStopped` wherever the main thread is; from somebody else, into death."""

    def stop(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN if run.told else signal.SIG_DFL)
        run.check()
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, stop)
    try:
        run.check()  # told while TERM was ignored
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _perform(claim: Claim, run: Run, modules: tuple[str, ...]) -> Result:
    try:
        catalogue.load(modules)
    except Exception as error:  # noqa: BLE001 - not the run's fault, so no crash of its own
        trace = storable(traceback.format_exc()[-TAIL_CHARACTERS:])
        return Result("failed", storable(f"the jobs can't be loaded: {error}"), trace)
    job = catalogue.get(claim.job)
    if not job:
        return Result("failed", f"its process knows no job {claim.job!r}", final=True)
    return perform(_limited(job), run, claim.args)


def _limited(job: Job) -> Job:
    """Return the job with its memory limit around the function."""
    if job.memory_mib is None:
        return job
    function = job.function
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _taken() + job.memory_mib * 2**20
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)

    @functools.wraps(function)
    def within(*args: object, **kwargs: object) -> object:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
        try:
            return function(*args, **kwargs)
        except MemoryError as error:
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))  # to tell of it takes some, too
            raise MemoryError(f"over its limit, memory_mib={job.memory_mib}") from error

    return job.model_copy(update={"function": within})


def _taken() -> int:
    """Return the bytes of private memory, as the kernel counts for the limit."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[5]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


if __name__ == "__main__":
    main()
