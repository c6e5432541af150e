"""What a soak calls growth: leaks of every speed, and not what only sways."""

import random
from collections.abc import Callable

import pytest

from benchmarks.soak_samples import Sample
from benchmarks.soak_verdict import findings

COUNT = 720
WORKERS = 5


def _samples(name: str, figure: Callable[[int], float]) -> list[Sample]:
    return [
        {"seconds": 5.0 * place, "requests/answered": 200.0, name: figure(place)}
        for place in range(COUNT)
    ]


def _grew(name: str, figure: Callable[[int], float]) -> bool:
    [finding] = findings(_samples(name, figure), WORKERS)
    return not finding.fine


@pytest.mark.parametrize(
    ("name", "by_the_hour"),
    [
        ("memory/worker 1", 6.0),
        ("threads/worker 1", 4.0),
        ("descriptors/worker 1", 20.0),
        ("connections/all", 4.0),
        ("bytes/run", 400_000.0),
        ("dead/run", 4000.0),
    ],
)
def test_what_grows_evenly_is_found_under_noise(name: str, by_the_hour: float) -> None:
    chance = random.Random(4711)
    noise = by_the_hour / 20
    assert _grew(
        name, lambda place: 40 + by_the_hour * place / COUNT + chance.uniform(-noise, noise)
    )


@pytest.mark.parametrize("name", ["memory/worker 1", "threads/worker 1", "bytes/run", "dead/run"])
def test_what_sways_does_not_grow(name: str) -> None:
    chance = random.Random(4711)
    assert not _grew(name, lambda place: 1000 + 900 * (place % 12 / 12) + chance.uniform(-50, 50))


def test_what_goes_from_one_worker_to_another_does_not_grow() -> None:
    samples = [
        {
            "seconds": 5.0 * place,
            "requests/answered": 200.0,
            "descriptors/worker 1": 22.0 if place < COUNT / 2 else 27.0,
            "descriptors/worker 2": 27.0 if place < COUNT / 2 else 22.0,
        }
        for place in range(COUNT)
    ]
    [finding] = findings(samples, WORKERS)
    assert finding.name == "descriptors/all workers"
    assert finding.constant


def test_what_fills_in_the_warm_up_does_not_grow() -> None:
    assert not _grew("memory/worker 1", lambda place: min(40 + place / 10, 50))


def test_a_kilobyte_an_operation_is_a_leak() -> None:
    """200 requests a sample, among five workers."""
    assert _grew("memory/worker 1", lambda place: 40 + place * 200 / WORKERS * 1000 / 1e6)


def test_what_grows_by_design_is_not_judged() -> None:
    assert findings(_samples("bytes/history", float), WORKERS) == []


def test_a_run_that_was_too_short_has_no_verdict() -> None:
    with pytest.raises(ValueError, match="too few samples"):
        findings(_samples("bytes/run", float)[:6], WORKERS)
