"""Tracing of requests: a span for each, in the trace of whoever asks."""

import re
from contextlib import ExitStack

import falcon

from cluster import tracing

_CONVERTER = re.compile(r":\w+}")


class Tracing:
    """Middleware: makes a span of each request; only there where spans are wanted."""

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Begin the span."""
        stack = request.context.trace = ExitStack()
        headers = {name.lower(): text for name, text in request.headers.items()}
        request.context.span = stack.enter_context(tracing.request(request.method, headers))

    def process_resource(
        self,
        request: falcon.Request,
        _response: falcon.Response,
        _resource: object,
        _params: dict[str, object],
    ) -> None:
        """Call it by its route: a path would be a name for each task."""
        route = _CONVERTER.sub("}", request.uri_template or "")
        request.context.span.update_name(f"{request.method} {route}")
        request.context.span.set_attribute("http.route", route)

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _ok: object
    ) -> None:
        """End it."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - only there if it is wanted

        status = response.status_code
        request.context.span.set_attribute("http.response.status_code", status)
        if status >= falcon.http_status_to_code(falcon.HTTP_500):
            request.context.span.set_status(StatusCode.ERROR)
        request.context.trace.close()
