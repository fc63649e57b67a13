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
    erased_at      timestamptz,                        -- set: a tombstone; all content is gone
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
    on turnlog.ai_sessions (project, (coalesce(started_at, created_at)) desc, id desc) where erased_at is null;
create index if not exists ai_sessions_user_newest_idx
    on turnlog.ai_sessions (project, user_id, (coalesce(started_at, created_at)) desc, id desc)
    where erased_at is null and user_id is not null;
create index if not exists ai_sessions_status_newest_idx
    on turnlog.ai_sessions (project, status, (coalesce(started_at, created_at)) desc, id desc) where erased_at is null;
create index if not exists ai_sessions_folder_newest_idx
    on turnlog.ai_sessions (project, folder_id, (coalesce(started_at, created_at)) desc, id desc)
    where erased_at is null and folder_id is not null;
create index if not exists ai_sessions_implicit_newest_idx
    on turnlog.ai_sessions (project, (coalesce(started_at, created_at)) desc, id desc)
    where erased_at is null and implicit;
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
-- Feedback of people on an interaction, which they may change.
create table if not exists turnlog.ai_feedback (
    project        text        not null,
    session_id     uuid        not null,
    interaction_id uuid        not null,            -- it may arrive later: writes are indifferent to order
    author         text        not null,            -- '': unknown, so the user of the session
    name           text        not null,            -- rating, score, note, or any other name
    value          jsonb       not null,            -- a number, a boolean or a text
    comment        text,
    given_at       timestamptz not null,            -- the latest one counts
    created_at     timestamptz not null,            -- when the service first received any
    constraint ai_feedback_pkey primary key (project, session_id, interaction_id, author, name),
    -- To the session, as all of its children have: every write and erasure holds its lock. Not to the interaction, which
    -- may still be spooled somewhere when its feedback arrives.
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


-- schemas/tables/interactions.sql
-- Interactions: one prompt and its response each.
create table if not exists turnlog.ai_interactions (
    project         text        not null,
    session_id      uuid        not null,
    id              uuid        not null,
    key             text,                           -- the caller's own id; the id derives from session and key
    prompt          jsonb,                          -- a text, or a list of messages
    response        jsonb,                          -- a text, or a list of messages
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
    tags            text[],
    metadata        jsonb,
    ranks           jsonb,                          -- of what some fields come from: see turnlog.interaction_rule
    created_at      timestamptz not null,           -- when the service first received it
    erased_at       timestamptz,                    -- set: an erased user's interaction in another session
    constraint ai_interactions_pkey primary key (project, session_id, id),
    constraint ai_interactions_session_fkey foreign key (project, session_id)
        references turnlog.ai_sessions (project, id),
    constraint ai_interactions_id_check check (id <> '00000000-0000-0000-0000-000000000000'),
    constraint ai_interactions_key_check check (key !~* '^(\s*|null|undefined|none)$' and length(key) <= 2500),
    constraint ai_interactions_prompt_check check (jsonb_typeof(prompt) in ('string', 'array')),
    constraint ai_interactions_response_check check (jsonb_typeof(response) in ('string', 'array')),
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
    secret    bytea not null,                       -- keys the signatures of reports and the hashes of erased users
    constraint ai_projects_pkey primary key (project),
    constraint ai_projects_project_check check (project <> ''),
    constraint ai_projects_keep_days_check check (keep_days between 1 and 36500)
);


-- schemas/tables/revisions.sql
-- What was said of an interaction and isn't shown: attempts, and answers that a further one replaced.
create table if not exists turnlog.ai_revisions (
    project        text        not null,
    session_id     uuid        not null,
    interaction_id uuid        not null,
    id             uuid        not null default gen_random_uuid(),
    facts          jsonb       not null,            -- field -> value, of those in which it differs from what is shown
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


-- schemas/rules/as_messages.sql
-- Returns a response as a list of messages: a text is one message of the assistant.
create or replace function turnlog.as_messages(response jsonb) returns jsonb
language sql immutable parallel safe
set search_path = ''
as $$
    select case jsonb_typeof(response)
        when 'string' then jsonb_build_array(jsonb_build_object('role', 'assistant', 'content', response))
        else response end
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
              from jsonb_array_elements(content) with ordinality as e (message, n)
             cross join lateral (
                   select case jsonb_typeof(e.message -> 'content')
                       when 'string' then e.message ->> 'content'
                       when 'array' then (
                           select string_agg(p.part ->> 'text', ' ' order by p.n)
                             from jsonb_array_elements(e.message -> 'content') with ordinality as p (part, n)
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
-- named 'metadata.KEY'.
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
        elsif field = 'tags' then
            merged := stored_value || coalesce(
                (select jsonb_agg(t.tag order by t.n)
                   from jsonb_array_elements(value) with ordinality as t (tag, n) where not stored_value @> t.tag), '[]');
        elsif field = 'metadata' then
            merged := value || stored_value;
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
-- Takes `said_at`, when the incoming record was said. Returns `fills`: fields with their new values, null if nothing
-- changes; `filled`: those that the receipt names; `conflicts`: names of contradicting fields, null if there are none; `is_older`: the stored record is further;
-- `lost`: [{facts, said_at}], what isn't shown any more, or never is, and isn't contained in what is.
--
-- In which order records arrive doesn't matter. That takes to know how far the record was that a field comes from:
-- `ranks` has, by field, [status, length of the response, when it was said], where that isn't the row's own.
create or replace function turnlog.interaction_rule(
    stored jsonb, incoming jsonb, on_conflict text, said_at timestamptz,
    out fills jsonb, out filled text[], out conflicts text[], out is_older boolean, out lost jsonb)
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
    is_older := false;
    if stored ->> 'erased_at' is not null then
        conflicts := '{erased_at}';
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
        elsif field in ('tags', 'metadata') then
            select f.fills, coalesce(f.conflicts, '{}') into changed, contradicting
              from turnlog.fill_rule(jsonb_build_object(field, stored_value), jsonb_build_object(field, value)) as f;
            fills := fills || coalesce(changed, '{}');
            conflicts := conflicts || contradicting;
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
        select nullif(jsonb_object_agg(r.field, r.rank), '{}')
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
-- of a response.
create or replace function turnlog.is_contained(facts jsonb, others jsonb) returns boolean
language sql immutable parallel safe
set search_path = ''
as $$
    select not exists (
        select from jsonb_each(facts - 'status'::text) as f
         where (f.value = others -> f.key
                or f.key = 'response' and turnlog.grows(turnlog.as_messages(f.value),
                                                        turnlog.as_messages(others -> f.key))) is not true)
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
          from jsonb_array_elements(content) with ordinality as message (value, n)
         cross join lateral (
               select 1 as kind, content.value, content.n
                 from jsonb_path_query(message.value, 'lax $.content ? (@.type() == "string")') with ordinality as content (value, n)
               union all
               select 2, content.value, content.n
                 from jsonb_path_query(message.value, 'lax $.content[*].text ? (@.type() == "string")')
                      with ordinality as content (value, n)
               union all
               select 3, content.value, content.n
                 from jsonb_path_query(message.value, 'lax $.content[*].content ? (@.type() == "string")')
                      with ordinality as content (value, n)
               union all
               select 4, called.value, called.n
                 from jsonb_path_query(message.value, 'lax $.tool_calls[*].function.name') with ordinality as called (value, n)
               union all
               select 5, called.value, called.n
                 from jsonb_path_query(message.value, 'lax $.tool_calls[*].function.arguments')
                      with ordinality as called (value, n)) as part);
end
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
                'started_at', s.started_at, 'ended_at', s.ended_at,
                'created_at', s.created_at, 'erased_at', s.erased_at,
                'owner', coalesce(s.claim, 'user:' || s.user_id),
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


-- schemas/rules/user_hash.sql
-- Hashes the name of an erased user, which is all that stays of it. Without the project's secret nobody can guess it.
create or replace function turnlog.user_hash(secret bytea, of_user text) returns bytea
language sql immutable
set search_path = ''
as $$
    select sha256(secret || convert_to('user' || chr(10) || of_user, 'UTF8'))
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
-- writes neither fill nor contradict them.
-- Takes {project, session_id, changes: {title?, tags?, status?, scheduled_on?, metadata?}}. Returns the session, a
-- tombstone or null.
create or replace function turnlog.edit(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    changes constant jsonb := request -> 'changes';
begin
    update turnlog.ai_sessions as s
       set (title, tags, status, scheduled_on, metadata) = (
               select m.title, m.tags, coalesce(m.status, 'open'), m.scheduled_on, m.metadata from jsonb_populate_record(s, changes) as m),
           edited = array(
               select f from unnest(s.edited) as f
               union
               select f from jsonb_object_keys(changes) as f where f in ('title', 'tags', 'status', 'scheduled_on', 'metadata'))
     where s.project = request ->> 'project' and s.id = (request ->> 'session_id')::uuid and s.erased_at is null;
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
    -- deadlock. Rows are never deleted, so those found here can still be locked below.
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
        if cardinality(created) + cardinality(present) < cardinality(named) then
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
-- turnlog.interaction_rule. A row that contradicts the stored one changes nothing, unless its `on_conflict` is 'fill'.
-- Returns position -> receipt.
create or replace function turnlog.fill_stored(in_project text, rows jsonb, rejected jsonb, positions bigint[]) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    interactions constant jsonb := rows -> 'interactions';
    receipts jsonb;
begin
    with incoming as materialized (
        -- one lookup by primary key each, and an upsert below: a join would be planned by statistics, and those of an
        -- empty table make it read the whole project
        select p.position, i.facts, (select h from turnlog.ai_interactions as h
                                      where h.project = in_project and h.session_id = (i.facts ->> 'session_id')::uuid
                                        and h.id = (i.facts ->> 'id')::uuid) as stored
          from unnest(positions) as p (position)
         cross join lateral (select interactions -> (p.position - 1)::integer as facts) as i
        offset 0
    ), compared as (
        select s.position, s.facts, s.stored, s.facts ->> 'on_conflict' as on_conflict,
               coalesce((s.facts ->> 'created_at')::timestamptz, statement_timestamp()) as received_at,
               -- usually the call is a retry, which says no more about the answer than what is stored
               (s.stored).erased_at is null and jsonb_populate_record(s.stored, s.facts - 'created_at') = s.stored
               and (s.stored).ranks is null and s.facts ?| '{prompt,response,error,status}'
               and turnlog.status_rank(s.facts ->> 'status', s.facts ->> 'error', s.facts ? 'response')
                <= turnlog.status_rank((s.stored).status, (s.stored).error, (s.stored).response is not null) as is_same
          from incoming as s
         where (s.stored).id is not null
           and not rejected ? (s.facts ->> 'session_id') -- a long session that is being erased still has some
        offset 0
    ), decided as materialized (
        select c.position, c.stored, c.received_at, rule.is_older,
               case when c.on_conflict is distinct from 'report' then rule.lost end as lost,
               case when c.on_conflict = 'report' then null else rule.fills end as fills,
               rule.filled, nullif(rule.conflicts || case when c.on_conflict = 'report' then rule.filled end, '{}') as differing
          from compared as c
         cross join lateral (
               select to_jsonb(jsonb_populate_record(null::turnlog.ai_interactions, c.facts))
                      - '{project,session_id,id,created_at,erased_at}'::text[] as facts) as i
         cross join lateral turnlog.interaction_rule(
               case when not c.is_same then to_jsonb(c.stored) end, case when not c.is_same then i.facts end, c.on_conflict,
               coalesce((i.facts ->> 'completed_at')::timestamptz, (i.facts ->> 'started_at')::timestamptz,
                        c.received_at)) as rule
    ), kept as materialized (
        select j.position, turnlog.keep_revisions(in_project, (j.stored).session_id, (j.stored).id, j.lost, j.received_at) as revisions
          from decided as j
         where j.lost is not null and (j.fills is not null or j.differing is null)
    ), filled as (
        insert into turnlog.ai_interactions as stored
        select m.*
          from decided as j
         cross join lateral jsonb_populate_record(j.stored, j.fills) as m
         where j.fills is not null
            on conflict (project, session_id, id) do update
           set (key, prompt, response, model, provider, status, error, finish_reason, started_at, completed_at, latency_ms,
                time_to_first_token_ms, input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens,
                cost_usd, participant, reply_to, alternative_to, chosen_at, turn, tags, metadata, ranks) = (
                excluded.key, excluded.prompt, excluded.response, excluded.model, excluded.provider, excluded.status,
                excluded.error, excluded.finish_reason, excluded.started_at, excluded.completed_at, excluded.latency_ms,
                excluded.time_to_first_token_ms, excluded.input_tokens, excluded.output_tokens,
                excluded.cached_input_tokens, excluded.cache_write_tokens, excluded.reasoning_tokens, excluded.cost_usd,
                excluded.participant, excluded.reply_to, excluded.alternative_to, excluded.chosen_at,
                excluded.turn, excluded.tags, excluded.metadata, excluded.ranks)
    ), queued as (
        insert into turnlog.ai_search_queue (project, session_id, ids)
        select in_project, (j.stored).session_id, array_agg((j.stored).id)
          from decided as j
         where j.fills ?| '{prompt,response}'
         group by (j.stored).session_id
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
               else case
                        when j.filled <> '{}'
                            then jsonb_build_object('receipt', 'filled', 'fields', j.filled)
                        when k.revisions > 0
                            then '{"receipt": "revised"}'
                        else '{"receipt": "duplicate"}' end
                    || case when j.differing is not null then jsonb_build_object('differs', j.differing) else '{}' end
                    || case when j.is_older then jsonb_build_object('reason', 'older') else '{}' end
           end)
      into receipts
      from incoming as s
      left join decided as j on j.position = s.position
      left join kept as k on k.position = s.position;
    return receipts;
end
$$;


-- schemas/write/keep_revisions.sql
-- Keeps what isn't shown of an interaction: [{facts, said_at}], as turnlog.interaction_rule returns it. What a kept
-- revision contains isn't kept again; one that goes on where a kept one ends replaces it. Returns how many are new.
create or replace function turnlog.keep_revisions(
    in_project text, in_session uuid, in_interaction uuid, lost jsonb, received_at timestamptz)
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
            values (in_project, in_session, in_interaction, one.facts, one.said_at, received_at);
            created := created + 1;
        elsif not turnlog.is_contained(one.facts, kept.facts) then
            update turnlog.ai_revisions as r
               set facts = kept.facts || one.facts, said_at = greatest(kept.said_at, one.said_at)
             where r.project = in_project and r.session_id = in_session and r.interaction_id = in_interaction and r.id = kept.id;
            created := created + 1;
        end if;
    end loop;
    return created;
end
$$;


-- schemas/write/missing_sessions.sql
-- Returns the rows with which to insert the sessions of a batch that aren't `known`. Of several rows of one session,
-- the first explicit one counts, else the first with a key. Of a session whose number another one holds, only the key
-- is taken, and only if the batch has a child of it. If several claim one session, a row without a claim wins (the
-- service itself), then the first; rows with another claim are ignored.
create or replace function turnlog.missing_sessions(rows jsonb, known uuid[]) returns setof jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return query
    with children as materialized (
        select c.session_id, c.claim, c.created_at, c.nth, c.ordinality
          from (select i.session_id, i.claim, i.created_at, 3 as nth, i.ordinality
                  from rows from (jsonb_to_recordset(rows -> 'interactions')
                           as (session_id uuid, claim text, created_at text)) with ordinality as i
                union all
                select p.session_id, p.claim, p.created_at, 2, p.ordinality
                  from rows from (jsonb_to_recordset(rows -> 'participants')
                           as (session_id uuid, claim text, created_at text)) with ordinality as p
                union all
                select f.session_id, f.claim, f.created_at, 4, f.ordinality
                  from rows from (jsonb_to_recordset(rows -> 'feedback')
                           as (session_id uuid, claim text, created_at text)) with ordinality as f) as c
         where c.session_id <> all (known)
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
      from facts as f;
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
    kinds constant text[] := '{folders,sessions,participants,interactions,feedback}';
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
-- Rejects the rows of a batch whose claim isn't the owner of their session. `owners`: see turnlog.session_owners.
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
                 where e.value ->> 'claim' <> owners ->> coalesce(e.value ->> 'session_id', e.value ->> 'id')
                 group by k.kind) as rejected);
end
$$;


-- schemas/write/session_owners.sql
-- Returns session id -> owner for the sessions that rows of a batch claim: '' if only the service owns it, null for a
-- tombstone, which is rejected anyway. Sessions that don't exist are missing. An owner never changes.
create or replace function turnlog.session_owners(in_project text, rows jsonb) returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_object_agg(s.id, case when s.erased_at is null
                                                    then coalesce(s.claim, 'user:' || s.user_id, '') end), '{}')
          from turnlog.ai_sessions as s
         where s.project = in_project
           and s.id = any (array(
               select coalesce(e.value ->> 'session_id', e.value ->> 'id')::uuid
                 from unnest(array['sessions', 'participants', 'interactions', 'feedback']) as k (kind)
                cross join lateral jsonb_array_elements(coalesce(rows -> k.kind, '[]')) as e
                where e.value ? 'claim')));
end
$$;


-- schemas/write/write.sql
-- Writes a batch in one transaction. Takes {project, folders, sessions, participants, interactions, feedback: [row ...]
-- each, return_parents?, late?, dry_run?}. Returns {folders, sessions, participants, interactions, feedback}: for each
-- kind a list of receipts in the order of its rows, or one outcome that holds for all of them.
-- A receipt is {receipt: created | filled | duplicate | conflict | rejected, ...}.
--
-- A row holds values under its columns' names, and may hold more:
--   folders       `sessions`: those of its plan; they are written unless the plan is a conflict, and their receipts are
--                 in the folder's receipt
--   sessions      `implicit`: no caller sent it, it is the parent of a child; `numbering`: `next` gives it the lowest free
--                 number of its folder if it has none yet, `named` means the session that has this number
--   interactions  `on_conflict`: `report` changes nothing that is stored, `fill` fills empty fields although others
--                 contradict
--   any but folders  `claim`: the owner that its session must have; a session that doesn't exist gets this owner
-- `return_parents`: receipts carry the folder or session as stored afterwards. `late`: the batch comes from a spool, so
-- rows received before their user was erased are rejected. `dry_run`: return the receipts and write nothing.
--
-- It can't deadlock: it inserts and locks folders in the order of their ids, then inserts missing sessions in that order,
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
    parents record;
    rejected jsonb;
    receipts jsonb;
begin
    if in_project is null then
        raise exception using errcode = '23502', column = 'project', message = 'the batch names no project';
    elsif (request ->> 'dry_run')::boolean then
        return turnlog.dry_run(request - 'dry_run');
    end if;

    if late then
        select format('%s %s', count(*), sum(extract(epoch from e.erased_at))) into erasures
          from turnlog.ai_erased_users as e where e.project = in_project;
    end if;
    if late and exists (select from turnlog.ai_erased_users as e where e.project = in_project) then
        erased_rejected := turnlog.reject_erased(in_project, rows);
        rows := turnlog.drop_rejected(rows, erased_rejected);
    end if;
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
    foreach rejected in array array[races_rejected, claims_rejected, erased_rejected] loop
        if rejected <> '{}' then
            receipts := turnlog.add_rejected(receipts, rejected, rows);
        end if;
    end loop;
    return receipts;
end
$$;


-- schemas/write/write_feedback.sql
-- Writes the feedback of a batch below sessions that it has locked. Returns the receipts in order.
--
-- One row is stored per author, interaction and name: the one with the latest `given_at`; of equal times the one whose
-- value, then whose comment, is the greater text. So any order, repetition and delay leave the same row. The receipt is
-- `filled` if the feedback replaced another one, with the fields that changed; `duplicate` if it is stored already, or,
-- with the reason `older`, if a later one is.
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

        incoming.author := coalesce(incoming.author, '');
        incoming.created_at := coalesce(incoming.created_at, statement_timestamp());
        incoming.given_at := coalesce(incoming.given_at, incoming.created_at);
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
        is_newer := (incoming.given_at, incoming.value::text collate "C", coalesce(incoming.comment, '') collate "C")
                  > (stored.given_at, stored.value::text collate "C", coalesce(stored.comment, '') collate "C");
        fields := array_remove(array[
            case when is_newer and incoming.value <> stored.value then 'value' end,
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
            when not is_newer and (incoming.value <> stored.value or incoming.comment is distinct from stored.comment)
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
-- Writes the interactions of a batch below sessions that it has locked, queues their texts for the search index, and
-- adds their participants. New ones are inserted by one statement; the others are compared with the stored ones.
-- Returns the receipts in order, or 'created' for all of them.
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
    participants boolean;    -- an interaction names a participant
    receipts jsonb := '{}';  -- position -> receipt, without those that were created
begin
    with inserted as (
        insert into turnlog.ai_interactions
        select i.*
          from jsonb_populate_recordset(defaults, interactions) as i
         where rejected = '{}' or not rejected ? i.session_id::text
            on conflict do nothing
        returning session_id, id, key, participant
    ), queued as (
        insert into turnlog.ai_search_queue (project, session_id, ids)
        select in_project, n.session_id, array_agg(n.id) from inserted as n group by n.session_id
    )
    select coalesce(array_agg(n.session_id), '{}'), coalesce(array_agg(n.id), '{}'),
           coalesce(array_agg(n.key), '{}'), coalesce(bool_or(n.participant is not null), false)
      into created_sessions, created_ids, created_keys, participants
      from inserted as n;

    if cardinality(created_ids) < jsonb_array_length(interactions) then
        receipts := turnlog.fill_interactions(in_project, rows, rejected, created_sessions, created_ids, created_keys);
        participants := true;
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
                   - '{project,id,claim,implicit,created_at,erased_at,edited}'::text[]
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


-- schemas/read/conversation.sql
-- Returns a page of a session with everything that is shown beside it, each part as the function of its name returns
-- it. Takes {project, session_id, limit, feedback, owner?, author?, neighbours?} and at most one of interaction_id,
-- after, before as turnlog.outline does. Returns {session, outline, transcript, participants, folder, feedback}. The
-- transcript begins one interaction before the page, if there is one. `folder` has up to `neighbours` sessions, from
-- the one before this on; it is null without `neighbours` or without a folder. `feedback` is that on the page's
-- interactions, at most so many. Everything but the session is null for a tombstone and if the owner isn't `owner`.
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
                                  'folder', null, 'feedback', null);
    end if;
    outline := turnlog.outline(request);
    leads := case when (outline ->> 'index')::bigint > 0 then 1 else 0 end;
    page := turnlog.transcript(of_session || jsonb_build_object(
        'limit', (request ->> 'limit')::integer + leads,
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
                'interaction_ids', jsonb_path_query_array(page, '$.interactions[*].interaction_id'))
            || case when request ? 'author' then jsonb_build_object('author', request -> 'author') else '{}' end));
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
               ' order by coalesce(s.started_at, s.created_at) desc, s.id desc' end || ' limit $2) as s'
       into counted, looked using request, enough;
    return jsonb_build_object('sessions', least(counted, most), 'complete', looked < enough and counted <= most);
end
$$;


-- schemas/read/feedback.sql
-- Lists feedback in the order of its ids, which never change: {project, session_id, limit, interaction_ids?, author?,
-- after?} lists that on a session's interactions, {project, author, limit, after?} an author's feedback in sessions of
-- other users. Returns {session: null without session_id, feedback, after: {session_id, interaction_id, author, name}};
-- `after` is null at the end.
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
                       'session_id', p.session_id, 'interaction_id', p.interaction_id, 'author', nullif(p.author, ''),
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


-- schemas/read/outline.sql
-- Locates a page of a transcript and sums up the whole transcript.
-- Takes {project, session_id, limit} and at most one of interaction_id, after, before: cursors of turnlog.transcript.
-- Returns {total, index, after, context, models, states}. `index`: how many interactions come before the page, which
-- holds the interaction, begins after a cursor, or ends before one. `after`: the cursor with which turnlog.transcript
-- reads the page, null for the first; `context`: the same for a page that begins one interaction earlier. The page of
-- an interaction begins at a multiple of `limit`, so it stays the same. `models`: totals by model; tokens of
-- interactions without a cost are summed separately, so that a caller can estimate their price.
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
    backwards constant boolean := request ? 'before';
begin
    return (
        with transcript as (
            select i.id, coalesce(i.turn, 9223372036854775807) as turn, coalesce(i.started_at, i.created_at) as at,
                   row_number() over (order by coalesce(i.turn, 9223372036854775807), coalesce(i.started_at, i.created_at), i.id) as n,
                   i.model, i.provider, i.input_tokens, i.output_tokens, i.cost_usd,
                   coalesce(i.status, case
                       when i.error <> '' then 'failed'
                       when i.response is not null then 'completed'
                       else 'pending' end) as status
              from turnlog.ai_interactions as i
             where i.project = in_project and i.session_id = of_session
        ), begun as (
            select case
                       when of_interaction is not null then coalesce(
                           (select (t.n - 1) / page_size * page_size from transcript as t where t.id = of_interaction), 0)
                       when backwards then greatest((select count(*) from transcript as t
                            where (t.turn, t.at, t.id) < ((place ->> 'turn')::bigint, (place ->> 'at')::timestamptz,
                                                          (place ->> 'interaction_id')::uuid)) - page_size, 0)
                       when place is not null then (select count(*) from transcript as t
                            where (t.turn, t.at, t.id) <= ((place ->> 'turn')::bigint, (place ->> 'at')::timestamptz,
                                                           (place ->> 'interaction_id')::uuid))
                       else 0 end as index
        )
        select jsonb_build_object(
            'total', (select count(*) from transcript),
            'index', b.index,
            'after', (select jsonb_build_object('turn', t.turn, 'at', t.at, 'interaction_id', t.id)
                        from transcript as t where t.n = b.index),
            'context', (select jsonb_build_object('turn', t.turn, 'at', t.at, 'interaction_id', t.id)
                          from transcript as t where t.n = b.index - 1),
            'states', (select coalesce(jsonb_object_agg(s.status, s.interactions), '{}')
                         from (select t.status, count(*) as interactions from transcript as t group by t.status) as s),
            'models', (select coalesce(jsonb_agg(jsonb_build_object(
                                  'model', m.model, 'provider', m.provider, 'interactions', m.interactions,
                                  'input_tokens', m.input_tokens, 'output_tokens', m.output_tokens, 'cost_usd', m.cost_usd,
                                  'unpriced', jsonb_build_object('interactions', m.unpriced, 'input_tokens', m.unpriced_in,
                                                                 'output_tokens', m.unpriced_out))
                                  order by m.interactions desc, m.model, m.provider), '[]')
                         from (select t.model, t.provider, count(*) as interactions,
                                      sum(t.input_tokens) as input_tokens, sum(t.output_tokens) as output_tokens,
                                      sum(t.cost_usd) as cost_usd,
                                      count(*) filter (where t.cost_usd is null
                                          and coalesce(t.input_tokens, t.output_tokens) is not null) as unpriced,
                                      sum(t.input_tokens) filter (where t.cost_usd is null) as unpriced_in,
                                      sum(t.output_tokens) filter (where t.cost_usd is null) as unpriced_out
                                 from transcript as t
                                group by t.model, t.provider) as m))
          from begun as b);
end
$$;


-- schemas/read/overview.sql
-- Returns statistics of a span of time in buckets of `bucket_s` seconds since 1970.
-- Takes {project, from, to, bucket_s, most, sample, most_failures, top, top_models, tiers}. Returns {interactions,
-- failures, sessions}. Each has a `share`: the fraction of the span that was read (see turnlog.sample_share), 1 for
-- all; its counts and sums are of that fraction.
--
-- interactions: {share, total, buckets, models, users, folders}. total: {interactions, completed, failed, pending,
-- abandoned, input_tokens, output_tokens, priced, cost_usd, models, latency_ms, time_to_first_token_ms}: `priced`
-- counts those with a cost, `cost_usd` is the sum of these, `models` is the number of models, latencies are [p50, p95].
-- buckets: [{at, interactions, latency_ms}]. models: [{model, provider, interactions, input_tokens, output_tokens,
-- priced, cost_usd, sizes}], the `top_models` most used ones. sizes: [{interactions, input_tokens, output_tokens}] of
-- those with tokens and without a cost, grouped by input size between two neighbours of `tiers`, since prices depend on
-- it. users: [{user_id, interactions, sessions}] and folders: [{folder_id, key, name, interactions, sessions}], the
-- `top` most active ones.
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
    bucket constant interval := make_interval(secs => (request ->> 'bucket_s')::integer);
    most constant integer := request ->> 'most';
    sample constant integer := request ->> 'sample';
    most_failures constant integer := request ->> 'most_failures';
    top constant integer := request ->> 'top';
    top_models constant integer := request ->> 'top_models';
    tiers constant bigint[] := array(select t::bigint from jsonb_array_elements_text(request -> 'tiers') as t order by 1);
    -- about a thousand slices, equally many in each bucket
    buckets constant integer := ceil(extract(epoch from before - not_before) / (request ->> 'bucket_s')::integer);
    parts constant integer := buckets * ceil(1000.0 / buckets);
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
               select date_bin(bucket, coalesce(i.started_at, i.created_at), 'epoch') as bucket, i.session_id,
                      i.model, i.provider, i.input_tokens, i.output_tokens, i.cost_usd, i.time_to_first_token_ms,
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
        select m.* from met as m
         where m.session_id <> all (array(select s.session_id from met_sessions as s where s.erased_at is not null))
    ), by_size as (
        select l.model, l.provider, count(*) as interactions, count(l.cost_usd) as priced, sum(l.cost_usd) as cost_usd,
               sum(l.input_tokens) as input_tokens, sum(l.output_tokens) as output_tokens,
               count(*) filter (where l.unpriced) as unpriced,
               coalesce(sum(l.input_tokens) filter (where l.unpriced), 0) as unpriced_input,
               coalesce(sum(l.output_tokens) filter (where l.unpriced), 0) as unpriced_output
          from (select l.*, width_bucket(coalesce(l.input_tokens, 0), tiers) as size,
                       l.cost_usd is null and num_nonnulls(l.input_tokens, l.output_tokens) > 0 as unpriced
                  from looked as l) as l
         group by l.model, l.provider, l.size
    ), by_model as (
        select s.model, s.provider, sum(s.interactions) as interactions,
               coalesce(sum(s.input_tokens), 0) as input_tokens, coalesce(sum(s.output_tokens), 0) as output_tokens,
               sum(s.priced) as priced, coalesce(sum(s.cost_usd), 0) as cost_usd,
               coalesce(jsonb_agg(jsonb_build_object(
                   'interactions', s.unpriced, 'input_tokens', s.unpriced_input, 'output_tokens', s.unpriced_output))
                   filter (where s.unpriced > 0), '[]') as sizes
          from by_size as s
         group by s.model, s.provider
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
                       'priced', count(l.cost_usd), 'cost_usd', coalesce(sum(l.cost_usd), 0),
                       'models', (select count(*) from by_model),
                       'latency_ms', percentile_cont(array[0.5, 0.95]) within group (order by l.latency_ms),
                       'time_to_first_token_ms',
                       percentile_cont(array[0.5, 0.95]) within group (order by l.time_to_first_token_ms))
              from looked as l),
        'buckets', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'at', b.bucket, 'interactions', b.interactions, 'latency_ms', b.latency_ms)
                       order by b.bucket), '[]')
              from (select l.bucket, count(*) as interactions,
                           percentile_cont(array[0.5, 0.95]) within group (order by l.latency_ms) as latency_ms
                      from looked as l group by l.bucket) as b),
        'models', (
            select coalesce(jsonb_agg(to_jsonb(m) order by m.interactions desc, m.model, m.provider), '[]')
              from (select m.* from by_model as m
                     order by m.interactions desc, m.model, m.provider limit top_models) as m),
        'users', (
            select coalesce(jsonb_agg(to_jsonb(u) order by u.interactions desc, u.user_id), '[]')
              from (select o.user_id, sum(o.interactions) as interactions, count(*) as sessions
                      from owned as o where o.user_id is not null
                     group by o.user_id order by 2 desc, o.user_id limit top) as u),
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
        select date_bin(bucket, i.at, 'epoch') as bucket, left(i.error, 300) as error
          from turnlog.slices(not_before, before, parts, of_failures) as slice
         cross join lateral (
               select coalesce(i.started_at, i.created_at) as at, i.error, i.session_id
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
            select coalesce(jsonb_agg(jsonb_build_object('at', b.bucket, 'failed', b.failed) order by b.bucket), '[]')
              from (select f.bucket, count(*) as failed from failed as f group by f.bucket) as b),
        'errors', (
            select coalesce(jsonb_agg(to_jsonb(e) order by e.interactions desc, e.error), '[]')
              from (select turnlog.error_kind(f.error) as error, sum(f.interactions) as interactions
                      from (select f.error, count(*) as interactions from failed as f group by f.error) as f
                     group by 1 order by 2 desc, 1 limit top) as e))
      into failures;

    select jsonb_build_object(
        'share', of_sessions,
        'total', coalesce(sum(b.sessions), 0),
        'buckets', coalesce(jsonb_agg(jsonb_build_object('at', b.bucket, 'sessions', b.sessions) order by b.bucket), '[]'))
      into sessions
      from (select date_bin(bucket, s.at, 'epoch') as bucket, count(*) as sessions
              from turnlog.slices(not_before, before, parts, of_sessions) as slice
             cross join lateral (
                   select coalesce(s.started_at, s.created_at) as at
                     from turnlog.ai_sessions as s
                    where s.project = in_project and s.erased_at is null and s.status <> 'locked'
                      and coalesce(s.started_at, s.created_at) >= slice.first
                      and coalesce(s.started_at, s.created_at) < slice.last
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
        further := further || ' and turnlog.error_kind(i.error) = $1 ->> ''error''';
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
                       'prompt', turnlog.excerpt(i.prompt, 300),
                       'response', turnlog.excerpt(i.response, 300),
                       'latency_ms', i.latency_ms, 'input_tokens', i.input_tokens, 'output_tokens', i.output_tokens,
                       'erased_at', i.erased_at, 'started_at', i.started_at, 'created_at', i.created_at) order by i.n), '[]')
              from shown as i
              -- a session that is being erased is a tombstone already, so it disappears at once
              join turnlog.ai_sessions as s on s.project = i.project and s.id = i.session_id and s.erased_at is null
             where i.n <= $2),
           case when (select count(*) from shown) > $2$sql$
            || ' then (select ' || place_of || ' from shown as p where p.n = $2)'
               ' else (select ' || place_of || ' from looked as p offset $3 - 1 limit 1) end'
       into page, place using request, page_size, enough;
    return jsonb_build_object('interactions', page, 'after', place);
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
                              and coalesce(s.started_at, s.created_at) >= slice.first
                              and coalesce(s.started_at, s.created_at) < slice.last
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
-- after?: {at, session_id, interaction_id}}. Returns {interactions, after, complete, searched, matched, searched_to}.
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
begin
    if request ->> 'session_id' is not null then
        -- only a session that the caller may read: the counts would reveal another one
        among := array(select s.id from turnlog.ai_sessions as s
                        where s.project = in_project and s.id = (request ->> 'session_id')::uuid and s.erased_at is null
                              and (of_user is null or s.user_id = of_user) and (not unclaimed or s.claim is null));
    elsif of_user is not null then
        among := array(select s.id from turnlog.ai_sessions as s
                        where s.project = in_project and s.user_id = of_user and s.erased_at is null
                              and (not unclaimed or s.claim is null)
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
            select scanned.session_id, scanned.id, scanned.at,
                   case when scanned.content is null or octet_length(scanned.content) = length(scanned.content) then lower(scanned.content)
                        else turnlog.fold(scanned.content) end as folded
              from (select place.session_id, place.id, place.at,
                           case when place.erased_at is null and (of_model is null or place.model = of_model)
                                 and (of_user is null and not unclaimed or exists (
                                     select from turnlog.ai_sessions as s
                                      where s.project = in_project and s.id = place.session_id
                                        and (of_user is null or s.user_id = of_user)
                                        and (not unclaimed or s.claim is null)))
                                then concat_ws(E'\n',
                                    case jsonb_typeof(place.prompt) when 'string' then place.prompt #>> '{}'
                                         when 'array' then turnlog.plain_text(place.prompt) end,
                                    case jsonb_typeof(place.response) when 'string' then place.response #>> '{}'
                                         when 'array' then turnlog.plain_text(place.response) end)
                           end as content
                      from (select i.session_id, i.id, coalesce(i.started_at, i.created_at) as at,
                                   i.erased_at, i.model, i.prompt, i.response
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

    return jsonb_build_object(
        'interactions', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'session_id', i.session_id, 'session_key', s.key, 'session_title', s.title, 'user_id', s.user_id,
                       'interaction_id', i.id, 'interaction_key', i.key, 'turn', i.turn, 'at', best.at, 'model', i.model,
                       'field', here.field, 'starts', coalesce(here.starts, 0), 'length', length(here.content),
                       'text', substr(here.content, 1 + here.starts, window_size))
                       order by best.rank), '[]')
              from (select row_number() over (order by f.score desc nulls last, f.n) as rank, f.*
                      from rows from (jsonb_to_recordset(found)
                               as (at timestamptz, session_id uuid, interaction_id uuid, score double precision))
                           with ordinality as f (at, session_id, interaction_id, score, n)
                     order by f.score desc nulls last, f.n
                     limit page_size) as best
              join turnlog.ai_interactions as i
                on i.project = in_project and i.session_id = best.session_id and i.id = best.interaction_id
              join turnlog.ai_sessions as s on s.project = in_project and s.id = i.session_id
              left join lateral (
                   -- The field with more of the terms, from the first occurrence of the longest one on. Of equal fields the last
                   -- message of the prompt comes first, then the response, then the earlier messages: instructions and history.
                   select side.field, side.content, side.begins + greatest(0, at.place - 1 - window_size / 2) as starts
                     from (select turnlog.plain_text(i.prompt) as prompt, turnlog.plain_text(i.response) as response,
                                  case jsonb_typeof(i.prompt) when 'array'
                                      then turnlog.plain_text(jsonb_build_array(i.prompt -> -1)) end as last_one
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
                    limit 1) as here on true),
        'after', case when goes_on then last_place end,
        'complete', not (goes_on and is_cut),
        'searched', searched,
        'matched', jsonb_array_length(found),
        'searched_to', last_place -> 'at');
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
-- these read the session's interactions.
create or replace function turnlog.session_filters(
    request jsonb, out walked text, out further text, out looks boolean)
language plpgsql immutable
set search_path = ''
as $$
declare
    at constant text := 'coalesce(s.started_at, s.created_at)';
    -- one index only: matches of a second one would have to be intersected with all matches of the first
    led_by constant text := case
        when request ->> 'folder_id' is not null then 'folder_id'
        when request ->> 'user_id' is not null then 'user_id'
        when (request ->> 'implicit')::boolean then 'implicit'
        when request ->> 'status' is not null then 'status'
        else '' end;
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
    looks := request ->> 'model' is not null or request ->> 'has_errors' is not null;
    for asked in
        select f.name, f.condition
          from (values
              ('folder_id', 's.folder_id = ($1 ->> ''folder_id'')::uuid'),
              ('user_id', 's.user_id = $1 ->> ''user_id'''),
              ('implicit', case when (request ->> 'implicit')::boolean then 's.implicit' else 'not s.implicit' end),
              ('status', 's.status = $1 ->> ''status'''),
              -- planned sessions exist before they begin
              ('begun', 's.status ' || case when (request ->> 'begun')::boolean then '<>' else '=' end || ' ''locked'''),
              ('unclaimed', case when (request ->> 'unclaimed')::boolean then 's.claim is null' else 'true' end),
              ('tag', 's.tags @> array[$1 ->> ''tag'']'),
              ('name', 'strpos(lower(concat_ws(chr(10), s.title, s.key)), lower($1 ->> ''name'')) > 0'),
              -- one index lookup per session: a join was planned as a scan of all interactions of the model
              ('model', '(select true from turnlog.ai_interactions as i where i.project = $1 ->> ''project'''
                        ' and i.session_id = s.id and i.model = $1 ->> ''model'' limit 1)'),
              ('has_errors', '(select true from turnlog.ai_interactions as i where i.project = $1 ->> ''project'''
                             ' and i.session_id = s.id and (i.status = ''failed'' or i.status is null and i.error <> '''')'
                             ' limit 1) is ' || case when (request ->> 'has_errors')::boolean then 'not null' else 'null' end)
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
-- then. A session's time is its started_at, or created_at without one. `name`: a part of the title or the key. Takes
-- {project, limit, user_id?, unclaimed?, folder_id?, tag?, status?, implicit?, model?, has_errors?, begun?, name?,
-- from?, to?, sort?: newest | oldest | activity, after?: {at, session_id}}. Returns {sessions, after}. A page may be
-- short; `after` is null at the end.
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
                   ' >= (($1 #>> ''{after,at}'')::timestamptz, ($1 #>> ''{after,session_id}'')::uuid) limit 1) is null' else '' end;
    else
        looks := case when whole then '{2147483647}' when filters.looks then '{2000,10000}' else '{5000,30000}' end;
        walk := 'select s.id, coalesce(s.started_at, s.created_at) as at, s.project, s.folder_id, s.user_id, s.implicit, s.status,'
                ' s.claim, s.tags, s.title, s.key, s.started_at, s.created_at, s.erased_at from turnlog.ai_sessions as s where '
                || filters.walked || format(beyond, 'coalesce(s.started_at, s.created_at)', 's.id')
                || format(' order by coalesce(s.started_at, s.created_at) %1$s, s.id %1$s limit $2', direction);
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
                    ' where i.project = $1 ->> ''project'' and i.session_id = any ($4) group by i.session_id) as w'
                    ' where (select true from turnlog.ai_sessions as s where s.id = w.id and ' || filters.walked || filters.further
                    || ' limit 1)' || format(beyond, 'w.at', 'w.id')
                else
                    'select s.id, coalesce(s.started_at, s.created_at) as at from turnlog.ai_sessions as s where s.id = any ($4) and '
                    || filters.walked || filters.further || format(beyond, 'coalesce(s.started_at, s.created_at)', 's.id')
                end;
            end if;
        end if;
        -- one more than the page, to know whether another page follows
        execute 'select array_agg(p.id), array_agg(p.at) from (' || page
                || format(' order by at %1$s, id %1$s limit $3) as p', direction)
           into ids, times using request, enough, page_size + 1, candidates;
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
        'after', case when last_id is not null then jsonb_build_object('at', last_at, 'session_id', last_id) end);
end
$$;


-- schemas/read/sessions_by_id.sql
-- Lists sessions in the order of their ids, which never change, so paging returns each session that existed at its
-- start exactly once. A page has those of the next `limit` sessions (or of a user's) that match the filters, so it may
-- be short or empty.
-- Takes {project, limit, after?: session id, user_id?, tag?, status?, from?, to?}. Returns {sessions, after}; `after`
-- is null at the end.
create or replace function turnlog.sessions_by_id(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    of_user constant text := request ->> 'user_id';
    of_tag constant text := request ->> 'tag';
    of_status constant text := request ->> 'status';
    not_before constant timestamptz := request ->> 'from';
    before constant timestamptz := request ->> 'to';
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
    page := array(
        select s.id
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids[:page_size]) and s.erased_at is null
           and (of_user is null or s.user_id = of_user)
           and (of_tag is null or s.tags @> array[of_tag])
           and (of_status is null or s.status = of_status)
           and (not_before is null or coalesce(s.started_at, s.created_at) >= not_before)
           and (before is null or coalesce(s.started_at, s.created_at) < before)
         order by s.id);
    return jsonb_build_object(
        'sessions', turnlog.session_rows(in_project, page),
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


-- schemas/read/transcript.sql
-- Returns a page of a transcript, ordered by turn (those without one last), then time, then id; with `by` 'id' by id
-- alone, so that an interaction that gains a turn or a time between two pages keeps its position.
-- Takes {project, session_id, limit, after?: {turn, at, interaction_id}, by?: 'id'}. Returns {session: or null,
-- interactions, after, complete}. The spool changes `spooled` and `complete` where records are on its disk.
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
    after_id constant uuid := request #>> '{after,interaction_id}';
    by_id constant boolean := coalesce(request ->> 'by' = 'id', false);
begin
    return (
        with page as (
            select o.*, row_number() over (order by o.turn, o.at, o.id) as n
              from (
                   -- interactions without a turn come after those with one
                   select i.id, case when by_id then 0 else coalesce(i.turn, 9223372036854775807) end as turn,
                          case when by_id then 'epoch' else coalesce(i.started_at, i.created_at) end as at
                     from turnlog.ai_interactions as i
                    where i.project = in_project and i.session_id = of_session) as o
             where after_id is null or (o.turn, o.at, o.id) > (after_turn, after_at, after_id)
             order by n
             limit page_size + 1 -- to know whether another page follows
        )
        select jsonb_build_object(
            'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                          from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session),
            'interactions', (
                select coalesce(jsonb_agg(
                    jsonb_build_object(
                        'interaction_id', i.id, 'key', i.key, 'session_id', i.session_id,
                        'prompt', i.prompt, 'response', i.response, 'model', i.model, 'provider', i.provider,
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
                        'reply_to', i.reply_to, 'alternative_to', i.alternative_to, 'turn', i.turn, 'tags', coalesce(to_jsonb(i.tags), '[]'),
                        'metadata', coalesce(i.metadata, '{}'), 'created_at', i.created_at, 'spooled', false)
                    order by p.n), '[]')
                  from page as p
                  join turnlog.ai_interactions as i
                    on i.project = in_project and i.session_id = of_session and i.id = p.id
                 where p.n <= page_size),
            'after', (
                select jsonb_build_object('turn', p.turn, 'at', p.at, 'interaction_id', p.id)
                  from page as p
                 where p.n = page_size and exists (select from page as next where next.n > page_size)),
            'complete', true));
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
          from (select s.id, coalesce(s.started_at, s.created_at) as at
                  from turnlog.ai_sessions as s
                 where s.project = in_project and s.user_id = of_user and s.erased_at is null
                   and (after_at is null or (coalesce(s.started_at, s.created_at), s.id) < (after_at, after_id))
                 order by coalesce(s.started_at, s.created_at) desc, s.id desc
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
                   'feedback', case when cardinality(ids) < page_size then (
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
        delete from turnlog.ai_revisions as r where r.project = in_project and r.session_id = of_session;
        delete from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = of_session;
        get diagnostics participant_count = row_count;
        delete from turnlog.ai_feedback as f where f.project = in_project and f.session_id = of_session;
        get diagnostics feedback_count = row_count;
        update turnlog.ai_sessions as s
           set key = null, user_id = null, claim = null, title = null, tags = null, metadata = null, edited = null,
               started_at = null, ended_at = null, scheduled_on = null, erased_at = tombstone_at
         where s.project = in_project and s.id = of_session and s.erased_at is null;
        perform turnlog.requeue_session(in_project, of_session);
    end if;

    return jsonb_build_object(
        'session_id', of_session, 'erased_at', tombstone_at, 'interactions', interaction_count,
        'participants', participant_count, 'feedback', feedback_count,
        'left', not dry_run and coalesce(interaction_count = most, false),
        'folder_id', stored.folder_id, 'session_number', stored.session_number,
        'proof', format(
            'select (select count(*) from turnlog.ai_interactions where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_revisions where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_session_participants where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_feedback where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_sessions where project = %1$L and id = %2$L and (erased_at is null'
            ' or num_nonnulls(key, user_id, claim, title, tags, metadata, edited, started_at, ended_at, scheduled_on) > 0))'
            ' as remaining', in_project, of_session));
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
    delete from turnlog.ai_revisions as r where r.project = in_project and r.session_id = any (erased || touched);
    delete from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = any (erased);
    get diagnostics participants = row_count;
    delete from turnlog.ai_feedback as f where f.project = in_project and f.session_id = any (erased);
    update turnlog.ai_sessions as s
       set key = null, user_id = null, claim = null, title = null, tags = null, metadata = null, edited = null,
           started_at = null, ended_at = null, scheduled_on = null, erased_at = statement_timestamp()
     where s.project = in_project and s.id = any (erased);
    perform turnlog.requeue_session(in_project, t.id) from unnest(touched) as t (id);
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
-- feedback is deleted, and the texts of the user's interactions are replaced; their ids, times and numbers belong to
-- the conversation and stay. The user's folders stay without name, key, user and metadata, since tombstones have
-- numbers in them.
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
        ' + (select count(*) from turnlog.ai_session_folders where project = %1$L and user_id = %2$L)'
        ' as remaining', in_project, of_user);
    hash bytea;
    marker turnlog.ai_erased_users;
    ids uuid[];
    folder_ids uuid[];
    spooled_sessions uuid[] := '{}';
    step record;
    affected bigint;
    feedback_before bigint;  -- feedback on the sessions being erased
    touched uuid[];  -- sessions whose interactions were blanked
    blanked_ids uuid[];  -- those interactions
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
            with blanked as (
                update turnlog.ai_interactions as i
                   set prompt = '"[erased]"', response = '"[erased]"', error = null, finish_reason = null, tags = null,
                       metadata = null, key = null, participant = null, status = 'completed', ranks = null, erased_at = statement_timestamp()
                 where i.project = in_project collate "C" and i.ctid = any (array(
                       select d.ctid from turnlog.ai_interactions as d
                        where d.project = in_project and d.session_id = any (ids) and d.participant = of_user limit most))
                returning i.session_id, i.id
            )
            select count(*), array_agg(distinct b.session_id), array_agg(b.id) into affected, touched, blanked_ids from blanked as b;
            delete from turnlog.ai_revisions as r
             where r.project = in_project and r.session_id = any (touched) and r.interaction_id = any (blanked_ids);
            perform turnlog.requeue_session(in_project, t.id) from unnest(touched) as t (id);
            removed := jsonb_build_object('turns', affected);
            delete from turnlog.ai_session_participants as p
             where p.project = in_project and p.session_id = any (ids) and p.participant = of_user
               and not exists (select from turnlog.ai_interactions as i
                                where i.project = in_project and i.session_id = p.session_id
                                  and i.participant = of_user);
            get diagnostics affected = row_count;
            removed := removed || jsonb_build_object('participations', affected);
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
            has_more := folder_ids <> '{}';
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
    ids uuid[] := wanted;
    locked_ids uuid[];
    step record;
begin
    -- lock in the order of all writers, then check again: nothing can arrive from now on
    if (request ->> 'wait')::boolean then
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
    ids := turnlog.idle_sessions(in_project, ids, (request ->> 'before')::timestamptz, in_use);
    select e.* into step from turnlog.erase_sessions(in_project, ids, (request ->> 'most')::integer) as e;
    return jsonb_build_object('session_ids', step.erased, 'interactions', step.interactions, 'locked', locked_ids,
                              'left', cardinality(ids) > cardinality(step.erased));
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
        delete from turnlog.ai_revisions as r where r.project = in_project;
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
-- Returns the schema's version and the server's settings on which durability depends. Takes {}.
create or replace function turnlog.ping(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'schema', '20261128000000', -- the version of the release's migration
        'server_version', current_setting('server_version'),
        'read_only', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean,
        'fsync', current_setting('fsync'),
        'synchronous_commit', current_setting('synchronous_commit'),
        'full_page_writes', current_setting('full_page_writes'),
        'transaction_isolation', current_setting('transaction_isolation'),
        'rows_hidden', row_security_active('turnlog.ai_sessions'))
$$;


-- schemas/admin/projects.sql
-- Lists the projects with records, keys or settings. Takes {project?}. Returns {projects: [{project, keep_days, now}]}.
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
                   jsonb_build_object('project', e.project, 'keep_days', p.keep_days, 'now', now)
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
-- Sets for how many days a project is kept; null for the service's own setting.
-- Takes {project, keep_days?}. Returns {project, keep_days}.
create or replace function turnlog.set_project(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
begin
    perform turnlog.report_key(request); -- it inserts the project's row
    update turnlog.ai_projects as p
       set keep_days = (request ->> 'keep_days')::integer
     where p.project = request ->> 'project';
    return jsonb_build_object('project', request -> 'project', 'keep_days', request -> 'keep_days');
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
            select case when coalesce(pg_column_size(i.prompt), 0) + coalesce(pg_column_size(i.response), 0) <= unread
                        then concat_ws(E'\n', turnlog.plain_text(i.prompt), turnlog.plain_text(i.response)) end
              into content
              from turnlog.ai_interactions as i
             where i.project = in_project and i.session_id = one.session_id and i.id = one.id
                   and not exists (select from turnlog.ai_sessions as s
                                    where s.project = in_project and s.id = i.session_id and s.erased_at is not null);
            if not found then
                content := '';
            elsif octet_length(content) > longest then
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
-- Removes a session from the search index and queues its interactions again, unless it is erased. The queue's rows are
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
