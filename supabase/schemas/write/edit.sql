-- Replaces fields that people edit; null empties a field. Edited fields are listed in ai_sessions.edited, and later
-- writes neither fill nor contradict them. Another `user_id` hands the session over: it is that user's own from then on;
-- a guest's name stands for the user that the guest was merged into.
-- Takes {project, session_id, changes: {user_id?, title?, tags?, status?, scheduled_on?, metadata?}}. Returns the
-- session, a tombstone or null.
create or replace function turnlog.edit(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    in_project constant text := request ->> 'project';
    changes jsonb := request -> 'changes';
begin
    if changes ->> 'user_id' is not null then
        perform turnlog.lock_merges(in_project);
        changes := changes || coalesce(
            (select jsonb_build_object('user_id', m.into_user) from turnlog.ai_user_merges as m
              where m.project = in_project and m.guest = changes ->> 'user_id'), '{}');
    end if;
    update turnlog.ai_sessions as s
       set (user_id, title, tags, status, scheduled_on, metadata) = (
               select m.user_id, m.title, m.tags, coalesce(m.status, 'open'), m.scheduled_on, m.metadata
                 from jsonb_populate_record(s, changes) as m),
           edited = array(
               select f from unnest(s.edited) as f
               union
               select f from jsonb_object_keys(changes) as f where f in ('user_id', 'title', 'tags', 'status', 'scheduled_on', 'metadata'))
     where s.project = in_project and s.id = (request ->> 'session_id')::uuid and s.erased_at is null;
    return turnlog.session(request);
end
$$;
