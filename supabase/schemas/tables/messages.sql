-- Messages of prompts, contexts and responses that are lists, each once in its session: a client that keeps nothing sends
-- the whole history with every call. A row holds the messages by which a history goes on from an earlier one. An
-- interaction has the ids of the rows with which its own end: see turnlog.by_content.
create table if not exists turnlog.ai_messages (
    project        text        not null,
    session_id     uuid        not null,
    id             uuid        not null,            -- derives from the whole history up to here: see turnlog.history_id
    after          uuid,                            -- the history that it goes on from; null: it begins here
    count          integer     not null,            -- of the whole history's messages
    bytes          integer     not null,            -- of the whole history, as text
    messages       jsonb       not null,
    constraint ai_messages_pkey primary key (project, session_id, id),
    constraint ai_messages_session_fkey foreign key (project, session_id)
        references turnlog.ai_sessions (project, id),
    constraint ai_messages_messages_check check (jsonb_typeof(messages) = 'array')
);

do $$
begin
    alter table turnlog.ai_messages alter column messages set compression lz4;
exception when feature_not_supported then
    raise notice 'this PostgreSQL was built without lz4: messages keep pglz';
end
$$;
