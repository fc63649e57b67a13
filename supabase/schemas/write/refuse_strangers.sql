-- The rows of a batch whose claim isn't their session's owner: kind -> position -> receipt.
create or replace function turnlog.refuse_strangers(rows jsonb, owners jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_object_agg(refused.kind, refused.receipts), '{}')
          from (select k.kind, jsonb_object_agg(
                           e.ordinality, '{"receipt": "conflict", "reason": "The session is somebody else''s"}'::jsonb) as receipts
                  from unnest(array['sessions', 'participants', 'interactions', 'feedback']) as k (kind)
                 cross join lateral jsonb_array_elements(coalesce(rows -> k.kind, '[]')) with ordinality as e
                 where e.value ->> 'claim' <> owners ->> coalesce(e.value ->> 'session_id', e.value ->> 'id')
                 group by k.kind) as refused);
end
$$;
