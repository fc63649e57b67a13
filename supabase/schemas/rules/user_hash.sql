-- Hashes the name of an erased user, which is all that stays of it. Without the project's secret nobody can guess it.
create or replace function turnlog.user_hash(secret bytea, of_user text) returns bytea
language sql immutable
set search_path = ''
as $$
    select sha256(secret || convert_to('user' || chr(10) || of_user, 'UTF8'))
$$;
