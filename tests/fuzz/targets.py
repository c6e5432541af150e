"""What is fuzzed: our own readers of what strangers send, each with what must hold for any bytes.

A target takes bytes and returns; whatever it raises is a fault of ours. Exceptions that a reader
documents are its answers, so they are caught here, next to the call.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import available_timezones

import falcon
import falcon.testing
import orjson
from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field

from cluster import schedule
from cluster.database import DatabaseUrlError, conninfo
from cluster.job import Catalogue
from webapp import balance, bodies, idempotency, new_tasks, parameters
from webapp.arrival import Arrival
from webapp.pages import account, firings, paging, tasks
from webapp.problems import Problem

MOST_SECONDS = 1.0
"""Of a processor, for one input: more is a hang."""

_ZONES = sorted(available_timezones() - {"localtime", "posixrules"})
_MOMENTS = 4_000_000_000  # seconds from 1970 on: to the year 2096


class TooSlowError(Exception):
    """An input took more than a second of the processor."""


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Hold one call to `MOST_SECONDS`.

    Raises:
        TooSlowError: it took longer.
    """
    begun = time.thread_time()
    yield
    if (took := time.thread_time() - begun) > MOST_SECONDS:
        raise TooSlowError(f"{what} took {took:.1f} s")


def schedules(data: bytes) -> None:
    """Any line is refused, or fires later and later; the pages can tell its firings.

    The first bytes choose zone and moment; the rest is the line.
    """
    zone = _ZONES[int.from_bytes(data[:2], "big") % len(_ZONES)]
    moment = datetime.fromtimestamp(int.from_bytes(data[2:6], "big") % _MOMENTS, UTC)
    text = data[6:].decode(errors="replace")
    with timed("to read a schedule"), suppress(schedule.ScheduleError):
        rule = schedule.parse(text, zone)
        with timed("three firings"):
            found = schedule.preview(rule, moment, 3)
        assert [moment, *found] == sorted({moment, *found})
        assert {each.tzinfo for each in found} == {UTC}
        with timed("what has passed in a day"):
            later = schedule.newest(rule, moment, moment + timedelta(days=1), 100)
            passed, _ = schedule.passed(rule, later, moment + timedelta(days=1), 100)
        assert len(passed) <= 100
        with timed("the page of the next firings"):
            firings.upcoming(text, zone, moment, 3)


def durations(data: bytes) -> None:
    """Any text is refused or a number of seconds; so is any zone, which is one of the database."""
    text = data.decode(errors="replace")
    with timed("a duration"):
        with suppress(schedule.ScheduleError):
            assert schedule.seconds(text) >= 0
        with suppress(schedule.ScheduleError):
            schedule.parse(f"@every {text}")
        with suppress(schedule.ScheduleError):
            schedule.parse("30 2 * * *", text)
            assert text in _ZONES


def _of_all_sorts(
    number: int,
    share: Annotated[float, Field(ge=0, le=1)] = 0.5,
    text: Annotated[str, Field(max_length=20, pattern=r"^[a-z ]*$")] = "",
    moment: datetime | None = None,
    key: UUID | None = None,
    many: list[dict[str, bool | None]] | None = None,
    either: int | str | None = None,
) -> None:
    """Take arguments of all sorts."""


_CATALOGUE = Catalogue()
_CATALOGUE.task(name="sorts")(_of_all_sorts)


def bodies_of_requests(data: bytes) -> None:
    """Any body is refused with a problem, or checked; and a batch is what its tasks are alone."""
    request = _request(data)
    with timed("a body"):
        with suppress(Problem):
            bodies.read(request, balance.Change)
        with suppress(Problem):
            task = bodies.read(_request(data), new_tasks.NewTask)
            orjson.dumps(new_tasks.asked(_CATALOGUE, task)["args"])
        with suppress(Problem):
            _compare(bodies.parse(_request(data), 8 * 1024 * 1024))
        with suppress(ValueError, Problem):
            bodies.value(data.decode(errors="replace"))


def _compare(asked: Any) -> None:
    """Check a batch both ways; the fast one may refuse what the other judges, and nothing else."""
    rows = asked if isinstance(asked, list) else [asked]
    if not rows:
        return
    fast: list[dict[str, Any]] | None = None
    with suppress(Problem, ValueError, TypeError):
        fast = new_tasks._together(_CATALOGUE, orjson.loads(orjson.dumps(rows)))  # noqa: SLF001
    slow: list[dict[str, Any]] | None = None
    with suppress(Problem):
        slow = new_tasks._one_by_one(_CATALOGUE, rows)  # noqa: SLF001
    if fast is not None:
        assert slow is not None, "taken together and refused alone"
        assert [_plain(row) for row in fast] == [_plain(row) for row in slow]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as it is stored, without what is not given."""
    there = {name: value for name, value in row.items() if value is not None}
    return {"kind": new_tasks.DEFAULT_KIND, "args": {}, **there}


def arguments(data: bytes) -> None:
    """Any JSON is refused by the function's annotations, or can be given to it."""
    known = new_tasks.known(_CATALOGUE, "sorts").arguments
    with timed("arguments"), suppress(ValueError):
        _of_all_sorts(**known.read(data))
        known.check(b"[" + data + b"]")


def queries(data: bytes) -> None:
    """Any query and header is refused with a problem, or read as what the database can take."""
    text = data.decode("latin-1")
    environ = falcon.testing.create_environ(path="/")
    environ["QUERY_STRING"] = environ["HTTP_IDEMPOTENCY_KEY"] = text
    request = falcon.Request(environ)
    with timed("a query"):
        with suppress(Problem):
            parameters.cursor(request)
        with suppress(Problem):
            assert 1 <= parameters.count(request, "limit", 10, 100) <= 100
        with suppress(Problem):
            assert (idempotency.key(request) or "").isascii()
        for parse in (parameters.moment_and_run, tasks._place, account._posting, parameters.uuid):  # noqa: SLF001
            with suppress(Problem):
                paging.read(request, parse, lambda *_: [], str, {})
        numbers = balance.UserId().convert(text)
        assert numbers is None or abs(numbers) <= 2**63


def addresses(data: bytes) -> None:
    """Any text is refused as a database's URL, or stays one when our settings are added."""
    text = data.decode(errors="surrogateescape")
    with timed("an address"), suppress(DatabaseUrlError):
        told = conninfo_to_dict(conninfo(text, "fuzz"))
        assert "statement_timeout" in str(told["options"])


class _Silent:
    """A client that sends no more: a thread that asked it would wait."""

    def recv(self, _size: int) -> bytes:
        """Say that somebody waits."""
        raise TooSlowError("a thread would wait for a request that is said to be whole")


def requests(data: bytes) -> None:
    """However a request is cut, it arrives in the same way; and a whole one is never waited for.

    The first byte says how it is cut.
    """
    if not data:
        return
    size, sent = data[0] + 1, data[1:]
    pieces = [sent[start : start + size] for start in range(0, len(sent), size)]
    cut, at_once = Arrival(), Arrival()
    with timed("to see a request arrive"):
        ready = any(cut.add(piece) or cut.refusal for piece in pieces)
        ready_at_once = at_once.add(sent) or bool(at_once.refusal)
    if ready_at_once and not ready:
        raise AssertionError("ready at once, and never in pieces")
    if ready and not cut.refusal:
        with timed("to parse it"), suppress(ParseException, StopIteration):
            _parse(bytes(cut.received), with_body=cut.whole)


_CONFIG = Config()


def _parse(received: bytes, *, with_body: bool) -> None:
    """Read a request, and its body, as gunicorn does, from a client that sends no more."""
    parser = RequestParser(_CONFIG, _Silent(), ("127.0.0.1", 1))
    parser.unreader.unread(received)
    request = next(parser)
    if with_body:
        request.body.read()


def _request(body: bytes) -> falcon.Request:
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    environ = falcon.testing.create_environ(method="POST", headers=headers)
    environ["wsgi.input"] = falcon.testing.create_environ(body=body)["wsgi.input"]
    return falcon.Request(environ)


TARGETS: dict[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]] = {
    "schedules": (
        schedules,
        tuple(
            zone + b"\x6a\x00\x00\x00" + line
            for zone in (b"\x00\x00", b"\x01\x90")
            for line in (
                *(b"*/5 * * * *", b"30 2 * * *", b"0 0 29 2 *", b"0 0 L * *", b"* * * * * */7"),
                *(b"@daily", b"@every 1h30m", b"0 0 * * MON#2", b"0 12 1-7/2 JAN-MAR 5,6"),
                *(b"59 23 31 12 sun", b"15,45 1-3 * * *", b"0 0 * * L5", b"@every 1.5s"),
            )
        ),
    ),
    "durations": (durations, (b"90s", b"1h30m", b"1.5d", b"2w", b"Europe/Berlin", b"../UTC")),
    "bodies": (
        bodies_of_requests,
        (
            b'{"amount": -2}',
            b'{"name": "a", "kind": "sorts", "args": {"number": 1}}',
            (
                b'[{"name": "a", "kind": "sorts", "args": {"number": 1, "share": 0.5},'
                b' "run_at": "2027-01-31T12:00:00Z", "deadline": "2027-02-01T00:00:00+01:00",'
                b' "priority": -3, "max_retries": 2, "idempotency_key": "k"}]'
            ),
            b'{"name": "a", "processing_time": 5, "idempotency_key": null, "run_at": null}',
            b'{"tasks": []}',
        ),
    ),
    "arguments": (
        arguments,
        (
            b'{"number": 1, "share": 1, "text": "a b", "many": [{"x": true, "y": null}]}',
            (
                b'{"number": -9223372036854775808, "moment": "2027-01-31T12:00:00Z", "either": "1",'
                b' "key": "01a20114-451f-7c51-bffa-a9773395b7cf"}'
            ),
        ),
    ),
    "queries": (
        queries,
        (
            b"cursor=01a20114-451f-7c51-bffa-a9773395b7cf&limit=5",
            b"before=2027-01-31T12:00:00%2B00:00_01a20114-451f-7c51-bffa-a9773395b7cf",
            b"after=01a20114-451f-7c51-bffa-a9773395b7cf_name&limit=0",
            b"before=17",
            b"-9223372036854775808",
        ),
    ),
    "addresses": (
        addresses,
        (
            b"postgresql://user:password@h1:1,h2:2/name?sslmode=require&options=-c%20a%3Db",
            b"host=/run port=5432 dbname='a b' options='-c x=y'",
            b"postgresql:///postgres?host=%2Ftmp&user=postgres",
            b"postgresql://u:\xff@h/db",
        ),
    ),
    "requests": (
        requests,
        (
            b"\x05POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET",
            (
                b"\x01POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
            ),
            b"\xffGET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
            b"\x03GET /a?b=c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        ),
    ),
}
"""By name: the target, and inputs to begin with."""

WORDS: dict[str, str] = {
    "schedules": "@every @daily @hourly @yearly */ # L W ? JAN DEC MON SUN 0 59 23 31 - , /",
    "durations": "s m h d w . Etc/ GMT+1 Europe/",
    "bodies": "amount name kind args number share run_at deadline priority max_retries tasks "
    "processing_time idempotency_key null true 1e400 NaN \\\\u0000 \\\\ud800 sorts processing",
    "arguments": "number share text moment key many either null true 1e400 NaN \\\\ud800",
    "queries": "cursor= limit= before= after= %00 %ff _ & T00:00:00 Z",
    "addresses": "postgresql:// host= port= options= password= dbname= %00 ? & , @ /",
    "requests": "Content-Length: Transfer-Encoding: chunked Expect: 100-continue HTTP/1.1 "
    "\\x0d\\x0a \\x0d\\x0a\\x0d\\x0a GET POST 0 ; , Host: Connection:",
}
"""By target: words that its inputs are made of."""


def dictionary(name: str) -> str:
    """Return the words of a target in libFuzzer's form."""
    return "".join(f'"{re.sub(chr(34), "", word)}"\n' for word in WORDS[name].split())
