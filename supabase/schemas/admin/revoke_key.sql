-- Revokes a key; a further call changes nothing. Takes {id}. Returns the key, or null.
create or replace function turnlog.revoke_key(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    now constant timestamptz := statement_timestamp();
    revoked turnlog.ai_keys;
begin
    update turnlog.ai_keys as k
       set revoked_at = coalesce(k.revoked_at, now)
     where k.id = (request ->> 'id')::uuid
    returning k.* into revoked;
    return case when revoked.id is not null then turnlog.key_row(revoked) end;
end
$$;
