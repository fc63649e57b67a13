-- Passes what spans say of sessions and users on to the spans below. Each span has the closest span above that says
-- something, so a new one changes only those below it that knew none, or a farther one.
-- `changed`: TRACE/SPAN -> true of the spans that are new or say more now, without those of whole traces. Returns the spans whose session or user may be
-- another one now, as parallel lists.
create or replace function turnlog.inherit_sessions(
    in_project text, changed jsonb, out trace_ids text[], out span_ids text[])
language plpgsql volatile
set search_path = ''
as $$
declare
    rehomed text[] := '{}'; -- traces in which something was named that holds for all of it
begin
    trace_ids := array(select split_part(k, '/', 1) from jsonb_object_keys(changed) as k);
    span_ids := array(select split_part(k, '/', 2) from jsonb_object_keys(changed) as k);

    -- 1. Downwards.
    with recursive walk as (
            select s.trace_id, s.span_id,
                   case when s.caller_span = s.span_id then s.span_id else above.caller_span end as caller_span,
                   case when s.library_span = s.span_id then s.span_id else above.library_span end as library_span,
                   case when s.user_span = s.span_id then s.span_id else above.user_span end as user_span,
                   array[s.caller_span, s.library_span, s.user_span] as was
              from unnest(trace_ids, span_ids) as w (trace_id, span_id)
             cross join lateral (
                   select s.* from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = w.trace_id and s.span_id = w.span_id
                   offset 0) as s
              left join lateral (
                   select a.caller_span, a.library_span, a.user_span from turnlog.ai_spans as a
                    where a.project = in_project and a.trace_id = s.trace_id and a.span_id = s.parent_id
                   offset 0) as above on true
             where s.parent_id is null or not changed ? (s.trace_id || '/' || s.parent_id)
            union
            select below.trace_id, below.span_id, below.caller_span, below.library_span, below.user_span, below.was
              from walk as w
             cross join lateral (
                   select s.trace_id, s.span_id,
                          case when s.caller_span = s.span_id then s.span_id else w.caller_span end as caller_span,
                          case when s.library_span = s.span_id then s.span_id else w.library_span end as library_span,
                          case when s.user_span = s.span_id then s.span_id else w.user_span end as user_span,
                          array[s.caller_span, s.library_span, s.user_span] as was
                     from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = w.trace_id and s.parent_id = w.span_id
                   offset 0) as below
             where array[below.caller_span, below.library_span, below.user_span] is distinct from below.was
                or changed ? (below.trace_id || '/' || below.span_id)
    ), passed as (
        update turnlog.ai_spans as s
           set caller_span = w.caller_span, library_span = w.library_span, user_span = w.user_span
          from (select w.*, d.at
                  from walk as w
                 cross join lateral (
                       select d.ctid as at from turnlog.ai_spans as d
                        where d.project = in_project and d.trace_id = w.trace_id and d.span_id = w.span_id
                       offset 0) as d
                 where array[w.caller_span, w.library_span, w.user_span] is distinct from w.was) as w
         where s.project = in_project collate "C" and s.ctid = w.at
        returning s.trace_id, s.span_id
    )
    select trace_ids || array_agg(p.trace_id), span_ids || array_agg(p.span_id)
      into trace_ids, span_ids
      from passed as p;

    -- 2. Everywhere else in the trace.
    with stated as materialized (
        select s.trace_id,
               min(s.span_id) filter (where s.by_caller) as caller_span,
               count(distinct s.stated_session) filter (where s.by_caller) > 1 as caller_several,
               (array_agg(s.stated_session order by s.span_id) filter (where s.by_caller))[1] as caller_session,
               min(s.span_id) filter (where not s.by_caller) as library_span,
               min(s.span_id) filter (where s.user_id is not null) as user_span
          from jsonb_object_keys(changed) as k
         cross join lateral (
               select s.trace_id, s.span_id, s.by_caller, s.stated_session, s.user_id from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = split_part(k, '/', 1) and s.span_id = split_part(k, '/', 2)
               offset 0) as s
         where s.stated_session is not null or s.user_id is not null
         group by s.trace_id
    ), compared as materialized (
        select t.ctid as at, t.trace_id, t.caller_span as old_caller_span, t.caller_several as old_caller_several,
               t.library_span as old_library_span, t.user_span as old_user_span,
               least(t.caller_span, s.caller_span) as caller_span,
               t.caller_several or coalesce(s.caller_several, false)
                   or (t.caller_span is not null and s.caller_span is not null
                       and (turnlog.named_in(in_project, t.trace_id, t.caller_span, null, null))[1]
                           <> s.caller_session::text) as caller_several,
               least(t.library_span, s.library_span) as library_span,
               least(t.user_span, s.user_span) as user_span
          from stated as s
         cross join lateral (
               select t.ctid, t.* from turnlog.ai_traces as t
                where t.project = in_project and t.trace_id = s.trace_id
               offset 0) as t
    ), kept as (
        update turnlog.ai_traces as t
           set caller_span = c.caller_span, caller_several = c.caller_several, library_span = c.library_span,
               user_span = c.user_span
          from compared as c
         where t.project = in_project collate "C" and t.ctid = c.at
           and (c.caller_span, c.caller_several, c.library_span, c.user_span)
               is distinct from (c.old_caller_span, c.old_caller_several, c.old_library_span, c.old_user_span)
    )
    -- the spans that have something above them stay, but to find them takes as long as to place them
    select coalesce(array_agg(c.trace_id), '{}')
      into rehomed
      from compared as c
     where c.caller_several <> c.old_caller_several
        or turnlog.named_in(in_project, c.trace_id, c.caller_span, c.library_span, c.user_span)
           is distinct from turnlog.named_in(
               in_project, c.trace_id, c.old_caller_span, c.old_library_span, c.old_user_span);
    if rehomed <> '{}' then
        select trace_ids || array_agg(s.trace_id), span_ids || array_agg(s.span_id)
          into trace_ids, span_ids
          from unnest(rehomed) as r (id)
         cross join lateral (
               select s.trace_id, s.span_id from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = r.id
               offset 0) as s;
    end if;
end
$$;
