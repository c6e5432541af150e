"""Values: what a job may leave in the database, as JSON of a bounded size (pure)."""

import json

import orjson
from pydantic_core import to_json

from cluster.arguments import holds_nul

MOST_BYTES = 64 * 1024
"""Of the JSON of a result or of a checkpoint."""


class ValueMisfitError(ValueError):
    """A value can't be kept; the message says why, as if it went on after the value's name."""


def kept(value: object) -> str:
    """Return a value as the JSON text that the database keeps.

    Raises:
        ValueMisfitError: it does not fit JSON, is too large, or holds a NUL.
    """
    try:
        text = orjson.dumps(value)
    except TypeError as error:
        raise ValueMisfitError(f"does not fit JSON: {error}") from error
    if b"null" in text:  # which it writes for NaN, too
        json.loads(to_json(value, inf_nan_mode="constants"), parse_constant=_refuse)
    if len(text) > MOST_BYTES:
        raise ValueMisfitError(f"has {len(text)} bytes of JSON, more than {MOST_BYTES}")
    if holds_nul(text.decode()):
        raise ValueMisfitError("holds a NUL, which PostgreSQL can't keep")
    return text.decode()


def _refuse(constant: str) -> None:
    raise ValueMisfitError(f"does not fit JSON: {constant} is no number there")


def mended(text: str) -> str:
    """Return text that PostgreSQL can hold: no NUL, no lone surrogate."""
    return text.encode(errors="replace").decode().replace("\x00", "\ufffd")
