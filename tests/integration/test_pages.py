"""Pages: made from what the database says, and harmless whatever it says."""

from cluster.database import Pool
from tests.integration.builders import Web, claimed, execute


def test_live_page_names_every_job(web: Web) -> None:
    """Somebody who opens the address sees the jobs."""
    answer = web.get("/")

    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "tick" in answer.body


def test_nothing_in_a_page_is_a_script(pool: Pool) -> None:
    """What workers are called is text; and the browser is told to run nothing but our file."""
    claimed(pool)
    execute(pool, "UPDATE run SET worker = '<script>alert(1)</script>'")

    answer = Web(pool).get("/")

    assert "<script>alert" not in answer.body
    assert "&lt;script&gt;alert" in answer.body
    assert "script-src 'self';" in answer.headers["content-security-policy"]
