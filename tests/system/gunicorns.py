"""Real gunicorns for system tests: started, watched, and always ended."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil

from tests.eventually import eventually

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent

logging.getLogger("httpx").setLevel(logging.WARNING)  # a line a request would hide the rest


class Instance:
    """One running gunicorn and its log."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, port: int, log: Path) -> None:
        self.process = process
        self.name = name
        self.port = port
        self.log = log
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

    def get(self, path: str) -> Any:
        """Return the JSON behind a path."""
        return self.http.get(path).raise_for_status().json()

    def job(self, name: str) -> dict[str, Any]:
        """Return one job."""
        found: dict[str, Any] = self.get(f"/jobs/{name}")
        return found

    def said(self) -> str:
        """Return the log so far."""
        return self.log.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Return its living processes, whoever their parent is by now; not PostgreSQL's."""
        return [each for each in psutil.process_iter() if _belongs_to(each, self.name)]

    def workers(self) -> dict[str, psutil.Process]:
        """Return the worker processes by their names in the cluster."""
        children = psutil.Process(self.process.pid).children()
        return {f"{self.name}:{child.pid}": child for child in children}

    def signal(self, number: int) -> None:
        """Send a signal to the master."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill every process at once, as when the machine's memory is out."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(10)

    def wait(self, within: float = 40) -> int:
        """Return the exit status once it has ended."""
        return self.process.wait(within)

    def end(self) -> None:
        """End it in order if it goes fast, else by force."""
        self.http.close()
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        self.kill()


@contextmanager
def gunicorn(
    url: str,
    folder: Path,
    *,
    env: dict[str, str] | None = None,
    arguments: Sequence[str] = (),
    command: Sequence[str] = ("gunicorn", "-c", "gunicorn.conf.py"),
    port: int | None = None,
    tree: Path = ROOT,
) -> Iterator[Instance]:
    """Start the service as `gunicorn -c gunicorn.conf.py` does, and end it however it stands.

    Args:
        url: DATABASE_URL; empty for the embedded PostgreSQL in `folder`.
        folder: for the log and RONIN_DATA.
        env: further settings.
        arguments: further arguments of gunicorn.
        command: what is started in place of gunicorn.
        port: where it listens, if not on a free one.
        tree: the source tree it is started from.
    """
    port = port or free_port()
    name = f"i{uuid4().hex[:8]}"
    log = folder / f"{name}.log"
    variables = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "DATABASE_URL": url,
        "RONIN_DATA": str(folder / "data"),
        "PORT": str(port),
        "RONIN_INSTANCE": name,
        **(env or {}),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=tree,
            env=variables,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    instance = Instance(process, name, port, log)
    try:
        yield instance
    except BaseException:
        sys.stderr.write(f"--- {log}\n{instance.said()[-20000:]}\n")
        raise
    finally:
        instance.end()


def ready(*instances: Instance) -> None:
    """Wait until the instances are ready for work."""
    for instance in instances:
        eventually(lambda i=instance: i.http.get("/health/ready").status_code == 200, within=60)  # type: ignore[misc] # bound at once


def free_port() -> int:
    """Return a port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


def _belongs_to(process: psutil.Process, name: str) -> bool:
    try:
        ours = process.environ().get("RONIN_INSTANCE") == name
        guard = ours and any("postmaster.py" in part for part in process.cmdline())
        return ours and not guard and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def job_module(folder: Path, source: str) -> dict[str, str]:
    """Write a module of jobs; return the settings under which an instance runs these alone."""
    (folder / "own_jobs.py").write_text(source)
    return {"PYTHONPATH": str(folder), "RONIN_JOBS": "own_jobs"}


# The embedded server of a folder.


@contextmanager
def server_of(data: Path) -> Iterator[str]:
    """Keep the embedded PostgreSQL of a folder running; give its URL."""
    script = "import sys; from pathlib import Path; from cluster.embedded import start\n"
    script += "print(start(Path(sys.argv[1])), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(data)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as holder:
        assert holder.stdout
        yield holder.stdout.readline().decode().strip()
        holder.communicate()


def of_server(data: Path, program: str = "") -> list[psutil.Process]:
    """Return the living processes that name the folder on their command line: server and guard."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        named = f"{data}/pg" in line or f'"{data}"' in line
        if named and program in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found
