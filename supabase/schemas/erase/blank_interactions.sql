-- Erases what some interactions say, and the feedback on them, below sessions that the caller has locked. Each stays as
-- a tombstone with its id, its place, times and numbers, which belong to the conversation: prompt and response become
-- '[erased]', everything else in it goes, and nothing can be added to it again. Participants whom only these
-- interactions named go, too. Whatever else comes to hold words of an interaction is erased here.
-- `session_ids` and `ids` are parallel lists. Returns how many interactions, participants and feedback were erased.
create or replace function turnlog.blank_interactions(
    in_project text, session_ids uuid[], ids uuid[],
    out interactions bigint, out participants bigint, out feedback bigint)
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some interactions' rows, never a whole table, whatever its statistics say
as $$
declare
    named_sessions uuid[];
    named text[];
begin
    select array_agg(d.session_id), array_agg(d.participant)
      into named_sessions, named
      from (select distinct i.session_id, i.participant
              from unnest(session_ids, ids) as wanted (session_id, id)
             cross join lateral (
                   select d.session_id, d.participant
                     from turnlog.ai_interactions as d
                    where d.project = in_project and d.session_id = wanted.session_id and d.id = wanted.id
                   offset 0) as i
             where i.participant is not null) as d;
    perform turnlog.blank_messages(in_project, w.session_id, array_agg(w.id))
       from unnest(session_ids, ids) as w (session_id, id) group by w.session_id;
    perform turnlog.blank_spans(in_project, array(
        select m.ref
          from unnest(session_ids, ids) as wanted (session_id, id)
         cross join lateral (
               select d.trace_id, d.span_id from turnlog.ai_interactions as d
                where d.project = in_project and d.session_id = wanted.session_id and d.id = wanted.id
                  and d.span_id is not null
               offset 0) as i
         cross join lateral (
               select s.call_spans from turnlog.ai_spans as s
                where s.project = in_project and s.trace_id = i.trace_id and s.span_id = i.span_id
               offset 0) as s
         cross join lateral unnest(coalesce(s.call_spans, array[i.trace_id || '/' || i.span_id])) as m (ref)));
    update turnlog.ai_interactions as i
       set prompt = '"[erased]"', response = '"[erased]"', context = null, instructions = null, context_end = null,
           prompt_end = null, response_end = null, error = null, finish_reason = null, tags = null,
           metadata = null, key = null, participant = null, status = 'completed', ranks = null,
           erased_at = statement_timestamp()
     where i.project = in_project collate "C" and i.erased_at is null and i.ctid = any (array(
           select d.ctid
             from unnest(session_ids, ids) as wanted (session_id, id)
            cross join lateral (
                  select d.ctid from turnlog.ai_interactions as d
                   where d.project = in_project and d.session_id = wanted.session_id and d.id = wanted.id
                  offset 0) as d));
    get diagnostics interactions = row_count;
    delete from turnlog.ai_revisions as r
     where r.project = in_project collate "C" and r.ctid = any (array(
           select d.ctid
             from unnest(session_ids, ids) as wanted (session_id, id)
            cross join lateral (
                  select d.ctid from turnlog.ai_revisions as d
                   where d.project = in_project and d.session_id = wanted.session_id and d.interaction_id = wanted.id
                  offset 0) as d));
    delete from turnlog.ai_feedback as f
     where f.project = in_project collate "C" and f.ctid = any (array(
           select d.ctid
             from unnest(session_ids, ids) as wanted (session_id, id)
            cross join lateral (
                  select d.ctid from turnlog.ai_feedback as d
                   where d.project = in_project and d.session_id = wanted.session_id and d.interaction_id = wanted.id
                  offset 0) as d));
    get diagnostics feedback = row_count;
    delete from turnlog.ai_session_participants as p
     where p.project = in_project collate "C" and p.ctid = any (array(
           select d.ctid
             from unnest(named_sessions, named) as was (session_id, participant)
            cross join lateral (
                  select d.ctid from turnlog.ai_session_participants as d
                   where d.project = in_project and d.session_id = was.session_id and d.participant = was.participant
                     and d.role is null and d.state is null
                     and not exists (select from turnlog.ai_interactions as i
                                      where i.project = in_project and i.session_id = was.session_id
                                        and i.participant = was.participant)
                  offset 0) as d));
    get diagnostics participants = row_count;
    perform turnlog.requeue_session(in_project, t.id) from (select distinct u.id from unnest(session_ids) as u (id)) as t;
end
$$;
