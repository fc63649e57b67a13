"""Calls a running Turnlog as a careful client does: over persistent connections, with retries after Retry-After.

Every write is idempotent, so a call whose answer was lost is made again as it was.
"""

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

_ATTEMPTS = 8
_LONGEST_WAIT_S = 5.0  # whatever Retry-After is: a replay that can't continue should fail within a minute
_TIMEOUT_S = 30.0


class GaveUp(Exception):  # noqa: N818 - named after the outcome
    """A call got no answer, or only Retry-After, in all of its attempts."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a call; `attempts`: how many were made. `body`: {} if it was no JSON object."""

    status: int
    body: dict[str, Any]
    attempts: int


class Caller:
    """Many threads may call at once, each over a connection of its own; `clients` is their number."""

    def __init__(self, url: str, *, key: str | None = None, clients: int = 16) -> None:
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=clients, max_keepalive_connections=clients),
            timeout=_TIMEOUT_S,
            trust_env=False,  # a proxy in between would be measured, too
        )

    def post(self, path: str, body: dict[str, Any]) -> Answer:
        return self._call("POST", path, json=body)

    def get(self, path: str, **query: str | int) -> Answer:
        return self._call("GET", path, params=query)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def _call(self, method: str, path: str, **request: Any) -> Answer:
        for attempt in range(1, _ATTEMPTS + 1):
            wait_s, cause = 0.1 * 2**attempt, None
            try:
                response = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                cause = error
            else:
                if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return Answer(response.status_code, _json_object(response), attempt)
                if (retry_after := response.headers.get("Retry-After", "")).isdigit():
                    wait_s = float(retry_after)
            if attempt < _ATTEMPTS:
                time.sleep(min(wait_s, _LONGEST_WAIT_S))
        reason = f"{type(cause).__name__}: {cause}" if cause else f"503 {response.text}"
        raise GaveUp(f"{method} {path}: {reason}, {_ATTEMPTS} times") from cause


def _json_object(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
