-- A batch without the rows that were refused: kind -> position -> receipt. What turnlog.number_sessions says by
-- positions of the sessions follows: a folder's plan states them behind all that can be refused.
create or replace function turnlog.without_refused(rows jsonb, refused jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
    return (
        select rows || coalesce(jsonb_object_agg(r.key, (
                   select coalesce(jsonb_agg(e.value order by e.ordinality), '[]')
                     from jsonb_array_elements(rows -> r.key) with ordinality as e
                    where not r.value ? e.ordinality::text)), '{}')
          from jsonb_each(refused) as r)
        || case when refused ? 'sessions' and rows ? 'unplaced' then jsonb_build_object(
               'stated', (rows ->> 'stated')::integer - (select count(*) from jsonb_object_keys(refused -> 'sessions')),
               'unplaced', (
                   select coalesce(jsonb_agg(u.position - (select count(*) from jsonb_object_keys(refused -> 'sessions') as k
                                                            where k::bigint < u.position) order by u.position), '[]')
                     from (select p::bigint as position from jsonb_array_elements_text(rows -> 'unplaced') as p) as u
                    where not refused -> 'sessions' ? u.position::text)) else '{}' end;
end
$$;
