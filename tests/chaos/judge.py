"""The judge: compares what people were told, what was broken, and what the database says."""

from tests.chaos import attempts, clients
from tests.chaos.case import Case, Violation

CHECKS = (*attempts.CHECKS, *clients.CHECKS)


def judge(case: Case) -> list[Violation]:
    """Return all violations."""
    return [
        Violation(check.__doc__ or "?", str(evidence)[:2000])
        for check in CHECKS
        for evidence in check(case)
    ]
