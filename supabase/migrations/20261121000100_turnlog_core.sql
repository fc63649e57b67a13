-- Turnlog core: sessions and the interactions logged under them.
--
-- Every primary and foreign key starts with the project, so the tables distribute by it unchanged.
-- Nothing here takes a lock, a sequence or a trigger across sessions. Every statement can be run again.

create table if not exists public.ai_sessions (
    project     text        not null,
    id          uuid        not null,
    key         text,                               -- the caller's own id; the id derives from it
    user_id     text,
    title       text,
    status      text        not null default 'open',
    implicit    boolean     not null default false, -- born from an interaction, not yet created by name
    tags        text[],
    metadata    jsonb,
    started_at  timestamptz,
    ended_at    timestamptz,
    created_at  timestamptz not null,               -- when the service first received it
    erased_at   timestamptz,                        -- set: a tombstone; all content is gone
    edited      text[],                             -- fields changed by PATCH: later writes neither fill nor contradict them
    constraint ai_sessions_pkey primary key (project, id),
    constraint ai_sessions_project_check check (project <> ''),
    constraint ai_sessions_key_check check (key !~ '^\s*$' and length(key) <= 200),
    constraint ai_sessions_status_check check (status in ('locked', 'open', 'closed')),
    constraint ai_sessions_metadata_check check (jsonb_typeof(metadata) = 'object')
);

create table if not exists public.ai_interactions (
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
    constraint ai_interactions_pkey primary key (project, session_id, id),
    constraint ai_interactions_session_fkey foreign key (project, session_id)
        references public.ai_sessions (project, id),
    constraint ai_interactions_key_check check (key !~ '^\s*$' and length(key) <= 200),
    constraint ai_interactions_prompt_check check (jsonb_typeof(prompt) in ('string', 'array')),
    constraint ai_interactions_response_check check (jsonb_typeof(response) in ('string', 'array')),
    constraint ai_interactions_status_check check (status in ('completed', 'failed', 'abandoned')),
    constraint ai_interactions_metadata_check check (jsonb_typeof(metadata) = 'object')
);

-- A second line of defence: identity already derives from the key. Partial, so that the planner can't take one for
-- the primary key: on tables it knows nothing of yet, foreign keys were checked by reading a project's whole index.
create unique index if not exists ai_sessions_project_key_key
    on public.ai_sessions (project, key) where key is not null;
create unique index if not exists ai_interactions_session_key_key
    on public.ai_interactions (project, session_id, key) where key is not null;

create index if not exists ai_sessions_newest_idx
    on public.ai_sessions (project, (coalesce(started_at, created_at)) desc, id desc) where erased_at is null;
create index if not exists ai_sessions_user_newest_idx
    on public.ai_sessions (project, user_id, (coalesce(started_at, created_at)) desc, id desc)
    where erased_at is null and user_id is not null;
create index if not exists ai_sessions_tags_idx
    on public.ai_sessions using gin (tags) where tags is not null;

-- lz4 writes long texts about half as fast again as pglz does; a server built without it keeps pglz.
do $$
begin
    alter table public.ai_interactions
        alter column prompt set compression lz4,
        alter column response set compression lz4,
        alter column metadata set compression lz4;
exception when feature_not_supported then
    raise notice 'this PostgreSQL was built without lz4: prompts and responses keep pglz';
end
$$;


-- The fill rule, for one record: which of the stated facts fill an empty field of the stored record, and
-- which contradict it. Tags and metadata gain entries: a new tag or a new metadata key fills; a metadata key
-- that holds another value contradicts, and is named 'metadata.KEY'.
create or replace function public.turnlog_fill_rule_v1(stored jsonb, stated jsonb, out fills jsonb, out conflicts text[])
language plpgsql immutable
set search_path = ''
as $$
declare
    field text;
    value jsonb;
    held jsonb;
    gained jsonb;
begin
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
            gained := held || value;
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


-- Sessions as callers see them, in the order of their ids' list. Counts are derived here, never stored.
create or replace function public.turnlog_session_rows_v1(of_project text, ids uuid[]) returns jsonb
language sql stable
set search_path = ''
set timezone = 'UTC'
as $$
    select coalesce(jsonb_agg(
        jsonb_build_object(
            'session_id', s.id, 'key', s.key, 'user_id', s.user_id, 'title', s.title,
            'status', s.status, 'implicit', s.implicit,
            'tags', coalesce(to_jsonb(s.tags), '[]'), 'metadata', coalesce(s.metadata, '{}'),
            'started_at', s.started_at, 'ended_at', s.ended_at,
            'created_at', s.created_at, 'erased_at', s.erased_at,
            'interaction_count', coalesce(i.interaction_count, 0), 'last_activity_at', i.last_activity_at
        ) order by wanted.n), '[]')
    from unnest(ids) with ordinality as wanted (id, n)
    join public.ai_sessions as s on s.project = of_project and s.id = wanted.id
    left join (
        select c.session_id, count(*) as interaction_count,
               max(coalesce(c.completed_at, c.started_at, c.created_at)) as last_activity_at
          from public.ai_interactions as c
         where c.project = of_project and c.session_id = any (ids)
         group by c.session_id
    ) as i on i.session_id = s.id
$$;


-- The receipt of a record whose natural key belongs to a row with another id. Identity derives from the key, so
-- this takes a row that was written past the service; the unique indexes stop it, and the caller is told which.
create or replace function public.turnlog_key_clash_v1(
    in_project text, session_key text, in_session uuid default null, interaction_key text default null)
returns jsonb
language sql stable
set search_path = ''
as $$
    select case when session_holder.id is not null and session_holder.id is distinct from in_session
        then jsonb_build_object(
            'receipt', 'conflict', 'constraint', 'ai_sessions_project_key_key', 'columns', array['project', 'key'],
            'attempted', jsonb_build_object('project', in_project, 'key', session_key), 'held_by', session_holder.id)
        else jsonb_build_object(
            'receipt', 'conflict', 'constraint', 'ai_interactions_session_key_key',
            'columns', array['project', 'session_id', 'key'],
            'attempted', jsonb_build_object('project', in_project, 'session_id', in_session, 'key', interaction_key),
            'held_by', (select i.id from public.ai_interactions as i
                         where i.project = in_project and i.session_id = in_session and i.key = interaction_key))
        end
    from (select 1) as one
    left join public.ai_sessions as session_holder
        on session_holder.project = in_project and session_holder.key = session_key
$$;


-- Writes a batch in one transaction: {project, sessions: [...], interactions: [...], return_sessions?}.
-- Answers {sessions: [receipt ...], interactions: [receipt ...]}, each list in the order of its input.
-- A receipt is {receipt: created | filled | duplicate | conflict | rejected, ...}.
--
-- It can't deadlock: missing parents are inserted in id order, then all parents are locked in id order.
-- Whoever writes or erases below a session holds its lock until it commits, so what is read of the session's
-- interactions afterwards stays true. Separate statements, since each one sees what committed before it.
create or replace function public.turnlog_write_v1(batch jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_generic_plan' -- planning anew took a third of a call
set enable_seqscan = off -- a plan made while the tables were empty would still scan them when they are full
set lock_timeout = '3s' -- who waits longer for a lock shall know that it is one, not that the store is away
as $$
declare
    in_project constant text := batch ->> 'project';
    sessions constant public.ai_sessions[] := array(
        select r from jsonb_populate_recordset(null::public.ai_sessions, coalesce(batch -> 'sessions', '[]')) as r);
    interactions constant public.ai_interactions[] := array(
        select r from jsonb_populate_recordset(null::public.ai_interactions, coalesce(batch -> 'interactions', '[]')) as r);
    parents uuid[];               -- every session that the batch names, distinct
    ids bigint;                   -- how many different ids the interactions have
    any_created boolean;          -- some session is stated for itself, not only brought along by a child
    any_keyed boolean;
    parents_born uuid[] := '{}';  -- those that this batch inserted
    parents_present uuid[];       -- those that have a row now
    parents_erased uuid[];
    keys_missing boolean;         -- some parent doesn't know its key yet
    all_open boolean;             -- every parent is present and none is erased
    born_sessions uuid[];         -- session and id of the interactions that this batch inserted
    born_ids uuid[];
    born bigint[];                -- their positions
    occurrence bigint[];    -- by position: the how-manieth record of its id in this batch
    rounds bigint;
    weighed jsonb;          -- position -> receipt, of one round
    session_receipts jsonb := '{}';
    interaction_receipts jsonb := '{}';
    return_sessions constant boolean := coalesce((batch ->> 'return_sessions')::boolean, false);
begin
    if in_project is null then
        raise exception using errcode = '23502', column = 'project', message = 'the batch names no project';
    end if;

    select coalesce(array_agg(distinct named.session_id), '{}'), count(distinct named.id),
           coalesce(bool_or(named.created), false), coalesce(bool_or(named.keyed), false)
      into parents, ids, any_created, any_keyed
      from (select s.id as session_id, null::uuid as id, s.implicit is not true as created, s.key is not null as keyed
              from unnest(sessions) as s
            union all
            select i.session_id, i.id, false, false from unnest(interactions) as i) as named;

    -- Twice at most: mostly all parents are there, so a look comes first. If some of several are missing, they must
    -- be inserted before any is locked, or one batch could hold what another waits for. Rows never go away, so what
    -- the look has seen is still there to be locked. Each by its primary key, for the reason given below.
    for attempt in (case when cardinality(parents) > 1 and exists (
                             select from unnest(parents) as p (id)
                              where (select s.id from public.ai_sessions as s
                                      where s.project = in_project and s.id = p.id) is null)
                         then 2 else 1 end) .. 2 loop
        -- 1. The missing parents, in the order of their ids.
        if attempt = 2 then
            with named as (
                select distinct on (p.id) p.*
                  from (select s.id, s.key, s.user_id, s.title, s.tags, s.metadata, s.started_at, s.ended_at,
                               coalesce(s.implicit, false) as implicit, s.created_at, s.ordinality
                          from unnest(sessions) with ordinality as s
                        union all
                        select i.session_id, null, null, null, null, null, null, null, true, i.created_at, null
                          from unnest(interactions) as i) as p
                 order by p.id, p.implicit, p.key is null, p.ordinality
            ), inserted as (
                insert into public.ai_sessions
                       (project, id, key, user_id, title, tags, metadata, started_at, ended_at, implicit, created_at)
                select in_project, n.id, n.key, n.user_id, n.title, n.tags, n.metadata, n.started_at, n.ended_at,
                       n.implicit, coalesce(n.created_at, statement_timestamp())
                  from named as n
                 order by n.id
                    on conflict do nothing
                returning id
            )
            select coalesce(array_agg(i.id), '{}') into parents_born from inserted as i;
        end if;

        -- 2. All parents, locked in the order of their ids: no erase and no other write slips under this one.
        select coalesce(array_agg(p.id), '{}'), coalesce(array_agg(p.id) filter (where p.erased_at is not null), '{}'),
               bool_or(p.key is null)
          into parents_present, parents_erased, keys_missing
          from (select s.id, s.key, s.erased_at
                  from public.ai_sessions as s
                 where s.project = in_project and s.id = any (parents)
                 order by s.id
                   for no key update) as p;
        exit when cardinality(parents_present) = cardinality(parents);
    end loop;
    all_open := cardinality(parents_present) = cardinality(parents) and parents_erased = '{}';

    -- 3. What the batch says of sessions that were there. Records of one id are weighed in turn, a round each.
    -- A parent that only came along with its child states its key and nothing else, so mostly there is nothing to weigh.
    if any_created or keys_missing and any_keyed then
        select array_agg(s.nth order by s.ordinality), max(s.nth)
          into occurrence, rounds
          from (select s.ordinality, case when s.implicit is not true or s.key is not null then
                       row_number() over (partition by s.id order by coalesce(s.implicit, false), s.key is null, s.ordinality)
                       end as nth
                  from unnest(sessions) with ordinality as s) as s;
    end if;

    for this_round in 1 .. coalesce(rounds, 0) loop
        with weighed_now as (
            select r.ordinality, r.held, rule.fills, rule.conflicts,
                   (r.held).implicit and not coalesce(r.implicit, false) as adopts
              -- one look by primary key a record, and an upsert below: a join would be planned by statistics,
              -- and those of an empty table make it read the whole project
              from (select r.*, (select held from public.ai_sessions as held
                                  where held.project = in_project and held.id = r.id) as held
                      from unnest(sessions) with ordinality as r
                     where occurrence[r.ordinality] = this_round and r.id <> all (parents_erased)
                       and not (this_round = 1 and r.id = any (parents_born))
                    offset 0) as r
             cross join lateral public.turnlog_fill_rule_v1(
                   to_jsonb(r.held),
                   to_jsonb(r) - '{project,id,status,implicit,created_at,erased_at,edited,ordinality,held}'::text[]
                               - coalesce((r.held).edited, '{}')) as rule
             where (r.held).id is not null
               and not (coalesce(r.implicit, false) and (r.held).key is not null)
        ), filled as (
            insert into public.ai_sessions as held
                   (project, id, key, user_id, title, tags, metadata, started_at, ended_at, implicit, created_at)
            select m.project, m.id, m.key, m.user_id, m.title, m.tags, m.metadata, m.started_at, m.ended_at,
                   m.implicit and not w.adopts, m.created_at
              from weighed_now as w
             cross join lateral jsonb_populate_record(w.held, coalesce(w.fills, '{}')) as m
             where w.conflicts is null and (w.fills is not null or w.adopts)
             order by m.id
                on conflict (project, id) do update
               set (key, user_id, title, tags, metadata, started_at, ended_at, implicit) = (
                   excluded.key, excluded.user_id, excluded.title, excluded.tags, excluded.metadata,
                   excluded.started_at, excluded.ended_at, excluded.implicit)
        )
        select jsonb_object_agg(w.ordinality, case
                   when w.conflicts is not null
                       then jsonb_build_object('receipt', 'conflict', 'fields', w.conflicts)
                   when w.fills is not null or w.adopts
                       then jsonb_build_object('receipt', 'filled', 'fields',
                                array(select f from jsonb_object_keys(w.fills) as f order by f))
                   else '{"receipt": "duplicate"}'
               end)
          into weighed
          from weighed_now as w;
        session_receipts := session_receipts || coalesce(weighed, '{}');
    end loop;

    -- 4. The interactions that are new.
    if ids = cardinality(interactions) then
        occurrence := null; -- each is the first of its id
        rounds := 1;
    else
        select array_agg(i.nth order by i.ordinality), max(i.nth)
          into occurrence, rounds
          from (select i.ordinality, row_number() over (partition by i.session_id, i.id order by i.ordinality) as nth
                  from unnest(interactions) with ordinality as i) as i;
    end if;

    with inserted as (
        insert into public.ai_interactions
               (project, session_id, id, key, prompt, response, model, provider, status, error, finish_reason,
                started_at, completed_at, latency_ms, time_to_first_token_ms, input_tokens, output_tokens, cost_usd,
                participant, reply_to, turn, tags, metadata, created_at)
        select in_project, i.session_id, i.id, i.key, i.prompt, i.response, i.model, i.provider, i.status, i.error,
               i.finish_reason, i.started_at, i.completed_at, i.latency_ms, i.time_to_first_token_ms, i.input_tokens,
               i.output_tokens, i.cost_usd, i.participant, i.reply_to, i.turn, i.tags, i.metadata,
               coalesce(i.created_at, statement_timestamp())
          from unnest(interactions) with ordinality as i
         where (occurrence is null or occurrence[i.ordinality] = 1)
           and (all_open or i.session_id = any (parents_present) and i.session_id <> all (parents_erased))
            on conflict do nothing
        returning session_id, id
    )
    select coalesce(array_agg(n.session_id), '{}'), coalesce(array_agg(n.id), '{}')
      into born_sessions, born_ids
      from inserted as n;

    -- 5. The interactions that were there already, a round for each record of one id.
    if cardinality(born_ids) < cardinality(interactions) then
        -- by grouping: a join of two lists of unknown length is planned as a nested loop
        select coalesce(array_agg(first.position), '{}')
          into born
          from (select min(known.position) as position
                  from (select i.session_id, i.id, i.ordinality as position from unnest(interactions) with ordinality as i
                        union all
                        select n.session_id, n.id, null from unnest(born_sessions, born_ids) as n (session_id, id)) as known
                 group by known.session_id, known.id
                having bool_or(known.position is null)) as first;

        for this_round in 1 .. rounds loop
            with weighed_now as (
                select r.ordinality, r.held, rule.fills, rule.conflicts
                  from (select r.*, (select held from public.ai_interactions as held
                                      where held.project = in_project and held.session_id = r.session_id
                                        and held.id = r.id) as held
                          from unnest(interactions) with ordinality as r
                         where (occurrence is null or occurrence[r.ordinality] = this_round)
                           and r.ordinality <> all (born)
                        offset 0) as r
                 cross join lateral public.turnlog_fill_rule_v1(
                       to_jsonb(r.held),
                       to_jsonb(r) - '{project,session_id,id,created_at,ordinality,held}'::text[]) as rule
                 where (r.held).id is not null
            ), filled as (
                insert into public.ai_interactions as held
                select m.*
                  from weighed_now as w
                 cross join lateral jsonb_populate_record(w.held, w.fills) as m
                 where w.conflicts is null and w.fills is not null
                    on conflict (project, session_id, id) do update
                   set (key, prompt, response, model, provider, status, error, finish_reason, started_at, completed_at,
                        latency_ms, time_to_first_token_ms, input_tokens, output_tokens, cost_usd, participant,
                        reply_to, turn, tags, metadata) = (
                        excluded.key, excluded.prompt, excluded.response, excluded.model, excluded.provider,
                        excluded.status, excluded.error, excluded.finish_reason, excluded.started_at,
                        excluded.completed_at, excluded.latency_ms, excluded.time_to_first_token_ms,
                        excluded.input_tokens, excluded.output_tokens, excluded.cost_usd, excluded.participant,
                        excluded.reply_to, excluded.turn, excluded.tags, excluded.metadata)
            )
            select jsonb_object_agg(w.ordinality, case
                       when w.conflicts is not null
                           then jsonb_build_object('receipt', 'conflict', 'fields', w.conflicts)
                       when w.fills is not null
                           then jsonb_build_object('receipt', 'filled', 'fields',
                                    array(select f from jsonb_object_keys(w.fills) as f order by f))
                       else '{"receipt": "duplicate"}'
                   end)
              into weighed
              from weighed_now as w;
            interaction_receipts := interaction_receipts || coalesce(weighed, '{}');
        end loop;
    end if;

    -- 6. The receipts. A record with neither a row of its own nor an erased session met another row's natural key.
    return jsonb_build_object(
        'sessions', case
            when all_open and session_receipts = '{}' and not return_sessions and parents_born = '{}'
                then to_jsonb(array_fill('{"receipt": "duplicate"}'::jsonb, array[cardinality(sessions)]))
            when all_open and session_receipts = '{}' and not return_sessions
                 and cardinality(parents_born) = cardinality(parents)
                then to_jsonb(array_fill('{"receipt": "created"}'::jsonb, array[cardinality(sessions)]))
            else (
            select coalesce(jsonb_agg(coalesce(
                       session_receipts -> s.ordinality::text,
                       case when s.id = any (parents_erased) then '{"receipt": "rejected", "reason": "erased"}'::jsonb
                            when s.id = any (parents_born) then '{"receipt": "created"}'
                            when s.id = any (parents_present) then '{"receipt": "duplicate"}'
                            else public.turnlog_key_clash_v1(in_project, s.key)
                       end) || case when return_sessions and s.implicit is not true then jsonb_build_object(
                                   'session', public.turnlog_session_rows_v1(in_project, array[s.id]) -> 0)
                               else '{}' end
                   order by s.ordinality), '[]')
              from unnest(sessions) with ordinality as s)
            end,
        'interactions', case
            when cardinality(born_ids) = cardinality(interactions)
                then to_jsonb(array_fill('{"receipt": "created"}'::jsonb, array[cardinality(born_ids)]))
            else (
                select jsonb_agg(coalesce(
                           interaction_receipts -> i.ordinality::text,
                           case when i.ordinality = any (born) then '{"receipt": "created"}'::jsonb
                                when i.session_id = any (parents_erased)
                                    then '{"receipt": "rejected", "reason": "erased"}'
                                else public.turnlog_key_clash_v1(in_project,
                                         (select s.key from unnest(sessions) as s where s.id = i.session_id limit 1),
                                         i.session_id, i.key)
                           end) order by i.ordinality)
                  from unnest(interactions) with ordinality as i)
            end);
end
$$;


-- Nobody but the service: row-level security without policies, all rights revoked. On Supabase the service is
-- service_role; elsewhere it is the role that owns these tables. Each migration ends with this, for what it made.
create or replace function public.turnlog_close_v1() returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    object text;
    has_service_role constant boolean := exists (select from pg_catalog.pg_roles where rolname = 'service_role');
    others constant text := (
        select concat_ws(', ', 'public', string_agg(quote_ident(r.rolname), ', '))
          from pg_catalog.pg_roles as r
         where r.rolname in ('anon', 'authenticated'));
begin
    foreach object in array array['public.ai_sessions', 'public.ai_interactions'] loop
        execute format('alter table %s enable row level security', object);
        execute format('revoke all on table %s from %s', object, others);
        if has_service_role then
            execute format('grant select, insert, update, delete on table %s to service_role', object);
        end if;
    end loop;

    for object in
        select p.oid::regprocedure::text
          from pg_catalog.pg_proc as p
         where p.pronamespace = 'public'::regnamespace and p.proname like 'turnlog\_%'
    loop
        execute format('revoke all on function %s from %s', object, others);
        if has_service_role then
            execute format('grant execute on function %s to service_role', object);
        end if;
    end loop;
end
$$;

do $$ begin perform public.turnlog_close_v1(); end $$;
