-- Of some sessions those of which nothing has arrived since a time, and that aren't scheduled for later. What counts is
-- the service's own clock, not the times that callers state. `waiting`: sessions and folders of which something is on its
-- way: it may name a session by its number, so all of such a folder are in use.
create or replace function turnlog.idle(
    in_project text, ids uuid[], before timestamptz, waiting uuid[]) returns uuid[]
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
    return (
        select coalesce(array_agg(s.id order by s.id), '{}')
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids) and s.erased_at is null and s.created_at < before
           and coalesce(s.scheduled_on < before::date, true)
           and not exists (select from unnest(waiting) as w (id) where w.id = s.id)
           and not exists (select from unnest(waiting) as w (id) where w.id = s.folder_id)
           and not exists (select from turnlog.ai_interactions as i
                            where i.project = in_project and i.session_id = s.id and i.created_at >= before)
           and not exists (select from turnlog.ai_session_participants as p
                            where p.project = in_project and p.session_id = s.id and p.created_at >= before)
           and not exists (select from turnlog.ai_feedback as f
                            where f.project = in_project and f.session_id = s.id and f.created_at >= before));
end
$$;
