"""What is measured, from what clients wrote down."""

from datetime import UTC, datetime, timedelta

from tests.chaos.loads import Answer, Wish
from tests.failover.measure import Outage, first_told, table

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: float) -> datetime:
    return BEGIN + timedelta(seconds=second)


def answer(begun: float, until: float, status: int) -> Answer:
    seconds = until - begun
    return Answer("i", "POST /users/2/balance", at(begun), seconds, status, "application/json", {})


def outage(mode: str, *seconds: float) -> Outage:
    return Outage(mode, *map(at, seconds))


def test_the_first_acknowledgement_after_the_promotion_counts_whenever_it_was_asked_for() -> None:
    changes = [
        Wish("before", amount=1, answers=[answer(0, 1, 200)]),
        Wish("across", amount=2, answers=[answer(1, 4, 503), answer(4, 6.5, 200)]),
        Wish("refused", amount=3, answers=[answer(5, 5.5, 409)]),
        Wish("later", amount=4, answers=[answer(6, 7, 200)]),
    ]
    assert first_told(changes, at(5)) == at(6.5)
    assert first_told(changes, at(7)) is None


def test_lengths_are_counted_from_the_loss_and_from_the_promotion() -> None:
    assert outage("kill", 0, 20, 20.5, 21).seconds() == {
        "loss to promotion": 20,
        "promotion to change": 0.5,
        "promotion to run": 1,
        "loss to change": 20.5,
    }


def test_the_table_has_half_and_longest_of_each_mode_and_of_all() -> None:
    found = [
        outage("kill", 0, 20, 21, 22),
        outage("kill", 0, 18, 21, 22),
        outage("crash", 0, 2, 2.5, 2.75),
    ]
    head, crash, kill, everything = table(found)
    assert head.split()[-3:] == ["loss", "to", "change"]
    assert crash.split()[:5] == ["crash", "1", "2.00", "/", "2.00"]
    assert kill.split()[:8] == ["kill", "2", "19.00", "/", "20.00", "2.00", "/", "3.00"]
    assert everything.split()[:5] == ["all", "3", "18.00", "/", "20.00"]
