-- Locks some sessions in the order of all writers, and returns `ids`, those that are idle since `before` (see
-- turnlog.idle_sessions): nothing can arrive for them until the transaction ends. Sessions that another transaction has
-- locked are skipped and returned in `locked_ids`; `wait` waits for them.
create or replace function turnlog.lock_idle_sessions(
    in_project text, wanted uuid[], before timestamptz, in_use uuid[], wait boolean, out ids uuid[], out locked_ids uuid[])
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some sessions, never a whole table, whatever its statistics say
as $$
begin
    ids := wanted;
    if wait then
        perform from (
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.id = any (wanted)
             order by s.id
               for update) as locked;
    else
        ids := array(
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.id = any (wanted)
             order by s.id
               for update skip locked);
    end if;
    locked_ids := array(select w.id from unnest(wanted) as w (id) where w.id <> all (ids));
    ids := turnlog.idle_sessions(in_project, ids, before, in_use); -- checked again under the lock
end
$$;
