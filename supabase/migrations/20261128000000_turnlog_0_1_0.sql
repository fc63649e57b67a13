-- Turnlog 0.1.0, made by `make migration` from supabase/schemas: read those, edit those. It may be run again.
-- All of it happens or nothing, also where statements are sent one by one; nobody's search_path plays a part.
begin;
set local search_path = '';


-- schemas/schema.sql
-- Everything of Turnlog's is in the schema `turnlog`, so it installs beside whatever a database has. The comment marks
-- the schema as ours: a schema of that name without it that isn't empty belongs to others and is left alone.
do $$
declare
    mark constant text := 'Turnlog, the AI conversation log. Its migrations make what is in here.';
    existing constant oid := pg_catalog.to_regnamespace('turnlog');
begin
    if existing is null and not pg_catalog.has_database_privilege(pg_catalog.current_database(), 'create') then
        raise exception using
            errcode = '42501',
            message = pg_catalog.format('The role %s may not create a schema in this database', current_user),
            hint = pg_catalog.format('Have the owner of the database run: create schema turnlog authorization %I;',
                                     current_user);
    elsif existing is null then
        create schema turnlog;
    elsif pg_catalog.obj_description(existing, 'pg_namespace') is distinct from mark and exists (
        select from pg_catalog.pg_depend as d
         where d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = existing and d.deptype = 'n')
    then
        raise exception using
            errcode = '42P06',
            message = 'The schema "turnlog" of this database is not marked as Turnlog''s',
            detail = 'It holds ' || (
                select pg_catalog.string_agg(o.name, ', ' order by o.name)
                  from (select pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) as name
                          from pg_catalog.pg_depend as d
                         where d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = existing
                           and d.deptype = 'n'
                         order by 1 limit 5) as o),
            hint = case
                when pg_catalog.to_regprocedure('turnlog.ping(jsonb)') is null
                    then 'Rename it (alter schema turnlog rename to …), or give Turnlog a database of its own.'
                else pg_catalog.format('If this is Turnlog''s, restored without its comments, mark it: '
                                       'comment on schema turnlog is %L;', mark)
            end;
    end if;
    if pg_catalog.obj_description(pg_catalog.to_regnamespace('turnlog'), 'pg_namespace') is distinct from mark then
        execute pg_catalog.format('comment on schema turnlog is %L', mark);
    end if;
end
$$;


-- schemas/tables/migrations.sql
-- Applied releases, whether by `migrate`, by `supabase db push` or by hand in an SQL editor.
create table if not exists turnlog.migrations (
    version    text        not null,
    applied_at timestamptz not null default statement_timestamp(),
    constraint migrations_pkey primary key (version)
);
-- The first row's names the database: see turnlog.database_id. Also for a table made before the column was.
alter table turnlog.migrations add column if not exists database_id uuid not null default gen_random_uuid();


insert into turnlog.migrations (version) values ('20261128000000') on conflict do nothing;


-- schemas/tables/folders.sql
-- Folders of numbered sessions.
create table if not exists turnlog.ai_session_folders (
    project           text        not null,
    id                uuid        not null,
    key               text,                             -- the caller's own id; the id derives from it
    name              text,
    user_id           text,
    sessions_per_week integer,                          -- the plan: numbered sessions per week,
    total_weeks       integer,                          --   for how many weeks,
    starts_on         date,                             --   and the first day, if it is known
    metadata          jsonb,
    implicit          boolean     not null default false, -- created for a session, not by a caller yet
    created_at        timestamptz not null,
    erased_at         timestamptz,                      -- when its name, user and metadata were last erased
    constraint ai_session_folders_pkey primary key (project, id),
    constraint ai_session_folders_project_check check (project <> ''),
    constraint ai_session_folders_id_check check (id <> '00000000-0000-0000-0000-000000000000'),
    constraint ai_session_folders_key_check check (key !~* '^(\s*|null|undefined|none)$' and length(key) <= 200),
    constraint ai_session_folders_plan_check check (
        (sessions_per_week is null) = (total_weeks is null) and sessions_per_week > 0 and total_weeks > 0
        and (starts_on is null or total_weeks is not null)),
    constraint ai_session_folders_metadata_check check (jsonb_typeof(metadata) = 'object')
);

-- A second line of defence: ids derive from keys already.
create unique index if not exists ai_session_folders_project_key_key
    on turnlog.ai_session_folders (project, key) where key is not null;
create index if not exists ai_session_folders_user_idx
    on turnlog.ai_session_folders (project, user_id, id) where user_id is not null;


-- schemas/tables/sessions.sql
-- Sessions. Every primary and foreign key starts with the project, so the tables distribute by it unchanged.
create table if not exists turnlog.ai_sessions (
    project        text        not null,
    id             uuid        not null,
    key            text,                               -- the caller's own id; the id derives from it
    user_id        text,
    claim          text,                               -- the owner, if it was opened with a publishable key; else its user is
    title          text,
    folder_id      uuid,
    session_number integer,                            -- within its folder
    scheduled_on   date,
    status         text        not null default 'open',
    implicit       boolean     not null default false, -- created for an interaction, not by a caller yet
    tags           text[],
    metadata       jsonb,
    started_at     timestamptz,
    ended_at       timestamptz,
    created_at     timestamptz not null,               -- when the service first received it
    earliest_turn_at timestamptz,                      -- when its earliest turn was said; see turnlog.date_sessions
    erased_at      timestamptz,                        -- set: a tombstone; all content is gone
    text_expired_at timestamptz,                       -- when its texts last expired; see turnlog.expire_texts
    edited         text[],                             -- fields changed by PATCH, which later writes neither fill nor contradict
    constraint ai_sessions_pkey primary key (project, id),
    constraint ai_sessions_folder_fkey foreign key (project, folder_id)
        references turnlog.ai_session_folders (project, id),
    constraint ai_sessions_project_check check (project <> ''),
    -- Placeholders of missing ids are rejected here, too, for clients that bypass the service.
    constraint ai_sessions_id_check check (id <> '00000000-0000-0000-0000-000000000000'),
    constraint ai_sessions_key_check check (key !~* '^(\s*|null|undefined|none)$' and length(key) <= 200),
    constraint ai_sessions_session_number_check check (
        session_number is null or session_number > 0 and folder_id is not null),
    constraint ai_sessions_status_check check (status in ('locked', 'open', 'closed')),
    constraint ai_sessions_metadata_check check (jsonb_typeof(metadata) = 'object')
);

-- A second line of defence: ids derive from keys already. Partial, so that the planner can't use them in place of the
-- primary key: on tables without statistics, foreign keys were checked by reading a project's whole index.
create unique index if not exists ai_sessions_project_key_key
    on turnlog.ai_sessions (project, key) where key is not null;
create unique index if not exists ai_sessions_folder_number_key
    on turnlog.ai_sessions (project, folder_id, session_number) where folder_id is not null;

-- Lists, newest first: all, of a user, by status, of a folder, implicit ones.
create index if not exists ai_sessions_newest_idx
    on turnlog.ai_sessions (project, (coalesce(started_at, earliest_turn_at, created_at)) desc, id desc) where erased_at is null;
create index if not exists ai_sessions_user_newest_idx
    on turnlog.ai_sessions (project, user_id, (coalesce(started_at, earliest_turn_at, created_at)) desc, id desc)
    where erased_at is null and user_id is not null;
create index if not exists ai_sessions_status_newest_idx
    on turnlog.ai_sessions (project, status, (coalesce(started_at, earliest_turn_at, created_at)) desc, id desc) where erased_at is null;
create index if not exists ai_sessions_folder_newest_idx
    on turnlog.ai_sessions (project, folder_id, (coalesce(started_at, earliest_turn_at, created_at)) desc, id desc)
    where erased_at is null and folder_id is not null;
create index if not exists ai_sessions_implicit_newest_idx
    on turnlog.ai_sessions (project, (coalesce(started_at, earliest_turn_at, created_at)) desc, id desc)
    where erased_at is null and implicit;
create index if not exists ai_sessions_metadata_idx
    on turnlog.ai_sessions using gin (metadata jsonb_path_ops) where metadata is not null;
create index if not exists ai_sessions_tags_idx
    on turnlog.ai_sessions using gin (tags) where tags is not null;


-- schemas/tables/erased_users.sql
-- Users whose records were erased: late records of theirs are rejected.
create table if not exists turnlog.ai_erased_users (
    project     text        not null,
    user_hash   bytea       not null,               -- see turnlog.user_hash: the name is erased, too
    erased_at   timestamptz not null,               -- records received before are rejected
    finished_at timestamptz,                        -- null: in progress, or interrupted until the next call
    counts      jsonb       not null,               -- what was erased so far
    constraint ai_erased_users_pkey primary key (project, user_hash)
);


-- schemas/tables/feedback.sql
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


-- schemas/tables/interactions.sql
-- Interactions: one prompt and its response each.
create table if not exists turnlog.ai_interactions (
    project         text        not null,
    session_id      uuid        not null,
    id              uuid        not null,
    key             text,                           -- the caller's own id; the id derives from session and key
    prompt          jsonb,                          -- a text, or a list of messages, or how turnlog.by_content stores it
    response        jsonb,                          -- likewise
    context         jsonb,                          -- {}: there is one
    instructions    uuid,                           -- in ai_messages: those that context or prompt begin with
    context_end     uuid,                           -- the history that ends with the context
    prompt_end      uuid,                           -- with the prompt
    response_end    uuid,                           -- with the response
    model           text,
    provider        text,
    status          text,                           -- null: derived from error and response on reading
    error           text,
    finish_reason   text,
    started_at      timestamptz,
    completed_at    timestamptz,
    latency_ms      double precision,
    time_to_first_token_ms double precision,
    input_tokens    bigint,
    output_tokens   bigint,
    cached_input_tokens bigint,                     -- of the input tokens: read from the provider's cache
    cache_write_tokens bigint,                      -- of the input tokens: written to it
    reasoning_tokens bigint,                        -- of the output tokens: spent on reasoning
    cost_usd        numeric,
    participant     text,
    reply_to        uuid,                           -- the interaction that it follows
    alternative_to  uuid,                           -- the interaction in whose place it stands: it follows the same one
    chosen_at       timestamptz,                    -- when somebody made it the current one of its alternatives
    turn            bigint,                         -- the caller's own counter
    trace_id        text,                           -- of the span, as OpenTelemetry has it, that the call is
    span_id         text,
    tags            text[],
    metadata        jsonb,
    ranks           jsonb,                          -- of what some fields come from: see turnlog.interaction_rule
    created_at      timestamptz not null,           -- when the service first received it
    erased_at       timestamptz,                    -- set: a tombstone; all it said is gone
    text_expired_at timestamptz,                    -- set: its texts are gone, see turnlog.expire_texts
    constraint ai_interactions_pkey primary key (project, session_id, id),
    constraint ai_interactions_session_fkey foreign key (project, session_id)
        references turnlog.ai_sessions (project, id),
    constraint ai_interactions_id_check check (id <> '00000000-0000-0000-0000-000000000000'),
    constraint ai_interactions_key_check check (key !~* '^(\s*|null|undefined|none)$' and length(key) <= 2500),
    constraint ai_interactions_prompt_check check (jsonb_typeof(prompt) in ('string', 'array') or prompt_end is not null),
    constraint ai_interactions_response_check check (jsonb_typeof(response) in ('string', 'array') or response_end is not null),
    constraint ai_interactions_status_check check (status in ('pending', 'completed', 'failed', 'abandoned')),
    constraint ai_interactions_metadata_check check (jsonb_typeof(metadata) = 'object'),
    constraint ai_interactions_ranks_check check (jsonb_typeof(ranks) = 'object')
);

-- A second line of defence, as for sessions. A composite key may be longer than an index entry: it has none then.
create unique index if not exists ai_interactions_session_key_key
    on turnlog.ai_interactions (project, session_id, key) where octet_length(key) <= 2000;

-- For the search, newest first, and for the overview.
create index if not exists ai_interactions_newest_idx
    on turnlog.ai_interactions (project, (coalesce(started_at, created_at)) desc, session_id desc, id desc);
-- Tells a linear session from one with branches; few interactions name another one.
create index if not exists ai_interactions_named_idx
    on turnlog.ai_interactions (project, session_id) where reply_to is not null or alternative_to is not null;
-- In the order of arrival, so writes append to it, and one entry covers the interactions that a session got at once.
create index if not exists ai_interactions_arrived_idx
    on turnlog.ai_interactions (project, created_at, session_id);
-- Finds the sessions that used a model, and whether one session did.
create index if not exists ai_interactions_model_idx
    on turnlog.ai_interactions (project, model, session_id) where model is not null;
-- Failures are few, and rare ones matter most: with indexes of their own, no sample misses them.
create index if not exists ai_interactions_failed_idx
    on turnlog.ai_interactions (project, session_id) where status = 'failed' or status is null and error <> '';
create index if not exists ai_interactions_failed_began_idx
    on turnlog.ai_interactions (project, (coalesce(started_at, created_at)))
    where status = 'failed' or status is null and error <> '';

-- lz4 writes long texts about half as fast again as pglz does; a server built without it keeps pglz.
do $$
begin
    alter table turnlog.ai_interactions
        alter column prompt set compression lz4,
        alter column response set compression lz4,
        alter column metadata set compression lz4;
exception when feature_not_supported then
    raise notice 'this PostgreSQL was built without lz4: prompts and responses keep pglz';
end
$$;


-- schemas/tables/keys.sql
-- API keys. A key is looked up by its digest, whatever its project: on Citus this small table is a reference table.
create table if not exists turnlog.ai_keys (
    project      text        not null,
    id           uuid        not null,
    family       uuid        not null,                  -- the first of the keys that replaced each other
    kind         text        not null,
    digest       bytea       not null,                  -- SHA-256 of the key, which isn't stored
    hint         text        not null,                  -- its first characters, to tell keys apart
    name         text,
    scopes       text[]      not null,
    origins      text[]      not null default '{}',     -- origins of pages that may use it; none for secret keys
    token_secret text        not null,                  -- signs the session tokens of its family
    created_at   timestamptz not null,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,                           -- to the minute
    constraint ai_keys_pkey primary key (project, id),
    constraint ai_keys_project_check check (project <> ''),
    constraint ai_keys_kind_check check (kind in ('secret', 'publishable')),
    constraint ai_keys_digest_check check (octet_length(digest) = 32),
    constraint ai_keys_scopes_check check (
        scopes <@ '{log,read,edit,erase,admin}'::text[] and cardinality(scopes) > 0
        and (kind = 'secret' or scopes = '{log}'::text[])),
    constraint ai_keys_origins_check check ((kind = 'publishable') = (cardinality(origins) > 0))
);

create unique index if not exists ai_keys_digest_key on turnlog.ai_keys (digest);


-- schemas/tables/messages.sql
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


-- schemas/tables/participants.sql
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


-- schemas/tables/projects.sql
-- Settings of projects.
create table if not exists turnlog.ai_projects (
    project   text  not null,
    keep_days integer,                              -- null: the service's own setting
    keep_text_days integer,                         -- null: the service's own setting
    expired_at timestamptz,                         -- when `turnlog expire` last ran, by the database's clock
    secret    bytea not null,                       -- keys the signatures of reports and the hashes of erased users
    constraint ai_projects_pkey primary key (project),
    constraint ai_projects_project_check check (project <> ''),
    constraint ai_projects_keep_days_check check (keep_days between 1 and 36500),
    constraint ai_projects_keep_text_days_check check (keep_text_days between 1 and 36500)
);


-- schemas/tables/reads.sql
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


-- schemas/tables/revisions.sql
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


-- schemas/tables/search.sql
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


-- schemas/tables/spans.sql
-- Traces of which spans came. Whoever writes spans of a trace locks its row first.
create table if not exists turnlog.ai_traces (
    project        text        not null,
    trace_id       text        not null,
    session_id     uuid        not null,            -- of the session that its calls have while nothing names one
    caller_span    text,                            -- the first of its spans, by id, on which a caller named a session
    caller_several boolean     not null default false, -- callers named several sessions
    library_span   text,                            -- likewise: a library named one
    user_span      text,                            -- likewise: a user
    linked         text[],                          -- some of the traces with which it has calls in common: locked with it
    created_at     timestamptz not null,
    erased_at      timestamptz,                     -- when that session of its own was erased: nothing is added to it
    constraint ai_traces_pkey primary key (project, trace_id)
);

-- Spans: the calls of a model among them are interactions. What a span says of a conversation isn't kept here.
create table if not exists turnlog.ai_spans (
    project        text        not null,
    trace_id       text        not null,
    span_id        text        not null,
    parent_id      text,
    name           text,
    kind           text,                            -- null: only feedback on it came
    scope          text,                            -- its instrumentation
    started_at     timestamptz,
    completed_at   timestamptz,
    session_key    text,                            -- the session that stands on the span itself,
    stated_session uuid,                            --   its id,
    by_caller      boolean,                         --   and whether a caller named it, not a library
    user_id        text,                            -- the user that stands on it
    caller_span    text,                            -- it, or the closest span above, on which a caller named a session
    library_span   text,                            -- likewise: a library named one
    user_span      text,                            -- likewise: a user
    response_id    text,                            -- the provider's
    repeats        boolean     not null default false, -- another span had this response_id before
    model          text,
    failed         boolean,
    same_call_as   text,                            -- TRACE/SPAN of one that is known to be of the same call
    rank           integer,                         -- among the spans of its call, before the times; null: only log events
                                                    --   of it came
    call_spans     text[],                          -- TRACE/SPAN of all spans of its call, in order; null: only itself
    id             uuid        not null,            -- of the call's interaction, if the span is the first of call_spans
    session_id     uuid,                            -- the session that it belongs to, where its call's interaction is
    participant    text,                            -- that interaction's
    fields         text[],                          -- of the interaction: those that the span said,
    event_fields   text[],                          --   and those that log events said
    has_feedback   boolean,
    created_at     timestamptz not null,            -- when the service first received it
    erased_at      timestamptz,                     -- set: a tombstone with its place in the trace,
    response_hash  bytea,                           --   and with what recognises another span of its call: see
    scope_hash     bytea,                           --   turnlog.twin_hash
    constraint ai_spans_pkey primary key (project, trace_id, span_id),
    constraint ai_spans_call_spans_check check (cardinality(call_spans) > 1)
);

-- All of them are partial, so that the planner can't use them in place of the primary key: see ai_sessions.
-- The children of a span, in order.
create index if not exists ai_spans_parent_idx
    on turnlog.ai_spans (project, trace_id, parent_id, started_at) where parent_id is not null;
-- Joins the spans of one call. It is unique so that of two writers that have one each, the later one waits and finds it.
create unique index if not exists ai_spans_response_key
    on turnlog.ai_spans (project, response_id) where response_id is not null and not repeats;
create index if not exists ai_spans_repeated_response_idx
    on turnlog.ai_spans (project, response_id, started_at) where response_id is not null and repeats;
create index if not exists ai_spans_same_call_idx
    on turnlog.ai_spans (project, same_call_as) where same_call_as is not null;
create index if not exists ai_spans_response_hash_idx
    on turnlog.ai_spans (project, response_hash) where response_hash is not null;
-- For erasing.
create index if not exists ai_spans_session_idx
    on turnlog.ai_spans (project, session_id) where session_id is not null;
create index if not exists ai_spans_user_idx on turnlog.ai_spans (project, user_id) where user_id is not null;
create index if not exists ai_spans_participant_idx
    on turnlog.ai_spans (project, participant) where participant is not null;


-- schemas/tables/user_merges.sql
-- Guests who became users: what names a guest, however late, is the user's. See turnlog.merge_user.
create table if not exists turnlog.ai_user_merges (
    project   text        not null,
    guest     text        not null,
    into_user text        not null,                 -- never a guest of this table itself
    merged_at timestamptz not null,
    constraint ai_user_merges_pkey primary key (project, guest),
    constraint ai_user_merges_guest_check check (guest !~ '^\s*$' and length(guest) <= 200),
    constraint ai_user_merges_into_user_check check (
        into_user !~ '^\s*$' and length(into_user) <= 200 and into_user <> guest)
);

create index if not exists ai_user_merges_into_user_idx on turnlog.ai_user_merges (project, into_user);


-- schemas/rules/as_messages.sql
-- Returns a prompt or a response as a list of messages: a text is one message of `role`.
create or replace function turnlog.as_messages(content jsonb, role text default 'assistant') returns jsonb
language sql immutable parallel safe
set search_path = ''
as $$
    select case jsonb_typeof(content)
        when 'string' then jsonb_build_array(jsonb_build_object('role', role, 'content', content))
        else content end
$$;


-- schemas/rules/blank_condition.sql
-- Returns an SQL condition that is true where `expression` is null, blank, or a placeholder of a missing id ('null',
-- 'undefined', the nil UUID). Callers inline it: a function call for each of a million rows takes six times as long.
create or replace function turnlog.blank_condition(expression text) returns text
language sql immutable
set search_path = ''
as $$
    select format(
        '(%1$s is null or lower(btrim(%1$s, E'' \t\r\n''))'
        ' in ('''', ''null'', ''undefined'', ''none'', ''00000000-0000-0000-0000-000000000000''))', expression)
$$;


-- schemas/rules/by_content.sql
-- Returns an interaction's facts as they are stored. Where its prompt is a list of several messages, or it has a context,
-- what it says is stored in turnlog.ai_messages, the response once it is complete. Then `context_end`, `prompt_end` and
-- `response_end` are the ids of the histories that end with each, `instructions` is the id of the system's messages at the
-- beginning, which may change while the rest stays, and context, prompt and response only say what they are: {} a list,
-- {"as": "text"} a text. Other facts stay.
-- With a `prompt_end` the facts are a stored interaction's, of which only the response may have to be stored; `body`: the
-- messages up to the end of its prompt.
-- `messages`: context and prompt, null if there is nothing to be stored; `first`: how many of them are instructions;
-- `last`: how many are the prompt's, null if they are stored; `bytes`: those of all but the instructions; `answer`: the
-- response's messages. See turnlog.add_messages.
create or replace function turnlog.by_content(
    in_facts jsonb, body jsonb default null,
    out facts jsonb, out messages jsonb, out first integer, out last integer, out bytes bytea, out answer jsonb)
language plpgsql immutable
set search_path = ''
as $$
declare
    as_text constant jsonb := '{"as": "text"}';
    context constant jsonb := nullif(in_facts -> 'context', 'null');
    prompt jsonb := nullif(in_facts -> 'prompt', 'null');
    response constant jsonb := in_facts -> 'response';
    is_text constant boolean := jsonb_typeof(prompt) = 'string';
    prompt_end uuid := in_facts ->> 'prompt_end';
    instructions bytea;
begin
    if prompt_end is null and context is null and (prompt is null or is_text or jsonb_array_length(prompt) < 2) then
        facts := in_facts - 'context';
        return;
    elsif prompt_end is null then
        facts := in_facts - '{context,prompt}'::text[];
        if is_text then
            prompt := jsonb_build_array(jsonb_build_object('role', 'user', 'content', prompt));
        end if;
        messages := case when context is null then prompt when prompt is null then context else context || prompt end;
        last := coalesce(jsonb_array_length(prompt), 0);
        first := 0;
        while messages -> first ->> 'role' in ('system', 'developer')
              and first < jsonb_array_length(coalesce(context, prompt)) loop
            first := first + 1;
        end loop;
        if first = jsonb_array_length(messages) then -- a prompt of instructions alone
            first := 0;
        end if;
        bytes := turnlog.message_bytes(messages);
        if first > 0 then
            instructions := turnlog.message_bytes(
                jsonb_path_query_array(messages, '$[0 to $last]', jsonb_build_object('last', first - 1)));
            bytes := substr(bytes, 3 + octet_length(instructions));
            facts := facts || jsonb_build_object('instructions', turnlog.history_id(instructions));
        end if;
        if context is not null then
            facts := facts || jsonb_build_object('context', '{}'::jsonb, 'context_end', case
                when first = jsonb_array_length(context) then null
                when prompt is null then turnlog.history_id(bytes)
                else turnlog.history_id(substr(
                    bytes, 1, octet_length(bytes) - octet_length(turnlog.message_bytes(prompt)) - 2)) end);
        end if;
        if prompt is not null then
            prompt_end := turnlog.history_id(bytes);
            facts := facts || jsonb_build_object(
                'prompt_end', prompt_end, 'prompt', case when is_text then as_text else '{}' end);
        end if;
    else
        facts := in_facts;
        messages := body;
        bytes := turnlog.message_bytes(body);
    end if;
    -- a response that still grows would leave behind what it was
    if prompt_end is not null and jsonb_typeof(response) in ('string', 'array') and response <> '[]'
       and turnlog.status_rank(in_facts ->> 'status', in_facts ->> 'error', true) = 3 then
        answer := turnlog.as_messages(response);
        facts := facts || jsonb_build_object(
            'response_end', turnlog.history_id(bytes || ', '::bytea || turnlog.message_bytes(answer)),
            'response', case jsonb_typeof(response) when 'string' then as_text else '{}' end);
    end if;
end
$$;


-- schemas/rules/content_of_message.sql
-- Returns the content of a message by the name that its SDK has for it. The `parts` of the AI SDK and of Gemini win over
-- a text that repeats them.
create or replace function turnlog.content_of_message(message jsonb) returns jsonb
language sql immutable parallel safe
set search_path = ''
as $$
    select case when jsonb_typeof(message -> 'parts') = 'array' then message -> 'parts'
                else coalesce(message -> 'content', message -> 'value', message -> 'text') end
$$;


-- schemas/rules/error_kind.sql
-- Reduces an error to its kind: its beginning on one line, with ids and long numbers replaced, so that errors of one
-- cause can be counted together. Returns null for an empty error.
create or replace function turnlog.error_kind(error text) returns text
language sql immutable parallel safe
set search_path = ''
as $$
    select nullif(btrim(left(regexp_replace(regexp_replace(left(error, 300), '\s+', ' ', 'g'),
                                            '\m(?=[0-9a-fA-F-]{0,40}[0-9])[0-9a-fA-F-]{8,}\M|\d{4,}', '…', 'g'), 200)), '')
$$;


-- schemas/rules/excerpt.sql
-- Returns the first `length` characters of a prompt or a response: of the text, or of the last message that has a text.
create or replace function turnlog.excerpt(content jsonb, length integer) returns text
language sql immutable
set search_path = ''
as $$
    select case jsonb_typeof(content)
        when 'string' then left(content #>> '{}', length)
        when 'array' then (
            select left(m.text, length)
              from (select turnlog.content_of_message(m.value) as said, m.n
                      from jsonb_array_elements(content) with ordinality as m (value, n) offset 0) as e
             cross join lateral (
                   select case jsonb_typeof(e.said)
                       when 'string' then e.said #>> '{}'
                       when 'array' then (
                           select string_agg(p.part ->> 'text', ' ' order by p.n)
                             from jsonb_array_elements(e.said) with ordinality as p (part, n)
                            where jsonb_typeof(p.part -> 'text') = 'string')
                   end) as m (text)
             where m.text <> ''
             order by e.n desc
             limit 1)
    end
$$;


-- schemas/rules/fill_rule.sql
-- The fill rule: compares an incoming record with the stored one. Returns `fills`, the fields that are empty in the
-- stored record with their new values (null if there are none), and `conflicts`, the names of fields that contradict
-- it. Tags and metadata gain entries: a new tag or metadata key fills; a metadata key with another value is a conflict,
-- named 'metadata.KEY'. Keys that would make it more than 1,000 are a conflict, named 'metadata': each fill compares and
-- writes all of them again. Of two chosen_at the later one is kept.
create or replace function turnlog.fill_rule(stored jsonb, incoming jsonb, out fills jsonb, out conflicts text[])
language plpgsql immutable
set search_path = ''
as $$
declare
    field text;
    value jsonb;
    stored_value jsonb;
    merged jsonb;
begin
    for field, value in select s.key, s.value from jsonb_each(incoming) as s where s.value not in ('null', '[]', '{}') loop
        stored_value := nullif(stored -> field, 'null');
        if stored_value = value then
            continue;
        elsif stored_value is null then
            merged := value;
        elsif field = 'chosen_at' then -- in files of different times, the last choice counts
            merged := to_jsonb(greatest((value #>> '{}')::timestamptz, (stored_value #>> '{}')::timestamptz));
        elsif field = 'tags' then
            merged := stored_value || coalesce(
                (select jsonb_agg(t.tag order by t.n)
                   from jsonb_array_elements(value) with ordinality as t (tag, n) where not stored_value @> t.tag), '[]');
        elsif field = 'metadata' then
            merged := value || stored_value;
            if merged <> stored_value and (select count(*) from jsonb_object_keys(merged)) > 1000 then
                merged := stored_value;
                conflicts := conflicts || field;
            end if;
            conflicts := conflicts || array(
                select 'metadata.' || m.key from jsonb_each(value) as m where stored_value -> m.key <> m.value order by m.key);
        else
            merged := stored_value;
            conflicts := conflicts || field;
        end if;
        if merged is distinct from stored_value then
            fills := coalesce(fills, '{}') || jsonb_build_object(field, merged);
        end if;
    end loop;
    conflicts := nullif(conflicts, '{}');
end
$$;


-- schemas/rules/flat_fields.sql
-- Returns the fields of an interaction, each key of its metadata as a field of its own, 'metadata.KEY'.
create or replace function turnlog.flat_fields(facts jsonb) returns table (field text, said jsonb)
language sql immutable parallel safe
set search_path = ''
as $$
    select f.key, f.value from jsonb_each(facts) as f where f.key <> 'metadata'
     union all
    select 'metadata.' || m.key, m.value from jsonb_each(coalesce(nullif(facts -> 'metadata', 'null'), '{}')) as m
$$;


-- schemas/rules/fold.sql
-- Folds a text for comparison: lower case, compatibility forms (full-width letters, ligatures) replaced by plain ones,
-- accents composed with their letters, and invisible characters (soft hyphens, joiners, direction marks) removed.
create or replace function turnlog.fold(content text) returns text
language plpgsql immutable parallel safe
set search_path = ''
as $$
begin
    return case when octet_length(content) = length(content) then lower(content)
        else replace(lower(case
            when content ~ '[\u00AD\u061C\u200B-\u200F\u202A-\u202E\u2060\u2066-\u2069\uFE0E\uFE0F\uFEFF]'
                then translate(normalize(content, nfkc),
                    U&'\00AD\061C\200B\200C\200D\200E\200F\202A\202B\202C\202D\202E\2060\2066\2067\2068\2069\FE0E\FE0F\FEFF', '')
            when content is nfkc normalized then content -- usually, and the check takes half as long
            else normalize(content, nfkc) end), U&'\03C2', U&'\03C3') end; -- a final sigma is a sigma
end
$$;


-- schemas/rules/folder_rows.sql
-- Returns folders as the API shows them, as a list in the order of `ids`, with the statistics of their sessions.
-- `opened` counts sessions that aren't locked or have interactions; `closed` counts those of them with that status.
create or replace function turnlog.folder_rows(of_project text, ids uuid[]) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some folders, never a whole table, whatever its statistics say
as $$
begin
    return (
        with used as (
            select s.folder_id, s.id, s.status, i.interactions, i.last_activity_at
              from turnlog.ai_sessions as s
              -- one lookup each: a join was planned as a scan of all for each
             cross join lateral (
                    select count(*) as interactions,
                           max(coalesce(c.completed_at, c.started_at, c.created_at)) as last_activity_at
                      from turnlog.ai_interactions as c
                     where c.project = of_project and c.session_id = s.id
                    offset 0) as i
             where s.project = of_project and s.folder_id = any (ids) and s.erased_at is null
        ), summed as (
            select u.folder_id, count(*) as sessions,
                   count(*) filter (where u.status <> 'locked' or u.interactions > 0) as opened,
                   count(*) filter (where u.status = 'closed') as closed,
                   coalesce(sum(u.interactions), 0) as interactions, max(u.last_activity_at) as last_activity_at
              from used as u
             group by u.folder_id
        )
        select coalesce(jsonb_agg(
            jsonb_build_object(
                'folder_id', f.id, 'key', f.key, 'name', f.name, 'user_id', f.user_id,
                'plan', case when f.total_weeks is not null then jsonb_build_object(
                    'sessions_per_week', f.sessions_per_week, 'total_weeks', f.total_weeks, 'starts_on', f.starts_on) end,
                'metadata', coalesce(f.metadata, '{}'), 'implicit', f.implicit, 'created_at', f.created_at,
                'statistics', jsonb_build_object(
                    'planned', coalesce(f.sessions_per_week * f.total_weeks, 0), 'sessions', coalesce(m.sessions, 0),
                    'opened', coalesce(m.opened, 0), 'closed', coalesce(m.closed, 0),
                    'interactions', coalesce(m.interactions, 0), 'last_activity_at', m.last_activity_at)
            ) order by wanted.n), '[]')
        from unnest(ids) with ordinality as wanted (id, n)
        join turnlog.ai_session_folders as f on f.project = of_project and f.id = wanted.id
        left join summed as m on m.folder_id = f.id);
end
$$;


-- schemas/rules/grams.sql
-- Returns all distinct sequences of three bytes in a folded text's UTF-8, each as a number: one Chinese character, two
-- Arabic letters, three English ones. So it serves any script without an extension. Null for a text of fewer than 3
-- bytes.
create or replace function turnlog.grams(folded text) returns integer[]
language sql immutable parallel safe
set search_path = ''
as $$
    select array_agg(distinct_grams.gram)
      from (select distinct get_byte(bytes.text, n) << 16 | get_byte(bytes.text, n + 1) << 8 | get_byte(bytes.text, n + 2) as gram
              from (select convert_to(folded, 'UTF8') as text offset 0) as bytes, -- `offset 0`: convert once, not for each byte
                   generate_series(0, octet_length(folded) - 3) as n) as distinct_grams
$$;


-- schemas/rules/grows.sql
-- Whether one value is an earlier state of another, as a growing answer is saved: a text that a model writes, by its
-- beginning; a list, where all but its last item stays and that one grows; an object, where null says nothing, texts that
-- a model writes grow, and other fields stay.
create or replace function turnlog.grows(earlier jsonb, later jsonb, is_written boolean default true) returns boolean
language plpgsql immutable parallel safe
set search_path = ''
as $$
declare
    written constant text[] := '{content,text,thinking,reasoning,reasoning_content,arguments,partial_json,refusal}';
    last integer;
begin
    if earlier = later or is_written and earlier = '""' then
        return true;
    end if;
    case concat_ws(' ', jsonb_typeof(earlier), jsonb_typeof(later))
        when 'string string' then
            return is_written and starts_with(later #>> '{}', earlier #>> '{}');
        when 'array array' then
            last := jsonb_array_length(earlier) - 1;
            return last < 0
                or last < jsonb_array_length(later)
                   and not exists (select from generate_series(0, last - 1) as n where earlier -> n <> later -> n)
                   and turnlog.grows(earlier -> last, later -> last, false);
        when 'object object' then
            return not exists (
                select from jsonb_each(earlier) as e (name, value)
                 where e.value <> 'null'
                   and (later ? e.name and turnlog.grows(e.value, later -> e.name, e.name = any (written))) is not true);
        else
            return false;
    end case;
end
$$;


-- schemas/rules/history_id.sql
-- Returns the id of a history by its messages as text, separated by ', ': so the text of a history is the beginning of
-- the texts of those that go on from it.
create or replace function turnlog.history_id(messages bytea) returns uuid
language sql immutable parallel safe
set search_path = ''
as $$
    select encode(substr(sha256(messages), 1, 16), 'hex')::uuid
$$;


-- schemas/rules/interaction_rule.sql
-- The rule for interactions: compares an incoming record with the stored one, both as jsonb without ids. Most fields are
-- facts: see turnlog.fill_rule. The answer's fields (response, error, finish reason, end, latency, output tokens, cost)
-- go together and move forward:
--
-- - A status moves from pending to abandoned, failed and completed. A record without one is failed by an error,
--   completed by a response; one with neither prompt nor answer speaks of the finished answer.
-- - Of two records, the one with the further status has its say, of the same status the one whose response has grown:
--   see turnlog.grows. The other one fills what it leaves empty.
-- - Failed and abandoned ones are attempts: they contradict nothing that comes of another one. Of two attempts the one
--   said last is shown. What is known of the call (model, provider, input tokens) gives way to what a record says that
--   is no attempt, and the interaction began with the first.
--
-- With `on_conflict` 'revise' another rule holds: see turnlog.revision_rule.
--
-- Takes `said_at`, when the incoming record was said. Returns `fills`: fields with their new values, null if nothing
-- changes; `filled`: those that the receipt names; `conflicts`: names of contradicting fields, null if there are none;
-- `is_older`: the stored record is further; `lost`: [{facts, said_at}], what isn't shown any more, or never is, and isn't
-- contained in what is; `revised`: the fields in which a revision contradicts, null without one.
--
-- In which order records arrive doesn't matter. That takes to know how far the record was that a field comes from:
-- `ranks` has, by field, [status, length of the response, when it was said], where that isn't the row's own.
create or replace function turnlog.interaction_rule(
    stored jsonb, incoming jsonb, on_conflict text, said_at timestamptz,
    out fills jsonb, out filled text[], out conflicts text[], out is_older boolean, out lost jsonb,
    out revised text[])
language plpgsql immutable
set search_path = ''
set timezone = 'UTC'
as $$
declare
    of_answer constant text[] :=
        '{response,error,finish_reason,completed_at,latency_ms,time_to_first_token_ms,output_tokens,reasoning_tokens,cost_usd}';
    of_call constant text[] := '{started_at,model,provider,input_tokens,cached_input_tokens,cache_write_tokens}';
    names constant text[] := '{pending,abandoned,failed,completed}';
    attempts constant integer[] := '{1,2}';
    has_response constant boolean := coalesce(jsonb_typeof(incoming -> 'response'), 'null') <> 'null';
    is_answered constant boolean := coalesce(jsonb_typeof(stored -> 'response'), 'null') <> 'null';
    is_alone constant boolean := not has_response and coalesce(incoming ->> 'status', incoming ->> 'error') is null
                                 and coalesce(jsonb_typeof(incoming -> 'prompt'), 'null') = 'null';
    stored_status constant integer := turnlog.status_rank(stored ->> 'status', stored ->> 'error', is_answered);
    status constant integer := turnlog.status_rank(
        case when is_alone then 'completed' else incoming ->> 'status' end, incoming ->> 'error', has_response);
    -- a row that has nothing but facts of the finished answer
    row_status constant integer := case when not is_answered and coalesce(stored ->> 'status', stored ->> 'error') is null
        and coalesce(jsonb_typeof(stored -> 'prompt'), 'null') = 'null' then 3 else stored_status end;
    -- of a response that came with the row's status
    row_length constant integer := case when is_answered and coalesce((stored #>> '{ranks,response,0}')::integer, row_status) = row_status
                                        then length(turnlog.as_messages(stored -> 'response')::text) end;
    row_said_at constant timestamptz := coalesce(
        stored ->> 'completed_at', stored ->> 'started_at', stored ->> 'created_at');
    own_length constant integer := case when has_response then length(turnlog.as_messages(incoming -> 'response')::text) end;
    ranks jsonb := coalesce(nullif(stored -> 'ranks', 'null'), '{}');
    field text;
    value jsonb;
    stored_value jsonb;
    rank jsonb;             -- of the stored value
    rank_status integer;
    own_status integer;     -- of the incoming value
    rank_length integer;
    rank_said_at timestamptz;
    comparison integer;     -- 1: the incoming value has its say, -1: the stored one, 0: they contradict each other
    is_of_attempt boolean;  -- one of the two values is an attempt's
    has_grown boolean;      -- the stored response is an earlier state of the incoming one
    is_earlier boolean;     -- the other way round
    is_text boolean;        -- it is kept if it isn't shown
    displaced jsonb := '{}';    -- field -> stored value
    displaced_at timestamptz;
    outranked jsonb := '{}';    -- field -> incoming value
    loses_text boolean := false;    -- a text of `displaced`
    outranks_text boolean := false; -- a text of `outranked`
    new_ranks jsonb := '{}';
    new_status integer;
    status_name text;
    new_length integer;
    changed jsonb;
    contradicting text[];
begin
    if on_conflict = 'revise' then
        select r.* into fills, filled, conflicts, is_older, lost, revised
          from turnlog.revision_rule(stored, incoming, said_at) as r;
        return;
    end if;
    is_older := false;
    if stored ->> 'erased_at' is not null then
        conflicts := '{erased_at}';
        return;
    elsif turnlog.is_expired(stored, incoming) then
        conflicts := '{text_expired_at}';
        return;
    end if;
    fills := '{}';
    conflicts := '{}';
    for field, value in
        select s.key, s.value from jsonb_each(incoming) as s
         where s.value not in ('null', '[]', '{}') and s.key not in ('status', 'ranks', 'created_at')
    loop
        stored_value := nullif(stored -> field, 'null');
        if field = 'error' and value = '""' and stored_value is not null then
            continue;
        elsif stored_value is null or field = 'error' and stored_value = '""' then
            comparison := 1;
        elsif stored_value = value then
            comparison := null;
        elsif field in ('tags', 'metadata', 'chosen_at') then
            select f.fills, coalesce(f.conflicts, '{}') into changed, contradicting
              from turnlog.fill_rule(jsonb_build_object(field, stored_value), jsonb_build_object(field, value)) as f;
            fills := fills || coalesce(changed, '{}');
            conflicts := conflicts || contradicting;
            continue;
        elsif field = 'context' then
            if turnlog.says_more(value, stored_value) then
                fills := fills || jsonb_build_object(field, value);
            else
                is_older := true;
            end if;
            continue;
        else
            comparison := 0;
        end if;
        rank := ranks -> field;
        rank_status := coalesce((rank ->> 0)::integer, row_status);
        own_status := status;
        if field = any (of_call) then -- they go with no status but those of attempts
            rank_status := case when rank_status = any (attempts) then rank_status else 3 end;
            own_status := case when status = any (attempts) then status else 3 end;
        end if;
        rank_length := case when rank is not null then (rank ->> 1)::integer when rank_status = row_status then row_length end;
        rank_said_at := coalesce((rank ->> 2)::timestamptz, row_said_at);
        is_of_attempt := own_status = any (attempts) or rank_status = any (attempts);

        if comparison = 0 and field = 'started_at' and is_of_attempt then
            -- it began with the first attempt
            comparison := case when (value #>> '{}')::timestamptz < (stored_value #>> '{}')::timestamptz then 1 else -1 end;
        elsif comparison = 0 then
            if field <> all (of_answer) and not (field = any (of_call) and is_of_attempt) then
                conflicts := conflicts || field;
                continue;
            end if;
            if field = 'response' then
                has_grown := turnlog.grows(turnlog.as_messages(stored_value), turnlog.as_messages(value));
                is_earlier := turnlog.grows(turnlog.as_messages(value), turnlog.as_messages(stored_value));
            else
                has_grown := false;
                is_earlier := false;
            end if;
            if own_status <> rank_status then
                comparison := sign(own_status - rank_status);
                is_text := field in ('response', 'error');
            elsif is_of_attempt then
                comparison := case when (said_at, value::text collate "C") > (rank_said_at, stored_value::text collate "C")
                                   then 1 else -1 end;
                is_text := true; -- what another attempt said is kept, whatever it is
            elsif field = 'response' then
                comparison := case when has_grown then 1 when is_earlier then -1 else 0 end;
                is_text := true;
            else
                comparison := coalesce(sign(own_length - rank_length), 0);
                is_text := field = 'error';
            end if;
            if comparison = 0 then
                conflicts := conflicts || field;
                continue;
            elsif comparison > 0 then
                displaced := displaced || jsonb_build_object(field, stored_value);
                displaced_at := greatest(displaced_at, rank_said_at);
                loses_text := loses_text or is_text and not has_grown;
            else
                is_older := true;
                outranked := outranked || jsonb_build_object(field, value);
                outranks_text := outranks_text or is_text and not is_earlier;
            end if;
        end if;
        if comparison > 0 then
            fills := fills || jsonb_build_object(field, value);
        end if;
        -- the rank of the value that is stored now
        if comparison > 0 or comparison is null and (
               (field = any (of_answer) or field = any (of_call))
               and (own_status > rank_status
                    or own_status = rank_status and case when own_status = any (attempts) then said_at > rank_said_at
                                                         else own_length > rank_length end)) then
            new_ranks := new_ranks || jsonb_build_object(field, jsonb_build_array(
                own_status, own_length, case when status = any (attempts) then said_at end));
        end if;
    end loop;

    new_status := case when has_response or coalesce(incoming ->> 'status', nullif(incoming ->> 'error', '')) is not null
                       then greatest(stored_status, status) else stored_status end;
    is_older := is_older or incoming ->> 'status' is not null and status < stored_status;
    if conflicts <> '{}' and coalesce(on_conflict, 'keep') not in ('fill', 'report') then
        fills := null;
        return;
    end if;

    -- a status that follows from the rest isn't stored, so that the same row results in whichever way it became known
    changed := stored || fills;
    status_name := case when new_status <> turnlog.status_rank(null, changed ->> 'error', is_answered or has_response)
                        then names[new_status + 1] end;
    if status_name is distinct from stored ->> 'status' then
        fills := fills || jsonb_build_object('status', status_name);
    end if;
    filled := array(select f from jsonb_object_keys(fills) as f where f <> 'status' or new_status <> stored_status order by f);
    if fills = '{}' and new_ranks = '{}' then
        fills := null;
    else
        -- ranks that are those of the row itself are left out
        new_length := case when coalesce((new_ranks #>> '{response,0}')::integer,
                                         (ranks #>> '{response,0}')::integer, row_status) = new_status
                           then case when fills ? 'response' then own_length
                                     else length(turnlog.as_messages(stored -> 'response')::text) end end;
        select nullif(coalesce(jsonb_object_agg(r.field, r.rank), '{}') || (ranks - (of_answer || of_call)), '{}')
          into new_ranks
          from (select f.field, coalesce(new_ranks -> f.field, ranks -> f.field, jsonb_build_array(
                           case when f.field = any (of_call) and row_status <> all (attempts) then 3 else row_status end,
                           row_length, case when row_status = any (attempts) then row_said_at end)) as rank
                  from jsonb_object_keys(changed) as f (field)
                 where f.field = any (of_answer || of_call) and changed -> f.field <> 'null') as r
         where r.rank ->> 2 is not null
            or r.field = any (of_answer)
               and ((r.rank ->> 0)::integer <> new_status or (r.rank ->> 1)::integer is distinct from new_length)
            or r.field = any (of_call)
               and (r.rank ->> 0)::integer <> case when new_status = any (attempts) then new_status else 3 end;
        if new_ranks is distinct from nullif(stored -> 'ranks', 'null') then
            fills := fills || jsonb_build_object('ranks', new_ranks);
        end if;
        fills := nullif(fills, '{}');
    end if;

    lost := '[]';
    if loses_text then
        lost := lost || jsonb_build_object(
            'facts', displaced || jsonb_build_object('status', names[coalesce(
                (ranks #>> '{response,0}')::integer, (ranks #>> '{error,0}')::integer, row_status) + 1]),
            'said_at', displaced_at);
    end if;
    if outranks_text then
        lost := lost || jsonb_build_object(
            'facts', outranked || jsonb_build_object('status', names[status + 1]), 'said_at', said_at);
    end if;
    lost := nullif(lost, '[]');
    conflicts := nullif(conflicts, '{}');
end
$$;


-- schemas/rules/is_contained.sql
-- Whether facts that aren't shown of an interaction, field -> value, are all part of others: equal, or an earlier state
-- of a response. When it was said is no part of it: a revision has its own time.
create or replace function turnlog.is_contained(facts jsonb, others jsonb) returns boolean
language sql immutable parallel safe
set search_path = ''
as $$
    select not exists (
        select from jsonb_each(facts - '{status,completed_at}'::text[]) as f
         where (f.value = others -> f.key
                or f.key = 'response' and turnlog.grows(turnlog.as_messages(f.value),
                                                        turnlog.as_messages(others -> f.key))) is not true)
$$;


-- schemas/rules/is_expired.sql
-- Whether a record has a text for an interaction whose texts expired: it can't be compared any more, and doesn't come back.
-- Numbers still fill.
create or replace function turnlog.is_expired(stored jsonb, incoming jsonb) returns boolean
language sql immutable parallel safe
set search_path = ''
as $$
    select stored ->> 'text_expired_at' is not null and exists (
        select from jsonb_each(incoming) as t (field, value)
         where t.field in ('prompt', 'context', 'response', 'error') and t.value not in ('null', '[]')
           and (t.field <> 'error' or t.value <> '""') and t.value is distinct from stored -> t.field)
$$;


-- schemas/rules/is_same_call.sql
-- Returns whether two spans may be of one call, as two instrumentations see it: they overlap, and their models agree, of
-- which one may be a longer name of the other, as in gpt-4o and openai/gpt-4o-2024-08-06.
create or replace function turnlog.is_same_call(
    one_scope text, one_start timestamptz, one_end timestamptz, one_model text,
    other_scope text, other_start timestamptz, other_end timestamptz, other_model text)
returns boolean
language sql immutable parallel safe
set search_path = ''
as $$
    select coalesce(
        one_scope <> other_scope
        and one_start <= greatest(other_start, other_end) and other_start <= greatest(one_start, one_end)
        and (one_model is null or other_model is null
             or starts_with(lower(regexp_replace(one_model, '^.*/', '')), lower(regexp_replace(other_model, '^.*/', '')))
             or starts_with(lower(regexp_replace(other_model, '^.*/', '')), lower(regexp_replace(one_model, '^.*/', '')))),
        false)
$$;


-- schemas/rules/key_conflict.sql
-- Returns the conflict receipt of a session or an interaction whose key another row holds. Ids derive from keys, so the
-- other row was written past the service; the unique indexes stop a second one, and the receipt names it in `held_by`.
create or replace function turnlog.key_conflict(
    in_project text, session_key text, in_session uuid default null, interaction_key text default null)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select case when holder.id is not null and holder.id is distinct from in_session
            then jsonb_build_object(
                'receipt', 'conflict', 'constraint', 'ai_sessions_project_key_key', 'columns', array['project', 'key'],
                'attempted', jsonb_build_object('project', in_project, 'key', session_key), 'held_by', holder.id)
            else jsonb_build_object(
                'receipt', 'conflict', 'constraint', 'ai_interactions_session_key_key',
                'columns', array['project', 'session_id', 'key'],
                'attempted', jsonb_build_object('project', in_project, 'session_id', in_session, 'key', interaction_key),
                'held_by', (select i.id from turnlog.ai_interactions as i
                             where i.project = in_project and i.session_id = in_session and i.key = interaction_key))
            end
        from (select 1) as one
        left join turnlog.ai_sessions as holder
            on holder.project = in_project and holder.key = session_key);
end
$$;


-- schemas/rules/key_row.sql
-- Returns a key as its operators see it, without digest and token secret.
create or replace function turnlog.key_row(of_key turnlog.ai_keys) returns jsonb
language sql immutable
set search_path = ''
set timezone = 'UTC'
as $$
    select to_jsonb(of_key) - '{digest,token_secret}'::text[]
$$;


-- schemas/rules/lock_merges.sql
-- Waits for a merge of users that begins now, and keeps others from beginning until the transaction ends. So a write
-- that read turnlog.ai_user_merges commits before the merge looks for what the guest has. `to_merge`: begin one, which
-- waits for all writes of the project. It comes before any lock of a row, so it can't deadlock.
create or replace function turnlog.lock_merges(in_project text, to_merge boolean default false) returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    place constant bigint := hashtextextended('turnlog.ai_user_merges' || chr(10) || in_project, 0);
begin
    if to_merge then
        perform pg_advisory_xact_lock(place);
    else
        perform pg_advisory_xact_lock_shared(place);
    end if;
end
$$;


-- schemas/rules/message_bytes.sql
-- Returns a list of messages as the text that turnlog.history_id takes, in UTF-8.
create or replace function turnlog.message_bytes(messages jsonb) returns bytea
language sql immutable parallel safe
set search_path = ''
as $$
    select substr(t.bytes, 2, octet_length(t.bytes) - 2) from (select convert_to(messages::text, 'UTF8') as bytes) as t
$$;


-- schemas/rules/named_in.sql
-- Returns what three spans of a trace name: a caller's session, a library's, and a user; null where there is no span.
create or replace function turnlog.named_in(
    in_project text, of_trace text, by_caller_on text, by_library_on text, user_on text)
returns text[]
language sql stable
set search_path = ''
as $$
    select array[
        (select s.stated_session::text from turnlog.ai_spans as s
          where s.project = in_project and s.trace_id = of_trace and s.span_id = by_caller_on),
        (select s.stated_session::text from turnlog.ai_spans as s
          where s.project = in_project and s.trace_id = of_trace and s.span_id = by_library_on),
        (select s.user_id from turnlog.ai_spans as s
          where s.project = in_project and s.trace_id = of_trace and s.span_id = user_on)]
$$;


-- schemas/rules/plain_text.sql
-- Returns the text of a prompt or a response. Of a list of messages: the texts of all messages, and the names and
-- arguments of the tools that they call, one per line.
create or replace function turnlog.plain_text(content jsonb) returns text
language plpgsql immutable parallel safe -- for a text it takes a tenth of the time of an SQL function
set search_path = ''
as $$
begin
    if jsonb_typeof(content) = 'string' then
        return content #>> '{}';
    end if;
    return (
        select string_agg(case jsonb_typeof(part.value) when 'string' then part.value #>> '{}' else part.value::text end,
                          E'\n' order by message.n, part.kind, part.n)
          from (select e.value, e.n, turnlog.content_of_message(e.value) as content
                  from jsonb_array_elements(content) with ordinality as e (value, n) offset 0) as message
         cross join lateral (
               select 1 as kind, message.content as value, 1 as n
                where jsonb_typeof(message.content) = 'string'
               union all
               select 2, part.value, part.n
                 from jsonb_path_query(message.content, 'lax $[*].text ? (@.type() == "string")')
                      with ordinality as part (value, n)
               union all
               select 3, part.value, part.n
                 from jsonb_path_query(message.content, 'lax $[*].content ? (@.type() == "string")')
                      with ordinality as part (value, n)
               union all
               select 4, called.value, called.n
                 from jsonb_path_query(message.value, 'lax $.tool_calls[*].function.name') with ordinality as called (value, n)
               union all
               select 5, called.value, called.n
                 from jsonb_path_query(message.value, 'lax $.tool_calls[*].function.arguments')
                      with ordinality as called (value, n)) as part);
end
$$;


-- schemas/rules/record_rank.sql
-- Returns what the values of an interaction's record are compared by: how far its status is, the length of its response,
-- and when it was said. A record that has nothing but facts of the finished answer speaks of a completed one. `ranks`: of
-- a stored record, see turnlog.interaction_rule; the length of a response that came with an earlier status is null.
create or replace function turnlog.record_rank(
    record jsonb, ranks jsonb, out status integer, out length integer, out said_at timestamptz)
language plpgsql immutable
set search_path = ''
set timezone = 'UTC'
as $$
declare
    response constant jsonb := nullif(record -> 'response', 'null');
begin
    status := case when response is null and nullif(record -> 'prompt', 'null') is null
                        and coalesce(record ->> 'status', record ->> 'error') is null
                   then 3
                   else turnlog.status_rank(record ->> 'status', record ->> 'error', response is not null) end;
    length := case when coalesce((ranks #>> '{response,0}')::integer, status) = status
                   then length(turnlog.as_messages(response)::text) end;
    said_at := coalesce(record ->> 'completed_at', record ->> 'started_at', record ->> 'created_at');
end
$$;


-- schemas/rules/revision_rule.sql
-- The rule for a record that is sent with `on_conflict` 'revise'. It takes the place of turnlog.interaction_rule, and has
-- its arguments and results. Of the content (see turnlog.statement) nothing contradicts:
--
-- - Field by field, the value said last is shown; of the same time the one of the longer response, then the greater text.
--   As always, a further status has its say over the answer, and what is known of the call gives way to a record that is
--   no attempt.
-- - What isn't shown any more, or never is, becomes a revision, unless what is shown contains it: the whole statement, so
--   that a revision tells which answer went with which question.
-- - Whose it is and where it stands (key, participant, turn, what it follows) contradicts as always. It began with what
--   began first, so it keeps its place. So does metadata that would have more than 1,000 keys.
--
-- Each field has the greatest of its values, so the order in which records arrive doesn't matter if all say when they
-- were said. `ranks` has [status, length of the response, time] of the record that a value came with, where these aren't
-- the row's own. A record without a time whose answer is an earlier state of the stored one was said before it.
create or replace function turnlog.revision_rule(
    stored jsonb, incoming jsonb, said_at timestamptz,
    out fills jsonb, out filled text[], out conflicts text[], out is_older boolean, out lost jsonb, out revised text[])
language plpgsql immutable
set search_path = ''
set timezone = 'UTC'
as $$
declare
    of_answer constant text[] :=
        '{response,error,finish_reason,completed_at,latency_ms,time_to_first_token_ms,output_tokens,reasoning_tokens,cost_usd}';
    of_call constant text[] := '{model,provider,input_tokens,cached_input_tokens,cache_write_tokens}';
    names constant text[] := '{pending,abandoned,failed,completed}';
    attempts constant integer[] := '{1,2}';
    ranks constant jsonb := coalesce(nullif(stored -> 'ranks', 'null'), '{}');
    was constant record := turnlog.record_rank(stored, ranks);
    own constant record := turnlog.record_rank(incoming, '{}');
    stored_statement constant jsonb := turnlog.statement(stored);
    own_statement constant jsonb := turnlog.statement(incoming);
    is_earlier_state constant boolean := coalesce(incoming ->> 'completed_at', incoming ->> 'started_at') is null
        and own_statement -> 'response' <> stored_statement -> 'response'
        and turnlog.grows(turnlog.as_messages(own_statement -> 'response'),
                          turnlog.as_messages(stored_statement -> 'response'));
    content jsonb;          -- the fields of the content that change
    new_ranks jsonb;        -- field -> [status, length, time], of every field of the content
    displaced text[];
    displaced_at timestamptz;
    outranked text[];
    changed jsonb;          -- the row afterwards
    is_now record;
    stored_status integer;
    new_status integer;
    status_name text;
begin
    is_older := false;
    if stored is null or incoming is null then
        return;
    elsif stored ->> 'erased_at' is not null then
        conflicts := '{erased_at}';
        return;
    elsif turnlog.is_expired(stored, incoming) then
        conflicts := '{text_expired_at}';
        return;
    end if;
    select r.fills, r.conflicts into fills, conflicts
      from turnlog.fill_rule(stored, (
          select coalesce(jsonb_object_agg(e.key, e.value), '{}') from jsonb_each(incoming) as e
           where e.key = any ('{key,participant,reply_to,alternative_to,turn,tags,chosen_at}'))) as r;
    if conflicts is not null then
        fills := null;
        return;
    end if;

    with fields as (
        select f.field, stored_statement -> f.field as stored, own_statement -> f.field as own, ranks -> f.field as rank,
               f.field = any (of_answer) as is_of_answer
          from jsonb_object_keys(stored_statement || own_statement) as f (field)
    ), ranked as (
        select f.*,
               coalesce((f.rank ->> 0)::integer, was.status) as was_status,
               case when f.is_of_answer and f.rank is not null then (f.rank ->> 1)::integer
                    when f.is_of_answer then was.length end as was_length,
               coalesce((f.rank ->> 2)::timestamptz, was.said_at) as was_said_at,
               case when f.is_of_answer then own.length end as own_length,
               case when f.is_of_answer and is_earlier_state then least(said_at, was.said_at) else said_at end as own_said_at
          from fields as f
    ), compared as (
        select r.*, s.was_status as by_status, s.own_status,
               case when r.own is null then false
                    when r.stored is null then true
                    else (s.own_status, r.own_said_at, coalesce(r.own_length, -1), r.own::text collate "C")
                       > (s.was_status, r.was_said_at, coalesce(r.was_length, -1), r.stored::text collate "C") end as is_greater
          from ranked as r
         cross join lateral (
               -- what goes with no answer has no status; what is known of the call has those of attempts
               select case when r.is_of_answer or r.field = any (of_call) and r.was_status = any (attempts)
                           then r.was_status else 3 end as was_status,
                      case when r.is_of_answer or r.field = any (of_call) and own.status = any (attempts)
                           then own.status else 3 end as own_status) as s
    )
    select coalesce(jsonb_object_agg(c.field, c.own) filter (where c.is_greater and c.own is distinct from c.stored), '{}'),
           jsonb_object_agg(c.field, case when c.is_greater
               then jsonb_build_array(c.own_status, c.own_length, c.own_said_at)
               else jsonb_build_array(c.by_status, c.was_length, c.was_said_at) end),
           coalesce(array_agg(c.field order by c.field)
                    filter (where c.is_greater and c.own <> c.stored), '{}'),
           max(c.was_said_at) filter (where c.is_greater and c.own <> c.stored),
           coalesce(array_agg(c.field order by c.field)
                    filter (where not c.is_greater and c.own <> c.stored), '{}')
      into content, new_ranks, displaced, displaced_at, outranked
      from compared as c;

    fills := coalesce(fills, '{}')
        || (select coalesce(jsonb_object_agg(c.key, c.value), '{}') from jsonb_each(content) as c
             where c.key not like 'metadata.%');
    if content::text like '%"metadata.%' then
        fills := fills || jsonb_build_object('metadata', coalesce(nullif(stored -> 'metadata', 'null'), '{}')
            || (select coalesce(jsonb_object_agg(substr(c.key, 10), c.value), '{}') from jsonb_each(content) as c
                 where c.key like 'metadata.%'));
        if (select count(*) from jsonb_object_keys(fills -> 'metadata')) > 1000 then -- see turnlog.fill_rule
            fills := null;
            conflicts := '{metadata}';
            return;
        end if;
    end if;
    if (incoming ->> 'started_at')::timestamptz < coalesce((stored ->> 'started_at')::timestamptz, 'infinity') then
        fills := fills || jsonb_build_object('started_at', incoming -> 'started_at');
    end if;
    if turnlog.says_more(incoming -> 'context', stored -> 'context') then
        fills := fills || jsonb_build_object('context', incoming -> 'context');
    end if;

    stored_status := turnlog.status_rank(stored ->> 'status', stored ->> 'error', stored_statement ? 'response');
    new_status := case when own_statement ? 'response' or coalesce(incoming ->> 'status', nullif(incoming ->> 'error', '')) is not null
                       then greatest(stored_status, own.status) else stored_status end;
    is_older := outranked <> '{}' or incoming ->> 'status' is not null and own.status < stored_status;
    changed := stored || fills;
    status_name := case when new_status <> turnlog.status_rank(null, changed ->> 'error', turnlog.statement(changed) ? 'response')
                        then names[new_status + 1] end;
    if status_name is distinct from stored ->> 'status' then
        fills := fills || jsonb_build_object('status', status_name);
        changed := changed || jsonb_build_object('status', status_name);
    end if;
    filled := array(select f from jsonb_object_keys(fills) as f
                     where case f when 'status' then new_status <> stored_status
                                  when 'metadata' then exists (select from jsonb_object_keys(content) as c
                                                                where c like 'metadata.%' and c <> all (displaced))
                                  else true end
                     order by f);

    -- ranks that are those of the row itself are left out
    is_now := turnlog.record_rank(changed, new_ranks);
    select coalesce(jsonb_object_agg(r.key, r.value), '{}')
      into new_ranks
      from jsonb_each(new_ranks) as r
     where (r.value ->> 2)::timestamptz is distinct from is_now.said_at
        or (r.value ->> 0)::integer = any (attempts)
        or r.key = any (of_answer) and ((r.value ->> 0)::integer <> is_now.status
                                        or (r.value ->> 1)::integer is distinct from is_now.length)
        or r.key = any (of_call) and (r.value ->> 0)::integer
           <> case when is_now.status = any (attempts) then is_now.status else 3 end;
    new_ranks := nullif(new_ranks || case when ranks ? 'started_at'
                                          then jsonb_build_object('started_at', ranks -> 'started_at') else '{}' end, '{}');
    if new_ranks is distinct from nullif(stored -> 'ranks', 'null') then
        fills := fills || jsonb_build_object('ranks', new_ranks);
    end if;
    fills := nullif(fills, '{}');

    lost := '[]';
    if displaced <> '{}' and not turnlog.is_contained(stored_statement, turnlog.statement(changed)) then
        lost := lost || jsonb_build_object(
            'facts', stored_statement || jsonb_build_object('status', names[coalesce((ranks #>> case
                when stored_statement ? 'response' then '{response,0}'::text[] else '{error,0}' end)::integer, was.status) + 1]),
            'said_at', displaced_at);
        revised := displaced;
    end if;
    if outranked <> '{}' and not turnlog.is_contained(own_statement, turnlog.statement(changed)) then
        lost := lost || jsonb_build_object(
            'facts', own_statement || jsonb_build_object('status', names[own.status + 1]), 'said_at', said_at);
        revised := revised || outranked;
    end if;
    lost := nullif(lost, '[]');
end
$$;


-- schemas/rules/revisions_fit.sql
-- Whether an interaction may keep what isn't shown of it ([{facts, said_at}]): it has room below 100 revisions, or one of
-- them already is, or becomes, what is to be kept.
create or replace function turnlog.revisions_fit(stored jsonb, lost jsonb) returns boolean
language sql stable
set search_path = ''
as $$
    with kept as materialized (
        select r.facts
          from turnlog.ai_revisions as r
         where r.project = stored ->> 'project' and r.session_id = (stored ->> 'session_id')::uuid
           and r.interaction_id = (stored ->> 'id')::uuid
    )
    select (select count(*) from kept) + jsonb_array_length(lost) <= 100
        or not exists (
               select from jsonb_array_elements(lost) as l
                where not exists (select from kept as k
                                   where turnlog.is_contained(l -> 'facts', k.facts)
                                      or turnlog.is_contained(k.facts, l -> 'facts')))
$$;


-- schemas/rules/says_more.sql
-- Whether a context says more than another one of the same interaction: it has more messages, or of as many the greater
-- text. A client may send less of the same history with a later call.
create or replace function turnlog.says_more(context jsonb, other jsonb) returns boolean
language sql immutable parallel safe
set search_path = ''
as $$
    select coalesce(context, 'null') <> 'null' and (coalesce(other, 'null') = 'null'
        or (jsonb_array_length(context), context::text collate "C") > (jsonb_array_length(other), other::text collate "C"))
$$;


-- schemas/rules/session_conflict.sql
-- Returns the conflict receipt of a session whose number in its folder, or whose key, another session holds.
create or replace function turnlog.session_conflict(in_project text, incoming turnlog.ai_sessions) returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select coalesce(
            (select jsonb_build_object(
                        'receipt', 'conflict', 'constraint', 'ai_sessions_folder_number_key',
                        'columns', array['project', 'folder_id', 'session_number'],
                        'attempted', jsonb_build_object('project', in_project, 'folder_id', incoming.folder_id,
                                                        'session_number', incoming.session_number::text),
                        'held_by', s.id)
               from turnlog.ai_sessions as s
              where s.project = in_project and s.folder_id = incoming.folder_id
                and s.session_number = incoming.session_number and s.id <> incoming.id),
            turnlog.key_conflict(in_project, incoming.key, incoming.id)));
end
$$;


-- schemas/rules/session_rows.sql
-- Returns sessions as the API shows them, as a list in the order of `ids`. Counts are derived here and never stored.
create or replace function turnlog.session_rows(of_project text, ids uuid[]) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
    return (
        select coalesce(jsonb_agg(
            jsonb_build_object(
                'session_id', s.id, 'key', s.key, 'user_id', s.user_id, 'title', s.title,
                'folder_id', s.folder_id, 'session_number', s.session_number, 'scheduled_on', s.scheduled_on,
                'status', s.status, 'implicit', s.implicit,
                'tags', coalesce(to_jsonb(s.tags), '[]'), 'metadata', coalesce(s.metadata, '{}'),
                'started_at', s.started_at, 'earliest_turn_at', s.earliest_turn_at, 'ended_at', s.ended_at,
                'created_at', s.created_at, 'erased_at', s.erased_at,
                'text_expired_at', s.text_expired_at,
                'owner', case when 'user_id' = any (s.edited) then coalesce('user:' || s.user_id, s.claim)
                              else coalesce(s.claim, 'user:' || s.user_id) end,
                'interaction_count', coalesce(i.interaction_count, 0), 'failed_count', coalesce(i.failed_count, 0),
                'last_activity_at', i.last_activity_at
            ) order by wanted.n), '[]')
        from unnest(ids) with ordinality as wanted (id, n)
        join turnlog.ai_sessions as s on s.project = of_project and s.id = wanted.id
        left join (
            select c.session_id, count(*) as interaction_count,
                   count(*) filter (where c.status = 'failed' or c.status is null and c.error <> '') as failed_count,
                   max(coalesce(c.completed_at, c.started_at, c.created_at)) as last_activity_at
              from turnlog.ai_interactions as c
             where c.project = of_project and c.session_id = any (ids)
             group by c.session_id
        ) as i on i.session_id = s.id);
end
$$;


-- schemas/rules/span_places.sql
-- Returns the session and the user of spans. A statement on a span holds for all below it, the closest one first. A session
-- that a caller named, also elsewhere in the trace, comes before one that a library made up; where callers named several,
-- one elsewhere comes after it. A trace in which nothing names a session has one of its own.
-- `level`: how it was found, the best first. `trace_ids` and `span_ids` are parallel lists.
create or replace function turnlog.span_places(in_project text, trace_ids text[], span_ids text[])
returns table (of_trace text, of_span text, level integer, place uuid, place_key text, person text)
language plpgsql stable
set search_path = ''
as $$
begin
    return query
    with ways as materialized ( -- most spans of a trace have the same
        select s.trace_id, s.caller_span, s.library_span, s.user_span, array_agg(s.span_id) as ids
          from unnest(trace_ids, span_ids) as w (trace_id, span_id)
         cross join lateral (
               select s.trace_id, s.span_id, s.caller_span, s.library_span, s.user_span
                 from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = w.trace_id and s.span_id = w.span_id
               offset 0) as s
         group by s.trace_id, s.caller_span, s.library_span, s.user_span
    ), stated as materialized (
        select y.trace_id, y.ids, t.session_id as own_session, t.erased_at,
               above.stated_session as above_session, above.session_key as above_key,
               library.stated_session as library_session, library.session_key as library_key,
               anywhere.stated_session as anywhere_session, anywhere.session_key as anywhere_key, t.caller_several,
               library_anywhere.stated_session as library_anywhere_session,
               library_anywhere.session_key as library_anywhere_key, person.user_id
          from ways as y
         cross join lateral (
               select t.* from turnlog.ai_traces as t
                where t.project = in_project and t.trace_id = y.trace_id offset 0) as t
          left join lateral (
               select s.stated_session, s.session_key from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = y.trace_id and s.span_id = y.caller_span
               offset 0) as above on true
          left join lateral (
               select s.stated_session, s.session_key from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = y.trace_id and s.span_id = t.caller_span
               offset 0) as anywhere on true
          left join lateral (
               select s.stated_session, s.session_key from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = y.trace_id and s.span_id = y.library_span
               offset 0) as library on true
          left join lateral (
               select s.stated_session, s.session_key from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = y.trace_id and s.span_id = t.library_span
               offset 0) as library_anywhere on true
          left join lateral (
               select coalesce(m.into_user, s.user_id) as user_id
                 from turnlog.ai_spans as s
                 left join lateral (
                      select m.into_user from turnlog.ai_user_merges as m
                       where m.project = in_project and m.guest = s.user_id offset 0) as m on true
                where s.project = in_project and s.trace_id = y.trace_id
                  and s.span_id = coalesce(y.user_span, t.user_span)
               offset 0) as person on true
    ), levelled as (
        select s.*, case when s.erased_at is not null then 0
                         when s.above_session is not null then 1
                         when s.anywhere_session is not null and not s.caller_several then 2
                         when s.library_session is not null then 3
                         when s.anywhere_session is not null then 4
                         when s.library_anywhere_session is not null then 5
                         else 6 end as found_at
          from stated as s
    )
    select l.trace_id, i.id, l.found_at,
           case l.found_at when 1 then l.above_session when 2 then l.anywhere_session when 3 then l.library_session
                           when 4 then l.anywhere_session when 5 then l.library_anywhere_session else l.own_session end,
           case l.found_at when 1 then l.above_key when 2 then l.anywhere_key when 3 then l.library_key
                           when 4 then l.anywhere_key when 5 then l.library_anywhere_key
                           else 'trace:' || l.trace_id end,
           l.user_id
      from levelled as l
     cross join lateral unnest(l.ids) as i (id);
end
$$;


-- schemas/rules/statement.sql
-- Returns what an interaction's record says of its content, field -> value, with a field 'metadata.KEY' for each key of its
-- metadata: what another record may say otherwise, and what a revision keeps. Whose the interaction is, when it began
-- and where it stands aren't content.
create or replace function turnlog.statement(record jsonb) returns jsonb
language sql immutable parallel safe
set search_path = ''
as $$
    select coalesce(jsonb_object_agg(f.field, f.value), '{}')
      from (select e.key as field, e.value
              from jsonb_each(record) as e
             where e.value not in ('null', '[]', '{}') and not (e.key = 'error' and e.value = '""')
               and e.key in ('prompt', 'response', 'error', 'finish_reason', 'completed_at', 'latency_ms',
                             'time_to_first_token_ms', 'output_tokens', 'reasoning_tokens', 'cost_usd', 'model', 'provider',
                             'input_tokens', 'cached_input_tokens', 'cache_write_tokens')
            union all
            select 'metadata.' || m.key, m.value
              from jsonb_each(coalesce(nullif(record -> 'metadata', 'null'), '{}')) as m) as f
$$;


-- schemas/rules/status_rank.sql
-- Returns how far an interaction is by its status (pending 0, abandoned 1, failed 2, completed 3), which is derived
-- from its error and response where nobody sent one.
create or replace function turnlog.status_rank(status text, error text, is_answered boolean) returns integer
language sql immutable parallel safe
set search_path = ''
as $$
    select case coalesce(status, case when error <> '' then 'failed' when is_answered then 'completed' end)
        when 'completed' then 3 when 'failed' then 2 when 'abandoned' then 1 else 0 end
$$;


-- schemas/rules/time_said.sql
-- Returns when a record about a stored interaction was said: as it states; else, if what it says otherwise than the
-- stored one is a kept revision, when that was said, since then it is a retry; else when it was received.
create or replace function turnlog.time_said(stored jsonb, incoming jsonb, received_at timestamptz)
returns timestamptz
language sql stable
set search_path = ''
as $$
    select coalesce(
        (incoming ->> 'completed_at')::timestamptz, (incoming ->> 'started_at')::timestamptz,
        (select max(r.said_at)
           from (select (select jsonb_object_agg(o.key, o.value)
                           from jsonb_each(s.own) as o
                          where o.value is distinct from s.was -> o.key) as facts
                   from (select turnlog.statement(incoming) as own, turnlog.statement(stored) as was offset 0) as s
                 offset 0) as n
           join turnlog.ai_revisions as r on turnlog.is_contained(n.facts, r.facts)
          where r.project = stored ->> 'project' and r.session_id = (stored ->> 'session_id')::uuid
            and r.interaction_id = (stored ->> 'id')::uuid),
        received_at)
$$;


-- schemas/rules/twin_hash.sql
-- Returns a hash of what an erased span said, by which another span of its call is recognised.
create or replace function turnlog.twin_hash(in_project text, said text) returns bytea
language sql immutable parallel safe
set search_path = ''
as $$
    select substr(sha256(convert_to(in_project || '/' || said, 'UTF8')), 1, 16)
$$;


-- schemas/rules/user_hash.sql
-- Hashes the name of an erased user, which is all that stays of it. Without the project's secret nobody can guess it.
create or replace function turnlog.user_hash(secret bytea, of_user text) returns bytea
language sql immutable
set search_path = ''
as $$
    select sha256(secret || convert_to('user' || chr(10) || of_user, 'UTF8'))
$$;


-- schemas/write/add_history.sql
-- Stores messages, those from `start` to before `finish` of a list, as the history `new_id`, unless the session has it.
-- They go on from the history `base`. Without one they are whole, and those of the longest stored history by which they
-- begin are left out. The longest are looked for first, since a call usually adds an answer and a question to what the one
-- before it sent. That takes `beginning`, the bytes from `start` to the end of the list. `with_answer`: the last message is
-- an answer, and the history before it isn't stored.
create or replace function turnlog.add_history(
    in_project text, in_session uuid, new_id uuid, messages jsonb, start integer, finish integer,
    beginning bytea default null, base uuid default null, with_answer boolean default false)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    -- how many messages are looked for as new: many of a short history, a few of one with large ones
    most_new constant integer := greatest(8, 4000000 / greatest(1, octet_length(beginning)));
    known record;
    added jsonb;
begin
    if exists (select from turnlog.ai_messages as m
                where m.project = in_project and m.session_id = in_session and m.id = new_id) then
        return;
    end if;
    if beginning is not null then
        for n in reverse jsonb_array_length(messages) - 1 .. greatest(start + 1, finish - most_new) loop
            beginning := substr(beginning, 1, octet_length(beginning)
                                              - octet_length(turnlog.message_bytes(jsonb_build_array(messages -> n))) - 2);
            continue when n >= finish or with_answer and n = finish - 1;
            select m.id into base
              from turnlog.ai_messages as m
             where m.project = in_project and m.session_id = in_session and m.id = turnlog.history_id(beginning);
            if found then
                start := n;
                exit;
            end if;
        end loop;
    end if;
    select m.count, m.bytes into known
      from turnlog.ai_messages as m
     where m.project = in_project and m.session_id = in_session and m.id = base;
    added := case when start = 0 and finish = jsonb_array_length(messages) then messages
        else jsonb_path_query_array(
            messages, '$[$start to $last]', jsonb_build_object('start', start, 'last', finish - 1)) end;
    insert into turnlog.ai_messages (project, session_id, id, after, count, bytes, messages)
    values (in_project, in_session, new_id, base, coalesce(known.count, 0) + finish - start,
            coalesce(known.bytes, 0) + octet_length(added::text), added);
end
$$;


-- schemas/write/add_messages.sql
-- Stores those messages of an interaction that its session doesn't have. Takes what turnlog.by_content returned. The
-- caller holds the session's lock.
-- A response of one message shares a row with its prompt, if that has none: then only the history that the response ends
-- is stored, and the prompt's is all of it but its last message.
create or replace function turnlog.add_messages(
    in_project text, facts jsonb, messages jsonb, first integer, last integer, bytes bytea, answer jsonb)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    of_session constant uuid := facts ->> 'session_id';
    context_end constant uuid := facts ->> 'context_end';
    prompt_end constant uuid := facts ->> 'prompt_end';
    response_end constant uuid := facts ->> 'response_end';
    -- where messages begin that go on from `base`
    start constant integer := case when last is null then 0 when context_end is null then first
                                   else jsonb_array_length(messages) - last end;
    base constant uuid := case when last is not null then context_end end;
    has_prompt constant boolean := exists (
        select from turnlog.ai_messages as m
         where m.project = in_project and m.session_id = of_session and m.id = prompt_end);
begin
    if first > 0 then
        perform turnlog.add_history(in_project, of_session, (facts ->> 'instructions')::uuid, messages, 0, first);
    end if;
    if context_end is not null and last is not null then
        perform turnlog.add_history(
            in_project, of_session, context_end, messages, first, jsonb_array_length(messages) - last, bytes);
    end if;
    if not has_prompt and jsonb_array_length(answer) = 1 then
        perform turnlog.add_history(
            in_project, of_session, response_end, messages || answer, start, jsonb_array_length(messages) + 1,
            case when base is null then bytes || ', '::bytea || turnlog.message_bytes(answer) end, base, true);
        return;
    end if;
    if not has_prompt and prompt_end is not null then
        perform turnlog.add_history(in_project, of_session, prompt_end, messages, start, jsonb_array_length(messages),
                                    case when base is null then bytes end, base);
    end if;
    if answer is not null then
        perform turnlog.add_history(
            in_project, of_session, response_end, answer, 0, jsonb_array_length(answer), base => prompt_end);
    end if;
end
$$;


-- schemas/write/add_rejected.sql
-- Inserts the receipts of rejected rows (kind -> position -> receipt) into the receipts of the other `rows`, each at
-- its position. Returns the receipts of all rows.
create or replace function turnlog.add_rejected(receipts jsonb, rejected jsonb, rows jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
    kind text;
    given jsonb;
    of_refused jsonb;
begin
    for kind, of_refused in select r.key, r.value from jsonb_each(rejected) as r loop
        given := coalesce(nullif(receipts -> kind, 'null'), '[]');
        if jsonb_typeof(given) = 'string' then
            given := to_jsonb(array_fill(jsonb_build_object('receipt', given), array[jsonb_array_length(rows -> kind)]));
        end if;
        receipts := receipts || jsonb_build_object(kind, (
            select jsonb_agg(coalesce(of_refused -> place.n::text, given -> (place.nth - 1)::integer) order by place.n)
              from (select n, count(*) filter (where not of_refused ? n::text) over (order by n) as nth
                      from generate_series(1, jsonb_array_length(given)
                                              + (select count(*) from jsonb_object_keys(of_refused))) as n) as place));
    end loop;
    return receipts;
end
$$;


-- schemas/write/as_sent.sql
-- Returns a stored interaction, a row as jsonb, as it is compared with facts that came for it: prompt, context and response
-- are as they were sent, where the facts have them, and with `whole` all of them. `stored_facts`: the facts as
-- turnlog.by_content returns them. A history of the same id is the same, also where a message of it was erased.
create or replace function turnlog.as_sent(stored jsonb, facts jsonb, stored_facts jsonb, whole boolean) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
    in_project constant text := stored ->> 'project';
    of_session constant uuid := stored ->> 'session_id';
    instructions constant uuid := stored ->> 'instructions';
    context_end constant uuid := stored ->> 'context_end';
    prompt_end constant uuid := stored ->> 'prompt_end';
    response_end constant uuid := stored ->> 'response_end';
    has_context constant boolean := stored -> 'context' <> 'null';
    same_context constant boolean := (stored ->> 'context', instructions, context_end) is not distinct from (
        stored_facts ->> 'context', (stored_facts ->> 'instructions')::uuid, (stored_facts ->> 'context_end')::uuid);
begin
    if prompt_end is null and not has_context then
        return stored - '{instructions,context_end,prompt_end,response_end}'::text[];
    end if;
    return stored - '{instructions,context_end,prompt_end,response_end}'::text[] || jsonb_build_object(
        'context', case
            when facts -> 'context' is null or not has_context then stored -> 'context'
            when same_context then facts -> 'context'
            else turnlog.content(stored -> 'context', in_project, of_session, context_end, null, null, instructions) end,
        'prompt', case
            when facts -> 'prompt' is null and not whole then stored -> 'prompt'
            when same_context and prompt_end = (stored_facts ->> 'prompt_end')::uuid
                 and stored -> 'prompt' = stored_facts -> 'prompt' then facts -> 'prompt'
            else turnlog.content(stored -> 'prompt', in_project, of_session, prompt_end, context_end, response_end,
                                 case when not has_context then instructions end) end,
        'response', turnlog.content(
            stored -> 'response', in_project, of_session, response_end, prompt_end));
end
$$;


-- schemas/write/attach_parents.sql
-- Completes the receipts of a batch's folders and sessions: moves the receipts of planned sessions into the receipts of
-- their folders (`planned`), and adds each explicit `folder` or `session` as stored where `return_parents` asks for it.
-- Returns {folders: [receipt ...], sessions: [receipt ...]}.
create or replace function turnlog.attach_parents(in_project text, rows jsonb, folder_receipts jsonb, session_receipts jsonb)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    sessions constant jsonb := coalesce(rows -> 'sessions', '[]');
    unplanned constant integer := coalesce((rows ->> 'unplanned')::integer, jsonb_array_length(sessions));
    return_parents constant boolean := coalesce(rows -> 'return_parents' = 'true', false);
begin
    if jsonb_typeof(session_receipts) = 'string' then
        session_receipts := to_jsonb(array_fill(jsonb_build_object('receipt', session_receipts),
                                                array[jsonb_array_length(sessions)]));
    end if;
    return jsonb_build_object(
        'folders', (
            select coalesce(jsonb_agg(
                       f.value
                       || case when folder_row.value ? 'sessions'
                               then jsonb_build_object('planned', coalesce(
                                   (select jsonb_agg((session_receipts -> (s.ordinality - 1)::integer)
                                               || jsonb_build_object('session_id', s.value -> 'id',
                                                                     'session_number', s.value -> 'session_number')
                                               order by s.ordinality)
                                      from jsonb_array_elements(sessions) with ordinality as s
                                     where s.ordinality > unplanned
                                       and (s.value ->> 'folder_position')::bigint = f.ordinality), '[]')) else '{}' end
                       || case when return_parents and folder_row.value -> 'implicit' is distinct from 'true'
                               then jsonb_build_object('folder', turnlog.folder_rows(
                                   in_project, array[(folder_row.value ->> 'id')::uuid]) -> 0)
                               else '{}' end
                       order by f.ordinality), '[]')
              from jsonb_array_elements(folder_receipts) with ordinality as f
             cross join lateral (select rows -> 'folders' -> (f.ordinality - 1)::integer as value) as folder_row),
        'sessions', (
            select coalesce(jsonb_agg(
                       r.value
                       || case when return_parents and s.value -> 'implicit' is distinct from 'true'
                               then jsonb_build_object('session', turnlog.session_rows(
                                   in_project, array[(s.value ->> 'id')::uuid]) -> 0)
                               else '{}' end
                       order by r.ordinality), '[]')
              from jsonb_array_elements(session_receipts) with ordinality as r
             cross join lateral (select sessions -> (r.ordinality - 1)::integer as value) as s
             where r.ordinality <= unplanned));
end
$$;


-- schemas/write/choose.sql
-- Makes an interaction the chosen one of its alternatives, so that the current branch leads through it: see
-- turnlog.branches. Only its last choice is kept, so what followed because of an earlier one says so from now on, by its
-- reply_to. Takes {project, session_id, interaction_id, at: the time of the choice}. Returns {session: or null,
-- chosen: whether there is such an interaction that isn't erased}.
create or replace function turnlog.choose(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    found_session turnlog.ai_sessions;
    latest timestamptz;
    earlier timestamptz;
begin
    select s.* into found_session
      from turnlog.ai_sessions as s
     where s.project = in_project and s.id = of_session
       for no key update;
    if found_session.erased_at is null then
        -- later than all that was said or chosen, also by clocks that are ahead of this one
        select max(greatest(i.chosen_at, least(coalesce(i.started_at, i.created_at), i.created_at))) into latest
          from turnlog.ai_interactions as i
         where i.project = in_project and i.session_id = of_session;
        select i.chosen_at into earlier
          from turnlog.ai_interactions as i
         where i.project = in_project and i.session_id = of_session and i.id = (request ->> 'interaction_id')::uuid
           and i.erased_at is null;
        if earlier is not null then
            update turnlog.ai_interactions as i
               set reply_to = t.follows
              from (select b.id, b.at, b.follows, lag(b.id) over (order by b.turn, b.at, b.arrived, b.id) as before
                      from turnlog.branches(in_project, of_session, null) as b) as t
             where i.project = in_project and i.session_id = of_session and i.id = t.id
               and i.reply_to is null and i.alternative_to is null and t.at >= earlier and t.follows <> t.before;
        end if;
        update turnlog.ai_interactions as i
           set chosen_at = greatest((request ->> 'at')::timestamptz, latest + interval '1 microsecond')
         where i.project = in_project and i.session_id = of_session and i.id = (request ->> 'interaction_id')::uuid
           and i.erased_at is null;
    end if;
    return jsonb_build_object(
        'session', case when found_session.id is not null then jsonb_build_object(
            'session_id', found_session.id, 'key', found_session.key, 'erased_at', found_session.erased_at) end,
        'chosen', found);
end
$$;


-- schemas/write/date_sessions.sql
-- Moves sessions to an earlier turn: `earliest_turn_at` of each becomes its time in `times`, unless it is earlier
-- already. The earlier of two is the same in any order. The caller holds the sessions' locks.
create or replace function turnlog.date_sessions(in_project text, ids uuid[], times timestamptz[]) returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    one record;
begin
    -- one update each: a join would be planned by statistics, see turnlog.fill_stored
    for one in select t.id, min(t.at) as at from unnest(ids, times) as t (id, at) group by t.id loop
        update turnlog.ai_sessions as s
           set earliest_turn_at = one.at
         where s.project = in_project and s.id = one.id
           and (s.earliest_turn_at is null or s.earliest_turn_at > one.at);
    end loop;
end
$$;


-- schemas/write/drop_added.sql
-- Returns a batch's receipts without those of the rows that the service itself added after the batch's own.
create or replace function turnlog.drop_added(receipts jsonb, request jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
    return receipts || (
        select coalesce(jsonb_object_agg(k.kind, (
                   select coalesce(jsonb_agg(r.value order by r.ordinality), '[]')
                     from jsonb_array_elements(receipts -> k.kind) with ordinality as r
                    where r.ordinality <= jsonb_array_length(coalesce(request -> k.kind, '[]')))), '{}')
          from unnest('{sessions,interactions,feedback}'::text[]) as k (kind)
         where jsonb_typeof(receipts -> k.kind) = 'array');
end
$$;


-- schemas/write/drop_rejected.sql
-- Returns a batch without the rejected rows (kind -> position -> receipt), with the positions in `numbers_taken` and
-- the count `unplanned` adjusted. Planned sessions come after all rows that can be rejected.
create or replace function turnlog.drop_rejected(rows jsonb, rejected jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
    return (
        select rows || coalesce(jsonb_object_agg(r.key, (
                   select coalesce(jsonb_agg(e.value order by e.ordinality), '[]')
                     from jsonb_array_elements(rows -> r.key) with ordinality as e
                    where not r.value ? e.ordinality::text)), '{}')
          from jsonb_each(rejected) as r)
        || case when rejected ? 'sessions' and rows ? 'numbers_taken' then jsonb_build_object(
               'unplanned', (rows ->> 'unplanned')::integer - (select count(*) from jsonb_object_keys(rejected -> 'sessions')),
               'numbers_taken', (
                   select coalesce(jsonb_agg(u.position - (select count(*) from jsonb_object_keys(rejected -> 'sessions') as k
                                                            where k::bigint < u.position) order by u.position), '[]')
                     from (select p::bigint as position from jsonb_array_elements_text(rows -> 'numbers_taken') as p) as u
                    where not rejected -> 'sessions' ? u.position::text)) else '{}' end;
end
$$;


-- schemas/write/dry_run.sql
-- Returns the receipts that turnlog.write would return for a batch: it writes the batch and rolls it back.
create or replace function turnlog.dry_run(batch jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    receipts jsonb;
begin
    begin
        receipts := turnlog.write(batch);
        raise exception using errcode = 'TLDRY', message = 'only a dry run';
    exception when sqlstate 'TLDRY' then
        return receipts; -- variables survive the rollback
    end;
end
$$;


-- schemas/write/edit.sql
-- Replaces fields that people edit; null empties a field. Edited fields are listed in ai_sessions.edited, and later
-- writes neither fill nor contradict them. Another `user_id` hands the session over: it is that user's own from then on;
-- a guest's name stands for the user that the guest was merged into.
-- Takes {project, session_id, changes: {user_id?, title?, tags?, status?, scheduled_on?, metadata?}}. Returns the
-- session, a tombstone or null.
create or replace function turnlog.edit(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    in_project constant text := request ->> 'project';
    changes jsonb := request -> 'changes';
begin
    if changes ->> 'user_id' is not null then
        perform turnlog.lock_merges(in_project);
        changes := changes || coalesce(
            (select jsonb_build_object('user_id', m.into_user) from turnlog.ai_user_merges as m
              where m.project = in_project and m.guest = changes ->> 'user_id'), '{}');
    end if;
    update turnlog.ai_sessions as s
       set (user_id, title, tags, status, scheduled_on, metadata) = (
               select m.user_id, m.title, m.tags, coalesce(m.status, 'open'), m.scheduled_on, m.metadata
                 from jsonb_populate_record(s, changes) as m),
           edited = array(
               select f from unnest(s.edited) as f
               union
               select f from jsonb_object_keys(changes) as f where f in ('user_id', 'title', 'tags', 'status', 'scheduled_on', 'metadata'))
     where s.project = in_project and s.id = (request ->> 'session_id')::uuid and s.erased_at is null;
    return turnlog.session(request);
end
$$;


-- schemas/write/ensure_sessions.sql
-- Inserts the sessions of a batch that don't exist and locks the others, in the order of their ids, so that neither an
-- erasure nor another write can interleave.
-- Returns `created`: ids that this batch inserted; `present`: ids that existed; `rejected`: id -> why it takes no
-- records ('erased', or it met another row's natural key); `needs_no_fill`: the batch says nothing further about its
-- sessions.
create or replace function turnlog.ensure_sessions(
    in_project text, rows jsonb,
    out created uuid[], out present uuid[], out rejected jsonb, out needs_no_fill boolean)
language plpgsql volatile
set search_path = ''
as $$
declare
    named uuid[];
    existing uuid[];
    has_explicit boolean;   -- a session has an explicit row, or one with a folder
    has_key boolean;        -- a row has a key
    each_once boolean;      -- each session has at most one row
    lacks_key boolean := false; -- a stored session has no key yet
    defaults constant turnlog.ai_sessions := jsonb_populate_record(null::turnlog.ai_sessions, jsonb_build_object(
        'project', in_project, 'status', 'open', 'implicit', false, 'created_at', statement_timestamp()));
begin
    select array_agg(distinct n.id), bool_or(n.has_explicit), bool_or(n.has_key),
           count(distinct n.id) filter (where n.has_key is not null) = count(n.has_key)
      into named, has_explicit, has_key, each_once
      from (select s.id, s.implicit is not true or s.folder_id is not null as has_explicit, s.key is not null as has_key
              from jsonb_to_recordset(rows -> 'sessions') as s (id uuid, implicit boolean, folder_id uuid, key text)
            union all
            select i.session_id, null, null from jsonb_to_recordset(rows -> 'interactions') as i (session_id uuid)
            union all
            select p.session_id, null, null from jsonb_to_recordset(rows -> 'participants') as p (session_id uuid)
            union all
            select f.session_id, null, null from jsonb_to_recordset(rows -> 'feedback') as f (session_id uuid)) as n;

    -- Usually all exist, so look them up first. Missing ones must be inserted before any is locked, or two batches could
    -- deadlock. Those found here can still be locked below: only turnlog.leave_session deletes some.
    existing := array(select s.id from turnlog.ai_sessions as s where s.project = in_project and s.id = any (named));
    created := '{}';
    present := '{}';
    rejected := '{}';
    if cardinality(existing) < cardinality(named) then
        with inserted as (
            insert into turnlog.ai_sessions
            select r.*
              from turnlog.missing_sessions(rows, existing) as m (facts)
             cross join lateral jsonb_populate_record(defaults, m.facts) as r
             order by r.id
                on conflict do nothing
            returning id, key
        )
        select coalesce(array_agg(i.id), '{}'), coalesce(bool_or(i.key is null), false)
          into created, lacks_key
          from inserted as i;
    end if;

    -- rows that this batch inserted need no lock: nobody else sees them
    if cardinality(created) < cardinality(named) then
        select coalesce(array_agg(s.id), '{}'), lacks_key or coalesce(bool_or(s.key is null), false),
               coalesce(jsonb_object_agg(s.id, 'erased') filter (where s.erased_at is not null), '{}')
          into present, lacks_key, rejected
          from (select s.id, s.key, s.erased_at
                  from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = any (named) and s.id <> all (created)
                 order by s.id
                   for no key update) as s;
        if not existing <@ present then
            raise exception using errcode = '55P03', message = 'calls of a trace left one of the sessions meanwhile: retry';
        elsif cardinality(created) + cardinality(present) < cardinality(named) then
            rejected := rejected || (
                select jsonb_object_agg(n.id, 'the session was rejected')
                  from unnest(named) as n (id)
                 where n.id <> all (created || present));
        end if;
    end if;
    needs_no_fill := rejected = '{}' and (
        coalesce(not has_explicit and not (has_key and lacks_key), true)
        or each_once and present = '{}' and coalesce(rows -> 'numbers_taken' = '[]', true));
end
$$;


-- schemas/write/erase_rejected_spans.sql
-- Erases the spans of a batch that were rejected because their session or user was erased: they are stored before that is
-- known. `spans` and `receipts` are parallel.
create or replace function turnlog.erase_rejected_spans(in_project text, spans jsonb, receipts jsonb) returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    refs constant text[] := array(
        select s.value ->> 'ref'
          from jsonb_array_elements(spans) with ordinality as s
         cross join lateral (select receipts -> (s.ordinality - 1)::integer as receipt offset 0) as r
         where r.receipt ->> 'reason' = 'erased');
begin
    if refs <> '{}' then
        perform turnlog.blank_spans(in_project, refs);
    end if;
end
$$;


-- schemas/write/fill_interactions.sql
-- Compares a batch's interactions with the stored ones: those that existed, and repetitions within the batch. The first
-- row of each interaction is compared set-wise, repetitions follow one by one, in order.
-- Takes the sessions, ids and keys that the batch created. Returns position -> receipt for all rows but those that
-- created an interaction. Of several rows of one id, the one whose key was inserted is the one that created it.
create or replace function turnlog.fill_interactions(
    in_project text, rows jsonb, rejected jsonb, created_sessions uuid[], created_ids uuid[], created_keys text[])
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    interactions constant jsonb := rows -> 'interactions';
    sessions constant jsonb := coalesce(rows -> 'sessions', '[]');
    first_positions bigint[];
    later_positions bigint[];
    next_position bigint;
    receipts jsonb[];
begin
    -- group instead of joining: a join of two lists of unknown length is planned as a nested loop
    select array_agg(i.position) filter (where i.nth = 1), array_agg(i.position order by i.position) filter (where i.nth > 1)
      into first_positions, later_positions
      from (select i.position, row_number() over (partition by i.session_id, i.id
                                                  order by i.is_created and i.key is distinct from i.created_key, i.position)
                               - i.is_created::integer as nth
              from (select i.*, bool_or(i.position is null) over same as is_created,
                           max(i.key) filter (where i.position is null) over same as created_key
                      from (select i.session_id, i.id, i.key, i.ordinality as position
                              from rows from (jsonb_to_recordset(interactions) as (session_id uuid, id uuid, key text))
                                   with ordinality as i
                            union all
                            select n.session_id, n.id, n.key, null
                              from unnest(created_sessions, created_ids, created_keys) as n (session_id, id, key)) as i
                    window same as (partition by i.session_id, i.id)) as i) as i
     where i.position is not null and i.nth > 0;

    receipts := array[turnlog.fill_stored(in_project, rows, rejected, first_positions)];
    foreach next_position in array coalesce(later_positions, '{}') loop
        -- as a batch of one: a lookup in a large jsonb takes longer than the write
        receipts := array_append(receipts, jsonb_build_object(next_position, turnlog.fill_stored(
            in_project, jsonb_build_object('sessions', sessions, 'interactions', jsonb_build_array(interactions -> (next_position - 1)::integer)),
            rejected, '{1}') -> '1'));
    end loop;
    return (select jsonb_object_agg(e.key, e.value) from unnest(receipts) as r (one_map) cross join lateral jsonb_each(r.one_map) as e);
end
$$;


-- schemas/write/fill_stored.sql
-- Fills stored interactions from the batch's rows at some positions, each of another interaction: see
-- turnlog.interaction_rule. A row that contradicts the stored one changes nothing, unless its `on_conflict` is 'fill' or
-- 'revise', and there are fewer than 100 revisions.
-- Returns position -> receipt.
create or replace function turnlog.fill_stored(in_project text, rows jsonb, rejected jsonb, positions bigint[]) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    interactions constant jsonb := rows -> 'interactions';
    stored turnlog.ai_interactions[]; -- parallel to `positions`; null: there is none
    receipts jsonb;
    filled turnlog.ai_interactions[];
    reindexed_sessions uuid[];
    reindexed_ids uuid[];
begin
    -- one lookup by primary key each, and an upsert below: a join would be planned by statistics, and those of an empty
    -- table make it read the whole project
    select array_agg((select h from turnlog.ai_interactions as h
                       where h.project = in_project and h.session_id = (i.facts ->> 'session_id')::uuid
                         and h.id = (i.facts ->> 'id')::uuid) order by p.nth)
      into stored
      from unnest(positions) with ordinality as p (position, nth)
     cross join lateral (select interactions -> (p.position - 1)::integer as facts offset 0) as i;

    with incoming as materialized (
        select p.position, interactions -> (p.position - 1)::integer as facts, p.stored
          from (select unnest(positions) as position, unnest(stored) as stored) as p
    ), compared as (
        select s.position, s.facts, s.stored, s.stored_facts, s.facts ->> 'on_conflict' as on_conflict,
               coalesce((s.facts ->> 'created_at')::timestamptz, statement_timestamp()) as received_at,
               -- usually the call is a retry, which says no more about the answer than what is stored
               case when (s.stored).erased_at is not null then s.facts ? 'erased_at' -- a restored tombstone
                    else jsonb_populate_record(s.stored, s.stored_facts - 'created_at') = s.stored
                         and (s.stored).ranks is null and s.facts ?| '{prompt,response,error,status}'
                         and turnlog.status_rank(s.facts ->> 'status', s.facts ->> 'error', s.facts ? 'response')
                          <= turnlog.status_rank((s.stored).status, (s.stored).error, (s.stored).response is not null)
                    end as is_same
          from (select s.*, (turnlog.by_content(s.facts)).facts as stored_facts from incoming as s offset 0) as s
         where (s.stored).id is not null
           and not rejected ? (s.facts ->> 'session_id') -- a long session that is being erased still has some
        offset 0
    ), decided as materialized (
        select c.position, c.stored, c.was, c.received_at, rule.is_older, rule.revised, c.on_conflict = 'revise' as revises,
               case when c.on_conflict is distinct from 'report' and (c.stored).text_expired_at is null then rule.lost end as lost,
               has.no_room,
               case when c.on_conflict = 'report' or has.no_room then null else rule.fills end as fills,
               rule.filled, nullif(rule.conflicts || case when c.on_conflict = 'report' then rule.filled
                                                          when has.no_room then rule.revised end, '{}') as differing
          from (select c.*, case when not c.is_same then turnlog.as_sent(
                       to_jsonb(c.stored), c.facts, c.stored_facts, coalesce(c.on_conflict = 'revise', false)) end as was
                  from compared as c offset 0) as c
         cross join lateral (
               select to_jsonb(jsonb_populate_record(null::turnlog.ai_interactions, c.facts))
                      - '{project,session_id,id,created_at,erased_at,text_expired_at,instructions,context_end,prompt_end,response_end}'::text[]
                      as facts) as i
         cross join lateral turnlog.interaction_rule(
               c.was, case when not c.is_same then i.facts end, c.on_conflict,
               case when c.on_conflict = 'revise' and not c.is_same then turnlog.time_said(c.was, i.facts, c.received_at)
                    else coalesce((i.facts ->> 'completed_at')::timestamptz, (i.facts ->> 'started_at')::timestamptz,
                                  c.received_at) end) as rule
         cross join lateral (
               select rule.revised is not null and not turnlog.revisions_fit(c.was, rule.lost) as no_room) as has
    ), kept as materialized (
        select j.position, turnlog.keep_revisions(
                   in_project, (j.stored).session_id, (j.stored).id, j.lost,
                   case when j.revises then j.was || coalesce(j.fills, '{}') end, j.received_at) as revisions
          from decided as j
         where (j.lost is not null or j.revises and j.fills is not null) and (j.fills is not null or j.differing is null)
    ), changed as materialized (
        select j.position, jsonb_populate_record(j.stored, turnlog.store_content(to_jsonb(j.stored), j.fills)) as row,
               j.fills ?| '{prompt,response}' as is_reindexed
          from decided as j
         where j.fills is not null
    )
    select jsonb_object_agg(s.position, case
               when j.position is null and rejected ->> (s.facts ->> 'session_id') = 'erased'
                   then '{"receipt": "rejected", "reason": "erased"}'
               -- the row was neither stored nor erased, so another row holds its key
               when j.position is null
                   then turnlog.key_conflict(in_project,
                        (select p ->> 'key' from jsonb_array_elements(rows -> 'sessions') as p
                          where p ->> 'id' = s.facts ->> 'session_id' limit 1),
                        (s.facts ->> 'session_id')::uuid, s.facts ->> 'key')
               when j.differing is not null and j.fills is null
                   then jsonb_build_object('receipt', 'conflict', 'fields', j.differing)
                        || case when j.no_room
                                then jsonb_build_object('reason', 'It has 100 revisions, which is the most') else '{}' end
               else case
                        when j.revised is not null and (k.revisions > 0 or j.filled <> '{}')
                            then jsonb_build_object('receipt', 'revised', 'fields',
                                 (select jsonb_agg(distinct f order by f) from unnest(j.revised || j.filled) as f))
                        when j.filled <> '{}'
                            then jsonb_build_object('receipt', 'filled', 'fields', j.filled)
                        when k.revisions > 0
                            then '{"receipt": "revised"}'
                        else '{"receipt": "duplicate"}' end
                    || case when j.differing is not null then jsonb_build_object('differs', j.differing) else '{}' end
                    || case when j.is_older then jsonb_build_object('reason', 'older') else '{}' end
           end),
           array_agg(c.row) filter (where c.position is not null),
           array_agg((c.row).session_id) filter (where c.is_reindexed), array_agg((c.row).id) filter (where c.is_reindexed)
      into receipts, filled, reindexed_sessions, reindexed_ids
      from incoming as s
      left join decided as j on j.position = s.position
      left join kept as k on k.position = s.position
      left join changed as c on c.position = s.position;

    if filled is not null then
        insert into turnlog.ai_interactions as stored
        select f.* from unnest(filled) as f
            on conflict (project, session_id, id) do update
           set (key, prompt, response, context, instructions, context_end, prompt_end, response_end, model, provider, status, error,
                finish_reason,
                started_at, completed_at, latency_ms, time_to_first_token_ms, input_tokens, output_tokens,
                cached_input_tokens, cache_write_tokens, reasoning_tokens, cost_usd, participant, reply_to,
                alternative_to, chosen_at, turn, trace_id, span_id, tags, metadata, ranks) = (
                excluded.key, excluded.prompt, excluded.response, excluded.context, excluded.instructions,
                excluded.context_end, excluded.prompt_end, excluded.response_end, excluded.model, excluded.provider, excluded.status, excluded.error,
                excluded.finish_reason, excluded.started_at, excluded.completed_at, excluded.latency_ms,
                excluded.time_to_first_token_ms, excluded.input_tokens, excluded.output_tokens,
                excluded.cached_input_tokens, excluded.cache_write_tokens, excluded.reasoning_tokens, excluded.cost_usd,
                excluded.participant, excluded.reply_to, excluded.alternative_to, excluded.chosen_at,
                excluded.turn, excluded.trace_id, excluded.span_id, excluded.tags, excluded.metadata, excluded.ranks);
        insert into turnlog.ai_search_queue (project, session_id, ids)
        select in_project, r.session_id, array_agg(r.id)
          from unnest(reindexed_sessions, reindexed_ids) as r (session_id, id)
         group by r.session_id;
    end if;
    return receipts;
end
$$;


-- schemas/write/follow_merges.sql
-- Returns a batch's rows with users in place of the guests that were merged into them: users of folders and sessions,
-- participants, authors and claims. The caller has called turnlog.lock_merges.
create or replace function turnlog.follow_merges(in_project text, rows jsonb) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
    named text[];
    merges jsonb;   -- guest -> user
begin
    if not exists (select from turnlog.ai_user_merges as m where m.project = in_project) then
        return rows;
    end if;
    named := array(
        select distinct case when n.path = '$.*[*].claim' then substr(n.value #>> '{}', 6) else n.value #>> '{}' end
          from (select p.path, jsonb_path_query(rows, p.path::jsonpath) as value
                  from unnest('{$.folders[*].user_id,$.sessions[*].user_id,$.participants[*].participant,'
                              '$.interactions[*].participant,$.feedback[*].author,$.*[*].claim}'::text[]) as p (path)) as n
         where n.path <> '$.*[*].claim' or n.value #>> '{}' like 'user:%');
    select jsonb_object_agg(m.guest, m.into_user)
      into merges
      from turnlog.ai_user_merges as m
     where m.project = in_project and m.guest = any (named);
    if merges is null then
        return rows;
    end if;
    return rows || (
        select jsonb_object_agg(k.kind, (
                   select coalesce(jsonb_agg(
                              e.value
                              || case when merges ? (e.value ->> k.field)
                                      then jsonb_build_object(k.field, merges -> (e.value ->> k.field)) else '{}' end
                              || case when e.value ->> 'claim' like 'user:%' and merges ? substr(e.value ->> 'claim', 6)
                                      then jsonb_build_object('claim', 'user:' || (merges ->> substr(e.value ->> 'claim', 6)))
                                      else '{}' end
                              order by e.ordinality), '[]')
                     from jsonb_array_elements(rows -> k.kind) with ordinality as e))
          from (values ('folders', 'user_id'), ('sessions', 'user_id'), ('participants', 'participant'),
                       ('interactions', 'participant'), ('feedback', 'author')) as k (kind, field)
         where rows ? k.kind);
end
$$;


-- schemas/write/gather_calls.sql
-- Turns the calls of a batch's spans into `interactions`, after the batch's own, below sessions that it has locked: see
-- turnlog.place_spans. A call that is stored elsewhere is taken from there with what belongs to it, and written again; a
-- session that no caller opened and that has nothing left goes. Of a call's fields each has what the first of its spans
-- says, in the order of `call_spans` and before log events, so that the order in which they come doesn't matter.
-- Calls of sessions that are `rejected`, and of `erased_participants`, are taken away, and their spans erased. Returns the rows, with `call_places` ->
-- {first -> receipt, or position among the interactions}.
create or replace function turnlog.gather_calls(in_project text, rows jsonb, rejected jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
as $$
declare
    batch constant jsonb := coalesce(rows -> 'spans', '[]');
    -- what the service worked out from its own call
    of_place constant text[] := '{session_id,id,trace_id,span_id,participant,created_at,on_conflict}';
    before constant integer := jsonb_array_length(coalesce(rows -> 'interactions', '[]'));
    simple jsonb;
    by_call jsonb;          -- first -> [{ref, source, facts, created_at}], of the calls that aren't simple
    ids jsonb;              -- first -> id
    call jsonb;
    said jsonb;             -- [{source, nth, facts}] of one call, in the batch
    stored jsonb;           -- [{session_id, id, facts}] of one call
    merged jsonb;
    fields text[];
    -- lists, since each `||` would copy the whole jsonb, and a root that comes last moves thousands of calls
    emitted jsonb[] := '{}';  -- of calls that are merged or moved
    firsts text[] := '{}';
    receipts jsonb[] := '{}'; -- parallel: of these calls
    feedback jsonb[] := '{}'; -- lists of rows
    gone_feedback jsonb;
    used uuid[];              -- the sessions to which the batch adds
    left_sessions uuid[] := '{}';
    targets uuid[] := '{}'; -- parallel: where the calls went
    leaving text[] := '{}'; -- parallel: the participants that they had
    left_traces text[] := '{}'; -- parallel: their traces
    one record;
begin
    -- 1. Most calls are only in the batch, and said once, or said again by the span that said them before.
    with said_now as materialized (
        select s.value ->> 'first' as first, s.value ->> 'ref' as ref, s.value ->> 'source' as source,
               (s.value -> 'call') - of_place as facts, s.value -> 'created_at' as created_at, s.ordinality as n
          from jsonb_array_elements(batch) with ordinality as s
         where s.value ? 'call'
    ), sources as (
        select n.first, n.ref, n.source from said_now as n
        union
        select c.value ->> 'first', m ->> 'ref', f.source
          from jsonb_array_elements(rows -> 'calls') as c
         cross join lateral jsonb_array_elements(c.value -> 'members') as m
         cross join lateral (values ('span', m -> 'fields'), ('events', m -> 'event_fields')) as f (source, fields)
         where f.fields <> 'null'
    ), once as materialized (
        select s.first from sources as s group by s.first having count(*) = 1
    ), plain as materialized (
        select jsonb_object_agg(c.value ->> 'first', c.value - 'members') as calls
          from jsonb_array_elements(rows -> 'calls') as c
         where not (c.value ->> 'moves')::boolean
           and c.value ->> 'first' in (select o.first from once as o)
    ), numbered as (
        select n.first, n.n, row_number() over (order by n.n) - 1 as place,
               n.facts || jsonb_strip_nulls(jsonb_build_object(
                   'session_id', p.call -> 'session_id', 'id', p.call -> 'id', 'trace_id', p.call -> 'trace_id',
                   'span_id', p.call -> 'span_id', 'participant', p.call -> 'participant',
                   'created_at', n.created_at, 'on_conflict', 'fill')) as row
          from said_now as n
         cross join plain
         cross join lateral (select plain.calls -> n.first as call offset 0) as p
         where p.call is not null
    )
    select jsonb_build_object(
               'rows', coalesce(jsonb_agg(n.row order by n.n), '[]'),
               'places', coalesce(jsonb_object_agg(n.n, before + n.place), '{}'),
               'firsts', coalesce(jsonb_object_agg(n.first, true), '{}'))
      into simple
      from numbered as n;

    -- 2. The others.
    select coalesce(jsonb_object_agg(s.first, s.said), '{}')
      into by_call
      from (select s.value ->> 'first' as first, jsonb_agg(jsonb_build_object(
                       'ref', s.value -> 'ref', 'source', s.value -> 'source', 'facts', (s.value -> 'call') - of_place,
                       'created_at', s.value -> 'created_at') order by s.ordinality) as said
              from jsonb_array_elements(batch) with ordinality as s
             where s.value ? 'call' and not simple -> 'firsts' ? (s.value ->> 'first')
             group by s.value ->> 'first') as s;
    for call in
        select c.value from jsonb_array_elements(rows -> 'calls') as c
         where not simple -> 'firsts' ? (c.value ->> 'first')
           and ((c.value ->> 'moves')::boolean or by_call ? (c.value ->> 'first'))
    loop
        said := by_call -> (call ->> 'first');
        stored := (
            select jsonb_agg(jsonb_build_object('session_id', i.session_id, 'id', i.id, 'facts', (
                       select jsonb_object_agg(f.key, f.value)
                         from jsonb_each(turnlog.as_sent(to_jsonb(i), '{"context": true}', '{}', true)) as f
                        where f.value <> 'null' and f.key not in ('project', 'session_id', 'id'))) order by i.session_id, i.id)
              from (select distinct (m ->> 'session_id')::uuid as session_id, (m ->> 'id')::uuid as id
                      from jsonb_array_elements(call -> 'members') as m
                     where m ->> 'session_id' is not null) as was
             cross join lateral (
                   select i.* from turnlog.ai_interactions as i
                    where i.project = in_project and i.session_id = was.session_id and i.id = was.id
                   offset 0) as i);
        if rejected ->> (call ->> 'session_id') <> 'erased' then -- another row holds its key: the call stays where it is
            firsts := array_append(firsts, call ->> 'first');
            receipts := array_append(receipts, jsonb_build_object(
                'receipt', 'rejected', 'reason', rejected -> (call ->> 'session_id')));
            continue;
        elsif rejected ? (call ->> 'session_id') or rows -> 'erased_participants' ? (call ->> 'participant') then
            merged := null;
            firsts := array_append(firsts, call ->> 'first');
            receipts := array_append(receipts, '{"receipt": "rejected", "reason": "erased"}'::jsonb);
        elsif stored @? '$[*].facts.erased_at' then
            merged := stored #> '{0,facts}';
            firsts := array_append(firsts, call ->> 'first');
            receipts := array_append(receipts, '{"receipt": "rejected", "reason": "erased"}'::jsonb);
        elsif stored @? '$[*].facts.text_expired_at' then
            merged := stored #> '{0,facts}';
            firsts := array_append(firsts, call ->> 'first');
            receipts := array_append(receipts, '{"receipt": "rejected", "reason": "expired"}'::jsonb);
        elsif stored is null and said is null then
            merged := null; -- only feedback
        else
            select merge.row, merge.filled into merged, fields from turnlog.merge_call(call, stored, said) as merge (row, filled);
            firsts := array_append(firsts, call ->> 'first');
            receipts := array_append(receipts, case
                when stored is null then '{"receipt": "created"}'::jsonb
                when fields = '{}' then '{"receipt": "duplicate"}'
                else jsonb_build_object('receipt', 'filled', 'fields', fields) end);
            if fields = '{}' and not (call ->> 'moves')::boolean then
                continue; -- nothing changes
            end if;
        end if;
        -- away from where it is stored
        for one in
            select (m ->> 'session_id')::uuid as session_id, (m ->> 'id')::uuid as id, min(m ->> 'participant') as participant,
                   min(split_part(m ->> 'ref', '/', 1)) as trace_id
              from jsonb_array_elements(call -> 'members') as m
             where m ->> 'session_id' is not null
             group by 1, 2
        loop
            delete from turnlog.ai_interactions as i
             where i.project = in_project and i.session_id = one.session_id and i.id = one.id;
            if (one.session_id, one.id) <> ((call ->> 'session_id')::uuid, (call ->> 'id')::uuid) then
                with gone as (
                    delete from turnlog.ai_feedback as f
                     where f.project = in_project and f.session_id = one.session_id and f.interaction_id = one.id
                    returning f.*
                )
                select jsonb_agg(to_jsonb(g) - 'project'::text || jsonb_build_object(
                           'session_id', call -> 'session_id', 'interaction_id', call -> 'id'))
                  into gone_feedback
                  from gone as g;
                if gone_feedback is not null then
                    feedback := array_append(feedback, gone_feedback);
                end if;
                if merged is null then
                    delete from turnlog.ai_revisions as r
                     where r.project = in_project and r.session_id = one.session_id and r.interaction_id = one.id;
                else
                    update turnlog.ai_revisions as r
                       set session_id = (call ->> 'session_id')::uuid, interaction_id = (call ->> 'id')::uuid
                     where r.project = in_project and r.session_id = one.session_id and r.interaction_id = one.id;
                end if;
            end if;
            left_sessions := array_append(left_sessions, one.session_id);
            targets := array_append(targets, (call ->> 'session_id')::uuid);
            leaving := array_append(leaving, one.participant);
            left_traces := array_append(left_traces, one.trace_id);
        end loop;
        if merged is not null then
            emitted := array_append(emitted, merged || jsonb_strip_nulls(jsonb_build_object(
                'session_id', call -> 'session_id', 'id', call -> 'id', 'trace_id', call -> 'trace_id',
                'span_id', call -> 'span_id', 'participant', call -> 'participant', 'on_conflict', 'fill')));
        end if;
    end loop;

    -- 3. What is left behind.
    used := case when left_sessions <> '{}' then array(
        select distinct (r ->> 'session_id')::uuid
          from unnest(array['calls', 'interactions', 'participants', 'feedback']) as k (kind)
         cross join lateral jsonb_array_elements(coalesce(rows -> k.kind, '[]')) as r) end;
    for one in
        select l.id, min(l.target::text)::uuid as target, array_agg(distinct l.participant) as leaving,
               array_agg(distinct l.trace_id) as of_traces
          from unnest(left_sessions, targets, leaving, left_traces) as l (id, target, participant, trace_id)
         where not rejected ? l.id::text
         group by l.id
         order by l.id
    loop
        feedback := array_append(feedback, turnlog.leave_session(
            in_project, one.id, one.target, one.leaving, one.of_traces, one.id = any (used)));
    end loop;

    -- 4. Where the spans are now.
    update turnlog.ai_spans as s
       set session_id = n.place, participant = n.person
      from (select d.at, c.place, c.person
              from (select (c ->> 'session_id')::uuid as place, c ->> 'participant' as person, m ->> 'ref' as ref
                      from jsonb_array_elements(rows -> 'calls') as c
                     cross join lateral jsonb_array_elements(c -> 'members') as m
                     where coalesce(rejected ->> (c ->> 'session_id'), 'erased') = 'erased') as c
             cross join lateral (
                   select d.ctid as at, d.session_id, d.participant from turnlog.ai_spans as d
                    where d.project = in_project and d.trace_id = split_part(c.ref, '/', 1)
                      and d.span_id = split_part(c.ref, '/', 2)
                   offset 0) as d
             where (d.session_id, d.participant) is distinct from (c.place, c.person)) as n
     where s.project = in_project collate "C" and s.ctid = n.at;
    -- the first user stays, as in any session
    update turnlog.ai_sessions as s
       set user_id = n.person
      from (select d.at, min(c ->> 'participant') as person
              from jsonb_array_elements(rows -> 'calls') as c
             cross join lateral (
                   select d.ctid as at from turnlog.ai_sessions as d
                    where d.project = in_project and d.id = (c ->> 'session_id')::uuid and d.user_id is null
                      and d.erased_at is null and d.claim is null and 'user_id' <> all (coalesce(d.edited, '{}'))
                   offset 0) as d
             where c ->> 'participant' is not null
             group by d.at) as n
     where s.project = in_project collate "C" and s.ctid = n.at;

    -- 5. Feedback that came with the spans.
    ids := case when batch @? '$[*].feedback' then (
        select jsonb_object_agg(c ->> 'first', c -> 'id') from jsonb_array_elements(rows -> 'calls') as c) end;
    feedback := array_append(feedback, coalesce((
        select jsonb_agg(f.value - 'of_session' || jsonb_strip_nulls(jsonb_build_object(
                   'session_id', s.value -> 'session_id', 'created_at', s.value -> 'created_at',
                   'interaction_id', case when not f.value ? 'of_session'
                                          then coalesce(ids -> (s.value ->> 'first'), s.value -> 'feedback_on') end)))
          from jsonb_array_elements(batch) as s
         cross join lateral jsonb_array_elements(s.value -> 'feedback') as f
         where s.value ? 'feedback' and s.value ->> 'session_id' is not null), '[]'));

    return rows || jsonb_build_object(
        'interactions', coalesce(rows -> 'interactions', '[]') || (simple -> 'rows') || to_jsonb(emitted),
        'feedback', coalesce(rows -> 'feedback', '[]') || (
            select coalesce(jsonb_agg(r.row order by f.n, r.n), '[]')
              from unnest(feedback) with ordinality as f (list, n)
             cross join lateral jsonb_array_elements(f.list) with ordinality as r (row, n)),
        'before_calls', before, 'span_places', simple -> 'places', 'span_receipts', (
            select coalesce(jsonb_object_agg(r.first, r.receipt), '{}') from unnest(firsts, receipts) as r (first, receipt)));
end
$$;


-- schemas/write/inherit_sessions.sql
-- Passes what spans say of sessions and users on to the spans below. Each span has the closest span above that says
-- something, so a new one changes only those below it that knew none, or a farther one.
-- `changed`: TRACE/SPAN -> true of the spans that are new or say more now, without those of whole traces. Returns the spans whose session or user may be
-- another one now, as parallel lists.
create or replace function turnlog.inherit_sessions(
    in_project text, changed jsonb, out trace_ids text[], out span_ids text[])
language plpgsql volatile
set search_path = ''
as $$
declare
    rehomed text[] := '{}'; -- traces in which something was named that holds for all of it
begin
    trace_ids := array(select split_part(k, '/', 1) from jsonb_object_keys(changed) as k);
    span_ids := array(select split_part(k, '/', 2) from jsonb_object_keys(changed) as k);

    -- 1. Downwards.
    with recursive walk as (
            select s.trace_id, s.span_id,
                   case when s.caller_span = s.span_id then s.span_id else above.caller_span end as caller_span,
                   case when s.library_span = s.span_id then s.span_id else above.library_span end as library_span,
                   case when s.user_span = s.span_id then s.span_id else above.user_span end as user_span,
                   array[s.caller_span, s.library_span, s.user_span] as was
              from unnest(trace_ids, span_ids) as w (trace_id, span_id)
             cross join lateral (
                   select s.* from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = w.trace_id and s.span_id = w.span_id
                   offset 0) as s
              left join lateral (
                   select a.caller_span, a.library_span, a.user_span from turnlog.ai_spans as a
                    where a.project = in_project and a.trace_id = s.trace_id and a.span_id = s.parent_id
                   offset 0) as above on true
             where s.parent_id is null or not changed ? (s.trace_id || '/' || s.parent_id)
            union
            select below.trace_id, below.span_id, below.caller_span, below.library_span, below.user_span, below.was
              from walk as w
             cross join lateral (
                   select s.trace_id, s.span_id,
                          case when s.caller_span = s.span_id then s.span_id else w.caller_span end as caller_span,
                          case when s.library_span = s.span_id then s.span_id else w.library_span end as library_span,
                          case when s.user_span = s.span_id then s.span_id else w.user_span end as user_span,
                          array[s.caller_span, s.library_span, s.user_span] as was
                     from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = w.trace_id and s.parent_id = w.span_id
                   offset 0) as below
             where array[below.caller_span, below.library_span, below.user_span] is distinct from below.was
                or changed ? (below.trace_id || '/' || below.span_id)
    ), passed as (
        update turnlog.ai_spans as s
           set caller_span = w.caller_span, library_span = w.library_span, user_span = w.user_span
          from (select w.*, d.at
                  from walk as w
                 cross join lateral (
                       select d.ctid as at from turnlog.ai_spans as d
                        where d.project = in_project and d.trace_id = w.trace_id and d.span_id = w.span_id
                       offset 0) as d
                 where array[w.caller_span, w.library_span, w.user_span] is distinct from w.was) as w
         where s.project = in_project collate "C" and s.ctid = w.at
        returning s.trace_id, s.span_id
    )
    select trace_ids || array_agg(p.trace_id), span_ids || array_agg(p.span_id)
      into trace_ids, span_ids
      from passed as p;

    -- 2. Everywhere else in the trace.
    with stated as materialized (
        select s.trace_id,
               min(s.span_id) filter (where s.by_caller) as caller_span,
               count(distinct s.stated_session) filter (where s.by_caller) > 1 as caller_several,
               (array_agg(s.stated_session order by s.span_id) filter (where s.by_caller))[1] as caller_session,
               min(s.span_id) filter (where not s.by_caller) as library_span,
               min(s.span_id) filter (where s.user_id is not null) as user_span
          from jsonb_object_keys(changed) as k
         cross join lateral (
               select s.trace_id, s.span_id, s.by_caller, s.stated_session, s.user_id from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(k, '/', 1) and s.span_id = split_part(k, '/', 2)
               offset 0) as s
         where s.stated_session is not null or s.user_id is not null
         group by s.trace_id
    ), compared as materialized (
        select t.ctid as at, t.trace_id, t.caller_span as old_caller_span, t.caller_several as old_caller_several,
               t.library_span as old_library_span, t.user_span as old_user_span,
               least(t.caller_span, s.caller_span) as caller_span,
               t.caller_several or coalesce(s.caller_several, false)
                   or (t.caller_span is not null and s.caller_span is not null
                       and (turnlog.named_in(in_project, t.trace_id, t.caller_span, null, null))[1]
                           <> s.caller_session::text) as caller_several,
               least(t.library_span, s.library_span) as library_span,
               least(t.user_span, s.user_span) as user_span
          from stated as s
         cross join lateral (
               select t.ctid, t.* from turnlog.ai_traces as t
                where t.project = in_project and t.trace_id = s.trace_id
               offset 0) as t
    ), kept as (
        update turnlog.ai_traces as t
           set caller_span = c.caller_span, caller_several = c.caller_several, library_span = c.library_span,
               user_span = c.user_span
          from compared as c
         where t.project = in_project collate "C" and t.ctid = c.at
           and (c.caller_span, c.caller_several, c.library_span, c.user_span)
               is distinct from (c.old_caller_span, c.old_caller_several, c.old_library_span, c.old_user_span)
    )
    -- the spans that have something above them stay, but to find them takes as long as to place them
    select coalesce(array_agg(c.trace_id), '{}')
      into rehomed
      from compared as c
     where c.caller_several <> c.old_caller_several
        or turnlog.named_in(in_project, c.trace_id, c.caller_span, c.library_span, c.user_span)
           is distinct from turnlog.named_in(
               in_project, c.trace_id, c.old_caller_span, c.old_library_span, c.old_user_span);
    if rehomed <> '{}' then
        select trace_ids || array_agg(s.trace_id), span_ids || array_agg(s.span_id)
          into trace_ids, span_ids
          from unnest(rehomed) as r (id)
         cross join lateral (
               select s.trace_id, s.span_id from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = r.id
               offset 0) as s;
    end if;
end
$$;


-- schemas/write/insert_histories.sql
-- Inserts the interactions of a batch that has lists of messages, those that aren't stored, with their messages: see
-- turnlog.by_content. One at a time, so that a list is copied as rarely as may be: it can be a whole conversation.
-- Returns those that it created; `at`: when each was said.
create or replace function turnlog.insert_histories(
    in_project text, interactions jsonb, rejected jsonb)
returns table (session_id uuid, id uuid, key text, participant text, at timestamptz)
language plpgsql volatile
set search_path = ''
as $$
declare
    defaults constant turnlog.ai_interactions := jsonb_populate_record(null::turnlog.ai_interactions, jsonb_build_object(
        'project', in_project, 'created_at', statement_timestamp()));
    interaction jsonb;
    stored record;
begin
    for interaction in select i.value from jsonb_array_elements(interactions) as i loop
        continue when rejected ? (interaction ->> 'session_id');
        stored := turnlog.by_content(interaction);
        insert into turnlog.ai_interactions as created
        select i.* from jsonb_populate_record(defaults, stored.facts) as i
            on conflict do nothing
        returning created.session_id, created.id, created.key, created.participant, least(created.started_at, created.created_at)
             into session_id, id, key, participant, at;
        if found then
            if stored.messages is not null then
                perform turnlog.add_messages(
                    in_project, stored.facts, stored.messages, stored.first, stored.last, stored.bytes, stored.answer);
            end if;
            return next;
        end if;
    end loop;
end
$$;


-- schemas/write/join_calls.sql
-- Joins spans of one call: two instrumentations that see it, in one trace or in two. Spans are joined that a mapper names
-- (`same_call_as`), that have the same response id, or that failed without one next to each other in their trace (see
-- turnlog.is_same_call); in this order, the closest in time first. A call has one span of each instrumentation, but for those
-- that a mapper names, and never spans for which callers named different sessions or users: rather one call is stored twice
-- than one of two lost. Spans that come after their call was erased are erased: see turnlog.reject_twins.
-- `changed`: TRACE/SPAN -> true of the spans that are new or say more now. Returns TRACE/SPAN -> the first of the spans of
-- its call before, for the spans of calls that were joined now.
create or replace function turnlog.join_calls(in_project text, changed jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    -- how far apart spans of one call begin, so that the spans of a busy parent, or those of a server that repeats its
    -- ids, aren't all compared
    most_apart constant interval := '5 minutes';
    -- likewise: those looked at before and after each span,
    most_near constant integer := least(200, greatest(20, 60000 / (select count(*) + 1 from jsonb_object_keys(changed) as k)));
    most_candidates constant integer := 20; --   and those of them that it may be joined with
    -- which are locked whenever spans of the trace come; a trace with more may deadlock with those, and is written again
    most_linked constant integer := 50;
    ones text[];            -- candidates, parallel
    others text[];
    -- the spans of candidates and of their calls, parallel
    refs text[];
    scopes text[];
    callers uuid[];         -- the session that a caller named
    users text[];
    named text[];           -- what a mapper says they are of
    calls jsonb;            -- the spans of a call, if there are several
    place jsonb;            -- TRACE/SPAN -> its position
    next integer[];         -- the spans of a call are a ring
    touched integer[] := '{}';
    a integer;
    b integer;
    x integer;
    y integer;
    is_free boolean;
    members text[];
    done boolean[];
    one record;
    other record;
    joined jsonb;
begin
    joined := turnlog.reject_twins(in_project, changed);
    with new_calls as materialized (
        select s.*, s.trace_id || '/' || s.span_id as ref
          from jsonb_object_keys(changed) as k
         cross join lateral (
               select s.* from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(k, '/', 1) and s.span_id = split_part(k, '/', 2)
               offset 0) as s
         where s.kind = 'call' and s.erased_at is null
    ), seen as materialized (
        select n.ref as one, n.trace_id as one_trace, n.span_id as one_span, n.parent_id as one_parent, n.scope as one_scope,
               n.started_at as one_start, n.completed_at as one_end, n.model as one_model,
               coalesce(n.response_id, n.trace_id || '/' || n.parent_id) as kin, o.*, o.trace_id || '/' || o.span_id as ref
          from new_calls as n
         cross join lateral (
               select s.* from turnlog.ai_spans as s
                where s.project = in_project and s.response_id = n.response_id and not s.repeats
                union all
               (select s.* from turnlog.ai_spans as s
                 where s.project = in_project and s.response_id = n.response_id and s.repeats and s.scope <> n.scope
                   and s.started_at >= n.started_at and s.started_at <= n.started_at + most_apart
                 order by s.started_at limit most_near)
                union all
               (select s.* from turnlog.ai_spans as s
                 where s.project = in_project and s.response_id = n.response_id and s.repeats and s.scope <> n.scope
                   and s.started_at < n.started_at and s.started_at >= n.started_at - most_apart
                 order by s.started_at desc limit most_near)
                union all
               (select s.* from turnlog.ai_spans as s -- siblings
                 where s.project = in_project and s.trace_id = n.trace_id and s.parent_id = n.parent_id
                   and n.failed and s.failed and n.response_id is null and s.response_id is null and s.scope <> n.scope
                   and s.started_at >= n.started_at and s.started_at <= n.started_at + most_apart
                 order by s.started_at limit most_near)
                union all
               (select s.* from turnlog.ai_spans as s
                 where s.project = in_project and s.trace_id = n.trace_id and s.parent_id = n.parent_id
                   and n.failed and s.failed and n.response_id is null and s.response_id is null and s.scope <> n.scope
                   and s.started_at < n.started_at and s.started_at >= n.started_at - most_apart
                 order by s.started_at desc limit most_near)
                union all
               (select s.* from turnlog.ai_spans as s -- children
                 where s.project = in_project and s.trace_id = n.trace_id and s.parent_id = n.span_id
                   and n.failed and s.failed and n.response_id is null and s.response_id is null and s.scope <> n.scope
                 order by s.started_at limit most_near)
                union all
               select s.* from turnlog.ai_spans as s -- the parent
                where s.project = in_project and s.trace_id = n.trace_id and s.span_id = n.parent_id
                  and n.failed and s.failed and n.response_id is null and s.response_id is null
               offset 0) as o
         where o.kind = 'call' and o.erased_at is null
           and o.scope <> n.scope
           and (o.call_spans is null or not exists (
                select from unnest(o.call_spans) as m (ref)
                 cross join lateral (
                       select s.scope from turnlog.ai_spans as s
                        where s.project = in_project and s.trace_id = split_part(m.ref, '/', 1)
                          and s.span_id = split_part(m.ref, '/', 2)
                       offset 0) as s
                 where s.scope = n.scope))
    ), alike as materialized (
        select s.*
          from seen as s
         where turnlog.is_same_call(s.one_scope, s.one_start, s.one_end, s.one_model,
                                    s.scope, s.started_at, s.completed_at, s.model)
    ), numbered as materialized ( -- those at one time are paired in the order of their ids
        select w.ref, row_number() over (partition by w.kin, w.scope order by w.started_at, w.ref) as nth
          from (select distinct on (w.ref) w.*
                  from (select s.one as ref, s.kin, s.one_scope as scope, s.one_start as started_at from alike as s
                        union all
                        select s.ref, s.kin, s.scope, s.started_at from alike as s) as w
                 order by w.ref, w.kin) as w
    ), ranked as (
        select s.one, s.ref, s.one_parent is not null and s.one_parent = s.span_id and s.one_trace = s.trace_id
                             or s.parent_id is not null and s.parent_id = s.one_span and s.one_trace = s.trace_id as is_nested,
               abs(extract(epoch from s.started_at - s.one_start)) as apart, s.one_trace = s.trace_id as is_beside,
               abs(n.nth - o.nth) as off
          from alike as s
          join numbered as n on n.ref = s.one
          join numbered as o on o.ref = s.ref
    ), nearest as (
        select r.*, row_number() over (
                   partition by r.one order by not coalesce(r.is_nested, false), r.apart, not r.is_beside, r.off, r.ref) as nth
          from ranked as r
    ), candidates as (
        select own.one, o.ref as other, true as is_named, false as is_nested, 0::numeric as apart, true as is_beside, 0 as off
          from new_calls as n
         cross join lateral (
               select s.trace_id || '/' || s.span_id as ref, s.kind, s.rank, s.erased_at from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(n.same_call_as, '/', 1)
                  and s.span_id = split_part(n.same_call_as, '/', 2)
                union all
               select s.trace_id || '/' || s.span_id, s.kind, s.rank, s.erased_at from turnlog.ai_spans as s
                where s.project = in_project and s.same_call_as = n.ref
               offset 0) as o
         cross join lateral (select n.ref as one) as own
         -- of which more than log events came, so that their order is known
         where o.kind = 'call' and o.rank is not null and n.rank is not null and o.erased_at is null
        union all
        select r.one, r.ref, false, coalesce(r.is_nested, false), r.apart, r.is_beside, r.off
          from nearest as r where r.nth <= most_candidates
    )
    select array_agg(c.one order by not c.is_named, not c.is_nested, c.apart, not c.is_beside, c.off,
                                    least(c.one, c.other), greatest(c.one, c.other)),
           array_agg(c.other order by not c.is_named, not c.is_nested, c.apart, not c.is_beside, c.off,
                                      least(c.one, c.other), greatest(c.one, c.other))
      into ones, others
      from candidates as c
     where c.one <> c.other;
    if ones is null then
        return joined;
    end if;

    for one in select distinct split_part(o.ref, '/', 1) as id from unnest(others) as o (ref) order by id loop
        perform from turnlog.ai_traces as t where t.project = in_project and t.trace_id = one.id for no key update;
    end loop;
    -- again, now that nobody else joins them
    with wanted as materialized (
        select w.ref, s.call_spans
          from (select unnest(ones) union select unnest(others)) as w (ref)
         cross join lateral (
               select s.call_spans from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(w.ref, '/', 1)
                  and s.span_id = split_part(w.ref, '/', 2) and s.erased_at is null
               offset 0) as s
    ), spans as materialized (
        select m.ref, s.*
          from (select w.ref from wanted as w
                union
                select m.ref from wanted as w cross join lateral unnest(w.call_spans) as m (ref)) as m
         cross join lateral (
               select s.trace_id, s.scope, s.caller_span, s.user_span, s.same_call_as, s.call_spans from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(m.ref, '/', 1)
                  and s.span_id = split_part(m.ref, '/', 2)
               offset 0) as s
    )
    select array_agg(s.ref order by s.ref), array_agg(s.scope order by s.ref), array_agg(c.stated_session order by s.ref),
           array_agg(u.user_id order by s.ref), array_agg(coalesce(s.same_call_as, s.ref) order by s.ref),
           coalesce(jsonb_object_agg(s.ref, s.call_spans) filter (where s.call_spans is not null), '{}')
      into refs, scopes, callers, users, named, calls
      from spans as s
      left join lateral (
           select c.stated_session from turnlog.ai_spans as c
            where c.project = in_project and c.trace_id = s.trace_id
              and c.span_id = s.caller_span
           offset 0) as c on true
      left join lateral (
           select coalesce(m.into_user, c.user_id) as user_id
             from turnlog.ai_spans as c
             left join lateral (
                  select m.into_user from turnlog.ai_user_merges as m
                   where m.project = in_project and m.guest = c.user_id offset 0) as m on true
            where c.project = in_project and c.trace_id = s.trace_id and c.span_id = s.user_span
           offset 0) as u on true;
    if refs is null then
        return joined;
    end if;
    select jsonb_object_agg(r.ref, r.n) into place from unnest(refs) with ordinality as r (ref, n);
    for n in 1 .. cardinality(refs) loop
        if calls ? refs[n] then
            members := array(select jsonb_array_elements_text(calls -> refs[n]));
            next[n] := place ->> members[1 + array_position(members, refs[n]) % cardinality(members)];
        else
            next[n] := n;
        end if;
    end loop;

    for nth in 1 .. cardinality(ones) loop
        a := place ->> ones[nth];
        b := place ->> others[nth];
        continue when a is null or b is null;
        is_free := true;
        x := a;
        loop
            y := b;
            loop
                is_free := x <> y
                       and coalesce(callers[x] = callers[y], true)
                       and coalesce(users[x] = users[y], true)
                       and (coalesce(scopes[x] <> scopes[y], true) or named[x] = named[y]
                            or named[x] = refs[y] or named[y] = refs[x]);
                y := next[y];
                exit when not is_free or y = b;
            end loop;
            x := next[x];
            exit when not is_free or x = a;
        end loop;
        if is_free then
            x := next[a];
            next[a] := next[b];
            next[b] := x;
            touched := touched || a;
        end if;
    end loop;

    done := array_fill(false, array[cardinality(refs)]);
    foreach a in array touched loop
        continue when done[a];
        members := '{}';
        x := a;
        loop
            done[x] := true;
            members := members || refs[x];
            x := next[x];
            exit when x = a;
        end loop;
        members := array(
            select m.ref
              from unnest(members) as m (ref)
             cross join lateral (
                   select s.rank, s.started_at from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = split_part(m.ref, '/', 1)
                      and s.span_id = split_part(m.ref, '/', 2)
                   offset 0) as s
             order by s.rank, s.started_at, m.ref);
        -- in the order of their ids; what deadlocks with another such pair is written again
        perform from (select distinct split_part(r.ref, '/', 1) as id from unnest(members) as r (ref) order by 1) as r
          cross join lateral (
               select from turnlog.ai_traces as t
                where t.project = in_project and t.trace_id = r.id for no key update) as t;
        select joined || coalesce(jsonb_object_agg(r.ref, coalesce(joined ->> r.ref, s.call_spans[1], r.ref)), '{}')
          into joined
          from unnest(members) as r (ref)
         cross join lateral (
               select s.call_spans from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(r.ref, '/', 1)
                  and s.span_id = split_part(r.ref, '/', 2)
               offset 0) as s;
        update turnlog.ai_spans as s
           set call_spans = members
         where s.project = in_project collate "C" and s.ctid = any (array(
               select d.ctid
                 from unnest(members) as r (ref)
                cross join lateral (
                      select d.ctid from turnlog.ai_spans as d
                       where d.project = in_project and d.trace_id = split_part(r.ref, '/', 1)
                         and d.span_id = split_part(r.ref, '/', 2)
                      offset 0) as d));
        for other in
            select t.id, array_agg(o.id order by o.id) as others
              from (select distinct split_part(r, '/', 1) as id from unnest(members) as r) as t
              join (select distinct split_part(r, '/', 1) as id from unnest(members) as r) as o on o.id <> t.id
             group by t.id
        loop
            update turnlog.ai_traces as t
               set linked = array(select distinct l from unnest(t.linked || other.others) as l order by l limit most_linked)
             where t.project = in_project and t.trace_id = other.id
               and not coalesce(t.linked, '{}') @> other.others and coalesce(cardinality(t.linked), 0) < most_linked;
        end loop;
    end loop;
    return joined;
end
$$;


-- schemas/write/keep_revisions.sql
-- Keeps what isn't shown of an interaction: [{facts, said_at}], as turnlog.interaction_rule returns it. What a kept
-- revision contains isn't kept again; one that goes on where kept ones end replaces them. `shown`: what is shown now, from
-- which revisions are removed, or null. Returns how many are new.
create or replace function turnlog.keep_revisions(
    in_project text, in_session uuid, in_interaction uuid, lost jsonb, shown jsonb, received_at timestamptz)
returns integer
language plpgsql volatile
set search_path = ''
as $$
declare
    one record;
    kept turnlog.ai_revisions;
    created integer := 0;
begin
    for one in select l.facts, l.said_at from jsonb_to_recordset(lost) as l (facts jsonb, said_at timestamptz) loop
        select r.* into kept
          from turnlog.ai_revisions as r
         where r.project = in_project and r.session_id = in_session and r.interaction_id = in_interaction
           and (turnlog.is_contained(one.facts, r.facts) or turnlog.is_contained(r.facts, one.facts))
         order by turnlog.is_contained(one.facts, r.facts) desc, r.said_at, r.id
         limit 1;
        if not found then
            insert into turnlog.ai_revisions (project, session_id, interaction_id, facts, said_at, created_at)
            values (in_project, in_session, in_interaction, one.facts, one.said_at, received_at)
            returning * into kept;
            created := created + 1;
        elsif not turnlog.is_contained(one.facts, kept.facts) or turnlog.is_contained(kept.facts, one.facts) and one.said_at > kept.said_at then
            created := created + (not turnlog.is_contained(one.facts, kept.facts))::integer;
            update turnlog.ai_revisions as r
               set facts = kept.facts || one.facts, said_at = greatest(kept.said_at, one.said_at)
             where r.project = in_project and r.session_id = in_session and r.interaction_id = in_interaction and r.id = kept.id
            returning * into kept;
        end if;
        delete from turnlog.ai_revisions as r
         where r.project = in_project and r.session_id = in_session and r.interaction_id = in_interaction
           and r.id <> kept.id and turnlog.is_contained(r.facts, kept.facts);
    end loop;
    delete from turnlog.ai_revisions as r
     where r.project = in_project and r.session_id = in_session and r.interaction_id = in_interaction
       and turnlog.is_contained(r.facts, turnlog.statement(shown));
    return created;
end
$$;


-- schemas/write/keep_spans.sql
-- Locks the traces of a batch's spans, with those linked to them, in the order of their ids, and stores the spans. What comes of one again fills it:
-- of values that contradict each other the smaller one stays, so that the order doesn't matter.
-- Returns `known`: TRACE/SPAN -> [fields, event_fields] of those that were stored before; `changed`: TRACE/SPAN -> true of
-- those that are new or say more now.
-- `whole`: TRACE -> true of traces of which nothing was stored, and all spans come from one call, each once. Then sessions,
-- users and what spans have from those above are as the service worked them out from that call. `joining`: those of `changed`
-- that may be of a call that has another span: a span of a whole trace that is the first one with its response id isn't.
create or replace function turnlog.keep_spans(
    in_project text, spans jsonb, out known jsonb, out changed jsonb, out whole jsonb, out joining jsonb)
language plpgsql volatile
set search_path = ''
as $$
declare
    defaults constant turnlog.ai_spans := jsonb_populate_record(null::turnlog.ai_spans, jsonb_build_object(
        'project', in_project, 'repeats', false, 'created_at', statement_timestamp()));
    said turnlog.ai_spans[];        -- in rounds: one row of each span, then the second ones, ...
    rounds integer[];               -- parallel: the round of each
    before turnlog.ai_spans[];
    written jsonb;
begin
    with incoming as materialized (
        select s.trace_id, min(s.trace_session::text)::uuid as trace_session, min(s.created_at) as created_at,
               min(s.call_id) = max(s.call_id) and count(distinct s.span_id) = count(*) as is_whole,
               min(s.span_id) filter (where s.by_caller) as caller_span,
               count(distinct s.stated_session) filter (where s.by_caller) > 1 as caller_several,
               min(s.span_id) filter (where not s.by_caller) as library_span,
               min(s.span_id) filter (where s.user_id is not null) as user_span
          from jsonb_to_recordset(spans) as s (
               trace_id text, span_id text, trace_session uuid, created_at timestamptz, call_id text, by_caller boolean,
               stated_session uuid, user_id text)
         group by s.trace_id
    ), linked as (
        select distinct l.id
          from incoming as n
         cross join lateral (
               select t.linked from turnlog.ai_traces as t
                where t.project = in_project and t.trace_id = n.trace_id and t.linked is not null
               offset 0) as t
         cross join lateral unnest(t.linked) as l (id)
         where l.id not in (select n.trace_id from incoming as n)
    ), inserted as (
        insert into turnlog.ai_traces as t (
            project, trace_id, session_id, caller_span, caller_several, library_span, user_span, created_at)
        select in_project, n.trace_id, n.trace_session, case when n.is_whole then n.caller_span end,
               n.is_whole and coalesce(n.caller_several, false), case when n.is_whole then n.library_span end,
               case when n.is_whole then n.user_span end, coalesce(n.created_at, statement_timestamp())
          from (select n.* from incoming as n
                union all
                select l.id, t.session_id, t.created_at, false, null, null, null, null
                  from linked as l
                 cross join lateral (
                       select t.session_id, t.created_at from turnlog.ai_traces as t
                        where t.project = in_project and t.trace_id = l.id offset 0) as t) as n
         order by n.trace_id
            on conflict (project, trace_id) do update set session_id = excluded.session_id where false
        returning t.trace_id
    )
    select coalesce(jsonb_object_agg(n.trace_id, true), '{}')
      into whole
      from inserted as i
      join incoming as n on n.trace_id = i.trace_id
     where n.is_whole
       and not exists (select from turnlog.ai_user_merges as m where m.project = in_project);

    select coalesce(jsonb_object_agg(s.trace_id || '/' || s.span_id, jsonb_build_array(
               to_jsonb(s.fields), to_jsonb(s.event_fields))), '{}')
      into known
      from (select distinct s.trace_id, s.span_id from jsonb_to_recordset(spans) as s (trace_id text, span_id text)
             where not whole ? s.trace_id) as n
     cross join lateral (
           select s.trace_id, s.span_id, s.fields, s.event_fields from turnlog.ai_spans as s
            where s.project = in_project and s.trace_id = n.trace_id and s.span_id = n.span_id
           offset 0) as s;
    if known <> '{}' then
        -- a span whose log events came first, and that has a response id now, is inserted again: only so do two writers
        -- of one response find each other
        with gone as (
            delete from turnlog.ai_spans as s
             where s.project = in_project collate "C" and s.response_id is null and s.erased_at is null
               and s.ctid = any (array(
                   select d.ctid
                     from (select distinct s.trace_id, s.span_id
                             from jsonb_to_recordset(spans) as s (trace_id text, span_id text, response_id text)
                            where s.response_id is not null) as n
                    cross join lateral (
                          select d.ctid from turnlog.ai_spans as d
                           where d.project = in_project and d.trace_id = n.trace_id and d.span_id = n.span_id
                          offset 0) as d))
            returning s.*
        )
        select array_agg(g) into before from gone as g;
    end if;
    if known = '{}' and jsonb_array_length(spans) = (select count(*) from (
           select distinct s.trace_id, s.span_id from jsonb_to_recordset(spans) as s (trace_id text, span_id text)
            where whole ? s.trace_id) as s) then
        select array_agg(i), array_fill(1, array[jsonb_array_length(spans)])
          into said, rounds
          from jsonb_populate_recordset(defaults, spans) as i;
    else
        select array_agg(s.row order by s.position),
               array_agg(s.nth order by s.position)
          into said, rounds
          from (select s.row, s.position,
                       row_number() over (partition by (s.row).trace_id, (s.row).span_id order by s.position) as nth
                  from (select case when whole ? i.trace_id then i
                                    else jsonb_populate_record(i, '{"session_id": null, "participant": null}') end as row,
                               row_number() over () as position
                          from jsonb_populate_recordset(defaults, spans) as i
                        union all
                        select b, 1000000000 from unnest(before) as b) as s) as s;
    end if;

    changed := '{}';
    joining := '{}';
    for this_round in 1 .. (select max(r) from unnest(rounds) as r) loop
        with inserted as (
            insert into turnlog.ai_spans
            select (s.row).*
              from (select unnest(said) as row, unnest(rounds) as round) as s
             where s.round = this_round and this_round = 1
             order by (s.row).response_id, (s.row).trace_id, (s.row).span_id
                on conflict do nothing
            returning trace_id, span_id, failed, same_call_as
        )
        select coalesce(jsonb_object_agg(i.trace_id || '/' || i.span_id, true), '{}'),
               joining || coalesce(jsonb_object_agg(i.trace_id || '/' || i.span_id, true)
                                   filter (where i.failed or i.same_call_as is not null or not whole ? i.trace_id), '{}')
          into written, joining
          from inserted as i;
        changed := changed || written;
        continue when this_round = 1
                      and (select count(*) from jsonb_object_keys(written) as k) = array_length(array_positions(rounds, 1), 1);
        with filled as (
            insert into turnlog.ai_spans as t (
                project, trace_id, span_id, parent_id, name, kind, scope, started_at, completed_at, session_key,
                stated_session, by_caller, user_id, caller_span, library_span, user_span, response_id, repeats, model,
                failed, same_call_as, rank, call_spans, id, session_id, participant, fields, event_fields, has_feedback,
                created_at, erased_at)
            select in_project, r.trace_id, r.span_id, r.parent_id, r.name, r.kind, r.scope, r.started_at, r.completed_at,
                   r.session_key, r.stated_session, r.by_caller, r.user_id, r.caller_span, r.library_span, r.user_span,
                   r.response_id, r.response_id is not null, r.model, r.failed, r.same_call_as, r.rank, r.call_spans, r.id,
                   r.session_id, r.participant, r.fields, r.event_fields, r.has_feedback, r.created_at, r.erased_at
              from (select (s.row).*
                      from (select unnest(said) as row, unnest(rounds) as round) as s
                     where s.round = this_round
                       and not written ? ((s.row).trace_id || '/' || (s.row).span_id)) as r
             order by r.response_id, r.trace_id, r.span_id
                on conflict (project, trace_id, span_id) do update
               set (parent_id, name, kind, scope, started_at, completed_at, session_key, stated_session, by_caller, user_id,
                    caller_span, library_span, user_span, response_id, repeats, model, failed, same_call_as, rank,
                    call_spans, session_id, participant, fields, event_fields, has_feedback, created_at) = (
                    select least(t.parent_id, excluded.parent_id), least(t.name, excluded.name),
                           case when 'call' in (t.kind, excluded.kind) then 'call' else least(t.kind, excluded.kind) end,
                           least(t.scope, excluded.scope), least(t.started_at, excluded.started_at),
                           greatest(t.completed_at, excluded.completed_at),
                           case when c.other then excluded.session_key else t.session_key end,
                           case when c.other then excluded.stated_session else t.stated_session end,
                           case when c.other then excluded.by_caller else t.by_caller end,
                           least(t.user_id, excluded.user_id),
                           case when excluded.caller_span = t.span_id then t.span_id else t.caller_span end,
                           case when excluded.library_span = t.span_id then t.span_id else t.library_span end,
                           case when excluded.user_id is not null then t.span_id else coalesce(t.user_span, excluded.user_span) end,
                           least(t.response_id, excluded.response_id),
                           t.repeats or least(t.response_id, excluded.response_id) is distinct from t.response_id,
                           least(t.model, excluded.model), t.failed or excluded.failed,
                           least(t.same_call_as, excluded.same_call_as), least(t.rank, excluded.rank),
                           coalesce(t.call_spans, excluded.call_spans), coalesce(t.session_id, excluded.session_id),
                           coalesce(t.participant, excluded.participant),
                           case when t.fields @> excluded.fields or excluded.fields is null then t.fields
                                else array(select distinct f from unnest(t.fields || excluded.fields) as f order by f) end,
                           case when t.event_fields @> excluded.event_fields or excluded.event_fields is null then t.event_fields
                                else array(select distinct f from unnest(t.event_fields || excluded.event_fields) as f order by f) end,
                           t.has_feedback or excluded.has_feedback, least(t.created_at, excluded.created_at)
                      from (select excluded.stated_session is not null
                                   and (t.stated_session is null
                                        or (not excluded.by_caller, excluded.session_key, excluded.stated_session)
                                         < (not t.by_caller, t.session_key, t.stated_session)) as other) as c)
             where t.erased_at is null
               and ((least(t.parent_id, excluded.parent_id), least(t.name, excluded.name), least(t.scope, excluded.scope),
                     least(t.started_at, excluded.started_at), greatest(t.completed_at, excluded.completed_at),
                     least(t.user_id, excluded.user_id), least(t.response_id, excluded.response_id),
                     least(t.model, excluded.model), least(t.same_call_as, excluded.same_call_as),
                     least(t.rank, excluded.rank), t.failed or excluded.failed, t.has_feedback or excluded.has_feedback)
                    is distinct from (t.parent_id, t.name, t.scope, t.started_at, t.completed_at, t.user_id, t.response_id,
                                      t.model, t.same_call_as, t.rank, t.failed, t.has_feedback)
                    or excluded.kind <> t.kind and t.kind <> 'call' or t.kind is null and excluded.kind is not null
                    or t.stated_session <> excluded.stated_session or t.by_caller <> excluded.by_caller
                    or t.stated_session is null and excluded.stated_session is not null
                    or t.session_id is null and excluded.session_id is not null
                    or coalesce(t.fields, '{}') @> excluded.fields is false
                    or coalesce(t.event_fields, '{}') @> excluded.event_fields is false)
            returning trace_id, span_id
        )
        select changed || coalesce(jsonb_object_agg(f.trace_id || '/' || f.span_id, true), '{}'),
               joining || coalesce(jsonb_object_agg(f.trace_id || '/' || f.span_id, true), '{}')
          into changed, joining
          from filled as f;
    end loop;
    -- a mapper may have named one of them before it came
    if exists (select from turnlog.ai_spans as s where s.project = in_project and s.same_call_as is not null) then
        select joining || coalesce(jsonb_object_agg(k.key, true), '{}')
          into joining
          from jsonb_object_keys(changed) as k (key)
         where exists (select from turnlog.ai_spans as s where s.project = in_project and s.same_call_as = k.key);
    end if;
    -- the span that had its response id before it may be erased
    if exists (select from turnlog.ai_spans as s where s.project = in_project and s.response_hash is not null) then
        select joining || coalesce(jsonb_object_agg(n.trace_id || '/' || n.span_id, true), '{}')
          into joining
          from jsonb_to_recordset(spans) as n (trace_id text, span_id text, response_id text)
         where changed ? (n.trace_id || '/' || n.span_id)
           and exists (select from turnlog.ai_spans as s
                        where s.project = in_project and s.response_hash = turnlog.twin_hash(in_project, n.response_id));
    end if;
end
$$;


-- schemas/write/leave_session.sql
-- Clears up a locked session from which calls were taken: participants whom only these named go, and so does the session
-- itself, if only spans made it and nothing is left of it. Nothing that anybody else said of the session goes or moves.
-- Returns the feedback on the session that came with its spans, [row ...], which goes to the session `target` with them.
-- `leaving`, `of_traces`: the participants and the traces of those calls. `is_used`: the batch adds to it.
create or replace function turnlog.leave_session(
    in_project text, of_session uuid, target uuid, leaving text[], of_traces text[], is_used boolean)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    no_interaction constant uuid := '00000000-0000-0000-0000-000000000000';
    stored turnlog.ai_sessions;
    of_spans boolean; -- feedback on the session came with spans: it doesn't say so itself
    is_rated boolean; -- somebody else gave feedback
    feedback jsonb;
begin
    select s.* into stored from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session;
    of_spans := exists (
        select from turnlog.ai_spans as p
         where p.project = in_project and p.trace_id = any (of_traces) and p.has_feedback);
    is_rated := exists (
        select from turnlog.ai_feedback as f
         where f.project = in_project and f.session_id = of_session and (f.interaction_id <> no_interaction or not of_spans));
    delete from turnlog.ai_session_participants as p
     where p.project = in_project and p.session_id = of_session and p.role is null and p.state is null
       and p.participant = any (leaving)
       and not exists (select from turnlog.ai_interactions as i
                        where i.project = in_project and i.session_id = of_session and i.participant = p.participant);
    perform turnlog.requeue_session(in_project, of_session);
    if is_used or is_rated
       or stored.id is null or not stored.implicit or stored.erased_at is not null or stored.claim is not null
       or stored.folder_id is not null or stored.title is not null or stored.edited is not null
       or stored.tags is not null or stored.status <> 'open' or stored.scheduled_on is not null
       or stored.started_at is not null or stored.ended_at is not null
       -- a trace's own session has the id of the trace: see turnlog.place_spans
       or stored.metadata is not null and stored.metadata <> jsonb_build_object('trace_id', coalesce(substr(stored.key, 7), ''))
       or exists (select from turnlog.ai_interactions as i where i.project = in_project and i.session_id = of_session)
       or exists (select from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = of_session)
    then
        -- a user whom only calls named that left, in a session that has nothing but calls of spans
        update turnlog.ai_sessions as s
           set user_id = null
         where s.project = in_project and s.id = of_session and s.implicit and s.claim is null and s.folder_id is null
           and s.edited is null and s.user_id = any (leaving) and not is_rated
           and not exists (
               select from turnlog.ai_interactions as i
                where i.project = in_project and i.session_id = of_session
                  and (i.participant = s.user_id
                       or not exists (select from turnlog.ai_spans as p
                                       where p.project = in_project and p.trace_id = i.trace_id and p.span_id = i.span_id
                                         and p.id = i.id)));
        update turnlog.ai_sessions as s
           set earliest_turn_at = (
                   select min(least(i.started_at, i.created_at)) from turnlog.ai_interactions as i
                    where i.project = in_project and i.session_id = of_session)
         where s.project = in_project and s.id = of_session and s.erased_at is null;
        return '[]';
    end if;
    with gone as (
        delete from turnlog.ai_feedback as f where f.project = in_project and f.session_id = of_session returning f.*
    )
    select coalesce(jsonb_agg(to_jsonb(g) - 'project'::text || jsonb_build_object('session_id', target)), '[]')
      into feedback from gone as g;
    delete from turnlog.ai_messages as m where m.project = in_project and m.session_id = of_session;
    delete from turnlog.ai_revisions as r where r.project = in_project and r.session_id = of_session;
    delete from turnlog.ai_search_queue as q where q.project = in_project and q.session_id = of_session;
    delete from turnlog.ai_search as x where x.project = in_project and x.session_id = of_session;
    delete from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session;
    return feedback;
end
$$;


-- schemas/write/merge_call.sql
-- Returns a call as its spans and their log events say it, and the fields that differ from what is stored: of each field,
-- and of each key of the metadata, the value of the first that says it, in the order of `members` and before log events.
-- What somebody else has said of a stored call comes before all of them, and what is stored before what is said again.
-- `call` as in turnlog.place_spans; `stored`: [{session_id, id, facts}]; `said`: [{ref, source, facts, created_at}].
create or replace function turnlog.merge_call(call jsonb, stored jsonb, said jsonb, out merged jsonb, out filled text[])
language plpgsql immutable
set search_path = ''
set timezone = 'UTC'
as $$
declare
    before jsonb;
begin
    with sources as materialized (
        select m.value ->> 'ref' as ref, m.value ->> 'session_id' as session_id, m.value ->> 'id' as id,
               m.ordinality * 4 + case f.source when 'span' then 0 else 2 end as rank, f.source, f.fields
          from jsonb_array_elements(call -> 'members') with ordinality as m
         cross join lateral (values ('span', m.value -> 'fields'), ('events', m.value -> 'event_fields')) as f (source, fields)
    ), statements as (
        select e.key, e.value, coalesce((
                   select min(s.rank) from sources as s
                    where s.session_id = i.value ->> 'session_id' and s.id = i.value ->> 'id' and s.fields ? e.key), -1) as rank,
               i.ordinality as n
          from jsonb_array_elements(stored) with ordinality as i
         cross join lateral turnlog.flat_fields(i.value -> 'facts') as e (key, value)
        union all
        select e.key, e.value, s.rank + 1, b.ordinality
          from jsonb_array_elements(said) with ordinality as b
          join sources as s on s.ref = b.value ->> 'ref' and s.source = b.value ->> 'source'
         cross join lateral turnlog.flat_fields(b.value -> 'facts') as e (key, value)
    ), chosen as (
        select distinct on (s.key) s.key, s.value
          from statements as s
         where s.key not in ('created_at', 'tags', 'ranks', 'participant', 'trace_id', 'span_id')
         order by s.key, s.rank, s.n
    )
    select coalesce(jsonb_object_agg(c.key, c.value) filter (where c.key not like 'metadata.%'), '{}')
           || case when bool_or(c.key like 'metadata.%') then jsonb_build_object(
                  'metadata', jsonb_object_agg(substr(c.key, 10), c.value) filter (where c.key like 'metadata.%'))
                   else '{}' end
           || jsonb_strip_nulls(jsonb_build_object(
                  'tags', (select jsonb_agg(distinct t.tag order by t.tag)
                             from statements as s cross join lateral jsonb_array_elements(s.value) as t (tag)
                            where s.key = 'tags')))
      into merged
      from chosen as c;
    merged := merged || jsonb_build_object('created_at', (
        select min(t.at) from (
            select (i.value #>> '{facts,created_at}')::timestamptz as at from jsonb_array_elements(stored) as i
             union all
            select (b.value ->> 'created_at')::timestamptz from jsonb_array_elements(said) as b) as t));
    if said is null and jsonb_array_length(stored) = 1 then -- it only moves
        merged := stored #> '{0,facts}';
        filled := '{}';
        return;
    end if;
    before := stored #> '{0,facts}';
    filled := array(
        select f.key from jsonb_each(merged) as f
         where f.value is distinct from before -> f.key and f.key not in ('created_at', 'tags')
            or f.key = 'tags' and not coalesce(before -> 'tags', '[]') @> f.value
         order by f.key);
    if filled = '{}' and jsonb_array_length(stored) > 1 then
        filled := '{metadata}'; -- two became one
    end if;
end
$$;


-- schemas/write/merge_user.sql
-- Merges a guest into a user, up to `most` sessions, interactions or feedback per call; call it again while `left`. A
-- call with `begin` stores that the guest is this user, so what arrives late for the guest follows: see
-- turnlog.follow_merges. Each later call moves a part of what is stored: the guest's sessions; participations and
-- interactions in any session; feedback, of which the latest counts where both gave some; folders. A user whom another
-- user was merged into stays the end of the chain: whoever is merged into a guest follows that guest.
-- Takes {project, user_id: the guest, into, most, begin?, dry_run?, after?, limit?}. Returns {merged_into: whom the guest
-- belongs to, if that isn't `into`, else null; merged_at, sessions, participations, turns, feedback, folders: counts of
-- this call, left, after}. `dry_run` counts, `limit` sessions with participations per call, in pages.
create or replace function turnlog.merge_user(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- one user's rows, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    of_guest constant text := request ->> 'user_id';
    most constant integer := request ->> 'most';
    page_size constant integer := request ->> 'limit';
    begins constant boolean := coalesce((request ->> 'begin')::boolean, false);
    dry_run constant boolean := coalesce((request ->> 'dry_run')::boolean, false);
    counts jsonb := '{"sessions": 0, "participations": 0, "turns": 0, "feedback": 0, "folders": 0}';
    merge turnlog.ai_user_merges;
    target text := request ->> 'into';
    ids uuid[];
    rows jsonb;
    affected bigint;
    has_more boolean := true;
begin
    perform turnlog.lock_merges(in_project, to_merge => begins and not dry_run);
    -- `into` may have been merged itself
    target := coalesce((select m.into_user from turnlog.ai_user_merges as m
                         where m.project = in_project and m.guest = target), target);
    select m.* into merge from turnlog.ai_user_merges as m where m.project = in_project and m.guest = of_guest;
    if target = of_guest then -- `into` was merged into the guest
        return counts || jsonb_build_object('merged_into', of_guest, 'merged_at', null, 'left', false, 'after', null);
    elsif merge.into_user <> target then
        return counts || jsonb_build_object('merged_into', merge.into_user, 'merged_at', merge.merged_at, 'left', false,
                                            'after', null);
    end if;

    if dry_run then
        ids := array(
            select p.session_id
              from turnlog.ai_session_participants as p
             where p.project = in_project and p.participant = of_guest
               and (request ->> 'after' is null or p.session_id > (request ->> 'after')::uuid)
             order by p.session_id
             limit page_size);
        counts := counts || jsonb_build_object(
            'participations', cardinality(ids),
            'turns', (select count(*) from turnlog.ai_interactions as i
                       where i.project = in_project and i.session_id = any (ids) and i.participant = of_guest));
        if cardinality(ids) < page_size then
            counts := counts || jsonb_build_object(
                'sessions', (select count(*) from turnlog.ai_sessions as s
                              where s.project = in_project and s.user_id = of_guest and s.erased_at is null),
                'feedback', (select count(*) from turnlog.ai_feedback as f
                              where f.project = in_project and f.author = of_guest),
                'folders', (select count(*) from turnlog.ai_session_folders as f
                             where f.project = in_project and f.user_id = of_guest));
        end if;
        return counts || jsonb_build_object(
            'merged_into', null, 'merged_at', merge.merged_at, 'left', false,
            'after', case when cardinality(ids) = page_size then ids[page_size] end);
    elsif begins then
        insert into turnlog.ai_user_merges (project, guest, into_user, merged_at)
        values (in_project, of_guest, target, statement_timestamp())
            on conflict do nothing;
        update turnlog.ai_user_merges as m
           set into_user = target
         where m.project = in_project and m.into_user = of_guest;
    else
        -- 1. The guest's sessions, locked in the order of all writers.
        ids := array(
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.id = any (array(
                   select d.id from turnlog.ai_sessions as d
                    where d.project = in_project and d.user_id = of_guest and d.erased_at is null limit most))
             order by s.id
               for update);
        if ids <> '{}' then
            update turnlog.ai_sessions as s
               set user_id = target,
                   edited = array(select f from unnest(s.edited) as f union select 'user_id')
             where s.project = in_project and s.id = any (ids) and s.user_id = of_guest;
            get diagnostics affected = row_count;
            counts := counts || jsonb_build_object('sessions', affected);
        else
            -- 2. The guest's participations, with the interactions that name the guest.
            ids := array(
                select p.session_id from turnlog.ai_session_participants as p
                 where p.project = in_project and p.participant = of_guest
                 order by p.session_id
                 limit 200);
            if ids <> '{}' then
                perform from (
                    select s.id from turnlog.ai_sessions as s
                     where s.project = in_project and s.id = any (ids)
                     order by s.id
                       for update) as locked;
                update turnlog.ai_interactions as i
                   set participant = target
                 where i.project = in_project collate "C" and i.ctid = any (array(
                       select d.ctid from turnlog.ai_interactions as d
                        where d.project = in_project and d.session_id = any (ids) and d.participant = of_guest limit most));
                get diagnostics affected = row_count;
                counts := counts || jsonb_build_object('turns', affected);
                with gone as (
                    delete from turnlog.ai_session_participants as p
                     where p.project = in_project and p.session_id = any (ids) and p.participant = of_guest
                       and not exists (select from turnlog.ai_interactions as i
                                        where i.project = in_project and i.session_id = p.session_id
                                          and i.participant = of_guest)
                    returning p.*
                )
                select count(*), jsonb_agg(jsonb_strip_nulls(to_jsonb(g)) || jsonb_build_object('participant', target)
                                           order by g.session_id)
                  into affected, rows
                  from gone as g;
                if rows is not null then
                    perform turnlog.write_participants(in_project, jsonb_build_object('participants', rows), '{}');
                end if;
                counts := counts || jsonb_build_object('participations', affected);
            else
                -- 3. The guest's feedback.
                ids := array(
                    select distinct f.session_id from (
                        select f.session_id from turnlog.ai_feedback as f
                         where f.project = in_project and f.author = of_guest
                         order by f.session_id
                         limit most) as f);
                if ids <> '{}' then
                    perform from (
                        select s.id from turnlog.ai_sessions as s
                         where s.project = in_project and s.id = any (ids)
                         order by s.id
                           for update) as locked;
                    with gone as (
                        delete from turnlog.ai_feedback as f
                         where f.project = in_project collate "C" and f.ctid = any (array(
                               select d.ctid from turnlog.ai_feedback as d
                                where d.project = in_project and d.author = of_guest and d.session_id = any (ids) limit most))
                        returning f.*
                    )
                    select count(*), jsonb_agg(to_jsonb(g) || jsonb_build_object('author', target))
                      into affected, rows
                      from gone as g;
                    if rows is not null then
                        perform turnlog.write_feedback(in_project, jsonb_build_object('feedback', rows), '{}');
                    end if;
                    counts := counts || jsonb_build_object('feedback', affected);
                else
                    -- 4. The guest's folders.
                    ids := array(
                        select f.id from turnlog.ai_session_folders as f
                         where f.project = in_project and f.user_id = of_guest
                         order by f.id
                         limit most
                           for no key update);
                    update turnlog.ai_session_folders as f
                       set user_id = target
                     where f.project = in_project and f.id = any (ids);
                    counts := counts || jsonb_build_object('folders', cardinality(ids));
                    has_more := ids <> '{}';
                end if;
            end if;
        end if;
    end if;
    return counts || jsonb_build_object(
        'merged_into', null, 'left', has_more, 'after', null,
        'merged_at', (select m.merged_at from turnlog.ai_user_merges as m
                       where m.project = in_project and m.guest = of_guest));
end
$$;


-- schemas/write/missing_sessions.sql
-- Returns the rows with which to insert the sessions of a batch that aren't `known`. Of several rows of one session,
-- the first explicit one counts, else the first with a key. Of a session whose number another one holds, only the key
-- is taken, and only if the batch has a child of it. A session begins with the earliest of its interactions, of which
-- the first row is the one that will be inserted. If several claim one session, a row without a claim wins (the
-- service itself), then the first; rows with another claim are ignored.
create or replace function turnlog.missing_sessions(rows jsonb, known uuid[]) returns setof jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return query
    with children as materialized (
        select c.session_id, c.claim, c.created_at, c.nth, c.ordinality, c.id, c.started_at
          from (select i.session_id, i.claim, i.created_at, 3 as nth, i.ordinality, i.id, i.started_at
                  from rows from (jsonb_to_recordset(rows -> 'interactions')
                           as (session_id uuid, claim text, created_at text, id uuid, started_at timestamptz)) with ordinality as i
                union all
                select p.session_id, p.claim, p.created_at, 2, p.ordinality, null, null
                  from rows from (jsonb_to_recordset(rows -> 'participants')
                           as (session_id uuid, claim text, created_at text)) with ordinality as p
                union all
                select f.session_id, f.claim, f.created_at, 4, f.ordinality, null, null
                  from rows from (jsonb_to_recordset(rows -> 'feedback')
                           as (session_id uuid, claim text, created_at text)) with ordinality as f) as c
         where c.session_id <> all (known)
    ), dated as (
        select i.session_id, min(i.at) as earliest_turn_at
          from (select distinct on (c.session_id, c.id) c.session_id,
                       least(c.started_at, coalesce(c.created_at::timestamptz, statement_timestamp())) as at
                  from children as c
                 where c.nth = 3
                 order by c.session_id, c.id, c.ordinality) as i
         group by i.session_id
    ), incoming as materialized (
        select (s.value ->> 'id')::uuid as id, s.value, s.ordinality,
               coalesce(rows -> 'numbers_taken' @> to_jsonb(s.ordinality), false) as number_is_taken
          from jsonb_array_elements(coalesce(rows -> 'sessions', '[]')) with ordinality as s
         where (s.value ->> 'id')::uuid <> all (known)
    ), claims as (
        select distinct on (c.session_id) c.session_id, c.claim
          from (select s.id as session_id, s.value ->> 'claim' as claim, 1 as nth, s.ordinality from incoming as s
                union all
                select c.session_id, c.claim, c.nth, c.ordinality from children as c) as c
         order by c.session_id, c.claim is not null, c.nth, c.ordinality
    ), facts as (
        select distinct on (f.id) f.id, f.claim, f.facts
          from (select s.id, s.value ->> 'claim' as claim, s.value - '{numbering,folder_position,plan_index}'::text[] as facts,
                       s.ordinality
                  from incoming as s where not s.number_is_taken
                union all
                select s.id, s.value ->> 'claim', jsonb_build_object('id', s.id, 'implicit', true)
                             || case when s.value ? 'key' then jsonb_build_object('key', s.value -> 'key') else '{}' end
                             || case when s.value ? 'created_at'
                                     then jsonb_build_object('created_at', s.value -> 'created_at') else '{}' end,
                       s.ordinality
                  from incoming as s
                 where s.number_is_taken and s.id in (select c.session_id from children as c)
                union all
                select c.session_id, c.claim, jsonb_build_object('id', c.session_id, 'implicit', true)
                             || case when c.created_at is null then '{}'
                                     else jsonb_build_object('created_at', c.created_at) end, null
                  from children as c) as f
          join claims as c on c.session_id = f.id and c.claim is not distinct from f.claim
         order by f.id, coalesce((f.facts ->> 'implicit')::boolean, false), not f.facts ? 'key', f.ordinality
    )
    select case when f.claim like 'user:%' then jsonb_build_object('user_id', substr(f.claim, 6)) else '{}' end
           || (f.facts - 'claim')
           || case when f.claim like 'token:%' then jsonb_build_object('claim', f.claim) else '{}' end
           || case when d.session_id is null then '{}' -- calls of spans aren't among the children yet, see turnlog.place_spans
                   else jsonb_build_object('earliest_turn_at', d.earliest_turn_at) end
      from facts as f
      left join dated as d on d.session_id = f.id;
end
$$;


-- schemas/write/number_sessions.sql
-- Assigns session numbers below folders that the batch has locked, so that nobody else can take one. `planned`: the
-- sessions of the folders' plans, which are appended to the batch's own.
-- Returns what replaces the batch's own rows: {sessions, participants, unplanned: how many of the sessions aren't
-- planned ones, numbers_taken: [position ...] of the sessions whose number another session holds}.
create or replace function turnlog.number_sessions(in_project text, rows jsonb, planned jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    sessions constant jsonb := coalesce(rows -> 'sessions', '[]') || planned;
    ids uuid[];
    folders uuid[];
    numbers integer[];
    one record;
    number integer;
    holder uuid;
    aliases jsonb := '{}';  -- id derived from a number -> id of the session that has the number
begin
    select array_agg(s.id order by s.ordinality), array_agg(s.folder_id order by s.ordinality),
           array_agg(s.session_number order by s.ordinality)
      into ids, folders, numbers
      from rows from (jsonb_to_recordset(sessions) as (id uuid, folder_id uuid, session_number integer))
           with ordinality as s;

    -- Several sessions that want one number can only be written one after another: this error makes the caller bisect the
    -- batch.
    if exists (select from unnest(ids, folders, numbers) as s (id, folder_id, number)
                where s.number is not null
                group by s.folder_id, s.number having count(distinct s.id) > 1) then
        raise exception using errcode = '23505', constraint = 'ai_sessions_folder_number_key',
            message = 'several sessions of one batch want the same number of a folder';
    end if;

    for one in
        select s.ordinality as at, s.value ->> 'numbering' as numbering
          from jsonb_array_elements(sessions) with ordinality as s
         where s.value ? 'numbering'
         order by s.value ->> 'numbering' = 'named', s.ordinality
    loop
        if one.numbering = 'named' then
            select s.id
              into holder
              from turnlog.ai_sessions as s
             where s.project = in_project and s.folder_id = folders[one.at] and s.session_number = numbers[one.at];
            if holder <> ids[one.at] then
                aliases := aliases || jsonb_build_object(ids[one.at]::text, holder);
                ids[one.at] := holder;
            end if;
        elsif not exists (
            -- it has a number already, or another row of the batch gives it one
            select from turnlog.ai_sessions as s
             where s.project = in_project and s.id = ids[one.at] and s.session_number is not null
            union all
            select from unnest(ids, numbers) as s (id, number) where s.id = ids[one.at] and s.number is not null)
        then
            select min(free.n)
              into number
              from (select generate_series(1, cardinality(ids) + (
                               select count(*) from turnlog.ai_sessions as s
                                where s.project = in_project and s.folder_id = folders[one.at])) as n
                    except
                    select s.session_number from turnlog.ai_sessions as s
                     where s.project = in_project and s.folder_id = folders[one.at]
                    except
                    select s.number from unnest(folders, numbers) as s (folder_id, number)
                     where s.folder_id = folders[one.at]) as free;
            numbers[one.at] := number;
        end if;
    end loop;

    return jsonb_build_object(
        'unplanned', jsonb_array_length(sessions) - jsonb_array_length(planned),
        'sessions', (
            select coalesce(jsonb_agg(s.value || jsonb_build_object('id', ids[s.ordinality])
                                      || case when numbers[s.ordinality] is null then '{}'
                                              else jsonb_build_object('session_number', numbers[s.ordinality]) end
                                      order by s.ordinality), '[]')
              from jsonb_array_elements(sessions) with ordinality as s),
        -- participants named by a session's number take part in the session that has it
        'participants', (
            select coalesce(jsonb_agg(
                       p.value || case when p.value ->> 'numbering' = 'named' then jsonb_build_object('session_id',
                           coalesce(aliases -> (p.value ->> 'session_id'), p.value -> 'session_id')) else '{}' end
                       order by p.ordinality), '[]')
              from jsonb_array_elements(coalesce(rows -> 'participants', '[]')) with ordinality as p),
        'numbers_taken', (
            select coalesce(jsonb_agg(s.ordinality order by s.ordinality), '[]')
              from unnest(ids, folders, numbers) with ordinality as s (id, folder_id, number, ordinality)
             where s.number is not null
               and exists (select from turnlog.ai_sessions as other
                            where other.project = in_project and other.folder_id = s.folder_id
                              and other.session_number = s.number and other.id <> s.id)));
end
$$;


-- schemas/write/place_spans.sql
-- Stores the spans of a batch, and works out which calls of a model belong to which session now: those of the batch, and
-- stored ones of their traces to which something new applies. The caller has called turnlog.lock_merges; the sessions
-- are locked afterwards, and turnlog.gather_calls then writes the calls.
-- Returns the batch with the sessions of its calls, also those that calls leave, after its own `sessions`, and with calls of
-- which only one span is known after its own `interactions`; with `ref` (TRACE/SPAN), `session_id`, `participant`, `known`
-- (it was stored before) and `changed` in each of its `spans`, and, where it is a call, `plain`, if it is one of those
-- interactions, else `first`, the name of the call; and with
--   calls   [{first: TRACE/SPAN, id, trace_id, span_id, session_id, participant: of the interaction as it is to be,
--             moves: it is stored elsewhere, members: [{ref: TRACE/SPAN, session_id, id: of the interaction where it
--             is stored, or null, fields, event_fields: what was said before}]}]
create or replace function turnlog.place_spans(in_project text, rows jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
as $$
declare
    spans constant jsonb := rows -> 'spans';
    kept record;
    trace_ids text[] := '{}';
    span_ids text[] := '{}';
    joining jsonb;
    joined jsonb := '{}';
    changed jsonb;  -- of kept.changed, those of traces that aren't whole
    locked text[];
    one record;
    calls jsonb;
    places jsonb;   -- TRACE/SPAN -> {session_id, participant, first} of the batch's spans
    sessions jsonb;
    placed jsonb;
    plain jsonb;            -- interactions
    plain_sessions jsonb;
begin
    select k.known, k.changed, k.whole, k.joining into kept from turnlog.keep_spans(in_project, spans) as k;
    changed := case when kept.whole = '{}' then kept.changed else (
        select coalesce(jsonb_object_agg(k, true), '{}') from jsonb_object_keys(kept.changed) as k
         where not kept.whole ? split_part(k, '/', 1)) end;
    if changed <> '{}' then
        select a.trace_ids, a.span_ids into trace_ids, span_ids from turnlog.inherit_sessions(in_project, changed) as a;
    end if;
    -- also those for which another session is named now
    joining := kept.joining || coalesce((
        select jsonb_object_agg(w.trace_id || '/' || w.span_id, true)
          from unnest(trace_ids, span_ids) as w (trace_id, span_id)), '{}');
    if joining <> '{}' then
        joined := turnlog.join_calls(in_project, joining);
    end if;
    -- and with each span all those of its call
    select array_agg(t.trace_id), array_agg(t.span_id)
      into trace_ids, span_ids
      from (select w.trace_id, w.span_id from unnest(trace_ids, span_ids) as w (trace_id, span_id)
            union
            select s.trace_id, s.span_id from jsonb_to_recordset(spans) as s (trace_id text, span_id text)
             where not kept.whole ? s.trace_id
            union
            select split_part(k, '/', 1), split_part(k, '/', 2) from jsonb_object_keys(joined) as k) as t;
    locked := array(select distinct s.trace_id from jsonb_to_recordset(spans) as s (trace_id text));
    select array_agg(split_part(m.ref, '/', 1)), array_agg(split_part(m.ref, '/', 2))
      into trace_ids, span_ids
      from (select w.trace_id || '/' || w.span_id as ref from unnest(trace_ids, span_ids) as w (trace_id, span_id)
            union
            select m.ref
              from unnest(trace_ids, span_ids) as w (trace_id, span_id)
             cross join lateral (
                   select s.call_spans from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = w.trace_id and s.span_id = w.span_id
                      and s.call_spans is not null
                   offset 0) as s
             cross join lateral unnest(s.call_spans) as m (ref)) as m;
    for one in select distinct t.id from unnest(trace_ids) as t (id) where t.id <> all (locked) order by t.id loop
        perform from turnlog.ai_traces as t where t.project = in_project and t.trace_id = one.id for no key update;
    end loop;

    with placed as materialized (
        select s.*, p.level, p.place, p.place_key, p.person, s.trace_id || '/' || s.span_id as ref,
               s.kind = 'call' or s.has_feedback is true and coalesce(s.kind, 'call') = 'call' as is_call
          from turnlog.span_places(in_project, trace_ids, span_ids) as p
         cross join lateral (
               select s.* from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = p.of_trace and s.span_id = p.of_span
               offset 0) as s
    ), members as materialized (
        select coalesce(m.call_spans[1], m.ref) as first, array_position(m.call_spans, m.ref) as nth, m.*, old.id as old_id,
               -- a span of a whole trace has its session, but isn't stored there yet
               case when not kept.whole ? m.trace_id then m.session_id end as old_session,
               case when kept.known ? m.ref then kept.known -> m.ref -> 0
                    when not kept.changed ? m.ref then to_jsonb(m.fields) end as span_said,
               case when kept.known ? m.ref then kept.known -> m.ref -> 1
                    when not kept.changed ? m.ref then to_jsonb(m.event_fields) end as events_said
          from placed as m
         cross join lateral (
               select coalesce(joined ->> m.ref, m.call_spans[1], m.ref) as ref) as was
         cross join lateral (
               select s.id from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(was.ref, '/', 1)
                  and s.span_id = split_part(was.ref, '/', 2)
               offset 0) as old
         where m.is_call is true
    ), grouped as materialized (
        select m.first, own.id, own.trace_id, own.span_id,
               (array_agg(m.place order by m.level, m.nth))[1] as place,
               (array_agg(m.place_key order by m.level, m.nth))[1] as place_key,
               min(m.level) as level,
               (array_agg(m.person order by m.person is null, m.level, m.nth))[1] as person,
               jsonb_agg(jsonb_build_object(
                   'ref', m.ref, 'session_id', m.old_session, 'id', case when m.old_session is not null then m.old_id end,
                   'participant', m.participant, 'fields', m.span_said, 'event_fields', m.events_said) order by m.nth) as members
          from members as m
         cross join lateral (
               select s.id, s.trace_id, s.span_id from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(m.first, '/', 1)
                  and s.span_id = split_part(m.first, '/', 2)
               offset 0) as own
         group by m.first, own.id, own.trace_id, own.span_id
    ), others as (
        select o.trace_id, o.span_id, o.ref, o.place, o.person, o.session_id, o.participant
          from placed as o where o.is_call is not true
    )
    select (select coalesce(jsonb_agg(jsonb_build_object(
                       'first', g.first, 'id', g.id, 'trace_id', g.trace_id, 'span_id', g.span_id, 'session_id', g.place,
                       'session_key', g.place_key, 'is_unnamed', g.level in (0, 6),
                       'participant', g.person, 'members', g.members,
                       'moves', exists (
                           select from jsonb_array_elements(g.members) as m
                            where m ->> 'session_id' is not null
                              and ((m ->> 'session_id')::uuid, (m ->> 'id')::uuid, m ->> 'participant')
                                  is distinct from (g.place, g.id, g.person)))
                       order by g.first), '[]') from grouped as g),
           (select coalesce(jsonb_object_agg(r.ref, jsonb_build_object(
                       'session_id', r.place, 'participant', r.person, 'first', r.first)), '{}')
              from (select m ->> 'ref' as ref, g.place, g.person, g.first
                      from grouped as g cross join lateral jsonb_array_elements(g.members) as m
                    union all
                    select o.ref, o.place, o.person, null from others as o) as r)
      into calls, places;

    -- spans that aren't calls are in their place with that
    update turnlog.ai_spans as s
       set session_id = n.place, participant = n.person
      from (select d.at, (p.value ->> 'session_id')::uuid as place, p.value ->> 'participant' as person
              from jsonb_each(places) as p
             cross join lateral (
                   select d.ctid as at, d.session_id, d.participant from turnlog.ai_spans as d
                    where d.project = in_project and d.trace_id = split_part(p.key, '/', 1)
                      and d.span_id = split_part(p.key, '/', 2)
                   offset 0) as d
             where p.value -> 'first' = 'null'
               and (d.session_id, d.participant)
                   is distinct from ((p.value ->> 'session_id')::uuid, p.value ->> 'participant')) as n
     where s.project = in_project collate "C" and s.ctid = n.at;

    calls := (
        select coalesce(jsonb_agg(c.value order by c.ordinality), '[]')
          from jsonb_array_elements(calls) with ordinality as c
         where (c.value ->> 'moves')::boolean
            or exists (select from jsonb_array_elements(c.value -> 'members') as m
                        where m -> 'session_id' = 'null' or kept.known ? (m ->> 'ref') or kept.changed ? (m ->> 'ref')));
    -- Most spans are of whole traces, and their calls are no other span's.
    with incoming as materialized (
        select s.value as span, s.ordinality as n, r.ref,
               kept.whole ? (s.value ->> 'trace_id') and not places ? r.ref as is_plain, s.value ? 'call' as is_call
          from jsonb_array_elements(spans) with ordinality as s
         cross join lateral (select (s.value ->> 'trace_id') || '/' || (s.value ->> 'span_id') as ref) as r
    )
    select jsonb_agg(case
               when i.is_plain then jsonb_build_object(
                   'ref', i.ref, 'session_id', i.span -> 'session_id', 'participant', i.span -> 'participant',
                   'created_at', i.span -> 'created_at', 'known', false, 'changed', true, 'plain', i.is_call)
                   || case when not i.span ? 'feedback' then '{}' else jsonb_build_object(
                          'feedback', i.span -> 'feedback',
                          'feedback_on', case when coalesce(i.span ->> 'kind', 'call') = 'call' then i.span -> 'id' end) end
               else i.span - '{session_id,participant}'::text[] || coalesce(places -> i.ref, '{}') || jsonb_build_object(
                   'ref', i.ref, 'known', kept.known ? i.ref, 'changed', kept.changed ? i.ref) end order by i.n),
           coalesce(jsonb_agg(i.span -> 'call' order by i.n) filter (where i.is_plain and i.is_call), '[]'),
           coalesce(jsonb_agg(jsonb_build_object(
               'session_id', i.span -> 'session_id', 'session_key', i.span -> 'place_key',
               'is_unnamed', i.span -> 'session_id' = i.span -> 'trace_session',
               'participant', i.span -> 'participant', 'trace_id', i.span -> 'trace_id'))
               filter (where i.is_plain and (i.is_call or i.span ? 'feedback')), '[]')
      into placed, plain, plain_sessions
      from incoming as i;
    sessions := (
        select coalesce(jsonb_agg(n.row), '[]')
          from (select distinct on (c.value ->> 'session_id') jsonb_strip_nulls(jsonb_build_object(
                           'id', c.value -> 'session_id', 'key', c.value -> 'session_key', 'implicit', true,
                           'user_id', c.value -> 'participant', 'created_at', spans -> 0 -> 'created_at',
                           'metadata', case when (c.value ->> 'is_unnamed')::boolean
                                            then jsonb_build_object('trace_id', c.value -> 'trace_id') end)) as row
                  from jsonb_array_elements(calls || plain_sessions) with ordinality as c
                 order by c.value ->> 'session_id', c.value ->> 'participant' is null, c.ordinality) as n)
        || (select coalesce(jsonb_agg(distinct jsonb_build_object('id', i.id, 'implicit', true)), '[]')
              from jsonb_array_elements(calls) as c
             cross join lateral (
                   -- also without the user: of a rejected row this one is left
                   select c.value -> 'session_id' as id
                    where (c.value ->> 'moves')::boolean
                    union all
                   select m -> 'session_id' from jsonb_array_elements(c.value -> 'members') as m
                    where (c.value ->> 'moves')::boolean and m -> 'session_id' <> 'null') as i);
    return rows || jsonb_build_object(
        'calls', calls,
        'sessions', coalesce(rows -> 'sessions', '[]') || sessions,
        'interactions', coalesce(rows -> 'interactions', '[]') || plain,
        'spans', placed);
end
$$;


-- schemas/write/reject_erased.sql
-- Rejects rows of a spooled batch that were received before their user was erased. Returns kind -> position -> receipt.
-- An unknown session that the batch assigns to an erased user leaves a tombstone, so that its other rows, which don't
-- name the user, are rejected as well. A mere claim may be false, so it leaves none: a user's claim is in each row
-- anyway, and a token's claim only counts if no row of the batch names the session without it.
--
-- The tombstones are locked before the batch locks its own rows in order: two such batches may deadlock, and the one
-- that fails is written again.
create or replace function turnlog.reject_erased(in_project text, rows jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    kinds constant text[] := '{folders,sessions,participants,interactions,feedback,spans}';
    secret constant bytea := (select p.secret from turnlog.ai_projects as p where p.project = in_project);
    rejected jsonb;
    users_sessions uuid[];  -- sessions that the batch assigns to an erased user
    erased_until jsonb;     -- session id -> when the user was erased, of those that the service itself assigned
    one uuid;
begin
    with incoming as (
        select k.kind, e.ordinality as position, (e.value ->> 'created_at')::timestamptz as received_at,
               case when k.kind <> 'folders' then coalesce(e.value ->> 'session_id', e.value ->> 'id')::uuid end as session_id,
               case when k.kind = 'folders' then (e.value ->> 'id')::uuid end as folder_id,
               e.value ->> case k.kind when 'feedback' then 'author' when 'folders' then 'user_id'
                                       when 'sessions' then 'user_id' else 'participant' end as person,
               case when e.value ->> 'claim' like 'user:%' then substr(e.value ->> 'claim', 6) end as claimant,
               e.value ->> 'claim' as claim
          from unnest(kinds) as k (kind)
         cross join lateral jsonb_array_elements(coalesce(rows -> k.kind, '[]')) with ordinality as e
    ), claims as (
        select distinct s.session_id, s.claim from incoming as s where s.session_id is not null and s.kind <> 'feedback'
        union
        select (p.value ->> 'id')::uuid, null
          from jsonb_array_elements(coalesce(rows -> 'folders', '[]')) as f
         cross join lateral jsonb_array_elements(coalesce(f.value -> 'sessions', '[]')) as p
    ), disputed as materialized (
        select c.session_id from claims as c group by c.session_id having count(*) > 1
    ), named as (
        -- `stored_user`: the user of the session
        select s.*, (select stored.user_id from turnlog.ai_sessions as stored
                      where stored.project = in_project and stored.id = s.session_id and s.kind <> 'feedback') as stored_user
          from incoming as s
    ), erased as materialized (
        select w.person, e.erased_at
          from (select n.person from named as n union select n.claimant from named as n
                union select n.stored_user from named as n) as w
          join turnlog.ai_erased_users as e
            on e.project = in_project and e.user_hash = turnlog.user_hash(secret, w.person)
    ), decided as (
        select n.kind, n.position, n.session_id,
               exists (select from erased as g
                        where g.person in (n.person, n.claimant, n.stored_user) and n.received_at <= g.erased_at)
               or exists (select from turnlog.ai_session_folders as f
                           where f.project = in_project and f.id = n.folder_id and n.received_at <= f.erased_at) as is_rejected,
               n.kind = 'sessions'
               and (n.claim is null
                    or n.claimant is null and n.session_id not in (select d.session_id from disputed as d))
               and exists (select from erased as g where g.person = n.person and n.received_at <= g.erased_at) as belongs_to_user,
               -- a claim may be false, so it assigns nothing
               (select max(g.erased_at) from erased as g
                 where n.kind = 'sessions' and g.person = n.person and n.claim is null
                   and n.received_at <= g.erased_at) as erased_until
          from named as n
    )
    select coalesce((select jsonb_object_agg(r.kind, r.receipts)
                       from (select j.kind, jsonb_object_agg(
                                        j.position, '{"receipt": "rejected", "reason": "erased"}'::jsonb) as receipts
                               from decided as j where j.is_rejected group by j.kind) as r), '{}'),
           coalesce((select array_agg(distinct j.session_id order by j.session_id) from decided as j where j.belongs_to_user), '{}'),
           (select jsonb_object_agg(j.session_id, j.erased_until) from decided as j where j.erased_until is not null)
      into rejected, users_sessions, erased_until;

    insert into turnlog.ai_sessions (project, id, implicit, created_at, erased_at)
    select in_project, t.id, true, statement_timestamp(), statement_timestamp()
      from unnest(users_sessions) as t (id)
     order by t.id
        on conflict do nothing;
    -- earlier records of these sessions, stored before anything assigned a user
    for one in
        select s.id from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (users_sessions) and s.erased_at is null and s.user_id is null
           and s.claim is null and s.created_at <= (erased_until ->> s.id::text)::timestamptz
         order by s.id
    loop
        perform turnlog.erase(jsonb_build_object('project', in_project, 'session_id', one));
    end loop;
    return rejected;
end
$$;


-- schemas/write/reject_false_claims.sql
-- Rejects the rows of a batch whose claim is none of the owners of their session. `owners`: see turnlog.session_owners.
-- Returns kind -> position -> receipt.
create or replace function turnlog.reject_false_claims(rows jsonb, owners jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_object_agg(rejected.kind, rejected.receipts), '{}')
          from (select k.kind, jsonb_object_agg(
                           e.ordinality, '{"receipt": "conflict", "reason": "The session is somebody else''s"}'::jsonb) as receipts
                  from unnest(array['sessions', 'participants', 'interactions', 'feedback']) as k (kind)
                 cross join lateral jsonb_array_elements(coalesce(rows -> k.kind, '[]')) with ordinality as e
                cross join lateral (select owners -> coalesce(e.value ->> 'session_id', e.value ->> 'id') as ids) as o
                 where jsonb_typeof(o.ids) = 'array' and not o.ids ? (e.value ->> 'claim')
                 group by k.kind) as rejected);
end
$$;


-- schemas/write/reject_twins.sql
-- Makes tombstones of spans that came after their call was erased: another instrumentation's spans of it. They are
-- recognised as turnlog.join_calls recognises spans of one call, by the hashes that the erased ones left, and become
-- spans of the erased call. `changed` as in turnlog.join_calls. Returns TRACE/SPAN -> TRACE/SPAN of those.
create or replace function turnlog.reject_twins(in_project text, changed jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    one record;
    own turnlog.ai_spans;
    twin turnlog.ai_spans;
    members text[];
    rejected jsonb := '{}';
begin
    for one in
        with new_calls as materialized (
            select s.*, turnlog.twin_hash(in_project, s.response_id) as hash, turnlog.twin_hash(in_project, s.scope) as own_scope
              from jsonb_object_keys(changed) as k
             cross join lateral (
                   select s.* from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = split_part(k, '/', 1) and s.span_id = split_part(k, '/', 2)
                   offset 0) as s
             where s.kind = 'call' and s.erased_at is null
        )
        select n.trace_id, n.span_id, o.trace_id as other_trace, o.span_id as other_span, o.named, n.own_scope
          from new_calls as n
         cross join lateral (
               select s.*, false as named from turnlog.ai_spans as s
                where s.project = in_project and s.response_hash = n.hash
                union all
               (select s.*, false from turnlog.ai_spans as s
                 where s.project = in_project and s.trace_id = n.trace_id and s.parent_id in (n.parent_id, n.span_id)
                   and n.failed and s.failed and n.response_id is null and s.response_hash is null)
                union all
               select s.*, false from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = n.trace_id and s.span_id = n.parent_id
                  and n.failed and s.failed and n.response_id is null and s.response_hash is null
                union all
               select s.*, true from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(n.same_call_as, '/', 1)
                  and s.span_id = split_part(n.same_call_as, '/', 2)
                union all
               select s.*, true from turnlog.ai_spans as s
                where s.project = in_project and s.same_call_as = n.trace_id || '/' || n.span_id
               offset 0) as o
         where o.erased_at is not null and o.kind = 'call'
           and (o.named and o.rank is not null and n.rank is not null
                or o.scope_hash <> n.own_scope
                   and n.started_at <= greatest(o.started_at, o.completed_at)
                   and o.started_at <= greatest(n.started_at, n.completed_at))
         order by not o.named, abs(extract(epoch from o.started_at - n.started_at)),
                  n.trace_id, n.span_id, o.trace_id, o.span_id
    loop
        continue when rejected ? (one.trace_id || '/' || one.span_id);
        select s.* into own from turnlog.ai_spans as s
         where s.project = in_project and s.trace_id = one.trace_id and s.span_id = one.span_id;
        select s.* into twin from turnlog.ai_spans as s
         where s.project = in_project and s.trace_id = one.other_trace and s.span_id = one.other_span;
        members := coalesce(twin.call_spans, array[one.other_trace || '/' || one.other_span]);
        continue when not one.named and exists (
            select from unnest(members) as m (ref)
             cross join lateral (
                   select s.scope_hash from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = split_part(m.ref, '/', 1)
                      and s.span_id = split_part(m.ref, '/', 2)
                   offset 0) as s
             where s.scope_hash = one.own_scope);
        continue when (
            select count(distinct s.stated_session) > 1
              from (values (own.trace_id, own.caller_span), (twin.trace_id, twin.caller_span)) as c (trace_id, span_id)
             cross join lateral (
                   select s.stated_session from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = c.trace_id and s.span_id = c.span_id
                   offset 0) as s);
        perform from unnest(members) as r (ref)
          cross join lateral (
               select from turnlog.ai_traces as t
                where t.project = in_project and t.trace_id = split_part(r.ref, '/', 1) for no key update) as t;
        if own.session_id is not null and exists (
           select from turnlog.ai_interactions as i
            where i.project = in_project and i.session_id = own.session_id and i.id = own.id) then -- by log events
            perform from turnlog.ai_sessions as s where s.project = in_project and s.id = own.session_id for update;
            perform turnlog.blank_interactions(in_project, array[own.session_id], array[own.id]);
        end if;
        perform turnlog.blank_spans(in_project, array[one.trace_id || '/' || one.span_id]);
        members := members || (one.trace_id || '/' || one.span_id);
        update turnlog.ai_spans as s -- it belongs where the erased call does, whatever its own trace says
           set caller_span = case when twin.session_id is null then s.caller_span else s.span_id end,
               stated_session = coalesce(twin.session_id, s.stated_session), by_caller = true, call_spans = members
         where s.project = in_project and s.trace_id = one.trace_id and s.span_id = one.span_id;
        update turnlog.ai_spans as s
           set call_spans = members
         where s.project = in_project collate "C" and s.ctid = any (array(
               select d.ctid
                 from unnest(members) as r (ref)
                cross join lateral (
                      select d.ctid from turnlog.ai_spans as d
                       where d.project = in_project and d.trace_id = split_part(r.ref, '/', 1)
                         and d.span_id = split_part(r.ref, '/', 2)
                      offset 0) as d));
        rejected := rejected || jsonb_build_object(one.trace_id || '/' || one.span_id, one.trace_id || '/' || one.span_id);
    end loop;
    return rejected;
end
$$;


-- schemas/write/restore_revisions.sql
-- Restores revisions that a batch's interactions bring along from an export: `revisions` of a row, [{facts, said_at,
-- created_at}] with the facts under an interaction's names. Takes position -> receipt of the rows that created none;
-- those of an interaction that was refused are left out.
create or replace function turnlog.restore_revisions(in_project text, interactions jsonb, rejected jsonb, receipts jsonb) returns void
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
as $$
declare
    one record;
begin
    for one in
        select (i.value ->> 'session_id')::uuid as session_id, (i.value ->> 'id')::uuid as id,
               (r.value ->> 'created_at')::timestamptz as created_at,
               jsonb_build_array(jsonb_build_object('said_at', r.value -> 'said_at', 'facts',
                   turnlog.statement(f.facts) || (select coalesce(jsonb_object_agg(s.key, s.value), '{}')
                                                    from jsonb_each(f.facts) as s
                                                   where s.key in ('status', 'started_at') and s.value <> 'null'))) as lost
          from jsonb_array_elements(interactions) with ordinality as i (value, position)
         cross join lateral jsonb_array_elements(i.value -> 'revisions') as r
         cross join lateral (
               select to_jsonb(jsonb_populate_record(null::turnlog.ai_interactions, r.value -> 'facts')) as facts) as f
         where coalesce(receipts #>> array[i.position::text, 'receipt'], 'created') not in ('conflict', 'rejected')
           and not rejected ? (i.value ->> 'session_id')
    loop
        perform turnlog.keep_revisions(in_project, one.session_id, one.id, one.lost, null, one.created_at);
    end loop;
end
$$;


-- schemas/write/session_owners.sql
-- Returns session id -> owners for the sessions that rows of a batch claim: '' if only the service owns it, null for a
-- tombstone, which is rejected anyway. Sessions that don't exist are missing. The owner is whoever opened the session.
-- Where the service handed it over, the new user owns it; a page that opened it with a token may go on to append.
create or replace function turnlog.session_owners(in_project text, rows jsonb) returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_object_agg(s.id, case when s.erased_at is null
                                                    then to_jsonb(array[coalesce(s.claim, 'user:' || s.user_id, '')]
                                                                  || case when 'user_id' = any (s.edited) and s.user_id is not null
                                                                          then array['user:' || s.user_id] end) end), '{}')
          from turnlog.ai_sessions as s
         where s.project = in_project
           and s.id = any (array(
               select coalesce(e.value ->> 'session_id', e.value ->> 'id')::uuid
                 from unnest(array['sessions', 'participants', 'interactions', 'feedback']) as k (kind)
                cross join lateral jsonb_array_elements(coalesce(rows -> k.kind, '[]')) as e
                where e.value ? 'claim')));
end
$$;


-- schemas/write/span_receipts.sql
-- Returns the receipts of a batch's spans in order: of a call that of its interaction. `rows` as turnlog.gather_calls returns
-- them, `receipts` as turnlog.write has them. A span of an erased session is `rejected`.
create or replace function turnlog.span_receipts(rows jsonb, receipts jsonb, rejected jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
    -- those of calls come after the batch's own
    plain constant integer := jsonb_array_length(jsonb_path_query_array(rows, '$.spans[*] ? (@.plain == true)'));
    first_plain constant integer := (rows ->> 'before_calls')::integer - plain;
    all_created constant boolean := jsonb_typeof(receipts -> 'interactions') = 'string';
begin
    return (
        select coalesce(jsonb_agg(case
                   when rejected ->> (s.value ->> 'session_id') = 'erased'
                       then '{"receipt": "rejected", "reason": "erased"}'::jsonb
                   when s.value -> 'plain' = 'true' then case
                       when all_created then jsonb_build_object('receipt', receipts -> 'interactions')
                       else receipts -> 'interactions' -> (first_plain + s.nth::integer - 1) end
                   when rows -> 'span_places' ? s.n::text then case
                       when all_created then jsonb_build_object('receipt', receipts -> 'interactions')
                       else receipts -> 'interactions' -> (rows -> 'span_places' ->> s.n::text)::integer end
                   when s.value ? 'call' and rows -> 'span_receipts' ? (s.value ->> 'first')
                       then rows -> 'span_receipts' -> (s.value ->> 'first')
                   when not (s.value ->> 'known')::boolean then '{"receipt": "created"}'
                   when (s.value ->> 'changed')::boolean then '{"receipt": "filled"}'
                   else '{"receipt": "duplicate"}' end order by s.n), '[]')
          from (select s.value, s.n, count(*) filter (where s.value -> 'plain' = 'true') over (order by s.n) as nth
                  from jsonb_array_elements(rows -> 'spans') with ordinality as s (value, n)) as s);
end
$$;


-- schemas/write/store_content.sql
-- Returns the fields that fill a stored interaction, a row as jsonb, as they are to be stored, and stores the messages that
-- it gains: see turnlog.by_content. The caller holds the session's lock.
create or replace function turnlog.store_content(stored jsonb, fills jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    in_project constant text := stored ->> 'project';
    of_session constant uuid := stored ->> 'session_id';
    facts jsonb;
    body jsonb;
    changed record;
begin
    if fills ? 'context' or fills ? 'prompt' and (
           jsonb_typeof(fills -> 'prompt') = 'array' or stored -> 'context' <> 'null' or stored ->> 'prompt_end' is not null) then
        facts := turnlog.as_sent(stored, '{"context": true}', '{}', true)
            || '{"instructions": null, "context_end": null, "prompt_end": null, "response_end": null}';
    elsif stored ->> 'prompt_end' is not null
          and jsonb_typeof(coalesce(fills -> 'response', stored -> 'response')) in ('string', 'array') then
        facts := stored || '{"response_end": null}';
        body := turnlog.messages(
            in_project, of_session, (stored ->> 'prompt_end')::uuid, null, (stored ->> 'response_end')::uuid);
    else
        return fills;
    end if;
    changed := turnlog.by_content(facts || fills, body);
    if coalesce(changed.messages, changed.answer) is not null then
        perform turnlog.add_messages(
            in_project, changed.facts, changed.messages, changed.first, changed.last, changed.bytes, changed.answer);
    end if;
    return changed.facts;
end
$$;


-- schemas/write/write.sql
-- Writes a batch in one transaction. Takes {project, folders, sessions, participants, interactions, feedback, spans?: [row
-- ...] each, return_parents?, late?, database?, dry_run?}. Returns {folders, sessions, participants, interactions, feedback,
-- spans?}: for each kind a list of receipts in the order of its rows, or one outcome that holds for all of them.
-- A receipt is {receipt: created | filled | duplicate | revised | conflict | rejected, ...}.
--
-- A row holds values under its columns' names, and may hold more:
--   folders       `sessions`: those of its plan; they are written unless the plan is a conflict, and their receipts are
--                 in the folder's receipt
--   sessions      `implicit`: no caller sent it, it is the parent of a child; `numbering`: `next` gives it the lowest free
--                 number of its folder if it has none yet, `named` means the session that has this number
--   interactions  `on_conflict`: `report` changes nothing that is stored, `fill` fills empty fields although others
--                 contradict, `revise` keeps what contradicts as a revision: see turnlog.revision_rule;
--                 `revisions`: those that an export has of it, see turnlog.restore_revisions
--   spans         `trace_session`: the session of calls of the trace while nothing names one; `source`: what it comes of,
--                 `span` or `events`; `call`: the fields of an interaction; `feedback`: [row ...] on it, or
--                 on its session where a row has `of_session`.
--                 See turnlog.place_spans
--   any but folders and spans  `claim`: the owner that its session must have; a session that doesn't exist gets this owner
-- `return_parents`: receipts carry the folder or session as stored afterwards. `late`: the batch comes from a spool, so
-- rows received before their user was erased are rejected. `database`: the one that it was acknowledged for; any other
-- raises TL001. `dry_run`: return the receipts and write nothing.
--
-- Rows that name a guest who was merged into a user are the user's: see turnlog.follow_merges.
--
-- It locks the traces of its spans in the order of their ids first; only calls that two traces have in common can let it
-- deadlock with another batch of them, and the one that fails is written again. Otherwise
-- it can't deadlock: it inserts and locks folders in the order of their ids, then inserts missing sessions in that order,
-- then locks the others in that order. Every write and erasure holds the lock of its session until it commits, so what is
-- read below the session afterwards stays true. Each step is a statement of its own, since a statement only sees what
-- committed before it began.
create or replace function turnlog.write(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_generic_plan' -- planning each time took a third of a call
set enable_seqscan = off -- a plan made while the tables were empty would still scan them when they are full
set lock_timeout = '3s' -- a longer wait raises 55P03: blocked by a lock, not an outage
as $$
declare
    in_project constant text := request ->> 'project';
    late constant boolean := coalesce((request ->> 'late')::boolean, false);
    rows jsonb := request;           -- the rows that aren't rejected
    claimed boolean;                 -- a row demands an owner
    erased_rejected jsonb := '{}';   -- kind -> position -> receipt
    claims_rejected jsonb := '{}';
    races_rejected jsonb := '{}';
    folders jsonb := '{}';           -- as turnlog.write_folders returns them
    erasures text;                   -- a fingerprint of the erased users when `late` rows were checked
    placed jsonb;                    -- the spans, with their places
    parents record;
    rejected jsonb;
    receipts jsonb;
begin
    if in_project is null then
        raise exception using errcode = '23502', column = 'project', message = 'the batch names no project';
    elsif (request ->> 'dry_run')::boolean then
        return turnlog.dry_run(request - 'dry_run');
    end if;
    if request ? 'database' then
        if request ->> 'database' is distinct from turnlog.database_id() then
            raise exception using errcode = 'TL001', message = 'the batch was acknowledged for another database';
        end if;
    end if;

    if rows ? 'spans' then
        perform turnlog.lock_merges(in_project);
        rows := turnlog.place_spans(in_project, rows);
        placed := rows -> 'spans';
    end if;
    if late then
        select format('%s %s', count(*), sum(extract(epoch from e.erased_at))) into erasures
          from turnlog.ai_erased_users as e where e.project = in_project;
    end if;
    if late and exists (select from turnlog.ai_erased_users as e where e.project = in_project) then
        erased_rejected := turnlog.reject_erased(in_project, rows);
        rows := turnlog.drop_rejected(rows, erased_rejected);
        if erased_rejected ? 'spans' then
            rows := rows || jsonb_build_object('erased_participants', (
                select jsonb_agg(distinct s.value -> 'participant')
                  from jsonb_array_elements(placed) with ordinality as s
                 where erased_rejected -> 'spans' ? s.ordinality::text and s.value ->> 'participant' is not null));
        end if;
    end if;
    perform turnlog.lock_merges(in_project);
    rows := turnlog.follow_merges(in_project, rows);
    claimed := rows @? '$.*[*].claim';
    if claimed then -- before any lock: false claims don't make the owner wait
        claims_rejected := turnlog.reject_false_claims(rows, turnlog.session_owners(in_project, rows));
        rows := turnlog.drop_rejected(rows, claims_rejected);
    end if;
    if jsonb_array_length(rows -> 'folders') > 0 or rows @? '$.sessions[*].folder_id' then
        folders := turnlog.write_folders(in_project, rows);
        rows := rows || turnlog.number_sessions(in_project, rows, folders -> 'sessions');
    end if;

    select e.* into parents from turnlog.ensure_sessions(in_project, rows) as e;
    if late and erasures <> (select format('%s %s', count(*), sum(extract(epoch from e.erased_at)))
                               from turnlog.ai_erased_users as e where e.project = in_project) then
        raise exception using errcode = '55P03', message = 'a user was erased while this batch waited for a lock: retry';
    end if;
    if claimed then -- again: of several that create one session, in this batch or meanwhile, the first owns it
        races_rejected := turnlog.reject_false_claims(rows, turnlog.session_owners(in_project, rows));
        rows := turnlog.drop_rejected(rows, races_rejected);
    end if;

    if rows ? 'spans' then
        rows := turnlog.gather_calls(in_project, rows, parents.rejected);
    end if;

    -- participants before interactions: they have a role and a state, while interactions only name them
    receipts := jsonb_build_object(
        'sessions', case when parents.needs_no_fill and parents.present = '{}' then '"created"'
                         when parents.needs_no_fill and parents.created = '{}' then '"duplicate"'
                         else turnlog.write_sessions(in_project, rows, parents.created, parents.present, parents.rejected) end,
        'participants', case when jsonb_array_length(rows -> 'participants') > 0
                             then turnlog.write_participants(in_project, rows, parents.rejected) end,
        'interactions', case when jsonb_array_length(rows -> 'interactions') > 0
                             then turnlog.write_interactions(in_project, rows, parents.rejected) end,
        'feedback', case when jsonb_array_length(rows -> 'feedback') > 0
                         then turnlog.write_feedback(in_project, rows, parents.rejected) end);
    if folders <> '{}' or request -> 'return_parents' = 'true' then
        receipts := receipts || turnlog.attach_parents(
            in_project, rows, coalesce(folders -> 'receipts', '[]'), receipts -> 'sessions');
    end if;
    if rows ? 'spans' then
        receipts := receipts || jsonb_build_object('spans', turnlog.span_receipts(rows, receipts, parents.rejected));
    end if;
    foreach rejected in array array[races_rejected, claims_rejected, erased_rejected] loop
        if rejected <> '{}' then
            receipts := turnlog.add_rejected(receipts, rejected, rows);
        end if;
    end loop;
    if rows ? 'spans' then
        perform turnlog.erase_rejected_spans(in_project, placed, receipts -> 'spans');
        receipts := turnlog.drop_added(receipts, request);
    end if;
    return receipts;
end
$$;


-- schemas/write/write_feedback.sql
-- Writes the feedback of a batch below sessions that it has locked. Returns the receipts in order.
--
-- One row is stored per author, interaction and name: the one with the latest `given_at`; of equal times the one that
-- takes back, else the one whose value, then whose comment, is the greater text. So any order, repetition and delay
-- leave the same row. Feedback without an interaction is feedback on the session; without a value, it takes back. The
-- receipt is `filled` if the feedback replaced another one, with the fields that changed; `duplicate` if it is stored
-- already, or, with the reason `older`, if a later one is.
create or replace function turnlog.write_feedback(in_project text, rows jsonb, rejected jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    incoming record;
    stored turnlog.ai_feedback;
    is_newer boolean;
    fields text[];
    receipts jsonb[] := '{}';
begin
    for incoming in
        select f.*
          from jsonb_to_recordset(rows -> 'feedback') as f (
               session_id uuid, interaction_id uuid, author text, name text, value jsonb, comment text,
               given_at timestamptz, created_at timestamptz)
    loop
        if rejected ? incoming.session_id::text then
            receipts := array_append(receipts, jsonb_build_object(
                'receipt', 'rejected', 'reason', rejected -> incoming.session_id::text));
            continue;
        end if;

        incoming.interaction_id := coalesce(incoming.interaction_id, '00000000-0000-0000-0000-000000000000');
        if exists (select from turnlog.ai_interactions as i
                    where i.project = in_project and i.session_id = incoming.session_id
                      and i.id = incoming.interaction_id and i.erased_at is not null) then
            receipts := array_append(receipts, jsonb_build_object(
                'receipt', 'rejected', 'reason', 'erased', 'fields', array['interaction_id']));
            continue;
        end if;
        incoming.author := coalesce(incoming.author, '');
        incoming.created_at := coalesce(incoming.created_at, statement_timestamp());
        incoming.given_at := coalesce(incoming.given_at, incoming.created_at);
        -- a comment that was given before the texts expired doesn't come back
        if incoming.comment is not null and incoming.given_at <= (
               select s.text_expired_at from turnlog.ai_sessions as s
                where s.project = in_project and s.id = incoming.session_id) then
            incoming.comment := null;
        end if;
        insert into turnlog.ai_feedback
               (project, session_id, interaction_id, author, name, value, comment, given_at, created_at)
        values (in_project, incoming.session_id, incoming.interaction_id, incoming.author, incoming.name, incoming.value,
                incoming.comment, incoming.given_at, incoming.created_at)
            on conflict do nothing;
        if found then
            receipts := array_append(receipts, '{"receipt": "created"}'::jsonb);
            continue;
        end if;

        select f.* into stored
          from turnlog.ai_feedback as f
         where f.project = in_project and f.session_id = incoming.session_id
           and f.interaction_id = incoming.interaction_id and f.author = incoming.author and f.name = incoming.name;
        is_newer := (incoming.given_at, incoming.value is null, coalesce(incoming.value::text, '') collate "C",
                     coalesce(incoming.comment, '') collate "C")
                  > (stored.given_at, stored.value is null, coalesce(stored.value::text, '') collate "C",
                     coalesce(stored.comment, '') collate "C");
        fields := array_remove(array[
            case when is_newer and incoming.value is distinct from stored.value then 'value' end,
            case when is_newer and incoming.comment is distinct from stored.comment then 'comment' end], null);
        if is_newer then
            update turnlog.ai_feedback as f
               set value = incoming.value, comment = incoming.comment, given_at = incoming.given_at,
                   created_at = least(stored.created_at, incoming.created_at)
             where f.project = in_project and f.session_id = incoming.session_id
               and f.interaction_id = incoming.interaction_id and f.author = incoming.author and f.name = incoming.name;
        elsif incoming.created_at < stored.created_at then
            update turnlog.ai_feedback as f
               set created_at = incoming.created_at
             where f.project = in_project and f.session_id = incoming.session_id
               and f.interaction_id = incoming.interaction_id and f.author = incoming.author and f.name = incoming.name;
        end if;
        receipts := array_append(receipts, case
            when fields <> '{}' then jsonb_build_object('receipt', 'filled', 'fields', fields)
            when not is_newer and (incoming.value is distinct from stored.value or incoming.comment is distinct from stored.comment)
                then '{"receipt": "duplicate", "reason": "older"}'::jsonb
            else '{"receipt": "duplicate"}'::jsonb end);
    end loop;
    return to_jsonb(receipts);
end
$$;


-- schemas/write/write_folders.sql
-- Writes the folders of a batch in the order of their ids, and locks them and the folders of its sessions. Returns
-- {receipts: [...], sessions: [...]}: the numbered sessions of accepted plans, each with `folder_position`, the
-- position of its folder in the batch.
create or replace function turnlog.write_folders(in_project text, rows jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    folders constant jsonb := coalesce(rows -> 'folders', '[]');
    inserted_ids uuid[];
    incoming record;
    stored turnlog.ai_session_folders;
    rule record;
    receipt jsonb;
    receipts jsonb := '[]';
    planned jsonb := '[]';
    changed uuid[] := '{}';  -- folders that were filled
begin
    -- insert the missing ones in the order of their ids, then lock all in that order, as with sessions
    with incoming as (
        select distinct on (f.id) f.*
          from rows from (jsonb_to_recordset(folders) as (
                   id uuid, key text, name text, user_id text, sessions_per_week integer, total_weeks integer,
                   starts_on date, metadata jsonb, implicit boolean, created_at timestamptz)) with ordinality as f
         order by f.id, coalesce(f.implicit, false), f.key is null, f.ordinality
    ), inserted as (
        insert into turnlog.ai_session_folders
               (project, id, key, name, user_id, sessions_per_week, total_weeks, starts_on, metadata, implicit, created_at)
        select in_project, s.id, s.key, s.name, s.user_id, s.sessions_per_week, s.total_weeks, s.starts_on, s.metadata,
               coalesce(s.implicit, false), coalesce(s.created_at, statement_timestamp())
          from incoming as s
         order by s.id
            on conflict do nothing
        returning id
    )
    select coalesce(array_agg(i.id), '{}') into inserted_ids from inserted as i;

    perform from (
        select f.id
          from turnlog.ai_session_folders as f
         where f.project = in_project
           and f.id = any (array(
               select f.id from jsonb_to_recordset(folders) as f (id uuid)
               union
               select s.folder_id from jsonb_to_recordset(rows -> 'sessions') as s (folder_id uuid)))
         order by f.id
           for no key update) as locked;

    for incoming in
        select f.value as facts, (f.value ->> 'id')::uuid as id, coalesce((f.value ->> 'implicit')::boolean, false) as implicit,
               row_number() over (partition by f.value ->> 'id' order by coalesce((f.value ->> 'implicit')::boolean, false),
                                  f.value ->> 'key' is null, f.ordinality) as nth,
               f.ordinality
          from jsonb_array_elements(folders) with ordinality as f
         order by nth, f.ordinality
    loop
        select f.* into stored from turnlog.ai_session_folders as f where f.project = in_project and f.id = incoming.id;
        if stored.id is null then
            receipt := (
                select jsonb_build_object(
                           'receipt', 'conflict', 'constraint', 'ai_session_folders_project_key_key',
                           'columns', array['project', 'key'],
                           'attempted', jsonb_build_object('project', in_project, 'key', incoming.facts ->> 'key'),
                           'held_by', f.id)
                  from turnlog.ai_session_folders as f
                 where f.project = in_project and f.key = incoming.facts ->> 'key');
        elsif incoming.nth = 1 and incoming.id = any (inserted_ids) then
            receipt := '{"receipt": "created"}';
        else
            select r.fills, r.conflicts into rule
              from turnlog.fill_rule(
                   to_jsonb(stored), incoming.facts - '{id,implicit,created_at,sessions}'::text[]) as r;
            -- a plan may get longer; its sessions stay as they are
            if (incoming.facts ->> 'total_weeks')::integer > stored.total_weeks then
                rule.conflicts := nullif(array_remove(rule.conflicts, 'total_weeks'), '{}');
                rule.fills := coalesce(rule.fills, '{}') || jsonb_build_object('total_weeks', incoming.facts -> 'total_weeks');
            end if;
            if rule.conflicts is not null then
                receipt := jsonb_build_object('receipt', 'conflict', 'fields', array(
                    select case when c.field in ('sessions_per_week', 'total_weeks', 'starts_on')
                                then 'plan.' || c.field else c.field end from unnest(rule.conflicts) as c (field)));
                if rule.conflicts && '{sessions_per_week,total_weeks}' then
                    receipt := receipt || jsonb_build_object('reason', format(
                        'The plan has %s weeks of %s sessions; it may get longer, not shorter or denser',
                        stored.total_weeks, stored.sessions_per_week));
                end if;
            elsif rule.fills is not null or stored.implicit and not incoming.implicit then
                update turnlog.ai_session_folders as f
                   set (key, name, user_id, sessions_per_week, total_weeks, starts_on, metadata, implicit) = (
                       select m.key, m.name, m.user_id, m.sessions_per_week, m.total_weeks, m.starts_on, m.metadata,
                              stored.implicit and incoming.implicit
                         from jsonb_populate_record(stored, coalesce(rule.fills, '{}')) as m)
                 where f.project = in_project and f.id = incoming.id;
                receipt := jsonb_build_object('receipt', 'filled', 'fields', array(
                    select case when k.field in ('sessions_per_week', 'total_weeks', 'starts_on')
                                then 'plan.' || k.field else k.field end
                      from jsonb_object_keys(rule.fills) as k (field) order by 1));
            else
                receipt := '{"receipt": "duplicate"}';
            end if;
        end if;
        receipts := receipts || jsonb_build_object('at', incoming.ordinality, 'receipt', receipt);
        if receipt ->> 'receipt' <> 'conflict' then
            planned := planned || (
                select coalesce(jsonb_agg(p.value || jsonb_build_object('folder_position', incoming.ordinality)), '[]')
                  from jsonb_array_elements(coalesce(incoming.facts -> 'sessions', '[]')) as p);
        end if;
        if receipt ->> 'receipt' = 'filled' then
            changed := changed || incoming.id;
        end if;
    end loop;

    -- A folder's user and start may arrive later than its plan, so planned sessions that exist already are filled, too.
    planned := planned || (
        select coalesce(jsonb_agg(jsonb_build_object(
                   'id', s.id, 'implicit', true, 'folder_id', s.folder_id, 'plan_index', s.session_number - 1)), '[]')
          from turnlog.ai_session_folders as f
          join turnlog.ai_sessions as s on s.project = in_project and s.folder_id = f.id and s.erased_at is null
                                      and s.session_number <= f.sessions_per_week * f.total_weeks
         where f.project = in_project and f.id = any (changed)
           and (s.user_id is null and f.user_id is not null or s.scheduled_on is null and f.starts_on is not null));
    return jsonb_build_object(
        'receipts', (select coalesce(jsonb_agg(r -> 'receipt' order by (r ->> 'at')::bigint), '[]')
                       from jsonb_array_elements(receipts) as r),
        'sessions', (
            select coalesce(jsonb_agg(
                       p.value || jsonb_build_object(
                           'user_id', f.user_id,
                           'scheduled_on', f.starts_on + n.plan_index / f.sessions_per_week * 7
                                           + n.plan_index % f.sessions_per_week * 7 / f.sessions_per_week)
                       order by p.ordinality), '[]')
              from jsonb_array_elements(planned) with ordinality as p
             cross join lateral (select coalesce((p.value ->> 'plan_index')::integer,
                                                 (p.value ->> 'session_number')::integer - 1) as plan_index) as n
              join turnlog.ai_session_folders as f
                on f.project = in_project and f.id = (p.value ->> 'folder_id')::uuid));
end
$$;


-- schemas/write/write_interactions.sql
-- Writes the interactions of a batch below sessions that it has locked, queues their texts for the search index, moves
-- sessions to an earlier turn, and adds participants. New ones are inserted by one statement; the others are compared
-- with the stored ones. Returns the receipts in order, or 'created' for all of them.
create or replace function turnlog.write_interactions(in_project text, rows jsonb, rejected jsonb)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    interactions constant jsonb := rows -> 'interactions';
    defaults constant turnlog.ai_interactions := jsonb_populate_record(null::turnlog.ai_interactions, jsonb_build_object(
        'project', in_project, 'created_at', statement_timestamp()));
    created_sessions uuid[];
    created_ids uuid[];
    created_keys text[];
    created_times timestamptz[];  -- when each was said
    earlier_sessions uuid[]; -- sessions that begin earlier now
    earlier_times timestamptz[];
    participants boolean;    -- an interaction names a participant
    receipts jsonb := '{}';  -- position -> receipt, without those that were created
begin
    if interactions @? '$[*].prompt[1]' or interactions @? '$[*].context' then
        select coalesce(array_agg(n.session_id), '{}'), coalesce(array_agg(n.id), '{}'), coalesce(array_agg(n.key), '{}'),
               coalesce(array_agg(n.at), '{}'), coalesce(bool_or(n.participant is not null), false)
          into created_sessions, created_ids, created_keys, created_times, participants
          from turnlog.insert_histories(in_project, interactions, rejected) as n;
    else
        with inserted as (
            insert into turnlog.ai_interactions
            select i.*
              from jsonb_populate_recordset(defaults, interactions) as i
             where rejected = '{}' or not rejected ? i.session_id::text
                on conflict do nothing
            returning session_id, id, key, participant, least(started_at, created_at) as at
        )
        select coalesce(array_agg(n.session_id), '{}'), coalesce(array_agg(n.id), '{}'), coalesce(array_agg(n.key), '{}'),
               coalesce(array_agg(n.at), '{}'), coalesce(bool_or(n.participant is not null), false)
          into created_sessions, created_ids, created_keys, created_times, participants
          from inserted as n;
    end if;
    with queued as (
        insert into turnlog.ai_search_queue (project, session_id, ids)
        select in_project, n.session_id, array_agg(n.id)
          from unnest(created_sessions, created_ids) as n (session_id, id)
         group by n.session_id
    ), earlier as (
        select n.session_id, min(n.at) as at
          from unnest(created_sessions, created_times) as n (session_id, at)
         group by n.session_id
        having min(n.at) < coalesce((select s.earliest_turn_at from turnlog.ai_sessions as s
                                      where s.project = in_project and s.id = n.session_id), 'infinity')
    )
    select array_agg(e.session_id), array_agg(e.at) into earlier_sessions, earlier_times from earlier as e;

    if cardinality(created_ids) < jsonb_array_length(interactions) then
        receipts := turnlog.fill_interactions(in_project, rows, rejected, created_sessions, created_ids, created_keys);
        participants := true;
        -- a start that was filled in may be the earliest
        select earlier_sessions || array_agg(i.session_id), earlier_times || array_agg(least(i.started_at, i.created_at))
          into earlier_sessions, earlier_times
          from jsonb_each(receipts) as r
         cross join lateral (
               select i.session_id, i.started_at, i.created_at from turnlog.ai_interactions as i
                where i.project = in_project
                  and i.session_id = (interactions -> (r.key::integer - 1) ->> 'session_id')::uuid
                  and i.id = (interactions -> (r.key::integer - 1) ->> 'id')::uuid
               offset 0) as i
         where r.value -> 'fields' ? 'started_at';
    end if;
    if interactions @? '$[*].revisions' then
        perform turnlog.restore_revisions(in_project, interactions, rejected, receipts);
    end if;
    if earlier_sessions is not null then
        perform turnlog.date_sessions(in_project, earlier_sessions, earlier_times);
    end if;
    if participants then
        insert into turnlog.ai_session_participants (project, session_id, participant, created_at)
        select in_project, named.session_id, named.participant, min(named.created_at)
          from (select i.session_id, stored.participant, coalesce(i.created_at, statement_timestamp()) as created_at
                  from jsonb_to_recordset(interactions)
                       as i (session_id uuid, id uuid, participant text, created_at timestamptz)
                  join turnlog.ai_interactions as stored
                    on stored.project = in_project and stored.session_id = i.session_id and stored.id = i.id
                 where i.participant is not null and stored.participant is not null
                   and not rejected ? i.session_id::text) as named
         group by named.session_id, named.participant
            on conflict do nothing;
    end if;
    if receipts = '{}' then
        return '"created"';
    end if;
    return (select jsonb_agg(coalesce(receipts -> n::text, '{"receipt": "created"}') order by n)
              from generate_series(1, jsonb_array_length(interactions)) as n);
end
$$;


-- schemas/write/write_participants.sql
-- Writes the participants of a batch below sessions that it has locked. Returns the receipts in order.
create or replace function turnlog.write_participants(in_project text, rows jsonb, rejected jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    states_in_order constant text[] := '{reserved,confirmed,joined,left}';
    incoming turnlog.ai_session_participants;
    stored turnlog.ai_session_participants;
    fields text[];
    receipt jsonb;
    receipts jsonb[] := '{}';
begin
    for incoming in select p.* from jsonb_populate_recordset(null::turnlog.ai_session_participants, coalesce(rows -> 'participants', '[]')) as p loop
        if rejected ? incoming.session_id::text then
            receipts := array_append(receipts, jsonb_build_object(
                'receipt', 'rejected', 'reason', rejected -> incoming.session_id::text));
            continue;
        end if;
        insert into turnlog.ai_session_participants (project, session_id, participant, role, state, created_at)
        values (in_project, incoming.session_id, incoming.participant, incoming.role, incoming.state,
                coalesce(incoming.created_at, statement_timestamp()))
            on conflict do nothing;
        if found then
            receipts := array_append(receipts, '{"receipt": "created"}'::jsonb);
            continue;
        end if;
        select p.* into stored
          from turnlog.ai_session_participants as p
         where p.project = in_project and p.session_id = incoming.session_id and p.participant = incoming.participant;
        fields := array_remove(array[
            case when incoming.role <> stored.role then 'role' end,
            case when array_position(states_in_order, incoming.state) < array_position(states_in_order, stored.state) then 'state' end], null);
        if fields <> '{}' then
            receipt := jsonb_build_object('receipt', 'conflict', 'fields', fields);
            if 'state' = any (fields) then
                receipt := receipt || jsonb_build_object('reason', format(
                    'A participant''s state moves only forward (reserved, confirmed, joined, left): it is %s, %s would be a step back',
                    stored.state, incoming.state));
            end if;
        else
            fields := array_remove(array[
                case when stored.role is null and incoming.role is not null then 'role' end,
                case when incoming.state is distinct from stored.state and incoming.state is not null then 'state' end], null);
            if fields = '{}' then
                receipt := '{"receipt": "duplicate"}';
            else
                update turnlog.ai_session_participants as p
                   set role = coalesce(stored.role, incoming.role), state = coalesce(incoming.state, stored.state)
                 where p.project = in_project and p.session_id = incoming.session_id and p.participant = incoming.participant;
                receipt := jsonb_build_object('receipt', 'filled', 'fields', fields);
            end if;
        end if;
        receipts := array_append(receipts, receipt);
    end loop;
    return to_jsonb(receipts);
end
$$;


-- schemas/write/write_sessions.sql
-- Fills the sessions that existed before the batch, or that it names several times, and reports contradictions. An
-- implicit row only brings a key, or the fields of a plan. Returns the receipts in order.
create or replace function turnlog.write_sessions(
    in_project text, rows jsonb, created uuid[], present uuid[], rejected jsonb)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    sessions constant jsonb := coalesce(rows -> 'sessions', '[]');
    numbers_taken constant jsonb := coalesce(rows -> 'numbers_taken', '[]');
    incoming record;
    stored turnlog.ai_sessions;
    rule record;
    makes_explicit boolean;         -- an explicit row for a session that was implicit
    positions bigint[] := '{}';
    found_receipts jsonb[] := '{}';
    receipts jsonb;         -- position -> receipt
begin
    for incoming in
        select s.value as facts, (s.value ->> 'id')::uuid as id, s.ordinality as at,
               coalesce((s.value ->> 'implicit')::boolean, false) as implicit, s.value ? 'folder_id' as has_folder,
               -- in the order in which turnlog.missing_sessions chooses the row that is inserted
               row_number() over (partition by s.value ->> 'id' order by s.value ->> 'claim' is not null,
                                  coalesce((s.value ->> 'implicit')::boolean, false), not s.value ? 'key', s.ordinality) as nth
          from jsonb_array_elements(sessions) with ordinality as s
         where (s.value -> 'implicit' is distinct from 'true' or s.value ? 'folder_id'
                or s.value ? 'key')
           and not numbers_taken @> to_jsonb(s.ordinality)
         order by nth, s.ordinality
    loop
        if incoming.nth = 1 and incoming.id = any (created) or rejected ? incoming.id::text then
            continue;
        end if;
        select s.* into stored from turnlog.ai_sessions as s where s.project = in_project and s.id = incoming.id;
        if stored.id is null or incoming.implicit and stored.key is not null and not incoming.has_folder then
            continue;
        end if;
        positions := array_append(positions, incoming.at);
        makes_explicit := stored.implicit and not incoming.implicit;
        select r.fills, r.conflicts
          into rule
          from turnlog.fill_rule(
               -- the status `open` never contradicts, nor does what an implicit session got from its plan
               to_jsonb(stored)
                   - case when stored.status = 'open' or stored.implicit then 'status' else '' end
                   - case when stored.implicit and stored.scheduled_on <> (incoming.facts ->> 'scheduled_on')::date
                          then 'scheduled_on' else '' end
                   - case when stored.implicit and stored.user_id <> incoming.facts ->> 'user_id' then 'user_id' else '' end,
               to_jsonb(jsonb_populate_record(null::turnlog.ai_sessions, incoming.facts))
                   - '{project,id,claim,implicit,created_at,erased_at,text_expired_at,edited}'::text[]
                   -- a late title doesn't come back
                   - case when stored.text_expired_at is not null then 'title' else '' end
                   - case when incoming.implicit or incoming.facts ->> 'status' = 'open' then 'status' else '' end
                   -- a plan only fills what is empty
                   - case when incoming.implicit and stored.scheduled_on is not null then 'scheduled_on' else '' end
                   - case when incoming.implicit and stored.user_id is not null then 'user_id' else '' end
                   - coalesce(stored.edited, '{}')) as r;
        if rule.conflicts is not null then
            found_receipts := array_append(found_receipts, jsonb_build_object('receipt', 'conflict', 'fields', rule.conflicts));
        elsif rule.fills is null and not makes_explicit then
            found_receipts := array_append(found_receipts, '{"receipt": "duplicate"}'::jsonb);
        else
            update turnlog.ai_sessions as s
               set (key, user_id, title, tags, metadata, started_at, ended_at, folder_id, session_number, scheduled_on,
                    status, implicit) = (
                   select m.key, m.user_id, m.title, m.tags, m.metadata, m.started_at, m.ended_at, m.folder_id,
                          m.session_number, m.scheduled_on,
                          case when makes_explicit and not coalesce(rule.fills ? 'status', false)
                                    and 'status' <> all (coalesce(stored.edited, '{}')) then 'open' else m.status end,
                          m.implicit and not makes_explicit
                     from jsonb_populate_record(stored, coalesce(rule.fills, '{}')) as m)
             where s.project = in_project and s.id = incoming.id;
            found_receipts := array_append(found_receipts, jsonb_build_object(
                'receipt', 'filled', 'fields', array(select f from jsonb_object_keys(rule.fills) as f order by f)));
        end if;
    end loop;

    receipts := coalesce((select jsonb_object_agg(g.place, g.receipt) from unnest(positions, found_receipts) as g (place, receipt)), '{}');
    -- a session that is neither stored nor erased met another row's key
    return (
        select coalesce(jsonb_agg(coalesce(
                   receipts -> s.ordinality::text,
                   case when numbers_taken @> to_jsonb(s.ordinality)
                            then turnlog.session_conflict(in_project, jsonb_populate_record(null::turnlog.ai_sessions, s.value))
                        when rejected ->> (s.value ->> 'id') = 'erased' then '{"receipt": "rejected", "reason": "erased"}'
                        when (s.value ->> 'id')::uuid = any (created) then '{"receipt": "created"}'
                        when (s.value ->> 'id')::uuid = any (present) then '{"receipt": "duplicate"}'
                        else turnlog.session_conflict(in_project, jsonb_populate_record(null::turnlog.ai_sessions, s.value))
                   end) order by s.ordinality), '[]')
          from jsonb_array_elements(sessions) with ordinality as s);
end
$$;


-- schemas/read/branches.sql
-- Returns the tree of a session: for each interaction its place in the order of the session (turn, at, arrived, id), the
-- interaction that it `follows` (null: none; one that isn't stored is named all the same), whether it is on the branch
-- that leads `through` an interaction, and whether on the current one. Without `through`, or if nothing has that id, both
-- are the same. Interactions that follow the same one are alternatives of each other. Returns no rows for a linear
-- session, where each interaction follows the one before it: an index or one sort finds that out.
--
-- The rules. None of them depends on the order of arrival, so far as times are given:
--   place     An interaction stands in the place of its alternative_to; without a prompt, in that of its reply_to. All
--             that are linked so, also in a circle, share one place.
--   follows   A place follows the first reply_to of its interactions, in their order, that leads out of it; without
--             one, or if that leads back to the place, the interaction before it. For that, the places go from the last
--             to the first, so of a circle the first place gives way. Before it: the last one that was said no later or
--             names no other interaction, since an alternative that was said later is no predecessor of what it replaces.
--   unknown   An interaction that is named and isn't stored stands directly before the first that names it.
--   branch    At each fork the branch takes the interaction that leads to the latest one: said or chosen last. One that
--             leads to no answer and to no choice gives way to one that does: a regeneration that fails hides nothing.
--   resumes   What names no other interaction goes on where the branch ended when it was said. So if an interaction was
--             chosen after the one before was said, it follows the end of the branch through the chosen one; if the one
--             before has no answer, the end of the branch through its best alternative. In both cases the branch is one
--             of those before, with the choices until then; what replies to a later one isn't looked at.
-- Everything is done with arrays of numbers, in time that grows a little faster than the session: a recursive query
-- would join the session with itself at each step.
create or replace function turnlog.branches(in_project text, of_session uuid, through uuid)
returns table (id uuid, turn bigint, at timestamptz, arrived timestamptz, follows uuid, on_branch boolean, is_current boolean)
language plpgsql stable
set search_path = ''
set enable_nestloop = off -- a session without statistics would be joined with itself row by row
rows 10000
as $$
#variable_conflict use_column
declare
    is_linear boolean;
    ids uuid[];
    is_stored boolean[];
    is_placed boolean[];    -- names another interaction
    turns bigint[];
    said timestamptz[];
    arrivals timestamptz[];
    chosen timestamptz[];
    active timestamptz[];   -- said or chosen
    until_then timestamptz[]; -- the same at the time of another one
    is_live boolean[];      -- leads to one that is answered or was chosen
    is_answered boolean[];
    choices integer[];      -- the numbers of those that were chosen, by the time of the choice
    replies integer[];      -- the number of its reply_to, 0 for none
    instead integer[];      -- the number of the interaction in whose place it stands, 0 for none
    count integer;
    place integer[];        -- a number of the same place; the first one's own is itself
    previous integer[];     -- the number of the one before, as above; 0 for none
    stack integer[];
    depth integer := 0;
    parent integer[];       -- of a place: the number that it follows, 0 for none
    top integer[];          -- a place further up the tree so far
    children integer[];     -- how many; of no interaction: those of the last element
    best integer[];         -- the child to take at a fork
    latest integer[];       -- the latest interaction from here on
    low integer;
    high integer;
    queue integer[];
    marked boolean[];
    current boolean[];
    x integer;
    y integer;
    target integer;
begin
    if not exists (select from turnlog.ai_interactions as i
                    where i.project = in_project and i.session_id = of_session
                      and (i.reply_to is not null or i.alternative_to is not null)) then
        return;
    end if;

    with stored as materialized (
        select i.id, nullif(i.reply_to, i.id) as reply_to, nullif(i.alternative_to, i.id) as alternative_to, i.turn,
               i.prompt is not null or i.erased_at is not null as asks, i.created_at, i.chosen_at,
               least(coalesce(i.started_at, i.created_at), i.created_at) as said
          from turnlog.ai_interactions as i
         where i.project = in_project and i.session_id = of_session
    ), ordered as materialized (
        select s.*, row_number() over w as n, lag(s.id) over w as before,
               lag(s.reply_to) over w is not null and lag(s.said) over w > s.said as is_after_later
          from stored as s
        window w as (order by s.turn, s.said, s.created_at, s.id)
    )
    select bool_and(o.alternative_to is null and case
               when o.reply_to is null then not o.is_after_later
               else o.asks and o.reply_to is not distinct from o.before end)
      into is_linear
      from ordered as o;
    if is_linear then
        return;
    end if;

    with stored as materialized (
        select i.id, nullif(i.reply_to, i.id) as reply_to, nullif(i.alternative_to, i.id) as alternative_to, i.turn,
               i.prompt is not null or i.erased_at is not null as asks, i.created_at, i.chosen_at,
               least(coalesce(i.started_at, i.created_at), i.created_at) as said,
               i.erased_at is null and case coalesce(i.status, case when i.error <> '' then 'failed'
                                                                    when i.response is not null then 'completed' end)
                   when 'completed' then true
                   when 'pending' then coalesce(i.response not in ('""', '[]'), false)
                   else false end as is_answered
          from turnlog.ai_interactions as i
         where i.project = in_project and i.session_id = of_session
    ), ordered as materialized (
        select s.*, row_number() over (order by s.turn, s.said, s.created_at, s.id) as n
          from stored as s
    ), named as (
        select distinct on (m.id) m.id, m.n, m.said
          from (select o.reply_to as id, o.n, o.said from ordered as o where o.reply_to is not null
                union all
                select o.alternative_to, o.n, o.said from ordered as o where o.alternative_to is not null) as m
         order by m.id, m.n
    ), numbered as materialized (
        select a.*, row_number() over (order by a.n, a.is_stored, a.id)::integer as number
          from (select o.id, true as is_stored, o.n, o.turn, o.said, o.created_at, o.chosen_at, o.is_answered, o.reply_to, case when o.alternative_to is not null then o.alternative_to
                                        when not o.asks then o.reply_to end as instead_of,
                       coalesce(o.reply_to, o.alternative_to) is not null as is_placed
                  from ordered as o
                union all
                select m.id, false, m.n, null, m.said, null, null, false, null, null, false
                  from named as m
                  left join ordered as o on o.id = m.id
                 where o.id is null) as a
    )
    select array_agg(a.id order by a.number), array_agg(a.is_stored order by a.number),
           array_agg(a.is_placed order by a.number), array_agg(a.turn order by a.number),
           array_agg(a.said order by a.number), array_agg(a.created_at order by a.number),
           array_agg(a.chosen_at order by a.number),
           array_agg(case when a.is_stored then greatest(a.said, a.chosen_at) else '-infinity' end order by a.number),
           array_agg(a.is_answered order by a.number),
           coalesce(array_agg(a.number order by a.chosen_at, a.number) filter (where a.chosen_at is not null), '{}'),
           array_agg(coalesce(r.number, 0) order by a.number),
           array_agg(coalesce(p.number, 0) order by a.number), count(*)
      into ids, is_stored, is_placed, turns, said, arrivals, chosen, active, is_answered, choices, replies, instead, count
      from numbered as a
      left join numbered as r on r.id = a.reply_to
      left join numbered as p on p.id = a.instead_of;

    -- places: the first of each gets the number of the place
    place := array(select n from generate_series(1, count) as n);
    for n in 1 .. count loop
        if instead[n] > 0 then
            x := n;
            while place[x] <> x loop
                place[x] := place[place[x]];
                x := place[x];
            end loop;
            y := instead[n];
            while place[y] <> y loop
                place[y] := place[place[y]];
                y := place[y];
            end loop;
            place[greatest(x, y)] := least(x, y);
        end if;
    end loop;
    for n in 1 .. count loop
        place[n] := place[place[n]]; -- it never leads forward, so the one it leads to is done
    end loop;

    -- the one before: on the stack, later ones were said later; one that names no other ends the search for all after it
    previous := array_fill(0, array[count]);
    stack := previous;
    for n in 1 .. count loop
        y := depth;
        while y > 0 and is_placed[stack[y]] and said[stack[y]] > said[n] loop
            y := y - 1;
        end loop;
        previous[n] := case when y > 0 then stack[y] else 0 end;
        if is_stored[n] then
            depth := case when is_placed[n] then y else 0 end + 1;
            stack[depth] := n;
        end if;
    end loop;

    -- what each place follows
    parent := array_fill(0, array[count]);
    for n in 1 .. count loop
        x := place[n];
        if parent[x] = 0 and replies[n] > 0 and place[replies[n]] <> x then
            parent[x] := replies[n];
        end if;
    end loop;
    top := array(select n from generate_series(1, count) as n);
    for n in reverse count .. 1 loop
        continue when place[n] <> n;
        target := parent[n];
        if target > 0 then
            x := place[target];
            while top[x] <> x loop
                top[x] := top[top[x]];
                x := top[x];
            end loop;
            if x = n then
                target := 0;
            end if;
        end if;
        if target = 0 then
            target := previous[n];
        else
            previous[n] := 0; -- it says what it follows
        end if;
        parent[n] := target;
        if target > 0 then
            top[n] := place[target];
        end if;
    end loop;

    -- what names no other resumes the branch
    until_then := array_fill(null::timestamptz, array[count]);
    for n in 1 .. count loop
        target := previous[n];
        continue when place[n] <> n or target = 0 or is_placed[n] or not is_stored[n];
        -- the last choice until then, by bisection
        low := 0;
        high := cardinality(choices);
        while low < high loop
            x := (low + high + 1) / 2;
            if chosen[choices[x]] <= said[n] then
                low := x;
            else
                high := x - 1;
            end if;
        end loop;
        while low > 0 and chosen[choices[low]] > said[target]
              and (choices[low] >= n or is_placed[choices[low]] and said[choices[low]] > said[n]) loop
            low := low - 1;
        end loop;
        if low > 0 and chosen[choices[low]] > said[target] then
            low := choices[low];
        elsif is_answered[target] then
            continue;
        else
            low := parent[place[target]];
            continue when low > target;
        end if;
        -- the branch from `low` on, of those between: marked from there, then from the leaves up as below
        marked := array_fill(false, array[n - low], array[low]);
        marked[low] := true;
        for m in low + 1 .. n - 1 loop
            y := parent[place[m]];
            marked[m] := (said[m] <= said[n] or not is_placed[m]) and y >= low and y < m and marked[y];
        end loop;
        best := array_fill(0, array[n - low], array[low]);
        latest := best;
        is_live := array_fill(false, array[n - low], array[low]);
        for m in reverse n - 1 .. low + 1 loop
            continue when not marked[m];
            is_live[m] := is_live[m] or is_answered[m] or coalesce(chosen[m] <= said[n], false);
            until_then[m] := case when not is_stored[m] then '-infinity'
                                  when chosen[m] <= said[n] then greatest(said[m], chosen[m])
                                  else said[m] end;
            if latest[m] = 0 or (until_then[m], m) > (until_then[latest[m]], latest[m]) then
                latest[m] := m;
            end if;
            y := parent[place[m]];
            if best[y] = 0 or (is_live[m], until_then[latest[m]], latest[m])
                              > (is_live[best[y]], until_then[latest[best[y]]], latest[best[y]]) then
                best[y] := m;
            end if;
            if latest[y] = 0 or (until_then[latest[m]], latest[m]) > (until_then[latest[y]], latest[y]) then
                latest[y] := latest[m];
            end if;
            is_live[y] := is_live[y] or is_live[m];
        end loop;
        x := low;
        while best[x] > 0 loop
            x := best[x];
        end loop;
        continue when x = 0 or x = target or not is_stored[x];
        y := x;
        while y > 0 and place[y] <> n loop
            y := parent[place[y]];
        end loop;
        if y = 0 then
            parent[n] := x;
        end if;
    end loop;

    -- from the leaves up: which child to take
    children := array_fill(0, array[count + 1]);
    best := children;
    latest := children;
    is_live := array_fill(false, array[count + 1]);
    for n in 1 .. count loop
        y := coalesce(nullif(parent[place[n]], 0), count + 1);
        children[y] := children[y] + 1;
    end loop;
    queue := array(select n from generate_series(1, count) as n where children[n] = 0);
    depth := 1;
    while depth <= coalesce(array_length(queue, 1), 0) loop
        x := queue[depth];
        depth := depth + 1;
        is_live[x] := is_live[x] or is_answered[x] or chosen[x] is not null;
        if latest[x] = 0 or (active[x], x) > (active[latest[x]], latest[x]) then
            latest[x] := x;
        end if;
        y := coalesce(nullif(parent[place[x]], 0), count + 1);
        if best[y] = 0 or (is_live[x], active[latest[x]], latest[x])
                          > (is_live[best[y]], active[latest[best[y]]], latest[best[y]]) then
            best[y] := x;
        end if;
        if latest[y] = 0 or (active[latest[x]], latest[x]) > (active[latest[y]], latest[y]) then
            latest[y] := latest[x];
        end if;
        is_live[y] := is_live[y] or is_live[x];
        children[y] := children[y] - 1;
        if children[y] = 0 and y <= count then
            queue := array_append(queue, y);
        end if;
    end loop;

    current := array_fill(false, array[count]);
    marked := current;
    x := best[count + 1];
    while x > 0 loop
        current[x] := true;
        x := best[x];
    end loop;
    target := array_position(ids, through);
    if target is null then
        marked := current;
    else -- up, then down
        x := target;
        while x > 0 loop
            marked[x] := true;
            x := parent[place[x]];
        end loop;
        x := best[target];
        while x > 0 loop
            marked[x] := true;
            x := best[x];
        end loop;
    end if;

    return query
        select a.id, coalesce(a.turn, 9223372036854775807), a.at, a.arrived, ids[nullif(parent[place[a.n]], 0)],
               a.on_branch, a.is_current
          from unnest(ids, is_stored, turns, said, arrivals, marked, current)
               with ordinality as a (id, is_stored, turn, at, arrived, on_branch, is_current, n)
         where a.is_stored;
end
$$;


-- schemas/read/content.sql
-- Returns a prompt, a response or a context as it was sent, whichever way it is stored: see turnlog.by_content. `last`, `before`:
-- the histories that end with it, and before it; `answered`: of a prompt, the one that ends with its response.
-- `instructions`: those it begins with. `most`: of a list only the last ones.
create or replace function turnlog.content(
    stored jsonb, in_project text, in_session uuid, last uuid, before uuid, answered uuid default null,
    instructions uuid default null, most integer default null)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    if jsonb_typeof(stored) is distinct from 'object' then
        return stored;
    elsif stored ->> 'as' = 'text' then
        return turnlog.messages(in_project, in_session, last, before, answered) #> '{0,content}';
    end if;
    return case when instructions is null then '[]' else turnlog.messages(in_project, in_session, instructions) end
        || turnlog.messages(in_project, in_session, last, before, answered, most);
end
$$;


-- schemas/read/conversation.sql
-- Returns a page of a session with everything that is shown beside it, each part as the function of its name returns
-- it. Takes {project, session_id, limit, feedback, revisions?, owner?, author?, neighbours?} and at most one of interaction_id,
-- after, before as turnlog.outline does, with the branch of `branches` and `branch`. Returns {session, outline,
-- transcript, participants, folder, feedback, revisions}. The transcript begins one interaction before the page, if there is one.
-- `folder` has up to `neighbours` sessions, from the one before this on; it is null without `neighbours` or without a
-- folder. `feedback` is that on the session and on the page's interactions, at most so many; `revisions` are
-- those of the page's interactions, at most so many and about 4 MB, null without the number. Everything but the session
-- is null for a tombstone and if the owner isn't `owner`.
create or replace function turnlog.conversation(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
    of_session constant jsonb := jsonb_build_object('project', request -> 'project', 'session_id', request -> 'session_id');
    found_session constant jsonb := turnlog.session(request);
    number constant integer := found_session ->> 'session_number';
    outline jsonb;
    leads integer;
    page jsonb;
begin
    if found_session ->> 'erased_at' is not null
       or request ? 'owner' and found_session is not null and found_session ->> 'owner' is distinct from request ->> 'owner' then
        return jsonb_build_object('session', found_session, 'outline', null, 'transcript', null, 'participants', null,
                                  'folder', null, 'feedback', null, 'revisions', null);
    end if;
    outline := turnlog.outline(request);
    leads := case when (outline ->> 'index')::bigint > 0 then 1 else 0 end;
    page := turnlog.transcript(of_session || jsonb_build_object(
        'limit', (request ->> 'limit')::integer + leads,
        'branches', request -> 'branches', 'branch', outline -> 'branch',
        'after', outline -> case leads when 1 then 'context' else 'after' end));
    return jsonb_build_object(
        'session', found_session,
        'outline', outline,
        'transcript', page,
        'participants', turnlog.participants(request),
        'folder', case when request ->> 'neighbours' is not null and found_session ->> 'folder_id' is not null then
            turnlog.folder(jsonb_build_object(
                'project', request -> 'project', 'folder_id', found_session -> 'folder_id', 'limit', request -> 'neighbours',
                -- the cursor behind the session two numbers before
                'after', case when number > 1 then jsonb_build_object(
                    'number', number - 2, 'session_id', 'ffffffff-ffff-ffff-ffff-ffffffffffff') end)) end,
        'feedback', turnlog.feedback(
            of_session || jsonb_build_object(
                'limit', request -> 'feedback',
                'interaction_ids', jsonb_path_query_array(page, '$.interactions[*].interaction_id')
                                   || '["00000000-0000-0000-0000-000000000000"]')
            || case when request ? 'author' then jsonb_build_object('author', request -> 'author') else '{}' end),
        'revisions', case when request ->> 'revisions' is not null then
            turnlog.revisions(of_session || jsonb_build_object(
                'limit', request -> 'revisions', 'bytes', 4000000,
                'interaction_ids', jsonb_path_query_array(page, '$.interactions[*].interaction_id'))) end);
end
$$;


-- schemas/read/count_sessions.sql
-- Counts sessions up to 10,000; with filters on their interactions, only among the newest 5,000.
-- Takes {project} and the filters of turnlog.sessions. Returns {sessions, complete: false if there may be more}.
create or replace function turnlog.count_sessions(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
    most constant integer := 10000;
    filters constant record := turnlog.session_filters(request);
    enough constant integer := case when filters.further = '' then most + 1 when filters.looks then 5000 else 30000 end;
    candidates constant uuid[] := case when filters.further <> '' then turnlog.session_candidates(request, null, 2000) end;
    counted bigint;
    looked bigint;
begin
    if candidates is not null then
        execute 'select count(*) from turnlog.ai_sessions as s where s.id = any ($2) and ' || filters.walked || filters.further
           into counted using request, candidates;
        return jsonb_build_object('sessions', counted, 'complete', true);
    end if;
    execute 'select count(*) filter (where true' || filters.further || '), count(*) from ('
            'select s.* from turnlog.ai_sessions as s where ' || filters.walked
            || case when filters.further = '' then '' else
               ' order by coalesce(s.started_at, s.earliest_turn_at, s.created_at) desc, s.id desc' end || ' limit $2) as s'
       into counted, looked using request, enough;
    return jsonb_build_object('sessions', least(counted, most), 'complete', looked < enough and counted <= most);
end
$$;


-- schemas/read/feedback.sql
-- Lists feedback in the order of its ids, which never change: {project, session_id, limit, interaction_ids?, author?,
-- after?} lists that on a session and its interactions, {project, author, limit, after?} an author's feedback in sessions
-- of other users. The nil UUID among `interaction_ids` and in `after` stands for the session; the feedback on it has the
-- interaction_id null. A value of null was taken back. Returns {session: null without session_id, feedback, after:
-- {session_id, interaction_id, author, name}}; `after` is null at the end.
create or replace function turnlog.feedback(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan' -- so that the filters given, and only those, choose the index
set enable_seqscan = off -- the rows of one session, or of one author, whatever the statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    by_author constant text := request ->> 'author';
    page_size constant integer := request ->> 'limit';
    among constant uuid[] := case when request ? 'interaction_ids' then array(
        select i::uuid from jsonb_array_elements_text(request -> 'interaction_ids') as i) end;
    after_session constant uuid := coalesce((request #>> '{after,session_id}')::uuid, of_session);
    after_id constant uuid := request #>> '{after,interaction_id}';
    after_author constant text := request #>> '{after,author}';
    after_name constant text := request #>> '{after,name}';
    page turnlog.ai_feedback[];
begin
    if of_session is null and by_author is null then
        raise exception using errcode = '22023', column = 'session_id', message = 'name a session or an author';
    end if;
    -- one more than the page, to know whether another page follows
    if of_session is not null then
        page := array(
            select f
              from turnlog.ai_feedback as f
             where f.project = in_project and f.session_id = of_session
               and (among is null or f.interaction_id = any (among))
               and (by_author is null or f.author = by_author)
               and (after_id is null or (f.interaction_id, f.author, f.name) > (after_id, after_author, after_name))
             order by f.interaction_id, f.author, f.name
             limit page_size + 1);
    else
        page := array(
            select f
              from turnlog.ai_feedback as f
              join turnlog.ai_sessions as s on s.project = in_project and s.id = f.session_id
             where f.project = in_project and f.author = by_author and s.user_id is distinct from by_author
               and (after_id is null or (f.session_id, f.interaction_id, f.name) > (after_session, after_id, after_name))
             order by f.session_id, f.interaction_id, f.name
             limit page_size + 1);
    end if;
    return jsonb_build_object(
        'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                      from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session),
        'feedback', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'session_id', p.session_id, 'interaction_id', nullif(p.interaction_id, '00000000-0000-0000-0000-000000000000'),
                       'author', nullif(p.author, ''),
                       'name', p.name, 'value', p.value, 'comment', p.comment, 'given_at', p.given_at, 'created_at', p.created_at, 'spooled', false,
                       'session_key', (select s.key from turnlog.ai_sessions as s
                                        where s.project = in_project and s.id = p.session_id),
                       'interaction_key', (select i.key from turnlog.ai_interactions as i
                                            where i.project = in_project and i.session_id = p.session_id
                                              and i.id = p.interaction_id)) order by p.ordinality), '[]')
              from unnest(page[:page_size]) with ordinality as p),
        'after', case when cardinality(page) > page_size then jsonb_build_object(
            'session_id', page[page_size].session_id, 'interaction_id', page[page_size].interaction_id,
            'author', page[page_size].author, 'name', page[page_size].name) end);
end
$$;


-- schemas/read/folder.sql
-- Returns a folder and a page of its sessions by number, those without a number last.
-- Takes {project, folder_id, limit, after?: {number, session_id}}. Returns {folder: or null, sessions, after}.
create or replace function turnlog.folder(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- the rows of one folder, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_folder constant uuid := request ->> 'folder_id';
    page_size constant integer := (request ->> 'limit')::integer;
    after_number constant integer := request #>> '{after,number}';
    after_id constant uuid := request #>> '{after,session_id}';
    ids uuid[];
    numbers integer[];
begin
    -- one more than the page, to know whether another page follows
    select array_agg(page.id), array_agg(page.number)
      into ids, numbers
      from (select s.id, coalesce(s.session_number, 2147483647) as number
              from turnlog.ai_sessions as s
             where s.project = in_project and s.folder_id = of_folder and s.erased_at is null
               and (after_id is null or (coalesce(s.session_number, 2147483647), s.id) > (after_number, after_id))
             order by number, s.id
             limit page_size + 1) as page;
    return jsonb_build_object(
        'folder', turnlog.folder_rows(in_project, array[of_folder]) -> 0,
        'sessions', turnlog.session_rows(in_project, coalesce(ids[:page_size], '{}')),
        'after', case when cardinality(ids) > page_size
            then jsonb_build_object('number', numbers[page_size], 'session_id', ids[page_size]) end);
end
$$;


-- schemas/read/folders.sql
-- Lists folders in the order of their ids. Takes {project, limit, user_id?, after?: folder id}. Returns {folders,
-- after}.
create or replace function turnlog.folders(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set plan_cache_mode = 'force_custom_plan' -- so that the filters given, and only those, choose the index
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    of_user constant text := request ->> 'user_id';
    after_id constant uuid := request ->> 'after';
    ids uuid[];
begin
    ids := array(
        select f.id
          from turnlog.ai_session_folders as f
         where f.project = in_project and (of_user is null or f.user_id = of_user)
           and (after_id is null or f.id > after_id)
         order by f.id
         limit page_size + 1);
    return jsonb_build_object(
        'folders', turnlog.folder_rows(in_project, ids[:page_size]),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;


-- schemas/read/gaps.sql
-- Finds missing and doubled turns. {project, session_id, ranges} returns {sessions: [that session, or none], after:
-- null}. {project, limit, ranges, after?: session id} returns {sessions, after}: of the next `limit` sessions by id
-- those with missing or doubled turns, so a page may be short or empty; `after` is null at the end.
--
-- `first` and `last` are the lowest and the highest turn; `missing` counts the turns between them that no interaction
-- has, `counted` the interactions with a turn. At most `ranges` of the `gaps` {from, to} and of the `doubled` turns
-- {turn, interactions} are listed, lowest first; `gap_count` and `doubled_count` are their total numbers.
create or replace function turnlog.gaps(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    page_size constant integer := coalesce((request ->> 'limit')::integer, 1);
    most constant integer := request ->> 'ranges';
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    ids uuid[];
begin
    if of_session is not null then
        ids := array[of_session];
    else
        -- one more than the page, to know whether another page follows
        ids := array(
            select s.id
              from turnlog.ai_sessions as s
             where s.project = in_project and s.erased_at is null and s.id > after_id
             order by s.id
             limit page_size + 1);
    end if;

    return jsonb_build_object(
        'sessions', (
            with used as (
                select i.session_id, i.turn, count(*) as interactions
                  from turnlog.ai_interactions as i
                 where i.project = in_project and i.session_id = any (ids[:page_size]) and i.turn is not null
                 group by i.session_id, i.turn
            ), stepped as (
                select u.session_id, u.turn, u.interactions, u.interactions > 1 as doubled,
                       lead(u.turn) over upwards as next, lead(u.turn) over upwards > u.turn + 1 as gap
                  from used as u
                window upwards as (partition by u.session_id order by u.turn)
            ), numbered as (
                select s.*, count(*) filter (where s.gap) over upwards as nth_gap,
                       count(*) filter (where s.doubled) over upwards as nth_doubled
                  from stepped as s
                window upwards as (partition by s.session_id order by s.turn)
            ), summed as (
                select n.session_id, min(n.turn) as first, max(n.turn) as last, sum(n.interactions) as counted,
                       coalesce(sum(n.next - n.turn - 1), 0) as missing,
                       count(*) filter (where n.gap) as gap_count,
                       jsonb_agg(jsonb_build_object('from', n.turn + 1, 'to', n.next - 1) order by n.turn)
                           filter (where n.gap and n.nth_gap <= most) as gaps,
                       count(*) filter (where n.doubled) as doubled_count,
                       jsonb_agg(jsonb_build_object('turn', n.turn, 'interactions', n.interactions) order by n.turn)
                           filter (where n.doubled and n.nth_doubled <= most) as doubled
                  from numbered as n
                 group by n.session_id
            )
            select coalesce(jsonb_agg(
                jsonb_build_object(
                    'session_id', s.id, 'key', s.key, 'erased_at', s.erased_at,
                    'first', m.first, 'last', m.last, 'counted', coalesce(m.counted, 0),
                    'missing', coalesce(m.missing, 0),
                    'gap_count', coalesce(m.gap_count, 0), 'gaps', coalesce(m.gaps, '[]'),
                    'doubled_count', coalesce(m.doubled_count, 0), 'doubled', coalesce(m.doubled, '[]'))
                order by s.id), '[]')
              from turnlog.ai_sessions as s
              left join summed as m on m.session_id = s.id
             where s.project = in_project and s.id = any (ids[:page_size])
               and (of_session is not null or m.missing > 0 or m.doubled_count > 0)),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;


-- schemas/read/known_sessions.sql
-- Returns which of some sessions exist, erased ones too: {project, session_ids} returns {session_ids}.
create or replace function turnlog.known_sessions(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- some sessions, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    ids constant uuid[] := array(select i::uuid from jsonb_array_elements_text(request -> 'session_ids') as i);
begin
    return jsonb_build_object('session_ids', (
        select coalesce(jsonb_agg(s.id), '[]')
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids)));
end
$$;


-- schemas/read/merges.sql
-- Returns the merges of a user: {into: whom the user was merged into, or null; guests: who were merged into the user}.
-- Takes {project, user_id}.
create or replace function turnlog.merges(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- one user's rows, never a whole table, whatever its statistics say
as $$
begin
    return jsonb_build_object(
        'into', (select m.into_user from turnlog.ai_user_merges as m
                  where m.project = request ->> 'project' and m.guest = request ->> 'user_id'),
        'guests', (select coalesce(jsonb_agg(m.guest order by m.guest), '[]') from turnlog.ai_user_merges as m
                    where m.project = request ->> 'project' and m.into_user = request ->> 'user_id'));
end
$$;


-- schemas/read/messages.sql
-- Returns the messages of a history of a session, in order: of `last` without those of `before`, an earlier one, and at
-- most the `most` last ones. A prompt may share a row with its response, see turnlog.add_messages: where `last` isn't
-- stored, it is all of `answered` but its last message; where `before` isn't, only that message is left.
create or replace function turnlog.messages(
    in_project text, in_session uuid, last uuid, before uuid default null, answered uuid default null,
    most integer default null)
returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- some rows of a session, never a whole table, whatever its statistics say
as $$
declare
    finish bigint;          -- how many messages the history has
    left_out bigint := 0;   -- from the beginning
begin
    select m.count into finish
      from turnlog.ai_messages as m
     where m.project = in_project and m.session_id = in_session and m.id = last;
    if not found then
        select m.count - 1 into finish
          from turnlog.ai_messages as m
         where m.project = in_project and m.session_id = in_session and m.id = answered;
        last := answered;
    end if;
    if before is not null then
        select m.count into left_out
          from turnlog.ai_messages as m
         where m.project = in_project and m.session_id = in_session and m.id = before;
        if not found then
            left_out := finish - 1;
        end if;
    end if;
    left_out := greatest(left_out, finish - most);
    return (
        with recursive said as ( -- `start`: counted once each, since every look at a long list decompresses it
            select m.after, m.count, m.messages, m.count - jsonb_array_length(m.messages) as start
              from turnlog.ai_messages as m
             where m.project = in_project and m.session_id = in_session and m.id = last
            union all
            select m.after, m.count, m.messages, m.start
              from said as s
             cross join lateral ( -- one lookup by primary key: a join reads the whole session where statistics are old
                   select m.after, m.count, m.messages, m.count - jsonb_array_length(m.messages) as start
                     from turnlog.ai_messages as m
                    where m.project = in_project and m.session_id = in_session and m.id = s.after
                   offset 0) as m
             where s.start > left_out
        )
        select coalesce(jsonb_agg(e.message order by s.count, e.n), '[]')
          from said as s
         cross join lateral jsonb_array_elements(s.messages) with ordinality as e (message, n)
         where s.start + e.n > left_out and s.start + e.n <= finish);
end
$$;


-- schemas/read/metadata_condition.sql
-- Returns the filter by metadata of a list's request as SQL on a session `s`, in which `$1` is the request; null without
-- one. For each key, `metadata` has the objects of which one must be contained: a text may mean a number or a boolean.
create or replace function turnlog.metadata_condition(request jsonb) returns text
language sql immutable
set search_path = ''
as $$
    select string_agg(key.condition, ' and ')
      from (select '(' || string_agg(format('s.metadata @> ($1 #> ''{metadata,%s,%s}'')', k.n - 1, v.n - 1), ' or ') || ')' as condition
              from jsonb_array_elements(request -> 'metadata') with ordinality as k (forms, n)
             cross join lateral jsonb_array_elements(k.forms) with ordinality as v (form, n)
             group by k.n) as key
$$;


-- schemas/read/outline.sql
-- Locates a page of a transcript and sums up the whole transcript.
-- Takes {project, session_id, limit} and at most one of interaction_id, after, before: cursors of turnlog.transcript.
-- Returns {total, index, after, context, branch, last, others, models, states}. `index`: how many interactions come
-- before the page, which holds the interaction, begins after a cursor, or ends before one. `after`: the cursor with which
-- turnlog.transcript reads the page, null for the first; `context`: the same for a page that begins one interaction
-- earlier. The page of an interaction begins at a multiple of `limit`, so it stays the same. `models`: totals by model;
-- tokens of interactions without a cost are summed separately, so that a caller can estimate their price: see `sizes`
-- of turnlog.overview.
-- With `branches` 'current', also `branch`, the page is one of a branch, as turnlog.transcript returns it; of an
-- interaction that isn't on it, the page is one of the branch through that. `total` and `index` are of the branch,
-- `models` and `states` of the session. `branch`: the interaction that the branch was found by, null for the current
-- one. `last`: the last interaction of the branch. `others`: how many interactions are on other branches.
create or replace function turnlog.outline(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    page_size constant bigint := request ->> 'limit';
    of_interaction constant uuid := request ->> 'interaction_id';
    place constant jsonb := coalesce(request -> 'after', request -> 'before');
    place_turn constant bigint := place ->> 'turn';
    place_at constant timestamptz := place ->> 'at';
    place_arrival constant timestamptz := place ->> 'arrived';
    place_id constant uuid := place ->> 'interaction_id';
    backwards constant boolean := request ? 'before';
    with_branches constant boolean := request ->> 'branches' is not null;
    through uuid := coalesce(place ->> 'branch', request ->> 'branch');
begin
    if with_branches and of_interaction is not null and exists (
        select from turnlog.branches(in_project, of_session, through) as b where b.id = of_interaction and not b.on_branch)
    then
        through := of_interaction;
    end if;
    return (
        with tree as materialized (
            select b.id, b.turn, b.at, b.arrived, b.on_branch
              from turnlog.branches(in_project, of_session, through) as b
             where with_branches
        ), session as (
            select i.model, i.provider, i.input_tokens, i.output_tokens, i.cost_usd,
                   coalesce(i.cached_input_tokens, 0) as cached, coalesce(i.cache_write_tokens, 0) as written,
                   coalesce(i.reasoning_tokens, 0) as reasoning,
                   i.cost_usd is null and num_nonnulls(i.input_tokens, i.output_tokens) > 0 as unpriced,
                   coalesce(i.status, case
                       when i.error <> '' then 'failed'
                       when i.response is not null then 'completed'
                       else 'pending' end) as status
              from turnlog.ai_interactions as i
             where i.project = in_project and i.session_id = of_session
        ), transcript as (
            select t.*, row_number() over (order by t.turn, t.at, t.arrived, t.id) as n
              from (
                   select b.id, b.turn, b.at, b.arrived
                     from tree as b
                    where b.on_branch
                    union all
                   select i.id, coalesce(i.turn, 9223372036854775807),
                          least(coalesce(i.started_at, i.created_at), i.created_at), i.created_at
                     from turnlog.ai_interactions as i
                    where i.project = in_project and i.session_id = of_session and not exists (select from tree)) as t
        ), begun as (
            select case
                       when of_interaction is not null then coalesce(
                           (select (t.n - 1) / page_size * page_size from transcript as t where t.id = of_interaction), 0)
                       when backwards then greatest((select count(*) from transcript as t
                            where (t.turn, t.at, t.arrived, t.id) < (place_turn, place_at, place_arrival, place_id)) - page_size, 0)
                       when place is not null then (select count(*) from transcript as t
                            where (t.turn, t.at, t.arrived, t.id) <= (place_turn, place_at, place_arrival, place_id))
                       else 0 end as index
        )
        select jsonb_build_object(
            'total', (select count(*) from transcript),
            'index', b.index,
            'after', (select jsonb_build_object('turn', t.turn, 'at', t.at, 'arrived', t.arrived, 'interaction_id', t.id)
                        from transcript as t where t.n = b.index),
            'context', (select jsonb_build_object('turn', t.turn, 'at', t.at, 'arrived', t.arrived, 'interaction_id', t.id)
                          from transcript as t where t.n = b.index - 1),
            'branch', through,
            'last', (select t.id from transcript as t order by t.n desc limit 1),
            'others', (select count(*) from tree as t where not t.on_branch),
            'states', (select coalesce(jsonb_object_agg(s.status, s.interactions), '{}')
                         from (select t.status, count(*) as interactions from session as t group by t.status) as s),
            'models', (select coalesce(jsonb_agg(jsonb_build_object(
                                  'model', m.model, 'provider', m.provider, 'interactions', m.interactions,
                                  'input_tokens', m.input_tokens, 'output_tokens', m.output_tokens,
                                  'cached_input_tokens', m.cached, 'cache_write_tokens', m.written,
                                  'reasoning_tokens', m.reasoning, 'cost_usd', m.cost_usd,
                                  'unpriced', jsonb_build_object(
                                      'interactions', m.unpriced, 'input_tokens', m.unpriced_input,
                                      'output_tokens', m.unpriced_output, 'cached_input_tokens', m.unpriced_cached,
                                      'cache_write_tokens', m.unpriced_written,
                                      'reasoning_tokens', m.unpriced_reasoning))
                                  order by m.interactions desc, m.model, m.provider), '[]')
                         from (select t.model, t.provider, count(*) as interactions,
                                      sum(t.input_tokens) as input_tokens, sum(t.output_tokens) as output_tokens,
                                      sum(t.cached) as cached, sum(t.written) as written, sum(t.reasoning) as reasoning,
                                      sum(t.cost_usd) as cost_usd,
                                      count(*) filter (where t.unpriced) as unpriced,
                                      coalesce(sum(coalesce(t.input_tokens, 0) + case
                                          when t.cached + t.written > coalesce(t.input_tokens, 0) then t.cached + t.written
                                          else 0 end) filter (where t.unpriced), 0) as unpriced_input,
                                      coalesce(sum(coalesce(t.output_tokens, 0) + case
                                          when t.reasoning > coalesce(t.output_tokens, 0) then t.reasoning
                                          else 0 end) filter (where t.unpriced), 0) as unpriced_output,
                                      coalesce(sum(t.cached) filter (where t.unpriced), 0) as unpriced_cached,
                                      coalesce(sum(t.written) filter (where t.unpriced), 0) as unpriced_written,
                                      coalesce(sum(t.reasoning) filter (where t.unpriced), 0) as unpriced_reasoning
                                 from session as t
                                group by t.model, t.provider) as m))
          from begun as b);
end
$$;


-- schemas/read/overview.sql
-- Returns statistics of a span of time in buckets, given by when each begins: the first at `from`, in order.
-- Takes {project, from, to, buckets, most, sample, most_failures, top, top_models, tiers, eras}. Returns {interactions,
-- failures, sessions}. Each has a `share`: the fraction of the span that was read (see turnlog.sample_share), 1 for
-- all; its counts and sums are of that fraction.
--
-- interactions: {share, total, buckets, models, users, folders}. <tokens>: input_tokens, output_tokens,
-- cached_input_tokens, cache_write_tokens, reasoning_tokens. total: {interactions, completed, failed, pending, abandoned,
-- <tokens>, priced, cost_usd, models, latency_ms, time_to_first_token_ms}: `priced` counts those with a cost, `cost_usd`
-- is the sum of these, `models` is the number of models, latencies are [p50, p95]. buckets: [{at, interactions,
-- latency_ms}]. models: [{model, provider, interactions, <tokens>, priced, cost_usd, sizes}], the `top_models` most used
-- ones. sizes: [{model, provider, era, interactions, <tokens>}] of those with tokens and without a cost, grouped by
-- their input between two neighbours of `tiers` and by their time between two of `eras` (`era`: how many of these had
-- begun), since prices depend on both. There the input includes what a cache read and wrote, and the output the
-- reasoning: where they are more than the whole, they were counted apart, and are added. users: [{user_id, interactions,
-- sessions, <tokens>, priced, cost_usd, sizes}] and folders: [{folder_id, key, name, interactions, sessions}], the `top`
-- most active ones.
-- failures: {share, total, buckets: [{at, failed}], errors: [{error, interactions}]}, the `top` most frequent kinds:
-- see turnlog.error_kind. sessions: {share, total, buckets: [{at, sessions}]}: those that began, without locked ones.
create or replace function turnlog.overview(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- slices of an index, never a whole table, whatever its statistics say
set work_mem = '64MB' -- holds all rows read, which are bounded; on disk it would take twice as long
set jit = off -- to compile it takes longer than to run it
as $$
declare
    in_project constant text := request ->> 'project';
    not_before constant timestamptz := request ->> 'from';
    before constant timestamptz := request ->> 'to';
    starts constant timestamptz[] := array(
        select b.at::timestamptz from jsonb_array_elements_text(request -> 'buckets') with ordinality as b (at, n) order by b.n);
    most constant integer := request ->> 'most';
    sample constant integer := request ->> 'sample';
    most_failures constant integer := request ->> 'most_failures';
    top constant integer := request ->> 'top';
    top_models constant integer := request ->> 'top_models';
    tiers constant bigint[] := array(select t::bigint from jsonb_array_elements_text(request -> 'tiers') as t order by 1);
    eras constant timestamptz[] := array(select t::timestamptz from jsonb_array_elements_text(request -> 'eras') as t order by 1);
    -- about a thousand slices, equally many in each bucket
    parts constant integer := cardinality(starts) * ceil(1000.0 / cardinality(starts));
    of_interactions constant double precision :=
        turnlog.sample_share(in_project, 'interactions', not_before, before, parts, most, sample);
    of_failures constant double precision :=
        turnlog.sample_share(in_project, 'failures', not_before, before, parts, most_failures, most_failures);
    of_sessions constant double precision :=
        turnlog.sample_share(in_project, 'sessions', not_before, before, parts, most, sample);
    interactions jsonb;
    failures jsonb;
    sessions jsonb;
begin
    with met as materialized (
        select i.*
          from turnlog.slices(not_before, before, parts, of_interactions) as slice
         cross join lateral (
               select width_bucket(coalesce(i.started_at, i.created_at), starts) as bucket, i.session_id,
                      i.model, i.provider, i.input_tokens, i.output_tokens, i.cached_input_tokens, i.cache_write_tokens,
                      i.reasoning_tokens, i.cost_usd, i.time_to_first_token_ms,
                      width_bucket(coalesce(i.started_at, i.created_at), eras) as era,
                      coalesce(i.latency_ms, case when i.completed_at >= i.started_at
                          then extract(epoch from i.completed_at - i.started_at) * 1000 end) as latency_ms,
                      coalesce(i.status, case
                          when i.error <> '' then 'failed'
                          when i.response is not null then 'completed'
                          else 'pending' end) as status
                 from turnlog.ai_interactions as i
                where i.project = in_project and i.erased_at is null
                  and coalesce(i.started_at, i.created_at) >= slice.first
                  and coalesce(i.started_at, i.created_at) < slice.last
               offset 0) as i
    ), met_sessions as materialized (
        -- one lookup by primary key each
        select m.session_id, m.interactions, (s.owner).user_id, (s.owner).folder_id, (s.owner).erased_at
          from (select m.session_id, count(*) as interactions from met as m group by m.session_id) as m
         cross join lateral (
               select s as owner from turnlog.ai_sessions as s where s.project = in_project and s.id = m.session_id
               offset 0) as s
    ), owned as (
        select s.* from met_sessions as s where s.erased_at is null
    ), looked as materialized (
        -- A session that is being erased is a tombstone already. Neither a join nor `not in`: for a large log the planner
        -- expects so many that it would scan all sessions for each interaction. An array is built once, usually empty.
        select m.*, width_bucket(m.input, tiers) as tier
          from (select m.*,
                       m.cost_usd is null and num_nonnulls(m.input_tokens, m.output_tokens) > 0 as unpriced,
                       coalesce(m.input_tokens, 0) + case
                           when coalesce(m.cached_input_tokens, 0) + coalesce(m.cache_write_tokens, 0) > coalesce(m.input_tokens, 0)
                           then coalesce(m.cached_input_tokens, 0) + coalesce(m.cache_write_tokens, 0) else 0 end as input,
                       coalesce(m.output_tokens, 0) + case
                           when m.reasoning_tokens > coalesce(m.output_tokens, 0) then m.reasoning_tokens else 0 end as output
                  from met as m
                 where m.session_id <> all (array(select s.session_id from met_sessions as s where s.erased_at is not null))) as m
    ), by_size as (
        select l.model, l.provider, l.era, count(*) as interactions, count(l.cost_usd) as priced,
               sum(l.cost_usd) as cost_usd, sum(l.input_tokens) as input_tokens, sum(l.output_tokens) as output_tokens,
               sum(l.cached_input_tokens) as cached_input_tokens, sum(l.cache_write_tokens) as cache_write_tokens,
               sum(l.reasoning_tokens) as reasoning_tokens,
               count(*) filter (where l.unpriced) as unpriced,
               jsonb_build_object(
                   'model', l.model, 'provider', l.provider, 'era', l.era,
                   'interactions', count(*) filter (where l.unpriced),
                   'input_tokens', coalesce(sum(l.input) filter (where l.unpriced), 0),
                   'output_tokens', coalesce(sum(l.output) filter (where l.unpriced), 0),
                   'cached_input_tokens', coalesce(sum(l.cached_input_tokens) filter (where l.unpriced), 0),
                   'cache_write_tokens', coalesce(sum(l.cache_write_tokens) filter (where l.unpriced), 0),
                   'reasoning_tokens', coalesce(sum(l.reasoning_tokens) filter (where l.unpriced), 0)) as size
          from looked as l
         group by l.model, l.provider, l.era, l.tier
    ), by_model as (
        select s.model, s.provider, sum(s.interactions) as interactions,
               coalesce(sum(s.input_tokens), 0) as input_tokens, coalesce(sum(s.output_tokens), 0) as output_tokens,
               coalesce(sum(s.cached_input_tokens), 0) as cached_input_tokens,
               coalesce(sum(s.cache_write_tokens), 0) as cache_write_tokens,
               coalesce(sum(s.reasoning_tokens), 0) as reasoning_tokens,
               sum(s.priced) as priced, coalesce(sum(s.cost_usd), 0) as cost_usd,
               coalesce(jsonb_agg(s.size) filter (where s.unpriced > 0), '[]') as sizes
          from by_size as s
         group by s.model, s.provider
    ), active_users as materialized (
        select o.user_id, sum(o.interactions) as interactions, count(*) as sessions
          from owned as o where o.user_id is not null
         group by o.user_id order by 2 desc, o.user_id limit top
    ), by_user as (
        select s.user_id, coalesce(sum(s.input_tokens), 0) as input_tokens, coalesce(sum(s.output_tokens), 0) as output_tokens,
               coalesce(sum(s.cached_input_tokens), 0) as cached_input_tokens,
               coalesce(sum(s.cache_write_tokens), 0) as cache_write_tokens,
               coalesce(sum(s.reasoning_tokens), 0) as reasoning_tokens,
               sum(s.priced) as priced, coalesce(sum(s.cost_usd), 0) as cost_usd,
               coalesce(jsonb_agg(s.size) filter (where s.unpriced > 0), '[]') as sizes
          from (select o.user_id, count(l.cost_usd) as priced, sum(l.cost_usd) as cost_usd,
                       sum(l.input_tokens) as input_tokens, sum(l.output_tokens) as output_tokens,
                       sum(l.cached_input_tokens) as cached_input_tokens, sum(l.cache_write_tokens) as cache_write_tokens,
                       sum(l.reasoning_tokens) as reasoning_tokens,
                       count(*) filter (where l.unpriced) as unpriced,
                       jsonb_build_object(
                           'model', l.model, 'provider', l.provider, 'era', l.era,
                           'interactions', count(*) filter (where l.unpriced),
                           'input_tokens', coalesce(sum(l.input) filter (where l.unpriced), 0),
                           'output_tokens', coalesce(sum(l.output) filter (where l.unpriced), 0),
                           'cached_input_tokens', coalesce(sum(l.cached_input_tokens) filter (where l.unpriced), 0),
                           'cache_write_tokens', coalesce(sum(l.cache_write_tokens) filter (where l.unpriced), 0),
                           'reasoning_tokens', coalesce(sum(l.reasoning_tokens) filter (where l.unpriced), 0)) as size
                  from looked as l
                  join owned as o on o.session_id = l.session_id
                 where o.user_id in (select a.user_id from active_users as a)
                 group by o.user_id, l.model, l.provider, l.era, l.tier) as s
         group by s.user_id
    )
    select jsonb_build_object(
        'share', of_interactions,
        'total', (
            select jsonb_build_object(
                       'interactions', count(*),
                       'completed', count(*) filter (where l.status = 'completed'),
                       'failed', count(*) filter (where l.status = 'failed'),
                       'pending', count(*) filter (where l.status = 'pending'),
                       'abandoned', count(*) filter (where l.status = 'abandoned'),
                       'input_tokens', coalesce(sum(l.input_tokens), 0),
                       'output_tokens', coalesce(sum(l.output_tokens), 0),
                       'cached_input_tokens', coalesce(sum(l.cached_input_tokens), 0),
                       'cache_write_tokens', coalesce(sum(l.cache_write_tokens), 0),
                       'reasoning_tokens', coalesce(sum(l.reasoning_tokens), 0),
                       'priced', count(l.cost_usd), 'cost_usd', coalesce(sum(l.cost_usd), 0),
                       'models', (select count(*) from by_model),
                       'latency_ms', percentile_cont(array[0.5, 0.95]) within group (order by l.latency_ms),
                       'time_to_first_token_ms',
                       percentile_cont(array[0.5, 0.95]) within group (order by l.time_to_first_token_ms))
              from looked as l),
        'buckets', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'at', starts[b.bucket], 'interactions', b.interactions, 'latency_ms', b.latency_ms)
                       order by b.bucket), '[]')
              from (select l.bucket, count(*) as interactions,
                           percentile_cont(array[0.5, 0.95]) within group (order by l.latency_ms) as latency_ms
                      from looked as l group by l.bucket) as b),
        'models', (
            select coalesce(jsonb_agg(to_jsonb(m) order by m.interactions desc, m.model, m.provider), '[]')
              from (select m.* from by_model as m
                     order by m.interactions desc, m.model, m.provider limit top_models) as m),
        'users', (
            select coalesce(jsonb_agg(to_jsonb(a) || to_jsonb(u) order by a.interactions desc, a.user_id), '[]')
              from active_users as a
              join by_user as u on u.user_id = a.user_id),
        'folders', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'folder_id', f.id, 'key', f.key, 'name', f.name, 'interactions', b.interactions,
                       'sessions', b.sessions) order by b.interactions desc, f.id), '[]')
              from (select o.folder_id, sum(o.interactions) as interactions, count(*) as sessions
                      from owned as o where o.folder_id is not null
                     group by o.folder_id order by 2 desc, o.folder_id limit top) as b
              join turnlog.ai_session_folders as f on f.project = in_project and f.id = b.folder_id))
      into interactions;

    with failed as materialized (
        select width_bucket(i.at, starts) as bucket, left(i.error, 300) as error,
               i.text_expired_at is not null as is_kind -- see turnlog.expire_texts
          from turnlog.slices(not_before, before, parts, of_failures) as slice
         cross join lateral (
               select coalesce(i.started_at, i.created_at) as at, i.error, i.text_expired_at, i.session_id
                 from turnlog.ai_interactions as i
                where i.project = in_project and i.erased_at is null
                  and (i.status = 'failed' or i.status is null and i.error <> '')
                  and coalesce(i.started_at, i.created_at) >= slice.first
                  and coalesce(i.started_at, i.created_at) < slice.last
               offset 0) as i
         -- one lookup each, as above: without sessions that are being erased
         where (select true from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = i.session_id and s.erased_at is null limit 1)
    )
    select jsonb_build_object(
        'share', of_failures,
        'total', (select count(*) from failed),
        'buckets', (
            select coalesce(jsonb_agg(jsonb_build_object('at', starts[b.bucket], 'failed', b.failed) order by b.bucket), '[]')
              from (select f.bucket, count(*) as failed from failed as f group by f.bucket) as b),
        'errors', (
            select coalesce(jsonb_agg(to_jsonb(e) order by e.interactions desc, e.error), '[]')
              from (select case when f.is_kind then nullif(f.error, ' ') else turnlog.error_kind(f.error) end as error,
                           sum(f.interactions) as interactions
                      from (select f.error, f.is_kind, count(*) as interactions from failed as f
                             group by f.error, f.is_kind) as f
                     group by 1 order by 2 desc, 1 limit top) as e))
      into failures;

    select jsonb_build_object(
        'share', of_sessions,
        'total', coalesce(sum(b.sessions), 0),
        'buckets', coalesce(jsonb_agg(jsonb_build_object('at', starts[b.bucket], 'sessions', b.sessions) order by b.bucket), '[]'))
      into sessions
      from (select width_bucket(s.at, starts) as bucket, count(*) as sessions
              from turnlog.slices(not_before, before, parts, of_sessions) as slice
             cross join lateral (
                   select coalesce(s.started_at, s.earliest_turn_at, s.created_at) as at
                     from turnlog.ai_sessions as s
                    where s.project = in_project and s.erased_at is null and s.status <> 'locked'
                      and coalesce(s.started_at, s.earliest_turn_at, s.created_at) >= slice.first
                      and coalesce(s.started_at, s.earliest_turn_at, s.created_at) < slice.last
                   offset 0) as s
             group by 1) as b;

    return jsonb_build_object('interactions', interactions, 'failures', failures, 'sessions', sessions);
end
$$;


-- schemas/read/participants.sql
-- Lists a session's participants in order of arrival. Takes {project, session_id}. Returns {session: or null,
-- participants}.
create or replace function turnlog.participants(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
    return (
        select jsonb_build_object(
            'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                          from turnlog.ai_sessions as s
                         where s.project = request ->> 'project' and s.id = (request ->> 'session_id')::uuid),
            'participants', (
                select coalesce(jsonb_agg(jsonb_build_object(
                           'participant', p.participant, 'role', p.role, 'state', p.state,
                           'created_at', p.created_at, 'spooled', false) order by p.created_at, p.participant), '[]')
                  from turnlog.ai_session_participants as p
                 where p.project = request ->> 'project' and p.session_id = (request ->> 'session_id')::uuid)));
end
$$;


-- schemas/read/participations.sql
-- Lists the sessions of other users in which a user takes part, in the order of their ids.
-- Takes {project, user_id, limit, after?: session id}. Returns {sessions, after}.
create or replace function turnlog.participations(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- one user's rows, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_user constant text := request ->> 'user_id';
    page_size constant integer := (request ->> 'limit')::integer;
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    ids uuid[];
begin
    ids := array(
        select p.session_id
          from turnlog.ai_session_participants as p
          join turnlog.ai_sessions as s on s.project = in_project and s.id = p.session_id
         where p.project = in_project and p.participant = of_user and p.session_id > after_id
           and s.erased_at is null and s.user_id is distinct from of_user
         order by p.session_id
         limit page_size + 1);
    return jsonb_build_object(
        'sessions', turnlog.session_rows(in_project, ids[:page_size]),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;


-- schemas/read/recent.sql
-- Lists interactions of all sessions with the beginnings of their texts, in order of arrival, newest first. With `from`
-- or `to`: those that began in that span, newest first by their started_at, or created_at without one. `error`: only
-- those of this kind, see turnlog.error_kind.
-- Takes {project, limit, model?, has_errors?, error?, from?, to?, after?: {at, session_id, interaction_id}}. Returns
-- {interactions, after}. A page may be short; `after` is null at the end.
create or replace function turnlog.recent(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- a bounded number of rows, never a whole table, whatever its statistics say
set jit = off
as $$
declare
    page_size constant integer := (request ->> 'limit')::integer;
    of_a_time constant boolean := coalesce(request ->> 'from', request ->> 'to') is not null;
    at constant text := case when of_a_time then 'coalesce(i.started_at, i.created_at)' else 'i.created_at' end;
    failed constant text := case when coalesce((request ->> 'has_errors')::boolean, false)
        then ' and (i.status = ''failed'' or i.status is null and i.error <> '''')' else '' end;
    place_of constant text := 'jsonb_build_object(''at'', p.at, ''session_id'', p.session_id, ''interaction_id'', p.id)';
    most_messages constant integer := 20; -- of a history: the last one with a text is shown
    enough constant integer := case when request ->> 'error' is null then 10000 else 2000 end; -- rows to scan
    walked text := 'i.project = $1 ->> ''project''';
    further text := '';
    page jsonb;
    place jsonb;
begin
    if request ->> 'from' is not null then
        walked := walked || format(' and %s >= ($1 ->> ''from'')::timestamptz', at);
    end if;
    if request ->> 'to' is not null then
        walked := walked || format(' and %s < ($1 ->> ''to'')::timestamptz', at);
    end if;
    if of_a_time then
        walked := walked || ' and i.erased_at is null' || failed; -- failures have an index by this time
    else
        further := failed;
    end if;
    if request ->> 'model' is not null then
        further := further || ' and i.model = $1 ->> ''model''';
    end if;
    if request ->> 'error' is not null then
        further := further || ' and case when i.text_expired_at is null then turnlog.error_kind(i.error)'
                              ' else i.error end = $1 ->> ''error''';
    end if;
    if request #>> '{after,session_id}' is not null then
        -- the first condition is the index's; within a session, interactions of one time are ordered by id
        walked := walked || format(
            ' and (%1$s, i.session_id) <= (($1 #>> ''{after,at}'')::timestamptz, ($1 #>> ''{after,session_id}'')::uuid)'
            ' and (%1$s, i.session_id, i.id) < (($1 #>> ''{after,at}'')::timestamptz, ($1 #>> ''{after,session_id}'')::uuid,'
            ' ($1 #>> ''{after,interaction_id}'')::uuid)', at);
    end if;
    execute 'with looked as (select i.*, ' || at || ' as at from turnlog.ai_interactions as i where ' || walked
            || format(' order by %s desc, i.session_id desc, i.id desc limit $3), ', at)
            || 'shown as (select i.*, row_number() over (order by i.at desc, i.session_id desc, i.id desc) as n'
               ' from (select i.* from looked as i where true' || further
            || ' order by i.at desc, i.session_id desc, i.id desc limit $2 + 1) as i)'
            || $sql$
    select (select coalesce(jsonb_agg(jsonb_build_object(
                       'interaction_id', i.id, 'session_id', i.session_id, 'session_key', s.key, 'title', s.title,
                       'user_id', s.user_id, 'participant', i.participant, 'turn', i.turn,
                       'model', i.model, 'provider', i.provider,
                       'status', coalesce(i.status, case
                           when i.error <> '' then 'failed'
                           when i.response is not null then 'completed'
                           else 'pending' end),
                       'error', left(i.error, 300), 'finish_reason', i.finish_reason,
                       'prompt', case when i.prompt_end is null then to_jsonb(turnlog.excerpt(i.prompt, 300))
                                      else i.prompt end,
                       'response', case when i.response_end is null then to_jsonb(turnlog.excerpt(i.response, 300))
                                        else i.response end,
                       'ends', jsonb_build_array(i.context_end, i.prompt_end, i.response_end),
                       'latency_ms', i.latency_ms, 'input_tokens', i.input_tokens, 'output_tokens', i.output_tokens,
                       'erased_at', i.erased_at, 'text_expired_at', i.text_expired_at,
                       'started_at', i.started_at, 'created_at', i.created_at) order by i.n), '[]')
              from shown as i
              -- a session that is being erased is a tombstone already, so it disappears at once
              join turnlog.ai_sessions as s on s.project = i.project and s.id = i.session_id and s.erased_at is null
             where i.n <= $2),
           case when (select count(*) from shown) > $2$sql$
            || ' then (select ' || place_of || ' from shown as p where p.n = $2)'
               ' else (select ' || place_of || ' from looked as p offset $3 - 1 limit 1) end'
       into page, place using request, page_size, enough;
    -- what is stored by content is read by queries of its own: see turnlog.with_messages
    return jsonb_build_object('after', place, 'interactions', coalesce((
        select jsonb_agg((p.value - 'ends'::text) || case when p.value #>> '{ends,1}' is null then '{}' else jsonb_build_object(
                   'prompt', turnlog.excerpt(turnlog.content(
                       p.value -> 'prompt', request ->> 'project', (p.value ->> 'session_id')::uuid,
                       (p.value #>> '{ends,1}')::uuid, (p.value #>> '{ends,0}')::uuid, (p.value #>> '{ends,2}')::uuid,
                       null, most_messages), 300),
                   'response', case jsonb_typeof(p.value -> 'response') when 'object' then turnlog.excerpt(turnlog.content(
                       p.value -> 'response', request ->> 'project', (p.value ->> 'session_id')::uuid,
                       (p.value #>> '{ends,2}')::uuid, (p.value #>> '{ends,1}')::uuid), 300)
                       else p.value ->> 'response' end) end
                   order by p.n)
          from jsonb_array_elements(page) with ordinality as p (value, n)), '[]'));
end
$$;


-- schemas/read/revisions.sql
-- Lists revisions of a session's interactions: what was said of each and isn't shown, newest first within an interaction.
-- Takes {project, session_id, limit, interaction_ids?, after?: {interaction_id, at, arrived, revision_id}, whole?: true,
-- bytes?}. Returns
-- {session: or null, interactions: those of `interaction_ids` that there are, revisions, after}.
-- A revision is {revision_id, interaction_id, status, fields, facts, said_at, created_at}: `facts` holds the fields that
-- differ from what is shown, `fields` names them, a key of the metadata as 'metadata.KEY'. With `whole` the `facts` are all
-- that is kept, for an export. Without `interaction_ids` those of all interactions are listed, by id.
-- A page with large facts, such as photos, is shorter than `limit`; so is one with a revision that is shown by now.
create or replace function turnlog.revisions(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of one session, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    page_size constant integer := request ->> 'limit';
    whole constant boolean := coalesce((request ->> 'whole')::boolean, false);
    ids constant uuid[] := case when request ? 'interaction_ids' then
        array(select jsonb_array_elements_text(request -> 'interaction_ids')::uuid) end;
    after_interaction constant uuid := request #>> '{after,interaction_id}';
    after_at constant timestamptz := request #>> '{after,at}';
    after_arrival constant timestamptz := request #>> '{after,arrived}';
    after_id constant uuid := request #>> '{after,revision_id}';
    -- as stored, before the last one of a page: readers hold it in memory
    most_bytes constant bigint := coalesce((request ->> 'bytes')::bigint, 32000000);
begin
    return (
        with page as materialized (
            select r.interaction_id, r.id, r.said_at, r.created_at, r.facts,
                   row_number() over (order by r.interaction_id, r.said_at desc, r.created_at desc, r.id desc) as n
              from turnlog.ai_revisions as r
             where r.project = in_project and r.session_id = of_session
               and (ids is null or r.interaction_id = any (ids))
               and (after_id is null or r.interaction_id > after_interaction
                    or r.interaction_id = after_interaction and (r.said_at, r.created_at, r.id) < (after_at, after_arrival, after_id))
             order by r.interaction_id, r.said_at desc, r.created_at desc, r.id desc
             limit page_size + 1 -- one more, to know whether another page follows
        ), sized as (
            select p.*, coalesce(sum(pg_column_size(p.facts)) over (
                       order by p.n rows between unbounded preceding and 1 preceding), 0) as bytes_before
              from page as p
        ), shown as (
            select s.*, case when not whole then (
                       select a.facts || turnlog.statement(a.facts)
                         from turnlog.ai_interactions as i
                        cross join lateral (select turnlog.as_sent(to_jsonb(i), '{}', '{}', true) as facts) as a
                        where i.project = in_project and i.session_id = of_session and i.id = s.interaction_id) end as instead
              from sized as s
             where s.n <= page_size and s.bytes_before <= most_bytes
        ), differing as (
            select s.n, f.key, f.value
              from shown as s
             cross join lateral jsonb_each(s.facts - 'status') as f
             where f.value is distinct from s.instead -> f.key
        ), listed as (
            select s.n, s.interaction_id, s.id, s.said_at, s.created_at, s.facts ->> 'status' as status,
                   (select jsonb_agg(d.key order by d.key) from differing as d where d.n = s.n) as fields,
                   (select jsonb_object_agg(d.key, d.value)
                      from (select case when d.key like 'metadata.%' then 'metadata' else d.key end as key,
                                   case when d.key like 'metadata.%'
                                        then jsonb_object_agg(substr(d.key, 10), d.value) over (
                                             partition by d.key like 'metadata.%')
                                        else d.value end as value
                              from differing as d where d.n = s.n) as d) as facts
              from shown as s
        )
        select jsonb_build_object(
            'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                          from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session),
            'interactions', (select coalesce(jsonb_agg(jsonb_build_object('interaction_id', i.id, 'key', i.key)), '[]')
                               from turnlog.ai_interactions as i
                              where i.project = in_project and i.session_id = of_session and i.id = any (ids)),
            'revisions', (select coalesce(jsonb_agg(jsonb_build_object(
                              'revision_id', l.id, 'interaction_id', l.interaction_id, 'status', l.status,
                              'fields', l.fields, 'facts', l.facts, 'said_at', l.said_at, 'created_at', l.created_at)
                              order by l.n), '[]')
                            from listed as l where l.fields is not null),
            'after', (select jsonb_build_object('interaction_id', p.interaction_id, 'at', p.said_at, 'arrived', p.created_at,
                                                'revision_id', p.id)
                        from page as p
                       where p.n = (select max(s.n) from shown as s)
                         and exists (select from page as next where next.n > p.n))));
end
$$;


-- schemas/read/sample_share.sql
-- Returns the fraction of a span to read: 1 if it has no more than about `most` rows, else the fraction with about
-- `sample` rows. `of`: 'interactions', 'failures' or 'sessions'. It counts growing slices of the span until they hold a
-- thousand rows, so it reads some thousands itself, however many there are.
create or replace function turnlog.sample_share(
    in_project text, of text, not_before timestamptz, before timestamptz, parts integer, most integer, sample integer)
returns double precision
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- some slices of an index, never a whole table, whatever its statistics say
as $$
declare
    enough constant integer := 1000;
    tried double precision;
    at_most integer := enough; -- the first count covers the whole span and stops here: usually there are no more
    counted bigint;
begin
    foreach tried in array array[1, 1.0 / 65536, 1.0 / 2048, 1.0 / 64, 1.0 / 8, 1] loop
        if of = 'interactions' then
            select count(*) into counted
              from (select from turnlog.slices(not_before, before, parts, tried) as slice
                     cross join lateral (
                           select from turnlog.ai_interactions as i
                            where i.project = in_project
                              and coalesce(i.started_at, i.created_at) >= slice.first
                              and coalesce(i.started_at, i.created_at) < slice.last
                           offset 0) as i
                     limit at_most) as found_rows;
        elsif of = 'failures' then
            select count(*) into counted
              from (select from turnlog.slices(not_before, before, parts, tried) as slice
                     cross join lateral (
                           select from turnlog.ai_interactions as i
                            where i.project = in_project
                              and (i.status = 'failed' or i.status is null and i.error <> '')
                              and coalesce(i.started_at, i.created_at) >= slice.first
                              and coalesce(i.started_at, i.created_at) < slice.last
                           offset 0) as i
                     limit at_most) as found_rows;
        else
            select count(*) into counted
              from (select from turnlog.slices(not_before, before, parts, tried) as slice
                     cross join lateral (
                           select from turnlog.ai_sessions as s
                            where s.project = in_project and s.erased_at is null
                              and coalesce(s.started_at, s.earliest_turn_at, s.created_at) >= slice.first
                              and coalesce(s.started_at, s.earliest_turn_at, s.created_at) < slice.last
                           offset 0) as s
                     limit at_most) as found_rows;
        end if;
        if at_most is not null and counted < at_most then
            return 1;
        end if;
        exit when at_most is null and counted >= enough;
        at_most := null;
    end loop;
    return case when counted <= most * tried then 1 else least(1, sample * tried / counted) end;
end
$$;


-- schemas/read/search.sql
-- Finds interactions that contain all terms (any interaction, without terms), newest first by their started_at, or
-- created_at without one. `words`: match whole words only.
-- Takes {project, terms, limit, rows, ms, order, first?, words?, user_id?, unclaimed?, session_id?, model?, from?, to?,
-- after?: {at, session_id, interaction_id}}. Returns {interactions, after, complete, searched, matched, searched_to,
-- keep_text_days}: the project's own setting, since texts that have expired aren't found.
--
-- A call scans at most `rows` interactions, for about `ms` milliseconds, so that none hangs (the `first` newest ones
-- before it uses the index). It returns what it found and where to go on; `complete` is false if it hit a limit. With
-- `order` 'match' the best come first, of at most `limit` * 10 matches of this call. `after` is null at the end.
create or replace function turnlog.search(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan' -- so that the filters given, and only those, choose the index
set enable_seqscan = off -- newest first by an index, so that a call can stop anywhere
set jit = off -- compiling takes longer than a page
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    most_rows constant integer := (request ->> 'rows')::integer;
    ends_at constant timestamptz := clock_timestamp() + make_interval(secs => (request ->> 'ms')::double precision / 1000);
    best_first constant boolean := request ->> 'order' = 'match';
    window_size constant integer := 4000;  -- characters of the extract around the first term
    most_hits constant integer := case when best_first then page_size * 10 else page_size end;
    of_user constant text := request ->> 'user_id';
    unclaimed constant boolean := coalesce((request ->> 'unclaimed')::boolean, false);
    of_model constant text := request ->> 'model';
    not_before constant timestamptz := request ->> 'from';
    before constant timestamptz := request ->> 'to';
    after_at timestamptz := request #>> '{after,at}';
    after_session uuid := request #>> '{after,session_id}';
    after_id uuid := request #>> '{after,interaction_id}';
    first_look constant integer := coalesce((request ->> 'first')::integer, 0);
    terms constant text[] := array(
        select distinct turnlog.fold(t.term) from jsonb_array_elements_text(request -> 'terms') as t (term)
         where turnlog.fold(t.term) <> '');
    patterns constant text[] := array(
        select '%' || replace(replace(replace(t.term, '\', '\\'), '%', '\%'), '_', '\_') || '%' from unnest(terms) as t (term)
         order by length(t.term) desc);
    -- scripts without spaces, and Korean, whose particles are suffixes, have no word boundaries to check
    unparted constant text := '[\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u3040-\u30FF\u3400-\u9FFF\uAC00-\uD7AF\uF900-\uFAFF\U00020000-\U0003FFFF]';
    as_words constant text[] := array(
        select case when t.term ~ ('^' || unparted) then '' else '(?:^|[^[:alnum:]_])' end
            || regexp_replace(t.term, '([^[:alnum:]_\s])', '\\\1', 'g')
            || case when t.term ~ (unparted || '$') then '' else '(?:$|[^[:alnum:]_])' end
          from unnest(terms) as t (term));
    words_only constant boolean := coalesce((request ->> 'words')::boolean, false);
    sought constant integer[] := array(
        select distinct g.gram from unnest(terms) as t (term), unnest(turnlog.grams(t.term)) as g (gram));
    most_sessions constant integer := 2000; -- up to this number they are read at once; beyond it, scan from the newest on
    having_it uuid[];            -- sessions that may match, by the index
    among uuid[];                -- the sessions to scan; null: all
    looked record;
    searched integer := 0;
    found jsonb := '[]';         -- cursors of matches, with scores
    page_is_full boolean := false;
    is_cut boolean := false;
    goes_on boolean := false;
    next_at timestamptz;         -- the last position of the first pass
    next_session uuid;
    next_id uuid;
    last_place jsonb;
    best record;
    hit record;
    here record;
    hits jsonb := '[]';
begin
    if request ->> 'session_id' is not null then
        -- only a session that the caller may read: the counts would reveal another one
        among := array(select s.id from turnlog.ai_sessions as s
                        where s.project = in_project and s.id = (request ->> 'session_id')::uuid and s.erased_at is null
                              and (of_user is null or s.user_id = of_user) and (not unclaimed or s.claim is null or 'user_id' = any (s.edited)));
    elsif of_user is not null then
        among := array(select s.id from turnlog.ai_sessions as s
                        where s.project = in_project and s.user_id = of_user and s.erased_at is null
                              and (not unclaimed or s.claim is null or 'user_id' = any (s.edited))
                        limit most_sessions + 1);
    end if;
    if cardinality(among) > most_sessions then
        among := null; -- too many: the scan below filters by user instead
    end if;

    -- Frequent terms occur among the newest interactions, where a scan is faster than the index. So pass 1 scans these, and
    -- pass 2 uses the index for older ones.
    for pass in case when among is null and sought <> '{}' and first_look > 0 then 1 else 2 end .. 2 loop
        if pass = 2 and among is null and sought <> '{}' then
            having_it := array(select distinct q.session_id from turnlog.ai_search_queue as q
                                where q.project = in_project limit most_sessions + 1);
            if cardinality(having_it) <= most_sessions then
                having_it := having_it || array(
                    select distinct s.session_id from turnlog.ai_search as s
                     where s.project = in_project and (s.grams @> sought or s.grams @> '{-1}')
                     limit most_sessions + 1);
            end if;
            if cardinality(having_it) <= most_sessions then
                among := having_it;
            end if;
        end if;
        -- the filters are in the select list, not in the where clause: so the clock is checked however few rows they leave
        for looked in
            select scanned.session_id, scanned.id, scanned.at, scanned.prompt, scanned.response, scanned.ends,
                   case when scanned.content is null or octet_length(scanned.content) = length(scanned.content) then lower(scanned.content)
                        else turnlog.fold(scanned.content) end as folded
              from (select place.session_id, place.id, place.at,
                           case when place.erased_at is null and (of_model is null or place.model = of_model)
                                 and (of_user is null and not unclaimed or exists (
                                     select from turnlog.ai_sessions as s
                                      where s.project = in_project and s.id = place.session_id
                                        and (of_user is null or s.user_id = of_user)
                                        and (not unclaimed or s.claim is null or 'user_id' = any (s.edited))))
                                then case when place.text_expired_at is not null then '' else concat_ws(E'\n',
                                    case jsonb_typeof(place.prompt) when 'string' then place.prompt #>> '{}'
                                         when 'array' then turnlog.plain_text(place.prompt) end,
                                    case jsonb_typeof(place.response) when 'string' then place.response #>> '{}'
                                         when 'array' then turnlog.plain_text(place.response) end) end
                           end as content,
                           case when place.ends is not null then place.prompt end as prompt,
                           case when place.ends is not null then place.response end as response,
                           place.ends
                      from (select i.session_id, i.id, coalesce(i.started_at, i.created_at) as at,
                                   i.erased_at, i.text_expired_at, i.model, i.prompt, i.response,
                                   case when i.prompt_end is not null
                                        then array[i.context_end, i.prompt_end, i.response_end,
                                                   case when i.context is null then i.instructions end] end as ends
                              from turnlog.ai_interactions as i
                             where i.project = in_project
                               and (among is null or i.session_id = any (among))
                               and (not_before is null or coalesce(i.started_at, i.created_at) >= not_before)
                               and (before is null or coalesce(i.started_at, i.created_at) < before)
                               and (after_at is null or (coalesce(i.started_at, i.created_at), i.session_id, i.id)
                                                        < (after_at, after_session, after_id))
                             order by coalesce(i.started_at, i.created_at) desc, i.session_id desc, i.id desc
                             limit case pass when 1 then first_look end) as place
                    offset 0) as scanned
        loop
            if page_is_full or is_cut then
                goes_on := true;
                exit;
            end if;
            searched := searched + 1;
            if looked.ends is not null and looked.folded is not null then
                -- by queries of their own: see turnlog.with_messages
                looked.folded := turnlog.fold(concat_ws(E'\n',
                    turnlog.plain_text(turnlog.content(
                        looked.prompt, in_project, looked.session_id, looked.ends[2], looked.ends[1], looked.ends[3],
                        looked.ends[4])),
                    turnlog.plain_text(turnlog.content(
                        looked.response, in_project, looked.session_id, looked.ends[3], looked.ends[2]))));
            end if;
            if pass = 1 then
                next_at := looked.at;
                next_session := looked.session_id;
                next_id := looked.id;
            end if;
            if looked.folded is not null and looked.folded like all (patterns)
               and (not words_only or not exists (select from unnest(as_words) as w (word) where looked.folded !~ w.word)) then
                -- a session that is being erased may still have interactions
                if not exists (select from turnlog.ai_sessions as s
                                where s.project = in_project and s.id = looked.session_id and s.erased_at is not null) then
                    found := found || jsonb_build_object('at', looked.at, 'session_id', looked.session_id, 'interaction_id', looked.id,
                        'score', case when best_first then (
                            -- frequent, as a whole word, in a short text
                            select sum(least(5, (length(looked.folded) - length(replace(looked.folded, t.term, ''))) / length(t.term))
                                       + case when looked.folded ~ t.word then 5 else 0 end)
                                   / ln(10 + length(looked.folded))
                              from unnest(terms, as_words) as t (term, word)) end);
                    page_is_full := jsonb_array_length(found) >= most_hits;
                end if;
            end if;
            is_cut := searched >= most_rows or searched % 200 = 0 and clock_timestamp() > ends_at;
            if page_is_full or is_cut then
                last_place := jsonb_build_object('at', looked.at, 'session_id', looked.session_id, 'interaction_id', looked.id);
            end if;
        end loop;
        exit when goes_on or pass = 1 and searched < first_look;
        after_at := next_at;
        after_session := next_session;
        after_id := next_id;
    end loop;

    for best in
        select f.at, f.session_id, f.interaction_id
          from rows from (jsonb_to_recordset(found)
                   as (at timestamptz, session_id uuid, interaction_id uuid, score double precision))
               with ordinality as f (at, session_id, interaction_id, score, n)
         order by f.score desc nulls last, f.n
         limit page_size
    loop
        select case when i.text_expired_at is null then i.prompt end as prompt,
               case when i.text_expired_at is null then i.response end as response, i.context_end, i.prompt_end, i.response_end,
               case when i.context is null then i.instructions end as instructions, jsonb_build_object(
                   'session_id', i.session_id, 'session_key', s.key, 'session_title', s.title, 'user_id', s.user_id,
                   'interaction_id', i.id, 'interaction_key', i.key, 'turn', i.turn, 'at', best.at, 'model', i.model) as facts
          into hit
          from turnlog.ai_interactions as i
          join turnlog.ai_sessions as s on s.project = in_project and s.id = i.session_id
         where i.project = in_project and i.session_id = best.session_id and i.id = best.interaction_id;
        hit.prompt := turnlog.content(
            hit.prompt, in_project, best.session_id, hit.prompt_end, hit.context_end, hit.response_end, hit.instructions);
        hit.response := turnlog.content(hit.response, in_project, best.session_id, hit.response_end, hit.prompt_end);
        -- The field with more of the terms, from the first occurrence of the longest one on. Of equal fields the last
        -- message of the prompt comes first, then the response, then the earlier messages: instructions and history.
        select side.field, side.content, side.begins + greatest(0, at.place - 1 - window_size / 2) as starts
          into here
          from (select turnlog.plain_text(hit.prompt) as prompt, turnlog.plain_text(hit.response) as response,
                       case jsonb_typeof(hit.prompt) when 'array'
                           then turnlog.plain_text(jsonb_build_array(hit.prompt -> -1)) end as last_one
                offset 0) as texts -- read each once
         cross join lateral (
               values ('prompt', 1, texts.prompt, length(texts.prompt) - length(texts.last_one),
                       turnlog.fold(texts.last_one)),
                      ('response', 2, texts.response, 0, turnlog.fold(texts.response)),
                      ('prompt', case when texts.last_one is null then 1 else 3 end, texts.prompt, 0,
                       turnlog.fold(texts.prompt))
               ) as side (field, rank, content, begins, folded)
         cross join lateral (
               select count(*) filter (where found.place > 0) as terms,
                      coalesce((array_agg(found.place order by found.place = 0, found.size desc))[1], 1) as place
                 from (select length(t.term) as size,
                              case when words_only then regexp_instr(side.folded, t.word)
                                   else position(t.term in side.folded) end as place
                         from unnest(terms, as_words) as t (term, word)) as found) as at
         where side.folded <> ''
         order by at.terms desc, side.rank
         limit 1;
        hits := hits || (hit.facts || jsonb_build_object(
            'field', here.field, 'starts', coalesce(here.starts, 0), 'length', length(here.content),
            'text', substr(here.content, 1 + here.starts, window_size)));
    end loop;
    return jsonb_build_object(
        'interactions', hits,
        'after', case when goes_on then last_place end,
        'complete', not (goes_on and is_cut),
        'searched', searched,
        'matched', jsonb_array_length(found),
        'searched_to', last_place -> 'at',
        'keep_text_days', (select p.keep_text_days from turnlog.ai_projects as p where p.project = in_project));
end
$$;


-- schemas/read/session.sql
-- Returns a session, a tombstone (erased_at is set) or null. Takes {project, session_id}.
create or replace function turnlog.session(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select turnlog.session_rows(request ->> 'project', array[(request ->> 'session_id')::uuid]) -> 0);
end
$$;


-- schemas/read/session_candidates.sql
-- Returns the ids of sessions that match one selective filter of a list's request, or the condition `walked` if it is
-- given; null if they are more than `most`, or if no filter is selective. They may belong to other projects: callers
-- check the project and the other filters.
create or replace function turnlog.session_candidates(request jsonb, walked text, most integer) returns uuid[]
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- some entries of an index, never a whole table, whatever its statistics say
set jit = off
as $$
declare
    in_project constant text := request ->> 'project';
    entries constant integer := most * 2; -- of interactions: most sessions have several
    found_ids uuid[];
    counted bigint;
begin
    if walked is not null then
        execute 'select array_agg(w.id) from (select s.id from turnlog.ai_sessions as s where ' || walked || ' limit $2) as w'
           into found_ids using request, most + 1;
        if coalesce(cardinality(found_ids), 0) <= most then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    if request ->> 'tag' is not null then
        select array_agg(t.id) into found_ids
          from (select s.id from turnlog.ai_sessions as s where s.tags @> array[request ->> 'tag'] limit most + 1) as t;
        if coalesce(cardinality(found_ids), 0) <= most then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    if request ? 'metadata' then
        execute 'select array_agg(m.id) from (select s.id from turnlog.ai_sessions as s where '
                || turnlog.metadata_condition(request) || ' limit $2) as m'
           into found_ids using request, most + 1;
        if coalesce(cardinality(found_ids), 0) <= most then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    if request ? 'rating' then
        select array_agg(distinct e.session_id), count(*) into found_ids, counted
          from (select f.session_id from turnlog.ai_feedback as f
                 where f.project = in_project and f.name = 'rating' and jsonb_typeof(f.value) = 'boolean'
                   and f.value = request -> 'rating'
                 limit entries + 1) as e;
        if counted <= entries then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    if (request ->> 'has_errors')::boolean then
        select array_agg(distinct e.session_id), count(*) into found_ids, counted
          from (select i.session_id from turnlog.ai_interactions as i
                 where i.project = in_project and (i.status = 'failed' or i.status is null and i.error <> '')
                 limit entries + 1) as e;
        if counted <= entries and coalesce(cardinality(found_ids), 0) <= most then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    if request ->> 'model' is not null then
        select array_agg(distinct e.session_id), count(*) into found_ids, counted
          from (select i.session_id from turnlog.ai_interactions as i
                 where i.project = in_project and i.model = request ->> 'model'
                 limit entries + 1) as e;
        if counted <= entries and coalesce(cardinality(found_ids), 0) <= most then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    return null;
end
$$;


-- schemas/read/session_filters.sql
-- Returns the filters of a list's request as SQL on a session `s`, in which `$1` is the request. `walked`: conditions
-- that an index satisfies in the order of the list; `further`: conditions on each row found there; `looks`: whether
-- these read the session's interactions or feedback.
create or replace function turnlog.session_filters(
    request jsonb, out walked text, out further text, out looks boolean)
language plpgsql immutable
set search_path = ''
as $$
declare
    at constant text := 'coalesce(s.started_at, s.earliest_turn_at, s.created_at)';
    -- one index only: matches of a second one would have to be intersected with all matches of the first
    led_by constant text := case
        when request ->> 'folder_id' is not null then 'folder_id'
        when request ->> 'user_id' is not null then 'user_id'
        when (request ->> 'implicit')::boolean then 'implicit'
        when request ->> 'status' is not null then 'status'
        else '' end;
    -- a caller that reads only its own feedback finds sessions by no other
    rated constant text := '(select true from turnlog.ai_feedback as f where f.project = $1 ->> ''project'''
        ' and f.session_id = s.id and f.name = ''rating'' and f.value is not null'
        || case when request ? 'author' then ' and f.author = $1 ->> ''author''' else '' end;
    interactions constant text := '(select count(*) from (select from turnlog.ai_interactions as i'
        ' where i.project = $1 ->> ''project'' and i.session_id = s.id limit %s) as i)';
    asked record;
begin
    walked := 's.project = $1 ->> ''project'' and s.erased_at is null';
    if request ->> 'from' is not null then
        walked := walked || format(' and %s >= ($1 ->> ''from'')::timestamptz', at);
    end if;
    if request ->> 'to' is not null then
        walked := walked || format(' and %s < ($1 ->> ''to'')::timestamptz', at);
    end if;
    further := '';
    looks := request ?| '{model,has_errors,rating,unrated,min_turns,max_turns}';
    for asked in
        select f.name, f.condition
          from (values
              ('folder_id', 's.folder_id = ($1 ->> ''folder_id'')::uuid'),
              ('user_id', 's.user_id = $1 ->> ''user_id'''),
              ('implicit', case when (request ->> 'implicit')::boolean then 's.implicit' else 'not s.implicit' end),
              ('status', 's.status = $1 ->> ''status'''),
              -- planned sessions exist before they begin
              ('begun', 's.status ' || case when (request ->> 'begun')::boolean then '<>' else '=' end || ' ''locked'''),
              ('unclaimed', case when (request ->> 'unclaimed')::boolean then '(s.claim is null or ''user_id'' = any (s.edited))' else 'true' end),
              ('tag', 's.tags @> array[$1 ->> ''tag'']'),
              ('untagged', 'coalesce(s.tags, ''{}'') ' || case when (request ->> 'untagged')::boolean then '=' else '<>' end || ' ''{}'''),
              ('metadata', turnlog.metadata_condition(request)),
              ('name', 'strpos(lower(concat_ws(chr(10), s.title, s.key)), lower($1 ->> ''name'')) > 0'),
              -- one index lookup per session: a join was planned as a scan of all interactions of the model
              ('model', '(select true from turnlog.ai_interactions as i where i.project = $1 ->> ''project'''
                        ' and i.session_id = s.id and i.model = $1 ->> ''model'' limit 1)'),
              ('has_errors', '(select true from turnlog.ai_interactions as i where i.project = $1 ->> ''project'''
                             ' and i.session_id = s.id and (i.status = ''failed'' or i.status is null and i.error <> '''')'
                             ' limit 1) is ' || case when (request ->> 'has_errors')::boolean then 'not null' else 'null' end),
              ('rating', rated || ' and f.value = $1 -> ''rating'' limit 1)'),
              ('unrated', rated || ' limit 1) is ' || case when (request ->> 'unrated')::boolean then 'null' else 'not null' end),
              -- counts no further than it has to
              ('min_turns', format(interactions, '($1 ->> ''min_turns'')::integer') || ' >= ($1 ->> ''min_turns'')::integer'),
              ('max_turns', format(interactions, '($1 ->> ''max_turns'')::integer + 1') || ' <= ($1 ->> ''max_turns'')::integer')
          ) as f (name, condition)
         where request ->> f.name is not null
    loop
        if asked.name = led_by then
            walked := walked || ' and ' || asked.condition;
        else
            further := further || ' and ' || asked.condition;
        end if;
    end loop;
end
$$;


-- schemas/read/sessions.sql
-- Lists sessions by time, or by `activity`, the arrival of the last interaction; sessions without any are left out
-- then. A session's time is its started_at; else that of its earliest turn; else its created_at. Takes {project, limit,
-- sort?: newest | oldest | activity, after?: {at, session_id, began?}} and filters: {user_id?, unclaimed?, folder_id?,
-- tag?, untagged?, metadata?: see turnlog.metadata_condition, status?, implicit?, begun?, model?, has_errors?, rating?:
-- true | false, unrated?, author?: whose ratings count, min_turns?, max_turns?: of interactions, name?: a part of the
-- title or the key, from?, to?}. Returns {sessions, after}. A page may be short; `after` is null at the end.
--
-- By `activity`, pages show the order in which sessions were when paging began: the cursor carries the latest arrival
-- at that time, and what arrived later moves no session. So each is on one page, also if it gains a turn meanwhile.
create or replace function turnlog.sessions(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- a bounded number of rows, never a whole table, whatever its statistics say
set jit = off -- compiling took longer than the work
as $$
declare
    page_size constant integer := (request ->> 'limit')::integer;
    by_activity constant boolean := coalesce(request ->> 'sort' = 'activity', false);
    has_after constant boolean := request #>> '{after,session_id}' is not null;
    backwards constant boolean := coalesce(request ->> 'sort' = 'oldest', false);
    filters constant record := turnlog.session_filters(request);
    -- a condition on rows behind the cursor, and the order of the list
    beyond constant text := case when has_after then format(
        ' and (%%s, %%s) %s (($1 #>> ''{after,at}'')::timestamptz, ($1 #>> ''{after,session_id}'')::uuid)',
        case when backwards then '>' else '<' end) else '' end;
    direction constant text := case when backwards then 'asc' else 'desc' end;
    -- by activity: when the last interaction arrived that counts
    began constant timestamptz := case when by_activity then coalesce(
        (request #>> '{after,began}')::timestamptz,
        (select i.created_at from turnlog.ai_interactions as i
          where i.project = request ->> 'project'
          order by i.created_at desc, i.session_id desc limit 1), 'epoch') end;
    whole constant boolean := filters.further = '' and not by_activity; -- the index finds the page, however far back it is
    walk text;
    page text;
    looks integer[];
    enough integer;
    candidates uuid[];
    ids uuid[];
    times timestamptz[];
    last_at timestamptz;
    last_id uuid;
begin
    if by_activity then
        -- walk interactions; a session's position is that of its last one, unless it was on an earlier page
        looks := '{2000,8000}';
        walk := 'select i.session_id as id, i.created_at as at from turnlog.ai_interactions as i where i.project = $1 ->> ''project'''
                || format(beyond, 'i.created_at', 'i.session_id') || ' order by i.created_at desc, i.session_id desc limit $2';
        page := 'select w.id, w.at from (select v.id, max(v.at) as at from (' || walk || ') as v group by v.id) as w'
                || ' where (select true from turnlog.ai_sessions as s where s.id = w.id and ' || filters.walked || filters.further
                || ' limit 1)'
                || case when has_after then ' and (select true from turnlog.ai_interactions as i'
                   ' where i.project = $1 ->> ''project'' and i.session_id = w.id'
                   -- `+ interval` keeps the planner from the index of arrivals, which it would read from its end
                   ' and (i.created_at + interval ''0'', i.session_id)'
                   ' >= (($1 #>> ''{after,at}'')::timestamptz, ($1 #>> ''{after,session_id}'')::uuid)'
                   ' and i.created_at + interval ''0'' <= $5 limit 1) is null' else '' end;
    else
        looks := case when whole then '{2147483647}' when filters.looks then '{2000,10000}' else '{5000,30000}' end;
        walk := 'select s.id, coalesce(s.started_at, s.earliest_turn_at, s.created_at) as at, s.project, s.folder_id, s.user_id, s.implicit, s.status,'
                ' s.claim, s.edited, s.tags, s.metadata, s.title, s.key, s.started_at, s.earliest_turn_at, s.created_at, s.erased_at from turnlog.ai_sessions as s where '
                || filters.walked || format(beyond, 'coalesce(s.started_at, s.earliest_turn_at, s.created_at)', 's.id')
                || format(' order by coalesce(s.started_at, s.earliest_turn_at, s.created_at) %1$s, s.id %1$s limit $2', direction);
        page := 'select s.id, s.at from (' || walk || ') as s where true' || filters.further;
    end if;

    foreach enough in array looks loop
        -- if a filter is selective, check all of its matches before walking further
        if enough <> looks[1] then
            candidates := turnlog.session_candidates(
                request, case when by_activity then filters.walked end, 2000);
            if candidates is not null then
                page := case when by_activity then
                    'select w.id, w.at from (select i.session_id as id, max(i.created_at) as at from turnlog.ai_interactions as i'
                    ' where i.project = $1 ->> ''project'' and i.session_id = any ($4) and i.created_at + interval ''0'' <= $5'
                    ' group by i.session_id) as w'
                    ' where (select true from turnlog.ai_sessions as s where s.id = w.id and ' || filters.walked || filters.further
                    || ' limit 1)' || format(beyond, 'w.at', 'w.id')
                else
                    'select s.id, coalesce(s.started_at, s.earliest_turn_at, s.created_at) as at'
                    ' from turnlog.ai_sessions as s where s.id = any ($4) and ' || filters.walked || filters.further || format(beyond, 'coalesce(s.started_at, s.earliest_turn_at, s.created_at)', 's.id')
                end;
            end if;
        end if;
        -- one more than the page, to know whether another page follows
        execute 'select array_agg(p.id), array_agg(p.at) from (' || page
                || format(' order by at %1$s, id %1$s limit $3) as p', direction)
           into ids, times using request, enough, page_size + 1, candidates, began;
        exit when cardinality(ids) > page_size or candidates is not null or whole;
        execute format('select w.at, w.id from (%s) as w offset $2 - 1 limit 1', walk)
           into last_at, last_id using request, enough;
        exit when last_id is null;
    end loop;

    if cardinality(ids) > page_size then
        last_at := times[page_size];
        last_id := ids[page_size];
    elsif candidates is not null then
        last_id := null;
    end if;
    return jsonb_build_object(
        'sessions', turnlog.session_rows(request ->> 'project', coalesce(ids[:page_size], '{}')),
        'after', case when last_id is not null then
            jsonb_build_object('at', last_at, 'session_id', last_id)
            || case when by_activity then jsonb_build_object('began', began) else '{}' end end);
end
$$;


-- schemas/read/sessions_by_id.sql
-- Lists sessions in the order of their ids, which never change, so paging returns each session that existed at its
-- start exactly once. A page has those of the next `limit` sessions (or of a user's) that match the filters, so it may
-- be short or empty.
-- Takes {project, limit, after?: session id} and the filters of turnlog.sessions. Returns {sessions, after}; `after` is
-- null at the end.
create or replace function turnlog.sessions_by_id(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
set jit = off
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    of_user constant text := request ->> 'user_id';
    filters constant record := turnlog.session_filters(request);
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    ids uuid[];
    page uuid[];
begin
    -- one more than the page, to know whether another page follows
    if of_user is null then
        ids := array(
            select s.id
              from turnlog.ai_sessions as s
             where s.project = in_project and s.erased_at is null and s.id > after_id
             order by s.id
             limit page_size + 1);
    else
        -- by the user's index, then sorted: a user has few of a project's sessions
        ids := array(
            select own.id
              from (select s.id
                      from turnlog.ai_sessions as s
                     where s.project = in_project and s.user_id = of_user and s.erased_at is null
                    offset 0) as own
             where own.id > after_id
             order by own.id
             limit page_size + 1);
    end if;
    -- `offset 0`: look these up by their primary key, then filter them
    execute 'select array_agg(s.id order by s.id) from (select s.* from turnlog.ai_sessions as s'
            ' where s.project = $1 ->> ''project'' and s.id = any ($2) offset 0) as s where ' || filters.walked || filters.further
       into page using request, ids[:page_size];
    return jsonb_build_object(
        'sessions', turnlog.session_rows(in_project, coalesce(page, '{}')),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;


-- schemas/read/slices.sql
-- Returns slices of a span: one in each of `parts` equal parts, each a `share` of its part. Their positions within the
-- parts differ, so that what happens every hour isn't always met or always missed, and they are the same at each call.
-- A share of 1 returns the whole span as one slice.
create or replace function turnlog.slices(
    not_before timestamptz, before timestamptz, parts integer, share double precision,
    out first timestamptz, out last timestamptz)
returns setof record
language sql immutable
set search_path = ''
as $$
    select not_before, before where share >= 1
    union all
    select piece.first, piece.first + share * (before - not_before) / parts
      from generate_series(0, parts - 1) as p (n)
     -- multiples of the golden ratio spread evenly
     cross join lateral (
           select not_before + (before - not_before) / parts
                  * (p.n + (p.n * 0.6180339887498949 % 1)::double precision * (1 - share)) as first) as piece
     where share < 1
$$;


-- schemas/read/spans.sql
-- Lists the spans of an interaction's traces that belong to its session, as OpenTelemetry has them: its own, and those
-- around it (agents, tools, other calls), of which `limit` are the closest in time. In the order in which they began.
-- Takes {project, session_id, interaction_id, limit}. Returns {session: or null, interaction: {interaction_id, key} or null,
-- spans: [{trace_id, span_id, parent_id, name, kind, scope, started_at, completed_at, failed, interaction_id: of a call,
-- is_own}], complete: these are all}.
create or replace function turnlog.spans(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some traces, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    most constant integer := request ->> 'limit';
    of_interaction record;
    own text[];     -- TRACE/SPAN of its own spans
    around_at timestamptz;
begin
    select i.id, i.key, i.trace_id, i.span_id, i.started_at
      into of_interaction
      from turnlog.ai_interactions as i
     where i.project = in_project and i.session_id = of_session and i.id = (request ->> 'interaction_id')::uuid;
    select coalesce(s.call_spans, array[s.trace_id || '/' || s.span_id]), coalesce(s.started_at, of_interaction.started_at)
      into own, around_at
      from turnlog.ai_spans as s
     where s.project = in_project and s.trace_id = of_interaction.trace_id and s.span_id = of_interaction.span_id
       and s.session_id = of_session and s.id = of_interaction.id;
    return (
        with nearby as (
            select s.*, s.trace_id || '/' || s.span_id as ref,
                   row_number() over (order by s.trace_id || '/' || s.span_id = any (own) desc,
                                      abs(extract(epoch from s.started_at - around_at)) nulls last, s.span_id) as nth
              from (select distinct split_part(r, '/', 1) as id from unnest(own) as r) as t
             cross join lateral (
                   select s.* from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = t.id
                   offset 0) as s
             where s.session_id = of_session and s.erased_at is null
        ), listed as (
            select n.*, case when n.kind = 'call' then coalesce((
                       select c.id from turnlog.ai_spans as c
                        where c.project = in_project and c.trace_id = split_part(n.call_spans[1], '/', 1)
                          and c.span_id = split_part(n.call_spans[1], '/', 2)), n.id) end as call_id
              from nearby as n
             where n.nth <= most
        )
        select jsonb_build_object(
            'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                          from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session),
            'interaction', case when of_interaction.id is not null then jsonb_build_object(
                'interaction_id', of_interaction.id, 'key', of_interaction.key) end,
            'spans', (select coalesce(jsonb_agg(jsonb_build_object(
                          'trace_id', l.trace_id, 'span_id', l.span_id, 'parent_id', l.parent_id, 'name', l.name,
                          'kind', l.kind, 'scope', l.scope, 'started_at', l.started_at, 'completed_at', l.completed_at,
                          'failed', coalesce(l.failed, false), 'interaction_id', l.call_id, 'is_own', l.ref = any (own))
                          order by l.started_at nulls last, l.completed_at desc, l.trace_id, l.span_id), '[]')
                        from listed as l),
            'complete', not exists (select from nearby as n where n.nth > most)));
end
$$;


-- schemas/read/transcript.sql
-- Returns a page of a transcript, ordered by turn (those without one last), then by the time said, then by arrival;
-- with `by` 'id' by id alone, so that an interaction that gains a turn or a time between two pages keeps its position.
-- The time said is started_at, but no later than the arrival: a clock that is ahead can't pin an interaction to the end.
-- Takes {project, session_id, limit, after?: {turn, at, arrived, interaction_id, branch?}, by?: 'id', branches?:
-- 'current' or 'all', branch?: interaction id, latest?: true, context?: true}. Returns {session: or null, interactions, after,
-- branch, complete}; with `latest` the last page, and `before`, whether interactions come before it.
-- A page with large prompts or responses, such as photos, is shorter than `limit`.
-- The spool changes `spooled` and `complete` where records are on its disk.
-- `branches`: 'current' returns the current branch only, or with `branch` the one that leads through that interaction
-- (see turnlog.branches); 'all' returns all interactions. Both list the `alternatives` of each, in the order said: the 50
-- before and after it at most, and itself; `current`: on the current branch. Left out, all are returned without alternatives.
-- A branch also has for each the `question` that it answers if it has no prompt: {interaction_id, key, participant,
-- prompt, asked_at} of the one in whose place it stands, or null.
-- `after` holds the last interaction of the branch, so the next page goes on with the same one. The answer's `branch` is
-- the interaction through which the branch leads, null for the current one.
-- `context`: interactions come with what was sent before their prompts; else their `context` is null.
create or replace function turnlog.transcript(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    page_size constant integer := request ->> 'limit';
    after_turn constant bigint := request #>> '{after,turn}';
    after_at constant timestamptz := request #>> '{after,at}';
    after_arrival constant timestamptz := request #>> '{after,arrived}';
    after_id constant uuid := request #>> '{after,interaction_id}';
    most_bytes constant bigint := 32000000; -- as stored, before the last interaction of a page: readers hold it in memory
    most_steps constant integer := 100;
    by_id constant boolean := coalesce(request ->> 'by' = 'id', false);
    with_branches constant boolean := request ->> 'branches' is not null;
    in_all constant boolean := coalesce(request ->> 'branches' = 'all', false);
    through constant uuid := coalesce(request #>> '{after,branch}', request ->> 'branch');
    latest constant boolean := coalesce((request ->> 'latest')::boolean, false);
    with_context constant boolean := coalesce((request ->> 'context')::boolean, false);
    found jsonb;
begin
    found := (
        with recursive tree as materialized (
            select b.id, b.turn, b.at, b.arrived, b.on_branch, b.is_current,
                   coalesce(b.follows, '00000000-0000-0000-0000-000000000000') as follows,
                   row_number() over (partition by b.follows order by b.at, b.arrived, b.id) as nth,
                   count(*) over (partition by b.follows) as alternatives
              from turnlog.branches(in_project, of_session, through) as b
             where with_branches
        ), listed as (
            select t.id, t.turn, t.at, t.arrived, t.follows, t.nth, t.alternatives
              from tree as t
             where in_all or t.on_branch
            union all
            -- interactions without a turn come after those with one
            select i.id, case when by_id then 0 else coalesce(i.turn, 9223372036854775807) end,
                   case when by_id then 'epoch' else least(coalesce(i.started_at, i.created_at), i.created_at) end,
                   case when by_id then 'epoch' else i.created_at end, null, 1, 1
              from turnlog.ai_interactions as i
             where i.project = in_project and i.session_id = of_session and not exists (select from tree)
        ), page as (
            select o.*, row_number() over (order by o.turn, o.at, o.arrived, o.id)
                   - case when latest then greatest(0, (select count(*) from listed) - page_size) else 0 end as n
              from listed as o
             where after_id is null or (o.turn, o.at, o.arrived, o.id) > (after_turn, after_at, after_arrival, after_id)
             order by n
             limit page_size + 1 -- one more, to know whether another page follows
            offset case when latest then greatest(0, (select count(*) from listed) - page_size) else 0 end
        ), instead as ( -- from one without a prompt to the one in whose place it stands, until one has the question
            select p.id as answer, coalesce(i.alternative_to, i.reply_to) as id, 1 as step
              from page as p
              join turnlog.ai_interactions as i on i.project = in_project and i.session_id = of_session and i.id = p.id
             where not in_all and exists (select from tree)
               and i.prompt is null and i.erased_at is null
            union all
            select s.answer, coalesce(i.alternative_to, i.reply_to), s.step + 1
              from instead as s
              join turnlog.ai_interactions as i on i.project = in_project and i.session_id = of_session and i.id = s.id
             where s.step < most_steps and i.prompt is null and i.erased_at is null
        ), questions as (
            select s.answer, i.id, i.key, i.participant, i.prompt, coalesce(i.started_at, i.created_at) as asked_at,
                   case when i.context is null then i.instructions end as instructions, i.context_end, i.prompt_end, i.response_end
              from instead as s
              join turnlog.ai_interactions as i on i.project = in_project and i.session_id = of_session and i.id = s.id
             where i.prompt is not null and i.erased_at is null
        ), sized as (
            select p.n,
                   coalesce(sum(coalesce(pg_column_size(i.prompt), 0) + coalesce(pg_column_size(i.response), 0)
                                + coalesce(pg_column_size(q.prompt), 0)
                                + coalesce((select m.bytes from turnlog.ai_messages as m
                                             where m.project = in_project and m.session_id = of_session
                                               and m.id = coalesce(i.response_end, i.prompt_end, i.context_end)), 0)
                                + coalesce((select m.bytes from turnlog.ai_messages as m
                                             where m.project = in_project and m.session_id = of_session
                                               and m.id = coalesce(q.response_end, q.prompt_end)), 0)
                                - coalesce((select m.bytes from turnlog.ai_messages as m
                                             where m.project = in_project and m.session_id = of_session
                                               and m.id = i.context_end and not with_context), 0))
                       over (order by case when latest then -p.n else p.n end
                             rows between unbounded preceding and 1 preceding), 0) as bytes_before
              from page as p
              join turnlog.ai_interactions as i
                on i.project = in_project and i.session_id = of_session and i.id = p.id
              left join questions as q on q.answer = p.id
        ), shown as (
            select s.n from sized as s where s.n <= page_size and s.bytes_before <= most_bytes
        ), alternatives as (
            select p.id, jsonb_agg(jsonb_build_object('interaction_id', t.id, 'key', i.key, 'current', t.is_current)
                                   order by t.nth) as list
              from page as p
              join tree as t on t.follows = p.follows and t.nth between p.nth - 50 and p.nth + 50
              join turnlog.ai_interactions as i on i.project = in_project and i.session_id = of_session and i.id = t.id
             where p.alternatives > 1 and p.n <= page_size
             group by p.id
        )
        select jsonb_build_object(
            'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                          from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session),
            'interactions', (
                select coalesce(jsonb_agg(
                    jsonb_build_object(
                        'interaction_id', i.id, 'key', i.key, 'session_id', i.session_id,
                        'prompt', i.prompt, 'context', i.context, 'response', i.response, 'model', i.model, 'provider', i.provider,
                        'status', coalesce(i.status, case
                            when i.error <> '' then 'failed'
                            when i.response is not null then 'completed'
                            else 'pending' end),
                        'error', i.error, 'finish_reason', i.finish_reason,
                        'started_at', i.started_at, 'completed_at', i.completed_at, 'latency_ms', i.latency_ms,
                        'time_to_first_token_ms', i.time_to_first_token_ms, 'input_tokens', i.input_tokens,
                        'output_tokens', i.output_tokens, 'participant', i.participant)
                    || jsonb_build_object(
                        'cached_input_tokens', i.cached_input_tokens, 'cache_write_tokens', i.cache_write_tokens,
                        'reasoning_tokens', i.reasoning_tokens, 'cost_usd', i.cost_usd,
                        'reply_to', i.reply_to, 'alternative_to', i.alternative_to, 'chosen_at', i.chosen_at,
                        'alternatives', coalesce(a.list, '[]'), 'turn', i.turn,
                        'trace_id', i.trace_id, 'span_id', i.span_id, 'tags', coalesce(to_jsonb(i.tags), '[]'),
                        'metadata', coalesce(i.metadata, '{}'), 'created_at', i.created_at, 'erased_at', i.erased_at,
                        'text_expired_at', i.text_expired_at, 'spooled', false)
                    || case when i.prompt_end is null and i.context is null then '{}'
                            else jsonb_build_object('ends', jsonb_build_array(
                                i.instructions, i.context_end, i.prompt_end, i.response_end)) end
                    || case when with_branches then jsonb_build_object('question', case when q.id is not null then
                        jsonb_build_object('interaction_id', q.id, 'key', q.key, 'participant', q.participant,
                                           'prompt', q.prompt, 'asked_at', q.asked_at)
                        || case when q.prompt_end is null then '{}'
                                else jsonb_build_object('ends', jsonb_build_array(
                                    q.instructions, q.context_end, q.prompt_end, q.response_end)) end end) else '{}' end
                    order by p.n), '[]')
                  from page as p
                  join turnlog.ai_interactions as i
                    on i.project = in_project and i.session_id = of_session and i.id = p.id
                  left join alternatives as a on a.id = p.id
                  left join questions as q on q.answer = p.id
                 where p.n in (select s.n from shown as s)),
            'after', (
                select jsonb_build_object('turn', p.turn, 'at', p.at, 'arrived', p.arrived, 'interaction_id', p.id)
                       || case when with_branches and not in_all then jsonb_build_object('branch', (
                              select l.id from listed as l order by l.turn desc, l.at desc, l.arrived desc, l.id desc limit 1))
                          else '{}' end
                  from page as p
                 where p.n = (select max(s.n) from shown as s) and exists (select from page as next where next.n > p.n)),
            'branch', (select i.id from turnlog.ai_interactions as i
                        where i.project = in_project and i.session_id = of_session and i.id = through),
            'complete', true)
            || case when latest then jsonb_build_object(
                'before', (select count(*) from shown) < (select count(*) from listed)) else '{}' end);
    return found || jsonb_build_object('interactions', turnlog.with_messages(
        in_project, of_session, found -> 'interactions', with_context));
end
$$;


-- schemas/read/usage.sql
-- Sums up tokens and costs of the users of a span of time, those with the most tokens first.
-- Takes {project, from, to, most, sample, limit, tiers, eras, user_id?, after?: {tokens, user_id}}. Returns {share,
-- total, users, user_count, after}. `share`: the fraction of the span that was read, as in turnlog.overview; of one
-- user all is read. total: {interactions, priced, cost_usd, <tokens>, sizes}, of all users and of sessions without one.
-- users: [{user_id, sessions, …}], with the same fields. For <tokens>, priced, cost_usd and sizes see turnlog.overview.
-- `after` is null at the end.
create or replace function turnlog.usage(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan' -- one user's sessions, or a span of time: never a plan for both
set enable_seqscan = off -- slices of an index, never a whole table, whatever its statistics say
set work_mem = '64MB' -- a row for each session and model
set jit = off -- to compile it takes longer than to run it
as $$
declare
    in_project constant text := request ->> 'project';
    not_before constant timestamptz := request ->> 'from';
    before constant timestamptz := request ->> 'to';
    of_user constant text := request ->> 'user_id';
    page_size constant integer := request ->> 'limit';
    after_tokens constant numeric := request #>> '{after,tokens}';
    after_user constant text := request #>> '{after,user_id}';
    tiers constant bigint[] := array(select t::bigint from jsonb_array_elements_text(request -> 'tiers') as t order by 1);
    eras constant timestamptz[] := array(select t::timestamptz from jsonb_array_elements_text(request -> 'eras') as t order by 1);
    parts constant integer := 1000;
    share double precision := 1;
    found jsonb;
begin
    if of_user is null then
        share := turnlog.sample_share(in_project, 'interactions', not_before, before, parts,
                                      (request ->> 'most')::integer, (request ->> 'sample')::integer);
    end if;
    with met as (
        select i.*
          from turnlog.slices(not_before, before, parts, share) as slice
         cross join lateral (
               select i.*
                 from turnlog.ai_interactions as i
                where i.project = in_project and i.erased_at is null
                  and coalesce(i.started_at, i.created_at) >= slice.first
                  and coalesce(i.started_at, i.created_at) < slice.last
               offset 0) as i
         where of_user is null
         union all
        select i.*
          from (select s.id from turnlog.ai_sessions as s
                 where s.project = in_project and s.user_id = of_user and s.erased_at is null offset 0) as s
         cross join lateral (
               select i.*
                 from turnlog.ai_interactions as i
                where i.project = in_project and i.session_id = s.id and i.erased_at is null
                  and coalesce(i.started_at, i.created_at) >= not_before
                  and coalesce(i.started_at, i.created_at) < before
               offset 0) as i
         where of_user is not null
    ), counted as (
        select m.session_id, m.model, m.provider, m.input_tokens, m.output_tokens, m.cost_usd,
               m.cached_input_tokens, m.cache_write_tokens, m.reasoning_tokens,
               width_bucket(coalesce(m.started_at, m.created_at), eras) as era,
               m.cost_usd is null and num_nonnulls(m.input_tokens, m.output_tokens) > 0 as unpriced,
               coalesce(m.input_tokens, 0) + case
                   when coalesce(m.cached_input_tokens, 0) + coalesce(m.cache_write_tokens, 0) > coalesce(m.input_tokens, 0)
                   then coalesce(m.cached_input_tokens, 0) + coalesce(m.cache_write_tokens, 0) else 0 end as input,
               coalesce(m.output_tokens, 0) + case
                   when m.reasoning_tokens > coalesce(m.output_tokens, 0) then m.reasoning_tokens else 0 end as output
          from met as m
    ), by_session as materialized (
        select c.session_id, c.model, c.provider, c.era, c.unpriced, c.tier,
               count(*) as interactions, count(c.cost_usd) as priced, sum(c.cost_usd) as cost_usd,
               sum(c.input_tokens) as input_tokens, sum(c.output_tokens) as output_tokens,
               sum(c.cached_input_tokens) as cached_input_tokens, sum(c.cache_write_tokens) as cache_write_tokens,
               sum(c.reasoning_tokens) as reasoning_tokens, sum(c.input) as input, sum(c.output) as output
          from (select c.*, width_bucket(c.input, tiers) as tier from counted as c) as c
         group by c.session_id, c.model, c.provider, c.era, c.unpriced, c.tier
    ), owners as materialized (
        -- one lookup by primary key each; a session that is being erased is a tombstone already
        select o.*
          from (select distinct b.session_id from by_session as b) as b
         cross join lateral (
               select s.id, s.user_id from turnlog.ai_sessions as s
                where s.project = in_project and s.id = b.session_id and s.erased_at is null
               offset 0) as o
    ), by_size as materialized (
        select o.user_id, b.model, b.provider, b.era, b.unpriced, b.tier, sum(b.interactions) as interactions,
               sum(b.priced) as priced, sum(b.cost_usd) as cost_usd,
               coalesce(sum(b.input_tokens), 0) as input_tokens, coalesce(sum(b.output_tokens), 0) as output_tokens,
               coalesce(sum(b.cached_input_tokens), 0) as cached_input_tokens,
               coalesce(sum(b.cache_write_tokens), 0) as cache_write_tokens,
               coalesce(sum(b.reasoning_tokens), 0) as reasoning_tokens, sum(b.input) as input, sum(b.output) as output
          from by_session as b
          join owners as o on o.id = b.session_id
         group by o.user_id, b.model, b.provider, b.era, b.unpriced, b.tier
    ), by_user as materialized (
        select s.user_id, sum(s.input_tokens + s.output_tokens) as tokens, sum(s.interactions) as interactions,
               sum(s.priced) as priced, coalesce(sum(s.cost_usd), 0) as cost_usd, sum(s.input_tokens) as input_tokens,
               sum(s.output_tokens) as output_tokens, sum(s.cached_input_tokens) as cached_input_tokens,
               sum(s.cache_write_tokens) as cache_write_tokens, sum(s.reasoning_tokens) as reasoning_tokens
          from by_size as s
         group by s.user_id
    ), page as materialized (
        select u.* from by_user as u
         where u.user_id is not null
           and (after_user is null
                or u.tokens < after_tokens or u.tokens = after_tokens and u.user_id collate "C" > after_user collate "C")
         order by u.tokens desc, u.user_id collate "C"
         limit page_size + 1
    ), sessions as (
        select o.user_id, count(*) as sessions from owners as o where o.user_id in (select p.user_id from page as p) group by o.user_id
    ), sizes as (
        select s.user_id, jsonb_agg(jsonb_build_object(
                   'model', s.model, 'provider', s.provider, 'era', s.era, 'interactions', s.interactions,
                   'input_tokens', s.input, 'output_tokens', s.output, 'cached_input_tokens', s.cached_input_tokens,
                   'cache_write_tokens', s.cache_write_tokens, 'reasoning_tokens', s.reasoning_tokens)) as sizes
          from by_size as s
         where s.unpriced and s.user_id in (select p.user_id from page as p)
         group by s.user_id
    )
    select jsonb_build_object(
        'share', share,
        'user_count', (select count(*) from by_user as u where u.user_id is not null),
        'total', (
            select jsonb_build_object(
                       'interactions', coalesce(sum(u.interactions), 0), 'priced', coalesce(sum(u.priced), 0),
                       'cost_usd', coalesce(sum(u.cost_usd), 0), 'input_tokens', coalesce(sum(u.input_tokens), 0),
                       'output_tokens', coalesce(sum(u.output_tokens), 0),
                       'cached_input_tokens', coalesce(sum(u.cached_input_tokens), 0),
                       'cache_write_tokens', coalesce(sum(u.cache_write_tokens), 0),
                       'reasoning_tokens', coalesce(sum(u.reasoning_tokens), 0),
                       'sizes', (
                           select coalesce(jsonb_agg(to_jsonb(s)), '[]')
                             from (select s.model, s.provider, s.era, sum(s.interactions) as interactions,
                                          sum(s.input) as input_tokens, sum(s.output) as output_tokens,
                                          sum(s.cached_input_tokens) as cached_input_tokens,
                                          sum(s.cache_write_tokens) as cache_write_tokens,
                                          sum(s.reasoning_tokens) as reasoning_tokens
                                     from by_size as s where s.unpriced
                                    group by s.model, s.provider, s.era, s.tier) as s))
              from by_user as u),
        'users', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'user_id', p.user_id, 'sessions', n.sessions, 'interactions', p.interactions,
                       'priced', p.priced, 'cost_usd', p.cost_usd, 'input_tokens', p.input_tokens,
                       'output_tokens', p.output_tokens, 'cached_input_tokens', p.cached_input_tokens,
                       'cache_write_tokens', p.cache_write_tokens, 'reasoning_tokens', p.reasoning_tokens,
                       'sizes', coalesce(z.sizes, '[]'))
                       order by p.tokens desc, p.user_id collate "C"), '[]')
              from (select p.* from page as p order by p.tokens desc, p.user_id collate "C" limit page_size) as p
              join sessions as n on n.user_id = p.user_id
              left join sizes as z on z.user_id = p.user_id),
        'after', (
            select jsonb_build_object('tokens', p.tokens, 'user_id', p.user_id)
              from page as p
             where (select count(*) from page) > page_size
             order by p.tokens desc, p.user_id collate "C" offset page_size - 1 limit 1))
      into found;
    return found;
end
$$;


-- schemas/read/with_messages.sql
-- Returns interactions of a session, [{prompt, response, question?, ...}], with their contents as they were sent: see
-- turnlog.by_content. Those whose messages are stored by content have `ends`: [instructions, context_end, prompt_end,
-- response_end], and so has a `question`.
-- `context`: each gets what was sent before its prompt. It isn't part of the query that reads the interactions, since
-- that query couldn't be sent to the machine that has the project.
create or replace function turnlog.with_messages(in_project text, in_session uuid, interactions jsonb, with_context boolean)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    if not interactions @? '$[*].ends' and not interactions @? '$[*].question.ends' then
        return interactions;
    end if;
    return (
        select jsonb_agg((i.value - 'ends'::text)
               || case when i.value ? 'ends' then jsonb_build_object(
                   'prompt', turnlog.content(
                       nullif(i.value -> 'prompt', 'null'), in_project, in_session, (i.value #>> '{ends,2}')::uuid,
                       (i.value #>> '{ends,1}')::uuid, (i.value #>> '{ends,3}')::uuid,
                       case when i.value -> 'context' = 'null' then (i.value #>> '{ends,0}')::uuid end),
                   'response', turnlog.content(
                       nullif(i.value -> 'response', 'null'), in_project, in_session, (i.value #>> '{ends,3}')::uuid,
                       (i.value #>> '{ends,2}')::uuid),
                   'context', case when with_context and i.value -> 'context' <> 'null' then turnlog.content(
                       i.value -> 'context', in_project, in_session, (i.value #>> '{ends,1}')::uuid, null, null,
                       (i.value #>> '{ends,0}')::uuid) end) else '{}' end
               || case when i.value -> 'question' ? 'ends' then jsonb_build_object(
                   'question', (i.value -> 'question') - 'ends'::text || jsonb_build_object('prompt', turnlog.content(
                       i.value #> '{question,prompt}', in_project, in_session, (i.value #>> '{question,ends,2}')::uuid,
                       (i.value #>> '{question,ends,1}')::uuid, (i.value #>> '{question,ends,3}')::uuid,
                       (i.value #>> '{question,ends,0}')::uuid))) else '{}' end
               order by i.n)
          from jsonb_array_elements(interactions) with ordinality as i (value, n));
end
$$;


-- schemas/erase/blank_interactions.sql
-- Erases what some interactions say, and the feedback on them, below sessions that the caller has locked. Each stays as
-- a tombstone with its id, its place, times and numbers, which belong to the conversation: prompt and response become
-- '[erased]', everything else in it goes, and nothing can be added to it again. Participants whom only these
-- interactions named go, too. Whatever else comes to hold words of an interaction is erased here.
-- `session_ids` and `ids` are parallel lists. Returns how many interactions, participants and feedback were erased.
create or replace function turnlog.blank_interactions(
    in_project text, session_ids uuid[], ids uuid[],
    out interactions bigint, out participants bigint, out feedback bigint)
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some interactions' rows, never a whole table, whatever its statistics say
as $$
declare
    named_sessions uuid[];
    named text[];
begin
    select array_agg(d.session_id), array_agg(d.participant)
      into named_sessions, named
      from (select distinct i.session_id, i.participant
              from unnest(session_ids, ids) as wanted (session_id, id)
             cross join lateral (
                   select d.session_id, d.participant
                     from turnlog.ai_interactions as d
                    where d.project = in_project and d.session_id = wanted.session_id and d.id = wanted.id
                   offset 0) as i
             where i.participant is not null) as d;
    perform turnlog.blank_messages(in_project, w.session_id, array_agg(w.id))
       from unnest(session_ids, ids) as w (session_id, id) group by w.session_id;
    perform turnlog.blank_spans(in_project, array(
        select m.ref
          from unnest(session_ids, ids) as wanted (session_id, id)
         cross join lateral (
               select d.trace_id, d.span_id from turnlog.ai_interactions as d
                where d.project = in_project and d.session_id = wanted.session_id and d.id = wanted.id
                  and d.span_id is not null
               offset 0) as i
         cross join lateral (
               select s.call_spans from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = i.trace_id and s.span_id = i.span_id
               offset 0) as s
         cross join lateral unnest(coalesce(s.call_spans, array[i.trace_id || '/' || i.span_id])) as m (ref)));
    update turnlog.ai_interactions as i
       set prompt = '"[erased]"', response = '"[erased]"', context = null, instructions = null, context_end = null,
           prompt_end = null, response_end = null, error = null, finish_reason = null, tags = null,
           metadata = null, key = null, participant = null, status = 'completed', ranks = null,
           erased_at = statement_timestamp()
     where i.project = in_project collate "C" and i.erased_at is null and i.ctid = any (array(
           select d.ctid
             from unnest(session_ids, ids) as wanted (session_id, id)
            cross join lateral (
                  select d.ctid from turnlog.ai_interactions as d
                   where d.project = in_project and d.session_id = wanted.session_id and d.id = wanted.id
                  offset 0) as d));
    get diagnostics interactions = row_count;
    delete from turnlog.ai_revisions as r
     where r.project = in_project collate "C" and r.ctid = any (array(
           select d.ctid
             from unnest(session_ids, ids) as wanted (session_id, id)
            cross join lateral (
                  select d.ctid from turnlog.ai_revisions as d
                   where d.project = in_project and d.session_id = wanted.session_id and d.interaction_id = wanted.id
                  offset 0) as d));
    delete from turnlog.ai_feedback as f
     where f.project = in_project collate "C" and f.ctid = any (array(
           select d.ctid
             from unnest(session_ids, ids) as wanted (session_id, id)
            cross join lateral (
                  select d.ctid from turnlog.ai_feedback as d
                   where d.project = in_project and d.session_id = wanted.session_id and d.interaction_id = wanted.id
                  offset 0) as d));
    get diagnostics feedback = row_count;
    delete from turnlog.ai_session_participants as p
     where p.project = in_project collate "C" and p.ctid = any (array(
           select d.ctid
             from unnest(named_sessions, named) as was (session_id, participant)
            cross join lateral (
                  select d.ctid from turnlog.ai_session_participants as d
                   where d.project = in_project and d.session_id = was.session_id and d.participant = was.participant
                     and d.role is null and d.state is null
                     and not exists (select from turnlog.ai_interactions as i
                                      where i.project = in_project and i.session_id = was.session_id
                                        and i.participant = was.participant)
                  offset 0) as d));
    get diagnostics participants = row_count;
    perform turnlog.requeue_session(in_project, t.id) from (select distinct u.id from unnest(session_ids) as u (id)) as t;
end
$$;


-- schemas/erase/blank_messages.sql
-- Erases what some interactions of a session say from turnlog.ai_messages, also where later calls sent it again: their
-- histories have '[erased]' in its place from then on, and the same history sent again is still known by its id.
-- Of an interaction's messages these are its own: its response, and of its prompt those behind the longest history that
-- another interaction ends with, or the last message that one says whose texts aren't stored there. Instructions (system,
-- developer) stay: they are the conversation's. Histories that no other interaction has, such as a context, or an answer
-- that grew after all, are erased whole.
create or replace function turnlog.blank_messages(in_project text, of_session uuid, ids uuid[]) returns void
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- one session's rows, never a whole table, whatever its statistics say
as $$
declare
    interactions turnlog.ai_interactions[];
    interaction turnlog.ai_interactions;
    ends uuid[];            -- histories that other interactions' prompts and responses end with
    end_counts bigint[];    -- the numbers of their messages
    reached uuid[];         -- histories that other interactions have
    prompt jsonb;
    said jsonb;             -- the history that it ends
    count bigint;           -- of its messages that are left to be looked at
    covered uuid[] := '{}'; -- histories whose messages were looked at
    others jsonb[];         -- what other interactions say whose texts aren't stored by content
    shared bigint;          -- how many of them an earlier history has that another interaction ends with
    own jsonb[] := '{}';    -- the interactions' own messages
    revised jsonb;
    split record;
    changed record;
begin
    if not exists (select from turnlog.ai_messages as m where m.project = in_project and m.session_id = of_session) then
        return;
    end if;
    -- lookups by primary key: a join reads the whole session for each row where statistics are old
    for split in -- a prompt that shares a row with its response gets one of its own
        select distinct i.prompt_end, i.response_end
          from turnlog.ai_interactions as i
          left join lateral (
               select true as is_stored from turnlog.ai_messages as m
                where m.project = in_project and m.session_id = of_session and m.id = i.prompt_end
               offset 0) as p on true
         where i.project = in_project and i.session_id = of_session and i.response_end is not null and p.is_stored is null
    loop
        insert into turnlog.ai_messages (project, session_id, id, after, count, bytes, messages)
        select m.project, m.session_id, split.prompt_end, m.after, m.count - 1, m.bytes, m.messages - -1
          from turnlog.ai_messages as m
         where m.project = in_project and m.session_id = of_session and m.id = split.response_end
            on conflict do nothing; -- another answer to the same prompt
        update turnlog.ai_messages as m
           set after = split.prompt_end, messages = jsonb_build_array(m.messages -> -1)
         where m.project = in_project and m.session_id = of_session and m.id = split.response_end;
    end loop;
    interactions := array( -- the longest histories first: others are mostly a part of them
        select i from turnlog.ai_interactions as i
          left join lateral (
               select m.count from turnlog.ai_messages as m
                where m.project = in_project and m.session_id = of_session and m.id = i.prompt_end
               offset 0) as m on true
         where i.project = in_project and i.session_id = of_session and i.id = any (ids) and i.erased_at is null
         order by m.count desc nulls last);
    select coalesce(array_agg(m.id), '{}'), coalesce(array_agg(m.count), '{}')
      into ends, end_counts
      from turnlog.ai_interactions as i
     cross join lateral (values (i.prompt_end), (i.response_end)) as e (id)
     cross join lateral (
           select m.id, m.count from turnlog.ai_messages as m
            where m.project = in_project and m.session_id = of_session and m.id = e.id
           offset 0) as m
     where i.project = in_project and i.session_id = of_session and i.id <> all (ids);
    others := array(
        select coalesce(m.value -> 'content', said.content)
          from turnlog.ai_interactions as i
         cross join lateral (values (i.prompt), (i.response)) as said (content)
          left join lateral jsonb_array_elements(
                   case jsonb_typeof(said.content) when 'array' then said.content end) as m on true
         where i.project = in_project and i.session_id = of_session and i.id <> all (ids) and i.erased_at is null
           and jsonb_typeof(said.content) in ('string', 'array'));

    foreach interaction in array interactions loop
        if (interaction.response_end = any (ends || covered)) is not true then
            own := own || array(select jsonb_array_elements(turnlog.as_messages(turnlog.content(
                interaction.response, in_project, of_session, interaction.response_end, interaction.prompt_end))));
        end if;
        continue when interaction.prompt_end = any (covered);
        prompt := coalesce(turnlog.as_messages(turnlog.content(
            interaction.prompt, in_project, of_session, interaction.prompt_end, interaction.context_end), 'user'), '[]');
        said := turnlog.messages(in_project, of_session, interaction.prompt_end);
        with recursive path as (
            select m.id, m.after, m.count
              from turnlog.ai_messages as m
             where m.project = in_project and m.session_id = of_session and m.id = interaction.prompt_end
            union all
            select m.id, m.after, m.count
              from path as p
             cross join lateral (
                   select m.id, m.after, m.count from turnlog.ai_messages as m
                    where m.project = in_project and m.session_id = of_session and m.id = p.after
                   offset 0) as m
             where p.id <> all (ends)
        )
        select max(p.count), coalesce(max(p.count) filter (where p.id = any (ends)), 0),
               covered || coalesce(array_agg(p.id), '{}')
          into count, shared, covered
          from path as p;
        for n in reverse jsonb_array_length(prompt) - 1 .. 0 loop
            exit when count <= shared
                   or n < jsonb_array_length(prompt) - 1 and prompt -> n -> 'content' = any (others)
                   or case when count = any (end_counts) then turnlog.history_id(turnlog.message_bytes(
                          jsonb_path_query_array(said, '$[0 to $last]', jsonb_build_object('last', count - 1)))) = any (ends) end;
            own := array_append(own, prompt -> n);
            count := count - 1;
        end loop;
    end loop;
    for revised in
        select r.facts from turnlog.ai_revisions as r
         where r.project = in_project and r.session_id = of_session and r.interaction_id = any (ids)
    loop
        own := own || array(select jsonb_array_elements(turnlog.as_messages(revised -> 'response')));
        prompt := coalesce(turnlog.as_messages(revised -> 'prompt', 'user'), '[]');
        for n in reverse jsonb_array_length(prompt) - 1 .. 0 loop
            exit when prompt -> n ->> 'role' = 'assistant'; -- before it is history
            own := array_append(own, prompt -> n);
        end loop;
    end loop;

    reached := array(
        with recursive reached as (
            select e.id
              from turnlog.ai_interactions as i
             cross join lateral (values (i.instructions), (i.context_end), (i.prompt_end), (i.response_end)) as e (id)
             where i.project = in_project and i.session_id = of_session and i.id <> all (ids) and e.id is not null
            union
            select m.after
              from reached as r
             cross join lateral (
                   select m.after from turnlog.ai_messages as m
                    where m.project = in_project and m.session_id = of_session and m.id = r.id
                   offset 0) as m
             where m.after is not null
        )
        select r.id from reached as r);
    for changed in
        select b.id, b.messages
          from (select m.id, m.messages as stored, (
                       select jsonb_agg(case
                                  when not is_reached
                                       or (e.message ->> 'role' in ('system', 'developer')) is not true
                                          and (e.n < jsonb_array_length(m.messages) or not is_end)
                                          and (e.message in (select unnest(own))
                                               or (e.message -> 'role', e.message -> 'content') in (
                                                  select o.message -> 'role', o.message -> 'content'
                                                    from unnest(own) as o (message)
                                                   where o.message -> 'content' not in ('null', '""', '[]')))
                                  then jsonb_build_object('role', e.message -> 'role', 'content', '[erased]')
                                  else e.message end order by e.n)
                         from jsonb_array_elements(m.messages) with ordinality as e (message, n)) as messages
                  from (select m.id, m.messages, m.id in (select unnest(reached)) as is_reached,
                               m.id in (select unnest(ends)) as is_end
                          from turnlog.ai_messages as m
                         where m.project = in_project and m.session_id = of_session
                        offset 0) as m
                offset 0) as b
         where b.messages <> b.stored
    loop
        update turnlog.ai_messages as m
           set messages = changed.messages
         where m.project = in_project and m.session_id = of_session and m.id = changed.id;
    end loop;
    update turnlog.ai_revisions as r
       set facts = jsonb_set(r.facts, '{prompt}', (
           select jsonb_agg(case when e.message in (select unnest(own))
                                 then jsonb_build_object('role', e.message -> 'role', 'content', '[erased]')
                                 else e.message end order by e.n)
             from jsonb_array_elements(r.facts -> 'prompt') with ordinality as e (message, n)))
     where r.project = in_project and r.session_id = of_session and r.interaction_id <> all (ids)
       and r.facts @? '$.prompt[1]';
end
$$;


-- schemas/erase/blank_spans.sql
-- Erases what spans say, TRACE/SPAN each. They stay as tombstones with their place in the trace, so that what comes late of
-- them, or of spans below them, is known to be of an erased session, and with hashes by which turnlog.join_calls recognises
-- another span of an erased call.
create or replace function turnlog.blank_spans(in_project text, refs text[]) returns void
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some rows, never a whole table, whatever its statistics say
as $$
begin
    update turnlog.ai_spans as s
       set name = null, scope = null, session_key = null, user_id = null, participant = null, response_id = null,
           model = null, fields = null, event_fields = null, erased_at = coalesce(s.erased_at, statement_timestamp()),
           response_hash = coalesce(s.response_hash, turnlog.twin_hash(in_project, s.response_id)),
           scope_hash = coalesce(s.scope_hash, turnlog.twin_hash(in_project, s.scope))
     where s.project = in_project collate "C" and s.ctid = any (array(
           select d.ctid
             from unnest(refs) as r (ref)
            cross join lateral (
                  select d.ctid from turnlog.ai_spans as d
                   where d.project = in_project and d.trace_id = split_part(r.ref, '/', 1)
                     and d.span_id = split_part(r.ref, '/', 2)
                  offset 0) as d));
end
$$;


-- schemas/erase/count_user.sql
-- Counts the data of a user, `limit` sessions per call: first the user's own sessions, then others' sessions in which
-- the user takes part, and with the last page of those the user's folders and feedback on others' sessions. Sum up all
-- pages. Takes {project, user_id, limit, after?}. Returns {sessions, interactions, participants, feedback,
-- participations, turns, folders, after}; `after` is null on the last page.
create or replace function turnlog.count_user(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- one user's rows, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_user constant text := request ->> 'user_id';
    page_size constant integer := (request ->> 'limit')::integer;
    after_at constant timestamptz := request #>> '{after,at}';
    after_id constant uuid := request #>> '{after,session_id}';
    after_elsewhere constant uuid := request #>> '{after,elsewhere}';
    ids uuid[];
    times timestamptz[];
begin
    if after_elsewhere is null then
        select coalesce(array_agg(page.id), '{}'), array_agg(page.at)
          into ids, times
          from (select s.id, coalesce(s.started_at, s.earliest_turn_at, s.created_at) as at
                  from turnlog.ai_sessions as s
                 where s.project = in_project and s.user_id = of_user and s.erased_at is null
                   and (after_at is null or (coalesce(s.started_at, s.earliest_turn_at, s.created_at), s.id) < (after_at, after_id))
                 order by coalesce(s.started_at, s.earliest_turn_at, s.created_at) desc, s.id desc
                 limit page_size) as page;
        return jsonb_build_object(
            'sessions', cardinality(ids),
            'interactions', (select count(*) from turnlog.ai_interactions as i
                              where i.project = in_project and i.session_id = any (ids)),
            'participants', (select count(*) from turnlog.ai_session_participants as p
                              where p.project = in_project and p.session_id = any (ids)),
            'feedback', (select count(*) from turnlog.ai_feedback as f
                          where f.project = in_project and f.session_id = any (ids)),
            'after', case when cardinality(ids) = page_size
                then jsonb_build_object('at', times[page_size], 'session_id', ids[page_size])
                else '{"elsewhere": "00000000-0000-0000-0000-000000000000"}' end);
    end if;
    ids := array(
        select p.session_id
          from turnlog.ai_session_participants as p
         where p.project = in_project and p.participant = of_user and p.session_id > after_elsewhere
         order by p.session_id
         limit page_size);
    return (
        select jsonb_build_object(
                   'participations', count(*),
                   'turns', coalesce(sum((
                       select count(*) from turnlog.ai_interactions as i
                        where i.project = in_project and i.session_id = s.id and i.participant = of_user)), 0),
                   'folders', case when cardinality(ids) < page_size then (
                       select count(*) from turnlog.ai_session_folders as f
                        where f.project = in_project and f.user_id = of_user) else 0 end,
                   -- others' on the user's turns
                   'feedback', coalesce(sum((
                       select count(*) from turnlog.ai_feedback as f
                        where f.project = in_project and f.session_id = s.id and f.author <> of_user
                          and exists (select from turnlog.ai_interactions as i
                                       where i.project = in_project and i.session_id = s.id
                                         and i.id = f.interaction_id and i.participant = of_user))), 0)
                   + case when cardinality(ids) < page_size then (
                       select count(*) from turnlog.ai_feedback as f
                         join turnlog.ai_sessions as s on s.project = in_project and s.id = f.session_id
                        where f.project = in_project and f.author = of_user
                          and s.user_id is distinct from of_user) else 0 end,
                   'after', case when cardinality(ids) = page_size
                       then jsonb_build_object('elsewhere', ids[page_size]) end)
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids) and s.user_id is distinct from of_user);
end
$$;


-- schemas/erase/erase.sql
-- Erases a session's content, up to `most` interactions per call; call it again while `left`. The row stays as a
-- tombstone without content, so that no late delivery brings the session back, and its number in the folder stays
-- taken. A further call changes nothing. `dry_run` only counts. `ensure` leaves a tombstone even if there is no such
-- session. Takes {project, session_id, most?, dry_run?, ensure?}. Returns null, or {session_id, erased_at,
-- interactions, participants, feedback, folder_id, session_number, left, proof}; `proof` is a query that counts what
-- remains.
create or replace function turnlog.erase(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- one session's rows, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    dry_run constant boolean := coalesce((request ->> 'dry_run')::boolean, false);
    ensure constant boolean := coalesce((request ->> 'ensure')::boolean, false);
    most constant integer := request ->> 'most';
    stored turnlog.ai_sessions;
    tombstone_at timestamptz;
    interaction_count bigint;
    participant_count bigint;
    feedback_count bigint;
begin
    if dry_run then
        select s.* into stored from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session;
        if stored.id is null and not ensure then
            return null;
        end if;
        tombstone_at := stored.erased_at;
        select count(*) into interaction_count
          from turnlog.ai_interactions as i where i.project = in_project and i.session_id = of_session;
        select count(*) into participant_count
          from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = of_session;
        select count(*) into feedback_count
          from turnlog.ai_feedback as f where f.project = in_project and f.session_id = of_session;
    else
        if ensure then
            insert into turnlog.ai_sessions (project, id, implicit, created_at)
            values (in_project, of_session, true, statement_timestamp())
                on conflict do nothing;
        end if;
        -- lock first, by a statement of its own: the deletes below then see every write that committed before
        select s.* into stored
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = of_session
           for update;
        if not found then
            return null;
        end if;
        tombstone_at := coalesce(stored.erased_at, statement_timestamp());

        if most is null then
            delete from turnlog.ai_interactions as i where i.project = in_project and i.session_id = of_session;
        else
            delete from turnlog.ai_interactions as i
             where i.project = in_project collate "C" and i.ctid = any (array(
                   select d.ctid from turnlog.ai_interactions as d
                    where d.project = in_project and d.session_id = of_session limit most));
        end if;
        get diagnostics interaction_count = row_count;
        delete from turnlog.ai_messages as m where m.project = in_project and m.session_id = of_session;
        delete from turnlog.ai_revisions as r where r.project = in_project and r.session_id = of_session;
        delete from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = of_session;
        get diagnostics participant_count = row_count;
        delete from turnlog.ai_feedback as f where f.project = in_project and f.session_id = of_session;
        get diagnostics feedback_count = row_count;
        update turnlog.ai_sessions as s
           set key = null, user_id = null, claim = null, title = null, tags = null, metadata = null, edited = null,
               started_at = null, earliest_turn_at = null, ended_at = null, scheduled_on = null, erased_at = tombstone_at
         where s.project = in_project and s.id = of_session and s.erased_at is null;
        perform turnlog.erase_spans(in_project, array[of_session]);
        perform turnlog.requeue_session(in_project, of_session);
    end if;

    return jsonb_build_object(
        'session_id', of_session, 'erased_at', tombstone_at, 'interactions', interaction_count,
        'participants', participant_count, 'feedback', feedback_count,
        'left', not dry_run and coalesce(interaction_count = most, false),
        'folder_id', stored.folder_id, 'session_number', stored.session_number,
        'proof', format(
            'select (select count(*) from turnlog.ai_interactions where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_messages where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_revisions where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_session_participants where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_feedback where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_spans where project = %1$L and session_id = %2$L and erased_at is null)'
            ' + (select count(*) from turnlog.ai_sessions where project = %1$L and id = %2$L and (erased_at is null'
            ' or num_nonnulls(key, user_id, claim, title, tags, metadata, edited, started_at, earliest_turn_at, ended_at,'
            ' scheduled_on) > 0))'
            ' as remaining', in_project, of_session));
end
$$;


-- schemas/erase/erase_interaction.sql
-- Erases one interaction with the feedback on it: see turnlog.blank_interactions. A further call changes nothing.
-- `dry_run` only counts. `ensure` leaves a tombstone even of an interaction that isn't stored: {owner, created_at} of its
-- session, which is created if it isn't there.
-- Takes {project, session_id, interaction_id, dry_run?, ensure?}. Returns {session: {session_id, key, erased_at} or
-- null, erased: {interaction_id, erased_at, interactions, participants, feedback, proof} or null}; `erased` is null if
-- there is no such interaction, or the whole session was erased. `proof` is a query that counts what remains.
create or replace function turnlog.erase_interaction(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- one session's rows, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    of_interaction constant uuid := request ->> 'interaction_id';
    dry_run constant boolean := coalesce((request ->> 'dry_run')::boolean, false);
    owner constant text := request #>> '{ensure,owner}';
    stored turnlog.ai_sessions;
    interaction turnlog.ai_interactions;
    step record;
    reference jsonb;
begin
    if dry_run then
        select s.* into stored from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session;
    else
        if request ? 'ensure' then
            insert into turnlog.ai_sessions (project, id, implicit, user_id, claim, created_at)
            values (in_project, of_session, true, case when owner like 'user:%' then substr(owner, 6) end,
                    case when owner like 'token:%' then owner end, (request #>> '{ensure,created_at}')::timestamptz)
                on conflict do nothing;
        end if;
        -- lock first, by a statement of its own: what follows then sees every write that committed before
        select s.* into stored
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = of_session
           for update;
    end if;
    if stored.id is not null then
        reference := jsonb_build_object('session_id', stored.id, 'key', stored.key, 'erased_at', stored.erased_at);
    end if;
    select i.* into interaction
      from turnlog.ai_interactions as i
     where i.project = in_project and i.session_id = of_session and i.id = of_interaction;
    if stored.erased_at is not null or interaction.id is null and not request ? 'ensure' then
        return jsonb_build_object('session', reference, 'erased', null);
    end if;

    if dry_run then
        select (interaction.erased_at is null and interaction.id is not null)::integer::bigint as interactions,
               (select count(*) from turnlog.ai_session_participants as p
                 where p.project = in_project and p.session_id = of_session and p.participant = interaction.participant
                   and p.role is null and p.state is null
                   and not exists (select from turnlog.ai_interactions as i
                                    where i.project = in_project and i.session_id = of_session
                                      and i.participant = p.participant and i.id <> of_interaction)) as participants,
               (select count(*) from turnlog.ai_feedback as f
                 where f.project = in_project and f.session_id = of_session
                   and f.interaction_id = of_interaction) as feedback
          into step;
    else
        if interaction.id is null then
            insert into turnlog.ai_interactions (project, session_id, id, created_at)
            values (in_project, of_session, of_interaction, statement_timestamp());
        end if;
        select b.* into step from turnlog.blank_interactions(in_project, array[of_session], array[of_interaction]) as b;
        if interaction.id is null then
            step.interactions := 0::bigint; -- only the tombstone
        end if;
        select i.* into interaction
          from turnlog.ai_interactions as i
         where i.project = in_project and i.session_id = of_session and i.id = of_interaction;
    end if;
    return jsonb_build_object('session', reference, 'erased', jsonb_build_object(
        'interaction_id', of_interaction, 'erased_at', interaction.erased_at, 'interactions', step.interactions,
        'participants', step.participants, 'feedback', step.feedback,
        'proof', format(
            'select (select count(*) from turnlog.ai_interactions where project = %1$L and session_id = %2$L and id = %3$L'
            ' and (erased_at is null or prompt <> ''"[erased]"'' or response <> ''"[erased]"'''
            ' or num_nonnulls(error, finish_reason, tags, metadata, key, participant) > 0))'
            ' + (select count(*) from turnlog.ai_revisions where project = %1$L and session_id = %2$L'
            ' and interaction_id = %3$L)'
            ' + (select count(*) from turnlog.ai_feedback where project = %1$L and session_id = %2$L'
            ' and interaction_id = %3$L) as remaining', in_project, of_session, of_interaction)));
end
$$;


-- schemas/erase/erase_reads.sql
-- Removes a user from the records of reads, up to `most` of them: the calls that the user made, those that asked for the
-- user, and some of the user's sessions among those that calls showed. Returns how many records it found.
create or replace function turnlog.erase_reads(in_project text, of_user text, ids uuid[], most integer) returns bigint
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- one user's rows, never a whole table, whatever its statistics say
as $$
declare
    found constant uuid[] := array(
        select r.id from turnlog.ai_reads as r where r.project = in_project and r.session_ids && ids limit most);
    affected bigint;
begin
    delete from turnlog.ai_reads as r
     where r.project = in_project and r.id = any (found) and r.session_ids <@ ids;
    -- what showed other sessions, too, is still about them
    update turnlog.ai_reads as r
       set session_ids = array(select s.id from unnest(r.session_ids) as s (id) where s.id <> all (ids))
     where r.project = in_project and r.id = any (found);
    delete from turnlog.ai_reads as r
     where r.project = in_project and r.id = any (array(
           (select d.id from turnlog.ai_reads as d where d.project = in_project and d.user_id = of_user limit most)
           union all
           (select d.id from turnlog.ai_reads as d where d.project = in_project and d.reader = of_user limit most)));
    get diagnostics affected = row_count;
    return affected + cardinality(found);
end
$$;


-- schemas/erase/erase_sessions.sql
-- Erases the content of some sessions, up to `most` interactions altogether. Returns `erased`, the ids of the sessions
-- that are empty now and became tombstones, and how many interactions and participants were deleted.
create or replace function turnlog.erase_sessions(
    in_project text, ids uuid[], most integer,
    out erased uuid[], out interactions bigint, out participants bigint)
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some sessions' rows, never a whole table, whatever its statistics say
as $$
declare
    touched uuid[];  -- sessions whose interactions were deleted
begin
    -- in the order of all writers; the statements below then see every write that committed before
    perform from (
        select s.id from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids)
         order by s.id
           for update) as locked;
    with deleted as (
        delete from turnlog.ai_interactions as i
         where i.project = in_project collate "C" and i.ctid = any (array(
               select d.ctid from turnlog.ai_interactions as d
                where d.project = in_project and d.session_id = any (ids) limit most))
        returning i.session_id
    )
    select count(*), coalesce(array_agg(distinct g.session_id), '{}') into interactions, touched from deleted as g;
    erased := array(
        select s.id from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids) and s.erased_at is null
           and not exists (select from turnlog.ai_interactions as i
                            where i.project = in_project and i.session_id = s.id)
         order by s.id);
    delete from turnlog.ai_messages as m where m.project = in_project and m.session_id = any (erased);
    delete from turnlog.ai_revisions as r where r.project = in_project and r.session_id = any (erased || touched);
    delete from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = any (erased);
    get diagnostics participants = row_count;
    delete from turnlog.ai_feedback as f where f.project = in_project and f.session_id = any (erased);
    update turnlog.ai_sessions as s
       set key = null, user_id = null, claim = null, title = null, tags = null, metadata = null, edited = null,
           started_at = null, earliest_turn_at = null, ended_at = null, scheduled_on = null, erased_at = statement_timestamp()
     where s.project = in_project and s.id = any (erased);
    perform turnlog.erase_spans(in_project, erased);
    perform turnlog.requeue_session(in_project, t.id) from unnest(touched) as t (id);
end
$$;


-- schemas/erase/erase_spans.sql
-- Erases the spans of sessions that the caller has locked and erases: see turnlog.blank_spans. Nothing is added to a trace
-- any more whose own session is one of them.
create or replace function turnlog.erase_spans(in_project text, ids uuid[]) returns void
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some sessions' rows, never a whole table, whatever its statistics say
as $$
declare
    refs text[];
begin
    refs := array(
        select s.trace_id || '/' || s.span_id
          from turnlog.ai_spans as s
         where s.project = in_project and s.session_id = any (ids) and s.erased_at is null);
    if refs = '{}' then
        return;
    end if;
    perform turnlog.blank_spans(in_project, refs);
    update turnlog.ai_traces as t
       set erased_at = coalesce(t.erased_at, statement_timestamp())
     where t.project = in_project and t.session_id = any (ids)
       and t.trace_id = any (array(select distinct split_part(r, '/', 1) from unnest(refs) as r));
end
$$;


-- schemas/erase/erase_user.sql
-- Erases a user's data, up to `most` interactions per call; call it again while `left`. The counts are totals since the
-- call with `begin`, also if an earlier erasure was interrupted.
-- Takes {project, user_id, most, begin?, spooled_sessions?, trusted_sessions?, dry_run?, among?, limit?, after?}.
-- Returns {erased_at, sessions, interactions, participants, feedback, participations, turns, folders, session_ids,
-- left, proof}.
--
-- The user's own sessions are erased as by turnlog.erase. In other sessions the user no longer takes part, the user's
-- feedback is deleted, and the user's interactions are erased as by turnlog.blank_interactions. The user's folders stay
-- without name, key, user and metadata, since tombstones have numbers in them. The names of guests who were merged into
-- the user go, too; late records of theirs are rejected. Records of who read what lose the user and the user's sessions:
-- see turnlog.erase_reads.
-- `spooled_sessions`: those that spooled records assign to the user; `trusted_sessions`: those of them that the service
-- itself assigned, not only a claim. `session_ids`: sessions that became tombstones in this call; in a dry run, those
-- `among` some that are the user's. `dry_run` counts, with `limit` and `after` as in turnlog.count_user.
create or replace function turnlog.erase_user(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- one user's rows, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    of_user constant text := request ->> 'user_id';
    most constant integer := request ->> 'most';
    none constant jsonb :=
        '{"sessions": 0, "interactions": 0, "participants": 0, "feedback": 0, "participations": 0, "turns": 0, "folders": 0}';
    proof constant text := format(
        'select (select count(*) from turnlog.ai_sessions where project = %1$L and user_id = %2$L)'
        ' + (select count(*) from turnlog.ai_session_participants where project = %1$L and participant = %2$L)'
        ' + (select count(*) from turnlog.ai_interactions where project = %1$L and participant = %2$L)'
        ' + (select count(*) from turnlog.ai_feedback where project = %1$L and author = %2$L)'
        ' + (select count(*) from turnlog.ai_spans where project = %1$L and user_id = %2$L)'
        ' + (select count(*) from turnlog.ai_spans where project = %1$L and participant = %2$L)'
        ' + (select count(*) from turnlog.ai_session_folders where project = %1$L and user_id = %2$L)'
        ' + (select count(*) from turnlog.ai_reads where project = %1$L and (user_id = %2$L or reader = %2$L))'
        ' + (select count(*) from turnlog.ai_user_merges where project = %1$L and into_user = %2$L)'
        ' as remaining', in_project, of_user);
    hash bytea;
    marker turnlog.ai_erased_users;
    ids uuid[];
    folder_ids uuid[];
    spooled_sessions uuid[] := '{}';
    step record;
    affected bigint;
    feedback_before bigint;  -- feedback on the sessions being erased
    reads bigint := 0;       -- records of reads that were found in this call
    blanked_sessions uuid[];
    blanked_ids uuid[];
    names text[];            -- the user's, and those of guests who were merged into the user
    has_more boolean := true;
    removed jsonb := '{}';
begin
    if coalesce((request ->> 'dry_run')::boolean, false) then
        ids := array(
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.user_id = of_user
               and s.id = any (array(select a::uuid from jsonb_array_elements_text(
                   coalesce(request -> 'among', '[]')) as a)));
        return none || turnlog.count_user(request) || jsonb_build_object(
            'erased_at', null, 'left', false, 'proof', proof, 'session_ids', ids);
    end if;
    perform turnlog.report_key(request); -- creates the secret that the hash needs
    hash := turnlog.user_hash((select p.secret from turnlog.ai_projects as p where p.project = in_project), of_user);
    if (request ->> 'begin')::boolean then
        insert into turnlog.ai_erased_users as e (project, user_hash, erased_at, counts)
        values (in_project, hash, statement_timestamp(), '{}')
            on conflict (project, user_hash) do update
           set erased_at = excluded.erased_at, finished_at = null,
               counts = case when e.finished_at is null then e.counts else '{}' end;
        -- late records may name one of the user's guests; the names themselves go with the last call
        insert into turnlog.ai_erased_users as e (project, user_hash, erased_at, finished_at, counts)
        select in_project, turnlog.user_hash((select p.secret from turnlog.ai_projects as p where p.project = in_project),
                                             m.guest), statement_timestamp(), statement_timestamp(), '{}'
          from turnlog.ai_user_merges as m
         where m.project = in_project and m.into_user = of_user
         order by 2
            on conflict (project, user_hash) do update set erased_at = excluded.erased_at;
        spooled_sessions := array(
            select w::uuid from jsonb_array_elements_text(coalesce(request -> 'spooled_sessions', '[]')) as w order by 1);
        insert into turnlog.ai_sessions (project, id, implicit, created_at, erased_at)
        select in_project, w.id, true, statement_timestamp(), statement_timestamp()
          from unnest(spooled_sessions) as w (id)
            on conflict do nothing;
        -- step 1 finds them as the user's, in later calls, too; a session with a claim isn't reassigned
        update turnlog.ai_sessions as s
           set user_id = of_user
         where s.project = in_project and s.user_id is null and s.claim is null and s.erased_at is null
           and s.id = any (array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'trusted_sessions', '[]')) as w));
    end if;
    -- one call at a time, so that the counts are right
    select e.* into marker from turnlog.ai_erased_users as e where e.project = in_project and e.user_hash = hash for update;

    -- 1. The user's own sessions.
    ids := array(
        select s.id from turnlog.ai_sessions as s
         where s.project = in_project and s.user_id = of_user and s.erased_at is null
         limit 200);
    if ids <> '{}' then
        -- before the sessions become tombstones, which don't say whose they were
        reads := turnlog.erase_reads(in_project, of_user, ids, most);
    end if;
    if reads >= most then
        ids := '{}'; -- there may be more of them
    elsif ids <> '{}' then
        perform from (  -- in the order of all writers; nothing changes between counting and deleting
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.id = any (ids)
             order by s.id
               for update) as locked;
        select count(*) into feedback_before from turnlog.ai_feedback as f where f.project = in_project and f.session_id = any (ids);
        select e.* into step from turnlog.erase_sessions(in_project, ids, most) as e;
        feedback_before := feedback_before - (select count(*) from turnlog.ai_feedback as f
                             where f.project = in_project and f.session_id = any (ids));
        removed := jsonb_build_object('sessions', cardinality(step.erased), 'interactions', step.interactions,
                                       'participants', step.participants, 'feedback', feedback_before);
        ids := step.erased;
    else
        -- 2. The user's interactions and participations in other sessions.
        ids := array(
            select p.session_id from turnlog.ai_session_participants as p
             where p.project = in_project and p.participant = of_user
             order by p.session_id
             limit 200);
        if ids <> '{}' then
            perform from (
                select s.id from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = any (ids)
                 order by s.id
                   for update) as locked;
            select array_agg(d.session_id), array_agg(d.id)
              into blanked_sessions, blanked_ids
              from (select i.session_id, i.id
                      from turnlog.ai_interactions as i
                     where i.project = in_project and i.session_id = any (ids) and i.participant = of_user
                     limit most) as d;
            select b.* into step from turnlog.blank_interactions(in_project, blanked_sessions, blanked_ids) as b;
            removed := jsonb_build_object('turns', step.interactions, 'feedback', step.feedback);
            delete from turnlog.ai_session_participants as p
             where p.project = in_project and p.session_id = any (ids) and p.participant = of_user
               and not exists (select from turnlog.ai_interactions as i
                                where i.project = in_project and i.session_id = p.session_id
                                  and i.participant = of_user);
            get diagnostics affected = row_count;
            removed := removed || jsonb_build_object('participations', affected + step.participants);
            ids := '{}';
        elsif exists (select from turnlog.ai_feedback as f where f.project = in_project and f.author = of_user) then
            -- 3. The user's feedback in other sessions.
            ids := array(
                select distinct f.session_id from (
                    select f.session_id from turnlog.ai_feedback as f
                     where f.project = in_project and f.author = of_user
                     order by f.session_id
                     limit 200) as f);
            perform from (
                select s.id from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = any (ids)
                 order by s.id
                   for update) as locked;
            delete from turnlog.ai_feedback as f
             where f.project = in_project collate "C" and f.ctid = any (array(
                   select d.ctid from turnlog.ai_feedback as d
                    where d.project = in_project and d.author = of_user and d.session_id = any (ids) limit most));
            get diagnostics affected = row_count;
            removed := jsonb_build_object('feedback', affected);
            ids := '{}';
        else
            -- 4. The user's folders, locked first by a statement of its own: a concurrent fill moves the row
            folder_ids := array(
                select f.id from turnlog.ai_session_folders as f
                 where f.project = in_project and f.user_id = of_user
                 order by f.id
                 limit most
                   for no key update);
            update turnlog.ai_session_folders as f
               set key = null, name = null, user_id = null, metadata = null, erased_at = statement_timestamp()
             where f.project = in_project and f.id = any (folder_ids);
            removed := jsonb_build_object('folders', cardinality(folder_ids));
            -- 5. What is left of the user in spans of other sessions.
            names := of_user || array(
                select m.guest from turnlog.ai_user_merges as m
                 where m.project = in_project and m.into_user = of_user);
            perform turnlog.blank_spans(in_project, array(
                select s.trace_id || '/' || s.span_id from turnlog.ai_spans as s
                 where s.project = in_project and s.user_id = any (names)));
            update turnlog.ai_spans as s
               set participant = null
             where s.project = in_project and s.participant = any (names);
            -- 6. The user's reads of other sessions.
            has_more := folder_ids <> '{}' or turnlog.erase_reads(in_project, of_user, '{}', most) > 0;
            if not has_more then
                delete from turnlog.ai_user_merges as m where m.project = in_project and m.into_user = of_user;
            end if;
        end if;
    end if;

    update turnlog.ai_erased_users as e
       set counts = (
               select coalesce(jsonb_object_agg(n.key, n.value), '{}')
                 from (select c.key, sum(c.value::bigint) as value
                         from (select * from jsonb_each_text(e.counts)
                               union all
                               select * from jsonb_each_text(removed)) as c
                        group by c.key) as n),
           finished_at = case when not has_more then statement_timestamp() end
     where e.project = in_project and e.user_hash = hash
    returning e.* into marker;
    return none || marker.counts || jsonb_build_object(
            'erased_at', marker.erased_at, 'left', has_more, 'proof', proof,
            'session_ids', ids || array(
                select s.id from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = any (spooled_sessions) and s.id <> all (ids) and s.erased_at is not null));
end
$$;


-- schemas/erase/expirable.sql
-- Finds idle sessions: of the next `limit` sessions by id, those that turnlog.idle_sessions returns. `except`: ids of
-- sessions and folders with spooled records.
-- Takes {project, before, limit, after?: session id, except?}. Returns {session_ids, interactions, after}.
create or replace function turnlog.expirable(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    in_use constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    ids uuid[];
    idle uuid[];
begin
    ids := array(
        select s.id
          from turnlog.ai_sessions as s
         where s.project = in_project and s.erased_at is null and s.id > after_id
         order by s.id
         limit page_size + 1);
    idle := turnlog.idle_sessions(in_project, ids[:page_size], (request ->> 'before')::timestamptz, in_use);
    return jsonb_build_object(
        'session_ids', idle,
        'interactions', (select count(*) from turnlog.ai_interactions as i
                          where i.project = in_project and i.session_id = any (idle)),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;


-- schemas/erase/expirable_texts.sql
-- Finds idle sessions with texts: of the next `limit` sessions by id, those that turnlog.idle_sessions and
-- turnlog.sessions_with_texts return, without those idle since `erased_before`, which are erased as a whole. `except` as
-- in turnlog.expirable. Takes {project, before, limit, after?: session id, erased_before?, except?}. Returns
-- {session_ids, interactions: how many have texts, after}.
create or replace function turnlog.expirable_texts(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    erased_before constant timestamptz := request ->> 'erased_before';
    in_use constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    ids uuid[];
    idle uuid[];
begin
    ids := array(
        select s.id
          from turnlog.ai_sessions as s
         where s.project = in_project and s.erased_at is null and s.id > after_id
         order by s.id
         limit page_size + 1);
    -- most sessions are done already, so that comes first
    idle := turnlog.idle_sessions(in_project, turnlog.sessions_with_texts(in_project, ids[:page_size]),
                                  (request ->> 'before')::timestamptz, in_use);
    if erased_before is not null then
        idle := array(select i.id from unnest(idle) as i (id)
                      except select g.id from unnest(turnlog.idle_sessions(in_project, idle, erased_before, in_use)) as g (id)
                      order by id);
    end if;
    return jsonb_build_object(
        'session_ids', idle,
        'interactions', (select count(*) from turnlog.ai_interactions as i
                          where i.project = in_project and i.session_id = any (idle)
                            and i.text_expired_at is null and i.erased_at is null),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;


-- schemas/erase/expire.sql
-- Erases those of some sessions that are still idle since `before`, up to `most` interactions per call; call it again
-- while `left`. Sessions that another transaction has locked are skipped and returned in `locked`; `wait` waits for
-- them. Takes {project, before, session_ids, most, wait?, except?}. Returns {session_ids, interactions, locked, left}.
create or replace function turnlog.expire(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    wanted constant uuid[] := array(select i::uuid from jsonb_array_elements_text(request -> 'session_ids') as i);
    in_use constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    idle record;
    step record;
begin
    select l.* into idle
      from turnlog.lock_idle_sessions(in_project, wanted, (request ->> 'before')::timestamptz, in_use,
                                      coalesce((request ->> 'wait')::boolean, false)) as l;
    select e.* into step from turnlog.erase_sessions(in_project, idle.ids, (request ->> 'most')::integer) as e;
    return jsonb_build_object('session_ids', step.erased, 'interactions', step.interactions, 'locked', idle.locked_ids,
                              'left', cardinality(idle.ids) > cardinality(step.erased));
end
$$;


-- schemas/erase/expire_folders.sql
-- Clears name, key, user and metadata of folders that are older than `before` and have only erased sessions: of the
-- next `limit` folders by id. A dry run also counts those whose sessions would be erased. `except` as in
-- turnlog.expirable. Takes {project, before, limit, after?: folder id, dry_run?, except?}. Returns {folders: how many,
-- after}.
create or replace function turnlog.expire_folders(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some folders and their sessions, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    before constant timestamptz := request ->> 'before';
    dry_run constant boolean := coalesce((request ->> 'dry_run')::boolean, false);
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    in_use constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    ids uuid[];
    folder record;
    found_ids uuid[] := '{}';
begin
    ids := array(
        select f.id from turnlog.ai_session_folders as f
         where f.project = in_project and f.id > after_id
         order by f.id
         limit page_size + 1);
    -- writers that add a session hold the lock of its folder
    if not dry_run then
        perform from (
            select f.id from turnlog.ai_session_folders as f
             where f.project = in_project and f.id = any (ids[:page_size])
             order by f.id
               for no key update) as locked;
    end if;
    for folder in
        select f.id, array(select s.id from turnlog.ai_sessions as s
                            where s.project = in_project and s.folder_id = f.id and s.erased_at is null) as live
          from turnlog.ai_session_folders as f
         where f.project = in_project and f.id = any (ids[:page_size])
           and f.created_at < before and num_nonnulls(f.key, f.name, f.user_id, f.metadata) > 0
           and not exists (select from unnest(in_use) as w (id) where w.id = f.id)
    loop
        if folder.live = '{}' or dry_run
           and cardinality(folder.live) = cardinality(turnlog.idle_sessions(in_project, folder.live, before, in_use)) then
            found_ids := found_ids || folder.id;
        end if;
    end loop;
    if not dry_run then
        update turnlog.ai_session_folders as f
           set key = null, name = null, user_id = null, metadata = null, erased_at = statement_timestamp()
         where f.project = in_project and f.id = any (found_ids);
    end if;
    return jsonb_build_object('folders', cardinality(found_ids),
                              'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;


-- schemas/erase/expire_texts.sql
-- Removes the texts of those of some sessions that are still idle since `before`, up to `most` interactions per call;
-- call it again while `left`. Prompt and response become '[expired]', an error becomes its kind (see
-- turnlog.error_kind), and revisions, comments of feedback and the session's title go. Ids, times, counts, tokens, cost,
-- the status, tags, metadata and values of feedback stay. Such an interaction takes no text any more: see
-- turnlog.interaction_rule. Whatever else comes to hold texts of an interaction is removed here.
-- Locked sessions as in turnlog.expire. Takes {project, before, session_ids, most, wait?, except?}. Returns
-- {session_ids: those that have no texts left, interactions, locked, left}.
create or replace function turnlog.expire_texts(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    wanted constant uuid[] := array(select i::uuid from jsonb_array_elements_text(request -> 'session_ids') as i);
    in_use constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    most constant integer := (request ->> 'most')::integer;
    idle record;
    ids uuid[];
    done uuid[];    -- sessions whose interactions have no texts left
    expired bigint;
begin
    select l.* into idle
      from turnlog.lock_idle_sessions(in_project, wanted, (request ->> 'before')::timestamptz, in_use,
                                      coalesce((request ->> 'wait')::boolean, false)) as l;
    ids := turnlog.sessions_with_texts(in_project, idle.ids);
    update turnlog.ai_interactions as i
       -- what had no prompt or no response still has none: places in the conversation and the status follow from that
       set prompt = case when i.prompt is not null then '"[expired]"'::jsonb end,
           response = case when i.response is not null then '"[expired]"'::jsonb end,
           error = case when i.error <> '' then coalesce(turnlog.error_kind(i.error), ' ') else i.error end,
           context = null, instructions = null, context_end = null, prompt_end = null, response_end = null,
           text_expired_at = statement_timestamp()
     where i.project = in_project collate "C" and i.ctid = any (array(
           select d.ctid from turnlog.ai_interactions as d
            where d.project = in_project and d.session_id = any (ids)
              and d.text_expired_at is null and d.erased_at is null
            limit most));
    get diagnostics expired = row_count;
    done := array(
        select w.id from unnest(ids) as w (id)
         where not exists (select from turnlog.ai_interactions as i
                            where i.project = in_project and i.session_id = w.id
                              and i.text_expired_at is null and i.erased_at is null)
         order by w.id);
    delete from turnlog.ai_messages as m where m.project = in_project and m.session_id = any (done);
    delete from turnlog.ai_revisions as r where r.project = in_project and r.session_id = any (done);
    update turnlog.ai_feedback as f
       set comment = null
     where f.project = in_project and f.session_id = any (done) and f.comment is not null;
    update turnlog.ai_sessions as s
       set title = null, text_expired_at = statement_timestamp()
     where s.project = in_project and s.id = any (done);
    perform turnlog.requeue_session(in_project, d.id) from unnest(done) as d (id);
    return jsonb_build_object('session_ids', done, 'interactions', expired, 'locked', idle.locked_ids,
                              'left', cardinality(ids) > cardinality(done));
end
$$;


-- schemas/erase/idle_sessions.sql
-- Returns those of some sessions that are idle since `before`: nothing of them was received since, by the service's
-- clock, and they aren't scheduled for later. `in_use`: sessions and folders with spooled records. Such records may
-- name a session by its number, so all sessions of such a folder count as in use.
create or replace function turnlog.idle_sessions(
    in_project text, ids uuid[], before timestamptz, in_use uuid[]) returns uuid[]
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
    return (
        select coalesce(array_agg(s.id order by s.id), '{}')
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids) and s.erased_at is null and s.created_at < before
           and coalesce(s.scheduled_on < before::date, true)
           and not exists (select from unnest(in_use) as w (id) where w.id = s.id)
           and not exists (select from unnest(in_use) as w (id) where w.id = s.folder_id)
           and not exists (select from turnlog.ai_interactions as i
                            where i.project = in_project and i.session_id = s.id and i.created_at >= before)
           and not exists (select from turnlog.ai_session_participants as p
                            where p.project = in_project and p.session_id = s.id and p.created_at >= before)
           and not exists (select from turnlog.ai_feedback as f
                            where f.project = in_project and f.session_id = s.id and f.created_at >= before));
end
$$;


-- schemas/erase/lock_idle_sessions.sql
-- Locks some sessions in the order of all writers, and returns `ids`, those that are idle since `before` (see
-- turnlog.idle_sessions): nothing can arrive for them until the transaction ends. Sessions that another transaction has
-- locked are skipped and returned in `locked_ids`; `wait` waits for them.
create or replace function turnlog.lock_idle_sessions(
    in_project text, wanted uuid[], before timestamptz, in_use uuid[], wait boolean, out ids uuid[], out locked_ids uuid[])
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some sessions, never a whole table, whatever its statistics say
as $$
begin
    ids := wanted;
    if wait then
        perform from (
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.id = any (wanted)
             order by s.id
               for update) as locked;
    else
        ids := array(
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.id = any (wanted)
             order by s.id
               for update skip locked);
    end if;
    locked_ids := array(select w.id from unnest(wanted) as w (id) where w.id <> all (ids));
    ids := turnlog.idle_sessions(in_project, ids, before, in_use); -- checked again under the lock
end
$$;


-- schemas/erase/purge_project.sql
-- Deletes a selftest's project without tombstones: up to `limit` interactions per call, then up to `limit` sessions.
-- Raises 22023 for any other project: what people log is only erased by turnlog.erase.
-- Takes {project, limit}. Returns {sessions, interactions, left: remaining rows}.
create or replace function turnlog.purge_project(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- a self-test's rows were never analysed: a plan by statistics would read everyone's
as $$
declare
    in_project constant text := coalesce(request ->> 'project', '');
    most constant integer := request ->> 'limit';
    interaction_count bigint;
    session_count bigint := 0;
begin
    if in_project !~ '^selftest-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        raise exception using errcode = '22023', column = 'project',
            message = format('only a selftest''s project can be purged, not %L', in_project);
    end if;

    -- by row address: without statistics a join was planned as a comparison of each row with each
    delete from turnlog.ai_interactions as i
     where i.project = in_project collate "C" and i.ctid = any (array(
           select d.ctid from turnlog.ai_interactions as d where d.project = in_project limit most));
    get diagnostics interaction_count = row_count;

    if interaction_count < most then
        delete from turnlog.ai_search_queue as q where q.project = in_project;
        delete from turnlog.ai_search as s where s.project = in_project;
        delete from turnlog.ai_feedback as f where f.project = in_project;
        delete from turnlog.ai_reads as r where r.project = in_project;
        delete from turnlog.ai_messages as m where m.project = in_project;
        delete from turnlog.ai_spans as s where s.project = in_project;
        delete from turnlog.ai_traces as t where t.project = in_project;
        delete from turnlog.ai_revisions as r where r.project = in_project;
        delete from turnlog.ai_user_merges as m where m.project = in_project;
        delete from turnlog.ai_session_participants as p where p.project = in_project;
        delete from turnlog.ai_sessions as s
         where s.project = in_project collate "C" and s.ctid = any (array(
               select d.ctid from turnlog.ai_sessions as d where d.project = in_project limit most));
        get diagnostics session_count = row_count;
        delete from turnlog.ai_session_folders as f
         where f.project = in_project and not exists (select from turnlog.ai_sessions as s where s.project = in_project);
        delete from turnlog.ai_erased_users as e where e.project = in_project;
        delete from turnlog.ai_projects as p where p.project = in_project;
    end if;

    return jsonb_build_object(
        'interactions', interaction_count, 'sessions', session_count,
        'left', (select count(*) from turnlog.ai_interactions as i where i.project = in_project)
              + (select count(*) from turnlog.ai_sessions as s where s.project = in_project)
              + (select count(*) from turnlog.ai_session_folders as f where f.project = in_project));
end
$$;


-- schemas/erase/sessions_with_texts.sql
-- Returns those of some sessions that have texts which can expire: of interactions, comments of feedback, a title. A
-- title that people gave after the texts expired stays.
create or replace function turnlog.sessions_with_texts(in_project text, ids uuid[]) returns uuid[]
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
as $$
begin
    return (
        select coalesce(array_agg(s.id order by s.id), '{}')
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids) and s.erased_at is null
           and (s.title is not null and s.text_expired_at is null
                or exists (select from turnlog.ai_interactions as i
                            where i.project = in_project and i.session_id = s.id
                              and i.text_expired_at is null and i.erased_at is null)
                or exists (select from turnlog.ai_feedback as f
                            where f.project = in_project and f.session_id = s.id and f.comment is not null)));
end
$$;


-- schemas/admin/create_key.sql
-- Creates a key. With `first` only if there is no key at all.
-- Takes {key: {project, id, kind, digest: hex, hint, name?, scopes, origins, token_secret, expires_at?}, first?}.
-- Returns the key, or null.
create or replace function turnlog.create_key(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    created turnlog.ai_keys;
begin
    if coalesce((request ->> 'first')::boolean, false) then
        lock table turnlog.ai_keys in share row exclusive mode; -- services that start together create one key
        if exists (select from turnlog.ai_keys) then
            return null;
        end if;
    end if;
    insert into turnlog.ai_keys
           (project, id, family, kind, digest, hint, name, scopes, origins, token_secret, created_at, expires_at)
    select k ->> 'project', (k ->> 'id')::uuid, (k ->> 'id')::uuid, k ->> 'kind', decode(k ->> 'digest', 'hex'),
           k ->> 'hint', k ->> 'name', array(select jsonb_array_elements_text(k -> 'scopes')),
           array(select jsonb_array_elements_text(k -> 'origins')), k ->> 'token_secret', statement_timestamp(),
           (k ->> 'expires_at')::timestamptz
      from (select request -> 'key' as k) as given
    returning * into created;
    return turnlog.key_row(created);
end
$$;


-- schemas/admin/database_id.sql
-- Returns which database this is, as `<log>-<place>`. A service's spool belongs to one: see turnlog.write.
--
-- The log is named once, by its first migration, and a copy has the same name. The place is the server's own identifier
-- and the database's number in it: another address of this database, a pooler or a promoted standby leave both as they
-- are, and rows that were copied into another database are in another place. A copy of the server's files is not.
create or replace function turnlog.database_id() returns text
language plpgsql stable
set search_path = ''
as $$
declare
    server text;
begin
    if has_function_privilege('pg_catalog.pg_control_system()', 'execute') then -- everybody may, unless it was revoked
        select c.system_identifier::text into server from pg_catalog.pg_control_system() as c;
    end if;
    return (
        select left(replace(m.database_id::text, '-', ''), 16) || '-' || left(md5(concat(server, '.', d.oid)), 8)
          from turnlog.migrations as m, pg_catalog.pg_database as d
         where d.datname = current_database()
         order by m.version
         limit 1);
end
$$;


-- schemas/admin/key.sql
-- Looks up a key by its digest and records its last use, to the minute.
-- Takes {digest: hex}. Returns the key with its token_secret, even if it is revoked or expired, or null.
create or replace function turnlog.key(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    wanted constant bytea := decode(request ->> 'digest', 'hex');
    found_key turnlog.ai_keys;
begin
    select k.* into found_key from turnlog.ai_keys as k where k.digest = wanted;
    if found_key.id is null then
        return null;
    end if;
    if found_key.revoked_at is null and not current_setting('transaction_read_only')::boolean
       and coalesce(found_key.last_used_at < statement_timestamp() - interval '1 minute', true) then
        -- a concurrent call already records it: nobody waits for that
        update turnlog.ai_keys as k
           set last_used_at = statement_timestamp()
         where (k.project, k.id) in (select l.project, l.id from turnlog.ai_keys as l
                                      where l.project = found_key.project and l.id = found_key.id
                                        for no key update skip locked);
    end if;
    return turnlog.key_row(found_key) || jsonb_build_object('token_secret', found_key.token_secret);
end
$$;


-- schemas/admin/keys.sql
-- Lists the keys of a project, or of all, oldest first. Takes {project?}. Returns {keys: [...]}.
create or replace function turnlog.keys(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
    return (
        select jsonb_build_object('keys', coalesce(jsonb_agg(
                   to_jsonb(k) - '{digest,token_secret}'::text[] order by k.project, k.created_at, k.id), '[]'))
          from turnlog.ai_keys as k
         where request ->> 'project' is null or k.project = request ->> 'project');
end
$$;


-- schemas/admin/origins.sql
-- Lists the origins of all pages that may use a key, so that a preflight request needs no lookup. Takes {}. Returns
-- {origins: [...]}.
create or replace function turnlog.origins(request jsonb default '{}') returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select jsonb_build_object('origins', coalesce(jsonb_agg(distinct page.origin), '[]'))
          from turnlog.ai_keys as k
         cross join unnest(k.origins) as page (origin)
         where k.revoked_at is null and (k.expires_at is null or k.expires_at > statement_timestamp()));
end
$$;


-- schemas/admin/ping.sql
-- Returns the schema's version, which database this is, the time, and the server's settings on which durability depends.
-- Takes {}.
create or replace function turnlog.ping(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'schema', '20261128000000', -- the version of the release's migration
        'database_id', case -- null: the doctor says which rights the role lacks
            when has_table_privilege('turnlog.migrations', 'select') then turnlog.database_id() end,
        'now', statement_timestamp(),
        'server_version', current_setting('server_version'),
        'read_only', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean,
        'fsync', current_setting('fsync'),
        'synchronous_commit', current_setting('synchronous_commit'),
        'full_page_writes', current_setting('full_page_writes'),
        'transaction_isolation', current_setting('transaction_isolation'),
        'rows_hidden', row_security_active('turnlog.ai_sessions'))
$$;


-- schemas/admin/projects.sql
-- Lists the projects with records, keys or settings. Takes {project?}. Returns {projects: [{project, keep_days,
-- keep_text_days, expired_at, now}]}.
create or replace function turnlog.projects(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- a look for each project, never a whole table
as $$
declare
    now constant timestamptz := statement_timestamp();
    previous text;
    named text[] := '{}';
begin
    loop
        previous := (select s.project from turnlog.ai_sessions as s
                 where previous is null or s.project > previous order by s.project limit 1);
        exit when previous is null;
        named := named || previous;
    end loop;
    named := named || array(select p.project from turnlog.ai_projects as p)
                   || array(select k.project from turnlog.ai_keys as k);
    return (
        select jsonb_build_object('projects', coalesce(jsonb_agg(
                   jsonb_build_object('project', e.project, 'keep_days', p.keep_days,
                                      'keep_text_days', p.keep_text_days, 'expired_at', p.expired_at,
                                      'now', now)
                   order by e.project), '[]'))
          from (select distinct n.project from unnest(named) as n (project)) as e
          left join turnlog.ai_projects as p on p.project = e.project
         where request ->> 'project' is null or e.project = request ->> 'project');
end
$$;


-- schemas/admin/report_key.sql
-- Returns the key that signs a project's reports, created at its first use. Takes {project}. Returns {key: hex}.
create or replace function turnlog.report_key(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
begin
    insert into turnlog.ai_projects (project, secret)
    values (request ->> 'project', sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')))
        on conflict do nothing;
    return (
        select jsonb_build_object('key', encode(sha256(p.secret || convert_to('report', 'UTF8')), 'hex'))
          from turnlog.ai_projects as p
         where p.project = request ->> 'project');
end
$$;


-- schemas/admin/revoke_key.sql
-- Revokes a key; a further call changes nothing. Takes {id}. Returns the key, or null.
create or replace function turnlog.revoke_key(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    now constant timestamptz := statement_timestamp();
    revoked turnlog.ai_keys;
begin
    update turnlog.ai_keys as k
       set revoked_at = coalesce(k.revoked_at, now)
     where k.id = (request ->> 'id')::uuid
    returning k.* into revoked;
    return case when revoked.id is not null then turnlog.key_row(revoked) end;
end
$$;


-- schemas/admin/rotate_key.sql
-- Creates a key with the rights of another one, which expires after `overlap_s` seconds.
-- Takes {id, overlap_s, key: {id, digest: hex, hint}}. Returns {key, replaced}, or null if there is no such active key.
create or replace function turnlog.rotate_key(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    ends_at constant timestamptz := statement_timestamp() + make_interval(secs => (request ->> 'overlap_s')::float8);
    replaced turnlog.ai_keys;
    created turnlog.ai_keys;
begin
    select k.* into replaced from turnlog.ai_keys as k where k.id = (request ->> 'id')::uuid for update;
    if replaced.id is null or replaced.revoked_at is not null or replaced.expires_at <= statement_timestamp() then
        return null;
    end if;
    insert into turnlog.ai_keys
           (project, id, family, kind, digest, hint, name, scopes, origins, token_secret, created_at, expires_at)
    values (replaced.project, (request #>> '{key,id}')::uuid, replaced.family, replaced.kind,
            decode(request #>> '{key,digest}', 'hex'), request #>> '{key,hint}', replaced.name, replaced.scopes,
            replaced.origins, replaced.token_secret, statement_timestamp(), replaced.expires_at)
    returning * into created;
    update turnlog.ai_keys as k
       set expires_at = least(k.expires_at, ends_at)
     where k.project = replaced.project and k.id = replaced.id
    returning k.* into replaced;
    return jsonb_build_object('key', turnlog.key_row(created), 'replaced', turnlog.key_row(replaced));
end
$$;


-- schemas/admin/set_project.sql
-- Sets for how many days a project's sessions, and their texts, are kept; null for the service's own setting. `expired`:
-- records that `turnlog expire` runs now. What isn't named stays as it is.
-- Takes {project, keep_days?, keep_text_days?, expired?}. Returns {project, keep_days, keep_text_days}.
create or replace function turnlog.set_project(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    stored turnlog.ai_projects;
begin
    perform turnlog.report_key(request); -- it inserts the project's row
    update turnlog.ai_projects as p
       set keep_days = case when request ? 'keep_days' then (request ->> 'keep_days')::integer else p.keep_days end,
           keep_text_days = case when request ? 'keep_text_days' then (request ->> 'keep_text_days')::integer
                                 else p.keep_text_days end,
           expired_at = case when request ? 'expired' then statement_timestamp() else p.expired_at end
     where p.project = request ->> 'project'
    returning p.* into stored;
    return jsonb_build_object('project', stored.project, 'keep_days', stored.keep_days,
                              'keep_text_days', stored.keep_text_days);
end
$$;


-- schemas/search/index_pending.sql
-- Indexes pending interactions for about `ms` milliseconds. Takes {ms}. Returns {indexed, left: more are pending}.
-- Several may run at once: each takes rows that no other has locked, and waits for nobody, so it can't deadlock.
-- Writers of the rows being indexed wait, so it checks the clock after each text and takes few bytes at once.
create or replace function turnlog.index_pending(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off
as $$
declare
    ends_at constant timestamptz := clock_timestamp() + make_interval(secs => (request ->> 'ms')::double precision / 1000);
    at_once constant integer := 100;       -- interactions; those of one session are indexed as one text
    bytes_at_once constant integer := 25000;
    short constant integer := 5000;        -- bytes; a longer text is indexed by itself
    longest constant integer := 50000;     -- bytes; indexing takes about 0.1 s on a busy core, a longer text matches anything
    unread constant integer := 500000;     -- bytes as stored; a longer text isn't even read
    in_project text;                       -- one project at a time: the queue of another may be on another machine
    claimed turnlog.ai_search_queue[];
    one record;
    said record;
    indexed_sessions uuid[];
    indexed_parts uuid[];
    indexed_ids uuid[];
    content text;                             -- '': nothing to index; null: too long
    texts text[];
    bytes integer;
    indexed integer := 0;
begin
    loop
        if in_project is null or coalesce(cardinality(claimed), 0) = 0 then
            in_project := (select q.project from turnlog.ai_search_queue as q
                            where in_project is null or q.project > in_project
                            order by q.project limit 1);
            exit when in_project is null;
        end if;
        claimed := array(
            select q from turnlog.ai_search_queue as q
             where q.project = in_project
             order by q.session_id, q.part
             limit at_once
               for update skip locked);
        continue when cardinality(claimed) = 0;

        texts := '{}';
        bytes := 0;
        indexed_sessions := '{}';
        indexed_parts := '{}';
        indexed_ids := '{}';
        for one in
            select t.session_id, t.part, i.id
              from unnest(claimed) with ordinality as t
             cross join lateral unnest(t.ids) with ordinality as i (id, n)
             order by t.ordinality, i.n
             limit at_once
        loop
            exit when cardinality(texts) > 0 and (bytes >= bytes_at_once or clock_timestamp() > ends_at);
            select case when stored_bytes.bytes <= unread then i.prompt end as prompt,
                   case when stored_bytes.bytes <= unread then i.response end as response,
                   i.context_end, i.prompt_end, i.response_end,
                   case when i.context is null then i.instructions end as instructions, stored_bytes.bytes <= unread as is_read
              into said
              from turnlog.ai_interactions as i
             cross join lateral (
                   select coalesce(pg_column_size(i.prompt), 0) + coalesce(pg_column_size(i.response), 0)
                          + coalesce((select m.bytes from turnlog.ai_messages as m
                                       where m.project = i.project and m.session_id = i.session_id
                                         and m.id = coalesce(i.response_end, i.prompt_end)), 0) as bytes) as stored_bytes
             where i.project = in_project and i.session_id = one.session_id and i.id = one.id
                   and i.erased_at is null and i.text_expired_at is null
                   and not exists (select from turnlog.ai_sessions as s
                                    where s.project = in_project and s.id = i.session_id and s.erased_at is not null);
            content := case when not found then ''
                when said.is_read then concat_ws(E'\n',
                    turnlog.plain_text(turnlog.content(
                        said.prompt, in_project, one.session_id, said.prompt_end, said.context_end, said.response_end,
                        said.instructions)),
                    turnlog.plain_text(turnlog.content(
                        said.response, in_project, one.session_id, said.response_end, said.prompt_end))) end;
            if octet_length(content) > longest then
                content := null;
            else
                content := turnlog.fold(content);
                bytes := bytes + coalesce(octet_length(content), 0);
            end if;
            texts := array_append(texts, content);
            indexed_sessions := indexed_sessions || one.session_id;
            indexed_parts := indexed_parts || one.part;
            indexed_ids := indexed_ids || one.id;
        end loop;

        insert into turnlog.ai_search (project, session_id, part, grams)
        select in_project, parts.session_id, gen_random_uuid(),
               case when parts.content is null then '{-1}' else turnlog.grams(parts.content) end
          from (select t.session_id, string_agg(t.content, E'\n') as content
                  from unnest(indexed_sessions, indexed_ids, texts) as t (session_id, id, content)
                 where t.content is null or t.content <> ''
                 group by t.session_id, t.content is null, case when octet_length(t.content) > short then t.id end) as parts
         where parts.content is null or octet_length(parts.content) >= 3;

        -- ids of a queue row are indexed in order, so their number shows which remain
        with done as (
            select d.session_id, d.part, count(*)::integer as count
              from unnest(indexed_sessions, indexed_parts) as d (session_id, part)
             group by d.session_id, d.part
        ), gone as (
            delete from turnlog.ai_search_queue as q
             using done
             where q.project = in_project and q.session_id = done.session_id and q.part = done.part
               and cardinality(q.ids) <= done.count
        )
        update turnlog.ai_search_queue as q
           set ids = array(select u.id from unnest(q.ids) with ordinality as u (id, n) where u.n > done.count order by u.n)
          from done
         where q.project = in_project and q.session_id = done.session_id and q.part = done.part
           and cardinality(q.ids) > done.count;
        indexed := indexed + cardinality(indexed_ids);
        exit when clock_timestamp() > ends_at;
    end loop;
    return jsonb_build_object('indexed', indexed, 'left', exists (select q.project from turnlog.ai_search_queue as q));
end
$$;


-- schemas/search/reindex.sql
-- Queues the next `limit` interactions of all projects for the index, in the order of their ids, and removes the index
-- rows of their sessions, also of sessions that no longer exist. A session that is only queued in part is marked as
-- matching anything. The interactions are read last, so that none written or indexed meanwhile is missed. Takes {limit,
-- after?: {project, session_id, id}}. Returns {queued, after}; `after` is null at the end.
create or replace function turnlog.reindex(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set plan_cache_mode = 'force_custom_plan' -- a plan for any place to go on from would begin at the first one
set enable_seqscan = off
set lock_timeout = '3s'
as $$
declare
    page_size constant integer := (request ->> 'limit')::integer;
    partial constant uuid := '00000000-0000-0000-0000-000000000000'; -- this part marks a session that is only queued in part
    after_project constant text := request #>> '{after,project}';
    after_session constant uuid := request #>> '{after,session_id}';
    after_id constant uuid := request #>> '{after,id}';
    last_project text;
    last_session uuid;
    last_id uuid;
    queued integer;
    goes_on boolean;
begin
    select page.project, page.session_id, page.id
      into last_project, last_session, last_id
      from (select i.project, i.session_id, i.id
              from turnlog.ai_interactions as i
             where (after_id is null or (i.project, i.session_id, i.id) > (after_project, after_session, after_id))
                   and i.id <> '00000000-0000-0000-0000-000000000000'
             order by i.project, i.session_id, i.id
            offset page_size - 1
             limit 1) as page;
    goes_on := last_id is not null;

    delete from turnlog.ai_search_queue as q
     where (after_id is null or (q.project, q.session_id) > (after_project, after_session))
           and (not goes_on or (q.project, q.session_id) <= (last_project, last_session));
    delete from turnlog.ai_search as s
     where s.project = after_project and s.session_id = after_session and s.part = partial;
    delete from turnlog.ai_search as s
     where (after_id is null or (s.project, s.session_id) > (after_project, after_session))
           and (not goes_on or (s.project, s.session_id) <= (last_project, last_session));
    with inserted as (
        insert into turnlog.ai_search_queue (project, session_id, ids)
        select i.project, i.session_id, array_agg(i.id order by i.id)
          from turnlog.ai_interactions as i
         where (after_id is null or (i.project, i.session_id, i.id) > (after_project, after_session, after_id))
               and (not goes_on or (i.project, i.session_id, i.id) <= (last_project, last_session, last_id))
               and i.id <> '00000000-0000-0000-0000-000000000000'
         group by i.project, i.session_id
        returning ids
    )
    select coalesce(sum(cardinality(n.ids)), 0) into queued from inserted as n;
    if goes_on then
        insert into turnlog.ai_search (project, session_id, part, grams)
        values (last_project, last_session, partial, '{-1}')
            on conflict (project, session_id, part) do nothing;
    end if;
    return jsonb_build_object('queued', queued, 'after', case when goes_on then jsonb_build_object(
        'project', last_project, 'session_id', last_session, 'id', last_id) end);
end
$$;


-- schemas/search/requeue_session.sql
-- Removes a session from the search index and queues its interactions that have texts again, unless it is erased. The queue's rows are
-- deleted first: a process that indexes them has committed then. The interactions are read last, so that none written
-- meanwhile is missed. A session with very many interactions is marked as matching anything instead: queueing it all at
-- each step of an erasure would take ever longer.
create or replace function turnlog.requeue_session(in_project text, of_session uuid) returns void
language plpgsql volatile
set search_path = ''
set enable_seqscan = off
as $$
declare
    most constant integer := 1000; -- interactions; a longer session isn't queued
    ids uuid[];
begin
    delete from turnlog.ai_search_queue as q where q.project = in_project and q.session_id = of_session;
    delete from turnlog.ai_search as s where s.project = in_project and s.session_id = of_session;
    if exists (select from turnlog.ai_sessions as s
                where s.project = in_project and s.id = of_session and s.erased_at is not null) then
        return;
    end if;
    ids := array(
        select i.id from turnlog.ai_interactions as i
         where i.project = in_project and i.session_id = of_session and i.id <> '00000000-0000-0000-0000-000000000000'
           and i.erased_at is null and i.text_expired_at is null
         order by i.id
         limit most + 1);
    if cardinality(ids) > most then
        insert into turnlog.ai_search (project, session_id, part, grams)
        values (in_project, of_session, gen_random_uuid(), '{-1}');
    elsif cardinality(ids) > 0 then
        insert into turnlog.ai_search_queue (project, session_id, ids) values (in_project, of_session, ids);
    end if;
end
$$;


-- schemas/audit/add_read.sql
-- Records that somebody read conversations. A repeated call adds nothing.
-- Takes {project, id, kind, key_id, reader, call, user_id, session_ids}. Returns {}.
create or replace function turnlog.add_read(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set lock_timeout = '3s'
as $$
begin
    insert into turnlog.ai_reads (project, id, at, kind, key_id, reader, call, user_id, session_ids)
    values (request ->> 'project', (request ->> 'id')::uuid, statement_timestamp(), request ->> 'kind',
            (request ->> 'key_id')::uuid, request ->> 'reader', request ->> 'call', request ->> 'user_id',
            array(select s::uuid from jsonb_array_elements_text(request -> 'session_ids') as s))
        on conflict do nothing;
    return '{}';
end
$$;


-- schemas/audit/expire_reads.sql
-- Deletes records of reads from before a time, up to `limit` a call; call it again while `left`.
-- Takes {project, before, limit, dry_run?}. Returns {reads, left}. A dry run counts all.
create or replace function turnlog.expire_reads(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the oldest rows by their index, whatever the table's statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    before constant timestamptz := request ->> 'before';
    most constant integer := request ->> 'limit';
    affected bigint;
begin
    if coalesce((request ->> 'dry_run')::boolean, false) then
        return jsonb_build_object('left', false, 'reads', (
            select count(*) from turnlog.ai_reads as r where r.project = in_project and r.at < before));
    end if;
    delete from turnlog.ai_reads as r
     where r.project = in_project and r.id = any (array(
           select d.id from turnlog.ai_reads as d where d.project = in_project and d.at < before order by d.at limit most));
    get diagnostics affected = row_count;
    return jsonb_build_object('reads', affected, 'left', affected = most);
end
$$;


-- schemas/audit/reads.sql
-- Lists who read conversations, newest first.
-- Takes {project, limit, session_id?, user_id?, reader?, from?, to?, after?: {at, id}}. Returns {reads, after}.
-- `user_id`: calls that asked for this user, or showed one of the newest 10,000 sessions of this user. `reader`: the id
-- of a key, or a user. `after` is null at the end.
create or replace function turnlog.reads(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan' -- so that the filters given, and only those, choose the index
set enable_seqscan = off
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := request ->> 'limit';
    of_session constant uuid := request ->> 'session_id';
    of_user constant text := request ->> 'user_id';
    by_reader constant text := request ->> 'reader';
    by_key constant uuid := case when by_reader ~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' then by_reader end;
    -- of whose conversations: few of all reads, so these are found first, and sorted then
    of_some constant boolean := of_session is not null or of_user is not null;
    not_before constant timestamptz := request ->> 'from';
    before constant timestamptz := request ->> 'to';
    after_at constant timestamptz := request #>> '{after,at}';
    after_id constant uuid := request #>> '{after,id}';
    of_sessions uuid[];
begin
    if of_user is not null then
        of_sessions := array(
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.user_id = of_user and s.erased_at is null
             order by coalesce(s.started_at, s.earliest_turn_at, s.created_at) desc, s.id desc
             limit 10000);
    end if;
    return (
        with found as (
            (select r.* from turnlog.ai_reads as r
              where r.project = in_project and not of_some and by_reader is null
                and (not_before is null or r.at >= not_before) and (before is null or r.at < before)
                and (after_at is null or (r.at, r.id) < (after_at, after_id))
              order by r.at desc, r.id desc limit page_size + 1)
             union all
            (select r.* from turnlog.ai_reads as r
              where r.project = in_project and not of_some and r.reader = by_reader
                and (not_before is null or r.at >= not_before) and (before is null or r.at < before)
                and (after_at is null or (r.at, r.id) < (after_at, after_id))
              order by r.at desc, r.id desc limit page_size + 1)
             union all
            (select r.* from turnlog.ai_reads as r
              where r.project = in_project and not of_some and r.key_id = by_key and r.reader is distinct from by_reader
                and (not_before is null or r.at >= not_before) and (before is null or r.at < before)
                and (after_at is null or (r.at, r.id) < (after_at, after_id))
              order by r.at desc, r.id desc limit page_size + 1)
             union all
            select r.*
              from (select r.* from turnlog.ai_reads as r
                     where r.project = in_project and of_some
                       and (of_session is null or r.session_ids @> array[of_session])
                       and (of_user is null or r.user_id = of_user or r.session_ids && of_sessions)
                    offset 0) as r
             where (by_reader is null or r.reader = by_reader or r.key_id = by_key)
               and (not_before is null or r.at >= not_before) and (before is null or r.at < before)
               and (after_at is null or (r.at, r.id) < (after_at, after_id))
        ), page as materialized (
            select f.* from found as f order by f.at desc, f.id desc limit page_size + 1
        ), shown as (
            select p.* from page as p order by p.at desc, p.id desc limit page_size
        )
        select jsonb_build_object(
            'reads', (
                select coalesce(jsonb_agg(jsonb_build_object(
                           'id', s.id, 'at', s.at, 'kind', s.kind, 'key_id', s.key_id, 'reader', s.reader,
                           'call', s.call, 'user_id', s.user_id, 'session_ids', to_jsonb(s.session_ids))
                           order by s.at desc, s.id desc), '[]')
                  from shown as s),
            'after', (
                select jsonb_build_object('at', s.at, 'id', s.id)
                  from shown as s
                 where (select count(*) from page) > page_size
                 order by s.at, s.id limit 1)));
end
$$;


-- schemas/doctor/access.sql
-- Reports who may use these tables and Turnlog's functions, public.turnlog among them. Takes {tables: [name ...]}.
-- Returns caller: {name, is_owner, is_superuser, bypasses_rls}; roles: Supabase's roles that exist, with their
-- attributes; granted: rights of others than the owner, service_role and the caller; reached: what anon and
-- authenticated can do, however they come by it; lacking: rights that service_role or the caller need and don't have.
create or replace function turnlog.access(request jsonb) returns jsonb
language sql stable
set search_path = ''
as $$
    with objects as materialized (
        select 'table' as kind, c.oid, c.oid::regclass::text as name, c.relowner as owner, c.relacl as rights,
               array['SELECT', 'INSERT', 'UPDATE', 'DELETE'] as needed,
               array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'] as possible
          from pg_catalog.pg_class as c
         where c.relnamespace = 'turnlog'::regnamespace and request -> 'tables' ? c.relname
        union all
        select 'function', p.oid, p.oid::regprocedure::text, p.proowner,
               coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)), array['EXECUTE'], array['EXECUTE']
          from pg_catalog.pg_proc as p
         where p.pronamespace = 'turnlog'::regnamespace
            or p.oid = to_regprocedure('public.turnlog(text, jsonb)')
               and exists (select from pg_catalog.pg_roles where rolname = 'service_role')
    ), grants as materialized (
        select o.kind, o.name, o.owner, null as column, e.grantee, e.privilege_type
          from objects as o
         cross join pg_catalog.aclexplode(o.rights) as e
        union all
        select o.kind, o.name, o.owner, a.attname, e.grantee, e.privilege_type
          from objects as o
          join pg_catalog.pg_attribute as a on a.attrelid = o.oid and o.kind = 'table'
         cross join pg_catalog.aclexplode(a.attacl) as e
    ), roles as materialized (
        select r.oid, r.rolname as name, r.rolsuper, r.rolbypassrls
          from pg_catalog.pg_roles as r
         where r.rolname in ('anon', 'authenticated', 'service_role')
    ), abilities as materialized (
        select r.name as role, o.kind, o.name, p.privilege, p.privilege = any (o.needed) as needed,
               case when o.kind = 'function' then pg_catalog.has_function_privilege(r.oid, o.oid, p.privilege)
                    when p.privilege in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
                        then pg_catalog.has_table_privilege(r.oid, o.oid, p.privilege)
                             or r.name in ('anon', 'authenticated')
                                and pg_catalog.has_any_column_privilege(r.oid, o.oid, p.privilege)
                    else pg_catalog.has_table_privilege(r.oid, o.oid, p.privilege) end as has
          from (select oid, name from roles
                union
                select oid, rolname from pg_catalog.pg_roles where rolname = current_user) as r
         cross join objects as o
         cross join unnest(o.possible) as p (privilege)
    )
    select jsonb_build_object(
        'caller', (
            select jsonb_build_object(
                       'name', r.rolname, 'is_superuser', r.rolsuper, 'bypasses_rls', r.rolbypassrls,
                       'is_owner', (select coalesce(bool_and(pg_catalog.pg_has_role(r.oid, o.owner, 'usage')), true)
                                      from objects as o))
              from pg_catalog.pg_roles as r
             where r.rolname = current_user),
        'roles', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'name', r.name, 'is_superuser', r.rolsuper, 'bypasses_rls', r.rolbypassrls,
                       'lacks_schemas', array(
                           select n.nspname
                             from pg_catalog.pg_namespace as n
                            where n.nspname in ('public', 'turnlog')
                              and not pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage')
                            order by n.nspname),
                       'member_of', array(select pg_catalog.pg_get_userbyid(m.roleid) from pg_catalog.pg_auth_members as m
                                           where m.member = r.oid order by 1))
                       order by r.name), '[]')
              from roles as r),
        'granted', (
            select coalesce(jsonb_agg(to_jsonb(g) order by g.name, g.role), '[]')
              from (select g.kind, g.name, g.column, coalesce(r.rolname, 'public') as role,
                           array_agg(distinct g.privilege_type order by g.privilege_type) as privileges
                      from grants as g
                      left join pg_catalog.pg_roles as r on r.oid = g.grantee
                     where g.grantee = 0
                        or r.rolname not in ('service_role', current_user)
                           and not r.rolsuper and not pg_catalog.pg_has_role(r.oid, g.owner, 'member')
                     group by g.kind, g.name, g.column, r.rolname) as g),
        'reached', (
            select coalesce(jsonb_agg(to_jsonb(a) order by a.name, a.role), '[]')
              from (select a.kind, a.name, a.role, array_agg(a.privilege order by a.privilege) as privileges
                      from abilities as a
                     where a.has and a.role in ('anon', 'authenticated')
                     group by a.kind, a.name, a.role) as a),
        'lacking', (
            select coalesce(jsonb_agg(to_jsonb(a) order by a.name, a.role), '[]')
              from (select a.kind, a.name, a.role, array_agg(a.privilege order by a.privilege) as privileges
                      from abilities as a
                     where a.needed and not a.has and (a.role = 'service_role' or a.role = current_user)
                     group by a.kind, a.name, a.role) as a))
$$;


-- schemas/doctor/catalogue.sql
-- Describes the schema for comparison: {tables, columns, constraints, indexes, triggers, policies, functions,
-- comments}, each name -> definition. Takes {tables?: [name ...]}; all tables by default. Where Supabase's service_role
-- exists, public.turnlog belongs to it, and so does any other function that Supabase's API could take for it. The
-- comments are those that mark what is ours.
-- The result is the same on every version of PostgreSQL: not-null constraints, which have names since 18, are part of
-- their columns, and a function's text is a hash that doesn't depend on line ends.
create or replace function turnlog.catalogue(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    with ours as materialized (
        select c.oid, c.relname::text as name, c.relrowsecurity, c.relforcerowsecurity, c.relpersistence
          from pg_catalog.pg_class as c
         where c.relnamespace = 'turnlog'::regnamespace and c.relkind in ('r', 'p')
           and (request -> 'tables' is null or request -> 'tables' ? c.relname)
    ), shape (kind, name, definition) as (
        select 'tables', o.name, jsonb_build_object(
                   'row_security', o.relrowsecurity, 'forced', o.relforcerowsecurity,
                   'logged', o.relpersistence = 'p')
          from ours as o
        union all
        select 'columns', o.name || '.' || a.attname, jsonb_build_object(
                   'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
                   'not_null', a.attnotnull,
                   'default', pg_catalog.pg_get_expr(d.adbin, d.adrelid),
                   'generated', nullif(concat(a.attgenerated, a.attidentity), ''))
          from ours as o
          join pg_catalog.pg_attribute as a on a.attrelid = o.oid and a.attnum > 0 and not a.attisdropped
          left join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
        union all
        select 'constraints', o.name || '.' || k.conname, to_jsonb(concat(
                   pg_catalog.pg_get_constraintdef(k.oid),
                   (select ' INVALID INDEX' from pg_catalog.pg_index as i
                     where i.indexrelid = k.conindid and k.contype <> 'f' and not (i.indisvalid and i.indisready)),
                   (select ' DISABLED' where exists (
                        select from pg_catalog.pg_trigger as t where t.tgconstraint = k.oid and t.tgenabled in ('D', 'R')))))
          from ours as o
          join pg_catalog.pg_constraint as k on k.conrelid = o.oid and k.contype not in ('n', 't')
        union all
        select 'indexes', o.name || '.' || n.relname, to_jsonb(concat(
                   pg_catalog.pg_get_indexdef(i.indexrelid),
                   (select ' INVALID' where not (i.indisvalid and i.indisready))))
          from ours as o
          join pg_catalog.pg_index as i on i.indrelid = o.oid
          join pg_catalog.pg_class as n on n.oid = i.indexrelid
         where not exists (select from pg_catalog.pg_constraint as k
                            where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x'))
        union all
        select 'triggers', o.name || '.' || t.tgname, to_jsonb('trigger: ' || pg_catalog.pg_get_triggerdef(t.oid))
          from ours as o
          join pg_catalog.pg_trigger as t on t.tgrelid = o.oid and not t.tgisinternal
        union all
        select 'triggers', o.name || '.' || r.rulename, to_jsonb('rule: ' || pg_catalog.pg_get_ruledef(r.oid))
          from ours as o
          join pg_catalog.pg_rewrite as r on r.ev_class = o.oid
        union all
        select 'policies', o.name || '.' || p.polname, to_jsonb(concat_ws(' ',
                   p.polcmd, array(select pg_catalog.pg_get_userbyid(r) from unnest(p.polroles) as r order by 1)::text,
                   pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)))
          from ours as o
          join pg_catalog.pg_policy as p on p.polrelid = o.oid
        union all
        select 'functions', p.oid::regprocedure::text, jsonb_build_object(
                   'arguments', pg_catalog.pg_get_function_arguments(p.oid),
                   'result', pg_catalog.pg_get_function_result(p.oid),
                   'traits', concat_ws(' ', l.lanname, 'kind ' || p.prokind::text, 'volatility ' || p.provolatile::text,
                       'parallel ' || p.proparallel::text, case when p.prosecdef then 'security definer' end,
                       case when p.proisstrict then 'strict' end),
                   'settings', array(
                       select lower(split_part(s, '=', 1)) || '=' || substr(s, strpos(s, '=') + 1)
                         from unnest(p.proconfig) as s order by 1),
                   'body', encode(sha256(convert_to(replace(p.prosrc, E'\r\n', E'\n'), 'UTF8')), 'hex'))
          from pg_catalog.pg_proc as p
          join pg_catalog.pg_language as l on l.oid = p.prolang
         where p.pronamespace = 'turnlog'::regnamespace
            or p.pronamespace = to_regnamespace('public') and p.proname = 'turnlog'
               and p.proargnames @> array['operation', 'request']
               and exists (select from pg_catalog.pg_roles where rolname = 'service_role')
        union all
        select 'comments', 'schema turnlog',
               to_jsonb(pg_catalog.obj_description('turnlog'::regnamespace, 'pg_namespace'))
        union all
        select 'comments', 'function public.turnlog(text, jsonb)',
               to_jsonb(pg_catalog.obj_description(to_regprocedure('public.turnlog(text, jsonb)'), 'pg_proc'))
         where exists (select from pg_catalog.pg_roles where rolname = 'service_role')
    )
    select jsonb_object_agg(kinds.kind, coalesce(
               (select jsonb_object_agg(s.name, s.definition) from shape as s where s.kind = kinds.kind), '{}'))
      from unnest(array['tables', 'columns', 'constraints', 'indexes', 'triggers', 'policies', 'functions', 'comments'])
           as kinds (kind)
$$;


-- schemas/doctor/identities.sql
-- Finds rows of Turnlog's tables that break their identity, whatever the constraints say.
-- Takes {foreign: [{table, columns, references, referenced}], keys: [{table, columns, required}], names: [{table,
-- column}]}. Returns {orphans: [{table, references, rows, examples}], incomplete: [{table, columns, rows}], repeated:
-- [{table, columns, values, examples}], placeholders: [{table, column, rows}], undead: interactions of erased
-- sessions}; only findings are listed.
create or replace function turnlog.identities(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
    entry jsonb;
    answer jsonb := '{"orphans": [], "incomplete": [], "repeated": [], "placeholders": [], "undead": 0}';
    columns text;
    found bigint;
    examples jsonb;
begin
    for entry in select * from jsonb_array_elements(request -> 'foreign') loop
        execute format(
            'select count(*), jsonb_agg(distinct to_jsonb(o.identity)) filter (where o.n <= 3)
               from (select jsonb_build_array(%3$s) as identity, row_number() over (order by %3$s) as n
                       from turnlog.%1$I as c
                      where (%3$s) is not null and not exists (select from turnlog.%2$I as p where (%4$s) = (%3$s))) as o',
            entry ->> 'table', entry ->> 'references',
            (select string_agg(format('c.%I', f), ', ') from jsonb_array_elements_text(entry -> 'columns') as f),
            (select string_agg(format('p.%I', f), ', ') from jsonb_array_elements_text(entry -> 'referenced') as f))
           into found, examples;
        if found > 0 then
            answer := jsonb_insert(answer, '{orphans,-1}', entry || jsonb_build_object('rows', found, 'examples', examples), true);
        end if;
    end loop;

    for entry in select * from jsonb_array_elements(request -> 'keys') loop
        columns := (select string_agg(format('c.%I', f), ', ') from jsonb_array_elements_text(entry -> 'columns') as f);
        if (entry ->> 'required')::boolean then
            execute format('select count(*) from turnlog.%I as c where not ((%s) is not null)', entry ->> 'table', columns)
               into found;
            if found > 0 then
                answer := jsonb_insert(answer, '{incomplete,-1}', entry || jsonb_build_object('rows', found), true);
            end if;
        end if;
        execute format(
            'select count(*), jsonb_agg(r.identity) filter (where r.n <= 3)
               from (select jsonb_build_array(%2$s) as identity, row_number() over (order by %2$s) as n
                       from turnlog.%1$I as c where (%2$s) is not null group by %2$s having count(*) > 1) as r',
            entry ->> 'table', columns)
           into found, examples;
        if found > 0 then
            answer := jsonb_insert(answer, '{repeated,-1}', entry || jsonb_build_object('values', found, 'examples', examples), true);
        end if;
    end loop;

    for entry in select * from jsonb_array_elements(request -> 'names') loop
        execute format(
            'select count(*) from turnlog.%1$I as c where c.%2$I is not null and %3$s',
            entry ->> 'table', entry ->> 'column',
            turnlog.blank_condition(format('c.%I::text', entry ->> 'column')))
           into found;
        if found > 0 then
            answer := jsonb_insert(answer, '{placeholders,-1}', entry || jsonb_build_object('rows', found), true);
        end if;
    end loop;

    return answer || jsonb_build_object('undead', (
        select count(*)
          from turnlog.ai_sessions as s
          join turnlog.ai_interactions as i on i.project = s.project and i.session_id = s.id
         where s.erased_at is not null));
end
$$;


-- schemas/doctor/settings.sql
-- Returns the settings in force for the caller, and those set for this database or for the roles that write. Takes
-- {settings: [name ...]}. Returns {now: seconds since the epoch, database, login, settings: {name: {value, source}},
-- overrides: [{role, database, setting, value}]}.
create or replace function turnlog.settings(request jsonb) returns jsonb
language sql volatile -- of two calls in one statement the second is later
set search_path = ''
as $$
    select jsonb_build_object(
        'now', extract(epoch from clock_timestamp()),
        'database', current_database(),
        'login', session_user,
        'settings', (
            select jsonb_object_agg(s.name, jsonb_build_object('value', s.setting, 'source', s.source))
              from pg_catalog.pg_settings as s
             where request -> 'settings' ? s.name),
        'overrides', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'role', r.rolname, 'database', b.datname, 'setting', split_part(c.setting, '=', 1),
                       'value', substr(c.setting, strpos(c.setting, '=') + 1)) order by r.rolname, b.datname), '[]')
              from pg_catalog.pg_db_role_setting as d
              left join pg_catalog.pg_roles as r on r.oid = d.setrole
              left join pg_catalog.pg_database as b on b.oid = d.setdatabase
             cross join unnest(d.setconfig) as c (setting)
             where (d.setdatabase = 0 or b.datname = current_database())
               and (d.setrole = 0 or r.rolname in (current_user, session_user, 'service_role', 'authenticator'))
               and request -> 'settings' ? split_part(c.setting, '=', 1)))
$$;


-- schemas/access.sql
-- Only the service has access: row-level security is on without policies, and all rights are revoked. On Supabase the
-- service is service_role; elsewhere it is the role that owns these tables.
do $$
declare
    object text;
    has_service_role constant boolean := exists (select from pg_catalog.pg_roles where rolname = 'service_role');
    others constant text := (
        select concat_ws(', ', 'public', string_agg(quote_ident(r.rolname), ', '))
          from pg_catalog.pg_roles as r
         where r.rolname in ('anon', 'authenticated'));
begin
    execute format('revoke all on schema turnlog from %s', others);
    if has_service_role then
        grant usage on schema turnlog to service_role;
    end if;
    for object in
        select c.oid::regclass::text
          from pg_catalog.pg_class as c
         where c.relnamespace = 'turnlog'::regnamespace and c.relkind in ('r', 'p')
    loop
        execute format('alter table %s enable row level security', object);
        execute format('revoke all on table %s from %s', object, others);
        if has_service_role then
            execute format('grant select, insert, update, delete on table %s to service_role', object);
        end if;
    end loop;
    for object in
        select p.oid::regprocedure::text
          from pg_catalog.pg_proc as p
         where p.pronamespace = 'turnlog'::regnamespace
    loop
        execute format('revoke all on function %s from %s', object, others);
        if has_service_role then
            execute format('grant execute on function %s to service_role', object);
        end if;
    end loop;
end
$$;


-- schemas/api.sql
-- The function that Supabase's API calls: the only object outside the schema `turnlog`, created only where service_role
-- exists. An operation is a function of the schema that takes one `request`. The comment marks the function as ours.
do $$
declare
    mark constant text := 'Turnlog''s door for Supabase''s API: see the schema turnlog.';
    existing constant oid := pg_catalog.to_regprocedure('public.turnlog(text, jsonb)');
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'service_role') then
        return;
    end if;
    if existing is not null and pg_catalog.obj_description(existing, 'pg_proc') is distinct from mark then
        raise exception using
            errcode = '42723',
            message = 'The function public.turnlog(text, jsonb) of this database is not marked as Turnlog''s',
            hint = case
                when pg_catalog.pg_get_functiondef(existing) not like '%turnlog.%I($1)%'
                    then 'Supabase''s API reaches Turnlog under this name. Rename yours: '
                         'alter function public.turnlog(text, jsonb) rename to …'
                else pg_catalog.format('If this is Turnlog''s, restored without its comments, mark it: '
                                       'comment on function public.turnlog(text, jsonb) is %L;', mark)
            end;
    end if;
    if not pg_catalog.has_schema_privilege('public', 'create') then
        raise exception using
            errcode = '42501',
            message = pg_catalog.format('The role %s may not create the function public.turnlog, which Supabase''s API '
                                        'calls', current_user),
            hint = pg_catalog.format('Run: grant create on schema public to %I;', current_user);
    end if;
    create or replace function public.turnlog(operation text, request jsonb default '{}') returns jsonb
    language plpgsql volatile
    set search_path = ''
    as $function$
    declare
        answer jsonb;
    begin
        if not exists (select from pg_catalog.pg_proc as p
                        where p.pronamespace = 'turnlog'::pg_catalog.regnamespace and p.proname = operation
                          and p.pronargs = 1 and p.proargnames[1] = 'request') then
            raise exception using errcode = '42883', message = pg_catalog.format('there is no operation %L', operation);
        end if;
        execute pg_catalog.format('select turnlog.%I($1)', operation) into answer using request;
        return answer;
    end
    $function$;
    execute pg_catalog.format('comment on function public.turnlog(text, jsonb) is %L', mark);
    execute 'revoke all on function public.turnlog(text, jsonb) from public'
        || (select coalesce(pg_catalog.string_agg(', ' || pg_catalog.quote_ident(r.rolname), ''), '')
              from pg_catalog.pg_roles as r
             where r.rolname in ('anon', 'authenticated'));
    grant execute on function public.turnlog(text, jsonb) to service_role;
end
$$;


commit;
