-- Turnlog 0.1.0, made by `make migration` from supabase/schemas: read those, edit those. It may be run again.
-- All of it happens or nothing, also where statements are sent one by one; nobody's search_path plays a part.
begin;
set local search_path = '';


-- schemas/schema.sql
-- Everything of Turnlog's is in the schema `turnlog`, so it installs beside whatever a database has. The comment marks
-- the schema as ours: one of that name that lacks it, and isn't empty, is somebody else's and is left alone.
do $$
declare
    mark constant text := 'Turnlog, the AI conversation log. Its migrations make what is in here.';
    held constant oid := pg_catalog.to_regnamespace('turnlog');
begin
    if held is null and not pg_catalog.has_database_privilege(pg_catalog.current_database(), 'create') then
        raise exception using
            errcode = '42501',
            message = pg_catalog.format('The role %s may not create a schema in this database', current_user),
            hint = pg_catalog.format('Have the owner of the database run: create schema turnlog authorization %I;',
                                     current_user);
    elsif held is null then
        create schema turnlog;
    elsif pg_catalog.obj_description(held, 'pg_namespace') is distinct from mark and exists (
        select from pg_catalog.pg_depend as d
         where d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = held and d.deptype = 'n')
    then
        raise exception using
            errcode = '42P06',
            message = 'The schema "turnlog" of this database is not marked as Turnlog''s',
            detail = 'It holds ' || (
                select pg_catalog.string_agg(o.name, ', ' order by o.name)
                  from (select pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) as name
                          from pg_catalog.pg_depend as d
                         where d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = held
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
-- Which releases this database has, whoever brought them: `migrate`, `supabase db push` or a person with an editor.
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
    sessions_per_week integer,                          -- the plan: so many numbered sessions,
    total_weeks       integer,                          --   for so long,
    starts_on         date,                             --   dated from here on if it is known
    metadata          jsonb,
    implicit          boolean     not null default false, -- born from a session, not yet created by name
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

-- A second line of defence: identity already derives from the key.
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
    claim          text,                               -- who opened it with a publishable key; else it is its user's
    title          text,
    folder_id      uuid,
    session_number integer,                            -- within its folder
    scheduled_on   date,
    status         text        not null default 'open',
    implicit       boolean     not null default false, -- born from an interaction, not yet created by name
    tags           text[],
    metadata       jsonb,
    started_at     timestamptz,
    ended_at       timestamptz,
    created_at     timestamptz not null,               -- when the service first received it
    erased_at      timestamptz,                        -- set: a tombstone; all content is gone
    edited         text[],                             -- fields changed by PATCH: later writes neither fill nor contradict them
    constraint ai_sessions_pkey primary key (project, id),
    constraint ai_sessions_folder_fkey foreign key (project, folder_id)
        references turnlog.ai_session_folders (project, id),
    constraint ai_sessions_project_check check (project <> ''),
    -- Placeholders of a missing id are refused here as well, for who writes past the service.
    constraint ai_sessions_id_check check (id <> '00000000-0000-0000-0000-000000000000'),
    constraint ai_sessions_key_check check (key !~* '^(\s*|null|undefined|none)$' and length(key) <= 200),
    constraint ai_sessions_session_number_check check (
        session_number is null or session_number > 0 and folder_id is not null),
    constraint ai_sessions_status_check check (status in ('locked', 'open', 'closed')),
    constraint ai_sessions_metadata_check check (jsonb_typeof(metadata) = 'object')
);

-- A second line of defence: identity already derives from the key. Partial, so that the planner can't take one for
-- the primary key: on tables it knows nothing of yet, foreign keys were checked by reading a project's whole index.
create unique index if not exists ai_sessions_project_key_key
    on turnlog.ai_sessions (project, key) where key is not null;
create unique index if not exists ai_sessions_folder_number_key
    on turnlog.ai_sessions (project, folder_id, session_number) where folder_id is not null;

-- Lists, newest first: of all, of a user, by status, of a folder, of sessions that nobody created by name.
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
-- Users whose records were erased: what arrives late for them is refused.
create table if not exists turnlog.ai_erased_users (
    project     text        not null,
    user_hash   bytea       not null,               -- see turnlog.user_hash: the name is gone, too
    erased_at   timestamptz not null,               -- what was received before and arrives later is refused
    finished_at timestamptz,                        -- null: the erasure was cut, and goes on when it is asked for again
    counts      jsonb       not null,               -- what it has taken away so far
    constraint ai_erased_users_pkey primary key (project, user_hash)
);


-- schemas/tables/feedback.sql
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


-- schemas/tables/interactions.sql
-- Interactions: one prompt and its response each.
create table if not exists turnlog.ai_interactions (
    project         text        not null,
    session_id      uuid        not null,
    id              uuid        not null,
    key             text,                           -- the caller's own id; the id derives from session and key
    prompt          jsonb,                          -- a text, or a list of messages
    response        jsonb,                          -- the same
    model           text,
    provider        text,
    status          text,                           -- null: derived from error and response when read
    error           text,
    finish_reason   text,
    started_at      timestamptz,
    completed_at    timestamptz,
    latency_ms      double precision,
    time_to_first_token_ms double precision,
    input_tokens    bigint,
    output_tokens   bigint,
    cost_usd        numeric,
    participant     text,
    reply_to        uuid,
    turn            bigint,                         -- the caller's own counter
    tags            text[],
    metadata        jsonb,
    created_at      timestamptz not null,           -- when the service first received it
    erased_at       timestamptz,                    -- set: what an erased user said in somebody else's session
    constraint ai_interactions_pkey primary key (project, session_id, id),
    constraint ai_interactions_session_fkey foreign key (project, session_id)
        references turnlog.ai_sessions (project, id),
    constraint ai_interactions_id_check check (id <> '00000000-0000-0000-0000-000000000000'),
    constraint ai_interactions_key_check check (key !~* '^(\s*|null|undefined|none)$' and length(key) <= 2500),
    constraint ai_interactions_prompt_check check (jsonb_typeof(prompt) in ('string', 'array')),
    constraint ai_interactions_response_check check (jsonb_typeof(response) in ('string', 'array')),
    constraint ai_interactions_status_check check (status in ('completed', 'failed', 'abandoned')),
    constraint ai_interactions_metadata_check check (jsonb_typeof(metadata) = 'object')
);

-- A second line of defence, as for sessions. A key of several parts may be longer than an index entry: it needs none.
create unique index if not exists ai_interactions_session_key_key
    on turnlog.ai_interactions (project, session_id, key) where octet_length(key) <= 2000;

-- What is searched from the newest on; an overview goes along it in time.
create index if not exists ai_interactions_newest_idx
    on turnlog.ai_interactions (project, (coalesce(started_at, created_at)) desc, session_id desc, id desc);
-- In the order of arrival, so writes go to its end, and one entry stands for the turns that a session got at once.
create index if not exists ai_interactions_arrived_idx
    on turnlog.ai_interactions (project, created_at, session_id);
-- Tells both which sessions a model was used in and whether one session used it.
create index if not exists ai_interactions_model_idx
    on turnlog.ai_interactions (project, model, session_id) where model is not null;
-- Failures are few, and the rare ones are those that matter: found by themselves, no sample misses them.
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
-- A key is looked up by its digest, whatever its project: on Citus this small table is a reference table.
create table if not exists turnlog.ai_keys (
    project      text        not null,
    id           uuid        not null,
    family       uuid        not null,                  -- the first of the keys that replaced each other
    kind         text        not null,
    digest       bytea       not null,                  -- SHA-256 of the key, which nobody keeps
    hint         text        not null,                  -- its first characters, so that people tell keys apart
    name         text,
    scopes       text[]      not null,
    origins      text[]      not null default '{}',     -- web pages that may use it; none for secret keys
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
-- Who takes part in a session.
create table if not exists turnlog.ai_session_participants (
    project     text        not null,
    session_id  uuid        not null,
    participant text        not null,
    role        text,
    state       text,                                   -- null: nobody has said, as of one whom an interaction names
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
-- What the service knows of a project.
create table if not exists turnlog.ai_projects (
    project   text  not null,
    keep_days integer,                              -- null: as the service's own setting says
    secret    bytea not null,                       -- signs reports, and hides the names of erased users
    constraint ai_projects_pkey primary key (project),
    constraint ai_projects_project_check check (project <> ''),
    constraint ai_projects_keep_days_check check (keep_days between 1 and 36500)
);


-- schemas/tables/search.sql
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


-- schemas/rules/blank.sql
-- A condition in SQL: whether a text is no identity but what a missing one looks like, perhaps after string formatting.
-- Written into the statements below, since a call for each of a million rows takes six times as long.
create or replace function turnlog.blank(expression text) returns text
language sql immutable
set search_path = ''
as $$
    select format(
        '(%1$s is null or lower(btrim(%1$s, E'' \t\r\n''))'
        ' in ('''', ''null'', ''undefined'', ''none'', ''00000000-0000-0000-0000-000000000000''))', expression)
$$;


-- schemas/rules/error_kind.sql
-- What errors of one kind have in common: an error's beginning on one line, without what differs each time: long numbers
-- and ids.
create or replace function turnlog.error_kind(error text) returns text
language sql immutable parallel safe
set search_path = ''
as $$
    select nullif(btrim(left(regexp_replace(regexp_replace(left(error, 300), '\s+', ' ', 'g'),
                                            '\m(?=[0-9a-fA-F-]{0,40}[0-9])[0-9a-fA-F-]{8,}\M|\d{4,}', '…', 'g'), 200)), '')
$$;


-- schemas/rules/excerpt.sql
-- The beginning of what was said: a text, or the last message of a list that has one.
create or replace function turnlog.excerpt(said jsonb, length integer) returns text
language sql immutable
set search_path = ''
as $$
    select case jsonb_typeof(said)
        when 'string' then left(said #>> '{}', length)
        when 'array' then (
            select left(m.text, length)
              from jsonb_array_elements(said) with ordinality as e (message, n)
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
-- The fill rule, for one record: which of the stated facts fill an empty field of the stored record, and
-- which contradict it. Tags and metadata gain entries: a new tag or a new metadata key fills; a metadata key
-- that holds another value contradicts, and is named 'metadata.KEY'. A turn that was erased takes nothing any more.
create or replace function turnlog.fill_rule(stored jsonb, stated jsonb, out fills jsonb, out conflicts text[])
language plpgsql immutable
set search_path = ''
as $$
declare
    field text;
    value jsonb;
    held jsonb;
    gained jsonb;
begin
    if stored ->> 'erased_at' is not null and stored ? 'prompt' then
        conflicts := '{erased_at}';
        return;
    end if;
    for field, value in select s.key, s.value from jsonb_each(stated) as s where s.value not in ('null', '[]', '{}') loop
        held := nullif(stored -> field, 'null');
        if held = value then
            continue;
        elsif held is null then
            gained := value;
        elsif field = 'tags' then
            gained := held || coalesce(
                (select jsonb_agg(t.tag order by t.n)
                   from jsonb_array_elements(value) with ordinality as t (tag, n) where not held @> t.tag), '[]');
        elsif field = 'metadata' then
            gained := value || held;
            conflicts := conflicts || array(
                select 'metadata.' || m.key from jsonb_each(value) as m where held -> m.key <> m.value order by m.key);
        else
            gained := held;
            conflicts := conflicts || field;
        end if;
        if gained is distinct from held then
            fills := coalesce(fills, '{}') || jsonb_build_object(field, gained);
        end if;
    end loop;
    conflicts := nullif(conflicts, '{}');
end
$$;


-- schemas/rules/fold.sql
-- What texts and terms are compared by: small letters, full-width forms and ligatures as the plain ones, letters and
-- their accents composed, and without marks that nobody sees (soft hyphens, joiners, signs of direction).
create or replace function turnlog.fold(said text) returns text
language plpgsql immutable parallel safe
set search_path = ''
as $$
begin
    return case when octet_length(said) = length(said) then lower(said)
        else replace(lower(case
            when said ~ '[\u00AD\u061C\u200B-\u200F\u202A-\u202E\u2060\u2066-\u2069\uFE0E\uFE0F\uFEFF]'
                then translate(normalize(said, nfkc),
                    U&'\00AD\061C\200B\200C\200D\200E\200F\202A\202B\202C\202D\202E\2060\2066\2067\2068\2069\FE0E\FE0F\FEFF', '')
            when said is nfkc normalized then said -- mostly, and to look takes half as long
            else normalize(said, nfkc) end), U&'\03C2', U&'\03C3') end; -- a final sigma is a sigma
end
$$;


-- schemas/rules/folder_rows.sql
-- Folders as callers see them, in the order of their ids' list; what is said of their sessions is derived here.
-- `opened` are the sessions that aren't locked any more, or that somebody logged under; `closed` are among them.
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
              -- each by itself: a join was planned as all of them for each
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
-- All that stands in a folded text by three bytes of UTF-8, each as a number, once: one character of Chinese, two letters
-- of Arabic, three of English. So it serves any script, and needs no extension. Null of less than three bytes.
create or replace function turnlog.grams(folded text) returns integer[]
language sql immutable parallel safe
set search_path = ''
as $$
    select array_agg(distinct_grams.gram)
      from (select distinct get_byte(bytes.said, n) << 16 | get_byte(bytes.said, n + 1) << 8 | get_byte(bytes.said, n + 2) as gram
              from (select convert_to(folded, 'UTF8') as said offset 0) as bytes, -- else it is converted for each byte
                   generate_series(0, octet_length(folded) - 3) as n) as distinct_grams
$$;


-- schemas/rules/key_clash.sql
-- The receipt of a record whose natural key belongs to a row with another id. Identity derives from the key, so
-- this takes a row that was written past the service; the unique indexes stop it, and the caller is told which.
create or replace function turnlog.key_clash(
    in_project text, session_key text, in_session uuid default null, interaction_key text default null)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select case when session_holder.id is not null and session_holder.id is distinct from in_session
            then jsonb_build_object(
                'receipt', 'conflict', 'constraint', 'ai_sessions_project_key_key', 'columns', array['project', 'key'],
                'attempted', jsonb_build_object('project', in_project, 'key', session_key), 'held_by', session_holder.id)
            else jsonb_build_object(
                'receipt', 'conflict', 'constraint', 'ai_interactions_session_key_key',
                'columns', array['project', 'session_id', 'key'],
                'attempted', jsonb_build_object('project', in_project, 'session_id', in_session, 'key', interaction_key),
                'held_by', (select i.id from turnlog.ai_interactions as i
                             where i.project = in_project and i.session_id = in_session and i.key = interaction_key))
            end
        from (select 1) as one
        left join turnlog.ai_sessions as session_holder
            on session_holder.project = in_project and session_holder.key = session_key);
end
$$;


-- schemas/rules/key_row.sql
-- A key as its operators see it.
create or replace function turnlog.key_row(of_key turnlog.ai_keys) returns jsonb
language sql immutable
set search_path = ''
set timezone = 'UTC'
as $$
    select to_jsonb(of_key) - '{digest,token_secret}'::text[]
$$;


-- schemas/rules/plain_text.sql
-- The text of a prompt or a response. Of a list of messages: what they say, and the tools that they call with what.
create or replace function turnlog.plain_text(said jsonb) returns text
language plpgsql immutable parallel safe -- a tenth of what a call of SQL takes, where it is a text
set search_path = ''
as $$
begin
    if jsonb_typeof(said) = 'string' then
        return said #>> '{}';
    end if;
    return (
        select string_agg(case jsonb_typeof(part.value) when 'string' then part.value #>> '{}' else part.value::text end,
                          E'\n' order by message.n, part.kind, part.n)
          from jsonb_array_elements(said) with ordinality as message (value, n)
         cross join lateral (
               select 1 as kind, said.value, said.n
                 from jsonb_path_query(message.value, 'lax $.content ? (@.type() == "string")') with ordinality as said (value, n)
               union all
               select 2, said.value, said.n
                 from jsonb_path_query(message.value, 'lax $.content[*].text ? (@.type() == "string")')
                      with ordinality as said (value, n)
               union all
               select 3, said.value, said.n
                 from jsonb_path_query(message.value, 'lax $.content[*].content ? (@.type() == "string")')
                      with ordinality as said (value, n)
               union all
               select 4, called.value, called.n
                 from jsonb_path_query(message.value, 'lax $.tool_calls[*].function.name') with ordinality as called (value, n)
               union all
               select 5, called.value, called.n
                 from jsonb_path_query(message.value, 'lax $.tool_calls[*].function.arguments')
                      with ordinality as called (value, n)) as part);
end
$$;


-- schemas/rules/session_clash.sql
-- The receipt of a session whose number or key belongs to a session with another id.
create or replace function turnlog.session_clash(in_project text, stated turnlog.ai_sessions) returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select coalesce(
            (select jsonb_build_object(
                        'receipt', 'conflict', 'constraint', 'ai_sessions_folder_number_key',
                        'columns', array['project', 'folder_id', 'session_number'],
                        'attempted', jsonb_build_object('project', in_project, 'folder_id', stated.folder_id,
                                                        'session_number', stated.session_number::text),
                        'held_by', s.id)
               from turnlog.ai_sessions as s
              where s.project = in_project and s.folder_id = stated.folder_id
                and s.session_number = stated.session_number and s.id <> stated.id),
            turnlog.key_clash(in_project, stated.key, stated.id)));
end
$$;


-- schemas/rules/session_rows.sql
-- Sessions as callers see them, in the order of their ids' list. Counts are derived here, never stored.
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


-- schemas/rules/user_hash.sql
-- What is kept of an erased user's name: nobody can tell which it was, or try names, without the project's secret.
create or replace function turnlog.user_hash(secret bytea, of_user text) returns bytea
language sql immutable
set search_path = ''
as $$
    select sha256(secret || convert_to('user' || chr(10) || of_user, 'UTF8'))
$$;


-- schemas/write/add_parents.sql
-- The receipts of a batch's folders and sessions: those of a plan's sessions move into their folder's, and, if
-- `return_parents` asks for it, each of what was stated carries the folder or session as it is now.
create or replace function turnlog.add_parents(in_project text, rows jsonb, folder_receipts jsonb, session_receipts jsonb)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    sessions constant jsonb := coalesce(rows -> 'sessions', '[]');
    stated constant integer := coalesce((rows ->> 'stated')::integer, jsonb_array_length(sessions)); -- others are of plans
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
                       || case when stated_folder.value ? 'sessions'
                               then jsonb_build_object('planned', coalesce(
                                   (select jsonb_agg((session_receipts -> (s.ordinality - 1)::integer)
                                               || jsonb_build_object('session_id', s.value -> 'id',
                                                                     'session_number', s.value -> 'session_number')
                                               order by s.ordinality)
                                      from jsonb_array_elements(sessions) with ordinality as s
                                     where s.ordinality > stated
                                       and (s.value ->> 'of_folder')::bigint = f.ordinality), '[]')) else '{}' end
                       || case when return_parents and stated_folder.value -> 'implicit' is distinct from 'true'
                               then jsonb_build_object('folder', turnlog.folder_rows(
                                   in_project, array[(stated_folder.value ->> 'id')::uuid]) -> 0)
                               else '{}' end
                       order by f.ordinality), '[]')
              from jsonb_array_elements(folder_receipts) with ordinality as f
             cross join lateral (select rows -> 'folders' -> (f.ordinality - 1)::integer as value) as stated_folder),
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
             where r.ordinality <= stated));
end
$$;


-- schemas/write/dry_run.sql
-- What writing a batch would do, as turnlog.write would say: it is written, and taken back.
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
        return receipts; -- a variable outlives what is rolled back
    end;
end
$$;


-- schemas/write/edit.sql
-- {project, session_id, changes: {title?, tags?, status?, scheduled_on?, metadata?}} -> the session, a tombstone or null. The value
-- given replaces the one stored; null empties it. An edited field is the editor's: see ai_sessions.edited.
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
-- Makes sure of every session that a batch names, and locks those that were there, in the order of their ids: no erase
-- and no other write slips under this one. `created`: those that this batch inserted, `present`: those that were there,
-- `refused`: session -> why it takes no records: it is erased, or it met another row's natural key. `plain`: all that the
-- batch says of its sessions is written with that.
create or replace function turnlog.ensure_sessions(
    in_project text, rows jsonb,
    out created uuid[], out present uuid[], out refused jsonb, out plain boolean)
language plpgsql volatile
set search_path = ''
as $$
declare
    named uuid[];
    known uuid[];
    states boolean;   -- some session is stated for itself, not only brought along by a child
    keyed boolean;    -- some session is said to have a key
    said_once boolean;
    keyless boolean := false; -- some session doesn't know its key
    fresh constant turnlog.ai_sessions := jsonb_populate_record(null::turnlog.ai_sessions, jsonb_build_object(
        'project', in_project, 'status', 'open', 'implicit', false, 'created_at', statement_timestamp()));
begin
    select array_agg(distinct n.id), bool_or(n.states), bool_or(n.keyed),
           count(distinct n.id) filter (where n.keyed is not null) = count(n.keyed)
      into named, states, keyed, said_once
      from (select s.id, s.implicit is not true or s.folder_id is not null as states, s.key is not null as keyed
              from jsonb_to_recordset(rows -> 'sessions') as s (id uuid, implicit boolean, folder_id uuid, key text)
            union all
            select i.session_id, null, null from jsonb_to_recordset(rows -> 'interactions') as i (session_id uuid)
            union all
            select p.session_id, null, null from jsonb_to_recordset(rows -> 'participants') as p (session_id uuid)
            union all
            select f.session_id, null, null from jsonb_to_recordset(rows -> 'feedback') as f (session_id uuid)) as n;

    -- Mostly all are there, so a look comes first. Missing ones must be inserted before any is locked, or one batch could
    -- hold what another waits for. Rows never go away, so what the look has seen is still there to be locked.
    known := array(select s.id from turnlog.ai_sessions as s where s.project = in_project and s.id = any (named));
    created := '{}';
    present := '{}';
    refused := '{}';
    if cardinality(known) < cardinality(named) then
        with inserted as (
            insert into turnlog.ai_sessions
            select r.*
              from turnlog.missing_sessions(rows, known) as m (facts)
             cross join lateral jsonb_populate_record(fresh, m.facts) as r
             order by r.id
                on conflict do nothing
            returning id, key
        )
        select coalesce(array_agg(i.id), '{}'), coalesce(bool_or(i.key is null), false)
          into created, keyless
          from inserted as i;
    end if;

    -- what this batch inserted nobody else sees
    if cardinality(created) < cardinality(named) then
        select coalesce(array_agg(s.id), '{}'), keyless or coalesce(bool_or(s.key is null), false),
               coalesce(jsonb_object_agg(s.id, 'erased') filter (where s.erased_at is not null), '{}')
          into present, keyless, refused
          from (select s.id, s.key, s.erased_at
                  from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = any (named) and s.id <> all (created)
                 order by s.id
                   for no key update) as s;
        if cardinality(created) + cardinality(present) < cardinality(named) then
            refused := refused || (
                select jsonb_object_agg(n.id, 'the session was refused')
                  from unnest(named) as n (id)
                 where n.id <> all (created || present));
        end if;
    end if;
    plain := refused = '{}' and (
        coalesce(not states and not (keyed and keyless), true)
        or said_once and present = '{}' and coalesce(rows -> 'unplaced' = '[]', true));
end
$$;


-- schemas/write/fill_interactions.sql
-- Goes through a batch's interactions that were there already, or that it states more than once: the first statement of
-- each at once, then the others one after another, in order. Answers position -> receipt of all but those that the batch
-- created: of several about one the first whose key it got, since one with a key that another row has wasn't inserted.
create or replace function turnlog.fill_interactions(
    in_project text, rows jsonb, refused jsonb, created_sessions uuid[], created_ids uuid[], created_keys text[])
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    interactions constant jsonb := rows -> 'interactions';
    sessions constant jsonb := coalesce(rows -> 'sessions', '[]');
    first_ones bigint[];
    others bigint[];
    one bigint;
    receipts jsonb[];
begin
    -- by grouping: a join of two lists of unknown length is planned as a nested loop
    select array_agg(i.position) filter (where i.nth = 1), array_agg(i.position order by i.position) filter (where i.nth > 1)
      into first_ones, others
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

    receipts := array[turnlog.fill_stored(in_project, rows, refused, first_ones)];
    foreach one in array coalesce(others, '{}') loop
        -- by itself: to look it up in a large batch takes longer than to write it
        receipts := array_append(receipts, jsonb_build_object(one, turnlog.fill_stored(
            in_project, jsonb_build_object('sessions', sessions, 'interactions', jsonb_build_array(interactions -> (one - 1)::integer)),
            refused, '{1}') -> '1'));
    end loop;
    return (select jsonb_object_agg(e.key, e.value) from unnest(receipts) as r (given) cross join lateral jsonb_each(r.given) as e);
end
$$;


-- schemas/write/fill_stored.sql
-- Fills in what a batch's statements at some positions, each about another interaction, say that isn't stored yet. One
-- that contradicts what is stored changes nothing, unless it asks for that. Answers position -> receipt.
create or replace function turnlog.fill_stored(in_project text, rows jsonb, refused jsonb, positions bigint[]) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    interactions constant jsonb := rows -> 'interactions';
    receipts jsonb;
begin
    with stated as materialized (
        -- one look by primary key each, and an upsert below: a join would be planned by statistics, and those of an empty
        -- table make it read the whole project
        select p.position, i.facts, (select h from turnlog.ai_interactions as h
                                      where h.project = in_project and h.session_id = (i.facts ->> 'session_id')::uuid
                                        and h.id = (i.facts ->> 'id')::uuid) as held
          from unnest(positions) as p (position)
         cross join lateral (select interactions -> (p.position - 1)::integer as facts) as i
        offset 0
    ), compared as (
        select s.position, s.facts, s.held, s.facts ->> 'on_conflict' as on_conflict,
               -- mostly a call is only made again
               (s.held).erased_at is null and jsonb_populate_record(s.held, s.facts - 'created_at') = s.held as is_same
          from stated as s
         where (s.held).id is not null
           and not refused ? (s.facts ->> 'session_id') -- of a long one that is being erased some are left
        offset 0
    ), judged as materialized (
        select c.position, c.held,
               case when c.on_conflict = 'fill' then rule.fills
                    when c.on_conflict = 'report' or rule.conflicts is not null then null
                    else rule.fills end as fills,
               nullif(rule.conflicts || case when c.on_conflict = 'report' then array(
                   select f from jsonb_object_keys(rule.fills) as f order by f) end, '{}') as differing
          from compared as c
         cross join lateral turnlog.fill_rule(
               case when not c.is_same then to_jsonb(c.held) end,
               case when not c.is_same then to_jsonb(jsonb_populate_record(null::turnlog.ai_interactions, c.facts))
                   - '{project,session_id,id,created_at,erased_at}'::text[] end) as rule
    ), filled as (
        insert into turnlog.ai_interactions as held
        select m.*
          from judged as j
         cross join lateral jsonb_populate_record(j.held, j.fills) as m
         where j.fills is not null
            on conflict (project, session_id, id) do update
           set (key, prompt, response, model, provider, status, error, finish_reason, started_at, completed_at, latency_ms,
                time_to_first_token_ms, input_tokens, output_tokens, cost_usd, participant, reply_to, turn, tags, metadata) = (
                excluded.key, excluded.prompt, excluded.response, excluded.model, excluded.provider, excluded.status,
                excluded.error, excluded.finish_reason, excluded.started_at, excluded.completed_at, excluded.latency_ms,
                excluded.time_to_first_token_ms, excluded.input_tokens, excluded.output_tokens, excluded.cost_usd,
                excluded.participant, excluded.reply_to, excluded.turn, excluded.tags, excluded.metadata)
    ), queued as (
        insert into turnlog.ai_search_queue (project, session_id, ids)
        select in_project, (j.held).session_id, array_agg((j.held).id)
          from judged as j
         where j.fills ?| '{prompt,response}'
         group by (j.held).session_id
    )
    select jsonb_object_agg(s.position, case
               when j.fills is not null
                   then jsonb_build_object('receipt', 'filled', 'fields',
                            array(select f from jsonb_object_keys(j.fills) as f order by f))
                        || case when j.differing is not null
                                then jsonb_build_object('differs', j.differing) else '{}' end
               when j.differing is not null
                   then jsonb_build_object('receipt', 'conflict', 'fields', j.differing)
               when j.position is not null
                   then '{"receipt": "duplicate"}'
               when refused ->> (s.facts ->> 'session_id') = 'erased'
                   then '{"receipt": "rejected", "reason": "erased"}'
               -- with neither a row of its own nor an erased session it met another row's natural key
               else turnlog.key_clash(in_project,
                        (select p ->> 'key' from jsonb_array_elements(rows -> 'sessions') as p
                          where p ->> 'id' = s.facts ->> 'session_id' limit 1),
                        (s.facts ->> 'session_id')::uuid, s.facts ->> 'key')
           end)
      into receipts
      from stated as s
      left join judged as j on j.position = s.position;
    return receipts;
end
$$;


-- schemas/write/missing_sessions.sql
-- The facts with which a batch's sessions that aren't `known` yet begin: of several statements about one the first that
-- isn't implicit, then the first that knows its key. Of a session whose number is another's only its key is taken, where
-- somebody logged under it or takes part. Of those who claim one session the service is first, then who came first; what
-- the others say of it isn't taken.
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
    ), stated as materialized (
        select (s.value ->> 'id')::uuid as id, s.value, s.ordinality,
               coalesce(rows -> 'unplaced' @> to_jsonb(s.ordinality), false) as is_unplaced
          from jsonb_array_elements(coalesce(rows -> 'sessions', '[]')) with ordinality as s
         where (s.value ->> 'id')::uuid <> all (known)
    ), claims as (
        select distinct on (c.session_id) c.session_id, c.claim
          from (select s.id as session_id, s.value ->> 'claim' as claim, 1 as nth, s.ordinality from stated as s
                union all
                select c.session_id, c.claim, c.nth, c.ordinality from children as c) as c
         order by c.session_id, c.claim is not null, c.nth, c.ordinality
    ), facts as (
        select distinct on (f.id) f.id, f.claim, f.facts
          from (select s.id, s.value ->> 'claim' as claim, s.value - '{numbering,of_folder,place}'::text[] as facts,
                       s.ordinality
                  from stated as s where not s.is_unplaced
                union all
                select s.id, s.value ->> 'claim', jsonb_build_object('id', s.id, 'implicit', true)
                             || case when s.value ? 'key' then jsonb_build_object('key', s.value -> 'key') else '{}' end
                             || case when s.value ? 'created_at'
                                     then jsonb_build_object('created_at', s.value -> 'created_at') else '{}' end,
                       s.ordinality
                  from stated as s
                 where s.is_unplaced and s.id in (select c.session_id from children as c)
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
-- Gives the sessions of a batch their numbers, below folders that it has locked, so that nobody else can take one. The
-- batch's sessions are followed by those of its folders' plans. Answers what replaces the batch's own:
-- {sessions, stated: how many of them are not a plan's, participants, unplaced: [position ...] of the sessions whose
-- number another one has}.
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
    aliases jsonb := '{}';  -- id that derives from a number -> id of the session that has it
begin
    select array_agg(s.id order by s.ordinality), array_agg(s.folder_id order by s.ordinality),
           array_agg(s.session_number order by s.ordinality)
      into ids, folders, numbers
      from rows from (jsonb_to_recordset(sessions) as (id uuid, folder_id uuid, session_number integer))
           with ordinality as s;

    -- Several sessions that want one number can only be written one after another: the caller parts the batch, as for
    -- any record that it may not contain.
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
            -- it has its number, or the batch states it again
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
        'stated', jsonb_array_length(sessions) - jsonb_array_length(planned),
        'sessions', (
            select coalesce(jsonb_agg(s.value || jsonb_build_object('id', ids[s.ordinality])
                                      || case when numbers[s.ordinality] is null then '{}'
                                              else jsonb_build_object('session_number', numbers[s.ordinality]) end
                                      order by s.ordinality), '[]')
              from jsonb_array_elements(sessions) with ordinality as s),
        -- who was stated with a session that another one's number names takes part in that one
        'participants', (
            select coalesce(jsonb_agg(
                       p.value || case when p.value ->> 'numbering' = 'named' then jsonb_build_object('session_id',
                           coalesce(aliases -> (p.value ->> 'session_id'), p.value -> 'session_id')) else '{}' end
                       order by p.ordinality), '[]')
              from jsonb_array_elements(coalesce(rows -> 'participants', '[]')) with ordinality as p),
        'unplaced', (
            select coalesce(jsonb_agg(s.ordinality order by s.ordinality), '[]')
              from unnest(ids, folders, numbers) with ordinality as s (id, folder_id, number, ordinality)
             where s.number is not null
               and exists (select from turnlog.ai_sessions as other
                            where other.project = in_project and other.folder_id = s.folder_id
                              and other.session_number = s.number and other.id <> s.id)));
end
$$;


-- schemas/write/refuse_erased.sql
-- The rows of a batch that waited in a spool and was received before its user was erased: kind -> position -> receipt.
-- A session that is said to be theirs, and that nobody has seen before, leaves a tombstone, so that whatever else of it
-- arrives, without their name on it, is rejected, too. Who only claims a session may claim somebody else's: what a user
-- claims leaves none, each row names its claimant; and what a token claims leaves none where some row of the batch names
-- the session without that claim.
--
-- These tombstones are locked before what the batch locks in its own order: two such batches may deadlock, and the one
-- that fails is written again.
create or replace function turnlog.refuse_erased(in_project text, rows jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    kinds constant text[] := '{folders,sessions,participants,interactions,feedback}';
    secret constant bytea := (select p.secret from turnlog.ai_projects as p where p.project = in_project);
    refused jsonb;
    theirs uuid[];  -- sessions that the batch says are an erased user's, as of before
    until jsonb;    -- of those that the service itself says it of: when the user was erased
    one uuid;
begin
    with stated as (
        select k.kind, e.ordinality as position, (e.value ->> 'created_at')::timestamptz as received_at,
               case when k.kind <> 'folders' then coalesce(e.value ->> 'session_id', e.value ->> 'id')::uuid end as session_id,
               case when k.kind = 'folders' then (e.value ->> 'id')::uuid end as folder_id,
               e.value ->> case k.kind when 'feedback' then 'author' when 'folders' then 'user_id'
                                       when 'sessions' then 'user_id' else 'participant' end as who,
               case when e.value ->> 'claim' like 'user:%' then substr(e.value ->> 'claim', 6) end as claimant,
               e.value ->> 'claim' as claim
          from unnest(kinds) as k (kind)
         cross join lateral jsonb_array_elements(coalesce(rows -> k.kind, '[]')) with ordinality as e
    ), claims as (
        select distinct s.session_id, s.claim from stated as s where s.session_id is not null and s.kind <> 'feedback'
        union
        select (p.value ->> 'id')::uuid, null
          from jsonb_array_elements(coalesce(rows -> 'folders', '[]')) as f
         cross join lateral jsonb_array_elements(coalesce(f.value -> 'sessions', '[]')) as p
    ), disputed as materialized (
        select c.session_id from claims as c group by c.session_id having count(*) > 1
    ), named as (
        -- with whom the store says that its session is
        select s.*, (select held.user_id from turnlog.ai_sessions as held
                      where held.project = in_project and held.id = s.session_id and s.kind <> 'feedback') as known
          from stated as s
    ), gone as materialized (
        select w.who, e.erased_at
          from (select n.who from named as n union select n.claimant from named as n
                union select n.known from named as n) as w
          join turnlog.ai_erased_users as e
            on e.project = in_project and e.user_hash = turnlog.user_hash(secret, w.who)
    ), judged as (
        select n.kind, n.position, n.session_id,
               exists (select from gone as g
                        where g.who in (n.who, n.claimant, n.known) and n.received_at <= g.erased_at)
               or exists (select from turnlog.ai_session_folders as f
                           where f.project = in_project and f.id = n.folder_id and n.received_at <= f.erased_at) as is_refused,
               n.kind = 'sessions'
               and (n.claim is null
                    or n.claimant is null and n.session_id not in (select d.session_id from disputed as d))
               and exists (select from gone as g where g.who = n.who and n.received_at <= g.erased_at) as is_theirs,
               -- who claims a session doesn't say of somebody else's whose it is
               (select max(g.erased_at) from gone as g
                 where n.kind = 'sessions' and g.who = n.who and n.claim is null
                   and n.received_at <= g.erased_at) as theirs_until
          from named as n
    )
    select coalesce((select jsonb_object_agg(r.kind, r.receipts)
                       from (select j.kind, jsonb_object_agg(
                                        j.position, '{"receipt": "rejected", "reason": "erased"}'::jsonb) as receipts
                               from judged as j where j.is_refused group by j.kind) as r), '{}'),
           coalesce((select array_agg(distinct j.session_id order by j.session_id) from judged as j where j.is_theirs), '{}'),
           (select jsonb_object_agg(j.session_id, j.theirs_until) from judged as j where j.theirs_until is not null)
      into refused, theirs, until;

    insert into turnlog.ai_sessions (project, id, implicit, created_at, erased_at)
    select in_project, t.id, true, statement_timestamp(), statement_timestamp()
      from unnest(theirs) as t (id)
     order by t.id
        on conflict do nothing;
    -- what of it came earlier, before anybody had said whose it is
    for one in
        select s.id from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (theirs) and s.erased_at is null and s.user_id is null
           and s.claim is null and s.created_at <= (until ->> s.id::text)::timestamptz
         order by s.id
    loop
        perform turnlog.erase(jsonb_build_object('project', in_project, 'session_id', one));
    end loop;
    return refused;
end
$$;


-- schemas/write/refuse_strangers.sql
-- The rows of a batch whose claim isn't their session's owner: kind -> position -> receipt.
create or replace function turnlog.refuse_strangers(rows jsonb, owners jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_object_agg(refused.kind, refused.receipts), '{}')
          from (select k.kind, jsonb_object_agg(
                           e.ordinality, '{"receipt": "conflict", "reason": "The session is somebody else''s"}'::jsonb) as receipts
                  from unnest(array['sessions', 'participants', 'interactions', 'feedback']) as k (kind)
                 cross join lateral jsonb_array_elements(coalesce(rows -> k.kind, '[]')) with ordinality as e
                 where e.value ->> 'claim' <> owners ->> coalesce(e.value ->> 'session_id', e.value ->> 'id')
                 group by k.kind) as refused);
end
$$;


-- schemas/write/session_owners.sql
-- Whose the sessions are that some row of a batch claims: session -> owner, '' for nobody's but the service's, null for
-- an erased one, which answers for itself. A session that isn't there is missing. An owner never changes.
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


-- schemas/write/with_refused.sql
-- The receipts of a batch, with those of the rows that were refused put in at their positions. `rows` are those that
-- the receipts are of.
create or replace function turnlog.with_refused(receipts jsonb, refused jsonb, rows jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
    kind text;
    given jsonb;
    of_refused jsonb;
begin
    for kind, of_refused in select r.key, r.value from jsonb_each(refused) as r loop
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


-- schemas/write/without_refused.sql
-- A batch without the rows that were refused: kind -> position -> receipt. What turnlog.number_sessions says by
-- positions of the sessions follows: a folder's plan states them behind all that can be refused.
create or replace function turnlog.without_refused(rows jsonb, refused jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
    return (
        select rows || coalesce(jsonb_object_agg(r.key, (
                   select coalesce(jsonb_agg(e.value order by e.ordinality), '[]')
                     from jsonb_array_elements(rows -> r.key) with ordinality as e
                    where not r.value ? e.ordinality::text)), '{}')
          from jsonb_each(refused) as r)
        || case when refused ? 'sessions' and rows ? 'unplaced' then jsonb_build_object(
               'stated', (rows ->> 'stated')::integer - (select count(*) from jsonb_object_keys(refused -> 'sessions')),
               'unplaced', (
                   select coalesce(jsonb_agg(u.position - (select count(*) from jsonb_object_keys(refused -> 'sessions') as k
                                                            where k::bigint < u.position) order by u.position), '[]')
                     from (select p::bigint as position from jsonb_array_elements_text(rows -> 'unplaced') as p) as u
                    where not refused -> 'sessions' ? u.position::text)) else '{}' end;
end
$$;


-- schemas/write/write.sql
-- Writes a batch in one transaction: {project, folders, sessions, participants, interactions, feedback: [row ...] each,
-- return_parents?, late?, dry_run?}. Answers {folders, sessions, participants, interactions, feedback}: for each kind
-- either a list of receipts in the order of its rows, or one word, which is the receipt of each of them.
-- A receipt is {receipt: created | filled | duplicate | conflict | rejected, ...}.
--
-- A row holds values under its columns' names, and may hold more:
--   folders       `sessions`, its plan's: they are written unless the plan is refused, and their receipts are in the folder's
--   sessions      `implicit`: it only came along with a child; `numbering`: `next` gives it the lowest free number of its
--                 folder when it has none yet, `named` means whichever session has its number
--   interactions  `on_conflict`: `report` changes nothing that is there, `fill` fills what is empty though other facts
--                 contradict
--   any but folders  `claim`: the owner that its session must have; a session that isn't there becomes the claimant's
-- `return_parents`: receipts carry the folder or session as it is afterwards. `late`: the batch has waited in a spool,
-- and what was received before its user was erased is rejected. `dry_run`: says what it would do, and does nothing.
--
-- It can't deadlock: folders are inserted and locked in the order of their ids, then missing sessions are inserted in
-- that order, then the others are locked in that order. Whoever writes or erases below a session holds its lock until
-- it commits, so what is read there afterwards stays true. Each step is a statement of its own, since each one sees
-- what committed before it.
create or replace function turnlog.write(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_generic_plan' -- planning anew took a third of a call
set enable_seqscan = off -- a plan made while the tables were empty would still scan them when they are full
set lock_timeout = '3s' -- who waits longer for a lock shall know that it is one, not that the store is away
as $$
declare
    in_project constant text := request ->> 'project';
    late constant boolean := coalesce((request ->> 'late')::boolean, false);
    rows jsonb := request;           -- what isn't refused
    claimed boolean;                 -- some row says whose its session must be
    erased_refused jsonb := '{}';    -- kind -> position -> receipt
    claims_refused jsonb := '{}';
    races_refused jsonb := '{}';
    folders jsonb := '{}';           -- what became of the folders, with what only they know of their sessions
    erasures text;                   -- of which users, as of when `late` rows were checked
    parents record;
    refused jsonb;
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
        erased_refused := turnlog.refuse_erased(in_project, rows);
        rows := turnlog.without_refused(rows, erased_refused);
    end if;
    claimed := rows @? '$.*[*].claim';
    if claimed then -- before any lock: a stranger's rows don't make the owner wait
        claims_refused := turnlog.refuse_strangers(rows, turnlog.session_owners(in_project, rows));
        rows := turnlog.without_refused(rows, claims_refused);
    end if;
    if jsonb_array_length(rows -> 'folders') > 0 or rows @? '$.sessions[*].folder_id' then
        folders := turnlog.write_folders(in_project, rows);
        rows := rows || turnlog.number_sessions(in_project, rows, folders -> 'sessions');
    end if;

    select e.* into parents from turnlog.ensure_sessions(in_project, rows) as e;
    if late and erasures <> (select format('%s %s', count(*), sum(extract(epoch from e.erased_at)))
                               from turnlog.ai_erased_users as e where e.project = in_project) then
        raise exception using errcode = '55P03', message = 'a user was erased while this waited for a lock: write it again';
    end if;
    if claimed then -- once more: of several who make one session, here or meanwhile, the first has it
        races_refused := turnlog.refuse_strangers(rows, turnlog.session_owners(in_project, rows));
        rows := turnlog.without_refused(rows, races_refused);
    end if;

    -- participants before interactions: those state a role and a state, these only name who takes part
    receipts := jsonb_build_object(
        'sessions', case when parents.plain and parents.present = '{}' then '"created"'
                         when parents.plain and parents.created = '{}' then '"duplicate"'
                         else turnlog.write_sessions(in_project, rows, parents.created, parents.present, parents.refused) end,
        'participants', case when jsonb_array_length(rows -> 'participants') > 0
                             then turnlog.write_participants(in_project, rows, parents.refused) end,
        'interactions', case when jsonb_array_length(rows -> 'interactions') > 0
                             then turnlog.write_interactions(in_project, rows, parents.refused) end,
        'feedback', case when jsonb_array_length(rows -> 'feedback') > 0
                         then turnlog.write_feedback(in_project, rows, parents.refused) end);
    if folders <> '{}' or request -> 'return_parents' = 'true' then
        receipts := receipts || turnlog.add_parents(
            in_project, rows, coalesce(folders -> 'receipts', '[]'), receipts -> 'sessions');
    end if;
    foreach refused in array array[races_refused, claims_refused, erased_refused] loop
        if refused <> '{}' then
            receipts := turnlog.with_refused(receipts, refused, rows);
        end if;
    end loop;
    return receipts;
end
$$;


-- schemas/write/write_feedback.sql
-- Writes a batch's feedback, below sessions that it has locked. Answers their receipts in order.
--
-- Of all that one author says of one interaction under one name the statement with the latest `given_at` is kept, and of
-- those of one moment the one whose value, then whose comment, is the greater text: so any order, doubling and delay
-- leave the same row. A receipt is `filled` where a statement took the place of another one, with the fields that are
-- different now, and `duplicate` where it says what is there, or, with the reason `older`, something that was said
-- before.
create or replace function turnlog.write_feedback(in_project text, rows jsonb, refused jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    stated record;
    held turnlog.ai_feedback;
    is_newer boolean;
    fields text[];
    receipts jsonb[] := '{}';
begin
    for stated in
        select f.*
          from jsonb_to_recordset(rows -> 'feedback') as f (
               session_id uuid, interaction_id uuid, author text, name text, value jsonb, comment text,
               given_at timestamptz, created_at timestamptz)
    loop
        if refused ? stated.session_id::text then
            receipts := array_append(receipts, jsonb_build_object(
                'receipt', 'rejected', 'reason', refused -> stated.session_id::text));
            continue;
        end if;

        stated.author := coalesce(stated.author, '');
        stated.created_at := coalesce(stated.created_at, statement_timestamp());
        stated.given_at := coalesce(stated.given_at, stated.created_at);
        insert into turnlog.ai_feedback
               (project, session_id, interaction_id, author, name, value, comment, given_at, created_at)
        values (in_project, stated.session_id, stated.interaction_id, stated.author, stated.name, stated.value,
                stated.comment, stated.given_at, stated.created_at)
            on conflict do nothing;
        if found then
            receipts := array_append(receipts, '{"receipt": "created"}'::jsonb);
            continue;
        end if;

        select f.* into held
          from turnlog.ai_feedback as f
         where f.project = in_project and f.session_id = stated.session_id
           and f.interaction_id = stated.interaction_id and f.author = stated.author and f.name = stated.name;
        is_newer := (stated.given_at, stated.value::text collate "C", coalesce(stated.comment, '') collate "C")
                  > (held.given_at, held.value::text collate "C", coalesce(held.comment, '') collate "C");
        fields := array_remove(array[
            case when is_newer and stated.value <> held.value then 'value' end,
            case when is_newer and stated.comment is distinct from held.comment then 'comment' end], null);
        if is_newer then
            update turnlog.ai_feedback as f
               set value = stated.value, comment = stated.comment, given_at = stated.given_at,
                   created_at = least(held.created_at, stated.created_at)
             where f.project = in_project and f.session_id = stated.session_id
               and f.interaction_id = stated.interaction_id and f.author = stated.author and f.name = stated.name;
        elsif stated.created_at < held.created_at then
            update turnlog.ai_feedback as f
               set created_at = stated.created_at
             where f.project = in_project and f.session_id = stated.session_id
               and f.interaction_id = stated.interaction_id and f.author = stated.author and f.name = stated.name;
        end if;
        receipts := array_append(receipts, case
            when fields <> '{}' then jsonb_build_object('receipt', 'filled', 'fields', fields)
            when not is_newer and (stated.value <> held.value or stated.comment is distinct from held.comment)
                then '{"receipt": "duplicate", "reason": "older"}'::jsonb
            else '{"receipt": "duplicate"}'::jsonb end);
    end loop;
    return to_jsonb(receipts);
end
$$;


-- schemas/write/write_folders.sql
-- Writes a batch's folders, in the order of their ids, and locks them and those that its sessions are in. Answers
-- {receipts: [...], sessions: [...]}: the numbered sessions of the plans that were accepted, each with `of_folder`, the
-- position of its folder.
create or replace function turnlog.write_folders(in_project text, rows jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    folders constant jsonb := coalesce(rows -> 'folders', '[]');
    born uuid[];
    stated record;
    held turnlog.ai_session_folders;
    rule record;
    receipt jsonb;
    receipts jsonb := '[]';
    planned jsonb := '[]';
    changed uuid[] := '{}';  -- folders of which something was filled
begin
    -- the missing ones first, in the order of their ids; then all are locked in that order, as sessions are
    with stated as (
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
          from stated as s
         order by s.id
            on conflict do nothing
        returning id
    )
    select coalesce(array_agg(i.id), '{}') into born from inserted as i;

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

    for stated in
        select f.value as facts, (f.value ->> 'id')::uuid as id, coalesce((f.value ->> 'implicit')::boolean, false) as implicit,
               row_number() over (partition by f.value ->> 'id' order by coalesce((f.value ->> 'implicit')::boolean, false),
                                  f.value ->> 'key' is null, f.ordinality) as nth,
               f.ordinality
          from jsonb_array_elements(folders) with ordinality as f
         order by nth, f.ordinality
    loop
        select f.* into held from turnlog.ai_session_folders as f where f.project = in_project and f.id = stated.id;
        if held.id is null then
            receipt := (
                select jsonb_build_object(
                           'receipt', 'conflict', 'constraint', 'ai_session_folders_project_key_key',
                           'columns', array['project', 'key'],
                           'attempted', jsonb_build_object('project', in_project, 'key', stated.facts ->> 'key'),
                           'held_by', f.id)
                  from turnlog.ai_session_folders as f
                 where f.project = in_project and f.key = stated.facts ->> 'key');
        elsif stated.nth = 1 and stated.id = any (born) then
            receipt := '{"receipt": "created"}';
        else
            select r.fills, r.conflicts into rule
              from turnlog.fill_rule(
                   to_jsonb(held), stated.facts - '{id,implicit,created_at,sessions}'::text[]) as r;
            -- a plan may grow: what it had stays as it was
            if (stated.facts ->> 'total_weeks')::integer > held.total_weeks then
                rule.conflicts := nullif(array_remove(rule.conflicts, 'total_weeks'), '{}');
                rule.fills := coalesce(rule.fills, '{}') || jsonb_build_object('total_weeks', stated.facts -> 'total_weeks');
            end if;
            if rule.conflicts is not null then
                receipt := jsonb_build_object('receipt', 'conflict', 'fields', array(
                    select case when c.field in ('sessions_per_week', 'total_weeks', 'starts_on')
                                then 'plan.' || c.field else c.field end from unnest(rule.conflicts) as c (field)));
                if rule.conflicts && '{sessions_per_week,total_weeks}' then
                    receipt := receipt || jsonb_build_object('reason', format(
                        'The plan has %s weeks of %s sessions; it may get longer, not shorter or denser',
                        held.total_weeks, held.sessions_per_week));
                end if;
            elsif rule.fills is not null or held.implicit and not stated.implicit then
                update turnlog.ai_session_folders as f
                   set (key, name, user_id, sessions_per_week, total_weeks, starts_on, metadata, implicit) = (
                       select m.key, m.name, m.user_id, m.sessions_per_week, m.total_weeks, m.starts_on, m.metadata,
                              held.implicit and stated.implicit
                         from jsonb_populate_record(held, coalesce(rule.fills, '{}')) as m)
                 where f.project = in_project and f.id = stated.id;
                receipt := jsonb_build_object('receipt', 'filled', 'fields', array(
                    select case when k.field in ('sessions_per_week', 'total_weeks', 'starts_on')
                                then 'plan.' || k.field else k.field end
                      from jsonb_object_keys(rule.fills) as k (field) order by 1));
            else
                receipt := '{"receipt": "duplicate"}';
            end if;
        end if;
        receipts := receipts || jsonb_build_object('at', stated.ordinality, 'receipt', receipt);
        if receipt ->> 'receipt' <> 'conflict' then
            planned := planned || (
                select coalesce(jsonb_agg(p.value || jsonb_build_object('of_folder', stated.ordinality)), '[]')
                  from jsonb_array_elements(coalesce(stated.facts -> 'sessions', '[]')) as p);
        end if;
        if receipt ->> 'receipt' = 'filled' then
            changed := changed || stated.id;
        end if;
    end loop;

    -- What the folders say of their planned sessions, now that all is known: whose they are and when they begin may be
    -- said at another time than how many there are. Those that are there already gain it as well.
    planned := planned || (
        select coalesce(jsonb_agg(jsonb_build_object(
                   'id', s.id, 'implicit', true, 'folder_id', s.folder_id, 'place', s.session_number - 1)), '[]')
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
                           'scheduled_on', f.starts_on + n.place / f.sessions_per_week * 7
                                           + n.place % f.sessions_per_week * 7 / f.sessions_per_week)
                       order by p.ordinality), '[]')
              from jsonb_array_elements(planned) with ordinality as p
             cross join lateral (select coalesce((p.value ->> 'place')::integer,
                                                 (p.value ->> 'session_number')::integer - 1) as place) as n
              join turnlog.ai_session_folders as f
                on f.project = in_project and f.id = (p.value ->> 'folder_id')::uuid));
end
$$;


-- schemas/write/write_interactions.sql
-- Writes a batch's interactions below sessions that it has locked, queues their texts for the search's index, and notes
-- who takes part. Those that are new go in by one statement. What is said of the others is gone through in order.
-- Answers their receipts in order, or the one word for all of them.
create or replace function turnlog.write_interactions(in_project text, rows jsonb, refused jsonb)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    interactions constant jsonb := rows -> 'interactions';
    fresh constant turnlog.ai_interactions := jsonb_populate_record(null::turnlog.ai_interactions, jsonb_build_object(
        'project', in_project, 'created_at', statement_timestamp()));
    created_sessions uuid[];
    created_ids uuid[];
    created_keys text[];
    participants boolean;    -- some interaction names who it is of
    receipts jsonb := '{}';  -- position -> receipt, of those that were not new
begin
    with inserted as (
        insert into turnlog.ai_interactions
        select i.*
          from jsonb_populate_recordset(fresh, interactions) as i
         where refused = '{}' or not refused ? i.session_id::text
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
        receipts := turnlog.fill_interactions(in_project, rows, refused, created_sessions, created_ids, created_keys);
        participants := true;
    end if;
    if participants then
        insert into turnlog.ai_session_participants (project, session_id, participant, created_at)
        select in_project, named.session_id, named.participant, min(named.created_at)
          from (select i.session_id, held.participant, coalesce(i.created_at, statement_timestamp()) as created_at
                  from jsonb_to_recordset(interactions)
                       as i (session_id uuid, id uuid, participant text, created_at timestamptz)
                  join turnlog.ai_interactions as held
                    on held.project = in_project and held.session_id = i.session_id and held.id = i.id
                 where i.participant is not null and held.participant is not null
                   and not refused ? i.session_id::text) as named
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
-- Writes a batch's participants, below sessions that it has locked. Answers their receipts in order.
create or replace function turnlog.write_participants(in_project text, rows jsonb, refused jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    onward constant text[] := '{reserved,confirmed,joined,left}';
    stated turnlog.ai_session_participants;
    held turnlog.ai_session_participants;
    fields text[];
    receipt jsonb;
    receipts jsonb[] := '{}';
begin
    for stated in select p.* from jsonb_populate_recordset(null::turnlog.ai_session_participants, coalesce(rows -> 'participants', '[]')) as p loop
        if refused ? stated.session_id::text then
            receipts := array_append(receipts, jsonb_build_object(
                'receipt', 'rejected', 'reason', refused -> stated.session_id::text));
            continue;
        end if;
        insert into turnlog.ai_session_participants (project, session_id, participant, role, state, created_at)
        values (in_project, stated.session_id, stated.participant, stated.role, stated.state,
                coalesce(stated.created_at, statement_timestamp()))
            on conflict do nothing;
        if found then
            receipts := array_append(receipts, '{"receipt": "created"}'::jsonb);
            continue;
        end if;
        select p.* into held
          from turnlog.ai_session_participants as p
         where p.project = in_project and p.session_id = stated.session_id and p.participant = stated.participant;
        fields := array_remove(array[
            case when stated.role <> held.role then 'role' end,
            case when array_position(onward, stated.state) < array_position(onward, held.state) then 'state' end], null);
        if fields <> '{}' then
            receipt := jsonb_build_object('receipt', 'conflict', 'fields', fields);
            if 'state' = any (fields) then
                receipt := receipt || jsonb_build_object('reason', format(
                    'A participant''s state moves only forward (reserved, confirmed, joined, left): it is %s, %s would be a step back',
                    held.state, stated.state));
            end if;
        else
            fields := array_remove(array[
                case when held.role is null and stated.role is not null then 'role' end,
                case when stated.state is distinct from held.state and stated.state is not null then 'state' end], null);
            if fields = '{}' then
                receipt := '{"receipt": "duplicate"}';
            else
                update turnlog.ai_session_participants as p
                   set role = coalesce(held.role, stated.role), state = coalesce(stated.state, held.state)
                 where p.project = in_project and p.session_id = stated.session_id and p.participant = stated.participant;
                receipt := jsonb_build_object('receipt', 'filled', 'fields', fields);
            end if;
        end if;
        receipts := array_append(receipts, receipt);
    end loop;
    return to_jsonb(receipts);
end
$$;


-- schemas/write/write_sessions.sql
-- What a batch says of sessions: what they lack is filled in, what contradicts them is a conflict. Those that came along
-- with a child state their key and nothing else. Answers their receipts in order.
create or replace function turnlog.write_sessions(
    in_project text, rows jsonb, created uuid[], present uuid[], refused jsonb)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    sessions constant jsonb := coalesce(rows -> 'sessions', '[]');
    unplaced constant jsonb := coalesce(rows -> 'unplaced', '[]');
    one record;
    held turnlog.ai_sessions;
    rule record;
    adopts boolean;         -- it creates by name what an interaction brought along
    places bigint[] := '{}';
    given jsonb[] := '{}';
    receipts jsonb;         -- position -> receipt
begin
    for one in
        select s.value as facts, (s.value ->> 'id')::uuid as id, s.ordinality as at,
               coalesce((s.value ->> 'implicit')::boolean, false) as implicit, s.value ? 'folder_id' as is_placed,
               -- as turnlog.missing_sessions chooses the one that makes it
               row_number() over (partition by s.value ->> 'id' order by s.value ->> 'claim' is not null,
                                  coalesce((s.value ->> 'implicit')::boolean, false), not s.value ? 'key', s.ordinality) as nth
          from jsonb_array_elements(sessions) with ordinality as s
         where (s.value -> 'implicit' is distinct from 'true' or s.value ? 'folder_id'
                or s.value ? 'key')
           and not unplaced @> to_jsonb(s.ordinality)
         order by nth, s.ordinality
    loop
        if one.nth = 1 and one.id = any (created) or refused ? one.id::text then
            continue;
        end if;
        select s.* into held from turnlog.ai_sessions as s where s.project = in_project and s.id = one.id;
        if held.id is null or one.implicit and held.key is not null and not one.is_placed then
            continue;
        end if;
        places := array_append(places, one.at);
        adopts := held.implicit and not one.implicit;
        select r.fills, r.conflicts
          into rule
          from turnlog.fill_rule(
               -- `open` is no fact of its own, nor is what a session was born with that nobody has created yet
               to_jsonb(held)
                   - case when held.status = 'open' or held.implicit then 'status' else '' end
                   - case when held.implicit and held.scheduled_on <> (one.facts ->> 'scheduled_on')::date
                          then 'scheduled_on' else '' end
                   - case when held.implicit and held.user_id <> one.facts ->> 'user_id' then 'user_id' else '' end,
               to_jsonb(jsonb_populate_record(null::turnlog.ai_sessions, one.facts))
                   - '{project,id,claim,implicit,created_at,erased_at,edited}'::text[]
                   - case when one.implicit or one.facts ->> 'status' = 'open' then 'status' else '' end
                   -- a plan only says what nobody else has said
                   - case when one.implicit and held.scheduled_on is not null then 'scheduled_on' else '' end
                   - case when one.implicit and held.user_id is not null then 'user_id' else '' end
                   - coalesce(held.edited, '{}')) as r;
        if rule.conflicts is not null then
            given := array_append(given, jsonb_build_object('receipt', 'conflict', 'fields', rule.conflicts));
        elsif rule.fills is null and not adopts then
            given := array_append(given, '{"receipt": "duplicate"}'::jsonb);
        else
            update turnlog.ai_sessions as s
               set (key, user_id, title, tags, metadata, started_at, ended_at, folder_id, session_number, scheduled_on,
                    status, implicit) = (
                   select m.key, m.user_id, m.title, m.tags, m.metadata, m.started_at, m.ended_at, m.folder_id,
                          m.session_number, m.scheduled_on,
                          case when adopts and not coalesce(rule.fills ? 'status', false)
                                    and 'status' <> all (coalesce(held.edited, '{}')) then 'open' else m.status end,
                          m.implicit and not adopts
                     from jsonb_populate_record(held, coalesce(rule.fills, '{}')) as m)
             where s.project = in_project and s.id = one.id;
            given := array_append(given, jsonb_build_object(
                'receipt', 'filled', 'fields', array(select f from jsonb_object_keys(rule.fills) as f order by f)));
        end if;
    end loop;

    receipts := coalesce((select jsonb_object_agg(g.place, g.receipt) from unnest(places, given) as g (place, receipt)), '{}');
    -- a record with neither a row of its own nor an erased session met another row's natural key
    return (
        select coalesce(jsonb_agg(coalesce(
                   receipts -> s.ordinality::text,
                   case when unplaced @> to_jsonb(s.ordinality)
                            then turnlog.session_clash(in_project, jsonb_populate_record(null::turnlog.ai_sessions, s.value))
                        when refused ->> (s.value ->> 'id') = 'erased' then '{"receipt": "rejected", "reason": "erased"}'
                        when (s.value ->> 'id')::uuid = any (created) then '{"receipt": "created"}'
                        when (s.value ->> 'id')::uuid = any (present) then '{"receipt": "duplicate"}'
                        else turnlog.session_clash(in_project, jsonb_populate_record(null::turnlog.ai_sessions, s.value))
                   end) order by s.ordinality), '[]')
          from jsonb_array_elements(sessions) with ordinality as s);
end
$$;


-- schemas/read/conversation.sql
-- {project, session_id, limit, feedback, owner?, author?, neighbours?, and at most one of interaction_id, after, before as of
-- turnlog.outline} -> {session, outline, transcript, participants, folder, feedback}: a page of a session and what stands beside
-- it, each as the function of its name answers. The transcript begins one interaction before the page, where there is one.
-- `folder` has `neighbours` sessions, from the one before this on; it is null without it, or without a folder. `feedback` is of
-- the page's interactions, at most so many. All but the session is null of a tombstone, and of one that isn't the `owner`'s.
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
                -- after all of the numbers before the one before
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
-- {project, and the filters of turnlog.sessions} -> {sessions, complete}: how many sessions these let through, up to
-- 10,000, of the newest 5,000 where their interactions have to be looked into. Not `complete`: there may be more.
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
-- {project, session_id, limit, interaction_ids?, author?, after?} -> {session, feedback, after}: what was said of a session's
-- interactions, or of some of them, or by one author. {project, author, limit, after?} -> the same, with `session` null: what
-- somebody said in sessions that are not their own. In the order of the ids, which never change, with `after` {session_id,
-- interaction_id, author, name}, null at the end.
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
    -- one more than the page, to know whether there is a next one
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
-- {project, folder_id, limit, after?: {number, session_id}} -> {folder, sessions, after}: the folder, or null, and a
-- page of its sessions by their numbers, those without one last.
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
    -- one more than the page, to know whether there is a next one
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
-- {project, limit, user_id?, after?: folder id} -> {folders, after}, in the order of their ids.
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
-- {project, session_id, ranges} -> {sessions, after: null}: that session, if there is one (perhaps a tombstone).
-- {project, limit, ranges, after?: session id} -> {sessions, after}: of the next `limit` sessions in the order of
-- their ids those that lack a turn or have one twice, so a page may be short or empty; `after` is null at the end.
--
-- `first` and `last` are the lowest and the highest turn seen; `missing` counts the turns between them that no
-- interaction has, `counted` the interactions that have one. At most `ranges` of the `gaps` {from, to} and of the
-- `doubled` turns {turn, interactions} are listed, lowest first; `gap_count` and `doubled_count` say how many there are.
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
        -- one more than the page, to know whether there is a next one
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
-- {project, session_id, limit, and at most one of interaction_id, after, before: places as of turnlog.transcript} ->
-- {total, index, after, context, models, states}. `index`: how many interactions stand before the page that holds the
-- interaction, begins after a place, or ends before one; `after`: the place that turnlog.transcript takes to read that
-- page, null for the first; `context`: the same for a page that begins one interaction earlier. An interaction's page begins at a multiple of `limit`, so that it stays the same page.
-- `models`: what was logged by model; what has tokens and no cost is summed up apart, so that somebody can estimate it.
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
-- {project, from, to, bucket_s, most, sample, most_failures, top, top_models, tiers} -> {interactions, failures,
-- sessions}: of the time from `from` to `to`, in buckets of so many seconds since 1970. Each is {share, …}: the share of the
-- time that was looked at (see turnlog.share), 1 for all; every count and sum is of that share.
--
-- interactions: {share, total, buckets, models, users, folders}. total: {interactions, completed, failed, pending,
-- abandoned, input_tokens, output_tokens, priced, cost_usd, models, latency_ms, time_to_first_token_ms}: `priced` are those
-- that state a cost, `cost_usd` is its sum, `models` are how many there are; latencies are [p50, p95]. buckets: [{at, interactions,
-- latency_ms}]. models: [{model, provider, interactions, input_tokens, output_tokens, priced, cost_usd, sizes}], the
-- `top_models` most used ones. sizes: [{interactions, input_tokens, output_tokens}] of those that state tokens and no
-- cost, apart by size of the input, since prices differ by it: each between two neighbours of `tiers`. users: [{user_id,
-- interactions, sessions}] and folders: [{folder_id, key, name, interactions, sessions}], the `top` most active ones.
-- failures: {share, total, buckets: [{at, failed}], errors: [{error, interactions}]}, the `top` most frequent ones, without what
-- differs each time, such as ids. sessions: {share, total, buckets: [{at, sessions}]}: those that began, unless they are locked.
create or replace function turnlog.overview(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- slices of an index, never a whole table, whatever its statistics say
set work_mem = '64MB' -- holds what is looked at, which is bounded; on the disk it would take twice as long
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
    -- about a thousand slices, as many in each bucket
    buckets constant integer := ceil(extract(epoch from before - not_before) / (request ->> 'bucket_s')::integer);
    parts constant integer := buckets * ceil(1000.0 / buckets);
    of_interactions constant double precision :=
        turnlog.share(in_project, 'interactions', not_before, before, parts, most, sample);
    of_failures constant double precision :=
        turnlog.share(in_project, 'failures', not_before, before, parts, most_failures, most_failures);
    of_sessions constant double precision :=
        turnlog.share(in_project, 'sessions', not_before, before, parts, most, sample);
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
        -- by its primary key, one look for each
        select m.session_id, m.interactions, (s.owner).user_id, (s.owner).folder_id, (s.owner).erased_at
          from (select m.session_id, count(*) as interactions from met as m group by m.session_id) as m
         cross join lateral (
               select s as owner from turnlog.ai_sessions as s where s.project = in_project and s.id = m.session_id
               offset 0) as s
    ), owned as (
        select s.* from met_sessions as s where s.erased_at is null
    ), looked as materialized (
        -- What is being erased has its tombstone first. Not a join, nor `not in`: of a large log the planner expects so many
        -- that it would look through all sessions for each interaction. An array is made once, and mostly empty.
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
         -- a look each, as with what is counted above: not those of a session that is being erased
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
-- {project, session_id} -> {session, participants}: who takes part, in the order of their arrival. `session` is null
-- if there is none.
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
-- {project, user_id, limit, after?: session id} -> {sessions, after}: the sessions of others that a user takes part in,
-- in the order of their ids.
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
-- {project, limit, model?, has_errors?, error?, from?, to?, after?: {at, session_id, interaction_id}} -> {interactions, after}:
-- those that arrived last, first, with the beginnings of their texts. With `from` or `to` those that began in this time, the
-- latest first by their started_at, or created_at where the caller gave none. `error`: of this kind, see
-- turnlog.error_kind. A page may be short; `after` is null at the end.
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
    enough constant integer := case when request ->> 'error' is null then 10000 else 2000 end; -- rows looked at
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
        walked := walked || ' and i.erased_at is null' || failed; -- those that failed have an index by this time
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
        -- the first two are the index's; within a session, what arrived at once is in the order of the ids
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
              -- what is being erased has its tombstone first, and is gone from here with it
              join turnlog.ai_sessions as s on s.project = i.project and s.id = i.session_id and s.erased_at is null
             where i.n <= $2),
           case when (select count(*) from shown) > $2$sql$
            || ' then (select ' || place_of || ' from shown as p where p.n = $2)'
               ' else (select ' || place_of || ' from looked as p offset $3 - 1 limit 1) end'
       into page, place using request, page_size, enough;
    return jsonb_build_object('interactions', page, 'after', place);
end
$$;


-- schemas/read/search.sql
-- {project, terms, limit, rows, ms, order, first?, words?, user_id?, unclaimed?, session_id?, model?, from?, to?, after?: {at,
-- session_id, interaction_id}} -> {interactions, after, complete, searched, matched, searched_to}: interactions that say all the
-- terms (or any, without terms), newest first by their started_at, or created_at where the caller gave none. `words`: as whole words only.
--
-- A call looks at `rows` interactions at most, for about `ms` milliseconds, so that none hangs (`first`
-- newest ones before it asks the index): it answers what it found
-- and where to go on, and `complete` is false if it ended so. With `order` match the best of `limit` * 10 matches at
-- most come first, among those that this call has found. `after` is null at the end.
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
    window_size constant integer := 4000;  -- characters of a text that a hit carries, around the first term
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
    -- scripts that don't part their words, and Korean, whose particles hang on them, have no border to be checked
    unparted constant text := '[\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u3040-\u30FF\u3400-\u9FFF\uAC00-\uD7AF\uF900-\uFAFF\U00020000-\U0003FFFF]';
    as_words constant text[] := array(
        select case when t.term ~ ('^' || unparted) then '' else '(?:^|[^[:alnum:]_])' end
            || regexp_replace(t.term, '([^[:alnum:]_\s])', '\\\1', 'g')
            || case when t.term ~ (unparted || '$') then '' else '(?:$|[^[:alnum:]_])' end
          from unnest(terms) as t (term));
    words_only constant boolean := coalesce((request ->> 'words')::boolean, false);
    sought constant integer[] := array(
        select distinct g.gram from unnest(terms) as t (term), unnest(turnlog.grams(t.term)) as g (gram));
    most_sessions constant integer := 2000; -- what is in so many is read at once; more is looked through from the newest on
    having_it uuid[];            -- sessions that can have it, by the index
    among uuid[];                -- those that are looked through; null: all
    looked record;
    searched integer := 0;
    found jsonb := '[]';         -- places
    page_is_full boolean := false;
    is_cut boolean := false;
    goes_on boolean := false;
    next_at timestamptz;         -- the last place that was looked at first
    next_session uuid;
    next_id uuid;
    last_place jsonb;
begin
    if request ->> 'session_id' is not null then
        -- none that the caller may not see: how much was looked at would tell of it
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
        among := null; -- a user of many sessions is told from the others below
    end if;

    -- What is said often is among the newest; to find by the index all who said it would take longer. So they come first,
    -- and the index is asked for what is older than those.
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
        -- the filters stand in the list of what is read, not among the conditions: however few they leave, the clock is looked at
        for looked in
            select said.session_id, said.id, said.at,
                   case when said.said is null or octet_length(said.said) = length(said.said) then lower(said.said)
                        else turnlog.fold(said.said) end as folded
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
                           end as said
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
                    offset 0) as said
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
                -- of a session that is being erased the rest is there still
                if not exists (select from turnlog.ai_sessions as s
                                where s.project = in_project and s.id = looked.session_id and s.erased_at is not null) then
                    found := found || jsonb_build_object('at', looked.at, 'session_id', looked.session_id, 'interaction_id', looked.id,
                        'score', case when best_first then (
                            -- often said, as a word of its own, in a short text
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
                       'field', here.field, 'starts', coalesce(here.starts, 0), 'length', length(here.said),
                       'text', substr(here.said, 1 + here.starts, window_size))
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
                   -- What says more of the terms, and where the longest of those begins. Of a list of messages the last one
                   -- goes before the answer, and that before the rest: instructions, and what was said in turns before.
                   select side.field, side.said, side.begins + greatest(0, at.place - 1 - window_size / 2) as starts
                     from (select turnlog.plain_text(i.prompt) as prompt, turnlog.plain_text(i.response) as response,
                                  case jsonb_typeof(i.prompt) when 'array'
                                      then turnlog.plain_text(jsonb_build_array(i.prompt -> -1)) end as last_one
                          offset 0) as texts -- each is read once
                    cross join lateral (
                          values ('prompt', 1, texts.prompt, length(texts.prompt) - length(texts.last_one),
                                  turnlog.fold(texts.last_one)),
                                 ('response', 2, texts.response, 0, turnlog.fold(texts.response)),
                                 ('prompt', case when texts.last_one is null then 1 else 3 end, texts.prompt, 0,
                                  turnlog.fold(texts.prompt))
                          ) as side (field, rank, said, begins, folded)
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
-- {project, session_id} -> the session, a tombstone (erased_at set) or null.
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
-- The sessions that one filter of a list's request lets through, or what is `walked` if that is given, if they are no more
-- than `most`; null if they are more, or no filter can tell. Of other projects, too: whoever asks looks at them once more.
create or replace function turnlog.session_candidates(request jsonb, walked text, most integer) returns uuid[]
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- some entries of an index, never a whole table, whatever its statistics say
set jit = off
as $$
declare
    in_project constant text := request ->> 'project';
    entries constant integer := most * 2; -- of interactions: a session mostly has several
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
-- What a list's request asks of a session `s`, as SQL in which `$1` is the request. An index leads to what is `walked`, in the
-- order of the list; `further` is asked of each row that is looked at there. `looks`: whether that takes a look at the
-- session's interactions.
create or replace function turnlog.session_filters(
    request jsonb, out walked text, out further text, out looks boolean)
language plpgsql immutable
set search_path = ''
as $$
declare
    at constant text := 'coalesce(s.started_at, s.created_at)';
    -- one index alone: what a second one finds would have to be looked for in all that the first one does
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
              -- a plan's sessions are there before they begin
              ('begun', 's.status ' || case when (request ->> 'begun')::boolean then '<>' else '=' end || ' ''locked'''),
              ('unclaimed', case when (request ->> 'unclaimed')::boolean then 's.claim is null' else 'true' end),
              ('tag', 's.tags @> array[$1 ->> ''tag'']'),
              ('name', 'strpos(lower(concat_ws(chr(10), s.title, s.key)), lower($1 ->> ''name'')) > 0'),
              -- a look by the index each: joined, they were planned by reading all that the model said in the project
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
-- {project, limit, user_id?, unclaimed?, folder_id?, tag?, status?, implicit?, model?, has_errors?, begun?, name?, from?, to?,
-- sort?: newest | oldest | activity, after?: {at, session_id}} -> {sessions, after}. A session's time is its started_at, or
-- created_at where the caller gave none; by `activity` it is when its last interaction arrived, and those without any are
-- left out. `name` is a part of the title or the key. A page may be short; `after` is null at the end.
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
    -- where a place of the list stands against the one to go on from, and in which order it is walked
    beyond constant text := case when has_after then format(
        ' and (%%s, %%s) %s (($1 #>> ''{after,at}'')::timestamptz, ($1 #>> ''{after,session_id}'')::uuid)',
        case when backwards then '>' else '<' end) else '' end;
    direction constant text := case when backwards then 'asc' else 'desc' end;
    whole constant boolean := filters.further = '' and not by_activity; -- the index finds the page, however far that is
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
        -- entries of interactions; each session counts where its last one is, unless that is on an earlier page
        looks := '{2000,8000}';
        walk := 'select i.session_id as id, i.created_at as at from turnlog.ai_interactions as i where i.project = $1 ->> ''project'''
                || format(beyond, 'i.created_at', 'i.session_id') || ' order by i.created_at desc, i.session_id desc limit $2';
        page := 'select w.id, w.at from (select v.id, max(v.at) as at from (' || walk || ') as v group by v.id) as w'
                || ' where (select true from turnlog.ai_sessions as s where s.id = w.id and ' || filters.walked || filters.further
                || ' limit 1)'
                || case when has_after then ' and (select true from turnlog.ai_interactions as i'
                   ' where i.project = $1 ->> ''project'' and i.session_id = w.id'
                   -- not by the index of arrivals, which would be read from its end
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
        -- what one rare filter lets through is looked at as a whole before looking further
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
        -- one more than the page, to know whether there is a next one
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
-- {project, limit, after?: session id, user_id?, tag?, status?, from?, to?} -> {sessions, after}: of the next `limit`
-- sessions in the order of their ids, or of a user's, those that the filters let through, so a page may be short or
-- empty; `after` is null at the end. An id never changes, so a walk meets each session that was there when it began
-- exactly once.
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
    -- one more than the page, to know whether there is a next one
    if of_user is null then
        ids := array(
            select s.id
              from turnlog.ai_sessions as s
             where s.project = in_project and s.erased_at is null and s.id > after_id
             order by s.id
             limit page_size + 1);
    else
        -- by their own index, all of them and then sorted: one user's are few among a project's
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


-- schemas/read/share.sql
-- The share of a span's time to look at: 1, all of it, where it has no more than about `most` rows, else what has about
-- `sample` of them. `of` says which rows: 'interactions', 'failures' or 'sessions'. Counts those of slices of the time that grow until
-- they hold a thousand, so it reads some thousands itself, however many there are.
create or replace function turnlog.share(
    in_project text, of text, not_before timestamptz, before timestamptz, parts integer, most integer, sample integer)
returns double precision
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- some slices of an index, never a whole table, whatever its statistics say
as $$
declare
    enough constant integer := 1000;
    tried double precision;
    at_most integer := enough; -- the first count is of the whole span, and stops there: mostly there are no more
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


-- schemas/read/slices.sql
-- Slices of a span: `parts` equal parts of it, and of each a piece that is `share` of its length. Where in its part a
-- piece lies differs from part to part, so that what happens each hour isn't always met or always missed; it is the
-- same with each look. A share of 1 is the whole span, in one slice.
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
-- {project, session_id, limit, after?: {turn, at, interaction_id}, by?: 'id'} -> {session, interactions, after, complete}: the
-- transcript, by the callers' own turn where they count them, then by time, then by id; or by id alone, so that an
-- interaction that gains a turn or a time between two pages keeps its place. `session` is null if there is none.
-- `spooled` and `complete` are for what the service knows of its own disk.
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
             limit page_size + 1 -- to know whether there is a next one
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
                        'output_tokens', i.output_tokens, 'cost_usd', i.cost_usd, 'participant', i.participant)
                    || jsonb_build_object(
                        'reply_to', i.reply_to, 'turn', i.turn, 'tags', coalesce(to_jsonb(i.tags), '[]'),
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
-- {project, user_id, limit, after?} -> {sessions, interactions, participants, feedback, participations, turns, folders, after}: counts
-- what there is of a user, `limit` sessions with each call: first their own, then others' that they take part in, and with
-- the last of those their folders, and what they said of others' sessions. The sum of all calls counts; `after` is null at the end.
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
-- {project, session_id, most?, dry_run?, ensure?} -> {session_id, erased_at, interactions, participants, feedback, left, proof} or
-- null. The session's row stays as a tombstone without content, so that no late replay can bring it back; its number in
-- its folder stays taken. With `most` so many interactions go with each call: nobody reads or adds to the others any more,
-- and it is asked again while some are `left`. Asking again changes nothing. `dry_run` only counts. `ensure` leaves a tombstone also of a
-- session that isn't there. `proof` is a query that counts what is left of it.
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
    ensured constant boolean := coalesce((request ->> 'ensure')::boolean, false);
    most constant integer := request ->> 'most';
    held turnlog.ai_sessions;
    gone_at timestamptz;
    gone_interactions bigint;
    gone_participants bigint;
    gone_feedback bigint;
begin
    if dry_run then
        select s.* into held from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session;
        if held.id is null and not ensured then
            return null;
        end if;
        gone_at := held.erased_at;
        select count(*) into gone_interactions
          from turnlog.ai_interactions as i where i.project = in_project and i.session_id = of_session;
        select count(*) into gone_participants
          from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = of_session;
        select count(*) into gone_feedback
          from turnlog.ai_feedback as f where f.project = in_project and f.session_id = of_session;
    else
        if ensured then
            insert into turnlog.ai_sessions (project, id, implicit, created_at)
            values (in_project, of_session, true, statement_timestamp())
                on conflict do nothing;
        end if;
        -- the lock comes first, in a statement of its own: the delete below then sees every append that won
        select s.* into held
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = of_session
           for update;
        if not found then
            return null;
        end if;
        gone_at := coalesce(held.erased_at, statement_timestamp());

        if most is null then
            delete from turnlog.ai_interactions as i where i.project = in_project and i.session_id = of_session;
        else
            delete from turnlog.ai_interactions as i
             where i.project = in_project collate "C" and i.ctid = any (array(
                   select d.ctid from turnlog.ai_interactions as d
                    where d.project = in_project and d.session_id = of_session limit most));
        end if;
        get diagnostics gone_interactions = row_count;
        delete from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = of_session;
        get diagnostics gone_participants = row_count;
        delete from turnlog.ai_feedback as f where f.project = in_project and f.session_id = of_session;
        get diagnostics gone_feedback = row_count;
        update turnlog.ai_sessions as s
           set key = null, user_id = null, claim = null, title = null, tags = null, metadata = null, edited = null,
               started_at = null, ended_at = null, scheduled_on = null, erased_at = gone_at
         where s.project = in_project and s.id = of_session and s.erased_at is null;
        perform turnlog.queue_session(in_project, of_session);
    end if;

    return jsonb_build_object(
        'session_id', of_session, 'erased_at', gone_at, 'interactions', gone_interactions,
        'participants', gone_participants, 'feedback', gone_feedback,
        'left', not dry_run and coalesce(gone_interactions = most, false),
        'folder_id', held.folder_id, 'session_number', held.session_number,
        'proof', format(
            'select (select count(*) from turnlog.ai_interactions where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_session_participants where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_feedback where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_sessions where project = %1$L and id = %2$L and (erased_at is null'
            ' or num_nonnulls(key, user_id, claim, title, tags, metadata, edited, started_at, ended_at, scheduled_on) > 0))'
            ' as remaining', in_project, of_session));
end
$$;


-- schemas/erase/erase_some.sql
-- Erases the content of some sessions, up to `most` interactions of all of them: those that are empty then become
-- tombstones, the others go on with the next call.
create or replace function turnlog.erase_some(
    in_project text, ids uuid[], most integer,
    out erased uuid[], out interactions bigint, out participants bigint)
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some sessions' rows, never a whole table, whatever its statistics say
as $$
declare
    touched uuid[];  -- sessions of which interactions went
begin
    -- in the order in which writers lock them; the statements below then see every append that won
    perform from (
        select s.id from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids)
         order by s.id
           for update) as locked;
    with gone as (
        delete from turnlog.ai_interactions as i
         where i.project = in_project collate "C" and i.ctid = any (array(
               select d.ctid from turnlog.ai_interactions as d
                where d.project = in_project and d.session_id = any (ids) limit most))
        returning i.session_id
    )
    select count(*), coalesce(array_agg(distinct g.session_id), '{}') into interactions, touched from gone as g;
    erased := array(
        select s.id from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids) and s.erased_at is null
           and not exists (select from turnlog.ai_interactions as i
                            where i.project = in_project and i.session_id = s.id)
         order by s.id);
    delete from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = any (erased);
    get diagnostics participants = row_count;
    delete from turnlog.ai_feedback as f where f.project = in_project and f.session_id = any (erased);
    update turnlog.ai_sessions as s
       set key = null, user_id = null, claim = null, title = null, tags = null, metadata = null, edited = null,
           started_at = null, ended_at = null, scheduled_on = null, erased_at = statement_timestamp()
     where s.project = in_project and s.id = any (erased);
    perform turnlog.queue_session(in_project, t.id) from unnest(touched) as t (id);
end
$$;


-- schemas/erase/erase_user.sql
-- {project, user_id, most, begin?, waiting?, stated?, dry_run?, among?, limit?, after?} -> {erased_at, sessions, interactions, participants,
-- feedback, participations, turns, folders, session_ids, left, proof}: takes a part of what there is of a user away, up to `most`
-- interactions, and is asked again while there is something `left`. The counts are those of all calls since the one
-- that said `begin`, also where that was another that was cut.
--
-- A user's sessions are erased as by turnlog.erase. In other people's sessions they take no part any more, what they said
-- of interactions there goes, and of the interactions that name them the texts are replaced: ids, times and numbers are the conversation's and stay. Their
-- folders stay, since tombstones have numbers in them, without name, key, user and metadata.
-- `waiting`: sessions of which somebody who may has said that they are this user's, and it didn't arrive yet; `stated`:
-- those of which the service itself says so, not only who claims them.
-- `session_ids`: those that this call made tombstones; in a dry run those `among` some that are the user's.
-- `dry_run` counts, and takes `limit` and `after` as turnlog.count_user does.
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
    held turnlog.ai_erased_users;
    ids uuid[];
    folder_ids uuid[];
    waiting uuid[] := '{}';
    step record;
    gone bigint;
    judged bigint;  -- what is said of the sessions that go
    touched uuid[];  -- sessions of which turns were blanked
    found_some boolean := true;
    gone_now jsonb := '{}';
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
    perform turnlog.report_key(request); -- makes the secret that the hash needs
    hash := turnlog.user_hash((select p.secret from turnlog.ai_projects as p where p.project = in_project), of_user);
    if (request ->> 'begin')::boolean then
        insert into turnlog.ai_erased_users as e (project, user_hash, erased_at, counts)
        values (in_project, hash, statement_timestamp(), '{}')
            on conflict (project, user_hash) do update
           set erased_at = excluded.erased_at, finished_at = null,
               counts = case when e.finished_at is null then e.counts else '{}' end;
        waiting := array(
            select w::uuid from jsonb_array_elements_text(coalesce(request -> 'waiting', '[]')) as w order by 1);
        insert into turnlog.ai_sessions (project, id, implicit, created_at, erased_at)
        select in_project, w.id, true, statement_timestamp(), statement_timestamp()
          from unnest(waiting) as w (id)
            on conflict do nothing;
        -- those are found below, also when this call is cut; who claims a session doesn't say of others' whose they are
        update turnlog.ai_sessions as s
           set user_id = of_user
         where s.project = in_project and s.user_id is null and s.claim is null and s.erased_at is null
           and s.id = any (array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'stated', '[]')) as w));
    end if;
    -- one call at a time, so that each counts what it took away
    select e.* into held from turnlog.ai_erased_users as e where e.project = in_project and e.user_hash = hash for update;

    -- 1. Their sessions.
    ids := array(
        select s.id from turnlog.ai_sessions as s
         where s.project = in_project and s.user_id = of_user and s.erased_at is null
         limit 200);
    if ids <> '{}' then
        perform from (  -- in the order of all: what is counted is then what goes
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.id = any (ids)
             order by s.id
               for update) as locked;
        select count(*) into judged from turnlog.ai_feedback as f where f.project = in_project and f.session_id = any (ids);
        select e.* into step from turnlog.erase_some(in_project, ids, most) as e;
        judged := judged - (select count(*) from turnlog.ai_feedback as f
                             where f.project = in_project and f.session_id = any (ids));
        gone_now := jsonb_build_object('sessions', cardinality(step.erased), 'interactions', step.interactions,
                                       'participants', step.participants, 'feedback', judged);
        ids := step.erased;
    else
        -- 2. What they said, and that they took part, in other people's.
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
                       metadata = null, key = null, participant = null, status = 'completed', erased_at = statement_timestamp()
                 where i.project = in_project collate "C" and i.ctid = any (array(
                       select d.ctid from turnlog.ai_interactions as d
                        where d.project = in_project and d.session_id = any (ids) and d.participant = of_user limit most))
                returning i.session_id
            )
            select count(*), array_agg(distinct b.session_id) into gone, touched from blanked as b;
            perform turnlog.queue_session(in_project, t.id) from unnest(touched) as t (id);
            gone_now := jsonb_build_object('turns', gone);
            delete from turnlog.ai_session_participants as p
             where p.project = in_project and p.session_id = any (ids) and p.participant = of_user
               and not exists (select from turnlog.ai_interactions as i
                                where i.project = in_project and i.session_id = p.session_id
                                  and i.participant = of_user);
            get diagnostics gone = row_count;
            gone_now := gone_now || jsonb_build_object('participations', gone);
            ids := '{}';
        elsif exists (select from turnlog.ai_feedback as f where f.project = in_project and f.author = of_user) then
            -- 3. What they said of other people's interactions.
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
            get diagnostics gone = row_count;
            gone_now := jsonb_build_object('feedback', gone);
            ids := '{}';
        else
            -- 4. Their folders; locked first, in a statement of its own: who fills one meanwhile moves its row
            folder_ids := array(
                select f.id from turnlog.ai_session_folders as f
                 where f.project = in_project and f.user_id = of_user
                 order by f.id
                 limit most
                   for no key update);
            update turnlog.ai_session_folders as f
               set key = null, name = null, user_id = null, metadata = null, erased_at = statement_timestamp()
             where f.project = in_project and f.id = any (folder_ids);
            gone_now := jsonb_build_object('folders', cardinality(folder_ids));
            found_some := folder_ids <> '{}';
        end if;
    end if;

    update turnlog.ai_erased_users as e
       set counts = (
               select coalesce(jsonb_object_agg(n.key, n.value), '{}')
                 from (select c.key, sum(c.value::bigint) as value
                         from (select * from jsonb_each_text(e.counts)
                               union all
                               select * from jsonb_each_text(gone_now)) as c
                        group by c.key) as n),
           finished_at = case when not found_some then statement_timestamp() end
     where e.project = in_project and e.user_hash = hash
    returning e.* into held;
    return none || held.counts || jsonb_build_object(
            'erased_at', held.erased_at, 'left', found_some, 'proof', proof,
            'session_ids', ids || array(
                select s.id from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = any (waiting) and s.id <> all (ids) and s.erased_at is not null));
end
$$;


-- schemas/erase/expirable.sql
-- {project, before, limit, after?: session id, except?} -> {session_ids, interactions, after}: of the next `limit`
-- sessions in the order of their ids those that are idle since `before`, and how many interactions they have. `except`:
-- the ids of sessions and folders of which something waits in a spool; see turnlog.idle.
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
    waiting constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    ids uuid[];
    idle uuid[];
begin
    ids := array(
        select s.id
          from turnlog.ai_sessions as s
         where s.project = in_project and s.erased_at is null and s.id > after_id
         order by s.id
         limit page_size + 1);
    idle := turnlog.idle(in_project, ids[:page_size], (request ->> 'before')::timestamptz, waiting);
    return jsonb_build_object(
        'session_ids', idle,
        'interactions', (select count(*) from turnlog.ai_interactions as i
                          where i.project = in_project and i.session_id = any (idle)),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;


-- schemas/erase/expire.sql
-- {project, before, session_ids, most, wait?, except?} -> {session_ids, interactions, held, left}: erases those of some
-- sessions that still are idle since `before`, up to `most` interactions, and is asked again while some are `left`. Those that
-- somebody has a lock on are `held`, or with `wait` waited for.
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
    waiting constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    ids uuid[] := wanted;
    held uuid[];
    step record;
begin
    -- locked in the order in which writers lock them, and looked at once more: nothing can arrive from now on
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
    held := array(select w.id from unnest(wanted) as w (id) where w.id <> all (ids));
    ids := turnlog.idle(in_project, ids, (request ->> 'before')::timestamptz, waiting);
    select e.* into step from turnlog.erase_some(in_project, ids, (request ->> 'most')::integer) as e;
    return jsonb_build_object('session_ids', step.erased, 'interactions', step.interactions, 'held', held,
                              'left', cardinality(ids) > cardinality(step.erased));
end
$$;


-- schemas/erase/expire_folders.sql
-- {project, before, limit, after?: folder id, dry_run?, except?} -> {folders, after}: of the next `limit` folders in the
-- order of their ids how many were cleared of name, key, user and metadata: those older than `before` with no session but
-- erased ones; in a dry run also with those that would be. `except` as in turnlog.expirable.
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
    waiting constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    ids uuid[];
    folder record;
    found_ids uuid[] := '{}';
begin
    ids := array(
        select f.id from turnlog.ai_session_folders as f
         where f.project = in_project and f.id > after_id
         order by f.id
         limit page_size + 1);
    -- who adds a session to a folder holds its lock
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
           and not exists (select from unnest(waiting) as w (id) where w.id = f.id)
    loop
        if folder.live = '{}' or dry_run
           and cardinality(folder.live) = cardinality(turnlog.idle(in_project, folder.live, before, waiting)) then
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


-- schemas/erase/forget_project.sql
-- {project, limit} -> {sessions, interactions, left}: takes up to `limit` interactions of a self-test's project away
-- for good, and after the last of them up to `limit` sessions, with no tombstone; `left` counts the rows that are there
-- afterwards. Refuses any other project: what people log is erased by turnlog.erase only.
create or replace function turnlog.forget_project(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- a self-test's rows were never analysed: a plan by statistics would read everyone's
as $$
declare
    in_project constant text := coalesce(request ->> 'project', '');
    most constant integer := request ->> 'limit';
    gone_interactions bigint;
    gone_sessions bigint := 0;
begin
    if in_project !~ '^selftest-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        raise exception using errcode = '22023', column = 'project',
            message = format('only the project of a self-test can be forgotten, not %L', in_project);
    end if;

    -- by address, found first: joined, a plan without statistics compared each row with each
    delete from turnlog.ai_interactions as i
     where i.project = in_project collate "C" and i.ctid = any (array(
           select d.ctid from turnlog.ai_interactions as d where d.project = in_project limit most));
    get diagnostics gone_interactions = row_count;

    if gone_interactions < most then
        delete from turnlog.ai_search_queue as q where q.project = in_project;
        delete from turnlog.ai_search as s where s.project = in_project;
        delete from turnlog.ai_feedback as f where f.project = in_project;
        delete from turnlog.ai_session_participants as p where p.project = in_project;
        delete from turnlog.ai_sessions as s
         where s.project = in_project collate "C" and s.ctid = any (array(
               select d.ctid from turnlog.ai_sessions as d where d.project = in_project limit most));
        get diagnostics gone_sessions = row_count;
        delete from turnlog.ai_session_folders as f
         where f.project = in_project and not exists (select from turnlog.ai_sessions as s where s.project = in_project);
        delete from turnlog.ai_erased_users as e where e.project = in_project;
        delete from turnlog.ai_projects as p where p.project = in_project;
    end if;

    return jsonb_build_object(
        'interactions', gone_interactions, 'sessions', gone_sessions,
        'left', (select count(*) from turnlog.ai_interactions as i where i.project = in_project)
              + (select count(*) from turnlog.ai_sessions as s where s.project = in_project)
              + (select count(*) from turnlog.ai_session_folders as f where f.project = in_project));
end
$$;


-- schemas/erase/idle.sql
-- Of some sessions those of which nothing has arrived since a time, and that aren't scheduled for later. What counts is
-- the service's own clock, not the times that callers state. `waiting`: sessions and folders of which something is on its
-- way: it may name a session by its number, so all of such a folder are in use.
create or replace function turnlog.idle(
    in_project text, ids uuid[], before timestamptz, waiting uuid[]) returns uuid[]
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
           and not exists (select from unnest(waiting) as w (id) where w.id = s.id)
           and not exists (select from unnest(waiting) as w (id) where w.id = s.folder_id)
           and not exists (select from turnlog.ai_interactions as i
                            where i.project = in_project and i.session_id = s.id and i.created_at >= before)
           and not exists (select from turnlog.ai_session_participants as p
                            where p.project = in_project and p.session_id = s.id and p.created_at >= before)
           and not exists (select from turnlog.ai_feedback as f
                            where f.project = in_project and f.session_id = s.id and f.created_at >= before));
end
$$;


-- schemas/admin/create_key.sql
-- {key: {project, id, kind, digest: hex, hint, name?, scopes, origins, token_secret, expires_at?}, first?} -> the key;
-- null if it was to be the `first` of all keys and isn't.
create or replace function turnlog.create_key(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    made turnlog.ai_keys;
begin
    if coalesce((request ->> 'first')::boolean, false) then
        lock table turnlog.ai_keys in share row exclusive mode; -- services that start together make one key, not each
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
      from (select request -> 'key' as k) as stated
    returning * into made;
    return turnlog.key_row(made);
end
$$;


-- schemas/admin/key.sql
-- {digest: hex} -> the key with its token_secret, whatever its state, or null. Notes its last use, to the minute.
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
        -- who is noting it already does it for all: nobody waits for a note
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
-- {project?} -> {keys: [...]}, the oldest first.
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
-- {} -> {origins: [...]}: of the pages that may use some key. All at once, so that who asks for one costs no look-up.
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
create or replace function turnlog.ping(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'schema', '20261128000000', -- the release's migration; a role that rows are hidden from is told, too
        'server_version', current_setting('server_version'),
        'read_only', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean,
        'fsync', current_setting('fsync'),
        'synchronous_commit', current_setting('synchronous_commit'),
        'full_page_writes', current_setting('full_page_writes'),
        'transaction_isolation', current_setting('transaction_isolation'),
        'rows_hidden', row_security_active('turnlog.ai_sessions'))
$$;


-- schemas/admin/projects.sql
-- {project?} -> {projects: [{project, keep_days, now}]}: those of which something is stored, or said here.
create or replace function turnlog.projects(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- a look for each project, never a whole table
as $$
declare
    now constant timestamptz := statement_timestamp();
    one text;
    named text[] := '{}';
begin
    loop
        one := (select s.project from turnlog.ai_sessions as s
                 where one is null or s.project > one order by s.project limit 1);
        exit when one is null;
        named := named || one;
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
-- {project} -> {key}: what the project's reports are signed with, in hexadecimal digits; made when it is first asked for.
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
-- {id} -> the key, which opens nothing from now on, or null. Asking again changes nothing.
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
-- {id, overlap_s, key: {id, digest: hex, hint}} -> {key, replaced}: a new key that may what the old one may, which ends
-- when the overlap does. null if there is none, or if it opens nothing any more.
create or replace function turnlog.rotate_key(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    ends_at constant timestamptz := statement_timestamp() + make_interval(secs => (request ->> 'overlap_s')::float8);
    replaced turnlog.ai_keys;
    made turnlog.ai_keys;
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
    returning * into made;
    update turnlog.ai_keys as k
       set expires_at = least(k.expires_at, ends_at)
     where k.project = replaced.project and k.id = replaced.id
    returning k.* into replaced;
    return jsonb_build_object('key', turnlog.key_row(made), 'replaced', turnlog.key_row(replaced));
end
$$;


-- schemas/admin/set_project.sql
-- {project, keep_days?} -> {project, keep_days}: says how long a project is kept; null: as the service's own setting says.
create or replace function turnlog.set_project(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
begin
    perform turnlog.report_key(request); -- which makes the row
    update turnlog.ai_projects as p
       set keep_days = (request ->> 'keep_days')::integer
     where p.project = request ->> 'project';
    return jsonb_build_object('project', request -> 'project', 'keep_days', request -> 'keep_days');
end
$$;


-- schemas/search/index_pending.sql
-- {ms} -> {indexed, left}: indexes what waits, for about so many milliseconds; `left` tells whether there is more.
-- Several may do so at once: each takes what no other has. It waits for nobody, so that it can't be part of a deadlock.
-- Who writes what is being indexed waits for it: so the clock is looked at with each text, and few bytes are taken on at once.
create or replace function turnlog.index_pending(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off
as $$
declare
    ends_at constant timestamptz := clock_timestamp() + make_interval(secs => (request ->> 'ms')::double precision / 1000);
    at_once constant integer := 100;       -- interactions; of one session they are indexed as one text
    bytes_at_once constant integer := 25000;
    short constant integer := 5000;        -- bytes of a text that is indexed with others
    longest constant integer := 50000;     -- bytes of a text that is indexed: about 0.1 s on a busy core
    unread constant integer := 500000;     -- bytes as stored, of more the text isn't even read
    in_project text;                       -- of one project at a time: what waits of another may be on another machine
    taken turnlog.ai_search_queue[];
    one record;
    done_sessions uuid[];
    done_parts uuid[];
    done_ids uuid[];
    said text;                             -- '': nothing; null: too long
    texts text[];
    bytes integer;
    indexed integer := 0;
begin
    loop
        if in_project is null or coalesce(cardinality(taken), 0) = 0 then
            in_project := (select q.project from turnlog.ai_search_queue as q
                            where in_project is null or q.project > in_project
                            order by q.project limit 1);
            exit when in_project is null;
        end if;
        taken := array(
            select q from turnlog.ai_search_queue as q
             where q.project = in_project
             order by q.session_id, q.part
             limit at_once
               for update skip locked);
        continue when cardinality(taken) = 0;

        texts := '{}';
        bytes := 0;
        done_sessions := '{}';
        done_parts := '{}';
        done_ids := '{}';
        for one in
            select t.session_id, t.part, i.id
              from unnest(taken) with ordinality as t
             cross join lateral unnest(t.ids) with ordinality as i (id, n)
             order by t.ordinality, i.n
             limit at_once
        loop
            exit when cardinality(texts) > 0 and (bytes >= bytes_at_once or clock_timestamp() > ends_at);
            select case when coalesce(pg_column_size(i.prompt), 0) + coalesce(pg_column_size(i.response), 0) <= unread
                        then concat_ws(E'\n', turnlog.plain_text(i.prompt), turnlog.plain_text(i.response)) end
              into said
              from turnlog.ai_interactions as i
             where i.project = in_project and i.session_id = one.session_id and i.id = one.id
                   and not exists (select from turnlog.ai_sessions as s
                                    where s.project = in_project and s.id = i.session_id and s.erased_at is not null);
            if not found then
                said := '';
            elsif octet_length(said) > longest then
                said := null;
            else
                said := turnlog.fold(said);
                bytes := bytes + coalesce(octet_length(said), 0);
            end if;
            texts := array_append(texts, said);
            done_sessions := done_sessions || one.session_id;
            done_parts := done_parts || one.part;
            done_ids := done_ids || one.id;
        end loop;

        insert into turnlog.ai_search (project, session_id, part, grams)
        select in_project, parts.session_id, gen_random_uuid(),
               case when parts.said is null then '{-1}' else turnlog.grams(parts.said) end
          from (select t.session_id, string_agg(t.said, E'\n') as said
                  from unnest(done_sessions, done_ids, texts) as t (session_id, id, said)
                 where t.said is null or t.said <> ''
                 group by t.session_id, t.said is null, case when octet_length(t.said) > short then t.id end) as parts
         where parts.said is null or octet_length(parts.said) >= 3;

        -- by how many of a row's ids are done: an id may stand in rows of other sessions, too
        with done as (
            select d.session_id, d.part, count(*)::integer as count
              from unnest(done_sessions, done_parts) as d (session_id, part)
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
        indexed := indexed + cardinality(done_ids);
        exit when clock_timestamp() > ends_at;
    end loop;
    return jsonb_build_object('indexed', indexed, 'left', exists (select q.project from turnlog.ai_search_queue as q));
end
$$;


-- schemas/search/queue_session.sql
-- Takes a session out of the index and queues what is left of it, unless it is erased. The queue goes first: whoever is
-- indexing it has committed when that is through. What is left is looked up last, so that nothing is missed that came
-- meanwhile. Of a long session the index says that it may hold anything: to queue it all with each step of an erasure would take ever longer.
create or replace function turnlog.queue_session(in_project text, of_session uuid) returns void
language plpgsql volatile
set search_path = ''
set enable_seqscan = off
as $$
declare
    most constant integer := 1000; -- interactions that are queued
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


-- schemas/search/reindex.sql
-- {limit, after?: {project, session_id, id}} -> {queued, after}: queues the next `limit` interactions of all projects, in
-- the order of their addresses, and takes what was indexed of their sessions away, also of such that aren't there any more.
-- `after` is null at the end. While a session is only queued in part, the index says that it may hold anything.
-- What is queued is looked up last, so that nothing is missed that was written, or even indexed, meanwhile.
create or replace function turnlog.reindex(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set plan_cache_mode = 'force_custom_plan' -- a plan for any place to go on from would begin at the first one
set enable_seqscan = off
set lock_timeout = '3s'
as $$
declare
    page_size constant integer := (request ->> 'limit')::integer;
    in_part constant uuid := '00000000-0000-0000-0000-000000000000'; -- the part that says so
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
     where s.project = after_project and s.session_id = after_session and s.part = in_part;
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
        values (last_project, last_session, in_part, '{-1}')
            on conflict (project, session_id, part) do nothing;
    end if;
    return jsonb_build_object('queued', queued, 'after', case when goes_on then jsonb_build_object(
        'project', last_project, 'session_id', last_session, 'id', last_id) end);
end
$$;


-- schemas/doctor/access.sql
-- {tables: [name ...]} -> who may do what with these tables and Turnlog's functions, public.turnlog among them:
-- caller: {name, is_owner, is_superuser, bypasses_rls}; roles: those of Supabase that are there, with what they are;
-- granted: rights that were given to others than the owner, service_role and the caller; reached: what anon and
-- authenticated can do, however they come by it; lacking: what service_role and the caller can't do, and need.
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
-- {tables?: [name ...]} -> the shape of these tables of Turnlog's (of all there are, if none are named) and of
-- Turnlog's functions: {tables, columns, constraints, indexes, triggers, policies, functions, comments}, each name ->
-- definition. Where Supabase's role for services is, public.turnlog is one of them, and so is any other function that
-- Supabase's API could take for it. Comments are those that mark what is ours.
-- The same on every version of PostgreSQL: not-null constraints, which have names of their own since 18, are told
-- with their columns, and a function's text is a hash that line ends don't change.
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
-- {foreign: [{table, columns, references, referenced}], keys: [{table, columns, required}], names: [{table, column}]} ->
-- what is wrong with the rows of Turnlog's own tables, whatever their constraints say: {orphans: [{table, references,
-- rows, examples}], incomplete: [{table, columns, rows}], repeated: [{table, columns, values, examples}],
-- placeholders: [{table, column, rows}], undead: rows that an erased session still has}. Only what is found is listed.
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
            turnlog.blank(format('c.%I::text', entry ->> 'column')))
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
-- {settings: [name ...]} -> {now: seconds since the epoch, database, login, settings: {name: {value, source}}, overrides:
-- [{role, database, setting, value}]}: what holds for the caller, and what is set for this database or the roles that write.
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
-- Nobody but the service: row-level security without policies, all rights revoked. On Supabase the service is
-- service_role; elsewhere it is the role that owns these tables.
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
-- What Supabase's API calls: the one object outside the schema `turnlog`, and only where Supabase's role for services is.
-- An operation is a function of the schema that takes one `request`. The comment marks the function as ours.
do $$
declare
    mark constant text := 'Turnlog''s door for Supabase''s API: see the schema turnlog.';
    held constant oid := pg_catalog.to_regprocedure('public.turnlog(text, jsonb)');
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'service_role') then
        return;
    end if;
    if held is not null and pg_catalog.obj_description(held, 'pg_proc') is distinct from mark then
        raise exception using
            errcode = '42723',
            message = 'The function public.turnlog(text, jsonb) of this database is not marked as Turnlog''s',
            hint = case
                when pg_catalog.pg_get_functiondef(held) not like '%turnlog.%I($1)%'
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
