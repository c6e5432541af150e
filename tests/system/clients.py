"""Clients that change a balance all the time, and remember every answer."""

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import uuid4

import httpx

from tests.eventually import eventually
from tests.system.facts import Row, rows
from tests.system.gunicorns import Instance


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got for a change of the balance; status 0 is no answer at all."""

    amount: int
    key: str | None
    status: int
    media: str
    body: dict[str, Any]
    seconds: float

    @property
    def possible_postings(self) -> set[int]:
        """How often the change may stand in the ledger, after this answer."""
        if self.status == 200:
            return {1}
        if self.status == 409 or "Nothing was changed" in str(self.body.get("detail")):
            return {0}
        return {0, 1}


def change(http: httpx.Client, amount: int, key: str | None) -> Answer:
    """Change the balance of user 1 once."""
    begun = time.monotonic()
    headers = {"Idempotency-Key": key} if key else {}
    try:
        got = http.post("/users/1/balance", json={"amount": amount}, headers=headers)
        status, media, body = got.status_code, got.headers["content-type"], got.json()
    except (httpx.HTTPError, ValueError) as error:
        status, media, body = 0, "", {"detail": repr(error)}
    return Answer(amount, key, status, media, body, time.monotonic() - begun)


@dataclass
class Clients:
    """Clients that change the balance of user 1 without a pause, each amount once in all.

    Attributes:
        instance: where they go.
        count: how many at once; every second of them sends an Idempotency-Key.
        number: of the first amount; amounts of several groups must not meet.
        answers: what they got so far.
    """

    instance: Instance
    count: int = 4
    number: int = 1
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._numbers = itertools.count(self.number)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(bool(n % 2),)) for n in range(self.count)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def statuses(self) -> set[int]:
        """Return the different answers so far."""
        return {answer.status for answer in self.answers}

    def await_answers(self, number: int, status: int = 200) -> None:
        """Wait until so many more answers of a status are there."""
        before = len(self.answers)
        eventually(lambda: sum(a.status == status for a in self.answers[before:]) >= number)

    def _work(self, keyed: bool) -> None:
        with httpx.Client(base_url=self.instance.http.base_url, timeout=30) as http:
            while not self._stop.is_set():
                number = next(self._numbers)
                for amount in (1_000_000 + number, -number):
                    key = uuid4().hex if keyed else None
                    self.answers.append(change(http, amount, key))


def misposted(url: str, answers: Sequence[Answer]) -> list[tuple[Answer, list[Row]]]:
    """Return the answers that the ledger contradicts, with what stands there."""
    posted: dict[int, list[Row]] = {}
    for amount, balance in rows(url, "SELECT amount, balance FROM ledger WHERE user_id = 1"):
        posted.setdefault(amount, []).append((amount, balance))
    wrong = []
    for answer in answers:
        found = posted.get(answer.amount, [])
        balance_fits = answer.status != 200 or found == [(answer.amount, answer.body["balance"])]
        if len(found) not in answer.possible_postings or not balance_fits:
            wrong.append((answer, found))
    return wrong
