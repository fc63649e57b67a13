-- Joins spans of one call: two instrumentations that see it, in one trace or in two. Spans are joined that have the same
-- response id, failed ones without one that are next to each other in their trace (see turnlog.is_same_call), and those
-- that a mapper names (`same_call_as`). Whoever is joined to the same span is joined, too.
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
    -- which are locked whenever spans of the trace come; a trace with more may deadlock with those, and is written again
    most_linked constant integer := 50;
    one record;
    other record;
    refs text[];
    joined jsonb := '{}';
begin
    for one in
        with new_calls as materialized (
            select s.*
              from jsonb_object_keys(changed) as k
             cross join lateral (
                   select s.* from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = split_part(k, '/', 1) and s.span_id = split_part(k, '/', 2)
                   offset 0) as s
             where s.kind = 'call' and s.erased_at is null
        ), candidates as (
            select n.trace_id, n.span_id, o.trace_id as other_trace, o.span_id as other_span
              from new_calls as n
             cross join lateral (
                   select s.* from turnlog.ai_spans as s
                    where s.project = in_project and s.response_id = n.response_id and not s.repeats
                   offset 0) as o
             where turnlog.is_same_call(n.scope, n.started_at, n.completed_at, n.model,
                                        o.scope, o.started_at, o.completed_at, o.model)
            union all
            select n.trace_id, n.span_id, o.trace_id, o.span_id
              from new_calls as n
             cross join lateral (
                   select s.* from turnlog.ai_spans as s
                    where s.project = in_project and s.response_id = n.response_id and s.repeats
                      and s.started_at between n.started_at - most_apart and n.started_at + most_apart
                   offset 0) as o
             where turnlog.is_same_call(n.scope, n.started_at, n.completed_at, n.model,
                                        o.scope, o.started_at, o.completed_at, o.model)
            union all
            select n.trace_id, n.span_id, o.trace_id, o.span_id
              from new_calls as n
             cross join lateral (
                   select s.* from turnlog.ai_spans as s -- siblings
                    where s.project = in_project and s.trace_id = n.trace_id and s.parent_id = n.parent_id
                      and s.started_at between n.started_at - most_apart and n.started_at + most_apart
                      and n.failed and s.failed
                    union all
                   select s.* from turnlog.ai_spans as s -- children
                    where s.project = in_project and s.trace_id = n.trace_id and s.parent_id = n.span_id
                      and n.failed and s.failed
                    union all
                   select s.* from turnlog.ai_spans as s -- the parent
                    where s.project = in_project and s.trace_id = n.trace_id and s.span_id = n.parent_id
                      and n.failed and s.failed
                   offset 0) as o
             where n.response_id is null and o.response_id is null and o.kind = 'call'
               and turnlog.is_same_call(n.scope, n.started_at, n.completed_at, n.model,
                                        o.scope, o.started_at, o.completed_at, o.model)
            union all
            select n.trace_id, n.span_id, o.trace_id, o.span_id
              from new_calls as n
             cross join lateral (
                   select s.* from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = split_part(n.same_call_as, '/', 1)
                      and s.span_id = split_part(n.same_call_as, '/', 2)
                    union all
                   select s.* from turnlog.ai_spans as s
                    where s.project = in_project and s.same_call_as = n.trace_id || '/' || n.span_id
                   offset 0) as o
             -- of which more than log events came, so that their order is known
             where o.kind = 'call' and o.rank is not null and n.rank is not null
        )
        select c.trace_id, c.span_id, c.other_trace, c.other_span
          from candidates as c
         where (c.trace_id, c.span_id) <> (c.other_trace, c.other_span)
         order by c.trace_id, c.span_id, c.other_trace, c.other_span
    loop
        perform from turnlog.ai_traces as t
          where t.project = in_project and t.trace_id = one.other_trace for no key update;
        refs := array(
            select m.ref
              from (select distinct m.ref
                      from (values (one.trace_id, one.span_id), (one.other_trace, one.other_span)) as e (trace_id, span_id)
                     cross join lateral (
                           select s.call_spans from turnlog.ai_spans as s
                            where s.project = in_project and s.trace_id = e.trace_id and s.span_id = e.span_id
                              and s.erased_at is null
                           offset 0) as s
                     cross join lateral unnest(coalesce(s.call_spans, array[e.trace_id || '/' || e.span_id])) as m (ref)) as m
             cross join lateral (
                   select s.rank, s.started_at from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = split_part(m.ref, '/', 1)
                      and s.span_id = split_part(m.ref, '/', 2)
                   offset 0) as s
             order by s.rank, s.started_at, m.ref);
        continue when cardinality(refs) < 2
                      or (select s.call_spans = refs from turnlog.ai_spans as s
                           where s.project = in_project and s.trace_id = one.trace_id and s.span_id = one.span_id
                             and s.call_spans = refs);
        -- in the order of their ids; what deadlocks with another such pair is written again
        perform from unnest(refs) as r (ref)
          cross join lateral (
               select from turnlog.ai_traces as t
                where t.project = in_project and t.trace_id = split_part(r.ref, '/', 1) for no key update) as t;
        select joined || coalesce(jsonb_object_agg(r.ref, coalesce(joined ->> r.ref, s.call_spans[1], r.ref)), '{}')
          into joined
          from unnest(refs) as r (ref)
         cross join lateral (
               select s.call_spans from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(r.ref, '/', 1)
                  and s.span_id = split_part(r.ref, '/', 2)
               offset 0) as s;
        update turnlog.ai_spans as s
           set call_spans = refs
         where s.project = in_project collate "C" and s.ctid = any (array(
               select d.ctid
                 from unnest(refs) as r (ref)
                cross join lateral (
                      select d.ctid from turnlog.ai_spans as d
                       where d.project = in_project and d.trace_id = split_part(r.ref, '/', 1)
                         and d.span_id = split_part(r.ref, '/', 2)
                      offset 0) as d));
        for other in
            select t.id, array_agg(o.id order by o.id) as others
              from (select distinct split_part(r, '/', 1) as id from unnest(refs) as r) as t
              join (select distinct split_part(r, '/', 1) as id from unnest(refs) as r) as o on o.id <> t.id
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
