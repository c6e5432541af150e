"""The till: changes of one balance that come at the same time are made together.

Each change alone costs a round trip, two commits and a wait for the disk. So the first thread that
comes to a balance goes to the database; those that come meanwhile stand in line, and whoever is
first there takes the whole line along. Who comes alone waits for nobody.
"""

import threading
import time
from typing import NamedTuple

from psycopg_pool import PoolTimeout

from cluster.database import Pool

_CHANGES = "CALL change_balances(%s::bigint, %s::bigint[], NULL, NULL)"


class Verdict(NamedTuple):
    """What became of a change.

    Attributes:
        name: `changed`, `insufficient`, `overflow` or `unknown`.
        balance: right after it; None if there is no such user.
    """

    name: str
    balance: int | None


class _Change:
    """A change of one thread's, which waits for its turn.

    Whoever takes it out of the line alone touches it: writes what became of it, or nothing if it
    is to lead the next group. Then the turn is released, and its own thread goes on with it.
    """

    __slots__ = ("amount", "error", "turn", "verdict")

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.verdict: Verdict | None = None
        self.error: BaseException | None = None
        self.turn = threading.Lock()
        self.turn.acquire()


class Till:
    """Makes changes of balances: one group of each balance at a time.

    Args:
        pool: for its statements. Nobody waits, in line and for a connection together, for longer
            than it lets one wait.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()  # of the lines; nobody waits for anything while holding it
        self._lines: dict[int, list[_Change]] = {}  # by user; there while a group is under way

    def change(self, user: int, amount: int) -> Verdict:
        """Change a balance; return when that is on disk, or refused.

        Raises:
            psycopg.OperationalError: nobody knows whether it was changed.
            PoolTimeout: its turn, or a connection, did not come in time; nothing was changed.
        """
        until = time.monotonic() + self._pool.timeout
        mine = _Change(amount)
        with self._lock:
            line = self._lines.get(user)
            if line is None:
                self._lines[user] = []
            else:
                line.append(mine)
        if line is not None:
            self._wait(line, mine)
        if mine.error:
            raise mine.error  # the same one in all threads of the group
        return mine.verdict or self._lead(user, mine, until)

    def _wait(self, line: list[_Change], mine: _Change) -> None:
        if mine.turn.acquire(timeout=self._pool.timeout):
            return
        with self._lock:
            if mine in line:  # else somebody took it just now: a statement's time ends that
                line.remove(mine)
                raise PoolTimeout("the line at this balance is too long")
        mine.turn.acquire()

    def _lead(self, user: int, mine: _Change, until: float) -> Verdict:
        """Make a group's changes; whatever happens, tell all of it and let the next one lead."""
        group = [mine]
        try:
            with self._pool.connection(max(until - time.monotonic(), 0.0)) as connection:
                with self._lock:  # as late as can be: who came meanwhile goes along
                    group += self._lines[user]
                    self._lines[user].clear()
                amounts = f"{{{','.join(str(each.amount) for each in group)}}}"
                row = connection.execute(_CHANGES, (user, amounts), prepare=True).fetchone()
            assert row  # noqa: S101 - a procedure with INOUT parameters returns one row
            verdicts = [Verdict(*each) for each in zip(*row, strict=True)]
            for each, verdict in zip(group, verdicts, strict=True):
                each.verdict = verdict
        except BaseException as error:
            for each in group:
                each.error = error
            raise
        finally:
            self._hand_over(user)
            for each in group:
                each.turn.release()
        return verdicts[0]

    def _hand_over(self, user: int) -> None:
        """Let the first in line lead, or close the line: both at once, so nobody is left there."""
        with self._lock:
            if self._lines[user]:
                self._lines[user].pop(0).turn.release()
            else:
                del self._lines[user]
