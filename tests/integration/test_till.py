"""The till: changes that meet are made together, and each gets what it would have got alone."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain
from queue import SimpleQueue
from typing import Any, cast

import falcon
import psycopg
import pytest
from falcon.testing import create_environ
from hypothesis import given
from hypothesis import strategies as st
from psycopg_pool import PoolTimeout

from cluster import database
from cluster.database import Away, Pool
from tests.eventually import eventually
from tests.integration.builders import (
    Web,
    execute,
    fuzz,
    query,
    terminate_others,
    together,
    value,
)
from webapp.parking import RESUME, THEN, Parked, Then
from webapp.till import Till, Verdict
from webapp.together import Untouched

MOST = 2**63 - 1
amounts = st.one_of(
    st.integers(-60, 40), st.sampled_from([MOST, MOST - 50, -MOST, -MOST - 1, 1 - MOST])
).filter(bool)


@pytest.fixture
def tills(url: str) -> Iterator[Pool]:
    """Yield a pool for a till, whose sessions a test may end."""
    with till_pool(url, size=4, timeout=30) as opened:
        yield opened


def till_pool(url: str, *, size: int, timeout: float) -> Pool:
    """Return a pool whose statements wait for locks as long as a test takes to look at them."""
    session = {"lock_timeout": "0", "statement_timeout": "0"}
    return database.pool(url, "ronin till", size=size, spare=size, timeout=timeout, session=session)


def one_by_one(balance: int, asked: list[int]) -> list[Verdict]:
    """Return what becomes of changes that come one after the other."""
    verdicts = []
    for amount in asked:
        name = "changed"
        if balance + amount < 0:
            name = "insufficient"
        elif balance + amount > MOST:
            name = "overflow"
        else:
            balance += amount
        verdicts.append(Verdict(name, balance))
    return verdicts


def change(till: Till, user: int, amount: int) -> Verdict:
    """Ask a till for a change, as a request does whose server can't park it."""
    told: list[Verdict] = []
    request = falcon.Request(create_environ())
    till.change(request, falcon.Response(), user, amount, lambda _, verdict: told.append(verdict))
    return told[0]


class Parking:
    """Changes whose requests are parked, and what their answers say, in the order they come."""

    def __init__(self, till: Till) -> None:
        self._till = till
        self._answers: SimpleQueue[Then] = SimpleQueue()
        self._verdicts: list[Verdict] = []

    def comes(self, amount: int, user: int = 1) -> None:
        """Ask for a change that finds another one under way."""
        environ = create_environ()
        environ[RESUME] = lambda environ: self._answers.put(environ[THEN])
        with pytest.raises(Parked):
            self._till.change(
                falcon.Request(environ),
                falcon.Response(),
                user,
                amount,
                lambda _, verdict: self._verdicts.append(verdict),
            )

    def answer(self) -> Verdict:
        """Return the next answer, or raise what it raises, once it is there."""
        self._answers.get(timeout=20)(falcon.Response())
        return self._verdicts.pop()


def lines(till: Till) -> dict[int, list[Any]]:
    """Return who stands in line, by user; without an entry, no group is under way."""
    return cast(dict[int, list[Any]], till._changes._lines)  # noqa: SLF001 - nothing else tells


def postings(pool: Pool, user: int) -> list[tuple[int, int]]:
    """Return amount and balance of each posting, checking that they add up to the balance."""
    found = query(pool, "SELECT amount, balance FROM ledger WHERE user_id = %s ORDER BY id", user)
    total = 0
    for amount, balance in found:
        total += amount
        assert balance == total >= 0
    assert value(pool, "SELECT balance FROM users WHERE id = %s", user) == total
    return cast(list[tuple[int, int]], found)


@contextmanager
def nobody_gets_at_users(url: str) -> Iterator[None]:
    """Keep all changes waiting while the block takes."""
    with psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE users")
        yield


class Crowd:
    """Changes in threads of their own, which come to a till in their order."""

    def __init__(self, till: Till, watch: Pool) -> None:
        self._till = till
        self._watch = watch
        self._threads = ThreadPoolExecutor(32)

    def comes(self, *asked: int, user: int = 1) -> list[Future[Verdict]]:
        """Return the first change when it waits for the database, the others when in line."""
        futures = []
        for amount in asked:
            before = self._in_line(user)
            futures.append(self._threads.submit(change, self._till, user, amount))
            eventually(lambda before=before: self._in_line(user) == before + 1)  # type: ignore[misc] # bound at once
        return futures

    def _in_line(self, user: int) -> int:
        if user not in lines(self._till):
            return -1
        eventually(lambda: value(self._watch, _WAITING))
        return len(lines(self._till)[user])


_WAITING = """
    SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE a.datname = current_database() AND a.application_name = 'ronin till' AND NOT l.granted
    """

_SESSIONS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'ronin till'
    """


@fuzz
@given(balance=st.one_of(st.integers(0, 80), st.just(MOST)), asked=st.lists(amounts, max_size=12))
def test_a_group_gets_what_its_changes_would_get_one_by_one(
    pool: Pool, balance: int, asked: list[int]
) -> None:
    execute(pool, "UPDATE users SET balance = %s", balance)
    execute(pool, "DELETE FROM ledger")
    verdicts, balances = query(pool, "CALL change_balances(1, %s::bigint[], NULL, NULL)", asked)[0]
    expected = one_by_one(balance, asked)
    assert [Verdict(*each) for each in zip(verdicts or (), balances or (), strict=True)] == expected
    assert query(pool, "SELECT amount, balance FROM ledger ORDER BY id") == [
        (amount, verdict.balance)
        for amount, verdict in zip(asked, expected, strict=True)
        if verdict.name == "changed"
    ]
    ends = expected[-1].balance if expected else balance
    assert value(pool, "SELECT balance FROM users") == ends


def test_those_that_meet_are_made_together_and_each_gets_its_own_answer(
    url: str, pool: Pool, tills: Pool
) -> None:
    crowd = Crowd(Till(tills), pool)
    asked = [-9_000, -2_000, -600, MOST, 50, -500, -1]
    with nobody_gets_at_users(url):
        futures = crowd.comes(*asked)
    assert [future.result() for future in futures] == one_by_one(10_000, asked)
    assert [amount for amount, _ in postings(pool, 1)] == [10_000, -9_000, -600, 50, -1]
    moments = "SELECT count(DISTINCT posted_at) FROM ledger WHERE amount <> 10000"
    assert value(pool, moments) == 2  # the first one alone, then all that had come meanwhile


def test_users_that_are_not_there_are_told_to_each_of_a_group(
    url: str, pool: Pool, tills: Pool
) -> None:
    till = Till(tills)
    crowd = Crowd(till, pool)
    with nobody_gets_at_users(url):
        futures = [*crowd.comes(-1, 2, MOST, user=7), *crowd.comes(-1, -2)]
    assert [future.result().name for future in futures] == ["unknown"] * 3 + ["changed"] * 2
    assert lines(till) == {}


def test_refusals_alone_lock_nothing(url: str, pool: Pool, tills: Pool) -> None:
    with psycopg.connect(url) as holder:
        holder.execute("SELECT FROM users FOR UPDATE")
        assert change(Till(tills), 1, -10_001) == Verdict("insufficient", 10_000)
    assert postings(pool, 1) == [(10_000, 10_000)]


@pytest.mark.parametrize("seed", range(3))
def test_two_tills_at_once_lose_and_double_nothing(url: str, pool: Pool, seed: int) -> None:
    """As of two workers: only the database stands between them."""
    execute(pool, "INSERT INTO users SELECT n, 0 FROM generate_series(2, 3) n")
    chance = random.Random(seed)
    changes = [
        [(chance.randint(1, 4), chance.choice([-900, -50, -7, 3, 40, 300])) for _ in range(25)]
        for _ in range(24)
    ]
    with ExitStack() as stack:
        pools = [stack.enter_context(till_pool(url, size=3, timeout=60)) for _ in range(2)]
        both = [Till(each) for each in pools]
        verdicts = together(
            len(changes),
            lambda number: [change(both[number % 2], *each) for each in changes[number]],
        )
    answered = list(zip(chain(*changes), chain(*verdicts), strict=True))
    for user in (1, 2, 3):
        posted = Counter(postings(pool, user))
        posted -= Counter([(10_000, 10_000)])
        told = [(n, v.balance) for (who, n), v in answered if who == user and v.name == "changed"]
        assert Counter(told) == posted
    refused = [(n, v.balance) for (_, n), v in answered if v.name == "insufficient"]
    assert all(balance is not None and 0 <= balance < -amount for amount, balance in refused)
    assert {v.name for (who, _), v in answered if who == 4} == {"unknown"}
    assert [lines(till) for till in both] == [{}, {}]


def test_a_session_that_is_ended_takes_its_group_along_and_nobody_else(
    url: str, pool: Pool
) -> None:
    with till_pool(url, size=1, timeout=30) as one:
        till = Till(one)
        crowd = Crowd(till, pool)
        with nobody_gets_at_users(url):
            first, *group = crowd.comes(-1, -2, -3, -4)
            end_sessions(pool)
            with pytest.raises(psycopg.OperationalError):
                first.result()
            eventually(lambda: not lines(till)[1] and value(pool, _WAITING))
            (last,) = crowd.comes(-5)
            end_sessions(pool)
            for future in group:
                with pytest.raises(psycopg.OperationalError):
                    future.result()
        assert last.result() == Verdict("changed", 9_995)
        assert change(till, 1, -6) == Verdict("changed", 9_989)
    assert postings(pool, 1) == [(10_000, 10_000), (-5, 9_995), (-6, 9_989)]


def end_sessions(pool: Pool) -> None:
    """End the till's sessions, and return when they are gone."""
    found = [row[0] for row in query(pool, _SESSIONS)]
    with pool.connection() as connection:
        terminate_others(connection, "ronin till")
    eventually(lambda: not {row[0] for row in query(pool, _SESSIONS)} & set(found))


def test_requests_are_answered_while_sessions_are_ended_all_the_time(
    url: str, pool: Pool, tills: Pool
) -> None:
    web = Web(tills)
    over = threading.Event()

    def act(number: int) -> list[tuple[int, Any]]:
        if number == 0:
            with psycopg.connect(url, autocommit=True) as connection:
                while not over.wait(0.02):
                    terminate_others(connection, "ronin till")
            return []
        try:
            answers = [web.change(-2) for _ in range(15)]
        finally:
            if counted() == 12:
                over.set()
        return [(answer.status, answer.body.get("balance")) for answer in answers]

    done = iter(range(1, 13))
    lock = threading.Lock()

    def counted() -> int:
        with lock:
            return next(done)

    answers = Counter(chain(*together(13, act)))
    assert {status for status, _ in answers} <= {200, 503}
    told = [balance for status, balance in answers.elements() if status == 200]
    assert len(told) == len(set(told))
    assert {(-2, balance) for balance in told} <= set(postings(pool, 1))
    assert eventually(lambda: web.change(-2).status == 200)


class Startling:
    """A pool whose first statement fails in a way that nobody has thought of."""

    def __init__(self, pool: Pool, startle: Callable[[], BaseException]) -> None:
        self._pool = pool
        self._errors = [startle()]
        self.timeout = pool.timeout
        self.gate = threading.Event()

    @contextmanager
    def connection(self, timeout: float) -> Iterator["Startling"]:
        """Lend itself as a connection, once the gate is open."""
        del timeout
        self.gate.wait()
        yield self

    def execute(self, *statement: Any, **how: Any) -> Any:
        """Fail, or execute."""
        if self._errors:
            raise self._errors.pop()
        with self._pool.connection() as connection:
            return connection.execute(*statement, **how)


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_an_error_nobody_expected_leaves_nobody_waiting(
    pool: Pool, tills: Pool, error: type[BaseException]
) -> None:
    startling = Startling(tills, error)
    till = Till(cast(Pool, startling))
    with ThreadPoolExecutor(5) as threads:
        futures = [threads.submit(change, till, 1, -2) for _ in range(5)]
        eventually(lambda: len(lines(till)[1]) == 4)
        startling.gate.set()
        assert [type(future.exception()) for future in futures] == [error] * 5
    assert change(till, 1, -2) == Verdict("changed", 9_998)
    assert postings(pool, 1) == [(10_000, 10_000), (-2, 9_998)]


class Refusing:
    """A pool that asks nobody for a connection, as the server is away."""

    timeout = 30

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked = 0

    def connection(self, timeout: float) -> None:
        """Refuse, once the gate is open."""
        del timeout
        self.gate.wait()
        self.asked += 1
        raise Away


def test_while_the_server_is_away_a_line_is_told_and_not_tried_again_and_again() -> None:
    refusing = Refusing()
    till = Till(cast(Pool, refusing))
    with ThreadPoolExecutor(5) as threads:
        futures = [threads.submit(change, till, 1, -2) for _ in range(5)]
        eventually(lambda: len(lines(till)[1]) == 4)
        refusing.gate.set()
        assert [type(future.exception()) for future in futures] == [Untouched] * 5
    assert refusing.asked == 2  # by who came first, and by one for all of the line


def test_nobody_stands_in_line_longer_than_the_pool_lets_one_wait(url: str, pool: Pool) -> None:
    with till_pool(url, size=1, timeout=0.5) as short:
        short.wait()
        till = Till(short)
        with nobody_gets_at_users(url):
            (first,) = Crowd(till, pool).comes(-1)
            with pytest.raises(PoolTimeout):
                change(till, 1, -2)
            assert lines(till) == {1: []}
        assert first.result() == Verdict("changed", 9_999)
        assert change(till, 1, -4) == Verdict("changed", 9_995)
    assert postings(pool, 1) == [(10_000, 10_000), (-1, 9_999), (-4, 9_995)]


def test_who_is_parked_gets_its_own_answer_and_in_time(url: str, pool: Pool) -> None:
    """Of more than a group has; and with nobody left who waits."""
    chance = random.Random(1)
    asked = [chance.choice([-90, -7, 3, 40]) for _ in range(300)]
    with till_pool(url, size=1, timeout=30) as one:
        till = Till(one)
        parking = Parking(till)
        with nobody_gets_at_users(url):
            (first,) = Crowd(till, pool).comes(-1)
            for amount in asked:
                parking.comes(amount)
        expected = one_by_one(10_000, [-1, *asked])
        assert [first.result(), *(parking.answer() for _ in asked)] == expected
        assert lines(till) == {}
    assert value(pool, "SELECT count(DISTINCT posted_at) FROM ledger WHERE amount <> 10000") == 4


def test_who_is_parked_is_told_when_it_takes_too_long(url: str, pool: Pool) -> None:
    with till_pool(url, size=1, timeout=0.5) as short:
        short.wait()
        till = Till(short)
        parking = Parking(till)
        with nobody_gets_at_users(url):
            (first,) = Crowd(till, pool).comes(-1)
            for amount in (-2, -3):
                parking.comes(amount)
            for _ in range(2):
                with pytest.raises(PoolTimeout):
                    parking.answer()
            assert lines(till) == {1: []}
            parking.comes(-4)
        assert first.result() == Verdict("changed", 9_999)
        eventually(lambda: not lines(till))
    assert postings(pool, 1)[:2] == [(10_000, 10_000), (-1, 9_999)]
