"""The page of an account: its balance and its postings, walked both ways."""

import re

import pytest

from cluster.database import Pool
from tests.integration.builders import Web, execute, query
from tests.integration.looking import links, seen


def numbers(page: str) -> list[int]:
    """Return the numbers of the postings that a page shows."""
    return [int(each) for each in re.findall(r'<tr data-key="(\d+)"', page)]


def test_the_balance_is_told_with_its_postings(pool: Pool) -> None:
    """Newest first, each with the balance after it."""
    web = Web(pool)
    web.change(-250)
    web.change(1000)

    page = seen(web, "/ui/users/1")

    assert "<dd>10,750</dd>" in page
    cells = re.findall(r'<td class="number">([^<]+)</td>', page)
    assert [cells[place] for place in (0, 1, 3, 4)] == ["+1,000", "10,750", "-250", "9,750"]
    assert len(numbers(page)) == 3


def test_the_picture_goes_from_zero_to_the_highest(pool: Pool) -> None:
    """A step for each posting."""
    web = Web(pool)
    web.change(-5000)

    page = seen(web, "/ui/users/1")

    assert 'd="M0 0.0V0.0H500.0V80.0H1000.0"' in page
    assert "between 5,000 and 10,000" in page


def test_postings_are_walked_both_ways_while_more_come(pool: Pool) -> None:
    """Each comes once."""
    web = Web(pool)
    execute(
        pool,
        "INSERT INTO ledger (user_id, amount, balance) SELECT 1 + mod(n, 2), 1, n"
        " FROM generate_series(1, 240) AS n",
    )
    there = [
        row[0] for row in query(pool, "SELECT id FROM ledger WHERE user_id = 1 ORDER BY id DESC")
    ]
    page = seen(web, "/ui/users/1")
    down = numbers(page)
    while older := links(page, "next"):
        web.change(-1)
        page = seen(web, older[0])
        down += numbers(page)
    assert down == there

    up = numbers(page)
    while newer := links(page, "prev"):
        page = seen(web, newer[0])
        up = numbers(page) + up
    assert up[-len(there) :] == there
    assert len(up) == len(set(up)) == len(there) + 2


def test_an_account_without_postings_has_a_page(pool: Pool) -> None:
    """An id may be below zero, too."""
    execute(pool, "INSERT INTO users (id, balance) VALUES (-3, 0)")
    assert "<dd>0</dd>" in seen(Web(pool), "/ui/users/-3")


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "9" * 19, "%00", "²"])
def test_a_cursor_that_is_none_is_a_400(web: Web, text: str) -> None:
    """Links are made by pages."""
    assert web.get("/ui/users/1", query_string=f"before={text}").status == 400


@pytest.mark.parametrize("user", ["2", "x", "9" * 30])
def test_an_unknown_account_is_a_404(web: Web, user: str) -> None:
    """And so is what is no number."""
    assert web.get(f"/ui/users/{user}").status == 404


def test_the_tag_changes_with_the_account_alone(pool: Pool) -> None:
    """A poll costs little while nothing happens."""
    web = Web(pool)
    first = web.get("/ui/users/1").headers["etag"]
    assert web.get("/ui/users/1", headers={"If-None-Match": first}).status == 304
    web.change(-1)
    assert web.get("/ui/users/1", headers={"If-None-Match": first}).status == 200
