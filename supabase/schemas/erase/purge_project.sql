-- {project, limit} -> {sessions, interactions, left}: takes up to `limit` interactions of a self-test's project away
-- for good, and after the last of them up to `limit` sessions, with no tombstone; `left` counts the rows that are there
-- afterwards. Refuses any other project: what people log is erased by turnlog.erase only.
create or replace function turnlog.purge_project(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- a self-test's rows were never analysed: a plan by statistics would read everyone's
as $$
declare
    in_project constant text := coalesce(request ->> 'project', '');
    most constant integer := request ->> 'limit';
    gone_interactions bigint;
    gone_sessions bigint := 0;
begin
    if in_project !~ '^selftest-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        raise exception using errcode = '22023', column = 'project',
            message = format('only the project of a self-test can be forgotten, not %L', in_project);
    end if;

    -- by address, found first: joined, a plan without statistics compared each row with each
    delete from turnlog.ai_interactions as i
     where i.project = in_project collate "C" and i.ctid = any (array(
           select d.ctid from turnlog.ai_interactions as d where d.project = in_project limit most));
    get diagnostics gone_interactions = row_count;

    if gone_interactions < most then
        delete from turnlog.ai_search_queue as q where q.project = in_project;
        delete from turnlog.ai_search as s where s.project = in_project;
        delete from turnlog.ai_feedback as f where f.project = in_project;
        delete from turnlog.ai_session_participants as p where p.project = in_project;
        delete from turnlog.ai_sessions as s
         where s.project = in_project collate "C" and s.ctid = any (array(
               select d.ctid from turnlog.ai_sessions as d where d.project = in_project limit most));
        get diagnostics gone_sessions = row_count;
        delete from turnlog.ai_session_folders as f
         where f.project = in_project and not exists (select from turnlog.ai_sessions as s where s.project = in_project);
        delete from turnlog.ai_erased_users as e where e.project = in_project;
        delete from turnlog.ai_projects as p where p.project = in_project;
    end if;

    return jsonb_build_object(
        'interactions', gone_interactions, 'sessions', gone_sessions,
        'left', (select count(*) from turnlog.ai_interactions as i where i.project = in_project)
              + (select count(*) from turnlog.ai_sessions as s where s.project = in_project)
              + (select count(*) from turnlog.ai_session_folders as f where f.project = in_project));
end
$$;
