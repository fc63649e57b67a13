"""Calls the functions through Supabase's API, with supabase-py's `rpc` of `public.turnlog`.

PostgREST runs each request in one transaction, so a batch is atomic here too. The client is only used for `rpc` with
the project's secret key and never signs anyone in: a signed-in client would send the user's token instead of the key.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx
from postgrest.exceptions import APIError
from pydantic_core import to_jsonable_python
from supabase_auth import SyncMemoryStorage

from logging_store.errors import Invalid, Misconfigured, StoreTimeout, StoreUnavailable
from logging_store.postgres import http_deadline
from logging_store.postgres.function_store import FunctionStore
from logging_store.postgres.sqlstate import classify
from supabase import Client, ClientOptions, create_client

_CONNECT_S = 5
_LEAST_S = 0.25  # of a ping's time
_MAX_CLOSED_CONNECTIONS = (
    20  # of PostgREST's pool (10 by default); each fails one call at once, before it has any effect
)
_CONNECTION_CLOSED = "57P01"


class SupabaseStore(FunctionStore):
    """A store in a Supabase project.

    `url`: the project's URL. `key`: its secret key. `pool_size`: the most connections of this process.
    """

    def __init__(self, url: str, key: str, *, pool_size: int = 8, deadline_s: float = 10) -> None:
        super().__init__(deadline_s, pool_size)
        self._url = url
        self._key = key
        self._pool_size = pool_size
        self._opening = threading.Lock()
        self._opened: tuple[int, Client, httpx.Client] | None = None
        self._apart: tuple[int, Client, httpx.Client] | None = None  # of the pings, which run one at a time
        self._answered = threading.local()  # supabase-py hides the HTTP status: see _remember_status

    def _call(self, function: str, value: Mapping[str, Any], deadline: float) -> Any:
        return self._call_over(self._client(), function, value, deadline)

    def _call_over(self, client: Client, function: str, value: Mapping[str, Any], deadline: float) -> Any:
        for _ in range(_MAX_CLOSED_CONNECTIONS):
            try:
                return self._call_once(client, function, value, deadline)
            except StoreUnavailable as error:
                if getattr(error.__cause__, "code", None) != _CONNECTION_CLOSED:
                    raise
        return self._call_once(client, function, value, deadline)

    def _call_apart(self, function: str, deadline: float) -> Any:
        apart = self._apart
        if apart is None or apart[0] != os.getpid():
            apart = self._apart = (os.getpid(), *self._open_client(pool_size=1))
        # opening the client may have taken all of the time
        return self._call_over(apart[1], function, {}, max(deadline, time.monotonic() + _LEAST_S))

    def _call_once(self, client: Client, function: str, value: Mapping[str, Any], deadline: float) -> Any:
        self._answered.status = None
        with self._driver_errors(), http_deadline.until(deadline):
            data = client.rpc("turnlog", {"operation": function, "request": to_jsonable_python(value)}).execute().data
        if isinstance(data, str) or data == []:
            # a gateway answered 200 in place of PostgREST, or truncated the answer
            raise StoreUnavailable("Supabase's API answered with something that isn't JSON")
        return data

    def close(self) -> None:
        with self._opening:
            clients = self._opened, self._apart
            self._opened = self._apart = None
        for opened in clients:
            if opened and opened[0] == os.getpid():
                opened[2].close()

    def _client(self) -> Client:
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            with self._opening:
                opened = self._opened
                if opened is None or opened[0] != os.getpid():
                    opened = self._opened = (os.getpid(), *self._open_client(self._pool_size))
        return opened[1]

    def _open_client(self, pool_size: int) -> tuple[Client, httpx.Client]:
        http = httpx.Client(
            http2=False,  # one connection for all threads would be shared state under load, with no gain in latency
            timeout=httpx.Timeout(None, connect=min(_CONNECT_S, self.deadline_s)),  # the rest: `http_deadline`
            limits=httpx.Limits(max_connections=pool_size, max_keepalive_connections=pool_size),
            event_hooks={"response": [self._remember_status]},
        )
        http_deadline.install(http)
        options = ClientOptions(
            storage=SyncMemoryStorage(),
            auto_refresh_token=False,
            persist_session=False,
            postgrest_client_retry=False,
            httpx_client=http,
        )
        return create_client(self._url, self._key, options), http

    def _remember_status(self, response: httpx.Response) -> None:
        self._answered.status = response.status_code

    @contextmanager
    def _driver_errors(self) -> Iterator[None]:
        """Convert supabase-py's and httpx's errors."""
        try:
            yield
        except APIError as error:
            status = self._answered.status
            code = error.code
            if not code or (code.isdigit() and len(code) == 3):  # noqa: PLR2004 - an HTTP status, not a SQLSTATE
                raise self._gateway_error(status, error) from error
            raise classify(code, error.message or code, detail=error.details) from error
        except (httpx.ReadTimeout, httpcore.ReadTimeout) as error:
            raise StoreTimeout("Supabase's API didn't answer in time") from error
        except (httpx.HTTPError, httpcore.TimeoutException) as error:  # httpx's hooks raise errors as they are
            # after a read timeout or a broken answer the outcome is unknown: the call may have been committed
            raise StoreUnavailable(f"Supabase's API can't be reached: {error or type(error).__name__}") from error
        except ValueError as error:
            # without the message, which may quote the answer and so what people wrote
            raise StoreUnavailable(
                f"Supabase's API answered with something unreadable ({type(error).__name__})"
            ) from error

    def _gateway_error(self, status: int | None, error: APIError) -> Exception:
        """Return the error for an answer without a code, which a gateway in front of PostgREST sent."""
        message = f"Supabase's API answered {status}: {error.message}"
        match status:
            case 401 | 403:
                return Misconfigured(f"{message}: check SUPABASE_SECRET_KEY")
            case 404:
                return Misconfigured(f"{message}: check SUPABASE_URL")
            case 413:
                return Invalid(f"{message}: the batch is too large for the API")
            case _:
                return StoreUnavailable(message)
