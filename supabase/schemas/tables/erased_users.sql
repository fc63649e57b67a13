-- Users whose records were erased: what arrives late for them is refused.
create table if not exists turnlog.ai_erased_users (
    project     text        not null,
    user_hash   bytea       not null,               -- see turnlog.user_hash: the name is gone, too
    erased_at   timestamptz not null,               -- what was received before and arrives later is refused
    finished_at timestamptz,                        -- null: the erasure was cut, and goes on when it is asked for again
    counts      jsonb       not null,               -- what it has taken away so far
    constraint ai_erased_users_pkey primary key (project, user_hash)
);
