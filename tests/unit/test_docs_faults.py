"""docs/faults.md: its rows are complete, and the tests that it names exist."""

import re

from tests.chaos.plan import KINDS
from tests.system.gunicorns import ROOT

PAGE = (ROOT / "docs" / "faults.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if re.match(r"\| \d+ \|", line)
]


def test_every_row_is_there_and_whole() -> None:
    assert [int(row[0].strip("| ")) for row in ROWS] == list(range(1, 35))
    assert {len(row) for row in ROWS} == {5}


def test_every_named_test_exists() -> None:
    named = re.findall(r"`(\w+/test_\w+\.py)::(test_\w+)`", PAGE)
    assert len(named) > 60
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (path := ROOT / "tests" / file).exists() or f"def {test}(" not in path.read_text()
    ]
    assert missing == []


def test_every_named_command_exists() -> None:
    named = re.findall(r"`(benchmarks/\w+\.py)`", PAGE)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_kind_of_chaos_that_is_named_is_in_its_plan() -> None:
    named = {
        kind for found in re.findall(r"chaos \(([a-z ,]+)\)", PAGE) for kind in found.split(", ")
    }
    assert named <= KINDS.keys()
    assert KINDS.keys() - named <= {"kill children", "freeze worker briefly"}


def test_each_row_is_provoked_or_says_that_it_is_not() -> None:
    silent = [
        row[0] for row in ROWS if not re.search(r"::test_|not provoked|chaos|by hand", row[3])
    ]
    assert silent == []


def test_no_foreign_key_points_at_a_run() -> None:
    """An open insert that references a row would hide it from who claims."""
    schema = "".join(path.read_text() for path in sorted((ROOT / "migrations").glob("*.sql")))
    assert re.findall(r"(?i)\breferences\s+run\b", schema) == []
