"""The drill: a pair under load loses its primary again and again; then the verdict."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import LiteralString

import psycopg

from cluster.database import Impatient
from tests.chaos.campaign import keep, liveness, prepare, remains, summary
from tests.chaos.case import Case, Violation
from tests.chaos.diary import EVERYBODY, INTERRUPTED, LATE, Diary
from tests.chaos.faults import RECOVERY_SECONDS
from tests.chaos.fleet import Berth, Harbour
from tests.chaos.judge import judge
from tests.chaos.loads import FORBIDDEN, Loads
from tests.eventually import eventually
from tests.failover.losses import LOSSES
from tests.failover.measure import Outage, first_told, table
from tests.failover.node import TTL_SECONDS, Node
from tests.failover.pair import Pair, pair
from tests.failover.plan import MODES, Loss
from tests.failover.programs import Programs
from tests.failover.waiting import premature
from tests.system.facts import rows
from tests.system.gunicorns import ROOT

INSTANCES = ("first", "second")
SETTINGS = {"WEB_CONCURRENCY": "2", "RONIN_LEASE_SECONDS": "15"}
KINDS = {"count": 20.0, "long": 3.0, "flaky": 5.0}
"""Of tasks: none that kills its worker. Nobody dies here but databases."""
PROMOTION_SECONDS = TTL_SECONDS * 5.0
GO_ON_SECONDS = 60.0
_SLOT = 0.1


@dataclass
class Verdict:
    """What came of a drill.

    Attributes:
        violations: empty if the product holds.
        outages: one for each promotion.
        notes: counts, a line each.
        folder: of logs and diary.
    """

    violations: list[Violation] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="ronin-failover-")))

    def lines(self) -> list[str]:
        """Return it for people."""
        return [*self.notes, *(table(self.outages) if self.outages else [])]


class Load(Loads):
    """The clients of the chaos suite, with an observer that survives its server."""

    def observe(self) -> None:
        """Look at whichever server takes writes for what must never be seen."""
        url = self.fleet.diary.url
        while not self.stop.wait(_SLOT):
            with (
                suppress(psycopg.OperationalError),
                Impatient.connect(url, autocommit=True) as connection,
            ):
                connection.patience = 2.0
                while not self.stop.wait(_SLOT):
                    self.looks += 1
                    self.samples += [str(row) for row in connection.execute(FORBIDDEN)]


def drill(losses: Sequence[Loss], programs: Programs, section: str) -> Verdict:
    """Start everything, lose the primary as the plan says, wait until all is quiet, and judge.

    Args:
        losses: the plan.
        programs: what it is made of.
        section: of Patroni's settings, see `etcd.SECTIONS`.
    """
    verdict = Verdict()
    verdict.folder.chmod(0o755)
    with pair(programs, verdict.folder, section) as nodes:
        prepare(nodes.url)
        diary = Diary(nodes.url, verdict.folder)
        diary.say(f"logs and diary: {verdict.folder}")
        with _instances(nodes, diary, verdict.folder) as fleet:
            loads = Load(fleet, KINDS)
            verdict.violations += premature(nodes, loads)
            with loads.running():
                for loss in losses:
                    if not _lose(loss, nodes, loads, verdict):
                        break
            diary.say("the promotions are over; waiting for quiet")
            _judge(nodes, loads, verdict)
            verdict.violations += remains(fleet)
    return verdict


@contextmanager
def _instances(nodes: Pair, diary: Diary, folder: Path) -> Iterator[Harbour]:
    fleet = Harbour(diary)
    try:
        for name in INSTANCES:
            fleet.moor(name, Berth(nodes.url, folder, ROOT, env=SETTINGS))
        fleet.ready()
        yield fleet
    finally:
        fleet.end()


def _lose(loss: Loss, nodes: Pair, loads: Loads, verdict: Verdict) -> bool:
    """Lose the primary once; return whether there was a promotion, and the pair is in step."""
    diary = loads.fleet.diary
    primary, standby = nodes.in_step()
    time.sleep(loss.rest)
    primary, standby = nodes.in_step()
    diary.say(f"{loss.number:3} {loss.mode} of {primary.name}: {MODES[loss.mode]}")
    diary.write("lose", mode=loss.mode, primary=primary.name, number=loss.number)
    diary.counts[loss.mode] = diary.counts.get(loss.mode, 0) + 1
    # Without a database for longer than a lease, workers stop their runs; nobody is dead.
    excuse = diary.excuse(EVERYBODY, INTERRUPTED, LATE)
    lost_at = diary.now()
    steps = LOSSES[loss.mode](nodes, primary, standby)
    try:
        next(steps)
        outage = _outage(loss, lost_at, standby, loads)
        verdict.outages.append(outage)
        diary.write("promoted", **outage.seconds())
        diary.say(f"    {standby.name} is the primary: {outage}")
        time.sleep(loss.linger)
        next(steps, None)
        nodes.in_step()
    except (AssertionError, psycopg.Error, subprocess.TimeoutExpired) as error:
        violation = Violation("The pair goes on, and comes back in step.", f"{loss}: {error}")
        verdict.violations.append(violation)
        return False
    diary.end(excuse, RECOVERY_SECONDS)
    return True


def _outage(loss: Loss, lost_at: datetime, standby: Node, loads: Loads) -> Outage:
    promoted_at = standby.promoted_at(PROMOTION_SECONDS)
    assert promoted_at, f"{standby.name} is not promoted: {standby.said()[-2000:]}"
    changed_at = eventually(
        lambda: first_told(list(loads.changes), promoted_at), within=GO_ON_SECONDS
    )
    ran_at = eventually(
        lambda: rows(standby.url, _FIRST_RUN, since=promoted_at)[0][0], within=GO_ON_SECONDS
    )
    assert changed_at
    return Outage(loss.mode, lost_at, promoted_at, changed_at, ran_at)


_FIRST_RUN: LiteralString = """
    SELECT min(started_at) FROM (
        SELECT started_at FROM history UNION ALL
        SELECT started_at FROM run WHERE token IS NOT NULL) a
    WHERE started_at > %(since)s
    """

_WANTING: LiteralString = """
    SELECT count(*) FROM history
    WHERE outcome = 'failed' AND error LIKE 'psycopg%%'
    """


def _judge(nodes: Pair, loads: Loads, verdict: Verdict) -> None:
    diary = loads.fleet.diary
    found = liveness(loads.fleet)
    case = Case(nodes.url, diary, loads.changes, loads.tasks, loads.answers, loads.samples)
    found += judge(case)
    found += _verified(nodes.url)
    if found:
        keep(nodes.url, verdict.folder)
    verdict.violations += found
    told = sum(bool(wish.told(200)) for wish in loads.changes)
    unknown = sum(not wish.told(200, 409) for wish in loads.changes)
    verdict.notes += [
        *summary(case, loads),
        *case.notes,
        f"changes acknowledged: {told}; without an answer that tells: {unknown}",
        f"attempts that failed for want of a database: {rows(nodes.url, _WANTING)[0][0]}",
        f"tasks acknowledged: {sum(bool(wish.told(201)) for wish in loads.tasks)}",
    ]


def _verified(url: str) -> list[Violation]:
    """Ask the product's own command as well."""
    command = [sys.executable, "-m", "cluster", "verify"]
    environment = {**os.environ, "DATABASE_URL": url}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return []
    return [Violation("`python -m cluster verify` finds nothing.", done.stdout + done.stderr)]
