-- Lists the projects with records, keys or settings. Takes {project?}. Returns {projects: [{project, keep_days,
-- keep_text_days, expired_at, now}]}.
create or replace function turnlog.projects(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- a look for each project, never a whole table
as $$
declare
    now constant timestamptz := statement_timestamp();
    previous text;
    named text[] := '{}';
begin
    loop
        previous := (select s.project from turnlog.ai_sessions as s
                 where previous is null or s.project > previous order by s.project limit 1);
        exit when previous is null;
        named := named || previous;
    end loop;
    named := named || array(select p.project from turnlog.ai_projects as p)
                   || array(select k.project from turnlog.ai_keys as k);
    return (
        select jsonb_build_object('projects', coalesce(jsonb_agg(
                   jsonb_build_object('project', e.project, 'keep_days', p.keep_days,
                                      'keep_text_days', p.keep_text_days, 'expired_at', p.expired_at,
                                      'now', now)
                   order by e.project), '[]'))
          from (select distinct n.project from unnest(named) as n (project)) as e
          left join turnlog.ai_projects as p on p.project = e.project
         where request ->> 'project' is null or e.project = request ->> 'project');
end
$$;
