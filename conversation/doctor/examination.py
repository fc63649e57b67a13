"""Everything that `flask doctor` looks at, in order. What can't be looked at is a finding, never an exception."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from conversation.doctor import durability, machine, privileges, row_checks, shape
from conversation.doctor.findings import Check, Finding, number_of, some
from conversation.doctor.foreign import ForeignTable, Names, UnclearError, identify
from conversation.doctor.foreign_tables import foreign_tables
from conversation.doctor.remedies import FLASK, Remedies, command, name, text
from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.errors import SchemaMissing, StoreBusy, StoreUnavailable, TurnlogError
from logging_store.postgres import catalogue
from logging_store.postgres.function_store import FunctionStore
from logging_store.postgres.migrations import SCHEMA_VERSION

_ANSWER_S = 10  # for what a healthy database answers at once
PATIENCE_S = 300  # for whole tables; as the functions' own statement_timeout


@dataclass(frozen=True, slots=True)
class Examination:
    """One look at a database and at this machine."""

    settings: Settings
    database: FunctionStore
    tables: Sequence[Names] = ()
    clock: Callable[[], float] = time.time

    def look_at_machine(self) -> Sequence[Check]:
        return machine.look_at_spool(self.settings)

    def look_at_database(self, address: str = "") -> Iterator[Check]:
        """Look at it, and at the `tables` through its own `address`, which Supabase's API doesn't have."""
        remedies = Remedies(self.settings.store_kind)
        try:
            ping = self._ask(ops.PING, ops.NoQuery())
            if not (isinstance(ping, dict) and {"schema", "server_version"} <= ping.keys()):
                raise SchemaMissing("what answers under Turnlog's name isn't Turnlog's")
        except TurnlogError as error:
            yield self.unreachable(error)
            return
        yield Check("database", f"{self.settings.store_kind}, PostgreSQL {ping['server_version']}")
        version = self._schema(ping["schema"], remedies)
        yield version
        if not version.is_ok:
            return
        yield from self._look("shape", lambda: self._shape(remedies))
        yield from self._look("grants", lambda: self._access(remedies))
        yield from self._look("durability", lambda: self._durability(ping))
        yield from self._look("clock", self._clock)
        yield from self._look("rows", self._rows)
        for names in self.tables:
            yield _table(names, address)

    def _schema(self, version: str, remedies: Remedies) -> Check:
        if version == SCHEMA_VERSION:
            return Check("schema", version)
        if version < SCHEMA_VERSION:
            finding = Finding(
                f"it is {version}, this version of Turnlog needs {SCHEMA_VERSION}",
                "The service refuses to start. What else there is to see can be told once it is up to date.",
                remedies.migrate,
            )
        else:
            finding = Finding(
                f"it is {version}, this version of Turnlog knows {SCHEMA_VERSION}",
                "A newer Turnlog has been here; this one refuses to start.",
                ["git pull"],
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
        return [row_checks.check(self._ask(ops.IDENTITIES, row_checks.question(expected), PATIENCE_S), expected)]

    def _look(self, label: str, look: Callable[[], Sequence[Check]]) -> Sequence[Check]:
        try:
            return look()
        except TurnlogError as error:
            means, mend = "Mend what is above first.", f"{FLASK} doctor"
            if isinstance(error, StoreBusy) and self.settings.store_kind == "supabase":
                means = "A call through Supabase's API may take 8 seconds; a large log needs longer."
                mend = f"DATABASE_URL=… {FLASK} doctor  # the project's connection string, instead of SUPABASE_URL"
            return [Check(label, "", [Finding(f"it can't be looked at: {error}", means, [mend])])]

    def unreachable(self, error: TurnlogError) -> Check:
        """Return the check of a database that can't be used at all."""
        if isinstance(error, SchemaMissing):
            return Check("schema", "", [Finding(str(error), "Nothing can be stored yet.", self._make_schema())])
        if not isinstance(error, StoreUnavailable):
            return Check("database", "", [Finding(str(error), "The service can't use it.", [f"{FLASK} doctor"])])
        mend = {
            "embedded": "make run",
            "postgres": 'pg_isready --dbname "$DATABASE_URL"  # is it started, and is that its address?',
            "supabase": 'curl -i "$SUPABASE_URL/rest/v1/"  # is the project paused, and is that its address?',
        }[self.settings.store_kind]
        means = "Writes are kept on this machine's disk meanwhile, reads fail."
        return Check("database", "", [Finding(str(error), means, [mend])])

    def _make_schema(self) -> Sequence[str]:
        remedies = Remedies(self.settings.store_kind)
        # what was pushed once isn't pushed again
        return [*remedies.migrate, *remedies.restore] if self.settings.store_kind == "supabase" else remedies.migrate

    def _ask(self, operation: ops.Operation[ops.Q, ops.A], query: ops.Q, seconds: float = _ANSWER_S) -> ops.A:
        return self.database.examine(operation, query, seconds)


def _table(names: Names, address: str) -> Check:
    label = f"table {names.table}"
    try:
        with foreign_tables(address) as tables:
            table = identify(names, tables.describe)
            answer = tables.inspect(table)
    except (UnclearError, TurnlogError) as error:
        options = ["--help"] if isinstance(error, UnclearError) else []
        again = command("doctor", "--table", names.table, *options)
        return Check(label, "", [Finding(str(error), "It hasn't been looked at.", [again])])
    told = f"{number_of(answer['rows'], 'row')}, no orphans, no missing and no repeated identities"
    return Check(label, told, list(_foreign_findings(table, answer)))


def _foreign_findings(table: ForeignTable, answer: dict[str, Any]) -> Iterator[Finding]:
    needs_parent = table.parent is not None and (answer["blank_sessions"] or answer["missing"]["sessions"])
    fills = [part for column in table.parent_needs for part in ("--set", f"{column}=VALUE")] if needs_parent else []
    mend = [table.repair(*fills, "--apply")]
    if answer["blank_ids"]:
        yield Finding(
            f"{number_of(answer['blank_ids'], 'row')} without {table.id.column}",
            "It is null, nil, blank or a word like 'null': nobody can name them.",
            mend,
        )
    if answer["blank_sessions"]:
        yield Finding(
            f"{number_of(answer['blank_sessions'], 'row')} without {table.session}",
            "It is null, nil, blank or a word like 'null': they belong to no conversation, or to one that all share.",
            mend,
        )
    missing = answer.get("missing", {"sessions": 0})
    if missing["sessions"] and table.parent is not None:
        yield Finding(
            f"{number_of(missing['rows'], 'row')} of {number_of(missing['sessions'], 'session')} that "
            f"{table.parent.relation} lacks: {some(missing['examples'], missing['sessions'])}",
            "They are lost to everything that begins with the sessions, and a foreign key can't be made.",
            mend,
        )
    if (repeated := answer["repeated"])["values"]:
        values = ", ".join(text(each) for each in repeated["examples"])
        column = name(table.id.column)
        yield Finding(
            f"{number_of(repeated['values'], 'repeated ' + table.id.column, f'repeated values of {table.id.column}')} "
            f"in {repeated['rows']:,} rows: {some(repeated['examples'], repeated['values'])}",
            "Nobody but you can tell which row is right: look at them, and delete the others by their ctid.",
            [f"select ctid, * from {table.relation} where {column}::text in ({values}) order by {column};"],
        )
