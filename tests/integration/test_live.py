"""The live page: what it shows, how fresh it is, and what it costs to look."""

import re
import time
from contextlib import AbstractContextManager
from typing import Any, cast

import psycopg
import pytest

from cluster.database import Pool
from cluster.store import glance, jobs
from tests.eventually import eventually
from tests.integration.builders import (
    NOWHERE,
    Answer,
    Web,
    a_job,
    a_kind,
    a_worker,
    asked,
    claimed,
    execute,
    taken,
    together,
)
from webapp.pages import STATIC, snapshot

PAGE_BYTES = 150_000
LOADED = ("ronin.css", "ronin.js", "icon.svg")
SCRIPT = "<script>alert(1)</script>"


class Counting:
    """A pool that counts how often somebody wants a connection."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.count = 0

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Lend a connection."""
        self.count += 1
        return self._pool.connection()


def counted(pool: Pool) -> tuple[Web, Counting, int]:
    """Return the application over a pool that counts, and the connections of one snapshot."""
    counting = Counting(pool)
    Web(cast(Pool, counting)).get("/live")
    once, counting.count = counting.count, 0
    return Web(cast(Pool, counting)), counting, once


def again(web: Web, seen: Answer, path: str = "/live") -> Answer:
    """Look again, as the script does."""
    return web.get(path, headers={"If-None-Match": seen.headers["etag"]})


def changed(web: Web, seen: Answer) -> Answer | None:
    """Look again; return the answer if there is something new."""
    answer = again(web, seen)
    return answer if answer.status == 200 else None


def parts(answer: Answer) -> list[str]:
    """Return the names of the parts in an answer."""
    return re.findall(r'^<(?:section|div) id="([a-z]+)"', answer.body, re.MULTILINE)


def ended(pool: Pool, count: int, job: str = "tick", *, worker: str = "host:1") -> None:
    """Insert attempts that have ended in the last hour, one a second, each of two seconds."""
    execute(
        pool,
        """
        INSERT INTO history (run_id, job, attempt, token, fence, worker, due_at, started_at,
            finished_at, outcome)
        SELECT uuid7(), %s, 1, gen_random_uuid(), n, %s, at, at, at + interval '2 s', 'completed'
        FROM (SELECT n, now() - interval '10 s' - n * interval '1 s' AS at
            FROM generate_series(1, %s) n) a
        """,
        job,
        worker,
        count,
    )


@pytest.fixture
def fresh(pool: Pool) -> Web:
    """The application over a database of its own, with one job."""
    jobs.declare(pool, [a_job()])
    return Web(pool)


def test_an_empty_cluster_has_a_page(pool: Pool) -> None:
    """Before any worker has started there is nothing to show, and the page says so."""
    answer = Web(pool).get("/")

    assert answer.status == 200
    assert "No worker is here" in answer.body
    assert "No job is declared yet" in answer.body
    assert "No kind of tasks is declared" in answer.body


def test_a_run_under_way_is_in_its_workers_lane(pool: Pool) -> None:
    """A bar leads to its run, says what it is, and has no end yet."""
    claim = claimed(pool, worker=a_worker(pool, name="host:7"))

    body = Web(pool).get("/").body

    lane = body[body.index('data-key="host:7"') :]
    assert f'<a href="/ui/runs/{claim.id}"' in lane
    assert "<title>tick\nrunning\n" in lane
    assert '<rect class="of running"' in lane
    assert "1 under way" in lane


def test_a_worker_that_left_keeps_its_lane_for_an_hour(fresh: Web, pool: Pool) -> None:
    """Its runs of the last hour are there, and it is marked as gone; of before, nothing."""
    ended(pool, 3, worker="left:1")
    execute(
        pool,
        "INSERT INTO history SELECT uuid7(), job, 1, gen_random_uuid(), 9, 'old:1',"
        " due_at - interval '1 day', NULL, started_at - interval '1 day',"
        " finished_at - interval '1 day', 'failed' FROM history LIMIT 1",
    )

    body = fresh.get("/").body

    assert "left:1" in body
    assert 'class="tag">gone<' in body
    assert "3 completed" in body
    assert "old:1" not in body


def test_a_task_says_its_own_name_and_a_kind_its_numbers(pool: Pool) -> None:
    """One under way of the two that a limit allows, and two that wait."""
    jobs.declare(pool, [a_kind(max_running=1)])
    asked(pool, 3, name="letter to Zoë")
    assert len(taken(pool)) == 1

    body = Web(pool).get("/").body

    assert "<title>work: letter to Zoë\nrunning\n" in body
    kind = body[body.index('<tr data-key="work">') :].split("</tr>")[0]
    numbers = re.findall(r"<span>(\d+)", kind)
    assert numbers == ["2", "1"]
    assert "of 1</span>" in kind


def test_a_lease_is_late_when_half_of_it_is_over(pool: Pool) -> None:
    """As long as a worker renews it in time nothing is to be said of it."""
    a_worker(pool, name="good:1", lease=600)
    a_worker(pool, name="late:1", lease=600)
    execute(pool, "UPDATE worker SET lease_until = now() + interval '4 min' WHERE name = 'late:1'")

    rows = {row["name"]: row for row in glance.glance(pool).workers}

    assert rows["good:1"]["late_until"] is None
    assert rows["late:1"]["late_until"] is not None
    assert "late</span> runs out" in Web(pool).get("/").body


def test_remote_claims_of_one_name_are_one_worker(pool: Pool) -> None:
    """A remote worker has a row for each claim; to people it is one."""
    for _ in range(3):
        a_worker(pool, name="remote:1", process=NOWHERE)

    assert len(glance.glance(pool).workers) == 1


def test_whatever_things_are_called_it_is_text(pool: Pool) -> None:
    """Names of workers, jobs, kinds and tasks can't break out, neither in HTML nor in SVG."""
    claimed(pool)
    jobs.declare(pool, [a_kind(name="work")])
    asked(pool, 1, name=SCRIPT)
    taken(pool)
    ended(pool, 1, worker=SCRIPT + "gone")
    for change in (
        "UPDATE job SET description = '\"' || %s",
        "UPDATE worker SET name = %s",
        "UPDATE run SET worker = %s || job WHERE token IS NOT NULL",
    ):
        with pool.connection() as connection:
            connection.execute(cast(Any, change), (SCRIPT,))

    for path in ("/", "/live"):
        answer = Web(pool).get(path)
        body = answer.body

        assert "<script>alert" not in body
        assert body.count("&lt;script&gt;alert") >= 5
        assert "script-src 'self';" in answer.headers["content-security-policy"]


def test_the_longest_names_are_shown(pool: Pool) -> None:
    """Nothing is left out of a name, and addresses are quoted."""
    name = "a job/of 100% " + "x" * 86
    jobs.declare(pool, [a_kind(), a_kind(name="other")])
    execute(pool, "UPDATE job SET name = %s WHERE name = 'other'", name)
    a_worker(pool, name="host" * 25 + ":1")

    body = Web(pool).get("/").body

    assert f">{name}</a>" in body
    assert "/ui/kinds/a%20job/of%20100%25%20xxx" in body or "/ui/kinds/a%20job%2Fof" in body
    assert "host" * 25 + ":1" in body


def test_the_picture_has_a_limit_and_says_so(fresh: Web, pool: Pool) -> None:
    """A busy kind does not push the others out; all in all there are so many bars at most."""
    for number in range(12):
        jobs.declare(pool, [a_kind(name=f"kind-{number}")])
        ended(pool, 200, f"kind-{number}")
    ended(pool, 5)

    body = fresh.get("/").body

    bars = re.findall(r'<a href="/ui/runs/[^>]*><title>([^\n]*)', body)
    assert len(bars) == glance.RUNS
    assert "the newest runs only" in body
    assert "tick" in bars


def test_one_busy_kind_has_a_limit_of_its_own(fresh: Web, pool: Pool) -> None:
    """So that a job that ran once an hour ago is still there."""
    jobs.declare(pool, [a_kind()])
    ended(pool, 200, "work")

    body = fresh.get("/").body

    assert body.count('<a href="/ui/runs/') == glance.RUNS_OF_ONE
    assert "the newest runs only" in body


def test_a_quiet_hour_is_there_as_a_whole(fresh: Web, pool: Pool) -> None:
    """Nothing is said of a limit that nothing has met."""
    ended(pool, glance.RUNS_OF_ONE)

    body = fresh.get("/").body

    assert body.count('<a href="/ui/runs/') == glance.RUNS_OF_ONE
    assert "the newest runs only" not in body


def test_forty_workers_fit_on_the_page(fresh: Web, pool: Pool) -> None:
    """All of them have a lane and a row; the page with everything it loads stays small."""
    for number in range(12):
        jobs.declare(pool, [a_kind(name=f"kind-{number}")])
    for number in range(40):
        a_worker(pool, name=f"host:{number}")
        ended(pool, 20, f"kind-{number % 12}", worker=f"host:{number}")

    body = fresh.get("/").body

    assert len(re.findall(r'class="lane"', body)) == 40
    assert body.count('<a href="/ui/runs/') == glance.RUNS
    loaded = sum((STATIC / name).stat().st_size for name in LOADED)
    assert len(body.encode()) + loaded < PAGE_BYTES


def test_nothing_new_costs_nothing(fresh: Web) -> None:
    """Who has the state of now gets 304, with the time and when to come again."""
    page = fresh.get("/")

    answer = again(fresh, page)

    assert answer.status == 304
    assert answer.body == ""
    assert answer.headers["etag"] == page.headers["etag"]
    assert 600 <= int(answer.headers["ronin-poll-milliseconds"]) <= 10_100


def test_the_clock_alone_changes_nothing(pool: Pool) -> None:
    """While a run is under way and no more is known of it, a later snapshot has the same tag."""
    claimed(pool)
    web, counting, once = counted(pool)
    page = web.get("/")

    def look() -> bool:
        assert again(web, page).status == 304
        return counting.count >= 3 * once

    assert eventually(look)


def test_only_what_has_changed_is_sent(pool: Pool, fresh: Web) -> None:
    """A pause changes what is due and the table of jobs, and not the picture."""
    page = fresh.get("/")
    execute(pool, "UPDATE job SET paused = true")

    answer = eventually(lambda: changed(fresh, page))
    assert answer
    assert parts(answer) == ["head", "jobs"]
    assert "paused" in answer.body


def test_who_has_nothing_gets_every_part(fresh: Web) -> None:
    """So does who has a state of another release, or says nonsense."""
    every = ["head", "lanes", "jobs", "charts", "kinds", "workers"]

    assert parts(fresh.get("/live")) == every
    for tag in ('"older.1.2.3.4.5.6"', "*", '"'):
        assert parts(fresh.get("/live", headers={"If-None-Match": tag})) == every


def test_every_process_gives_the_same_tag(pool: Pool, fresh: Web) -> None:
    """So a script may be served by one and polled from another."""
    claimed(pool)
    ended(pool, 5)

    def same() -> bool:  # unless a minute ends between the two
        return Web(pool).get("/").headers["etag"] == Web(pool).get("/").headers["etag"]

    assert eventually(same)
    del fresh


def test_many_viewers_at_once_share_one_snapshot(pool: Pool) -> None:
    """The database is asked once, and everybody gets the answer."""
    web, counting, once = counted(pool)

    answers = together(32, lambda _: web.get("/live"))

    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["etag"] for answer in answers}) == 1
    assert counting.count == once


def test_there_is_one_snapshot_a_second(pool: Pool) -> None:
    """However often they ask."""
    web, counting, once = counted(pool)
    begun = time.monotonic()

    def look(_: int) -> None:
        while time.monotonic() < begun + 3:
            assert web.get("/live").status == 200

    together(8, look)

    whole_seconds = int((time.monotonic() - begun) / snapshot.EVERY)
    assert once <= counting.count <= (whole_seconds + 1) * once


def test_the_page_comes_back_with_the_database(pool: Pool) -> None:
    """Who looks while it can't be read is told so, and not shown what was."""
    web = Web(pool)
    page = web.get("/")
    execute(pool, "ALTER TABLE job RENAME TO away")

    def fails() -> Answer | None:
        answer = again(web, page)
        return answer if answer.status not in (200, 304) else None

    refused = eventually(fails)
    assert refused
    assert refused.status == 500
    execute(pool, "ALTER TABLE away RENAME TO job")
    assert eventually(lambda: again(web, page).status in (200, 304))
