"""Tracing: spans for OpenTelemetry, where an endpoint for them is set; else nothing, at no cost.

A run carries the trace that it was asked for in, so that its span is a child of the request's,
whoever performs it and however much later. What OpenTelemetry's own variables say (the service's
name, headers, sampling) is its library's affair.
"""

import atexit
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import psycopg

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_LAST_SPANS_SECONDS = 2.0
"""A process that ends waits so long for its last spans to be taken; the library would for ten."""


def configured() -> bool:
    """Whether spans shall be made; asked once by who puts a process together."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not off and any(os.environ.get(name) for name in _ENDPOINTS)


class Execute(Protocol):
    """A connection, as far as it is needed here."""

    def execute(self, query: Any, params: Any = ..., /) -> Any:
        """Execute a statement."""


class Claimed(Protocol):
    """What of a claim goes into its span."""

    @property
    def id(self) -> UUID:
        """Of the run."""

    @property
    def job(self) -> str:
        """Its name."""

    @property
    def schedule(self) -> str | None:
        """Of the job; None for a task."""

    @property
    def attempt(self) -> int:
        """Its number."""

    @property
    def worker(self) -> str:
        """Who holds it."""


Connect = Callable[[], AbstractContextManager[Execute]]


@contextmanager
def request(method: str, headers: Mapping[str, str]) -> Iterator["Span"]:
    """Make a span of a request, in the trace that its `traceparent` names, if it names one.

    Args:
        method: of HTTP; who learns the route adds it to the span's name.
        headers: with lower-case names.
    """
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 - nobody pays for it who has no use

    attributes = {"http.request.method": method}
    with _tracer().start_as_current_span(
        method, _context(headers), SpanKind.SERVER, attributes
    ) as span:
        yield span


@contextmanager
def enqueue(connection: Execute, kinds: Sequence[str]) -> Iterator[None]:
    """Make a span of enqueuing in a transaction of the caller; what is enqueued carries it.

    To its end the transaction gives the trace to every run that it makes.

    Args:
        connection: in a transaction.
        kinds: of the tasks, one for each.
    """
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 - as above

    attributes: dict[str, str | int] = {"messaging.batch.message_count": len(kinds)}
    name = "enqueue"
    if len(set(kinds)) == 1:
        attributes["ronin.job"] = kinds[0]
        name = f"enqueue {kinds[0]}"
    with _tracer().start_as_current_span(name, kind=SpanKind.PRODUCER, attributes=attributes):
        connection.execute("SELECT set_config('ronin.trace', %s, true)", (_written(),))
        yield


@contextmanager
def run(claim: Claimed, connect: Connect) -> Iterator[Callable[[str], None]]:
    """Make a span of an attempt, a child of what it was asked for in; yield who takes its outcome.

    One statement more for each attempt at a task. If that fails, the span begins a trace of its
    own: no run fails because of its trace.

    Args:
        claim: what is performed.
        connect: lends a connection.
    """
    from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415 - as above

    attributes: dict[str, str | int] = {
        "ronin.job": claim.job,
        "ronin.run": str(claim.id),
        "ronin.attempt": claim.attempt,
        "ronin.worker": claim.worker,
    }
    trace = None if claim.schedule else _read(claim, connect)
    with _tracer().start_as_current_span(
        f"run {claim.job}",
        _context({"traceparent": trace} if trace else {}),
        SpanKind.CONSUMER,
        attributes,
    ) as span:

        def ended(outcome: str) -> None:
            span.set_attribute("ronin.outcome", outcome)
            if outcome != "completed":
                span.set_status(StatusCode.ERROR, outcome)

        yield ended


def _read(claim: Claimed, connect: Connect) -> str | None:
    """Return the trace that a run under way was asked for in."""
    try:
        with connect() as connection:
            query = "SELECT trace FROM run WHERE id = %s"
            row = connection.execute(query, (claim.id,)).fetchone()
    except psycopg.Error:
        return None
    return row[0] if row else None


def _context(headers: Mapping[str, str]) -> "Context":
    """Return the context that headers tell of; what is no `traceparent` begins a new trace."""
    from opentelemetry.context import Context  # noqa: PLC0415 - as above

    found: Context = _propagator().extract(headers, Context())
    return found


def _written() -> str:
    """Return the present span as a `traceparent`."""
    headers: dict[str, str] = {}
    _propagator().inject(headers)
    return headers.get("traceparent", "")


@cache
def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 - as above
        TraceContextTextMapPropagator,
    )

    return TraceContextTextMapPropagator()


def _tracer() -> "Tracer":
    """Return what makes spans. Called first after the fork, for it sends from a thread of its own.

    A provider that somebody else has set up is used, so that theirs and ours are one.
    """
    with _one_at_once:
        return _made()


_one_at_once = threading.Lock()


@cache
def _made() -> "Tracer":
    from opentelemetry import trace  # noqa: PLC0415 - as above
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "ronin"}
        provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
        _close_at_exit(provider)
    return provider.get_tracer("ronin")


def _close_at_exit(provider: "TracerProvider") -> None:
    """Send what is left at the end, from a thread that nobody has to wait for."""
    ending, closed = threading.Event(), threading.Event()

    def close() -> None:
        ending.wait()
        provider.shutdown()
        closed.set()

    def end() -> None:
        ending.set()
        closed.wait(_LAST_SPANS_SECONDS)

    threading.Thread(target=close, name="last spans", daemon=True).start()
    atexit.register(end)


def check() -> None:
    """Find out at the start that what makes spans is not installed, or refuses its settings.

    Tried in a process of its own, for it begins threads, and the master has yet to fork.

    Raises:
        SystemExit: with one clear line, or after it.
    """
    if configured():
        try:
            import opentelemetry.exporter.otlp.proto.http  # noqa: PLC0415
            import opentelemetry.sdk.trace  # noqa: F401, PLC0415
        except ImportError as error:
            raise SystemExit(
                f"ronin: an OpenTelemetry endpoint is set, and {error.name} is not installed:"
                " pip install -e '.[tracing]' in the folder of the code (docs/metrics.md)"
            ) from None
        trial = get_context("fork").Process(target=_try)
        trial.start()
        trial.join()
        if trial.exitcode:
            raise SystemExit(1)


def _try() -> None:
    try:
        _made()
    except Exception as error:  # noqa: BLE001 - whatever the library makes of what it reads
        reason = " ".join("".join(traceback.format_exception_only(error)).split())
        raise SystemExit(f"ronin: OpenTelemetry refuses its settings (OTEL_*): {reason}") from None
