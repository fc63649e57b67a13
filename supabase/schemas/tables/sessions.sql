-- Sessions. Every primary and foreign key starts with the project, so the tables distribute by it unchanged.
create table if not exists turnlog.ai_sessions (
    project        text        not null,
    id             uuid        not null,
    key            text,                               -- the caller's own id; the id derives from it
    user_id        text,
    claim          text,                               -- the owner, if it was opened with a publishable key; else its user is
    title          text,
    folder_id      uuid,
    session_number integer,                            -- within its folder
    scheduled_on   date,
    status         text        not null default 'open',
    implicit       boolean     not null default false, -- created for an interaction, not by a caller yet
    tags           text[],
    metadata       jsonb,
    started_at     timestamptz,
    ended_at       timestamptz,
    created_at     timestamptz not null,               -- when the service first received it
    earliest_turn_at timestamptz,                      -- when its earliest turn was said; see turnlog.date_sessions
    erased_at      timestamptz,                        -- set: a tombstone; all content is gone
    text_expired_at timestamptz,                       -- when its texts last expired; see turnlog.expire_texts
    edited         text[],                             -- fields changed by PATCH, which later writes neither fill nor contradict
    constraint ai_sessions_pkey primary key (project, id),
    constraint ai_sessions_folder_fkey foreign key (project, folder_id)
        references turnlog.ai_session_folders (project, id),
    constraint ai_sessions_project_check check (project <> ''),
    -- Placeholders of missing ids are rejected here, too, for clients that bypass the service.
    constraint ai_sessions_id_check check (id <> '00000000-0000-0000-0000-000000000000'),
    constraint ai_sessions_key_check check (key !~* '^(\s*|null|undefined|none)$' and length(key) <= 200),
    constraint ai_sessions_session_number_check check (
        session_number is null or session_number > 0 and folder_id is not null),
    constraint ai_sessions_status_check check (status in ('locked', 'open', 'closed')),
    constraint ai_sessions_metadata_check check (jsonb_typeof(metadata) = 'object')
);

-- A second line of defence: ids derive from keys already. Partial, so that the planner can't use them in place of the
-- primary key: on tables without statistics, foreign keys were checked by reading a project's whole index.
create unique index if not exists ai_sessions_project_key_key
    on turnlog.ai_sessions (project, key) where key is not null;
create unique index if not exists ai_sessions_folder_number_key
    on turnlog.ai_sessions (project, folder_id, session_number) where folder_id is not null;

-- Lists, newest first: all, of a user, by status, of a folder, implicit ones.
create index if not exists ai_sessions_newest_idx
    on turnlog.ai_sessions (project, (coalesce(started_at, earliest_turn_at, created_at)) desc, id desc) where erased_at is null;
create index if not exists ai_sessions_user_newest_idx
    on turnlog.ai_sessions (project, user_id, (coalesce(started_at, earliest_turn_at, created_at)) desc, id desc)
    where erased_at is null and user_id is not null;
create index if not exists ai_sessions_status_newest_idx
    on turnlog.ai_sessions (project, status, (coalesce(started_at, earliest_turn_at, created_at)) desc, id desc) where erased_at is null;
create index if not exists ai_sessions_folder_newest_idx
    on turnlog.ai_sessions (project, folder_id, (coalesce(started_at, earliest_turn_at, created_at)) desc, id desc)
    where erased_at is null and folder_id is not null;
create index if not exists ai_sessions_implicit_newest_idx
    on turnlog.ai_sessions (project, (coalesce(started_at, earliest_turn_at, created_at)) desc, id desc)
    where erased_at is null and implicit;
create index if not exists ai_sessions_metadata_idx
    on turnlog.ai_sessions using gin (metadata jsonb_path_ops) where metadata is not null;
create index if not exists ai_sessions_tags_idx
    on turnlog.ai_sessions using gin (tags) where tags is not null;
