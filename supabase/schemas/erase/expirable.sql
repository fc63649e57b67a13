-- Finds idle sessions: of the next `limit` sessions by id, those that turnlog.idle_sessions returns. `except`: ids of
-- sessions and folders with spooled records.
-- Takes {project, before, limit, after?: session id, except?}. Returns {session_ids, interactions, after}.
create or replace function turnlog.expirable(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    in_use constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    ids uuid[];
    idle uuid[];
begin
    ids := array(
        select s.id
          from turnlog.ai_sessions as s
         where s.project = in_project and s.erased_at is null and s.id > after_id
         order by s.id
         limit page_size + 1);
    idle := turnlog.idle_sessions(in_project, ids[:page_size], (request ->> 'before')::timestamptz, in_use);
    return jsonb_build_object(
        'session_ids', idle,
        'interactions', (select count(*) from turnlog.ai_interactions as i
                          where i.project = in_project and i.session_id = any (idle)),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;
