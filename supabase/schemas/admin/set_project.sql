-- Sets for how many days a project's sessions, and their texts, are kept; null for the service's own setting. `expired`:
-- records that `turnlog expire` runs now. What isn't named stays as it is.
-- Takes {project, keep_days?, keep_text_days?, expired?}. Returns {project, keep_days, keep_text_days}.
create or replace function turnlog.set_project(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    stored turnlog.ai_projects;
begin
    perform turnlog.report_key(request); -- it inserts the project's row
    update turnlog.ai_projects as p
       set keep_days = case when request ? 'keep_days' then (request ->> 'keep_days')::integer else p.keep_days end,
           keep_text_days = case when request ? 'keep_text_days' then (request ->> 'keep_text_days')::integer
                                 else p.keep_text_days end,
           expired_at = case when request ? 'expired' then statement_timestamp() else p.expired_at end
     where p.project = request ->> 'project'
    returning p.* into stored;
    return jsonb_build_object('project', stored.project, 'keep_days', stored.keep_days,
                              'keep_text_days', stored.keep_text_days);
end
$$;
