-- Returns a batch's receipts without those of the rows that the service itself added after the batch's own.
create or replace function turnlog.drop_added(receipts jsonb, request jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
    return receipts || (
        select coalesce(jsonb_object_agg(k.kind, (
                   select coalesce(jsonb_agg(r.value order by r.ordinality), '[]')
                     from jsonb_array_elements(receipts -> k.kind) with ordinality as r
                    where r.ordinality <= jsonb_array_length(coalesce(request -> k.kind, '[]')))), '{}')
          from unnest('{sessions,interactions,feedback}'::text[]) as k (kind)
         where jsonb_typeof(receipts -> k.kind) = 'array');
end
$$;
