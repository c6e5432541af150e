"""The remote worker's loop: claims, heartbeats and reports over HTTP.

One thread makes every decision and sends heartbeats and reports; another waits for work at the
server, so that nothing else has to wait.
"""

import contextlib
import json
import math
import random
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from queue import SimpleQueue
from typing import Any
from uuid import UUID

import httpx
import orjson
from structlog.stdlib import BoundLogger

from cluster import log
from cluster.job import Catalogue
from cluster.perform import Result
from cluster.run import Claim
from cluster.runner import Attempt, Runner

_POLL_SECONDS = 5.0
"""A claim waits at the server so long at most; and as long a stop waits for its answer."""
_EMPTY_SECONDS = 1.0
"""Between two claims at least when the first brought nothing, whether the server waits or not."""
_TRUSTED = 0.6
"""Part of the lease after which tasks without an answered heartbeat are told to stop."""
_KILLED = 0.8
"""Part of it after which their processes are killed, even if this one is frozen."""
_LIMIT = 100  # tasks in one claim
_LONG = 30
"""Failures in a row, about a minute, that are more than a restart."""
_NOT_OURS = frozenset({404, 409, 410})
"""The task is somebody else's by now, or gone."""
_TRY_AGAIN = frozenset({401, 403, 408, 421, 425, 429})
"""Somebody is changing tokens, or the service is busy; of the task this says nothing."""


class NoAnswer(Exception):  # noqa: N818 - it says what happened
    """The server can't be reached, or can't answer now; nobody knows what it did."""


class Patience:
    """How long to wait after each failure in a row, and what the log says of it."""

    def __init__(self, say: BoundLogger) -> None:
        self._say = say
        self._failures = 0

    def failed(self, reason: object) -> float:
        """Note a failure; return the seconds until the next try."""
        self._failures += 1
        if self._failures == 1:
            self._say.info("no answer yet", reason=str(reason))
        elif self._failures in (_LONG, 10 * _LONG) or self._failures % 1000 == 0:
            self._say.warning("still no answer", reason=str(reason), tries=self._failures)
        longest: float = min(0.1 * 2 ** min(self._failures, 6), 2.0)
        return random.uniform(0.5, 1) * longest  # noqa: S311 - jitter, no secret

    def heard(self) -> None:
        """Note an answer."""
        if self._failures >= _LONG:
            self._say.info("answered again", tries=self._failures)
        self._failures = 0


@dataclass(slots=True)
class Held:
    """A task that we hold, and what the server has to hear of it next.

    Attributes:
        say: to the log.
        lease: seconds.
        trusted: by the monotonic clock, when the last heartbeat that was answered was sent.
        next_at: when to send again; infinity once the server has given it to somebody else.
        patience: with what can't be sent.
        result: how it came back; from then on this is sent in place of heartbeats.
    """

    attempt: Attempt
    say: BoundLogger
    lease: float
    trusted: float
    next_at: float
    patience: Patience
    sequence: int = 0
    result: Result | None = None

    def message(self) -> tuple[str, dict[str, Any]]:
        """Return the last part of the path, and what goes there."""
        result = self.result
        body: dict[str, Any] = {"token": self.attempt.claim.token}
        if result is None:
            self.sequence += 1
            fraction = self.attempt.run.fraction
            progress = {} if fraction is None else {"progress": fraction}
            return "heartbeat", {**body, **progress, "sequence": self.sequence}
        if result.outcome == "interrupted":
            return "release", body
        if result.outcome == "completed":
            value = {} if result.value is None else {"result": orjson.Fragment(result.value)}
            return "complete", body | value
        outcome = result.outcome if result.outcome in ("timed_out", "crashed") else "failed"
        more = {"traceback": result.traceback, "retry_in": result.retry_in}
        return "fail", {
            **body,
            **{name: value for name, value in more.items() if value is not None},
            "error": result.error or outcome,
            "final": result.final,
            "outcome": outcome,
        }


class Remote:
    """The loop: take what the poll brought, send what is due, ask for more.

    Args:
        http: to the service.
        name: of this worker, for people.
        kinds: of tasks that it takes.
        jobs: the functions of these.
        runner: performs them; its `wake` is `wake.set`.
        wake: set by whoever has something for the loop.
    """

    def __init__(
        self,
        http: httpx.Client,
        *,
        name: str,
        kinds: list[str],
        jobs: Catalogue,
        runner: Runner,
        wake: threading.Event,
    ) -> None:
        self._http = http
        self._name = name
        self._kinds = kinds
        self._jobs = jobs
        self._runner = runner
        self._wake = wake
        self._say: BoundLogger = log.get("remote").bind(worker=name)
        self._stopping = threading.Event()
        self._held: dict[UUID, Held] = {}
        self._answers: SimpleQueue[tuple[float, httpx.Response | Exception]] = SimpleQueue()
        self._polling = False
        self._poll_at = -math.inf
        self._poll_seconds = _POLL_SECONDS
        self._patience = Patience(self._say)

    def stop(self) -> None:
        """Take no more, tell the tasks to stop, and let `work` end when all is reported."""
        self._stopping.set()
        self._wake.set()

    def work(self) -> None:
        """Work until told to stop, and until what is held then has been reported."""
        self._say.info("started", url=str(self._http.base_url), kinds=self._kinds)
        while not self._stopping.is_set() or self._held or self._polling:
            self._wake.clear()
            try:
                self._turn()
            except Exception:  # noqa: BLE001 - a loop that dies leaves a worker that looks alive
                self._say.exception("the loop goes on after an error that nobody expected")
            self._wake.wait(self._pause())
        self._say.info("left")

    def _turn(self) -> None:
        if self._stopping.is_set():
            self._runner.leave()
        self._take()
        self._collect()
        self._send()
        self._stop_late()
        self._ask()

    def _pause(self) -> float:
        """Return the seconds until something may be due; short, for the limits of what runs."""
        now = time.monotonic()
        due = min((held.next_at for held in self._held.values()), default=math.inf)
        ask = self._poll_at if self._room() > 0 else math.inf
        return max(min(due - now, ask - now, 0.2 if self._held else 1.0), 0.01)

    # Claims.

    def _room(self) -> int:
        """Return how many tasks to ask for now."""
        if self._polling or self._stopping.is_set():
            return 0
        return min(self._runner.slots - len(self._runner.attempts), _LIMIT)

    def _ask(self) -> None:
        room = self._room()
        if room > 0 and time.monotonic() >= self._poll_at:
            self._polling = True
            threading.Thread(target=self._poll, args=(room,), name="poll", daemon=True).start()

    def _poll(self, room: int) -> None:
        sent = time.monotonic()
        body = {"worker": self._name, "kinds": self._kinds, "limit": room}
        answer: httpx.Response | Exception
        try:
            answer = self._post(
                "/tasks/claim", {**body, "wait_seconds": self._poll_seconds}, _POLL_SECONDS + 5
            )
        except Exception as error:  # noqa: BLE001 - the loop waits for whatever comes
            answer = error
        self._answers.put((sent, answer))
        self._wake.set()

    def _take(self) -> None:
        """Start what the poll brought."""
        if self._answers.empty():
            return
        sent, answer = self._answers.get()
        self._polling = False
        if isinstance(answer, Exception) or answer.is_error:
            reason = answer if isinstance(answer, Exception) else answer.text[:200]
            self._poll_at = time.monotonic() + self._patience.failed(reason)
            return
        self._patience.heard()
        later = answer.headers.get("Retry-After", "")
        self._poll_at = sent + _EMPTY_SECONDS
        if later.isdigit():
            self._poll_at = time.monotonic() + float(later)
        for task in answer.json():
            self._poll_at = sent  # there may be more
            self._start(task, sent)

    def _start(self, task: dict[str, Any], sent: float) -> None:
        claim = _claim_of(task, self._name)
        if self._stopping.is_set():
            # Not begun, so given back; if that fails its lease lapses.
            with contextlib.suppress(NoAnswer):
                self._post(f"/tasks/{claim.id}/release", {"token": claim.token}, 3)
            return
        job = self._jobs.get(claim.job)
        assert job  # noqa: S101 - only names of the catalogue were asked for
        lease = float(task["lease_seconds"])
        # When we die, the claim that still waits for us must not get what we lose by that.
        self._poll_seconds = min(_POLL_SECONDS, lease / 2)
        say = self._say.bind(job=job.name, run=str(claim.id), attempt=claim.attempt)
        self._runner.start(
            claim,
            job.model_copy(update={"timeout": task["timeout_seconds"] or job.timeout}),
            trusted_until=sent + lease * _KILLED,
        )
        attempt = next(a for a in self._runner.attempts if a.claim.token == claim.token)
        # The claim was sent before the lease began, so the first heartbeat may be due at once.
        self._held[claim.token] = Held(attempt, say, lease, sent, sent + lease / 3, Patience(say))
        say.info("run started")

    # Heartbeats and reports.

    def _collect(self) -> None:
        for attempt, result in self._runner.results():
            held = self._held[attempt.claim.token]
            if held.next_at == math.inf:
                self._forget(held, "fenced")
            else:
                held.result, held.next_at = result, -math.inf

    def _send(self) -> None:
        """Send what is due, the longest due first; after a failure the rest waits for a turn."""
        for held in sorted(self._held.values(), key=lambda each: each.next_at):
            sent = time.monotonic()
            if held.next_at > sent:
                return
            verb, body = held.message()
            path = f"/tasks/{held.attempt.claim.id}/{verb}"
            try:
                answer = self._post(path, body, min(max(held.lease / 5, 1.0), 3.0))
            except NoAnswer as error:
                held.next_at = time.monotonic() + held.patience.failed(error)
                return
            held.patience.heard()
            held.next_at = sent + held.lease / 3
            if held.result:
                self._settle(held, held.result, answer)
            else:
                self._beaten(held, sent, answer)

    def _beaten(self, held: Held, sent: float, answer: httpx.Response) -> None:
        """Draw the conclusion from the answer to a heartbeat."""
        if answer.status_code in _NOT_OURS:
            held.next_at = math.inf
            held.attempt.stop("interrupted")
        elif answer.is_error:
            held.say.warning("heartbeat refused", reason=answer.text[:200])
        else:
            held.trusted = sent
            held.attempt.trusted_until = sent + held.lease * _KILLED
            if answer.json().get("cancelled"):
                held.attempt.stop("cancelled")

    def _settle(self, held: Held, result: Result, answer: httpx.Response) -> None:
        """Draw the conclusion from the answer to a report."""
        if answer.status_code in _NOT_OURS:
            self._forget(held, "fenced")
        elif answer.is_success:
            self._forget(held, result.outcome, result.error)
        elif result.outcome == "completed":
            reason = f"its result was refused: {answer.text[:200]}"
            held.result, held.next_at = Result("failed", reason, final=True), -math.inf
        else:
            self._forget(held, result.outcome, f"the report was refused: {answer.text[:200]}")

    def _forget(self, held: Held, outcome: str, error: str | None = None) -> None:
        token = held.attempt.claim.token
        self._runner.forget(token)
        self._held.pop(token)
        say = held.say.info if outcome == "completed" else held.say.warning
        say("run ended", outcome=outcome, **({"error": error} if error else {}))

    def _post(self, path: str, body: dict[str, Any], timeout: float) -> httpx.Response:
        """Send JSON, and return an answer that trying again would not change.

        Raises:
            NoAnswer: there is none.
        """
        headers = {"Content-Type": "application/json"}
        content = orjson.dumps(body)
        try:
            answer = self._http.post(path, content=content, headers=headers, timeout=timeout)
        except httpx.HTTPError as error:
            raise NoAnswer(str(error) or type(error).__name__) from error
        final = answer.is_success or answer.is_client_error
        if not final or answer.status_code in _TRY_AGAIN:
            raise NoAnswer(f"{answer.status_code} {answer.text[:200]}")
        return answer

    def _stop_late(self) -> None:
        """Stop what is over its timeout, and what others may soon be given."""
        self._runner.stop_overdue()
        now = time.monotonic()
        for held in self._held.values():
            if now - held.trusted > held.lease * _TRUSTED:
                held.attempt.stop("interrupted")


def _claim_of(task: dict[str, Any], worker: str) -> Claim:
    same = ("attempt", "fence", "failures", "crashes", "name", "max_retries")
    return Claim(
        id=UUID(task["task_id"]),
        job=task["kind"],
        schedule=None,
        timezone="UTC",
        due_at=datetime.fromisoformat(task["due_at"]),
        token=UUID(task["token"]),
        started_at=datetime.fromisoformat(task["started_at"]),
        worker=worker,
        args=json.dumps(task["args"]),
        checkpoint=None,
        **{name: task[name] for name in same},
    )
