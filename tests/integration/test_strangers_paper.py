"""SECURITY.md: every test that it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def test_every_test_that_the_paper_names_is_there() -> None:
    named = set(NAMED.findall((ROOT / "SECURITY.md").read_text()))
    assert len(named) > 30
    there = {
        (path.name, name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert named - there == set()
