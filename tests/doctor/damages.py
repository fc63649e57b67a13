"""What can be wrong with a database, one thing at a time.

Each is the SQL that breaks it, the check that has to find it, words of the finding and of a command that fixes it.
"""

from logging_store.postgres import catalogue

#: What supabase/schemas/access.sql does to whatever is in the schema.
CLOSED = (
    "revoke all on all functions in schema turnlog from public;"
    "grant execute on all functions in schema turnlog to service_role;"
)
NIL = "00000000-0000-0000-0000-000000000000"
STRAY = "57a40000-0000-4000-8000-000000000001"


def unseen_by(check: str, sql: str) -> str:
    """Return SQL that does something that a check (`table.name`) would refuse, and leaves the check as it was."""
    table, _, name = check.partition(".")
    definition = catalogue.expected()["constraints"][check]
    return (
        f"alter table turnlog.{table} drop constraint {name}; {sql};"
        f" alter table turnlog.{table} add constraint {name} {definition} not valid;"
        f" update pg_catalog.pg_constraint set convalidated = true where conname = '{name}'"
    )


SHAPE = {
    "an index is gone": (
        "drop index turnlog.ai_sessions_newest_idx",
        "indexes", "ai_sessions_newest_idx is missing", "CREATE INDEX ai_sessions_newest_idx",
    ),
    "an index is another": (
        "drop index turnlog.ai_sessions_tags_idx; create index ai_sessions_tags_idx on turnlog.ai_sessions (tags)",
        "indexes", "USING btree (tags)", "drop index turnlog.ai_sessions_tags_idx",
    ),
    "an index of a key is gone": (
        "drop index turnlog.ai_sessions_project_key_key",
        "indexes", "ai_sessions_project_key_key is missing", "CREATE UNIQUE INDEX",
    ),
    "a unique index is too many": (
        "create unique index one_title on turnlog.ai_sessions (title)",
        "indexes", "one_title isn't Turnlog's", "drop index turnlog.one_title",
    ),
    "a foreign key is gone": (
        "alter table turnlog.ai_interactions drop constraint ai_interactions_session_fkey",
        "constraints", "ai_interactions_session_fkey is missing", "ai_interactions_session_fkey FOREIGN KEY",
    ),
    "a primary key is gone": (
        "alter table turnlog.ai_interactions drop constraint ai_interactions_pkey",
        "constraints", "ai_interactions_pkey is missing", "add constraint ai_interactions_pkey PRIMARY KEY",
    ),
    "a constraint was never checked": (
        ("alter table turnlog.ai_interactions drop constraint ai_interactions_session_fkey,"
        " add constraint ai_interactions_session_fkey foreign key (project, session_id)"
        " references turnlog.ai_sessions (project, id) not valid"),
        "constraints", "was never validated for existing rows", "validate constraint ai_interactions_session_fkey",
    ),
    "a foreign key is switched off": (
        "alter table turnlog.ai_interactions disable trigger all",
        "constraints", "ai_interactions_session_fkey is disabled", "enable trigger all",
    ),
    "a check allows more": (
        ("alter table turnlog.ai_sessions drop constraint ai_sessions_status_check,"
        " add constraint ai_sessions_status_check check (status <> '')"),
        "constraints", "ai_sessions_status_check is", "drop constraint ai_sessions_status_check",
    ),
    "a constraint is too many": (
        "alter table turnlog.ai_sessions add constraint must_be_titled check (title is not null)",
        "constraints", "must_be_titled isn't Turnlog's", "drop constraint must_be_titled",
    ),
    "a column is gone": (
        "alter table turnlog.ai_interactions drop column turn",
        "columns", "ai_interactions.turn is missing", "add column turn bigint",
    ),
    "a column has another type": (
        "alter table turnlog.ai_sessions alter column title type varchar(50)",
        "columns", "ai_sessions.title is character varying(50), not text", "type text using title::text",
    ),
    "a column may be empty": (
        "alter table turnlog.ai_sessions alter column created_at drop not null",
        "columns", "not timestamp with time zone not null", "alter column created_at set not null",
    ),
    "a column has no default": (
        "alter table turnlog.ai_sessions alter column status drop default",
        "columns", "not text not null default 'open'::text", "set default 'open'::text",
    ),
    "a column has to be filled by others": (
        "alter table turnlog.ai_sessions add column tenant text not null",
        "columns", "ai_sessions.tenant isn't Turnlog's and has no default, but is not null",
        "alter column tenant drop not null",
    ),
    "a table isn't logged": (
        "alter table turnlog.ai_interactions set unlogged",
        "tables", "the table ai_interactions is unlogged", "set logged",
    ),
    "a trigger swallows rows": (
        ("create function public.swallow() returns trigger language plpgsql as 'begin return null; end';"
        'create trigger "Swallow" before insert on turnlog.ai_sessions for each row execute function public.swallow()'),
        "triggers", "Swallow isn't Turnlog's", 'drop trigger "Swallow" on turnlog.ai_sessions',
    ),
    "a rule swallows rows": (
        "create rule swallow as on insert to turnlog.ai_interactions do instead nothing",
        "triggers", "the rule ai_interactions.swallow", "drop rule swallow on turnlog.ai_interactions",
    ),
    "row-level security is off": (
        "alter table turnlog.ai_sessions disable row level security",
        "row-level security", "row-level security of ai_sessions is off", "enable row level security",
    ),
    "row-level security is forced": (
        "alter table turnlog.ai_interactions force row level security",
        "row-level security", "ai_interactions is forced", "no force row level security",
    ),
    "a policy lets others in": (
        "create policy everyone on turnlog.ai_sessions using (true)",
        "row-level security", "ai_sessions.everyone isn't Turnlog's", "drop policy everyone on turnlog.ai_sessions",
    ),
    "a function says something else": (
        ("create or replace function turnlog.erase(request jsonb) returns jsonb"
        " language sql as 'select request'"),
        "functions", "turnlog.erase(jsonb) has been changed: body, settings, traits", "turnlog migrate",
    ),
    "a function has another setting": (
        "alter function turnlog.write(jsonb) reset lock_timeout",
        "functions", "turnlog.write(jsonb) has been changed: settings", "turnlog migrate",
    ),
    "a function runs as its owner": (
        "alter function turnlog.sessions(jsonb) security definer",
        "functions", "turnlog.sessions(jsonb) has been changed: traits", "turnlog migrate",
    ),
    "a function answers otherwise": (
        ("drop function turnlog.erase(jsonb);"
        "create function turnlog.erase(request jsonb) returns json"
        " language sql as 'select null::json';"
        + CLOSED),
        "functions", "turnlog.erase(jsonb) has been changed: body, result", "drop function turnlog.erase",
    ),
    "a function is gone": (
        "drop function turnlog.purge_project(jsonb)",
        "functions", "turnlog.purge_project(jsonb) is missing", "turnlog migrate",
    ),
    "a function has a double": (
        ("create function turnlog.session(request json) returns json language sql as 'select request';"
        + CLOSED),
        "functions", "turnlog.session(json) isn't Turnlog's", "drop function turnlog.session(json)",
    ),
    "the schema has lost its mark": (
        "comment on schema turnlog is null",
        "tables", "the schema turnlog has lost the comment", "comment on schema turnlog is",
    ),
    "Supabase's door has lost its mark": (
        "comment on function public.turnlog(text, jsonb) is null",
        "functions", "public.turnlog(text,jsonb) has lost the comment", "comment on function public.turnlog(",
    ),
}  # fmt: skip

RIGHTS = {
    "a stranger reads": (
        "grant select on turnlog.ai_sessions to anon",
        "grants", "anon has SELECT on turnlog.ai_sessions", "revoke SELECT on table turnlog.ai_sessions from anon",
    ),
    "a stranger reads one column": (
        "grant select (prompt), update (prompt) on turnlog.ai_interactions to authenticated",
        "grants", "authenticated has SELECT, UPDATE (prompt)", "revoke SELECT (prompt), UPDATE (prompt) on table",
    ),
    "everybody may call": (
        "grant execute on function turnlog.write(jsonb) to public",
        "grants", "public has EXECUTE on turnlog.write(jsonb)", "from public",
    ),
    "another role reads": (
        "grant select on turnlog.ai_sessions to authenticator",
        "grants", "authenticator has SELECT", "from authenticator",
    ),
    "the service can't call": (
        "revoke execute on function turnlog.erase(jsonb) from service_role",
        "grants", "service_role lacks EXECUTE on turnlog.erase(jsonb)", "",
    ),
    "everybody may knock": (
        "grant execute on function public.turnlog(text, jsonb) to anon",
        "grants", "anon has EXECUTE on public.turnlog(text,jsonb)", "from anon",
    ),
    "the service can't write": (
        "revoke insert on turnlog.ai_interactions from service_role",
        "grants", "service_role lacks INSERT on turnlog.ai_interactions", "",
    ),
    "commits don't wait for the disk, for a role": (
        ("do $$ begin execute format("
        "'alter role service_role in database %I set synchronous_commit = off', current_database());"
        " end $$"),
        "durability", "synchronous_commit is off for the role service_role in database", "reset synchronous_commit",
    ),
    "commits don't wait for the disk, for the database": (
        "do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$",
        "durability", "synchronous_commit is off for the database", "alter database",
    ),
    "foreign keys aren't checked, for the database": (
        ("do $$ begin execute format("
        "'alter database %I set session_replication_role = replica', current_database()); end $$"),
        "durability", "session_replication_role is replica for the database", "reset session_replication_role",
    ),
}  # fmt: skip

SESSION = f"insert into turnlog.ai_sessions (project, id, key, created_at) values ('default', '{NIL}', null, now());"
ROWS = {
    "interactions without a session": (
        ("set session_replication_role = replica;"
        "insert into turnlog.ai_interactions (project, session_id, id, created_at)"
        f" select 'default', '{STRAY}', gen_random_uuid(), now() from generate_series(1, 5)"),
        "rows", f'5 rows of ai_interactions without ai_sessions: ["default", "{STRAY}"]', "insert into",
    ),
    "a session without an identity": (
        unseen_by(
            "ai_sessions.ai_sessions_id_check",
            f"{SESSION} insert into turnlog.ai_interactions (project, session_id, id, created_at)"
            f" values ('default', '{NIL}', '{STRAY}', now())",
        ),
        "rows", "1 row of ai_sessions whose id is nil", "with renamed as",
    ),
    "an interaction without an identity": (
        unseen_by(
            "ai_interactions.ai_interactions_id_check",
            SESSION.replace(NIL, STRAY) + "insert into turnlog.ai_interactions (project, session_id, id, created_at)"
            f" values ('default', '{STRAY}', '{NIL}', now())",
        ),
        "rows", "1 row of ai_interactions whose id is nil", "update turnlog.ai_interactions set id",
    ),
    "a key that is a missing one": (
        unseen_by(
            "ai_sessions.ai_sessions_key_check",
            SESSION.replace(NIL, STRAY).replace("null,", "'Undefined',"),
        ),
        "rows", "1 row of ai_sessions whose key is nil, blank or a word like 'null'", "set key = null",
    ),
    "an erased session that still has interactions": (
        (f"{SESSION.replace(NIL, STRAY)} update turnlog.ai_sessions set erased_at = now();"
        "insert into turnlog.ai_interactions (project, session_id, id, created_at)"
        f" values ('default', '{STRAY}', '{STRAY}', now())"),
        "rows", "1 interaction of erased sessions", "delete from turnlog.ai_interactions",
    ),
}  # fmt: skip

#: What keeps Supabase's API from reaching anything, so that only whoever has DATABASE_URL sees what it is.
DOOR = {
    "Supabase's door is gone": (
        "drop function public.turnlog(text, jsonb)",
        "functions", "public.turnlog(text,jsonb) is missing", "turnlog migrate",
    ),
    "Supabase's door does something else": (
        ("create or replace function public.turnlog(operation text, request jsonb default '{}') returns jsonb"
        " language sql set search_path = '' as 'select request'"),
        "functions", "public.turnlog(text,jsonb) has been changed: body", "turnlog migrate",
    ),
    "Supabase's door is somebody else's": (
        ("drop function public.turnlog(text, jsonb);"
        "create function public.turnlog(operation text, request jsonb default '{}') returns jsonb"
        " language sql as 'select request';"
        "revoke all on function public.turnlog(text, jsonb) from public, anon, authenticated"),
        "functions", "public.turnlog(text,jsonb) isn't Turnlog's", "alter function public.turnlog(text,jsonb) rename",
    ),
    "Supabase's door has a double": (
        "create function public.turnlog(request json, operation text) returns json language sql as 'select request'",
        "functions", "public.turnlog(json,text) isn't Turnlog's", "alter function public.turnlog(json,text) rename",
    ),
    "the service can't knock": (
        "revoke execute on function public.turnlog(text, jsonb) from service_role",
        "grants", "service_role lacks EXECUTE on public.turnlog(text,jsonb)", "turnlog migrate",
    ),
}  # fmt: skip

DAMAGES = SHAPE | RIGHTS | ROWS
