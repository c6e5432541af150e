"""The page of actions, and what stands of them on the pages of what they were done to."""

import re
from html import unescape

import pytest

from cluster.database import Pool
from cluster.store import jobs, tasks
from tests.integration.builders import TaskWeb, a_job, a_kind, asked, execute, query
from tests.integration.looking import HOSTILE, links, seen


@pytest.fixture
def web(pool: Pool) -> TaskWeb:
    """Return the application over the kind `work` and the job `tick`."""
    jobs.declare(pool, [a_job()])
    return TaskWeb(pool, a_kind())


def keys(page: str) -> list[str]:
    """Return the ids of the actions that a page shows."""
    return re.findall(r'<tr data-key="([^"]+)"', page)


def test_an_action_stands_in_the_list_and_where_it_was_done(web: TaskWeb, pool: Pool) -> None:
    """Who, what, to what; on a job, a kind and a task."""
    (task,) = asked(pool)
    jobs.change(pool, "tick", {"schedule": "5 4 * * *"}, "ada")
    jobs.change(pool, "work", {"paused": True}, "grace")
    tasks.cancel(pool, task, by="joan")

    page = seen(web, "/ui/actions")

    assert re.findall(r'data-label="(?:Who|What)"[^>]*>([^<]+)<', page) == [
        *("joan", "cancel"),
        *("grace", "pause"),
        *("ada", "schedule"),
    ]
    for path, who in (("jobs/tick", "ada"), ("kinds/work", "grace"), (f"runs/{task}", "joan")):
        assert f'href="/ui/{path}"' in page
        own = seen(web, f"/ui/{path}")
        assert re.findall(r'data-label="Who"[^>]*>([^<]+)<', own) == [who]
    assert "<code>5 4 * * *</code>" in page


def test_a_list_can_be_of_one_thing_alone(web: TaskWeb, pool: Pool) -> None:
    """Its page leads there."""
    for paused in (True, False, True):
        jobs.change(pool, "tick", {"paused": paused}, "ada")
        jobs.change(pool, "work", {"paused": paused}, "ada")
    assert 'href="/ui/actions?target=job%3Atick"' in seen(web, "/ui/jobs/tick")
    page = seen(web, "/ui/actions?target=job%3Atick")
    assert len(keys(page)) == 3
    assert "work" not in page[page.index("<tbody>") :]


def test_actions_are_walked_both_ways_while_more_come(web: TaskWeb, pool: Pool) -> None:
    """Each comes once."""
    execute(
        pool,
        "INSERT INTO action (id, who, what, target, detail)"
        " SELECT uuid7(now() - n * interval '1 s'), 'ada', 'run', 'job:tick', '{}'"
        " FROM generate_series(1, 130) AS n",
    )
    there = [str(row[0]) for row in query(pool, "SELECT id FROM action ORDER BY id DESC")]
    page = seen(web, "/ui/actions?target=job%3Atick")
    down = keys(page)
    while older := links(page, "next"):
        jobs.change(pool, "tick", {"paused": len(down) == 50}, "ada")
        page = seen(web, older[0])
        down += keys(page)
    assert down == there

    up = keys(page)
    while newer := links(page, "prev"):
        page = seen(web, newer[0])
        up = keys(page) + up
    assert up[-130:] == there
    assert len(up) == len(set(up)) == 132


def test_whatever_an_action_says_is_text(web: TaskWeb, pool: Pool) -> None:
    """Who and the detail come from people."""
    execute(
        pool,
        "INSERT INTO action (who, what, target, detail)"
        " VALUES (%s, %s, %s, jsonb_build_object(%s::text, %s::text))",
        *[HOSTILE] * 5,
    )
    page = seen(web, "/ui/actions")
    assert HOSTILE not in page
    assert unescape(page).count(HOSTILE) == 5


@pytest.mark.parametrize(
    "query_string", ["target=x", "target=job:%00", "before=1", "after=a&before=b"]
)
def test_what_makes_no_sense_is_a_400(web: TaskWeb, query_string: str) -> None:
    """Links are made by pages."""
    assert web.get("/ui/actions", query_string=query_string).status == 400


def test_nothing_done_is_said_as_such(web: TaskWeb) -> None:
    """And takes no room on other pages."""
    assert "Nothing here" in seen(web, "/ui/actions")
    assert "What people have done" not in seen(web, "/ui/jobs/tick")
