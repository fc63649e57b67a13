-- Creates a key. With `first` only if there is no key at all.
-- Takes {key: {project, id, kind, digest: hex, hint, name?, scopes, origins, token_secret, expires_at?}, first?}.
-- Returns the key, or null.
create or replace function turnlog.create_key(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    created turnlog.ai_keys;
begin
    if coalesce((request ->> 'first')::boolean, false) then
        lock table turnlog.ai_keys in share row exclusive mode; -- services that start together create one key
        if exists (select from turnlog.ai_keys) then
            return null;
        end if;
    end if;
    insert into turnlog.ai_keys
           (project, id, family, kind, digest, hint, name, scopes, origins, token_secret, created_at, expires_at)
    select k ->> 'project', (k ->> 'id')::uuid, (k ->> 'id')::uuid, k ->> 'kind', decode(k ->> 'digest', 'hex'),
           k ->> 'hint', k ->> 'name', array(select jsonb_array_elements_text(k -> 'scopes')),
           array(select jsonb_array_elements_text(k -> 'origins')), k ->> 'token_secret', statement_timestamp(),
           (k ->> 'expires_at')::timestamptz
      from (select request -> 'key' as k) as given
    returning * into created;
    return turnlog.key_row(created);
end
$$;
