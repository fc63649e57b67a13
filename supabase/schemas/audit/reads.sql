-- Lists who read conversations, newest first.
-- Takes {project, limit, session_id?, user_id?, reader?, from?, to?, after?: {at, id}}. Returns {reads, after}.
-- `user_id`: calls that asked for this user, or showed one of the newest 10,000 sessions of this user. `reader`: the id
-- of a key, or a user. `after` is null at the end.
create or replace function turnlog.reads(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan' -- so that the filters given, and only those, choose the index
set enable_seqscan = off
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := request ->> 'limit';
    of_session constant uuid := request ->> 'session_id';
    of_user constant text := request ->> 'user_id';
    by_reader constant text := request ->> 'reader';
    by_key constant uuid := case when by_reader ~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' then by_reader end;
    -- of whose conversations: few of all reads, so these are found first, and sorted then
    of_some constant boolean := of_session is not null or of_user is not null;
    not_before constant timestamptz := request ->> 'from';
    before constant timestamptz := request ->> 'to';
    after_at constant timestamptz := request #>> '{after,at}';
    after_id constant uuid := request #>> '{after,id}';
    of_sessions uuid[];
begin
    if of_user is not null then
        of_sessions := array(
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.user_id = of_user and s.erased_at is null
             order by coalesce(s.started_at, s.earliest_turn_at, s.created_at) desc, s.id desc
             limit 10000);
    end if;
    return (
        with found as (
            (select r.* from turnlog.ai_reads as r
              where r.project = in_project and not of_some and by_reader is null
                and (not_before is null or r.at >= not_before) and (before is null or r.at < before)
                and (after_at is null or (r.at, r.id) < (after_at, after_id))
              order by r.at desc, r.id desc limit page_size + 1)
             union all
            (select r.* from turnlog.ai_reads as r
              where r.project = in_project and not of_some and r.reader = by_reader
                and (not_before is null or r.at >= not_before) and (before is null or r.at < before)
                and (after_at is null or (r.at, r.id) < (after_at, after_id))
              order by r.at desc, r.id desc limit page_size + 1)
             union all
            (select r.* from turnlog.ai_reads as r
              where r.project = in_project and not of_some and r.key_id = by_key and r.reader is distinct from by_reader
                and (not_before is null or r.at >= not_before) and (before is null or r.at < before)
                and (after_at is null or (r.at, r.id) < (after_at, after_id))
              order by r.at desc, r.id desc limit page_size + 1)
             union all
            select r.*
              from (select r.* from turnlog.ai_reads as r
                     where r.project = in_project and of_some
                       and (of_session is null or r.session_ids @> array[of_session])
                       and (of_user is null or r.user_id = of_user or r.session_ids && of_sessions)
                    offset 0) as r
             where (by_reader is null or r.reader = by_reader or r.key_id = by_key)
               and (not_before is null or r.at >= not_before) and (before is null or r.at < before)
               and (after_at is null or (r.at, r.id) < (after_at, after_id))
        ), page as materialized (
            select f.* from found as f order by f.at desc, f.id desc limit page_size + 1
        ), shown as (
            select p.* from page as p order by p.at desc, p.id desc limit page_size
        )
        select jsonb_build_object(
            'reads', (
                select coalesce(jsonb_agg(jsonb_build_object(
                           'id', s.id, 'at', s.at, 'kind', s.kind, 'key_id', s.key_id, 'reader', s.reader,
                           'call', s.call, 'user_id', s.user_id, 'session_ids', to_jsonb(s.session_ids))
                           order by s.at desc, s.id desc), '[]')
                  from shown as s),
            'after', (
                select jsonb_build_object('at', s.at, 'id', s.id)
                  from shown as s
                 where (select count(*) from page) > page_size
                 order by s.at, s.id limit 1)));
end
$$;
