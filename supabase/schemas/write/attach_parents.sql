-- Completes the receipts of a batch's folders and sessions: moves the receipts of planned sessions into the receipts of
-- their folders (`planned`), and adds each explicit `folder` or `session` as stored where `return_parents` asks for it.
-- Returns {folders: [receipt ...], sessions: [receipt ...]}.
create or replace function turnlog.attach_parents(in_project text, rows jsonb, folder_receipts jsonb, session_receipts jsonb)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    sessions constant jsonb := coalesce(rows -> 'sessions', '[]');
    unplanned constant integer := coalesce((rows ->> 'unplanned')::integer, jsonb_array_length(sessions));
    return_parents constant boolean := coalesce(rows -> 'return_parents' = 'true', false);
begin
    if jsonb_typeof(session_receipts) = 'string' then
        session_receipts := to_jsonb(array_fill(jsonb_build_object('receipt', session_receipts),
                                                array[jsonb_array_length(sessions)]));
    end if;
    return jsonb_build_object(
        'folders', (
            select coalesce(jsonb_agg(
                       f.value
                       || case when folder_row.value ? 'sessions'
                               then jsonb_build_object('planned', coalesce(
                                   (select jsonb_agg((session_receipts -> (s.ordinality - 1)::integer)
                                               || jsonb_build_object('session_id', s.value -> 'id',
                                                                     'session_number', s.value -> 'session_number')
                                               order by s.ordinality)
                                      from jsonb_array_elements(sessions) with ordinality as s
                                     where s.ordinality > unplanned
                                       and (s.value ->> 'folder_position')::bigint = f.ordinality), '[]')) else '{}' end
                       || case when return_parents and folder_row.value -> 'implicit' is distinct from 'true'
                               then jsonb_build_object('folder', turnlog.folder_rows(
                                   in_project, array[(folder_row.value ->> 'id')::uuid]) -> 0)
                               else '{}' end
                       order by f.ordinality), '[]')
              from jsonb_array_elements(folder_receipts) with ordinality as f
             cross join lateral (select rows -> 'folders' -> (f.ordinality - 1)::integer as value) as folder_row),
        'sessions', (
            select coalesce(jsonb_agg(
                       r.value
                       || case when return_parents and s.value -> 'implicit' is distinct from 'true'
                               then jsonb_build_object('session', turnlog.session_rows(
                                   in_project, array[(s.value ->> 'id')::uuid]) -> 0)
                               else '{}' end
                       order by r.ordinality), '[]')
              from jsonb_array_elements(session_receipts) with ordinality as r
             cross join lateral (select sessions -> (r.ordinality - 1)::integer as value) as s
             where r.ordinality <= unplanned));
end
$$;
