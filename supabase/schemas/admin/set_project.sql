-- {project, keep_days?} -> {project, keep_days}: says how long a project is kept; null: as the service's own setting says.
create or replace function turnlog.set_project(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
begin
    perform turnlog.report_key(request); -- which makes the row
    update turnlog.ai_projects as p
       set keep_days = (request ->> 'keep_days')::integer
     where p.project = request ->> 'project';
    return jsonb_build_object('project', request -> 'project', 'keep_days', request -> 'keep_days');
end
$$;
