-- Joins spans of one call: two instrumentations that see it, in one trace or in two. Spans are joined that a mapper names
-- (`same_call_as`), that have the same response id, or that failed without one next to each other in their trace (see
-- turnlog.is_same_call); in this order, the closest in time first. A call has one span of each instrumentation, but for those
-- that a mapper names, and never spans for which callers named different sessions or users: rather one call is stored twice
-- than one of two lost. Spans that come after their call was erased are erased: see turnlog.reject_twins.
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
    -- likewise: those looked at before and after each span,
    most_near constant integer := least(200, greatest(20, 60000 / (select count(*) + 1 from jsonb_object_keys(changed) as k)));
    most_candidates constant integer := 20; --   and those of them that it may be joined with
    -- which are locked whenever spans of the trace come; a trace with more may deadlock with those, and is written again
    most_linked constant integer := 50;
    ones text[];            -- candidates, parallel
    others text[];
    -- the spans of candidates and of their calls, parallel
    refs text[];
    scopes text[];
    callers uuid[];         -- the session that a caller named
    users text[];
    named text[];           -- what a mapper says they are of
    calls jsonb;            -- the spans of a call, if there are several
    place jsonb;            -- TRACE/SPAN -> its position
    next integer[];         -- the spans of a call are a ring
    touched integer[] := '{}';
    a integer;
    b integer;
    x integer;
    y integer;
    is_free boolean;
    members text[];
    done boolean[];
    one record;
    other record;
    joined jsonb;
begin
    joined := turnlog.reject_twins(in_project, changed);
    with new_calls as materialized (
        select s.*, s.trace_id || '/' || s.span_id as ref
          from jsonb_object_keys(changed) as k
         cross join lateral (
               select s.* from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(k, '/', 1) and s.span_id = split_part(k, '/', 2)
               offset 0) as s
         where s.kind = 'call' and s.erased_at is null
    ), seen as materialized (
        select n.ref as one, n.trace_id as one_trace, n.span_id as one_span, n.parent_id as one_parent, n.scope as one_scope,
               n.started_at as one_start, n.completed_at as one_end, n.model as one_model,
               coalesce(n.response_id, n.trace_id || '/' || n.parent_id) as kin, o.*, o.trace_id || '/' || o.span_id as ref
          from new_calls as n
         cross join lateral (
               select s.* from turnlog.ai_spans as s
                where s.project = in_project and s.response_id = n.response_id and not s.repeats
                union all
               (select s.* from turnlog.ai_spans as s
                 where s.project = in_project and s.response_id = n.response_id and s.repeats and s.scope <> n.scope
                   and s.started_at >= n.started_at and s.started_at <= n.started_at + most_apart
                 order by s.started_at limit most_near)
                union all
               (select s.* from turnlog.ai_spans as s
                 where s.project = in_project and s.response_id = n.response_id and s.repeats and s.scope <> n.scope
                   and s.started_at < n.started_at and s.started_at >= n.started_at - most_apart
                 order by s.started_at desc limit most_near)
                union all
               (select s.* from turnlog.ai_spans as s -- siblings
                 where s.project = in_project and s.trace_id = n.trace_id and s.parent_id = n.parent_id
                   and n.failed and s.failed and n.response_id is null and s.response_id is null and s.scope <> n.scope
                   and s.started_at >= n.started_at and s.started_at <= n.started_at + most_apart
                 order by s.started_at limit most_near)
                union all
               (select s.* from turnlog.ai_spans as s
                 where s.project = in_project and s.trace_id = n.trace_id and s.parent_id = n.parent_id
                   and n.failed and s.failed and n.response_id is null and s.response_id is null and s.scope <> n.scope
                   and s.started_at < n.started_at and s.started_at >= n.started_at - most_apart
                 order by s.started_at desc limit most_near)
                union all
               (select s.* from turnlog.ai_spans as s -- children
                 where s.project = in_project and s.trace_id = n.trace_id and s.parent_id = n.span_id
                   and n.failed and s.failed and n.response_id is null and s.response_id is null and s.scope <> n.scope
                 order by s.started_at limit most_near)
                union all
               select s.* from turnlog.ai_spans as s -- the parent
                where s.project = in_project and s.trace_id = n.trace_id and s.span_id = n.parent_id
                  and n.failed and s.failed and n.response_id is null and s.response_id is null
               offset 0) as o
         where o.kind = 'call' and o.erased_at is null
           and o.scope <> n.scope
           and (o.call_spans is null or not exists (
                select from unnest(o.call_spans) as m (ref)
                 cross join lateral (
                       select s.scope from turnlog.ai_spans as s
                        where s.project = in_project and s.trace_id = split_part(m.ref, '/', 1)
                          and s.span_id = split_part(m.ref, '/', 2)
                       offset 0) as s
                 where s.scope = n.scope))
    ), alike as materialized (
        select s.*
          from seen as s
         where turnlog.is_same_call(s.one_scope, s.one_start, s.one_end, s.one_model,
                                    s.scope, s.started_at, s.completed_at, s.model)
    ), numbered as materialized ( -- those at one time are paired in the order of their ids
        select w.ref, row_number() over (partition by w.kin, w.scope order by w.started_at, w.ref) as nth
          from (select distinct on (w.ref) w.*
                  from (select s.one as ref, s.kin, s.one_scope as scope, s.one_start as started_at from alike as s
                        union all
                        select s.ref, s.kin, s.scope, s.started_at from alike as s) as w
                 order by w.ref, w.kin) as w
    ), ranked as (
        select s.one, s.ref, s.one_parent is not null and s.one_parent = s.span_id and s.one_trace = s.trace_id
                             or s.parent_id is not null and s.parent_id = s.one_span and s.one_trace = s.trace_id as is_nested,
               abs(extract(epoch from s.started_at - s.one_start)) as apart, s.one_trace = s.trace_id as is_beside,
               abs(n.nth - o.nth) as off
          from alike as s
          join numbered as n on n.ref = s.one
          join numbered as o on o.ref = s.ref
    ), nearest as (
        select r.*, row_number() over (
                   partition by r.one order by not coalesce(r.is_nested, false), r.apart, not r.is_beside, r.off, r.ref) as nth
          from ranked as r
    ), candidates as (
        select own.one, o.ref as other, true as is_named, false as is_nested, 0::numeric as apart, true as is_beside, 0 as off
          from new_calls as n
         cross join lateral (
               select s.trace_id || '/' || s.span_id as ref, s.kind, s.rank, s.erased_at from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(n.same_call_as, '/', 1)
                  and s.span_id = split_part(n.same_call_as, '/', 2)
                union all
               select s.trace_id || '/' || s.span_id, s.kind, s.rank, s.erased_at from turnlog.ai_spans as s
                where s.project = in_project and s.same_call_as = n.ref
               offset 0) as o
         cross join lateral (select n.ref as one) as own
         -- of which more than log events came, so that their order is known
         where o.kind = 'call' and o.rank is not null and n.rank is not null and o.erased_at is null
        union all
        select r.one, r.ref, false, coalesce(r.is_nested, false), r.apart, r.is_beside, r.off
          from nearest as r where r.nth <= most_candidates
    )
    select array_agg(c.one order by not c.is_named, not c.is_nested, c.apart, not c.is_beside, c.off,
                                    least(c.one, c.other), greatest(c.one, c.other)),
           array_agg(c.other order by not c.is_named, not c.is_nested, c.apart, not c.is_beside, c.off,
                                      least(c.one, c.other), greatest(c.one, c.other))
      into ones, others
      from candidates as c
     where c.one <> c.other;
    if ones is null then
        return joined;
    end if;

    for one in select distinct split_part(o.ref, '/', 1) as id from unnest(others) as o (ref) order by id loop
        perform from turnlog.ai_traces as t where t.project = in_project and t.trace_id = one.id for no key update;
    end loop;
    -- again, now that nobody else joins them
    with wanted as materialized (
        select w.ref, s.call_spans
          from (select unnest(ones) union select unnest(others)) as w (ref)
         cross join lateral (
               select s.call_spans from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(w.ref, '/', 1)
                  and s.span_id = split_part(w.ref, '/', 2) and s.erased_at is null
               offset 0) as s
    ), spans as materialized (
        select m.ref, s.*
          from (select w.ref from wanted as w
                union
                select m.ref from wanted as w cross join lateral unnest(w.call_spans) as m (ref)) as m
         cross join lateral (
               select s.trace_id, s.scope, s.caller_span, s.user_span, s.same_call_as, s.call_spans from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(m.ref, '/', 1)
                  and s.span_id = split_part(m.ref, '/', 2)
               offset 0) as s
    )
    select array_agg(s.ref order by s.ref), array_agg(s.scope order by s.ref), array_agg(c.stated_session order by s.ref),
           array_agg(u.user_id order by s.ref), array_agg(coalesce(s.same_call_as, s.ref) order by s.ref),
           coalesce(jsonb_object_agg(s.ref, s.call_spans) filter (where s.call_spans is not null), '{}')
      into refs, scopes, callers, users, named, calls
      from spans as s
      left join lateral (
           select c.stated_session from turnlog.ai_spans as c
            where c.project = in_project and c.trace_id = s.trace_id
              and c.span_id = s.caller_span
           offset 0) as c on true
      left join lateral (
           select coalesce(m.into_user, c.user_id) as user_id
             from turnlog.ai_spans as c
             left join lateral (
                  select m.into_user from turnlog.ai_user_merges as m
                   where m.project = in_project and m.guest = c.user_id offset 0) as m on true
            where c.project = in_project and c.trace_id = s.trace_id and c.span_id = s.user_span
           offset 0) as u on true;
    if refs is null then
        return joined;
    end if;
    select jsonb_object_agg(r.ref, r.n) into place from unnest(refs) with ordinality as r (ref, n);
    for n in 1 .. cardinality(refs) loop
        if calls ? refs[n] then
            members := array(select jsonb_array_elements_text(calls -> refs[n]));
            next[n] := place ->> members[1 + array_position(members, refs[n]) % cardinality(members)];
        else
            next[n] := n;
        end if;
    end loop;

    for nth in 1 .. cardinality(ones) loop
        a := place ->> ones[nth];
        b := place ->> others[nth];
        continue when a is null or b is null;
        is_free := true;
        x := a;
        loop
            y := b;
            loop
                is_free := x <> y
                       and coalesce(callers[x] = callers[y], true)
                       and coalesce(users[x] = users[y], true)
                       and (coalesce(scopes[x] <> scopes[y], true) or named[x] = named[y]
                            or named[x] = refs[y] or named[y] = refs[x]);
                y := next[y];
                exit when not is_free or y = b;
            end loop;
            x := next[x];
            exit when not is_free or x = a;
        end loop;
        if is_free then
            x := next[a];
            next[a] := next[b];
            next[b] := x;
            touched := touched || a;
        end if;
    end loop;

    done := array_fill(false, array[cardinality(refs)]);
    foreach a in array touched loop
        continue when done[a];
        members := '{}';
        x := a;
        loop
            done[x] := true;
            members := members || refs[x];
            x := next[x];
            exit when x = a;
        end loop;
        members := array(
            select m.ref
              from unnest(members) as m (ref)
             cross join lateral (
                   select s.rank, s.started_at from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = split_part(m.ref, '/', 1)
                      and s.span_id = split_part(m.ref, '/', 2)
                   offset 0) as s
             order by s.rank, s.started_at, m.ref);
        -- in the order of their ids; what deadlocks with another such pair is written again
        perform from (select distinct split_part(r.ref, '/', 1) as id from unnest(members) as r (ref) order by 1) as r
          cross join lateral (
               select from turnlog.ai_traces as t
                where t.project = in_project and t.trace_id = r.id for no key update) as t;
        select joined || coalesce(jsonb_object_agg(r.ref, coalesce(joined ->> r.ref, s.call_spans[1], r.ref)), '{}')
          into joined
          from unnest(members) as r (ref)
         cross join lateral (
               select s.call_spans from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(r.ref, '/', 1)
                  and s.span_id = split_part(r.ref, '/', 2)
               offset 0) as s;
        update turnlog.ai_spans as s
           set call_spans = members
         where s.project = in_project collate "C" and s.ctid = any (array(
               select d.ctid
                 from unnest(members) as r (ref)
                cross join lateral (
                      select d.ctid from turnlog.ai_spans as d
                       where d.project = in_project and d.trace_id = split_part(r.ref, '/', 1)
                         and d.span_id = split_part(r.ref, '/', 2)
                      offset 0) as d));
        for other in
            select t.id, array_agg(o.id order by o.id) as others
              from (select distinct split_part(r, '/', 1) as id from unnest(members) as r) as t
              join (select distinct split_part(r, '/', 1) as id from unnest(members) as r) as o on o.id <> t.id
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
