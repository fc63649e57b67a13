-- Users whose records were erased: late records of theirs are rejected.
create table if not exists turnlog.ai_erased_users (
    project     text        not null,
    user_hash   bytea       not null,               -- see turnlog.user_hash: the name is erased, too
    erased_at   timestamptz not null,               -- records received before are rejected
    finished_at timestamptz,                        -- null: in progress, or interrupted until the next call
    counts      jsonb       not null,               -- what was erased so far
    constraint ai_erased_users_pkey primary key (project, user_hash)
);
