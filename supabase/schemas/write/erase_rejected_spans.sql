-- Erases the spans of a batch that were rejected because their session or user was erased: they are stored before that is
-- known. `spans` and `receipts` are parallel.
create or replace function turnlog.erase_rejected_spans(in_project text, spans jsonb, receipts jsonb) returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    refs constant text[] := array(
        select s.value ->> 'ref'
          from jsonb_array_elements(spans) with ordinality as s
         cross join lateral (select receipts -> (s.ordinality - 1)::integer as receipt offset 0) as r
         where r.receipt ->> 'reason' = 'erased');
begin
    if refs <> '{}' then
        perform turnlog.blank_spans(in_project, refs);
    end if;
end
$$;
