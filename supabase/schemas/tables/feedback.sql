-- Feedback of people on an interaction or on a whole session, which they may change and take back.
create table if not exists turnlog.ai_feedback (
    project        text        not null,
    session_id     uuid        not null,
    interaction_id uuid        not null,            -- it may arrive later: writes are indifferent to order. The nil UUID
                                                    --   stands for the session, since a key can't be null
    author         text        not null,            -- '': unknown, so the user of the session
    name           text        not null,            -- rating, score, note, or any other name
    value          jsonb,                           -- a number, a boolean or a text; null: taken back
    comment        text,
    given_at       timestamptz not null,            -- the latest one counts
    created_at     timestamptz not null,            -- when the service first received any
    constraint ai_feedback_pkey primary key (project, session_id, interaction_id, author, name),
    -- To the session, as all of its children have: every write and erasure holds its lock. Not to the interaction, which
    -- may still be spooled somewhere when its feedback arrives.
    constraint ai_feedback_session_fkey foreign key (project, session_id)
        references turnlog.ai_sessions (project, id),
    constraint ai_feedback_author_check check ((author = '' or author !~ '^\s*$') and length(author) <= 200),
    constraint ai_feedback_name_check check (name !~ '^\s*$' and length(name) <= 200),
    constraint ai_feedback_value_check check (jsonb_typeof(value) in ('number', 'boolean', 'string')),
    constraint ai_feedback_comment_check check (comment is null or comment <> '' and value is not null)
);

-- Finds the sessions that people rated up or down.
create index if not exists ai_feedback_rating_idx
    on turnlog.ai_feedback (project, value, session_id) where name = 'rating' and jsonb_typeof(value) = 'boolean';
create index if not exists ai_feedback_author_idx
    on turnlog.ai_feedback (project, author, session_id, interaction_id, name);
