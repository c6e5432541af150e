"""What holds for every page: nobody is shut out, nothing is loaded from elsewhere."""

import re

import falcon.inspect
import pytest
from playwright.sync_api import Page

from cluster.database import Pool
from tests.browser.own import DEVICES, Fit, Visit
from tests.browser.places import ADDRESSES, PAGES, file_name, stock
from tests.integration.builders import Web
from tests.system.gunicorns import Instance
from webapp import app

NO_PAGES = {"/openapi.json", "/live", "/metrics"}
"""For programs: the document of the API, what our script asks for, and Prometheus."""


def test_no_page_is_forgotten(pool: Pool) -> None:
    """What joins the route table and is no part of the API is looked at here, or this one fails."""
    routes = falcon.inspect.inspect_compiled_router(app.routes(pool)._router)  # noqa: SLF001
    found = {
        route.path
        for route in routes
        if any(method.method == "GET" and not method.internal for method in route.methods)
    }
    document = Web(pool).get("/openapi.json").body["paths"]
    shapes = {shape(path) for path, methods in document.items() if "get" in methods}

    assert {path for path in found if shape(path) not in shapes} - NO_PAGES == set(PAGES)


def shape(path: str) -> str:
    """Return a route without the names of its parameters."""
    return re.sub(r"{[^}]*}", "{}", path)


@pytest.fixture(scope="module")
def stocked(service: Instance) -> dict[str, str]:
    """What fills in the addresses, after everything has happened that they show."""
    return stock(service)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("address", ADDRESSES)
def test_page_is_fit_for_everybody(
    address: str, device: str, stocked: dict[str, str], visit: Visit, fit: Fit
) -> None:
    """On a desktop and a phone, light and dark: axe finds nothing, and nothing sticks out."""
    page = visit(**DEVICES[device])
    page.goto(address.format(**stocked))

    fit(page, f"{file_name(address)}-{device}")


@pytest.mark.parametrize("address", ADDRESSES)
def test_page_is_whole_without_a_script(
    address: str, stocked: dict[str, str], visit: Visit
) -> None:
    """What a page says it says before any script has run."""
    scripted, plain = visit(), visit(java_script_enabled=False)
    for page in (scripted, plain):
        page.goto(address.format(**stocked))

    assert plain.get_by_role("heading", level=1).count() == 1
    assert plain.get_by_role("heading").all_inner_texts() == (
        scripted.get_by_role("heading").all_inner_texts()
    )


_PARTS = 8
"""Of a field for a date and a time; each takes a Tab of its own."""


@pytest.mark.parametrize("address", ADDRESSES)
def test_page_can_be_used_with_the_keyboard_alone(
    address: str, stocked: dict[str, str], page: Page
) -> None:
    """Tab reaches everything that can be pressed, shows where it is, and comes back."""
    page.goto(address.format(**stocked))
    wanted = page.evaluate(NUMBERED)
    reached = set()
    for _ in range(wanted + 2 + _PARTS):
        page.keyboard.press("Tab")
        place = page.evaluate(FOCUSED)
        if place is not None:
            assert place["seen"], f"no sign of the focus on {place['html']}"
            reached.add(place["number"])

    assert reached == set(range(wanted))


NUMBERED = """() => {
    const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary')]
        .filter(each => each.checkVisibility() && !each.disabled && each.tabIndex >= 0);
    all.forEach((each, number) => { each.testNumber = number; });
    return all.length;
}"""
FOCUSED = """() => {
    const each = document.activeElement;
    if (!each || each.testNumber === undefined) return null;
    const style = getComputedStyle(each);
    return {
        number: each.testNumber,
        html: each.outerHTML.slice(0, 200),
        seen: style.outlineStyle !== 'none' || style.boxShadow !== 'none',
    };
}"""
