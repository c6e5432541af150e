"""Child: performs a suspect in a process of its own, so that a death is certainly its own.

Two halves: `perform_apart` in the worker and `main` in the child. By the child's stdin comes the
order, and later maybe the outcome to stop with; where it ends, so does the child. Progress and
result go back by a pipe of their own, because a job may print what it likes.
"""

import contextlib
import ctypes
import faulthandler
import math
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import orjson
import psycopg
from pydantic import TypeAdapter

from cluster import database, log, settings
from cluster.job import catalogue
from cluster.perform import Result, perform, storable
from cluster.run import Claim, Connect, Connection, Run, RunStopped

_LOOK_SECONDS = 0.2
_REPORT_SECONDS = 0.1
_EXIT_SECONDS = 2.0
"""For the child to end after its result; a thread that the job left behind would hold it up."""
_TAIL_LINES = 20
_TAIL_CHARACTERS = 4096
_PIPE_BYTES = 1 << 20
"""More than a pipe holds, so that one read empties it, and more than any message has."""
_PR_SET_PDEATHSIG = 1
_SIGNALS = {each.value: each.name for each in signal.Signals}


@dataclass(frozen=True, slots=True)
class _Order:
    """What the child needs to know: `reply` is the descriptor it answers by."""

    claim: Claim
    url: str | None
    worker: int
    reply: int
    path: list[str]


def perform_apart(claim: Claim, run: Run, *, url: str | None) -> Result:
    """Perform a claim in a child process and say how it came back; raises nothing.

    The child ends when the calling thread does, so call it in one that lives as long as the
    process. Whatever the child prints goes to this process's standard error.

    Args:
        claim: what to perform.
        run: told to stop by others, and gets the progress; the job's function sees another one.
        url: of the database that the run may borrow connections to; None for none.

    Returns:
        What the function came to; `crashed`, with how the process died and the last 20 lines of
        its output (at most 4096 characters), if it ended without a result; `failed` if no
        process could be started.
    """
    try:
        receive, reply = os.pipe()
        with open(receive, "rb", buffering=0) as messages:  # noqa: PTH123 - a descriptor
            try:
                process = _start(reply)
            finally:
                os.close(reply)
            with process:
                order = _Order(claim, url, os.getpid(), reply, sys.path)
                return _Watch(process, run).until_end(order, messages)
    except Exception as error:  # noqa: BLE001 - the caller's thread would die, and its slot with it
        reason = f"{type(error).__name__}: {error}"
        return Result("failed", storable(f"no process of its own for it: {reason}"))


def _start(reply: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "cluster.child"],  # unbuffered: the last words count
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[reply],
        start_new_session=True,
    )


def _send(descriptor: int, message: object) -> None:
    data = orjson.dumps(message) + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


@dataclass(slots=True)
class _Lines:
    """Calls `take` with each line that a pipe gives; a huge one is cut."""

    pipe: IO[bytes]
    take: Callable[[bytes], None]
    rest: bytes = b""

    def read(self) -> bool:
        """Read once, without waiting if there is something; False at the pipe's end."""
        data = os.read(self.pipe.fileno(), _PIPE_BYTES)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.take(line)
        if len(self.rest) > _PIPE_BYTES:
            self.flush()
        return bool(data)

    def flush(self) -> None:
        """Take what has no line's end as a line."""
        rest, self.rest = self.rest, b""
        if rest:
            self.take(rest)


@dataclass(slots=True)
class _Watch:
    """The worker's eye on one child."""

    process: subprocess.Popen[bytes]
    run: Run
    told: bool = False
    result: Result | None = None
    exit_by: float = math.inf
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))

    def until_end(self, order: _Order, messages: IO[bytes]) -> Result:
        """Give the order, and return how the child came back."""
        assert self.process.stdout  # noqa: S101 - a pipe was asked for
        output = _Lines(self.process.stdout, self._show)
        with selectors.DefaultSelector() as pipes:
            for lines in (output, _Lines(messages, self._hear)):
                pipes.register(lines.pipe, selectors.EVENT_READ, lines)
            self._tell(order)
            while self.process.poll() is None:
                self._look(pipes, _LOOK_SECONDS)
            # Once: all that the child left; a grandchild may hold the pipes, and write, for ever.
            self._look(pipes, 0)
        output.flush()
        return self.result or Result("crashed", self._evidence())

    def _look(self, pipes: selectors.BaseSelector, seconds: float) -> None:
        for key, _ in pipes.select(seconds):
            if not key.data.read():
                pipes.unregister(key.fileobj)
        if self.run.told and not self.told:
            self.told = True
            self._tell(self.run.told)
        if time.monotonic() > self.exit_by:
            self.process.kill()

    def _tell(self, message: object) -> None:
        assert self.process.stdin  # noqa: S101 - a pipe was asked for
        with contextlib.suppress(BrokenPipeError):  # it is dead, as will be seen
            _send(self.process.stdin.fileno(), message)

    def _hear(self, line: bytes) -> None:
        message: Any = orjson.loads(line)
        if isinstance(message, dict):
            self.result = Result(**message)
            self.exit_by = time.monotonic() + _EXIT_SECONDS
        else:
            with contextlib.suppress(RunStopped):  # the child hears of it otherwise
                self.run.progress(message)

    def _show(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        self.tail.append(text[-_TAIL_CHARACTERS:])
        with contextlib.suppress(OSError):  # nobody reads our standard error any more
            sys.stderr.write(f"{text}\n")

    def _evidence(self) -> str:
        code = self.process.returncode
        how = f"signal {-code} ({_SIGNALS.get(-code, '?')})" if code < 0 else f"exit code {code}"
        said = "\n".join(self.tail)[-_TAIL_CHARACTERS:]
        tail = f"last lines of its output: {said}" if said else "it printed nothing"
        return storable(f"its process died: {how}; {tail}")


def main() -> None:
    """Perform the order that stdin gives, in the child.

    Raises:
        SystemExit: a setting makes no sense.
    """
    _die_with_worker()
    faulthandler.enable(all_threads=False)  # a segmentation fault says where
    orders = _take_stdin()
    order = TypeAdapter(_Order).validate_json(orders.readline())
    if os.getppid() != order.worker:
        os._exit(1)  # the worker died before we asked the kernel
    os.set_inheritable(order.reply, False)  # noqa: FBT003 - it takes no keyword
    sys.path.extend(entry for entry in order.path if entry not in sys.path)
    configured = settings.load_or_exit()
    log.configure(configured.log)
    with _connections(order.url) as connect:
        run = Run(order.claim, connect)
        threading.Thread(target=_obey, args=(orders, run), daemon=True).start()
        with _reporting(run, order.reply):
            result = _perform(order.claim, run, configured.jobs)
        _send(order.reply, result)


def _die_with_worker() -> None:
    # It fires when the thread that started us ends; the runner's end only with the process.
    with contextlib.suppress(AttributeError, OSError):  # only Linux has it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _take_stdin() -> IO[bytes]:
    """Return stdin, and leave an empty one to the job, which might read it."""
    orders = os.fdopen(os.dup(0), "rb")
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device
        os.dup2(nothing.fileno(), 0)
    return orders


@contextmanager
def _connections(url: str | None) -> Iterator[Connect]:
    if url is None:
        yield _no_database
        return
    with database.pool(url, "ronin jobs", size=2) as pool:  # connects when first asked
        yield pool.connection


def _no_database() -> AbstractContextManager[Connection]:
    raise psycopg.OperationalError("this process was given no database to connect to")


def _obey(orders: IO[bytes], run: Run) -> None:
    for line in orders:
        run.stop(orjson.loads(line))
    os._exit(1)  # the worker is dead


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
                _send(reply, sent)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join()  # so that no two write at once


def _perform(claim: Claim, run: Run, modules: tuple[str, ...]) -> Result:
    try:
        catalogue.load(modules)
    except Exception as error:  # noqa: BLE001 - not the run's fault, so no crash of its own
        trace = storable(traceback.format_exc()[-_TAIL_CHARACTERS:])
        return Result("failed", storable(f"the jobs can't be loaded: {error}"), trace)
    job = catalogue.get(claim.job)
    if not job:
        return Result("failed", f"its process knows no job {claim.job!r}", final=True)
    return perform(job, run, claim.args)


if __name__ == "__main__":
    main()
