"""The rules of Supabase's database linter (splinter), as far as they are about a schema, hold for ours.

Written anew from their descriptions at https://supabase.github.io/splinter. Its rules on policies come down to one, as
there are none; those on bloat and on unused indexes tell of a database at work, not of a schema.
"""

from dataclasses import dataclass

import psycopg
import pytest

from logging_store.postgres import catalogue

pytestmark = pytest.mark.own_database

#: The schemas that are ours, or that Supabase's API shows.
LOOKED_AT = (
    "create or replace temporary view looked_at as select oid from pg_namespace where nspname in ('public', 'turnlog')"
)


@dataclass
class Rule:
    """`query` finds what breaks the rule; `broken_by` is SQL that breaks it, and `offender` what must be found then."""

    query: str
    broken_by: str
    offender: str


RULES = {
    "unindexed_foreign_keys": Rule(
        """select c.conrelid::regclass::text || '.' || c.conname
             from pg_constraint as c
            where c.contype = 'f' and not exists (
                  select from pg_index as i
                   where i.indrelid = c.conrelid and i.indisvalid
                     and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) ~ '^\\(\\w+ IS NOT NULL\\)$')
                     and (i.indkey::smallint[])[0:cardinality(c.conkey) - 1] @> c.conkey)""",
        """create table public.parent (a int primary key);
           create table public.child (b int primary key, a int constraint lost references public.parent)""",
        "child.lost",
    ),
    "auth_users_exposed": Rule(
        """select d.objid::regclass::text
             from pg_depend as d
             join pg_class as c on c.oid = d.refobjid and c.relnamespace = 'auth'::regnamespace
             join pg_class as o on o.oid = d.objid and o.relnamespace in (select oid from looked_at)
            union
           select r.ev_class::regclass::text
             from pg_rewrite as r
             join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
             join pg_class as c on c.oid = d.refobjid and c.relnamespace = 'auth'::regnamespace""",
        "create view public.people as select * from auth.users",
        "people",
    ),
    "no_primary_key": Rule(
        """select c.oid::regclass::text from pg_class as c
            where c.relnamespace in (select oid from looked_at) and c.relkind in ('r', 'p')
              and not exists (select from pg_index as i where i.indrelid = c.oid and i.indisprimary)""",
        "create table public.heap (a int)",
        "heap",
    ),
    "policy_exists": Rule(
        # nobody is let in row by row: a policy would be the start of it
        "select schemaname || '.' || tablename || '.' || policyname from pg_policies"
        " where schemaname in ('public', 'turnlog')",
        "create policy everybody on turnlog.ai_sessions using (true)",
        "turnlog.ai_sessions.everybody",
    ),
    "duplicate_index": Rule(
        """select later.indexrelid::regclass::text
             from pg_index as first
             join pg_index as later on later.indrelid = first.indrelid and later.indexrelid > first.indexrelid
              and later.indkey = first.indkey and later.indclass = first.indclass
              and later.indoption = first.indoption and later.indisunique = first.indisunique
              and coalesce(pg_get_expr(later.indpred, later.indrelid), '')
                = coalesce(pg_get_expr(first.indpred, first.indrelid), '')
              and coalesce(pg_get_expr(later.indexprs, later.indrelid), '')
                = coalesce(pg_get_expr(first.indexprs, first.indrelid), '')
             join pg_class as c on c.oid = first.indrelid and c.relnamespace in (select oid from looked_at)""",
        "create unique index twin on turnlog.ai_keys (project, id)",
        "turnlog.twin",
    ),
    "invalid_index": Rule(
        "select indexrelid::regclass::text from pg_index where not (indisvalid and indisready and indislive)",
        "update pg_index set indisvalid = false where indexrelid = 'turnlog.ai_sessions_tags_idx'::regclass",
        "turnlog.ai_sessions_tags_idx",
    ),
    "security_definer_view": Rule(
        """select c.oid::regclass::text from pg_class as c
            where c.relnamespace in (select oid from looked_at) and c.relkind = 'v'
              and not coalesce(c.reloptions, '{}') && '{security_invoker=true,security_invoker=on}'""",
        "create view public.everything as select * from turnlog.ai_sessions",
        "everything",
    ),
    "function_search_path_mutable": Rule(
        """select p.oid::regprocedure::text from pg_proc as p
            where p.pronamespace in (select oid from looked_at)
              and not exists (select from unnest(p.proconfig) as c (setting) where c.setting = 'search_path=\"\"')""",
        "create function public.loose() returns int language sql as 'select 1'",
        "loose()",
    ),
    "security_definer_function": Rule(
        "select p.oid::regprocedure::text from pg_proc as p"
        " where p.pronamespace in (select oid from looked_at) and p.prosecdef",
        "create function public.lends() returns int language sql security definer set search_path = '' as 'select 1'",
        "lends()",
    ),
    "rls_disabled_in_public": Rule(
        """select c.oid::regclass::text from pg_class as c
            where c.relnamespace in (select oid from looked_at) and c.relkind in ('r', 'p')
              and not c.relrowsecurity""",
        "alter table turnlog.ai_keys disable row level security",
        "turnlog.ai_keys",
    ),
    "extension_in_public": Rule(
        "select extname from pg_extension where extnamespace in (select oid from looked_at)",
        "update pg_extension set extnamespace = 'public'::regnamespace where extname = 'plpgsql'",
        "plpgsql",
    ),
    "materialized_view_or_foreign_table_in_api": Rule(
        """select c.oid::regclass::text from pg_class as c
            where c.relnamespace in (select oid from looked_at) and c.relkind in ('m', 'f')""",
        "create materialized view public.copied as select * from turnlog.ai_sessions",
        "copied",
    ),
    "unsupported_reg_types": Rule(
        """select a.attrelid::regclass::text || '.' || a.attname
             from pg_attribute as a join pg_class as c on c.oid = a.attrelid and c.relkind in ('r', 'p')
            where c.relnamespace in (select oid from looked_at) and a.attnum > 0
              and a.atttypid in ('regcollation'::regtype, 'regconfig'::regtype, 'regdictionary'::regtype,
                  'regnamespace'::regtype, 'regoper'::regtype, 'regoperator'::regtype, 'regproc'::regtype,
                  'regprocedure'::regtype)""",
        "alter table turnlog.ai_keys add column made_by regproc",
        "turnlog.ai_keys.made_by",
    ),
    "autovacuum_disabled": Rule(
        "select oid::regclass::text from pg_class"
        " where reloptions && '{autovacuum_enabled=false,autovacuum_enabled=off}'",
        "alter table turnlog.ai_keys set (autovacuum_enabled = false)",
        "turnlog.ai_keys",
    ),
}


def offenders(connection: psycopg.Connection, rule: Rule) -> list[str]:
    # on Supabase there is a schema of its sign-in's users
    connection.execute("create schema if not exists auth; create table if not exists auth.users (id uuid primary key)")
    connection.execute(LOOKED_AT)
    return [offender for (offender,) in connection.execute(rule.query.encode())]


@pytest.mark.parametrize("name", RULES)
def test_the_schema_passes_supabases_linter(database: str, name: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        assert offenders(connection, RULES[name]) == []


@pytest.mark.parametrize("name", RULES)
def test_each_rule_finds_a_violation(database: str, name: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create schema auth; create table auth.users (id uuid primary key)")
        connection.execute(RULES[name].broken_by.encode())
        assert RULES[name].offender in offenders(connection, RULES[name])


def test_no_table_has_a_policy_on_purpose(database: str) -> None:
    # the linter notes it (rls_enabled_no_policy): without policies nobody but the service gets past
    with psycopg.connect(database, autocommit=True) as connection:
        found = connection.execute(
            "select c.relname from pg_class as c where c.relnamespace = 'turnlog'::regnamespace and c.relrowsecurity"
            " and not exists (select from pg_policy as p where p.polrelid = c.oid) order by 1"
        ).fetchall()
    assert [name for (name,) in found] == sorted(catalogue.tables())
