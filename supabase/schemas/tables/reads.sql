-- Who read whose conversations: one row a call, where TURNLOG_AUDIT_READS is set. Nothing else refers to it.
create table if not exists turnlog.ai_reads (
    project     text        not null,
    id          uuid        not null,
    at          timestamptz not null,
    kind        text        not null,                   -- of reader: machine, operator, secret, member, command
    key_id      uuid,                                   -- the reader's key
    reader      text,                                   -- the reader, if signed in as a user
    call        text        not null,                   -- the route, as in GET /v1/sessions/{session}
    user_id     text,                                   -- the user whose records the call asked for
    session_ids uuid[]      not null,                   -- the sessions that it showed
    constraint ai_reads_pkey primary key (project, id)
);

-- Newest first, and to delete the oldest.
create index if not exists ai_reads_newest_idx on turnlog.ai_reads (project, at desc, id desc);
-- Finds the reads of a session; of a user, as the one asked for and as the reader; by a key.
create index if not exists ai_reads_sessions_idx on turnlog.ai_reads using gin (session_ids);
create index if not exists ai_reads_user_idx on turnlog.ai_reads (project, user_id) where user_id is not null;
create index if not exists ai_reads_reader_idx
    on turnlog.ai_reads (project, reader, at desc, id desc) where reader is not null;
create index if not exists ai_reads_key_idx
    on turnlog.ai_reads (project, key_id, at desc, id desc) where key_id is not null;
