-- Participants of sessions.
create table if not exists turnlog.ai_session_participants (
    project     text        not null,
    session_id  uuid        not null,
    participant text        not null,
    role        text,
    state       text,                                   -- null: unknown, as of one that only an interaction names
    created_at  timestamptz not null,
    constraint ai_session_participants_pkey primary key (project, session_id, participant),
    constraint ai_session_participants_session_fkey foreign key (project, session_id)
        references turnlog.ai_sessions (project, id),
    constraint ai_session_participants_participant_check check (participant !~ '^\s*$' and length(participant) <= 200),
    constraint ai_session_participants_state_check check (state in ('reserved', 'confirmed', 'joined', 'left'))
);

create index if not exists ai_session_participants_participant_idx
    on turnlog.ai_session_participants (project, participant, session_id);
