-- What is kept of an erased user's name: nobody can tell which it was, or try names, without the project's secret.
create or replace function turnlog.user_hash(secret bytea, of_user text) returns bytea
language sql immutable
set search_path = ''
as $$
    select sha256(secret || convert_to('user' || chr(10) || of_user, 'UTF8'))
$$;
