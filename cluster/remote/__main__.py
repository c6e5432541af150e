"""The program: `python -m cluster.remote`."""

import functools
import logging
import os
import signal
import threading
import time
from contextlib import AbstractContextManager

import click
import httpx

from cluster import log, settings
from cluster.apart import perform_apart
from cluster.job import JobError, catalogue
from cluster.remote.loop import Remote
from cluster.remote.siblings import outlive_siblings
from cluster.run import Connection
from cluster.runner import Runner


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", help="The service.  [default: RONIN_URL, else this host's at PORT]")
@click.option(
    "--kinds", help="Of tasks, comma separated.  [default: all but those with remote=True]"
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    help="Tasks at once.  [default: RONIN_REMOTE, else 4]",
)
@click.option("--name", help="Of this worker, for people.  [default: host:pid]")
@click.option("--grace", default=20.0, show_default=True, help="Seconds to end in after TERM.")
@click.option("--procfile", type=click.Choice(["on", "off"]), hidden=True)
def main(
    url: str | None,
    kinds: str | None,
    concurrency: int | None,
    name: str | None,
    grace: float,
    procfile: str | None,
) -> None:
    """Perform tasks of a Ronin cluster, over HTTP alone.

    The tasks' functions are those of the modules in RONIN_JOBS; a database is not needed.
    TERM or Ctrl-C: running tasks are told to stop and given back; a second time: at once.
    """
    if procfile == "off":
        outlive_siblings()
        return
    known = settings.load_or_exit()
    url = url or known.remote_url or f"http://{known.address}"
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"the service's URL is http://… or https://…, not {url!r}")
    log.configure(known.log)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it has a line for each request
    wake = threading.Event()
    # The service closes a connection that is idle for 5 s; we have to be sooner.
    client = httpx.Client(
        base_url=url,
        headers={"Authorization": f"Bearer {known.shown_token}"} if known.shown_token else {},
        limits=httpx.Limits(keepalive_expiry=3),
    )
    remote = Remote(
        client,
        name=name or f"{known.instance}:{os.getpid()}",
        kinds=_kinds(known.jobs, kinds),
        jobs=catalogue,
        runner=Runner(
            concurrency or known.remote or 4,
            _no_database,
            functools.partial(perform_apart, url=None),
            wake.set,
        ),
        wake=wake,
    )
    _work(remote, grace, last=procfile is not None)


def _work(remote: Remote, grace: float, *, last: bool) -> None:
    """Let it work until a signal comes, and then for the grace, or until all others ended."""
    # In a thread, so that the main one, where signals arrive, holds no lock that they need.
    loop = threading.Thread(target=remote.work, name="remote", daemon=True)
    told: list[int] = []

    def tell(number: int, _frame: object) -> None:
        if told:
            os._exit(128 + number)
        told.append(number)
        remote.stop()

    signal.signal(signal.SIGTERM, tell)
    signal.signal(signal.SIGINT, tell)
    loop.start()
    # Short waits: Python would not see a signal that comes just before a long one until its end.
    while not told:
        loop.join(0.2)
    until = time.monotonic() + grace
    while not last and loop.is_alive() and time.monotonic() < until:
        loop.join(0.2)
    if last:
        outlive_siblings()
    if loop.is_alive():
        log.get("remote").warning("left before everything was reported")


def _kinds(modules: tuple[str, ...], wanted: str | None) -> list[str]:
    try:
        catalogue.load(modules)
    except JobError as error:
        raise SystemExit(f"ronin: {error}") from None
    kinds = {job.name: job for job in catalogue if job.schedule is None}
    # What has remote=True may have a body only in another language, so it has to be asked for.
    names = wanted.split(",") if wanted else [name for name in kinds if not kinds[name].remote]
    if unknown := [name for name in names if name not in kinds]:
        raise click.UsageError(f"--kinds: RONIN_JOBS declares no kind of tasks {unknown[0]!r}")
    if not names:
        raise SystemExit("ronin: RONIN_JOBS declares no kind of tasks for a remote worker")
    return names


def _no_database() -> AbstractContextManager[Connection]:
    raise RuntimeError("a remote worker has no database")


if __name__ == "__main__":
    main()
