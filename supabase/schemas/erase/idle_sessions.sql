-- Returns those of some sessions that are idle since `before`: nothing of them was received since, by the service's
-- clock, and they aren't scheduled for later. `in_use`: sessions and folders with spooled records. Such records may
-- name a session by its number, so all sessions of such a folder count as in use.
create or replace function turnlog.idle_sessions(
    in_project text, ids uuid[], before timestamptz, in_use uuid[]) returns uuid[]
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
           and not exists (select from unnest(in_use) as w (id) where w.id = s.id)
           and not exists (select from unnest(in_use) as w (id) where w.id = s.folder_id)
           and not exists (select from turnlog.ai_interactions as i
                            where i.project = in_project and i.session_id = s.id and i.created_at >= before)
           and not exists (select from turnlog.ai_session_participants as p
                            where p.project = in_project and p.session_id = s.id and p.created_at >= before)
           and not exists (select from turnlog.ai_feedback as f
                            where f.project = in_project and f.session_id = s.id and f.created_at >= before));
end
$$;
