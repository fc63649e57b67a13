-- Queues the next `limit` interactions of all projects for the index, in the order of their ids, and removes the index
-- rows of their sessions, also of sessions that no longer exist. A session that is only queued in part is marked as
-- matching anything. The interactions are read last, so that none written or indexed meanwhile is missed. Takes {limit,
-- after?: {project, session_id, id}}. Returns {queued, after}; `after` is null at the end.
create or replace function turnlog.reindex(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set plan_cache_mode = 'force_custom_plan' -- a plan for any place to go on from would begin at the first one
set enable_seqscan = off
set lock_timeout = '3s'
as $$
declare
    page_size constant integer := (request ->> 'limit')::integer;
    partial constant uuid := '00000000-0000-0000-0000-000000000000'; -- this part marks a session that is only queued in part
    after_project constant text := request #>> '{after,project}';
    after_session constant uuid := request #>> '{after,session_id}';
    after_id constant uuid := request #>> '{after,id}';
    last_project text;
    last_session uuid;
    last_id uuid;
    queued integer;
    goes_on boolean;
begin
    select page.project, page.session_id, page.id
      into last_project, last_session, last_id
      from (select i.project, i.session_id, i.id
              from turnlog.ai_interactions as i
             where (after_id is null or (i.project, i.session_id, i.id) > (after_project, after_session, after_id))
                   and i.id <> '00000000-0000-0000-0000-000000000000'
             order by i.project, i.session_id, i.id
            offset page_size - 1
             limit 1) as page;
    goes_on := last_id is not null;

    delete from turnlog.ai_search_queue as q
     where (after_id is null or (q.project, q.session_id) > (after_project, after_session))
           and (not goes_on or (q.project, q.session_id) <= (last_project, last_session));
    delete from turnlog.ai_search as s
     where s.project = after_project and s.session_id = after_session and s.part = partial;
    delete from turnlog.ai_search as s
     where (after_id is null or (s.project, s.session_id) > (after_project, after_session))
           and (not goes_on or (s.project, s.session_id) <= (last_project, last_session));
    with inserted as (
        insert into turnlog.ai_search_queue (project, session_id, ids)
        select i.project, i.session_id, array_agg(i.id order by i.id)
          from turnlog.ai_interactions as i
         where (after_id is null or (i.project, i.session_id, i.id) > (after_project, after_session, after_id))
               and (not goes_on or (i.project, i.session_id, i.id) <= (last_project, last_session, last_id))
               and i.id <> '00000000-0000-0000-0000-000000000000'
         group by i.project, i.session_id
        returning ids
    )
    select coalesce(sum(cardinality(n.ids)), 0) into queued from inserted as n;
    if goes_on then
        insert into turnlog.ai_search (project, session_id, part, grams)
        values (last_project, last_session, partial, '{-1}')
            on conflict (project, session_id, part) do nothing;
    end if;
    return jsonb_build_object('queued', queued, 'after', case when goes_on then jsonb_build_object(
        'project', last_project, 'session_id', last_session, 'id', last_id) end);
end
$$;
