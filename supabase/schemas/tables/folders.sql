-- Folders of numbered sessions.
create table if not exists turnlog.ai_session_folders (
    project           text        not null,
    id                uuid        not null,
    key               text,                             -- the caller's own id; the id derives from it
    name              text,
    user_id           text,
    sessions_per_week integer,                          -- the plan: numbered sessions per week,
    total_weeks       integer,                          --   for how many weeks,
    starts_on         date,                             --   and the first day, if it is known
    metadata          jsonb,
    implicit          boolean     not null default false, -- created for a session, not by a caller yet
    created_at        timestamptz not null,
    erased_at         timestamptz,                      -- when its name, user and metadata were last erased
    constraint ai_session_folders_pkey primary key (project, id),
    constraint ai_session_folders_project_check check (project <> ''),
    constraint ai_session_folders_id_check check (id <> '00000000-0000-0000-0000-000000000000'),
    constraint ai_session_folders_key_check check (key !~* '^(\s*|null|undefined|none)$' and length(key) <= 200),
    constraint ai_session_folders_plan_check check (
        (sessions_per_week is null) = (total_weeks is null) and sessions_per_week > 0 and total_weeks > 0
        and (starts_on is null or total_weeks is not null)),
    constraint ai_session_folders_metadata_check check (jsonb_typeof(metadata) = 'object')
);

-- A second line of defence: ids derive from keys already.
create unique index if not exists ai_session_folders_project_key_key
    on turnlog.ai_session_folders (project, key) where key is not null;
create index if not exists ai_session_folders_user_idx
    on turnlog.ai_session_folders (project, user_id, id) where user_id is not null;
