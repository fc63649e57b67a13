-- Finds idle sessions with texts: of the next `limit` sessions by id, those that turnlog.idle_sessions and
-- turnlog.sessions_with_texts return, without those idle since `erased_before`, which are erased as a whole. `except` as
-- in turnlog.expirable. Takes {project, before, limit, after?: session id, erased_before?, except?}. Returns
-- {session_ids, interactions: how many have texts, after}.
create or replace function turnlog.expirable_texts(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    erased_before constant timestamptz := request ->> 'erased_before';
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
    -- most sessions are done already, so that comes first
    idle := turnlog.idle_sessions(in_project, turnlog.sessions_with_texts(in_project, ids[:page_size]),
                                  (request ->> 'before')::timestamptz, in_use);
    if erased_before is not null then
        idle := array(select i.id from unnest(idle) as i (id)
                      except select g.id from unnest(turnlog.idle_sessions(in_project, idle, erased_before, in_use)) as g (id)
                      order by id);
    end if;
    return jsonb_build_object(
        'session_ids', idle,
        'interactions', (select count(*) from turnlog.ai_interactions as i
                          where i.project = in_project and i.session_id = any (idle)
                            and i.text_expired_at is null and i.erased_at is null),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;
