"""The loads: clients of every kind, who write down what they meant and what they were told."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import psycopg

from tests.chaos.diary import STILL_SECONDS
from tests.chaos.fleet import Harbour

ACCOUNT = 2
FAR_TOO_MUCH = 10**12
CLIENT_PATIENCE_SECONDS = 20
_TRIES = 4
_SLOT = 0.05
"""Seconds that a client rests between two wishes."""
KINDS: Mapping[str, float] = {"count": 20, "long": 3, "flaky": 5, "poison": 0.15}
"""Of tasks that are asked for, and how often in proportion."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request and its answer; status 0 is no answer at all.

    Attributes:
        instance: who was asked.
        what: method and path.
        begun_at: by the database's clock.
    """

    instance: str
    what: str
    begun_at: datetime
    seconds: float
    status: int
    media: str
    body: Any


@dataclass(slots=True)
class Wish:
    """What a client wants, under one idempotency key, and all answers it got to that.

    Attributes:
        key: which the judge finds again in the database.
        amount: of a change of the balance; each amount is wished for once.
        kind: of a task.
    """

    key: str
    amount: int = 0
    kind: str = ""
    cancelled: bool = False
    answers: list[Answer] = field(default_factory=list)

    def told(self, *statuses: int) -> list[Answer]:
        """Return the answers of these statuses."""
        return [answer for answer in self.answers if answer.status in statuses]


@dataclass
class Loads:
    """All clients, and what they wrote down.

    Attributes:
        fleet: whom they ask.
        kinds: of tasks, see `KINDS`.
        changes: wishes for changes of the balance.
        tasks: wishes for tasks.
        answers: all of them, those of readers too.
        samples: what the observer saw that must not be.
        looks: how often the observer looked.
        stop: set when they are to end.
    """

    fleet: Harbour
    kinds: Mapping[str, float] = field(default_factory=lambda: KINDS)
    changes: list[Wish] = field(default_factory=list)
    tasks: list[Wish] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)
    looks: int = 0

    def __post_init__(self) -> None:
        self.stop = threading.Event()
        self._numbers = itertools.count(1)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let all of them work for the block."""
        clients = [self._change, self._change, self._change, self._ask, self._ask, self._read]
        loops = [*(self._client(each) for each in clients), self.observe]
        threads = [threading.Thread(target=each, daemon=True) for each in loops]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join(10 * CLIENT_PATIENCE_SECONDS)

    def _client(self, act: Callable[[httpx.Client], None]) -> Callable[[], None]:
        def loop() -> None:
            with httpx.Client(timeout=CLIENT_PATIENCE_SECONDS) as http:
                while not self.stop.wait(_SLOT):
                    act(http)

        return loop

    def _change(self, http: httpx.Client) -> None:
        """Pay in, take out, and now and then far too much."""
        number = next(self._numbers)
        amounts = [2 * number, -(2 * number + 1)]
        if number % 8 == 0:
            amounts.append(-FAR_TOO_MUCH - number)
        for amount in amounts:
            wish = Wish(uuid4().hex, amount=amount)
            self.changes.append(wish)
            path = f"/users/{ACCOUNT}/balance"
            self._insist(http, wish, path, {"amount": amount}, over=(200, 409))

    def _ask(self, http: httpx.Client) -> None:
        """Ask for a task of some kind, and call some of them off."""
        [kind] = random.choices(list(self.kinds), list(self.kinds.values()))
        wish = Wish(uuid4().hex, kind=kind)
        args = {"seconds": round(random.uniform(0.5, 6), 1)} if kind == "long" else {}
        self.tasks.append(wish)
        body = {"name": wish.key, "kind": kind, "args": args}
        self._insist(http, wish, "/tasks", body, over=(201,))
        if wish.told(201) and random.random() < 0.1:
            wish.cancelled = True
            task = wish.told(201)[0].body["task_id"]
            wish.answers.append(self.send(http, "DELETE", f"/tasks/{task}"))

    def _read(self, http: httpx.Client) -> None:
        for path in ("/jobs", "/tasks?limit=20", f"/users/{ACCOUNT}", "/workers"):
            self.send(http, "GET", path)

    def _insist(
        self, http: httpx.Client, wish: Wish, path: str, body: Any, over: tuple[int, ...]
    ) -> None:
        """Send it until there is an answer that says how it stands, a few times at most."""
        for _ in range(_TRIES):
            wish.answers.append(self.send(http, "POST", path, json=body, key=wish.key))
            if wish.told(*over) or self.stop.wait(0.1):
                return

    def send(
        self, http: httpx.Client, method: str, path: str, *, json: Any = None, key: str = ""
    ) -> Answer:
        """Send one request to one of those that serve; return and keep the answer."""
        instance = random.choice(self.fleet.serving)
        begun_at, begun = self.fleet.diary.now(), time.monotonic()
        status, media, body = 0, "", None
        try:
            url = f"http://127.0.0.1:{instance.port}{path}"
            headers = {"Idempotency-Key": key} if key else {}
            got = http.request(method, url, json=json, headers=headers)
            status, media, body = got.status_code, got.headers.get("content-type", ""), got.text
            body = got.json()
        except (httpx.HTTPError, ValueError) as error:
            body = body or repr(error)
        seconds = time.monotonic() - begun
        answer = Answer(instance.name, f"{method} {path}", begun_at, seconds, status, media, body)
        self.answers.append(answer)
        return answer

    def observe(self) -> None:
        """Look past all proxies for what must never be seen."""
        while not self.stop.wait(_SLOT):
            with (
                suppress(psycopg.OperationalError),
                psycopg.connect(self.fleet.diary.url, autocommit=True) as connection,
            ):
                while not self.stop.wait(_SLOT):
                    self.looks += 1
                    begun = time.monotonic()
                    self.samples += [str(row) for row in connection.execute(FORBIDDEN)]
                    if (took := time.monotonic() - begun) > STILL_SECONDS:
                        self.fleet.diary.stood_still(took)


FORBIDDEN = """
    SELECT 'a negative balance', id::text, balance::text FROM users WHERE balance < 0
    UNION ALL
    SELECT 'idle in transaction', application_name, query FROM pg_stat_activity
    WHERE state LIKE 'idle in transaction%' AND state_change < now() - interval '12 s'
    """
"""The server ends a session that is idle in a transaction after ten seconds, by our setting."""
