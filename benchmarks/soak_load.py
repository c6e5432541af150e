"""The load of a soak: clients that ask for everything, steadily and forever."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

JOBS = """
import random

from cluster import Run, job, task


@task(name="quick")
def quick(run: Run, number: int, text: str = "") -> dict[str, int]:
    '''Return its argument.'''
    return {"number": number, "length": len(text)}


@task(name="slow", timeout="1m")
def slow(run: Run, seconds: float) -> None:
    '''Wait, tell its progress, say something, keep a checkpoint.'''
    for step in range(4):
        run.progress(step / 4)
        run.log.info("at work", step=step)
        run.checkpoint(step)
        run.wait(seconds / 4)


@task(name="flaky", retry_delay=0.5, max_retries=3)
def flaky(run: Run, number: int) -> None:
    '''Fail as often as not.'''
    if random.random() < 0.5:
        raise ValueError(f"as often as not, {number}")


def _nothing(run: Run) -> None:
    '''Do nothing.'''


for number in range(3):
    job(name=f"each-second-{number}", every="1s")(_nothing)
job(name="each-second-by-cron", schedule="* * * * * *")(_nothing)
job(name="each-minute", schedule="* * * * *", timezone="Europe/Berlin")(_nothing)


@job(name="each-minute-apart", schedule="* * * * *", isolation="process")
def apart(run: Run) -> None:
    '''Wait a second in a process of its own.'''
    run.wait(1)
"""
"""What the cluster performs beside its sample jobs: kinds that behave well and badly, and jobs."""

_USER = 1
_FAR_TOO_MUCH = 10**12
_PATIENCE_SECONDS = 30
_BATCH = 10
_KEPT = 200
"""Tasks whose pages are looked at: the last ones."""
_PAGES = (
    "/",
    "/jobs",
    "/jobs/each-second-0/history?limit=20",
    "/tasks?limit=20",
    "/tasks?status=4&limit=10",
    "/workers",
    "/kinds",
    "/metrics",
    f"/users/{_USER}",
    "/health/ready",
    "/ui/jobs/each-second-0",
    "/ui/tasks",
    "/ui/tasks?status=ERROR&kind=flaky",
    "/ui/kinds/quick",
    f"/ui/users/{_USER}",
    "/ui/actions",
)


@dataclass(slots=True)
class Answers:
    """What clients were told since the last look.

    Attributes:
        seconds: that each request took.
        wrong: answers that nobody expected, and requests without an answer, by what was said.
    """

    seconds: list[float] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)


class Load:
    """All clients of one instance.

    Args:
        port: of the instance.
        tasks: a second: half of them alone, half of them in batches of ten.
        changes: of a balance a second; three of four under an idempotency key.
        viewers: browsers that show the live page.
    """

    def __init__(self, port: int, tasks: float, changes: float, viewers: int) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._rates = {"tasks": tasks, "changes": changes}
        self._viewers = viewers
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._answers = Answers()
        self._numbers = itertools.count()
        self._known: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let all of them ask for as long as the block takes."""
        tasks, changes = self._rates["tasks"], self._rates["changes"]
        paces = [
            *(2 * [(self._post, 4 / tasks)]),
            (self._post_batch, 2 * _BATCH / tasks),
            *(4 * [(self._change, 4 / changes)]),
            *(2 * [(self._read, 0.5)]),
        ]
        loops = [self._client(act, every) for act, every in paces]
        loops += self._viewers * [self._view]
        threads = [threading.Thread(target=loop, daemon=True) for loop in loops]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(_PATIENCE_SECONDS)

    def take(self) -> Answers:
        """Return what was answered since the last call."""
        with self._lock:
            taken, self._answers = self._answers, Answers()
        return taken

    def _client(self, act: Callable[[httpx.Client], None], every: float) -> Callable[[], None]:
        def loop() -> None:
            due = time.monotonic() + random.random() * every
            with httpx.Client(base_url=self._base, timeout=_PATIENCE_SECONDS) as http:
                while not self._stop.wait(max(due - time.monotonic(), 0)):
                    act(http)
                    due = max(due + every, time.monotonic())  # what is late is not made up for

        return loop

    def _post(self, http: httpx.Client) -> None:
        """Ask for one task; call some of them off, and follow others."""
        number = next(self._numbers)
        key = {"Idempotency-Key": uuid4().hex} if number % 4 == 0 else {}
        got = self._send(http, "POST", "/tasks", (201,), json=_task(number), headers=key)
        if got is None:
            return
        if number % 40 == 0:  # once more, as one does who was not told: it is the same task
            self._send(http, "POST", "/tasks", (200, 201), json=_task(number), headers=key)
        task = got.json()["task_id"]
        self._known = [*self._known[1 - _KEPT :], task]
        if number % 50 == 1:
            self._send(http, "DELETE", f"/tasks/{task}", (200, 202, 409))

    def _post_batch(self, http: httpx.Client) -> None:
        batch = [_task(next(self._numbers)) for _ in range(_BATCH)]
        self._send(http, "POST", "/tasks/batch", (201,), json=batch)

    def _change(self, http: httpx.Client) -> None:
        """Pay in and take out by turns, and now and then far too much."""
        number = next(self._numbers)
        amount = -_FAR_TOO_MUCH if number % 20 == 0 else random.choice((-2, 2))
        key = {"Idempotency-Key": uuid4().hex} if number % 4 else {}
        body = {"amount": amount}
        path = f"/users/{_USER}/balance"
        self._send(http, "POST", path, (200, 409), json=body, headers=key)

    def _read(self, http: httpx.Client) -> None:
        """Read a page or a list, every second time over a connection of its own."""
        paths = [*_PAGES, *(f"/ui/runs/{task}" for task in self._known[-1:])]
        headers = random.choice(({}, {"Connection": "close"}))
        self._send(http, "GET", random.choice(paths), (200,), headers=headers)

    def _view(self) -> None:
        """Look at the live page as its script does."""
        tag, pause = "", random.random()
        with httpx.Client(base_url=self._base, timeout=_PATIENCE_SECONDS) as http:
            while not self._stop.wait(pause):
                headers = {"If-None-Match": tag} if tag else {}
                got = self._send(http, "GET", "/live", (200, 304), headers=headers)
                pause = 1.0
                if got is not None:
                    tag = got.headers.get("etag", "")
                    pause = int(got.headers["ronin-poll-milliseconds"]) / 1000

    def _send(
        self, http: httpx.Client, method: str, path: str, fine: tuple[int, ...], **request: Any
    ) -> httpx.Response | None:
        """Return the answer if it is one of those that are fine."""
        what, wrong = f"{method} {path.split('?', maxsplit=1)[0]}", ""
        begun, got = time.monotonic(), None
        try:
            got = _request(http, method, path, **request)
            if got.status_code not in fine:
                wrong = f"{what}: {got.status_code} {got.text[:200]}"
        except httpx.HTTPError as error:
            wrong = f"{what}: {error!r}"
        with self._lock:
            self._answers.seconds.append(time.monotonic() - begun)
            self._answers.wrong.update([wrong] if wrong else [])
        return None if wrong else got


def _request(http: httpx.Client, method: str, path: str, **request: Any) -> httpx.Response:
    """Ask; once more for what may be asked twice, as browsers do (RFC 9112, 9.3.1).

    The service closes a connection that was idle for five seconds, and on a machine that is too
    busy a client's pause may be as long: then its request meets the end of the connection.
    """
    try:
        return http.request(method, path, **request)
    except (httpx.ReadError, httpx.RemoteProtocolError):
        if method != "GET":
            raise
        return http.request(method, path, **request)


def _task(number: int) -> dict[str, Any]:
    """Return the body of a task: of twenty sixteen quick ones, one slow one, three flaky ones."""
    kind, args = "quick", {"number": number, "text": "x" * (number % 50)}
    if number % 20 == 7:
        kind, args = "slow", {"seconds": random.uniform(0.2, 3)}
    elif number % 20 in (3, 11, 17):
        kind, args = "flaky", {"number": number}
    return {"name": f"soak {number % 1000}", "kind": kind, "args": args}
