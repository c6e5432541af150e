"""Gunicorn's own lines, through the same log as everybody else's."""

from typing import Any

from gunicorn.glogging import Logger as GunicornLogger


class Logger(GunicornLogger):  # type: ignore[misc] # gunicorn ships no types
    """A gunicorn logger without handlers of its own."""

    def setup(self, cfg: Any) -> None:
        """Let the root logger's handler write what gunicorn says."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
