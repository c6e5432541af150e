"""From nothing to a cluster at work, and back to nothing; and starts that can't be."""

import os
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.eventually import eventually
from tests.system.facts import rows
from tests.system.gunicorns import (
    BIN,
    ROOT,
    Instance,
    free_port,
    gunicorn,
    job_module,
    of_server,
    ready,
    server_of,
)

GUNICORN = ("gunicorn", "-c", "gunicorn.conf.py")
HONCHO = ("honcho", "start")
ALONE = {"WEB_CONCURRENCY": "1"}


def running(instance: Instance) -> int:
    return [job["state"] for job in instance.get("/jobs")].count("running")


def interrupt(instance: Instance) -> None:
    """Do what Ctrl-C in a terminal does: signal the whole foreground group."""
    os.killpg(instance.process.pid, signal.SIGINT)


@pytest.mark.parametrize("command", [GUNICORN, HONCHO], ids=["gunicorn", "honcho"])
def test_fresh_start_works_and_ctrl_c_leaves_nobody(tmp_path: Path, command: Sequence[str]) -> None:
    with gunicorn("", tmp_path, command=command) as cluster:
        ready(cluster)
        assert eventually(lambda: running(cluster) == 10)
        assert cluster.get("/users/1") == {"userId": 1, "balance": 10000}
        assert cluster.get("/health") == {"status": "ok"}
        assert of_server(tmp_path / "data")
        cluster.http.close()
        interrupt(cluster)
        cluster.wait()
        assert cluster.processes() == []
        eventually(lambda: not of_server(tmp_path / "data"))


def test_second_start_in_the_same_folder_finds_its_data(tmp_path: Path) -> None:
    with gunicorn("", tmp_path, env=ALONE) as first:
        ready(first)
        first.http.post("/users/1/balance", json={"amount": -3}).raise_for_status()
        interrupt(first)
        assert first.wait() == 0
    with gunicorn("", tmp_path, env=ALONE) as second:
        ready(second)
        assert second.get("/users/1")["balance"] == 9997


def test_killed_cluster_starts_again_with_its_data(tmp_path: Path) -> None:
    with gunicorn("", tmp_path, env=ALONE) as first:
        ready(first)
        first.http.post("/users/1/balance", json={"amount": -3}).raise_for_status()
        eventually(lambda: running(first) == 10)
        for process in of_server(tmp_path / "data"):
            process.kill()
        first.kill()
    with gunicorn("", tmp_path, env=ALONE) as second:
        ready(second)
        assert second.get("/users/1")["balance"] == 9997
        eventually(lambda: running(second) == 10)


def test_second_start_on_the_same_port_says_so_and_touches_nothing(
    url: str, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    with gunicorn(url, tmp_path, env=ALONE) as first:
        ready(first)
        with gunicorn("", tmp_path / "other", port=first.port) as second:
            assert second.wait() == 1
            [line] = complaints(second)
            assert line.startswith(f"ronin: cannot listen on 127.0.0.1:{first.port}: it is taken")
        assert not (tmp_path / "other" / "data").exists()
        assert first.get("/health/ready") == {"status": "ready"}


def test_the_port_that_counts_is_where_gunicorn_is_told_to_listen(url: str, tmp_path: Path) -> None:
    """A taken PORT is nothing to who listens elsewhere, and a taken port is found elsewhere."""
    (tmp_path / "other").mkdir()
    elsewhere = ("--bind", f"127.0.0.1:{free_port()}")
    with gunicorn(url, tmp_path, env=ALONE) as first:
        ready(first)
        with gunicorn(url, tmp_path, env=ALONE, port=first.port, arguments=elsewhere) as second:
            eventually(lambda: "Listening at" in second.said())
            with gunicorn("", tmp_path / "other", env=ALONE, arguments=elsewhere) as third:
                assert third.wait() == 1
                [line] = complaints(third)
                assert line.startswith(f"ronin: cannot listen on {elsewhere[1]}: it is taken")
            assert not (tmp_path / "other" / "data").exists()


def complaints(instance: Instance) -> list[str]:
    """Return what was said beyond the course of events."""
    return [line for line in instance.said().splitlines() if "[info " not in line]


def test_second_instance_of_the_same_folder_joins_the_cluster(tmp_path: Path) -> None:
    with gunicorn("", tmp_path, env=ALONE) as first, gunicorn("", tmp_path, env=ALONE) as second:
        ready(first, second)
        both = {first.name, second.name}
        eventually(lambda: {worker["host"] for worker in second.get("/workers")} == both)
        interrupt(first)
        first.wait()
        eventually(lambda: running(second) == 10)
        assert {job["worker"] for job in second.get("/jobs")} == set(second.workers())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("BIND", "no such host"),
        ("WEB_CONCURRENCY", "0"),
        ("RONIN_MAX_CONCURRENCY", "0"),
        ("RONIN_SAMPLE_SECONDS", "-1"),
        ("RONIN_LEASE_SECONDS", "soon"),
        ("RONIN_RETENTION_DAYS", "1.5"),
        ("RONIN_INSTANCE", "two words"),
        ("RONIN_LOG", "xml"),
        ("RONIN_JOBS", "no-module"),
        ("RONIN_DATA", "/dev/null/data"),
        ("DATABASE_URL", "mysql://localhost/ronin"),
    ],
)
def test_setting_that_makes_no_sense_ends_the_start_with_one_line(
    tmp_path: Path, variable: str, value: str
) -> None:
    with gunicorn("", tmp_path, env={variable: value}) as refused:
        assert refused.wait() == 1
        [line] = complaints(refused)
        assert line.startswith("ronin: ")
        assert variable in line or value in line


def test_tracing_whose_settings_can_not_be_ends_the_start_with_one_line(tmp_path: Path) -> None:
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "OTEL_BSP_MAX_QUEUE_SIZE": "10",
    }
    with gunicorn("", tmp_path, env=settings) as refused:
        assert refused.wait() == 1
        [line] = complaints(refused)
        assert line.startswith("ronin: OpenTelemetry refuses its settings")
        assert "max_queue_size" in line
        assert not (tmp_path / "data").exists()


def test_word_for_the_number_of_workers_ends_the_start_with_one_line(tmp_path: Path) -> None:
    settings = {"WEB_CONCURRENCY": "five"}
    with gunicorn("", tmp_path, env=settings, command=HONCHO) as refused:
        assert refused.wait() == 1
        assert "ronin: WEB_CONCURRENCY=five: " in refused.said()
        assert "Traceback" not in refused.said()


MISPLANNED = """
from cluster import job

@job(schedule="61 * * * *")
def misplanned() -> None:
    pass
"""


@pytest.mark.parametrize(
    ("source", "modules", "line"),
    [
        (MISPLANNED, "own_jobs", "job 'misplanned': '61 * * * *' is no cron expression"),
        ("", "no_such_module", "RONIN_JOBS names 'no_such_module', and there is no such module"),
    ],
    ids=["malformed setting", "absent module"],
)
def test_jobs_that_make_no_sense_end_the_start_with_a_line_that_says_why(
    url: str, tmp_path: Path, source: str, modules: str, line: str
) -> None:
    settings = {**job_module(tmp_path, source), "RONIN_JOBS": modules}
    with gunicorn(url, tmp_path, env=settings) as refused:
        assert refused.wait() != 0
        assert line in refused.said()
        assert "Traceback" not in refused.said()
        assert rows(url, "SELECT name FROM job") == []


def test_jobs_that_break_when_they_are_imported_end_the_start_and_say_where(
    url: str, tmp_path: Path
) -> None:
    with gunicorn(url, tmp_path, env=job_module(tmp_path, "import math\n\nmath.ceil()")) as refused:
        assert refused.wait() != 0
        assert refused.said().count('own_jobs.py", line 3') == 1
        assert "ronin: a module that RONIN_JOBS names can't be loaded" in refused.said()
        assert "cluster/" not in refused.said()
        assert "importlib" not in refused.said()
        assert rows(url, "SELECT name FROM job") == []


def test_jobs_that_make_no_sense_are_told_once(url: str, tmp_path: Path) -> None:
    with gunicorn(url, tmp_path, env=job_module(tmp_path, MISPLANNED)) as refused:
        refused.wait()
        assert refused.said().count("job 'misplanned'") == 1


def test_start_without_a_database_says_so_and_serves_when_it_appears(tmp_path: Path) -> None:
    data = tmp_path / "elsewhere"
    with server_of(data) as url:
        pass
    eventually(lambda: not of_server(data))
    with gunicorn(url, tmp_path, env=ALONE) as cluster:
        eventually(lambda: "waiting for the database" in cluster.said())
        with pytest.raises(httpx.ConnectError):
            cluster.http.get("/health")
        with server_of(data):
            ready(cluster)
            eventually(lambda: running(cluster) == 10)
            assert cluster.http.get("/health").status_code == 200


@pytest.mark.parametrize("command", [GUNICORN, HONCHO], ids=["gunicorn", "honcho"])
def test_port_is_8000_when_none_is_set(tmp_path: Path, command: Sequence[str]) -> None:
    assert refused_port(tmp_path, command) == "8000"


def refused_port(folder: Path, command: Sequence[str]) -> str:
    """Start on an address that no host has, without PORT; return the port it would have taken."""
    settings = {name: value for name, value in os.environ.items() if name != "PORT"}
    settings |= {"BIND": "192.0.2.1", "RONIN_DATA": str(folder / "data")}
    settings["PATH"] = f"{BIN}:{settings['PATH']}"
    done = subprocess.run(
        command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=30, check=False
    )
    said = done.stdout + done.stderr
    return said.partition("cannot listen on 192.0.2.1:")[2].partition(":")[0]


def test_the_threads_of_a_worker_share_few_arenas(url: str, tmp_path: Path) -> None:
    """Of glibc's allocator, which begins each but the first at a multiple of 64 MiB."""
    with gunicorn(url, tmp_path, env=ALONE) as cluster:
        ready(cluster)
        with ThreadPoolExecutor(16) as visitors:
            list(visitors.map(cluster.http.get, ["/"] * 64))
        [worker] = cluster.workers().values()
        mapped = [each.addr.split("-") for each in worker.memory_maps(grouped=False)]
        heaps = [start for start, _ in mapped if int(start, 16) % (64 << 20) == 0]
    assert len(heaps) < 4  # one, and whatever else happens to begin there; there were fifteen
