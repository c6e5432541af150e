"""Bad paths and queries of tasks: each is refused as a problem that names it."""

import pytest

from cluster.database import Pool
from tests.integration.builders import TaskWeb

JSON = {"Content-Type": "application/json"}
ID = "5d2ab7c6-5f0e-4f5e-9d8e-0f6f8f0c2a11"


@pytest.fixture(scope="module")
def web(shared: Pool) -> TaskWeb:
    """Return the application over a database that the tests of this module leave as it is."""
    return TaskWeb(shared)


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        *(("status", text) for text in ("", "0", "5", "-1", "01", "1.0", "new", "NEW ", "1,2")),
        *(("status", text) for text in ("\x00", "٣", "1;drop table run", "9" * 4000)),
        *(("limit", text) for text in ("", "0", "-1", "1001", "x", "1.5", "+5", "1_0", "٣")),
        *(("limit", text) for text in ("0000000010", "9" * 4000, "1e2", "10;drop table run")),
        *(("kind", text) for text in ("", "\x00", "Work", "1work", "work ", "w" * 101, "a,b")),
        *(("cursor", text) for text in ("", "x", "1", "\x00", ";drop table run", f"{{{ID}}}")),
        *(("cursor", text) for text in (f"{ID}x", ID.replace("-", ""), "x" * 4000)),
    ],
    ids=lambda given: ascii(given)[:40],
)
def test_a_wrong_parameter_is_a_400_that_names_it(web: TaskWeb, parameter: str, text: str) -> None:
    answer = web.get("/tasks", params={parameter: text}, params_csv=False)
    assert (answer.status, answer.problem) == (400, "invalid-parameter")
    assert answer.body["detail"].startswith(parameter)


@pytest.mark.parametrize("parameter", ["status=1&status=2", "limit=1&limit=1", "cursor=x&cursor="])
def test_a_parameter_that_comes_twice_is_a_400(web: TaskWeb, parameter: str) -> None:
    assert web.get("/tasks", query_string=parameter).problem == "invalid-parameter"


@pytest.mark.parametrize("part", ["", "/retry", "/attempts", "/heartbeat", "/complete", "/fail"])
@pytest.mark.parametrize(
    "given_id",
    [
        *("x", "1", "0", "%00", "%ff%fe", "%ed%a0%80", f"{{{ID}}}", f"urn:uuid:{ID}"),
        *(ID.replace("-", ""), f"{ID}0", f" {ID}", f"{ID}%00", "a" * 4000),
        *(f"{ID[:-1]}g", "..%2f..%2fetc", "ＴＩＣＫ", f"{ID[:-1]}٣"),
    ],
    ids=lambda given: ascii(given)[:40],
)
def test_an_id_that_is_none_is_a_404(web: TaskWeb, part: str, given_id: str) -> None:
    method = "GET" if part in ("", "/attempts") else "POST"
    answer = web.ask(method, f"/tasks/{given_id}{part}", body=b"{}", headers=JSON)
    assert (answer.status, answer.problem) == (404, "not-found")
    if not part:
        assert web.ask("DELETE", f"/tasks/{given_id}").status == 404
