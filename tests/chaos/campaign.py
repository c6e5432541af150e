"""A campaign: fleet, loads and nemesis together, and then the verdict."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import httpx
import psycopg
from psycopg import sql

from cluster.migrate import migrate
from tests.chaos import nemesis
from tests.chaos.case import Case, Violation
from tests.chaos.diary import Diary
from tests.chaos.fleet import WORKERS, Harbour, fleet
from tests.chaos.judge import judge
from tests.chaos.loads import ACCOUNT, Loads
from tests.chaos.plan import Fault
from tests.chaos.server import Server, server
from tests.chaos.tables import JOBS, SCHEMA
from tests.eventually import eventually
from tests.system.facts import Row, outcomes, rows, shares
from tests.system.gunicorns import ROOT

QUIET_SECONDS = 180.0
"""Within which all that was acknowledged is over, once the faults have stopped: generous."""
LEAVE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a campaign.

    Attributes:
        violations: empty if the product holds.
        summary: counts, a line each.
        folder: of logs and diary.
    """

    violations: Sequence[Violation]
    summary: Sequence[str]
    folder: Path


def campaign(faults: Sequence[Fault], seed: int, tree: Path = ROOT) -> Verdict:
    """Start everything, break what the plan says, wait until all is quiet, and judge."""
    folder = Path(tempfile.mkdtemp(prefix="ronin-chaos-run-"))
    folder.chmod(0o755)
    with server(folder / "postgres.log") as database:
        prepare(database.url)
        diary = Diary(database.url, folder)
        diary.say(f"logs and diary: {folder}")
        with fleet(database, diary, folder, tree) as started:
            found = _evenness(database)
            started.start_third()
            loads = Loads(started)
            with loads.running():
                nemesis.unleash(started, diary, faults, seed)
            diary.say("the faults are over; waiting for quiet")
            found += liveness(started)
            case = Case(
                database.url,
                diary,
                loads.changes,
                loads.tasks,
                loads.answers,
                loads.samples,
            )
            found += judge(case)
            if found:
                keep(database.url, folder)
            told = [*summary(case, loads), *case.notes]
            found += remains(started)
    return Verdict(found, told, folder)


def prepare(url: str) -> None:
    """Make the tables of the product and of the suite, and the account of its clients."""
    migrate(url)
    rows(url, SCHEMA)
    rows(url, "INSERT INTO users (id, balance) VALUES (%(user)s, 0)", user=ACCOUNT)


def _evenness(database: Server) -> list[Violation]:
    """Check that a quiet cluster, freshly started, shares ten equal jobs out evenly."""
    found = shares(database.url, jobs=JOBS)
    if len(found) == 2 * WORKERS and max(found) - min(found) <= 1:
        return []
    return [Violation("Two workers of a fresh cluster differ by one job at most.", str(found))]


def liveness(started: Harbour) -> list[Violation]:
    """Check that all comes right by itself: every task ends, every job goes on."""
    url = started.diary.url
    since = started.diary.now()

    def undone() -> list[Row]:
        return rows(url, _UNDONE, since=since)

    try:
        started.ready()
        eventually(lambda: not undone(), within=QUIET_SECONDS, every=0.5)
    except (AssertionError, httpx.HTTPError, psycopg.Error) as error:
        return [Violation("When the faults are over, all work gets done.", f"{error}: {undone()}")]
    return []


_UNDONE: LiteralString = """
    SELECT job, id::text, attempt, failures, crashes, worker, error FROM run r
    WHERE NOT scheduled OR job LIKE 'equal-%%' AND NOT EXISTS (
        SELECT FROM history h WHERE h.job = r.job AND outcome = 'completed'
            AND started_at > %(since)s)
    """
"""Tasks that are not over, and jobs that have not run since."""


def remains(started: Harbour) -> list[Violation]:
    """End the fleet in order; check that no process and no session is left."""
    started.leave()
    found = []
    try:
        eventually(lambda: not started.survivors(), within=LEAVE_SECONDS, every=0.5)
    except AssertionError:
        left = [(each.pid, " ".join(each.cmdline())[:100]) for each in started.survivors()]
        found.append(Violation("No process is left after an orderly end.", str(left)))
    sessions: LiteralString = """
        SELECT application_name, state FROM pg_stat_activity WHERE application_name LIKE 'ronin%%'
        """
    try:
        eventually(lambda: not rows(started.diary.url, sessions), within=20)
    except AssertionError:
        open_ones = rows(started.diary.url, sessions)
        found.append(Violation("No session is left after an orderly end.", str(open_ones)))
    return found


def keep(url: str, folder: Path) -> None:
    """Keep the tables of evidence as CSV."""
    with psycopg.connect(url) as connection:
        for table in ("history", "run", "worker", "counted", "body", "suicide", "ledger"):
            query = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT CSV HEADER")
            with (
                (folder / f"{table}.csv").open("wb") as file,
                connection.cursor().copy(query.format(sql.Identifier(table))) as lines,
            ):
                file.writelines(lines)


def summary(case: Case, loads: Loads) -> list[str]:
    """Return the counts of a run, a line each."""
    statuses = Counter(answer.status for answer in loads.answers)
    kinds = Counter(wish.kind for wish in loads.tasks)
    counts = {
        "faults": dict(sorted(case.diary.counts.items())),
        "faults left out": sorted(case.diary.left_out),
        "instances that gave up at the start": case.diary.gave_up,
        "times in which the machine stood still (s)": case.diary.stalls,
        "attempts by outcome": outcomes(case.url),
        "tasks asked for": dict(kinds),
        "changes of the balance": len(loads.changes),
        "answers by status (0: none)": dict(sorted(statuses.items())),
        "looks of the observer": loads.looks,
    }
    return [f"{name}: {value}" for name, value in counts.items()]
