-- Clears up a locked session from which calls were taken: participants that none of its interactions names any more go, and
-- so does the session itself, if nobody opened it and nothing is left of it. Returns the feedback on the session, [row ...],
-- which goes to the session `target` then. `leaving`: the participants of those calls. `is_used`: the batch adds to it.
create or replace function turnlog.leave_session(
    in_project text, of_session uuid, target uuid, leaving text[], is_used boolean)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    feedback jsonb;
begin
    delete from turnlog.ai_session_participants as p
     where p.project = in_project and p.session_id = of_session and p.role is null and p.state is null
       and not exists (select from turnlog.ai_interactions as i
                        where i.project = in_project and i.session_id = of_session and i.participant = p.participant);
    perform turnlog.requeue_session(in_project, of_session);
    if is_used
       or exists (select from turnlog.ai_interactions as i where i.project = in_project and i.session_id = of_session)
       or exists (select from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = of_session)
       or not exists (select from turnlog.ai_sessions as s
                       where s.project = in_project and s.id = of_session and s.implicit and s.erased_at is null
                         and s.folder_id is null and s.title is null and s.edited is null and s.tags is null) then
        -- a user whom only calls named that left, in a session that has nothing but calls of spans
        update turnlog.ai_sessions as s
           set user_id = null
         where s.project = in_project and s.id = of_session and s.implicit and s.claim is null and s.folder_id is null
           and s.edited is null and s.user_id = any (leaving)
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
