-- Lists of sessions with filters, sorts and counts that stay fast in a large project; what arrives, as it arrives.
--
-- A call looks at a bounded number of rows. Where that isn't enough to fill a page, the page is short, and `after` is
-- where the next one goes on looking.

create index if not exists ai_sessions_status_newest_idx
    on public.ai_sessions (project, status, (coalesce(started_at, created_at)) desc, id desc) where erased_at is null;
create index if not exists ai_sessions_folder_newest_idx
    on public.ai_sessions (project, folder_id, (coalesce(started_at, created_at)) desc, id desc)
    where erased_at is null and folder_id is not null;
create index if not exists ai_sessions_implicit_newest_idx
    on public.ai_sessions (project, (coalesce(started_at, created_at)) desc, id desc) where erased_at is null and implicit;
-- in the order of arrival, so writes go to its end, and one entry stands for the turns that a session got at once
create index if not exists ai_interactions_arrived_idx
    on public.ai_interactions (project, created_at, session_id);
-- tells both which sessions a model was used in and whether one session used it
create index if not exists ai_interactions_model_idx
    on public.ai_interactions (project, model, session_id) where model is not null;
create index if not exists ai_interactions_failed_idx
    on public.ai_interactions (project, session_id) where status = 'failed' or status is null and error <> '';


create or replace function public.turnlog_ping_v1(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'schema', '20261121001100',
        'server_version', current_setting('server_version'),
        'read_only', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean,
        'fsync', current_setting('fsync'),
        'synchronous_commit', current_setting('synchronous_commit'),
        'full_page_writes', current_setting('full_page_writes'),
        'transaction_isolation', current_setting('transaction_isolation'),
        'rows_hidden', row_security_active('public.ai_sessions'))
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
    join public.ai_sessions as s on s.project = of_project and s.id = wanted.id
    left join (
        select c.session_id, count(*) as interaction_count,
               count(*) filter (where c.status = 'failed' or c.status is null and c.error <> '') as failed_count,
               max(coalesce(c.completed_at, c.started_at, c.created_at)) as last_activity_at
          from public.ai_interactions as c
         where c.project = of_project and c.session_id = any (ids)
         group by c.session_id
    ) as i on i.session_id = s.id
$$;


-- What a list's request asks of a session `s`, as SQL in which `$1` is the request. An index leads to what is `walked`, in the
-- order of the list; `further` is asked of each row that is looked at there. `looks`: whether that takes a look at the
-- session's interactions.
create or replace function public.turnlog_session_filters_v1(
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
              ('model', '(select true from public.ai_interactions as i where i.project = s.project'
                        ' and i.session_id = s.id and i.model = $1 ->> ''model'' limit 1)'),
              ('has_errors', '(select true from public.ai_interactions as i where i.project = s.project'
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


-- The sessions that one filter of a list's request lets through, or what is `walked` if that is given, if they are no more
-- than `most`; null if they are more, or no filter can tell. Of other projects, too: whoever asks looks at them once more.
create or replace function public.turnlog_session_candidates_v1(request jsonb, walked text, most integer) returns uuid[]
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
        execute 'select array_agg(w.id) from (select s.id from public.ai_sessions as s where ' || walked || ' limit $2) as w'
           into found_ids using request, most + 1;
        if coalesce(cardinality(found_ids), 0) <= most then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    if request ->> 'tag' is not null then
        select array_agg(t.id) into found_ids
          from (select s.id from public.ai_sessions as s where s.tags @> array[request ->> 'tag'] limit most + 1) as t;
        if coalesce(cardinality(found_ids), 0) <= most then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    if (request ->> 'has_errors')::boolean then
        select array_agg(distinct e.session_id), count(*) into found_ids, counted
          from (select i.session_id from public.ai_interactions as i
                 where i.project = in_project and (i.status = 'failed' or i.status is null and i.error <> '')
                 limit entries + 1) as e;
        if counted <= entries and coalesce(cardinality(found_ids), 0) <= most then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    if request ->> 'model' is not null then
        select array_agg(distinct e.session_id), count(*) into found_ids, counted
          from (select i.session_id from public.ai_interactions as i
                 where i.project = in_project and i.model = request ->> 'model'
                 limit entries + 1) as e;
        if counted <= entries and coalesce(cardinality(found_ids), 0) <= most then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    return null;
end
$$;


-- {project, limit, user_id?, unclaimed?, folder_id?, tag?, status?, implicit?, model?, has_errors?, begun?, name?, from?, to?,
-- sort?: newest | oldest | activity, after?: {at, session_id}} -> {sessions, after}. A session's time is its started_at, or
-- created_at where the caller gave none; by `activity` it is when its last interaction arrived, and those without any are
-- left out. `name` is a part of the title or the key. A page may be short; `after` is null at the end.
create or replace function public.turnlog_sessions_v1(request jsonb) returns jsonb
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
    filters constant record := public.turnlog_session_filters_v1(request);
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
        walk := 'select i.session_id as id, i.created_at as at from public.ai_interactions as i where i.project = $1 ->> ''project'''
                || format(beyond, 'i.created_at', 'i.session_id') || ' order by i.created_at desc, i.session_id desc limit $2';
        page := 'select w.id, w.at from (select v.id, max(v.at) as at from (' || walk || ') as v group by v.id) as w'
                || ' where (select true from public.ai_sessions as s where s.id = w.id and ' || filters.walked || filters.further
                || ' limit 1)'
                || case when has_after then ' and (select true from public.ai_interactions as i'
                   ' where i.project = $1 ->> ''project'' and i.session_id = w.id'
                   -- not by the index of arrivals, which would be read from its end
                   ' and (i.created_at + interval ''0'', i.session_id)'
                   ' >= (($1 #>> ''{after,at}'')::timestamptz, ($1 #>> ''{after,session_id}'')::uuid) limit 1) is null' else '' end;
    else
        looks := case when whole then '{2147483647}' when filters.looks then '{2000,10000}' else '{5000,30000}' end;
        walk := 'select s.id, coalesce(s.started_at, s.created_at) as at, s.project, s.folder_id, s.user_id, s.implicit, s.status,'
                ' s.claim, s.tags, s.title, s.key, s.started_at, s.created_at, s.erased_at from public.ai_sessions as s where '
                || filters.walked || format(beyond, 'coalesce(s.started_at, s.created_at)', 's.id')
                || format(' order by coalesce(s.started_at, s.created_at) %1$s, s.id %1$s limit $2', direction);
        page := 'select s.id, s.at from (' || walk || ') as s where true' || filters.further;
    end if;

    foreach enough in array looks loop
        -- what one rare filter lets through is looked at as a whole before looking further
        if enough <> looks[1] then
            candidates := public.turnlog_session_candidates_v1(
                request, case when by_activity then filters.walked end, 2000);
            if candidates is not null then
                page := case when by_activity then
                    'select w.id, w.at from (select i.session_id as id, max(i.created_at) as at from public.ai_interactions as i'
                    ' where i.project = $1 ->> ''project'' and i.session_id = any ($4) group by i.session_id) as w'
                    ' where (select true from public.ai_sessions as s where s.id = w.id and ' || filters.walked || filters.further
                    || ' limit 1)' || format(beyond, 'w.at', 'w.id')
                else
                    'select s.id, coalesce(s.started_at, s.created_at) as at from public.ai_sessions as s where s.id = any ($4) and '
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
        'sessions', public.turnlog_session_rows_v1(request ->> 'project', coalesce(ids[:page_size], '{}')),
        'after', case when last_id is not null then jsonb_build_object('at', last_at, 'session_id', last_id) end);
end
$$;


-- {project, and the filters of turnlog_sessions_v1} -> {sessions, complete}: how many sessions these let through, up to
-- 10,000, of the newest 5,000 where their interactions have to be looked into. Not `complete`: there may be more.
create or replace function public.turnlog_count_sessions_v1(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
    most constant integer := 10000;
    filters constant record := public.turnlog_session_filters_v1(request);
    enough constant integer := case when filters.further = '' then most + 1 when filters.looks then 5000 else 30000 end;
    candidates constant uuid[] := case when filters.further <> '' then public.turnlog_session_candidates_v1(request, null, 2000) end;
    counted bigint;
    looked bigint;
begin
    if candidates is not null then
        execute 'select count(*) from public.ai_sessions as s where s.id = any ($2) and ' || filters.walked || filters.further
           into counted using request, candidates;
        return jsonb_build_object('sessions', counted, 'complete', true);
    end if;
    execute 'select count(*) filter (where true' || filters.further || '), count(*) from ('
            'select s.* from public.ai_sessions as s where ' || filters.walked
            || case when filters.further = '' then '' else
               ' order by coalesce(s.started_at, s.created_at) desc, s.id desc' end || ' limit $2) as s'
       into counted, looked using request, enough;
    return jsonb_build_object('sessions', least(counted, most), 'complete', looked < enough and counted <= most);
end
$$;


-- The beginning of what was said: a text, or the last message of a list that has one.
create or replace function public.turnlog_excerpt_v1(said jsonb, length integer) returns text
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


-- What errors of one kind have in common: an error's beginning on one line, without what differs each time: long numbers
-- and ids.
create or replace function public.turnlog_error_kind_v1(error text) returns text
language sql immutable parallel safe
set search_path = ''
as $$
    select nullif(btrim(left(regexp_replace(regexp_replace(left(error, 300), '\s+', ' ', 'g'),
                                            '\m(?=[0-9a-fA-F-]{0,40}[0-9])[0-9a-fA-F-]{8,}\M|\d{4,}', '…', 'g'), 200)), '')
$$;


-- {project, limit, model?, has_errors?, error?, from?, to?, after?: {at, session_id, interaction_id}} -> {interactions, after}:
-- those that arrived last, first, with the beginnings of their texts. With `from` or `to` those that began in this time, the
-- latest first by their started_at, or created_at where the caller gave none. `error`: of this kind, see
-- turnlog_error_kind_v1. A page may be short; `after` is null at the end.
create or replace function public.turnlog_recent_v1(request jsonb) returns jsonb
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
        further := further || ' and public.turnlog_error_kind_v1(i.error) = $1 ->> ''error''';
    end if;
    if request #>> '{after,session_id}' is not null then
        -- the first two are the index's; within a session, what arrived at once is in the order of the ids
        walked := walked || format(
            ' and (%1$s, i.session_id) <= (($1 #>> ''{after,at}'')::timestamptz, ($1 #>> ''{after,session_id}'')::uuid)'
            ' and (%1$s, i.session_id, i.id) < (($1 #>> ''{after,at}'')::timestamptz, ($1 #>> ''{after,session_id}'')::uuid,'
            ' ($1 #>> ''{after,interaction_id}'')::uuid)', at);
    end if;
    execute 'with looked as (select i.*, ' || at || ' as at from public.ai_interactions as i where ' || walked
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
                       'prompt', public.turnlog_excerpt_v1(i.prompt, 300),
                       'response', public.turnlog_excerpt_v1(i.response, 300),
                       'latency_ms', i.latency_ms, 'input_tokens', i.input_tokens, 'output_tokens', i.output_tokens,
                       'erased_at', i.erased_at, 'started_at', i.started_at, 'created_at', i.created_at) order by i.n), '[]')
              from shown as i
              -- what is being erased has its tombstone first, and is gone from here with it
              join public.ai_sessions as s on s.project = i.project and s.id = i.session_id and s.erased_at is null
             where i.n <= $2),
           case when (select count(*) from shown) > $2$sql$
            || ' then (select ' || place_of || ' from shown as p where p.n = $2)'
               ' else (select ' || place_of || ' from looked as p offset $3 - 1 limit 1) end'
       into page, place using request, page_size, enough;
    return jsonb_build_object('interactions', page, 'after', place);
end
$$;


do $$ begin perform public.turnlog_close_v1(); end $$;
