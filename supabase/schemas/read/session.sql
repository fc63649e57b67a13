-- {project, session_id} -> the session, a tombstone (erased_at set) or null.
create or replace function turnlog.session(request jsonb) returns jsonb
language sql stable
set search_path = ''
as $$
    select turnlog.session_rows(request ->> 'project', array[(request ->> 'session_id')::uuid]) -> 0
$$;
