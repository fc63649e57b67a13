-- What was said of an interaction and isn't shown: attempts, answers that a further one replaced, and what contradicts
-- with `on_conflict` 'revise'.
create table if not exists turnlog.ai_revisions (
    project        text        not null,
    session_id     uuid        not null,
    interaction_id uuid        not null,
    id             uuid        not null default gen_random_uuid(),
    facts          jsonb       not null,            -- field -> value, as turnlog.statement; some may be shown, too
    said_at        timestamptz not null,
    created_at     timestamptz not null,            -- when the service first received it
    constraint ai_revisions_pkey primary key (project, session_id, interaction_id, id),
    constraint ai_revisions_session_fkey foreign key (project, session_id)
        references turnlog.ai_sessions (project, id),
    constraint ai_revisions_facts_check check (jsonb_typeof(facts) = 'object')
);
