"""The live page: light and quick, and what changes is seen to change."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.own import Visit, loaded, note
from tests.browser.places import post
from tests.browser.watching import Watch
from tests.eventually import eventually
from tests.system.gunicorns import Instance

WEIGHT = 150_000
"""Bytes of everything the page loads."""
PAINT = 5000
"""Milliseconds until the first paint, on a busy machine; what it took is printed."""


def test_live_page_shows_every_job(page: Page, service: Instance) -> None:
    """Somebody who opens the address sees what runs."""
    page.goto("/")

    for job in service.get("/jobs"):
        expect(page.get_by_text(job["name"], exact=True).first).to_be_visible()


def test_live_page_shows_every_job_without_a_script(visit: Visit, service: Instance) -> None:
    """A page is a page before any script has run."""
    page = visit(java_script_enabled=False)
    page.goto("/")

    for job in service.get("/jobs"):
        expect(page.get_by_text(job["name"], exact=True).first).to_be_visible()


def test_live_page_is_light_and_quick(page: Page) -> None:
    """All that is loaded together weighs less than one photograph, and is seen at once."""
    page.goto("/", wait_until="load")
    paint = page.evaluate(FIRST_PAINT)
    sizes = loaded(page)
    note(f"first paint {paint:.0f} ms, {sum(sizes.values())} bytes in {len(sizes)} requests")

    assert len(sizes) >= 3, "the page, its style, its script"
    assert sum(sizes.values()) < WEIGHT, sizes
    assert 0 < paint < PAINT


FIRST_PAINT = """() => new Promise(done => {
    const seen = list => list.getEntries()
        .filter(entry => entry.name === 'first-contentful-paint')
        .forEach(entry => done(entry.startTime));
    new PerformanceObserver(seen).observe({type: 'paint', buffered: true});
})"""


def job_row(page: Page, job: str) -> Locator:
    """Return the row of a job."""
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=job))


def opened(page: Page) -> Page:
    """Open the live page and mark it, so that a reload could not pass for an update."""
    page.goto("/")
    page.evaluate("window.notReloaded = true")
    return page


def not_reloaded(page: Page) -> bool:
    return bool(page.evaluate("window.notReloaded === true"))


def test_end_of_a_task_is_seen_without_a_reload(page: Page, service: Instance) -> None:
    """Who has the page open sees what others do."""
    opened(page)
    post(service, "greet", args={"who": "nobody"})

    expect(job_row(page, "greet").get_by_role("img", name=re.compile("1 failed"))).to_be_visible()
    assert not_reloaded(page)


def test_progress_of_a_run_grows_on_the_page(page: Page) -> None:
    """A bar grows while its run goes on."""
    bar = opened(page).get_by_role("progressbar", name="Progress of first")
    before = float(bar.get_attribute("value") or 0)

    eventually(lambda: float(bar.get_attribute("value") or 0) > before + 0.005)
    assert not_reloaded(page)


def test_page_that_is_paused_stands_still_until_it_is_resumed(
    page: Page, service: Instance
) -> None:
    """Who wants to read on stops the changes, and gets them all afterwards."""
    opened(page)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status")).to_have_text("paused")
    held = post(service, "hold", args={"seconds": 3600})
    eventually(lambda: service.get(f"/tasks/{held}")["status"] == 2)
    other = page.context.new_page()
    other.goto("/")
    expect(job_row(other, "hold")).to_contain_text("1 of 1")
    expect(job_row(page, "hold")).to_contain_text("0 of 1")

    page.get_by_role("button", name="Resume").click()
    expect(job_row(page, "hold")).to_contain_text("1 of 1")
    assert not_reloaded(page)


def bar(page: Page, worker: str, run: str, outcome: str) -> Locator:
    """Return the bars of a run in a worker's lane that are drawn as of that outcome."""
    return page.locator(f'.lane[data-key="{worker}"] a[href="/ui/runs/{run}"] .{outcome}')


def test_jobs_of_a_killed_worker_are_seen_to_move_to_another(
    page: Page, service: Instance, watch: Watch
) -> None:
    """A kill -9 is on the screen a moment later: the runs are elsewhere, the worker is gone."""
    watch.allow("ERR_CONNECTION_|ERR_EMPTY_RESPONSE")  # the poll that the dead worker was answering
    opened(page)
    worker = eventually(lambda: service.job("first")["worker"])
    expect(job_row(page, "first").get_by_text(worker)).to_be_visible()
    workers = page.get_by_role("region", name="Workers")
    expect(workers.get_by_text(worker)).to_be_visible()
    run = service.job("first")["run_id"]
    expect(bar(page, worker, run, "running")).to_have_count(1)

    service.workers()[worker].kill()

    expect(workers.get_by_text(worker)).to_have_count(0)
    after = eventually(lambda: service.job("first")["worker"])
    assert after != worker
    expect(job_row(page, "first").get_by_text(after)).to_be_visible()
    expect(job_row(page, "first").get_by_text("attempt 2")).to_be_visible()
    expect(bar(page, worker, run, "crashed")).to_have_count(1)
    expect(bar(page, worker, run, "running")).to_have_count(0)
    expect(bar(page, after, run, "running")).to_have_count(1)
    expect(page.get_by_role("status")).to_have_text("live")
    assert not_reloaded(page)
