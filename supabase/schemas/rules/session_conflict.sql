-- Returns the conflict receipt of a session whose number in its folder, or whose key, another session holds.
create or replace function turnlog.session_conflict(in_project text, incoming turnlog.ai_sessions) returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select coalesce(
            (select jsonb_build_object(
                        'receipt', 'conflict', 'constraint', 'ai_sessions_folder_number_key',
                        'columns', array['project', 'folder_id', 'session_number'],
                        'attempted', jsonb_build_object('project', in_project, 'folder_id', incoming.folder_id,
                                                        'session_number', incoming.session_number::text),
                        'held_by', s.id)
               from turnlog.ai_sessions as s
              where s.project = in_project and s.folder_id = incoming.folder_id
                and s.session_number = incoming.session_number and s.id <> incoming.id),
            turnlog.key_conflict(in_project, incoming.key, incoming.id)));
end
$$;
