"""The documentation as a page."""

import html
import re
import shlex

from tests.integration.builders import Web
from tests.integration.documented import bodies, operations
from webapp.known_problems import KNOWN
from webapp.pages.docs import type_of


def test_the_page_has_every_operation_and_every_problem(web: Web) -> None:
    """Nothing of the document is left out."""
    page = web.get("/docs").body

    for path, _, operation in operations(web.get("/openapi.json").body):
        assert f'id="{operation["operationId"]}"' in page
        assert f"<code>{path}</code>" in page
    for name in KNOWN:
        assert f"<code>{name}</code>" in page


def test_the_curl_lines_are_what_a_shell_reads(web: Web) -> None:
    """Each example of a body can be pasted; it asks the host that the page came from."""
    page = web.get("/docs", host="10.1.2.3").body
    lines = [html.unescape(found) for found in re.findall(r"<pre>(curl .*?)</pre>", page)]
    words = [shlex.split(line) for line in lines]
    api = web.get("/openapi.json").body
    shown = sum(len(bodies(operation)) or 1 for _, _, operation in operations(api))

    assert len(lines) == shown
    assert sum("-d" in each for each in words) == sum(
        len(bodies(operation)) for _, _, operation in operations(api)
    )
    assert all(any(word.startswith("http://10.1.2.3/") for word in each) for each in words)


def test_types_are_told_in_words() -> None:
    """As a person would say them."""
    assert type_of({"type": "integer", "minimum": 1, "maximum": 9}) == "integer, 1 to 9"
    assert type_of({"type": "string", "maxLength": 9}) == "string, at most 9"
    assert type_of({"type": "integer", "minimum": 0}) == "integer, at least 0"
    assert type_of({"anyOf": [{"type": "string"}, {"type": "null"}]}) == "string or null"
    assert (
        type_of({"type": "array", "items": {"$ref": "#/components/schemas/Job"}}) == "list of Job"
    )
    assert type_of({}) == "any JSON"
