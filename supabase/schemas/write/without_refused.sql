-- A batch without the rows that were refused: kind -> position -> receipt.
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
          from jsonb_each(refused) as r);
end
$$;
