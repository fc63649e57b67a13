"""From a request to its answer, in PostgREST's order: the key, the schema cache, the request, Postgres.

So a bad key is refused even while Postgres is away, and an unknown function only once it is back.
"""

import contextlib
import json
import threading
import time

import psycopg

from tests.postgrest import answers, bodies, database, keys
from tests.postgrest.answers import Answer, RefusalError
from tests.postgrest.routines import Routine, SchemaCache, read_schema_cache
from tests.postgrest.wire import Request

REPEATED = frozenset({"40001", "40P01"})  # a serialization failure and, since version 13, a deadlock
ACCEPTED = frozenset({"", "*/*", "application/*", "application/json"})


class Rpc:
    """Answers calls of one schema's functions; safe to use from many threads."""

    def __init__(
        self,
        keyring: keys.Keyring,
        pool: database.Database,
        *,
        schema: str,
        serialization_retries: int | None,
        reload_pause_s: float,
        closing: threading.Event,
    ) -> None:
        self._keyring = keyring
        self._database = pool
        self._schema = schema
        self._serialization_retries = serialization_retries
        self._reload_pause_s = reload_pause_s
        self._closing = closing
        self._cache: SchemaCache | None = None
        self._last_load = float("-inf")
        self._loading = threading.Lock()

    def answer(self, request: Request) -> Answer:
        try:
            caller = self._keyring.caller(request.headers)
            cache = self._schema_cache()
            name = self._function_of(request)
            arguments = bodies.arguments(request.body)
            return self._call(cache, cache.find(name, arguments), arguments, caller)
        except RefusalError as refusal:
            return refusal.answer

    def reload(self) -> None:
        """Read the schema now; without Postgres, leave it to the next request."""
        with self._loading:
            self._cache = None
            self._load()

    def _schema_cache(self) -> SchemaCache:
        if (cache := self._cache) is not None:
            return cache
        with self._loading:
            if self._cache is None and time.monotonic() - self._last_load >= self._reload_pause_s:
                self._load()
            if self._cache is None:
                raise RefusalError(answers.no_schema_cache())
            return self._cache

    def _lose_connections(self) -> None:
        """Refuse everything until the schema is read again: the real one's attempts to do so meet ended connections."""
        with self._loading:
            self._cache = None
            self._last_load = time.monotonic()
            self._database.discard_idle()

    def _load(self) -> None:
        self._last_load = time.monotonic()
        with (
            contextlib.suppress(database.UnreachableError, psycopg.Error),
            self._database.connect() as connection,
        ):
            self._cache = read_schema_cache(connection, self._schema)

    def _function_of(self, request: Request) -> str:
        name = request.function
        if name is None:
            raise RefusalError(answers.not_implemented("any path but /rest/v1/rpc/<function>"))
        if request.method in ("PUT", "PATCH", "DELETE"):
            message = f"Cannot use the {request.method} method on RPC"
            raise RefusalError(answers.error(405, "PGRST101", message))
        if request.method != "POST" or request.query:
            raise RefusalError(answers.not_implemented("GET or a query string"))
        profile = request.headers.get("content-profile", self._schema)
        if profile != self._schema:
            hint = f"Only the following schemas are exposed: {self._schema}"
            raise RefusalError(answers.error(406, "PGRST106", f"Invalid schema: {profile}", hint=hint))
        content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip()
        if content_type != "application/json":
            raise RefusalError(answers.invalid_body(f"Content-Type not acceptable: {content_type}"))
        accepted = request.headers.get("accept", "")
        if ACCEPTED.isdisjoint(kind.partition(";")[0].strip() for kind in accepted.split(",")):
            message = f"None of these media types are available: {accepted}"
            raise RefusalError(answers.error(406, "PGRST107", message))
        return name

    def _call(self, cache: SchemaCache, routine: Routine, arguments: bodies.Arguments, caller: keys.Caller) -> Answer:
        settings = {
            "search_path": f'"{self._schema}"',
            "role": caller.role,
            **cache.role_settings.get(caller.role, {}),
            "request.jwt.claims": caller.claims,
            **routine.settings,
        }
        begin = database.begin(tuple(settings.items()), routine.isolation, may_write=routine.may_write)
        try:
            row = self._transact(begin, routine, arguments)
        except database.PostgresError as failure:
            return answers.postgres_error(failure.fields, anonymous=caller.anonymous)
        except database.UnreachableError:
            self._cache = None  # until Postgres is back, everything is refused for lack of the cache
            return answers.no_schema_cache()
        except database.StaleConnectionError:
            self._lose_connections()
            return answers.connection_was_ended()
        except database.ConnectionLostError:
            return answers.connection_lost()
        except database.PoolExhaustedError:
            return answers.pool_exhausted()
        return _success(row, is_void=routine.returns_void)

    def _transact(self, begin: bytes, routine: Routine, arguments: bodies.Arguments) -> list[bytes | None]:
        """Run the transaction, and again for as long as it can't be serialized, whether or not the client waits."""
        statement = routine.statement(arguments)
        retries = 0
        while True:
            try:
                return self._database.transact(begin, statement, arguments.text)
            except database.PostgresError as failure:
                if failure.fields.sqlstate not in REPEATED or self._closing.is_set():
                    raise
                if self._serialization_retries is not None and retries >= self._serialization_retries:
                    raise
                retries += 1


def _success(row: list[bytes | None], *, is_void: bool) -> Answer:
    """Pass the JSON on as it came; status and headers are the function's own where it has set them."""
    body, status, headers = row
    own_headers = {name: value for each in json.loads(headers or b"[]") for name, value in each.items()}
    if is_void:
        return Answer(int(status or 204), headers=own_headers, committed=True)
    content = {"Content-Type": answers.JSON_TYPE, **own_headers}
    return Answer(int(status or 200), body or b"", content, committed=True)
