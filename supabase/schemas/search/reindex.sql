-- {limit, after?: {project, session_id, id}} -> {queued, after}: queues the next `limit` interactions of all projects, in
-- the order of their addresses, and takes what was indexed of their sessions away, also of such that aren't there any more.
-- `after` is null at the end. While a session is only queued in part, the index says that it may hold anything.
create or replace function turnlog.reindex(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off
set lock_timeout = '3s'
as $$
declare
    page_size constant integer := (request ->> 'limit')::integer;
    in_part constant uuid := '00000000-0000-0000-0000-000000000000'; -- the part that says so
    after_project constant text := request #>> '{after,project}';
    after_session constant uuid := request #>> '{after,session_id}';
    after_id constant uuid := request #>> '{after,id}';
    projects text[];
    sessions uuid[];
    ids uuid[];
    last_project text;
    last_session uuid;
    goes_on boolean;
begin
    select array_agg(page.project), array_agg(page.session_id), coalesce(array_agg(page.id), '{}')
      into projects, sessions, ids
      from (select i.project, i.session_id, i.id
              from turnlog.ai_interactions as i
             where (after_id is null or (i.project, i.session_id, i.id) > (after_project, after_session, after_id))
                   and i.id <> '00000000-0000-0000-0000-000000000000'
             order by i.project, i.session_id, i.id
             limit page_size) as page;
    goes_on := cardinality(ids) = page_size;
    last_project := projects[cardinality(ids)];
    last_session := sessions[cardinality(ids)];

    delete from turnlog.ai_search_queue as q
     where (after_id is null or (q.project, q.session_id) > (after_project, after_session))
           and (not goes_on or (q.project, q.session_id) <= (last_project, last_session));
    insert into turnlog.ai_search_queue (project, session_id, ids)
    select p.project, p.session_id, array_agg(p.id)
      from unnest(projects, sessions, ids) as p (project, session_id, id)
     group by p.project, p.session_id;
    delete from turnlog.ai_search as s
     where s.project = after_project and s.session_id = after_session and s.part = in_part;
    delete from turnlog.ai_search as s
     where (after_id is null or (s.project, s.session_id) > (after_project, after_session))
           and (not goes_on or (s.project, s.session_id) <= (last_project, last_session));
    if goes_on then
        insert into turnlog.ai_search (project, session_id, part, grams)
        values (last_project, last_session, in_part, '{-1}')
            on conflict (project, session_id, part) do nothing;
    end if;
    return jsonb_build_object('queued', cardinality(ids), 'after', case when goes_on then jsonb_build_object(
        'project', last_project, 'session_id', last_session, 'id', ids[page_size]) end);
end
$$;
