-- {limit, after?: {project, session_id, id}} -> {queued, after}: queues the next `limit` interactions of all projects, in
-- the order of their addresses, and takes what was indexed of their sessions away, also of such that aren't there any more.
-- `after` is null at the end. While a session is only queued in part, the index says that it may hold anything.
-- What is queued is looked up last, so that nothing is missed that was written, or even indexed, meanwhile.
create or replace function turnlog.reindex(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set plan_cache_mode = 'force_custom_plan' -- a plan for any place to go on from would begin at the first one
set enable_seqscan = off
set lock_timeout = '3s'
as $$
declare
    page_size constant integer := (request ->> 'limit')::integer;
    in_part constant uuid := '00000000-0000-0000-0000-000000000000'; -- the part that says so
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
     where s.project = after_project and s.session_id = after_session and s.part = in_part;
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
        values (last_project, last_session, in_part, '{-1}')
            on conflict (project, session_id, part) do nothing;
    end if;
    return jsonb_build_object('queued', queued, 'after', case when goes_on then jsonb_build_object(
        'project', last_project, 'session_id', last_session, 'id', last_id) end);
end
$$;
