-- Clears name, key, user and metadata of folders that are older than `before` and have only erased sessions: of the
-- next `limit` folders by id. A dry run also counts those whose sessions would be erased. `except` as in
-- turnlog.expirable. Takes {project, before, limit, after?: folder id, dry_run?, except?}. Returns {folders: how many,
-- after}.
create or replace function turnlog.expire_folders(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some folders and their sessions, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    before constant timestamptz := request ->> 'before';
    dry_run constant boolean := coalesce((request ->> 'dry_run')::boolean, false);
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    in_use constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    ids uuid[];
    folder record;
    found_ids uuid[] := '{}';
begin
    ids := array(
        select f.id from turnlog.ai_session_folders as f
         where f.project = in_project and f.id > after_id
         order by f.id
         limit page_size + 1);
    -- writers that add a session hold the lock of its folder
    if not dry_run then
        perform from (
            select f.id from turnlog.ai_session_folders as f
             where f.project = in_project and f.id = any (ids[:page_size])
             order by f.id
               for no key update) as locked;
    end if;
    for folder in
        select f.id, array(select s.id from turnlog.ai_sessions as s
                            where s.project = in_project and s.folder_id = f.id and s.erased_at is null) as live
          from turnlog.ai_session_folders as f
         where f.project = in_project and f.id = any (ids[:page_size])
           and f.created_at < before and num_nonnulls(f.key, f.name, f.user_id, f.metadata) > 0
           and not exists (select from unnest(in_use) as w (id) where w.id = f.id)
    loop
        if folder.live = '{}' or dry_run
           and cardinality(folder.live) = cardinality(turnlog.idle_sessions(in_project, folder.live, before, in_use)) then
            found_ids := found_ids || folder.id;
        end if;
    end loop;
    if not dry_run then
        update turnlog.ai_session_folders as f
           set key = null, name = null, user_id = null, metadata = null, erased_at = statement_timestamp()
         where f.project = in_project and f.id = any (found_ids);
    end if;
    return jsonb_build_object('folders', cardinality(found_ids),
                              'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;
