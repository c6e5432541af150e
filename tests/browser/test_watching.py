"""The watch itself: what is wrong with a page does not escape it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.watching import Watch

ORIGIN = "http://127.0.0.1:9"
POLICY = {"Content-Security-Policy": "script-src 'self'; style-src 'self'"}


@pytest.fixture
def watch() -> Watch:
    """A watch whose troubles are the point."""
    return Watch(ORIGIN)


@pytest.fixture
def page(browser: Browser, watch: Watch) -> Iterator[Page]:
    """A page under that watch."""
    with browser.new_context() as context:
        watch.attach(context)
        yield context.new_page()


def show(page: Page, html: str, script: str = "") -> None:
    """Open a page of this text; `/a.js` is the script."""
    page.route(
        f"{ORIGIN}/", lambda r: r.fulfill(body=html, content_type="text/html", headers=POLICY)
    )
    page.route(f"{ORIGIN}/a.js", lambda r: r.fulfill(body=script, content_type="text/javascript"))
    page.goto(f"{ORIGIN}/")


SCRIPT = "<!doctype html><title>t</title><p>ready<script src='/a.js'></script>"


@pytest.mark.parametrize(
    ("html", "script", "trouble"),
    [
        ("<p style='color: red'>ready", "", "Content Security Policy"),
        ("<p>ready<script>1</script>", "", "Content Security Policy"),
        ("<p>ready<img src='http://example.com/a.png'>", "", "request to elsewhere"),
        (SCRIPT, "nonsense()", "page error: .*nonsense is not defined"),
        (SCRIPT, "console.error('oh')", "console error: oh"),
        (SCRIPT, "fetch('http://127.0.0.1:9/away')", "request failed: http://127.0.0.1:9/away"),
        (SCRIPT, "new WebSocket('ws://127.0.0.1:9/')", "websocket: ws://127.0.0.1:9"),
    ],
)
def test_trouble_of_a_page_is_noted(
    html: str, script: str, trouble: str, page: Page, watch: Watch
) -> None:
    """Each kind of trouble fails a test, whatever else the test looks at."""
    show(page, html, script)
    expect(page.get_by_text("ready")).to_be_visible()
    page.wait_for_function("() => document.readyState === 'complete'")
    page.evaluate("() => new Promise(done => setTimeout(done, 100))")

    with pytest.raises(AssertionError, match=trouble):
        watch.assert_quiet()


def test_trouble_that_a_test_allows_is_none(page: Page, watch: Watch) -> None:
    """A test that is about a trouble says so."""
    show(page, SCRIPT, "console.error('just so')")
    watch.allow("just so")

    watch.assert_quiet()


def test_a_good_page_is_quiet(page: Page, watch: Watch) -> None:
    """What is in order is not complained about."""
    show(page, SCRIPT, "document.body.append(' and steady'); console.log('fine')")
    expect(page.get_by_text("ready and steady")).to_be_visible()

    watch.assert_quiet()
