"""The catalogue: importing this package declares every job, as a crontab does.

To add one, write a function in a module here, put `@job(...)` above it, and name the module
below; it runs at the next start. A function may take a `Run` to tell its progress, to log, to
borrow a database connection, and to stop when it is told to.
"""

from jobs import audit, history, measure, tasks, waiting

__all__ = ["audit", "history", "measure", "tasks", "waiting"]
