"""The fleet: two instances that serve and work, and a third behind a cable where that can be."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil

from tests.chaos.cable import Cable, cable
from tests.chaos.diary import Diary
from tests.chaos.machine import can_unplug
from tests.chaos.plan import LEASE_SECONDS
from tests.chaos.proxy import Proxy
from tests.chaos.server import Server
from tests.system.gunicorns import ROOT, Instance, gunicorn, ready

WORKERS = 3
GUNICORN = ("gunicorn", "-c", "gunicorn.conf.py")
JUMPING = "second"
"""The berth whose instances have a host clock that jumps."""
_BOOTED = re.compile(r"Booting worker with pid: (\d+)")
JUMPING_CLOCK = Path(__file__).parent / "jumping_clock"
SETTINGS = {
    "WEB_CONCURRENCY": str(WORKERS),
    "RONIN_JOBS": "tests.chaos.jobs",
    "RONIN_LEASE_SECONDS": str(LEASE_SECONDS),
    "RONIN_MAX_CONCURRENCY": "8",
}


class Berth:
    """A place in the fleet: its instance ends, and another takes the place.

    Attributes:
        instance: the one that is there now.
        master: its master process.
        past: all that ever were here.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        tree: Path,
        *,
        command: Sequence[str] = GUNICORN,
        env: Mapping[str, str] | None = None,
    ) -> None:
        settings = {**SETTINGS, **(env or {})}
        self._start = partial(gunicorn, url, folder, env=settings, command=command, tree=tree)
        self._stack = ExitStack()
        self.past: list[Instance] = []
        self.launch()

    def launch(self) -> None:
        """Start an instance here, beside the one before if that lives."""
        self.instance = self._stack.enter_context(self._start())
        self.master = psutil.Process(self.instance.process.pid)
        self.past.append(self.instance)

    def replaces(self, master: psutil.Process) -> psutil.Process | None:
        """Return the master that takes the place of another (USR2), if there is one by now."""
        found = [child for child in _children(master) if _replaces(child, master)]
        return found[0] if found else None

    def workers(self) -> dict[str, psutil.Process]:
        """Return the workers that are there now, by their names in the cluster."""
        return self.workers_of(self.master)

    def workers_of(self, master: psutil.Process) -> dict[str, psutil.Process]:
        """Return the workers of one of two masters; a child that tries the jobs is none."""
        booted = set(map(int, _BOOTED.findall(self.instance.said())))
        workers = [child for child in _children(master) if child.pid in booted]
        return {f"{self.instance.name}:{worker.pid}": worker for worker in workers}

    def gave_up(self) -> bool:
        """Whether the master has ended by itself, as one does that can't start."""
        return not self.master.is_running() or self.master.status() == psutil.STATUS_ZOMBIE

    def end(self) -> None:
        """End all that ever were here, however they stand."""
        self._stack.close()


def _children(master: psutil.Process) -> list[psutil.Process]:
    try:
        return master.children()
    except psutil.NoSuchProcess:
        return []


def _replaces(child: psutil.Process, master: psutil.Process) -> bool:
    """Whether a child is a new master; gunicorn tells it of the old one in the environment."""
    try:
        return bool(child.environ().get("GUNICORN_PID") == str(master.pid))
    except (psutil.Error, OSError):
        return False


class Harbour:
    """All instances that there are and were, wherever their database is.

    Attributes:
        diary: what is done to them.
        berths: by name.
    """

    def __init__(self, diary: Diary) -> None:
        self.diary = diary
        self.berths: dict[str, Berth] = {}
        self._stack = ExitStack()

    def moor(self, name: str, berth: Berth) -> None:
        """Take a berth in, whose instances end with the others."""
        self.berths[name] = berth
        self._stack.callback(berth.end)

    @property
    def serving(self) -> list[Instance]:
        """The instances that answer HTTP now, or should."""
        return [berth.instance for berth in self.berths.values()]

    @property
    def everybody(self) -> list[Instance]:
        """Every instance that ever was."""
        return [instance for berth in self.berths.values() for instance in berth.past]

    def ready(self) -> None:
        """Wait until those that serve are ready."""
        ready(*self.serving)

    def leave(self) -> None:
        """End every instance in order; those that don't go are somebody's violation."""
        for instance in self.everybody:
            living = instance.processes()
            for process in living:
                with suppress(psutil.NoSuchProcess):
                    if process.parent() not in living:
                        process.terminate()

    def survivors(self) -> list[psutil.Process]:
        """Return the processes of any instance that live."""
        return [process for instance in self.everybody for process in instance.processes()]

    def end(self) -> None:
        """End all by force."""
        self._stack.close()


class Fleet(Harbour):
    """All instances of a campaign, and what stands between them and the database.

    Attributes:
        server: the database's.
        proxies: between the berths `first` and `second` and the server.
        cable: of the third, if there is one.
    """

    def __init__(self, server: Server, diary: Diary, folder: Path, tree: Path) -> None:
        super().__init__(diary)
        self.server = server
        self.proxies: dict[str, Proxy] = {}
        self.cable: Cable | None = None
        self._folder = folder
        self._tree = tree

    def start(self) -> None:
        """Start the two that serve; the second has a clock that jumps."""
        for name in ("first", JUMPING):
            env = {"PYTHONPATH": str(JUMPING_CLOCK)} if name == JUMPING else {}
            socket = f"{self.server.folder}/pg/.s.PGSQL.{self.server.port}"
            proxy = self.proxies[name] = self._stack.enter_context(Proxy(socket))
            url = self.server.url_at("127.0.0.1", proxy.port)
            self.moor(name, Berth(url, self._folder, self._tree, env=env))

    def start_third(self) -> None:
        """Start the one behind a cable, where the machine lets us lay one."""
        if not can_unplug():
            return
        self.cable = self._stack.enter_context(cable())
        command = ("ip", "netns", "exec", self.cable.name, *GUNICORN)
        url = self.server.url_at(self.cable.our_address, self.server.port)
        self.moor("third", Berth(url, self._folder, self._tree, command=command))

    @property
    def serving(self) -> list[Instance]:
        """The instances that answer HTTP now, or should."""
        return [self.berths[name].instance for name in self.proxies]


@contextmanager
def fleet(server: Server, diary: Diary, folder: Path, tree: Path = ROOT) -> Iterator[Fleet]:
    """Run the two instances that serve; end all instances at the end."""
    made = Fleet(server, diary, folder, tree)
    try:
        made.start()
        made.ready()
        yield made
    finally:
        made.end()
