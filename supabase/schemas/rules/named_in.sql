-- Returns what three spans of a trace name: a caller's session, a library's, and a user; null where there is no span.
create or replace function turnlog.named_in(
    in_project text, of_trace text, by_caller_on text, by_library_on text, user_on text)
returns text[]
language sql stable
set search_path = ''
as $$
    select array[
        (select s.stated_session::text from turnlog.ai_spans as s
          where s.project = in_project and s.trace_id = of_trace and s.span_id = by_caller_on),
        (select s.stated_session::text from turnlog.ai_spans as s
          where s.project = in_project and s.trace_id = of_trace and s.span_id = by_library_on),
        (select s.user_id from turnlog.ai_spans as s
          where s.project = in_project and s.trace_id = of_trace and s.span_id = user_on)]
$$;
