-- Rejects the rows of a batch whose claim isn't the owner of their session. `owners`: see turnlog.session_owners.
-- Returns kind -> position -> receipt.
create or replace function turnlog.reject_false_claims(rows jsonb, owners jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_object_agg(rejected.kind, rejected.receipts), '{}')
          from (select k.kind, jsonb_object_agg(
                           e.ordinality, '{"receipt": "conflict", "reason": "The session is somebody else''s"}'::jsonb) as receipts
                  from unnest(array['sessions', 'participants', 'interactions', 'feedback']) as k (kind)
                 cross join lateral jsonb_array_elements(coalesce(rows -> k.kind, '[]')) with ordinality as e
                 where e.value ->> 'claim' <> owners ->> coalesce(e.value ->> 'session_id', e.value ->> 'id')
                 group by k.kind) as rejected);
end
$$;
