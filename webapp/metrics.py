"""Metrics over HTTP: the figures of the whole cluster in the format of Prometheus.

The label is `job_name`, for `job` is Prometheus's own: the name of what it asks.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import falcon
from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from cluster.database import Pool
from cluster.pulse import STARTED
from cluster.store import metrics
from cluster.store.metrics import Figures
from cluster.store.views import Row

_STATES = ("working", "leaving", "silent")
_OUTCOMES = ("completed", "failed", "timed_out", "crashed")
"""Shown from the beginning: of a counter that begins at one, nobody sees the first step."""


class Metrics:
    """`GET /metrics`: the same from whichever worker answers, for it is read from the rows."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with all figures, as OpenMetrics to whom asks for that."""
        registry = CollectorRegistry()
        registry.register(Shown(metrics.figures(self._pool)))
        if _wants_openmetrics(request):
            response.content_type = openmetrics.CONTENT_TYPE_LATEST
            response.data = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        else:
            response.content_type = CONTENT_TYPE_PLAIN_0_0_4
            response.data = generate_latest(registry)


def _wants_openmetrics(request: falcon.Request) -> bool:
    """Whether it is named. The library's own choice fails at a version that is no number."""
    accepted = (request.get_header("Accept") or "").split(",")
    return any(each.split(";")[0].strip() == "application/openmetrics-text" for each in accepted)


class Shown(Collector):
    """Figures as families of metrics.

    Args:
        figures: what was read.
    """

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Return the families, the same ones whatever there is to tell."""
        yield from _of_cluster(self._figures.moment)
        yield from _of_workers(self._figures.workers)
        yield from _of_runs(self._figures.jobs)
        yield from _of_jobs(self._figures.jobs)
        yield from _of_schedules([each for each in self._figures.jobs if each["scheduled"]])
        yield from _of_last_attempts(self._figures)
        yield from _of_totals(self._figures)
        yield _parked(self._figures)


def _of_cluster(moment: Row) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "ronin_clock_timestamp_seconds",
        "The time by the database's clock, which leases and schedules go by.",
        moment["now"],
    )
    yield CounterMetricFamily(
        "ronin_claims",
        "Attempts that were claimed, remote workers' and those that were given back included.",
        moment["claims"],
    )
    yield CounterMetricFamily("ronin_postings", "Postings of all accounts.", moment["postings"])
    yield GaugeMetricFamily(
        "ronin_remote_leases",
        "Leases of remote workers, one for each claim under way.",
        moment["remote_leases"],
    )
    yield GaugeMetricFamily(
        "ronin_start_delay_longest_seconds",
        "The longest time from due to started, of what started in this minute and the last.",
        moment["longest_delay"] or 0,
    )


def _of_workers(workers: list[Row]) -> Iterator[Metric]:
    states = Counter(map(_state, workers))
    yield _gauge(
        "ronin_workers",
        "Workers; a silent one has let its lease run out, and nobody has removed it yet.",
        "state",
        ((state, states[state]) for state in _STATES),
    )
    yield GaugeMetricFamily(
        "ronin_slots",
        "Runs that the working workers can perform at once.",
        sum(each["slots"] or 0 for each in workers if _state(each) == "working"),
    )
    yield _gauge(
        "ronin_worker_lease_seconds",
        "What is left of a worker's lease; less than zero once it has run out.",
        "worker",
        ((each["name"], each["lease_left"]) for each in workers),
    )
    yield _gauge(
        "ronin_worker_lease_left_ratio",
        "The same as a part of the whole lease, which is renewed when a third is over.",
        "worker",
        ((each["name"], each["lease_left"] / each["lease"]) for each in workers),
    )


def _of_runs(jobs: list[Row]) -> Iterator[Metric]:
    runs = GaugeMetricFamily(
        "ronin_runs",
        "Runs under way, due, due but paused, and waiting for a later time. Of those that wait"
        f" {metrics.MOST} are counted at most, an equal part for each job that has some.",
        labels=["job_name", "state"],
    )
    for each in jobs:
        runs.add_metric([each["name"], "running"], each["running"])
        runs.add_metric([each["name"], "due"], 0 if each["paused"] else each["due"])
        runs.add_metric([each["name"], "paused"], each["due"] if each["paused"] else 0)
        runs.add_metric([each["name"], "later"], each["later"])
    yield runs
    yield _by_job(
        "ronin_run_oldest_due_seconds",
        "How long the oldest run is due that is not started; zero while the job is paused.",
        ((each["name"], 0 if each["paused"] else each["oldest"]) for each in jobs),
    )
    yield _by_job(
        "ronin_run_longest_running_seconds",
        "How long the run is under way that was started first; zero without one.",
        ((each["name"], each["longest"]) for each in jobs),
    )


def _of_jobs(jobs: list[Row]) -> Iterator[Metric]:
    yield _by_job(
        "ronin_job_paused",
        "Whether somebody has paused the job or kind.",
        ((each["name"], each["paused"]) for each in jobs),
    )
    yield _by_job(
        "ronin_job_workers",
        "Workers that perform the job or kind; not there for what remote workers perform.",
        ((each["name"], each["workers"]) for each in jobs if not each["remote"]),
    )


def _of_schedules(jobs: list[Row]) -> Iterator[Metric]:
    yield _by_job(
        "ronin_job_next_run_timestamp_seconds",
        "When the job is due next; not there while it is under way or paused.",
        (
            (each["name"], each["next_at"])
            for each in jobs
            if each["next_at"] is not None and not each["paused"]
        ),
    )
    yield _by_job(
        "ronin_job_late_seconds",
        "How long a firing has been due that nobody has started yet; else zero.",
        ((each["name"], each["late"]) for each in jobs),
    )


def _of_last_attempts(figures: Figures) -> Iterator[Metric]:
    """Yield what the last attempts tell; the totals know older ones than those looked at."""
    at = {each["job"]: each["last_at"] for each in figures.totals if each["what"] == "completed"}
    for each in figures.jobs:
        if each["succeeded_at"] is not None:
            at[each["name"]] = max(each["succeeded_at"], at.get(each["name"], 0))
    yield _by_job(
        "ronin_job_last_success_timestamp_seconds",
        "When an attempt has last completed; not there as long as none is known.",
        ((each["name"], at[each["name"]]) for each in figures.jobs if each["name"] in at),
    )
    yield _by_job(
        "ronin_job_last_duration_seconds",
        f"How long the last attempt took that completed, among the last {metrics.LAST} of all.",
        ((each["name"], each["duration"]) for each in figures.jobs if each["duration"] is not None),
    )
    yield _by_job(
        "ronin_job_failures_in_a_row",
        "Attempts that have failed, crashed, timed out or been missed since one completed,"
        f" among the last {metrics.LAST}.",
        ((each["name"], each["failures"]) for each in figures.jobs),
    )


def _of_totals(figures: Figures) -> Iterator[Metric]:
    """Yield what the workers have counted; it only grows, whatever becomes of the history."""
    told = {
        (each["name"], what): (0, 0.0) for each in figures.jobs for what in (STARTED, *_OUTCOMES)
    }
    told |= {
        (each["job"], each["what"]): (each["attempts"], each["seconds"]) for each in figures.totals
    }
    ended = CounterMetricFamily(
        "ronin_attempts_ended",
        "Attempts whose end a worker has written, without those of remote workers.",
        labels=["job_name", "outcome"],
    )
    delay = SummaryMetricFamily(
        "ronin_start_delay_seconds",
        "From when runs were due until a worker has started them.",
        labels=["job_name"],
    )
    duration = SummaryMetricFamily(
        "ronin_attempt_duration_seconds",
        "How long attempts took that completed.",
        labels=["job_name"],
    )
    for (name, what), (attempts, seconds) in sorted(told.items()):
        if what == STARTED:
            delay.add_metric([name], attempts, seconds)
        else:
            ended.add_metric([name, what], attempts)
        if what == "completed":
            duration.add_metric([name], attempts, seconds)
    yield from (ended, delay, duration)


def _parked(figures: Figures) -> Metric:
    parked = figures.moment["parked"] or {}
    return _by_job(
        "ronin_tasks_parked",
        "Tasks that were given up because their workers died, and have not been retried.",
        (
            (each["name"], parked.get(each["name"], 0))
            for each in figures.jobs
            if not each["scheduled"]
        ),
    )


def _by_job(name: str, text: str, values: Iterable[tuple[str, float]]) -> Metric:
    return _gauge(name, text, "job_name", values)


def _gauge(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for labelled, value in values:
        family.add_metric([labelled], value)
    return family


def _state(worker: Row) -> str:
    if worker["silent"]:
        return "silent"
    return "leaving" if worker["leaving"] else "working"
