"""What runs say: kept with them while they run and afterwards, whatever the database does."""

import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from cluster import Run, database, scribe, voice
from cluster.database import Pool
from cluster.scribe import MOST_BYTES
from cluster.store import retention, voices
from cluster.store.voices import Said
from cluster.voice import KEPT_BYTES, Chunk
from tests.eventually import eventually
from tests.integration.apart import suspect
from tests.integration.builders import Web, asked, execute, query, terminate_others, value
from tests.integration.voices import Listening, lines, listening, next_attempt, said
from tests.unit.builders import a_claim, a_job

LOGGER = logging.getLogger("own")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"
ISOLATED = """
import logging, sys
from cluster import Run, task

@task(name="chatty")
def chatty(run: Run) -> None:
    print("printed")
    run.log.info("bound", x=1)
    logging.getLogger("own").error("bad\\nnews")
    print("to stderr", file=sys.stderr)
    print("no end of line", end="")
"""


@pytest.fixture
def runs(url: str) -> Iterator[Listening]:
    """Yield a runner whose runs are listened to."""
    with listening(url) as found:
        yield found


def test_what_a_run_logs_is_kept_with_time_and_level(runs: Listening, pool: Pool) -> None:
    """Lines of `logging` and of `run.log` are text without colours, and don't repeat whose."""

    def speak(run: Run) -> None:
        LOGGER.warning("a %s", "line")
        run.log.info("bound", x=1)

    claim = runs.perform(speak)
    first, second = eventually(lambda: lines(pool, claim))
    assert re.fullmatch(rf"{TIME} \[warning  \] a line", first)
    assert re.fullmatch(rf"{TIME} \[info     \] bound x=1", second)


def test_an_error_is_kept_with_its_traceback(runs: Listening, pool: Pool) -> None:
    """A line of several lines stays whole."""

    def speak() -> None:
        try:
            int("blue")
        except ValueError:
            LOGGER.exception("no luck")

    claim = runs.perform(speak)
    found = eventually(lambda: lines(pool, claim))
    assert found[0].endswith("[error    ] no luck")
    assert found[1] == "Traceback (most recent call last):"
    assert found[-1].startswith("ValueError: invalid literal")


def test_a_line_is_there_while_the_run_is_under_way(runs: Listening, pool: Pool) -> None:
    """HTTP shows it in seconds, and what follows later as well."""
    (task,) = asked(pool)
    gate = threading.Event()

    def speak() -> None:
        LOGGER.warning("one")
        gate.wait(20)
        LOGGER.warning("two")

    runs.start(speak, a_claim(id=task))
    web = Web(pool)
    (row,) = eventually(lambda: web.get(f"/runs/{task}/log").body, within=5)
    assert set(row) == {"attempt", "at", "text"}
    assert (row["attempt"], row["text"].endswith("one\n")) == (1, True)
    gate.set()
    eventually(lambda: web.get(f"/runs/{task}/log").body[-1]["text"].endswith("two\n"))


def test_a_run_without_a_word_has_an_empty_log_and_no_run_has_none(pool: Pool) -> None:
    """An empty list for a run, 404 where there is none."""
    (task,) = asked(pool)
    found = Web(pool).get(f"/runs/{task}/log")
    assert (found.status, found.body) == (200, [])
    assert Web(pool).get(f"/runs/{uuid4()}/log").problem == "unknown-run"


def test_a_silent_run_costs_no_statement(runs: Listening) -> None:
    """Nobody asks for a connection when nothing is said."""
    for _ in range(3):
        runs.perform(lambda: None)
    runs.scribe.stop(within=20)
    assert "requests_num" not in runs.lent.get_stats()


def test_each_run_has_its_own_lines(runs: Listening, pool: Pool) -> None:
    """Runs at once, and one after another in a thread, are told apart; others are not heard."""
    meet = threading.Barrier(3)

    def speak(run: Run) -> None:
        meet.wait(20)
        LOGGER.warning("from %s", run.id)

    claims = [runs.start(speak) for _ in range(3)]
    runs.ended(3)
    claims += [runs.perform(lambda run: LOGGER.warning("from %s", run.id)) for _ in range(3)]
    LOGGER.warning("from nobody")
    runs.scribe.stop(within=20)
    for claim in claims:
        (line,) = lines(pool, claim)
        assert line.endswith(f"from {claim.id}")
    assert value(pool, "SELECT count(DISTINCT run_id) FROM log_chunk") == len(claims)


def test_of_a_mebibyte_the_last_64_kib_are_kept(runs: Listening, pool: Pool) -> None:
    """The end is complete, in order and without a gap, however fast or slow it was said."""
    pause = threading.Event()

    def speak() -> None:
        for number in range(10_000):
            LOGGER.warning("%05d %s", number, "x" * 60)
            if number in (2_000, 2_500, 9_500):
                pause.wait(0.7)  # so that the end comes in several writes

    claim = runs.perform(speak)
    runs.scribe.stop(within=20)
    found = said(pool, claim)
    assert KEPT_BYTES - 8192 < len(found) <= KEPT_BYTES + 8192
    numbers = [int(number) for number in re.findall(r"\] (\d{5}) ", found)]
    assert numbers == list(range(10_000 - len(numbers), 10_000))
    assert len(numbers) > 500


def test_any_text_can_be_logged(
    runs: Listening, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NUL, half a surrogate pair and several lines neither fail nor lose the rest."""
    # pytest keeps what is logged for its report, which cannot cross to another process then.
    root = logging.getLogger()
    ours = [each for each in root.handlers if not each.__module__.startswith("_pytest")]
    monkeypatch.setattr(root, "handlers", ours)
    claim = runs.perform(lambda: LOGGER.warning("nul \x00 half \ud800\nnext"))
    first, second = eventually(lambda: lines(pool, claim))
    assert first.endswith("nul \ufffd half ?")
    assert second == "next"


def test_lines_of_attempts_are_told_apart_also_of_one_that_is_late(
    runs: Listening, pool: Pool
) -> None:
    """Whoever speaks after it was taken over, or with a number that a failover gave twice."""
    claim = a_claim()
    later = claim._replace(**next_attempt(claim))
    twin = later._replace(token=uuid4())
    words = {later.token: "second", claim.token: "late", twin.token: "twin"}
    for each in (later, claim, twin):
        runs.perform(lambda run: LOGGER.warning(words[run.token]), each)
    runs.scribe.stop(within=20)
    rows = [(row["attempt"], row["text"].split()[-1]) for row in voices.log(pool, claim.id)]
    assert rows[0] == (1, "late")
    assert sorted(rows[1:]) == [(2, "second"), (2, "twin")]


def test_who_speaks_never_waits_and_nothing_is_lost_by_an_outage(
    runs: Listening, pool: Pool, server_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With no database a run goes on; when it is back, all its last lines are there."""
    claim = runs.start(until := Until())
    eventually(lambda: lines(pool, claim))
    with no_connections(pool, server_url):
        until.say("in the outage")
        until.over.set()
        runs.ended(1)
        eventually(lambda: "what runs say can't be written" in caplog.text)
    words = eventually(lambda: lines(pool, claim)[1:] and lines(pool, claim))
    assert [line.split("] ")[1] for line in words] == ["begun", "in the outage"]


class Until:
    """A job's function that says what it is told to, until it is over."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.words: list[str] = []
        self.heard = threading.Event()

    def say(self, word: str) -> None:
        """Have a word said, and wait until it is."""
        self.heard.clear()
        self.words.append(word)
        assert self.heard.wait(20)

    def __call__(self, run: Run) -> None:
        """Be the function."""
        LOGGER.warning("begun")
        while not self.over.is_set():
            while self.words:
                LOGGER.warning(self.words.pop())
                self.heard.set()
            run.wait(0.01)


class no_connections:  # noqa: N801 - used as a function
    """End the sessions that runs are listened to by, and let nobody connect for the block."""

    def __init__(self, pool: Pool, server_url: str) -> None:
        self._server_url = server_url
        with pool.connection() as connection:
            self._name = connection.info.dbname
            self._allow(yes=False)
            terminate_others(connection, "ronin jobs")

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._allow(yes=True)

    def _allow(self, *, yes: bool) -> None:
        with psycopg.connect(self._server_url, autocommit=True) as connection:
            statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
            connection.execute(statement.format(sql.Identifier(self._name), sql.Literal(yes)))


def test_what_cannot_be_written_is_bounded() -> None:
    """With no database for long, memory holds the newest of all runs and no more."""
    nowhere = database.pool("host=/nowhere", "ronin jobs", size=1, timeout=0.1)
    with nowhere:
        runs = Listening(nowhere)
        runs.scribe.start()
        for _ in range(300):
            runs.perform(lambda: voice.say("x" * KEPT_BYTES))
        eventually(lambda: MOST_BYTES // 2 < runs.scribe.unwritten <= MOST_BYTES)


def test_an_outage_may_be_as_long_as_it_likes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the thousandth try there is another one."""
    monkeypatch.setattr(scribe, "_LONGEST_SECONDS", 0.0)
    nowhere = database.pool("host=/nowhere", "ronin jobs", size=1, timeout=0.001)
    with nowhere:
        runs = Listening(nowhere)
        runs.scribe.start()
        runs.perform(lambda: voice.say("a line"))
        told = [0, 10, *range(100, 1300, 100)]
        eventually(lambda: caplog.text.count("can't be written") >= len(told), within=60)


def test_a_chunk_that_is_written_twice_is_there_once(pool: Pool) -> None:
    """Whose first answer was lost is the same the second time; the oldest are deleted."""
    claim = a_claim()
    chunks = [Chunk(number, f"{number}\n", 2) for number in range(4)]
    voices.write(pool, [Said(claim, chunks[:2], 0)])
    voices.write(pool, [Said(claim, chunks[:3], 0)])
    assert said(pool, claim) == "0\n1\n2\n"
    voices.write(pool, [Said(claim, chunks[3:], 2)])
    assert said(pool, claim) == "2\n3\n"


@pytest.mark.parametrize("form", ["text", "json"])
def test_all_that_a_process_of_its_own_prints_or_logs_is_kept(
    runs: Listening, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Standard output and error count, and lines of a log are text in either form."""
    (tmp_path / "own_jobs.py").write_text(ISOLATED)
    for name, text in (("PYTHONPATH", str(tmp_path)), ("RONIN_JOBS", "own_jobs")):
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("RONIN_LOG", form)
    claim = suspect("chatty")
    runs.start_job(a_job(name="chatty", timeout=60), claim)
    runs.ended(1)
    runs.scribe.stop(within=20)
    found = lines(pool, claim)
    assert found[0] == "printed"
    assert re.fullmatch(rf"{TIME} \[info     \] bound x=1", found[1])
    assert re.fullmatch(rf"{TIME} \[error    \] bad", found[2])
    assert found[3:] == ["news", "to stderr", "no end of line"]


def test_lines_are_dropped_with_the_days_of_history(pool: Pool) -> None:
    """What was said on these days is dropped, and nothing later."""
    old, new = a_claim(), a_claim()
    voices.write(pool, [Said(each, [Chunk(0, "x\n", 2)], 0) for each in (old, new)])
    execute(
        pool, "UPDATE log_chunk SET at = at - interval '31 days 1 min' WHERE run_id = %s", old.id
    )
    assert retention.drop(pool, 30).rows == 1
    assert query(pool, "SELECT run_id FROM log_chunk") == [(new.id,)]
