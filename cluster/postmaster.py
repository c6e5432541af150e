"""The embedded PostgreSQL as a process: start it, ask whether it answers, stop it, guard it.

Invariants:

- Standard library only: the guard is this very file, run as a script (`python -I -S`).
- Who uses the server holds a shared flock on `pg.users`; whoever gets the exclusive one knows
  that nobody is left. The kernel drops a flock however its holder ends, so the count can't lie.
- The server is created and started only under the exclusive flock on `pg.start`, and stopped
  only under the exclusive one on `pg.users`.
- Locks are taken in one order: users, then start. No flock is inherited by a program we run,
  except the one on `pg.guard`, which is handed over to the guard.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 300  # crash recovery replays up to max_wal_size, on a slow disk for minutes
STOP_SECONDS = 60
RETRY_SECONDS = 0.2  # between starts while remains of a killed server are in the way
REST_SECONDS = 5.0  # the guard's pause after a start that failed for good (a full disk)
POLL_SECONDS = 0.4  # each costs the server a fork: a quarter of a percent of one core
SOCKET = ".s.PGSQL.5432"
LOG_BYTES = 10_000_000

SETTINGS = {
    "listen_addresses": "",  # no TCP at all
    "port": "5432",  # names the socket; said here because PGPORT would change the default
    "unix_socket_permissions": "0700",
    "max_connections": "200",  # five workers with two pools each, twice during a reload
    "fsync": "on",  # these three are our promise of durability: no edit of the
    "full_page_writes": "on",  # configuration file takes it back
    "synchronous_commit": "on",
    "jit": "off",  # statements of microseconds; compiling takes milliseconds
    "autovacuum_naptime": "10s",  # a queue's table grows by each task until it is vacuumed
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",  # two lines every five minutes that nobody reads
}

# What a server says that stumbles over the remains of one that was killed: backends that still
# hold its memory, or a postmaster on its way out. Both pass by themselves.
PASSING = re.compile(r'still in use|lock file "[^"]*" already exists')
NOISE = re.compile(r" LOG: |^pg_ctl: could not start server|^Examine the log output|^\s*$")


class EmbeddedPostgresError(Exception):
    """There is no embedded PostgreSQL; the message is one line that tells a person why."""


def lock(path: str | Path, operation: int) -> int:
    """Take a flock and return the descriptor that holds it (close it to let go).

    It is opened for reading, which flock does not mind, so that a file made by root serves an
    ordinary user too. Raises BlockingIOError with LOCK_NB when someone else has it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, operation)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def exclusive(path: str | Path) -> Iterator[None]:
    """Hold the exclusive flock on `path` for the block."""
    descriptor = lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


class Server(NamedTuple):
    """A PostgreSQL server: where its data, binaries and socket are, and who runs it."""

    data: str  # holds pg (the cluster itself), pg.log and the lock files
    binaries: str
    sockets: str  # the directory of a new server's socket; `address` knows a running one's
    uid: int
    gid: int
    become: list[str]  # a command line that becomes uid:gid; empty: a plain switch of user

    @property
    def cluster(self) -> str:
        """PostgreSQL's own data directory."""
        return f"{self.data}/pg"

    def command(
        self, *argv: str, cluster: str = "", output: int = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as the server's account, in the root directory, with a bare environment.

        The directory `cluster` goes along as PGDATA, because pg_ctl pastes its own `-D` into a
        shell command without escaping it.
        """
        switch = os.geteuid() == 0 and not self.become
        return subprocess.run(
            [*self.become, *argv],
            user=self.uid if switch else None,
            group=self.gid if switch else None,
            extra_groups=[] if switch else None,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "PGDATA": cluster or self.cluster},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            check=False,
        )

    def address(self) -> str | None:
        """Return the directory of the socket if a server is ready there, else None."""
        lines = self._pid_file()
        if len(lines) < 8 or lines[7].strip() != "ready":  # noqa: PLR2004 - its 8th line: the state
            return None
        return lines[4] if _listens(f"{lines[4]}/{SOCKET}") else None

    def start(self) -> None:
        """Return once the server answers; start it if need be (the caller holds `pg.start`).

        Raises:
            EmbeddedPostgresError: it doesn't start, with the last lines of its log.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self.address():
            complaint = self._launch()
            if time.monotonic() > deadline or (complaint and not PASSING.search(complaint)):
                lines = [line for line in complaint.splitlines() if not NOISE.match(line)]
                raise EmbeddedPostgresError(
                    f"PostgreSQL doesn't start; {self.data}/pg.log ends: {' / '.join(lines[-4:])}"
                )
            if complaint:
                time.sleep(RETRY_SECONDS)

    def stop(self) -> None:
        """Stop the server, if there is one (the caller holds `pg.users`)."""
        self._forget_stale_pids()
        for mode in ("fast", "immediate"):
            if not self._pid_file():
                break
            self.command(f"{self.binaries}/pg_ctl", "stop", "-m", mode, "-t", str(STOP_SECONDS))
        if self.sockets != self.cluster:
            with contextlib.suppress(OSError):
                Path(self.sockets).rmdir()

    def open_log(self) -> int:
        """Return a descriptor that appends to `pg.log`; a log that grew too big makes way."""
        path = Path(self.data, "pg.log")
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(f"{path}.old")
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)

    def _launch(self) -> str:
        """Try once to start the server; return what it complained of, "" if it is ready."""
        self._forget_stale_pids()
        self._make_sockets()
        # pg_ctl gives its output to the server: without -l the log may lie where only we can write.
        with open(self.open_log(), "r+b", buffering=0) as log:  # noqa: PTH123 - a descriptor
            before = log.seek(0, os.SEEK_END)
            arguments = ["start", "-s", "-w", "-t", str(START_SECONDS), "-o", self._options()]
            done = self.command(f"{self.binaries}/pg_ctl", *arguments, output=log.fileno())
            log.seek(before)
            return (log.read().decode(errors="replace") or "?") if done.returncode else ""

    def _options(self) -> str:
        # -D is here for the eye: it makes the process tell, in `ps`, whose server it is.
        sockets = '"' + self.sockets.replace('"', '""') + '"'
        settings = {**SETTINGS, "unix_socket_directories": sockets}
        return shlex.join(["-D", self.cluster, *(f"--{k}={v}" for k, v in settings.items())])

    def _make_sockets(self) -> None:
        """Make the socket's directory, unless that is the cluster; accept none of a stranger."""
        if self.sockets == self.cluster:
            return
        with contextlib.suppress(FileExistsError):
            Path(self.sockets).mkdir(mode=0o700)
            os.chown(self.sockets, self.uid, self.gid)
        found = os.lstat(self.sockets)
        if (found.st_uid, found.st_mode) != (self.uid, 0o040700):
            raise EmbeddedPostgresError(
                f"The socket's directory {self.sockets} belongs to someone else: remove it"
            )

    def _pid_file(self) -> list[str]:
        try:
            return Path(self.cluster, "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _forget_stale_pids(self) -> None:
        """Remove lock files of PostgreSQL whose process is not our server any more.

        After a crash PostgreSQL would respect them if the number belongs to another process of the
        same user by now (containers count from 1 again), or to a zombie. Should this be wrong, the
        server's shared memory still keeps a second one out. Without /proc we don't judge.
        """
        if not Path("/proc/self/cmdline").exists():
            return
        for path in (f"{self.cluster}/postmaster.pid", f"{self.sockets}/{SOCKET}.lock"):
            with contextlib.suppress(FileNotFoundError):
                pid = Path(path).read_text().partition("\n")[0]
                if os.fsencode(self.cluster) not in _command_line(pid):
                    Path(path).unlink()


def _command_line(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _listens(path: str) -> bool:
    """Tell whether somebody accepts connections on the socket; too busy to answer counts."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except (TimeoutError, BlockingIOError):
            return True
        except OSError:
            return False
        return True


def hire_guard(server: Server) -> None:
    """Make sure that one guard watches the server: a process of a session of its own.

    The lock that makes it the only one is taken here and handed over, so there is no moment in
    which two are hired, or none. Ctrl-C and a closed terminal do not reach it; it keeps none of
    our pipes open and no directory busy. It leaves a double fork, so it never is our zombie.
    """
    try:
        place = lock(f"{server.data}/pg.guard", fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    try:
        with open(server.open_log(), "rb", buffering=0) as log:  # noqa: PTH123 - a descriptor
            subprocess.run(
                [sys.executable, "-I", "-S", __file__, str(place), json.dumps(server)],
                pass_fds=(place,),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                check=True,
            )
    except subprocess.CalledProcessError as error:
        raise EmbeddedPostgresError(
            f"PostgreSQL's guard doesn't start; {server.data}/pg.log tells why"
        ) from error
    finally:
        os.close(place)


def watch(server: Server, place: int) -> None:
    """Restart the server when it crashed; stop it when nobody is left, and return.

    Args:
        server: the server to watch.
        place: the descriptor that holds `pg.guard`.
    """
    path = f"{server.data}/pg.users"
    users = os.open(path, os.O_RDONLY)
    rested_at = 0.0
    while not _take(users):
        if not _is_still(users, path):
            return  # somebody removed the folder; what stands there now has its own guard
        if time.monotonic() > rested_at and not server.address() and not _revive(server):
            rested_at = time.monotonic() + REST_SECONDS
        time.sleep(POLL_SECONDS)
    if _is_still(users, path):
        server.stop()
    # In this order: who waits for `pg.users` to start the server again must find no guard.
    os.close(place)
    os.close(users)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))  # noqa: PTH116 - its mate
    except FileNotFoundError:
        return False


def _revive(server: Server) -> bool:
    try:
        with exclusive(f"{server.data}/pg.start"):
            server.start()
    except (EmbeddedPostgresError, OSError) as error:
        sys.stderr.write(f"The guard will try again: {error}\n")
        return False
    return True


if __name__ == "__main__" and os.fork() == 0:
    watch(Server(*json.loads(sys.argv[2])), int(sys.argv[1]))
