-- Returns the session and the user of spans. A statement on a span holds for all below it, the closest one first. A session
-- that a caller named, also elsewhere in the trace, comes before one that a library made up; where callers named several,
-- one elsewhere comes after it. A trace in which nothing names a session has one of its own.
-- `level`: how it was found, the best first. `trace_ids` and `span_ids` are parallel lists.
create or replace function turnlog.span_places(in_project text, trace_ids text[], span_ids text[])
returns table (of_trace text, of_span text, level integer, place uuid, place_key text, person text)
language plpgsql stable
set search_path = ''
as $$
begin
    return query
    with ways as materialized ( -- most spans of a trace have the same
        select s.trace_id, s.caller_span, s.library_span, s.user_span, array_agg(s.span_id) as ids
          from unnest(trace_ids, span_ids) as w (trace_id, span_id)
         cross join lateral (
               select s.trace_id, s.span_id, s.caller_span, s.library_span, s.user_span
                 from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = w.trace_id and s.span_id = w.span_id
               offset 0) as s
         group by s.trace_id, s.caller_span, s.library_span, s.user_span
    ), stated as materialized (
        select y.trace_id, y.ids, t.session_id as own_session, t.erased_at,
               above.stated_session as above_session, above.session_key as above_key,
               library.stated_session as library_session, library.session_key as library_key,
               anywhere.stated_session as anywhere_session, anywhere.session_key as anywhere_key, t.caller_several,
               library_anywhere.stated_session as library_anywhere_session,
               library_anywhere.session_key as library_anywhere_key, person.user_id
          from ways as y
         cross join lateral (
               select t.* from turnlog.ai_traces as t
                where t.project = in_project and t.trace_id = y.trace_id offset 0) as t
          left join lateral (
               select s.stated_session, s.session_key from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = y.trace_id and s.span_id = y.caller_span
               offset 0) as above on true
          left join lateral (
               select s.stated_session, s.session_key from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = y.trace_id and s.span_id = t.caller_span
               offset 0) as anywhere on true
          left join lateral (
               select s.stated_session, s.session_key from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = y.trace_id and s.span_id = y.library_span
               offset 0) as library on true
          left join lateral (
               select s.stated_session, s.session_key from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = y.trace_id and s.span_id = t.library_span
               offset 0) as library_anywhere on true
          left join lateral (
               select coalesce(m.into_user, s.user_id) as user_id
                 from turnlog.ai_spans as s
                 left join lateral (
                      select m.into_user from turnlog.ai_user_merges as m
                       where m.project = in_project and m.guest = s.user_id offset 0) as m on true
                where s.project = in_project and s.trace_id = y.trace_id
                  and s.span_id = coalesce(y.user_span, t.user_span)
               offset 0) as person on true
    ), levelled as (
        select s.*, case when s.erased_at is not null then 0
                         when s.above_session is not null then 1
                         when s.anywhere_session is not null and not s.caller_several then 2
                         when s.library_session is not null then 3
                         when s.anywhere_session is not null then 4
                         when s.library_anywhere_session is not null then 5
                         else 6 end as found_at
          from stated as s
    )
    select l.trace_id, i.id, l.found_at,
           case l.found_at when 1 then l.above_session when 2 then l.anywhere_session when 3 then l.library_session
                           when 4 then l.anywhere_session when 5 then l.library_anywhere_session else l.own_session end,
           case l.found_at when 1 then l.above_key when 2 then l.anywhere_key when 3 then l.library_key
                           when 4 then l.anywhere_key when 5 then l.library_anywhere_key
                           else 'trace:' || l.trace_id end,
           l.user_id
      from levelled as l
     cross join lateral unnest(l.ids) as i (id);
end
$$;
