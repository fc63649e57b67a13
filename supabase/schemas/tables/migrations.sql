-- Which releases this database has, whoever brought them: `migrate`, `supabase db push` or a person with an editor.
create table if not exists turnlog.migrations (
    version    text        not null,
    applied_at timestamptz not null default statement_timestamp(),
    constraint migrations_pkey primary key (version)
);
