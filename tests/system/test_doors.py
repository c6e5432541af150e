"""Doors: a real service with tokens, its remote worker, and one that would be open to all."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.eventually import eventually
from tests.system.facts import rows
from tests.system.gunicorns import ROOT, Instance, free_port, gunicorn, job_module, ready

OPERATE, READ = "operate-secret-4711", "read-secret-4711-xy"
TOKENS = {"RONIN_TOKENS": f"ada:operate:{OPERATE},eve:read:{READ}"}
KINDS = """
from cluster import task

@task(remote=True)
def add(left: int, right: int) -> int:
    return left + right
"""


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Settings of a service with tokens and one kind of tasks, which nobody in it performs."""
    return {**TOKENS, **job_module(tmp_path, KINDS), "RONIN_LEASE_SECONDS": "2"}


@pytest.fixture
def service(url: str, tmp_path: Path, settings: dict[str, str]) -> Iterator[Instance]:
    """A service that others can reach, because it has tokens."""
    with gunicorn(url, tmp_path, env={**settings, "BIND": "0.0.0.0"}) as instance:
        ready(instance)
        yield instance


@contextlib.contextmanager
def remote(service: Instance, log: Path, env: dict[str, str]) -> Iterator[None]:
    """Let a remote worker work for a service."""
    command = [sys.executable, "-m", "cluster.remote", "--kinds", "add"]
    command += ["--url", f"http://127.0.0.1:{service.port}"]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **env}, stdout=output, stderr=output
        ) as process,
    ):
        try:
            yield
        finally:
            process.kill()


def test_a_remote_worker_needs_a_token_and_a_person_a_login(
    service: Instance, url: str, tmp_path: Path, settings: dict[str, str]
) -> None:
    """Who has one is served by every worker of the service; nobody's token is in any log."""
    http = service.http
    assert http.get("/jobs").status_code == 401
    wanted = {"name": "sum", "kind": "add", "args": {"left": 2, "right": 3}}
    operate = {"Authorization": f"Bearer {OPERATE}"}
    task = http.post("/tasks", headers=operate, json=wanted).json()["task_id"]
    refused, worker = tmp_path / "refused.log", tmp_path / "worker.log"
    plain = {name: text for name, text in settings.items() if name != "RONIN_TOKENS"}

    with remote(service, refused, {**plain, "RONIN_TOKEN": READ}):
        eventually(lambda: "no answer yet" in refused.read_text())
    with remote(service, worker, {**plain, "RONIN_TOKEN": OPERATE}):
        eventually(
            lambda: http.get(f"/tasks/{task}", headers=operate).json()["status_name"] == "COMPLETED"
        )

    page = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
    assert http.get("/", headers=page).headers["location"] == "/login?next=/"
    form = {"form_key": http.cookies["ronin_form"]}
    wrong = http.post("/login", headers=page, data={"token": "no-such-token-0000", **form})
    assert wrong.status_code == 401
    assert http.post("/login", headers=page, data={"token": OPERATE, **form}).status_code == 303
    for _ in range(50):  # whichever worker of the five
        with httpx.Client(base_url=http.base_url, cookies=http.cookies) as browser:
            assert "Log out" in browser.get("/", headers=page).text
    assert http.post("/ui/kinds/add/pause", headers=page, data=form).status_code == 303
    assert http.post("/logout", headers=page, data=form).headers["location"] == "/login"
    assert http.get("/", headers=page).status_code == 303

    assert rows(url, "SELECT who, what FROM action") == [("ada", "pause")]
    said = service.said() + refused.read_text() + worker.read_text()
    assert "403" in said
    assert "login refused" in said
    for secret in (OPERATE, READ, "no-such-token-0000"):
        assert secret not in said


@pytest.mark.parametrize("bind", ["0.0.0.0", "::"])
@pytest.mark.parametrize("by", ["BIND", "argument"])
def test_a_service_for_others_without_tokens_does_not_start(
    tmp_path: Path, bind: str, by: str
) -> None:
    """It says in one line what to set, and touches nothing."""
    port = free_port()
    host = f"[{bind}]" if ":" in bind else bind
    how = {"env": {"BIND": bind}} if by == "BIND" else {"arguments": ["--bind", f"{host}:{port}"]}
    with gunicorn("", tmp_path, port=port, **how) as refused:
        assert refused.wait() == 1
        [line] = [line for line in refused.said().splitlines() if "[info " not in line]
        assert line.startswith(f"ronin: BIND={bind} lets others in: set RONIN_TOKEN, ")
        assert not (tmp_path / "data").exists()
