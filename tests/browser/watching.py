"""What must not happen while anybody looks at a page, noted whatever the test looks at."""

import re
from dataclasses import dataclass, field

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response, WebError

_LOUD = ("error", "warning", "assert")
_ABANDONED = "net::ERR_ABORTED"
"""A request that was under way when the page was left: nobody's fault."""
_LOCAL = ("data:", "blob:")
_BAD = 400


@dataclass
class Watch:
    """Notes every trouble of the contexts it is attached to.

    Chromium tells of a breach of the content security policy on the console.

    Attributes:
        origin: where everything has to come from, as `http://host:port`.
        troubles: a line each.
    """

    origin: str
    troubles: list[str] = field(default_factory=list)
    _allowed: list[str] = field(default_factory=list)

    def attach(self, context: BrowserContext) -> None:
        """Watch all pages of a context, from now on."""
        context.on("console", self._console)
        context.on("weberror", self._error)
        context.on("request", self._request)
        context.on("requestfailed", self._failed)
        context.on("response", self._response)
        context.on("page", self._page)

    def allow(self, pattern: str) -> None:
        """Take troubles in which a pattern is found for what the test is about."""
        self._allowed.append(pattern)

    def assert_quiet(self) -> None:
        """Fail if there was any trouble that was not allowed."""
        left = [
            trouble
            for trouble in self.troubles
            if not any(re.search(pattern, trouble) for pattern in self._allowed)
        ]
        assert not left, "the browser complains:\n" + "\n".join(left)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in _LOUD:
            place = message.location.get("url", "")
            self.troubles.append(f"console {message.type}: {message.text} ({place})")

    def _error(self, error: WebError) -> None:
        self.troubles.append(f"page error: {error.error}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.origin}/", *_LOCAL)):
            self.troubles.append(f"request to elsewhere: {request.url}")

    def _failed(self, request: Request) -> None:
        if request.failure != _ABANDONED:
            self.troubles.append(f"request failed: {request.url}: {request.failure}")

    def _response(self, response: Response) -> None:
        if response.status >= _BAD:
            self.troubles.append(f"answer {response.status}: {response.url}")

    def _page(self, page: Page) -> None:
        page.on("websocket", lambda socket: self.troubles.append(f"websocket: {socket.url}"))
        page.on("crash", lambda _: self.troubles.append("the page crashed"))
