-- Returns sessions as the API shows them, as a list in the order of `ids`. Counts are derived here and never stored.
create or replace function turnlog.session_rows(of_project text, ids uuid[]) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
    return (
        select coalesce(jsonb_agg(
            jsonb_build_object(
                'session_id', s.id, 'key', s.key, 'user_id', s.user_id, 'title', s.title,
                'folder_id', s.folder_id, 'session_number', s.session_number, 'scheduled_on', s.scheduled_on,
                'status', s.status, 'implicit', s.implicit,
                'tags', coalesce(to_jsonb(s.tags), '[]'), 'metadata', coalesce(s.metadata, '{}'),
                'started_at', s.started_at, 'earliest_turn_at', s.earliest_turn_at, 'ended_at', s.ended_at,
                'created_at', s.created_at, 'erased_at', s.erased_at,
                'text_expired_at', s.text_expired_at,
                'owner', case when 'user_id' = any (s.edited) then coalesce('user:' || s.user_id, s.claim)
                              else coalesce(s.claim, 'user:' || s.user_id) end,
                'interaction_count', coalesce(i.interaction_count, 0), 'failed_count', coalesce(i.failed_count, 0),
                'last_activity_at', i.last_activity_at
            ) order by wanted.n), '[]')
        from unnest(ids) with ordinality as wanted (id, n)
        join turnlog.ai_sessions as s on s.project = of_project and s.id = wanted.id
        left join (
            select c.session_id, count(*) as interaction_count,
                   count(*) filter (where c.status = 'failed' or c.status is null and c.error <> '') as failed_count,
                   max(coalesce(c.completed_at, c.started_at, c.created_at)) as last_activity_at
              from turnlog.ai_interactions as c
             where c.project = of_project and c.session_id = any (ids)
             group by c.session_id
        ) as i on i.session_id = s.id);
end
$$;
