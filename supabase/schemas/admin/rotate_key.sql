-- Creates a key with the rights of another one, which expires after `overlap_s` seconds.
-- Takes {id, overlap_s, key: {id, digest: hex, hint}}. Returns {key, replaced}, or null if there is no such active key.
create or replace function turnlog.rotate_key(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    ends_at constant timestamptz := statement_timestamp() + make_interval(secs => (request ->> 'overlap_s')::float8);
    replaced turnlog.ai_keys;
    created turnlog.ai_keys;
begin
    select k.* into replaced from turnlog.ai_keys as k where k.id = (request ->> 'id')::uuid for update;
    if replaced.id is null or replaced.revoked_at is not null or replaced.expires_at <= statement_timestamp() then
        return null;
    end if;
    insert into turnlog.ai_keys
           (project, id, family, kind, digest, hint, name, scopes, origins, token_secret, created_at, expires_at)
    values (replaced.project, (request #>> '{key,id}')::uuid, replaced.family, replaced.kind,
            decode(request #>> '{key,digest}', 'hex'), request #>> '{key,hint}', replaced.name, replaced.scopes,
            replaced.origins, replaced.token_secret, statement_timestamp(), replaced.expires_at)
    returning * into created;
    update turnlog.ai_keys as k
       set expires_at = least(k.expires_at, ends_at)
     where k.project = replaced.project and k.id = replaced.id
    returning k.* into replaced;
    return jsonb_build_object('key', turnlog.key_row(created), 'replaced', turnlog.key_row(replaced));
end
$$;
