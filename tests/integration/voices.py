"""A runner whose runs are listened to, and what is kept of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import uuid4

from cluster import database
from cluster.apart import perform_apart
from cluster.database import Pool
from cluster.job import Job
from cluster.perform import Result
from cluster.run import Claim
from cluster.runner import Runner
from cluster.scribe import Scribe
from cluster.store import voices
from tests.eventually import eventually
from tests.unit.builders import a_claim, a_job


class Listening:
    """A runner, and the scribe of what its runs say."""

    def __init__(self, lent: Pool) -> None:
        self.lent = lent
        self.scribe = Scribe(lent)
        self.runner = Runner(
            4,
            lent.connection,
            partial(perform_apart, url=None),
            lambda: None,
            attend=self.scribe.attend,
        )

    def start(
        self, function: Callable[..., object], claim: Claim | None = None, **how: Any
    ) -> Claim:
        """Start a run of a function; return its claim."""
        claim = claim or a_claim()
        self.runner.start(claim, a_job(function=function, **how))
        return claim

    def start_job(self, job: Job, claim: Claim) -> None:
        """Start a run of a job."""
        self.runner.start(claim, job)

    def perform(self, function: Callable[..., object], claim: Claim | None = None) -> Claim:
        """Perform a function to its end; return the claim."""
        claim = self.start(function, claim)
        self.ended(1)
        return claim

    def ended(self, count: int) -> list[Result]:
        """Return the results of so many more runs once they have ended."""
        found: list[Result] = []

        def enough() -> bool:
            found.extend(result for _, result in self.runner.results())
            return len(found) >= count

        eventually(enough)
        return found


@contextmanager
def listening(url: str) -> Iterator[Listening]:
    """Let runs be performed and listened to, and write all they say in the end."""
    with database.pool(url, "ronin jobs", size=2, timeout=1) as lent:
        found = Listening(lent)
        found.scribe.start()
        yield found
        found.runner.stop("interrupted")
        found.scribe.stop(within=20)


def lines(pool: Pool, claim: Claim) -> list[str]:
    """Return the lines that are kept of a run."""
    return said(pool, claim).splitlines()


def said(pool: Pool, claim: Claim) -> str:
    """Return all that is kept of a run."""
    return "".join(row["text"] for row in voices.log(pool, claim.id))


def next_attempt(claim: Claim) -> dict[str, Any]:
    """Return the fields of the attempt that follows."""
    return {"id": claim.id, "attempt": claim.attempt + 1, "token": uuid4()}
