"""`python -m tests.chaos`: break everything for a while, and tell whether the product holds."""

import random
import shutil
import signal
import sys
from contextlib import ExitStack

import click

from cluster import log
from tests.chaos import nemesis
from tests.chaos.campaign import Verdict, campaign
from tests.chaos.mutations import MUTATIONS, mutated
from tests.chaos.plan import KINDS, plan
from tests.system.gunicorns import ROOT


@click.command()
@click.option("--minutes", type=float, default=3.0, show_default=True, help="How long.")
@click.option("--seed", type=int, help="Of the plan; a random one if not given.")
@click.option("--only", multiple=True, type=click.Choice(list(KINDS)), help="These faults alone.")
@click.option("--mutate", type=click.Choice(list(MUTATIONS)), help="Break the product itself.")
def main(minutes: float, seed: int | None, only: tuple[str, ...], mutate: str | None) -> None:
    """Run one campaign; the exit status is 1 if anything was violated."""
    log.configure("text")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(2))  # so that nothing is left behind
    seed = random.randrange(1_000_000) if seed is None else seed
    kinds = only or tuple(KINDS)
    replay = _command(minutes, seed, only, mutate)
    say(f"seed {seed}; to play it again: {replay}")
    for kind in kinds:
        if lack := nemesis.impossible(kind):
            say(f"!!! LEFT OUT: {kind!r}: this machine does not give us {lack}")
    with ExitStack() as stack:
        tree = stack.enter_context(mutated(mutate)) if mutate else ROOT
        if mutate:
            say(f"!!! MUTATED: {MUTATIONS[mutate].meaning}")
        verdict = campaign(plan(seed, minutes, kinds), seed, tree)
    report(verdict)
    if verdict.violations:
        say(f"to play it again: {replay}")
        sys.exit(1)
    shutil.rmtree(verdict.folder)


def report(verdict: Verdict) -> None:
    """Say what came of it."""
    for line in verdict.summary:
        say(line)
    for violation in verdict.violations:
        say(f"VIOLATION: {violation}")
    for check in dict.fromkeys(violation.check for violation in verdict.violations):
        say(f"violated: {check}")
    say(f"{len(verdict.violations)} violations")
    if verdict.violations:
        say(f"logs, tables, and what was done when: {verdict.folder}")


def say(text: str) -> None:
    """Say a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _command(minutes: float, seed: int, only: tuple[str, ...], mutate: str | None) -> str:
    chosen = "".join(f" --only '{kind}'" for kind in only)
    broken = f" --mutate {mutate}" if mutate else ""
    return f"python -m tests.chaos --minutes {minutes:g} --seed {seed}{chosen}{broken}"


if __name__ == "__main__":
    main()
