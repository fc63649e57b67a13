-- {project?} -> {keys: [...]}, the oldest first.
create or replace function turnlog.keys(request jsonb) returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object('keys', coalesce(jsonb_agg(
               turnlog.key_row(k) order by k.project, k.created_at, k.id), '[]'))
      from turnlog.ai_keys as k
     where request ->> 'project' is null or k.project = request ->> 'project'
$$;
