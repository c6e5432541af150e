"""The nudge: what is set is not missed, and of those who listen one hears the bell."""

import time

from cluster.nudge import Nudge

LONG = 30.0


def waited(nudge: Nudge, seconds: float, *, listen: bool = False) -> bool:
    """Wait; return whether that ended before its time."""
    begun = time.monotonic()
    nudge.wait(seconds, listen=listen)
    return time.monotonic() - begun < seconds


def test_what_is_set_before_and_after_opening_ends_the_wait() -> None:
    nudge = Nudge()
    nudge.set()
    nudge.open()
    assert waited(nudge, LONG)
    nudge.clear()
    assert not nudge.is_set()
    nudge.set()
    assert nudge.is_set()
    assert waited(nudge, LONG)


def test_the_bell_is_heard_once_and_only_by_who_listens() -> None:
    nudge = Nudge()
    nudge.open()
    nudge.ring()
    nudge.ring()
    assert not waited(nudge, 0.05)
    assert waited(nudge, LONG, listen=True)
    assert not waited(nudge, 0.05, listen=True)
