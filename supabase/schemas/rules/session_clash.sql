-- The receipt of a session whose number or key belongs to a session with another id.
create or replace function turnlog.session_clash(in_project text, stated turnlog.ai_sessions) returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select coalesce(
            (select jsonb_build_object(
                        'receipt', 'conflict', 'constraint', 'ai_sessions_folder_number_key',
                        'columns', array['project', 'folder_id', 'session_number'],
                        'attempted', jsonb_build_object('project', in_project, 'folder_id', stated.folder_id,
                                                        'session_number', stated.session_number::text),
                        'held_by', s.id)
               from turnlog.ai_sessions as s
              where s.project = in_project and s.folder_id = stated.folder_id
                and s.session_number = stated.session_number and s.id <> stated.id),
            turnlog.key_clash(in_project, stated.key, stated.id)));
end
$$;
