-- Writes a batch with feedback: the rest of it as turnlog.write_v2 does, or, where it is `late`, as
-- turnlog.write_late does, and then {feedback: [row ...]}, all in one transaction. The sessions of the feedback must be
-- among the batch's, so that they are ensured and locked; a row's `claim` says whose its session must be.
create or replace function turnlog.write_v3(batch jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_generic_plan'
set enable_seqscan = off -- a plan made while the tables were empty would still scan them when they are full
set lock_timeout = '3s'
as $$
declare
    late constant boolean := coalesce((batch ->> 'late')::boolean, false);
    others constant jsonb := batch - '{feedback,late}'::text[];
    receipts jsonb;
begin
    if late then
        receipts := turnlog.write_late(others);
    else
        receipts := turnlog.write_v2(others);
    end if;
    return receipts || jsonb_build_object(
        'feedback', turnlog.write_feedback(batch ->> 'project', coalesce(batch -> 'feedback', '[]'), late));
end
$$;
