-- Sets for how many days a project is kept; null for the service's own setting.
-- Takes {project, keep_days?}. Returns {project, keep_days}.
create or replace function turnlog.set_project(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
begin
    perform turnlog.report_key(request); -- it inserts the project's row
    update turnlog.ai_projects as p
       set keep_days = (request ->> 'keep_days')::integer
     where p.project = request ->> 'project';
    return jsonb_build_object('project', request -> 'project', 'keep_days', request -> 'keep_days');
end
$$;
