"""The page of a job: what it does, what it has done, when it starts, and how that is changed."""

import re
from html import unescape

import pytest

from cluster.database import Pool
from cluster.store import jobs
from tests.integration.builders import (
    Web,
    a_job,
    a_worker,
    claimed,
    end,
    execute,
    jobs_row,
    look,
    query,
)
from tests.integration.looking import HOSTILE, asked_first, forms, links, listed, seen


def fill(pool: Pool, count: int, outcome: str = "completed") -> None:
    """Insert finished attempts of `tick`, a second from each to the next, the newest just now."""
    execute(
        pool,
        """
        INSERT INTO history (run_id, job, attempt, token, fence, worker, due_at, started_at,
            finished_at, outcome)
        SELECT uuid7(at), 'tick', 1, gen_random_uuid(), 0, 'host:1', at, at,
            at + n * interval '1 ms', %s
        FROM (SELECT n, now() - n * interval '1 s' AS at FROM generate_series(1, %s) AS n) n
        """,
        outcome,
        count,
    )


def test_a_job_that_waits_says_for_what_and_can_be_started(pool: Pool) -> None:
    """Its next firing, its settings and the forms are there."""
    jobs.declare(pool, [a_job(at_once=False, timeout="10m", max_retries=2)])

    page = seen(Web(pool), "/ui/jobs/tick")

    assert "<code>0 0 1 1 *</code>" in page
    assert "<dd>10 min</dd>" in page
    assert "2 failures" in page
    assert forms(page) == ["/ui/jobs/tick/run", "/ui/jobs/tick/pause"]
    assert asked_first(page) == ["/ui/jobs/tick/pause"]


def test_a_job_that_runs_names_its_worker_and_can_be_cancelled(pool: Pool) -> None:
    """And it can't be started beside itself."""
    run = claimed(pool).id

    page = seen(Web(pool), "/ui/jobs/tick")

    assert "host:1" in page
    assert "previous run under way on host:1 since" in page
    assert f'href="/ui/runs/{run}"' in page
    assert forms(page) == [f"/ui/runs/{run}/cancel", "/ui/jobs/tick/pause"]
    assert asked_first(page) == forms(page)


def test_a_paused_job_can_be_resumed_and_nothing_else(pool: Pool) -> None:
    """Running it now is refused while it is paused, so it is not offered."""
    jobs.declare(pool, [a_job()])
    jobs.change(pool, "tick", {"paused": True})

    assert forms(seen(Web(pool), "/ui/jobs/tick")) == ["/ui/jobs/tick/resume"]


def test_a_changed_schedule_stands_beside_the_codes(pool: Pool) -> None:
    """And can be reset to it."""
    jobs.declare(pool, [a_job()])
    jobs.change(pool, "tick", {"schedule": "5 4 * * *"})

    page = seen(Web(pool), "/ui/jobs/tick")

    assert "<code>5 4 * * *</code>" in page
    assert "<code>0 0 1 1 *</code>" in page
    assert "/ui/jobs/tick/reset" in asked_first(page)


def test_a_schedule_is_seen_before_it_is_saved(pool: Pool) -> None:
    """The preview shows its firings and the button, and changes nothing."""
    jobs.declare(pool, [a_job(timezone="Europe/Berlin")])

    page = seen(Web(pool), "/ui/jobs/tick", params={"schedule": "30 2 28 3 *"})

    assert page.count("-03-28 ") >= 20
    assert "clocks" in page
    assert 'name="schedule" value="30 2 28 3 *"' in page
    assert "/ui/jobs/tick/schedule" in forms(page)
    assert query(pool, "SELECT new_schedule FROM job") == [(None,)]


@pytest.mark.parametrize(
    "text", ["every now and then", "0 0 31 2 *", "", HOSTILE, "* * * * * * *", "* " * 60]
)
def test_what_is_no_schedule_is_explained_and_can_not_be_saved(pool: Pool, text: str) -> None:
    """The field keeps what was typed, beside the reason."""
    jobs.declare(pool, [a_job()])

    page = seen(Web(pool), "/ui/jobs/tick", params={"schedule": text})

    assert 'role="alert"' in page
    assert "/ui/jobs/tick/schedule" not in forms(page)
    assert HOSTILE not in page
    assert text in unescape(page)


def newest_first(pool: Pool) -> list[str]:
    """Return the runs of the history."""
    rows = query(pool, "SELECT run_id FROM history ORDER BY finished_at DESC, run_id DESC")
    return [str(row[0]) for row in rows]


def test_durations_are_a_picture_with_a_table_beside_it(pool: Pool) -> None:
    """A bar for each of the last hundred attempts leads to its run; a failed one has a pattern."""
    jobs.declare(pool, [a_job()])
    fill(pool, 120)
    runs = newest_first(pool)
    execute(pool, "UPDATE history SET outcome = 'failed' WHERE run_id = %s", runs[3])

    page = seen(Web(pool), "/ui/jobs/tick")

    picture = page[page.index('<svg class="chart') : page.index("<figcaption>")]
    assert picture.count("<rect") == 100
    assert picture.count('fill="url(#p-failed)"') == 1
    assert re.findall(r'href="/ui/runs/([^"]+)"', picture) == runs[:100][::-1]
    assert listed(page) == runs[:50]


def test_lost_firings_are_told_and_are_no_bars(pool: Pool) -> None:
    """They have no run to lead to."""
    jobs.declare(pool, [a_job()])
    fill(pool, 1)
    execute(
        pool,
        "INSERT INTO history (run_id, job, attempt, due_at, finished_at, outcome, error)"
        " VALUES (uuid7(), 'tick', 0, now(), now(), 'missed', 'nothing had started it')",
    )

    page = seen(Web(pool), "/ui/jobs/tick")

    assert "nothing had started it" in page
    assert page.count('<rect class="bar') == 1
    assert len(listed(page)) == 1


def test_a_history_is_walked_both_ways_while_it_grows(pool: Pool) -> None:
    """Each row that was there at the start comes once on the way down, and once on the way up."""
    jobs.declare(pool, [a_job()])
    fill(pool, 130)
    web = Web(pool)
    there = newest_first(pool)

    page = seen(web, "/ui/jobs/tick")
    down = listed(page)
    while older := links(page, "next"):
        fill(pool, 3)
        page = seen(web, older[0])
        down += listed(page)
    assert [each for each in down if each in there] == there
    assert len(down) == len(set(down))

    up = listed(page)
    while newer := links(page, "prev"):
        page = seen(web, newer[0])
        up = listed(page) + up
    assert up == newest_first(pool)
    assert len(up) == 130 + 3 * 2


@pytest.mark.parametrize(
    "query_string",
    [
        "before=1",
        "after=x_y",
        "before=2026-01-01_1",
        "before=%00",
        "before=&after=",
        "before=a&before=b",
    ],
)
def test_a_cursor_that_is_none_is_a_400(web: Web, query_string: str) -> None:
    """Links are made by pages; whoever makes them up is told so."""
    assert web.get("/ui/jobs/tick", query_string=query_string).status == 400


@pytest.mark.parametrize("name", ["no-such-job", "%00", "tick%00", "x" * 3000, "%3Cb%3E"])
def test_an_unknown_job_is_a_404(web: Web, name: str) -> None:
    """Whatever its name."""
    assert web.get(f"/ui/jobs/{name}").status == 404


def test_a_kind_of_tasks_is_no_job(pool: Pool) -> None:
    """It has a page of its own."""
    jobs_row(pool)
    execute(pool, "UPDATE job SET declared_schedule = NULL")
    assert Web(pool).get("/ui/jobs/tick").status == 404


def test_whatever_a_job_and_its_errors_say_is_text(pool: Pool) -> None:
    """Description, worker and error come from anywhere."""
    claim = claimed(pool)
    end(pool, claim, "failed", a_job(max_retries=0), error=HOSTILE)
    execute(pool, "UPDATE job SET description = %s", HOSTILE)
    execute(pool, "UPDATE history SET worker = %s", HOSTILE)

    page = seen(Web(pool), "/ui/jobs/tick")

    assert HOSTILE not in page
    assert unescape(page).count(HOSTILE) == 3


def test_nothing_is_sent_again_while_nothing_happens(pool: Pool) -> None:
    """The tag is of the data, and not of the clock."""
    jobs.declare(pool, [a_job(at_once=False)])
    web = Web(pool)
    first = web.get("/ui/jobs/tick")
    again = web.get("/ui/jobs/tick", headers={"If-None-Match": first.headers["etag"]})
    assert again.status == 304

    look(pool, a_worker(pool))
    jobs.change(pool, "tick", {"paused": True})
    changed = web.get("/ui/jobs/tick", headers={"If-None-Match": first.headers["etag"]})
    assert changed.status == 200
