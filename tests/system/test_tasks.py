"""Tasks in a real cluster: performed once whatever dies, retried, parked, and left in peace."""

import random
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.eventually import eventually
from tests.system.facts import now, rows, unsound
from tests.system.gunicorns import Instance, gunicorn, job_module, ready

KINDS = """
import os
import time

from cluster import Run, task


@task(retry_delay=0, max_retries=100)
def count(run: Run, number: int) -> None:
    '''Add one, a few milliseconds after the start, in the commit that ends the task.'''
    run.wait(0.005)
    with run.transaction() as connection:
        connection.execute("UPDATE counter SET value = value + 1 WHERE id = %s", (number % 50,))
        run.finish()


@task(retry_delay=0.05)
def always(run: Run) -> None:
    raise ValueError("too blue")


@task(retry_delay=0.05)
def poison(run: Run) -> None:
    print("about to die", flush=True)
    os.kill(os.getpid(), 9)


@task()
def quiet(run: Run, seconds: float) -> str:
    run.wait(seconds)
    return "done"
"""
COUNT = 10_000
PROCESSING, COMPLETED, ERROR = 2, 3, 4


def post(instance: Instance, kind: str, **args: Any) -> str:
    """Ask for a task; return its id."""
    body = {"name": kind, "kind": kind, "args": args}
    answer = instance.http.post("/tasks", json=body).raise_for_status().json()
    return str(answer["task_id"])


def over(instance: Instance, task: str, within: float = 60) -> dict[str, Any]:
    """Return a task once it is over."""

    def found() -> dict[str, Any] | None:
        row: dict[str, Any] = instance.get(f"/tasks/{task}")
        return row if row["finished_at"] else None

    return eventually(found, within=within) or {}


def test_ten_thousand_tasks_are_done_once_while_workers_are_killed(
    url: str, tmp_path: Path
) -> None:
    rows(url, "CREATE TABLE counter AS SELECT id, 0 AS value FROM generate_series(0, 49) id")
    settings = {**job_module(tmp_path, KINDS), "RONIN_MAX_CONCURRENCY": "4"}
    with gunicorn(url, tmp_path, env=settings) as cluster:
        ready(cluster)
        batch = [{"name": "x", "kind": "count", "args": {"number": n}} for n in range(COUNT)]
        done, kills = threading.Event(), []

        def kill() -> None:
            while not done.wait(1):
                victim = random.choice(list(cluster.workers().values()))
                victim.kill()
                kills.append(victim.pid)

        killer = threading.Thread(target=kill)
        ids = [each["task_id"] for each in cluster.http.post("/tasks/batch", json=batch).json()]
        killer.start()
        try:
            eventually(lambda: rows(url, "SELECT 1 FROM run LIMIT 1") == [], within=180, every=0.1)
        finally:
            done.set()
            killer.join()
        assert len(kills) >= 3
        assert rows(url, "SELECT sum(value) FROM counter") == [(COUNT,)]
        ended = rows(
            url,
            "SELECT outcome, count(*), count(DISTINCT run_id) FROM history"
            " WHERE closing GROUP BY outcome",
        )
        assert ended == [("completed", COUNT, COUNT)]
        assert len(set(ids)) == COUNT
        assert unsound(url) == {}


def test_a_task_that_always_raises_has_three_attempts_and_then_is_an_error(
    url: str, tmp_path: Path
) -> None:
    with gunicorn(url, tmp_path, env=job_module(tmp_path, KINDS)) as cluster:
        ready(cluster)
        task = over(cluster, post(cluster, "always"))
        assert (task["status"], task["error"]) == (ERROR, "ValueError: too blue")
        attempts = cluster.get(f"/tasks/{task['task_id']}/attempts")
        assert [each["outcome"] for each in attempts] == ["failed"] * 3
        traces = rows(url, "SELECT traceback FROM history ORDER BY attempt")
        assert all("own_jobs.py" in trace for (trace,) in traces)


def test_a_task_that_kills_its_process_is_parked_and_the_others_are_unharmed(
    url: str, tmp_path: Path
) -> None:
    with gunicorn(url, tmp_path, env=job_module(tmp_path, KINDS)) as cluster:
        ready(cluster)
        others = [post(cluster, "quiet", seconds=4) for _ in range(20)]
        poison = over(cluster, post(cluster, "poison"))
        attempts = cluster.get(f"/tasks/{poison['task_id']}/attempts")
        assert poison["status"] == ERROR
        assert [each["outcome"] for each in attempts] == ["crashed"] * 3
        assert "signal 9" in poison["error"]
        assert "about to die" in poison["error"]
        found = [over(cluster, task) for task in others]
        assert {(task["status"], task["result"]) for task in found} == {(COMPLETED, "done")}
        eventually(lambda: len(cluster.get("/workers")) == 5)
        assert unsound(url) == {}


def test_a_cancelled_task_stops_and_a_task_past_its_deadline_never_starts(
    url: str, tmp_path: Path
) -> None:
    one_slot = {"WEB_CONCURRENCY": "1", "RONIN_MAX_CONCURRENCY": "1"}
    with gunicorn(url, tmp_path, env={**job_module(tmp_path, KINDS), **one_slot}) as cluster:
        ready(cluster)
        running = post(cluster, "quiet", seconds=600)
        eventually(lambda: cluster.get(f"/tasks/{running}")["status"] == PROCESSING)
        soon = (now(url) + timedelta(seconds=1)).isoformat()
        body = {"name": "late", "kind": "quiet", "args": {"seconds": 0}, "deadline": soon}
        missed = cluster.http.post("/tasks", json=body).raise_for_status().json()["task_id"]
        dropped = over(cluster, missed)
        assert (dropped["status"], dropped["outcome"], dropped["attempt"]) == (ERROR, "missed", 0)
        assert cluster.get(f"/tasks/{running}")["status"] == PROCESSING
        assert cluster.http.delete(f"/tasks/{running}").status_code == 202
        stopped = over(cluster, running)
        ended = (stopped["status"], stopped["outcome"], stopped["attempt"])
        assert ended == (ERROR, "cancelled", 1)
        assert rows(url, "SELECT 1 FROM run") == []


def test_thirteen_seconds_end_in_an_error_without_a_second_try(url: str, tmp_path: Path) -> None:
    with gunicorn(url, tmp_path, env={"RONIN_SAMPLE_SECONDS": "1"}) as cluster:
        ready(cluster)
        statuses: dict[str, list[int]] = {}
        for seconds in (2, 13):
            body = {"name": f"{seconds} s", "processing_time": seconds}
            task = cluster.http.post("/tasks", json=body).raise_for_status().json()["task_id"]
            statuses[task] = []

        def both_over() -> bool:
            for task, seen in statuses.items():
                status = cluster.get(f"/tasks/{task}")["status"]
                if status not in seen:
                    seen.append(status)
            return all(seen[-1] >= COMPLETED for seen in statuses.values())

        eventually(both_over, within=60)
        good, bad = statuses
        assert statuses[good] in ([1, 2, 3], [2, 3])
        assert statuses[bad] in ([1, 2, 4], [2, 4])
        row = cluster.get(f"/tasks/{bad}")
        assert (row["attempt"], row["status_name"]) == (1, "ERROR")
        lasted = rows(
            url,
            "SELECT finished_at - started_at >= '13 s' FROM history WHERE run_id = %(task)s",
            task=bad,
        )
        assert lasted == [(True,)]
