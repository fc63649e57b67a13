-- The same for what was changed, if a text was. Where one was replaced or erased, all that is indexed of the session goes,
-- and what it now says is indexed anew.
create or replace function turnlog.requeue() returns trigger
language plpgsql volatile
set search_path = ''
set enable_seqscan = off
set enable_nestloop = off -- the plan is made once, for as many rows as there were then
as $$
declare
    changed turnlog.ai_search_queue[];
    replaced turnlog.ai_search_queue[];
    cleared record;
begin
    select array_agg(row (w.project, w.session_id, w.id)::turnlog.ai_search_queue) filter (
               where w.id <> '00000000-0000-0000-0000-000000000000' -- or null: mending such a row comes here again
                 and (o.id is null or w.prompt is distinct from o.prompt or w.response is distinct from o.response)),
           array_agg(row (o.project, o.session_id, o.id)::turnlog.ai_search_queue) filter (
               where o.prompt is not null and w.prompt is distinct from o.prompt
                  or o.response is not null and w.response is distinct from o.response)
      into changed, replaced
      from written as w
      full join was as o on o.project = w.project and o.session_id = w.session_id and o.id = w.id;
    if changed is not null then
        insert into turnlog.ai_search_queue (project, session_id, id)
        select c.project, c.session_id, c.id from unnest(changed) as c
            on conflict (project, session_id, id) do update set id = excluded.id;
    end if;
    if replaced is not null then
        for cleared in select distinct r.project, r.session_id from unnest(replaced) as r loop
            perform turnlog.queue_session(cleared.project, cleared.session_id);
        end loop;
    end if;
    return null;
end
$$;
