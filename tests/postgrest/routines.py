"""The schema cache: which functions there are, read once and again on `reload()`, as PostgREST does.

A call fits a function when it names all parameters without a default and no others. A function made after
the cache was read is unknown, and one dropped since is called in vain.
"""

import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from tests.postgrest import answers
from tests.postgrest.answers import RefusalError
from tests.postgrest.bodies import Arguments

ROUTINES = """
    select p.proname, p.proretset, p.prorettype = 'void'::regtype, coalesce(p.proconfig, '{}'),
           p.provolatile = 'v', p.pronargdefaults, coalesce(p.proargnames, '{}'), p.proargmodes::text[],
           array(select format_type(t.type, null)
                 from unnest(p.proargtypes) with ordinality t(type, place) order by t.place)
    from pg_proc p
    where p.pronamespace = to_regnamespace(%s) and p.prokind = 'f'
"""
# PostgREST reads the settings that a role has in all databases; those for this database count here too, so
# that a test can set them without touching its neighbours on the same server.
ROLE_SETTINGS = """
    select r.rolname, s.setting
    from pg_db_role_setting d
    join pg_roles r on r.oid = d.setrole
    cross join unnest(d.setconfig) s(setting)
    join pg_settings known on known.name = split_part(s.setting, '=', 1) and known.context = 'user'
    where d.setdatabase in (0, (select oid from pg_database where datname = current_database()))
    order by d.setdatabase
"""
# Settings of a function that PostgREST applies to the transaction, since inside the function it is too late.
HOISTED_TIMEOUT, HOISTED_ISOLATION = "statement_timeout", "default_transaction_isolation"
OBJECT_BODY = sql.SQL("json_to_record($1) as pgrst_body({}),")
LIST_BODY = sql.SQL("(select * from json_to_recordset($1) as _({}) limit 1) as pgrst_body,")
INPUT_MODES = frozenset("ibv")
NAME_SIMILARITY, PARAMETER_SIMILARITY = 0.75, 0.33

_statement_numbers = itertools.count(1)


@dataclass(frozen=True)
class Parameter:
    name: str
    type: str
    has_default: bool


@dataclass(frozen=True)
class Statement:
    """A call in SQL, with one parameter (the JSON text) or none; the name is unique in this process."""

    name: bytes
    text: bytes
    has_body: bool


@dataclass
class Routine:
    """One function. Its statements are made when first called, one for each choice of arguments."""

    schema: str
    name: str
    parameters: tuple[Parameter, ...]
    returns_set: bool
    returns_void: bool
    settings: Mapping[str, str]
    isolation: str | None
    may_write: bool  # what isn't volatile runs in a transaction that is read-only
    _statements: dict[tuple[tuple[str, ...], bool], Statement] = field(default_factory=dict)

    def accepts(self, names: Sequence[str]) -> bool:
        given = set(names)
        required = {p.name for p in self.parameters if not p.has_default}
        return required <= given <= {p.name for p in self.parameters}

    def statement(self, arguments: Arguments) -> Statement:
        key = (arguments.names, arguments.is_list)
        if key not in self._statements:  # two threads may both make one: either will do
            self._statements[key] = self._make_statement(arguments)
        return self._statements[key]

    def _make_statement(self, arguments: Arguments) -> Statement:
        given = [p for p in self.parameters if p.name in arguments.names]
        result = (
            "null"
            if self.returns_void
            else "coalesce(json_agg(pgrst_call), '[]')"
            if self.returns_set
            else "coalesce(to_json(pgrst_call), 'null')"
        )
        text = sql.SQL(
            "select {result}::text, current_setting('response.status', true),"
            " current_setting('response.headers', true) from {body} {function}({arguments}) as pgrst_call"
        ).format(
            result=sql.SQL(result),
            body=_body_source(given, is_list=arguments.is_list),
            function=sql.Identifier(self.schema, self.name),
            arguments=sql.SQL(", ").join(
                sql.SQL("{} := {}").format(sql.Identifier(p.name), sql.Identifier("pgrst_body", p.name)) for p in given
            ),
        )
        number = next(_statement_numbers)
        return Statement(f"call_{number}".encode(), text.as_bytes(), has_body=bool(given))


@dataclass(frozen=True)
class SchemaCache:
    schema: str
    routines: Mapping[str, Sequence[Routine]]
    role_settings: Mapping[str, Mapping[str, str]]

    def find(self, name: str, arguments: Arguments) -> Routine:
        overloads = self.routines.get(name, [])
        fitting = [routine for routine in overloads if routine.accepts(arguments.names)]
        if not fitting:
            raise RefusalError(self._unknown(name, arguments.names, overloads))
        if len(fitting) > 1:
            raise RefusalError(_ambiguous(fitting))
        return fitting[0]

    def _unknown(self, name: str, given: Sequence[str], overloads: Sequence[Routine]) -> answers.Answer:
        called = f"{self.schema}.{name}"
        listed = ", ".join(given)
        without = " without parameters"
        searched = f" with parameter{'s' if len(given) > 1 else ''} {listed}" if given else without
        details = (
            f"Searched for the function {called}{searched} or with a single unnamed json/jsonb parameter,"
            " but no matches were found in the schema cache."
        )
        # PostgREST compares trigrams; difflib comes to the same hints for what was recorded.
        if overloads:
            known = [", ".join(sorted(p.name for p in routine.parameters)) for routine in overloads]
            near = difflib.get_close_matches(listed, known, n=1, cutoff=PARAMETER_SIMILARITY)
            suggestion = [f"{called}({match})" for match in near]
        else:
            near = difflib.get_close_matches(name, self.routines, n=1, cutoff=NAME_SIMILARITY)
            suggestion = [f"{self.schema}.{match}" for match in near]
        return answers.error(
            404,
            "PGRST202",
            f"Could not find the function {called}{f'({listed})' if given else without} in the schema cache",
            details=details,
            hint=f"Perhaps you meant to call the function {suggestion[0]}" if suggestion else None,
        )


def read_schema_cache(connection: psycopg.Connection[Any], schema: str) -> SchemaCache:
    routines: dict[str, list[Routine]] = {}
    for row in connection.execute(ROUTINES, [schema]):
        name, returns_set, returns_void, config, may_write, default_count, names, modes, types = row
        inputs = [n for n, mode in zip(names, modes or "i" * len(names), strict=True) if mode in INPUT_MODES]
        if len(inputs) != len(types):
            continue  # unnamed parameters can't be called by name
        first_default = len(types) - default_count
        parameters = tuple(
            Parameter(parameter, type_, place >= first_default)
            for place, (parameter, type_) in enumerate(zip(inputs, types, strict=True))
        )
        settings = dict(setting.split("=", 1) for setting in config)
        timeout = {key: value for key, value in settings.items() if key == HOISTED_TIMEOUT}
        isolation = settings.get(HOISTED_ISOLATION)
        routine = Routine(schema, name, parameters, returns_set, returns_void, timeout, isolation, may_write)
        routines.setdefault(name, []).append(routine)
    role_settings: dict[str, dict[str, str]] = {}
    for role, setting in connection.execute(ROLE_SETTINGS):
        key, _, value = setting.partition("=")
        role_settings.setdefault(role, {})[key] = value
    return SchemaCache(schema, routines, role_settings)


def _body_source(given: Sequence[Parameter], *, is_list: bool) -> sql.Composable:
    """Let Postgres read the arguments from the JSON text, so that what doesn't fit is told in its words."""
    if not given:
        return sql.SQL("")
    columns = [sql.SQL("{} {}").format(sql.Identifier(p.name), sql.SQL(p.type)) for p in given]
    return (LIST_BODY if is_list else OBJECT_BODY).format(sql.SQL(", ").join(columns))


def _ambiguous(fitting: Sequence[Routine]) -> answers.Answer:
    signatures = sorted(
        f"{r.schema}.{r.name}({', '.join(f'{p.name} => {p.type}' for p in r.parameters)})" for r in fitting
    )
    return answers.error(
        300,
        "PGRST203",
        f"Could not choose the best candidate function between: {', '.join(signatures)}",
        hint="Try renaming the parameters or the function itself in the database"
        " so function overloading can be resolved",
    )
