"""The inputs that fuzzing begins with, and those that it once found, without a fuzzer."""

import pytest

from tests.fuzz.targets import TARGETS, dictionary


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzing_begins_with_is_no_finding(name: str) -> None:
    target, seeds = TARGETS[name]
    for seed in (b"", *seeds, *(seed[: len(seed) // 2] for seed in seeds)):
        target(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_words(name: str) -> None:
    assert dictionary(name).count("\n") > 3
