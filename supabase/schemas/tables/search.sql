-- In which sessions some bytes stand beside each other. It is made behind the writes, so it lacks what still waits in
-- ai_search_queue. A row is of some interactions of a session; there are several, and the same bytes may stand in many.
create table if not exists turnlog.ai_search (
    project    text      not null,
    session_id uuid      not null,
    part       uuid      not null,
    grams      integer[] not null,                  -- see turnlog.grams; -1: anything, the text is too long
    constraint ai_search_pkey primary key (project, session_id, part)
);
create index if not exists ai_search_grams_idx on turnlog.ai_search using gin (grams);

-- What waits to be indexed: the interactions that a write made or changed, a row for each of its sessions. Whatever says
-- something new adds a row, so what is being indexed meanwhile is indexed again.
create table if not exists turnlog.ai_search_queue (
    project    text   not null,
    session_id uuid   not null,
    part       uuid   not null default gen_random_uuid(),
    ids        uuid[] not null,
    constraint ai_search_queue_pkey primary key (project, session_id, part)
);
