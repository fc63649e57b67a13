-- The search index: which sequences of bytes a session's texts contain. It is built after the writes, so it lacks what is
-- in ai_search_queue. A row covers some interactions of a session; several rows may have the same sequences.
create table if not exists turnlog.ai_search (
    project    text      not null,
    session_id uuid      not null,
    part       uuid      not null,
    grams      integer[] not null,                  -- see turnlog.grams; -1: matches anything, the text is too long
    constraint ai_search_pkey primary key (project, session_id, part)
);
create index if not exists ai_search_grams_idx on turnlog.ai_search using gin (grams);

-- Interactions to be indexed: those that a write created or filled, one row per session. Each write adds a row, so what
-- changes while it is being indexed is indexed again.
create table if not exists turnlog.ai_search_queue (
    project    text   not null,
    session_id uuid   not null,
    part       uuid   not null default gen_random_uuid(),
    ids        uuid[] not null,
    constraint ai_search_queue_pkey primary key (project, session_id, part)
);
