-- Returns what the values of an interaction's record are compared by: how far its status is, the length of its response,
-- and when it was said. A record that has nothing but facts of the finished answer speaks of a completed one. `ranks`: of
-- a stored record, see turnlog.interaction_rule; the length of a response that came with an earlier status is null.
create or replace function turnlog.record_rank(
    record jsonb, ranks jsonb, out status integer, out length integer, out said_at timestamptz)
language plpgsql immutable
set search_path = ''
set timezone = 'UTC'
as $$
declare
    response constant jsonb := nullif(record -> 'response', 'null');
begin
    status := case when response is null and nullif(record -> 'prompt', 'null') is null
                        and coalesce(record ->> 'status', record ->> 'error') is null
                   then 3
                   else turnlog.status_rank(record ->> 'status', record ->> 'error', response is not null) end;
    length := case when coalesce((ranks #>> '{response,0}')::integer, status) = status
                   then length(turnlog.as_messages(response)::text) end;
    said_at := coalesce(record ->> 'completed_at', record ->> 'started_at', record ->> 'created_at');
end
$$;
