"""A case: all that a verdict rests on, and what a violation is."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.diary import Diary
from tests.chaos.loads import Answer, Wish


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must not be, with its evidence.

    Attributes:
        check: which rule.
        evidence: rows or answers.
    """

    check: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.check}: {self.evidence}"


@dataclass
class Case:
    """Everything a verdict rests on.

    Attributes:
        url: of the database.
        diary: what was broken.
        changes: wishes for changes of the balance; `tasks` likewise.
        answers: all answers of HTTP.
        samples: what was seen in the database that must never be seen.
    """

    url: str
    diary: Diary
    changes: Sequence[Wish] = ()
    tasks: Sequence[Wish] = ()
    answers: Sequence[Answer] = ()
    samples: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)


Check = Callable[[Case], Iterable[Any]]
"""Yields the evidence against the sentence that is its docstring."""
