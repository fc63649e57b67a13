-- Erases the spans of sessions that the caller has locked and erases: see turnlog.blank_spans. Nothing is added to a trace
-- any more whose own session is one of them.
create or replace function turnlog.erase_spans(in_project text, ids uuid[]) returns void
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some sessions' rows, never a whole table, whatever its statistics say
as $$
declare
    refs text[];
begin
    refs := array(
        select s.trace_id || '/' || s.span_id
          from turnlog.ai_spans as s
         where s.project = in_project and s.session_id = any (ids) and s.erased_at is null);
    if refs = '{}' then
        return;
    end if;
    perform turnlog.blank_spans(in_project, refs);
    update turnlog.ai_traces as t
       set erased_at = coalesce(t.erased_at, statement_timestamp())
     where t.project = in_project and t.session_id = any (ids)
       and t.trace_id = any (array(select distinct split_part(r, '/', 1) from unnest(refs) as r));
end
$$;
