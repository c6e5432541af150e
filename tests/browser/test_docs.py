"""The documentation of the API: to read, to try out, and for everybody."""

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.own import DEVICES, Fit, Visit, loaded
from tests.browser.watching import Watch
from tests.system.gunicorns import Instance

WEIGHT = 150_000
"""Bytes of everything the page loads."""


def operation(page: Page, name: str) -> Locator:
    """Return an operation, opened."""
    found = page.locator(f"#{name}")
    found.locator("summary").click()
    return found


def test_every_operation_is_there_without_a_script(visit: Visit, service: Instance) -> None:
    """Who has no script reads all of it, with a curl line for each."""
    page = visit(java_script_enabled=False)
    page.goto("/docs")

    for path, item in service.get("/openapi.json")["paths"].items():
        for each in item.values():
            found = operation(page, each["operationId"])
            expect(found.get_by_text(path, exact=True)).to_be_visible()
            expect(found.get_by_text("curl ").first).to_be_visible()
            expect(found.get_by_role("button", name="Send")).to_be_hidden()


def test_a_request_is_sent_and_its_answer_shown(page: Page) -> None:
    """A task that was made is the one that the other forms ask for then."""
    page.goto("/docs")
    made = operation(page, "postTasks")
    made.get_by_label("Body").fill('{"name": "by hand", "kind": "greet", "args": {"who": "you"}}')
    made.get_by_role("button", name="Send").click()
    expect(made.get_by_role("status")).to_contain_text("201")

    shown = operation(page, "getTask")
    shown.get_by_role("button", name="Send").click()

    expect(shown.get_by_role("status")).to_contain_text("200")
    expect(shown.get_by_role("status")).to_contain_text('"name": "by hand"')


def test_an_example_fills_the_body(page: Page) -> None:
    """Choosing another one is enough to send it."""
    page.goto("/docs")
    changed = operation(page, "patchJob")
    changed.get_by_label("name").fill("nightly")
    changed.get_by_label("Example").select_option("Another schedule")
    changed.get_by_role("button", name="Send").click()

    expect(changed.get_by_role("status")).to_contain_text('"schedule": "@hourly"')


def test_a_problem_is_shown_as_it_came(page: Page, watch: Watch) -> None:
    """The status, and the problem."""
    watch.allow("404")
    page.goto("/docs")
    shown = operation(page, "getJob")
    shown.get_by_label("name").fill("nothing/../so")
    shown.get_by_role("button", name="Send").click()

    expect(shown.get_by_role("status")).to_contain_text("urn:ronin:problem:")


def test_a_link_leads_into_what_is_closed(page: Page) -> None:
    """The shape of an answer opens."""
    page.goto("/docs")
    operation(page, "getTask").get_by_role("link", name="TaskInFull").click()

    expect(page.locator("#shape-TaskInFull table")).to_be_visible()


@pytest.mark.parametrize("device", DEVICES)
def test_documentation_is_for_everybody(visit: Visit, fit: Fit, device: str) -> None:
    """What is closed at first has nothing either that shuts anybody out, or is too wide."""
    page = visit(**DEVICES[device])
    page.goto("/docs")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")

    fit(page, f"docs-opened-{device}")


def test_documentation_is_light(page: Page) -> None:
    """All of it together weighs less than a photograph."""
    page.goto("/docs", wait_until="load")

    assert 0 < sum(loaded(page).values()) < WEIGHT
