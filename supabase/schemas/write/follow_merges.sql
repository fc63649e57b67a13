-- Returns a batch's rows with users in place of the guests that were merged into them: users of folders and sessions,
-- participants, authors and claims. The caller has called turnlog.lock_merges.
create or replace function turnlog.follow_merges(in_project text, rows jsonb) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
    named text[];
    merges jsonb;   -- guest -> user
begin
    if not exists (select from turnlog.ai_user_merges as m where m.project = in_project) then
        return rows;
    end if;
    named := array(
        select distinct case when n.path = '$.*[*].claim' then substr(n.value #>> '{}', 6) else n.value #>> '{}' end
          from (select p.path, jsonb_path_query(rows, p.path::jsonpath) as value
                  from unnest('{$.folders[*].user_id,$.sessions[*].user_id,$.participants[*].participant,'
                              '$.interactions[*].participant,$.feedback[*].author,$.*[*].claim}'::text[]) as p (path)) as n
         where n.path <> '$.*[*].claim' or n.value #>> '{}' like 'user:%');
    select jsonb_object_agg(m.guest, m.into_user)
      into merges
      from turnlog.ai_user_merges as m
     where m.project = in_project and m.guest = any (named);
    if merges is null then
        return rows;
    end if;
    return rows || (
        select jsonb_object_agg(k.kind, (
                   select coalesce(jsonb_agg(
                              e.value
                              || case when merges ? (e.value ->> k.field)
                                      then jsonb_build_object(k.field, merges -> (e.value ->> k.field)) else '{}' end
                              || case when e.value ->> 'claim' like 'user:%' and merges ? substr(e.value ->> 'claim', 6)
                                      then jsonb_build_object('claim', 'user:' || (merges ->> substr(e.value ->> 'claim', 6)))
                                      else '{}' end
                              order by e.ordinality), '[]')
                     from jsonb_array_elements(rows -> k.kind) with ordinality as e))
          from (values ('folders', 'user_id'), ('sessions', 'user_id'), ('participants', 'participant'),
                       ('interactions', 'participant'), ('feedback', 'author')) as k (kind, field)
         where rows ? k.kind);
end
$$;
