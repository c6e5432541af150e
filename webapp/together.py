"""Together: what several requests want at the same time is done by one statement.

Each thing alone costs a round trip, a commit and a wait for the disk. So the first request that
comes to a line goes to the database at once, alone; those that come meanwhile stand in line, and
when it is back the whole line goes as one group. Who stands in line holds no thread, if the server
can park requests.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

import falcon
import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import PoolTimeout

from cluster import tracing
from cluster.database import Away, Pool
from webapp.parking import Parked, Then, spot

Key = TypeVar("Key", bound=Hashable)
Thing = TypeVar("Thing")
Answer = TypeVar("Answer")
Connection = psycopg.Connection[TupleRow]

_LARGEST = 128
"""Things in a group: more would not be cheaper, and all of them wait for the last one's answer."""
_LOOK_SECONDS = 0.25
"""Between two looks for those who have waited for too long, while there are lines."""
_LEADERS = 4
"""Groups at a time, of different keys; and while one is answered, the next is in the database."""


class Untouched(PoolTimeout):
    """A turn, or a connection, did not come in time, and nothing was done."""


class _Place(Generic[Thing, Answer]):
    """A request's place in a line.

    Whoever takes it out of the line alone touches it, and writes the answer or the error. Then it
    is told, and whoever answers the request goes on with it.
    """

    __slots__ = ("answer", "error", "tell", "thing", "until")

    def __init__(self, thing: Thing, until: float) -> None:
        self.thing = thing
        self.until = until
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.tell: Callable[[], None] = _nobody

    def outcome(self) -> Answer:
        """Return the answer, or raise the error, which is the same one for the whole group."""
        if self.error:
            raise self.error
        assert self.answer is not None  # noqa: S101 - one of the two is there
        return self.answer


def _nobody() -> None:
    """Tell nobody: the thread that leads is the one that waits."""


class Together(Generic[Key, Thing, Answer]):
    """Does things of one key together: one group of each key at a time.

    Args:
        pool: for the statements. Nobody waits, in line and for a connection together, for longer
            than it lets one wait, and for the statement before.
        act: does the things of a group and returns their answers, none of them None, in their
            order. What it raises is told to the whole group, so it has to do all or nothing.
    """

    def __init__(
        self, pool: Pool, act: Callable[[Connection, Key, Sequence[Thing]], Sequence[Answer]]
    ) -> None:
        self._pool = pool
        self._act = act
        self._lock = threading.Lock()  # of the lines; nobody waits for anything while holding it
        # There while a group is under way.
        self._lines: dict[Key, list[_Place[Thing, Answer]]] = {}
        self._leaders = ThreadPoolExecutor(_LEADERS, "together")
        self._traced = tracing.configured()  # then nothing is parked: its span would end too soon
        self._busy = threading.Event()  # somebody may stand in line
        self._watcher: threading.Thread | None = None  # made by the first who does

    def do(
        self,
        request: falcon.Request,
        response: falcon.Response,
        key: Key,
        thing: Thing,
        then: Callable[[falcon.Response, Answer], None],
    ) -> None:
        """Do a thing, with those that have come meanwhile, and answer.

        Args:
            request: which wants it.
            response: to it; perhaps not the one that `then` gets.
            key: of the line.
            thing: for `act`.
            then: writes the answer, perhaps in another thread.

        Raises:
            Parked: the request is answered later; touch nothing of it.
            psycopg.OperationalError: nobody knows whether it was done.
            Untouched: its turn, or a connection, did not come in time; nothing was done.
        """
        mine: _Place[Thing, Answer] = _Place(thing, time.monotonic() + self._pool.timeout)
        told: threading.Event | None = None
        if later := None if self._traced else spot(request):
            mine.tell = partial(_answer, later, then, mine)
        else:
            told = threading.Event()
            mine.tell = told.set
        with self._lock:
            line = self._lines.get(key)
            if line is None:
                self._lines[key] = []
            else:
                line.append(mine)
                self._see_to_it()
        if line is None:
            mine.tell = _nobody
            self._lead(key, mine)
        elif told:
            told.wait()
        else:
            raise Parked
        then(response, mine.outcome())

    def _lead(self, key: Key, alone: _Place[Thing, Answer] | None = None) -> None:
        """Do the things of a group; whatever happens, tell all of it and let the next one go.

        Args:
            key: of the line.
            alone: who came first, and leads itself.
        """
        group = [alone] if alone else []
        try:
            with self._pool.connection(self._seconds_left(key, alone)) as connection:
                group += self._take(key)  # as late as can be: who came meanwhile goes along
                self._do(connection, key, group)
        except BaseException as error:  # noqa: BLE001 - those who wait have to be told
            if isinstance(error, PoolTimeout) and not isinstance(error, Away):
                group += self._late(key)  # the others have time left for the next leader
            elif not group:
                group = self._take(key)
            if isinstance(error, PoolTimeout):
                error = Untouched(*error.args)
            for each in group:
                each.error = each.error or error
        finally:
            self._let_go(key)
            _tell(group)

    def _do(self, connection: Connection, key: Key, group: list[_Place[Thing, Answer]]) -> None:
        if not group:
            return  # all were told that it took too long
        answers = self._act(connection, key, [each.thing for each in group])
        for each, answer in zip(group, answers, strict=True):
            each.answer = answer

    def _seconds_left(self, key: Key, alone: _Place[Thing, Answer] | None) -> float:
        """Return for how long the first one of a group may wait for a connection."""
        with self._lock:
            first = [alone] if alone else self._lines[key][:1]
        return max(first[0].until - time.monotonic(), 0.0) if first else 0.0

    def _take(self, key: Key) -> list[_Place[Thing, Answer]]:
        """Take those out of a line who are first."""
        with self._lock:
            line = self._lines[key]
            self._lines[key] = line[_LARGEST:]
        return line[:_LARGEST]

    def _late(self, *keys: Key) -> list[_Place[Thing, Answer]]:
        """Take those out of lines who have waited for too long; nothing was done for them."""
        late: list[_Place[Thing, Answer]] = []
        now = time.monotonic()
        with self._lock:
            for key in keys:
                line = self._lines.get(key)
                if not line:
                    continue
                self._lines[key] = [each for each in line if each.until > now]
                late += [each for each in line if each.until <= now]
        for each in late:
            each.error = Untouched("the line here is too long")
        return late

    def _see_to_it(self) -> None:
        """Let somebody watch how long it takes; with the lock."""
        if not self._watcher:
            self._watcher = threading.Thread(target=self._watch, name="together", daemon=True)
            self._watcher.start()
        if not self._busy.is_set():
            self._busy.set()

    def _watch(self) -> None:
        """Tell those who have waited for too long, whatever the leader waits for."""
        while True:
            self._busy.wait()
            self._busy.clear()
            time.sleep(_LOOK_SECONDS)
            with self._lock:
                keys = list(self._lines)
            if keys:
                self._busy.set()
            _tell(self._late(*keys))

    def _let_go(self, key: Key) -> None:
        """Send the next group off, or close the line: both at once, so nobody is left there."""
        with self._lock:
            if not self._lines[key]:
                del self._lines[key]
                return
        with suppress(RuntimeError):  # this process ends, and whoever waits with it
            self._leaders.submit(self._lead, key)


def _tell(group: Iterable[_Place[Any, Any]]) -> None:
    for each in group:
        tell, each.tell = each.tell, _nobody  # which may know the place: no cycle
        tell()


def _answer(
    later: Callable[[Then], None],
    then: Callable[[falcon.Response, Answer], None],
    place: _Place[Thing, Answer],
) -> None:
    """Answer a parked request."""
    later(lambda response: then(response, place.outcome()))
