"""Apart: the worker's half of performing a run in processes of its own.

The worker starts a keeper, which forks the performer (both: `cluster.child`). By the keeper's
stdin come the order, how long the worker is to be trusted, and the word to stop; where it ends,
both end. Progress, result and death come back by a pipe of their own, because a job may print
what it likes.
"""

import contextlib
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

from cluster import log, process, voice
from cluster.perform import Result, storable
from cluster.process import Identity
from cluster.run import Claim, RunStopped
from cluster.runner import Attempt
from cluster.where import OfProcess

GRACE_SECONDS = 2.0
"""For a job that has to stop at once, to do so by itself; then it is killed."""
TAIL_CHARACTERS = 4096
WHERE = getattr(signal, "SIGRTMAX", signal.SIGUSR2)
"""The signal that has the performer say where it is; hardly a job has use for it."""
_LOOK_SECONDS = 0.2
_EXIT_SECONDS = 2.0
"""For the performer to end after its result; a thread that the job left would hold it up."""
_TAIL_LINES = 20
_PIPE_BYTES = 1 << 20
"""More than a pipe holds, so that one read empties it, and more than any message has."""
_SIGNALS = {each.value: each.name for each in signal.Signals}


@dataclass(frozen=True, slots=True)
class Order:
    """What keeper and performer need to know.

    Attributes:
        url: of the database that the run may borrow connections to; None for none.
        worker: the pid of who started the keeper.
        reply: the descriptor to answer by.
        stack: the descriptor to say by where it is.
        path: where the worker finds its modules.
        trusted_until: by the monotonic clock of this host; None, as JSON has no infinity, for ever.
    """

    claim: Claim
    url: str | None
    worker: int
    reply: int
    stack: int
    path: list[str]
    trusted_until: float | None


def perform_apart(attempt: Attempt, *, url: str | None) -> Result:
    """Perform an attempt in processes of its own and say how it came back; raises nothing.

    These end when the calling thread does, so call it in one that lives as long as the process.
    When it returns none of them is left. Whatever they print goes to this process's standard
    error.

    Args:
        attempt: what to perform; its run gets the progress, the job's function sees another one.
        url: of the database that the run may borrow connections to; None for none.

    Returns:
        What the function came to; the outcome it was told, if it had to stop at once and was
        killed; `crashed`, with how the process died and the last 20 lines of its output (at most
        4096 characters), if it ended by itself without a result; `failed` if no process could
        be started.
    """
    where = attempt.where = OfProcess()
    try:
        with _Pipe() as messages, _Pipe() as stack:
            keeper = _start(messages.end, stack.end)
            messages.close_end()
            stack.close_end()
            with keeper:
                return _Watch(keeper, attempt, where).until_end(url, messages, stack)
    except Exception as error:  # noqa: BLE001 - the caller's thread would die, and its slot with it
        reason = f"{type(error).__name__}: {error}"
        return Result("failed", storable(f"no process of its own for it: {reason}"))


class _Pipe:
    """A pipe, closed at the end of the block; its writing end is for somebody else."""

    def __enter__(self) -> Self:
        self.descriptor, self.end = os.pipe()
        self._ends = {self.descriptor, self.end}
        return self

    def close_end(self) -> None:
        """Leave the writing end to whoever has inherited it."""
        self._ends.remove(self.end)
        os.close(self.end)

    def __exit__(self, *_: object) -> None:
        for descriptor in self._ends:
            os.close(descriptor)


def _start(*ends: int) -> subprocess.Popen[bytes]:
    mark = process.mark(process.identity())
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "cluster.child", mark],  # unbuffered: the last words count
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=ends,
        start_new_session=True,
    )


def send(descriptor: int, message: object) -> None:
    """Write a message whole; a half one that somebody else left there ends before it."""
    data = b"\n" + orjson.dumps(message, default=Claim._asdict) + b"\n"
    with contextlib.suppress(BrokenPipeError):  # whoever reads is dead, as will be seen
        while data:
            data = data[os.write(descriptor, data) :]


@dataclass(slots=True)
class Lines:
    """Calls `take` with each line that a descriptor gives; a huge one is cut if `cut` is set."""

    descriptor: int
    take: Callable[[bytes], None]
    cut: bool = False
    rest: bytes = b""

    def read(self) -> bool:
        """Read once, without waiting if there is something; False at the end."""
        data = os.read(self.descriptor, _PIPE_BYTES)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.take(line)
        if self.cut and len(self.rest) > _PIPE_BYTES:
            self.flush()
        return bool(data)

    def flush(self) -> None:
        """Take what has no line's end as a line."""
        rest, self.rest = self.rest, b""
        if rest:
            self.take(rest)


@dataclass(slots=True)
class _Watch:
    """The worker's eye on one keeper and its performer.

    Attributes:
        told: what the keeper knows: until when we are trusted, what to stop with, and whether
            at once.
        performer: said by itself before it does anything.
        death: said by the keeper: how the performer died, and whether the keeper killed it.
        gone_by: when the keeper itself is killed.
    """

    keeper: subprocess.Popen[bytes]
    attempt: Attempt
    where: OfProcess
    told: tuple[float, str, bool] = (math.inf, "", False)
    performer: Identity | None = None
    result: Result | None = None
    death: dict[str, Any] | None = None
    gone_by: float = math.inf
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))

    def until_end(self, url: str | None, messages: _Pipe, stack: _Pipe) -> Result:
        """Give the order, and return how the run came back, once nobody performs it any more."""
        assert self.keeper.stdout  # noqa: S101 - a pipe was asked for
        output = Lines(self.keeper.stdout.fileno(), self._show, cut=True)
        with selectors.DefaultSelector() as pipes:
            heard = Lines(messages.descriptor, self._hear)
            for lines in (output, heard, Lines(stack.descriptor, self.where.hear)):
                pipes.register(lines.descriptor, selectors.EVENT_READ, lines)
            self._order(url, messages.end, stack.end)
            while self.keeper.poll() is None:
                self._look(pipes, _LOOK_SECONDS)
                self._tell()
            # Once: all that they left; whoever escaped may hold the pipes, and write, for ever.
            self._look(pipes, 0)
        output.flush()
        self._bury()
        return self.result or self._end()

    def _order(self, url: str | None, reply: int, stack: int) -> None:
        claim, trusted = self.attempt.claim, self.attempt.trusted_until
        self.told = (trusted, "", False)
        self._send(Order(claim, url, os.getpid(), reply, stack, sys.path, trusted))

    def _look(self, pipes: selectors.BaseSelector, seconds: float) -> None:
        if not pipes.get_map():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.keeper.wait(seconds)
        for key, _ in pipes.select(seconds) if pipes.get_map() else []:
            if not key.data.read():
                pipes.unregister(key.fileobj)

    def _tell(self) -> None:
        """Pass on what is new, and kill a keeper that can't be relied on."""
        attempt, now = self.attempt, time.monotonic()
        news = (attempt.trusted_until, attempt.run.told, attempt.at_once)
        if news != self.told:
            self.told = trusted, reason, at_once = news
            self._send({"trusted_until": trusted, "stop": reason, "at_once": at_once})
            if reason and at_once:
                self.gone_by = min(self.gone_by, now + GRACE_SECONDS + _EXIT_SECONDS)
        if self.where.to_pass_on():
            self._send({"where": True})
        if now > self.gone_by:
            self.keeper.kill()

    def _send(self, message: object) -> None:
        assert self.keeper.stdin  # noqa: S101 - a pipe was asked for
        send(self.keeper.stdin.fileno(), message)

    def _hear(self, line: bytes) -> None:
        try:
            message = orjson.loads(line)
        except orjson.JSONDecodeError:
            return  # empty, or the sender died in the middle
        match message:
            case {"performer": identity}:
                self.performer = Identity(**identity)
            case {"progress": fraction}:
                with contextlib.suppress(RunStopped):  # the performer hears of it otherwise
                    self.attempt.run.progress(fraction)
            case {"result": result}:
                self.result = Result(**result)
                self.gone_by = time.monotonic() + _EXIT_SECONDS
            case {"death": death}:
                self.death = death

    def _show(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        self.tail.append(text[-TAIL_CHARACTERS:])
        voice.say(log.plainly(text))
        with contextlib.suppress(OSError):  # nobody reads our standard error any more
            sys.stderr.write(f"{text}\n")

    def _bury(self) -> None:
        """After a keeper that was killed: kill its performer, and wait until that is gone."""
        if not self.performer or self.death:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.performer.pid, signal.SIGKILL)
        while self.performer.host and not process.is_gone(self.performer):
            time.sleep(0.01)

    def _end(self) -> Result:
        """Say how it came to its end without a result."""
        _, told, at_once = self.told
        death = self.death or {}
        if told and at_once:
            timeout = f" after {self.attempt.job.timeout:g} s" if told == "timed_out" else ""
            how = "it did not stop by itself and was killed"
            if not self.death:
                how += ", and so was its keeper"
            elif not death["killed"]:
                how = self._evidence()
            return Result(told, storable(f"{told.replace('_', ' ')}{timeout}; {how}"))
        if death.get("killed") == "trust":
            reason = "its worker could not renew the lease in time, and it was killed"
            return Result("interrupted", reason)
        return Result("crashed", storable(self._evidence()))

    def _evidence(self) -> str:
        who, code = "process", self.keeper.returncode
        if self.death:
            code = self.death["code"]
        elif self.performer:
            who = "keeper"
        how = f"signal {-code} ({_SIGNALS.get(-code, '?')})" if code < 0 else f"exit code {code}"
        said = "\n".join(self.tail)[-TAIL_CHARACTERS:]
        tail = f"last lines of its output: {said}" if said else "it printed nothing"
        return f"its {who} died: {how}; {tail}"
