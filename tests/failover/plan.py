"""The plan: from a seed, how each primary is lost. Pure: the same seed gives the same plan."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

MODES: Mapping[str, str] = MappingProxyType(
    {
        "kill": "every process of the primary's host is killed; it comes back later",
        "crash": "PostgreSQL alone dies; its Patroni sees it and hands over",
        "freeze": "every process of the host is stopped, and goes on after the promotion",
        "switchover": "patronictl switchover, as for maintenance",
        "orphan": "Patroni alone dies, and its PostgreSQL goes on; Patroni is started again later",
    }
)
"""Ways to lose a primary."""
USUAL = tuple(MODES)[:4]
"""Those that a plan has if nobody says which. Orphans are what a watchdog is for."""

REST = (4.0, 8.0)
"""Seconds under load, the pair in step, before the primary is lost."""
LINGER = (2.0, 8.0)
"""Seconds after the cluster has gone on, before the old primary comes back."""


@dataclass(frozen=True, slots=True)
class Loss:
    """One line of the plan.

    Attributes:
        number: from one.
        mode: a key of `MODES`.
        rest: seconds before it.
        linger: seconds until the old primary comes back.
    """

    number: int
    mode: str
    rest: float
    linger: float


def plan(seed: int, promotions: int, modes: Sequence[str] = USUAL) -> list[Loss]:
    """Return how the primary is lost so many times; each mode comes before any comes again."""
    chance = random.Random(seed)
    losses: list[Loss] = []
    while len(losses) < promotions:
        for mode in chance.sample(modes, len(modes)):
            rest, linger = (round(chance.uniform(*span), 1) for span in (REST, LINGER))
            losses.append(Loss(len(losses) + 1, mode, rest, linger))
    return losses[:promotions]
