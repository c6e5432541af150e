"""Together: what several threads come to do at the same time is done by one statement.

Each thing alone costs a round trip, a commit and a wait for the disk. So the first thread that
comes to a line goes to the database; those that come meanwhile stand in line, and whoever is first
there takes the whole line along. Who comes alone waits for nobody.
"""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import PoolTimeout

from cluster.database import Pool

Key = TypeVar("Key", bound=Hashable)
Thing = TypeVar("Thing")
Answer = TypeVar("Answer")
Connection = psycopg.Connection[TupleRow]


class _Place(Generic[Thing, Answer]):
    """A thread's place in a line.

    Whoever takes it out of the line alone touches it: writes the answer, or nothing if it is to
    lead the next group. Then the turn is released, and its own thread goes on with it.
    """

    __slots__ = ("answer", "error", "thing", "turn")

    def __init__(self, thing: Thing) -> None:
        self.thing = thing
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.turn = threading.Lock()
        self.turn.acquire()


class Together(Generic[Key, Thing, Answer]):
    """Does things of one key together: one group of each key at a time.

    Args:
        pool: for the statements. Nobody waits, in line and for a connection together, for longer
            than it lets one wait.
        act: does the things of a group and returns their answers, none of them None, in their
            order. What it raises is told to the whole group, so it has to do all or nothing.
    """

    def __init__(
        self, pool: Pool, act: Callable[[Connection, Key, Sequence[Thing]], Sequence[Answer]]
    ) -> None:
        self._pool = pool
        self._act = act
        self._lock = threading.Lock()  # of the lines; nobody waits for anything while holding it
        self._lines: dict[Key, list[_Place[Thing, Answer]]] = {}  # there while a group is under way

    def do(self, key: Key, thing: Thing) -> Answer:
        """Do a thing, with those that have come meanwhile; return its answer.

        Raises:
            psycopg.OperationalError: nobody knows whether it was done.
            PoolTimeout: its turn, or a connection, did not come in time; nothing was done.
        """
        until = time.monotonic() + self._pool.timeout
        mine: _Place[Thing, Answer] = _Place(thing)
        with self._lock:
            line = self._lines.get(key)
            if line is None:
                self._lines[key] = []
            else:
                line.append(mine)
        if line is not None:
            self._wait(line, mine)
        if mine.error:
            raise mine.error  # the same one in all threads of the group
        return self._lead(key, mine, until) if mine.answer is None else mine.answer

    def _wait(self, line: list[_Place[Thing, Answer]], mine: _Place[Thing, Answer]) -> None:
        if mine.turn.acquire(timeout=self._pool.timeout):
            return
        with self._lock:
            if mine in line:  # else somebody took it just now: a statement's time ends that
                line.remove(mine)
                raise PoolTimeout("the line here is too long")
        mine.turn.acquire()

    def _lead(self, key: Key, mine: _Place[Thing, Answer], until: float) -> Answer:
        """Do a group's things; whatever happens, tell all of it and let the next one lead."""
        group = [mine]
        try:
            with self._pool.connection(max(until - time.monotonic(), 0.0)) as connection:
                with self._lock:  # as late as can be: who came meanwhile goes along
                    group += self._lines[key]
                    self._lines[key].clear()
                answers = self._act(connection, key, [each.thing for each in group])
            for each, answer in zip(group, answers, strict=True):
                each.answer = answer
        except BaseException as error:
            for each in group:
                each.error = error
            raise
        finally:
            self._hand_over(key)
            for each in group:
                each.turn.release()
        return answers[0]

    def _hand_over(self, key: Key) -> None:
        """Let the first in line lead, or close the line: both at once, so nobody is left there."""
        with self._lock:
            if self._lines[key]:
                self._lines[key].pop(0).turn.release()
            else:
                del self._lines[key]
