"""Why it waits, as the answers say it of jobs, runs and tasks."""

from typing import Any

import pytest

from cluster.database import Pool
from cluster.store import jobs
from tests.integration.builders import (
    TaskWeb,
    a_job,
    a_kind,
    a_worker,
    asked,
    due,
    end,
    execute,
    taken,
    value,
)


@pytest.fixture
def web(pool: Pool) -> TaskWeb:
    """Return the application over a database with two kinds, and a job that is due next year."""
    web = TaskWeb(pool, a_kind(max_running=1), a_kind(name="other"))
    jobs.declare(pool, [a_job(at_once=False)])
    return web


def job(web: TaskWeb) -> Any:
    """Return what the list of jobs says of the only one; checks that it says the same alone."""
    (listed,) = web.get("/jobs").body
    assert web.get("/jobs/tick").body["why"] == listed["why"]
    return listed["why"]


def test_a_job_says_why_it_waits_in_a_sentence(web: TaskWeb, pool: Pool) -> None:
    """As long as it waits, whatever for."""
    assert job(web) == "no worker is at work"
    worker = a_worker(pool)
    assert job(web).startswith("due at 20")
    paused = web.ask("PATCH", "/jobs/tick", json={"paused": True}).body["why"]
    assert paused.startswith("paused by local at 20")
    assert web.ask("PATCH", "/jobs/tick", json={"paused": False}).body["why"].startswith("due at")
    due(pool)
    assert job(web) == "a worker takes it at its next look; place 1 in the queue"
    assert taken(pool, "tick", worker=worker)
    assert job(web) is None


def test_a_task_says_why_it_waits_wherever_it_is_asked(web: TaskWeb, pool: Pool) -> None:
    """As a task, and as a run; and nothing once it runs, or is over."""
    a_worker(pool, names=["work"])
    first, second = asked(pool, 2)
    (claim,) = taken(pool)
    assert claim.id == first
    full = "limit of 1 full, held by host:1; place 1 of its kind"
    assert web.shown(second)["why"] == web.get(f"/runs/{second}").body["why"] == full
    assert web.shown(first)["why"] is web.get(f"/runs/{first}").body["why"] is None
    end(pool, claim, "failed", final=True)
    assert web.shown(first)["why"] is web.get(f"/runs/{first}").body["why"] is None
    again = web.post(f"/tasks/{first}/retry")
    assert "a worker takes it at its next look; place 2 of its kind" in again.body["why"]


def test_a_task_far_behind_is_not_counted_for_one_that_asks_often(web: TaskWeb, pool: Pool) -> None:
    """A thousand places are enough to know that it takes a while."""
    a_worker(pool, names=["other"])
    asked_for = asked(pool, 1_001, kind="other")
    last = asked_for[-1]
    assert web.shown(last)["why"].endswith("; more than 1,000 before it")
    execute(pool, "DELETE FROM run WHERE id = %s", asked_for[0])
    assert web.shown(last)["why"].endswith("; place 1,000 in the queue")


def test_a_firing_that_is_cancelled_is_being_ended(web: TaskWeb, pool: Pool) -> None:
    """Until it has given way to the next one."""
    run = value(pool, "SELECT id FROM run")
    answer = web.post(f"/runs/{run}/cancel")
    assert (answer.status, answer.body["why"]) == (200, "cancelled; it is being ended")


def test_the_pages_of_a_job_and_of_a_task_say_why_they_wait(web: TaskWeb, pool: Pool) -> None:
    """In the words of the answers, without what only the time moves."""
    a_worker(pool, names=["work", "tick"])
    (task,) = asked(pool, run_at="2999-01-01T00:00:00Z")
    why = "<dt>It waits</dt><dd>due at 2999-01-01 00:00:00 UTC</dd>"
    assert why in web.get(f"/ui/runs/{task}").body
    page = web.get("/ui/jobs/tick")
    assert "<dt>It waits</dt><dd>due at 20" in page.body
    jobs.change(pool, "tick", {"paused": True})
    changed = web.get("/ui/jobs/tick", headers={"If-None-Match": page.headers["etag"]})
    assert (changed.status, "<dt>It waits</dt><dd>paused</dd>" in changed.body) == (200, True)


def test_a_page_that_nothing_but_time_has_changed_is_the_same(web: TaskWeb, pool: Pool) -> None:
    """A poll costs next to nothing while nothing happens."""
    a_worker(pool, names=["work", "tick"])
    (task,) = asked(pool, run_at="2999-01-01T00:00:00Z")
    for path in ("/ui/jobs/tick", f"/ui/runs/{task}"):
        tag = web.get(path).headers["etag"]
        assert web.get(path, headers={"If-None-Match": tag}).status == 304


def test_the_live_page_says_why_a_job_waits(web: TaskWeb, pool: Pool) -> None:
    """Unless it is for its next firing, which has a column of its own."""
    a_worker(pool)
    assert "due at" not in web.get("/").body
    execute(pool, "DELETE FROM worker")
    assert '<span class="muted">no worker is at work</span>' in TaskWeb(pool).get("/").body
