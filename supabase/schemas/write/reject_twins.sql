-- Makes tombstones of spans that came after their call was erased: another instrumentation's spans of it. They are
-- recognised as turnlog.join_calls recognises spans of one call, by the hashes that the erased ones left, and become
-- spans of the erased call. `changed` as in turnlog.join_calls. Returns TRACE/SPAN -> TRACE/SPAN of those.
create or replace function turnlog.reject_twins(in_project text, changed jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    one record;
    own turnlog.ai_spans;
    twin turnlog.ai_spans;
    members text[];
    rejected jsonb := '{}';
begin
    for one in
        with new_calls as materialized (
            select s.*, turnlog.twin_hash(in_project, s.response_id) as hash, turnlog.twin_hash(in_project, s.scope) as own_scope
              from jsonb_object_keys(changed) as k
             cross join lateral (
                   select s.* from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = split_part(k, '/', 1) and s.span_id = split_part(k, '/', 2)
                   offset 0) as s
             where s.kind = 'call' and s.erased_at is null
        )
        select n.trace_id, n.span_id, o.trace_id as other_trace, o.span_id as other_span, o.named, n.own_scope
          from new_calls as n
         cross join lateral (
               select s.*, false as named from turnlog.ai_spans as s
                where s.project = in_project and s.response_hash = n.hash
                union all
               (select s.*, false from turnlog.ai_spans as s
                 where s.project = in_project and s.trace_id = n.trace_id and s.parent_id in (n.parent_id, n.span_id)
                   and n.failed and s.failed and n.response_id is null and s.response_hash is null)
                union all
               select s.*, false from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = n.trace_id and s.span_id = n.parent_id
                  and n.failed and s.failed and n.response_id is null and s.response_hash is null
                union all
               select s.*, true from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(n.same_call_as, '/', 1)
                  and s.span_id = split_part(n.same_call_as, '/', 2)
                union all
               select s.*, true from turnlog.ai_spans as s
                where s.project = in_project and s.same_call_as = n.trace_id || '/' || n.span_id
               offset 0) as o
         where o.erased_at is not null and o.kind = 'call'
           and (o.named and o.rank is not null and n.rank is not null
                or o.scope_hash <> n.own_scope
                   and n.started_at <= greatest(o.started_at, o.completed_at)
                   and o.started_at <= greatest(n.started_at, n.completed_at))
         order by not o.named, abs(extract(epoch from o.started_at - n.started_at)),
                  n.trace_id, n.span_id, o.trace_id, o.span_id
    loop
        continue when rejected ? (one.trace_id || '/' || one.span_id);
        select s.* into own from turnlog.ai_spans as s
         where s.project = in_project and s.trace_id = one.trace_id and s.span_id = one.span_id;
        select s.* into twin from turnlog.ai_spans as s
         where s.project = in_project and s.trace_id = one.other_trace and s.span_id = one.other_span;
        members := coalesce(twin.call_spans, array[one.other_trace || '/' || one.other_span]);
        continue when not one.named and exists (
            select from unnest(members) as m (ref)
             cross join lateral (
                   select s.scope_hash from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = split_part(m.ref, '/', 1)
                      and s.span_id = split_part(m.ref, '/', 2)
                   offset 0) as s
             where s.scope_hash = one.own_scope);
        continue when (
            select count(distinct s.stated_session) > 1
              from (values (own.trace_id, own.caller_span), (twin.trace_id, twin.caller_span)) as c (trace_id, span_id)
             cross join lateral (
                   select s.stated_session from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = c.trace_id and s.span_id = c.span_id
                   offset 0) as s);
        perform from unnest(members) as r (ref)
          cross join lateral (
               select from turnlog.ai_traces as t
                where t.project = in_project and t.trace_id = split_part(r.ref, '/', 1) for no key update) as t;
        if own.session_id is not null and exists (
           select from turnlog.ai_interactions as i
            where i.project = in_project and i.session_id = own.session_id and i.id = own.id) then -- by log events
            perform from turnlog.ai_sessions as s where s.project = in_project and s.id = own.session_id for update;
            perform turnlog.blank_interactions(in_project, array[own.session_id], array[own.id]);
        end if;
        perform turnlog.blank_spans(in_project, array[one.trace_id || '/' || one.span_id]);
        members := members || (one.trace_id || '/' || one.span_id);
        update turnlog.ai_spans as s -- it belongs where the erased call does, whatever its own trace says
           set caller_span = case when twin.session_id is null then s.caller_span else s.span_id end,
               stated_session = coalesce(twin.session_id, s.stated_session), by_caller = true, call_spans = members
         where s.project = in_project and s.trace_id = one.trace_id and s.span_id = one.span_id;
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
        rejected := rejected || jsonb_build_object(one.trace_id || '/' || one.span_id, one.trace_id || '/' || one.span_id);
    end loop;
    return rejected;
end
$$;
