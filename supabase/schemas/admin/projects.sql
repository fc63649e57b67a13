-- {project?} -> {projects: [{project, keep_days, now}]}: those of which something is stored, or said here.
create or replace function turnlog.projects(request jsonb) returns jsonb
language sql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- a look for each project, never a whole table
as $$
    with recursive named as (
        (select s.project from turnlog.ai_sessions as s order by s.project limit 1)
        union all
        select (select s.project from turnlog.ai_sessions as s where s.project > n.project order by s.project limit 1)
          from named as n
         where n.project is not null
    ), every as (
        select n.project from named as n where n.project is not null
        union
        select p.project from turnlog.ai_projects as p
        union
        select k.project from turnlog.ai_keys as k
    )
    select jsonb_build_object('projects', coalesce(jsonb_agg(
               jsonb_build_object('project', e.project, 'keep_days', p.keep_days, 'now', statement_timestamp())
               order by e.project), '[]'))
      from every as e
      left join turnlog.ai_projects as p on p.project = e.project
     where request ->> 'project' is null or e.project = request ->> 'project'
$$;
