-- Returns a folder and a page of its sessions by number, those without a number last.
-- Takes {project, folder_id, limit, after?: {number, session_id}}. Returns {folder: or null, sessions, after}.
create or replace function turnlog.folder(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- the rows of one folder, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_folder constant uuid := request ->> 'folder_id';
    page_size constant integer := (request ->> 'limit')::integer;
    after_number constant integer := request #>> '{after,number}';
    after_id constant uuid := request #>> '{after,session_id}';
    ids uuid[];
    numbers integer[];
begin
    -- one more than the page, to know whether another page follows
    select array_agg(page.id), array_agg(page.number)
      into ids, numbers
      from (select s.id, coalesce(s.session_number, 2147483647) as number
              from turnlog.ai_sessions as s
             where s.project = in_project and s.folder_id = of_folder and s.erased_at is null
               and (after_id is null or (coalesce(s.session_number, 2147483647), s.id) > (after_number, after_id))
             order by number, s.id
             limit page_size + 1) as page;
    return jsonb_build_object(
        'folder', turnlog.folder_rows(in_project, array[of_folder]) -> 0,
        'sessions', turnlog.session_rows(in_project, coalesce(ids[:page_size], '{}')),
        'after', case when cardinality(ids) > page_size
            then jsonb_build_object('number', numbers[page_size], 'session_id', ids[page_size]) end);
end
$$;
