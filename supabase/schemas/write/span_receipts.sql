-- Returns the receipts of a batch's spans in order: of a call that of its interaction. `rows` as turnlog.gather_calls returns
-- them, `receipts` as turnlog.write has them. A span of an erased session is `rejected`.
create or replace function turnlog.span_receipts(rows jsonb, receipts jsonb, rejected jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
    -- those of calls come after the batch's own
    plain constant integer := jsonb_array_length(jsonb_path_query_array(rows, '$.spans[*] ? (@.plain == true)'));
    first_plain constant integer := (rows ->> 'before_calls')::integer - plain;
    all_created constant boolean := jsonb_typeof(receipts -> 'interactions') = 'string';
begin
    return (
        select coalesce(jsonb_agg(case
                   when rejected ->> (s.value ->> 'session_id') = 'erased'
                       then '{"receipt": "rejected", "reason": "erased"}'::jsonb
                   when s.value -> 'plain' = 'true' then case
                       when all_created then jsonb_build_object('receipt', receipts -> 'interactions')
                       else receipts -> 'interactions' -> (first_plain + s.nth::integer - 1) end
                   when rows -> 'span_places' ? s.n::text then case
                       when all_created then jsonb_build_object('receipt', receipts -> 'interactions')
                       else receipts -> 'interactions' -> (rows -> 'span_places' ->> s.n::text)::integer end
                   when s.value ? 'call' and rows -> 'span_receipts' ? (s.value ->> 'first')
                       then rows -> 'span_receipts' -> (s.value ->> 'first')
                   when not (s.value ->> 'known')::boolean then '{"receipt": "created"}'
                   when (s.value ->> 'changed')::boolean then '{"receipt": "filled"}'
                   else '{"receipt": "duplicate"}' end order by s.n), '[]')
          from (select s.value, s.n, count(*) filter (where s.value -> 'plain' = 'true') over (order by s.n) as nth
                  from jsonb_array_elements(rows -> 'spans') with ordinality as s (value, n)) as s);
end
$$;
