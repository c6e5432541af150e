"""The page of a run: a task or a firing, from its first attempt to its last."""

import re
from html import unescape
from uuid import uuid4

import pytest

from cluster.database import Pool
from cluster.run import Claim
from cluster.store import jobs, questions, tasks, voices
from cluster.voice import Chunk
from tests.integration.builders import (
    KIND,
    TaskWeb,
    a_job,
    asked,
    claimed,
    due,
    end,
    execute,
    finished,
    taken,
    value,
)
from tests.integration.forms import FORM, filled
from tests.integration.looking import HOSTILE, asked_first, forms, seen


@pytest.fixture
def web(pool: Pool) -> TaskWeb:
    """Return the application over a catalogue with the kind `work`."""
    return TaskWeb(pool)


def test_a_task_that_waits_shows_what_it_was_asked_with(web: TaskWeb, pool: Pool) -> None:
    """Name, kind, arguments; and it can be cancelled."""
    (task,) = asked(pool, name="the first", args={"note": "hé", "more": {"a": [1, 2.50]}})

    page = seen(web, f"/ui/runs/{task}")

    assert "the first" in page
    assert f'href="/ui/kinds/{KIND}"' in page
    assert '"note": "hé"' in unescape(page)
    assert asked_first(page) == [f"/ui/runs/{task}/cancel"]
    assert "None yet" in page


def test_a_number_of_any_length_is_shown_as_it_is(web: TaskWeb, pool: Pool) -> None:
    """No digit is lost on the way through Python."""
    digits = "12345678901234567890123456789.123456789012345678901"
    (task,) = asked(pool)
    execute(pool, "UPDATE run SET args = jsonb_build_object('factor', %s::numeric)", digits)
    assert digits in seen(web, f"/ui/runs/{task}")


def test_a_task_under_way_shows_its_progress_and_worker(web: TaskWeb, pool: Pool) -> None:
    """And a bar that is not at its end."""
    (task,) = asked(pool)
    taken(pool)
    execute(pool, "UPDATE run SET progress = 0.25, checkpoint = '{\"line\": 7}'")

    page = seen(web, f"/ui/runs/{task}")

    assert 'value="0.25"' in page
    assert "host:1" in page
    assert '"line": 7' in unescape(page)
    assert 'class="bar running"' in page


def test_every_attempt_is_told_with_its_traceback(web: TaskWeb, pool: Pool) -> None:
    """In their order, and in a disclosure, for it is long."""
    (task,) = asked(pool)
    for number in (1, 2):
        (claim,) = taken(pool)
        end(pool, claim, "failed", error=f"bad {number}", traceback=f"File x, line {number}")
        due(pool)
    (claim,) = taken(pool)
    end(pool, claim, "completed", value='{"pages": 3}')

    page = seen(web, f"/ui/runs/{task}")

    assert re.findall(r"bad \d|line \d", page) == ["bad 1", "line 1", "bad 2", "line 2"]
    assert page.count("<summary>Traceback</summary>") == 2
    assert re.findall(r'<rect class="bar (\w+)"', page) == ["failed", "failed", "completed"]
    assert '"pages": 3' in unescape(page)
    assert forms(page) == []


def test_a_task_that_has_failed_can_be_tried_again(web: TaskWeb, pool: Pool) -> None:
    """Nothing is lost by that, so it is not asked for first."""
    task = finished(pool, "failed", error="no such order")

    page = seen(web, f"/ui/runs/{task}")

    assert "no such order" in page
    assert forms(page) == [f"/ui/tasks/{task}/retry"]
    assert asked_first(page) == []
    assert tasks.retry(pool, task)
    assert forms(seen(web, f"/ui/runs/{task}")) == [f"/ui/runs/{task}/cancel"]


def test_a_firing_leads_to_its_job(web: TaskWeb, pool: Pool) -> None:
    """It has neither name nor arguments, and is not tried again by hand."""
    claim = claimed(pool, a_job(max_retries=0))
    running = seen(web, f"/ui/runs/{claim.id}")
    assert 'href="/ui/jobs/tick"' in running
    assert asked_first(running) == [f"/ui/runs/{claim.id}/cancel"]

    end(pool, claim, "failed", a_job(max_retries=0), error="no")

    over = seen(web, f"/ui/runs/{claim.id}")
    assert 'href="/ui/jobs/tick"' in over
    assert forms(over) == []


def test_a_run_that_was_told_to_stop_says_so(web: TaskWeb, pool: Pool) -> None:
    """Until it has."""
    (task,) = asked(pool)
    taken(pool)
    assert "told to stop<" not in seen(web, f"/ui/runs/{task}")
    tasks.cancel(pool, task)
    assert "told to stop<" in seen(web, f"/ui/runs/{task}")


def test_a_task_that_never_began_has_a_page(web: TaskWeb, pool: Pool) -> None:
    """Cancelled while it waited: there is an end, and no attempt of a worker."""
    (task,) = asked(pool)
    tasks.cancel(pool, task)

    page = seen(web, f"/ui/runs/{task}")

    assert "cancelled" in page
    assert '<rect class="bar' not in page


def test_a_late_word_is_shown_and_changes_nothing(web: TaskWeb, pool: Pool) -> None:
    """The run ended as its current attempt says; what was fenced is told beside it."""
    (task,) = asked(pool)
    (claim,) = taken(pool)
    execute(
        pool,
        "UPDATE run SET token = NULL, fence = NULL, worker_id = NULL, worker = NULL,"
        " started_at = NULL",
    )
    end(pool, claim, "completed")

    page = seen(web, f"/ui/runs/{task}")

    assert "fenced" in page
    assert forms(page) == [f"/ui/runs/{task}/cancel"]


def test_whatever_a_task_says_is_text(web: TaskWeb, pool: Pool) -> None:
    """Name, arguments, error, traceback, result and worker."""
    (task,) = asked(pool, name=HOSTILE, args={"note": HOSTILE})
    (claim,) = taken(pool)
    end(pool, claim, "failed", error=HOSTILE, traceback=HOSTILE, final=True)
    execute(pool, "UPDATE history SET worker = %s, result = to_jsonb(%s::text)", HOSTILE, HOSTILE)

    page = seen(web, f"/ui/runs/{task}")

    assert HOSTILE not in page
    assert unescape(page).count(HOSTILE) >= 8


def test_an_unknown_run_is_a_404(web: TaskWeb) -> None:
    """And so is what is no id."""
    assert web.get(f"/ui/runs/{uuid4()}").status == 404
    assert web.get("/ui/runs/1").status == 404


def test_the_tag_changes_with_the_run_and_not_with_the_clock(web: TaskWeb, pool: Pool) -> None:
    """A poll costs nothing while nothing happens; progress is something."""
    (task,) = asked(pool)
    taken(pool)

    def etag() -> str:
        return web.get(f"/ui/runs/{task}").headers["etag"]

    first = etag()
    assert etag() == first
    execute(pool, "UPDATE run SET progress = 0.5")
    assert etag() != first
    assert web.get(f"/ui/runs/{task}", headers={"If-None-Match": etag()}).status == 304


def test_a_run_of_a_job_that_is_no_more_declared_has_a_page(web: TaskWeb, pool: Pool) -> None:
    """History outlives the code."""
    jobs.declare(pool, [a_job()])
    run = value(pool, "SELECT id FROM run")
    execute(pool, "DELETE FROM job WHERE name = 'tick'")
    assert "tick" in seen(web, f"/ui/runs/{run}")


def say(pool: Pool, claim: Claim, *texts: str) -> None:
    """Write down what an attempt says."""
    chunks = [Chunk(number, text, len(text)) for number, text in enumerate(texts)]
    voices.write(pool, [voices.Said(claim, chunks, 0)])


def test_what_an_attempt_says_is_shown_while_it_runs(web: TaskWeb, pool: Pool) -> None:
    """As text, in its order; and the tag changes with each word, so that the page follows."""
    (task,) = asked(pool)
    (claim,) = taken(pool)
    assert 'id="log"' not in seen(web, f"/ui/runs/{task}")
    before = web.get(f"/ui/runs/{task}").headers["etag"]
    say(pool, claim, "first\n", f"second {HOSTILE}\n")

    page = seen(web, f"/ui/runs/{task}")

    assert HOSTILE not in page
    assert f"first\nsecond {HOSTILE}\n" in unescape(page)
    assert web.get(f"/ui/runs/{task}").headers["etag"] != before


def test_the_logs_of_the_newest_attempts_are_shown(web: TaskWeb, pool: Pool) -> None:
    """Three of them, for each may be long; all are told elsewhere."""
    (task,) = asked(pool, max_retries=9)
    for number in range(1, 6):
        (claim,) = taken(pool)
        say(pool, claim, f"word {number}\n")
        end(pool, claim, "failed")
        due(pool)

    page = seen(web, f"/ui/runs/{task}")

    assert re.findall(r"word \d", page) == ["word 3", "word 4", "word 5"]
    assert f'href="/runs/{task}/log"' in page
    assert len(web.get(f"/runs/{task}/log").body) == 5


def test_a_run_under_way_can_be_asked_where_it_is(web: TaskWeb, pool: Pool) -> None:
    """By a form; the answer comes with a later look, and stays when the run is over."""
    (task,) = asked(pool)
    (claim,) = taken(pool)
    path = f"/ui/runs/{task}"
    assert f"{path}/stack" in forms(seen(web, path))

    answer = web.ask(
        "POST",
        f"{path}/stack",
        headers=FORM,
        body=filled(),
    )
    assert (answer.status, answer.headers["location"]) == (303, path)
    assert "Asked at" in seen(web, path)

    (question,) = questions.unanswered(pool, [claim.token])
    questions.answer(pool, [(question, f"File {HOSTILE}, line 7")])
    page = seen(web, path)
    assert HOSTILE not in page
    assert f"File {HOSTILE}, line 7" in unescape(page)

    end(pool, claim, "completed")
    over = seen(web, path)
    assert "line 7" in over
    assert f"{path}/stack" not in forms(over)


def test_a_run_that_nobody_performs_can_not_be_asked(web: TaskWeb, pool: Pool) -> None:
    """The form is not there, and whoever sends it all the same is told why."""
    (task,) = asked(pool)
    path = f"/ui/runs/{task}"
    assert f"{path}/stack" not in forms(seen(web, path))
    headers = FORM | {"Accept": "text/html"}
    answer = web.ask("POST", f"{path}/stack", headers=headers, body=filled())
    assert answer.status == 409
    assert "Nobody performs the run" in answer.body
