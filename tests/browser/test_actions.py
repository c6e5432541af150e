"""What people change with forms: it is asked first, done, and seen."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.own import Visit
from tests.browser.places import post
from tests.eventually import eventually
from tests.system.gunicorns import Instance


@pytest.fixture(params=[True, False], ids=["script", "no script"])
def page(request: pytest.FixtureRequest, visit: Visit) -> Page:
    """An empty page, with and without a script: a form needs none."""
    return visit(java_script_enabled=request.param)


def confirm(page: Page, label: str) -> None:
    """Open the question behind a button, and say yes."""
    question = page.locator("details").filter(has=page.locator("summary", has_text=label))
    button = question.get_by_role("button", name=label, exact=True)
    expect(button).to_be_hidden()
    question.locator("summary").click()
    button.click()


def state(page: Page, word: str) -> Locator:
    """Return the state beside the heading, if it is this one."""
    title = page.locator(".title").filter(has=page.get_by_role("heading", level=1))
    return title.get_by_text(word, exact=True)


def test_job_is_paused_and_resumed(page: Page, visit: Visit, service: Instance) -> None:
    """A pause is asked about, is seen by others at once, and ends when somebody says so."""
    other = visit()
    other.goto("/")
    row = other.get_by_role("row").filter(has=other.get_by_role("rowheader", name="nightly"))
    page.goto("/ui/jobs/nightly")

    confirm(page, "Pause")

    expect(state(page, "paused")).to_be_visible()
    expect(row.get_by_text("paused").first).to_be_visible()
    assert service.job("nightly")["state"] == "paused"

    page.get_by_role("button", name="Resume").click()

    expect(state(page, "waiting")).to_be_visible()
    expect(row.get_by_text("waiting").first).to_be_visible()
    assert service.job("nightly")["state"] == "waiting"


def test_schedule_is_previewed_before_it_is_saved(page: Page, service: Instance) -> None:
    """What a schedule means is shown first; what the code says is a button away."""
    before = service.job("nightly")["schedule"]
    page.goto("/ui/jobs/nightly")
    page.get_by_label("Another schedule").fill("30 5 * * *")
    page.get_by_role("button", name="Preview").click()

    expect(page.get_by_text("Nothing is saved yet")).to_be_visible()
    expect(page.get_by_text("05:30:00").first).to_be_visible()
    assert service.job("nightly")["schedule"] == before

    page.get_by_role("button", name="Save this schedule").click()

    expect(page.get_by_text("changed by somebody")).to_be_visible()
    assert service.job("nightly")["schedule"] == "30 5 * * *"

    confirm(page, "Reset to the code's")

    expect(page.get_by_text("changed by somebody")).to_have_count(0)
    assert service.job("nightly")["schedule"] == before


def test_schedule_that_makes_no_sense_is_refused_with_the_reason(page: Page) -> None:
    """The reason stands beside the field, and what was typed is still there."""
    page.goto("/ui/jobs/nightly")
    field = page.get_by_label("Another schedule")
    field.fill("61 * * * *")
    page.get_by_role("button", name="Preview").click()

    expect(page.get_by_role("alert")).to_be_visible()
    expect(field).to_have_value("61 * * * *")
    expect(page.get_by_role("button", name="Save this schedule")).to_have_count(0)


def test_run_is_cancelled(page: Page, service: Instance) -> None:
    """A run that is under way is told to stop after a question, and ends."""
    task = post(service, "hold", args={"seconds": 3600})
    eventually(lambda: service.get(f"/tasks/{task}")["status"] == 2)
    page.goto(f"/ui/runs/{task}")

    confirm(page, "Cancel")

    eventually(lambda: service.get(f"/tasks/{task}")["outcome"] == "cancelled")
    page.goto(f"/ui/runs/{task}")
    expect(state(page, "cancelled")).to_be_visible()


def test_failed_task_is_tried_again(page: Page, service: Instance) -> None:
    """An ERROR gets another attempt, which is seen beside the first."""
    task = post(service, "greet", args={"who": "nobody"})
    eventually(lambda: service.get(f"/tasks/{task}")["status"] == 4)
    page.goto(f"/ui/runs/{task}")

    page.get_by_role("button", name="Try again").click()

    eventually(lambda: len(service.get(f"/tasks/{task}/attempts")) == 2)
    page.goto(f"/ui/runs/{task}")
    expect(page.get_by_role("rowheader", name="2", exact=True)).to_be_visible()


def test_task_is_made_from_a_form_of_its_arguments(page: Page, service: Instance) -> None:
    """The form asks for what the function takes, and leads to the task."""
    page.goto("/ui/kinds/greet")
    page.get_by_label("Name").fill("by hand")
    page.get_by_label("who").fill("Zoë & <b>Co</b>")
    page.get_by_label("times").fill("2")
    page.get_by_role("button", name="Create the task").click()

    expect(page).to_have_url(re.compile("/ui/runs/"))
    task = page.url.rpartition("/")[2]
    eventually(lambda: service.get(f"/tasks/{task}")["status"] == 3)
    page.goto(page.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("by hand")
    expect(page.get_by_text("Hello Zoë & <b>Co</b>! Hello Zoë & <b>Co</b>!")).to_be_visible()


def test_form_that_lacks_an_argument_makes_no_task(page: Page, service: Instance) -> None:
    """The browser says what is missing before anything is sent."""
    before = len(service.get("/tasks?limit=1000"))
    page.goto("/ui/kinds/greet")
    page.get_by_label("Name").fill("by hand")
    page.get_by_role("button", name="Create the task").click()

    assert page.get_by_label("who").evaluate("each => each.matches(':invalid:focus')")
    assert len(service.get("/tasks?limit=1000")) == before


def test_all_failed_tasks_of_a_kind_are_tried_again(page: Page, service: Instance) -> None:
    """One button for all of them, after a question."""
    tasks = [post(service, "greet", args={"who": "nobody"}) for _ in range(3)]
    for task in tasks:
        eventually(lambda t=task: service.get(f"/tasks/{t}")["status"] == 4)  # type: ignore[misc] # at once
    page.goto("/ui/kinds/greet")

    confirm(page, "Try all failed again")

    for task in tasks:
        eventually(lambda t=task: len(service.get(f"/tasks/{t}/attempts")) == 2)  # type: ignore[misc] # at once


def test_what_somebody_changed_is_seen_among_the_actions(page: Page, service: Instance) -> None:
    """Who did what stands there, newest first."""
    page.goto("/ui/jobs/nightly")
    page.get_by_role("button", name="Run now").click()
    eventually(lambda: (service.job("nightly")["last_run"] or {}).get("outcome") == "completed")
    page.goto("/ui/actions")

    newest = page.get_by_role("row").nth(1)
    expect(newest).to_contain_text("local")
    expect(newest).to_contain_text("nightly")
