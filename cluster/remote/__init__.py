"""Remote: a worker that takes its tasks and reports on them through the HTTP API alone (T6).

`python -m cluster.remote --help` says how to start it; docs/remote-workers.md has the protocol.
"""
