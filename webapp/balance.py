"""Balance: an account that never goes below zero, changed in the request itself (B2 to B5)."""

import re
from functools import partial
from typing import Annotated

import falcon
import falcon.routing
import psycopg
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cluster.database import Pool
from webapp import answers, bodies, examples, idempotency
from webapp.openapi import IDEMPOTENCY_KEY, Answer, describes
from webapp.problems import Problem
from webapp.till import Till, Verdict

_INT8 = 2**63


def _not_zero(amount: int) -> int:
    if amount == 0:
        raise ValueError("an amount is not zero")
    return amount


class UserId(falcon.routing.BaseConverter):
    """A user's number in a path; falcon's own converter also takes `1_0`, `+1` and other digits."""

    def convert(self, value: str) -> int | None:
        """Return the number, or None: then there is no such path."""
        number = int(value) if re.fullmatch(r"-?[0-9]{1,19}", value) else None
        return number if number is not None and -_INT8 <= number < _INT8 else None


class Change(BaseModel):
    """The body of a change: `{"amount": -2}`."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    amount: Annotated[
        int,
        Field(ge=-_INT8, le=_INT8 - 1, json_schema_extra={"not": {"const": 0}}),
        AfterValidator(_not_zero),
    ]
    """What is added; less than zero to withdraw."""


class Balance:
    """`POST /users/{userId}/balance` changes a balance up or down."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._till = Till(pool)

    @describes(
        "account",
        {200: Answer("The balance after the change.", answers.Account, examples.ACCOUNT)},
        problems=(
            *("invalid-json", "invalid-idempotency-key", "unknown-user", "insufficient-funds"),
            *("invalid-field", "idempotency-key-reused"),
        ),
        parameters=(IDEMPOTENCY_KEY,),
        body=Change,
        examples={"Withdraw two": {"amount": -2}, "Pay in a hundred": {"amount": 100}},
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, user: int) -> None:
        """Change a balance.

        The answer comes once the change is on disk. What would lead below zero is refused, and
        leaves the balance as it was.

        Raises:
            Problem: 404 unknown user, 409 insufficient funds, 422 wrong amount or key reused.
        """
        key = idempotency.key(request)
        amount = bodies.read(request, Change).amount
        answer = partial(_answer, user, amount)
        if key is None:
            self._till.change(request, response, user, amount, answer)
            return
        try:
            answer(response, self._keyed(user, amount, key))
        except psycopg.errors.NumericValueOutOfRange as error:
            raise _overflow() from error

    def _keyed(self, user: int, amount: int, key: str) -> Verdict:
        # The procedure commits, then waits for the disk: see migrations/0001_balance.sql.
        query = "CALL change_balance(%s::bigint, %s::bigint, %s::text, NULL, NULL)"
        with self._pool.connection() as connection:
            row = connection.execute(query, (user, amount, key), prepare=True).fetchone()
        assert row  # noqa: S101 - a procedure with INOUT parameters returns one row
        return Verdict(*row)


def _answer(user: int, amount: int, response: falcon.Response, verdict: Verdict) -> None:
    """Tell what became of a change.

    Raises:
        Problem: it was refused.
    """
    name, balance = verdict
    if name == "changed":
        bodies.answer(response, {"userId": user, "balance": balance})
    elif name == "insufficient":
        detail = f"The balance is {balance}: insufficient funds for {amount}."
        raise Problem(409, "insufficient-funds", detail, userId=user, balance=balance)
    elif name == "overflow":
        raise _overflow()
    elif name == "key_reused":
        detail = "This Idempotency-Key belongs to a different request."
        raise Problem(422, "idempotency-key-reused", detail)
    else:
        raise _unknown(user)


class Users:
    """`GET /users/{userId}` tells a balance."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes(
        "account",
        {200: Answer("The balance.", answers.Account, examples.ACCOUNT)},
        problems=("unknown-user",),
    )
    def on_get(self, _request: falcon.Request, response: falcon.Response, user: int) -> None:
        """Tell a balance.

        Raises:
            Problem: 404 unknown user.
        """
        with self._pool.connection() as connection:
            row = connection.execute("SELECT balance FROM users WHERE id = %s", (user,)).fetchone()
        if row is None:
            raise _unknown(user)
        bodies.answer(response, {"userId": user, "balance": row[0]})


def _overflow() -> Problem:
    return bodies.invalid([("amount", "the balance would overflow")])


def _unknown(user: int) -> Problem:
    return Problem(404, "unknown-user", f"There is no user {user}.")
