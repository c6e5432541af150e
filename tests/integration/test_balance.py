"""The balance: never negative, the sum of its postings, changed once for each request."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator

import psycopg
import pytest

from cluster import database
from cluster.database import Pool
from tests.integration.builders import Web, execute, query, terminate_others, together, value

INT8 = 2**63


@pytest.fixture
def web(pool: Pool) -> Web:
    """Return the application over this test's database."""
    return Web(pool)


@pytest.fixture
def wide(url: str) -> Iterator[Pool]:
    """Yield a pool in which nobody waits for a connection too long."""
    with database.pool(url, "ronin wide", size=8, timeout=60) as opened:
        yield opened


def balance(pool: Pool) -> int:
    """Return the balance of the first user, checking that its postings add up to it."""
    found, posted = query(
        pool,
        "SELECT u.balance, sum(l.amount) FROM users u JOIN ledger l ON l.user_id = u.id"
        " WHERE u.id = 1 GROUP BY u.id",
    )[0]
    assert found == posted
    return int(found)


def test_a_withdrawal_answers_with_the_new_balance(web: Web, pool: Pool) -> None:
    answer = web.change(-2)
    assert (answer.status, answer.body) == (200, {"userId": 1, "balance": 9998})
    assert web.get("/users/1").body == {"userId": 1, "balance": 9998}
    assert balance(pool) == 9998


def test_a_deposit_raises_the_balance(web: Web, pool: Pool) -> None:
    assert web.change(5).body == {"userId": 1, "balance": 10005}
    assert balance(pool) == 10005


def test_the_last_of_it_can_be_withdrawn(web: Web, pool: Pool) -> None:
    assert web.change(-10_000).body["balance"] == 0
    assert balance(pool) == 0


@pytest.mark.parametrize("amount", [-10_001, -INT8])
def test_more_than_there_is_is_refused_with_the_balance(web: Web, pool: Pool, amount: int) -> None:
    answer = web.change(amount)
    assert (answer.status, answer.problem) == (409, "insufficient-funds")
    assert answer.body["type"] == "urn:ronin:problem:insufficient-funds"
    assert (answer.body["userId"], answer.body["balance"]) == (1, 10_000)
    assert "insufficient funds" in answer.body["detail"]
    assert balance(pool) == 10_000


@pytest.mark.parametrize("user", [0, 2, -1, INT8 - 1, -INT8])
def test_an_unknown_user_is_not_found(web: Web, user: int) -> None:
    assert web.change(-2, user=user).problem == "unknown-user"
    assert web.get(f"/users/{user}").problem == "unknown-user"
    assert web.change(-2, user=user).status == web.get(f"/users/{user}").status == 404


@pytest.mark.parametrize("user", [INT8, -INT8 - 1, "one", "1.0", "1e3", "0x1", "1%00"])
def test_a_user_that_is_no_int8_is_not_found(web: Web, user: object) -> None:
    answer = web.get(f"/users/{user}")
    assert (answer.status, answer.problem) == (404, "not-found")


@pytest.mark.parametrize("amount", [INT8 - 1, INT8 - 10_000])
def test_an_overflow_is_refused_and_changes_nothing(web: Web, pool: Pool, amount: int) -> None:
    answer = web.change(amount)
    assert (answer.status, answer.problem) == (422, "invalid-field")
    assert [wrong["field"] for wrong in answer.body["errors"]] == ["amount"]
    assert balance(pool) == 10_000


def test_the_largest_balance_can_be_reached(web: Web, pool: Pool) -> None:
    assert web.change(INT8 - 1 - 10_000).body["balance"] == INT8 - 1
    assert web.change(1).status == 422
    assert balance(pool) == INT8 - 1


@pytest.mark.parametrize("amount", [0, INT8, -INT8 - 1, 1.5, 2.0, True, "5", "abc", None, [], {}])
def test_what_is_no_amount_is_refused_and_changes_nothing(
    web: Web, pool: Pool, amount: object
) -> None:
    answer = web.change(amount)
    assert (answer.status, answer.problem) == (422, "invalid-field")
    assert "amount" in answer.body["detail"]
    assert balance(pool) == 10_000


def test_the_schema_itself_refuses_a_negative_balance(pool: Pool) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="balance_never_negative"):
        execute(pool, "UPDATE users SET balance = -1 WHERE id = 1")


def test_withdrawals_at_once_end_exactly_at_nothing(wide: Pool) -> None:
    execute(wide, "UPDATE users SET balance = 1000")
    execute(wide, "INSERT INTO ledger (user_id, amount, balance) VALUES (1, -9000, 1000)")
    web = Web(wide)
    answers = together(50, lambda _: [web.change(-2) for _ in range(20)])
    found = Counter(answer.status for answer in itertools.chain(*answers))
    assert found == {200: 500, 409: 500}
    assert balance(wide) == 0


def test_every_success_at_once_saw_a_balance_of_its_own(wide: Pool) -> None:
    web = Web(wide)
    answers = together(20, lambda _: [web.change(-2) for _ in range(5)])
    seen = sorted(answer.body["balance"] for answer in itertools.chain(*answers))
    assert seen == list(range(9800, 10_000, 2))


def test_deposits_and_withdrawals_at_once_add_up(wide: Pool) -> None:
    web = Web(wide)
    together(20, lambda number: [web.change(number - 9 or 1) for _ in range(10)])
    assert balance(wide) == 10_000 + 10 * (sum(range(-9, 11)) + 1)


def test_the_ledger_tells_the_balance_after_each_posting(wide: Pool) -> None:
    web = Web(wide)
    together(10, lambda number: [web.change(number - 20) for _ in range(10)])
    wrong = query(
        wide,
        "SELECT id FROM (SELECT id, balance, sum(amount) OVER (ORDER BY id) AS total"
        " FROM ledger) l WHERE balance <> total",
    )
    assert wrong == []


def test_a_retry_of_a_success_answers_the_same_and_changes_nothing(web: Web, pool: Pool) -> None:
    first = web.change(-2, key="a")
    web.change(-3)
    again = web.change(-2, key="a")
    assert (again.status, again.body) == (first.status, first.body)
    assert balance(pool) == 9995


def test_a_retry_of_a_refusal_answers_the_same_though_there_is_enough_now(
    web: Web, pool: Pool
) -> None:
    first = web.change(-10_001, key="a")
    web.change(500)
    again = web.change(-10_001, key="a")
    assert (again.status, again.body) == (first.status, first.body)
    assert (again.problem, balance(pool)) == ("insufficient-funds", 10_500)


def test_a_retry_for_an_unknown_user_answers_the_same(web: Web) -> None:
    answers = [web.change(-2, user=7, key="a") for _ in range(2)]
    assert [answer.problem for answer in answers] == ["unknown-user"] * 2


@pytest.mark.parametrize(("amount", "user"), [(-3, 1), (2, 1), (-2, 2)])
def test_a_key_is_refused_for_a_different_request(
    web: Web, pool: Pool, amount: int, user: int
) -> None:
    web.change(-2, key="a")
    answer = web.change(amount, user=user, key="a")
    assert (answer.status, answer.problem) == (422, "idempotency-key-reused")
    assert balance(pool) == 9998


def test_an_overflow_with_a_key_answers_the_same_again(web: Web, pool: Pool) -> None:
    assert [web.change(INT8 - 1, key="a").status for _ in range(2)] == [422, 422]
    assert balance(pool) == 10_000


def test_a_wrong_body_uses_no_key_up(web: Web) -> None:
    assert web.change("x", key="a").status == 422
    assert web.change(-2, key="a").status == 200


@pytest.mark.parametrize("amount", [-2, -20_000])
def test_twins_at_once_have_one_effect_and_one_answer(wide: Pool, amount: int) -> None:
    web = Web(wide)
    answers = together(20, lambda _: web.change(amount, key="a"))
    assert len({(answer.status, str(answer.body)) for answer in answers}) == 1
    assert balance(wide) == (9998 if amount == -2 else 10_000)


def test_a_key_outlives_a_failure_of_the_database_between_two_tries(web: Web, pool: Pool) -> None:
    web.change(-2, key="a")
    with pool.connection() as connection:
        terminate_others(connection, "ronin test")
    answers = [web.change(-2, key="a") for _ in range(12)]
    assert {answer.status for answer in answers} <= {200, 503}
    assert web.change(-2, key="a").body == {"userId": 1, "balance": 9998}
    assert balance(pool) == 9998


def test_sessions_that_are_killed_all_the_time_lose_and_double_nothing(
    url: str, pool: Pool
) -> None:
    done = threading.Event()

    def kill() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not done.wait(0.02):
                terminate_others(connection, "ronin killed")

    killer = threading.Thread(target=kill)
    killer.start()
    with database.pool(url, "ronin killed", size=8, timeout=30) as victims:
        web = Web(victims)

        def insist(number: int) -> int:
            keys = [f"{number}-{n}" for n in range(10)]
            return sum(
                next(n for n in itertools.count(1) if web.change(-2, key=key).status == 200)
                for key in keys
            )

        tries = together(8, insist)
        done.set()
        killer.join()
    assert balance(pool) == 10_000 - 2 * 80
    assert sum(tries) >= 80


def test_what_is_acknowledged_and_what_is_not_adds_up_without_keys(url: str, pool: Pool) -> None:
    with database.pool(url, "ronin killed", size=8, timeout=30) as victims:
        web = Web(victims)

        def act(number: int) -> list[int]:
            if number == 0:
                with psycopg.connect(url, autocommit=True) as connection:
                    for _ in range(20):
                        terminate_others(connection, "ronin killed")
                return []
            return [web.change(-2).status for _ in range(20)]

        statuses = Counter(itertools.chain(*together(9, act)))
    assert set(statuses) <= {200, 503}
    withdrawn = (10_000 - balance(pool)) // 2
    assert statuses[200] <= withdrawn <= statuses.total()


def test_a_refused_change_leaves_no_posting(web: Web, pool: Pool) -> None:
    web.change(-20_000)
    web.change(-20_000, key="a")
    assert value(pool, "SELECT count(*) FROM ledger") == 1


def test_the_database_being_away_is_a_503_that_says_when_to_try_again(url: str) -> None:
    with database.pool(f"{url} port=1", "ronin away", size=1, timeout=0.1) as away:
        answer = Web(away).change(-2)
    assert (answer.status, answer.problem) == (503, "database-unavailable")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_lock_that_is_held_too_long_is_a_503(url: str, web: Web, pool: Pool) -> None:
    with psycopg.connect(url) as holder:
        holder.execute("SELECT FROM users WHERE id = 1 FOR UPDATE")
        assert web.change(-2).status == 503
    assert balance(pool) == 10_000
