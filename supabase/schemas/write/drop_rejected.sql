-- Returns a batch without the rejected rows (kind -> position -> receipt), with the positions in `numbers_taken` and
-- the count `unplanned` adjusted. Planned sessions come after all rows that can be rejected.
create or replace function turnlog.drop_rejected(rows jsonb, rejected jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
    return (
        select rows || coalesce(jsonb_object_agg(r.key, (
                   select coalesce(jsonb_agg(e.value order by e.ordinality), '[]')
                     from jsonb_array_elements(rows -> r.key) with ordinality as e
                    where not r.value ? e.ordinality::text)), '{}')
          from jsonb_each(rejected) as r)
        || case when rejected ? 'sessions' and rows ? 'numbers_taken' then jsonb_build_object(
               'unplanned', (rows ->> 'unplanned')::integer - (select count(*) from jsonb_object_keys(rejected -> 'sessions')),
               'numbers_taken', (
                   select coalesce(jsonb_agg(u.position - (select count(*) from jsonb_object_keys(rejected -> 'sessions') as k
                                                            where k::bigint < u.position) order by u.position), '[]')
                     from (select p::bigint as position from jsonb_array_elements_text(rows -> 'numbers_taken') as p) as u
                    where not rejected -> 'sessions' ? u.position::text)) else '{}' end;
end
$$;
