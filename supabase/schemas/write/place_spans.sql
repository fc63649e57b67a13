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
