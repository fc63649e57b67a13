-- Deletes a selftest's project without tombstones: up to `limit` interactions per call, then up to `limit` sessions.
-- Raises 22023 for any other project: what people log is only erased by turnlog.erase.
-- Takes {project, limit}. Returns {sessions, interactions, left: remaining rows}.
create or replace function turnlog.purge_project(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- a self-test's rows were never analysed: a plan by statistics would read everyone's
as $$
declare
    in_project constant text := coalesce(request ->> 'project', '');
    most constant integer := request ->> 'limit';
    interaction_count bigint;
    session_count bigint := 0;
begin
    if in_project !~ '^selftest-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        raise exception using errcode = '22023', column = 'project',
            message = format('only a selftest''s project can be purged, not %L', in_project);
    end if;

    -- by row address: without statistics a join was planned as a comparison of each row with each
    delete from turnlog.ai_interactions as i
     where i.project = in_project collate "C" and i.ctid = any (array(
           select d.ctid from turnlog.ai_interactions as d where d.project = in_project limit most));
    get diagnostics interaction_count = row_count;

    if interaction_count < most then
        delete from turnlog.ai_search_queue as q where q.project = in_project;
        delete from turnlog.ai_search as s where s.project = in_project;
        delete from turnlog.ai_feedback as f where f.project = in_project;
        delete from turnlog.ai_reads as r where r.project = in_project;
        delete from turnlog.ai_messages as m where m.project = in_project;
        delete from turnlog.ai_spans as s where s.project = in_project;
        delete from turnlog.ai_traces as t where t.project = in_project;
        delete from turnlog.ai_revisions as r where r.project = in_project;
        delete from turnlog.ai_user_merges as m where m.project = in_project;
        delete from turnlog.ai_session_participants as p where p.project = in_project;
        delete from turnlog.ai_sessions as s
         where s.project = in_project collate "C" and s.ctid = any (array(
               select d.ctid from turnlog.ai_sessions as d where d.project = in_project limit most));
        get diagnostics session_count = row_count;
        delete from turnlog.ai_session_folders as f
         where f.project = in_project and not exists (select from turnlog.ai_sessions as s where s.project = in_project);
        delete from turnlog.ai_erased_users as e where e.project = in_project;
        delete from turnlog.ai_projects as p where p.project = in_project;
    end if;

    return jsonb_build_object(
        'interactions', interaction_count, 'sessions', session_count,
        'left', (select count(*) from turnlog.ai_interactions as i where i.project = in_project)
              + (select count(*) from turnlog.ai_sessions as s where s.project = in_project)
              + (select count(*) from turnlog.ai_session_folders as f where f.project = in_project));
end
$$;
