"""Nudge: the objects that the HTTP side and the job side of a worker share.

Whoever makes work for the job thread of its own process sets `nudge`, so that the work starts
within milliseconds. Nobody depends on it: the others poll.
"""

import threading

nudge = threading.Event()
"""Set by whoever has work for the job thread."""

leaving = threading.Event()
"""Set when this process shall end: whoever waits for something ends its waiting."""
