"""The till: changes of one balance that come at the same time are made together."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import falcon

from cluster.database import Pool
from webapp.together import Connection, Together

_CHANGES = "CALL change_balances(%s::bigint, %s::bigint[], NULL, NULL)"


class Verdict(NamedTuple):
    """What became of a change.

    Attributes:
        name: `changed`, `insufficient`, `overflow` or `unknown`; under a key also `key_reused`.
        balance: right after it; None if there is no such user.
    """

    name: str
    balance: int | None


class Till:
    """Makes changes of balances: one group of each balance at a time.

    Args:
        pool: for its statements; see `Together`.
    """

    def __init__(self, pool: Pool) -> None:
        self._changes = Together(pool, _change)

    def change(
        self,
        request: falcon.Request,
        response: falcon.Response,
        user: int,
        amount: int,
        then: Callable[[falcon.Response, Verdict], None],
    ) -> None:
        """Change a balance; answer when that is on disk, or refused; as `Together.do`."""
        self._changes.do(request, response, user, amount, then)


def _change(connection: Connection, user: int, amounts: Sequence[int]) -> list[Verdict]:
    given = f"{{{','.join(map(str, amounts))}}}"
    row = connection.execute(_CHANGES, (user, given), prepare=True).fetchone()
    assert row  # noqa: S101 - a procedure with INOUT parameters returns one row
    return [Verdict(*each) for each in zip(*row, strict=True)]
