-- Returns a session, a tombstone (erased_at is set) or null. Takes {project, session_id}.
create or replace function turnlog.session(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select turnlog.session_rows(request ->> 'project', array[(request ->> 'session_id')::uuid]) -> 0);
end
$$;
