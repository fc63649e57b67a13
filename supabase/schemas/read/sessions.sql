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
