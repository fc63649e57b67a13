-- What is kept of an erased user's name: nobody can tell which it was, or try names, without the project's secret.
create or replace function turnlog.user_hash(in_project text, of_user text) returns bytea
language sql stable
set search_path = ''
as $$
    select sha256(p.secret || convert_to('user' || chr(10) || of_user, 'UTF8'))
      from turnlog.ai_projects as p
     where p.project = in_project
$$;
