"""A PostgreSQL of the suite's own, which it may stop, break and starve."""

import copy
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from tests.chaos.machine import CABLES, can_mount
from tests.eventually import eventually
from tests.system.gunicorns import free_port, of_server, server_of

DISK_BYTES = 768 * 1024 * 1024
SETTINGS = {
    "listen_addresses": "*",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "max_wal_size": "96MB",
    "autovacuum_naptime": "10s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # What faults.md asks of the server: a client that vanished is noticed within seconds.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "8000",
}


class Server:
    """One server in one folder.

    Attributes:
        folder: of the data, open to the account that runs it.
        log_file: what it says.
        port: of TCP; the socket lies in the folder.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder
        self.log_file = log
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        with server_of(folder):  # makes the cluster with the embedded programs, and ends
            options = shlex.split((folder / "pg" / "postmaster.opts").read_text())
        # Its guard would take ours for the one that it has to stop.
        eventually(lambda: not of_server(folder), within=60)
        self._program = options[0]
        with (folder / "pg" / "pg_hba.conf").open("a") as rules:
            rules.write(f"\nhost all all {CABLES} trust\nlocal replication all trust\n")

    @property
    def url(self) -> str:
        """The URL for those who shall see the truth, past every proxy."""
        return f"postgresql:///postgres?host={self.folder}/pg&port={self.port}&user=postgres"

    def url_at(self, host: str, port: int) -> str:
        """Return the URL for those who come by TCP."""
        return f"postgresql://postgres@{host}:{port}/postgres"

    @property
    def running(self) -> bool:
        """Whether its postmaster lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, within: float = 60) -> None:
        """Start it if it does not run, and return when it answers."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if not self.running:
                self._launch()
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url, connect_timeout=3).close()
                return
            time.sleep(0.05)
        raise AssertionError(f"PostgreSQL does not come up: {self.log()[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it, by default at once and without a checkpoint (`pg_ctl stop -m immediate`)."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)

    def standby(self, folder: Path) -> "Server":
        """Return a standby of this server, which has to be stopped in order for the copy."""
        subprocess.run(["cp", "-a", str(self.folder), str(folder)], check=True)
        made = copy.copy(self)
        made.folder, made.port, made.log_file = folder, free_port(), folder / "log"
        (folder / "pg" / "standby.signal").touch()
        with (folder / "pg" / "postgresql.auto.conf").open("a") as settings:
            primary = f"host={self.folder}/pg port={self.port} user=postgres"
            settings.write(f"\nprimary_conninfo = '{primary}'\n")
        return made

    def log(self) -> str:
        """Return what it said so far."""
        return self.log_file.read_text(errors="replace")

    def _launch(self) -> None:
        data = self.folder / "pg"
        owner = data.stat()
        settings = {**SETTINGS, "unix_socket_directories": str(data), "port": str(self.port)}
        as_root = os.geteuid() == 0
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-D", str(data), *(f"--{k}={v}" for k, v in settings.items())],
                user=owner.st_uid if as_root else None,
                group=owner.st_gid if as_root else None,
                extra_groups=[] if as_root else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )


@contextmanager
def server(log: Path) -> Iterator[Server]:
    """Run a server in a folder that goes with it, on a small disk where that can be."""
    with tempfile.TemporaryDirectory(prefix="ronin-chaos-") as name, _disk(Path(name)) as folder:
        folder.chmod(0o755)
        made = Server(folder, log)
        try:
            made.start()
            yield made
        finally:
            made.stop()


@contextmanager
def _disk(folder: Path) -> Iterator[Path]:
    if not can_mount():
        yield folder
        return
    options = f"size={DISK_BYTES},mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        unmount = ["umount", str(folder)]
        eventually(
            lambda: subprocess.run(unmount, capture_output=True, check=False).returncode == 0
        )
