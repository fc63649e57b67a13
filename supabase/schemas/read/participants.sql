-- Lists a session's participants in order of arrival. Takes {project, session_id}. Returns {session: or null,
-- participants}.
create or replace function turnlog.participants(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
    return (
        select jsonb_build_object(
            'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                          from turnlog.ai_sessions as s
                         where s.project = request ->> 'project' and s.id = (request ->> 'session_id')::uuid),
            'participants', (
                select coalesce(jsonb_agg(jsonb_build_object(
                           'participant', p.participant, 'role', p.role, 'state', p.state,
                           'created_at', p.created_at, 'spooled', false) order by p.created_at, p.participant), '[]')
                  from turnlog.ai_session_participants as p
                 where p.project = request ->> 'project' and p.session_id = (request ->> 'session_id')::uuid)));
end
$$;
