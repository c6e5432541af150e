"""The plan: from a seed, what breaks when. Pure: the same seed gives the same plan."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

LEASE_SECONDS = 4.0
"""Of the cluster under test, so that a fault longer than a lease fits into a short run."""

Parameter = float | str
Range = tuple[float, float]

KINDS: Mapping[str, Mapping[str, Range | Sequence[str]]] = MappingProxyType(
    {
        "kill worker": {"instance": ("first", "second")},
        "kill master": {"instance": ("first", "second")},
        "kill children": {},
        "freeze worker briefly": {"instance": ("first", "second"), "seconds": (0.3, 1.5)},
        "freeze worker past its lease": {"instance": ("first", "second"), "seconds": (6, 9)},
        "freeze instance": {"instance": ("first", "second"), "seconds": (6, 8)},
        "stop postgres": {"seconds": (0, 4)},
        "terminate backends": {"whose": ("everybody's", "the engine's", "the web's")},
        "cut": {"instance": ("first", "second", "both"), "seconds": (0.2, 2)},
        "delay": {"instance": ("first", "second", "both"), "seconds": (3, 6), "each": (0.05, 0.25)},
        "halve": {"instance": ("first", "second", "both"), "seconds": (1, 4)},
        "swallow": {"instance": ("first", "second", "both"), "seconds": (2, 12)},
        "mute": {"instance": ("first", "second", "both"), "seconds": (1, 6)},
        "fill the disk": {"seconds": (2, 4)},
        "reload": {"instance": ("first", "second")},
        "roll": {"instance": ("first", "second")},
        "replace master": {"instance": ("first", "second")},
        "partition": {"direction": ("both", "to the database", "from it"), "seconds": (5, 10)},
    }
)
"""Each kind of fault with what is left to chance: a choice, or a range."""

PAUSE: Range = (0.5, 5)
"""Seconds between the beginnings of two faults, beyond the first half of the former: so a lasting
one is often under way when the next begins."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of the plan.

    Attributes:
        second: when it begins, from the beginning of the faults.
        kind: which.
        parameters: as `KINDS` names them.
    """

    second: float
    kind: str
    parameters: Mapping[str, Parameter]

    def __str__(self) -> str:
        shown = " ".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{self.second:7.1f} s  {self.kind}  {shown}".rstrip()


def plan(seed: int, minutes: float, kinds: Sequence[str] = tuple(KINDS)) -> list[Fault]:
    """Return what breaks in so many minutes; each kind comes once before any comes again.

    Args:
        seed: of all chance.
        minutes: after which no fault begins.
        kinds: of faults; those that a machine can't do are left out when they are due, not
            here, so that a seed means the same everywhere.
    """
    chance = random.Random(seed)
    faults: list[Fault] = []
    second = chance.uniform(*PAUSE)
    for kind in _shuffled(chance, kinds):
        parameters = {name: _drawn(chance, of) for name, of in KINDS[kind].items()}
        if second > minutes * 60:
            break
        faults.append(Fault(round(second, 1), kind, parameters))
        lasts = parameters.get("seconds", 0)
        assert isinstance(lasts, int | float)
        second += lasts / 2 + chance.uniform(*PAUSE)
    return faults


def _shuffled(chance: random.Random, kinds: Sequence[str]) -> Iterator[str]:
    """Yield the kinds like cards of a deck that is shuffled anew whenever it is through."""
    while True:
        yield from chance.sample(kinds, len(kinds))


def _drawn(chance: random.Random, of: Range | Sequence[str]) -> Parameter:
    if isinstance(of[0], str):
        return str(chance.choice(of))
    return round(chance.uniform(*of), 2)
