"""The command line beside a real cluster: a subprocess, as an operator or a script starts it."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.database import Pool
from cluster.store import jobs
from tests.eventually import eventually
from tests.integration.builders import a_kind
from tests.system.facts import rows, unsound
from tests.system.gunicorns import ROOT, gunicorn, job_module, ready, server_of
from tests.system.test_outage import outage

JOBS = """
from cluster import Discard, Run, job, task


@job(every="1d")
def daily(run: Run) -> None:
    '''Do next to nothing.'''


@task(max_retries=0)
def work(run: Run, seconds: float, fails: bool = False) -> dict[str, str]:
    '''Wait, tell how far it is, and fail or not.'''
    for step in range(10):
        run.progress(step / 10)
        run.wait(seconds / 10)
    if fails:
        raise Discard("as asked for")
    return {"said": "done"}
"""


ALTERNATE_SCREEN, ORDINARY_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
NO_CURSOR, CURSOR = "\x1b[?25l", "\x1b[?25h"
COLOUR = re.compile(r"\x1b\[(\d;)*3\d")


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let Ctrl-C reach what is started, even if the tests run in the background, and ignore it.

    What a process ignores its children ignore; what it has a handler for they do not.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Terminal:
    """The command line with the settings of a cluster."""

    def __init__(self, url: str, settings: dict[str, str]) -> None:
        self._env = {**os.environ, **settings, "DATABASE_URL": url, "COLUMNS": "80"}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Do what the words say."""
        return subprocess.run(
            self._command(words),
            env=self._env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def json(self, *words: str) -> Any:
        """Return the JSON that a command prints."""
        done = self.run(*words, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    @contextmanager
    def start(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Start what goes on until it is told to stop."""
        with subprocess.Popen(
            self._command(words),
            env=self._env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def screen(
        self, *words: str, until: str, by: signal.Signals = signal.SIGINT, **settings: str
    ) -> tuple[int, str]:
        """Do what the words say on a terminal of 24 lines, with a signal once a text is there.

        Returns:
            The exit status, and all that the terminal got.
        """
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        env = {**self._env, "TERM": "xterm-256color", **settings}
        with subprocess.Popen(
            self._command(words), env=env, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs
        ) as process:
            os.close(theirs)
            got = b""
            told = False
            with suppress(OSError):  # EIO: nobody has the terminal open any more
                while piece := os.read(ours, 65536):
                    got += piece
                    if until.encode() in got and not told:
                        process.send_signal(by)
                        told = True
            os.close(ours)
        return process.returncode, got.decode()

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "cluster", *words]


@contextmanager
def frozen(data: Path) -> Iterator[None]:
    """Stop all processes of the server for the block, as a host does that swaps."""
    postmaster = psutil.Process(int((data / "pg" / "postmaster.pid").read_text().split()[0]))
    stopped = [postmaster, *postmaster.children()]
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            process.resume()


def in_order(text: str) -> bool:
    """Tell whether a terminal that got this is on its ordinary screen again, with a cursor."""
    screens = text.count(ALTERNATE_SCREEN) == text.count(ORDINARY_SCREEN)
    return screens and text.rfind(CURSOR) > text.rfind(NO_CURSOR) >= 0


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Settings of an instance with the jobs above."""
    return {**job_module(tmp_path, JOBS), "WEB_CONCURRENCY": "2", "RONIN_MAX_CONCURRENCY": "1"}


def test_an_operator_runs_follows_stops_and_retries(
    url: str, tmp_path: Path, settings: dict[str, str]
) -> None:
    terminal = Terminal(url, settings)
    with gunicorn(url, tmp_path, env=settings) as cluster:
        ready(cluster)
        eventually(lambda: len(cluster.get("/workers")) == 2)
        workers = {worker["id"] for worker in cluster.get("/workers")}
        assert {worker["id"] for worker in terminal.json("workers")} == workers

        daily = terminal.run("run", "daily", "--wait")
        assert (daily.returncode, daily.stdout.split()[1:]) == (0, ["completed"])

        good = terminal.run("run", "work", "--args", '{"seconds": 0.5}', "--wait")
        assert good.returncode == 0
        assert good.stdout.splitlines()[1] == '{"said": "done"}'
        bad = terminal.run("run", "work", "--args", '{"seconds": 0, "fails": true}', "--wait")
        assert bad.returncode == 1
        assert bad.stdout.split(maxsplit=1)[1] == "failed: as asked for\n"
        refused = terminal.run("run", "work", "--args", '{"seconds": "long"}')
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "work does not take these arguments: seconds: " in refused.stderr

        again = terminal.json("retry", "--kind", "work", "--failed")
        assert again == {"retried": 1, "more": False}
        task = bad.stdout.split()[0]
        eventually(lambda: terminal.json("task", task)["status_name"] == "ERROR")
        assert terminal.json("task", task)["attempt"] == 2
        assert terminal.json("status")["failures"][0]["error"] == "as asked for"

        terminal.run("pause", "daily")
        paused = terminal.json("jobs")[0]
        assert paused["why"].startswith("paused by cli ")
        assert terminal.run("run", "daily").returncode == 1
        assert terminal.run("verify", "--quiet").returncode == 0
        assert unsound(url) == {}


def test_ctrl_c_ends_the_waiting_and_not_the_run(
    url: str, tmp_path: Path, settings: dict[str, str]
) -> None:
    terminal = Terminal(url, settings)
    with gunicorn(url, tmp_path, env=settings) as cluster:
        ready(cluster)
        with terminal.start("run", "work", "--args", '{"seconds": 600}', "--wait") as waiting:
            eventually(lambda: rows(url, "SELECT 1 FROM run WHERE token IS NOT NULL"))
            assert waiting.stderr
            eventually(lambda: "runs on" in (waiting.stderr.readline() if waiting.stderr else ""))
            waiting.send_signal(signal.SIGINT)
            printed, said = waiting.communicate(timeout=60)
            assert (waiting.returncode, printed) == (130, "")
            assert "no longer waiting" in said
        (running,) = terminal.json("tasks", "--status", "processing")
        with terminal.start("run", "daily", "--wait") as other:
            told = terminal.run("cancel", running["task_id"])
            assert (told.returncode, told.stdout) == (0, "it runs, and was told to stop\n")
            eventually(
                lambda: terminal.json("task", running["task_id"])["outcome"] == "cancelled",
                within=60,
            )
            assert other.wait(60) == 0
        assert unsound(url) == {}


def test_watch_goes_on_while_the_database_is_away(tmp_path: Path, settings: dict[str, str]) -> None:
    data = tmp_path / "server"
    with server_of(data) as url:
        terminal = Terminal(url, settings)
        assert terminal.run("migrate").returncode == 0
        with terminal.start("status", "--watch", "--json") as watching:
            assert watching.stdout

            def look() -> dict[str, Any]:
                line: dict[str, Any] = json.loads(watching.stdout.readline())  # type: ignore[union-attr] # it is there
                return line

            assert look()["workers"] == []
            with outage(data):
                eventually(lambda: "database" in look().get("away", ""), within=60)
                assert look()["at"] is None
            eventually(lambda: look().get("at"), within=60)
            with frozen(data):
                eventually(lambda: "database" in look().get("away", ""), within=60)
            eventually(lambda: look().get("at"), within=60)
            watching.send_signal(signal.SIGINT)
            assert watching.wait(60) == 0


def test_a_terminal_shows_a_screen_a_bar_and_colours_only_if_they_are_wanted(
    url: str, tmp_path: Path, settings: dict[str, str]
) -> None:
    terminal = Terminal(url, settings)
    with gunicorn(url, tmp_path, env=settings) as cluster:
        ready(cluster)
        long = ("run", "work", "--args", '{"seconds": 30}', "--wait")
        status, text = terminal.screen(*long, until="0%")
        assert (status, "no longer waiting" in text) == (130, True)
        short = ("run", "work", "--args", '{"seconds": 0, "fails": true}', "--wait")
        status, text = terminal.screen(*short, until="nothing such")
        assert (status, "failed: as asked for" in text) == (1, True)

        status, text = terminal.screen("status", "--watch", until="UNDER WAY")
        assert status == 0
        assert in_order(text)
        assert text.count(ALTERNATE_SCREEN) == 1
        assert COLOUR.search(terminal.screen("history", until="nothing such")[1])
        plain = terminal.screen("history", until="nothing such", NO_COLOR="1")[1]
        assert "failed" in plain
        assert not COLOUR.search(plain)


@pytest.mark.parametrize(
    ("words", "until"),
    [
        ("status --watch", "Nothing waits."),
        ('run work --wait --args {"seconds":1}', "waits, 0 attempts"),
    ],
    ids=["screen", "bar"],
)
def test_a_signal_leaves_the_terminal_in_order(
    url: str, pool: Pool, settings: dict[str, str], words: str, until: str
) -> None:
    jobs.declare(pool, [a_kind()])
    terminal = Terminal(url, settings)
    status, text = terminal.screen(*words.split(), until=until, by=signal.SIGTERM)
    assert (status, in_order(text)) == (128 + signal.SIGTERM, True)


def test_the_embedded_database_is_found_by_its_folder(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    own = {**settings, "RONIN_DATA": str(tmp_path / "data")}
    terminal = Terminal("", own)
    nothing = terminal.run("status")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    with gunicorn("", tmp_path, env=own) as cluster:
        ready(cluster)
        names = [job["name"] for job in terminal.json("jobs")]
        assert names == [job["name"] for job in cluster.get("/jobs")] == ["daily"]
    eventually(lambda: terminal.json("jobs")[0]["why"] == "no worker is at work", within=60)
