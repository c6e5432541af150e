"""The pages of the kinds of tasks: what there is of each, and a form for a new one."""

import re
from html import unescape

import pytest

from cluster.database import Pool
from cluster.store import details, jobs
from tests.integration.builders import (
    KIND,
    TaskWeb,
    a_kind,
    asked,
    due,
    end,
    execute,
    finished,
    jobs_row,
    taken,
)
from tests.integration.looking import HOSTILE, asked_first, forms, listed, seen


@pytest.fixture
def web(pool: Pool) -> TaskWeb:
    """Return the application over a catalogue with the kind `work`."""
    return TaskWeb(pool, a_kind(max_running=3))


def test_every_kind_is_listed_with_what_waits_and_runs(web: TaskWeb, pool: Pool) -> None:
    """One line each, which leads to its page."""
    asked(pool, 5)
    taken(pool, free=2)

    page = seen(web, "/ui/kinds")

    assert f'href="/ui/kinds/{KIND}"' in page
    assert re.findall(r'data-label="([^"]+)" class="number">([^<]+)<', page) == [
        ("Waiting", "3"),
        ("Under way", "2"),
        ("At once", "3"),
    ]


def test_more_than_can_be_counted_is_said_as_such(
    web: TaskWeb, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million that wait are not counted to the end."""
    monkeypatch.setattr(details, "COUNTED", 30)
    asked(pool, 30)
    assert ">30<" in seen(web, f"/ui/kinds/{KIND}")
    assert ">3+<" in seen(web, "/ui/kinds")
    asked(pool)
    assert ">30+<" in seen(web, f"/ui/kinds/{KIND}")


def test_a_task_can_be_asked_for_with_each_argument(web: TaskWeb) -> None:
    """In the order of the function, with fields of their types."""
    page = seen(web, f"/ui/kinds/{KIND}").partition('id="new"')[2]
    fields = re.findall(r'<(input|select|textarea) [^>]*name="([^"]+)"', page)
    assert fields == [
        ("input", "form_key"),
        ("input", "idempotency_key"),
        ("input", "name"),
        ("input", "args.processing_time"),
        ("input", "args.factor"),
        ("textarea", "args.note"),
        ("textarea", "args.more"),
        ("input", "priority"),
        ("input", "run_at"),
    ]
    assert f"/ui/kinds/{KIND}/tasks" in forms(page)
    keys = [
        re.findall(r'name="idempotency_key" value="([^"]+)"', each)
        for each in (page, seen(web, f"/ui/kinds/{KIND}"))
    ]
    assert keys[0] != keys[1]


def test_every_field_has_a_label(web: TaskWeb) -> None:
    """And the label is of that field."""
    page = seen(web, f"/ui/kinds/{KIND}")
    labels = re.findall(r'<label for="([^"]+)"', page)
    visible = re.findall(r'<(?:input|select|textarea) id="([^"]+)"', page)
    assert labels == visible
    assert len(set(visible)) == len(visible)


def test_a_kind_that_only_others_know_has_a_form_as_well(web: TaskWeb, pool: Pool) -> None:
    """From what they have declared."""
    jobs.declare(pool, [a_kind(name="elsewhere")])
    assert 'name="args.processing_time"' in seen(web, "/ui/kinds/elsewhere")


def test_the_newest_that_failed_are_told_with_their_errors(web: TaskWeb, pool: Pool) -> None:
    """And can all be tried again, after a question."""
    assert f"/ui/kinds/{KIND}/retry" not in forms(seen(web, f"/ui/kinds/{KIND}"))
    finished(pool)
    failed = [finished(pool, "failed", error=f"bad {number}") for number in range(22)]

    page = seen(web, f"/ui/kinds/{KIND}")

    assert listed(page) == [str(task) for task in failed[:1:-1]]
    assert "bad 21" in page
    assert f"/ui/kinds/{KIND}/retry" in asked_first(page)
    assert 'href="/ui/tasks?status=ERROR&amp;kind=work"' in page


def test_a_task_that_is_to_be_tried_again_has_not_failed_yet(web: TaskWeb, pool: Pool) -> None:
    """It waits."""
    asked(pool)
    (claim,) = taken(pool)
    end(pool, claim, "failed", error="bad")
    due(pool)
    assert listed(seen(web, f"/ui/kinds/{KIND}")) == []


def test_a_paused_kind_can_be_resumed(web: TaskWeb, pool: Pool) -> None:
    """And another one can be paused, after a question."""
    assert f"/ui/kinds/{KIND}/pause" in asked_first(seen(web, f"/ui/kinds/{KIND}"))
    jobs.change(pool, "work", {"paused": True})
    page = seen(web, f"/ui/kinds/{KIND}")
    assert f"/ui/kinds/{KIND}/resume" in forms(page)
    assert f"/ui/kinds/{KIND}/pause" not in forms(page)


def test_whatever_a_kind_says_is_text(web: TaskWeb, pool: Pool) -> None:
    """Its description, the names and hints of its arguments, and errors of its tasks."""
    finished(pool, "failed", error=HOSTILE)
    jobs.declare(pool, [a_kind(name="elsewhere")])
    execute(pool, "UPDATE job SET description = %s", HOSTILE)
    execute(
        pool,
        "UPDATE job SET settings = jsonb_set(settings, '{args,properties}', jsonb_build_object("
        "%s::text, jsonb_build_object('type', 'string', 'description', %s::text)))"
        " WHERE name = 'elsewhere'",
        HOSTILE,
        HOSTILE,
    )
    for path, times in (("work", 2), ("elsewhere", 4)):
        page = seen(web, f"/ui/kinds/{path}")
        assert HOSTILE not in page
        assert unescape(page).count(HOSTILE) == times
    assert HOSTILE not in seen(web, "/ui/kinds")


@pytest.mark.parametrize("name", ["no-such-kind", "%00", "tick"])
def test_what_is_no_kind_is_a_404(web: TaskWeb, pool: Pool, name: str) -> None:
    """A job with a schedule is none."""
    jobs_row(pool)
    assert web.get(f"/ui/kinds/{name}").status == 404
