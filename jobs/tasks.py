"""Kinds of tasks: the one that waits, and three that work on what they are given."""

import csv
import io
import re
from collections import Counter
from typing import Annotated, Any

import orjson
from pydantic import Field

from cluster import Discard, Run, task
from jobs.sample import query

_DAY = 86400
_UNLUCKY = 13
_ROWS = 100
"""Rows or lines of one step: between two steps a task can stop, and its progress is told."""
_POSTINGS = 1000


@task(name="processing", timeout="25h")
def processing(run: Run, processing_time: Annotated[int, Field(ge=0, le=_DAY)]) -> None:
    """Wait for `processing_time` seconds; 13 ends in an error."""
    for second in range(processing_time):
        run.progress(second / processing_time)
        run.wait(1)
    if processing_time == _UNLUCKY:
        raise Discard("13 seconds are unlucky: this task fails by design")


Text = Annotated[str, Field(min_length=1, max_length=60_000)]


@task(name="import-csv", retry_delay="2s")
def import_csv(
    run: Run, text: Text, delimiter: Annotated[str, Field(pattern=r"^[,;|\t]$")] = ","
) -> dict[str, Any]:
    """Import CSV text with a header line into the table `imported`, a row a line."""
    lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, names = list(lines), list(lines.fieldnames or ())
    for row in rows:
        if None in row or None in row.values():
            raise Discard(f"a line has not the {len(names)} fields of the header: {row}")
    for start in range(0, len(rows), _ROWS):
        # By task and line, so that an attempt which follows a lost one writes nothing twice.
        batch = [
            {"line": start + place + 1, "fields": row}
            for place, row in enumerate(rows[start : start + _ROWS])
        ]
        query(
            run,
            """
            INSERT INTO imported (task_id, line, fields)
            SELECT %(task)s, line, fields
            FROM jsonb_to_recordset(%(lines)s) AS l (line integer, fields jsonb)
            ON CONFLICT (task_id, line) DO UPDATE SET fields = excluded.fields
            RETURNING line
            """,
            {"task": run.id, "lines": orjson.dumps(batch).decode()},
        )
        run.progress((start + len(batch)) / len(rows))
    return {"rows": len(rows), "fields": names}


@task(name="report-ledger", max_running=2)
def report_ledger(run: Run, user_id: Annotated[int, Field(ge=1, lt=2**63)] = 1) -> dict[str, Any]:
    """Sum up a user's postings, a thousand at a step."""
    ((newest, balance),) = query(
        run,
        """
        SELECT (SELECT max(id) FROM ledger WHERE user_id = %(user)s),
            (SELECT balance FROM users WHERE id = %(user)s)
        """,
        {"user": user_id},
    )
    if balance is None:
        raise Discard(f"there is no user {user_id}")
    totals: Counter[str] = Counter()
    last = 0
    while rows := query(
        run,
        "SELECT id, amount FROM ledger WHERE user_id = %(user)s AND id > %(last)s"
        " AND id <= %(newest)s ORDER BY id LIMIT %(limit)s",
        {"user": user_id, "last": last, "newest": newest, "limit": _POSTINGS},
    ):
        for number, amount in rows:
            last = number
            totals["postings"] += 1
            totals["paid_in" if amount > 0 else "paid_out"] += amount
        run.progress(last / newest)
    return {
        "user_id": user_id,
        "postings": totals["postings"],
        "paid_in": totals["paid_in"],
        "paid_out": totals["paid_out"],
        "total": totals["paid_in"] + totals["paid_out"],
    }


@task(name="count-words")
def count_words(
    run: Run, text: Text, top: Annotated[int, Field(ge=1, le=100)] = 10
) -> dict[str, Any]:
    """Count the words of a text; needs no database, so that any remote worker can do it."""
    lines = text.splitlines() or [text]
    words: Counter[str] = Counter()
    for start in range(0, len(lines), _ROWS):
        for line in lines[start : start + _ROWS]:
            words.update(re.findall(r"\w+", line.casefold()))
        run.progress(min(start + _ROWS, len(lines)) / len(lines))
    return {"words": words.total(), "distinct": len(words), "most_common": words.most_common(top)}
