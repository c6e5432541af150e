"""Nudge: what wakes the job thread of a worker.

Whoever makes work for the job thread of its own process sets `nudge`, so that the work starts
within milliseconds. A job thread that finds more work than it can take rings the bell, which one
idle worker of the same instance hears. Nobody depends on either: all of them poll.
"""

import os
import select
import threading
import time
import weakref
from contextlib import suppress

_ALL = 65536  # bytes: a pipe holds no more


class _Pipe:
    """Bytes that say nothing but that there are some."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self._writer, False)
        for each in (self.reader, self._writer):
            weakref.finalize(self, os.close, each)

    def write(self) -> None:
        with suppress(BlockingIOError):  # full of bytes that nobody has read: they will do
            os.write(self._writer, b".")

    def read(self) -> bool:
        """Take what is there; False if there was nothing, or somebody else was first."""
        try:
            return bool(os.read(self.reader, _ALL))
        except BlockingIOError:
            return False


class Nudge:
    """An event that one thread waits for, who hears the bell meanwhile.

    Made before the fork, so that all workers of an instance have the same bell.
    """

    def __init__(self) -> None:
        self._bell = _Pipe()
        self._own: _Pipe | None = None
        self._set = False

    def open(self) -> None:
        """Be ready for who waits in this process; after the fork."""
        self._own = _Pipe()
        if self._set:
            self._own.write()

    def set(self) -> None:
        """Wake the thread that waits, or that is about to; from any thread."""
        if not self._set:
            self._set = True
            if self._own:
                self._own.write()

    def is_set(self) -> bool:
        """Whether somebody has set it since it was cleared."""
        return self._set

    def clear(self) -> None:
        """Forget that it was set; before the look at what it may have been set for."""
        if self._own:
            self._own.read()
        self._set = False  # last, so that nobody thinks that a byte is there which is not

    def ring(self) -> None:
        """Wake one worker of this instance that waits and listens, or is the next to do so."""
        self._bell.write()

    def wait(self, seconds: float, *, listen: bool = False) -> None:
        """Wait until it is set, or for so many seconds.

        Args:
            seconds: at most.
            listen: whether to come back when the bell rings.
        """
        assert self._own  # noqa: S101 - it is open
        poll = select.poll()
        poll.register(self._own.reader, select.POLLIN)
        if listen:
            poll.register(self._bell.reader, select.POLLIN)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            ready = [reader for reader, _ in poll.poll(1000 * left)]
            if self._own.reader in ready or (ready and self._bell.read()):
                return


nudge = Nudge()
"""Set by whoever has work for the job thread."""

leaving = threading.Event()
"""Set when this process shall end: whoever waits for something ends its waiting."""
