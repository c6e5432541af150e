"""The page of all tasks: found by status, kind, name or id, and walked both ways."""

from html import unescape
from itertools import product
from uuid import uuid4

import pytest

from cluster.database import Pool
from tests.integration.builders import (
    TaskWeb,
    a_kind,
    a_worker,
    asked,
    end,
    execute,
    finished,
    look,
    query,
    taken,
)
from tests.integration.looking import HOSTILE, links, listed, seen


@pytest.fixture
def web(pool: Pool) -> TaskWeb:
    """Return the application over a catalogue with the kinds `other` and `work`."""
    return TaskWeb(pool, a_kind(), a_kind(name="other"))


def walk(web: TaskWeb, path: str, rel: str) -> list[list[str]]:
    """Return the ids of each page from one on, by its links."""
    found = []
    while True:
        page = seen(web, path)
        found.append(listed(page))
        further = links(page, rel)
        if not further:
            return found
        path = further[0]


def test_tasks_are_listed_newest_first_with_what_became_of_them(web: TaskWeb, pool: Pool) -> None:
    """Each leads to its page."""
    made = [finished(pool), finished(pool, "failed", error="no such order"), *asked(pool, 2)]
    taken(pool, free=1)

    page = seen(web, "/ui/tasks")

    assert listed(page) == [str(task) for task in reversed(made)]
    for word in ("completed", "failed", "waiting", "running", "no such order"):
        assert word in page


def test_every_filter_finds_what_it_says_and_nothing_else(web: TaskWeb, pool: Pool) -> None:
    """Each combination of status, kind and name, against the same filter in Python."""
    worker = a_worker(pool, names=["work", "other"])
    for kind, name in product(["work", "other"], ["invoice-1", "invoice-2", "in", "report"]):
        for _ in range(4):
            asked(pool, kind=kind, name=name)
    claims = look(pool, worker, names=["work", "other"], free=24).claims
    for place, claim in enumerate(claims):
        if place % 3:
            kind_of = a_kind(name=claim.job)
            end(pool, claim, "failed" if place % 3 == 1 else "completed", kind_of, final=True)
    rows = query(
        pool,
        """
        SELECT id::text, job, name, CASE WHEN token IS NULL THEN 1 ELSE 2 END FROM run
        UNION ALL SELECT run_id::text, job, name, CASE outcome WHEN 'completed' THEN 3 ELSE 4 END
        FROM history WHERE closing
        """,
    )
    assert len(rows) == 32

    for status, kind, text in product(
        ["", "1", "2", "3", "4"],
        ["", "work", "other", "unknown"],
        ["", "in", "invoice-1", "invoice*", "in*", "x*", "INVOICE-1", "*"],
    ):
        page = seen(web, "/ui/tasks", params={"status": status, "kind": kind, "q": text})
        matching = [
            (row[2] if text else "", row[0])
            for row in rows
            if status in ("", str(row[3]))
            and kind in ("", row[1])
            and (row[2] == text or not text or (text[-1] == "*" and row[2].startswith(text[:-1])))
        ]
        assert listed(page) == [task for _, task in sorted(matching, reverse=True)]


@pytest.mark.parametrize("text", ["", "invoice*", "invoice-7"])
def test_pages_are_complete_both_ways_while_tasks_move(web: TaskWeb, pool: Pool, text: str) -> None:
    """Between two pages tasks start, end and come back, and new ones are asked for."""
    for place in range(120):
        asked(pool, name="invoice-7" if text == "invoice-7" else f"invoice-{place % 9}")
    there = {str(row[0]) for row in query(pool, "SELECT id FROM run")}
    worker = a_worker(pool, names=["work"])
    path = f"/ui/tasks?q={text}"

    def move() -> None:
        said = ["completed", "failed", "interrupted"]
        for place, claim in enumerate(look(pool, worker, names=["work"], free=9).claims):
            end(pool, claim, said[place % 3], final=True)
        asked(pool, name="invoice-7")

    down: list[str] = []
    page = seen(web, path)
    while True:
        down += listed(page)
        move()
        if not (older := links(page, "next")):
            break
        page = seen(web, older[0])
    assert len(down) == len(set(down))
    assert there <= set(down)

    up = listed(page)
    while newer := links(page, "prev"):
        move()
        page = seen(web, newer[0])
        up = listed(page) + up
    assert len(up) == len(set(up))
    assert there <= set(up)


def test_names_are_searched_letter_by_letter(web: TaskWeb, pool: Pool) -> None:
    """`_` and `%` stand for themselves, and any letters of any language can be searched."""
    names = ["a_b", "a%b", "axb", "größe 1", "größe 2", "日本", "a*b", "𝄞 x"]
    made = {name: str(asked(pool, name=name)[0]) for name in names}
    for text, found in (
        ("a_b", ["a_b"]),
        ("a%*", ["a%b"]),
        ("gr*", ["größe 2", "größe 1"]),
        ("日*", ["日本"]),
        ("a*b", ["a*b"]),
        ("𝄞*", ["𝄞 x"]),
    ):
        page = seen(web, "/ui/tasks", params={"q": text})
        assert listed(page) == [made[name] for name in found]


def test_an_id_leads_straight_to_its_task(web: TaskWeb, pool: Pool) -> None:
    """Whatever else is filtered; and one that nobody has is a 404."""
    (task,) = asked(pool)
    answer = web.get("/ui/tasks", params={"q": f" {str(task).upper()} ", "status": "4"})
    assert (answer.status, answer.headers["location"]) == (303, f"/ui/runs/{task}")
    assert web.get("/ui/tasks", params={"q": str(uuid4())}).status == 404


def test_links_keep_the_filter(web: TaskWeb, pool: Pool) -> None:
    """The next page is of the same tasks."""
    asked(pool, 60, name="ä & b")
    asked(pool, 60, name="c")
    pages = walk(web, "/ui/tasks?status=NEW&kind=work&q=%C3%A4+%26+b", "next")
    assert [len(page) for page in pages] == [50, 10]


def test_what_is_typed_comes_back_as_text(web: TaskWeb, pool: Pool) -> None:
    """In the fields, and in the names of tasks."""
    asked(pool, name=HOSTILE)

    page = seen(web, "/ui/tasks", params={"q": HOSTILE, "kind": HOSTILE})
    assert HOSTILE not in page
    assert unescape(page).count(HOSTILE) == 2

    assert HOSTILE not in seen(web, "/ui/tasks")
    assert HOSTILE in unescape(seen(web, "/ui/tasks"))


@pytest.mark.parametrize(
    "query_string",
    [
        "before=1",
        "after=%00",
        "before=00000000-0000-0000-0000-000000000000%00",
        "status=5",
        "status=new",
        "kind=%00",
        "q=%00",
        "q=" + "x" * 202,
        "q=a&q=b",
        "before=" + "-" * 36,
    ],
)
def test_what_makes_no_sense_is_a_400(web: TaskWeb, query_string: str) -> None:
    """Nothing of it reaches the database."""
    assert web.get("/ui/tasks", query_string=query_string).status == 400


def test_firings_are_no_tasks(web: TaskWeb, pool: Pool) -> None:
    """They stand with their job."""
    execute(
        pool,
        "INSERT INTO run (job, due_at, not_before) VALUES ('tick', now(), now() + interval '1 h')",
    )
    assert listed(seen(web, "/ui/tasks")) == []
