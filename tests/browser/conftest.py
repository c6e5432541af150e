"""A browser, a real service to look at, and a page under watch."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, Playwright, expect, sync_playwright

from tests.browser import chromium
from tests.browser.own import DESKTOP, JOBS, SETTINGS, Fit, Visit
from tests.browser.watching import Watch
from tests.system.facts import database
from tests.system.gunicorns import Instance, gunicorn, job_module, ready

_PATIENCE = 30_000
"""Milliseconds that anything may take to appear; the machine may be busy."""
_ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
"""No other host exists for the browser, not for its own errands either."""
_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser of this test process."""
    try:
        program = chromium.find()
    except chromium.NoChromiumError as error:
        if chromium.wanted_by_all_means():
            pytest.fail(str(error))
        pytest.skip(str(error))
    expect.set_options(timeout=_PATIENCE)
    with sync_playwright() as playwright:
        browser = _launched(playwright, program)
        yield browser
        browser.close()


def _launched(playwright: Playwright, program: Path) -> Browser:
    """Start it in its sandbox, which root may not have, and which some containers can't give."""
    for sandbox in (True, False) if os.geteuid() else (False,):
        try:
            return playwright.chromium.launch(
                executable_path=program, args=[_ALONE], chromium_sandbox=sandbox
            )
        except Error as error:
            if not sandbox or "sandbox" not in str(error):
                raise
    raise AssertionError("not reached")


@pytest.fixture(scope="module")
def service(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """A service of its own for the tests of one file."""
    folder = tmp_path_factory.mktemp("service")
    with (
        database(server_url) as url,
        gunicorn(url, folder, env={**SETTINGS, **job_module(folder, JOBS)}) as instance,
    ):
        ready(instance)
        yield instance


@pytest.fixture
def watch(service: Instance) -> Iterator[Watch]:
    """Return what notes the troubles of this test's pages; any at the end fails the test."""
    watch = Watch(f"http://127.0.0.1:{service.port}")
    yield watch
    watch.assert_quiet()


@pytest.fixture
def visit(browser: Browser, watch: Watch) -> Iterator[Visit]:
    """Return a function that opens an empty page of a visitor whom nobody knows yet."""
    contexts = []

    def opened(**options: Any) -> Page:
        context = browser.new_context(base_url=watch.origin, **{**DESKTOP, **options})
        context.set_default_timeout(_PATIENCE)
        contexts.append(context)
        watch.attach(context)
        return context.new_page()

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def page(visit: Visit) -> Page:
    """An empty page on a desktop."""
    return visit()


@pytest.fixture(scope="session")
def fit() -> Fit:
    """Return a function that looks at a page as it stands there, light and dark.

    axe must find no violation of WCAG 2 A and AA and no bad practice, and nothing may stick out.
    Pictures go into the folder RONIN_SHOTS, if that is set.
    """
    folder = os.environ.get("RONIN_SHOTS")
    options = {"runOnly": {"type": "tag", "values": _RULES}, "resultTypes": ["violations"]}

    def check(page: Page, name: str) -> None:
        for scheme in _SCHEMES:
            page.emulate_media(color_scheme=scheme)
            if folder:
                page.screenshot(path=Path(folder) / f"{name}-{scheme}.png", full_page=True)
            found = Axe().run(page, options=options)
            assert found.violations_count == 0, f"{page.url}\n{found.generate_report()}"
            assert page.evaluate(_WIDER) == 0, f"{page.url} is wider than the screen"

    return check
