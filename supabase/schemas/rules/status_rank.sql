-- Returns how far an interaction is by its status (pending 0, abandoned 1, failed 2, completed 3), which is derived
-- from its error and response where nobody sent one.
create or replace function turnlog.status_rank(status text, error text, is_answered boolean) returns integer
language sql immutable parallel safe
set search_path = ''
as $$
    select case coalesce(status, case when error <> '' then 'failed' when is_answered then 'completed' end)
        when 'completed' then 3 when 'failed' then 2 when 'abandoned' then 1 else 0 end
$$;
