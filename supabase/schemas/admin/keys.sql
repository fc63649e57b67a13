-- Lists the keys of a project, or of all, oldest first. Takes {project?}. Returns {keys: [...]}.
create or replace function turnlog.keys(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
    return (
        select jsonb_build_object('keys', coalesce(jsonb_agg(
                   to_jsonb(k) - '{digest,token_secret}'::text[] order by k.project, k.created_at, k.id), '[]'))
          from turnlog.ai_keys as k
         where request ->> 'project' is null or k.project = request ->> 'project');
end
$$;
