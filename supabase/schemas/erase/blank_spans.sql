-- Erases what spans say, TRACE/SPAN each. They stay as tombstones with their place in the trace, so that what comes late of
-- them, or of spans below them, is known to be of an erased session, and with hashes by which turnlog.join_calls recognises
-- another span of an erased call.
create or replace function turnlog.blank_spans(in_project text, refs text[]) returns void
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some rows, never a whole table, whatever its statistics say
as $$
begin
    update turnlog.ai_spans as s
       set name = null, scope = null, session_key = null, user_id = null, participant = null, response_id = null,
           model = null, fields = null, event_fields = null, erased_at = coalesce(s.erased_at, statement_timestamp()),
           response_hash = coalesce(s.response_hash, turnlog.twin_hash(in_project, s.response_id)),
           scope_hash = coalesce(s.scope_hash, turnlog.twin_hash(in_project, s.scope))
     where s.project = in_project collate "C" and s.ctid = any (array(
           select d.ctid
             from unnest(refs) as r (ref)
            cross join lateral (
                  select d.ctid from turnlog.ai_spans as d
                   where d.project = in_project and d.trace_id = split_part(r.ref, '/', 1)
                     and d.span_id = split_part(r.ref, '/', 2)
                  offset 0) as d));
end
$$;
