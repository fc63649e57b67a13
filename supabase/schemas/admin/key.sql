-- Looks up a key by its digest and records its last use, to the minute.
-- Takes {digest: hex}. Returns the key with its token_secret, even if it is revoked or expired, or null.
create or replace function turnlog.key(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    wanted constant bytea := decode(request ->> 'digest', 'hex');
    found_key turnlog.ai_keys;
begin
    select k.* into found_key from turnlog.ai_keys as k where k.digest = wanted;
    if found_key.id is null then
        return null;
    end if;
    if found_key.revoked_at is null and not current_setting('transaction_read_only')::boolean
       and coalesce(found_key.last_used_at < statement_timestamp() - interval '1 minute', true) then
        -- a concurrent call already records it: nobody waits for that
        update turnlog.ai_keys as k
           set last_used_at = statement_timestamp()
         where (k.project, k.id) in (select l.project, l.id from turnlog.ai_keys as l
                                      where l.project = found_key.project and l.id = found_key.id
                                        for no key update skip locked);
    end if;
    return turnlog.key_row(found_key) || jsonb_build_object('token_secret', found_key.token_secret);
end
$$;
