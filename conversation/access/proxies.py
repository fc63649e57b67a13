"""Takes a caller's address from what the reverse proxies in front report, and nothing else."""

from collections.abc import Callable, Iterable
from typing import Any

from conversation.access import addresses

_Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class ForwardedAddress:
    """A WSGI application behind `proxies` reverse proxies, each of which adds the address it saw to X-Forwarded-For.

    Only the last entries are those proxies' own; what is before them is what the client sent. The header is split at
    its commas alone: a parser that knows quotation marks lets a client hide the proxies' entries behind one.
    """

    def __init__(self, application: _Application, proxies: int) -> None:
        self._application, self._proxies = application, proxies

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        entries = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
        if len(entries) >= self._proxies and entries != [""]:
            environ["REMOTE_ADDR"] = entries[-self._proxies].strip() or addresses.UNREADABLE
        return self._application(environ, start_response)
