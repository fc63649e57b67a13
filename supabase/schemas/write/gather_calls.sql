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
