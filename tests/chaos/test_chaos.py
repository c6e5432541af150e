"""The product under all that can go wrong, for about a minute; and the same product broken."""

import shutil

import pytest

from tests.chaos.campaign import campaign
from tests.chaos.mutations import MUTATIONS, mutated
from tests.chaos.plan import plan

SEED = 1
MINUTES = 1.3
"""Enough for each kind of fault to come once."""


@pytest.mark.timeout(600)
def test_nothing_that_was_promised_breaks_whatever_else_does() -> None:
    verdict = campaign(plan(SEED, MINUTES), SEED)
    assert not verdict.violations, f"seed {SEED}, evidence in {verdict.folder}"
    shutil.rmtree(verdict.folder)


@pytest.mark.timeout(300)
def test_workers_that_claim_all_they_can_are_found_out() -> None:
    with mutated("gate") as tree:
        verdict = campaign([], SEED, tree)
    checks = {violation.check for violation in verdict.violations}
    assert checks == {"Two workers of a fresh cluster differ by one job at most."}
    shutil.rmtree(verdict.folder)


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_mutation_finds_the_words_that_it_breaks(name: str) -> None:
    with mutated(name) as tree:
        assert (tree / MUTATIONS[name].file).exists()
