"""Parking: a request whose answer is being made elsewhere holds no thread meanwhile.

Where the server can do that, it puts `RESUME` into the request's environment. The application
raises `Parked`, and whoever has the answer calls `RESUME`, in a thread of its own: then the server
calls the application once more for the same request, which now only answers (`Resumed`).
"""

from collections.abc import Callable

import falcon

RESUME = "ronin.resume"
"""In the environment of a request: to be called once with the environment, and with a `Then` at
`THEN` in it; from then on the request belongs to the server, also if `Parked` is not raised yet."""
THEN = "ronin.then"

Then = Callable[[falcon.Response], None]
"""Writes an answer, or raises what a responder may raise."""


class Parked(BaseException):
    """Nobody answers this request now. No `Exception`, so that nobody answers it with an error."""


def spot(request: falcon.Request) -> Callable[[Then], None] | None:
    """Return who answers a request that is parked, or None where none can be."""
    environ = request.env
    resume = environ.get(RESUME)
    if resume is None:
        return None

    def answer(then: Then) -> None:
        environ[THEN] = then
        resume(environ)

    return answer


class Resumed:
    """Middleware, the first: answers what was parked; all that is to be refused was so before."""

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer, if the answer is here."""
        if then := request.env.get(THEN):
            response.complete = True  # also if it raises
            then(response)
