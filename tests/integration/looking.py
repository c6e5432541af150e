"""Looking at pages: their text, and where their links lead."""

import re
from html import unescape
from typing import Any

from tests.integration.builders import Web

HOSTILE = "<script>alert('&amp;')</script>"
"""A name that is no name."""


def seen(web: Web, path: str, **how: Any) -> str:
    """Return a page as its HTML; checks that it is there."""
    answer = web.get(path, **how)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    return str(answer.body)


def links(page: str, rel: str) -> list[str]:
    """Return where the links of a list lead: `next` to what is older, `prev` to what is newer."""
    return [unescape(each) for each in re.findall(rf'href="([^"]+)" rel="{rel}"', page)]


def listed(page: str) -> list[str]:
    """Return the ids of the runs that the rows of a page's table lead to, in their order."""
    return re.findall(r'<th scope="row"[^>]*>\s*<a [^>]*href="/ui/runs/([^"]+)"', page)


def forms(page: str) -> list[str]:
    """Return the paths that the forms of a page post to."""
    return re.findall(r'method="post" action="([^"]+)"', page)


def asked_first(page: str) -> list[str]:
    """Return the paths of those forms that open after a question alone."""
    questions = re.findall(r'<details class="ask".*?</details>', page, re.DOTALL)
    return [path for each in questions for path in forms(each)]
