-- Waits for a merge of users that begins now, and keeps others from beginning until the transaction ends. So a write
-- that read turnlog.ai_user_merges commits before the merge looks for what the guest has. `to_merge`: begin one, which
-- waits for all writes of the project. It comes before any lock of a row, so it can't deadlock.
create or replace function turnlog.lock_merges(in_project text, to_merge boolean default false) returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    place constant bigint := hashtextextended('turnlog.ai_user_merges' || chr(10) || in_project, 0);
begin
    if to_merge then
        perform pg_advisory_xact_lock(place);
    else
        perform pg_advisory_xact_lock_shared(place);
    end if;
end
$$;
