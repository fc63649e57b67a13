-- Clears up a locked session from which calls were taken: participants whom only these named go, and so does the session
-- itself, if only spans made it and nothing is left of it. Nothing that anybody else said of the session goes or moves.
-- Returns the feedback on the session that came with its spans, [row ...], which goes to the session `target` with them.
-- `leaving`, `of_traces`: the participants and the traces of those calls. `is_used`: the batch adds to it.
create or replace function turnlog.leave_session(
    in_project text, of_session uuid, target uuid, leaving text[], of_traces text[], is_used boolean)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    no_interaction constant uuid := '00000000-0000-0000-0000-000000000000';
    stored turnlog.ai_sessions;
    of_spans boolean; -- feedback on the session came with spans: it doesn't say so itself
    is_rated boolean; -- somebody else gave feedback
    feedback jsonb;
begin
    select s.* into stored from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session;
    of_spans := exists (
        select from turnlog.ai_spans as p
         where p.project = in_project and p.trace_id = any (of_traces) and p.has_feedback);
    is_rated := exists (
        select from turnlog.ai_feedback as f
         where f.project = in_project and f.session_id = of_session and (f.interaction_id <> no_interaction or not of_spans));
    delete from turnlog.ai_session_participants as p
     where p.project = in_project and p.session_id = of_session and p.role is null and p.state is null
       and p.participant = any (leaving)
       and not exists (select from turnlog.ai_interactions as i
                        where i.project = in_project and i.session_id = of_session and i.participant = p.participant);
    perform turnlog.requeue_session(in_project, of_session);
    if is_used or is_rated
       or stored.id is null or not stored.implicit or stored.erased_at is not null or stored.claim is not null
       or stored.folder_id is not null or stored.title is not null or stored.edited is not null
       or stored.tags is not null or stored.status <> 'open' or stored.scheduled_on is not null
       or stored.started_at is not null or stored.ended_at is not null
       -- a trace's own session has the id of the trace: see turnlog.place_spans
       or stored.metadata is not null and stored.metadata <> jsonb_build_object('trace_id', coalesce(substr(stored.key, 7), ''))
       or exists (select from turnlog.ai_interactions as i where i.project = in_project and i.session_id = of_session)
       or exists (select from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = of_session)
    then
        -- a user whom only calls named that left, in a session that has nothing but calls of spans
        update turnlog.ai_sessions as s
           set user_id = null
         where s.project = in_project and s.id = of_session and s.implicit and s.claim is null and s.folder_id is null
           and s.edited is null and s.user_id = any (leaving) and not is_rated
           and not exists (
               select from turnlog.ai_interactions as i
                where i.project = in_project and i.session_id = of_session
                  and (i.participant = s.user_id
                       or not exists (select from turnlog.ai_spans as p
                                       where p.project = in_project and p.trace_id = i.trace_id and p.span_id = i.span_id
                                         and p.id = i.id)));
        update turnlog.ai_sessions as s
           set earliest_turn_at = (
                   select min(least(i.started_at, i.created_at)) from turnlog.ai_interactions as i
                    where i.project = in_project and i.session_id = of_session)
         where s.project = in_project and s.id = of_session and s.erased_at is null;
        return '[]';
    end if;
    with gone as (
        delete from turnlog.ai_feedback as f where f.project = in_project and f.session_id = of_session returning f.*
    )
    select coalesce(jsonb_agg(to_jsonb(g) - 'project'::text || jsonb_build_object('session_id', target)), '[]')
      into feedback from gone as g;
    delete from turnlog.ai_messages as m where m.project = in_project and m.session_id = of_session;
    delete from turnlog.ai_revisions as r where r.project = in_project and r.session_id = of_session;
    delete from turnlog.ai_search_queue as q where q.project = in_project and q.session_id = of_session;
    delete from turnlog.ai_search as x where x.project = in_project and x.session_id = of_session;
    delete from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session;
    return feedback;
end
$$;
