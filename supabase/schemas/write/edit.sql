-- Replaces fields that people edit; null empties a field. Edited fields are listed in ai_sessions.edited, and later
-- writes neither fill nor contradict them.
-- Takes {project, session_id, changes: {title?, tags?, status?, scheduled_on?, metadata?}}. Returns the session, a
-- tombstone or null.
create or replace function turnlog.edit(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    changes constant jsonb := request -> 'changes';
begin
    update turnlog.ai_sessions as s
       set (title, tags, status, scheduled_on, metadata) = (
               select m.title, m.tags, coalesce(m.status, 'open'), m.scheduled_on, m.metadata from jsonb_populate_record(s, changes) as m),
           edited = array(
               select f from unnest(s.edited) as f
               union
               select f from jsonb_object_keys(changes) as f where f in ('title', 'tags', 'status', 'scheduled_on', 'metadata'))
     where s.project = request ->> 'project' and s.id = (request ->> 'session_id')::uuid and s.erased_at is null;
    return turnlog.session(request);
end
$$;
