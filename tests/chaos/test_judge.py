"""The judge is judged: each violation, planted in sound data, is found by the check for it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.chaos.case import Case
from tests.chaos.diary import CRASHED, EVERYBODY, KILLED_SECONDS, LATE, SLOW, Diary, Excuse, Loss
from tests.chaos.judge import CHECKS, judge
from tests.chaos.loads import ACCOUNT, Answer, Wish
from tests.chaos.tables import SCHEMA
from tests.system.facts import rows

KILLED, HEALTHY = "i:1", "i:2"


class Scene:
    """A small database after a run in which all went well, though a worker was killed.

    There is a task that counted, a task whose first attempt died, a change of the balance that
    was made, one that was refused, and for each of these a client's wish.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        rows(url, SCHEMA)
        self.diary = Diary(url, folder)
        self.epoch = self.diary.now() - timedelta(minutes=10)
        self.counted, self.long = uuid4(), uuid4()
        self.fence = 0
        self.token = self.attempt(self.counted, "count", 1, 0, 1, closing="counted")
        rows(url, "UPDATE counter SET value = 1")
        self.count(self.counted, self.token, 0.5)
        lost = self.attempt(self.long, "long", 1, 0, 2, worker=KILLED, outcome="crashed")
        self.body(self.long, lost, KILLED, 0, None)
        token = self.attempt(self.long, "long", 2, 2, 5, closing="long")
        self.body(self.long, token, HEALTHY, 2, 5)
        self.diary.losses.append(Loss(KILLED, self.at(1.8), KILLED_SECONDS))
        self.diary.excuses.append(Excuse(KILLED, (CRASHED,), self.at(1.8)))
        rows(url, "INSERT INTO users VALUES (%(user)s, 0)", user=ACCOUNT)
        self.post(7)
        self.answers = [self.answer(200), self.answer(503)]
        self.tasks = [
            Wish("counted", kind="count", answers=[self.answer(201, task_id=str(self.counted))]),
            Wish("long", kind="long", answers=[self.answer(201, task_id=str(self.long))]),
        ]
        self.changes = [
            Wish("in", amount=7, answers=[self.answer(503), self.answer(200, balance=7)]),
            Wish("out", amount=-99, answers=[self.answer(409, balance=7)]),
        ]
        self.samples: list[str] = []

    def at(self, second: float) -> datetime:
        """Return a moment of the run."""
        return self.epoch + timedelta(seconds=second)

    def attempt(
        self,
        run: UUID,
        job: str,
        number: int,
        since: float,
        until: float,
        *,
        worker: str = HEALTHY,
        outcome: str = "completed",
        closing: str | None = None,
    ) -> UUID:
        """Write an attempt into the history; return its token."""
        self.fence += 1
        token = uuid4()
        rows(
            self.url,
            """
            INSERT INTO history (run_id, job, attempt, token, fence, worker, due_at, started_at,
                finished_at, outcome, closing, name)
            VALUES (%(run)s, %(job)s, %(number)s, %(token)s, %(fence)s, %(worker)s, %(due)s,
                %(since)s, %(until)s, %(outcome)s, %(name)s::text IS NOT NULL, %(name)s)
            """,
            run=run,
            job=job,
            number=number,
            token=token,
            fence=self.fence,
            worker=worker,
            due=self.epoch,
            since=self.at(since),
            until=self.at(until),
            outcome=outcome,
            name=closing,
        )
        return token

    def count(self, run: UUID, token: UUID, second: float) -> None:
        """Move the counter for a task; the number on it is another matter."""
        query = "INSERT INTO counted VALUES (%(run)s, %(token)s, %(at)s)"
        rows(self.url, query, run=run, token=token, at=self.at(second))

    def body(self, run: UUID, token: UUID, worker: str, since: float, until: float | None) -> None:
        """Note when an attempt's body was at work."""
        rows(
            self.url,
            "INSERT INTO body VALUES (%(run)s, %(token)s, %(worker)s, %(since)s, %(until)s)",
            run=run,
            token=token,
            worker=worker,
            since=self.at(since),
            until=None if until is None else self.at(until),
        )

    def post(self, amount: int) -> None:
        """Make a posting, and change the balance by it."""
        query = "UPDATE users SET balance = balance + %(amount)s WHERE id = %(user)s"
        rows(self.url, query, user=ACCOUNT, amount=amount)
        query = """
            INSERT INTO ledger (user_id, amount, balance)
            SELECT id, %(amount)s, balance FROM users WHERE id = %(user)s
            """
        rows(self.url, query, user=ACCOUNT, amount=amount)

    def answer(self, status: int, media: str = "application/json", **body: Any) -> Answer:
        """Return what a client was told."""
        return Answer("i", "GET /", self.at(3), 0.1, status, media, body)

    def violated(self) -> set[str]:
        """Return the checks that find something."""
        case = Case(
            self.url, self.diary, self.changes, self.tasks, self.answers, samples=self.samples
        )
        return {violation.check for violation in judge(case)}


@pytest.fixture
def scene(url: str, tmp_path: Path) -> Scene:
    """Return a scene in which nothing is wrong."""
    return Scene(url, tmp_path)


def test_judge_finds_nothing_where_nothing_is_wrong(scene: Scene) -> None:
    assert scene.violated() == set()


def overlap(scene: Scene) -> None:
    scene.attempt(scene.counted, "count", 2, 0.5, 0.9, outcome="failed")


def second_completion(scene: Scene) -> None:
    scene.attempt(scene.counted, "count", 2, 2, 3)


def lost_task(scene: Scene) -> None:
    rows(scene.url, "DELETE FROM history WHERE name = 'long'")


def unfinished_task(scene: Scene) -> None:
    rows(scene.url, "DELETE FROM history WHERE name = 'long'")
    query = """
        INSERT INTO run (id, job, scheduled, due_at, not_before, attempt, name, args)
        VALUES (%(id)s, 'long', false, now(), now(), 1, 'long', '{}')
        """
    rows(scene.url, query, id=scene.long)


def task_twice(scene: Scene) -> None:
    scene.attempt(uuid4(), "long", 1, 7, 8, closing="long")


def two_ids_for_one_wish(scene: Scene) -> None:
    scene.tasks[1].answers.append(scene.answer(201, task_id=str(uuid4())))


def task_of_nobody(scene: Scene) -> None:
    scene.attempt(uuid4(), "long", 1, 7, 8, closing="of nobody")


def lost_posting(scene: Scene) -> None:
    rows(scene.url, "DELETE FROM ledger WHERE user_id = 2")
    rows(scene.url, "UPDATE users SET balance = 0 WHERE id = 2")


def double_posting(scene: Scene) -> None:
    scene.post(7)


def posting_of_a_refused_change(scene: Scene) -> None:
    scene.post(100)
    scene.changes.append(Wish("more", amount=100, answers=[scene.answer(200)]))
    scene.post(-99)


def posting_of_nobody(scene: Scene) -> None:
    scene.post(5)


def both_answers_to_one_key(scene: Scene) -> None:
    scene.changes[0].answers.append(scene.answer(409, balance=0))


def balance_that_does_not_add_up(scene: Scene) -> None:
    rows(scene.url, "UPDATE users SET balance = balance + 1 WHERE id = 2")


def refusal_without_a_reason(scene: Scene) -> None:
    scene.changes[1].answers = [scene.answer(409, balance=99)]


def write_after_the_cancel(scene: Scene) -> None:
    told = scene.answer(202, task_id=str(scene.counted))
    scene.tasks[0].answers.append(replace(told, what="DELETE", begun_at=scene.at(0)))


def start_after_the_cancel(scene: Scene) -> None:
    told = scene.answer(200, task_id=str(scene.long))
    scene.tasks[1].answers.append(replace(told, what="DELETE", begun_at=scene.at(1)))


def lost_count(scene: Scene) -> None:
    rows(scene.url, "UPDATE counter SET value = 0")
    rows(scene.url, "DELETE FROM counted")


def double_count(scene: Scene) -> None:
    rows(scene.url, "UPDATE counter SET value = 2")
    scene.count(scene.counted, scene.token, 0.6)


def counter_ahead(scene: Scene) -> None:
    rows(scene.url, "UPDATE counter SET value = 2")


def write_after_the_end(scene: Scene) -> None:
    rows(scene.url, "UPDATE counted SET at = at + interval '1 min'")


def death_of_a_healthy_worker(scene: Scene) -> None:
    scene.attempt(uuid4(), "flaky", 1, 0, 2, outcome="crashed")


def death_before_the_fault(scene: Scene) -> None:
    scene.attempt(uuid4(), "flaky", 1, 0, 1, worker=KILLED, outcome="crashed")


def interruption_of_a_healthy_worker(scene: Scene) -> None:
    scene.attempt(uuid4(), "flaky", 1, 0, 2, outcome="interrupted")


def late_take_over(scene: Scene) -> None:
    scene.attempt(uuid4(), "flaky", 1, 0, 60, worker=KILLED, outcome="crashed")


def overlap_of_bodies(scene: Scene) -> None:
    run = uuid4()
    scene.body(run, uuid4(), HEALTHY, 0, 5)
    scene.body(run, uuid4(), HEALTHY, 3, 8)


def overlap_of_the_older_that_began_later(scene: Scene) -> None:
    # Whoever was killed is excused; but it is the younger, and the healthy one should have heard.
    run = uuid4()
    older = scene.attempt(run, "flaky", 1, 0, 5, outcome="failed")
    younger = scene.attempt(run, "flaky", 2, 5, 8, worker=KILLED, outcome="crashed")
    scene.body(run, younger, KILLED, 5, 8)
    scene.body(run, older, HEALTHY, 6, 7)


def negative_balance(scene: Scene) -> None:
    scene.samples.append("a negative balance")


def server_error(scene: Scene) -> None:
    scene.answers.append(scene.answer(500))


def web_page(scene: Scene) -> None:
    scene.answers.append(scene.answer(503, media="text/html"))


def drop(scene: Scene) -> None:
    scene.answers.append(scene.answer(0))


def hang(scene: Scene) -> None:
    scene.answers.append(replace(scene.answer(200), seconds=11))


HISTORY = "The history keeps the engine's invariants."
CHANGES = "Acknowledged changes are posted once, refused ones never, unknown ones once at most."
TASKS = "Each acknowledged task is one task with one end; an unknown one is one at most."
COUNTER = "The guarded counter has moved once for each run that completed, and for no other."
CANCELS = "Nothing is written for a task after its cancelling was acknowledged."
FENCED = "No guarded write carries a token that had been taken away before."
DEATHS = "Nobody is declared dead whom no fault has touched."


def an_instance_that_gave_up(scene: Scene) -> None:
    scene.diary.gave_up.append("i")


PLANTED: dict[Callable[[Scene], None], str] = {
    an_instance_that_gave_up: "No instance gives up at its start, whatever it meets there.",
    overlap: HISTORY,
    second_completion: HISTORY,
    balance_that_does_not_add_up: HISTORY,
    lost_task: TASKS,
    unfinished_task: TASKS,
    task_twice: TASKS,
    two_ids_for_one_wish: TASKS,
    task_of_nobody: TASKS,
    lost_posting: CHANGES,
    double_posting: CHANGES,
    posting_of_a_refused_change: CHANGES,
    posting_of_nobody: CHANGES,
    both_answers_to_one_key: CHANGES,
    refusal_without_a_reason: "A change is refused only when the balance is too small for it.",
    write_after_the_cancel: CANCELS,
    start_after_the_cancel: CANCELS,
    lost_count: COUNTER,
    double_count: COUNTER,
    counter_ahead: COUNTER,
    write_after_the_end: FENCED,
    death_of_a_healthy_worker: DEATHS,
    death_before_the_fault: DEATHS,
    interruption_of_a_healthy_worker: "No run is interrupted whose worker was neither told to"
    " leave nor cut off.",
    late_take_over: "What a killed or frozen worker held is taken over in time.",
    overlap_of_bodies: "Bodies of one run are at work at once only if a fault kept the older one"
    " from hearing.",
    overlap_of_the_older_that_began_later: "Bodies of one run are at work at once only if a fault"
    " kept the older one from hearing.",
    negative_balance: "No sample shows a negative balance or a forgotten transaction.",
    server_error: "Every answer is 2xx, 4xx or 503 with JSON.",
    web_page: "Every answer is 2xx, 4xx or 503 with JSON.",
    drop: "Every request to an instance that lives is answered.",
    hang: "Nobody waits longer than ten seconds for an answer.",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_judge_finds(scene: Scene, plant: Callable[[Scene], None]) -> None:
    plant(scene)
    assert PLANTED[plant] in scene.violated()


def test_every_check_has_found_something() -> None:
    assert {check.__doc__ for check in CHECKS} == set(PLANTED.values())


def test_an_answer_that_hangs_at_a_frozen_instance_is_excused(scene: Scene) -> None:
    hang(scene)
    scene.diary.excuses.append(Excuse("i:", (SLOW,), scene.at(0), scene.at(5)))
    assert scene.violated() == set()


def test_a_take_over_has_to_wait_while_the_database_is_away(scene: Scene) -> None:
    late_take_over(scene)
    scene.diary.excuses.append(Excuse(EVERYBODY, (LATE,), scene.at(2), scene.at(58)))
    assert scene.violated() == set()
