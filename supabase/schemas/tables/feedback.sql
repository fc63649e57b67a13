-- Feedback: what people say of an interaction, which they may change their mind about.
create table if not exists turnlog.ai_feedback (
    project        text        not null,
    session_id     uuid        not null,
    interaction_id uuid        not null,            -- which may arrive later: writes are indifferent to order
    author         text        not null,            -- '': nobody has said who it is, as of the one who was talked to
    name           text        not null,            -- what is judged: rating, score, note, or any of the caller's own
    value          jsonb       not null,            -- a number, true or false, or a text
    comment        text,
    given_at       timestamptz not null,            -- of several statements the latest is what counts
    created_at     timestamptz not null,            -- when the service first received any of them
    constraint ai_feedback_pkey primary key (project, session_id, interaction_id, author, name),
    -- To the session, as all below it have: whoever writes or erases there holds its lock. Not to the interaction, which
    -- may still wait somewhere when somebody already judges it.
    constraint ai_feedback_session_fkey foreign key (project, session_id)
        references turnlog.ai_sessions (project, id),
    constraint ai_feedback_interaction_id_check check (interaction_id <> '00000000-0000-0000-0000-000000000000'),
    constraint ai_feedback_author_check check ((author = '' or author !~ '^\s*$') and length(author) <= 200),
    constraint ai_feedback_name_check check (name !~ '^\s*$' and length(name) <= 200),
    constraint ai_feedback_value_check check (jsonb_typeof(value) in ('number', 'boolean', 'string')),
    constraint ai_feedback_comment_check check (comment <> '')
);

create index if not exists ai_feedback_author_idx
    on turnlog.ai_feedback (project, author, session_id, interaction_id, name);
