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
