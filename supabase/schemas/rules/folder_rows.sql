-- Returns folders as the API shows them, as a list in the order of `ids`, with the statistics of their sessions.
-- `opened` counts sessions that aren't locked or have interactions; `closed` counts those of them with that status.
create or replace function turnlog.folder_rows(of_project text, ids uuid[]) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some folders, never a whole table, whatever its statistics say
as $$
begin
    return (
        with used as (
            select s.folder_id, s.id, s.status, i.interactions, i.last_activity_at
              from turnlog.ai_sessions as s
              -- one lookup each: a join was planned as a scan of all for each
             cross join lateral (
                    select count(*) as interactions,
                           max(coalesce(c.completed_at, c.started_at, c.created_at)) as last_activity_at
                      from turnlog.ai_interactions as c
                     where c.project = of_project and c.session_id = s.id
                    offset 0) as i
             where s.project = of_project and s.folder_id = any (ids) and s.erased_at is null
        ), summed as (
            select u.folder_id, count(*) as sessions,
                   count(*) filter (where u.status <> 'locked' or u.interactions > 0) as opened,
                   count(*) filter (where u.status = 'closed') as closed,
                   coalesce(sum(u.interactions), 0) as interactions, max(u.last_activity_at) as last_activity_at
              from used as u
             group by u.folder_id
        )
        select coalesce(jsonb_agg(
            jsonb_build_object(
                'folder_id', f.id, 'key', f.key, 'name', f.name, 'user_id', f.user_id,
                'plan', case when f.total_weeks is not null then jsonb_build_object(
                    'sessions_per_week', f.sessions_per_week, 'total_weeks', f.total_weeks, 'starts_on', f.starts_on) end,
                'metadata', coalesce(f.metadata, '{}'), 'implicit', f.implicit, 'created_at', f.created_at,
                'statistics', jsonb_build_object(
                    'planned', coalesce(f.sessions_per_week * f.total_weeks, 0), 'sessions', coalesce(m.sessions, 0),
                    'opened', coalesce(m.opened, 0), 'closed', coalesce(m.closed, 0),
                    'interactions', coalesce(m.interactions, 0), 'last_activity_at', m.last_activity_at)
            ) order by wanted.n), '[]')
        from unnest(ids) with ordinality as wanted (id, n)
        join turnlog.ai_session_folders as f on f.project = of_project and f.id = wanted.id
        left join summed as m on m.folder_id = f.id);
end
$$;
