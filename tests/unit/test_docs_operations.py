"""docs/operations.md says what the code says: connections, statements, log lines."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from cluster import boot
from cluster.settings import Settings
from cluster.worker import POLL_SECONDS
from tests.system.gunicorns import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def sources() -> Iterator[tuple[Path, ast.Module]]:
    """Yield the modules of the engine, of the web, and of the sample jobs."""
    for package in ("cluster", "webapp", "jobs"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def calls() -> Iterator[ast.Call]:
    """Yield every call in them."""
    for _, tree in sources():
        yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def table(heading: str) -> list[list[str]]:
    """Return the rows of the first table after some words, without its head."""
    lines = PAGE[PAGE.index(heading) :].splitlines()
    begun = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[begun + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def events() -> set[str]:
    """Return what is logged, word for word."""
    return {
        call.args[0].value
        for call in calls()
        if call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
        and (
            (isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS)
            or (isinstance(call.func, ast.Name) and call.func.id == "say")
        )
    }


def test_every_log_line_is_explained_and_every_explained_one_exists() -> None:
    explained = [row[0].strip("`") for row in table("## What a log line means")]
    assert sorted(explained) == sorted(set(explained))
    assert set(explained) == events()


def test_a_dozen_well_known_lines_are_found() -> None:
    """The search itself finds what it shall, however the loggers are called."""
    assert {
        "joined",
        "run ended",
        "migrated",
        "login refused",
        "Lost a connection",
        "found",
    } <= events()


def test_connections_are_those_of_the_pools() -> None:
    told = {row[0].strip("`"): (int(row[1]), int(row[2])) for row in table("**Connections.**")}
    assert told == pools()
    assert sum(most for most, _ in told.values()) == boot.CONNECTIONS
    assert f"So {boot.CONNECTIONS} × workers at most" in PAGE
    assert f"{sum(kept for _, kept in told.values())} × workers while nothing happens" in PAGE
    assert f"Five workers want {5 * boot.CONNECTIONS}," in PAGE
    assert Settings.model_fields["workers"].default == 5


def pools() -> dict[str, tuple[int, int]]:
    """Return the pools of a worker: their connections at most, and when idle."""
    found = {}
    for path, tree in sources():
        if path.name not in ("boot.py", "app.py"):
            continue
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "database.pool":
                given = {word.arg: word.value for word in call.keywords}
                sizes = [_number(given[key]) if key in given else 0 for key in ("size", "spare")]
                found[ast.literal_eval(call.args[1])] = (sizes[0], sizes[1])
    return found


def _number(value: ast.expr) -> int:
    if isinstance(value, ast.Name):
        return int(getattr(boot, value.id))
    return int(ast.literal_eval(value))


def test_the_calculated_table_follows_its_formula() -> None:
    """A look takes 0.4 + 0.009 J + 0.0002 W ms, as measured; a beat what the page says."""
    beat_ms = float(re.findall(r"a beat about ([\d.]+) ms", PAGE)[0])
    lease = Settings.model_fields["lease_seconds"].default
    for jobs, workers, statements, processors in table("<!-- calculated"):
        count = int(workers.replace(",", ""))
        look_ms = 0.4 + 0.009 * int(jobs.replace(",", "")) + 0.0002 * count
        spent = count * (look_ms / POLL_SECONDS + beat_ms * 3 / lease) / 1000
        assert statements == f"{count * (1 / POLL_SECONDS + 3 / lease):,.0f}"
        assert processors == f"{spent:.2f}"
