-- Which releases this database has, whichever way they were applied: `migrate`, `supabase db push` or a person with an editor.
create table if not exists turnlog.migrations (
    version    text        not null,
    applied_at timestamptz not null default statement_timestamp(),
    constraint migrations_pkey primary key (version)
);
