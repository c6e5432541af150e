"""Requests that hold a thread for long: half-sent batches, and claims that wait for work."""

import signal
import socket
import threading
import time
from pathlib import Path

import httpx

from tests.eventually import eventually
from tests.system.gunicorns import gunicorn, job_module, ready

HALF_A_BATCH = (
    b"POST /tasks/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 1000000\r\n\r\n[{"
)
KINDS = """
from cluster import Run, task


@task()
def short() -> None:
    '''Do nothing.'''


@task(timeout="1h")
def long(run: Run) -> None:
    run.wait(600)
"""
CLAIM = {"worker": "far:1", "kinds": ["short"], "wait_seconds": 20}
TASK = {"name": "short", "kind": "short"}


def test_half_sent_batches_hold_up_other_batches_and_nothing_else(url: str, tmp_path: Path) -> None:
    settings = {**job_module(tmp_path, KINDS), "WEB_CONCURRENCY": "1"}
    with gunicorn(url, tmp_path, env=settings) as instance:
        ready(instance)
        slow = [socket.create_connection(("127.0.0.1", instance.port)) for _ in range(8)]
        for client in slow:
            client.sendall(HALF_A_BATCH)

        def busy() -> bool:
            answer = instance.http.post("/tasks/batch", json=[TASK])
            return answer.status_code == 503 and answer.headers["Retry-After"] == "1"

        eventually(busy)
        assert instance.get("/health") == {"status": "ok"}
        assert instance.http.post("/tasks", json=TASK).status_code == 201
        for client in slow:
            client.close()
        eventually(lambda: instance.http.post("/tasks/batch", json=[TASK]).status_code == 201)


def test_a_claim_that_waits_is_woken_by_a_task_and_more_than_two_do_not_wait(
    url: str, tmp_path: Path
) -> None:
    # The cluster's own worker has no slot left, so the task is the waiting claim's.
    settings = {
        **job_module(tmp_path, KINDS),
        "WEB_CONCURRENCY": "1",
        "RONIN_MAX_CONCURRENCY": "1",
    }
    with gunicorn(url, tmp_path, env=settings) as instance:
        ready(instance)
        long = {"name": "long", "kind": "long"}
        task = instance.http.post("/tasks", json=long).json()["task_id"]
        eventually(lambda: instance.get(f"/tasks/{task}")["status"] == 2)
        answers: list[httpx.Response] = []

        def claim() -> None:
            address = f"http://127.0.0.1:{instance.port}/tasks/claim"
            answer = httpx.post(address, json=CLAIM, timeout=60)
            while "Retry-After" in answer.headers:  # the one that asks below was first
                answer = httpx.post(address, json=CLAIM, timeout=60)
            answers.append(answer)

        waiting = [threading.Thread(target=claim) for _ in range(2)]
        for thread in waiting:
            thread.start()

        def turned_away() -> bool:
            answer = instance.http.post("/tasks/claim", json={**CLAIM, "wait_seconds": 0.1})
            return "Retry-After" in answer.headers

        eventually(turned_away)
        asked = instance.http.post("/tasks", json=TASK).json()["task_id"]
        eventually(lambda: answers)
        assert [each["task_id"] for each in answers[0].json()] == [asked]
        began = time.monotonic()
        instance.signal(signal.SIGTERM)
        for thread in waiting:
            thread.join(60)
        # The other claim came back empty with the end of the service, not with its own.
        assert answers[1].json() == []
        assert time.monotonic() - began < CLAIM["wait_seconds"] - 5  # type: ignore[operator]
