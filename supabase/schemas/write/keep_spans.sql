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
