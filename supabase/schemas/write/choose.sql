-- Makes an interaction the chosen one of its alternatives, so that the current branch leads through it: see
-- turnlog.branches. Only its last choice is kept, so what followed because of an earlier one says so from now on, by its
-- reply_to. Takes {project, session_id, interaction_id, at: the time of the choice}. Returns {session: or null,
-- chosen: whether there is such an interaction that isn't erased}.
create or replace function turnlog.choose(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    found_session turnlog.ai_sessions;
    latest timestamptz;
    earlier timestamptz;
begin
    select s.* into found_session
      from turnlog.ai_sessions as s
     where s.project = in_project and s.id = of_session
       for no key update;
    if found_session.erased_at is null then
        -- later than all that was said or chosen, also by clocks that are ahead of this one
        select max(greatest(i.chosen_at, least(coalesce(i.started_at, i.created_at), i.created_at))) into latest
          from turnlog.ai_interactions as i
         where i.project = in_project and i.session_id = of_session;
        select i.chosen_at into earlier
          from turnlog.ai_interactions as i
         where i.project = in_project and i.session_id = of_session and i.id = (request ->> 'interaction_id')::uuid
           and i.erased_at is null;
        if earlier is not null then
            update turnlog.ai_interactions as i
               set reply_to = t.follows
              from (select b.id, b.at, b.follows, lag(b.id) over (order by b.turn, b.at, b.arrived, b.id) as before
                      from turnlog.branches(in_project, of_session, null) as b) as t
             where i.project = in_project and i.session_id = of_session and i.id = t.id
               and i.reply_to is null and i.alternative_to is null and t.at >= earlier and t.follows <> t.before;
        end if;
        update turnlog.ai_interactions as i
           set chosen_at = greatest((request ->> 'at')::timestamptz, latest + interval '1 microsecond')
         where i.project = in_project and i.session_id = of_session and i.id = (request ->> 'interaction_id')::uuid
           and i.erased_at is null;
    end if;
    return jsonb_build_object(
        'session', case when found_session.id is not null then jsonb_build_object(
            'session_id', found_session.id, 'key', found_session.key, 'erased_at', found_session.erased_at) end,
        'chosen', found);
end
$$;
