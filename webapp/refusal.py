"""Refusals: problems that are sent before there is a request that the application could see."""

import json

import falcon


def refusal(status: int) -> bytes:
    """Return a whole answer with this status, after which the connection is closed."""
    line = falcon.code_to_http_status(status)
    title = str(line).split(" ", 1)[1]
    kind = "urn:ronin:problem:" + title.lower().replace(" ", "-")
    body = json.dumps({"type": kind, "title": title, "status": status, "detail": f"{title}."})
    return (
        f"HTTP/1.1 {line}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: application/problem+json\r\n\r\n{body}"
    ).encode()


class Overheard:
    """Takes the place of a client's socket, and notes the status that gunicorn wants to send.

    Which status an error of its parser deserves, gunicorn knows best; but it sends HTML.
    """

    status = 500

    def gettimeout(self) -> float:
        """Say that it does not block."""
        return 0.0

    def sendall(self, answer: bytes) -> None:
        """Note the status."""
        self.status = int(answer.split(b" ", 2)[1])
