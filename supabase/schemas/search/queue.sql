-- What is written is queued, to be indexed later: that costs a write a twentieth, indexing at once would cost half.
-- A row of the queue that is being indexed is waited for: what is said here must not be taken for indexed already.
create or replace function turnlog.queue() returns trigger
language plpgsql volatile
set search_path = ''
as $$
begin
    insert into turnlog.ai_search_queue (project, session_id, id)
    select distinct w.project, w.session_id, w.id from written as w
     where w.id <> '00000000-0000-0000-0000-000000000000' -- or null: mending such a row comes here again
        on conflict (project, session_id, id) do update set id = excluded.id;
    return null;
end
$$;
