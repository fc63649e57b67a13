"""Runs all checks in order. A check that fails to run is a finding, never an exception."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from conversation.doctor import durability, machine, privileges, row_checks, shape
from conversation.doctor.findings import Check, Finding, number_of, some
from conversation.doctor.foreign import AmbiguousError, ForeignTable, TableOptions, resolve
from conversation.doctor.foreign_tables import foreign_tables
from conversation.doctor.remedies import TURNLOG, Remedies, command, name, text
from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.errors import Misconfigured, SchemaMissing, StoreBusy, StoreUnavailable, TurnlogError
from logging_store.postgres import catalogue, migrations
from logging_store.postgres.function_store import FunctionStore
from logging_store.postgres.migrations import SCHEMA_VERSION
from logging_store.postgres.reconnection import LONGEST_S, until_reconnected

_TIMEOUT_S = 10  # for queries that a healthy database answers at once
_SECOND_LOOK_S = 2  # after which a database that was away is asked once more: perhaps it is only being restarted
TABLE_TIMEOUT_S = 300  # for scans of whole tables; as the functions' own statement_timeout


@dataclass(frozen=True, slots=True)
class Examination:
    """An examination of a database and of this machine.

    `tables`: other applications' tables to examine as well. `on_wait`: called with the reason before it waits for the
    database.
    """

    settings: Settings
    database: FunctionStore
    tables: Sequence[TableOptions] = ()
    clock: Callable[[], float] = time.time
    on_wait: Callable[[StoreUnavailable], None] = lambda _: None

    def check_machine(self) -> Sequence[Check]:
        return machine.check_spool(self.settings)

    def check_database(self, address: str = "") -> Iterator[Check]:
        """Examine the database, and `tables` through its libpq `address`, since Supabase's API doesn't reach those."""
        remedies = Remedies(self.settings.store_kind)
        try:
            ping = self._ping()
            if not (isinstance(ping, dict) and {"schema", "server_version"} <= ping.keys()):
                raise Misconfigured("the function turnlog of this database isn't Turnlog's")
        except TurnlogError as error:
            yield self._foreign_schema() if self._is_foreign(error, address) else self.unreachable(error)
            return
        yield Check("database", f"{self.settings.store_kind}, PostgreSQL {ping['server_version']}")
        version = self._schema(ping["schema"], remedies)
        yield version
        if not version.is_ok:
            return
        yield from self._guarded("shape", lambda: self._shape(remedies))
        yield from self._guarded("grants", lambda: self._access(remedies))
        yield from self._guarded("durability", lambda: self._durability(ping))
        yield from self._guarded("clock", self._clock)
        yield from self._guarded("rows", self._rows)
        for names in self.tables:
            yield _table(names, address)

    def _ping(self) -> ops.ServerSettings:
        """Ask for the server's settings; once more, after a pause, if the database is away."""
        try:
            return self._ask(ops.PING, ops.NoQuery())
        except StoreBusy:
            raise
        except StoreUnavailable as error:
            self.on_wait(error)
        time.sleep(_SECOND_LOOK_S)
        return self._ask(ops.PING, ops.NoQuery())

    def _schema(self, version: str, remedies: Remedies) -> Check:
        if version == SCHEMA_VERSION:
            return Check("schema", version)
        if version < SCHEMA_VERSION:
            finding = Finding(
                f"the schema is {version}, but this version of Turnlog needs {SCHEMA_VERSION}",
                "The service refuses to start. The other checks need an up-to-date schema.",
                remedies.migrate,
            )
        else:
            finding = Finding(
                f"the schema is {version}, but this version of Turnlog only knows {SCHEMA_VERSION}",
                "A newer Turnlog has upgraded the database; this version refuses to start. Run the newer one.",
                [],
            )
        return Check("schema", version, [finding])

    def _shape(self, remedies: Remedies) -> list[Check]:
        found = self._ask(ops.CATALOGUE, ops.TablesQuery(tables=catalogue.tables()))
        return shape.compare(catalogue.expected(), found, remedies)

    def _access(self, remedies: Remedies) -> list[Check]:
        answer = self._ask(ops.ACCESS, ops.TablesQuery(tables=catalogue.tables()))
        return [privileges.check_grants(answer, remedies), privileges.check_roles(answer)]

    def _durability(self, ping: ops.ServerSettings) -> list[Check]:
        answer = self._ask(ops.SETTINGS, ops.SettingsQuery(settings=durability.NAMES))
        standby = ping["read_only"] and answer["settings"]["default_transaction_read_only"]["value"] == "off"
        return [durability.check(answer, in_recovery=standby)]

    def _clock(self) -> list[Check]:
        def ask() -> float:
            now: float = self._ask(ops.SETTINGS, ops.SettingsQuery(settings=[]))["now"]
            return now

        return [machine.check_clock(ask, self.clock, time.monotonic)]

    def _rows(self) -> list[Check]:
        expected = catalogue.expected()
        return [row_checks.check(self._ask(ops.IDENTITIES, row_checks.question(expected), TABLE_TIMEOUT_S), expected)]

    def _guarded(self, label: str, look: Callable[[], Sequence[Check]]) -> Sequence[Check]:
        try:
            return look()
        except TurnlogError as error:
            means, fix = "Fix the problems above first, then run this again.", []
            if isinstance(error, StoreBusy) and self.settings.store_kind == "supabase":
                means = "Supabase's API ends calls after 8 seconds; a large log needs longer."
                fix = [f"DATABASE_URL=… {TURNLOG} doctor  # the project's connection string, instead of SUPABASE_URL"]
            return [Check(label, "", [Finding(f"this check failed: {error}", means, fix)])]

    def _is_foreign(self, error: TurnlogError, address: str) -> bool:
        if not address or not isinstance(error, Misconfigured):
            return False
        try:
            return migrations.is_foreign(address)
        except TurnlogError:
            return False

    def _foreign_schema(self) -> Check:
        finding = Finding(
            "the schema turnlog belongs to another application",
            "Turnlog needs this name, but doesn't touch objects of others: use another database, or rename the schema.",
            ["alter schema turnlog rename to turnlog_of_another_application;"],
        )
        return Check("schema", "", [finding])

    def unreachable(self, error: TurnlogError) -> Check:
        """Return the check of a database that can't be used at all."""
        if isinstance(error, SchemaMissing):
            return Check("schema", "", [Finding(str(error), "Nothing can be stored yet.", self._make_schema())])
        if not isinstance(error, StoreUnavailable):
            return Check("database", "", [Finding(str(error), "The service can't use it until this is fixed.", [])])
        fix = {
            "embedded": f"{TURNLOG} serve",
            "postgres": 'pg_isready --dbname "$DATABASE_URL"  # is the server running, and is the URL right?',
            "supabase": 'curl -i "$SUPABASE_URL/rest/v1/"  # is the project paused, and is the URL right?',
        }[self.settings.store_kind]
        means = "Until it is back, a running service spools writes on this machine's disk; reads fail."
        return Check("database", "", [Finding(str(error), means, [fix])])

    def _make_schema(self) -> Sequence[str]:
        remedies = Remedies(self.settings.store_kind)
        # `supabase db push` doesn't run a migration twice
        return [*remedies.migrate, *remedies.restore] if self.settings.store_kind == "supabase" else remedies.migrate

    def _ask(self, operation: ops.Operation[ops.Q, ops.A], query: ops.Q, seconds: float = _TIMEOUT_S) -> ops.A:
        """Run an operation, again while Supabase's API reconnects to its database."""

        def ask() -> ops.A:
            return self.database.examine(operation, query, seconds)

        return until_reconnected(ask, time.monotonic() + LONGEST_S, self.on_wait)


def _table(names: TableOptions, address: str) -> Check:
    label = f"table {names.table}"
    try:
        with foreign_tables(address) as tables:
            table = resolve(names, tables.describe)
            answer = tables.inspect(table)
    except (AmbiguousError, TurnlogError) as error:
        fix = [command("doctor", "--help")] if isinstance(error, AmbiguousError) else []
        return Check(label, "", [Finding(str(error), "The table wasn't examined.", fix)])
    summary = f"{number_of(answer['rows'], 'row')}, no orphans, no missing and no repeated identities"
    return Check(label, summary, list(_foreign_findings(table, answer)))


def _foreign_findings(table: ForeignTable, answer: dict[str, Any]) -> Iterator[Finding]:
    needs_parent = table.parent is not None and (answer["blank_sessions"] or answer["missing"]["sessions"])
    fills = [part for column in table.parent_needs for part in ("--set", f"{column}=VALUE")] if needs_parent else []
    fix = [table.repair(*fills, "--apply")]
    if answer["blank_ids"]:
        yield Finding(
            f"{number_of(answer['blank_ids'], 'row')} without {table.id.column}",
            "It is null, nil, blank or a word like 'null', so these rows can't be addressed.",
            fix,
        )
    if answer["blank_sessions"]:
        yield Finding(
            f"{number_of(answer['blank_sessions'], 'row')} without {table.session}",
            "It is null, nil, blank or a word like 'null', so these rows belong to no session, or all to the same one.",
            fix,
        )
    missing = answer.get("missing", {"sessions": 0})
    if missing["sessions"] and table.parent is not None:
        yield Finding(
            f"{number_of(missing['rows'], 'row')} of {number_of(missing['sessions'], 'session')} that "
            f"{table.parent.relation} doesn't have: {some(missing['examples'], missing['sessions'])}",
            "Queries that start from the sessions miss these rows, and a foreign key can't be created.",
            fix,
        )
    if (repeated := answer["repeated"])["values"]:
        values = ", ".join(text(each) for each in repeated["examples"])
        column = name(table.id.column)
        yield Finding(
            f"{number_of(repeated['values'], 'repeated ' + table.id.column, f'repeated values of {table.id.column}')} "
            f"in {repeated['rows']:,} rows: {some(repeated['examples'], repeated['values'])}",
            "Only you can tell which row is right: look at them, and delete the others by their ctid.",
            [f"select ctid, * from {table.relation} where {column}::text in ({values}) order by {column};"],
        )
