-- Returns which of some sessions exist, erased ones too: {project, session_ids} returns {session_ids}.
create or replace function turnlog.known_sessions(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- some sessions, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    ids constant uuid[] := array(select i::uuid from jsonb_array_elements_text(request -> 'session_ids') as i);
begin
    return jsonb_build_object('session_ids', (
        select coalesce(jsonb_agg(s.id), '[]')
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids)));
end
$$;
