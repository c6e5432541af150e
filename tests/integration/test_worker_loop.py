"""The loop: a real worker over a real database, with jobs of a few milliseconds."""

import random
import subprocess
import threading
from collections import Counter
from contextlib import ExitStack
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from cluster import Run
from cluster.database import Pool
from cluster.ending import Ending
from cluster.migrate import migrate
from cluster.perform import Result
from cluster.process import Identity
from cluster.runner import Attempt
from cluster.store import jobs, leases, looks, runs
from cluster.store.runs import Ended
from tests.eventually import eventually
from tests.integration.builders import (
    HERE,
    NOWHERE,
    a_job,
    a_kind,
    a_worker,
    asked,
    execute,
    expire,
    look,
    outcomes,
    query,
    terminate_others,
    transaction,
    value,
)
from tests.integration.hands import ENGINE, working


@pytest.fixture
def opened(pool: Pool) -> Pool:
    """Return a pool on the database of a cluster at work, so that nobody waits for an opening."""
    a_worker(pool, process=NOWHERE, names=[])
    return pool


def the_worker(pool: Pool) -> UUID:
    """Return the identity of the only hand."""
    rows = query(pool, "SELECT id FROM worker WHERE name LIKE 'hand:%%'")
    assert len(rows) == 1
    identity: UUID = rows[0][0]
    return identity


def test_a_due_job_runs_and_its_next_firing_is_planned(url: str, opened: Pool) -> None:
    seen: list[Run] = []
    with working(url, a_job(function=seen.append)):
        eventually(lambda: outcomes(opened) == ["completed"])
    assert [run.attempt for run in seen] == [1]
    assert value(opened, "SELECT due_at > now() AND token IS NULL FROM run")


def test_who_is_busy_with_tasks_looks_up_when_a_firing_opens(
    url: str, opened: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No look at the next tasks alone begins after the opening, but for one that is on its way."""
    real = runs.turn
    late = [0]
    opens: datetime | None = None

    def turn(pool: Pool, endings: list[Ending], ask: looks.Ask) -> tuple[list[Ended], looks.Look]:
        nonlocal opens
        ended, look = real(pool, endings, ask)
        if not ask.after:
            opens = look.wake_at
            late.append(0)
        elif opens and opens <= look.now:
            late[-1] += 1
        return ended, look

    monkeypatch.setattr(runs, "turn", turn)
    monkeypatch.setattr("cluster.worker._AROUND_SECONDS", 3600.0)
    kind = a_kind()
    jobs.declare(opened, [kind])
    asked(opened, 5000)
    with working(url, kind, a_job(schedule="@every 1s", at_once=False, spread=0.05)):
        eventually(lambda: outcomes(opened))
    assert max(late) <= 1


def test_a_job_that_raises_is_retried_and_then_given_up(url: str, opened: Pool) -> None:
    def fail() -> None:
        raise ValueError("too blue")

    with working(url, a_job(function=fail, max_retries=3, retry_delay=0)):
        eventually(lambda: outcomes(opened) == ["failed"] * 3)
    assert query(opened, "SELECT DISTINCT error FROM history") == [("ValueError: too blue",)]
    assert value(opened, "SELECT due_at > now() AND attempt = 0 FROM run")


def test_a_run_that_takes_too_long_is_stopped_and_retried(url: str, opened: Pool) -> None:
    def slow(run: Run) -> None:
        run.wait(100 if run.attempt == 1 else 0)

    with working(url, a_job(function=slow, timeout=0.1, retry_delay=0)):
        eventually(lambda: outcomes(opened) == ["timed_out", "completed"])


def test_a_worker_that_was_declared_dead_begins_anew_and_its_late_result_is_fenced(
    url: str, opened: Pool
) -> None:
    gate = threading.Event()

    def stuck(run: Run) -> None:
        if run.attempt == 1:
            gate.wait(60)

    with working(url, a_job(function=stuck)):
        eventually(lambda: value(opened, "SELECT token IS NOT NULL FROM run"))
        first = the_worker(opened)
        assert leases.take_over(opened, [first])
        eventually(lambda: outcomes(opened) == ["crashed", "completed"])
        assert the_worker(opened) != first
        gate.set()
        eventually(lambda: sorted(outcomes(opened)) == ["completed", "crashed", "fenced"])
    assert value(opened, "SELECT attempt FROM history WHERE outcome = 'fenced'") == 1


def test_a_worker_that_was_declared_dead_stops_its_runs(url: str, opened: Pool) -> None:
    stopped = threading.Event()

    def patient(run: Run) -> None:
        if run.attempt == 1:
            try:
                run.wait(100)
            finally:
                stopped.set()

    with working(url, a_job(function=patient)):
        eventually(lambda: value(opened, "SELECT token IS NOT NULL FROM run"))
        leases.take_over(opened, [the_worker(opened)])
        assert stopped.wait(20)


def test_a_stop_hands_a_cooperative_run_over_unharmed(url: str, opened: Pool) -> None:
    with working(url, a_job(function=lambda run: run.wait(100))) as hand:
        eventually(lambda: value(opened, "SELECT token IS NOT NULL FROM run"))
        hand.worker.stop(within=20)
        assert outcomes(opened) == ["interrupted"]
    rows = query(opened, "SELECT token, failures, crashes, not_before <= now() FROM run")
    assert rows == [(None, 0, 0, True)]
    assert query(opened, "SELECT FROM worker WHERE name LIKE 'hand:%%'") == []


def test_a_stop_leaves_a_run_that_does_not_look_to_proof_of_death(url: str, opened: Pool) -> None:
    gate = threading.Event()
    with working(url, a_job(function=lambda: gate.wait(60))) as hand:
        eventually(lambda: value(opened, "SELECT token IS NOT NULL FROM run"))
        hand.worker.stop(within=0)
        eventually(lambda: value(opened, "SELECT leaving FROM worker WHERE name = 'hand:0'"))
        assert value(opened, "SELECT token IS NOT NULL FROM run")
        lost = leases.take_over(opened, [the_worker(opened)])
        gate.set()
    assert [run.outcome for run in lost] == ["interrupted"]
    assert query(opened, "SELECT failures, crashes FROM run") == [(0, 0)]


def test_a_worker_that_stops_claims_no_more(url: str, opened: Pool) -> None:
    with working(url, a_job(at_once=False)) as hand:
        eventually(lambda: the_worker(opened))
        hand.worker.stop(within=20)
        jobs.run_now(opened, "tick")
        hand.nudge.set()
    assert value(opened, "SELECT token IS NULL AND attempt = 0 FROM run")


def test_a_worker_whose_process_shall_end_leaves_by_itself(url: str, opened: Pool) -> None:
    with working(url, a_job(function=lambda run: run.wait(100))) as hand:
        eventually(lambda: value(opened, "SELECT token IS NOT NULL FROM run"))
        hand.alive = False
        eventually(lambda: outcomes(opened) == ["interrupted"])
        eventually(lambda: not query(opened, "SELECT FROM worker WHERE name LIKE 'hand:%%'"))


def test_a_run_is_performed_apart_when_one_more_death_parks_it(url: str, opened: Pool) -> None:
    apart: list[int] = []

    def die(attempt: Attempt) -> Result:
        apart.append(attempt.claim.crashes)
        return Result("crashed", "its process died")

    seen: list[Run] = []
    poison = a_job(function=seen.append)
    jobs.declare(opened, [poison])
    execute(opened, "UPDATE run SET crashes = 2, attempt = 2")
    with working(url, poison, apart=die):
        eventually(lambda: outcomes(opened) == ["crashed"])
    assert (seen, apart) == ([], [2])
    assert query(opened, "SELECT crashes, due_at > now() FROM run") == [(0, True)]


def test_a_run_that_saw_one_death_is_performed_as_any_other(url: str, opened: Pool) -> None:
    job = a_job()
    jobs.declare(opened, [job])
    execute(opened, "UPDATE run SET crashes = 1, attempt = 1")
    with working(url, job):
        eventually(lambda: outcomes(opened) == ["completed"])


def test_sessions_that_are_killed_all_the_time_cost_no_run(url: str, opened: Pool) -> None:
    calls: Counter[str] = Counter()
    done = threading.Event()

    def kill() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            # Eight a second, at random: now and then there is time for a whole turn, however
            # busy the machine is.
            while not done.wait(random.expovariate(8)):
                terminate_others(connection, ENGINE)

    killer = threading.Thread(target=kill)
    declared = [
        a_job(name=f"job-{n}", function=lambda run: calls.update([run.job])) for n in range(20)
    ]
    expected = {job.name: 1 for job in declared}
    with working(url, *declared):
        killer.start()
        try:
            ended = "SELECT count(*) FROM history WHERE outcome = 'completed'"
            eventually(lambda: value(opened, ended) == 20, within=60)
        finally:
            done.set()
            killer.join()
    assert dict(calls) == expected
    rows = query(opened, "SELECT job, count(*) FROM history GROUP BY job")
    assert dict(rows) == expected


def test_two_workers_share_evenly(url: str, opened: Pool) -> None:
    gate = threading.Event()
    declared = [
        a_job(name=f"job-{n}", function=lambda: gate.wait(60), spread=0.3) for n in range(8)
    ]
    with ExitStack() as stack:
        stack.callback(gate.set)
        # 1 and 2 have phases 0.62 and 0.24.
        stack.enter_context(working(url, *declared, number=1))
        stack.enter_context(working(url, *declared, number=2))
        eventually(lambda: value(opened, "SELECT count(token) FROM run") == 8)
        held = dict(query(opened, "SELECT worker, count(*) FROM run GROUP BY worker"))
        assert held == {"hand:1": 4, "hand:2": 4}
        gate.set()


def test_what_a_dead_process_held_goes_on_elsewhere(url: str, opened: Pool) -> None:
    with subprocess.Popen(["sleep", "100"]) as child:
        child.kill()
    jobs.declare(opened, [a_job()])
    dead = a_worker(opened, process=Identity(HERE.host, child.pid, 1), lease=3600)
    assert look(opened, dead).claims
    with working(url, a_job()):
        eventually(lambda: outcomes(opened) == ["crashed", "completed"])


def test_what_a_silent_worker_of_another_host_held_goes_on_elsewhere(
    url: str, opened: Pool
) -> None:
    jobs.declare(opened, [a_job()])
    silent = a_worker(opened, process=NOWHERE)
    assert look(opened, silent).claims
    with working(url, a_job()):
        eventually(lambda: the_worker(opened))
        assert outcomes(opened) == []
        expire(opened, silent)
        eventually(lambda: outcomes(opened) == ["crashed", "completed"])


def test_progress_shows_within_a_heartbeat(url: str, opened: Pool) -> None:
    def half(run: Run) -> None:
        run.progress(0.5)
        run.wait(100)

    with working(url, a_job(function=half)):
        eventually(lambda: value(opened, "SELECT progress FROM run") == 0.5)


def test_a_nudge_starts_what_is_due_now(url: str, opened: Pool) -> None:
    with working(url, a_job(at_once=False)) as hand:
        eventually(lambda: value(opened, "SELECT count(*) FROM run"))
        jobs.run_now(opened, "tick")
        hand.nudge.set()
        eventually(lambda: outcomes(opened) == ["completed"])


def test_a_schedule_that_changes_while_the_job_runs_holds_for_the_next(
    url: str, opened: Pool
) -> None:
    gate = threading.Event()
    with working(url, a_job(function=lambda: gate.wait(60))):
        eventually(lambda: value(opened, "SELECT token IS NOT NULL FROM run"))
        jobs.change(opened, "tick", {"schedule": "@hourly"})
        gate.set()
        eventually(lambda: outcomes(opened) == ["completed"])
        eventually(lambda: value(opened, "SELECT due_at <= now() + interval '1 hour' FROM run"))


def test_a_worker_waits_for_a_schema_that_is_not_there_yet(empty_url: str) -> None:
    seen: list[Run] = []
    with working(empty_url, a_job(function=seen.append)):
        migrate(empty_url)
        eventually(lambda: seen)


def test_a_job_borrows_connections_apart_from_the_engines(url: str, opened: Pool) -> None:
    names: list[object] = []

    def ask(run: Run) -> None:
        with run.connection() as connection:
            row = connection.execute("SELECT current_setting('application_name')").fetchone()
            names.append(row and row[0])

    with working(url, a_job(function=ask)):
        eventually(lambda: outcomes(opened) == ["completed"])
    assert names == ["ronin jobs"]


def test_any_error_of_a_job_reaches_the_history(url: str, opened: Pool) -> None:
    def fail() -> None:
        raise ValueError("nul \x00, half \ud800 a pair, \\u0000, " + "long " * 5000)

    with working(url, a_job(function=fail, max_retries=1)):
        eventually(lambda: outcomes(opened) == ["failed"])
    assert value(opened, "SELECT error FROM history").startswith("ValueError: nul \ufffd, half ?")


def beaten(pool: Pool) -> None:
    """Wait until the only hand has renewed its lease."""
    query = "SELECT lease_until FROM worker WHERE id = %s"
    before = value(pool, query, the_worker(pool))
    eventually(lambda: value(pool, query, the_worker(pool)) != before)


SHIFTED = """
    CREATE TABLE shift AS SELECT interval '0' AS by;
    CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql STABLE
        AS $$ SELECT pg_catalog.now() + by FROM public.shift $$;
    CREATE FUNCTION statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
        AS $$ SELECT pg_catalog.statement_timestamp() + by FROM public.shift $$;
    """
"""Functions that the engine's statements find before PostgreSQL's own."""


@pytest.mark.parametrize("hours", [2, -2])
def test_a_database_whose_clock_is_set_kills_nobody(url: str, opened: Pool, hours: int) -> None:
    execute(opened, SHIFTED)
    gate = threading.Event()
    neighbour = value(opened, "SELECT id FROM worker")  # its lease is good for ten minutes
    with working(url, a_job(function=lambda: gate.wait(60)), path="public,pg_catalog") as hand:
        token = eventually(lambda: value(opened, "SELECT token FROM run"))
        execute(opened, "UPDATE shift SET by = make_interval(hours => %s)", hours)
        for _ in range(2):  # it has looked after the jump, and has beaten again
            beaten(opened)
        assert value(opened, "SELECT token FROM run") == token
        left = value(
            opened, "SELECT lease_until - public.now() FROM worker WHERE id = %s", neighbour
        )
        # Ahead: it has run out, and counts nevertheless, from now on; back: it was cut.
        assert (left < timedelta(0)) == (hours > 0)
        assert left <= timedelta(minutes=10)
        since = value(opened, "SELECT public.now() - since FROM server")
        assert timedelta(0) <= since < timedelta(minutes=1)
        gate.set()
        hand.nudge.set()
        eventually(lambda: outcomes(opened)[:1] == ["completed"])


def test_who_had_no_answer_for_long_gives_the_others_time_to_renew_their_leases(
    url: str, opened: Pool
) -> None:
    neighbour = value(opened, "SELECT id FROM worker")
    with working(url, a_job(at_once=False)) as hand:
        eventually(lambda: the_worker(opened))
        beaten(opened)
        with transaction(opened) as (_, connection):
            # Nobody can read, nor write, for longer than two polls; then all leases are old.
            connection.execute("LOCK TABLE worker IN ACCESS EXCLUSIVE MODE")
            connection.execute(
                "UPDATE worker SET lease = '1 ms', lease_until = now() WHERE id = %s", (neighbour,)
            )
            failures = eventually(lambda: hand.worker._failures, within=30)  # noqa: SLF001
            eventually(lambda: hand.worker._failures > failures, within=30)  # noqa: SLF001
        beaten(opened)
        assert value(opened, "SELECT count(*) FROM worker WHERE id = %s", neighbour) == 1
        # In the end it is taken for dead all the same.
        eventually(lambda: query(opened, "SELECT 1 FROM worker WHERE id = %s", neighbour) == [])


def test_what_a_worker_starts_and_ends_is_in_its_pulse_when_it_has_left(
    url: str, opened: Pool
) -> None:
    """Its last row is whole: nothing that it counted is lost."""

    def fail() -> None:
        raise ValueError

    declared = (a_job(), a_job(name="wrong", function=fail, max_retries=1))
    with working(url, *declared) as hand:
        eventually(lambda: outcomes(opened) + outcomes(opened, "wrong") == ["completed", "failed"])
        worker = the_worker(opened)
        hand.worker.stop(within=20)
    fields = "SELECT sum(started), sum(ended), sum(failed), bool_and(worker = %s) FROM pulse"
    assert query(opened, fields, worker) == [(2, 2, 1, True)]
    parts = "SELECT job, what, sum(attempts) FROM pulse_job GROUP BY 1, 2 ORDER BY 1, 2"
    assert query(opened, parts) == [
        ("tick", "completed", 1),
        ("tick", "started", 1),
        ("wrong", "failed", 1),
        ("wrong", "started", 1),
    ]
    longest = value(opened, "SELECT max(longest_delay) FROM pulse")
    assert 0 <= longest <= value(opened, "SELECT sum(delay_sum) FROM pulse") < 60


def test_a_worker_tells_its_pulse_while_it_works(url: str, opened: Pool) -> None:
    """What is under way shows as started, and what waits for it as waiting."""
    gate = threading.Event()
    with working(url, a_job(function=lambda: gate.wait(60))):
        eventually(lambda: value(opened, "SELECT sum(started - ended) FROM pulse") == 1)
        gate.set()


def test_an_idle_worker_writes_no_pulse(url: str, opened: Pool) -> None:
    """It looks and beats, and sends nothing else."""
    with working(url, a_job(at_once=False)):
        eventually(lambda: the_worker(opened))
        for _ in range(2):
            beaten(opened)
    assert query(opened, "SELECT 1 FROM pulse") == []


def test_who_takes_over_counts_the_crash(url: str, opened: Pool) -> None:
    """An attempt whose worker died has ended otherwise than completed."""
    jobs.declare(opened, [a_job()])
    silent = a_worker(opened, process=NOWHERE)
    assert look(opened, silent).claims
    expire(opened, silent)
    with working(url, a_job()):
        eventually(lambda: outcomes(opened) == ["crashed", "completed"])
    ends = "SELECT sum(started), sum(ended), sum(failed) FROM pulse"
    assert query(opened, ends) == [(1, 2, 1)]


def test_a_pulse_that_cant_be_written_keeps_nobody_from_leaving(url: str, opened: Pool) -> None:
    """The lease is given back all the same."""
    execute(opened, "DROP TABLE pulse")
    with working(url, a_job(at_once=False)) as hand:
        eventually(lambda: value(opened, "SELECT count(*) FROM run"))
        jobs.run_now(opened, "tick")
        hand.nudge.set()
        eventually(lambda: outcomes(opened) == ["completed"])
        hand.worker.stop(within=20)
        assert query(opened, "SELECT 1 FROM worker WHERE name LIKE 'hand:%%'") == []


def test_a_worker_tells_how_many_runs_it_performs_at_once(url: str, opened: Pool) -> None:
    """With its lease, for people."""
    with working(url):
        worker = eventually(lambda: the_worker(opened))
        assert value(opened, "SELECT slots FROM worker WHERE id = %s", worker) == 8


def test_who_joins_gives_others_time_for_a_beat_before_it_judges_by_lease(
    url: str, opened: Pool
) -> None:
    """When the database stood still, all leases have run out, and who starts just then is first."""
    silent = a_worker(opened, process=Identity("a third host", 2, 2), name="silent:1")
    expire(opened, silent)
    execute(opened, "CREATE TABLE removal (at timestamptz)")
    execute(
        opened,
        """
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO public.removal VALUES (clock_timestamp()); RETURN OLD; END $$
        """,
    )
    execute(
        opened,
        "CREATE TRIGGER note BEFORE DELETE ON worker FOR EACH ROW"
        " WHEN (OLD.name = 'silent:1') EXECUTE FUNCTION note()",
    )
    with working(url):
        eventually(lambda: query(opened, "SELECT FROM removal"))
        after = value(
            opened, "SELECT at - started_at FROM removal, worker WHERE name LIKE 'hand:%%'"
        )
    assert after > timedelta(seconds=1)  # of the 1.2 that are 0.4 of its lease
