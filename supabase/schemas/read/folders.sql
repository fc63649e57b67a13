-- Lists folders in the order of their ids. Takes {project, limit, user_id?, after?: folder id}. Returns {folders,
-- after}.
create or replace function turnlog.folders(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set plan_cache_mode = 'force_custom_plan' -- so that the filters given, and only those, choose the index
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    of_user constant text := request ->> 'user_id';
    after_id constant uuid := request ->> 'after';
    ids uuid[];
begin
    ids := array(
        select f.id
          from turnlog.ai_session_folders as f
         where f.project = in_project and (of_user is null or f.user_id = of_user)
           and (after_id is null or f.id > after_id)
         order by f.id
         limit page_size + 1);
    return jsonb_build_object(
        'folders', turnlog.folder_rows(in_project, ids[:page_size]),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;
