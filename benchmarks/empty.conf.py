"""gunicorn as the service has it, with an application that does nothing and no job side."""

from pathlib import Path

exec((Path(__file__).parent.parent / "gunicorn.conf.py").read_text())  # noqa: S102 - our own
del on_starting, post_worker_init, worker_exit  # type: ignore[name-defined] # noqa: F821

wsgi_app = "benchmarks.ceilings:empty()"
