"""`python -m tests.failover`: lose the primary again and again; tell what else was lost."""

import random
import shutil
import signal
import sys
from collections import Counter

import click

from cluster import log
from tests.failover.drill import Verdict, drill
from tests.failover.etcd import SECTIONS
from tests.failover.plan import MODES, USUAL, plan
from tests.failover.programs import Missing, found

_SHOWN = 3
"""Violations of one kind that are told in full."""


@click.command()
@click.option("--promotions", type=click.IntRange(1), default=20, show_default=True)
@click.option("--seed", type=int, help="Of the plan; a random one if not given.")
@click.option("--only", multiple=True, type=click.Choice(list(MODES)), help="These losses alone.")
@click.option("--store", type=click.Choice(SECTIONS), default=SECTIONS[0], show_default=True)
def main(promotions: int, seed: int | None, only: tuple[str, ...], store: str) -> None:
    """Run one drill; the exit status is 1 if anything was violated."""
    log.configure("text")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(2))  # so that nothing is left behind
    try:
        programs = found()
    except Missing as error:
        sys.exit(f"the drill can't be made: {error}")
    seed = random.randrange(1_000_000) if seed is None else seed
    chosen = "".join(f" --only {mode}" for mode in only)
    chosen += f" --store {store}" if store != SECTIONS[0] else ""
    again = f"python -m tests.failover --promotions {promotions} --seed {seed}{chosen}"
    say(f"seed {seed}; to play it again: {again}")
    verdict = drill(plan(seed, promotions, only or USUAL), programs, store)
    report(verdict)
    if verdict.violations:
        say(f"to play it again: {again}")
        sys.exit(1)
    shutil.rmtree(verdict.folder)


def report(verdict: Verdict) -> None:
    """Say what came of it."""
    for line in verdict.lines():
        say(line)
    by_check = Counter(violation.check for violation in verdict.violations)
    for check, number in by_check.items():
        say(f"VIOLATION, {number} times: {check}")
        evidence = [each.evidence for each in verdict.violations if each.check == check]
        for each in evidence[:_SHOWN]:
            say(f"    {each}")
    say(f"{len(verdict.outages)} promotions, {len(verdict.violations)} violations")
    if verdict.violations:
        say(f"logs, tables, and what was done when: {verdict.folder}")


def say(text: str) -> None:
    """Say a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
