-- Returns the receipts of a batch's spans in order: of a call that of its interaction. `rows` as turnlog.gather_calls returns
-- them, `receipts` as turnlog.write has them. A span of an erased session is `rejected`.
create or replace function turnlog.span_receipts(rows jsonb, receipts jsonb, rejected jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_agg(case
                   when rejected ->> (s.value ->> 'session_id') = 'erased'
                       then '{"receipt": "rejected", "reason": "erased"}'::jsonb
                   when rows -> 'span_places' ? s.ordinality::text then case
                       when jsonb_typeof(receipts -> 'interactions') = 'string'
                           then jsonb_build_object('receipt', receipts -> 'interactions')
                       else receipts -> 'interactions' -> (rows -> 'span_places' ->> s.ordinality::text)::integer end
                   when s.value ? 'call' and rows -> 'span_receipts' ? (s.value ->> 'first')
                       then rows -> 'span_receipts' -> (s.value ->> 'first')
                   when not (s.value ->> 'known')::boolean then '{"receipt": "created"}'
                   when (s.value ->> 'changed')::boolean then '{"receipt": "filled"}'
                   else '{"receipt": "duplicate"}' end order by s.ordinality), '[]')
          from jsonb_array_elements(rows -> 'spans') with ordinality as s);
end
$$;
