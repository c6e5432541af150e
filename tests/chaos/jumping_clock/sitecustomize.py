"""A host clock that jumps by an hour, back or forth, every few seconds; Python loads it at start.

What counts on (`time.monotonic`) is left alone, as it is by whoever sets a host's clock.
"""

import datetime as dt
import time
from typing import Any

_EVERY_SECONDS = 3
_real_time, _real_time_ns = time.time, time.time_ns
_Real = dt.datetime


def _jump() -> int:
    return (0, 3600, -3600)[int(time.monotonic() / _EVERY_SECONDS) % 3]


class _Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _Real)


class _Jumping(_Real, metaclass=_Kind):
    """Makes real datetimes, of a wrong now."""

    def __new__(cls, *args: Any, **named: Any) -> Any:
        return _Real(*args, **named)

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        """Return the wrong time."""
        return _Real.now(tz) + dt.timedelta(seconds=_jump())

    @classmethod
    def utcnow(cls) -> Any:
        """Return the wrong time without a zone."""
        return cls.now(dt.UTC).replace(tzinfo=None)


_Jumping.__name__ = _Jumping.__qualname__ = "datetime"
_Jumping.__module__ = "datetime"
dt.datetime = _Jumping  # type: ignore[misc] # that is the fault
time.time = lambda: _real_time() + _jump()
time.time_ns = lambda: _real_time_ns() + _jump() * 10**9
