-- The receipts of a batch's folders and sessions: those of a plan's sessions move into their folder's, and, if
-- `return_parents` asks for it, each of what was stated carries the folder or session as it is now.
create or replace function turnlog.add_parents(in_project text, rows jsonb, folder_receipts jsonb, session_receipts jsonb)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    sessions constant jsonb := coalesce(rows -> 'sessions', '[]');
    stated constant integer := coalesce((rows ->> 'stated')::integer, jsonb_array_length(sessions)); -- others are of plans
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
                       || case when stated_folder.value ? 'sessions'
                               then jsonb_build_object('planned', coalesce(
                                   (select jsonb_agg((session_receipts -> (s.ordinality - 1)::integer)
                                               || jsonb_build_object('session_id', s.value -> 'id',
                                                                     'session_number', s.value -> 'session_number')
                                               order by s.ordinality)
                                      from jsonb_array_elements(sessions) with ordinality as s
                                     where s.ordinality > stated
                                       and (s.value ->> 'of_folder')::bigint = f.ordinality), '[]')) else '{}' end
                       || case when return_parents and stated_folder.value -> 'implicit' is distinct from 'true'
                               then jsonb_build_object('folder', turnlog.folder_rows(
                                   in_project, array[(stated_folder.value ->> 'id')::uuid]) -> 0)
                               else '{}' end
                       order by f.ordinality), '[]')
              from jsonb_array_elements(folder_receipts) with ordinality as f
             cross join lateral (select rows -> 'folders' -> (f.ordinality - 1)::integer as value) as stated_folder),
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
             where r.ordinality <= stated));
end
$$;
