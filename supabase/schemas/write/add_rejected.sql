-- Inserts the receipts of rejected rows (kind -> position -> receipt) into the receipts of the other `rows`, each at
-- its position. Returns the receipts of all rows.
create or replace function turnlog.add_rejected(receipts jsonb, rejected jsonb, rows jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
    kind text;
    given jsonb;
    of_refused jsonb;
begin
    for kind, of_refused in select r.key, r.value from jsonb_each(rejected) as r loop
        given := coalesce(nullif(receipts -> kind, 'null'), '[]');
        if jsonb_typeof(given) = 'string' then
            given := to_jsonb(array_fill(jsonb_build_object('receipt', given), array[jsonb_array_length(rows -> kind)]));
        end if;
        receipts := receipts || jsonb_build_object(kind, (
            select jsonb_agg(coalesce(of_refused -> place.n::text, given -> (place.nth - 1)::integer) order by place.n)
              from (select n, count(*) filter (where not of_refused ? n::text) over (order by n) as nth
                      from generate_series(1, jsonb_array_length(given)
                                              + (select count(*) from jsonb_object_keys(of_refused))) as n) as place));
    end loop;
    return receipts;
end
$$;
