"""Logs: one line an event, as text for people or as JSON for machines, gunicorn's lines too."""

import logging
import sys
from typing import Any

import orjson
import structlog

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(form: str) -> None:
    """Send every log line of this process to standard error in the given form.

    Args:
        form: `text`, `json`, or `auto` (text, with colours when standard error is a terminal).
    """
    renderer: Any = (
        structlog.processors.JSONRenderer() if form == "json" else _text(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _formatter(
            *([structlog.processors.format_exc_info] if form == "json" else []),
            renderer,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for quiet in ("yoyo", "psycopg.pool"):
        logging.getLogger(quiet).setLevel(logging.ERROR)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def get(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module; keyword arguments of a call become fields of its line."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def plain() -> logging.Formatter:
    """Return what makes text for people of a line, without colours, whatever form is set."""
    return _formatter(_PLAIN)


def plainly(line: str) -> str:
    """Return a line as text for people if it is one of ours as JSON, else as it is."""
    try:
        fields = orjson.loads(line) if line.startswith("{") else {}
        ours = {"event", "level", "timestamp"} <= fields.keys()
        return str(_PLAIN(None, "", fields)) if ours else line
    except Exception:  # noqa: BLE001 - any program may print what looks like JSON, or like ours
        return line


def _text(*, colors: bool) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=colors,
        pad_event_to=0,
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,
    )


_PLAIN = _text(colors=False)


def _formatter(*last: Any) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
