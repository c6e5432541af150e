"""What the service of the browser tests runs, and on what it is looked at."""

import sys
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page

Visit = Callable[..., Page]
"""Opens an empty page; its options are those of a browser's context."""
Fit = Callable[[Page, str], None]
"""Fails if a page shuts anybody out; a name for pictures of it."""

JOBS = '''
from typing import Annotated

from pydantic import Field

from cluster import Discard, Run, job, task


@job(every="1d", at_once=True)
def first(run: Run) -> None:
    """Run until somebody stops it."""
    lasting(run)


@job(every="1d", at_once=True)
def second(run: Run) -> None:
    """Run until somebody stops it."""
    lasting(run)


def lasting(run: Run) -> None:
    for tenth in range(36000):
        run.progress(min(tenth / 1200, 0.99))
        run.wait(0.1)


@job(schedule="0 3 * * *", timezone="Europe/Berlin")
def nightly(run: Run) -> None:
    """End at once."""


@job(every="1d", at_once=True, max_retries=0)
def broken(run: Run) -> None:
    """Fail, with a message that looks like a script."""
    raise ValueError("<script>alert('no')</script> & so on")


@task(max_retries=2, retry_delay="1h")
def greet(
    run: Run, who: Annotated[str, Field(min_length=1)], times: Annotated[int, Field(ge=1, le=9)] = 1
) -> dict[str, str]:
    """Greet somebody, some times."""
    run.progress(0.5)
    if who == "nobody":
        raise Discard("there is nobody to greet")
    return {"said": f"Hello {who}! " * times}


@task(max_running=1)
def hold(run: Run, seconds: Annotated[float, Field(ge=0, le=3600)]) -> str:
    """Take some seconds."""
    for tenth in range(int(seconds * 10)):
        run.progress(tenth / (seconds * 10))
        run.wait(0.1)
    return "held"
'''
SETTINGS = {"WEB_CONCURRENCY": "3"}

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
DEVICES = {"desktop": DESKTOP, "phone": PHONE}
"""Options of a visit."""


def note(text: str) -> None:
    """Print what was measured, for who looks with `pytest -s`."""
    sys.stdout.write(f"{text}\n")


def loaded(page: Page) -> dict[str, int]:
    """Return the bytes of each body that a page has loaded, as the browser counts them.

    Asked of the page, since what a driver hears of a request may come after the page is there.
    """
    sizes: dict[str, int] = page.evaluate(LOADED)
    return sizes


LOADED = """() => Object.fromEntries(
    ['navigation', 'resource'].flatMap(type => performance.getEntriesByType(type))
        .map(entry => [entry.name, entry.encodedBodySize])
)"""
