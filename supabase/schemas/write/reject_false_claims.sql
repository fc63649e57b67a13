-- Rejects the rows of a batch whose claim is none of the owners of their session. `owners`: see turnlog.session_owners.
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
                cross join lateral (select owners -> coalesce(e.value ->> 'session_id', e.value ->> 'id') as ids) as o
                 where jsonb_typeof(o.ids) = 'array' and not o.ids ? (e.value ->> 'claim')
                 group by k.kind) as rejected);
end
$$;
