-- Returns a hash of what an erased span said, by which another span of its call is recognised.
create or replace function turnlog.twin_hash(in_project text, said text) returns bytea
language sql immutable parallel safe
set search_path = ''
as $$
    select substr(sha256(convert_to(in_project || '/' || said, 'UTF8')), 1, 16)
$$;
