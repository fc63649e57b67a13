-- Records that somebody read conversations. A repeated call adds nothing.
-- Takes {project, id, kind, key_id, reader, call, user_id, session_ids}. Returns {}.
create or replace function turnlog.add_read(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set lock_timeout = '3s'
as $$
begin
    insert into turnlog.ai_reads (project, id, at, kind, key_id, reader, call, user_id, session_ids)
    values (request ->> 'project', (request ->> 'id')::uuid, statement_timestamp(), request ->> 'kind',
            (request ->> 'key_id')::uuid, request ->> 'reader', request ->> 'call', request ->> 'user_id',
            array(select s::uuid from jsonb_array_elements_text(request -> 'session_ids') as s))
        on conflict do nothing;
    return '{}';
end
$$;
