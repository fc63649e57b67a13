-- Returns the key that signs a project's reports, created at its first use. Takes {project}. Returns {key: hex}.
create or replace function turnlog.report_key(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
begin
    insert into turnlog.ai_projects (project, secret)
    values (request ->> 'project', sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')))
        on conflict do nothing;
    return (
        select jsonb_build_object('key', encode(sha256(p.secret || convert_to('report', 'UTF8')), 'hex'))
          from turnlog.ai_projects as p
         where p.project = request ->> 'project');
end
$$;
