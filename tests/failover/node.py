"""A node: one Patroni with its PostgreSQL, as on a host of its own, that can be lost and found."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from tests.failover.etcd import Etcd
from tests.failover.programs import Programs
from tests.system.gunicorns import free_port

SCOPE = "drill"
TTL_SECONDS = 20
"""After which a primary that is silent has lost its office; Patroni asks for 20 at least."""
_DYNAMIC: dict[str, Any] = {
    "ttl": TTL_SECONDS,
    "loop_wait": 2,
    "retry_timeout": 5,
    "master_start_timeout": 0,  # a primary that died hands over, and is not tried again first
    "synchronous_mode": True,
    # With two nodes, strict would mean that nothing can be changed while one of them is away.
    "synchronous_mode_strict": False,
    "postgresql": {
        "use_pg_rewind": True,
        "remove_data_directory_on_rewind_failure": True,
        "remove_data_directory_on_diverged_timelines": True,
        "parameters": {
            "max_connections": 200,
            "shared_buffers": "64MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            # A client that vanished is noticed within seconds.
            "tcp_keepalives_idle": 5,
            "tcp_keepalives_interval": 2,
            "tcp_keepalives_count": 3,
            "tcp_user_timeout": 8000,
        },
    },
}


class Node:
    """One host of the pair, as far as this machine has hosts.

    Attributes:
        name: in Patroni.
        port: of PostgreSQL; `api` is Patroni's.
        data: PostgreSQL's folder.
    """

    def __init__(self, name: str, folder: Path, etcd: Etcd, programs: Programs) -> None:
        self.name = name
        self.port = free_port()
        self.api = free_port()
        self.data = folder / name / "pg"
        self._programs = programs
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.data.parent.mkdir()
        if programs.account:
            shutil.chown(self.data.parent, programs.account, programs.account)
        self.config = folder / f"{name}.json"  # JSON is YAML as well
        self.config.write_text(json.dumps(self._settings(etcd), indent=1))

    @property
    def url(self) -> str:
        """Of this PostgreSQL alone, whatever it is at the moment."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres?connect_timeout=3"

    def start(self) -> None:
        """Start Patroni, which starts PostgreSQL."""
        account = self._programs.account
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs.patroni, str(self.config)],
                user=account,
                group=account,
                extra_groups=[] if account else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data.parent,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill all of it at once, as when the host loses power."""
        stopped = self.freeze()
        _signal(stopped, signal.SIGKILL)
        if self._process:
            self._process.wait(30)
        psutil.wait_procs(stopped, 30)

    def crash(self) -> None:
        """Let PostgreSQL alone die (as `pg_ctl stop -m immediate` does)."""
        _signal(self._postmaster(), signal.SIGQUIT)

    def orphan(self) -> None:
        """Kill Patroni alone; nobody looks after its PostgreSQL."""
        if self._process:
            self._process.kill()
            self._process.wait(30)

    def freeze(self) -> list[psutil.Process]:
        """Stop all of it (SIGSTOP), parents first; return what was stopped."""
        stopped: list[psutil.Process] = []
        # Who was stopped starts nobody any more; so the second look finds the last ones.
        for _ in range(3):
            new = [each for each in self.processes() if each not in stopped]
            _signal(new, signal.SIGSTOP)
            stopped += new
        return stopped

    def thaw(self) -> None:
        """Let all of it go on."""
        _signal(self.processes(), signal.SIGCONT)

    def end(self) -> None:
        """End it in order if it goes fast, else by force."""
        if self._process is None:
            return
        self.thaw()
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self.kill()

    def processes(self) -> list[psutil.Process]:
        """Return Patroni, the postmaster, and all that they have started."""
        roots = self._postmaster()
        if self._process and self._process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                roots.insert(0, psutil.Process(self._process.pid))
        found = list(roots)
        for root in roots:
            with suppress(psutil.NoSuchProcess):
                found += root.children(recursive=True)
        return list(dict.fromkeys(found))

    def walreceiver(self) -> list[psutil.Process]:
        """Return the process that takes the primary's log, if there is one."""
        return [each for each in self.processes() if "walreceiver" in " ".join(_command(each))]

    def members(self) -> dict[str, tuple[str, str]]:
        """Return role and state of each node as Patroni sees them; empty if it does not answer."""
        with suppress(httpx.HTTPError, ValueError):
            answer = httpx.get(f"http://127.0.0.1:{self.api}/cluster", timeout=3).json()
            return {each["name"]: (each["role"], each["state"]) for each in answer["members"]}
        return {}

    def promoted_at(self, within: float) -> datetime | None:
        """Wait until it takes writes; return since when it is known to, None if it never does."""
        deadline = time.monotonic() + within
        query = "SELECT pg_is_in_recovery(), clock_timestamp()"
        while time.monotonic() < deadline:
            with (
                suppress(psycopg.OperationalError),
                psycopg.connect(self.url, autocommit=True) as connection,
            ):
                while time.monotonic() < deadline:
                    row = connection.execute(query).fetchone()
                    if row and not row[0]:
                        at: datetime = row[1]
                        return at
                    time.sleep(0.01)
            time.sleep(0.05)
        return None

    def said(self) -> str:
        """Return what Patroni and PostgreSQL said so far."""
        return self._log.read_text(errors="replace")

    def _postmaster(self) -> list[psutil.Process]:
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            number = int((self.data / "postmaster.pid").read_text().split()[0])
            process = psutil.Process(number)
            if str(self.data) in " ".join(_command(process)):
                return [process]
        return []

    def _settings(self, etcd: Etcd) -> dict[str, Any]:
        here = self.data.parent
        rest = f"127.0.0.1:{self.api}"
        listen = f"127.0.0.1:{self.port}"
        rules = [
            f"{kind} {what} all trust" for kind in ("local",) for what in ("all", "replication")
        ]
        rules += [f"host {what} all 127.0.0.1/32 trust" for what in ("all", "replication")]
        return {
            "scope": SCOPE,
            "name": self.name,
            etcd.section: {"host": f"127.0.0.1:{etcd.port}"},
            "restapi": {"listen": rest, "connect_address": rest},
            "bootstrap": {"dcs": _DYNAMIC, "initdb": [{"encoding": "UTF8"}, "data-checksums"]},
            "postgresql": {
                "listen": listen,
                "connect_address": listen,
                "data_dir": str(self.data),
                "bin_dir": str(self._programs.bin_dir),
                "pgpass": str(here / "pgpass"),
                "pg_hba": rules,
                "parameters": {"unix_socket_directories": str(here)},
                "authentication": {
                    "superuser": {"username": "postgres", "password": "drill"},
                    "replication": {"username": "replicator", "password": "drill"},
                },
            },
            "watchdog": {"mode": "off"},
        }


def _command(process: psutil.Process) -> list[str]:
    try:
        words: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return words


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
