"""The problems that there are: each by its name, with status and meaning, for the documentation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TYPES = "urn:ronin:problem:"


@dataclass(frozen=True, slots=True)
class Known:
    """A problem.

    Attributes:
        status: of HTTP.
        text: when it is answered.
        detail: an example of its `detail`.
        more: its further members, with schema and example.
        may: those that it may have as well.
    """

    status: int
    text: str
    detail: str
    more: Mapping[str, tuple[Mapping[str, Any], Any]] = field(default_factory=dict)
    may: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_FIELDS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "field": {"type": "string", "description": "Its path in the body."},
            "reason": {"type": "string", "description": "What is wrong with it."},
        },
        "required": ["field", "reason"],
    },
    "description": "Every field that is wrong.",
}
_INT = {"type": "integer"}

KNOWN: Mapping[str, Known] = {
    # Of any operation.
    "bad-request": Known(400, "The request is no HTTP.", "Bad Request."),
    "not-found": Known(404, "There is no such path.", "Not Found."),
    "unauthorized": Known(
        401,
        "The service has tokens, and the request has none of them.",
        "Send a token: Authorization: Bearer …",
    ),
    "read-only": Known(403, "The token's role is `read`.", "ada may read, and change nothing."),
    "cross-site": Known(
        403,
        "A page of another site sent it, or nobody can tell that it was one of ours.",
        "A page of another site sent this, or nobody can tell that it was ours.",
    ),
    "misdirected-request": Known(
        421,
        "The service has no tokens, and was asked under a name that anybody could give it.",
        "Without tokens the service answers to localhost and to addresses only.",
    ),
    "method-not-allowed": Known(405, "The path has no such method.", "Method Not Allowed."),
    "request-timeout": Known(408, "The request did not arrive in time.", "Request Timeout."),
    "content-too-large": Known(
        413, "The body is too long, read or not.", "A body has at most 65536 bytes."
    ),
    "uri-too-long": Known(414, "The request line is too long.", "URI Too Long."),
    "unsupported-media-type": Known(
        415,
        "The body is not application/json, or it is compressed.",
        "Send Content-Type: application/json.",
    ),
    "request-header-fields-too-large": Known(
        431, "The headers are too long.", "Request Header Fields Too Large."
    ),
    "internal-error": Known(
        500,
        "A mistake of the service; its log has the particulars.",
        "Something went wrong here. The log has the particulars under this id.",
        {
            "error_id": (
                {"type": "string", "description": "In the log."},
                "9f3c1e3a-6f0b-4c39-8d5e-0a4f5b1f2c6d",
            )
        },
    ),
    "database-unavailable": Known(
        503,
        "The database is busy or away; the detail says what is known of a change.",
        "The database is busy or away. Nothing was changed; try again.",
    ),
    # Of what a client asks.
    "invalid-json": Known(400, "The body is no JSON.", "The body has to be a JSON object."),
    "invalid-parameter": Known(
        400, "A parameter of the query is wrong.", "limit is a number from 1 to 1000."
    ),
    "invalid-idempotency-key": Known(
        400,
        "The key is empty, too long, holds what no key holds, or stands before a batch.",
        "An Idempotency-Key has 1 to 255 printable ASCII characters.",
    ),
    "invalid-field": Known(
        422,
        "A field of the body is wrong; nothing was done.",
        "amount: an amount is not zero",
        {"errors": (_FIELDS, [{"field": "amount", "reason": "an amount is not zero"}])},
    ),
    "idempotency-key-reused": Known(
        422,
        "The key belongs to a different request.",
        "This Idempotency-Key belongs to a different request.",
        may={"place": {**_INT, "description": "Of several tasks, the first such; from 0."}},
    ),
    # Of how things stand.
    "unknown-user": Known(404, "There is no such user.", "There is no user 7."),
    "insufficient-funds": Known(
        409,
        "The balance would fall below zero; nothing was changed.",
        "The balance is 5: insufficient funds for -7.",
        {
            "userId": ({**_INT, "description": "Whose it is."}, 1),
            "balance": ({**_INT, "description": "As it is."}, 5),
        },
    ),
    "unknown-job": Known(404, "There is no such job.", "There is no job 'tick'."),
    "job-paused": Known(409, "The job is paused.", "wait is paused; resume it first."),
    "job-running": Known(
        409, "The job is under way.", "wait is running; it never runs twice at once."
    ),
    "unknown-kind": Known(
        404, "There is no such kind of tasks.", "There is no kind of tasks 'mow'."
    ),
    "unknown-run": Known(404, "There is no such run.", "There is no run 01a1f0ee-…."),
    "run-over": Known(409, "The run is over.", "The run is over: completed."),
    "run-not-running": Known(
        409, "Nobody performs the run now.", "Nobody performs the run now: it is waiting."
    ),
    "run-remote": Known(
        409,
        "A remote worker performs the run.",
        "A remote worker performs the run, and these can't be asked where it is.",
    ),
    "not-asked": Known(
        404, "Nobody has asked where the run is.", "Nobody has asked where the run is: POST does."
    ),
    "unknown-task": Known(404, "There is no such task.", "There is no task 01a1f0ee-…."),
    "task-over": Known(409, "The task is over.", "The task is over: COMPLETED."),
    "task-not-failed": Known(
        409, "The task did not end in an error.", "The task is NEW, not ERROR."
    ),
    "stale-token": Known(
        409,
        "The token is not that of the attempt under way; nothing was changed.",
        "The token is not that of the attempt under way. Nothing was changed; stop the task.",
    ),
    "too-many-tasks": Known(
        429,
        "The client has posted as many tasks as it may in a minute.",
        "A client may post 600 tasks in a minute. Nothing was stored.",
    ),
    "busy": Known(503, "Other batches are being read.", "Other batches are being read; try again."),
}

ALWAYS = (
    "bad-request",
    "unauthorized",
    "read-only",
    "cross-site",
    "misdirected-request",
    "request-timeout",
    "content-too-large",
    "uri-too-long",
    "unsupported-media-type",
    "request-header-fields-too-large",
    "internal-error",
)
"""Any operation may answer with these."""
