"""A refusal says a balance that is too small, however many pay in at that moment."""

from cluster.database import Pool
from tests.integration.builders import Web, execute, together


def test_a_refusal_never_tells_a_balance_that_would_do(pool: Pool) -> None:
    execute(pool, "CALL change_balance(1, -10000, NULL, NULL, NULL)")
    web = Web(pool)

    def act(number: int) -> list[int]:
        """Pay in and take out in turn; return the balances that were told with a refusal."""
        amounts = [5, -5] if number % 2 else [-5, 5]
        answers = [web.change(amount) for _ in range(150) for amount in amounts]
        return [answer.body["balance"] for answer in answers if answer.status == 409]

    told = [balance for balances in together(6, act) for balance in balances]
    assert told
    assert max(told) < 5


PAYS_IN = """
    CREATE FUNCTION pays_in() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE users SET balance = 5 WHERE balance = 0;
        RETURN NULL;
    END $$;
    CREATE TRIGGER between AFTER INSERT ON ledger FOR EACH STATEMENT EXECUTE FUNCTION pays_in();
    """
"""Pays in right after a change was refused, before its balance is read."""


def test_who_is_refused_while_somebody_pays_in_gets_it_after_all(pool: Pool) -> None:
    execute(pool, "CALL change_balance(1, -10000, NULL, NULL, NULL)")
    execute(pool, PAYS_IN)
    # With a key, for a group of the till inserts nothing when it refuses: see the test above.
    answer = Web(pool).change(-5, key="once")
    assert (answer.status, answer.body["balance"]) == (200, 0)
