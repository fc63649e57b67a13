-- Applied releases, whether by `migrate`, by `supabase db push` or by hand in an SQL editor.
create table if not exists turnlog.migrations (
    version    text        not null,
    applied_at timestamptz not null default statement_timestamp(),
    constraint migrations_pkey primary key (version)
);
