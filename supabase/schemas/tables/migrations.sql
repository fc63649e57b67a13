-- Applied releases, whether by `migrate`, by `supabase db push` or by hand in an SQL editor.
create table if not exists turnlog.migrations (
    version    text        not null,
    applied_at timestamptz not null default statement_timestamp(),
    constraint migrations_pkey primary key (version)
);
-- The first row's names the database: see turnlog.database_id. Also for a table made before the column was.
alter table turnlog.migrations add column if not exists database_id uuid not null default gen_random_uuid();
