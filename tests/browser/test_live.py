"""The live page: light, quick, and there for those without a script as well."""

from playwright.sync_api import Page, Request, expect

from tests.browser.own import Visit, note
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
    loaded: dict[str, Request] = {}
    page.on("requestfinished", lambda request: loaded.update({request.url: request}))
    page.goto("/", wait_until="load")
    paint = page.evaluate(FIRST_PAINT)
    sizes = {url: request.sizes()["responseBodySize"] for url, request in loaded.items()}
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
