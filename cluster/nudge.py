"""Nudge: the one object that the HTTP side and the job side of a worker share.

Whoever makes work for the job thread of its own process sets it, so that the work starts
within milliseconds. Nobody depends on it: the others poll.
"""

import threading

nudge = threading.Event()
