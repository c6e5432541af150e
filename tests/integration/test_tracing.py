"""Tracing: spans of request, enqueue and run, as a receiver of OTLP over HTTP gets them."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue

import falcon.testing
import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from cluster import tracing
from cluster.database import Pool
from cluster.store import jobs
from tests.integration.builders import a_job, a_kind, asked, claimed, query, taken, value
from webapp.app import routes

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SOMEBODYS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Receiver(ThreadingHTTPServer):
    """Takes what an exporter sends, in this process."""

    def __init__(self) -> None:
        self.taken: SimpleQueue[Span] = SimpleQueue()

        class Take(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805 - the library's names
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                sent = ExportTraceServiceRequest.FromString(body)
                for resource in sent.resource_spans:
                    for scope in resource.scope_spans:
                        for span in scope.spans:
                            self.taken.put(span)
                handler.send_response(200)
                handler.send_header("Content-Length", "0")
                handler.end_headers()

            def log_message(handler, *_: object) -> None:  # noqa: N805
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Take)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1/traces"

    def spans(self) -> dict[str, Span]:
        """Return what has come, by name; a span is sent before its block is left."""
        found = [self.taken.get() for _ in range(self.taken.qsize())]
        assert len({span.name for span in found}) == len(found)
        return {span.name: span for span in found}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Return a receiver that gets each span as it ends."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv(ENDPOINT, server.url)
        provider = TracerProvider(resource=Resource.create({}), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=server.url)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
        tracing._made.cache_clear()  # noqa: SLF001 - as if it were a new process
        yield server
        tracing._made.cache_clear()  # noqa: SLF001
        provider.shutdown()
        server.shutdown()
        thread.join()


def told(span: Span) -> dict[str, str | int]:
    """Return the attributes of a span."""
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_without_an_endpoint_nothing_of_it_is_loaded() -> None:
    """Neither by the application nor by the engine."""
    code = (
        "import sys, webapp.app, cluster.boot, cluster.tracing;"
        "from cluster.database import pool;"
        "webapp.app.routes(pool('', 'none', size=1));"
        "assert not cluster.tracing.configured();"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": "/usr/bin:/bin"})


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({ENDPOINT: ""}, False),
        ({ENDPOINT: "http://localhost:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4318/v1/traces"}, True),
        ({ENDPOINT: "http://localhost:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
    ids=["none", "empty", "all", "traces", "disabled"],
)
def test_an_endpoint_is_what_turns_it_on(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: bool
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert tracing.configured() == wanted


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
        ("OTEL_PYTHON_TRACER_PROVIDER", "nobody"),
    ],
)
def test_what_the_library_will_refuse_is_found_at_the_start(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], variable: str, text: str
) -> None:
    monkeypatch.setenv(ENDPOINT, "http://localhost:4318")
    tracing.check()
    assert capfd.readouterr().err == ""
    monkeypatch.setenv(variable, text)
    with pytest.raises(SystemExit):
        tracing.check()
    assert "ronin: OpenTelemetry refuses its settings (OTEL_*): " in capfd.readouterr().err


def test_a_request_is_a_span_by_its_route(receiver: Receiver, pool: Pool) -> None:
    client = falcon.testing.TestClient(routes(pool))
    headers = {"traceparent": SOMEBODYS, "Host": "localhost"}
    assert client.simulate_get("/users/1", headers=headers).status_code == 200
    span = receiver.spans()["GET /users/{user}"]
    assert span.trace_id.hex() == SOMEBODYS[3:35]
    assert span.parent_span_id.hex() == SOMEBODYS[36:52]
    assert span.kind == Span.SPAN_KIND_SERVER
    assert told(span) == {
        "http.request.method": "GET",
        "http.route": "/users/{user}",
        "http.response.status_code": 200,
    }


@pytest.mark.parametrize("header", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_request_without_a_trace_begins_one(receiver: Receiver, pool: Pool, header: str) -> None:
    client = falcon.testing.TestClient(routes(pool))
    headers = {"traceparent": header, "Host": "localhost"}
    assert client.simulate_get("/nowhere", headers=headers).status_code == 404
    span = receiver.spans()["GET"]
    assert not span.parent_span_id
    assert told(span)["http.response.status_code"] == 404


def test_a_run_is_in_the_trace_of_the_request_that_asked_for_it(
    receiver: Receiver, pool: Pool
) -> None:
    """From the request by the row into the run, whoever performs it."""
    jobs.declare(pool, [a_kind()])
    headers = {"traceparent": SOMEBODYS}
    with (
        tracing.request("POST", headers),
        pool.connection() as connection,
        connection.transaction(),
        tracing.enqueue(connection, ["work", "work"]),
    ):
        connection.execute("SELECT enqueue('work'), enqueue('work')")
    (claim, _) = taken(pool)
    with tracing.run(claim, pool.connection) as ended:
        ended("completed")
    spans = receiver.spans()
    asking, enqueuing, run = (spans[name] for name in ("POST", "enqueue work", "run work"))
    assert {span.trace_id.hex() for span in spans.values()} == {SOMEBODYS[3:35]}
    assert enqueuing.parent_span_id == asking.span_id
    assert run.parent_span_id == enqueuing.span_id
    assert told(enqueuing) == {"ronin.job": "work", "messaging.batch.message_count": 2}
    assert told(run) == {
        "ronin.job": "work",
        "ronin.run": str(claim.id),
        "ronin.attempt": 1,
        "ronin.worker": claim.worker,
        "ronin.outcome": "completed",
    }
    assert run.status.code == 0


def test_an_attempt_that_fails_is_an_error(receiver: Receiver, pool: Pool) -> None:
    jobs.declare(pool, [a_kind()])
    asked(pool)
    (claim,) = taken(pool)
    with tracing.run(claim, pool.connection) as ended:
        ended("timed_out")
    span = receiver.spans()["run work"]
    assert (span.status.code, span.status.message) == (2, "timed_out")


def test_a_run_of_a_schedule_begins_a_trace_and_asks_nobody(receiver: Receiver, pool: Pool) -> None:
    def connect() -> psycopg.Connection[tuple[object, ...]]:
        raise AssertionError

    with tracing.run(claimed(pool), connect) as ended:
        ended("completed")
    assert not receiver.spans()["run tick"].parent_span_id


def test_a_database_that_does_not_answer_fails_no_run(receiver: Receiver, pool: Pool) -> None:
    def connect() -> psycopg.Connection[tuple[object, ...]]:
        raise psycopg.OperationalError

    jobs.declare(pool, [a_kind()])
    asked(pool)
    (claim,) = taken(pool)
    with tracing.run(claim, connect) as ended:
        ended("completed")
    assert told(receiver.spans()["run work"])["ronin.outcome"] == "completed"


def test_only_what_is_enqueued_in_the_transaction_carries_the_trace(
    receiver: Receiver, pool: Pool
) -> None:
    """The next one on the same connection does not."""
    jobs.declare(pool, [a_kind()])
    with pool.connection() as connection:
        with connection.transaction(), tracing.enqueue(connection, ["work"]):
            connection.execute("SELECT enqueue('work', name => 'with')")
        connection.execute("SELECT enqueue('work', name => 'without')")
    rows = dict(query(pool, "SELECT name, trace FROM run WHERE NOT scheduled"))
    assert rows["without"] is None
    assert rows["with"].split("-")[2] == receiver.spans()["enqueue work"].span_id.hex()


def test_nobody_who_has_no_trace_stores_one(pool: Pool) -> None:
    jobs.declare(pool, [a_job(), a_kind()])
    asked(pool, 3)
    assert value(pool, "SELECT count(*) FROM run WHERE trace IS NOT NULL") == 0
