-- Lists sessions in the order of their ids, which never change, so paging returns each session that existed at its
-- start exactly once. A page has those of the next `limit` sessions (or of a user's) that match the filters, so it may
-- be short or empty.
-- Takes {project, limit, after?: session id} and the filters of turnlog.sessions. Returns {sessions, after}; `after` is
-- null at the end.
create or replace function turnlog.sessions_by_id(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
set jit = off
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    of_user constant text := request ->> 'user_id';
    filters constant record := turnlog.session_filters(request);
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    ids uuid[];
    page uuid[];
begin
    -- one more than the page, to know whether another page follows
    if of_user is null then
        ids := array(
            select s.id
              from turnlog.ai_sessions as s
             where s.project = in_project and s.erased_at is null and s.id > after_id
             order by s.id
             limit page_size + 1);
    else
        -- by the user's index, then sorted: a user has few of a project's sessions
        ids := array(
            select own.id
              from (select s.id
                      from turnlog.ai_sessions as s
                     where s.project = in_project and s.user_id = of_user and s.erased_at is null
                    offset 0) as own
             where own.id > after_id
             order by own.id
             limit page_size + 1);
    end if;
    -- `offset 0`: look these up by their primary key, then filter them
    execute 'select array_agg(s.id order by s.id) from (select s.* from turnlog.ai_sessions as s'
            ' where s.project = $1 ->> ''project'' and s.id = any ($2) offset 0) as s where ' || filters.walked || filters.further
       into page using request, ids[:page_size];
    return jsonb_build_object(
        'sessions', turnlog.session_rows(in_project, coalesce(page, '{}')),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;
